"""Training runs: resuming after a kill, what is refused, what is kept."""

import json
import math
import os
import re
import signal

import pytest
import torch
from killed_runs import train
from oracles import forked

import pyro_dgm as dgm
from pyro_dgm.train.checkpoint import CONFIG, STATE, WEIGHTS, load_state, read_config

STEPS = 24
"""Of an epoch: 1197 rows of the digits in batches of 50."""


def equal(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a if k not in ("seconds", "cpu_seconds"))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@pytest.mark.parametrize("kind", ["rbm", "vae"])
def test_killed_and_resumed_is_bit_identical(kind, tmp_path):
    """kill -9 in the third epoch, resume in a new process, and compare everything with an undisturbed run."""
    whole = forked.start(train, kind, str(tmp_path / "whole"))
    killed = forked.start(train, kind, str(tmp_path / "killed"), False, 2 * STEPS + 5)
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    assert load_state(tmp_path / "killed")["epoch"] == 2
    resumed = forked.start(train, kind, str(tmp_path / "killed"), True)
    for process in (whole, resumed):
        process.join()
        assert process.exitcode == 0
    a, b = load_state(tmp_path / "whole"), load_state(tmp_path / "killed")
    assert equal(a, b)
    assert (tmp_path / "whole" / WEIGHTS).read_bytes() == (tmp_path / "killed" / WEIGHTS).read_bytes()
    if kind == "rbm":
        assert "chains" in a["objective"]


def fitted(tmp_path, **options):
    rbm, x = dgm.RBM.example()
    return rbm, x, dgm.fit(rbm, x, epochs=2, batch_size=4, out=tmp_path / "run", progress=False, **options)


def test_a_run_can_be_loaded(tmp_path):
    rbm, x, _ = fitted(tmp_path)
    again = dgm.load(tmp_path / "run")
    assert type(again) is dgm.RBM
    torch.testing.assert_close(again().log_prob(x), rbm().log_prob(x))
    config = read_config(tmp_path / "run")
    assert config["options"] == {"visible": 6, "hidden": 4}
    assert {"torch", "pyro", "pyro_dgm"} <= set(config["versions"])
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [CONFIG, "logs", "rows.npz", STATE, WEIGHTS]


def test_averaged_weights_are_what_is_saved(tmp_path):
    rbm, _, _ = fitted(tmp_path, average=0.9)
    state = load_state(tmp_path / "run")
    assert not torch.equal(state["model"]["weight"], state["averaged"][0])
    assert torch.equal(rbm.weight, state["averaged"][0])
    assert torch.equal(dgm.load(tmp_path / "run").weight, rbm.weight)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, STATE])
