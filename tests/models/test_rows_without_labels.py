"""Semi-supervised training of machines of rows and classes: rows whose label is NaN, in Python and from the shell."""

import copy

import numpy as np
import pytest
import torch
from oracles.waves import bits, wave

import pyro_dgm as dgm
from pyro_dgm.cli import main

MACHINES = {
    "class": lambda: dgm.ClassRBM(4, 3, 3).double(),
    "third": lambda: dgm.TwoGroupRBM(4, 3, 2, 2).double(),
    "second": lambda: dgm.TwoGroupRBM(4, 3, 2, 2, "second").double(),
}
EVERY = pytest.mark.parametrize("build", MACHINES.values(), ids=MACHINES)


def waved(model):
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.copy_(wave(0.7, number, *parameter.shape))
    return model


def rows():
    """Ten rows, of which the second and every third after it has no label."""
    x = torch.cat([bits(1, 10, 4), torch.eye(3).double()[torch.arange(10) % 3]], 1)
    x[1::3, 4:] = torch.nan
    return x


def joint_table(model):
    """log p(x, y) of all 16 rows and 3 classes, normalised as a sum over them: ``16 x 3``."""
    every = torch.cartesian_prod(*([torch.tensor([0.0, 1.0]).double()] * 4))
    return every, torch.log_softmax(model.scores(every).flatten(), 0).view(16, 3)


def exact_loss(model, x, weights):
    """-(delta log p(y | x) + alpha log p(x, y)) of rows with a label, -beta log p(x) of the others, from the whole table."""
    _, table = joint_table(model)
    number = (x[:, :4] @ torch.tensor([8.0, 4, 2, 1]).double()).long()
    known = ~x[:, 4].isnan()
    label = x[known, 4:].argmax(1)
    joint, marginal = table[number[known], label], table.logsumexp(1)[number]
    delta, alpha, beta = weights
    total = delta * (joint - marginal[known]).sum() + alpha * joint.sum() + beta * marginal[~known].sum()
    return -total / len(x)


@EVERY
@pytest.mark.parametrize(
    ("criterion", "weights"),
    [
        ("generative", (0, 1, 0.5)),
        ("discriminative", (1, 0, 0.5)),
        ("hybrid", (1, 0.01, 0.5)),
        ("hybrid", (1, 0.01, 0.0)),
    ],
)
def test_a_step_of_fit_is_along_the_exact_gradient(build, criterion, weights):
    """One step of plain gradient descent on nine of ten rows, whose biases were set before, so that fit keeps them."""
    model = waved(build())
    before = copy.deepcopy(model)
    objective = model.objective(criterion, unlabelled=weights[2], kind="exact")
    dgm.fit(
        model, rows(), objective=objective, epochs=1, batch_size=9, optimiser="sgd", learning_rate=0.1, progress=False
    )
    loss = exact_loss(before, rows()[:9], weights)
    slopes = torch.autograd.grad(loss, list(before.parameters()), allow_unused=True)
    for (name, old), slope, new in zip(before.named_parameters(), slopes, model.parameters(), strict=True):
        expected = old if slope is None else old - 0.1 * slope
        torch.testing.assert_close(new.detach(), expected.detach(), msg=name)


@EVERY
def test_rows_without_labels_are_evaluated_by_their_marginal(build):
    model, x = waved(build()), rows()
    _, table = joint_table(model)
    number = (x[:, :4] @ torch.tensor([8.0, 4, 2, 1]).double()).long()
    expected = torch.where(
        x[:, 4].isnan(), table.logsumexp(1)[number], table[number, x[:, 4:].nan_to_num().argmax(1)]
    ).detach()
    torch.testing.assert_close(model.evidence(x).values, expected)
    figure = dgm.log_likelihood(model, x, space="bits")
    assert figure.value == pytest.approx(float(expected.mean()))
    assert "missing" in figure.space


def test_all_or_none_may_lack_labels():
    model, x = waved(MACHINES["class"]()), rows()
    x[:, 4:] = torch.nan
    run = dgm.fit(model, x, objective=model.objective(unlabelled=1.0, kind="exact"), epochs=1, progress=False)
    assert "valid_error" not in run.history[0]
    torch.testing.assert_close(model.evidence(x).values, model.evidence(x[:, :4]).values)


@pytest.mark.parametrize("place", [0, 5])
def test_other_holes_are_refused(place):
    """In a column of the row, or in a part of a label."""
    x = rows()
    x[0, place] = torch.nan
    with pytest.raises(ValueError, match="NaN in visible columns" if place < 4 else "one-hot"):
        dgm.fit(waved(MACHINES["class"]()), x, progress=False)


