"""Losses for torch's optimisers, which do not need Pyro's parameter store."""

from __future__ import annotations

from contextlib import ContextDecorator
from typing import Any

from pyro.infer.elbo import ELBOModule
from pyro.poutine.runtime import am_i_wrapped
from torch import Tensor
from torch._C._functorch import peek_interpreter_stack

_inside = 0


class unregistered(ContextDecorator):
    """A block (or function) in which models of this package read their parameters without Pyro's ``param`` statements.

    ``torch.optim`` takes the parameters from the module. The statements, one for every parameter and every run of a
    program, cost some 0.3 ms per step of a belief network with two layers. Under other handlers (those of ``SVI``, which
    looks for the parameters, or ``poutine.lift``) the block changes nothing.
    """

    def _recreate_cm(self) -> unregistered:
        return type(self)()

    def __enter__(self) -> None:
        global _inside
        self._entered = _inside > 0 or not am_i_wrapped()
        _inside += self._entered

    def __exit__(self, *_: Any) -> None:
        global _inside
        _inside -= self._entered


def is_unregistered() -> bool:
    """Whether parameters are read without statements at present: in ``unregistered``, and in a transform of ``torch.func``.

    The store sets ``requires_grad`` of what it keeps, which no transform allows.
    """
    return _inside > 0 or (peek_interpreter_stack() is not None and not am_i_wrapped())


class UnregisteredModule(ELBOModule):
    """A loss as a module whose models do not register their parameters with Pyro."""

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        with unregistered():
            loss: Tensor = super().forward(*args, **kwargs)
        return loss
