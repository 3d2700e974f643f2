"""Orderless NADE against enumeration of rows, orders and subsets."""

import itertools

import numpy as np
import pytest
import scipy.stats
import torch
from oracles import orders as orderless

import pyro_dgm as dgm
from pyro_dgm.autoregressive import AutoregressiveDistribution, OrderEnsemble
from pyro_dgm.autoregressive.orderless import Body, OrderOfBody, random_orders

SHAPES = pytest.mark.parametrize(
    ("hidden", "activation"),
    [((6,), "relu"), ((5,), "tanh"), ((5, 6), "relu")],
    ids=["one layer", "tanh", "two layers"],
)


def model(columns=4, hidden=(6,), activation="relu", scale=1.0, seed=1, **options):
    made = dgm.OrderlessNADE(columns, hidden, activation=activation, **options).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in made.parameters():
            p.copy_(scale * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return made


def along(made, order):
    return AutoregressiveDistribution(OrderOfBody(made.body, order), made.conditionals)


@SHAPES
def test_every_order_is_a_distribution_and_the_product_of_its_conditionals(hidden, activation):
    made = model(hidden=hidden, activation=activation)
    x = orderless.states(4)
    ones = orderless.perceptron(made)
    joints = []
    for order in orderless.orders(4):
        log_p = along(made, order).log_prob(torch.tensor(x)).detach()
        np.testing.assert_allclose(log_p, orderless.log_joint(ones, x, order), atol=1e-10)
        np.testing.assert_allclose(log_p.exp().sum(), 1, atol=1e-12)
        joints.append(log_p.exp().numpy())
    # Orders disagree: no single joint distribution stands behind the conditionals.
    assert abs(joints[0] - joints[-1]).max() > 0.01


@SHAPES
def test_ensemble_averages_likelihoods_and_not_logits(hidden, activation):
    made = model(hidden=hidden, activation=activation, orders=3)
    x = orderless.states(4)
    exact = orderless.log_mixture(orderless.perceptron(made), x, random_orders(4, 3, seed=0))
    log_p = made().log_prob(torch.tensor(x)).detach()
    np.testing.assert_allclose(log_p, exact, atol=1e-10)
    np.testing.assert_allclose(log_p.exp().sum(), 1, atol=1e-12)
    values = torch.tensor(x)
    numbers = torch.stack([member.numbers(values) for member in made().members]).mean(0)
    averaged = made.conditionals.log_prob(numbers, values).sum(-1).detach().exp()
    assert abs(float(averaged.sum()) - 1) > 1e-3  # no distribution, in double precision
    assert float((averaged - log_p.exp()).abs().max()) > 0.01


def test_figures_of_fewer_orders_are_those_of_the_first():
    made = model(5, orders=2)
    x = torch.tensor(orderless.states(5))
    several = made.evidence(x, orders=(1, 4, 7))
    ones = orderless.perceptron(made)
    for count in (1, 4, 7):
        exact = orderless.log_mixture(ones, x.numpy(), random_orders(5, count, seed=0))
        alone = made.evidence(x, orders=count)
        np.testing.assert_allclose(alone.values, exact, atol=1e-10)
        assert several.details[f"orders_{count}"] == pytest.approx(exact.mean(), abs=1e-10)
        assert alone.details == {}
    np.testing.assert_allclose(several.values, made.evidence(x, orders=7).values, atol=1e-12)
    np.testing.assert_allclose(made.evidence(x).values, made().log_prob(x).detach(), atol=1e-12)
    assert several.kind == "exact"
    assert several.method == "mean of 7 orders' likelihoods"
    assert made.evidence(x, orders=1).method == "density of one random order"
    figure = dgm.log_likelihood(made, x, orders=7)
    assert figure.value == pytest.approx(several.details["orders_7"], abs=1e-10)
    other = dgm.OrderlessNADE(5, (6,), orders=4, seed=3)
    other.load_state_dict(made.state_dict())
    assert not np.allclose(other.double().evidence(x).values, made.evidence(x, orders=4).values)


def test_rows_are_scored_in_chunks_of_any_size(monkeypatch):
    made = model(5, orders=2)
    x = torch.tensor(orderless.states(5))
    whole = made.evidence(x).values
    monkeypatch.setattr("pyro_dgm.models.shared.orderless.CHUNK", 7)
    np.testing.assert_allclose(made.evidence(x).values, whole, atol=1e-12)


@pytest.mark.parametrize(
    ("hidden", "activation"), [((6,), "tanh"), ((6,), "relu"), ((6, 5, 4), "softplus")], ids=["one", "relu", "three"]
)
def test_walking_equals_whole_passes(hidden, activation):
    """Increments of the first layer, and the recursion, against a pass through everything for every column."""
    output = ["binary", "categorical:3", "gaussians:2", "gaussian", "binary"]
    made = model(hidden=hidden, activation=activation, columns=5, output=output)
    x = torch.stack([torch.arange(6.0) % 2, torch.arange(6.0) % 3, torch.randn(6), torch.randn(6), torch.ones(6)], 1)
    features = made.conditionals.encode(x.double())
    order = torch.tensor([3, 0, 4, 1, 2])
    slow = Body.along(made.body, features, order)
    walk, whole = made.body.begin(6), Body.begin(made.body, 6)
    for place, column in enumerate(order.tolist()):
        known = torch.zeros(5, dtype=torch.bool)
        known[order[:place]] = True
        expected = made.body(features, known)[:, column]
        for found in (slow[:, column], made.body.along(features, order)[:, column], walk.numbers(column),
                      whole.numbers(column)):  # fmt: skip
            np.testing.assert_allclose(found.detach(), expected.detach(), atol=1e-10)
        for each in (walk, whole):
            each.reveal(column, features[:, column])


def test_the_compiled_recursion_equals_whole_passes_on_a_large_batch():
    made = model(60, hidden=(300,), scale=0.2).float()
    x = (torch.rand(150, 60) < 0.4).float()  # 150 x 60 x 300 units: beyond where the compiled loop begins
    order = torch.randperm(60)
    fast, slow = made.body.along(x.unsqueeze(-1), order), Body.along(made.body, x.unsqueeze(-1), order)
    np.testing.assert_allclose(fast.detach(), slow.detach(), atol=2e-4)  # single precision, sums of 360 terms of size 1
    (gradient,) = torch.autograd.grad(fast.square().mean(), made.body.perceptron.first.weight)
    (expected,) = torch.autograd.grad(slow.square().mean(), made.body.perceptron.first.weight)
    np.testing.assert_allclose(gradient, expected, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("orders", [1, 3])
def test_conditionals_are_those_of_orders_that_begin_with_the_known_columns(orders):
    made = model(orders=orders)
    x = orderless.states(4)
    ones = orderless.perceptron(made)
    for size in range(4):
        for seen in itertools.combinations(range(4), size):
            some = [[*seen, *(i for i in o if i not in seen)] for o in random_orders(4, orders, seed=0)]
            p = np.exp(orderless.log_mixture(ones, x, some))
            same = (x[:, None, seen] == x[None, :, seen]).all(-1)
            exact = np.log(p) - np.log(same @ p)
            known = torch.tensor(np.isin(np.arange(4), seen))
            found, completion = made.conditional_log_prob(torch.tensor(x), known, draws=4)
            np.testing.assert_allclose(found, exact, atol=1e-9)
            assert completion.method == "order"
            assert completion.exact


def test_rows_may_have_different_known_columns():
    made = model(orders=2)
    x = torch.tensor(orderless.states(4))
    known = torch.rand(x.shape) < 0.5
    together = made.conditional_log_prob(x, known, draws=4)[0]
    for row in range(len(x)):
        alone = made.conditional_log_prob(x[row : row + 1], known[row], draws=4)[0]
        np.testing.assert_allclose(together[row], alone[0], atol=1e-10)
    filled = made.complete(torch.where(known, x, torch.nan), known, draws=6).draws
    assert bool((filled == x)[known.expand(filled.shape)].all())
    assert bool(((filled == 0) | (filled == 1)).all())


def counts(draws):
    index = (draws.long() * torch.tensor([8, 4, 2, 1])).sum(-1)
    return torch.bincount(index, minlength=16).numpy()


def misfit(found, p):
    """The chi-square test's p-value of counts over the values that p allows."""
    allowed = p > 0
    assert found[~allowed].sum() == 0
    return scipy.stats.chisquare(found[allowed], found.sum() * p[allowed] / p[allowed].sum()).pvalue


def test_draws_follow_the_exact_conditionals_and_clamping_in_any_order_does_not():
    """p = 0.001 is the level at which ours would fail; a sampler that ignores what it knows later in the order is far beyond."""
    made = model(orders=2)
    x = orderless.states(4)
    known = torch.tensor([False, False, False, True])
    some = [[3, *(i for i in o if i != 3)] for o in random_orders(4, 2, seed=0)]
    p = np.exp(orderless.log_mixture(orderless.perceptron(made), x, some)) * (x[:, 3] == 1)
    given = torch.tensor([[0.0, 0, 0, 1]], dtype=torch.float64)
    draws = made.complete(given, known, draws=10_000).draws[:, 0]
    assert misfit(counts(draws), p / p.sum()) > 1e-3

    def clamped(column, numbers):
        drawn = made.conditionals.sample_column(column, numbers)
        return torch.ones_like(drawn) if column == 3 else drawn

    order = [2, 1, 0, 3]
    ignoring = OrderOfBody(made.body, order).walk(clamped, made.conditionals, 10_000)
    q = np.exp(orderless.log_joint(orderless.perceptron(made), x, order)) * (x[:, 3] == 1)
    assert misfit(counts(ignoring), q / q.sum()) < 1e-9


@SHAPES
def test_samples_follow_the_mixture(hidden, activation):
    made = model(hidden=hidden, activation=activation, orders=3)
    p = np.exp(orderless.log_mixture(orderless.perceptron(made), orderless.states(4), random_orders(4, 3, seed=0)))
    assert misfit(counts(made.sample(20_000)), p) > 1e-3


def test_categories_sum_and_densities_integrate_to_one_in_both_orders():
    mixed = model(2, output=["binary", "categorical:3"])
    x = torch.tensor(list(itertools.product((0.0, 1.0), (0.0, 1.0, 2.0))), dtype=torch.float64)
    # Bounded hidden units bound the scales, so that the grid holds the mass whatever the other column is.
    real = model(2, output=["gaussian", "gaussians:2"], activation="tanh", scale=0.3)
    axis = torch.linspace(-30, 30, 301, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    for order in ([0, 1], [1, 0]):
        np.testing.assert_allclose(along(mixed, order).log_prob(x).exp().sum().detach(), 1, atol=1e-12)
        with torch.no_grad():
            np.testing.assert_allclose(along(real, order).log_prob(grid).exp().sum() * 0.2**2, 1, atol=1e-5)


def test_training_learns_parity_in_every_order():
    """Three bits of even parity: log 4 nats, any two bits determine the third."""
    rows = torch.tensor([[0.0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]).repeat(500, 1)
    made = dgm.OrderlessNADE(3, (40,), orders=2)
    run = dgm.fit(made, rows, epochs=12, batch_size=100, learning_rate=0.02, progress=False)
    assert run.history[-1]["valid_bound"] > run.history[0]["valid_bound"]
    for order in orderless.orders(3):
        with torch.no_grad():
            figure = float(along(made, order).log_prob(rows[:4]).mean())
        assert -1.45 < figure <= -np.log(4) + 1e-6
    third = made.impute(torch.tensor([[1.0, torch.nan, 0.0]]), torch.tensor([True, False, True]), draws=200)
    assert float(third[0, 1]) > 0.9


def test_a_first_fit_starts_at_independent_columns():
    x = (torch.rand(500, 4) < torch.tensor([0.1, 0.3, 0.6, 0.8])).float()
    made = dgm.OrderlessNADE(4, (3,))
    made.initialise(x)
    with torch.no_grad():
        made.body.perceptron.last.weight.zero_()
        exact = torch.distributions.Bernoulli(x.mean(0)).log_prob(x).sum(-1)
        np.testing.assert_allclose(made().log_prob(x), exact, atol=1e-5)


def test_wrong_options_are_refused():
    for options, message in (
        ({"orders": 0}, "orders got 0; expected the number of orders"),
        ({"hidden": ()}, "units of every hidden layer"),
        ({"hidden": (0,)}, "units of every hidden layer"),
        ({"activation": "step"}, "activation got 'step'"),
        ({"output": "bits"}, "output got 'bits'"),
    ):
        with pytest.raises(ValueError, match=message):
            dgm.OrderlessNADE(4, **options)
    made, x = dgm.OrderlessNADE.example()
    for options, message in (
        ({"orders": 0}, "orders got 0"),
        ({"orders": True}, "orders got True"),
        ({"orders": []}, "orders got no number"),
        ({"method": "ais"}, "method='exact' alone, with orders="),
        ({"particles": 5}, r"\['particles'\]"),
    ):
        with pytest.raises(ValueError, match=message):
            dgm.log_likelihood(made, x, **options)
    assert isinstance(made.ensemble(1), OrderEnsemble)


@SHAPES
def test_one_row_leaves_the_parameters_as_they_are(hidden, activation):
    made = model(hidden=hidden, activation=activation)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    row = made().sample()
    made.evidence(row.unsqueeze(0))
    made.complete(row.unsqueeze(0), torch.tensor([False, True, False, False]), draws=1)
    for name, value in made.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_number_of_orders_that_is_none():
    nade, x = dgm.OrderlessNADE.example()
    with pytest.raises(ValueError, match=r"orders got 1\.5"):
        dgm.log_likelihood(nade, x, orders=1.5)
