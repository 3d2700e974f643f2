"""Compiled annealing: unbiased weights both ways around the exact log Z."""

from __future__ import annotations

import pytest
import torch
from oracles.small_machines import double, edgeless, labels, mixed, small_rbm, star

import pyro_dgm as dgm

pytest.importorskip("jax")
pytest.importorskip("numpyro")

QUICK = pytest.mark.usefixtures("quick_compilation")
"""For laws and agreement; what is rounded is tested as users compile it."""


def gaussian():
    return dgm.GaussianRBM.example()[0]()


@QUICK
@pytest.mark.parametrize("build", [star, mixed, labels, gaussian])
def test_both_directions_find_the_exact_log_partition(build):
    """The mean weight is unbiased: within five of its standard errors, whose own size is checked by their being small."""
    dist = build()
    exact = float(dgm.log_partition(dist).value)
    torch.manual_seed(0)
    found = dgm.log_partition(dist, "bridge", chains=1000, temperatures=30, engine="jax")
    one_way = dgm.log_partition(dist, "ais", chains=1000, temperatures=30, engine="jax", reverse=False)
    for estimate in (found, one_way):
        assert float(estimate.stderr) < 0.1
        assert abs(float(estimate.value) - exact) < 5 * float(estimate.stderr) + 1e-4
    assert float(found.lower) - 5 * float(found.stderr_lower) < exact + 1e-4
    assert float(found.upper) + 5 * float(found.stderr_upper) > exact - 1e-4


@QUICK
def test_weights_of_a_wrong_path_would_be_off(monkeypatch):
    """With the machine's biases left out of the weights the mean weight misses log Z."""
    from pyro_dgm.in_jax import _annealing_runs as runs

    dist = small_rbm()
    exact = float(dgm.log_partition(dist).value)
    describe = runs._Path.describe
    monkeypatch.setattr(runs._Path, "describe", lambda self, state: describe(self, state)._replace(difference=0.0))
    runs.forward.clear_cache()
    wrong = dgm.log_partition(dist, "ais", chains=1000, temperatures=30, engine="jax", reverse=False)
    runs.forward.clear_cache()
    assert abs(float(wrong.value) - exact) > 20 * float(wrong.stderr)


@QUICK
def test_large_machines_agree_with_the_torch_engine():
    torch.manual_seed(1)
    rbm = dgm.RBM(60, 40)
    with torch.no_grad():
        rbm.weight.normal_(0, 0.3)
    both = [
        dgm.log_partition(rbm(), "ais", chains=200, temperatures=700, reverse=False, engine=engine)
        for engine in ("torch", "jax")
    ]
    error = (both[0].stderr.square() + both[1].stderr.square()).sqrt()
    assert error < 0.1
    assert (both[0].value - both[1].value).abs() < 5 * error


def test_machines_in_double_precision_are_annealed_in_it():
    """Uncoupled spins are summed as a whole: every weight is log Z, to some 20 roundings of numbers below 10."""
    dist = double(edgeless())
    exact = float(dgm.log_partition(dist).value)
    torch.manual_seed(0)
    for method in ("ais", "bridge"):
        found = dgm.log_partition(dist, method, temperatures=5, engine="jax")
        for value in (found.value, found.lower, found.upper):
            assert value.dtype == torch.float64
            assert float(value) == pytest.approx(exact, abs=20 * 10 * 2.0**-53)
    single = dgm.log_partition(edgeless(), "ais", temperatures=5, engine="jax").value
    assert single.dtype == torch.float32


def test_bad_requests():
    with pytest.raises(ValueError, match="engine got 'tensorflow'; expected one of 'auto', 'torch', 'compiled', 'jax'"):
        dgm.log_partition(dgm.RBM(3, 2)(), "ais", engine="tensorflow")
    with pytest.raises(ValueError, match="batch_shape"):
        dgm.log_partition(dgm.RBM(3, 2)(torch.zeros(2, 3)), "ais", engine="jax")


@pytest.mark.parametrize("scale", [10, 30, 60, 100])
def test_large_steps_give_finite_weights(scale):
    """E[log w] is below log Z and reverse annealing above it, however coarse the path and large the parameters."""
    torch.manual_seed(0)
    rbm = dgm.RBM(10, 8)
    with torch.no_grad():
        for parameter in rbm.parameters():
            parameter.normal_(0, scale)
    exact = float(dgm.log_partition(rbm()).value)
    found = dgm.log_partition(rbm(), "ais", temperatures=4, engine="jax")
    assert torch.isfinite(torch.stack([found.value, found.lower, found.upper])).all()
    assert float(found.lower) < exact + 1e-3
    assert float(found.upper) > exact - 1e-3


@pytest.mark.parametrize("scale", [1e-4, 1e-2, 0.3, 3.0, 50.0])
def test_the_rise_of_a_binary_unit(scale):
    """Against the difference of softplus in double precision.

    Small steps are rounded where they are taken: sixteen half units of the last place of a step, which is one to six of the
    functions' own. Large ones are a difference of two numbers as large as the fields: eight half units of those.
    """
    import jax.numpy as jnp
    import numpy as np

    from pyro_dgm.in_jax._units import KINDS

    before = np.linspace(-100, 100, 401)
    after = before + scale * np.sin(before)
    single = np.float32(before), np.float32(after)
    wide = [np.logaddexp(0, x.astype(np.float64)) for x in single]
    got = np.asarray(KINDS["binary"].rise((jnp.asarray(single[0]),), (jnp.asarray(single[1]),)), np.float64)
    step = np.abs(single[1].astype(np.float64) - single[0])
    np.testing.assert_allclose(
        got,
        wide[1] - wide[0],
        rtol=0,
        atol=2.0**-24 * float(8 * np.abs(single).max() if scale > 1 else 16 * step.max()),
    )
