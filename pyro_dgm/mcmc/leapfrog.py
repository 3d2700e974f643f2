"""Leapfrog proposals with a decision per chain, and step sizes that adapt; gradient-based kernels share them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from ..checks import check_positive, check_share
from ..energy import EnergyDistribution
from .kernel import EnergyKernel

Potential = Callable[[Tensor], Tensor]
"""From positions, ``chains x batch_shape x event_shape``, to energies in nats, ``chains x batch_shape``."""

SLOW = 0.05
"""The rate at which the log step size follows the acceptance outside a warm-up."""


class GradientKernel(EnergyKernel):
    """The base of kernels with leapfrog proposals: a step size that adapts, a decision per chain, and counts.

    The log step size is in ``tuning["log_step_size"]``. It follows the mean acceptance of all chains: fast between
    ``setup`` and ``end_warmup``, and not at all afterwards. Where neither was called, as under a negative phase, whose
    target moves anyway, it adapts slowly.
    """

    def __init__(self, dist: EnergyDistribution, step_size: float, target_acceptance: float | None) -> None:
        super().__init__(dist)
        base = dist.support
        while isinstance(base, constraints.independent):
            base = base.base_constraint
        if base is not constraints.real:
            raise ValueError(
                f"{type(self).__name__} needs real-valued visible units; the distribution's support is {dist.support}. "
                "Use dgm.BlockGibbs for units with discrete states"
            )
        check_positive("step_size", step_size, "the first step of a trajectory")
        if target_acceptance is not None:
            check_share(
                "target_acceptance", target_acceptance, "the rate that the step size aims at, or None to keep it"
            )
            target_acceptance = float(target_acceptance)
        self.step_size, self.target_acceptance = float(step_size), target_acceptance
        self._warm_up: int | None = None
        self._fixed = target_acceptance is None
        self._reset()

    def _reset(self) -> None:
        self._accepted: Tensor | None = None
        self._steps = 0
        self._divergent: list[tuple[int, Tensor]] = []

    def setup(self, warmup_steps: int, *args: object, **kwargs: object) -> None:
        """Begin a warm-up, in which the step size adapts fast."""
        self._warm_up, self._fixed = 0, self.target_acceptance is None
        self._reset()

    def end_warmup(self) -> None:
        """Hold the step size from now on, and count acceptances anew."""
        self._warm_up, self._fixed = None, True
        self._reset()

    def log_step_size(self) -> Tensor:
        """The present log step size."""
        if "log_step_size" not in self.tuning:
            like = self.dist.parameters()[0].detach()
            self.tuning["log_step_size"] = like.new_tensor(math.log(self.step_size))
        return self.tuning["log_step_size"]

    def diagnostics(self) -> dict[str, Any]:
        """Acceptance rates since the warm-up, the mean over all chains and the lowest; divergences; the step size.

        ``divergences`` are the numbers of the transitions that diverged, from 0, once for every chain that did.
        """
        rates = torch.zeros(1) if self._accepted is None else self._accepted / max(self._steps, 1)
        return {
            "acceptance rate": float(rates.mean()),
            "lowest acceptance rate": float(rates.min()),
            "divergences": [step for step, chains in self._divergent for _ in range(len(chains))],
            "step size": float(self.log_step_size().exp()),
        }

    def chain_diagnostics(self, chains: int) -> list[dict[str, Any]]:
        shared = self.diagnostics()
        divergences: list[list[int]] = [[] for _ in range(chains)]
        for step, diverged in self._divergent:
            for chain in diverged.tolist():
                divergences[chain].append(step)
        return [{**shared, "divergences": steps} for steps in divergences]

    def _propose(self, potential: Potential, x: Tensor, num_steps: int, known: Tensor | None) -> Tensor:
        """The new positions after one leapfrog proposal and one decision per chain."""
        dims = len(self.dist.event_shape)
        per_chain = (*x.shape[: x.dim() - dims], *(1 for _ in range(dims)))
        # Trajectories of one fixed length can run in circles, so the chains' steps differ a little.
        step = self.log_step_size().exp() * x.new_empty(per_chain).uniform_(0.8, 1.2)
        y, log_ratio = proposal(potential, x, step, num_steps, dims, known)
        accept = self._decide(log_ratio)
        self._learn(log_ratio, accept, log_ratio > -torch.inf)
        return torch.where(accept.view(per_chain), y, x)

    def _decide(self, log_ratio: Tensor) -> Tensor:
        return accepts(log_ratio)

    def _learn(self, log_ratio: Tensor, accept: Tensor, finite: Tensor) -> None:
        accepted = accept.to(log_ratio)
        self._accepted = accepted if self._accepted is None else self._accepted + accepted
        diverged = (~finite).nonzero()[:, 0]
        if len(diverged):
            self._divergent.append((self._steps, diverged))
        self._steps += 1
        if self._fixed or self.target_acceptance is None:
            return
        rate = SLOW
        if self._warm_up is not None:
            self._warm_up += 1
            rate = 2 * self._warm_up**-0.5
        excess = log_ratio.clamp(max=0.0).exp().nan_to_num(0.0).mean() - self.target_acceptance
        self.tuning["log_step_size"] = self.log_step_size() + rate * excess.to(self.log_step_size())


def value_and_gradient(potential: Potential, x: Tensor) -> tuple[Tensor, Tensor]:
    """A potential and its gradient with respect to the positions alone, both detached."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = potential(x)
        (gradient,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), gradient


