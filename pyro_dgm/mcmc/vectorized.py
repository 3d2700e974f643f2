"""Pyro's MCMC over one kernel that advances all chains together."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from pyro import poutine
from pyro.infer import MCMC
from pyro.infer.mcmc.util import diagnostics as statistics
from pyro.infer.mcmc.util import summary
from pyro.ops.streaming import CountMeanVarianceStats, StatsOfDict
from torch import Tensor

from .. import processes, progress
from ..checks import check_choice, check_count, check_memory, check_share, shown
from ..energy import State
from ..extras import need
from ..native import out_of_autocast
from .engines.bits import BitEngine
from .engines.engine import Engine, TorchEngine
from .engines.names import checked_engine
from .kernel import ChainsKernel
from .leapfrog import GradientKernel

FEWEST = 4
"""The fewest draws of a chain from which its agreement with itself can be told."""

_ONE_RUN = threading.RLock()


def _engine(kernel: ChainsKernel, name: str, sweeps: float = math.inf) -> Engine:
    """The engine of a name: the loop over bits if it can run the machine faster, for ``"auto"`` else torch, else JAX."""
    if name == "torch":
        return TorchEngine(kernel)
    if name != "jax" and (bits := BitEngine.of(kernel, "torch" if name == "auto" else "jax", sweeps)) is not None:
        return bits
    if name == "auto":
        return TorchEngine(kernel)
    need(f"engine={name!r} of this kernel", "jax")
    from .engines.jax import jax_engine

    return jax_engine(kernel)


def _moves(x: Tensor) -> Tensor:
    """Which units of draws, ``chains x draws x ...``, ever changed."""
    return (x != x[:1, :1]).flatten(0, 1).any(0)


class VectorizedMCMC(MCMC):
    """Runs many chains of a ``ChainsKernel`` in one process, as one batch.

    ``get_samples``, ``summary`` and ``diagnostics`` are those of ``pyro.infer.MCMC``. Memory grows with what
    is kept, never with the number of sweeps: ``num_samples`` draws per chain, or running moments alone with
    ``keep="moments"``.

    Several processes share the chains, with their first states and clamps, each process with its own random stream; all
    processes get all draws. If there are fewer chains than processes, every process runs all chains, with one stream.

    Args:
        kernel: advances the chains.
        num_samples: draws kept per chain.
        warmup_steps: sweeps that are dropped first (default: ``num_samples``).
        num_chains: the number of chains, which is the leading dimension of every state.
        thinning: sweeps between two kept draws.
        initial_params: first states, ``{layer: num_chains x batch_shape x layer shape}``, of numbers of any type.
        save_params: the layers to keep (default: all).
        keep: ``"draws"``; or ``"moments"``, which keeps the count, mean and variance of every chain's states, and draws of
            their scalars (energies) alone.
        disable_progbar: no progress bar.
        engine: ``"torch"`` has the kernel move its chains. ``"auto"`` is a compiled loop of this package where it is faster,
            for ``dgm.BlockGibbs`` and ``dgm.ParallelTempering`` of machines of bits with dense couplings and without a clamp:
            at least 32 states (chains, at all temperatures) of a large machine, or at least 1000 sweeps of ``dgm.BlockGibbs`` of
            a smaller one or of four chains or more; moments are taken between its calls. Else torch.
            ``"compiled"`` is that loop too, but else JAX. ``"jax"`` is always JAX: it takes the parameters when a run begins, and
            does thinning and moments inside the compiled steps; the first run of a shape compiles for some seconds. Draws differ
            from engine to engine; their law and precision do not.

    Raises:
        ValueError: a count below one, an unknown layer, ``keep`` or ``engine``, first states of the wrong shape, a clamp for
            another number of chains, a kernel or units that the engine cannot run.
        MissingExtra: the engine's packages are not installed.

    Example:
        >>> import pyro_dgm as dgm
        >>> rbm = dgm.RBM(visible=4, hidden=3)
        >>> mcmc = dgm.VectorizedMCMC(dgm.BlockGibbs(rbm()), 10, 5, num_chains=7, disable_progbar=True)
        >>> mcmc.run()
        >>> mcmc.get_samples(group_by_chain=True)["visible"].shape
        torch.Size([7, 10, 4])
    """

    def __init__(
        self,
        kernel: ChainsKernel,
        num_samples: int,
        warmup_steps: int | None = None,
        num_chains: int = 1,
        thinning: int = 1,
        initial_params: State | None = None,
        save_params: Sequence[str] | None = None,
        keep: str = "draws",
        disable_progbar: bool = False,
        engine: str = "auto",
    ) -> None:
        num_samples = check_count("num_samples", num_samples)
        num_chains = check_count("num_chains", num_chains)
        thinning = check_count("thinning", thinning)
        if warmup_steps is not None:
            warmup_steps = check_count("warmup_steps", warmup_steps, 0)
        if not isinstance(kernel, ChainsKernel):
            raise ValueError(
                f"kernel got {type(kernel).__name__}; expected a kernel of pyro_dgm, such as dgm.BlockGibbs(rbm()). "
                "Pyro's own kernels run under pyro.infer.MCMC"
            )
        if save_params is not None and (isinstance(save_params, str) or not isinstance(save_params, Sequence)):
            raise ValueError(f"save_params got {shown(save_params)}; expected a list of layers, as in ['visible']")
        check_choice("keep", keep, ("draws", "moments"))
        per_draw = kernel.shapes.get(kernel.visible, torch.Size()).numel() if keep == "draws" else 1
        check_memory({"num_samples": num_samples, "num_chains": num_chains}, per_draw, "VectorizedMCMC")
        engine = checked_engine(engine)
        # The base class is told of one chain: it would start a process for each of several.
        super().__init__(
            kernel, num_samples, warmup_steps, num_chains=1, transforms={}, disable_progbar=disable_progbar
        )
        self.num_chains = num_chains
        self.thinning = thinning
        self.keep = keep
        self.scalars: dict[str, Tensor] = {}
        self._layers = None if save_params is None else list(save_params)
        self._progress = not disable_progbar
        kernel.num_chains = num_chains
        kernel.initial_params = initial_params
        self._engine = None if engine == "auto" else _engine(kernel, engine)

    @out_of_autocast
    def run(self, *args: Any, **kwargs: Any) -> None:
        """Warm up, then draw and keep; another call makes a fresh run. Runs in several threads wait for one another."""
        # Pyro's stack of handlers is common to all threads.
        with _ONE_RUN, poutine.block():
            self._run_shared(*args, **kwargs)

    def _run_shared(self, *args: Any, **kwargs: Any) -> None:
        """A run of this process's share of the chains, put together with those of the others."""
        total, kernel = self.num_chains, self.kernel
        if kernel._initial is not None:
            self._check(kernel._initial)
        for layer, pair in (kernel.clamp or {}).items():
            if wrong := {len(tensor) for tensor in pair} - {1, total}:
                raise ValueError(
                    f"the clamp of {layer!r} is for {min(wrong)} chains; expected a row for each of num_chains={total}, or "
                    "one for all"
                )
        with processes.drawing(total) as mine:
            self.num_chains = mine
            try:
                with kernel.sharing(mine):
                    self._run(*args, **kwargs)
            finally:
                self.num_chains = total
            self._gather()

    def _gather(self) -> None:
        """Put the chains of all processes together, in the same order in every process."""
        for kept in (self.last_params, self._samples or {}, self.scalars):
            kept.update({name: processes.gather(kept[name]) for name in sorted(kept)})
        for _, stats in sorted(self.moments.stats.items()):
            running = stats.welford
            running._mean, running._m2 = processes.gather(running._mean), processes.gather(running._m2)
            stats.shape = torch.Size((self.num_chains, *stats.shape[1:]))
        everyones = processes.from_first(processes.collect(self._diagnostics))
        self._diagnostics = [diagnostics for of_process in everyones for diagnostics in of_process]

    def _run(self, *args: Any, **kwargs: Any) -> None:
        kernel: ChainsKernel = self.kernel
        kernel.setup(self.warmup_steps, *args, **kwargs)
        params = self._check(kernel.initial_params)
        layers = self._layers or sorted(kernel.draws(params))
        self.moments: Any = StatsOfDict(default=CountMeanVarianceStats)
        draws: dict[str, Tensor] = {}
        total = self.warmup_steps + self.num_samples * self.thinning
        engine = self._engine or _engine(kernel, "auto", total)
        engine.begin()
        with progress.bar(total, "warmup", show=self._progress) as shows:
            blocks = range(0, self.warmup_steps, engine.block), range(0, self.num_samples, engine.block)
            for start in blocks[0] if self._progress else progress.steps(blocks[0], "blocks of warm-up sweeps"):
                sweeps = min(engine.block, self.warmup_steps - start)
                params = engine.advance(params, sweeps)
                shows.advance(sweeps)
            kernel.end_warmup()
            shows.rename("sample")
            for start in blocks[1] if self._progress else progress.steps(blocks[1], "blocks of draws"):
                count = min(engine.block, self.num_samples - start)
                so_far = self.moments if self.keep == "moments" else None
                params, kept, moments = engine.collect(params, count, self.thinning, layers, so_far)
                self.moments = self.moments if moments is None else moments
                shows.advance(count * self.thinning)
                self._store(draws, kept, start)
        self.last_params = params
        self._samples = draws if self.keep == "draws" else {}
        self.scalars = draws if self.keep == "moments" else {}
        self._diagnostics: list[Any] = [self._by_draw(d) for d in kernel.chain_diagnostics(self.num_chains)]
        kernel.cleanup()

    def _by_draw(self, diagnostics: dict[str, Any]) -> dict[str, Any]:
        """A chain's diagnostics, with divergent transitions by the number of the draw that they led to."""
        if "divergences" not in diagnostics:
            return diagnostics
        return {**diagnostics, "divergences": sorted({step // self.thinning for step in diagnostics["divergences"]})}

    def sample_stats(self) -> dict[str, Tensor]:
        """``diverging`` and ``step_size`` of every draw, ``chains x draws``, for kernels with gradients; empty for others."""
        self._drawn()
        if not isinstance(self.kernel, GradientKernel):
            return {}
        diverging = torch.zeros(self.num_chains, self.num_samples, dtype=torch.bool)
        steps = torch.empty(self.num_chains, self.num_samples)
        for chain, diagnostics in enumerate(self._diagnostics):
            diverging[chain, diagnostics["divergences"]] = True
            steps[chain] = diagnostics["step size"]
        return {"diverging": diverging, "step_size": steps}

    def _store(self, draws: dict[str, Tensor], kept: dict[str, Tensor], start: int) -> None:
        for name, value in kept.items():
            if name not in draws:
                draws[name] = value.new_empty((self.num_chains, self.num_samples, *value.shape[2:]))
            draws[name][:, start : start + value.shape[1]] = value

    def _check(self, params: State) -> State:
        """First states in the type and on the device of the kernel's own, checked."""
        for layer, value in params.items():
            if value.shape[:1] != (self.num_chains,):
                raise ValueError(
                    f"initial_params[{layer!r}] has shape {tuple(value.shape)}; its first dimension must be "
                    f"num_chains={self.num_chains}"
                )
        if self.kernel._initial is not None:
            expected = self.kernel.start(self.num_chains)
            if params.keys() != expected.keys():
                raise ValueError(f"initial_params names the layers {sorted(params)}; expected {sorted(expected)}")
            for layer, value in params.items():
                if value.shape != expected[layer].shape:
                    raise ValueError(
                        f"initial_params[{layer!r}] has shape {tuple(value.shape)}; expected {tuple(expected[layer].shape)}"
                    )
                if reason := self.kernel.misfit(layer, value):
                    raise ValueError(f"initial_params[{layer!r}] {reason}")
            params = {layer: value.to(expected[layer]) for layer, value in params.items()}
        drawn = self.kernel.draws(params)
        unknown = set(self._layers or ()) - set(drawn)
        if unknown:
            raise ValueError(f"save_params names {sorted(unknown)}; the layers are {sorted(drawn)}")
        return params

    def _drawn(self) -> dict[str, Tensor]:
        if self._samples is None:
            raise ValueError("nothing was drawn yet; call run() first")
        return self._samples

    def get_samples(self, num_samples: int | None = None, group_by_chain: bool = False) -> dict[str, Tensor]:
        """The kept draws of every layer, chain after chain or ``chains x draws x batch_shape x layer shape``."""
        self._drawn()
        if num_samples is not None:
            num_samples = check_count("num_samples", num_samples, what="the number of draws")
        return super().get_samples(num_samples, group_by_chain)

    def diagnostics(self) -> dict[str, Any]:
        """Effective sample size and R-hat of every layer, and the kernel's diagnostics of every chain.

        A unit that never changed in any chain has NaN for both. ``divergences`` has the numbers of the draws with a divergent
        transition, none for kernels that have no such thing.

        Raises:
            ValueError: fewer than four draws per chain.
        """
        draws = self._drawn()
        if draws and self.num_samples < FEWEST:
            raise ValueError(
                f"there are {self.num_samples} draws per chain; expected at least {FEWEST} to diagnose: take more num_samples"
            )
        none: dict[str, list[int]] = {f"chain {chain}": [] for chain in range(self.num_chains)}
        found: dict[str, Any] = {"divergences": none, **super().diagnostics()}
        for name, x in draws.items():
            moves = _moves(x)
            if moves.any() and not moves.all():  # one NaN among them, and Pyro makes that of all
                found[name]["n_eff"][moves] = statistics({name: x[:, :, moves]})[name]["n_eff"]
        return found

    def summary(self, prob: float = 0.9) -> None:
        """Print a table of all units, as Pyro does, and how many never changed: these have NaN for n_eff and r_hat."""
        check_share("prob", prob, "the share of the draws that an interval holds")
        draws, found = self._drawn(), self.diagnostics()
        rows: dict[str, list[float]] = {}
        columns: list[str] = []
        constant: list[str] = []
        for name, figures in summary(draws, prob).items():
            figures |= {"n_eff": found[name]["n_eff"], "r_hat": found[name]["r_hat"]}
            columns, shape = list(figures), figures["mean"].shape
            for place in product(*map(range, shape)):
                unit = f"{name}[{','.join(map(str, place))}]" if shape else name
                rows[unit] = [float(value[place]) for value in figures.values()]
            if still := int((~_moves(draws[name])).sum()):
                constant.append(f"{still} of {shape.numel()} units of {name}")
        wide = max(map(len, rows), default=0)
        print("\n" + " " * wide + "".join(f" {column:>9}" for column in columns))
        for unit, values in rows.items():
            print(f"{unit:>{wide}}" + "".join(f" {value:9.2f}" for value in values))
        if constant:
            print(f"constant in all chains, without n_eff and r_hat: {', '.join(constant)}")
        if "divergences" in self._diagnostics[0]:
            print(f"Number of divergences: {sum(map(len, found['divergences'].values()))}")
        print()

    def chain_scalars(self, rows: int = 4096) -> dict[str, Tensor]:
        """Scalars of the kept draws, ``chains x draws x batch_shape``: energies and free energies where there is an energy.

        Args:
            rows: about how many draws go through the kernel at once; it bounds the memory and changes nothing else.
        """
        draws, rows = self._drawn(), check_count("rows", rows, what="the draws that go through the kernel at once")
        if self.scalars:
            return self.scalars
        missing = set(self.kernel.draws(self.last_params)) - set(draws)
        if missing:
            raise ValueError(f"scalars of draws need all layers; save_params left out {sorted(missing)}")
        per_chain = max(rows // self.num_chains, 1)
        kept: list[dict[str, Tensor]] = []
        for start in range(0, self.num_samples, per_chain):
            chunk = {name: x[:, start : start + per_chain] for name, x in draws.items()}
            flat = {name: x.flatten(0, 1) for name, x in chunk.items()}
            shape = next(iter(chunk.values())).shape[:2]
            kept.append({name: e.unflatten(0, shape) for name, e in self.kernel.scalars(flat).items()})
        return {name: torch.cat([chunk[name] for chunk in kept], 1) for name in kept[0]}
