"""ArviZ data of chains and of models."""

import arviz as az
import numpy as np
import pytest
import torch

import pyro_dgm as dgm


@pytest.fixture
def chains():
    rbm, x = dgm.RBM.example()
    mcmc = dgm.VectorizedMCMC(dgm.BlockGibbs(rbm()), 100, 50, num_chains=6, disable_progbar=True)
    mcmc.run()
    return rbm, x, mcmc


def test_energies_are_those_of_the_draws(chains):
    rbm, _, mcmc = chains
    idata = dgm.to_arviz(mcmc)
    state = {k: v[3, 17] for k, v in mcmc.get_samples(group_by_chain=True).items()}
    assert float(idata.posterior["energy"][3, 17]) == pytest.approx(float(rbm().energy(state).detach()), abs=1e-5)
    assert float(idata.posterior["free_energy"][3, 17]) == pytest.approx(
        float(rbm().free_energy(state["visible"]).detach()), abs=1e-5
    )
    np.testing.assert_array_equal(idata.posterior_predictive["x"][3, 17], state["visible"])


def test_summary_of_converged_chains(chains):
    summary = az.summary(dgm.to_arviz(chains[2]))
    assert set(summary.index) == {"energy", "free_energy"}
    assert (summary["r_hat"].astype(float) < 1.1).all()


def test_loo_of_an_rbm_is_its_log_likelihood(chains):
    """With an exact log Z nothing varies between draws, and leaving one out changes nothing."""
    rbm, x, mcmc = chains
    idata = dgm.to_arviz(mcmc, x)
    expected = float(rbm().log_prob(x).sum().detach())
    np.testing.assert_allclose(idata.log_likelihood["x"].values.sum(-1), expected, rtol=1e-5)


def test_loo_compare_and_ppc_of_vaes():
    vae, x = dgm.VAE.example()
    idata = dgm.to_arviz(vae, x, num_samples=100, num_chains=2)
    other = dgm.to_arviz(dgm.VAE(6, latent=1, hidden=(3,)), x, num_samples=100, num_chains=2)
    assert dict(idata.posterior.sizes) == {"chain": 2, "draw": 100, "z_dim_0": 10, "z_dim_1": 2}
    estimate = az.loo(idata)
    assert np.isfinite(estimate.elpd if hasattr(estimate, "elpd") else estimate.elpd_loo)
    table = az.compare({"trained": idata, "other": other})
    assert set(table.index) == {"trained", "other"}
    import matplotlib as mpl

    mpl.use("Agg")
    plot, few = (az.plot_ppc, "num_pp_samples") if hasattr(az, "plot_ppc") else (az.plot_ppc_dist, "num_samples")
    assert plot(idata, **{few: 5}) is not None


def test_refusals():
    rbm, x = dgm.RBM.example()
    mcmc = dgm.VectorizedMCMC(dgm.BlockGibbs(rbm()), 10, 0, disable_progbar=True)
    with pytest.raises(ValueError, match=r"run\(\)"):
        dgm.to_arviz(mcmc)
    with pytest.raises(ValueError, match="observed rows"):
        dgm.to_arviz(dgm.VAE.example()[0])
    with pytest.raises(ValueError, match=r"a RBM without .* a VectorizedMCMC that has run"):
        dgm.to_arviz(rbm)
    with pytest.raises(ValueError, match="expected a VectorizedMCMC"):
        dgm.to_arviz(torch.zeros(3), x)
    with pytest.raises(
        ValueError, match=r"RBM has no latent variables .*it has chains, .* dgm.to_arviz\(model.chains\(\)\)"
    ):
        dgm.to_arviz(rbm, x)

    vae, rows = dgm.VAE.example()
    for counts, said in (({"num_chains": 0}, "num_chains got 0"), ({"num_samples": -1}, "num_samples got -1")):
        with pytest.raises(ValueError, match=f"{said}; expected an integer of at least 1"):
            dgm.to_arviz(vae, rows, **counts)


def test_observed_rows_are_states_of_the_visible_layer(chains):
    """Whole rows of a machine of labels, and those of a machine given inputs, are none."""
    _, x, mcmc = chains
    machine, rows = dgm.ClassRBM.example()
    labelled = machine.chains(draws=8, warmup=0, chains=2)
    with pytest.raises(ValueError, match=r"'visible', got data of shape \(10, 8\); expected rows x \(5,\)"):
        dgm.to_arviz(labelled, rows)
    assert dgm.to_arviz(labelled, rows[:, :5].double().numpy()).log_likelihood["x"].shape == (2, 8, 10)
    with pytest.raises(ValueError, match="outside the support of the layer 'visible'"):
        dgm.to_arviz(mcmc, x / 2)


def test_options_of_another_source_are_refused():
    vae, x = dgm.VAE.example()
    mcmc = dgm.VectorizedMCMC(dgm.BlockGibbs(dgm.RBM(3, 2)()), 4, 0, num_chains=2, disable_progbar=True)
    mcmc.run()
    for source, rows, option in (
        (vae, x, {"method": "exact"}),
        (mcmc, None, {"method": "exact"}),
        (mcmc, None, {"num_chains": 2}),
    ):
        with pytest.raises(ValueError, match=f"got {next(iter(option))}=.* no use"):
            dgm.to_arviz(source, rows, **option)
