"""The fast bits are exact, and the fast product is a product."""

import math

import pytest
import torch

from pyro_dgm.energy import fast

N = 4_000_000


@pytest.mark.parametrize("p", [0.5, 0.1, 0.9, 1 / 256, 2.5 / 256, 1 - 3.5 / 256, 1e-3, 1e-6, 0.3333333])
def test_probability_of_a_bit(p):
    """Within six standard deviations of a binomial; small p would be lost by 8 bits without a tie-breaker."""
    bits = fast.bernoulli_(torch.full((N,), p, dtype=torch.float64))
    assert set(bits.unique().tolist()) <= {0.0, 1.0}
    assert abs(float(bits.sum()) - N * p) < 6 * math.sqrt(N * p * (1 - p)) + 1


def test_every_lane_of_the_words_is_fair():
    bits = fast.bernoulli(torch.zeros(N)).view(-1, 8).mean(0)
    assert (bits - 0.5).abs().max() < 6 * 0.5 / math.sqrt(N / 8)


def test_neighbours_are_independent():
    bits = fast.bernoulli(torch.zeros(N)) - 0.5
    for lag in (1, 2, 3, 4, 8, 16):
        assert abs(float((bits[lag:] * bits[:-lag]).mean())) < 6 * 0.25 / math.sqrt(N)


def test_ties_are_broken_by_the_fraction():
    """Given a tie, the bit is 1 with the threshold's fraction: forced by giving every word the same bits."""
    p = torch.full((N,), 100.25 / 256)
    original = torch.Tensor.random_

    def same(self, *args):
        result = original(self, *args)
        result.view(torch.uint8).fill_(100)
        return result

    torch.Tensor.random_ = same
    try:
        bits = fast.bernoulli_(p)
    finally:
        torch.Tensor.random_ = original
    assert abs(float(bits.mean()) - 0.25) < 6 * math.sqrt(0.25 * 0.75 / N)


@pytest.mark.parametrize("shape", [(3,), (5000,), (70, 71), (3, 50, 60)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_dtypes_and_extremes(shape, dtype):
    logits = torch.full(shape, math.inf, dtype=dtype)
    assert (fast.bernoulli(logits) == 1).all()
    assert (fast.bernoulli(-logits) == 0).all()
    assert fast.bernoulli(logits).dtype == dtype
    assert (logits == math.inf).all()


def test_noncontiguous_input():
    p = torch.rand(100, 200).t()
    bits = fast.bernoulli(torch.logit(p))
    assert abs(float((bits - p).mean())) < 6 * 0.5 / math.sqrt(p.numel())


@pytest.mark.parametrize("transposed", [False, True])
def test_linear(transposed):
    x, plus = torch.randn(33, 70), torch.randn(50)
    weight = torch.randn(50, 70).t() if transposed else torch.randn(70, 50)
    expected = x.double() @ weight.double() + plus.double()
    assert (fast.linear(x, weight, plus) - expected).abs().max() < 1e-4
    assert fast.linear(x.double(), weight.double(), plus.double()).dtype == torch.float64


def test_the_kernel_choice_is_a_function_of_the_machine():
    """A choice by timing would break bit-identical resumption."""
    assert fast._fastest() is fast._fastest.__wrapped__()
