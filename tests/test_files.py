"""Files are written whole or not at all, and one process at a time writes into a folder."""

import contextlib
import os
import resource
import stat
import subprocess
import sys

import pytest
import torch

from pyro_dgm import files


@contextlib.contextmanager
def full_disk(room=1000):
    """A block in which no file grows beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    "write",
    [lambda file: file.write(bytes(5000)), lambda file: torch.save({"x": torch.zeros(5000)}, file)],
    ids=["bytes", "torch.save"],
)
def test_a_full_disk_leaves_the_old_file(write, tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with (
        full_disk(),
        pytest.raises(OSError, match=r"file cannot be written \(File too large\).* whole; choose") as error,
    ):
        files.write_atomically(path, write)
    assert "\n" not in str(error.value)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_other_errors_stay_what_they_are(tmp_path):
    def fail(file):
        raise ValueError("not this")

    with pytest.raises(ValueError, match="not this"):
        files.write_atomically(tmp_path / "file", fail)
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_replaced_and_not_followed(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("someone else's")
    link.symlink_to(target)
    files.write_json(link, {})
    assert target.read_text() == "someone else's"
    assert not link.is_symlink()
    assert link.read_text() == "{}\n"


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_permissions_are_the_masks(mask, tmp_path):
    before = os.umask(mask)
    try:
        files.write_json(tmp_path / "file", {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~mask


def test_names_reach_the_disk(tmp_path, monkeypatch):
    """The folder is synchronised after the file has its name."""
    synced, fsync = [], os.fsync

    def spied(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            synced.append((tmp_path / "file").exists())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", spied)
    files.write_json(tmp_path / "file", {})
    assert synced == [True]


def test_drafts_of_processes_that_are_gone_are_removed(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    gone, own = (tmp_path / f".file.{number}.ab{files.DRAFT}" for number in (child.pid, os.getpid()))
    living = tmp_path / f".file.{os.getppid()}.ab{files.DRAFT}"
    kept = tmp_path / ".hidden"
    for path in (gone, own, living, kept):
        path.touch()
    files.remove_drafts(tmp_path)
    assert set(tmp_path.iterdir()) == {living, kept}


def test_a_locked_folder_is_refused(tmp_path):
    folder = tmp_path / "run"
    with (
        files.locked(folder),
        pytest.raises(ValueError, match=f"another process is writing into {folder}"),
        files.locked(folder),
    ):
        pass
    with files.locked(folder):
        assert list(folder.iterdir()) == []


def test_a_table_has_all_columns(tmp_path):
    files.write_table(tmp_path / "table.csv", [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25, "figure": 3}])
    assert (tmp_path / "table.csv").read_text() == "epoch,loss,figure\n1,0.5,\n2,0.25,3\n"
