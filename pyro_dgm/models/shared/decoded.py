"""The base of models whose columns come from a decoder: the likelihood and its checks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ... import advice
from ...checks import check_belongs, check_choice, check_columns
from ...distributions.discretised_logistic import LOGISTIC_SPREAD, DiscretisedLogistic, GreyLevels, check_levels
from ...inference.light import some_missing
from ...nets.bodies import picture_sizes
from ...nets.scaling import ColumnScaling
from .latent import LatentVariableModel
from .rows import check_binary, check_support, filled_by_others

BODIES = ("dense", "convolutional")
OUTPUTS = ("binary", "gaussian", "logistic")
"""The kinds of columns."""

LARGEST_LOG_SCALE = 15.0
"""The largest absolute log standard deviation of latents: gradients take its fourth power times a square."""


class DecodedModel(LatentVariableModel):
    """A latent-variable model whose columns are observed through a decoder, independent of one another given the latents.

    Rows may have missing values (NaN): the encoder sees zeros there (of Gaussian columns the mean), and the likelihood is that
    of the known values.

    Where the decoder's last layer has a bias with one entry per column, ``initialise`` starts it at the data's means. Gaussian
    and logistic columns learn one ``log_scale`` each; Gaussian ones may be in any units, since ``initialise`` takes their means
    and deviations from data and the networks see them scaled (``scaling``). A ``log_scale`` is then in units of the deviation.

    Args:
        visible: the number of columns that are observed.
        output: the kind of the columns: ``"binary"``, ``"gaussian"`` or ``"logistic"``.
        levels: grey levels of ``"logistic"``, 256 by default.

    Raises:
        ValueError: no column, an unknown output, fewer than two levels, or levels of another output.
    """

    guide_needs_rows = True
    takes_missing = True
    rounds_safely = True

    decoder: nn.Module

    def __init__(self, visible: int, output: str, levels: int | None) -> None:
        super().__init__()
        check_choice("output", output, OUTPUTS)
        check_belongs("output", output, ["logistic"], levels=levels)
        visible = check_columns(visible)
        self.visible, self.output, self.levels = visible, output, check_levels(256 if levels is None else levels)
        if output != "binary":
            self.log_scale = nn.Parameter(torch.zeros(visible))
        self.scaling = ColumnScaling(visible) if output == "gaussian" else None

    def columns(self, output: Tensor) -> Any:
        """The distributions of the columns given the decoder's output: ``batch_shape x visible``."""
        if self.output == "binary":
            return dist.Bernoulli(logits=output)
        if self.scaling is not None:
            return dist.Normal(self.scaling.back(output), self.scaling.scale * self.log_scale.exp())
        return DiscretisedLogistic(output, self.log_scale.exp(), self.levels)

    def seen(self, x: Tensor) -> Tensor:
        """Rows as the encoder sees them: Gaussian columns standardised, what stands behind them unchanged."""
        if self.scaling is not None:
            x = torch.cat([self.scaling(x[..., : self.visible]), x[..., self.visible :]], -1)
        return torch.where(x.isnan(), 0.0, x) if some_missing(x) else x

    def initialise(self, x: Tensor) -> None:
        """Start the decoder's output bias and the scales at the means and scales of the columns.

        Gaussian columns are scaled to mean 0 and variance 1 for both networks.
        """
        with torch.no_grad():
            x = filled_by_others(x[:, : self.visible])
            if self.scaling is not None:
                self.scaling.fit(x)
                x = self.scaling(x)
            mean, last = x.mean(0), self.decoder[-1] if isinstance(self.decoder, nn.Sequential) else self.decoder
            bias = getattr(last, "bias", None)
            if isinstance(bias, nn.Parameter) and bias.shape == mean.shape:
                bias.copy_(torch.logit(mean, eps=1e-2) if self.output == "binary" else mean)
            if self.output != "binary":
                spread = LOGISTIC_SPREAD if self.output == "logistic" else 1.0
                self.log_scale.copy_(x.std(0, correction=0).clamp_min(1e-2).log() - math.log(spread))

    def check_columns(self, x: Tensor) -> None:
        """Raise ``ValueError`` where observed columns hold values that they cannot take."""
        name = type(self).__name__
        if self.output == "binary":
            check_binary(x, f"{name} with binary output", "choose output='gaussian' (--set output=gaussian)")
        if self.output == "logistic":
            last = self.levels - 1
            check_support(
                x, GreyLevels(self.levels).check, f"{name} with logistic output",
                f"a grey level, k / {last} for k = 0 to {last}",
                lambda: advice.on_levels(x, "say how many levels there are by levels=, or choose output='gaussian'"),
            )  # fmt: skip

    def output_options(self) -> dict[str, Any]:
        """The options that this class takes."""
        levels = {"levels": self.levels} if self.output == "logistic" else {}
        return {"output": self.output, **levels}


def check_body(body: str, shape: Sequence[int] | None, channels: Sequence[int] | None, visible: int) -> tuple[int, ...]:
    """Check that a body goes with a shape, and return the channels of every convolution, (32, 64) by default.

    Raises:
        ValueError: an unknown body, or a shape that is missing, not wanted, or of another number of pixels; channels of a
            dense body.
    """
    check_choice("body", body, BODIES)
    if (body == "convolutional") != (shape is not None):
        expected = "that of a picture, as in shape=(28, 28)" if shape is None else "none, or body='convolutional'"
        raise ValueError(f"shape got {shape!r} with body={body!r}; expected {expected}")
    check_belongs("body", body, ["convolutional"], channels=channels)
    widths = (32, 64) if channels is None else tuple(channels)
    if shape is not None and math.prod(picture_sizes(shape, widths)[0]) != visible:
        raise ValueError(f"shape got {shape!r}, {math.prod(shape)} pixels; expected {visible}, the number of columns")
    return widths


def diagonal(output: Tensor) -> dist.TorchDistribution:
    """A diagonal normal from means and log standard deviations: ``batch_shape x 2 latent`` to ``event_shape`` (latent,).

    Log standard deviations are clipped at ``LARGEST_LOG_SCALE`` on either side.
    """
    location, log_scale = output.chunk(2, -1)
    scale = log_scale.clamp(-LARGEST_LOG_SCALE, LARGEST_LOG_SCALE).exp()
    return dist.Normal(location, scale).to_event(1)
