"""The start of a training run's processes on this machine, and the return of their result."""

from __future__ import annotations

import json
import os
import pickle
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import registry
from . import worker
from .checkpoint import STATE
from .progress_state import to_device
from .trainer import Run
from .worker import KINDS, PAYLOAD, RESULT

GRACE = 5.0
"""Seconds that the other processes have to report their errors once one has failed."""


def fit_in_processes(
    fit: Callable[..., Run], devices: int, model: Any, data: Any, objective: Any, **options: Any
) -> Run:
    """Run ``fit`` in new processes; model and objective then have the trained weights and the first process's state.

    Raises:
        ValueError: an argument cannot be sent to another process; or as ``fit``.
        TrainingDiverged: as ``fit``.
        ChildProcessError: a process ended without a report (it was killed, for instance).
    """
    with tempfile.TemporaryDirectory(prefix="pyro_dgm_") as name:
        folder = Path(name)
        try:
            arguments = pickle.dumps((fit, model, data, objective, options))
            (folder / PAYLOAD).write_bytes(pickle.dumps((registry.origin(type(model)), arguments)))
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            raise ValueError(
                f"devices={devices} sends model, data and objective to new processes, which failed ({error}); use a fresh "
                "objective without local functions, or run the script under torchrun"
            ) from None
        children: list[subprocess.Popen[bytes]] = []
        try:
            for rank in range(devices):
                children.append(_start(folder, rank, devices))
            _watch(children, folder, options.get("out"))
        finally:
            _end(children)
        state, objective_state, history, epoch = pickle.loads((folder / RESULT).read_bytes())
    model.load_state_dict(state)
    model.fresh = False
    objective.attach(model)
    device = next(model.parameters()).device
    objective.load_state_dict(to_device(objective_state[0], device))
    objective.load_owned_state(to_device(objective_state[1], device))
    out = options.get("out")
    return Run(model, history, None if out is None else Path(out), epoch)


def _start(folder: Path, rank: int, world: int) -> subprocess.Popen[bytes]:
    """Start one process; it ends when its standard input is closed, and so never outlives this one."""
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    loopback = [name for _, name in socket.if_nameindex() if name in ("lo", "lo0")]
    environment |= {"GLOO_SOCKET_IFNAME": loopback[0]} if loopback else {}
    environment |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1", "PYTHONPATH": os.pathsep.join(sys.path),
    }  # fmt: skip
    # -P: else -c looks into the current folder first, and runs a pickle.py that lies there.
    command = [sys.executable, "-P", "-c", f"from {worker.__name__} import run; run()", str(folder)]
    # A separate session, so that Ctrl-C reaches this process alone, which then ends the others.
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, start_new_session=True)


def _watch(children: list[subprocess.Popen[bytes]], folder: Path, out: Any) -> None:
    """Wait for all processes; raise the error of the first one that failed."""
    while any(child.poll() is None for child in children) and not any(child.poll() for child in children):
        time.sleep(0.02)
    if not any(child.poll() for child in children):
        return
    deadline = time.monotonic() + GRACE
    while any(child.poll() is None for child in children) and time.monotonic() < deadline:
        time.sleep(0.02)
    reports = [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("error*.json"))]
    # A process whose connection broke tells nothing of the cause, so that the others' reports come first.
    for kind, message in sorted(reports, key=lambda report: report[0] == ConnectionError.__name__):
        if kind != ConnectionError.__name__:
            raise KINDS.get(kind, RuntimeError)(message)
    silent = [(n, c.returncode) for n, c in enumerate(children) if c.returncode and not _has_reported(folder, n)]
    if not silent:
        raise ConnectionError(reports[0][1])
    number, code = silent[0]
    saved = out is not None and (Path(out) / STATE).is_file()
    advice = f"; the last checkpoint in {out} is kept, go on with it by resume (--resume)" if saved else ""
    end = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
    raise ChildProcessError(f"process {number + 1} of {len(children)} {end}{advice}")


def _has_reported(folder: Path, rank: int) -> bool:
    return (folder / f"error{rank}.json").is_file()


def _end(children: list[subprocess.Popen[bytes]]) -> None:
    """End all processes that still run, and wait for them."""
    for child in children:
        if child.poll() is None:
            child.terminate()
        if child.stdin is not None:
            child.stdin.close()
    for child in children:
        child.wait()
