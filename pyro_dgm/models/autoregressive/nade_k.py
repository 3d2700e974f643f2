"""NADE-k, section 20.10.10."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from torch import Tensor

from ...autoregressive.orderless_bodies import Perceptron, RepeatedInference
from ...checks import check_counts
from ..shared.examples import bits, seeded
from ..shared.orderless import OrderlessModel


class NADEk(OrderlessModel):
    r"""NADE-k: orderless NADE that fills in the unknown columns k times before it answers (Raiko, Yao, Cho and Bengio 2014).

    Unknown columns start at the data's means. Each round feeds the present values and the mask through one perceptron, the same
    in all rounds, and replaces unknown values by the means of their conditionals. The conditionals of round k are the
    model's; orders make distributions of them as in (20.83) and (20.84). Log-likelihoods are exact, in nats.
    Training is order-agnostic, with the loss averaged over the rounds. With ``k=1`` it is ``dgm.OrderlessNADE`` with unknown
    columns at their means rather than zero, which the mask's weights can undo. NADE with tied weights is the first
    mean-field step of an RBM that fills in missing inputs; NADE-k continues with further steps.

    Args:
        visible: the number of columns, D.
        hidden: units of every hidden layer.
        k: the number of rounds of inference.
        output: as in ``dgm.OrderlessNADE``.
        orders: the number of random orders that the model averages.
        activation: the non-linearity: tanh, relu, silu or softplus.
        seed: the seed of the orders.
        context: columns of a context that shifts the first layer's sums and the numbers linearly; 0 for none.

    Attributes:
        body: ``body.perceptron`` is the perceptron of all rounds, ``body.means`` are the values before the first round.

    Raises:
        ValueError: no column, no hidden layer, no round, no order, an unknown family or activation.

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> nade = dgm.NADEk(4, hidden=(8,), k=2)
        >>> nade().log_prob(torch.zeros(3, 4)).shape
        torch.Size([3])
    """

    def __init__(
        self,
        visible: int,
        hidden: Sequence[int] = (500,),
        k: int = 5,
        output: str | Sequence[str] = "binary",
        orders: int = 1,
        activation: str = "tanh",
        seed: int = 0,
        context: int = 0,
    ) -> None:
        super().__init__(visible, output, orders, seed, context)
        self.hidden, self.activation, self.k = check_counts("hidden", hidden, example="(500,)"), activation, k
        perceptron = Perceptron(visible, self.conditionals, hidden, activation, context)
        self.body = RepeatedInference(visible, self.conditionals, perceptron, k)

    def options(self) -> dict[str, Any]:
        architecture = {"hidden": list(self.hidden), "k": self.k, "activation": self.activation}
        return super().options() | architecture

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(5, hidden=(6,), k=3, orders=2), lambda: bits(10, 5), scale=1.0)
