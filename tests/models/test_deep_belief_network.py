"""The deep belief network against enumeration: likelihood, bound, samples, wake-sleep, pretraining."""

import itertools
import math

import numpy as np
import pytest
import torch
from oracles import boltzmann as oracle
from pyro import poutine

import pyro_dgm as dgm


def bits(n):
    return np.array(list(itertools.product((0.0, 1.0), repeat=n)))


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def log_bernoulli(x, logits):
    return (x * logits - np.logaddexp(0, logits)).sum(-1)


def tables(dbn):
    """All (v, h1) with log p(v, h1) and log q(h1 | v) of a network with two hidden layers, in NumPy."""
    p = {name: value.detach().double().numpy() for name, value in dbn.named_parameters()}
    v, h1, h2 = bits(dbn.visible), bits(dbn.hidden[0]), bits(dbn.hidden[1])
    top = (h1 @ p["biases.1"])[:, None] + h2 @ p["biases.2"] + h1 @ p["weights.1"] @ h2.T
    log_top = np.array([oracle.logsumexp(row) for row in top]) - oracle.logsumexp(top.ravel())
    joint = log_top + log_bernoulli(v[:, None], h1 @ p["weights.0"].T + p["biases.0"])
    q = log_bernoulli(h1, (v @ p["recognition_weights.0"] + p["recognition_biases.0"])[:, None])
    return v, h1, joint, q


def index(rows, table):
    return [int((table == row).all(1).argmax()) for row in np.asarray(rows)]


def test_bound_of_one_particle_is_the_enumerated_elbo():
    dbn, x = dgm.DBN.example()
    v, _, joint, q = tables(dbn)
    rows = index(x, v)
    expected = (np.exp(q) * (joint - q)).sum(1)[rows]
    found = dbn.evidence(x.repeat(2000, 1), particles=1).values.view(2000, len(x))
    stderr = found.std(0) / math.sqrt(2000)
    assert (abs(found.mean(0).numpy() - expected) < 6 * stderr.numpy()).all()
    assert (6 * stderr < 0.4).all()


def test_bound_rises_to_the_enumerated_likelihood():
    dbn, x = dgm.DBN.example()
    v, _, joint, _ = tables(dbn)
    exact = np.array([oracle.logsumexp(row) for row in joint])[index(x, v)]
    found = dbn.evidence(x, particles=20_000)
    assert found.kind == "lower bound"
    assert abs(float(found.values.mean()) - exact.mean()) < 6 * found.stderr + 1e-3
    assert found.stderr < 0.01


def test_samples_follow_the_enumerated_marginal():
    dbn, _ = dgm.DBN.example()
    v, _, joint, _ = tables(dbn)
    p = np.exp(joint).sum(1)
    n = 20_000
    drawn = np.bincount(index(dbn.sample(n), v), minlength=len(v)) / n
    assert p.sum() == pytest.approx(1, abs=1e-6)
    assert 0.5 * abs(drawn - p).sum() < oracle.total_variation_bound(p, n)


def test_means_of_samples_are_those_of_rows_given_drawn_latents():
    """Each is E[v | h1] for one h1, as often as the enumerated P(h1) says."""
    dbn, _ = dgm.DBN.example()
    _, h1, joint, _ = tables(dbn)
    p = {name: value.detach().double().numpy() for name, value in dbn.named_parameters()}
    means, n = sigmoid(h1 @ p["weights.0"].T + p["biases.0"]), 20_000
    distances = np.abs(dbn.sample_means(n).numpy()[:, None] - means).max(-1)
    assert distances.min(1).max() < 1e-6
    drawn, p_h1 = np.bincount(distances.argmin(1), minlength=len(h1)) / n, np.exp(joint).sum(0)
    assert 0.5 * abs(drawn - p_h1).sum() < oracle.total_variation_bound(p_h1, n)


