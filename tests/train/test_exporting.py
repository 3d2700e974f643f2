"""Exported programs give the model's numbers in a process that cannot import this package."""

import importlib.util
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

import pyro_dgm as dgm
from pyro_dgm import registry
from pyro_dgm.cli import main
from pyro_dgm.data import reading, stored
from pyro_dgm.train import programs

ASK = """
import importlib.util, json, sys, torch
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("pyro_dgm", "pyro", "numba", "safetensors"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
found = {}
for folder, rows, latent in json.loads(sys.argv[1]):
    spec = importlib.util.spec_from_file_location("model", folder + "/model.py")
    model = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(model)
    x = torch.tensor(rows)
    of = found[folder] = {}
    for name in ("encode", "reconstruct"):
        if hasattr(model, name):
            of[name] = getattr(model, name)(x).tolist()
    if hasattr(model, "decode"):
        of["decode"] = model.decode(torch.arange(5 * latent).reshape(5, latent) / 10).tolist()
    torch.manual_seed(0)
    of["sample"] = model.sample(700, **({"steps": 30} if hasattr(model, "STEPS") else {})).tolist()
print(json.dumps(found))
"""

MODELS = {
    "rbm": lambda: dgm.RBM(4, 3),
    "vae": lambda: dgm.VAE(4, latent=2, hidden=(5,), output="gaussian"),
    "flowgenerator": lambda: dgm.FlowGenerator(4),
    "denoisingautoencoder": lambda: dgm.DenoisingAutoencoder(4, hidden=(5,)),
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Models with random parameters, rows, and what their scripts say of them in a process of plain torch."""
    torch.manual_seed(0)
    models, asked = {}, []
    for name, make in MODELS.items():
        model, x = make(), torch.randint(0, 2, (21, 4)).float()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        folder = tmp_path_factory.mktemp(name)
        assert dgm.export(model, folder, x, rows=350) == {}
        models[str(folder)] = (name, model, x)
        asked.append((str(folder), x.tolist(), getattr(model, "latent", 0)))
    done = subprocess.run(
        [sys.executable, "-I", "-c", ASK, json.dumps(asked)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    return {name: (model, x, said[folder]) for folder, (name, model, x) in models.items()}


@pytest.mark.parametrize("name", MODELS)
def test_programs_give_the_models_numbers(exported, name):
    model, x, said = exported[name]
    abilities = model.abilities()
    assert ("encode" in said) == ("hidden_features" in abilities)
    assert ("reconstruct" in said) == ("reconstruct" in abilities)
    assert ("decode" in said) == hasattr(model, "decode")
    with torch.no_grad():
        for part, method in (("encode", "hidden_features"), ("reconstruct", "reconstruct")):
            if part in said:
                np.testing.assert_allclose(said[part], getattr(model, method)(x), rtol=1e-4, atol=1e-5)
        if "decode" in said:
            z = torch.arange(5 * model.latent).reshape(5, model.latent) / 10
            np.testing.assert_allclose(said["decode"], model.decode(z), rtol=1e-4, atol=1e-5)
    assert np.shape(said["sample"]) == (700, 4)


def test_the_script_of_a_machine_draws_from_its_law(exported):
    """Frequencies of all sixteen states against their probabilities: chi-squared with 15 degrees of freedom."""
    model, _, said = exported["rbm"]
    numbers = (np.array(said["sample"]) @ [8, 4, 2, 1]).astype(int)
    states = torch.tensor([[(i >> shift) & 1 for shift in (3, 2, 1, 0)] for i in range(16)]).float()
    expected = 700 * np.exp(model.evidence(states).values.detach().numpy())
    statistic = ((np.bincount(numbers, minlength=16) - expected) ** 2 / expected).sum()
    assert statistic < 44.3  # exceeded with probability 1e-4


def test_samples_of_a_feed_forward_model_are_its_own(exported):
    """The same seed gives the same rows: of what a program draws at once, those that the model draws itself."""
    for name in ("vae", "flowgenerator"):
        model, _, said = exported[name]
        torch.manual_seed(0)
        np.testing.assert_allclose(said["sample"][:350], model.sample(350).detach(), rtol=1e-4, atol=1e-5)


def test_machines_whose_chains_run_in_compiled_loops_are_sampled_too(tmp_path):
    """Those loops draw other numbers of the same law than torch's operations, which the program has."""
    rbm = dgm.RBM(64, hidden=20)
    assert dgm.export(rbm, tmp_path, torch.bernoulli(torch.full((40, 64), 0.4)), rows=40) == {}
    assert (tmp_path / "step.pt2").exists()


def test_what_cannot_be_exported_is_refused_in_words(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="the graph of its operations in torch does not give its numbers"):
        programs.program(lambda x: x * (2 if x.sum() > 0 else 3), (torch.ones(2),), (-torch.ones(2),))
    monkeypatch.setattr(programs, "LARGEST_GRAPH", 5)
    with pytest.raises(ValueError, match=r"RBM has no part that can be exported: its graph has more than 5 operations"):
        dgm.export(dgm.RBM(4, 2), tmp_path, torch.ones(3, 4))
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="x got NaN; expected rows without missing values"):
        dgm.export(dgm.RBM(4, 2), tmp_path, torch.full((3, 4), torch.nan))


IN_WORDS = (
    r"its graph has more than \d+ operations",
    r"the sizes of its tensors change with the numbers that are drawn or given",
    r"the graph of its operations in torch does not give its numbers: it branches by values",
    r"torch cannot write it as a program \(argument of type: <class 'torch\._C\.Generator'>\)",  # torch 2.4
)


