"""Mean, variance, entropy and the list of values of energy distributions, against lists and quadrature; Pyro sums over them."""

import itertools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceEnum_ELBO, config_enumerate

import pyro_dgm as dgm
from pyro_dgm.energy.free import FreeEnergyDistribution

BITS = torch.tensor(list(itertools.product([0.0, 1.0], repeat=6)))


def finite():
    spins = dgm.BoltzmannMachine.example()[0]
    rbm = dgm.RBM.example()[0]
    return {
        "rbm": rbm(),
        "spins": dgm.BoltzmannMachine(5, edges=[(0, 1), (1, 2), (3, 4)], unit="spin")(),
        "lateral": spins(),
        "dbm": dgm.DBM.example()[0](),
        "shifted": rbm(visible_shift=torch.tensor([[1.0], [-1.0]]).expand(2, 6)),
        "given": rbm().given({"hidden": torch.ones(2, 1, 4)}),
        "expanded": rbm().expand((3, 2)),
    }


@pytest.mark.parametrize("name", list(finite()))
def test_finite_machines_by_a_list_of_their_values(name):
    """Probabilities of all values are softmax(-F), which gives every moment."""
    d = finite()[name]
    values = [-1.0, 1.0] if name == "spins" else [0.0, 1.0]
    every = torch.tensor(list(itertools.product(values, repeat=d.event_shape[0])))
    ones = [1] * len(d.batch_shape)
    with torch.no_grad():
        p = torch.softmax(-d.free_energy(every.view(-1, *ones, *d.event_shape)), 0).expand(-1, *d.batch_shape).double()
        rows = every.view(-1, *ones, *d.event_shape).double()
        mean = (p.unsqueeze(-1) * rows).sum(0)
        variance = (p.unsqueeze(-1) * (rows - mean).square()).sum(0)
        assert d.mean.shape == d.variance.shape == (*d.batch_shape, *d.event_shape)
        assert torch.allclose(d.mean.double(), mean, atol=1e-5)
        assert torch.allclose(d.variance.double(), variance, atol=1e-5)
        assert torch.allclose(d.stddev.double(), variance.sqrt(), atol=1e-4)
        assert torch.allclose(d.entropy().double(), -(p * p.log()).sum(0), atol=1e-4)
    assert d.has_enumerate_support
    listed = d.enumerate_support()
    assert listed.shape == (len(every), *d.batch_shape, *d.event_shape)
    assert {tuple(row) for row in listed.reshape(len(every), -1, *d.event_shape)[:, 0].tolist()} == set(
        map(tuple, every.tolist())
    )
    assert d.enumerate_support(expand=False).shape == (len(every), *ones, *d.event_shape)


def test_wide_machines_with_few_hidden_units():
    """The mean is a derivative of log Z, for which the hidden units are listed; 60 visible ones are too many for the rest."""
    torch.manual_seed(0)
    rbm = dgm.RBM(60, 4)
    with torch.no_grad():
        rbm.weight.normal_()
    hidden = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4)))
    fields = hidden @ rbm.weight.detach().T
    mean = torch.softmax(torch.nn.functional.softplus(fields).sum(1), 0) @ torch.sigmoid(fields)
    assert torch.allclose(rbm().mean, mean, atol=1e-5)
    assert not rbm().has_enumerate_support
    for sum_of in (rbm().entropy, rbm().enumerate_support):
        with pytest.raises(
            NotImplementedError, match=r"Binary\(60\), has more than 2\^16 states, which cannot be listed"
        ):
            sum_of()


def test_gaussian_units_are_a_mixture():
    """One normal for every hidden state, far from the origin: the variance loses no digits."""
    torch.manual_seed(0)
    model = dgm.GaussianRBM(3, 2)
    with torch.no_grad():
        model.weight.normal_()
        model.visible_bias.fill_(1000.0)
        model.hidden_bias.copy_(-model.visible_bias @ model.weight)
    weight, bias, hidden_bias = (p.detach().double() for p in (model.weight, model.visible_bias, model.hidden_bias))
    hidden = torch.tensor(list(itertools.product([0.0, 1.0], repeat=2)), dtype=torch.float64)
    shift = hidden @ weight.T
    share = torch.softmax(hidden @ hidden_bias + shift @ bias + 0.5 * shift.square().sum(1), 0)
    means = bias + shift
    mean = share @ means
    variance = share @ (means - mean).square() + 1
    d = model()
    assert torch.allclose(d.mean.double(), mean, rtol=1e-6)
    assert torch.allclose(d.variance.double(), variance, rtol=1e-4)
    assert not d.has_enumerate_support
    with pytest.raises(NotImplementedError, match=r"Gaussian\(3\), has real-valued entries"):
        d.entropy()


def test_moments_have_gradients():
    rbm, _ = dgm.RBM.example()
    (slope,) = torch.autograd.grad(rbm().mean.sum(), rbm.visible_bias)
    assert bool((slope != 0).all())
    assert not dgm.RBM(6, 3)().mean.detach().requires_grad


def test_others_say_why_not():
    scale = torch.ones(())
    d = FreeEnergyDistribution(lambda x: scale * x.square().sum(-1), (scale,), (3,))
    for what in (lambda: d.mean, lambda: d.variance, d.entropy, d.enumerate_support):
        with pytest.raises(NotImplementedError, match="FreeEnergyDistribution cannot be"):
            what()
    with pytest.raises(NotImplementedError, match="states left"):
        _ = dgm.RBM(60, 60)().mean


def test_pyro_sums_over_a_latent_machine():
    r"""$-\log \sum_z p(z) p(x \mid z)$ of an RBM latent by TraceEnum_ELBO, and by a list of z."""
    torch.manual_seed(0)
    rbm, _ = dgm.RBM.example()
    loading, x = torch.randn(6), torch.randn(5)

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", rbm(), infer={"enumerate": "parallel"})
            pyro.sample("x", dist.Normal(z @ loading, 1.0), obs=x)

    loss = TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(config_enumerate(model), lambda x: None, x)
    log_p = rbm().log_prob(BITS) + dist.Normal(BITS @ loading, 1.0).log_prob(x.unsqueeze(-1))
    assert float(loss.detach()) == pytest.approx(-float(log_p.logsumexp(-1).sum().detach()), rel=1e-5)
    assert math.isfinite(float(loss.detach()))
