"""Spike-and-slab sparse coding against enumeration of its spikes, quadrature, and its own samples."""

import itertools
import math

import numpy as np
import pytest
import torch
from oracles import boltzmann as oracle
from pyro import poutine
from pyro.infer import Trace_ELBO
from scipy import stats

import pyro_dgm as dgm
from pyro_dgm.annealing.weights import log_mean_exp
from pyro_dgm.inference.importance import log_weights
from pyro_dgm.models.real_valued.spike_slab_coding import S3C


def make(visible=4, hidden=5, seed=1, scale=0.7, **options):
    """A model with random parameters and rows drawn from it."""
    s3c = oracle.randomise(S3C(visible, hidden, **options), torch.Generator().manual_seed(seed), scale).double()
    torch.manual_seed(seed)
    return s3c, s3c.sample(8)


def orthogonal():
    """A model whose columns of W are orthogonal in the metric of beta: then the posterior is a product."""
    s3c, _ = make(4, 3, seed=5)
    with torch.no_grad():
        columns = torch.linalg.qr(s3c.weight).Q * torch.tensor([0.5, 1.5, 3.0])
        s3c.weight.copy_((-0.5 * s3c.log_precision).exp().unsqueeze(-1) * columns)
    return s3c, s3c.sample(8)


def numbers(s3c):
    return {name: parameter.detach().double().numpy().copy() for name, parameter in s3c.named_parameters()}


def spikes(n):
    return np.array(list(itertools.product((0.0, 1.0), repeat=n)))


def enumerated(p, x):
    """log p(x, h) of every row and every h, with full covariances of the visibles."""
    columns = []
    for h in spikes(len(p["spike_bias"])):
        prior = -np.logaddexp(0, np.where(h > 0, -1, 1) * p["spike_bias"]).sum()
        cov = (
            np.diag(np.exp(-p["log_precision"])) + (p["weight"] * h * np.exp(-p["log_slab_precision"])) @ p["weight"].T
        )
        mean = p["visible_bias"] + p["weight"] @ (h * p["slab_mean"])
        columns.append(prior + stats.multivariate_normal(mean, cov).logpdf(np.atleast_2d(x)))
    return np.stack(np.broadcast_arrays(*(np.atleast_1d(c) for c in columns)), -1)


def elbo(p, x, h, s, variance):
    """The ELBO of one row's q: spikes listed one by one, Gaussian expectations of every term of log p - log q."""
    alpha, beta, total = np.exp(p["log_slab_precision"]), np.exp(p["log_precision"]), 0.0
    for on in spikes(len(h)):
        q = np.where(on > 0, h, 1 - h)
        mean, var = on * s, np.where(on > 0, variance, 1 / alpha)
        miss = x - p["visible_bias"] - p["weight"] @ mean
        squares = miss**2 + p["weight"] ** 2 @ (on * var)
        value = 0.5 * (np.log(beta) - math.log(2 * math.pi) - beta * squares).sum()
        value -= np.logaddexp(0, np.where(on > 0, -1, 1) * p["spike_bias"]).sum()
        value += 0.5 * (np.log(alpha / (2 * math.pi)) - alpha * (var + (mean - on * p["slab_mean"]) ** 2)).sum()
        value += 0.5 * np.log(2 * math.pi * math.e * var).sum() - np.log(q).sum()
        total += q.prod() * value
    return total


def start(p):
    """q before the first round: the prior, with the slabs' posterior variances."""
    variance = 1 / (np.exp(p["log_slab_precision"]) + np.exp(p["log_precision"]) @ p["weight"] ** 2)
    return stats.logistic.cdf(p["spike_bias"]), p["slab_mean"].copy(), variance


