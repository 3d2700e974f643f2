"""Walkback: values against listed chains, the fixed point of its own denoiser, and what its gradient goes through."""

import math

import numpy as np
import pytest
import torch
from oracles.walks import P3, ROWS3, BitNetwork, JointDenoiser, flips, numbers, posterior

import pyro_dgm as dgm

ROWS = 40_000
C = flips(0.2)


def own_denoiser(steps):
    """The table that is the posterior of data under the mixture of corruptions that its own chain makes, by iteration."""
    table = posterior(P3, C)
    for _ in range(200):
        mixture, at = np.zeros((8, 8)), np.eye(8)
        for _ in range(steps):
            noisy = at @ C
            mixture += noisy / steps
            at = noisy @ table
        table = posterior(P3, mixture)
    return table


def data(rows=ROWS):
    counts = np.round(P3 * rows).astype(int)
    return torch.as_tensor(np.repeat(ROWS3, counts, 0))


def gradient(table, objective, seed=0):
    """The gradient of the loss by the table's logits, from many rows, and its standard error by parts."""
    torch.manual_seed(seed)
    model, x = JointDenoiser(table), data()
    objective.attach(model)
    parts = []
    for rows in x[torch.randperm(len(x))].chunk(20):
        model.zero_grad()
        objective.loss(rows).backward()
        parts.append(model.logits.grad.clone())
    parts = torch.stack(parts)
    return parts.mean(0), parts.std(0) / math.sqrt(len(parts))


@pytest.mark.parametrize("steps", [1, 3])
def test_the_criterion_is_stationary_at_its_own_denoiser(steps):
    """There p stays the chain's law, and mixing is faster: the eigenvalue of FACTS, and no gradient left."""
    table = own_denoiser(steps)
    np.testing.assert_allclose(P3 @ C @ table, P3, atol=1e-12)
    second = np.sort(np.abs(np.linalg.eigvals(C @ table)))[-2]
    assert second == pytest.approx({1: 0.4485455967, 3: 0.1815974314}[steps], abs=1e-8)
    mean, error = gradient(table, dgm.Denoising(steps=steps))
    assert float((mean.abs() / error).max()) < 5.5  # 64 entries, 19 degrees of freedom: once in some 600 such tests


def test_another_denoiser_is_pulled():
    """The posterior of one corruption is not the fixed point of three steps."""
    mean, error = gradient(own_denoiser(1), dgm.Denoising(steps=3))
    assert float((mean.abs() / error).max()) > 20


def test_the_last_step_alone_is_the_posterior_of_two_corruptions():
    """Of k = 2 the denoiser is P T, with P that of one step: so the chain's second row is what is denoised."""
    first = posterior(P3, C)
    table = posterior(P3, C @ first @ C)
    mean, error = gradient(first, dgm.Denoising(steps=2, costs="last"))
    assert float((mean.abs() / error).max()) > 10
    np.testing.assert_allclose(P3 @ C @ table, P3, atol=1e-12)


TERMS = {
    (0, 0): (-1.415394691, -1.464625279, -1.487390910),
    (0, 1): (-1.213064349, -1.624424677, -1.814649456),
    (1, 0): (-1.253548693, -1.231156551, -1.220801784),
    (1, 1): (-1.714945092, -1.697882173, -1.689991792),
}


@pytest.mark.parametrize("row", TERMS)
def test_terms_of_a_network(row):
    """E log p(x^(k) = x | h^(k)) from h^(0) = 0, term by term and as the mean of three."""
    model = BitNetwork([-0.5], [[1.5]], [[1.0], [-0.7]], [-1.0, 0.5], [[2.0, -1.5]])
    x = torch.tensor(row, dtype=torch.float64).expand(ROWS, 2)
    for steps, costs, expected in (
        *((k + 1, "last", TERMS[row][k]) for k in range(3)),
        (3, "all", sum(TERMS[row]) / 3),
    ):
        torch.manual_seed(1)
        objective = dgm.Walkback(steps=steps, costs=costs)
        objective.attach(model)
        with torch.no_grad():
            found = float(objective.loss(x))
        # A term is one of two values by h, at most 2.5 apart: its deviation is below 1.25.
        assert found == pytest.approx(-expected, abs=4 * 1.25 / math.sqrt(ROWS))


def test_no_gradient_goes_through_drawn_rows_but_through_hidden_units():
    torch.manual_seed(0)
    gsn = dgm.GSN(4, hidden=(3, 2), level=0.1).double()
    x = torch.randint(0, 2, (50, 4)).double()
    seen = []
    corrupt = gsn.columns.corrupt
    gsn.columns.corrupt = lambda rows: seen.append(rows.requires_grad) or corrupt(rows)
    objective = dgm.Walkback(steps=3, costs="last")
    objective.attach(gsn)
    objective.loss(x).backward()
    assert seen == [False, False, False]
    # The last cost reaches the top layer's weights through two earlier steps.
    assert gsn.ladder.weights[1].grad.abs().sum() > 0
    one = dgm.Walkback(steps=1)
    one.attach(gsn)
    gsn.zero_grad()
    one.loss(x).backward()
    # In one step from h = 0 nothing of the top layer but its zero enters the row's law: down(0) gives no gradient to W_2.
    assert gsn.ladder.weights[1].grad is None or not gsn.ladder.weights[1].grad.any()


