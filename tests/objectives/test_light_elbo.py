"""Pyro's ELBOs in SVI by light runs: the losses and parameters of the estimators within, whatever the programs are."""

import copy
import pickle

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, RenyiELBO, ReweightedWakeSleep, Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoDelta, AutoDiagonalNormal, AutoNormal, init_to_sample

import pyro_dgm as dgm
from pyro_dgm import registry
from pyro_dgm.models.shared.decoded import DecodedModel
from pyro_dgm.models.shared.energy_based import EnergyModel
from pyro_dgm.objectives.objective import Elbo


def by_svi(model, x, loss, program=lambda model: model.model, optimiser=None, steps=3):
    """Losses, parameters and the state of the generator after steps of SVI on a copy of a model."""
    model = copy.deepcopy(model)
    pyro.clear_param_store()
    pyro.set_rng_seed(4)
    svi = SVI(program(model), model.guide, optimiser or pyro.optim.SGD({"lr": 1e-3}), loss)
    losses = [svi.step(x) for _ in range(steps)]
    losses.append(svi.evaluate_loss(x))
    return losses, {name: p.detach() for name, p in model.named_parameters()}, torch.rand(2)


def assert_same(one, two):
    assert one[0] == pytest.approx(two[0], rel=1e-5, abs=1e-4)
    for name, value in one[1].items():
        torch.testing.assert_close(value, two[1][name], rtol=1e-4, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}")
    assert torch.equal(one[2], two[2])


def is_light(loss):
    steps = loss._known[-1][2]
    return steps is not None and steps._runs._plain


def trained_by_elbo():
    for name, cls in registry.models().items():
        model, x = cls.example()
        objective = model.objective("elbo", 1) if isinstance(model, DecodedModel) else model.objective()
        if isinstance(objective, Elbo) and type(objective.elbo) in (Trace_ELBO, TraceMeanField_ELBO):
            yield name, model, x


@pytest.mark.filterwarnings("ignore:Failed to verify mean field")
@pytest.mark.parametrize("stock", [Trace_ELBO, TraceMeanField_ELBO])
def test_models_are_trained_as_by_the_estimator(stock):
    light = set()
    for name, model, x in trained_by_elbo():
        loss = dgm.LightELBO(stock())
        assert_same(by_svi(model, x, loss), by_svi(model, x, stock()))
        light |= {name} if is_light(loss) else set()
    assert {"vae", "draw", "conditionalvae", "nade", "variationalrnn"} <= light
    # Its guide has its sites in another order than the model, of which Pyro warns where divergences are in closed form.
    assert ("hierarchicalvae" in light) == (stock is Trace_ELBO)


def test_machines_are_trained_as_by_the_estimator():
    light = set()
    for name, cls in registry.models().items():
        model, x = cls.example()
        if isinstance(model, EnergyModel):
            loss = dgm.LightELBO()
            programs = [lambda model: dgm.negative_phase(model.model, dgm.CD())] * 2
            one, two = (by_svi(model, x, *pair) for pair in zip((loss, Trace_ELBO()), programs, strict=True))
            assert_same(one, two)
            light |= {name} if is_light(loss) else set()
    assert {"rbm", "dbm", "gaussianrbm"} <= light


def test_parameters_are_those_that_svi_looks_for():
    """The first step is the estimator's own, and the second a light one."""
    vae, x = dgm.VAE.example()
    pyro.clear_param_store()
    loss, programs = dgm.LightELBO(), (vae.model, vae.guide)
    for _ in range(2):
        with poutine.trace(param_only=True) as seen:
            loss.loss_and_grads(*programs, x)
        found = {id(site["value"].unconstrained()) for site in seen.trace.nodes.values()}
        assert found == {id(p) for p in vae.parameters()}
    assert is_light(loss)


def discrete():
    return dgm.SBN.example()


def scaled():
    class Halved(dgm.VAE):
        @property
        def model(self):
            return poutine.scale(super().model, scale=0.5)

    return Halved(6, latent=2, hidden=(5,)), dgm.VAE.example()[1]


@pytest.mark.parametrize("example", [discrete, scaled, dgm.VAE.example])
@pytest.mark.parametrize(
    "stock",
    [
        Trace_ELBO,
        lambda: Trace_ELBO(num_particles=3),
        lambda: Trace_ELBO(num_particles=3, vectorize_particles=True),
        TraceGraph_ELBO,
    ],
)
def test_whatever_else_goes_to_the_estimator(example, stock):
    model, x = example()
    loss = dgm.LightELBO(stock())
    assert_same(by_svi(model, x, loss), by_svi(model, x, stock()))
    assert is_light(loss) == (stock is Trace_ELBO and example is not discrete)


