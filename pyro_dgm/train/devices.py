"""Checks of devices, and of the number of processes that train on them."""

from __future__ import annotations

import os

import torch

from .. import processes
from ..checks import check_count, shown


def check_devices(name: str, devices: int | None) -> int:
    """The number of processes that train: ``devices``, or by default the number that a launcher has started.

    Raises:
        ValueError: there is no such device; fewer than one process, another number than the launcher's, or more than
            there are GPUs.
    """
    launched = processes.launched()
    if devices is not None:
        devices = check_count("devices", devices, what="the number of processes")
    if devices is not None and launched > 1 and devices != launched:
        raise ValueError(
            f"devices got {devices} in one of {launched} processes that were started already (by torchrun); expected "
            f"{launched}, or leave it out"
        )
    world = launched if devices is None else devices
    if not isinstance(name, str | torch.device):
        raise ValueError(f"device got {shown(name)}; expected a name such as 'cpu' or 'cuda'")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = check_device(name)
    if world > 1 and (device.type not in ("cpu", "cuda") or device.index is not None):
        raise ValueError(
            f"device got {name!r} for {world} processes; expected cpu or cuda, of which each takes its own"
        )
    on_machine = int(os.environ.get("LOCAL_WORLD_SIZE", world)) if launched > 1 else world
    if device.type == "cuda" and world > 1 and on_machine > torch.cuda.device_count():
        raise ValueError(
            f"device 'cuda' got {on_machine} processes for {torch.cuda.device_count()} GPUs on this machine; expected at most "
            "one process per GPU"
        )
    check_device(device)
    return world


def check_device(name: str | torch.device) -> torch.device:
    """The device of that name.

    Raises:
        ValueError: no such device, one that is absent, or one whose numbers cannot be read back (``meta``).
    """
    try:
        device = torch.device(name)
        float(torch.zeros((), device=device))
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device {str(name)!r} cannot be used here ({reason}); use cpu, or cuda or mps where there is one"
        ) from None
    return device
