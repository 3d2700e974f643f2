"""Properties over random shapes, dtypes, graphs and bad input."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracles import boltzmann as oracle
from pyro.infer import TraceEnum_ELBO

import pyro_dgm as dgm

FEW = settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
sizes = st.integers(1, 5)
batches = st.lists(st.integers(1, 3), max_size=2).map(tuple)
dtypes = st.sampled_from([torch.float32, torch.float64])


@FEW
@given(sizes, sizes, batches, batches, dtypes)
def test_rbm_shapes(visible, hidden, batch, samples, dtype):
    rbm = dgm.RBM(visible, hidden).to(dtype)
    d = rbm(visible_shift=torch.randn(*batch, visible, dtype=dtype), hidden_shift=torch.randn(hidden, dtype=dtype))
    assert d.batch_shape == batch
    assert d.event_shape == (visible,)
    x = d.sample(samples)
    assert x.shape == (*samples, *batch, visible)
    assert x.dtype == dtype
    assert d.support.check(x).all()
    for value in (d.log_prob(x), d.free_energy(x)):
        assert value.shape == (*samples, *batch)
        assert value.dtype == dtype
    wide = d.expand((4, *batch))
    assert wide.batch_shape == (4, *batch)
    assert wide.sample().shape == (4, *batch, visible)
    assert dgm.log_partition(d).value.shape == batch
    for row, z in zip(d.log_prob(x).flatten(), (-d.free_energy(x) - dgm.log_partition(d).value).flatten(), strict=True):
        assert torch.isclose(row, z, atol=1e-4)


@FEW
@given(st.integers(2, 4), st.integers(0, 4), st.data(), st.sampled_from(["binary", "spin"]))
def test_any_graph_against_enumeration(visible, hidden, data, unit):
    n = visible + hidden
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    edges = data.draw(st.lists(st.sampled_from(pairs), min_size=1, unique=True))
    machine = dgm.BoltzmannMachine(visible, hidden, edges=edges, unit=unit).double()
    oracle.randomise(machine, torch.Generator().manual_seed(data.draw(st.integers(0, 99))))
    exact = oracle.of_machine(machine)
    assert float(dgm.log_partition(machine()).value.detach()) == pytest.approx(exact.log_z, abs=1e-6)
    rows = np.unique(exact.states[:, :visible], axis=0)
    np.testing.assert_allclose(-machine().free_energy(torch.as_tensor(rows)).detach(), exact.marginal(rows), atol=1e-6)
    state = machine().machine.sweep(machine().machine.neutral_state((3,)))
    assert all(torch.isin(x, torch.tensor(exact.values, dtype=torch.float64)).all() for x in state.values())


@FEW
@given(st.integers(1, 4), st.integers(1, 6), st.lists(st.integers(1, 4), max_size=2), st.integers(1, 5))
def test_vae_shapes(latent, visible, hidden, rows):
    vae = dgm.VAE(visible, latent=latent, hidden=tuple(hidden))
    x = torch.randint(0, 2, (rows, visible)).float()
    assert dgm.log_weights(vae.model, vae.guide, x, particles=3).shape == (3, rows)
    assert vae.decode(torch.zeros(2, rows, latent)).shape == (2, rows, visible)
    assert vae.sample(rows).shape == (rows, visible)


@FEW
@given(st.sampled_from([0.5, -1.0, 2.0, 1e-3, float("inf"), float("nan")]), st.integers(0, 9), st.integers(0, 5))
def test_any_value_outside_the_support_is_refused(value, row, column):
    for cls in (dgm.RBM, dgm.VAE):
        model, x = cls.example()
        x[row, column] = value
        if value != value and cls.takes_missing:
            continue  # a missing value, which is no value
        with pytest.raises(ValueError, match=r"got|has an infinite value"):
            dgm.fit(model, x, progress=False)


def test_free_energy_by_pyros_enumeration():
    """An RBM written as a plain Pyro program with enumerated hidden units: TraceEnum_ELBO finds the same free energy."""
    rbm, x = dgm.RBM.example()
    W, b, c = rbm.weight.detach(), rbm.visible_bias.detach(), rbm.hidden_bias.detach()

    def program(row):
        fields = [0.0] * 4
        for j in range(4):
            h = pyro.sample(f"h{j}", dist.Bernoulli(0.5), infer={"enumerate": "parallel"})
            fields[j] = h * (c[j] + row @ W[:, j]) + torch.log(torch.tensor(2.0))
        pyro.factor("energy", sum(fields) + row @ b)

    for row in x:
        loss = TraceEnum_ELBO(max_plate_nesting=0).loss(program, lambda row: None, row)
        assert loss == pytest.approx(float(rbm().free_energy(row[None]).detach()), abs=1e-4)


def test_runs_repeat_bit_for_bit():
    digits = dgm.data.load("digits", binarisation="threshold")
    weights = []
    for _ in range(2):
        pyro.set_rng_seed(3)
        rbm = dgm.RBM(64, 30)
        dgm.fit(rbm, digits, epochs=1, seed=4, progress=False)
        weights.append(rbm.weight.detach().clone())
    assert torch.equal(*weights)


@pytest.mark.parametrize("cls", [dgm.RBM, dgm.VAE])
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_models_on_a_gpu(cls):
    model, x = cls.example()
    model.to("cuda")
    run = dgm.fit(model, x, epochs=2, device="cuda", progress=False)
    assert dgm.log_likelihood(run.model, x.to("cuda")).n == 10
