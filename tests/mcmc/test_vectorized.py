"""Many chains in one process, under Pyro's MCMC interface."""

import functools
import gc

import numpy as np
import psutil
import pytest
import torch
from pyro.infer import MCMC
from pyro.infer.mcmc.util import print_summary
from pyro.ops.stats import effective_sample_size

import pyro_dgm as dgm


def run(**options):
    rbm, _ = dgm.RBM.example()
    mcmc = dgm.VectorizedMCMC(dgm.BlockGibbs(rbm()), disable_progbar=True, **options)
    mcmc.run()
    return mcmc


def test_shapes_and_pyros_own_diagnostics(capsys):
    mcmc = run(num_samples=30, warmup_steps=5, num_chains=8)
    assert isinstance(mcmc, MCMC)
    assert mcmc.get_samples(group_by_chain=True)["hidden"].shape == (8, 30, 4)
    assert mcmc.get_samples()["visible"].shape == (240, 6)
    assert mcmc.get_samples(num_samples=11)["visible"].shape == (11, 6)
    assert mcmc.diagnostics()["visible"]["r_hat"].shape == (6,)
    mcmc.summary()
    own = capsys.readouterr().out
    assert "visible[0]" in own
    assert "constant" not in own
    print_summary(mcmc.get_samples(group_by_chain=True))
    assert own.split() == capsys.readouterr().out.split()


@pytest.mark.parametrize(
    "kernel", [dgm.BlockGibbs, dgm.ParallelTempering, functools.partial(dgm.TemperedTransitions, temperatures=5)]
)
def test_summaries_of_kernels_without_divergences(kernel, capsys):
    """Those of HMC and GibbsLangevin are in test_hamiltonian."""
    mcmc = dgm.VectorizedMCMC(kernel(dgm.RBM.example()[0]()), 8, 5, num_chains=3, disable_progbar=True)
    mcmc.run()
    mcmc.summary()
    said = capsys.readouterr().out
    assert "visible[5]" in said
    assert "divergences" not in said


def test_no_processes_and_no_warning_for_many_chains(recwarn):
    run(num_samples=2, warmup_steps=0, num_chains=300)
    assert not [w for w in recwarn if "num_chains" in str(w.message)]


def test_chains_are_the_kernels_steps():
    """The same seed gives the same states as calling the kernel by hand, thinning included."""
    rbm, _ = dgm.RBM.example()
    kernel = dgm.BlockGibbs(rbm())
    torch.manual_seed(3)
    mcmc = dgm.VectorizedMCMC(kernel, 4, 2, num_chains=3, thinning=5, disable_progbar=True)
    mcmc.run()
    torch.manual_seed(3)
    state = kernel.start(3)
    for _ in range(2 + 5):
        state = kernel.sample(state)
    assert torch.equal(mcmc.get_samples(group_by_chain=True)["visible"][:, 0], state["visible"])


def test_first_states_and_saved_layers():
    first = {"visible": torch.ones(3, 6), "hidden": torch.zeros(3, 4)}
    mcmc = run(num_samples=2, warmup_steps=0, num_chains=3, initial_params=first, save_params=["hidden"])
    assert list(mcmc.get_samples()) == ["hidden"]
    with pytest.raises(ValueError, match="save_params left out"):
        mcmc.chain_scalars()


def test_moments_are_those_of_the_draws():
    torch.manual_seed(0)
    kept = run(num_samples=50, warmup_steps=0, num_chains=4)
    torch.manual_seed(0)
    moments = run(num_samples=50, warmup_steps=0, num_chains=4, keep="moments")
    draws = kept.get_samples(group_by_chain=True)["visible"].double()
    found = moments.moments.get()["visible"]
    torch.testing.assert_close(found["mean"], draws.mean(1))
    torch.testing.assert_close(found["variance"], draws.var(1))
    for name, energy in kept.chain_scalars().items():
        torch.testing.assert_close(moments.chain_scalars()[name], energy)


