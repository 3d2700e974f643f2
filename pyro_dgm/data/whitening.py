"""Whitening of rows by principal components."""

from typing import NamedTuple

import torch
from torch import Tensor

from ..checks import check_count, check_positive, check_rows, described

WHITENING = {
    "scale": "the standard deviation of every whitened component",
    "floor": "the contrast that is added to that of a row",
    "components": "the number of components that are kept",
    "epsilon": "the variance that is added to that of a component",
}
"""What the numbers of a whitening are."""


class Whitening(NamedTuple):
    """A map that normalises rows for brightness and contrast, and whitens them by principal components.

    Args:
        mean: the mean of the normalised training rows, ``columns``.
        components: orthonormal principal components, ``columns x kept``.
        gains: the factor of every component, ``kept``.
        floor: a contrast added in quadrature, so that rows without contrast are not divided by 0.

    Attributes:
        log_determinant: the log-determinant, in nats, of the map from components of normalised rows to whitened ones: the
            log-density of the former is that of the latter plus this.
    """

    mean: Tensor
    components: Tensor
    gains: Tensor
    floor: float

    @classmethod
    def of(
        cls, rows: Tensor, components: int, scale: float = 1.0, floor: float = 0.03, epsilon: float = 0.0
    ) -> "Whitening":
        r"""The whitening of rows by a number of components, each with standard deviation ``scale`` afterwards.

        A component of variance $\lambda$ is multiplied by ``scale``$/\sqrt{\lambda + \epsilon}$. With $\epsilon > 0$ components
        of little variance, which are mostly noise, stay below ``scale``.

        Raises:
            ValueError: no rows of finite numbers, more components than centred rows have, a component without variance while
                ``epsilon`` is 0, or a scale, floor or ``epsilon`` out of range.
        """
        _check_numbers(rows, "whitening")
        for name, value, zero in (("scale", scale, False), ("floor", floor, True), ("epsilon", epsilon, True)):
            check_positive(name, value, WHITENING[name], zero)
        most = rows.shape[1] - 1
        components = check_count(
            "components", components, 1, WHITENING["components"], f" and at most {most}, as centred rows have"
        )
        if components > most:
            raise ValueError(f"components got {components}; expected at most {most}, as many as centred rows can have")
        if len(rows) < 2:
            raise ValueError(f"whitening got {len(rows)} rows; expected at least 2, which have a variance")
        normalised = normalise(rows, floor)
        values, vectors = torch.linalg.eigh(normalised.T.cov())
        variances, basis = values.flip(0)[:components] + epsilon, vectors.flip(1)[:, :components]
        if not variances[-1] > 1e-6 * variances[0]:
            count = int((variances > 1e-6 * variances[0]).sum())
            raise ValueError(
                f"whitening found {count} components with a variance, and {components} are asked for: keep fewer, or choose an "
                "epsilon > 0"
            )
        return cls(normalised.mean(0), basis, scale * variances.rsqrt(), floor)

    def apply(self, rows: Tensor) -> Tensor:
        """Whitened rows, ``rows x kept``.

        Raises:
            ValueError: rows of another width or precision, or of other numbers than finite ones.
        """
        _check_numbers(rows, "whitening", len(self.mean))
        if rows.dtype != self.mean.dtype:
            raise ValueError(f"whitening got rows of {rows.dtype}; expected {self.mean.dtype}, as those it was made of")
        return (normalise(rows, self.floor) - self.mean) @ self.components * self.gains

    @property
    def log_determinant(self) -> float:
        return float(self.gains.log().sum())

    def pictures(self, filters: Tensor) -> Tensor:
        """Filters of components, ``kept x filters``, as pictures of whitened pixels, ``filters x columns``.

        Raises:
            ValueError: filters of another number of components.
        """
        kept = len(self.gains)
        if not isinstance(filters, Tensor) or filters.dim() != 2 or len(filters) != kept:
            raise ValueError(
                f"pictures got {described(filters)}; expected a tensor of filters, {kept} components x filters"
            )
        return (self.components @ filters).T


def _check_numbers(rows: Tensor, name: str, columns: int | None = None) -> None:
    """Refuse what are no rows of finite numbers of floating point."""
    width = rows.shape[-1] if columns is None and isinstance(rows, Tensor) and rows.dim() else columns or 0
    check_rows(rows, (width,), name)
    if not rows.is_floating_point():
        raise ValueError(f"{name} got rows of {rows.dtype}; expected floating-point numbers, as rows.float() has them")


def normalise(rows: Tensor, floor: float = 0.03) -> Tensor:
    """Every row minus its mean, divided by the root of its variance plus ``floor`` squared."""
    centred = rows - rows.mean(1, keepdim=True)
    return centred / (centred.var(1, correction=0, keepdim=True) + floor**2).sqrt()
