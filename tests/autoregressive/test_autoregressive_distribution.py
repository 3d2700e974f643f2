"""Autoregressive distributions and mixtures of orders: normalised, drawn as scored, batched, differentiable."""

import functools
import itertools
import math

import numpy as np
import pytest
import scipy.stats
import torch
from oracles import boltzmann as oracle

import pyro_dgm as dgm
from pyro_dgm.autoregressive import AutoregressiveDistribution

ORDERS = list(itertools.permutations(range(4)))
LONGER = [[0, 1, 2, 3, 4, 5], [5, 3, 1, 0, 2, 4], [2, 5, 0, 4, 3, 1]]


def states(*sizes):
    return torch.tensor(list(itertools.product(*(range(n) for n in sizes)))).float()


def random(model, seed=0, scale=1.0):
    return oracle.randomise(model, torch.Generator().manual_seed(seed), scale)


MAKERS = {
    "fvbn": lambda visible, **options: dgm.FVBN(visible, **options),
    "pairs": lambda visible, **options: dgm.FVBN(visible, basis="pairs", **options),
    "groups": lambda visible, **options: dgm.NeuralAutoregressive(visible, group=3, direct=True, **options),
    "deep groups": lambda visible, **options: dgm.NeuralAutoregressive(visible, group=2, depth=2, **options),
    "made": lambda visible, **options: dgm.MADE(visible, (7, 9), degrees="random", **options),
    "five masks": lambda visible, **options: dgm.MADE(visible, (7, 9), degrees="random", masks=5, **options),
    "wirings": lambda visible, **options: dgm.MADE(visible, (9,), degrees="random", masks=5, orders="first", **options),
}
KINDS = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


@KINDS
def test_sums_to_one_in_every_order(make):
    for order in [*ORDERS, *LONGER]:
        model = random(make(len(order), order=list(order)))
        total = model().log_prob(states(*[2] * len(order))).logsumexp(0)
        assert abs(total.item()) < 1e-5, order


@KINDS
def test_categories_sum_to_one(make):
    model = random(make(3, output="categorical:3", order=[1, 2, 0]))
    assert abs(model().log_prob(states(3, 3, 3)).logsumexp(0).item()) < 1e-5


@KINDS
def test_mixed_columns_sum_and_integrate_to_one(make):
    model = random(make(3, output=["binary", "gaussians:2", "categorical:3"], order=[2, 1, 0]), scale=0.4)
    grid = torch.linspace(-40, 40, 8001)
    rows = states(2, 3)
    x = torch.stack(
        [rows[:, 0].repeat_interleave(len(grid)), grid.repeat(len(rows)), rows[:, 1].repeat_interleave(len(grid))], 1
    )
    mass = model.double()().log_prob(x.double()).exp().view(len(rows), -1)
    assert float(torch.trapezoid(mass, grid.double()).sum()) == pytest.approx(1, abs=1e-5)


def test_a_mixture_of_logits_is_no_distribution():
    """What averages logits over orders must not pass as (20.84)."""
    model = random(MAKERS["five masks"](4), seed=6, scale=2.0)
    x = states(2, 2, 2, 2)
    members = model().members
    logits = torch.stack([m.numbers(x) for m in members]).mean(0)
    wrong = members[0].output.log_prob(logits, x).sum(-1)
    assert abs(wrong.logsumexp(0).item()) > 0.01
    right = model().log_prob(x)
    assert abs(float(right.logsumexp(0))) < 1e-5
    each = np.exp([m.log_prob(x).detach().double().numpy() for m in members])
    np.testing.assert_allclose(right.detach(), np.log(each.mean(0)), atol=1e-5)


