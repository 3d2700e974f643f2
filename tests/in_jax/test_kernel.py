"""The NumPyro kernel keeps the distribution where it is, and moves as the transition matrix says."""

from __future__ import annotations

import copy
import functools
import math

import numpy as np
import pytest
import torch
from oracles.small_machines import (
    CHAINS,
    DELTA,
    SWEEPS,
    Table,
    clamp_of,
    colours,
    full,
    joined,
    labels,
    lonely,
    mixed,
    parted,
    ring,
    small_rbm,
    sparse,
    star,
    variation,
)  # fmt: skip

import pyro_dgm as dgm
from pyro_dgm.in_jax import to_numpyro

jax = pytest.importorskip("jax")
pytest.importorskip("numpyro")

QUICK = pytest.mark.usefixtures("quick_compilation")
"""For laws and agreement; what is rounded is tested as users compile it."""


def kernel_of(*arguments):
    from pyro_dgm.in_jax import NumPyroGibbs

    return NumPyroGibbs(*arguments)


class Runner:
    """Runs a kernel from given states; compiled once for every bias, seed and number of sweeps."""

    def __init__(self, build, clamped: bool = False) -> None:
        self.torch = build()
        self.dist = to_numpyro(self.torch)
        self.clamp = clamp_of(self.torch) if clamped else None
        self.kernel = kernel_of(self.dist, self.clamp)
        self._run = jax.jit(self._sweeps)

    def _sweeps(self, dist, keys, start, sweeps):
        from pyro_dgm.in_jax._machine import Machine

        kernel = copy.copy(self.kernel)
        kernel.dist, kernel._machine = dist, Machine(dist.structure, dist.arrays, terms=2)
        state = kernel.init(keys, 0, start)
        return jax.lax.fori_loop(0, sweeps, lambda _, s: kernel.sample(s), state).x

    def __call__(self, start: np.ndarray, seed: int, sweeps: int = SWEEPS, broken: bool = False) -> np.ndarray:
        """The joint states after some sweeps; broken, with the biases in the wrong places."""
        dist = copy.copy(self.dist)
        if broken:
            biases = {name: tuple(b[::-1] for b in entry) for name, entry in dist.arrays.biases.items()}
            dist.arrays = dist.arrays._replace(biases=biases)
        keys = jax.random.split(jax.random.PRNGKey(seed), len(start))
        return joined(self.torch, self._run(dist, keys, parted(self.torch, start), sweeps))

    def colours(self) -> list[np.ndarray]:
        """The columns drawn by every colour, without the clamped ones."""
        known = np.zeros(0, int) if self.clamp is None else np.flatnonzero(self.clamp[0])
        restricted = (np.setdiff1d(colour, known) for colour in colours(self.torch))
        return [colour for colour in restricted if colour.size]


runner = functools.cache(Runner)


@QUICK
@pytest.mark.parametrize(
    ("build", "clamped"),
    [
        *((build, False) for build in (full, sparse, ring, mixed, labels, lonely)),
        *((build, True) for build in (full, star, lonely)),
    ],
)
def test_the_kernel_keeps_the_distribution_and_moves_by_the_transition_matrix(build, clamped):
    """The machines that are not here are in tests/mcmc/test_jax_engine.py."""
    run, table = runner(build, clamped), Table.of(build())
    if run.clamp is not None:
        table = table.given(*(part.ravel() for part in run.clamp))
    p, exact = table.probability(), table.draw(0)
    rows = np.linalg.matrix_power(table.transition(run.colours()), SWEEPS)
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


@QUICK
def test_one_sweep_is_told_from_three_by_the_transition_matrix():
    run, table = runner(full, False), Table.of(full())
    once = table.transition(run.colours())
    first = int(table.probability().argmin())
    counts = table.count(run(np.tile(table.states[first], (CHAINS, 1)), seed=3, sweeps=1))
    distance, bound = variation(once[first], counts)
    assert distance <= bound
    distance, bound = variation(np.linalg.matrix_power(once, SWEEPS)[first], counts)
    assert distance > bound


@QUICK
@pytest.mark.parametrize("build", [mixed, labels])
def test_both_engines_keep_the_same_means(build):
    """Each engine's mean of n independent numbers is within the Hoeffding distance of the enumerated one."""
    run, table = runner(build, False), Table.of(build())
    start = table.draw(4)
    ours = run(start, seed=5)
    torch.manual_seed(6)
    state = {name: torch.from_numpy(x) for name, x in parted(run.torch, start).items()}
    with torch.no_grad():
        for _ in range(SWEEPS):
            state = run.torch.machine.sweep(state)
    theirs = joined(run.torch, state)
    width = table.states.max(0) - table.states.min(0)
    tolerance = width * math.sqrt(math.log(2 * 2 * len(width) / DELTA) / (2 * CHAINS))
    mean = table.probability() @ table.states
    assert (np.abs(ours.mean(0) - mean) <= tolerance).all()
    assert (np.abs(theirs.mean(0) - mean) <= tolerance).all()
    wrong = run(start, seed=5, broken=True)
    assert (np.abs(wrong.mean(0) - mean) > tolerance).any()


