"""Fully visible belief networks: formulas, the multivariate normal, the closed-form fit, bad input."""

import itertools

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from oracles import boltzmann as oracle

import pyro_dgm as dgm
from pyro_dgm.cli.main import main

ORDER = [2, 0, 3, 1]


def network(visible=4, seed=0, scale=1.0, **options):
    model = dgm.FVBN(visible, **{"order": ORDER[:visible]} | options)
    return oracle.randomise(model, torch.Generator().manual_seed(seed), scale)


def weights(model):
    """W with what is not there as zeros, and b, both with the numbers of a column together."""
    direct = model.network.direct
    return (direct.weight * direct.mask).detach().double().numpy(), model.network.bias.detach().double().numpy()


def rows(n=500, visible=4):
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(visible, visible, generator=generator)
    return 1 + torch.randn(n, visible, generator=generator) @ mixing


def test_logistic_columns():
    model, x = network(), np.array(list(itertools.product((0.0, 1.0), repeat=4)))
    W, b = weights(model)
    place = {column: i for i, column in enumerate(ORDER)}
    expected = np.zeros(16)
    for i in range(4):
        before = [j for j in range(4) if place[j] < place[i]]
        a = b[i, 0] + x[:, before] @ W[i, before]
        expected += x[:, i] * a - np.logaddexp(0, a)
    np.testing.assert_allclose(model().log_prob(torch.tensor(x).float()).detach(), expected, atol=1e-5)


def test_biases_from_a_context_make_autoregressive_bits():
    model, a = network(context=4, order=None), torch.randn(3, 4)
    with torch.no_grad():
        model.network.context.weight.copy_(torch.eye(4))
        model.network.bias.zero_()
    bits = dgm.AutoregressiveBits(a, model.network.direct.weight)
    x = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4))).unsqueeze(1)
    torch.testing.assert_close(model(a).log_prob(x), bits.log_prob(x))


def test_softmax_columns():
    model = network(3, output="categorical:3", order=[1, 0, 2])
    W, b = weights(model)
    W = W.reshape(3, 3, 3, 3)  # column, its category, earlier column, its category
    for x in itertools.product(range(3), repeat=3):
        expected = 0.0
        for i, before in ((1, []), (0, [1]), (2, [1, 0])):
            expected += scipy.special.log_softmax(b[i] + sum(W[i, :, j, x[j]] for j in before))[x[i]]
        assert float(model().log_prob(torch.tensor(x).float()).detach()) == pytest.approx(expected, abs=1e-5)


def normal(model):
    """Mean and covariance of x = b + W x + noise, noise with the columns' scales."""
    W, b = weights(model)
    inverse = np.linalg.inv(np.eye(len(b)) - W[::2])
    scales = 1e-3 + np.exp(b[:, 1])
    return inverse @ b[:, 0], inverse @ np.diag(scales**2) @ inverse.T


def test_linear_gaussian_is_a_multivariate_normal():
    model, x = network(output="gaussian", scale=0.5), rows()
    expected = scipy.stats.multivariate_normal(*normal(model)).logpdf(x.numpy())
    np.testing.assert_allclose(model.double()().log_prob(x.double()).detach(), expected, rtol=1e-6)
    drawn = model.sample(20_000).numpy()
    mean, C = normal(model)
    assert (abs(drawn.mean(0) - mean) < 6 * np.sqrt(np.diag(C) / 20_000)).all()
    # The variance of an entry of the sample covariance of a normal is (C_ij^2 + C_ii C_jj) / n.
    error = np.sqrt((C**2 + np.outer(np.diag(C), np.diag(C))) / 20_000)
    assert (abs(np.cov(drawn.T) - C) < 6 * error).all()


@pytest.mark.parametrize("basis", [None, "pairs", "powers:3"])
def test_the_closed_form_is_the_maximum_of_the_likelihood(basis):
    x = rows().double() * 0.3
    model = dgm.FVBN(4, output="gaussian", order=ORDER, basis=basis).double()
    model.initialise(x)
    model().log_prob(x).mean().backward()
    assert max(float(p.grad.abs().max()) for p in model.parameters()) < 1e-8
    if basis is None:  # whatever the order: mean and covariance of the data
        best = scipy.stats.multivariate_normal(x.mean(0).numpy(), np.cov(x.numpy().T, bias=True)).logpdf(x.numpy())
        assert float(model.evidence(x).values.mean()) == pytest.approx(best.mean(), abs=1e-9)


