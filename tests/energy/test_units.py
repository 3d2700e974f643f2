"""Units against enumeration, quadrature and derivatives."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, special

import pyro_dgm as dgm

UNITS = {
    "binary": (dgm.Binary(3), (torch.tensor([-2.0, 0.3, 1.7]),)),
    "spin": (dgm.Spin(3), (torch.tensor([-2.0, 0.3, 1.7]),)),
    "categorical": (dgm.Categorical(2, 3), (torch.tensor([[0.2, -1.0, 0.5], [2.0, 0.0, -0.3]]),)),
    "at most one": (dgm.AtMostOne(2, 4), (torch.tensor([[0.5, -0.3, 1.2, 0.1], [-2.0, 1.0, 0.3, 3.0]]),)),
    "max pooled": (
        dgm.MaxPooled(2, 3),
        (torch.tensor([[0.5, -0.3, 1.2], [-2.0, 1.0, 0.3]]), torch.tensor([[0.7, 0.0, 0.0], [-1.4, 0.0, 0.0]])),
    ),
    "gaussian": (dgm.Gaussian(3), (torch.tensor([-2.0, 0.3, 1.7]), torch.tensor([-0.5, -1.2, -0.2]))),
    "gaussian elsewhere": (
        dgm.Gaussian(3).at(torch.tensor([4.0, -3.0, 0.5])),
        (torch.tensor([-2.0, 0.3, 1.7]), torch.tensor([-0.5, -1.2, -0.2])),
    ),
}
CASES = pytest.mark.parametrize(("unit", "eta"), UNITS.values(), ids=UNITS)


def density_sum(unit, eta, atom):
    """The integral (or sum) of exp<eta, T(x)> over one atom."""
    if unit.states_per_atom is None:
        a, b = (float(e[atom]) for e in eta)
        origin = 0.0 if unit.origin is None else float(unit.origin[atom])
        return integrate.quad(lambda x: math.exp(a * x + b * (x - origin) ** 2), -60, 60, points=[0.0])[0]
    states = unit.atom_states(eta[0].double())
    terms = sum(statistic * e.double()[atom] for statistic, e in zip(unit.T(states), eta, strict=True))
    return float((terms.sum(-1) if states.dim() > 1 else terms).exp().sum())


@CASES
def test_log_partition(unit, eta):
    expected = torch.tensor([math.log(density_sum(unit, eta, atom)) for atom in range(unit.atoms)])
    torch.testing.assert_close(unit.A(*eta), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dims", [1, 2])
def test_log_partitions_of_many_bits(dims):
    """log(1 + exp) of logits from -100 to 100, in double precision by NumPy, summed over atoms in one or two dimensions; its
    derivatives of both orders. Allowed are a rounding of every factor 1 + exp(-|l|), and thirty of the sum."""
    unit, logits = dgm.Binary(*(128, 2)[-dims:]), torch.randn(3, 50, 128, 2) * 20
    logits[0, 0, :2] = torch.tensor([[100.0, -100.0], [0.0, -0.0]])
    eta = logits.clone().requires_grad_()
    wide = logits.double().numpy()
    total = unit.summed_A(dims, eta)
    torch.testing.assert_close(
        total.double(),
        torch.tensor(np.logaddexp(0, wide).sum((-1, -2)[:dims])),
        atol=256 * 2.0**-24,
        rtol=30 * 2.0**-24,
    )
    (slope,) = torch.autograd.grad(total.sum(), eta, create_graph=True)
    torch.testing.assert_close(slope.double(), torch.tensor(special.expit(wide)), atol=1e-6, rtol=1e-5)
    (curvature,) = torch.autograd.grad(slope.sum(), eta)
    torch.testing.assert_close(
        curvature.double(), torch.tensor(special.expit(wide) * special.expit(-wide)), atol=1e-6, rtol=1e-5
    )


@CASES
def test_mean_is_the_gradient_of_the_log_partition(unit, eta):
    eta = tuple(e.double().requires_grad_() for e in eta)
    gradients = torch.autograd.grad(unit.A(*eta).sum(), eta)
    for mean, gradient in zip(unit.mean(*eta), gradients, strict=True):
        torch.testing.assert_close(mean, gradient)


@CASES
def test_samples_have_the_mean_statistics(unit, eta):
    n = 100_000
    draws = unit.sample(*(e.expand(n, *e.shape) for e in eta))
    assert unit.support.check(draws).all()
    for statistic, mean in zip(unit.T(draws), unit.mean(*eta), strict=True):
        # Six standard errors: a failure by chance in one of 21 entries has probability below 1e-7.
        error = statistic.double().std(0) / math.sqrt(n)
        assert ((statistic.double().mean(0) - mean).abs() < 6 * error + 1e-6).all()


@CASES
def test_natural_from_mean_inverts_the_mean(unit, eta):
    back = unit.mean(*unit.natural_from_mean(*unit.mean(*eta)))
    for mean, other in zip(unit.mean(*eta), back, strict=True):
        torch.testing.assert_close(mean, other, atol=1e-2, rtol=1e-2)


def test_clamping_inside_a_categorical_atom_rules_out_categories():
    unit = dgm.Categorical(1, 3)
    eta = torch.tensor([[0.0, 1.0, 2.0]]).expand(50_000, 1, 3)
    mask = torch.tensor([[False, False, True]])
    draws = unit.sample_clamped((eta,), mask, torch.zeros(1, 3))
    assert (draws.sum(-1) == 1).all()
    expected = torch.softmax(torch.tensor([0.0, 1.0]), 0)
    assert (draws[:, 0].mean(0)[:2] - expected).abs().max() < 6 * 0.5 / math.sqrt(50_000)
    assert (draws[..., 2] == 0).all()


def test_clamping_a_category_to_one():
    unit = dgm.Categorical(2, 3)
    value = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    draws = unit.sample_clamped((torch.zeros(9, 2, 3),), value == 1, value)
    assert (draws[:, 0] == value[0]).all()


def test_gaussian_without_a_normaliser_says_so():
    for bad in (0.5, -torch.inf, torch.nan):
        assert "negative" in dgm.Gaussian(2).check(torch.zeros(2), torch.tensor([-1.0, bad]))


@pytest.mark.parametrize("shape", [(), (0,), (-3,), (2.5,), (True,)])
def test_bad_shapes(shape):
    with pytest.raises(ValueError, match="positive integers"):
        dgm.Binary(*shape)
