"""Log-likelihood figures with their kind and their space; figures that do not compare refuse comparison."""

from __future__ import annotations

import math
import warnings
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor

from ..checks import described, shown
from ..data import Dataset, Space, Split
from ..inference.registration import unregistered
from ..models.shared.arguments import rows_for
from ..models.shared.evidence import Evidence
from ..models.shared.model import Model
from ..models.shared.rows import not_finite
from ..nets.modes import evaluating
from .constant_columns import constant_columns, nats_of_columns, warning_of

_ADVICE = "Go back to the last good checkpoint, or train with a smaller learning rate"
"""The advice in messages about parameters or figures that are not finite."""

KINDS = ("exact", "estimate", "lower bound", "upper bound")


@dataclass(frozen=True)
class LogLikelihood:
    """A mean log-likelihood in nats per row, with its errors, kind, method and space.

    Two figures can be subtracted and ordered if they are of one space; others refuse. A comparison of different kinds, such
    as an estimate with a bound, warns.

    Attributes:
        value: the mean over the rows.
        stderr_estimator: its standard error from the estimator (log Z, or importance weights) with the rows fixed.
        stderr_data: its standard error from the choice of rows.
        lower: the lower end of the estimator's interval.
        upper: the upper end; infinite where nothing bounds it.
        kind: ``"exact"``, ``"estimate"``, ``"lower bound"`` or ``"upper bound"``.
        method: the method by which it was found, in words.
        space: the data's space, with preprocessing and binarisation; a figure with None refuses all comparison.
        n: the number of rows.
        measure: ``"probability"`` or ``"density"``, the quantity that the model gives a row. The two do not compare.
        given: the part of a row that has no probability of its own (the label of a ``ConditionalVAE``), in words; None where
            the figure is of whole rows. Figures that are given different things do not compare.
        columns: the number of columns of a row; None where some have no share in the figure. Figures of rows of other widths
            (pictures of two sizes, rows with and without their label) do not compare.
    """

    value: float
    stderr_estimator: float
    stderr_data: float
    lower: float
    upper: float
    kind: str
    method: str
    space: str | None
    n: int
    measure: str | None = None
    given: str | None = None
    columns: int | None = None

    def __str__(self) -> str:
        space = self.space or "space not stated"
        space = space if self.given is None else f"given {self.given}, {space}"
        figure = f"{self.value:.2f} nats"
        if self.kind == "exact":
            return f"{figure} (exact), {self.method}, {space}"
        error = "error not known" if math.isnan(self.stderr_estimator) else f"± {self.stderr_estimator:.2g}"
        if self.kind == "lower bound":
            return f"≥ {figure} ({error}), {self.method}, {space}"
        if self.kind == "upper bound":
            return f"≤ {figure} ({error}), {self.method}, {space}"
        lower = "-∞" if math.isinf(self.lower) else f"{self.lower:.2f}"
        return f"{figure} [{lower}, {self.upper:.2f}], {self.method}, {space}"

    def as_dict(self) -> dict[str, Any]:
        """The fields, with infinities and NaN as None, as JSON needs them."""
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(self).items()}

    def before(self, space: Space) -> LogLikelihood:
        """The figure of the same rows as they were before the preprocessing of a space: the log-determinant added.

        Args:
            space: the space of this figure.

        Raises:
            ValueError: the figure is of another space or no density, or the preprocessing has no log-determinant.

        Example:
            >>> from pyro_dgm.data import Space
            >>> doubled = Space("real", "doubled", log_determinant=0.6931, before="real (as given)")
            >>> figure = LogLikelihood(-2.0, 0.0, 0.1, -2.0, -2.0, "exact", "formula", "real (doubled)", 9, "density")
            >>> str(figure.before(doubled))
            '-1.31 nats (exact), formula, real (as given)'
        """
        if str(space) != self.space or self.measure != "density" or space.before is None:
            raise ValueError(
                f"a {self.measure or 'figure'} over {self.space!r} cannot be brought to the space before {str(space)!r}; "
                "expected a density over a space whose preprocessing has a log-determinant, such as standardised"
            )
        ends = {name: getattr(self, name) + space.log_determinant for name in ("value", "lower", "upper")}
        return replace(self, **ends, space=space.before)

    def __sub__(self, other: LogLikelihood) -> float:
        """The difference of two values, if they are comparable.

        Raises:
            ValueError: a space is not stated, the spaces or widths of rows differ, one figure is a density and the other a
                probability, or they are given different things.
        """
        if not isinstance(other, LogLikelihood):
            return NotImplemented
        if self.space is None or other.space is None:
            raise ValueError("a figure without a stated space cannot be compared; pass space= to log_likelihood")
        if self.space != other.space:
            raise ValueError(f"figures over different spaces cannot be compared: {self.space!r} and {other.space!r}")
        if None not in (self.columns, other.columns) and self.columns != other.columns:
            raise ValueError(
                f"a figure of rows of {self.columns} columns cannot be compared with one of {other.columns} columns: they are "
                "likelihoods of other things"
            )
        if self.given != other.given:
            kinds = [f"given {f.given}" if f.given else "of whole rows" for f in (self, other)]
            raise ValueError(
                f"a log-likelihood {kinds[0]} cannot be compared with one {kinds[1]}: what is given has no share in the figure"
            )
        if None not in (self.measure, other.measure) and self.measure != other.measure:
            raise ValueError(
                f"a {self.measure} cannot be compared with a {other.measure}: one model takes the values as steps, the other as "
                "points of the real line"
            )
        if self.kind != other.kind and "exact" not in (self.kind, other.kind):
            warnings.warn(f"comparing an {self.kind} with an {other.kind}".replace("an lower", "a lower"), stacklevel=2)
        elif self.kind != other.kind and "bound" in self.kind + other.kind:
            warnings.warn("comparing an exact figure with a bound", stacklevel=2)
        return self.value - other.value

    def __lt__(self, other: LogLikelihood) -> bool:
        return (self - other) < 0

    def __gt__(self, other: LogLikelihood) -> bool:
        return (self - other) > 0

    def __le__(self, other: LogLikelihood) -> bool:
        return (self - other) <= 0

    def __ge__(self, other: LogLikelihood) -> bool:
        return (self - other) >= 0


