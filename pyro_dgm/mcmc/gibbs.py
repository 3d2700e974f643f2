"""Block Gibbs sampling over the colours of a Boltzmann machine."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import torch
from torch import Tensor

from ..energy import BoltzmannDistribution, NotEnumerable, State
from ..energy.fast import PRECISIONS, check_precision
from .clamping import by_layer, expanded
from .kernel import ChainsKernel, check_layers


class BlockGibbs(ChainsKernel):
    r"""Draws every colour of the graph in turn from its conditional (20.7-16; 20.26-28 where layers alternate).

    Args:
        dist: the Boltzmann distribution, as ``rbm()`` returns it.
        clamp: what is known: ``{layer: (mask, value)}``, or ``(mask, value)`` for the visible layer; where the boolean
            ``mask`` holds the layer stays at ``value``, and the chains converge to $p(x_a \mid x_b)$. Both broadcast to
            ``chains x batch_shape x layer shape``.
        precision: ``"float32"`` (which leaves products to the parameters' own precision), or ``"bfloat16"``: weights, and states
            where they are real-valued, rounded to bfloat16 in the products, sums in single precision. Conditional
            probabilities are then off by some $10^{-3}$ (figures in CONTRIBUTING), and a sweep about half as long; for
            negative phases and pictures, not for figures.

    Raises:
        ValueError: the distribution has no layers; the clamp is no pair of mask and value, names no layer of the graph, has
            the wrong shape, or values outside the support; an unknown precision, or bfloat16 where it would be slower.

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
        clamp: Mapping[str, tuple[Tensor, Tensor]] | tuple[Tensor, Tensor] | None = None,
        precision: str = "float32",
    ) -> None:
        super().__init__(dist)
        check_layers(self, dist)
        check_precision(precision, dist.parameters()[0])
        self.precision = precision
        self.machine = dist.machine
        self.visible = dist.visible
        known = by_layer(dist.visible, clamp)
        self.clamp = None if not known else {layer: self._checked(layer, *pair) for layer, pair in known.items()}

    def _checked(self, layer: str, mask: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        if layer not in self.machine.graph.layers:
            raise ValueError(f"clamp names the layer {layer!r}; there are {list(self.machine.graph.layers)}")
        unit = self.machine.graph.layers[layer]
        like = self.machine.biases[layer][0]
        mask, value = torch.as_tensor(mask, device=like.device), torch.as_tensor(value, device=like.device)
        if mask.dtype != torch.bool:
            raise ValueError(f"the clamp's mask of {layer!r} has dtype {mask.dtype}; expected bool, True where known")
        for name, tensor in (("mask", mask), ("value", value)):
            if tensor.shape[-unit.event_dim :] != unit.shape:
                raise ValueError(
                    f"the clamp's {name} of {layer!r} has shape {tuple(tensor.shape)}; "
                    f"its last dimensions must be {tuple(unit.shape)}"
                )
        value = value.to(like.dtype)
        try:
            known = torch.broadcast_tensors(mask, value)[0]
        except RuntimeError:
            raise ValueError(
                f"the clamp's mask of {layer!r} has shape {tuple(mask.shape)} and its value {tuple(value.shape)}; expected "
                "shapes that broadcast"
            ) from None
        # Only known entries need to lie in the support; an atom known in part is checked entry by entry.
        allowed = torch.isin(value, unit.atom_states(like)) if unit.states_per_atom else value.isfinite()
        if not (allowed | ~known).all():
            raise ValueError(f"the clamp holds {layer!r} at values outside the support of {unit}")
        if reason := unit.check_clamp(known, torch.broadcast_tensors(mask, value)[1]):
            raise ValueError(f"the clamp of {layer!r} does not fit {unit}: {reason}")
        return mask, value

    def start(self, chains: int) -> State:
        with torch.no_grad():
            state = self.machine.neutral_state((chains, *self.dist.batch_shape))
            for layer, clamp in (self.clamp or {}).items():
                unit, shape = self.machine.graph.layers[layer], state[layer].shape
                mask, value = expanded(layer, clamp, shape)
                eta = tuple(t.expand(shape) for t in unit.neutral(value))
                state[layer] = unit.sample_clamped(eta, mask, value)
        return state

    def sample(self, params: State) -> State:
        with torch.no_grad(), PRECISIONS[self.precision]():
            return self.machine.sweep(params, self.clamp)

    def energies(self, params: State) -> dict[str, Tensor]:
        with torch.no_grad():
            scalars = {"energy": self.dist.energy(params)}
            with contextlib.suppress(NotEnumerable):
                scalars["free_energy"] = self.dist.free_energy(params[self.visible])
        return scalars
