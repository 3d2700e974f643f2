"""RNN-NADE against its recurrences in NumPy and against enumeration of short sequences."""

import itertools

import numpy as np
import pytest
import scipy.stats
import torch
from oracles import boltzmann as oracle

import pyro_dgm as dgm

CELL = pytest.mark.parametrize("cell", ["tanh", "gru"])


def random(model, seed=0, scale=0.8):
    return oracle.randomise(model, torch.Generator().manual_seed(seed), scale)


def array(parameter):
    return parameter.detach().double().numpy()


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def sequences(frames, features=2):
    """All sequences of so many frames of bits, as rows."""
    bits = torch.tensor(list(itertools.product([0.0, 1.0], repeat=frames * features))).view(-1, frames, features)
    return torch.cat([bits, torch.ones_like(bits[..., :1])], -1).flatten(1)


def by_hand(model, frames):
    """log p of one sequence of bits, from the paper's recurrences."""
    net, cell = model.network, {n: array(p) for n, p in model.recurrence.named_parameters()}
    order, c = net.order.tolist(), np.zeros(0)
    W, V = (array(net.inputs)[:, 0], array(net.outputs)[:, 0]) if model.hidden else np.zeros((2, len(order), 0))
    u, total = array(model.start), 0.0
    for x in frames:
        b = array(net.bias)[:, 0] + array(net.context.weight) @ u
        if model.hidden:
            c = array(net.hidden_bias) + array(net.hidden_context.weight) @ u
        for place, i in enumerate(order):
            p = sigmoid(b[i] + V[i] @ sigmoid(c + sum(W[j] * x[j] for j in order[:place])))
            total += np.log(p if x[i] else 1 - p)
        inputs = cell["weight_ih_l0"] @ x + cell["bias_ih_l0"]
        inner = cell["weight_hh_l0"] @ u + cell["bias_hh_l0"]
        if model.cell == "tanh":
            u = np.tanh(inputs + inner)
        else:
            (r, z, n), (hr, hz, hn) = np.split(inputs, 3), np.split(inner, 3)
            r, z = sigmoid(r + hr), sigmoid(z + hz)
            u = (1 - z) * np.tanh(n + r * hn) + z * u
    return total


@CELL
@pytest.mark.parametrize("hidden", [5, 0])
def test_log_probabilities_are_the_recurrences(cell, hidden):
    model = random(dgm.RNNNADE(16, features=3, hidden=hidden, recurrent=4, cell=cell, order=[2, 0, 1]))
    generator = torch.Generator().manual_seed(1)
    parts = [torch.randint(0, 2, (n, 3), generator=generator).float() for n in (4, 1, 3, 2)]
    expected = [by_hand(model, part.double().numpy()) for part in parts]
    rows = dgm.data.pad(parts)
    np.testing.assert_allclose(model().log_prob(rows).detach(), expected, atol=2e-5)
    # More padding, or less, changes nothing.
    np.testing.assert_allclose(model().log_prob(dgm.data.pad(parts, 7)).detach(), expected, atol=2e-5)
    np.testing.assert_allclose(model().log_prob(rows[1:2, :4]).detach(), expected[1:2], atol=2e-5)


@CELL
@pytest.mark.parametrize("frames", [1, 2, 3])
def test_sequences_of_a_length_sum_to_one(cell, frames):
    model = random(dgm.RNNNADE(9, features=2, hidden=4, recurrent=3, cell=cell))
    assert abs(model().log_prob(sequences(frames)).logsumexp(0).item()) < 1e-5


@CELL
@pytest.mark.parametrize("hidden", [4, 0])
def test_drawn_as_scored(cell, hidden):
    torch.manual_seed(0)
    model, n = random(dgm.RNNNADE(6, features=2, hidden=hidden, recurrent=3, cell=cell, order=[1, 0])), 20_000
    drawn = model.sample(n)
    assert (drawn[:, [2, 5]] == 1).all()
    p = model().log_prob(sequences(2)).exp().detach().double().numpy()
    counts = np.bincount((drawn[:, [0, 1, 3, 4]].numpy() @ [8, 4, 2, 1]).astype(int), minlength=16)
    assert n * p.min() > 5
    assert scipy.stats.chisquare(counts, n * p / p.sum()).pvalue > 1e-6


