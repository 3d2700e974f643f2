"""The models there are, found by looking into ``pyro_dgm.models``: a new file there is all it takes."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from functools import cache
from typing import Any


@cache
def models() -> dict[str, type]:
    """Every concrete model by its name on the command line, which is its class name in lower case."""
    from . import models as package
    from .models.model import Model

    found: dict[str, type] = {}
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Model) and not inspect.isabstract(value):
                if value.__module__ == module.__name__ and not value.__name__.startswith("_"):
                    found[value.__name__.lower()] = value
    return found


def model(name: str) -> type:
    """The model class of that name.

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    if name.lower() not in models():
        raise ValueError(f"there is no model {name!r}; expected one of {', '.join(sorted(models()))}")
    return models()[name.lower()]


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
