"""Sums over a layer of bits as one node of the graph: against torch in double precision."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import softplus

import pyro_dgm as dgm
from pyro_dgm.native import layer_sums, log_sum_of_layer, processor, team

pytestmark = pytest.mark.usefixtures("way_of_bits")


@pytest.fixture(autouse=True)
def _any_size(monkeypatch):
    monkeypatch.setattr(processor, "multiplies_bits", lambda *_, **__: True)


def parts(rows, inner, columns, transposed=False):
    torch.manual_seed(rows + inner + columns)
    weight = torch.randn(columns, inner).t() if transposed else torch.randn(inner, columns)
    x = (torch.rand(rows, inner) < 0.3).float()
    return x, weight.requires_grad_(), torch.randn(inner, requires_grad=True), torch.randn(columns, requires_grad=True)


def exact(x, weight, bias, plus):
    return x @ bias + softplus(x @ weight + plus).sum(-1)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("shape", [(32, 64, 32), (45, 90, 70), (210, 784, 500), (33, 1100, 40), (1100, 65, 33)])
def test_values_and_gradients(shape, transposed, threads):
    """A field is off by as many roundings as it has terms, of the sum of their sizes; a sum over columns by as many more."""
    x, *parameters = parts(*shape, transposed)
    (rows, inner, columns), roundings = shape, 2.0**-24
    of_rows, before = torch.randn(rows), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = log_sum_of_layer(x, *parameters)
        gradients = torch.autograd.grad(found, parameters, of_rows)
    finally:
        torch.set_num_threads(before)
    assert gradients[0].stride() == parameters[0].stride()
    wide = [p.detach().double().requires_grad_() for p in parameters]
    expected = exact(x.double(), *wide)
    wanted = torch.autograd.grad(expected, wide, of_rows.double())
    sizes = x @ parameters[0].detach().abs() + parameters[2].detach().abs()
    off = roundings * (3 * inner + 12) * sizes  # of each field, and so of its softplus and its sigmoid
    assert ((found - expected).abs() <= off.sum(-1) + roundings * 8 * (inner + columns) * sizes.sum(-1)).all()
    slopes = (off + roundings * (3 * rows + 12)) * of_rows.abs().unsqueeze(-1)
    assert ((gradients[0] - wanted[0]).abs() <= x.t() @ slopes + 1e-6).all()
    assert ((gradients[1] - wanted[1]).abs() <= roundings * 2 * rows * (of_rows.abs() @ x) + 1e-6).all()
    assert ((gradients[2] - wanted[2]).abs() <= slopes.sum(0) + 1e-6).all()


def test_a_second_backward_pass_finds_the_same():
    x, *parameters = parts(40, 70, 50)
    found = log_sum_of_layer(x, *parameters).sum()
    first = torch.autograd.grad(found, parameters, retain_graph=True)
    assert all(map(torch.equal, first, torch.autograd.grad(found, parameters)))


def test_second_derivatives():
    x, *parameters = parts(40, 70, 50)
    turn = [torch.randn_like(p) for p in parameters]
    found = []
    for function, like in ((log_sum_of_layer, torch.float32), (exact, torch.float64)):
        own = [p.detach().to(like).requires_grad_() for p in parameters]
        first = torch.autograd.grad(function(x.to(like), *own).square().sum(), own, create_graph=True)
        along = sum((a * b).sum() for a, b in zip(first, turn, strict=True))
        found.append([g.double() for g in torch.autograd.grad(along, own)])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max()))


def test_what_it_does_not_take_is_left_to_torch():
    x, *parameters = parts(40, 70, 50)
    assert log_sum_of_layer(x, *parameters) is not None
    grey, missing = x.clone(), x.clone()
    grey[39, 69], missing[3, 5] = 0.5, math.nan
    for other in (grey, missing, x.double(), x[0], x[:, 1:], x.clone().requires_grad_(), x.to("meta"), x[:20]):
        assert log_sum_of_layer(other, *parameters) is None
    with torch.autocast("cpu"):
        assert log_sum_of_layer(x, *parameters) is None


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_what_is_not_finite_is_left_to_torch(number, value):
    x, *parameters = parts(40, 70, 50)
    with torch.no_grad():
        parameters[number].view(-1)[7] = value
    assert log_sum_of_layer(x, *parameters) is None


def test_gradients_that_are_not_finite_are_torch_s():
    x, *parameters = parts(40, 70, 50)
    gradients = torch.autograd.grad(log_sum_of_layer(x, *parameters), parameters, torch.full((40,), math.inf))
    assert not gradients[0].isfinite().all()


def test_free_energies_of_machines_of_bits_go_by_it(monkeypatch):
    calls = []
    real = layer_sums._LayerSum.apply
    monkeypatch.setattr(layer_sums._LayerSum, "apply", lambda *a: calls.append(1) or real(*a))
    rbm = dgm.RBM(70, 50)
    x = (torch.rand(40, 70) < 0.3).float()
    free_energy = rbm().free_energy(x)
    (found,) = torch.autograd.grad(free_energy.sum(), rbm.weight)
    wide = [p.detach().double().requires_grad_() for p in (rbm.weight, rbm.visible_bias, rbm.hidden_bias)]
    expected = -exact(x.double(), *wide)
    torch.testing.assert_close(free_energy.double(), expected, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(found.double(), torch.autograd.grad(expected.sum(), wide[0])[0], rtol=1e-4, atol=1e-4)
    assert calls == [1]


def test_gradients_that_lie_otherwise_in_memory():
    """Batches of gradients, which have no memory of their own, and negative views."""
    x, *parameters = parts(40, 70, 50)
    found, many = log_sum_of_layer(x, *parameters), torch.randn(3, 40)
    batch = torch.autograd.grad(found, parameters, many, is_grads_batched=True, retain_graph=True)
    for number, of_rows in enumerate(many):
        expected = torch.autograd.grad(found, parameters, of_rows, retain_graph=True)
        views = torch.autograd.grad(found, parameters, torch._neg_view(-of_rows), retain_graph=True)
        for one, other, view in zip(expected, batch, views, strict=True):
            torch.testing.assert_close(other[number], one, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(view, one, rtol=1e-4, atol=1e-4)


def test_a_bias_may_change_before_the_backward_pass():
    """The gradient does not depend on it."""
    x, *parameters = parts(40, 70, 50)
    found = log_sum_of_layer(x, *parameters)
    expected = torch.autograd.grad(found.sum(), parameters, retain_graph=True)
    with torch.no_grad():
        parameters[1].add_(1)
    assert all(map(torch.equal, expected, torch.autograd.grad(found.sum(), parameters)))


def test_derivatives_are_kept_where_they_can_be_asked_for(monkeypatch):
    kept, run = [], team.run_team
    monkeypatch.setattr(team, "run_team", lambda *a: kept.append(a[-1]) or run(*a))
    x, *parameters = parts(40, 70, 50)
    expected = log_sum_of_layer(x, *parameters)
    with torch.no_grad():
        assert torch.equal(log_sum_of_layer(x, *parameters), expected)
    assert torch.equal(log_sum_of_layer(x, *(p.detach() for p in parameters)), expected)
    assert kept == [True, False, False]
