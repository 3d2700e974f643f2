"""Any model as scikit-learn's estimators: its own checks, figures against dgm's own, and the units of the data."""

import pickle

import numpy as np
import pandas
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import pyro_dgm as dgm
from pyro_dgm import registry
from pyro_dgm.sklearn import DensityEstimator, FeatureTransformer, ModelClassifier, ModelImputer
from pyro_dgm.sklearn import estimator as room

QUICK = {"epochs": 2, "random_state": 0}

CHECKED = [
    DensityEstimator("nade", {"hidden": 3}, **QUICK),
    FeatureTransformer("gaussianrbm", {"hidden": 3}, objective={"kind": "cd"}, **QUICK),
    ModelClassifier(
        "classrbm",
        {"hidden": 20},
        objective={"criterion": "discriminative"},
        epochs=8,
        learning_rate=0.03,
        random_state=0,
    ),
    ModelImputer("affinegenerator", draws=2, **QUICK),
]


@pytest.mark.filterwarnings("ignore:.*values outside", "ignore:.*density", "ignore:.*columns hold")
@parametrize_with_checks(CHECKED)
def test_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


FAMILIES = {
    "rbm": ({"hidden": 3}, {}),
    "spikeslabrbm": ({"hidden": 3}, {"method": "ais", "chains": 10, "temperatures": 20}),
    "dbm": ({"hidden": (3, 2)}, {}),
    "vae": ({"hidden": (4,), "latent": 2, "output": "gaussian"}, {"particles": 20}),
    "sbn": ({"hidden": (3,)}, {"particles": 20}),
    "gan": ({"hidden": (4,), "latent": 2, "noise": 0.5, "output": "linear"}, {"temperatures": 5, "chains": 4}),
    "flowgenerator": ({}, {}),
    "rnade": ({"hidden": 3}, {}),
    "diffusioninversion": ({"steps": 3}, {}),
    "gsn": ({"hidden": (4,)}, {}),
    "denoisingautoencoder": ({"hidden": (4,)}, {}),
}
"""Options of a small model, and of its likelihood: a name or two of every chapter."""


@pytest.mark.filterwarnings("ignore:.*values outside", "ignore:.*density", "ignore:.*columns hold")
@pytest.mark.parametrize("name", FAMILIES)
def test_a_model_is_every_estimator_that_it_can_be(name):
    """And the same question has the same answer, in the precision of the rows, while torch's generator stays as it was."""
    X = np.random.default_rng(0).normal(3, 2, (30, 4)).astype(np.float32)
    made, evidence = FAMILIES[name]
    options = {"options": made, "epochs": 1, "batch_size": 10, "random_state": 0}
    cls, state = registry.model(name), torch.get_rng_state()
    holes = X.copy()
    holes[::3, 1] = np.nan
    for ability, estimator, ask in (
        ("evidence", DensityEstimator(name, **options, evidence=evidence), lambda model: model.score_samples(X)),
        ("hidden_features", FeatureTransformer(name, **options), lambda model: model.transform(X)),
        ("impute", ModelImputer(name, **options, draws=4), lambda model: model.transform(holes)),
    ):
        if ability not in cls.abilities():
            with pytest.raises(ValueError, match=f"model got '{name}', which has no .*; expected one of"):
                estimator.fit(X)
            continue
        estimator.fit(holes if ability == "impute" else X)
        first, again = ask(estimator), ask(pickle.loads(pickle.dumps(estimator)))
        assert np.isfinite(first).all()
        assert len(first) == 30
        np.testing.assert_array_equal(first, again)
        if ability == "impute":
            np.testing.assert_array_equal(first[~np.isnan(holes)], holes[~np.isnan(holes)])
            assert first.dtype == np.float32
    assert torch.equal(torch.get_rng_state(), state)


