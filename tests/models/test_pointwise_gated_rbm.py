"""Point-wise gated machine: values of another program, machines that it contains, masks, bad input."""

import pytest
import torch
from oracles.waves import wave

import pyro_dgm as dgm


def machine(classes=0):
    model = dgm.PointwiseGatedRBM(3, (2, 2), classes).double()
    with torch.no_grad():
        model.weights[0].copy_(wave(0.8, 1, 3, 2))
        model.weights[1].copy_(wave(0.7, 2, 3, 2))
        model.visible_bias.copy_(torch.stack([wave(0.5, 3, 3), wave(0.4, 4, 3)], 1))
        model.hidden_biases[0].copy_(wave(0.3, 5, 2))
        model.hidden_biases[1].copy_(wave(0.2, 6, 2))
        if classes:
            model.label_weight.copy_(wave(0.6, 7, 2, 2))
            model.label_bias.copy_(wave(0.2, 8, 2))
    return model


X = torch.tensor([[1.0, 1.0, 0.0]]).double()


def test_values_of_another_program():
    model = machine()
    assert float(dgm.log_partition(model()).value) == pytest.approx(6.4800292724, abs=1e-9)
    log_p = model().log_prob(X)
    assert float(log_p.detach()) == pytest.approx(-1.9371297944, abs=1e-9)
    assert float(torch.autograd.grad(log_p.sum(), model.weights[0])[0][0, 1]) == pytest.approx(0.1140668070, abs=1e-9)
    m = model().machine
    whole = dgm.energy.log_sum(m, {"visible": X})
    for pixel, expected in enumerate((0.6639159352, 0.6038277306, 0.5)):
        rest = torch.cartesian_prod(*([torch.tensor([0, 1])] * 2))
        masks = torch.zeros(4, 3, dtype=torch.long)
        masks[:, [i for i in range(3) if i != pixel]] = rest
        states = torch.eye(2).double()[masks]
        share = (dgm.energy.log_sum(m, {"visible": X, "mask": states}) - whole).exp().sum()
        assert float(share.detach()) == pytest.approx(expected, abs=1e-9)
    on = {"visible": X, "hidden1": torch.tensor([[0.0, 1.0], [1.0, 1.0]]).double()}
    assert float((dgm.energy.log_sum(m, on) - whole).exp().sum().detach()) == pytest.approx(0.4092295688, abs=1e-9)


def test_with_labels():
    model = machine(classes=2)
    assert float(dgm.log_partition(model()).value) == pytest.approx(7.6085206412, abs=1e-9)
    assert float(model.predict_proba(X)[0, 1]) == pytest.approx(0.4512525014, abs=1e-9)


def test_one_group_everywhere_is_an_rbm():
    """With a bias that drives all switches to the first group, p(v) is that of the first group's machine."""
    model, x = machine(), torch.cartesian_prod(*([torch.tensor([0.0, 1.0]).double()] * 3))
    rbm = dgm.RBM(3, 2).double()
    with torch.no_grad():
        rbm.weight.copy_(model.weights[0])
        rbm.visible_bias.copy_(model.visible_bias[:, 0])
        rbm.hidden_bias.copy_(model.hidden_biases[0])
    masks = torch.eye(2).double()[torch.zeros(3, dtype=torch.long)][None]
    clamped = dgm.energy.log_sum(model().machine, {"visible": x, "mask": masks})
    torch.testing.assert_close(torch.log_softmax(clamped, 0), rbm().log_prob(x))


def test_the_bound_is_below_and_annealing_agrees():
    torch.manual_seed(0)
    model, x = machine(), torch.cartesian_prod(*([torch.tensor([0.0, 1.0]).double()] * 3))
    exact = dgm.log_likelihood(model, x)
    assert exact.kind == "exact"
    bound = model.bound(x) - dgm.log_partition(model()).value
    assert (bound <= model().log_prob(x) + 1e-9).all()
    figure = dgm.log_likelihood(model, x, method="ais", chains=50, temperatures=200)
    assert (figure.kind, figure.lower < exact.value) == ("lower bound", True)
    log_z = dgm.log_partition(model(), method="ais")
    assert abs(float(log_z.value) - 6.4800292724) < 6 * float(log_z.stderr) + 1e-3


def test_probabilities_of_classes_by_mean_field(monkeypatch):
    """Of small weights, where mean field is nearly exact."""
    model = machine(classes=2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 0.3
    exact = model.predict_proba(X)
    monkeypatch.setattr("pyro_dgm.models.structured.pointwise_gated_rbm._LISTED", 0)
    assert float((model.predict_proba(X) - exact).abs().max()) < 1e-3


def test_an_object_before_noise_goes_to_one_group():
    """Bars in the first half of the pixels with labels, coin flips in the second: switches tell the halves apart."""
    torch.manual_seed(0)
    label = torch.randint(0, 2, (800,))
    bars = torch.tensor([[1.0, 1, 0, 0, 1, 0], [0, 0, 1, 1, 0, 1]])[label]
    rows = torch.cat([bars, torch.bernoulli(torch.full((800, 6), 0.5)), torch.eye(2)[label]], 1)
    model = dgm.PointwiseGatedRBM(12, (6, 6), classes=2)
    dgm.fit(model, rows, epochs=15, batch_size=40, learning_rate=0.02, progress=False)
    assert float((model.predict_proba(rows).argmax(1) == label).float().mean()) > 0.95


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: dgm.PointwiseGatedRBM(4, (3,)), "hidden got"),
        (lambda: dgm.PointwiseGatedRBM(4, (3, 2), classes=1), "classes got 1"),
        (lambda: dgm.PointwiseGatedRBM(4, (3, 2), unit="spin"), "unit got 'spin'"),
        (lambda: machine().predict_proba(X), "no labels"),
        (lambda: machine().objective(centred=True), "no centred form"),
    ],
)
def test_bad_input(build, message):
    with pytest.raises(ValueError, match=message):
        build()
