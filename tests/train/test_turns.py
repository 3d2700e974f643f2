"""Objectives of several losses per batch, against a game whose course is known; and the best weights given back."""

from __future__ import annotations

import copy

import pytest
import torch
from oracles import forked
from two_players import Player, Product

import pyro_dgm as dgm
from pyro_dgm.objectives.objective import Turn
from pyro_dgm.train import launch

ROWS = torch.zeros(11, 1, dtype=torch.float64)
"""Ten for training, in batches of one: ten steps an epoch."""


def play(epochs=10, optimiser="sgd", model=None, objective=None, learning_rate=0.1, **options):
    model, objective = model or Player(), objective or Product()
    run = dgm.fit(
        model, ROWS, objective=objective, epochs=epochs, batch_size=1, learning_rate=learning_rate, optimiser=optimiser,
        progress=False, **options,
    )  # fmt: skip
    return model, objective, run


def test_simultaneous_play_winds_outwards():
    """The squared radius grows by 1 + eta^2 with every step."""
    model, objective, run = play(objective=Product(alternate=False))
    assert float(model.a.detach()) == pytest.approx(-1.408846983, abs=1e-8)
    assert float(objective.opponent.b.detach()) == pytest.approx(-0.8485069288, abs=1e-8)
    radius = float(model.a.detach()) ** 2 + float(objective.opponent.b.detach()) ** 2
    assert radius == pytest.approx(1.01**100, rel=1e-8)
    assert set(run.history[0]) == {"epoch", "both", "distance", "seconds", "cpu_seconds"}


def test_players_in_turn_stay_on_their_ellipse():
    """a^2 + b^2 - eta ab is kept exactly; b answers the new a."""
    model, objective, run = play()
    a, b = float(model.a.detach()), float(objective.opponent.b.detach())
    assert a == pytest.approx(-0.8642050331, abs=1e-8)
    assert b == pytest.approx(-0.5482021195, abs=1e-8)
    assert a**2 + b**2 - 0.1 * a * b == pytest.approx(1.0, abs=1e-12)
    assert set(run.history[0]) == {"epoch", "model", "opponent", "distance", "seconds", "cpu_seconds"}


@pytest.mark.parametrize("optimiser", ["sgd", "adam", "adamw"])
def test_one_optimiser_is_two(optimiser):
    """Moments and counts belong to parameters: the same course as with an optimiser for each player."""
    model, objective, _ = play(epochs=2, optimiser=optimiser, objective=Product(steps=3))
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[optimiser]
    a, b = torch.tensor(1.0, dtype=torch.float64), torch.tensor(0.0, dtype=torch.float64)
    a.requires_grad_(), b.requires_grad_()
    first, second = kind([a], lr=0.1), kind([b], lr=0.1)
    for _ in range(20):
        first.zero_grad(), (a * b.detach()).backward(), first.step()
        for _ in range(3):
            second.zero_grad(), (-a.detach() * b).backward(), second.step()
    assert float(model.a.detach()) == pytest.approx(float(a.detach()), abs=1e-12)
    assert float(objective.opponent.b.detach()) == pytest.approx(float(b.detach()), abs=1e-12)
    assert int(objective.opponent.seen) == 60


def test_killed_and_resumed_is_bit_identical(tmp_path):
    whole, criterion, _ = play(epochs=4, optimiser="adam", objective=Product(steps=2, noise=0.5))
    play(epochs=2, optimiser="adam", objective=Product(steps=2, noise=0.5), out=tmp_path / "run")
    again, resumed, run = play(
        epochs=4, optimiser="adam", objective=Product(steps=2, noise=0.5), out=tmp_path / "run", resume=True
    )
    assert torch.equal(whole.a, again.a)
    assert torch.equal(criterion.opponent.b, resumed.opponent.b)
    assert int(resumed.opponent.seen) == int(criterion.opponent.seen) == 80
    state = torch.load(tmp_path / "run" / "training.pt", weights_only=True)
    assert [float(entry["step"]) for entry in state["optimiser"]["state"].values()] == [40, 80]
    assert [group["name"] for group in state["optimiser"]["param_groups"]] == ["model", "opponent"]
    assert len(run.history) == 4


def test_two_processes_play_the_same_game(tmp_path, monkeypatch):
    """Gradients are means over the rows of all; without noise nothing changes."""
    monkeypatch.setattr(launch, "_start", forked.Worker)
    alone, criterion, _ = play(epochs=2, optimiser="adam")
    model, objective = Player(), Product()
    dgm.fit(
        model, torch.zeros(22, 1, dtype=torch.float64), objective=objective, epochs=2, batch_size=2, learning_rate=0.1,
        optimiser="adam", progress=False, devices=2, out=tmp_path / "run",
    )  # fmt: skip
    assert float(model.a.detach()) == pytest.approx(float(alone.a.detach()), abs=1e-12)
    assert float(objective.opponent.b.detach()) == pytest.approx(float(criterion.opponent.b.detach()), abs=1e-12)


def test_modes_of_training_and_evaluation():
    model = Player(dropout=0.5)
    model.eval()
    _, objective, _ = play(epochs=2, model=model)
    assert all(objective.modes)
    assert not any(model.modes)
    assert not model.training
    assert not model.dropout.training


def test_games_are_not_stopped_by_their_losses():
    with pytest.raises(ValueError, match=r"no figure on validation rows.*leave patience out"):
        play(patience=2)
    with pytest.raises(ValueError, match="no figure on validation rows"):
        play(objective=Product(alternate=False), keep="best")