def test_densities_are_in_the_units_of_the_data():
    """A density integrates to one over the line, a probability sums to one over all bits."""
    x = np.random.default_rng(0).normal(500, 20, (400, 1))
    density = DensityEstimator("affinegenerator", epochs=30, random_state=0).fit(x)
    grid = np.linspace(200, 800, 6001)[:, None]
    assert np.exp(density.score_samples(grid)).sum() * 0.1 == pytest.approx(1, abs=1e-3)
    assert density.kind_ == "exact"
    assert density.score(x) == pytest.approx(density.score_samples(x).mean())
    # A normal law of the data's own moments has the highest mean log-density that a normal law can have.
    assert density.score(x) > -0.5 - np.log(20 * np.sqrt(2 * np.pi)) - 0.3
    drawn = density.sample(4000, random_state=3)  # its mean within six standard errors, of the trained spread
    assert abs(drawn.mean() - 500) < 6 * drawn.std() / np.sqrt(4000) + 5
    bits = (np.random.default_rng(1).random((60, 4)) < [0.2, 0.5, 0.7, 0.9]).astype(float)
    states = np.array(np.meshgrid(*[[0.0, 1.0]] * 4)).reshape(4, -1).T
    for name in ("nade", "rbm"):
        model = DensityEstimator(name, {"hidden": 3}, epochs=3, random_state=0).fit(bits)
        assert np.exp(model.score_samples(states)).sum() == pytest.approx(1, abs=1e-5)
        assert set(np.unique(model.sample(50))) == {0.0, 1.0}


def test_the_density_is_that_of_the_model(digits_rows):
    model = DensityEstimator("nade", {"hidden": 8}, epochs=1, random_state=0).fit(digits_rows[:200])
    theirs = dgm.log_likelihood(model.model_, torch.tensor(digits_rows[200:300])).value
    assert model.score(digits_rows[200:300]) == pytest.approx(theirs, abs=1e-6)


@pytest.fixture(scope="module")
def digits_rows():
    return (load_digits().data > 8).astype(float)


def test_imputed_values_follow_the_known_ones():
    """y is 10 x plus noise of a tenth of its variance: given x the mean has a tenth of the error of the plain mean."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 1))
    X = np.hstack([x, 10 * x + np.sqrt(10) * rng.normal(size=(600, 1)) + 50])
    holes = X.copy()
    holes[::2, 1] = np.nan
    imputer = ModelImputer("affinegenerator", epochs=15, learning_rate=0.03, random_state=0, draws=50).set_output(
        transform="pandas"
    )
    filled = imputer.fit_transform(pandas.DataFrame(holes, columns=["x", "y"]))
    assert list(filled.columns) == ["x", "y"]
    error = ((filled.to_numpy()[::2, 1] - X[::2, 1]) ** 2).mean()
    assert error < 0.25 * X[:, 1].var()
    with pytest.raises(ValueError, match=r"no complete row, and nade is trained on complete ones"):
        ModelImputer("nade", **QUICK).fit(np.where([[True, False]] * 5, np.nan, 1.0))


def test_features_and_classes_in_pipelines_and_searches(digits_rows):
    X, y = load_digits(return_X_y=True)
    classifier = ModelClassifier(
        "classrbm", {"hidden": 60}, objective={"criterion": "hybrid"}, learning_rate=0.03, random_state=0
    )
    pipeline = make_pipeline(MinMaxScaler(), classifier.set_params(epochs=15)).fit(X[:800], y[:800])
    assert pipeline.score(X[1200:], y[1200:]) > 0.85
    search = GridSearchCV(DensityEstimator("nade", {"hidden": 4}, **QUICK), {"learning_rate": [1e-5, 0.05]}, cv=2)
    assert search.fit(digits_rows[:150]).best_params_ == {"learning_rate": 0.05}
    features = FeatureTransformer("vae", {"latent": 3, "hidden": (8,)}, **QUICK).fit(digits_rows[:80])
    assert list(features.get_feature_names_out()) == [f"featuretransformer{i}" for i in range(3)]
    assert clone(features).get_params() == features.get_params()
    assert search.best_estimator_.score(digits_rows[150:200]) > -64 * np.log(2)  # better than even bits


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (DensityEstimator("gsn"), "'gsn', which has no likelihood; expected one of"),
        (DensityEstimator("classrbm"), "'classrbm', which models rows with their labels"),
        (DensityEstimator("gsn", {"classes": 2}), "'gsn', which has no likelihood"),
        (FeatureTransformer("gsn", {"classes": 2}), "options got classes=2; expected none"),
        (FeatureTransformer("conditionalrbm", {"inputs": 1}), "which models some columns of a row given others"),
        (DensityEstimator("nothing"), "there is no model 'nothing'"),
        (DensityEstimator("nade", {"width": 3}), "NADE has no option 'width'"),
        (DensityEstimator("nade", epochs=0), "epochs got 0"),
        (
            DensityEstimator("nade", training={"progress": True}),
            "training got 'progress', which is never shown by an est",
        ),
        (
            DensityEstimator("nade", training={"seed": 1}),
            "training got 'seed', which is chosen by random_state; expected",
        ),
        (
            DensityEstimator("nade", training={"epochs": 1}),
            "training got 'epochs', which is an argument of its own; expec",
        ),
        (
            DensityEstimator("nade", training={"speed": 1}),
            "training got 'speed', which is unknown; expected some of av",
        ),
        (DensityEstimator("nade", training=["decay"]), "training got .*; expected a dictionary"),
        (ModelClassifier("rbm"), "'rbm', which gives no probabilities of labels; expected one of"),
        (ModelClassifier("classrbm"), "ModelClassifier got one class, 0"),
    ],
)
def test_what_is_refused(estimator, message):
    with pytest.raises(ValueError, match=message):
        estimator.fit(np.zeros((6, 3)), np.zeros(6, dtype=int))


def test_a_half_is_the_same_bit_everywhere():
    """The estimators of a dataset's threshold: half a grey level is the bit 0."""
    X = np.random.default_rng(0).integers(0, 3, (30, 4)) / 2
    bits = dgm.data.bits.nearer_bits(torch.tensor(X)).numpy()
    np.testing.assert_array_equal(bits, X > 0.5)
    density = DensityEstimator("nade", {"hidden": 3}, **QUICK).fit(X)
    np.testing.assert_array_equal(density.score_samples(X), density.score_samples(bits))
    transformer = dgm.RBMTransformer(2, n_iter=1, random_state=0).fit(X)
    assert transformer.score(X) == transformer.score(bits)


