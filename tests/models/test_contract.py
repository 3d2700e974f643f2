"""What every registered model promises, whichever it is."""

import contextlib
import copy
import gc
import inspect
import weakref

import pyro
import pytest
import torch
from oracles.few import few
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO
from pyro.optim import Adam

import pyro_dgm as dgm
from pyro_dgm import registry
from pyro_dgm.models.shared.abilities import ABILITIES
from pyro_dgm.models.shared.free_energy import FreeEnergyModel
from pyro_dgm.models.shared.model import Model
from pyro_dgm.objectives.phases.chains import ChainsPhase


def models(ability=None):
    """All models, or those that have an ability."""
    chosen = {name: cls for name, cls in registry.models().items() if ability is None or ability in cls.abilities()}
    return pytest.mark.parametrize("cls", chosen.values(), ids=chosen)


programs = {name: cls for name, cls in registry.models().items() if hasattr(cls, "model")}


def trainable(model):
    """The model's program, with the negative phase that an energy-based site needs (of few chains where they persist)."""
    phase = getattr(model.objective(), "phase", None)
    if not isinstance(phase, ChainsPhase):
        return model.model
    few = dgm.PCD(chains=20, kernel=phase.kernel) if isinstance(phase, dgm.PCD) else phase
    return dgm.negative_phase(model.model, few)


def binary(x):
    """Whether data are zeros and ones, as those of binary models are."""
    return bool(((x == 0) | (x == 1)).all())


def svi(model, lr=0.05):
    return SVI(trainable(model), model.guide, Adam({"lr": lr}), Trace_ELBO(max_plate_nesting=1))


def snapshot(model):
    return {n: p.detach().clone() for n, p in model.named_parameters()}


def changed(model, before):
    return {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}


def assert_loaded(run):
    trained, loaded = run.model.state_dict(), dgm.load(run.out).state_dict()
    assert loaded.keys() == trained.keys()
    assert all(
        torch.equal(loaded[name], value) and loaded[name].dtype == value.dtype for name, value in trained.items()
    )


pytestmark = pytest.mark.usefixtures("short_anchor")


@models()
class TestModel:
    """Every model."""

    def test_example_and_options_round_trip(self, cls):
        model, x = cls.example()
        again = cls(**model.options())
        assert {n: p.shape for n, p in model.named_parameters()} == {n: p.shape for n, p in again.named_parameters()}
        model.check_data(x)
        assert model.sample(3).shape == (3, *x.shape[1:])
        for name in {*model.options(), *inspect.signature(cls).parameters}:
            assert hasattr(model, name), f"the argument {name} is no attribute"

    def test_example_is_the_same_every_time(self, cls):
        (a, x), (b, y) = cls.example(), cls.example()
        assert torch.equal(x, y)
        assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))

    def test_docstring_has_its_parts(self, cls):
        text = inspect.getdoc(cls)
        assert text
        for part in ("Args:", "Raises:", "Example:", "(20."):
            assert part in text, part

    def test_bad_data_is_refused(self, cls):
        model, x = cls.example()
        cases = [
            (x[:, :-1], "expected rows"),
            (x[:0], "empty"),
            (x + torch.nan, "NaN"),
            (x.tolist(), "expected a tensor"),
        ]
        for bad, message in [*cases, (x * 0.5 + 0.25, "binarisation")] if binary(x) else cases:
            with pytest.raises(ValueError, match=message):
                model.check_data(bad)
            with pytest.raises(ValueError, match=message):
                dgm.log_likelihood(model, bad)

    def test_fit_runs_reports_and_is_loaded_as_it_was(self, cls, tmp_path):
        model, x = cls.example()
        run = dgm.fit(model, x, epochs=2, batch_size=4, progress=False, out=tmp_path / "run")
        assert len(run.history) == 2
        assert any(name.startswith("valid_") for name in run.history[0])
        assert len(pyro.get_param_store()) == 0, "Pyro's store would keep the model alive"
        assert_loaded(run)


