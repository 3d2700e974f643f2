"""Real columns in their own units: models that start from data do not depend on the units."""

import copy
import math

import pytest
import torch

import pyro_dgm as dgm
from pyro_dgm.data.sequences import join_frames, split_frames
from pyro_dgm.nets.scaling import ColumnScaling

FACTOR, OFFSET = torch.tensor([30.0, 0.01, 3.0]), torch.tensor([100.0, -5.0, 1e4])
AUTOREGRESSIVE = {
    "fvbn": lambda: dgm.FVBN(3, output="gaussian", basis="powers:2"),
    "nade": lambda: dgm.NADE(3, 7, output="laplaces:2"),
    "rnade": lambda: dgm.RNADE(3, hidden=7, components=2),
    "made": lambda: dgm.MADE(3, (9,), output="gaussian", masks=2),
    "groups": lambda: dgm.NeuralAutoregressive(3, group=3, output="gaussians:2"),
    "orderless": lambda: dgm.OrderlessNADE(3, (8,), output="gaussian", orders=2),
    "nade-k": lambda: dgm.NADEk(3, (8,), k=2, output="laplace"),
    "convolutional": lambda: dgm.ConvolutionalNADE(3, shape=(1, 3), channels=(2,), output="gaussian"),
}
LATENT = {
    "vae": lambda: dgm.VAE(3, latent=2, hidden=(5,), output="gaussian"),
    "hierarchical": lambda: dgm.HierarchicalVAE(3, latent=(2, 1), hidden=(4, 3), output="gaussian"),
}


def test_columns_at_the_limit_of_their_precision_are_scaled_too():
    """Numbers of single precision lie 128 apart here; a column of such neighbours is not constant."""
    scaling = ColumnScaling(3)
    x = torch.tensor([1.7e9, 1.7e9 + 128, 1.7e9 + 256]).unsqueeze(1) * torch.tensor([1.0, 0.0, 0.0])
    x[:, 1], x[:, 2] = 1.7e9, torch.tensor([1.0, 2.0, 4.0])
    scaling.fit(x)
    z = scaling(x)
    assert float(z[:, 0].abs().max()) < 1
    assert torch.equal(z[:, 1], torch.zeros(3))
    torch.testing.assert_close(z[:, 2].std(correction=0), torch.tensor(1.0))
    scaling.double().fit(x.double())
    torch.testing.assert_close(scaling(x.double())[:, 0].std(correction=0), torch.tensor(1.0).double())


def rows():
    z = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)).double()
    return z + 0.7 * z.roll(1, 1) + 0.5


def pair(make):
    """Two copies of one model, one started from rows and one from the same rows in other units."""
    torch.manual_seed(0)
    model = make().double()
    other = copy.deepcopy(model)
    model.initialise(rows())
    other.initialise(OFFSET + FACTOR * rows())
    return model, other


@pytest.mark.parametrize("name", AUTOREGRESSIVE)
def test_densities_and_draws_change_units_with_the_data(name):
    """p(a + b x) = p(x) / b, and draws of one seed are the same but for the units."""
    model, other = pair(AUTOREGRESSIVE[name])
    x, log_factor = rows()[:20], float(FACTOR.double().log().sum())
    with torch.no_grad():
        torch.testing.assert_close(other().log_prob(OFFSET + FACTOR * x), model().log_prob(x) - log_factor)
    drawn = []
    for m in (model, other):
        torch.manual_seed(1)
        drawn.append(m.sample(10))
    torch.testing.assert_close(drawn[1], OFFSET + FACTOR * drawn[0])
    known = torch.tensor([True, False, True])
    filled = []
    for m, given in ((model, x), (other, OFFSET + FACTOR * x)):
        torch.manual_seed(1)
        filled.append(m.impute(given, known, draws=9))
    torch.testing.assert_close(filled[1], OFFSET + FACTOR * filled[0])


