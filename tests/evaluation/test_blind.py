"""Blind tests hide which rows are real, save what judges say, and score it exactly."""

import base64
import io
import itertools
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
import torch
from browser import look, needs_browser
from PIL import Image
from scipy.stats import binomtest

import pyro_dgm as dgm
from pyro_dgm.cli.main import main
from pyro_dgm.evaluation.blind import blind_test, score_answers
from pyro_dgm.evaluation.blind.score import _by_coins

REAL, MADE = torch.full((60, 4), 0.2), torch.full((60, 4), 0.8)


def pictures(page):
    found = re.findall(r'<img src="data:image/png;base64,([^"]*)"', page)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))) for one in found]


def answers(key, right):
    """A judge's answers, of which the first ones are right."""
    said = {}
    for number, real in enumerate(key["real"]):
        said[str(number)] = "real" if real == (number < right) else "generated"
    return {"kit": key["kit"], "answers": said}


def test_every_picture_is_what_the_key_says():
    test = blind_test(MADE, REAL, (2, 2), n=50)
    found = [bool(picture.mean() < 128) for picture in pictures(test.page)]
    assert found == test.key["real"]
    assert re.findall(r'data-number="(\d+)"', test.page) == [str(number) for number in range(50)]
    assert 10 < sum(found) < 40  # fair coins: 25 with a deviation of 3.5
    assert blind_test(MADE, REAL, (2, 2), n=50, seed=1).key["real"] != test.key["real"]
    again = blind_test(MADE, REAL, (2, 2), n=50)
    assert again == test


def test_the_page_does_not_tell_the_answers():
    """Kits of equal pictures have one page, whatever the coins were."""
    pages = {blind_test(REAL, REAL, (2, 2), n=20, seed=seed).page for seed in range(5)}
    assert len(pages) == 1
    assert re.search(r"(src|href)=\"?http|url\(|<link", pages.pop()) is None


def test_rows_are_taken_once():
    real = (torch.arange(30) / 255).unsqueeze(1).expand(30, 4)
    seen = [int(picture[0, 0]) for picture in pictures(blind_test(torch.ones(30, 4), real, (2, 2), n=30).page)]
    of_data = [value for value in seen if value < 255]
    assert len(set(of_data)) == len(of_data) > 5


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node, to run the page's program")
def test_the_page_saves_what_is_said(tmp_path):
    """The program of the page under a document of a few lines: judge two pictures, change one's mind, save."""
    test = blind_test(MADE, REAL, (2, 2), n=3)
    script = re.search(r"<script>(.*)</script>", test.page, re.S)[1]
    around = """
    const made = (extra) => ({ handlers: {}, addEventListener(name, f) { this.handlers[name] = f; }, ...extra });
    const items = [0, 1, 2].map((n) => made({ dataset: { number: String(n) } }));
    const parts = { kit: made({ textContent: "KIT" }), judge: made({ value: "A <b>" }) };
    for (const name of ["done", "save", "copy"]) parts[name] = made({});
    const link = made({ click() { this.clicked = true; } });
    let saved = null;
    globalThis.Blob = class { constructor(texts) { saved = texts.join(""); } };
    URL.createObjectURL = () => "blob:x";
    globalThis.document = {
      querySelectorAll: (what) => (what === "fieldset" ? items : []),
      getElementById: (id) => parts[id], createElement: () => link,
    };
    { SCRIPT }
    const say = (n, value) => items[n].handlers.change({ target: { value } });
    say(0, "real"); say(2, "generated"); say(0, "generated");
    parts.save.handlers.click();
    console.log(JSON.stringify({ saved: JSON.parse(saved), copy: parts.copy.value === saved, done: parts.done.textContent,
      name: link.download, clicked: link.clicked }));
    """
    program = tmp_path / "page.js"
    program.write_text(around.replace("KIT", test.key["kit"]).replace("SCRIPT", script))
    found = json.loads(subprocess.run(["node", program], capture_output=True, text=True, check=True).stdout)
    assert found["saved"]["answers"] == {"0": "generated", "2": "generated"}
    assert (found["saved"]["kit"], found["saved"]["judge"]) == (test.key["kit"], "A <b>")
    assert (found["done"], found["copy"], found["clicked"]) == ("2 of 3 judged", True, True)
    assert found["name"] == f"answers-{test.key['kit']}.json"
    assert score_answers(test.key, found["saved"]).answers == 2


@pytest.mark.parametrize(("right", "n"), [(60, 100), (50, 100), (12, 40), (0, 7), (7, 7), (1, 1)])
def test_the_score_of_a_judge_is_that_of_the_binomial_test(right, n):
    key = {"kit": "a", "real": (torch.rand(n) < 0.5).tolist()}
    score = score_answers(key, answers(key, right))
    expected = binomtest(right, n)
    ends = expected.proportion_ci(0.95, "exact")
    assert (score.right, score.answers) == (right, n)
    assert score.p_value == pytest.approx(expected.pvalue)
    assert (score.lower, score.upper) == pytest.approx((ends.low, ends.high))
    if (right, n) == (60, 100):
        assert score.p_value == pytest.approx(2 * 0.0284439668, abs=1e-9)


def test_answers_that_are_missing_are_left_out():
    key = {"kit": "a", "real": [True, True, False, False]}
    score = score_answers(key, {"kit": "a", "answers": {"0": "real", "3": "real"}})
    assert (score.accuracy, score.real_taken_for_real, score.generated_taken_for_real) == (0.5, 1.0, 1.0)
    score = score_answers(key, {"kit": "a", "answers": {"1": "generated"}})
    assert (score.accuracy, score.generated_taken_for_real) == (0.0, None)
    assert "taken for real: 0 % of real ones" in str(score)


