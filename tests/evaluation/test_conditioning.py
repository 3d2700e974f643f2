"""Draws of unknown entries against enumerated conditionals, and against a normal distribution's."""

import itertools

import numpy as np
import pytest
import torch
from oracles import boltzmann as oracle

import pyro_dgm as dgm
from pyro_dgm.models.shared.autoregressive import AutoregressiveModel
from pyro_dgm.models.shared.chain_details import chain_figures

STATES = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4)))
KNOWN = torch.tensor([[True, False, True, False], [False, True, False, False]])
ROWS = torch.tensor([[1.0, 0, 0, 1], [0, 1, 1, 0]])

MAKERS = {
    "rbm": lambda: dgm.RBM(4, 3),
    "boltzmann": lambda: dgm.BoltzmannMachine(4, hidden=2),
    "dbm": lambda: dgm.DBM(4, (3, 2)),
    "sbn": lambda: dgm.SBN(4, (3,)),
    "fvbn": lambda: dgm.FVBN(4),
    "made": lambda: dgm.MADE(4, (6,), masks=2),
    "orderless": lambda: dgm.OrderlessNADE(4, (5,)),
}


@pytest.mark.parametrize("name", MAKERS)
def test_draws_follow_the_conditional(name):
    """Many chains of one row each, so that draws of one step are independent."""
    model = oracle.randomise(MAKERS[name](), torch.Generator().manual_seed(1), 1.0)
    chains, chain = 4000, {} if isinstance(model, AutoregressiveModel) else {"warmup": 60}
    torch.manual_seed(0)
    for row, known in zip(ROWS, KNOWN, strict=True):
        p = model.evidence(STATES).values.double().exp().numpy()
        if name == "orderless":  # a distribution of its own for every split: that of an order that begins with it
            p = model.answering(known.unsqueeze(0))[0][1].log_prob(STATES).detach().double().exp().numpy()
        p = np.where((STATES[:, known] == row[known]).all(1).numpy(), p, 0.0)
        p /= p.sum()
        drawn = dgm.condition(model, row.expand(chains, -1), known, draws=1, **chain)[0]
        found = np.bincount((drawn.numpy() @ [8, 4, 2, 1]).astype(int), minlength=16) / chains
        assert 0.5 * abs(found - p).sum() < oracle.total_variation_bound(p, chains)


def test_real_columns_follow_the_normal_conditional():
    model = dgm.GaussianRBM(3, 1)
    with torch.no_grad():
        model.weight.zero_()  # independent columns with unit precision, whatever the hidden unit
    known = torch.tensor([True, False, False])
    drawn = dgm.condition(model, torch.zeros(500, 3), known, draws=20, warmup=10)[..., 1:]
    count = drawn.numel()
    assert abs(float(drawn.mean())) < 5 / count**0.5
    assert abs(float(drawn.var()) - 1) < 5 * (2 / count) ** 0.5


def test_a_model_without_conditionals_is_refused():
    with pytest.raises(ValueError, match="condition got a Linear; expected a model"):
        dgm.condition(torch.nn.Linear(2, 2), torch.zeros(1, 2), torch.tensor([True, False]))


def test_known_holes_are_refused():
    with pytest.raises(ValueError, match="known entry that is NaN"):
        dgm.condition(dgm.RBM(2, 2), torch.tensor([[torch.nan, 1.0]]), torch.tensor([True, False]))


def narrow_vae():
    """A posterior about as wide as the prior, and a guide of a twentieth of that."""
    vae = dgm.VAE(4, latent=1, hidden=())
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.zero_()
        vae.encoder[-1].bias[1] = -3.0
        vae.decoder[0].weight.fill_(1.0)
    return vae