def test_a_layer_of_weight_zero_stays_at_the_data():
    """Discriminative training holds the visible columns, and the label starts from nothing, not from the answer."""
    torch.manual_seed(0)
    gsn = dgm.GSN(4, hidden=(3,), classes=2)
    x = torch.cat([torch.randint(0, 2, (50, 4)).float(), torch.eye(2)[torch.randint(2, (50,))]], 1)
    states = []
    rebuild = gsn.rebuild
    gsn.rebuild = lambda state, clean=None: states.append(state) or rebuild(state, clean)
    objective = dgm.Walkback(steps=3, visible=0.0)
    objective.attach(gsn)
    objective.loss(x)
    assert all(torch.equal(state["visible"], x[:, :4]) for state in states)
    assert not states[0]["label"].any()
    assert states[1]["label"].sum(1).eq(1).all()
    gsn.rebuild = rebuild
    objective.loss(x).backward()
    grads = {name: p.grad for name, p in gsn.named_parameters()}
    assert grads["ladder.biases.0"] is None  # the visible law costs nothing


def test_labels_that_are_given_are_held_and_others_start_from_nothing():
    torch.manual_seed(0)
    gsn = dgm.GSN(4, hidden=(3,), classes=3)
    label = torch.eye(3)[torch.randint(3, (600,))]
    x = torch.cat([torch.randint(0, 2, (600, 4)).float(), label], 1)
    states = []
    rebuild = gsn.rebuild
    gsn.rebuild = lambda state, clean=None: states.append(state["label"]) or rebuild(state, clean)
    objective = dgm.Walkback(steps=3, given=0.25)
    objective.attach(gsn)
    objective.loss(x)
    held = states[0].any(1)
    assert float(held.float().mean()) == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / 600))
    for state in states:
        assert torch.equal(state[held], label[held])
    assert not torch.equal(states[1][~held], label[~held])


def test_geometric_lengths_have_their_mean():
    torch.manual_seed(0)
    objective = dgm.Denoising(steps=4, geometric=True)
    lengths = torch.tensor([objective._length() for _ in range(4000)], dtype=torch.float64)
    assert lengths.min() == 1
    assert float(lengths.mean()) == pytest.approx(4, abs=4 * math.sqrt(12) / math.sqrt(4000))  # variance (1 - p) / p^2


def test_masked_training_keeps_known_entries_clean_and_says_so():
    torch.manual_seed(0)
    model = dgm.DenoisingAutoencoder(4, hidden=(5,), corruption="flip", level=0.5, masks=True)
    seen = []
    network = model.autoencoder.forward
    model.autoencoder.forward = lambda x: seen.append(x) or network(x)
    x = torch.randint(0, 2, (2000, 4)).float()
    objective = dgm.Denoising(steps=2)
    objective.attach(model)
    objective.loss(x)
    for inputs in seen:
        rows, mask = inputs.split(4, -1)
        assert torch.equal(rows[mask == 1], x[mask == 1])
        assert 0.2 < float(mask.mean()) < 0.3  # half of the rows, a uniform share of their entries
        assert float((rows != x)[mask == 0].float().mean()) == pytest.approx(0.5, abs=0.1)
    assert torch.equal(seen[0][:, 4:], seen[1][:, 4:])


class TestRefusals:
    def test_options(self):
        for make, message in (
            (lambda: dgm.Denoising(steps=0), "steps got 0"),
            (lambda: dgm.Denoising(costs="first"), "costs got 'first'"),
            (lambda: dgm.Walkback(visible=0, label=0), "expected one above it"),
            (lambda: dgm.Walkback(visible=-1), "visible got -1"),
            (lambda: dgm.Walkback(given=1.0), "given got 1"),
        ):
            with pytest.raises(ValueError, match=message):
                make()

    def test_models(self):
        vae, x = dgm.VAE.example()
        with pytest.raises(ValueError, match="corrupts rows and rebuilds them"):
            dgm.fit(vae, x, objective=dgm.Denoising(), epochs=1, progress=False)
        gsn, x = dgm.GSN.example()
        with pytest.raises(ValueError, match="without classes"):
            dgm.fit(gsn, x, objective=dgm.Walkback(visible=0), epochs=1, progress=False)


def test_numbers_of_rows():
    """The oracle itself: rows are numbered by their bits."""
    assert numbers(torch.as_tensor(ROWS3)).tolist() == list(range(8))


def test_labels_that_are_given_cost_nothing():
    """A network that is sure of the wrong class: what it pays for labels is paid by rows whose label is not given."""
    torch.manual_seed(0)
    gsn = dgm.GSN(4, hidden=(3,), classes=2, noise=0.0)
    with torch.no_grad():
        for parameter in gsn.parameters():
            parameter.zero_()
        gsn.top.biases[1].copy_(torch.tensor([0.0, 50.0]))
    x = torch.cat([torch.zeros(400, 4), torch.tensor([1.0, 0.0]).expand(400, 2)], 1)
    costs = []
    for given in (0.0, 0.75):
        objective = dgm.Walkback(steps=1, given=given)
        objective.attach(gsn)
        costs.append(float(objective.loss(x).detach()) - 4 * math.log(2))
    assert costs[0] == pytest.approx(50, abs=1e-4)
    assert costs[1] == pytest.approx(12.5, abs=4 * 50 * math.sqrt(0.75 * 0.25 / 400))
    plain = dgm.GSN(4, hidden=(3,))
    with pytest.raises(ValueError, match="no label to hold"):
        dgm.Walkback(given=0.5).attach(plain)
