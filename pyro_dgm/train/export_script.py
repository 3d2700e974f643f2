"""The script of an export, which needs torch alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch

from ..files import write_atomically

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


def script(name: str, written: list[str], rows: int, steps: int, dtype: torch.dtype) -> str:
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


def note_columns(folder: str | Path, width: int) -> None:
    """Say in an export's script that ``columns.json`` tells the names and types of its rows' columns.

    Args:
        folder: the export.
        width: the number of columns of numbers of a row.
    """
    file = Path(folder) / "model.py"
    first, rest = file.read_text().split('"""\n', 1)
    told = (
        f"Rows have {width} columns of numbers, in the order of columns.json, which has their names and types in the table: a\n"
        "text is one column of zeros and ones for each of its levels. Preprocessing, as standardised, is no part of the programs."
    )
    text = f'{first}\n\n{told}\n"""\n{rest}'
    write_atomically(file, lambda opened: opened.write(text.encode()))
