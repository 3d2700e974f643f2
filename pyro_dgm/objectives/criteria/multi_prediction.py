"""Multi-prediction training: mean field fills in masked entries, and the loss is differentiated through it (20.4.5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...checks import check_count, check_positive, check_share
from ...energy import Machine, State
from ...energy.mean_field import mean_field
from ..objective import Objective


class MultiPrediction(Objective):
    r"""The prediction of masked entries from the others by mean field (Goodfellow, Mirza, Courville and Bengio 2013).

    A random mask tells which entries of the observed layers are known. The given ``rounds`` of mean field infer the others
    together with the hidden units, and the loss is $-\sum_{i\ \mathrm{masked}} \log Q(x_i)$, differentiated through the
    unrolled rounds. No log Z is needed, and any conditional query is of the kind that was trained. The loss is no likelihood.

    Args:
        rounds: rounds of mean field.
        known: the mean share of entries that are known; the share of each row is drawn uniformly around it. Layers may have
            their own shares, ``{"visible": 0.8, "label": 0.0}``, with a half for layers that are not named; a layer with
            share 0 is always predicted.
        weights: factors of the losses of single layers, as ``{"label": 30.0}``: one label among hundreds of pixels hardly
            counts otherwise.

    It is a denoising criterion whose corruption hides entries (20.11); ``dgm.PredictionChain`` is the chain that it trains.

    Raises:
        ValueError: no round, a share outside (0, 1) (of a single layer, outside [0, 1)), a negative weight; at a step, a share
            or weight of a layer that is not observed.

    Example:
        >>> import pyro_dgm as dgm
        >>> dbm, x = dgm.DBM.example()
        >>> len(dgm.fit(dbm, x, objective=dgm.MultiPrediction(rounds=3), epochs=1, progress=False).history)
        1
    """

    needs_whole_rows = "hides known entries itself"

    def __init__(
        self, rounds: int = 10, known: float | Mapping[str, float] = 0.5, weights: Mapping[str, float] | None = None
    ) -> None:
        rounds = check_count("rounds", rounds, what="the rounds of mean field")
        for layer, share in (known if isinstance(known, Mapping) else {"": known}).items():
            name = f"known[{layer!r}]" if layer else "known"
            check_share(name, share, "the share of known entries", zero=bool(layer))
        for layer, weight in (weights or {}).items():
            check_positive(f"weights[{layer!r}]", weight, "the factor of the layer's loss", zero=True)
        self.rounds, self.known, self.weights = rounds, known, dict(weights or {})
        self._shares, self._share = (dict(known), 0.5) if isinstance(known, Mapping) else ({}, known)

    def options(self) -> dict[str, Any]:
        weights = {"weights": self.weights} if self.weights else {}
        return {**super().options(), "rounds": self.rounds, "known": self._shares or self.known, **weights}

    def attach(self, model: Any) -> None:
        self._model = model

    def loss(self, x: Tensor) -> Tensor:
        machine = self._model().machine
        observed = self._model.observed(x)
        for name, by_layer in (("weights", self.weights), ("known", self._shares)):
            if strange := by_layer.keys() - observed.keys():
                raise ValueError(f"{name} got the layers {sorted(strange)}; those observed are {list(observed)}")
        masks = {layer: self._mask(machine, layer, value) for layer, value in observed.items()}
        naturals = _filled_in(machine, observed, masks, self.rounds)
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
        """A random mask of the known atoms, broadcast over the inside of an atom."""
        unit = machine.graph.layers[layer]
        shape = value.shape[: value.dim() - unit.inner_dim]
        mean = self._shares.get(layer, self._share)
        width = min(mean, 1 - mean)
        share = mean + width * (2 * torch.rand(len(value), *(1 for _ in shape[1:]), device=value.device) - 1)
        mask = torch.rand(shape, device=value.device) < share
        return mask.view(*shape, *(1 for _ in range(unit.inner_dim))).expand(value.shape)


def predictions(machine: Machine, observed: State, masks: State, rounds: int) -> State:
    """The observed layers with known entries unchanged and others at their means by mean field."""
    with torch.no_grad():
        naturals = _filled_in(machine, observed, masks, rounds)
    layers = machine.graph.layers
    return {
        layer: torch.where(masks[layer], value, layers[layer].mean(*naturals[layer])[0])
        for layer, value in observed.items()
    }


def _filled_in(
    machine: Machine, observed: Mapping[str, Tensor], masks: Mapping[str, Tensor], rounds: int
) -> dict[str, tuple[Tensor, ...]]:
    """Natural parameters of every layer by mean field, given the observed entries whose masks are True."""
    known = {layer: (masks[layer], value) for layer, value in observed.items()}
    return mean_field(machine, {}, rounds, known=known).naturals