def log_likelihood(
    model: Model,
    x: Tensor | Split,
    space: str | Space | None = None,
    method: str | None = None,
    **options: Any,
) -> LogLikelihood:
    r"""The mean log-likelihood of rows under a model, in nats, with its interval, kind, method and space.

    Energy-based models: $-F(x) - \log Z$ with log Z exact where it can be enumerated, else between forward and reverse
    annealing. Latent-variable models: the importance-weighted lower bound (20.79), or a tighter one by annealing from the
    guide. If several processes (``torchrun``) all call it, they share chains and particles, and all get the same figure.

    Args:
        model: a model; one without a likelihood refuses, and says what to do instead.
        x: rows, or a split of a dataset (which knows its space).
        space: the space of the rows, such as ``"binary (fixed)"``; without one the figure refuses comparison.
        method: ``"exact"``, ``"ais"``, ``"bridge"``, ``"raise"`` or ``"importance"``, where the model has it; by default the
            best that the model can do fast.
        options: options of the method, such as ``chains``, ``temperatures``, ``base``, ``warmup`` or ``particles``.

    Raises:
        ValueError: the rows do not fit the model, or the model has no likelihood; parameters or figures that are not finite.

    Warns:
        UserWarning: the figure is a density, and columns hold one value in all or nearly all rows, so that it could grow
            without limit; the message says which columns, and how many nats of the figure are theirs.

    Example:
        >>> import pyro_dgm as dgm
        >>> rbm, x = dgm.RBM.example()
        >>> dgm.log_likelihood(rbm, x, space="binary (toy)").kind
        'exact'
    """
    return with_details(model, x, space, method, **options)[0]


