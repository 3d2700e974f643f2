"""Settings of scikit-learn's estimators that cannot work, refused in words and before anything is trained."""

import numpy as np
import pytest

import pyro_dgm as dgm
from pyro_dgm.sklearn import DensityEstimator, FeatureTransformer, ModelClassifier, ModelImputer
from pyro_dgm.sklearn import estimator as room

RNG = np.random.default_rng(0)
BITS = (RNG.random((40, 4)) < 0.5).astype(float)
LABELS = (BITS[:, 0] > 0).astype(int)
QUICK = {"epochs": 1, "random_state": 0}
MODELS = {
    DensityEstimator: {"model": "rbm", "options": {"hidden": 3}, **QUICK},
    FeatureTransformer: {"model": "rbm", "options": {"hidden": 3}, **QUICK},
    ModelImputer: {"model": "rbm", "options": {"hidden": 3}, **QUICK},
    ModelClassifier: {"model": "classrbm", "options": {"hidden": 3}, **QUICK},
}


def fitted(cls, X=BITS, **settings):
    return cls(**{**MODELS.get(cls, {"n_iter": 1, "random_state": 0}), **settings}).fit(X, LABELS)


@pytest.fixture
def untrained(monkeypatch):
    """Nothing may be trained."""

    def never(*_, **__):
        raise AssertionError

    monkeypatch.setattr(room, "fit", never)


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize("cls", MODELS)
def test_models_are_named_and_their_options_too(cls):
    """0 and an empty list stood for no options, other things for an error of Python's."""
    for wrong in (None, 0, 1.5, True, [], {"x": 1}):
        with pytest.raises(ValueError, match=r"model got .*; expected a name, such as 'rbm'"):
            fitted(cls, model=wrong)
    for name in ("options", "objective", "training"):
        for wrong in (0, True, "a", [], [3], {1: 2}):
            with pytest.raises(ValueError, match=rf"{name} got .*; expected a dictionary, as {{"):
                fitted(cls, **{name: wrong})


@pytest.mark.usefixtures("untrained")
def test_questions_are_known_before_training():
    """They were refused when the trained model was asked."""
    for wrong in (5, "a", [], {1: 2}):
        with pytest.raises(ValueError, match=r"evidence got .*; expected a dictionary"):
            fitted(DensityEstimator, evidence=wrong)
    with pytest.raises(ValueError, match=r"got the option 'particels'; VAE has .*particles"):
        fitted(DensityEstimator, model="vae", options={"hidden": (3,), "latent": 2}, evidence={"particels": 5})
    for wrong in (0, -1, "a", 1.5, True, None):
        with pytest.raises(ValueError, match=f"draws got {wrong!r}; expected the draws or particles"):
            fitted(ModelImputer, draws=wrong)


def test_evidence_may_choose_its_method():
    assert np.isfinite(fitted(DensityEstimator, evidence={"method": "ais", "chains": 5}).score(BITS))


@pytest.mark.parametrize("cls", [dgm.RBMTransformer, dgm.RBMClassifier])
def test_settings_of_machines_are_numbers(cls):
    """A grid of sizes of batches from NumPy failed inside torch."""
    units = "n_components" if cls is dgm.RBMTransformer else "hidden"
    fitted(cls, **{units: np.int64(3)}, batch_size=np.int64(10))
    with pytest.raises(ValueError, match=f"{units} got 1000000000000000, which asks for"):
        fitted(cls, **{units: 10**15})


def test_options_of_a_transformers_objective_are_named():
    for wrong in (0, True, [], [1], {1: 2}, "a"):
        with pytest.raises(ValueError, match=r"objective_options got .*; expected a dictionary"):
            fitted(dgm.RBMTransformer, n_components=3, objective_options=wrong)


@pytest.mark.parametrize(
    ("cls", "settings"),
    [(dgm.RBMClassifier, {}), (DensityEstimator, {"model": "affinegenerator", "options": None})],
)
def test_columns_have_variances(cls, settings):
    """An infinite one left the column out without a word, or gave a log-density of minus infinity."""
    huge = BITS.copy()
    huge[:, 2] = 1e300 * RNG.normal(size=40)
    with pytest.raises(
        ValueError, match=r"X has values up to .*e\+300 in column 2, whose variance is beyond all numbers"
    ):
        fitted(cls, huge, **settings)


def test_more_rows_than_memory_holds_are_not_drawn():
    for call in (fitted(DensityEstimator).sample, dgm.RBM(4, 3).sample, dgm.VAE(4, 2).sample):
        with pytest.raises(ValueError, match="n got 1000000000000, which asks for"):
            call(10**12)
    with pytest.raises(ValueError, match="log_partition: chains got 1000000000000, which asks for"):
        dgm.log_partition(dgm.RBM(4, 3)(), method="ais", chains=10**12)
