"""The Gaussian-Bernoulli RBM against the mixture of Gaussians that it is."""

import math

import numpy as np
import pytest
import torch
from oracles import boltzmann as oracle
from oracles import mixtures as mixture
from pyro.infer import Trace_ELBO

import pyro_dgm as dgm

N = 40_000
VARIANTS = {
    "diagonal": {},
    "scalar": {"precision": "scalar"},
    "fixed": {"precision": "fixed"},
    "value": {"precision": [0.5, 1.5, 2.0, 0.7], "optional_term": True},
    "optional term": {"optional_term": True},
    "more hidden": {"hidden": 6},
}


def make(visible=4, hidden=3, **options):
    model = dgm.GaussianRBM(visible, hidden, **options)
    return oracle.randomise(model, torch.Generator().manual_seed(1), 0.7)


MODELS = pytest.mark.parametrize("model", [make(**options) for options in VARIANTS.values()], ids=VARIANTS)


def energy(model, v, h):
    """(20.42), (20.41) and the visible bias, number by number."""
    a, b, W = (mixture.numbers(t) for t in (model.visible_bias, model.hidden_bias, model.weight))
    beta = np.broadcast_to(np.exp(mixture.numbers(model.log_precision)), a.shape)
    total = sum(0.5 * beta[i] * (v[i] - a[i]) ** 2 for i in range(len(a))) - b @ h
    for i in range(len(a)):
        for j in range(len(b)):
            total -= beta[i] * v[i] * W[i, j] * h[j]
            total += 0.5 * beta[i] * W[i, j] ** 2 * h[j] * model.optional_term
    return total


@MODELS
class TestAlgebra:
    def test_energy_and_free_energy(self, model):
        x = torch.randn(5, 4)
        H = mixture.spikes(model.hidden)
        for row, free in zip(x, model().free_energy(x).detach(), strict=True):
            energies = [energy(model, row.double().numpy(), h) for h in H]
            assert float(free) == pytest.approx(-oracle.logsumexp([-e for e in energies]), abs=1e-4)
            state = {"visible": row, "hidden": torch.as_tensor(H[-1]).float()}
            assert float(model().energy(state).detach()) == pytest.approx(energies[-1], abs=1e-4)

    def test_log_partition(self, model):
        exact = mixture.of_gaussian_rbm(model)
        found = dgm.log_partition(model(), "exact")
        assert found.exact
        assert float(found.value) == pytest.approx(exact.log_z, abs=1e-4)

    def test_annealing(self, model):
        found = dgm.log_partition(model(), "ais", chains=200, temperatures=300)
        exact = mixture.of_gaussian_rbm(model).log_z
        assert abs(float(found.value) - exact) < 6 * float(found.stderr) + 1e-4
        assert float(found.stderr) < 0.1

    def test_conditional(self, model):
        exact = mixture.of_gaussian_rbm(model)
        found = model.conditional(torch.as_tensor(exact.switches).float())
        np.testing.assert_allclose(found.mean.detach(), exact.mean, atol=1e-5)
        np.testing.assert_allclose(found.variance.detach(), np.diagonal(exact.cov, axis1=1, axis2=2), rtol=1e-5)

    def test_stationary(self, model):
        exact = mixture.of_gaussian_rbm(model)
        assert distance(dgm.BlockGibbs(model()), exact.draw(N), 2, exact.moments()) < 6

    def test_clamped(self, model):
        known, value = torch.tensor([True, False, True, False]), torch.tensor([0.8, 0.0, -1.1, 0.0])
        exact = mixture.of_gaussian_rbm(model).given(known.numpy(), value.numpy())
        h, free = exact.draw(N)
        z = np.tile(value.numpy(), (N, 1))
        z[:, ~known.numpy()] = free
        kernel = dgm.BlockGibbs(model(), clamp=(known, value))
        assert distance(kernel, (h, z), 2, exact.moments(), ~known.numpy()) < 6


