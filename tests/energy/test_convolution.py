"""Convolutional couplings against the dense matrix that they stand for, built by loops in NumPy."""

import itertools
import math

import numpy as np
import pytest
import torch
from oracles import boltzmann as oracle
from oracles.convolutions import unrolled

import pyro_dgm as dgm
from pyro_dgm.energy import Machine
from pyro_dgm.energy.mean_field import mean_field
from pyro_dgm.energy.normaliser import improper
from pyro_dgm.objectives.phases.centring import centred


class Case:
    """A coupling between real pixels and spikes with two slabs, or between other layers, with its matrix."""

    def __init__(self, picture, size, padding, filters=2, inner=None, pixels=dgm.Gaussian, maps=dgm.Binary, flat=False):
        statistic = 1 if inner == 0 else 0
        self.coupling = dgm.Convolution(("v", statistic), "h", picture, size, padding, inner)
        self.picture = self.coupling.picture
        shape = (filters, *self.coupling.positions)
        shape = (math.prod(shape),) if flat else shape
        entries = 3 if maps is dgm.SpikeSlab else 1
        unit = maps(*shape, 3) if entries == 3 else maps(*shape)
        below = pixels(math.prod(self.picture)) if flat else pixels(*self.picture)
        self.graph = dgm.Graph({"v": below, "h": unit}, [self.coupling])
        generator = torch.Generator().manual_seed(4)
        self.weight = 0.4 * torch.randn(self.graph.weight_shapes[0], generator=generator).double()
        if statistic:  # a square keeps its normaliser
            self.weight = -self.weight.abs()
        self.biases = {
            name: (torch.randn(layer.shape, generator=generator).double(), *layer.neutral(self.weight)[1:])
            for name, layer in self.graph.layers.items()
        }
        start = inner if isinstance(inner, int) else 1 if isinstance(inner, slice) else 0
        array = self.weight.numpy().reshape(filters, -1, self.picture[0], *self.coupling.size)
        self.matrix = torch.as_tensor(unrolled(array, self.picture, padding, entries, start))

    def machine(self):
        return Machine(self.graph, self.biases, [self.weight])

    def dense(self):
        ends = self.coupling.ends
        graph = dgm.Graph(self.graph.layers, [dgm.Dense(ends[0], ends[1])])
        return Machine(graph, self.biases, [self.matrix])

    def statistics(self, *batch):
        """Statistics as random numbers, all entries."""
        return {
            name: tuple(torch.randn(*batch, unit.shape.numel()).double() for _ in unit.statistics)
            for name, unit in self.graph.layers.items()
        }


CASES = {
    "valid": Case((2, 4, 3), (2, 3), "valid"),
    "full": Case((2, 4, 3), (2, 3), "full"),
    "one channel, flat": Case((4, 5), 3, "valid", filters=3, flat=True),
    "flat and full": Case((4, 3), 3, "full", filters=1, flat=True),
    "one pixel a filter": Case((3, 2, 2), 1, "full"),
    "spins": Case((3, 3), 2, "full", pixels=dgm.Spin, maps=dgm.Spin),
    "all entries": Case((2, 3, 4), 2, "valid", maps=dgm.SpikeSlab),
    "slabs": Case((2, 3, 4), 2, "valid", maps=dgm.SpikeSlab, inner=slice(1, None)),
    "slabs, full and flat": Case((3, 3), 2, "full", maps=dgm.SpikeSlab, inner=slice(1, 3), flat=True),
    "spikes at squares": Case((3, 3), 2, "valid", maps=dgm.SpikeSlab, inner=0),
    "one slab": Case((3, 3), 2, "full", maps=dgm.SpikeSlab, inner=-1),
}
CASES["one slab"].matrix = torch.as_tensor(
    unrolled(CASES["one slab"].weight[:, None].numpy(), (1, 3, 3), "full", entries=3, start=2)
)
EVERY = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@EVERY
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_value_and_fields(case, batch):
    statistics, matrix = case.statistics(*batch), case.matrix
    first, second = (statistics[end.layer][end.statistic] for end in case.coupling.ends)
    expected = torch.einsum("...i,ij,...j->...", first, matrix, second)
    torch.testing.assert_close(case.coupling.value(statistics, case.weight), expected)
    for end, field in ((0, second @ matrix.T), (1, first @ matrix)):
        torch.testing.assert_close(case.coupling.field(end, statistics, case.weight), field)
        some, plus = torch.tensor([field.shape[-1] - 1, 0]), torch.randn(2).double()
        torch.testing.assert_close(
            case.coupling.field(end, statistics, case.weight, some, plus), field[..., some] + plus
        )


@EVERY
def test_fields_are_minus_the_derivative_of_the_energy(case):
    machine = case.machine()
    statistics = {name: tuple(t.requires_grad_() for t in entry) for name, entry in case.statistics(3).items()}
    for layer, entry in statistics.items():
        gradients = torch.autograd.grad(machine.value(statistics).sum(), entry)
        fields = machine.fields(machine.graph.block(layer), statistics)
        for gradient, field in zip(gradients, fields, strict=True):
            dims = machine.graph.layers[layer].event_dim
            torch.testing.assert_close(field.flatten(-dims).expand(gradient.shape), gradient)


