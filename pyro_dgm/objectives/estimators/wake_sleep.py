"""Wake-sleep: the model learns from the guide's samples, and the guide from the model's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.uncondition_messenger import UnconditionMessenger
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor

from ...checks import check_positive
from ...inference.importance import per_datum
from ...inference.sites import blame, refuse_auxiliary, sites, subsample, traced
from ..objective import Objective
from ..phases.phase import NegativePhase
from ..phases.program import negative_phase


class WakeSleep(Objective):
    r"""Wake-sleep of a model with a guide (Hinton, Dayan, Frey and Neal 1995), the up-down algorithm of a DBN (20.3).

    Wake: $h \sim q(h \mid x)$, and the model's parameters follow $\nabla \log p(x, h)$. Sleep: $(x, h) \sim p$, and the guide's
    parameters follow $\nabla \log q(h \mid x)$, which lowers $\mathrm{KL}(p(h|x) \| q)$ rather than raising the ELBO. Samples
    carry no gradient. The reported loss is the wake part, $-\log p(x, h)$, in nats per row: it has no entropy term and is no
    bound. With a guide without latents there is no sleep part.

    Args:
        phase: the negative phase of energy-based sites, for the top machine of a DBN; sleep starts from its chains.
        sleep: the weight of the sleep loss.

    Raises:
        ValueError: ``sleep`` is negative or not finite; at a step, a guide without a density at the model's draws, as a
            ``DBM``'s of point masses.
    """

    def __init__(self, phase: NegativePhase | None = None, sleep: float = 1.0) -> None:
        check_positive("sleep", sleep, "the weight of the sleep loss", zero=True)
        self.phase, self.sleep = phase, sleep

    def options(self) -> dict[str, Any]:
        return {**super().options(), "sleep": self.sleep, **({} if self.phase is None else self.phase.options())}

    def attach(self, model: Any) -> None:
        self._model = model.model if self.phase is None else negative_phase(model.model, self.phase)
        self._guide = model.guide

    def loss(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            awake = traced(self._guide, "guide", (x,), {})
        model = traced(poutine.replay(self._model, trace=awake), "model", (x,), {})
        model.compute_log_prob()
        wake = -_log_prob(model) / len(x)
        if not any(sites(awake)):
            return wake
        sleep = -asleep(self._model, self._guide, (x,), {}, 1).sum() / len(x)
        # The sleep loss trains the guide; its value is not reported.
        return wake + self.sleep * (sleep - sleep.detach())

    def ill_with(self, optimiser: str) -> str | None:
        return None if self.phase is None else self.phase.ill_with(optimiser)

    def schedule(self, share: float) -> None:
        if self.phase is not None:
            self.phase.schedule(share)

    def scheduled(self) -> bool:
        return self.phase is not None and self.phase.scheduled()

    def state_dict(self) -> dict[str, Any]:
        return {} if self.phase is None else self.phase.get_extra_state()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state and self.phase is not None:
            self.phase.set_extra_state(state)


def asleep(
    model: Callable[..., Any], guide: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], nesting: int
) -> Tensor:
    r"""$\log q(z \mid x)$ of every row at the model's own draws $(x, z) \sim p$, with the guide's gradient: ``rows``.

    The program runs without its observations. An argument that it observes, or of which it observes the rows of a
    subsampled data plate, is replaced by the draw before the guide runs.

    Raises:
        ValueError: no argument is an observation of the model, so the guide could not be shown a draw; the guide has no
            density at a draw of the model.
    """
    with torch.no_grad():
        dream = traced(_Unobserved()(model), "model", args, kwargs)
    shown = tuple(_shown(value, dream) for value in args)
    named = {key: _shown(value, dream) for key, value in kwargs.items()}
    if all(new is old for new, old in zip((*shown, *named.values()), (*args, *kwargs.values()), strict=True)):
        raise ValueError(
            "sleep needs a program that observes one of its arguments as it is, as in pyro.sample('x', fn, obs=x), or its rows "
            f"of the data plate, as in obs=x[i]; none of the {len(args) + len(kwargs)} arguments is an observation"
        )
    trace = traced(poutine.replay(guide, trace=dream), "guide", shown, named)
    refuse_auxiliary(trace, "sleep")
    log_q = torch.as_tensor(per_datum(trace, nesting))
    if not bool(torch.isfinite(log_q).all()):
        blame(trace, "guide", _NO_DENSITY)
    return log_q


_NO_DENSITY = (
    " at a draw of the model. Sleep needs a guide with a density wherever the model draws, which point masses (Delta, mean "
    "field) do not have, and finite parameters"
)


class _Unobserved(UnconditionMessenger):
    """Draws the observed sites of a program, and leaves ``pyro.deterministic`` values alone."""

    def _pyro_sample(self, msg: Any) -> None:
        if "_deterministic" not in msg["infer"]:
            super()._pyro_sample(msg)


def _shown(value: Any, dream: Any) -> Any:
    """An argument as the guide sees it: with draws in place of what the model observes of it, if it observes anything."""
    for _, site in sites(dream):
        if not site["infer"].get("was_observed"):
            continue
        observed, drawn = site["infer"]["obs"], site["value"]
        if observed is value:
            return drawn
        plate = subsample(dream, site)
        if plate is None or not isinstance(value, Tensor) or value.shape[:1] != (plate[1],):
            continue
        rows = plate[0].to(value.device)
        if value[rows].shape == observed.shape and torch.equal(value[rows], observed):
            return value.index_copy(0, rows, drawn.to(value))
    return value


def _log_prob(trace: Any) -> Tensor:
    sites = prune_subsample_sites(trace).nodes.values()
    return sum(site["log_prob_sum"] for site in sites if site["type"] == "sample")  # type: ignore[return-value]
