"""Progress of long work: bars in a terminal and in notebooks, and a few plain lines in a file."""

import io
import sys

import pytest
import torch

import pyro_dgm as dgm
from pyro_dgm import progress


class Clock:
    """A clock that moves when it is told."""

    now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    kept = Clock()
    monkeypatch.setattr(progress, "time", kept)
    return kept


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Cell(io.StringIO):
    """The stream of a notebook's cell says that it is no terminal, and draws carriage returns all the same."""

    __module__ = "ipykernel.iostream"


def in_parts(clock, epochs, seconds, steps=8):
    """Work of so many epochs, each of which takes so many seconds."""
    with progress.bar(epochs * steps, "steps", parts=True) as shows:
        for epoch in range(epochs):
            for _ in range(steps):
                clock.now += seconds / steps
                shows.advance()
            shows.report(f"epoch {epoch + 1} of {epochs}", {"loss": f"{epochs - epoch}"})


def test_short_epochs_share_a_line(clock, capsys):
    """A hundred epochs of a second: the first, one every 30 seconds, and the last."""
    in_parts(clock, 100, 1.0)
    assert capsys.readouterr().err.splitlines() == [
        "epoch 1 of 100 (00:01, 01:39 left): loss 100",
        "epoch 31 of 100 (00:31, 01:09 left): loss 70",
        "epoch 61 of 100 (01:01, 00:39 left): loss 40",
        "epoch 91 of 100 (01:31, 00:09 left): loss 10",
        "epoch 100 of 100 (01:40): loss 1",
    ]


def test_an_epoch_has_one_line_unless_it_is_long(clock, capsys):
    in_parts(clock, 3, 100.0)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" (")[0] for line in lines] == [
        "steps: 3 of 24",  # the first sign of life, after 30 seconds
        "epoch 1 of 3", "epoch 2 of 3", "epoch 3 of 3",
    ]  # fmt: skip
    in_parts(clock, 1, 7200.0, steps=1000)
    assert len(capsys.readouterr().err.splitlines()) == 1 + 7200 // 600


def test_work_of_one_part_has_lines_when_it_takes_long(clock, capsys):
    with progress.shown():
        for _ in progress.steps(range(100), "sweeps"):
            clock.now += 0.29
        assert capsys.readouterr().err == ""
        for _ in progress.steps(iter(range(100)), "sweeps", 100):
            clock.now += 0.5
        assert capsys.readouterr().err == "sweeps: 60 of 100 (00:30, 00:20 left)\n"
    for _ in progress.steps(range(100), "sweeps"):
        clock.now += 30
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("stream", [Terminal(), Cell()])
def test_terminals_and_notebooks_have_bars(stream, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "DELAY", 0)
    dgm.fit(*dgm.VAE.example(), epochs=2, batch_size=5)
    assert "\r" in stream.getvalue()
    assert "100%" in stream.getvalue()
    assert "valid_elbo=" in stream.getvalue()
    stream.truncate(0)
    with progress.shown():
        assert list(progress.steps(range(3), "sweeps")) == [0, 1, 2]
    assert "sweeps" in stream.getvalue()
    assert "\r" in stream.getvalue()


def test_training_and_chains_write_lines_into_a_file(capsys):
    """No carriage return, however many the steps are; nothing when they are not to be shown."""
    rbm = dgm.RBM(6, hidden=4)
    rows = torch.randint(0, 2, (400, 6)).float()
    for shown in (True, False):
        dgm.fit(rbm, rows, epochs=30, batch_size=4, progress=shown)
        kernel = dgm.BlockGibbs(rbm())
        dgm.VectorizedMCMC(kernel, num_samples=50, warmup_steps=50, num_chains=2, disable_progbar=not shown).run()
        lines = capsys.readouterr().err.splitlines(keepends=True)
        assert all("\r" not in line for line in lines)
        assert [line.partition(" (")[0] for line in lines] == ["epoch 1 of 30", "epoch 30 of 30"] * shown


def test_the_last_line_is_written_where_training_ends_early(capsys):
    stop = [lambda told: told.epoch == 3]
    dgm.fit(*dgm.VAE.example(), epochs=9, callbacks=stop)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" (")[0] for line in lines] == ["epoch 1 of 9", "epoch 3 of 9"]
    assert "valid_elbo" in lines[-1]
