"""Rows that a model generates with their gradient, for criteria that compare them with data."""

from __future__ import annotations

from typing import Any, cast

import torch
from pyro import poutine
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from ...inference.random_state import untouched
from ...inference.registration import unregistered
from ...nets.modes import evaluating


def counterparts(model: Any, x: Tensor, site: str = "x") -> Tensor:
    """The values of a site in as many generated rows as there are rows of data, with the gradient of the program.

    A conditional model takes over from the data what it is given (labels).

    Args:
        model: a model with ``counterparts``.
        x: rows of data.
        site: the program's site.
    """
    with unregistered():
        if site == "x":
            return cast(Tensor, model.counterparts(x))
        trace = poutine.trace(lambda: model.counterparts(x)).get_trace()
        return cast(Tensor, trace.nodes[site]["value"])


def check_differentiable(model: Any, owner: str, site: str = "x") -> Tensor:
    """Check that generated rows carry a gradient; returns two of them.

    Args:
        model: the model.
        owner: the criterion, for messages.
        site: the site whose values are compared with data.

    Raises:
        ValueError: the model has no program, the program no such site, the site is discrete, or a latent site through which
            no gradient passes has parameters that are learned.
    """
    if not hasattr(model, "counterparts"):
        raise ValueError(
            f"{owner} got {type(model).__name__}, which draws no rows with a gradient; expected a model with a Pyro program, "
            "such as dgm.GAN, or a ProbabilisticModel of your own"
        )
    with untouched(), unregistered(), evaluating(model):
        like = model.sample(2)
        trace = poutine.trace(lambda: model.counterparts(like)).get_trace()
    if site not in trace.nodes:
        found = [name for name, node in trace.nodes.items() if node["type"] == "sample" and name != "data"]
        raise ValueError(f"{owner} compares the site {site!r}; the program has {found}")
    for name, node in trace.nodes.items():
        if node["type"] != "sample" or site_is_subsample(node):
            continue
        if _passes_gradients(node):
            continue
        if name == site or _is_learned(node):
            raise ValueError(
                f"{owner} got {type(model).__name__}, whose site {name!r} ({type(node['fn']).__name__}) is not "
                "reparameterised: no gradient passes from generated rows to its parameters. Use a model with continuous "
                "draws, or train this one by its likelihood or by a score-function estimator (dgm.NVIL)"
            )
    return cast(Tensor, trace.nodes[site]["value"]).detach()


def _passes_gradients(node: Any) -> bool:
    """Whether the site's value is a differentiable function of its distribution's parameters."""
    if node.get("infer", {}).get("_deterministic"):
        return True
    return bool(getattr(node["fn"], "has_rsample", False))


def _is_learned(node: Any) -> bool:
    """Whether the site's distribution depends on parameters that are trained."""
    with torch.enable_grad():
        return bool(node["fn"].log_prob(node["value"].detach()).requires_grad)
