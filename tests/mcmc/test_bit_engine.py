"""The compiled loop over layers of bits: the law of one sweep and of many, and the same as torch where nothing is random."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from oracles.small_machines import (
    CHAINS,
    Table,
    certain,
    colours,
    deep,
    full,
    joined,
    labels,
    normal,
    small_rbm,
    states,
    variation,
)

import pyro_dgm as dgm
from pyro_dgm.energy import Binary, BoltzmannDistribution, Dense, Graph
from pyro_dgm.mcmc.engines.bits import BitEngine, BitGibbs, BitTempering
from pyro_dgm.mcmc.engines.engine import TorchEngine
from pyro_dgm.mcmc.vectorized import _engine
from pyro_dgm.native import processor
from pyro_dgm.native import team as loops

pytestmark = pytest.mark.usefixtures("way_of_bits")


def engine_of(dist: BoltzmannDistribution) -> BitGibbs:
    engine = BitGibbs(dgm.BlockGibbs(dist))
    engine.begin()
    return engine


def tempering_of(dist: BoltzmannDistribution, betas, base=None) -> BitTempering:
    engine = BitTempering(dgm.ParallelTempering(dist, betas, base=base))
    engine.begin()
    return engine


@pytest.mark.parametrize("build", [small_rbm, deep])
def test_chains_move_by_the_transition_matrix(build):
    dist, table = build(), Table.of(build())
    engine, once = engine_of(dist), table.transition(colours(dist))
    first = int(table.probability().argmin())
    start = states(dist, np.tile(table.states[first], (CHAINS, 1)))
    for sweeps, calls in ((1, 1), (3, 1), (1, 3)):
        state = start
        for _ in range(calls):
            state = engine.advance(state, sweeps)
        found = table.count(joined(dist, state))
        distance, bound = variation(np.linalg.matrix_power(once, sweeps * calls)[first], found)
        assert distance <= bound
        distance, bound = variation(np.linalg.matrix_power(once, 4 - sweeps * calls)[first], found)
        assert distance > bound


@pytest.mark.parametrize("build", [small_rbm, deep])
def test_the_distribution_is_kept(build):
    dist, table = build(), Table.of(build())
    start, p = states(dist, table.draw(0)), table.probability()
    distance, bound = variation(p, table.count(joined(dist, engine_of(dist).advance(start, 5))))
    assert distance <= bound
    engine = engine_of(dist)
    engine.bits.weights[-1] = engine.bits.weights[-1].flip(-1, -2)
    distance, bound = variation(p, table.count(joined(dist, engine.advance(start, 5))))
    assert distance > bound


@pytest.mark.parametrize("sizes", [(70, 45), (32, 64), (33, 95, 31), (40, 70, 50, 20)])
@pytest.mark.parametrize("rows", [1, 33, 300])
def test_where_nothing_is_random_states_are_torch_s(sizes, rows):
    dist = certain(*sizes)
    kernel, engine = dgm.BlockGibbs(dist), engine_of(dist)
    state = {name: (torch.rand(rows, len(b)) < 0.5).float() for name, (b,) in dist.machine.biases.items()}
    for sweeps in (1, 2):
        ours, before = engine.advance(state, sweeps), state
        for _ in range(sweeps):
            state = kernel.sample(state)
        assert all(torch.equal(ours[name], x) for name, x in state.items())
        assert rows == 1 or not torch.equal(before["l0"], state["l0"])


def test_a_start_of_other_numbers_is_swept_by_torch_once():
    dist = certain(70, 45)
    kernel, engine = dgm.BlockGibbs(dist), engine_of(dist)
    state = {name: torch.rand(40, len(b)) for name, (b,) in dist.machine.biases.items()}
    expected = kernel.sample(kernel.sample(state))
    ours = engine.advance(state, 2)
    assert all(torch.equal(ours[name], x) for name, x in expected.items())
    assert engine.advance(state, 0) is state


def test_states_do_not_depend_on_the_threads():
    dist, before = deep(), torch.get_num_threads()
    rbm = dgm.RBM(100, 70)
    try:
        for machine in (dist, rbm()):
            found = []
            for number in (1, 2, 5):
                torch.set_num_threads(number)
                torch.manual_seed(3)
                state = machine.machine.neutral_state((700,))
                found.append(joined(machine, engine_of(machine).advance(state, 4)))
            assert (found[0] == found[1]).all()
            assert (found[0] == found[2]).all()
    finally:
        torch.set_num_threads(before)


def test_rows_columns_layers_and_sweeps_have_their_own_bits():
    """Fair bits of a machine without weights: any two of a thousand draws of 600 rows agree in some 300 of them.

    Six standard deviations of a binomial are exceeded by one of 500,000 pairs in a thousand runs.
    """
    rbm = dgm.RBM(64, 40)
    with torch.no_grad():
        for parameter in rbm.parameters():
            parameter.zero_()
    engine, state, columns = engine_of(rbm()), rbm().machine.neutral_state((600,)), []
    for _ in range(3):
        state = engine.advance(state, 2)
        columns += [state["visible"], state["hidden"]]
    draws = 2 * torch.cat(columns, -1) - 1
    for table in (draws, draws.t()):
        count = len(table)
        product = table.t() @ table / count**0.5
        product.fill_diagonal_(0)
        assert product.abs().max() < 6
        assert table.sum(0).abs().max() < 6 * count**0.5


def test_which_machines_are_swept_by_the_loop(monkeypatch):
    def fits(dist, chains=5000, against="jax", sweeps=math.inf, **options):
        kernel = dgm.BlockGibbs(dist, **options)
        kernel.num_chains = chains
        return BitEngine.of(kernel, against, sweeps) is not None

    rbm = dgm.RBM(100, 70)
    if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        pytest.skip("no loop for this processor")
    assert fits(rbm())
    assert fits(dgm.DBM(50, (40, 30))())
    assert fits(rbm(), chains=1)
    assert fits(small_rbm())
    middle, large = dgm.RBM(300, 200)(), dgm.RBM(784, 500)()
    assert [fits(middle, chains) for chains in (9, 10)] == [False, True]
    assert fits(middle, 1, "torch")
    assert [fits(large, chains, "torch") for chains in (3, 4)] == [False, True]
    assert [fits(small_rbm(), 100, "torch", sweeps) for sweeps in (999, 1000)] == [False, True]
    assert fits(large, 32, "torch", 1)
    assert not fits(rbm(), clamp=(torch.ones(100, dtype=torch.bool), torch.ones(100)))
    assert not fits(rbm.double()())
    rbm.float()
    assert not fits(full(), chains=100_000)
    assert not fits(labels(), chains=100_000)
    assert not fits(dgm.GaussianRBM(100, 70)())
    three = {name: Binary(50) for name in ("visible", "b", "c")}
    triangle = BoltzmannDistribution(
        Graph(three, [Dense("visible", "b"), Dense("b", "c"), Dense("c", "visible")]),
        {name: (torch.zeros(50),) for name in three},
        [torch.zeros(50, 50)] * 3,
    )
    assert fits(triangle)
    tempering = dgm.ParallelTempering(triangle, 3)
    tempering.num_chains = 5000
    assert BitEngine.of(tempering) is None
    monkeypatch.setattr(processor, "COPIED_WEIGHTS", 6999)
    assert not fits(rbm())


@pytest.mark.parametrize("keep", ["draws", "moments"])
def test_runs_have_the_torch_engine_s_draws_where_nothing_is_random(keep):
    dist, found = certain(95, 70), []
    start = {name: (torch.rand(100, len(b)) < 0.5).float() for name, (b,) in dist.machine.biases.items()}
    for engine in ("torch", "compiled"):
        mcmc = dgm.VectorizedMCMC(
            dgm.BlockGibbs(dist), 3, 1, num_chains=100, thinning=2, engine=engine, keep=keep, initial_params=start,
            disable_progbar=True,
        )  # fmt: skip
        if engine == "compiled" and not isinstance(mcmc._engine, BitEngine):
            pytest.skip("no loop for this processor")
        mcmc.run()
        found.append(mcmc)
    theirs, ours = found
    if keep == "draws":
        for name, x in theirs.get_samples(group_by_chain=True).items():
            assert torch.equal(ours.get_samples(group_by_chain=True)[name], x)
    for name, x in theirs.scalars.items():
        torch.testing.assert_close(ours.scalars[name], x)


def run(dist, start=None, engine="compiled"):
    mcmc = dgm.VectorizedMCMC(
        dgm.BlockGibbs(dist), 2, 0, num_chains=100, initial_params=start, engine=engine, disable_progbar=True
    )
    if engine == "compiled" and not isinstance(mcmc._engine, BitEngine):
        pytest.skip("no loop for this processor")
    return mcmc


@pytest.mark.parametrize("engine", ["torch", "compiled"])
@pytest.mark.parametrize("width", [50, 300])
def test_first_states_of_another_width_are_refused(engine, width):
    dist = dgm.RBM(200, 100)()
    start = {"visible": torch.zeros(100, width), "hidden": torch.zeros(100, 100)}
    with pytest.raises(ValueError, match=r"initial_params\['visible'\] has shape .* expected \(100, 200\)"):
        run(dist, start, engine).run()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bool, torch.int64])
def test_first_states_of_another_type_are_bits_too(dtype):
    dist = certain(200, 100)
    start = {name: torch.rand(100, len(b)) < 0.5 for name, (b,) in dist.machine.biases.items()}
    expected = run(dist, {name: x.float() for name, x in start.items()}, "torch")
    ours = run(dist, {name: x.to(dtype) for name, x in start.items()})
    for mcmc in (expected, ours):
        mcmc.run()
    for name, x in expected.get_samples(group_by_chain=True).items():
        assert torch.equal(ours.get_samples(group_by_chain=True)[name], x)


def test_a_run_takes_the_parameters_as_they_are_when_it_begins():
    rbm = dgm.RBM(200, 100)
    mcmc = run(rbm())
    for sign in (-1, 1):
        with torch.no_grad():
            rbm.visible_bias.fill_(sign * 1000)
        mcmc.run()
        assert (mcmc.get_samples()["visible"] == (sign + 1) / 2).all()
    engine, state = engine_of(rbm()), rbm().machine.neutral_state((40,))
    with torch.no_grad():
        rbm.visible_bias.fill_(-1000)
    assert (engine.advance(state, 1)["visible"] == 1).all()


def test_what_the_loop_cannot_sweep_any_more_is_refused():
    rbm = dgm.RBM(200, 100)
    mcmc = run(rbm())
    mcmc.kernel.clamp = {"visible": (torch.ones(1, 200, dtype=torch.bool), torch.ones(1, 200))}
    with pytest.raises(ValueError, match="make a new VectorizedMCMC"):
        mcmc.run()
    mcmc.kernel.clamp = None
    rbm.double()
    with pytest.raises(ValueError, match="make a new VectorizedMCMC"):
        mcmc.run()


def test_without_a_team_the_loop_runs_alone(monkeypatch):
    machine, found = dgm.RBM(100, 70)(), []
    for has_teams in (True, False):
        monkeypatch.setattr(loops, "_has_teams", lambda has_teams=has_teams: has_teams)
        torch.manual_seed(3)
        found.append(engine_of(machine).advance(machine.machine.neutral_state((70,)), 3))
    assert all(torch.equal(found[1][name], x) for name, x in found[0].items())


def at(dist, base, beta):
    """The machine at an inverse temperature."""
    biases = {
        name: (b0 + beta * (b - b0),) for name, (b,), (b0,) in ((n, e, base[n]) for n, e in dist.machine.biases.items())
    }
    layers = dist.machine.graph.layers
    biases = {name: (b.view(layers[name].shape),) for name, (b,) in biases.items()}
    return BoltzmannDistribution(dist.machine.graph, biases, [beta * w for w in dist.machine.weights])


def base_of(dist):
    return {name: (0.5 * normal(len(b), seed=len(b) + 50),) for name, (b,) in dist.machine.biases.items()}


def shaped(dist, base):
    return {name: (b.view(dist.machine.graph.layers[name].shape),) for name, (b,) in base.items()}


@pytest.mark.parametrize("build", [small_rbm, deep])
def test_tempering_keeps_the_distribution_at_every_temperature(build):
    """And the replicas' independence: the joint law of two neighbours is the product of theirs."""
    dist, betas = build(), [0.1, 0.6, 1.0]
    base = base_of(dist)
    tables = [Table.of(at(dist, base, beta)) for beta in betas]
    parts = [states(dist, table.draw(seed)) for seed, table in enumerate(tables)]
    start = {name: torch.stack([part[name] for part in parts], 1) for name in parts[0]}
    engine = tempering_of(dist, betas, shaped(dist, base))
    after = engine.advance(start, 3)
    for t, table in enumerate(tables):
        found = table.count(joined(dist, {name: x[:, t] for name, x in after.items()}))
        distance, bound = variation(table.probability(), found)
        assert distance <= bound
        distance, bound = variation(tables[t - 1].probability(), found)
        assert distance > bound
    visible = [after[dist.visible][:, t].flatten(1)[:, 0] for t in range(3)]
    for t in range(2):
        product = (visible[t] - visible[t].mean()) * (visible[t + 1] - visible[t + 1].mean())
        assert abs(float(product.mean())) < 6 * 0.25 / CHAINS**0.5
    assert (engine.kernel.tuning["rate"] > 0.05).all()


