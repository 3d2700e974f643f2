"""One sweep of machines whose units gate one another: its law from tables of all states, which energies alone fill."""

import itertools
from typing import NamedTuple

import numpy as np
import pytest
import torch
from oracles.boltzmann import total_variation_bound
from oracles.waves import wave

import pyro_dgm as dgm

N = 40_000


class Table:
    """All states of some layers, and their law.

    Args:
        layers: for every layer its states, ``number x size``.
        minus_energy: -E of a state, from a dictionary of the layers' vectors.
    """

    def __init__(self, layers, minus_energy):
        self.layers = {name: np.asarray(states, float) for name, states in layers.items()}
        self.shape = tuple(len(states) for states in self.layers.values())
        weights = np.empty(self.shape)
        for index in np.ndindex(self.shape):
            weights[index] = minus_energy(self.state(index))
        self.p = np.exp(weights - weights.max())
        self.p /= self.p.sum()

    def state(self, index):
        return {name: states[i] for i, (name, states) in zip(index, self.layers.items(), strict=True)}

    def where(self, clamp):
        """The law given that some entries are held: ``{layer: (booleans, values)}``."""
        other = object.__new__(Table)
        other.layers, other.shape, other.p = self.layers, self.shape, self.p.copy()
        for axis, (name, states) in enumerate(self.layers.items()):
            if name in clamp:
                mask, value = clamp[name]
                agree = (states[:, mask] == value[mask]).all(1)
                other.p *= np.expand_dims(agree, [a for a in range(len(self.shape)) if a != axis])
        other.p /= other.p.sum()
        return other

    def moved(self, law, blocks):
        """The law after every block in turn was drawn from its conditional: p(block | rest) times the law of the rest."""
        for block in blocks:
            axes = tuple(axis for axis, name in enumerate(self.layers) if name in block)
            rest = self.p.sum(axes, keepdims=True)
            given = np.divide(self.p, rest, out=np.zeros_like(self.p), where=rest > 0)
            law = law.sum(axes, keepdims=True) * given
        return law

    def start(self, law, shapes):
        """N states by a law, as tensors of the layers' shapes."""
        chosen = np.random.default_rng(0).choice(law.size, N, p=law.flatten())
        indices = np.unravel_index(chosen, self.shape)
        pairs = zip(indices, self.layers.items(), strict=True)
        return {name: torch.tensor(states[i]).view(N, *shapes[name]) for i, (name, states) in pairs}

    def distance(self, law, drawn):
        """The total variation between a law and N drawn states, and the bound that draws of this law stay under."""
        indices = [
            (drawn[name].reshape(N, 1, -1).numpy() == states[None]).all(-1).argmax(1)
            for name, states in self.layers.items()
        ]
        found = np.bincount(np.ravel_multi_index(indices, self.shape), minlength=law.size) / N
        return 0.5 * np.abs(found - law.flatten()).sum(), total_variation_bound(law.flatten(), N)


class Case(NamedTuple):
    """A machine, its table, the blocks that a sweep draws, and entries to hold."""

    dist: dgm.BoltzmannDistribution
    table: Table
    blocks: list
    clamp: dict


def rows(size):
    return list(itertools.product([0.0, 1.0], repeat=size))


def hot(count):
    return np.eye(count)


def waved(model):
    with torch.no_grad():
        for number, parameter in enumerate(model.double().parameters()):
            parameter.copy_(wave(1.3, number + 1, *parameter.shape))
    return model, {name: p.detach().numpy() for name, p in model.named_parameters()}


def joint_gated():
    model, w = waved(dgm.JointGatedRBM(4, 2, 2, 3))

    def minus_energy(s):
        x, y, h = s["input"], s["visible"], s["hidden"]
        factors = (x @ w["input_weight"]) * (y @ w["output_weight"]) * (h @ w["hidden_weight"])
        return factors.sum() + x @ w["input_bias"] + y @ w["visible_bias"] + h @ w["hidden_bias"]

    table = Table({"input": rows(2), "hidden": rows(2), "visible": rows(2)}, minus_energy)
    clamp = {"input": (np.array([True, False]), np.array([1.0, 0.0]))}
    return Case(model(), table, [["hidden"], ["input"], ["visible"]], clamp)


