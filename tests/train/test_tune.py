"""Search by validation rows: who survives, what the time buys, and what is refused."""

import math

import pytest
import torch

import pyro_dgm as dgm
from pyro_dgm.cli.main import main
from pyro_dgm.train import tune as room
from pyro_dgm.train.tune import Trial, tune


@pytest.fixture
def paper(monkeypatch):
    """Trainings on paper: a batch size costs so many seconds an epoch, and figures are a formula of the settings."""
    clock, asked, overfits = [0.0], [], [10_000]

    def trained(make, data, rate, size, epochs, seed, options):
        seconds = epochs * {100: 1.0, 20: 2.0}[size]
        clock[0] += seconds
        asked.append((rate, size, epochs))
        # The best rate is 3e-3; it shows after some epochs alone, and the highest one diverges.
        figure = -math.inf if rate > 1e-2 else -abs(math.log(rate / 3e-3)) - 10 / epochs - 0.1 * (size == 20)
        return Trial(rate, size, epochs, figure, seconds, min(epochs, overfits[0]))

    monkeypatch.setattr(room, "_trained", trained)
    monkeypatch.setattr(room.time, "perf_counter", lambda: clock[0])
    return asked, clock, overfits


X = torch.randint(0, 2, (40, 4), generator=torch.Generator().manual_seed(0)).float()


def nothing():
    raise AssertionError


def test_a_third_goes_on_with_three_times_the_epochs(paper):
    asked, clock, _ = paper
    found = tune(nothing, X, minutes=10)
    first = 1 + 2  # the warm-up, and an epoch of both sizes
    twelve, four, one = asked[first : first + 12], asked[first + 12 : first + 16], asked[first + 16 :]
    assert len(twelve) == 12
    assert len(four) == 4
    assert len(one) == 1
    assert len({epochs for *_, epochs in twelve}) == 1
    assert four[0][2] > 2 * twelve[0][2]
    assert one[0][2] > 2 * four[0][2]
    assert found.settings["learning_rate"] == 3e-3
    assert found.settings["batch_size"] == 100
    assert found.settings["keep"] == "best"
    searched = clock[0]
    assert 0.6 * 400 < searched <= 401 + 4
    assert searched + found.settings["epochs"] * 1.0 <= 600
    assert found.settings["epochs"] > 190


def test_a_training_that_was_best_long_before_its_end_is_not_made_longer(paper):
    asked, _, overfits = paper
    overfits[0] = 20
    found = tune(nothing, X, minutes=10)
    assert found.settings["epochs"] == asked[-1][2]
    assert asked[-1][2] > 30


def test_little_time_tries_the_likeliest_alone(paper):
    asked, *_ = paper
    found = tune(nothing, X, minutes=0.3)
    assert {rate for rate, *_ in asked} <= set(room.RATES[:3])
    assert found.settings["epochs"] >= 1


def test_real_trainings_find_a_rate_that_learns(monkeypatch):
    """A rate at which nothing moves loses to one that learns, on a clock by which an epoch takes a second."""
    torch.manual_seed(0)
    x = torch.randint(0, 2, (300, 1)).float().expand(300, 5).clone()
    clock, real = [0.0], room._trained

    def trained(make, data, rate, size, epochs, seed, options):
        clock[0] += epochs
        return real(make, data, rate, size, epochs, seed, options)._replace(seconds=float(epochs))

    monkeypatch.setattr(room, "_trained", trained)
    monkeypatch.setattr(room.time, "perf_counter", lambda: clock[0])
    rates = (1e-7, 3e-2)
    found = tune(lambda: (dgm.NADE(5, hidden=4), None), x, minutes=0.4, learning_rates=rates, batch_sizes=(50,))
    assert found.settings["learning_rate"] == 3e-2
    run = dgm.fit(dgm.NADE(5, hidden=4), x, **{**found.settings, "epochs": 2}, progress=False)
    assert len(run.history) == 2


def test_the_shell_tunes_then_trains(tmp_path, capsys):
    arguments = ["fit", "fvbn", "--tune", "0.05", "--quiet", "--out", str(tmp_path / "run")]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "on validation rows" in said
    assert dgm.load(tmp_path / "run").visible == 64
    assert main(arguments) == 2
    assert "not empty" in capsys.readouterr().err
    assert main([*arguments[:-1], str(tmp_path / "new"), "--resume"]) == 2
    assert "--tune searches" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"minutes": 0}, "minutes got 0"),
        ({"minutes": 1, "learning_rates": ()}, "at least one of each"),
        ({"minutes": 1, "epochs": 3}, "tune got epochs"),
    ],
)
def test_what_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        tune(nothing, X, **options)


def test_a_search_in_which_all_diverge_says_so(paper):
    with pytest.raises(ValueError, match="every training of the search diverged"):
        tune(nothing, X, minutes=5, learning_rates=(1.0,))
