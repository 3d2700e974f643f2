"""Runs that are repeated, evaluated on other rows, and whose labels are known."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

import pyro_dgm as dgm
from pyro_dgm.cli.main import main


def fit(*arguments):
    return main(["fit", *map(str, arguments), "--epochs", "1", "--batch-size", "300", "--quiet"])


@pytest.fixture(scope="module")
def rbm_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "rbm"
    assert (
        fit("rbm", "--out", out, "--set", "hidden=8", "--objective", "kind=cd", "--objective", "k=2", "--seed", 5) == 0
    )
    return out


@pytest.fixture(scope="module")
def labelled_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "labelled"
    assert fit("dbm", "--out", out, "--set", "hidden=(8, 6)", "--classes", 10) == 0
    return out


def weights(run):
    return dgm.load(run).state_dict()


def test_a_configuration_repeats_its_run(rbm_run, tmp_path, capsys):
    again = tmp_path / "again"
    assert main(["fit", "--config", str(rbm_run / "config.json"), "--out", str(again), "--quiet"]) == 0
    assert all(torch.equal(value, weights(again)[name]) for name, value in weights(rbm_run).items())
    config = json.loads((again / "config.json").read_text())
    assert config["objective_options"] == {"kind": "cd", "k": 2}
    other = tmp_path / "other"
    assert fit("--config", rbm_run, "--out", other, "--set", "hidden=5", "--objective", "k=1") == 0
    assert dgm.load(other).hidden == 5
    assert json.loads((other / "config.json").read_text())["training"]["seed"] == 5
    model, x = dgm.RBM.example()
    dgm.fit(model, x, epochs=1, out=tmp_path / "python", progress=False, source={})
    capsys.readouterr()
    assert main(["fit", "--config", str(tmp_path / "python"), "--quiet"]) == 2
    assert "does not say where its data came from" in capsys.readouterr().err


def test_a_configuration_draws_the_same_bits_where_data_and_training_have_two_seeds(tmp_path):
    data = dgm.data.load("digits", binarisation="fixed", seed=7)
    dgm.fit(dgm.RBM(64, 2), data, epochs=1, batch_size=400, seed=3, out=tmp_path / "run", progress=False)
    described = []
    for name, options in (("run", None), ("again", ()), ("other", ("--seed", "4")), ("changed", ("--data", "digits"))):
        if options is not None:
            assert (
                main(["fit", "--config", str(tmp_path / "run"), "--out", str(tmp_path / name), "--quiet", *options])
                == 0
            )
        described.append(json.loads((tmp_path / name / "config.json").read_text())["data"])
    assert all(found == described[0] for found in described)
    assert described[0]["seed"] == 7


def test_help_tells_a_models_options_and_objectives(capsys):
    for command in (["fit", "rbm", "--help"], ["fit", "sbn", "-h"]):
        with pytest.raises(SystemExit) as end:
            main(command)
        assert end.value.code == 0
    printed = capsys.readouterr().out
    assert "(default: adam)" in printed
    assert "hidden=500" in printed
    assert "pcd, cd, exact, pseudolikelihood, ratio-matching, nce or" in printed
    assert "autoregressive=false" in printed
    assert "$" not in printed[printed.index("options of RBM") :].replace("$PYRO_DGM_DATA", "")


@pytest.mark.parametrize("kind", ["pseudolikelihood", "ratio-matching", "nce", "multi-prediction"])
def test_criteria_without_chains_are_reached(kind, tmp_path):
    out = tmp_path / "run"
    assert fit("rbm", "--out", out, "--set", "hidden=3", "--objective", f"kind={kind}") == 0
    stored = json.loads((out / "config.json").read_text())["objective"]["objective"]
    assert stored.lower() in (kind.replace("-", ""), "noisecontrastive")


def test_a_flag_that_says_false_is_false(tmp_path):
    assert fit("sbn", "--out", tmp_path / "run", "--set", "hidden=(4,)", "--set", "autoregressive=false") == 0
    assert dgm.load(tmp_path / "run").autoregressive is False


def test_a_run_finds_its_data_from_another_folder(tmp_path, monkeypatch):
    (tmp_path / "own").mkdir()
    np.savez(tmp_path / "own" / "ok.npz", train=np.random.default_rng(0).integers(0, 2, (100, 9)))
    monkeypatch.chdir(tmp_path)
    assert fit("rbm", "--data", "own/ok.npz", "--set", "hidden=3", "--out", "run") == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["evaluate", str(tmp_path / "run")]) == 0


def test_other_rows_are_evaluated_as_the_run_has_its_own(rbm_run, tmp_path, capsys):
    """Grey rows become bits by the run's threshold; bits stay as they are; both give what Python gives."""
    digits = dgm.data.load("digits")
    grey = digits.valid.x[:40]
    np.savez(tmp_path / "grey.npz", test=grey.reshape(-1, 8, 8), train=grey[:3])
    np.savetxt(tmp_path / "bits.csv", (grey > 0.5).int().numpy(), fmt="%d", delimiter=",")
    np.save(tmp_path / "bits.npy", (grey > 0.5).numpy())
    expected = dgm.log_likelihood(dgm.load(rbm_run), (grey > 0.5).float(), space="any").value
    for name, space in (("grey.npz", "threshold 0.5"), ("bits.csv", "as given"), ("bits.npy", "as given")):
        assert main(["evaluate", str(rbm_run), "--data", str(tmp_path / name), "--json"]) == 0
        figure = json.loads(capsys.readouterr().out)
        assert figure["value"] == pytest.approx(expected, abs=1e-4)
        assert (figure["n"], figure["space"]) == (40, f"binary ({space})")
    np.save(tmp_path / "narrow.npy", np.zeros((3, 5)))
    assert main(["evaluate", str(rbm_run), "--data", str(tmp_path / "narrow.npy")]) == 2
    assert "rows of 5 columns; those of the run have 64" in capsys.readouterr().err


