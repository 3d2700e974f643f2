"""Logistic output and convolutional bodies of the VAE, hierarchical and conditional VAEs, against exact answers."""

import itertools
import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from oracles import boltzmann as oracle
from pyro.infer import SVI
from pyro.optim import Adam
from scipy import signal, special, stats
from scipy.integrate import trapezoid
from torch import nn
from torch.distributions import MultivariateNormal

import pyro_dgm as dgm
from pyro_dgm.distributions.discretised_logistic import DiscretisedLogistic
from pyro_dgm.distributions.given_rows import GivenRows
from pyro_dgm.models.directed.conditional_vae import ConditionalVAE
from pyro_dgm.models.directed.hierarchical_vae import HierarchicalVAE
from pyro_dgm.nets.bodies import Convolutions, TransposedConvolutions, picture_sizes
from pyro_dgm.train import load


def grid(levels):
    return torch.arange(levels) / (levels - 1)


def widen(encoder, width):
    """Make q wide enough for importance weights without heavy tails; it still depends on its input."""
    with torch.no_grad():
        encoder[-1].weight.mul_(0.2)
        encoder[-1].bias.copy_(torch.tensor([0.0, math.log(width)]))


# Discretised logistic


@pytest.mark.parametrize("levels", [2, 3, 17, 256])
def test_log_probabilities_are_differences_of_scipys_distribution_function(levels):
    location, scale = torch.tensor([-0.3, 0.02, 0.5, 1.4]).double(), torch.tensor([0.05, 0.3, 0.01, 0.2]).double()
    x = grid(levels).double()
    edges = (np.arange(1, levels) - 0.5) / (levels - 1)
    below = stats.logistic.cdf(edges[:, None], location.numpy(), scale.numpy())
    p = np.diff(np.concatenate([np.zeros((1, 4)), below, np.ones((1, 4))]), axis=0)
    found = DiscretisedLogistic(location, scale, levels).log_prob(x[:, None]).exp()
    # Differences of the distribution function carry an absolute error of some 1e-16.
    np.testing.assert_allclose(found.numpy(), p, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("levels", [2, 256])
def test_probabilities_sum_to_one_in_single_precision(levels):
    """Over scales from a thousandth of a level to a hundred times the range, inside the range and far outside of it."""
    location, scale = torch.meshgrid(
        torch.tensor([-5.0, 0.0, 0.123, 0.5, 1.0, 3.0]), torch.tensor([1e-5, 1e-3, 0.1, 1.0, 100.0]), indexing="ij"
    )
    log_p = DiscretisedLogistic(location, scale, levels).log_prob(grid(levels).view(-1, 1, 1))
    assert log_p.isfinite().all()
    assert (log_p <= 0).all()
    # 256 terms, each with an argument's rounding error of up to 1e-7 (location in [-5, 3]) over the scale.
    torch.testing.assert_close(log_p.exp().sum(0), torch.ones_like(scale), atol=1e-4, rtol=0)


def test_far_tails_and_their_gradients_are_finite():
    """Where the distribution function's difference underflows, log P = -|distance| / s to first order."""
    location = torch.tensor([10.0, -10.0], requires_grad=True)
    log_scale = torch.tensor([-5.0, -5.0], requires_grad=True)
    value = DiscretisedLogistic(location, log_scale.exp()).log_prob(torch.tensor([0.0, 1.0]))
    value.sum().backward()
    torch.testing.assert_close(value, torch.tensor([-10.0, -11.0]) * math.exp(5), atol=1.0, rtol=0)
    torch.testing.assert_close(location.grad, torch.tensor([-1.0, 1.0]) * math.exp(5))
    assert log_scale.grad.isfinite().all()


def test_draws_mean_and_expand_follow_the_probabilities():
    location, scale, levels, n = torch.tensor([0.1, 0.6, 1.3]), torch.tensor([0.2, 0.05, 0.3]), 7, 50_000
    law = DiscretisedLogistic(location, scale, levels)
    p = law.log_prob(grid(levels)[:, None]).exp().double().numpy()
    drawn = law.sample((n,))
    assert law.support.check(drawn).all()
    for column in range(3):
        found = np.bincount((drawn[:, column] * 6).round().long().numpy(), minlength=levels) / n
        assert 0.5 * abs(found - p[:, column]).sum() < oracle.total_variation_bound(p[:, column], n)
    np.testing.assert_allclose(law.mean.numpy(), grid(levels).double().numpy() @ p, atol=1e-6)
    wide = law.expand((4, 3))
    assert type(wide) is DiscretisedLogistic
    assert wide.levels == levels
    assert wide.sample((2,)).shape == (2, 4, 3)
    torch.testing.assert_close(wide.log_prob(drawn[:4]), law.log_prob(drawn[:4]))


def test_bytes_over_255_are_grey_levels_and_others_are_refused():
    x = torch.arange(256, dtype=torch.uint8).float().div_(255)
    vae = dgm.VAE(256, latent=1, hidden=(), output="logistic")
    vae.check_data(x[None])
    law = DiscretisedLogistic(torch.zeros(()), 0.1, validate_args=True)
    assert law.log_prob(x).isfinite().all()
    for bad, message in ((x[None] + 0.002, "grey level, k / 255"), (x[None] - 0.5, "output='gaussian'")):
        with pytest.raises(ValueError, match=message):
            vae.check_data(bad)
        with pytest.raises(ValueError, match="support"):
            law.log_prob(bad)
    with pytest.raises(ValueError, match="invalid values"):
        DiscretisedLogistic(torch.zeros(2), -torch.ones(2), validate_args=True)
    with pytest.raises(ValueError, match="levels got 1"):
        DiscretisedLogistic(torch.zeros(2), 1.0, levels=1)


# VAE: grey levels, convolutions


def test_the_grey_vaes_bound_against_quadrature():
    """One latent: p(x) by the trapezoidal rule over z, with scipy's distribution function."""
    vae = dgm.VAE(3, latent=1, hidden=(4,), output="logistic", levels=5).double()
    with torch.no_grad():
        vae.decoder[-1].bias.add_(0.4)
        vae.log_scale.copy_(torch.tensor([-1.0, -2.0, -1.5]))
    x = grid(5)[torch.randint(0, 5, (20, 3))].double()
    z = np.linspace(-8, 8, 2001)
    first, last = (tuple(p.detach().numpy() for p in vae.decoder[k].parameters()) for k in (0, 2))
    m = np.tanh(z[:, None] @ first[0].T + first[1]) @ last[0].T + last[1]
    s = vae.log_scale.detach().exp().numpy()
    upper = np.where(x == 1, np.inf, x + 0.125)[:, None]
    lower = np.where(x == 0, -np.inf, x - 0.125)[:, None]
    p = np.prod(stats.logistic.cdf((upper - m) / s) - stats.logistic.cdf((lower - m) / s), -1)
    exact = np.log(trapezoid(p * stats.norm.pdf(z), z)).mean()
    figure = dgm.log_likelihood(vae, x, particles=5000)
    assert figure.stderr_estimator < 0.02
    # Six standard errors, and the bound's own gap, which is of the order of the variance over K.
    assert abs(figure.value - exact) < 6 * figure.stderr_estimator + 0.002


def test_grey_vae_starts_at_the_columns_and_learns(tmp_path):
    x = (0.5 + 0.3 * torch.randn(150, 1) * torch.tensor([1.0, 1, -1, -1]) + 0.02 * torch.randn(150, 4)).clamp(0, 1)
    x = (x * 255).round() / 255
    vae = dgm.VAE(4, latent=1, hidden=(10,), output="logistic", activation="relu")
    vae.initialise(x)
    mean = DiscretisedLogistic(vae.decoder[-1].bias, vae.log_scale.exp()).mean
    torch.testing.assert_close(mean, x.mean(0), atol=0.05, rtol=0)
    before = dgm.log_likelihood(vae, x, particles=50).value
    dgm.fit(vae, x, epochs=30, batch_size=20, learning_rate=0.02, progress=False, out=tmp_path / "run")
    after = dgm.log_likelihood(vae, x, particles=50).value
    assert before + 2 < after < 0
    again = load(tmp_path / "run")
    assert again.options() == vae.options()
    assert {"levels", "output"} < set(again.options())
    filled = vae.impute(x[:3], torch.tensor([True, True, False, False]), draws=10)
    assert ((filled >= 0) & (filled <= 1)).all()


def test_the_recipes_network_and_its_random_numbers_stay():
    """Linear layers in order, nothing drawn between them: as bare torch makes them."""
    torch.manual_seed(0)
    vae = dgm.VAE(784, latent=50, hidden=[200, 200], activation="tanh")
    torch.manual_seed(0)
    sizes = [(784, 200), (200, 200), (200, 100), (50, 200), (200, 200), (200, 784)]
    bare = [p for m, n in sizes for p in nn.Linear(m, n).parameters()]
    assert all(torch.equal(p, q) for p, q in zip(vae.parameters(), bare, strict=True))
    assert list(vae.options()) == ["visible", "latent", "hidden", "output", "activation"]


@pytest.mark.parametrize("shape", [(28, 28), (5, 7), (1, 3), (3, 6, 9), (2, 1, 1)])
@pytest.mark.parametrize("channels", [(2,), (3, 4), (2, 3, 2)])
def test_bodies_fit_all_sides_and_leading_dimensions(shape, channels):
    down, up = Convolutions(shape, channels), TransposedConvolutions(shape, channels)
    assert down.features == up.features == math.prod(picture_sizes(shape, channels)[-1])
    x = torch.randn(4, 2, math.prod(shape))
    features = down(x)
    assert features.shape == (4, 2, down.features)
    assert up(features).shape == x.shape
    assert up(features[0, 0]).shape == x.shape[-1:]
    torch.testing.assert_close(down(x[1]), features[1])
    torch.testing.assert_close(up(features[1]), up(features)[1])
    assert down(x[:0]).shape == (0, 2, down.features)


def test_convolution_against_scipy():
    body = Convolutions((5, 6), (2,), "tanh").double()
    x = torch.randn(3, 30).double()
    weight, bias = (p.detach().numpy() for p in body.parameters())
    expected = [
        np.tanh([signal.correlate2d(row.reshape(5, 6), w[0], "same")[::2, ::2] + b for w, b in zip(weight, bias, strict=True)])
        for row in x.numpy()
    ]  # fmt: skip
    np.testing.assert_allclose(body(x).detach().numpy(), np.array(expected).reshape(3, -1), rtol=1e-10)


@pytest.mark.parametrize("shape", [(5, 6), (2, 7, 4)])
def test_transposed_convolution_is_the_transpose(shape):
    """With the same weights <C x, f> = <x, T f>."""
    down, up = Convolutions(shape, (3,)).double(), TransposedConvolutions(shape, (3,)).double()
    with torch.no_grad():
        down.layers[0].bias.zero_()
        up.layers[0].weight.copy_(down.layers[0].weight)
    x, f = torch.randn(math.prod(shape)).double(), torch.randn(down.features).double()
    image = down.layers[0](x.view(1, *down.shape)).flatten()
    torch.testing.assert_close(image @ f, x @ up(f))


@pytest.mark.parametrize("output", ["binary", "gaussian", "logistic"])
def test_convolutional_vae_trains_and_keeps_its_promises(output, tmp_path):
    """Bars in 5x7 pictures: the bound rises, every parameter moves, particles are vectorised, a run loads again."""
    x = torch.zeros(200, 5, 7)
    x[torch.arange(200), torch.randint(0, 5, (200,))] = 1
    x = x.flatten(1)
    vae = dgm.VAE(
        35,
        2,
        (),
        output,
        levels=2 if output == "logistic" else None,
        body="convolutional",
        shape=[5, 7],
        channels=[8, 8],
    )
    before = {n: p.detach().clone() for n, p in vae.named_parameters()}
    vae.initialise(x)
    start = dgm.log_likelihood(vae, x, particles=10).value
    dgm.fit(vae, x, epochs=5, batch_size=10, learning_rate=0.02, progress=False, out=tmp_path / "run")
    assert dgm.log_likelihood(vae, x, particles=10).value > start + 3
    assert not any(torch.equal(p, before[n]) for n, p in vae.named_parameters())
    assert dgm.log_weights(vae.model, vae.guide, x, particles=3).shape == (3, 200)
    again = load(tmp_path / "run")
    z = torch.randn(3, 2)
    assert torch.equal(vae.decode(z), again.decode(z))
    assert again.double().sample(2).dtype == torch.float64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"body": "recurrent"}, "dense, convolutional"),
        ({"channels": (8,)}, "channels got .* with body='dense'"),
        ({"output": "gaussian", "levels": 16}, "levels got 16 with output='gaussian'"),
        ({"body": "convolutional"}, "shape got None"),
        ({"shape": (2, 3)}, "body='convolutional'"),
        ({"body": "convolutional", "shape": (2, 2)}, "4 pixels; expected 6"),
        ({"body": "convolutional", "shape": (6,)}, "height and width"),
        ({"body": "convolutional", "shape": 6}, "height and width"),
        ({"body": "convolutional", "shape": (2, 3), "channels": ()}, "channels got"),
        ({"body": "convolutional", "shape": (2, 3), "channels": (0,)}, "channels got"),
        ({"body": "convolutional", "shape": (2, 3), "activation": "gelu"}, "activation got"),
        ({"output": "logistic", "levels": 1}, "levels got 1"),
        ({"hidden": 5}, "every hidden layer"),
        ({"visible": 0}, "visible got 0"),
        ({"visible": -1, "output": "gaussian"}, "visible got -1"),
    ],
)
def test_bad_options_of_the_vae(options, message):
    with pytest.raises(ValueError, match=message):
        dgm.VAE(**{"visible": 6, **options})