@pytest.mark.parametrize("name", registry.models())
def test_every_model_is_exported_or_refused_in_words(name, tmp_path, monkeypatch):
    """What is exported gives the model's numbers; longer graphs take long to write, and are refused as the longest ones are."""
    monkeypatch.setattr(programs, "LARGEST_GRAPH", 100)
    model, x = registry.models()[name].example()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    try:
        refused = dgm.export(model, tmp_path, x, rows=4)
    except ValueError as error:
        refused = {"all": str(error).partition(": ")[2]}
    for reasons in refused.values():
        assert all(re.match("|".join(IN_WORDS), reason) for reason in reasons.split("; ")), reasons
    if "all" in refused:
        return
    script = _script(tmp_path)
    for part, method in (("encode", "hidden_features"), ("reconstruct", "reconstruct")):
        if hasattr(script, part):
            with torch.no_grad():
                torch.testing.assert_close(
                    getattr(script, part)(x[:3]), getattr(model, method)(x[:3]), rtol=1e-4, atol=1e-5
                )
    if hasattr(script, "decode"):
        z = torch.randn(3, getattr(model, "inputs", model.latent))
        torch.testing.assert_close(script.decode(z), model.decode(z), rtol=1e-4, atol=1e-5)
    if hasattr(script, "sample"):
        model.check_data(script.sample(3, **({"steps": 2} if hasattr(script, "STEPS") else {})))


def _script(folder):
    spec = importlib.util.spec_from_file_location("model", folder / "model.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


@pytest.mark.parametrize("make", [lambda: dgm.RBM(4, 3), lambda: dgm.VAE(4, latent=2, hidden=(5,))])
def test_the_script_of_a_model_in_double_precision(make, tmp_path):
    """It takes rows of any precision, keeps no gradients, and says what is wrong with no rows."""
    model, x = make().double(), np.random.default_rng(0).integers(0, 2, (3, 4)).astype(np.float32)
    assert dgm.export(model, tmp_path, x, rows=4) == {}
    script = _script(tmp_path)
    assert script.sample(5).numpy().dtype == np.float64
    with torch.no_grad():
        theirs = model.hidden_features(torch.tensor(x).double())
    np.testing.assert_allclose(script.encode(x).numpy(), theirs, rtol=1e-10)
    if hasattr(script, "decode"):
        assert not script.decode(torch.zeros(2, 2, requires_grad=True)).requires_grad
    for ask in (lambda: script.sample(0), lambda: script.encode(x[:0])):
        with pytest.raises(ValueError, match="got 0 rows; expected at least one"):
            ask()


def test_the_command_on_rows_that_stay_in_a_file(tmp_path, monkeypatch):
    """It reads some of them, with a file of more than the memory."""
    rows, run = tmp_path / "rows.npy", tmp_path / "run"
    np.save(rows, np.random.default_rng(0).integers(0, 2, (40, 5)).astype(np.uint8))
    monkeypatch.setattr(reading, "LARGEST_READ", 0)
    assert main(f"fit rbm --set hidden=2 --data {rows} --epochs 1 --out {run} --quiet".split()) == 0
    monkeypatch.setattr(stored, "memory", lambda: 1)
    assert main(["export", str(run), "--rows-at-once", "2", "--quiet"]) == 0
    assert (run / "export" / "encode.pt2").exists()


def test_no_file_of_a_user_is_overwritten(tmp_path):
    """A program of the user's own called model.py, and the weights of a run, stay; an export may be repeated."""
    rbm, x = dgm.RBM.example()
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "model.py").write_text("print('mine')\n")
    dgm.fit(rbm, x, epochs=1, out=tmp_path / "run", progress=False)
    for name in ("own", "run"):
        before = {path: path.read_bytes() for path in (tmp_path / name).iterdir() if path.is_file()}
        with pytest.raises(ValueError, match="something else than an export"):
            dgm.export(rbm, tmp_path / name, x)
        assert {path: path.read_bytes() for path in (tmp_path / name).iterdir() if path.is_file()} == before
    for _ in range(2):
        dgm.export(rbm, tmp_path / "export", x)


def test_the_command(tmp_path):
    run = tmp_path / "run"
    rows = tmp_path / "rows.npy"
    np.save(rows, np.random.default_rng(0).integers(0, 2, (40, 5)).astype(np.float32))
    assert main(f"fit vae --set latent=2 --set hidden=(4,) --data {rows} --epochs 1 --out {run} --quiet".split()) == 0
    assert main(["export", str(run), "--quiet"]) == 0
    names = {path.name for path in (run / "export").iterdir()}
    assert names == {
        "encode.pt2",
        "reconstruct.pt2",
        "decode.pt2",
        "sample.pt2",
        "model.py",
        "weights.safetensors",
    }


def test_onnx_files_give_the_models_numbers(tmp_path):
    pytest.importorskip("onnxscript")
    onnx = pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    rbm, x = dgm.RBM(4, 3), torch.randint(0, 2, (8, 4)).float()
    assert dgm.export(rbm, tmp_path, x, rows=8, onnx=True) == {}
    program = onnx.load(str(tmp_path / "encode.onnx"))
    found = ReferenceEvaluator(program).run(None, {program.graph.input[0].name: x.numpy()})[0]
    np.testing.assert_allclose(found, rbm.hidden_features(x).detach(), rtol=1e-5, atol=1e-6)