def test_three_layers_draw_downwards():
    """P(v) by summing the chain of layers, against samples."""
    dbn = oracle.randomise(dgm.DBN(3, hidden=(3, 2, 2)), torch.Generator().manual_seed(2))
    p = {name: value.detach().double().numpy() for name, value in dbn.named_parameters()}
    v, h1, h2, h3 = bits(3), bits(3), bits(2), bits(2)
    top = (h2 @ p["biases.2"])[:, None] + h3 @ p["biases.3"] + h2 @ p["weights.2"] @ h3.T
    p2 = np.exp(top).sum(1) / np.exp(top).sum()
    p1 = p2 @ np.exp(log_bernoulli(h1, (h2 @ p["weights.1"].T + p["biases.1"])[:, None]))
    p0 = p1 @ np.exp(log_bernoulli(v, (h1 @ p["weights.0"].T + p["biases.0"])[:, None]))
    drawn = np.bincount(index(dbn.sample(20_000), v), minlength=8) / 20_000
    assert 0.5 * abs(drawn - p0).sum() < oracle.total_variation_bound(p0, 20_000)


def test_one_hidden_layer_is_an_rbm():
    rbm, x = dgm.RBM.example()
    dbn = dgm.DBN(6, hidden=(4,))
    with torch.no_grad():
        dbn.weights[0].copy_(rbm.weight)
        dbn.biases[0].copy_(rbm.visible_bias)
        dbn.biases[1].copy_(rbm.hidden_bias)
    a, b = dgm.log_likelihood(dbn, x, space="s"), dgm.log_likelihood(rbm, x, space="s")
    assert a.kind == b.kind == "exact"
    assert a.value == pytest.approx(b.value, abs=1e-5)


def test_wake_and_sleep_gradients_are_the_enumerated_ones():
    """Wake: E_q of the gradient of log p(x, h). Sleep: E_p of the gradient of log q(h | x)."""
    dbn, x = dgm.DBN.example()
    v, h1, joint, q = tables(dbn)
    data = np.bincount(index(x, v), minlength=len(v)) / len(x)
    awake, dream = data[:, None] * np.exp(q), np.exp(joint)
    p = {name: value.detach().double().numpy() for name, value in dbn.named_parameters()}
    miss = v[:, None] - sigmoid(h1 @ p["weights.0"].T + p["biases.0"])
    h2 = bits(dbn.hidden[1])
    top = np.exp((h1 @ p["biases.1"])[:, None] + h2 @ p["biases.2"] + h1 @ p["weights.1"] @ h2.T)
    posterior, model = top / top.sum(1, keepdims=True), top / top.sum()
    weight = awake.sum(0)
    off = h1[None] - sigmoid(v @ p["recognition_weights.0"] + p["recognition_biases.0"])[:, None]
    expected = {
        "weights.0": np.einsum("vh,vhi,hj->ij", awake, miss, h1),
        "biases.0": np.einsum("vh,vhi->i", awake, miss),
        "weights.1": h1.T @ (weight[:, None] * posterior - model) @ h2,
        "biases.1": (weight - model.sum(1)) @ h1,
        "biases.2": (weight @ posterior - model.sum(0)) @ h2,
        "recognition_weights.0": np.einsum("vh,vi,vhj->ij", dream, v, off),
        "recognition_biases.0": np.einsum("vh,vhj->j", dream, off),
    }
    objective = dgm.WakeSleep(dgm.ExactNegativePhase())
    objective.attach(dbn)
    blocks = []
    for _ in range(30):
        dbn.zero_grad()
        objective.loss(x.repeat(100, 1)).backward()
        blocks.append({name: -parameter.grad.double() for name, parameter in dbn.named_parameters()})
    oracle.meets(blocks, {name: torch.as_tensor(e) for name, e in expected.items()}, 0.15)


def test_sleep_starts_from_the_persistent_chains():
    dbn, x = dgm.DBN.example()
    phase = dgm.PCD(chains=50)
    program = dgm.negative_phase(dbn.model, phase)
    with torch.no_grad():
        trace = poutine.trace(dbn.guide).get_trace(x)
        poutine.trace(poutine.replay(program, trace=trace)).get_trace(x).log_prob_sum()
        phase.chains["hidden1"]["visible"].fill_(1.0)
        dream = poutine.trace(program).get_trace(None, 20)
    assert (dream.nodes["hidden1"]["value"] == 1).all()