def test_a_classifier_tells_flowers_apart_by_bits():
    """Columns above their medians are bits that tell most of the three kinds."""
    X, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    model = ModelClassifier("conditionalvae", {"hidden": (20,), "latent": 2}, epochs=15, random_state=0)
    rows = (np.median(X, 0) < X).astype(float)
    assert model.fit(rows, names).score(rows, names) > 0.7
    np.testing.assert_allclose(model.predict_proba(rows).sum(1), 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "options", "low"),
    [
        ("vae", {"output": "logistic", "levels": 17}, 0),
        ("vae", {"output": "logistic"}, 0),
        ("gan", {"output": "sigmoid", "noise": 0.2}, 0),
        ("gan", {"output": "tanh", "noise": 0.4}, -1),
    ],
)
def test_models_of_columns_with_ends_see_grey_levels_as_they_are(name, options, low):
    """No bits are drawn of them, and the figures are those of the rows themselves; what is outside the ends counts as the end."""
    steps = options.get("levels", 256) - 1
    X = np.random.default_rng(0).integers(low * steps, steps + 1, (40, 5)) / steps
    evidence = {"particles": 3} if name == "vae" else {"temperatures": 3, "chains": 2}
    model = DensityEstimator(name, {"latent": 2, "hidden": (4,), **options}, **QUICK, evidence=evidence)
    model.fit(X)
    assert (model.units_.bits, model.units_.low) == (False, low)
    with model._seeded(), torch.no_grad():
        theirs = model.model_.evidence(torch.tensor(X), **evidence).values
    np.testing.assert_array_equal(model.score_samples(X), theirs)
    with pytest.warns(UserWarning, match=rf"got 2 among 1 values outside \[{low}, 1\]: they are taken for {low} or 1"):
        model.score_samples(np.vstack([X[:3], [[2.0, 0, 0, 0, 0]]]))


