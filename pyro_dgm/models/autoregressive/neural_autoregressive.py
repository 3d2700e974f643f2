"""Neural autoregressive network with shared groups of features, section 20.10.9."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from torch import Tensor

from ...autoregressive import MaskedNetwork, check_order, plain_order
from ...checks import check_columns, check_count
from ..shared.autoregressive import AutoregressiveModel, column_options
from ..shared.examples import bits, seeded


class NeuralAutoregressive(AutoregressiveModel):
    r"""Neural autoregressive network (Bengio and Bengio 2000): every column has a group of hidden units that later ones share.

    The group of the column at place i sees that column and those before it; the conditional of a column reads the groups
    of all columns before it (figure 20.10). In contrast to (20.83) no weights are tied. Shared groups replace one network
    per conditional, so that features learned for one column serve all later ones. The last column needs no group.
    Log-likelihoods are exact, in nats.

    Args:
        visible: the number of columns, D.
        group: the number of hidden units per column.
        depth: the number of hidden layers; a deeper group sees the groups of its own and of earlier columns in the layer below.
        output: ``"binary"``, ``"categorical:C"``, ``"gaussian"``, ``"gaussians:K"``, ``"laplace"``, ``"laplaces:K"``, or a
            sequence of these, one per column.
        order: a permutation of the columns, a number that seeds a random one, or None for left to right.
        activation: the non-linearity: tanh, relu, silu or softplus.
        direct: add linear terms of all columns before, besides the groups.
        context: columns of a context that all groups and conditionals see; 0 for none.

    Attributes:
        network: the masked layers: ``hidden``, ``last`` and, with ``direct``, ``direct``.

    Raises:
        ValueError: fewer than two columns, no group or layer, an unknown family or activation, an order that is no permutation.

    See also:
        ``dgm.MADE``, where hidden units may see any number of columns and orders may be several.

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> network = dgm.NeuralAutoregressive(4, group=8, output=["binary", "categorical:3", "gaussian", "binary"])
        >>> network().log_prob(torch.tensor([[1.0, 2.0, -0.3, 0.0]])).shape
        torch.Size([1])
    """

    def __init__(
        self,
        visible: int,
        group: int = 5,
        depth: int = 1,
        output: str | Sequence[str] = "binary",
        order: Sequence[int] | int | None = None,
        activation: str = "tanh",
        direct: bool = False,
        context: int = 0,
    ) -> None:
        super().__init__()
        visible = check_columns(visible, 2)
        group = check_count("group", group, what="the hidden units per column")
        depth = check_count("depth", depth, what="the number of hidden layers")
        self.visible, self.group, self.depth, self.context = visible, group, depth, context
        self.output, self.order, self.activation, self.direct = output, plain_order(order), activation, direct
        self.declare(output, visible)
        degrees = [place for place in range(1, visible) for _ in range(group)]
        self.network: MaskedNetwork = MaskedNetwork(
            check_order(order, visible), self.conditionals.features, self.conditionals.parameters, [degrees] * depth,
            activation, direct, context=context,
        )  # fmt: skip

    def options(self) -> dict[str, Any]:
        return {
            "visible": self.visible,
            "group": self.group,
            "depth": self.depth,
            **column_options(self.output, self.order, self.context),
            "activation": self.activation,
            "direct": self.direct,
        }

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(5, group=3, order=[2, 0, 4, 1, 3], direct=True), lambda: bits(10, 5))
