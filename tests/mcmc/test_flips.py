"""Flip proposals against the enumerated distribution: stationary, mixing, and wrong without their correction."""

import itertools

import numpy as np
import pytest
import torch
from oracles import boltzmann as oracle

from pyro_dgm.mcmc import flips

STATES = torch.tensor(list(itertools.product((0.0, 1.0), repeat=3)))
COUPLING = torch.tensor([[0.0, 1.5, -2.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
FIELD = torch.tensor([0.5, -1.0, 0.3])


def potential(b):
    """Pairs, and a term of third order, so that a gradient is no exact change of energy."""
    return -((b @ COUPLING) * b).sum(-1) - b @ FIELD - 1.5 * b.prod(-1)


def blind(b):
    """The same energies with no gradient that is worth anything."""
    index = (b.round() @ torch.tensor([4.0, 2.0, 1.0])).long()
    return potential(STATES)[index] + 0 * b.sum(-1)


P = torch.softmax(-potential(STATES), 0).numpy()


def histogram(bits):
    index = (bits.numpy() @ np.array([4, 2, 1])).astype(int)
    return np.bincount(index, minlength=8) / len(index)


def run(energy, start, moves, log_rate):
    return flips.flip_moves(energy, start, torch.tensor(log_rate), moves)


@pytest.mark.parametrize("energy", [potential, blind])
@pytest.mark.parametrize("log_rate", [-2.0, 0.0])
def test_the_distribution_stays_and_is_reached(energy, log_rate):
    torch.manual_seed(0)
    n = 20_000
    bound = oracle.total_variation_bound(P.astype(float), n)
    exact = STATES[torch.multinomial(torch.tensor(P), n, replacement=True)]
    assert 0.5 * abs(histogram(run(energy, exact, 3, log_rate)) - P).sum() < bound
    # From one state: 60 moves flip every bit some times over.
    assert 0.5 * abs(histogram(run(energy, torch.ones(n, 3), 60, log_rate)) - P).sum() < bound


def test_without_the_correction_it_is_another_distribution(monkeypatch):
    torch.manual_seed(1)
    n = 20_000
    monkeypatch.setattr(flips, "logsigmoid", torch.zeros_like)
    found = histogram(run(potential, torch.ones(n, 3), 60, 0.0))
    assert 0.5 * abs(found - P).sum() > 2 * oracle.total_variation_bound(P.astype(float), n)


def test_an_energy_that_is_not_finite_is_refused():
    def wall(b):
        return torch.where(b.sum(-1) > 2.5, torch.inf, 0.0) + 0 * b.sum(-1)

    torch.manual_seed(2)
    bits = run(wall, torch.zeros(500, 3), 30, 0.0)
    assert (bits.sum(-1) < 3).all()
    assert bits.any()
