"""Figures and gradients survive data as people have it: every model against itself in double precision.

Rows are made in single precision, so that both sides have the same numbers. Rounding alone may tell the two apart: a column of
mean m and standard deviation s is known to eps m / s of its deviations, and no figure can be better than that.
"""

import contextlib
import copy
import inspect
import math

import pytest
import torch
from oracles.same_draws import recorded, replayed
from pyro import poutine

import pyro_dgm as dgm
from pyro_dgm import registry
from pyro_dgm.columns import location_and_variance
from pyro_dgm.energy.distribution import NoNormaliser
from pyro_dgm.models.shared.energy_based import EnergyModel
from pyro_dgm.models.shared.free_energy import FreeEnergyModel
from pyro_dgm.models.shared.walking import WalkingModel

EPS = torch.finfo(torch.float32).eps
ROWS = 40


def constant_beside(x, scale):
    x = scale * x
    x[:, 0] = 3.0
    return x


REAL = {
    "far from zero": lambda x: x + 1e4,
    "of unlike scales": lambda x: (x + 2) * torch.logspace(-3, 3, x.shape[1]),
    "a constant column": lambda x: constant_beside(x, 10.0),
    "bytes": lambda x: (60 * x + 128).round().clamp(0, 255),
    "one row": lambda x: x[:1],
}
"""From standard normal rows to rows of other kinds."""

DISCRETE = {"as they are": lambda x: x, "one row": lambda x: x[:1]}


OF_KIND = ("corruption", "level")
"""Options that go with one kind of columns; without them a model has its default for the kind."""


def kinds_of_columns(cls):
    """Options of a model by the kind of its columns: those of its example, and real ones if it can have them."""
    options = cls.example()[0].options()
    plain = {key: value for key, value in options.items() if key not in OF_KIND}
    for key, kind in (("output", "gaussian"), ("output", "linear"), ("unit", "gaussian")):
        if options.get(key, kind) != kind:
            with contextlib.suppress(ValueError):
                real = plain | {key: kind}
                cls(**real)
                return {"": options, f"-{kind}": real}
    return {"": options}


def fresh(cls, options):
    """A small model, and normal rows and its example's own rows of its width."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        x = cls.example()[1]
        return cls(**options), torch.randn(ROWS, *x.shape[1:]), x


def accepts(model, x):
    try:
        model.check_data(x)
    except ValueError:
        return False
    return True


def models():
    """All models: name, class, options, whether its rows are real, normal rows and its own."""
    for name, cls in registry.models().items():
        for kind, options in kinds_of_columns(cls).items():
            model, normal, own = fresh(cls, options)
            if (real := accepts(model, normal)) or accepts(model, own):
                yield f"{name}{kind}", cls, options, real, normal, own


def cases():
    for name, cls, options, real, normal, own in models():
        for kind, change in (REAL if real else DISCRETE).items():
            for weights in (1, 30) if kind in ("one row", "bytes", "as they are") else (1,):
                yield pytest.param(
                    cls, options, change(normal if real else own).clone(), weights,
                    id=f"{name}-{kind}{'-huge weights' if weights > 1 else ''}",
                )  # fmt: skip


CASES = pytest.mark.parametrize(("cls", "options", "x", "weights"), cases())


def started(cls, options, x, weights):
    """A model at its start on these rows, with its weights multiplied by a number, and the same in double precision."""
    model = fresh(cls, options)[0].eval()
    if hasattr(model, "initialise"):
        model.initialise(x)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "weight" in name:
                parameter.mul_(weights)
            if "network.hidden_bias" in name:
                parameter.add_(0.1)  # at zero a rectifier has no derivative
    return model, copy.deepcopy(model).double()


def latents(model, x):
    """Values of a program's latent sites, drawn by its guide."""
    with torch.no_grad():
        trace = poutine.trace(model.guide).get_trace(x)
    return {name: site["value"] for name, site in trace.nodes.items() if site["type"] == "sample"
            and not site["is_observed"] and name != "data"}  # fmt: skip


def figure(model, x, given):
    """A log-likelihood up to constants that both precisions share, summed over rows, with its gradient."""
    if isinstance(model, FreeEnergyModel):
        return -model().free_energy(x).sum()
    program = poutine.condition(dgm.negative_phase(model.model, dgm.ExactNegativePhase()), data=given)
    return poutine.trace(program).get_trace(x).log_prob_sum()


