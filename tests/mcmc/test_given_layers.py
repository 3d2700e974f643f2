"""Every kernel and engine draws the conditional law where a distribution is given some layers; log Z stays that of all."""

import functools
import itertools
import math

import numpy as np
import pytest
import torch

import pyro_dgm as dgm
from pyro_dgm.annealing import hamiltonian_ais

FEW = (
    dgm.BlockGibbs,
    functools.partial(dgm.ParallelTempering, temperatures=3),
    functools.partial(dgm.TemperedTransitions, temperatures=5),
)
NAMES = ["gibbs", "tempering", "transitions"]
CHAINS, SWEEPS = 4000, 30
SIZES = {"visible": 3, "hidden1": 2, "hidden2": 2}


def deep():
    """A machine of three layers, in double precision."""
    torch.manual_seed(3)
    dbm = dgm.DBM(visible=3, hidden=(2, 2), spread=1.0)
    with torch.no_grad():
        dbm.visible_bias.normal_()
    return dbm.double()


def listed(dbm):
    """All states of the layers in one row each, and minus their energies, from (20.24) alone."""
    states = np.array(list(itertools.product([0.0, 1.0], repeat=7)))
    v, first, second = np.split(states, [3, 5], 1)
    lower, upper = (w.detach().numpy() for w in dbm.weights)
    biases = [b.detach().numpy() for b in (dbm.visible_bias, *dbm.hidden_biases)]
    minus = ((v @ lower) * first).sum(1) + ((first @ upper) * second).sum(1)
    return states, minus + v @ biases[0] + first @ biases[1] + second @ biases[2]


GIVEN = {"hidden2": torch.tensor([1.0, 0.0], dtype=torch.float64)}


def conditional(dbm):
    """The probabilities of all states given ``GIVEN``."""
    states, minus = listed(dbm)
    p = np.exp(minus) * (states[:, 5:] == GIVEN["hidden2"].numpy()).all(1)
    return p / p.sum()


def frequencies(draws):
    rows = torch.cat([draws[name].reshape(-1, size) for name, size in SIZES.items()], 1)
    numbers = (rows.long() * 2 ** torch.arange(6, -1, -1)).sum(1)
    return torch.bincount(numbers, minlength=128).numpy() / len(rows)


def close(found, p, n):
    """Every frequency within six standard errors (and three counts)."""
    return bool((np.abs(found - p) <= 6 * np.sqrt(p * (1 - p) / n) + 3 / n * (p > 0)).all())


def run(kernel, **options):
    torch.manual_seed(0)
    options = {"num_samples": 1, "warmup_steps": SWEEPS, "num_chains": CHAINS, "disable_progbar": True} | options
    mcmc = dgm.VectorizedMCMC(kernel, **options)
    mcmc.run()
    return mcmc


@pytest.mark.parametrize("make", FEW, ids=NAMES)
def test_kernels_draw_the_conditional_law(make):
    dbm = deep()
    draws = run(make(dbm().given(GIVEN))).get_samples()
    p = conditional(dbm)
    assert close(frequencies(draws), p, CHAINS)
    assert not close(frequencies(run(make(dbm())).get_samples()), p, CHAINS)


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("engine", ["jax", "compiled"])
@pytest.mark.parametrize("make", FEW[:2], ids=NAMES[:2])
def test_engines_draw_the_conditional_law(engine, make):
    pytest.importorskip("numpyro")
    dbm = deep()
    dist = dbm().given(GIVEN)
    mcmc = run(make(dist), engine=engine, keep="moments")
    p = conditional(dbm)
    assert close(frequencies(mcmc.kernel.draws(mcmc.last_params)), p, CHAINS)
    energies, visible = mcmc.chain_scalars(), mcmc.kernel.draws(mcmc.last_params)["visible"]
    assert torch.allclose(energies["free_energy"][:, -1], dist.free_energy(visible))


def test_large_machines_leave_the_loop_over_bits():
    """Without given layers the loop runs; its words have no place for held ones."""
    from pyro_dgm.mcmc.engines.bits import BitEngine

    kernel = dgm.BlockGibbs(dgm.RBM(300, 200)().given({"hidden": torch.ones(200)}))
    kernel.num_chains = 100
    assert BitEngine.of(kernel) is None


REAL = [
    *FEW[:1],
    functools.partial(dgm.ParallelTempering, temperatures=[0.4, 1.0]),
    functools.partial(dgm.TemperedTransitions, temperatures=[0.5, 0.75, 1.0]),
    dgm.GibbsLangevin,
    functools.partial(dgm.HMC, step_size=0.3, num_steps=5),
]


@pytest.mark.parametrize("make", REAL, ids=[*NAMES, "langevin", "hmc"])
@pytest.mark.parametrize("rows", [False, True])
def test_real_units_given_hidden_ones(make, rows):
    r"""$x \mid h \sim \mathcal N(b / \beta + W h / \beta, 1 / \beta)$ (20.42): mean and variance within six standard errors.

    With rows there is one chain for each of them.
    """
    torch.manual_seed(1)
    model = dgm.GaussianRBM(4, 3).double()
    with torch.no_grad():
        model.weight.normal_()
    hidden = torch.randint(0, 2, (CHAINS, 3)).double() if rows else torch.ones(3, dtype=torch.float64)
    dist = model().given({"hidden": hidden})
    x = run(make(dist), num_chains=1 if rows else CHAINS).get_samples()["visible"].reshape(CHAINS, 4)
    eta, half = (b.detach() for b in model().machine.biases["visible"])
    mean = (eta + hidden @ model().machine.weights[0].detach().mT) / (-2 * half)
    standard = (x - mean) * (-2 * half).sqrt()
    assert (standard.mean(0).abs() < 6 / math.sqrt(CHAINS)).all()
    assert ((standard.square().mean(0) - 1).abs() < 6 * math.sqrt(2 / CHAINS)).all()


