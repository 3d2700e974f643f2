"""Gaussian-Bernoulli restricted Boltzmann machine, section 20.5.1."""

from __future__ import annotations

from typing import Any, Self

import torch
from pyro.distributions import Normal
from torch import Tensor, nn

from ...columns import location_and_variance
from ...energy import Binary, BoltzmannDistribution, Dense, Gaussian, Graph
from ..shared.examples import seeded
from ..shared.real_valued import RealValuedModel
from ..shared.shifts import shifted

_PRECISIONS = ("fixed", "scalar", "diagonal")


class GaussianRBM(RealValuedModel):
    r"""Restricted Boltzmann machine with real-valued visible and binary hidden units (Welling et al. 2004).

    $E(v, h) = \tfrac12 (v - a)^\top(\beta \odot (v - a)) - (v \odot \beta)^\top W h - b^\top h$ (20.38-42), so that
    $v \mid h \sim N(a + Wh, \mathrm{diag}(\beta)^{-1})$ (20.38-39) and
    $P(h_j = 1 \mid v) = \sigma(b_j + (v \odot \beta)^\top W_{:,j})$. With ``optional_term`` the energy also has
    $\tfrac12 \sum_j h_j \sum_i \beta_i W_{ij}^2$ (20.41), a shift of the hidden bias: a hidden unit then changes
    $\log p$ by its bias alone where hidden units do not overlap. All in nats over real rows: a figure depends on the
    data's scale.

    ``grbm()`` is a distribution of ``event_shape`` (visible,); with a shift of the hidden bias it has its batch shape. A
    first ``fit`` sets a, and a learned precision, from the data's means and variances, and scales W to them; a fixed precision
    of one fits standardised data.

    Args:
        visible: the number of visible units.
        hidden: the number of hidden units.
        precision: ``"diagonal"`` or ``"scalar"`` for a learned $\beta$, ``"fixed"`` for $\beta = 1$, or the fixed value
            itself (a positive number, or a tensor or list of ``visible`` of them).
        optional_term: add the term of (20.41).

    Attributes:
        weight: $W$, ``visible x hidden``.
        visible_bias: $a$, ``visible``.
        hidden_bias: $b$, ``hidden``.
        log_precision: $\log\beta$, ``visible`` or a scalar; a parameter where it is learned.

    Raises:
        ValueError: a number of units below one; an unknown ``precision``, or one that is not positive.

    See also:
        ``dgm.SpikeSlabRBM``, whose covariance depends on the hidden units.

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> grbm = dgm.GaussianRBM(visible=6, hidden=4)
        >>> grbm.conditional(torch.zeros(2, 4)).mean.shape
        torch.Size([2, 6])
    """

    log_precision: Tensor

    def __init__(
        self,
        visible: int,
        hidden: int = 500,
        precision: str | float | Tensor | list[float] = "diagonal",
        optional_term: bool = False,
    ) -> None:
        super().__init__()
        self._graph = Graph({"visible": Gaussian(visible), "hidden": Binary(hidden)}, [Dense("visible", "hidden")])
        self.visible, self.hidden, self.optional_term = visible, hidden, optional_term
        self.weight = nn.Parameter(0.01 * torch.randn(visible, hidden))
        self.visible_bias = nn.Parameter(torch.zeros(visible))
        self.hidden_bias = nn.Parameter(torch.zeros(hidden))
        self.learned = isinstance(precision, str) and precision in ("scalar", "diagonal")
        if self.learned:
            self.precision: Any = precision
            self.log_precision = nn.Parameter(torch.zeros(visible if precision == "diagonal" else ()))
        else:
            value = _fixed(precision, visible)
            self.precision = precision if isinstance(precision, str) else value.tolist()
            self.register_buffer("log_precision", value.log())

    def forward(self, hidden_shift: Tensor | None = None) -> BoltzmannDistribution:
        r"""The distribution of the visible layer.

        Args:
            hidden_shift: added to $b$, ``batch_shape x hidden``: with a context every row has its own machine.
        """
        beta = self.beta
        coupling = beta.unsqueeze(-1) * self.weight
        hidden = shifted(self.hidden_bias, hidden_shift, "hidden_shift")
        if self.optional_term:
            hidden = hidden - 0.5 * (coupling * self.weight).sum(0)
        origin = self.visible_bias.detach()
        visible = (beta * (self.visible_bias - origin), -0.5 * beta)
        biases = {"visible": visible, "hidden": (hidden,)}
        return BoltzmannDistribution(self._graph.at(visible=origin), biases, (coupling,))

    @property
    def beta(self) -> Tensor:
        r"""$\beta$, ``visible``."""
        return self.log_precision.exp().expand(self.visible)

    def conditional(self, h: Tensor) -> Normal:
        """p(v | h) (20.38-39), one normal distribution per visible unit: ``batch_shape x visible``."""
        return Normal(self.visible_bias + h @ self.weight.mT, self.beta.rsqrt())

    def initialise(self, x: Tensor) -> None:
        r"""Set a to the data's means and a learned precision to their inverse variances, unless a was set already.

        W is multiplied by $\beta^{-1/2}$, column by column, so that it moves every column by a like share of its standard
        deviation; and b is lowered by $(\beta \odot a)^\top W$, so that hidden units see rows as they lie about their mean.
        """
        if bool(self.visible_bias.detach().any()) or bool(self.log_precision.detach().any() and self.learned):
            return
        with torch.no_grad():
            location, variance = location_and_variance(x)
            self.visible_bias.copy_(location)
            if self.learned:
                self.log_precision.copy_(-(variance.mean() if self.precision == "scalar" else variance).log())
            self.weight.mul_(self.beta.rsqrt().unsqueeze(-1))
            self.hidden_bias.sub_((self.beta * location) @ self.weight)

    def visible_biases(self) -> tuple[Tensor, ...]:
        return (self.visible_bias,)

    def options(self) -> dict[str, Any]:
        return {
            "visible": self.visible,
            "hidden": self.hidden,
            "precision": self.precision,
            "optional_term": self.optional_term,
        }

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(visible=5, hidden=3), lambda: torch.randn(10, 5), scale=0.7)


def _fixed(precision: Any, visible: int) -> Tensor:
    """Check a precision that is not learned, and return its value."""
    if isinstance(precision, str):
        if precision != "fixed":
            raise ValueError(
                f"precision got {precision!r}; expected one of {', '.join(_PRECISIONS)}, or a positive value"
            )
        return torch.ones(())
    try:
        value = torch.as_tensor(precision, dtype=torch.get_default_dtype()).detach().clone()
    except (TypeError, ValueError, RuntimeError):
        value = None
    if value is None or isinstance(precision, bool):
        raise ValueError(
            f"precision got {precision!r}; expected one of {', '.join(_PRECISIONS)}, or a positive value, or one for each of "
            f"{visible} units"
        )
    if value.shape not in ((), (visible,)):
        raise ValueError(
            f"precision got shape {tuple(value.shape)}; expected a number, or one for each of {visible} units"
        )
    if not ((value > 0) & value.isfinite()).all():
        raise ValueError(f"precision got {value.tolist()}; expected positive numbers (inverse variances)")
    return value
