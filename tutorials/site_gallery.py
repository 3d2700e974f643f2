"""The gallery: a card for every model of a folder of the chapter, from its docstring and the pictures of the notebooks."""

from __future__ import annotations

import base64
import inspect
import json
import os
import re
from doctest import DocTestParser
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

import pyro_dgm
from pyro_dgm.registry import model_classes

LINE = re.compile(r"(?P<name>\w+)(?:: (?P<notebook>[\w-]+) (?P<index>\d+))?(?: \$(?P<formula>.+)\$)?")
"""A line of the directive: a model, the notebook and number of its picture, and a formula in place of the docstring's first."""

FORMULA = re.compile(r"``.+?``|\$([^$]*(?:=|\\sim|\\propto)[^$]*)\$", re.DOTALL)


class Gallery(SphinxDirective):
    """Cards of the models in a folder of ``pyro_dgm.models``, those that the content names first and in that order."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        stated = {match["name"]: match for match in map(LINE.fullmatch, self.content) if match}
        folder = [name for name, module in model_classes().items() if module.split(".")[1] == self.arguments[0]]
        if strange := [line for line in self.content if not LINE.fullmatch(line)] + sorted(set(stated) - set(folder)):
            raise self.error(f"gallery of {self.arguments[0]} got {strange[0]!r}; expected one of {', '.join(folder)}")
        gallery = nodes.container(classes=["gallery"])
        for name in [*stated, *(name for name in folder if name not in stated)]:
            card = nodes.container(classes=["card"])
            self.state.nested_parse(StringList(self.card(name, stated.get(name)), "gallery"), 0, card)
            gallery += card
        return [gallery]

    def card(self, name: str, stated: re.Match[str] | None) -> list[str]:
        """The lines of a card: name and summary, the equation, a picture and lines of code."""
        text = inspect.getdoc(getattr(pyro_dgm, name)) or ""
        summary = " ".join(text.split("\n\n")[0].split())
        lines = [f"**{{py:class}}`{name} <pyro_dgm.{name}>`** {summary}", ""]
        found = [match[1] for match in FORMULA.finditer(text.partition("\n\n")[2]) if match[1]]
        formula = (stated and stated["formula"]) or next(iter(found), None)
        if formula:
            lines += ["$$", " ".join(formula.split()), "$$", ""]
        if stated and stated["notebook"]:
            picture = os.path.relpath(self.picture(stated["notebook"], int(stated["index"])), self.env.srcdir)
            lines += [f"![{name}, from the notebook]({picture})", ""]
        return [*lines, "```python", *first_lines(text), "```", *source(stated)]

    def picture(self, notebook: str, index: int) -> Path:
        """A picture of a notebook's outputs as a file of the build."""
        cells = json.loads((Path(self.env.srcdir) / f"{notebook}.ipynb").read_text(encoding="utf-8"))["cells"]
        outputs = [output.get("data", {}) for cell in cells for output in cell.get("outputs", ())]
        pictures = ["".join(data["image/png"]) for data in outputs if "image/png" in data]
        path = Path(self.env.doctreedir) / "cards" / f"{notebook}-{index}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(base64.b64decode(pictures[index]))
        return path


def first_lines(text: str) -> list[str]:
    """The first three statements of a docstring's example, imports aside."""
    sources = [example.source.rstrip() for example in DocTestParser().get_examples(text)]
    statements = [statement for statement in sources if not statement.startswith("import ")][:3]
    return "\n".join(statements).split("\n")


def source(stated: re.Match[str] | None) -> list[str]:
    """A link to the notebook that a picture is from."""
    return ["", f"[Notebook]({stated['notebook']}.ipynb)"] if stated and stated["notebook"] else []


PAPER = re.compile(
    r"((?:[A-Z][\w-]+(?:, (?=[A-Z][\w-]+(?:,| and))| and (?=[A-Z])| et al\.)?\s?)+)\(?((?:19|20)\d\d)\b(?:, ((?:19|20)\d\d)\b)?"
)
"""Names and years: Kingma and Welling 2014, Rezende et al. 2014, Memisevic and Hinton 2007, 2010."""


class Papers(SphinxDirective):
    """A table of the papers that the docstrings of all models name."""

    def run(self) -> list[nodes.Node]:
        lines = ["| model | papers |", "|---|---|"]
        for name in model_classes():
            text = " ".join((inspect.getdoc(getattr(pyro_dgm, name)) or "").split())
            found = [f"{names.strip()} {', '.join(filter(None, years))}" for names, *years in PAPER.findall(text)]
            if found:
                lines.append(f"| {{py:class}}`{name} <pyro_dgm.{name}>` | {'; '.join(dict.fromkeys(found))} |")
        table = nodes.container()
        self.state.nested_parse(StringList(lines, "papers"), 0, table)
        return table.children


def setup(app: Any) -> dict[str, Any]:
    app.add_directive("papers", Papers)
    app.add_directive("gallery", Gallery)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
