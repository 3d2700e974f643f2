"""Pyro's ELBOs in ``SVI`` at the cost of a hand-written step."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from pyro.infer import ELBO, Trace_ELBO
from torch import Tensor

from ..inference.light import Watched
from .elbo_steps import ElboSteps

_KEPT = 4
"""The number of pairs of programs that are known at a time."""


class LightELBO(ELBO):
    r"""One of Pyro's ELBOs, estimated without traces where the programs allow it: for ``SVI`` with stock optimisers.

    The loss is that of the estimator within, $-\mathcal L(q) = -E_q[\log p(x, z) - \log q(z \mid x)]$ in nats (20.76), by the
    same draws, to rounding, and so are the gradients. Pyro's handlers of plates, replay and traces are left out where the
    estimator is ``Trace_ELBO`` or ``TraceMeanField_ELBO`` with one draw, all sites lie in the plate of
    rows that the models of this package open, and latents are reparameterised. All else (your own plates, discrete latents,
    more draws, handlers around the step, losses that are not finite) goes to the estimator as it is.

    The first step of a model and its guide is the estimator's own, so guides and parameters that are made at their first use
    are made as ever; and so are all steps where the first one shows that the programs need it. A later step that turns out to
    need it runs the programs a second time, with the same draws of torch's: what else they change or draw, they do twice.
    Programs are known again as the same objects, as ``SVI`` keeps them: ``vae.model`` is a new one every time.

    Parameters of the laws are validated in the first two steps, observed values in every one.

    Args:
        elbo: the estimator; ``Trace_ELBO`` by default.

    Raises:
        ValueError: ``elbo`` is no estimator (a class instead of an instance, say).

    See also:
        ``dgm.fit``, which trains without ``SVI``, and is faster still.

    Example:
        >>> import pyro, pyro_dgm as dgm
        >>> from pyro.infer import SVI, TraceMeanField_ELBO
        >>> vae, x = dgm.VAE.example()
        >>> svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 0.01}), dgm.LightELBO(TraceMeanField_ELBO()))
        >>> bool(svi.step(x) > 0)
        True
    """

    def __init__(self, elbo: ELBO | None = None) -> None:
        elbo = Trace_ELBO(max_plate_nesting=1) if elbo is None else elbo
        if not isinstance(elbo, ELBO):
            raise ValueError(f"elbo got {elbo!r}; expected an instance such as pyro.infer.TraceMeanField_ELBO()")
        super().__init__(elbo.num_particles, elbo.max_plate_nesting, retain_graph=elbo.retain_graph)
        self.elbo: Any = elbo
        self._known: list[tuple[Any, Any, ElboSteps | None]] = []

    def loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Any:
        """The loss as a number, or as what the estimator returns instead."""
        with torch.no_grad():
            light = self._light(model, guide, args, kwargs)
        return self._by_estimator("loss", model, guide, args, kwargs) if light is None else light.item()

    def differentiable_loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Tensor:
        """The loss as a tensor with the estimator's gradients."""
        light = self._light(model, guide, args, kwargs)
        if light is not None:
            return light
        stock: Tensor = self._by_estimator("differentiable_loss", model, guide, args, kwargs)
        return stock

    def loss_and_grads(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Any:
        """The loss as ``loss`` returns it, with its gradients in the parameters."""
        light = self._light(model, guide, args, kwargs)
        if light is None:
            return self._by_estimator("loss_and_grads", model, guide, args, kwargs)
        if light.requires_grad:
            light.backward(retain_graph=self.retain_graph)
        return light.item()

    def _light(self, model: Any, guide: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
        known = self._find(model, guide)
        return None if known is None or known[2] is None else known[2].light(args, kwargs)

    def _find(self, model: Any, guide: Any) -> tuple[Any, Any, ElboSteps | None] | None:
        return next((known for known in self._known if known[:2] == (model, guide)), None)

    def _by_estimator(self, method: str, model: Any, guide: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the estimator's method returns; programs that it has not seen are known from then on."""
        by_estimator = getattr(self.elbo, method)
        if self._find(model, guide) is not None:
            return by_estimator(model, guide, *args, **kwargs)
        steps, watched = ElboSteps(self.elbo, model, guide), Watched()
        with watched if steps.plain else nullcontext():
            result = by_estimator(model, guide, *args, **kwargs)
        known = model, guide, steps if steps.plain and watched.plain else None
        self._known = [*self._known, known][-_KEPT:]
        return result

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_known": []}  # a copy is of the estimator, and not of the programs it saw

    def _get_trace(self, *args: Any) -> Any:
        return self.elbo._get_trace(*args)
