"""Build environments that the gate does not have, and try the package in them; by hand, before a release.

``python -m tests.environments distributions newest lowest`` (or some of them):

- ``distributions``: the sdist and the wheel made from it; the wheel in a bare environment, without extras, runs the demo, a
  user's typed program and the commands of the core, and refuses others in one line.
- ``newest``: every Python of 3.12 and later on the path (or ``--python``), with the newest versions of everything (ArviZ 1.x),
  runs the tests that touch ArviZ.
- ``lowest``: the lowest versions that ``pyproject.toml`` allows, by ``uv``, run the same tests.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
TESTS = [
    "tests/evaluation/test_idata.py", "tests/evaluation/test_pictures.py", "tests/evaluation/test_normalisers.py",
    "tests/mcmc/test_model_chain.py", "tests/mcmc/test_chain_runs.py", "tests/models/test_vae.py", "tests/test_cli_runs.py",
]  # fmt: skip
PROGRAM = """\
import pyro_dgm as dgm

vae = dgm.VAE(64, latent=3)
digits = dgm.data.load("digits", binarisation="threshold")
run = dgm.fit(vae, digits, epochs=1, progress=False)
print(dgm.log_likelihood(vae, digits.test.x).value, run.history[-1]["epoch"])


def wrong() -> dgm.VAE:
    return dgm.VAE(64, latnt=3)  # type: ignore[call-arg]
"""


COMMANDS = [
    f"{verb} {model}"
    for model in ("rbm", "vae")
    for verb in ("evaluate", "sample", "impute", "condition", "rank --rows digits", "export")
]
"""Commands of the core on runs of their names."""

REFUSED = [
    "diagnose rbm", "report rbm", "turing rbm", "export rbm --onnx", "sample rbm --format parquet", "sample rbm --format png",
    "evaluate rbm --engine jax", "fit rbm --data natural_patches", "fit rbm --logger tensorboard --out none",
]  # fmt: skip
"""Commands that need extras."""


def refused(*words: str | Path, folder: Path) -> None:
    """Run a command that must say in one line which extra it needs."""
    done = subprocess.run([str(word) for word in words], cwd=folder, capture_output=True, text=True, check=False)
    print("+", *words, done.stderr, flush=True)
    if done.returncode != 2 or 'pip install "pyro-dgm[' not in done.stderr or done.stderr.count("\n") != 1:
        sys.exit(f"expected one line that names an extra, and status 2; got {done.returncode}")


def call(*words: str | Path, folder: Path = ROOT) -> None:
    """Run a command, and stop with its exit status if it fails."""
    print("+", *words, flush=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([str(word) for word in words], cwd=folder, env=environment, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def environment(folder: Path, python: str = sys.executable) -> Path:
    """A fresh virtual environment; its Python."""
    call(python, "-m", "venv", folder)
    return folder / "bin" / "python"


def distributions(folder: Path) -> None:
    tools = environment(folder / "tools")
    call(tools, "-m", "pip", "install", "-q", "build")
    call(tools, "-m", "build", "--outdir", folder / "dist", ROOT)
    wheel, sdist = (next((folder / "dist").glob(ending)) for ending in ("*.whl", "*.tar.gz"))
    bare = environment(folder / "bare")
    call(bare, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel, "mypy")
    (folder / "program.py").write_text(PROGRAM)
    for words in (
        ["-m", "pyro_dgm", "demo"],
        ["program.py"],
        ["-m", "mypy", "--strict", "--warn-unused-ignores", "program.py"],
    ):
        call(bare, *words, folder=folder)
    for model in ("rbm", "vae"):
        call(bare, "-m", "pyro_dgm", "fit", model, "--epochs", "1", "--out", model, "--quiet", folder=folder)
    for command in COMMANDS:
        call(bare, "-m", "pyro_dgm", *command.split(), "--quiet", folder=folder)
    for command in REFUSED:
        refused(bare, "-m", "pyro_dgm", *command.split(), folder=folder)
    call(bare, "-m", "pip", "install", "-q", "--no-deps", "--force-reinstall", sdist)
    call(bare, "-m", "pyro_dgm", "list", folder=folder)


def runs(python: str) -> bool:
    """Whether a Python is there; a name on the path may be that of a version manager, which has no such version in use."""
    return shutil.which(python) is not None and not subprocess.run([python, "--version"], check=False).returncode


def newest(folder: Path, pythons: list[str]) -> None:
    for number, python in enumerate(pythons or [name for name in ("python3.12", "python3.13") if runs(name)]):
        inside = environment(folder / f"newest{number}", python)
        call(inside, "-m", "pip", "install", "-q", f"{ROOT}[test]")
        call(inside, "-m", "pytest", "-q", *TESTS)


def lowest(folder: Path) -> None:
    tools = environment(folder / "uv")
    call(tools, "-m", "pip", "install", "-q", "uv")
    inside = environment(folder / "lowest")
    call(
        tools, "-m", "uv", "pip", "install", "-q", "--python", inside, "--resolution", "lowest-direct", f"{ROOT}[test]"
    )
    call(inside, "-m", "pytest", "-q", *TESTS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="+", choices=("distributions", "newest", "lowest"))
    parser.add_argument("--python", action="append", default=[], help="a Python for newest; may be given again")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for what in options.what:
            if what == "newest":
                newest(Path(folder), options.python)
            else:
                {"distributions": distributions, "lowest": lowest}[what](Path(folder))
    print("all passed")


if __name__ == "__main__":
    main()
