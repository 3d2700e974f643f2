"""Conditional RBM: values of another program, normalisation row by row, sequences, bad input."""

import itertools

import pytest
import torch
from oracles.waves import bits, wave

import pyro_dgm as dgm


def machine(unit="binary"):
    """Order 2 on frames of three: the oldest frame's weights come first."""
    model = dgm.ConditionalRBM(9, 6, 2, unit).double()
    visible, hidden = wave(0.6, 4, 2, 3, 3), wave(0.6, 5, 2, 3, 2)
    with torch.no_grad():
        model.weight.copy_(wave(0.8, 1, 3, 2))
        model.visible_bias.copy_(wave(0.5, 2, 3))
        model.hidden_bias.copy_(wave(0.4, 3, 2))
        model.visible_weight.copy_(torch.cat([visible[1], visible[0]]))
        model.hidden_weight.copy_(torch.cat([hidden[1], hidden[0]]))
    return model


CASES = {
    "binary": (
        (3.6750529779, 3.5755004526),
        (-3.4118725105, -3.2875770975),
        (0.7705283824, -0.0583094940, 0.5573453258),
    ),
    "gaussian": (None, (-7.3419824689, -7.7380879799), (1.0174617313, -0.0092082631, 3.4143576755)),
}


@pytest.mark.parametrize("unit", CASES)
def test_values_of_another_program(unit):
    log_z, log_p, gradients = CASES[unit]
    model = machine(unit)
    sequence = bits(1, 4, 3) if unit == "binary" else wave(1, 0.3, 4, 3)
    rows = dgm.data.windows([sequence], 2)
    given, outputs = model.split(rows)
    if log_z is not None:
        assert model.log_partition(rows).value.tolist() == pytest.approx(log_z, abs=1e-9)
    found = model(given).log_prob(outputs)
    assert found.tolist() == pytest.approx(log_p, abs=1e-9)
    a, b, w = torch.autograd.grad(found.sum(), (model.visible_weight, model.hidden_weight, model.weight))
    assert [float(t) for t in (a[1, 2], b[3 + 2, 1], w[2, 1])] == pytest.approx(gradients, abs=1e-9)
    figure = dgm.log_likelihood(model, rows)
    assert (figure.kind, figure.given) == ("exact", "the first 6 columns")
    assert figure.value == pytest.approx(sum(log_p) / 2, abs=1e-9)
    if unit == "gaussian":
        assert float(model.mean(given)[0, 0]) == pytest.approx(-0.0749810109, abs=1e-9)


def test_residual_coordinates_are_the_same_machine():
    """With B and c that give the hidden units back what the linear part takes from the outputs."""
    plain, model = machine("gaussian"), dgm.ConditionalRBM(9, 6, 2, "gaussian", residual=True).double()
    with torch.no_grad():
        plain.log_precision.copy_(wave(0.4, 7, 3))
        for name, parameter in plain.named_parameters():
            getattr(model, name).copy_(parameter)
        gained = plain.log_precision.exp().unsqueeze(-1) * plain.weight
        model.hidden_weight.add_(plain.visible_weight @ gained)
        model.hidden_bias.add_(plain.visible_bias @ gained)
    given, outputs = plain.split(wave(1, 0.3, 5, 9))
    torch.testing.assert_close(model(given).log_prob(outputs), plain(given).log_prob(outputs))
    torch.testing.assert_close(model.mean(given), plain.mean(given))


