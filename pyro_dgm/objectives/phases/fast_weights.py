"""Fast weights: a second set of parameters that drives persistent chains out of the modes that they stay in."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ... import processes
from ...energy import BoltzmannDistribution, Graph, State
from ...energy.normaliser import barred
from .positive import Positive, data_free_energy


class FastWeights:
    r"""Offsets of all biases and weights that learn quickly and decay (Tieleman and Hinton 2009).

    The machine with $\theta + \theta^+$ moves the chains. After every step
    $\theta^+ \leftarrow \lambda\theta^+ + \epsilon\,\widehat{\nabla} L(\theta)$, with the gradient of the mean log-likelihood,
    estimated by that step's batch and negatives: where chains linger, the energy rises until they leave. Entries of weights
    that are zero in every machine over the graph, as a unit's coupling to itself or a slab's to a square, stay zero.

    Args:
        rate: $\epsilon$.
        decay: $\lambda$.
        offsets: $\theta^+$ of an earlier run, in the order of ``dist.parameters()``.
    """

    def __init__(self, rate: float, decay: float, offsets: Sequence[Tensor] = ()) -> None:
        self.rate, self.decay = rate, decay
        self.offsets = list(offsets)
        self._barred: tuple[Graph, list[Tensor | None]] | None = None

    def apply(self, site: str, fn: BoltzmannDistribution) -> BoltzmannDistribution:
        """The distribution that moves the chains; no gradient goes through it."""
        parameters = [p.detach() for p in fn.parameters()]
        if [o.shape for o in self.offsets] != [p.shape for p in parameters]:
            self.offsets = [torch.zeros_like(p) for p in parameters]
        moved = [p + o for p, o in zip(parameters, self.offsets, strict=True)]
        try:
            return _with_parameters(fn, moved, validate=True)
        except ValueError as error:
            raise ValueError(
                f"the fast weights of site {site!r} give parameters that no machine can have: {error}. Lower fast, which is "
                f"{self.rate:g}"
            ) from None

    def update(
        self, fn: BoltzmannDistribution, value: Tensor, negatives: State, positive: Positive | None = None
    ) -> None:
        """Add the gradient of one step; the gradients of ``fn`` itself are not touched."""
        with torch.enable_grad():
            parameters = [p.detach().requires_grad_() for p in fn.parameters()]
            plain = _with_parameters(fn, parameters)
            batch = fn.parameter_batch_shape
            data = average_to(-data_free_energy(plain, value.detach(), positive), batch)
            model = average_to(plain.collapsed(negatives), batch)
            gradients = torch.autograd.grad((data - model).sum(), parameters, materialize_grads=True)
        self.offsets = [
            torch.add(self.decay * offset, processes.mean(gradient, len(value)), alpha=self.rate)
            for offset, gradient in zip(self.offsets, self._allowed(fn, gradients), strict=True)
        ]

    def _allowed(self, fn: BoltzmannDistribution, gradients: Sequence[Tensor]) -> list[Tensor]:
        """The gradients, restricted to entries that a machine over this graph may have."""
        graph, allowed = fn.machine.graph, _uncoupled_from_themselves(fn, gradients)
        if self._barred is None or self._barred[0] is not graph:
            weights = zip(graph.interactions, fn.machine.weights, strict=True)
            self._barred = graph, [barred(graph, interaction, weight.detach()) for interaction, weight in weights]
        for number, mask in enumerate(self._barred[1], len(allowed) - len(graph.interactions)):
            if mask is not None:
                allowed[number] = allowed[number].masked_fill(mask, 0.0)
        return allowed


def average_to(values: Tensor, shape: torch.Size) -> Tensor:
    """The mean over all dimensions that ``shape`` lacks or has at size one."""
    values = values.flatten(0, values.dim() - len(shape) - 1).mean(0) if values.dim() > len(shape) else values
    dims = [d for d, size in enumerate(shape) if size == 1 and values.shape[d] != 1]
    return values.mean(dims, keepdim=True) if dims else values


def _with_parameters(
    fn: BoltzmannDistribution, parameters: Sequence[Tensor], validate: bool = False
) -> BoltzmannDistribution:
    """The distribution with other parameters, in the order of ``fn.parameters()``, with flat biases as in a machine."""
    machine, remaining = fn.machine, list(parameters)
    biases = {
        layer: tuple(remaining.pop(0).unflatten(-1, machine.graph.layers[layer].shape) for _ in flat)
        for layer, flat in machine.biases.items()
    }
    return BoltzmannDistribution(machine.graph, biases, remaining, fn.visible, validate_args=validate)


def _uncoupled_from_themselves(fn: BoltzmannDistribution, gradients: Sequence[Tensor]) -> list[Tensor]:
    """Gradients that keep lateral weights symmetric, and every atom of a layer uncoupled to itself."""
    graph, allowed = fn.machine.graph, list(gradients)
    for number, (interaction, shape) in enumerate(
        zip(graph.interactions, graph.weight_shapes, strict=True), len(gradients) - len(graph.interactions)
    ):
        layers = {end.layer for end in interaction.ends}
        unit = graph.layers[interaction.ends[0].layer]
        size = unit.shape.numel()
        if len(layers) == 1 and shape == (size, size):
            atom = torch.arange(size, device=allowed[number].device) // (size // unit.atoms)
            symmetric = (allowed[number] + allowed[number].mT) / 2
            allowed[number] = symmetric.masked_fill(atom[:, None] == atom, 0.0)
    return allowed
