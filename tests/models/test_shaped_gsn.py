"""Shaped networks: the shaping cost on a listed law, costs of the loop by hand, turns, and what training does."""

import itertools
import math

import pytest
import torch
from torch import nn

import pyro_dgm as dgm
from pyro_dgm.objectives.criteria.shaping import shaping


def test_shaping_of_a_listed_law():
    """With the best guide, log p / q, on four states: cost and gradient; both vanish where q = p."""
    p = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    theta = torch.sin(torch.arange(1, 5).double()).requires_grad_()
    q = torch.softmax(theta, 0)
    cost = (q * shaping((p / q).log().detach())).sum()
    cost.backward()
    assert float(cost.detach()) == pytest.approx(0.7408932045, abs=1e-9)
    truth = torch.tensor([0.2621017721, -0.0751532454, -0.1328311139, -0.0541174128], dtype=torch.float64)
    torch.testing.assert_close(theta.grad, truth, rtol=0, atol=1e-9)
    assert not shaping((p / p).log()).any()


class Line(nn.Module):
    """A guide, f(x) = slope . x."""

    def __init__(self, slope):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope, dtype=torch.float64))

    def forward(self, x):
        return x @ self.slope


def model():
    torch.manual_seed(0)
    return dgm.ShapedGSN(3, latent=2, hidden=(4,)).double()


X = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]], dtype=torch.float64)


def by_hand(gsn, x, steps, discount, kl_weight, weight, guide):
    """The loss from its formula, drawing codes and then bits."""
    at, total, weights, pushed = x, 0.0, 0.0, []
    for i in range(steps):
        mean, log_scale = gsn.encoder(at).chunk(2, -1)
        z = mean + log_scale.exp() * torch.randn(2, 2, dtype=torch.float64)
        at = torch.sigmoid(gsn.decoder(z))
        drawn = at + (torch.bernoulli(at.detach()) - at.detach())
        cost = -(x * at.log() + (1 - x) * (1 - at).log()).sum(-1)
        divergence = 0.5 * (mean**2 + (2 * log_scale).exp() - 1 - 2 * log_scale).sum(-1)
        total = total + discount**i * (cost + kl_weight * divergence).mean()
        weights += discount**i
        f = drawn @ guide
        pushed.append(torch.where(f < 0, (-f + f**2) / 2, 0.0))
    return total / weights + weight * torch.cat(pushed).mean()


def test_costs_of_the_loop_and_their_gradients():
    """Value and gradient of both turns, through three steps of the chain."""
    gsn, guide = model(), Line([-1.0, 0.5, -0.3])
    objective = dgm.Shaping(guide, steps=3, discount=0.4, kl_weight=0.7, weight=5.0)
    objective.attach(gsn)
    turns = list(objective.turns(X))
    assert [(turn.name, turn.groups) for turn in turns] == [("guide", ("guide",)), ("model", ("model",))]
    torch.manual_seed(1)
    loss = turns[1].loss()
    loss.backward()
    found = {name: p.grad.clone() for name, p in gsn.named_parameters()}
    assert guide.slope.grad is None
    torch.manual_seed(1)
    gsn.zero_grad()
    expected = by_hand(gsn, X, 3, 0.4, 0.7, 5.0, guide.slope.detach())
    expected.backward()
    torch.testing.assert_close(loss, expected)
    for name, p in gsn.named_parameters():
        torch.testing.assert_close(found[name], p.grad)
    torch.manual_seed(1)
    loss = turns[0].loss()
    torch.manual_seed(1)
    at, generated = X, []
    for _ in range(3):
        mean, log_scale = gsn.encoder(at).chunk(2, -1)
        z = mean + log_scale.exp() * torch.randn(2, 2, dtype=torch.float64)
        at = torch.sigmoid(gsn.decoder(z)).detach()
        generated.append(torch.bernoulli(at) @ guide.slope)
    f, g = X @ guide.slope, torch.cat(generated)
    by_formula = (1 + (-f).exp()).log().mean() + (1 + g.exp()).log().mean() + 0.05 * ((f**2).mean() + (g**2).mean())
    torch.testing.assert_close(loss, by_formula)
    gsn.zero_grad()
    loss.backward()
    assert all(p.grad is None for p in gsn.parameters())


