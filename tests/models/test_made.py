"""MADE: masks, orders, the mixture of them, order-agnostic training."""

import pytest
import torch

import pyro_dgm as dgm
from pyro_dgm.autoregressive import AutoregressiveDistribution, OrderEnsemble

PATTERNS = torch.tensor([[1.0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1], [1, 0, 1, 0, 1, 0]]).repeat(40, 1)


def test_degrees():
    made = dgm.MADE(5, (6, 3), degrees="cyclic")
    assert made.layouts == [([0, 1, 2, 3, 4], [[1, 2, 3, 4, 1, 2], [1, 2, 3]])]
    assert dgm.MADE(5, (6, 3)).layouts == [([0, 1, 2, 3, 4], [[1, 1, 2, 3, 3, 4], [1, 3, 4]])]
    for order, (first, second) in dgm.MADE(9, (50, 50), degrees="random", masks=6).layouts:
        assert sorted(order) == list(range(9))
        assert 1 <= min(first) <= min(second)
        assert max(first + second) <= 8


@pytest.mark.parametrize("hidden", [(500,), (50,), (7,), (2,), (1,), (120, 3), (25, 40, 10)])
def test_even_degrees_reach_every_place(hidden):
    """Products of the masks, with no code of the network's: which columns lie on a path to which later conditionals."""
    made = dgm.MADE(32, hidden)
    _, layers = made.layouts[0]
    reached = torch.eye(32)
    for layer in made.network.hidden:
        reached = layer.mask.float() @ reached
    influence = made.network.last.mask.float() @ reached > 0  # conditional x column
    assert not influence.triu().any()
    if min(hidden) > 1:
        assert influence[1:, 0].all()
        assert influence[-1, :-1].all()
    for layer in layers:
        counts = torch.bincount(torch.tensor(layer), minlength=32)[1:]
        steps = torch.diff(torch.tensor(layer))
        assert (
            (counts.max() - counts.min() <= 1)
            if len(layer) >= 31
            else (steps.max() - steps.min() <= 1 if len(steps) else True)
        )


def test_masks_differ_as_asked():
    def orders(made):
        return {tuple(order) for order, _ in made.layouts}

    def wirings(made):
        return {tuple(map(tuple, layers)) for _, layers in made.layouts}

    everything = dgm.MADE(9, (50,), masks=5, degrees="random", order=3)
    assert (len(orders(everything)), len(wirings(everything))) == (5, 5)
    turned = dgm.MADE(9, (50,), masks=5)
    assert (len(orders(turned)), len(wirings(turned))) == (5, 1)
    rewired = dgm.MADE(9, (50,), masks=5, degrees="random", orders="first", order=3)
    assert (len(orders(rewired)), len(wirings(rewired))) == (1, 5)
    assert orders(rewired) <= orders(everything)
    assert dgm.MADE(9, (50,), masks=5, seed=1).layouts != turned.layouts
    assert dgm.MADE(9, (50,), masks=3).layouts == turned.layouts[:3]


def test_a_call_is_the_mixture():
    made, x = dgm.MADE.example()
    assert isinstance(made(), OrderEnsemble)
    assert type(dgm.MADE(5)()) is AutoregressiveDistribution
    each = torch.stack([made.log_prob_under(number, x) for number in range(3)])
    torch.testing.assert_close(made().log_prob(x), each.exp().mean(0).log())
    torch.testing.assert_close(made.log_prob_under(4, x), each[1])
    figure = made.evidence(x)
    assert (figure.kind, figure.method) == ("exact", "mean of 3 orders' likelihoods")


def test_the_masks_take_turns():
    """The loss of three batches in a row is the mean over the masks: an upper bound on the mixture's."""
    made, x = dgm.MADE.example()
    objective = made.objective()
    objective.attach(made)
    losses = [objective.loss(x) for _ in range(3)]
    each = torch.stack([-member.log_prob(x).mean() for member in made().members])
    torch.testing.assert_close(torch.stack(losses), each)
    assert each.mean() > -made().log_prob(x).mean()
    again = made.objective()
    again.load_state_dict(objective.state_dict() | {"turn": 4})
    again.attach(made)
    torch.testing.assert_close(again.loss(x), each[1])
    exact = made.objective("mixture")
    exact.attach(made)
    torch.testing.assert_close(exact.loss(x), -made().log_prob(x).mean())
    assert isinstance(dgm.MADE(5).objective(), dgm.Elbo)
    with pytest.raises(ValueError, match="kind got 'all'"):
        made.objective("all")


def test_a_resumed_run_goes_on_with_the_next_mask(tmp_path):
    """Batches of 54 rows of 120: the turn is in the middle when the run is broken off."""

    def run(name, epochs, resume=False):
        torch.manual_seed(0)
        made = dgm.MADE(6, (8,), masks=4)
        return dgm.fit(
            made, PATTERNS, epochs=epochs, batch_size=50, out=tmp_path / name, resume=resume, progress=False
        ).model

    whole = run("whole", 3)
    run("parts", 1)
    parts = run("parts", 3, resume=True)
    assert all(torch.equal(p, q) for p, q in zip(whole.parameters(), parts.parameters(), strict=True))


@pytest.mark.parametrize("train", ["next", "mixture"])
def test_every_order_learns(train):
    """Three patterns of six bits, ln 3 nats: every member comes near, which unshared weights could not."""
    torch.manual_seed(0)
    made = dgm.MADE(6, (40,), masks=4, direct=True)
    dgm.fit(
        made, PATTERNS, objective=made.objective(train), epochs=60, batch_size=54, learning_rate=0.03, progress=False
    )
    found = torch.stack([made.log_prob_under(number, PATTERNS[:3]).mean() for number in range(4)]).detach()
    assert float(made.evidence(PATTERNS[:3]).values.mean()) > -1.2
    if train == "next":
        assert (found > -1.35).all()


def test_copies_and_doubles_keep_sharing():
    import copy

    made, x = dgm.MADE.example()
    other = copy.deepcopy(made)
    with torch.no_grad():
        other.network.bias.add_(1)
    assert not torch.allclose(other().log_prob(x), made().log_prob(x))
    single = made().log_prob(x)
    torch.testing.assert_close(made.double()().log_prob(x.double()).float(), single)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"visible": 1}, "visible got 1; expected the number of columns, an integer of at least 2"),
        ({"hidden": ()}, "hidden got"),
        ({"hidden": (0,)}, "hidden got"),
        ({"hidden": 5}, "hidden got"),
        ({"masks": 0}, "masks got 0"),
        ({"masks": 2, "orders": "first"}, "all masks would be the same"),
        ({"orders": "some"}, "orders got 'some'"),
        ({"degrees": "odd"}, "degrees got 'odd'"),
        ({"order": [0, 0, 1]}, "expected a permutation"),
        ({"activation": "sine"}, "activation got"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        dgm.MADE(**{"visible": 3, "hidden": (4,)} | options)
