"""The parts of the site that are made from the package: the reference by room, the results, mathematics in docstrings.

Mathematics becomes MathML, which browsers show without a script and without the network; an expression that docutils cannot
convert is a warning, and so an error of a build with ``-W``.
"""

from __future__ import annotations

import argparse
import importlib
import re
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx import addnodes
from sphinx.util import logging

import pyro_dgm
from pyro_dgm.cli.arguments import parser
from pyro_dgm.data import sources
from pyro_dgm.models import shared

LOG = logging.getLogger(__name__)

MARKS = re.compile(r"``.+?``|^\s*>>>.*?(?=^\s*$)|( *)\$\$(.+?)\$\$[ \n]*|\$([^$]+)\$", re.MULTILINE | re.DOTALL)
"""Literals and doctests, which stay as they are, and mathematics between dollars."""


def with_roles(text: str) -> str:
    """A docstring in which ``$...$`` is the role of mathematics and ``$$...$$`` the directive."""

    def marked(match: re.Match[str]) -> str:
        indent, display, inline = match.groups()
        if display is not None:
            return f"\n{indent}.. math:: {' '.join(display.split())}\n\n{indent}"
        if inline is None:
            return match[0]
        before, after = text[match.start() - 1 : match.start()], text[match.end() : match.end() + 1]
        role = f":math:`{' '.join(inline.split())}`"
        return "\\ " * before.isalnum() + role + "\\ " * after.isalnum()

    return MARKS.sub(marked, text + "\n\n").rstrip()


