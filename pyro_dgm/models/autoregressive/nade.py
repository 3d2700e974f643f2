"""Neural autoregressive density estimator, section 20.10.10."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from torch import Tensor

from ...autoregressive import check_order, plain_order
from ...autoregressive.shared_units import SharedUnits
from ...checks import check_columns
from ..shared.autoregressive import AutoregressiveModel, column_options
from ..shared.examples import bits, seeded


class NADE(AutoregressiveModel):
    r"""Neural autoregressive density estimator (Larochelle and Murray 2011; section 20.10.10).

    $P(x_i = 1 \mid x_{<i}) = \sigma(b_i + V_i h_i)$ with $h_i = \sigma(c + \sum_{j<i} W_j x_j)$ along an order of the
    columns (20.83): $W'_{j,k,i} = W_{j,k}$, so the hidden units of all conditionals share their weights and a row costs O(D h).
    Log-likelihoods are exact, in nats, and so are draws.

    With ``tied`` weights, V = W, the conditional of a column is the first mean-field step by which a restricted
    Boltzmann machine with these weights fills it in, with later columns left out. Categories enter by indicators and
    have a softmax; real columns have means and scales.

    Args:
        visible: the number of columns, D.
        hidden: the number of hidden units, h.
        output: ``"binary"``, ``"categorical:C"``, ``"gaussian"``, ``"gaussians:K"``, ``"laplace"``, ``"laplaces:K"``, or a
            sequence of these, one per column.
        order: a permutation of the columns, a number that seeds a random one, or None for left to right.
        tied: set V = W for the columns' first number, a logit or a mean; for binary columns or single Gaussians or Laplaces.
        activation: the hidden units' non-linearity, ``"sigmoid"`` or ``"relu"``.
        context: columns of a context that shifts the biases b and c linearly; 0 for none.

    Attributes:
        network: ``network.inputs`` is W (``D x F x h``), ``network.outputs`` V (``D x P x h``), ``network.hidden_bias`` c and
            ``network.bias`` b (``D x P``).

    Raises:
        ValueError: no column or hidden unit, an unknown family or activation, an order that is no permutation, tied weights
            with other families.

    See also:
        ``dgm.RNADE`` for real columns, ``dgm.RNNNADE`` for sequences, ``dgm.OrderlessNADE`` for all orders at once.

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> nade = dgm.NADE(6, hidden=20)
        >>> nade().log_prob(torch.zeros(2, 6)).shape, nade.sample(3).shape
        (torch.Size([2]), torch.Size([3, 6]))
    """

    def __init__(
        self,
        visible: int,
        hidden: int = 500,
        output: str | Sequence[str] = "binary",
        order: Sequence[int] | int | None = None,
        tied: bool = False,
        activation: str = "sigmoid",
        context: int = 0,
    ) -> None:
        super().__init__()
        visible = check_columns(visible)
        self.visible, self.hidden, self.output, self.order = visible, hidden, output, plain_order(order)
        self.tied, self.activation, self.context = tied, activation, context
        self.declare(output, visible)
        names = {output} if isinstance(output, str) else set(output)
        if tied and not names <= {"binary", "gaussian", "laplace"}:
            raise ValueError(
                f"tied weights got output={output!r}; expected 'binary', 'gaussian' or 'laplace', whose first number is a "
                "logit or a mean. Choose tied=False"
            )
        self.network: SharedUnits = SharedUnits(
            check_order(order, visible), self.conditionals.features, self.conditionals.parameters, hidden, activation, tied,
            context=context,
        )  # fmt: skip

    def options(self) -> dict[str, Any]:
        return {
            "visible": self.visible,
            "hidden": self.hidden,
            **column_options(self.output, self.order, self.context),
            "tied": self.tied,
            "activation": self.activation,
        }

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(5, hidden=7, order=[2, 0, 4, 1, 3]), lambda: bits(10, 5))
