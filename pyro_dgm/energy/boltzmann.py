"""Boltzmann machines as Pyro distributions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.distributions import constraints

from .. import progress
from ..checks import check_choice, check_count
from ..native import out_of_autocast
from .conditional import conditional, given_entries
from .distribution import EnergyDistribution
from .enumeration import NotEnumerable, batch_shape, drawable, exact_sample, log_sum
from .graph import Block, Graph
from .machine import Machine, State
from .moments import listable, listed, mean_and_variance
from .parameters import blame_parameters, check_shapes, check_values, ends_of

SETTLING = 10
"""Sweeps that hidden layers get around visible rows before chains start from them."""


class BoltzmannDistribution(EnergyDistribution):
    r"""The visible layer of a Boltzmann machine, $p(x) = \sum_h e^{-E(x,h)} / Z$ (20.2-5).

    ``batch_shape`` comes from the parameters (a context shifts biases, one machine per row) and from ``expand``, which
    shares them; ``event_shape`` is the visible layer's shape.

    Args:
        graph: the layers and couplings.
        biases: natural parameters of every layer.
        weights: one tensor per interaction.
        visible: the layer that is the value of the distribution.
        validate_args: as in every torch distribution.

    Raises:
        ValueError: no graph, parameters or visible layer; shapes, types or batches that do not fit; with ``validate_args``,
            parameters that are not finite (``NotFinite``) or have no normaliser, or couplings that are not symmetric.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(
        self,
        graph: Graph,
        biases: Mapping[str, tuple[Tensor, ...]],
        weights: Sequence[Tensor],
        visible: str = "visible",
        validate_args: bool | None = None,
    ) -> None:
        try:
            check_shapes(graph, biases, weights)
            self.machine = Machine(graph, biases, weights)
            self.parameter_batch_shape = batch_shape(self.machine)
        except (AttributeError, KeyError, RuntimeError, TypeError) as error:
            blame_parameters(graph, biases, weights, error)
            raise
        check_choice("visible", visible, graph.layers)
        self.visible = visible
        self.known: Mapping[str, Tensor] = {}
        super().__init__(self.parameter_batch_shape, graph.layers[visible].shape, validate_args=validate_args)
        if self._validate_args:
            check_values(graph, biases, weights)

    @constraints.dependent_property
    def support(self) -> constraints.Constraint:
        """The constraint that values satisfy."""
        unit = self.machine.graph.layers[self.visible]
        return constraints.independent(unit.support, unit.event_dim - unit.inner_dim)

    def parameters(self) -> tuple[Tensor, ...]:
        return tuple(b for entry in self.machine.biases.values() for b in entry) + self.machine.weights

    def parameter_names(self) -> list[str]:
        graph = self.machine.graph
        biases = [
            f"the bias of {layer!r} for {name}" for layer, unit in graph.layers.items() for name in unit.statistics
        ]
        return biases + [f"the weight between {ends_of(interaction)}" for interaction in graph.interactions]

    def with_machine(self, machine: Machine) -> BoltzmannDistribution:
        """A copy with other parameters of the same shapes."""
        other = self.expand(self.batch_shape)
        other.machine = machine
        return other

    def given(self, known: State) -> BoltzmannDistribution:
        r"""A copy whose ``free_energy(x)`` is that of x together with some layers' states.

        Then ``log_prob(x)`` is $\log p(x, h)$ with the same $\log Z$, the other layers summed out. ``sample`` and all kernels
        draw x and the other layers given them. Mean statistics may stand for states of binary layers, since the energy is
        linear in each.

        Args:
            known: ``{layer: ... x layer shape}``; dimensions in front broadcast with the batch shape, and make the copy's.
        """
        unknown = set(known) - (set(self.machine.graph.layers) - {self.visible})
        if unknown:
            raise ValueError(
                f"given names {sorted(unknown)}; the hidden layers are "
                f"{[layer for layer in self.machine.graph.layers if layer != self.visible]}"
            )
        for layer, x in known.items():
            shape = self.shapes[layer]
            if x.shape[max(x.dim() - len(shape), 0) :] != shape:
                raise ValueError(
                    f"the given state of {layer!r} has shape {tuple(x.shape)}; its last dimensions must be {tuple(shape)}"
                )
        batches = (x.shape[: x.dim() - len(self.shapes[layer])] for layer, x in known.items())
        other = self.expand(torch.broadcast_shapes(self.batch_shape, *batches))
        other.known = {layer: self.whole(x) for layer, x in known.items()}
        return other

    def conditional(self, given: State, visible: str | None = None) -> BoltzmannDistribution:
        r"""The law of the other layers where some are given, $p(x \mid g)$, with a log Z of its own for every row.

        In contrast to ``given``, whose ``log_prob`` is that of x and g together, it is normalised over what is left, so that
        exact sums, annealing, draws and negative phases are those of the conditional.

        Args:
            given: ``{layer: batch_shape x layer shape}``.
            visible: the layer that is the value; by default this distribution's own.

        Raises:
            ValueError: a layer that there is not, states of another shape, or a visible layer that is given.
        """
        layers = self.machine.graph.layers
        visible = self.visible if visible is None else visible
        left = [layer for layer in layers if layer not in given]
        if strange := sorted(set(given) - set(layers)):
            raise ValueError(f"conditional got the layers {strange}; expected some of {list(layers)}")
        if visible not in left:
            raise ValueError(f"visible got {visible!r}; expected one of the layers that are not given, {left}")
        for layer, x in given.items():
            if x.shape[x.dim() - layers[layer].event_dim :] != layers[layer].shape:
                raise ValueError(
                    f"layer {layer!r} got states of shape {tuple(x.shape)}; its last dimensions must be "
                    f"{tuple(layers[layer].shape)}"
                )
        machine, _ = conditional(self.machine, {layer: x.to(self.parameters()[0]) for layer, x in given.items()})
        biases = {layer: machine.shaped(Block(layer), machine.biases[layer]) for layer in left}
        return BoltzmannDistribution(machine.graph, biases, machine.weights, visible, self._validate_args)

    def given_entries(self, x: Tensor, known: Tensor) -> tuple[BoltzmannDistribution, Tensor]:
        r"""The law of the visible bits that are not known, with a log Z of its own for every row, and a constant c.

        $\log \sum e^{-E}$ over unknown bits and hidden layers is c plus that log Z, so that
        $\log p(x_a \mid x_b) = -F(x) - c - \log Z(x_b)$. Of the value known bits are off.

        Args:
            x: visible rows, ``batch_shape x event_shape``; unknown entries may hold any number, but not NaN.
            known: booleans, of the shape of a row or of all rows.

        Raises:
            ValueError: visible units that are not bits, or that have couplings of three layers.
        """
        machine, constant = given_entries(self.machine, self.visible, x.to(self.parameters()[0]), known)
        biases = {layer: machine.shaped(Block(layer), machine.biases[layer]) for layer in machine.graph.layers}
        return BoltzmannDistribution(
            machine.graph, biases, machine.weights, self.visible, self._validate_args
        ), constant

    def unconditional(self) -> BoltzmannDistribution:
        return self.given({}) if self.known else self

    def _copy(self, batch_shape: torch.Size) -> BoltzmannDistribution:
        other = object.__new__(type(self))
        other.machine, other.visible, other.known = self.machine, self.visible, self.known
        other.parameter_batch_shape = parameter_shape = self.parameter_batch_shape
        pairs = zip(reversed(parameter_shape), reversed(batch_shape), strict=False)
        if len(parameter_shape) > len(batch_shape) or any(a not in (1, b) for a, b in pairs):
            raise ValueError(
                f"cannot expand parameters of batch shape {tuple(parameter_shape)} to {tuple(batch_shape)}"
            )
        EnergyDistribution.__init__(other, batch_shape, self.event_shape, validate_args=False)
        other._validate_args = self._validate_args
        return other

    @property
    def shapes(self) -> dict[str, torch.Size]:
        """The event shape of every layer of a joint state."""
        return {layer: unit.shape for layer, unit in self.machine.graph.layers.items()}

    @property
    def layered(self) -> bool:
        return True

    def misfit(self, layer: str, state: Tensor) -> str | None:
        unit = self.machine.graph.layers[layer]
        if reason := super().misfit(layer, state):
            return reason
        if unit.states_per_atom is None or layer in self.known:  # mean statistics may be given
            return None
        wrong = state[
            ~torch.isin(state.to(self.parameters()[0].dtype), unit.atom_states(self.parameters()[0].detach()))
        ]
        return f"holds {float(wrong[0]):g}, which {unit} cannot be" if len(wrong) else None

    @property
    def restricted(self) -> bool:
        """Whether the hidden units are exactly the first colour: independent of each other given the visible ones."""
        first = self.machine.colours[0]
        hidden = self.machine.graph.layers.keys() - {self.visible}
        return not self.known and {b.layer for b in first} == hidden and all(b.atoms is None for b in first)

    def collapsed(self, state: Mapping[str, Tensor]) -> Tensor:
        """The log-probability of a joint state up to log Z, with the first colour and all layers without a state summed out."""
        first = self.machine.colours[0]
        whole = {block.layer for block in first if block.atoms is None}
        if self.machine.graph.layers.keys() - state.keys() - whole:
            return log_sum(self.machine, state)
        return self.machine.collapsed(first, state)

    def around(self, x: Tensor) -> State:
        """A joint state around visible rows: their batch broadcast with the parameters', hidden layers given them."""
        machine = self.machine
        shape = torch.broadcast_shapes(x.shape[: x.dim() - len(self.event_shape)], self.parameter_batch_shape)
        visible = x.expand(*shape, *self.event_shape).to(self.parameters()[0].dtype)
        if self.restricted:
            # The first sweep draws the hidden units from the visible rows alone.
            layers = machine.graph.layers.items()
            zeros = {layer: visible.new_zeros(()).expand(*shape, *unit.shape) for layer, unit in layers}
            return {**zeros, self.visible: visible}
        state = {**machine.neutral_state(shape), self.visible: visible}
        for layer, x in self.known.items():
            state[layer] = x.expand(state[layer].shape)
        fixed = frozenset({self.visible, *self.known})
        for _ in range(SETTLING if len(fixed) < len(machine.graph.layers) else 0):
            state = machine.sweep(state, skip=fixed)
        return state

    def energy(self, state: Mapping[str, Tensor]) -> Tensor:
        """E of a state ``{layer: batch_shape x layer shape}``, in nats (20.3, 20.5)."""
        missing = set(self.machine.graph.layers) - set(state)
        if missing:
            raise ValueError(
                f"the state lacks the layers {sorted(missing)}; it needs {list(self.machine.graph.layers)}"
            )
        return self.machine.energy({name: state[name] for name in self.machine.graph.layers})

    def free_energy(self, x: Tensor) -> Tensor:
        r"""$F(x) = -\log\sum_h e^{-E(x,h)}$, in nats: one colour of hidden units is summed analytically, the others are listed.

        Raises:
            NotEnumerable: the hidden units can be neither summed out nor listed.
        """
        return -log_sum(self.machine, {self.visible: x, **self.known})

    def exact_log_partition(self) -> Tensor:
        return log_sum(self.machine, {})

    @property
    def mean(self) -> Tensor:
        with _or_not_implemented():
            return mean_and_variance(self.machine, self.visible, self.known, self.batch_shape)[0]

    @property
    def variance(self) -> Tensor:
        with _or_not_implemented():
            return mean_and_variance(self.machine, self.visible, self.known, self.batch_shape)[1]

    def entropy(self) -> Tensor:
        with _or_not_implemented():
            log_p = torch.log_softmax(-self.free_energy(self.enumerate_support(expand=False)), 0)
        return -(log_p.exp() * log_p).sum(0).expand(self.batch_shape)

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]
        """Whether the visible states can be listed, so that Pyro can sum over a site (at most $2^{16}$)."""
        return listable(self.machine.graph.layers[self.visible])

    def enumerate_support(self, expand: bool = True) -> Tensor:
        with _or_not_implemented():
            values = listed(self.machine, self.visible)
        batch = self.batch_shape if expand else torch.Size([1] * len(self.batch_shape))
        return values.view(-1, *(1 for _ in batch), *self.event_shape).expand(-1, *batch, *self.event_shape)

    def sample(self, sample_shape: Sequence[int] = (), sweeps: int = 1000) -> Tensor:
        """Draws of the visible layer: exact ones where the states can be listed, else the ends of Gibbs chains.

        Args:
            sample_shape: the shape of the draws.
            sweeps: the length of each chain from a start at the biases; nothing is claimed of its convergence (run
                ``dgm.VectorizedMCMC`` and read R-hat).

        Returns:
            ``sample_shape x batch_shape x event_shape``.
        """
        if self._sampler is not None:
            return self._sampler(torch.Size(sample_shape) + self.batch_shape)
        return self.sample_state(sample_shape, sweeps)[self.visible]

    @out_of_autocast
    def sample_state(self, sample_shape: Sequence[int] = (), sweeps: int = 1000) -> State:
        """Draws of all layers, as ``sample`` makes them: ``{layer: sample_shape x batch_shape x layer shape}``."""
        sweeps = check_count("sweeps", sweeps, 0, "the sweeps of a chain")
        shape = torch.Size(sample_shape) + self.batch_shape
        layers = self.machine.graph.layers.items()
        with torch.no_grad():
            if not self.known and drawable(self.machine):
                drawn = exact_sample(self.machine, shape.numel())
                return {layer: drawn[layer].view(*shape, *unit.shape) for layer, unit in layers}
            state = self.machine.neutral_state(shape)
            for layer, x in self.known.items():
                state[layer] = x.expand(*shape, *self.machine.graph.layers[layer].shape)
            settled = len(self.known) == len(state) - 1 and all(
                b.atoms is None for colour in self.machine.colours for b in colour if b.layer == self.visible
            )
            for _ in progress.steps(range(1 if settled else sweeps), "sweeps"):
                state = self.machine.sweep(state, skip=frozenset(self.known))
        return state


@contextlib.contextmanager
def _or_not_implemented() -> Iterator[None]:
    """A block whose sums, if they cannot be taken, are not implemented, as torch's distributions say it."""
    try:
        yield
    except NotEnumerable as reason:
        raise NotImplementedError(str(reason)) from None
