"""Log-probabilities of rows of bits in one pass: against torch in double precision."""

from __future__ import annotations

import pytest
import torch
from pyro.distributions import Bernoulli, Delta
from torch.nn.functional import softplus

from pyro_dgm import native
from pyro_dgm.distributions import autoregressive_bits, sums
from pyro_dgm.native import log_probs, processor


@pytest.fixture(autouse=True)
def _any_size(monkeypatch):
    monkeypatch.setattr(processor, "FEW_LOGITS", 1)


def exact(logits, x):
    return (x * logits - softplus(logits)).sum(-1)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("columns", [1, 31, 32, 96, 97, 784])
@pytest.mark.parametrize("scale", [1e-3, 1, 30, 1e4])
def test_values_and_derivatives(columns, scale, threads):
    """To four roundings of the sum of the terms' sizes, and of one for derivatives."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        logits = (scale * torch.randn(7, columns)).requires_grad_()
        x = torch.rand(7, columns).round()
        found = native.bit_log_probs(logits, x)
        (slopes,) = torch.autograd.grad((found * torch.arange(7)).sum(), logits)
    finally:
        torch.set_num_threads(before)
    wide = logits.detach().double().requires_grad_()
    expected = exact(wide, x)
    (wanted,) = torch.autograd.grad((expected * torch.arange(7)).sum(), wide)
    size = 2.0**-24 * (wide.abs() + softplus(wide)).sum(-1)
    assert ((found - expected).abs() <= 4 * size + 1e-30).all()
    assert (slopes - wanted).abs().max() <= 7 * 4 * 2.0**-24


def test_rows_of_bits_are_taken_in_turn_and_may_be_means():
    logits, x = torch.randn(3, 5, 40), torch.rand(5, 40)
    torch.testing.assert_close(native.bit_log_probs(logits, x), exact(logits, x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(native.bit_log_probs(logits, x[0]), exact(logits, x[0]), rtol=1e-5, atol=1e-5)


def test_rows_that_lie_column_by_column():
    logits, x = torch.randn(3, 5, 40), torch.rand(40, 5).round().t()
    torch.testing.assert_close(native.bit_log_probs(logits, x), exact(logits, x), rtol=1e-5, atol=1e-5)


def test_second_derivatives():
    logits, x = torch.randn(2, 30, requires_grad=True), torch.rand(2, 30).round()
    (slopes,) = torch.autograd.grad(native.bit_log_probs(logits, x).sum(), logits, create_graph=True)
    (found,) = torch.autograd.grad(slopes.sum(), logits)
    p = torch.sigmoid(logits.detach())
    torch.testing.assert_close(found, -p * (1 - p))


@pytest.mark.parametrize("batch", [(), (5,), (2, 5)])
@pytest.mark.parametrize("expanded", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logits_that_draws_share(batch, expanded, dtype):
    """Values, derivatives and second ones where each row of logits stands for three draws."""
    logits = torch.randn(*batch, 40, dtype=dtype, requires_grad=True)
    x = torch.rand(3, *batch, 40).round().to(dtype)
    weights = torch.randn(3, *batch, dtype=dtype)
    found = native.bit_log_probs(logits.expand_as(x) if expanded else logits, x)
    assert "BitLogProbs" not in str(found.grad_fn)
    expected = exact(logits, x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    slopes, wanted = (torch.autograd.grad((weights * y).sum(), logits, create_graph=True)[0] for y in (found, expected))
    torch.testing.assert_close(slopes, wanted, rtol=1e-5, atol=1e-5)
    second, wanted = (torch.autograd.grad(y.square().sum(), logits)[0] for y in (slopes, wanted))
    torch.testing.assert_close(second, wanted, rtol=1e-4, atol=1e-5)


def test_logits_that_draws_share_keep_their_precision_under_autocast():
    logits, x = 1 + torch.rand(40), torch.rand(3, 40).round()
    with torch.autocast("cpu", torch.bfloat16):
        found = native.bit_log_probs(logits, x)
    torch.testing.assert_close(found, exact(logits, x), rtol=1e-5, atol=1e-5)


def test_certain_bits_that_draws_share():
    """An infinite logit times a bit that is 0 is no number; their law's own formula says 0 nats."""
    fn = autoregressive_bits.AutoregressiveBits(torch.tensor([torch.inf, -torch.inf, 0.0]).expand(4, 3))
    x = torch.tensor([1.0, 0.0, 1.0]).expand(4, 3).contiguous()
    torch.testing.assert_close(fn.log_prob(x), torch.full((4,), 0.5).log())