@pytest.mark.parametrize("sizes", [(70, 45), (40, 70, 50), (40, 70, 50, 33, 20)])
def test_swap_probabilities_are_torch_s(sizes):
    """Of even pairs, whose energies are those of the first states; odd ones depend on the swaps before."""
    layers = {f"l{i}": Binary(size) for i, size in enumerate(sizes)}
    couplings = [Dense(f"l{i}", f"l{i + 1}") for i in range(len(sizes) - 1)]
    weights = [0.2 * normal(*size, seed=3) for size in zip(sizes[:-1], sizes[1:], strict=True)]
    biases = {name: (normal(*unit.shape, seed=4),) for name, unit in layers.items()}
    dist = BoltzmannDistribution(Graph(layers, couplings), biases, weights, visible="l0")
    betas, base = [0.0, 0.3, 0.5, 0.9, 1.0], base_of(dist)
    engine, kernel = tempering_of(dist, betas, base), dgm.ParallelTempering(dist, betas, base=base)
    start = kernel.start(300)
    engine.advance(start, 1)
    kernel.sample(start)
    ours, theirs = engine.kernel.tuning["rate"], kernel.tuning["rate"]
    torch.testing.assert_close(ours[::2], theirs[::2], rtol=1e-4, atol=1e-6)
    assert 0.01 < float(theirs[0]) < 0.99
    assert (ours[1::2] - theirs[1::2]).abs().max() < 6 * (0.25 / 300) ** 0.5


