"""The VAE against probabilistic PCA, and the multi-sample bound against exact answers."""

import contextlib
import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import MCMC, NUTS, SVI, Trace_ELBO
from pyro.optim import Adam

import pyro_dgm as dgm
from pyro_dgm.inference.pareto import indices, pareto
from pyro_dgm.inference.posterior import posterior_draws


def linear_gaussian(seed=0, visible=5, latent=2):
    """A VAE without hidden layers: probabilistic PCA, with its exact posterior in the encoder."""
    g = torch.Generator().manual_seed(seed)
    vae = dgm.VAE(visible, latent=latent, hidden=(), output="gaussian").double()
    W, b = torch.randn(visible, latent, generator=g).double(), torch.randn(visible, generator=g).double()
    log_scale = 0.3 * torch.randn(visible, generator=g).double()
    with torch.no_grad():
        vae.decoder[0].weight.copy_(W)
        vae.decoder[0].bias.copy_(b)
        vae.log_scale.copy_(log_scale)
    noise = torch.diag((2 * log_scale).exp())
    covariance = W @ W.T + noise
    marginal = torch.distributions.MultivariateNormal(b, covariance)
    precision = torch.eye(latent).double() + W.T @ torch.linalg.inv(noise) @ W
    gain = torch.linalg.solve(precision, W.T @ torch.linalg.inv(noise))
    return vae, marginal, gain, torch.linalg.inv(precision), b


def exact_guide(vae, gain, covariance, b):
    """The exact posterior, which is correlated, as a guide."""

    def guide(x=None, size=None):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.MultivariateNormal((x - b) @ gain.T, covariance))

    return guide


def test_exact_posterior_closes_the_gap():
    """With the exact posterior as guide every weight is log p(x), for any K."""
    vae, marginal, gain, covariance, b = linear_gaussian()
    x = marginal.sample((7,))
    weights = dgm.log_weights(vae.model, exact_guide(vae, gain, covariance, b), x, particles=3).detach()
    torch.testing.assert_close(weights, marginal.log_prob(x).expand(3, 7))


def test_bound_converges_to_probabilistic_pca():
    """A factorised guide with the posterior's means, too wide: the bound rises with K to log p(x) from below."""
    vae, marginal, gain, covariance, b = linear_gaussian()
    with torch.no_grad():
        vae.encoder[0].weight.copy_(torch.cat([gain, torch.zeros_like(gain)]))
        vae.encoder[0].bias.copy_(torch.cat([-gain @ b, 0.5 * covariance.diagonal().log() + 0.7]))
    x = marginal.sample((200,))
    exact = float(marginal.log_prob(x).mean())
    figures = [dgm.log_likelihood(vae, x, particles=k) for k in (2, 10, 100, 5000)]
    for low, high in zip(figures[:-1], figures[1:], strict=True):
        assert low.value < high.value + 4 * (low.stderr_estimator + high.stderr_estimator)
    assert abs(figures[-1].value - exact) < 5 * figures[-1].stderr_estimator + 1e-3
    assert figures[0].value < exact - 10 * figures[0].stderr_estimator
    assert {f.kind for f in figures} == {"lower bound"}
    assert math.isinf(figures[0].upper)


def test_training_reaches_the_best_linear_gaussian_model():
    """Data from a one-factor model: the trained bound comes within 0.1 nats of the maximum likelihood of PPCA with
    unequal noise, which is at least the generating model's likelihood on the data."""
    _, marginal, *_ = linear_gaussian(3, visible=4, latent=1)
    x = marginal.sample((1000,)).float()
    vae = dgm.VAE(4, latent=1, hidden=(), output="gaussian")
    dgm.fit(vae, x, epochs=40, batch_size=50, learning_rate=0.01, decay="linear", progress=False)
    figure = dgm.log_likelihood(vae, x, particles=200)
    assert figure.value > float(marginal.log_prob(x.double()).mean()) - 0.1


def test_one_particle_is_the_elbo():
    vae, x = dgm.VAE.example()
    pyro.set_rng_seed(0)
    iwae = dgm.IWAE(1).loss(vae.model, vae.guide, x)
    pyro.set_rng_seed(0)
    elbo = Trace_ELBO(max_plate_nesting=1).loss(vae.model, vae.guide, x)
    assert iwae == pytest.approx(elbo, rel=1e-5)