def test_nan_is_kept_in_its_row():
    logits = torch.zeros(3, 40)
    logits[1, 7] = torch.nan
    assert native.bit_log_probs(logits, torch.ones(40)).isnan().tolist() == [False, True, False]


def test_what_the_loop_does_not_take():
    logits, x = torch.zeros(4, 6), torch.zeros(4, 6)
    assert native.bit_log_probs(logits, x) is not None
    others = [
        (logits.double(), x.double()),
        (logits, x.double()),
        (logits, x.clone().requires_grad_()),
        (logits.t(), x.t()),
        (logits, torch.zeros(1, 6)),
        (logits[0], x.double()),
        (torch.zeros(()), torch.zeros(())),
    ]
    assert [native.bit_log_probs(*pair) for pair in others] == [None] * len(others)


def test_laws_of_bits_take_it(monkeypatch):
    asked = []
    for module in (sums, autoregressive_bits):
        monkeypatch.setattr(module, "bit_log_probs", lambda *a: asked.append(a) or log_probs.bit_log_probs(*a))
    logits, x = torch.randn(4, 6), torch.rand(4, 6).round()
    law = torch.distributions.Independent(torch.distributions.Bernoulli(logits=logits), 1)
    expected = law.log_prob(x)
    total = sums.summed_log_prob(Bernoulli(logits=logits).to_event(1), x)
    torch.testing.assert_close(total, expected.sum())
    torch.testing.assert_close(autoregressive_bits.AutoregressiveBits(logits).log_prob(x), expected)
    assert len(asked) == 2


@pytest.mark.parametrize("by", ["logits", "probs"])
def test_log_probs_of_particles_are_those_of_the_law(by):
    """Rows of bits that all particles share, by logits or probabilities, with the gradient that weights them."""
    numbers, x = torch.rand(3, 5, 40, requires_grad=True), torch.rand(5, 40).round()
    fn = Bernoulli(**{by: numbers}).to_event(1)
    found = sums.log_probs(fn, x)
    assert "BitLogProbs" in found.grad_fn.name()
    torch.testing.assert_close(found, fn.log_prob(x), rtol=1e-5, atol=1e-5)
    weights = torch.randn(3, 5)
    (slopes,), (wanted,) = (
        torch.autograd.grad((weights * values).sum(), numbers, retain_graph=True) for values in (found, fn.log_prob(x))
    )
    torch.testing.assert_close(slopes, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("validates", [True, False])
def test_log_probs_check_values_as_the_law_does(validates):
    fn = Bernoulli(logits=torch.zeros(2, 40), validate_args=validates).to_event(1)
    x = torch.full((2, 40), 0.3)
    if validates:
        with pytest.raises(ValueError, match="support"):
            sums.log_probs(fn, x)
    else:
        torch.testing.assert_close(sums.log_probs(fn, x), fn.log_prob(x))


def test_log_probs_of_other_laws_and_shapes_are_their_own():
    x = torch.rand(6, 40).round()
    for fn in (Bernoulli(logits=torch.randn(6, 40)), Bernoulli(logits=torch.randn(40)).expand([6, 40]).to_event(2)):
        torch.testing.assert_close(sums.log_probs(fn, x), fn.log_prob(x))


def test_points_of_mass_are_not_compared_with_themselves():
    v, density = torch.randn(3, 5), torch.randn(3)
    point = Delta(v, log_density=density, event_dim=1)
    assert torch.equal(sums.summed_log_prob(point, point.v), density.sum())
    assert sums.summed_log_prob(point, v + 1) == -torch.inf
    assert torch.equal(sums.summed_log_prob(Delta(v, event_dim=1), v), torch.tensor(0.0))