@KINDS
def test_drawn_as_scored(make):
    model, n = random(make(4, order=[3, 1, 0, 2])), 20_000
    x = states(2, 2, 2, 2)
    p = model().log_prob(x).exp().detach().double().numpy()
    counts = np.bincount((model.sample(n).numpy() @ [8, 4, 2, 1]).astype(int), minlength=16)
    # A chi-square test that fails a right sampler once in a million; no cell expects fewer than five draws.
    assert n * p.min() > 5
    assert scipy.stats.chisquare(counts, n * p / p.sum()).pvalue > 1e-6


def test_mixed_columns_are_drawn_as_scored():
    model, n = (
        random(MAKERS["made"](3, output=["binary", "gaussian", "categorical:3"], order=[2, 1, 0]), scale=0.5),
        20_000,
    )
    grid = torch.linspace(-30, 30, 6001)
    cells = [(b, c) for b in (0.0, 1.0) for c in (0.0, 1.0, 2.0)]
    edges, p = torch.tensor([-30.0, -1, 0, 1, 30]), []
    for b, c in cells:
        x = torch.stack([torch.full_like(grid, b), grid, torch.full_like(grid, c)], 1)
        density = model().log_prob(x).exp().detach()
        p += [float(torch.trapezoid(density[i], grid[i])) for i in
              ((grid >= a) & (grid <= z) for a, z in itertools.pairwise(edges))]  # fmt: skip
    drawn = model.sample(n)
    place = torch.bucketize(drawn[:, 1].contiguous(), edges[1:-1]) + 4 * (drawn[:, 2] + 3 * drawn[:, 0]).long()
    assert scipy.stats.chisquare(np.bincount(place, minlength=24), n * np.array(p) / sum(p)).pvalue > 1e-6


ORDERLESS = {
    "recursion": functools.partial(dgm.OrderlessNADE, hidden=(5,)),
    "walk": functools.partial(dgm.OrderlessNADE, hidden=(5, 4), activation="tanh"),
    "rounds": functools.partial(dgm.NADEk, hidden=(5,), k=2),
    "convolutions": functools.partial(dgm.ConvolutionalNADE, shape=(2, 2), channels=(3, 3)),
    "two orders": functools.partial(dgm.OrderlessNADE, hidden=(5,), orders=2),
}


@pytest.mark.parametrize("make", [*MAKERS.values(), *ORDERLESS.values()], ids=[*MAKERS, *ORDERLESS])
def test_batches_and_contexts(make):
    model = random(make(4, context=3))
    context = torch.randn(5, 3)
    dist = model(context)
    assert (dist.batch_shape, dist.event_shape) == ((5,), (4,))
    assert dist.sample((2,)).shape == (2, 5, 4)
    x = states(2, 2, 2, 2)
    table = dist.log_prob(x.unsqueeze(1))
    assert table.shape == (16, 5)
    torch.testing.assert_close(table.logsumexp(0), torch.zeros(5), atol=1e-5, rtol=0)
    for row in range(5):
        torch.testing.assert_close(table[:, row], model(context[row]).log_prob(x))
    wide = model(context[0]).expand((6, 5))
    assert type(wide) is type(dist)
    assert (wide.batch_shape, wide.sample((2,)).shape) == ((6, 5), (2, 6, 5, 4))
    torch.testing.assert_close(wide.log_prob(x[:5]), table[:5, 0].expand(6, 5))
    plain = model()
    assert plain.expand((3, 2)).sample().shape == (3, 2, 4)
    torch.testing.assert_close(plain.expand((3, 2)).log_prob(x[0]), plain.log_prob(x[0]).expand(3, 2))
    drawn = model(context).sample((3000,))
    expected = (table.exp().T @ x).detach()  # the columns' means by enumeration
    assert (drawn.mean(0) - expected).abs().max() < 6 * math.sqrt(0.25 / 3000)


