"""Networks that a user gives in place of a model's own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ...inference.random_state import untouched
from ...nets.modes import evaluating
from .model import Model


def network(
    model: Model, name: str, given: nn.Module | None, make: Callable[[], nn.Module], inputs: int, outputs: int
) -> nn.Module:
    """The network that was given for an argument of a model, or the model's own.

    The model takes note of a given one in ``own_networks``, since a run on disk cannot rebuild it.

    Args:
        model: the model.
        name: the name of the argument.
        given: the user's network, ``batch_shape x inputs`` to ``batch_shape x outputs``, or None.
        make: makes the model's own.
        inputs: the number of its inputs.
        outputs: the number of its outputs.

    Raises:
        ValueError: no module, one without parameters, or one that does not map such rows.
    """
    if given is None:
        return make()
    if not isinstance(given, nn.Module) or next(given.parameters(), None) is None:
        raise ValueError(f"{name} got {given!r}; expected a torch.nn.Module with parameters")
    like = next(given.parameters())
    with torch.no_grad(), untouched(), evaluating(given):
        try:
            result = given(like.new_zeros(2, inputs))
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise ValueError(
                f"{name} got {type(given).__name__}, which does not take rows of {inputs} columns ({str(error).splitlines()[0]})"
            ) from error
    if not isinstance(result, Tensor) or result.shape != (2, outputs):
        shape = f"shape {tuple(result.shape)}" if isinstance(result, Tensor) else f"a {type(result).__name__}"
        raise ValueError(
            f"{name} got {type(given).__name__}, which makes {shape} of 2 rows of {inputs} columns; expected (2, {outputs})"
        )
    model.own_networks[name] = type(given).__name__
    return given
