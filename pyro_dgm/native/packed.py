"""Layers of bits as words, and machines of them that compiled loops sweep and temper."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from .draws import seeds
from .guard import check_array
from .processor import TILE
from .products import multiplies_by_units

Flow = tuple[int, int, Tensor]
"""A coupling as one block feels it: the block's place, the layer at the other end, weights ``that layer x the block's layer``."""


class PackedBits:
    """A machine of bits with dense couplings: copies of its biases, and of its weights as loops over many steps read them.

    Between steps, states are words of 32 bits of a layer, ``tiles x rows``; products of words with weights are looked up in
    tables of sums, and torch's threads share every block. Words of torch's generator seed every call.

    Args:
        biases: one vector per layer, in single precision.
        order: the layer of every block, in the order in which they are drawn.
        flows: the couplings at every block.
        steps: how many steps will be made. For few of them weights stay as they are, where their memory lies flat.

    Raises:
        ValueError: parts that do not fit one another.
    """

    def __init__(
        self, biases: Sequence[Tensor], order: Sequence[int], flows: Iterable[Flow], steps: float = math.inf
    ) -> None:
        self.biases = [bias.detach().flatten().clone() for bias in biases]
        self.order, flows = list(order), list(flows)
        check_parts(self.biases, self.order, flows)
        self.in_units = multiplies_by_units()
        self.weights, forms = weights_for([weight.detach() for _, _, weight in flows], steps)
        self.counts = len(self.biases), len(self.order), len(flows)
        ends = [
            number for (place, source, _), form in zip(flows, forms, strict=True) for number in (place, source, form)
        ]
        self.numbers = [*(len(bias) for bias in self.biases), *self.order, *ends]

    def pack(self, states: Sequence[Tensor]) -> list[Tensor] | None:
        """Words of all layers' bits, ``tiles x rows``, from ``rows x columns``; None where there are numbers other than bits."""
        from . import team
        from . import words as loops

        if len({state.numel() // len(bias) for state, bias in zip(states, self.biases, strict=True)}) > 1:
            raise ValueError(
                f"states got shapes {[tuple(s.shape) for s in states]}; expected as many rows in every layer"
            )
        packed, other_numbers = [], torch.zeros(1, dtype=torch.int64, device="cpu")
        for state, bias in zip(states, self.biases, strict=True):
            x = state.reshape(-1, len(bias)).to(bias).detach().resolve_neg().contiguous()
            words = x.new_empty(-(-len(bias) // TILE), len(x), dtype=torch.int32)
            team.run_team(loops.read_bits, (x, words, other_numbers), *x.shape, len(words))
            packed.append(words)
        return None if other_numbers.item() else packed

    def unpack(self, words: Sequence[Tensor], layers: Sequence[int] | None = None) -> list[Tensor]:
        """The inverse of ``pack``: ``rows x columns`` for every layer, or for ``layers`` by number, whose words come."""
        from . import team
        from . import words as loops

        biases = self.biases if layers is None else [self.biases[layer] for layer in layers]
        self._rows(words, biases)
        states = [bias.new_empty(packed.shape[1], len(bias)) for bias, packed in zip(biases, words, strict=True)]
        for x, packed in zip(states, words, strict=True):
            team.run_team(loops.write_bits, (x, packed), *x.shape, len(packed))
        return states

    def sweep(self, words: Sequence[Tensor], sweeps: int) -> None:
        """Overwrite the words by those after some Gibbs sweeps."""
        from . import sweeps as loops
        from . import team

        tensors = [seeds(), *self.biases, *words, *self.weights]
        team.run_team(loops.sweep_bits, tensors, self._rows(words), *self.counts, sweeps, self.in_units, *self.numbers)

    def _rows(self, words: Sequence[Tensor], biases: Sequence[Tensor] | None = None) -> int:
        """The number of states that words of all layers hold, or of those that have these biases.

        Raises:
            ValueError: words of other layers, or of unlike numbers of rows.
        """
        biases = self.biases if biases is None else biases
        rows = words[0].shape[1] if words and len(words) == len(biases) else -1
        for layer, (packed, bias) in enumerate(zip(words, biases, strict=False)):
            check_array(f"words of layer {layer}", packed, torch.int32, (-(-len(bias) // TILE), rows))
        return rows

    def temper(
        self,
        words: Sequence[Tensor],
        base: Sequence[Tensor],
        early: int,
        betas: Tensor,
        from_base: Tensor,
        trips: Tensor,
        steps: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Overwrite the words by those after some steps of parallel tempering of a machine in two colours.

        Args:
            words: of ``chains x temperatures`` rows.
            base: the logits of every layer at the lowest inverse temperature.
            early: the number of blocks of the first colour.
            betas: inverse temperatures.
            from_base: which rows were at the lowest one last, flat.
            trips: how many rows came from there to the highest one so far, per chain.
            steps: the number of steps.

        Returns:
            every pair's mean probability of a swap, and ``from_base`` and ``trips`` after the steps.
        """
        from . import team, tempering

        betas, rows, like = betas.detach().double().resolve_neg().contiguous(), self._rows(words), self.biases[0]
        base = [b.detach().to(like).flatten() for b in base]
        check_array("betas", betas, torch.float64, (max(1, len(betas)),))
        for b, bias in zip(base, self.biases, strict=True):
            check_array("base", b, torch.float32, bias.shape)
        chains = rows // len(betas)
        if not (0 < early < len(self.order)) or rows % len(betas):
            raise ValueError(
                f"temper got {rows} rows at {len(betas)} temperatures and {early} of {len(self.order)} blocks in the first "
                "colour; expected whole chains, and blocks in both colours"
            )
        check_array("from_base", from_base.reshape(-1), torch.bool, (rows,))
        check_array("trips", trips.reshape(-1), torch.int64, (chains,))
        rates, source = betas.new_zeros(chains, len(betas) - 1), betas.new_empty(rows, dtype=torch.int64)
        climbing, climbed = from_base.to(torch.uint8).contiguous(), trips.clone()
        gaps = like.new_empty(sum(len(w) for w in words), rows)
        starts = [_padded(b) for b in base]
        differences = [_padded(bias - b) for bias, b in zip(self.biases, base, strict=True)]
        whole = -(-rows // TILE) * TILE
        fields = [like.new_empty(whole, starts[layer].numel()) for layer in self.order[:early]]
        tensors = [seeds(2), betas, rates, source, climbing, climbed, gaps]
        tensors += [*starts, *differences, *words, *self.weights, *fields]
        numbers = rows, *self.counts, steps, len(betas), early, self.in_units, *self.numbers
        team.run_team(tempering.temper_bits, tensors, *numbers)
        return rates.sum(0) / (steps * chains), climbing.bool(), climbed

    def anneal(self, words: Sequence[Tensor], base: Sequence[Tensor], early: int, levels: Tensor) -> Tensor:
        r"""Overwrite the words by those after a sweep at every inverse temperature but the first; returns log weights per row.

        A step from $\beta$ to the next adds the rise of $\log \sum e^{-E_\beta}$ over the first blocks, in the state before its
        sweep.

        Args:
            words: of all layers; those of the first blocks are not read.
            base: the logits of every layer at the inverse temperature 0.
            early: the number of blocks that are summed out, one colour.
            levels: inverse temperatures.

        Raises:
            ValueError: words, logits or temperatures that do not fit the machine.
        """
        from . import annealing, team

        rows, like = self._rows(words), self.biases[0]
        levels = levels.detach().double().resolve_neg().contiguous()
        base = [b.detach().to(like).flatten() for b in base]
        check_array("levels", levels, torch.float64, (max(2, len(levels)),))
        for b, bias in zip(base, self.biases, strict=True):
            check_array("base", b, torch.float32, bias.shape)
        if not 0 < early <= len(self.order):
            raise ValueError(f"anneal got {early} of {len(self.order)} blocks to sum out; expected one or more of them")
        strips = sum(-(-len(self.biases[layer]) // TILE) for layer in self.order)
        rises = levels.new_zeros(strips, rows)
        differences = [_padded(bias - b) for bias, b in zip(self.biases, base, strict=True)]
        tensors = [seeds(), levels, rises, *(_padded(b) for b in base), *differences, *words, *self.weights]
        numbers = rows, *self.counts, len(levels) - 1, self.in_units, early, *self.numbers
        team.run_team(annealing.anneal_bits, tensors, *numbers)
        return rises.sum(0)


def _padded(x: Tensor) -> Tensor:
    """A copy with zeros up to whole tiles."""
    return pad(x.detach(), (0, -len(x) % TILE))


LAID_OUT = 3
"""The fewest steps for which weights are laid out first, which takes as long as half a step and makes one half as long."""


def weights_for(weights: Sequence[Tensor], steps: float) -> tuple[list[Tensor], list[int]]:
    """Matrices in the form in which loops over so many steps read them, and the forms' numbers."""
    from .sweeps import AS_IT_IS, PACKED, TRANSPOSED

    whole = [w.resolve_neg() for w in weights]
    matrices = [w if w.is_contiguous() or w.t().is_contiguous() else w.contiguous() for w in whole]
    forms = [AS_IT_IS if w.is_contiguous() else TRANSPOSED for w in matrices]
    stored = [w if w.is_contiguous() else w.t() for w in matrices]
    return (stored, forms) if steps < LAID_OUT else (_laid_out(stored, forms), [PACKED] * len(forms))


def _laid_out(stored: Sequence[Tensor], forms: Sequence[int]) -> list[Tensor]:
    """Terms of matrix units, or tiles for tables of sums."""
    from . import layouts, team
    from .matrix_units import STRIP
    from .sweeps import TRANSPOSED

    in_units, across = multiplies_by_units(), [form == TRANSPOSED for form in forms]
    size, dtype = (STRIP // 2, torch.bfloat16) if in_units else (TILE * TILE, torch.float32)
    rooms = []
    for w, turned in zip(stored, across, strict=True):
        inner, columns = reversed(w.shape) if turned else w.shape
        rooms.append(w.new_empty(-(-columns // TILE), -(-inner // TILE), size, dtype=dtype))
    shapes = [number for w, turned in zip(stored, across, strict=True) for number in (*w.shape, turned)]
    team.run_team(layouts.lay_out_weights, (*stored, *rooms), len(stored), in_units, *shapes)
    return rooms


def check_parts(biases: Sequence[Tensor], order: Sequence[int], flows: Sequence[Flow]) -> None:
    """Refuse parts of a machine of bits that do not fit one another.

    Raises:
        ValueError: they do not.
    """
    layers, blocks = range(len(biases)), range(len(order))
    for bias in biases:
        check_array("a layer's bias", bias, torch.float32, (max(1, len(bias)),))
    for place, source, weight in flows:
        if not (place in blocks and source in layers and order[place] in layers):
            raise ValueError(
                f"a flow got block {place} and layer {source}, in the order {order}; expected numbers of "
                f"{len(blocks)} blocks and {len(layers)} layers"
            )
        check_array("a flow's weight", weight, torch.float32, (len(biases[source]), len(biases[order[place]])))
    if not all(layer in layers for layer in order):
        raise ValueError(f"order got {order}; expected numbers of {len(layers)} layers")