def test_units_of_real_columns_change_losses_by_their_logarithms_alone():
    """The guide's loss is the same in any units, and the costs of columns times a are larger by log a each."""
    x = torch.randn(30, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    factors = torch.tensor([1e3, 1.0, 1e-2], dtype=torch.float64)
    losses = []
    for rows in (x, 1e4 + factors * x):
        torch.manual_seed(0)
        gsn = dgm.ShapedGSN(3, latent=2, hidden=(4,), output="gaussian").double()
        gsn.initialise(rows)
        objective = dgm.Shaping(Line([0.5, -1.0, 0.3]), steps=3)
        objective.attach(gsn)
        losses.append(torch.stack([turn.loss().detach() for turn in objective.turns(rows)]))
    expected = losses[0] + torch.tensor([0.0, 1.0]) * factors.log().sum()
    torch.testing.assert_close(losses[1], expected, rtol=1e-6, atol=1e-6)


def test_a_chain_goes_over_means_and_rows_are_drawn_around_them():
    gsn = model()
    torch.manual_seed(0)
    kernel = dgm.ModelChain(gsn)
    state = kernel.start(20_000)
    for _ in range(3):
        state = kernel.sample(state)
    assert ((state["mean"] > 0) & (state["mean"] < 1)).all()
    rows = state["visible"]
    assert set(rows.unique().tolist()) == {0.0, 1.0}
    error = (rows - state["mean"]).mean(0).abs() / math.sqrt(0.25 / 20_000)
    assert float(error.max()) < 4
    known = torch.tensor([True, False, False])
    held = dgm.ModelChain(gsn, (known, torch.ones(3)))
    assert held.sample(state)["mean"][:, 0].eq(1).all()


def test_shaping_pushes_a_mode_that_data_do_not_have_away():
    """Data that are one of two corners: shaped chains are there more often than unshaped ones, over three seeds."""
    torch.manual_seed(0)
    corner = torch.randint(0, 2, (600, 1)).float()
    x = torch.cat([corner, corner, 1 - corner, 1 - corner], 1)
    shares = {0.0: 0.0, 5.0: 0.0}
    for weight, seed in itertools.product(shares, range(3)):
        torch.manual_seed(seed)
        gsn = dgm.ShapedGSN(4, latent=1, hidden=(16,))
        objective = gsn.objective(steps=5, weight=weight, guide=(16,))
        dgm.fit(gsn, x, objective=objective, epochs=15, batch_size=50, learning_rate=0.005, progress=False)
        rows = gsn.sample(2000, steps=30)
        agree = (rows[:, 0] == rows[:, 1]) & (rows[:, 0] != rows[:, 2]) & (rows[:, 2] == rows[:, 3])
        shares[weight] += float(agree.float().mean()) / 3
    assert shares[5.0] > shares[0.0] + 3 * math.sqrt(2 * 0.1 / 6000)


def test_a_run_resumes_bit_for_bit(tmp_path):
    torch.manual_seed(0)
    x = torch.randint(0, 2, (40, 4)).float()

    def trained(epochs, out, resume=False):
        torch.manual_seed(1)
        gsn = dgm.ShapedGSN(4, latent=2, hidden=(5,))
        objective = gsn.objective(steps=3, guide=(6,))
        dgm.fit(gsn, x, objective=objective, epochs=epochs, batch_size=20, out=out, resume=resume, progress=False)
        return {**gsn.state_dict(), **objective.guide.state_dict()}

    whole = trained(4, tmp_path / "whole")
    trained(2, tmp_path / "parts")
    parts = trained(4, tmp_path / "parts", resume=True)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"steps": 0}, "steps got 0"),
            ({"discount": 1.0}, "discount got 1"),
            ({"weight": -1.0}, "weight got -1"),
            ({"rate": 0.0}, "rate got 0"),
        ],
    )
    def test_options(self, options, message):
        with pytest.raises(ValueError, match=message):
            dgm.Shaping(Line([1.0]), **options)

    def test_models_and_guides(self):
        vae, x = dgm.VAE.example()
        with pytest.raises(ValueError, match="expected a looped autoencoder"):
            dgm.fit(vae, x, objective=dgm.Shaping(Line([1.0] * 6)), epochs=1, progress=False)
        with pytest.raises(ValueError, match="guide got 3"):
            dgm.Shaping(3)
        with pytest.raises(ValueError, match="output got 'categorical'"):
            dgm.ShapedGSN(4, output="categorical")