def best(p, x, h, s, variance, i):
    """The maximum over one spike and its slab: p(h_i, s_i | x) with all other terms of the sum at their means."""
    alpha, beta = np.exp(p["log_slab_precision"])[i], np.exp(p["log_precision"])
    rest = h * s
    rest[i] = 0.0
    residual = x - p["visible_bias"] - p["weight"] @ rest
    slope = alpha * p["slab_mean"][i] + p["weight"][:, i] @ (beta * residual)
    logit = p["spike_bias"][i] + 0.5 * (slope**2 * variance[i] - alpha * p["slab_mean"][i] ** 2)
    return 1 / (1 + np.exp(-logit) / np.sqrt(alpha * variance[i])), slope * variance[i]


@pytest.mark.parametrize(("visible", "hidden", "seed"), [(4, 5, 1), (1, 2, 2), (3, 7, 3), (6, 1, 4)])
def test_evidence_is_the_enumerated_one(visible, hidden, seed):
    s3c, x = make(visible, hidden, seed)
    found = s3c.evidence(x, "exact")
    expected = [oracle.logsumexp(row) for row in enumerated(numbers(s3c), x.numpy())]
    np.testing.assert_allclose(found.values, expected, rtol=1e-10)
    assert found.kind == "exact"
    assert found.stderr == found.lower == found.upper == 0
    assert s3c.evidence(x).kind == "exact"


def test_evidence_is_the_integral_over_the_slabs():
    """Gauss-Hermite quadrature of the programme's own joint density: 1 visible, 2 spikes with their slabs."""
    s3c, x = make(1, 2, seed=2)
    p, x = numbers(s3c), x[:4]
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    z, w = np.stack(np.meshgrid(nodes, nodes), -1).reshape(-1, 2), np.outer(weights, weights).ravel() / (2 * math.pi)
    total = np.zeros(len(x))
    for h in spikes(2):
        s = h * p["slab_mean"] + z * np.exp(-0.5 * p["log_slab_precision"])
        points = {"spike": torch.as_tensor(h).expand(len(s), 2), "slab": torch.as_tensor(s)}
        for n, row in enumerate(x):
            trace = poutine.trace(poutine.condition(s3c.model, points)).get_trace(row.expand(len(s), 1))
            trace.compute_log_prob()
            log_p = trace.nodes["spike"]["log_prob"] + trace.nodes["x"]["log_prob"]
            total[n] += w @ log_p.detach().exp().numpy()
    np.testing.assert_allclose(s3c.evidence(x, "exact").values, np.log(total), atol=1e-8)


def test_samples_have_the_moments_of_the_mixture():
    """Means and second moments of x, and those of the slabs, with and without their spikes."""
    s3c, _ = make(3, 4, seed=6)
    p, n = numbers(s3c), 40_000
    with torch.no_grad():
        torch.manual_seed(0)
        trace = poutine.trace(s3c.model).get_trace(None, n)
    h, s, x = (trace.nodes[name]["value"].numpy() for name in ("spike", "slab", "x"))
    on, alpha = stats.logistic.cdf(p["spike_bias"]), np.exp(p["log_slab_precision"])
    mean = p["visible_bias"] + p["weight"] @ (on * p["slab_mean"])
    spread = on / alpha + on * (1 - on) * p["slab_mean"] ** 2
    cov = np.diag(np.exp(-p["log_precision"])) + (p["weight"] * spread) @ p["weight"].T
    for found, expected in (
        (x, mean),
        (x[:, :, None] * x[:, None], cov + np.outer(mean, mean)),
        (h * s, on * p["slab_mean"]),
        ((1 - h) * s, 0 * on),
        ((1 - h) * s**2, (1 - on) / alpha),
        (h * s**2, on * (1 / alpha + p["slab_mean"] ** 2)),
    ):
        # Six standard errors of independent draws, for 29 figures: exceeded once in 2e7 runs.
        error = found.std(0) / math.sqrt(n)
        assert (abs(found.mean(0) - expected) < 6 * error).all()


@pytest.mark.parametrize("rounds", [0, 1, 20])
def test_bound_is_the_elbo_of_q(rounds):
    s3c, x = make()
    h, s = (t.numpy() for t in s3c.posterior(x, rounds))
    p = numbers(s3c)
    expected = [elbo(p, x[n].numpy(), h[n], s[n], start(p)[2]) for n in range(len(x))]
    np.testing.assert_allclose(s3c.bound(x, rounds).detach(), expected, rtol=1e-10)


