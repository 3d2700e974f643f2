"""Energies, fields, conditionals and sums of every graph against enumeration in NumPy."""

import itertools
import math

import numpy as np
import pytest
import torch
from oracles import boltzmann as oracle

import pyro_dgm as dgm
from pyro_dgm.energy import Machine, all_states, enumeration, exact_sample, log_sum
from pyro_dgm.energy.mean_field import mean_field

MACHINES = oracle.machines()
CASES = pytest.mark.parametrize(("name", "model", "exact"), MACHINES, ids=[m[0] for m in MACHINES])


def split(states, model, dtype=torch.float64):
    sizes = {name: unit.shape[0] for name, unit in model().machine.graph.layers.items()}
    return dict(zip(sizes, torch.as_tensor(states, dtype=dtype).split(list(sizes.values()), -1), strict=True))


def double(model):
    machine = model().machine
    return Machine(
        machine.graph,
        {k: tuple(b.detach().double() for b in v) for k, v in machine.biases.items()},
        [w.detach().double() for w in machine.weights],
    )


@CASES
def test_energy(name, model, exact):
    np.testing.assert_allclose(double(model).energy(split(exact.states, model)), -exact.log_weights, atol=1e-9)


@CASES
def test_fields_are_minus_the_derivative_of_the_energy(name, model, exact):
    machine = double(model)
    state = {k: v.clone().requires_grad_() for k, v in split(exact.states[5:9], model).items()}
    gradients = torch.autograd.grad(-machine.energy(state).sum(), list(state.values()))
    statistics = machine.statistics(state)
    for layer, gradient in zip(state, gradients, strict=True):
        torch.testing.assert_close(machine.fields(machine.graph.block(layer), statistics)[0], gradient)
        atoms = torch.tensor([machine.graph.layers[layer].atoms - 1, 0])
        part = machine.fields(machine.graph.block(layer, atoms), statistics)[0]
        torch.testing.assert_close(part, gradient[:, atoms])


@CASES
def test_free_energy_and_log_prob(name, model, exact):
    visible = np.unique(exact.states[:, : exact.visible], axis=0)
    expected = exact.marginal(visible)
    x = torch.as_tensor(visible, dtype=torch.float32)
    np.testing.assert_allclose(-model().free_energy(x).detach(), expected, atol=2e-5)
    np.testing.assert_allclose(model().log_prob(x).detach(), expected - exact.log_z, atol=2e-5)
    assert math.isclose(float(model().log_prob(x).detach().exp().sum()), 1.0, abs_tol=1e-5)


@CASES
def test_log_partition_by_every_chunking(name, model, exact):
    machine = double(model)
    assert math.isclose(float(log_sum(machine, {})), exact.log_z, abs_tol=1e-9)
    assert math.isclose(float(log_sum(machine, {}, chunk=3)), exact.log_z, abs_tol=1e-9)


def test_fewer_states_go_at_once_where_there_are_many_rows(monkeypatch):
    dbm = dgm.DBM(5, (6, 3))
    x = torch.tensor(list(itertools.product((0.0, 1.0), repeat=5)))
    expected, collapsed, seen = dbm().free_energy(x), Machine.collapsed, []

    def watched(machine, colour, state, *rest):
        total = collapsed(machine, colour, state, *rest)
        seen.append(total.numel())
        return total

    monkeypatch.setattr(Machine, "collapsed", watched)
    monkeypatch.setattr(
        enumeration, "ENTRIES", 2 * len(x) * 8
    )  # the widest colour: the visible units and the upper three
    torch.testing.assert_close(dbm().free_energy(x), expected)
    assert set(seen) == {2 * len(x)}


@CASES
def test_collapsing_any_colour(name, model, exact):
    machine = double(model)
    state = split(exact.states, model)
    offsets = dict(zip(state, np.cumsum([0, *(x.shape[1] for x in state.values())]), strict=False))
    for colour in machine.graph.colours:
        summed = {
            int(offsets[b.layer]) + a
            for b in colour
            for a in (range(machine.graph.layers[b.layer].atoms) if b.atoms is None else b.atoms.tolist())
        }
        kept = [u for u in range(len(exact.b)) if u not in summed]
        row = 11 % len(exact.states)
        same = (exact.states[:, kept] == exact.states[row, kept]).all(1)
        expected = oracle.logsumexp(exact.log_weights[same])
        assert math.isclose(float(machine.collapsed(colour, state)[row]), expected, abs_tol=1e-9)


