"""Machines of rows and their classes: values of another program, and what their criteria train."""

import pytest
import torch
from oracles.waves import bits, wave

import pyro_dgm as dgm


def class_machine():
    model = dgm.ClassRBM(4, 3, 3).double()
    with torch.no_grad():
        model.weight.copy_(wave(0.8, 1, 4, 3))
        model.label_weight.copy_(wave(1.5, 2, 3, 3))
        model.visible_bias.copy_(wave(0.5, 3, 4))
        model.hidden_bias.copy_(wave(0.4, 4, 3))
        model.label_bias.copy_(wave(0.3, 5, 3))
    return model


def two_groups(order):
    model = dgm.TwoGroupRBM(3, 2, 2, 2, order).double()
    with torch.no_grad():
        model.free_weight.copy_(wave(0.7, 2, 3, 2))
        model.visible_bias.copy_(wave(0.5, 3, 3))
        model.free_bias.copy_(wave(0.4, 4, 2))
        model.label_bias.copy_(wave(0.2, 6, 2))
        if order == "third":
            model.weight.copy_(wave(0.8, 1, 3, 2, 2).permute(2, 0, 1))
            model.hidden_bias.copy_(wave(0.3, 5, 2, 2).T)
        else:
            model.weight.copy_(wave(0.8, 1, 3, 2))
            model.label_weight.copy_(wave(0.6, 7, 2, 2))
            model.hidden_bias.copy_(wave(0.3, 8, 2))
    return model


def test_values_of_another_program():
    model, x = class_machine(), bits(1, 4).view(1, 4)
    row = torch.cat([x, torch.tensor([[0.0, 1.0, 0.0]]).double()], 1)
    assert x.tolist() == [[1, 1, 1, 0]]
    assert float(dgm.log_partition(model()).value) == pytest.approx(5.7771344071, abs=1e-9)
    assert model.predict_proba(x)[0].tolist() == pytest.approx([0.4084286079, 0.3286295064, 0.2629418858], abs=1e-9)
    assert float(model().log_prob(x).detach()) == pytest.approx(-2.9339020887, abs=1e-9)
    assert float(model.evidence(row).values) == pytest.approx(-4.0467263719, abs=1e-9)
    assert float(model.evidence(x).values) == pytest.approx(-2.9339020887, abs=1e-9)
    log_label = torch.log_softmax(model.scores(x), -1)[0, 1]
    parameters = model.weight, model.label_weight, model.label_bias
    w, u, d = torch.autograd.grad(log_label, parameters)
    found = [float(t) for t in (w[2, 1], u[2, 0], u[1, 0], d[1])]
    assert found == pytest.approx([-0.0241010247, -0.1364372596, 0.5409401946, 0.6713704936], abs=1e-9)


TWO_GROUPS = {
    "third": (5.0184840156, -1.8866672365, 0.4133978553, 0.5390275961),
    "second": (5.8000878319, -1.4383380200, 0.5342451902, 0.8997267375),
}


@pytest.mark.parametrize("order", TWO_GROUPS)
def test_two_groups(order):
    log_z, log_p, label, hidden = TWO_GROUPS[order]
    model, x = two_groups(order), torch.tensor([[1.0, 1.0, 0.0]]).double()
    assert float(dgm.log_partition(model()).value) == pytest.approx(log_z, abs=1e-9)
    assert float(model().log_prob(x).detach()) == pytest.approx(log_p, abs=1e-9)
    assert float(model.predict_proba(x)[0, 1]) == pytest.approx(label, abs=1e-9)
    machine = model().machine
    on = {"visible": x, "hidden": torch.tensor([[1.0, 0.0], [1.0, 1.0]]).double()}
    whole = dgm.energy.log_sum(machine, {"visible": x})
    given = dgm.energy.log_sum(machine, on).logsumexp(0)
    assert float((given - whole).exp().detach()) == pytest.approx(hidden, abs=1e-9)


def test_the_free_group_has_no_part_in_the_label():
    model, x = two_groups("third"), bits(2, 5, 3)
    gradients = torch.autograd.grad(
        torch.log_softmax(model.scores(x), -1)[:, 0].sum(),
        (model.free_weight, model.free_bias, model.visible_bias, model.weight),
    )
    assert all(float(g.abs().max()) < 1e-12 for g in gradients[:3])
    assert float(gradients[3].abs().max()) > 1e-3


def test_one_class_row_is_the_sum_over_its_labels():
    for model in (class_machine(), two_groups("third"), two_groups("second")):
        x = bits(3, 6, model.visible)
        each = torch.eye(model.classes).double()
        rows = torch.cat([x.repeat_interleave(model.classes, 0), each.repeat(6, 1)], 1)
        joint = model.evidence(rows).values.view(6, model.classes)
        torch.testing.assert_close(joint.logsumexp(1), model.evidence(x).values)
        torch.testing.assert_close(torch.softmax(joint, 1), model.predict_proba(x))


def test_a_machine_without_label_weights_is_an_rbm():
    model, x = class_machine(), bits(2, 6, 4)
    rbm = dgm.RBM(4, 3).double()
    with torch.no_grad():
        model.label_weight.zero_()
        for name in ("weight", "visible_bias", "hidden_bias"):
            getattr(rbm, name).copy_(getattr(model, name))
    torch.testing.assert_close(model().log_prob(x), rbm().log_prob(x))