@pytest.mark.parametrize("sizes", [(70, 45), (40, 70, 50), (33, 95), (40, 70, 50, 20), (20, 40, 33, 70, 50)])
def test_tempering_is_torch_s_where_nothing_is_random(sizes):
    """Energies are so far apart that swaps are certain, or impossible: states, trips and rates are the same."""
    dist, betas = certain(*sizes), [0.25, 0.5, 0.75, 1.0]
    engine, kernel = tempering_of(dist, betas), dgm.ParallelTempering(dist, betas)
    for each in (engine.kernel, kernel):
        each.setup(4)
    state = kernel.start(40)
    state = {name: (torch.rand(x.shape) < 0.5).float() for name, x in state.items()}
    ours = state
    for sweeps in (1, 2, 3):
        ours = engine.advance(ours, sweeps)
        for _ in range(sweeps):
            state = kernel.sample(state)
        assert all(torch.equal(ours[name], x) for name, x in state.items())
    torch.testing.assert_close(engine.kernel.tuning["betas"], kernel.tuning["betas"])
    torch.testing.assert_close(engine.kernel.tuning["rate"], kernel.tuning["rate"])
    for mine, other in zip(engine.kernel._trips[1:], kernel._trips[1:], strict=True):
        assert torch.equal(mine, other)
    assert 0 < float(kernel.tuning["rate"].mean()) < 1


