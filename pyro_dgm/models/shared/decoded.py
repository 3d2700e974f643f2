"""The base of models whose columns come out of a decoder: their likelihood and its checks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ...checks import check_choice, check_columns
from ...distributions.discretised_logistic import LOGISTIC_SPREAD, DiscretisedLogistic, GreyLevels, check_levels
from ...nets.bodies import picture_sizes
from .latent import LatentVariableModel
from .rows import check_binary, check_support

BODIES = ("dense", "convolutional")
LIKELIHOODS = ("bernoulli", "gaussian", "logistic")


class DecodedModel(LatentVariableModel):
    """A latent-variable model whose columns are observed through a decoder, independent of one another given the latents.

    ``decoder[-1].bias`` is one a column. A likelihood with a scale learns one a column, ``log_scale``.

    Args:
        visible: the number of columns that are observed.
        likelihood: ``"bernoulli"``, ``"gaussian"`` or ``"logistic"``.
        levels: grey levels of ``"logistic"``.

    Raises:
        ValueError: no column, an unknown likelihood, or fewer than two levels.
    """

    guide_needs_rows = True

    decoder: nn.Sequential

    def __init__(self, visible: int, likelihood: str, levels: int) -> None:
        super().__init__()
        check_choice("likelihood", likelihood, LIKELIHOODS)
        visible = check_columns(visible)
        self.visible, self.likelihood, self.levels = visible, likelihood, check_levels(levels)
        if likelihood != "bernoulli":
            self.log_scale = nn.Parameter(torch.zeros(visible))

    def columns(self, output: Tensor) -> Any:
        """The distributions of the columns that a decoder's output stands for: ``batch_shape x visible``."""
        if self.likelihood == "bernoulli":
            return dist.Bernoulli(logits=output)
        if self.likelihood == "gaussian":
            return dist.Normal(output, self.log_scale.exp())
        return DiscretisedLogistic(output, self.log_scale.exp(), self.levels)

    def initialise(self, x: Tensor) -> None:
        """Start the decoder's output bias at the columns' means, and their scales at those of the columns."""
        with torch.no_grad():
            x = x[:, : self.visible]
            mean, output = x.mean(0), cast(nn.Linear, self.decoder[-1])
            output.bias.copy_(torch.logit(mean, eps=1e-2) if self.likelihood == "bernoulli" else mean)
            if self.likelihood != "bernoulli":
                spread = LOGISTIC_SPREAD if self.likelihood == "logistic" else 1.0
                self.log_scale.copy_(x.std(0).clamp_min(1e-2).log() - math.log(spread))

    def check_columns(self, x: Tensor) -> None:
        """Raise ``ValueError`` where observed columns hold values that the likelihood has not."""
        name = type(self).__name__
        if self.likelihood == "bernoulli":
            check_binary(x, f"{name} with a Bernoulli likelihood", "; or choose likelihood='gaussian'")
        if self.likelihood == "logistic":
            last = self.levels - 1
            check_support(
                x, GreyLevels(self.levels).check, f"{name} with a logistic likelihood",
                f"a grey level, k / {last} for k = 0 to {last}",
                "Divide bytes by 255, say how many levels there are by levels=, or choose likelihood='gaussian'",
            )  # fmt: skip

    def likelihood_options(self) -> dict[str, Any]:
        """The options that this class takes."""
        levels = {"levels": self.levels} if self.likelihood == "logistic" else {}
        return {"likelihood": self.likelihood, **levels}


def check_body(body: str, shape: Sequence[int] | None, channels: Sequence[int], visible: int) -> None:
    """Refuse a body that does not go with the shape.

    Raises:
        ValueError: an unknown body, or a shape that is missing, not wanted, or of another number of pixels.
    """
    check_choice("body", body, BODIES)
    if (body == "convolutional") != (shape is not None):
        expected = "that of a picture, as in shape=(28, 28)" if shape is None else "none, or body='convolutional'"
        raise ValueError(f"shape got {shape!r} with body={body!r}; expected {expected}")
    if shape is not None and math.prod(picture_sizes(shape, channels)[0]) != visible:
        raise ValueError(f"shape got {shape!r}, {math.prod(shape)} pixels; expected {visible}, the number of columns")


def diagonal(output: Tensor) -> dist.TorchDistribution:
    """A diagonal normal of means and log standard deviations: ``batch_shape x 2 latent`` to ``event_shape`` (latent,)."""
    location, log_scale = output.chunk(2, -1)
    return dist.Normal(location, log_scale.exp()).to_event(1)