def test_the_program_has_both_sites():
    import pyro

    model, x = class_machine(), torch.cat([bits(1, 5, 4), torch.eye(3).double()[[0, 2, 1, 1, 0]]], 1)
    trace = pyro.poutine.trace(dgm.negative_phase(model.model, dgm.ExactNegativePhase())).get_trace(x)
    trace.compute_log_prob()
    total = trace.nodes["x"]["log_prob"] + trace.nodes["label"]["log_prob"]
    torch.testing.assert_close(total, model.evidence(x).values)
    rows = model.sample(7)
    assert rows.shape == (7, 7)
    assert (rows[:, 4:].sum(1) == 1).all()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: dgm.ClassRBM(4, 1), "classes got 1"),
        (lambda: dgm.ClassRBM(4, 3, 0), "hidden got 0"),
        (lambda: dgm.TwoGroupRBM(4, 3, 2, 0), "free got 0"),
        (lambda: dgm.TwoGroupRBM(4, 3, 2, 2, "first"), "order got 'first'"),
        (lambda: class_machine().predict_proba(torch.zeros(2, 5)), "5"),
        (lambda: class_machine().check_data(torch.full((2, 7), 0.5).double()), "Grey levels"),
        (lambda: class_machine().check_data(torch.ones(2, 7).double()), "one-hot"),
    ],
)
def test_bad_input(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    "build", [class_machine, lambda: dgm.DBM(4, (3, 2), classes=3).double()], ids=["class", "deep"]
)
def test_labels_are_imputed_like_other_columns(build):
    """Means of an unknown label are p(y | x), from a listing: 2000 independent chains a row, six standard errors."""
    torch.manual_seed(0)
    model = build()
    x = bits(3, 3, 4)
    rows = torch.cat([x, torch.full((3, 3), torch.nan).double()], 1)
    known = torch.tensor([True] * 4 + [False] * 3)
    each = torch.eye(3).double()[None, :, None]
    exact = torch.softmax(dgm.energy.log_sum(model().machine, {"visible": x[:, None], "label": each}), -1)
    found = model.impute(rows.repeat(2000, 1), known, draws=20).view(2000, 3, 7)
    torch.testing.assert_close(found[0, :, :4], x)
    assert (found[..., 4:].mean(0) - exact).abs().max() < 6 * 0.5 / 2000**0.5
    draws = dgm.condition(model, rows, known, draws=5, warmup=20)
    assert draws.shape == (5, 3, 7)
    assert (draws[..., 4:].sum(-1) == 1).all()
    alone = model.impute(x, torch.tensor([True, True, False, True]), draws=10)
    assert alone.shape == (3, 4)


def labelled_rows():
    return torch.cat([bits(1, 5, 4), torch.eye(3).double()[[0, 2, 1, 1, 0]]], 1)


@pytest.mark.parametrize(
    ("criterion", "weights"), [("generative", (0, 1)), ("discriminative", (1, 0)), ("hybrid", (1, 0.01))]
)
def test_gradients_of_the_criteria(criterion, weights):
    """Against -(delta log p(y | x) + alpha log p(x, y)) as plain sums over all states."""
    model, x = class_machine(), labelled_rows()
    objective = model.objective(criterion, kind="exact")
    objective.attach(model)
    names, parameters = zip(*model.named_parameters(), strict=True)
    loss = objective.loss(x)
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    log_label = (torch.log_softmax(model.scores(x[:, :4]), 1) * x[:, 4:]).sum(1)
    joint = dgm.energy.log_sum(model().machine, model.observed(x)) - model().exact_log_partition()
    exact = -(weights[0] * log_label + weights[1] * joint).mean()
    torch.testing.assert_close(loss, exact)
    for name, one, other in zip(names, found, torch.autograd.grad(exact, parameters, allow_unused=True), strict=True):
        torch.testing.assert_close(0 if one is None else one, 0 if other is None else other, msg=name)


def test_the_hybrid_gradient_of_another_program():
    model, x = class_machine(), torch.tensor([[1, 1, 1, 0, 0, 1, 0]]).double()
    objective = model.objective("hybrid", kind="exact")
    objective.attach(model)
    loss = objective.loss(x)
    assert float(loss.detach()) == pytest.approx(1.1532915469, abs=1e-9)
    assert float(torch.autograd.grad(loss, model.weight)[0][2, 1]) == pytest.approx(0.0240805194, abs=1e-9)


def test_rows_without_labels():
    model, x = class_machine(), labelled_rows()
    x[[1, 3], 4:] = torch.nan
    objective = model.objective("hybrid", unlabelled=0.5, kind="exact")
    objective.attach(model)
    known = x[[0, 2, 4]]
    log_label = (torch.log_softmax(model.scores(known[:, :4]), 1) * known[:, 4:]).sum(1)
    log_p = model().log_prob(x[:, :4])
    exact = -(1.01 * log_label.sum() + 0.01 * log_p[[0, 2, 4]].sum() + 0.5 * log_p[[1, 3]].sum()) / 5
    torch.testing.assert_close(objective.loss(x), exact)


@pytest.mark.parametrize(
    "build", [dgm.ClassRBM, lambda v, c, h: dgm.TwoGroupRBM(v, c, h, 4)], ids=["class", "two groups"]
)
def test_it_learns_to_classify(build):
    """Bits of three classes with other means: the error falls near that of the true law."""
    torch.manual_seed(0)
    label = torch.randint(0, 3, (400,))
    p = 0.15 + 0.7 * torch.eye(3).repeat_interleave(4, 1)
    x = torch.bernoulli(p[label])
    rows = torch.cat([x, torch.eye(3)[label]], 1)
    best = float((torch.distributions.Bernoulli(p).log_prob(x[:, None]).sum(-1).argmax(1) != label).float().mean())
    model = build(12, 3, 8)
    criterion = model.objective("hybrid", generative=0.1)
    dgm.fit(model, rows, objective=criterion, epochs=15, batch_size=40, learning_rate=0.05, progress=False)
    error = float((model.predict_proba(x).argmax(1) != label).float().mean())
    assert error < best + 0.03
