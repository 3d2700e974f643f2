"""Centred gradients of Boltzmann machines, as an identity whose backward pass changes coordinates."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ... import processes
from ...energy import BoltzmannDistribution, Machine
from ...energy.mean_field import mean_field


class Centring:
    r"""Offsets $\mu$ of all statistics, and the gradient in the coordinates of (20.37).

    With $E = -(x-\mu)^\top U (x-\mu) - (x-\mu)^\top b$ a gradient step changes $U$ and $b$. In the plain coordinates of
    (20.36) that step is $\nabla_c U = \nabla U - \mu \nabla b^\top - \nabla b\, \mu^\top$ and
    $\nabla_c b = \nabla b - 2\,\nabla_c U\,\mu$. The offsets follow the mean statistics under the data
    (Montavon and Müller 2012; Melchior, Fischer and Wiskott 2016).

    Args:
        state: offsets saved from an earlier run.
        rate: the share of the new mean in the moving average, at every update.
        every: gradient steps between two updates of the offsets.
    """

    def __init__(self, state: dict[str, Any] | None = None, rate: float = 0.1, every: int = 10) -> None:
        self.state: dict[str, Any] = {"steps": 0, "offsets": {}} if state is None else state
        self.rate, self.every = rate, every

    def apply(self, fn: BoltzmannDistribution) -> BoltzmannDistribution:
        """The same distribution, with centred gradients."""
        if not self.state["offsets"]:
            return fn
        return fn.with_machine(
            centred(fn.machine, {layer: tuple(means) for layer, means in self.state["offsets"].items()})
        )

    def update(self, fn: BoltzmannDistribution, value: Tensor) -> None:
        """Move the offsets towards the mean statistics of the data, at one step in ``every``."""
        self.state["steps"] += 1
        if self.state["steps"] % self.every != 1 and self.every > 1:
            return
        with torch.no_grad():
            machine = fn.machine
            fixed = {fn.visible: value.detach().to(fn.parameters()[0].dtype), **fn.known}
            hidden = mean_field(machine, fixed, rounds=1 if fn.restricted else 10).statistics
            means = {**machine.statistics(fixed), **hidden}
            new = {
                layer: tuple(processes.mean(t.flatten(0, -2).mean(0), len(value)) for t in statistics)
                for layer, statistics in means.items()
            }
            old = self.state["offsets"] or new
            self.state["offsets"] = {
                layer: tuple(torch.lerp(a, b, self.rate) for a, b in zip(old[layer], offsets, strict=True))
                for layer, offsets in new.items()
            }


def centred(machine: Machine, offsets: dict[str, tuple[Tensor, ...]]) -> Machine:
    """The machine behind an identity that centres its gradients at ``offsets`` (flat mean statistics of every layer)."""
    flat = [b for biases in machine.biases.values() for b in biases]
    remaining = list(_Centre.apply(machine, offsets, *flat, *machine.weights))
    other = object.__new__(Machine)
    other.graph = machine.graph
    other.biases = {layer: tuple(remaining.pop(0) for _ in biases) for layer, biases in machine.biases.items()}
    other.weights = tuple(remaining)
    return other


class _Centre(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, machine: Machine, offsets: dict[str, tuple[Tensor, ...]], *tensors: Tensor) -> Any:
        ctx.graph, ctx.offsets = machine.graph, offsets
        ctx.layout = {layer: len(biases) for layer, biases in machine.biases.items()}
        return tuple(t.view_as(t) for t in tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        remaining = list(gradients)
        bias = {layer: [remaining.pop(0) for _ in range(n)] for layer, n in ctx.layout.items()}
        plain = {layer: list(gradients) for layer, gradients in bias.items()}
        weights = []
        for interaction, gradient in zip(ctx.graph.interactions, remaining, strict=True):
            offsets = tuple(ctx.offsets[end.layer][end.statistic] for end in interaction.ends)
            ends = tuple(plain[end.layer][end.statistic] for end in interaction.ends)
            changed = interaction.centred_gradient(gradient, ends, offsets)
            weights.append(changed)
            for position, end in enumerate(interaction.ends):
                if end not in interaction.ends[:position]:
                    shift = interaction.field(position, ctx.offsets, changed)
                    bias[end.layer][end.statistic] = bias[end.layer][end.statistic] - shift
        return None, None, *(g for of_layer in bias.values() for g in of_layer), *weights
