"""Imports go one way: room by room, file by file, and by no string."""

from __future__ import annotations

import ast
import itertools
import re
from pathlib import Path

import networkx as nx

PACKAGE = Path(__file__).parents[1] / "pyro_dgm"
CHAPTERS = ["boltzmann", "real_valued", "structured", "directed", "implicit", "autoregressive", "chains"]
FLOORS = [
    ["processes", "calls", "checks", "advice", "files", "signatures", "progress", "columns", "deprecation", "extras"],
    ["data", "native", "discrepancy"],
    ["nets"],
    ["energy", "autoregressive"],
    ["in_jax", "distributions"],
    ["mcmc", "inference"],
    ["annealing"],
    ["objectives"],
    ["models.shared"],
    ["models", *(f"models.{chapter}" for chapter in CHAPTERS)],
    ["registry", "evaluation"],
    ["train"],
    ["recipes", "sklearn", "optim"],
    ["cli"],
    ["__main__"],
]
"""Rooms on the same floor do not import one another."""

BY_NAME = {"__init__", "registry", "in_jax", "models.shared"}
"""Who may look modules up by name: those that find models and names lazily."""

EXCEPTIONS = {
    # A deep belief network's first stage on real-valued data is a Gaussian RBM.
    ("models.boltzmann.deep_belief_network", "models.real_valued.gaussian_rbm"),
}
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
FILES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def room(module):
    """The room of a module; None of those that hold a room's folder together (``pyro_dgm``, ``models``)."""
    first, _, rest = module.partition(".")
    if first != "models" or not rest:
        return None if first == "__init__" else first
    return f"models.{rest.partition('.')[0]}"


def imports(module, path):
    """The modules of the package that a file imports, at the top or inside functions, or for types alone."""
    parts = list(path.relative_to(PACKAGE).with_suffix("").parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = ["pyro_dgm", *parts]
            base = base[: len(base) - node.level + 1] if node.level else []
            full = [*base, *(node.module.split(".") if node.module else [])]
            names = [[*full, alias.name] for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            if ["pyro_dgm"] in names:
                yield "__init__"
        else:
            continue
        for name in names:
            if name[0] != "pyro_dgm":
                continue
            asked, found = ".".join(name[1:]), ".".join(name[1:-1])
            if found or asked in FILES:
                yield asked if asked in FILES else found
            elif name[1:] != ["__version__"]:
                yield "__init__"


def named(path):
    """The modules of the package that a file names in strings, other than documentation."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documents = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documents:
            for found in re.findall(r"pyro_dgm((?:\.[a-z_]+)+)", node.value):
                yield found.removeprefix(".")


def test_every_room_has_its_floor():
    """A folder or file that nobody placed fails here."""
    assert {room(module) for module in FILES} - {None} <= set(FLOOR)


def test_imports_go_down():
    """But for what ``EXCEPTIONS`` says."""
    upwards = [
        f"{module} imports {other}"
        for module, path in FILES.items() if room(module)
        for other in imports(module, path)
        if room(other) not in (None, room(module))
        and (module, other) not in EXCEPTIONS
        and FLOOR[room(other)] >= FLOOR[room(module)]
    ]  # fmt: skip
    assert upwards == []


def test_nobody_goes_round_by_the_package():
    """``from .. import VAE`` and ``import pyro_dgm`` would reach any room."""
    for module, path in FILES.items():
        if module not in ("__init__", "cli.__main__"):
            assert "__init__" not in set(imports(module, path)), module
            looks_up = re.search(r"import_module\(|__import__\(", path.read_text(encoding="utf-8"))
            assert module in BY_NAME or not looks_up, module


def test_no_string_names_a_module_above():
    """Looking a module up by its name would be an import that nobody sees."""
    upwards = []
    for module, path in FILES.items():
        for name in named(path) if room(module) else ():
            modules = [name.rsplit(".", count)[0] for count in range(name.count(".") + 1)]
            known = [m for m in modules if m in FILES and room(m)]
            above = known and room(known[0]) != room(module) and FLOOR[room(known[0])] >= FLOOR[room(module)]
            if above:
                upwards.append(f"{module} names {name}")
    assert upwards == []


def test_there_is_no_circle():
    """Among files, a room's ``__init__`` standing for all that it imports."""
    graph = nx.DiGraph()
    for module, path in FILES.items():
        if module == "__init__":  # looks its rooms up by name, at use
            continue
        for other in imports(module, path):
            if other not in (module, "", "__init__"):
                graph.add_edge(module, other)
    for inside, outside in itertools.product(list(graph), repeat=2):
        # A file may import its neighbours, not the door of its own room.
        if outside != inside and inside.startswith(f"{outside}.") and graph.has_edge(inside, outside):
            assert outside in ("models",), f"{inside} imports its own room's __init__"
    assert list(nx.simple_cycles(graph)) == []


def test_rooms_enter_native_by_its_door():
    """Elsewhere nobody knows what is compiled, or by what."""
    for module, path in FILES.items():
        if room(module) != "native":
            assert all(not other.startswith("native.") for other in imports(module, path)), module
            assert "numba" not in path.read_text(encoding="utf-8"), module
            assert "get_cpu_capability" not in path.read_text(encoding="utf-8"), module


def test_chapters_hold_models_alone():
    """Every public name of a chapter's file is a model; constants and helpers are private or in ``models/shared``."""
    from pyro_dgm.models.shared.model import Model
    from pyro_dgm.registry import model_classes

    for name, module in model_classes().items():
        content = vars(__import__(f"pyro_dgm.{module}", fromlist=[name]))
        assert issubclass(content[name], Model), name
        own = {
            key for key, value in content.items()
            if not key.startswith("_") and getattr(value, "__module__", None) == f"pyro_dgm.{module}"
        }  # fmt: skip
        assert own <= set(model_classes()), f"{module}: {own}"
