"""Models as programs of plain torch, which run where this package is not installed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ..checks import check_count
from ..data.rows import as_rows
from ..extras import need
from ..files import write_atomically
from ..inference.random_state import seeded
from ..models.shared.model import Model
from ..nets.modes import evaluating

LARGEST_GRAPH = 20_000
"""Operations of a graph that is still written: a longer one takes minutes to write and to load."""


def export(model: Model, folder: str | Path, x: Any, rows: int = 64, onnx: bool = False) -> dict[str, str]:
    r"""Write a model's encoder, decoder and sampler as programs of plain torch, with a short script that runs them.

    The folder then holds ``weights.safetensors``; a ``torch.export`` program (``.pt2``) each of ``encode`` (means of hidden units
    or latents given rows), ``reconstruct`` (means of the columns given those), ``decode`` (rows from latents), and of ``sample``
    or ``step``, one step of the chain whose rows are draws; and ``model.py``, which needs torch alone. Each program is run on
    other rows, or from another state of the random generator, before it is written, and must give the model's own numbers.

    Args:
        model: a trained model.
        folder: where to write; it is made if need be.
        x: rows without missing values, as for training.
        rows: the rows that a program takes at once; the script splits what it is given.
        onnx: write ``encode``, ``reconstruct`` and ``decode`` as ``.onnx`` files too.

    Returns:
        for each of the names above that was not written the reason, in words; for ONNX under ``"encode.onnx"`` and so on.

    Raises:
        ValueError: rows that the model does not take, or with missing values; no program could be written; the folder holds
            something else than an export.
        MissingExtra: ``onnx=True`` without the packages that write such files.

    Example:
        >>> import tempfile, torch, pyro_dgm as dgm
        >>> from pathlib import Path
        >>> folder = tempfile.mkdtemp()
        >>> sorted(dgm.export(dgm.VAE(6, latent=2, hidden=(4,)), folder, torch.ones(9, 6)))
        []
        >>> sorted(path.name for path in Path(folder).iterdir())[:3]
        ['decode.pt2', 'encode.pt2', 'model.py']
    """
    if onnx:
        need("onnx=True", "onnx")
    folder, rows = Path(folder), check_count("rows", rows, least=2, what="rows at once")
    _check_folder(folder)
    like = next(model.parameters())
    x = as_rows(x, "x").to(like)
    if bool(x.isnan().any()):
        raise ValueError("x got NaN; expected rows without missing values: programs are traced on complete rows")
    model.check_data(x)
    x = x.repeat(-(-2 * rows // len(x)), *(1,) * (x.dim() - 1))
    refused: dict[str, str] = {}
    written: dict[str, Any] = {}
    with seeded(0), torch.no_grad(), evaluating(model):
        for name, function, first, second in _parts(model, x[:rows], x[rows : 2 * rows]):
            try:
                written[name] = _program(function, first, second)
            except Exception as error:
                refused[name] = _reason(error)
        if not written:
            raise ValueError(f"{type(model).__name__} has no part that can be exported: {'; '.join(refused.values())}")
        walk = model.walk(rows) if "step" in written else None
    for name, program in written.items():
        write_atomically(folder / f"{name}.pt2", partial(torch.export.save, program))
        if onnx and name in ("encode", "reconstruct", "decode"):
            try:
                write_atomically(folder / f"{name}.onnx", partial(_write_onnx, program))
            except Exception as error:
                refused[f"{name}.onnx"] = _reason(error)
    weights = {key: value.contiguous() for key, value in model.state_dict().items() if isinstance(value, Tensor)}
    write_atomically(
        folder / "weights.safetensors", lambda file: file.write(save({k: v.clone() for k, v in weights.items()}))
    )
    if walk is not None:
        write_atomically(folder / "start.pt", lambda file: torch.save(list(walk[0].values()), file))
    script = _script(type(model).__name__, list(written), rows, 0 if walk is None else walk[2], like.dtype)
    write_atomically(folder / "model.py", lambda file: file.write(script.encode()))
    return refused


def note_columns(folder: str | Path, width: int) -> None:
    """Say in an export's script that ``columns.json`` tells the names and types of its rows' columns.

    Args:
        folder: the export.
        width: the number of columns of numbers of a row.
    """
    script = Path(folder) / "model.py"
    first, rest = script.read_text().split('"""\n', 1)
    told = (
        f"Rows have {width} columns of numbers, in the order of columns.json, which has their names and types in the table: a\n"
        "text is one column of zeros and ones for each of its levels. Preprocessing, as standardised, is no part of the programs."
    )
    text = f'{first}\n\n{told}\n"""\n{rest}'
    write_atomically(script, lambda file: file.write(text.encode()))