def test_mean_statistics_stand_for_states():
    """Given means of hidden bits the visible ones have the fields of those means."""
    rbm, _ = dgm.RBM.example()
    means = torch.tensor([0.25, 0.5, 0.75, 1.0])
    x = run(dgm.BlockGibbs(rbm().given({"hidden": means})), warmup_steps=1).get_samples()["visible"]
    p = torch.sigmoid(rbm.visible_bias + rbm.weight @ means).detach()
    assert ((x.mean(0) - p).abs() < 6 * (p * (1 - p) / CHAINS).sqrt()).all()


def test_chains_start_around_rows_with_the_given_layers():
    state = deep()().given(GIVEN).around(torch.ones(5, 3).double())
    assert torch.equal(state["hidden2"], GIVEN["hidden2"].expand(5, 2))
    assert (state["visible"] == 1).all()


@pytest.mark.parametrize("make", FEW, ids=NAMES)
def test_a_clamp_of_a_given_layer_is_refused(make):
    with pytest.raises(ValueError, match=r"clamp names the layers \['hidden2'\], which the distribution is given"):
        make(deep()().given(GIVEN), clamp={"hidden2": (torch.ones(2) > 0, torch.zeros(2))})


def test_given_states_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"the given state of 'hidden2' has shape \(5,\); its last dimensions"):
        deep()().given({"hidden2": torch.ones(5)})


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("engine", ["torch", "jax"])
def test_log_partition_is_that_of_all_layers(engine):
    """``log_prob`` is then log p(x, h); six standard errors of the forward estimate."""
    if engine == "jax":
        pytest.importorskip("numpyro")
    dbm = deep()
    _, minus = listed(dbm)
    exact = np.log(np.exp(minus).sum())
    dist = dbm().given(GIVEN)
    assert float(dgm.log_partition(dist).value) == pytest.approx(exact, abs=1e-9)
    torch.manual_seed(0)
    found = dgm.log_partition(dist, "ais", chains=300, temperatures=30, engine=engine)
    assert abs(float(found.value) - exact) < 6 * float(found.stderr)


def test_hamiltonian_annealing_finds_that_of_all_layers_too():
    torch.manual_seed(0)
    model = dgm.GaussianRBM(3, 2)
    base = torch.distributions.Independent(torch.distributions.Normal(torch.zeros(3), torch.ones(3)), 1)
    exact = float(dgm.log_partition(model()).value)
    found = hamiltonian_ais(model().given({"hidden": torch.ones(2)}), base, chains=50, temperatures=20, reverse=False)
    assert abs(float(found.value) - exact) < 6 * float(found.stderr) + 1e-3


def test_raise_bounds_rows_together_with_given_layers():
    r"""The mean of the estimates is $p_{ann}(x, h)$, which tends to p(x, h): all of it with two temperatures only as a sum.

    Summed over all x and h the annealing model's probabilities are 1, within six standard errors of that sum.
    """
    dbm = deep()
    torch.manual_seed(0)
    every = torch.tensor(list(itertools.product([0.0, 1.0], repeat=5)), dtype=torch.float64)
    x, hidden = every.split([3, 2], 1)
    bound = dgm.raise_bound(dbm().given({"hidden2": hidden}), x, chains=400, temperatures=5)
    p = bound.values.exp()
    assert abs(float(p.sum()) - 1) < 6 * float((p * bound.stderr).square().sum().sqrt())
    fine = dgm.raise_bound(dbm().given({"hidden2": hidden}), x, chains=50, temperatures=300)
    _, minus = listed(dbm)
    joint = np.exp(minus - np.log(np.exp(minus).sum())).reshape(8, 4, 4).sum(1).reshape(-1)
    order = [int(v) for v in (every.long() * 2 ** torch.arange(4, -1, -1)).sum(1)]
    assert ((fine.values - torch.from_numpy(joint[order]).log()).abs() < 6 * fine.stderr + 0.05).all()


@pytest.mark.parametrize("phase", [dgm.PCD(chains=3000), dgm.CD(k=30)], ids=["pcd", "cd"])
def test_negative_phases_of_a_given_site_move_all_layers(phase):
    r"""The gradient of log p(x, h) has the mean statistics of the whole machine (20.12), six standard errors of 3000 chains."""
    dbm = deep()
    x = torch.randint(0, 2, (3000, 3), generator=torch.Generator().manual_seed(0)).double()
    dist = dbm().given({"hidden2": GIVEN["hidden2"].expand(3000, 2)})
    torch.manual_seed(0)
    with torch.no_grad():
        for _ in range(30):
            negatives = phase.negatives("x", dist, x)
    states, minus = listed(dbm)
    p = np.exp(minus - np.log(np.exp(minus).sum()))
    mean = torch.from_numpy(p @ states[:, 5:])
    found = negatives["hidden2"][:3000].mean(0)
    assert ((found - mean).abs() < 6 * (mean * (1 - mean) / 3000).sqrt()).all()


def test_programs_under_persistent_chains_draw_given_sites_conditionally():
    """A site given its hidden layers is no draw of the chains, which know nothing of them."""
    dbm = deep()
    phase = dgm.PCD(chains=20)
    with torch.no_grad():
        phase.terms("x", dbm(), torch.ones(4, 3).double())
    assert phase.sampler("x", dbm()) is not None
    assert phase.sampler("x", dbm().given(GIVEN)) is None


def test_no_twin_in_numpyro_for_given_layers():
    pytest.importorskip("numpyro")
    with pytest.raises(ValueError, match=r"to_numpyro got a distribution that is given \['hidden2'\]"):
        dgm.to_numpyro(deep()().given(GIVEN))