@pytest.mark.parametrize(("cell", "hidden"), [("tanh", 4), ("gru", 4), ("tanh", 0)])
def test_frames_are_filled_in_by_the_posterior(cell, hidden):
    """Unknown bits before, between and after known ones; means against enumeration.

    Six standard deviations of a bit's mean over a tenth of the particles: so many at least are left by weights and
    resampling of three frames.
    """
    torch.manual_seed(0)
    model, particles = random(dgm.RNNNADE(9, features=2, hidden=hidden, recurrent=3, cell=cell), scale=1.2), 4000
    x = sequences(3)[[13, 50]]
    known = torch.tensor([[0, 1, 1, 0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 0, 0, 0, 1, 0]]).bool()
    values = [0, 1, 3, 4, 6, 7]
    got = model.impute(x, known, draws=particles)
    everything = sequences(3)
    p = model().log_prob(everything).exp().detach()
    prior = (p.unsqueeze(1) * everything).sum(0)
    for row, mask, filled in zip(x, known, got, strict=True):
        seen = [i for i in values if mask[i]]
        possible = (everything[:, seen] == row[seen]).all(1)
        weight = torch.where(possible, p, 0.0)
        expected = (weight.unsqueeze(1) * everything).sum(0) / weight.sum()
        assert (filled - expected).abs().max() < 6 * 0.5 / (particles / 10) ** 0.5
        assert torch.equal(filled[seen], row[seen])
        assert (expected - prior)[values].abs().max() > 0.3


def test_padding_stays_and_is_not_filled_in():
    model = random(dgm.RNNNADE(9, features=2, hidden=4, recurrent=3))
    rows = dgm.data.pad([torch.ones(1, 2), torch.ones(3, 2)])
    filled = model.impute(rows, torch.zeros(9, dtype=torch.bool), draws=50)
    assert (filled[0, 3:] == 0).all()
    assert torch.equal(filled[:, 2::3], rows[:, 2::3])


def test_evidence_counts_frames():
    model = random(dgm.RNNNADE(9, features=2, hidden=4, recurrent=3))
    rows = dgm.data.pad([torch.ones(1, 2), torch.zeros(3, 2)])
    found = model.evidence(rows)
    assert found.kind == "exact"
    assert found.details["frames"] == 2
    assert found.details["nats_per_frame"] == pytest.approx(model().log_prob(rows).sum().item() / 4)
    with pytest.raises(ValueError, match="exact"):
        model.evidence(rows, "importance")


@pytest.mark.parametrize(
    ("output", "frames"),
    [
        ("categorical:3", torch.tensor([[0.0, 2.0], [1.0, 1.0]])),
        ("gaussians:2", torch.tensor([[0.3, -2.0], [1.0, 1.5]])),
        (["binary", "gaussian"], torch.tensor([[1.0, -2.0], [0.0, 1.5]])),
    ],
)
def test_other_families(output, frames):
    model = random(dgm.RNNNADE(6, features=2, hidden=4, recurrent=3, output=output), scale=0.5)
    rows = dgm.data.pad([frames, frames[:1]], 2)
    model.check_data(rows)
    model.initialise(rows)
    assert model().log_prob(rows).isfinite().all()
    model.check_data(model.sample(5))
    assert model.impute(rows, torch.zeros(6, dtype=torch.bool), draws=20).isfinite().all()


def test_starts_at_independent_values():
    model = dgm.RNNNADE(6, features=2, hidden=4, recurrent=3)
    rows = dgm.data.pad([torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 1.0]])])
    model.initialise(rows)
    torch.testing.assert_close(model.network.bias.detach().sigmoid().squeeze(1), torch.tensor([2 / 3, 2 / 3]))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"visible": 10}, "multiple of 3"),
        ({"cell": "lstm"}, "cell"),
        ({"hidden": -1}, "hidden"),
        ({"recurrent": 0}, "recurrent"),
        ({"order": [1, 1]}, "order"),
    ],
)
def test_refusals(options, match):
    with pytest.raises(ValueError, match=match):
        dgm.RNNNADE(**{"visible": 9, "features": 2, **options})


def test_what_is_known_is_checked():
    model, x = dgm.RNNNADE.example()
    everything = torch.ones(x.shape[1], dtype=torch.bool)
    for known in (everything[:5], everything.float()):
        with pytest.raises(ValueError, match=r"known got .*expected booleans"):
            model.impute(x, known, draws=2)
    x[3, 0] = torch.nan
    with pytest.raises(ValueError, match="row 3 has a known entry that is NaN"):
        model.impute(x, everything, draws=2)


