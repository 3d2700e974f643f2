"""Families of conditionals: normalised, drawn as scored, read column by column, refused where they do not fit."""

import itertools

import numpy as np
import pytest
import scipy.stats
import torch

from pyro_dgm.autoregressive import outputs
from pyro_dgm.autoregressive.outputs import MixtureOutput, output

REAL = [("gaussian", 1), ("laplace", 1), ("gaussians:3", 3), ("laplaces:3", 3)]
MIXED = ["binary", "gaussians:2", "categorical:3", "laplace", "binary"]


def density(name, numbers, x):
    """The mixture's density at ``x`` from its formula, with scales floored by addition."""
    p = numbers.double().numpy()
    K = 1 if ":" not in name else int(name.split(":")[1])
    logits, means, scales = (p[:K] if K > 1 else np.zeros(1)), p[-2 * K : -K], outputs.FLOOR + np.exp(p[-K:])
    family = scipy.stats.norm if name.startswith("gaussian") else scipy.stats.laplace
    share = np.exp(logits - np.logaddexp.reduce(logits))
    return sum(w * family(m, s).pdf(x) for w, m, s in zip(share, means, scales, strict=True))


@pytest.mark.parametrize(("name", "components"), REAL)
def test_real_columns_have_the_formula_and_integrate_to_one(name, components):
    family = output(name, 1)
    numbers = 0.7 * torch.randn(1, family.parameters)
    assert family.parameters == (3 * components if components > 1 else 2)
    grid = torch.linspace(-60, 60, 400_001, dtype=torch.float64)
    log_p = family.log_prob(numbers.double().expand(len(grid), 1, -1), grid[:, None])[:, 0]
    np.testing.assert_allclose(log_p.exp(), density(name, numbers[0], grid.numpy()), atol=1e-12)
    # The trapezoid's error over a Laplace peak, h^2 / (6 b^2) with the step 3e-4 and scales above 0.05, is below 6e-6.
    assert float(torch.trapezoid(log_p.exp(), grid)) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("name", "components"), REAL)
def test_real_columns_are_drawn_as_scored(name, components):
    family, n = output(name, 1), 20_000
    numbers = 0.7 * torch.randn(1, family.parameters)
    drawn = np.sort(family.sample(numbers.expand(n, 1, -1))[:, 0].numpy())
    grid = np.linspace(-60, 60, 400_001)
    cdf = np.interp(drawn, grid, np.cumsum(density(name, numbers[0], grid)) * (grid[1] - grid[0]))
    distance = abs(cdf - np.arange(1, n + 1) / n).max()
    # Dvoretzky, Kiefer and Wolfowitz: beyond this with probability 1e-6; the sum's own error is a step times a density.
    assert distance < np.sqrt(np.log(2e6) / (2 * n)) + 1 / n + 3e-3


def test_laplace_draws_are_finite_where_a_uniform_is_zero(monkeypatch):
    monkeypatch.setattr(torch, "rand_like", lambda like: torch.zeros_like(like))
    assert output("laplace", 1).sample(torch.zeros(1, 2)).isfinite().all()


def test_scaled_gradient_changes_the_means_derivative_alone():
    plain, scaled = MixtureOutput(3), MixtureOutput(3, scaled_gradient=True)
    numbers, x = torch.randn(5, 2, 9, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64)
    found = []
    for family in (plain, scaled):
        leaf = numbers.clone().requires_grad_()
        value = family.log_prob(leaf, x)
        found.append((value, *torch.autograd.grad(value.sum(), leaf)))
    torch.testing.assert_close(found[0][0], found[1][0])
    scales = torch.ones_like(numbers)
    scales[..., 3:6] = outputs.FLOOR + numbers[..., 6:].exp()
    torch.testing.assert_close(found[0][1] * scales, found[1][1])


def test_categories_sum_to_one_and_follow_the_softmax():
    family = output("categorical:4", 1)
    numbers = torch.randn(1, 4)
    p = family.log_prob(numbers.expand(4, 1, -1), torch.arange(4.0)[:, None]).exp().flatten()
    np.testing.assert_allclose(p, scipy.special.softmax(numbers[0].numpy()), rtol=1e-5)
    n = 20_000
    counts = np.bincount(family.sample(numbers.expand(n, 1, -1)).long().flatten(), minlength=4)
    assert scipy.stats.chisquare(counts, n * p.double().numpy() / p.double().sum().item()).pvalue > 1e-6
    torch.testing.assert_close(family.encode(torch.tensor([2.0])), torch.tensor([[0.0, 0, 1, 0]]))