@pytest.mark.parametrize("cls", [dgm.VAE, HierarchicalVAE, ConditionalVAE])
def test_bounds_of_that_name(cls):
    vae, x = cls.example()
    losses = {}
    for bound in ("elbo", "iwae", "dreg"):
        pyro.set_rng_seed(0)
        objective = vae.objective(bound, particles=4)
        objective.attach(vae)
        losses[bound] = objective.loss(x).item()
        assert objective.options()["particles"] == 4
    assert losses["iwae"] == pytest.approx(losses["dreg"], rel=1e-5)
    with pytest.raises(ValueError, match="expected one of elbo, iwae, dreg"):
        vae.objective("evidence")


# Hierarchical VAE


def linear_chain(layers=3, visible=4):
    """Affine networks and one latent a layer: (model with the exact posterior as its guide, p(x))."""
    g = torch.Generator().manual_seed(4)
    vae = HierarchicalVAE(visible, latent=(1,) * layers, hidden=(1,) * layers, depth=0, output="gaussian").double()
    oracle.randomise(vae, g, 0.6)
    mean, variance = torch.zeros(1).double(), torch.ones(1, 1).double()
    with torch.no_grad():
        for layer in range(layers - 1, -1, -1):
            net = vae.decoder[0] if layer == 0 else vae.priors[layer - 1][0]
            weight, bias = net.weight, net.bias
            noise = (2 * vae.log_scale).exp()
            if layer:
                weight[1].zero_()
                weight, bias, noise = weight[:1], bias[:1], (2 * bias[1:]).exp()
            # p(above | below) of a linear-Gaussian pair.
            below = weight @ mean + bias
            spread = weight @ variance @ weight.T + torch.diag(noise)
            gain = torch.linalg.solve(spread, weight @ variance).T
            left = variance - gain @ weight @ variance
            up = vae.encoders[layer][0]
            up.weight.copy_(torch.cat([gain, torch.zeros_like(gain)]))
            up.bias.copy_(torch.cat([mean - gain @ below, 0.5 * left.log().view(1)]))
            mean, variance = below, spread
    return vae, MultivariateNormal(mean, variance)


