"""Machines whose real-valued units have several colours: against the torch engine's integrals and NumPy's mixtures."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from oracles import mixtures as mixture
from oracles.small_machines import double

import pyro_dgm as dgm
from pyro_dgm.energy import BoltzmannDistribution, Lateral, Sparse
from pyro_dgm.in_jax import to_numpyro
from pyro_dgm.in_jax._precision import precision_of

jax = pytest.importorskip("jax")
pytest.importorskip("numpyro")

pytestmark = pytest.mark.usefixtures("quick_compilation")

DRAWS = 20_000


@pytest.fixture
def wide():
    """JAX in double precision."""
    with precision_of(torch.float64):
        yield


def spikes():
    return dgm.SpikeSlabRBM.example()[0]()


def coupled():
    return dgm.CoupledSlabRBM.example()[0]()


def colourful():
    """Real units that are coupled to one another and to real, binary and one-hot ones, and spikes with two slabs each."""
    layers = {
        "top": dgm.Binary(2),
        "visible": dgm.Gaussian(3),
        "middle": dgm.Gaussian(2),
        "hidden": dgm.SpikeSlab(2, 3),
        "label": dgm.Categorical(1, 3),
    }
    couplings = [
        Lateral("visible"),
        dgm.Dense("visible", "middle"),
        dgm.Dense(("middle", 1), "top"),
        Sparse("visible", "hidden", torch.tensor([[0, 1], [1, 4], [2, 5], [2, 3]])),
        dgm.Dense("label", "visible"),
    ]
    graph = dgm.Graph(layers, couplings)
    generator = torch.Generator().manual_seed(0)
    biases = {}
    for name, unit in layers.items():
        biases[name] = tuple(0.4 * torch.randn(unit.shape, generator=generator) for _ in unit.statistics)
        if unit.degrees:
            biases[name] = (biases[name][0], torch.full(unit.shape, -1.0))
    biases["hidden"][1][:, 0] = 0
    weights = [0.3 * torch.randn(s, generator=generator) for s in graph.weight_shapes]
    weights[0] = (weights[0].triu(1) + weights[0].triu(1).mT) / 2
    return BoltzmannDistribution(graph, biases, weights, "visible")


MACHINES = pytest.mark.parametrize("build", [coupled, colourful])


def rows(dist, n=5):
    return torch.randn(n, *dist.event_shape, generator=torch.Generator().manual_seed(1)).double()


@MACHINES
def test_sums_are_those_of_torch(build, wide):
    dist = double(build())
    ours, v = to_numpyro(dist), rows(dist)
    assert float(ours.log_partition()) == pytest.approx(float(dist.exact_log_partition()), abs=1e-11)
    np.testing.assert_allclose(np.asarray(ours.free_energy(v.numpy())), dist.free_energy(v).numpy(), atol=1e-11)
    got = np.asarray(jax.jit(type(ours).log_prob)(ours, v.numpy().reshape(1, 5, -1)))
    np.testing.assert_allclose(got, dist.log_prob(v).numpy().reshape(1, 5), atol=1e-11)
    assert float(ours.log_prob(v[0].numpy())) == pytest.approx(float(got[0, 0]), abs=1e-11)


@MACHINES
def test_single_precision_is_kept(build):
    dist = build()
    ours, exact, v = to_numpyro(dist), double(dist), rows(dist)
    assert float(ours.log_partition()) == pytest.approx(float(exact.exact_log_partition()), rel=1e-5)
    np.testing.assert_allclose(ours.log_prob(v.float().numpy()), exact.log_prob(v).numpy(), rtol=1e-5, atol=1e-5)


@MACHINES
def test_gradients_are_those_of_torch(build, wide):
    dist = double(build())
    machine, v = dist.machine, rows(dist)
    leaves = {
        name: tuple(b.view(machine.graph.layers[name].shape).clone().requires_grad_() for b in entry)
        for name, entry in machine.biases.items()
    }
    weights = [w.clone().requires_grad_() for w in machine.weights]
    theirs = BoltzmannDistribution(machine.graph, leaves, weights, dist.visible)
    (theirs.free_energy(v).sum() + theirs.exact_log_partition()).backward()
    ours = jax.grad(lambda d: d.free_energy(v.numpy()).sum() + d.log_partition(), allow_int=True)(to_numpyro(dist))
    for got, weight in zip(ours.arrays.weights, weights, strict=True):
        free = weight.detach().numpy() != 0  # zeros are where a coupling has no entry
        np.testing.assert_allclose(np.asarray(got)[free], weight.grad.numpy()[free], rtol=0, atol=1e-10)
    for name, entry in leaves.items():
        for got, bias in zip(ours.arrays.biases[name], entry, strict=True):
            np.testing.assert_allclose(got, bias.grad.numpy().ravel(), rtol=0, atol=1e-10)


def test_the_inverse_root_and_its_derivatives(wide):
    from jax.test_util import check_grads

    from pyro_dgm.in_jax._integral import inverse_root

    numbers = np.random.default_rng(0).normal(size=(5, 5))
    form = numbers @ numbers.T + np.eye(5)
    np.testing.assert_allclose(inverse_root(form), np.linalg.inv(np.linalg.cholesky(form)), atol=1e-13)
    check_grads(lambda x: inverse_root(x @ x.T + np.eye(5)), (numbers,), order=2)
    assert np.isnan(inverse_root(form - 3 * np.eye(5))).any()


def test_more_states_than_go_through_at_once(wide):
    """Against NumPy's sum over h with determinants."""
    from pyro_dgm.in_jax._integral import at_once

    ssrbm = dgm.SpikeSlabRBM(40, 8, slabs=2).double()
    with torch.no_grad():
        for parameter in ssrbm.parameters():
            generator = torch.Generator().manual_seed(parameter.numel())
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    ours = to_numpyro(ssrbm())
    assert at_once(ours.structure, ()) < 256
    assert float(ours.log_partition()) == pytest.approx(mixture.of_spike_slab_rbm(ssrbm).log_z, abs=1e-9)