def process_docstring(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = [*with_roles("\n".join(lines)).split("\n"), ""]


OTHER_SPELLINGS = (
    (re.compile(r"\\tag\{(.+?)\}"), r"\\qquad\\text{(\1)}"),
    (re.compile(r"\\(begin|end)\{align\*?\}"), r"\\\1{aligned}"),
    (re.compile(r"\\dots\b"), r"\\ldots"),
    (re.compile(r"\\([bB]igg?)(?=\s*(?:[(\[]|\\\{|\\l))"), r"\\\1l"),
    (re.compile(r"\\([bB]igg?)(?=[^a-zA-Z])"), r"\\\1r"),
    (re.compile(r"\\([td]?frac)(\d)(\d)"), r"\\\1{\2}{\3}"),
)
"""Spellings of LaTeX that docutils lacks, and those that it has."""


FIELD_OF_NAMES = re.compile(r"^:(?:param|ivar) [^:,]+, [^:]+:")


def join_names(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Keep the names of a field that is of several, as in ``x, known: rows``, from being read as a type and a name."""
    for index, line in enumerate(lines):
        lines[index] = FIELD_OF_NAMES.sub(lambda match: match[0].replace(", ", ",\u200b"), line)


def mathml(node: nodes.Element, display: bool) -> str:
    """The formula of a node as MathML."""
    formula = converted = node.astext()
    for other, known in OTHER_SPELLINGS:
        converted = other.sub(known, converted)
    try:
        return tex2mathml(converted, as_block=display)
    except (MathError, SyntaxError) as error:
        LOG.warning("mathematics cannot be shown (%s): %s", error, formula, location=node)
        return f"<code>{escape(formula)}</code>"


LONG = 18
"""Symbols that fit into a line on a narrow screen, indented as deep as lists are."""


def visit_inline(self: Any, node: nodes.Element) -> None:
    formula = mathml(node, display=False)
    symbols = re.sub(r"\\[a-zA-Z]+", "x", re.sub(r"[{}^_&\s]|\\(?=[^a-zA-Z])", "", node.astext()))
    self.body.append(f'<span class="long-math">{formula}</span>' if len(symbols) > LONG else formula)
    raise nodes.SkipNode


def visit_display(self: Any, node: nodes.Element) -> None:
    self.body.append(self.starttag(node, "div", CLASS="math") + mathml(node, display=True) + "</div>\n")
    raise nodes.SkipNode


def names_of(room: str) -> list[str]:
    """The public names whose home is a room or a file in it."""
    return [name for name in pyro_dgm.__all__ if (pyro_dgm._HOME[name] + ".").startswith(room + ".")]


def listed(room: str) -> list[str]:
    """The names in the ``__all__`` of a room that neither the package nor the room around it lists."""
    module = importlib.import_module(f"pyro_dgm.{room}")
    around = [importlib.import_module(name) for name in {"pyro_dgm", module.__name__.rpartition(".")[0]}]

    def above(name: str) -> bool:
        """Whether a module around the room has it too: ``dgm.load`` is another function than ``dgm.data.load``."""
        value = getattr(module, name)
        return any(name in getattr(outer, "__all__", ()) and getattr(outer, name) is value for outer in around)

    return [name for name in module.__all__ if not above(name)]


class Room(Directive):
    """``.. room:: energy``: the reference of all public names of one room, as ``pyro_dgm.name``.

    With ``:all:`` also what the room itself lists in its ``__all__``, as ``pyro_dgm.room.name``.
    """

    required_arguments = 1
    optional_arguments = 9
    option_spec: ClassVar[dict[str, Any]] = {"all": lambda text: True}

    def run(self) -> list[nodes.Node]:
        paths = [f"pyro_dgm.{name}" for room in self.arguments for name in names_of(room)]
        if "all" in self.options:
            paths += [f"pyro_dgm.{room}.{name}" for room in self.arguments for name in listed(room)]
        return parsed(self, [line for path in paths for line in documented(path)])


class Commands(Directive):
    """What every command of the command line says of itself with ``--help``, in a section of its own."""

    def run(self) -> list[nodes.Node]:
        top = parser()
        commands = next(action for action in top._actions if isinstance(action, argparse._SubParsersAction))
        return [section_of(name, command) for name, command in commands.choices.items()]


def section_of(name: str, command: argparse.ArgumentParser) -> nodes.section:
    """A section with the help of a command, in the same width wherever the site is built."""
    command.formatter_class = partial(argparse.HelpFormatter, width=88)
    command.color = False  # type: ignore[attr-defined]  # Python 3.14 colours help that goes to a terminal
    section = nodes.section("", nodes.title("", name), ids=[f"command-{name}"], names=[f"command {name}"])
    section += nodes.literal_block("", command.format_help().rstrip(), language="text")
    return section


class DataSets(Directive):
    """A table of the data sets that are known by name, with the files that each needs in the data folder."""

    def run(self) -> list[nodes.Node]:
        lines = ["| name | rows | files |", "|---|---|---|"]
        for name, (text, _) in sources._SOURCES.items():
            files = ", ".join(f"`{file}`" for file in sources.FILES[name])
            lines.append(f"| `{name}` | {text} | {files or 'needs no file'} |")
        return parsed(self, lines)


def documented(path: str) -> list[str]:
    """The lines of reStructuredText that document a class or function of the package; aliases of types have none."""
    home, name = path.rsplit(".", 1)
    value = getattr(importlib.import_module(home), name)
    if not getattr(value, "__module__", "").startswith("pyro_dgm"):
        return []
    if isinstance(value, type):
        kind = "autoexception" if issubclass(value, Exception) else "autoclass"
        stop = f"   :inherited-members: {', '.join(shared.__all__)}"
        inherited = [stop] if issubclass(value, shared.Model) and name not in shared.__all__ else []
        return [f".. {kind}:: {path}", "   :members:", "   :show-inheritance:", *inherited, ""]
    return [f".. autofunction:: {path}", ""]


def parsed(directive: Directive, lines: list[str]) -> list[nodes.Node]:
    """The nodes of lines in the markup of the page that a directive stands in."""
    container = nodes.section()
    container.document = directive.state.document
    text = StringList(lines, source=directive.name)
    directive.state.nested_parse(text, directive.content_offset, container)
    return container.children


def plain_defaults(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Write defaults for reading: numbers with three digits, functions by their names."""
    if signature is not None:
        signature = re.sub(r"\d\.\d{4,}\b", lambda number: f"{float(number[0]):.3g}", signature)
        signature = re.sub(r"<function (\w+)>", r"\1", signature)
    return signature, returned


def skip_member(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out what other packages put into classes, such as scikit-learn's requests of metadata."""
    return True if not str(getattr(obj, "__module__", "pyro_dgm")).startswith("pyro_dgm") else None


TITLE = re.compile(r"title(?:=|\()\"([^\"]+)\"")
"""The title of a figure, or of a part of it, in the code that draws it."""


def describe_pictures(app: Any, doctree: nodes.document) -> None:
    """Give pictures of notebooks the titles in their cell's code, or that of the section, in place of a file's name."""
    for image in doctree.findall(nodes.image):
        around = image.parent
        while around is not None and "cell" not in around.get("classes", ()):
            around = around.parent
        if around is not None and not image.get("alt"):
            code = " ".join(block.astext() for block in around.findall(nodes.literal_block))
            heading = next((part for part in around.parent.children if isinstance(part, nodes.title)), None)
            image["alt"] = "; ".join(TITLE.findall(code)) or (
                heading.astext() if heading else "Output of the cell above"
            )


def offer_download(app: Any, doctree: nodes.document) -> None:
    """Below the title of a notebook's page, a link to the notebook itself."""
    env = app.env
    path = env.doc2path(env.docname)
    title = next(doctree.findall(nodes.title), None)
    if str(path).endswith(".ipynb") and title is not None:
        name = Path(path).name
        link = addnodes.download_reference("", "", nodes.Text(f"Download {name}"), reftarget=f"/{env.docname}.ipynb")
        around = title.parent
        around.insert(around.index(title) + 1, nodes.paragraph("", "", link, classes=["download-notebook"]))


def addresses(project: dict[str, Any]) -> list[dict[str, str]]:
    """What the theme shows at the foot of every page: the addresses in the metadata of a project, by their names."""
    return [
        {"name": name, "url": url, "html": escape(name), "class": ""} for name, url in project.get("urls", {}).items()
    ]


def read_source(app: Any, page: str, text: list[str]) -> None:
    """Fit pages that are read in the repository too into the site: the decisions' tree of pages."""
    if page == "decisions/README":
        text[0] += "\n```{toctree}\n:hidden:\n:glob:\n\n*\n```\n"


def titles_alone(toc: nodes.bullet_list) -> nodes.bullet_list:
    """A page's contents without the entries below its title, but for a page that has others below it."""
    copied = toc.deepcopy()
    for title in copied:
        if not list(title.findall(addnodes.toctree)):
            del title[1:]
    return copied


def navigate_by_titles(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Make the tree of pages from titles: Sphinx copies all entries of all pages for every page, and throws them away."""
    toctree, env = context.get("toctree"), app.env

    def of_titles(**options: Any) -> str:
        contents, env.tocs = env.tocs, TITLES
        try:
            return toctree(**options)
        finally:
            env.tocs = contents

    if toctree:
        if TITLES.keys() != env.tocs.keys():
            TITLES.update({name: titles_alone(toc) for name, toc in env.tocs.items()})
        context["toctree"] = of_titles


TITLES: dict[str, nodes.bullet_list] = {}
"""What :func:`titles_alone` leaves of the contents of every page."""


def setup(app: Any) -> dict[str, Any]:
    app.add_directive("room", Room)
    app.add_directive("datasets", DataSets)
    app.add_directive("commands", Commands)
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_display, None))
    app.connect("autodoc-process-docstring", process_docstring, priority=400)
    app.connect("autodoc-process-docstring", join_names, priority=600)
    app.connect("autodoc-process-signature", plain_defaults)
    app.connect("source-read", read_source)
    app.connect("doctree-read", describe_pictures)
    app.connect("doctree-read", offer_download, priority=400)
    app.connect("autodoc-skip-member", skip_member)
    app.connect("html-page-context", navigate_by_titles, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
