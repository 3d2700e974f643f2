"""p(unknown | known) against enumeration and closed forms, for splits that the order allows and others."""

import functools
import itertools

import numpy as np
import pytest
import torch
from oracles import boltzmann as oracle

import pyro_dgm as dgm
from pyro_dgm.autoregressive import complete
from pyro_dgm.autoregressive.conditionals import draw_given

N = 20_000
STATES = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4)))
SPLITS = [torch.tensor(bits) for bits in itertools.product((False, True), repeat=4)]


def fvbn(scale=1.0, **options):
    model = dgm.FVBN(4, order=[3, 1, 0, 2], **options)
    return oracle.randomise(model, torch.Generator().manual_seed(3), scale)


def made():
    return oracle.randomise(dgm.MADE(4, (9,), masks=3), torch.Generator().manual_seed(3), 1.5)


MODELS = pytest.mark.parametrize("make", [fvbn, made])


def enumerated(model, row, known):
    """log p(x_b), and p(x_a | x_b) over all 16 states."""
    p = model().log_prob(STATES).exp().detach().double().numpy()
    fits = (STATES[:, known] == row[known]).all(1).numpy()
    return np.log(p[fits].sum()), np.where(fits, p, 0) / p[fits].sum()


def index(x):
    return (x.numpy() @ [8, 4, 2, 1]).astype(int)


def far(drawn, p):
    """Whether draws miss a distribution by more than chance explains once in a million times."""
    found = np.bincount(index(drawn), minlength=16) / len(drawn)
    return 0.5 * abs(found - p).sum() > oracle.total_variation_bound(p, len(drawn))


@MODELS
def test_every_split_is_exact_by_enumeration(make):
    model = make()
    for known in SPLITS:
        found = complete(model(), STATES, known, method="enumeration")
        assert found.exact
        for number, row in enumerate(STATES):
            log_known, p = enumerated(model, row, known)
            assert float(found.log_known[number]) == pytest.approx(log_known, abs=1e-5)
            shares = np.bincount(index(found.draws[:, number]), found.shares[:, number].detach(), minlength=16)
            np.testing.assert_allclose(shares, p, atol=1e-5)
        assert (found.draws[..., known] == STATES[:, known]).all()


@MODELS
@pytest.mark.parametrize("seen", [[3], [3, 1], [3, 1, 0], [], [0, 2], [2], [0, 1, 2]])
def test_draws_and_weights(make, seen):
    """What is drawn has the conditional's law, whether the known columns come first, in between or last."""
    model, row = make(), torch.tensor([[1.0, 0, 1, 0]])
    known = torch.zeros(4, dtype=torch.bool)
    known[seen] = True
    method = "order" if make is fvbn and seen == [3, 1, 0][: len(seen)] else "importance"
    found = complete(model(), row, known, draws=N, method=method)
    log_known, p = enumerated(model, row[0], known)
    weights = (found.log_weights[:, 0] - log_known).exp().double()
    # Likelihood weights have mean p(x_b); six standard errors of it.
    assert abs(float(weights.mean()) - 1) < 6 * float(weights.std()) / N**0.5 + 1e-5
    ess = float(found.effective_sample_size[0])
    assert ess == pytest.approx(float(weights.sum() ** 2 / weights.square().sum()), rel=1e-4)
    if method == "order":
        assert ess == pytest.approx(N)
        assert not far(found.draws[:, 0], p)
    # Shares of every state, whose errors are those of a mean of weighted draws.
    for state in range(16):
        hit = torch.tensor(index(found.draws[:, 0]) == state)
        error = weights * (hit.double() - p[state])
        assert abs(float(error.mean())) < 6 * float(error.std()) / N**0.5 + 1e-5
    assert torch.equal(found.mean[:, known], row[:, known])


def test_a_sampler_that_ignores_later_inputs_fails():
    """Clamping columns without weighing the draws is no conditional: the checks above tell the two apart."""
    model, row = fvbn(), torch.tensor([[1.0, 0, 1, 0]])
    known = torch.tensor([True, False, True, False])  # the order begins with the unknown columns 3 and 1
    _, p = enumerated(model, row[0], known)
    found = complete(model(), row, known, draws=N, method="importance")
    assert far(found.draws[:, 0], p)
    resampled = found.resampled(N)[:, 0]
    drawn = np.bincount(index(resampled), minlength=16) / N
    # Two samplings of N and of the effective number of draws.
    ess = int(found.effective_sample_size[0])
    bound = oracle.total_variation_bound(p, N) + oracle.total_variation_bound(p, ess)
    assert (
        0.5 * abs(drawn - p).sum()
        < bound
        < 0.5 * abs(np.bincount(index(found.draws[:, 0]), minlength=16) / N - p).sum()
    )


