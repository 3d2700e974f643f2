"""Reports of runs hold all they show, whatever the model can do, and repeat the run."""

import base64
import json
import re
import shlex
from argparse import Namespace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import BROWSER, look

import pyro_dgm as dgm
from pyro_dgm import registry
from pyro_dgm.cli import report
from pyro_dgm.cli.main import main
from pyro_dgm.cli.runs import Opened
from pyro_dgm.data import Dataset, Space, Split
from pyro_dgm.evaluation.pages import Page, code, facts, note, table
from pyro_dgm.evaluation.samples import sample_summary
from pyro_dgm.models.shared.evidence import Evidence
from pyro_dgm.models.shared.model import Model, ProbabilisticModel


class Reader(HTMLParser):
    """Checks that tags close, and collects texts and what is fetched."""

    def __init__(self):
        super().__init__()
        self.open, self.texts, self.sources = [], [], []

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "img", "input", "br"):
            self.open.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def read(page):
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    assert all(source.startswith("data:image/png;base64,") for source in reader.sources)
    for source in reader.sources:
        assert base64.b64decode(source.partition(",")[2]).startswith(b"\x89PNG")
    return reader


def fit(out, *arguments):
    assert main(["fit", *arguments, "--out", str(out), "--epochs", "2", "--batch-size", "100", "--quiet"]) == 0
    return out


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(report, "CHAINS", {"draws": 8, "warmup": 2, "chains": 2})
    monkeypatch.setattr(report, "IMPUTATION_DRAWS", 4)


def test_the_report_of_a_run(tmp_path, short, capsys):
    out = fit(tmp_path / "rbm", "rbm", "--set", "hidden=6")
    assert main(["report", str(out), "-n", "60", "--quiet"]) == 0
    text = (out / "report.html").read_text()
    reader = read(text)
    assert len(reader.sources) == 6
    assert main(["evaluate", str(out), "--json"]) == 0
    value = json.loads(capsys.readouterr().out.partition("{")[2].join(["{", ""]))["value"]
    assert any(f"{value:.2f} nats" in part for part in reader.texts)
    assert re.search(r"(src|href)=\"?http|url\(|<link", text) is None
    assert "tell nothing" in text  # windows around bits
    if BROWSER:
        seen, console = look([out / "report.html"], (1400, 500), tmp_path)
        assert console == []
        assert [(width, what["blank"], what["wide"] <= width) for (_, width), what in seen.items()] == [
            (500, 0, True),
            (1400, 0, True),
        ]
    assert main(["report", str(out), "-n", "3"]) == 2
    assert "-n got 3; expected a whole number of at least 16" in capsys.readouterr().err


def test_the_command_of_a_report_repeats_the_run(tmp_path, short):
    options = ["--set", "hidden=(9, 7)", "--set", "output=gaussian", "--preprocessing", "standardised", "--seed", "4"]
    torchs = ["--decay", "StepLR", "--decay-option", "step_size=1", "--optimiser-option", "weight_decay=0.1"]
    out = fit(tmp_path / "vae", "vae", "--set", "latent=3", *options, *torchs, "--average", "0.9")
    assert main(["report", str(out), "-n", "40", "--quiet"]) == 0
    words = shlex.split(next(part for part in read((out / "report.html").read_text()).texts if "pyro-dgm fit" in part))
    assert main([*words[1:], "--out", str(tmp_path / "again"), "--quiet"]) == 0
    first, second = (dgm.load(folder).state_dict() for folder in (out, tmp_path / "again"))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_command_that_cannot_be_written_names_the_configuration():
    stored = {
        "model": "rbm",
        "preprocessing": {"how": "zca", "epsilon": 0.1},
        "stored_options": {},
        "stored_objective": {},
    }
    assert report.command_of(stored, "my runs/a") == "pyro-dgm fit --config 'my runs/a'"
    assert report.command_of({"model": "rbm", "stored_seed": ("digits", 7)}, "a") == "pyro-dgm fit --config a"
    own = {"data": "digits", "stored_options": {"hidden": (9, 7)}, "stored_objective": {"kind": "cd"}}
    assert (
        report.command_of(own, "x")
        == "pyro-dgm fit FILE.py:CLASS --data digits --set 'hidden=(9, 7)' --objective kind=cd"
    )