def test_several_judges_of_one_kit_are_no_more_pictures():
    """Two judges who say the same are one: the p-value stays, and so does the interval."""
    key = {"kit": "a", "real": (torch.rand(30) < 0.5).tolist()}
    one, two = (score_answers(key, *[answers(key, 20)] * judges) for judges in (1, 2))
    assert two.answers == 60
    assert (two.p_value, two.lower, two.upper) == pytest.approx((one.p_value, one.lower, one.upper))


def test_the_law_of_coins_is_that_of_all_signs():
    weights = np.array([2, 0, -1, 1, 3])
    sums = [sum(s * w for s, w in zip(signs, weights, strict=True)) for signs in itertools.product((-1, 1), repeat=5)]
    for observed in (0, 1, 3, 5, 7):
        expected = np.mean(np.abs(sums) >= observed)
        assert _by_coins(weights, observed) == pytest.approx(expected)


def test_judges_who_cannot_tell_have_uniform_p_values_at_most():
    """Whatever they say: here 'real' to all."""
    generator, small = np.random.default_rng(0), 0
    for _ in range(300):
        key = {"kit": "a", "real": (generator.random(40) < 0.5).tolist()}
        score = score_answers(key, {"kit": "a", "answers": {str(i): "real" for i in range(40)}})
        small += score.p_value <= 0.1
    assert small / 300 <= 0.1 + 4 * (0.1 * 0.9 / 300) ** 0.5


KEY = {"kit": "a", "real": [True, False]}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: blind_test(MADE[:3], REAL, (2, 2), n=20), "samples has 3 rows; expected at least"),
        (lambda: blind_test(MADE, REAL[:2], (2, 2), n=20), "data has 2 rows; expected at least"),
        (lambda: blind_test(MADE * 2, REAL, (2, 2), n=20), "rescale or clip"),
        (lambda: blind_test(MADE, REAL, (3, 2), n=20), "shape"),
        (lambda: blind_test(MADE, REAL[:, :2], (2, 2)), "different widths"),
        (lambda: blind_test(MADE, REAL, (2, 2), n=0), "n got 0"),
        (lambda: score_answers({"real": [True]}, {}), "expected the key of a kit"),
        (lambda: score_answers({"kit": "a", "real": [1, 0]}, {}), "expected the key of a kit"),
        (lambda: score_answers(KEY), "no answers"),
        (lambda: score_answers(KEY, {"kit": "a", "answers": {}}), "no answers"),
        (lambda: score_answers(KEY, [1]), "expected what the page saves"),
        (lambda: score_answers(KEY, {"kit": "b", "answers": {"0": "real"}}), "are to the kit 'b'"),
        (lambda: score_answers(KEY, {"kit": "a", "answers": {"2": "real"}}), "pictures 0 to 1"),
        (lambda: score_answers(KEY, {"kit": "a", "answers": {"0": "fake"}}), "say 'fake'"),
        (lambda: score_answers(KEY, {"kit": "a", "answers": {"0": ["real"]}}), "say \\['real'\\]"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_command_makes_kits_and_scores_answers(tmp_path, capsys):
    run = tmp_path / "rbm"
    assert main(["fit", "rbm", "--out", str(run), "--set", "hidden=4", "--epochs", "1", "--quiet"]) == 0
    kit = ["turing", str(run), "--out", str(tmp_path / "kit"), "--quiet"]
    assert main([*kit, "-n", "30"]) == 0
    page = (tmp_path / "kit" / "turing.html").read_text()
    key = json.loads((tmp_path / "kit" / "turing-key.json").read_text())
    digits = dgm.data.load("digits", binarisation="threshold").test.x
    shown = torch.tensor(np.stack(pictures(page)) / 255).flatten(1).float()
    of_data = (torch.cdist(shown, digits) == 0).any(1)
    assert of_data[torch.tensor(key["real"])].all()
    for name, right in (("a.json", 25), ("b.json", 15)):
        (tmp_path / name).write_text(json.dumps(answers(key, right)))
    files = [str(tmp_path / name) for name in ("a.json", "b.json")]
    capsys.readouterr()
    assert main([*kit, "--answers", *files, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [found[name]["right"] for name in ("a.json", "b.json", "all judges")] == [25, 15, 40]
    assert main([*kit, "--answers", files[0]]) == 0
    assert "25 of 30 answers right" in capsys.readouterr().out
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "other.json").write_text(json.dumps({"kit": "x", "answers": {}}))
    for more, message in (
        (["--answers", str(tmp_path / "bad.json")], "is no JSON"),
        (["--answers", str(tmp_path / "other.json")], "other.json: answers 1 are to the kit 'x'"),
        (["--answers", str(tmp_path / "none.json")], "none.json"),
        (["--answers", files[0], "--key", files[0]], "expected the key of a kit"),
        (["--json"], "belong to --answers"),
    ):
        assert main([*kit, *more]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


@needs_browser
def test_a_browser_shows_the_page_of_a_blind_test(tmp_path):
    page = tmp_path / "turing.html"
    page.write_text(blind_test(MADE, REAL, (2, 2), n=10).page)
    seen, console = look([page], (1400,), tmp_path)
    assert console == []
    assert seen[page, 1400]["blank"] == 0


def test_rows_that_are_no_pictures_are_refused(tmp_path, capsys):
    np.savez(tmp_path / "own.npz", train=np.random.default_rng(0).normal(size=(100, 5)))
    fit = ["fit", "affinegenerator", "--data", str(tmp_path / "own.npz"), "--epochs", "1", "--quiet"]
    assert main([*fit, "--out", str(tmp_path / "run")]) == 0
    assert main(["turing", str(tmp_path / "run"), "--quiet"]) == 2
    assert "are no pictures" in capsys.readouterr().err
