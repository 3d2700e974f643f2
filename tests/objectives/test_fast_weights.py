"""Fast weights follow their recursion, leave the gradient alone, and drive chains from mode to mode."""

import functools

import numpy as np
import pytest
import torch
from oracles import boltzmann as oracle
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import SGD

import pyro_dgm as dgm
from pyro_dgm.objectives.phases import tracking
from pyro_dgm.objectives.phases.fast_weights import FastWeights


def module_of(model, phase):
    return Trace_ELBO(max_plate_nesting=1)(dgm.negative_phase(model.model, phase), model.guide)


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def statistics(rbm, v):
    """Mean statistics of visible rows with their exact posterior, in NumPy: of the biases and of the weight."""
    W, c = rbm.weight.detach().double().numpy(), rbm.hidden_bias.detach().double().numpy()
    h = sigmoid(v @ W + c)
    return [v.mean(0), h.mean(0), v.T @ h / len(v)]


def test_the_recursion_of_an_rbm():
    """W+ <- decay W+ + rate (data - negatives), given the chains that were left, recomputed in NumPy."""
    rbm, x = dgm.RBM.example()
    phase = dgm.PCD(chains=30, fast=0.3, fast_decay=0.8)
    module = module_of(rbm, phase)
    expected = [np.zeros(6), np.zeros(4), np.zeros((6, 4))]
    for _ in range(6):
        module(x)
        negatives = phase.chains["x"]["visible"][:30].double().numpy()
        pairs = zip(statistics(rbm, x.double().numpy()), statistics(rbm, negatives), strict=True)
        expected = [0.8 * old + 0.3 * (d - m) for old, (d, m) in zip(expected, pairs, strict=True)]
    for found, exact in zip(phase.fast_weights["x"].offsets, expected, strict=True):
        assert float(np.abs(exact).max()) > 0.02
        np.testing.assert_allclose(found.numpy(), exact, atol=1e-5)


