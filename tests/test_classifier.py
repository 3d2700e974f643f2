"""The class RBM as a scikit-learn classifier: scikit-learn's own checks, and data that it must classify."""

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris
from sklearn.utils.estimator_checks import parametrize_with_checks

import pyro_dgm as dgm


@parametrize_with_checks([dgm.RBMClassifier(hidden=20, n_iter=10, batch_size=50, learning_rate=0.05)])
def test_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


def test_flowers_in_any_units():
    X, y = load_iris(return_X_y=True)
    model = dgm.RBMClassifier(20, n_iter=20, learning_rate=0.03, random_state=0)
    plain = model.fit(X, y).predict_proba(X)
    assert model.score(X, y) > 0.95
    moved = 1e4 + 30 * X
    np.testing.assert_allclose(model.fit(moved, y).predict_proba(moved), plain, atol=1e-3)
    constant = np.hstack([X, np.full((150, 1), 7.0)])
    assert model.fit(constant, y).score(constant, y) > 0.95


def test_digits_as_bits():
    X, y = load_digits(return_X_y=True)
    X = X / 16
    model = dgm.RBMClassifier(60, criterion="hybrid", n_iter=10, batch_size=50, learning_rate=0.03, random_state=0)
    assert model.fit(X[:1200], y[:1200]).score(X[1200:], y[1200:]) > 0.85


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 0}, "hidden got 0"),
        ({"criterion": "both"}, "criterion got 'both'"),
        ({"learning_rate": 0}, "learning_rate got 0"),
        ({"criterion": "hybrid"}, "X holds -1; expected \\[0, 1\\]"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        dgm.RBMClassifier(**options).fit(np.array([[0.0], [-1.0]]), ["a", "b"])


def test_one_class():
    with pytest.raises(ValueError, match="one class"):
        dgm.RBMClassifier().fit(np.zeros((3, 2)), ["a"] * 3)