def test_guide_draws_from_that_q():
    """The closed form is the mean of log p - log q over the guide's draws, six standard errors for eight rows."""
    s3c, x = make()
    torch.manual_seed(0)
    n = 10_000
    with torch.no_grad():
        drawn = log_weights(s3c.model, s3c.guide, x, particles=n)
    error = drawn.std(0) / math.sqrt(n)
    assert ((drawn.mean(0) - s3c.bound(x).detach()).abs() < 6 * error).all()
    assert (6 * error < 0.15).all()


def test_every_coordinate_update_raises_the_elbo():
    s3c, x = make(seed=8)
    p = numbers(s3c)
    for row in x.numpy()[:2]:
        h, s, variance = start(p)
        value = elbo(p, row, h, s, variance)
        for _, i in itertools.product(range(4), range(len(h))):
            h[i], s[i] = best(p, row, h, s, variance, i)
            value, before = elbo(p, row, h, s, variance), value
            assert value > before - 1e-12
        # At a maximum no small move of one number helps.
        for _, i in itertools.product(range(200), range(len(h))):
            h[i], s[i] = best(p, row, h, s, variance, i)
        value = elbo(p, row, h, s, variance)
        for i, move in itertools.product(range(len(h)), (-1e-3, 1e-3)):
            unit = move * np.eye(len(h))[i]
            assert elbo(p, row, h, s + unit, variance) < value
            assert elbo(p, row, h, s, variance * (1 + unit)) < value
            assert elbo(p, row, h * (1 + unit * (1 - h)), s, variance) < value


def test_parallel_rounds_end_where_single_updates_do():
    s3c, x = S3C.example()
    s3c, x = s3c.double(), x.double()
    p, expected = numbers(s3c), []
    for row in x.numpy():
        h, s, variance = start(p)
        for _, i in itertools.product(range(200), range(len(h))):
            h[i], s[i] = best(p, row, h, s, variance, i)
        expected.append((elbo(p, row, h, s, variance), h, s))
    values, h, s = (np.array(part) for part in zip(*expected, strict=True))
    found = s3c.posterior(x, 1000)
    np.testing.assert_allclose(found[0], h, atol=1e-6)
    np.testing.assert_allclose(found[1], s, atol=1e-6)
    np.testing.assert_allclose(s3c.bound(x).detach(), values, atol=2e-3)
    assert (s3c.bound(x, 0).detach().numpy() < values - 0.05).all()


@pytest.mark.parametrize(("hidden", "bias", "weight"), [(30, 0.0, 2.0), (60, -2.0, 3.0), (60, 1.0, 1.0)])
def test_no_round_lowers_the_bound_however_coherent_the_dictionary(hidden, bias, weight):
    """Columns that all resemble one another: undamped parallel updates lose hundreds of nats here."""
    torch.manual_seed(3)
    s3c = S3C(8, hidden).double()
    with torch.no_grad():
        s3c.weight.copy_(weight * (0.7 * torch.randn(8, 1) + 0.7 * torch.randn(8, hidden)))
        s3c.spike_bias.fill_(bias)
        s3c.slab_mean.copy_(torch.randn(hidden))
        x = s3c.sample(20)
        bounds = torch.stack([s3c.bound(x, rounds) for rounds in range(25)])
    assert (bounds.diff(dim=0) > -1e-9 * bounds.abs().max()).all()
    assert (bounds[-1] > bounds[0] + 1).all()


def test_bound_is_exact_where_the_posterior_is_a_product():
    for s3c, x in (make(4, 1, seed=9), orthogonal()):
        np.testing.assert_allclose(s3c.bound(x, 1).detach(), s3c.evidence(x, "exact").values, rtol=1e-10)
        joint = enumerated(numbers(s3c), x.numpy())
        weights = np.exp(joint - joint.max(1, keepdims=True))
        expected = weights @ spikes(s3c.hidden) / weights.sum(1, keepdims=True)
        np.testing.assert_allclose(s3c.posterior(x, 1)[0], expected, rtol=1e-9)


