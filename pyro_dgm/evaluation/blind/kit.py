"""A page on which real and generated rows are judged, and its key."""

from __future__ import annotations

import hashlib
import io
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
import torch

from ...checks import check_count, check_seed
from ...extras import need
from ...models.shared.model import Model
from ..pages import Page, note
from ..pages.html import source_of
from ..pictures.canvas import Shape, as_pictures
from ..samples.rows import check_same_width, rows_of

STYLE = """
#items { display: flex; flex-wrap: wrap; gap: .8rem; } fieldset { border: 1px solid #ccc; padding: .5rem; text-align: center; }
fieldset img { width: 8rem; image-rendering: pixelated; display: block; margin: 0 auto .4rem; }
label { margin: 0 .3rem; white-space: nowrap; }
textarea { width: 100%; height: 6rem; } #bar { position: sticky; top: 0; background: #fff; padding: .5rem 0; }
"""

ASKED = (
    "Some of these pictures are real, and some were made by a model; which, was drawn by lot for every picture apart. Say for "
    "each which you take it for. Then save your answers: they stay on this machine until you send the file."
)


class BlindTest(NamedTuple):
    """A page for judges, and what it hides.

    Attributes:
        page: HTML without any file beside it.
        key: the name of the kit, and for every picture whether it is real, as JSON holds them.
    """

    page: str
    key: dict[str, Any]


def blind_test(samples: Any, data: Any, shape: Shape, n: int = 40, seed: int = 0) -> BlindTest:
    """A page with pictures of which each is, by a fair coin, a row of data or a sample, in random order.

    The page does not tell which, and pictures of both are made alike. Coins rather than halves let no judge gain by counting:
    whoever cannot tell samples from data is right in a binomial number of cases, whatever he says.

    Args:
        samples: a model, or rows in [0, 1].
        data: rows in [0, 1] that the model was not trained on.
        shape: the shape of one picture, (height, width) or with 1 or 3 channels.
        n: the number of pictures.
        seed: the seed of the coins, of the choice of rows and of the order.

    Raises:
        ValueError: rows outside [0, 1], of other widths or shapes, or too few.

    Example:
        >>> test = blind_test(torch.rand(20, 4), torch.rand(20, 4), (2, 2), n=10)
        >>> test.page.count("<fieldset"), len(test.key["real"])
        (10, 10)
    """
    need("blind_test", "pictures")
    count = check_count("n", n)
    generator = torch.Generator().manual_seed(check_seed(seed))
    real = rows_of(data, "data", None)
    made = rows_of(samples, "samples", count if isinstance(samples, Model) else None)
    check_same_width(samples=made, data=real)
    coins = torch.rand(count, generator=generator) < 0.5
    rows = made.new_empty(count, made.shape[1])
    for name, chosen, source in (("data", coins, real), ("samples", ~coins, made)):
        if len(source) < int(chosen.sum()):
            raise ValueError(
                f"{name} has {len(source)} rows; expected at least {int(chosen.sum())} for {count} pictures"
            )
        order = torch.randperm(len(source), generator=generator)[: int(chosen.sum())]
        rows[chosen] = source[order].to(rows)
    images = [_png(picture) for picture in as_pictures("rows", rows, shape)]
    kit = hashlib.sha256(b"".join(images)).hexdigest()[:12]
    script = files(__package__).joinpath("judging.js").read_text(encoding="utf-8")
    page = Page("Real or generated?", script, STYLE)
    controls = (
        '<p id="bar"><label>Your name <input id="judge"></label> <span id="done"></span> '
        f'<button id="save">Save the answers</button> <span class="note">kit <span id="kit">{kit}</span></span></p>'
    )
    items = "".join(_item(number, image) for number, image in enumerate(images))
    copied = '<p class="note">The saved answers:</p><textarea id="copy" readonly></textarea>'
    page.section("", note(ASKED), controls, f'<div id="items">{items}</div>', copied)
    return BlindTest(page.html(), {"kit": kit, "real": coins.tolist()})


def _item(number: int, image: bytes) -> str:
    """A picture with its two answers."""
    radios = "".join(
        f'<label><input type="radio" name="item{number}" value="{value}"> {value}</label>'
        for value in ("real", "generated")
    )
    picture = f'<img src="{source_of(image)}" alt="picture {number + 1}">'
    return f'<fieldset data-number="{number}"><legend>{number + 1}</legend>{picture}{radios}</fieldset>'


def _png(picture: np.ndarray) -> bytes:
    """A picture in [0, 1] of 256 levels."""
    from PIL import Image

    held = io.BytesIO()
    Image.fromarray((255 * picture).round().astype(np.uint8)).save(held, format="png")
    return held.getvalue()