def test_batch_invariance():
    """Bound and gradient of the first rows do not change when the other rows do (same noise for the first)."""
    vae, x = dgm.VAE.example()
    vae.double()
    noise = torch.randn(5, 10, 2).double()

    class Fixed(dist.TorchDistribution):
        pass

    def guide(x=None, size=None):
        q = vae.encode(x)
        with pyro.plate("data", len(x)):
            value = q.base_dist.loc + q.base_dist.scale * noise[:, : len(x)]
            pyro.sample("z", dist.Delta(value, event_dim=1, log_density=q.log_prob(value)))

    def first(rows):
        vae.zero_grad()
        bound = dgm.log_weights(vae.model, guide, rows, particles=5).logsumexp(0)[:3]
        bound.sum().backward()
        return bound.detach(), [p.grad.clone() for p in vae.parameters()]

    x = x.double()
    a, grads = first(x)
    changed = torch.cat([x[:3], 1 - x[3:]])
    b, others = first(changed)
    torch.testing.assert_close(a, b)
    for g, h in zip(grads, others, strict=True):
        torch.testing.assert_close(g, h)


def test_iwae_scales_with_the_data_plate():
    vae, x = dgm.VAE.example()
    pyro.set_rng_seed(0)
    plain = dgm.IWAE(3).loss(vae.model, vae.guide, x)
    pyro.set_rng_seed(0)
    scaled = dgm.IWAE(3).loss(vae.model, vae.guide, x, size=50)
    assert scaled == pytest.approx(5 * plain, rel=1e-5)


def test_iwae_in_svi_and_as_a_module_give_the_same_gradient():
    vae, x = dgm.VAE.example()
    pyro.set_rng_seed(0)
    dgm.IWAE(4).loss_and_grads(vae.model, vae.guide, x)
    grads = [p.grad.clone() for p in vae.parameters()]
    vae.zero_grad()
    pyro.set_rng_seed(0)
    dgm.IWAE(4)(vae.model, vae.guide)(x).backward()
    for p, g in zip(vae.parameters(), grads, strict=True):
        torch.testing.assert_close(p.grad, g)


def test_discrete_latents_are_refused_by_dreg():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Bernoulli(0.5))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        p = pyro.param("p", torch.tensor(0.5))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Bernoulli(p))

    with pytest.raises(ValueError, match="not reparameterised"):
        SVI(model, guide, Adam({}), dgm.DReG(2)).step(torch.zeros(3))


def test_weights_by_enumeration():
    """Importance weights of a discrete latent average to the enumerated marginal."""
    p_z, means = torch.tensor([0.3, 0.7]), torch.tensor([-1.0, 2.0])

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Categorical(p_z))
            pyro.sample("x", dist.Normal(means[z], 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Categorical(torch.tensor([0.6, 0.4])))

    x = torch.tensor([-1.0, 0.0, 3.0])
    exact = (p_z * dist.Normal(means, 1.0).log_prob(x[:, None]).exp()).sum(1)
    w = dgm.log_weights(model, guide, x, particles=100_000).exp()
    assert ((w.mean(0) - exact).abs() < 6 * w.std(0) / math.sqrt(100_000)).all()


@pytest.mark.parametrize("kind", ["missing", "extra", "global"])
def test_bad_guides_name_the_site(kind):
    def model(x):
        scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0)) if kind == "global" else 1.0
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, scale), obs=x)

    def guide(x):
        if kind == "global":
            pyro.sample("scale", dist.LogNormal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            if kind != "missing":
                pyro.sample("z", dist.Normal(0.0, 1.0))
            if kind == "extra":
                pyro.sample("y", dist.Normal(0.0, 1.0))

    name = {"missing": "'z'", "extra": "'y'", "global": "'scale'"}[kind]
    with pytest.raises(ValueError, match=name):
        dgm.log_weights(model, guide, torch.zeros(3), particles=2)


def test_nuts_over_the_latents_with_fixed_parameters():
    """Stock NUTS on one row of a linear-Gaussian VAE meets the exact posterior."""
    vae, marginal, gain, covariance, b = linear_gaussian()
    x = marginal.sample((1,))
    for p in vae.parameters():
        p.requires_grad_(False)
    torch.set_default_dtype(torch.float64)
    try:
        mcmc = MCMC(NUTS(vae.model), 400, 200, disable_progbar=True)
        mcmc.run(x)
    finally:
        torch.set_default_dtype(torch.float32)
    z = mcmc.get_samples()["z"].view(-1, 2)
    error = covariance.diagonal().sqrt() / math.sqrt(100)
    assert ((z.mean(0) - ((x - b) @ gain.T)[0]).abs() < 6 * error).all()


def test_resampled_draws_follow_the_posterior():
    vae, marginal, gain, covariance, b = linear_gaussian()
    x = marginal.sample((4,))
    with torch.no_grad():
        vae.encoder[0].weight.zero_()
        vae.encoder[0].bias.copy_(torch.tensor([0.0, 0.0, 0.5, 0.5]))
    z = posterior_draws(vae.model, vae.guide, x, draws=2000, proposals=100_000)["posterior"]["z"]
    error = covariance.diagonal().sqrt() / math.sqrt(200)
    assert ((z.mean(0) - (x - b) @ gain.T).abs() < 6 * error).all()


def test_imputation_follows_the_conditional():
    """Metropolis within Gibbs against the conditional mean of the normal."""
    vae, marginal, gain, covariance, b = linear_gaussian()
    with torch.no_grad():
        vae.encoder[0].weight.copy_(torch.cat([gain, torch.zeros_like(gain)]))
        vae.encoder[0].bias.copy_(torch.cat([-gain @ b, 0.5 * covariance.diagonal().log()]))
    x = marginal.sample((1,)).expand(200, 5).contiguous()
    known = torch.tensor([True, True, True, False, False])
    S = marginal.covariance_matrix
    expected = b[3:] + S[3:, :3] @ torch.linalg.solve(S[:3, :3], x[0, :3] - b[:3])
    spread = (S[3:, 3:] - S[3:, :3] @ torch.linalg.solve(S[:3, :3], S[:3, 3:])).diagonal().sqrt()
    means = vae.impute(x, known, draws=200)[:, 3:].mean(0)
    # 200 chains of 200 draws, each worth at least ten independent draws.
    assert ((means - expected).abs() < 6 * spread / math.sqrt(2000)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"output": "poisson"}, "expected one of"), ({"activation": "gelu"}, "expected one of"), ({"latent": 0}, "at least 1"),
     ({"hidden": (0,)}, "at least 1")],
)  # fmt: skip
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        dgm.VAE(6, **options)


