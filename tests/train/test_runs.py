"""Runs on disk under bad conditions: dead beginnings, two writers, other data, full disks, flipped bytes; generators kept."""

import functools
import json
import random
import resource

import numpy as np
import pytest
import torch

import pyro_dgm as dgm
from pyro_dgm import recipes, train
from pyro_dgm.recipes import reproduction
from pyro_dgm.recipes.reproduction import _Reproduction
from pyro_dgm.train import resumption
from pyro_dgm.train.checkpoint import CONFIG, STATE, WEIGHTS, load_state
from pyro_dgm.train.kept_rows import ROWS

FIT = {"epochs": 2, "batch_size": 4, "progress": False}


def fitted(folder, model=None, x=None, **options):
    rbm, rows = dgm.RBM.example()
    return dgm.fit(model or rbm, rows if x is None else x, out=folder, **{**FIT, **options})


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def draws():
    return random.random(), np.random.rand(), float(torch.rand(()))  # noqa: NPY002 (the generator that Pyro seeds)


def dbn_with_labels():
    dbn, x = dgm.DBN.example()
    return dbn, dgm.data.Split(x, dgm.data.Space("binary"), torch.arange(len(x)) % 2)


TRAINING = {
    "fit": lambda: fitted(None),
    "a refused fit": lambda: fitted(None, objective=Stopped(0)),
    "pretrain": lambda: dgm.pretrain(*dgm.DBN.example(), **FIT),
    "fine_tune": lambda: dgm.fine_tune(*dbn_with_labels(), classes=2, epochs=1, dropout=0.5),
}


@pytest.mark.parametrize("name", TRAINING)
def test_generators_are_left_as_they_were(name):
    """Else the resamples of a bootstrap around ``fit`` would all be the same."""
    random.seed(3), np.random.seed(3), torch.manual_seed(3)  # noqa: NPY002
    expected = [draws() for _ in range(2)]
    random.seed(3), np.random.seed(3), torch.manual_seed(3)  # noqa: NPY002
    assert draws() == expected[0]
    try:
        TRAINING[name]()
    except KeyboardInterrupt:
        assert name == "a refused fit"
    assert draws() == expected[1]


class Stopped(dgm.Objective):
    """A criterion that stops in its step of that number, as Ctrl-C does."""

    def __init__(self, step):
        self.step = step

    def attach(self, model):
        self.model = model

    def loss(self, x):
        if self.step == 0:
            raise KeyboardInterrupt
        self.step -= 1
        return self.model.weight.square().sum()


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_that_saved_nothing_is_none(resume, tmp_path):
    """Both ways to begin again work, whatever the first attempt was; what it left half written is removed."""
    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path, dgm.RBM(6, 3), objective=Stopped(1))
    assert content(tmp_path).keys() == {CONFIG, ROWS}
    (tmp_path / ".training.pt.99999999.ab.draft").write_text("half")
    run = fitted(tmp_path, resume=resume)
    assert [row["epoch"] for row in run.history] == [1, 2]
    assert content(tmp_path).keys() == {CONFIG, ROWS, WEIGHTS, STATE}
    assert dgm.load(tmp_path).hidden == 4


def test_a_foreign_configuration_is_not_overwritten(tmp_path):
    (tmp_path / CONFIG).write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="choose another folder"):
        fitted(tmp_path)
    assert content(tmp_path) == {CONFIG: b'{"model_type": "bert"}'}


def test_one_run_at_a_time_trains_in_a_folder(tmp_path):
    """The second is refused, and the first ends as if alone."""
    refusals = []

    class Crowded(dgm.PseudoLikelihood):
        def loss(self, x):
            with pytest.raises(ValueError, match="another process is writing into") as error:
                fitted(tmp_path / "crowded")
            refusals.append(str(error.value))
            return super().loss(x)

    fitted(tmp_path / "crowded", objective=Crowded(), epochs=1)
    fitted(tmp_path / "alone", objective=dgm.PseudoLikelihood(), epochs=1)
    assert len(refusals) == 3
    assert (tmp_path / "crowded" / WEIGHTS).read_bytes() == (tmp_path / "alone" / WEIGHTS).read_bytes()
    fitted(tmp_path / "crowded", objective=Crowded(), epochs=1, resume=True)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda x: x.flip(1), "other rows, or in another order"),
        (lambda x: torch.cat([x[1:9], x[:1], x[9:]]), "other rows, or in another order"),
        (lambda x: torch.cat([x[:9], 1 - x[9:]]), "other rows, or in another order"),
        (lambda x: x[:9], r"with rows \[9, 1, 1\], not \[8, 1, 1\]"),
    ],
    ids=["columns", "order", "validation", "fewer"],
)
def test_a_run_goes_on_with_its_data_alone(other, message, tmp_path):
    fitted(tmp_path)
    before = content(tmp_path)
    with pytest.raises(ValueError, match=message):
        fitted(tmp_path, x=other(dgm.RBM.example()[1]), epochs=3, resume=True)
    assert content(tmp_path) == before


