"""Models as programs of plain torch, which run where this package is not installed."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from ..checks import check_count
from ..data.rows import as_rows
from ..extras import need
from ..files import write_atomically
from ..inference.random_state import seeded
from ..models.shared.model import Model
from ..nets.modes import evaluating
from .export_script import SAYS, script
from .programs import parts, program, write_onnx


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
        for name, function, first, second in parts(model, x[:rows], x[rows : 2 * rows]):
            try:
                written[name] = program(function, first, second)
            except Exception as error:
                refused[name] = _reason(error)
        if not written:
            raise ValueError(f"{type(model).__name__} has no part that can be exported: {'; '.join(refused.values())}")
        walk = model.walk(rows) if "step" in written else None
    for name, made in written.items():
        write_atomically(folder / f"{name}.pt2", partial(torch.export.save, made))
        if onnx and name in ("encode", "reconstruct", "decode"):
            try:
                write_atomically(folder / f"{name}.onnx", partial(write_onnx, made))
            except Exception as error:
                refused[f"{name}.onnx"] = _reason(error)
    weights = {key: value.contiguous() for key, value in model.state_dict().items() if isinstance(value, Tensor)}
    write_atomically(
        folder / "weights.safetensors", lambda file: file.write(save({k: v.clone() for k, v in weights.items()}))
    )
    if walk is not None:
        write_atomically(folder / "start.pt", lambda file: torch.save(list(walk[0].values()), file))
    text = script(type(model).__name__, list(written), rows, 0 if walk is None else walk[2], like.dtype)
    write_atomically(folder / "model.py", lambda file: file.write(text.encode()))
    return refused


def _check_folder(folder: Path) -> None:
    """Refuse a folder that holds something else than an export, since files of the same names would be replaced."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    written = folder / "model.py"
    if not written.is_file() or SAYS not in written.read_text(errors="replace").partition("\n")[0]:
        raise ValueError(
            f"{folder} holds something else than an export, which could be overwritten; name another folder"
        )


def _reason(error: Exception) -> str:
    """Why something was not written, in a line; what others than this package say is said to be theirs."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text if isinstance(error, ValueError) else f"torch cannot write it as a program ({text})"
