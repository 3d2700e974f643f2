"""Steps that heat a state up and cool it down again."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ..energy import BoltzmannDistribution, Clamp, Colour, Machine, State
from ..energy.temperatures import evenly
from ..energy.temperatures import temperatures as ladder
from .gibbs import BlockGibbs, Clamping, checked_clamp, first_states
from .kernel import EnergyKernel, check_layers, units_of
from .replicas import Fields, Natural, Remade, Replicas, at_every_temperature, average, leading_shape, product_base


class TemperedTransitions(EnergyKernel):
    r"""Steps that go up to a high temperature and down again, accepted as a whole (Neal 1996; Salakhutdinov 2009).

    From $x$ a step makes a Gibbs sweep at each inverse temperature from just below 1 to the lowest. Then it makes the same
    sweeps back up to 1, with the colours in reverse order, so that they reverse the first ones in law. With
    $p_i \propto e^{-E_i}$ as in ``dgm.ParallelTempering``, every chain accepts the step with probability

    $\min\bigl(1, \prod_i \frac{p_{i+1}(\hat x_i)}{p_i(\hat x_i)} \frac{p_i(\check x_i)}{p_{i+1}(\check x_i)}\bigr)$,

    so that detailed balance holds. The first colour is summed out of all ratios and drawn afresh at the end. A step costs
    two sweeps per temperature, and is accepted only if these are closely spaced. ``diagnostics`` has the
    ``acceptance rate``.

    Args:
        dist: the Boltzmann distribution, as ``rbm()`` returns it.
        temperatures: their number, evenly spaced from $\beta = 0$; or the inverse temperatures in strict order, with 1 at
            one end.
        clamp: as in ``dgm.BlockGibbs``; it holds at every temperature.
        base: as in ``dgm.ParallelTempering``.

    Raises:
        ValueError: a distribution without layers; temperatures out of order or without 1; a base or clamp that does not fit.

    Example:
        >>> import pyro_dgm as dgm
        >>> rbm = dgm.RBM(visible=4, hidden=3)
        >>> kernel = dgm.TemperedTransitions(rbm(), temperatures=20)
        >>> kernel.sample(kernel.start(7))["visible"].shape
        torch.Size([7, 4])
        >>> kernel.diagnostics()["acceptance rate"] > 0.9
        True
    """

    def __init__(
        self,
        dist: BoltzmannDistribution,
        temperatures: int | Sequence[float] | Tensor,
        clamp: Clamping = None,
        base: Natural | None = None,
    ) -> None:
        super().__init__(dist)
        check_layers(self, dist)
        self.gibbs, self.shapes = BlockGibbs(dist), dist.shapes
        self.clamp = checked_clamp(dist, clamp)
        self.base = product_base(dist.machine, base)
        betas = (
            ladder(temperatures, evenly, whole=False, numbers=units_of(dist)).flip(0).to(dist.parameters()[0].device)
        )
        self._parameters = dist.parameters()
        self._levels: Remade[list[Replicas]] = Remade(
            lambda: [Replicas(dist.machine, self.base, beta) for beta in betas.split(1)]
        )
        self.tuning = {"rate": torch.zeros_like(betas[0]), "steps": torch.zeros_like(betas[0])}

    def start(self, chains: int) -> State:
        return first_states(self.gibbs.dist, self.clamp, chains)

    def sample(self, params: State) -> State:
        with torch.no_grad():
            clamp = at_every_temperature(self.clamp)
            summed, others = _split_first(self.gibbs.machine, clamp)
            levels = self._levels(*self._parameters)
            target = levels[0]
            old = {layer: x.unsqueeze(1) for layer, x in params.items()}
            new, statistics = dict(old), target.statistics(old)
            old_fields = fields = target.fields(summed, statistics, leading_shape(statistics))
            log_ratio = torch.zeros(())
            for cold, hot in pairwise(levels):
                log_ratio = log_ratio + _log_ratio(summed, fields, statistics, cold, hot)
                fields = self._sweep(hot, [summed, *others], fields, new, statistics, clamp)
            for hot, cold in pairwise(reversed(levels)):
                fields = self._sweep(hot, [summed, *reversed(others)], fields, new, statistics, clamp)
                log_ratio = log_ratio + _log_ratio(summed, fields, statistics, hot, cold)
            accepted = -torch.empty_like(log_ratio).exponential_() < log_ratio
            average(self.tuning, "rate", log_ratio.clamp_max(0).exp().mean())
            state = {layer: _where(accepted, new[layer], x) for layer, x in old.items()}
            flat = accepted.flatten(0, 1)
            fields = [
                tuple(_where(flat, a, b) for a, b in zip(*new_and_old, strict=True))
                for new_and_old in zip(fields, old_fields, strict=True)
            ]
            target.draw(summed, fields, state, statistics, clamp)
        return {layer: x.squeeze(1) for layer, x in state.items()}

    def _sweep(
        self,
        level: Replicas,
        colours: list[Colour],
        first_fields: Fields,
        state: State,
        statistics: dict[str, Any],
        clamp: Clamp | None,
    ) -> Fields:
        """Draw the colours in order, the first by the fields given; return the new fields of the first."""
        for number, colour in enumerate(colours):
            fields = level.fields(colour, statistics, leading_shape(statistics)) if number else first_fields
            level.draw(colour, fields, state, statistics, clamp)
        return level.fields(colours[0], statistics, leading_shape(statistics))

    def scalars(self, params: State) -> dict[str, Tensor]:
        return self.gibbs.scalars(params)

    def setup(self, warmup_steps: int, *args: Any, **kwargs: Any) -> None:
        self.end_warmup()

    def end_warmup(self) -> None:
        self.tuning |= {name: torch.zeros_like(x) for name, x in self.tuning.items()}

    def diagnostics(self) -> dict[str, Any]:
        """The mean acceptance rate of the last steps."""
        return {"acceptance rate": float(self.tuning["rate"])}


def _split_first(machine: Machine, clamp: Clamp | None) -> tuple[Colour, list[Colour]]:
    """The blocks of the first colour that have no clamp, which can be summed out; and the colours of all other blocks."""
    first = machine.colours[0]
    summed = tuple(block for block in first if clamp is None or block.layer not in clamp)
    known = tuple(block for block in first if clamp is not None and block.layer in clamp)
    return summed, [colour for colour in (known, *machine.colours[1:]) if colour]


def _log_ratio(summed: Colour, fields: Fields, statistics: Natural, before: Replicas, after: Replicas) -> Tensor:
    """The log-ratio of a state's unnormalised probabilities at two temperatures: ``chains x 1 x batch_shape``."""
    linear = (after.betas - before.betas) * before.energy_gap_without(summed, statistics)
    return linear + (after.log_partition(summed, fields) - before.log_partition(summed, fields))


def _where(accepted: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(accepted.view(*accepted.shape, *(1 for _ in new.shape[accepted.dim() :])), new, old)
