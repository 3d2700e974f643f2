"""Columns of one value are found, with the nats that they make of a figure; figures go back through preprocessing."""

import math
import warnings

import pytest
import torch

import pyro_dgm as dgm
from pyro_dgm.data import Dataset, Space, Split
from pyro_dgm.data.preprocessing import preprocess
from pyro_dgm.evaluation.constant_columns import DRAWS, constant_columns, nats_of_columns
from pyro_dgm.evaluation.likelihood import with_details


def independent(columns, scale):
    """A machine of independent normal columns of mean zero."""
    model = dgm.GaussianRBM(columns, 1)
    with torch.no_grad():
        model.weight.zero_()
        model.visible_bias.zero_()
        model.log_precision.copy_(-2 * torch.as_tensor(scale).log())
    return model


@pytest.mark.parametrize(("scale", "nats"), [(0.1, 1.383646560), (0.01, 3.686231653), (0.001, 5.988816746)])
def test_the_nats_of_constant_columns(scale, nats):
    """67 of 70 columns hold zero; the figure is exact, so that the nats of the others are the rest of it."""
    model = independent(70, torch.cat([torch.full((67,), scale), torch.ones(3)]))
    x = torch.cat([torch.zeros(200, 67), torch.randn(200, 3)], 1)
    state = torch.get_rng_state()
    with pytest.warns(UserWarning, match=r"columns 0, 1, .* and 57 more hold one value in all 200 rows.* make about"):
        figure, details = with_details(model, x, "toy", method="exact")
    assert torch.equal(state, torch.get_rng_state())
    # A column's log-density is off by s'/s and (m' / s)^2 / 2, of mean 1 / 2n and variance 1 / 2n over draws.
    error = 67 / (2 * DRAWS) + 4 * math.sqrt(67 / (2 * DRAWS))
    assert details["nats_of_constant_columns"] == pytest.approx(67 * nats, abs=error)
    assert details["constant_columns"] == 67
    rest = torch.distributions.Normal(0, 1).log_prob(x[:, 67:]).sum(1).mean()
    assert figure.value == pytest.approx(67 * nats + float(rest), abs=1e-2)


def test_columns_of_nearly_one_value_are_found():
    x = torch.randn(300, 4)
    x[:, 1] = 5.0
    x[:3, 1] = 1.0  # 99 % hold 5
    x[:, 2] = 5.0
    x[:4, 2] = 1.0
    every = torch.ones(4, dtype=torch.bool)
    assert constant_columns(x, every).tolist() == [False, True, False, False]
    assert constant_columns(x[:50], every).tolist() == [False] * 4
    assert constant_columns(x, ~every).tolist() == [False] * 4
    x[100:, 3] = torch.nan
    x[:100, 3] = 1.0
    assert constant_columns(x, every)[3]
    with pytest.warns(UserWarning, match="the column 1 holds one value in nearly all 300 rows"):
        dgm.log_likelihood(independent(4, 1.0), x.nan_to_num(1.0)[:, [0, 1, 0, 0]], method="exact")


def test_models_that_draw_no_whole_rows_tell_no_nats(monkeypatch):
    model = independent(3, 1.0)

    def refuses(n):
        raise ValueError("labels are needed")

    monkeypatch.setattr(model, "sample", refuses)
    assert nats_of_columns(model, torch.zeros(2, 3), torch.ones(3, dtype=torch.bool)) is None


def data(rows, space):
    parts = [Split(part, space) for part in rows.split([300, 50, 50])]
    return Dataset("toy", *parts, (rows.shape[1],))


