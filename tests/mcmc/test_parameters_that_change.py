"""Kernels keep nothing of a machine's values between steps, and persistent chains persist whatever moves them."""

import functools

import pytest
import torch
from pyro.infer import Trace_ELBO

import pyro_dgm as dgm

KERNELS = {
    "gibbs": dgm.BlockGibbs,
    "tempering": functools.partial(dgm.ParallelTempering, temperatures=4),
    "transitions": functools.partial(dgm.TemperedTransitions, temperatures=5),
}


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_follow_their_parameters(name):
    """The biases change after the kernel was made and has moved: the chains' means are the new machine's, by enumeration."""
    rbm = dgm.RBM(4, 3)
    with torch.no_grad():
        rbm.weight.normal_(0, 0.5)
    kernel = KERNELS[name](rbm())
    chains = 4000
    state = kernel.sample(kernel.start(chains))
    with torch.no_grad():
        rbm.visible_bias += torch.tensor([3.0, -3.0, 3.0, 1.0])
    for _ in range(30):
        state = kernel.sample(state)
    means = kernel.draws(state)["visible"].mean(0)
    states = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)
    exact = (rbm().log_prob(states).exp().unsqueeze(-1) * states).sum(0).detach()
    # Five standard errors of a mean of independent bits.
    assert ((means - exact).abs() < 5 * (exact * (1 - exact) / chains).sqrt() + 1e-3).all()


@pytest.mark.parametrize(
    "kernel",
    [
        functools.partial(dgm.HMC, step_size=1e-6, target_acceptance=None),
        functools.partial(dgm.GibbsLangevin, step_size=1e-6, target_acceptance=None),
    ],
)
def test_persistent_chains_persist(kernel):
    """Steps of 1e-6 move chains by hardly more than that; chains that start anew would move by a standard deviation."""
    model, x = dgm.GaussianRBM.example()
    phase = dgm.PCD(chains=20, kernel=kernel)
    program = dgm.negative_phase(model.model, phase)
    places = []
    for _ in range(3):
        Trace_ELBO(max_plate_nesting=1).differentiable_loss(program, model.guide, x)
        places.append(phase.chains["x"]["visible"].clone())
    assert all(float((b - a).abs().max()) < 1e-3 for a, b in zip(places, places[1:], strict=False))


@pytest.mark.parametrize("make", [lambda: dgm.GaussianRBM.example()[0], lambda: dgm.DBM(5, (3, 2), unit="gaussian")])
@pytest.mark.parametrize("kernel", [*KERNELS.values(), dgm.HMC, dgm.GibbsLangevin])
def test_no_kernel_starts_its_chains_anew(make, kernel):
    """Whatever layers and replicas its state holds, and however many layers the machine has."""
    model, phase, starts = make(), dgm.PCD(chains=8, kernel=kernel), []
    begin = phase._start
    phase._start = lambda *arguments: starts.append(1) or begin(*arguments)
    program = dgm.negative_phase(model.model, phase)
    for _ in range(3):
        Trace_ELBO(max_plate_nesting=1).differentiable_loss(program, model.guide, torch.randn(4, 5))
    assert len(starts) == 1


class Still(dgm.BlockGibbs):
    """A kernel of a user's that does not move."""

    def sample(self, params):
        return params


@pytest.mark.parametrize("k", [1, 3])
def test_a_kernel_of_ones_own_moves_the_chains(k):
    rbm, x = dgm.RBM.example()
    phase = dgm.PCD(k=k, chains=20, kernel=Still)
    program = dgm.negative_phase(rbm.model, phase)
    places = []
    for _ in range(3):
        Trace_ELBO(max_plate_nesting=1).differentiable_loss(program, rbm.guide, x)
        places.append(phase.chains["x"]["visible"].clone())
    assert torch.equal(places[0], places[1])
    assert torch.equal(places[1], places[2])