def test_lateral_weights_stay_symmetric_without_a_diagonal():
    """A fully visible machine: U+ follows the mean of x xᵀ off the diagonal, and no unit is coupled to itself.

    Of the negatives unit 0, the first colour, enters by its mean given the others.
    """
    model = oracle.randomise(dgm.BoltzmannMachine(5), torch.Generator().manual_seed(1), 0.7)
    x = model.sample(12)
    phase = dgm.PCD(chains=20, fast=0.5, fast_decay=0.5)
    module = module_of(model, phase)
    exact, expected = oracle.of_machine(model), np.zeros((5, 5))
    for _ in range(4):
        module(x)
        m = phase.chains["x"]["visible"][:20].double().numpy()
        m[:, 0] = sigmoid(exact.b[0] + m @ exact.J[0])
        expected = 0.5 * expected + 0.5 * (x.numpy().T @ x.numpy() / 12 - m.T @ m / 20) * (1 - np.eye(5))
    np.testing.assert_allclose(phase.fast_weights["x"].offsets[1].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("scale", [1, 0])
def test_chains_move_by_the_sum_of_both(scale):
    """Chains meet the distribution of the machine with W + W+ (enumerated), the witnesses that of W; scale 0 is W alone."""
    rbm, x = dgm.RBM.example()
    phase = dgm.PCD(k=5, chains=20_000, fast=0.0, fast_decay=0.0)
    module = module_of(rbm, phase)
    module(x)
    generator = torch.Generator().manual_seed(0)
    offsets = [scale * torch.randn(p.shape, generator=generator) for p in rbm().parameters()]
    moved = dgm.RBM(6, 4)
    with torch.no_grad():
        pairs = zip((moved.visible_bias, moved.hidden_bias, moved.weight), rbm().parameters(), offsets, strict=True)
        for own, plain, offset in pairs:
            own.copy_(plain + offset)
    for _ in range(12):
        phase.fast_weights["x"].offsets = list(offsets)
        module(x)
    state = torch.cat([phase.chains["x"]["visible"], phase.chains["x"]["hidden"]], -1).numpy()
    chains, witnesses = state[:20_000], state[20_000:]
    plain, other = oracle.of_rbm(rbm), oracle.of_rbm(moved)

    def excess(exact, states):
        distance = 0.5 * np.abs(oracle.frequencies(exact, states) - exact.p).sum()
        return distance - oracle.total_variation_bound(exact.p, len(states))

    assert excess(other, chains) < 0
    assert (excess(plain, chains) < 0) == (scale == 0)
    assert excess(plain, witnesses) < 0
    assert (excess(other, witnesses) < 0) == (scale == 0)


def test_the_gradient_is_that_of_the_plain_machine():
    """Data minus negatives by the parameters themselves: fast weights change the negatives and nothing else."""
    rbm, x = dgm.RBM.example()
    phase = dgm.PCD(chains=25, fast=0.5)
    module = module_of(rbm, phase)
    for _ in range(3):
        rbm.zero_grad()
        module(x).backward()
    negatives = phase.chains["x"]["visible"][:25].double().numpy()
    pairs = zip(statistics(rbm, x.double().numpy()), statistics(rbm, negatives), strict=True)
    for name, (data, model) in zip(("visible_bias", "hidden_bias", "weight"), pairs, strict=True):
        np.testing.assert_allclose(getattr(rbm, name).grad.numpy(), -10 * (data - model), atol=1e-4)


def two_modes():
    """Twelve spins that agree, in two modes of equal weight that Gibbs sweeps do not leave; data from both."""
    model = dgm.BoltzmannMachine(12, unit="spin")
    with torch.no_grad():
        model.weight.fill_(0.4)
    x = torch.ones(20, 12)
    x[::2] = -1
    return model, x


@pytest.mark.parametrize("fast", [0.3, None])
def test_chains_change_modes_under_a_fixed_model(fast):
    """All chains start in one of two modes. A unit turns against its eleven neighbours with probability σ(-8.8), and plain
    chains stay. The fast biases tend to 0.3 / (1 - 0.95) = 6 times the excess of negatives, against a field of 4.4: chains
    leave until the modes are held as the data hold them, but for what is left of that excess."""
    model, x = two_modes()
    phase = dgm.PCD(chains=50, fast=fast)
    module = module_of(model, phase)
    module(x)
    phase.chains["x"] = {layer: torch.ones_like(s) for layer, s in phase.chains["x"].items()}
    up = []
    for _ in range(120):
        module(x)
        up.append(float((phase.chains["x"]["visible"][:50].sum(1) > 0).float().mean()))
    share = sum(up[60:]) / 60
    assert share > 0.95 if fast is None else 0.4 < share < 0.75


def test_the_loss_still_follows_log_z(monkeypatch):
    """The witnesses move without fast weights, so that training with them keeps the figure within its own noise."""
    monkeypatch.setattr(tracking, "_LISTED_SUMS", 0)
    rbm, x = dgm.RBM.example()
    svi = SVI(
        dgm.negative_phase(rbm.model, phase := dgm.PCD(chains=2000, fast=0.05)), rbm.guide, SGD({"lr": 2e-3}),
        Trace_ELBO(max_plate_nesting=1),
    )  # fmt: skip
    for _ in range(60):
        svi.step(x)
    exact = oracle.of_rbm(rbm)
    tracked = float(phase.tracking["x"].state["log_z"])
    assert float(phase.tracking["x"].state["travelled"]) > 0.3
    # The error of the last update alone is not in it: log Z of the machine before the last step moved it.
    assert abs(tracked - exact.log_z) < 0.15


def test_resumed_runs_are_bit_identical(tmp_path):
    found = []
    for name, stops in (("whole", [4]), ("parts", [2, 4])):
        rbm, x = dgm.RBM.example()
        for number, epochs in enumerate(stops):
            phase = dgm.PCD(chains=10, fast=0.1)
            dgm.fit(rbm, x, objective=dgm.NegativePhaseObjective(phase), epochs=epochs, batch_size=3, out=tmp_path / name,
                    resume=number > 0, progress=False)  # fmt: skip
        found.append([p.detach().clone() for p in rbm.parameters()] + phase.fast_weights["x"].offsets)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_fast_weights_move_with_the_module_and_with_other_kernels():
    rbm, x = dgm.RBM.example()
    phase = dgm.PCD(chains=10, fast=0.1, kernel=functools.partial(dgm.ParallelTempering, temperatures=3))
    program = dgm.negative_phase(rbm.model, phase)
    module = Trace_ELBO(max_plate_nesting=1)(program, rbm.guide)
    module(x)
    before = phase.fast_weights["x"].offsets
    program.double()
    for found, old in zip(phase.fast_weights["x"].offsets, before, strict=True):
        assert found.dtype == torch.float64
        assert torch.equal(found, old.double())
    module(x.double())
    assert phase.chains["x"]["visible"].shape == (18, 3, 6)
    assert phase.options()["fast"] == 0.1


@pytest.mark.parametrize("model", ["SpikeSlabRBM", "CoupledSlabRBM", "ConvolutionalSpikeSlabRBM"])
def test_squares_and_slabs_stay_uncoupled(model):
    """Machines whose spikes switch squares of x: entries between a square and a slab are none of the graph's machines."""
    torch.manual_seed(0)
    model, x = getattr(dgm, model).example()
    phase = dgm.PCD(1, 10, fast=1e-3)
    dgm.fit(model, x, objective=dgm.NegativePhaseObjective(phase), epochs=4, batch_size=4, progress=False)
    graph, offsets = model().machine.graph, phase.fast_weights["x"].offsets
    offsets = offsets[len(offsets) - len(graph.interactions) :]
    for interaction, offset in zip(graph.interactions, offsets, strict=True):
        assert offset.any()
        if isinstance(interaction, dgm.Dense):
            by_spike = offset.view(model.visible, model.hidden, -1)
            assert by_spike[..., 0].any()
            assert by_spike[..., 1:].any() == (interaction.ends[0].statistic == 0)


def test_contexts_have_fast_weights_of_their_own():
    """Two machines that differ in their biases: the offsets of each follow its own chains."""
    rbm, x = dgm.RBM.example()
    dist = rbm(visible_shift=torch.tensor([[0.0], [1.0]]).expand(2, 6))
    weights = FastWeights(0.5, 0.9)
    weights.apply("x", dist)
    negatives = dgm.BlockGibbs(dist).start(30)
    weights.update(dist, x[:, None], negatives)
    found = weights.offsets[0].numpy()
    np.testing.assert_allclose(found, 0.5 * (x.numpy().mean(0) - negatives["visible"].numpy().mean(0)), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fast": -0.1}, "fast got -0.1"),
        ({"fast": float("nan")}, "fast got nan"),
        ({"fast": 0.1, "fast_decay": 1.0}, "fast_decay got 1.0"),
        ({"fast": 0.1, "fast_decay": -0.5}, "fast_decay got -0.5"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(ValueError, match=message):
        dgm.PCD(**options)


def test_offsets_that_leave_no_machine_say_so():
    graph = dgm.Graph({"visible": dgm.Gaussian(2)}, [])
    dist = dgm.BoltzmannDistribution(graph, {"visible": (torch.zeros(2), torch.full((2,), -0.5))}, ())
    weights = FastWeights(0.5, 0.9, [torch.zeros(2), torch.ones(2)])
    with pytest.raises(ValueError, match=r"fast weights of site 'x'.*Lower fast"):
        weights.apply("x", dist)
