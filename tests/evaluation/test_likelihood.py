"""Figures say what they are and refuse unfair comparison."""

import dataclasses
import itertools
import json
import math
import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from oracles.few import few

import pyro_dgm as dgm
from pyro_dgm import registry
from pyro_dgm.data import Space, Split
from pyro_dgm.energy import NotFinite
from pyro_dgm.models.shared import LatentVariableModel


def figure(value=-1.0, kind="exact", space="binary (toy)"):
    return dgm.LogLikelihood(value, 0.1, 0.2, value - 0.1, value + 0.1, kind, "a method", space, 10)


def test_exact_figures():
    rbm, x = dgm.RBM.example()
    found = dgm.log_likelihood(rbm, x, space="binary (toy)")
    assert found.kind == "exact"
    assert found.lower == found.value == found.upper
    assert found.stderr_estimator == 0
    assert found.value == pytest.approx(float(rbm().log_prob(x).mean().detach()), abs=1e-5)
    assert found.stderr_data == pytest.approx(float(rbm().log_prob(x).std().detach()) / math.sqrt(10), rel=1e-4)
    assert "exact" in str(found)


def test_annealed_figures_bracket_the_exact_one():
    rbm, x = dgm.RBM.example()
    exact = dgm.log_likelihood(rbm, x, space="s").value
    found = dgm.log_likelihood(rbm, x, space="s", method="ais", chains=3000, temperatures=50)
    assert found.kind == "estimate"
    assert found.lower - 0.05 < exact < found.upper + 0.05
    assert abs(found.value - exact) < 6 * found.stderr_estimator
    assert "AIS and reverse AIS" in str(found)


def test_a_bound_is_printed_as_one():
    vae, x = dgm.VAE.example()
    found = dgm.log_likelihood(vae, x, particles=10)
    assert str(found).startswith("≥")
    assert found.as_dict()["upper"] is None
    json.dumps(found.as_dict(), allow_nan=False)


def test_a_split_knows_its_space():
    rbm, x = dgm.RBM.example()
    assert dgm.log_likelihood(rbm, Split(x, Space("binary", "fixed"))).space == "binary (fixed)"
    assert dgm.log_likelihood(rbm, x).space is None


def test_comparison_within_one_space():
    assert figure(-1.0) > figure(-2.0)
    assert figure(-1.0) - figure(-2.5) == 1.5
    assert not figure(-1.0) <= figure(-2.0)


@pytest.mark.parametrize(
    ("a", "b"), [("binary (fixed)", "binary (threshold 0.5)"), (None, "x"), ("x", None), (None, None)]
)
def test_different_spaces_refuse(a, b):
    for compare in (lambda p, q: p - q, lambda p, q: p < q, lambda p, q: p >= q):
        with pytest.raises(ValueError, match="compared"):
            compare(figure(space=a), figure(space=b))


@pytest.mark.parametrize(
    ("a", "b"), [("estimate", "lower bound"), ("exact", "lower bound"), ("upper bound", "lower bound")]
)
def test_a_bound_beside_something_else_warns(a, b):
    with pytest.warns(UserWarning, match="comparing"):
        figure(kind=a) > figure(kind=b)  # noqa: B015


def test_refusals():
    rbm, x = dgm.RBM.example()
    with pytest.raises(ValueError, match="expected a model of pyro_dgm"):
        dgm.log_likelihood(torch.nn.Linear(2, 2), x)
    with pytest.raises(ValueError, match=r"dgm\.log_weights\(model, guide, x"):
        dgm.log_likelihood(rbm.model, x)
    with pytest.raises(ValueError, match=r"Dataset 'digits'; choose a split, such as data\.test"):
        dgm.log_likelihood(dgm.RBM(64, 2), dgm.data.load("digits", binarisation="threshold"))
    with pytest.raises(ValueError, match="expected one of"):
        dgm.log_likelihood(rbm, x, method="guess")
    vae, y = dgm.VAE.example()
    with pytest.raises(ValueError, match="particles"):
        dgm.log_likelihood(vae, y, particles=0)
    with pytest.raises(ValueError, match="importance"):
        dgm.log_likelihood(vae, y, method="guess")


