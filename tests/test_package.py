"""The shape of the package: imports one way, light and without side effects, documents that are true."""

import ast
import functools
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import public_names
import pytest
import torch
from benchmarks import scale, speed

import pyro_dgm as dgm
from pyro_dgm import recipes, registry
from pyro_dgm.data import sources
from pyro_dgm.recipes import figure
from pyro_dgm.recipes.table import spread

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "pyro_dgm"
ORDER = [
    "energy",
    "compiled",
    "autoregressive",
    "mcmc",
    "objectives",
    "models",
    "evaluation",
    "train",
    "recipes",
    "commands",
    "cli",
]
LEAVES = ["data", "nets"]


def imports(path):
    """The parts of the package that a file imports, at the top or inside functions."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            full = [*base, *(node.module.split(".") if node.module else [])]
            names = [[*full, alias.name] for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        else:
            continue
        for name in names:
            if name[0] == "pyro_dgm" and len(name) > 1:
                yield name[1]


def part(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    own = part(path)
    for other in imports(path):
        if other == own:
            continue
        if own in LEAVES:
            assert other not in ORDER, f"{own} imports {other}"
        if own in ORDER and other in ORDER and {own, other} != {"commands", "cli"}:
            assert ORDER.index(other) < ORDER.index(own), f"{own} imports {other}"


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_import_is_light_and_lazy():
    heavy = ["jax", "numpyro", "lightning", "arviz", "matplotlib", "sklearn", "numba", "networkx.algorithms.coloring"]
    code = f"import sys, pyro; before = set(sys.modules); import pyro_dgm as dgm; dgm.RBM, dgm.VAE, dgm.fit, dgm.data; \
print([m for m in {heavy!r} if m in set(sys.modules) - before])"
    assert python(code) == "[]"


def test_import_has_no_side_effects():
    code = (
        "import torch, pyro, random; from torch.distributions import Distribution as D\n"
        "def look(): return (torch.get_rng_state().sum().item(), torch.get_num_threads(), torch.get_default_dtype(), "
        "D._Distribution__validate_args if hasattr(D, '_Distribution__validate_args') else D._validate_args, "
        "pyro.settings.get(), len(pyro.get_param_store()), random.getstate()[1][:3])\n"
        "a = look(); import pyro_dgm as dgm\n"
        "dgm.RBM, dgm.VAE, dgm.fit, dgm.log_likelihood, dgm.VectorizedMCMC; print(a == look())"
    )
    assert python(code) == "True"


def test_public_names_exist_and_are_documented():
    for name in dgm.__all__:
        value = getattr(dgm, name)
        assert value.__doc__, name
    with pytest.raises(AttributeError, match="it has"):
        dgm.Nothing  # noqa: B018


def test_the_stub_has_the_public_names():
    """Type checkers and editors read it, since names are imported at their first use."""
    assert public_names.STUB.read_text(encoding="utf-8") == public_names.stub(), "run python -m tests.public_names"


def test_the_readmes_test_command_is_the_one_that_ci_runs():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    command = re.search(r"<!-- test-command -->\n```bash\n(.*?)\n```", readme, re.S)[1]
    assert command.startswith("pip install -c constraints.txt")
    assert "pytest" in command
    assert "<!-- test-command -->" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_types():
    """Here, so that the other processor is not idle meanwhile."""
    found = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def test_the_readmes_code_runs():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", readme, re.S)[1]
    for slow, fast in (("range(20)", "range(1)"), ("epochs=20", "epochs=1"), ("=500", "=20")):
        assert slow in code
        code = code.replace(slow, fast)
    code = code.replace("num_chains=20)", "num_chains=20, disable_progbar=True)").replace(
        "epochs=1)", "epochs=1, progress=False)"
    )
    exec(compile(code, "README.md", "exec"), {})


def test_arguments_are_described_in_words():
    """A letter and a full stop would be shown as an empty list with that letter as its number."""
    sources = {path: path.read_text(encoding="utf-8") for path in (ROOT / "pyro_dgm").rglob("*.py")}
    assert not {
        path: found for path, text in sources.items() if (found := re.findall(r"^ +[\w, ]+: \w\.$", text, re.M))
    }


def test_the_citation_is_of_this_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (.*)$", citation, re.MULTILINE)[1] == dgm.__version__


def test_the_results_table_is_generated():
    page = (ROOT / "tutorials" / "results.md").read_text(encoding="utf-8")
    assert re.search(r"<!-- results -->\n(.*?)<!-- /results -->", page, re.S)[1].strip() == recipes.table()
    assert re.search(r"<!-- distances -->\n(.*?)<!-- /distances -->", page, re.S)[1].strip() == recipes.distances()


def test_what_is_compared_says_how_far_it_is_and_why():
    stored = recipes.recipes()
    assert not {row.name for row in figure.compared() if not stored[row.name].get("limits")}
    lines = {line.split("|")[1].strip(): line.split("|")[4].strip() for line in recipes.distances().splitlines()}
    rbm, error = recipes.results()["rbm-16-mnist"], recipes.results()["classrbm-hybrid-mnist"]
    assert lines["`rbm-16-mnist`"] == f"{rbm['figure']['value'] + 142.56:+.2f}"
    assert (
        lines["`classrbm-hybrid-mnist`"] == f"{1.28 - 100 * error['figure']['value']:+.2f}"
    )  # of errors fewer are better


def test_the_picture_of_results_is_of_the_stored_ones():
    """Its description holds the rows; ``python -m pyro_dgm.recipes --figure tutorials/pictures/results.png`` draws it anew."""
    picture = (ROOT / "tutorials" / "pictures" / "results.png").read_bytes()
    assert figure.described().encode("latin-1") in picture


def test_figures_of_other_protocols_share_no_axis():
    rows = {row.name: row for row in figure.compared()}
    assert rows["classrbm-hybrid-mnist"].published == 1.28
    assert rows["classrbm-hybrid-mnist"].axis.startswith("test error, %")
    assert rows["rnn-nade-jsb"].value == pytest.approx(recipes.results()["rnn-nade-jsb"]["details"]["nats_per_frame"])
    assert rows["dbn-binarized-mnist"].high == float("inf")
    bounds = {
        *("dbm-centred-binarized-mnist", "dbm-grown-binarized-mnist", "dbm-pretrained-binarized-mnist"),
        *(
            "dbm-3hl-binarized-mnist",
            "dbn-binarized-mnist",
            "draw-binarized-mnist",
            "draw-whole-binarized-mnist",
            "draw-redrawn-mnist",
        ),
        *(
            "iwae-stochastic-mnist",
            "iwae-two-layers-stochastic-mnist",
            "iwae-two-layers-long-stochastic-mnist",
            "iwae-long-stochastic-mnist",
            "iwae-longest-stochastic-mnist",
            "iwae-50-long-stochastic-mnist",
            "iwae-50-two-layers-long-stochastic-mnist",
            "vae-two-layers-stochastic-mnist",
        ),
        *("vae-stochastic-mnist", "vae-long-stochastic-mnist", "sbn-3hl-nvil-long-binarized-mnist"),
        *("diffusion-heartbeat", "dbm-redrawn-mnist", "dbn-redrawn-mnist"),
        *("sbn-3hl-rws-redrawn-mnist", "sbn-3hl-rws-long-redrawn-mnist", "sbn-3hl-rws-50-redrawn-mnist"),
        "sbn-3hl-rws-50-long-redrawn-mnist",
        *("sbn-3hl-rws-binarized-mnist", "sbn-3hl-wake-sleep-binarized-mnist", "sbn-3hl-nvil-binarized-mnist"),
    }  # what was published is called a bound, or marked as one
    assert {name for name, row in rows.items() if row.bound} == bounds & rows.keys()
    assert "vae-binarized-mnist" not in rows  # what was published is of bits drawn anew
    assert "crbm-mocap" not in rows  # a baseline, and no published figure
    for row in rows.values():
        space = recipes.results()[row.name]["figure"]["space"]
        assert row.axis.endswith(space)


def test_the_speed_table_is_generated():
    text = (ROOT / "tutorials" / "decisions" / "speed.md").read_text(encoding="utf-8")
    assert re.search(r"<!-- speed -->\n(.*?)<!-- /speed -->", text, re.S)[1].strip() == speed.table()


def test_recipes_go_on_with_the_model_and_data_of_those_they_start_from():
    known = recipes.recipes()
    starting = {name: recipe for name, recipe in known.items() if "start" in recipe}
    assert starting
    for name, recipe in starting.items():
        first = known[recipe["start"]]
        for key in ("model", "options", "data", "binarisation", "preprocessing", "train_on", "seed"):
            assert recipe.get(key) == first.get(key), (name, key)


def test_results_are_of_their_recipes():
    known = recipes.recipes()
    for name, result in recipes.results().items():
        assert name in known
        assert not result["fast"]
        assert result["command"] == f"pyro-dgm reproduce {name}"
        assert {"figure", "seed", "versions", "machine", "training_seconds"} <= set(result)


def test_other_seeds_are_of_their_recipes():
    known = recipes.recipes()
    for name, repeated in recipes.repeats().items():
        seeds = [known[name]["seed"], *(result["seed"] for result in repeated)]
        assert len(set(seeds)) == len(seeds)
        for result in repeated:
            assert not result["fast"]
            assert result["command"] == f"pyro-dgm reproduce {name} --seed {result['seed']}"


def test_the_spread_of_seeds_is_told_in_the_figure_s_unit():
    errors = [{"figure": {"kind": "test error", "value": value}} for value in (0.01, 0.02, 0.03)]
    assert spread(errors) == "of 3 seeds the mean is 2.00, the standard deviation 1"


def test_constraints_pin_what_the_project_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + [d for extra in project["optional-dependencies"].values() for d in extra]
    wanted = {re.split(r"[<>=\[]", w)[0] for w in wanted} - {"pyro-dgm"}
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.split("==")[0] for line in lines if "==" in line}
    assert wanted <= pinned


@pytest.fixture(scope="module")
def files_read_once():
    """Data sets stay in memory from recipe to recipe; no recipe writes into their tensors."""
    with pytest.MonkeyPatch.context() as patch:
        for name, (description, read) in sources._SOURCES.items():
            patch.setitem(sources._SOURCES, name, (description, functools.cache(read)))
        yield


@pytest.mark.usefixtures("short_anchor", "files_read_once")
@pytest.mark.parametrize("name", recipes.recipes())
def test_recipes_run_in_fast_mode(name, tmp_path, data_dir):
    result = recipes.reproduce(name, tmp_path, data_dir=data_dir, fast=True, progress=False)
    assert result["fast"]
    assert torch.isfinite(torch.tensor(result["figure"]["value"]))
    assert (tmp_path / f"{name}-fast" / "result.json").exists()


def test_another_seed_trains_on_the_same_rows(tmp_path, data_dir, capsys):
    """Bits are drawn from grey levels by the recipe's seed, and the weights by the one that is given."""
    from pyro_dgm.cli import main

    name, found = "rbm-features-mnist", {}
    for seed in (0, 1):
        options = ["--seed", str(seed), "--fast", "--out", str(tmp_path), "--data-dir", data_dir]
        main(["reproduce", name, *options])
        folder = tmp_path / (f"{name}-seed-1-fast" if seed else f"{name}-fast")
        assert str(folder) in capsys.readouterr().out
        found[seed] = json.loads((folder / "result.json").read_text())
    assert found[0]["command"] == f"pyro-dgm reproduce {name} --fast"
    assert found[1]["command"] == f"pyro-dgm reproduce {name} --seed 1 --fast"
    assert found[1]["last_epoch"]["loss"] != found[0]["last_epoch"]["loss"]
    sources = [json.loads((tmp_path / f"{name}{s}-fast" / "config.json").read_text()) for s in ("", "-seed-1")]
    assert sources[0]["data"] == sources[1]["data"]
    assert [config["training"]["seed"] for config in sources] == [0, 1]


def test_the_page_on_scale_is_generated():
    text = (ROOT / "tutorials" / "scale.md").read_text(encoding="utf-8")
    assert re.search(r"<!-- scale -->\n(.*?)<!-- /scale -->", text, re.S)[1].strip() == scale.table()


def test_registry_knows_the_names():
    assert {"rbm", "boltzmannmachine", "gaussianrbm", "spikeslabrbm", "vae"} <= set(registry.models())
    with pytest.raises(ValueError, match="rbm"):
        registry.model("rmb")


def test_every_file_of_the_package_is_packaged():
    """The results of recipes among them, of which the table is made; what the distribution adds to the package is named."""
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["pyro_dgm"]
    for path in (ROOT / "pyro_dgm").rglob("*"):
        if path.is_file() and path.suffix not in (".py", ".pyc", ".nbi", ".nbc"):
            name = path.relative_to(ROOT / "pyro_dgm")
            assert any(name.match(pattern) and len(name.parts) == pattern.count("/") + 1 for pattern in stated), name
    manifest = (ROOT / "MANIFEST.in").read_text()
    for name in ("CHANGELOG.md", "CONTRIBUTING.md", "constraints.txt", "graft tests", "graft tutorials"):
        assert name in manifest