@pytest.mark.parametrize("name", LATENT)
def test_weights_and_draws_of_latent_variable_models_change_units_with_the_data(name):
    model, other = pair(LATENT[name])
    x, log_factor = rows()[:20], float(FACTOR.double().log().sum())
    found = []
    for m, given in ((model, x), (other, OFFSET + FACTOR * x)):
        torch.manual_seed(1)
        found.append((dgm.log_weights(m.model, m.guide, given, particles=3).detach(), m.sample(5)))
    torch.testing.assert_close(found[1][0], found[0][0] - log_factor)
    torch.testing.assert_close(found[1][1], OFFSET + FACTOR * found[0][1])


def test_sequences_and_codes_change_units_with_the_data():
    values, present = split_frames(dgm.VariationalRNN.example()[1].double(), 2)
    values = torch.where(present.unsqueeze(-1), torch.randn(values.shape).double(), 0.0)
    factor, offset = FACTOR[:2].double(), OFFSET[:2].double()
    x = join_frames(values, present)
    y = join_frames(torch.where(present.unsqueeze(-1), offset + factor * values, 0.0), present)
    frames = present.sum(1) * float(factor.log().sum())
    for make in (
        lambda: dgm.VariationalRNN(12, 2, latent=1, hidden=4, output="gaussian"),
        lambda: dgm.RNNNADE(12, features=2, hidden=5, recurrent=3, output="gaussian"),
    ):
        model = make().double()
        other = copy.deepcopy(model)
        model.initialise(x)
        other.initialise(y)
        found = []
        for m, given in ((model, x), (other, y)):
            torch.manual_seed(1)
            found.append(dgm.log_weights(m.model, m.guide, given, particles=2).detach())
        torch.testing.assert_close(found[1], found[0] - frames)
    generator = dgm.SupervisedGenerator(3, 1, hidden=(4,), output="gaussian").double()
    other = copy.deepcopy(generator)
    codes = torch.randn(200, 1).double()
    generator.initialise(torch.cat([rows(), codes], 1))
    other.initialise(torch.cat([OFFSET + FACTOR * rows(), 50 + 9 * codes], 1))
    with torch.no_grad():
        torch.testing.assert_close(other.decode(50 + 9 * codes), OFFSET + FACTOR * generator.decode(codes))


@pytest.mark.parametrize("name", ["rnade", "vae"])
def test_a_first_fit_on_columns_in_their_own_units(name):
    """Within 0.3 nats of the normal density of the same covariance, the best there is; the columns' units alone are 10 nats."""
    torch.manual_seed(0)
    x = (OFFSET + FACTOR * rows()).float().double()
    best = torch.distributions.MultivariateNormal(x.mean(0), x.T.cov()).log_prob(x).mean()
    model = (AUTOREGRESSIVE | LATENT)[name]()
    dgm.fit(model.double(), x, epochs=20, batch_size=20, learning_rate=0.01, progress=False)
    found = dgm.log_likelihood(model, x, **({"particles": 50} if name == "vae" else {}))
    assert best - 0.4 < found.value < best + 0.4


def test_scaling_leaves_constant_columns_and_missing_values_out():
    scaling = dgm.nets.scaling.ColumnScaling(3)
    scaling.fit(torch.tensor([[1.0, 3e4, math.nan], [3.0, 3e4, 8.0], [math.nan, 3e4, 4.0]]))
    torch.testing.assert_close(scaling.mean, torch.tensor([2.0, 3e4, 6.0]))
    torch.testing.assert_close(scaling.scale, torch.tensor([1.0, 1.0, 2.0]))


def test_weights_saved_before_there_were_units_load_as_they_were():
    model, x = dgm.RNADE.example()
    before = model().log_prob(x)
    weights = {name: value for name, value in model.state_dict().items() if "scaling" not in name}
    other = dgm.RNADE(**model.options())
    other.load_state_dict(weights)
    torch.testing.assert_close(other().log_prob(x), before)


def test_mixed_columns_scale_the_real_ones_alone():
    model = dgm.NADE(3, 4, output=["binary", "gaussian", "categorical:3"])
    x = torch.stack([torch.arange(30) % 2, 100 + 30 * torch.randn(30), torch.arange(30) % 3], 1)
    model.initialise(x)
    assert model.scaling.mean[[0, 2]].tolist() == [0, 0]
    assert model.scaling.scale[[0, 2]].tolist() == [1, 1]
    assert model.scaling.scale[1] > 10
    assert model().log_prob(model.sample(5)).isfinite().all()
