"""Colourings that are given: refused where they are not proper, and stationary where they are."""

import itertools

import numpy as np
import pytest
import torch

import pyro_dgm as dgm

EDGES = torch.tensor([[0, 1], [1, 2], [2, 3], [3, 0]])
STATES = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4)))


def ring(colouring=None):
    graph = dgm.Graph({"visible": dgm.Binary(4)}, [dgm.Sparse("visible", "visible", EDGES)], colouring)
    biases = {"visible": (torch.tensor([0.5, -1.0, 0.3, 0.2]),)}
    return dgm.BoltzmannDistribution(graph, biases, (torch.tensor([1.0, -2.0, 0.7, 1.5]),))


def test_a_given_colouring_is_swept_in_its_order():
    blocks = [[block.atoms.tolist() for block in colour] for colour in ring({"visible": [7, 2, 5, 2]}).machine.colours]
    assert blocks == [[[1, 3]], [[2]], [[0]]]


@pytest.mark.parametrize("colouring", [[7, 2, 5, 2], [0, 1, 2, 3], [1, 0, 1, 0]])
def test_the_distribution_stays_and_is_reached(colouring):
    dist = ring({"visible": colouring})
    p = dist.log_prob(STATES).exp().double().numpy()
    torch.manual_seed(0)
    chains = 40_000
    chosen = torch.multinomial(torch.tensor(p), chains, replacement=True)
    state = dist.machine.sweep({"visible": STATES[chosen]})["visible"]
    found = np.bincount((state.numpy() @ [8, 4, 2, 1]).astype(int), minlength=16) / chains
    # Half the sum of |found - p| is below sqrt(states / n) / 2 on average; deviations by McDiarmid, one in a million.
    assert 0.5 * abs(found - p).sum() < 0.5 * (16 / chains) ** 0.5 + (np.log(1e6) / (2 * chains)) ** 0.5
    plain = ring()
    torch.testing.assert_close(dist.log_prob(STATES), plain.log_prob(STATES))


def test_whole_layers_take_one_number():
    graph = dgm.Graph(
        {"visible": dgm.Binary(4), "hidden": dgm.Binary(3)},
        [dgm.Dense("visible", "hidden")],
        {"visible": 0, "hidden": 1},
    )
    assert [[(b.layer, b.atoms) for b in colour] for colour in graph.colours] == [
        [("hidden", None)],
        [("visible", None)],
    ]
    split = {"visible": 0, "hidden": [1, 2, 1]}
    graph = dgm.Graph({"visible": dgm.Binary(4), "hidden": dgm.Binary(3)}, [dgm.Dense("visible", "hidden")], split)
    assert [len(colour) for colour in graph.colours] == [1, 1, 1]


@pytest.mark.parametrize(
    ("colouring", "match"),
    [
        ({"visible": [0, 0, 1, 1]}, "unit 0 of 'visible' and unit 1 of 'visible' the colour 0, but they are coupled"),
        ({"visible": 0}, "the colour 0, but they are coupled; give them different ones"),
        ({"visible": [0, 1, 0]}, r"of shape \(3,\); expected one whole number, or one for each of its 4 atoms"),
        ({"visible": [0.0, 1.0, 0.0, 1.0]}, "got torch.float32"),
        ({"hidden": 0}, r"names the layers \['hidden'\]; expected \['visible'\]"),
    ],
)
def test_improper_colourings(colouring, match):
    with pytest.raises(ValueError, match=match):
        ring(colouring)


def test_layers_that_share_a_colour():
    layers = {"visible": dgm.Binary(4), "hidden": dgm.Binary(3)}
    with pytest.raises(ValueError, match="gives 'hidden' and 'visible' the colour 1, but they are coupled"):
        dgm.Graph(layers, [dgm.Dense("visible", "hidden")], {"visible": [0, 1, 0, 0], "hidden": 1})
