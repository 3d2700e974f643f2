"""Annealing over latents against closed forms and enumeration: unbiased weights, bounds from both sides, rows by themselves."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from oracles import boltzmann as oracle

import pyro_dgm as dgm
from pyro_dgm.annealing import bidirectional
from pyro_dgm.annealing import latents as latent_annealing
from pyro_dgm.annealing.coordinates import SCALES, LatentCoordinates

W = torch.tensor([[1.2, -0.4], [0.3, 0.9], [-0.7, 0.5]])
COVARIANCE = W @ W.T + 0.25 * torch.eye(3)


def rows_of(x, size):
    return pyro.plate("data", size if x is None else len(x))


def linear_gaussian():
    """z ~ N(0, I), x | z ~ N(W z, 1/4), under a guide that is too narrow and beside the posterior."""

    def model(x=None, size=None):
        with rows_of(x, size):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(z @ W.T, 0.5).to_event(1), obs=x)

    def guide(x=None, size=None):
        with rows_of(x, size):
            pyro.sample("z", dist.Normal(0.3 * x[:, :2] + 0.5, 0.4).to_event(1))

    x = torch.tensor([[0.5, -0.3, 0.4], [1.5, 0.8, -1.0], [-1.0, 0.2, 0.1]])
    exact = dist.MultivariateNormal(torch.zeros(3), COVARIANCE).log_prob
    return model, guide, x, exact


def network():
    """A belief network with five latent bits in two layers."""
    sbn = oracle.randomise(dgm.SBN(4, hidden=(3, 2)), torch.Generator().manual_seed(5), 1.5)
    x = torch.tensor([[1.0, 0, 1, 1], [0, 0, 1, 0], [1, 1, 1, 0]])
    return sbn.model, sbn.guide, x, lambda rows: sbn.evidence(rows, "exact").values


def positive():
    """z ~ Gamma(2, 1), x | z exponential of rate z: p(x) = 2 / (1 + x)^3. The guide is log-normal."""

    def model(x=None, size=None):
        with rows_of(x, size):
            z = pyro.sample("z", dist.Gamma(2.0, 1.0))
            return pyro.sample("x", dist.Exponential(z), obs=x)

    def guide(x=None, size=None):
        with rows_of(x, size):
            pyro.sample("z", dist.LogNormal(torch.zeros(len(x)), 0.7))

    return model, guide, torch.tensor([0.2, 1.0, 3.0]), lambda x: math.log(2) - 3 * torch.log1p(x)


def mixed():
    """A bit and two real latents: x is a mixture of two normals."""

    def model(x=None, size=None):
        with rows_of(x, size):
            b = pyro.sample("b", dist.Bernoulli(0.3))
            z = pyro.sample("z", dist.Normal(3 * b, 1.0))
            y = pyro.sample("y", dist.Normal(z, 1.0))
            return pyro.sample("x", dist.Normal(y, 1.0), obs=x)

    def guide(x=None, size=None):
        with rows_of(x, size):
            pyro.sample("b", dist.Bernoulli(torch.full((len(x),), 0.5)))
            pyro.sample("y", dist.Normal(0.7 * x, 1.2))
            pyro.sample("z", dist.Normal(0.5 * x, 1.3))

    def exact(x):
        parts = [math.log(p) + dist.Normal(m, 3**0.5).log_prob(x) for p, m in ((0.7, 0.0), (0.3, 3.0))]
        return torch.logaddexp(*parts)

    return model, guide, torch.tensor([-1.0, 1.5, 4.0]), exact


CASES = [linear_gaussian, network, positive, mixed]


def unbiased(case, chains=2000, temperatures=16):
    """Whether the mean of w / p(x) is one for every row within five standard errors, which are below a tenth.

    Both count: one huge weight is a standard error from any mean that it makes.
    """
    model, guide, x, exact = case()
    log_w = dgm.annealed_log_weights(model, guide, x, temperatures=temperatures, chains=chains, num_steps=3)
    w = (log_w - exact(x)).double().exp()
    error = w.std(0) / chains**0.5
    return bool(((w.mean(0) - 1).abs() < 5 * error).all() and (error < 0.1).all())


@pytest.mark.parametrize("case", CASES)
def test_the_mean_weight_is_the_likelihood(case):
    """E w = p(x) for every row."""
    torch.manual_seed(0)
    assert unbiased(case)


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_decision_is_seen(case, monkeypatch):
    """With the sign of the acceptance ratio turned the same test fails, at steps that were learned with the right one."""
    torch.manual_seed(1)
    right, run = latent_annealing.accepts, latent_annealing.run_chains

    def turned(*arguments):
        monkeypatch.setattr(latent_annealing, "accepts", lambda ratio: right(-ratio) & ratio.isfinite())
        return run(*arguments)

    monkeypatch.setitem(latent_annealing.TARGETS, "hmc", 0.4)  # long steps, whose ratios are far from one
    monkeypatch.setattr(latent_annealing, "run_chains", turned)
    assert not unbiased(case)


@pytest.mark.parametrize("case", [linear_gaussian, network])
def test_the_bound_rises_with_the_temperatures(case):
    """E log w is below log p(x), and every doubling of the temperatures brings it nearer."""
    torch.manual_seed(2)
    model, guide, x, exact = case()
    means, errors = [], []
    for temperatures in (2, 4, 8):
        log_w = dgm.annealed_log_weights(model, guide, x, temperatures=temperatures, chains=1000).double()
        means.append(log_w.mean())
        errors.append(log_w.std(0).square().mean().sqrt() / (log_w.numel()) ** 0.5)
    means, errors = torch.stack(means), torch.stack(errors)
    assert (means.diff() > 3 * (errors[1:] ** 2 + errors[:-1] ** 2).sqrt()).all()
    assert means[-1] < exact(x).mean()


class Shifted(dgm.VAE):
    """A VAE whose guide is narrow and far from the posterior."""

    def encode(self, x):
        return dist.Normal(torch.full((*x.shape[:-1], self.latent), 2.0), 0.15).to_event(1)


def test_it_is_tighter_than_importance_weights_of_as_many_densities():
    torch.manual_seed(3)
    vae = oracle.randomise(Shifted(6, latent=3, hidden=()), torch.Generator().manual_seed(6), 1.0)
    x = torch.randint(0, 2, (20, 6)).float()
    annealed = dgm.log_likelihood(vae, x, space="toy", method="ais", temperatures=30, chains=10, num_steps=5)
    # 30 temperatures of a weight and six gradients, for the chains and the pilots; a gradient is some three densities.
    weighted = dgm.log_likelihood(vae, x, space="toy", method="importance", particles=30 * (10 + 10) * (1 + 6 * 3))
    reference = dgm.VAE(6, latent=3, hidden=())
    reference.load_state_dict(vae.state_dict())
    reference.encode = lambda x: dist.Normal(torch.zeros(*x.shape[:-1], 3), 1.3).to_event(1)
    near = reference.evidence(x, "importance", particles=20_000)
    assert annealed.kind == weighted.kind == "lower bound"
    assert annealed - weighted > 0.3
    assert annealed.value < float(near.values.mean()) + 5 * (annealed.stderr_estimator + near.stderr)
    assert float(near.values.mean()) - annealed.value < 0.5 * (float(near.values.mean()) - weighted.value)


@pytest.mark.parametrize("case", CASES)
def test_two_temperatures_are_importance_weights(case):
    model, guide, x, _ = case()
    found = []
    for plain in (True, False):
        torch.manual_seed(4)
        if plain:
            LatentCoordinates(model, guide, (x,), {})
            found.append(dgm.log_weights(model, guide, x, particles=6))
        else:
            found.append(dgm.annealed_log_weights(model, guide, x, temperatures=2, chains=6))
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize("case", CASES)
def test_a_row_does_not_depend_on_its_batch(case):
    """With the same random numbers a row's weights do not change with what else is in the batch, steps included."""
    model, guide, x, _ = case()
    found = []
    for other in (1, 2):
        torch.manual_seed(5)
        log_w = dgm.annealed_log_weights(model, guide, x[[0, other]], temperatures=6, chains=5, num_steps=3)
        found.append(log_w)
    torch.testing.assert_close(found[0][:, 0], found[1][:, 0], atol=1e-4, rtol=0)
    assert (found[0][:, 1] - found[1][:, 1]).abs().max() > 1e-2