def gated_given():
    model, w = waved(dgm.GatedRBM(5, 2, 2, 3))
    x = np.array([1.0, -0.5])

    def minus_energy(s):
        y, h = s["visible"], s["hidden"]
        factors = (x @ w["input_weight"]) * (y @ w["output_weight"]) * (h @ w["hidden_weight"])
        return factors.sum() + y @ w["visible_bias"] + h @ w["hidden_bias"]

    table = Table({"hidden": rows(2), "visible": rows(3)}, minus_energy)
    clamp = {"visible": (np.array([False, True, False]), np.array([0.0, 1.0, 0.0]))}
    return Case(model(torch.tensor(x)), table, [["hidden"], ["visible"]], clamp)


def mixture():
    model, w = waved(dgm.MixtureRBM(2, 2, 3))

    def minus_energy(s):
        k, v, h = int(s["component"].argmax()), s["visible"], s["hidden"]
        own = w["component_bias"][k] + w["visible_bias"][k] @ v + w["hidden_bias"][k] @ h
        return own + v @ w["weight"][k] @ h

    table = Table({"component": hot(3), "hidden": rows(2), "visible": rows(2)}, minus_energy)
    clamp = {"visible": (np.array([True, False]), np.array([1.0, 0.0]))}
    return Case(model(), table, [["component", "hidden"], ["visible"]], clamp)


def two_groups():
    model, w = waved(dgm.TwoGroupRBM(2, 3, 2, 1))

    def minus_energy(s):
        k, x, h, g = int(s["label"].argmax()), s["visible"], s["hidden"], s["free"]
        relevant = w["label_bias"][k] + w["hidden_bias"][k] @ h + x @ w["weight"][k] @ h
        return relevant + w["visible_bias"] @ x + w["free_bias"] @ g + x @ w["free_weight"] @ g

    table = Table({"hidden": rows(2), "free": rows(1), "label": hot(3), "visible": rows(2)}, minus_energy)
    clamp = {"label": (np.ones(3, bool), np.array([0.0, 1.0, 0.0]))}
    return Case(model(), table, [["hidden", "free"], ["label"], ["visible"]], clamp)


def pointwise():
    model, w = waved(dgm.PointwiseGatedRBM(2, (2, 1)))

    def minus_energy(s):
        v, switch, groups = s["visible"], s["mask"].reshape(2, 2), (s["hidden1"], s["hidden2"])
        total = sum(w[f"hidden_biases.{r}"] @ h for r, h in enumerate(groups))
        for r, h in enumerate(groups):
            total = total + (switch[:, r] * v) @ (w[f"weights.{r}"] @ h + w["visible_bias"][:, r])
        return total

    masks = np.stack([np.concatenate(pair) for pair in itertools.product(np.eye(2), repeat=2)])
    layers = {"hidden1": rows(2), "hidden2": rows(1), "mask": masks, "visible": rows(2)}
    clamp = {"hidden1": (np.array([True, False]), np.array([1.0, 0.0]))}
    return Case(model(), Table(layers, minus_energy), [["hidden1", "hidden2"], ["mask", "visible"]], clamp)


CASES = {f.__name__.replace("_", " "): f for f in (joint_gated, gated_given, mixture, two_groups, pointwise)}
EVERY = pytest.mark.parametrize("make", CASES.values(), ids=CASES)


def in_order(case):
    """The case's blocks in the order of the sweep's colours, which may be any."""
    place = {block.layer: number for number, colour in enumerate(case.dist.machine.graph.colours) for block in colour}
    return sorted(case.blocks, key=lambda block: min(place[name] for name in block))


def swept(case, law, clamp=None, kernel=dgm.BlockGibbs):
    """N states after one sweep from a law."""
    torch.manual_seed(0)
    dist = case.dist
    held = {name: tuple(torch.tensor(t).view(dist.shapes[name]) for t in pair) for name, pair in (clamp or {}).items()}
    return kernel(dist, clamp=held or None).sample(case.table.start(law, dist.shapes))