def test_with_the_exact_posterior_every_weight_is_the_evidence():
    vae, marginal = linear_chain()
    x = marginal.sample((6,))
    exact = marginal.log_prob(x)
    weights = dgm.log_weights(vae.model, vae.guide, x, particles=3).detach()
    torch.testing.assert_close(weights, exact.expand(3, 6))
    for bound in ("elbo", "iwae", "dreg"):
        objective = vae.objective(bound)
        objective.attach(vae)
        assert objective.loss(x).item() == pytest.approx(-float(exact.mean()))


def test_draws_of_a_linear_chain_have_its_moments():
    vae, marginal = linear_chain()
    n = 100_000
    x = vae.sample(n)
    spread = marginal.covariance_matrix
    # Six standard errors of a mean, and of a covariance: sqrt((s_ii s_jj + s_ij^2) / n).
    assert ((x.mean(0) - marginal.mean).abs() < 6 * (spread.diagonal() / n).sqrt()).all()
    error = ((spread.diagonal()[:, None] * spread.diagonal() + spread**2) / n).sqrt()
    assert ((x.T.cov() - spread).abs() < 6 * error).all()


def test_hierarchical_bound_against_quadrature():
    """Two scalar layers with tanh networks: p(x) by the trapezoidal rule over both, in NumPy."""
    vae = HierarchicalVAE(4, latent=(1, 1), hidden=(3, 2), depth=2).double()
    oracle.randomise(vae, torch.Generator().manual_seed(1), 0.8)
    for encoder, width in zip(vae.encoders, (2.0, 1.2), strict=True):
        widen(encoder, width)
    x = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4))).double()

    def net(module, value):
        layers = [layer for layer in module if isinstance(layer, nn.Linear)]
        for number, layer in enumerate(layers):
            value = value @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
            value = np.tanh(value) if number < len(layers) - 1 else value
        return value

    z2 = np.linspace(-8, 8, 401)
    m, log_s = net(vae.priors[0], z2[:, None]).T
    z1 = np.linspace((m - 8 * np.exp(log_s)).min(), (m + 8 * np.exp(log_s)).max(), 2001)
    density = trapezoid(
        stats.norm.pdf(z1, m[:, None], np.exp(log_s)[:, None]) * stats.norm.pdf(z2)[:, None], z2, axis=0
    )
    logits = net(vae.decoder, z1[:, None])
    p = np.exp(x.numpy() @ special.log_expit(logits).T + (1 - x.numpy()) @ special.log_expit(-logits).T)
    exact = trapezoid(p * density, z1, axis=1)
    assert exact.sum() == pytest.approx(1, abs=1e-6)
    low, high = (dgm.log_likelihood(vae, x, particles=k) for k in (2, 5000))
    assert high.stderr_estimator < 0.02
    # Six standard errors, and the bound's own gap, of the order of the error's square.
    assert abs(high.value - np.log(exact).mean()) < 6 * high.stderr_estimator + 0.002
    assert low.value < high.value
    n = 50_000
    found = np.bincount((vae.sample(n).numpy() @ np.array([8, 4, 2, 1])).astype(int), minlength=16) / n
    assert 0.5 * abs(found - exact).sum() < oracle.total_variation_bound(exact, n)