def test_other_rows_are_standardised_by_the_training_rows(tmp_path, capsys):
    """A shift of all other rows shows in the figure: they are not standardised by their own means."""
    rng = np.random.default_rng(1)
    np.savez(tmp_path / "own.npz", **{part: 30 * rng.normal(size=(60, 4)) + 100 for part in ("train", "valid", "test")})
    run = tmp_path / "run"
    assert fit("affinegenerator", "--data", tmp_path / "own.npz", "--preprocessing", "standardised", "--out", run) == 0
    np.savez(tmp_path / "other.npz", x=30 * rng.normal(size=(60, 4)) + 400)
    capsys.readouterr()
    values = []
    for more in ([], ["--data", str(tmp_path / "other.npz")]):
        assert main(["evaluate", str(run), *more, "--json"]) == 0
        figure = json.loads(capsys.readouterr().out)
        assert figure["space"] == "real (standardised)"
        values.append(figure["value"])
    # Ten deviations away in 4 columns: 200 nats under a standard normal.
    assert values[0] > -10
    assert values[1] < -100


def test_rows_of_a_csv_file_are_filled_in(rbm_run, tmp_path, capsys):
    bits = (dgm.data.load("digits").test.x[:2] > 0.5).int().tolist()
    lines = [",".join(f"p{i}" for i in range(64)), ",".join(["", *map(str, bits[0][1:])]), ",".join(map(str, bits[1]))]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    assert (
        main(["impute", str(rbm_run), "--rows", str(tmp_path / "rows.csv"), "--draws", "5", "--out", str(tmp_path)])
        == 0
    )
    found = np.load(tmp_path / "imputed.npz")
    assert (~found["known"]).sum() == 1
    assert (found["means"][1] == bits[1]).all()
    (tmp_path / "rows.csv").write_text("\n".join([*lines, "1,2"]))
    assert main(["impute", str(rbm_run), "--rows", str(tmp_path / "rows.csv")]) == 2
    assert "line 4 has 2 fields, the first 64" in capsys.readouterr().err
    grey = np.full((2, 64), 0.3)
    grey[:, :40], grey[:, 5] = 0.8, np.nan
    np.save(tmp_path / "grey.npy", grey)  # grey levels become bits as the run's did
    assert (
        main(["impute", str(rbm_run), "--rows", str(tmp_path / "grey.npy"), "--draws", "2", "--out", str(tmp_path)])
        == 0
    )
    found = np.load(tmp_path / "imputed.npz")
    assert (found["x"][found["known"]] == (grey[found["known"]] > 0.5)).all()
    assert (~found["known"]).sum() == 2
    np.save(tmp_path / "grey.npy", grey + 1)
    assert main(["impute", str(rbm_run), "--rows", str(tmp_path / "grey.npy")]) == 2
    assert "grey.npy: this file has values from 1.3 to 1.8" in capsys.readouterr().err