@pytest.mark.parametrize("engine", ["torch", "compiled", "jax"])
@pytest.mark.parametrize("options", [{"thinning": 80, "num_samples": 5}, {"keep": "moments", "num_samples": 400}])
def test_memory_does_not_grow_with_the_sweeps(options, engine):
    """400 sweeps of 60 chains of 1200+84 units would be 120 MB as draws; thinned or summed up they stay below 60 MB."""
    pytest.importorskip("numpyro")
    rbm = dgm.RBM(1200, 84)  # many units for its weights, which sweeps take their time for
    kernel = dgm.BlockGibbs(rbm())
    shared = {"warmup_steps": 0, "num_chains": 60, "disable_progbar": True, "engine": engine}
    # The first run compiles what the second one takes.
    dgm.VectorizedMCMC(kernel, **shared, **options | {"num_samples": 2}).run()
    gc.collect()
    before = psutil.Process().memory_info().rss
    mcmc = dgm.VectorizedMCMC(kernel, **shared, **options)
    mcmc.run()
    assert psutil.Process().memory_info().rss - before < 60e6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 0}, "num_samples got 0"),
        ({"num_samples": 1, "num_chains": 0}, "num_chains got 0"),
        ({"num_samples": 1, "thinning": 0}, "thinning got 0"),
        ({"num_samples": 1, "keep": "all"}, "expected one of draws, moments"),
        ({"num_samples": 1, "warmup_steps": -1}, "warmup_steps got -1"),
        ({"num_samples": 5.5}, "num_samples got 5.5; expected an integer"),
        ({"num_samples": 1, "num_chains": 2.0}, "num_chains got 2.0"),
        ({"num_samples": 1, "thinning": True}, "thinning got True"),
        ({"num_samples": 1, "warmup_steps": 0.5}, "warmup_steps got 0.5"),
        ({"num_samples": 1, "initial_params": {"visible": torch.zeros(1, 6)}}, r"expected \['hidden', 'visible'\]"),
        ({"num_samples": 1, "save_params": ["hiden"]}, "the layers are"),
        ({"num_samples": 1, "num_chains": 2, "initial_params": {"visible": torch.ones(3, 6)}}, "num_chains=2"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        run(**{"warmup_steps": 0} | options)


@pytest.mark.parametrize("ask", ["get_samples", "diagnostics", "summary", "chain_scalars"])
def test_nothing_to_tell_before_the_run(ask):
    mcmc = dgm.VectorizedMCMC(dgm.BlockGibbs(dgm.RBM.example()[0]()), 5)
    with pytest.raises(ValueError, match="nothing was drawn yet; call run"):
        getattr(mcmc, ask)()


def test_a_kernel_that_moves_the_visible_units_alone():
    mcmc = dgm.VectorizedMCMC(dgm.HMC(dgm.GaussianRBM(visible=3, hidden=2)()), 2, 2, 5, disable_progbar=True)
    mcmc.run()
    assert mcmc.get_samples(group_by_chain=True)["visible"].shape == (5, 2, 3)


def test_other_kernels_are_sent_to_pyro():
    from pyro.infer import NUTS

    with pytest.raises(ValueError, match=r"pyro.infer.MCMC"):
        dgm.VectorizedMCMC(NUTS(lambda: None), 1)


def test_a_clamp_for_every_chain():
    mask, value = torch.rand(5, 6) < 0.5, (torch.rand(5, 6) < 0.5).float()
    first = {"visible": torch.zeros(5, 6), "hidden": torch.zeros(5, 4)}
    kernel = dgm.BlockGibbs(dgm.RBM.example()[0](), clamp=(mask, value))
    mcmc = dgm.VectorizedMCMC(kernel, 3, 0, num_chains=5, initial_params=first, disable_progbar=True)
    mcmc.run()
    drawn = mcmc.get_samples(group_by_chain=True)["visible"].transpose(0, 1)
    assert torch.equal(drawn[:, mask], value[mask].expand(3, -1))
    with pytest.raises(ValueError, match=r"the clamp of 'visible' is for 5 chains; .* num_chains=3"):
        dgm.VectorizedMCMC(kernel, 3, 0, num_chains=3, disable_progbar=True).run()


def test_effective_sizes_of_units_beside_one_that_never_changes(capsys):
    """They are those that the same draws have without it; the constant unit alone has none."""
    rbm, _ = dgm.RBM.example()
    with torch.no_grad():
        rbm.visible_bias[2] = 100.0
    mcmc = dgm.VectorizedMCMC(dgm.BlockGibbs(rbm()), 50, 10, num_chains=4, disable_progbar=True)
    mcmc.run()
    draws = mcmc.get_samples(group_by_chain=True)["visible"]
    moves = torch.arange(6) != 2
    assert (draws[:, :, 2] == 1).all()
    found = mcmc.diagnostics()["visible"]
    torch.testing.assert_close(found["n_eff"][moves], effective_sample_size(draws[:, :, moves]))
    assert torch.equal(found["n_eff"].isnan(), ~moves)
    assert torch.equal(found["r_hat"].isnan(), ~moves)
    mcmc.summary()
    said = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[-2:] for line in said.splitlines() if line.strip().startswith("visible[")}
    assert rows["visible[2]"] == ["nan", "nan"]
    for unit in (0, 5):
        assert rows[f"visible[{unit}]"] == [f"{found[name][unit]:.2f}" for name in ("n_eff", "r_hat")]
    assert "constant in all chains, without n_eff and r_hat: 1 of 6 units of visible\n" in said


@pytest.mark.parametrize("wrong", [[1], torch.zeros(3, 4), {"visible": [[0.0] * 4] * 3}, {"visible": np.zeros((3, 4))}])
def test_first_states_are_tensors_by_layer(wrong):
    with pytest.raises(ValueError, match=r"initial_params got .*; expected first states by layer"):
        dgm.VectorizedMCMC(dgm.BlockGibbs(dgm.RBM(4, 3)()), 2, num_chains=3, initial_params=wrong)


@pytest.mark.parametrize("wrong", ["visible", 5])
def test_layers_to_keep_are_a_list(wrong):
    """A text was taken for its letters."""
    with pytest.raises(ValueError, match=f"save_params got {wrong!r}; expected a list of layers"):
        dgm.VectorizedMCMC(dgm.BlockGibbs(dgm.RBM(4, 3)()), 2, save_params=wrong)


@pytest.mark.parametrize("wrong", [0, -1, 2.5, "3"])
def test_draws_that_are_taken_are_counted(wrong):
    mcmc = dgm.VectorizedMCMC(dgm.BlockGibbs(dgm.RBM(4, 3)()), 2, 1, disable_progbar=True)
    mcmc.run()
    with pytest.raises(ValueError, match=f"num_samples got {wrong!r}; expected the number of draws"):
        mcmc.get_samples(wrong)