def _check_folder(folder: Path) -> None:
    """Refuse a folder that holds something else than an export, since files of the same names would be replaced."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    script = folder / "model.py"
    if not script.is_file() or SAYS not in script.read_text(errors="replace").partition("\n")[0]:
        raise ValueError(
            f"{folder} holds something else than an export, which could be overwritten; name another folder"
        )


def _parts(model: Any, first: Tensor, second: Tensor) -> list[tuple[str, Callable[..., Any], Any, Any]]:
    """The functions of a model that can be programs, each with arguments to trace and others to check it with."""
    parts: list[tuple[str, Callable[..., Any], Any, Any]] = []
    rows, abilities = len(first), model.abilities()
    if "hidden_features" in abilities:
        parts.append(("encode", model.hidden_features, (first,), (second,)))
    if "reconstruct" in abilities:
        parts.append(("reconstruct", model.reconstruct, (first,), (second,)))
    if hasattr(model, "decode") and isinstance(getattr(model, "latent", None), int):
        z = torch.randn(2, rows, getattr(model, "inputs", model.latent)).to(first)
        parts.append(("decode", model.decode, (z[0],), (z[1],)))
    walk = model.walk(rows)
    if walk is None:
        parts.append(("sample", lambda: model.sample(rows), (), ()))
        return parts
    start, step, _ = walk
    names = list(start)

    def stepped(*values: Tensor) -> list[Tensor]:
        state = step(dict(zip(names, values, strict=True)))
        return [*(state[name] for name in names), model.joined(state)]

    later = step(step(start))
    parts.append(("step", stepped, tuple(start.values()), tuple(later[name] for name in names)))
    return parts


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


def _program(function: Callable[..., Any], first: Any, second: Any) -> Any:
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
    program = torch.export.export(graph, first)
    found, expected = (_seeded_call(f, second) for f in (program.module(), limited))
    if not all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(found, expected, strict=True)):
        raise ValueError("the graph of its operations in torch does not give its numbers: it branches by values")
    return program


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


def _write_onnx(program: Any, file: Any) -> None:
    """Write a program in ONNX's format."""
    file.write(torch.onnx.export(program, dynamo=True, verbose=False).model_proto.SerializeToString())  # type: ignore[union-attr]


def _reason(error: Exception) -> str:
    """Why something was not written, in a line; what others than this package say is said to be theirs."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text if isinstance(error, ValueError) else f"torch cannot write it as a program ({text})"


SAYS = "a trained model as programs of torch"
"""What the first line of ``model.py`` says."""

SCRIPTS: Mapping[str, str] = {
    "encode": '''
def encode(x):
    """The means of hidden units or latents given rows without missing values."""
    return _in_parts("encode", x)
''',
    "reconstruct": '''
def reconstruct(x):
    """The means of the columns given those of the hidden units or latents, given rows."""
    return _in_parts("reconstruct", x)
''',
    "decode": '''
def decode(z):
    """Means of rows given latents."""
    return _in_parts("decode", z)
''',
    "sample": '''
@torch.no_grad()
def sample(n):
    """Draw n rows; torch.manual_seed makes them repeatable."""
    _check(n)
    return torch.cat([_program("sample")() for _ in range(-(-n // ROWS))])[:n]
''',
    "step": '''
@torch.no_grad()
def sample(n, steps=STEPS):
    """Draw n rows: the last ones of as many chains; torch.manual_seed makes them repeatable."""
    _check(n)
    _check(steps, "steps")
    program, drawn = _program("step"), []
    for _ in range(-(-n // ROWS)):
        *state, rows = [*torch.load(HERE / "start.pt", weights_only=True), None]
        for _ in range(steps):
            *state, rows = program(*state)
        drawn.append(rows)
    return torch.cat(drawn)[:n]
''',
}
"""The functions of ``model.py`` by the program that they run."""


def _script(name: str, written: list[str], rows: int, steps: int, dtype: torch.dtype) -> str:
    """The text of ``model.py``."""
    head = f'''"""{name}: {SAYS}, which is all that this file needs."""

import functools
from pathlib import Path

import torch

HERE = Path(__file__).parent
ROWS = {rows}  # that a program takes at once
STEPS = {steps}  # of a chain
DTYPE = {dtype}  # of the weights


@functools.cache
def _program(name):
    return torch.export.load(HERE / f"{{name}}.pt2").module()


def _check(n, what="rows"):
    if n < 1:
        raise ValueError(f"got {{n}} {{what}}; expected at least one")


@torch.no_grad()
def _in_parts(name, x):
    x = torch.as_tensor(x, dtype=DTYPE)
    _check(len(x))
    filled = torch.cat([x, x[:1].expand(-len(x) % ROWS, *x.shape[1:])])
    return torch.cat([_program(name)(part) for part in filled.split(ROWS)])[: len(x)]

'''
    if not steps:
        head = re.sub(r"STEPS.*\n", "", head)
    if not set(written) & {"encode", "reconstruct", "decode"}:
        head = head[: head.index("@torch.no_grad()")].replace(f"DTYPE = {dtype}  # of the weights\n", "")
    last = (
        """

if __name__ == "__main__":
    print(sample(4))
"""
        if set(written) & {"sample", "step"}
        else ""
    )
    return head + "\n".join(SCRIPTS[part] for part in written) + last
