"""Small machines for the compiled engine, and their tables of states by the torch energies in double precision."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch

import pyro_dgm as dgm
from pyro_dgm.energy import Binary, BoltzmannDistribution, Categorical, Dense, Graph, Lateral, Sparse, Spin, all_states

CHAINS, SWEEPS, DELTA = 20_000, 3, 1e-6


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _machine(machine: dgm.BoltzmannMachine, seed: int, scale: float = 1.0) -> BoltzmannDistribution:
    with torch.no_grad():
        for number, parameter in enumerate(machine.parameters()):
            parameter.copy_(scale * normal(*parameter.shape, seed=seed + number))
    return machine()


def rbm() -> BoltzmannDistribution:
    return dgm.RBM.example()[0]()


def full() -> BoltzmannDistribution:
    return dgm.BoltzmannMachine.example()[0]()


def sparse() -> BoltzmannDistribution:
    edges = [(0, 1), (1, 2), (0, 4), (2, 5), (3, 4), (3, 6), (4, 5), (5, 6), (1, 6)]
    return _machine(dgm.BoltzmannMachine(4, 3, edges=edges), seed=1)


def star() -> BoltzmannDistribution:
    """One unit with many neighbours, whose sums go edge by edge."""
    return _machine(dgm.BoltzmannMachine(8, edges=[(0, i) for i in range(1, 8)]), seed=13)


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
    within = normal(3, 3, seed=3).triu(1)
    weights = [normal(3, 2, seed=4), normal(2, seed=5), (within + within.mT) / 2]
    biases = {name: (0.8 * normal(*unit.shape, seed=6 + unit.atoms),) for name, unit in layers.items()}
    return BoltzmannDistribution(Graph(layers, couplings), biases, weights)


def labels() -> BoltzmannDistribution:
    """One-hot rows over two dimensions, coupled to bits."""
    graph = Graph({"visible": Categorical(2, 3), "hidden": Binary(3)}, [Dense("visible", "hidden")])
    biases = {"visible": (normal(2, 3, seed=20),), "hidden": (normal(3, seed=21),)}
    return BoltzmannDistribution(graph, biases, [normal(6, 3, seed=22)])


def lonely() -> BoltzmannDistribution:
    """Units without any neighbour in layers whose couplings go edge by edge, and a triangle of three colours."""
    graph = Graph(
        {"visible": Binary(4), "hidden": Binary(3)},
        [
            Sparse("visible", "visible", torch.tensor([[0, 1], [1, 2], [0, 2]])),
            Sparse("hidden", "visible", torch.tensor([[0, 0], [0, 1]])),
        ],
    )
    biases = {"visible": (normal(4, seed=30),), "hidden": (normal(3, seed=31),)}
    return BoltzmannDistribution(graph, biases, [normal(3, seed=32), normal(2, seed=33)])


def edgeless() -> BoltzmannDistribution:
    """A sparse coupling without edges."""
    graph = Graph({"visible": Spin(3)}, [Sparse("visible", "visible", torch.zeros(0, 2, dtype=torch.long))])
    return BoltzmannDistribution(graph, {"visible": (normal(3, seed=34),)}, [torch.zeros(0)])


def small_rbm() -> BoltzmannDistribution:
    graph = Graph({"visible": Binary(4), "hidden": Binary(3)}, [Dense("visible", "hidden")])
    biases = {"visible": (1.5 * normal(4, seed=10),), "hidden": (1.5 * normal(3, seed=11),)}
    return BoltzmannDistribution(graph, biases, [normal(4, 3, seed=12)])


ALL = [rbm, full, sparse, star, ring, mixed, labels, lonely, edgeless]
CHAINED = [small_rbm, full, sparse, star, ring, mixed, labels, lonely]


def double(dist: BoltzmannDistribution) -> BoltzmannDistribution:
    """The same float32 numbers in double precision, so that only JAX rounds."""
    machine, layers = dist.machine, dist.machine.graph.layers
    biases = {
        name: tuple(b.detach().double().view(layers[name].shape) for b in entry)
        for name, entry in machine.biases.items()
    }
    return BoltzmannDistribution(machine.graph, biases, [w.detach().double() for w in machine.weights], dist.visible)


def names(dist: BoltzmannDistribution) -> list[str]:
    """The layers, the visible one first."""
    return [dist.visible, *(name for name in dist.machine.graph.layers if name != dist.visible)]


def joined(dist: BoltzmannDistribution, state) -> np.ndarray:
    """All layers side by side, the visible one first."""
    layers = dist.machine.graph.layers
    parts = []
    for name in names(dist):
        x = np.asarray(state[name], np.float64)
        parts.append(x.reshape(*x.shape[: x.ndim - layers[name].event_dim], -1))
    return np.concatenate(parts, -1)


def parted(dist: BoltzmannDistribution, x: np.ndarray) -> dict[str, np.ndarray]:
    """The inverse of ``joined``."""
    layers, found, start = dist.machine.graph.layers, {}, 0
    for name in names(dist):
        size = layers[name].shape.numel()
        found[name] = x[..., start : start + size].reshape(*x.shape[:-1], *layers[name].shape).astype(np.float32)
        start += size
    return found


def colours(dist: BoltzmannDistribution) -> list[np.ndarray]:
    """The columns of the joined state that every colour draws."""
    layers, start, offset = dist.machine.graph.layers, {}, 0
    for name in names(dist):
        start[name], offset = offset, offset + layers[name].shape.numel()
    found = []
    for colour in dist.machine.graph.colours:
        columns = []
        for block in colour:
            size = layers[block.layer].shape.numel()
            entries = torch.arange(size) if block.entries is None else block.entries
            columns.append(start[block.layer] + entries.numpy())
        found.append(np.concatenate(columns))
    return found


class Table(NamedTuple):
    """All joint states, ``states x entries`` with the visible ones first, and their energies by the torch engine."""

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
        """The states whose first entries agree with a clamp."""
        keep = ((self.states[:, : len(mask)] == value) | ~mask).all(1)
        return Table(self.states[keep], self.energy[keep])

    def transition(self, colours: list[np.ndarray]) -> np.ndarray:
        """The matrix of one sweep: each factor holds p(colour | the rest) as ratios of the enumerated joint."""
        p = self.probability()
        sweep = np.eye(len(p))
        for colour in colours:
            rest = np.delete(self.states, colour, axis=1)
            reachable = (rest[:, None] == rest[None]).all(-1) * p
            sweep = sweep @ (reachable / reachable.sum(1, keepdims=True))
        return sweep

    def draw(self, seed: int, n: int = CHAINS) -> np.ndarray:
        return self.states[np.random.default_rng(seed).choice(len(self.states), size=n, p=self.probability())]

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
    machine = dist.machine
    size = float(sum(b.detach().abs().sum() for entry in machine.biases.values() for b in entry))
    weights = float(sum(w.detach().abs().sum() for w in machine.weights))
    n = sum(unit.shape.numel() for unit in machine.graph.layers.values())
    return 2 * 2.0**-24 * ((n**2 + 2 * n + 8) * (1 + size + weights) + 2**n + 8)


def visible_states(dist: BoltzmannDistribution) -> torch.Tensor:
    unit = dist.machine.graph.layers[dist.visible]
    states = unit.atom_states(torch.zeros(()))
    rows = torch.cartesian_prod(*[torch.arange(len(states))] * unit.atoms).view(-1, unit.atoms)
    return states[rows].view(-1, *unit.shape)


def clamp_of(dist: BoltzmannDistribution) -> tuple[np.ndarray, np.ndarray]:
    """Every second atom of the visible layer at its last or, by turns, its first state."""
    unit = dist.machine.graph.layers[dist.visible]
    states = unit.atom_states(torch.zeros(())).numpy()
    atoms = np.arange(unit.atoms)
    mask = np.zeros(unit.shape, bool)
    mask[atoms % 2 == 0] = True
    return mask, states[np.where(atoms % 4 == 0, len(states) - 1, 0)].reshape(unit.shape)


def deep() -> BoltzmannDistribution:
    """Three layers in a row, two couplings between the same two, and a layer over two dimensions."""
    layers = {"top": Binary(2), "visible": Binary(2, 2), "middle": Binary(3)}
    couplings = [Dense("visible", "middle"), Dense("middle", "top"), Dense("middle", "visible")]
    biases = {name: (normal(*unit.shape, seed=unit.shape.numel()),) for name, unit in layers.items()}
    weights = [normal(4, 3, seed=5), normal(3, 2, seed=6), normal(3, 4, seed=7)]
    return BoltzmannDistribution(Graph(layers, couplings), biases, weights)


def certain(*sizes: int) -> BoltzmannDistribution:
    """A row of layers whose logits are odd multiples of a thousand, so that chance has no say and sums have no rounding."""
    layers = {f"l{i}": Binary(size) for i, size in enumerate(sizes)}
    couplings = [Dense(f"l{i}", f"l{i + 1}") for i in range(len(sizes) - 1)]
    generator = torch.Generator().manual_seed(8)
    weights = [
        2000.0 * (2 * torch.randint(-9, 9, size, generator=generator) + 1)
        for size in zip(sizes[:-1], sizes[1:], strict=True)
    ]
    biases = {
        name: (1000.0 * (2 * torch.randint(-99, 99, (size,), generator=generator) + 1),)
        for name, size in zip(layers, sizes, strict=True)
    }
    return BoltzmannDistribution(Graph(layers, couplings), biases, weights, visible="l0")


def states(dist, rows):
    return {name: torch.from_numpy(x) for name, x in parted(dist, rows).items()}