def test_rows_may_know_different_columns():
    model = fvbn()
    known = torch.stack(SPLITS)[[5, 5, 9, 14]]
    x = STATES[[3, 8, 11, 6]]
    found = model.complete(x, known, draws=N, method="importance")
    for number in range(4):
        log_known, p = enumerated(model, x[number], known[number])
        w = (found.log_weights[:, number] - log_known).exp()
        assert abs(float(w.mean()) - 1) < 6 * float(w.std()) / N**0.5 + 1e-5
        assert (found.draws[:, number, known[number]] == x[number, known[number]]).all()
        mean = (torch.tensor(p).float() @ STATES)[~known[number]]
        error = found.shares[:, number, None] * N * (found.draws[:, number][:, ~known[number]] - mean)
        assert (error.mean(0).abs() < 6 * error.std(0) / N**0.5 + 1e-5).all()


@pytest.mark.parametrize("method", [None, "enumeration"])
def test_rows_that_know_different_columns_are_each_completed_exactly(method):
    model = fvbn()
    known = torch.stack(SPLITS)[
        [5, 1, 9, 14]
    ]  # the order is 3, 1, 0, 2: it begins with the known columns of the first two
    x = STATES[[3, 8, 11, 6]]
    found = model.complete(x, known, draws=50, method=method)
    assert found.exact
    assert found.method == ("enumeration" if method else "enumeration, order")
    for number in range(4):
        log_known, p = enumerated(model, x[number], known[number])
        assert float(found.log_known[number]) == pytest.approx(log_known, abs=1e-5)
        assert (found.draws[:, number, known[number]] == x[number, known[number]]).all()
        if number > 1 or method:
            shares = np.bincount(index(found.draws[:, number]), found.shares[:, number].detach(), minlength=16)
            np.testing.assert_allclose(shares, p, atol=1e-5)
    mean = model.impute_with_details(x, known, draws=50)[0]
    for number in (2, 3):
        _, p = enumerated(model, x[number], known[number])
        torch.testing.assert_close(mean[number], torch.tensor(p).float() @ STATES, atol=1e-5, rtol=0)


def test_listed_rows_beside_estimated_ones_are_no_exact_answer():
    model, known = dgm.FVBN(20), torch.zeros(2, 20, dtype=torch.bool)
    known[0, 8:], known[1, 19] = True, True
    found = model.complete(torch.zeros(2, 20), known, draws=3)
    assert (found.method, found.exact) == ("enumeration, importance", False)
    drawn, details = model.condition_with_details(torch.zeros(2, 20), known, draws=3)
    assert drawn.shape == (3, 2, 20)
    assert details["method"] == "enumeration, importance"


@pytest.mark.parametrize("make", [lambda: dgm.OrderlessNADE(20, (8,), orders=3), lambda: dgm.MADE(20, (30,), masks=3)])
def test_draws_of_several_orders_are_drawn_anew(make):
    """A thousand draws of real columns have no two alike; drawn from a thousand weighted ones 1/e of them would be missing."""
    torch.manual_seed(0)
    model = make()
    known = torch.zeros(20, dtype=torch.bool)
    drawn, details = model.condition_with_details(torch.zeros(1, 20), known, draws=1000)
    # Of 2^20 nearly equally probable states 1000 draws have about 0.5 pairs alike.
    assert len(drawn[:, 0].unique(dim=0)) > 980
    assert details == {"method": "order", "smallest_effective_sample_size": 1000.0}


def test_orders_are_weighed_by_the_probability_of_what_is_known():
    """Against the mixture's conditional by enumeration, which differs from the mean of the orders' conditionals."""
    row, known = torch.tensor([1.0, 0, 1, 0]), torch.tensor([True, True, False, False])
    models = [dgm.FVBN(4, order=order) for order in ([0, 1, 2, 3], [1, 0, 3, 2])]
    for model, bias in zip(models, ([1.0, -1.0, 1.0, 1.0], [-1.0, 1.0, -1.0, -1.0]), strict=True):
        model.network.bias.data[:, 0] = torch.tensor(
            bias
        )  # independent columns, of which each order expects other values
    dist = dgm.OrderEnsemble([model() for model in models])
    fits = (STATES[:, known] == row[known]).all(1)
    joint = torch.stack([m.log_prob(STATES).exp() for m in dist.members]).detach().double() * fits
    right, equal = joint.sum(0) / joint.sum(), (joint / joint.sum(1, keepdim=True)).mean(0)
    torch.manual_seed(0)
    drawn = draw_given(dist, row.unsqueeze(0), known, N, oversample=1).draws[:, 0]
    assert not far(drawn, right.numpy())
    assert far(drawn, equal.numpy())


