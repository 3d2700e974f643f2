"""Fully visible belief networks, section 20.10.7-8."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from ...autoregressive import MaskedNetwork, check_order, plain_order
from ...autoregressive.outputs import FLOOR
from ...checks import check_columns
from ..shared.autoregressive import AutoregressiveModel, column_options
from ..shared.examples import bits, seeded


class FVBN(AutoregressiveModel):
    r"""Fully visible belief network: every column a linear model of those before it (Frey 1998; section 20.10.8).

    $p(x) = \prod_i p(x_i \mid x_{<i})$ along an order of the columns. With binary output
    $P(x_i = 1 \mid x_{<i}) = \sigma(b_i + \sum_{j<i} W_{ij} x_j)$, with categories a softmax, with Gaussian output the
    linear-Gaussian network, a multivariate normal distribution: means are linear, and scales are the same for all rows of a
    context. (So are those of Laplace columns; of mixtures all numbers are linear.) A context shifts all numbers linearly,
    also the logarithms of scales. It is (20.70) without latent variables; log-likelihoods are exact, in nats.

    With a basis the columns enter through functions of themselves: ``"pairs"`` adds all products of two columns,
    ``"powers:K"`` the powers 2 to K. Gaussian columns have their maximum-likelihood solution in closed form, by least squares:
    ``initialise`` finds it, and a first ``fit`` starts there.

    Args:
        visible: the number of columns, D.
        output: ``"binary"``, ``"categorical:C"``, ``"gaussian"``, ``"gaussians:K"``, ``"laplace"``, ``"laplaces:K"``, or a
            sequence of these, one per column.
        order: a permutation of the columns, a number that seeds a random one, or None for left to right.
        basis: None, ``"pairs"`` or ``"powers:K"``.
        context: columns of a context that all conditionals see, linearly; 0 for none.

    Attributes:
        network: ``network.direct.weight`` is W (``D P x D F``), ``network.bias`` is b.

    Raises:
        ValueError: no column, an unknown family or basis, an order that is no permutation.

    See also:
        ``dgm.NADE``, ``dgm.MADE`` and ``dgm.NeuralAutoregressive``, whose conditionals are neural networks;
        ``dgm.AutoregressiveBits``, the same conditionals of bits with biases that other layers give for every row.

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> fvbn = dgm.FVBN(4, order=[3, 1, 0, 2])
        >>> fvbn().log_prob(torch.zeros(2, 4)).shape
        torch.Size([2])
    """

    def __init__(
        self,
        visible: int,
        output: str | Sequence[str] = "binary",
        order: Sequence[int] | int | None = None,
        basis: str | None = None,
        context: int = 0,
    ) -> None:
        super().__init__()
        visible = check_columns(visible)
        self.visible, self.output, self.order = visible, output, plain_order(order)
        self.basis, self.context = basis, context
        self.declare(output, visible)
        self.network: MaskedNetwork = MaskedNetwork(
            check_order(order, visible),
            self.conditionals.features,
            self.conditionals.parameters,
            basis=basis,
            context=context,
        )
        with torch.no_grad():
            self.network.direct.weight.zero_()
        for column in range(visible):
            for number in self.conditionals.column(column).spread:
                self.network.direct.mask[column * self.conditionals.parameters + number] = False

    def initialise(self, x: Tensor) -> None:
        """Start at independent columns that fit the data, and Gaussian columns at least squares on the columns before them."""
        super().initialise(x)
        size = self.conditionals.parameters
        with torch.no_grad():
            inputs = self.network.basis(self.conditionals.encode(x))
            x = self.conditionals.standardised(x)
            direct = self.network.direct
            for column in range(self.visible):
                if not self.conditionals.column(column).least_squares:
                    continue
                is_input = direct.mask[column * size]
                design = torch.cat([inputs[:, is_input], torch.ones_like(x[:, :1])], 1)
                # Only the processor has a solver for designs without full rank.
                solved = torch.linalg.lstsq(design.cpu(), x[:, column : column + 1].cpu(), driver="gelsd")
                solution = solved.solution.squeeze(1).to(x.device)
                residual = x[:, column] - design @ solution
                direct.weight[column * size, is_input] = solution[:-1]
                self.network.bias[column, 0] = solution[-1]
                self.network.bias[column, 1] = (residual.square().mean().sqrt() - FLOOR).clamp_min(FLOOR).log()

    def options(self) -> dict[str, Any]:
        basis = {} if self.basis is None else {"basis": self.basis}
        return {"visible": self.visible, **column_options(self.output, self.order, self.context), **basis}

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(5, order=[2, 0, 4, 1, 3]), lambda: bits(10, 5), scale=1.0)
