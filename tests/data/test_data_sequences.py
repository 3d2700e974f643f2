"""Padded rows and the data sets of sequences, against plain NumPy."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from pyro_dgm.data import Dataset, Space, Split, load, preprocess, sequence_sets
from pyro_dgm.data.sequences import pad, unpad

RNG = np.random.default_rng(0)


def ragged(lengths: tuple[int, ...] = (3, 1, 5, 2), features: int = 2) -> list[torch.Tensor]:
    return [torch.from_numpy(RNG.normal(size=(n, features))) for n in lengths]


@pytest.mark.parametrize("length", [None, 5, 8])
def test_layout_and_round_trip(length: int | None) -> None:
    given = ragged()
    rows = pad(given, length)
    assert rows.shape == (4, 3 * (length or 5))
    assert rows.dtype == torch.float64
    for row, sequence in zip(rows.tolist(), given, strict=True):
        expected = [v for frame in sequence.tolist() for v in (*frame, 1.0)]
        assert row == expected + [0.0] * (len(row) - len(expected))
    values, present = unpad(rows, 2)
    assert (values.shape, present.shape) == ((4, length or 5, 2), (4, length or 5))
    assert present.sum(1).tolist() == [3, 1, 5, 2]
    for frames, there, sequence in zip(values, present, given, strict=True):
        assert torch.equal(frames[there], sequence)
    again, marks = unpad(rows.reshape(2, 2, -1), 2)
    assert torch.equal(again.flatten(0, 1), values)
    assert torch.equal(marks.flatten(0, 1), present)


def spoilt(number: int, value: torch.Tensor) -> list[torch.Tensor]:
    found = ragged()
    found[number] = value
    return found


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "no sequences"),
        (None, "pad got None; expected a list of tensors"),
        (iter(ragged()), "pad got a list_iterator; expected a list of tensors"),
        (spoilt(2, torch.zeros(0, 2).double()), "sequence 2 has no frames"),
        (spoilt(1, torch.zeros(4, 3).double()), "sequence 1 has 3 values per frame and sequence 0 has 2"),
        (spoilt(3, torch.tensor([[0.0, 0.0], [0.0, torch.nan]])), "sequence 3 has a NaN .* frame 1"),
        (spoilt(0, torch.full((2, 2), torch.inf)), "sequence 0 has a NaN or infinite value, first in frame 0"),
        (spoilt(0, torch.zeros(2)), "sequence 0 is .* of shape \\(2,\\); expected"),
        (spoilt(1, torch.zeros(2, 2).long()), "sequence 1 is torch.int64"),
        ([torch.zeros(2, 0)], "sequence 0 has 0 values per frame"),
        ([[1.0, 2.0]], "sequence 0 is <class 'list'>"),
    ],
)
def test_pad_refuses(given: list[torch.Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pad(given)


def test_pad_refuses_a_short_length() -> None:
    with pytest.raises(ValueError, match="length=4, but sequence 2 has 5 frames; give at least 5"):
        pad(ragged(), 4)
    for length in ("9", 9.5, -1):
        with pytest.raises(ValueError, match=f"length got {length!r}; expected the number of frames per row"):
            pad(ragged(), length)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([0, 0, 0, 0, 0, 0], "sequence 1 has no frames"),
        ([1, 0, 0, 0, 1, 1], "sequence 1 has columns of existence"),
        ([1, 0, 1, 0, 1, 0.5], "sequence 1 has columns of existence"),
        ([1, 0, 1, 0, 1, 0], "sequence 1 has values after its end"),
        ([1, torch.nan, 1, 0, 1, 1], "sequence 1 has NaN"),
        ([1, 0, torch.nan, 0, 1, 1], "sequence 1 has NaN"),
    ],
)
def test_unpad_refuses(row: list[float], message: str) -> None:
    rows = torch.tensor([[1.0, 1, 1, 0, 1, 1], row, [0.0, 0, 0, 0, 0, 0]])[:2]
    with pytest.raises(ValueError, match=message):
        unpad(rows, 2)


@pytest.mark.parametrize(("width", "features"), [(7, 2), (0, 2), (6, 0)])
def test_unpad_refuses_widths(width: int, features: int) -> None:
    with pytest.raises(ValueError, match="expected rows x"):
        unpad(torch.zeros(3, width), features)


def test_unpad_refuses_what_is_no_tensor_or_number() -> None:
    with pytest.raises(ValueError, match=r"got an ndarray of shape \(3, 6\).*; expected a tensor of rows"):
        unpad(np.zeros((3, 6)), 2)
    with pytest.raises(ValueError, match="features got '2'; expected the number of values per frame"):
        unpad(torch.zeros(3, 6), "2")


def write_chorales(path: Path, **changes: np.ndarray) -> None:
    arrays = {}
    for part, lengths in (("train", [2, 3]), ("valid", [4]), ("test", [1])):
        bits = RNG.integers(0, 2, size=(sum(lengths), 88)).astype(np.uint8)
        arrays |= {part: np.packbits(bits, axis=1), f"{part}_lengths": np.array(lengths)}
    np.savez(path / "jsb_chorales.npz", **{**arrays, **changes})


def test_files_with_other_content(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"jsb_chorales\.npz.*may be had"):
        sequence_sets.jsb_chorales(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"mocap_mit\.npz: looked nowhere"):
        sequence_sets.motion_capture(None)
    write_chorales(tmp_path)
    data = sequence_sets.jsb_chorales(tmp_path)
    assert data.sizes["features"] == 88
    assert data.shape == (4, 89)
    assert [len(split) for split in (data.train, data.valid, data.test)] == [2, 1, 1]
    for changes, message in (
        ({"train_lengths": np.array([2, 2])}, "'train_lengths' is .* with sum 4; expected .* 5 together"),
        ({"train_lengths": np.array([5, 0])}, "expected a positive whole number"),
        ({"test_lengths": np.array([1.0])}, "'test_lengths' is float64"),
        ({"valid": np.zeros((4, 9), np.uint8)}, "'valid' is uint8 of shape \\(4, 9\\); rows of 88"),
    ):
        write_chorales(tmp_path, **changes)
        with pytest.raises(ValueError, match=message):
            sequence_sets.jsb_chorales(tmp_path)
    np.savez(tmp_path / "jsb_chorales.npz", train=np.zeros((2, 11), np.uint8))
    with pytest.raises(ValueError, match="no array 'train_lengths', only: train"):
        sequence_sets.jsb_chorales(tmp_path)
    frames = RNG.normal(size=(4, 3))
    motion = {"train": frames, "train_lengths": [2, 2], "test": frames, "test_lengths": [4]}
    for changes, message in (
        ({"test": frames.astype(int)}, "'test' is int64 .* expected frames x channels"),
        ({"test": np.full((4, 3), np.nan)}, r"mocap_mit\.npz: pad: sequence 0 has a NaN"),
        ({"train_lengths": [4]}, "1 training sequences are too few"),
    ):
        np.savez(tmp_path / "mocap_mit.npz", **{**motion, **changes})
        with pytest.raises(ValueError, match=message):
            sequence_sets.motion_capture(tmp_path)


ROLLS = {"jsb_chorales": (160, 229, 76, 77), "nottingham": (1793, 694, 173, 170)}


@pytest.mark.parametrize("name", ROLLS)
def test_real_piano_rolls(data_dir: str, name: str) -> None:
    data = load(name, data_dir)
    longest, *counts = ROLLS[name]
    arrays = np.load(Path(data_dir) / f"{name}.npz")
    assert (data.name, data.shape, str(data.train.space)) == (name, (longest, 89), "binary (piano rolls)")
    for part, count in zip(("train", "valid", "test"), counts, strict=True):
        values, present = unpad(getattr(data, part).x, 88)
        assert len(values) == count
        assert present.sum(1).tolist() == arrays[f"{part}_lengths"].tolist()
        assert np.array_equal(values[present].numpy(), np.unpackbits(arrays[part], axis=1))


def test_windows_of_a_data_set(tmp_path: Path) -> None:
    """Frames with those before them, in every split, against plain NumPy; no window crosses from one sequence to the next."""
    frames = {"train": RNG.normal(size=(12, 2)), "test": RNG.normal(size=(5, 2))}
    np.savez(tmp_path / "mocap_mit.npz", **frames, train_lengths=[3, 4, 5], test_lengths=[5])
    how = {"how": "windows", "features": 2, "order": 2}
    data = load("mocap_mit", tmp_path, preprocessing=how)
    assert (data.shape, str(data.test.space)) == ((3, 2), "real (standardised channels, windows of 3 frames)")
    for part, frame, starts in (
        ("train", "train", (0, 3, 4)),
        ("valid", "train", (7, 8, 9)),
        ("test", "test", (0, 1, 2)),
    ):
        expected = np.stack([frames[frame][start : start + 3].ravel() for start in starts])
        assert np.array_equal(getattr(data, part).x.numpy(), expected.astype(np.float32))
    single = load("mocap_mit", tmp_path, preprocessing=how | {"order": 0})
    assert str(single.test.space) == "real (standardised channels, single frames)"
    assert np.array_equal(single.test.x.numpy(), frames["test"].astype(np.float32))
    with pytest.raises(ValueError, match="sequence 0 has 3 frames; expected more than order=3"):
        load("mocap_mit", tmp_path, preprocessing=how | {"order": 3})
    with pytest.raises(ValueError, match="features=3"):
        load("mocap_mit", tmp_path, preprocessing=how | {"features": 3})
    with pytest.raises(ValueError, match=r"'windows' got .* missing"):
        load("mocap_mit", tmp_path, preprocessing="windows")


def test_real_motion(data_dir: str) -> None:
    data = sequence_sets.motion_capture(Path(data_dir))
    arrays = np.load(Path(data_dir) / "mocap_mit.npz")
    assert (data.name, data.shape) == ("mocap_mit", (5000,))
    assert str(data.test.space) == "real (standardised channels)"
    assert [len(split) for split in (data.train, data.valid, data.test)] == [32, 3, 4]
    found = [unpad(getattr(data, part).x, 49) for part in ("train", "valid", "test")]
    train = np.concatenate([values[present].numpy() for values, present in found[:2]])
    assert np.array_equal(train, arrays["train"])
    assert np.abs(train.mean(0)).max() < 0.1
    assert np.abs(train.std(0) - 1).max() < 0.1
    assert np.array_equal(found[2][0][found[2][1]].numpy(), arrays["test"])
    assert found[2][1].sum(1).tolist() == [100, 100, 100, 26]


def rolls() -> Dataset:
    """Tunes of tones 2 to 4 of 8, unlike in length."""
    tunes = [torch.zeros(n, 8) for n in (3, 5, 4)]
    for number, tune in enumerate(tunes):
        tune[torch.arange(len(tune)), 2 + (torch.arange(len(tune)) + number) % 3] = 1.0
    split = Split(pad(tunes), Space("binary", "piano rolls"))
    return Dataset("tunes", split, split, split, (5, 9))


def test_training_sequences_are_moved_as_a_whole_to_other_keys() -> None:
    data = preprocess(rolls(), "transposed", features=8, lowest=-2, highest=3)
    assert torch.equal(data.test.x, rolls().test.x)
    assert str(data.test.space) == "binary (piano rolls)"
    moves = []
    for epoch in range(200):
        order = torch.cat(list(rolls().batches(epoch, 2, seed=3)))
        moved = torch.cat(list(data.batches(epoch, 2, seed=3)))
        for (before, there), (after, here) in zip(
            zip(*unpad(order, 8), strict=True), zip(*unpad(moved, 8), strict=True), strict=True
        ):
            assert torch.equal(there, here)
            shift = int(after[0].argmax()) - int(before[0].argmax())
            assert torch.equal(after, before.roll(shift, 1))  # nothing of which leaves the frame
            moves.append(shift)
    counts = torch.bincount(torch.tensor(moves) + 2, minlength=6)
    assert len(counts) == 6
    assert ((counts - 100).abs() < 5 * math.sqrt(600 * 5 / 36)).all()  # of 600 uniform moves
    again = torch.cat(list(data.batches(7, 2, seed=3)))
    assert torch.equal(again, torch.cat(list(data.batches(7, 2, seed=3))))


@pytest.mark.parametrize("ends", [{"lowest": -3}, {"highest": 4}, {"lowest": 2, "highest": 1}])
def test_moves_that_lose_tones_are_refused(ends: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected a range within -2 to 3: the sequences have tones from 2 to 4 of 8"):
        preprocess(rolls(), "transposed", **({"features": 8, "lowest": 0, "highest": 0} | ends))
