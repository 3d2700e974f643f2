"""How loops become machine code, and where it is kept; imported with the first loop.

Machine code is kept beside the sources, or where ``NUMBA_CACHE_DIR`` says, until any source of a loop changes.
"""

from __future__ import annotations

import functools
import hashlib
import os
import pickle
import threading
import types as python
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache
from numba.core.ccallback import CFunc
from numba.core.serialize import dumps
from numba.core.sigutils import normalize_signature

_CHECKSUM = hashlib.sha256().digest_size


class _Files:
    """The files of a function's machine code, one for every signature, processor and state of the sources.

    Numba's own files are numbered in an index, so that two processes that compile at once may read each other's code under a
    wrong signature. Here a file's name says what is in it, as does its content, behind a checksum.
    """

    def __init__(self, folder: str, name: str, stamp: str) -> None:
        self.folder, self.name, self.stamp = Path(folder), name, stamp

    def path(self, key: Any) -> Path:
        """The file for a key of Numba's."""
        digest = hashlib.sha256(repr((numba.__version__, self.stamp, key)).encode()).hexdigest()
        return self.folder / f"{self.name}-{self.stamp[:8]}-{digest[:16]}.nbc"

    def load(self, key: Any) -> Any:
        """What was saved; None if nothing was.

        Raises:
            ValueError: the file is damaged.
        """
        try:
            found = self.path(key).read_bytes()
        except FileNotFoundError:
            return None
        if hashlib.sha256(found[_CHECKSUM:]).digest() != found[:_CHECKSUM]:
            raise ValueError("a file is damaged")
        saved_key, data = pickle.loads(found[_CHECKSUM:])
        return data if saved_key == key else None

    def save(self, key: Any, data: Any) -> None:
        """Write a file, and remove those of other states of the sources."""
        content, path = dumps((key, data)), self.path(key)
        draft = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
        try:
            draft.write_bytes(hashlib.sha256(content).digest() + content)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        for other in self.folder.glob(f"{self.name}-*.nbc"):
            if not other.name.startswith(f"{self.name}-{self.stamp[:8]}-"):
                other.unlink(missing_ok=True)

    def flush(self) -> None:
        """Remove all files."""
        for path in self.folder.glob(f"{self.name}-*.nbc"):
            path.unlink(missing_ok=True)


class _Kept(FunctionCache):
    """Machine code on disk; what cannot be read or written there is compiled in memory."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        own = Path(function.__code__.co_filename).read_bytes()
        stamp = hashlib.sha256(own + _sources().encode()).hexdigest()
        files: Any = _Files(self.cache_path, self._impl.filename_base, stamp)
        self._cache_file = files

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(signature, target_context)
        except Exception as error:  # whatever a damaged file makes of unpickling and linking
            _tell(self.cache_path, f"holds compiled loops that cannot be read ({type(error).__name__}: {error})")
        try:
            self.flush()
        except OSError:  # damaged files that cannot be removed: nothing is kept beside them
            self.disable()
        return None

    def save_overload(self, signature: Any, data: Any) -> None:
        try:
            super().save_overload(signature, data)
        except Exception as error:
            _tell(self.cache_path, f"cannot keep compiled loops ({type(error).__name__}: {error})")
            self.disable()


@functools.cache
def _sources() -> str:
    """What tells one state of the sources from another: loops are compiled into one another, whatever their files."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


_told: set[str] = set()


def _tell(folder: str, trouble: str) -> None:
    """Say once per folder what is wrong with it, and what helps."""
    if folder in _told:
        return
    _told.add(folder)
    warnings.warn(
        f"{folder} {trouble}; they are compiled in memory, which takes some seconds: delete the files *.nbc there, or "
        "set NUMBA_CACHE_DIR to a folder that can be written",
        RuntimeWarning,
        stacklevel=2,
    )


def _kept(function: Callable[..., Any]) -> Any:
    """The place of a function's machine code; None where no folder can be written."""
    try:
        return _Kept(function)
    except (RuntimeError, OSError):
        return None


def compiled(function: Callable[..., Any], **options: Any) -> Any:
    """A function as machine code; options are Numba's."""
    code: Any = numba.njit(nogil=True, **options)(function)
    code._cache = _kept(function) or code._cache
    return code


def callback(function: Callable[..., Any], signature: Any) -> Any:
    """A function as machine code that C can call."""
    code: Any = CFunc(function, normalize_signature(signature), locals={}, options={})
    code._cache = _kept(function) or code._cache
    code.compile()
    return code


def copy_of(template: Any, function: Callable[..., Any], **names: Any) -> Any:
    """A template's copy that stands where ``function`` does and has its name, with other values for some global names."""
    name, code = f"{function.__name__}_{template.__name__}", function.__code__
    place = template.__code__.replace(co_filename=code.co_filename, co_firstlineno=code.co_firstlineno, co_name=name)
    copy = python.FunctionType(place, {**template.__globals__, **names}, name)
    copy.__module__, copy.__qualname__ = function.__module__, name
    return copy


inlined = functools.partial(compiled, inline="always")
"""``compiled`` for short functions in inner loops: a call costs as much as they do."""

# Loops run in vectors only if divisions do not raise, and sums only if their terms may be added in any order (the machine
# code fixes it, so that it is the same every time).
vectors = functools.partial(compiled, error_model="numpy", fastmath={"contract"})
sums = functools.partial(compiled, error_model="numpy", fastmath={"reassoc", "contract", "nsz", "arcp"})
