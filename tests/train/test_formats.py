"""Runs that older versions wrote: their options under today's names."""

import json

import pytest
import torch

import pyro_dgm as dgm
from pyro_dgm.files import write_json
from pyro_dgm.train.checkpoint import read_config

ROWS = (torch.arange(24) % 3 > 0).float().view(6, 4)

OLD = {
    "vae": (lambda: dgm.VAE(4, latent=2, hidden=(3,)), {"output": ("likelihood", "bernoulli")}),
    "grey vae": (
        lambda: dgm.VAE(4, latent=2, hidden=(3,), output="logistic", levels=2),
        {"output": ("likelihood", "logistic")},
    ),
    "rnade": (lambda: dgm.RNADE(4, hidden=3, components=2, output="laplace"), {"output": ("family", "laplace")}),
    "dbm": (lambda: dgm.DBM(4, hidden=(3, 2), rounds=7), {"rounds": ("steps", 7)}),
    "draw": (lambda: dgm.DRAW(4, steps=2, latent=2, hidden=3), {}),
    "rbm": (lambda: dgm.RBM(4, 3), {}),
}


def written(folder, model, names, **options):
    """A finished run, its configuration as format 1 had it."""
    dgm.fit(model, ROWS, epochs=1, out=folder, progress=False, **options)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    assert config["format"] == 2
    config["format"] = 1
    for name, (before, value) in names.items():
        del config["options"][name]
        config["options"][before] = value
    if config["objective"]["objective"] == "MultiPrediction":
        config["objective"]["steps"] = config["objective"].pop("rounds")
    write_json(path, config)


@pytest.mark.parametrize("name", OLD)
def test_a_run_of_format_1_loads(name, tmp_path):
    make, names = OLD[name]
    model = make()
    written(tmp_path, model, names)
    again = dgm.load(tmp_path)
    assert again.options() == model.options()
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize("multi", [False, True])
def test_a_run_of_format_1_goes_on(multi, tmp_path):
    make, names = OLD["dbm"]
    criterion = {"objective": dgm.MultiPrediction(rounds=3)} if multi else {}
    written(tmp_path, make(), names, **criterion)
    run = dgm.fit(make(), ROWS, epochs=2, out=tmp_path, resume=True, progress=False, **criterion)
    assert len(run.history) == 2


def test_a_models_own_options_of_that_name_stay(tmp_path):
    write_json(
        tmp_path / "config.json",
        {"format": 1, "model": "vae", "origin": "a.py:VAE", "options": {"likelihood": "bernoulli"}},
    )
    assert read_config(tmp_path)["options"] == {"likelihood": "bernoulli"}


@pytest.mark.parametrize("number", [0, 3, None])
def test_a_format_of_another_time_is_refused(number, tmp_path):
    write_json(tmp_path / "config.json", {"format": number, "model": "vae", "options": {}})
    with pytest.raises(ValueError, match="reads formats 1 to 2"):
        dgm.load(tmp_path)
