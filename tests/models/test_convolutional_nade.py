"""Convolutional orderless NADE against convolutions written out in NumPy."""

import numpy as np
import pytest
import torch
from oracles import orders as orderless

import pyro_dgm as dgm
from pyro_dgm.autoregressive import AutoregressiveDistribution
from pyro_dgm.autoregressive.orderless import OrderOfBody, random_orders


def model(shape, visible, **options):
    made = dgm.ConvolutionalNADE(visible, shape, **options).double()
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for p in made.parameters():
            p.copy_(0.7 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return made


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_every_order_is_a_distribution_of_convolutions(residual, kernel):
    made = model((2, 2), 4, channels=(3, 3), residual=residual, kernel=kernel)
    x = orderless.states(4)
    ones = orderless.convolutional(made)
    for order in orderless.orders(4)[::7]:
        log_p = (
            AutoregressiveDistribution(OrderOfBody(made.body, order), made.conditionals)
            .log_prob(torch.tensor(x))
            .detach()
        )
        np.testing.assert_allclose(log_p, orderless.log_joint(ones, x, order), atol=1e-10)
        np.testing.assert_allclose(log_p.exp().sum(), 1, atol=1e-12)


def test_the_mixture_on_a_picture_that_is_no_square():
    made = model((2, 3), 6, channels=(4, 2), orders=3)
    x = orderless.states(6)
    exact = orderless.log_mixture(orderless.convolutional(made), x, random_orders(6, 3, seed=0))
    np.testing.assert_allclose(made().log_prob(torch.tensor(x)).detach(), exact, atol=1e-10)
    np.testing.assert_allclose(made.evidence(torch.tensor(x), orders=3).values, exact, atol=1e-10)


def test_pixels_see_as_far_as_the_convolutions_reach():
    made = model((1, 9), 9, channels=(3,))
    x = torch.rand(1, 9, 1, dtype=torch.float64)
    other = x.clone()
    other[0, 0] += 1
    known = torch.arange(9) != 4
    change = (made.body(x, known) - made.body(other, known)).abs().flatten().detach()
    assert bool((change[:3] > 0).all())  # the pixel itself and two to the side: two convolutions of side 3
    assert float(change[3:].max()) == 0


def test_planes_of_channels_and_features_keep_their_places():
    """Two channels of categories: with one identity weight a pixel's feature is found in its own plane alone."""
    made = model((2, 2, 3), 12, channels=(1,), output="categorical:3", activation="softplus")
    x = torch.randint(0, 3, (5, 12)).double()
    features, known = made.conditionals.encode(x), torch.rand(12) < 0.5
    # Input planes by channel: three indicators, then the mask.
    for channel in range(2):
        for plane in range(4):
            with torch.no_grad():
                made.body.hidden[0].weight.zero_()
                made.body.hidden[0].bias.zero_()
                made.body.hidden[0].weight[0, 4 * channel + plane, 1, 1] = 1
                made.body.last.weight.zero_()
                made.body.last.weight[:, 0, 1, 1] = 1
                made.body.bias.zero_()
                numbers = made.body(features, known).view(5, 2, 6, 3)
            seen = (features if plane < 3 else torch.ones_like(features))[..., plane % 3] * known
            expected = torch.nn.functional.softplus(seen.view(5, 2, 6)[:, channel])
            for out in range(2):
                for number in range(3):
                    np.testing.assert_allclose(numbers[:, out, :, number], expected, atol=1e-12)


def test_training_learns_that_neighbours_are_equal():
    """Two rows of two equal pixels: log 4 nats in every order."""
    bits = torch.randint(0, 2, (800, 2)).float()
    x = bits.repeat_interleave(2, 1)
    made = dgm.ConvolutionalNADE(4, (2, 2), channels=(8, 8), orders=2)
    dgm.fit(made, x, epochs=12, batch_size=40, learning_rate=0.02, progress=False)
    # Four values of four bits each have probability 1/4.
    rows = torch.tensor([[0.0, 0, 0, 0], [0, 0, 1, 1], [1, 1, 0, 0], [1, 1, 1, 1]])
    assert -1.5 < dgm.log_likelihood(made, rows).value <= -np.log(4) + 1e-6


def test_wrong_options_are_refused():
    for options, message in (
        ({"shape": (2, 3)}, r"shape got \(2, 3\), which has 6 pixels; expected 4"),
        ({"kernel": 2}, "kernel got 2; expected an odd side"),
        ({"channels": ()}, "channels got"),
        ({"activation": "step"}, "activation got 'step'"),
    ):
        with pytest.raises(ValueError, match=message):
            dgm.ConvolutionalNADE(**{"visible": 4, "shape": (2, 2), **options})
