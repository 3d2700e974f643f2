"""Machine code on disk that is damaged, or cannot be written, costs time and one line, and nothing else."""

import warnings

import numpy as np
import pytest

from pyro_dgm.native import machine_code


def twice(x):
    return 2 * x


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of its own for machine code, about which nothing has been said."""
    import numba

    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(machine_code, "_told", set())
    return tmp_path


def kept(folder, suffix):
    return [path for path in folder.rglob("*") if path.suffix == suffix]


def hits(code):
    return sum(code.stats.cache_hits.values())


def test_machine_code_is_kept(folder):
    assert machine_code.compiled(twice)(3) == 6
    again = machine_code.compiled(twice)
    assert again(3) == 6
    assert hits(again) == 1


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize("left", [0, 1, 60])
def test_damaged_files_are_replaced_and_said_once(folder, suffix, left):
    machine_code.compiled(twice)(3)
    for path in kept(folder, suffix):
        path.write_bytes(path.read_bytes()[:left])
    with pytest.warns(RuntimeWarning, match=r"cannot be read .*delete the files \*\.nbi and \*\.nbc there") as said:
        assert [machine_code.compiled(twice)(x) for x in (3, np.float32(3))] == [6, 6]
    assert len(said) == 1
    assert str(kept(folder, ".nbc")[0].parent) in str(said[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = machine_code.compiled(twice)
        assert again(3) == 6
    assert hits(again) == 1


def test_a_folder_that_cannot_be_written_any_more(folder, monkeypatch):
    """As on a full disk: the locator's own check has passed."""

    def full(self, name, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(machine_code.IndexDataCacheFile, "_save_data", full)
    with pytest.warns(RuntimeWarning, match="No space left on device.*NUMBA_CACHE_DIR") as said:
        assert [machine_code.compiled(twice)(x) for x in (3, 3.0)] == [6, 6.0]
    assert len(said) == 1


def test_no_folder_at_all(folder, monkeypatch):
    from numba.core import caching

    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    assert machine_code.compiled(twice)(3) == 6


def test_a_change_of_any_source_is_a_change(folder, monkeypatch):
    """Loops are compiled into one another, so that Numba's look at one file alone is not enough."""
    machine_code.compiled(twice)(3)
    monkeypatch.setattr(machine_code, "_sources", lambda: "others")
    again = machine_code.compiled(twice)
    assert again(3) == 6
    assert hits(again) == 0
