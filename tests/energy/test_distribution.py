"""Energy distributions refuse parameters that make no sense."""

import math
from typing import ClassVar

import pytest
import torch
from torch.distributions import constraints

import pyro_dgm as dgm
from pyro_dgm.energy import EnergyDistribution, NotFinite

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


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("place", "name"),
    [
        (0, "the bias of 'visible' for x holds"),
        (1, "the bias of 'hidden' for x holds"),
        (2, "the bias of 'hidden' for x2 holds"),
        (3, "the weight between visible and hidden holds"),
        (4, "the weight between visible and visible holds"),
    ],
)
def test_parameters_that_are_not_finite_are_named(place, name, bad):
    """One entry, of one machine of a batch or of a matrix that stays symmetric."""
    graph = dgm.Graph(GRAPH.layers, [dgm.Dense("visible", "hidden"), dgm.Lateral("visible")])
    parameters = [torch.zeros(3), torch.zeros(2), torch.full((2,), -0.5), torch.zeros(4, 3, 2), torch.zeros(3, 3)]
    parameters[place].view(-1)[1] = bad
    parameters[4] = torch.maximum(parameters[4], parameters[4].T) + torch.minimum(parameters[4], parameters[4].T)

    def make(validate):
        biases = {"visible": (parameters[0],), "hidden": (parameters[1], parameters[2])}
        return dgm.BoltzmannDistribution(graph, biases, parameters[3:], validate_args=validate)

    with pytest.raises(NotFinite, match=rf"{name} {bad:g} .*last good checkpoint.*smaller learning rate"):
        make(True)
    assert make(False).batch_shape == (4,)


def test_infinities_of_both_signs_and_sums_that_overflow():
    """A sum that overflows is not taken for an infinite entry, in whatever precision."""
    graph = dgm.Graph({"visible": dgm.Binary(3)}, [])
    for dtype in (torch.float32, torch.float64, torch.float16):
        large = torch.full((3,), torch.finfo(dtype).max, dtype=dtype)
        assert dgm.BoltzmannDistribution(graph, {"visible": (large,)}, ()).event_shape == (3,)
    with pytest.raises(NotFinite, match="2 of its 3 entries"):
        dgm.BoltzmannDistribution(graph, {"visible": (torch.tensor([math.inf, -math.inf, 0.0]),)}, ())


def test_free_energies_name_their_parameters():
    bad = torch.tensor([1.0, math.nan])
    for parameters, name in (((torch.ones(2), bad), "parameter 1 holds nan"), ({"scale": bad}, "scale holds nan")):
        with pytest.raises(NotFinite, match=name):
            dgm.FreeEnergyDistribution(lambda x: x.sum(-1), parameters, (2,))
        assert dgm.FreeEnergyDistribution(lambda x: x.sum(-1), parameters, (2,), validate_args=False).event_shape == (
            2,
        )


def test_a_state_without_a_layer():
    with pytest.raises(ValueError, match="lacks the layers"):
        dgm.RBM.example()[0]().energy({"visible": torch.zeros(6)})


def test_a_distribution_without_parameters():
    class Standard(EnergyDistribution):
        arg_constraints: ClassVar = {}
        support = constraints.real_vector

        def energy(self, state):
            return self.free_energy(state[self.visible])

        def free_energy(self, x):
            return x.square().sum(-1) / 2

        def exact_log_partition(self):
            return torch.tensor(math.log(2 * math.pi))

        def parameters(self):
            return ()

        def parameter_names(self):
            return []

        def _copy(self, batch_shape):
            return Standard(batch_shape, self.event_shape)

    found = Standard(torch.Size(), torch.Size([2]), validate_args=True).log_prob(torch.zeros(3, 2))
    torch.testing.assert_close(found, torch.full((3,), -math.log(2 * math.pi)))