def test_residual_machines_start_at_linear_regression():
    """Ridge of one row on standardised inputs; variances of rows left out one by one, each by a regression of its own."""
    torch.manual_seed(0)
    x = torch.cat([torch.randn(12, 3).double() * torch.tensor([1.0, 5.0, 0.1]) + 7, torch.randn(12, 2).double()], 1)
    x[:, 3] += x[:, 0] - x[:, 1]
    model = dgm.ConditionalRBM(5, 3, 4, "gaussian", residual=True).double()
    model.initialise(x)
    given, outputs = model.split(x)
    centre, scale = given.mean(0), given.std(0, correction=0)

    def regression(rows):
        """With the columns' means and scales of all rows, and an intercept without ridge."""
        inputs = torch.cat([(given - centre) / scale, torch.ones(12, 1).double()], 1)
        ridge = torch.diag(torch.tensor([1.0, 1.0, 1.0, 0.0])).double()
        return inputs @ torch.linalg.solve(inputs[rows].T @ inputs[rows] + ridge, inputs[rows].T @ outputs[rows])

    every = torch.arange(12)
    torch.testing.assert_close(model.visible_bias + given @ model.visible_weight, regression(every))
    left_out = torch.stack([(outputs - regression(every[every != i]))[i] for i in range(12)]).square().mean(0)
    torch.testing.assert_close(model.log_precision.exp(), 1 / left_out)
    with torch.no_grad():
        model.weight.zero_()
    normal = torch.distributions.Normal(regression(every), left_out.sqrt())
    torch.testing.assert_close(model.evidence(x).values, normal.log_prob(outputs).sum(1))


@pytest.mark.parametrize("rows", [1, 2, 4, 40])
def test_regression_on_few_rows_and_constant_columns_stays_finite(rows):
    torch.manual_seed(0)
    x = torch.randn(rows, 9)
    x[:, 1] = x[:, 7] = 3.0
    model = dgm.ConditionalRBM(9, 6, 4, "gaussian", residual=True)
    model.initialise(x)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert float(dgm.log_likelihood(model, torch.randn(20, 9)).value) > -1e8


def test_rates_of_single_parameters():
    model, x = dgm.ConditionalRBM.example()
    before = model.visible_weight.detach().clone(), model.weight.detach().clone()
    dgm.fit(model, x, objective=model.objective(rates={"visible_weight": 0.0}), epochs=2, progress=False)
    assert torch.equal(model.visible_weight, before[0])
    assert not torch.equal(model.weight, before[1])
    with pytest.raises(ValueError, match="rates name"):
        dgm.fit(model, x, objective=model.objective(rates={"visible_weights": 0.0}), epochs=1, progress=False)


def test_every_row_is_normalised():
    """Over all outputs, for every input; a joint log Z would not do that."""
    model = machine()
    given = bits(3, 5, 6)
    every = torch.tensor(list(itertools.product((0.0, 1.0), repeat=3))).double()
    table = model(given).log_prob(every[:, None])
    torch.testing.assert_close(table.logsumexp(0), torch.zeros(5).double())
    torch.testing.assert_close(model.mean(given), (table.exp()[..., None] * every[:, None]).sum(0))


@pytest.mark.parametrize("method", ["ais", "bridge"])
def test_annealing_holds_the_exact_figure(method):
    torch.manual_seed(0)
    for unit in CASES:
        model = machine(unit)
        x = torch.cat([bits(3, 40, 6), bits(2, 40, 3) if unit == "binary" else wave(1, 2, 40, 3)], 1)
        exact = dgm.log_likelihood(model, x)
        figure = dgm.log_likelihood(model, x, method=method, chains=50, temperatures=100)
        assert figure.lower <= exact.value <= figure.upper
        assert figure.upper - figure.lower < 0.1


def test_forward_annealing_from_own_biases_needs_no_chains(monkeypatch):
    """Whose warm-up would take 500 sweeps for nothing."""
    torch.manual_seed(0)
    model, given = machine(), bits(3, 20, 6)
    exact = model(given).exact_log_partition()
    monkeypatch.setattr("pyro_dgm.annealing.partition._model_states", None)
    found = dgm.log_partition(model(given), "ais", chains=200, temperatures=100, reverse=False)
    assert ((found.value - exact).abs() < 6 * found.stderr + 1e-3).all()


def test_a_machine_without_inputs_weights_is_an_rbm():
    model, x = machine(), bits(2, 8, 9)
    rbm = dgm.RBM(3, 2).double()
    with torch.no_grad():
        model.visible_weight.zero_()
        model.hidden_weight.zero_()
        for name in ("weight", "visible_bias", "hidden_bias"):
            getattr(rbm, name).copy_(getattr(model, name))
    torch.testing.assert_close(model.evidence(x).values, rbm().log_prob(x[:, 6:]))


