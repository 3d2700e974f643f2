"""Differences of log-partition functions equal the plain ones to rounding, and draws follow their natural parameters."""

import numpy as np
import pytest
import torch

from pyro_dgm import native
from pyro_dgm.annealing import AnnealingPath, forward_ais
from pyro_dgm.energy import Binary, Spin
from pyro_dgm.energy.tempered_units import draw, weigh_and_draw
from pyro_dgm.native.rise_vectors import LIMIT


def exact(base, fields, before, after):
    """In double precision, without cancellation: softplus(y) - softplus(y - d) = -log1p(sigmoid(y) expm1(-d))."""
    d = (after - before) * fields.double()
    return -torch.log1p(torch.sigmoid(base.double() + after * fields.double()) * torch.expm1(-d)).sum(-1)


def case(rows=64, units=784):
    return 6 * torch.randn(units), 2 * torch.rand(rows, units) - 1


@pytest.mark.parametrize("step", [0.25, 0.05, 1e-3, 1e-6])
def test_sums_are_exact_to_single_precision(step):
    """784 terms of at most ``step``: rounding p and the terms costs 2⁻²² of each, the series 5e-9."""
    base, fields = case()
    p = torch.sigmoid(base + (0.5 + step) * fields).double()
    expected = exact(base, fields, 0.5, 0.5 + step)
    with torch.no_grad():
        fast, drawn = weigh_and_draw(Binary(784), (base,), (fields,), 0.5, 0.5 + step)
    assert fast.shape == (64, 1)
    bound = 784 * (step * 2**-22 + (5e-9 if step > 0.02 else 0))
    assert float((fast.squeeze(-1).double() - expected).abs().max()) < bound
    assert drawn.shape == (64, 784)
    assert float((drawn - p).sum().abs()) < 6 * float((p * (1 - p)).sum().sqrt())


def test_the_remainder_of_the_series_is_what_the_limit_says():
    """The seventh derivative of softplus is bounded by 0.409, by its polynomial in the sigmoid on a fine grid."""
    p = np.polynomial.Polynomial([0, 1])
    derivative = p
    for _ in range(6):
        derivative = derivative.deriv() * p * (1 - p)
    largest = np.abs(derivative(np.linspace(0, 1, 1_000_001))).max()
    assert largest < 0.409
    assert largest * LIMIT**7 / 5040 < 5e-9


@pytest.mark.parametrize("shape", [(5, 150), (3, 4, 40), (7, 12)])
def test_every_machine_of_a_batch_has_its_own_base(shape):
    """Fields of chains and machines: wide layers by the loop, narrow ones without it."""
    base, fields = 6 * torch.randn(shape), 2 * torch.rand(20, *shape) - 1
    expected = exact(base, fields, 0.5, 0.55)
    p = torch.sigmoid(base + 0.55 * fields).double()
    with torch.no_grad():
        loop = native.weigh_and_draw(base, fields.clone(), 0.5, 0.55)
        rise, drawn = weigh_and_draw(Binary(shape[-1]), (base,), (fields,), 0.5, 0.55)
    assert (loop is None) == (shape[-1] < native.draws.FEW_COLUMNS)
    # Without the loop two log-partitions below 32 are subtracted, each rounded by 2⁻¹⁹.
    rounding = 0.05 * 2**-22 + 5e-9 if loop is not None else 2**-18
    torch.testing.assert_close(rise.sum(-1).double(), expected, rtol=0, atol=shape[-1] * rounding)
    assert drawn.shape == (20, *shape)
    assert float((drawn - p).sum().abs()) < 6 * float((p * (1 - p)).sum().sqrt())
    means = (drawn - p).sum(0) / (p * (1 - p)).sum(0).sqrt().clamp_min(1)
    assert float(means.abs().max()) < 6


@pytest.mark.parametrize("value", [2.6, -400.0, float("nan"), float("inf")])
def test_steps_beyond_the_series_take_the_plain_way(value):
    base, fields = case()
    fields[3, 5] = value
    expected = torch.nn.functional.softplus(base + 0.6 * fields) - torch.nn.functional.softplus(base + 0.5 * fields)
    with torch.no_grad():
        result, drawn = weigh_and_draw(Binary(784), (base,), (fields,), 0.5, 0.6)
    assert drawn.shape == (64, 784)
    torch.testing.assert_close(result.squeeze(-1), expected.sum(-1), equal_nan=True, rtol=1e-5, atol=1e-4)


def test_other_units_precisions_and_gradients_take_the_plain_way():
    base, fields = case()
    with torch.no_grad():
        assert weigh_and_draw(Spin(784), (base,), (fields,), 0.5, 0.51)[0].shape == fields.shape
        doubles, _ = weigh_and_draw(Binary(784), (base.double(),), (fields.double(),), 0.5, 0.51)
        torch.testing.assert_close(doubles.sum(-1), exact(base, fields, 0.5, 0.51), rtol=1e-9, atol=1e-9)
    assert weigh_and_draw(Binary(784), (base,), (fields.requires_grad_(),), 0.5, 0.51)[0].requires_grad


def test_annealing_is_the_same_with_and_without_it(monkeypatch):
    """The same chains, weighed in double precision and by the fast loop: rounding of 30 steps is all that differs."""
    import pyro_dgm as dgm

    rbm = dgm.RBM(120, 50)
    with torch.no_grad():
        rbm.weight.normal_(0, 0.2)
        machine = rbm().machine
        base = {layer: unit.neutral(torch.zeros(1)) for layer, unit in machine.graph.layers.items()}
        betas = torch.linspace(0, 1, 31, dtype=torch.float64)
        torch.manual_seed(1)
        fast, _ = forward_ais(AnnealingPath(machine, base), betas, 100, torch.Size())
        calls = []

        def plain(unit, base, fields, before, after):
            calls.append(unit)
            (b,), (f,) = base, fields
            low, high = (b.double() + beta * f.double() for beta in (before, after))
            rise = unit.A(high) - unit.A(low)
            return rise, weigh_and_draw(unit, base, fields, before, after)[1]

        monkeypatch.setattr("pyro_dgm.annealing.units.weigh_and_draw", plain)
        torch.manual_seed(1)
        slow, _ = forward_ais(AnnealingPath(machine, base), betas, 100, torch.Size())
    assert len(calls) == 30
    torch.testing.assert_close(fast.double(), slow.double(), rtol=0, atol=2e-4)
    assert float(fast.std()) > 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["compiled", "plain"])
@pytest.mark.parametrize("moved", [False, True])
def test_draws_at_several_temperatures(dtype, moved):
    """Every row at the next temperature, from its own fields or another row's: means within six standard deviations."""
    chains, units, betas = 3000, 5, torch.tensor([0.0, 0.4, 1.0], dtype=dtype)
    base, fields = torch.randn(units, dtype=dtype), 2 * torch.randn(9, units, dtype=dtype)
    source = torch.randperm(9) if moved else None
    many = fields.repeat(chains // 3, 1)
    sources = None if source is None else (torch.arange(0, 3 * chains, 9).view(-1, 1) + source).view(-1)
    with torch.no_grad():
        drawn = draw(Binary(units), (base,), (many,), betas, sources)
    assert drawn.shape == (chains, 3, units)
    taken = (fields if source is None else fields[source]).view(3, 3, units)
    p = torch.sigmoid(base + betas.view(3, 1) * taken)
    found = drawn.view(-1, 3, 3, units).mean(0)
    assert ((found - p).abs() < 6 * (p * (1 - p) / (chains // 3)).sqrt() + 1e-6).all()
