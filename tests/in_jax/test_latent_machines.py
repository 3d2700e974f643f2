"""Machines as latent sites of NumPyro models under NUTS."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from oracles import mixtures as mixture

import pyro_dgm as dgm
from pyro_dgm.in_jax import to_numpyro

jax = pytest.importorskip("jax")
numpyro = pytest.importorskip("numpyro")

NOISE = 0.7


def posterior(model, y):
    """p(z | y) by its mixture: for every h the Gaussian of z times that of y given z."""
    prior = mixture.of_gaussian_rbm(model)
    precision = np.eye(prior.size) / NOISE**2
    return mixture.Mixture(prior.switches, prior.Q + precision, prior.l + y / NOISE**2, prior.c)


def test_nuts_draws_from_the_posterior_of_real_units():
    """A site's posterior alone and those of two rows of a plate, all in one program.

    Means of z and z², which are known exactly, are within six standard errors by the chains' effective number of draws.
    """
    from numpyro.diagnostics import effective_sample_size
    from numpyro.infer import MCMC, NUTS

    rbm = dgm.GaussianRBM.example()[0]
    dist, size = to_numpyro(rbm()), rbm().event_shape.numel()
    y = np.random.default_rng(0).normal(size=(3, size))

    def see(name, observed):
        z = numpyro.sample(f"z {name}", dist)
        numpyro.sample(f"y {name}", numpyro.distributions.Normal(z, NOISE).to_event(1), obs=observed)

    def model():
        see("alone", y[0])
        with numpyro.plate("rows", 2):
            see("row", y[1:])

    mcmc = MCMC(NUTS(model), num_warmup=300, num_samples=2000, progress_bar=False)
    mcmc.run(jax.random.PRNGKey(0))
    draws = {name: np.asarray(x, float) for name, x in mcmc.get_samples().items()}
    z = np.concatenate([draws["z alone"][:, None], draws["z row"]], 1)
    for number, row in enumerate(y):
        exact, prior = (found.moments() for found in (posterior(rbm, row), mixture.of_gaussian_rbm(rbm)))
        for power, name in ((z, "z"), (z**2, "zz")):
            draws = power[:, number]
            error = draws.std(0) / np.sqrt(effective_sample_size(draws[None]))
            expected, wrong = (m[name] if name == "z" else np.diag(m[name]) for m in (exact, prior))
            assert (np.abs(draws.mean(0) - expected) < 6 * error).all()
            assert (np.abs(draws.mean(0) - wrong) > 6 * error).any()
            likelihood = row if name == "z" else row**2 + NOISE**2
            assert (np.abs(draws.mean(0) - likelihood) > 6 * error).any()


def test_the_support_of_real_units_is_the_real_line():
    support = to_numpyro(dgm.GaussianRBM.example()[0]()).support
    assert support.event_dim == 1
    x = np.zeros((2, 4))
    x[0, 1] = np.inf
    assert support(x).tolist() == [False, True]


def test_layers_that_no_gradient_moves_are_refused():
    from numpyro.distributions import biject_to

    graph = dgm.Graph({"visible": dgm.SpikeSlab(2, 2), "hidden": dgm.Binary(1)}, [dgm.Dense("visible", "hidden")])
    eta = torch.zeros(2, 2), torch.tensor([[0.0, -0.5]] * 2)
    dist = dgm.BoltzmannDistribution(graph, {"visible": eta, "hidden": (torch.zeros(1),)}, [torch.zeros(4, 1)])
    with pytest.raises(NotImplementedError, match="spike and slab units hold values that no gradient moves"):
        biject_to(to_numpyro(dist).support)