def test_greedy_stages_see_the_posterior_below():
    """The second stage trains on the first layer's posterior under the machine just adopted."""
    dbn, x = dgm.DBN.example()
    stages = dbn.stages()
    machine, lift = next(stages)
    assert torch.equal(lift(x), x)
    oracle.randomise(machine, torch.Generator().manual_seed(7))
    _, lift = next(stages)
    expected = torch.sigmoid(x @ machine.weight + machine.hidden_bias)
    torch.testing.assert_close(lift(x), expected.detach())
    assert torch.equal(dbn.weights[0], machine.weight)
    assert torch.equal(dbn.recognition_weights[0], machine.weight)


def test_a_stage_starts_as_the_one_below_turned_over():
    """Then the network is that restricted machine: the same likelihood of every row, by enumeration."""
    dbn = dgm.DBN(4, hidden=(3, 4))
    stages = dbn.stages()
    machine, _ = next(stages)
    oracle.randomise(machine, torch.Generator().manual_seed(8))
    assert len(list(stages)) == 1
    v, _, joint, _ = tables(dbn)
    exact = np.array([oracle.logsumexp(row) for row in joint])
    found = machine.evidence(torch.as_tensor(v).float(), "exact").values
    np.testing.assert_allclose(exact, found, atol=1e-4)


def test_pretraining_raises_the_bound():
    torch.manual_seed(1)
    x = (torch.rand(400, 1) < 0.5).float().expand(-1, 6).clone()
    x = torch.where(torch.rand_like(x) < 0.05, 1 - x, x)
    dbn = dgm.DBN(6, hidden=(4, 3))
    before = dgm.log_likelihood(dbn, x, space="toy").value
    runs = dgm.pretrain(dbn, x, epochs=10, batch_size=20, optimiser="sgd", learning_rate=0.5, progress=False)
    assert len(runs) == 2
    assert dgm.log_likelihood(dbn, x, space="toy").value > before + 1.0


def test_mlp_is_the_upward_pass():
    dbn, x = dgm.DBN.example()
    mlp = dbn.to_mlp(classes=3, dropout=0.5).eval()
    torch.testing.assert_close(mlp[:-1](x).detach(), dbn.posterior(x))


def test_pretrained_parts_of_a_dbm():
    """20.4.4: twice the input from below in the lowest machine, twice from above in the top one, twice both between."""
    dbm = dgm.DBM(4, hidden=(3, 3, 2))
    x = torch.randint(0, 2, (5, 4)).float()
    stages = dbm.stages()
    machine, lift = next(stages)
    oracle.randomise(machine, torch.Generator().manual_seed(3))
    fields = machine().machine.colour_fields(
        machine().machine.colours[0], {"visible": lift(x), "hidden": torch.zeros(5, 3)}
    )
    torch.testing.assert_close(fields[0][0], 2 * x @ machine.weight + machine.hidden_bias)
    first = machine.weight.detach().clone()
    middle, lift = next(stages)
    torch.testing.assert_close(lift(x), torch.sigmoid(2 * x @ first + machine.hidden_bias).detach())
    oracle.randomise(middle, torch.Generator().manual_seed(4))
    rows = torch.rand(5, 3)
    state = {"visible": rows, "hidden": torch.zeros(5, 3)}
    torch.testing.assert_close(
        middle().machine.colour_fields(middle().machine.colours[0], state)[0][0],
        2 * rows @ middle.weight + middle.hidden_bias,
    )
    top, _ = next(stages)
    assert top().machine.graph.layers["hidden"].shape == (4,)
    assert list(stages) == []
    assert torch.equal(dbm.weights[0], first)
    assert torch.equal(dbm.weights[1], middle.weight)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"hidden": ()}, "every hidden layer"), ({"unit": "spin"}, "expected one of"),
     ({"unit": "gaussian", "hidden": (3,)}, "GaussianRBM")],
)  # fmt: skip
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        dgm.DBN(5, **options)


def test_pretrain_refuses_flat_models():
    rbm, x = dgm.RBM.example()
    with pytest.raises(ValueError, match="layer by layer"):
        dgm.pretrain(rbm, x)