@KINDS
def test_gradients_by_finite_differences(make):
    model = random(
        make(3, output=["binary", "gaussian", "categorical:3"], order=[1, 2, 0], context=2), scale=0.5
    ).double()
    x = torch.tensor([[1.0, -0.4, 2], [0, 0.7, 1]], dtype=torch.float64)
    context = torch.randn(2, 2, dtype=torch.float64)
    names = [name for name, _ in model.named_parameters()]

    def log_prob(*values):
        return torch.func.functional_call(
            _Score(model), {f"model.{n}": v for n, v in zip(names, values, strict=True)}, (x, context)
        )

    assert torch.autograd.gradcheck(log_prob, [p.detach().requires_grad_() for p in model.parameters()], fast_mode=True)


class _Score(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x, context):
        return self.model(context).log_prob(x)


def test_gradients_by_the_value():
    """A distribution over real rows is differentiable by them, as a guide's samples or HMC need."""
    model = random(MAKERS["groups"](3, output="gaussians:2"), scale=0.5).double()
    assert torch.autograd.gradcheck(
        lambda x: model().log_prob(x), [torch.randn(2, 3, dtype=torch.float64).requires_grad_()]
    )


def test_validation():
    dist = dgm.FVBN(3, output="categorical:3")()
    for bad in ([0.0, 1, 3], [0, 1, 0.5], [-1, 0, 0], [0, 1, torch.nan]):
        with pytest.raises(ValueError, match="within the support"):
            dist.log_prob(torch.tensor(bad))
    mixed = dgm.FVBN(2, output=["gaussian", "categorical:3"])()
    with pytest.raises(ValueError, match="within the support"):
        mixed.log_prob(torch.tensor([0.0, 3.0]))
    with pytest.raises(ValueError, match="context got shape"):
        dgm.FVBN(3)(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="context got shape"):
        dgm.FVBN(3, context=2)(torch.zeros(2, 4))


@pytest.mark.parametrize("dtype", [torch.long, torch.uint8, torch.bool])
@KINDS
def test_whole_numbers_are_scored_like_floating_ones(make, dtype):
    model = random(make(4))
    x = states(2, 2, 2, 2)
    torch.testing.assert_close(model().log_prob(x.to(dtype)), model().log_prob(x))
    known = torch.tensor([True, False, True, False])
    expected, _ = model.conditional_log_prob(x, known, method="enumeration")
    found, completion = model.conditional_log_prob(x.to(dtype), known, method="enumeration")
    torch.testing.assert_close(found, expected)
    assert completion.draws.dtype == torch.float32


def test_a_mixture_draws_every_row_once():
    """Each row by its own order and under its own context, and no more rows than are asked for."""
    walked = []

    class Counting(AutoregressiveDistribution):
        def draw(self, shape, rows):
            walked.append(len(rows))
            return super().draw(shape, rows)

    models = [random(dgm.FVBN(2, order=order, context=2), scale=1.5) for order in ([0, 1], [1, 0], [0, 1])]
    context = torch.tensor([[2.0, 0.0], [0.0, -2.0], [1.0, 1.0]])
    mixture = dgm.OrderEnsemble([Counting(m.network, m.conditionals, context) for m in models])
    drawn = mixture.sample((20_000,))
    assert sum(walked) == 60_000
    x = states(2, 2)
    for number in range(3):
        p = mixture.log_prob(x.unsqueeze(1)).exp().detach().double().numpy()[:, number]
        counts = np.bincount((drawn[:, number].numpy() @ [2, 1]).astype(int), minlength=4)
        assert 20_000 * p.min() > 5
        assert scipy.stats.chisquare(counts, 20_000 * p / p.sum()).pvalue > 1e-6


def test_a_mixture_needs_members_of_one_shape():
    with pytest.raises(ValueError, match="got 0 distributions"):
        dgm.OrderEnsemble([])
    with pytest.raises(ValueError, match="all of one shape"):
        dgm.OrderEnsemble([dgm.FVBN(3)(), dgm.FVBN(4)()])


@KINDS
def test_no_draw_of_a_context_is_an_empty_one(make):
    assert make(4, context=2)(torch.randn(3, 2)).sample((0,)).shape == (0, 3, 4)