def test_tempered_states_do_not_depend_on_the_threads():
    machine, before, found = dgm.RBM(100, 70)(), torch.get_num_threads(), []
    try:
        for number in (1, 2, 5):
            torch.set_num_threads(number)
            torch.manual_seed(3)
            kernel = dgm.ParallelTempering(machine, 4)
            engine = BitTempering(kernel)
            engine.begin()
            found.append(engine.advance(kernel.start(150), 3) | {"rate": kernel.tuning["rate"]})
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(other[name], x) for name, x in found[0].items())


def test_a_tempered_run_has_draws_rates_and_restarts():
    kernel = dgm.ParallelTempering(dgm.RBM(100, 70)(), 4)
    mcmc = dgm.VectorizedMCMC(kernel, 20, 20, num_chains=40, engine="compiled", disable_progbar=True)
    if not isinstance(mcmc._engine, BitTempering):
        pytest.skip("no loop for this processor")
    mcmc.run()
    assert mcmc.get_samples(group_by_chain=True)["visible"].shape == (40, 20, 100)
    told = kernel.diagnostics()
    assert len(told["betas"]) == 4
    assert all(0.2 < rate <= 1 for rate in told["swap rate"])
    assert told["restarts"] > 0


@pytest.mark.parametrize("betas", [[0.0, 1.0], [0.0, 0.2, 0.4, 0.8, 1.0], list(torch.linspace(0, 1, 33))])
def test_trips_are_torch_s_where_every_swap_is_certain(betas):
    """A machine without parameters: replicas climb by one place a parity, over calls and an adaptation."""
    rbm = dgm.RBM(40, 33)
    with torch.no_grad():
        for parameter in rbm.parameters():
            parameter.zero_()
    engine, kernel = tempering_of(rbm(), betas), dgm.ParallelTempering(rbm(), betas)
    for each in (engine.kernel, kernel):
        each.setup(16)
    ours = theirs = kernel.start(3)
    for steps in (1, 2, 3, 4, 20, 31):
        ours = engine.advance(ours, steps)
        for _ in range(steps):
            theirs = kernel.sample(theirs)
        for mine, other in zip(engine.kernel.trips(ours, (3,)), kernel.trips(theirs, (3,)), strict=True):
            assert torch.equal(mine, other)
    assert (kernel._trips[2] > 0).all()


