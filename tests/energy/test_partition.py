"""Annealing brackets log Z, and published values are met."""

import math

import oracle
import pytest
import torch

import pyro_dgm as dgm
from pyro_dgm.energy import AnnealingPath, exact_sample, forward_ais, reverse_ais

MACHINES = oracle.machines()
CASES = pytest.mark.parametrize(("name", "model", "exact"), MACHINES, ids=[m[0] for m in MACHINES])


def torus(side, coupling):
    edges = [(r * side + c, r * side + (c + 1) % side) for r in range(side) for c in range(side)]
    edges += [(r * side + c, (r + 1) % side * side + c) for r in range(side) for c in range(side)]
    machine = dgm.BoltzmannMachine(side * side, edges=edges, unit="spin").double()
    with torch.no_grad():
        machine.weight.fill_(coupling)
    return machine


@pytest.mark.parametrize(("coupling", "expected"), [(0.4406867935, 15.5219154588), (0.2, 11.7714703585)])
def test_ising_torus_4x4(coupling, expected):
    assert math.isclose(float(dgm.log_partition(torus(4, coupling)()).value.detach()), expected, abs_tol=1e-8)


def test_ising_ring():
    ring = dgm.BoltzmannMachine(10, edges=[(i, (i + 1) % 10) for i in range(10)], unit="spin").double()
    with torch.no_grad():
        ring.weight.fill_(0.5)
    assert math.isclose(float(dgm.log_partition(ring()).value.detach()), 8.1330609176, abs_tol=1e-9)


@pytest.mark.parametrize(
    ("coupling", "expected"), [(0.4406867935, 60.1417807891), (0.2, 47.0101474224), (0.6, 78.1416488576)]
)
def test_ising_torus_8x8_by_annealing(coupling, expected):
    """Five standard errors of the forward estimate, whose relative error the delta method gives."""
    result = dgm.log_partition(torus(8, coupling)(), "ais", chains=500, temperatures=600, reverse=False)
    assert abs(float(result.value) - expected) < 5 * float(result.stderr)
    assert float(result.stderr) < 0.1
    assert float(result.lower) < expected + 5 * float(result.stderr)
    assert float(result.lower) <= float(result.value)


@CASES
def test_forward_weights_average_to_z(name, model, exact):
    """E[w] = Z / Z_base exactly, for few temperatures too; a sum of 20,000 weights stays within six standard errors."""
    machine = model().machine
    base = {layer: unit.neutral(torch.zeros(1)) for layer, unit in machine.graph.layers.items()}
    path = AnnealingPath(machine, base)
    with torch.no_grad():
        weights, _ = forward_ais(path, torch.linspace(0, 1, 6), 20_000, torch.Size())
        ratio = (weights.double() + path.log_base() - exact.log_z).exp()
    assert abs(float(ratio.mean()) - 1) < 6 * float(ratio.std()) / math.sqrt(len(ratio))
    assert float(ratio.std()) > 1e-3


@CASES
def test_reverse_weights_from_exact_states_average_to_one_over_z(name, model, exact):
    machine = model().machine
    base = {layer: unit.neutral(torch.zeros(1)) for layer, unit in machine.graph.layers.items()}
    path = AnnealingPath(machine, base)
    with torch.no_grad():
        weights = reverse_ais(path, torch.linspace(0, 1, 6), exact_sample(machine, 20_000))
        ratio = (weights.double() - path.log_base() + exact.log_z).exp()
    assert abs(float(ratio.mean()) - 1) < 6 * float(ratio.std()) / math.sqrt(len(ratio))


@CASES
def test_forward_and_reverse_bracket_log_z(name, model, exact):
    """The means of log w are bounds in expectation: with 2000 chains they hold within five standard errors."""
    result = dgm.log_partition(model(), "ais", chains=2000, temperatures=20)
    slack = 5 * 2 / math.sqrt(2000)
    assert float(result.lower) < exact.log_z + slack
    assert float(result.upper) > exact.log_z - slack
    assert float(result.lower) < float(result.upper)
    assert abs(float(result.value) - exact.log_z) < 6 * float(result.stderr)


def test_contexts_have_a_log_partition_each():
    rbm, _ = dgm.RBM.example()
    shifts = torch.randn(3, 6)
    exact = [float(dgm.log_partition(rbm(visible_shift=s)).value) for s in shifts]
    together = dgm.log_partition(rbm(visible_shift=shifts))
    torch.testing.assert_close(together.value.detach(), torch.tensor(exact))
    annealed = dgm.log_partition(rbm(visible_shift=shifts), "ais", chains=2000, temperatures=100)
    assert annealed.value.shape == (3,)
    assert ((annealed.value - together.value).abs() < 6 * annealed.stderr + 1e-3).all()


def test_bars_and_stripes_optimum_is_what_enumeration_says():
    """The uniform distribution over the 14 distinct 3×3 pictures has this log-likelihood over the 16 generated rows."""
    rows = []
    for bits in range(8):
        line = torch.tensor([float(bits >> i & 1) for i in range(3)])
        rows += [line.repeat(3, 1).flatten(), line.repeat(3, 1).T.flatten()]
    rows = torch.stack(rows)
    _, counts = rows.unique(dim=0, return_counts=True)
    best = float((counts / 16 * (counts / 16).log()).sum())
    assert math.isclose(best, -2.5993019271, abs_tol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"method": "magic"}, "expected one of"), ({"method": "ais", "chains": 1}, "at least 2"),
     ({"method": "ais", "temperatures": 1}, "at least 2")],
)  # fmt: skip
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        dgm.log_partition(dgm.RBM.example()[0](), **options)


def test_too_many_states_for_an_exact_sum():
    with pytest.raises(dgm.NotEnumerable, match="ais"):
        dgm.log_partition(dgm.RBM(100, 100)())
