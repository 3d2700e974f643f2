"""Rounds of mean field end once means stand still, where nothing but the fixed point counts."""

import sys

import pytest
import torch

import pyro_dgm as dgm
from pyro_dgm.energy.mean_field import free_energy_bound, mean_field

module = sys.modules["pyro_dgm.energy.mean_field"]


@pytest.fixture
def asked(monkeypatch):
    """How often rounds asked whether the means stand still."""
    times, ask = [], module._stand_still
    monkeypatch.setattr(module, "_stand_still", lambda *a: times.append(1) or ask(*a))
    return times


def machine(dtype, scale=0.3):
    torch.manual_seed(0)
    dbm = dgm.DBM(20, (15, 12)).to(dtype)
    with torch.no_grad():
        for parameter in dbm.parameters():
            parameter.normal_(std=scale)
    return dbm().machine, (torch.rand(30, 20) < 0.5).to(dtype)


@pytest.mark.parametrize(("dtype", "off"), [(torch.float32, 1e-5), (torch.float64, 5e-10)])
def test_the_fixed_point_is_that_of_all_rounds(dtype, off, asked):
    bound, x = machine(dtype)
    with torch.no_grad():
        few = mean_field(bound, {"visible": x}, 200)
    assert 2 < len(asked) < 60
    all_rounds = mean_field(bound, {"visible": x}, 200)  # with a gradient no round is left out
    for layer, (means,) in few.statistics.items():
        torch.testing.assert_close(means, all_rounds.statistics[layer][0].detach(), rtol=0, atol=10 * off)


def test_bounds_are_those_of_all_rounds_to_rounding(asked, monkeypatch):
    """The error of a bound is the square of that of the means."""
    bound, x = machine(torch.float32)
    few = free_energy_bound(bound, {"visible": x}, 100)
    assert asked
    monkeypatch.setattr(module, "_stand_still", lambda *a: False)
    torch.testing.assert_close(few, free_energy_bound(bound, {"visible": x}, 100), rtol=1e-5, atol=1e-6)


def test_rounds_that_count_are_all_made(asked):
    """Gradients through rounds, as multi-prediction training takes them, are those of so many rounds."""
    bound, x = machine(torch.float32)
    mean_field(bound, {"visible": x}, 50)
    assert not asked
    gaussian = dgm.GaussianRBM(5, 4)
    with torch.no_grad():
        mean_field(gaussian().machine, {"hidden": torch.ones(3, 4)}, 5)
    assert not asked  # real numbers have no scale on which to stand still
