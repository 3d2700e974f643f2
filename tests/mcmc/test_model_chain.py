"""Chains of models' own steps: laws of listed transitions, and clamping done right and wrong."""

import numpy as np
import pytest
import torch
from oracles.walks import (
    P3,
    ROWS3,
    BitNetwork,
    JointDenoiser,
    flips,
    frequencies,
    numbers,
    posterior,
    run,
    standard_errors,
    stationary,
)

import pyro_dgm as dgm

CHAINS = 40_000
C = flips(0.2)
EXACT = posterior(P3, C)
MASK, VALUE = torch.tensor([True, False, False]), torch.ones(3)


def clamped(table, rule):
    """The law of the last two bits under a clamp of the first at one, after chains have long arrived."""
    state = run(JointDenoiser(table, rule=rule), CHAINS, 25, (MASK, VALUE))
    assert torch.equal(state["visible"][:, 0], torch.ones(CHAINS, dtype=torch.float64))
    return frequencies(numbers(state["visible"]) - 4, 4)


def test_the_exact_posterior_keeps_the_law_of_data():
    np.testing.assert_allclose(P3 @ (C @ EXACT), P3, atol=1e-15)
    eigenvalues = np.sort(np.linalg.eigvals(C @ EXACT).real)[::-1]
    np.testing.assert_allclose(eigenvalues[:3], [1, 0.4485455967, 0.3352834142], atol=1e-9)
    state = run(JointDenoiser(EXACT), CHAINS, 25)
    assert standard_errors(frequencies(numbers(state["visible"]), 8), P3, CHAINS) < 4


@pytest.mark.parametrize(
    ("rule", "law"),
    [
        ("conditional", np.array([6, 2, 12, 8]) / 28),
        ("overwrite", [0.1616346830, 0.1528404878, 0.3223763294, 0.3631484999]),
        ("clean", [0.1805555556, 0.125, 0.3611111111, 0.3333333333]),
    ],
)
def test_clamping_right_and_wrong(rule, law):
    """Drawing what is free given what is known is exact; overwriting draws of everything, or keeping inputs clean, is not."""
    assert standard_errors(clamped(EXACT, rule), np.array(law), CHAINS) < 4


def test_clamping_needs_detailed_balance():
    """Steps that keep the law and are not reversible: the right rule then draws from another law."""
    shift = np.eye(8)
    for x in range(8):
        moved = (1 / 40) / P3[x]
        shift[x] = 0
        shift[x, x], shift[x, (x + 1) % 8] = 1 - moved, moved
    table = EXACT @ shift
    np.testing.assert_allclose(P3 @ C @ table, P3, atol=1e-15)
    law = np.array([0.2044646982, 0.0708642459, 0.4315579697, 0.2931130863])
    assert standard_errors(clamped(np.maximum(table, 1e-300), "conditional"), law, CHAINS) < 4


PI = [0.2245945870, 0.2072246733, 0.3818630495, 0.1863176902]


def network():
    return BitNetwork([-0.5], [[1.5]], [[1.0], [-0.7]], [-1.0, 0.5], [[2.0, -1.5]])


def test_a_stochastic_network_tends_to_its_stationary_law():
    state = run(network(), CHAINS, 30)
    joint = frequencies((4 * state["hidden"][:, 0]).long() + numbers(state["visible"]), 8)
    truth = [
        0.0972805067, 0.1603884406, 0.0357874984, 0.0590036099, 0.1273140803, 0.0468362327, 0.3460755510, 0.1273140803
    ]  # fmt: skip
    assert standard_errors(joint, np.array(truth), CHAINS) < 4
    assert standard_errors(frequencies(numbers(state["visible"]), 4), np.array(PI), CHAINS) < 4


def test_the_first_step_sees_a_row_and_no_hidden_unit():
    torch.manual_seed(0)
    model = network()
    kernel = dgm.ModelChain(model)
    state = kernel.sample(model.opening(torch.zeros(CHAINS, 2, dtype=torch.float64)))
    joint = frequencies((4 * state["hidden"][:, 0]).long() + numbers(state["visible"]), 8)
    truth = [
        0.1718014798, 0.2832527541, 0.0632022324, 0.1042028649, 0.0742290008, 0.0273073233, 0.2017753439, 0.0742290008
    ]  # fmt: skip
    assert standard_errors(joint, np.array(truth), CHAINS) < 4


