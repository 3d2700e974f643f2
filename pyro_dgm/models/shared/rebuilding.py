"""The base of models that corrupt rows and rebuild them, step after step."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...checks import check_belongs, check_choice, check_one_hot
from ...energy import Clamp, State
from ...nets.modes import evaluating
from .rebuilt import Bits, Corruption, GaussianColumns, OneHotColumns, RebuiltColumns
from .rows import PROGRESS_ROWS
from .walking import WalkingModel

OUTPUTS = ("binary", "gaussian", "categorical")


class RebuildingModel(WalkingModel):
    r"""A model whose step corrupts a row and draws it anew: $\tilde x \sim C(\tilde x \mid x)$, $x' \sim P(x \mid \tilde x, h)$.

    Args:
        visible: the number of columns without the label.
        classes: the number of classes.
        output: ``"binary"``, ``"gaussian"`` or ``"categorical"``.
        corruption: the name of a corruption, or a function of rows.
        level: its strength.
        levels: of categorical columns, the columns of a group.
        shared_noise: of Gaussian columns, one variance for all.

    Attributes:
        depth: the steps until all hidden units have seen a row.

    Raises:
        ValueError: an unknown output or corruption, or an option of another one.
    """

    depth = 1

    def __init__(
        self,
        visible: int,
        classes: int,
        output: str,
        corruption: str | Corruption | None,
        level: float | None,
        levels: int | None,
        shared_noise: bool | None,
    ) -> None:
        super().__init__()
        check_choice("output", output, OUTPUTS)
        check_belongs("output", output, ["categorical"], levels=levels)
        check_belongs("output", output, ["gaussian"], shared_noise=shared_noise)
        if output == "categorical" and levels is None:
            raise ValueError(
                "levels is missing; categorical columns come in groups of levels=... columns, one of them on"
            )
        self.output, self.levels, self.shared_noise = output, levels, shared_noise
        self.columns: RebuiltColumns
        if output == "binary":
            self.columns = Bits(visible, corruption, level)
        elif output == "gaussian":
            self.columns = GaussianColumns(visible, corruption, level, bool(shared_noise))
        else:
            self.columns = OneHotColumns(visible, corruption, level, int(levels or 0))
        self.visible, self.classes = self.columns.visible, classes
        self.corruption, self.level = self.columns.corruption, self.columns.level
        if not isinstance(self.corruption, str):
            self.own_networks["corruption"] = getattr(self.corruption, "__name__", type(self.corruption).__name__)

    @abstractmethod
    def rebuild(self, state: State, clean: Mapping[str, Tensor] | None = None) -> tuple[State, dict[str, Any]]:
        """Corrupt the rows of a state, and compute hidden units and the laws of the layers that rows hold.

        Args:
            state: the chains' state.
            clean: by layer, booleans of entries that are not corrupted, because they are known.

        Returns:
            the new states of hidden layers, with their gradient; and the distributions of rows by layer.
        """

    @abstractmethod
    def output_at(self, x: Tensor) -> Tensor:
        """The network's output for visible rows without any noise: ``rows x outputs``."""

    def draw(self, layer: str, law: Any, held: tuple[Tensor, Tensor] | None) -> Tensor:
        """Draw a layer from its law given its known entries; columns are independent, so that these are put back."""
        value = self.columns.drawn(law) if layer == "visible" else law.sample()
        return value if held is None else torch.where(held[0], held[1], value)

    def clean(self, clamp: Clamp | None) -> dict[str, Tensor] | None:
        """The known entries that steps do not corrupt; by default all are, as in training."""
        return None

    def next_state(self, state: State, clamp: Clamp | None) -> State:
        hidden, laws = self.rebuild(state, self.clean(clamp))
        held = clamp or {}
        drawn = {layer: self.draw(layer, law, held.get(layer)) for layer, law in laws.items()}
        return hidden | drawn | {"log_step": sum(law.log_prob(drawn[layer]) for layer, law in laws.items())}

    def first_rows(self, n: int) -> Tensor:
        return self.columns.first(n)

    def seen(self, x: Tensor) -> Tensor:
        return self.columns.seen(x)

    def sample_means(self, n: int, steps: int = 200) -> Tensor:
        """The means of rows one step after the last of as many chains, which published pictures show: ``n x visible``.

        They are no draws of the model: a picture of means looks smoother than its draws.

        Args:
            n: the number of rows.
            steps: the steps of each chain.
        """
        state = self.walked(n, steps)
        with torch.no_grad(), evaluating(self):
            return self.rebuild(state)[1]["visible"].mean

    def reconstruct(self, x: Tensor) -> Tensor:
        """The means of the columns, and of the label's, given the ``hidden_features`` of rows: ``rows x event_shape``."""
        seen = x[..., : self.visible]
        with torch.no_grad(), evaluating(self):
            return torch.cat([self.columns.law(self.output_at(seen)).mean, self.label_at(seen)], -1)

    def label_at(self, x: Tensor) -> Tensor:
        """The means of the label's columns for visible rows without any noise: ``rows x columns``, none without labels."""
        return x.new_zeros(*x.shape[:-1], 0)

    def initialise(self, x: Tensor) -> None:
        """Take means (and scales of Gaussian columns) from data, and start the output's bias at the means."""
        with torch.no_grad():
            self.columns.initialise(x[:, : self.visible])
            bias = self.last_bias()
            if bias is not None and not self.own_networks.keys() - {"corruption"}:
                bias.copy_(self.columns.bias())

    def last_bias(self) -> Tensor | None:
        """The bias of the visible columns, one number each; None where there is none."""
        return None

    def settle(self, valid: Tensor) -> None:
        """Measure the variance of Gaussian columns on held-out rows, at the noise of the chain."""
        rows = valid[:PROGRESS_ROWS, : self.visible]
        with torch.no_grad():
            state = self.opening(rows)
            for _ in range(self.depth):
                hidden, laws = self.rebuild(state)
                state = state | hidden
            self.columns.settle(rows, laws["visible"].mean)

    def progress(self, train: Tensor, valid: Tensor) -> dict[str, float]:
        """The log-probability of validation rows rebuilt from corrupted ones, in nats per row."""
        rows = self.observed(valid[:PROGRESS_ROWS])
        with torch.no_grad():
            _, laws = self.rebuild(self.opening(rows["visible"]))
            return {"valid_log_rebuilt": float(laws["visible"].log_prob(rows["visible"]).mean())}

    def check_held(self, layer: str, known: Tensor, value: Tensor) -> None:
        super().check_held(layer, known, value)
        name = f"the clamp of {layer!r} of {type(self).__name__}"
        if layer == "label":
            each, labels = (t.unflatten(-1, (-1, self.classes)) for t in (known, value))
            whole = each.all(-1)
            if bool((each.any(-1) & ~whole).any()):
                raise ValueError(f"{name} knows a part of a label; mark all its columns alike")
            if bool(whole.any()):
                check_one_hot(labels[whole], name)
        else:
            self.columns.check_known(known, name)
            self.columns.check(torch.where(known, value, self.columns.neutral()), name)

    def check_data(self, x: Tensor) -> None:
        super().check_data(x)
        self.columns.check(x[:, : self.visible], type(self).__name__)
        if self.classes:
            check_one_hot(x[:, self.visible :].reshape(-1, self.classes), type(self).__name__)

    def column_options(self) -> dict[str, Any]:
        """The options of this class."""
        named = {"corruption": self.corruption, "level": self.level} if isinstance(self.corruption, str) else {}
        kinds = {"levels": self.levels, "shared_noise": self.shared_noise}
        return {"output": self.output, **named, **{key: value for key, value in kinds.items() if value is not None}}
