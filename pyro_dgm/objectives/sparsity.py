"""Targets for how often hidden units are on, which move their biases beside the gradient of a criterion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from ..checks import check_positive, check_share
from ..energy import Machine
from ..energy.mean_field import mean_field

ROUNDS = 10
"""Rounds of mean field where hidden units are coupled to one another."""


@runtime_checkable
class WithHiddenUnits(Protocol):
    """A model of a Boltzmann machine."""

    def machine_of(self, x: Tensor) -> tuple[Machine, dict[str, Tensor]]:
        """The machine of data rows, and the states of its layers that they observe."""
        ...


class Sparsity:
    r"""A pull of hidden units' biases towards a share of the rows in which they are on.

    With $q_j = P(h_j = 1 \mid x)$ and a target t the descent direction of $b_j$ gets $-\lambda\,\overline{(q_j - t)}$, the mean
    over the rows of a batch, beside the likelihood's gradient in nats a row (Lee, Ekanadham and Ng 2008). Biases that positions
    share, as in ``dgm.ConvolutionalRBM``, get the sum over positions, as they do of the likelihood. This is no gradient of a
    penalty $(\bar q_j - t)^2$, which would have the factor $\bar q_j (1 - \bar q_j)$ that vanishes where units saturate. Nor does
    it move weights, and so it is no part of the energy. The loss keeps its value. Where biases depend on given columns, so does
    what is moved.

    The spikes of spike-and-slab units have a target, and the detectors of pooling regions have one each; variables of several
    classes, spins and real units have none. Where hidden units are coupled to one another, q is by mean field.

    Args:
        target: t, of all hidden layers, or one per layer by name; layers that are not named have none.
        weight: $\lambda$.

    Raises:
        ValueError: a target outside (0, 1), or none; a weight that is not positive; at the first step, a layer that is no
            hidden layer of units that are on or off with biases of their own, or a target that no region with one detector on
            at most can meet.

    Lee, Ekanadham and Ng (2008), "Sparse deep belief net model for visual area V2"; Lee, Grosse, Ranganath and Ng (2009).

    Example:
        >>> import pyro_dgm as dgm
        >>> rbm, x = dgm.RBM.example()
        >>> objective = dgm.NegativePhaseObjective(dgm.CD(), sparsity=dgm.Sparsity(0.1, weight=0.5))
        >>> len(dgm.fit(rbm, x, objective=objective, epochs=2, progress=False).history)
        2
    """

    def __init__(self, target: float | Mapping[str, float], weight: float = 1.0) -> None:
        named = target if isinstance(target, Mapping) else {"": target}
        if not named:
            raise ValueError("sparsity got {}; expected a target, or one per layer by name")
        for layer, share in named.items():
            check_share(f"sparsity of {layer!r}" if layer else "sparsity", share, "a share of the rows")
        check_positive("sparsity_weight", weight, "the weight of the sparsity target")
        self.target, self.weight = dict(target) if isinstance(target, Mapping) else float(target), float(weight)

    @classmethod
    def of(cls, target: float | Mapping[str, float] | None, weight: float | None = None) -> Self | None:
        """The targets of an objective's options; None without a target.

        Raises:
            ValueError: a weight without a target.
        """
        if target is None:
            if weight is not None:
                raise ValueError(f"sparsity_weight got {weight!r} without sparsity, the target; give both or neither")
            return None
        return cls(target, 1.0 if weight is None else weight)

    def options(self) -> dict[str, Any]:
        """The description in a run on disk."""
        return {"sparsity": self.target, "sparsity_weight": self.weight}

    def check(self, model: object) -> None:
        """Refuse a model that is no Boltzmann machine.

        Raises:
            ValueError: it is none.
        """
        if not isinstance(model, WithHiddenUnits):
            raise ValueError(
                f"sparsity got a {type(model).__name__}, which is no Boltzmann machine of layers; leave it out"
            )

    def term(self, model: WithHiddenUnits, x: Tensor) -> Tensor:
        """A zero whose gradient by the hidden biases is that of the target, in nats per row.

        Args:
            model: a model of a Boltzmann machine.
            x: a batch of rows.
        """
        if not torch.is_grad_enabled():
            return x.new_zeros(())
        machine, seen = model.machine_of(x)
        targets = self._targets(machine, seen)
        coupled = any(
            len({end.layer for end in interaction.ends} - seen.keys()) > 1 for interaction in machine.graph.interactions
        )
        with torch.no_grad():
            means = mean_field(machine, seen, ROUNDS if coupled else 1).statistics
        terms = []
        for layer, target in targets.items():
            unit, bias = machine.graph.layers[layer], machine.biases[layer][0]
            excess = (means[layer][0] - target).unflatten(-1, (unit.atoms, -1))[..., unit.switches]
            moved = bias.unflatten(-1, (unit.atoms, -1))[..., unit.switches]
            terms.append((excess * moved).flatten(-2).sum(-1).mean())
        total = self.weight * torch.stack(terms).sum()
        return total - total.detach()

    def _targets(self, machine: Machine, seen: Mapping[str, Tensor]) -> dict[str, float]:
        """The target of every layer that has one."""
        layers = machine.graph.layers
        able = [
            name
            for name, unit in layers.items()
            if name not in seen and unit.switches != slice(0) and machine.biases[name][0].requires_grad
        ]
        targets = self.target if isinstance(self.target, dict) else dict.fromkeys(able, self.target)
        if not able or targets.keys() - set(able):
            raise ValueError(
                f"sparsity got {self.target!r}; hidden layers of units that are on or off, with biases that are trained: "
                f"{', '.join(able) or 'none'}"
            )
        for layer, target in targets.items():
            unit = layers[layer]
            width = unit.shape.numel() // unit.atoms
            if unit.states_per_atom == width + 1 and target > 1 / width:
                raise ValueError(
                    f"sparsity got {target:g} for {layer!r}, regions of {width} detectors of which at most one is on; "
                    f"expected at most {1 / width:.3g}"
                )
        return targets
