"""Models of a user's own, outside the package: the ones that CONTRIBUTING shows, through everything that a run can go through."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pyro
import pytest
import torch

import pyro_dgm as dgm
from pyro_dgm import registry
from pyro_dgm.cli import main

ROOT = Path(__file__).parents[1]
FAST = ["--data", "digits", "--epochs", "1", "--batch-size", "500", "--quiet"]


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """The file of CONTRIBUTING's example."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    part = re.search(r"<!-- own-model -->(.*?)<!-- /own-model -->", text, re.S)[1]
    path = tmp_path_factory.mktemp("own") / "mine.py"
    path.write_text(re.search(r"```python\n(.*?)```", part, re.S)[1], encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "fewer", "warmup"), [("SpinRBM", ["--method", "ais"], ["--warmup", "2"]), ("BitPCA", [], [])]
)
def test_everything_works_from_the_shell(mine, tmp_path, capsys, name, fewer, warmup):
    run, model = str(tmp_path / "run"), ["--model", f"{mine}:{name}"]
    assert main(["fit", f"{mine}:{name}", "--out", run, *FAST]) == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["model"] == name.lower()
    assert config["origin"] == f"{mine}:{name}"
    assert main(["fit", f"{mine}:{name}", "--out", run, "--resume", *FAST, "--epochs", "2"]) == 0
    for command in (
        ["evaluate", run, "--json", *fewer],
        ["sample", run, "-n", "3"],
        ["impute", run, "-n", "2"],
        ["diagnose", run, "--draws", "10", "--chains", "2", *warmup],
    ):
        assert main([*command, *model]) == 0, capsys.readouterr().err
    capsys.readouterr()
    assert main(["sample", run]) == 2
    assert f"nothing is imported because a run says so; name it: dgm.load(run, model='{mine}:{name}')" in (
        capsys.readouterr().err
    )
    assert main(["sample", run, "--model", "rbm"]) == 2
    assert "give the class that it was trained with" in capsys.readouterr().err


def test_two_processes_train_one(mine, tmp_path):
    run = tmp_path / "run"
    assert main(["fit", f"{mine}:SpinRBM", "--out", str(run), *FAST, "--devices", "2"]) == 0
    assert dgm.load(run, model=f"{mine}:SpinRBM").hidden == 20


def test_classes_are_loaded_by_being_given(mine, tmp_path):
    cls = registry.model(f"{mine}:SpinRBM")
    assert registry.model(f"{mine}:SpinRBM") is cls, "a file is run once"
    model, x = cls.example()
    dgm.fit(model, x, epochs=1, progress=False, out=tmp_path / "run")
    again = dgm.load(tmp_path / "run", model=cls)
    assert torch.equal(again.weight, model.weight)
    with pytest.raises(ValueError, match="nothing is imported"):
        dgm.load(tmp_path / "run")


class RBM(dgm.RBM):
    """A user's class of the same name as one of the package's."""


def test_a_class_does_not_come_back_as_another_of_its_name(tmp_path):
    model, x = RBM.example()
    dgm.fit(model, x, epochs=1, progress=False, out=tmp_path / "run")
    with pytest.raises(ValueError, match=f"the run is of {__name__}:RBM, which is no model of this package"):
        dgm.load(tmp_path / "run")
    with pytest.raises(ValueError, match="not of rbm"):
        dgm.load(tmp_path / "run", model=dgm.RBM)
    assert type(dgm.load(tmp_path / "run", model=RBM)) is RBM
    other, x = dgm.RBM.example()
    with pytest.raises(ValueError, match="resume with the same model"):
        dgm.fit(other, x, epochs=2, progress=False, out=tmp_path / "run", resume=True)
    dgm.fit(other, x, epochs=1, progress=False, out=tmp_path / "plain")
    with pytest.raises(ValueError, match="give the class that it was trained with"):
        dgm.load(tmp_path / "plain", model=RBM)


def test_installed_packages_announce_theirs(mine, tmp_path, monkeypatch):
    class Entry:
        name, value = "bitpca", "mine:BitPCA"

        def load(self):
            return __import__("mine").BitPCA

    monkeypatch.syspath_prepend(str(mine.parent))
    monkeypatch.setattr(registry, "entry_points", lambda group: [Entry()] if group == "pyro_dgm.models" else [])
    registry.models.cache_clear()
    try:
        assert registry.models()["bitpca"].__name__ == "BitPCA"
        assert main(["fit", "bitpca", "--out", str(tmp_path / "run"), *FAST]) == 0
        assert main(["sample", str(tmp_path / "run"), "-n", "2"]) == 0
        assert type(dgm.load(tmp_path / "run")).__name__ == "BitPCA"
    finally:
        registry.models.cache_clear()
        sys.modules.pop("mine", None)


