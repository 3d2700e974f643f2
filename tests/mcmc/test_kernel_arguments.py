"""What kernels refuse in words: states, numbers of chains, clamps, step sizes, layers and temperatures that cannot be."""

import numpy as np
import pytest
import torch

import pyro_dgm as dgm
from pyro_dgm.energy.support import unfit
from pyro_dgm.mcmc import states

ROW = torch.ones(4)
KNOWN = torch.tensor([True, True, False, False])


def rbm():
    return dgm.RBM(4, 3)()


def real():
    return dgm.MeanCovarianceRBM(4)()


KERNELS = {
    "gibbs": lambda **o: dgm.BlockGibbs(rbm(), **o),
    "tempering": lambda **o: dgm.ParallelTempering(rbm(), 4, **o),
    "transitions": lambda **o: dgm.TemperedTransitions(rbm(), 4, **o),
    "hmc": lambda **o: dgm.HMC(real(), **o),
    "langevin": lambda **o: dgm.GibbsLangevin(dgm.GaussianRBM(4, 3)(), **o),
    "prediction": lambda **o: dgm.PredictionChain(rbm(), **o),
    "model": lambda **o: dgm.ModelChain(dgm.DenoisingAutoencoder(4), **o),
}
every_kernel = pytest.mark.parametrize("make", KERNELS.values(), ids=KERNELS)


@every_kernel
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda x: x * torch.nan, "the state of 'visible' holds nan; expected finite numbers"),
        (lambda x: x / 0, "the state of 'visible' holds"),
        (lambda x: x + 0j, "the state of 'visible' holds complex numbers"),
        (lambda x: x.double(), r"the state of 'visible' got values of torch.float64; expected torch.float32"),
        (lambda x: x.long(), r"the state of 'visible' got values of torch.int64"),
        (lambda x: x.numpy(), "the state of 'visible' got an ndarray"),
    ],
    ids=["nan", "infinite", "complex", "double", "integers", "array"],
)
def test_states_that_cannot_be_are_refused(make, wrong, message):
    """Bits came of NaN, and real units stayed NaN; other types died in a product of torch's."""
    kernel = make()
    state = kernel.start(3)
    bad = {**state, "visible": wrong(state["visible"])}
    for call in (kernel.sample, lambda s: kernel.move(s, 2)):
        with pytest.raises(ValueError, match=message):
            call(bad)
        call(state)


@every_kernel
def test_a_state_of_its_own_is_looked_at_again_once_written_over(make, monkeypatch):
    """A loop of single steps looked through every state, half a sweep of 100 chains long."""
    looked = list[int]()
    monkeypatch.setattr(states, "unfit", lambda value: looked.append(1) or unfit(value))
    kernel = make()
    state = kernel.sample(kernel.start(3))
    looked.clear()
    state = kernel.move(kernel.sample(state), 2)
    assert not looked
    next(iter(state.values())).view(-1)[0] = torch.nan
    with pytest.raises(ValueError, match="holds nan; expected finite numbers"):
        kernel.sample(state)


@every_kernel
def test_states_have_every_layer_for_as_many_chains(make):
    kernel = make()
    state = kernel.start(3)
    for wrong in (None, 5, state["visible"]):
        with pytest.raises(ValueError, match=r"expected a state \{layer: tensor\}"):
            kernel.sample(wrong)
    if not isinstance(kernel, dgm.ModelChain):
        with pytest.raises(ValueError, match=r"got a state without \['visible'"):
            kernel.sample({})
        with pytest.raises(ValueError, match=r"the state of 'visible' has shape .*; expected chains x"):
            kernel.sample({**state, "visible": state["visible"][..., :1]})
    if len(state) > 1:
        with pytest.raises(ValueError, match=r"have \[2, 3.*\] chains; expected as many for each"):
            kernel.sample({**state, "visible": state["visible"][:2]})


def test_rows_of_grey_levels_may_be_where_a_chain_starts():
    kernel = dgm.BlockGibbs(rbm())
    assert kernel.sample({**kernel.start(2), "visible": torch.full((2, 4), 0.3)})["visible"].shape == (2, 4)


def test_training_does_not_look_at_its_own_states(monkeypatch):
    def never(*_):
        raise AssertionError

    monkeypatch.setattr("pyro_dgm.mcmc.states.check_state", never)
    model, x = dgm.RBM.example()
    for phase in (dgm.PCD(chains=4), dgm.CD(2), dgm.PCD(chains=4, fast=0.1)):
        dgm.fit(model, x, objective=dgm.NegativePhaseObjective(phase), epochs=1, batch_size=5, progress=False)
    dgm.VectorizedMCMC(dgm.BlockGibbs(model()), 5, 2, 3, disable_progbar=True, engine="torch").run()


@every_kernel
def test_chains_are_counted(make):
    for wrong in (-1, 0, 1.5, True, "3", None):
        with pytest.raises(
            ValueError, match=f"chains got {wrong!r}; expected the number of chains, an integer of at least 1"
        ):
            make().start(wrong)
    assert len(make().start(np.int64(2))["visible"]) == 2


