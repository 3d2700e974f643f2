"""Machines on rows with missing values: sums and gradients against enumeration, training, files and refusals."""

import math

import numpy as np
import pytest
import torch
from oracles import boltzmann as oracle

import pyro_dgm as dgm
from pyro_dgm.cli.main import main
from pyro_dgm.energy import known_entries
from pyro_dgm.energy.known_entries import known_log_sum

NAN = math.nan


def with_holes(x, share=0.4, seed=0):
    holes = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed)) < share
    holes[:, 0] &= ~holes.all(1)
    return torch.where(holes, NAN, x)


def log_known(model, x):
    """log p of the known entries, by listing all rows: ``rows``, with its gradient."""
    dist = model()
    states = dist.enumerate_support()
    fits = ((states == x.unsqueeze(1)) | x.isnan().unsqueeze(1)).all(2)
    return torch.where(fits, dist.log_prob(states), -math.inf).logsumexp(1)


def finite_machines():
    yield "mixture", dgm.MixtureRBM.example()
    yield "deep", dgm.DBM.example()
    yield "convolutional", dgm.ConvolutionalRBM.example()
    yield "rbm", dgm.RBM.example()
    yield "general", dgm.BoltzmannMachine.example()


@pytest.mark.parametrize(
    ("name", "example"), list(finite_machines()), ids=lambda value: value if type(value) is str else ""
)
def test_evidence_of_known_entries_is_the_sum_over_the_others(name, example):
    model, x = example
    x = with_holes(x)
    torch.testing.assert_close(model.evidence(x).values, log_known(model, x).detach(), atol=2e-5, rtol=0)
    figure = dgm.log_likelihood(model, x, space="toy")
    assert (figure.kind, figure.method) == ("exact", "enumeration")
    assert "of the values missing" in str(figure)


def test_both_lists_of_states_give_the_same_sums():
    model, x = dgm.RBM.example()
    x = with_holes(x)
    machine = model().machine
    sums = [f(machine, "visible", x) for f in (known_entries._listing_others, known_entries._listing_entries)]
    torch.testing.assert_close(*[s.detach() for s in sums])


def test_real_columns_are_integrated_out():
    """Against the trapezoidal rule over the one missing value, in which a machine's density is smooth and light-tailed."""
    model, x = dgm.GaussianRBM.example()
    x = x[:4].clone()
    x[:, 1] = NAN
    grid = torch.linspace(-30, 30, 6001)
    rows = x.unsqueeze(1).repeat(1, len(grid), 1)
    rows[:, :, 1] = grid
    with torch.no_grad():
        whole = model().log_prob(rows).double().exp().sum(1).mul(0.01).log()
    torch.testing.assert_close(model.evidence(x).values.double(), whole, atol=1e-4, rtol=0)
    whole = dgm.SpikeSlabRBM.example()
    with pytest.raises(ValueError, match=r"no list of states.*evaluate complete rows"):
        dgm.log_likelihood(whole[0], with_holes(whole[1]))
    product = dgm.ProductOfT.example()
    with pytest.raises(ValueError, match="evaluated on complete ones"):
        dgm.log_likelihood(product[0], with_holes(product[1]))


def test_where_nothing_can_be_listed_both_sums_are_annealed(monkeypatch):
    model, x = dgm.RBM.example()
    x = with_holes(x)
    exact = dgm.log_likelihood(model, x, "toy")
    monkeypatch.setattr(known_entries, "LARGEST", 0.0)
    torch.manual_seed(0)
    figure = dgm.log_likelihood(model, x, "toy", method="ais", chains=100, temperatures=100)
    assert figure.kind == "estimate"
    assert abs(figure.value - exact.value) < 5 * figure.stderr_estimator + 1e-5
    assert figure.lower <= exact.value <= figure.upper
    with pytest.raises(ValueError, match="use method='ais'"):
        dgm.log_likelihood(model, x, "toy", method="exact")
    with pytest.raises(ValueError, match="a bound for complete rows"):
        dgm.log_likelihood(model, x, "toy", method="raise")


SWEEPS = 40
ROWS = torch.tensor([[1, NAN, 0, NAN, 1], [NAN, NAN, 1, 0, NAN], [0, 1, NAN, 1, 1], [1, 1, 0, 0, 1]])


def small():
    return oracle.randomise(dgm.RBM(5, 3), torch.Generator().manual_seed(4), 1.0)


def gradients(model, loss):
    return dict(zip(dict(model.named_parameters()), torch.autograd.grad(loss, list(model.parameters())), strict=True))


