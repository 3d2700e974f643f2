"""Masked networks against a plain loop over columns and units, and what they may see."""

import json

import numpy as np
import pytest
import torch

import pyro_dgm as dgm
from pyro_dgm.autoregressive import MaskedNetwork, check_order, output, step_by_step

ORDER = [3, 1, 0, 4, 2]
DEGREES = [[1, 2, 3, 4, 1, 2, 3], [2, 4, 1, 3, 4, 1]]


def network(basis=None, context=0, degrees=DEGREES, direct=True, families="binary", order=ORDER, scale=1.0):
    family = output(families, len(order))
    made = MaskedNetwork(order, family.features, family.parameters, degrees, "tanh", direct, basis, context).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape))
    return made, family


def by_hand(net, x, order, degrees):
    """The logits of bits, unit by unit: a unit of degree d sums over what it may see, and over nothing else."""
    p = {name: value.detach().numpy() for name, value in net.named_parameters()}
    place = {column: i for i, column in enumerate(order)}
    below, below_degrees = x, [place[i] + 1 for i in range(len(order))]
    for layer, own in enumerate(degrees):
        new = np.zeros(len(own))
        for k, d in enumerate(own):
            seen = [j for j, e in enumerate(below_degrees) if e <= d]
            new[k] = np.tanh(
                p[f"hidden.{layer}.bias"][k] + sum(p[f"hidden.{layer}.weight"][k, j] * below[j] for j in seen)
            )
        below, below_degrees = new, own
    found = np.zeros(len(order))
    for i in range(len(order)):
        found[i] = p["bias"][i, 0]
        found[i] += sum(p["last.weight"][i, k] * below[k] for k, d in enumerate(below_degrees) if d <= place[i])
        found[i] += sum(p["direct.weight"][i, j] * x[j] for j in range(len(order)) if place[j] < place[i])
    return found


@pytest.mark.parametrize("degrees", [DEGREES[:1], DEGREES])
def test_forward_is_the_loop(degrees):
    net, family = network(degrees=degrees)
    x = torch.randint(0, 2, (6, 5)).double()
    found = net(family.encode(x)).squeeze(-1).detach()
    np.testing.assert_allclose(found, [by_hand(net, row, ORDER, degrees) for row in x.numpy()], atol=1e-12)


@pytest.mark.parametrize(
    "families", ["binary", "categorical:3", ["binary", "gaussian", "gaussians:2", "categorical:4", "laplace"]]
)
@pytest.mark.parametrize("basis", [None, "pairs", "powers:3"])
def test_numbers_see_earlier_columns_and_all_of_them(basis, families):
    net, family = network(basis, families=families)
    features = torch.randn(5, family.features, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(net, features)  # D x P x D x F
    seen = (jacobian.abs().sum((1, 3)) > 1e-12)[ORDER][:, ORDER]
    assert torch.equal(seen, torch.ones(5, 5).tril(-1).bool())


@pytest.mark.parametrize("context", [0, 2])
@pytest.mark.parametrize("degrees", [[], DEGREES])
@pytest.mark.parametrize("basis", [None, "pairs", "powers:2"])
def test_walk_is_one_pass_a_column(basis, degrees, context):
    families = ["binary", "categorical:3", "gaussian", "gaussians:3", "laplace"]
    net, family = network(basis, context, degrees, families=families, scale=0.2)  # scales stay finite
    given = torch.randn(7, context, dtype=torch.float64) if context else None
    seen = []
    for walk in (net.walk, lambda *args: step_by_step(net, *args)):
        torch.manual_seed(0)
        numbers = {}

        def choose(column, found, numbers=numbers):
            numbers[column] = found
            return family.sample_column(column, found)

        seen.append((walk(choose, family, 7, given), numbers))
    torch.testing.assert_close(seen[0][0], seen[1][0])
    assert list(seen[0][1]) == ORDER
    for column in ORDER:
        torch.testing.assert_close(seen[0][1][column], seen[1][1][column])


def test_other_masks_share_the_weights():
    net, family = network(context=2)
    x, given = family.encode(torch.randint(0, 2, (6, 5)).double()), torch.randn(6, 2, dtype=torch.float64)
    before = net(x, given)
    order, degrees = [0, 2, 4, 1, 3], [layer[::-1] for layer in DEGREES]
    other = net.remasked(order, degrees)
    apart, _ = network(context=2, degrees=degrees, order=order)
    apart.load_state_dict(net.state_dict())
    torch.testing.assert_close(other(x, given), apart(x, given))
    torch.testing.assert_close(net(x, given), before)
    assert all(p is q for p, q in zip(net.parameters(), other.parameters(), strict=True))
    assert not torch.equal(other.direct.mask, net.direct.mask)


def test_gradients_by_finite_differences():
    net, family = network("pairs", context=2)
    x, given = family.encode(torch.randint(0, 2, (3, 5)).double()), torch.randn(3, 2, dtype=torch.float64)
    names = list(dict(net.named_parameters()))

    def numbers(*values):
        return torch.func.functional_call(net, dict(zip(names, values, strict=True)), (x, given))

    assert torch.autograd.gradcheck(numbers, [p.detach().requires_grad_() for p in net.parameters()], fast_mode=True)


@pytest.mark.parametrize("order", [[0, 1, 1], [0, 1], [1, 2, 3], "012", [0, 1, 2.5], [0, 1, 2, 3], 2.0, True])
def test_no_permutation_is_refused(order):
    with pytest.raises(ValueError, match="expected a permutation of 0 to 2"):
        check_order(order, 3)


def test_orders():
    assert check_order(None, 3) == [0, 1, 2]
    assert sorted(check_order(7, 50)) == list(range(50)) != check_order(7, 50)
    assert check_order(7, 50) == check_order(7, 50) != check_order(8, 50)


BACKWARDS = np.array([2, 1, 0])


@pytest.mark.parametrize("order", [range(2, -1, -1), (2, 1, 0), torch.tensor([2, 1, 0]), BACKWARDS, list(BACKWARDS)])
@pytest.mark.parametrize("make", [dgm.FVBN, dgm.MADE, dgm.NeuralAutoregressive, dgm.NADE, dgm.RNADE])
def test_an_order_of_any_kind_is_a_list_on_disk(make, order):
    model = make(3, order=order)
    assert json.loads(json.dumps(model.options()))["order"] == model.network.order.tolist() == [2, 1, 0]


def test_impossible_networks_are_refused():
    with pytest.raises(ValueError, match="degrees got a value outside 1 to 5"):
        network(degrees=[[0, 1]])
    with pytest.raises(ValueError, match="neither hidden layers nor direct"):
        network(degrees=[], direct=False)
    with pytest.raises(ValueError, match="activation got 'sine'"):
        MaskedNetwork([0, 1], 1, 1, [[1]], "sine")
    for basis in ("triples", "powers", "powers:1", "powers:x"):
        with pytest.raises(ValueError, match="basis got"):
            network(basis)
