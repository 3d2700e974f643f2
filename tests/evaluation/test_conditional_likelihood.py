"""p(missing | seen) against listings of the missing bits, and a value of another program."""

import pytest
import torch
from oracles.waves import bits, wave

import pyro_dgm as dgm
from pyro_dgm.recipes.measures import Trained, measured


def by_listing(model, x, known):
    """log p(x_a | x_b) of rows with at most twelve unknown bits, from joint probabilities alone."""
    unknown = (~known).nonzero().flatten()
    every = torch.cartesian_prod(*([torch.tensor([0.0, 1.0], dtype=x.dtype)] * len(unknown)))
    rows = x.unsqueeze(1).repeat(1, len(every), 1)
    rows[..., unknown] = every
    dist = model()
    return (dist.log_prob(x) - dist.log_prob(rows).logsumexp(-1)).detach()


@pytest.mark.parametrize("name", ["RBM", "ConvolutionalRBM", "DBM", "BoltzmannMachine", "ConvolutionalDBM"])
def test_the_sum_over_missing_bits(name):
    model, x = getattr(dgm, name).example()
    model, x = model.double(), x.double()[:, : model.visible]
    known = torch.arange(x.shape[1]) % 3 != 1
    figure = dgm.conditional_log_likelihood(model, x, known, "two thirds", method="exact")
    assert figure.value == pytest.approx(float(by_listing(model, x, known).mean()), abs=1e-9)
    assert (figure.kind, figure.given) == ("exact", "two thirds")


def test_a_value_of_another_program():
    """The two right columns of a picture given the three left ones."""
    model = dgm.ConvolutionalRBM(15, 2, 2, (3, 5), pool=2).double()
    with torch.no_grad():
        model.weight.copy_(wave(0.6, 1, 2, 1, 2, 2))
        model.hidden_bias.copy_(wave(0.5, 2, 2))
        model.visible_bias.copy_(wave(0.4, 3, 1))
    x = bits(1, 1, 3, 5).view(1, 15)
    known = torch.arange(15) % 5 < 3
    found = dgm.conditional_log_likelihood(model, x, known, "the left columns").value
    assert found == pytest.approx(float(by_listing(model, x, known)), abs=1e-9)


@pytest.mark.parametrize("model", [dgm.RBM(12, 8), dgm.ConvolutionalRBM(12, 3, 2, (3, 4), pool=(2, 1))])
def test_annealing_of_what_is_missing(model):
    """Every row has its own known bits; the interval of annealing holds the exact figure, in single precision."""
    torch.manual_seed(0)
    with torch.no_grad():
        model.weight.normal_(std=0.7)
    x = bits(1, 9, 12).float()
    known = bits(2, 9, 12) > 0
    exact = dgm.conditional_log_likelihood(model, x, known, "some bits")
    assert exact.kind == "exact"
    for base in ({}, {"base": None}):  # from mean field, and from the biases
        found = dgm.conditional_log_likelihood(
            model, x, known, "some bits", method="ais", chains=50, temperatures=200, **base
        )
        assert found.kind == "estimate"
        assert found.lower <= exact.value <= found.upper
        assert abs(found.value - exact.value) < 6 * found.stderr_estimator


def test_deep_machines_have_a_lower_bound(monkeypatch):
    """Where the hidden states are too many, the figure is lower by what the variational bound of F is."""
    model, x = dgm.ConvolutionalDBM.example()
    model, x, known = model.double(), x.double(), torch.arange(9) < 5
    exact = dgm.conditional_log_likelihood(model, x, known, "five pixels")
    monkeypatch.setattr("pyro_dgm.models.shared.partly_known.summable", lambda *_: False)
    found = dgm.conditional_log_likelihood(model, x, known, "five pixels")
    slack = float((-model().free_energy(x) - model.bound(x)).mean().detach())
    assert slack > 0
    assert found.value == pytest.approx(exact.value - slack, abs=1e-9)
    assert (exact.kind, found.kind) == ("exact", "lower bound")


@pytest.mark.parametrize(
    ("name", "message"),
    [("NADE", "Autoregressive models"), ("GaussianRBM", "expected bits with couplings of two layers")],
)
def test_models_without_such_figures(name, message):
    model, x = getattr(dgm, name).example()
    with pytest.raises(ValueError, match=message):
        dgm.conditional_log_likelihood(model, x, torch.ones(x.shape[1], dtype=torch.bool), "all")


def test_bases_that_do_not_fit():
    rbm, _ = dgm.RBM.example()
    with pytest.raises(ValueError, match="base got 'rows'; expected one of mean-field"):
        dgm.log_partition(rbm(), "ais", base="rows")
    lateral, _ = dgm.BoltzmannMachine.example()
    with pytest.raises(ValueError, match="are coupled within themselves"):
        dgm.log_partition(lateral(), "ais", base="mean-field")


def test_rows_with_labels_are_refused():
    model, x = dgm.ClassRBM.example()
    with pytest.raises(ValueError, match="labels behind its columns"):
        dgm.conditional_log_likelihood(model, x, torch.arange(x.shape[1]) < 2, "two bits")


@pytest.mark.parametrize(
    ("seen", "expected"),
    [("left", [[1, 0], [1, 0]]), ("right", [[0, 1], [0, 1]]), ("upper", [[1, 1], [0, 0]]), ("lower", [[0, 0], [1, 1]])],
)
def test_halves_of_pictures(seen, expected, monkeypatch):
    """The recipes' measure sees the half that it names."""
    split = dgm.data.Split(bits(1, 4, 16).float(), dgm.data.Space("binary"))
    data = dgm.data.Dataset("toy", split, split, split, (4, 4))
    model = dgm.RBM(16, 3)
    found = {}

    def figure(model, x, known, given, **options):
        found.update(known=known, given=given, rows=len(x))
        return dgm.log_likelihood(model, x)

    monkeypatch.setattr("pyro_dgm.evaluation.conditional_likelihood.conditional_log_likelihood", figure)
    measured("inpainting", Trained(model, data, None, False), {"seen": seen, "rows": 3})
    assert torch.equal(
        found["known"].view(4, 4), torch.tensor(expected).bool().repeat_interleave(2, 0).repeat_interleave(2, 1)
    )
    assert (found["given"], found["rows"]) == (f"the {seen} half", 3)
