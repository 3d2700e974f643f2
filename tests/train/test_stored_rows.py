"""Training on rows that stay in their file: the same weights to the bit, runs that go on, commands that read what they need."""

import json

import numpy as np
import pytest
import torch

import pyro_dgm as dgm
from pyro_dgm.cli.main import main
from pyro_dgm.data import reading, stored
from pyro_dgm.data.stored import StoredRows

pytestmark = pytest.mark.filterwarnings("error:.*stay in their file")

BITS = (np.random.default_rng(0).random((90, 12)) < 0.3).astype(np.uint8)
FIT = {"batch_size": 9, "progress": False}


@pytest.fixture(params=["bytes.npy", "packed.npz"])
def path(request, tmp_path):
    path = tmp_path / request.param
    if path.suffix == ".npy":
        np.save(path, BITS)
    else:
        np.savez(path, train=np.packbits(BITS, axis=1), train_width=12)
    return path


def weights(model):
    return torch.cat([value.flatten() for value in model.state_dict().values()])


def fitted(make, data, **options):
    torch.manual_seed(0)
    model = make()
    dgm.fit(model, data, **{**FIT, "epochs": 2, **options})
    return weights(model)


MODELS = {
    "RBM": lambda: dgm.RBM(12, 5),
    "double": lambda: dgm.RBM(12, 5).double(),
    "VAE": lambda: dgm.VAE(12, latent=2, hidden=(4,)),
    "OrderlessNADE": lambda: dgm.OrderlessNADE(12, hidden=(4,)),
    "GSN": lambda: dgm.GSN(12, hidden=(4,)),
    "GMMN": lambda: dgm.GMMN(12, latent=2, hidden=(4,)),
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_weights_are_the_same_to_the_bit(make, tmp_path, monkeypatch):
    np.savez(tmp_path / "packed.npz", train=np.packbits(BITS, axis=1), train_width=12)
    monkeypatch.setattr(stored, "AT_ONCE", 12 * 25)
    inside = fitted(make, tmp_path / "packed.npz")
    monkeypatch.setattr(reading, "LARGEST_READ", 0)
    assert torch.equal(fitted(make, tmp_path / "packed.npz"), inside)
    assert not torch.equal(fitted(make, tmp_path / "packed.npz", seed=1), inside)


def test_a_run_goes_on_with_its_file_alone(path, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "LARGEST_READ", 0)
    make, out = MODELS["RBM"], tmp_path / "run"
    through = fitted(make, path, epochs=3)
    fitted(make, path, epochs=1, out=out)
    assert torch.equal(fitted(make, path, epochs=3, out=out, resume=True), through)
    other = BITS.copy()
    other[40, 3] ^= 1
    np.save(tmp_path / "other.npy", other)
    with pytest.raises(ValueError, match="trained on data with other rows, or in another order"):
        fitted(make, tmp_path / "other.npy", epochs=4, out=out, resume=True)


def test_commands_read_what_they_need(tmp_path, monkeypatch, capsys):
    path = tmp_path / "bytes.npy"
    np.save(path, BITS)
    monkeypatch.setattr(reading, "LARGEST_READ", 0)
    run = str(tmp_path / "run")
    assert main(["fit", "rbm", "--data", str(path), "--set", "hidden=4", "--epochs", "1", "--out", run, "--quiet"]) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["data"]["source"] == str(path)
    for verb in (["impute", run], ["sample", run, "-n", "4"]):
        assert main([*verb, "--quiet"]) == 0, capsys.readouterr().err
    monkeypatch.setattr(stored, "SPREAD", 3)
    capsys.readouterr()
    assert main(["evaluate", run, "--json", "--quiet"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["n"] == 3
    assert told.err == f"pyro-dgm: 3 of 9 rows are evaluated, from all over {path}; --data names other rows\n"
    assert main(["fit", "--config", run, "--out", run, "--resume", "--epochs", "2", "--quiet"]) == 0


@pytest.mark.filterwarnings("default:.*stay in their file")
def test_figures_of_all_rows_say_what_they_need_before_they_begin(tmp_path, monkeypatch):
    np.save(tmp_path / "bytes.npy", BITS)
    model, inside = dgm.RBM(12, 4), dgm.data.load(tmp_path / "bytes.npy")
    monkeypatch.setattr(reading, "LARGEST_READ", 0)
    data = dgm.data.load(tmp_path / "bytes.npy")
    with pytest.warns(UserWarning, match=r"9 rows of 12 columns stay in their file, but this needs all") as told:
        figure = dgm.log_likelihood(model, data.test)
    assert len(told) == 1
    assert figure == dgm.log_likelihood(model, inside.test)
    monkeypatch.setattr(stored, "memory", lambda: 800)
    with pytest.raises(ValueError, match=r"needs all of them in memory, 4.32e-07 GB; give some rows"):
        model.evidence(data.test.x)
    assert dgm.log_likelihood(model, data.test[:4]).n == 4


def test_rows_that_no_model_takes_are_found_block_by_block(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "LARGEST_READ", 0)
    monkeypatch.setattr(stored, "AT_ONCE", 12 * 10)
    rows = BITS.astype(np.float32)
    rows[57, 2] = 0.5
    np.savez(tmp_path / "grey.npz", train=rows, valid=rows[:5], test=rows[:5])
    with pytest.raises(ValueError, match=r"got the value 0.5.*of 'train', counted from its row 50 in the file's order"):
        dgm.fit(dgm.RBM(12, 4), tmp_path / "grey.npz", **FIT)
    rows[57, 2] = np.nan
    np.savez(tmp_path / "holes.npz", train=rows, valid=rows[:5], test=rows[:5])
    with pytest.raises(ValueError, match=r"GMMN got NaN.* row 7 .*of 'train', counted from its row 50"):
        dgm.fit(dgm.GMMN(12, latent=2), tmp_path / "holes.npz", **FIT)
    assert isinstance(dgm.data.load(tmp_path / "holes.npz").train.x, StoredRows)


def test_only_some_rows_start_and_judge_a_model_of_many(monkeypatch):
    monkeypatch.setattr(stored, "SPREAD", 8)
    seen = {}

    class Watching(dgm.RBM):
        def initialise(self, x):
            seen["start"] = x
            super().initialise(x)

        def progress(self, train, valid):
            seen["valid"] = valid
            return super().progress(train, valid)

    x = torch.from_numpy(BITS).float()
    dgm.fit(Watching(12, 3), x, epochs=1, **FIT)
    assert torch.equal(seen["start"], x[:81:11])
    assert torch.equal(seen["valid"], x[81::2])
