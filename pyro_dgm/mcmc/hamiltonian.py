"""Kernels that follow the gradient of a (free) energy: Hamiltonian Monte Carlo, and Langevin steps between Gibbs draws."""

from __future__ import annotations

import torch
from torch import Tensor

from ..checks import check_count
from ..energy import BoltzmannDistribution, Clamp, EnergyDistribution, State
from .clamping import by_layer, expanded
from .gibbs import BlockGibbs, Clamping, checked_clamp, first_states
from .kernel import check_layers, fitted
from .leapfrog import GradientKernel


class HMC(GradientKernel):
    r"""Hamiltonian Monte Carlo on the free energy, all chains in one batch, with a decision per chain (Neal 2011).

    A proposal is ``num_steps`` leapfrog steps of $H(x, p) = F(x) + \tfrac12 p^\top p$ from a fresh
    $p \sim \mathcal N(0, I)$; a chain takes it with probability $\min(1, e^{H - H'})$, so that $e^{-F}$ (20.43-49) stays
    its law. Non-finite proposals are refused. A state is ``{"visible": chains x batch_shape x event_shape}``.

    Args:
        dist: an energy distribution over real-valued visible units, as ``dgm.MeanCovarianceRBM(...)()`` returns it.
        step_size: the first leapfrog step. It adapts: fast during the warm-up of ``dgm.VectorizedMCMC``, slowly at every
            step under ``dgm.PCD``. Every chain has a step size within a fifth of it.
        num_steps: leapfrog steps per proposal, each with one gradient.
        clamp: the known entries, ``(mask, value)`` or ``{"visible": (mask, value)}``: where the boolean mask is True an
            entry has no momentum and stays at ``value``. Both broadcast to ``chains x batch_shape x event_shape``.
        target_acceptance: the rate that the step size aims at; None keeps the step size.

    Raises:
        ValueError: visible units that are not real-valued; a clamp of the wrong layer, shape or type; a step size,
            number of steps or rate out of range.

    See also:
        ``dgm.GibbsLangevin`` where there are hidden units to draw.

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> model, x = dgm.MeanCovarianceRBM.example()
        >>> mcmc = dgm.VectorizedMCMC(dgm.HMC(model()), 5, 20, num_chains=10, disable_progbar=True)
        >>> mcmc.run()
        >>> mcmc.get_samples(group_by_chain=True)["visible"].shape
        torch.Size([10, 5, 3])
    """

    def __init__(
        self,
        dist: EnergyDistribution,
        step_size: float = 0.1,
        num_steps: int = 20,
        clamp: Clamping = None,
        target_acceptance: float | None = 0.65,
    ) -> None:
        super().__init__(dist, step_size, target_acceptance)
        self.shapes = {dist.visible: dist.event_shape}
        self.num_steps = check_count("num_steps", num_steps, what="the number of leapfrog steps")
        self.clamp = _checked(dist, clamp)

    def start(self, chains: int) -> State:
        """Independent standard normal entries, as in standardised data; clamped entries at their values."""
        like = self.dist.parameters()[0].detach()
        x = torch.randn((chains, *self.dist.batch_shape, *self.dist.event_shape), dtype=like.dtype, device=like.device)
        if self.clamp is not None:
            expanded(self.visible, self.clamp[self.visible], x.shape)
        return {self.visible: self._held(x)}

    def _held(self, x: Tensor) -> Tensor:
        return x if self.clamp is None else torch.where(*self.clamp[self.visible], x)

    def sample(self, params: State) -> State:
        with torch.no_grad():
            known = None if self.clamp is None else self.clamp[self.visible][0]
            x = self._held(params[self.visible])
            return {self.visible: self._propose(self.dist.free_energy, x, self.num_steps, known)}

    def scalars(self, params: State) -> dict[str, Tensor]:
        with torch.no_grad():
            free_energy = self.dist.free_energy(params[self.visible])
        return {"energy": free_energy, "free_energy": free_energy}


class GibbsLangevin(GradientKernel):
    r"""Gibbs draws of the hidden units and a Metropolis-adjusted Langevin step of the visible ones (Liao et al. 2022).

    $h \sim p(h \mid x)$ (20.40-42, one sweep), then $x' = x - \tfrac{\epsilon^2}{2} \partial_x E(x, h) + \epsilon\,\xi$ with
    $\xi \sim \mathcal N(0, I)$, which a chain takes with the Metropolis-Hastings probability: the joint law $e^{-E}$ is
    left unchanged. A state is ``{layer: chains x batch_shape x layer shape}``.

    Args:
        dist: a Boltzmann distribution with real-valued visible units.
        step_size: the first $\epsilon$; it adapts as in ``dgm.HMC``.
        clamp: as in ``dgm.BlockGibbs``: ``{layer: (mask, value)}``, or ``(mask, value)`` for the visible layer.
        target_acceptance: the rate that the step size aims at; None keeps the step size.

    Raises:
        ValueError: the distribution has no graph, or visible units that are not real-valued; a clamp that does not fit.

    Example:
        >>> import torch
        >>> from pyro_dgm.energy import Binary, BoltzmannDistribution, Dense, Gaussian, Graph
        >>> graph = Graph({"visible": Gaussian(2), "hidden": Binary(3)}, [Dense(("visible", 0), "hidden")])
        >>> biases = {"visible": (torch.zeros(2), torch.full((2,), -0.5)), "hidden": (torch.zeros(3),)}
        >>> kernel = GibbsLangevin(BoltzmannDistribution(graph, biases, (torch.ones(2, 3),)))
        >>> sorted(kernel.sample(kernel.start(4)))
        ['hidden', 'visible']
    """

    def __init__(
        self,
        dist: BoltzmannDistribution,
        step_size: float = 0.5,
        clamp: Clamping = None,
        target_acceptance: float | None = 0.574,
    ) -> None:
        super().__init__(dist, step_size, target_acceptance)
        check_layers(self, dist)
        self._gibbs, self.shapes = BlockGibbs(dist), dist.shapes
        self.clamp = checked_clamp(dist, clamp)

    def start(self, chains: int) -> State:
        return first_states(self._gibbs.dist, self.clamp, chains)

    def sample(self, params: State) -> State:
        with torch.no_grad():
            state = self._gibbs.machine.sweep(params, self.clamp, skip=frozenset({self.visible}))
            x, known = state[self.visible], None
            if self.clamp is not None and self.visible in self.clamp:
                known, value = self.clamp[self.visible]
                x = torch.where(known, value, x)
            # A leapfrog proposal of one step is the Langevin proposal.
            x = self._propose(lambda y: self._gibbs.machine.energy({**state, self.visible: y}), x, 1, known)
        return {**state, self.visible: x}

    def scalars(self, params: State) -> dict[str, Tensor]:
        return self._gibbs.scalars(params)


def _checked(dist: EnergyDistribution, clamp: Clamping) -> Clamp | None:
    """A clamp of the visible units, as ``fitted`` returns it."""
    known = by_layer(dist.visible, clamp)
    if not known:
        return None
    if set(known) != {dist.visible}:
        raise ValueError(f"clamp names the layers {sorted(known)}; HMC moves only {dist.visible!r}")
    mask, value = fitted(dist, dist.visible, *known[dist.visible])
    if not (value.isfinite() | ~mask).all():
        raise ValueError("the clamp holds entries at values that are not finite")
    return {dist.visible: (mask, value.nan_to_num(0.0))}
