"""Denoising autoencoder as a Markov chain, section 20.11."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from ...checks import check_choice, check_counts
from ...energy import Clamp, State
from ...nets.bodies import ACTIVATIONS, Convolutions, TransposedConvolutions, mlp
from ...nets.ladder import TiedAutoencoder
from ...nets.modes import evaluating
from ...objectives.criteria.walkback import Costs, Denoising
from ...objectives.objective import Objective
from ..shared.decoded import check_body
from ..shared.examples import bits, seeded
from ..shared.generator import bias_of
from ..shared.own_networks import network
from ..shared.rebuilding import RebuildingModel
from ..shared.rebuilt import Corruption


class DenoisingAutoencoder(RebuildingModel):
    r"""The law that a chain of corruptions and reconstructions tends to (20.11; Bengio, Yao, Alain and Vincent 2013).

    A step corrupts the row, $\tilde x \sim C(\tilde x \mid x)$, encodes it, $h = f(\tilde x)$, and draws a row from the law
    that the code stands for, $x' \sim P(x \mid \omega = g(h))$. If P is the posterior of data under their corruption, the chain
    tends to the data's law. Training maximises $E \log P(x \mid \tilde x)$ (``dgm.Denoising``, with walkback if you like).

    Columns are independent in P, so that the limit is biased by their dependence given $\tilde x$: less noise means less bias
    and slower mixing. Of Gaussian columns the noise of P is the squared error of g on held-out rows at the chain's own noise
    level, which ``fit`` measures after every epoch; without it the chain's variance would be halved however small the
    corruption. For small noise $(g(f(x)) - x) / \sigma^2$ is the score of the smoothed law (``score``).

    There is no likelihood. ``dgm.condition`` clamps the chain, which is approximate; with ``masks`` the network is trained on
    rows of which a part is known and clean, and told which.

    Args:
        visible: the number of columns.
        hidden: units of the encoder's layers; the decoder has them in reverse.
        output: ``"binary"``, ``"gaussian"`` or ``"categorical"`` (one-hot groups of ``levels`` columns).
        corruption: of binary columns ``"salt_and_pepper"`` (a fair bit in place of a share of the entries), ``"flip"`` or
            ``"masking"``; of Gaussian ones ``"gaussian"`` or ``"masking"``; of categorical ones ``"replace"`` or ``"masking"``;
            the first by default; or ``"none"``. Or a function of rows that returns corrupted ones, by torch's random numbers.
        level: the share of entries that are hit, or the standard deviation of Gaussian noise in units of the columns'.
        levels: the columns of a one-hot group.
        shared_noise: of Gaussian columns, one variance of P for all.
        activation: the non-linearity: tanh, relu, silu, softplus, sigmoid or leaky_relu.
        tied: the decoder has the encoder's weights, transposed; dense only.
        masks: the network takes a second set of columns that say which entries are known.
        body: ``"dense"`` or ``"convolutional"``.
        shape: height and width of a picture, or channels, height and width; for the convolutional body.
        channels: the channels of every convolution.
        autoencoder: a network of your own, rows to outputs, in place of encoder and decoder. A saved run cannot rebuild it.

    Raises:
        ValueError: a number below one, an unknown option, or options that do not go together.

    Example:
        >>> import pyro_dgm as dgm
        >>> dgm.DenoisingAutoencoder(6, hidden=(8,), corruption="flip", level=0.1).sample(3).shape
        torch.Size([3, 6])
    """

    rounds_safely = True

    def __init__(
        self,
        visible: int,
        hidden: Sequence[int] = (2000,),
        output: str = "binary",
        corruption: str | Corruption | None = None,
        level: float | None = None,
        levels: int | None = None,
        shared_noise: bool | None = None,
        activation: str = "sigmoid",
        tied: bool = False,
        masks: bool = False,
        body: str = "dense",
        shape: Sequence[int] | None = None,
        channels: Sequence[int] | None = None,
        autoencoder: nn.Module | None = None,
    ) -> None:
        super().__init__(visible, 0, output, corruption, level, levels, shared_noise)
        self.hidden = check_counts("hidden", hidden, "the units of at least one hidden layer", "(2000,)")
        check_choice("activation", activation, ACTIVATIONS)
        self.channels = check_body(body, shape, channels, self.visible)
        self.body, self.shape, self.activation = body, shape, activation
        self.tied, self.masks = bool(tied), bool(masks)
        if tied and (masks or body != "dense"):
            raise ValueError(
                "tied=True goes with body='dense' and without masks: the decoder is the encoder transposed"
            )
        inputs = self.visible * (2 if masks else 1)
        self.autoencoder = network(self, "autoencoder", autoencoder, self._network, inputs, self.columns.outputs)

    def _network(self) -> nn.Module:
        if self.tied:
            return TiedAutoencoder((self.visible, *self.hidden), self.activation)
        inputs, nonlinear = self.visible * (2 if self.masks else 1), ACTIVATIONS[self.activation]
        if self.shape is None:
            sizes = (inputs, *self.hidden, *reversed(self.hidden[:-1]), self.visible)
            return mlp(sizes, self.activation)
        channels, *sides = (1, *self.shape) if len(self.shape) == 2 else self.shape
        below = Convolutions((channels * (2 if self.masks else 1), *sides), self.channels, self.activation)
        above = TransposedConvolutions(self.shape, self.channels, self.activation)
        return nn.Sequential(
            below, *mlp((below.features, *self.hidden, above.features), self.activation), nonlinear(), above
        )

    def opening(self, x: Tensor) -> State:
        return {"visible": x, "log_step": x.new_zeros(len(x))}

    def rebuild(self, state: State, clean: Mapping[str, Tensor] | None = None) -> tuple[State, dict[str, Any]]:
        x = state["visible"]
        noisy, known = self.columns.corrupt(x), None
        if clean is not None:
            known = clean["visible"].expand(x.shape)
            noisy = torch.where(known, x, noisy)
        return {}, {"visible": self.columns.law(self._output(noisy, known))}

    def _output(self, x: Tensor, known: Tensor | None = None) -> Tensor:
        seen = self.columns.seen(x)
        if self.masks:
            mask = torch.zeros_like(seen) if known is None else known.to(seen)
            seen = torch.cat([seen, mask], -1)
        return self.autoencoder(seen)

    def output_at(self, x: Tensor) -> Tensor:
        return self._output(x)

    def clean(self, clamp: Clamp | None) -> dict[str, Tensor] | None:
        """With ``masks`` the known entries, as in training."""
        return None if clamp is None or not self.masks else {layer: mask for layer, (mask, _) in clamp.items()}

    def score(self, x: Tensor) -> Tensor:
        r"""$(r(x) - x) / \sigma^2$, the gradient of the log-density of data plus noise where r is the best reconstruction.

        $\sigma$ is that of the Gaussian corruption, and the density is that of the data smoothed by it (20.11; Alain and
        Bengio 2014).

        Args:
            x: rows, ``rows x visible``.

        Raises:
            ValueError: another corruption than Gaussian noise.
        """
        if self.corruption != "gaussian" or self.level is None:
            raise ValueError(f"score needs corruption='gaussian'; this autoencoder has {self.corruption!r}")
        with torch.no_grad(), evaluating(self):
            scaling: Any = self.columns.scaling
            return (self.columns.law(self._output(x)).mean - x) / (self.level * scaling.scale).square()

    def hidden_features(self, x: Tensor) -> Tensor:
        """The code f(x) of rows without corruption: ``rows x features``.

        Raises:
            ValueError: a network of one's own, whose code is not known, or convolutions.
        """
        if "autoencoder" in self.own_networks or self.shape is not None:
            return super().hidden_features(x)
        with torch.no_grad(), evaluating(self):
            seen = self.columns.seen(x)
            if isinstance(self.autoencoder, TiedAutoencoder):
                return self.autoencoder.encode(seen)
            seen = torch.cat([seen, torch.zeros_like(seen)], -1) if self.masks else seen
            return self.autoencoder[: 2 * len(self.hidden)](seen)  # type: ignore[index]

    def last_bias(self) -> Tensor | None:
        if isinstance(self.autoencoder, TiedAutoencoder):
            return self.autoencoder.ladder.biases[0]
        return bias_of(self.autoencoder, self.visible)

    def objective(self, steps: int = 1, costs: Costs = "all", geometric: bool = False) -> Objective:
        """Denoising, with walkback for more than one step (``dgm.Denoising``).

        Args:
            steps, costs, geometric: as for ``dgm.Denoising``.
        """
        return Denoising(steps, costs, geometric)

    def options(self) -> dict[str, Any]:
        picture = {} if self.shape is None else {"shape": list(self.shape), "channels": list(self.channels)}
        return {
            "visible": self.visible, "hidden": list(self.hidden), **self.column_options(), "activation": self.activation,
            "tied": self.tied, "masks": self.masks, "body": self.body, **picture,
        }  # fmt: skip

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(4, hidden=(6,)), lambda: bits(10, 4))
