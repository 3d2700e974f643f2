"""Checks and figures per frame for models of padded sequences."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ...checks import check_count
from ...data.sequences import split_frames
from .evidence import Evidence
from .rows import check_rows


def check_frames(visible: int, features: int, **sizes: int) -> None:
    """Refuse sizes below one, and a row width that is not a whole number of frames."""
    for name, size in {"visible": visible, "features": features, **sizes}.items():
        check_count(name, size)
    if visible % (features + 1):
        raise ValueError(
            f"visible got {visible} for features={features}; expected a multiple of {features + 1}: every frame has its "
            "values and a column that says whether it exists, as dgm.data.pad makes them"
        )


def check_width(x: Tensor, visible: int, name: str) -> None:
    """Refuse anything but a matrix of finite numbers; it may have more or fewer frames than ``visible`` columns hold."""
    check_rows(x, row_shape(x, visible), name)


def row_shape(x: Tensor, visible: int) -> torch.Size:
    """The shape of a row: that of ``x``'s rows where ``x`` is a matrix, else (visible,)."""
    return x.shape[1:] if isinstance(x, Tensor) and x.dim() == 2 else torch.Size([visible])


def mean_frames(x: Tensor, features: int) -> float:
    """The mean number of frames of a sequence."""
    return float(split_frames(x, features)[1].sum(-1).double().mean())


def per_frame(evidence: Evidence, x: Tensor, features: int) -> Evidence:
    """The evidence with two more details: the mean number of frames of a sequence, and nats per frame over all frames."""
    frames = mean_frames(x, features)
    counts = {"frames": frames, "nats_per_frame": float(evidence.values.double().mean()) / frames}
    return replace(evidence, details={**evidence.details, **counts})


def presence_columns(visible: int, features: int) -> Tensor:
    """Booleans that mark the columns of a padded row which say whether a frame exists."""
    return torch.arange(visible) % (features + 1) == features