@EVERY
def test_sweeps_are_those_of_the_dense_machine(case):
    machine, dense = case.machine(), case.dense()
    assert [[b.layer for b in c] for c in machine.colours] == [["h"], ["v"]]
    torch.manual_seed(3)
    start = machine.neutral_state((5,))
    states = []
    for each in (machine, dense):
        torch.manual_seed(4)
        states.append(each.sweep(each.sweep(start)))
    for layer in start:
        torch.testing.assert_close(states[0][layer], states[1][layer])
    torch.testing.assert_close(machine.energy(start), dense.energy(start))
    colour = machine.colours[0]
    torch.testing.assert_close(machine.collapsed(colour, start), dense.collapsed(colour, start))


@pytest.mark.parametrize("pixels", [dgm.Binary, dgm.Spin])
@pytest.mark.parametrize(("picture", "padding"), [((2, 2, 2), "valid"), ((1, 2, 2), "full")])
def test_against_enumeration(pixels, picture, padding):
    values = (0.0, 1.0) if pixels is dgm.Binary else (-1.0, 1.0)
    case = Case(picture, 2, padding, filters=4 if padding == "valid" else 1, pixels=pixels, maps=pixels)
    machine, visible = case.machine(), math.prod(picture)
    matrix = case.matrix.numpy()
    joint = np.block([[np.zeros((visible, visible)), matrix], [matrix.T, np.zeros((matrix.shape[1],) * 2)]])
    exact = oracle.Oracle(np.concatenate([case.biases[n][0].flatten() for n in "vh"]), joint, visible, values)
    dist = dgm.BoltzmannDistribution(case.graph, case.biases, [case.weight], visible="v", validate_args=True)
    assert float(dgm.log_partition(dist).value) == pytest.approx(exact.log_z, abs=1e-9)
    rows = np.unique(exact.states[:, :visible], axis=0)
    shaped = torch.as_tensor(rows).view(-1, *picture)
    np.testing.assert_allclose(-dist.free_energy(shaped), exact.marginal(rows), atol=1e-9)
    # Conditionals by ratios of the listed joint.
    found = mean_field(machine, {"v": shaped[3:5]}, 1).statistics["h"][0]
    for row, mean in zip(rows[3:5], found, strict=True):
        p = exact.p * (exact.states[:, :visible] == row).all(1)
        np.testing.assert_allclose(mean, p @ exact.states[:, visible:] / p.sum(), atol=1e-9)
    hidden = exact.states[17, visible:]
    found = mean_field(machine, {"h": torch.as_tensor(hidden).view(1, *case.graph.layers["h"].shape)}, 1).statistics[
        "v"
    ][0]
    p = exact.p * (exact.states[:, visible:] == hidden).all(1)
    np.testing.assert_allclose(found[0], p @ exact.states[:, :visible] / p.sum(), atol=1e-9)
    annealed = dgm.log_partition(dist, "ais", chains=100, temperatures=100)
    assert abs(float(annealed.value) - exact.log_z) < 6 * float(annealed.stderr) + 1e-9
    assert float(annealed.stderr) < 0.2


@pytest.mark.parametrize("name", ["valid", "slabs", "spikes at squares"])
def test_filters_of_every_row(name):
    """Weights with batch dimensions: every row has a machine of its own, whatever lies before it."""
    case = CASES[name]
    weights = torch.randn(2, 3, *case.weight.shape).double()
    for batch, weight in (
        ((2, 3), weights),
        ((4, 2, 3), weights),
        ((4, 1, 3), weights),
        ((), weights),
        ((5, 3), weights[0]),
    ):
        statistics = case.statistics(*batch)
        lead = torch.broadcast_shapes(batch, weight.shape[: weight.dim() - case.weight.dim()])
        for compute in (
            lambda s, w: case.coupling.field(0, s, w),
            lambda s, w: case.coupling.field(1, s, w),
            lambda s, w: case.coupling.value(s, w),
        ):
            found = compute(statistics, weight)
            assert found.shape[: len(lead)] == lead
            wide = {n: tuple(t.expand(*lead, t.shape[-1]) for t in entry) for n, entry in statistics.items()}
            weight_wide = weight.expand(*lead, *case.weight.shape)
            for index in itertools.product(*map(range, lead)):
                row = {n: tuple(t[index] for t in entry) for n, entry in wide.items()}
                torch.testing.assert_close(found[index], compute(row, weight_wide[index]))


