"""Under torch.autocast figures and draws are those without it, and training works."""

import pytest
import torch
from oracles.few import few

import pyro_dgm as dgm
from pyro_dgm import registry

MODELS = registry.models()
pytestmark = pytest.mark.usefixtures("short_anchor")


def forgets_gradients():
    """Whether torch's cache of rounded weights, filled without gradients, is used with them, as torch 2.4 to 2.6 do."""
    net, x = torch.nn.Linear(2, 2), torch.ones(1, 2)
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            net(x)
        return not net(x).requires_grad


def half():
    return torch.autocast("cpu", torch.bfloat16, cache_enabled=not forgets_gradients())


def figure(model, x):
    torch.manual_seed(0)
    return dgm.log_likelihood(model, x, **few(model)).value


@pytest.mark.parametrize("cls", MODELS.values(), ids=MODELS)
def test_figures_and_draws_leave_it(cls):
    """bfloat16 has three digits: figures that agree in every digit were computed without it."""
    model, x = cls.example()
    if "evidence" in cls.abilities():
        plain = figure(model, x)
        with half():
            assert figure(model, x) == plain
    torch.manual_seed(0)
    drawn = model.sample(3)
    with half():
        torch.manual_seed(0)
        assert torch.equal(model.sample(3), drawn)


@pytest.mark.parametrize("cls", MODELS.values(), ids=MODELS)
def test_training_works_under_it(cls):
    model, x = cls.example()
    before = [p.detach().clone() for p in model.parameters()]
    with half():
        dgm.fit(model, x, epochs=1, progress=False)
    after = list(model.parameters())
    assert all(bool(p.isfinite().all()) for p in after)
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_machines_leave_it_in_a_loop_of_ones_own():
    rbm, x = dgm.RBM.example()
    d = rbm()
    with half():
        assert torch.equal(d.log_prob(x), rbm().log_prob(x.bfloat16()))
        log_p, log_z = d.log_prob(x), dgm.log_partition(d).value
        torch.manual_seed(0)
        chains = dgm.VectorizedMCMC(dgm.BlockGibbs(d), 3, 2, num_chains=4, disable_progbar=True)
        chains.run()
        assert chains.get_samples()["visible"].dtype == torch.float32
    assert torch.equal(log_p, d.log_prob(x))
    assert torch.equal(log_z, dgm.log_partition(d).value)
