"""Generative moment matching network, section 20.10.5."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import pyro
import torch
from torch import Tensor, nn

from ...checks import check_belongs, check_count, check_counts
from ...discrepancy import GaussianKernels
from ...nets.bodies import mlp
from ...objectives.criteria.moment_matching import CodeMatching, MomentMatching
from ...objectives.objective import Objective
from ..shared.examples import seeded
from ..shared.generator import GeneratorModel, bias_of


class GMMN(GeneratorModel):
    r"""Rows from noise by a network that matches the data's moments (Li, Swersky and Zemel 2015; Dziugaite et al. 2015).

    $x = g(z)$ with z uniform, trained to a small maximum mean discrepancy (``dgm.MomentMatching``), which compares all moments
    (20.82). With ``code`` the network generates codes of an autoencoder, $x = d(g(z))$, which is trained first; its encoder
    belongs to the criterion. With ``noise`` $\sigma$ the program is $x \sim N(\cdot, \sigma^2 I)$, as for ``dgm.GAN``.

    ``model(x)`` has the sites ``"z"``, ``rows x latent``, and ``"x"``, ``rows x visible``, and with codes the deterministic one
    ``"code"``, ``rows x code``.

    Args:
        visible: the number of columns.
        latent: the number of latent variables.
        hidden: units of the hidden layers.
        activation: the non-linearity: relu, tanh, silu, softplus, sigmoid or leaky_relu.
        output: ``"sigmoid"`` for columns in [0, 1], ``"tanh"`` for [-1, 1], ``"linear"`` for real ones; with codes sigmoid.
        noise: $\sigma$, the standard deviation of the output noise; 0 for none.
        prior: ``"uniform"`` on [-1, 1], or ``"normal"``.
        code: the number of sigmoid units of the codes; 0 for none.
        code_hidden: units of the hidden layers of the decoder, which the encoder has in reverse; (1024,) by default.

    Raises:
        ValueError: a number below one, an unknown option, ``code_hidden`` without codes, or another output with codes.

    Example:
        >>> import pyro_dgm as dgm
        >>> dgm.GMMN(784, hidden=(64,)).sample(3).shape
        torch.Size([3, 784])
    """

    def __init__(
        self,
        visible: int,
        latent: int = 10,
        hidden: Sequence[int] = (64, 256, 256, 1024),
        activation: str = "relu",
        output: str = "sigmoid",
        noise: float = 0.0,
        prior: str = "uniform",
        code: int = 0,
        code_hidden: Sequence[int] | None = None,
    ) -> None:
        super().__init__(visible, noise, prior, output)
        self.latent = check_count("latent", latent, what="the number of latent variables")
        self.hidden, self.activation = check_counts("hidden", hidden, fewest=0), activation
        self.code = check_count("code", code, 0, "the number of units of a code, or 0")
        check_belongs("code", "codes" if self.code else "no codes", ["codes"], code_hidden=code_hidden)
        self.code_hidden = (1024,) if code_hidden is None else check_counts("code_hidden", code_hidden, fewest=0)
        if self.code and output != "sigmoid":
            raise ValueError(
                f"output got {output!r} with code={code}; the autoencoder's columns are in [0, 1]: 'sigmoid'"
            )
        self.generator = mlp((self.latent, *self.hidden, self.code or self.visible), activation)
        self.decoder = mlp((self.code, *self.code_hidden, self.visible), "sigmoid") if self.code else None

    def latents(self) -> Tensor:
        return pyro.sample("z", self.noise_of(self.latent))

    def means(self, latents: Tensor) -> Tensor:
        made = self.generator(latents)
        if self.decoder is not None:
            made = self.decoder(pyro.deterministic("code", torch.sigmoid(made), event_dim=1))
        return self.finish(made)

    def decode(self, z: Tensor) -> Tensor:
        """Generated rows, without output noise: ``batch_shape x latent`` to ``batch_shape x visible``."""
        with torch.no_grad():
            return self.means(z)

    def last_bias(self) -> Tensor | None:
        return bias_of(self.generator if self.decoder is None else self.decoder, self.visible)

    def objective(
        self,
        squared_widths: Sequence[float] | None = None,
        root: bool | None = None,
        unbiased: bool = False,
        samples: int | None = None,
        dropout: Sequence[float] | None = None,
        reconstruction: float | None = None,
    ) -> Objective:
        """``dgm.MomentMatching`` with a sum of Gaussian kernels; with codes of an autoencoder that is trained first.

        Args:
            squared_widths: the squares of the kernels' widths; by default 2, 5, 10, 20, 40 and 80, or 1 with codes.
            root, unbiased, samples: as for ``dgm.MomentMatching``.
            dropout: with codes, the shares of the encoder's inputs and of its hidden units that are dropped; (0.2, 0.5) by
            default.
            reconstruction: with codes, the share of the training in which the autoencoder learns; 0.3 by default.

        Raises:
            ValueError: ``samples`` with codes, or ``dropout`` or ``reconstruction`` without.
        """
        kind = "codes" if self.code else "rows"
        check_belongs("what is matched", kind, ["codes"], dropout=dropout, reconstruction=reconstruction)
        check_belongs("what is matched", kind, ["rows"], samples=samples)
        kernel = None if squared_widths is None else GaussianKernels(squared_widths)
        if not self.code:
            return MomentMatching(kernel, root, unbiased, samples)
        share = 0.3 if reconstruction is None else reconstruction
        return CodeMatching(self.encoder((0.2, 0.5) if dropout is None else dropout), share, kernel, root, unbiased)

    def encoder(self, dropout: Sequence[float] = (0.2, 0.5)) -> nn.Module:
        """A fresh encoder from rows to codes, the decoder's mirror image.

        Args:
            dropout: the shares of its inputs and of its hidden units that are dropped in training.

        Raises:
            ValueError: not two shares.
        """
        if not isinstance(dropout, Sequence) or len(dropout) != 2:
            raise ValueError(f"dropout got {dropout!r}; expected two shares, of inputs and of hidden units: (0.2, 0.5)")
        layers: list[nn.Module] = [nn.Dropout(dropout[0])]
        below = self.visible
        for units in reversed(self.code_hidden):
            layers += [nn.Linear(below, units), nn.Sigmoid(), nn.Dropout(dropout[1])]
            below = units
        return nn.Sequential(*layers, nn.Linear(below, self.code), nn.Sigmoid())

    def options(self) -> dict[str, Any]:
        codes = {"code": self.code, "code_hidden": list(self.code_hidden)} if self.code else {}
        return {
            "visible": self.visible, "latent": self.latent, "hidden": list(self.hidden), "activation": self.activation,
            **self.output_options(), **codes,
        }  # fmt: skip

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(4, latent=2, hidden=(6,), noise=0.5), lambda: torch.rand(10, 4))