def test_hierarchical_default_and_parts(tmp_path):
    vae = HierarchicalVAE(20)
    assert vae.objective().options() == {"objective": "Elbo", "elbo": "IWAE", "particles": 5}
    assert [tuple(layer.weight.shape) for layer in vae.encoders[1] if isinstance(layer, nn.Linear)] == [
        (100, 100), (100, 100), (100, 100),
    ]  # fmt: skip
    small, x = HierarchicalVAE.example()
    dgm.fit(small, x, epochs=1, progress=False, out=tmp_path / "run")
    assert load(tmp_path / "run").options() == small.options()
    with pytest.raises(ValueError, match="needs data"):
        small.guide()
    for options, message in (
        ({"latent": ()}, "latent got"), ({"latent": 3}, "latent got"), ({"hidden": (5, 0)}, "hidden got"),
        ({"latent": (3,)}, "as many"), ({"depth": -1}, "depth got"), ({"output": "poisson"}, "output got"),
        ({"activation": "gelu"}, "activation got"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            HierarchicalVAE(6, **options)


# Conditional VAE


def linear_classes(visible=4, classes=3):
    """Affine networks and one latent: (model with the exact posterior as its guide, p(x | y) of every class)."""
    vae = ConditionalVAE(visible, classes, latent=1, hidden=(), output="gaussian").double()
    oracle.randomise(vae, torch.Generator().manual_seed(2), 0.7)
    with torch.no_grad():
        W, V = vae.decoder[0].weight.split([1, classes], 1)
        noise = torch.diag((2 * vae.log_scale).exp())
        spread = W @ W.T + noise
        gain = torch.linalg.solve(spread, W).T
        nothing = torch.zeros(1, visible + classes).double()
        vae.encoder[0].weight.copy_(torch.cat([torch.cat([gain, -gain @ V], 1), nothing]))
        left = 0.5 * (1 - gain @ W).log().view(1)
        vae.encoder[0].bias.copy_(torch.cat([-gain @ vae.decoder[0].bias, left]))
        means = (vae.decoder[0].bias[:, None] + V).T.clone()
        return vae, MultivariateNormal(means, spread.expand(classes, visible, visible))


def test_conditional_weights_are_log_p_of_x_given_y():
    vae, laws = linear_classes()
    label = torch.tensor([0, 1, 2, 2, 1])
    x = laws.sample()[label]
    rows = torch.cat([x, torch.eye(3).double()[label]], 1)
    exact = laws.log_prob(x[:, None])
    weights = dgm.log_weights(vae.model, vae.guide, rows, particles=3).detach()
    torch.testing.assert_close(weights, exact[torch.arange(5), label].expand(3, 5))
    figure = dgm.log_likelihood(vae, rows, particles=10)
    assert figure.given == "the label"
    assert "given the label" in str(figure)
    assert figure.value == pytest.approx(float(exact[torch.arange(5), label].mean()))
    for given in (x, rows):
        torch.testing.assert_close(vae.predict_proba(given, particles=2), exact.softmax(1))


def test_classes_have_the_probabilities_of_enumerated_rows():
    """Bits and one latent: p(x | y) by quadrature in NumPy, summed to one over all rows, then Bayes's rule."""
    vae = ConditionalVAE(3, 2, latent=1, hidden=(4,)).double()
    oracle.randomise(vae, torch.Generator().manual_seed(3), 0.9)
    widen(vae.encoder, 1.2)
    x = torch.tensor(list(itertools.product((0.0, 1.0), repeat=3))).double()
    z = np.linspace(-8, 8, 2001)
    first, last = (tuple(p.detach().numpy() for p in vae.decoder[k].parameters()) for k in (0, 2))
    p = []
    for y in range(2):
        hidden = np.tanh(z[:, None] * first[0][:, 0] + first[0][:, 1 + y] + first[1])
        logits = hidden @ last[0].T + last[1]
        bits = np.exp(x.numpy() @ special.log_expit(logits).T + (1 - x.numpy()) @ special.log_expit(-logits).T)
        p.append(trapezoid(bits * stats.norm.pdf(z), z, axis=1))
    p = np.stack(p, 1)
    np.testing.assert_allclose(p.sum(0), 1, atol=1e-8)
    found = vae.predict_proba(x, particles=20_000).numpy()
    rows = torch.cat([x, torch.tensor([[1.0, 0.0]]).double().expand(8, 2)], 1)
    weights = dgm.log_weights(vae.model, vae.guide, rows, particles=20_000).detach().softmax(0)
    # A probability moves by at most a quarter of the log-odds' error; both classes have weights of about this spread.
    error = float((weights.square().sum(0).max() * 2).sqrt()) / 4
    assert error < 0.01
    np.testing.assert_allclose(found, p / p.sum(1, keepdims=True), atol=6 * error)


def test_draws_of_a_class_have_its_moments():
    vae, laws = linear_classes()
    n = 50_000
    for y in range(3):
        rows = vae.sample(n, labels=y)
        assert (rows[:, 4:] == torch.eye(3).double()[y]).all()
        tolerance = 6 * (laws.variance[y] / n).sqrt()
        assert ((rows[:, :4].mean(0) - laws.mean[y]).abs() < tolerance).all()
    given = torch.tensor([2, 0, 1])
    assert torch.equal(vae.sample(3, labels=given)[:, 4:].argmax(1), given)
    counts = vae.sample(n)[:, 4:].sum(0)
    assert ((counts - n / 3).abs() < 6 * math.sqrt(n * 2 / 9)).all()
    for bad in (3, -1, 0.5, torch.zeros(4).long(), torch.zeros(3)):
        with pytest.raises(ValueError, match="integers from 0 to 2"):
            vae.sample(3, labels=bad)


def test_with_one_class_it_is_the_vae():
    """The same weights, with the label's columns moved into the biases: the same importance weights, draw by draw."""
    vae, x = dgm.VAE.example()
    other = ConditionalVAE(6, classes=1, latent=2, hidden=(5,))
    with torch.no_grad():
        for mine, theirs in ((other.encoder, vae.encoder), (other.decoder, vae.decoder)):
            mine[0].weight.copy_(torch.cat([theirs[0].weight, torch.full((5, 1), 0.7)], 1))
            mine[0].bias.copy_(theirs[0].bias - 0.7)
            mine[2].load_state_dict(theirs[2].state_dict())
    found = []
    for model, rows in ((vae, x), (other, torch.cat([x, torch.ones(10, 1)], 1))):
        pyro.set_rng_seed(0)
        found.append(dgm.log_weights(model.model, model.guide, rows, particles=5))
    torch.testing.assert_close(*found)
    pyro.set_rng_seed(0)
    elbo = SVI(vae.model, vae.guide, Adam({}), dgm.IWAE(1)).evaluate_loss(x)
    pyro.set_rng_seed(0)
    assert dgm.IWAE(1).loss(other.model, other.guide, torch.cat([x, torch.ones(10, 1)], 1)) == pytest.approx(
        elbo, rel=1e-5
    )
    torch.testing.assert_close(other.predict_proba(x), torch.ones(10, 1))


def test_trained_classes_differ(tmp_path):
    """Three patterns with 5 % noise: draws of a class are of its pattern, and rows are put into their class."""
    patterns = torch.tensor([[1.0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1], [1, 0, 1, 0, 1, 0]])
    label = torch.randint(0, 3, (400,))
    x = patterns[label]
    rows = torch.cat([torch.where(torch.rand_like(x) < 0.05, 1 - x, x), torch.eye(3)[label]], 1)
    vae = ConditionalVAE(6, classes=3, latent=2, hidden=(10,))
    dgm.fit(vae, rows, epochs=20, batch_size=20, learning_rate=0.02, progress=False, out=tmp_path / "run")
    for y in range(3):
        assert (vae.sample(500, labels=y)[:, :6].mean(0) - patterns[y]).abs().max() < 0.15
    # Bayes's rule with the true patterns, as often right as its posterior says on average.
    flips = (rows[:, None, :6] != patterns).sum(-1)
    best = (flips * math.log(0.05) + (6 - flips) * math.log(0.95)).softmax(1)
    found = vae.predict_proba(rows)
    assert found[torch.arange(400), label].log().mean() > best[torch.arange(400), label].log().mean() - 0.05
    assert (found.argmax(1) == best.argmax(1)).float().mean() > 0.9
    again = load(tmp_path / "run")
    assert again.options() == vae.options()
    noise = -6 * (0.05 * math.log(0.05) + 0.95 * math.log(0.95))
    assert dgm.log_likelihood(again, rows, particles=100).value > -noise - 0.3


def test_imputation_without_a_label_follows_the_mixture():
    """Two known columns, an unknown label: the exact posterior of the class and the mean of the mixture's conditional."""
    vae, laws = linear_classes()
    x = laws.sample()[:1]
    S, means = laws.covariance_matrix[0], laws.mean
    known = torch.tensor([True, True, False, False, False, False, False])
    ahead = MultivariateNormal(means[:, :2], S[:2, :2].expand(3, 2, 2))
    p = ahead.log_prob(x[:, :2]).softmax(0)
    each = means[:, 2:] + (torch.linalg.solve(S[:2, :2], S[:2, 2:]).T @ (x[0, :2] - means[:, :2])[..., None])[..., 0]
    rows = torch.cat([x, torch.zeros(1, 3).double()], 1).expand(300, 7)
    found = vae.impute(rows, known, draws=200)
    assert torch.equal(found[:, :2], rows[:, :2])
    # The chains are independent: six standard errors of the mean over them.
    tolerance = 6 * found[:, 2:].std(0) / math.sqrt(300)
    assert tolerance.max() < 0.08
    assert ((found[:, 2:].mean(0) - torch.cat([p @ each, p])).abs() < tolerance).all()


def test_known_parts_of_a_label_are_kept_and_must_be_of_a_class():
    vae, laws = linear_classes()
    rows = torch.cat([laws.sample()[:2], torch.tensor([[0.0, 1, 0], [0, 0, 0]]).double()], 1)
    known = torch.tensor([[True] * 4 + [False, True, False], [True] * 4 + [True, False, False]])
    filled = vae.impute(rows, known, draws=25)
    assert filled[0, 4:].tolist() == [0, 1, 0]
    assert filled[1, 4] == 0
    assert float(filled[1, 4:].sum()) == pytest.approx(1)
    with pytest.raises(ValueError, match="fit no class"):
        vae.impute(rows, torch.ones(7, dtype=torch.bool))
    with pytest.raises(ValueError, match="draws got 1"):
        vae.impute(rows, known, draws=1)


def test_conditional_sites_and_labels():
    vae, x = ConditionalVAE.example()
    with_rows = pyro.poutine.trace(vae.model).get_trace(x)
    without = pyro.poutine.trace(vae.model).get_trace(None, 4)
    assert "label" not in with_rows.nodes
    assert torch.equal(without.nodes["label"]["value"], without.nodes["x"]["value"][:, 5:])
    law = GivenRows(dist.Bernoulli(torch.full((2, 3), 0.5)).to_event(1), torch.eye(2))
    good = torch.cat([torch.ones(2, 3), torch.eye(2)], 1)
    torch.testing.assert_close(law.log_prob(good), torch.full((2,), 3 * math.log(0.5)))
    with pytest.warns(UserWarning, match="2 of 2 rows have probability zero"):
        assert (law.log_prob(good[[1, 0]]) == -torch.inf).all()
    assert law.expand((4, 2)).sample().shape == (4, 2, 5)
    swapped = x.clone()
    swapped[0, 5:] = 1.0
    with pytest.raises(ValueError, match="one-hot"):
        vae.check_data(swapped)
    with pytest.raises(ValueError, match="needs data"):
        vae.guide()
    for options, message in (
        ({"classes": 0}, "classes got"), ({"classes": 2.0}, "classes got"), ({"latent": 0}, "latent got"),
        ({"hidden": 3}, "every hidden layer"), ({"visible": 0}, "visible got"), ({"output": "poisson"}, "output"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            ConditionalVAE(**{"visible": 4, **options})
    for bad, message in ((x[:, :4], "expected rows"), (x[:, :5] * 0.5, "binarisation"), (x[:0, :5], "empty")):
        with pytest.raises(ValueError, match=message):
            vae.predict_proba(bad)
    with pytest.raises(ValueError, match="particles got 0"):
        vae.predict_proba(x, particles=0)
