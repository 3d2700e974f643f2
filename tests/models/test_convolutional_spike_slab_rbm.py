"""The convolutional spike-and-slab RBM against the mixture of Gaussians of its unrolled matrices."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from oracles import boltzmann as oracle
from oracles import mixtures as mixture
from oracles.convolutions import corners, unrolled
from pyro.infer import Trace_ELBO

import pyro_dgm as dgm

N = 8_000
VARIANTS = {
    "valid": {"visible": 9, "filters": 1},
    "full": {"visible": 4, "filters": 1, "padding": "full"},
    "pooled, two channels": {"visible": 12, "filters": 2, "shape": (2, 2, 3), "slabs": 2},
    "without squares": {"visible": 6, "filters": 2, "shape": (2, 3), "square": False},
    "a precision for every pixel": {"visible": 9, "filters": 1, "tied": False},
    "such, full": {"visible": 4, "filters": 1, "padding": "full", "tied": False, "square": False},
}


def make(scale=0.7, seed=1, **options):
    model = dgm.ConvolutionalSpikeSlabRBM(**{"size": 2, **options})
    oracle.randomise(model, torch.Generator().manual_seed(seed), scale)
    with torch.no_grad():  # so that no spike is rare
        model.hidden_bias += 0.5 * (model.alpha * model.slab_mean**2).sum(-1)
    return model


def parameters(model):
    """The documented parameters in NumPy."""
    return {name: mixture.numbers(p) for name, p in model.named_parameters()}


def needed(model, W, Phi, log_precision):
    r"""$\max_p \sum W^2 / (\Phi + \Lambda_j / n_j)$ by loops: ``filters x slabs``."""
    picture, size = tuple(model.options()["shape"]), model.options()["size"]
    Lambda = np.exp(log_precision)
    Lambda = np.repeat(Lambda, math.prod(picture[1:])) if model.tied else Lambda
    Lambda = Lambda.reshape(picture)
    places = list(itertools.product(*corners(picture, size, model.padding)))
    offsets = list(itertools.product(*map(range, size)))
    n = np.zeros(picture[1:])
    for (y, x), (u, v) in itertools.product(places, offsets):
        if 0 <= y + u < picture[1] and 0 <= x + v < picture[2]:
            n[y + u, x + v] += len(W)
    best = np.zeros(W.shape[:2])
    for f, k in np.ndindex(best.shape):
        for y, x in places:
            need = 0.0
            for c, (u, v) in itertools.product(range(picture[0]), offsets):
                if model.tied:  # whatever the picture's size
                    need += W[f, k, c, u, v] ** 2 / (Phi[f, c, u, v] + Lambda[c, 0, 0] / (len(W) * math.prod(size)))
                elif 0 <= y + u < picture[1] and 0 <= x + v < picture[2]:
                    share = Phi[f, c, u, v] + Lambda[c, y + u, x + v] / n[y + u, x + v]
                    need += W[f, k, c, u, v] ** 2 / share
            best[f, k] = max(best[f, k], need)
    return best


def dense(model, values=None):
    """What the oracle of a dense machine reads, unrolled from the documented parameters."""
    values = parameters(model) if values is None else values
    W, picture = values["weight"], tuple(model.options()["shape"])
    Phi = np.exp(values["log_square"]) if model.square else np.zeros_like(W[:, 0])
    alpha = np.exp(values["log_slab"]) + 1.0001 * W.shape[1] * needed(model, W, Phi, values["log_precision"])
    Lambda = np.exp(values["log_precision"])
    positions = model.hidden // len(W)
    tensors = {
        "weight": unrolled(W, picture, model.padding, W.shape[1]).reshape(model.visible, model.hidden, -1),
        "phi": unrolled(Phi[:, None], picture, model.padding),
        "precision": np.repeat(Lambda, math.prod(picture[1:])) if model.tied else Lambda,
        "alpha": np.repeat(alpha, positions, 0),
        "slab_mean": np.repeat(values["slab_mean"], positions, 0),
        "hidden_bias": np.repeat(values["hidden_bias"], positions, 0),
    }
    return SimpleNamespace(**{name: torch.as_tensor(t) for name, t in tensors.items()})


def exact_of(model, values=None):
    return mixture.of_spike_slab_rbm(dense(model, values))


CASES = {name: make(**options) for name, options in VARIANTS.items()}
MODELS = pytest.mark.parametrize("model", CASES.values(), ids=CASES)


def state_of(model, h, z):
    h, z = torch.as_tensor(h).float(), torch.as_tensor(z).float()
    slabs = z[..., model.visible :].unflatten(-1, (model.hidden, model.slabs))
    return {"visible": z[..., : model.visible], "hidden": torch.cat([h.unsqueeze(-1), slabs], -1)}


@MODELS
class TestAgainstTheUnrolledMachine:
    def test_matrices(self, model):
        found, expected = model._unrolled(), dense(model)
        torch.testing.assert_close(found[0].detach(), expected.weight.float())
        torch.testing.assert_close(found[1].detach(), expected.phi.float())
        torch.testing.assert_close(model._slabs()[2].detach(), expected.alpha.float())

    def test_energy(self, model):
        exact = exact_of(model)
        z = torch.randn(len(exact.p), exact.size).double().numpy()
        expected = 0.5 * np.einsum("hi,hij,hj->h", z, exact.Q, z) - (exact.l * z).sum(1) - exact.c
        found = model().energy(state_of(model, exact.switches, z)).detach()
        np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)

    def test_free_energy_and_posterior(self, model):
        exact, D = exact_of(model), model.visible
        known = np.arange(exact.size) < D
        for row in torch.randn(3, D):
            given = exact.given(known, np.pad(row.double().numpy(), (0, exact.size - D)))
            assert float(model().free_energy(row).detach()) == pytest.approx(-given.log_z, abs=1e-4)
            np.testing.assert_allclose(model.posterior(row).detach(), given.p @ exact.switches, atol=1e-5)

    def test_conditional(self, model):
        """(20.51-52): the oracle's joint over (x, s), of which x is the first block."""
        exact, D = exact_of(model), model.visible
        found = model.conditional(torch.as_tensor(exact.switches).float())
        np.testing.assert_allclose(found.mean.detach(), exact.mean[:, :D], atol=1e-4)
        np.testing.assert_allclose(found.covariance_matrix.detach(), exact.cov[:, :D, :D], atol=1e-4, rtol=1e-4)

    def test_log_partition(self, model):
        exact = exact_of(model).log_z
        assert float(model.exact_log_partition().detach()) == pytest.approx(exact, abs=1e-4)
        annealed = dgm.log_partition(model(), "ais", chains=60, temperatures=60)
        assert abs(float(annealed.value) - exact) < 6 * float(annealed.stderr) + 1e-4
        assert float(annealed.stderr) < 0.3

    def test_stationary(self, model):
        """Six standard errors are passed by chance once in a million tests of 300 entries each."""
        exact = exact_of(model)
        state = state_of(model, *exact.draw(N))
        for _ in range(2):
            state = dgm.BlockGibbs(model()).sample(state)
        h, s = state["hidden"][..., 0], state["hidden"][..., 1:].flatten(-2)
        z = torch.cat([state["visible"], s], -1).double().numpy()
        assert mixture.excess(mixture.statistics(h.double().numpy(), z), exact.moments()) < 6


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("square", [True, False])
def test_every_parameter_gives_a_normaliser(tied, square):
    """Random machines, by the smallest eigenvalue over all spikes; without the sum in alpha most have none."""
    g = torch.Generator().manual_seed(2)
    broken, H = 0, mixture.spikes(8)
    for draw in range(60):
        padding = "full" if draw % 2 else "valid"
        # 8 spikes either way
        options = {"visible": 3, "shape": (1, 3), "size": (1, 2)} if draw % 2 else {"visible": 9, "size": 2}
        model = dgm.ConvolutionalSpikeSlabRBM(
            **options, filters=2, slabs=1 + draw % 3 // 2, square=square, padding=padding, tied=tied
        ).double()
        oracle.randomise(model, g, float(3 * torch.rand((), generator=g)))
        (W, Phi), (_, _, alpha) = (tuple(map(mixture.numbers, t)) for t in (model._unrolled(), model._slabs()))
        Lambda = mixture.numbers(model.precision)
        own = np.repeat(mixture.numbers(model.log_slab.exp()), 4, 0)

        def smallest(alpha, W=W, base=Lambda + H @ Phi.T):
            forms = base[:, :, None] * np.eye(len(W)) - np.einsum("iak,ha,ak,jak->hij", W, H, 1 / alpha, W)
            return (np.linalg.eigvalsh(forms)[:, 0] / base.max()).min()

        # Relative to the largest precision, beyond the rounding of the eigenvalues.
        assert smallest(alpha) > -1e-12
        assert dgm.spike_slab_validity(*(torch.as_tensor(a) for a in (Lambda, Phi, W, alpha))).valid
        broken += smallest(own) < 0
    assert broken > 20


