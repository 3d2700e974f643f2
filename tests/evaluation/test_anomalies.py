"""Rankings equal scikit-learn's, scores equal what they are made of, and the command says the same."""

import csv
import json

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, precision_score, recall_score, roc_auc_score

import pyro_dgm as dgm
from pyro_dgm import registry
from pyro_dgm.cli.main import main
from pyro_dgm.evaluation import anomaly_scores, rank
from pyro_dgm.evaluation.anomalies import ranking
from pyro_dgm.models.shared.evidence import Evidence

SCORES = (0.9, 0.8, 0.8, 0.7, 0.6, 0.5, 0.5, 0.1)
ANOMALIES = (1, 0, 1, 1, 0, 0, 1, 0)


def test_a_ranking_with_ties():
    found = rank(SCORES, ANOMALIES, first=3)
    assert found.average_precision == pytest.approx(0.7470238095, abs=1e-9)
    assert found.auc == pytest.approx(0.75)
    assert (found.precision, found.recall, found.taken) == pytest.approx((2 / 3, 2 / 4, 3))
    above = rank(SCORES, ANOMALIES, threshold=0.5)
    assert (above.precision, above.recall, above.taken) == pytest.approx((4 / 7, 1.0, 7))


def test_rows_that_tie_for_the_last_place_are_counted_by_chance():
    """Of two rows with the score 0.8, one is an anomaly and either may be the second."""
    found = rank(SCORES, ANOMALIES, first=2)
    assert (found.precision, found.recall) == pytest.approx((1.5 / 2, 1.5 / 4))


@pytest.mark.parametrize("values", [3, 10, 10**6])
def test_figures_are_those_of_scikit_learn(values):
    generator = np.random.default_rng(0)
    marked = generator.random(200) < 0.2
    scores = generator.integers(0, values, 200) / values + 0.2 * marked
    found = rank(scores, marked, threshold=0.5)
    assert found.average_precision == pytest.approx(average_precision_score(marked, scores), abs=1e-12)
    assert found.auc == pytest.approx(roc_auc_score(marked, scores), abs=1e-12)
    assert found.precision == pytest.approx(precision_score(marked, scores >= 0.5))
    assert found.recall == pytest.approx(recall_score(marked, scores >= 0.5))


def test_intervals_are_percentiles_of_resampled_rows(monkeypatch):
    generator = np.random.default_rng(1)
    marked = np.arange(120) < 30
    scores = generator.normal(size=120) + marked
    found = rank(scores, marked, draws=4000)
    figures = []
    for _ in range(500):
        rows = np.concatenate([generator.choice(np.flatnonzero(kind), kind.sum()) for kind in (marked, ~marked)])
        figures.append((average_precision_score(marked[rows], scores[rows]), roc_auc_score(marked[rows], scores[rows])))
    ends = np.quantile(figures, [0.025, 0.975], axis=0)
    # The end of an interval of 3.9 deviations has an error of 0.12 of them with 500 normal draws.
    for interval, expected in zip((found.average_precision_interval, found.auc_interval), ends.T, strict=True):
        assert interval == pytest.approx(tuple(expected), abs=4 * 0.12 * (expected[1] - expected[0]) / 3.9)
    monkeypatch.setattr(ranking, "ENTRIES_AT_ONCE", 120 * 7)
    assert rank(scores, marked, draws=4000).auc_interval == pytest.approx(found.auc_interval, abs=0.01)


def test_the_interval_of_the_auc_holds_it_as_often_as_it_says():
    """Scores of two normals a deviation apart, whose AUC is Phi(1 / sqrt 2)."""
    truth = float(torch.special.ndtr(torch.tensor(0.5**0.5)))
    generator, held = np.random.default_rng(0), 0
    marked = np.arange(150) < 50
    for seed in range(200):
        low, high = rank(generator.normal(size=150) + marked, marked, draws=200, seed=seed).auc_interval
        held += low <= truth <= high
    # 95 % of 200, less a percent for percentiles of 200 draws and 50 anomalies, within 4 standard errors
    assert held / 200 > 0.94 - 4 * (0.05 * 0.95 / 200) ** 0.5


def test_free_energies_are_log_probabilities_but_for_a_constant():
    rbm, x = dgm.RBM.example()
    scores = anomaly_scores(rbm, x)
    assert scores.by == "free energy"
    constant = scores.values + rbm().log_prob(x).detach().double()
    torch.testing.assert_close(constant, constant.mean().expand(len(x)), atol=1e-4, rtol=0)
    surprise = anomaly_scores(rbm, x, "likelihood", method="exact")
    torch.testing.assert_close(surprise.values, -rbm().log_prob(x).detach().double(), atol=1e-4, rtol=0)
    assert "log p(x) (enumeration)" in surprise.text


def test_bounds_and_reconstructions_say_what_they_are():
    vae, x = dgm.VAE.example()
    scores = anomaly_scores(vae, x, particles=5)
    assert (scores.by, scores.text[:29]) == ("likelihood", "minus a lower bound of log p(")
    errors = anomaly_scores(vae, x, "reconstruction")
    with torch.no_grad():
        expected = (vae.reconstruct(x) - x).square().sum(1).double()
    torch.testing.assert_close(errors.values, expected)


