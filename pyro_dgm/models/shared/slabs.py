"""The bases of machines with spikes and slabs (section 20.5.4)."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from pyro.distributions import MultivariateNormal
from torch import Tensor
from torch.nn import functional as F

from ...columns import location_and_variance
from ...energy import BoltzmannDistribution, Graph
from .real_valued import RealValuedModel
from .shifts import shifted

SLACK = 1e-4
"""A relative margin that keeps the precision matrix positive definite in single precision, however small a becomes."""


class SlabMachine(RealValuedModel):
    """A machine with spikes and slabs: a diagonal precision, squares of x that spikes switch on, and no visible bias.

    So gradients cannot be centred: there is no bias to take the shift.
    """

    hidden: int
    visible: int
    square: bool
    weight: Tensor
    log_precision: Tensor
    log_square: Tensor
    _data_dims: ClassVar[tuple[int, int]] = (0, 0)
    """The dimensions of W and Phi that count columns of the data, or channels of them."""

    @property
    def precision(self) -> Tensor:
        r"""$\Lambda$, ``visible``."""
        return self.log_precision.exp()

    @property
    def phi(self) -> Tensor:
        r"""$\Phi$, ``visible x hidden``."""
        return self.log_square.exp() if self.square else self.weight.new_zeros(self.visible, self.hidden)

    def initialise(self, x: Tensor) -> None:
        r"""Set $\Lambda$ to the inverse of the data's variances, unless it was set already, and scale $\Phi$ and W to it.

        $\Phi$ is multiplied by the change of $\Lambda$ and W by its root, so that the machine starts on data of any scale as
        it does on data of unit variance. Otherwise spikes would cost nothing on data of small scale, and all be off on data
        of large scale.
        """
        if bool(self.log_precision.detach().any()):
            return
        with torch.no_grad():
            variances = location_and_variance(x)[1].view(len(self.log_precision), -1).mean(1)
            self.log_precision.copy_(-variances.log())
            of_weight, of_square = self._data_dims
            change = self.log_precision.view(self.weight.shape[of_weight], -1).mean(1)
            self.weight *= _along(of_weight, (0.5 * change).exp(), self.weight)
            if self.square:
                self.log_square += _along(of_square, change, self.log_square)

    def visible_biases(self) -> tuple[Tensor, ...]:
        return (self.log_precision,)


class SlabMixture(SlabMachine):
    """A machine whose slabs are coupled to x alone: given h, x is Gaussian with a covariance that depends on the spikes."""

    slabs: int
    _graph: Graph
    _validate: bool | None = None

    @abstractmethod
    def _slabs(self) -> tuple[Tensor, Tensor, Tensor]:
        r"""$b$ (``hidden``), $\mu$ and $\alpha$ (``hidden x slabs``) of every spike."""

    @abstractmethod
    def _couplings(self) -> list[Tensor]:
        """The graph's weights."""

    @abstractmethod
    def _unrolled(self) -> tuple[Tensor, Tensor]:
        r"""$W$ (``visible x hidden x slabs``) and $\Phi$ (``visible x hidden``)."""

    def forward(self, hidden_shift: Tensor | None = None) -> BoltzmannDistribution:
        r"""The distribution of the visible layer.

        Args:
            hidden_shift: added to $b$, ``batch_shape x hidden``: with a context every row has its own machine.
        """
        bias, mean, alpha = self._slabs()
        bias = shifted(bias, hidden_shift, "hidden_shift")
        bias = (bias - (alpha * mean**2).sum(-1)).unsqueeze(-1)
        slope = (alpha * mean).expand(*bias.shape[:-1], self.slabs)
        hidden = (torch.cat([bias, slope], -1), F.pad(-0.5 * alpha, (1, 0)))
        precision = self.precision
        visible = (torch.zeros_like(precision), -0.5 * precision)
        return BoltzmannDistribution(
            self._graph, {"visible": visible, "hidden": hidden}, self._couplings(), validate_args=self._validate
        )

    def conditional(self, h: Tensor) -> MultivariateNormal:
        """p(x | h) with the slabs integrated out (20.51-52): ``batch_shape`` of ``h``, over ``visible``.

        Args:
            h: spikes, ``batch_shape x hidden``.
        """
        form, slope = self._given(h)
        location = torch.linalg.solve(form, slope.unsqueeze(-1)).squeeze(-1)
        return MultivariateNormal(location, precision_matrix=form)

    def _given(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse of the covariance C of x given h, and its product with the mean."""
        weight, phi = self._unrolled()
        _, mean, alpha = self._slabs()
        on = h.unsqueeze(-1) / alpha
        roots = weight.flatten(1)
        form = torch.diag_embed(self.precision + h @ phi.mT) - (roots * on.flatten(-2).unsqueeze(-2)) @ roots.mT
        return form, h @ (weight * mean).sum(-1).mT

    def exact_log_partition(self) -> Tensor:
        """Log Z of ``model()`` in nats with its gradient, a sum over all h.

        Raises:
            NotEnumerable: more than 12 spikes.
        """
        return self().exact_log_partition()

    def posterior(self, x: Tensor) -> Tensor:
        """P(h = 1 | x) with the slabs integrated out (20.53): ``batch_shape x hidden``."""
        machine = self().machine
        eta = machine.fields(machine.graph.block("hidden"), machine.statistics({"visible": x}))
        return machine.graph.layers["hidden"].mean(*eta)[0][..., 0]


def _along(dim: int, numbers: Tensor, like: Tensor) -> Tensor:
    """Numbers along one dimension of a tensor, to broadcast against it."""
    return numbers.view(-1, *(1 for _ in like.shape[dim + 1 :]))
