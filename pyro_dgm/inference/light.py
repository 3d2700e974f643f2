"""Runs of programs whose sites all lie in one plate of rows, by one handler in place of Pyro's plate, replay and trace."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import pyro
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.infer.util import is_validation_enabled
from pyro.poutine.block_messenger import BlockMessenger
from pyro.poutine.indep_messenger import CondIndepStackFrame
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import _PYRO_STACK
from pyro.poutine.trace_messenger import TraceMessenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn

from ..columns import has_missing
from ..energy.support import in_support
from .random_state import RandomState
from .sites import FAILURES, PARTICLES

_DATA = "data"
"""The name of the plate of rows."""

Part = TypeVar("Part")

_current: LightTrace | None = None
_rows_are_checked = _rows_are_complete = False
_opened = 0
"""The number of times that a program opened its plate of rows by Pyro's."""


class NotPlain(Exception):
    """A program needs Pyro's own handlers: it has other plates, sites outside of the rows', or sites with instructions."""


class LightTrace(Messenger):
    """The sites of a program, as ``poutine.trace`` records them, with values from an earlier run where one is given.

    It takes sites in a plate of ``rows_plate`` alone, and refuses all else.

    Args:
        particles: the size and the dimension of a plate around the rows', or None for no such plate.
        replayed: the sites from which latent ones take their values.
        constants: whether draws are detached.

    Attributes:
        nodes: the sites by name, in order.
        parts: what ``shared`` computed, by name, beside what it was computed of.
    """

    def __init__(
        self, particles: tuple[int, int] | None, replayed: dict[str, Any] | None = None, constants: bool = False
    ) -> None:
        super().__init__()
        self.nodes: dict[str, Any] = {}
        self.parts: dict[Any, tuple[tuple[Tensor, ...], Any]] = {}
        self.frames: tuple[CondIndepStackFrame, ...] = ()
        self._particles, self._replayed, self._constants = particles, replayed, constants
        self._shape: torch.Size | None = None

    def run(self, program: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Run a program.

        Raises:
            NotPlain: the program needs Pyro's own handlers.
        """
        global _current
        before, _current = _current, self
        try:
            with self:
                program(*args, **kwargs)
        finally:
            _current = before

    @contextmanager
    def rows(self, number: int) -> Iterator[None]:
        """The plate of so many rows."""
        frames: tuple[CondIndepStackFrame, ...] = (CondIndepStackFrame(_DATA, -1, number, 0, number),)
        shape = [number]
        if self._particles is not None:
            size, dim = self._particles
            frames = (CondIndepStackFrame(PARTICLES, dim, size, 0, size), *frames)
            shape = [size, *[1] * (-dim - 2), number]
        if self._shape is not None or number == 0 or (self.frames and self.frames != frames):
            raise NotPlain
        self.frames, self._shape = frames, torch.Size(shape)
        yield
        self._shape = None

    def _pyro_sample(self, msg: Any) -> None:
        fn, name = msg["fn"], msg["name"]
        plain = self._shape is not None and not msg["infer"] and not msg["cond_indep_stack"] and name not in self.nodes
        if not plain or not isinstance(fn, TorchDistributionMixin):
            raise NotPlain
        msg["cond_indep_stack"] = self.frames
        if fn.batch_shape != self._shape:
            msg["fn"] = _expanded(fn, self._shape)
        if self._replayed is not None and not msg["is_observed"]:
            if name not in self._replayed:
                raise NotPlain
            msg["value"], msg["done"] = self._replayed[name]["value"], True

    def _pyro_post_sample(self, msg: Any) -> None:
        value, shape = msg["value"], msg["fn"].shape()
        if value.shape != shape and value.shape != shape[len(self._shape or ()) - 1 :]:
            raise NotPlain
        if self._constants and not msg["is_observed"]:
            msg["value"] = value.detach()
        self.nodes[msg["name"]] = msg.copy()


def _expanded(fn: Any, shape: Any) -> Any:
    """A distribution with the batch shape of the plates.

    Raises:
        NotPlain: its own does not broadcast to it.
    """
    own = fn.batch_shape
    if len(own) > len(shape) or any(a not in (1, b) for a, b in zip(reversed(own), reversed(shape), strict=False)):
        raise NotPlain
    wide = fn.expand(shape)
    if wide.has_rsample != fn.has_rsample:
        wide.has_rsample = fn.has_rsample  # as Pyro's plates copy it
    return wide


def rows_plate(number: int) -> AbstractContextManager[Any]:
    """The data plate of so many rows: Pyro's, or in a light run a simple one."""
    global _opened
    if _current is None:
        _opened += 1
        return pyro.plate(_DATA, number)
    inside = _PYRO_STACK[_PYRO_STACK.index(_current) + 1 :]
    if any(isinstance(handler, TraceMessenger | BlockMessenger) for handler in inside):
        return pyro.plate(_DATA, number)
    return _current.rows(number)


class Watched(Messenger):
    """Around programs that Pyro's handlers run: notes whether light runs would take the sites.

    Attributes:
        plain: whether there were sites, all of them in a plate of ``rows_plate``, reparameterised and without instructions.
    """

    def __init__(self) -> None:
        super().__init__()
        self._opened, self._all_plain = _opened, True
        self._names: set[str] = set()

    @property
    def plain(self) -> bool:
        return self._all_plain and _opened > self._opened

    def _pyro_post_sample(self, msg: Any) -> None:
        if not site_is_subsample(msg):
            alone = [frame.name for frame in msg["cond_indep_stack"]] == [_DATA]
            drawn = not msg["is_observed"] and msg["name"] not in self._names  # else replayed
            self._all_plain &= alone and not msg["infer"] and (msg["fn"].has_rsample or not drawn)
            self._names.add(msg["name"])


def shared(name: Any, inputs: tuple[Tensor, ...], compute: Callable[[], Part]) -> Part:
    """What guide and model both compute of the same tensors, without draws: once in a pair of light runs, else every time.

    A recurrent state that depends on latents is one. The gradient is that of two computations: one node of the graph has
    both their uses.

    Args:
        name: of this part in the model's programs, the number of the frame included.
        inputs: all tensors that it depends on, but for parameters; they are told apart as objects.
        compute: the function that computes it.

    Example:
        >>> import torch
        >>> shared("double", (x := torch.ones(2),), lambda: 2 * x)
        tensor([2., 2.])
    """
    if _current is None:
        return compute()
    known = _current.parts.get(name)
    if known is None or len(known[0]) != len(inputs) or any(a is not b for a, b in zip(known[0], inputs, strict=True)):
        known = _current.parts[name] = (inputs, compute())
    found: Part = known[1]
    return found


def share_all(
    names: Sequence[Any], inputs: Sequence[tuple[Tensor, ...]], compute: Callable[[], Iterable[Part]]
) -> None:
    """Compute several parts at once that ``shared`` will find in the other program; nothing outside of light runs.

    A network that the model applies frame by frame takes all frames of the guide's states in one product.

    Args:
        names: of the parts, as the other program calls them.
        inputs: the tensors of each, as for ``shared``.
        compute: the function that computes all of them.
    """
    if _current is not None:
        _current.parts |= dict(zip(names, zip(inputs, compute(), strict=True), strict=True))


@contextmanager
def checked_rows(complete: bool = False) -> Iterator[None]:
    """A block whose rows of data were checked before, so that not every step needs to.

    Args:
        complete: whether none of them has missing values.
    """
    global _rows_are_checked, _rows_are_complete
    before = _rows_are_checked, _rows_are_complete
    _rows_are_checked, _rows_are_complete = True, complete
    try:
        yield
    finally:
        _rows_are_checked, _rows_are_complete = before


def rows_are_checked() -> bool:
    """Whether this is a block of ``checked_rows``."""
    return _rows_are_checked


def some_missing(x: Tensor) -> bool:
    """Whether rows have missing values (NaN); in a block of ``checked_rows`` that are complete nobody looks.

    Example:
        >>> import torch
        >>> some_missing(torch.tensor([1.0, torch.nan]))
        True
    """
    return not _rows_are_complete and has_missing(x)


def runs_alone() -> bool:
    """Whether no handler is around that would see the sites of a light run; those that look for parameters do not."""
    return all(isinstance(handler, TraceMessenger) and handler.param_only for handler in _PYRO_STACK)


class LightRuns:
    """Light runs of a model and its guide, step after step.

    The first one validates the distributions' parameters, with ``validates`` every one. Observed values are validated every
    time, since each batch has new ones, except in ``checked_rows``. Programs that are not plain at the first step are left to
    Pyro's handlers for good.
    """

    def __init__(self, validates: bool = False) -> None:
        self._validates, self._tried, self._plain = validates, False, False
        self._before: RandomState | None = None

    def traces(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        particles: tuple[int, int] | None = None,
        constants: bool = False,
        accept: Callable[[LightTrace, LightTrace], bool] = lambda model, guide: True,
    ) -> tuple[LightTrace, LightTrace] | None:
        """The sites of the model, its latents at the guide's draws, and of the guide.

        None, with everything as it was before, where the programs need Pyro's own handlers, or ``accept`` is false of their
        sites: because they do not fit one another or fail, too.
        """
        if not runs_alone() or (self._tried and not self._plain):
            return None
        first, checks = not self._tried, is_validation_enabled()
        self._tried, self._before = True, RandomState()
        programs = [program for program in (model, guide) if isinstance(program, nn.Module)]
        buffers = [(buffer, buffer.clone()) for p in programs for buffer in p.buffers()] if first else []
        try:
            with pyro.validation_enabled(checks and (first or self._validates)):
                pair = _light_traces(model, guide, args, kwargs, particles, constants)
            if not accept(*pair):
                raise NotPlain
            if checks and not self._validates and (first or not _rows_are_checked):
                _check_observed(pair[0])
        except (NotPlain, *FAILURES):
            with torch.no_grad():
                for buffer, value in buffers:
                    buffer.copy_(value)
            self.undo()
            return None
        self._plain = True
        return pair

    def undo(self) -> None:
        """Set the random state back to that before the last runs, so that Pyro's handlers see the same draws."""
        if self._before is not None:
            self._before.restore()


def _light_traces(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    particles: tuple[int, int] | None,
    constants: bool,
) -> tuple[LightTrace, LightTrace]:
    of_guide = LightTrace(particles, constants=constants)
    of_guide.run(guide, args, kwargs)
    of_model = LightTrace(particles, of_guide.nodes)
    of_model.parts = of_guide.parts
    of_model.run(model, args, kwargs)
    latents = {name for name, site in of_model.nodes.items() if not site["is_observed"]}
    if any(site["is_observed"] for site in of_guide.nodes.values()):
        raise NotPlain
    if of_guide.frames not in ((), of_model.frames) or of_guide.nodes.keys() != latents:
        raise NotPlain
    return of_model, of_guide


def _check_observed(trace: LightTrace) -> None:
    for site in trace.nodes.values():
        try:
            support = site["fn"].support
        except (NotImplementedError, AttributeError):
            continue
        if site["is_observed"] and not in_support(support, site["value"]):
            raise NotPlain
