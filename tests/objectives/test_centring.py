"""Centred gradients in a model's own parameters: against a change of coordinates by hand, and downhill."""

import itertools

import pytest
import torch
from torch import nn
from torch.func import functional_call

import pyro_dgm as dgm
from pyro_dgm.energy import Binary, BoltzmannDistribution, Convolution, Graph
from pyro_dgm.models.boltzmann._doubled import Repeated
from pyro_dgm.models.shared import BoltzmannModel
from pyro_dgm.objectives.phases.coordinates import centred

PAIRS = list(itertools.combinations(range(6), 2))


class Filters(BoltzmannModel):
    """A convolution whose filters have a learned length: 2 x 3 pixels, one filter of 2 x 2."""

    def __init__(self, shared=False):
        super().__init__()
        coupling = Convolution("visible", "hidden", picture=(2, 3), size=2)
        self.graph = Graph({"visible": Binary(6), "hidden": Binary(2)}, [coupling])
        self.filter, self.length = nn.Parameter(torch.randn(1, 1, 2, 2)), nn.Parameter(torch.zeros(()))
        self.visible_bias, self.hidden_bias = (
            nn.Parameter(torch.zeros(6)),
            nn.Parameter(torch.zeros(1 if shared else 2)),
        )

    def forward(self):
        biases = {"visible": (self.visible_bias,), "hidden": (self.hidden_bias.expand(2),)}
        return BoltzmannDistribution(self.graph, biases, (self.length.exp() * self.filter,))

    def visible_biases(self):
        return (self.visible_bias,)

    def options(self):
        return {}

    @classmethod
    def example(cls):
        return cls(), torch.rand(5, 6).round()


def patches(pixels):
    """The two patches of 2 x 2 of a picture of 2 x 3."""
    return torch.stack([pixels.view(2, 3)[:, :2].reshape(4), pixels.view(2, 3)[:, 1:].reshape(4)])


def pair_fields(p, v, h):
    """Fields of all pairs of six units, four of them visible, from one weight a pair."""
    full = torch.zeros(6, 6, dtype=v.dtype)
    for (i, j), w in zip(PAIRS, p["weight"], strict=True):
        full = full + w * (torch.eye(6)[i, :, None] * torch.eye(6)[j] + torch.eye(6)[j, :, None] * torch.eye(6)[i])
    fields = full @ torch.cat([v, h])
    return {"visible_bias": fields[:4], "hidden_bias": fields[4:]}


def filter_fields(p, v, h):
    weight = p["length"].exp() * p["filter"].reshape(4)
    below = torch.zeros(2, 3, dtype=v.dtype)
    below = below + torch.nn.functional.pad(h[0] * weight.view(2, 2), (0, 1))
    below = below + torch.nn.functional.pad(h[1] * weight.view(2, 2), (1, 0))
    return {"visible_bias": below.reshape(6), "hidden_bias": patches(v) @ weight}


def gaussian_fields(p, v, h):
    """The mean of x at the hidden offsets, and the hidden fields at the visible ones."""
    beta = p["log_precision"].exp() if "log_precision" in p else torch.tensor(2.0, dtype=v.dtype)
    return {"visible_bias": p["weight"] @ h, "hidden_bias": (beta * v) @ p["weight"]}


def rbm_fields(p, v, h):
    return {"visible_bias": p["weight"] @ h, "hidden_bias": v @ p["weight"]}


def copied_fields(below, above, scale):
    def fields(p, v, h):
        v, h = v.view(below, -1)[0], h.view(above, -1)[0]
        return {"visible_bias": above * scale * p["weight"] @ h, "hidden_bias": below * scale * v @ p["weight"]}

    return fields


CASES = {
    "rbm": (lambda: dgm.RBM(4, 2), rbm_fields),
    "all pairs": (lambda: dgm.BoltzmannMachine(4, 2), pair_fields),
    "edges": (lambda: dgm.BoltzmannMachine(4, 2, edges=PAIRS), pair_fields),
    "spins": (lambda: dgm.BoltzmannMachine(4, 2, unit="spin"), pair_fields),
    "visible copies": (lambda: Repeated(3, 2, (2, 1)), copied_fields(2, 1, 1)),
    "hidden copies": (lambda: Repeated(3, 2, (1, 2)), copied_fields(1, 2, 1)),
    "twice the weights": (lambda: Repeated(3, 2, (1, 1), 2.0), copied_fields(1, 1, 2)),
    "filters": (Filters, filter_fields),
    "fixed precision": (lambda: dgm.GaussianRBM(4, 3, precision=2.0), gaussian_fields),
    "one precision": (lambda: dgm.GaussianRBM(4, 3, precision="scalar"), gaussian_fields),
    "precisions": (lambda: dgm.GaussianRBM(4, 3), gaussian_fields),
    "precisions and the optional term": (lambda: dgm.GaussianRBM(4, 3, optional_term=True), gaussian_fields),
}