def test_programs_of_ones_own():
    def model(x):
        location = pyro.param("location", torch.tensor(0.3))
        z = pyro.sample("z", dist.Normal(location, 1.0))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        pyro.sample("z", dist.Normal(pyro.param("mean", torch.tensor(0.1)), 1.0))

    found = []
    for loss in (dgm.LightELBO(), Trace_ELBO()):
        pyro.clear_param_store()
        pyro.set_rng_seed(1)
        svi = SVI(model, guide, pyro.optim.SGD({"lr": 0.01}), loss)
        found.append([svi.step(torch.ones(5)) for _ in range(3)] + [pyro.param("mean").item()])
    assert found[0] == found[1]


@pytest.mark.parametrize("guide", [AutoNormal, AutoDelta, AutoDiagonalNormal])
def test_guides_are_made_by_the_same_draws(guide):
    """Pyro's automatic guides draw where they start when they are first called."""
    vae, x = dgm.VAE.example()
    found = []
    for loss in (dgm.LightELBO(), Trace_ELBO()):
        pyro.clear_param_store()
        pyro.set_rng_seed(1)
        svi = SVI(vae.model, guide(vae.model, init_loc_fn=init_to_sample), pyro.optim.SGD({"lr": 0.0}), loss)
        found.append([svi.step(x) for _ in range(3)] + [torch.rand(1).item()])
    assert found[0] == found[1]


def test_programs_of_ones_own_run_once_a_step():
    """Batches and weights may come from what a program counts, and from draws that are not torch's."""
    rows = iter(torch.rand(3, 5))

    def model():
        pyro.sample(
            "x",
            dist.Normal(pyro.param("location", lambda: torch.randn(())), 1.0).expand([5]).to_event(1),
            obs=next(rows),
        )

    svi = SVI(model, lambda: None, pyro.optim.SGD({"lr": 0.01}), dgm.LightELBO())
    assert len({svi.step() for _ in range(3)}) == 3


@pytest.mark.parametrize("site", [None, "instructed", "factor", "plate", "global"])
def test_programs_that_need_the_estimator_run_once_a_step(site):
    vae, x = dgm.VAE.example()
    model, guide, count = vae.model, vae.guide, [0]

    def counted(x):
        count[0] += 1
        if site == "factor":
            pyro.factor("constant", torch.tensor(1.0))
        if site == "plate":
            with pyro.plate("others", 2):
                pyro.sample("y", dist.Normal(0.0, 1.0), obs=torch.zeros(2))
        if site == "global":
            pyro.sample("y", dist.Bernoulli(0.5), obs=torch.tensor(1.0))
        (poutine.infer_config(model, lambda site: {"told": True}) if site == "instructed" else model)(x)

    loss = dgm.LightELBO()
    svi = SVI(counted, guide, pyro.optim.SGD({"lr": 1e-3}), loss)
    for _ in range(3):
        svi.step(x)
    assert count == [3]
    assert is_light(loss) == (site is None)


def test_programs_with_discrete_latents_run_once_a_step():
    sbn, x = dgm.SBN.example()
    model, guide, calls = sbn.model, sbn.guide, []
    svi = SVI(lambda x: calls.append(1) or model(x), guide, pyro.optim.SGD({"lr": 1e-3}), dgm.LightELBO())
    for _ in range(3):
        svi.step(x)
    assert len(calls) == 3


def test_a_guide_that_observes_is_refused_as_by_pyro():
    vae, x = dgm.VAE.example()
    loss, guides, model = dgm.LightELBO(), [vae.guide], vae.model

    def guide(x):
        guides[-1](x)

    for _ in range(2):
        loss.loss(model, guide, x)
    guides.append(poutine.condition(vae.guide, {"z": torch.zeros(len(x), 2)}))
    with pytest.raises(RuntimeError, match="must be sampled"):
        loss.loss(model, guide, x)


def test_losses_of_two_numbers_are_passed_on():
    vae, x = dgm.VAE.example()
    svi = SVI(vae.model, vae.guide, pyro.optim.SGD({"lr": 1e-3}), dgm.LightELBO(ReweightedWakeSleep(num_particles=2)))
    assert len(svi.step(x)) == len(svi.evaluate_loss(x)) == 2


