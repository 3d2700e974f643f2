"""The spike-and-slab RBM against the mixture of Gaussians that it is."""

import math

import numpy as np
import pytest
import torch
from oracles import boltzmann as oracle
from oracles import mixtures as mixture
from pyro.infer import Trace_ELBO

import pyro_dgm as dgm

N = 40_000
D = 3
VARIANTS = {"one slab": {}, "pooled": {"slabs": 2}, "without squares": {"square": False}}


def make(hidden=2, scale=0.8, seed=1, visible=D, **options):
    model = dgm.SpikeSlabRBM(visible, hidden, **options)
    oracle.randomise(model, torch.Generator().manual_seed(seed), scale)
    with torch.no_grad():  # so that no spike is rare
        model.hidden_bias += 0.5 * (model.alpha * model.slab_mean**2).sum(-1)
    return model


MODELS = pytest.mark.parametrize("model", [make(**options) for options in VARIANTS.values()], ids=VARIANTS)


def split(model, h, z):
    """A state of the machine from spikes and z = (x, s)."""
    h, z = torch.as_tensor(h).float(), torch.as_tensor(z).float()
    slabs = z[..., model.visible :].unflatten(-1, (model.hidden, model.slabs))
    return {"visible": z[..., : model.visible], "hidden": torch.cat([h.unsqueeze(-1), slabs], -1)}


def joined(state):
    """Spikes and z = (x, s) of a state."""
    h, s = state["hidden"][..., 0], state["hidden"][..., 1:].flatten(-2)
    return h.double().numpy(), torch.cat([state["visible"], s], -1).double().numpy()


def distance(kernel, model, draws, sweeps, expected, entries=slice(None)):
    """In standard errors; six of them are passed by chance once in a million tests of 300 entries each."""
    state = split(model, *draws)
    for _ in range(sweeps):
        state = kernel.sample(state)
    h, z = joined(state)
    return mixture.excess(mixture.statistics(h, z[:, entries]), expected)


