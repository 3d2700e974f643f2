"""One run of a model and a guide with particles, and its log-probabilities per datum."""

from __future__ import annotations

from typing import Any, NamedTuple

import pyro
import torch
from pyro.infer.util import is_validation_enabled
from torch import Tensor

from ...inference.importance import per_datum
from ...inference.sites import blame, is_scored, sites, subsample


class Draws(NamedTuple):
    r"""Log-probabilities of K draws of a guide, each ``particles x rows``.

    Attributes:
        log_p: $\log p(x_n, z_{kn})$.
        log_q: $\log q(z_{kn} \mid x_n)$.
        score: the part of ``log_q`` whose draws carry no gradient (those of discrete latents); zero if there are none.
    """

    log_p: Tensor
    log_q: Tensor
    score: Tensor

    @property
    def log_weights(self) -> Tensor:
        r"""$\log w_{kn} = \log p - \log q$."""
        return self.log_p - self.log_q


class Run:
    """Traces of a model and a guide with particles, and their log-probabilities per datum.

    Args:
        model_trace: that of the model at the guide's draws.
        guide_trace: that of the guide.
        particles: the number of draws a row.
        nesting: the number of plates in the model.
        checked: whether the sites' values were checked already, as far as they are to be.
    """

    def __init__(self, model_trace: Any, guide_trace: Any, particles: int, nesting: int, checked: bool = False) -> None:
        self.model_trace, self.guide_trace, self.particles, self.nesting = model_trace, guide_trace, particles, nesting
        self.checked = checked

    @property
    def scale(self) -> float | Tensor:
        """The scale of the data plate and of ``poutine.scale``: one number, or one per row.

        Raises:
            ValueError: a site has another scale than the first, or a scale that does not fit its rows.
        """
        first: tuple[float | Tensor, str] | None = None
        for whose, trace in (("model", self.model_trace), ("guide", self.guide_trace)):
            for name, site in sites(trace):
                scale = site["scale"]
                if isinstance(scale, Tensor):
                    scale = _of_rows(scale, site, whose)
                if first is None:
                    first = scale, f"site {name!r} of the {whose}"
                elif not _equal(scale, first[0]):
                    raise ValueError(
                        f"site {name!r} of the {whose} is scaled by {_words(scale)} and {first[1]} by {_words(first[0])}; a "
                        "datum's bound has one scale: put poutine.scale around model and guide, and size their plates alike"
                    )
        return 1.0 if first is None else first[0]

    def rows_of(self, value: Any, rows: int) -> Any:
        """The rows of an argument that are in the data plate: all of it, unless the plate takes a subsample."""
        if not isinstance(value, Tensor) or value.shape[:1] == (rows,):
            return value
        for _, site in sites(self.model_trace):
            plate = subsample(self.model_trace, site)
            if plate is not None and value.shape[:1] == (plate[1],):
                return value[plate[0].to(value.device)]
        return value

    @property
    def all_scored(self) -> bool:
        """Whether no site of the guide is reparameterised."""
        return all(is_scored(site) for _, site in sites(self.guide_trace))

    def require_paths(self) -> None:
        """Refuse latents that are not reparameterised.

        Raises:
            ValueError: there is one; the message names the site.
        """
        for name, site in sites(self.guide_trace):
            if is_scored(site):
                raise ValueError(
                    f"site {name!r} of the guide is a {type(site['fn']).__name__}, which is not reparameterised. Use "
                    "dgm.VIMCO or dgm.ReweightedWakeSleep for discrete latents"
                )

    def figures(self) -> Draws:
        """The log-probabilities of all draws, ``particles x rows``.

        Raises:
            ValueError: a site has a log-probability that is not finite; the message names it.
        """
        with pyro.validation_enabled(is_validation_enabled() and not self.checked):
            log_p = torch.as_tensor(per_datum(self.model_trace, self.nesting))
            log_q = torch.as_tensor(per_datum(self.guide_trace, self.nesting))  # zero for a guide without sites
        for whose, trace, total in (("guide", self.guide_trace, log_q), ("model", self.model_trace, log_p)):
            if not bool(torch.isfinite(total).all()):
                blame(trace, whose)
        rows = max(log_p.shape[-1:], log_q.shape[-1:])  # shapes are tuples: () < (1,) < (n,)
        shape = (self.particles, *rows)
        scored = [is_scored(site) for _, site in sites(self.guide_trace)]
        if all(scored):
            score = log_q
        elif not any(scored):
            score = torch.zeros((), device=log_q.device)
        else:
            score = per_datum(self.guide_trace, self.nesting, is_scored)
        return Draws(log_p.expand(shape), log_q.expand(shape), score.expand(shape))


def _of_rows(scale: Tensor, site: Any, whose: str) -> float | Tensor:
    """A scale as one number, or one per row."""
    if scale.numel() == 1:
        return float(scale)
    rows = site["fn"].batch_shape[-1:]
    if scale.shape != rows:
        raise ValueError(
            f"site {site['name']!r} of the {whose} has a scale of shape {tuple(scale.shape)}; expected one number, or one for "
            f"every row of the data plate, of shape {tuple(rows)}"
        )
    return scale


def _equal(one: float | Tensor, two: float | Tensor) -> bool:
    if isinstance(one, Tensor) and isinstance(two, Tensor):
        return torch.equal(one, two)
    return not isinstance(one, Tensor) and not isinstance(two, Tensor) and one == two


def _words(scale: float | Tensor) -> str:
    return "a number for every row" if isinstance(scale, Tensor) else f"{scale:g}"
