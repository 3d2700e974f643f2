"""Convolutional orderless NADE, section 20.10.10."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from torch import Tensor

from ...autoregressive.orderless_bodies import SubsetConvolutions
from ..shared.examples import bits, seeded
from ..shared.orderless import OrderlessModel


class ConvolutionalNADE(OrderlessModel):
    r"""Orderless NADE of pictures: convolutions of the known pixels and their mask (Uria et al. 2016, section 4).

    The network sees the planes $m \odot x$ and m, the mask of known pixels, and gives the numbers of all pixels by
    convolutions that keep the sides. An order of the pixels makes it a distribution as in (20.83); the model is the
    mixture of ``orders`` random ones (20.84). Training, evaluation and conditionals are those of ``dgm.OrderlessNADE``.
    Log-likelihoods are exact, in nats, and cost a pass through all convolutions for every pixel and order. A pixel's
    conditional sees known pixels up to ``(kernel // 2) (len(channels) + 1)`` away.

    Args:
        visible: the number of columns, D: channels times height times width.
        shape: height and width of a picture, or channels, height and width.
        channels: the number of channels of every hidden convolution.
        kernel: the side of every convolution, odd.
        output: as in ``dgm.OrderlessNADE``.
        orders: the number of random orders that the model averages.
        activation: the non-linearity: tanh, relu, silu or softplus.
        residual: add the input to the output of a convolution between equal numbers of channels.
        seed: the seed of the orders.
        context: columns of a context that shifts the first convolution's channels and the numbers linearly; 0 for none.

    Attributes:
        body: ``body.hidden`` and ``body.last`` are the convolutions; the last one has a bias per pixel.

    Raises:
        ValueError: a shape of another number of pixels, no convolution, an even kernel, no order, an unknown family or
            activation.

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> nade = dgm.ConvolutionalNADE(6, shape=(2, 3), channels=(4, 4))
        >>> nade().log_prob(torch.zeros(5, 6)).shape
        torch.Size([5])
    """

    def __init__(
        self,
        visible: int,
        shape: Sequence[int],
        channels: Sequence[int] = (32, 32, 32),
        kernel: int = 3,
        output: str | Sequence[str] = "binary",
        orders: int = 1,
        activation: str = "relu",
        residual: bool = True,
        seed: int = 0,
        context: int = 0,
    ) -> None:
        super().__init__(visible, output, orders, seed, context)
        self.body = SubsetConvolutions(
            visible, self.conditionals, shape, channels, kernel, activation, residual, context
        )
        self.shape, self.channels, self.kernel = tuple(shape), tuple(channels), kernel
        self.activation, self.residual = activation, residual

    def options(self) -> dict[str, Any]:
        architecture = {
            "shape": list(self.shape), "channels": list(self.channels), "kernel": self.kernel, "activation": self.activation,
            "residual": self.residual,
        }  # fmt: skip
        return super().options() | architecture

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(6, shape=(2, 3), channels=(3, 3), orders=2), lambda: bits(10, 6), scale=1.0)
