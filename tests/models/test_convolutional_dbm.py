"""Convolutional DBM: values of another program, in-painting, machines that it contains, bad input."""

import pytest
import torch
from oracles.waves import bits, wave

import pyro_dgm as dgm


def machine(width=1):
    """Pictures 3 x 5, two filters 2 x 2 in regions 2 x 2, and two filters 1 x width of pooling units above."""
    model = dgm.ConvolutionalDBM(15, (2, 2), (2, (1, width)), (2, 1), (3, 5)).double()
    with torch.no_grad():
        model.weights[0].copy_(wave(0.6, 1, 2, 1, 2, 2))
        model.weights[1].copy_(wave(0.7, 4, 2, 2, 1, width))
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


def test_values_of_another_program():
    """With a filter of 1 x 2: sums, conditionals, mean field and its bound."""
    model, x = machine(2), bits(1, 1, 3, 5).view(1, 15)
    dist = model()
    assert float(dgm.log_partition(dist).value) == pytest.approx(19.5611597506, abs=1e-9)
    assert dgm.log_likelihood(model, x).value == pytest.approx(-10.0672917661, abs=1e-9)
    above = torch.tensor([0.0, 1.0]).double().flip(0).view(1, 2, 1, 1, 1)
    state = {**dist.machine.neutral_state((1,)), "visible": x, "hidden2": above}
    (eta,) = dist.machine.colour_fields((dgm.energy.Block("hidden1"),), state)
    detectors = dist.machine.graph.layers["hidden1"].mean(*eta)[0].detach()[0]
    # Detector (0, 1) of a map lies at place 1 of its first region.
    assert float(detectors[1, 0, 0, 1]) == pytest.approx(0.1844108867, abs=1e-9)
    assert float(detectors[1, 0, 0].sum()) == pytest.approx(0.8070221529, abs=1e-9)
    on = torch.zeros(1, 2, 1, 2, 4).double()
    on[0, 0, 0, 0, 0] = on[0, 1, 0, 0, 3] = 1  # d[0,0,0] and d[1,1,1]
    (eta,) = dist.machine.colour_fields((dgm.energy.Block("hidden2"),), {**state, "hidden1": on})
    assert float(torch.sigmoid(eta[0]).detach().flatten()[1]) == pytest.approx(0.4267359427, abs=1e-9)
    posterior = model.mean_field(x, 400).statistics
    assert float(posterior["hidden1"][0].view(2, 1, 2, 4)[1, 0, 0, 1]) == pytest.approx(0.1939453058, abs=1e-9)
    assert float(posterior["hidden2"][0][0, 1]) == pytest.approx(0.3690235718, abs=1e-9)
    bound = model.bound(x, 400) - dgm.log_partition(dist).value
    assert float(bound.detach()) == pytest.approx(-10.1005668895, abs=1e-9)


def test_in_painting_as_another_program():
    """The two right columns given the three left ones: their probability, and the mean of a pixel."""
    model, x = machine(2), bits(1, 1, 3, 5).view(1, 15)
    known = torch.arange(15) % 5 < 3
    figure = dgm.conditional_log_likelihood(model, x, known, "the left columns")
    assert figure.value == pytest.approx(-4.2071063855, abs=1e-9)
    every = torch.cartesian_prod(*([torch.tensor([0.0, 1.0]).double()] * 6))
    rows = x.repeat(64, 1)
    rows[:, ~known] = every
    share = torch.softmax(model().log_prob(rows), 0).detach()
    assert float(share @ rows[:, 9]) == pytest.approx(0.5181742673, abs=1e-9)
    torch.manual_seed(0)
    found = model.impute(x.repeat(1500, 1), known, draws=20).mean(0)[9]
    assert abs(float(found) - 0.5181742673) < 6 * 0.5 / 1500**0.5


def test_sides_that_differ():
    """Options round, and a machine of regions 2 x 1 transposed is one of regions 1 x 2."""
    torch.manual_seed(0)
    model = dgm.ConvolutionalDBM(20, (2, 3), ((3, 2), (1, 2)), ((2, 1), 1), (4, 5)).double()
    assert (model.sizes, model.pools) == (((3, 2), (1, 2)), ((2, 1), (1, 1)))
    assert model.hidden == ((2, 1, 4, 2), (3, 1, 3, 1))
    again = dgm.ConvolutionalDBM(**model.options())
    assert again.hidden == model.hidden
    turned = dgm.ConvolutionalDBM(20, (2, 3), ((2, 3), (2, 1)), ((1, 2), 1), (5, 4)).double()
    with torch.no_grad():
        for one, other in zip(turned.parameters(), model.parameters(), strict=True):
            other.normal_()
            one.copy_(other.mT if other.dim() == 4 else other)
    x = bits(1, 6, 4, 5)
    torch.testing.assert_close(turned.bound(x.mT.flatten(1)), model.bound(x.flatten(1)))


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
        (
            {"sizes": ((3, 2, 1), 2)},
            "sizes got .*; expected the sides of every layer's filters, one number or two per layer",
        ),
        ({"sizes": 3}, "sizes got 3"),
        ({"pools": ((2, 0), 1)}, "pools got"),
        ({"pools": (3, 1)}, r"pool got \(3, 3\); expected height and width of a region that divide"),
        ({"unit": "spin"}, "unit got 'spin'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        dgm.ConvolutionalDBM(36, **{"filters": (2, 2), "sizes": (3, 2), "pools": (2, 1), **options})