@EVERY
def test_centred_gradient(case):
    """Gradients in centred coordinates are J J'g, where J is the derivative of the plain parameters by the centred ones."""
    offsets = case.statistics()
    layout = {name: len(case.biases[name]) for name in "vh"}

    def split(parameters):
        return {"v": list(parameters[: layout["v"]]), "h": list(parameters[layout["v"] : -1])}

    def plain(*parameters):
        """Of $(T_a - \\mu_a) W (T_b - \\mu_b) + T_a b_a + T_b b_b$, multiplied out; linear in the parameters."""
        biases, weight = split(parameters), parameters[-1]
        at = {name: tuple(t.clone().requires_grad_() for t in entry) for name, entry in offsets.items()}
        value = case.coupling.value(at, weight)
        ends = case.coupling.ends
        fields = torch.autograd.grad(value, [at[end.layer][end.statistic] for end in ends], create_graph=True)
        for end, field in zip(ends, fields, strict=True):
            biases[end.layer][end.statistic] = biases[end.layer][end.statistic] - field
        return (*biases["v"], *biases["h"], weight)

    start = [*(t.flatten() for name in "vh" for t in case.biases[name]), case.weight]
    gradient = [torch.randn(t.shape).double() for t in start]
    leaves = [t.clone().requires_grad_() for t in start]
    expected = plain(*torch.autograd.grad(plain(*leaves), leaves, gradient))
    biases = {name: tuple(t.clone().requires_grad_() for t in case.biases[name]) for name in "vh"}
    weight = case.weight.clone().requires_grad_()
    other = centred(Machine(case.graph, biases, [weight]), offsets)
    leaves = [*biases["v"], *biases["h"], weight]
    found = torch.autograd.grad([*other.biases["v"], *other.biases["h"], *other.weights], leaves, gradient)
    for ours, right in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.view_as(right), right)


@pytest.mark.parametrize("maps", [dgm.Gaussian, dgm.SpikeSlab])
@pytest.mark.parametrize("padding", ["valid", "full"])
def test_couplings_of_real_layers_must_have_a_normaliser(maps, padding):
    """By the eigenvalues of the unrolled quadratic form; all spikes on is the worst case where no square is coupled."""
    case = Case((3, 3), 2, padding, filters=1, maps=maps, inner=None if maps is dgm.Gaussian else slice(1, None))
    matrix = case.matrix[:, case.matrix.any(0)].numpy()
    seen = set()
    for scale in (0.2, 0.5, 0.8, 1.2, 2.0):
        size, inner = matrix.shape
        form = np.block([[np.eye(size), -scale * matrix], [-scale * matrix.T, np.eye(inner)]])
        valid = bool(np.linalg.eigvalsh(form)[0] > 0)
        assert (improper(case.graph, case.biases, [scale * case.weight]) is None) == valid
        seen.add(valid)
    assert seen == {True, False}


def test_single_precision_and_no_rows():
    case = CASES["full"]
    statistics = {n: tuple(t.float() for t in entry) for n, entry in case.statistics(0).items()}
    assert case.coupling.field(1, statistics, case.weight.float()).shape == (0, case.matrix.shape[1])
    assert case.coupling.field(0, statistics, case.weight.float()).shape == (0, case.matrix.shape[0])
    assert case.coupling.value(statistics, case.weight.float()).dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"picture": (4,)}, "picture got"),
        ({"picture": (1, 4, 0)}, "picture got"),
        ({"picture": (4, 4.0)}, "picture got"),
        ({"size": 5}, "size got 5; .* those of 4 x 4"),
        ({"size": (2, 5), "padding": "full"}, "size got"),
        ({"size": 0}, "size got"),
        ({"size": (1, 2, 3)}, "size got"),
        ({"padding": "same"}, "'valid', 'full'"),
        ({"second": "v"}, "at both ends"),
    ],
)
def test_bad_sizes(options, message):
    with pytest.raises(ValueError, match=message):
        dgm.Convolution(**{"first": "v", "second": "h", "picture": (4, 4), "size": 3, **options})


@pytest.mark.parametrize(
    ("visible", "hidden", "inner", "message"),
    [
        (dgm.Binary(15), dgm.Binary(4), None, "'v' is Binary.15.; expected 16 units"),
        (dgm.Binary(2, 2, 4), dgm.Binary(4), None, "picture of 1 x 4 x 4"),
        (dgm.Categorical(8, 2), dgm.Binary(4), None, "without inner entries"),
        (dgm.Binary(16), dgm.Binary(6), None, "expected 2 x 2 units for every filter"),
        (dgm.Binary(16), dgm.Binary(3), None, "padding 'valid'"),
        (dgm.Binary(16), dgm.Binary(2, 1, 4), None, "'h' is"),
        (dgm.Binary(16), dgm.Binary(4), 1, "inner got 1"),
        (dgm.Binary(16), dgm.SpikeSlab(4, 3), slice(3, None), "the 3 inner entries"),
        (dgm.Binary(16), dgm.SpikeSlab(4, 3), slice(None, None, 2), "in order"),
    ],
)
def test_layers_that_do_not_fit(visible, hidden, inner, message):
    coupling = dgm.Convolution("v", "h", (4, 4), 3, inner=inner)
    with pytest.raises(ValueError, match=message):
        dgm.Graph({"v": visible, "h": hidden}, [coupling])
