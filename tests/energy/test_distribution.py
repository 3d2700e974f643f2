"""Energy distributions refuse parameters that make no sense."""

import pytest
import torch

import pyro_dgm as dgm

GRAPH = dgm.Graph({"visible": dgm.Binary(3), "hidden": dgm.Gaussian(2)}, [dgm.Dense("visible", "hidden")])
GOOD = {"visible": (torch.zeros(3),), "hidden": (torch.zeros(2), torch.full((2,), -0.5))}


def test_good_parameters():
    assert dgm.BoltzmannDistribution(GRAPH, GOOD, (torch.zeros(3, 2),)).event_shape == (3,)


@pytest.mark.parametrize(
    ("biases", "weights", "message"),
    [
        ({**GOOD, "visible": (torch.zeros(4),)}, (torch.zeros(3, 2),), "bias of 'visible'"),
        ({**GOOD, "hidden": (torch.zeros(2), torch.zeros(2))}, (torch.zeros(3, 2),), "positive precision"),
        (GOOD, (torch.zeros(2, 3),), "weight between visible and hidden"),
        (GOOD, (), "interactions"),
    ],
)
def test_bad_parameters(biases, weights, message):
    with pytest.raises(ValueError, match=message):
        dgm.BoltzmannDistribution(GRAPH, biases, weights)


@pytest.mark.parametrize(
    ("U", "message"), [(torch.eye(3), "zero"), (torch.tensor([[0.0, 1, 0], [0, 0, 0], [0, 0, 0]]), "symmetric")]
)
def test_asymmetric_or_self_coupled_matrices(U, message):
    graph = dgm.Graph({"visible": dgm.Binary(3)}, [dgm.Lateral("visible")])
    with pytest.raises(ValueError, match=message):
        dgm.BoltzmannDistribution(graph, {"visible": (torch.zeros(3),)}, (U,))


def test_a_state_without_a_layer():
    with pytest.raises(ValueError, match="lacks the layers"):
        dgm.RBM.example()[0]().energy({"visible": torch.zeros(6)})
