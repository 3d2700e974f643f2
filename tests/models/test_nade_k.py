"""NADE-k against an independent implementation, and orderless NADE where k = 1."""

import numpy as np
import pytest
import torch
from oracles import orders as orderless

import pyro_dgm as dgm
from pyro_dgm.autoregressive import AutoregressiveDistribution
from pyro_dgm.autoregressive.orderless import OrderOfBody, random_orders


def model(k, hidden=(6,), columns=4, **options):
    made = dgm.NADEk(columns, hidden, k=k, **options).double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in made.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype))
        made.body.means.copy_(torch.rand(made.body.means.shape, generator=generator, dtype=torch.float64))
    return made


@pytest.mark.parametrize(("k", "hidden"), [(1, (6,)), (2, (6,)), (5, (4, 5))])
def test_every_order_is_a_distribution_of_repeated_inference(k, hidden):
    made = model(k, hidden)
    x = orderless.states(4)
    ones = orderless.repeated(made)
    for order in orderless.orders(4)[::5]:
        dist = AutoregressiveDistribution(OrderOfBody(made.body, order), made.conditionals)
        log_p = dist.log_prob(torch.tensor(x)).detach()
        np.testing.assert_allclose(log_p, orderless.log_joint(ones, x, order), atol=1e-10)
        np.testing.assert_allclose(log_p.exp().sum(), 1, atol=1e-12)


def test_the_mixture_and_its_conditionals():
    made = model(3, orders=2)
    x = orderless.states(4)
    ones, some = orderless.repeated(made), random_orders(4, 2, seed=0)
    np.testing.assert_allclose(
        made().log_prob(torch.tensor(x)).detach(), orderless.log_mixture(ones, x, some), atol=1e-10
    )
    first = [[2, *(i for i in o if i != 2)] for o in some]
    p = np.exp(orderless.log_mixture(ones, x, first))
    exact = np.log(p) - np.log((x[:, None, 2] == x[None, :, 2]) @ p)
    found, _ = made.conditional_log_prob(torch.tensor(x), torch.tensor([False, False, True, False]), draws=4)
    np.testing.assert_allclose(found, exact, atol=1e-9)


@pytest.mark.parametrize("hidden", [(6,), (5, 4)], ids=["one layer", "two layers"])
def test_one_round_is_orderless_nade_with_other_mask_weights(hidden):
    """Unknown columns at their means m: c + sum over unknown of W m is what c' and U' = U - W m give."""
    made = model(1, hidden)
    plain = dgm.OrderlessNADE(4, hidden, activation="tanh").double()
    plain.body.perceptron.load_state_dict(made.body.perceptron.state_dict())
    with torch.no_grad():
        plain.body.bias.copy_(made.body.bias)
        weight = plain.body.perceptron.first.weight.view(-1, 4, 2)
        constant = weight[..., 0] * made.body.means[:, 0]
        plain.body.perceptron.first.bias += constant.sum(1)
        weight[..., 1] -= constant
    x = torch.tensor(orderless.states(4))
    np.testing.assert_allclose(made().log_prob(x).detach(), plain().log_prob(x).detach(), atol=1e-12)
    more = model(2, hidden)
    assert float((more().log_prob(x) - plain().log_prob(x)).detach().abs().max()) > 0.01


def test_unknown_columns_start_at_the_data_s_means():
    x = torch.stack([(torch.rand(400) < 0.3).float(), torch.randint(0, 3, (400,)).float(), torch.randn(400) + 2], 1)
    made = dgm.NADEk(3, (5,), output=["binary", "categorical:3", "gaussian"])
    made.initialise(x)
    means = made.body.means
    in_units = made.scaling.back(means[:, 0])  # the network sees real columns standardised
    np.testing.assert_allclose(in_units[[0, 2]], x[:, [0, 2]].mean(0), atol=1e-5)
    shares = torch.bincount(x[:, 1].long()) / 400
    np.testing.assert_allclose(means[1], (shares + 0.01) / 1.03, atol=1e-5)  # a hundredth is added to every share
    assert float(means[[0, 2], 1:].abs().max()) == 0


def test_means_are_kept_with_the_run(tmp_path):
    x = (torch.rand(60, 4) < torch.tensor([0.1, 0.3, 0.6, 0.9])).float()
    made = dgm.NADEk(4, (5,), k=2)
    dgm.fit(made, x, epochs=1, out=tmp_path / "run", progress=False)
    again = dgm.load(tmp_path / "run")
    assert torch.equal(again.body.means, made.body.means)
    assert float((again.body.means - 0.5).abs().max()) > 0.2
    np.testing.assert_array_equal(again.evidence(x).values, made.evidence(x).values)


def test_rounds_must_be_a_number():
    for k in (0, 1.5):
        with pytest.raises(ValueError, match=f"k got {k}; expected the rounds"):
            dgm.NADEk(4, k=k)
