"""The scikit-learn face: scikit-learn's own checks, agreement with BernoulliRBM, and pipelines."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import BernoulliRBM
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import pyro_dgm as dgm


@pytest.mark.filterwarnings("ignore:.*values outside")
@parametrize_with_checks([dgm.RBMTransformer(n_components=3, n_iter=2, random_state=0)])
def test_scikit_learn_s_own_checks(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def X():
    bits = np.random.default_rng(0).random((80, 4)) < 0.5
    return np.concatenate([bits, bits], 1).astype(float)


def small(**options):
    return dgm.RBMTransformer(**{"n_components": 5, "n_iter": 3, "random_state": 0, **options})


def test_agrees_with_bernoulli_rbm(X):
    """Same parameters, same free energy and hidden probabilities (single precision)."""
    ours, theirs = small().fit(X), BernoulliRBM(n_components=5)
    theirs.components_, theirs._n_features_out = ours.components_.astype(float), 5
    theirs.intercept_hidden_ = ours.intercept_hidden_.astype(float)
    theirs.intercept_visible_ = ours.intercept_visible_.astype(float)
    assert np.abs(ours.components_).max() > 0.01
    np.testing.assert_allclose(ours.score_samples(X), -theirs._free_energy(X), rtol=1e-5)
    np.testing.assert_allclose(ours.transform(X), theirs._mean_hiddens(X), rtol=1e-5)


@pytest.mark.parametrize(
    ("objective", "options"),
    [
        ("pcd", {"chains": 20}),
        ("cd", {"k": 2}),
        ("exact", {}),
        ("pseudolikelihood", {}),
        ("ratio matching", {"entries": 4}),
    ],
)
def test_training_finds_the_pairs(X, objective, options):
    """Every column has a copy: independent units have pseudo log-likelihood -8 log 2; all pairs known, 0."""
    model = small(objective=objective, objective_options=options, n_iter=100, learning_rate=0.05).fit(X)
    assert model.score(X) > -4 * np.log(2)
    shuffled = np.column_stack([np.random.default_rng(i).permutation(column) for i, column in enumerate(X.T)])
    assert model.score_samples(X).mean() > model.score_samples(shuffled).mean() + 1


def test_torch_s_random_state_stays_as_it_was_and_seeds_repeat(X):
    before = torch.get_rng_state()
    first = small().fit(X)
    first.gibbs(X)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(99)
    np.testing.assert_array_equal(first.components_, small().fit(X).components_)
    assert (first.components_ != small(random_state=1).fit(X).components_).any()
    generator = np.random.RandomState(0)
    twice = [small(random_state=generator).fit(X).components_ for _ in range(2)]
    assert (twice[0] != twice[1]).any()


def test_partial_fit_goes_on(X):
    model = small()
    for rows in np.split(X, 4):
        model.partial_fit(rows)
    before = model.components_
    model = pickle.loads(pickle.dumps(model)).partial_fit(X)
    assert model.n_iter_ == 5
    assert (model.components_ != before).any()
    with pytest.raises(ValueError, match="features"):
        model.partial_fit(X[:, :3])


def test_pipeline_search_clone_and_pickle(X):
    y = X[:, 0] != X[:, 1]
    pipeline = make_pipeline(small(), LogisticRegression())
    search = GridSearchCV(pipeline, {"rbmtransformer__n_components": [2, 6]}, cv=2).fit(X, y)
    assert search.best_params_["rbmtransformer__n_components"] in (2, 6)
    own = GridSearchCV(small(n_iter=60), {"learning_rate": [1e-5, 0.05]}, cv=2).fit(X)
    assert own.best_params_ == {"learning_rate": 0.05}
    fitted = small().fit(X)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).transform(X), fitted.transform(X))
    assert clone(fitted).get_params() == fitted.get_params()
    assert not hasattr(clone(fitted), "rbm_")
    assert list(fitted.get_feature_names_out()) == [f"rbmtransformer{i}" for i in range(5)]


def test_grey_levels_are_probabilities_of_bits():
    """Constant columns of 0.1 and 0.8: fitted biases are near their logits, as those of drawn bits would be."""
    X = np.tile([0.1, 0.8], (500, 1))
    model = small(n_iter=1, learning_rate=1e-3).fit(X)
    np.testing.assert_allclose(model.intercept_visible_, np.log(X[0] / (1 - X[0])), atol=0.2)


def test_gibbs_draws_from_the_machine(X):
    """One step from a row against the enumerated transition: six standard errors of 20,000 draws."""
    model = small(n_components=3).fit(X)
    W, b, c = model.components_.T.astype(float), model.intercept_visible_, model.intercept_hidden_
    v = X[3]
    hidden = np.array(np.meshgrid(*[[0, 1]] * 3)).reshape(3, -1).T
    q = 1 / (1 + np.exp(-(v @ W + c)))
    weight = np.prod(np.where(hidden == 1, q, 1 - q), 1)
    expected = weight @ (1 / (1 + np.exp(-(hidden @ W.T + b))))
    drawn = model.gibbs(np.tile(v, (20_000, 1)))
    assert drawn.dtype == bool
    assert (np.abs(drawn.mean(0) - expected) < 6 * np.sqrt(expected * (1 - expected) / 20_000)).all()


@pytest.mark.parametrize(
    "options",
    [{"n_components": 0}, {"batch_size": 2.5}, {"n_iter": 0}, {"learning_rate": 0}, {"learning_rate": -1.0},
     {"objective": "magic"}, {"optimiser": "magic"}, {"objective_options": {"magic": 1}}, {"objective_options": {"k": 0}}],
)  # fmt: skip
def test_bad_options_raise_at_fit(X, options):
    model = small(**options)
    with pytest.raises(ValueError, match=r"got"):
        model.fit(X)


@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_data_outside_the_unit_interval_are_taken_for_its_ends(X, value):
    """As scikit-learn's machine takes any scale, this one does; it says what it makes of it."""
    wild, clipped = X.copy(), X.copy()
    wild[2, 3], clipped[2, 3] = value, round(value)
    with pytest.warns(UserWarning, match=f"got {value:g} among 1 values outside .*MinMaxScaler"):
        model = small().fit(wild)
    np.testing.assert_array_equal(model.components_, small().fit(clipped).components_)
    with pytest.warns(UserWarning, match="outside"):
        found = model.transform(wild)
    np.testing.assert_array_equal(found, model.transform(clipped))


def test_the_package_imports_without_scikit_learn():
    code = "import sys; sys.modules['sklearn'] = None; import pyro_dgm as dgm; dgm.RBM, dgm.fit, dgm.log_partition"
    subprocess.run([sys.executable, "-c", code], check=True)
