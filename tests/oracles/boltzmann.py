"""Independent answers for small Boltzmann machines, in float64 NumPy, from the equations alone."""

import itertools
import math

import numpy as np

import pyro_dgm as dgm


class Oracle:
    """A machine over `n` two-valued units: log p(x) = b.x + x.J.x / 2 - log Z, J symmetric with zero diagonal."""

    def __init__(self, b, J, visible, values=(0.0, 1.0)):
        self.b, self.J, self.visible = np.asarray(b, float), np.asarray(J, float), visible
        self.values = values
        self.states = np.array(list(itertools.product(values, repeat=len(b))))
        self.log_weights = self.states @ self.b + 0.5 * np.einsum("si,ij,sj->s", self.states, self.J, self.states)
        self.log_z = logsumexp(self.log_weights)
        self.p = np.exp(self.log_weights - self.log_z)

    def marginal(self, rows):
        """Log of the unnormalised marginal of visible rows: -F(x)."""
        visible = self.states[:, : self.visible]
        return np.array([logsumexp(self.log_weights[(visible == r).all(1)]) for r in np.asarray(rows)])

    def gradients(self):
        """Model expectations of x and of the pair products."""
        return self.p @ self.states, np.einsum("s,si,sj->ij", self.p, self.states, self.states)

    def transition(self, colours, clamped=()):
        """The explicit matrix of one sweep: each colour drawn given the rest, in order; clamped units stay."""
        index = {tuple(s): i for i, s in enumerate(self.states)}
        total = np.eye(len(self.states))
        for colour in colours:
            free = [u for u in colour if u not in clamped]
            T = np.zeros_like(total)
            for s, state in enumerate(self.states):
                field = self.b + self.J @ state
                span = self.values[1] - self.values[0]
                p1 = 1 / (1 + np.exp(-span * field))
                for choice in itertools.product((0, 1), repeat=len(free)):
                    new = state.copy()
                    new[free] = [self.values[c] for c in choice]
                    T[s, index[tuple(new)]] += math.prod(
                        p1[u] if c else 1 - p1[u] for u, c in zip(free, choice, strict=True)
                    )
            total = total @ T
        return total


def logsumexp(a):
    a = np.asarray(a, float)
    return a.max() + math.log(np.exp(a - a.max()).sum())


def of_rbm(rbm):
    W = rbm.weight.detach().double().numpy()
    v, h = W.shape
    J = np.zeros((v + h, v + h))
    J[:v, v:], J[v:, :v] = W, W.T
    return Oracle(np.concatenate([rbm.visible_bias.detach().numpy(), rbm.hidden_bias.detach().numpy()]), J, v)


def of_machine(machine):
    """The oracle of a BoltzmannMachine, from its documented parameters."""
    n = machine.visible + machine.hidden
    edges = itertools.combinations(range(n), 2) if machine.edges is None else machine.edges.tolist()
    J = np.zeros((n, n))
    for w, (i, j) in zip(machine.weight.detach().double().tolist(), edges, strict=True):
        J[i, j] = J[j, i] = w
    b = machine.visible_bias.detach().numpy()
    if machine.hidden:
        b = np.concatenate([b, machine.hidden_bias.detach().numpy()])
    return Oracle(b, J, machine.visible, (0.0, 1.0) if machine.unit == "binary" else (-1.0, 1.0))


def sparse_machine(seed=0, unit="binary"):
    """A machine with hidden units on an irregular sparse graph with an odd cycle."""
    import torch

    edges = [(0, 1), (1, 2), (2, 0), (3, 4), (0, 4), (4, 5), (5, 6), (2, 6)]
    machine = dgm.BoltzmannMachine(4, 3, edges=edges, unit=unit)
    return randomise(machine, torch.Generator().manual_seed(seed), 0.8)


def randomise(model, generator, scale=1.0):
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return model


def machines():
    """(name, model, oracle) of every kind of graph."""
    import torch

    rbm = dgm.RBM.example()[0]
    general = dgm.BoltzmannMachine.example()[0]
    full = randomise(dgm.BoltzmannMachine(5), torch.Generator().manual_seed(1), 0.7)
    ring = dgm.BoltzmannMachine(6, edges=[(i, (i + 1) % 6) for i in range(6)], unit="spin")
    randomise(ring, torch.Generator().manual_seed(2), 0.5)
    sparse, spins = sparse_machine(), sparse_machine(3, "spin")
    return [
        ("rbm", rbm, of_rbm(rbm)),
        ("general", general, of_machine(general)),
        ("fully visible", full, of_machine(full)),
        ("spin ring", ring, of_machine(ring)),
        ("sparse", sparse, of_machine(sparse)),
        ("sparse spins", spins, of_machine(spins)),
    ]


def unit_colours(model):
    """The units of every colour of a model's graph, numbered over all layers in order."""
    graph, offset, first = model().machine.graph, {}, 0
    for name, unit in graph.layers.items():
        offset[name] = first
        first += unit.atoms
    return [
        [
            offset[b.layer] + a
            for b in colour
            for a in (range(graph.layers[b.layer].atoms) if b.atoms is None else b.atoms.tolist())
        ]
        for colour in graph.colours
    ]


def total_variation_bound(p, n, failure=1e-6):
    """The total variation that n exact draws stay under, with probability 1 - failure."""
    return 0.5 * np.sqrt(p * (1 - p) / n).sum() + math.sqrt(math.log(1 / failure) / (2 * n))


def frequencies(oracle, states):
    """The empirical distribution of joint states over the oracle's listing."""
    digits = (np.asarray(states) == oracle.values[1]).astype(int)
    index = digits @ (1 << np.arange(digits.shape[1])[::-1])
    return np.bincount(index, minlength=len(oracle.states)) / len(states)


def meets(blocks, expected, power):
    """Averages of blocks of a simulation meet what was computed exactly, for every entry of dictionaries of tensors.

    The tolerance is six standard errors, estimated from the blocks (long enough to be nearly independent). ``power`` is the
    share of the largest entry that six standard errors may reach: above it the simulation could not see a mistake.
    """
    scale = max(float(e.abs().max()) for e in expected.values())
    for name, exact in expected.items():
        drawn = np.stack([block[name].detach().numpy() for block in blocks])
        tolerance = 6 * drawn.std(0, ddof=1) / len(blocks) ** 0.5
        assert float(tolerance.max()) < power * scale, (name, "too few draws", float(tolerance.max()) / scale)
        excess = np.abs(drawn.mean(0) - exact.detach().numpy()) - tolerance
        assert float(excess.max()) < 1e-5 * scale, (name, float(excess.max()) / scale)
