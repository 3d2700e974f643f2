import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pyro_dgm.data.idx import read_idx

Writer = Callable[[Path, np.ndarray, bool], Path]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "float32", "float64"])
def test_round_trip(tmp_path: Path, write_idx: Writer, dtype: str, packed: bool) -> None:
    array = (np.arange(24).reshape(2, 3, 4) * 5).astype(dtype)
    got = read_idx(write_idx(tmp_path / "a", array, packed))
    assert got.dtype == array.dtype
    assert np.array_equal(got, array)
    assert got.flags.writeable


def test_labels_have_one_axis(tmp_path: Path, write_idx: Writer) -> None:
    assert read_idx(write_idx(tmp_path / "a", np.array([7, 2, 1], dtype=np.uint8), True)).tolist() == [7, 2, 1]


@pytest.mark.parametrize("change", [-1, 1])
def test_wrong_length_is_named(tmp_path: Path, write_idx: Writer, change: int) -> None:
    path = write_idx(tmp_path / "cut", np.zeros((5, 2, 2), dtype=np.uint8), False)
    data = path.read_bytes()
    path.write_bytes(data[:-1] if change < 0 else data + b"x")
    with pytest.raises(ValueError, match=rf"cut holds {36 + change} bytes.*\(5, 2, 2\), asks for 36.*truncated"):
        read_idx(path)


def test_truncation_anywhere_is_a_value_error(tmp_path: Path, write_idx: Writer) -> None:
    for packed in (False, True):
        data = write_idx(tmp_path / "whole", np.ones((3, 2), dtype=np.int16), packed).read_bytes()
        for length in range(len(data)):
            path = tmp_path / "short"
            path.write_bytes(data[:length])
            with pytest.raises(ValueError, match=r"short.*fetch it again"):
                read_idx(path)


def test_other_content_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "page"
    for data in (b"<html>", gzip.compress(b"<html>"), b"\0\0\x07\x01\0\0\0\0"):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"page starts with bytes .*expected an idx file"):
            read_idx(path)
