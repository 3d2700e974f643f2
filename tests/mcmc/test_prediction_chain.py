"""Chains of mean field's predictions: their listed law, clamps, and what multi-prediction makes of them."""

import itertools

import numpy as np
import pytest
import torch
from oracles.walks import frequencies, numbers, standard_errors, stationary

import pyro_dgm as dgm

CHAINS = 20_000
W = np.array([[0.8, -0.5], [0.6, 0.9], [-0.7, 0.4]])
B, C = np.array([0.2, -0.3, 0.1]), np.array([0.1, -0.2])


def rbm():
    model = dgm.RBM(visible=3, hidden=2).double()
    with torch.no_grad():
        machine = model().machine
        machine.weights[0].copy_(torch.as_tensor(W))
        machine.biases["visible"][0].copy_(torch.as_tensor(B))
        machine.biases["hidden"][0].copy_(torch.as_tensor(C))
    return model


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def predicted(row, known):
    """The fixed point of mean field given known entries, by plain iteration."""
    means = np.where(known, row, 0.5)
    for _ in range(500):
        hidden = sigmoid(C + means @ W)
        means = np.where(known, row, sigmoid(B + W @ hidden))
    return means


def transition(share, always=()):
    """One step, by listing which entries stay and what the others become."""
    rows = np.array(list(itertools.product([0.0, 1.0], repeat=3)))
    T = np.zeros((8, 8))
    for x, row in enumerate(rows):
        for stays in itertools.product([False, True], repeat=3):
            known = np.array(stays)
            weight = np.prod([1.0 if i in always else share if k else 1 - share for i, k in enumerate(known)])
            if any(not known[i] for i in always):
                continue
            means = predicted(row, known)
            T[x] += weight * np.where(rows == 1, means, 1 - means).prod(1)
    return T


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_the_law_is_that_of_the_listed_steps(share):
    torch.manual_seed(0)
    kernel = dgm.PredictionChain(rbm()(), known=share, rounds=60)
    state = kernel.start(CHAINS)
    for _ in range(25):
        state = kernel.sample(state)
    T = transition(share)
    np.testing.assert_allclose(T.sum(1), 1)
    assert standard_errors(frequencies(numbers(state["visible"]), 8), stationary(T), CHAINS) < 4.5


def test_a_clamp_is_always_known():
    torch.manual_seed(0)
    known, value = torch.tensor([True, False, False]), torch.ones(3)
    kernel = dgm.PredictionChain(rbm()(), known=0.4, rounds=60, clamp=(known, value))
    state = kernel.start(CHAINS)
    for _ in range(25):
        state = kernel.sample(state)
    assert state["visible"][:, 0].eq(1).all()
    T = transition(0.4, always=(0,))[4:, 4:]
    assert standard_errors(frequencies(numbers(state["visible"]) - 4, 4), stationary(T), CHAINS) < 4.5


def test_multi_prediction_trains_it():
    """Two bits that agree and one that does not: rows of the trained machine's chain do so too, before training they do not."""
    torch.manual_seed(0)
    bit = torch.randint(0, 2, (500, 1)).float()
    x = torch.cat([bit, bit, 1 - bit], 1)
    model = dgm.DBM(3, hidden=(8, 4))
    shares = []
    for epochs in (0, 30):
        if epochs:
            dgm.fit(
                model, x, objective=dgm.MultiPrediction(rounds=5), epochs=epochs, learning_rate=0.02, progress=False
            )
        mcmc = dgm.VectorizedMCMC(dgm.PredictionChain(model(), known=0.5), 20, 40, num_chains=100, disable_progbar=True)
        mcmc.run()
        rows = mcmc.get_samples()["visible"]
        shares.append(float(((rows[:, 0] == rows[:, 1]) & (rows[:, 0] != rows[:, 2])).float().mean()))
    assert shares[0] < 0.5
    assert shares[1] > 0.8


def test_labels_stay_or_go_as_a_whole():
    torch.manual_seed(0)
    model = dgm.DBM(4, hidden=(3, 3), classes=3)
    kernel = dgm.PredictionChain(model(), layers=["visible", "label"])
    state = kernel.sample(kernel.start(50))
    assert set(state) == {"visible", "label"}
    assert state["label"].sum(-1).eq(1).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dgm.PredictionChain(dgm.RBM(2, 2)), r"call the model: PredictionChain\(dbm\(\)\)"),
        (lambda: dgm.PredictionChain(dgm.RBM(2, 2)(), known=1.0), "known got 1"),
        (lambda: dgm.PredictionChain(dgm.RBM(2, 2)(), rounds=0), "rounds got 0"),
        (lambda: dgm.PredictionChain(dgm.RBM(2, 2)(), layers=["top"]), "layers got"),
        (
            lambda: dgm.PredictionChain(dgm.RBM(2, 2)(), clamp={"hidden": (torch.ones(2).bool(), torch.ones(2))}),
            "over which the chain does not go",
        ),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