def criterion(model):
    """A model's own criterion; networks of its own start alike for the same model in any precision."""
    short = {"steps": 2} if "steps" in inspect.signature(model.objective).parameters else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        objective = model.objective(**short)
    objective.attach(model)
    return objective


def training_loss(model, x):
    """The losses of all turns of a model's criterion, summed over rows."""
    return len(x) * sum(turn.loss() for turn in criterion(model).turns(x))


def in_both_precisions(single, double, x):
    """A figure of the data by a model in single precision and in double, with the same random numbers."""
    if isinstance(single, WalkingModel):
        found, draws = recorded(lambda: training_loss(single, x))
        return found, replayed(lambda: training_loss(double, x.double()), draws)
    given = latents(single, x)
    found = figure(single, x, given)
    return found, figure(double, x.double(), {name: z.double() for name, z in given.items()})


def rounding(x):
    """The relative rounding of deviations from the columns' means, summed over a row and the rows."""
    location, variance = location_and_variance(x)
    standard = (x - location) / variance.sqrt()
    share = EPS * (1 + x.abs() / variance.sqrt())
    return float((share * (1 + standard.abs())).sum())


@CASES
def test_figures_and_gradients_as_in_double_precision(cls, options, x, weights):
    single, double = started(cls, options, x, weights)
    try:
        found, right = in_both_precisions(single, double, x)
    except NoNormaliser:  # real-valued layers that huge weights couple to each other: refused in either precision
        with pytest.raises(NoNormaliser):
            figure(double, x.double(), {})
        return
    unit = 1 + float(location_and_variance(x)[1].rsqrt().max())  # locations are measured in standard deviations
    if weights > 1 and not isinstance(single, EnergyModel):
        # Deep networks multiply rounding by their weights' products: their numbers need only be there.
        found.backward()
        assert bool(found.isfinite())
        assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in single.parameters())
        return
    size = 20 * weights * (1 + sum(p.numel() for p in single.parameters()) ** 0.5)
    if isinstance(single, WalkingModel):
        size = 4  # costs of standardised columns, with slopes of the order of the columns
    assert float(found.detach()) == pytest.approx(float(right.detach()), rel=EPS * size, abs=size * rounding(x))
    found.backward()
    right.backward()
    for (name, a), b in zip(single.named_parameters(), double.parameters(), strict=True):
        if b.grad is None:
            assert a.grad is None, name
            continue
        assert bool(a.grad.isfinite().all()), name
        error = (a.grad.double() - b.grad).abs().max()
        assert float(error) <= 1e-3 * float(b.grad.abs().max()) + size * rounding(x) * unit, name


def walked(model, x, steps=3):
    """After some steps from rows, columns and their means in the networks' units; and the steps' log-probabilities."""
    state = model.opening(x)
    with torch.no_grad():
        for _ in range(steps):
            state = model.next_state(state, None)
        rows = {name: model.seen(state[name]).double() for name in ("visible", "mean") if name in state}
        return rows | {"rebuilt": model.seen(model.reconstruct(x)).double(), "log_step": state.get("log_step")}


@pytest.mark.parametrize(
    ("cls", "options", "x", "weights"), [case for case in cases() if issubclass(case.values[0], WalkingModel)]
)
def test_chains_and_reconstructions_as_in_double_precision(cls, options, x, weights):
    single, double = started(cls, options, x, weights)
    found, draws = recorded(lambda: walked(single, x))
    right = replayed(lambda: walked(double, x.double()), draws)
    share = float((EPS * (1 + x.abs() / location_and_variance(x)[1].sqrt())).max())
    for name, values in right.items():
        if values is None:
            assert found[name] is None
        elif weights > 1:
            assert bool(found[name].isfinite().all()), name
        else:
            largest = 1 + float(values.abs().max())
            assert float((found[name] - values).abs().max()) <= 20 * share * largest, name


def annealed_cases():
    for name, cls, options, real, normal, own in models():
        model = cls(**options)
        if not model.evidence_options(own, "ais"):
            continue
        # A machine without a visible bias lies about zero, wherever the data are.
        located = ("far from zero", "of unlike scales") if hasattr(model, "visible_bias") else ()
        for kind in ("a constant column", *located) if real else ("as they are",):
            yield pytest.param(
                cls, options, (REAL if real else DISCRETE)[kind](normal if real else own), id=f"{name}-{kind}"
            )


