"""Options as signatures state them: types, defaults and descriptions, by which values and texts are read or refused."""

from __future__ import annotations

import ast
import contextlib
import inspect
import math
import re
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import NoneType, SimpleNamespace, UnionType
from typing import Any, Literal, NamedTuple, Union

WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False, "none": None, "null": None}
"""Words for booleans and for None, in any case."""

_LONGEST = 10_000
"""The most characters of a text that is read as a value."""


class Option(NamedTuple):
    """An argument of a function.

    Attributes:
        hint: its type; ``Any`` where the function states none.
        default: its default; ``inspect.Parameter.empty`` where it has none.
        text: what the function's documentation says about it.
    """

    hint: Any
    default: Any
    text: str


Owner = Callable[..., Any] | Mapping[str, Option]
"""What has options: a function or class, or these by name."""


def options(function: Owner) -> dict[str, Option]:
    """The arguments of a function or class by name; of a class's method ``self`` is left out.

    Example:
        >>> options(lambda width, deep=True: None)["deep"][:2]
        (<class 'bool'>, True)
    """
    if isinstance(function, Mapping):
        return dict(function)
    hints = _hints(function.__init__ if isinstance(function, type) else function)  # type: ignore[misc]
    texts = _descriptions(inspect.getdoc(function) or "")
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name == "self" or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        inferred = bool if isinstance(parameter.default, bool) else Any
        found[name] = Option(hints.get(name, inferred), parameter.default, texts.get(name, ""))
    return found


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The types that a function states, but for those whose names cannot be found: a user's annotations may name anything."""
    inner = inspect.unwrap(function)
    found = dict[str, Any]()
    for name, annotation in getattr(inner, "__annotations__", {}).items():
        alone = SimpleNamespace(__annotations__={name: annotation})
        with contextlib.suppress(Exception):
            found |= typing.get_type_hints(alone, getattr(inner, "__globals__", {}))
    return found


def _descriptions(documentation: str) -> dict[str, str]:
    """What the section "Args:" of a docstring says about every argument."""
    section = re.search(r"^Args:\n((?:[ \t]+\S.*\n?|[ \t]*\n)*)", documentation, re.MULTILINE)
    found: dict[str, str] = {}
    for entry in re.split(r"\n(?=    \S)", section[1].rstrip()) if section else ():
        names, _, text = entry.strip().partition(": ")
        for name in names.split(","):
            found[name.strip()] = " ".join(text.replace("``", "").split())
    return found


def words(hint: Any) -> str:
    """A type in words.

    Example:
        >>> words(int | tuple[int, int] | None)
        'an integer, 2 integers or none'
    """
    members = _members(hint)
    if len(members) > 1:
        return _listed(
            dict.fromkeys(words(member) for member in sorted(members, key=lambda member: member is NoneType))
        )
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return _listed(str(choice) for choice in arguments)
    if origin is tuple and arguments[-1:] != (...,):
        return f"{len(arguments)} {_plural(arguments[0])}"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"{_plural(arguments[1])} by name, as {{'a': 1}}"
    if isinstance(origin, type) and issubclass(origin, Sequence):
        inner = arguments[0]
        return (
            f"lists of {_plural(typing.get_args(inner)[0])}" if typing.get_args(inner) else f"several {_plural(inner)}"
        )
    simple = {
        bool: "true or false",
        int: "an integer",
        float: "a number",
        str: "text",
        NoneType: "none",
        Any: "a value",
    }
    if typing.is_typeddict(hint):
        return "an object"
    if word := simple.get(hint):
        return word
    return "an array of numbers" if _is_array(hint) else str(getattr(hint, "__name__", hint))


def _listed(said: Iterable[str]) -> str:
    """Words with commas, and "or" before the last."""
    *first, last = said
    return f"{', '.join(first)} or {last}" if first else last


def _plural(hint: Any) -> str:
    return {int: "integers", float: "numbers", str: "words", bool: "of true and false"}.get(hint, "values")


def _members(hint: Any) -> tuple[Any, ...]:
    """The types of a union; a type alone is one."""
    return typing.get_args(hint) if typing.get_origin(hint) in (Union, UnionType) else (hint,)


def without_arrays(known: Mapping[str, Option]) -> dict[str, Option]:
    """Options that are no arrays (rows, as a rule): of a type among others arrays are left out.

    Example:
        >>> from torch import Tensor
        >>> found = without_arrays({"base": Option(Tensor | None, None, ""), "grid": Option(int | Tensor, 9, "")})
        >>> {name: words(option.hint) for name, option in found.items()}
        {'grid': 'an integer'}
    """
    kept = {name: tuple(member for member in _members(o.hint) if not _is_array(member)) for name, o in known.items()}
    return {
        name: known[name]._replace(hint=Union[members])  # noqa: UP007  # the members are known at run time alone
        for name, members in kept.items()
        if set(members) - {NoneType}
    }


def _is_array(hint: Any) -> bool:
    return isinstance(hint, type) and hint.__module__.partition(".")[0] in ("torch", "numpy") and hint.__name__ in (
        "Tensor", "ndarray",
    )  # fmt: skip


