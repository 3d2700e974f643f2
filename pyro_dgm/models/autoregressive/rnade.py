"""Real-valued neural autoregressive density estimator, section 20.10.10."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from ...autoregressive import check_order, plain_order
from ...autoregressive.shared_units import SharedUnits
from ...checks import check_choice, check_columns, check_count
from ..shared.autoregressive import AutoregressiveModel, column_options
from ..shared.examples import seeded


class RNADE(AutoregressiveModel):
    r"""NADE for real columns: conditionals are mixtures of Gaussians or Laplace distributions (Uria et al. 2013).

    $p(x_i \mid x_{<i}) = \sum_k \pi_{ik} \mathcal N(x_i; \mu_{ik}, s_{ik}^2)$, whose logits, means and log scales are linear
    (20.83) in $h_i = f(\rho_i (c + \sum_{j<i} W_j x_j))$. The factors $\rho_i$ are learned: without them later columns, with more
    terms in their sums, would have larger activations. Log-likelihoods are densities, exact, in nats; ``dgm.NADE`` has the same
    conditionals without $\rho$ and with plain gradients.

    A mean's derivative is multiplied by its component's scale (the paper's way), which keeps narrow components from
    dominating: the directions of learning change, the density does not. Columns may be in any units: ``initialise`` takes
    their means and deviations from the first training rows.

    Args:
        visible: the number of columns, D.
        hidden: the number of hidden units, h.
        components: the number of components of every mixture, K.
        output: the family of every component, ``"gaussian"`` or ``"laplace"``.
        order: a permutation of the columns, a number that seeds a random one, or None for left to right.
        activation: f, ``"relu"`` or ``"sigmoid"``.
        scaled_gradient: multiply the means' derivatives by the scales.
        context: columns of a context that shifts the biases linearly; 0 for none.

    Attributes:
        network: ``network.inputs`` is W (``D x 1 x h``), ``network.outputs`` has the rows of the logits, means and log
            scales (``D x 3 K x h``), ``network.scale`` is $\rho$.

    Raises:
        ValueError: no column, hidden unit or component, an unknown family or activation, an order that is no permutation.

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> rnade = dgm.RNADE(4, hidden=20, components=3)
        >>> rnade().log_prob(torch.zeros(2, 4)).shape
        torch.Size([2])
    """

    def __init__(
        self,
        visible: int,
        hidden: int = 50,
        components: int = 10,
        output: str = "gaussian",
        order: Sequence[int] | int | None = None,
        activation: str = "relu",
        scaled_gradient: bool = True,
        context: int = 0,
    ) -> None:
        super().__init__()
        visible, components = (
            check_columns(visible),
            check_count("components", components, what="how many a mixture has"),
        )
        check_choice("output", output, ("gaussian", "laplace"))
        self.visible, self.hidden, self.components, self.output = visible, hidden, components, output
        self.order, self.activation = plain_order(order), activation
        self.scaled_gradient, self.context = scaled_gradient, context
        self.declare(output if components == 1 else f"{output}s:{components}", visible, scaled_gradient)
        self.output = output
        self.network: SharedUnits = SharedUnits(
            check_order(order, visible),
            1,
            self.conditionals.parameters,
            hidden,
            activation,
            rescale=True,
            context=context,
        )

    def options(self) -> dict[str, Any]:
        return {
            "visible": self.visible,
            "hidden": self.hidden,
            "components": self.components,
            **column_options(self.output, self.order, self.context),
            "activation": self.activation,
            "scaled_gradient": self.scaled_gradient,
        }

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(5, hidden=7, components=2, order=[2, 0, 4, 1, 3]), lambda: torch.randn(10, 5))