@CASES
def test_listing_and_exact_draws(name, model, exact):
    machine = double(model)
    listed = torch.cat([all_states(machine)[layer] for layer in machine.graph.layers], -1).numpy()
    assert len(np.unique(listed, axis=0)) == len(exact.states) == len(listed)
    n = 50_000
    state = exact_sample(machine, n)
    draws = torch.cat([state[layer] for layer in machine.graph.layers], -1)
    distance = 0.5 * np.abs(oracle.frequencies(exact, draws) - exact.p).sum()
    assert distance < oracle.total_variation_bound(exact.p, n)


@CASES
def test_a_colour_has_no_coupling_inside(name, model, exact):
    graph = model().machine.graph
    offset, first = {}, 0
    for layer, unit in graph.layers.items():
        offset[layer] = first
        first += unit.atoms
    seen = []
    for colour in graph.colours:
        units = [
            offset[b.layer] + a
            for b in colour
            for a in (range(graph.layers[b.layer].atoms) if b.atoms is None else b.atoms.tolist())
        ]
        assert (exact.J[np.ix_(units, units)] == 0).all()
        seen += units
    assert sorted(seen) == list(range(len(exact.b)))


def test_number_of_colours():
    assert len(dgm.RBM(3, 2)().machine.graph.colours) == 2
    assert len(dgm.BoltzmannMachine(5)().machine.graph.colours) == 5
    lattice = [(r * 6 + c, r * 6 + (c + 1) % 6) for r in range(6) for c in range(6)]
    lattice += [(r * 6 + c, (r + 1) % 6 * 6 + c) for r in range(6) for c in range(6)]
    assert len(dgm.BoltzmannMachine(36, edges=lattice, unit="spin")().machine.graph.colours) == 2
    triangle = dgm.BoltzmannMachine(3, edges=[(0, 1), (1, 2), (2, 0)])
    assert len(triangle().machine.graph.colours) == 3


def test_mean_field_of_an_rbm_is_its_posterior():
    rbm, x = dgm.RBM.example()
    exact = oracle.of_rbm(rbm)
    means = mean_field(rbm().machine, {"visible": x}, rounds=1).statistics["hidden"][0].detach()
    for row, mean in zip(x.numpy(), means.numpy(), strict=True):
        weight = exact.p * (exact.states[:, :6] == row).all(1)
        np.testing.assert_allclose(mean, weight @ exact.states[:, 6:] / weight.sum(), atol=1e-5)


def test_mean_field_reaches_a_fixed_point():
    machine, x = dgm.BoltzmannMachine.example()
    bound = machine().machine
    means = mean_field(bound, {"visible": x}, rounds=300).statistics
    again = mean_field(bound, {"visible": x}, rounds=1, start=means).statistics
    torch.testing.assert_close(means["hidden"][0], again["hidden"][0], atol=1e-4, rtol=1e-4)


def gaussian_machine():
    """Two coupled Gaussian layers: the joint is a normal with a known precision matrix."""
    graph = dgm.Graph({"visible": dgm.Gaussian(3), "hidden": dgm.Gaussian(2)}, [dgm.Dense("visible", "hidden")])
    g = torch.Generator().manual_seed(5)
    b, c = torch.randn(3, generator=g).double(), torch.randn(2, generator=g).double()
    precision = torch.tensor([1.5, 2.0, 1.2]).double(), torch.tensor([1.0, 1.8]).double()
    W = 0.4 * torch.randn(3, 2, generator=g).double()
    dist = dgm.BoltzmannDistribution(graph, {"visible": (b, -precision[0] / 2), "hidden": (c, -precision[1] / 2)}, (W,))
    P = torch.block_diag(precision[0].diag(), precision[1].diag())
    P[:3, 3:], P[3:, :3] = -W, -W.T
    return dist, P, torch.cat([b, c])


