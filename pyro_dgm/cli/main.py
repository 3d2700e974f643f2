"""The ``pyro-dgm`` command."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Sequence

from .arguments import parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status. Bad input gives one line on standard error and status 2."""
    from .. import processes
    from ..train import TrainingDiverged
    from . import commands

    options = parser().parse_args(arguments)
    try:
        with contextlib.nullcontext() if processes.first() else contextlib.redirect_stdout(io.StringIO()):
            getattr(commands, options.command)(options)
            sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has gone, as `head` does
        _discard_output()
        return 0
    except (ValueError, OSError, ImportError, TrainingDiverged) as error:
        if processes.speaks():
            print(f"pyro-dgm: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("pyro-dgm: interrupted; a run can be resumed with --resume", file=sys.stderr)
        return 130
    finally:
        processes.leave()
    return 0


def _discard_output() -> None:
    """Point standard output at nothing, so that what is buffered does not fail once more when the interpreter ends."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)
