"""What a result states beside its figure: the time it took, and the versions and the machine it depends on."""

from __future__ import annotations

import platform
import time
from typing import TypedDict

from ..native import processor_name


class Times(TypedDict):
    """Time that was spent, by clock; the file beside a run that states what was spent before its own training."""

    seconds: float
    cpu_seconds: float


def clocks() -> dict[str, float]:
    """The readings of the wall clock and of the processor's clock (of all threads), in seconds."""
    return {"seconds": time.perf_counter(), "cpu_seconds": time.process_time()}


def passed(since: dict[str, float]) -> dict[str, float]:
    """The time that has passed since earlier readings of ``clocks``."""
    return {name: now - since[name] for name, now in clocks().items()}


def added(spent: dict[str, float], more: dict[str, float]) -> dict[str, float]:
    """The sums of two times by clock."""
    return {name: value + more.get(name, 0.0) for name, value in spent.items()}


def versions() -> dict[str, str]:
    """The versions that a figure depends on."""
    import numpy
    import pyro
    import torch

    from .. import __version__

    return {
        "pyro_dgm": __version__, "pyro": pyro.__version__, "torch": torch.__version__, "numpy": numpy.__version__,
        "python": platform.python_version(),
    }  # fmt: skip


def machine() -> str:
    """The processor, its vector instructions and the number of threads, in words."""
    import torch

    name = processor_name()
    if torch.cuda.is_available():
        name = f"{torch.cuda.get_device_name()}, {name}"
    return f"{name}, {torch.get_num_threads()} threads"
