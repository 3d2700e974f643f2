"""Diffusion inversion: bounds of exact kernels, terms against the stock ELBO, conditionals, refused schedules."""

import copy
import itertools
import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO

import pyro_dgm as dgm
from pyro_dgm.models.shared.diffusion import BinomialCorruption, GaussianCorruption
from pyro_dgm.objectives.criteria.diffusion import stratified

MEAN, SCALE = 0.5, 0.25


class OfNormalData(dgm.DiffusionInversion):
    """The reverse kernels of one normal column, with a variance of choice."""

    kind = "exact"

    def reverse(self, noisy, time, before=None):
        before = time - 1 if before is None else before
        share, earlier = (self.corruption.share(t, noisy) for t in (time, before))
        noise = self.corruption.step(before, time, noisy)
        m, v = earlier.sqrt() * MEAN, earlier * SCALE**2 + 1 - earlier
        total = share * SCALE**2 + 1 - share
        gain = (1 - noise).sqrt() * v / total
        mean, variance = m + gain * (noisy - share.sqrt() * MEAN), v * noise / total
        if self.kind == "noise":
            variance = noise
        elif self.kind == "posterior":
            own = noise * (1 - earlier) / (1 - share)
            variance = torch.where((before == 0).unsqueeze(-1), variance, own)
        elif self.kind == "edge":
            last = (before == 0).unsqueeze(-1)
            mean = torch.where(last, (1 - noise).sqrt() * noisy, mean)
            variance = torch.where(last, noise, variance)
        return dist.Normal(mean, variance.sqrt().expand_as(mean)).to_event(1)


BOUNDS = {  # with A_T = 0.1, by the number of steps
    1: {"noise": -0.9190462918, "posterior": -0.0474892085, "edge": -1.0751885332},
    2: {"noise": -0.8171400360, "posterior": -0.0476064135, "edge": -1.0229190822},
    4: {"noise": -0.6685685621, "posterior": -0.0481607453, "edge": -0.9088022894},
    8: {"noise": -0.5024305945, "posterior": -0.0501648772, "edge": -0.7407546620},
    16: {"noise": -0.3478926121, "posterior": -0.0563469619, "edge": -0.5524733714},
}


def normal_model(steps, kind):
    beta = 1 - 0.1 ** (1 / steps)
    model = OfNormalData(1, steps=steps, output="gaussian", hidden=(2,), schedule=[beta] * steps).double()
    model.kind = kind
    return model


class Placed(GaussianCorruption):
    """A diffusion whose draws are at given places, in standard deviations."""

    def __init__(self, signal, places):
        super().__init__(signal)
        self.places = places

    def after(self, x, before, after):
        law = super().after(x, before, after)
        law.sample = lambda: law.mean + law.stddev * self.places
        return law


@pytest.mark.parametrize("steps", BOUNDS)
@pytest.mark.parametrize("kind", ["exact", "noise", "posterior", "edge"])
def test_bounds_of_normal_data(steps, kind, monkeypatch):
    """Every term is of second degree in the row and in the noise, so that a rule of three places for each integrates it."""
    expected = -0.0474892085 if kind == "exact" else BOUNDS[steps][kind]
    nodes, weights = (torch.as_tensor(t) for t in np.polynomial.hermite_e.hermegauss(3))
    weights = torch.outer(weights, weights).flatten() / (2 * math.pi)
    rows, noise = (t.reshape(-1, 1) for t in torch.meshgrid(MEAN + SCALE * nodes, nodes, indexing="ij"))
    model = normal_model(steps, kind)
    monkeypatch.setattr(type(model), "corruption", property(lambda self: Placed(self.signal, noise)))
    found = model.evidence(rows, rounds=1).values
    assert float((weights * found).sum()) == pytest.approx(expected, abs=2e-10)


