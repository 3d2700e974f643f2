"""The tutorial notebooks run, and what is committed was really executed."""

import ast
import base64
import importlib
import re
from functools import reduce
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "tutorials"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
names = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_there_are_tutorials():
    assert {
        "beyond-pairs",
        "boltzmann-machines",
        "deep-machines",
        "energy-based-models",
        "directed-models",
        "belief-networks",
        "autoencoders",
        "autoregressive-networks",
        "sequences",
        "stochastic-back-propagation",
        "games-and-moments",
        "chains-that-learn-to-generate",
    } <= {path.stem for path in NOTEBOOKS}


def named_in(code):
    """The names of the package in a piece of code: dotted, after ``dgm`` or imported from a module."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pyro_dgm"):
            yield from ((node.module, alias.name) for alias in node.names)
        if isinstance(node, ast.Attribute) and re.match(r"dgm\.[\w.]+$", name := ast.unparse(node)):
            yield "pyro_dgm", name.removeprefix("dgm.")


@names
def test_answers_to_exercises_use_names_that_there_are(path):
    """They are text, which no cell runs."""
    cells = nbformat.read(path, as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    for code in re.findall(r"```python\n(.*?)```", text, re.S):
        for module, name in named_in(code):
            reduce(getattr, name.split("."), importlib.import_module(module))


AFRESH = """
import os, warnings
import matplotlib.pyplot, pyro, torch
from matplotlib_inline.config import InlineBackend
InlineBackend.instance(parent=get_ipython()).print_figure_kwargs = {{"bbox_inches": None}}
matplotlib.pyplot.close("all")
matplotlib.rcdefaults()
pyro.clear_param_store()
torch.set_default_dtype(torch.float32)
torch.set_grad_enabled(True)
warnings.resetwarnings()
os.chdir({folder!r})
%reset -f
__import__("gc").freeze()
"""
"""What a kernel runs before a notebook: names, figures, parameters and folder of the one before are gone, and imports stay.

Pictures are drawn at their size, since cutting them to what is on them draws them twice; and what was imported is no longer
searched for garbage.
"""


@pytest.fixture(scope="module")
def kernel():
    """A manager of one kernel and its client, for all notebooks: imports take as long as the cells of one of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYRO_DGM_FAST", "1")
        manager, client = start_new_kernel(kernel_name="python3")
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


@pytest.mark.slow
@names
def test_every_cell_runs(path, kernel, tmp_path):
    """In fast mode, with no name of another notebook and in an empty folder; an error in a cell raises here."""
    notebook = nbformat.read(path, as_version=4)
    first = nbformat.v4.new_code_cell(AFRESH.format(folder=str(tmp_path)))
    notebook.cells.insert(0, first)
    client = NotebookClient(notebook, km=kernel[0], timeout=300)
    client.kc = kernel[1]
    client.execute()
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    assert not [o for cell in notebook.cells for o in cell.get("outputs", ()) if o.output_type == "error"]


def test_nothing_is_left_of_the_notebook_before(kernel, tmp_path):
    def run(*sources):
        cells = [nbformat.v4.new_code_cell(source) for source in sources]
        client = NotebookClient(nbformat.v4.new_notebook(cells=cells), km=kernel[0], timeout=60)
        client.kc = kernel[1]
        return client.execute().cells

    run("left = 1", "import pyro; pyro.param('weight', pyro.distributions.Normal(0, 1).sample())")
    (_, found) = run(
        AFRESH.format(folder=str(tmp_path)),
        "import os, pyro; print('left' in globals(), len(pyro.get_param_store()), os.getcwd())",
    )
    assert found.outputs[0].text.split() == ["False", "0", str(tmp_path)]


@names
def test_committed_outputs(path):
    """Executed in order, without errors or warnings, with pictures, and without a trace of the machine."""
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 4
    assert path.stat().st_size < 1_500_000
    for output in outputs:
        for text in (output.get("text", ""), *(v for k, v in output.get("data", {}).items() if k.startswith("text/"))):
            assert not re.search(r"(?<![\w.])/(tmp|work|root|home)\b", text), text


def pictures_of(cells):
    return [o["data"]["image/png"] for cell in cells for o in cell.outputs if "image/png" in o.get("data", {})]


CAPTION = re.compile(r"\*(?!Fig)[^*\n]{15,}\*(\n\n|$)")
"""A paragraph in italics, on a line of its own and without a number."""


@names
def test_every_picture_has_a_caption(path):
    """Below it: the first paragraph of the text that follows. One caption is for all pictures of a cell."""
    cells = nbformat.read(path, as_version=4).cells
    drawn = [place for place, cell in enumerate(cells) if cell.cell_type == "code" and pictures_of([cell])]
    assert not [place for place in drawn if cells[place + 1].cell_type != "markdown"]
    assert not [place for place in drawn if not CAPTION.match(cells[place + 1].source)]


@names
def test_every_notebook_opens_with_a_picture_and_ends_with_hidden_answers(path):
    """The picture is one of the notebook's own, as it came out when the notebook was last run."""
    cells = nbformat.read(path, as_version=4).cells
    opening, ending = cells[0].source, cells[-1].source
    title = re.search(r"!\[.+?\]\((.+?)\)", opening)
    assert title, "the first cell has no picture"
    assert (FOLDER / title[1]).read_bytes() in [base64.b64decode(found) for found in pictures_of(code_cells(path))]
    assert "We shall" in opening
    assert re.search(r"Afterwards you can\n\n\* ", opening)
    assert "## Exercise" in ending
    assert ending.count("<details>\n<summary>") == ending.count("</details>") > 0
    assert not re.search("<summary>[^<]*[Hh]int", ending)
