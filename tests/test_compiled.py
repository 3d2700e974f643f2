"""The NumPyro implementation against the torch engine, and both against explicit tables."""

from __future__ import annotations

import copy
import functools
import math
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest
import torch

import pyro_dgm as dgm
from pyro_dgm.compiled import to_numpyro
from pyro_dgm.energy import Binary, BoltzmannDistribution, Categorical, Dense, Graph, Lateral, Sparse, Spin, all_states

jax = pytest.importorskip("jax")
jnp = jax.numpy
pytest.importorskip("numpyro")

CHAINS, SWEEPS, DELTA = 20_000, 3, 1e-6


def _normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _machine(machine: dgm.BoltzmannMachine, seed: int, scale: float = 1.0) -> BoltzmannDistribution:
    with torch.no_grad():
        for number, parameter in enumerate(machine.parameters()):
            parameter.copy_(scale * _normal(*parameter.shape, seed=seed + number))
    return machine()


def rbm() -> BoltzmannDistribution:
    return dgm.RBM.example()[0]()


def full() -> BoltzmannDistribution:
    return dgm.BoltzmannMachine.example()[0]()


def sparse() -> BoltzmannDistribution:
    edges = [(0, 1), (1, 2), (0, 4), (2, 5), (3, 4), (3, 6), (4, 5), (5, 6), (1, 6)]
    return _machine(dgm.BoltzmannMachine(4, 3, edges=edges), seed=1)


def ring() -> BoltzmannDistribution:
    return _machine(dgm.BoltzmannMachine(6, edges=[(i, (i + 1) % 6) for i in range(6)], unit="spin"), seed=2, scale=0.7)


def mixed() -> BoltzmannDistribution:
    """Spins that are coupled to one another, under two binary layers, and the visible layer not the first one."""
    layers = {"top": Binary(2), "visible": Spin(3), "middle": Binary(2)}
    couplings = [
        Dense("visible", "middle"),
        Sparse("top", "middle", torch.tensor([[0, 1], [1, 0]])),
        Lateral("visible"),
    ]
    within = _normal(3, 3, seed=3).triu(1)
    weights = [_normal(3, 2, seed=4), _normal(2, seed=5), (within + within.mT) / 2]
    biases = {name: (0.8 * _normal(*unit.shape, seed=6 + unit.atoms),) for name, unit in layers.items()}
    return BoltzmannDistribution(Graph(layers, couplings), biases, weights)


ALL = [rbm, full, sparse, ring, mixed]
SMALL = [full, sparse, ring, mixed]


def small_rbm() -> BoltzmannDistribution:
    graph = Graph({"visible": Binary(4), "hidden": Binary(3)}, [Dense("visible", "hidden")])
    biases = {"visible": (1.5 * _normal(4, seed=10),), "hidden": (1.5 * _normal(3, seed=11),)}
    return BoltzmannDistribution(graph, biases, [_normal(4, 3, seed=12)])


CHAINED = [small_rbm, *SMALL]


def double(dist: BoltzmannDistribution) -> BoltzmannDistribution:
    """The same float32 numbers in double precision, so that only JAX rounds."""
    machine = dist.machine
    biases = {name: tuple(b.detach().double() for b in entry) for name, entry in machine.biases.items()}
    weights = [w.detach().double() for w in machine.weights]
    return BoltzmannDistribution(machine.graph, biases, weights, dist.visible)


def joined(dist: BoltzmannDistribution, state: dict[str, torch.Tensor]) -> np.ndarray:
    names = [dist.visible, *(name for name in dist.machine.graph.layers if name != dist.visible)]
    return torch.cat([state[name] for name in names], -1).double().numpy()


