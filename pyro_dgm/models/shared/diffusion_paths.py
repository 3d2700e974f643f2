"""Unknown columns of rows under a diffusion: exactly by chains over its paths, and by the published rule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from .chain_details import Step


class Diffusion(Protocol):
    """A model that goes back from noise to rows in ``steps`` steps."""

    steps: int

    @property
    def corruption(self) -> Any:
        """The way from rows to noise (``Corruption``)."""
        ...

    def reverse(self, noisy: Tensor, time: Tensor) -> Any:
        """$p(x_{t-1} | x_t)$."""
        ...

    def sample(self, n: int) -> Tensor:
        """Draw rows."""
        ...

    def clean(self, x: Tensor) -> Tensor:
        """Rows as the corruption takes them."""
        ...


def metropolis_over_paths(model: Diffusion, x: Tensor, known: Tensor) -> Iterator[Step]:
    r"""Yield the state after every step of one chain per row over $x_T, \dots, x_1$ given known columns.

    Chains start at a path that the diffusion draws from the row, with its unknown columns drawn by the model. A step has three
    parts, each of which keeps the law of paths and rows given $x_o$. Keep $x_s$ for a random s, draw
    $x_{s-1}, \dots, x_1$ anew by the model, and accept with the ratio of the known columns' $p(x_o \mid x_1)$; s = T + 1 draws
    the whole path. Then unknown columns come from $p(x_f \mid x_1)$. Then the states between the row and another $x_s$ are
    proposed by the diffusion, $q(x_{t-1} \mid x_t, x_0)$, and accepted with the ratio of
    $\prod_{t \le s} p(x_{t-1} \mid x_t) / q(x_{t-1} \mid x_t, x_0)$.

    Args:
        model: the diffusion.
        x: rows.
        known: booleans, of the rows' shape.
    """
    rows = torch.where(known, x, model.sample(len(x)).to(x))
    path, state = [rows], model.clean(rows)
    for t in range(1, model.steps + 1):
        state = model.corruption.after(state, time_of(t - 1, x), time_of(t, x)).sample()
        path.append(state)
    seen = _seen(model.reverse(path[1], time_of(1, x)), x, known)
    while True:
        moved = _drawn(model, path, int(torch.randint(2, model.steps + 2, ())))
        proposed = model.reverse(moved[1], time_of(1, x))
        then = _seen(proposed, x, known)
        accept = torch.rand_like(seen).log() < then - seen
        path = _chosen(accept, moved, path)
        rows = torch.where(known, x, model.reverse(path[1], time_of(1, x)).sample())
        path, refreshed = _refreshed(model, path, rows)
        seen = _seen(model.reverse(path[1], time_of(1, x)), x, known)
        yield Step(rows, 0.5 * (accept.to(x) + refreshed.to(x)), seen)


def overwritten(model: Diffusion, x: Tensor, known: Tensor) -> Tensor:
    """Rows whose known columns were put back, noised to their time, after every step from noise; not the conditional law."""
    x, corruption = torch.where(known, x, 0.0), model.corruption
    clean, state = model.clean(x), corruption.end(x).sample()
    for t in range(model.steps, 0, -1):
        state = model.reverse(state, time_of(t, x)).sample()
        held = x if t == 1 else corruption.after(clean, time_of(0, x), time_of(t - 1, x)).sample()
        state = torch.where(known, held, state)
    return state


def _drawn(model: Diffusion, path: list[Tensor], below: int) -> list[Tensor]:
    """The path with its states before a time drawn anew, those after it kept; index 0 is not used."""
    moved = list(path)
    if below > model.steps:
        moved[model.steps] = model.corruption.end(path[0]).sample()
    for t in range(min(below, model.steps), 1, -1):
        moved[t - 1] = model.reverse(moved[t], time_of(t, path[0])).sample()
    return moved


def _refreshed(model: Diffusion, path: list[Tensor], rows: Tensor) -> tuple[list[Tensor], Tensor]:
    """The path with its states before a random time proposed by the diffusion, where accepted, and which rows were."""
    if model.steps == 1:
        return path, torch.ones_like(rows[:, 0], dtype=torch.bool)
    below, clean = int(torch.randint(2, model.steps + 1, ())), model.clean(rows)
    moved, log_ratio = list(path), torch.zeros_like(rows[:, 0])
    for t in range(below, 1, -1):
        time = time_of(t, rows)
        proposal = model.corruption.between(moved[t], clean, time - 1, time)
        present = model.corruption.between(path[t], clean, time - 1, time)
        moved[t - 1] = proposal.sample()
        log_ratio += model.reverse(moved[t], time).log_prob(moved[t - 1]) - proposal.log_prob(moved[t - 1])
        log_ratio -= model.reverse(path[t], time).log_prob(path[t - 1]) - present.log_prob(path[t - 1])
    last = time_of(1, rows)
    log_ratio += model.reverse(moved[1], last).log_prob(rows) - model.reverse(path[1], last).log_prob(rows)
    accept = torch.rand_like(log_ratio).log() < log_ratio
    return _chosen(accept, moved, path), accept


def _chosen(accept: Tensor, moved: list[Tensor], path: list[Tensor]) -> list[Tensor]:
    return [torch.where(accept.unsqueeze(-1), b, a) for a, b in zip(path, moved, strict=True)]


def _seen(law: Any, x: Tensor, known: Tensor) -> Tensor:
    return torch.where(known, law.base_dist.log_prob(x), 0.0).sum(-1)


def time_of(t: int, like: Tensor) -> Tensor:
    """A time as a number on a tensor's device."""
    return torch.tensor(t, device=like.device)
