"""Speed of the compiled engine, of bfloat16 products and of sparse lattices, against what they replace or compete with."""

import pytest
import torch

import pyro_dgm as dgm
from pyro_dgm.native import precision

from .speed import chain, ratios

pytestmark = pytest.mark.benchmark(group="ratio")


def large_rbm(visible=784, hidden=500):
    rbm = dgm.RBM(visible, hidden)
    with torch.no_grad():
        rbm.weight.normal_(0, 0.05)
    return rbm


@pytest.mark.parametrize(("visible", "hidden", "chains"), [(784, 500, 100), (784, 500, 1000), (64, 32, 10)])
def test_engines(benchmark, visible, hidden, chains):
    """1000 sweeps, 100 draws kept, by either engine; a run compiles before it is timed."""
    pytest.importorskip("numpyro")
    dist = large_rbm(visible, hidden)()

    def run(engine):
        dgm.VectorizedMCMC(
            dgm.BlockGibbs(dist), 100, 0, num_chains=chains, thinning=10, engine=engine, disable_progbar=True
        ).run()

    ratios(
        benchmark,
        f'`VectorizedMCMC`, 1000 sweeps of {chains} chains {visible}×{hidden}, 100 draws kept: `engine="compiled"` against torch',
        "≤ 0.67",
        rounds=5 if chains < 1000 else 3,
        compiled=lambda: run("compiled"),
        torch=lambda: run("torch"),
    )


@pytest.mark.parametrize(("chains", "sweeps", "aim"), [(100, 500, 0.45), (500, 100, 0.35), (2000, 50, 0.35)])
def test_default_engine(benchmark, chains, sweeps, aim):
    """Sweeps by the engine that is taken unasked, the last draw kept, against as many pairs of products."""
    rbm = large_rbm()
    v, h = torch.randint(0, 2, (chains, 784)).float(), torch.randint(0, 2, (chains, 500)).float()
    mcmc = dgm.VectorizedMCMC(dgm.BlockGibbs(rbm()), 1, 0, num_chains=chains, thinning=sweeps, disable_progbar=True)

    def products():
        with torch.no_grad():
            for _ in range(sweeps):
                torch.addmm(rbm.hidden_bias, v, rbm.weight)
                torch.addmm(rbm.visible_bias, h, rbm.weight.t())

    ratios(
        benchmark,
        f"`VectorizedMCMC` as it is, {sweeps} sweeps of {chains} chains 784×500, against their products by `addmm`",
        f"≤ {aim}",
        rounds=9,
        default=mcmc.run,
        addmm=products,
    )


def test_annealing_engines(benchmark):
    """AIS of 500 chains, 101 of 5000 temperatures, 784×500, against its products."""
    pytest.importorskip("numpyro")
    rbm, rows = large_rbm(), torch.randint(0, 2, (1000, 784)).float()
    v, h = torch.randint(0, 2, (500, 784)).float(), torch.randint(0, 2, (500, 500)).float()
    betas = torch.linspace(0, 1, 101)

    def run(engine):
        dgm.log_partition(rbm(), "ais", chains=500, temperatures=betas, base=rows, reverse=False, engine=engine)

    def products():
        with torch.no_grad():
            for _ in range(100):
                torch.addmm(rbm.hidden_bias, v, rbm.weight)
                torch.addmm(rbm.visible_bias, h, rbm.weight.t())

    ratios(
        benchmark,
        "`log_partition` by AIS 784×500, 500 chains, 100 temperatures, against their products by `addmm`",
        "≤ 0.5",
        rounds=7,
        auto=lambda: run("auto"),
        jax=lambda: run("jax"),
        torch=lambda: run("torch"),
        addmm=products,
    )