@pytest.mark.parametrize(
    ("name", "options", "values"),
    [
        ("boltzmannmachine", {"hidden": 2, "unit": "spin"}, [-1, 1]),
        ("fvbn", {"output": "categorical:3"}, [0, 1, 2]),
        ("fvbn", {"output": ("binary", "gaussian", "gaussian", "categorical:4")}, [0, 1]),
    ],
)
def test_spins_classes_and_columns_of_several_kinds_stay_as_they_are(name, options, values):
    """None is taken for a grey level outside [0, 1], nor for the nearer bit."""
    rng = np.random.default_rng(0)
    X = rng.choice(np.array(values, float), (40, 4))
    if len(values) == 2 and name == "fvbn":
        X[:, 1:3], X[:, 3] = 7 + 3 * rng.standard_normal((40, 2)), rng.integers(0, 4, 40)
    model = DensityEstimator(name, options, **QUICK).fit(X)
    with model._seeded(), torch.no_grad():
        theirs = model.model_.evidence(torch.tensor(X)).values
    np.testing.assert_array_equal(model.score_samples(X), theirs)
    model.model_.check_data(torch.tensor(model.sample(9)))
    imputer = ModelImputer(name, options, **QUICK, draws=4)
    holes = np.where(rng.random(X.shape) < 0.1, np.nan, X)
    np.testing.assert_array_equal(imputer.fit(X).transform(holes)[~np.isnan(holes)], X[~np.isnan(holes)])


@pytest.mark.parametrize(
    ("training", "share"),
    [({"patience": 2}, 36), ({"keep": "best"}, 36), ({"decay": "ReduceLROnPlateau"}, 36), ({"decay": "linear"}, 40)],
)
def test_a_tenth_is_held_out_where_an_option_looks_at_validation_rows(training, share, monkeypatch):
    """Rows of every kind, though they come in order: none is trained on and held out, and all are one or the other."""
    X, taken = np.arange(40.0)[:, None], []

    def watched(model, data, **options):
        taken.append(data)
        return dgm.fit(model, data, **options)

    monkeypatch.setattr(room, "fit", watched)
    DensityEstimator("affinegenerator", training=training, **QUICK).fit(X)
    train, valid = taken[0].train.x.flatten().tolist(), taken[0].valid.x.flatten().tolist()
    assert len(train) == share
    assert len(set(train + valid)) == 40
    if share < 40:
        assert len(valid) == 4
        assert max(valid) - min(valid) > 4 / X.std()  # not the last rows


def test_texts_in_a_data_frame_are_refused_by_name():
    """At fit and after it; numbers in categories are numbers, as scikit-learn has them."""
    frame = pandas.DataFrame({"tall": [0, 1, 1, 0], "town": list("abca"), "old": pandas.Categorical([1, 0, 0, 1])})
    bits = frame[["tall", "old"]]
    for estimator in (
        DensityEstimator("nade", {"hidden": 3}, **QUICK), ModelImputer("rbm", {"hidden": 3}, **QUICK),
        FeatureTransformer("rbm", {"hidden": 3}, **QUICK), ModelClassifier("classrbm", {"hidden": 3}, **QUICK),
        dgm.RBMTransformer(3), dgm.RBMClassifier(3),
    ):  # fmt: skip
        name = type(estimator).__name__
        with pytest.raises(
            ValueError, match=rf"{name} got a data frame with texts \('town'\); .*OneHotEncoder.*\['town'\]"
        ):
            estimator.fit(frame, [0, 1, 1, 0])
        estimator.fit(bits, [0, 1, 1, 0])
        ask = next(
            getattr(estimator, verb) for verb in ("score_samples", "transform", "predict") if hasattr(estimator, verb)
        )
        with pytest.raises(ValueError, match="with texts"):
            ask(frame)
    dates = pandas.DataFrame({"day": pandas.to_datetime(["2020-01-01"] * 4)})
    with pytest.raises(ValueError, match="column 'day' holds datetime"):
        DensityEstimator("nade", **QUICK).fit(dates)