def corner(table):
    """All mass on the least likely state that is possible."""
    law = np.zeros(table.shape)
    law[np.unravel_index(np.where(table.p > 0, table.p, np.inf).argmin(), table.shape)] = 1.0
    return law


@EVERY
def test_energies_are_those_of_the_table(make):
    """Log-ratios of the table's law against the machine's energy, over all states."""
    case = make()
    indices = list(np.ndindex(case.table.shape))
    states = [case.table.state(index) for index in indices]
    joint = {
        name: torch.tensor(np.stack([s[name] for s in states])).view(-1, *case.dist.shapes[name])
        for name in case.table.layers
    }
    log_p = torch.log_softmax(-case.dist.machine.energy(joint).detach(), 0)
    np.testing.assert_allclose(log_p.exp().numpy(), case.table.p.flatten(), atol=1e-12)


@EVERY
@pytest.mark.parametrize("held", [False, True], ids=["free", "clamped"])
def test_a_sweep_leaves_the_law_and_moves_by_its_blocks(make, held):
    """Of 40,000 exact draws, and of as many copies of an unlikely state: total variation under the bound of exact draws."""
    case = make()
    clamp = case.clamp if held else {}
    table = case.table.where(clamp)
    for law in (table.p, corner(table)):
        expected = table.moved(law, in_order(case))
        distance, bound = table.distance(expected, swept(case, law, clamp))
        assert distance < bound
    np.testing.assert_allclose(table.moved(table.p, in_order(case)), table.p, atol=1e-12)
    still, bound = table.distance(expected, table.start(law, case.dist.shapes))
    assert still > bound  # a kernel that does nothing is seen


class ArgMax(dgm.BlockGibbs):
    """Wrong: takes the most probable label in place of a draw."""

    def sample(self, params):
        state = super().sample(params)
        machine = self.machine
        block = machine.graph.block("label")
        (eta,) = machine.fields(block, machine.statistics(state))
        return {**state, "label": torch.nn.functional.one_hot(eta.argmax(-1), eta.shape[-1]).to(eta)}


def test_labels_by_their_maximum_are_seen():
    case = two_groups()
    distance, bound = case.table.distance(case.table.p, swept(case, case.table.p, kernel=ArgMax))
    assert distance > bound


@pytest.mark.parametrize("make", [mixture, pointwise], ids=["mixture", "pointwise"])
def test_one_at_a_time_has_the_same_law_and_other_moves(make):
    """The block of a switch and what it switches is what sets the sweep apart: without it one step leads elsewhere."""
    case = make()
    graph = case.dist.machine.graph
    biases = {
        name: case.dist.machine.shaped(graph.block(name), case.dist.machine.biases[name]) for name in graph.layers
    }
    apart = case._replace(
        dist=dgm.BoltzmannDistribution(dgm.Graph(graph.layers, graph.interactions), biases, case.dist.machine.weights)
    )
    distance, bound = case.table.distance(case.table.p, swept(apart, case.table.p))
    assert distance < bound
    law = corner(case.table)
    distance, bound = case.table.distance(case.table.moved(law, in_order(case)), swept(apart, law))
    assert distance > bound


def test_the_joint_log_z_is_no_conditional_one():
    """p(y | x) sums to one over y for every x; with the joint log Z in its place the sums are p(x)."""
    model, _ = waved(dgm.JointGatedRBM(4, 2, 2, 3))
    every = torch.tensor(rows(2)).double()
    x, y = every.repeat_interleave(4, 0), every.repeat(4, 1)
    right = model.outputs_given(x).log_prob(y).exp().view(4, 4).sum(1)
    wrong = model().given({"input": x}).log_prob(y).exp().view(4, 4).sum(1)
    torch.testing.assert_close(right, torch.ones(4).double())
    assert (wrong < 0.9).all()
    table = joint_gated().table
    np.testing.assert_allclose(wrong.detach().numpy(), table.p.sum((1, 2)), atol=1e-12)
