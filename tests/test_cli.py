"""The command line, in the user's words."""

import json
import math
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

import pyro_dgm as dgm
from pyro_dgm.cli import show
from pyro_dgm.cli.main import main

FAST = ["--epochs", "2", "--quiet"]


@pytest.fixture(scope="module")
def rbm_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "rbm"
    assert main(["fit", "rbm", "--data", "digits", "--out", str(out), "--set", "hidden=8", *FAST]) == 0
    return out


@pytest.fixture(scope="module")
def vae_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "vae"
    options = ["--set", "latent=2", "--set", "hidden=(10,)"]
    assert main(["fit", "vae", "--data", "digits", "--out", str(out), *options, *FAST]) == 0
    return out


def test_list(capsys):
    assert main(["list", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert {"rbm", "vae", "boltzmannmachine"} <= set(content["models"])
    assert "digits" in content["data"]
    assert "rbm-binarized-mnist" in content["recipes"]
    assert main(["list"]) == 0
    assert "rbm" in capsys.readouterr().out


def test_evaluate_json(rbm_run, capsys):
    assert main(["evaluate", str(rbm_run), "--json"]) == 0
    figure = json.loads(capsys.readouterr().out)
    assert figure["kind"] == "exact"
    assert figure["space"] == "binary (threshold 0.5)"
    assert figure["n"] == 300
    assert set(figure) == {
        "value", "stderr_estimator", "stderr_data", "lower", "upper", "kind", "method", "space", "n",
        "measure", "given", "columns", "details",
    }  # fmt: skip


def test_evaluate_is_repeatable(rbm_run, capsys):
    printed = []
    for _ in range(2):
        assert main(["evaluate", str(rbm_run), "--method", "ais", "--seed", "3"]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert "AIS and reverse AIS" in printed[0]


def test_the_compiled_engine_evaluates_and_diagnoses(rbm_run, vae_run, capsys):
    pytest.importorskip("numpyro")
    values = []
    for engine in ("torch", "jax"):
        command = ["evaluate", str(rbm_run), "--method", "ais", "--engine", engine, "--json"]
        assert main(command) == 0
        values.append(json.loads(capsys.readouterr().out))
    torch_, jax = values
    error = (torch_["stderr_estimator"] ** 2 + jax["stderr_estimator"] ** 2) ** 0.5
    assert abs(torch_["value"] - jax["value"]) < 5 * error + 1e-3
    assert torch_["value"] != jax["value"]
    command = ["diagnose", str(rbm_run), "--draws", "20", "--warmup", "10", "--chains", "4", "--engine", "compiled"]
    assert main(command) == 0
    assert "r_hat" in capsys.readouterr().out
    assert main(["evaluate", str(vae_run), "--engine", "compiled"]) == 2
    assert "log_likelihood got method='importance' and ['engine']" in capsys.readouterr().err
    assert main(["diagnose", str(vae_run), "--engine", "compiled"]) == 2
    assert "VAE has no chains to run" in capsys.readouterr().err
    assert main(["diagnose", str(vae_run), "--warmup", "10"]) == 2
    assert "--warmup got 10, but VAE has no chains to run" in capsys.readouterr().err
    assert main(["evaluate", str(rbm_run), "--engine", "tensorflow", "--method", "ais"]) == 2
    assert "expected one of 'auto', 'torch', 'compiled', 'jax'" in capsys.readouterr().err
    assert main(["evaluate", str(rbm_run), "--engine", "compiled", "--method", "raise"]) == 2
    assert "the option 'engine'; RBM has base, chains, temperatures" in capsys.readouterr().err


def test_evaluate_by_several_orders(rbm_run, tmp_path, capsys):
    """The last number is the figure, as from Python; the others' figures stand below it."""
    out = tmp_path / "orderless"
    options = ["--set", "hidden=(8,)", "--set", "seed=3", "--out", str(out)]
    assert main(["fit", "orderlessnade", "--data", "digits", *options, *FAST]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(out), "--orders", "1", "3", "--json"]) == 0
    figure = json.loads(capsys.readouterr().out)
    model, rows = dgm.train.load(out), dgm.data.load("digits", binarisation="threshold").test.x
    each = torch.stack([member.log_prob(rows) for member in model.ensemble(3).members]).detach()
    assert figure["value"] == pytest.approx(float((each.logsumexp(0) - math.log(3)).mean()), abs=1e-3)
    assert figure["details"]["orders_1"] == pytest.approx(float(each[0].mean()), abs=1e-3)
    assert main(["evaluate", str(out), "--orders", "1", "3"]) == 0
    assert "orders 1: " in capsys.readouterr().out
    assert main(["evaluate", str(out), "--orders", "0"]) == 2
    assert "orders got 0" in capsys.readouterr().err
    assert main(["evaluate", str(rbm_run), "--orders", "1", "16"]) == 2
    assert "the option 'orders'; RBM has base" in capsys.readouterr().err


def test_evaluate_a_vae(vae_run, capsys):
    assert main(["evaluate", str(vae_run), "--split", "valid"]) == 0
    assert capsys.readouterr().out.startswith("≥")


def test_sample_and_pictures(rbm_run, vae_run):
    assert main(["sample", str(rbm_run), "-n", "20"]) == 0
    assert np.load(rbm_run / "samples.npz")["x"].shape == (20, 64)
    assert {"samples.png", "filters.png", "training.png"} <= {p.name for p in rbm_run.iterdir()}
    assert main(["sample", str(vae_run), "-n", "5"]) == 0
    assert (vae_run / "manifold.png").exists()


@pytest.mark.parametrize("run", ["rbm_run", "vae_run"])
def test_impute_rows_of_a_file(run, request, tmp_path, capsys):
    folder = request.getfixturevalue(run)
    rows = np.zeros((3, 64), np.float32)
    rows[0, 5:9], rows[2, 0] = np.nan, np.nan
    np.save(tmp_path / "holes.npy", rows)
    assert main(["impute", str(folder), "--rows", str(tmp_path / "holes.npy"), "--draws", "20"]) == 0
    assert "3 rows with 5 unknown values imputed" in capsys.readouterr().out
    found = np.load(folder / "imputed.npz")
    assert (found["known"] == ~np.isnan(rows)).all()
    assert np.isfinite(found["means"]).all()
    assert (found["means"][found["known"]] == 0).all()
    for strange, match in ((rows[:, 1:], "rows of"), (rows[:0], "rows of"), (np.full_like(rows, np.inf), "infinite")):
        np.save(tmp_path / "strange.npy", strange)
        assert main(["impute", str(folder), "--rows", str(tmp_path / "strange.npy")]) == 2
        assert match in capsys.readouterr().err
    assert main(["impute", str(folder), "--known", "height"]) == 2
    assert "the columns of the run's data have no names; expected a share" in capsys.readouterr().err
    for flag, value in (("-n", "3"), ("--known", "0.5")):
        assert main(["impute", str(folder), "--rows", str(tmp_path / "holes.npy"), flag, value]) == 2
        assert f"{flag} got {value}, which is for test rows" in capsys.readouterr().err
    assert main(["impute", str(folder), "--rows", str(tmp_path / "nothing.npy")]) == 2
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("run", ["rbm_run", "vae_run"])
def test_impute(run, request):
    folder = request.getfixturevalue(run)
    assert main(["impute", str(folder), "-n", "3", "--draws", "20"]) == 0
    found = np.load(folder / "imputed.npz")
    assert (found["means"][:, found["known"]] == found["x"][:, found["known"]]).all()


def test_diagnose(rbm_run, vae_run, capsys):
    assert main(["diagnose", str(rbm_run), "--draws", "50", "--warmup", "10", "--chains", "4"]) == 0
    assert "r_hat" in capsys.readouterr().out
    assert (rbm_run / "chains.nc").exists()
    assert main(["diagnose", str(vae_run), "--draws", "50"]) == 0
    printed = capsys.readouterr().out
    assert "z[0, 0]" in printed
    assert "latents of 300 test rows: KL(q || p) in nats per row" in printed
    assert re.search(r"  z +\d\S* \(closed form\), [0-2] of 2 units active\n +by unit: \S+, \S+\n", printed)
    assert (vae_run / "latents.png").exists()


def test_resume(rbm_run, capsys):
    command = ["fit", "rbm", "--data", "digits", "--out", str(rbm_run), "--set", "hidden=8", "--epochs", "3", "--quiet"]
    assert main([*command, "--resume"]) == 0
    assert "epoch 3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["fit", "rmb"], "expected one of"),
        (["fit", "rbm", "--data", "mnits"], "mnits"),
        (["fit", "rbm", "--data", "nothing.npz"], "nothing.npz"),
        (["fit", "rmb", "--data", "digits"], "did you mean rbm?"),
        (["fit", "rbm", "--set", "hiden=3"], "has no option 'hiden'"),
        (["fit", "rbm", "--set", "hidden"], "NAME=VALUE"),
        (["fit", "rbm", "--objective", "chain=3"], "has no option 'chain'"),
        (["fit", "rbm", "--objective", "kind=pcdd"], "kind got 'pcdd'; expected pcd, cd, exact"),
        (["fit", "rbm", "--set", "hidden=0"], "positive integers"),
        (["fit", "rbm", "--set", "hidden=many"], "hidden got 'many'; expected an integer"),
        (["fit", "rbm", "--set", "hidden=false"], "hidden got 'false'; expected an integer"),
        (["fit", "sbn", "--set", "autoregressive=maybe"], "autoregressive got 'maybe'; expected true or false"),
        (["fit", "rbm", "--set", "hidden=100000000000"], "asks for 2.56e+04 GB"),
        (["fit", "rbm", "--objective", "chains=100000000000000"], "GB for data of 64 columns"),
        (["fit", "vae", "--objective", "particles=9223372036854775807"], "GB for data of 64 columns"),
        (["fit", "meancovariancerbm", "--objective", "step_size=(3,)"], "expected a number"),
        (["fit", "meancovariancerbm", "--objective", "target_acceptance=iwae"], "expected a number or none"),
        (["fit", "rbm", "--objective", "k=1+2j"], "k got '1+2j'; expected an integer, 2 integers or none"),
        (["fit", "rbm", "--objective", "centred"], "NAME=VALUE"),
        (["fit", "dbm", "--classes", "100000000000"], "GB for data of 64 columns"),
        (["fit", "rbm", "--seed", "99999999999999999999"], "--seed got 99999999999999999999; expected a whole number"),
        (["fit", "vae", "--set", "latent=0"], "latent got 0"),
        (["fit", "variationalrnn"], "make the rows with dgm.data.pad"),
        (["fit"], "fit needs a model"),
        (["evaluate", "x", "--data", "y", "--split", "all"], "--split: invalid choice"),
        (["diagnose", "x", "--warmup", "-1"], "--warmup got -1; expected a whole number of at least 0"),
        (["diagnose", "x", "--chains", "0"], "--chains got 0"),
        (["diagnose", "x", "--draws", "3"], "--draws got 3; expected a whole number of at least 4"),
        (["fit", "rbm", "--binarisation", "none"], "binarisation"),
        (["fit", "rbm", "--binarisation", "dither"], "dither"),
        (["fit", "rbm", "--epochs", "0"], "epochs got 0"),
        (["evaluate", "no-such-run"], "holds no run"),
        (["reproduce", "nothing"], "no recipe"),
        (["fit", "rbm", "--device", "tpuu"], "tpuu"),
        (["evaluate", "x", "--device", "tpuu"], "tpuu"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(command, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    extra = ["--quiet"] if command[0] == "fit" else []
    assert main([*command, *extra]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("pyro-dgm: ")
    assert message in error
    assert not (tmp_path / "runs").exists()


def test_missing_data_says_where_to_get_it(capsys, tmp_path, monkeypatch):
    monkeypatch.delenv("PYRO_DGM_DATA", raising=False)
    assert main(["fit", "rbm", "--data", "mnist", "--data-dir", str(tmp_path), "--quiet"]) == 2
    assert "PYRO_DGM_DATA" in capsys.readouterr().err


def test_unknown_arguments_exit_with_2():
    result = subprocess.run([sys.executable, "-m", "pyro_dgm.cli", "fit"], capture_output=True, text=True)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


def test_options_are_not_abbreviated(rbm_run, capsys):
    """``--dat`` is no short form of ``--data`` or of ``--data-dir``."""
    assert main(["evaluate", str(rbm_run), "--dat", "x"]) == 2
    assert "unrecognized arguments: --dat x" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--hidden", "4"], ["--hidden=4"]])
def test_options_of_models_go_by_set(words, capsys):
    assert main(["fit", "rbm", "--data", "digits", *words]) == 2
    said = capsys.readouterr().err
    assert "--set hidden=4" in said
    assert said.count("\n") == 1
    assert main(["fit", "rbm", "--data", "digits", "--nonsense"]) == 2
    assert "--set" not in capsys.readouterr().err


def test_a_reader_that_has_gone_is_no_error():
    """As in ``pyro-dgm list | head -2``."""
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "pyro_dgm.cli", "list"]
    with subprocess.Popen(command, stdout=writing, stderr=subprocess.PIPE, text=True) as listing:
        os.close(writing)
        os.close(reading)
        _, errors = listing.communicate()
    assert (listing.returncode, errors) == (0, "")


def test_an_npz_of_ones_own(tmp_path, capsys):
    path = tmp_path / "bits.npz"
    np.savez(path, train=np.random.default_rng(0).integers(0, 2, (200, 9)))
    out = tmp_path / "run"
    assert main(["fit", "rbm", "--data", str(path), "--out", str(out), "--set", "hidden=3", *FAST]) == 0
    assert main(["evaluate", str(out)]) == 0
    assert "binary (as given)" in capsys.readouterr().out
    assert main(["sample", str(out), "-n", "4"]) == 0


def test_demo(tmp_path, monkeypatch, capsys):
    from pyro_dgm.cli import commands

    monkeypatch.setattr(commands, "DEMO_EPOCHS", 2)
    assert main(["demo", "--out", str(tmp_path / "demo")]) == 0
    printed = capsys.readouterr().out
    assert "nats [" in printed
    assert "r_hat" in printed
    names = {p.name for p in (tmp_path / "demo").iterdir()}
    assert {"weights.safetensors", "chains.nc", "samples.png", "imputed.png", "energies.png", "filters.png"} <= names


@pytest.mark.parametrize("model", ["dbm", "conditionalvae"])
def test_labelled_models_from_the_shell(model, tmp_path, capsys):
    """--classes appends the labels for training, and evaluate finds them again."""
    run = str(tmp_path / model)
    hidden = ["--set", "hidden=(10,5)"] if model == "dbm" else ["--set", "latent=2", "--set", "hidden=(10,)"]
    assert (
        main(["fit", model, "--data", "digits", "--classes", "10", "--epochs", "1", "--quiet", "--out", run, *hidden])
        == 0
    )
    if model == "conditionalvae":
        assert main(["evaluate", run]) == 0
        assert "given" in capsys.readouterr().out


def test_sample_of_a_machine_with_slabs(tmp_path):
    """Its weights have a dimension of their own for slabs and are no picture a unit."""
    out = tmp_path / "run"
    data = ["--data", "digits", "--binarisation", "none", "--preprocessing", "standardised"]
    assert main(["fit", "spikeslabrbm", *data, "--out", str(out), "--set", "hidden=4", "--epochs", "1", "--quiet"]) == 0
    assert main(["sample", str(out), "-n", "3"]) == 0
    assert (out / "samples.png").is_file()
    assert not (out / "filters.png").exists()


def test_diagnose_of_a_formula(tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["fit", "fvbn", "--data", "digits", "--out", str(out), *FAST]) == 0
    assert main(["diagnose", str(out)]) != 0
    assert "neither chains to run nor latent variables" in capsys.readouterr().err


def test_a_method_takes_its_options(rbm_run, vae_run, capsys):
    """By their types, of every way to a likelihood; the line that advises more particles names the option."""
    run = ["evaluate", str(vae_run), "--method-option"]
    assert main([*run, "particles=30"]) == 0
    assert "K=30," in capsys.readouterr().out
    show.print_details({"particles": 30.0, "pareto_k_above_0.7": 0.5})
    assert "take more, as --method-option particles=300)" in capsys.readouterr().out
    of_ais = ["--method-option", "chains=9", "--method-option", "temperatures=[0, 0.5, 1]"]
    assert main(["evaluate", str(rbm_run), *of_ais]) == 0
    assert "AIS and reverse AIS" in capsys.readouterr().out
    of_base = ["--method", "ais", "--method-option", "base=mean-field", "--method-option", "temperatures=5"]
    assert main(["evaluate", str(rbm_run), *of_base]) == 0
    rank = ["rank", str(vae_run), "--rows", "digits", "--by", "likelihood", "--method-option", "particles=2", "--quiet"]
    assert main(rank) == 0
    assert "K=2)" in capsys.readouterr().out
    both = ["--engine", "torch", "--method-option", "engine=torch"]
    for command, error in (
        ([*run, "chains=4"], "likelihood of VAE has no option 'chains'; it has particles, rows"),
        (["report", *run[1:], "chains=4"], "likelihood of VAE has no option 'chains'; it has particles, rows"),
        ([*run, "chains=4", "--method", "importance"], "VAE by 'importance' has no option 'chains'; it has particles, rows"),
        ([*run, "chains=many", "--method", "ais"], "chains got 'many'; expected an integer"),
        ([*run, "particles"], "--method-option got 'particles'; expected NAME=VALUE"),
        ([*run, "particles=0"], "particles got 0; expected an integer of at least 1"),
        (["evaluate", str(rbm_run), "--method-option", "reverse=perhaps"], "expected true or false or none"),
        (["evaluate", str(rbm_run), "--method-option", "base=[[0, 1]]"], "expected mean-field or none"),
        (["evaluate", str(rbm_run), *both], "--engine and --method-option engine=... say the same"),
    ):  # fmt: skip
        assert main(command) == 2, command
        assert error in capsys.readouterr().err
