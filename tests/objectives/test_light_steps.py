"""Steps without traces: the loss, gradients and draws of Pyro's own estimators; programs that are not plain stay with Pyro."""

import contextlib
import copy
import math
from collections import Counter

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from torch._subclasses import FakeTensor, FakeTensorMode
from torch.distributions import kl_divergence

import pyro_dgm as dgm
from pyro_dgm import registry
from pyro_dgm.distributions import sums
from pyro_dgm.distributions.standard_normal import standard_normal
from pyro_dgm.distributions.sums import summed_divergence, summed_log_prob
from pyro_dgm.inference.light import LightRuns, checked_rows, shared, some_missing
from pyro_dgm.inference.registration import unregistered
from pyro_dgm.models.shared import LatentVariableModel
from pyro_dgm.models.shared.decoded import DecodedModel
from pyro_dgm.models.shared.energy_based import EnergyModel
from pyro_dgm.objectives.elbo_steps import ElboSteps
from pyro_dgm.objectives.objective import Elbo

ELBOS = (Trace_ELBO, TraceMeanField_ELBO)


def step(model, loss_of, x, seed=3):
    """Loss, gradients, and the state of the generator after them."""
    model.zero_grad()
    torch.manual_seed(seed)
    loss = loss_of(x)
    loss.backward()
    gradients = {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}
    return loss.detach(), gradients, torch.rand(2)


def assert_same(one, two):
    torch.testing.assert_close(one[0], two[0])
    for name, gradient in one[1].items():
        torch.testing.assert_close(
            gradient, two[1][name], rtol=1e-4, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}"
        )
    assert torch.equal(one[2], two[2])


def trained_by_elbo():
    for name, cls in registry.models().items():
        model, x = cls.example()
        objective = model.objective("elbo", 1) if isinstance(model, DecodedModel) else model.objective()
        if isinstance(objective, Elbo) and type(objective.elbo) in ELBOS:
            yield name, model, x, objective


def test_a_light_step_is_pyros_step_for_every_model_that_an_elbo_trains():
    seen = set()
    for name, model, x, objective in trained_by_elbo():
        objective.attach(model)
        steps, stock = objective._steps, dgm.Elbo(objective.elbo, kl_weight=0.7)
        stock.attach(model)
        stock._steps._term = None
        for _ in range(2):  # with validation, and without
            light = step(model, lambda x, steps=steps: steps(x, 0.7), x)
            assert_same(light, step(model, lambda x, stock=stock: stock.loss(x) * len(x), x))
        seen |= {name} if steps._runs._plain else set()
    assert {"vae", "hierarchicalvae", "draw", "conditionalvae", "nade", "variationalrnn"} <= seen


def trained_by_phases():
    for name, cls in registry.models().items():
        model, x = cls.example()
        if isinstance(model, EnergyModel) and type(model.objective()) is dgm.NegativePhaseObjective:
            yield name, model, x


def phase_steps(model, x, short):
    """Three steps of a model's own objective, in a block of checked rows or not."""
    model, objective, found = copy.deepcopy(model), model.objective(), []
    objective.attach(model)
    pyro.set_rng_seed(1)
    with checked_rows() if short else contextlib.nullcontext():
        for seed in range(3):
            found.append(step(model, objective.loss, x, seed))
    return found


def test_programs_of_one_site_have_the_same_steps_without_a_trace(monkeypatch):
    short_steps = Counter()
    for _, model, x in trained_by_phases():
        seen = []
        with monkeypatch.context() as patch:
            patch.setattr(type(model), "only_site", lambda self, s=seen: s.append(1) or EnergyModel.only_site(self))
            for light, stock in zip(phase_steps(model, x, True), phase_steps(model, x, False), strict=True):
                assert_same(light, stock)
        short_steps[len(seen)] += 1
    assert short_steps.keys() == {3}  # the first one too, so that resumed runs round alike
    assert short_steps[3] >= 10


def test_subclasses_with_programs_of_their_own_are_traced():
    class Scored(dgm.RBM):
        def generate(self, x=None, size=None):
            with self.data_plate(x, size):
                pyro.factor("prior", torch.zeros(len(x)))
                return pyro.sample("x", self(), obs=x)

    class Beyond(dgm.RBM):
        def infer(self, *args, **kwargs):
            pyro.sample("z", dist.Normal(0.0, 1.0))

    class Scaled(dgm.RBM):
        @property
        def model(self):
            return poutine.scale(super().model, scale=0.5)

    class OnlyScaledPlates(dgm.RBM):
        def data_plate(self, x, size):
            stack = contextlib.ExitStack()
            stack.enter_context(poutine.scale(scale=0.5))
            stack.enter_context(super().data_plate(x, size))
            return stack

    patched = dgm.RBM(6, 4)
    patched.generate = poutine.scale(patched.generate, scale=0.5)
    for model in (Scored(6, 4), Beyond(6, 4), Scaled(6, 4), OnlyScaledPlates(6, 4), patched):
        assert model.only_site() is None
    assert dgm.RBM(6, 4).only_site() is not None


