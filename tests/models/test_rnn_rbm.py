"""RNN-RBM and RTRBM: values of another program, machines that they contain, sequences, bad input."""

import itertools

import pytest
import torch
from oracles.waves import bits, wave
from pyro.infer import Trace_ELBO

import pyro_dgm as dgm

SEQUENCE = bits(1, 3, 3)


def recurrent(rank=0):
    """Three bits, two hidden and two recurrent units; the frames' own weights as a sum of terms of rank one."""
    model = dgm.RNNRBM(12, 3, 2, 2, rank=rank).double()
    with torch.no_grad():
        model.weight.copy_(wave(0.8, 1, 3, 2))
        model.visible_bias.copy_(wave(0.5, 2, 3))
        model.hidden_bias.copy_(wave(0.4, 3, 2))
        model.to_visible.weight.copy_(wave(0.6, 4, 2, 3).T)
        model.to_hidden.weight.copy_(wave(0.6, 5, 2, 2).T)
        model.recurrence.weight_ih_l0.copy_(wave(0.7, 6, 3, 2).T)
        model.recurrence.weight_hh_l0.copy_(wave(0.5, 7, 2, 2).T)
        model.recurrence.bias_ih_l0.copy_(wave(0.3, 8, 2))
        model.recurrence.bias_hh_l0.zero_()
        model.first.copy_(wave(0.2, 9, 2))
        if rank:
            pairs = list(itertools.product(range(2), range(3)))  # a term for every recurrent unit and bit
            own = wave(0.4, 10, 2, 3, 2)
            model.factors_state.copy_(torch.eye(2).double()[[r for r, _ in pairs]].T)
            model.factors_visible.copy_(torch.eye(3).double()[[i for _, i in pairs]].T)
            model.factors_hidden.copy_(torch.stack([own[r, i] for r, i in pairs], 1))
    return model


CASES = {
    0: ((3.8405281352, 3.7532808349, 3.6895174143), (-1.3413122942, -2.1634990823, -2.2872252781), -5.7920366546,
        (-0.1188049991, -0.2072854605, -0.5607544849)),
    6: ((3.8380208730, 3.7845000306, 3.7080734420), (-1.3457432810, -2.1511721286, -2.3211320290), -5.8180474386,
        (-0.1565037615, -0.1685548894, -0.6957558000)),
}  # fmt: skip


@pytest.mark.parametrize("rank", CASES)
def test_values_of_another_program(rank):
    log_z, frames, total, gradients = CASES[rank]
    model, row = recurrent(rank), dgm.data.pad([SEQUENCE])
    states, values, _ = model._frames(row)
    assert model(states).exact_log_partition().tolist() == pytest.approx(log_z, abs=1e-9)
    assert model(states).log_prob(values).tolist() == pytest.approx(frames, abs=1e-9)
    evidence = model.evidence(row)
    assert float(evidence.values) == pytest.approx(total, abs=1e-9)
    assert evidence.details["nats_per_frame"] == pytest.approx(total / 3, abs=1e-9)
    parameters = model.recurrence.weight_hh_l0, model.recurrence.weight_ih_l0, model.first
    uu, vu, first = torch.autograd.grad(model(model._frames(row)[0]).log_prob(values).sum(), parameters)
    assert [float(t) for t in (uu[1, 0], vu[0, 1], first[0])] == pytest.approx(gradients, abs=1e-9)


def test_a_weight_that_a_state_emits():
    model, row = recurrent(6), dgm.data.pad([SEQUENCE])
    states, values, _ = model._frames(row)
    (gradient,) = torch.autograd.grad(model(states).log_prob(values).sum(), (model.factors_hidden,))
    assert float(gradient[0, 1 * 3 + 2]) == pytest.approx(-0.0677747102, abs=1e-9)  # of unit 1, bit 2, hidden unit 0


def temporal():
    model = dgm.RTRBM(12, 3, 2).double()
    with torch.no_grad():
        model.weight.copy_(wave(0.8, 1, 3, 2))
        model.visible_bias.copy_(wave(0.5, 2, 3))
        model.hidden_bias.copy_(wave(0.4, 3, 2))
        model.recurrent_weight.copy_(wave(0.6, 5, 2, 2))
        model.first_bias.copy_(wave(0.3, 6, 2))
    return model


def test_the_temporal_machine():
    model, row = temporal(), dgm.data.pad([SEQUENCE])
    states, values, _ = model._frames(row)
    frames = model(states).log_prob(values)
    assert frames.tolist() == pytest.approx([-1.3233759554, -1.5831067333, -2.2827261332], abs=1e-9)
    assert float(model.evidence(row).values) == pytest.approx(-5.1892088219, abs=1e-9)
    assert float(torch.sigmoid(values[2] @ model.weight + states[2])[0].detach()) == pytest.approx(
        0.6049706807, abs=1e-9
    )


