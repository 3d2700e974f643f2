"""log Z of a program's energy-based sites: not needed where it cancels, annealed and said where it matters."""

import itertools
import math
import warnings

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from pyro.distributions import Bernoulli

import pyro_dgm as dgm
from pyro_dgm.inference.normalisers import up_to_normalisers
from pyro_dgm.objectives.phases.phase import KnownLogPartition

VISIBLE, SMALL, LARGE = 4, 3, 24


def large():
    """A belief network with two layers of 24 units, of which all but three in either are coupled to nothing; and log Z.

    Its top machine has too many states to list, but log Z is that of the coupled part and 42 times log 2.
    """
    torch.manual_seed(0)
    dbn = dgm.DBN(VISIBLE, hidden=(LARGE, LARGE))
    with torch.no_grad():
        for weight in (*dbn.weights, *dbn.recognition_weights):
            weight.zero_()
        dbn.weights[0][:, :SMALL].normal_()
        dbn.weights[1][:SMALL, :SMALL].normal_()
        dbn.recognition_weights[0][:, :SMALL].copy_(dbn.weights[0][:, :SMALL])
    hidden = bits(SMALL)
    coupled = dbn.weights[1][:SMALL, :SMALL].detach().double().numpy()
    log_z = np.logaddexp.reduce((hidden @ coupled @ hidden.T).ravel()) + 2 * (LARGE - SMALL) * math.log(2)
    return dbn, float(log_z)


def bits(n):
    return np.array(list(itertools.product((0.0, 1.0), repeat=n)))


def log_likelihoods(dbn):
    """All rows, and their log p by enumeration of the coupled units."""
    rows, hidden = bits(VISIBLE), bits(SMALL)
    up, top = (w.detach().double().numpy() for w in dbn.weights)
    prior = np.logaddexp.reduce(hidden @ top[:SMALL, :SMALL] @ hidden.T, 1)
    prior -= np.logaddexp.reduce(prior)
    logits = hidden @ up[:, :SMALL].T
    given = rows @ logits.T - np.logaddexp(0, logits).sum(1)
    return rows, np.logaddexp.reduce(given + prior, 1)


def test_importance_weights_use_the_annealed_value_and_say_so():
    """log mean w against log p(x) by enumeration: six standard errors of it and of the annealed log Z."""
    dbn, log_z = large()
    rows, expected = log_likelihoods(dbn)
    torch.manual_seed(0)
    with pytest.warns(
        UserWarning, match="log Z of the site 'hidden1' has too many states to be listed; it was annealed"
    ) as said:
        weights = dgm.log_weights(dbn.model, dbn.guide, torch.tensor(rows).float(), particles=1000)
    value, error = (
        float(word) for word in str(said[0].message).split("annealed, to ")[1].split(" nats")[0].split(" ± ")
    )
    assert abs(value - log_z) < 6 * error + 1e-3
    found = weights.double().logsumexp(0) - math.log(1000)
    relative = (weights.double() - found).exp().std(0) / math.sqrt(1000)
    assert ((found - torch.tensor(expected)).abs() < 6 * (relative + error) + 1e-3).all()


def test_unknown_entries_are_imputed_at_any_size():
    """Means of p(x_a | x_b) by enumeration, within six standard errors of 400 chains (each of ten draws that depend)."""
    dbn, _ = large()
    rows, log_p = log_likelihoods(dbn)
    known = torch.tensor([True, True, False, False])
    p = np.exp(log_p) * (rows[:, :2] == 1).all(1)
    expected = torch.tensor(p @ rows / p.sum())
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        found = dbn.impute(torch.ones(400, VISIBLE), known, draws=10).double().mean(0)
        assert dgm.condition(dbn, torch.ones(2, VISIBLE), known, draws=3, warmup=2).shape == (3, 2, VISIBLE)
    error = (expected * (1 - expected) / 400).sqrt()
    assert ((found - expected).abs() < 6 * error + 1e-6).all()


def test_verbs_in_which_it_cancels_do_not_anneal(monkeypatch):
    dbn, _ = large()
    x = torch.ones(3, VISIBLE)
    monkeypatch.setattr("pyro_dgm.annealing.normalisers.log_partition", None)
    assert dgm.active_units(dbn.model, dbn.guide, x, draws=3)["hidden1"].active.shape == (LARGE,)
    drawn = dbn.posterior_draws(x, 20, 2)
    # What is reported is log p(x | h) of bits, at most zero.
    assert bool((drawn["log_likelihood"]["x"] <= 0).all())
    assert dgm.to_arviz(dbn, x, num_samples=5, num_chains=2).posterior["hidden1"].shape == (2, 5, 3, LARGE)


def test_divergences_need_it_and_say_how_it_was_found():
    """The same draws with the exact log Z in its place differ by the error of the annealed one alone."""
    dbn, log_z = large()
    x = torch.ones(2, VISIBLE)
    found = []
    for program in (dbn.model, dgm.negative_phase(dbn.model, KnownLogPartition(log_z))):
        torch.manual_seed(0)
        found.append(dgm.kl_per_latent(program, dbn.guide, x, draws=20)["hidden1"])
    assert found[0].method == "Monte Carlo, log Z: AIS and reverse AIS"
    assert found[1].method == "Monte Carlo"
    assert found[0].total == pytest.approx(found[1].total, abs=0.05)


@pytest.mark.parametrize("verb", [dgm.annealed_log_weights, dgm.bidirectional_gap])
def test_annealing_of_latents_says_it_too(verb):
    dbn, _ = large()
    data = {"n": 3} if verb is dgm.bidirectional_gap else {}
    with pytest.warns(UserWarning, match="log Z of the site 'hidden1'"):
        verb(dbn.model, dbn.guide, *([] if data else [torch.ones(2, VISIBLE)]), temperatures=3, chains=2, **data)


def test_a_normaliser_that_depends_on_draws_stays():
    """An RBM whose biases are latent draws has a log Z for every draw, which is part of the ratio."""
    rbm, _ = dgm.RBM.example()

    def program(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", Bernoulli(torch.full((6,), 0.5)).to_event(1))
            pyro.sample("x", rbm(visible_shift=3 * z), obs=x)

    def log_joint(program):
        torch.manual_seed(0)
        return float(poutine.trace(program).get_trace(torch.ones(5, 6)).log_prob_sum().detach())

    assert log_joint(up_to_normalisers(program)) == log_joint(program)
    shared, x = dgm.RBM.example()
    missing = poutine.trace(up_to_normalisers(shared.model)).get_trace(x).log_prob_sum()
    assert float(missing.detach()) == pytest.approx(-float(shared().free_energy(x).sum().detach()), rel=1e-6)
