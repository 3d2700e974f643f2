"""Masked autoencoder for distribution estimation, section 20.10.10."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

import torch
from torch import Tensor

from ...autoregressive import AutoregressiveDistribution, MaskedNetwork, Network, check_order, plain_order
from ...checks import check_choice, check_columns, check_count, check_counts, check_seed
from ...objectives.criteria.next_mask import NextMask
from ...objectives.objective import Elbo, Objective
from ..shared.autoregressive import AutoregressiveModel, column_options
from ..shared.examples import bits, seeded


class MADE(AutoregressiveModel):
    r"""Masked autoencoder (Germain, Gregor, Murray and Larochelle 2015): one pass gives all conditionals.

    A hidden unit of degree d sees the first d columns of the order, and the conditional of the column at place i the units
    of degree up to i. With several masks the model is the mixture $p(x) = \frac1K \sum_k p(x \mid o_k)$ (20.84) of K orders
    and connections, which share one set of weights. Likelihoods are averaged; training by ``objective("next")``
    takes one mask per batch. Log-likelihoods are exact, in nats.

    Args:
        visible: the number of columns, D.
        hidden: units of the hidden layers.
        output: ``"binary"``, ``"categorical:C"``, ``"gaussian"``, ``"gaussians:K"``, ``"laplace"``, ``"laplaces:K"``, or a
            sequence of these, one per column.
        order: the order of the first mask: a permutation, a number that seeds a random one, or None for left to right.
        masks: the number of masks, K.
        orders: ``"all"`` gives every mask after the first a random order, ``"first"`` the order of the first.
        degrees: ``"even"`` spreads 1 to D - 1 evenly over the units of every layer, so that two units or more reach all
            places; ``"random"`` draws them for every mask, none below the smallest of the layer before; ``"cyclic"``
            repeats 1, 2, 3 … along the units, and where these are fewer than D - 1 later columns reach no unit.
        activation: the non-linearity: tanh, relu, silu or softplus.
        direct: add linear terms of all columns before, besides the hidden units.
        context: columns of a context that all units and conditionals see; 0 for none.
        seed: the seed of the random orders and degrees.

    Attributes:
        network: the masked layers, with the first mask.
        layouts: the order and the hidden units' degrees of every mask.

    Raises:
        ValueError: fewer than two columns, no hidden unit or mask, masks that would all be the same, an unknown
            family, activation, choice of orders or degrees, an order that is no permutation, a seed that is no number.

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> made = dgm.MADE(6, hidden=(20,), masks=4)
        >>> made().log_prob(torch.zeros(2, 6)).shape, len(made().members)
        (torch.Size([2]), 4)
    """

    rounds_safely = True

    def __init__(
        self,
        visible: int,
        hidden: Sequence[int] = (500,),
        output: str | Sequence[str] = "binary",
        order: Sequence[int] | int | None = None,
        masks: int = 1,
        orders: str = "all",
        degrees: str = "even",
        activation: str = "relu",
        direct: bool = False,
        context: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        visible, masks = check_columns(visible, 2), check_count("masks", masks, what="how many there are")
        check_choice("orders", orders, ("all", "first"))
        check_choice("degrees", degrees, ("even", "random", "cyclic"))
        if masks > 1 and orders == "first" and degrees != "random":
            raise ValueError(
                "all masks would be the same: choose orders='all' or degrees='random', or masks=1 for a single one"
            )
        self.visible, self.hidden, self.context = visible, check_counts("hidden", hidden), context
        self.seed = check_seed(seed)
        self.output, self.order, self.masks, self.orders = output, plain_order(order), masks, orders
        self.degrees, self.activation, self.direct = degrees, activation, direct
        self.declare(output, visible)
        self.layouts = self._layouts()
        self.network: MaskedNetwork = MaskedNetwork(
            self.layouts[0][0], self.conditionals.features, self.conditionals.parameters, self.layouts[0][1], activation, direct,
            context=context,
        )  # fmt: skip

    def _layouts(self) -> list[tuple[list[int], list[list[int]]]]:
        generator = torch.Generator().manual_seed(self.seed)
        first, layouts = check_order(self.order, self.visible), []
        for number in range(self.masks):
            shuffled = number > 0 and self.orders == "all"
            order = torch.randperm(self.visible, generator=generator).tolist() if shuffled else first
            layers: list[list[int]] = []
            for units in self.hidden:
                if self.degrees == "random":
                    least = min(layers[-1]) if layers else 1
                    layers.append(torch.randint(least, self.visible, (units,), generator=generator).tolist())
                elif self.degrees == "cyclic":
                    layers.append([1 + unit % (self.visible - 1) for unit in range(units)])
                else:
                    layers.append(_even(units, self.visible - 1))
            layouts.append((order, layers))
        return layouts

    def _masked(self, number: int) -> MaskedNetwork:
        """The network under one of the masks."""
        return self.network if number == 0 else self.network.remasked(*self.layouts[number])

    def networks(self) -> Sequence[Network]:
        return [self._masked(number) for number in range(self.masks)]

    def log_prob_under(self, number: int, x: Tensor) -> Tensor:
        """Log-likelihoods of rows under one of the masks, in nats.

        Args:
            number: the number of the mask, from 0, modulo the number of masks.
            x: ``rows x D``.
        """
        return AutoregressiveDistribution(self._masked(number % self.masks), self.conditionals).log_prob(x)

    def objective(self, kind: Literal["next", "mixture"] = "next") -> Objective:
        """Maximum likelihood.

        Args:
            kind: ``"next"`` takes one mask per batch, in turn (``dgm.NextMask``); ``"mixture"`` the exact mixture of all.

        Raises:
            ValueError: another kind.
        """
        check_choice("kind", kind, ("next", "mixture"))
        return NextMask() if kind == "next" and self.masks > 1 else Elbo()

    def options(self) -> dict[str, Any]:
        return {
            "visible": self.visible,
            "hidden": list(self.hidden),
            **column_options(self.output, self.order, self.context),
            "masks": self.masks,
            "orders": self.orders,
            "degrees": self.degrees,
            "activation": self.activation,
            "direct": self.direct,
            "seed": self.seed,
        }

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(
            lambda: cls(5, hidden=(12, 8), masks=3, direct=True, degrees="random", order=[2, 0, 4, 1, 3]),
            lambda: bits(10, 5),
        )


def _even(units: int, places: int) -> list[int]:
    """Degrees from 1 to ``places`` in rising order: each as often as the others, up to one, or evenly spaced."""
    if units >= places:
        return [1 + unit * places // units for unit in range(units)]
    if units == 1:
        return [(1 + places) // 2]
    return [1 + (2 * unit * (places - 1) + units - 1) // (2 * (units - 1)) for unit in range(units)]
