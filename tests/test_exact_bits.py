"""A Bernoulli law whose draws are exact."""

import math

import pytest
import torch

from pyro_dgm.distributions.exact_bits import ExactBits


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("by", ["probs", "logits"])
def test_draws_have_their_probabilities(by, dtype):
    """Shares of ones within six standard deviations, also where ``rand < p`` of single precision knows no such p."""
    torch.manual_seed(0)
    n, p = 1_000_000, torch.tensor([0.0, 2.0**-26, 1e-4, 0.3, 1.0], dtype=dtype)
    law = ExactBits(**{by: p if by == "probs" else torch.logit(p)}).expand([2, 5])
    before, ones = p.clone(), law.sample([n]).double().sum((0, 1))
    assert torch.equal(p, before)
    assert ones.dtype == torch.float64
    assert law.sample().dtype == dtype
    right = p.double()
    assert bool(((ones - 2 * n * right).abs() <= 6 * (2 * n * right * (1 - right)).sqrt() + math.sqrt(2)).all())


def test_draws_are_seeded_and_without_a_gradient():
    p = torch.full((5000,), 0.3, requires_grad=True)
    law = ExactBits(probs=p)
    draws = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        draws.append(law.sample())
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert not draws[0].requires_grad