def test_data_may_move(tmp_path):
    fitted(tmp_path, source={"source": "/here.npz"})
    assert len(fitted(tmp_path, source={"source": "/there.npz"}, epochs=3, resume=True).history) == 3


def test_tuples_in_options_come_back_as_they_can(tmp_path):
    options = {"optimiser_options": {"betas": (0.9, 0.99)}}
    fitted(tmp_path, **options)
    assert len(fitted(tmp_path, **options, epochs=3, resume=True).history) == 3
    with pytest.raises(ValueError, match="was trained with optimiser_options="):
        fitted(tmp_path, optimiser_options={"betas": (0.9, 0.98)}, epochs=4, resume=True)


@pytest.mark.parametrize("phase", [dgm.CD, dgm.PCD])
def test_what_grows_over_the_epochs_keeps_their_number(phase, tmp_path):
    make = functools.partial(phase, k=(1, 5))
    fitted(tmp_path, objective=dgm.NegativePhaseObjective(make()))
    with pytest.raises(ValueError, match="changes its criterion over 2 epochs; resume with the same"):
        fitted(tmp_path, objective=dgm.NegativePhaseObjective(make()), epochs=3, resume=True)
    fitted(tmp_path, objective=dgm.NegativePhaseObjective(make()), resume=True)


def test_which_criteria_grow():
    """A user's own that takes note of the share of training counts as one that does."""

    class Own(Stopped):
        def schedule(self, share):
            self.share = share

    assert Own(1).scheduled()
    assert dgm.WakeSleep(dgm.CD(k=(1, 2))).scheduled()
    assert not any(o.scheduled() for o in (dgm.WakeSleep(), Stopped(1), dgm.NegativePhaseObjective(dgm.CD(k=2))))


def test_fewer_epochs_than_done_are_refused(tmp_path):
    fitted(tmp_path)
    with pytest.raises(ValueError, match="for 2 epochs already, and epochs got 1"):
        fitted(tmp_path, epochs=1, resume=True)
    assert len(fitted(tmp_path, resume=True).history) == 2


def test_another_machine_is_said(tmp_path, monkeypatch):
    fitted(tmp_path)
    monkeypatch.setattr(resumption, "machine", lambda: {"processor": "another", "threads": 64})
    with pytest.warns(UserWarning, match="round differently") as said:
        fitted(tmp_path, epochs=3, resume=True)
    assert {str(w.message).split(" was trained on ")[1].split()[0] for w in said} == {"processor", "threads"}


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path):
    """Whatever file is the first that does not fit, the message is one line, and the run goes on once there is room."""
    fitted(tmp_path)
    before, limits = content(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    for room in (10, len(before[CONFIG]) + 100):
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
        try:
            with pytest.raises(OSError, match="cannot be written") as error:
                fitted(tmp_path, epochs=3, resume=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert "\n" not in str(error.value)
        assert {name: data for name, data in content(tmp_path).items() if name != CONFIG} == {
            name: data for name, data in before.items() if name != CONFIG
        }
    assert len(fitted(tmp_path, epochs=3, resume=True).history) == 3


def test_a_resume_that_fails_changes_nothing(tmp_path):
    fitted(tmp_path)
    state = load_state(tmp_path)
    torch.save({**state, "model": {}}, tmp_path / STATE)
    before = content(tmp_path)
    with pytest.raises(ValueError, match="does not fit this model"):
        fitted(tmp_path, epochs=3, resume=True)
    assert content(tmp_path) == before


@pytest.mark.parametrize("name", [WEIGHTS, STATE])
def test_flipped_bytes_are_found(name, tmp_path):
    """Either an error, or the flipped bit had no meaning."""
    fitted(tmp_path)
    path = tmp_path / name
    good, model, state = path.read_bytes(), dgm.load(tmp_path), load_state(tmp_path)
    messages = []
    for place in np.linspace(0, len(good) - 1, 60).astype(int).tolist():
        path.write_bytes(good[:place] + bytes([good[place] ^ 16]) + good[place + 1 :])
        try:
            if name == WEIGHTS:
                assert torch.equal(dgm.load(tmp_path).weight, model.weight)
            else:
                assert torch.equal(load_state(tmp_path)["model"]["weight"], state["model"]["weight"])
        except ValueError as error:
            messages.append(str(error))
    assert len(messages) > 20
    assert all(path.name in message and "weights_only" not in message for message in messages)


def test_weights_of_earlier_versions_have_no_checksum(tmp_path):
    from safetensors.torch import load_file, save_file

    fitted(tmp_path)
    model = dgm.load(tmp_path)
    save_file(load_file(tmp_path / WEIGHTS), tmp_path / WEIGHTS)
    assert torch.equal(dgm.load(tmp_path).weight, model.weight)


def test_numbers_of_numpy_are_numbers(tmp_path):
    run = fitted(
        tmp_path, epochs=np.int64(1), batch_size=np.int32(4), learning_rate=np.float32(0.5), seed=np.int64(3),
        average=np.float64(0.5),
    )  # fmt: skip
    assert len(run.history) == 1
    assert json.loads((tmp_path / CONFIG).read_text())["training"]["learning_rate"] == 0.5


@pytest.mark.parametrize("optimiser", ["adam", "adamw"])
def test_adam_is_fused_and_the_same(optimiser, tmp_path):
    """To rounding: in ten steps of at most 0.01 two orders of summation differ by less than 1e-6."""
    found = {}
    for name, options in {"fused": {}, "plain": {"foreach": False}, "asked": {"fused": False}}.items():
        folder, model = tmp_path / name, dgm.VAE.example()[0]
        x = dgm.VAE.example()[1]
        fitted(folder, model, x, optimiser=optimiser, learning_rate=0.01, optimiser_options=options)
        found[name] = load_state(folder)
    used = {name: state["optimiser"]["param_groups"][0]["fused"] for name, state in found.items()}
    assert used == {"fused": True, "plain": None, "asked": False}
    for name, value in found["plain"]["model"].items():
        torch.testing.assert_close(found["fused"]["model"][name], value, rtol=0, atol=1e-6)
        assert torch.equal(found["asked"]["model"][name], value)


def test_a_run_begun_without_fused_steps_goes_on_without(tmp_path):
    """As those of earlier versions were."""
    whole, begun = tmp_path / "whole", tmp_path / "begun"
    fitted(whole, optimiser_options={"fused": False}, epochs=3)
    fitted(begun, optimiser_options={"fused": False})
    config = json.loads((begun / CONFIG).read_text())
    config["training"]["optimiser_options"] = {}
    (begun / CONFIG).write_text(json.dumps(config))
    fitted(begun, epochs=3, resume=True)
    assert (whole / WEIGHTS).read_bytes() == (begun / WEIGHTS).read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"beta": 1}, "unexpected keyword argument 'beta'"), ({"betas": (2, 3)}, "Invalid beta")],
)
def test_options_that_optimisers_refuse(options, message, tmp_path):
    with pytest.raises(ValueError, match=f"optimiser_options got .*{message}"):
        fitted(tmp_path / "run", optimiser_options=options)
    assert not (tmp_path / "run").exists()