@pytest.mark.parametrize(("cls", "options", "x"), annealed_cases())
def test_annealed_figures_as_exact_ones_in_double_precision(cls, options, x):
    """Where the sum is known; elsewhere, by Hamiltonian Monte Carlo, ends and errors are finite and in order."""
    single, double = started(cls, options, x, 1)
    short = {"chains": 50, "temperatures": 50, "warmup": 20}
    found = dgm.log_likelihood(single, x.double(), **short)
    ends = [found.value, found.stderr_estimator, found.lower]
    assert all(torch.tensor(ends).isfinite())
    assert found.lower <= found.value <= found.upper
    if isinstance(single, FreeEnergyModel):
        return
    right = dgm.log_likelihood(double, x.double())
    slack = 6 * found.stderr_estimator + 1e-2
    if right.kind == found.kind == "lower bound" or right.kind == "exact":
        assert found.value <= right.value + slack
    if found.kind == "estimate":
        assert found.value >= right.value - slack
        assert found.stderr_estimator < 1


NORMAL = {
    "gaussian rbm": lambda D: dgm.GaussianRBM(D, 3),
    "spike and slab coding": lambda D: dgm.S3C(D, 3),
    "flow": lambda D: dgm.FlowGenerator(D, layers=2, hidden=(3,)),
    "vae": lambda D: dgm.VAE(D, latent=2, hidden=(3,), output="gaussian"),
}


@pytest.mark.parametrize("kind", ["far from zero", "of unlike scales", "bytes"])
@pytest.mark.parametrize("make", NORMAL.values(), ids=NORMAL)
def test_without_weights_columns_are_independent_normals(make, kind):
    """Models that start at the data's means and variances, with every weight at zero; the density is written out here."""
    x = REAL[kind](torch.randn(ROWS, 4, generator=torch.Generator().manual_seed(4)))
    model = make(4)
    model.initialise(x)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "weight" in name or "hidden_bias" in name or "networks" in name:
                parameter.zero_()
    found = dgm.log_likelihood(model, x, **({"particles": 2} if isinstance(model, dgm.VAE) else {}))
    variance = x.double().var(0, correction=0)
    expected = float(-0.5 * ((2 * torch.pi * variance).log() + 1).sum())
    assert found.value == pytest.approx(expected, abs=1e-2)


def test_annealing_is_as_tight_far_from_zero_as_near_it():
    """The same machine about 0 and about 10,000: exact sums in double precision, and standard errors of one size."""
    x, found = torch.randn(ROWS, 4, generator=torch.Generator().manual_seed(4)), []
    for shift in (0.0, 1e4):
        model = dgm.GaussianRBM(4, 3)
        with torch.no_grad():
            model.weight.copy_(torch.linspace(-1, 1, 12).view(4, 3))
        model.initialise(x + shift)
        exact = dgm.log_likelihood(copy.deepcopy(model).double(), (x + shift).double(), method="exact")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            found.append(dgm.log_likelihood(model, x + shift, method="ais", chains=100, temperatures=100))
        assert found[-1].value == pytest.approx(exact.value, abs=5 * found[-1].stderr_estimator + 1e-3)
    # A standard deviation of 100 independent weights is known to 7 %, here to twice that since their tails are long.
    assert found[1].stderr_estimator == pytest.approx(found[0].stderr_estimator, rel=5 * 0.14 * 2**0.5)


def test_hidden_biases_that_do_not_fit_the_data_anneal_from_the_mean_field():
    """Without weights the mean field is the machine, however large the biases are; from rows the path is long."""
    model = dgm.GaussianRBM(3, 2)
    with torch.no_grad():
        model.weight.zero_()
        model.visible_bias.fill_(1e4)
        model.hidden_bias.copy_(torch.tensor([300.0, -300.0]))
    expected = 300 + 1.5 * math.log(2 * math.pi)
    found = dgm.log_partition(model(), "ais", base="mean-field", chains=10, temperatures=10)
    for end in (found.value, found.lower, found.upper):
        assert float(end) == pytest.approx(expected, rel=10 * EPS)
