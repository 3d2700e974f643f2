"""The test of whether a machine with real-valued units has a normaliser: its quadratic form must be positive definite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from . import multiway_bounds
from .graph import Graph
from .interactions import End, Interaction
from .switched_forms import spike_slab_validity

_FIX = "make the couplings smaller or the precisions larger"


def improper(graph: Graph, biases: Mapping[str, tuple[Tensor, ...]], weights: Sequence[Tensor]) -> str | None:
    r"""The reason why the couplings of real-valued layers leave no normaliser; None where there is one.

    Without couplings of degree two in real-valued parts there is nothing to do. Else the quadratic form of all real-valued
    units is assembled, with slabs integrated out and spikes (and finite units coupled to a square) as its switches, and
    decided as in ``spike_slab_validity``. Finite units with more than two states are replaced by the range of each of
    their statistics, which is on the safe side. What couplings of more than two layers may use up is taken from the
    precisions first.
    """
    curved = [
        (interaction, weight)
        for interaction, weight in zip(graph.interactions, weights, strict=True)
        if _curved(graph, interaction)
    ]
    several = [interaction for interaction in graph.interactions if multiway_bounds.curved(graph, interaction)]
    if not curved and not several:
        return None
    touched = {end.layer for interaction in [*(i for i, _ in curved), *several] for end in interaction.ends}
    real = {name: graph.layers[name] for name in graph.layers if name in touched and graph.layers[name].degrees}
    with torch.no_grad():
        precisions = {
            name: (-2 * biases[name][unit.degrees.index(2)]).flatten(-unit.event_dim) for name, unit in real.items()
        }
        matrices = [(interaction.ends, _matrix(graph, interaction, weight)) for interaction, weight in curved]
        batches = [p.shape[:-1] for p in precisions.values()] + [m.shape[:-2] for _, m in matrices]
        shapes = graph.weight_shapes
        if several:
            batches += [w.shape[: w.dim() - len(s)] for w, s in zip(weights, shapes, strict=True)]
        for row in range(torch.broadcast_shapes(*batches).numel()):
            batch = torch.broadcast_shapes(*batches)
            own = {name: _row(p, batch, row, 1) for name, p in precisions.items()}
            if several:
                single = [_row(w, batch, row, len(s)) for w, s in zip(weights, shapes, strict=True)]
                try:
                    share = multiway_bounds.used(graph, own, single, not curved)
                except multiway_bounds.NoNormaliser as error:
                    return str(error)
                own = {name: (1 - share) * p for name, p in own.items()}
            if not curved:
                continue
            form = _Assembly(graph, own)
            for ends, matrix in matrices:
                if reason := form.add(ends, _row(matrix, batch, row, 2)):
                    return reason
            if reason := form.decide():
                return reason
    return None


def barred(graph: Graph, interaction: Interaction, weight: Tensor) -> Tensor | None:
    """A mask of the entries of a weight that must be zero for the energy to be quadratic in real-valued units.

    None where all are free.
    """
    misfit = _no_quadratic_form(graph, interaction.ends) if _curved(graph, interaction) else None
    if misfit is None:
        return None
    with torch.enable_grad():
        # The second derivative is linear in the weight, so that its slope shows which entries reach where they must not.
        probe = torch.ones_like(weight).requires_grad_()
        reached = _matrix(graph, interaction, probe)[..., misfit[0].to(probe.device)].sum()
        return torch.autograd.grad(reached, probe)[0] != 0


def _curved(graph: Graph, interaction: Interaction) -> bool:
    """Whether a coupling of two layers is of degree two or more in real-valued parts."""
    return len(interaction.ends) == 2 and sum(_degree(graph, end) for end in interaction.ends) > 1


def _no_quadratic_form(graph: Graph, ends: Sequence[End]) -> tuple[Tensor, str] | None:
    """A mask of the products of two ends' flat statistics that fit no quadratic form, with a reason; None if all of them fit."""
    plain = [bool(graph.layers[end.layer].degrees) and not graph.layers[end.layer].gated for end in ends]
    if plain[1] and not plain[0]:
        swapped = _no_quadratic_form(graph, ends[::-1])
        return None if swapped is None else (swapped[0].mT, swapped[1])
    (first, k), (second, j) = ends
    layer, other = graph.layers[first], graph.layers[second]
    everything = torch.ones(layer.shape.numel(), other.shape.numel(), dtype=torch.bool)
    if not plain[0]:
        if k == j == 0 and layer.gated and other.gated:
            return None
        names = (first, second) if layer.gated else (second, first)
        return everything, f"slabs of {names[0]!r} are coupled to {names[1]!r} other than linearly"
    if plain[1]:
        return (everything, f"the square of {first!r} is coupled to the real-valued {second!r}") if k or j else None
    if j:
        return everything, f"the real-valued {first!r} is coupled to the square of {second!r}"
    if not k or not other.gated:
        return None
    slabs = torch.arange(everything.shape[1]) % (everything.shape[1] // other.atoms) > 0
    return everything & slabs, f"the square of {first!r} is coupled to slabs of {second!r}"


def _degree(graph: Graph, end: End) -> int:
    degrees = graph.layers[end.layer].degrees
    return degrees[end.statistic] if degrees else 0


def _row(tensor: Tensor, batch: torch.Size, row: int, dims: int) -> Tensor:
    shape = tensor.shape[tensor.dim() - dims :]
    return tensor.expand(*batch, *shape).reshape(-1, *shape)[row] if batch else tensor


def _matrix(graph: Graph, interaction: Interaction, weight: Tensor) -> Tensor:
    """The second derivative of an interaction by the statistics of its two ends, flat."""
    first, second = interaction.ends
    sizes = tuple(graph.layers[end.layer].shape.numel() for end in interaction.ends)
    if first.layer != second.layer and interaction.weight_shape(graph.layers) == sizes:
        return weight  # one weight per pair
    basis = torch.eye(sizes[0], dtype=weight.dtype, device=weight.device)
    batch = weight.shape[: weight.dim() - len(interaction.weight_shape(graph.layers))]
    basis = basis.view(sizes[0], *(1 for _ in batch), sizes[0])
    layer = graph.layers[first.layer]
    statistics = {
        first.layer: tuple(basis if k == first.statistic else 0 * basis for k, _ in enumerate(layer.statistics))
    }
    return interaction.field(1, statistics, weight).movedim(0, -2)


class _Assembly:
    """The quadratic form of one machine: plain real units, switches of their squares, and slabs."""

    def __init__(self, graph: Graph, precisions: Mapping[str, Tensor]) -> None:
        self.graph = graph
        self.names = list(precisions)
        plain = [name for name in precisions if not graph.layers[name].gated]
        self.at: dict[str, slice] = {}
        start = 0
        for name in plain:
            self.at[name] = slice(start, start + len(precisions[name]))
            start += len(precisions[name])
        like = next(iter(precisions.values()))
        self.size = start
        self.precision = torch.cat([precisions[name] for name in plain]) if plain else like.new_zeros(0)
        self.couplings: Tensor | None = None
        self.cautious = False
        self.square: dict[str, Tensor] = {}
        self.slabs: dict[str, Tensor] = {}
        self.alpha = {
            name: precisions[name].view(graph.layers[name].atoms, -1)[:, 1:]
            for name in precisions
            if graph.layers[name].gated
        }

    def add(self, ends: Sequence[End], matrix: Tensor) -> str | None:
        """Enter one coupling; returns the reason why it cannot be entered, or None."""
        misfit = _no_quadratic_form(self.graph, ends)
        if misfit is not None and ((matrix != 0) & misfit[0].to(matrix.device)).any():
            return f"{misfit[1]}: the energy would not be quadratic; set these weights to zero"
        if ends[0].layer not in self.at:
            ends, matrix = ends[::-1], matrix.mT
        (first, k), (second, j) = ends
        if first not in self.at:
            return self._between_slabs(first, second, matrix) if k == j == 0 else None
        if second in self.at:
            if k or j:
                return None
            if self.couplings is None:
                self.couplings = matrix.new_zeros(self.size, self.size)
            self.couplings[self.at[first], self.at[second]] -= matrix
            if first != second:
                self.couplings[self.at[second], self.at[first]] -= matrix.mT
            return None
        other = self.graph.layers[second]
        if not other.degrees:
            return self._finite(first, second, j, matrix) if other.states_per_atom is not None else None
        pieces = matrix.unflatten(-1, (other.atoms, -1))
        if k:
            self._enter(self.square, first, second, -2 * pieces[..., 0])
        elif not j:
            self._enter(self.slabs, first, second, pieces[..., 1:])
        return None

    def _between_slabs(self, first: str, second: str, matrix: Tensor) -> str | None:
        r"""Take from the slabs' precisions what their couplings J may cost; returns the reason if one is used up.

        A slab costs its row of $|J|$, since diag(row sums of $|J|$) - J is positive semidefinite, and so it is for the rows and
        columns of any set of spikes. A spike at another's slab is no quadratic term.
        """
        blocks = (self.graph.layers[first].atoms, -1), (self.graph.layers[second].atoms, -1)
        strength = matrix.unflatten(-1, blocks[1])[..., 1:].flatten(-2).unflatten(-2, blocks[0])[..., 1:, :].abs()
        self.alpha[first] = self.alpha[first] - strength.sum(-1)
        if first != second:
            columns = strength.flatten(0, 1).sum(0).view(self.graph.layers[second].atoms, -1)
            self.alpha[second] = self.alpha[second] - columns
        self.cautious = True
        for name in {first, second}:
            if not bool((self.alpha[name] > 0).all()):
                return (
                    f"it cannot be shown that there is one: slabs of {name!r} act on others more strongly (by the sum of "
                    f"|J|) than their own precisions allow; {_FIX}"
                )
        return None

    def _finite(self, first: str, second: str, statistic: int, matrix: Tensor) -> str | None:
        """Enter finite units at a square: each is a constant, plus the range of its statistic as a switch."""
        unit = self.graph.layers[second]
        atom = unit.T(unit.atom_states(matrix).view(-1, *unit.shape[unit.event_dim - unit.inner_dim :]))[statistic]
        low, high = (bound.reshape(-1).repeat(unit.atoms) for bound in (atom.amin(0), atom.amax(0)))
        self.precision[self.at[first]] -= 2 * (matrix @ low)
        self._enter(self.square, first, second, -2 * matrix * (high - low))
        return None

    def _enter(self, table: dict[str, Tensor], first: str, second: str, block: Tensor) -> None:
        if second not in table:
            table[second] = block.new_zeros(self.size, *block.shape[1:])
        table[second][self.at[first]] += block

    def decide(self) -> str | None:
        """The reason why the form is not positive definite; None where it is."""
        switches = sorted({*self.square, *self.slabs})
        widest = max((s.shape[-1] for s in self.slabs.values()), default=1)
        precision = self.precision
        if self.couplings is not None:
            precision = precision.diag() + self.couplings
        squares, slabs, alphas = [precision.new_zeros(self.size, 0)], [], []
        slabs.append(precision.new_zeros(self.size, 0, widest))
        alphas.append(precision.new_ones(0, widest))
        for name in switches:
            unit_slabs = self.slabs.get(name)
            count = (self.square[name] if unit_slabs is None else unit_slabs).shape[1]
            squares.append(self.square.get(name, precision.new_zeros(self.size, count)))
            unit_slabs = precision.new_zeros(self.size, count, 0) if unit_slabs is None else unit_slabs
            slabs.append(F.pad(unit_slabs, (0, widest - unit_slabs.shape[-1])))
            alpha = self.alpha[name] if name in self.alpha else precision.new_ones(count, 0)
            alpha = alpha[:, : unit_slabs.shape[-1]]
            alphas.append(F.pad(alpha, (0, widest - alpha.shape[-1]), value=1.0))
        validity = spike_slab_validity(precision, torch.cat(squares, 1), torch.cat(slabs, 1), torch.cat(alphas, 0))
        if validity.valid:
            return None
        layers = " and ".join(repr(name) for name in dict.fromkeys([*self.names, *switches]))
        caution = "" if validity.exact and not self.cautious else "it cannot be shown that there is one: "
        return f"{caution}{validity.reason}, over the layers {layers}; {_FIX}"
