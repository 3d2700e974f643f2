"""Sparsity targets: the gradient of another program, the parameters that move, resumption, options that do not fit."""

import copy

import pytest
import torch
from oracles.waves import bits, wave

import pyro_dgm as dgm


def gradients(model, x, target, weight):
    """Gradients by all parameters, of the objective with a target less those without it."""
    found = []
    for sparsity in (None, dgm.Sparsity(target, weight)):
        objective = dgm.NegativePhaseObjective(dgm.ExactNegativePhase(), sparsity=sparsity)
        objective.attach(model)
        loss = objective.loss(x)
        found.append((float(loss.detach()), torch.autograd.grad(loss, list(model.parameters()))))
    (before, plain), (after, pulled) = found
    assert after == pytest.approx(before, abs=1e-12)
    return {n: b - a for (n, _), a, b in zip(model.named_parameters(), plain, pulled, strict=True)}


def pooled_machine():
    model = dgm.ConvolutionalRBM(15, 2, 2, (3, 5), pool=2).double()
    with torch.no_grad():
        model.weight.copy_(wave(0.6, 1, 2, 1, 2, 2))
        model.hidden_bias.copy_(wave(0.5, 2, 2))
        model.visible_bias.copy_(wave(0.4, 3, 1))
    return model


def test_filters_are_pulled_by_their_mean_over_positions():
    """Another program's mean of the eight detectors of a filter; the derivative of that mean (0.034) plays no part."""
    x = bits(1, 1, 3, 5).view(1, 15)
    found = gradients(pooled_machine(), x, 0.05, 3.0)
    assert float(found["hidden_bias"][1]) == pytest.approx(3 * 8 * (0.2089178217 - 0.05), abs=1e-8)
    for name in ("weight", "visible_bias"):
        torch.testing.assert_close(found[name], torch.zeros_like(found[name]), atol=1e-12, rtol=0)


def test_units_are_pulled_by_their_mean_over_rows():
    rbm, x = dgm.RBM.example()
    rbm, x = rbm.double(), x.double()
    found = gradients(rbm, x, 0.2, 0.5)
    q = torch.sigmoid(rbm.hidden_bias + x @ rbm.weight).mean(0)
    torch.testing.assert_close(found["hidden_bias"], (0.5 * (q - 0.2)).detach())


def test_a_layer_of_its_own_target():
    """In a deep machine mean field gives the means; layers that are not named stay as they are."""
    dbm, x = dgm.DBM.example()
    dbm, x = dbm.double(), x.double()
    posterior = dbm.mean_field(x, 10).statistics
    objective = dgm.Sparsity({"hidden2": 0.3}, 2.0)
    one, two = torch.autograd.grad(objective.term(dbm, x), list(dbm.hidden_biases), materialize_grads=True)
    torch.testing.assert_close(two, 2 * (posterior["hidden2"][0].mean(0) - 0.3))
    assert not one.any()


def test_spikes_have_targets_and_slabs_none():
    model, x = dgm.SpikeSlabRBM.example()
    term = dgm.Sparsity(0.1).term(model, x)
    machine = model().machine
    spikes = dgm.energy.mean_field(machine, {"visible": x}, 1).statistics["hidden"][0]
    q = spikes.unflatten(-1, (-1, machine.graph.layers["hidden"].shape[-1]))[..., 0].mean(0)
    (bias,) = torch.autograd.grad(term, [model.hidden_bias])
    torch.testing.assert_close(bias, (q - 0.1).detach())


def test_rows_with_labels_and_without():
    """The mean activation given a row and its class; without a class, by mean field over both."""
    model, x = dgm.ClassRBM.example()
    model, x = model.double(), x.double()
    objective = model.objective("discriminative", sparsity=0.1)
    objective.attach(model)
    q = torch.sigmoid(model.hidden_bias + x[:, :5] @ model.weight + x[:, 5:] @ model.label_weight).mean(0)
    plain = model.objective("discriminative")
    plain.attach(model)
    pulled, free = (torch.autograd.grad(o.loss(x), model.hidden_bias)[0] for o in (objective, plain))
    torch.testing.assert_close(pulled - free, (q - 0.1).detach())
    x[:4, 5:] = torch.nan
    assert torch.autograd.grad(objective.loss(x), model.hidden_bias)[0].isfinite().all()


