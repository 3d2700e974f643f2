"""Multi-prediction training against a NumPy mean field, finite differences, and labelled toys."""

import numpy as np
import pytest
import torch
from oracles import boltzmann as oracle

import pyro_dgm as dgm
from pyro_dgm.energy import mean_field
from pyro_dgm.objectives.criteria.multi_prediction import predictions


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def by_hand(dbm, x, mask, rounds):
    """Mean field of a DBM with two hidden layers and some visibles known: first the odd layer, then the even ones."""
    W1, W2 = (W.detach().double().numpy() for W in dbm.weights)
    b, c1, c2 = (p.detach().double().numpy() for p in (dbm.visible_bias, *dbm.hidden_biases))
    v = np.where(mask, x, sigmoid(b) + 0 * x)
    h1, h2 = sigmoid(c1) + np.zeros((len(x), 1)), sigmoid(c2) + np.zeros((len(x), 1))
    for _ in range(rounds):
        h1 = sigmoid(c1 + v @ W1 + h2 @ W2.T)
        field = b + h1 @ W1.T
        v = np.where(mask, x, sigmoid(field))
        h2 = sigmoid(c2 + h1 @ W2)
    return v, h1, h2, field


def masks(x, seed=3):
    return torch.rand(x.shape, generator=torch.Generator().manual_seed(seed)) < 0.5


def test_mean_field_with_known_entries_is_the_equations_by_hand():
    dbm, x = dgm.DBM.example()
    mask = masks(x)
    found = mean_field(dbm().machine, {}, 7, known={"visible": (mask, x)}).naturals
    v, h1, h2, field = by_hand(dbm, x.numpy(), mask.numpy(), 7)
    np.testing.assert_allclose(found["visible"][0].detach(), field, atol=1e-5)
    np.testing.assert_allclose(torch.sigmoid(found["hidden1"][0]).detach(), h1, atol=1e-6)
    np.testing.assert_allclose(torch.sigmoid(found["hidden2"][0]).detach(), h2, atol=1e-6)
    filled = predictions(dbm().machine, {"visible": x}, {"visible": mask}, 7)["visible"]
    np.testing.assert_allclose(filled, v, atol=1e-6)


def test_loss_is_the_cross_entropy_of_what_was_masked(monkeypatch):
    dbm, x = dgm.DBM.example()
    mask = masks(x)
    objective = dgm.MultiPrediction(rounds=5)
    objective.attach(dbm)
    monkeypatch.setattr(objective, "_mask", lambda *_: mask)
    field = by_hand(dbm, x.numpy(), mask.numpy(), 5)[3]
    p = sigmoid(field)
    expected = -(np.where(x.numpy() == 1, np.log(p), np.log(1 - p)) * ~mask.numpy()).sum() / len(x)
    assert float(objective.loss(x).detach()) == pytest.approx(expected, rel=1e-5)


def test_gradient_goes_through_the_rounds(monkeypatch):
    dbm, x = dgm.DBM.example()
    dbm, x = dbm.double(), x.double()
    mask = masks(x)
    objective = dgm.MultiPrediction(rounds=4)
    objective.attach(dbm)
    monkeypatch.setattr(objective, "_mask", lambda *_: mask)
    objective.loss(x).backward()
    for parameter in (dbm.weights[0], dbm.weights[1], dbm.hidden_biases[1]):
        flat = parameter.data.view(-1)
        for entry in (0, len(flat) // 2):
            kept, step = float(flat[entry]), 1e-5
            values = []
            for sign in (1, -1):
                flat[entry] = kept + sign * step
                values.append(float(objective.loss(x).detach()))
            flat[entry] = kept
            assert float(parameter.grad.view(-1)[entry]) == pytest.approx(
                (values[0] - values[1]) / (2 * step), abs=1e-7
            )


def test_masks_have_the_share_that_was_asked_for():
    dbm = dgm.DBM(200, hidden=(4, 3))
    objective = dgm.MultiPrediction(known=0.7)
    mask = objective._mask(dbm().machine, "visible", torch.zeros(500, 200))
    shares = mask.float().mean(1)
    # A row's share is uniform on (0.4, 1): standard deviation 0.3/√3, and 0.0324 at most from the draws of its entries.
    assert abs(float(shares.mean()) - 0.7) < 6 * np.sqrt((0.03 + 0.25 / 200) / 500)
    assert float(shares.std()) > 0.12


def test_layers_have_shares_of_their_own():
    dbm = dgm.DBM(50, hidden=(4, 3), classes=3)
    objective = dgm.MultiPrediction(known={"label": 0.0})
    machine = dbm().machine
    assert not objective._mask(machine, "label", torch.zeros(500, 3)).any()
    share = float(objective._mask(machine, "visible", torch.zeros(500, 50)).float().mean())
    # Uniform on (0, 1) by rows: the variance of a row's share is 1/12 and at most 0.25/50 from the draws of its entries.
    assert abs(share - 0.5) < 6 * np.sqrt((1 / 12 + 0.25 / 50) / 500)
    rows = torch.cat([torch.zeros(3, 50), torch.eye(3)], 1)
    with pytest.raises(ValueError, match=r"known got the layers \['lable'\]"):
        dgm.fit(dbm, rows, objective=dgm.MultiPrediction(known={"lable": 0.1}), epochs=1, progress=False)


def labelled_toy(n=600):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (n,), generator=generator)
    x = labels[:, None].float().expand(n, 8).clone()
    x[:, 4:] = 1 - x[:, 4:]
    flips = torch.rand(x.shape, generator=generator) < 0.15
    return torch.where(flips, 1 - x, x), labels


