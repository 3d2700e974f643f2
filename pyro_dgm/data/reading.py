"""The reading of files that may be anything: a header is believed only as far as the file's size allows."""

from __future__ import annotations

import json
import math
import mmap
import os
import struct
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any, overload

import numpy as np

from ..checks import memory
from ..extras import need
from .frames import fields_of
from .mapped import MappedArray
from .tables import Field

LARGEST_READ = 2**30
"""The most bytes of rows, as numbers of single precision, that are read into memory; larger arrays stay in their file."""

RATIO = 1032
"""The most bytes that deflate unpacks one byte to."""


def regular(path: str | os.PathLike[str]) -> Path:
    """The path, if it is a regular file; a pipe or a device would be read for ever.

    Raises:
        FileNotFoundError: there is nothing.
        ValueError: a folder, a pipe or a device.
    """
    file = Path(path).expanduser()
    if not file.exists():
        raise FileNotFoundError(f"there is no file {file}")
    if not file.is_file():
        raise ValueError(f"{file} cannot be read: it is a folder, a pipe or a device; expected a file")
    return file


def read_json(path: str | os.PathLike[str], remedy: str = "restore it") -> Any:
    """The content of a JSON file.

    Raises:
        ValueError: it is no JSON, or nested too deeply; ``remedy`` says what to do.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON number")

    file = regular(path)
    try:
        return json.loads(file.read_text(encoding="utf-8"), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is truncated or no JSON ({error}); {remedy}") from None


@overload
def read_arrays(path: str | os.PathLike[str]) -> dict[str, np.ndarray]: ...
@overload
def read_arrays(path: str | os.PathLike[str], stay: bool) -> dict[str, np.ndarray | MappedArray]: ...


def read_arrays(path: str | os.PathLike[str], stay: bool = False) -> Any:
    """All arrays of an npz file; pickled objects are never loaded.

    Args:
        path: the file.
        stay: leave rows of more than ``LARGEST_READ`` bytes in the file.

    Raises:
        ValueError: the file is truncated, corrupt or no npz file, or says that it holds more than it can; the message names it.
    """
    file = regular(path)
    try:
        with zipfile.ZipFile(file) as archive:
            size = file.stat().st_size
            infos = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            packed = {name for name in infos if f"{name}_width" in infos}
            return {
                name: (stay and _mapped_member(file, archive, info, name in packed)) or _member(archive, info, size)
                for name, info in infos.items()
            }
    except PermissionError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise what they like on foreign bytes
        raise ValueError(
            f"{file} cannot be read as an npz file of plain arrays ({_reason(error)}); it is truncated, corrupt or holds Python "
            "objects: fetch it again, or write it with numpy.savez(path, train=..., valid=..., test=...)."
        ) from None


@overload
def read_array(path: str | os.PathLike[str]) -> np.ndarray: ...
@overload
def read_array(path: str | os.PathLike[str], stay: bool) -> np.ndarray | MappedArray: ...


def read_array(path: str | os.PathLike[str], stay: bool = False) -> Any:
    """The array of a npy file.

    Args:
        path: the file.
        stay: leave rows of more than ``LARGEST_READ`` bytes in the file.

    Raises:
        ValueError: as ``read_arrays``.
    """
    file = regular(path)
    try:
        with open(file, "rb") as stream:
            size = file.stat().st_size
            mapped = stay and _mapped(file, stream, size, 0, False)
            if mapped:
                return mapped
            stream.seek(0)
            return _array(stream, size)
    except PermissionError:
        raise
    except Exception as error:
        raise ValueError(
            f"{file} cannot be read as a npy file of plain numbers ({_reason(error)}); write it with numpy.save."
        ) from None


def read_parquet(path: str | os.PathLike[str], known: Collection[str] = ()) -> tuple[list[Field], bool]:
    """The columns of a Parquet file, and that they have names, which the file tells and none need be ``known``.

    Raises:
        ValueError: a column of another type than numbers, booleans and texts, or a file that is none.
        MissingExtra: there is no package to read it with.
    """
    file = regular(path)
    need(f"{file}, a Parquet file,", "tables")
    import pandas

    try:
        frame = pandas.read_parquet(file)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{file} cannot be read as a Parquet file ({_reason(error)})") from None
    return fields_of(frame, str(file)), True


def _reason(error: Exception) -> str:
    """The first line of what went wrong, without other libraries' advice to load Python objects."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return "it holds Python objects" if "pickle" in text else text


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, size: int) -> np.ndarray:
    """One array of a zip file of that many bytes."""
    packed = min(info.compress_size, size)
    if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"member {info.filename!r} is encrypted, or packed otherwise than numpy.savez does")
    if info.file_size > RATIO * packed + RATIO:
        raise ValueError(f"member {info.filename!r} is said to unpack from {packed} bytes to {info.file_size}")
    with archive.open(info) as stream:
        array = _array(stream, info.file_size)
        stream.read(1)  # at the end of a member its checksum is compared
    return array


