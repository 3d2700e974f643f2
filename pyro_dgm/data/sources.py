"""The data sets known by name, and `load`.

To add one, write a function from the data folder to a Dataset and mark it with `@_source`.
"""

import os
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..calls import says_what_it_takes
from ..checks import check_seed, described, shown
from ..extras import need
from .binarise import binarise, check_name
from .csv_table import read_table
from .dataset import Dataset, Split
from .frames import fields_of, is_frame
from .idx import read_idx
from .locate import data_folder, find
from .made import before_noise, heartbeat, shifted_dots, swiss_roll, turned_noise
from .npz import dataset_of, permutation, read_npz, unpack
from .pictures import read_pictures
from .preprocessing import check_how, preprocess
from .reading import read_array, read_arrays, read_parquet
from .sequence_sets import jsb_chorales, motion_capture, nottingham
from .space import Space
from .tables import Columns, Field

Reader = Callable[[Path | None], Dataset]
"""A function that reads a data set from the data folder, if there is one."""

TableReader = Callable[[Path, Collection[str]], tuple[list[Field], bool]]
"""A function from a file, and the names that its columns have elsewhere, to columns, and whether they have names."""

TABLES: dict[str, TableReader] = {".csv": read_table, ".parquet": read_parquet}
"""Readers of tables by the ending of their files."""

ENDINGS = (".npz", ".npy", *TABLES)
"""How the names of files end that are read."""

GREY = Space("unit interval", "grey levels")

