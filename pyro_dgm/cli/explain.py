"""What the command tells about models: ``list``, and the options of one model and its objective."""

from __future__ import annotations

import inspect
import re
import textwrap
import unicodedata
from collections.abc import Iterable
from typing import Any

from .. import signatures
from ..data.dataset import SIZES

WIDTH = 110
"""The longest line that is printed."""

_SIGNS = {"mid": "|", "int": "∫", "partial": "∂", "sum": "Σ", "le": "≤", "ge": "≥"}
_RAISED = str.maketrans("0123456789+-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻")


def plain(text: str) -> str:
    """Documentation as a terminal shows it: formulas without TeX, names without quotes.

    Example:
        >>> plain(r"rows by a map, $x = \\mu + L z$, or ``$p(x \\mid z)$``")
        'rows by a map, x = μ + L z, or p(x | z)'
    """
    formulas = re.sub(r"\$([^$]*)\$", lambda found: _formula(found[1]), text)
    return " ".join(re.sub(r":\w+:`([^`]*)`", r"\1", formulas).replace("`", "").split())


def _formula(tex: str) -> str:
    """A formula in Unicode, as far as its signs have any."""
    tex = re.sub(r"\\(?:mathrm|mathcal|text|hat|tilde|mathbf|operatorname)\s*\{?([^{}\s]+)\}?", r"\1", tex)
    tex = re.sub(r"\^\{?([-+\d]+)\}?", lambda found: found[1].translate(_RAISED), tex)
    tex = re.sub(r"\\([A-Za-z]+)", lambda found: _sign(found[1]), tex)
    return re.sub(r"\\.|[{}]", lambda found: " " if found[0] in ("\\,", "\\;", "\\ ") else "", tex)


def _sign(name: str) -> str:
    if name in _SIGNS:
        return _SIGNS[name]
    case = "CAPITAL" if name[0].isupper() else "SMALL"
    try:
        return unicodedata.lookup(f"GREEK {case} LETTER {name.upper()}")
    except KeyError:
        return name


def summary(documented: Any) -> str:
    """The first line of an object's documentation."""
    return plain((inspect.getdoc(documented) or "").partition("\n")[0]).rstrip(".")


def columns(entries: Iterable[tuple[str, str]], indent: int = 2) -> str:
    """Names and texts in two columns, as wide as the longest name."""
    pairs = list(entries)
    wide = max((len(name) for name, _ in pairs), default=0) + indent + 2
    lines = []
    for name, text in pairs:
        body = textwrap.wrap(text, max(WIDTH - wide, 40)) or [""]
        lines += [f"{' ' * indent}{name}".ljust(wide) + body[0], *(" " * wide + line for line in body[1:])]
    return "\n".join(line.rstrip() for line in lines)


def model_help(name: str) -> str:
    """The options of a model and of its objective, with types, defaults and descriptions.

    Raises:
        ValueError: there is no such model.
    """
    from .. import registry

    cls: Any = registry.model(name)
    parts = [
        f"{cls.__name__}: {summary(cls)}.",
        f"options of {cls.__name__} (--set NAME=VALUE; the number of columns comes from the data):",
        _table({k: v for k, v in signatures.options(cls).items() if k != "visible"}),
        f"{registry.objective_of(cls)} (--objective NAME=VALUE): {summary(cls.objective)}.",
        _table(signatures.options(cls.objective)),
    ]
    return "\n".join(parts)


def _table(options: dict[str, signatures.Option]) -> str:
    """One line or more per option."""
    if not options:
        return "  (none)"
    return columns((_named(name, option), _told(name, option)) for name, option in options.items())


def _named(name: str, option: signatures.Option) -> str:
    if option.default is inspect.Parameter.empty:
        return f"{name}=..."
    value = option.default
    return (
        f"{name}={value if isinstance(value, str) else str(value).lower() if value in (True, False, None) else value}"
    )


def _told(name: str, option: signatures.Option) -> str:
    needed = "; must be given" if option.default is inspect.Parameter.empty else ""
    if needed and name in SIZES:
        needed += " where the data do not tell"
    return f"{plain(option.text)}{' ' if option.text else ''}({signatures.words(option.hint)}{needed})"