@MODELS
class TestAlgebra:
    def test_energy(self, model):
        """Differences of (20.50) from the oracle's quadratic forms."""
        exact = mixture.of_spike_slab_rbm(model)
        z = torch.randn(len(exact.p), exact.size).double().numpy()
        expected = 0.5 * np.einsum("hi,hij,hj->h", z, exact.Q, z) - (exact.l * z).sum(1) - exact.c
        found = model().energy(split(model, exact.switches, z)).detach()
        np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)

    def test_free_energy(self, model):
        exact = mixture.of_spike_slab_rbm(model)
        known = np.arange(exact.size) < D
        for row in torch.randn(5, D):
            value = np.pad(row.double().numpy(), (0, exact.size - D))
            # Summed over h, and over s by determinants.
            assert float(model().free_energy(row).detach()) == pytest.approx(-exact.given(known, value).log_z, abs=1e-4)

    def test_posterior(self, model):
        """(20.53) by ratios of the joint, and written out."""
        exact = mixture.of_spike_slab_rbm(model)
        known = np.arange(exact.size) < D
        W, mu, alpha, Phi = (mixture.numbers(t) for t in (model.weight, model.slab_mean, model.alpha, model.phi))
        for row in torch.randn(5, D):
            x = row.double().numpy()
            found = model.posterior(row).detach()
            conditional = exact.given(known, np.pad(x, (0, exact.size - D)))
            np.testing.assert_allclose(found, conditional.p @ exact.switches, atol=1e-5)
            slope = np.einsum("i,iak->ak", x, W)
            odds = (slope**2 / (2 * alpha) + mu * slope - 0.5 * alpha * mu**2).sum(1) - 0.5 * x**2 @ Phi
            np.testing.assert_allclose(found, 1 / (1 + np.exp(-odds - mixture.numbers(model.hidden_bias))), atol=1e-5)

    def test_conditional(self, model):
        """(20.51-52): the oracle's joint over (x, s), of which x is the first block."""
        exact = mixture.of_spike_slab_rbm(model)
        found = model.conditional(torch.as_tensor(exact.switches).float())
        np.testing.assert_allclose(found.mean.detach(), exact.mean[:, :D], atol=1e-4)
        np.testing.assert_allclose(found.covariance_matrix.detach(), exact.cov[:, :D, :D], atol=1e-4, rtol=1e-4)
        assert model.conditional(torch.ones(model.hidden)).batch_shape == ()

    def test_annealing(self, model):
        exact = mixture.of_spike_slab_rbm(model).log_z
        found = dgm.log_partition(model(), "ais", chains=300, temperatures=300)
        assert abs(float(found.value) - exact) < 6 * float(found.stderr) + 1e-4
        assert float(found.stderr) < 0.1

    def test_exact_log_partition(self, model):
        exact = mixture.of_spike_slab_rbm(model).log_z
        found = dgm.log_partition(model())
        assert found.exact
        assert float(found.value) == pytest.approx(exact, abs=1e-4)
        assert float(model.exact_log_partition().detach()) == pytest.approx(exact, abs=1e-4)
        row = torch.randn(D)
        assert float(model().log_prob(row).detach()) == pytest.approx(
            float(-model().free_energy(row)) - exact, abs=1e-4
        )

    def test_stationary(self, model):
        exact = mixture.of_spike_slab_rbm(model)
        assert distance(dgm.BlockGibbs(model()), model, exact.draw(N), 2, exact.moments()) < 6

    def test_clamped_visible(self, model):
        exact = mixture.of_spike_slab_rbm(model)
        known = np.zeros(exact.size, bool)
        known[[0, 2]] = True
        value = np.where(known, 0.3, 0.0)
        kernel = dgm.BlockGibbs(model(), clamp=(torch.as_tensor(known[:D]), torch.as_tensor(value[:D])))
        self.check(kernel, model, exact.given(known, value), known, value)

    def test_clamped_slab_and_spike(self, model):
        """The first slab of spike 0 and spike 1 are known: spike 0 and the other slabs follow."""
        exact = mixture.of_spike_slab_rbm(model)
        known, value = np.zeros(exact.size, bool), np.zeros(exact.size)
        known[D], value[D] = True, 1.4
        given = exact.only(exact.switches[:, 1] == 1).given(known, value)
        mask, clamp = torch.zeros(2, 1 + model.slabs, dtype=torch.bool), torch.zeros(2, 1 + model.slabs)
        mask[0, 1], clamp[0, 1], mask[1, 0], clamp[1, 0] = True, 1.4, True, 1.0
        kernel = dgm.BlockGibbs(model(), clamp={"hidden": (mask, clamp)})
        self.check(kernel, model, given, known, value)

    def check(self, kernel, model, given, known, value):
        h, free = given.draw(N)
        z = np.tile(value, (N, 1))
        z[:, ~known] = free
        assert distance(kernel, model, (h, z), 2, given.moments(), ~known) < 6


class Identity(dgm.BlockGibbs):
    def sample(self, params):
        return params


def test_moves_and_wrong_kernels():
    model = make()
    exact = mixture.of_spike_slab_rbm(model)
    start = np.array([1.5, -1.0, 0.7])
    known = np.arange(exact.size) < D
    given = exact.given(known, np.pad(start, (0, exact.size - D)))
    # After a sweep x ~ N(A s, diag(P)^-1) with h, s from the posterior; A = diag(P)^-1 W diag(h).
    mean, second = 0.0, 0.0
    for weight, h, m, c in zip(given.p, given.switches, given.mean, given.cov, strict=True):
        P = mixture.numbers(model.precision) + mixture.numbers(model.phi) @ h
        A = mixture.numbers(model.weight)[..., 0] * h / P[:, None]
        mean = mean + weight * A @ m
        second = second + weight * (A @ (c + np.outer(m, m)) @ A.T + np.diag(1 / P))
    fixed = (np.zeros((N, 2)), np.tile(np.pad(start, (0, exact.size - D)), (N, 1)))
    expected = {"z": mean, "zz": second}
    assert distance(dgm.BlockGibbs(model()), model, fixed, 1, expected, slice(D)) < 6
    assert distance(Identity(model()), model, fixed, 1, expected, slice(D)) > 6
    machine = model().machine
    eta = machine.shaped(machine.graph.block("hidden"), machine.biases["hidden"])
    biases = {**machine.biases, "hidden": tuple(e.flip(0) for e in eta)}
    swapped = dgm.BlockGibbs(dgm.BoltzmannDistribution(machine.graph, biases, machine.weights, validate_args=False))
    assert distance(swapped, model, exact.draw(N), 2, exact.moments()) > 6


