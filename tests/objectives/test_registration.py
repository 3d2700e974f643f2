"""Losses under torch's optimisers leave Pyro's parameter store alone; everything else still finds the parameters."""

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO

import pyro_dgm as dgm
from pyro_dgm.inference.registration import is_unregistered, unregistered


@pytest.fixture(autouse=True)
def empty_store():
    pyro.clear_param_store()
    yield
    pyro.clear_param_store()


MODELS = {"rbm": dgm.RBM, "sbn": dgm.SBN, "vae": dgm.VAE, "draw": dgm.DRAW}


@pytest.mark.parametrize("name", MODELS)
def test_the_loss_of_fit_leaves_the_store_empty_and_reaches_every_parameter(name):
    model, x = MODELS[name].example()
    objective = model.objective()
    objective.attach(model)
    objective.loss(x).backward()
    assert len(pyro.get_param_store()) == 0
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters())


@pytest.mark.parametrize("make", [dgm.NVIL, lambda: dgm.VIMCO(3), lambda: dgm.IWAE(3)], ids=["nvil", "vimco", "iwae"])
def test_an_estimator_as_a_module_has_the_gradient_of_svi_and_leaves_the_store_empty(make):
    model, x = (dgm.VAE if isinstance(make(), dgm.IWAE) else dgm.SBN).example()
    pyro.set_rng_seed(0)
    make()(model.model, model.guide)(x).backward()
    assert len(pyro.get_param_store()) == 0
    direct = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    pyro.set_rng_seed(0)
    with poutine.trace(param_only=True) as captured:
        make().loss_and_grads(model.model, model.guide, x)
    found = {id(site["value"].unconstrained()) for site in captured.trace.nodes.values()}
    assert found == {id(p) for p in model.parameters()}
    assert all(torch.equal(direct[name], p.grad) for name, p in model.named_parameters())


def test_svi_trains_all_parameters():
    vae, x = dgm.VAE.example()
    before = [p.detach().clone() for p in vae.parameters()]
    SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO()).step(x)
    assert len(pyro.get_param_store()) == len(before)
    assert all(not torch.equal(old, new) for old, new in zip(before, vae.parameters(), strict=True))


def test_handlers_around_a_loss_see_its_parameters():
    sbn, x = dgm.SBN.example()
    module = dgm.VIMCO(3)(sbn.model, sbn.guide)
    with poutine.trace(param_only=True) as seen:
        module(x)
    assert len(seen.trace.nodes) == len(list(sbn.parameters()))


def test_the_block_ends_with_an_error():
    def failing():
        with unregistered(), unregistered():
            assert is_unregistered()
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        failing()
    assert not is_unregistered()


class Pair(pyro.nn.PyroModule):
    """Two models whose networks have the same names, read outside of any plate."""

    def __init__(self):
        super().__init__()
        self.one, self.two = (dgm.VAE(6, latent=2, hidden=(3,)) for _ in range(2))

    def forward(self):
        return [model.encoder for model in (self.one, self.two, self.one)]


def test_networks_are_registered_once_for_every_model(monkeypatch):
    """Their models share the context of the module around them."""
    pair, told, module = Pair(), [], pyro.module
    monkeypatch.setattr(pyro, "module", lambda name, *rest: (told.append(name), module(name, *rest))[1])
    parameters = poutine.trace(pair, param_only=True).get_trace().nodes
    assert told == ["one.encoder", "two.encoder"]
    names = [name for name, _ in pair.one.encoder.named_parameters()]
    assert set(parameters) == {f"{model}.encoder$$${name}" for model in ("one", "two") for name in names}
