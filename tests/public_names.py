"""The names that type checkers and editors read: ``python -m tests.public_names`` writes ``pyro_dgm/__init__.pyi``."""

from __future__ import annotations

from pathlib import Path

import pyro_dgm

STUB = Path(pyro_dgm.__file__).with_suffix(".pyi")
HEAD = '''"""The public names, generated from ``__init__.py`` and the models' files by ``python -m tests.public_names``."""'''


def stub() -> str:
    """The text of the stub: every public name is imported from its room, as ``__getattr__`` does at its first use."""
    rooms: dict[str, list[str]] = {}
    for name, home in sorted(pyro_dgm._HOME.items()):
        rooms.setdefault(home, []).append(name)
    lines = [f"from . import {folder} as {folder}" for folder in pyro_dgm._FOLDERS]
    for home, names in sorted(rooms.items()):
        lines += [f"from .{home} import {name} as {name}" for name in names]
    names = "".join(f'    "{name}",\n' for name in pyro_dgm.__all__)
    return "\n".join([HEAD, "", *lines, "", "__version__: str", f"__all__ = [\n{names}]", ""])


if __name__ == "__main__":
    STUB.write_text(stub(), encoding="utf-8")
