"""Implicit mixture of RBMs: values of another program, machines that it contains, chains."""

import pytest
import torch
from oracles.waves import bits, wave

import pyro_dgm as dgm


def machine(visible=3, hidden=2, components=2):
    """A mixture with sines of indices as parameters."""
    model = dgm.MixtureRBM(visible, hidden, components).double()
    with torch.no_grad():
        model.weight.copy_(wave(0.8, 1, components, visible, hidden))
        model.visible_bias.copy_(wave(0.5, 2, components, visible))
        model.hidden_bias.copy_(wave(0.4, 3, components, hidden))
        model.component_bias.copy_(wave(0.3, 4, components))
    return model


def test_values_of_another_program():
    model, x = machine(), bits(2, 3).view(1, 3)
    assert float(dgm.log_partition(model()).value) == pytest.approx(3.8154546837, abs=1e-9)
    assert float(model.shares()[0]) == pytest.approx(0.5350067827, abs=1e-9)
    assert float(model.responsibilities(x)[0, 0]) == pytest.approx(0.7043159992, abs=1e-9)
    log_p = model().log_prob(x)
    assert float(log_p.detach()) == pytest.approx(-2.1546957646, abs=1e-9)
    w, d = torch.autograd.grad(log_p.sum(), (model.weight, model.component_bias))
    assert float(w[1, 1, 0]) == pytest.approx(0.0742293820, abs=1e-9)
    assert float(d[0]) == pytest.approx(0.1693092164, abs=1e-9)


def test_a_mixture_is_its_machines_by_their_shares():
    """log p(v) = log sum_k pi_k p_k(v), with the components as RBMs."""
    model, x = machine(4, 3, 3), bits(3, 7, 4)
    parts = []
    for k in range(3):
        rbm = dgm.RBM(4, 3).double()
        with torch.no_grad():
            rbm.weight.copy_(model.weight[k])
            rbm.visible_bias.copy_(model.visible_bias[k])
            rbm.hidden_bias.copy_(model.hidden_bias[k])
        parts.append(rbm().log_prob(x))
    expected = (torch.stack(parts, -1) + model.shares().log()).logsumexp(-1)
    torch.testing.assert_close(model().log_prob(x), expected)


def test_components_that_differ_in_biases_alone_are_a_machine_with_a_categorical_layer():
    model, x = machine(), bits(2, 5, 3)
    with torch.no_grad():
        model.weight.copy_(model.weight[:1].expand_as(model.weight))
    graph = dgm.Graph(
        {"visible": dgm.Binary(3), "hidden": dgm.Binary(2), "component": dgm.Categorical(1, 2)},
        [dgm.Dense("visible", "hidden"), dgm.Dense("visible", "component"), dgm.Dense("hidden", "component")],
    )
    zeros = torch.zeros(3).double(), torch.zeros(2).double()
    biases = {"visible": zeros[:1], "hidden": zeros[1:], "component": (model.component_bias[None],)}
    other = dgm.BoltzmannDistribution(graph, biases, (model.weight[0], model.visible_bias.T, model.hidden_bias.T))
    torch.testing.assert_close(model().log_prob(x), other.log_prob(x))


def test_chains_and_annealing_agree_with_the_listing():
    """20,000 chains of 30 sweeps: the law of all eight patterns, within six standard errors."""
    torch.manual_seed(0)
    model = machine()
    every = torch.cartesian_prod(*([torch.tensor([0.0, 1.0]).double()] * 3))
    p = model().log_prob(every).exp().detach()
    kernel = dgm.BlockGibbs(model())
    state = kernel.start(20_000)
    for _ in range(30):
        state = kernel.sample(state)
    index = (state["visible"] @ torch.tensor([4.0, 2, 1]).double()).long()
    share = torch.bincount(index, minlength=8) / 20_000
    assert ((share - p).abs() < 6 * (p * (1 - p) / 20_000).sqrt()).all()
    figure = dgm.log_likelihood(model, every, method="ais")
    exact = dgm.log_likelihood(model, every)
    assert figure.lower < exact.value < figure.upper


def test_components_start_at_clusters():
    """Two patterns, in one row of four and in three of four: first biases and shares are theirs, to six standard errors."""
    torch.manual_seed(0)
    p = torch.tensor([[0.9, 0.9, 0.9, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.9, 0.9, 0.9]])
    label = (torch.arange(800) % 4 > 0).long()
    x = torch.bernoulli(p[label])
    model = dgm.MixtureRBM(6, 3, 2)
    model.initialise(x)
    mean, order = torch.sigmoid(model.visible_bias.detach()), model.shares().argsort()
    assert (mean[order] - p).abs().max() < 6 * 0.3 / 200**0.5
    torch.testing.assert_close(model.shares()[order], torch.tensor([0.25, 0.75]), atol=0.03, rtol=0)
    found = model.responsibilities(x).argmax(1)
    assert (found == order[label]).double().mean() > 0.95


@pytest.mark.parametrize("kind", ["pcd", "exact"])
def test_components_do_not_starve(kind):
    """Four patterns of the same share: after training each has a component, and by exact gradients half its share at least.

    Persistent chains hardly leave their components, so that shares drift by the chains' luck.
    """
    torch.manual_seed(0)
    pattern = torch.kron(torch.eye(4), torch.ones(1, 4))
    x = torch.bernoulli(0.05 + 0.9 * pattern[torch.arange(400) % 4])
    model = dgm.MixtureRBM(16, 2, 4)
    objective = model.objective(kind)
    dgm.fit(model, x, objective=objective, epochs=20, batch_size=40, learning_rate=0.01, progress=False)
    assert model.responsibilities(pattern).argmax(1).unique().numel() == 4
    if kind == "exact":
        assert float(model.shares().min()) > 0.25 / 2


@pytest.mark.parametrize(("name", "value"), [("visible", 0), ("hidden", 0), ("components", 1)])
def test_bad_numbers(name, value):
    with pytest.raises(ValueError, match=f"{name} got {value}"):
        dgm.MixtureRBM(**{"visible": 4, "hidden": 3, "components": 2, name: value})
    with pytest.raises(ValueError, match="no centred form"):
        machine().objective(centred=True)
