"""The ``pyro-dgm`` command."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
import warnings
from argparse import Namespace
from collections.abc import Sequence
from typing import NoReturn

RESUMABLE = ("fit", "reproduce")
"""The commands that ``--resume`` goes on with."""


def run() -> NoReturn:
    """Run the command line of this process, and end it with the exit status."""
    from .. import processes

    status = main()
    if processes.several():
        processes.end(status)
    sys.exit(status)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status. Bad input gives one line on standard error and status 2."""
    options = Namespace(command="")
    try:
        from .arguments import parser

        options = parser().parse_args(arguments)
        from . import commands

        if options.command == "fit" and options.config is not None:
            from .repeat import stored_arguments

            options = parser(stored_arguments(options.config)).parse_args(arguments)
        _run(commands, options)
    except KeyboardInterrupt:
        advice = "; the run can be resumed with --resume" if options.command in RESUMABLE else ""
        print(f"pyro-dgm: interrupted{advice}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read the output has gone, as `head` does
        _discard_output()
        return 0
    except Exception as error:
        line = _line(error)
        if line is None:
            raise
        if _speaks():
            print(f"pyro-dgm: {line}", file=sys.stderr)
        return 2
    return 0


def _run(commands: object, options: Namespace) -> None:
    """Run a command; of several processes only the first prints."""
    from .. import processes

    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(warnings.catch_warnings())
            warnings.showwarning = _warn
            if not processes.first():
                stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            getattr(commands, options.command)(options)
            sys.stdout.flush()
    finally:
        processes.leave()


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning in one line, without the place in the program."""
    print(f"pyro-dgm: {' '.join(str(message).split())}", file=sys.stderr)


def _line(error: Exception) -> str | None:
    """What went wrong in one line, if it is the user's to mend; None for an error of the program."""
    text = " ".join(str(error).partition("\nTrace Shapes")[0].split())
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "allocate" in text):
        return f"there is not enough memory ({text[:200]}); choose smaller numbers of units, chains, particles or rows"
    if isinstance(error, OSError) and error.filename is not None:
        path = f"{error.filename}{f' and {error.filename2}' if error.filename2 else ''}"
        advice = {
            errno.EACCES: "; change the rights of this file or folder, or choose another (--out)",
            errno.EROFS: "; choose another folder (--out)",
            errno.ENOSPC: "; make room, or choose another folder (--out)",
        }.get(error.errno or 0, "")
        return f"{path}: {(error.strerror or text).lower()}{advice}"
    if isinstance(error, ValueError | OSError | ImportError):
        return text
    from ..train import TrainingDiverged

    return text if isinstance(error, TrainingDiverged) else None


def _speaks() -> bool:
    """Whether this process is the one that reports an error; a process alone always is."""
    if "WORLD_SIZE" not in os.environ:
        return True
    from .. import processes

    return processes.speaks()


def _discard_output() -> None:
    """Point standard output at nothing, so that what is buffered does not fail once more when the interpreter ends."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)