def test_one_kernel():
    model = normal_model(4, "exact")
    one, two = torch.tensor(1), torch.tensor(2)
    noise = float(model.corruption.step(one, two, torch.zeros(1, 1, dtype=torch.float64)))
    assert noise == pytest.approx(0.4376586748)
    law = model.reverse(torch.tensor([[0.0], [1.0]], dtype=torch.float64), two).base_dist
    assert float(law.mean[0]) == pytest.approx(0.2332485381)
    assert float(law.mean[1] - law.mean[0]) == pytest.approx(0.5039592868)
    assert float(law.variance[0]) == pytest.approx(0.2941243590)
    posterior = model.corruption.between(
        torch.ones(1, 1, dtype=torch.float64), torch.full((1, 1), 0.3, dtype=torch.float64), one, two
    ).base_dist
    assert (float(posterior.mean), float(posterior.variance)) == pytest.approx((0.6239753480, 0.2801299996))


P = torch.tensor([1, 5, 2, 8, 3, 1, 6, 4], dtype=torch.float64) / 30
BITS = torch.tensor(list(itertools.product([0.0, 1.0], repeat=3)), dtype=torch.float64)


def transition(beta, rate=0.5):
    """A step of the diffusion over all eight states, from rows to columns."""
    one = (1 - beta) * BITS + beta * rate
    return torch.stack([(one.unsqueeze(1) * BITS + (1 - one.unsqueeze(1)) * (1 - BITS)).prod(-1)]).squeeze(0)


class OfListedData(dgm.DiffusionInversion):
    """The best factorised reverse kernels of data with a listed law."""

    def reverse(self, noisy, time, before=None):
        t = int(time.flatten()[0])
        assert bool((time == t).all())
        at = P.clone()
        for s in range(1, t):
            at = at @ transition(1 / (self.steps - s + 1))
        joint = at.unsqueeze(1) * transition(1 / (self.steps - t + 1))
        back = (joint / joint.sum(0)).T @ BITS  # of every noisy state, the bits' probabilities one step before
        if t == 1 and self.last_step == "fixed":
            beta = 1 / self.steps
            back = (1 - beta) * BITS + beta * 0.5
        index = (noisy @ torch.tensor([4.0, 2.0, 1.0], dtype=torch.float64)).long()
        return dist.Bernoulli(probs=back[index].clamp(1e-15, 1 - 1e-15)).to_event(1)


class Listed(BinomialCorruption):
    """A diffusion whose draws are given states."""

    states = None

    def after(self, x, before, after):
        law = super().after(x, before, after)
        law.sample = lambda: self.states
        return law


def exact_bound(model, monkeypatch):
    """The mean of the model's own terms over data and noisy states, by listing both."""
    corruption = Listed(model.signal, 0.5)
    corruption.states = BITS.repeat(8, 1)
    monkeypatch.setattr(type(model), "corruption", corruption)
    rows, marginal = BITS.repeat_interleave(8, 0), torch.eye(8, dtype=torch.float64)
    total = float((P * model.end_terms(BITS)).sum())
    for t in range(1, model.steps + 1):
        marginal = marginal @ transition(1 / (model.steps - t + 1))  # q(x_t | x_0) of every clean state
        weights = (P.unsqueeze(1) * marginal).flatten()
        total += float((weights * model.step_terms(rows, torch.full((64,), t))).sum())
    return -total


@pytest.mark.parametrize(
    ("steps", "learned", "fixed"),
    [(1, -2.0004491446, -2.0794415417), (2, -1.9580521201, -2.0599236018), (4, -1.9217189995, -2.0153888709),
     (8, -1.9009585492, -1.9646392256), (16, -1.8901521053, -1.9273636478), (64, -1.8819315827, -1.8924125694)],
)  # fmt: skip
def test_bounds_of_three_bits(steps, learned, fixed, monkeypatch):
    for last, expected in (("learned", learned), ("fixed", fixed)):
        model = OfListedData(3, steps=steps, hidden=(2,), last_step=last).double()
        assert exact_bound(model, monkeypatch) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("output", ["binary", "gaussian"])