class Table(NamedTuple):
    """All joint states, ``states x units`` with the visible units first, and their energies by the torch engine."""

    states: np.ndarray
    energy: np.ndarray

    @classmethod
    def of(cls, dist: BoltzmannDistribution) -> Table:
        exact = double(dist)
        states = all_states(exact.machine)
        return cls(joined(exact, states), exact.energy(states).numpy())

    def probability(self) -> np.ndarray:
        weight = np.exp(self.energy.min() - self.energy)
        return weight / weight.sum()

    def given(self, mask: np.ndarray, value: np.ndarray) -> Table:
        """The states whose first units agree with a clamp."""
        keep = ((self.states[:, : len(mask)] == value) | ~mask).all(1)
        return Table(self.states[keep], self.energy[keep])

    def transition(self, colours: tuple[np.ndarray, ...]) -> np.ndarray:
        """The matrix of one sweep: each factor holds p(colour | the rest) as ratios of the enumerated joint."""
        p = self.probability()
        sweep = np.eye(len(p))
        for colour in colours:
            rest = np.delete(self.states, colour, axis=1)
            reachable = (rest[:, None] == rest[None]).all(-1) * p
            sweep = sweep @ (reachable / reachable.sum(1, keepdims=True))
        return sweep

    def count(self, x: np.ndarray) -> np.ndarray:
        """How often each state is among the rows of ``x``; a row that is none of them fails."""
        number = {tuple(row): index for index, row in enumerate(self.states.astype(int).tolist())}
        rows, counts = np.unique(np.asarray(x).astype(int), axis=0, return_counts=True)
        result = np.zeros(len(self.states))
        for row, count in zip(rows.tolist(), counts, strict=True):
            result[number[tuple(row)]] = count
        return result