def test_a_criterion_without_losses_is_refused_when_it_is_written():
    with pytest.raises(TypeError, match="neither a loss nor turns"):

        class Nothing(dgm.Objective):
            def attach(self, model):
                pass

    with pytest.raises(ValueError, match="see its turns"):
        Product().loss(ROWS)


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        (
            Turn("model", lambda: torch.zeros((), requires_grad=True), ("player",)),
            r"moves the groups \['player'\]",
        ),
        (Turn("epoch", lambda: torch.zeros((), requires_grad=True)), "names another column of the history"),
    ],
)
def test_turns_that_cannot_be_taken(turn, message):
    class Odd(Product):
        def turns(self, x):
            yield turn

    with pytest.raises(ValueError, match=message):
        play(objective=Odd())


class Wandering(dgm.AffineGenerator):
    """A model whose figure on validation rows is best in a chosen epoch."""

    figures: list[float]

    def progress(self, train, valid):
        return {"valid_figure": self.figures.pop(0)} if len(valid) > 2 else {"valid_figure": 0.0}


def wander(figures, **options):
    model, x = Wandering.example()
    model.figures = list(figures)
    seen = []

    class Watched(dgm.Elbo):
        def schedule(self, share):
            seen.append(copy.deepcopy(model.state_dict()))

    run = dgm.fit(
        model, x.repeat(5, 1), objective=Watched(), epochs=len(figures), learning_rate=0.1, progress=False, **options
    )
    return model, run, seen


def equal(model, weights):
    return all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_best_weights_come_back(tmp_path):
    figures = [0.0, 3.0, 1.0, 2.0]
    model, run, seen = wander(figures)
    assert run.epoch == 4
    assert not equal(model, seen[2])
    model, run, seen = wander(figures, keep="best", out=tmp_path / "best")
    assert run.epoch == 2
    assert equal(model, seen[2]), "what the third epoch began with"
    assert len(run.history) == 4
    from safetensors.torch import load_file

    assert equal(model, load_file(tmp_path / "best" / "weights.safetensors"))
    model, run, seen = wander([0.0, 3.0, 1.0, 2.0, 2.5], patience=2)
    assert run.epoch == 2
    assert len(run.history) == 4
    assert equal(model, seen[2])


def test_best_weights_survive_a_stop(tmp_path):
    whole, run, _ = wander([0.0, 3.0, 1.0, 2.0], keep="best")
    model, x = Wandering.example()
    model.figures = [0.0, 3.0, 1.0]
    options = {"learning_rate": 0.1, "progress": False, "keep": "best", "out": tmp_path / "run"}
    dgm.fit(model, x.repeat(5, 1), objective=dgm.Elbo(), epochs=3, **options)
    model, x = Wandering.example()
    model.figures = [2.0]
    again = dgm.fit(model, x.repeat(5, 1), objective=dgm.Elbo(), epochs=4, resume=True, **options)
    assert again.epoch == run.epoch == 2
    assert equal(model, whole.state_dict())


def critical(base, *arguments):
    """A criterion of the package with a network of its own, which takes part in the loss."""

    class Critic(base):
        def __init__(self):
            super().__init__(*arguments)
            self.critic = torch.nn.Linear(6, 1)

        def owned(self):
            return {"critic": self.critic}

        def loss(self, x):
            return super().loss(x) + self.critic(x).square().mean()

    torch.manual_seed(1)
    return Critic()


@pytest.mark.parametrize("kind", ["elbo", "phase", "contrastive"])
def test_networks_of_criteria_that_have_a_state_already(kind, tmp_path):
    made = {
        "elbo": lambda: critical(dgm.Elbo),
        "phase": lambda: critical(dgm.NegativePhaseObjective, dgm.PCD(chains=20)),
        "contrastive": lambda: critical(dgm.NoiseContrastive),
    }[kind]

    def trained(epochs, criterion, **options):
        model, x = (dgm.MADE if kind == "elbo" else dgm.RBM).example()
        x = torch.cat([x, x], 1)[:, :6] if x.shape[1] < 6 else x[:, :6]
        model = type(model)(6) if kind == "elbo" else model
        dgm.fit(model, x, objective=criterion, epochs=epochs, batch_size=4, progress=False, **options)
        return model

    whole = made()
    first = whole.critic.weight.detach().clone()
    model = trained(4, whole)
    assert not torch.equal(whole.critic.weight, first)
    trained(2, made(), out=tmp_path / "run")
    resumed = made()
    again = trained(4, resumed, out=tmp_path / "run", resume=True)
    assert torch.equal(whole.critic.weight, resumed.critic.weight)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    state = torch.load(tmp_path / "run" / "training.pt", weights_only=True)
    assert {group["name"] for group in state["optimiser"]["param_groups"]} >= {"model", "critic"}


class Clashing(Player):
    def progress(self, train, valid):
        return {"model": 1.0}


def test_figures_and_losses_of_one_name():
    with pytest.raises(ValueError, match=r"figures called \['model'\]"):
        play(model=Clashing())


def test_a_criterion_that_takes_no_turn():
    class Idle(Product):
        def turns(self, x):
            return iter(())

    with pytest.raises(ValueError, match="took no turn"):
        play(objective=Idle())


def test_patience_by_the_loss_gives_back_the_best_weights():
    class Blind(dgm.AffineGenerator):
        def progress(self, train, valid):
            return {}

    class Growing(dgm.Elbo):
        losses = [1.0, 3.0, 4.0, 5.0, 6.0]

        def schedule(self, share):
            self.shift = self.losses.pop(0)

        def loss(self, x):
            loss = super().loss(x)
            return loss - loss.detach() + self.shift

    model, x = Blind.example()
    run = dgm.fit(model, x, objective=Growing(), epochs=5, patience=2, progress=False)
    assert (run.epoch, len(run.history)) == (1, 3)
