"""The same work by other packages, each in its own way."""

from __future__ import annotations

import pytest
import torch

import pyro_dgm as dgm

from .speed import fit_step, pcd_by_svi, ratios


def test_pcd_epoch_against_scikit_learn(benchmark):
    """10,000 rows, batch 100, one pass: SVI's steps, the same with light runs, and those of fit against BernoulliRBM.

    ``BernoulliRBM`` does not follow log Z, as ``fit`` does unless it is told not to.
    """
    from sklearn.neural_network import BernoulliRBM

    x = (torch.rand(10_000, 784) < 0.2).float()
    array = x.numpy()
    rbm, second, other, last = (dgm.RBM(784, 500) for _ in range(4))
    svi, light = pcd_by_svi(rbm), pcd_by_svi(second, dgm.optim.SGD, dgm.LightELBO())

    def by(inference):
        for batch in x.split(100):
            inference.step(batch)

    for machine in (rbm, second, other, last):
        machine.initialise(x)  # as fit does: biases at the columns' means
    batch = torch.empty(100, 784)
    step = fit_step(other, other.objective(), batch, "sgd", 1e-4)
    short = fit_step(last, last.objective(follow=False), batch, "sgd", 1e-4)

    def fitted(step):
        for rows in x.split(100):
            batch.copy_(rows)
            step()

    def theirs():
        BernoulliRBM(n_components=500, batch_size=100, n_iter=1, learning_rate=0.01, random_state=0).fit(array)

    ratios(
        benchmark,
        "PCD-1, 10,000 rows of 784 by batches of 100, 500 hidden, against scikit-learn's `BernoulliRBM`",
        "fit ≤ 0.5, SVI ≤ 0.77",
        rounds=7,
        pause=0.1,
        svi=lambda: by(svi),
        svi_light=lambda: by(light),
        fit=lambda: fitted(step),
        fit_without_log_z=lambda: fitted(short),
        scikit_learn=theirs,
    )


def test_pcd_step_against_rbms(benchmark):
    """A step of centred PCD-1 by fit against that of ``rbms``."""
    pytest.importorskip("rbms")
    x = (torch.rand(100, 784) < 0.2).float()
    rbm, other = dgm.RBM(784, 500), dgm.RBM(784, 500)
    ratios(
        benchmark,
        "centred PCD-1 step, 784×500, batch 100, against `rbms`",
        "≤ 0.5",
        fit=fit_step(rbm, rbm.objective(chains=100, centred=True), x, "sgd", 1e-2),
        fit_without_log_z=fit_step(other, other.objective(chains=100, centred=True, follow=False), x, "sgd", 1e-2),
        rbms=rbms_step(x),
    )


def rbms_step(x):
    """A step of ``rbms`` as its training makes it, from as many persistent chains."""
    from rbms.bernoulli_bernoulli.classes import BBRBM
    from rbms.training.pcd import fit_batch_pcd

    rbm = BBRBM(0.01 * torch.randn(784, 500), torch.zeros(784), torch.zeros(500))
    optimiser = torch.optim.SGD(rbm.parameters(), lr=1e-2, maximize=True)
    rbm.init_grad()
    chains = [rbm.init_chains(num_samples=100)]
    weights = torch.ones(100, 1)

    @torch.no_grad()
    def step():
        optimiser.zero_grad(set_to_none=False)
        chains[0], _ = fit_batch_pcd((x, weights), chains[0], rbm, gibbs_steps=1, beta=1.0)
        optimiser.step()

    return step


def test_vae_step_against_numpyro(benchmark):
    """The same step by fit against NumPyro's compiled ``SVI.update``."""
    pytest.importorskip("numpyro", reason="NumPyro is optional")
    x = (torch.rand(100, 784) < 0.2).float()
    vae = dgm.VAE(784)
    ratios(
        benchmark,
        "VAE step, 784-200-200-50, batch 100, against NumPyro's compiled `SVI.update`",
        "≤ 1",
        fit=fit_step(vae, vae.objective(), x, "adam", 1e-3),
        numpyro=numpyro_vae(x.numpy()),
    )


def numpyro_vae(x):
    """A step of the same autoencoder in NumPyro, compiled and waited for."""
    import jax
    import numpyro
    from jax.example_libraries.stax import Dense, Tanh, serial
    from numpyro import distributions

    def network(*sizes):
        layers = [layer for size in sizes for layer in (Dense(size), Tanh)]
        return serial(*layers[:-1])

    def model(x):
        decoder = numpyro.module("decoder", network(200, 200, 784), (100, 50))
        with numpyro.plate("data", 100):
            z = numpyro.sample("z", distributions.Normal(0, 1).expand([50]).to_event(1))
            numpyro.sample("x", distributions.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

    def guide(x):
        encoder = numpyro.module("encoder", network(200, 200, 100), (100, 784))
        location, log_scale = jax.numpy.split(encoder(x), 2, -1)
        with numpyro.plate("data", 100):
            numpyro.sample("z", distributions.Normal(location, jax.numpy.exp(log_scale)).to_event(1))

    svi = numpyro.infer.SVI(model, guide, numpyro.optim.Adam(1e-3), numpyro.infer.TraceMeanField_ELBO())
    x = jax.numpy.asarray(x)
    state, update = [svi.init(jax.random.PRNGKey(0), x)], jax.jit(svi.update, donate_argnums=0)

    def step():
        state[0], loss = update(state[0], x)
        jax.block_until_ready((state[0], loss))

    return step
