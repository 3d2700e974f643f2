"""Sums over real-valued units of several colours, against quadrature and listed Gaussian integrals."""

import math

import numpy as np
import pytest
import torch
from oracles import mixtures as mixture

import pyro_dgm as dgm
from pyro_dgm.energy import Convolution, Machine, exact_sample, log_sum, summable


def drawn(graph, seed=0, scale=0.4, batch=()):
    """A graph with parameters in double precision: precisions of 2, and everything else small."""
    generator = torch.Generator().manual_seed(seed)
    biases = {}
    for name, unit in graph.layers.items():
        eta = [
            scale * torch.randn(*batch, *unit.shape, dtype=torch.double, generator=generator) for _ in unit.statistics
        ]
        if unit.degrees:
            eta[1] = torch.full_like(eta[1], -1.0)
            if unit.gated:
                eta[1][..., 0] = 0
        biases[name] = tuple(eta)
    weights = [scale * torch.randn(*batch, *s, dtype=torch.double, generator=generator) for s in graph.weight_shapes]
    return graph, biases, weights


def slabs():
    """Two spikes, with a slab each, beside one real unit, all of whose statistics are coupled."""
    graph = dgm.Graph(
        {"visible": dgm.Gaussian(1), "hidden": dgm.SpikeSlab(2, 2)},
        [dgm.Dense("visible", "hidden"), dgm.Dense(("visible", 1), "hidden")],
    )
    graph, biases, weights = drawn(graph)
    weights[1][..., [1, 3]] = 0  # the square meets the spikes alone
    return graph, biases, weights


def chain():
    """Real, real and binary layers in a row: the real ones are coupled."""
    layers = {"visible": dgm.Gaussian(2), "middle": dgm.Gaussian(1), "top": dgm.Binary(2)}
    return drawn(dgm.Graph(layers, [dgm.Dense("visible", "middle"), dgm.Dense("middle", "top")]))


def pictures():
    """A spike for both positions of a shared filter on two pixels, and a category that shifts the pixels."""
    layers = {"visible": dgm.Gaussian(2), "hidden": dgm.SpikeSlab(2, 2), "label": dgm.Categorical(1, 3)}
    couplings = [
        Convolution("visible", "hidden", (1, 1, 2), (1, 1), "valid", inner=slice(1, None)),
        dgm.Dense("visible", "label"),
    ]
    return drawn(dgm.Graph(layers, couplings))


MACHINES = pytest.mark.parametrize("make", [slabs, chain, pictures])


def quadrature(machine, points=21, width=5.0):
    """e^-E summed over a grid. Its steps are half a unit: the trapezium rule errs by exp(-2 (pi sd / step)^2), nothing."""
    axis = torch.linspace(-width, width, points, dtype=torch.double)
    layers = machine.graph.layers
    values = []
    for unit in layers.values():
        bits, reals = torch.tensor([0.0, 1.0]), axis
        atom = {dgm.Gaussian: [reals], dgm.SpikeSlab: [bits, reals], dgm.Binary: [bits]}.get(type(unit))
        if atom is None:
            atom = [torch.arange(3.0)]
        values += atom * unit.atoms
    grid = torch.cartesian_prod(*(v.double() for v in values))
    widths = [unit.atoms * (2 if unit.gated else 1) for unit in layers.values()]
    total = []
    for rows in grid.split(1 << 18):
        state = {
            name: torch.nn.functional.one_hot(part.long(), 3).double()
            if name == "label"
            else part.view(-1, *unit.shape)
            for (name, unit), part in zip(layers.items(), rows.split(widths, 1), strict=True)
        }
        total.append((-machine.energy(state)).logsumexp(0))
    dimensions = sum(len(v) == points for v in values)
    return float(torch.stack(total).logsumexp(0)) + dimensions * math.log(2 * width / (points - 1))


