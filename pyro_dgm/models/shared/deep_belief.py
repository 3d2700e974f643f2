"""The base of belief networks whose two top layers are a Boltzmann machine."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ...annealing import log_partition
from ...checks import check_choice, check_count
from ...energy import BoltzmannDistribution, LogPartition, log_states
from ...energy.enumeration import LARGEST
from ...objectives import PCD
from ...objectives.estimators.wake_sleep import WakeSleep
from ...objectives.objective import Objective
from ...objectives.phases.phase import KnownLogPartition
from ...objectives.phases.program import negative_phase
from ...signatures import Option
from .abilities import check_options, keywords
from .evidence import WIDTH, Evidence
from .latent import LatentVariableModel


class DeepBeliefModel(LatentVariableModel):
    """A belief network below a Boltzmann machine of its two top layers, with a guide that goes upwards.

    Attributes:
        hidden: one entry for every hidden layer.
        weights, biases: those of the model, the lowest layer's first.
        recognition_weights, recognition_biases: those of the guide.
    """

    hidden: tuple[Any, ...]
    weights: nn.ParameterList
    biases: nn.ParameterList
    recognition_weights: nn.ParameterList
    recognition_biases: nn.ParameterList

    @property
    def depth(self) -> int:
        """The number of hidden layers."""
        return len(self.hidden)

    def layer_number(self, layer: int | None) -> int:
        """The number of a layer, from 1; by default the highest's, and 0 for the rows.

        Raises:
            ValueError: there is no such layer.
        """
        number = self.depth if layer is None else check_count("layer", layer, 0, "the number of a layer")
        if number > self.depth:
            raise ValueError(
                f"layer got {number}; expected at most {self.depth}, the highest layer's, or 0 for the rows"
            )
        return number

    @abstractmethod
    def top(self) -> BoltzmannDistribution:
        """The top machine, a distribution of the highest layer but one."""

    @abstractmethod
    def top_rows(self, rows: Tensor) -> Tensor:
        """States of the top machine's visible layer that the guide draws for rows of data."""

    def upward(self) -> list[tuple[Tensor, Tensor]]:
        """The weights and biases of the upward pass; those of the top machine are last."""
        return [
            *zip(self.recognition_weights, self.recognition_biases, strict=True),
            (self.weights[-1], self.biases[-1]),
        ]

    def classifier_input(self, x: Tensor) -> Tensor:
        """The input of ``to_mlp``'s network: the rows themselves."""
        return x

    @abstractmethod
    def to_mlp(self, classes: int, dropout: float = 0.0) -> nn.Module:
        """A classifier that starts from the upward pass, with fresh class scores on top.

        Args:
            classes: the number of classes.
            dropout: the share of hidden units dropped in training.
        """

    def objective(
        self, kind: Literal["pcd"] = "pcd", k: int | tuple[int, int] = 1, chains: int = 100, sleep: float = 1.0
    ) -> Objective:
        """Wake-sleep with persistent chains in the top machine (the up-down algorithm)."""
        check_choice("kind", kind, ("pcd",))
        return WakeSleep(PCD(k, chains), sleep)

    def evidence(
        self, x: Tensor, method: str | None = None, *, particles: int = 100, rows: int = 4000, **options: Any
    ) -> Evidence:
        r"""The importance-weighted bound from the guide's draws, with the top machine's log Z exact or by annealing.

        Args:
            x: data.
            method: ``"exact"`` or ``"ais"`` for the top machine's log Z.
            particles: K; 1 gives the variational bound of the papers.
            rows: particles times rows of one pass; it bounds the memory and changes nothing else.
            options: of ``dgm.log_partition``.

        Raises:
            ValueError: another option.
        """
        check_options(self, options, self.evidence_arguments(method))
        log_z = self.log_partition(x, method, **options)
        program = negative_phase(self.model, KnownLogPartition(log_z.value))
        weighted = self._importance_weighted(program, x, particles, rows)
        return Evidence(
            weighted.values,
            kind="exact" if log_z.exact and self.depth == 1 else "lower bound",
            method=f"{weighted.method}, log Z of the top machine: {log_z.method}",
            stderr=(weighted.stderr**2 + float(log_z.stderr) ** 2) ** 0.5 if self.depth > 1 else float(log_z.stderr),
            lower=weighted.lower + min(float(log_z.value - log_z.upper - WIDTH * log_z.stderr_upper), 0.0),
            upper=0.0 if log_z.exact and self.depth == 1 else weighted.upper,
            details={**weighted.details, "log_partition": float(log_z.value)},
        )

    def evidence_arguments(self, method: str | None = None) -> dict[str, Option]:
        return keywords(DeepBeliefModel.evidence) | keywords(log_partition)

    def log_partition(self, rows: Tensor, method: str | None = None, **options: Any) -> LogPartition:
        """Log Z of the top machine in nats: exact, or by annealing from the data's means in its visible layer.

        Args:
            rows: data.
            method: ``"exact"``, ``"ais"`` or ``"bridge"``. By default exact where the states can be listed and no option asks
                for annealing, else ``"ais"``.
            options: those of ``dgm.log_partition``, ``base`` as rows of the top machine.
        """
        with torch.no_grad():
            top = self.top()
            small = log_states(top.machine, {}) <= LARGEST
            method = method or ("exact" if small and not options else "ais")
            if method != "exact":
                options.setdefault("base", self.top_rows(rows))
            return log_partition(top, method, **options)
