"""The latents of a model and its guide as numbers that chains can move: unconstrained coordinates and bits."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from pyro import poutine
from torch import Tensor
from torch.distributions import biject_to, constraints

from ..inference.importance import particle_plate, per_datum, traces
from ..inference.sites import refuse_auxiliary, sites

SCALES = 32
"""The number of the guide's draws from which the standard deviations of its coordinates are estimated."""


class Position(NamedTuple):
    """The positions of chains.

    Attributes:
        real: unconstrained coordinates of continuous latents, ``chains x rows x coordinates``.
        bits: binary latents, ``chains x rows x bits``.
    """

    real: Tensor
    bits: Tensor


class _Site(NamedTuple):
    name: str
    shape: torch.Size
    transform: Any


class LatentCoordinates:
    """The latent sites of a model and a guide with a data plate at dim -1, for given rows.

    Args:
        model: a Pyro program with an observed site.
        guide: a Pyro program with the model's latent sites, continuous or binary.
        args: the programs' arguments.
        kwargs: their keyword arguments.

    Attributes:
        rows: the data plate's size.
        scale: standard deviations of the guide's coordinates over some draws, ``rows x coordinates``.

    Raises:
        ValueError: sites that do not fit, are not in the data plate, are discrete but no bits, or have a support that
            depends on other latents; auxiliary sites of the guide; programs whose densities change from call to call.
    """

    def __init__(
        self, model: Callable[..., Any], guide: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.model, self.guide, self.args, self.kwargs = model, guide, args, kwargs
        model_trace, guide_trace = traces(model, guide, args, kwargs, SCALES, 1)
        refuse_auxiliary(guide_trace, "annealing")
        log_p = per_datum(model_trace, 1)
        self.rows, self._like = log_p.shape[-1], log_p
        self._real: list[_Site] = []
        self._bits: list[_Site] = []
        for name, site in sites(guide_trace):
            if not site["is_observed"]:
                self._add(name, site)
        position = self._position(_values(guide_trace), SCALES)
        self.scale = position.real.std(0).clamp_min(1e-6) if self._real else position.real[0]
        first, second = self.log_densities(position), self.log_densities(position)
        for a, b, which in zip(first, second, ("model", "guide", "guide"), strict=True):
            if not torch.allclose(a, b, rtol=1e-4, atol=1e-3, equal_nan=True):
                raise ValueError(
                    f"the {which}'s log-probability of the same latents changes from call to call; annealing needs programs "
                    "that draw nothing but their sites. With dropout call .eval() on the model first"
                )

    def _add(self, name: str, site: Any) -> None:
        support = base = site["fn"].support
        while isinstance(base, constraints.independent):
            base = base.base_constraint
        if site["value"].shape[:2] != (SCALES, self.rows):
            raise ValueError(
                f"site {name!r} has shape {tuple(site['value'].shape[1:])}; expected the {self.rows} rows of the data plate "
                "(dim -1) first and no other plate; use to_event for further dimensions"
            )
        if base is constraints.boolean:
            self._bits.append(_Site(name, site["value"].shape[2:], None))
        elif support.is_discrete:
            raise ValueError(
                f"site {name!r} is a {type(site['fn']).__name__}, discrete but not binary; annealing moves continuous latents "
                "and bits"
            )
        else:
            transform = biject_to(_of_all_draws(support, name, site["value"].dim()))
            self._real.append(_Site(name, transform.inverse_shape(site["value"].shape)[2:], transform))

    def draw(self, chains: int) -> Position:
        """Draws of the guide."""
        with particle_plate(chains, 1):
            return self._position(_values(poutine.trace(self.guide).get_trace(*self.args, **self.kwargs)), chains)

    def at(self, values: dict[str, Tensor], chains: int) -> Position:
        """The position of chains that are all at the same latents, by the names of their sites: each ``rows x event_shape``."""
        return self._position({name: value.expand(chains, *value.shape) for name, value in values.items()}, chains)

    def _position(self, values: dict[str, Tensor], chains: int) -> Position:
        real = [s.transform.inv(values[s.name]).reshape(chains, self.rows, s.shape.numel()) for s in self._real]
        bits = [values[s.name].reshape(chains, self.rows, s.shape.numel()) for s in self._bits]
        no_columns = self._like.new_zeros(chains, self.rows, 0)
        return Position(torch.cat([no_columns, *real], -1), torch.cat([no_columns, *bits], -1))

    def values(self, at: Position) -> tuple[dict[str, Tensor], Tensor]:
        r"""The latents by site, ``chains x rows x event_shape``, and $\log |\partial z / \partial u|$, ``chains x rows``."""
        chains = len(at.real)
        values, volume = {}, torch.zeros_like(self._like[:1]).expand(chains, -1)
        for site, u in zip(self._real, at.real.split([s.shape.numel() for s in self._real], -1), strict=True):
            u = u.view(chains, self.rows, *site.shape)
            values[site.name] = z = site.transform(u)
            change = site.transform.log_abs_det_jacobian(u, z)
            volume = volume + change.reshape(chains, self.rows, -1).sum(-1)
        for site, b in zip(self._bits, at.bits.split([s.shape.numel() for s in self._bits], -1), strict=True):
            values[site.name] = b.view(chains, self.rows, *site.shape)
        return values, volume

    def log_densities(self, at: Position) -> tuple[Tensor, Tensor, Tensor]:
        r"""$\log p(x, z)$, $\log q(z \mid x)$ and $\log |\partial z / \partial u|$ of every chain and row, ``chains x rows``."""
        chains = len(at.real)
        values, volume = self.values(at)
        log_densities = []
        for program in (self.model, self.guide):
            with particle_plate(chains, 1):
                trace = poutine.trace(poutine.condition(program, data=values)).get_trace(*self.args, **self.kwargs)
            log_densities.append(torch.as_tensor(per_datum(trace, 1)).expand(chains, self.rows))
        return log_densities[0], log_densities[1], volume


def _of_all_draws(support: constraints.Constraint, name: str, dims: int) -> constraints.Constraint:
    """A support whose bounds are the same in all draws of the guide, without the dimension of the draws.

    Raises:
        ValueError: a bound changes from draw to draw.
    """
    if isinstance(support, constraints.independent):
        base = _of_all_draws(support.base_constraint, name, dims)
        return constraints.independent(base, support.reinterpreted_batch_ndims)
    of_all = copy.copy(support)
    for bound, value in vars(support).items():
        if isinstance(value, Tensor) and value.dim() == dims and len(value) == SCALES:
            if not bool((value == value[:1]).all()):
                raise ValueError(
                    f"site {name!r} has a support that depends on other latents ({bound} changes from draw to draw); annealing "
                    "moves latents in fixed coordinates: draw it from a fixed support, and scale it in the program"
                )
            setattr(of_all, bound, value[:1])
    return of_all


def _values(trace: Any) -> dict[str, Tensor]:
    return {name: site["value"] for name, site in sites(trace)}