@pytest.mark.parametrize("cls", programs.values(), ids=programs)
class TestProgram:
    """Models that are Pyro programs."""

    def test_stock_svi_trains_every_parameter(self, cls):
        model, x = cls.example()
        before = snapshot(model)
        step = svi(model)
        for _ in range(3):
            step.step(x)
        assert changed(model, before) == set(before)

    @pytest.mark.filterwarnings("error:.*not registered in the param store")
    def test_frozen_parameters_stay(self, cls):
        """Under stock SVI and under fit, which sets some parameters from the data first; the others move."""
        model, x = cls.example()
        names = [name for name, _ in model.named_parameters()]
        frozen = {names[0], names[-1]} if len(names) > 2 else {names[0]}
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name not in frozen)
        before = snapshot(model)
        if len(names) > 1:
            dgm.fit(model, x, epochs=1, progress=False)
            svi(model).step(x)
            assert not frozen & set(changed(model, before))
            assert changed(model, before)
        else:
            with pytest.raises(ValueError, match="nothing to train"):
                dgm.fit(model, x, epochs=1, progress=False)
        assert {name for name, parameter in model.named_parameters() if not parameter.requires_grad} == frozen

    def test_several_instances_and_copies_train_apart(self, cls):
        first, x = cls.example()
        second, _ = cls.example()
        third = copy.deepcopy(first)
        for trained, others in ((first, (second, third)), (second, (first, third)), (third, (first, second))):
            before = snapshot(trained)
            kept = [snapshot(o) for o in others]
            svi(trained).step(x)
            assert changed(trained, before) == set(before)
            assert not any(changed(o, k) for o, k in zip(others, kept, strict=True))

    def test_a_copy_of_a_used_model_trains_after_clearing_the_store(self, cls):
        model, x = cls.example()
        svi(model).step(x)
        pyro.clear_param_store()
        other = copy.deepcopy(copy.deepcopy(model))
        before = snapshot(other)
        svi(other).step(x)
        assert changed(other, before) == set(before)

    def test_elbo_as_module_with_torch_optim(self, cls):
        model, x = cls.example()
        module = Trace_ELBO(max_plate_nesting=1)(trainable(model), model.guide)
        assert {id(p) for p in module.parameters()} == {id(p) for p in model.parameters()}
        optimiser = torch.optim.SGD(module.parameters(), lr=0.01)
        before = snapshot(model)
        module(x).backward()
        optimiser.step()
        assert changed(model, before) == set(before)

    def test_predictive(self, cls):
        model, x = cls.example()
        draws = Predictive(model.model, num_samples=2)(None, 3)["x"]
        observed = poutine.trace(model.model).get_trace(x).nodes["x"]["value"]
        assert draws.shape == (2, 3, *observed.shape[1:])
        model.check_data(draws.flatten(0, 1))

    def test_observed_site_and_data_plate(self, cls):
        model, x = cls.example()
        trace = poutine.trace(trainable(model)).get_trace(x)
        site = trace.nodes["x"]
        assert site["is_observed"]
        assert [f.dim for f in site["cond_indep_stack"]] == [-1]
        assert site["fn"].log_prob(site["value"]).shape == (len(x),)

    def test_subsampling_scales_the_site(self, cls):
        model, x = cls.example()
        trace = poutine.trace(model.model).get_trace(x, size=4 * len(x))
        assert trace.nodes["x"]["scale"] == 4
        with pytest.raises(ValueError, match="size got"):
            model.model(x, size=1)

    def test_double_precision(self, cls):
        model, x = cls.example()
        model.double()
        assert torch.isfinite(torch.tensor(svi(model).step(x.double())))
        assert all(p.dtype == torch.float64 for p in model.parameters())
        assert model.sample(2).dtype == torch.float64


def test_models_leave_the_store_when_they_go():
    """All models at once: a look for garbage among all that Python holds takes half a second."""
    store, made = pyro.get_param_store(), {}
    for name, cls in programs.items():
        made[name], x = cls.example()
        svi(made[name]).step(x)
    weights = {name: [weakref.ref(p) for p in model.parameters()] for name, model in made.items()}
    assert len(store) == sum(map(len, weights.values()))
    made.clear()
    gc.collect()
    dgm.RBM.example()
    assert len(store) == 0
    gc.collect()
    assert not [name for name, each in weights.items() if any(weight() is not None for weight in each)]


@models("evidence")
class TestEvidence:
    """Models with a likelihood or a bound."""

    def test_log_likelihood_says_what_it_is(self, cls):
        model, x = cls.example()
        figure = dgm.log_likelihood(model, x, space="toy", **few(model))
        assert len(pyro.get_param_store()) == 0, "Pyro's store would keep the model alive"
        assert figure.kind in ("exact", "estimate", "lower bound", "upper bound")
        assert figure.n == len(x)
        assert figure.lower <= figure.value <= figure.upper
        assert figure.space == "toy"
        known = model.evidence_arguments()
        assert few(model).keys() <= known.keys()
        with pytest.raises(ValueError, match="nonsense") as refused:
            dgm.log_likelihood(model, x, nonsense=1)
        assert all(name in str(refused.value) for name in known)


energies = {name: cls for name, cls in registry.models().items() if hasattr(cls, "log_partition")}


@pytest.mark.parametrize("cls", energies.values(), ids=energies)
def test_log_partition_takes_rows_and_says_its_error(cls):
    model, x = cls.example()
    annealed = model.log_partition(x, chains=20, temperatures=30, warmup=5)
    assert isinstance(annealed, dgm.LogPartition)
    assert (annealed.stderr > 0).all()
    found = model.log_partition(x, **(few(model) if isinstance(model, FreeEnergyModel) else {}))
    assert found.value.shape in ((), (len(x),))  # one, or one of every row
    assert not found.exact or not found.stderr.any()
    assert not found.exact or (torch.equal(found.lower, found.value) and torch.equal(found.value, found.upper))