@pytest.mark.parametrize("first", [1e-6, 1e-8])
def test_small_first_steps_keep_their_digits_in_single_precision(output, first):
    r"""$1 - A_1$ is lost where it is taken after rounding: the bound of single precision is that of double."""
    schedule = torch.logspace(math.log10(first), 0, 20, dtype=torch.float64).tolist()
    model = dgm.DiffusionInversion(3, steps=20, output=output, hidden=(4,), schedule=schedule)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4000, 3, generator=generator)
    x = (x > 0).float() if output == "binary" else x
    figures = []
    for rows, same in ((x, model), (x.double(), copy.deepcopy(model).double())):
        pyro.set_rng_seed(1)
        figures.append(same.evidence(rows, rounds=1).values)
    error = math.hypot(*(float(v.std()) / len(x) ** 0.5 for v in figures))
    assert float(figures[0].mean()) == pytest.approx(float(figures[1].mean()), abs=5 * error)


def heartbeat():
    """The five rows of 20 bits with a one at every fifth."""
    rows = torch.zeros(5, 20, dtype=torch.float64)
    for phase in range(5):
        rows[phase, phase::5] = 1
    return rows


class OfHeartbeats(dgm.DiffusionInversion):
    """The best factorised reverse kernels of heartbeats, by Bayes' rule over their five rows."""

    def reverse(self, noisy, time, before=None):
        t, rows, rate = int(time.flatten()[0]), heartbeat(), 0.2
        left = (self.steps - t) / self.steps  # of the signal: every step takes a T-th
        one = left * rows + (1 - left) * rate
        phase = torch.softmax(noisy @ one.log().T + (1 - noisy) @ torch.log1p(-one).T, -1)
        beta, earlier = 1 / (self.steps - t + 1), (self.steps - t + 1) / self.steps
        back = 0.0
        for clean in (0.0, 1.0):
            prior = earlier * clean + (1 - earlier) * rate  # of the bit one step before, given its clean value
            stays, comes = (1 - beta) + beta * rate, beta * rate
            on = prior * torch.where(noisy == 1, stays, 1 - stays)
            off = (1 - prior) * torch.where(noisy == 1, comes, 1 - comes)
            share = phase @ rows if clean else 1 - phase @ rows
            back = back + share * on / (on + off)
        return dist.Bernoulli(probs=back.clamp(1e-15, 1 - 1e-15)).to_event(1)


@pytest.mark.parametrize(("steps", "bits"), [(1, -14.438562), (5, -3.552913), (20, -2.581335), (100, -2.371789)])
def test_bounds_of_heartbeats(steps, bits, monkeypatch):
    """A noisy row matters by how many ones it has in every phase: 3125 states stand for all 2^20."""
    model = OfHeartbeats(20, steps=steps, hidden=(2,), rate=0.2).double()
    counts = torch.tensor(list(itertools.product(range(5), repeat=5)))
    states = (
        (torch.arange(4).unsqueeze(-1) < counts.unsqueeze(1)).double().flatten(1)
    )  # column 5 i + p is bit i of phase p
    ways = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], dtype=torch.float64)[counts].prod(-1)
    corruption = Listed(model.signal, 0.2)
    corruption.states = states
    monkeypatch.setattr(OfHeartbeats, "corruption", corruption, raising=False)
    clean = heartbeat()[:1].expand(len(states), 20)
    total = float(model.end_terms(clean[:1]))
    for t in range(1, steps + 1):
        one = (steps - t) / steps * clean + t / steps * 0.2
        weight = ways * (states * one + (1 - states) * (1 - one)).prod(-1)
        total += float((weight * model.step_terms(clean, torch.full((len(states),), t))).sum())
    assert -total / math.log(2) == pytest.approx(bits, abs=1e-6)