class Renamed(LatentVariableModel):
    """Normal rows around a latent, at a site of another name than ``"x"``."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(2))

    def generate(self, x=None, size=None):
        with self.data_plate(x, size):
            z = pyro.sample("z", dist.Normal(self.scale.new_zeros(2), 1.0).to_event(1))
            return pyro.sample("rows", dist.Normal(z, self.scale.exp()).to_event(1), obs=x)

    def infer(self, x, size=None):
        with self.data_plate(x, size):
            pyro.sample("z", dist.Normal(torch.zeros(2), self.scale.exp()).to_event(1))

    def objective(self):
        return dgm.Elbo()

    def check_data(self, x):
        pass

    def options(self):
        return {}

    @classmethod
    def example(cls):
        return cls(), torch.randn(20, 2)


def test_a_site_of_another_name_is_named():
    model, x = Renamed.example()
    for use in (lambda: dgm.log_likelihood(model, x, particles=2), lambda: model.reconstruct(x)):
        with pytest.raises(ValueError, match=r"no site 'x'.*its sites: 'z', 'rows'\. Name"):
            use()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize(
    ("name", "parameter", "options"),
    [
        ("RBM", "weight", {}),
        ("GaussianRBM", "log_precision", {"method": "ais", "temperatures": 5}),
        ("MeanCovarianceRBM", "factor", {"temperatures": 5}),
        ("ConvolutionalSpikeSlabRBM", "weight", {"method": "ais", "temperatures": 5}),
        ("SBN", "weights.0", {"method": "importance"}),
    ],
)
def test_parameters_that_are_not_finite_give_no_figure(name, parameter, options, bad):
    model, x = getattr(dgm, name).example()
    with torch.no_grad():
        dict(model.named_parameters())[parameter].view(-1)[0] = bad
    with pytest.raises(ValueError, match=rf"{name} has no likelihood: {parameter} has entries .*smaller learning rate"):
        dgm.log_likelihood(model, x, "toy", **options)
    if name != "SBN":
        known = torch.ones(x.shape[1:], dtype=torch.bool)
        for ask in (lambda: model.sample(2), lambda: model.impute(x, known)):
            with pytest.raises(NotFinite, match="are NaN or infinite"):
                ask()


def test_figures_that_are_not_finite_are_none():
    rbm, x = dgm.RBM.example()
    values = torch.zeros(len(x))
    values[3] = -math.inf

    class Impossible(dgm.RBM):
        def evidence(self, x, method=None, **options):
            return dataclasses.replace(super().evidence(x, method), values=values)

    impossible = Impossible(**rbm.options())
    with pytest.raises(ValueError, match="log-likelihood of row 3 under Impossible came out as -inf"):
        dgm.log_likelihood(impossible, x)
    values[3] = 0.0
    assert dgm.log_likelihood(impossible, x).value == 0.0


def test_a_bound_of_one_particle_does_not_print_nan():
    vae, x = dgm.VAE.example()
    text = str(dgm.log_likelihood(vae, x, space="toy", particles=1))
    assert "nan" not in text
    assert "error not known" in text


REAL = {
    "affinegenerator", "conditionalgan", "convolutionalspikeslabrbm", "coupledslabrbm", "covariancerbm", "flowgenerator", "gan",
    "gaussianrbm", "gmmn", "inversetransform", "lapgan", "meancovariancerbm", "meanproductoft", "productoft", "rnade", "s3c",
    "spikeslabrbm",
}  # fmt: skip


SCORED = {name: cls for name, cls in registry.models().items() if "evidence" in cls.abilities()}


@pytest.mark.parametrize("cls", SCORED.values(), ids=SCORED)
def test_densities_and_probabilities_are_told_apart(cls):
    model, x = cls.example()
    before = torch.get_rng_state()
    assert model.measure(x[:1]) == ("density" if cls.__name__.lower() in REAL else "probability")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("options", "measure"),
    [
        ({"output": "categorical:3"}, "probability"),
        ({"output": ["binary", "categorical:3", "binary", "binary"]}, "probability"),
        ({"output": ["binary", "gaussian", "binary", "binary"]}, "density"),
        ({"output": "gaussians:2"}, "density"),
    ],
)
def test_the_families_say_which(options, measure):
    x = torch.tensor([[0.0, 1, 0, 1], [1, 1, 0, 0]])
    figure = dgm.log_likelihood(dgm.NADE(4, 3, **options), x, "binary (toy)")
    assert figure.measure == measure
    other = dgm.log_likelihood(dgm.NADE(4, 3), x, "binary (toy)")
    if measure == "probability":
        assert math.isfinite(figure - other)
        return
    with pytest.raises(ValueError, match="a density cannot be compared with a probability"):
        figure - other


def test_gaussian_frames_and_grey_levels():
    frames, _ = dgm.VariationalRNN.example()
    real = dgm.VariationalRNN(frames.visible, frames.features, latent=2, hidden=3, output="gaussian")
    x = dgm.data.pad([torch.randn(3, frames.features)], length=frames.visible // (frames.features + 1))
    assert real.measure(x) == "density"
    assert dgm.VAE(4, latent=2, hidden=(3,), output="gaussian").measure(torch.randn(1, 4)) == "density"
    assert dgm.VAE(4, latent=2, hidden=(3,), output="logistic").measure(torch.zeros(1, 4)) == "probability"


def test_figures_of_rows_given_a_part_of_them_say_so_and_refuse_those_of_whole_rows():
    """log p(x | y) is greater than log p(x, y) by log of the number of classes, and by more where x tells the class."""
    figures = {}
    for cls in (dgm.ConditionalVAE, dgm.SupervisedGenerator, dgm.RNNNADE, dgm.FVBN):
        model, x = cls.example()
        figures[cls] = dgm.log_likelihood(model, x, space="toy")
    givens = ["the label", "the code", "the lengths", None]
    assert [figure.given for figure in figures.values()] == givens
    assert "given the code" in str(figures[dgm.SupervisedGenerator])
    for one, two in itertools.combinations(figures.values(), 2):
        with pytest.raises(ValueError, match=r"a log-likelihood given .* cannot be compared with one"):
            one - two
    model, x = dgm.VariationalRNN.example()
    with pytest.warns(UserWarning, match="exact figure with a bound"):
        figures[dgm.RNNNADE] - dgm.log_likelihood(model, x, space="toy", particles=2)


@pytest.mark.parametrize("make", [
    lambda: dgm.FVBN(3, output="gaussian"), lambda: dgm.RNADE(3, hidden=4), lambda: dgm.VAE(3, latent=2, output="gaussian"),
    lambda: dgm.GaussianRBM(3, 2), lambda: dgm.AffineGenerator(3), lambda: dgm.CovarianceRBM(3, 2),
], ids=["fvbn", "rnade", "vae", "gaussian rbm", "affine", "covariance rbm"])  # fmt: skip
def test_a_density_of_a_constant_column_says_that_it_cannot_be_trusted(make):
    model = make()
    options = few(model)
    x = torch.randn(20, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dgm.log_likelihood(model, x, **options)
        dgm.log_likelihood(model, x[:1], **options)  # a single row says nothing about its columns
    x[:, 1] = 5.0
    with pytest.warns(UserWarning, match=r"the column 1 holds one value in all 20 rows.* not to be trusted"):
        dgm.log_likelihood(model, x, **options)


def test_columns_that_have_probabilities_or_are_given_may_be_constant():
    rbm, bits = dgm.RBM.example()
    bits[:, 0] = 1.0
    mixed = dgm.MADE(2, hidden=(4,), output=["binary", "gaussian"])
    half = torch.stack([torch.ones(8), torch.randn(8)], 1)
    frames, sequences = dgm.VariationalRNN.example()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dgm.log_likelihood(rbm, bits)
        dgm.log_likelihood(mixed, half)
        dgm.log_likelihood(frames, sequences[:3], particles=2)
