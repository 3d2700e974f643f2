"""Machines whose parameters follow from earlier frames: their blocks, draws and completions against plain NumPy."""

import itertools

import numpy as np
import pytest
import torch
from oracles.waves import bits, wave
from pyro.infer import Predictive
from pyro.poutine import condition, trace

import pyro_dgm as dgm

CHAINS = 20_000
FRAMES, HIDDEN = 3, 2
VISIBLES = np.array(list(itertools.product([0.0, 1.0], repeat=FRAMES)))
HIDDENS = np.array(list(itertools.product([0.0, 1.0], repeat=HIDDEN)))


def conditional():
    """A conditional RBM of order 1."""
    return _filled(dgm.ConditionalRBM(2 * FRAMES, FRAMES, HIDDEN))


def recurrent():
    return _filled(dgm.RNNRBM(16, FRAMES, HIDDEN, 2, rank=2))


def temporal():
    return _filled(dgm.RTRBM(16, FRAMES, HIDDEN))


def _filled(model):
    with torch.no_grad():
        for number, parameter in enumerate(model.double().parameters()):
            parameter.copy_(wave(1.5, number, *parameter.shape))
    return model


def arrays(model):
    return {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def machines(model, past):
    """Visible bias, hidden bias and weights of the frame after past ones, from the equations alone."""
    p = arrays(model)
    if isinstance(model, dgm.ConditionalRBM):
        x = past[-1]
        return p["visible_bias"] + x @ p["visible_weight"], p["hidden_bias"] + x @ p["hidden_weight"], p["weight"]
    if isinstance(model, dgm.RTRBM):
        bias = p["first_bias"]
        for x in past:
            bias = p["hidden_bias"] + sigmoid(x @ p["weight"] + bias) @ p["recurrent_weight"]
        return p["visible_bias"], bias, p["weight"]
    u = p["first"]
    into, again = p["recurrence.weight_ih_l0"], p["recurrence.weight_hh_l0"]
    for x in past:
        u = np.tanh(into @ x + p["recurrence.bias_ih_l0"] + again @ u + p["recurrence.bias_hh_l0"])
    own = p["factors_visible"] @ np.diag(u @ p["factors_state"]) @ p["factors_hidden"].T
    return (
        p["visible_bias"] + p["to_visible.weight"] @ u, p["hidden_bias"] + p["to_hidden.weight"] @ u, p["weight"] + own
    )  # fmt: skip


def law(model, past):
    """The joint probabilities of a frame and its hidden units, ``8 x 4``."""
    b, c, W = machines(model, past)
    minus = (VISIBLES @ b)[:, None] + HIDDENS @ c + VISIBLES @ W @ HIDDENS.T
    return np.exp(minus) / np.exp(minus).sum()


PASTS = [bits(q, 1, FRAMES).numpy() for q in (1, 2, 5)]


def distribution(model):
    """The machines of the frames after each of the pasts, as one batch."""
    past = torch.tensor(np.stack(PASTS))
    if isinstance(model, dgm.ConditionalRBM):
        return model(past[:, 0])
    return model(model.advance(past[:, 0], model.start(len(past))))


def numbers(x):
    return (x.long() * 2 ** torch.arange(x.shape[-1] - 1, -1, -1)).sum(-1)


def close(found, p, n=CHAINS):
    """Every frequency within six standard errors."""
    return bool((np.abs(found - p) <= 6 * np.sqrt(p * (1 - p) / n) + 3 / n).all())


def frequencies(state, past):
    """The shares of the joint states of a past's chains, ``8 x 4``."""
    index = numbers(state["visible"][:, past]) * 4 + numbers(state["hidden"][:, past])
    return torch.bincount(index, minlength=32).view(8, 4).numpy() / len(index)


def drawn(laws):
    """Exact joint draws for every past."""
    generator = np.random.default_rng(0)
    chosen = np.stack([generator.choice(32, CHAINS, p=p.ravel()) for p in laws], 1)
    return {"visible": torch.tensor(VISIBLES[chosen // 4]), "hidden": torch.tensor(HIDDENS[chosen % 4])}


MODELS = pytest.mark.parametrize("make", [conditional, recurrent, temporal])


@MODELS
@pytest.mark.parametrize("clamped", [False, True])
def test_blocks_leave_every_frames_law_where_it_is(make, clamped):
    """Joint draws of three machines, each after another past, before and after two sweeps; with a bit held, its conditional."""
    torch.manual_seed(0)
    model = make()
    known = torch.tensor([False, True, False])
    laws = [law(model, past) * (VISIBLES[:, 1:2] == 1 if clamped else 1) for past in PASTS]
    laws = [p / p.sum() for p in laws]
    clamp = {"visible": (known, torch.ones(FRAMES).double())} if clamped else None
    kernel, state = dgm.BlockGibbs(distribution(model), clamp=clamp), drawn(laws)
    for _ in range(2):
        state = kernel.sample(state)
    assert all(close(frequencies(state, number), p) for number, p in enumerate(laws))
    assert not all(close(frequencies(state, 0), p) for p in laws)


@MODELS
def test_blocks_move_as_their_transition_matrix(make):
    """One sweep from a state: hidden units given it, and then the frame given them."""
    torch.manual_seed(0)
    model = make()
    kernel, start = dgm.BlockGibbs(distribution(model)), 5
    state = {
        "visible": torch.tensor(VISIBLES[start]).expand(CHAINS, len(PASTS), FRAMES),
        "hidden": torch.zeros(CHAINS, len(PASTS), HIDDEN).double(),
    }
    state = kernel.sample(state)
    for number, past in enumerate(PASTS):
        p = law(model, past)
        hidden = p[start] / p[start].sum()
        assert close(frequencies(state, number), hidden * p / p.sum(0))


@pytest.mark.parametrize("make", [recurrent, temporal])
def test_sequences_are_drawn_from_their_law(make):
    """Two frames from the start: shares of all 64 pairs."""
    torch.manual_seed(0)
    model = make()
    rows = model.sample(CHAINS, length=2)
    frames, present = dgm.data.unpad(rows, FRAMES)
    assert present.all()
    first = law(model, []).sum(1)
    p = np.concatenate([first[i] * law(model, [x]).sum(1) for i, x in enumerate(VISIBLES)])
    assert close(torch.bincount(numbers(frames.flatten(1)), minlength=64).numpy() / CHAINS, p)


def test_a_conditional_machine_continues_sequences():
    """Two frames after one, each by a chain from the frame before: shares of all 64 pairs."""
    torch.manual_seed(0)
    model = conditional()
    frames = model.extend(torch.tensor(PASTS[0]).expand(CHAINS, 1, FRAMES), 2)
    first = law(model, PASTS[0]).sum(1)
    p = np.concatenate([first[i] * law(model, [x]).sum(1) for i, x in enumerate(VISIBLES)])
    assert close(torch.bincount(numbers(frames.flatten(1)), minlength=64).numpy() / CHAINS, p)
    rows = model.sample(CHAINS, given=torch.tensor(PASTS[1][0]))
    assert close(torch.bincount(numbers(rows[:, FRAMES:]), minlength=8).numpy() / CHAINS, law(model, PASTS[1]).sum(1))


@pytest.mark.parametrize("make", [recurrent, temporal])
def test_features_of_frames_are_their_hidden_means(make):
    """Of a short sequence beside a longer one, with zeros after its end; and back to the means of its bits."""
    model, sequences = make(), [bits(3, 2, FRAMES), bits(4, 4, FRAMES)]
    rows = dgm.data.pad(sequences)
    features, again = model.hidden_features(rows).view(2, 4, HIDDEN).numpy(), model.reconstruct(rows)
    means, present = again.view(2, 4, FRAMES + 1)[..., :FRAMES].numpy(), again.view(2, 4, FRAMES + 1)[..., FRAMES]
    assert present.sum(1).tolist() == [2, 4]
    for row, sequence in enumerate(sequences):
        for t, x in enumerate(sequence.numpy()):
            b, c, W = machines(model, sequence[:t].numpy())
            np.testing.assert_allclose(features[row, t], sigmoid(c + x @ W))
            np.testing.assert_allclose(means[row, t], sigmoid(b + W @ features[row, t]))
    assert not features[0, 2:].any()
    assert not means[0, 2:].any()


@pytest.mark.parametrize("cls", [dgm.RNNRBM, dgm.RTRBM])
def test_drawn_sequences_have_their_log_probability(cls):
    """Traces of draws had 0, conditioned ones minus infinity, and all particles one sequence."""
    model, x = cls.example()
    drawn = trace(model.model).get_trace(None, 4)
    drawn.compute_log_prob()
    exact = model.evidence(drawn.nodes["x"]["value"], "exact").values
    torch.testing.assert_close(drawn.nodes["x"]["log_prob"], exact, check_dtype=False)
    given = trace(condition(model.model, data={"x": x})).get_trace(None, len(x)).log_prob_sum()
    torch.testing.assert_close(given, trace(model.model).get_trace(x).log_prob_sum())
    rows = Predictive(model.model, num_samples=50, parallel=True)(None, 1)["x"]
    assert rows.shape == (50, 1, 12)
    assert len(rows.unique(dim=0)) > 1
