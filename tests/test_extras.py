"""Without its extras the package works as far as it can, and says in one line what to install for the rest."""

import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pyro_dgm as dgm
from pyro_dgm import evaluation
from pyro_dgm.cli import main
from pyro_dgm.evaluation import pictures
from pyro_dgm.extras import EXTRAS, MissingExtra, need

VAE = dgm.VAE(4, latent=2, hidden=())
ROWS = torch.tensor([[0.0, 1, 1, 0], [1, 0, 0, 1]] * 8)


def hide(monkeypatch, *extras):
    """Make the modules of extras, and what is loaded of them, impossible to import."""
    modules = {module for extra in extras for module in EXTRAS[extra]}
    for name in list(sys.modules):
        if name.partition(".")[0] in modules or name.startswith("pyro_dgm.sklearn"):
            monkeypatch.delitem(sys.modules, name)
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delattr(dgm, "sklearn", raising=False)


@pytest.fixture
def bare(monkeypatch):
    """The package's core alone."""
    hide(monkeypatch, *EXTRAS)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on pictures, trained where everything is installed; beside it files that only extras can read."""
    folder = tmp_path_factory.mktemp("extras")
    (folder / "pictures").mkdir()
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(folder / "pictures" / "0.png")
    (folder / "rows.parquet").write_bytes(b"PAR1")
    (folder / "answers.json").write_text("{}")
    np.save(folder / "rows.npy", np.tile(ROWS, (10, 1)).reshape(-1, 2, 2))
    options = "--set hidden=3 --epochs 1 --quiet"
    assert main(f"fit rbm --data {folder / 'rows.npy'} --out {folder / 'run'} {options}".split()) == 0
    assert main(f"turing {folder / 'run'} -n 1 --quiet".split()) == 0
    return folder / "run"


def test_extras_are_those_that_can_be_installed():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    stated = {
        extra: {re.match(r"[\w-]+", wanted)[0] for wanted in packages}
        for extra, packages in project["optional-dependencies"].items()
    }
    core = {re.match(r"[\w-]+", wanted)[0] for wanted in project["dependencies"]}
    for extra, modules in EXTRAS.items():
        assert set(modules.values()) <= stated[extra]
        assert not set(modules.values()) & core
    assert all(extra in project["optional-dependencies"]["all"][0] for extra in EXTRAS)


def test_the_message_names_what_is_missing_alone(monkeypatch):
    hide(monkeypatch, "jax", "onnx")
    with pytest.raises(MissingExtra) as told:
        need("a test", "jax", "pictures", "onnx")
    assert str(told.value) == (
        'a test needs jax, numpyro, onnx and onnxscript, which are not installed: pip install "pyro-dgm[jax,onnx]"'
    )


@pytest.mark.usefixtures("bare")
def test_the_core_fits_evaluates_samples_and_imputes(tmp_path, capsys):
    """On the digits, and on a file of rows; where pictures would be drawn a line says what they need."""
    np.savez(tmp_path / "rows.npz", train=np.tile(ROWS, (3, 1)), test=ROWS)
    for model, data, shape in (("rbm", "digits", "hidden=4"), ("vae", tmp_path / "rows.npz", "latent=2")):
        out, place = tmp_path / model, str(tmp_path / model)
        fit = f"fit {model} --data {data} --set {shape} --epochs 1 --batch-size 300 --out {out} --quiet"
        assert main(fit.split()) == 0
        for verb in ("evaluate", "sample", "impute --draws 9", "condition --draws 9", f"rank --rows {data}"):
            assert main([*verb.split(), place, "--quiet"]) == 0, verb
        assert not list(out.glob("*.png"))
        assert isinstance(dgm.load(out).sample(2), torch.Tensor)
    said = capsys.readouterr().err.splitlines()
    assert set(said) == {
        "pyro-dgm: no pictures: drawing needs matplotlib and pillow, which are not installed: pip install "
        '"pyro-dgm[pictures]"'
    }
    assert len(said) <= 6


@pytest.mark.usefixtures("bare")
def test_the_demo_leaves_out_what_it_cannot_do(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("pyro_dgm.cli.commands.DEMO_EPOCHS", 1)
    assert main(["demo", "--out", str(tmp_path / "demo")]) == 0
    told = capsys.readouterr()
    assert (
        'left out: diagnose needs arviz and h5netcdf, which are not installed: pip install "pyro-dgm[arviz]"'
        in told.out
    )
    assert told.err.count("no pictures") == 1


COMMANDS = {
    "diagnose {run}": "arviz",
    "report {run}": "pictures",
    "turing {run}": "pictures",
    "turing {run} --answers {beside}/answers.json": "sklearn",
    "export {run} --onnx": "onnx",
    "evaluate {run} --engine jax": "jax",
    "sample {run} --format parquet": "tables",
    "sample {run} --format png": "pictures",
    "impute {run} --format parquet": "tables",
    "condition {run} --format png": "pictures",
    "fit rbm --out {out} --data {beside}/rows.parquet": "tables",
    "fit rbm --out {out} --data {beside}/pictures": "pictures",
    "fit rbm --out {out} --data natural_patches": "sklearn",
    "fit rbm --out {out} --data {beside}/rows.npy --logger tensorboard": "tensorboard",
    "impute {run} --rows {beside}/rows.parquet": "tables",
    "evaluate {run} --data {beside}/pictures": "pictures",
    "reproduce gan-mnist --out {out}": "arviz,sklearn",
    "reproduce dcgan-mnist --out {out}": "sklearn",
    "reproduce grbm-natural-patches --out {out}": "sklearn",
}


@pytest.mark.usefixtures("bare")
def test_commands_say_in_one_line_what_they_need_before_any_work(run, tmp_path, capsys):
    for command, extra in COMMANDS.items():
        files = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
        words = command.format(run=run, beside=run.parent, out=tmp_path / "out").split()
        assert main(words) == 2, command
        told = capsys.readouterr()
        assert told.out == "", command
        assert told.err.startswith("pyro-dgm: ")
        assert told.err.endswith(f' not installed: pip install "pyro-dgm[{extra}]"\n')
        assert told.err.count("\n") == 1
        assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == files, command
        assert not list((tmp_path / "out").rglob("*.safetensors")), command


def test_chains_on_jax_are_refused_without_it(run, capsys, monkeypatch):
    """ArviZ, which ``diagnose`` asks for first, is there."""
    hide(monkeypatch, "jax")
    assert main(["diagnose", str(run), "--engine", "jax"]) == 2
    assert (
        "engine='jax' of this kernel needs jax and numpyro, which are not installed: pip install \"pyro-dgm[jax]\""
        in (capsys.readouterr().err)
    )


def test_a_report_without_arviz_says_what_its_section_needs(run, tmp_path, monkeypatch):
    hide(monkeypatch, "arviz", "sklearn")
    page = tmp_path / "page.html"
    assert main(["report", str(run), "--out", str(page), "-n", "16", "--quiet"]) == 0
    for extra in ("arviz", "sklearn"):
        assert f"pip install &quot;pyro-dgm[{extra}]&quot;" in page.read_text()


PICTURES = {
    "drawing_animation": lambda: pictures.drawing_animation(torch.ones(2, 3, 4), (2, 2), "drawing.gif"),
    "drawing_sequence": lambda: pictures.drawing_sequence(torch.ones(2, 3, 4), (2, 2)),
    "energy_trace": lambda: pictures.energy_trace({}),
    "filters": lambda: pictures.filters(torch.ones(4, 2), (2, 2)),
    "imputations": lambda: pictures.imputations(ROWS, ROWS > 0, ROWS, (2, 2)),
    "latent_bars": lambda: pictures.latent_bars(dgm.kl_per_latent(VAE.model, VAE.guide, ROWS)),
    "latent_manifold": lambda: pictures.latent_manifold(lambda z: torch.ones(len(z), 4), (2, 2)),
    "reconstructions": lambda: pictures.reconstructions(ROWS, ROWS, (2, 2)),
    "sample_grid": lambda: pictures.sample_grid(ROWS, (2, 2)),
    "samples_and_data": lambda: pictures.samples_and_data(ROWS, ROWS, (2, 2)),
    "samples_and_neighbours": lambda: pictures.samples_and_neighbours(ROWS, ROWS, (2, 2)),
    "training_curve": lambda: pictures.training_curve([{"epoch": 1, "loss": 2.0}]),
}
NAMES = {
    "blind_test": lambda: evaluation.blind_test(ROWS, ROWS, (2, 2), n=2),
    "score_answers": lambda: evaluation.score_answers(
        {"kit": "a", "real": [True]}, {"kit": "a", "answers": {"0": "real"}}
    ),
    "two_sample_test": lambda: evaluation.two_sample_test(ROWS, ROWS),
    "precision_curve": lambda: evaluation.precision_curve(ROWS, ROWS, clusters=2),
    "sample_summary": lambda: evaluation.sample_summary(ROWS, ROWS, ROWS),
    "to_arviz": lambda: dgm.to_arviz(VAE, ROWS),
    "to_numpyro": lambda: dgm.to_numpyro(dgm.RBM(4, 2)()),
    "NumPyroGibbs": lambda: dgm.in_jax.NumPyroGibbs,
    "VectorizedMCMC": lambda: dgm.VectorizedMCMC(dgm.BlockGibbs(dgm.RBM(4, 2)()), 5, engine="jax"),
    "log_partition": lambda: dgm.log_partition(dgm.RBM(4, 2)(), method="ais", engine="jax"),
    "sklearn": lambda: dgm.sklearn,
    "RBMTransformer": lambda: dgm.RBMTransformer,
    "RBMClassifier": lambda: dgm.RBMClassifier,
    "export": lambda: dgm.export(dgm.RBM(4, 2), "export", ROWS, onnx=True),
    "fit": lambda: dgm.fit(dgm.RBM(4, 2), ROWS, epochs=1, logger="tensorboard"),
}


def test_every_picture_is_tried():
    assert set(PICTURES) == set(pictures.__all__)


@pytest.mark.usefixtures("bare")
def test_names_say_what_they_need():
    for ask in {**PICTURES, **NAMES}.values():
        with pytest.raises(MissingExtra, match=r'pip install "pyro-dgm\['):
            ask()