@pytest.mark.parametrize("cls", registry.models().values(), ids=list(registry.models()))
def test_every_model_scores_rows_or_says_why_not(cls, monkeypatch):
    model, x = cls.example()
    x, state = x[:2], torch.get_rng_state()
    if "evidence" in model.abilities():  # which other tests compute
        monkeypatch.setattr(cls, "evidence", lambda self, x, method: Evidence.exact(torch.zeros(len(x)), "stub"))
    if {"evidence", "reconstruct"} & model.abilities():
        scores = anomaly_scores(model, x)
        assert scores.values.shape == (2,)
        if scores.by == "free energy":
            assert torch.equal(state, torch.get_rng_state())
    else:
        with pytest.raises(ValueError, match="scores no rows"):
            anomaly_scores(model, x)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rank([0.1, np.nan], [0, 1]), "finite number"),
        (lambda: rank([0.1, 0.2], [0, 1, 1]), "expected 2 booleans"),
        (lambda: rank([0.1, 0.2], [0, 2]), "0 and 1"),
        (lambda: rank([0.1, 0.2], [0, 0]), "0 of 2 rows are anomalies"),
        (lambda: rank(SCORES, ANOMALIES, threshold=1, first=1), "choose one"),
        (lambda: rank(SCORES, ANOMALIES, first=9), "there are 8 rows"),
        (lambda: rank(SCORES, ANOMALIES, draws=1), "draws got 1"),
        (lambda: rank(SCORES, ANOMALIES, level=1.0), "level got 1.0"),
        (lambda: anomaly_scores(*dgm.RBM.example(), "beauty"), "by got 'beauty'"),
        (lambda: anomaly_scores(*dgm.RBM.example(), method="ais"), "are for by='likelihood'"),
        (lambda: anomaly_scores(*dgm.VAE.example(), "free energy"), "has no free energy"),
        (lambda: anomaly_scores(dgm.RBM.example()[0], torch.rand(2, 6)), "RBM got"),
        (lambda: anomaly_scores("rbm", torch.rand(2, 6)), "expected a model"),
        (lambda: anomaly_scores(dgm.GMMN(3, noise=0.0), torch.rand(2, 3)), r"\Alog_likelihood is not defined: .*\)\Z"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "rbm"
    fit = ["fit", "rbm", "--out", str(out), "--set", "hidden=20", "--epochs", "5", "--batch-size", "20", "--quiet"]
    assert main(fit) == 0
    return out


def test_rows_of_a_file_are_ranked_among_test_rows(digits_run, tmp_path, capsys):
    """Rows of noise stand out among digits; grey levels become bits by the run's threshold."""
    np.save(tmp_path / "noise.npy", np.random.default_rng(0).random((30, 64)))
    command = ["rank", str(digits_run), "--rows", str(tmp_path / "noise.npy"), "--out", str(tmp_path), "--quiet"]
    assert main([*command, "--among-test", "--first", "30", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["by"] == "free energy"
    assert found["ranking"]["auc"] > 0.95
    assert (found["ranking"]["taken"], found["ranking"]["n"]) == (30, 330)
    stored = np.load(tmp_path / "ranking.npz")
    assert found["ranking"]["auc"] == pytest.approx(roc_auc_score(stored["anomalies"], stored["scores"]))
    assert found["strangest"][0]["row"] == stored["order"][0]
    assert (tmp_path / "ranking.png").is_file()
    ranked = [*csv.DictReader((tmp_path / "ranking.csv").open())]
    assert [int(row["row"]) for row in ranked] == stored["order"].tolist()
    assert [float(row["score"]) for row in ranked] == stored["scores"][stored["order"]].tolist()
    assert all(
        (row["split"], row["anomaly"]) == (("given", "True") if int(row["row"]) < 30 else ("test", "False"))
        for row in ranked
    )
    assert main(command) == 0
    assert "30 rows by free energy" in capsys.readouterr().out
    assert (tmp_path / "ranking.csv").read_text().startswith("row,rank,score\n")
    assert (
        main(["rank", str(digits_run), "--rows", "digits", "--split", "valid", "--out", str(tmp_path), "--quiet"]) == 0
    )
    assert f" and {tmp_path / 'ranking.csv'}" in capsys.readouterr().out
    assert (tmp_path / "ranking.csv").read_text().splitlines()[1].startswith("valid,")


def test_labels_mark_anomalies(digits_run, tmp_path, capsys):
    digits = dgm.data.load("digits").test
    np.savez(tmp_path / "rows.npz", x=digits.x, x_labels=digits.labels)
    command = ["rank", str(digits_run), "--rows", str(tmp_path / "rows.npz"), "--anomalies", "1", "8", "--quiet"]
    assert main([*command, "--out", str(tmp_path), "--by", "likelihood"]) == 0
    marked = int(torch.isin(digits.labels, torch.tensor([1, 8])).sum())
    assert f"{marked} anomalies among 300 rows" in capsys.readouterr().out
    np.save(tmp_path / "rows.npy", digits.x)
    plain = ["rank", str(digits_run), "--rows", str(tmp_path / "rows.npy"), "--quiet"]
    for more, message in (
        (["--anomalies", "1"], "has no labels"),
        (["--anomalies", "1", "--among-test"], "leave one out"),
        (["--first", "3", "--threshold", "1"], "choose one"),
        (["--by", "beauty"], "by got 'beauty'"),
        (["--method", "ais"], "are for by='likelihood'"),
    ):
        assert main([*plain, *more]) == 2
        assert message in capsys.readouterr().err


def test_rows_with_missing_values_are_ranked_by_their_likelihood():
    rbm, x = dgm.RBM.example()
    x[1, 0] = torch.nan
    found = anomaly_scores(rbm, x)
    assert found.by == "likelihood"
    assert found.values == pytest.approx(-rbm.evidence(x).values.double())
    with pytest.raises(ValueError, match=r"row 1 has missing values .*scores complete rows; choose 'likelihood'"):
        anomaly_scores(rbm, x, by="free energy")
