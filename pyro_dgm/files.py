"""Files that are written whole or not at all, and folders into which one process at a time writes."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

DRAFT = ".draft"
"""How the names of files end that are not complete yet; they begin with a dot."""


def write_atomically(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write a file through a draft beside it, which replaces the file only once it is complete and on the disk.

    A file that is there already is whole at any moment. If it is a link, the link is replaced and what it points to stays as
    it is. The permissions are those that the process gives to new files.

    Args:
        path: the file; its folder is made if need be.
        write: writes the content into the open draft.

    Raises:
        OSError: the content cannot be written, for instance because the disk is full; what was there before stays whole, and
            no draft is left.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "rows.txt"
        >>> write_atomically(path, lambda file: file.write(b"1 0 1"))
        >>> path.read_text(), [p.name for p in path.parent.iterdir()]
        ('1 0 1', ['rows.txt'])
    """
    draft = path.parent / f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}{DRAFT}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(draft, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except Exception as error:
        cause = error if isinstance(error, OSError) else error.__context__  # torch.save hides that of its file
        if not isinstance(cause, OSError):
            raise
        raise _said(cause, path) from None
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
    _sync(path.parent)


def _said(error: OSError, path: Path) -> OSError:
    """The same error, with the file and what to do in its message."""
    if error.errno == errno.ENOSPC:
        advice = "make room on the disk"
    else:
        advice = "choose a folder that you may write to, or change its permissions"
    said = type(error)(
        f"{path} cannot be written ({error.strerror or error}), and what was there before is whole; {advice}"
    )
    said.errno = error.errno
    return said


def _sync(folder: Path) -> None:
    """Put a folder's names on the disk, so that a new name outlives a loss of power; file systems that cannot are left alone."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_json(path: Path, content: Any) -> None:
    """Write JSON, whole or not at all."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as comma-separated values under the names of all their columns, whole or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))


def remove_drafts(folder: Path) -> None:
    """Remove the files that processes which are gone have left half written."""
    for draft in folder.glob(f".*{DRAFT}"):
        process = draft.name.split(".")[-3]
        if not (process.isdecimal() and int(process) != os.getpid() and _runs(int(process))):
            draft.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    """Whether there is a process of that number."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it is another user's
        return True
    return True


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """A block in which no other process may lock the folder, which is made if need be; the lock ends with the process.

    Where the system or the file system has no such locks, nothing is locked.

    Raises:
        ValueError: another process holds the lock.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        folder.mkdir(parents=True, exist_ok=True)
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"another process is writing into {folder} at present; wait for its end, or choose another folder"
            ) from None
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(descriptor)
