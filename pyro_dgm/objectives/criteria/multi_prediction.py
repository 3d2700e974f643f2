"""Multi-prediction training: mean field must fill in what was masked, and is trained through (20.4.5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...energy import Machine, State
from ..objective import Objective


class MultiPrediction(Objective):
    r"""Every observed layer, part by part, predicted from the rest by mean field (Goodfellow, Mirza, Courville and Bengio 2013).

    A random mask tells which entries are known. ``steps`` rounds of mean field infer the others together with the hidden
    units, and the loss is $-\sum_{i\ \mathrm{masked}} \log Q(x_i)$, differentiated through the unrolled rounds. No log Z is
    needed, and every conditional query is what was trained. The loss is no likelihood.

    Args:
        steps: rounds of mean field.
        known: the share of entries that are known, on average; for each row it is drawn uniformly around it. Layers may have
            shares of their own, ``{"visible": 0.8, "label": 0.0}``, a half where nothing is said: with 0 a layer is always to
            be predicted.
        weights: by what the losses of single layers are multiplied, as ``{"label": 30.0}``: one label among hundreds of
            pixels has little voice otherwise.

    Raises:
        ValueError: no round, a share outside (0, 1) (of a single layer, outside [0, 1)), a negative weight; at a step, a share
            or weight of a layer that is not observed.

    Example:
        >>> import pyro_dgm as dgm
        >>> dbm, x = dgm.DBM.example()
        >>> len(dgm.fit(dbm, x, objective=dgm.MultiPrediction(steps=3), epochs=1, progress=False).history)
        1
    """

    def __init__(
        self, steps: int = 10, known: float | Mapping[str, float] = 0.5, weights: Mapping[str, float] | None = None
    ) -> None:
        if not isinstance(steps, int) or steps < 1:
            raise ValueError(f"steps got {steps!r}; expected the rounds of mean field, at least 1")
        if not (all(0 <= share < 1 for share in known.values()) if isinstance(known, Mapping) else 0 < known < 1):
            raise ValueError(f"known got {known}; expected the share of known entries, between 0 and 1")
        if any(not w >= 0 for w in (weights or {}).values()):
            raise ValueError(f"weights got {weights}; expected factors of at least 0 by layer")
        self.steps, self.known, self.weights = steps, known, dict(weights or {})
        self._shares, self._share = (dict(known), 0.5) if isinstance(known, Mapping) else ({}, known)

    def options(self) -> dict[str, Any]:
        weights = {"weights": self.weights} if self.weights else {}
        return {**super().options(), "steps": self.steps, "known": self._shares or self.known, **weights}

    def attach(self, model: Any) -> None:
        self._model = model

    def loss(self, x: Tensor) -> Tensor:
        machine = self._model().machine
        observed = self._model.observed(x)
        for name, given in (("weights", self.weights), ("known", self._shares)):
            if strange := given.keys() - observed.keys():
                raise ValueError(f"{name} got the layers {sorted(strange)}; those observed are {list(observed)}")
        masks = {layer: self._mask(machine, layer, value) for layer, value in observed.items()}
        naturals = fill_in(machine, observed, masks, self.steps)
        total = x.new_zeros(())
        for layer, value in observed.items():
            unit = machine.graph.layers[layer]
            eta = naturals[layer]
            inner = sum(
                (e * t).flatten(e.dim() - unit.inner_dim).sum(-1) if unit.inner_dim else e * t
                for e, t in zip(eta, unit.T(value), strict=True)
            )
            known = masks[layer].flatten(value.dim() - unit.inner_dim)[..., 0] if unit.inner_dim else masks[layer]
            total = total - self.weights.get(layer, 1.0) * ((inner - unit.A(*eta)) * ~known).sum()
        return total / len(x)

    def _mask(self, machine: Machine, layer: str, value: Tensor) -> Tensor:
        """Which atoms are known, broadcast over the inside of an atom."""
        unit = machine.graph.layers[layer]
        shape = value.shape[: value.dim() - unit.inner_dim]
        mean = self._shares.get(layer, self._share)
        width = min(mean, 1 - mean)
        share = mean + width * (2 * torch.rand(len(value), *(1 for _ in shape[1:]), device=value.device) - 1)
        mask = torch.rand(shape, device=value.device) < share
        return mask.view(*shape, *(1 for _ in range(unit.inner_dim))).expand(value.shape)


def fill_in(
    machine: Machine, observed: Mapping[str, Tensor], masks: Mapping[str, Tensor], steps: int
) -> dict[str, tuple[Tensor, ...]]:
    """Mean field with some entries known: natural parameters of every layer after ``steps`` rounds, differentiable.

    Args:
        machine: a machine whose layers are whole colours.
        observed: layers known in part, ``rows x layer shape``.
        masks: True where an entry is known.
        steps: the number of rounds.

    Raises:
        ValueError: a layer is coupled within itself.
    """
    if any(block.atoms is not None for colour in machine.colours for block in colour):
        raise ValueError("fill_in needs layers without couplings inside them; use a kernel with a clamp instead")
    rows = len(next(iter(observed.values())))
    layers = machine.graph.layers
    known = {layer: machine.statistics({layer: value})[layer] for layer, value in observed.items()}
    flat_masks = {layer: mask.flatten(1) for layer, mask in masks.items()}

    def mixed(layer: str, means: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if layer not in known:
            return means
        return tuple(torch.where(flat_masks[layer], k, m) for k, m in zip(known[layer], means, strict=True))

    statistics: dict[str, tuple[Tensor, ...]] = {}
    naturals: dict[str, tuple[Tensor, ...]] = {}
    for layer in layers:
        block = machine.graph.block(layer)
        eta = tuple(e.expand(rows, *e.shape) for e in machine._shaped(block, machine.biases[layer]))
        naturals[layer] = eta
        statistics[layer] = mixed(layer, machine._flat(layer, layers[layer].mean(*eta)))
    for _ in range(steps):
        for colour in machine.colours:
            for block in colour:
                eta = machine.fields(block, statistics)
                naturals[block.layer] = eta
                statistics[block.layer] = mixed(block.layer, machine._flat(block.layer, layers[block.layer].mean(*eta)))
    return naturals


def predictions(machine: Machine, observed: State, masks: State, steps: int) -> State:
    """The filled-in means of every observed layer: known entries as they are."""
    with torch.no_grad():
        naturals = fill_in(machine, observed, masks, steps)
    layers = machine.graph.layers
    return {
        layer: torch.where(masks[layer], value, layers[layer].mean(*naturals[layer])[0])
        for layer, value in observed.items()
    }
