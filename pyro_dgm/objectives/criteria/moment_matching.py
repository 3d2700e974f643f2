"""Training by matching the moments of generated rows to those of data (section 20.10.5)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ... import processes
from ...calls import warn_caller
from ...checks import check_count, check_share
from ...discrepancy import GaussianKernels, Kernel, check_kernel, mean_discrepancy, root
from ...nets.modes import evaluating
from ..objective import Objective, Turn
from .generated import check_differentiable, counterparts

FEW = 100
"""Rows in a batch below which a discrepancy's bias makes generated rows too narrow."""


class MomentMatching(Objective):
    r"""The maximum mean discrepancy between a batch and generated rows (Li, Swersky and Zemel 2015; Dziugaite et al. 2015).

    The loss is $\sqrt{V}$, $V = \frac1{n^2} \sum_{ij} [k(x_i, x_j) + k(y_i, y_j) - 2 k(x_i, y_j)]$, over rows x of the batch and
    generated ones y (``discrepancy.mean_discrepancy``); it matches all moments that the kernel has, of which (20.82) are
    explicit ones. The batch is the sample: V of small batches is smallest where generated rows are narrower than the data
    (at n = 10 by a tenth in one dimension), so take hundreds of rows, or ``unbiased=True``.

    Any model whose program draws the site with a gradient can be trained.

    Args:
        kernel: the kernel; by default ``discrepancy.GaussianKernels()``, a sum of Gaussian ones of the squared widths 2, 5, 10,
            20, 40 and 80.
        root: take the square root, which keeps gradients up when V is small.
        unbiased: the U-statistic in place of V; it may be negative, and has no root.
        samples: the number of generated rows per batch; by default as many as rows.

    Raises:
        ValueError: another kernel, a number of samples below two, ``root`` of the unbiased statistic; in ``fit``, batches of one
            row; when a model is attached, one without gradients through its draws.

    A last batch of one row is left out. On several processes the discrepancy is that of the whole batch.

    Example:
        >>> import pyro_dgm as dgm
        >>> network, x = dgm.GMMN.example()
        >>> run = dgm.fit(network, x, objective=dgm.MomentMatching(), epochs=1, progress=False)
        >>> run.history[0]["loss"] > 0
        True
    """

    needs_whole_rows = "compares whole rows with draws"

    fewest_rows = 2

    def __init__(
        self,
        kernel: Kernel | None = None,
        root: bool | None = None,
        unbiased: bool = False,
        samples: int | None = None,
    ) -> None:
        if kernel is not None:
            check_kernel(kernel)
        if root and unbiased:
            raise ValueError("root=True with unbiased=True; the unbiased statistic may be negative and has no root")
        self.kernel = GaussianKernels() if kernel is None else kernel
        self.root, self.unbiased = not unbiased if root is None else root, unbiased
        self.samples = None if samples is None else check_count("samples", samples, 2, "generated rows per batch")

    def options(self) -> dict[str, Any]:
        return {
            **super().options(), **self.kernel.options(), "root": self.root, "unbiased": self.unbiased,
            "samples": self.samples,
        }  # fmt: skip

    def attach(self, model: Any) -> None:
        check_differentiable(model, type(self).__name__)
        if self.samples is not None and getattr(model, "evidence_given", lambda: None)() is not None:
            raise ValueError(
                f"samples got {self.samples}; {type(model).__name__} draws rows given {model.evidence_given()}, one for every "
                "row of the data. Leave samples out"
            )
        self._model = model

    def check_fit(self, model: Any, rows: int, batch_size: int, epochs: int) -> None:
        least = min(batch_size, rows)
        if least < 2:
            raise ValueError(
                f"{type(self).__name__} got batches of {least} row: the batch is the sample whose moments are matched; take "
                "batch_size=1000, say"
            )
        if least < FEW and not self.unbiased:
            warn_caller(
                f"{type(self).__name__} got batches of {least} rows, at which generated rows become narrower than the data; "
                "take hundreds, or unbiased=True"
            )

    def loss(self, x: Tensor) -> Tensor:
        wanted = x if self.samples is None else x[:1].expand(processes.share(self.samples, "samples"), *x.shape[1:])
        return self._between(x, counterparts(self._model, wanted))

    def _between(self, x: Tensor, y: Tensor) -> Tensor:
        """The discrepancy of all processes' rows; its gradient is weighed as that of a mean over this process's rows is."""
        rows = processes.gather(x)
        loss = mean_discrepancy(rows, processes.joined(y), self.kernel, self.unbiased)
        loss = root(loss) if self.root else loss
        if len(rows) == len(x):
            return loss
        return loss.detach() + (loss - loss.detach()) * (len(rows) / len(x))


