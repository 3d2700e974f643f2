"""``engine="jax"``: the same law, draws, moments and tuning as the torch engine's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from oracles.small_machines import (
    CHAINS,
    Table,
    clamp_of,
    colours,
    joined,
    labels,
    lonely,
    mixed,
    parted,
    small_rbm,
    star,
    variation,
)

import pyro_dgm as dgm
from pyro_dgm.mcmc.engines.jax import JaxEngine
from pyro_dgm.mcmc.engines.names import engine_for
from pyro_dgm.native import vector_instructions

pytest.importorskip("jax")
pytest.importorskip("numpyro")

QUICK = pytest.mark.usefixtures("quick_compilation")
"""For laws and agreement; what is rounded is tested as users compile it."""


def run(dist, *, kernel=dgm.BlockGibbs, start=None, chains=CHAINS, engine="jax", seed=0, clamp=None, **options):
    torch.manual_seed(seed)
    options = {"num_samples": 1, "warmup_steps": 0, "thinning": 2} | options
    made = kernel(dist, clamp=clamp) if clamp is not None else kernel(dist)
    params = None if start is None else {name: torch.from_numpy(x) for name, x in parted(dist, start).items()}
    mcmc = dgm.VectorizedMCMC(
        made, num_chains=chains, initial_params=params, engine=engine, disable_progbar=True, **options
    )
    mcmc.run()
    return mcmc


def last(dist, mcmc):
    samples = mcmc.get_samples(group_by_chain=True)
    return joined(dist, {name: x[:, -1] for name, x in samples.items()})


@QUICK
@pytest.mark.parametrize(
    ("build", "clamped"),
    [(small_rbm, False), (star, False), (mixed, True), (labels, True)],
)
def test_chains_move_by_the_transition_matrix(build, clamped):
    """The machines that are not here are in tests/in_jax/test_kernel.py."""
    dist, table = build(), Table.of(build())
    clamp, known = None, np.zeros(0, int)
    if clamped:
        mask, value = clamp_of(dist)
        clamp = torch.from_numpy(mask), torch.from_numpy(value)
        table, known = table.given(mask.ravel(), value.ravel()), np.flatnonzero(mask)
    free = [colour for colour in (np.setdiff1d(c, known) for c in colours(dist)) if colour.size]
    rows = np.linalg.matrix_power(table.transition(free), 4)
    first = int(table.probability().argmin())
    mcmc = run(dist, start=np.tile(table.states[first], (CHAINS, 1)), clamp=clamp, num_samples=2)
    found = table.count(last(dist, mcmc))
    distance, bound = variation(rows[first], found)
    assert distance <= bound
    broken = table.probability()[::-1]
    distance, bound = variation(broken, found)
    assert distance > bound


@QUICK
@pytest.mark.parametrize("model", [dgm.GaussianRBM, dgm.SpikeSlabRBM])
def test_real_valued_machines_have_the_torch_engine_s_moments(model):
    """Means over chains of x and x² after the same sweeps from the same start, within six of their standard errors."""
    machine, _ = model.example()
    dist = machine()
    found = {}
    for engine in ("torch", "jax"):
        x = run(dist, engine=engine, num_samples=1, thinning=3, seed=5).get_samples()["visible"].double()
        values = torch.cat([x, x.square()], -1)
        found[engine] = values.mean(0), values.std(0) / len(values) ** 0.5
    (ours, a), (theirs, b) = found["jax"], found["torch"]
    z = (ours - theirs) / (a.square() + b.square()).sqrt()
    assert z.abs().max() < 6
    moved = (1.15 * ours - theirs) / (a.square() + b.square()).sqrt()
    assert moved.abs().max() > 6


@pytest.mark.parametrize(
    ("kernel", "keep"), [(dgm.BlockGibbs, "moments"), (lambda d: dgm.ParallelTempering(d, 3), "draws")]
)
def test_machines_in_double_precision_run_in_it(kernel, keep):
    """Nine numbers of ten need more bits than single precision has; JAX is left as it was."""
    import jax

    machine, _ = dgm.GaussianRBM.example()
    mcmc = run(machine.double()(), kernel=kernel, chains=10, num_samples=20, warmup_steps=3, keep=keep)
    found = [mcmc.last_params["visible"]]
    if keep == "moments":
        found += [mcmc.chain_scalars()["free_energy"], mcmc.moments.get()["visible"]["mean"]]
    else:
        found.append(mcmc.get_samples()["visible"])
    for x in found:
        assert x.dtype == torch.float64
        assert ((x != x.float().double()).double().mean() > 0.9).all()
    assert jax.numpy.zeros(()).dtype == jax.numpy.float32


def test_clamps_and_starts_in_double_precision_are_kept_whole():
    dist = dgm.GaussianRBM.example()[0].double()()
    value = torch.full(dist.event_shape, 0.1, dtype=torch.float64)
    mask = torch.arange(value.numel()) % 2 == 0
    x = run(dist, clamp=(mask, value), chains=3).get_samples()["visible"]
    assert (x[:, mask] == 0.1).all()


@QUICK
def test_clamped_slabs_and_spikes_stay():
    machine, rows = dgm.SpikeSlabRBM.example()
    dist = machine()
    known = torch.zeros(dist.event_shape, dtype=torch.bool)
    known[::2] = True
    mcmc = run(dist, clamp=(known, rows[0]), chains=10)
    assert torch.equal(mcmc.get_samples()["visible"][:, known], rows[0][known].expand(10, -1))


def test_moments_are_those_of_the_draws_and_energies_those_of_torch():
    dist = small_rbm()
    options = {"num_samples": 250, "warmup_steps": 7, "chains": 6, "seed": 3}
    kept, moments = run(dist, **options), run(dist, **options, keep="moments")
    draws = kept.get_samples(group_by_chain=True)["visible"]
    assert draws.dtype == kept.last_params["visible"].dtype == torch.float32
    draws, found = draws.double(), moments.moments.get()["visible"]
    assert found["count"] == 250
    torch.testing.assert_close(found["mean"], draws.mean(1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found["variance"], draws.var(1), rtol=1e-4, atol=1e-5)
    for name, energy in kept.chain_scalars().items():
        torch.testing.assert_close(moments.chain_scalars()[name], energy.detach(), rtol=1e-4, atol=1e-4)


def test_free_energies_of_coupled_slabs_are_those_of_torch():
    dist = dgm.CoupledSlabRBM.example()[0]()
    mcmc = run(dist, num_samples=5, chains=20, seed=3, keep="moments")
    theirs = dist.free_energy(mcmc.last_params["visible"]).detach()
    torch.testing.assert_close(mcmc.chain_scalars()["free_energy"][:, -1], theirs, rtol=1e-4, atol=1e-4)


@QUICK
def test_seeds_decide_the_draws_and_arviz_reads_them():
    dist = small_rbm()
    options = {"num_samples": 20, "chains": 4}
    first, again, other = (run(dist, seed=seed, **options) for seed in (1, 1, 2))
    assert torch.equal(first.get_samples()["hidden"], again.get_samples()["hidden"])
    assert not torch.equal(first.get_samples()["hidden"], other.get_samples()["hidden"])
    ours, theirs = (dgm.to_arviz(mcmc) for mcmc in (first, run(dist, engine="torch", **options)))
    assert ours.posterior.sizes == theirs.posterior.sizes
    assert set(ours.posterior) == set(theirs.posterior) != set()


@QUICK
def test_a_run_takes_parameters_and_seed_as_they_are_when_it_begins():
    rbm = dgm.RBM(5, 3)
    mcmc = dgm.VectorizedMCMC(dgm.BlockGibbs(rbm()), 5, 0, num_chains=3, engine="jax", disable_progbar=True)
    found = []
    for _ in range(2):
        torch.manual_seed(4)
        mcmc.run()
        found.append(mcmc.get_samples()["visible"])
    assert torch.equal(*found)
    assert (found[0] == 0).any()
    with torch.no_grad():
        rbm.visible_bias.fill_(200.0)
    mcmc.run()
    assert (mcmc.get_samples()["visible"] == 1).all()


@QUICK
@pytest.mark.parametrize("engine", ["torch", "jax"])
def test_tempering_follows_parameters_between_runs(engine):
    rbm = dgm.RBM(5, 3)
    kernel = dgm.ParallelTempering(rbm(), 3)
    mcmc = dgm.VectorizedMCMC(kernel, 5, 0, num_chains=20, engine=engine, disable_progbar=True)
    mcmc.run()
    assert (mcmc.get_samples()["visible"] == 0).any()
    with torch.no_grad():
        rbm.visible_bias.fill_(200.0)
    mcmc.run()
    assert (mcmc.get_samples()["visible"] == 1).all()


@QUICK
@pytest.mark.parametrize("kernel", [dgm.BlockGibbs, lambda d: dgm.ParallelTempering(d, 3)])
def test_units_without_neighbours_are_drawn_for_every_chain(kernel):
    """Means over 5000 chains of units that nothing couples are those of their biases, to six standard errors."""
    dist = lonely()
    samples = run(dist, kernel=kernel, chains=5000).get_samples()
    for layer, unit in (("visible", 3), ("hidden", 1), ("hidden", 2)):
        p = float(dist.machine.biases[layer][0][unit].sigmoid())
        assert abs(float(samples[layer][:, unit].mean()) - p) < 6 * (p * (1 - p) / 5000) ** 0.5


@QUICK
def test_clamps_of_a_chains_own():
    dist = small_rbm()
    value = torch.randint(0, 2, (40, 4)).float()
    mask = torch.rand(40, 4) < 0.5
    drawn = run(dist, clamp=(mask, value), chains=40).get_samples()["visible"]
    assert torch.equal(drawn[mask], value[mask])
    assert not torch.equal(drawn, value)


def test_compiled_once_for_a_shape():
    from pyro_dgm.in_jax import _runs

    run(dgm.RBM(5, 3)(), chains=3, num_samples=8)
    before = _runs.collect._cache_size()
    run(dgm.RBM(5, 3)(), chains=3, num_samples=7, thinning=9)
    assert _runs.collect._cache_size() == before


def test_memory_follows_what_is_kept():
    """A call keeps no more than ``ROOM`` numbers, and no more than 100 draws."""
    from pyro_dgm.mcmc.engines import jax as compiled_engine

    kernel = dgm.BlockGibbs(dgm.RBM(300, 100)())
    mcmc = dgm.VectorizedMCMC(kernel, 1000, 0, num_chains=1000, engine="jax", disable_progbar=True)
    assert mcmc._engine.block * 1000 * 400 <= compiled_engine.ROOM
    few = dgm.VectorizedMCMC(dgm.BlockGibbs(dgm.RBM(3, 2)()), 1000, num_chains=2, engine="jax", disable_progbar=True)
    assert few._engine.block == 100


def trapped():
    """Two wells that a Gibbs chain does not leave: four bits that agree with one hidden unit."""
    rbm = dgm.RBM(4, 1)
    with torch.no_grad():
        rbm.weight.fill_(12.0)
        rbm.visible_bias.fill_(-6.0)
        rbm.hidden_bias.fill_(-24.0)
    return rbm()


@QUICK
@pytest.mark.parametrize("build", [small_rbm, mixed, labels])
def test_tempering_keeps_the_distribution(build):
    dist, table = build(), Table.of(build())
    p = table.probability()
    steps = (
        {"warmup_steps": 40, "thinning": 10} if build is small_rbm else {"thinning": 50}
    )  # temperatures adapt in warm-up
    mcmc = run(dist, kernel=lambda d: dgm.ParallelTempering(d, 4), chains=5000, num_samples=1, **steps)
    distance, bound = variation(p, table.count(last(dist, mcmc)))
    assert distance <= bound


@QUICK
def test_tempering_leaves_a_well_and_tells_its_rates_like_torch():
    dist, told = trapped(), {}
    for engine in ("torch", "jax"):
        kernel = dgm.ParallelTempering(dist, 6)
        torch.manual_seed(0)
        start = {"visible": torch.ones(200, 6, 4), "hidden": torch.ones(200, 6, 1)}
        mcmc = dgm.VectorizedMCMC(
            kernel, 200, 100, num_chains=200, initial_params=start, engine=engine, disable_progbar=True
        )
        mcmc.run()
        mean = float(mcmc.get_samples()["hidden"].mean())
        assert 0.4 < mean < 0.6, "both wells weigh the same"
        told[engine] = kernel.diagnostics()
    ours, theirs = told["jax"], told["torch"]
    np.testing.assert_allclose(ours["betas"], theirs["betas"], atol=0.05)
    np.testing.assert_allclose(ours["swap rate"], theirs["swap rate"], atol=0.03)
    assert ours["restarts"] == pytest.approx(theirs["restarts"], rel=0.15)
    plain = run(dist, start=np.ones((200, 5)), chains=200, num_samples=200, warmup_steps=100)
    assert plain.get_samples()["hidden"].mean() > 0.95


def test_what_the_engine_lacks_is_named():
    machine, _ = dgm.MeanCovarianceRBM.example()
    with pytest.raises(ValueError, match="expected BlockGibbs or ParallelTempering"):
        dgm.VectorizedMCMC(dgm.HMC(machine()), 5, engine="jax")
    with pytest.raises(ValueError, match="Convolution"):
        dgm.VectorizedMCMC(dgm.BlockGibbs(dgm.ConvolutionalSpikeSlabRBM.example()[0]()), 5, engine="jax")
    with pytest.raises(ValueError, match="engine got 'tensorflow'"):
        dgm.VectorizedMCMC(dgm.BlockGibbs(dgm.RBM(3, 2)()), 5, engine="tensorflow")


def test_names_of_engines():
    """ "jax" is JAX, however large the machine; "numpyro" is another name of it, with a warning; "compiled" is the fastest."""
    large, small = dgm.RBM(784, 500), dgm.RBM(3, 2)
    with pytest.warns(FutureWarning, match="engine='numpyro' is deprecated since 0.1.0, .* use engine='jax'") as told:
        assert isinstance(
            dgm.VectorizedMCMC(dgm.BlockGibbs(large()), 5, num_chains=100, engine="numpyro")._engine, JaxEngine
        )
    assert told[0].filename == __file__
    assert isinstance(dgm.VectorizedMCMC(dgm.BlockGibbs(large()), 5, num_chains=100, engine="jax")._engine, JaxEngine)
    clamped = dgm.BlockGibbs(small(), clamp=(torch.ones(3, dtype=torch.bool), torch.ones(3)))
    assert isinstance(dgm.VectorizedMCMC(clamped, 5, engine="compiled")._engine, JaxEngine)
    assert engine_for(small(), "compiled", 100) == engine_for(large(), "jax", 100) == "jax"
    assert engine_for(large(), "torch", 100) == "torch"
    wide = vector_instructions() in ("AVX2", "AVX512")
    assert engine_for(large(), "compiled", 100) == ("torch" if wide else "jax")
