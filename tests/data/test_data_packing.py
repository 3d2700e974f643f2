"""Files of packed bits: what is written is read again, and nothing but bits is written."""

import numpy as np
import pytest
import torch

from pyro_dgm.data import load, pack, packing, reading

BITS = np.random.default_rng(1).random((70, 3, 7)) < 0.4


@pytest.mark.parametrize("stays", [False, True])
def test_a_file_of_bits_is_packed_block_by_block(stays, tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "AT_ONCE", 21 * 16)
    for number, rows in enumerate((BITS, BITS.astype(np.uint8), np.asfortranarray(BITS.astype(np.float64)))):
        source, target = tmp_path / f"{number}.npy", tmp_path / f"{number}.npz"
        np.save(source, rows)
        monkeypatch.setattr(reading, "LARGEST_READ", 0 if stays else 2**30)
        pack(source, target)
        assert target.stat().st_size < 70 * 3 + 700
        monkeypatch.setattr(reading, "LARGEST_READ", 2**30)
        packed, plain = load(target), load(source)
        for part in ("train", "valid", "test"):
            assert torch.equal(getattr(packed, part).x, getattr(plain, part).x)


def test_arrays_and_tensors_are_packed(tmp_path):
    pack(torch.from_numpy(BITS).float(), tmp_path / "x.npz")
    arrays = np.load(tmp_path / "x.npz")
    assert np.array_equal(
        np.unpackbits(arrays["train"], axis=1, count=int(arrays["train_width"])), BITS.reshape(70, 21)
    )


def test_what_is_no_bits_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "AT_ONCE", 21 * 16)
    rows, target = BITS.astype(np.float32), tmp_path / "x.npz"
    rows[50, 1, 2] = 0.5
    with pytest.raises(ValueError, match=r"source has the value 0.5 in row 50, column 9; expected 0 or 1"):
        pack(rows, target)
    rows[50, 1, 2] = np.nan
    np.save(tmp_path / "holes.npy", rows)
    with pytest.raises(ValueError, match=r"holes.npy has the value nan in row 50"):
        pack(tmp_path / "holes.npy", target)
    assert not target.exists()
    for source in (np.zeros(9), np.zeros((0, 3)), [[0, 1]], np.zeros((2, 2), complex)):
        with pytest.raises(ValueError, match="expected rows of bits"):
            pack(source, target)
    with pytest.raises(ValueError, match=r"ends in .npz"):
        pack(BITS, tmp_path / "x.npy")