def test_mixed_columns_are_their_families():
    mixed = output(MIXED, 5)
    assert (mixed.parameters, mixed.features) == (6, 3)
    numbers = torch.randn(7, 5, 6)
    x = torch.tensor([[1.0, -0.3, 2, 0.4, 0]]).expand(7, -1)
    for column, name in enumerate(MIXED):
        family = output(name, 1)
        own = numbers[:, column : column + 1, : family.parameters]
        expected = family.log_prob(own, x[:, column : column + 1])[:, 0]
        torch.testing.assert_close(mixed.log_prob(numbers, x)[:, column], expected)
        torch.testing.assert_close(mixed.log_prob_column(column, numbers[:, column], x[:, column]), expected)
        features = mixed.encode(x)[:, column]
        torch.testing.assert_close(features[:, : family.features], family.encode(x[:, column : column + 1])[:, 0])
        assert not features[:, family.features :].any()
        torch.testing.assert_close(mixed.encode_column(column, x[:, column]), features)
    drawn = mixed.sample(numbers)
    assert not mixed.outside(drawn).any()
    assert mixed.support.check(drawn).all()
    assert output(["gaussian", "laplace"], 2).support is torch.distributions.constraints.real
    assert output(["binary", "binary"], 2).states == 2  # one family is no mixture of families


def test_mixed_columns_know_what_is_outside():
    mixed = output(MIXED, 5)
    bad = torch.tensor([[0.5, 0, 0, 0, 0], [0, 0, 3, 0, 0], [0, torch.nan, 0, 0, 0], [0, 9, 2, -9, 1]])
    expected = torch.zeros(4, 5, dtype=torch.bool)
    expected[0, 0] = expected[1, 2] = expected[2, 1] = True
    assert torch.equal(mixed.outside(bad), expected)


@pytest.mark.parametrize("name", ["binary", "categorical:3", "gaussian"])
def test_the_start_is_the_best_independent_column(name):
    """No other numbers near it do better on the data than the start does, but for its smoothing."""
    family = output(name, 1)
    x = torch.randint(0, family.states, (2000, 1)).float() if family.states else 2 + 3 * torch.randn(2000, 1)
    best = family.start(x)
    score = family.log_prob(best.expand(2000, 1, -1), x).mean()
    for direction in itertools.product((-0.1, 0.1), repeat=family.parameters):
        other = best + torch.tensor(direction)
        assert score >= family.log_prob(other.expand(2000, 1, -1), x).mean() - 1e-5


@pytest.mark.parametrize(("name", "components"), REAL)
def test_the_start_fits_real_data_somewhat(name, components):
    """It scores a normal sample not much below the best normal: components are spread, not thrown away."""
    x = 5 + 0.3 * torch.randn(5000, 1)
    family = output(name, 1)
    score = float(family.log_prob(family.start(x).expand(5000, 1, -1), x).mean())
    best = -0.5 * np.log(2 * np.pi * np.e * 0.09)
    assert best - 0.6 < score < best + 0.05


def test_centre_is_a_weighted_mean_or_the_likeliest_category():
    draws = torch.tensor([[[1.0, 2.0]], [[0.0, 1.0]], [[1.0, 2.0]]])
    shares = torch.tensor([[0.2], [0.4], [0.4]])
    torch.testing.assert_close(
        output(["gaussian", "categorical:3"], 2).centre(draws, shares), torch.tensor([[0.6, 2.0]])
    )


@pytest.mark.parametrize(
    "name", ["binar", "categorical", "categorical:1", "gaussians:1", "laplaces:x", "categorical:-3", 3, None]
)
def test_unknown_families_are_named(name):
    with pytest.raises(ValueError, match="expected 'binary'" if isinstance(name, str) else "."):
        output([name, "binary"], 2)


def test_a_declaration_is_needed_for_every_column():
    with pytest.raises(ValueError, match="got 2 families for 3 columns; declare one per column"):
        output(["binary", "gaussian"], 3)
    with pytest.raises(ValueError, match="column 1 is real"):
        output(["binary", "gaussian"], 2).values(1)
