"""Real-valued columns: mixtures of normal or Laplace distributions."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import log_softmax

from .discrete import category
from .family import Output

FLOOR = 1e-3
"""The smallest scale of a real-valued column; without it a density could grow without bound."""

LARGEST_LOG_SCALE = 30.0
"""The largest logarithm of a scale that counts: larger ones could overflow in single precision."""


class MixtureOutput(Output):
    r"""A mixture of K normal or Laplace distributions.

    $p(x_i \mid x_{<i}) = \sum_k \pi_{ik}\, f((x_i - \mu_{ik}) / s_{ik}) / s_{ik}$ with the standard density f of the family.
    The numbers of a column are K logits, K means and K logarithms of scales, to which 0.001 is added. With one component
    it is a single Gaussian (or Laplace distribution) without a logit.

    With ``scaled_gradient`` the derivative by a mean is multiplied by its scale, so that sharp components do not dominate
    the others (Uria, Murray and Larochelle 2013). This changes the direction of learning and not the density.

    Args:
        components: the number of components of a column's mixture, K.
        family: ``"gaussian"`` or ``"laplace"``.
        scaled_gradient: multiply the means' derivatives by the scales.
    """

    support = constraints.real

    def __init__(self, components: int = 1, family: str = "gaussian", scaled_gradient: bool = False) -> None:
        self.components, self.family, self.scaled_gradient = components, family, scaled_gradient
        self.parameters = 3 * components if components > 1 else 2
        self.spread = (1,) if components == 1 else ()
        self.least_squares = components == 1 and family == "gaussian"

    def _parts(self, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, means and scales, each ``... x D x K``."""
        *logits, means, log_scales = numbers.split(self.components, -1)
        scales = FLOOR + log_scales.clamp_max(LARGEST_LOG_SCALE).exp()
        if self.scaled_gradient and means.requires_grad:
            means = means.detach() + (means - means.detach()) * scales.detach()
        return logits[0] if logits else torch.zeros_like(means), means, scales

    def log_prob(self, numbers: Tensor, value: Tensor) -> Tensor:
        logits, means, scales = self._parts(numbers)
        z = (value.unsqueeze(-1) - means) / scales
        shape = -0.5 * z**2 - 0.5 * math.log(2 * math.pi) if self.family == "gaussian" else -z.abs() - math.log(2)
        component_log_probs = shape - scales.log()
        return (
            component_log_probs.squeeze(-1)
            if self.components == 1
            else (log_softmax(logits, -1) + component_log_probs).logsumexp(-1)
        )

    def sample(self, numbers: Tensor) -> Tensor:
        logits, means, scales = self._parts(numbers)
        chosen = category(logits).unsqueeze(-1)
        noise = torch.randn_like(means[..., 0])
        if self.family == "laplace":
            # A difference of exponentials; the inverse of the distribution function is infinite where a uniform is zero.
            noise = torch.empty_like(noise).exponential_() - torch.empty_like(noise).exponential_()
        return means.gather(-1, chosen).squeeze(-1) + scales.gather(-1, chosen).squeeze(-1) * noise

    def expected(self, numbers: Tensor) -> Tensor:
        logits, means, _ = self._parts(numbers)
        return (logits.softmax(-1) * means).sum(-1, keepdim=True)

    def start(self, x: Tensor) -> Tensor:
        mean, spread = x.mean(0), x.std(0, correction=0).clamp_min(1e-2)
        if self.components == 1:
            return torch.stack([mean, spread.log()], -1)
        offsets = torch.linspace(-1.5, 1.5, self.components, device=x.device, dtype=x.dtype)
        means = mean.unsqueeze(-1) + spread.unsqueeze(-1) * offsets
        scales = (2 * spread / self.components**0.5).log().unsqueeze(-1).expand_as(means)
        return torch.cat([torch.zeros_like(means), means, scales], -1)
