"""Short steps of optimisers have torch's own numbers, bit for bit, and its hooks."""

import copy
import inspect

import pytest
import torch

from pyro_dgm.train import optimisers

OWN = {
    "sgd": (optimisers.SGD, torch.optim.SGD, {"lr": 0.1}),
    "sgd with decay": (optimisers.SGD, torch.optim.SGD, {"lr": 0.1, "weight_decay": 0.01}),
    "sgd with momentum": (optimisers.SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    "sgd upwards": (optimisers.SGD, torch.optim.SGD, {"lr": 0.1, "maximize": True}),
    "adam": (optimisers.Adam, torch.optim.Adam, {"lr": 0.01, "fused": True}),
    "adam with decay": (optimisers.Adam, torch.optim.Adam, {"lr": 0.01, "fused": True, "weight_decay": 0.1}),
    "adam with amsgrad": (optimisers.Adam, torch.optim.Adam, {"lr": 0.01, "fused": True, "amsgrad": True}),
    "adam not fused": (optimisers.Adam, torch.optim.Adam, {"lr": 0.01, "betas": (0.5, 0.9), "eps": 1e-3}),
    "adamw": (optimisers.AdamW, torch.optim.AdamW, {"lr": 0.01, "fused": True}),
    "adamw with betas": (optimisers.AdamW, torch.optim.AdamW, {"lr": 0.01, "fused": True, "betas": (0.5, 0.9)}),
}


def parameters():
    torch.manual_seed(0)
    return [torch.nn.Parameter(x) for x in (torch.randn(7, 5), torch.randn(3).double(), torch.randn(2))]


def groups(given):
    return [{"params": given[:2]}, {"params": given[2:], "lr": 0.02}]


def train(optimiser, given, steps, first=0):
    for number in range(first, first + steps):
        optimiser.zero_grad()
        generator = torch.Generator().manual_seed(number)
        for place, parameter in enumerate(given):
            if place != number % 4:  # one has no gradient in most steps
                parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        optimiser.step()


def pair(name):
    """Equal parameters, and our optimiser and torch's over them."""
    own, torchs, options = OWN[name]
    ours, theirs = parameters(), parameters()
    return ours, theirs, own(groups(ours), **options), torchs(groups(theirs), **options)


@pytest.mark.parametrize("name", OWN)
def test_steps_are_those_of_torch(name):
    ours, theirs, one, two = pair(name)
    train(one, ours, 8)
    train(two, theirs, 8)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert one.state_dict().keys() == two.state_dict().keys()


@pytest.mark.parametrize("name", OWN)
def test_states_are_exchanged_with_torch(name):
    ours, theirs, one, two = pair(name)
    train(two, theirs, 3)
    one.load_state_dict(copy.deepcopy(two.state_dict()))
    with torch.no_grad():
        for a, b in zip(ours, theirs, strict=True):
            a.copy_(b)
    train(one, ours, 3, first=3)
    train(two, theirs, 3, first=3)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.skipif(
    "decoupled_weight_decay" not in inspect.signature(torch.optim.Adam).parameters,
    reason="newer versions of torch have it",
)
def test_adam_may_have_its_weight_decay_decoupled():
    options = {"lr": 0.01, "fused": True, "weight_decay": 0.1, "decoupled_weight_decay": True}
    ours, theirs = parameters(), parameters()
    train(optimisers.Adam(groups(ours), **options), ours, 8)
    train(torch.optim.Adam(groups(theirs), **options), theirs, 8)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_scaled_gradients_are_unscaled_and_infinite_ones_left_out(name):
    own, torchs, options = OWN[name]
    found = []
    for cls in (own, torchs):
        torch.manual_seed(0)
        given, scaler = torch.nn.Parameter(torch.ones(3)), torch.amp.GradScaler("cpu", init_scale=8.0)
        optimiser = cls([given], **options | {"eps": 1.0})  # by which a scale shows
        for number in range(4):
            optimiser.zero_grad()
            scaler.scale((given**2).sum()).backward()
            if number == 2:
                given.grad[0] = torch.inf
            scaler.step(optimiser)
            scaler.update()
        found.append(given.detach())
    assert torch.equal(*found)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_hooks_see_the_steps(name):
    own, _, options = OWN[name]
    given, seen = parameters(), []
    optimiser = own(given, **options)
    train(optimiser, given, 1)
    optimiser.register_step_post_hook(lambda *_: seen.append("after"))
    optimiser.register_step_pre_hook(lambda *_: seen.append("before"))
    train(optimiser, given, 1)
    assert seen == ["before", "after"]


def test_closures_are_called():
    given = parameters()
    optimiser = optimisers.SGD(given, lr=0.1)

    def closure():
        optimiser.zero_grad()
        loss = sum((p**2).sum() for p in given)
        loss.backward()
        return loss

    before = float(closure())
    assert float(optimiser.step(closure)) == before > float(closure())


def test_plain_steps_take_the_short_way(monkeypatch):
    for own, torchs, options in (OWN["sgd"], OWN["adam"], OWN["adamw"]):
        given = parameters()
        optimiser = own(given, **options)
        train(optimiser, given, 4)  # after which every parameter has its moments
        with monkeypatch.context() as patch:
            patch.setattr(torchs, "step", None)
            train(optimiser, given, 2)
