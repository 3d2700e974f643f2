"""New processes that need not import the package again: forks of a clean one in which nothing has run.

A started interpreter spends some five seconds of the processor on imports, a fork none. What forks cannot show is how the package
starts interpreters itself.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["pyro_dgm.train.trainer", "pyro_dgm.cli.main", "pytest"])


def start(act: Callable[..., Any], *arguments: Any) -> Any:
    """A process of one thread that calls a module's function."""
    process = CONTEXT.Process(target=_run, args=(act, arguments), daemon=True)
    process.start()
    return process


def _run(act: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    import torch

    torch.set_num_threads(1)
    act(*arguments)


class Worker:
    """In place of ``launch._start``: a worker's life in a fork, with what is used of ``Popen``."""

    stdin = None

    def __init__(self, folder: Path, rank: int, world: int) -> None:
        self._process = start(_work, folder, rank, world)
        self.terminate, self.kill = self._process.terminate, self._process.kill

    def poll(self) -> int | None:
        return self._process.exitcode

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int | None:
        self._process.join()
        return self._process.exitcode


def _work(folder: Path, rank: int, world: int) -> None:
    from pyro_dgm.train import worker

    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
    os.environ |= {name: str(number) for name, number in numbers.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
    # A standard input that stays open: at its end the worker takes the first process for gone.
    os.dup2(os.pipe()[0], 0)
    sys.exit(worker.main(folder))