def variation(p: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """The total variation of n independent draws from p, and the bound it keeps with probability 1 - DELTA."""
    n = counts.sum()
    bound = np.sqrt(p * (1 - p) / n).sum() / 2 + math.sqrt(math.log(1 / DELTA) / (2 * n))
    return float(np.abs(counts / n - p).sum() / 2), float(bound)


def rounding(dist: BoltzmannDistribution) -> float:
    """A bound on float32 errors of a log-probability.

    A sum of m terms in any order errs by at most m u sum|terms|. Energies have n + n^2 products, to which the
    subtraction of the maximum and of log Z add a few; a sum of 2^n exponentials has a relative error, which is the
    absolute one of its logarithm, of 2^n u and a few more for exp. Two such sums are subtracted.
    """
    flat = to_numpyro(dist)
    size = float(np.abs(np.array(flat.bias)).sum() + np.abs(np.array(flat.coupling)).sum() / 2)
    n = flat.units
    return 2 * 2.0**-24 * ((n**2 + 2 * n + 8) * (1 + size) + 2**n + 8)


def visible_states(dist: BoltzmannDistribution) -> torch.Tensor:
    return torch.cartesian_prod(
        *[dist.machine.graph.layers[dist.visible].atom_states(torch.zeros(()))] * dist.event_shape[0]
    )


@pytest.mark.parametrize("build", ALL)
def test_log_probabilities_and_free_energies_agree(build):
    dist = build()
    flat, v = to_numpyro(dist), visible_states(dist)
    expected = double(dist)
    tolerance = rounding(dist)
    assert tolerance < 2e-3
    got = np.asarray(jax.jit(type(flat).log_prob)(flat, v.numpy()), np.float64)
    np.testing.assert_allclose(got, expected.log_prob(v.double()).numpy(), rtol=0, atol=tolerance)
    np.testing.assert_allclose(
        np.asarray(flat.free_energy(v.numpy())), expected.free_energy(v.double()).numpy(), rtol=0, atol=tolerance
    )
    assert abs(np.exp(got).sum() - 1) < tolerance


@pytest.mark.parametrize("build", ALL)
def test_energies_agree(build):
    dist = build()
    table = Table.of(dist)
    got = np.asarray(to_numpyro(dist).energy(table.states))
    np.testing.assert_allclose(got, table.energy, rtol=0, atol=rounding(dist))


@pytest.mark.parametrize("build", [full, mixed])
def test_a_lateral_matrix_taken_once_would_be_seen(build):
    flat = to_numpyro(build())
    n = flat.visible
    once = np.array(flat.coupling)
    once[:n, :n] /= 2
    wrong = type(flat)(flat.bias, once, flat.visible, flat.low)
    v = visible_states(build()).numpy()
    assert np.abs(np.asarray(wrong.log_prob(v)) - np.asarray(flat.log_prob(v))).max() > 100 * rounding(build())


def test_the_parameters_are_copies():
    machine = dgm.BoltzmannMachine.example()[0]
    flat = to_numpyro(machine())
    before = np.array(flat.bias), np.array(flat.coupling)
    with torch.no_grad():
        for parameter in machine.parameters():
            parameter.add_(1)
    np.testing.assert_array_equal(flat.bias, before[0])
    np.testing.assert_array_equal(flat.coupling, before[1])
    assert flat.coupling.dtype == jnp.zeros(()).dtype
    np.testing.assert_array_equal(before[1], before[1].T)
    assert not np.diagonal(before[1]).any()


@pytest.mark.parametrize("build", [rbm, ring, mixed])
def test_exact_draws_have_the_distribution_s_frequencies(build):
    flat = to_numpyro(build())
    v = visible_states(build())
    p = double(build()).log_prob(v.double()).exp().numpy()
    draws = flat.sample(jax.random.PRNGKey(0), (CHAINS // 2, 2))
    assert draws.shape == (CHAINS // 2, 2, flat.visible)
    counts = Table(v.numpy(), -np.log(p)).count(np.asarray(draws).reshape(CHAINS, -1))
    distance, bound = variation(p, counts)
    assert distance <= bound


def test_one_draw_the_log_partition_and_the_support():
    dist = double(ring())
    flat = to_numpyro(dist)
    one = np.asarray(flat.sample(jax.random.PRNGKey(0)))
    assert one.shape == flat.event_shape
    assert bool(flat.support(one))
    assert not bool(flat.support(0 * one))
    np.testing.assert_allclose(float(flat.log_partition()), float(dist.exact_log_partition()), atol=rounding(dist))


def test_the_gradient_by_the_bias_is_the_data_s_mean_minus_the_model_s():
    dist = double(ring())
    flat, v = to_numpyro(dist), visible_states(dist)
    gradient = jax.grad(lambda d: d.log_prob(v[5].numpy()), allow_int=True)(flat).bias
    mean = (dist.log_prob(v.double()).exp()[:, None] * v).sum(0)
    np.testing.assert_allclose(gradient, (v[5] - mean).numpy(), rtol=0, atol=2 * rounding(dist))


def clamp_of(flat):
    mask = np.arange(flat.visible) % 2 == 0
    return mask, np.where(np.arange(flat.visible) % 4 == 0, 1, flat.low[0])


def exact_start(table: Table, seed: int) -> np.ndarray:
    p = table.probability()
    return table.states[np.random.default_rng(seed).choice(len(p), size=CHAINS, p=p)]


class Runner:
    """Runs a kernel from given states; compiled once for every bias, seed and number of sweeps."""

    def __init__(self, build, clamped: bool = False) -> None:
        from pyro_dgm.compiled import NumPyroGibbs

        self.flat = to_numpyro(build())
        self.clamp = clamp_of(self.flat) if clamped else None
        self.kernel = NumPyroGibbs(self.flat, self.clamp)
        self._run = jax.jit(self._sweeps)

    def _sweeps(self, dist, keys, start, sweeps):
        kernel = copy.copy(self.kernel)
        kernel.dist = dist
        state = kernel.init(keys, 0, kernel.split(start))
        return jax.lax.fori_loop(0, sweeps, lambda _, s: kernel.sample(s), state).x

    def __call__(self, start: np.ndarray, seed: int, sweeps: int = SWEEPS, broken: bool = False) -> np.ndarray:
        """The units after some sweeps, ``chains x units``; broken, with the biases in the wrong places."""
        dist = copy.copy(self.flat)
        if broken:
            dist.bias = np.array(dist.bias)[::-1]
        keys = jax.random.split(jax.random.PRNGKey(seed), len(start))
        return np.asarray(self._run(dist, keys, start.astype(np.float32), sweeps))


runner = functools.cache(Runner)


@pytest.mark.parametrize("clamped", [False, True])
@pytest.mark.parametrize("build", CHAINED)
def test_the_kernel_keeps_the_distribution_and_moves_by_the_transition_matrix(build, clamped):
    run, table = runner(build, clamped), Table.of(build())
    if run.clamp is not None:
        table = table.given(*run.clamp)
    p, exact = table.probability(), exact_start(table, 0)
    rows = np.linalg.matrix_power(table.transition(run.kernel.colours), SWEEPS)
    np.testing.assert_allclose(p @ rows, p, atol=1e-12)

    distance, bound = variation(p, table.count(run(exact, seed=1)))
    assert distance <= bound
    distance, bound = variation(p, table.count(run(exact, seed=1, broken=True)))
    assert distance > bound

    first = int(p.argmin())
    fixed = np.tile(table.states[first], (CHAINS, 1))
    distance, bound = variation(rows[first], table.count(run(fixed, seed=2)))
    assert distance <= bound
    for counts in (table.count(run(fixed, seed=2, broken=True)), table.count(fixed)):
        distance, bound = variation(rows[first], counts)
        assert distance > bound


def test_one_sweep_is_told_from_three_by_the_transition_matrix():
    run, table = runner(full, False), Table.of(full())
    once = table.transition(run.kernel.colours)
    first = int(table.probability().argmin())
    counts = table.count(run(np.tile(table.states[first], (CHAINS, 1)), seed=3, sweeps=1))
    distance, bound = variation(once[first], counts)
    assert distance <= bound
    distance, bound = variation(np.linalg.matrix_power(once, SWEEPS)[first], counts)
    assert distance > bound


@pytest.mark.parametrize("build", ALL)
def test_no_two_coupled_units_share_a_colour(build):
    flat = to_numpyro(build())
    kernel = runner(build, False).kernel
    coupling = np.asarray(flat.coupling)
    assert sorted(np.concatenate(kernel.colours).tolist()) == list(range(flat.units))
    assert not any(coupling[np.ix_(colour, colour)].any() for colour in kernel.colours)


@pytest.mark.parametrize("build", CHAINED)
def test_both_engines_keep_the_same_unit_means(build):
    """Each engine's mean of n independent units is within the Hoeffding distance of the enumerated one."""
    dist = build()
    run, table = runner(build, False), Table.of(dist)
    flat, start = run.flat, exact_start(table, 4)
    ours = run(start, seed=5)
    torch.manual_seed(6)
    state, offset = {}, 0
    for name in [dist.visible, *(n for n in dist.machine.graph.layers if n != dist.visible)]:
        size = dist.machine.graph.layers[name].atoms
        state[name] = torch.from_numpy(start[:, offset : offset + size]).float()
        offset += size
    with torch.no_grad():
        for _ in range(SWEEPS):
            state = dist.machine.sweep(state)
    theirs = joined(dist, state)
    width = 1 - np.array(flat.low)
    tolerance = width * math.sqrt(math.log(2 * 2 * flat.units / DELTA) / (2 * CHAINS))
    mean = table.probability() @ table.states
    assert (np.abs(ours.mean(0) - mean) <= tolerance).all()
    assert (np.abs(theirs.mean(0) - mean) <= tolerance).all()
    assert (np.abs(ours.mean(0) - theirs.mean(0)) <= 2 * tolerance).all()
    wrong = run(start, seed=5, broken=True)
    assert (np.abs(wrong.mean(0) - theirs.mean(0)) > 2 * tolerance).any()


@pytest.mark.parametrize("method", ["vectorized", "sequential"])
def test_numpyro_s_own_driver_runs_the_kernel(method):
    from numpyro.infer import MCMC

    from pyro_dgm.compiled import NumPyroGibbs

    flat = to_numpyro(sparse())
    clamp = clamp_of(flat)
    chains = 50 if method == "vectorized" else 2
    mcmc = MCMC(
        NumPyroGibbs(flat, clamp),
        num_warmup=0,
        num_samples=20,
        num_chains=chains,
        chain_method=method,
        progress_bar=False,
    )
    mcmc.run(jax.random.PRNGKey(0))
    samples = {name: np.asarray(x) for name, x in mcmc.get_samples(group_by_chain=True).items()}
    assert {name: x.shape for name, x in samples.items()} == {"visible": (chains, 20, 4), "hidden": (chains, 20, 3)}
    assert len(np.unique(samples["hidden"].reshape(chains, -1), axis=0)) == chains
    mask, value = clamp
    assert (samples["visible"][..., mask] == value[mask]).all()
    assert samples["visible"][..., ~mask].std() > 0


def test_the_driver_s_chains_are_those_of_the_transition_matrix():
    from numpyro.infer import MCMC

    from pyro_dgm.compiled import NumPyroGibbs

    flat, table = to_numpyro(ring()), Table.of(ring())
    kernel = NumPyroGibbs(flat)
    first = int(table.probability().argmin())
    start = kernel.split(np.tile(table.states[first], (CHAINS, 1)))
    mcmc = MCMC(
        kernel,
        num_warmup=0,
        num_samples=SWEEPS,
        num_chains=CHAINS,
        chain_method="vectorized",
        progress_bar=False,
    )
    mcmc.run(jax.random.PRNGKey(7), init_params=start)
    assert set(mcmc.get_samples()) == {"visible"}
    last = np.asarray(mcmc.get_samples(group_by_chain=True)["visible"])[:, -1]
    rows = np.linalg.matrix_power(table.transition(kernel.colours), SWEEPS)
    distance, bound = variation(rows[first], table.count(last))
    assert distance <= bound


def test_new_style_keys_and_a_single_chain():
    from pyro_dgm.compiled import NumPyroGibbs

    kernel = NumPyroGibbs(to_numpyro(sparse()), (True, 1))
    step = jax.jit(lambda key: kernel.sample(kernel.init(key)).x)
    single = [np.asarray(step(key)) for key in (jax.random.key(3), jax.random.PRNGKey(3))]
    assert single[0].shape == (7,)
    assert (single[0][:4] == 1).all()
    np.testing.assert_array_equal(*single)
    assert step(jax.random.split(jax.random.key(3), 5)).shape == (5, 7)


def test_a_fully_clamped_machine_stays():
    from pyro_dgm.compiled import NumPyroGibbs

    kernel = NumPyroGibbs(to_numpyro(ring()), (True, -1))
    assert kernel.colours == ()
    assert (np.asarray(jax.jit(lambda key: kernel.sample(kernel.init(key)).x)(jax.random.PRNGKey(0))) == -1).all()


@pytest.mark.parametrize(
    ("clamp", "match"),
    [
        ((np.ones(4), np.ones(4)), "dtype"),
        ((np.ones(5, bool), np.ones(4)), "broadcast"),
        ((np.ones(4, bool), -np.ones(4)), "support"),
    ],
)
def test_clamps_that_do_not_fit_are_refused(clamp, match):
    from pyro_dgm.compiled import NumPyroGibbs

    with pytest.raises(ValueError, match=match):
        NumPyroGibbs(to_numpyro(sparse()), clamp)


def test_starts_that_do_not_fit_are_refused():
    from pyro_dgm.compiled import NumPyroGibbs

    kernel = NumPyroGibbs(to_numpyro(sparse()))
    with pytest.raises(ValueError, match="init_params"):
        kernel.init(jax.random.PRNGKey(0), 0, {"visible": np.ones((2, 4)), "hidden": np.ones((2, 3))})


def test_machines_too_large_to_list_are_refused_but_still_sampled():
    from pyro_dgm.compiled import NumPyroGibbs

    flat = to_numpyro(dgm.RBM(15, 6)())
    for call in (lambda: flat.log_prob(np.zeros(15)), lambda: flat.sample(jax.random.PRNGKey(0))):
        with pytest.raises(ValueError, match="21 units; at most 20"):
            call()
    assert flat.free_energy(np.zeros((2, 15))).shape == (2,)
    kernel = NumPyroGibbs(flat)
    assert jax.jit(lambda key: kernel.sample(kernel.init(key)).x)(jax.random.PRNGKey(0)).shape == (21,)


def test_other_units_batches_and_self_couplings_are_refused():
    graph = Graph({"visible": Binary(2), "label": Categorical(1, 3)}, [Dense("visible", "label")])
    biases = {"visible": (torch.zeros(2),), "label": (torch.zeros(1, 3),)}
    with pytest.raises(ValueError, match="expected Binary or Spin"):
        to_numpyro(BoltzmannDistribution(graph, biases, [torch.zeros(2, 3)]))
    with pytest.raises(ValueError, match="batch_shape"):
        to_numpyro(dgm.RBM(2, 2)(torch.zeros(3, 2)))
    with pytest.raises(ValueError, match="batch_shape"):
        to_numpyro(dgm.RBM(2, 2)().expand([3]))
    with pytest.raises(ValueError, match="RBM"):
        to_numpyro(dgm.RBM(2, 2))
    lateral = Graph({"visible": Binary(2)}, [Lateral("visible")])
    diagonal = BoltzmannDistribution(lateral, {"visible": (torch.zeros(2),)}, [torch.zeros(2, 2)])
    diagonal.machine.weights = (torch.eye(2),)
    with pytest.raises(ValueError, match="diagonal"):
        to_numpyro(diagonal)


def test_jax_is_imported_at_use_only():
    code = "import sys, pyro_dgm.compiled; sys.exit(bool({'jax', 'numpyro'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_jax_the_extra_is_named(monkeypatch):
    from pyro_dgm import compiled

    monkeypatch.setitem(sys.modules, "numpyro", None)
    with pytest.raises(ImportError, match=r"pip install pyro-dgm\[numpyro\]"):
        to_numpyro(rbm())
    with pytest.raises(ImportError, match=r"pip install pyro-dgm\[numpyro\]"):
        _ = compiled.NumPyroGibbs


def test_nothing_global_is_changed():
    from pyro_dgm import compiled

    before = jax.config.jax_enable_x64
    to_numpyro(ring()).log_prob(np.ones(6))
    assert jax.config.jax_enable_x64 == before
    with pytest.raises(AttributeError, match="to_numpyro"):
        _ = compiled.nothing