def random_machine(make, seed):
    """A machine with random parameters, rows, and offsets; copies of a unit have one offset."""
    torch.manual_seed(seed)
    model = make().double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.7)
    graph = model().machine.graph
    unit = graph.layers["visible"]
    x = torch.randn(8, *unit.shape, dtype=torch.float64)
    x = x if unit.states_per_atom is None else unit.atom_states(x).flatten()[(x > 0).long()]
    copies = getattr(model, "copies", (1, 1))
    sizes = {"visible": graph.layers["visible"].shape.numel(), "hidden": graph.layers["hidden"].shape.numel()}
    offsets = {}
    for layer, count in zip(sizes, copies, strict=True):
        first = torch.rand(sizes[layer] // count, dtype=torch.float64)
        offsets[layer] = tuple(first.repeat(count) for _ in graph.layers[layer].statistics)
    if copies[0] > 1:
        x = x[:, : x.shape[1] // copies[0]].repeat(1, copies[0])
    return model, x, offsets


def gradients(model, x, offsets):
    """Of the exact mean negative log-likelihood, by name, centred where there are offsets."""
    fn = model()
    fn = fn if offsets is None else fn.with_machine(centred(fn.machine, offsets))
    names, parameters = zip(*model.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(-fn.log_prob(x).mean(), parameters), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_a_centred_step_is_a_step_in_centred_coordinates(name):
    """J J'g with J the derivative of the parameters by the centred ones, from the equations alone."""
    make, fields = CASES[name]
    model, x, offsets = random_machine(make, 1)
    at = {name: p.detach() for name, p in model.named_parameters()}
    shifts = fields(at, offsets["visible"][0], offsets["hidden"][0])
    start = {name: value + shifts[name] if name in shifts else value for name, value in at.items()}

    def plain(c):
        moved = fields(c, offsets["visible"][0], offsets["hidden"][0])
        return {name: value - moved[name] if name in moved else value for name, value in c.items()}

    def loss(c):
        return -functional_call(model, plain(c), ()).log_prob(x).mean()

    leaves = {name: value.clone().requires_grad_() for name, value in start.items()}
    by_centred = torch.autograd.grad(loss(leaves), list(leaves.values()))
    _, expected = torch.autograd.functional.jvp(
        lambda *c: tuple(plain(dict(zip(start, c, strict=True))).values()), tuple(start.values()), by_centred
    )
    found = gradients(model, x, offsets)
    for name, value in zip(start, expected, strict=True):
        torch.testing.assert_close(found[name], value)


@pytest.mark.parametrize("name", CASES)
def test_a_small_step_down_never_raises_the_loss(name):
    """Over random machines: 60 with learned precisions, 12 of the other kinds."""
    make, _ = CASES[name]
    for seed in range(60 if name == "precisions and the optional term" else 12):
        model, x, offsets = random_machine(make, seed)
        plain, step = gradients(model, x, None), gradients(model, x, offsets)
        slope = float(sum((plain[name] * step[name]).sum() for name in plain))
        assert slope > 0
        with torch.no_grad():
            before = model().log_prob(x).mean()
            for name, parameter in model.named_parameters():
                parameter -= 1e-7 / max(1.0, slope) * step[name]
            assert model().log_prob(x).mean() > before


def test_edges_and_all_pairs_have_one_gradient():
    found = []
    for name in ("all pairs", "edges"):
        model, x, offsets = random_machine(CASES[name][0], 3)
        found.append(gradients(model, x, offsets))
    for name in found[0]:
        torch.testing.assert_close(found[0][name], found[1][name])


@pytest.mark.parametrize("make", [lambda: dgm.SpikeSlabRBM(4, 3), lambda: dgm.CoupledSlabRBM(4, 3),
                                  lambda: dgm.ConvolutionalSpikeSlabRBM(9, filters=1, size=2)])  # fmt: skip
def test_machines_without_a_visible_bias_are_refused(make):
    with pytest.raises(ValueError, match=r"the bias of 'visible' for .* depends on no trained parameters of its own"):
        make().objective(centred=True)
    program = dgm.negative_phase(make().model, dgm.CD(centred=True))
    with pytest.raises(ValueError, match="Pass centred=False"):
        program(torch.randn(3, make()().event_shape[0]))


def test_a_bias_that_cannot_take_the_shift_is_refused():
    """One bias for two positions whose fields differ."""
    shared, x = Filters(shared=True), Filters.example()[1]
    with pytest.raises(ValueError, match=r"parameter of shape \(1,\) cannot"):
        dgm.fit(shared, x, objective=shared.objective(centred=True), epochs=1, progress=False)


def test_a_frozen_bias_cannot_take_the_shift():
    rbm, _ = dgm.RBM.example()
    rbm.hidden_bias.requires_grad_(False)
    with pytest.raises(ValueError, match=r"the bias of 'hidden' for .* depends on no trained parameters"):
        rbm.objective(centred=True)
