"""Draws of unknown entries against enumerated conditionals, and against a normal distribution's."""

import itertools

import numpy as np
import pytest
import torch
from oracles import boltzmann as oracle

import pyro_dgm as dgm
from pyro_dgm.models.shared.autoregressive import AutoregressiveModel

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
    with pytest.raises(ValueError, match="condition got Linear; expected a model"):
        dgm.condition(torch.nn.Linear(2, 2), torch.zeros(1, 2), torch.tensor([True, False]))


def test_known_holes_are_refused():
    with pytest.raises(ValueError, match="known entry that is NaN"):
        dgm.condition(dgm.RBM(2, 2), torch.tensor([[torch.nan, 1.0]]), torch.tensor([True, False]))
