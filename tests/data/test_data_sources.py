import hashlib
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pyro_dgm.data import load, names, sources
from pyro_dgm.data.idx import read_idx

Writer = Callable[[Path, np.ndarray, bool], Path]
FILES = {"mnist": "train-images-idx3-ubyte.gz", "binarized_mnist": "binarized_mnist.npz"}
FILES |= {"mnist_before_noise": "train-images-idx3-ubyte.gz"}
FILES |= {name: f"{name}.npz" for name in ("frey_faces", "dna", "jsb_chorales", "nottingham", "mocap_mit")}


def test_names_have_descriptions_of_one_line() -> None:
    assert set(names()) == {
        "digits",
        "natural_patches",
        "natural_windows",
        "shifted_dots",
        "turned_noise",
        "heartbeat",
        "swiss_roll",
        *FILES,
    }
    assert all(text and "\n" not in text for text in names().values())
    stated = {name: files[0] for name, files in sources.FILES.items() if files}
    assert stated == FILES
    assert {name for name, text in names().items() if text.endswith("; needs no file")} == set(names()) - set(FILES)


def test_import_is_light() -> None:
    code = "import sys, pyro_dgm.data; sys.exit(any(m in sys.modules for m in ('sklearn', 'pyro', 'lightning')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_pieces_of_photographs() -> None:
    """Windows are longer pieces of the same squares: an 8×8 patch of the test split lies in a window of the test split only."""
    patches, windows = load("natural_patches"), load("natural_windows")
    assert (windows.shape, windows.visible) == ((24, 24), 576)
    corners = {part: getattr(windows, part).x.view(-1, 24, 24)[:, :8, :8].reshape(-1, 64) for part in ("train", "test")}
    known = {row.numpy().tobytes() for row in patches.test.x}
    held = {part: sum(row.numpy().tobytes() in known for row in rows) for part, rows in corners.items()}
    assert held["train"] == 0
    assert held["test"] > 10


def test_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.datasets import load_digits

    monkeypatch.delenv("PYRO_DGM_DATA", raising=False)
    data = load("digits")
    parts = (data.train, data.valid, data.test)
    assert [tuple(s.x.shape) for s in parts] == [(1197, 64), (300, 64), (300, 64)]
    assert str(data.test.space) == "unit interval (grey levels)"
    order = np.random.RandomState(0).permutation(1797)
    bunch = load_digits()
    assert torch.equal(torch.cat([s.x for s in parts]), torch.from_numpy(bunch.data[order]).float() / 16)
    assert torch.cat([s.labels for s in parts if s.labels is not None]).tolist() == bunch.target[order].tolist()
    assert float(data.train.x.max()) == 1
    assert torch.equal(load("digits", seed=5).train.x, data.train.x)


def test_a_swiss_roll_has_the_log_density_that_it_states() -> None:
    """The density of a row is a sum over 20,000 places of the spiral; its mean over rows against the value by quadrature."""
    x = load("swiss_roll").test.x[:1500].double()
    angle = math.pi * (1.5 + 3 * (torch.arange(20_000).double() + 0.5) / 20_000)
    spiral = torch.stack([angle * angle.cos(), angle * angle.sin()], 1)
    spiral = (spiral - spiral.mean(0)) / spiral.std(0, correction=0)
    squares = torch.cdist(x, spiral).square() / 0.02**2
    log_density = (-squares / 2).logsumexp(1) - math.log(20_000 * 2 * math.pi * 0.02**2)
    assert abs(float(log_density.mean()) + 0.044) < 5 * float(log_density.std()) / 1500**0.5


@pytest.mark.parametrize("name", FILES)
def test_missing_files(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYRO_DGM_DATA", str(tmp_path / "absent"))
    with pytest.raises(FileNotFoundError) as caught:
        load(name, tmp_path)
    text = str(caught.value)
    assert "absent" not in text
    for word in (FILES[name], str(tmp_path), "--data-dir", "PYRO_DGM_DATA", "may be had"):
        assert word in text
    with pytest.raises(FileNotFoundError, match=r"absent.* \(no such folder\)"):
        load(name)
    monkeypatch.delenv("PYRO_DGM_DATA")
    with pytest.raises(FileNotFoundError, match="looked nowhere, as no data folder was given"):
        load(name)


def test_missing_mnist_says_where_it_may_be_had(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"Yann LeCun.*torchvision"):
        load("mnist", tmp_path)
    with pytest.raises(FileNotFoundError, match="Larochelle"):
        load("binarized_mnist", tmp_path)


def test_missing_path_and_unknown_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r"No file gone\.npz: looked in .*--data-dir"):
        load(tmp_path / "gone.npz")
    with pytest.raises(
        ValueError, match=r"'minst'; expected one of: digits, mnist, .*heartbeat; a path that ends in \.npz"
    ):
        load("minst")
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "here.npz", train=np.ones((10, 2)))
    assert load("here.npz").name == "here"
    (tmp_path / "sub").mkdir()
    np.savez(tmp_path / "sub" / "there.npz", train=np.ones((10, 2)))
    assert load("there.npz", data_dir="sub").name == "there"