def test_swaps_of_a_step_are_independent_of_those_of_the_last():
    """Of two replicas that tell a thousand chains apart by chance, with a known probability, the same in every step.

    The variance of a thousand chains' trips has a relative standard error of 0.045, that of swaps which repeated a number
    some 400 times the size: a factor of two lies between. Units without couplings have the energies of their biases alone;
    with one visible unit of bias b a pair at 0 and 1 swaps with probability min(1, e^{b (x_0 - x_1)}): where the unit at 0
    is 1 and that at 1 is 0, b = -log 2 makes it a half.
    """
    dist = BoltzmannDistribution(
        Graph({"visible": Binary(33), "hidden": Binary(33)}, [Dense("visible", "hidden")]),
        {"visible": (torch.cat([torch.full((1,), -math.log(2.0)), torch.zeros(32)]),), "hidden": (torch.zeros(33),)},
        [torch.zeros(33, 33)],
    )
    engine, moves = tempering_of(dist, [0.0, 1.0]), []
    start = engine.kernel.start(1000)
    start["visible"][:, :, 0] = torch.tensor([1.0, 0.0])
    for _ in range(2):
        engine.kernel._forget()
        engine.kernel._trips = (
            start,
            torch.tensor([[True, False]]).repeat(1000, 1),
            torch.zeros(1000, dtype=torch.int64),
        )
        engine.advance(start, 1)
        moves.append(engine.kernel._trips[2].double())
    assert all(set(moved.tolist()) == {0.0, 1.0} for moved in moves)
    for moved in (*moves, (moves[0] == moves[1]).double()):
        assert abs(float(moved.mean()) - 0.5) < 6 * 0.5 / 1000**0.5
    engine.kernel._forget()
    engine.kernel._trips = start, torch.tensor([[True, False]]).repeat(1000, 1), torch.zeros(1000, dtype=torch.int64)
    after = engine.advance(start, 400)
    assert after["visible"].shape == (1000, 2, 33)
    trips = engine.kernel._trips[2].double()
    expected = _trips_of_a_pair(400)
    assert abs(float(trips.mean()) - expected[0]) < 6 * (expected[1] / 1000) ** 0.5
    assert 0.5 < float(trips.var()) / expected[1] < 2


