"""Hidden layers of an energy-based model as Pyro sites."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions import Delta, TorchDistribution
from torch import Tensor
from torch.distributions import constraints, register_kl

from ..energy import BoltzmannDistribution


class JointDraw:
    """One joint draw of all layers, made when the first hidden site asks for it."""

    def __init__(self, dist_x: BoltzmannDistribution) -> None:
        self.dist_x = dist_x
        self.state: dict[str, Tensor] | None = None
        self.drawn: set[str] = set()

    def layer(self, name: str, shape: Sequence[int]) -> Tensor:
        if self.state is None:
            self.state = self.dist_x.sample_state(torch.Size(shape))
        self.drawn.add(name)
        return self.state[name]

    def check(self, names: Sequence[str]) -> None:
        """Refuse values of some hidden sites beside joint draws of the others: they would not fit together."""
        drawn = [name for name in names if name in self.drawn]
        if drawn and len(drawn) < len(names):
            raise ValueError(
                f"the hidden layers are drawn together, but {[n for n in names if n not in drawn]} got values and {drawn} did "
                "not. Give all of them, as a guide with every hidden site does; or clamp layers in a kernel, as in "
                "dgm.BlockGibbs(dbm(), clamp={...})"
            )


class HiddenSite(TorchDistribution):
    """The site of a hidden layer: it draws its part of the joint draw; the visible site carries its log-probability."""

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(self, joint: JointDraw, name: str, like: Tensor, batch_shape: Sequence[int] = ()) -> None:
        self.joint, self.name, self.like = joint, name, like
        shape = joint.dist_x.machine.graph.layers[name].shape
        super().__init__(torch.Size(batch_shape), shape, validate_args=False)

    @constraints.dependent_property
    def support(self) -> constraints.Constraint:
        """That of the layer's states, of which inference in real numbers reads that it cannot draw bits.

        A guide may give mean statistics in place of states: values are not checked.
        """
        unit = self.joint.dist_x.machine.graph.layers[self.name]
        return constraints.independent(unit.support, unit.event_dim - unit.inner_dim)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> HiddenSite:
        return HiddenSite(self.joint, self.name, self.like, torch.Size(batch_shape))

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.joint.layer(self.name, (*sample_shape, *self.batch_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        return self.like.new_zeros(()).expand(value.shape[: value.dim() - len(self.event_shape)])


@register_kl(Delta, HiddenSite)
def _divergence(guide: Delta, site: HiddenSite) -> Tensor:
    """With the density of the point mass, in which the guide of a machine keeps its entropy; Pyro's rule leaves it out."""
    divergence: Tensor = guide.log_density - site.log_prob(guide.v)
    return divergence