def of_coupled_slabs(model):
    """The spike-and-slab machine of the same parameters, and the terms between slabs."""
    found = mixture.of_spike_slab_rbm(
        SimpleNamespace(
            weight=model.weight.unsqueeze(-1),
            slab_mean=model.slab_mean.unsqueeze(-1),
            hidden_bias=model.hidden_bias,
            precision=model.precision,
            phi=model.phi,
            alpha=model.alpha.unsqueeze(-1),
        )
    )
    forms = found.Q.copy()
    on = found.switches[:, :, None] * found.switches[:, None]
    forms[:, model.visible :, model.visible :] -= mixture.numbers(model.symmetric) * on
    return mixture.Mixture(found.switches, forms, found.l, found.c)


@pytest.mark.parametrize(
    ("model", "exact"),
    [(dgm.SpikeSlabRBM, mixture.of_spike_slab_rbm), (dgm.CoupledSlabRBM, of_coupled_slabs)],
)
def test_draws_have_the_mixture_s_moments(model, exact):
    """Means of h, z, zz', hz' and hzz' over independent draws, all within six standard errors: odds of 1 in 10^6."""
    machine = model.example()[0]
    expected = exact(machine).moments()
    ours = to_numpyro(machine())
    state = {name: np.asarray(x) for name, x in ours.sample_state(jax.random.PRNGKey(0), (4, DRAWS // 4)).items()}
    hidden = state["hidden"].reshape(DRAWS, -1, 2).astype(float)
    z = np.concatenate([state["visible"].reshape(DRAWS, -1), hidden[..., 1]], 1)
    assert mixture.excess(mixture.statistics(hidden[..., 0], z), expected) < 6
    apart = np.concatenate([z[:, :-3], np.roll(z[:, -3:], 1, 0)], 1)  # slabs of other draws
    assert mixture.excess(mixture.statistics(hidden[..., 0], apart), expected) > 6
    visible = np.asarray(ours.sample(jax.random.PRNGKey(0), (4, DRAWS // 4)))
    np.testing.assert_array_equal(visible, state["visible"])


def test_one_draw_and_a_machine_without_finite_units():
    graph = dgm.Graph({"visible": dgm.Gaussian(2)}, [Lateral("visible")])
    biases = {"visible": (torch.tensor([1.0, 0.0]), torch.tensor([-0.5, -0.5]))}
    ours = to_numpyro(BoltzmannDistribution(graph, biases, [torch.tensor([[0.0, 0.3], [0.3, 0.0]])]))
    assert ours.sample(jax.random.PRNGKey(0)).shape == (2,)
    x = np.asarray(ours.sample(jax.random.PRNGKey(1), (DRAWS,)), float)
    covariance = np.linalg.inv(np.array([[1, -0.6], [-0.6, 1]]))
    error = np.sqrt(np.diag(covariance) / DRAWS)
    assert (np.abs(x.mean(0) - covariance @ [1, 0]) < 6 * error).all()
    correlation = np.corrcoef(x.T)[0, 1]
    assert abs(correlation - 0.6) < 6 * (1 - 0.6**2) / DRAWS**0.5


def test_too_many_states_are_refused():
    ours = to_numpyro(dgm.SpikeSlabRBM(6, 13)())
    for call in (ours.log_partition, lambda: ours.sample(jax.random.PRNGKey(0))):
        with pytest.raises(ValueError, match=r"2\^13 integrals .* at most 2\^12"):
            call()


def quartic():
    """Squares of real units that meet squares: a normaliser, and no Gaussian integral."""
    graph = dgm.Graph(
        {"visible": dgm.Gaussian(1), "hidden": dgm.Gaussian(2)}, [dgm.Dense(("visible", 1), ("hidden", 1))]
    )
    biases = {name: (torch.zeros(unit.shape), torch.full(unit.shape, -0.5)) for name, unit in graph.layers.items()}
    return BoltzmannDistribution(graph, biases, [torch.tensor([[-0.1, 0.0]])], validate_args=False)


def test_energies_that_are_not_quadratic_have_no_integral():
    ours = to_numpyro(quartic())
    with pytest.raises(ValueError, match=r"not quadratic .* NumPyroGibbs"):
        ours.log_partition()
    zero = type(ours)(ours.structure, ours.arrays._replace(weights=(np.zeros((1, 2)),)))
    assert np.isfinite(zero.log_partition())
    zero.arrays = ours.arrays  # as an optimiser may leave them
    assert np.isnan(zero.log_partition())
    given = ours.free_energy(np.ones((2, 1)))
    np.testing.assert_allclose(given, quartic().free_energy(torch.ones(2, 1)).numpy(), rtol=1e-5)


def test_couplings_without_a_normaliser_give_nan():
    ours = to_numpyro(spikes())
    weights = tuple(10 * weight for weight in ours.arrays.weights)
    ours.arrays = ours.arrays._replace(weights=weights)
    assert np.isnan(ours.log_partition())