def test_a_machine_in_a_mask_is_traced():
    class Masked(dgm.RBM):
        def forward(self):
            return super().forward().mask(torch.tensor(False))

    objective, model = dgm.NegativePhaseObjective(dgm.CD()), Masked(6, 4)
    objective.attach(model)
    with checked_rows():
        assert objective.loss(torch.ones(5, 6)).item() == 0


def test_a_short_step_that_fails_is_explained_by_pyro():
    rbm, x = dgm.RBM.example()
    objective = rbm.objective()
    objective.attach(rbm)
    with checked_rows():
        objective.loss(x)
        with torch.no_grad():
            rbm.weight[0, 0] = torch.nan
        with pytest.raises(ValueError, match=r"the weight between .* holds nan"):
            objective.loss(x)


class Own(LatentVariableModel):
    """A model of rows of three bits whose programs a test gives."""

    guide_needs_rows = True

    def __init__(self, generate=None, infer=None):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
        self.programs = generate, infer

    def generate(self, x=None, size=None):
        if self.programs[0] is not None:
            return self.programs[0](self, x)
        with self.data_plate(x, size):
            z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            return pyro.sample("x", dist.Bernoulli(logits=z).to_event(1), obs=x)

    def infer(self, x, size=None):
        mean = self.net(x)
        if self.programs[1] is not None:
            return self.programs[1](self, x, mean)
        with self.data_plate(x, size):
            pyro.sample("z", dist.Normal(mean, 1.0).to_event(1))

    objective = options = check_data = example = lambda *_: None


X = torch.randint(0, 2, (8, 3), generator=torch.Generator().manual_seed(0)).float()


def own_plate(model, x):
    with pyro.plate("data", len(x), dim=-1):
        with pyro.plate("columns", 1, dim=-2):
            z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        return pyro.sample("x", dist.Bernoulli(logits=z[0]).to_event(1), obs=x)


def own_plate_guide(model, x, mean):
    with pyro.plate("data", len(x), dim=-1), pyro.plate("columns", 1, dim=-2):
        pyro.sample("z", dist.Normal(mean, 1.0).to_event(1))


def scored_guide(model, x, mean):
    with model.data_plate(x, None):
        pyro.sample("z", dist.testing.fakes.NonreparameterizedNormal(mean, torch.ones(3)).to_event(1))


def subsampled(model, x):
    with model.data_plate(x, 2 * len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        return pyro.sample("x", dist.Bernoulli(logits=z).to_event(1), obs=x)


def subsampled_guide(model, x, mean):
    with model.data_plate(x, 2 * len(x)):
        pyro.sample("z", dist.Normal(mean, 1.0).to_event(1))


def global_site(model, x):
    shift = pyro.sample("shift", dist.Normal(0.0, 1.0), obs=torch.tensor(0.3))
    with model.data_plate(x, None):
        z = pyro.sample("z", dist.Normal(shift.expand(3), 1.0).to_event(1))
        return pyro.sample("x", dist.Bernoulli(logits=z).to_event(1), obs=x)


@pytest.mark.parametrize(
    "programs",
    [(own_plate, own_plate_guide), (None, scored_guide), (subsampled, subsampled_guide), (global_site, None)],
    ids=["plates", "scored", "subsampled", "global"],
)
def test_programs_that_are_not_plain_have_pyros_own_step(programs):
    torch.manual_seed(0)
    model = Own(*programs)
    model.train()
    before = {name: value.clone() for name, value in model.net[1].named_buffers()}
    results = []
    for force in (False, True):
        model.net[1].load_state_dict(before, strict=False)
        steps = ElboSteps(Trace_ELBO(max_plate_nesting=2), model.model, model.guide)
        if force:
            steps._term = None
        results.append([step(model, steps, X) for _ in range(2)])
        results[-1].append(model.net[1].running_mean.clone())
    for one, two in zip(results[0][:2], results[1][:2], strict=True):
        assert torch.equal(one[0], two[0])
        assert_same(one, two)
    assert torch.equal(results[0][2], results[1][2])  # the attempt left no trace in the running statistics


def test_rows_that_are_no_bits_are_refused_at_every_step():
    vae, x = dgm.VAE.example()
    objective = vae.objective()
    objective.attach(vae)
    objective.loss(x)
    with pytest.raises(ValueError, match="Expected value argument"):
        objective.loss(0.5 * x)
    with checked_rows():  # as in fit, which checks all rows before
        objective.loss(0.5 * x)


def test_bad_parameters_are_named_as_by_pyro():
    vae, x = dgm.VAE.example()
    objective = vae.objective()
    objective.attach(vae)
    objective.loss(x)
    with torch.no_grad():
        vae.encoder[0].weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match="Expected parameter"):
        objective.loss(x)