def test_gaussian_columns_among_others_start_in_closed_form():
    generator = torch.Generator().manual_seed(0)
    bit = torch.randint(0, 2, (400,), generator=generator).double()
    kind = torch.randint(0, 3, (400,), generator=generator).double()
    x = torch.stack([kind, 2 * bit - kind**2 + 0.5 * torch.randn(400, generator=generator), bit], 1)
    model = dgm.FVBN(3, output=["categorical:3", "gaussian", "binary"], order=[2, 0, 1]).double()
    model.initialise(x)
    (-model().log_prob(x).mean()).backward()
    own = slice(3, 6)  # the numbers of column 1
    assert float(model.network.direct.weight.grad[own].abs().max()) < 1e-8
    assert float(model.network.bias.grad[1].abs().max()) < 1e-8


def test_collinear_and_constant_columns_start_finite():
    x = torch.ones(20, 3)
    x[:, 1] = torch.arange(20.0)
    x[:, 2] = 2 * x[:, 1]
    model = dgm.FVBN(3, output="gaussian")
    model.initialise(x)
    assert model().log_prob(x).isfinite().all()


def test_a_basis_learns_what_a_linear_network_cannot():
    """The exclusive or of two bits."""
    x = torch.tensor([[0.0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]])
    found = {}
    for basis in (None, "pairs"):
        model = dgm.FVBN(3, basis=basis)
        optimiser = torch.optim.LBFGS(model.parameters(), line_search_fn="strong_wolfe")

        def loss(model=model, optimiser=optimiser):
            optimiser.zero_grad()
            value = -model().log_prob(x).mean()
            value.backward()
            return value

        optimiser.step(loss)
        found[basis] = float(model.evidence(x).values.mean())
    assert found[None] == pytest.approx(-3 * np.log(2), abs=0.02)
    assert found["pairs"] == pytest.approx(-2 * np.log(2), abs=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": [0, 1, 1, 2]}, "expected a permutation of 0 to 3"),
        ({"order": [0, 1]}, "expected a permutation"),
        ({"output": ["binary", "gaussian"]}, "got 2 families for 4 columns"),
        ({"output": "poisson"}, "output got 'poisson'"),
        ({"basis": "sines"}, "basis got 'sines'"),
        ({"visible": 0}, "visible got 0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        dgm.FVBN(**{"visible": 4} | options)


def test_bad_data():
    model = dgm.FVBN(3, output=["binary", "categorical:3", "gaussian"])
    good = torch.tensor([[1.0, 2, 0.3], [0, 0, -5]])
    model.check_data(good)
    for row, column, value, message in (
        (
            1,
            1,
            3,
            "value 3 in row 1, column 1; expected a whole number from 0 to 2. Say what the columns are by output=",
        ),
        (0, 1, 0.5, "value 0.5 in row 0, column 1"),
        (0, 1, -1, "value -1 in row 0, column 1"),
        (1, 0, 0.5, "value 0.5 in row 1, column 0; expected 0 or 1. Say what the columns are by output="),
        (1, 2, torch.nan, r"got NaN, first in row 1; fit it on rows without, then impute\(x, known=~x.isnan\(\)\)"),
        (1, 2, torch.inf, "infinite values, first in row 1"),
    ):
        bad = good.clone()
        bad[row, column] = value
        with pytest.raises(ValueError, match=message):
            model.check_data(bad)
    with pytest.raises(ValueError, match="expected rows x"):
        model.check_data(good[:, :2])


def test_real_data_without_a_declaration_are_refused():
    with pytest.raises(ValueError, match="expected 0 or 1"):
        dgm.fit(dgm.FVBN(4), rows(), epochs=1, progress=False)


@pytest.mark.parametrize(("order", "method"), [("None", "order"), ("1", "importance")])
def test_imputation_from_the_shell_says_how(order, method, tmp_path, capsys):
    run = tmp_path / "fvbn"
    options = ["--data", "digits", "--epochs", "1", "--quiet", "--set", f"order={order}"]
    assert main(["fit", "fvbn", "--out", str(run), *options]) == 0
    assert main(["impute", str(run), "-n", "3", "--draws", "20"]) == 0
    printed = capsys.readouterr().out
    found = np.load(run / "imputed.npz")
    assert f"method: {method}" in printed
    assert found["method"] == method
    assert f"smallest effective sample size: {float(found['smallest_effective_sample_size']):.4g}" in printed
