from pathlib import Path

import numpy as np
import pytest
import torch

from pyro_dgm.data import load
from pyro_dgm.data.npz import permutation

RNG = np.random.default_rng(0)


def save(path: Path, **arrays: object) -> Path:
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    return path


def test_plain_arrays_with_labels(tmp_path: Path) -> None:
    parts = {"train": RNG.normal(size=(6, 4)), "valid": RNG.normal(size=(2, 4)), "test": RNG.normal(size=(3, 4))}
    data = load(save(tmp_path / "toy.npz", **parts, train_labels=np.arange(6, dtype=np.uint8)))
    assert (data.name, data.shape, data.visible) == ("toy", (4,), 4)
    assert str(data.train.space) == "real (as given)"
    assert data.train.x.dtype == torch.float32
    for part, array in parts.items():
        assert np.array_equal(getattr(data, part).x.numpy(), array.astype(np.float32))
    assert data.train.labels is not None
    assert data.train.labels.tolist() == list(range(6))
    assert data.valid.labels is None


def test_packed_bits_with_widths(tmp_path: Path) -> None:
    bits = RNG.integers(0, 2, size=(12, 13), dtype=np.uint8)
    parts = {"train": bits[:8], "valid": bits[8:10], "test": bits[10:]}
    packed = {part: np.packbits(array, axis=1) for part, array in parts.items()}
    data = load(str(save(tmp_path / "p.npz", **packed, **{f"{part}_width": 13 for part in parts})))
    for part, array in parts.items():
        assert np.array_equal(getattr(data, part).x.numpy(), array)
    assert str(data.test.space) == "binary (as given)"


def test_pictures_are_flattened_and_keep_their_shape(tmp_path: Path) -> None:
    images = RNG.random((4, 3, 5)).astype(np.float32)
    data = load(save(tmp_path / "i.npz", train=images, valid=images, test=images))
    assert data.shape == (3, 5)
    assert np.array_equal(data.valid.x.numpy(), images.reshape(4, 15))


def test_space_is_that_of_all_splits_together(tmp_path: Path) -> None:
    zero, half, two = (np.full((2, 2), value) for value in (0.0, 0.5, 2.0))
    for test, expected in ((zero, "binary"), (half, "unit interval"), (two, "whole numbers"), (-half, "real")):
        data = load(save(tmp_path / "s.npz", train=zero, valid=zero, test=test))
        assert {s.space.support for s in (data.train, data.valid, data.test)} == {expected}
    assert load(save(tmp_path / "b.npz", train=zero.astype(bool), valid=zero, test=zero)).visible == 2


def test_missing_splits_are_a_tenth_each_dealt_by_the_fixed_permutation(tmp_path: Path) -> None:
    rows = np.arange(50.0)[:, None]
    data = load(save(tmp_path / "t.npz", train=rows, train_labels=np.arange(50)))
    order = permutation(50)
    assert data.valid.x.flatten().tolist() == order[:5].tolist()
    assert data.test.x.flatten().tolist() == order[5:10].tolist()
    assert data.train.x.flatten().tolist() == order[10:].tolist()
    for split in (data.train, data.valid, data.test):
        assert split.labels is not None
        assert torch.equal(split.labels.float(), split.x[:, 0])
    half = load(save(tmp_path / "h.npz", train=rows, test=rows[:7]))
    assert half.test.x.flatten().tolist() == list(range(7))
    assert (len(half.train), len(half.valid)) == (45, 5)
    with pytest.raises(ValueError, match=r"few\.npz: 2 training rows are too few to split off valid and test"):
        load(save(tmp_path / "few.npz", train=rows[:2]))


def test_permutation_never_changes() -> None:
    assert permutation(10).tolist() == [2, 8, 4, 9, 1, 6, 7, 3, 0, 5]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"train": np.ones((3, 2)), "train_lengths": np.array([3])}, "'train_lengths'.*are for sequence models"),
        ({"images": np.ones((3, 2))}, "no array 'train', only: images"),
        ({"train": np.ones(3)}, r"'train' is float64 of shape \(3,\)"),
        ({"train": np.ones((0, 3))}, r"'train' is float64 of shape \(0, 3\)"),
        ({"train": np.array([["a"]])}, r"'train' is <U1 of shape \(1, 1\); expected real numbers"),
        ({"train": np.ones((3, 2), dtype=complex)}, "'train' is complex128"),
        ({"train": np.ones((9, 2)), "valid": np.ones((9, 3))}, r"'valid' have shape \(3,\), rows of 'train' \(2,\)"),
        (
            {"train": np.ones((9, 2)), "train_labels": np.ones(8, int)},
            r"'train_labels' is int64 of shape \(8,\).*9 who",
        ),
        ({"train": np.ones((9, 2)), "train_labels": np.full(9, 0.5)}, "'train_labels' is float64"),
        ({"train": np.ones((9, 2)), "train_width": 9}, r"9 packed bits need uint8 of shape \(N, 2\)"),
        ({"train": np.ones((9, 2), np.uint8), "train_width": 17}, r"17 packed bits need uint8 of shape \(N, 3\)"),
        ({"train": np.ones((9, 2), np.uint8), "train_width": 8}, r"8 packed bits need uint8 of shape \(N, 1\)"),
        ({"train": np.ones((9, 2), np.uint8), "train_width": 1.5}, "'train_width' is .*expected a whole number"),
        ({"train": np.diag([1, 1, np.inf, np.nan])}, "array 'train' has an infinite.*row 2;.*NaN where"),
        ({"train": np.array([[None]], dtype=object)}, "cannot be read as an npz file.*Python objects"),
    ],
)
def test_layouts_that_are_refused(tmp_path: Path, arrays: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match="bad.*" + message):
        load(save(tmp_path / "bad.npz", **arrays))


def test_corrupt_files_are_named(tmp_path: Path) -> None:
    data = save(tmp_path / "ok.npz", train=RNG.random((20, 5))).read_bytes()
    path = tmp_path / "broken.npz"
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 0xFF
    single = tmp_path / "single.npy"
    np.save(single, np.ones((3, 3)))
    for content in (
        b"",
        b"nonsense",
        data[:10],
        data[: len(data) // 2],
        data[:-5],
        bytes(flipped),
        single.read_bytes(),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"broken\.npz.*cannot be read as an npz file"):
            load(path)


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "boom",))

    array = np.empty((1, 1), dtype=object)
    array[0, 0] = Bomb()
    with pytest.raises(ValueError, match="Python objects"):
        load(save(tmp_path / "evil.npz", train=array))
    assert not (tmp_path / "boom").exists()


def test_binarisation_of_files(tmp_path: Path) -> None:
    ones = np.ones((20, 2))
    with pytest.raises(ValueError, match=r"'one': split 'train' is already binary \(as given\)"):
        load(save(tmp_path / "one.npz", train=ones), binarisation="fixed")
    with pytest.raises(ValueError, match="values from 255 to 255"):
        load(save(tmp_path / "bytes.npz", train=ones * 255), binarisation="threshold")
    half = load(save(tmp_path / "half.npz", train=ones / 4), binarisation="threshold")
    assert float(half.train.x.sum()) == 0