def test_chains_of_a_guide_that_is_too_narrow_say_so():
    """Weights p/q of a normal q narrower than p, of deviation s, have the Pareto index 1 - s^2.

    Its estimate from the largest 40 of 200 weights is drawn towards a half by ten of its own, to 0.9; the median of thirty
    has the standard error 0.07.
    """
    torch.manual_seed(0)
    x, known = ROWS[:1].expand(30, -1), torch.tensor([True, False, False, False])
    details = dgm.condition_with_details(narrow_vae(), x, known, draws=200, warmup=10)[1]
    assert details["pareto_k_median"] == pytest.approx(0.9, abs=0.3)
    assert details["pareto_k_above_0.7"] > 0.5
    assert 0 < details["smallest_acceptance"] < 1
    imputed = narrow_vae().impute_with_details(x[:1], known, draws=100)[1]
    assert imputed.keys() == details.keys()


def test_a_few_draws_of_a_chain_that_moves_are_not_called_stuck():
    """Under a guide that is wider than the posterior about half of the steps are accepted, of two steps alone often none."""
    torch.manual_seed(0)
    x, known, vae = ROWS[:1].expand(30, -1), torch.tensor([True, False, False, False]), narrow_vae()
    with torch.no_grad():
        vae.encoder[-1].bias[1] = 2.0
    for thinning in (1, 3):
        draws, details = dgm.condition_with_details(vae, x, known, draws=2, warmup=400, thinning=thinning)
        assert draws.shape == (2, 30, 4)
        assert details["smallest_acceptance"] > 0.02


def test_details_of_a_guide_that_is_the_posterior():
    """Then every proposal is accepted, and the draws are independent."""
    vae = narrow_vae()
    with torch.no_grad():
        vae.encoder[-1].bias.zero_()
        vae.decoder[0].weight.zero_()
    torch.manual_seed(0)
    details = dgm.condition_with_details(vae, ROWS, KNOWN, draws=400, warmup=5)[1]
    assert details["smallest_acceptance"] == 1
    assert details["largest_r_hat"] < 1.06
    assert details["smallest_effective_sample_size"] > 200
    assert details["pareto_k_above_0.7"] == 0


def test_effective_sample_size_and_r_hat_of_chains_with_known_correlation():
    """An autoregression x_t = a x_(t-1) + noise has (1 - a) / (1 + a) independent draws in every draw."""
    torch.manual_seed(0)
    a, noise = 0.9, torch.randn(20_000, 1, 1)
    chain = [noise[0]]
    for step in noise[1:]:
        chain.append(a * chain[-1] + step)
    found = chain_figures(torch.stack(chain))
    assert found["smallest_effective_sample_size"] == pytest.approx(20_000 * (1 - a) / (1 + a), rel=0.2)
    assert found["largest_r_hat"] < 1.02
    drifting = torch.cat([torch.randn(500, 2, 1), 3 + torch.randn(500, 2, 1)])
    assert chain_figures(drifting)["largest_r_hat"] == pytest.approx(
        (1 + 4.5) ** 0.5, rel=0.1
    )  # variance between halves 9/2
    assert chain_figures(drifting)["smallest_effective_sample_size"] < 10
    assert chain_figures(torch.ones(100, 2, 1)) == chain_figures(torch.randn(5, 2, 1)) == {}


@pytest.mark.parametrize(
    "cls", [dgm.RBM, dgm.SBN, dgm.VAE, dgm.SupervisedGenerator, dgm.AffineGenerator, dgm.VariationalRNN]
)
def test_details_do_not_change_what_is_drawn(cls):
    model, x = cls.example()
    known = torch.zeros_like(x).bool() if model.given_columns() is None else model.given_columns().expand(x.shape)
    plain = []
    for detailed in (False, True):
        torch.manual_seed(0)
        drawn = model.condition_with_details(x, known, 9, 3)[0] if detailed else model.condition(x, known, 9, 3)
        filled = model.impute_with_details(x, known, 9)[0] if detailed else model.impute(x, known, 9)
        plain.append((drawn, filled))
    torch.testing.assert_close(plain[0], plain[1], rtol=0, atol=0)