def annealed_both_ways(case, n, temperatures, monkeypatch):
    """A gap, and per chain and row the errors of its forward and its reverse estimates of log p(x), which is known here."""
    model, guide, _, exact = case()
    weights, true = [], bidirectional.log_mean_exp
    torch.manual_seed(6)
    with torch.no_grad():
        truth = exact(model(None, n)).double()
    torch.manual_seed(6)
    with monkeypatch.context() as patch:
        patch.setattr(bidirectional, "log_mean_exp", lambda log_w: (weights.append(log_w), true(log_w))[1])
        rows = SCALES * n // (2 if temperatures == 3 else 1)  # two passes, and one
        options = {"temperatures": temperatures, "chains": 2, "num_steps": 3, "rows": rows}
        found = dgm.bidirectional_gap(model, guide, n, **options)
    forward, reverse = (torch.cat(weights[start::2], 1).double() for start in (0, 1))
    return found, truth.mean(), forward - truth, -reverse - truth


def overlap(forward, reverse):
    r"""$E_F[r / (1 + r)] - E_R[1 / (1 + r)]$ in standard errors, and the mean of both terms, with $r = w / p(x)$.

    Where moves are reversible, a reverse run is a forward run backwards, weighed by r (Crooks 1999): the two terms are then
    equal for every row. Both lie between 0 and 1, so that their errors are known however long the tails of the weights are.
    They are 1/2 if all weights are equal, and smaller the more they differ.
    """
    below, above = forward.sigmoid().mean(0), (-reverse).sigmoid().mean(0)
    apart = below - above
    return float(apart.mean() / apart.std() * len(apart) ** 0.5), float((below + above).mean()) / 2