@pytest.mark.parametrize("tied", [True, False])
def test_many_spikes_are_seen_to_have_a_normaliser(tied):
    """Every pixel's precision is dealt out among the spikes that see it, not among all of them."""
    model = make(visible=36, filters=3, tied=tied, square=False)
    with torch.no_grad():
        model.log_slab.fill_(-8.0)
    dist = model()
    biases = {
        name: tuple(t.unflatten(-1, unit.shape) for t in dist.machine.biases[name])
        for name, unit in dist.machine.graph.layers.items()
    }
    dgm.BoltzmannDistribution(dist.machine.graph, biases, dist.machine.weights, validate_args=True)
    (W, Phi), (_, _, alpha) = model._unrolled(), model._slabs()
    found = dgm.spike_slab_validity(model.precision, Phi, W, alpha)
    assert (found.valid, found.reason) == (True, "every spike's slabs stay below its share of the precision")


def log_likelihood(model, values, x):
    exact = exact_of(model, values)
    known = np.arange(exact.size) < model.visible
    rows = [exact.given(known, np.pad(row, (0, exact.size - model.visible))).log_z for row in x]
    return np.mean(rows) - exact.log_z


@pytest.mark.parametrize("name", ["pooled, two channels", "such, full"])
def test_gradient_of_the_likelihood(name):
    """Against differences of the oracle's likelihood, whose filters are unrolled by loops."""
    model = CASES[name]
    x = torch.randn(3, model.visible).double()
    double = dgm.ConvolutionalSpikeSlabRBM(**model.options()).double()
    double.load_state_dict(model.state_dict())
    (double.exact_log_partition() + double().free_energy(x).mean()).backward()
    values, step = parameters(double), 1e-5
    for parameter, array in values.items():
        gradient = dict(double.named_parameters())[parameter].grad
        entries = list(np.ndindex(array.shape))
        for index in entries[:: max(len(entries) // 4, 1)]:
            sides = []
            for sign in (1, -1):
                moved = array.copy()
                moved[index] += sign * step
                sides.append(log_likelihood(model, {**values, parameter: moved}, x.numpy()))
            expected = -(sides[0] - sides[1]) / (2 * step)
            assert float(gradient[index]) == pytest.approx(expected, abs=1e-6, rel=1e-5), (parameter, index)


def test_persistent_chains_have_the_exact_gradient():
    model = make(visible=6, shape=(2, 3), filters=1)
    x = torch.randn(20, 6)
    (model().free_energy(x).mean() + model.exact_log_partition()).backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    program = dgm.negative_phase(model.model, dgm.PCD(k=2, chains=500))

    def gradients(repeats):
        model.zero_grad()
        for _ in range(repeats):
            (Trace_ELBO(max_plate_nesting=1)(program, model.guide)(x) / (repeats * len(x))).backward()
        return {name: p.grad.clone() for name, p in model.named_parameters()}

    gradients(30)
    oracle.meets([gradients(10) for _ in range(12)], expected, 0.1)


@pytest.mark.parametrize("padding", ["valid", "full"])
def test_pictures_of_another_size(padding):
    """A spike sees the same in a crop, and its posterior is the same; the larger machine has a normaliser."""
    model = make(visible=16, filters=2, padding=padding, slabs=2)
    large = model.resized((7, 6))
    assert large.visible == 42
    assert not set(map(id, large.parameters())) & set(map(id, model.parameters()))
    for name, parameter in large.named_parameters():
        assert torch.equal(parameter, dict(model.named_parameters())[name])
    torch.testing.assert_close(large.alpha, model.alpha)
    x = torch.randn(5, 7, 6)
    whole = large.posterior(x.flatten(1)).unflatten(-1, large.maps)
    crop = model.posterior(x[:, 2:6, 1:5].flatten(1)).unflatten(-1, model.maps)
    if padding == "full":  # inner positions alone touch the crop and nothing else
        whole, crop = whole[..., 1:, 1:], crop[..., 1:-1, 1:-1]
    torch.testing.assert_close(whole[..., 2:5, 1:4], crop)
    (W, Phi), (_, _, alpha) = large._unrolled(), large._slabs()
    assert dgm.spike_slab_validity(large.precision, Phi, W, alpha).valid
    assert large.sample(3, sweeps=5).shape == (3, 42)
    same = model.resized((4, 4))
    torch.testing.assert_close(
        same().free_energy(x[:, :4, :4].flatten(1)), model().free_energy(x[:, :4, :4].flatten(1))
    )


def test_sizes_that_cannot_be():
    with pytest.raises(ValueError, match="tied=True"):
        make(visible=9, filters=1, tied=False).resized((4, 4))
    with pytest.raises(ValueError, match="expected 1 channels"):
        make(visible=9, filters=1).resized((3, 4, 4))
    with pytest.raises(ValueError, match="size got"):
        make(visible=9, filters=1).resized((1, 4))


def test_first_precisions_are_those_of_the_channels():
    x = torch.randn(500, 2, 9) * torch.tensor([0.5, 2.0]).unsqueeze(-1)
    model = dgm.ConvolutionalSpikeSlabRBM(18, filters=2, size=2, shape=(2, 3, 3))
    model.initialise(x.flatten(1))
    variance = x.var(0, correction=0)
    torch.testing.assert_close(model.precision.detach(), (1 / variance.mean(1)).repeat_interleave(9))
    untied = dgm.ConvolutionalSpikeSlabRBM(18, filters=2, size=2, shape=(2, 3, 3), tied=False)
    untied.initialise(x.flatten(1))
    torch.testing.assert_close(untied.precision.detach(), 1 / variance.flatten())


def test_training_finds_a_covariance_at_every_position():
    """Neighbours in a row are nearly equal: a diagonal Gaussian cannot say so, one filter for all positions can."""
    pairs = torch.randn(600, 3, 2).repeat_interleave(2, -1) + 0.2 * torch.randn(600, 3, 4)
    x = pairs.flatten(1)
    model = dgm.ConvolutionalSpikeSlabRBM(12, filters=1, size=(1, 2), shape=(3, 4))
    diagonal = torch.distributions.Normal(x.mean(0), x.std(0)).log_prob(x).sum(1).mean()
    dgm.fit(model, x, epochs=8, batch_size=100, learning_rate=0.05, progress=False, objective=model.objective(k=3))
    assert dgm.log_likelihood(model, x).value > float(diagonal) + 0.3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slabs": 0}, "slabs got 0"),
        ({"filters": 1.5}, "filters got 1.5"),
        ({"visible": -1}, "visible got -1"),
        ({"visible": 10}, "shape got None for 10 pixels"),
        ({"shape": (2, 5)}, r"shape got \(2, 5\) for 9 pixels"),
        ({"shape": (9,)}, "height and width"),
        ({"size": 4}, "size got 4"),
        ({"padding": "same"}, "'valid', 'full'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        dgm.ConvolutionalSpikeSlabRBM(**{"visible": 9, "filters": 2, "size": 2, **options})


@pytest.mark.parametrize("tied", [True, False])
def test_the_start_knows_no_unit_of_measurement(tied):
    """With slab precisions that only the certificate makes, spikes of fresh machines see rows and their multiples alike."""
    x = torch.randn(200, 18, generator=torch.Generator().manual_seed(2))
    found = []
    for factor in (1.0, 0.1):
        torch.manual_seed(0)
        model = dgm.ConvolutionalSpikeSlabRBM(18, filters=3, size=2, shape=(2, 3, 3), tied=tied)
        with torch.no_grad():
            model.log_slab.fill_(-30.0)
        model.initialise(factor * x)
        model.initialise(x)  # the second time nothing is fresh
        found.append(model.posterior(factor * x).detach())
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-4)
    assert found[0].std() > 0.01