@pytest.mark.parametrize("damage", ["truncated", "foreign", "empty"])
def test_damaged_files_give_a_clear_error_and_stay(name, damage, tmp_path):
    fitted(tmp_path)
    path = tmp_path / "run" / name
    content = {"truncated": path.read_bytes()[: path.stat().st_size // 2], "foreign": b"[1, 2, 3]", "empty": b""}[
        damage
    ]
    path.write_bytes(content)
    rbm, x = dgm.RBM.example()

    def resume():
        dgm.fit(rbm, x, epochs=3, batch_size=4, out=tmp_path / "run", resume=True, progress=False)

    with pytest.raises(ValueError, match=name):
        resume() if name == STATE else dgm.load(tmp_path / "run")
    assert path.read_bytes() == content


def test_a_state_that_wants_to_execute_code_is_refused(tmp_path):
    fitted(tmp_path)

    class Evil:
        def __reduce__(self):
            return (os.system, ("true",))

    torch.save({"model": Evil(), "epoch": 1}, tmp_path / "run" / STATE)
    with pytest.raises(ValueError, match=STATE):
        load_state(tmp_path / "run")


def test_an_existing_run_is_not_overwritten(tmp_path):
    _, x, _ = fitted(tmp_path)
    before = (tmp_path / "run" / WEIGHTS).read_bytes()
    with pytest.raises(ValueError, match="holds a run already"):
        dgm.fit(dgm.RBM.example()[0], x, out=tmp_path / "run", progress=False)
    assert (tmp_path / "run" / WEIGHTS).read_bytes() == before


def test_resuming_needs_the_same_model_and_settings(tmp_path):
    _, x, _ = fitted(tmp_path)
    with pytest.raises(ValueError, match="resume with the same model"):
        dgm.fit(dgm.RBM(6, 5), x, epochs=3, batch_size=4, out=tmp_path / "run", resume=True, progress=False)
    with pytest.raises(ValueError, match="batch_size=4, not 5"):
        dgm.fit(dgm.RBM.example()[0], x, epochs=3, batch_size=5, out=tmp_path / "run", resume=True, progress=False)
    with pytest.raises(ValueError, match="resume with the same objective"):
        dgm.fit(dgm.RBM.example()[0], x, epochs=3, batch_size=4, out=tmp_path / "run", resume=True, progress=False,
                objective=dgm.NegativePhaseObjective(dgm.CD()))  # fmt: skip
    with pytest.raises(ValueError, match="needs out="):
        dgm.fit(dgm.RBM.example()[0], x, resume=True, progress=False)


def test_more_epochs_by_resuming(tmp_path):
    rbm, x, first = fitted(tmp_path)
    run = dgm.fit(rbm, x, epochs=5, batch_size=4, out=tmp_path / "run", resume=True, progress=False)
    assert [row["epoch"] for row in run.history] == [1, 2, 3, 4, 5]
    assert run.history[:2] == first.history


def exploding(what):
    class Exploding(dgm.Objective):
        def __init__(self, strength):
            self.strength = strength

        def attach(self, model):
            self.model = model

        def loss(self, x):
            bad = math.nan if what == "nan" else 1e12
            return self.model.weight.sum() * (bad if self.strength else 0.0)

    return Exploding


@pytest.mark.parametrize("what", ["nan", "huge"])
def test_divergence_stops_and_keeps_the_last_checkpoint(what, tmp_path):
    rbm, x = dgm.RBM.example()
    Exploding = exploding(what)
    dgm.fit(rbm, x, epochs=1, batch_size=4, out=tmp_path / "run", objective=Exploding(0.0), progress=False)
    before = (tmp_path / "run" / WEIGHTS).read_bytes()

    with pytest.raises(dgm.TrainingDiverged, match="epoch 2"):
        dgm.fit(
            rbm, x, epochs=3, batch_size=4, out=tmp_path / "run", resume=True, objective=Exploding(1.0), progress=False
        )
    assert (tmp_path / "run" / WEIGHTS).read_bytes() == before


@pytest.mark.parametrize("rows", [5, 40])
def test_overflow_on_the_way_to_the_energy_is_divergence_too(rows):
    """exp(log_precision) overflows where the parameters themselves are finite: in the next step, or in an epoch's figures."""

    class Precise(dgm.Objective):
        def attach(self, model):
            self.model = model

        def loss(self, x):
            return -self.model.log_precision.mean() - self.model().free_energy(x).mean().detach()

    model, x = dgm.GaussianRBM(3, 2), torch.randn(rows, 3)
    with torch.no_grad():
        model.visible_bias.fill_(0.1)
    with pytest.raises(dgm.TrainingDiverged, match="smaller learning_rate"):
        dgm.fit(
            model, x, objective=Precise(), epochs=1, batch_size=10, learning_rate=400.0, optimiser="sgd", progress=False
        )
    assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(("model", "named"), [(dgm.GaussianRBM(6, 2), True), (dgm.RBM(6, 2), False)])
def test_divergence_names_columns_that_hold_one_value(model, named):
    x = (torch.rand(60, 6) < 0.5).float()
    x[:, [1, 4]] = 0
    with pytest.raises(dgm.TrainingDiverged) as found:
        dgm.fit(model, x, epochs=3, batch_size=10, learning_rate=1e12, progress=False)
    assert (
        bool(re.search(r"2 of 6 columns hold one value in the \d+ rows looked at \(1, 4\)", str(found.value))) == named
    )


REAL_MODELS = {
    "vae": lambda: dgm.VAE(3, latent=2, hidden=(4,), output="gaussian"),
    "grbm": lambda: dgm.GaussianRBM(3, 2),
    "ssrbm": lambda: dgm.SpikeSlabRBM(3, 2),
    "slabs": lambda: dgm.CoupledSlabRBM(3, 2),
    "flow": lambda: dgm.FlowGenerator(3, layers=2, hidden=(4,)),
    "affine": lambda: dgm.AffineGenerator(3),
    "s3c": lambda: dgm.S3C(3, 2),
}


@pytest.mark.filterwarnings("ignore:Encountered NaN")
@pytest.mark.parametrize("rate", [1e3, 1e9])
@pytest.mark.parametrize("name", REAL_MODELS)
def test_steps_that_are_too_large_are_divergence_in_one_line(name, rate):
    torch.manual_seed(0)
    with pytest.raises(dgm.TrainingDiverged, match=f"smaller learning_rate than {re.escape(f'{rate:g}')}") as found:
        dgm.fit(
            REAL_MODELS[name](),
            torch.randn(60, 3),
            epochs=5,
            batch_size=20,
            learning_rate=rate,
            optimiser="sgd",
            progress=False,
        )
    assert len(str(found.value)) < 300


def test_a_loss_that_is_bad_before_any_step_is_not_the_learning_rates_fault():
    model, x = dgm.AffineGenerator(3), 1e9 * torch.randn(60, 3)
    model.fresh = False  # parameters that do not fit the data
    with pytest.raises(dgm.TrainingDiverged, match=r"before any step was made.* standardise the columns") as found:
        dgm.fit(model, x, epochs=1, learning_rate=1e-12, progress=False)
    assert "learning_rate" not in str(found.value)
    with torch.no_grad():
        model.mean.fill_(torch.nan)
    with pytest.raises(dgm.TrainingDiverged, match="before any step was made: mean has entries"):
        dgm.fit(model, x, epochs=1, progress=False)


def test_an_error_of_the_users_own_after_some_steps_stays_what_it_is():
    class Late(dgm.Objective):
        steps = 0

        def attach(self, model):
            self.model = model

        def loss(self, x):
            self.steps += 1
            if self.steps > 2:
                raise ValueError("something else")
            return self.model.weight.sum()

    rbm, x = dgm.RBM.example()
    with pytest.raises(ValueError, match="something else"):
        dgm.fit(rbm, x, objective=Late(), epochs=9, batch_size=4, progress=False)


def test_nan_weights_are_never_saved(tmp_path):
    vae, x = dgm.VAE.example()
    with pytest.raises(dgm.TrainingDiverged):
        dgm.fit(vae, x, epochs=20, learning_rate=1e30, out=tmp_path / "run", progress=False)
    if (tmp_path / "run" / WEIGHTS).exists():
        assert all(torch.isfinite(p).all() for p in dgm.load(tmp_path / "run").parameters())


def test_early_stopping():
    rbm, x = dgm.RBM.example()

    class Still(dgm.Objective):
        def attach(self, model):
            self.model = model

        def loss(self, x):
            return 0 * self.model.weight.sum()

    rbm.progress = lambda train, valid: {"valid_figure": -1.0}
    run = dgm.fit(rbm, x, epochs=50, patience=3, objective=Still(), progress=False)
    assert len(run.history) == 4


def test_logs_hold_every_figure(tmp_path):
    _, _, run = fitted(tmp_path)
    text = next((tmp_path / "run" / "logs").rglob("metrics.csv")).read_text()
    for name in run.history[0]:
        assert name in text or name == "epoch"
    json.dumps(run.history)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs got 0"),
        ({"batch_size": 0}, "batch_size got 0"),
        ({"learning_rate": -1.0}, "a finite number above 0"),
        ({"learning_rate": math.nan}, "a finite number above 0"),
        ({"optimiser": "lbfgs"}, "expected one of"),
        ({"decay": "cosine"}, "linear"),
        ({"average": 1.5}, r"in \(0, 1\)"),
        ({"logger": "wandb"}, "expected one of csv, tensorboard"),
        ({"seed": -1}, "seed got -1; expected an integer from 0"),
        ({"optimiser_options": {"eps": torch.tensor(1.0)}}, "a value that a run cannot store"),
    ],
)
def test_bad_options_before_anything_starts(options, message, tmp_path):
    rbm, x = dgm.RBM.example()
    with pytest.raises(ValueError, match=message):
        dgm.fit(rbm, x, out=tmp_path / "run", progress=False, **options)
    assert not (tmp_path / "run").exists()


def test_grey_levels_are_refused_before_training():
    digits = dgm.data.load("digits")
    for model in (dgm.RBM(64, 5), dgm.VAE(64, latent=2)):
        with pytest.raises(ValueError, match="binarisation"):
            dgm.fit(model, digits, progress=False)


def test_wrong_width():
    with pytest.raises(ValueError, match=r"\(63,\)"):
        dgm.fit(dgm.RBM(63, 5), dgm.data.load("digits", binarisation="threshold"), progress=False)


def test_a_second_fit_goes_on_from_the_first():
    for cls in (dgm.RBM, dgm.VAE):
        model = cls(6)
        x = torch.randint(0, 2, (50, 6)).float()
        dgm.fit(model, x, epochs=1, progress=False)
        before = [p.detach().clone() for p in model.parameters()]
        dgm.fit(model, x, epochs=1, learning_rate=1e-12, progress=False)
        for a, b in zip(before, model.parameters(), strict=True):
            torch.testing.assert_close(a, b.detach(), atol=1e-6, rtol=0)