@pytest.mark.parametrize(("case", "n"), [(linear_gaussian, 400), (network, 400), (positive, 1000), (mixed, 400)])
def test_forward_below_and_reverse_above(case, n, monkeypatch):
    """The rows' exact mean lies between both ends, and the runs of both directions are nearer to each other with more
    temperatures.

    Moves of bits after real latents are not those of real latents after bits: of the mixed case the identity does not hold.
    Weights of the positive case have no variance, so that its gap is left to their overlap; what is asked of this one there is
    five standard errors below what it is.
    """
    gaps, overlaps = [], []
    for temperatures in (3, 16):
        found, truth, forward, reverse = annealed_both_ways(case, n, temperatures, monkeypatch)
        away, both = overlap(forward, reverse)
        assert case is mixed or abs(away) < 5
        if temperatures == 3:
            assert found.lower < truth < found.upper
        assert found.gap == pytest.approx(found.upper - found.lower, abs=1e-9)
        gaps.append(found.gap)
        overlaps.append(both)
    assert 0.5 - overlaps[1] < 0.8 * (0.5 - overlaps[0])
    assert case is positive or abs(gaps[1]) < 0.4 * gaps[0]


def test_reverse_runs_that_start_at_the_guide_are_seen(monkeypatch):
    monkeypatch.setattr(LatentCoordinates, "at", lambda latents, values, chains: latents.draw(chains))
    *_, forward, reverse = annealed_both_ways(linear_gaussian, 400, 3, monkeypatch)
    assert abs(overlap(forward, reverse)[0]) > 5


@pytest.mark.parametrize(
    "kind", [dgm.VAE, dgm.HierarchicalVAE, dgm.DRAW, dgm.SBN, dgm.ConditionalVAE, dgm.VariationalRNN]
)
def test_every_directed_model_has_it(kind):
    torch.manual_seed(7)
    model, x = kind.example()
    x = x[:3]
    found = model.evidence(x, "ais", temperatures=3, chains=4, num_steps=1, rows=8)
    assert found.values.shape == (3,)
    assert found.kind == "lower bound"
    assert "3 temperatures, 4 chains" in found.method
    rates = {name: rate for name, rate in found.details.items() if name.startswith("acceptance_rate")}
    assert set(rates) == {"acceptance_rate_flips" if kind is dgm.SBN else "acceptance_rate_hmc"}
    assert all(0.2 < rate <= 1 for rate in rates.values())
    assert 1 <= found.details["effective_sample_size"] <= 4
    near = model.evidence(x, "importance", particles=3000)
    # A log mean of four weights: the interval of both, and a nat for the bound's own gap with so few chains.
    slack = 6 * (found.stderr + near.stderr)
    assert -1 - slack < float((found.values - near.values).mean()) < slack