MNIST = tuple(f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
"""The files of MNIST, which may lie unpacked too, without ``.gz``."""

_SOURCES: dict[str, tuple[str, Reader]] = {}
"""Description and reader of every data set by its name."""

FILES: dict[str, tuple[str, ...]] = {}
"""The files that every data set needs, in the data folder."""


def _source(name: str, description: str, *files: str) -> Callable[[Reader], Reader]:
    """A decorator that makes a reader known to `load` by a name, with the files that it reads."""

    def register(reader: Reader) -> Reader:
        _SOURCES[name] = (description, reader)
        FILES[name] = files
        return reader

    return register


def names() -> dict[str, str]:
    """The data sets that `load` knows by name, each with a one-line description.

    >>> "digits" in names()
    True
    """
    return {name: f"{text}{'' if FILES[name] else '; needs no file'}" for name, (text, _) in _SOURCES.items()}


@says_what_it_takes
def load(
    name_or_path: Any,
    data_dir: str | os.PathLike[str] | None = None,
    binarisation: str | None = None,
    seed: int = 0,
    preprocessing: str | dict[str, Any] | None = None,
    labels: str | None = None,
) -> Dataset:
    """Load a data set by name, from a file of arrays (.npz) or of training rows (.npy, .csv, .parquet), or a folder of pictures.

    `digits`, `frey_faces` and rows without splits of their own are dealt into splits in the order of
    numpy.random.RandomState(0).permutation(N), whatever `seed` is.

    Rows of a npy file, or of an npz file that is not compressed, stay in the file where they take more than 1 GiB as numbers of
    single precision, and are read batch by batch (``pack`` writes such files of bits).

    The columns of a table have types. Booleans become 0 and 1, and a column of texts (or of categories) becomes as many columns
    of zeros and ones as it has different texts, in their order; `columns.values` makes rows of the table of rows of numbers.

    Args:
        name_or_path: one of `names()`; a path that ends in .npz, .npy, .csv or .parquet; a folder of pictures, with subfolders
            of classes or of splits if you like (``data.pictures.read_pictures``); or a data frame.
        data_dir: the folder of the data files; by default that of the environment variable PYRO_DGM_DATA.
        binarisation: "threshold", "fixed" or "stochastic" for grey levels; None leaves the data unchanged.
        seed: the seed of the binarisation; the splits do not depend on it.
        preprocessing: "standardised", "whitened" or "zca" for real numbers, or a dictionary with this name under "how" and
            with options, as in {"how": "whitened", "components": 32}; of sequences {"how": "windows", "features": 49,
            "order": 3} or, for training tunes in all keys, {"how": "transposed", "features": 88}.
        labels: the name of a table's column that holds labels; they are numbered in their order.

    Raises:
        FileNotFoundError: a file is missing; the message says where it was looked for and where to get it.
        ValueError: a name is unknown, a file is corrupt, or the binarisation does not fit the data.

    >>> digits = load("digits", binarisation="threshold")
    >>> digits.shape, len(digits.train), len(digits.valid), len(digits.test), str(digits.test.space)
    ((8, 8), 1197, 300, 300, 'binary (threshold 0.5)')
    """
    _check_one(binarisation, preprocessing)
    seed = check_seed(seed)
    read = _read(name_or_path, data_folder(data_dir), labels)
    dataset = changed(read, binarisation, seed, preprocessing)
    named = isinstance(name_or_path, str | os.PathLike)
    if not named and binarisation is None and preprocessing is None:
        return dataset
    origin = {
        "source": located(os.fspath(name_or_path), data_dir) if named else read,
        "binarisation": binarisation or "none",
        "seed": seed,
    }
    stated = {"preprocessing": preprocessing, "labels": labels if named else None}
    return dataset.from_origin(origin | {name: value for name, value in stated.items() if value is not None})


def changed(
    dataset: Dataset, binarisation: str | None, seed: int, preprocessing: str | dict[str, Any] | None
) -> Dataset:
    """The dataset with its rows binarised or preprocessed, as ``load`` says, in single precision.

    Rows that were read in double precision are preprocessed in it: a column of times in seconds, say, would else be constant.

    Raises:
        ValueError: both; an unknown name; rows that the change does not take.
    """
    _check_one(binarisation, preprocessing)
    if preprocessing is not None:
        how = {"how": preprocessing} if isinstance(preprocessing, str) else dict(preprocessing)
        name = how.pop("how")
        if name != "standardised":
            _check_complete(dataset, name)
        return preprocess(dataset, name, **how).single()
    dataset = dataset.single()
    return dataset if binarisation is None else binarise(dataset, binarisation, seed)


def _check_one(binarisation: str | None, preprocessing: str | dict[str, Any] | None) -> None:
    """Refuse an unknown binarisation or preprocessing, or one beside the other."""
    if preprocessing is not None:
        options = preprocessing if isinstance(preprocessing, dict) else {"how": preprocessing}
        how = options.get("how")
        if not isinstance(how, str) or "dataset" in options or not all(isinstance(name, str) for name in options):
            raise ValueError(
                f"preprocessing got {shown(preprocessing)}; expected a name, or a dictionary with it under 'how', as "
                "{'how': 'whitened', 'components': 32}"
            )
        check_how(how)
    if binarisation is not None:
        check_name(binarisation)
        if preprocessing is not None:
            raise ValueError(f"load got binarisation {binarisation!r} and preprocessing {preprocessing!r}; choose one.")


def _check_complete(dataset: Dataset, how: str) -> None:
    """Refuse rows with missing values to a preprocessing that would mix them with known ones."""
    for part in ("train", "valid", "test"):
        holes = getattr(dataset, part).x.isnan().any(1)
        if holes.any():
            raise ValueError(
                f"Dataset {dataset.name!r}: split {part!r} has missing values, first in row {int(holes.nonzero()[0])}; "
                f"{how!r} mixes the values of a row: take 'standardised', which goes by the known ones, or leave the "
                "preprocessing out"
            )


def _read(source: Any, folder: Path | None, labels: str | None) -> Dataset:
    """The data set of a name, of a path or of a data frame, unchanged."""
    if is_frame(source):
        return _of_table(Path("frame"), fields_of(source, "the data frame"), True, labels)
    if not isinstance(source, str | os.PathLike):
        raise ValueError(
            f"load got {described(source)}; expected a name, a path or a data frame (dgm.fit takes arrays)"
        )
    name = os.fspath(source)
    path = None if name in _SOURCES else _found(name, folder)
    if path is not None and path.suffix in TABLES and not path.is_dir():
        return _of_table(path, *TABLES[path.suffix](path, ()), labels)
    if labels is not None:
        raise ValueError(
            f"labels got {labels!r}, the name of a column, but {name} is no table (.csv, .parquet); labels of an npz file are "
            "its array train_labels"
        )
    if path is None:
        return _SOURCES[name][1](folder)
    if path.is_dir():
        return dataset_of(path, read_pictures(path))
    if path.suffix == ".npy":
        return dataset_of(path, {"train": read_array(path, stay=True)})
    # These two published files have special layouts, which only their names tell.
    special = {"binarized_mnist.npz": "binarized_mnist", "frey_faces.npz": "frey_faces"}.get(path.name)
    return read_npz(path) if special is None else _SOURCES[special][1](path.parent)


def _of_table(path: Path, fields: list[Field], named: bool, labels: str | None) -> Dataset:
    """The data set of a table's rows."""
    columns = Columns.of(fields, named, str(path), labels)
    rows, numbers = columns.code(fields, named, str(path))
    arrays = {"train": rows} if numbers is None else {"train": rows, "train_labels": numbers}
    return replace(dataset_of(path, arrays), columns=columns)


def located(name: str, data_dir: str | os.PathLike[str] | None = None) -> str:
    """The name of a data set, or the absolute path of a file, by which it is found from any folder.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is neither.

    >>> located("digits")
    'digits'
    """
    return name if name in _SOURCES else str(_found(name, data_folder(data_dir)).absolute())


def _found(name: str, folder: Path | None) -> Path:
    """The file of a data set that is named by its path."""
    if not isinstance(name, str | os.PathLike):
        raise ValueError(f"a data set got {described(name)} for its name; expected a name or a path")
    name = os.fspath(name)
    path = Path(name).expanduser()
    if name and path.is_dir():
        return path
    if not name.endswith(ENDINGS):
        raise ValueError(
            f"Unknown data set {name!r}; expected one of: {', '.join(_SOURCES)}; a path that ends in .npz, .npy, .csv or "
            ".parquet; or a folder of pictures."
        )
    relative = [Path.cwd()] if folder is None else [Path.cwd(), folder]
    file, folders = (path.name, [path.parent]) if path.is_absolute() else (str(path), relative)
    return find([file], folders, "Or give the whole path of the file.")


def _deal(name: str, x: np.ndarray, labels: np.ndarray | None, sizes: tuple[int, int, int], top: float) -> Dataset:
    """The data set of grey pictures `x`, divided by `top`, dealt into splits by the fixed permutation."""
    order = torch.from_numpy(permutation(len(x)))
    rows = torch.from_numpy(x.reshape(len(x), -1).astype(np.float32)) / top
    pictures = Split(rows, GREY, None if labels is None else torch.from_numpy(labels.astype(np.int64)))
    train, valid, test = (pictures[index] for index in order.split(sizes))
    return Dataset(name, train, valid, test, x.shape[1:])


@_source("digits", "1797 grey 8×8 digits (the test set of UCI's optical recognition), 1197/300/300")
def _digits(folder: Path | None) -> Dataset:
    arrays = read_arrays(Path(__file__).with_name("digits.npz"))
    return _deal("digits", arrays["images"], arrays["labels"], (1197, 300, 300), 16)


@_source("mnist", "70,000 grey 28×28 digits, 50,000/10,000/10,000 (the last 10,000 training rows are valid)", *MNIST)
def _mnist(folder: Path | None) -> Dataset:
    train, test = _mnist_part("train", 60000, folder), _mnist_part("t10k", 10000, folder)
    return Dataset("mnist", train[:50000], train[50000:], test, (28, 28))


@_source(
    "mnist_before_noise", "MNIST with a background of uniform noise, 10,000/2000/10,000 (after mnist-back-rand)", *MNIST
)
def _mnist_before_noise(folder: Path | None) -> Dataset:
    return before_noise(_mnist(folder))


def _mnist_part(prefix: str, count: int, folder: Path | None) -> Split:
    """The pictures and labels of the published training or test set."""
    # torchvision.datasets.MNIST puts its files into the last of these folders.
    folders = [] if folder is None else [folder / "mnist", folder, folder / "MNIST" / "raw"]
    origin = "MNIST may be had from Yann LeCun's MNIST page, or with torchvision.datasets.MNIST(..., download=True)."
    arrays = []
    for kind, shape in (("images-idx3", (count, 28, 28)), ("labels-idx1", (count,))):
        path = find([f"{prefix}-{kind}-ubyte.gz", f"{prefix}-{kind}-ubyte"], folders, origin)
        array = read_idx(path)
        if array.shape != shape or array.dtype != np.uint8:
            raise ValueError(f"{path} holds {array.dtype} of shape {array.shape}; MNIST has uint8 of shape {shape}.")
        arrays.append(array)
    x = torch.from_numpy(arrays[0].reshape(count, -1)).float().div_(255)
    return Split(x, GREY, torch.from_numpy(arrays[1].astype(np.int64)))


@_source("binarized_mnist", "MNIST in a fixed binarisation, 50,000/10,000/10,000, no labels", "binarized_mnist.npz")
def _binarized_mnist(folder: Path | None) -> Dataset:
    origin = (
        "Larochelle's binarized MNIST may be had as text files from its author; pack each split with "
        "numpy.packbits(bits.astype('uint8'), axis=1) and save train, valid and test with numpy.savez."
    )
    path, arrays = _arrays("binarized_mnist.npz", folder, ("train", "valid", "test"), origin)
    space = Space("binary", "fixed")
    train, valid, test = (
        Split(torch.from_numpy(unpack(path, part, arrays[part], 784)).float(), space)
        for part in ("train", "valid", "test")
    )
    return Dataset("binarized_mnist", train, valid, test, (28, 28))


@_source("frey_faces", "1965 grey 28×20 faces of one person, 1565/200/200 by a fixed permutation", "frey_faces.npz")
def _frey_faces(folder: Path | None) -> Dataset:
    origin = "Frey Faces may be had from Sam Roweis's data page; save them as uint8 array 'images', 1965×28×20."
    path, arrays = _arrays("frey_faces.npz", folder, ("images",), origin)
    images = arrays["images"]
    if images.shape != (1965, 28, 20) or images.dtype != np.uint8:
        raise ValueError(f"{path}: 'images' is {images.dtype} of shape {images.shape}; expected uint8 (1965, 28, 20).")
    return _deal("frey_faces", images, None, (1565, 200, 200), 255)


@_source("natural_patches", "grey 8×8 patches with some contrast, of the two photographs bundled with scikit-learn")
def _natural_patches(folder: Path | None) -> Dataset:
    return _of_photographs("natural_patches", 8, 2)


@_source("natural_windows", "grey 24×24 windows with some contrast, of the two photographs bundled with scikit-learn")
def _natural_windows(folder: Path | None) -> Dataset:
    return _of_photographs("natural_windows", 24, 8)


def _of_photographs(name: str, side: int, stride: int) -> Dataset:
    """Pieces of the two photographs, a stride apart for training, and side by side for validation and test."""
    need(f"the data set {name}", "sklearn")
    from sklearn.datasets import load_sample_images

    grey = torch.from_numpy(np.stack(load_sample_images().images).mean(-1).astype(np.float32)) / 255
    # Squares are dealt into splits, not patches, so that no pixel is in two splits.
    squares = grey[:, :384].unfold(1, 64, 64).unfold(2, 64, 64).reshape(-1, 64, 64)
    squares = squares[torch.from_numpy(permutation(len(squares)))]

    def cut(squares: Tensor, stride: int) -> Split:
        patches = squares.unfold(1, side, stride).unfold(2, side, stride).reshape(-1, side**2)
        return Split(patches[patches.std(1) > 0.05], GREY)  # without plain sky and blur

    return Dataset(name, cut(squares[36:], stride), cut(squares[24:36], side), cut(squares[:24], side), (side, side))


@_source("dna", "DNA splice junctions, 180 binary columns, 1400/600/1186", "dna.npz")
def _dna(folder: Path | None) -> Dataset:
    origin = "The DNA data may be had from the LIBSVM data page or with the code of MADE; save train, valid and test."
    return read_npz(find(["dna.npz"], [] if folder is None else [folder], origin))


def _arrays(file: str, folder: Path | None, keys: tuple[str, ...], origin: str) -> tuple[Path, dict[str, np.ndarray]]:
    """The file's path and its arrays, among which all keys must be."""
    path = find([file], [] if folder is None else [folder], origin)
    arrays = read_arrays(path)
    missing = [key for key in keys if key not in arrays]
    if missing:
        raise ValueError(f"{path} has no array {missing[0]!r}, only: {', '.join(arrays) or 'nothing'}. {origin}")
    return path, arrays


_source(
    "shifted_dots",
    "pairs of 10×10 pictures of dots, the second moved by a pixel or not, 20,000/1000/1000",
)(shifted_dots)
_source(
    "turned_noise",
    "pairs of discs of smooth noise, 2 × 113 columns, the second turned by one of five angles, 20,000/1000/1000",
)(turned_noise)
_source(
    "jsb_chorales",
    "Bach's chorales as piano rolls: padded sequences of 88 bits per frame, 229/76/77",
    "jsb_chorales.npz",
)(jsb_chorales)
_source(
    "nottingham", "folk tunes as piano rolls: padded sequences of 88 bits per frame, 694/173/170", "nottingham.npz"
)(nottingham)
_source("mocap_mit", "motion capture: padded sequences of 49 real numbers per frame, 32/3/4", "mocap_mit.npz")(
    motion_capture
)
_source("swiss_roll", "points of the plane around a spiral, made by itself, 50,000/5000/5000")(swiss_roll)
_source("heartbeat", "rows of 20 bits with a one at every fifth, made by itself, 10,000/1000/1000")(heartbeat)