def test_handlers_around_a_loss_see_the_sites_in_their_plates():
    vae, x = dgm.VAE.example()
    objective = vae.objective()
    objective.attach(vae)
    objective.loss(x)
    seen = []

    class Plates(pyro.poutine.messenger.Messenger):
        def _pyro_sample(self, msg):
            seen.append([frame.name for frame in msg["cond_indep_stack"]])

    with Plates():
        objective.loss(x)
    assert ["data"] in seen


@pytest.mark.parametrize("value", [torch.ones(4, 3), torch.ones(3)])
def test_summed_log_probabilities(value):
    for fn in (
        dist.Bernoulli(logits=torch.randn(4, 3)).to_event(1),
        dist.Bernoulli(probs=torch.rand(4, 3)),
        dist.Normal(torch.randn(4, 3), 2.0).to_event(1),
        dist.Bernoulli(logits=torch.randn(4, 3)).mask(torch.rand(4, 3) < 0.5).to_event(1),
    ):
        expected = fn.log_prob(value.expand(4, 3)).sum()
        torch.testing.assert_close(summed_log_prob(fn, value.expand(4, 3)), expected)


def test_what_guide_and_model_share_is_computed_once(monkeypatch):
    """A light step makes a stroke for every step of a drawing, and Pyro's own step makes the guide's over again."""
    draw, x = dgm.DRAW.example()
    strokes, stroke = [], type(draw.network).stroke
    monkeypatch.setattr(type(draw.network), "stroke", lambda *a: strokes.append(1) or stroke(*a))
    objective = draw.objective()
    objective.attach(draw)
    light = step(draw, objective.loss, x)
    assert len(strokes) == draw.steps
    strokes.clear()
    objective._steps._term = None
    assert_same(light, step(draw, objective.loss, x))
    assert len(strokes) == 2 * draw.steps - 1


def test_the_prior_of_all_frames_is_one_run_of_its_network():
    vrnn, x = dgm.VariationalRNN.example()
    runs = []
    vrnn.prior_network.register_forward_hook(lambda module, inputs, output: runs.append(output.shape))
    objective = vrnn.objective()
    objective.attach(vrnn)
    light = step(vrnn, objective.loss, x)
    assert len(runs) == 1
    assert runs[0][0] > 1
    frames = runs[0][0]
    runs.clear()
    objective._steps._term = None
    assert_same(light, step(vrnn, objective.loss, x))
    assert len(runs) == frames


def test_parts_are_shared_by_the_tensors_that_they_depend_on():
    model = Own(
        lambda self, x: _observed_beside(self, x, [x, x.clone()]),
        lambda self, x, mean: _observed_beside(self, x, [x], guide=True),
    )
    found.clear()
    assert LightRuns().traces(model.model, model.guide, (torch.ones(2, 3),), {}) is not None
    assert found == ["computed", "computed"]  # of the rows once, and of their copy
    found.clear()
    model.model(torch.ones(2, 3))
    assert found == ["computed", "computed"]  # outside of light runs nothing is kept


found = []


def _observed_beside(self, x, inputs, guide=False):
    """Rows of bits, beside a part that is computed of each of some tensors."""
    for given in inputs:
        shared("part", (given,), lambda: found.append("computed"))
    with self.data_plate(x, None):
        if not guide:
            pyro.sample("x", dist.Bernoulli(logits=torch.zeros(3)).to_event(1), obs=x)


