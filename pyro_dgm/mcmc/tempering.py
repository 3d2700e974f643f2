"""Kernels that cross regions of low probability by way of higher temperatures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..energy import BoltzmannDistribution, State
from ..energy.temperatures import evenly
from ..energy.temperatures import temperatures as ladder
from ..native import PackedBits, multiplies_bits
from .bit_layers import holds_bits, packed, unpacked
from .gibbs import BlockGibbs, Clamping, checked_clamp, first_states
from .kernel import EnergyKernel, check_layers, units_of
from .replicas import Natural, Remade, Replicas, at_every_temperature, average, leading_shape, product_base
from .swapping import equalised, exchange, swaps


class ParallelTempering(EnergyKernel):
    r"""Block Gibbs at several inverse temperatures at once, with swaps of neighbouring replicas.

    Replica t of every chain follows $p_t \propto e^{-E_t}$, where $-E_t = \langle\text{base}, T\rangle + \beta_t D$ goes from
    a product distribution ($\beta = 0$) to the machine ($\beta = 1$). A step swaps the pairs (0, 1), (2, 3), ... and then
    (1, 2), (3, 4), ..., each with probability $\min(1, e^{(\beta_i - \beta_j)(D_j - D_i)})$, and sweeps all replicas as one
    batch; the product of all $p_t$ is stationary. Since even and odd pairs take turns, a replica moves on in one direction
    (Okabe et al. 2001; Syed et al. 2022).

    The state is ``{layer: chains x temperatures x batch_shape x layer shape}`` in increasing order of $\beta$; ``draws`` is
    the replica at $\beta = 1$. During warm-up the inner temperatures move so that all pairs swap equally often. They are in
    ``tuning["betas"]`` and are fixed afterwards; under ``dgm.PCD`` there is no warm-up, and they stay as given.
    ``diagnostics`` has the ``betas``, the ``swap rate`` of every pair, and ``restarts``: the mean number of times per chain
    that a replica reached $\beta = 1$ from the lowest $\beta$.

    Args:
        dist: the Boltzmann distribution, as ``rbm()`` returns it.
        temperatures: their number, evenly spaced from $\beta = 0$; or the inverse temperatures in strict order, with 1 at
            one end.
        clamp: as in ``dgm.BlockGibbs``; it holds at every temperature.
        base: natural parameters at $\beta = 0$ by layer, as ``{"visible": unit.natural_from_mean(mean)}``; neutral ones for
            layers that are not named.

    Raises:
        ValueError: a distribution without layers; temperatures out of order or without 1; a base or clamp that does not
            fit; a state without the dimension of the temperatures.

    See also:
        ``dgm.PCD(kernel=functools.partial(dgm.ParallelTempering, temperatures=10))`` trains with tempered negatives
        (Desjardins et al. 2010; Cho, Raiko and Ilin 2010).

    Example:
        >>> import pyro_dgm as dgm
        >>> rbm = dgm.RBM(visible=4, hidden=3)
        >>> kernel = dgm.ParallelTempering(rbm(), temperatures=5)
        >>> mcmc = dgm.VectorizedMCMC(kernel, 10, 20, num_chains=7, disable_progbar=True)
        >>> mcmc.run()
        >>> mcmc.get_samples(group_by_chain=True)["visible"].shape
        torch.Size([7, 10, 4])
        >>> len(kernel.diagnostics()["swap rate"])
        4
    """

    def __init__(
        self,
        dist: BoltzmannDistribution,
        temperatures: int | Sequence[float] | Tensor = 10,
        clamp: Clamping = None,
        base: Natural | None = None,
    ) -> None:
        super().__init__(dist)
        check_layers(self, dist)
        self.gibbs, self.shapes = BlockGibbs(dist), dist.shapes
        self.clamp = checked_clamp(dist, clamp)
        self.base = product_base(dist.machine, base)
        betas = ladder(temperatures, evenly, whole=False, numbers=units_of(dist)).to(dist.parameters()[0].device)
        self.tuning = {"betas": betas, "rate": torch.zeros_like(betas[1:]), "steps": torch.zeros_like(betas[0])}
        self._parameters = dist.parameters()
        self._replicas = Remade(lambda: Replicas(self.gibbs.machine, self.base, self.tuning["betas"]))
        self._adapt_at: list[int] = []
        self._step = 0
        self._trips: tuple[State | None, Tensor, Tensor] | None = None

    @property
    def replicas(self) -> Replicas:
        """The machines at the present temperatures."""
        return self._replicas(self.tuning["betas"], *self._parameters)

    def start(self, chains: int) -> State:
        states = [first_states(self.gibbs.dist, self.clamp, chains) for _ in self.tuning["betas"]]
        return {layer: torch.stack([state[layer] for state in states], 1) for layer in states[0]}

    def sample(self, params: State) -> State:
        self._check(params)
        moved = self._by_loop(params)
        return self._by_torch(params) if moved is None else moved

    def _by_loop(self, params: State) -> State | None:
        """A step by the compiled loop; None where that does not pay, or for other machines and states."""
        machine, rows = self.gibbs.machine, params[self.visible].shape[0] * len(self.tuning["betas"])
        if self.clamp is not None or len(machine.colours) != 2 or not holds_bits(self.dist):
            return None
        if not all(multiplies_bits(rows, weight.numel()) for weight in machine.weights):
            return None
        bits = packed(machine, steps=1)
        words = bits.pack([params[name] for name in machine.graph.layers])
        return None if words is None else self.temper(bits, params, words, 1)

    def temper(self, bits: PackedBits, params: State, words: Sequence[Tensor], steps: int) -> State:
        """The chains after some steps by the compiled loop, between which the temperatures are not adapted.

        Args:
            bits: the machine.
            params: the chains' state.
            words: its bits, which are overwritten.
            steps: the number of steps.
        """
        machine, betas = self.gibbs.machine, self.tuning["betas"]
        from_base, trips = self.trips(params, (words[0].shape[1] // len(betas),))
        base = [self.base[name][0] for name in machine.graph.layers]
        rate, climbing, climbed = bits.temper(words, base, len(machine.colours[0]), betas, from_base, trips, steps)
        state = unpacked(bits, words, machine.graph.layers, params)
        self.took(state, steps, rate, climbing, climbed)
        return state

    def _by_torch(self, params: State) -> State:
        with torch.no_grad():
            replicas, colours, clamp = self.replicas, self.gibbs.machine.colours, at_every_temperature(self.clamp)
            state, statistics = dict(params), replicas.statistics(params)
            # The fields of the first draw give the energies too; swaps move the fields along with their replicas.
            shape = leading_shape(statistics)
            fields = replicas.fields(colours[0], statistics, shape)
            gap = replicas.energy_gap(colours[0], fields, statistics)
            traded = swaps(replicas.betas, gap, *self.trips(params, gap[:, 0].shape))
            moved = exchange(traded.source, colours, state)
            statistics |= replicas.statistics({layer: state[layer] for layer in moved})
            replicas.draw(colours[0], fields, state, statistics, clamp, traded.source)
            for colour in colours[1:]:
                fields = replicas.fields(colour, statistics, shape)
                replicas.draw(colour, fields, state, statistics, clamp, overwrite=True)
        self.took(state, 1, traded.rate, traded.from_base, traded.trips)
        return state

    def trips(self, params: State, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        """``from_base`` and ``trips`` of ``swaps`` for these chains.

        Args:
            params: the chains' state; where it is not the result of the last step, all trips are counted from zero.
            shape: ``chains x batch_shape``.
        """
        if self._trips is None or self._trips[0] is not params:
            device = self.tuning["betas"].device
            replicas = (shape[0], len(self.tuning["betas"]), *shape[1:])
            return torch.zeros(replicas, dtype=torch.bool, device=device), torch.zeros(
                shape, dtype=torch.int64, device=device
            )
        return self._trips[1:]

    def took(self, params: State, steps: int, rate: Tensor, from_base: Tensor, trips: Tensor) -> None:
        """Record the mean swap rates and the replicas' trips of some steps, and adapt the temperatures when that is due."""
        average(self.tuning, "rate", rate, steps)
        self._trips = params, from_base, trips
        self._step += steps
        if self._step in self._adapt_at:
            self.tuning["betas"] = equalised(self.tuning["betas"], self.tuning["rate"])
            self._forget()

    def until_adaptation(self) -> int:
        """The number of steps to the next change of temperatures; very large if none is due."""
        return min((step - self._step for step in self._adapt_at if step > self._step), default=2**62)

    def _check(self, params: State) -> None:
        for layer, unit in self.gibbs.machine.graph.layers.items():
            shape, number = params[layer].shape, len(self.tuning["betas"])
            if len(shape) != 2 + len(self.dist.batch_shape) + unit.event_dim or shape[1] != number:
                raise ValueError(
                    f"the state of {layer!r} has shape {tuple(shape)}; expected chains x {number} temperatures x "
                    f"{tuple(self.dist.batch_shape)} x {tuple(unit.shape)}, as start(chains) returns it"
                )

    def _forget(self) -> None:
        self.tuning |= {name: torch.zeros_like(self.tuning[name]) for name in ("rate", "steps")}
        self._trips = None

    def setup(self, warmup_steps: int, *args: Any, **kwargs: Any) -> None:
        """Start a run: the temperatures are adapted after rounds of the warm-up, each twice as long as the round before."""
        self._adapt_at = sorted({warmup_steps // 2**halvings for halvings in range(6)} - {0})
        self._step = 0
        self._forget()

    def end_warmup(self) -> None:
        self._adapt_at = []
        self._forget()

    def around(self, x: Tensor) -> State:
        raise ValueError(
            "the chains of ParallelTempering keep more than a draw, so that they cannot start at data rows; use "
            "dgm.PCD(kernel=dgm.ParallelTempering), or leave the kernel out"
        )

    def draws(self, params: State) -> State:
        return {layer: x[:, -1] for layer, x in params.items()}

    def scalars(self, params: State) -> dict[str, Tensor]:
        return self.gibbs.scalars(params)

    def diagnostics(self) -> dict[str, Any]:
        """The temperatures, swap rates of neighbours, and the mean number of restarts per chain."""
        restarts = 0.0 if self._trips is None else float(self._trips[2].double().mean())
        return {
            "betas": self.tuning["betas"].tolist(),
            "swap rate": self.tuning["rate"].tolist(),
            "restarts": restarts,
        }

    def cleanup(self) -> None:
        if self._trips is not None:
            self._trips = None, *self._trips[1:]
