"""Rows that stay in their file are those that would be read into memory; what needs all of them says so."""

import copy
import pickle

import numpy as np
import pytest
import torch

import pyro_dgm as dgm
from pyro_dgm.cli.main import main
from pyro_dgm.data import load, read_rows, reading, stored
from pyro_dgm.data.rows import as_dataset, as_rows
from pyro_dgm.data.stored import StoredRows, blocks, spread_rows

RNG = np.random.default_rng(0)
BITS = RNG.integers(0, 2, size=(60, 13), dtype=np.uint8)
REAL = RNG.normal(size=(50, 2, 3))
REAL[3, 1, 1] = np.nan
FILES = {
    "bytes.npy": BITS,
    "booleans.npy": BITS > 0,
    "whole.npy": RNG.integers(0, 99, size=(40, 5)),
    "unit.npy": RNG.random((40, 5)),
    "real.npy": REAL,
    "swapped.npy": REAL.astype(">f4"),
    "plain.npz": {"train": REAL, "train_labels": np.arange(50), "test": REAL[:7]},
    "packed.npz": {
        "train": np.packbits(BITS, axis=1), "train_width": 13, "valid": np.packbits(BITS[:9], axis=1), "valid_width": 13,
    },
}  # fmt: skip


@pytest.fixture(params=FILES)
def both(request, tmp_path, monkeypatch):
    """A data set in memory and in its file."""
    path = write(tmp_path / request.param)
    inside = load(path)
    monkeypatch.setattr(reading, "LARGEST_READ", 0)
    return inside, load(path)


def write(path):
    content = FILES[path.name]
    if path.suffix == ".npy":
        np.save(path, content)
    else:
        np.savez(path, **content)
    return path


@pytest.fixture
def mapped(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "LARGEST_READ", 0)
    return lambda name: write(tmp_path / name)


def test_memory_maps_of_numpy_are_read_as_files_are(tmp_path, monkeypatch):
    """Whole ones, rows behind a header of any length, and neighbouring rows of a map, whose offset NumPy does not tell."""
    monkeypatch.setattr(reading, "LARGEST_READ", 0)
    rows = RNG.random((5000, 7))
    np.save(tmp_path / "x.npy", rows)
    (tmp_path / "x.bin").write_bytes(bytes(12345) + rows.tobytes())
    plain = np.load(tmp_path / "x.npy", mmap_mode="r")
    for x in (plain, np.memmap(tmp_path / "x.bin", float, "r", 12345, rows.shape)):
        for part in (slice(None), slice(4100, 4950)):
            found = as_rows(x[part])
            assert isinstance(found, StoredRows)
            assert found.dtype == torch.float64
            assert np.array_equal(found[:].numpy(), rows[part])
    changed = np.load(tmp_path / "x.npy", mmap_mode="c")
    changed[3] = 7
    for x in (plain[::2], plain[[3, 1]], plain.T, changed):
        assert type(as_rows(x)) is torch.Tensor
        assert np.array_equal(as_rows(x).numpy(), x)
    written = np.load(tmp_path / "x.npy", mmap_mode="r+")
    written[3] = 0.5
    assert as_rows(written)[torch.tensor([3])].tolist() == [[0.5] * 7]
    written[4, 2] = np.inf
    with pytest.raises(ValueError, match="array 'data' has an infinite value, first in row 4"):
        as_rows(written)
    monkeypatch.undo()
    assert type(as_rows(plain)) is torch.Tensor


@pytest.mark.filterwarnings("ignore:.*stay in their file")  # progress looks at 1000 rows, more than there are
def test_training_on_a_memory_map_is_that_on_its_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "LARGEST_READ", 0)
    monkeypatch.setattr(stored, "LARGEST_SLICE", 400)  # bytes: training rows stay, and validation rows are read
    np.save(tmp_path / "x.npy", RNG.integers(0, 2, size=(60, 5)).astype(np.float32))
    weights = []
    for mode in ("r", None):
        data = as_dataset(np.load(tmp_path / "x.npy", mmap_mode=mode))
        assert isinstance(data.train.x, StoredRows) == (mode == "r")
        torch.manual_seed(0)
        run = dgm.fit(dgm.RBM(5, 2), data, epochs=1, batch_size=20, progress=False)
        weights.append(run.model.weight)
    assert torch.equal(*weights)