def test_summed_divergences_and_their_first_two_derivatives():
    torch.manual_seed(0)
    numbers = [torch.randn(4, 3, dtype=torch.float64) for _ in range(4)]
    numbers = [numbers[0], numbers[1].exp(), numbers[2], numbers[3].exp()]
    laws = [dist.Normal(*numbers[:2]).to_event(1), dist.Normal(*numbers[2:]).to_event(1)]
    torch.testing.assert_close(summed_divergence(*laws), kl_divergence(*laws).sum())
    inputs = [n.requires_grad_() for n in numbers]
    of_normals, mask = sums._NormalDivergence.apply, torch.tensor([True, False, True, True])
    for entries in (None, mask.unsqueeze(-1)):
        assert torch.autograd.gradcheck(of_normals, [*inputs, entries])
        assert torch.autograd.gradgradcheck(of_normals, [*inputs, entries])
    torch.testing.assert_close(summed_divergence(*laws, mask), kl_divergence(*laws)[mask].sum())
    others = [dist.Gamma(inputs[1], 1.0).to_event(1), dist.Gamma(inputs[3], 2.0).to_event(1)]
    torch.testing.assert_close(summed_divergence(*others), kl_divergence(*others).sum())
    torch.testing.assert_close(summed_divergence(*others, mask), kl_divergence(*others)[mask].sum())
    with pytest.raises(NotImplementedError):
        summed_divergence(laws[0], dist.Cauchy(inputs[0], 1.0).to_event(1))


def test_draws_under_particles_are_those_of_plates():
    vae, x = dgm.VAE.example()
    torch.manual_seed(1)
    with torch.no_grad():
        light = LightRuns().traces(vae.model, vae.guide, (x,), {}, particles=(3, -2))
    torch.manual_seed(1)
    with pyro.plate("particles", 3, dim=-2):
        expected = pyro.poutine.trace(vae.guide).get_trace(x).nodes["z"]["value"]
    assert torch.equal(light[1].nodes["z"]["value"], expected)


@pytest.mark.parametrize(
    "make", [dgm.NVIL, lambda: dgm.VIMCO(3), lambda: dgm.ReweightedWakeSleep(3), lambda: dgm.IWAE(3)]
)
def test_estimators_of_single_data_have_the_same_steps_by_light_runs(make):
    model, x = (dgm.VAE if isinstance(make(), dgm.IWAE) else dgm.SBN).example()
    light, traced = make(), make()
    traced._runs._tried = True  # as after programs that were not plain
    for _ in range(2):
        with unregistered():
            one, two = (
                step(model, lambda x, e=e: e.differentiable_loss(model.model, model.guide, x), x)
                for e in (light, traced)
            )
        assert_same(one, two)
    assert light._runs._plain
    assert not traced._runs._plain


@pytest.mark.parametrize("rows", [None, 7])
def test_divergences_from_the_standard_normal(rows):
    inputs = [torch.randn(7, 3, dtype=torch.double, requires_grad=True) for _ in range(2)]
    prior = standard_normal(3, inputs[0], None if rows is None else torch.zeros(rows, 9)).expand((7,))

    def divergences(loc, log_scale):
        law = dist.Normal(loc, log_scale.exp()).to_event(1)
        return summed_divergence(law, prior), kl_divergence(law, dist.Normal(torch.zeros(3), 1.0).to_event(1)).sum()

    torch.testing.assert_close(*divergences(*inputs))
    assert torch.autograd.gradcheck(lambda *x: divergences(*x)[0], inputs)
    assert torch.autograd.gradgradcheck(lambda *x: divergences(*x)[0], inputs)


def test_a_prior_that_was_made_in_inference_mode_serves_training():
    with torch.inference_mode():
        standard_normal(6, torch.zeros(()), torch.zeros(11, 2))
    loc = torch.zeros(11, 6, requires_grad=True)
    prior = standard_normal(6, loc, torch.zeros(11, 2))
    summed_log_prob(prior, loc).backward()
    assert prior is standard_normal(6, torch.zeros(()), torch.zeros(11, 2))
    assert loc.grad is not None


def test_priors_of_fake_tensors_are_not_kept():
    with FakeTensorMode(), pyro.validation_enabled(False):
        assert isinstance(standard_normal(5, torch.zeros(()), torch.zeros(13, 2)).base_dist.loc, FakeTensor)
    assert not isinstance(standard_normal(5, torch.zeros(()), torch.zeros(13, 2)).base_dist.loc, FakeTensor)


@pytest.mark.parametrize("holes", [False, True])
def test_rows_with_missing_values_are_not_called_complete(holes, monkeypatch):
    told, x = [], torch.rand(20, 5).round()
    x[3, 2] = math.nan if holes else 1.0
    vae = dgm.VAE(5, latent=2, hidden=(3,))
    seen = type(vae).seen

    def watched(self, x):
        told.append(not some_missing(torch.tensor(math.nan)))
        return seen(self, x)

    monkeypatch.setattr(type(vae), "seen", watched)
    run = dgm.fit(vae, x, epochs=1, batch_size=20, progress=False)
    assert set(told) == {False, not holes}  # outside of the training steps nothing is known
    assert math.isfinite(run.history[0]["loss"])
