"""Sweeps with bfloat16 products: close to exact ones, and refused where they would be slower."""

from __future__ import annotations

import functools

import pytest
import torch

import pyro_dgm as dgm
from pyro_dgm.energy import fast, processor

needs_units = pytest.mark.skipif(
    not processor.multiplies_bfloat16() or not hasattr(torch.backends.mkldnn, "matmul"),
    reason="no units for products of bfloat16 matrices",
)


def rbm(seed=0):
    torch.manual_seed(seed)
    model = dgm.RBM(300, 200)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2)
    return model


@needs_units
def test_probabilities_are_off_by_the_rounding_of_weights():
    """A field of n terms w of relative error 2^-8 is off by at most 2^-8 sum|w x|; a probability by a quarter of that."""
    model, states = rbm(), torch.randint(0, 2, (512, 300)).float()
    with torch.no_grad():
        exact = torch.addmm(model.hidden_bias.double(), states.double(), model.weight.double())
        single = fast.linear(states, model.weight, model.hidden_bias)
        with fast.bfloat16_products():
            rounded = fast.linear(states, model.weight, model.hidden_bias)
        bound = 2.0**-8 * (states @ model.weight.abs()) + 1e-4
    assert ((rounded - exact).abs() <= bound).all()
    assert (rounded - exact).abs().max() > 20 * (single - exact).abs().max()
    assert (rounded.sigmoid() - exact.sigmoid()).abs().max() < 0.02


@needs_units
def test_the_switch_is_put_back():
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    with pytest.raises(KeyError), fast.bfloat16_products():
        raise KeyError
    assert matmul.fp32_precision == before
    kernel = dgm.BlockGibbs(rbm()(), precision="bfloat16")
    kernel.sample(kernel.start(300))
    assert matmul.fp32_precision == before


@needs_units
def test_chains_keep_the_distribution_within_the_rounding():
    """Unit means of 40,000 chains of a machine of 12 units, against enumeration, to six standard errors and 2^-7 of bias."""
    torch.manual_seed(1)
    model = dgm.RBM(8, 4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 1.0)
    dist = model()
    states = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 8)
    mean = dist.log_prob(states).exp() @ states
    kernel = dgm.BlockGibbs(dist, precision="bfloat16")
    state = {"visible": dist.sample((40_000,)), "hidden": torch.zeros(40_000, 4)}
    for _ in range(3):
        state = kernel.sample(state)
    assert (state["visible"].mean(0) - mean).abs().max() < 6 * 0.5 / 200 + 2.0**-7


@needs_units
def test_training_takes_it_and_says_so():
    model = rbm()
    objective = model.objective(precision="bfloat16")
    assert "bfloat16" in str(objective.options())
    rows = torch.randint(0, 2, (200, 300)).float()
    run = dgm.fit(model, rows, objective=objective, epochs=1, progress=False)
    assert run.history[-1]["loss"] == run.history[-1]["loss"]


def test_processors_without_units_refuse_it(monkeypatch):
    monkeypatch.setattr(fast, "multiplies_bfloat16", lambda: False)
    with pytest.raises(ValueError, match="amx_bf16"):
        dgm.BlockGibbs(rbm()(), precision="bfloat16")
    with pytest.raises(ValueError, match="amx_bf16"):
        rbm().objective(precision="bfloat16")


@pytest.mark.parametrize("make", [dgm.BlockGibbs, lambda d, precision: dgm.RBM(3, 2).objective(precision=precision)])
def test_an_unknown_precision(make):
    with pytest.raises(ValueError, match="precision got 'float16'"):
        make(rbm()(), precision="float16")


def test_double_precision_is_not_rounded(monkeypatch):
    monkeypatch.setattr(fast, "multiplies_bfloat16", lambda: True)
    with pytest.raises(ValueError, match="float64"):
        dgm.BlockGibbs(rbm().double()(), precision="bfloat16")


@needs_units
def test_the_compiled_engine_asks_for_single_precision():
    pytest.importorskip("numpyro")
    with pytest.raises(ValueError, match="expected 'float32'"):
        dgm.VectorizedMCMC(dgm.BlockGibbs(rbm()(), precision="bfloat16"), 5, engine="numpyro")
    assert functools.partial(dgm.BlockGibbs, precision="bfloat16")(rbm()()).precision == "bfloat16"
