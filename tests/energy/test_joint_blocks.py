"""Switches drawn with what they switch summed out: the law of one sweep, from a listing of all states."""

import itertools

import pytest
import torch
from oracles.waves import wave

import pyro_dgm as dgm
from pyro_dgm.energy import Machine

MIXTURE = (
    {"visible": dgm.Binary(3), "hidden": dgm.Binary(2), "component": dgm.Categorical(1, 2)},
    [
        dgm.ThreeWay("visible", "hidden", "component"),
        dgm.Dense("visible", "component"),
        dgm.Dense("hidden", "component"),
    ],
    {"component": "hidden"},
)
MASK = (
    {"visible": dgm.Binary(3), "mask": dgm.Categorical(3, 2), "one": dgm.Binary(2), "two": dgm.Binary(2)},
    [
        dgm.Masked("visible", "mask", "one"),
        dgm.Masked("visible", "mask", "two", inner=1),
        dgm.Elementwise("visible", "mask"),
    ],
    {"mask": "visible"},
)
SPINS = (
    {"visible": dgm.Binary(3), "mask": dgm.Spin(3), "one": dgm.Binary(2)},
    [dgm.Masked("visible", "mask", "one"), dgm.Dense("visible", "one"), dgm.Dense("mask", "one")],
    {"mask": "visible"},
)
CASES = {"component and hidden": MIXTURE, "mask and visible": MASK, "spins": SPINS}
EVERY = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def machine(case, scale=1.5, jointly=True):
    layers, couplings, joint = case
    graph = dgm.Graph(layers, couplings, joint=joint.items() if jointly else ())
    biases = {name: (wave(0.7, place, *unit.shape),) for place, (name, unit) in enumerate(layers.items())}
    weights = [wave(scale, number + 1, *shape) for number, shape in enumerate(graph.weight_shapes)]
    return Machine(graph, biases, weights)


def listed(unit):
    """Every state of a layer, from its atoms'."""
    atoms = unit.atom_states(torch.zeros(()).double())
    rows = [
        torch.stack([a.reshape(-1) for a in choice]).reshape(unit.shape)
        for choice in itertools.product(atoms, repeat=unit.atoms)
    ]
    return torch.stack(rows)


def law_of_the_first_blocks(m, start, switch, switched):
    """P(switch, switched | the rest of ``start``) over all pairs of their states, by energies alone."""
    first, second = listed(m.graph.layers[switch]), listed(m.graph.layers[switched])
    i, j = torch.meshgrid(torch.arange(len(first)), torch.arange(len(second)), indexing="ij")
    state = {name: x.expand(i.numel(), *x.shape) for name, x in start.items()}
    state |= {switch: first[i.flatten()], switched: second[j.flatten()]}
    return first, second, torch.softmax(-m.energy(state), 0).view(len(first), len(second))


@EVERY
def test_a_switch_and_what_it_switches_are_one_draw(case):
    """Draws of the pair alone, all else held: 40,000 of them from one start; six standard errors of every pair's share."""
    m, ((switch, switched),) = machine(case), case[2].items()
    torch.manual_seed(1)
    start = {name: listed(unit)[0 if name == switched else -1] for name, unit in case[0].items()}
    first, second, law = law_of_the_first_blocks(m, start, switch, switched)
    count = 40_000
    states = {name: x.expand(count, *x.shape) for name, x in start.items()}
    drawn = m.sweep(states, skip=frozenset(case[0]) - {switch, switched})
    index = [
        (drawn[name].flatten(1)[:, None] == rows.flatten(1)).all(-1).double().argmax(1)
        for name, rows in ((switch, first), (switched, second))
    ]
    share = torch.bincount(index[0] * len(second) + index[1], minlength=law.numel()).view_as(law) / count
    assert ((share - law).abs() <= 6 * (law * (1 - law) / count).sqrt() + 1e-6).all()
    apart = machine(case, jointly=False)  # one after the other: another law after one step, which this test would see
    drawn = apart.sweep(states, skip=frozenset(case[0]) - {switch, switched})
    index = [
        (drawn[name].flatten(1)[:, None] == rows.flatten(1)).all(-1).double().argmax(1)
        for name, rows in ((switch, first), (switched, second))
    ]
    other = torch.bincount(index[0] * len(second) + index[1], minlength=law.numel()).view_as(law) / count
    assert (other - law).abs().max() > 0.02


@EVERY
def test_a_clamped_partner_is_not_summed_out(case):
    """With an entry of the switched layer known, sweeps still have the conditional law: long chains against the listing."""
    m, (switched,) = machine(case, 0.8), case[2].values()
    torch.manual_seed(2)
    unit = case[0][switched]
    mask, value = torch.zeros(unit.shape, dtype=torch.bool), torch.zeros(unit.shape).double()
    mask.view(-1)[0], value.view(-1)[0] = True, 1.0
    state = m.neutral_state((3000,))
    state[switched] = torch.where(mask, value, state[switched])
    for _ in range(60):
        state = m.sweep(state, {switched: (mask, value)})
    every = {name: listed(layer) for name, layer in case[0].items()}
    index = torch.cartesian_prod(*(torch.arange(len(x)) for x in every.values()))
    joint = {name: x[index[:, place]] for place, (name, x) in enumerate(every.items())}
    keep = joint[switched].flatten(1)[:, 0] == 1
    p = torch.softmax(torch.where(keep, -m.energy(joint), -torch.inf), 0)
    for name, x in joint.items():
        mean = (p.view(-1, *(1 for _ in x.shape[1:])) * x).sum(0)
        spread = ((p.view(-1, *(1 for _ in x.shape[1:])) * x**2).sum(0) - mean**2).clamp_min(0).sqrt()
        assert ((state[name].mean(0) - mean).abs() <= 6 * spread / 3000**0.5 + 1e-9).all(), name


def test_a_switch_is_drawn_right_before_its_units():
    for case, order in ((MIXTURE, ["component", "hidden", "visible"]), (MASK, ["one", "two", "mask", "visible"])):
        colours = machine(case).graph.colours
        assert [block.layer for colour in colours for block in colour] == order


@pytest.mark.parametrize(
    ("case", "joint", "message"),
    [
        (MIXTURE, ("component", "nobody"), "expected two of the layers"),
        (MIXTURE, ("hidden", "component"), "expected a single finite unit"),
        (MASK, ("one", "visible"), "expected a single finite unit"),
    ],
)
def test_layers_that_cannot_be_drawn_jointly(case, joint, message):
    with pytest.raises(ValueError, match=message):
        dgm.Graph(case[0], case[1], joint=[joint])