def with_details(
    model: Model,
    x: Tensor | Split,
    space: str | Space | None = None,
    method: str | None = None,
    **options: Any,
) -> tuple[LogLikelihood, dict[str, float]]:
    """``log_likelihood`` and its details, such as both ends of log Z or the effective sample size."""
    if not isinstance(model, Model):
        raise ValueError(
            f"log_likelihood got {described(model)}; expected a model of pyro_dgm. Of a Pyro program and its guide "
            "dgm.log_weights(model, guide, x, particles=...) gives the weights of its bound"
        )
    if isinstance(x, Dataset):
        raise ValueError(f"log_likelihood got the Dataset {x.name!r}; choose a split, such as data.test")
    if isinstance(x, Split):
        space = x.space if space is None else space
        x = x.x
    x = rows_for(model, x, type(model).__name__)
    if not isinstance(method, str | None):
        raise ValueError(f"method got {shown(method)}; expected a name such as 'ais', or None for the best")
    if reason := not_finite(model):
        raise ValueError(f"{type(model).__name__} has no likelihood: {reason}. {_ADVICE}")
    with evaluating(model), unregistered():
        model.check_data(x)
        evidence = model.evidence(x, method, **options)
        measure = model.measure(x[:1])
        details = dict(evidence.details)
        if measure == "density":
            details |= _of_constant_columns(model, x)
    figure = figure_of(evidence, model, x, space, measure, model.evidence_given())
    if measure == "density" and isinstance(space, Space):
        if space.before is not None:
            details["value_before_preprocessing"] = figure.before(space).value
        if figure.value > space.ceiling:
            warnings.warn(
                f"{type(model).__name__}: {figure.value:.2f} nats are above {space.ceiling:.2f}, which no law passes on rows of "
                f"{space} that it has not seen: it has seen these rows, noise included, or its figure is wrong",
                UserWarning,
                stacklevel=3,
            )
    return figure, details


def _of_constant_columns(model: Model, x: Tensor) -> dict[str, float]:
    """How many columns of a density hold one value, and their share of the figure; warns of them."""
    columns = constant_columns(x, model.density_columns(x))
    if not bool(columns.any()):
        return {}
    nats = nats_of_columns(model, x, columns)
    warnings.warn(f"{type(model).__name__}: {warning_of(x, columns, nats)}", UserWarning, stacklevel=4)
    found = {"constant_columns": float(columns.sum())}
    return found if nats is None else found | {"nats_of_constant_columns": nats}


def figure_of(
    evidence: Evidence, model: Model, x: Tensor, space: str | Space | None, measure: str, given: str | None
) -> LogLikelihood:
    """The figure of rows' log-likelihoods, or of their bounds or estimates.

    Args:
        evidence: one figure per row, with their error.
        model: the model, which messages name.
        x: the rows.
        space: that of the rows.
        measure: ``"probability"`` or ``"density"``.
        given: the part of a row that is given, in words.

    Raises:
        ValueError: a figure that is not finite.
    """
    if not evidence.values.isfinite().all():
        row = int((~evidence.values.isfinite()).nonzero()[0])
        raise ValueError(
            f"the log-likelihood of row {row} under {type(model).__name__} came out as {float(evidence.values[row]):g}. Look "
            f"for very large parameters, and for values that the model makes impossible. {_ADVICE}"
        )
    value = float(evidence.values.double().mean())
    stderr_data = float(evidence.values.double().std()) / math.sqrt(len(x)) if len(x) > 1 else math.nan
    if space is not None and bool(x.isnan().any()):
        space = f"{space}, {float(x.isnan().double().mean()):.2g} of the values missing"
    return LogLikelihood(
        value=value,
        stderr_estimator=evidence.stderr,
        stderr_data=stderr_data,
        lower=value + evidence.lower,
        upper=value + evidence.upper,
        kind=evidence.kind,
        method=evidence.method,
        space=None if space is None else str(space),
        n=len(x),
        measure=measure,
        given=given,
        columns=x[0].numel() if given is None else None,
    )
