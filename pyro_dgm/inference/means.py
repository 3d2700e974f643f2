"""Programs run at the means of their sites instead of at draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from .random_state import untouched
from .sites import site_of_rows, sites


class _AtMeans(Messenger):
    """Replaces draws by the means of their distributions."""

    def _pyro_post_sample(self, msg: Any) -> None:
        if not msg["is_observed"] and not site_is_subsample(msg):
            msg["value"] = msg["fn"].mean


@torch.no_grad()
def latent_means(guide: Callable[..., Any], x: Tensor) -> dict[str, Tensor]:
    """The means of a guide's latent sites, each given the means of the sites before it: ``rows x ...`` by name.

    Raises:
        NotImplementedError: a site has no mean.
    """
    with untouched(), _AtMeans():
        trace = poutine.trace(guide).get_trace(x)
    return {name: site["value"] for name, site in sites(trace) if not site["is_observed"]}


@torch.no_grad()
def mean_given(model: Callable[..., Any], latents: dict[str, Tensor], x: Tensor) -> Tensor:
    """The mean of the site ``"x"`` given values of the latent sites: ``rows x event_shape``.

    Raises:
        NotImplementedError: the site has no mean.
    """
    with untouched():
        fn = site_of_rows(poutine.trace(poutine.condition(model, data=latents)).get_trace(x))["fn"]
    return fn.mean