def mismatch(value: Any, hint: Any, name: str) -> str | None:
    """Why a value of plain data (numbers, texts, lists, dictionaries) is not of a type; None where it is.

    Booleans are no numbers; numbers are finite, and integers have at most 63 bits; a ``Tensor`` is a number or nested lists
    of numbers. A dictionary may have more keys than its type names.

    Example:
        >>> mismatch({"k": True}, dict[str, int], "options")
        "options['k'] is True; expected an integer"
    """
    try:
        return _mismatch(value, hint, name)
    except RecursionError:
        return f"{name} is nested too deeply; expected {words(hint)}"


def _mismatch(value: Any, hint: Any, name: str) -> str | None:
    if any(_fits(value, member) for member in _members(hint)):
        return None
    if typing.is_typeddict(hint) and isinstance(value, dict):
        hints = typing.get_type_hints(hint)
        for key in sorted(hint.__required_keys__):
            if key not in value:
                return f"{name} lacks {key!r}"
        return next(
            filter(None, (mismatch(value[k], h, f"{name}[{k!r}]") for k, h in hints.items() if k in value)), None
        )
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, dict):
        return next(filter(None, (mismatch(v, arguments[1], f"{name}[{k!r}]") for k, v in value.items())), None)
    return f"{name} is {shortened(value)}; expected {words(hint)}"


def _fits(value: Any, hint: Any) -> bool:
    """Whether plain data are of a type that is no union."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if hint in (None, NoneType):
        return value is None
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in arguments)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
    if hint is float:
        return _fits(value, int) or (isinstance(value, float) and math.isfinite(value))
    if _is_array(hint):
        return _fits(value, float) or (isinstance(value, list | tuple) and all(_fits(v, hint) for v in value))
    if typing.is_typeddict(hint):
        hints = typing.get_type_hints(hint)
        return (
            isinstance(value, dict)
            and hint.__required_keys__ <= value.keys()
            and all(mismatch(value[key], of, key) is None for key, of in hints.items() if key in value)
        )
    if origin is tuple and arguments[-1:] != (...,):
        right = isinstance(value, list | tuple) and len(value) == len(arguments)
        return right and all(mismatch(v, of, "") is None for v, of in zip(value, arguments, strict=True))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        keys_and_values = value.items() if isinstance(value, dict) else ()
        return isinstance(value, dict) and all(
            _fits(k, arguments[0]) and mismatch(v, arguments[1], "") is None for k, v in keys_and_values
        )
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return isinstance(value, list | tuple) and all(mismatch(v, arguments[0], "") is None for v in value)
    return isinstance(value, hint) if isinstance(hint, type) else True


def shortened(value: Any) -> str:
    """A value as a message shows it, at most some sixty characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def read(text: str, hint: Any, name: str) -> Any:
    """The value that a text says, of a type.

    Booleans are true, yes, on, 1 and their opposites, None is none; numbers, lists and dictionaries are Python literals; one
    value is a list of one where a list is wanted.

    Raises:
        ValueError: the text says no value of the type.

    Example:
        >>> read("(200, 100)", Sequence[int], "hidden"), read("no", bool, "centred"), read("none", int | None, "k")
        ((200, 100), False, None)
        >>> read("16", Sequence[int], "hidden")
        (16,)
    """
    members, word = _members(hint), text.strip().lower()
    if bool in members and word in ("1", "0"):
        return word == "1"
    if word in WORDS and (type(WORDS[word]) in members or hint is Any):
        return WORDS[word]
    literal: Any = text
    with contextlib.suppress(ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        literal = ast.literal_eval(text.strip()) if len(text) <= _LONGEST else text
    for candidate in (literal, text, (literal,)):
        if any(_fits(candidate, member) for member in members):
            return candidate
    raise ValueError(f"{name} got {shortened(text)}; expected {words(hint)}")


def check(function: Owner, values: Mapping[str, Any], owner: str) -> None:
    """Refuse values that a function has no argument for, or of other types than its arguments have.

    Raises:
        ValueError: the message names the function by ``owner``, the argument, and what it takes.
    """
    known = options(function)
    for name, value in values.items():
        if name in known:
            if problem := mismatch(value, known[name].hint, name):
                raise ValueError(f"{owner}: {problem}")
        elif not _takes_any(function):
            raise ValueError(f"{owner} has no option {name!r}; it has {', '.join(known) or 'none'}")


def missing(function: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, Option]:
    """The arguments that a function must be given and that are not among the values."""
    return {
        name: option
        for name, option in options(function).items()
        if option.default is inspect.Parameter.empty and name not in values
    }


def _takes_any(function: Owner) -> bool:
    return callable(function) and any(p.kind is p.VAR_KEYWORD for p in inspect.signature(function).parameters.values())


def settings(function: Owner, pairs: Sequence[str], flag: str, owner: str) -> dict[str, Any]:
    """``NAME=VALUE`` texts as arguments of a function, each read by the argument's type.

    Raises:
        ValueError: a text without ``=``, a name twice, a name that is no argument, or a value of another type.

    Example:
        >>> def fit(centred: bool = False, k: int = 1): ...
        >>> settings(fit, ["centred=no", "k=5"], "--set", "fit")
        {'centred': False, 'k': 5}
    """
    known = options(function)
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name:
            raise ValueError(
                f"{flag} got {shortened(pair)}; expected NAME=VALUE, as in {flag} {next(iter(known), 'k')}=5"
            )
        if name in values:
            raise ValueError(f"{flag} names {name!r} twice; keep one")
        hint = known[name].hint if name in known else Any
        values[name] = read(text, hint, f"{owner}: {name}")
    check(function, values, owner)
    return values
