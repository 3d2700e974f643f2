"""Generative stochastic network, section 20.12."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import pyro.distributions as dist
import torch
from torch import Tensor

from ...checks import check_choice, check_count, check_counts, check_positive
from ...energy import State
from ...nets.bodies import ACTIVATIONS
from ...nets.ladder import Ladder, SequenceLadder
from ...nets.modes import evaluating
from ...objectives.criteria.walkback import Costs, Walkback
from ...objectives.objective import Objective
from ..shared.examples import bits, seeded
from ..shared.rebuilding import RebuildingModel
from ..shared.rebuilt import Corruption, FlatOneHot
from ..shared.rows import PROGRESS_ROWS, ROWS_AT_ONCE, check_rows


class GSN(RebuildingModel):
    r"""A chain over rows and hidden layers, trained to come back to the data (20.12; Bengio et al. 2014).

    $h^{(k)} \sim p(h \mid h^{(k-1)}, x^{(k-1)}), \quad x^{(k)} \sim p(x \mid h^{(k)})$;

    the model is the law of x that the chain tends to. A step corrupts the row, computes the odd hidden layers from their
    neighbours and then the even ones,

    $h_l = s(h_{l-1} W_l + h_{l+1} W_{l+1}^\top + b_l + \epsilon) + \epsilon'$, $\epsilon, \epsilon' \sim N(0, \sigma_l^2)$,

    and draws the row given $h_1$. Without hidden noise and with one layer it is a denoising autoencoder. With ``classes`` the
    row's label is drawn given the top layer, which sees the last label: trained on the label alone the network is a
    classifier, on both it is a hybrid (``dgm.Walkback``), and it draws rows of a class.

    There is no likelihood, and the chain is in general not reversible, so that conditionals by clamping are approximate.

    Args:
        visible: the number of columns without the label.
        hidden: units of the hidden layers, the lowest first.
        classes: the number of classes; rows then end with a one-hot label.
        output, corruption, level, levels, shared_noise: the columns, as for ``dgm.DenoisingAutoencoder``.
        activation: the non-linearity: tanh, relu, silu, softplus, sigmoid or leaky_relu.
        noise: $\sigma$ of the top layer alone, or one number for every hidden layer.
        tied: each pair of layers has one matrix for both directions.
        frames: rows are sequences of so many frames, side by side: layers are convolutions along them, ``hidden`` counts the
            units of a frame, and with ``classes`` every frame has a label (of a residue in a protein, say; Zhou and Troyanskaya
            2014). All sequences have the same length: cut longer ones into windows.
        kernel: the frames that a unit sees, odd; 5 by default.

    Raises:
        ValueError: a number below one, a negative noise, columns that are not whole frames, or an unknown option.

    Example:
        >>> import pyro_dgm as dgm
        >>> dgm.GSN(6, hidden=(8, 5), classes=3).sample(4, labels=2)[:, 6:].argmax(1)
        tensor([2, 2, 2, 2])
    """

    def __init__(
        self,
        visible: int,
        hidden: Sequence[int] = (1500, 1500),
        classes: int = 0,
        output: str = "binary",
        corruption: str | Corruption | None = None,
        level: float | None = None,
        levels: int | None = None,
        shared_noise: bool | None = None,
        activation: str = "tanh",
        noise: float | Sequence[float] = 2.0,
        tied: bool = True,
        frames: int | None = None,
        kernel: int | None = None,
    ) -> None:
        classes = check_count("classes", classes, 0, "the number of classes, 0 for rows without labels")
        if classes == 1:
            raise ValueError("classes got 1; expected at least 2, or 0 for rows without labels")
        super().__init__(visible, classes, output, corruption, level, levels, shared_noise)
        if frames is None and kernel is not None:
            raise ValueError(f"kernel got {kernel!r} without frames; it counts frames of sequences, as in frames=100")
        if frames is not None and self.visible % check_count("frames", frames):
            raise ValueError(f"frames got {frames} with {self.visible} columns; expected a number that divides them")
        self.frames, self.kernel = frames, 5 if kernel is None else kernel
        self.hidden = check_counts("hidden", hidden, "the units of at least one hidden layer", "(1500, 1500)")
        check_choice("activation", activation, ACTIVATIONS)
        self.activation, self.tied = activation, bool(tied)
        each = [0.0] * (len(self.hidden) - 1) + [noise] if isinstance(noise, int | float) else noise
        if not isinstance(each, Sequence) or len(each) != len(self.hidden):
            raise ValueError(
                f"noise got {noise!r}; expected a number, or one for each of {len(self.hidden)} hidden layers"
            )
        for width in each:
            check_positive("noise", width, "the standard deviation of a layer's noise", zero=True)
        self.noise = [float(width) for width in each]
        self.depth = len(self.hidden)
        self.nonlinear = ACTIVATIONS[activation]()
        self.ladder = self._ladder((self.visible // (frames or 1), *self.hidden), self.kernel)
        self.top = self._ladder((self.hidden[-1], classes), 1) if classes else None
        if self.top is not None:
            self.top.biases[0].requires_grad_(False)  # the top layer has its bias already

    def _ladder(self, sizes: Sequence[int], kernel: int) -> Ladder | SequenceLadder:
        if self.frames is None:
            return Ladder(sizes, self.tied)
        return SequenceLadder(sizes, self.frames, kernel, self.tied)

    def sizes(self) -> dict[str, int]:
        labels = self.classes * (self.frames or 1)
        return {"visible": self.visible} | ({"label": labels} if labels else {})

    def opening(self, x: Tensor) -> State:
        hidden = {f"hidden_{k}": x.new_zeros(len(x), self.ladder.width(k)) for k in range(1, self.depth + 1)}
        label = {"label": x.new_zeros(len(x), self.sizes()["label"])} if self.classes else {}
        return {"visible": x, **hidden, **label, "log_step": x.new_zeros(len(x))}

    def rebuild(self, state: State, clean: Mapping[str, Tensor] | None = None) -> tuple[State, dict[str, Any]]:
        x = state["visible"]
        noisy = self.columns.corrupt(x)
        if clean is not None and "visible" in clean:
            noisy = torch.where(clean["visible"], x, noisy)
        hidden = self.layers(self.columns.seen(noisy), state, self.noise)
        values = {f"hidden_{layer + 1}": value for layer, value in enumerate(hidden)}
        laws: dict[str, Any] = {"visible": self.columns.law(self._output(hidden))}
        if self.top is not None:
            laws["label"] = self._label(self.top.up(1, hidden[-1]))
        return values, laws

    def _label(self, logits: Tensor) -> dist.TorchDistribution:
        """The law of the label, or of the labels of all frames side by side."""
        if self.frames is None:
            return dist.OneHotCategorical(logits=logits)
        return FlatOneHot(logits.unflatten(-1, (self.frames, self.classes)))

    def layers(self, seen: Tensor, state: State, noise: Sequence[float]) -> list[Tensor]:
        """The hidden layers after one step: odd ones from their neighbours, then even ones.

        Args:
            seen: the visible columns as the network sees them.
            state: the last hidden layers and label.
            noise: the standard deviation of every layer's noise.
        """
        values = [seen, *(state[f"hidden_{layer + 1}"] for layer in range(len(self.hidden)))]
        depth = self.depth
        for layer in (*range(1, depth + 1, 2), *range(2, depth + 1, 2)):
            total = self.ladder.up(layer, values[layer - 1])
            if layer < depth:
                total = total + self.ladder.down(layer + 1, values[layer + 1])
            elif self.top is not None:
                total = total + self.top.down(1, state["label"])
            width = noise[layer - 1]
            if width:
                total = total.add(torch.randn_like(total), alpha=width)
            values[layer] = self.nonlinear(total)
            if width:
                values[layer] = values[layer].add(torch.randn_like(total), alpha=width)
        return values[1:]

    def _output(self, hidden: Sequence[Tensor]) -> Tensor:
        return self.ladder.down(1, hidden[0]) + self.ladder.bias(0)

    def _quiet(self, x: Tensor) -> list[Tensor]:
        """The hidden layers of rows that are held, after as many steps as there are layers, without any noise."""
        state, seen = self.opening(x), self.columns.seen(x)
        for _ in range(self.depth):
            layers = self.layers(seen, state, [0.0] * len(self.hidden))
            state |= {f"hidden_{number + 1}": value for number, value in enumerate(layers)}
        return layers

    def output_at(self, x: Tensor) -> Tensor:
        return self._output(self._quiet(x))

    def label_at(self, x: Tensor) -> Tensor:
        return super().label_at(x) if self.top is None else self._label(self.top.up(1, self._quiet(x)[-1])).mean

    def hidden_features(self, x: Tensor) -> Tensor:
        """All hidden layers of rows that are held, without noise: ``rows x features``."""
        with torch.no_grad(), evaluating(self):
            return torch.cat(self._quiet(x[:, : self.visible]), -1)

    def predict_proba(self, x: Tensor, steps: int = 20, noisy: bool = True) -> Tensor:
        r"""The label's law averaged over a chain whose visible columns are held: ``rows x classes``.

        With frames it is ``rows x frames x classes``.

        Args:
            x: rows; a label behind the visible columns is ignored.
            steps: the steps that are averaged, after as many first ones as there are hidden layers.
            noisy: let corruption and hidden noise be as in training.

        Raises:
            ValueError: no classes, rows of another width, or fewer than one step.
        """
        if self.top is None:
            raise ValueError("this GSN has no classes; make it with classes=10, say, and train it on labelled rows")
        check_count("steps", steps, what="the steps that are averaged")
        if isinstance(x, Tensor) and x.shape[1:] == self.data_shape():
            x = x[:, : self.visible]
        check_rows(x, torch.Size([self.visible]), type(self).__name__)
        with torch.no_grad(), evaluating(self):
            return torch.cat([self._label_law(rows, steps, noisy) for rows in x.split(ROWS_AT_ONCE)])

    def _label_law(self, x: Tensor, steps: int, noisy: bool) -> Tensor:
        state, total = self.opening(x), x.new_zeros(len(x), self.sizes()["label"])
        for step in range(-self.depth, steps):
            seen = self.columns.seen(self.columns.corrupt(x) if noisy else x)
            layers = self.layers(seen, state, self.noise if noisy else [0.0] * len(self.hidden))
            label = self._label(self.top.up(1, layers[-1]))  # type: ignore[union-attr]
            total += label.mean if step >= 0 else 0.0
            state |= {f"hidden_{number + 1}": value for number, value in enumerate(layers)}
            state["label"] = label.sample() if noisy else label.mean
        return self._by_frame(total / steps)

    def _by_frame(self, labels: Tensor) -> Tensor:
        """The columns of labels, by frame where there are frames."""
        return labels if self.frames is None else labels.unflatten(-1, (self.frames, self.classes))

    def progress(self, train: Tensor, valid: Tensor) -> dict[str, float]:
        """The log-probability of rebuilt validation rows, in nats per row, and with classes the share that is misclassified."""
        figures = super().progress(train, valid)
        if self.top is None:
            return figures
        rows = valid[:PROGRESS_ROWS]
        law, truth = self.predict_proba(rows), self._by_frame(rows[:, self.visible :]).argmax(-1)
        right = law.gather(-1, truth.unsqueeze(-1)).clamp_min(torch.finfo(law.dtype).tiny)  # may have underflowed
        found = {"valid_log_label": float(right.log().mean())}
        return found | {"valid_error": float((law.argmax(-1) != truth).double().mean()), **figures}

    def last_bias(self) -> Tensor | None:
        return self.ladder.biases[0] if self.frames is None else None

    def objective(
        self,
        steps: int = 4,
        visible: float = 1.0,
        label: float = 1.0,
        given: float = 0.0,
        costs: Costs = "all",
        geometric: bool = False,
    ) -> Objective:
        """Walkback over a chain from every row (``dgm.Walkback``).

        Args:
            steps, visible, label, given, costs, geometric: as for ``dgm.Walkback``.
        """
        return Walkback(steps, visible, label, given, costs, geometric)

    def options(self) -> dict[str, Any]:
        return {
            "visible": self.visible, "hidden": list(self.hidden), "classes": self.classes, **self.column_options(),
            "activation": self.activation, "noise": self.noise, "tied": self.tied,
            **({} if self.frames is None else {"frames": self.frames, "kernel": self.kernel}),
        }  # fmt: skip

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(4, hidden=(6, 5)), lambda: bits(10, 4))
