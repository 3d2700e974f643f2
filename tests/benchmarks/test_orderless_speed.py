"""Speed of orderless models, as ratios: `pytest tests/benchmarks/test_orderless_speed.py --benchmark-only -s`."""

import pytest
import torch
from torch.nn import functional as F

import pyro_dgm as dgm
from pyro_dgm.autoregressive.orderless import Body

from .speed import ratios

pytestmark = pytest.mark.benchmark(group="ratio")


def rows(count):
    return (torch.rand(count, 784) < 0.2).float()


def test_cost_is_linear_in_the_orders(benchmark):
    """Sixteen orders of a 784-500 model against sixteen evaluations of one."""
    model, x = dgm.OrderlessNADE(784), rows(100)
    ratios(
        benchmark,
        "orderless NADE 784-500, 100 rows under 16 orders, against 16 times one order",
        "≤ 1.05",
        rounds=5,
        sixteen=lambda: model.evidence(x, orders=16),
        one_by_one=lambda: [model.evidence(x, orders=1) for _ in range(16)],
    )


def test_one_layer_by_the_recursion(benchmark):
    """An order of 500 rows by the compiled recursion and by torch's operations, column by column, against a training pass."""
    model, x = dgm.OrderlessNADE(784), rows(500)
    order, features = torch.randperm(784), x.unsqueeze(-1)
    known = torch.rand(500, 784) < 0.5
    with torch.no_grad():
        ratios(
            benchmark,
            "orderless NADE 784-500, 500 rows along an order, against one pass of a random subset",
            "",
            rounds=5,
            recursion=lambda: model.body.along(features, order),
            by_columns=lambda: Body.along(model.body, features, order),
            one_pass=lambda: model.body(features, known),
        )


def test_two_layers_against_their_products(benchmark):
    """An order of 500 rows of a 784-500-500 model against the products of its second layer."""
    model, x = dgm.OrderlessNADE(784, (500, 500)), rows(500)
    order, h = torch.randperm(784), torch.rand(500, 500)
    second = model.body.perceptron.middle[1]

    def products():
        for _ in range(784):
            torch.addmm(second.bias, h, second.weight.t())

    with torch.no_grad():
        ratios(
            benchmark,
            "orderless NADE 784-500-500, 500 rows along an order, against its second layer's products",
            "≤ 1.5",
            rounds=3,
            along=lambda: model.body.along(x.unsqueeze(-1), order),
            products=products,
        )


def test_training_step(benchmark):
    """An order-agnostic step, 784-500, batch 100, against bare torch with the same masks for all steps."""
    model, bare, x = dgm.OrderlessNADE(784), dgm.OrderlessNADE(784), rows(100)
    objective = model.objective()
    objective.attach(model)
    optimiser, plain = (torch.optim.Adam(m.parameters(), fused=True) for m in (model, bare))
    own = bare.body.perceptron
    known = (torch.rand(100, 784) < torch.rand(100, 1)).float()

    def fit_step():
        optimiser.zero_grad()
        objective.loss(x).backward()
        optimiser.step()

    def bare_step():
        plain.zero_grad()
        h = torch.relu(F.linear(torch.cat([x * known, known], 1), own.first.weight, own.first.bias))
        logits = F.linear(h, own.last.weight, bare.body.bias[:, 0])
        share = 784 / (784 - known.sum(1, keepdim=True)) / 100
        F.binary_cross_entropy_with_logits(logits, x, (1 - known) * share, reduction="sum").backward()
        plain.step()

    ratios(
        benchmark,
        "order-agnostic step, 784-500, batch 100, against bare torch",
        "≤ 1.5",
        fit=fit_step,
        bare=bare_step,
    )