@MACHINES
def test_against_quadrature(make):
    dist = dgm.BoltzmannDistribution(*make(), validate_args=True)
    assert summable(dist.machine, {})
    found = dgm.log_partition(dist)
    assert found.exact
    assert float(found.stderr) == 0
    assert float(found.value) == pytest.approx(quadrature(dist.machine), abs=1e-5)


@MACHINES
def test_gradients_are_mean_statistics(make):
    """d log Z / d bias by differences of log Z, each entry moved both ways: no autograd and no graph of the other sum."""
    graph, biases, weights = make()
    leaves = {name: tuple(b.clone().requires_grad_() for b in entry) for name, entry in biases.items()}
    log_sum(Machine(graph, leaves, weights), {}).backward()
    for name, entry in leaves.items():
        for number, bias in enumerate(entry):
            for place in range(bias.numel()):
                if graph.layers[name].gated and number == 1 and place % 2 == 0:
                    continue  # no natural parameter
                moved = []
                for step in (1e-4, -1e-4):
                    other = {n: tuple(b.clone() for b in kept) for n, kept in biases.items()}
                    other[name][number].view(-1)[place] += step
                    moved.append(float(log_sum(Machine(graph, other, weights), {})))
                assert float(bias.grad.view(-1)[place]) == pytest.approx((moved[0] - moved[1]) / 2e-4, abs=1e-5)


def test_contexts_and_given_layers():
    """A row of parameters each, and a layer given: as one by one, and as listed Gaussian integrals say."""
    model, x = dgm.CoupledSlabRBM.example()
    rows = x[:5]
    with torch.no_grad():
        torch.testing.assert_close(model().free_energy(rows), model.free_energy_exact(rows), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(dgm.log_partition(model()).value, model.exact_log_partition(), atol=1e-5, rtol=1e-5)
        ssrbm = dgm.SpikeSlabRBM.example()[0].double()
        shifts = torch.randn(3, 3, dtype=torch.double, generator=torch.Generator().manual_seed(1))
        together = dgm.log_partition(ssrbm(hidden_shift=shifts)).value
        for shift, value in zip(shifts, together, strict=True):
            ssrbm.hidden_bias += shift
            assert float(value) == pytest.approx(mixture.of_spike_slab_rbm(ssrbm).log_z, abs=1e-9)
            ssrbm.hidden_bias -= shift


def test_many_spikes_by_listed_integrals():
    """More states than go through together, against NumPy's sum over h with determinants."""
    ssrbm = dgm.SpikeSlabRBM(40, 8, slabs=2).double()
    with torch.no_grad():
        for parameter in ssrbm.parameters():
            parameter.copy_(
                0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
            )
    exact = mixture.of_spike_slab_rbm(ssrbm)
    assert float(dgm.log_partition(ssrbm()).value) == pytest.approx(exact.log_z, abs=1e-9)
    assert np.ptp(exact.p) > 1e-4


def test_too_many_spikes():
    ssrbm = dgm.SpikeSlabRBM(6, 13)
    assert not summable(ssrbm().machine, {})
    with pytest.raises(dgm.NotEnumerable, match=r"2\^13 integrals .* at most 2\^12"):
        dgm.log_partition(ssrbm())


def test_no_integral():
    """Couplings beyond the precisions, in a distribution that does not check them."""
    machine = Machine(*slabs())
    machine.weights[0].mul_(30)
    with pytest.raises(ValueError, match="visible, hidden have no joint normaliser"):
        log_sum(machine, {})


def test_not_quadratic():
    """x² s is no quadratic form; validation refuses it, and the sum by itself too."""
    machine = Machine(*slabs())
    machine.weights[1].fill_(0.1)
    with pytest.raises(dgm.NotEnumerable, match="not quadratic"):
        log_sum(machine, {})


def test_real_valued_units_are_not_listed():
    with pytest.raises(dgm.NotEnumerable, match="no list of states"):
        dgm.energy.all_states(Machine(*slabs()))
    with pytest.raises(dgm.NotEnumerable, match="exact draws"):
        exact_sample(Machine(*slabs()), 3)
