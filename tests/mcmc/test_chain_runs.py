"""Runs of chains: what they give ArviZ, first states that are none, threads, and how long a call of compiled code takes."""

import threading

import pytest
import torch

import pyro_dgm as dgm
from pyro_dgm.mcmc.kernel import WORK, steps_at_once

az = pytest.importorskip("arviz")


def run(kernel, **options):
    options = {"num_samples": 6, "warmup_steps": 3, "num_chains": 4, "disable_progbar": True} | options
    mcmc = dgm.VectorizedMCMC(kernel, **options)
    mcmc.run()
    return mcmc


@pytest.mark.skipif(not hasattr(az, "from_pyro"), reason="ArviZ 1.0 has no from_pyro")
@pytest.mark.parametrize("make", [dgm.BlockGibbs, lambda d: dgm.ParallelTempering(d, 3)], ids=["gibbs", "tempering"])
def test_arviz_reads_runs_of_any_kernel(make):
    data = az.from_pyro(run(make(dgm.RBM.example()[0]())))
    assert data.posterior["visible"].shape == (4, 6, 6)
    assert not data.sample_stats["diverging"].any()


def test_divergences_are_told_by_draw():
    """Steps of size 10³ from a mixed distribution diverge in every transition, of which three lead to a draw."""
    model, _ = dgm.MeanCovarianceRBM.example()
    mcmc = run(dgm.HMC(model(), step_size=1e30, target_acceptance=None), thinning=3)
    assert mcmc.diagnostics()["divergences"]["chain 3"] == [0, 1, 2, 3, 4, 5]
    stats = dgm.to_arviz(mcmc).sample_stats
    assert stats["diverging"].shape == (4, 6)
    assert bool(stats["diverging"].all())
    assert float(stats["step_size"].mean()) == pytest.approx(1e30)
    if hasattr(az, "from_pyro"):
        assert bool(az.from_pyro(mcmc).sample_stats["diverging"].all())
    quiet = dgm.to_arviz(run(dgm.HMC(model(), step_size=0.01)))
    assert not quiet.sample_stats["diverging"].any()


@pytest.mark.parametrize(
    ("layer", "entry", "message"),
    [
        ("visible", float("nan"), "holds nan; expected finite"),
        ("visible", 2.0, r"holds 2, which Binary\(6\) cannot be"),
        ("hidden", 0.5, r"holds 0.5, which Binary\(4\) cannot be"),
        ("hidden", 1j, "holds complex numbers"),
    ],
)
@pytest.mark.parametrize("make", [dgm.BlockGibbs, lambda d: dgm.ParallelTempering(d, 3)], ids=["gibbs", "tempering"])
def test_first_states_that_are_none_are_refused(make, layer, entry, message):
    kernel = make(dgm.RBM.example()[0]())
    state = kernel.start(4)
    state[layer] = torch.full_like(state[layer], entry, dtype=torch.complex64 if isinstance(entry, complex) else None)
    with pytest.raises(ValueError, match=rf"initial_params\['{layer}'\] {message}"):
        run(kernel, initial_params=state)


def test_real_first_states_may_be_anything_finite():
    model, _ = dgm.GaussianRBM.example()
    kernel = dgm.BlockGibbs(model())
    state = kernel.start(4)
    run(kernel, initial_params={**state, "visible": 100 * state["visible"]})
    with pytest.raises(ValueError, match="holds inf; expected finite"):
        run(kernel, initial_params={**state, "visible": state["visible"] / 0})


def test_runs_in_two_threads_wait_for_one_another():
    failures, runs = [], []

    def one():
        try:
            runs.append(run(dgm.BlockGibbs(dgm.RBM(6, 4)()), num_samples=100))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert all(mcmc.get_samples()["visible"].shape == (400, 6) for mcmc in runs)


def test_a_call_of_compiled_code_has_bounded_work():
    """Sweeps per call fall with the machine's size and the number of states; at least one is made."""
    kernel = dgm.BlockGibbs(dgm.RBM(784, 500)())
    assert 1 <= steps_at_once(kernel.dist, 100) * 100 * 784 * 500 <= WORK
    assert steps_at_once(kernel.dist, 10**6) == 1
    assert 10**3 < steps_at_once(dgm.RBM(4, 3)(), 1) < 10**5


@pytest.mark.parametrize(("engine", "sizes"), [("jax", (6, 4)), ("compiled", (6, 4)), ("compiled", (300, 200))])
@pytest.mark.parametrize("keep", ["draws", "moments"])
@pytest.mark.usefixtures("quick_compilation")
def test_no_call_makes_more_sweeps_than_its_work_allows(engine, sizes, keep, monkeypatch):
    """With three sweeps a call a draw of seven takes three calls, and the draws of JAX are those of one call."""
    pytest.importorskip("numpyro")
    from pyro_dgm.in_jax import _runs
    from pyro_dgm.native import PackedBits

    def draws(most):
        calls = []
        with monkeypatch.context() as patch:
            patch.setattr("pyro_dgm.mcmc.engines.jax.steps_at_once", lambda kernel, states: most)
            patch.setattr("pyro_dgm.mcmc.engines.bits.steps_at_once", lambda kernel, states: most)
            advance, sweep, collect = _runs.advance, PackedBits.sweep, _runs.collect
            patch.setattr(_runs, "advance", lambda p, d, c, k, steps: calls.append(steps) or advance(p, d, c, k, steps))
            patch.setattr(_runs, "collect", lambda *a: calls.append(a[4] * a[5]) or collect(*a))
            patch.setattr(PackedBits, "sweep", lambda self, w, steps: calls.append(steps) or sweep(self, w, steps))
            torch.manual_seed(0)
            rbm = dgm.RBM(*sizes)
            mcmc = run(dgm.BlockGibbs(rbm()), engine=engine, keep=keep, thinning=7, num_samples=3, num_chains=40)
        assert calls
        assert max(calls) <= most
        return mcmc

    several, single = draws(3), draws(1000)
    if keep == "draws":
        assert several.get_samples()["visible"].shape == (120, sizes[0])
    if engine == "jax":
        assert torch.equal(several.last_params["visible"], single.last_params["visible"])
    if keep == "moments":
        assert several.moments.get()["visible"]["mean"].shape == (40, sizes[0])
