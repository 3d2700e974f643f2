"""Boltzmann machines on arbitrary graphs: parameters, refusals, training."""

import pytest
import torch
from oracles import boltzmann as oracle
from pyro.infer import Trace_ELBO

import pyro_dgm as dgm


def test_dense_and_listed_edges_are_the_same_machine():
    dense, x = dgm.BoltzmannMachine.example()
    n = 8
    listed = dgm.BoltzmannMachine(5, 3, edges=[(i, j) for i in range(n) for j in range(i + 1, n)])
    listed.load_state_dict(dense.state_dict())
    torch.testing.assert_close(listed().log_prob(x), dense().log_prob(x))


def test_energy_is_equation_20_2():
    machine = oracle.randomise(dgm.BoltzmannMachine(4), torch.Generator().manual_seed(0))
    U = machine().machine.weights[0]
    x = torch.randint(0, 2, (6, 4)).float()
    expected = -torch.einsum("ni,ij,nj->n", x, U, x) - x @ machine.visible_bias
    torch.testing.assert_close(machine().energy({"visible": x}), expected)
    torch.testing.assert_close(U, U.T)
    assert (U.diagonal() == 0).all()


@pytest.mark.parametrize("edges", [None, [(0, 1), (1, 2), (2, 3), (3, 0), (0, 4), (4, 5)]])
def test_exact_gradient_from_pair_statistics(edges):
    """Data-clamped minus free pair statistics, by enumeration."""
    machine = oracle.randomise(dgm.BoltzmannMachine(4, 2, edges=edges), torch.Generator().manual_seed(1))
    x = torch.randint(0, 2, (5, 4)).float()
    exact = oracle.of_machine(machine)
    _, free = exact.gradients()
    clamped = 0
    for row in x.numpy():
        weight = exact.p * (exact.states[:, :4] == row).all(1)
        clamped += torch.as_tensor((exact.states * (weight / weight.sum())[:, None]).T @ exact.states)
    pairs = edges or [(i, j) for i in range(6) for j in range(i + 1, 6)]
    expected = torch.stack([clamped[i, j] - len(x) * free[i, j] for i, j in pairs]).float()
    program = dgm.negative_phase(machine.model, dgm.ExactNegativePhase())
    Trace_ELBO(max_plate_nesting=1)(program, machine.guide)(x).backward()
    torch.testing.assert_close(-machine.weight.grad, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"edges": [(0, 0)]}, "to itself"),
        ({"edges": [(0, 1), (1, 0)]}, "twice"),
        ({"edges": [(0, 9)]}, "names? unit 9; the units are 0 to"),
        ({"edges": [(0, 1), (-1, 2)]}, "name unit -1; the units are 0 to"),
        ({"edges": "abc"}, "edges got 'abc'; expected pairs of integers"),
        ({"edges": [(0, 1), (2,)]}, "expected pairs of integers"),
        ({"edges": [(0, 1)], "unit": "potts"}, "expected one of"),
        ({"hidden": -1}, "at least 0"),
        ({"edges": [(0.5, 1.0)]}, "integers"),
    ],
)
def test_bad_graphs(options, message):
    with pytest.raises(ValueError, match=message):
        dgm.BoltzmannMachine(4, **options)


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([(0, 1), (-2, 1)], "edges name unit -2 of layer 'a'; the units are 0 to 2"),
        ([(0, 1), (2, 7)], "edges name unit 7 of layer 'b'; the units are 0 to 3"),
        ("abc", "edges got 'abc'"),
    ],
)
def test_sparse_couplings_name_the_unit_that_is_not_there(edges, message):
    layers = {"a": dgm.Binary(3), "b": dgm.Binary(4)}
    with pytest.raises(ValueError, match=message):
        dgm.Graph(layers, [dgm.Sparse("a", "b", edges)])
    assert dgm.Graph(layers, [dgm.Sparse("a", "b", [(0, 1)]), dgm.Sparse("a", "b", [])]).weight_shapes == ((1,), (0,))


def test_a_graph_names_its_layers():
    with pytest.raises(ValueError, match="there are"):
        dgm.Graph({"visible": dgm.Binary(2)}, [dgm.Dense("visible", "hidden")])
    with pytest.raises(ValueError, match="use Lateral"):
        dgm.Dense("visible", "visible")


def test_sampling_a_large_sparse_machine_costs_memory_by_edges():
    """A 32×32 torus: two colours, and a sample of the right law at infinite temperature (all weights zero)."""
    side = 32
    edges = [(r * side + c, r * side + (c + 1) % side) for r in range(side) for c in range(side)]
    edges += [(r * side + c, (r + 1) % side * side + c) for r in range(side) for c in range(side)]
    machine = dgm.BoltzmannMachine(side * side, edges=edges, unit="spin")
    with torch.no_grad():
        machine.weight.zero_()
    x = machine.sample(50, sweeps=2)
    assert x.shape == (50, 1024)
    assert abs(float(x.mean())) < 6 / (50 * 1024) ** 0.5