def test_chains_that_fill_in_come_near_the_law_given_the_known_values():
    """After SWEEPS sweeps from the biases, by the explicit matrix of a clamped sweep: its distance is below the gradients'
    tolerance, of some 1e-2."""
    model = small()
    table = oracle.of_rbm(model)
    for row in ROWS[:3]:
        known = [u for u in range(5) if not row[u].isnan()]
        fits = (table.states[:, known] == row[known].numpy()).all(1)
        law = np.where(fits, table.p, 0) / table.p[fits].sum()
        start = np.where(fits, np.exp(table.states @ table.b), 0)
        sweep = table.transition(oracle.unit_colours(model), known)
        end = (start / start.sum()) @ np.linalg.matrix_power(sweep, SWEEPS)
        assert 0.5 * np.abs(end - law).sum() < 1e-4


@pytest.mark.parametrize("fill", ["drawn", "zero", "mean"])
def test_the_gradient_is_that_of_the_known_entries(fill):
    """Its mean over batches against the gradient of the listed likelihood. Values that are put in by hand must fail."""
    model = small()
    exact = gradients(model, -log_known(model, ROWS).mean())
    objective = dgm.NegativePhaseObjective(dgm.ExactNegativePhase(), missing_sweeps=SWEEPS)
    objective.attach(model)
    x = ROWS.repeat(250, 1)
    if fill == "zero":
        x = x.nan_to_num()
    if fill == "mean":
        x = torch.where(x.isnan(), ROWS.nanmean(0), x)
        objective.loss = lambda rows: (model().free_energy(rows) + model().exact_log_partition()).mean()
    torch.manual_seed(0)
    blocks = [gradients(model, objective.loss(x)) for _ in range(30 if fill == "drawn" else 2)]
    blocks = {name: torch.stack([block[name] for block in blocks]) for name in exact}
    errors = {name: (b.mean(0) - exact[name]).abs() for name, b in blocks.items()}
    # Six standard errors of the mean of thirty batches; single precision is far below.
    within = all((errors[n] < 6 * b.std(0) / len(b) ** 0.5 + 1e-4).all() for n, b in blocks.items())
    assert within == (fill == "drawn")
    assert max(float((b.std(0) / len(b) ** 0.5).max()) for b in blocks.values()) < 0.01


def copies(rows, seed):
    """Rows of 12 bits: four fair coins, each shown three times with an error in ten."""
    generator = torch.Generator().manual_seed(seed)
    coins = torch.randint(0, 2, (rows, 4), generator=generator).float().repeat(1, 3)
    wrong = torch.rand(rows, 12, generator=generator) < 0.1
    return torch.where(wrong, 1 - coins, coins)


@pytest.fixture(scope="module")
def fits():
    """Test log-likelihoods of one training on complete rows, on rows with 30 % missing, and with zeros there."""
    train, test = copies(1000, 0), copies(1000, 1)
    holes = with_holes(train, 0.3)
    sets = {"complete": train, "missing": holes, "zero": holes.nan_to_num()}
    found = {}
    for name, x in sets.items():
        torch.manual_seed(0)
        model = oracle.randomise(dgm.RBM(12, hidden=6), torch.Generator().manual_seed(0), 0.3)
        objective = model.objective(kind="exact")
        run = dgm.fit(model, x, objective=objective, epochs=20, batch_size=100, learning_rate=0.1, progress=False)
        assert all(math.isfinite(v) for row in run.history for v in row.values())
        found[name] = float(dgm.log_likelihood(model, test).value)
    return found


def test_training_on_incomplete_rows_comes_near_that_on_complete_ones(fits):
    """70 % of the values tell the 60 parameters half of what all tell, which costs some 60 / 2 / 500 = 0.06 nats a row, for an
    error that doubles. Zeros put in by hand cost dependences, worth ten times that."""
    loss = {name: fits["complete"] - value for name, value in fits.items()}
    assert loss["missing"] < 0.15
    assert loss["zero"] > 0.4


@pytest.mark.parametrize("cls", [dgm.GaussianRBM, dgm.ProductOfT])
def test_real_values_are_drawn_given_the_known_ones(cls):
    """By Gibbs and by Hamiltonian chains: moments of one missing column against sums over a fine grid."""
    model, x = cls.example()
    x = x[:3].clone()
    grid = torch.linspace(-30, 30, 6001)
    rows = x.unsqueeze(1).repeat(1, len(grid), 1)
    rows[:, :, 1] = grid
    with torch.no_grad():
        law = torch.softmax(-model().free_energy(rows), 1)
    x[:, 1] = NAN
    torch.manual_seed(0)
    filled = model.filled(x.repeat(4000, 1), 20).view(4000, 3, -1)
    assert torch.equal(filled[5, :, 0], x[:, 0])
    for values, listed in ((filled[:, :, 1], grid), (filled[:, :, 1].abs(), grid.abs())):
        # Six standard errors, and a hundredth of a deviation for what is left of the start.
        tolerance = 6 * values.std(0) / 4000**0.5 + 0.01 * values.std(0)
        assert ((values.mean(0) - law @ listed).abs() < tolerance).all()


