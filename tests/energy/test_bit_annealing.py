"""Annealing by the compiled loop over words of bits: unbiased weights, and torch's where nothing is random."""

import math
import sys

import pytest
import torch
from oracles.small_machines import normal, small_rbm

import pyro_dgm as dgm
from pyro_dgm.annealing import AnnealingPath, bits, forward_ais, partition
from pyro_dgm.annealing.bits import AnnealedBits
from pyro_dgm.energy import Binary, BoltzmannDistribution, Dense, Graph, exact_sample, log_sum

pytestmark = pytest.mark.usefixtures("way_of_bits")

CHAINS = 200_000


def deep():
    """Three layers in a row, the outer ones of one colour, one of them over two dimensions."""
    layers = {"top": Binary(2), "visible": Binary(2, 2), "middle": Binary(3)}
    couplings = [Dense("visible", "middle"), Dense("middle", "top")]
    biases = {name: (normal(*unit.shape, seed=unit.shape.numel()),) for name, unit in layers.items()}
    return BoltzmannDistribution(Graph(layers, couplings), biases, [normal(4, 3, seed=5), normal(3, 2, seed=6)])


def sized(visible, hidden, scale, seed=3):
    graph = Graph({"visible": Binary(visible), "hidden": Binary(hidden)}, [Dense("visible", "hidden")])
    biases = {"visible": (scale * normal(visible, seed=seed),), "hidden": (scale * normal(hidden, seed=seed + 1),)}
    return BoltzmannDistribution(graph, biases, [scale * normal(visible, hidden, seed=seed + 2)])


def path_of(dist, scale=0.5):
    base = {name: (scale * normal(*unit.shape, seed=9),) for name, unit in dist.machine.graph.layers.items()}
    return AnnealingPath(dist.machine, base)


def apart(weights, expected):
    """How many standard errors the mean weight is from what it should be."""
    ratio = (weights.double() - expected).exp()
    return abs(float(ratio.mean()) - 1) * math.sqrt(len(ratio)) / float(ratio.std())


@pytest.mark.parametrize("build", [small_rbm, deep])
@pytest.mark.parametrize("levels", [2, 5])
def test_weights_average_to_the_ratio_of_the_normalisers(build, levels):
    """Both ways, within five standard errors of 200,000 weights; with a wrong coupling they are further off."""
    dist = build()
    path, betas = path_of(dist), torch.linspace(0, 1, levels)
    loop, exact = AnnealedBits(dist, path), float(log_sum(dist.machine, {}) - path.log_base())
    assert apart(loop.forward(betas, CHAINS), exact) < 5
    assert apart(loop.reverse(betas, exact_sample(dist.machine, CHAINS)), -exact) < 5
    loop.bits.weights[0] = loop.bits.weights[0] * 0.5
    assert apart(loop.forward(betas, CHAINS), exact) > 10


@pytest.mark.parametrize("sizes", [(33, 70), (70, 33), (64, 32)])
@pytest.mark.parametrize("rows", [1, 40, 600])
def test_weights_are_torch_s_where_nothing_is_random(sizes, rows):
    """The base and every later machine fix all bits but for one in e^30, so that both compute one path's weight."""
    dist = sized(*sizes, scale=0.01)
    path = AnnealingPath(
        dist.machine, {name: (torch.full_like(b, 60.0),) for name, (b,) in dist.machine.biases.items()}
    )
    betas = torch.tensor([0.0, 0.002, 0.1, 0.4])
    torch.testing.assert_close(
        AnnealedBits(dist, path).forward(betas, rows),
        forward_ais(path, betas, rows, torch.Size())[0],
        rtol=1e-5,
        atol=1e-3,
    )


@pytest.mark.parametrize("step", [0.01, 0.2, 1.0])
def test_the_rise_is_that_of_softplus(step):
    """A machine whose one visible bit is on: sizes of steps on both sides of the series' limit, against double precision."""
    dist = sized(1, 75, scale=1.0)
    hidden = dist.machine.biases["hidden"][0]
    base = {"visible": (torch.full((1,), 200.0),), "hidden": (torch.zeros(75),)}
    dist = BoltzmannDistribution(
        dist.machine.graph, {"visible": (torch.full((1,), 200.0),), "hidden": (hidden,)}, dist.machine.weights
    )
    fields = (hidden + dist.machine.weights[0][0]).double()
    exact = (torch.nn.functional.softplus(step * fields) - math.log(2)).sum()
    found = AnnealedBits(dist, AnnealingPath(dist.machine, base)).forward(torch.tensor([0.0, step]), 3)
    torch.testing.assert_close(found.double(), exact.expand(3), rtol=1e-6, atol=1e-5)


