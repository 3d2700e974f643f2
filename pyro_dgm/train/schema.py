"""What stands in a run's configuration, with its types: every file is checked by this when it is read.

Keys that are not named here are left alone.
"""

# Without postponed annotations, by which a typed dictionary cannot tell which keys it needs.
from typing import Any, TypedDict


class _Named(TypedDict):
    format: int
    model: str
    options: dict[str, Any]


class _Needed(TypedDict):
    learning_rate: float
    optimiser: str
    batch_size: int
    epochs: int
    seed: int


class Training(_Needed, total=False):
    """The settings of training."""

    decay: str | None
    average: float | None
    patience: int | None
    keep: str
    optimiser_options: dict[str, Any]
    decay_options: dict[str, Any]
    clip: float | None
    precision: str


class Rows(TypedDict, total=False):
    """The description of the data."""

    name: str
    shape: list[int]
    space: str
    rows: list[int]
    digest: str
    source: str
    binarisation: str
    preprocessing: str | dict[str, Any]
    seed: int
    classes: int
    labels: str
    columns: dict[str, Any]


class Criterion(TypedDict):
    """The description of the objective."""

    objective: str


class Config(_Named, total=False):
    """A configuration."""

    origin: str
    own_networks: dict[str, str]
    objective: Criterion
    objective_options: dict[str, Any]
    training: Training
    data: Rows
    machine: dict[str, Any]
    versions: dict[str, str]


class State(TypedDict):
    """The part of a training state that is no tensor."""

    epoch: int
    model: dict[str, Any]
    optimiser: dict[str, Any]
    history: list[dict[str, float]]
    best: Any
    stale: int
    objective: dict[str, Any]
