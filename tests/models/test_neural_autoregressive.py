"""The neural autoregressive network: shared groups, mixed columns, depth."""

import numpy as np
import pytest
import torch
from oracles import boltzmann as oracle

import pyro_dgm as dgm


def test_conditionals_read_the_groups_before():
    """One layer, column by column in NumPy: group g of the order sees its g + 1 first columns."""
    order, group = [2, 0, 3, 1], 3
    model = oracle.randomise(dgm.NeuralAutoregressive(4, group, order=order), torch.Generator().manual_seed(0))
    p = {name: value.detach().double().numpy() for name, value in model.network.named_parameters()}
    x = np.array([[1.0, 0, 1, 1], [0, 1, 1, 0], [1, 1, 0, 0]])
    expected, seen, h = np.zeros(3), [], np.zeros((3, 0))
    for place, i in enumerate(order):
        a = p["bias"][i, 0] + h @ p["last.weight"][i, : h.shape[1]]
        expected += x[:, i] * a - np.logaddexp(0, a)
        seen.append(i)
        if place < 3:
            own = slice(place * group, (place + 1) * group)
            new = np.tanh(p["hidden.0.bias"][own] + x[:, seen] @ p["hidden.0.weight"][own][:, seen].T)
            h = np.concatenate([h, new], 1)
    assert h.shape[1] == p["last.weight"].shape[1] == 9
    np.testing.assert_allclose(model().log_prob(torch.tensor(x).float()).detach(), expected, atol=1e-5)


def test_it_learns_what_a_linear_network_cannot():
    """A Gaussian whose mean is the exclusive or of two bits."""
    torch.manual_seed(0)
    bits = torch.randint(0, 2, (400, 2)).float()
    x = torch.cat([bits, (bits[:, :1] != bits[:, 1:]) * 2.0 + 0.1 * torch.randn(400, 1)], 1)
    families = ["binary", "binary", "gaussian"]
    linear = dgm.FVBN(3, output=families)
    linear.initialise(x)
    model = dgm.NeuralAutoregressive(3, group=8, depth=2, output=families)
    dgm.fit(model, x, epochs=40, batch_size=36, learning_rate=0.03, progress=False)
    gain = float(model.evidence(x).values.mean() - linear.evidence(x).values.mean())
    assert gain > 1.5  # ln 10 = 2.3 from the scale alone


@pytest.mark.parametrize("name", ["group", "depth"])
@pytest.mark.parametrize("value", [0, True, 1.5])
def test_bad_options(name, value):
    with pytest.raises(ValueError, match=f"{name} got"):
        dgm.NeuralAutoregressive(3, **{name: value})