@pytest.mark.parametrize("folder", ["", "mnist", "MNIST/raw"])
def test_generated_mnist(tmp_path: Path, write_idx: Writer, folder: str) -> None:
    place = tmp_path / folder
    place.mkdir(parents=True, exist_ok=True)
    for prefix, count in (("train", 60000), ("t10k", 10000)):
        images = np.zeros((count, 28, 28), dtype=np.uint8)
        images[0, 0, 1] = images[-1, 27, 27] = 51
        write_idx(place / f"{prefix}-images-idx3-ubyte", images, False)
        write_idx(place / f"{prefix}-labels-idx1-ubyte.gz", (np.arange(count) // 5000).astype(np.uint8), True)
    data = load("mnist", tmp_path)
    assert [len(s) for s in (data.train, data.valid, data.test)] == [50000, 10000, 10000]
    assert float(data.train.x[0, 1]) == float(data.valid.x[-1, -1]) == pytest.approx(0.2)
    assert data.valid.labels is not None
    assert data.valid.labels.unique().tolist() == [10, 11]
    write_idx(place / "train-labels-idx1-ubyte.gz", np.zeros(59999, dtype=np.uint8), True)
    with pytest.raises(ValueError, match=r"train-labels-idx1-ubyte\.gz holds uint8 of shape \(59999,\).*\(60000,\)"):
        load("mnist", tmp_path)


def test_files_of_known_name_with_other_content(tmp_path: Path) -> None:
    np.savez(tmp_path / "frey_faces.npz", images=np.ones((5, 28, 20), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"frey_faces\.npz: 'images' is uint8 of shape \(5, 28, 20\)"):
        load("frey_faces", tmp_path)
    plain = np.ones((5, 784), dtype=np.uint8)
    np.savez(tmp_path / "binarized_mnist.npz", train=np.ones((5, 98), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"binarized_mnist\.npz has no array 'valid', only: train"):
        load("binarized_mnist", tmp_path)
    np.savez(tmp_path / "binarized_mnist.npz", train=plain, valid=plain, test=plain)
    with pytest.raises(ValueError, match=r"'train' is uint8 of shape \(5, 784\); rows of 784 packed bits"):
        load("binarized_mnist", tmp_path)


def test_real_mnist(data_dir: str) -> None:
    data = load("mnist", data_dir)
    assert [tuple(s.x.shape) for s in (data.train, data.valid, data.test)] == [(50000, 784), (10000, 784), (10000, 784)]
    assert data.train.labels is not None
    assert data.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    sums = {"train": "6bbc9ace898e44ae57da46a324031adb", "t10k": "2646ac647ad5339dbf082846283269ea"}
    pixels = {"train": torch.cat([data.train.x, data.valid.x]), "t10k": data.test.x}
    for prefix, expected in sums.items():
        raw = read_idx(next(Path(data_dir).glob(f"**/{prefix}-images-idx3-ubyte*")))
        header = b"".join(number.to_bytes(4, "big") for number in (0x803, *raw.shape))
        loaded = (pixels[prefix] * 255).round().to(torch.uint8).numpy().tobytes()
        assert hashlib.md5(header + loaded).hexdigest() == expected


def test_shifted_dots() -> None:
    """Every second picture is the first one moved by its label's move, and the nine moves are about equally many."""
    data = load("shifted_dots")
    assert (data.shape, [len(s) for s in (data.train, data.valid, data.test)]) == ((20, 10), [20000, 1000, 1000])
    first, second = data.train.x.view(-1, 2, 10, 10).unbind(1)
    assert data.train.labels is not None
    moves = data.train.labels // 3 - 1, data.train.labels % 3 - 1
    for row in range(50):
        assert torch.equal(first[row].roll((int(moves[0][row]), int(moves[1][row])), (0, 1)), second[row])
    assert data.train.labels.bincount(minlength=9).min() > 2000
    assert float(data.train.x.mean()) == pytest.approx(0.1, abs=0.003)


def test_turned_noise() -> None:
    """Unit variance; no turn is the picture itself; a turn is that of SciPy's interpolation."""
    data = load("turned_noise")
    assert data.train.labels is not None
    first, second = data.train.x.split(data.shape[0] // 2, 1)
    still = data.train.labels == 2
    torch.testing.assert_close(first[still], second[still], rtol=0, atol=1e-4)
    assert float((first[~still] - second[~still]).square().mean()) > 0.5
    assert float(first.var()) == pytest.approx(1, abs=0.02)
    assert data.train.labels.bincount(minlength=5).min() > 3800

    # The same turn by SciPy's own interpolation, of the pixels that have all their neighbours in the disc.
    from scipy.ndimage import map_coordinates

    line = np.linspace(-1, 1, 13)
    inside = line[:, None] ** 2 + line**2
    disc, core = inside <= 1.02, inside <= 0.7
    row = int((data.train.labels == 4).nonzero()[0])
    picture = np.zeros((13, 13))
    picture[disc] = first[row]
    angle = np.deg2rad(60)
    down, right = np.meshgrid(np.arange(13) - 6, np.arange(13) - 6, indexing="ij")
    x, y = np.cos(angle) * right - np.sin(angle) * down, np.sin(angle) * right + np.cos(angle) * down
    turned = map_coordinates(picture, [y + 6, x + 6], order=1)
    found = np.zeros((13, 13))
    found[disc] = second[row]
    np.testing.assert_allclose(found[core], turned[core], atol=1e-4)


def test_digits_before_noise(data_dir: str) -> None:
    """Ink stays, the background is uniform; the same rows at every call, in the sizes of the published task."""
    plain, data = load("mnist", data_dir), load("mnist_before_noise", data_dir)
    assert [len(s) for s in (data.train, data.valid, data.test)] == [10000, 2000, 10000]
    ink = plain.test.x > 0
    assert torch.equal(data.test.x[ink], plain.test.x[ink])
    noise = data.test.x[~ink]
    assert (abs(float(noise.mean()) - 0.5) < 0.002, abs(float(noise.var()) - 1 / 12) < 0.001) == (True, True)
    assert str(data.test.space) == "unit interval (digits before noise)"
    assert torch.equal(load("mnist_before_noise", data_dir).valid.x, data.valid.x)
    bits = load("mnist_before_noise", data_dir, binarisation="stochastic")
    assert bits.redraw is not None
    assert bits.valid.labels is not None


def test_real_binarized_mnist(data_dir: str) -> None:
    data = load("binarized_mnist")
    assert [tuple(s.x.shape) for s in (data.train, data.valid, data.test)] == [(50000, 784), (10000, 784), (10000, 784)]
    assert data.shape == (28, 28)
    assert str(data.test.space) == "binary (fixed)"
    assert set(data.test.x.unique().tolist()) == {0.0, 1.0}
    by_path = load(Path(data_dir) / "binarized_mnist.npz")
    assert torch.equal(by_path.valid.x, data.valid.x)
    assert by_path.test.space.same_as(data.test.space)
    # Pixels of MNIST have mean 0.1307, and so must bits drawn with them as probabilities.
    assert abs(float(data.train.x.mean()) - 0.1307) < 0.003
    with pytest.raises(ValueError, match=r"already binary \(fixed\)"):
        load("binarized_mnist", binarisation="stochastic")


def test_real_frey_faces(data_dir: str) -> None:
    data = load("frey_faces")
    assert [len(s) for s in (data.train, data.valid, data.test)] == [1565, 200, 200]
    assert data.shape == (28, 20)
    with np.load(Path(data_dir) / "frey_faces.npz") as archive:
        images = archive["images"].reshape(1965, 560)
    order = np.random.RandomState(0).permutation(1965)
    loaded = torch.cat([data.train.x, data.valid.x, data.test.x])
    assert np.array_equal((loaded * 255).round().numpy(), images[order])


def test_real_dna(data_dir: str) -> None:
    data = load("dna")
    assert [tuple(s.x.shape) for s in (data.train, data.valid, data.test)] == [(1400, 180), (600, 180), (1186, 180)]
    assert str(data.train.space) == "binary (as given)"
    with pytest.raises(ValueError, match="already binary"):
        load("dna", binarisation="fixed")


@pytest.mark.parametrize("file", ["jsb_chorales", "nottingham", "mocap_mit"])
def test_real_sequences_are_refused(data_dir: str, file: str) -> None:
    with pytest.raises(ValueError, match=rf"{file}\.npz holds sequences"):
        load(f"{file}.npz")
