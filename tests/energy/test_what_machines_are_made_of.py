"""What graphs, couplings and distributions refuse in words: parts of another kind than they are made of."""

import numpy as np
import pytest
import torch

from pyro_dgm.energy import Binary, BoltzmannDistribution, Dense, Factored, Graph, Lateral, Sparse
from pyro_dgm.energy.interactions import Elementwise, ThreeWay

UNITS = {"visible": Binary(4), "hidden": Binary(3)}
GRAPH = Graph(UNITS, [Dense("visible", "hidden")])
V, H, W = torch.zeros(4), torch.zeros(3), torch.zeros(4, 3)
BIASES = {"visible": (V,), "hidden": (H,)}


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ({"visible": 4}, "layers got 'visible': 4; expected a name and units"),
        ({"visible": Binary}, "layers got 'visible': <class"),
        ({1: Binary(4)}, r"layers got 1: Binary\(4\)"),
        ([Binary(4)], "layers got .*; expected units by name"),
        (Binary(4), "expected units by name"),
        (None, "layers got None"),
        ({}, "a graph needs at least one layer"),
    ],
)
def test_layers_are_units_by_name(layers, message):
    """A number stood for units until something was drawn."""
    with pytest.raises(ValueError, match=message):
        Graph(layers, [])


@pytest.mark.parametrize("couplings", [["a"], "ab", None, 5, Dense("visible", "hidden"), [Dense]])
def test_couplings_are_interactions(couplings):
    with pytest.raises(ValueError, match=r"interactions got .*; expected couplings, as in \[Dense"):
        Graph(UNITS, couplings)


@pytest.mark.parametrize("joint", ["ab", 5, [("a", "b", "c")], ["visible"], None])
def test_joint_layers_are_pairs(joint):
    with pytest.raises(ValueError, match=r"joint got .*; expected pairs of layers"):
        Graph(UNITS, [], joint=joint)


def test_colourings_are_whole_numbers_by_layer():
    with pytest.raises(ValueError, match="colouring got 5; expected colours by layer"):
        Graph(UNITS, [], colouring=5)
    with pytest.raises(ValueError, match="colouring of 'visible' got 'red'; expected whole numbers"):
        Graph(UNITS, [], colouring={"visible": "red", "hidden": 0})
    with pytest.raises(ValueError, match=r"colouring names the layers \[1, 'hidden'\]"):
        Graph(UNITS, [], colouring={1: 0, "hidden": 0})


@pytest.mark.parametrize(
    "make",
    [
        lambda end: Dense(end, "b"),
        lambda end: Dense("b", end),
        Lateral,
        lambda end: Elementwise(end, "b"),
        lambda end: ThreeWay("b", end, "c"),
        lambda end: Factored(["b", end], 3),
        lambda end: Sparse(end, "b", [[0, 0]]),
    ],
)
def test_ends_are_names_of_layers(make):
    for wrong in (1, None, (), ("a", 1, 2), (1, 0)):
        with pytest.raises(ValueError, match=r"an interaction got the end .*; expected the name of a layer"):
            make(wrong)
    for wrong in ("b", 0.5, True, -1):
        with pytest.raises(ValueError, match=rf"the statistic of the end at 'a' got {wrong!r}; expected an integer"):
            make(("a", wrong))


@pytest.mark.parametrize("ends", ["abc", 5, None, ["a"], {"a": 1, "b": 2}])
def test_factors_join_two_layers_or_more(ends):
    """A text was a layer for each of its letters."""
    with pytest.raises(ValueError, match=r"Factored got the ends .*; expected two layers or more"):
        Factored(ends, 3)


@pytest.mark.parametrize(
    ("biases", "message"),
    [
        ({"visible": (V,)}, r"biases got the layers \['visible'\]; expected those of the graph"),
        ({"visible": (V,), "top": (H,)}, r"biases got none of \['hidden'\]"),
        ({**BIASES, "top": (H,)}, r"biases got the layers \['visible', 'hidden', 'top'\]"),
        ({**BIASES, "visible": V}, r"the biases of 'visible' got a Tensor of shape \(4,\), .*; expected a tuple"),
        ({**BIASES, "visible": V[None]}, r"the biases of 'visible' got a Tensor of shape \(1, 4\)"),
        ({**BIASES, "visible": (V, V)}, "the biases of 'visible' got a tuple of length 2"),
        ({**BIASES, "visible": ()}, "the biases of 'visible' got a tuple of length 0"),
        ({**BIASES, "visible": None}, "the biases of 'visible' got None"),
        ({**BIASES, "visible": (V.numpy(),)}, r"the biases of 'visible' got an ndarray of shape \(4,\)"),
        (None, "biases got None; expected tuples of tensors by layer"),
        ([(V,), (H,)], "biases got .*; expected tuples of tensors by layer"),
        ({**BIASES, "visible": (V.double(),)}, "the parameters are of torch.float32, torch.float64; expected"),
        ({**BIASES, "visible": (V.long(),)}, "the parameters are of torch.float32, torch.int64"),
        ({**BIASES, "visible": (V + 0j,)}, "the parameters are of torch.complex64, torch.float32"),
        ({"visible": (torch.zeros(2, 4),), "hidden": (torch.zeros(3, 3),)}, "parameters got shapes .*; expected batches"),
    ],
)  # fmt: skip
def test_every_layer_has_its_biases(biases, message):
    """A bias that lacked was a KeyError; one tensor alone was taken apart; whole numbers waited for the first product."""
    with pytest.raises(ValueError, match=message):
        BoltzmannDistribution(GRAPH, biases, (W,))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (W, "weights got a Tensor of shape"),
        (W[None], "weights got a Tensor of shape"),
        (None, "weights got None; expected a tuple"),
        ({0: W}, "weights got .*; expected a tuple"),
        ((W.numpy(),), "weights got an ndarray"),
        ((None,), "weights got None; expected a tuple of tensors"),
        ((), "got 0 weights; the graph has 1"),
    ],
)
def test_every_coupling_has_its_weight(weights, message):
    with pytest.raises(ValueError, match=message):
        BoltzmannDistribution(GRAPH, BIASES, weights)


def test_the_value_is_one_of_the_layers():
    for wrong in ("top", None, 0):
        with pytest.raises(ValueError, match=f"visible got {wrong!r}; expected one of visible, hidden"):
            BoltzmannDistribution(GRAPH, BIASES, (W,), visible=wrong)
    for wrong in (None, UNITS):
        with pytest.raises(ValueError, match=r"graph got .*; expected a Graph"):
            BoltzmannDistribution(wrong, BIASES, (W,))


def test_log_z_and_values_are_numbers():
    """log Z of NaN made every log-probability NaN."""
    dist = BoltzmannDistribution(GRAPH, BIASES, (W,))
    for wrong in ("a", None, torch.nan, torch.inf, 1j):
        with pytest.raises(ValueError, match=r"log Z got .*; expected"):
            dist.with_log_partition(wrong)
    for wrong in (np.zeros((2, 4)), None, [[0.0] * 4]):
        with pytest.raises(ValueError, match=r"log_prob got .*; expected a tensor"):
            dist.log_prob(wrong)
    for wrong in (-1, "a", None):
        with pytest.raises(ValueError, match=f"sweeps got {wrong!r}; expected the sweeps of a chain"):
            dist.sample((2,), sweeps=wrong)