def test_gaussian_layers_have_the_marginal_of_the_normal():
    """p(v) from the joint normal's covariance; the free energy differs from it by log Z, from a determinant."""
    dist, P, bias = gaussian_machine()
    mean, covariance = torch.linalg.solve(P, bias), torch.linalg.inv(P)
    log_z = 0.5 * (bias @ mean + 5 * math.log(2 * math.pi) - torch.logdet(P))
    x = torch.randn(20, 3).double()
    expected = torch.distributions.MultivariateNormal(mean[:3], covariance[:3, :3]).log_prob(x)
    torch.testing.assert_close(-dist.free_energy(x) - log_z, expected)
    torch.testing.assert_close(dist.with_log_partition(log_z).log_prob(x), expected)


def test_gaussian_chain_has_the_moments_of_the_normal():
    dist, P, bias = gaussian_machine()
    mean, covariance = torch.linalg.solve(P, bias), torch.linalg.inv(P)
    n = 40_000
    draws = torch.distributions.MultivariateNormal(mean, covariance).sample((n,))
    state = {"visible": draws[:, :3], "hidden": draws[:, 3:]}
    for _ in range(3):
        state = dist.machine.sweep(state)
    final = torch.cat([state["visible"], state["hidden"]], -1)
    assert ((final.mean(0) - mean).abs() < 6 * covariance.diagonal().sqrt() / math.sqrt(n)).all()
    spread = (covariance.diagonal()[:, None] * covariance.diagonal() + covariance**2).sqrt()
    assert ((final.T.cov() - covariance).abs() < 6 * spread / math.sqrt(n)).all()


def categorical_machine():
    graph = dgm.Graph({"visible": dgm.Categorical(2, 3), "hidden": dgm.Binary(2)}, [dgm.Dense("visible", "hidden")])
    g = torch.Generator().manual_seed(6)
    biases = {"visible": (torch.randn(2, 3, generator=g),), "hidden": (torch.randn(2, generator=g),)}
    return dgm.BoltzmannDistribution(graph, biases, (torch.randn(6, 2, generator=g),))


def test_categorical_layers_by_enumeration():
    dist = categorical_machine()
    state = all_states(dist.machine)
    assert len(state["visible"]) == 9 * 4
    joint = -dist.energy(state)
    assert math.isclose(float(joint.logsumexp(0)), float(dist.exact_log_partition()), abs_tol=1e-5)
    rows = state["visible"].unique(dim=0)
    expected = [joint[(state["visible"] == row).all(-1).all(-1)].logsumexp(0) for row in rows]
    torch.testing.assert_close(-dist.free_energy(rows), torch.stack(expected))
    assert dist.support.check(rows).all()
    assert not dist.support.check(torch.full((2, 3), 0.5)).any()


def test_categorical_chain_is_stationary():
    dist, n = categorical_machine(), 40_000
    state = exact_sample(dist.machine, n)
    for _ in range(2):
        state = dist.machine.sweep(state)
    listed = all_states(dist.machine)
    p = torch.softmax(-dist.energy(listed), 0).double().numpy()
    weights = 2.0 ** torch.arange(8)
    key = {float(k): i for i, k in enumerate(torch.cat([listed["visible"].flatten(1), listed["hidden"]], 1) @ weights)}
    seen = (torch.cat([state["visible"].flatten(1), state["hidden"]], 1) @ weights).tolist()
    counts = np.bincount([key[k] for k in seen], minlength=len(p)) / n
    assert 0.5 * np.abs(counts - p).sum() < oracle.total_variation_bound(p, n)


def test_mean_field_entropy_of_a_row_does_not_depend_on_its_batch():
    """Natural parameters that all rows share (a slab's precision) count once a row."""
    ssrbm, x = dgm.SpikeSlabRBM.example()
    machine = ssrbm().machine
    together = mean_field(machine, {"visible": x}, 3).entropy
    alone = torch.stack([mean_field(machine, {"visible": row.unsqueeze(0)}, 3).entropy.squeeze() for row in x])
    assert together.shape == (len(x),)
    torch.testing.assert_close(together, alone)