def test_a_recipe_pretrains_unless_its_run_has_a_checkpoint(tmp_path, monkeypatch):
    """A configuration alone was left by a process that was stopped in its first epoch, and the layers with it."""
    done = []
    monkeypatch.setattr(train, "pretrain", lambda *_, **options: done.append(options["seed"]))
    recipe = _Reproduction.__new__(_Reproduction)
    recipe.recipe, recipe.seed, recipe.run, recipe.resume = {"pretraining": {}}, 3, tmp_path, True
    recipe.fast, recipe.progress, recipe.dataset = False, False, None
    (tmp_path / CONFIG).touch()
    recipe._prepare(None, tmp_path / "pretraining.json")
    (tmp_path / STATE).touch()
    recipe._prepare(None, tmp_path / "pretraining.json")
    assert done == [3]


def test_a_recipe_that_starts_from_another_goes_on_with_its_weights(tmp_path, monkeypatch):
    """The first one's run is made beside it, or taken from there, to the same numbers; its time counts."""
    first = {
        "title": "",
        "model": "nade",
        "options": {"hidden": 5},
        "data": "digits",
        "binarisation": "threshold",
        "seed": 0,
    }
    first |= {"training": {"batch_size": 20, "average": 0.9}, "evaluation": {}}
    second = first | {"start": "first", "training": {"batch_size": 20, "learning_rate": 1e-9, "optimiser": "sgd"}}
    monkeypatch.setattr(reproduction, "recipes", lambda: {"first": first, "second": second})
    reproduction.reproduce("first", tmp_path, fast=True, progress=False)
    taken = reproduction.reproduce("second", tmp_path, fast=True, progress=False)
    with pytest.raises(ValueError, match=r"second-fast does not exist.*--resume"):
        reproduction.reproduce("second", tmp_path / "alone", fast=True, resume=True)
    (tmp_path / "alone/second-fast").mkdir(parents=True)  # as a stop between the two leaves it
    made = reproduction.reproduce("second", tmp_path / "alone", fast=True, resume=True, progress=False)
    paths = [
        tmp_path / "first-fast",
        tmp_path / "second-fast",
        tmp_path / "alone/first-fast",
        tmp_path / "alone/second-fast",
    ]
    before, after, same_before, same_after = (dgm.load(path).state_dict() for path in paths)
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=0, atol=1e-6)
        assert torch.equal(same_before[name], value)
        assert torch.equal(same_after[name], after[name])
    assert made["figure"] == taken["figure"]
    times = [sum(row["seconds"] for row in load_state(path)["history"]) for path in paths[2:]]
    assert made["training_seconds"] == pytest.approx(sum(times), abs=0.1)


def test_a_recipe_draws_from_its_seed_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(_Reproduction, "_load", lambda self, recipe: None)
    monkeypatch.setattr(_Reproduction, "result", lambda self: draws())
    found = [recipes.reproduce("nade-dna", tmp_path, fast=True) for _ in range(2)]
    assert found[0] == found[1] != draws()