def test_an_rbm_s_conditionals_as_a_network_are_block_gibbs():
    """The chain has the machine's law, and its log-probability of a step is that of the visible units given the hidden ones."""
    rbm = dgm.RBM(visible=2, hidden=2).double()
    weight = torch.tensor([[0.25, -0.25], [0.75, 0.25]], dtype=torch.float64)
    bias, hidden_bias = torch.tensor([0.2, -0.4]).double(), torch.tensor([0.0, 0.3]).double()
    with torch.no_grad():
        machine = rbm().machine
        machine.weights[0].copy_(weight)
        machine.biases["visible"][0].copy_(bias)
        machine.biases["hidden"][0].copy_(hidden_bias)
    every = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    truth = np.array([0.2018205761, 0.2452406880, 0.2457404035, 0.3071983323])
    np.testing.assert_allclose(rbm().log_prob(every).exp().detach(), truth, atol=1e-9)
    model = BitNetwork(
        hidden_bias.tolist(), [[0.0, 0.0], [0.0, 0.0]], weight.tolist(), bias.tolist(), weight.t().tolist()
    )
    assert standard_errors(frequencies(numbers(run(model, CHAINS, 30)["visible"]), 4), truth, CHAINS) < 4
    torch.manual_seed(3)
    theirs = dgm.BlockGibbs(rbm()).start(CHAINS)
    for _ in range(30):
        theirs = dgm.BlockGibbs(rbm()).sample(theirs)
    assert standard_errors(frequencies(numbers(theirs["visible"]), 4), truth, CHAINS) < 4


def test_chains_are_diagnosed_by_scalars_and_not_by_columns():
    model, _ = dgm.DenoisingAutoencoder.example()
    mcmc = model.chains(draws=6, warmup=2, chains=3)
    posterior = dgm.to_arviz(mcmc).posterior
    assert {"log_step", "sum", "squared_norm", "projection_1"} <= set(posterior.data_vars)
    x = mcmc.get_samples(group_by_chain=True)["visible"]
    torch.testing.assert_close(mcmc.chain_scalars()["sum"], x.sum(-1))
    with pytest.raises(ValueError, match="whose law has no density"):
        dgm.to_arviz(mcmc, x[0])


def test_moments_and_draws_agree():
    model, _ = dgm.DenoisingAutoencoder.example()
    runs = []
    for keep in ("draws", "moments"):
        torch.manual_seed(0)
        runs.append(dgm.VectorizedMCMC(dgm.ModelChain(model), 6, 2, num_chains=3, keep=keep, disable_progbar=True))
        runs[-1].run()
    kept, moments = runs
    torch.testing.assert_close(moments.chain_scalars()["sum"], kept.chain_scalars()["sum"])
    mean = kept.get_samples(group_by_chain=True)["visible"].mean(1)
    torch.testing.assert_close(moments.moments.get()["visible"]["mean"], mean.double())


class TestRefusals:
    @pytest.mark.parametrize("engine", ["jax", "compiled"])
    def test_engines_of_machines(self, engine):
        model, _ = dgm.DenoisingAutoencoder.example()
        with pytest.raises(ValueError, match="got the kernel ModelChain"):
            model.chains(draws=2, warmup=1, chains=2, engine=engine)

    def test_models_without_steps(self):
        rbm, _ = dgm.RBM.example()
        for model in (rbm, rbm(), dgm.DenoisingAutoencoder):
            with pytest.raises(ValueError, match="ModelChain got"):
                dgm.ModelChain(model)

    @pytest.mark.parametrize(
        ("clamp", "message"),
        [
            ({"hidden": (torch.ones(4).bool(), torch.ones(4))}, "names the layer 'hidden'"),
            ((torch.ones(4), torch.ones(4)), "expected bool"),
            ((torch.ones(3).bool(), torch.ones(4)), "has shape"),
            ((torch.ones(4).bool(), torch.full((4,), 0.5)), "expected 0 or 1"),
            ((torch.ones(4).bool(), torch.full((4,), torch.nan)), "NaN or infinite"),
        ],
    )
    def test_clamps_that_do_not_fit(self, clamp, message):
        model, _ = dgm.DenoisingAutoencoder.example()
        with pytest.raises(ValueError, match=message):
            dgm.ModelChain(model, clamp)

    def test_first_states_that_do_not_fit(self):
        model, _ = dgm.DenoisingAutoencoder.example()
        first = model.opening(torch.full((2, 4), torch.nan))
        mcmc = dgm.VectorizedMCMC(dgm.ModelChain(model), 2, 1, num_chains=2, initial_params=first)
        with pytest.raises(ValueError, match="holds nan; expected finite numbers"):
            mcmc.run()


def test_stationary_laws_are_found_by_powers():
    """The oracle itself: a law that a matrix keeps."""
    np.testing.assert_allclose(stationary(C @ EXACT), P3, atol=1e-12)
    assert ROWS3.shape == (8, 3)


@pytest.mark.parametrize("cls", [dgm.DenoisingAutoencoder, dgm.GSN, dgm.ShapedGSN, dgm.ContractiveAutoencoder])
def test_chains_start_with_their_known_entries(cls):
    """Checks of a clamp draw no random number."""
    model, _ = cls.example()
    known = torch.tensor([True, False, True, False])
    torch.manual_seed(0)
    before = torch.get_rng_state()
    kernel = dgm.ModelChain(model, (known, torch.ones(4)))
    assert torch.equal(torch.get_rng_state(), before)
    state = kernel.start(5)
    assert (state["visible"][:, known] == 1).all()
    assert "mean" not in state or (state["mean"][:, known] == 1).all()