@pytest.mark.parametrize("name", ["RBM", "ClassRBM", "ConvolutionalRBM", "PointwiseGatedRBM", "ConditionalRBM", "DBM"])
def test_units_come_to_be_on_as_often_as_asked(name):
    """Steps along the term alone, which stand still where every bias's units are on in 15 % of the rows."""
    model, x = getattr(dgm, name).example()
    sparsity, optimiser = dgm.Sparsity(0.15), torch.optim.SGD(model.parameters(), lr=1.0)
    for _ in range(200):
        optimiser.zero_grad()
        sparsity.term(model, x).backward()
        optimiser.step()
    machine, seen = model.machine_of(x)
    means = {n: m[0] for n, m in dgm.energy.mean_field(machine, seen).statistics.items() if "hidden" in n}
    shares = [float(m.detach().mean()) for m in means.values()]
    assert shares == pytest.approx([0.15] * len(shares), abs=1e-3)


def test_a_run_resumes_as_if_never_stopped(tmp_path):
    rbm, x = dgm.RBM.example()
    options = dict(batch_size=5, learning_rate=0.05, progress=False)
    runs = []
    for name, parts in (("whole", (4,)), ("parts", (2, 4))):
        for epochs in parts:
            model = copy.deepcopy(rbm)
            objective = model.objective(sparsity=0.1, sparsity_weight=2.0)
            dgm.fit(
                model, x, objective=objective, epochs=epochs, out=tmp_path / name, resume=epochs != parts[0], **options
            )
        runs.append(model)
    for a, b in zip(*(model.parameters() for model in runs), strict=True):
        assert torch.equal(a, b)
    other = copy.deepcopy(rbm)
    with pytest.raises(ValueError, match="sparsity"):
        dgm.fit(other, x, objective=other.objective(), epochs=5, out=tmp_path / "whole", resume=True, **options)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("RBM", {"sparsity": 1.2}, "sparsity got 1.2; expected a share of the rows"),
        ("RBM", {"sparsity": {}}, "sparsity got {}"),
        ("RBM", {"sparsity": 0.1, "sparsity_weight": 0}, "sparsity_weight got 0"),
        ("RBM", {"sparsity_weight": 2.0}, "sparsity_weight got 2.0 without sparsity"),
        ("RBM", {"kind": "nce", "sparsity": 0.1}, "sparsity got 0.1 with kind='nce'"),
    ],
)
def test_bad_options(name, options, message):
    with pytest.raises(ValueError, match=message):
        getattr(dgm, name).example()[0].objective(**options)


@pytest.mark.parametrize(
    ("name", "target", "message"),
    [
        ("RBM", {"visible": 0.1}, "hidden layers of units that are on or off, with biases that are trained: hidden"),
        ("MixtureRBM", 0.1, "with biases that are trained: none"),
        ("ConvolutionalRBM", 0.3, "regions of 4 detectors of which at most one is on; expected at most 0.25"),
    ],
)
def test_targets_that_a_machine_cannot_have(name, target, message):
    model, x = getattr(dgm, name).example()
    with pytest.raises(ValueError, match=message):
        dgm.Sparsity(target).term(model, x)


def test_a_model_without_layers_is_refused():
    model, _ = dgm.MeanCovarianceRBM.example()
    objective = dgm.NegativePhaseObjective(dgm.CD(), sparsity=dgm.Sparsity(0.1))
    with pytest.raises(ValueError, match="no Boltzmann machine of layers"):
        objective.attach(model)
