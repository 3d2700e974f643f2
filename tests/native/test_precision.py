"""Sweeps with bfloat16 products: close to exact ones, and refused where they would be slower."""

from __future__ import annotations

import functools

import pytest
import torch

import pyro_dgm as dgm
from pyro_dgm.native import precision, processor, products

needs_units = pytest.mark.skipif(
    not precision.has_bfloat16_products(), reason="no units for products of bfloat16 matrices"
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
        single = products.linear(states, model.weight, model.hidden_bias)
        with precision.bfloat16_products():
            rounded = products.linear(states, model.weight, model.hidden_bias)
        bound = 2.0**-8 * (states @ model.weight.abs()) + 1e-4
    assert ((rounded - exact).abs() <= bound).all()
    assert (rounded - exact).abs().max() > 20 * (single - exact).abs().max()
    assert (rounded.sigmoid() - exact.sigmoid()).abs().max() < 0.02


@needs_units
def test_products_of_bits_are_rounded_too(monkeypatch):
    """Tables of sums would not round, and take longer than the units for these products."""
    monkeypatch.setattr(processor, "multiplies_bits", lambda *_, **__: True)
    states, weight = torch.randint(0, 2, (512, 300)).float(), rbm().weight.detach()
    exact, single = states @ weight.bfloat16().float(), products.linear(states, weight)
    with precision.bfloat16_products():
        rounded = products.linear(states, weight)
    torch.testing.assert_close(rounded, exact, rtol=1e-4, atol=1e-3)
    assert (rounded - single).abs().max() > 2.0**-12


@needs_units
def test_torch_s_own_products_and_ours_leave_the_units_to_one_another():
    """Either configures the units for tiles of its own shapes, and may take its configuration for granted."""
    states, weight = torch.randint(0, 2, (70, 300)).float(), torch.randn(300, 40)
    half, other = states.bfloat16(), torch.randn(300, 24).bfloat16()
    expected, exact = half @ other, states.double() @ weight.double()
    for _ in range(3):
        torch.testing.assert_close(products.product_of_bits(states, weight, None).double(), exact, rtol=1e-5, atol=1e-4)
        assert torch.equal(half @ other, expected)


@needs_units
def test_the_switch_is_put_back():
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    with pytest.raises(KeyError), precision.bfloat16_products():
        raise KeyError
    assert matmul.fp32_precision == before
    kernel = dgm.BlockGibbs(rbm()(), precision="bfloat16")
    kernel.sample(kernel.start(300))
    assert matmul.fp32_precision == before


@needs_units
def test_chains_are_those_of_the_machine_with_rounded_weights():
    """Bits are bfloat16 numbers, so that ten sweeps keep exact draws of that machine: means to six standard errors."""
    torch.manual_seed(1)
    model = dgm.RBM(64, 10)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    weight, chains = model.weight.detach().bfloat16().float(), 100_000
    hidden = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 10)
    fields = hidden @ weight.t() + model.visible_bias.detach()
    share = (hidden @ model.hidden_bias.detach() + torch.nn.functional.softplus(fields).sum(1)).softmax(0)
    drawn = torch.multinomial(share, chains, replacement=True)
    state = {"visible": fields[drawn].sigmoid().bernoulli(), "hidden": hidden[drawn]}
    kernel = dgm.BlockGibbs(model(), precision="bfloat16")
    for _ in range(10):
        state = kernel.sample(state)
    error = (state["visible"].mean(0) - share @ fields.sigmoid()).abs()
    assert error.max() < 6 * 0.5 / chains**0.5
    with torch.no_grad(), precision.bfloat16_products():
        rounded = products.linear(state["visible"], model.weight, model.hidden_bias)
    torch.testing.assert_close(rounded, state["visible"] @ weight + model.hidden_bias.detach())
    assert (rounded - products.linear(state["visible"], model.weight, model.hidden_bias)).abs().max() > 2.0**-12


@needs_units
def test_training_takes_it_for_the_chains_and_says_so(monkeypatch):
    entered = []

    def spy():
        entered.append(torch.is_grad_enabled())
        return precision.bfloat16_products()

    monkeypatch.setitem(precision.PRECISIONS, "bfloat16", spy)
    model = rbm()
    objective = model.objective(k=3, precision="bfloat16")
    assert "bfloat16" in str(objective.options())
    rows = torch.randint(0, 2, (200, 300)).float()
    dgm.fit(model, rows, objective=objective, epochs=1, batch_size=50, progress=False)
    assert len(entered) >= 4  # once a step, for its three sweeps
    assert not any(entered), "gradients are taken in single precision"


@needs_units
def test_the_exact_phase_has_no_chains_for_it():
    with pytest.raises(ValueError, match="it belongs to kind='pcd' or kind='cd'"):
        dgm.RBM(3, 2).objective("exact", precision="bfloat16")


def test_processors_without_units_refuse_it(monkeypatch):
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: False)
    with pytest.raises(ValueError, match="amx_bf16"):
        dgm.BlockGibbs(rbm()(), precision="bfloat16")
    with pytest.raises(ValueError, match="amx_bf16"):
        rbm().objective(precision="bfloat16")


@pytest.mark.parametrize("make", [dgm.BlockGibbs, lambda d, precision: dgm.RBM(3, 2).objective(precision=precision)])
def test_an_unknown_precision(make):
    with pytest.raises(ValueError, match="precision got 'float16'"):
        make(rbm()(), precision="float16")


def test_double_precision_is_not_rounded(monkeypatch):
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: True)
    with pytest.raises(ValueError, match="float64"):
        dgm.BlockGibbs(rbm().double()(), precision="bfloat16")


@needs_units
def test_the_compiled_engine_asks_for_single_precision():
    pytest.importorskip("numpyro")
    with pytest.raises(ValueError, match="expected 'float32'"):
        dgm.VectorizedMCMC(dgm.BlockGibbs(rbm()(), precision="bfloat16"), 5, engine="jax")
    assert functools.partial(dgm.BlockGibbs, precision="bfloat16")(rbm()()).precision == "bfloat16"
