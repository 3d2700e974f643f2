"""Figures of a machine with two modes from rows of the lighter one: the interval holds the truth, and says on what it depends."""

import math

import numpy as np
import pytest
import torch
from pyro.distributions import Normal

import pyro_dgm as dgm
from pyro_dgm.annealing import hamiltonian_ais
from pyro_dgm.annealing.weights import end_by_start
from pyro_dgm.energy.free import FreeEnergyDistribution

SIDE, COUPLING, FIELD = 18, 0.17, 0.085


def spins():
    """Thirty-six spins in two halves, every pair across coupled alike; log Z, and rows of the light mode.

    The energy depends on the sums of the two halves alone, so that log Z is a sum over 19 x 19 pairs of them.
    """
    up = np.arange(SIDE + 1)
    total = 2 * up - SIDE
    count = np.array([math.lgamma(SIDE + 1) - math.lgamma(k + 1) - math.lgamma(SIDE - k + 1) for k in up])
    log_p = count[:, None] + count + COUPLING * np.outer(total, total) + FIELD * (total[:, None] + total)
    log_z = np.logaddexp.reduce(log_p.ravel())
    light = (total[:, None] + total < 0) * np.exp(log_p - log_z)
    machine = dgm.BoltzmannMachine(
        2 * SIDE, edges=[(i, SIDE + j) for i in range(SIDE) for j in range(SIDE)], unit="spin"
    )
    with torch.no_grad():
        machine.weight.fill_(COUPLING)
        machine.visible_bias.fill_(FIELD)
    generator = np.random.default_rng(0)
    rows = -np.ones((100, 2 * SIDE))
    for row, number in zip(rows, generator.choice(light.size, 100, p=light.ravel() / light.sum()), strict=True):
        for half, ups in enumerate(divmod(number, SIDE + 1)):
            row[half * SIDE + generator.permutation(SIDE)[:ups]] = 1
    return machine, float(log_z), torch.tensor(rows, dtype=torch.float32), float(light.sum())


@pytest.mark.parametrize("method", ["ais", "bridge"])
def test_intervals_from_rows_of_the_light_mode_hold_the_truth(method):
    """Annealed from those rows alone the figure is some six nats too high, with an interval of a few hundredths."""
    machine, log_z, x, light = spins()
    assert light < 0.005
    truth = float(-machine().free_energy(x).detach().mean()) - log_z
    for seed in range(6):
        torch.manual_seed(seed)
        found = dgm.log_likelihood(machine, x, method=method, chains=60, temperatures=60, warmup=30)
        assert found.lower < truth < found.upper
        assert "the reverse end depends on where its chains start" in found.method


def test_rows_of_both_modes_say_nothing():
    """Chains from the biases and from rows then end alike."""
    rbm = dgm.RBM(20, 20)
    torch.manual_seed(0)
    x = torch.randint(0, 2, (50, 20)).float()
    found = dgm.log_likelihood(rbm, x, method="ais", chains=40, temperatures=30, warmup=20)
    assert found.method == "AIS and reverse AIS"


def test_annealing_by_hmc_too():
    r"""Two normals with sd 0.3 and the shares 0.002 and 0.998: log Z is log(0.3 √(2π)). The base is around the light one."""
    weights = torch.tensor([0.002, 0.998]).log()

    def free_energy(x):
        return -torch.logsumexp(weights - 0.5 * ((x - torch.tensor([-6.0, 0.5])) / 0.3) ** 2, -1)

    target, rows = FreeEnergyDistribution(free_energy, (weights,), (1,)), torch.full((10, 1), -6.0)
    log_z = math.log(0.3 * math.sqrt(2 * math.pi))
    for seed in range(2):
        torch.manual_seed(seed)
        base = Normal(rows[0], 1.0).to_event(1)
        found = hamiltonian_ais(target, base, rows=rows, chains=20, temperatures=40, warmup=20)
        assert found.lower - 1.96 * found.stderr_lower < log_z < found.upper + 1.96 * found.stderr_upper
        assert "depends on where its chains start" in found.method


def test_ends_by_start():
    torch.manual_seed(0)
    alike = torch.randn(200)
    half = torch.arange(200) % 2 == 1
    mean, error, depends = end_by_start(alike, half)
    assert (mean, depends) == (alike.mean(), False)
    assert float(error) == pytest.approx(float(alike.std()) / math.sqrt(200))
    mean, error, depends = end_by_start(alike + 6 * half, half)
    assert float(mean) == pytest.approx(float(alike[half].mean()) + 6, abs=1e-5)
    assert float(error) == pytest.approx(float(alike[half].std()) / 10, rel=1e-5)
    assert depends
    batch, _, depends = end_by_start(torch.stack([alike, alike - 6 * half], 1), half)
    assert depends
    assert torch.allclose(batch, torch.stack([alike.mean(), alike[~half].mean()]))
