"""Kernels that advance many chains at once, with the chains in the leading dimension."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import torch
from pyro.infer.mcmc.mcmc_kernel import MCMCKernel
from torch import Tensor

from .. import processes
from ..checks import check_count, described
from ..energy import Clamp, EnergyDistribution, State
from .clamping import tensors_of
from .states import look_at_arguments

WORK = 1e9
"""The most multiplications of one call of compiled code, a fraction of a second: Ctrl-C waits for its end."""


def steps_at_once(dist: EnergyDistribution, states: int) -> int:
    """The number of sweeps of some states whose work is about ``WORK``: a function of sizes alone, so that runs repeat.

    Args:
        dist: the distribution whose states they are.
        states: the number of states that a sweep moves (chains, at all temperatures).
    """
    weights = dist.parameters()
    # A drawn unit costs about as much as twenty multiplications, and the start of a sweep as much as a hundred thousand.
    work = states * (sum(w.numel() for w in weights) + 20 * units_of(dist))
    return max(1, int(WORK / (work + 1e5)))


def units_of(dist: EnergyDistribution) -> int:
    """The number of units of a state."""
    return sum(shape.numel() for shape in dist.shapes.values())


class ChainsKernel(MCMCKernel):
    """A Pyro ``MCMCKernel`` over many chains at once, whose state is ``{layer: chains x batch_shape x layer shape}``.

    The kernel holds what it samples, and no state of the chains. Whatever a kernel learns while it runs (step sizes,
    temperatures) is in ``tuning``, so that it can be saved and given to another instance. Kernels of an energy distribution
    are ``EnergyKernel``; those of a chain that has no distribution to name, only a law that it tends to, are of this class.

    Attributes:
        visible: the layer whose draws are rows of data.
        clamp: ``{layer: (mask, value)}``: the entries that are held; None if all are free.
        shapes: the shapes of the layers of a state without chains, as far as they are known.
        trusted: whether all states come from the kernel itself, so that ``sample`` and ``move`` do not look at them.
    """

    model = None
    visible: str = "visible"
    shapes: Mapping[str, torch.Size] = MappingProxyType({})
    trusted = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        look_at_arguments(cls)

    def __init__(self) -> None:
        self.transforms: dict[str, object] = {}
        self.tuning: dict[str, Tensor] = {}
        self.clamp: Clamp | None = None
        self.num_chains = 1
        self._initial: State | None = None
        super().__init__()

    @property
    def initial_params(self) -> State:
        """The chains' first states: those that were set, else those of ``start``."""
        return self.start(self.num_chains) if self._initial is None else self._initial

    @initial_params.setter
    def initial_params(self, params: State | None) -> None:
        if params is not None and not (
            isinstance(params, Mapping) and all(isinstance(x, Tensor) for x in params.values())
        ):
            raise ValueError(
                f"initial_params got {described(params)}; expected first states by layer, {{layer: tensor}}, as "
                "kernel.start(num_chains) has them"
            )
        self._initial = params

    @contextlib.contextmanager
    def sharing(self, chains: int) -> Iterator[None]:
        """A block in which the kernel has only this process's share of the chains, with their first states and clamp, and
        trusts them.

        Args:
            chains: the number of chains in this process.
        """
        everyones = self.num_chains, self._initial, self.clamp, self.trusted
        first, clamp = self._initial or {}, self.clamp or {}
        self.num_chains, self.trusted = chains, True
        self._initial = {layer: processes.part(x) for layer, x in first.items()} or None
        self.clamp = {layer: (_part(mask), _part(value)) for layer, (mask, value) in clamp.items()} or None
        try:
            yield
        finally:
            self.num_chains, self._initial, self.clamp, self.trusted = everyones

    @abstractmethod
    def start(self, chains: int) -> State:
        """The first states of a number of chains."""

    @abstractmethod
    def sample(self, params: State) -> State:
        """One step of every chain; no gradient is recorded."""

    def move(self, params: State, steps: int) -> State:
        """The chains after some steps; no gradient is recorded.

        Raises:
            ValueError: a negative number of steps.
        """
        for _ in range(check_count("steps", steps, 0)):
            params = self.sample(params)
        return params

    @abstractmethod
    def scalars(self, params: State) -> dict[str, Tensor]:
        """Scalars of a draw that are worth diagnosing, by name: ``chains x batch_shape``."""

    def draws(self, params: State) -> State:
        """The part of the chains' state that is distributed as the target: ``params`` itself, unless a kernel keeps more."""
        return params

    def misfit(self, layer: str, value: Tensor) -> str | None:
        """The reason why the states of a layer are impossible, to follow its name; None if they are possible."""
        return None

    @property
    def dtype(self) -> torch.dtype | None:
        """The type of states; None where it is not known."""
        return None

    def chain_diagnostics(self, chains: int) -> list[dict[str, Any]]:
        """``diagnostics`` for each of a number of chains, with the figures of that chain alone where the kernel has them."""
        return [self.diagnostics()] * chains


class EnergyKernel(ChainsKernel):
    """A kernel whose chains converge to an energy distribution.

    Args:
        dist: the energy distribution that the chains converge to.
    """

    def __init__(self, dist: EnergyDistribution) -> None:
        if not isinstance(dist, EnergyDistribution):
            hint = " (call the model: BlockGibbs(rbm()))" if callable(dist) else ""
            raise ValueError(f"{type(self).__name__} got {type(dist).__name__}; expected an energy distribution{hint}")
        self.dist = dist
        self.visible = dist.visible
        super().__init__()

    def misfit(self, layer: str, value: Tensor) -> str | None:
        return self.dist.misfit(layer, value)

    @property
    def dtype(self) -> torch.dtype | None:
        return next((p.dtype for p in self.dist.parameters()), None)

    def around(self, x: Tensor) -> State:
        """A state of the chains whose visible units are at given rows, one chain per row.

        Raises:
            ValueError: a chain of this kernel keeps more than one draw.
        """
        return self.dist.around(x)


def check_layers(kernel: ChainsKernel, dist: EnergyDistribution) -> None:
    """Refuse a distribution without layers, in the name of the kernel that would draw them."""
    if not dist.layered:
        raise ValueError(
            f"{type(kernel).__name__} got {type(dist).__name__}, which has no hidden units to draw; use dgm.HMC"
        )


def _part(entries: Tensor) -> Tensor:
    return entries if len(entries) == 1 else processes.part(entries)


def fitted(dist: EnergyDistribution, layer: str, mask: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """A clamp's mask and value with the parameters' type and device, and with every dimension of a layer's state.

    Dimensions of ``chains x batch_shape x layer shape`` that a tensor lacked are added with length 1.

    Raises:
        ValueError: no arrays of real numbers, a mask that is not boolean, or a shape that does not fit.
    """
    like, shape = dist.parameters()[0], dist.shapes[layer]
    mask, value = tensors_of(layer, (mask, value), like.device)
    missing = []
    for name, tensor in (("mask", mask), ("value", value)):
        missing.append(1 + len(dist.batch_shape) + len(shape) - tensor.dim())
        if tensor.shape[max(tensor.dim() - len(shape), 0) :] != shape:
            raise ValueError(
                f"the clamp's {name} of {layer!r} has shape {tuple(tensor.shape)}; its last dimensions must be {tuple(shape)}"
            )
        if missing[-1] < 0:
            raise ValueError(
                f"the clamp's {name} of {layer!r} has shape {tuple(tensor.shape)}; expected at most the dimensions chains x "
                f"{tuple(dist.batch_shape)} x {tuple(shape)}"
            )
    return mask[(None,) * missing[0]], value.to(like.dtype)[(None,) * missing[1]]
