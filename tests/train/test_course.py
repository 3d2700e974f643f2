"""The course of a training: schedules of torch, clipped gradients, rounded products, callbacks and loggers."""

import itertools
import json
import random
import warnings

import numpy as np
import pytest
import torch

import pyro_dgm as dgm
from pyro_dgm import registry
from pyro_dgm.cli.main import main
from pyro_dgm.data.dataset import Dataset, Split
from pyro_dgm.nets.rounding import networks, rounded_products
from pyro_dgm.train.checkpoint import read_config
from pyro_dgm.train.schedules import NAMES, Schedule

QUIET = {"batch_size": 5, "progress": False}

SCHEDULES = {
    "linear": {},
    "ConstantLR": {"factor": 0.5, "total_iters": 2},
    "CosineAnnealingLR": {},
    "CosineAnnealingWarmRestarts": {"T_0": 2},
    "CyclicLR": {"base_lr": 1e-3, "max_lr": 1e-2, "step_size_up": 3, "cycle_momentum": False},
    "ExponentialLR": {"gamma": 0.7},
    "LinearLR": {"total_iters": 3},
    "MultiStepLR": {"milestones": [1, 3], "gamma": 0.1},
    "OneCycleLR": {},
    "PolynomialLR": {"total_iters": 4, "power": 2.0},
    "ReduceLROnPlateau": {"patience": 0, "factor": 0.3, "threshold": 100.0, "threshold_mode": "abs"},
    "StepLR": {"step_size": 2, "gamma": 0.5},
}


def fitted(epochs=5, resume=False, model=None, **options):
    rbm, x = dgm.RBM.example() if model is None else model
    options = {"learning_rate": 0.01, **QUIET, **options}
    if isinstance(rbm, dgm.RBM):
        options.setdefault("objective", rbm.objective("cd"))
    return dgm.fit(rbm, x, epochs=epochs, resume=resume, **options)


def test_all_schedules_are_tried():
    assert set(SCHEDULES) == {"linear", *NAMES}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_goes_on_bit_for_bit(name, tmp_path, monkeypatch):
    """A run that is stopped after two epochs of five by Ctrl-C, and resumed, against one that is not; both read from disk too."""
    options = {
        "decay": name,
        "decay_options": SCHEDULES[name],
        "optimiser": "sgd",
        "optimiser_options": {"momentum": 0.5},
    }
    whole = fitted(**options)

    def stop(progress):
        if progress.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted(out=tmp_path / "run", callbacks=[stop], **options)
    run = fitted(out=tmp_path / "run", resume=True, **options)
    assert all(torch.equal(value, run.model.state_dict()[key]) for key, value in whole.model.state_dict().items())
    rates = [row.get("learning_rate") for row in whole.history]
    assert rates == [row.get("learning_rate") for row in run.history]
    assert (len(set(rates)) > 1) == (name != "linear")
    assert read_config(tmp_path / "run")["training"]["decay_options"] == SCHEDULES[name]


def test_step_sizes_are_those_that_the_formulas_say():
    halves = fitted(decay="StepLR", decay_options={"step_size": 2, "gamma": 0.5}).history
    assert [row["learning_rate"] for row in halves] == [0.01, 0.01, 0.005, 0.005, 0.0025]
    waves = fitted(decay="CosineAnnealingLR").history  # down to zero at the end of the training
    expected = [0.005 * (1 + torch.cos(torch.tensor(torch.pi * epoch / 5)).item()) for epoch in range(5)]
    assert [row["learning_rate"] for row in waves] == pytest.approx(expected)
    cycle = fitted(decay="OneCycleLR").history  # its last step's size is max_lr / 25 / 10^4
    assert cycle[-1]["learning_rate"] == pytest.approx(0.01 / 25e4)