@pytest.mark.parametrize("name", ["gibbs", "tempering", "hmc"])
def test_more_chains_than_memory_holds_are_refused(name):
    with pytest.raises(ValueError, match="chains got 1000000000000, which asks for"):
        KERNELS[name]().start(10**12)


@every_kernel
@pytest.mark.parametrize(
    ("clamp", "message"),
    [
        ((KNOWN, ROW + 0j), "value of 'visible' has dtype torch.complex64; expected real numbers"),
        ((KNOWN, "ones"), "value of 'visible' got 'ones'; expected a tensor or an array"),
        (("all", ROW), "mask of 'visible' got 'all'; expected a tensor or an array"),
        ((KNOWN, None), "value of 'visible' got None"),
        ((KNOWN, np.array([None] * 4)), "value of 'visible' got array"),
        ((ROW, ROW), "mask of 'visible' has dtype torch.float32; expected bool"),
    ],
    ids=["complex", "text", "text for a mask", "none", "objects", "real mask"],
)
def test_clamps_hold_real_numbers(make, clamp, message):
    with pytest.raises(ValueError, match=f"the clamp's {message}"):
        make(clamp=clamp)


@pytest.mark.parametrize("name", ["hmc", "langevin"])
@pytest.mark.parametrize("wrong", [True, "0.1", None, [0.1], 1 + 1j, torch.ones(2), torch.nan, -1])
def test_step_sizes_are_numbers(name, wrong):
    """True was a step of one."""
    with pytest.raises(ValueError, match=r"step_size got .*; expected the first step of a trajectory, a finite number"):
        KERNELS[name](step_size=wrong)
    if wrong is not None:
        with pytest.raises(ValueError, match=r"target_acceptance got .*; expected the rate"):
            KERNELS[name](target_acceptance=wrong)


@pytest.mark.parametrize("layers", [[], "visible", "text", 5, {"visible": 1}, ["hidden"], ["visible", "top"], [1]])
def test_a_chain_of_predictions_goes_over_layers(layers):
    """Over none it stood still, and without the rows it failed at the first scalar."""
    with pytest.raises(ValueError, match=r"layers got .*; expected some of \['visible', 'hidden'\] with 'visible'"):
        KERNELS["prediction"](layers=layers)


@pytest.mark.parametrize("kernel", [dgm.ParallelTempering, dgm.TemperedTransitions])
def test_temperatures_fit_into_memory(kernel):
    """A thousand million filled it for a minute, until the process was killed."""
    for number in (10**10, 10**14):
        with pytest.raises(ValueError, match=f"temperatures got {number}, which asks for"):
            kernel(rbm(), number)
    kernel(rbm(), np.int64(3))
    with pytest.raises(ValueError, match="base got 'a'; expected natural parameters by layer"):
        kernel(rbm(), 3, base="a")
    with pytest.raises(ValueError, match="base of 'visible' got 3; expected a tuple of tensors"):
        kernel(rbm(), 3, base={"visible": 3})


def run(**options):
    chosen = {"num_samples": 5, "warmup_steps": 2, "num_chains": 3, **options}
    mcmc = dgm.VectorizedMCMC(dgm.BlockGibbs(rbm()), **chosen, disable_progbar=True)
    mcmc.run()
    return mcmc


@pytest.mark.parametrize("dtype", [torch.int64, torch.float64, torch.float16, torch.bool])
def test_first_states_may_be_numbers_of_any_type(dtype):
    """The loop over bits took any, and torch the parameters' own alone."""
    for name in ("gibbs", "transitions", "prediction", "langevin", "hmc", "model"):
        kernel = KERNELS[name]()
        first = {layer: x.round().clamp(0, 1).to(dtype) for layer, x in kernel.start(3).items()}
        for engine in ("torch", "auto"):
            mcmc = dgm.VectorizedMCMC(kernel, 4, 0, 3, initial_params=first, disable_progbar=True, engine=engine)
            mcmc.run()
            assert mcmc.get_samples()["visible"].dtype == torch.float32


def test_first_states_are_tensors_by_layer():
    kernel = KERNELS["gibbs"]()
    with pytest.raises(ValueError, match="initial_params got 5; expected first states by layer"):
        kernel.initial_params = 5
    kernel.initial_params = None


def test_a_summary_says_what_share_it_takes():
    mcmc = run()
    for wrong in (2, -1, 0, 1, torch.nan, "a", None, True, [0.9]):
        with pytest.raises(ValueError, match=r"prob got .*; expected the share of the draws"):
            mcmc.summary(prob=wrong)
    for wrong in (0, -1, "a", None, True):
        with pytest.raises(ValueError, match=f"rows got {wrong!r}; expected"):
            mcmc.chain_scalars(wrong)
    short = run(num_samples=3)
    for call in (short.summary, short.diagnostics):
        with pytest.raises(ValueError, match="there are 3 draws per chain; expected at least 4"):
            call()


def test_more_draws_than_memory_holds_are_refused():
    for name in ("num_samples", "num_chains"):
        with pytest.raises(ValueError, match=f"VectorizedMCMC: {name} got 10000000000000, which asks for"):
            run(**{name: 10**13})