@pytest.mark.filterwarnings("error:.*stay in their file")
def test_rows_of_a_file_are_those_in_memory(both):
    inside, outside = both
    assert (outside.shape, str(outside.test.space)) == (inside.shape, str(inside.test.space))
    for part in ("train", "valid", "test"):
        x, rows, index = getattr(outside, part).x, getattr(inside, part).x, torch.tensor([2, -1, 0])
        assert isinstance(x, StoredRows)
        same = lambda a, b: torch.equal(a.nan_to_num(7), b.nan_to_num(7))  # noqa: E731
        assert (x.shape, x.dtype, len(x), x.nbytes) == (rows.shape, rows.dtype, len(rows), rows.nbytes)
        assert same(x[index], rows[index])
        assert same(x[1:3], rows[1:3])
        assert same(x.double()[-4:].float(), rows[-4:])  # in double precision they have all digits of the file
        assert same(torch.cat(list(x.split(3))), rows)
        assert same(pickle.loads(pickle.dumps(x))[:2], rows[:2])
        assert copy.deepcopy(x)[:2].shape == rows[:2].shape
        assert same(spread_rows(x, 3), rows[:: -(-len(rows) // 3)])
    if inside.train.labels is not None:
        assert torch.equal(outside.train.labels, inside.train.labels)
    for ours, theirs in zip(outside.batches(1, 7, 0), inside.batches(1, 7, 0), strict=True):
        assert same(ours, theirs)


def test_blocks_are_numbered(mapped, monkeypatch):
    monkeypatch.setattr(stored, "AT_ONCE", 13 * 20)
    x = load(mapped("bytes.npy")).train.x
    assert [start for start, _ in blocks(x)] == [0, 20, 40]
    assert [(start, len(rows)) for start, rows in blocks(torch.eye(3))] == [(0, 3)]


def test_rows_to_evaluate_stay_in_their_file(mapped):
    split = read_rows(str(mapped("bytes.npy")))
    assert isinstance(split.x, StoredRows)
    assert torch.equal(split[:60].x, torch.from_numpy(BITS).float())


def test_what_needs_all_rows_says_how_much_memory_that_takes(mapped, monkeypatch):
    x = load(mapped("bytes.npy")).train.x
    with pytest.warns(UserWarning, match="48 rows of 13 columns stay in their file, but this needs all .* 2.5e-06 GB"):
        assert x.mean() == x[torch.arange(48)].mean()
    with pytest.warns(UserWarning, match="stay in their file"):
        assert (x == 1).shape == (48, 13)
    monkeypatch.setattr(stored, "memory", lambda: 4000)
    for use in (lambda: x > 0, lambda: torch.cat([x, x]), lambda: x[:, :3], lambda: x.numpy(), lambda: x.isnan()):
        with pytest.raises(ValueError, match=r"needs all of them in memory, 2.5e-06 GB; give some rows"):
            use()


def truncated(path):
    write(path)
    path.write_bytes(path.read_bytes()[:-40])


def longer(path):
    write(path)
    path.write_bytes(path.read_bytes() + b"more")


def flipped(path):
    write(path)
    content = path.read_bytes()
    at = content.index(FILES[path.name]["train"].tobytes()) + 5
    path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])


def narrow(path):
    np.savez(path, **FILES["packed.npz"] | {"train_width": 784})


def wide(path):
    np.savez(path, **FILES["packed.npz"] | {"train_width": 8})


def infinite(path):
    rows = np.zeros((30, 4))
    rows[17, 2] = -np.inf
    np.save(path, rows)


@pytest.mark.parametrize(
    ("lie", "name", "told"),
    [
        (truncated, "bytes.npy", "the header says shape"),
        (longer, "bytes.npy", "the header says shape"),
        (truncated, "packed.npz", "truncated, corrupt"),
        (flipped, "packed.npz", "Bad CRC-32"),
        (narrow, "packed.npz", "rows of 784 packed bits need uint8 of shape"),
        (wide, "packed.npz", "rows of 8 packed bits need uint8 of shape"),
        (infinite, "real.npy", "first in row 17"),
    ],
)
def test_files_that_lie_are_refused_in_one_line(lie, name, told, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reading, "LARGEST_READ", 0)
    lie(tmp_path / name)
    assert main(["fit", "rbm", "--data", str(tmp_path / name), "--quiet"]) == 2
    message = capsys.readouterr().err
    assert told in message
    assert message.count("\n") == 1


def test_a_file_that_changes_while_it_is_used_is_refused(mapped):
    path = mapped("bytes.npy")
    data = load(path)
    first = data.train.x[:3]
    with open(path, "r+b") as file:
        file.truncate(200)
    for read in (lambda: data.train.x[:3], lambda: pickle.loads(pickle.dumps(data.train.x))[:3]):
        with pytest.raises(OSError, match="has changed since it was opened; restore the file"):
            read()
    assert first.shape == (3, 13)


def test_compressed_rows_that_fill_the_memory_are_refused(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "x.npz", train=np.zeros((1000, 8)))
    monkeypatch.setattr(reading, "memory", lambda: 100_000)
    with pytest.raises(ValueError, match=r"would fill 6.4e-05 GB of memory; rows that are stored one after another"):
        load(tmp_path / "x.npz")
