"""The registry of models: those in the files of ``pyro_dgm.models``, and those that users bring along.

A model of the package is a public class in a file of one of the chapter's folders; its name on the command line is the class
name in lower case. The names are read from the files' text, so that listing them imports nothing. A model from elsewhere is
named by its file, ``path/to/file.py:Class``, or is an entry point of an installed package in the group ``pyro_dgm.models``.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from . import signatures
from .checks import check_memory, check_seed, described

GROUP = "pyro_dgm.models"
"""The group of entry points under which other packages announce their models, ``name = "module:Class"``."""

_FILES: dict[str, Path] = {}
"""The files that were run as modules with models, by the name of the module."""

_CLASS = re.compile(r"^class ([A-Za-z]\w*)", re.MULTILINE)


@cache
def model_classes() -> dict[str, str]:
    """The module within the package of each of its models, by class name and in the order of the chapters' folders."""
    models = Path(__file__).parent / "models"
    modules: dict[str, str] = {}
    for path in sorted(models.glob("[a-z]*/[a-z]*.py")):
        if path.parent.name != "shared":
            module = f"models.{path.parent.name}.{path.stem}"
            modules |= {name: module for name in _CLASS.findall(path.read_text(encoding="utf-8"))}
    return modules


@cache
def models() -> dict[str, type]:
    """All models of this package, and of installed packages that announce theirs, by their names on the command line.

    An installed one that cannot be loaded is left out, with a warning.
    """
    announced = {}
    for entry in entry_points(group=GROUP):
        try:
            announced[entry.name.lower()] = _checked(_loaded(entry), entry.value)
        except ValueError as error:
            warnings.warn(f"a model is left out: {error}", stacklevel=2)
    packaged = {
        name.lower(): getattr(importlib.import_module(f"{__package__}.{module}"), name)
        for name, module in model_classes().items()
    }
    return announced | packaged


def model(name: str) -> type:
    """The model class of that name.

    Args:
        name: a model of this package or of an installed one, or ``path/to/file.py:Class``, whose file is then run.

    Raises:
        ValueError: there is no such model (the message lists all); or the file does not exist, cannot be run or has no such
            class.
    """
    if not isinstance(name, str):
        raise ValueError(f"model got {described(name)}; expected a name, such as 'rbm', or path/to/file.py:Class")
    path, colon, cls = name.rpartition(":")
    if colon and path.endswith(".py"):
        return _from_file(Path(path).expanduser(), cls)
    if name.endswith(".py"):
        raise ValueError(f"model got {name}; expected a class of that file, {name}:Class")
    for class_name, module in model_classes().items():
        if class_name.lower() == name.lower():
            return getattr(importlib.import_module(f"{__package__}.{module}"), class_name)
    for entry in entry_points(group=GROUP):
        if entry.name.lower() == name.lower():
            return _checked(_loaded(entry), entry.value)
    if name.lower() not in models():
        near = difflib.get_close_matches(name.lower(), models(), 3)
        hint = f" (did you mean {' or '.join(near)}?)" if near else ""
        raise ValueError(
            f"there is no model {name!r}{hint}; expected one of {', '.join(sorted(models()))}, or path/to/file.py:Class for one "
            "of your own"
        )
    return models()[name.lower()]


def origin(cls: type) -> str | None:
    """The origin of a class, by which it is found again; None for the package's own classes.

    It is ``path/to/file.py:Class`` for a class of a file, else ``module:Class``.
    """
    if model_classes().get(cls.__name__) == cls.__module__.removeprefix(f"{__package__}."):
        return None
    path = _FILES.get(cls.__module__)
    return f"{path or cls.__module__}:{cls.__qualname__}"


def of_run(name: str, where: str | None, given: str | type | None) -> type:
    """The class of the model of a run on disk.

    Nothing is imported because a run says so: the class is this package's, given by the user, or an installed package's.

    Args:
        name: the run's name of its model.
        where: the ``origin`` of the class, as the run states it.
        given: the class, or its name in the form that ``model`` takes; None if the user gave neither.

    Raises:
        ValueError: the run's class is not this package's and was not given; or another class was given.
    """
    if given is not None:
        cls = model(given) if isinstance(given, str) else _checked(given, repr(given))
        if not is_of(cls, name, where):
            other = origin(cls) or cls.__name__.lower()
            raise ValueError(f"the run is of {where or name}, not of {other}; give the class that it was trained with")
        return cls
    if where is None:
        return model(name)
    for entry in entry_points(group=GROUP):
        if entry.value == where or entry.name.lower() == name:
            cls = _checked(_loaded(entry), entry.value)
            if where in (entry.value, origin(cls)):
                return cls
    if where.rpartition(":")[0].endswith(".py"):
        how = f"name it: dgm.load(run, model={where!r}) or its class, on the command line --model {where}"
    else:
        how = "give it: dgm.load(run, model=TheClass), or the file that it stands in, path/to/file.py:Class (--model)"
    raise ValueError(
        f"the run is of {where}, which is no model of this package, and nothing is imported because a run says so; {how}"
    )