def kinetic(momentum: Tensor, event_dims: int) -> Tensor:
    """The kinetic energy of every chain: half its squared momentum."""
    return 0.5 * (momentum**2).flatten(-event_dims).sum(-1)


def accepts(log_ratio: Tensor) -> Tensor:
    """Metropolis decisions, one per entry: True with probability $\\min(1, e^{ratio})$."""
    return log_ratio > torch.empty_like(log_ratio).exponential_().neg_()


def proposal(
    potential: Potential,
    x: Tensor,
    step: Tensor | float,
    num_steps: int,
    event_dims: int,
    known: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The end of a trajectory with fresh momenta, and $H - H'$, the log ratio of its acceptance.

    The log ratio is minus infinity where the energy at the end is not finite.

    Args:
        potential: from positions to energies.
        x: positions, ``chains x batch_shape x event_shape``.
        step: the step size, one number or one per chain.
        num_steps: leapfrog steps.
        event_dims: the number of dimensions of the event.
        known: booleans, True for entries that stay.
    """
    momentum = torch.randn_like(x)
    momentum = momentum if known is None else momentum.masked_fill(known, 0.0)
    before, gradient = value_and_gradient(potential, x)
    y, end, after = leapfrog(potential, x, momentum, step, num_steps, known, gradient)
    after = after + kinetic(end, event_dims)
    return y, torch.where(after.isfinite(), before + kinetic(momentum, event_dims) - after, -torch.inf)


def leapfrog(
    potential: Potential,
    x: Tensor,
    momentum: Tensor,
    step: Tensor | float,
    num_steps: int,
    known: Tensor | None = None,
    gradient: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """A trajectory of the leapfrog integrator: positions, momenta and potentials at its end.

    Args:
        potential: from positions to energies.
        x: positions, ``chains x batch_shape x event_shape``.
        momentum: momenta, as ``x``; zero at known entries.
        step: the step size, one number or one per chain.
        num_steps: the number of steps.
        known: booleans, True for entries that get no force.
        gradient: the potential's gradient at ``x``, if it is known already.
    """
    value, gradient = value_and_gradient(potential, x) if gradient is None else (x.new_zeros(()), gradient)
    for _ in range(num_steps):
        momentum = momentum - 0.5 * step * _free(gradient, known)
        x = x + step * momentum
        value, gradient = value_and_gradient(potential, x)
        momentum = momentum - 0.5 * step * _free(gradient, known)
    return x, momentum, value


def _free(gradient: Tensor, known: Tensor | None) -> Tensor:
    return gradient if known is None else gradient.masked_fill(known, 0.0)
