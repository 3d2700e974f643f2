"""Positive phases of machines whose hidden units are coupled to each other: clamped chains and mean field (20.1)."""

import functools
import itertools

import pytest
import torch
from oracles import boltzmann as oracle

import pyro_dgm as dgm
from pyro_dgm.energy import enumeration
from pyro_dgm.models.shared import boltzmann
from pyro_dgm.objectives.phases import positive


def machine(visible=3, hidden=3, seed=0, scale=1.0, **options):
    torch.manual_seed(seed)
    model = dgm.BoltzmannMachine(visible, hidden, **options).double()
    return oracle.randomise(model, torch.Generator().manual_seed(seed), scale)


def rows(model, n=4):
    generator = torch.Generator().manual_seed(1)
    low, high = model().machine.graph.layers["visible"].atom_states(torch.zeros((), dtype=torch.float64))
    return low + (high - low) * torch.randint(0, 2, (n, model.visible), generator=generator)


@pytest.mark.parametrize("unit", ["binary", "spin"])
@pytest.mark.parametrize("edges", [None, [(0, 3), (1, 3), (2, 4), (3, 4), (4, 5), (3, 5), (0, 1)]])
def test_clamped_chains_have_the_exact_gradient(unit, edges, monkeypatch):
    """Of 20,000 chains a row that have converged, within six standard errors, where no statistic varies by more than one."""
    monkeypatch.setattr(positive, "SWEEPS", 60)
    model = machine(unit=unit, edges=edges, scale=0.7)
    x = rows(model)
    parameters = list(model.parameters())
    exact = torch.autograd.grad(model().free_energy(x).sum(), parameters)
    many = x.repeat(20_000, 1)
    value = positive.data_free_energy(model(), many, "chains")
    found = torch.autograd.grad(value.sum() / 20_000, parameters)
    for ours, right in zip(found, exact, strict=True):
        torch.testing.assert_close(ours, right, atol=6 * (len(x) / 20_000) ** 0.5, rtol=0)


@pytest.mark.parametrize("unit", ["binary", "spin"])
def test_mean_field_is_the_bound(unit, monkeypatch):
    """E_q[E] - H(q), with every hidden state listed; at the fixed point its slope is that of the bound."""
    monkeypatch.setattr(positive, "ROUNDS", 500)
    model = machine(unit=unit)
    x = rows(model)
    low = 0.0 if unit == "binary" else -1.0

    def bound():
        from pyro_dgm.energy.mean_field import mean_field

        with torch.no_grad():
            mean = mean_field(model().machine, {"visible": x}, 500).statistics["hidden"][0]
            share = (mean - low) / (1 - low)
            total = torch.zeros(len(x), dtype=x.dtype)
            for bits in itertools.product([0, 1], repeat=3):
                on = torch.tensor(bits, dtype=x.dtype)
                q = (share * on + (1 - share) * (1 - on)).prod(1)
                state = {"visible": x, "hidden": (low + (1 - low) * on).expand(len(x), 3)}
                total += q * (model().energy(state) + q.log())
            return total

    value = positive.data_free_energy(model(), x, "mean-field")
    torch.testing.assert_close(value.detach(), bound())
    assert (value > model().free_energy(x)).all()
    value.sum().backward()
    for parameter in model.parameters():
        flat, ends = parameter.detach().view(-1), []
        for step in (1e-5, -1e-5):
            flat[0] += step
            ends.append(float(bound().sum()))
            flat[0] -= step
        assert float(parameter.grad.view(-1)[0]) == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-6)


@pytest.mark.usefixtures("short_anchor")
@pytest.mark.parametrize("options", [{}, {"positive": "mean-field"}, {"kind": "cd"}, {"centred": True}])
def test_machines_beyond_listing_are_trained(options, monkeypatch):
    """With a limit that calls for it, a machine learns what independent bits cannot, by its exact likelihood."""
    torch.manual_seed(0)
    centres = torch.tensor([[0.9] * 3 + [0.1] * 3, [0.1] * 3 + [0.9] * 3])
    x = (torch.rand(400, 6) < centres[torch.randint(0, 2, (400,))]).float()
    share = x.mean(0)
    independent = float((x * share.log() + (1 - x) * (1 - share).log()).sum(1).mean())
    model = dgm.BoltzmannMachine(6, 4)
    with monkeypatch.context() as patch:
        patch.setattr(enumeration, "QUICK", 0.0)
        optimiser = {"optimiser": "sgd", "learning_rate": 0.1} if "centred" in options else {"learning_rate": 0.05}
        run = dgm.fit(
            model, x, objective=model.objective(**options), epochs=8, batch_size=50, progress=False, **optimiser
        )
        assert {"valid_reconstruction", "free_energy_gap"} <= run.history[-1].keys()
    assert dgm.log_likelihood(model, x).value > independent + 0.3


@pytest.mark.usefixtures("short_anchor")
def test_the_default_trains_a_machine_of_24_hidden_units():
    torch.manual_seed(0)
    model = dgm.BoltzmannMachine(10, hidden=24)
    x = torch.randint(0, 2, (40, 10)).float()
    before = model.weight.detach().clone()
    dgm.fit(model, x, epochs=1, batch_size=40, progress=False)
    assert (model.weight != before).all()
    phase = dgm.PCD(chains=10, fast=0.1)
    dgm.fit(model, x, objective=dgm.NegativePhaseObjective(phase), epochs=1, batch_size=40, progress=False)


def test_the_figure_of_such_a_machine_is_a_bound(monkeypatch):
    model = machine(4, 4)
    x = rows(model)
    exact = float(dgm.log_likelihood(model, x).value)
    monkeypatch.setattr(boltzmann, "summable", lambda machine, fixed: False)
    found = dgm.log_likelihood(model, x, chains=200, temperatures=200)
    assert found.kind == "lower bound"
    assert "variational bound" in found.method
    assert exact - 1.5 < found.value < exact + 0.1


def test_unknown_positive_phases_are_refused():
    for make in (dgm.PCD, dgm.CD, functools.partial(dgm.RBM(3, 2).objective, "pcd")):
        with pytest.raises(ValueError, match="positive got 'clamped'; expected one of"):
            make(positive="clamped")
    with pytest.raises(ValueError, match="positive got 'chains' with kind='exact'"):
        dgm.RBM(3, 2).objective("exact", positive="chains")