def test_weights_do_not_depend_on_the_threads():
    dist, before, found = sized(100, 70, scale=0.3), torch.get_num_threads(), []
    try:
        for number in (1, 2, 5):
            torch.set_num_threads(number)
            torch.manual_seed(3)
            found.append(AnnealedBits(dist, path_of(dist)).forward(torch.linspace(0, 1, 4), 700))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize("engine", ["auto", "compiled"])
def test_large_machines_agree_with_torch(engine, monkeypatch):
    """Both ends of the bracket, within five standard errors; the default takes the loop, which torch does not."""
    dist, calls = sized(100, 80, scale=0.15), []
    real = bits.AnnealedBits.log_weights
    monkeypatch.setattr(bits.AnnealedBits, "log_weights", lambda *a: calls.append(1) or real(*a))
    loop, torch_s = (
        dgm.log_partition(dist, "ais", chains=200, temperatures=400, warmup=100, engine=name)
        for name in (engine, "torch")
    )
    assert len(calls) == 2
    for name in ("value", "lower", "upper"):
        error = "stderr" if name == "value" else f"stderr_{name}"
        bound = 5 * float(getattr(loop, error).hypot(getattr(torch_s, error)))
        assert abs(float(getattr(loop, name) - getattr(torch_s, name))) < bound < 2


def test_where_the_loop_pays(monkeypatch):
    assert bits.loop_pays(sized(100, 80, 0.1), 100, 10)
    assert not bits.loop_pays(small_rbm(), 100, 10)
    assert not bits.loop_pays(small_rbm(), 100, 1000)
    assert bits.loop_pays(small_rbm(), 100, 5000)
    assert not bits.loop_pays(dgm.BoltzmannMachine.example()[0](), 100, 5000)
    assert not bits.loop_pays(dgm.GaussianRBM.example()[0](), 10_000, 5000)
    monkeypatch.setattr(partition.bits, "log_weights", None)
    dgm.log_partition(small_rbm(), "ais", chains=100, temperatures=10)
    dgm.log_partition(sized(100, 80, 0.1), "ais", chains=100, temperatures=3, warmup=0, engine="torch")


def test_raise_is_the_same_by_the_loop(monkeypatch):
    """The bound of every row, within five standard errors."""
    dist, x = sized(100, 80, scale=0.15), (torch.rand(5, 100) < 0.5).float()
    loop = dgm.raise_bound(dist, x, chains=300, temperatures=60)
    monkeypatch.setattr(sys.modules["pyro_dgm.annealing.raise_bound"], "loop_pays", lambda *_: False)
    torch_s = dgm.raise_bound(dist, x, chains=300, temperatures=60)
    assert ((loop.values - torch_s.values).abs() < 5 * loop.stderr.hypot(torch_s.stderr)).all()
    assert not torch.equal(loop.values, torch_s.values)


def test_sweeps_from_rows_that_are_no_bits():
    dist = sized(100, 80, scale=0.15)
    state = {"visible": torch.full((40, 100), 0.5), "hidden": torch.zeros(40, 80)}
    moved = bits.sweeper(dist)(state, 3)
    assert moved["visible"].shape == (40, 100)
    assert set(moved["visible"].unique().tolist()) == {0.0, 1.0}


def test_reverse_runs_may_start_at_grey_levels():
    """As torch's do: without a warm-up, rows of the base are where half of the chains start."""
    dist, grey = sized(100, 80, scale=0.15), torch.rand(40, 100)
    loop, torch_s = (
        dgm.log_partition(dist, "ais", chains=200, temperatures=200, base=grey, warmup=0, engine=name)
        for name in ("auto", "torch")
    )
    assert abs(float(loop.upper - torch_s.upper)) < 5 * float(loop.stderr_upper.hypot(torch_s.stderr_upper))