@pytest.mark.parametrize(
    ("output", "last", "schedule"),
    [
        ("binary", "learned", "linear"),
        ("binary", "fixed", "linear"),
        ("gaussian", "learned", "linear"),
        ("gaussian", "fixed", "linear"),
        ("gaussian", "learned", "learned"),
    ],
)
def test_terms_have_the_value_and_gradient_of_the_elbo(output, last, schedule):
    """Stock Trace_ELBO over the whole program, and one term a row at a random time: means over many draws."""
    pyro.set_rng_seed(0)
    model = dgm.DiffusionInversion(2, steps=3, output=output, hidden=(4,), last_step=last, schedule=schedule).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
    x = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    draws = 12_000
    rows = x.expand(draws, 2)
    parameters = [p for p in model.parameters() if p.numel() < 50]

    def estimates(losses):
        """Means over batches of 300 rows, and their standard errors, of the loss and its gradient."""
        found = []
        for part in losses:
            slopes = torch.autograd.grad(part, parameters, allow_unused=True)
            flat = [part.detach().view(1)] + [
                (torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(parameters, slopes, strict=True)
            ]
            found.append(torch.cat(flat))
        stacked = torch.stack(found)
        return stacked.mean(0), stacked.std(0) / len(stacked) ** 0.5

    criterion = model.objective()
    criterion.attach(model)
    elbo = Trace_ELBO(max_plate_nesting=1)
    parts = rows.split(300)
    ours, error = estimates(criterion.loss(part) for part in parts)
    stock, other = estimates(elbo.differentiable_loss(model.model, model.guide, part) / len(part) for part in parts)
    assert bool(((ours - stock).abs() <= 5 * (error**2 + other**2).sqrt() + 1e-9).all())


def test_a_learned_schedule_keeps_its_first_step_and_moves_the_others(tmp_path):
    """It starts geometric, is trained in double precision, and comes back from a run on disk."""
    torch.manual_seed(0)
    x = 0.5 + 0.25 * torch.randn(200, 2)
    model = dgm.DiffusionInversion(2, steps=4, output="gaussian", hidden=(8,), schedule="learned")
    before, start = model.signal.detach(), model.log_odds.detach().clone()
    geometric = dgm.DiffusionInversion(2, steps=4, output="gaussian", hidden=(8,), schedule="geometric").signal
    torch.testing.assert_close(before, geometric, rtol=1e-6, atol=1e-8)
    dgm.fit(model, x, epochs=5, learning_rate=0.02, out=tmp_path / "run", progress=False)
    after = model.signal.detach()
    assert after.dtype == torch.float64
    assert torch.equal(after[:2], before[:2])
    assert bool(((model.log_odds - start).abs() > 1e-3).all())
    assert bool((after[1:] < after[:-1]).all())
    assert torch.equal(dgm.load(tmp_path / "run").signal.detach(), after)
    for options in ({"output": "binary"}, {"output": "gaussian", "steps": 1}):
        with pytest.raises(ValueError, match="schedule got 'learned'"):
            dgm.DiffusionInversion(2, schedule="learned", **options)


@pytest.mark.parametrize("last", ["learned", "fixed"])
def test_kernels_of_bits_are_bayes_rule(last):
    """A network that says nothing knows independent bits: its kernels and terms are those of two-state chains, listed."""
    pyro.set_rng_seed(0)
    rate, steps, beta = 0.2, 4, [0.1, 0.4, 1e-3, 0.8]
    model = dgm.DiffusionInversion(3, steps=steps, hidden=(2,), schedule=beta, rate=rate, last_step=last).double()
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.zero_()
        model.offset.copy_(torch.tensor([-1.0, 0.3, 4.0]))
    end = torch.tensor([1 - rate, rate], dtype=torch.float64)
    moves = [(1 - b) * torch.eye(2).double() + b * end for b in beta]
    paths = [torch.eye(2).double()]  # q(x_t | x_0), from rows to columns
    for move in moves:
        paths.append(paths[-1] @ move)
    prior = torch.stack([torch.sigmoid(-model.offset), torch.sigmoid(model.offset)], -1).detach()  # columns x clean bit
    x, noisy = torch.randint(0, 2, (2, 16, 3)).double()
    a, b = x.long(), noisy.long()
    for t in range(1, steps + 1):
        joint = paths[t - 1].unsqueeze(-1) * moves[t - 1]  # clean bit x bit at t - 1 x bit at t
        posterior = (joint[a, 1, b] / joint[a, :, b].sum(-1)).clamp(0, 1)
        known = torch.einsum("dc,csn->dsn", prior, joint)
        own = (known / known.sum(1, keepdim=True))[torch.arange(3), 1, b]
        if t == 1 and last == "fixed":
            own = moves[0][b, 1]  # the diffusion's own kernel, from the noisy bit
        law, time = model.reverse(noisy, torch.tensor(t)), torch.full((16,), t)
        torch.testing.assert_close(law.base_dist.probs, own * (1 - 2e-6) + 1e-6, rtol=1e-9, atol=0)
        found = model.corruption.terms(x, noisy, x, time, law)
        exact = -law.log_prob(x) if t == 1 else kl(posterior, law.base_dist.probs)
        torch.testing.assert_close(found, exact, rtol=1e-9, atol=1e-12)
        slopes = [torch.autograd.grad(loss.sum(), model.offset, retain_graph=True)[0] for loss in (found, exact)]
        torch.testing.assert_close(*slopes, rtol=1e-7, atol=1e-10)
    cost = kl(paths[-1][a, 1], torch.full_like(x, rate))
    torch.testing.assert_close(model.end_terms(x), cost, rtol=1e-9, atol=1e-12)


def kl(one, other):
    """The divergence of rows of independent bits, by torch."""
    return dist.kl.kl_divergence(dist.Bernoulli(one), dist.Bernoulli(other)).sum(-1)


def test_times_are_stratified():
    torch.manual_seed(0)
    times = torch.stack([stratified(10, 40) for _ in range(2000)])
    assert (int(times.min()), int(times.max())) == (1, 40)
    assert all(len({(t - 1) // 4 for t in row.tolist()}) == 10 for row in times[:50])  # one of every tenth
    counts = torch.bincount(times.flatten(), minlength=41)[1:].double()
    assert float(((counts - 500) ** 2 / 500).sum()) < 39 + 5 * math.sqrt(2 * 39)


def test_paths_and_terms_bound_the_same():
    """Weights of whole paths have the likelihood as their mean, which a listing of a one-step model has exactly."""
    pyro.set_rng_seed(0)
    model = dgm.DiffusionInversion(2, steps=1, hidden=(4,)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.7)
    x = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]], dtype=torch.float64)
    noise = x  # all four states of x_1, each of probability 1/4
    law = model.reverse(noise.unsqueeze(1), torch.tensor(1))
    exact = law.log_prob(x.unsqueeze(0)).logsumexp(0).detach() - math.log(4)
    weights = model.evidence(x.repeat(100, 1), "paths", particles=50).values.exp().view(100, 4)
    assert bool(((weights.mean(0) - exact.exp()).abs() < 5 * weights.std(0) / 10).all())
    assert float(exact.exp().sum()) == pytest.approx(1.0)
    terms = model.evidence(x.repeat(1000, 1), rounds=2).values.view(1000, 4)
    bound = law.log_prob(x.unsqueeze(0)).mean(0).detach()
    assert bool(((terms.mean(0) - bound).abs() < 5 * terms.std(0) / 1000**0.5).all())
    assert bool((bound < exact).all())


def test_conditionals_are_exact_and_overwriting_is_not():
    r"""Three bits with the best kernels of T = 2; the chain's law is that of the model's own listing given $b_0 = 1$."""
    model = OfListedData(3, steps=2, hidden=(2,)).double()
    first, second = (model.reverse(BITS, torch.tensor(t)) for t in (1, 2))
    every = torch.full((8,), 1 / 8, dtype=torch.float64)
    one = torch.stack([second.log_prob(row.expand(8, 3)) for row in BITS], 1).exp()  # p(x_1 | x_2)
    zero = torch.stack([first.log_prob(row.expand(8, 3)) for row in BITS], 1).exp()
    law = every @ one @ zero
    right = law[4:] / law[4:].sum()
    pyro.set_rng_seed(0)
    x, known = BITS[4:5].expand(4000, 3), torch.tensor([True, False, False])
    drawn = dgm.condition(model, x, known, draws=1, warmup=40)[0]
    index = (drawn[:, 1:] @ torch.tensor([2.0, 1.0], dtype=torch.float64)).long()
    share = torch.bincount(index, minlength=4).double() / len(x)
    assert bool(((share - right).abs() < 5 * (right * (1 - right) / len(x)).sqrt()).all())
    wrong = model.overwritten(x.repeat(5, 1), known)
    index = (wrong[:, 1:] @ torch.tensor([2.0, 1.0], dtype=torch.float64)).long()
    found = torch.bincount(index, minlength=4).double() / len(wrong)
    assert float((found - right).abs().sum() / 2) > 0.03


def test_it_learns_a_heartbeat():
    """Near the truth's -log 5 nats for two columns of a beat, from far away."""
    pyro.set_rng_seed(0)
    x = heartbeat()[torch.arange(200) % 5].float()
    model = dgm.DiffusionInversion(20, steps=20, hidden=(50,), rate=0.2)
    run = dgm.fit(model, x, epochs=40, batch_size=50, learning_rate=0.01, progress=False)
    found = dgm.log_likelihood(model, x[:50], rounds=2).value
    assert found > -3.5  # independent bits have -10.0
    assert run.history[-1]["valid_bound"] > run.history[0]["valid_bound"] + 3
    assert model.sample(5, steps=5).shape == (5, 20)


def test_gaussian_rows_of_any_scale_have_densities_in_their_own_units():
    pyro.set_rng_seed(0)
    x = torch.randn(400, 2) * torch.tensor([100.0, 0.1]) + torch.tensor([1e4, 0.0])
    model = dgm.DiffusionInversion(2, steps=10, output="gaussian", hidden=(16,))
    dgm.fit(model, x, epochs=30, batch_size=100, learning_rate=0.01, progress=False)
    exact = dist.Normal(torch.tensor([1e4, 0.0]), torch.tensor([100.0, 0.1])).to_event(1).log_prob(x).mean()
    assert dgm.log_likelihood(model, x, rounds=3).value == pytest.approx(float(exact), abs=0.3)
    drawn = model.sample(2000)
    assert torch.allclose(drawn.std(0), x.std(0), rtol=0.2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps got"),
        ({"steps": 3, "schedule": [0.5, 0.5]}, "expected 3 numbers"),
        ({"steps": 2, "schedule": [0.0, 0.5]}, r"in \(0, 1\]"),
        ({"steps": 2, "schedule": [1.0, 0.5]}, "before its last step"),
        ({"steps": 2, "schedule": [0.1, 0.1]}, "does not destroy the data"),
        ({"schedule": "cosine"}, "schedule got"),
        ({"output": "gaussian", "rate": 0.5}, "rate"),
        ({"rate": 1.0}, "rate got"),
        ({"last_step": "free"}, "last_step got"),
        ({"body": "convolutional"}, "shape got"),
        ({"hidden": ()}, "hidden"),
    ],
)
def test_what_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        dgm.DiffusionInversion(4, **options)
    with pytest.raises(ValueError, match="at most 100"):
        dgm.DiffusionInversion(4, hidden=(2,)).sample(1, steps=101)
    with pytest.raises(ValueError, match="binarisation"):
        dgm.fit(dgm.DiffusionInversion(4, hidden=(2,)), torch.rand(10, 4), progress=False)


