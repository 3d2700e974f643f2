"""Block Gibbs sampling over the colours of a Boltzmann machine."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import torch
from torch import Tensor

from ..checks import check_count
from ..energy import Block, BoltzmannDistribution, Clamp, NotEnumerable, State
from ..native import PRECISIONS, check_precision
from .bit_layers import swept
from .clamping import by_layer, expanded
from .kernel import EnergyKernel, check_layers, fitted, steps_at_once

Clamping = Mapping[str, tuple[Tensor, Tensor]] | tuple[Tensor, Tensor] | None


class BlockGibbs(EnergyKernel):
    r"""Draws every colour of the graph in turn from its conditional (20.7-16; 20.26-28 where layers alternate).

    Args:
        dist: the Boltzmann distribution, as ``rbm()`` returns it; layers that it is ``given`` stay.
        clamp: the known entries: ``{layer: (mask, value)}``, or ``(mask, value)`` for the visible layer. Where the boolean
            ``mask`` is True the layer stays at ``value``, and the chains converge to $p(x_a \mid x_b)$. Both broadcast to
            ``chains x batch_shape x layer shape``.
        precision: ``"float32"`` (products in the parameters' own precision), or ``"bfloat16"``: weights and real-valued states
            are rounded to bfloat16 in the products, and sums are in single precision. Conditional probabilities are then
            off by some $10^{-3}$ (figures in tutorials/decisions), and a sweep of spins or real units takes about half as long;
            one of bits takes no less. It is meant for negative phases and pictures, not for figures.

    Raises:
        ValueError: the distribution has no layers; the clamp is no pair of mask and value, names a layer that the graph
            lacks, has the wrong shape, or values outside the support; an unknown precision, or bfloat16 where it would be
            slower.

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> rbm = dgm.RBM(visible=4, hidden=3)
        >>> known = torch.tensor([True, True, False, False])
        >>> kernel = dgm.BlockGibbs(rbm(), clamp=(known, torch.ones(4)))
        >>> kernel.sample(kernel.start(2))["visible"][:, :2]
        tensor([[1., 1.],
                [1., 1.]])
    """

    def __init__(
        self,
        dist: BoltzmannDistribution,
        clamp: Clamping = None,
        precision: str = "float32",
    ) -> None:
        super().__init__(dist)
        check_layers(self, dist)
        check_precision(precision, dist.parameters()[0])
        self.precision, self.shapes = precision, dist.shapes
        self.machine = dist.machine
        self.clamp = checked_clamp(dist, clamp)

    def start(self, chains: int) -> State:
        return first_states(self.dist, self.clamp, chains)

    def sample(self, params: State) -> State:
        return self._moved(params, 1)

    def move(self, params: State, steps: int) -> State:
        as_here = type(self).sample is BlockGibbs.sample
        return self._moved(params, check_count("steps", steps, 0)) if as_here else super().move(params, steps)

    def _moved(self, params: State, steps: int) -> State:
        plain = self.clamp is None and self.precision == "float32"
        with torch.no_grad():
            while steps and plain:
                count = min(steps, steps_at_once(self.dist, len(params[self.visible])))
                found = swept(self.dist, params, count)
                if found is None:
                    break
                params, steps = found, steps - count
            with PRECISIONS[self.precision]():
                for _ in range(steps):
                    params = self.machine.sweep(params, self.clamp)
        return params

    def scalars(self, params: State) -> dict[str, Tensor]:
        with torch.no_grad():
            scalars = {"energy": self.dist.energy(params)}
            with contextlib.suppress(NotEnumerable):
                scalars["free_energy"] = self.dist.free_energy(params[self.visible])
        return scalars


def checked_clamp(dist: BoltzmannDistribution, clamp: Clamping) -> Clamp | None:
    """A clamp by layer, as ``fitted`` returns it; a pair alone belongs to the visible layer.

    The layers that the distribution is given are held as a whole.

    Raises:
        ValueError: a layer that the graph lacks, or that is given; a wrong shape or type, or values outside the support.
    """
    known = by_layer(dist.visible, clamp)
    if twice := sorted(set(known) & set(dist.known)):
        raise ValueError(
            f"clamp names the layers {twice}, which the distribution is given: leave them out, or clamp dist.unconditional()"
        )
    checked = {layer: _checked(dist, layer, *pair) for layer, pair in known.items()}
    for layer, value in dist.known.items():
        every = torch.ones(dist.shapes[layer], dtype=torch.bool)
        checked[layer] = fitted(dist, layer, every, value.detach())
    return checked or None


def _checked(dist: BoltzmannDistribution, layer: str, mask: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    layers = dist.machine.graph.layers
    if layer not in layers:
        raise ValueError(f"clamp names the layer {layer!r}; there are {list(layers)}")
    unit = layers[layer]
    mask, value = fitted(dist, layer, mask, value)
    try:
        known, held = torch.broadcast_tensors(mask, value)
    except RuntimeError:
        raise ValueError(
            f"the clamp's mask of {layer!r} has shape {tuple(mask.shape)} and its value {tuple(value.shape)}; expected "
            "shapes that broadcast"
        ) from None
    # Only known entries need to lie in the support; a partly known atom is checked entry by entry.
    allowed = torch.isin(value, unit.atom_states(value)) if unit.states_per_atom else value.isfinite()
    if not (allowed | ~known).all():
        raise ValueError(f"the clamp holds {layer!r} at values outside the support of {unit}")
    if reason := unit.check_clamp(known, held):
        raise ValueError(f"the clamp of {layer!r} does not fit {unit}: {reason}")
    return mask, value


def _own(dist: BoltzmannDistribution, layer: str) -> tuple[Tensor, ...]:
    """A layer's natural parameters without its couplings, shaped as the layer."""
    return dist.machine.shaped(Block(layer), dist.machine.biases[layer])


def first_states(dist: BoltzmannDistribution, clamp: Clamp | None, chains: int) -> State:
    """States drawn from the biases alone, with clamped entries at their values."""
    with torch.no_grad():
        state = dist.machine.neutral_state((chains, *dist.batch_shape))
        for layer, pair in (clamp or {}).items():
            unit, shape = dist.machine.graph.layers[layer], state[layer].shape
            mask, value = expanded(layer, pair, shape)
            eta = tuple(t.expand(shape) for t in unit.featureless(*_own(dist, layer)))
            state[layer] = unit.sample_clamped(eta, mask, value)
    return state
