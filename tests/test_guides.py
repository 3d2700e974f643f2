"""The code on the pages of the documentation runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "tutorials"
PAGES = [SOURCE / "tour.md", *sorted((SOURCE / "guides").glob("*.md"))]
FEWER = (("epochs=20", "epochs=1"), ("num_samples=200", "num_samples=20"), ("particles=500", "particles=20"))


def code_of(path):
    """The blocks of a page one after another, with long trainings cut short."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.S))
    for slow, fast in FEWER:
        code = code.replace(slow, fast)
    return code


IN_PROCESS = [path for path in PAGES if code_of(path) and "__main__" not in code_of(path)]


@pytest.mark.parametrize("path", IN_PROCESS, ids=lambda path: path.stem)
def test_the_code_of_a_page_runs(path, tmp_path, monkeypatch):
    """In an empty folder, with no name of another page."""
    monkeypatch.chdir(tmp_path)
    exec(compile(code_of(path), path.name, "exec"), {"__name__": path.stem})


@pytest.mark.slow
def test_the_page_on_processes_runs_as_a_script(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(code_of(SOURCE / "guides" / "processes.md"), encoding="utf-8")
    done = subprocess.run([sys.executable, script.name], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_every_page_of_the_guides_has_code():
    assert {path.stem for path in PAGES} - {path.stem for path in IN_PROCESS} == {"index", "processes"}
