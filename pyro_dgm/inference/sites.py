"""The sites of a program's trace: which of them have a density, of what kind it is, and which site made the program fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import pyro
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from .random_state import untouched

PARTICLES = "_importance_particles"
"""The name of the particles' plate."""
FAILURES = (ValueError, RuntimeError, IndexError, ZeroDivisionError)
"""The errors of programs that do not fit their arguments, one another or their parameters."""
_NOT_FINITE = (
    ", so the weights are not finite. Look for parameters that became NaN (a smaller learning rate), or for a value outside "
    "the site's support"
)


def sites(trace: Any) -> Iterator[tuple[str, Any]]:
    """The sample sites of a trace that have a density: without plates and ``pyro.deterministic`` values."""
    for name, site in trace.nodes.items():
        if (
            site["type"] == "sample"
            and name != PARTICLES
            and not site_is_subsample(site)
            and "_deterministic" not in site["infer"]
        ):
            yield name, site


def site_of_rows(trace: Any) -> Any:
    """The site ``"x"`` of a model's trace, which is that of the rows.

    Raises:
        ValueError: there is none; the message names the sites that there are.
    """
    if "x" not in trace.nodes:
        there = ", ".join(repr(name) for name, _ in sites(trace)) or "none"
        raise ValueError(
            f"the model has no site 'x', which is that of the rows; its sites: {there}. Name the observed site so, as in "
            'pyro.sample("x", ..., obs=x)'
        )
    return trace.nodes["x"]


def is_scored(site: Any) -> bool:
    """Whether a guide's site has a density but no path, so that gradients through its draw need its score.

    Raises:
        ValueError: a ``pyro.factor`` that does not say whether it belongs to a reparameterised draw.
    """
    if site["fn"].has_rsample:
        return False
    if site["is_observed"] and type(site["fn"]).__name__ == "Unit" and "has_rsample" not in vars(site["fn"]):
        raise ValueError(
            f"pyro.factor({site['name']!r}) in the guide does not say of what kind of draw it is; pass has_rsample=True for "
            "a reparameterised one, False for others"
        )
    # Other observations are no draws: their gradient is direct.
    return not site["is_observed"] or bool(site["infer"].get("is_auxiliary"))


def refuse_auxiliary(guide_trace: Any, purpose: str) -> None:
    """Refuse a guide whose density is known only at its own draws.

    Raises:
        ValueError: the guide draws an auxiliary site.
    """
    for name, site in sites(guide_trace):
        if not site["is_observed"] and site["infer"].get("is_auxiliary"):
            raise ValueError(
                f"{purpose} needs the guide's density of every latent at the latent's own site, but the guide makes latents "
                f"from the auxiliary site {name!r}, as Pyro's AutoNormal does; sample them directly in a guide of your own"
            )


def subsample(trace: Any, site: Any) -> tuple[Tensor, int] | None:
    """The indices of the rows in the data plate around a site, and the plate's full size; None if the trace has no such plate."""
    for frame in site["cond_indep_stack"]:
        if frame.dim == -1 and frame.name in trace.nodes:
            return torch.as_tensor(trace.nodes[frame.name]["value"]), frame.full_size or frame.size
    return None


def traced(program: Callable[..., Any], whose: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The trace of a program, which messages call ``whose``: the ``"guide"`` or the ``"model"``.

    Raises:
        ValueError: there are no rows, or a site cannot be drawn or has parameters that are not finite; the message names it.
    """
    try:
        return poutine.trace(program).get_trace(*args, **kwargs)
    except FAILURES as error:
        explain(program, whose, args, kwargs, error)


def explain(
    program: Callable[..., Any], whose: str, args: tuple[Any, ...], kwargs: dict[str, Any], error: Exception
) -> NoReturn:
    """Raise an error that names the site which made a program fail, if a second run finds it; else raise ``error`` again."""
    if isinstance(error, ZeroDivisionError) and "size cannot be zero" in str(error):
        raise ValueError(f"a plate of the {whose} has no rows; pass a batch of at least one row") from error
    entered, tracer = _Entered(), poutine.trace(program)
    bad: tuple[str, float] | None = None
    try:
        # No handler around the program may see it run once more: a trace would find every site twice.
        with poutine.block(), torch.no_grad(), untouched(), pyro.validation_enabled(False), entered:
            bad = _not_finite(tracer.get_trace(*args, **kwargs))
    except FAILURES as again:
        if entered.name is not None and entered.name not in tracer.trace:
            raise ValueError(
                f"site {entered.name!r} of the {whose} could not be drawn ({first_line(again)}). Look for parameters that "
                "became NaN (a smaller learning rate), or are outside the distribution's range"
            ) from error
    if bad is not None:
        raise ValueError(f"site {bad[0]!r} of the {whose} has the log-probability {bad[1]:g}{_NOT_FINITE}") from error
    if "Trace Shapes:" in str(error):
        after = f", after site {entered.name!r}" if entered.name is not None else ""
        raise ValueError(f"{first_line(error)} (in the {whose}{after})") from error
    raise error


class _Entered(Messenger):
    """Records the site that was entered last."""

    name: str | None = None

    def _pyro_sample(self, msg: Any) -> None:
        self.name = msg["name"]


def first_line(error: Exception) -> str:
    """The message of an error, without dumps of tensors and traces."""
    return str(error).partition("\n")[0]


def _not_finite(trace: Any) -> tuple[str, float] | None:
    """The first site whose log-probability is not finite, and that log-probability."""
    for name, site in sites(trace):
        value = scale_and_mask(site["fn"].log_prob(site["value"]).detach(), mask=site["mask"])
        finite = torch.isfinite(value)
        if not bool(finite.all()):
            return name, float(value[~finite][0])
    return None


def blame(trace: Any, whose: str, why: str = _NOT_FINITE) -> None:
    """Raise an error that names the first site whose log-probability is not finite, if there is one.

    Raises:
        ValueError: there is one.
    """
    bad = _not_finite(trace)
    if bad is not None:
        raise ValueError(f"site {bad[0]!r} of the {whose} has the log-probability {bad[1]:g}{why}")