def test_the_guide_needs_data():
    vae, _ = dgm.VAE.example()
    with pytest.raises(ValueError, match="needs data"):
        vae.guide()


def test_pareto_index_of_weights_with_a_known_tail():
    """N(0, 1) by draws of N(0, s): the weights' tail index is 1 - s^2.

    The fit sees 212 draws of the tail, so k has a standard error of some (1 + k) / sqrt(212) = 0.1, its median over 50 rows
    0.02; the tolerance is five of them.
    """
    generator = torch.Generator().manual_seed(0)
    for s in (0.6, 0.8, 0.9):
        z = s * torch.randn(5000, 50, generator=generator)
        found = pareto(-(z**2) / 2 + z**2 / (2 * s * s))
        assert found["pareto_k_median"] == pytest.approx(1 - s * s, abs=0.1)
    assert pareto(torch.zeros(50, 3)) == {}
    assert pareto(torch.zeros(500, 3))["pareto_k_above_0.7"] == 0
    wild = pareto(1000 * torch.randn(1000, 20, generator=generator))
    assert wild["pareto_k_above_0.7"] == 1


def test_pareto_index_is_that_of_arviz():
    """Of light and heavy tails, of few weights, of ties (of all of a tail even, where the law is exponential), of no tail."""
    pytest.importorskip("arviz")
    generator = torch.Generator().manual_seed(0)
    for particles in (100, 400, 2500):  # tails of a whole number of weights, which versions round otherwise
        rows = torch.tensor([0.1, 1.0, 3.0, 30.0, 1000.0]) * torch.randn(particles, 5, generator=generator)
        ties = torch.stack(
            [rows[:, 1].round(), (rows[:, 1] > 2).double() + rows[:, 1].clamp_max(0), rows[:, 2].clamp_max(4)], 1
        )
        rows = torch.cat([rows, ties], 1).double()
        theirs = arviz_indices(rows.T.numpy())
        fitted = ~np.isnan(theirs)
        assert fitted[:3].all()
        np.testing.assert_allclose(indices(rows)[fitted], theirs[fitted], rtol=1e-9, atol=1e-9)
    # So many equal weights that theta = 0 is on the grid: log(1 - 0) over 0.
    equal = torch.zeros(1156)
    equal[:102] = 1.0
    assert indices(equal[:, None]).isfinite().all()


def arviz_indices(log_weights):
    """The index of every row by the installed version of ArviZ; of some ArviZ 1 gives none (NaN)."""
    import arviz

    if hasattr(arviz, "psislw"):
        return np.minimum(arviz.psislw(log_weights.copy())[1], 10.0)
    from arviz_stats.base import array_stats  # ArviZ 1.0, whose function takes log-likelihoods: the weights' negatives

    found = np.full(len(log_weights), np.nan)
    for number, row in enumerate(log_weights):
        with contextlib.suppress(ValueError):  # a tail of equal numbers
            found[number] = array_stats.psislw(-row)[1]
    return np.minimum(found, 10.0)


def test_the_bound_says_how_far_to_trust_its_weights():
    vae, x = dgm.VAE.example()
    details = vae.evidence(x, particles=500).details
    assert 1 <= details["effective_sample_size"] <= 500
    assert 0 <= details["pareto_k_above_0.7"] <= 1