def distance(kernel, draws, sweeps, expected, entries=slice(None)):
    """In standard errors (they are checked against six: the largest of 200 entries passes it once in a million)."""
    h, z = (torch.as_tensor(d).float() for d in draws)
    state = {"visible": z, "hidden": h}
    for _ in range(sweeps):
        state = kernel.sample(state)
    h, z = (state[layer].double().numpy() for layer in ("hidden", "visible"))
    return mixture.excess(mixture.statistics(h, z[:, entries]), expected)


class Identity(dgm.BlockGibbs):
    def sample(self, params):
        return params


def one_sweep(model, start):
    """Exact moments after a sweep from fixed visible units: a mixture with the weights P(h | v)."""
    exact = mixture.of_gaussian_rbm(model)
    exact.p = exact.given(np.ones(4, bool), start).p
    return exact.moments()


def test_moves_and_wrong_kernels():
    model = make()
    exact = mixture.of_gaussian_rbm(model)
    start = np.array([1.0, -0.5, 0.3, 0.9])
    fixed = (np.zeros((N, 3)), np.tile(start, (N, 1)))
    assert distance(dgm.BlockGibbs(model()), fixed, 1, one_sweep(model, start)) < 6
    assert distance(Identity(model()), fixed, 1, one_sweep(model, start)) > 6
    machine = model().machine
    graph = machine.graph.at(visible=model.visible_bias.flip(-1))
    swapped = dgm.BlockGibbs(dgm.BoltzmannDistribution(graph, machine.biases, machine.weights))
    assert distance(swapped, exact.draw(N), 2, exact.moments()) > 6


def test_density_integrates_to_one():
    model = make(2, 2, optional_term=True)
    axis = torch.linspace(-12, 12, 601)
    density = model().log_prob(torch.cartesian_prod(axis, axis)).exp().detach()
    total = (
        float(density.sum()) * 0.04**2
    )  # the trapezoid rule, whose error vanishes for smooth integrands like this one
    assert total == pytest.approx(1, abs=1e-4)


def test_log_prob_and_samples_of_a_small_model():
    model = make()
    exact = mixture.of_gaussian_rbm(model)
    x = model.sample(N).double().numpy()
    expected = {name: exact.moments()[name] for name in ("z", "zz")}
    assert mixture.excess(mixture.statistics(np.zeros((N, 3)), x), expected) < 6
    rows = torch.as_tensor(x[:7])
    density = [
        oracle.logsumexp(np.log(exact.p) - 0.5 * np.einsum("hi,hij,hj->h", d, exact.Q, d) + 0.5 * np.linalg.slogdet(exact.Q)[1])
        - 2 * math.log(2 * math.pi)
        for d in (row - exact.mean for row in rows.numpy())
    ]  # fmt: skip
    np.testing.assert_allclose(model.double()().log_prob(rows).detach(), density, atol=1e-5)


def test_optional_term_cancels_a_lone_unit():
    """With (20.41) a hidden unit alone leaves its own bias as the log-odds (a visible mean of zero)."""
    for optional in (True, False):
        model = make(3, 1, optional_term=optional)
        with torch.no_grad():
            model.visible_bias.zero_()
        p = mixture.of_gaussian_rbm(model).p
        h = model.sample(1)  # it runs
        assert h.shape == (1, 3)
        assert (abs(math.log(p[1] / p[0]) - float(model.hidden_bias.detach())) < 1e-6) == optional
        log_z = float(dgm.log_partition(model()).value)
        free = 1.5 * math.log(2 * math.pi) - 0.5 * float(model.log_precision.detach().sum())
        assert math.isclose(log_z, free + math.log1p(p[1] / p[0]), abs_tol=1e-5)


def gradients(model, program, x, repeats=1):
    model.zero_grad()
    for _ in range(repeats):
        (Trace_ELBO(max_plate_nesting=1)(program, model.guide)(x) / (repeats * len(x))).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def exact_gradients(model, x):
    """Of the mean negative log-likelihood; log Z by torch over all h, from the documented parameters."""
    model.zero_grad()
    H = torch.as_tensor(mixture.spikes(model.hidden)).float()
    a, W, b, beta = model.visible_bias, model.weight, model.hidden_bias, model.log_precision.exp()
    mean = a + H @ W.T
    log_z = (H @ b + 0.5 * (beta * mean**2).sum(1)).logsumexp(0) - 0.5 * model.log_precision.sum()
    joint = -0.5 * (beta * x**2).sum(1, True) + (beta * x) @ mean.T + H @ b
    (log_z - joint.logsumexp(1).mean()).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("k", [2, None])