def test_resampled_draws_say_what_they_are_worth():
    model, known = oracle.randomise(dgm.FVBN(20), torch.Generator().manual_seed(3), 3.0), torch.arange(20) > 15
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match="worth .* independent draws"):
        dgm.condition(model, torch.ones(1, 20), known, draws=400)
    _, details = dgm.condition_with_details(model, torch.ones(1, 20), known, draws=400)
    assert details["method"] == "importance"
    assert 1 <= details["smallest_effective_sample_size"] < 200


@MODELS
def test_conditional_log_prob(make):
    model, known = make(), torch.tensor([False, True, False, True])
    value, found = model.conditional_log_prob(STATES, known, method="enumeration")
    for number, row in enumerate(STATES):
        _, p = enumerated(model, row, known)
        assert float(value[number]) == pytest.approx(np.log(p[number]), abs=1e-5)
    assert found.method == "enumeration"


def test_linear_gaussian_conditionals_are_normal():
    """Against the multivariate normal's: the mean by importance, six standard errors; what comes first by the order."""
    torch.manual_seed(0)
    model = fvbn(0.4, output="gaussian")
    x = torch.tensor([[0.4, -0.3, 0.8, -0.5]])
    drawn = model.sample(4)
    assert drawn.shape == (4, 4)
    W = np.zeros((4, 4))
    direct = (model.network.direct.weight * model.network.direct.mask).detach().double().numpy()
    W[:] = direct[::2]
    b, s = model.network.bias.detach().double().numpy().T
    inverse = np.linalg.inv(np.eye(4) - W)
    mu, C = inverse @ b, inverse @ np.diag((np.exp(s) + 1e-3) ** 2) @ inverse.T
    for seen in ([3, 1], [0, 2], [2]):
        known = torch.zeros(4, dtype=torch.bool)
        known[seen] = True
        free = [i for i in range(4) if i not in seen]
        gain = C[np.ix_(free, seen)] @ np.linalg.inv(C[np.ix_(seen, seen)])
        mean = mu[free] + gain @ (x[0, seen].numpy() - mu[seen])
        found = complete(model(), x, known, draws=N)
        assert found.method == ("order" if seen == [3, 1] else "importance")
        error = found.shares[:, 0, None] * N * (found.draws[:, 0][:, free] - torch.tensor(mean))
        assert (error.mean(0).abs() < 6 * error.std(0) / N**0.5).all()
        assert float(found.effective_sample_size[0]) > 500


def test_imputation_says_how():
    model, x = fvbn(), STATES[:6]
    known = torch.tensor([True, True, False, True])
    filled, details = model.impute_with_details(x, known, draws=300)
    assert details["method"] == "order"
    assert details["smallest_effective_sample_size"] == pytest.approx(300)
    expected = [(torch.tensor(enumerated(model, row, known)[1]).float() @ STATES)[2] for row in x]
    assert (filled[:, 2] - torch.stack(expected)).abs().max() < 6 * (0.25 / 300) ** 0.5
    holes = x.clone()
    holes[0, 2] = holes[3, 0] = torch.nan
    filled, details = model.impute_with_details(holes, ~holes.isnan())
    assert filled.isfinite().all()
    assert details["method"] == "enumeration, order"


def test_values_are_listed_up_to_a_number():
    model = dgm.FVBN(20)
    known = torch.zeros(20, dtype=torch.bool)
    known[-12:] = True
    x = torch.zeros(2, 20)
    assert complete(model(), x, known, draws=2).method == "enumeration"
    known[-12:-6] = False
    assert complete(model(), x, known, draws=2).method == "importance"
    with pytest.raises(ValueError, match="at most 4096 are listed"):
        complete(model(), x, known, method="enumeration")


