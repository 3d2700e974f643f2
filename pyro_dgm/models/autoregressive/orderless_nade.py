"""Orderless and deep NADE, section 20.10.10."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from torch import Tensor

from ...autoregressive.orderless_bodies import Perceptron, SubsetPerceptron
from ...checks import check_counts
from ..shared.examples import bits, seeded
from ..shared.orderless import OrderlessModel


class OrderlessNADE(OrderlessModel):
    r"""Orderless NADE: one perceptron gives $p(x_i \mid x_{\mathrm{known}})$ for any known columns; deep with several layers.

    The perceptron sees $(m \odot x, m)$, where the mask m tells which columns are known, and gives the numbers of all columns.
    An order o of the columns makes it a distribution,
    $p(x \mid o) = \prod_d p(x_{o_d} \mid x_{o_1}, \dots, x_{o_{d-1}})$ as in (20.83), with weights that all orders share; the
    model is the mixture of ``orders`` random orders (20.84). Log-likelihoods are exact, in nats. Training draws random
    subsets (``dgm.OrderAgnostic``), and any conditional $p(x_a \mid x_b)$ follows from an order that begins with the columns of b
    (``complete``). Different orders may disagree with each other: see ``complete``. Uria, Murray and Larochelle (2014);
    Uria, Cote, Gregor, Murray and Larochelle (2016).

    Args:
        visible: the number of columns, D.
        hidden: units of every hidden layer.
        output: ``"binary"``, ``"categorical:C"``, ``"gaussian"``, ``"gaussians:K"``, ``"laplace"``, ``"laplaces:K"``, or a
            sequence of these, one per column.
        orders: the number of random orders that the model averages; ``dgm.log_likelihood(model, x, orders=16)`` takes
            another number.
        activation: the non-linearity: tanh, relu, silu or softplus.
        seed: the seed of the orders.
        context: columns of a context that shifts the first layer's sums and the numbers linearly; 0 for none.

    Attributes:
        body: ``body.perceptron.first`` sees the columns' features and masks side by side.

    Raises:
        ValueError: no column, no hidden layer, no order, an unknown family or activation.

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> nade = dgm.OrderlessNADE(4, hidden=(8,), orders=2)
        >>> nade().log_prob(torch.zeros(3, 4)).shape
        torch.Size([3])
    """

    def __init__(
        self,
        visible: int,
        hidden: Sequence[int] = (500,),
        output: str | Sequence[str] = "binary",
        orders: int = 1,
        activation: str = "relu",
        seed: int = 0,
        context: int = 0,
    ) -> None:
        super().__init__(visible, output, orders, seed, context)
        self.hidden, self.activation = check_counts("hidden", hidden, example="(500,)"), activation
        perceptron = Perceptron(visible, self.conditionals, hidden, activation, context)
        self.body = SubsetPerceptron(visible, self.conditionals, perceptron)

    def options(self) -> dict[str, Any]:
        architecture = {"hidden": list(self.hidden), "activation": self.activation}
        return super().options() | architecture

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(5, hidden=(6,), orders=2), lambda: bits(10, 5), scale=1.0)