@pytest.mark.parametrize(
    ("decay", "of"),
    [
        ("OneCycleLR", {"max_lr": 0.1}),
        ("OneCycleLR", {}),
        ("CyclicLR", {"base_lr": 1e-3, "max_lr": 1e-2, "step_size_up": 3, "cycle_momentum": False}),
        ("ReduceLROnPlateau", {"patience": 0, "factor": 1e-3, "min_lr": 1e-3}),
    ],
)
def test_groups_keep_the_ratio_of_their_step_sizes(decay, of):
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in (0.01, 0.04)]
    optimiser = torch.optim.SGD(groups, lr=0.01, momentum=0.5)
    schedule, alone = (
        Schedule(decay, of, opt, steps=4, epochs=2)
        for opt in (optimiser, torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01, momentum=0.5))
    )
    for number in range(8):
        for each in (schedule, alone):
            each.optimiser.step()
            each.after_step(number)
            if number % 4 == 3:
                each.after_epoch(-float(number))
        first, second = (group["lr"] for group in optimiser.param_groups)
        assert first == pytest.approx(alone.optimiser.param_groups[0]["lr"], rel=1e-12)
        assert second == pytest.approx(4 * first, rel=1e-12)


def test_a_list_of_step_sizes_is_that_of_the_groups():
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in (0.01, 0.04)]
    schedule = Schedule("OneCycleLR", {"max_lr": [0.1, 0.2]}, torch.optim.SGD(groups, lr=0.01), steps=4, epochs=2)
    assert [group["max_lr"] for group in schedule.optimiser.param_groups] == [0.1, 0.2]


def test_a_plateau_is_one_of_the_monitored_figure():
    """Every fall of the figure lowers the rate of the epochs after it, and no rise does."""
    rbm, x = dgm.RBM.example()
    figures = iter([1.0, 0.5, 0.7, 2.0, 3.0])
    rbm.progress = lambda train, valid: {"valid_figure": next(figures)}
    options = {"decay": "ReduceLROnPlateau", "decay_options": {"patience": 0, "factor": 0.1}}
    run = fitted(model=(rbm, x), **options)
    assert [row["learning_rate"] for row in run.history] == pytest.approx([1e-2, 1e-2, 1e-3, 1e-4, 1e-4])


def test_a_negative_figure_that_stands_still_is_a_plateau():
    """torch's default, a relative threshold, takes a = -100 for better than -100.01, and never lowers the rate."""
    rbm, x = dgm.RBM.example()
    rbm.progress = lambda train, valid: {"valid_figure": -100.0}
    options = {"decay": "ReduceLROnPlateau", "decay_options": {"patience": 0, "factor": 0.1}}
    run = fitted(model=(rbm, x), **options)
    assert [row["learning_rate"] for row in run.history] == pytest.approx([1e-2, 1e-2, 1e-3, 1e-4, 1e-5])


