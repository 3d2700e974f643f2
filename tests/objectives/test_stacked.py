"""Steps that share the product of the hidden units: the law of their chains, their figures and their gradients."""

import numpy as np
import pytest
import torch
from oracles import small_machines as small
from oracles.small_machines import Table, joined, normal, parted, variation

import pyro_dgm as dgm
from pyro_dgm.energy import Binary, BoltzmannDistribution, Dense, Graph, Lateral, Spin
from pyro_dgm.objectives.phases.stacked import stacked_step, stacks

WITNESSES = 7


def semi_restricted():
    """Spins that are coupled to one another, under bits that are not."""
    graph = Graph({"visible": Spin(3), "hidden": Binary(2)}, [Dense("visible", "hidden"), Lateral("visible")])
    within = normal(3, 3, seed=3).triu(1)
    biases = {"visible": (normal(3, seed=40),), "hidden": (normal(2, seed=41),)}
    return BoltzmannDistribution(graph, biases, [normal(3, 2, seed=42), (within + within.mT) / 2])


MACHINES = [small.small_rbm, small.labels, semi_restricted]


def deep():
    """Bits under bits under spins: two layers are drawn at once."""
    graph = Graph(
        {"visible": Spin(3), "first": Binary(2), "second": Binary(2)},
        [Dense("visible", "first"), Dense("first", "second")],
    )
    biases = {name: (normal(*unit.shape, seed=50 + unit.atoms),) for name, unit in graph.layers.items()}
    return BoltzmannDistribution(graph, biases, [normal(3, 2, seed=60), normal(2, 2, seed=61)])


def step_of(dist, chains, value, k):
    kernel = dgm.BlockGibbs(dist)
    assert stacks(kernel, dist)
    return stacked_step(kernel, dist, chains, k, len(next(iter(chains.values()))) - WITNESSES, value)


def state_of(dist, rows):
    return {layer: torch.as_tensor(x) for layer, x in parted(dist, rows).items()}


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("make", [*MACHINES, deep])
def test_the_first_colour_is_drawn_last(make, k):
    dist = make()
    table = Table.of(dist)
    first = len(table.states) // 3
    chains = state_of(dist, np.tile(table.states[first], (small.CHAINS, 1)))
    step = step_of(dist, chains, chains["visible"][:5] if dist.restricted else None, k)
    first_colour, *others = small.colours(dist)
    law = np.linalg.matrix_power(table.transition([*others, first_colour]), k)[first]
    found = table.count(joined(dist, step.state))
    distance, bound = variation(law, found)
    assert distance < bound
    if k == 1:  # later sweeps forget where they began
        distance, bound = variation(table.transition([first_colour, *others])[first], found)
        assert distance > bound


@pytest.mark.parametrize("make", [*MACHINES, deep])
def test_figures_and_gradients_are_those_of_each_part_alone(make):
    exact = small.double(make())
    biases = {
        name: tuple(b.view(exact.shapes[name]).requires_grad_() for b in own)
        for name, own in exact.machine.biases.items()
    }
    weights = [weight.requires_grad_() for weight in exact.machine.weights]
    dist = BoltzmannDistribution(exact.machine.graph, biases, weights)
    parameters = [b for own in biases.values() for b in own] + weights
    table = Table.of(dist)
    before = {layer: x.double() for layer, x in state_of(dist, table.draw(0, 20)).items()}
    value = {layer: x.double() for layer, x in state_of(dist, table.draw(1, 11)).items()}["visible"]
    step = step_of(dist, before, value if dist.restricted else None, 2)
    data = dist.collapsed({"visible": value}) if dist.restricted else step.data.detach()
    negatives, witnesses = dist.collapsed(step.state), {layer: x[-WITNESSES:] for layer, x in before.items()}
    torch.testing.assert_close(step.data, data)
    torch.testing.assert_close(step.negatives, negatives)
    torch.testing.assert_close(step.before, dist.collapsed(witnesses).detach())
    together = torch.autograd.grad(step.data.sum() - 2 * step.negatives.sum(), parameters)
    apart = data.sum() - 2 * negatives.sum()
    torch.testing.assert_close(together, torch.autograd.grad(apart, parameters))
    assert not step.before.requires_grad


def test_other_kernels_and_machines_go_on_as_they_did():
    dist = small.small_rbm()
    assert not stacks(dgm.BlockGibbs(dist, clamp=(torch.tensor([True, False, False, False]), torch.ones(4))), dist)
    assert not stacks(dgm.BlockGibbs(small.full()), small.full())


def test_first_chains_have_hidden_units_of_their_rows():
    """Weights so large that the hidden units say which rows they were drawn from."""
    rbm = dgm.RBM(2, 1)
    with torch.no_grad():
        rbm.weight.copy_(torch.tensor([[80.0], [0.0]]))
        rbm.hidden_bias.fill_(-40.0)
        rbm.visible_bias.copy_(torch.tensor([-40.0, 0.0]))
    phase = dgm.PCD(chains=50)
    rows = torch.cat([torch.zeros(30, 2), torch.ones(30, 2)])
    fn = rbm()
    phase._start("x", fn, phase.chains_kernel("x", fn), rows)
    chains = phase.chains["x"]
    assert 0 < chains["hidden"].sum() < len(chains["hidden"])
    assert torch.equal(chains["hidden"][:, 0], chains["visible"][:, 0])