def test_labels_are_known_where_rows_are_filled_in(labelled_run, capsys):
    assert main(["impute", str(labelled_run), "-n", "3", "--draws", "5"]) == 0
    assert "3 rows with 32 of 64 columns imputed" in capsys.readouterr().out
    found = np.load(labelled_run / "imputed.npz")
    assert found["known"][64:].all()
    assert (found["means"][:, 64:].sum(1) == 1).all()
    assert (labelled_run / "imputed.png").is_file()


def test_labels_that_are_not_given_are_filled_in(labelled_run, tmp_path):
    np.save(tmp_path / "rows.npy", (dgm.data.load("digits").test.x[:3] > 0.5).numpy())
    command = [
        "impute",
        str(labelled_run),
        "--rows",
        str(tmp_path / "rows.npy"),
        "--draws",
        "20",
        "--out",
        str(tmp_path),
    ]
    assert main(command) == 0
    means = np.load(tmp_path / "imputed.npz")["means"][:, 64:]
    np.testing.assert_allclose(means.sum(1), 1, atol=1e-5)
    assert (means < 1).any()


def test_samples_of_a_class(labelled_run, rbm_run, capsys):
    assert main(["sample", str(labelled_run), "-n", "5", "--label", "3"]) == 0
    assert (np.load(labelled_run / "samples.npz")["x"][:, 64:] == np.eye(10)[3]).all()
    assert main(["sample", str(labelled_run), "--label", "10"]) == 2
    assert "--label got 10, but the run has classes 0 to 9" in capsys.readouterr().err
    assert main(["sample", str(rbm_run), "--label", "1"]) == 2
    assert "no labels: it was trained without --classes" in capsys.readouterr().err