@pytest.mark.parametrize(
    ("decay", "of"),
    [("CyclicLR", SCHEDULES["CyclicLR"]), ("OneCycleLR", {"total_steps": 20})],
)
def test_more_epochs_go_on_with_a_schedule_per_step(decay, of, tmp_path):
    options = {"decay": decay, "decay_options": of, "optimiser": "sgd", "optimiser_options": {"momentum": 0.5}}
    whole = fitted(5, **options)
    fitted(2, out=tmp_path / "run", **options)
    parts = fitted(5, resume=True, out=tmp_path / "run", **options)
    assert torch.equal(whole.model.weight, parts.model.weight)
    rates = [[row["learning_rate"] for row in run.history] for run in (whole, parts)]
    assert rates[0] == rates[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decay": "LambdaLR"}, "expected one of linear, ConstantLR"),
        ({"decay": "StepLR"}, "decay_options got {}: StepLR says .*step_size"),
        ({"decay": "StepLR", "decay_options": {"step": 2}}, "StepLR says .*'step'"),
        ({"decay_options": {"gamma": 0.5}}, "decay=None has none"),
        ({"decay": "OneCycleLR", "decay_options": {"total_steps": 3}}, "a cycle of 3 steps; the training has 10"),
        ({"decay": "ReduceLROnPlateau", "decay_options": {"mode": "min"}}, "got mode, which fit chooses itself"),
        ({"optimiser_options": {"lr": 0.5}}, "the step size is learning_rate"),
        ({"clip": 0.0}, "clip got 0.0"),
        ({"precision": "float16"}, "expected one of float32, bfloat16"),
        ({"precision": "bfloat16"}, "'bfloat16' for RBM, which is trained in single precision"),
        ({"callbacks": [dgm.Callback]}, "callbacks got the class Callback; call it"),
        ({"callbacks": [3]}, "callbacks got 3; expected functions"),
        ({"callbacks": print}, "expected a list"),
        ({"logger": object()}, "an object with log_metrics"),
    ],
)
def test_what_is_refused_before_anything_starts(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        fitted(out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_schedule_over_the_epochs_keeps_their_number(tmp_path):
    fitted(2, out=tmp_path / "run", decay="CosineAnnealingLR")
    with pytest.raises(ValueError, match="changes its step size over 2 epochs"):
        fitted(3, out=tmp_path / "run", resume=True, decay="CosineAnnealingLR")
    options = {"decay": "ExponentialLR", "decay_options": {"gamma": 0.5}}
    fitted(2, out=tmp_path / "other", **options)
    assert len(fitted(3, out=tmp_path / "other", resume=True, **options).history) == 3


def test_gradients_are_clipped_to_a_norm():
    """A step of plain descent is as long as the rate times the norm allows, and follows the gradient."""

    class Slope(dgm.Objective):
        def attach(self, model):
            self.model = model

        def loss(self, x):
            return 30 * self.model.weight[0, 0] + 40 * self.model.hidden_bias[0]

    moved = {}
    for clip in (None, 5.0, 500.0):
        rbm, x = dgm.RBM.example()
        rbm.fresh = False
        before = {name: value.clone() for name, value in rbm.state_dict().items()}
        options = {"optimiser": "sgd", "learning_rate": 0.1, "objective": Slope(), "clip": clip}
        fitted(1, model=(rbm, x[:6]), **options)
        steps = -(-len(dgm.data.rows.as_dataset(x[:6]).train) // 5)
        moved[clip] = [float((before[n] - rbm.state_dict()[n]).flatten()[0]) / steps for n in ("weight", "hidden_bias")]
    assert moved[None] == pytest.approx([3.0, 4.0], rel=1e-4) == moved[500.0]
    assert moved[5.0] == pytest.approx([0.3, 0.4], rel=1e-4)


ROUNDING = {name: cls for name, cls in registry.models().items() if cls.rounds_safely}


@pytest.mark.parametrize("name", ROUNDING)
def test_rounded_products_change_losses_little(name):
    """The same draws with and without: losses differ (so products were rounded), by far less than half precision's 1 in 256."""
    losses = []
    for rounds in (False, True):
        torch.manual_seed(0)
        model, x = ROUNDING[name].example()
        objective = model.objective()
        modules = [n for m in (model, *objective.owned().values()) for n in networks(m)]
        assert modules
        objective.attach(model)
        torch.manual_seed(1)
        with rounded_products(modules if rounds else []):
            found = torch.stack([turn.loss() for turn in objective.turns(x)])
        found.sum().backward()
        assert all(p.grad is None or p.grad.dtype == torch.float32 for p in model.parameters())
        losses.append(found.detach())
    assert not torch.equal(*losses)
    torch.testing.assert_close(*losses, rtol=0.02, atol=0.02)


@pytest.mark.filterwarnings("ignore:this processor has no units")
def test_rounded_training_goes_on_bit_for_bit_and_leaves_the_model_as_it_was(tmp_path):
    options = {"precision": "bfloat16"}
    runs = [fitted(4, model=dgm.VAE.example(), **options)]
    fitted(2, model=dgm.VAE.example(), out=tmp_path / "run", **options)
    runs.append(fitted(4, resume=True, model=dgm.VAE.example(), out=tmp_path / "run", **options))
    single = fitted(4, model=dgm.VAE.example())
    weights = [run.model.state_dict()["decoder.0.weight"] for run in (*runs, single)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert "forward" not in vars(runs[0].model.decoder)


class Recorder(dgm.Callback):
    def __init__(self):
        self.events = []

    def on_epoch_end(self, progress):
        torch.rand(3)  # what a callback draws changes nothing
        self.events.append(("end", progress.epoch, progress.figures["valid_figure"], progress.model.training))
        return progress.epoch == 4

    def on_improvement(self, progress):
        self.events.append(("better", progress.epoch, progress.best))

    def on_checkpoint(self, progress):
        assert json.loads((progress.out / "config.json").read_text())
        self.events.append(("saved", progress.epoch))


def test_callbacks_are_called_in_order_and_can_end_the_training(tmp_path):
    plain, called, recorder = dgm.RBM.example(), dgm.RBM.example(), Recorder()
    for rbm, _ in (plain, called):
        figures = [1.0, 0.5, 2.0, 1.5, 1.0]
        rbm.progress = lambda train, valid, left=figures: {"valid_figure": left.pop(0)}
    fitted(4, model=plain)
    run = fitted(5, model=called, out=tmp_path / "run", callbacks=[recorder])
    assert recorder.events == [
        ("end", 1, 1.0, False), ("better", 1, 1.0), ("saved", 1), ("end", 2, 0.5, False), ("saved", 2),
        ("end", 3, 2.0, False), ("better", 3, 2.0), ("saved", 3), ("end", 4, 1.5, False), ("saved", 4),
    ]  # fmt: skip
    assert len(run.history) == 4
    assert torch.equal(plain[0].weight, called[0].weight)


@pytest.mark.parametrize("answer", [True, np.True_, torch.tensor(True)], ids=["python", "numpy", "torch"])
def test_what_a_callback_ended_stays_ended(answer, tmp_path):
    """A run resumed is not trained on; other answers end nothing, and draws of a callback change no generator."""
    answers = [
        lambda progress: 1.0,
        lambda progress: random.random(),
        lambda progress: progress.epoch >= 2 and answer,
    ]
    before = random.getstate()
    run = fitted(4, out=tmp_path / "run", callbacks=answers)
    assert len(run.history) == 2
    assert random.getstate() == before
    assert len(fitted(6, out=tmp_path / "run", resume=True).history) == 2


class Kept:
    """An object of Lightning's protocol, of which it has what it wants."""

    def __init__(self):
        self.metrics, self.parameters, self.ends = [], None, []

    def log_metrics(self, metrics, step=None):
        self.metrics.append((step, metrics))

    def log_hyperparams(self, params):
        self.parameters = params

    def finalize(self, status):
        self.ends.append(status)


def test_loggers_of_lightnings_protocol(tmp_path):
    kept = Kept()
    run = fitted(2, out=tmp_path / "run", logger=["csv", kept])
    assert [step for step, _ in kept.metrics] == [1, 2]
    assert kept.metrics[1][1] == {name: value for name, value in run.history[1].items() if name != "epoch"}
    assert kept.parameters["training"]["learning_rate"] == 0.01
    assert kept.parameters["options"] == {"visible": 6, "hidden": 4}
    assert (tmp_path / "run" / "logs" / "metrics.csv").is_file()
    with pytest.raises(ZeroDivisionError):
        fitted(2, logger=kept, callbacks=[lambda progress: 1 / 0])
    assert kept.ends == ["success", "failed"]


def test_lightnings_own_logger(tmp_path):
    loggers = pytest.importorskip("lightning.pytorch.loggers")
    fitted(2, logger=loggers.CSVLogger(tmp_path, name="theirs"))
    lines = next(tmp_path.rglob("metrics.csv")).read_text().splitlines()
    assert len(lines) == 3
    assert "loss" in lines[0].split(",")


def test_all_of_it_from_the_shell(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(
        "import pathlib, pyro_dgm as dgm\n"
        "class Log:\n"
        "    def log_metrics(self, metrics, step): pathlib.Path(__file__).with_name(f'seen{step}').write_text('')\n"
        "def stop(progress): return progress.epoch == 2\n"
    )
    run, mine = tmp_path / "run", tmp_path / "mine.py"
    arguments = [
        "fit", "rbm", "--set", "hidden=4", "--objective", "kind=cd", "--epochs", "3", "--batch-size", "400", "--decay", "StepLR",
        "--decay-option", "step_size=1", "--decay-option", "gamma=0.5", "--optimiser", "sgd", "--optimiser-option",
        "momentum=0.5", "--clip", "2", "--logger", f"{mine}:Log", "--callback", f"{mine}:stop", "--out", str(run), "--quiet",
    ]  # fmt: skip
    assert main(arguments) == 0
    assert (tmp_path / "seen2").exists()
    assert not (tmp_path / "seen3").exists()
    training = read_config(run)["training"]
    assert training["decay_options"] == {"step_size": 1, "gamma": 0.5}
    assert (training["clip"], training["optimiser_options"]) == (2.0, {"momentum": 0.5})
    again = ["fit", "--config", str(run), "--decay-option", "gamma=0.25", "--epochs", "1", "--quiet", "--out"]
    assert main([*again, str(tmp_path / "again")]) == 0
    repeated = read_config(tmp_path / "again")["training"]
    assert repeated == training | {"epochs": 1, "decay_options": {"step_size": 1, "gamma": 0.25}}
    capsys.readouterr()
    for wrong, message in (
        (["--decay", "StepLR", "--decay-option", "size=1"], "StepLR has no option 'size'; it has optimizer, step_size"),
        (["--decay-option", "gamma=1"], "--decay is none, which has no options"),
        (["--callback", f"{mine}:absent"], "has no 'absent'; expected the name of a callback"),
        (["--precision", "bfloat16"], "RBM, which is trained in single precision"),
    ):
        assert main(["fit", "rbm", *wrong, "--out", str(tmp_path / "wrong"), "--quiet"]) == 2
        assert message in capsys.readouterr().err


def test_recipes_may_state_them():
    """The settings of a recipe's training are arguments of fit, so that its JSON says them as a run's configuration does."""
    split = Split(dgm.RBM.example()[1], dgm.data.Space("binary"))
    training = json.loads('{"epochs": 2, "decay": "StepLR", "decay_options": {"step_size": 1}, "clip": 1.0}')
    run = dgm.fit(dgm.RBM(6, 3), Dataset("toy", split, split, split, (6,)), progress=False, **training)
    assert run.history[1]["learning_rate"] == pytest.approx(1e-4)


def test_centred_gradients_and_an_optimiser_that_undoes_them_are_warned_of():
    """Once, by whatever criterion holds the phase; in the shell too; and not where the two go together."""
    rbm, x = dgm.RBM.example()
    made = {
        "machine": lambda centred: rbm.objective(centred=centred),
        "phase": lambda centred: dgm.NegativePhaseObjective(dgm.CD(centred=centred)),
        "labelled": lambda centred: dgm.Hybrid(dgm.PCD(centred=centred)),
        "wake-sleep": lambda centred: dgm.WakeSleep(dgm.PCD(centred=centred)),
    }
    for name, make in made.items():
        for centred, optimiser in itertools.product((False, True), ("adam", "adamw", "sgd")):
            assert (make(centred).ill_with(optimiser) is not None) == (centred and optimiser != "sgd"), (
                name,
                optimiser,
            )
    with pytest.warns(UserWarning, match="optimiser='adam' trains badly here: .*optimiser='sgd'") as caught:
        dgm.fit(rbm, x, objective=made["machine"](True), epochs=2, progress=False)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dgm.fit(rbm, x, objective=made["machine"](True), optimiser="sgd", epochs=1, progress=False)


def test_the_shell_warns_of_centred_gradients_with_adam(tmp_path, capsys):
    command = ["fit", "rbm", "--data", "digits", "--set", "hidden=2", "--epochs", "1", "--batch-size", "1000"]
    command += ["--binarisation", "threshold", "--objective", "centred=true", "--quiet"]
    for more, times in ([], 1), (["--optimiser", "sgd"], 0):
        assert main([*command, *more, "--out", str(tmp_path / str(times))]) == 0
        assert capsys.readouterr().err.count("trains badly here") == times