def _trips_of_a_pair(steps: int) -> tuple[float, float]:
    """Mean and variance of the trips, from the distribution of what a step finds: by running the same chain in numbers.

    After the first step units are drawn afresh: 1 with probability a half at 0 and a third at 1, so a swap is sure but for
    (1, 0), where it is a half: p = 1 - 1/2 * 2/3 * 1/2 = 5/6. A trip is a swap while the lower replica comes from the base,
    as it always does: each step counts one with its probability, the first one with a half.
    """
    p = 5 / 6
    return 0.5 + (steps - 1) * p, 0.25 + (steps - 1) * p * (1 - p)


def test_tempering_takes_other_types_of_its_tuning_and_base():
    rbm = dgm.RBM(64, 40).double()
    with torch.no_grad():
        rbm.visible_bias.fill_(-1000.0)
    kernel = dgm.ParallelTempering(rbm(), [0.5, 1.0])
    rbm.float()
    kernel.tuning = {name: x.float() for name, x in kernel.tuning.items()}
    engine = BitTempering(kernel)
    engine.begin()
    state = {name: x.float() for name, x in kernel.start(40).items()}
    assert not engine.advance(state, 2)["visible"].any()
    assert (kernel.tuning["rate"] >= 0).all()
    assert (kernel.tuning["rate"] <= 1).all()


def test_states_without_temperatures_are_refused():
    rbm = dgm.RBM(64, 40)
    engine = tempering_of(rbm(), 4)
    with pytest.raises(ValueError, match="expected chains x 4 temperatures"):
        engine.advance(rbm().machine.neutral_state((50,)), 1)
    start = {name: x + 0.5 for name, x in engine.kernel.start(50).items()}
    assert {float(x) for x in engine.advance(start, 2)["visible"].unique()} == {0.0, 1.0}


def test_by_default_the_loop_runs_where_it_pays_and_torch_elsewhere() -> None:
    """A clamp that is put on after the run was made, or too few chains, go to torch without a word."""
    rbm = dgm.RBM(visible=784, hidden=500)
    kernel = dgm.BlockGibbs(rbm())
    mcmc = dgm.VectorizedMCMC(kernel, 2, 1, num_chains=64, disable_progbar=True)
    pays = BitEngine.of(kernel) is not None
    assert isinstance(_engine(kernel, "auto"), BitEngine if pays else TorchEngine)
    mcmc.run()
    assert set(mcmc.get_samples()["visible"].unique().tolist()) == {0.0, 1.0}
    kernel.clamp = {"visible": (torch.ones(1, 784, dtype=torch.bool), torch.ones(1, 784))}
    assert isinstance(_engine(kernel, "auto"), TorchEngine)
    mcmc.run()
    assert mcmc.get_samples()["visible"].eq(1).all()
    small, _ = dgm.RBM.example()
    assert isinstance(_engine(dgm.BlockGibbs(small()), "auto", 999), TorchEngine)
    assert isinstance(_engine(dgm.BlockGibbs(small()), "auto", 1000), BitEngine if pays else TorchEngine)


@pytest.mark.parametrize("layers", [["top"], ["visible", "middle"], ["middle", "top", "visible"]])
def test_draws_of_some_layers_are_those_of_all(layers):
    """The same seed moves the same chains, whichever layers are kept."""
    dist = deep()
    start = states(dist, Table.of(dist).draw(3, 40))
    runs = []
    for names in (layers, ["top", "visible", "middle"]):
        torch.manual_seed(4)
        runs.append(engine_of(dist).collect(start, 5, 3, names, None))
    some, whole = runs
    assert some.kept.keys() == set(layers)
    for name in layers:
        assert some.kept[name].shape == (40, 5, *dist.shapes[name])
        assert torch.equal(some.kept[name], whole.kept[name])
    assert all(torch.equal(some.params[name], whole.params[name]) for name in dist.shapes)
