"""Both directions of the divergence: by listing all states, and by formulas of normal laws."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Independent, MultivariateNormal, Normal, kl_divergence

import pyro_dgm as dgm
from pyro_dgm.evaluation import divergences as room
from pyro_dgm.evaluation import kl_divergences

LAW = torch.tensor([1, 5, 2, 8, 3, 1, 6, 4], dtype=torch.float64) / 30


def bits(n):
    return torch.tensor([[i >> b & 1 for b in range(n)] for i in range(1 << n)], dtype=torch.float32)


def test_models_of_a_few_bits_are_listed():
    torch.manual_seed(0)
    rbm, sbn = dgm.RBM(4, 3), dgm.FVBN(4)
    for model in (rbm, sbn):
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter)
    states = bits(4)
    with torch.no_grad():
        p = torch.softmax(-rbm().free_energy(states).double(), 0)
        q = sbn().log_prob(states).double().exp()
    found = kl_divergences(rbm, sbn)
    assert found.forward.kind == found.reverse.kind == "exact"
    assert found.forward.value == pytest.approx(float((p * (p / q).log()).sum()), abs=1e-4)
    assert found.reverse.value == pytest.approx(float((q * (q / p).log()).sum()), abs=1e-4)
    assert found.forward.value != pytest.approx(found.reverse.value, abs=1e-3)
    assert str(found.forward).endswith("nats (exact), sum over 16 states")


def test_samples_agree_with_sums(monkeypatch):
    torch.manual_seed(0)
    p, q = dgm.FVBN(4), dgm.FVBN(4)
    for model in (p, q):
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    exact = kl_divergences(p, q)
    monkeypatch.setattr(room, "LISTED", 0)
    sampled = kl_divergences(p, q, n=4000)
    for truth, found in zip(exact, sampled, strict=True):
        assert found.kind == "estimate"
        assert found.value == pytest.approx(truth.value, abs=4 * found.stderr)
        assert found.stderr < 0.1


def test_normal_laws_have_the_divergence_of_the_formula():
    model = dgm.AffineGenerator(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
        x = model.sample(20_000).double()
    other = MultivariateNormal(torch.zeros(3), torch.eye(3))
    found = kl_divergences(model, other, n=4000)
    # The law of an affine map of normals is normal; its moments are those of samples, to a hundredth of a deviation or so.
    law = MultivariateNormal(x.mean(0), x.T.cov())
    wide = MultivariateNormal(torch.zeros(3).double(), torch.eye(3).double())
    for value, exact in ((found.forward, kl_divergence(law, wide)), (found.reverse, kl_divergence(wide, law))):
        assert value.value == pytest.approx(float(exact), abs=4 * value.stderr + 0.05 * (1 + float(exact)))


def test_distributions_alone():
    p, q = (Independent(Normal(torch.tensor([m]), torch.tensor([s])), 1) for m, s in ((0.0, 1.0), (1.0, 2.0)))
    found = kl_divergences(p, q, n=5000)
    forward, reverse = math.log(2) + 2 / 8 - 0.5, -math.log(2) + 5 / 2 - 0.5
    assert found.forward.value == pytest.approx(forward, abs=4 * found.forward.stderr)
    assert found.reverse.value == pytest.approx(reverse, abs=4 * found.reverse.stderr)


def test_states_without_probability():
    p, q = (Independent(Bernoulli(torch.tensor(probs)), 1) for probs in ([0.5, 1.0], [0.5, 0.5]))
    found = kl_divergences(p, q)
    assert found.forward.value == pytest.approx(math.log(2), abs=1e-5)  # torch clamps probabilities
    assert found.reverse.value > 5


def test_a_bound_on_one_side_makes_bounds():
    vae, _ = dgm.VAE.example()
    law = Independent(Bernoulli(torch.full((vae.visible,), 0.5)), 1)
    found = kl_divergences(vae, law, n=50)
    assert (found.forward.kind, found.reverse.kind) == ("lower bound", "upper bound")
    assert str(found.reverse).startswith("≤")


@pytest.mark.parametrize(
    ("p", "q", "message"),
    [
        (lambda: dgm.VAE.example()[0], lambda: dgm.VAE.example()[0], "both bounds"),
        (lambda: dgm.RBM(3, 2), lambda: dgm.RBM(4, 2), "expected one shape"),
        (lambda: dgm.RBM(3, 2), lambda: "normal", "q got 'normal'; expected a model"),
        (
            lambda: dgm.GSN.example()[0],
            lambda: dgm.RBM(4, 2),
            "p got GSN, which has no divergence: it has no likelihood",
        ),
        (lambda: dgm.ConditionalVAE.example()[0], lambda: dgm.RBM(3, 2), "has no divergence: its figures are given"),
        (lambda: dgm.RBM(1, 2), lambda: Independent(Normal(torch.zeros(1), 1.0), 1), "densities"),
    ],
)
def test_what_is_refused(p, q, message):
    with pytest.raises(ValueError, match=message):
        kl_divergences(p(), q(), n=20)