@QUICK
@pytest.mark.parametrize("method", ["vectorized", "sequential"])
def test_numpyro_s_own_driver_runs_the_kernel(method):
    from numpyro.infer import MCMC

    mask, value = clamp_of(small_rbm())
    chains = 50 if method == "vectorized" else 2
    mcmc = MCMC(
        kernel_of(to_numpyro(small_rbm()), (mask, value)),
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
    assert (samples["visible"][..., mask] == value[mask]).all()
    assert samples["visible"][..., ~mask].std() > 0


@QUICK
def test_the_driver_s_chains_are_those_of_the_transition_matrix():
    from numpyro.infer import MCMC

    dist, table = ring(), Table.of(ring())
    first = int(table.probability().argmin())
    start = parted(dist, np.tile(table.states[first], (CHAINS, 1)))
    mcmc = MCMC(
        kernel_of(to_numpyro(dist)),
        num_warmup=0,
        num_samples=SWEEPS,
        num_chains=CHAINS,
        chain_method="vectorized",
        progress_bar=False,
    )
    mcmc.run(jax.random.PRNGKey(7), init_params=start)
    assert set(mcmc.get_samples()) == {"visible"}
    last = np.asarray(mcmc.get_samples(group_by_chain=True)["visible"])[:, -1]
    rows = np.linalg.matrix_power(table.transition(colours(dist)), SWEEPS)
    distance, bound = variation(rows[first], table.count(last))
    assert distance <= bound


@QUICK
def test_new_style_keys_and_a_single_chain():
    kernel = kernel_of(to_numpyro(small_rbm()), (True, 1))
    step = jax.jit(lambda key: kernel.sample(kernel.init(key)).x)
    single = [step(key) for key in (jax.random.key(3), jax.random.PRNGKey(3))]
    assert single[0]["visible"].shape == (4,)
    assert (single[0]["visible"] == 1).all()
    np.testing.assert_array_equal(single[0]["hidden"], single[1]["hidden"])
    assert step(jax.random.split(jax.random.key(3), 5))["hidden"].shape == (5, 3)


@QUICK
def test_a_hidden_layer_can_be_clamped_and_a_clamped_machine_stays():
    kernel = kernel_of(to_numpyro(sparse()), {"visible": (True, 1), "hidden": (True, 0)})
    state = jax.jit(lambda key: kernel.sample(kernel.init(key)).x)(jax.random.PRNGKey(0))
    assert (state["visible"] == 1).all()
    assert (state["hidden"] == 0).all()


@pytest.mark.parametrize(
    ("clamp", "match"),
    [
        ((np.ones(4), np.ones(4)), "dtype"),
        ((np.ones(5, bool), np.ones(4)), "broadcast"),
        ((np.ones(4, bool), -np.ones(4)), "support"),
        ({"hiden": (True, 1)}, "there are"),
    ],
)
def test_clamps_that_do_not_fit_are_refused(clamp, match):
    with pytest.raises(ValueError, match=match):
        kernel_of(to_numpyro(sparse()), clamp)


@pytest.mark.parametrize(
    ("make", "layer", "known", "value"),
    [
        (dgm.SpikeSlabRBM, "hidden", [True, False], [0.5, 0.0]),
        (dgm.SpikeSlabRBM, "hidden", [True, True], [1.0, math.inf]),
        (labels, "visible", [True, True, False], [1.0, 1.0, 0.0]),
        (labels, "visible", True, [0.0, 0.0, 0.0]),
    ],
)
def test_entries_of_an_atom_that_do_not_fit_together_are_refused(make, layer, known, value):
    dist = to_numpyro(make.example()[0]() if isinstance(make, type) else make())
    with pytest.raises(ValueError, match="support"):
        kernel_of(dist, {layer: (known, value)})


def test_starts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="init_params"):
        kernel_of(to_numpyro(sparse())).init(
            jax.random.PRNGKey(0), 0, {"visible": np.ones((2, 4)), "hidden": np.ones((2, 3))}
        )


@QUICK
def test_machines_too_large_to_sum_are_sampled():
    kernel = kernel_of(to_numpyro(dgm.RBM(25, 23)()))
    state = jax.jit(lambda key: kernel.sample(kernel.init(key)).x)(jax.random.PRNGKey(0))
    assert state["visible"].shape == (25,)


@pytest.mark.parametrize(("p", "seed"), [(0.3, 0), (1e-3, 1), (1 - 2.0**-12, 2)])
def test_bits_have_their_probability(p, seed):
    """The share of n independent bits is within six standard errors of p."""
    from pyro_dgm.in_jax._random import bits

    n = 1 << 22
    share = float(bits(jax.random.PRNGKey(seed), jax.numpy.full((2048, n // 2048), p)).mean())
    assert abs(share - p) < 6 * math.sqrt(p * (1 - p) / n)


def test_bits_below_the_words_resolution_come_by_the_shared_number():
    """P = 2^-18 is a quarter of a sixteen-bit step: of 2^24 bits 64 are expected, Poisson to 1e-6 within 30 and 110."""
    from pyro_dgm.in_jax._random import bits

    total = int(bits(jax.random.PRNGKey(4), jax.numpy.full((1 << 14, 1 << 10), 2.0**-18)).sum())
    assert 30 <= total <= 110


def test_certain_bits_are_certain():
    """Were u + r rounded up, one of 2^25 bits of p = 1 would be a zero: of 2^28 some eight."""
    from pyro_dgm.in_jax._random import bits

    draw = jax.jit(lambda key: bits(key, jax.numpy.ones((1 << 12, 1 << 10))).all())
    assert all(bool(draw(key)) for key in jax.random.split(jax.random.PRNGKey(5), 64))


@pytest.mark.parametrize(("word", "expected"), [(0, (0x6B200159, 0x99BA4EFE)), (0xFFFFFFFF, (0x1CB996FC, 0xBB002BE7))])
def test_the_generator_is_threefry(word, expected):
    """The known answers that the authors of Threefry publish with it."""
    from pyro_dgm.in_jax._random import threefry

    word = jax.numpy.uint32(word)
    assert tuple(int(x) for x in threefry((word, word), (word, word))) == expected