def test_it_learns_to_classify_and_to_impute():
    """Bayes' rule errs on 1 % of the rows, chance on half of them; mean field is somewhere between, nearer to Bayes."""
    x, labels = labelled_toy()
    rows = torch.cat([x, torch.nn.functional.one_hot(labels, 2).float()], 1)
    dbm = dgm.DBM(8, hidden=(10, 6), classes=2)
    dgm.fit(
        dbm, rows, objective=dgm.MultiPrediction(rounds=5), epochs=10, batch_size=20, learning_rate=0.05, progress=False
    )
    wrong = (dbm.predict_proba(x).argmax(1) != labels).float().mean()
    assert wrong < 0.1
    known = (torch.arange(8) < 5).expand(len(x), 8)
    filled = predictions(dbm().machine, {"visible": x}, {"visible": known}, 10)["visible"]
    share = float(((filled[:, 5:] > 0.5).float() == (1 - labels)[:, None]).float().mean())
    assert share > 0.9


def test_classes_are_scored_by_the_joint_machine():
    """On a small machine with labels the mean-field bound of (x, y) stays below the enumerated log p(x, y)."""
    dbm = oracle.randomise(dgm.DBM(3, hidden=(2, 2), classes=3), torch.Generator().manual_seed(1), 0.6)
    x = torch.randint(0, 2, (6, 3)).float()
    rows = torch.cat([x, torch.eye(3).repeat(2, 1)], 1)
    log_z = float(dgm.log_partition(dbm()).value)
    exact = -dbm().given({"label": rows[:, 3:].unsqueeze(1)}).free_energy(x).detach() - log_z
    bound = dbm.bound(rows) - log_z
    assert (bound < exact + 1e-5).all()
    assert (exact - bound).max() < 1.0
    every = torch.cat([torch.tensor([[a, b, c]]) for a in (0.0, 1.0) for b in (0.0, 1.0) for c in (0.0, 1.0)])
    total = sum(
        float(
            (-dbm().given({"label": torch.eye(3)[k].expand(8, 1, 3)}).free_energy(every) - log_z).exp().sum().detach()
        )
        for k in range(3)
    )
    assert total == pytest.approx(1.0, abs=1e-5)


def test_labels_are_checked():
    dbm = dgm.DBM(3, hidden=(2, 2), classes=3)
    with pytest.raises(ValueError, match="one-hot"):
        dbm.check_data(torch.zeros(2, 6))
    with pytest.raises(ValueError, match="expected rows"):
        dbm.check_data(torch.zeros(2, 5))
    with pytest.raises(ValueError, match="no labels"):
        dgm.DBM.example()[0].predict_proba(torch.zeros(1, 5))


@pytest.mark.parametrize(
    ("options", "message"), [({"rounds": 0}, "rounds"), ({"known": 1.0}, "share"), ({"known": {"label": 1.0}}, "share")]
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        dgm.MultiPrediction(**options)


def test_layers_coupled_within_are_refused():
    machine, x = dgm.BoltzmannMachine.example()
    with pytest.raises(ValueError, match="couplings inside"):
        dgm.fit(machine, x, objective=dgm.MultiPrediction(), epochs=1, progress=False)


def test_weights_multiply_the_losses_of_layers():
    dbm = dgm.DBM(visible=5, hidden=(4, 3), classes=3)
    rows = torch.cat([torch.randint(0, 2, (8, 5)).float(), torch.eye(3)[torch.arange(8) % 3]], 1)

    def loss(label):
        torch.manual_seed(0)
        objective = dbm.objective("multi-prediction", rounds=3, weights={"label": label})
        objective.attach(dbm)
        return float(objective.loss(rows).detach())

    none, once, thrice = loss(0.0), loss(1.0), loss(3.0)
    assert once > none
    assert thrice - none == pytest.approx(3 * (once - none), rel=1e-4)
    with pytest.raises(ValueError, match="factor"):
        dgm.MultiPrediction(weights={"label": -1.0})
    objective = dgm.MultiPrediction(weights={"labels": 1.0})
    objective.attach(dbm)
    with pytest.raises(ValueError, match="those observed"):
        objective.loss(rows)
