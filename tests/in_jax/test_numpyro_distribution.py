"""The NumPyro distribution against the torch engine, in double precision, and against explicit tables."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from oracles.small_machines import (
    ALL,
    CHAINS,
    Table,
    double,
    edgeless,
    joined,
    labels,
    lonely,
    mixed,
    parted,
    rbm,
    ring,
    rounding,
    variation,
    visible_states,
)

import pyro_dgm as dgm
from pyro_dgm.energy import Binary, BoltzmannDistribution, Graph, Lateral
from pyro_dgm.in_jax import to_numpyro

jax = pytest.importorskip("jax")
pytest.importorskip("numpyro")

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.mark.parametrize("build", ALL)
def test_log_probabilities_and_free_energies_agree(build):
    dist = build()
    ours, v = to_numpyro(dist), visible_states(dist)
    expected = double(dist)
    tolerance = rounding(dist)
    assert tolerance < 4e-3
    got = np.asarray(jax.jit(type(ours).log_prob)(ours, v.numpy()), np.float64)
    np.testing.assert_allclose(got, expected.log_prob(v.double()).numpy(), rtol=0, atol=tolerance)
    np.testing.assert_allclose(
        np.asarray(ours.free_energy(v.numpy())), expected.free_energy(v.double()).numpy(), rtol=0, atol=tolerance
    )
    assert abs(np.exp(got).sum() - 1) < tolerance


@pytest.mark.parametrize("build", ALL)
def test_energies_agree(build):
    dist = build()
    table = Table.of(dist)
    got = np.asarray(to_numpyro(dist).energy(parted(dist, table.states)))
    np.testing.assert_allclose(got, table.energy, rtol=0, atol=rounding(dist))


@pytest.mark.parametrize(("build", "part"), [(mixed, 2), (ring, 0), (rbm, 0)])
def test_a_weight_taken_wrongly_would_be_seen(build, part):
    ours = to_numpyro(build())
    weights = list(ours.arrays.weights)
    weights[part] = weights[part] / 2
    wrong = type(ours)(ours.structure, ours.arrays._replace(weights=tuple(weights)))
    v = visible_states(build()).numpy()
    assert np.abs(np.asarray(wrong.log_prob(v)) - np.asarray(ours.log_prob(v))).max() > 10 * rounding(build())


@pytest.mark.parametrize("model", [dgm.GaussianRBM, dgm.SpikeSlabRBM])
def test_real_valued_machines_agree(model):
    machine, rows = model.example()
    dist = machine()
    ours = to_numpyro(dist)
    theirs = double(dist).free_energy(rows.double()).detach().numpy()
    got = np.asarray(ours.free_energy(rows.numpy()))
    np.testing.assert_allclose(got, theirs, rtol=1e-5, atol=1e-5)
    shifted = rows + 0.1
    assert np.abs(np.asarray(ours.free_energy(shifted.numpy())) - got).max() > 1e-3


def test_the_log_partition_of_gaussian_units_is_summed():
    dist = dgm.GaussianRBM.example()[0]()
    theirs = float(dgm.log_partition(double(dist)).value)
    assert float(to_numpyro(dist).log_partition()) == pytest.approx(theirs, rel=1e-5)


def test_an_attached_log_partition_goes_along():
    rbm = dgm.RBM(60, 40)
    dist = rbm().with_log_partition(123.0)
    v = torch.randint(0, 2, (3, 60)).float()
    theirs = double(rbm()).free_energy(v.double()).neg().sub(123).detach().numpy()
    np.testing.assert_allclose(np.asarray(to_numpyro(dist).log_prob(v.numpy())), theirs, rtol=1e-5)


def test_the_parameters_are_copies():
    machine = dgm.BoltzmannMachine.example()[0]
    ours = to_numpyro(machine())
    before = jax.tree.map(np.array, ours.arrays)
    with torch.no_grad():
        for parameter in machine.parameters():
            parameter.add_(1)
    for kept, now in zip(jax.tree.leaves(before), jax.tree.leaves(ours.arrays), strict=True):
        np.testing.assert_array_equal(kept, now)
    assert ours.arrays.weights[0].dtype == jax.numpy.zeros(()).dtype


@pytest.mark.parametrize("build", ALL)
def test_exact_draws_have_the_distribution_s_frequencies(build):
    dist = build()
    ours, table = to_numpyro(dist), Table.of(dist)
    p = table.probability()
    state = ours.sample_state(jax.random.PRNGKey(0), (CHAINS,))
    distance, bound = variation(p, table.count(joined(dist, state)))
    assert distance <= bound
    # Were the two halves of the columns drawn apart, the frequencies would tell.
    half = table.states.shape[1] // 2
    rows = joined(dist, state)
    apart = np.concatenate([rows[:, :half], np.roll(rows[:, half:], 1, axis=0)], 1)
    if build not in (
        labels,
        lonely,
        edgeless,
    ):  # a cut breaks one-hot rows, and hardly changes (nearly) independent units
        distance, bound = variation(p, table.count(apart))
        assert distance > bound


def test_one_draw_the_log_partition_and_the_support():
    dist = double(ring())
    ours = to_numpyro(dist)
    one = np.asarray(ours.sample(jax.random.PRNGKey(0)))
    assert one.shape == ours.event_shape
    assert bool(ours.support(one))
    assert not bool(ours.support(0 * one))
    assert ours.support.is_discrete
    assert not to_numpyro(dgm.GaussianRBM.example()[0]()).support.is_discrete
    np.testing.assert_allclose(float(ours.log_partition()), float(dist.exact_log_partition()), atol=rounding(dist))


def test_the_gradient_by_the_bias_is_the_data_s_mean_minus_the_model_s():
    dist = double(ring())
    ours, v = to_numpyro(dist), visible_states(dist)
    gradient = jax.grad(lambda d: d.log_prob(v[5].numpy()), allow_int=True)(ours).arrays.biases["visible"][0]
    mean = (dist.log_prob(v.double()).exp()[:, None] * v).sum(0)
    np.testing.assert_allclose(gradient, (v[5] - mean).numpy(), rtol=0, atol=2 * rounding(dist))


@pytest.mark.parametrize("build", [rbm, mixed])
def test_gradients_by_the_weights_are_those_of_torch(build):
    """Summed over the visible states, many times each, as a training set would be."""
    dist = build()
    v = visible_states(dist).repeat(40, 1)
    weights = [w.detach().double().requires_grad_() for w in dist.machine.weights]
    exact = double(dist)
    biases = {
        name: tuple(b.view(exact.machine.graph.layers[name].shape) for b in entry)
        for name, entry in exact.machine.biases.items()
    }
    theirs = BoltzmannDistribution(exact.machine.graph, biases, weights, dist.visible)
    expected = torch.autograd.grad(theirs.free_energy(v.double()).sum(), weights)
    ours = jax.grad(lambda d: d.free_energy(v.numpy()).sum(), allow_int=True)(to_numpyro(dist)).arrays.weights
    for got, want in zip(ours, expected, strict=True):
        np.testing.assert_allclose(got, want.numpy(), rtol=0, atol=1e-4 * float(want.abs().max()))


def test_it_is_the_likelihood_of_a_numpyro_model():
    import numpyro
    from numpyro.infer.util import log_density

    ours = to_numpyro(rbm())
    rows = visible_states(rbm())[:7].numpy()

    def model(rows):
        with numpyro.plate("rows", len(rows)):
            numpyro.sample("x", ours, obs=rows)

    density, _ = log_density(model, (rows,), {}, {})
    assert float(density) == pytest.approx(float(np.asarray(ours.log_prob(rows)).sum()), rel=1e-6)


def test_machines_too_large_to_list_are_refused():
    ours = to_numpyro(dgm.RBM(25, 23)())
    for call in (lambda: ours.log_prob(np.zeros(25)), lambda: ours.sample(jax.random.PRNGKey(0))):
        with pytest.raises(ValueError, match=r"2\^23 states are left .* at most 2\^20"):
            call()
    assert ours.free_energy(np.zeros((2, 25))).shape == (2,)


def test_other_units_batches_and_self_couplings_are_refused():
    with pytest.raises(ValueError, match="expected Dense, Lateral or Sparse"):
        to_numpyro(dgm.ConvolutionalSpikeSlabRBM.example()[0]())
    with pytest.raises(ValueError, match="batch_shape"):
        to_numpyro(dgm.RBM(2, 2)(torch.zeros(3, 2)))
    with pytest.raises(ValueError, match="batch_shape"):
        to_numpyro(dgm.RBM(2, 2)().expand([3]))
    with pytest.raises(ValueError, match="RBM"):
        to_numpyro(dgm.RBM(2, 2))
    lateral = Graph({"visible": Binary(2)}, [Lateral("visible")])
    diagonal = BoltzmannDistribution(lateral, {"visible": (torch.zeros(2),)}, [torch.zeros(2, 2)])
    diagonal.machine.weights = (torch.eye(2),)
    with pytest.raises(ValueError, match="diagonal"):
        to_numpyro(diagonal)


def test_jax_is_imported_at_use_only():
    code = "import sys, pyro_dgm.in_jax; sys.exit(bool({'jax', 'numpyro'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_jax_the_extra_is_named(monkeypatch):
    from pyro_dgm import in_jax as compiled

    monkeypatch.setitem(sys.modules, "numpyro", None)
    with pytest.raises(ImportError, match=r'pip install "pyro-dgm\[jax\]"'):
        to_numpyro(rbm())
    with pytest.raises(ImportError, match=r'pip install "pyro-dgm\[jax\]"'):
        _ = compiled.NumPyroGibbs


def test_nothing_global_is_changed():
    from pyro_dgm import in_jax as compiled

    before = jax.config.jax_enable_x64
    to_numpyro(ring()).log_prob(np.ones(6))
    assert jax.config.jax_enable_x64 == before
    with pytest.raises(AttributeError, match="to_numpyro"):
        _ = compiled.nothing
