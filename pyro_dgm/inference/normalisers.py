"""The log Z of a program's energy-based sites: where it cancels it is not needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyro.poutine.messenger import Messenger
from torch import Tensor

from ..distributions.around import bound_inside
from ..energy.distribution import EnergyDistribution

LogZ = Callable[[str, EnergyDistribution, Tensor], Tensor]
"""From a site's name, its distribution and its value to log Z."""


class Normalisers(Messenger):
    """Gives log Z to the energy-based sites of a program that have none bound, where all draws and rows share parameters.

    Elsewhere log Z depends on draws and rows, and the distribution finds it or refuses, as without this handler.

    Args:
        log_z: called when a log-probability is asked for.
        observed: whether observed sites get it too.
    """

    def __init__(self, log_z: LogZ, observed: bool = True) -> None:
        super().__init__()
        self.log_z, self.observed = log_z, observed

    def _pyro_sample(self, msg: Any) -> None:
        if msg["is_observed"] and not self.observed:
            return
        name = msg["name"]

        def bind(fn: EnergyDistribution) -> EnergyDistribution:
            if fn.normalised or fn.parameter_batch_shape:
                return fn
            return fn.with_terms(lambda fn, value: (fn.free_energy(value), self.log_z(name, fn, value)))

        msg["fn"] = bound_inside(msg["fn"], bind)


def up_to_normalisers(program: Callable[..., Any], observed: bool = True) -> Callable[..., Any]:
    """The program with log Z counted as zero where it is a constant, for ratios in which it cancels.

    Args:
        program: a Pyro program.
        observed: whether it is so at observed sites too.

    Example:
        >>> import pyro_dgm as dgm
        >>> from pyro import poutine
        >>> dbn = dgm.DBN(9, hidden=(40, 40))
        >>> bool(poutine.trace(up_to_normalisers(dbn.model)).get_trace(None, 3).log_prob_sum().isfinite())
        True
    """
    return Normalisers(lambda name, fn, value: fn.parameters()[0].new_zeros(()), observed)(program)