def test_gradient_at_stationarity(k):
    model = make()
    x = torch.randn(20, 4)
    expected = exact_gradients(model, x)
    found = gradients(model, dgm.negative_phase(model.model, dgm.ExactNegativePhase()), x)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-4, rtol=1e-4)
    # CD from data that are no draws of the model must fail where PCD passes.
    phase = dgm.PCD(k=k, chains=1000) if k else dgm.CD(k=1)
    program = dgm.negative_phase(model.model, phase)
    data = x if k else x.repeat(50, 1)
    gradients(model, program, data, repeats=30)
    blocks = [gradients(model, program, data, repeats=20) for _ in range(20)]
    if k:
        oracle.meets(blocks, expected, 0.05)
    else:
        with pytest.raises(AssertionError):
            oracle.meets(blocks, expected, 0.05)


def test_initialise_takes_means_and_variances():
    x = torch.randn(500, 3) * torch.tensor([0.5, 1.0, 3.0]) + torch.tensor([2.0, 0.0, -1.0])
    for precision, variance in (
        ("diagonal", x.var(0, correction=0)),
        ("scalar", x.var(0, correction=0).mean().expand(3)),
    ):
        model = dgm.GaussianRBM(3, 2, precision=precision)
        model.initialise(x)
        torch.testing.assert_close(model.visible_bias.detach(), x.mean(0))
        torch.testing.assert_close(model.conditional(torch.zeros(2)).variance.detach(), variance)
        model.initialise(x + 7)
        torch.testing.assert_close(model.visible_bias.detach(), x.mean(0))
    fixed = dgm.GaussianRBM(3, 2, precision=2.0)
    fixed.initialise(x)
    torch.testing.assert_close(fixed.beta, torch.full((3,), 2.0))


def test_training_raises_the_exact_likelihood():
    """Two clusters: a single Gaussian's entropy is beaten by a hidden unit that tells them apart."""
    x = torch.cat([torch.randn(300, 2) * 0.3 + 2, torch.randn(300, 2) * 0.3 - 2])
    model = dgm.GaussianRBM(2, 4)
    model.initialise(x)
    before = dgm.log_likelihood(model, x).value
    gaussian = torch.distributions.MultivariateNormal(x.mean(0), torch.cov(x.T)).log_prob(x).mean()
    dgm.fit(model, x, epochs=30, batch_size=100, learning_rate=0.05, progress=False, objective=model.objective("exact"))
    after = dgm.log_likelihood(model, x)
    assert after.kind == "exact"
    assert after.value > max(before, float(gaussian)) + 0.2


