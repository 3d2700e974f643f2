"""The models there are, found by looking into ``pyro_dgm.models``, and those that users bring along.

A model of the package is a public class in a file of one of the chapter's folders; its name on the command line is the class
name in lower case. Names are read off the files, so that listing them imports nothing. A model of somebody else's is named by
its file, ``path/to/file.py:Class``, or found as an entry point of an installed package, in the group ``pyro_dgm.models``.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

GROUP = "pyro_dgm.models"
"""The group of entry points under which other packages announce their models, ``name = "module:Class"``."""

_FILES: dict[str, Path] = {}
"""The files that were run as models' modules, by the modules' names."""

_CLASS = re.compile(r"^class ([A-Za-z]\w*)", re.MULTILINE)


@cache
def model_classes() -> dict[str, str]:
    """The package's models: their module within the package by class name, in the order of the chapter's folders."""
    models = Path(__file__).parent / "models"
    found: dict[str, str] = {}
    for path in sorted(models.glob("[a-z]*/[a-z]*.py")):
        if path.parent.name != "shared":
            module = f"models.{path.parent.name}.{path.stem}"
            found |= {name: module for name in _CLASS.findall(path.read_text(encoding="utf-8"))}
    return found


@cache
def models() -> dict[str, type]:
    """Every model of the package, and of installed packages that announce theirs, by its name on the command line."""
    own = {
        name.lower(): getattr(importlib.import_module(f"{__package__}.{module}"), name)
        for name, module in model_classes().items()
    }
    return {entry.name.lower(): _checked(entry.load(), entry.value) for entry in entry_points(group=GROUP)} | own


def model(name: str) -> type:
    """The model class of that name.

    Args:
        name: one of the package's or of an installed package's, or ``path/to/file.py:Class``: the file is then run.

    Raises:
        ValueError: there is none; the message lists those there are. A file that is not there, cannot be run, or has no such
            model.
    """
    path, colon, cls = name.rpartition(":")
    if colon and path.endswith(".py"):
        return _from_file(Path(path), cls)
    for own, module in model_classes().items():
        if own.lower() == name.lower():
            return getattr(importlib.import_module(f"{__package__}.{module}"), own)
    if name.lower() not in models():
        raise ValueError(
            f"there is no model {name!r}; expected one of {', '.join(sorted(models()))}, or path/to/file.py:Class for one of "
            "your own"
        )
    return models()[name.lower()]


def origin(cls: type) -> str | None:
    """Where a class that is not the package's own came from, as ``model`` finds it again; None of the package's own.

    ``path/to/file.py:Class`` of a class in a file, else ``module:Class``.
    """
    if model_classes().get(cls.__name__) == cls.__module__.removeprefix(f"{__package__}."):
        return None
    path = _FILES.get(cls.__module__)
    return f"{path or cls.__module__}:{cls.__qualname__}"


def of_run(name: str, where: str | None, given: str | type | None) -> type:
    """The class of a run on disk.

    Nothing is imported because a run says so: a class of somebody else's is given, or is an installed package's.

    Args:
        name: what the run calls its model.
        where: its ``origin``.
        given: the class, or its name as ``model`` takes it; None where nothing was given.

    Raises:
        ValueError: the run's class is not the package's own and was not given; or another class was given.
    """
    if given is not None:
        cls = model(given) if isinstance(given, str) else _checked(given, repr(given))
        if cls.__name__.lower() != name or (origin(cls) is None) != (where is None):
            other = origin(cls) or cls.__name__.lower()
            raise ValueError(f"the run is of {where or name}, not of {other}; give the class that it was trained with")
        return cls
    if where is None:
        return model(name)
    for entry in entry_points(group=GROUP):
        if entry.value == where:
            return _checked(entry.load(), entry.value)
    raise ValueError(
        f"the run is of {where}, which is no model of this package, and nothing is imported because a run says so; name it: "
        f"dgm.load(run, model={where!r}) or its class, on the command line --model {where}"
    )


def _from_file(path: Path, name: str) -> type:
    """A class of a file, which is run once per process however often it is named."""
    if not path.is_file():
        raise ValueError(f"model got {path}:{name}, but there is no file {path}; expected path/to/file.py:Class")
    path = path.resolve()
    # A name that every process finds alike, so that instances can be sent to another one.
    module_name = f"pyro_dgm_model_{path.stem}_{hashlib.sha1(str(path).encode()).hexdigest()[:8]}"
    if module_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(module_name, path)
        module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
        sys.modules[module_name], _FILES[module_name] = module, path
        try:
            spec.loader.exec_module(module)  # type: ignore[union-attr]
        except Exception as error:
            del sys.modules[module_name], _FILES[module_name]
            raise ValueError(f"{path} cannot be run ({type(error).__name__}: {error}); mend it first") from error
    found = vars(sys.modules[module_name]).get(name)
    if found is None:
        raise ValueError(f"{path} has no {name!r}; expected the name of a model class in it")
    return _checked(found, f"{path}:{name}")


def _checked(cls: Any, origin: str) -> type:
    from .models.shared.model import Model

    if not (isinstance(cls, type) and issubclass(cls, Model)):
        raise ValueError(f"{origin} is no model; expected a subclass of pyro_dgm.models.shared.model.Model")
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(vars(cls)["__abstractmethods__"]))
        raise ValueError(f"{origin} is abstract; it lacks {missing}")
    return cls


def build(name: str, settings: dict[str, Any], visible: int, seed: int) -> Any:
    """An instance of the model of that name, for data of a given width.

    Raises:
        ValueError: an option that the model does not have, or a value that it refuses.
    """
    import pyro

    cls = model(name)
    if "visible" in inspect.signature(cls).parameters:
        settings = {"visible": visible, **settings}
    pyro.set_rng_seed(seed)
    return call(cls, settings, cls.__name__)


def call(function: Callable[..., Any], settings: dict[str, Any], name: str) -> Any:
    """Call a function with settings that a user named.

    Raises:
        ValueError: a setting that the function does not have, or a value that it refuses.
    """
    accepted = list(inspect.signature(function).parameters)
    unknown = [setting for setting in settings if setting not in accepted]
    if unknown:
        raise ValueError(f"{name} has no option {unknown[0]!r}; it has {', '.join(accepted) or 'none'}")
    try:
        return function(**settings)
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"{name} refused {settings}: {error}") from None