MODELS = pytest.mark.parametrize(
    "model", [recurrent(), recurrent(6), temporal()], ids=["biases", "weights", "temporal"]
)


@MODELS
def test_sequences_of_one_length_sum_to_one(model):
    every = torch.tensor(list(itertools.product((0.0, 1.0), repeat=6))).double()
    rows = dgm.data.pad(list(every.view(64, 2, 3)), 4)
    torch.testing.assert_close(model.evidence(rows).values.logsumexp(0), torch.zeros(()).double())


@MODELS
def test_padding_and_other_rows_change_nothing(model):
    sequences = [SEQUENCE, SEQUENCE[:1], SEQUENCE[:2]]
    together = model.evidence(dgm.data.pad(sequences, 4)).values
    alone = torch.cat([model.evidence(dgm.data.pad([s])).values for s in sequences])
    torch.testing.assert_close(together, alone)


@MODELS
def test_annealing_holds_the_exact_figure(model):
    torch.manual_seed(0)
    rows = dgm.data.pad([bits(q, 3, 3) for q in range(8)] + [bits(9, 1, 3)])
    exact = dgm.log_likelihood(model, rows)
    figure = dgm.log_likelihood(model, rows, method="ais", chains=50, temperatures=100)
    assert figure.lower <= exact.value <= figure.upper
    assert 0 < figure.upper - figure.lower < 0.3


@MODELS
def test_gradients_of_the_program_are_those_of_the_likelihood(model):
    """With the exact phase, through time; negative samples and padding take no part."""
    rows = dgm.data.pad([SEQUENCE, SEQUENCE[:1]], 4)
    program = dgm.negative_phase(model.model, dgm.ExactNegativePhase())
    loss = Trace_ELBO().differentiable_loss(program, model.guide, rows)
    names, parameters = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, parameters)
    states, values, _ = model._frames(rows)
    exact = torch.autograd.grad(-model(states).log_prob(values).sum(), parameters)
    for name, one, other in zip(names, found, exact, strict=True):
        torch.testing.assert_close(one, other, msg=name)


@MODELS
def test_frames_that_follow_have_their_law(model):
    """4000 continuations of one sequence by two frames: shares of all 64, within six standard errors."""
    torch.manual_seed(0)
    rows = dgm.data.pad([SEQUENCE[:2]]).repeat(4000, 1)
    drawn = model.extend(rows, 2, sweeps=30)
    every = torch.tensor(list(itertools.product((0.0, 1.0), repeat=6))).double()
    whole = torch.cat([SEQUENCE[:2].expand(64, 2, 3), every.view(64, 2, 3)], 1)
    log_p = model.evidence(dgm.data.pad(list(whole))).values - model.evidence(rows[:1]).values
    p = log_p.exp()
    torch.testing.assert_close(p.sum(), torch.ones(()).double())
    index = (drawn.flatten(1) @ (2.0 ** torch.arange(5, -1, -1)).double()).long()
    share = torch.bincount(index, minlength=64) / 4000
    assert ((share - p).abs() <= 6 * (p * (1 - p) / 4000).sqrt() + 1e-3).all()


def test_without_a_recurrence_frames_are_independent():
    model, rows = recurrent(), dgm.data.pad([SEQUENCE])
    rbm = dgm.RBM(3, 2).double()
    with torch.no_grad():
        for linear in (model.to_visible, model.to_hidden):
            linear.weight.zero_()
        for name in ("weight", "visible_bias", "hidden_bias"):
            getattr(rbm, name).copy_(getattr(model, name))
    torch.testing.assert_close(model.evidence(rows).values, rbm().log_prob(SEQUENCE).sum().detach()[None])


def test_it_learns_a_period():
    """Sequences of three bits in turn: after training a frame is nearly certain, where a static machine needs log 3 nats."""
    torch.manual_seed(0)
    sequences = [torch.eye(3)[(torch.arange(8) + start) % 3] for start in range(3)] * 20
    rows = dgm.data.pad(sequences)
    model = dgm.RNNRBM(rows.shape[1], 3, hidden=8, recurrent=8)
    dgm.fit(model, rows, epochs=60, batch_size=10, learning_rate=0.02, progress=False)
    assert model.evidence(rows).details["nats_per_frame"] > -0.5


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: dgm.RNNRBM(13, 3), "visible got 13 for features=3"),
        (lambda: dgm.RNNRBM(12, 3, cell="lstm"), "cell got 'lstm'"),
        (lambda: dgm.RNNRBM(12, 3, rank=-1), "rank got -1"),
        (lambda: dgm.RTRBM(12, 3, 0), "hidden got 0"),
        (lambda: temporal().check_data(torch.zeros(2, 12).double()), "no frames"),
        (lambda: temporal().objective("pcd"), "kind got 'pcd'"),
        (lambda: temporal().objective("exact", k=2), "k got 2"),
    ],
)
def test_bad_input(build, message):
    with pytest.raises(ValueError, match=message):
        build()
