"""NADE against its equation in NumPy, enumeration, and the mean field of a restricted Boltzmann machine."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
import torch
from oracles import boltzmann as oracle

import pyro_dgm as dgm
from pyro_dgm.energy.mean_field import mean_field
from pyro_dgm.native import processor

ORDERS = [*itertools.permutations(range(3)), (4, 0, 3, 1, 2), (9, 3, 1, 0, 7, 2, 4, 8, 6, 5)]


def states(*sizes):
    return torch.tensor(list(itertools.product(*(range(n) for n in sizes)))).float()


def random(model, seed=0, scale=1.0):
    return oracle.randomise(model, torch.Generator().manual_seed(seed), scale)


def array(parameter):
    return parameter.detach().double().numpy()


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def by_hand(model, x):
    """log p of one row of bits, from the book's equation, column by column."""
    net = model.network
    W, c, b = array(net.inputs)[:, 0], array(net.hidden_bias), array(net.bias)[:, 0]
    V = W if model.tied else array(net.outputs)[:, 0]
    total, order = 0.0, net.order.tolist()
    for place, i in enumerate(order):
        a = c + sum(W[j] * x[j] for j in order[:place])
        h = np.maximum(a, 0) if model.activation == "relu" else sigmoid(a)
        p = sigmoid(b[i] + V[i] @ h)
        total += np.log(p if x[i] else 1 - p)
    return total


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("options", [{}, {"tied": True}, {"activation": "relu"}])
def test_log_probabilities_are_the_equation_s(monkeypatch, options, large):
    if large:
        monkeypatch.setattr(processor, "RECURSION_STEP", math.inf)
    model = random(dgm.NADE(5, 7, order=[3, 0, 4, 1, 2], **options))
    x = states(2, 2, 2, 2, 2)
    np.testing.assert_allclose(model().log_prob(x).detach(), [by_hand(model, row) for row in x.tolist()], atol=2e-5)


@pytest.mark.parametrize("tied", [False, True])
def test_sums_to_one_in_every_order(tied):
    for order in ORDERS:
        model = random(dgm.NADE(len(order), 6, order=list(order), tied=tied))
        total = model().log_prob(states(*[2] * len(order))).logsumexp(0)
        assert abs(total.item()) < 1e-5, order


def test_families_sum_to_one():
    model = random(dgm.NADE(3, 5, output=["binary", "categorical:3", "categorical:4"], order=1))
    assert abs(model().log_prob(states(2, 3, 4)).logsumexp(0).item()) < 1e-5


@pytest.mark.parametrize("tied", [False, True])
def test_gaussian_columns_integrate_to_one(tied):
    model = random(dgm.NADE(2, 5, output="gaussian", order=[1, 0], tied=tied), scale=0.3).double()
    grid = torch.linspace(-20, 20, 301, dtype=torch.float64)
    with torch.no_grad():
        density = model().log_prob(torch.cartesian_prod(grid, grid)).exp().view(301, 301)
    assert abs(float(torch.trapezoid(torch.trapezoid(density, grid), grid)) - 1) < 1e-6


def test_tied_weights_are_the_first_mean_field_step_of_a_restricted_machine():
    """Unseen units start at zero; the machine fills in the first of them."""
    order = [2, 0, 3, 1, 4]
    model, rbm = random(dgm.NADE(5, 4, order=order, tied=True)), dgm.RBM(5, 4)
    with torch.no_grad():
        rbm.weight.copy_(model.network.inputs[:, 0])
        rbm.visible_bias.copy_(model.network.bias[:, 0])
        rbm.hidden_bias.copy_(model.network.hidden_bias)
    machine, x = rbm().machine, states(2, 2, 2, 2, 2)
    p = model().numbers(x).squeeze(-1).sigmoid()
    for place, column in enumerate(order):
        seen = torch.zeros_like(x)
        seen[:, order[:place]] = x[:, order[:place]]
        hidden = mean_field(machine, {"visible": seen}, rounds=1).statistics["hidden"][0]
        visible = mean_field(machine, {"hidden": hidden}, rounds=1).statistics["visible"][0]
        torch.testing.assert_close(p[:, column], visible[:, column])