def is_of(cls: type, name: str, where: str | None) -> bool:
    """Whether a run that calls its model so, and says that its class came from there, may be one of this class.

    Files move and are imported in more than one way: of two classes that are not the package's the names must agree.
    """
    return cls.__name__.lower() == name and (origin(cls) is None) == (where is None)


def _loaded(entry: Any) -> Any:
    """The object that an entry point names.

    Raises:
        ValueError: it cannot be imported.
    """
    try:
        return entry.load()
    except Exception as error:
        raise ValueError(
            f"the entry point {entry.name} = {entry.value} cannot be loaded ({type(error).__name__}: {error})"
        ) from error


def _from_file(path: Path, name: str) -> type:
    """A model class of a file."""
    return _checked(from_file(f"{path}:{name}", "model"), f"{path}:{name}")


def from_file(where: str, what: str) -> Any:
    """What a file calls by a name; the file is run at most once per process.

    Args:
        where: ``path/to/file.py:Name``.
        what: what is looked for, in messages.

    Raises:
        ValueError: there is no such file, it cannot be run, or has no such name.
    """
    file, _, name = where.rpartition(":")
    path = Path(file).expanduser()
    if path.suffix != ".py" or not path.is_file():
        raise ValueError(f"{what} got {where}, but there is no file {file or where}; expected path/to/file.py:Name")
    path = path.resolve()
    # The name is the same in every process, so that instances can be sent from one to another.
    stem = re.sub(r"\W", "_", path.stem)
    module_name = f"pyro_dgm_model_{stem}_{hashlib.sha1(str(path).encode()).hexdigest()[:8]}"
    if module_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(module_name, path)
        module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
        sys.modules[module_name], _FILES[module_name] = module, path
        try:
            with _importable(path.parent):
                spec.loader.exec_module(module)  # type: ignore[union-attr]
        except (Exception, SystemExit) as error:
            del sys.modules[module_name], _FILES[module_name]
            raise ValueError(f"{path} cannot be run ({type(error).__name__}: {error}); mend it first") from error
    found = vars(sys.modules[module_name]).get(name)
    if found is None:
        raise ValueError(f"{path} has no {name!r}; expected the name of a {what} in it")
    return found


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """A block in which the modules beside a file can be imported, as if it were run as a script."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _checked(cls: Any, origin: str) -> type:
    """The class, after a check that it is a model and not abstract."""
    from .models.shared.model import Model

    if not (isinstance(cls, type) and issubclass(cls, Model)):
        raise ValueError(f"{origin} is no model; expected a subclass of pyro_dgm.models.shared.model.Model")
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(vars(cls)["__abstractmethods__"]))
        raise ValueError(f"{origin} is abstract; it lacks {missing}")
    return cls


def build(
    name: str,
    settings: dict[str, Any],
    columns: int,
    seed: int,
    sizes: Mapping[str, Any] | None = None,
    labels: int = 0,
) -> Any:
    """An instance of the model of that name, for data of so many columns, the last of which may be of ``labels``.

    A model that cannot do without one of the ``sizes`` that the data tell (``Dataset.sizes``) gets it, if it is not among the
    settings.

    Raises:
        ValueError: there is no such model, it has no such option, or it refuses a value.
    """
    import pyro

    cls: Any = model(name)
    signatures.check(cls, settings, cls.__name__)
    if "visible" in signatures.options(cls):
        settings = {"visible": columns - cls.label_columns(settings, labels), **settings}
    told = {option: size for option, size in (sizes or {}).items() if option in signatures.missing(cls, settings)}
    pyro.set_rng_seed(check_seed(seed))
    return call(cls, {**settings, **told}, cls.__name__, columns)


def criterion(instance: Any, settings: dict[str, Any], visible: int) -> Any:
    """The objective of a model that these settings name; it keeps them, so that a run's configuration can repeat it.

    Raises:
        ValueError: the model's objective has no such option, or refuses a value.
    """
    objective = call(instance.objective, settings, objective_of(type(instance)), visible)
    objective.arguments = settings
    return objective


def objective_of(cls: type) -> str:
    """The name of a class's objective in messages."""
    return f"the objective of {cls.__name__}"


def call(function: Callable[..., Any], settings: dict[str, Any], name: str, columns: int = 1) -> Any:
    """Call a function with the settings that a user chose or that a file states.

    Args:
        function: a model's class, or a function that makes an objective.
        settings: its arguments, as plain data.
        name: the function's name in messages.
        columns: the number of columns of the data.

    Raises:
        ValueError: the function has no such setting, or refuses a value; a number that asks for more than the machine's memory.
    """
    signatures.check(function, settings, name)
    for option, asked in signatures.missing(function, settings).items():
        raise ValueError(
            f"{name} needs {option}, {signatures.words(asked.hint)}{': ' * bool(asked.text)}{asked.text.rstrip('.')}; give it "
            f"(--set {option}=...)"
        )
    check_memory({"visible": columns}, 1, name)
    check_memory(
        {option: value for option, value in settings.items() if option not in ("visible", "seed")}, columns, name
    )
    try:
        return function(**settings)
    except (TypeError, RuntimeError, MemoryError, ArithmeticError, LookupError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"{name} refused {signatures.shortened(settings)}: {reason}") from None
