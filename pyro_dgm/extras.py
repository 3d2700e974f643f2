"""Packages that only some parts of this one need: the extras by which pip installs them, and the error where they are missing."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

EXTRAS: dict[str, dict[str, str]] = {
    "arviz": {"arviz": "arviz", "h5netcdf": "h5netcdf"},
    "jax": {"jax": "jax", "numpyro": "numpyro"},
    "onnx": {"onnx": "onnx", "onnxscript": "onnxscript"},
    "pictures": {"matplotlib": "matplotlib", "PIL": "pillow"},
    "sklearn": {"sklearn": "scikit-learn", "scipy": "scipy"},
    "tables": {"pandas": "pandas", "pyarrow": "pyarrow"},
    "tensorboard": {"tensorboard": "tensorboard"},
}
"""Of every extra the modules that are imported, and the packages that have them; ``pyproject.toml`` has their versions."""


class MissingExtra(ImportError):
    """Something was asked for that needs packages which are not installed; the message says how to install them."""


def _listed(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def need(what: str, *extras: str) -> None:
    """Refuse what cannot be done for want of packages, before any work on it; nothing is imported.

    Args:
        what: what needs them, as the message begins.
        extras: names in ``EXTRAS``.

    Raises:
        MissingExtra: one of the packages is not installed.

    Example:
        >>> need("a decomposition")
    """
    lacking = {
        package: extra for extra in extras for module, package in EXTRAS[extra].items() if find_spec(module) is None
    }
    if lacking:
        raise MissingExtra(
            f"{what} needs {_listed(lacking)}, which {'is' if len(lacking) == 1 else 'are'} not installed: "
            f'pip install "pyro-dgm[{",".join(dict.fromkeys(lacking.values()))}]"'
        )