def test_results_replace_links_and_do_not_follow_them(rbm_run, tmp_path):
    for name in ("samples.npz", "imputed.npz"):
        (tmp_path / "precious").write_text("mine")
        (tmp_path / name).symlink_to(tmp_path / "precious")
    assert main(["sample", str(rbm_run), "-n", "2", "--out", str(tmp_path)]) == 0
    assert main(["impute", str(rbm_run), "-n", "2", "--draws", "2", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "precious").read_text() == "mine"
    assert not (tmp_path / "samples.npz").is_symlink()


def test_a_folder_that_cannot_be_written_says_what_to_do(rbm_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("os.access", lambda *_: False)  # rights do not stop an administrator
    for verb in ("sample", "impute", "diagnose"):
        assert main([verb, str(rbm_run), "--out", str(tmp_path / "locked")]) == 2
        told = capsys.readouterr().err
        assert "locked cannot be written to; choose another folder with --out" in told
        assert told.count("\n") == 1


def test_standardised_pixels_are_shown_as_pixels(tmp_path):
    """The manifold of two latents and the samples are pictures of grey levels, whatever the decoder's numbers are."""
    out = tmp_path / "run"
    options = [
        "--preprocessing",
        "standardised",
        "--set",
        "output=gaussian",
        "--set",
        "latent=2",
        "--set",
        "hidden=(5,)",
    ]
    assert fit("vae", *options, "--out", out) == 0
    assert main(["sample", str(out), "-n", "3"]) == 0
    assert {"manifold.png", "samples.png"} <= {path.name for path in out.iterdir()}
    data = dgm.data.load("digits", preprocessing="standardised")
    grey = dgm.data.load("digits").test.x
    # One of 256 steps, and the noise of a step.
    torch.testing.assert_close(data.grey(data.test.x), grey, atol=2 / 256, rtol=0)


@pytest.mark.parametrize(
    ("name", "options", "drawn"), [("conditionalgan", ["--classes", 10], False), ("gmmn", [], True)]
)
def test_the_manifold_is_of_two_latents_alone(name, options, drawn, tmp_path, monkeypatch):
    """With labels beside them a network takes more than two numbers. Codes have the prior's quantiles."""
    out, seen = tmp_path / "run", []
    data = ["--binarisation", "none", "--set", "latent=2", "--set", "hidden=(5,)"]
    assert fit(name, *data, *options, "--out", out) == 0
    decode = dgm.GMMN.decode
    monkeypatch.setattr(dgm.GMMN, "decode", lambda model, z: seen.append(z) or decode(model, z))
    assert main(["sample", str(out), "-n", "3"]) == 0
    assert (out / "samples.png").is_file()
    assert (out / "manifold.png").is_file() == drawn
    for z in seen:
        torch.testing.assert_close(z[:, 0].unique(), (torch.arange(20) + 0.5) / 10 - 1)


def test_commands_take_runs_in_double_precision(tmp_path):
    x = dgm.data.load("digits", binarisation="threshold").train.x[:40].double()
    model = dgm.VAE(64, latent=2, hidden=(5,)).double()
    split = dgm.data.Split(x, dgm.data.Space("binary"))
    data = dgm.data.Dataset("mine", split, split, split, (8, 8))
    dgm.fit(model, data, epochs=1, out=tmp_path / "run", progress=False)
    for verb in ("sample", "evaluate"):
        assert main([verb, str(tmp_path / "run"), "--quiet"]) == 0
    assert np.load(tmp_path / "run" / "samples.npz")["x"].dtype == np.float64
    assert (tmp_path / "run" / "manifold.png").is_file()


def test_the_package_is_a_program():
    found = subprocess.run([sys.executable, "-m", "pyro_dgm", "--version"], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, f"pyro-dgm {dgm.__version__}\n")


def test_an_interruption_promises_no_more_than_there_is(rbm_run, monkeypatch, capsys):
    from pyro_dgm.cli import commands

    def interrupted(options):
        raise KeyboardInterrupt

    for command, told in (
        ("evaluate", "interrupted\n"),
        ("fit", "interrupted; the run can be resumed with --resume\n"),
    ):
        monkeypatch.setattr(commands, command, interrupted)
        assert main([command, str(rbm_run)]) == 130
        assert capsys.readouterr().err == f"pyro-dgm: {told}"


def test_long_work_shows_a_bar_and_short_work_none(rbm_run, monkeypatch, capsys):
    """The bar goes to standard error, so that results can be piped; --quiet leaves it out."""
    from pyro_dgm import progress

    monkeypatch.setattr(progress, "_draws", lambda stream: True)
    for command in (["evaluate", str(rbm_run), "--method", "ais"], ["impute", str(rbm_run), "-n", "2", "--draws", "9"]):
        for delay, more, shown in ((1e9, [], False), (0, [], True), (0, ["--quiet"], False)):
            monkeypatch.setattr(progress, "DELAY", delay)
            assert main([*command, *more]) == 0
            printed = capsys.readouterr()
            assert ("temperatures" in printed.err or "sweeps" in printed.err) == shown
            assert "%" not in printed.out


def test_advice_fits_the_rows(tmp_path, capsys):
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2, (40, 4))
    for rows, told in (
        (2 * bits - 1, "spins: give (x + 1) / 2"),
        (bits * 0.5, "--binarisation threshold"),
        (bits * 255, "Divide bytes by 255: they are then grey levels"),
        (bits * 16, "If these are pixels, divide them by 16: they are then grey levels"),
        (
            bits * [1, 80, 3, 200] + [0, 18, 0, 0],
            "got the value 18; expected 0 or 1. Whole numbers of such ranges are no pixels",
        ),
        (
            bits + [0, 150, 0, 0],
            "Whole numbers of such ranges are no pixels. Real numbers are for models of real columns",
        ),
        (rng.normal(size=(40, 4)), "0 or 1. Real numbers are for models of real columns, such as GaussianRBM"),
    ):
        np.savez(tmp_path / "own.npz", train=rows)
        assert fit("rbm", "--data", tmp_path / "own.npz", "--out", tmp_path / "run") == 2
        assert told in capsys.readouterr().err
    np.savez(tmp_path / "own.npz", train=bits)
    assert fit("boltzmannmachine", "--data", tmp_path / "own.npz", "--set", "unit=spin", "--out", tmp_path / "run") == 2
    assert "Rows of 0 and 1 are bits: give 2 x - 1" in capsys.readouterr().err


def test_a_model_that_needs_the_shape_of_pictures_takes_that_of_the_data(tmp_path):
    out = tmp_path / "run"
    assert fit("lapgan", "--out", out, "--binarisation", "none", "--set", "hidden=8") == 0
    assert tuple(dgm.load(out).shape) == (8, 8)


def test_labels_or_the_last_columns_are_the_code_of_a_generator(tmp_path, capsys):
    rng = np.random.default_rng(0)
    bits, kinds = rng.integers(0, 2, (60, 4)), rng.integers(0, 3, 60)
    table = tmp_path / "table.csv"
    rows = [f"{'abc'[kind]},{','.join(map(str, row))}" for kind, row in zip(kinds, bits, strict=True)]
    table.write_text("kind,a,b,c,d\n" + "\n".join(rows) + "\n")
    labelled, out = ("--data", table, "--labels", "kind", "--classes", 3), tmp_path / "labelled"
    assert fit("supervisedgenerator", *labelled, "--set", "hidden=5", "--out", out) == 0
    model = dgm.load(out)
    assert (model.visible, model.codes) == (4, 3)
    assert main(["sample", str(out), "-n", "7", "--label", "1", "--quiet"]) == 0
    assert np.load(out / "samples.npz")["x"][:, 4:].tolist() == [[0, 1, 0]] * 7
    np.save(tmp_path / "rows.npy", np.concatenate([bits, rng.normal(size=(60, 2))], 1))
    assert (
        fit("supervisedgenerator", "--data", tmp_path / "rows.npy", "--set", "codes=2", "--out", tmp_path / "own") == 0
    )
    assert dgm.load(tmp_path / "own").visible == 4
    assert fit("--config", tmp_path / "own", "--out", tmp_path / "again") == 0
    capsys.readouterr()
    assert fit("supervisedgenerator", "--data", table, "--labels", "kind", "--out", tmp_path / "none") == 2
    assert "--classes makes labels, one-hot, the code" in capsys.readouterr().err


def test_latents_that_never_change_are_counted_without_warnings(tmp_path, capsys):
    model = dgm.SBN(4, hidden=(3,))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(-50.0)
    model.fresh = False
    dgm.fit(model, torch.zeros(20, 4), epochs=1, learning_rate=1e-9, out=tmp_path / "run", progress=False)
    capsys.readouterr()
    assert main(["diagnose", str(tmp_path / "run"), "--draws", "20", "--quiet"]) == 0
    printed = capsys.readouterr()
    assert "6 of 6 never changed, and have no effective sample size and r_hat" in printed.out
    assert "divide" not in printed.err


def test_sequence_models_take_the_values_of_a_frame_from_the_data(tmp_path, capsys):
    rows = dgm.data.pad([torch.ones(2, 3), torch.zeros(4, 3), torch.ones(1, 3)] * 5)
    np.save(tmp_path / "frames.npy", rows.unflatten(1, (4, 4)).numpy())
    small = ("--set", "hidden=3", "--set", "latent=2")
    assert fit("variationalrnn", "--data", tmp_path / "frames.npy", *small, "--out", tmp_path / "run") == 0
    assert dgm.load(tmp_path / "run").features == 3
    assert re.search(r"valid_elbo_per_frame \S+ nats a frame", capsys.readouterr().out)
    assert fit("--config", tmp_path / "run", "--out", tmp_path / "again") == 0


def test_columns_that_a_model_is_given_are_known_whatever_is_asked(tmp_path, capsys):
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).integers(0, 2, (40, 8)))
    out = tmp_path / "run"
    assert (
        fit("conditionalrbm", "--data", tmp_path / "rows.npy", "--set", "inputs=6", "--set", "hidden=2", "--out", out)
        == 0
    )
    for share in ((), ("--known", "0.2")):
        assert main(["impute", str(out), "--draws", "10", "--quiet", *share]) == 0
        assert "with 2 of 8 columns imputed" in capsys.readouterr().out
        assert np.load(out / "imputed.npz")["known"].tolist() == [True] * 6 + [False] * 2


def test_samples_of_a_machine_with_labels_have_them(labelled_run, tmp_path):
    for verb in ("sample", "turing"):
        assert main([verb, str(labelled_run), "-n", "4", "--out", str(tmp_path), "--quiet"]) == 0
    x = np.load(tmp_path / "samples.npz")["x"]
    assert x.shape == (4, 74)
    assert x[:, 64:].sum(1).tolist() == [1] * 4


def test_one_row_and_rows_of_another_width_are_told_in_words(labelled_run, rbm_run, tmp_path, capsys):
    np.save(tmp_path / "one.npy", np.zeros((1, 64)))
    np.save(tmp_path / "narrow.npy", np.zeros((2, 7)))
    assert main(["evaluate", str(rbm_run), "--data", str(tmp_path / "one.npy"), "--quiet"]) == 0
    printed = capsys.readouterr().out
    assert "of one row alone" in printed
    assert "nan" not in printed
    assert main(["impute", str(labelled_run), "--rows", str(tmp_path / "narrow.npy"), "--quiet"]) == 2
    assert r"rows of 64 (with their label 74) columns" in capsys.readouterr().err