def test_density_integrates_to_one():
    model = make(visible=1)
    grid = torch.linspace(-30, 30, 6001).unsqueeze(-1)
    density = model().with_log_partition(model.exact_log_partition()).log_prob(grid).exp().detach()
    total = float(torch.trapezoid(density, dx=0.01))
    assert total == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("slabs", [1, 2])
def test_every_parameter_gives_a_normaliser(slabs):
    """500 random machines, by the smallest eigenvalue over all spikes; without the sum in alpha most have none."""
    g = torch.Generator().manual_seed(2)
    broken = 0
    for _ in range(500 // slabs):
        model = dgm.SpikeSlabRBM(4, 4, slabs=slabs, square=bool(torch.rand((), generator=g) < 0.7)).double()
        oracle.randomise(model, g, float(3 * torch.rand((), generator=g)))
        W, Lambda, Phi, alpha = (mixture.numbers(t) for t in (model.weight, model.precision, model.phi, model.alpha))
        H = mixture.spikes(4)

        def smallest(alpha, W=W, H=H, base=Lambda + H @ Phi.T):
            forms = base[:, :, None] * np.eye(4) - np.einsum("iak,ha,ak,jak->hij", W, H, 1 / alpha, W)
            return (np.linalg.eigvalsh(forms)[:, 0] / base.max()).min()

        # Relative to the largest precision, beyond the rounding of the eigenvalues.
        assert smallest(alpha) > -1e-12
        assert dgm.spike_slab_validity(*(torch.as_tensor(a) for a in (Lambda, Phi, W, alpha))).valid
        broken += smallest(mixture.numbers(model.log_slab.exp())) < 0
    assert broken > 200 // slabs


def test_a_machine_without_a_normaliser_is_refused():
    model = make()
    dist = model()
    machine = dist.machine
    eta = machine.shaped(machine.graph.block("hidden"), machine.biases["hidden"])
    thin = {**machine.biases, "hidden": (eta[0], 0.2 * eta[1])}
    with pytest.raises(ValueError, match=r"joint precision is not positive definite.*'visible' and 'hidden'"):
        dgm.BoltzmannDistribution(machine.graph, thin, machine.weights, validate_args=True)


def gradients(model, program, x, repeats=1):
    model.zero_grad()
    for _ in range(repeats):
        (Trace_ELBO(max_plate_nesting=1)(program, model.guide)(x) / (repeats * len(x))).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def exact_gradients(model, x):
    """Of the mean negative log-likelihood, by autograd through the mixture: p(h) p(x | h) from (20.50) alone."""
    model.zero_grad()
    H = torch.as_tensor(mixture.spikes(model.hidden)).float()
    alpha, mu, W = model.alpha, model.slab_mean, model.weight
    forms = torch.diag_embed(model.precision + H @ model.phi.T) - torch.einsum("iak,ha,ak,jak->hij", W, H, 1 / alpha, W)
    slope = torch.einsum("iak,ha,ak->hi", W, H, mu)
    constant = H @ (model.hidden_bias - 0.5 * (alpha * mu**2).sum(1))
    location = torch.linalg.solve(forms, slope.unsqueeze(-1)).squeeze(-1)
    log_w = constant + 0.5 * (slope * location).sum(1) - 0.5 * torch.logdet(forms)
    normal = torch.distributions.MultivariateNormal(location, precision_matrix=forms)
    joint = normal.log_prob(x.unsqueeze(1)) + log_w.log_softmax(0)
    (-joint.logsumexp(1).mean()).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def test_gradient_at_stationarity():
    model = make()
    x = torch.randn(20, D)
    expected = exact_gradients(model, x)
    model.zero_grad()
    (model().free_energy(x).mean() + model.exact_log_partition()).backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-4, rtol=1e-3)
    program = dgm.negative_phase(model.model, dgm.PCD(k=2, chains=1000))
    gradients(model, program, x, repeats=30)
    oracle.meets([gradients(model, program, x, repeats=20) for _ in range(20)], expected, 0.05)
    program = dgm.negative_phase(model.model, dgm.CD(k=1))
    blocks = [gradients(model, program, x.repeat(50, 1), repeats=10) for _ in range(10)]
    with pytest.raises(AssertionError):  # one sweep from data that are no draws of the model
        oracle.meets(blocks, expected, 0.05)