def test_a_report_says_why_a_model_has_no_likelihood(tmp_path, short):
    out = fit(tmp_path / "gan", "gan", "--binarisation", "none", "--set", "hidden=(8,)", "--set", "latent=3")
    page = tmp_path / "other" / "page.html"
    assert main(["report", str(out), "-n", "40", "--quiet", "--out", str(page)]) == 0
    text = "".join(read(page.read_text()).texts)
    assert "Not available: log_likelihood is not defined: GAN without output noise" in text
    assert "k-means centres" in text


@pytest.mark.parametrize("unit", [1e-3, 1e3])
def test_windows_are_as_wide_as_the_units_of_the_data_ask(unit, tmp_path, short):
    rows = unit * np.random.RandomState(0).standard_normal((120, 3))
    np.savez(tmp_path / "mine.npz", train=rows)
    out = fit(tmp_path / "run", "affinegenerator", "--data", str(tmp_path / "mine.npz"))
    assert main(["report", str(out), "-n", "40", "--quiet"]) == 0
    texts = read((out / "report.html").read_text()).texts
    place = texts.index("training rows", texts.index("windows around"))
    value, width = float(texts[place + 1]), float(texts[place + 4])
    assert 0.1 < width / unit < 2
    assert -6 < value + 3 * np.log(unit) < -4  # normal rows have -4.26


KINDS = {
    (cls.abilities(), cls.given_columns is not Model.given_columns, issubclass(cls, ProbabilisticModel)): cls
    for cls in registry.models().values()
}
"""A model of every kind: by what it can do, whether columns are given, and whether it has a program."""


@pytest.mark.parametrize("cls", KINDS.values(), ids=[cls.__name__ for cls in KINDS.values()])
def test_every_kind_of_model_has_every_section_or_a_reason(cls, short, monkeypatch, tmp_path):
    monkeypatch.setattr(report, "picture", lambda figure, caption: note(caption))  # drawn, but not written
    model, x = cls.example()
    if "evidence" in model.abilities():  # which other tests compute
        monkeypatch.setattr(
            cls, "evidence", lambda self, x, method=None, **options: Evidence.exact(torch.zeros(len(x)), "stub")
        )
    rows = x.repeat(8, 1)[:48]
    split = Split(rows, Space("not stated"))
    opened = Opened(
        model, Dataset("toy", split, split, split, (x.shape[1],)), 0, (x.shape[1],), tmp_path, tmp_path / "rows.npz"
    )
    options = Namespace(device="cpu", method=None, method_option=[], run=tmp_path)
    drawn = model.sample(20)
    for heading, section in report.SECTIONS.items():
        if heading in ("Training", "To repeat it"):  # which are of a run
            continue
        parts, _ = report._parts(section, opened, options, drawn)
        assert parts, heading
        page = Page("one section")
        page.section(heading, *parts)
        read(page.html())
    if "evidence" in model.abilities():
        assert "stub" in report._parts(report._likelihood, opened, options, drawn)[0][0]


def test_texts_are_escaped():
    page = Page("<b>")
    page.section("<i>", note("<p>"), code("<pre>"), facts({"<a>": "<u>"}), table(["<h>"], [["<s>", 1.0]]))
    assert {"<b>", "<i>", "<p>", "<pre>", "<a>", "<u>", "<h>", "<s>"} <= set(read(page.html()).texts)


