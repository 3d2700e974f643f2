"""Convolutional DBM: values of another program, in-painting, machines that it contains, bad input."""

import pytest
import torch
from oracles.waves import bits, wave

import pyro_dgm as dgm


def machine():
    """Pictures 3 x 5, two filters 2 x 2 in regions 2 x 2, and two filters 1 x 1 of pooling units above."""
    model = dgm.ConvolutionalDBM(15, (2, 2), (2, 1), (2, 1), (3, 5)).double()
    with torch.no_grad():
        model.weights[0].copy_(wave(0.6, 1, 2, 1, 2, 2))
        model.weights[1].copy_(wave(0.7, 4, 2, 2, 1, 1))
        model.visible_bias.copy_(wave(0.4, 3, 1))
        model.hidden_biases[0].copy_(wave(0.5, 2, 2))
        model.hidden_biases[1].copy_(wave(0.3, 5, 2))
    return model


def test_without_an_upper_weight_it_is_the_pooled_machine():
    """log Z is that of another program's pooled machine, and of the upper layer's free units."""
    model, x = machine(), bits(1, 1, 3, 5).view(1, 15)
    with torch.no_grad():
        model.weights[1].zero_()
    upper = torch.nn.functional.softplus(wave(0.3, 5, 2)).sum() * 2  # two positions
    assert float((dgm.log_partition(model()).value - upper).detach()) == pytest.approx(18.6364675098, abs=1e-9)
    log_p = dgm.log_likelihood(model, x).value
    assert log_p == pytest.approx(-10.0597081712, abs=1e-9)
    assert float(model.pooled(x)[0][0, 1, 0, 0]) == pytest.approx(0.8356712868, abs=1e-9)


def test_filters_of_one_pixel_without_regions_are_a_dense_dbm():
    model = dgm.ConvolutionalDBM(4, (3, 2), (2, 1), (1, 1), (2, 2)).double()
    dense = dgm.DBM(4, (3, 2)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
        dense.weights[0].copy_(model.weights[0].flatten(1).T)
        dense.weights[1].copy_(model.weights[1].flatten(1).T)
        dense.visible_bias.copy_(model.visible_bias.expand(4))
        for one, other in zip(dense.hidden_biases, model.hidden_biases, strict=True):
            one.copy_(other)
    x = bits(2, 6, 4)
    torch.testing.assert_close(model().log_prob(x), dense().log_prob(x))
    torch.testing.assert_close(model.bound(x), dense.bound(x))


def test_the_bound_and_annealing():
    torch.manual_seed(0)
    model, x = machine(), bits(3, 6, 15)
    exact = dgm.log_likelihood(model, x)
    assert exact.kind == "exact"
    log_z = dgm.log_partition(model()).value
    assert (model.bound(x) - log_z <= model().log_prob(x) + 1e-9).all()
    annealed = dgm.log_partition(model(), method="ais")
    assert abs(float(annealed.value - log_z)) < 6 * float(annealed.stderr) + 1e-3


def test_in_painting_has_the_conditional_law():
    """Means of three unknown pixels over 1500 chains, against the listing of their eight states."""
    torch.manual_seed(0)
    model, x = machine(), bits(1, 1, 3, 5).view(1, 15)
    known = torch.ones(15, dtype=torch.bool)
    known[[4, 9, 14]] = False
    every = torch.cartesian_prod(*([torch.tensor([0.0, 1.0]).double()] * 3))
    rows = x.repeat(8, 1)
    rows[:, [4, 9, 14]] = every
    exact = (torch.softmax(model().log_prob(rows), 0)[:, None] * every).sum(0)
    found = model.impute(x.repeat(1500, 1), known, draws=20).mean(0)[[4, 9, 14]]
    assert ((found - exact).abs() < 6 * 0.5 / 1500**0.5).all()


def test_it_trains():
    """Of the 13 nats between fair coins and the law of the pixels a quarter is gained in thirty steps."""
    torch.manual_seed(0)
    x = torch.bernoulli(torch.tensor([0.1, 0.9]).repeat_interleave(18).expand(60, 36))
    model = dgm.ConvolutionalDBM(36, (3, 2), (3, 2), (2, 1))
    before = dgm.log_likelihood(model, x, method="ais", temperatures=50)
    model.initialise(x)
    dgm.fit(model, x, epochs=10, batch_size=20, learning_rate=0.01, progress=False)
    after = dgm.log_likelihood(model, x, method="ais", temperatures=50)
    assert after.value > before.value + 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filters": ()}, "filters got"),
        ({"sizes": (3,)}, "got 2 filters, 1 sizes and 2 pools"),
        ({"pools": (3, 1)}, "pool got 3; expected height and width of a region that divide"),
        ({"unit": "spin"}, "unit got 'spin'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        dgm.ConvolutionalDBM(36, **{"filters": (2, 2), "sizes": (3, 2), "pools": (2, 1), **options})