@pytest.mark.parametrize("example", [dgm.GaussianRBM, dgm.ProductOfT, dgm.SpikeSlabRBM, dgm.DBM])
def test_persistent_chains_train_on_incomplete_rows(example):
    model, x = example.example()
    objective = model.objective(missing_sweeps=5)
    assert objective.options()["missing_sweeps"] == 5
    run = dgm.fit(model, with_holes(x.repeat(3, 1)), objective=objective, epochs=2, progress=False)
    assert all(math.isfinite(value) for row in run.history for value in row.values())


def test_numbers_of_sweeps_are_checked():
    model = dgm.RBM(3, 2)
    with pytest.raises(ValueError, match="missing_sweeps"):
        model.objective(missing_sweeps=0)
    with pytest.raises(ValueError, match="missing_sweeps"):
        model.objective(kind="nce", missing_sweeps=5)


@pytest.mark.parametrize("kind", ["pseudolikelihood", "ratio-matching", "nce", "multi-prediction"])
def test_criteria_of_whole_rows_refuse_missing_values(kind):
    model, x = dgm.RBM.example()
    x = with_holes(x.repeat(2, 1))
    with pytest.raises(ValueError, match=r"first in row .* of 'train', and .* train by a criterion"):
        dgm.fit(model, x, objective=model.objective(kind=kind), epochs=1, progress=False)


def test_what_needs_whole_rows_refuses_missing_values():
    for cls, message in (
        (dgm.ClassRBM, "only labels may be missing"),
        (dgm.ConditionalRBM, "cannot sum missing values out"),
    ):
        model, x = cls.example()
        x[1, 0] = NAN
        with pytest.raises(ValueError, match=message):
            dgm.fit(model, x, epochs=1, progress=False)
    model, x = dgm.DBM.example()
    with pytest.raises(ValueError, match="pretrain got NaN"):
        dgm.pretrain(model, with_holes(x), epochs=1, progress=False)
    model, x = dgm.RBM.example()
    with pytest.raises(ValueError, match="RBM got NaN"):
        dgm.conditional_log_likelihood(model, with_holes(x), torch.arange(6) < 3, "half")
    with pytest.raises(ValueError, match="RBM got NaN"):
        model.hidden_features(with_holes(x))
    x[2] = NAN
    with pytest.raises(ValueError, match="NaN alone in row 2"):
        dgm.fit(model, x, epochs=1, progress=False)


def test_files_with_missing_values_from_the_shell(tmp_path, capsys):
    holes = with_holes(copies(60, 3), 0.3)
    pictures = holes.numpy().reshape(-1, 3, 4)
    np.savez(tmp_path / "holes.npz", train=pictures, test=pictures[:10])
    with open(tmp_path / "rows.csv", "w") as file:
        file.writelines(",".join("" if math.isnan(v) else f"{v:g}" for v in row) + "\n" for row in holes.tolist())
    for name in ("holes.npz", "rows.csv"):
        data, run = tmp_path / name, tmp_path / f"run of {name}"
        arguments = ["fit", "rbm", "--data", data, "--set", "hidden=4", "--epochs", "2", "--out", run, "--quiet"]
        assert main([*map(str, arguments), "--objective", "missing_sweeps=5"]) == 0
        capsys.readouterr()
        assert main(["evaluate", str(run)]) == 0
        assert "of the values missing" in capsys.readouterr().out
    for command in (["sample", "-n", "5"], ["impute", "--draws", "5"]):
        assert main([*command, str(tmp_path / "run of holes.npz"), "--quiet"]) == 0
    assert main(["evaluate", str(run), "--data", str(tmp_path / "holes.npz"), "--quiet"]) == 0
    assert main(["fit", "nade", "--data", str(tmp_path / "rows.csv"), "--epochs", "1", "--quiet"]) == 2
    assert "cannot sum missing values out" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"holds binary \(as given\); expected grey levels or real numbers"):
        dgm.data.load(tmp_path / "rows.csv", preprocessing="standardised")


def test_bits_of_grey_levels_keep_their_holes(tmp_path):
    grey = with_holes(torch.rand(30, 4))
    np.savez(tmp_path / "grey.npz", train=grey.numpy())
    raw = dgm.data.load(tmp_path / "grey.npz")
    assert str(raw.train.space) == "unit interval (as given)"
    for how in ("threshold", "fixed", "stochastic"):
        bits = dgm.data.load(tmp_path / "grey.npz", binarisation=how)
        assert torch.equal(bits.train.x.isnan(), raw.train.x.isnan())
        batch = next(bits.batches(0, 100, 0))
        assert batch.isnan().sum() == raw.train.x.isnan().sum()
        assert set(batch[~batch.isnan()].tolist()) == {0.0, 1.0}
    np.savez(tmp_path / "infinite.npz", train=np.array([[0.0], [np.inf]]))
    with pytest.raises(ValueError, match="infinite value, first in row 1"):
        dgm.data.load(tmp_path / "infinite.npz")
    assert known_log_sum(dgm.RBM(2, 2)().machine, "visible", torch.full((1, 2), NAN)).shape == (1,)
