"""Wake-sleep: the model learns from the guide's samples, and the guide from the model's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor

from .importance import per_datum, sites
from .negative_phase import negative_phase
from .objective import Objective
from .phases import NegativePhase


class WakeSleep(Objective):
    r"""Wake-sleep of a model with a guide (Hinton, Dayan, Frey and Neal 1995), the up-down algorithm of a DBN (20.3).

    Wake: $h \sim q(h \mid x)$, and the model's parameters follow $\nabla \log p(x, h)$. Sleep: $(x, h) \sim p$, and the guide's
    follow $\nabla \log q(h \mid x)$, which lowers $\mathrm{KL}(p(h|x) \| q)$ rather than raising the ELBO. Samples carry no
    gradient. The reported loss is the wake part, $-\log p(x, h)$, in nats a row: it holds no entropy and is no bound.

    Args:
        phase: the negative phase of energy-based sites, for a DBN's top machine; sleep starts from its chains.
        sleep: the weight of the sleep loss.

    Raises:
        ValueError: ``sleep`` is negative.
    """

    def __init__(self, phase: NegativePhase | None = None, sleep: float = 1.0) -> None:
        if sleep < 0:
            raise ValueError(f"sleep got {sleep}; expected the weight of the sleep loss, 0 or more")
        self.phase, self.sleep = phase, sleep

    def options(self) -> dict[str, Any]:
        return {**super().options(), "sleep": self.sleep, **({} if self.phase is None else self.phase.options())}

    def attach(self, model: Any) -> None:
        self._model = model.model if self.phase is None else negative_phase(model.model, self.phase)
        self._guide = model.guide

    def loss(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            awake = poutine.trace(self._guide).get_trace(x)
        model = poutine.trace(poutine.replay(self._model, trace=awake)).get_trace(x)
        model.compute_log_prob()
        wake = -_log_prob(model) / len(x)
        dreamt = -asleep(self._model, self._guide, (x,), {}, 1).sum() / len(x)
        # The sleep loss teaches the guide; what is reported is the wake loss.
        return wake + self.sleep * (dreamt - dreamt.detach())

    def schedule(self, share: float) -> None:
        if self.phase is not None:
            self.phase.schedule(share)

    def state_dict(self) -> dict[str, Any]:
        return {} if self.phase is None else self.phase.get_extra_state()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state and self.phase is not None:
            self.phase.set_extra_state(state)


def asleep(
    model: Callable[..., Any], guide: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], nesting: int
) -> Tensor:
    r"""$\log q(z \mid x)$ of every row at the model's own draws $(x, z) \sim p$, with the guide's gradient: ``rows``.

    The program runs without its observations; an argument that it observes is replaced by what was drawn in its place
    when the guide sees it.

    Raises:
        ValueError: no argument is an observation of the model, so the guide could not be shown a dream.
    """
    with torch.no_grad():
        dream = poutine.trace(poutine.uncondition(model)).get_trace(*args, **kwargs)
    seen: dict[int, Any] = {
        id(site["infer"]["obs"]): site["value"] for _, site in sites(dream) if site["infer"].get("was_observed")
    }
    shown = tuple(seen.get(id(value), value) for value in args)
    named = {key: seen.get(id(value), value) for key, value in kwargs.items()}
    if not any(id(value) in seen for value in (*args, *kwargs.values())):
        raise ValueError(
            "sleep needs a program that observes one of its arguments as it is, as in pyro.sample('x', fn, obs=x); none of "
            f"the {len(args) + len(kwargs)} arguments is an observation"
        )
    trace = poutine.trace(poutine.replay(guide, trace=dream)).get_trace(*shown, **named)
    return per_datum(trace, nesting)


def _log_prob(trace: Any) -> Tensor:
    sites = prune_subsample_sites(trace).nodes.values()
    return sum(site["log_prob_sum"] for site in sites if site["type"] == "sample")  # type: ignore[return-value]
