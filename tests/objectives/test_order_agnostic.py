"""The order-agnostic loss against enumeration of subsets and orders."""

import itertools
import math

import numpy as np
import pytest
import torch
from oracles import orders as orderless

import pyro_dgm as dgm
from pyro_dgm.autoregressive import AutoregressiveDistribution, OrderEnsemble
from pyro_dgm.autoregressive.orderless import OrderOfBody
from pyro_dgm.objectives.criteria.order_agnostic import random_subsets, subset_loss

MODELS = {
    "perceptron": (lambda: dgm.OrderlessNADE(4, (5, 4)), orderless.perceptron),
    "nadek": (lambda: dgm.NADEk(4, (5,), k=1), orderless.repeated),
    "convolutional": (lambda: dgm.ConvolutionalNADE(4, (2, 2), (3, 3)), orderless.convolutional),
}


def randomised(make):
    model = make().double()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return model


def proper_subsets(columns):
    """Every mask with an unknown column, and its probability: 1/D for its size, uniform given the size."""
    for d in range(columns):
        for subset in itertools.combinations(range(columns), d):
            yield torch.isin(torch.arange(columns), torch.tensor(subset)), 1 / (columns * math.comb(columns, d))


def expected_loss(model, x):
    return sum(p * subset_loss(model, x, known.expand(x.shape)) for known, p in proper_subsets(x.shape[1]))


def all_orders(model):
    return [
        AutoregressiveDistribution(OrderOfBody(model.body, order), model.conditionals)
        for order in orderless.orders(model.visible)
    ]


@pytest.mark.parametrize("name", MODELS)
def test_its_mean_over_subsets_is_the_mean_over_all_orders(name):
    make, oracle = MODELS[name]
    model = randomised(make)
    x = orderless.states(4)
    found = expected_loss(model, torch.tensor(x)).detach()
    ones = oracle(model)
    joints = [orderless.log_joint(ones, x, order) for order in orderless.orders(4)]
    np.testing.assert_allclose(found, -np.mean(joints, 0), atol=1e-10)
    np.testing.assert_allclose(found, orderless.order_agnostic_loss(ones, x), atol=1e-10)


def test_its_gradient_is_that_of_the_mean_over_all_orders():
    """By autograd through another path (orders, column by column), and by finite differences for a mask."""
    model = randomised(lambda: dgm.OrderlessNADE(4, (5,), activation="softplus"))
    x = torch.tensor(orderless.states(4))[::3]
    by_subsets = torch.autograd.grad(expected_loss(model, x).sum(), list(model.parameters()))
    by_orders = torch.autograd.grad(
        -torch.stack([d.log_prob(x) for d in all_orders(model)]).mean(0).sum(), list(model.parameters())
    )
    for found, expected in zip(by_subsets, by_orders, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-9)
        assert float(expected.abs().max()) > 0.01
    known = torch.tensor([[True, False, True, False]]).expand(x.shape)
    weight = model.body.perceptron.first.weight
    (gradient,) = torch.autograd.grad(subset_loss(model, x, known).sum(), weight)
    for i, j in ((0, 0), (2, 1), (4, 5)):
        ends = []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                weight[i, j] += step
                ends.append(float(subset_loss(model, x, known).sum()))
                weight[i, j] -= step
        assert float(gradient[i, j]) == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-7)


def test_it_bounds_what_mixtures_of_orders_lose():
    """Jensen: loss >= mean loss of pairs of orders >= loss of the mixture of all, each strictly here."""
    model = randomised(lambda: dgm.OrderlessNADE(4, (5,)))
    x = torch.tensor(orderless.states(4))
    orders = all_orders(model)
    with torch.no_grad():
        loss = expected_loss(model, x)
        each = torch.stack([d.log_prob(x) for d in orders])
        pairs = torch.logsumexp(
            torch.stack([each.unsqueeze(0).expand(24, -1, -1), each.unsqueeze(1).expand(-1, 24, -1)]), 0
        )
        two = -(pairs - math.log(2)).mean((0, 1))
        everything = -OrderEnsemble(orders).log_prob(x)
    assert bool((loss > two).all())
    assert bool((two > everything).all())


def test_batches_have_that_mean():
    model = randomised(lambda: dgm.OrderlessNADE(4, (5,)))
    x = torch.tensor(orderless.states(4))
    objective = model.objective()
    assert isinstance(objective, dgm.OrderAgnostic)
    assert objective.options() == {"objective": "OrderAgnostic"}
    objective.attach(model)
    with torch.no_grad():
        draws = torch.stack([objective.loss(x) for _ in range(1000)])
        exact = float(expected_loss(model, x).mean())
    stderr = float(draws.std()) / 1000**0.5
    assert abs(float(draws.mean()) - exact) < 5 * stderr
    assert stderr < 0.02 * exact


def test_the_number_of_known_columns_is_uniform_and_so_is_the_subset():
    """A row's mask, whatever its place in the batch; counts of 4000 draws within five standard errors."""
    masks = torch.stack([random_subsets(5, 3) for _ in range(4000)])
    for row in (0, 2, 4):
        for known, p in proper_subsets(3):
            share = float((masks[:, row] == known).all(-1).double().mean())
            assert abs(share - p) < 5 * (p * (1 - p) / 4000) ** 0.5
        assert not bool(masks[:, row].all(-1).any())
    assert not bool(random_subsets(50, 1).any())


def test_rows_of_a_batch_have_masks_of_their_own_and_spread_sizes():
    known = random_subsets(100, 200)
    assert len(known.unique(dim=0)) > 95
    sizes = known.sum(1).double().sort().values
    # Shares in 100 strata: the k-th smallest size is 2 k + 1 up to a stratum and five binomial standard errors (7.1 at most).
    assert float((sizes - (2 * torch.arange(100) + 1)).abs().max()) < 2 + 5 * 7.1
    again = [random_subsets(4, 6, generator=torch.Generator().manual_seed(1)) for _ in range(2)]
    assert torch.equal(*again)


@pytest.mark.parametrize("make", [make for make, _ in MODELS.values()], ids=MODELS)
def test_unknown_columns_are_not_seen(make):
    model = randomised(make)
    x = torch.tensor(orderless.states(4))
    for known, _ in proper_subsets(4):
        hidden = torch.where(known, x, torch.nan).unsqueeze(-1)
        seen = model.body(x.unsqueeze(-1), known)
        np.testing.assert_array_equal(model.body(hidden, known).detach(), seen.detach())
    first = torch.tensor([True, False, False, False])
    seen = model.body(x.unsqueeze(-1), first).detach()
    assert float((seen[0] - seen[8]).abs().max()) > 0.01  # rows that differ in the known column


def test_rounds_are_averaged():
    model = randomised(lambda: dgm.NADEk(4, (5,), k=3))
    x = torch.tensor(orderless.states(4))
    known = torch.tensor([True, False, False, True])
    found = subset_loss(model, x, known.expand(x.shape)).detach()
    each = []
    for k in (1, 2, 3):
        shorter = dgm.NADEk(4, (5,), k=k).double()
        shorter.load_state_dict(model.state_dict())
        terms = orderless.conditionals(orderless.repeated(shorter), x.numpy(), known.numpy())
        each.append(-terms[:, ~known.numpy()].sum(1) * 4 / 2)
    np.testing.assert_allclose(found, np.mean(each, 0), atol=1e-10)
    assert abs(each[0] - each[2]).max() > 0.01
