"""The test of whether a quadratic form with switches is positive definite for every state of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

MOST_SPIKES = 20
"""The number of spikes up to which every state is tried."""

ENTRIES = 1 << 22
"""Numbers in the quadratic forms that are tried at once."""


class Validity(NamedTuple):
    """Whether a quadratic form is positive definite for every state of its spikes.

    Attributes:
        valid: True where it is known to be.
        exact: False where ``valid`` is False only because a sufficient condition was not met.
        reason: the reason for the answer.
    """

    valid: bool
    exact: bool
    reason: str


def spike_slab_validity(precision: Tensor, square: Tensor, weight: Tensor, slab_precision: Tensor) -> Validity:
    r"""Whether $\Lambda + \sum_i h_i (\Phi_i - \sum_k \alpha_{ik}^{-1} W_{ik} W_{ik}^\top) \succ 0$ for all $h \in \{0,1\}^N$.

    It is the precision of x given h (20.52); where it fails for one h the model has no normaliser. Decided exactly where
    one of these settles it: $\Lambda$ alone or all spikes on gives a counterexample; $\Phi \le 0$ (all spikes on is then
    the worst case); no more than 20 spikes (every h is tried); or one of two sufficient conditions holds, of which the
    second is $\Lambda - \sum_i (\Phi_i - \sum_k \alpha_{ik}^{-1} W_{ik} W_{ik}^\top)_- \succ 0$. Otherwise the answer is
    "not valid, not exact". The second condition costs N eigenvalue problems of the size of x, and is tried only where the
    first, of linear cost, fails.

    Args:
        precision: $\Lambda$, ``visible`` (a diagonal) or ``visible x visible``.
        square: $\Phi$, ``visible x spikes``.
        weight: $W$, ``visible x spikes`` or ``visible x spikes x slabs``.
        slab_precision: $\alpha$, ``spikes`` or ``spikes x slabs``.

    Raises:
        ValueError: shapes that do not fit.

    Courville, Desjardins, Bergstra and Bengio (2014), "The spike-and-slab RBM and extensions to discrete and sparse data
    distributions".

    Example:
        >>> import torch
        >>> spike_slab_validity(torch.ones(1), torch.zeros(1, 1), torch.ones(1, 1), torch.ones(1)).valid
        False
    """
    slabs = weight.unsqueeze(-1) if weight.dim() == 2 else weight
    alpha = slab_precision.unsqueeze(-1) if slab_precision.dim() == 1 else slab_precision
    size = len(square)
    if slabs.shape[:2] != square.shape or alpha.shape != slabs.shape[1:] or precision.shape not in (
        (size,),
        (size, size),
    ):  # fmt: skip
        raise ValueError(
            f"got a precision of shape {tuple(precision.shape)}, square {tuple(square.shape)}, weight "
            f"{tuple(weight.shape)} and slab_precision {tuple(slab_precision.shape)}; expected visible, visible x spikes, "
            "visible x spikes (x slabs), and spikes (x slabs)"
        )
    with torch.no_grad():
        if not (alpha > 0).all():
            return Validity(False, True, f"a slab has the precision {float(alpha.min()):g}, which is not positive")
        form = _Form(precision.double(), square.double(), (slabs * alpha.rsqrt()).double())
        return form.decide()


class _Form:
    """The form P + sum_i h_i (diag(Phi_i) - R_i R_i'), with P full or the diagonal of a matrix."""

    def __init__(self, precision: Tensor, square: Tensor, roots: Tensor) -> None:
        self.precision, self.square, self.roots = precision, square, roots
        self.spikes = square.shape[1]

    def decide(self) -> Validity:
        definite_alone = (
            (self.precision > 0).all() if self.precision.dim() == 1 else _definite(self.precision.unsqueeze(0)).all()
        )
        if not definite_alone:
            without = "without any spike " if self.spikes else ""
            return Validity(False, True, f"{without}the joint precision is not positive definite")
        if self.dominated():
            return Validity(True, True, "every spike's slabs stay below its share of the precision")
        if not self.definite(self.square.new_ones(1, self.spikes)).all():
            return Validity(False, True, "with all spikes on the joint precision is not positive definite")
        if (self.square <= 0).all():
            return Validity(True, True, "with all spikes on, the worst case, the joint precision is positive definite")
        if self.certified():
            return Validity(True, True, "the precision exceeds the sum of the spikes' negative parts")
        if self.spikes > MOST_SPIKES:
            return Validity(
                False,
                False,
                f"with {self.spikes} spikes there are too many states to try (at most 2^{MOST_SPIKES}), and the precision "
                "does not exceed the sum of the spikes' negative parts",
            )
        for h in self.states():
            bad = ~self.definite(h)
            if bad.any():
                on = h[bad][0].nonzero().view(-1).tolist()
                return Validity(False, True, f"with the spikes {on} on the joint precision is not positive definite")
        return Validity(True, True, "the joint precision is positive definite for every state of the spikes")

    def definite(self, h: Tensor) -> Tensor:
        """Whether the form is positive definite for each row of spikes, by Cholesky factors."""
        diagonal = h @ self.square.T
        switched = h.unsqueeze(1).unsqueeze(-1) * self.roots
        form = -(switched.flatten(2) @ self.roots.flatten(1).T)
        form = form + (self.precision.diag() if self.precision.dim() == 1 else self.precision)
        form.diagonal(dim1=-2, dim2=-1).add_(diagonal)
        return _definite(form)

    def dominated(self) -> bool:
        """Whether every spike stays below its share of a diagonal precision P.

        P is dealt out in equal shares among the spikes that take from it, n_j at the entry j of x. Each spike then stays below
        its share, R_i R_i' < Phi_i + P / n, by a trace; spikes that only add to P need none.
        """
        if self.precision.dim() != 1:
            return False
        takes = (self.roots != 0).any(-1) | (self.square < 0)
        dealt = (self.precision / takes.sum(1).clamp_min(1)).unsqueeze(-1)
        share = torch.where(takes, self.square + dealt, torch.inf)
        return bool((share > 0).all()) and bool(((self.roots**2).sum(-1) / share).sum(0).lt(1).all())

    def certified(self) -> bool:
        """Whether P exceeds the sum of the negative parts of the spikes' matrices."""
        total = self.precision.diag() if self.precision.dim() == 1 else self.precision.clone()
        for roots, diagonal in zip(self.roots.unbind(1), self.square.unbind(1), strict=True):
            values, vectors = torch.linalg.eigh(diagonal.diag() - roots @ roots.T)
            total = total + (vectors * values.clamp_max(0)) @ vectors.T
        return bool(_definite(total.unsqueeze(0)).all())

    def states(self) -> Iterator[Tensor]:
        """All states of the spikes, some rows at a time."""
        size = self.square.shape[0]
        chunk = max(ENTRIES // (size * max(size, self.roots[0].numel())), 1)
        place = torch.arange(self.spikes, device=self.square.device)
        for start in range(0, 1 << self.spikes, chunk):
            numbers = torch.arange(start, min(start + chunk, 1 << self.spikes), device=self.square.device)
            yield ((numbers.unsqueeze(-1) >> place) & 1).to(self.square.dtype)


def _definite(forms: Tensor) -> Tensor:
    """A mask of the symmetric matrices that are positive definite by more than rounding."""
    scale = forms.diagonal(dim1=-2, dim2=-1)
    if not forms.isfinite().all():
        return scale.new_zeros(scale.shape[:-1], dtype=torch.bool)
    positive = (scale > 0).all(-1)
    inverse = scale.clamp_min(1e-300).rsqrt()
    # A unit diagonal makes the threshold independent of the units of measurement.
    scaled = forms * inverse.unsqueeze(-1) * inverse.unsqueeze(-2)
    scaled.diagonal(dim1=-2, dim2=-1).sub_(1e-10)
    return positive & (torch.linalg.cholesky_ex(scaled).info == 0)