def test_gradients_reach_the_inputs():
    """An embedding below the inputs is trained: contexts are not detached, in CD neither."""
    from pyro.infer import Trace_ELBO

    model, x = machine(), bits(1, 20, 9)
    embedded = x.clone().requires_grad_()
    program = dgm.negative_phase(model.model, dgm.CD(k=1))
    Trace_ELBO().differentiable_loss(program, model.guide, embedded).backward()
    assert float(embedded.grad[:, :6].abs().max()) > 1e-3


def test_contrastive_divergence_learns_shifted_frames():
    """A frame is the one before it, moved by one place: errors of the mean fall far below those of the best constant."""
    torch.manual_seed(0)
    frames = [torch.eye(4)[(torch.arange(30) + start) % 4] for start in range(4)]
    rows = dgm.data.windows(frames, 1)
    model = dgm.ConditionalRBM(8, 4, 8)
    dgm.fit(model, rows, epochs=60, batch_size=20, learning_rate=0.05, progress=False)
    error = (model.mean(rows[:, :4]) - rows[:, 4:]).square().sum(1).mean()
    constant = rows[:, 4:].var(0, correction=0).sum()
    assert float(error) < 0.1 * float(constant)
    drawn = model.extend(torch.eye(4)[:1].unsqueeze(0), 4)
    assert drawn.shape == (1, 4, 4)


def test_rows_with_unknown_outputs():
    torch.manual_seed(0)
    model, x = machine(), bits(2, 3, 9)
    known = torch.tensor([True] * 7 + [False] * 2)
    every = torch.tensor(list(itertools.product((0.0, 1.0), repeat=2))).double()
    candidates = torch.cat([x[:, None, :7].expand(3, 4, 7), every.expand(3, 4, 2)], -1)
    log_p = model.evidence(candidates.flatten(0, 1)).values.view(3, 4)
    exact = (torch.softmax(log_p, 1)[..., None] * every).sum(1)
    found = model.impute(x.repeat(1000, 1), known, draws=20).view(1000, 3, 9)
    torch.testing.assert_close(found[0, :, :7], x[:, :7])
    # Means of 20 correlated draws of a bit, over 1000 chains: six standard errors of single draws are on the safe side.
    assert (found[..., 7:].mean(0) - exact).abs().max() < 6 * 0.5 / 1000**0.5


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: dgm.ConditionalRBM(4, 4), "inputs got 4 of 4 columns"),
        (lambda: dgm.ConditionalRBM(4, 0), "inputs got 0"),
        (lambda: dgm.ConditionalRBM(4, 2, unit="spin"), "unit got 'spin'"),
        (lambda: dgm.ConditionalRBM(4, 2, residual=True), "residual got True for bits"),
        (lambda: machine().sample(3, given=torch.zeros(2, 6)), r"given got \(2, 6\); expected the inputs of 3 rows, \(3, 6\)"),
        (lambda: machine().extend(torch.zeros(1, 1, 3), 2), "with T at least 2"),
        (lambda: dgm.ConditionalRBM(7, 4, 2).extend(torch.zeros(1, 2, 3), 2), "inputs of whole frames"),
        (lambda: machine().objective("pcd"), "kind got 'pcd'"),
        (lambda: machine().check_data(torch.zeros(2, 8)), "8"),
        (lambda: dgm.data.windows([torch.zeros(5, 2), torch.zeros(2, 2)], 2), "1 has 2 frames; expected more than order=2"),
        (lambda: dgm.data.windows([], 2), "no sequences"),
        (lambda: dgm.data.windows([torch.zeros(4, 2), torch.zeros(4, 3)], 2), "as sequence 1"),
    ],
)  # fmt: skip
def test_bad_input(build, message):
    with pytest.raises(ValueError, match=message):
        build()