def test_drawn_as_scored():
    model, n = random(dgm.NADE(4, 6, order=[3, 1, 0, 2])), 20_000
    torch.manual_seed(0)
    p = model().log_prob(states(2, 2, 2, 2)).exp().detach().double().numpy()
    counts = np.bincount((model.sample(n).numpy() @ [8, 4, 2, 1]).astype(int), minlength=16)
    # A chi-square test that fails a right sampler once in a million; no cell expects fewer than five draws.
    assert n * p.min() > 5
    assert scipy.stats.chisquare(counts, n * p / p.sum()).pvalue > 1e-6


@pytest.mark.parametrize(
    ("output", "options"),
    [
        ("binary", {"tied": True}),
        ("binary", {"activation": "relu"}),
        ("gaussian", {"tied": True}),
        (["binary", "categorical:3", "gaussians:2", "binary"], {"context": 2}),
    ],
)
def test_a_walk_along_the_order_meets_the_same_numbers(output, options):
    model = random(dgm.NADE(4, 6, output=output, order=[3, 1, 0, 2], **options))
    x = torch.tensor([[1.0, 2.0, 0.3, 0.0], [0.0, 1.0, -1.2, 1.0]])
    context = torch.randn(2, 2) if options.get("context") else None
    dist = model(context)
    numbers, met = dist.numbers(x), {}

    def choose(column, own):
        met[column] = own
        return x[:, column]

    assert torch.equal(model.network.walk(choose, model.conditionals, 2, context), x)
    for column, own in met.items():
        torch.testing.assert_close(own, numbers[:, column])
    assert list(met) == [3, 1, 0, 2]


def test_a_context_shifts_the_biases():
    model, plain = random(dgm.NADE(4, 6, order=2, context=3)), dgm.NADE(4, 6, order=2)
    plain.load_state_dict({n: p for n, p in model.state_dict().items() if "context" not in n})
    context, x = torch.tensor([0.5, -1.0, 2.0]), states(2, 2, 2, 2)
    net = model.network
    with torch.no_grad():
        plain.network.hidden_bias += net.hidden_context.weight @ context
        plain.network.bias += (net.context.weight @ context).view(4, 1)
    torch.testing.assert_close(model(context).log_prob(x), plain().log_prob(x))
    torch.testing.assert_close(model().log_prob(x), model(torch.zeros(3)).log_prob(x))


def test_starts_at_independent_columns():
    model, x = dgm.NADE(4, 6), torch.tensor([[1.0, 0, 0, 1], [1, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1]])
    with torch.no_grad():
        model.network.outputs.zero_()
    model.initialise(x)
    torch.testing.assert_close(
        model().numbers(x[:1]).squeeze(-1).sigmoid()[0], x.mean(0).clamp(0.01, 0.99), rtol=1e-4, atol=0
    )


def test_learns_what_independent_columns_cannot():
    """Three bits of which the third is the exclusive or of the others: log p = -2 log 2 at best."""
    torch.manual_seed(0)
    x = torch.tensor([[0.0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]])
    model = dgm.NADE(3, 10)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(80):
        optimiser.zero_grad()
        loss = -model().log_prob(x).mean()
        loss.backward()
        optimiser.step()
    assert 2 * np.log(2) - 1e-6 < loss.item() < 2 * np.log(2) + 0.05


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"visible": 0}, "visible"),
        ({"hidden": 0}, "hidden"),
        ({"activation": "tanh"}, "activation"),
        ({"order": [0, 0, 1]}, "order"),
        ({"output": "categorical:3", "tied": True}, "tied"),
        ({"output": "gaussians:2", "tied": True}, "tied"),
    ],
)
def test_refusals(options, match):
    with pytest.raises(ValueError, match=match):
        dgm.NADE(**{"visible": 3, **options})