@models("impute")
class TestImputation:
    """Models that fill in what is unknown."""

    def test_impute_keeps_what_is_known(self, cls):
        model, x = cls.example()
        known = torch.arange(x.shape[1]) < 3
        filled = model.impute(x, known, draws=10)
        assert torch.equal(filled[:, known], x[:, known])
        assert filled.isfinite().all()
        assert not binary(x) or ((filled >= 0) & (filled <= 1)).all()
        with pytest.raises(ValueError, match="at least one row"):
            model.impute(x[:0], known)
        for bad in (x[0], x[None], x[..., None]):
            with pytest.raises(ValueError, match=r"impute got data of shape .* expected rows x \("):
                model.impute(bad, known)
        with pytest.raises(ValueError, match="at least 2"):
            model.impute(x, known, draws=1)
        with pytest.raises(ValueError, match="expected booleans"):
            model.impute(x, known[:-1])


@models("condition")
class TestConditionals:
    """Models with conditionals to draw from."""

    def drawn(self, model, x, known):
        """Four draws, of a short chain where there is one."""
        with contextlib.suppress(ValueError):
            return dgm.condition(model, x, known, draws=4, warmup=5, thinning=2)
        for option in ({"warmup": 5, "thinning": 2}, {"warmup": 5}, {"thinning": 2}):
            with pytest.raises(ValueError, match="independent"):
                dgm.condition(model, x, known, draws=4, **option)
        return dgm.condition(model, x, known, draws=4)

    def test_condition_draws_what_is_not_known(self, cls):
        model, x = cls.example()
        known = torch.arange(x.shape[1]) < 3
        given = model.given_columns()
        holes = torch.where(known if given is None else known | given, x, torch.nan)
        drawn = self.drawn(model, holes, known)
        assert drawn.shape == (4, *x.shape)
        assert torch.equal(drawn[..., known], x[:, known].expand(4, -1, -1))
        for rows in drawn:
            model.check_data(rows)
        for bad, match in (
            ({"x": x[:0]}, "at least one row"),
            ({"known": known[:-1]}, "expected booleans"),
            ({"draws": 0}, "draws got 0; expected an integer of at least 1"),
        ):
            with pytest.raises(ValueError, match=match):
                dgm.condition(model, **{"x": x, "known": known, **bad})


@models("chains")
class TestChains:
    """Models whose Markov chains can be looked at."""

    def test_chains_have_run(self, cls):
        model, _ = cls.example()
        mcmc = model.chains(draws=4, warmup=2, chains=3)
        assert all(x.shape[:2] == (3, 4) for x in mcmc.get_samples(group_by_chain=True).values())
        assert dict(dgm.to_arviz(mcmc).posterior.sizes)["draw"] == 4


@models("posterior_draws")
class TestPosterior:
    """Models with latent variables."""

    def test_posterior_draws_are_by_chain_draw_and_row(self, cls):
        model, x = cls.example()
        groups = model.posterior_draws(x, draws=5, chains=2)
        assert all(v.shape[:3] == (2, 5, len(x)) for v in groups["posterior"].values())
        assert dict(dgm.to_arviz(model, x, num_samples=5, num_chains=2).posterior.sizes)["chain"] == 2


@pytest.mark.parametrize("ability", ABILITIES)
def test_what_a_model_cannot_do_it_refuses_in_words(ability):
    asked = {
        "evidence": lambda model, x: dgm.log_likelihood(model, x),
        "condition": lambda model, x: dgm.condition(model, x, x == x),
        "impute": lambda model, x: model.impute(x, x == x),
        "chains": lambda model, x: model.chains(),
        "hidden_features": lambda model, x: model.hidden_features(x),
        "reconstruct": lambda model, x: model.reconstruct(x),
        "posterior_draws": lambda model, x: dgm.to_arviz(model, x),
    }
    lacking = [cls for cls in registry.models().values() if ability not in cls.abilities()]
    for cls in [*lacking, Silent]:
        model, x = cls.example()
        with pytest.raises(ValueError, match=f"^{cls.__name__} (has|defines) n"):
            asked[ability](model, x)


class Silent(Model):
    """A model that gives samples and nothing else."""

    @classmethod
    def example(cls):
        return cls(), torch.zeros(3, 2)

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))

    def sample(self, n):
        return self.weight.expand(n, 2)

    def objective(self):
        raise AssertionError

    def options(self):
        return {}

    def check_data(self, x):
        pass


@pytest.mark.parametrize("cls", [dgm.RBM, dgm.ContractiveAutoencoder])
def test_a_run_in_double_precision_is_loaded_in_it(cls, tmp_path):
    model, x = cls.example()
    assert_loaded(dgm.fit(model.double(), x.double(), epochs=1, progress=False, out=tmp_path / "run"))
