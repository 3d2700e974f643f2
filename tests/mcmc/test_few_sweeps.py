"""Sweeps of layers of bits from numbers to numbers: their law, and torch's states where nothing is random."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from oracles.small_machines import CHAINS, Table, certain, colours, deep, joined, small_rbm, states, variation

import pyro_dgm as dgm
from pyro_dgm.energy import Binary, BoltzmannDistribution, Graph
from pyro_dgm.mcmc import tempering
from pyro_dgm.mcmc.bit_layers import swept
from pyro_dgm.mcmc.engines.bits import BitTempering
from pyro_dgm.native import processor

pytestmark = pytest.mark.usefixtures("way_of_bits")


@pytest.fixture(autouse=True)
def _any_size(monkeypatch):
    for module in (processor, tempering):
        monkeypatch.setattr(module, "multiplies_bits", lambda *_, **__: True)


@pytest.mark.parametrize("build", [small_rbm, deep])
def test_chains_move_by_the_transition_matrix(build):
    dist, table = build(), Table.of(build())
    once = table.transition(colours(dist))
    first = int(table.probability().argmin())
    start = states(dist, np.tile(table.states[first], (CHAINS, 1)))
    for sweeps in (1, 3):
        found = table.count(joined(dist, swept(dist, start, sweeps)))
        distance, bound = variation(np.linalg.matrix_power(once, sweeps)[first], found)
        assert distance <= bound
        distance, bound = variation(np.linalg.matrix_power(once, 4 - sweeps)[first], found)
        assert distance > bound


@pytest.mark.parametrize("sizes", [(70, 45), (32, 64), (33, 95, 31), (40, 70, 50, 20), (1100, 40)])
@pytest.mark.parametrize("rows", [1, 33, 600])
def test_where_nothing_is_random_states_are_torch_s(sizes, rows):
    dist = certain(*sizes)
    state = {name: (torch.rand(rows, len(b)) < 0.5).float() for name, (b,) in dist.machine.biases.items()}
    before = {name: x.clone() for name, x in state.items()}
    expected = dist.machine.sweep(state)
    assert all(torch.equal(x, expected[name]) for name, x in swept(dist, state, 1).items())
    for sweeps in (2, 3, 4):
        expected = dist.machine.sweep(expected)
        assert all(torch.equal(x, expected[name]) for name, x in swept(dist, state, sweeps).items())
    assert all(torch.equal(x, before[name]) for name, x in state.items())


def test_states_do_not_depend_on_the_threads():
    dist, before = dgm.RBM(100, 70)(), torch.get_num_threads()
    state, found = dgm.BlockGibbs(dist).start(300), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            torch.manual_seed(3)
            found.append(swept(dist, state, 3))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(x, found[1][name]) for name, x in found[0].items())
    assert not torch.equal(found[0]["visible"], swept(dist, state, 3)["visible"])


def test_kernels_take_them_where_nothing_is_clamped(monkeypatch):
    from pyro_dgm.mcmc import gibbs

    calls, rbm = [], dgm.RBM(70, 50)
    monkeypatch.setattr(gibbs, "swept", lambda *a: calls.append(a[2]) or swept(*a))
    kernel = dgm.BlockGibbs(rbm())
    state = kernel.move(kernel.sample(kernel.start(40)), 4)
    assert calls == [1, 4]
    known = torch.arange(70) < 30
    clamped = dgm.BlockGibbs(rbm(), clamp=(known, torch.ones(70)))
    assert clamped.sample(state)["visible"][:, :30].all()
    assert calls == [1, 4]


def test_chains_around_data_are_swept_too():
    """Their hidden units are zeros that take no memory."""
    rbm = dgm.RBM(70, 50)
    state = rbm().around((torch.rand(40, 70) < 0.5).float())
    assert not state["hidden"].is_contiguous()
    assert swept(rbm(), state, 1) is not None


def test_states_of_other_dimensions_are_left_to_torch():
    """One state alone, or chains in two dimensions."""
    dist = certain(70, 45)
    for shape in ((), (3, 5), (1, 5), (5, 1)):
        state = {name: (torch.rand(*shape, len(b)) < 0.5).float() for name, (b,) in dist.machine.biases.items()}
        expected = dist.machine.sweep(state)
        assert swept(dist, state, 1) is None
        assert all(torch.equal(x, expected[name]) for name, x in dgm.BlockGibbs(dist).sample(state).items())


def test_a_machine_without_couplings_is_left_to_torch():
    dist = BoltzmannDistribution(Graph({"visible": Binary(70)}, []), {"visible": (torch.zeros(70),)}, ())
    assert swept(dist, {"visible": torch.zeros(40, 70)}, 1) is None


def test_what_is_no_state_of_bits_is_left_to_torch():
    dist = certain(70, 45)
    state = {name: torch.rand(40, len(b)) for name, (b,) in dist.machine.biases.items()}
    assert swept(dist, state, 1) is None
    expected = dist.machine.sweep(state)
    assert all(torch.equal(x, expected[name]) for name, x in dgm.BlockGibbs(dist).sample(state).items())
    bits = {name: x.round() for name, x in state.items()}
    assert swept(dist, bits, 1) is not None
    assert swept(dist, {"l0": bits["l0"]}, 1) is None
    assert swept(dist, {name: x.double() for name, x in bits.items()}, 1) is None
    assert swept(dgm.GaussianRBM(70, 45)(), bits, 1) is None


@pytest.mark.parametrize("build", [deep, lambda: dgm.RBM(1100, 70)(), lambda: dgm.RBM(45, 90)()])
def test_a_step_of_tempering_is_that_of_the_engine(build):
    """The same bits, swap rates and trips from the same seed, whether weights are laid out or stay as they are."""
    dist, found = build(), []
    params = dgm.ParallelTempering(dist, 4).start(20)
    for loop in (True, False):
        kernel = dgm.ParallelTempering(dist, 4)
        engine = BitTempering(kernel)
        engine.begin()
        torch.manual_seed(5)
        state = kernel.sample(params) if loop else engine.advance(params, 1)
        found.append((state, kernel.tuning["rate"], kernel._trips[1:]))
    (ours, rate, trips), (theirs, expected, expected_trips) = found
    assert all(torch.equal(x, theirs[name]) for name, x in ours.items())
    assert torch.equal(rate, expected)
    assert all(map(torch.equal, trips, expected_trips))
    assert not torch.equal(ours["visible"], params["visible"])


def test_tempered_chains_that_are_no_bits_go_by_torch(monkeypatch):
    kernel, calls = dgm.ParallelTempering(dgm.RBM(70, 50)(), 3), []
    monkeypatch.setattr(kernel, "_by_torch", lambda params: calls.append(params) or params)
    state = kernel.start(12)
    kernel.sample(state)
    assert calls == []
    kernel.sample({name: x + 0.5 for name, x in state.items()})
    clamped = dgm.ParallelTempering(dgm.RBM(70, 50)(), 3, clamp=(torch.arange(70) < 30, torch.ones(70)))
    assert clamped.sample(clamped.start(12))["visible"][..., :30].all()
    assert len(calls) == 1


@pytest.mark.parametrize("make", [dgm.BlockGibbs, lambda dist: dgm.ParallelTempering(dist, 3)])
@pytest.mark.parametrize("wrong", [-1, 1.5, "2"])
def test_steps_are_counted(make, wrong):
    kernel = make(dgm.RBM(4, 3)())
    state = kernel.start(2)
    with pytest.raises(ValueError, match="steps got"):
        kernel.move(state, wrong)
    assert kernel.move(state, 0) is state