def test_steps_are_found_for_every_row():
    """Rows whose posteriors differ in width by a hundred get steps of their own, and are all accepted near the target."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, x.abs()), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))

    torch.manual_seed(8)
    x = torch.tensor([0.01, 1.0])
    latents = LatentCoordinates(model, guide, (x,), {})
    with torch.no_grad():
        steps = latent_annealing.learn_steps(latents, torch.linspace(0, 1, 50).tolist(), 3)
    assert len(steps) == 48
    last = steps[-1]["hmc"].squeeze(1)
    assert last[1] - last[0] > math.log(20)


def categorical(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Categorical(torch.ones(3)))
        pyro.sample("x", dist.Normal(z.float(), 1.0), obs=x)


def guess(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Categorical(torch.ones(3)))


def test_refusals():
    vae, x = dgm.VAE.example()
    for options, message in (
        ({"temperatures": 1}, "temperatures"), ({"temperatures": [0.0, 0.5]}, "exactly 1"), ({"chains": 0}, "chains"),
        ({"num_steps": 1.5}, "num_steps"), ({"particles": 3}, "'ais' with temperatures"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            vae.evidence(x, "ais", **options)
    with pytest.raises(ValueError, match="not binary"):
        dgm.annealed_log_weights(categorical, guess, torch.zeros(3))
    vae.decoder.insert(1, torch.nn.Dropout(0.5))
    with pytest.raises(ValueError, match=r"\.eval\(\)"):
        dgm.annealed_log_weights(vae.model, vae.guide, x)
    dgm.annealed_log_weights(vae.eval().model, vae.guide, x, temperatures=3, chains=2)
    with pytest.raises(ValueError, match="at least 2 rows"):
        dgm.bidirectional_gap(vae.model, vae.guide, 1)


def bounded_by(bound):
    """A model and its guide with a site between 0 and ``bound`` of the site before it and the rows."""

    def latents(x):
        z = pyro.sample("z", dist.LogNormal(0.0, 0.5))
        return pyro.sample("below", dist.Uniform(0.0, bound(z, x)))

    def guide(x):
        with pyro.plate("data", len(x)):
            latents(x)

    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(latents(x), 1.0), obs=x)

    return model, guide


def test_a_support_that_depends_on_a_latent_is_refused():
    x = torch.tensor([0.5, -0.3, 2.0])
    model, guide = bounded_by(lambda z, x: z)
    with pytest.raises(ValueError, match="site 'below' has a support that depends on other latents"):
        dgm.annealed_log_weights(model, guide, x, temperatures=5, chains=3)


@pytest.mark.parametrize("bound", [lambda z, x: 1 + x.abs(), lambda z, x: (1 + x.abs()).expand(z.shape)])
def test_a_support_may_depend_on_the_row(bound):
    """p(x) is the mean of N(x; u, 1) over u in [0, bound], a difference of normal distribution functions."""
    x = torch.tensor([0.5, -0.3, 2.0])
    model, guide = bounded_by(bound)
    torch.manual_seed(0)
    log_w = dgm.annealed_log_weights(model, guide, x, temperatures=5, chains=4000).double()
    ends = 1 + x.abs().double()
    normal = torch.distributions.Normal(0.0, 1.0)
    exact = (normal.cdf(x) - normal.cdf(x - ends)) / ends
    ratio = log_w.exp() / exact
    assert ((ratio.mean(0) - 1).abs() < 6 * ratio.std(0) / math.sqrt(4000)).all()


def test_one_chain_or_particle_has_no_error():
    vae, x = dgm.VAE.example()
    with pytest.raises(
        ValueError,
        match="chains got 1; expected an integer of at least 2, without which annealing cannot tell its error",
    ):
        vae.evidence(x, "ais", chains=1)
    assert dgm.annealed_log_weights(vae.model, vae.guide, x, temperatures=3, chains=1).isfinite().all()
    figure = dgm.log_likelihood(vae, x, method="importance", particles=1)
    assert "error not known" in str(figure)
    assert figure.lower == -math.inf


def test_rows_bound_what_is_run_at_once(monkeypatch):
    """Also with few chains: the guide's scales take more draws than these."""
    from pyro_dgm.models.shared import latent

    sizes = []
    true = latent.anneal
    monkeypatch.setattr(
        latent, "anneal", lambda m, g, args, *rest: (sizes.append(len(args[0])), true(m, g, args, *rest))[1]
    )
    vae, x = dgm.VAE.example()
    vae.evidence(x, "ais", temperatures=3, chains=2, rows=4 * latent.SCALES)
    assert max(sizes) == 4
    assert sum(sizes) == len(x)