def test_tempering_engine(benchmark):
    """100 steps of 20 chains at 10 temperatures against 100 sweeps of 200 chains, 784×500, both compiled."""
    pytest.importorskip("numpyro")
    dist = large_rbm()()

    def run(kernel, chains):
        return dgm.VectorizedMCMC(
            kernel, 1, 0, num_chains=chains, thinning=100, engine="compiled", disable_progbar=True
        ).run

    ratios(
        benchmark,
        '100 steps of parallel tempering 784×500, 20 chains at 10 temperatures, against 200 chains, `engine="compiled"`',
        "≤ 1.15",
        rounds=7,
        tempering=run(dgm.ParallelTempering(dist, 10), 20),
        ten_chains=run(dgm.BlockGibbs(dist), 200),
    )


@pytest.mark.parametrize("chains", [100, 500, 2000])
def test_bfloat16(benchmark, chains):
    """A Gibbs sweep with bfloat16 products against one in single precision, 784×500."""
    if not precision.has_bfloat16_products():
        pytest.skip("no units for products of bfloat16 matrices")
    dist = large_rbm()()
    ratios(
        benchmark,
        f'Gibbs sweep 784×500, {chains} chains, `precision="bfloat16"` against float32',
        "≤ 0.67",
        bfloat16=chain(dgm.BlockGibbs(dist, precision="bfloat16"), chains),
        float32=chain(dgm.BlockGibbs(dist), chains),
    )


@pytest.mark.parametrize(("side", "chains", "sweeps"), [(256, 1, 100), (256, 16, 20), (64, 100, 20)])
def test_lattice_against_thrml(benchmark, side, chains, sweeps):
    """Sweeps of an Ising torus by coloured blocks, by either engine and by thrml, all from a state to a state."""
    pytest.importorskip("numpyro")
    theirs = _thrml(side, chains, sweeps)
    units = torch.arange(side * side).view(side, side)
    edges = torch.cat([torch.stack([units, units.roll(-1, d)], -1).view(-1, 2) for d in (0, 1)])
    graph = dgm.Graph({"visible": dgm.Spin(side * side)}, [dgm.Sparse("visible", "visible", edges)])
    biases = {"visible": (torch.zeros(side * side),)}
    dist = dgm.BoltzmannDistribution(graph, biases, (torch.full((len(edges),), 0.3),))

    def run(engine):
        mcmc = dgm.VectorizedMCMC(
            dgm.BlockGibbs(dist), 1, 0, num_chains=chains, thinning=sweeps, engine=engine, disable_progbar=True
        )
        return mcmc.run

    ratios(
        benchmark,
        f"{sweeps} sweeps of a {side}×{side} Ising torus, {chains} chains, against `thrml`",
        "< 1",
        rounds=7,
        torch=run("torch"),
        compiled=run("compiled"),
        thrml=theirs,
    )


def _thrml(side, chains, sweeps):
    """The same number of sweeps by thrml, keeping the last state."""
    pytest.importorskip("thrml")
    import equinox
    import jax
    import jax.numpy as jnp
    from thrml import Block, SamplingSchedule, SpinNode, sample_states
    from thrml.models import IsingEBM, IsingSamplingProgram, hinton_init

    nodes = [SpinNode() for _ in range(side * side)]
    places = [(row, column) for row in range(side) for column in range(side)]
    at = dict(zip(places, nodes, strict=True))
    edges = [(at[r, c], at[(r + 1) % side, c]) for r, c in places] + [
        (at[r, c], at[r, (c + 1) % side]) for r, c in places
    ]
    model = IsingEBM(nodes, edges, jnp.zeros(len(nodes)), jnp.full(len(edges), 0.3), jnp.array(1.0))
    blocks = [Block([at[r, c] for r, c in places if (r + c) % 2 == parity]) for parity in (0, 1)]
    program = IsingSamplingProgram(model, blocks, [])
    schedule = SamplingSchedule(n_warmup=sweeps, n_samples=1, steps_per_sample=1)

    @equinox.filter_jit
    def run(keys, start):
        one = lambda key, state: sample_states(key, program, schedule, state, [], [Block(nodes)])  # noqa: E731
        return jax.vmap(one)(keys, start)

    keys = jax.random.split(jax.random.key(1), chains)
    start = hinton_init(jax.random.key(0), model, blocks, (chains,))
    return lambda: jax.block_until_ready(run(keys, start))
