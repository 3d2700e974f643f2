"""Folders of pictures and Parquet files as data sets."""

import numpy as np
import pandas
import pytest
import torch
from PIL import Image

import pyro_dgm as dgm
from pyro_dgm.cli.main import main
from pyro_dgm.data import load, reading


def saved(folder, count, size=(4, 6), mode="L", start=0):
    """Pictures whose first pixel is their number."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(start, start + count):
        values = np.zeros((*size, 3) if mode == "RGB" else size, dtype=np.uint8)
        values[0, 0] = number
        Image.fromarray(values, mode).save(folder / f"{number:03d}.png")


def first_pixels(split):
    return sorted((split.x[:, 0] * 255).round().int().tolist())


def test_a_folder_is_dealt_into_splits(tmp_path):
    saved(tmp_path / "digits", 30)
    (tmp_path / "digits" / "notes.txt").write_text("no picture")
    dataset = load(tmp_path / "digits")
    assert dataset.shape == (4, 6)
    assert first_pixels(dataset.train) + first_pixels(dataset.valid) + first_pixels(dataset.test) != []
    assert sorted(first_pixels(dataset.train) + first_pixels(dataset.valid) + first_pixels(dataset.test)) == list(
        range(30)
    )
    assert str(dataset.train.space) == "unit interval (as given)"


def test_subfolders_are_splits_and_classes(tmp_path):
    for part, start in (("train", 0), ("test", 20)):
        for k, name in enumerate(("bird", "cat")):
            saved(tmp_path / part / name, 5, start=start + 5 * k)
    dataset = load(tmp_path)
    assert first_pixels(dataset.test) == list(range(20, 30))
    pixels = (dataset.test.x[:, 0] * 255).round().int()
    assert torch.equal(dataset.test.labels, (pixels >= 25).long())


def test_colours_come_first(tmp_path):
    saved(tmp_path, 12, mode="RGB")
    assert load(tmp_path).shape == (3, 4, 6)


def test_the_shell_trains_and_evaluates_on_folders(tmp_path):
    saved(tmp_path / "pictures", 40)
    run = tmp_path / "run"
    arguments = [
        "fit",
        "vae",
        "--data",
        str(tmp_path / "pictures"),
        "--binarisation",
        "threshold",
        "--epochs",
        "1",
        "--quiet",
    ]
    assert main([*arguments, "--set", "hidden=4", "--set", "latent=2", "--out", str(run)]) == 0
    assert dgm.load(run).visible == 24
    assert main(["evaluate", str(run), "--quiet"]) == 0


def test_what_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="has no pictures"):
        load(tmp_path / "empty")
    saved(tmp_path / "sizes", 3)
    saved(tmp_path / "sizes", 1, size=(5, 5), start=9)
    with pytest.raises(ValueError, match=r"has 5 x 5 pixels, 000\.png 4 x 6"):
        load(tmp_path / "sizes")
    saved(tmp_path / "mixed", 2)
    saved(tmp_path / "mixed" / "cat", 2)
    with pytest.raises(ValueError, match="lies beside folders of classes"):
        load(tmp_path / "mixed")
    saved(tmp_path / "broken", 2)
    (tmp_path / "broken" / "zz.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(ValueError, match="is no picture that can be read"):
        load(tmp_path / "broken")


def test_parquet_files(tmp_path):
    """Columns keep their types; those that are neither numbers nor texts, and files that are none, are refused."""
    file = tmp_path / "rows.parquet"
    frame = pandas.DataFrame({"a": range(20), "b": [0.5, None] * 10})
    frame.to_parquet(file)
    fields, named = reading.read_parquet(file)
    assert named
    assert [(field.name, field.kind) for field in fields] == [("a", "whole"), ("b", "real")]
    assert np.isnan(fields[1].values[1])
    dataset = load(file)
    assert dataset.visible == 2
    frame["c"] = pandas.Timestamp("2026-01-01")
    frame.to_parquet(file)
    with pytest.raises(ValueError, match="column 'c' holds"):
        load(file)
    file.write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="cannot be read as a Parquet file"):
        load(file)


def test_sixteen_bits_are_scaled_and_numbers_without_a_scale_refused(tmp_path):
    """Pillow's own conversion would make all but the darkest levels white."""
    levels = np.linspace(0, 65535, 24).astype(np.uint16).reshape(4, 6)
    (tmp_path / "deep").mkdir()
    for number in range(12):
        Image.fromarray(levels).save(tmp_path / "deep" / f"{number}.png")
    found = load(tmp_path / "deep").train.x[0]
    torch.testing.assert_close(found, torch.linspace(0, 1, 24), rtol=0, atol=1e-4)
    (tmp_path / "floats").mkdir()
    Image.fromarray(levels.astype(np.float32)).save(tmp_path / "floats" / "0.tiff")
    with pytest.raises(ValueError, match="numbers of mode F without a scale"):
        load(tmp_path / "floats")
