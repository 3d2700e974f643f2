"""The likelihood of some columns of rows given the others, under machines of bits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...annealing import log_partition
from ...autoregressive.conditionals import check_known
from ...energy import BoltzmannDistribution, summable
from ...energy.mean_field import free_energy_bound
from .abilities import check_options, keywords
from .boltzmann import BoltzmannModel
from .evidence import Evidence, between, bounded
from .many_machines import log_partitions
from .rows import ROWS_AT_ONCE


@torch.no_grad()
def conditional_evidence(
    model: BoltzmannModel, x: Tensor, known: Tensor, method: str | None = None, **options: Any
) -> Evidence:
    r"""$\log p(x_a \mid x_b) = -F(x) - \log \sum_{x_a, h} e^{-E(x_a, x_b, h)}$ of every row: the machine's own log Z cancels.

    The sum is the log Z of a machine per row, of what is not known; it is exact or annealed from both sides. Where the hidden
    units are too many to be summed, F is its variational bound (20.35), and the figure a lower bound.

    Args:
        model: a Boltzmann machine of visible bits.
        x: rows.
        known: booleans, of the shape of a row or of all rows.
        method: ``"exact"``, ``"ais"`` or ``"bridge"``, by default exact where all rows' states can be listed.
        options: those of ``dgm.log_partition``.

    Raises:
        ValueError: rows with other layers than the visible one, visible units that are no bits.
    """
    check_options(model, options, keywords(log_partition))
    dist = model()
    if model.observed(x).keys() != {dist.visible}:
        raise ValueError("x has labels behind its columns; give the visible columns alone")
    known = check_known(x, known)

    def left(rows: Tensor) -> BoltzmannDistribution:
        return dist.given_entries(rows.nan_to_num(), ~rows.isnan())[0]

    if method != "exact":
        options.setdefault("base", "mean-field")  # known bits leave few modes
    log_z = log_partitions(left, torch.where(known, x, torch.nan), method, **options)
    pairs = zip(x.split(ROWS_AT_ONCE), known.split(ROWS_AT_ONCE), strict=True)
    constant = torch.cat([dist.given_entries(rows, mask)[1] for rows, mask in pairs])
    if summable(dist.machine, {dist.visible: x[:1]}):
        free_energy = torch.cat([dist.free_energy(rows) for rows in x.split(ROWS_AT_ONCE)])
        return between(-free_energy - constant - log_z.value, log_z)
    parts = [free_energy_bound(dist.machine, {dist.visible: rows}, rounds=50) for rows in x.split(ROWS_AT_ONCE)]
    return bounded(-torch.cat(parts) - constant, log_z)