def test_a_summary_holds_the_figures_of_training_rows_beside():
    """Training rows of the test rows' law: no p-value is small; samples a deviation off are told."""
    rows = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    found = {figure.name: figure for figure in sample_summary(rows[:100] + 1, rows[100:300], rows[300:])}
    for name in ("its p-value", "p-value of the discrepancy"):
        assert found[name].samples < 0.01 < found[name].training_rows
    assert found["recall"].samples < found["recall"].training_rows
    copies = {figure.name: figure for figure in sample_summary(rows[100:200], rows[100:300], rows[300:])}
    assert copies["nearest-neighbour ratio"].samples == 0.0
    assert 0.7 < copies["nearest-neighbour ratio"].training_rows < 1.4
    with pytest.raises(ValueError, match="at least 8 and 16"):
        sample_summary(rows, rows[:9], rows)


def test_a_page_that_cannot_be_written_is_refused(tmp_path, capsys, short):
    out = fit(tmp_path / "rbm", "rbm", "--set", "hidden=2")
    (tmp_path / "file").write_text("")
    assert main(["report", str(out), "--quiet", "--out", str(Path(tmp_path, "file", "page.html"))]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_rows_that_are_no_pictures_are_shown_as_strips(tmp_path, short):
    np.savez(tmp_path / "own.npz", train=np.random.default_rng(0).normal(size=(200, 5)))
    out = fit(tmp_path / "run", "affinegenerator", "--data", str(tmp_path / "own.npz"))
    assert main(["report", str(out), "-n", "30", "--quiet"]) == 0
    reader = read((out / "report.html").read_text())
    assert any("Root mean squared error" in text for text in reader.texts)
    assert len(reader.sources) >= 3


def test_a_report_on_a_table_with_holes_compares_complete_rows(tmp_path, short, capsys):
    rng = np.random.default_rng(0)
    x = rng.normal(50, [1, 20, 5], size=(120, 3))
    x[rng.random(x.shape) < 0.15] = np.nan
    x[:, 2] = rng.normal(size=120)
    lines = [",".join("" if np.isnan(v) else f"{v:.2f}" for v in row) for row in x]
    (tmp_path / "holes.csv").write_text("\n".join(["a,b,c", *lines]) + "\n")
    out = fit(
        tmp_path / "run", "vae", "--data", str(tmp_path / "holes.csv"), "--preprocessing", "standardised", "--set",
        "output=gaussian", "--set", "latent=2",
    )  # fmt: skip
    capsys.readouterr()
    assert main(["report", str(out), "-n", "30", "--quiet"]) == 0
    said = capsys.readouterr().out
    data = dgm.data.load(str(tmp_path / "holes.csv"), preprocessing="standardised")
    text = " ".join(read((out / "report.html").read_text()).texts)
    complete = [int((~split.x.isnan().any(1)).sum()) for split in (data.train, data.test)]
    assert f"{complete[0]} of {len(data.train)} training rows, {complete[1]} of {len(data.test)} test rows" in text
    assert "Not available" not in text
    assert "without" not in said
    error = re.search(r"over (\d+) known values: ([\d.]+)\.", text)
    assert error is not None
    assert int(error[1]) > 0 < float(error[2])
    known = data.train.x[~data.train.x[:, 1].isnan(), 1]
    assert [float(known.mean()), float(known.std(correction=0))] == pytest.approx([0, 1], abs=1e-5)
    with pytest.raises(ValueError, match="'whitened' mixes the values of a row: take 'standardised'"):
        dgm.data.load(str(tmp_path / "holes.csv"), preprocessing="whitened")


def test_a_report_without_complete_rows_shows_samples_and_says_what_is_missing(tmp_path, short, capsys):
    x = np.random.default_rng(0).normal(size=(100, 4))
    x[np.arange(100), np.arange(100) % 4] = np.nan
    np.savez(tmp_path / "holes.npz", train=x)
    out = fit(tmp_path / "run", "vae", "--data", str(tmp_path / "holes.npz"), "--set", "output=gaussian")
    capsys.readouterr()
    assert main(["report", str(out), "-n", "30", "--quiet"]) == 0
    said = capsys.readouterr().out
    reader = read((out / "report.html").read_text())
    assert "without 'Samples against test rows': too few rows without missing values (0 and 0)" in said
    assert "without 'Samples':" not in said
    assert "Too few rows are complete to hold samples against them." in reader.texts