def test_convolutional_body():
    model = dgm.DiffusionInversion(30, steps=5, body="convolutional", shape=(5, 6), channels=(4, 4))
    x = (torch.rand(20, 30) < 0.3).float()
    run = dgm.fit(model, x, epochs=1, progress=False)
    assert math.isfinite(run.history[0]["loss"])
    assert model.sample(2).shape == (2, 30)


@pytest.mark.parametrize("steps", [40, 13, 2, 1])
def test_fewer_steps_keep_the_variance(steps):
    """A network that says nothing has the exact kernels of standard normal columns: any number of steps then draws these."""
    torch.manual_seed(0)
    model = dgm.DiffusionInversion(2, steps=40, hidden=(3,), output="gaussian", schedule="geometric").double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    drawn = model.sample(4000, steps=steps)
    # A thousandth of the signal is left at the end, whose law is then standard normal to a thousandth.
    assert float(drawn.var()) == pytest.approx(1, abs=4 * math.sqrt(2 / 8000) + 1e-3)


def test_a_fixed_last_step_is_always_made():
    """Jumps end at x_1; the diffusion's own kernel goes from there alone."""
    model = dgm.DiffusionInversion(3, steps=20, hidden=(4,), last_step="fixed")
    asked = []
    reverse = model.reverse
    model.reverse = lambda noisy, time, before=None: (
        asked.append((int(time), int(before))) or reverse(noisy, time, before)
    )
    model.sample(2, steps=4)
    assert asked[-1] == (1, 0)
    assert len(asked) == 4
    assert asked[0][0] == 20
    with pytest.raises(ValueError, match="expected 2 to 20"):
        model.sample(2, steps=1)


