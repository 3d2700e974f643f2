"""Parts of models as programs of torch, each checked against the model itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ..inference.random_state import seeded


def parts(model: Any, first: Tensor, second: Tensor) -> list[tuple[str, Callable[..., Any], Any, Any]]:
    """The functions of a model that can be programs, each with arguments to trace and others to check it with."""
    found: list[tuple[str, Callable[..., Any], Any, Any]] = []
    rows, abilities = len(first), model.abilities()
    if "hidden_features" in abilities:
        found.append(("encode", model.hidden_features, (first,), (second,)))
    if "reconstruct" in abilities:
        found.append(("reconstruct", model.reconstruct, (first,), (second,)))
    if (width := width_of_codes(model)) is not None:
        z = torch.randn(2, rows, width).to(first)
        found.append(("decode", model.decode, (z[0],), (z[1],)))
    walk = model.walk(rows)
    if walk is None:
        found.append(("sample", lambda: model.sample(rows), (), ()))
        return found
    start, step, _ = walk
    names = list(start)

    def stepped(*values: Tensor) -> list[Tensor]:
        state = step(dict(zip(names, values, strict=True)))
        return [*(state[name] for name in names), model.joined(state)]

    later = step(step(start))
    found.append(("step", stepped, tuple(start.values()), tuple(later[name] for name in names)))
    return found


def width_of_codes(model: Any) -> int | None:
    """The number of columns that ``decode`` of a model with one vector of latents takes, labels among them; None without."""
    if not hasattr(model, "decode") or not isinstance(getattr(model, "latent", None), int):
        return None
    return int(getattr(model, "inputs", model.latent))


class _Limit(TorchDispatchMode):
    """A block of no more operations than ``LARGEST_GRAPH``."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        if self.count > LARGEST_GRAPH:
            raise ValueError(f"its graph has more than {LARGEST_GRAPH} operations")
        return function(*args, **(kwargs or {}))


def program(function: Callable[..., Any], first: Any, second: Any) -> Any:
    """A function as a program of torch, which is checked to give the function's numbers for the second arguments.

    Under a mode of dispatch the function draws by torch's own operations, as the program does, and not by compiled loops, whose
    draws have the same law from other random numbers.

    Raises:
        ValueError: it does not, the graph is too long, or tensors in it change their sizes.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    def limited(*given: Tensor) -> Any:
        with _Limit():  # a thousand sweeps would take minutes to trace, and be refused then
            return function(*given)

    graph = make_fx(limited, _error_on_data_dependent_ops=False)(*first)
    for node in reversed(list(graph.graph.nodes)):  # checks of rows leave comparisons behind that nothing uses
        writes = getattr(getattr(node.target, "_schema", None), "is_mutable", False)
        if node.op in ("call_function", "get_attr") and not node.users and not writes:
            graph.graph.erase_node(node)
    used = {node.target for node in graph.graph.nodes if node.op == "get_attr"}
    for name, kept in [*graph.named_parameters(remove_duplicate=False), *graph.named_buffers(remove_duplicate=False)]:
        if name not in used:  # it would be written all the same
            delattr(graph, name)
            continue
        # Without what Pyro keeps at parameters, which older versions of torch cannot save.
        plain = kept.detach().clone()
        parameter = isinstance(kept, torch.nn.Parameter)
        setattr(graph, name, torch.nn.Parameter(plain, requires_grad=False) if parameter else plain)
    graph.recompile()
    _check_sizes(graph.graph)
    made = torch.export.export(graph, first)
    found, expected = (_seeded_call(f, second) for f in (made.module(), limited))
    if not all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(found, expected, strict=True)):
        raise ValueError("the graph of its operations in torch does not give its numbers: it branches by values")
    return made


def _check_sizes(graph: Any) -> None:
    """Refuse tensors of as many rows as entries were drawn or given: the program would stop where it finds another number."""
    changing: set[Any] = set()
    for node in graph.nodes:
        tags = getattr(node.target, "tags", ())
        drawn = torch.Tag.nondeterministic_seeded in tags
        if node.op == "placeholder" or drawn or not changing.isdisjoint(node.all_input_nodes):
            changing.add(node)
            if torch.Tag.dynamic_output_shape in tags:
                raise ValueError("the sizes of its tensors change with the numbers that are drawn or given")


def _seeded_call(function: Callable[..., Any], arguments: Any) -> list[Tensor]:
    with seeded(1):
        found = function(*arguments)
    return [found] if isinstance(found, Tensor) else list(found)


def write_onnx(program: Any, file: Any) -> None:
    """Write a program in ONNX's format."""
    file.write(torch.onnx.export(program, dynamo=True, verbose=False).model_proto.SerializeToString())  # type: ignore[union-attr]


LARGEST_GRAPH = 20_000
"""Operations of a graph that is still written: a longer one takes minutes to write and to load."""