def test_unlabelled_rows_help():
    """Two noisy patterns and one labelled row of each: 300 rows without labels show where the patterns differ.

    The likelihood's gradient is exact. The Bayes error is that of the true law; labelled rows alone leave most bits unknown.
    """
    torch.manual_seed(0)
    p = torch.tensor([[0.9] * 5 + [0.1] * 5, [0.1] * 5 + [0.9] * 5])
    label = torch.randint(0, 2, (900,))
    x = torch.bernoulli(p[label])
    one = torch.stack([x[label == k][0] for k in (0, 1)])
    labelled = torch.cat([one, torch.eye(2)], 1)
    free = torch.cat([x[:300], torch.full((300, 2), torch.nan)], 1)
    errors = {}
    for beta, train in ((0.0, labelled.repeat(20, 1)), (1.0, torch.cat([labelled.repeat(20, 1), free]))):
        torch.manual_seed(1)
        model = dgm.ClassRBM(10, 2, 4)
        objective = model.objective("hybrid", 0.01, unlabelled=beta, kind="exact")
        dgm.fit(model, train, objective=objective, epochs=150, batch_size=400, learning_rate=0.03, progress=False)
        errors[beta] = float((model.predict_proba(x[300:]).argmax(1) != label[300:]).float().mean())
    assert errors[1.0] < errors[0.0]


def semi(tmp_path, labels):
    x = bits(2, 60, 4).numpy()
    np.savez(tmp_path / "semi.npz", train=x, train_labels=labels, valid=x, valid_labels=np.arange(60) % 3, test=x,
             test_labels=np.arange(60) % 3)  # fmt: skip
    return str(tmp_path / "semi.npz")


@pytest.mark.parametrize("missing", [np.nan, -1])
def test_from_the_shell(tmp_path, missing):
    labels = np.where(np.arange(60) % 4 == 0, np.arange(60) % 3, missing)
    data = semi(tmp_path, labels if np.isnan(missing) else labels.astype(int))
    split = dgm.data.load(data).labelled(3).train
    assert split.labels.unique().tolist() == [-1, 0, 1, 2]
    assert torch.equal(split.x[:, 4:].isnan().all(1), torch.arange(60) % 4 != 0)
    run = str(tmp_path / "run")
    made = ["fit", "classrbm", "--data", data, "--set", "classes=3", "--set", "hidden=3", "--epochs", "2", "--out", run]
    assert main([*made, "--objective", "unlabelled=0.5", "--objective", "kind=exact"]) == 0
    assert main(["evaluate", run]) == 0


@pytest.mark.parametrize("wrong", [0.5, np.inf])
def test_labels_that_are_no_numbers_of_classes(tmp_path, wrong):
    labels = (np.arange(60) % 3).astype(float)
    labels[7] = wrong
    with pytest.raises(ValueError, match="or NaN for a row without label"):
        dgm.data.load(semi(tmp_path, labels))
    with pytest.raises(ValueError, match=r"needs labels 0 to 2 for every row of 'semi', or -1"):
        dgm.data.load(semi(tmp_path, np.arange(60) % 3 + 1)).labelled(3)
    with pytest.raises(ValueError, match="'train_labels' has the value -2; expected classes from 0, or -1"):
        dgm.data.load(semi(tmp_path, np.arange(60) % 3 - 2))


def test_the_best_epoch_is_not_the_one_with_most_errors():
    """The larger the first figure on validation rows, the better the epoch: it is the labels' log-probability."""
    model, x = dgm.ClassRBM.example()
    names = [name for name in model.progress(x, x) if name.startswith("valid_")]
    assert names[0] == "valid_log_label"


@pytest.mark.parametrize(
    "make", [lambda: dgm.DBM(3, hidden=(2, 2), classes=3), lambda: dgm.PointwiseGatedRBM(3, hidden=(2, 2), classes=3)]
)
def test_samples_have_labels_and_the_joint_law(make):
    """Means of 20,000 draws of a bit have standard errors of at most 0.0036."""
    torch.manual_seed(0)
    machine = make()
    with torch.no_grad():
        for parameter in machine.parameters():
            parameter.normal_()
    bits = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
    rows = torch.cat([bits.repeat_interleave(3, 0), torch.eye(3).repeat(8, 1)], 1)
    p = machine.evidence(rows).values.exp()
    assert float(p.sum()) == pytest.approx(1, abs=1e-5)
    expected = (p.unsqueeze(1) * rows).sum(0)
    torch.testing.assert_close(machine.sample(20_000).mean(0), expected.to(rows), atol=0.015, rtol=0)