def test_the_error_of_two_rounds_covers_the_bound():
    """Rows have noise of their own, so that two rounds tell the error well: few intervals of two errors miss the bound."""
    torch.manual_seed(0)
    model = dgm.DiffusionInversion(4, steps=5, hidden=(6,)).double()
    x = torch.randint(0, 2, (40, 4)).double()
    # Of 300 rounds the bound is known to a twelfth of an error of two, which moves the share that misses by less than 0.1 %.
    bound = float(model.evidence(x, rounds=300).values.mean())
    found = [model.evidence(x, rounds=2) for _ in range(200)]
    missed = sum(abs(float(e.values.mean()) - bound) > 2 * e.stderr for e in found)
    assert missed <= 22  # 5 % of 200, and four standard errors; two rounds taken as wholes would miss some 60


def test_known_entries_that_cannot_be_and_other_widths_are_refused():
    model = dgm.DiffusionInversion(4, steps=3, hidden=(6,))
    known = torch.tensor([True, True, False, False])
    seven, half = torch.full((2, 4), 7.0), torch.full((2, 4), 0.5)
    for bad, message in ((seven, "0 or 1"), (torch.zeros(2, 5), "expected"), (half, "0 or 1")):
        which = known if bad.shape[1] == 4 else torch.cat([known, known[:1]])
        for ask in (lambda x, k: dgm.condition(model, x, k, draws=2, warmup=1), model.overwritten):
            with pytest.raises(ValueError, match=message):
                ask(bad, which)
    with pytest.raises(ValueError, match="changes nothing in double precision"):
        dgm.DiffusionInversion(4, steps=2, schedule=[1e-18, 0.9])
    vae, x = dgm.VAE.example()
    with pytest.raises(ValueError, match="expected a diffusion"):
        dgm.fit(vae, x, objective=model.objective(), epochs=1, progress=False)


def test_means_of_rows_are_those_of_draws():
    """Row by row given the state before: draws average to them, with deviations of at most 1/2 a bit."""
    torch.manual_seed(4)
    model = dgm.DiffusionInversion(3, steps=3, schedule=(0.1, 0.5, 0.9), hidden=(4,))
    torch.manual_seed(5)
    means = model.sample_means(4000)
    torch.manual_seed(5)
    draws = model.sample(4000)
    assert ((means > 0) & (means < 1)).all()
    assert means.std() > 0.2  # the state before is seen
    tolerance = math.sqrt(math.log(2 * 3 / 1e-6) / (2 * 4000))
    assert ((draws - means).mean(0).abs() < tolerance).all()
    assert torch.corrcoef(torch.stack([draws[:, 0], means[:, 0]]))[0, 1] > 0.5