def test_a_context_shifts_the_hidden_bias():
    model = make()
    dist = model(hidden_shift=torch.tensor([[50.0], [-50.0]]).expand(2, 3))
    assert dist.batch_shape == (2,)
    mean = dist.sample((4000,), sweeps=2).mean(0)
    expected = model.conditional(torch.tensor([[1.0] * 3, [0.0] * 3]))
    assert ((mean - expected.mean).abs() < 6 * expected.stddev / math.sqrt(4000)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "diag"}, "expected one of"),
        ({"precision": 0.0}, "positive"),
        ({"precision": -1.0}, "positive"),
        ({"precision": [1.0, 2.0]}, "shape"),
        ({"precision": math.inf}, "positive"),
        ({"precision": None}, "precision got None; expected one of fixed, scalar, diagonal, or a positive value"),
        ({"precision": True}, "precision got True; expected one of"),
        ({"precision": {"diagonal"}}, "precision got {'diagonal'}; expected one of"),
        ({"hidden": 0}, "positive integers"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        dgm.GaussianRBM(3, **{"hidden": 2, **options})


ENGINES = pytest.mark.parametrize(("engine", "method"), [("torch", "ais"), ("torch", "bridge"), ("jax", "bridge")])


@ENGINES
def test_columns_far_from_zero_are_scored_as_normals(engine, method, quick_compilation):
    """Without weights the machine is independent normals fitted to the data, whose density NumPy knows."""
    x = torch.randn(300, 6, generator=torch.Generator().manual_seed(0)) + 1e4
    model = dgm.GaussianRBM(6, 5)
    model.initialise(x)
    with torch.no_grad():
        model.weight.zero_()
        model.hidden_bias.zero_()
    variance = x.double().numpy().var(0)
    expected = -0.5 * (np.log(2 * np.pi * variance) + 1).sum()
    # The mean is stored to 5e-4 and squared deviations are of order one: the figure is off by less than 1e-4.
    assert dgm.log_likelihood(model, x).value == pytest.approx(expected, abs=1e-4)
    found = dgm.log_likelihood(model, x, method=method, chains=20, temperatures=20, warmup=5, engine=engine)
    # Rounding in the 20 log weights may add up to 20 times that of a figure of size 1e4 * 1e-7.
    assert found.value == pytest.approx(expected, abs=5e-2)
    assert found.lower - 5e-2 <= expected <= found.upper + 5e-2
    assert found.upper - found.lower < 0.1
    assert dgm.log_likelihood(model, x[:20], method="raise", temperatures=20).value == pytest.approx(
        dgm.log_likelihood(model, x[:20]).value, abs=5e-2
    )


@ENGINES
def test_a_constant_column_beside_wide_ones_leaves_annealing_sound(engine, method, quick_compilation):
    x = 50 * torch.randn(200, 4, generator=torch.Generator().manual_seed(1))
    x[:, 0] = 3.0
    model = dgm.GaussianRBM(4, 3, precision="scalar")
    model.initialise(x)
    exact = dgm.log_partition(model(), "exact").value
    found = dgm.log_partition(model(), method, base=x, chains=20, temperatures=20, warmup=5, engine=engine)
    assert abs(float(found.value - exact)) < 6 * float(found.stderr) + 1e-3
    assert float(found.stderr) < 0.05


def test_training_on_a_constant_column_does_not_diverge():
    x = 10 * torch.randn(200, 4, generator=torch.Generator().manual_seed(1))
    x[:, 0] = 3.0
    model = dgm.GaussianRBM(4, 3, precision="scalar")
    dgm.fit(model, x, epochs=2, progress=False)
    assert all(bool(p.isfinite().all()) for p in model.parameters())


def test_a_start_is_near_that_without_weights():
    """Columns of one value have a standard deviation of 1e-3: weights that move them by more would cost thousands of nats."""
    grey = torch.rand(300, 64, generator=torch.Generator().manual_seed(2))
    grey[:, :20], grey[:, 20:22] = 0.0, 1.0
    model = dgm.GaussianRBM(64, 10)
    model.initialise(grey)
    found = model().log_prob(grey).mean()
    # A weight moves a column by a hundredth of its deviation times a normal number, at ten units of probability a half:
    # 64 * 10 * 1e-4 / 4 nats, and no more than some ten times that.
    with torch.no_grad():
        model.weight.zero_()
    assert float(found.detach()) == pytest.approx(float(model().log_prob(grey).mean().detach()), abs=0.2)


@pytest.mark.parametrize("cls", [dgm.GaussianRBM, dgm.SpikeSlabRBM, dgm.CoupledSlabRBM, dgm.ConvolutionalSpikeSlabRBM])
def test_a_start_follows_the_units_of_measurement(cls):
    """The density of c x is that of x less D log c, whatever the unit of the columns is."""
    x = torch.randn(50, 9, generator=torch.Generator().manual_seed(3))
    x -= x.mean(0)
    scale = 50.0 if cls is dgm.ConvolutionalSpikeSlabRBM else torch.logspace(-2, 2, 9)
    figures = []
    for rows in (x, scale * x):
        torch.manual_seed(0)
        model = cls(9, filters=1, size=2) if cls is dgm.ConvolutionalSpikeSlabRBM else cls(9, hidden=4)
        model.initialise(rows)
        figures.append(dgm.log_likelihood(model, rows).value)
    change = float(torch.as_tensor(scale).log().expand(9).sum())
    assert figures[1] == pytest.approx(figures[0] - change, abs=1e-2)