def _mapped_member(file: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, packed: bool) -> MappedArray | None:
    """The rows of a member that stay in the file, after a comparison with its checksum; None if they are to be read."""
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        return None
    with open(file, "rb") as stream:
        stream.seek(
            info.header_offset + 26
        )  # the lengths of name and extra field end the 30 bytes of a member's header
        name, extra = struct.unpack("<HH", stream.read(4))
        mapped = _mapped(file, stream, info.file_size, info.header_offset + 30 + name + extra, packed)
    if mapped is not None:
        with archive.open(info) as member:
            while member.read(2**20):
                pass
    return mapped


def _mapped(file: Path, stream: IO[bytes], size: int, start: int, packed: bool) -> MappedArray | None:
    """The rows of an array in NumPy's format, of ``size`` bytes from ``start`` on; None if they are few or no rows of numbers."""
    stream.seek(start)
    shape, fortran, dtype = _header(stream, size + start)
    if fortran or not _stays(shape, dtype, 8 if packed else 1):
        return None
    return MappedArray(file, stream.tell(), shape, dtype)


def _stays(shape: tuple[int, ...], dtype: np.dtype[Any], numbers: int = 1) -> bool:
    """Whether an array holds rows that stay in their file, each of its entries being so many numbers."""
    return 4 * math.prod(shape) * numbers > LARGEST_READ and len(shape) > 1 and dtype.kind in "buif"


def stored_rows(array: np.ndarray) -> MappedArray | None:
    """The rows of a memory map of NumPy's, or of some neighbouring ones, where they stay in the file as those of a path do.

    None for all other arrays: few rows, rows that are not one after another, and maps whose changes are not in the file
    (``mode="c"``).
    """
    map_of_file, path = getattr(array, "_mmap", None), getattr(array, "filename", None)
    if map_of_file is None or path is None or array.mode == "c":  # type: ignore[attr-defined]
        return None
    if not array.flags.c_contiguous or not _stays(array.shape, array.dtype):
        return None
    if array.mode != "r":  # type: ignore[attr-defined]
        map_of_file.flush()
    # A part of a map names the offset of the whole; where it begins follows from addresses.
    first = np.frombuffer(map_of_file, np.uint8).__array_interface__["data"][0]
    begin = array.offset - array.offset % mmap.ALLOCATIONGRANULARITY  # type: ignore[attr-defined]
    place = begin + array.__array_interface__["data"][0] - first
    return MappedArray(Path(path), place, array.shape, array.dtype)


def _header(stream: IO[bytes], end: int) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order (by columns?) and type of an array in NumPy's format, whose numbers reach to a place in a stream."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of NumPy's format is not for plain numbers")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    asked, there = math.prod(shape) * dtype.itemsize, end - stream.tell()
    if asked != there or any(side < 0 for side in shape):
        raise ValueError(f"the header says shape {shape} of {dtype}, {asked} bytes, where {there} follow")
    return shape, fortran, dtype


def _array(stream: IO[bytes], size: int) -> np.ndarray:
    """The array of a stream of that many bytes in NumPy's format."""
    shape, fortran, dtype = _header(stream, size)
    needed = math.prod(shape) * dtype.itemsize
    if needed > memory() / 2:
        raise ValueError(
            f"it would fill {needed / 1e9:.3g} GB of memory; rows that are stored one after another and not compressed, as "
            "numpy.savez writes numpy.ascontiguousarray(rows), can stay in the file"
        )
    content = bytearray(stream.read(needed))
    return np.ndarray(shape, dtype, content, order="F" if fortran else "C")
