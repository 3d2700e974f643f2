"""Measures of recipes against figures worked out here."""

import pytest
import torch

import pyro_dgm as dgm
from pyro_dgm.recipes.measures import Trained, measured


def trained(model, rows):
    split = dgm.data.Split(rows, dgm.data.Space("real", "toy"))
    return Trained(model, dgm.data.Dataset("toy", split, split, split, (rows.shape[1],)), None, True)


def test_a_prediction_is_judged_by_its_mean_and_by_its_density():
    """Without hidden weights outputs are normal about b + xA."""
    torch.manual_seed(0)
    model, rows = dgm.ConditionalRBM(5, 3, 2, "gaussian"), torch.randn(20, 5)
    with torch.no_grad():
        model.weight.zero_()
        model.visible_weight.normal_()
        model.visible_bias.normal_()
        model.log_precision.normal_()
        means = model.visible_bias + rows[:, :3] @ model.visible_weight
        normal = torch.distributions.Normal(means, (-0.5 * model.log_precision).exp())
    figure, text, details = measured("prediction", trained(model, rows), {})
    assert figure["value"] == pytest.approx(float(normal.log_prob(rows[:, 3:]).sum(1).mean()), abs=1e-4)
    assert text.endswith("given the first 3 columns, real (toy)")
    errors = (means - rows[:, 3:]).square().sum(1)
    assert details["squared_error"] == pytest.approx(float(errors.mean()), abs=1e-4)
    assert details["squared_error_stderr"] == pytest.approx(float(errors.std()) / 20**0.5, abs=1e-4)


def test_an_unknown_measure_is_refused():
    with pytest.raises(ValueError, match="measure got 'beauty'; expected one of likelihood"):
        measured("beauty", trained(*dgm.RBM.example()), {})


def test_a_likelihood_of_fewer_rows_takes_them_evenly():
    """At most three of ten rows are every fourth."""
    torch.manual_seed(0)
    model, rows = dgm.NADE(3, 2), (torch.rand(10, 3) < 0.5).float()
    figure, _, _ = measured("likelihood", trained(model, rows), {"rows": 3})
    assert figure["n"] == 3
    assert figure["value"] == pytest.approx(float(model().log_prob(rows[[0, 4, 8]]).mean()), abs=1e-5)


def test_samples_are_measured_in_every_way():
    """Samples of the data's own law: no test tells them from test rows."""
    torch.manual_seed(0)
    model = dgm.GMMN.example()[0]
    rows = model.sample(400).detach()
    parts = [dgm.data.Split(part, dgm.data.Space("unit interval", "toy")) for part in rows.split([200, 100, 100])]
    toy = Trained(model, dgm.data.Dataset("toy", *parts, (rows.shape[1],)), None, False)
    widths = [0.005 * 2**i for i in range(10)]
    _, _, details = measured("parzen", toy, {"samples": 100, "widths": widths})
    assert min(details["logistic_p_value"], details["mmd_p_value"]) > 0.001
    assert {"training_rows", "k_means_centres", "density", "coverage", "neighbour_accuracy_on_data"} <= details.keys()


def test_windows_around_means_are_means_and_others_are_refused():
    """A model without means or steps says so before anything is measured; means without a number of steps are means."""
    torch.manual_seed(0)
    model, rows = dgm.DenoisingAutoencoder.example()[0], torch.rand(200, 4)
    space = dgm.data.Space("unit interval", "toy")
    parts = [dgm.data.Split(rows, space) for _ in range(3)]
    toy = Trained(model, dgm.data.Dataset("toy", *parts, (4,)), None, True)
    asked = []
    model.sample_means = lambda n, **options: asked.append(options) or torch.rand(n, 4)
    widths = [0.005 * 2**i for i in range(10)]
    figure, _, _ = measured("parzen", toy, {"samples": 50, "means": True, "widths": widths})
    assert asked == [{}]
    assert figure["method"] == "50 windows around means"
    for cls, options, message in (
        (dgm.RBM, {"means": True}, "has no means of rows"),
        (dgm.VAE, {"steps": 3}, "draws by no chain"),
        (dgm.ContractiveAutoencoder, {"means": True}, "has no means of rows"),
    ):
        with pytest.raises(ValueError, match=message):
            measured("parzen", toy._replace(model=cls.example()[0]), options)


@pytest.mark.parametrize("empty", [{"labels": ()}, {"classifiers": {}}, {"classifiers": {"svm": ()}}])
def test_features_without_anything_to_try_are_refused(empty):
    with pytest.raises(ValueError, match="expected numbers of labels, and settings to try"):
        measured("features", trained(*dgm.RBM.example()), empty)
