"""HTML from texts, tables and pictures; every text is escaped."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; margin: .5rem 0; display: block; overflow-x: auto; }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; vertical-align: top; }
th { font-weight: 600; } thead th { border-bottom: 1px solid #bbb; } td.number { font-variant-numeric: tabular-nums; }
img { max-width: 100%; height: auto; } figure { margin: .5rem 0; } figcaption, .note { color: #666; }
pre { background: #f6f6f6; padding: .6rem; overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere; }
.warning { border-left: 3px solid #c60; padding-left: .6rem; }
"""


def note(text: str, warning: bool = False) -> str:
    """A paragraph beside the matter, or a warning.

    >>> note("a < b")
    '<p class="note">a &lt; b</p>'
    """
    return f'<p class="{"warning" if warning else "note"}">{escape(text)}</p>'


def code(text: str) -> str:
    """Text as it is typed.

    >>> code("x = 1")
    '<pre>x = 1</pre>'
    """
    return f"<pre>{escape(text)}</pre>"


def facts(entries: Mapping[str, Any]) -> str:
    """Names and what they are, one pair a line.

    >>> facts({"rows": 300})
    '<table><tr><th>rows</th><td>300</td></tr></table>'
    """
    lines = (f"<tr><th>{escape(name)}</th><td>{escape(_shown(value))}</td></tr>" for name, value in entries.items())
    return f"<table>{''.join(lines)}</table>"


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table; numbers are shown with four digits.

    >>> table(["of", "value"], [["rows", 0.123456]])
    '<table><thead><tr><th>of</th><th>value</th></tr></thead><tr><td>rows</td><td class="number">0.1235</td></tr></table>'
    """
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = "".join(f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead>{lines}</table>"


def _cell(value: Any) -> str:
    number = ' class="number"' if isinstance(value, int | float) else ""
    return f"<td{number}>{escape(_shown(value))}</td>"


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def picture(figure: Figure, caption: str) -> str:
    """A figure of matplotlib as a PNG within the page."""
    held = io.BytesIO()
    figure.savefig(held, format="png", dpi="figure")
    return image(held.getvalue(), caption)


def image(png: bytes, caption: str) -> str:
    """The bytes of a PNG within the page, with a line below it."""
    said = escape(caption)
    return f'<figure><img src="{source_of(png)}" alt="{said}"><figcaption>{said}</figcaption></figure>'


def source_of(png: bytes) -> str:
    """The address under which a page holds the bytes of a PNG."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


class Page:
    """A page that is made section by section.

    Args:
        title: the title, which stands on top too.
        script: a program of JavaScript at the end of the page.
        style: rules of style beside those of all pages.

    Example:
        >>> page = Page("Digits")
        >>> page.section("Data", note("300 rows"))
        >>> page.html().count("<h2>")
        1
    """

    def __init__(self, title: str, script: str = "", style: str = "") -> None:
        self.title, self.script, self.style = title, script, style
        self._parts: list[str] = []

    def section(self, heading: str, *parts: str) -> None:
        """Add a section of parts that are HTML already; an empty heading is left out."""
        self._parts += [f"<h2>{escape(heading)}</h2>"] * bool(heading) + [*parts]

    def html(self) -> str:
        """The whole page."""
        script = f"<script>{self.script}</script>" if self.script else ""
        policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(self.title)}</title><style>{STYLE}{self.style}</style></head>\n"
            f"<body><h1>{escape(self.title)}</h1>\n" + "\n".join(self._parts) + f"\n{script}</body></html>\n"
        )
