"""The base of Boltzmann models of rows with their class, which are classifiers too."""

from __future__ import annotations

from typing import Any, Literal, cast

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ...checks import check_belongs, check_choice, check_one_hot
from ...energy import log_sum
from ...objectives.criteria.labelled import Hybrid
from ...objectives.objective import Objective
from ...objectives.phases.objective import NegativePhaseObjective
from .abilities import check_options
from .evidence import Evidence, between
from .label_columns import LabelColumns
from .model import Program
from .rows import PROGRESS_ROWS, ROWS_AT_ONCE, check_rows


class LabelledModel(LabelColumns):
    r"""A Boltzmann model of rows with labels whose hidden units can be summed out for every class.

    ``model(x)`` has the sites ``"x"``, the
    visible columns under $p(x)$, and ``"label"`` under $p(y \mid x)$, which is exact: the hidden units are summed out for every
    class. Their log-probabilities sum to $\log p(x, y)$. Rows whose label is NaN are trained and evaluated by $\log p(x)$.
    """

    takes_missing = True

    def scores(self, x: Tensor) -> Tensor:
        r"""$\log p(x, y) + \log Z$ of every class y: ``batch_shape x classes``, in nats.

        Args:
            x: visible columns, ``batch_shape x visible``; a label behind them is ignored.

        Raises:
            ValueError: rows of another width, or none, and visible columns that are NaN or infinite.
        """
        columns = self.observed(x)["visible"]
        check_rows(columns.reshape(-1, columns.shape[-1]), torch.Size([self.visible]), type(self).__name__)
        return self.label_scores(columns)

    def label_scores(self, x: Tensor) -> Tensor:
        """``scores`` of visible columns that nobody looks at, for steps of training."""
        each = torch.eye(self.classes, dtype=x.dtype, device=x.device).unsqueeze(-2)
        return log_sum(self().machine, {"visible": x.unsqueeze(-2), "label": each})

    def predict_proba(self, x: Tensor) -> Tensor:
        r"""$p(y \mid x)$: ``rows x classes``.

        Args:
            x: rows; a label behind the visible columns is ignored.

        Raises:
            ValueError: rows of another width.
        """
        if isinstance(x, Tensor) and x.shape[1:] == (self.visible + self.classes,):
            x = x[:, : self.visible]
        check_rows(x, torch.Size([self.visible]), type(self).__name__)
        with torch.no_grad():
            return torch.cat([torch.softmax(self.label_scores(rows), -1) for rows in x.split(ROWS_AT_ONCE)])

    @property
    def labels(self) -> Program:
        """The program of the site ``"label"`` alone, given the rows: ``labels(x, size=None)``."""
        return Program(self, "label_rows", needs_rows=True)

    def generate(self, x: Tensor | None = None, size: int | None = None) -> Tensor:
        machine = self()
        seen = {} if x is None else self.observed(x)
        with self.data_plate(x, size):
            columns = pyro.sample("x", machine, obs=seen.get("visible"))
            if x is not None and "label" not in seen:
                return columns
            return torch.cat([columns, self._label(columns, seen)], -1)

    def label_rows(self, x: Tensor, size: int | None = None) -> Tensor:
        """The body of ``labels``."""
        seen = self.observed(x)
        with self.data_plate(x, size):
            return self._label(seen["visible"], seen)

    def _label(self, columns: Tensor, seen: dict[str, Tensor]) -> Tensor:
        given = dist.OneHotCategorical(logits=self.label_scores(columns))
        return pyro.sample("label", given, obs=seen["label"].squeeze(-2) if "label" in seen else None)

    def objective(  # type: ignore[override]
        self,
        criterion: Literal["generative", "discriminative", "hybrid"] = "hybrid",
        generative: float | None = None,
        unlabelled: float = 0.0,
        kind: Literal["pcd", "cd", "exact"] = "cd",
        k: int | tuple[int, int] | None = None,
        chains: int | None = None,
        precision: Literal["float32", "bfloat16"] = "float32",
        sparsity: float | dict[str, float] | None = None,
        sparsity_weight: float | None = None,
    ) -> Objective:
        r"""Maximise $\log p(x, y)$, $\log p(y \mid x)$, or $\log p(y \mid x) + \alpha \log p(x, y)$ (``dgm.Hybrid``).

        Args:
            criterion: ``"generative"``, ``"discriminative"`` or ``"hybrid"``.
            generative: of hybrid, $\alpha$, 0.01 by default.
            unlabelled: the weight of $\log p(x)$ of rows whose label is NaN; with 0 such rows have no part.
            kind, k, chains, precision: the negative phase, as for other machines.
            sparsity: the share of rows in which hidden units are to be on (``dgm.Sparsity``), or one per layer by name.
            sparsity_weight: its weight, 1 by default.

        Raises:
            ValueError: an unknown criterion or kind, or an option of another one.
        """
        check_choice("criterion", criterion, ("generative", "discriminative", "hybrid"))
        check_choice("kind", kind, ("pcd", "cd", "exact"))
        check_belongs("criterion", criterion, ["hybrid"], generative=generative)
        likelihood = cast(
            NegativePhaseObjective,
            super().objective(kind, k, chains, precision=precision, sparsity=sparsity, sparsity_weight=sparsity_weight),
        )
        weights = {"generative": (0.0, 1.0), "discriminative": (1.0, 0.0)}
        first, second = weights.get(criterion, (1.0, 0.01 if generative is None else generative))
        return Hybrid(likelihood.phase, first, second, unlabelled, likelihood.sparsity)

    def evidence(self, x: Tensor, method: str | None = None, **options: Any) -> Evidence:
        r"""$\log p(x, y)$ of rows with labels, $\log p(x)$ of rows without, with log Z exact or by annealing.

        Args:
            x: data.
            method: ``"exact"``, ``"ais"`` or ``"bridge"``, as for other Boltzmann machines.
            options: those of ``dgm.log_partition``.
        """
        check_options(self, options, self.evidence_arguments(method))
        log_z = self.log_partition(x, method, **options)
        with torch.no_grad():
            values = torch.cat([self._log_sums(rows) for rows in x.split(ROWS_AT_ONCE)])
        return between(values - log_z.value, log_z)

    def _log_sums(self, x: Tensor) -> Tensor:
        """The log-sum over all layers that each row does not observe: one figure per row."""
        machine, seen, known = self().machine, self.observed(x), self.has_label(x)
        values = x.new_empty(len(x))
        if known.any():
            values[known] = log_sum(machine, {layer: state[known] for layer, state in seen.items()})
        if not known.all():
            values[~known] = log_sum(machine, {"visible": seen["visible"][~known]})
        return values

    def progress(self, train: Tensor, valid: Tensor) -> dict[str, float]:
        """The share of validation rows whose class is not the most probable one, $\\log p(y \\mid x)$, the free-energy gap."""
        with torch.no_grad():
            machine = self().machine
            splits = [rows[:PROGRESS_ROWS] for rows in (train, valid)]
            free = [-log_sum(machine, {"visible": self.observed(rows)["visible"]}).mean() for rows in splits]
            figures = {"free_energy_gap": float(free[1] - free[0])}
            rows = splits[1][self.has_label(splits[1])]
            if len(rows):
                seen = self.observed(rows)
                log_p, truth = torch.log_softmax(self.label_scores(seen["visible"]), -1), seen["label"].squeeze(-2)
                figures["valid_log_label"] = float((log_p * truth).sum(-1).mean())
                figures["valid_error"] = float((log_p.argmax(-1) != truth.argmax(-1)).double().mean())
        return figures

    def check_data(self, x: Tensor) -> None:
        labelled = isinstance(x, Tensor) and x.shape[1:] == (self.visible + self.classes,)
        columns = x[:, : self.visible] if labelled else x
        super().check_data(columns)
        if (holes := columns.isnan().any(1)).any():
            raise ValueError(
                f"{type(self).__name__} got NaN in visible columns, first in row {int(holes.nonzero()[0])}; p(label | x) needs "
                "them all, and only labels may be missing. Drop or impute those rows"
            )
        if labelled:
            label = x[:, self.visible :]
            known = ~label.isnan().all(1)
            if known.any():
                check_one_hot(label[known], type(self).__name__)