def test_bound_is_below_the_likelihood():
    for seed in range(10):
        s3c, x = make(seed=seed, scale=1.0)
        gap = s3c.evidence(x, "exact").values - s3c.bound(x).detach()
        assert (gap > 0).all()
        assert gap.max() > 0.01


def test_annealing_from_the_factorial_guide():
    """E[w] = p(x) for any number of temperatures, and more of them bring the bound to the likelihood.

    The bound at 32 chains lies below by half the variance of a weight over 32, less than 0.01 nats; its error is known.
    """
    s3c, x = make(seed=3, rounds=5)
    x = x[:4]
    exact = s3c.evidence(x, "exact").values
    torch.manual_seed(0)
    rough, fine = (s3c.evidence(x, "ais", temperatures=n, chains=32, num_steps=3) for n in (2, 40))
    assert "annealing from the guide" in fine.method
    assert set(fine.details) >= {"acceptance_rate_hmc", "acceptance_rate_flips"}
    assert abs(float(fine.values.mean() - exact.mean())) < 5 * fine.stderr + 0.01
    assert fine.stderr < rough.stderr / 2
    log_w = dgm.annealed_log_weights(s3c.model, s3c.guide, x, temperatures=4, chains=500, num_steps=2)
    ratio = (log_w - exact).exp()
    assert ((ratio.mean(0) - 1).abs() < 6 * ratio.std(0) / math.sqrt(500)).all()


def test_importance_weighted_bound_rises_to_the_likelihood():
    """Moderate couplings: with strong ones q is much narrower than the posterior, and the weights' variance infinite."""
    s3c, x = make(scale=0.5)
    exact, n = float(s3c.evidence(x, "exact").values.mean()), 500
    torch.manual_seed(0)
    gaps = []
    for particles in (1, 10):
        values = s3c.evidence(x.repeat(n, 1), "importance", particles=particles).values.view(n, len(x)).mean(1)
        gaps.append((exact - float(values.mean()), float(values.std()) / math.sqrt(n)))
    (one, error), (ten, smaller) = gaps
    assert one > ten + 6 * (error + smaller)
    assert ten > 6 * smaller
    assert one == pytest.approx(exact - float(s3c.bound(x).detach().mean()), abs=6 * error)
    with torch.no_grad():
        bound, error = log_mean_exp(log_weights(s3c.model, s3c.guide, x, particles=20_000))
    # Its bias, half the squared relative error of a row's mean weight, is far below one standard error.
    assert abs(float(bound.mean()) - exact) < 6 * float(error.square().sum().sqrt()) / len(x) < 0.03


def test_gradient_of_the_bound_holds_q_fixed():
    """Central differences of the listed ELBO with h, s and the variance as they were."""
    s3c, x = make(3, 3, seed=10)
    x = x[:4]
    h, s = (t.numpy() for t in s3c.posterior(x, 2))  # far from the fixed point, where moving q would count
    p = numbers(s3c)
    variance = start(p)[2]
    s3c.bound(x, 2).sum().backward()
    for name, parameter in s3c.named_parameters():
        expected = np.zeros_like(p[name])
        for index in np.ndindex(*p[name].shape):
            sides = []
            for move in (1e-5, -1e-5):
                moved = {**p, name: p[name].copy()}
                moved[name][index] += move
                sides.append(sum(elbo(moved, x[n].numpy(), h[n], s[n], variance) for n in range(len(x))))
            expected[index] = (sides[0] - sides[1]) / 2e-5
        np.testing.assert_allclose(parameter.grad, expected, rtol=1e-6, atol=1e-6, err_msg=name)


def test_stock_elbo_has_the_gradient_of_the_bound():
    s3c, x = make(3, 3, seed=11)
    torch.manual_seed(0)
    s3c.bound(x).sum().backward()
    expected = {name: -parameter.grad.clone() for name, parameter in s3c.named_parameters()}
    module = Trace_ELBO(max_plate_nesting=1)(s3c.model, s3c.guide)
    blocks = []
    for _ in range(30):
        s3c.zero_grad()
        (module(x.repeat(400, 1)) / 400).backward()
        blocks.append({name: parameter.grad.clone() for name, parameter in s3c.named_parameters()})
    oracle.meets(blocks, expected, 0.1)