def test_what_cannot_be_completed():
    x, known = STATES[:3], torch.tensor([True, False, True, False])
    for bad, message in (
        (dict(known=known.float()), "known got torch.float32"),
        (dict(known=known[:3]), "expected booleans"),
        (dict(draws=0), "draws got 0"),
        (dict(method="chain"), "method got 'chain'"),
        (dict(method="order"), "method='order' needs the known columns before"),
        (dict(x=x * torch.nan), "row 0 has a known entry that is NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            fvbn().complete(**(dict(x=x, known=known) | bad))
    with pytest.raises(ValueError, match="batch shape"):
        complete(fvbn()().expand((2,)), x, known)
    with pytest.raises(ValueError, match="is real"):
        fvbn(output="gaussian").complete(x, known, method="enumeration")
    with pytest.raises(ValueError, match="draws got 1"):
        fvbn().impute(x, known, draws=1)


@pytest.mark.parametrize(
    "make", [dgm.FVBN, functools.partial(dgm.OrderlessNADE, hidden=(6,))], ids=["fvbn", "orderless"]
)
@pytest.mark.parametrize("method", ["enumeration", "importance", None])
def test_conditionals_under_one_context_a_row(make, method):
    model = oracle.randomise(make(4, context=2), torch.Generator().manual_seed(3), 1.0)
    context = torch.tensor([[2.0, 0.0], [0.0, -2.0], [1.0, 1.0]])
    known, rows = torch.tensor([False, True, False, True]), STATES[[5, 6, 11]]
    found = model.complete(rows, known, draws=N, method=method, context=context)
    assert (found.draws[..., known] == rows[:, known]).all()
    for number, row in enumerate(rows):
        # An orderless model is asked along an order that begins with the known columns.
        alone = model.answering(known.unsqueeze(0), context[number : number + 1])[0][1]
        p = alone.log_prob(STATES.unsqueeze(1))[:, 0].exp().detach().double().numpy()
        fits = (STATES[:, known] == row[known]).all(1).numpy()
        log_known, p = np.log(p[fits].sum()), np.where(fits, p, 0) / p[fits].sum()
        spread = float(found.log_weights[:, number].exp().std() / found.log_known[number].exp()) / N**0.5
        assert float(found.log_known[number]) == pytest.approx(
            log_known, abs=1e-5 if found.exact else 5 * spread + 1e-5
        )
        if method is None:
            assert not far(found.resampled(N)[:, number], p)
        scored, _ = model.conditional_log_prob(rows, known, method="enumeration", context=context)
        fitting = alone.log_prob(row.unsqueeze(0)).item() - log_known
        assert float(scored[number].detach()) == pytest.approx(fitting, abs=1e-4)


def test_contexts_that_do_not_fit():
    model = dgm.FVBN(3, context=2)
    known = torch.tensor([True, False, False])
    with pytest.raises(
        ValueError, match=r"context got shape \(4, 2\); expected one row of 2 columns for each of 5 rows"
    ):
        model.complete(torch.zeros(5, 3), known, context=torch.zeros(4, 2))
    with pytest.raises(ValueError, match=r"batch shape \(4,\) for 5 rows; expected none, or one context per row"):
        complete(model(torch.zeros(4, 2)), torch.zeros(5, 3), known)


WRONG = [
    (dgm.NADE(3, 4), 2.0, "the value 2 in row 1, column 0; expected 0 or 1"),
    (dgm.NADE(3, 4), 0.5, "the value 0.5 in row 1, column 0; expected 0 or 1"),
    (dgm.NADE(3, 4, output="categorical:3"), 3.0, "expected a whole number from 0 to 2. .*categorical:C"),
    (dgm.FVBN(3, output=["categorical:3", "gaussian", "binary"]), 0.5, "expected a whole number from 0 to 2"),
    (dgm.OrderlessNADE(3, (4,), output="categorical:3", orders=2), 3.0, "expected a whole number from 0 to 2"),
]


@pytest.mark.parametrize(("model", "value", "match"), WRONG)
def test_known_values_that_a_column_cannot_have(model, value, match):
    x, known = torch.tensor([[0.0, 1.0, 0.0], [value, 0.0, 0.0]]), torch.tensor([True, True, False])
    for asked in (model.complete, model.impute, model.conditional_log_prob):
        with pytest.raises(ValueError, match=match):
            asked(x, known)
    hidden = torch.tensor([False, True, True])
    assert torch.isfinite(model.impute(x, hidden, 10)).all()  # what an unknown column holds does not matter


@pytest.mark.parametrize("make", [dgm.NADE, dgm.FVBN, dgm.MADE, dgm.OrderlessNADE])
def test_rows_of_another_precision_are_imputed(make):
    known = torch.tensor([True, False, True, False])
    found = make(4).impute(STATES.double(), known, 50)
    assert torch.equal(found[:, known], STATES[:, known].double())
