"""Boosting against a model's own samples: a step on three bits, and its gradient beside that of maximum likelihood."""

import itertools

import pytest
import torch

import pyro_dgm as dgm
from pyro_dgm.objectives.criteria.games import discriminator_loss

BITS = torch.tensor(list(itertools.product([0.0, 1.0], repeat=3)), dtype=torch.float64)
P = torch.tensor([1, 5, 2, 8, 3, 1, 6, 4], dtype=torch.float64) / 30


def divergence(log_q):
    return float((P * (P.log() - torch.log_softmax(log_q, 0))).sum())


def test_one_step_with_a_feature_logistic_in_the_bits():
    """Data against the uniform law by a logistic function f of the bits; then q e^f, which is an RBM of visible biases."""
    w, c = (torch.zeros(n, dtype=torch.float64, requires_grad=True) for n in (3, 1))
    optimiser = torch.optim.LBFGS([w, c], max_iter=500, tolerance_grad=1e-13, tolerance_change=1e-16)

    def loss():
        optimiser.zero_grad()
        f = BITS @ w + c
        rows = f.repeat_interleave((P * 30).long())  # every row as often as in 30 rows of data
        value = discriminator_loss(rows, f)
        value.backward()
        return value

    optimiser.step(loss)
    f = (BITS @ w + c).detach()
    assert [*w.tolist(), *c.tolist()] == pytest.approx(
        [-0.0765343153, 0.6967541531, 0.3877669085, -0.5839894180], abs=1e-7
    )
    assert divergence(torch.zeros(8, dtype=torch.float64)) == pytest.approx(0.2002637394, abs=1e-9)
    assert divergence(f) == pytest.approx(0.1217151549, abs=1e-8)
    assert divergence(1.015 * f) == pytest.approx(0.1216988104, abs=1e-8)
    assert divergence(P.log()) == pytest.approx(0.0, abs=1e-12)  # the full log odds: p in one step
    slope = (divergence(1e-6 * f) - divergence(-1e-6 * f)) / 2e-6
    assert slope == pytest.approx(-0.1574535269, abs=1e-7)


class Exact(dgm.CD):
    """Negative samples in the model's own proportions, by listing all states: 8 rows, weighed by repetition."""

    def negatives(self, site, fn, value):
        rows = fn.enumerate_support()
        chosen = rows[torch.multinomial(fn.log_prob(rows).exp(), 200_000, replacement=True)]
        return {fn.visible: chosen}


def test_its_gradient_is_half_of_maximum_likelihood():
    torch.manual_seed(0)
    rbm = dgm.RBM(3, 2).double()
    with torch.no_grad():
        rbm.weight.normal_()
    x = BITS.repeat_interleave((P * 30).long(), 0)
    boosting = dgm.SelfSupervisedBoosting(Exact())
    boosting.attach(rbm)
    found = torch.autograd.grad(boosting.loss(x), list(rbm.parameters()))
    right = torch.autograd.grad(-rbm().log_prob(x).mean(), list(rbm.parameters()))
    for a, b in zip(found, right, strict=True):
        # means of bounded statistics (at most 1 here) over 200,000 draws: five standard errors of half of them
        torch.testing.assert_close(a, b / 2, atol=5 * 0.5 * 0.5 / 200_000**0.5, rtol=0)


def test_between_copies_its_loss_is_the_game_s_against_the_former_self():
    """Log odds of the moved model over its former self, up to c; value and gradients by sums over all states."""
    torch.manual_seed(0)
    rbm = dgm.RBM(3, 2).double()
    with torch.no_grad():
        rbm.weight.normal_()
    x = BITS.repeat_interleave((P * 30).long(), 0)
    boosting = dgm.SelfSupervisedBoosting(Exact(), refresh=10)
    boosting.attach(rbm)
    boosting.loss(x)  # copies
    former = rbm().free_energy(BITS).detach()
    q = torch.softmax(-former, 0)
    with torch.no_grad():
        rbm.weight += 0.4
        boosting.log_ratio += 0.3
    found = boosting.loss(x)
    log_odds = former - rbm().free_energy(BITS) - 0.3
    right = (P * torch.nn.functional.softplus(-log_odds)).sum() + (q * torch.nn.functional.softplus(log_odds)).sum()
    # the mean of a softplus below 3 over 200,000 draws
    assert float(found.detach()) == pytest.approx(float(right.detach()), abs=5 * 1.5 / 200_000**0.5)
    own, listed = (torch.autograd.grad(loss, [rbm.weight, rbm.hidden_bias]) for loss in (found, right))
    for a, b in zip(own, listed, strict=True):
        torch.testing.assert_close(a, b, atol=5 * 0.5 / 200_000**0.5, rtol=0)


def test_it_lowers_the_divergence_from_data():
    """The log-likelihood rises on a toy that one hidden unit cannot hold, with all units and with one at a time."""
    x = torch.tensor([[0.0, 0, 1, 1]] * 40 + [[1.0, 1, 0, 0]] * 40)
    for units in ("all", "in turn"):
        torch.manual_seed(0)
        rbm = dgm.RBM(4, 3)
        before = dgm.log_likelihood(rbm, x).value
        objective = dgm.SelfSupervisedBoosting(dgm.PCD(chains=40), refresh=5, units=units)
        dgm.fit(rbm, x, objective=objective, epochs=60, batch_size=20, learning_rate=0.05, progress=False)
        assert dgm.log_likelihood(rbm, x).value > before + 0.5


def test_only_one_unit_learns_at_a_time():
    rbm, x = dgm.RBM.example()
    boosting = dgm.SelfSupervisedBoosting(dgm.PCD(chains=8), refresh=2, units="in turn")
    boosting.attach(rbm)
    for step in range(6):
        slopes = torch.autograd.grad(boosting.loss(x), [rbm.weight, rbm.visible_bias], allow_unused=True)
        moved = slopes[0].abs().sum(0) > 0
        assert moved.tolist() == [unit == step // 2 for unit in range(rbm.hidden)]
        assert slopes[1] is None or not bool(slopes[1].any())


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_momentum_moves_no_unit_whose_turn_is_over(optimiser):
    """The weights after every step of training, with momentum that goes on."""
    rbm, x = dgm.RBM.example()
    boosting = dgm.SelfSupervisedBoosting(dgm.PCD(chains=8), refresh=5, units="in turn")
    boosting.attach(rbm)
    step = {
        "adam": lambda: torch.optim.Adam(rbm.parameters(), lr=0.05, weight_decay=0.1),
        "sgd": lambda: torch.optim.SGD(rbm.parameters(), lr=0.05, momentum=0.9),
    }[optimiser]()
    for number in range(5 * rbm.hidden):
        before = rbm.weight.detach().clone()
        for turn in boosting.turns(x):
            step.zero_grad(set_to_none=True)
            turn.loss().backward()
            step.step()
        moved = (rbm.weight.detach() - before).abs().sum(0) > 0
        assert moved.tolist() == [unit == number // 5 for unit in range(rbm.hidden)]


def test_what_is_refused():
    with pytest.raises(ValueError, match="phase got"):
        dgm.SelfSupervisedBoosting(phase=3)
    with pytest.raises(ValueError, match="units got"):
        dgm.SelfSupervisedBoosting(units="some")
    with pytest.raises(ValueError, match="expected a model with weight"):
        dgm.SelfSupervisedBoosting(units="in turn").attach(dgm.DBM.example()[0])
    with pytest.raises(ValueError, match="returns an energy distribution"):
        dgm.SelfSupervisedBoosting().attach(dgm.VAE.example()[0])