def test_figures_go_back_through_standardisation():
    """A linear model of standardised rows is a linear model of the rows: both log-densities agree to rounding."""
    torch.manual_seed(0)
    raw = data(torch.randn(400, 3) @ torch.randn(3, 3) * 10 + 5, Space("real", "as given"))
    standard = preprocess(raw, "standardised")
    model = dgm.FVBN(3, output="gaussian")
    model.initialise(standard.train.x)
    figure, details = with_details(model, standard.test)
    mean, covariance = raw.train.x.double().mean(0), raw.train.x.double().T.cov(correction=0)
    expected = torch.distributions.MultivariateNormal(mean, covariance).log_prob(raw.test.x.double()).mean()
    back = figure.before(standard.test.space)
    assert back.space == "real (as given)"
    assert details["value_before_preprocessing"] == back.value
    assert back.value - figure.value == pytest.approx(standard.test.space.log_determinant)
    scale = raw.train.x.std(0, correction=0)
    assert back.value - figure.value == pytest.approx(-float(scale.log().sum()), abs=1e-5)
    assert back.value == pytest.approx(float(expected), abs=0.05)  # shrinkage of the ridge that starts the model
    with pytest.raises(ValueError, match="different spaces"):
        back - figure


def test_dequantised_grey_levels_and_whitened_ones():
    grey = data((torch.rand(400, 9) * 255).round() / 255, Space("unit interval", "grey levels"))
    space = preprocess(grey, "standardised").test.space
    assert space.before == "unit interval (dequantised)"
    # A uniform law of the unit cube has the log-density 0 there, whose standardised rows have that of its scale.
    assert space.log_determinant == pytest.approx(9 * math.log(12**0.5), abs=0.5)
    whitened = preprocess(grey, "whitened", components=4, scale=0.5)
    zca = preprocess(grey, "zca", epsilon=0.1)
    for found, columns in ((whitened, 4), (zca, 9)):
        before, x = found.test.space.before, found.train.x.double()
        assert before.startswith(f"real (normalised, {min(columns, 8)} components")
        # Log-determinants of covariances differ by twice that of the map.
        normalised = dgm.data.whitening.normalise(grey.train.x).double()
        values = torch.linalg.eigvalsh(normalised.T.cov()).flip(0)[: min(columns, 8)]
        after = torch.linalg.slogdet(x.T.cov())[1]
        shift = 0.5 * float(values.log().sum() - after)  # the noise of equal pixels has the scale 1
        assert -found.test.space.log_determinant == pytest.approx(shift, abs=0.15 if columns == 9 else 1e-3)


def test_a_density_above_the_ceiling_warns():
    """784 columns of 256 levels: 784 log 256 before their scaling. A law near its rows passes it, and is named."""
    rows = (torch.rand(400, 784, generator=torch.Generator().manual_seed(0)) * 255).round() / 255
    standard = preprocess(data(rows, Space("unit interval", "grey levels")), "standardised")
    space = standard.test.space
    assert space.ceiling + space.log_determinant == pytest.approx(4347.419116, abs=1e-4)
    one = standard.test[:2]
    near = independent(784, 1e-4)
    with torch.no_grad():
        near.visible_bias.copy_(one.x[0])
    with pytest.warns(UserWarning, match="which no law passes on rows of real"):
        dgm.log_likelihood(near, one[:1], method="exact")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dgm.log_likelihood(independent(784, 1.0), standard.test, method="exact")


@pytest.mark.parametrize(
    "space", [Space("real", "as given"), Space("binary", "fixed"), Space("real", "other", 1.0, "real")]
)
def test_figures_without_a_way_back_are_refused(space):
    figure = dgm.LogLikelihood(-1.0, 0, 0, -1, -1, "exact", "m", "real (as given)", 3, "density")
    with pytest.raises(ValueError, match="cannot be brought to the space before"):
        figure.before(space)


def test_densities_without_such_columns_say_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, details = with_details(independent(3, 1.0), torch.randn(200, 3), "toy", method="exact")
    assert "constant_columns" not in details
    assert "value_before_preprocessing" not in details


def test_the_constant_pixels_of_mnist(data_dir):
    """67 in all training rows; one test row breaks two of them."""
    mnist = dgm.data.load("mnist", data_dir)
    every = torch.ones(784, dtype=torch.bool)
    train, test = (constant_columns(rows, every) for rows in (mnist.train.x[:, :], mnist.test.x))
    always = mnist.train.x.amax(0) == mnist.train.x.amin(0)
    assert int(always.sum()) == 67
    assert bool((train & test)[always].all())  # nearly all test rows hold them too
    assert int((mnist.test.x[:, always] != mnist.train.x[0, always]).sum()) == 2