def test_what_is_no_model_is_refused(tmp_path, capsys):
    path = tmp_path / "bad.py"
    path.write_text("import pyro_dgm.models.shared as s\nclass Half(s.Model): pass\nThing = 3\n")
    broken = tmp_path / "broken.py"
    broken.write_text("import nothing_of_that_name\n")
    for name, message in (
        (f"{path}:Half", "is abstract; it lacks check_data"),
        (f"{path}:Thing", "is no model; expected a subclass"),
        (f"{path}:Other", "has no 'Other'"),
        (f"{broken}:Half", "cannot be run (ModuleNotFoundError"),
        (f"{tmp_path}/none.py:Half", "there is no file"),
    ):
        assert main(["fit", name, *FAST]) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(ValueError, match="is no model; expected a subclass"):
        registry.of_run("x", None, int)


def test_a_file_may_move_and_have_neighbours(mine, tmp_path, capsys):
    folder = tmp_path / "v 2.1"
    folder.mkdir()
    (folder / "helper.py").write_text("SIZE = 20\n")
    moved = folder / "my.model.py"
    moved.write_text(
        mine.read_text()
        .replace("hidden=20", "hidden=SIZE")
        .replace("import pyro\n", "import pyro\nfrom helper import SIZE\n")
    )
    run = str(tmp_path / "run")
    assert main(["fit", f"{mine}:SpinRBM", "--out", run, *FAST]) == 0
    assert main(["sample", run, "-n", "2", "--model", f"{moved}:SpinRBM"]) == 0
    assert main(["fit", f"{moved}:SpinRBM", "--out", run, "--resume", *FAST, "--epochs", "2", "--devices", "2"]) == 2
    assert "was trained by 1 process" in capsys.readouterr().err
    assert main(["fit", f"{moved}:SpinRBM", "--out", run, "--resume", *FAST, "--epochs", "2"]) == 0
    assert str(folder) not in sys.path


def test_entry_points_that_re_export_or_fail(mine, tmp_path, monkeypatch):
    class Entry:
        def __init__(self, name, value, cls=None):
            self.name, self.value, self.cls = name, value, cls

        def load(self):
            if self.cls is None:
                raise ModuleNotFoundError("No module named 'nowhere'")
            return self.cls

    cls = registry.model(f"{mine}:BitPCA")
    entries = [Entry("broken", "nowhere:X"), Entry("bitpca", "plug:BitPCA", cls)]
    monkeypatch.setattr(registry, "entry_points", lambda group: entries)
    registry.models.cache_clear()
    try:
        model, x = cls.example()
        dgm.fit(model, x, epochs=1, progress=False, out=tmp_path / "run")
        assert type(dgm.load(tmp_path / "run")) is cls
        assert registry.model("bitpca") is cls
        registry.models.cache_clear()
        with pytest.warns(UserWarning, match="broken = nowhere:X cannot be loaded"):
            assert "bitpca" in registry.models()
    finally:
        registry.models.cache_clear()


def test_a_loaded_model_draws_without_dropout(tmp_path):
    model, x = RBM.example()
    dgm.fit(model, x, epochs=1, progress=False, out=tmp_path / "run")
    assert not dgm.load(tmp_path / "run", model=RBM).training


def test_a_program_that_does_not_observe_the_rows_is_refused_before_training(tmp_path):
    def own(name, observed):
        class Mine(dgm.VAE):
            def generate(self, x=None, size=None):
                with self.data_plate(x, size):
                    z = pyro.sample("z", pyro.distributions.Normal(torch.zeros(self.latent), 1).to_event(1))
                    logits = self.decoder(z)
                    law = pyro.distributions.Bernoulli(logits=logits).to_event(1)
                    return pyro.sample(name, law, obs=x if observed else None)

        return Mine(6, latent=2, hidden=(4,))

    x = torch.randint(0, 2, (20, 6)).float()
    for name, observed, error in (
        ("rows", True, "no site 'x', which is that of the rows; its sites: 'z', 'rows'. Name the observed site so"),
        ("x", False, "the site 'x' of Mine is drawn and not observed, so that nothing would be learned"),
    ):
        with pytest.raises(ValueError, match=re.escape(error)):
            dgm.fit(own(name, observed), x, out=tmp_path / name, progress=False)
        assert not (tmp_path / name).exists()
    dgm.fit(own("x", True), x, epochs=1, progress=False)
