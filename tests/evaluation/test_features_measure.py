"""The measure of features: errors by the number of labels, with the weight decay that validation rows choose."""

import dataclasses

import pytest
import torch

import pyro_dgm as dgm
from pyro_dgm.data import Dataset, Space, Split
from pyro_dgm.recipes.measures import Trained, features, measured


class Signs:
    """A model whose features tell the class, where pixels alone do not to a linear classifier."""

    def hidden_features(self, x):
        return (x[:, :1] != x[:, 1:2]).float()

    def pixels(self, x):
        return x

    def nothing(self, x):
        return torch.zeros(len(x), 3)


def signs():
    x = torch.randint(0, 2, (400, 4), generator=torch.Generator().manual_seed(0)).float()
    split = Split(x, Space("binary"), (x[:, 0] != x[:, 1]).long())
    return Dataset("toy", split[:200], split[200:300], split[300:], (2, 2))


def test_errors_with_few_labels_and_many():
    data = signs()
    options = {"labels": (40, 1000), "classifiers": {"softmax": (0.1,)}, "steps": 600}
    figure, text, details = measured("features", Trained(Signs(), data, None, False), options)
    assert figure["value"] == 0
    assert figure["kind"] == "test error"
    assert details == {"percent_wrong_with_40_labels": 0.0, "percent_wrong_with_200_labels": 0.0}
    assert "200 labels" in text
    chance = measured("features", Trained(Signs(), data, None, False), {**options, "features": "nothing"})[0]
    assert chance["value"] > 0.3


def test_classifiers_with_curved_borders_tell_classes_that_pixels_alone_do_not():
    """Pixels are four bits here, of which every row has copies among the training rows."""
    classifiers = {"svm": (1e-4, 10.0), "neighbours": (1, 150), "softmax": (0.1,)}
    options = {"labels": (200,), "features": "pixels", "classifiers": classifiers}
    figure, text, details = measured("features", Trained(Signs(), signs(), None, False), options)
    # The other settings are too coarse, as validation rows say.
    assert figure["value"] == details["percent_wrong_with_200_labels"] == 0
    assert details["percent_wrong_by_neighbours_with_200_labels"] == 0
    assert details["percent_wrong_by_softmax_with_200_labels"] > 30
    assert "support vector machine" in text


@pytest.mark.parametrize("classifier", features.WORDS)
def test_features_that_never_change_tell_nothing(classifier):
    options = {"classifiers": {classifier: (1.0,)}, "features": "nothing", "steps": 10}
    figure, _, _ = measured("features", Trained(Signs(), signs(), None, False), options)
    assert 0.3 < figure["value"] < 0.7


def test_few_rows_may_choose_the_setting():
    sizes = []

    options = {"labels": (200,), "classifiers": {"neighbours": (1, 3)}, "chosen_by": 50, "features": "pixels"}
    with pytest.MonkeyPatch.context() as patch:
        whole = features._neighbours
        patch.setattr(features, "_neighbours", lambda x, *rest: sizes.append(len(x)) or whole(x, *rest))
        measured("features", Trained(Signs(), signs(), None, False), options)
    assert sizes == [50, 50, 200]


def test_an_unknown_classifier_is_refused():
    with pytest.raises(ValueError, match="classifiers got 'forest'"):
        measured("features", Trained(Signs(), signs(), None, False), {"classifiers": {"forest": (1,)}})


@pytest.mark.parametrize("anew", [False, True])
def test_validation_rows_in_training_do_not_choose_the_decay(monkeypatch, anew):
    """With them at the end of the training rows, with the same bits or others, judged classifiers are trained on the others."""
    x = torch.eye(2).repeat(30, 1)
    split = Split(x, Space("binary"), torch.arange(60) % 2)
    data = Dataset("toy", split[:40], split[40:50], split[50:], (2,)).with_validation_in_training()
    if anew:
        data = dataclasses.replace(data, valid=Split(1 - data.valid.x, data.valid.space, data.valid.labels))
    sizes = []

    def fit(network, rows, labels, **options):
        sizes.append(len(rows))
        return [0.0]

    monkeypatch.setattr("pyro_dgm.train.classify.fit_classifier", fit)
    model = type("Pixels", (), {"hidden_features": staticmethod(lambda rows: rows)})()
    measured(
        "features",
        Trained(model, data, None, False),
        {"labels": (1000,), "classifiers": {"softmax": (0.1, 1.0)}, "steps": 1},
    )
    assert sizes == [40, 40, 50]
    assert dgm.error_rate(torch.eye(2), torch.arange(2)) == 0