def test_training_finds_the_dictionary():
    """1500 rows of a known model: its likelihood to within 0.05 nats, its columns up to order, sign and length."""
    truth = S3C(6, 4)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        truth.weight.copy_(2.5 * torch.nn.functional.normalize(torch.randn(6, 4, generator=generator), dim=0))
        truth.slab_mean.fill_(1.5)
        truth.log_slab_precision.fill_(math.log(4))
        truth.log_precision.fill_(math.log(10))
        truth.visible_bias.copy_(torch.linspace(-1, 1, 6))
    torch.manual_seed(1)
    x = truth.sample(1500)
    torch.manual_seed(0)  # some other starts end in local optima, 0.4 nats below
    s3c = S3C(6, 4)
    run = dgm.fit(s3c, x, epochs=10, batch_size=100, learning_rate=0.05, decay="linear", progress=False)
    target = float(truth.evidence(x).values.mean())
    start = S3C(6, 4)
    start.initialise(x)
    assert float(start.evidence(x).values.mean()) < target - 3
    assert abs(float(s3c.evidence(x).values.mean()) - target) < 0.05
    normalised = [torch.nn.functional.normalize(m.weight.detach(), dim=0) for m in (s3c, truth)]
    likeness = (normalised[0].T @ normalised[1]).abs()
    assert (likeness.amax(0) > 0.99).all()
    assert len(set(likeness.argmax(0).tolist())) == 4
    assert run.history[-1]["valid_elbo"] == pytest.approx(float(s3c.bound(x[-150:]).detach().mean()), abs=1e-4)


def test_initialise_sets_what_is_unset():
    s3c, x = S3C(3, 2), torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.1, 1, 30]) + 5
    s3c.initialise(x)
    torch.testing.assert_close(s3c.visible_bias.detach(), x.mean(0))
    torch.testing.assert_close((-s3c.log_precision.detach()).exp(), x.var(0, correction=0))
    kept = s3c.visible_bias.detach().clone()
    s3c.initialise(x + 1)
    assert torch.equal(s3c.visible_bias, kept)


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_far_rows_give_finite_figures(scale):
    s3c, x = S3C.example()
    h, s = s3c.posterior(scale * x)
    assert ((h >= 0) & (h <= 1)).all()
    assert s.isfinite().all()
    assert s3c.bound(scale * x).isfinite().all()
    assert s3c.evidence(scale * x).values.isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"visible": 0}, "visible got 0"), ({"hidden": 0}, "hidden got 0"), ({"hidden": 2.5}, "hidden got 2.5"),
     ({"rounds": -1}, "rounds got -1"), ({"rounds": 1.5}, "rounds got 1.5")],
)  # fmt: skip
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        S3C(**{"visible": 4, **options})


def test_bad_requests():
    s3c, x = S3C.example()
    with pytest.raises(ValueError, match="expected rows x"):
        s3c.check_data(x[:, :-1])
    with pytest.raises(ValueError, match="rounds got"):
        s3c.bound(x, -2)
    with pytest.raises(ValueError, match="S3C has method='exact' with no options; method='importance'"):
        s3c.evidence(x, "bridge")
    with pytest.raises(ValueError, match="'exact' with no options"):
        s3c.evidence(x, "exact", particles=3)
    with pytest.raises(ValueError, match="S3C has method='exact' with no options; method='importance'"):
        s3c.evidence(x, chains=3)
    with pytest.raises(ValueError, match="needs data"):
        s3c.guide()
    large, row = S3C(3, 13), torch.zeros(1, 3)
    with pytest.raises(dgm.NotEnumerable, match="at most 12"):
        large.evidence(row, "exact")
    assert large.evidence(row, particles=2).kind == "lower bound"