class CodeMatching(MomentMatching):
    r"""Moment matching in the code space of an autoencoder, which is trained first (Li, Swersky and Zemel 2015).

    In a first share of the training the encoder, which belongs to the criterion, and the model's ``decoder`` learn to
    reconstruct rows; then both are fixed, and the model's site ``"code"`` is matched to the codes of the data, which dropout
    no longer disturbs.

    Args:
        encoder: a module from rows to codes, ``rows x visible`` to ``rows x code``.
        reconstruction: the share of the training in which the autoencoder learns.
        kernel, root, unbiased: as for ``dgm.MomentMatching``; the kernel is by default Gaussian of width one.

    Raises:
        ValueError: no module, or a share outside (0, 1); when a model is attached, one without a ``decoder`` or codes.
    """

    def __init__(
        self,
        encoder: nn.Module,
        reconstruction: float = 0.3,
        kernel: Kernel | None = None,
        root: bool | None = None,
        unbiased: bool = False,
    ) -> None:
        super().__init__(GaussianKernels((1.0,)) if kernel is None else kernel, root, unbiased)
        if not isinstance(encoder, nn.Module):
            raise ValueError(f"encoder got {encoder!r}; expected a torch.nn.Module from rows to codes")
        check_share("reconstruction", reconstruction, "the share of the training in which the autoencoder learns")
        self.encoder, self.reconstruction = encoder, reconstruction
        self.reconstructing, self._once = True, False

    def owned(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder}

    def options(self) -> dict[str, Any]:
        return {**super().options(), "reconstruction": self.reconstruction}

    def attach(self, model: Any) -> None:
        if not isinstance(getattr(model, "decoder", None), nn.Module):
            raise ValueError(
                f"CodeMatching got {type(model).__name__}, which has no decoder of codes; expected a dgm.GMMN(code=...)"
            )
        check_differentiable(model, type(self).__name__, "code")
        self._model = model

    def check_fit(self, model: Any, rows: int, batch_size: int, epochs: int) -> None:
        super().check_fit(model, rows, batch_size, epochs)
        self._once = epochs == 1  # which then does both

    def judges(self) -> bool:
        return not self.reconstructing

    def schedule(self, share: float) -> None:
        """Reconstruct until the share is over."""
        self.reconstructing = share < self.reconstruction

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        decoder = list(model.decoder.parameters())  # type: ignore[union-attr]
        known = {id(p) for p in decoder}
        others = [p for p in model.parameters() if id(p) not in known]
        return [{"params": others, "name": "generator"}, {"params": decoder, "name": "decoder"}]

    def turns(self, x: Tensor) -> Iterator[Turn]:
        if self.reconstructing:
            yield Turn("reconstruction", lambda: self.reconstruct(x), ("decoder", "encoder"))
        if not self.reconstructing or self._once:
            yield Turn("discrepancy", lambda: self.loss(x), ("generator",))

    def reconstruct(self, x: Tensor) -> Tensor:
        """The autoencoder's loss: the cross-entropy of columns in [0, 1], in nats per row."""
        logits = self._model.decoder(self.encoder(x))
        return F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1).mean()

    def loss(self, x: Tensor) -> Tensor:
        with torch.no_grad(), evaluating(self.encoder):
            codes = self.encoder(x)
        return self._between(codes, counterparts(self._model, x, "code"))