def test_more_refusals():
    model, x = dgm.RNNNADE.example()
    for call in (lambda: model.sample(2, length=0), lambda: model.impute(x, x > 0, draws=1)):
        with pytest.raises(ValueError, match="got"):
            call()
    with pytest.raises(ValueError, match="categories"):
        dgm.RNNNADE(6, features=2, output="categorical:3").check_data(torch.tensor([[3.0, 0, 1, 0, 0, 1]]))


def test_a_context_moves_every_frame():
    model = random(dgm.RNNNADE(6, features=2, hidden=4, recurrent=3, context=2))
    context, rows = torch.randn(3, 2), sequences(2)
    table = model(context=context).log_prob(rows.unsqueeze(1))
    assert table.shape == (16, 3)
    torch.testing.assert_close(table.logsumexp(0), torch.zeros(3), atol=1e-5, rtol=0)
    for number, one in enumerate(context):
        torch.testing.assert_close(table[:, number], model(context=one).log_prob(rows))
    shifted = model(context=context[0]).log_prob(rows) - model().log_prob(rows)
    assert shifted.abs().max() > 0.1
    wide = model(context=context[0]).expand((4, 3))
    assert (wide.batch_shape, wide.sample((2,)).shape) == ((4, 3), (2, 4, 3, 6))
    drawn, means = model(context=context).sample((3000,)), (table.exp().T @ rows).detach()
    assert (drawn.mean(0) - means).abs().max() < 6 * (0.25 / 3000) ** 0.5  # six standard errors of a bit's mean at most
    with pytest.raises(ValueError, match=r"context got shape \(2, 3\), but the model was made with 2 columns"):
        model(context=torch.zeros(2, 3))
    with pytest.raises(ValueError, match="made with no context"):
        dgm.RNNNADE(6, features=2)(context=torch.zeros(2, 2))


@CELL
def test_the_probability_of_what_is_known_is_estimated_without_bias(cell):
    model = random(dgm.RNNNADE(9, features=2, hidden=4, recurrent=3, cell=cell), scale=8.0)
    rows = sequences(3)
    known = torch.tensor([False, True, True, True, False, True, False, True, True])
    log_p, runs, draws = model().log_prob(rows).detach(), 4000, 5
    # A row whose particles are drawn anew on the way.
    chosen = int(model.conditional_log_prob(rows, known, draws=draws)[1].argmin())
    row = rows[chosen]
    exact = log_p[(rows[:, known] == row[known]).all(1)].logsumexp(0)
    found, worth = model.conditional_log_prob(row.expand(runs, -1), known, draws=draws)
    ratio = (log_p[chosen] - found - exact).exp().double()  # the estimate of p(x_b) over p(x_b)
    assert float(ratio.mean()) == pytest.approx(1, abs=5 * float(ratio.std()) / runs**0.5)
    assert float(ratio.std()) > 0.05  # something is estimated
    assert 1 - 1e-5 <= worth.min() < draws / 2
    assert worth.max() <= draws + 1e-4
    every, _ = model.conditional_log_prob(rows, torch.ones(9, dtype=torch.bool), draws=2)
    torch.testing.assert_close(every.detach(), torch.zeros(64), atol=2e-5, rtol=0)
    _, details = model.impute_with_details(rows[:3], known, draws=20)
    assert details["method"] == "particle filter"
    assert 1 <= details["smallest_effective_sample_size"] <= 20


def test_values_that_a_frame_cannot_have():
    model = dgm.RNNNADE(15, features=2, hidden=3, recurrent=2, output="categorical:3")
    x = dgm.data.pad([torch.ones(3, 2), torch.zeros(5, 2)])
    x[1, 3] = 5
    match = "in sequence 1, the value 5 in frame 1, column 0; expected a whole number from 0 to 2"
    with pytest.raises(ValueError, match=match):
        model().log_prob(x)
    with pytest.raises(ValueError, match=match):
        model.impute(x, torch.ones(15, dtype=torch.bool), 5)
    x[1, 3] = 1
    assert torch.equal(model().log_prob(x.long()), model().log_prob(x))
    x[1] = 0
    with pytest.raises(ValueError, match="sequence 1 has no frames"):
        model().log_prob(x)
    with pytest.raises(ValueError, match="rows of 14 columns for features=2"):
        model().log_prob(x[:, :-1])