def test_an_estimator_without_a_differentiable_loss_serves_svi():
    vae, x = dgm.VAE.example()
    assert_same(by_svi(vae, x, dgm.LightELBO(RenyiELBO(alpha=0.5))), by_svi(vae, x, RenyiELBO(alpha=0.5)))


def test_bad_parameters_are_named_as_by_pyro():
    vae, x = dgm.VAE.example()
    pyro.clear_param_store()
    loss = dgm.LightELBO()
    svi = SVI(vae.model, vae.guide, pyro.optim.SGD({"lr": 1e-3}), loss)
    for _ in range(3):
        svi.step(x)
    assert is_light(loss)
    with pytest.raises(ValueError, match="Expected value argument"):
        svi.step(0.5 * x)
    with torch.no_grad():
        vae.encoder[0].weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match="Expected parameter"):
        svi.step(x)


def test_torchs_optimisers_and_fit_take_it():
    vae, x = dgm.VAE.example()
    results = []
    for loss in (dgm.LightELBO(TraceMeanField_ELBO()), TraceMeanField_ELBO()):
        torch.manual_seed(2)
        model = copy.deepcopy(vae)
        module = loss(model.model, model.guide)
        for _ in range(3):
            module(x).backward()
        results.append([p.grad for p in model.parameters()])
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)
    losses = [
        dgm.fit(copy.deepcopy(vae), x, objective=dgm.Elbo(elbo), epochs=2, progress=False).history[-1]["loss"]
        for elbo in (dgm.LightELBO(TraceMeanField_ELBO()), TraceMeanField_ELBO())
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_one_estimator_serves_models_in_turn():
    loss = dgm.LightELBO(TraceMeanField_ELBO())
    (vae, x), (other, y) = dgm.VAE.example(), (dgm.VAE(4, latent=2, hidden=(3,)), torch.ones(3, 4))
    programs = [(vae.model, vae.guide, x), (other.model, other.guide, y)]
    values = [loss.loss(*pair) for pair in programs * 2]
    assert values[0] != values[1]
    assert all(steps._runs._plain for *_, steps in loss._known)


def test_copies_are_of_the_estimator_alone():
    vae, x = dgm.VAE.example()
    loss = dgm.LightELBO(TraceMeanField_ELBO(num_particles=1))
    loss.loss(vae.model, vae.guide, x)
    for copied in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert not copied._known
        assert isinstance(copied.elbo, TraceMeanField_ELBO)


def test_what_is_no_estimator_is_refused():
    with pytest.raises(ValueError, match=r"elbo got .*Trace_ELBO.*; expected an instance"):
        dgm.LightELBO(Trace_ELBO)


OPTIMISERS = {
    "sgd": (dgm.optim.SGD, pyro.optim.SGD, {"lr": 1e-3}),
    "adam": (dgm.optim.Adam, pyro.optim.Adam, {"lr": 1e-3, "betas": (0.9, 0.99)}),
    "adamw": (dgm.optim.AdamW, pyro.optim.AdamW, {"lr": 1e-3, "weight_decay": 0.1}),
}


@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize("clipped", [False, True])
def test_optimisers_step_as_pyros(name, clipped):
    ours, pyros, options = OPTIMISERS[name]
    vae, x = dgm.VAE.example()
    clip = {"clip_norm": 0.1} if clipped else None
    fused = {"fused": True} if name != "sgd" else {}
    one = by_svi(vae, x, Trace_ELBO(), optimiser=ours(lambda parameter: options, clip))
    two = by_svi(vae, x, Trace_ELBO(), optimiser=pyros(options | fused, clip))
    assert one[0] == two[0]
    assert all(torch.equal(one[1][parameter], value) for parameter, value in two[1].items())


def test_a_chosen_loop_is_heeded_and_states_are_pyros():
    vae, x = dgm.VAE.example()
    plain = dgm.optim.Adam({"lr": 1e-3, "foreach": False})
    by_svi(vae, x, Trace_ELBO(), optimiser=plain)
    assert all(not inner.defaults["fused"] for inner in plain.optim_objs.values())
    fused = dgm.optim.Adam({"lr": 1e-3})
    by_svi(vae, x, Trace_ELBO(), optimiser=fused)
    assert all(inner.defaults["fused"] for inner in fused.optim_objs.values())
    assert isinstance(pickle.loads(pickle.dumps(dgm.optim.Adam({"lr": 1e-3}))), pyro.optim.PyroOptim)
