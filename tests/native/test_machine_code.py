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


def kept(folder):
    return sorted(folder.rglob("*.nbc"))


def hits(code):
    return sum(code.stats.cache_hits.values())


def test_machine_code_is_kept(folder):
    assert machine_code.compiled(twice)(3) == 6
    again = machine_code.compiled(twice)
    assert again(3) == 6
    assert hits(again) == 1


@pytest.mark.parametrize(
    "damage", [lambda x: b"", lambda x: x[:60], lambda x: x[:-1], lambda x: x[:-9] + b"?" + x[-8:]]
)
def test_damaged_files_are_replaced_and_said_once(folder, damage):
    machine_code.compiled(twice)(3)
    for path in kept(folder):
        path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(RuntimeWarning, match=r"cannot be read .*delete the files \*\.nbc there") as said:
        assert [machine_code.compiled(twice)(x) for x in (3, np.float32(3))] == [6, 6]
    assert len(said) == 1
    assert str(kept(folder)[0].parent) in str(said[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = machine_code.compiled(twice)
        assert again(3) == 6
    assert hits(again) == 1


def test_a_folder_that_cannot_be_written_any_more(folder, monkeypatch):
    """As on a full disk: the locator's own check has passed."""

    def full(self, key, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(machine_code._Files, "save", full)
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
    before = kept(folder)
    again = machine_code.compiled(twice)
    assert again(3) == 6
    assert hits(again) == 0
    assert len(kept(folder)) == len(before) == 1
    assert kept(folder) != before


def test_signatures_that_are_compiled_at_once_do_not_take_each_other_s_place(folder):
    """Two processes that both found nothing: each saves its own, and both are found under their names."""
    first, second = machine_code.compiled(twice), machine_code.compiled(twice)
    assert [first(3), second(3.5)] == [6, 7.0]
    both = machine_code.compiled(twice)
    assert [both(3), both(3.5)] == [6, 7.0]
    assert hits(both) == 2
    assert len(kept(folder)) == 2