def test_evidence_is_exact_where_spikes_can_be_listed():
    model, x = dgm.SpikeSlabRBM.example()
    exact = mixture.of_spike_slab_rbm(model)
    known = np.arange(exact.size) < model.visible
    rows = [exact.given(known, np.pad(row, (0, exact.size - model.visible))).log_z for row in x.double().numpy()]
    figure = dgm.log_likelihood(model, x)
    assert figure.kind == "exact"
    assert figure.value == pytest.approx(np.mean(rows) - exact.log_z, abs=1e-4)
    annealed = dgm.log_likelihood(model, x, method="ais", temperatures=200)
    assert annealed.kind == "estimate"
    assert annealed.lower <= figure.value <= annealed.upper


def test_log_prob_of_a_large_machine_says_what_to_do():
    model = dgm.SpikeSlabRBM(4, 30)
    with pytest.raises(dgm.NegativePhaseError, match="ais"):
        model().log_prob(torch.zeros(1, 4))
    with pytest.raises(dgm.NotEnumerable, match="ais"):
        model.exact_log_partition()


def test_training_finds_a_covariance():
    """Along (1, 1) the data vary, across they do not: a diagonal Gaussian cannot say so."""
    x = torch.randn(600, 1) * torch.ones(2) + 0.2 * torch.randn(600, 2)
    model = dgm.SpikeSlabRBM(2, 2)
    model.initialise(x)
    torch.testing.assert_close(model.precision.detach(), 1 / x.var(0, correction=0))
    diagonal = torch.distributions.Normal(x.mean(0), x.std(0)).log_prob(x).sum(1).mean()
    dgm.fit(model, x, epochs=30, batch_size=100, learning_rate=0.05, progress=False, objective=model.objective(k=5))
    assert dgm.log_likelihood(model, x).value > float(diagonal) + 0.3


def test_a_context_shifts_the_hidden_bias():
    model = make()
    dist = model(hidden_shift=torch.tensor([[60.0], [-60.0]]).expand(2, 2))
    assert dist.batch_shape == (2,)
    x = dist.sample((N,), sweeps=20)
    expected = model.conditional(torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
    # Twenty sweeps from a neutral start; the chain over (x, s) is Gaussian and its mean contracts quickly here.
    assert ((x.mean(0) - expected.mean).abs() < 6 * expected.stddev / math.sqrt(N)).all()


@pytest.mark.parametrize("options", [{"slabs": 0}, {"slabs": 1.5}, {"hidden": 0}, {"visible": -1}])
def test_bad_options(options):
    with pytest.raises(ValueError, match=r"at least 1|positive integers"):
        dgm.SpikeSlabRBM(**{"visible": 3, "hidden": 2, **options})
