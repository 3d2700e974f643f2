"""KL terms and active units against closed forms and enumeration."""

import itertools
import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from PIL import Image
from pyro import poutine
from pyro.distributions.transforms import AffineTransform

import pyro_dgm as dgm
from pyro_dgm.evaluation.pictures import latent_bars

X = torch.tensor([[-1.0], [0.5], [2.0]])


def program(*sites, observe=False):
    """A Pyro program of named sites, each a function of the data and of the draws so far."""

    def run(x):
        drawn = {}
        with pyro.plate("data", len(x)):
            for name, make in sites:
                drawn[name] = pyro.sample(name, make(x.squeeze(-1), drawn))
            if observe:
                pyro.sample("x", dist.Normal(0.0, 1.0).expand([1]).to_event(1), obs=x)

    return run


def linear_gaussian():
    """x = W z + b + s noise with orthogonal columns of W, so that the posterior is diagonal; the guide is exact."""
    rng = np.random.default_rng(0)
    W = np.linalg.qr(rng.normal(size=(4, 2)))[0] * np.array([1.5, 0.7])
    b, s = rng.normal(size=4), 0.6
    variance = 1 / (1 + (W**2).sum(0) / s**2)
    gain = (variance / s**2)[:, None] * W.T
    vae = dgm.VAE(4, latent=2, hidden=(), output="gaussian").double()
    with torch.no_grad():
        vae.decoder[0].weight.copy_(torch.tensor(W))
        vae.decoder[0].bias.copy_(torch.tensor(b))
        vae.log_scale.fill_(math.log(s))
        vae.encoder[0].weight[:2] = torch.tensor(gain)
        vae.encoder[0].weight[2:] = 0
        vae.encoder[0].bias[:2] = torch.tensor(-gain @ b)
        vae.encoder[0].bias[2:] = torch.tensor(np.log(variance) / 2)
    return vae, W, b, s, gain, variance


def test_linear_gaussian_vae_has_closed_forms():
    vae, W, b, s, gain, variance = linear_gaussian()
    x = np.random.default_rng(1).normal(size=(50, 4))
    mean = (x - b) @ gain.T
    expected = 0.5 * (mean**2 + variance - 1 - np.log(variance)).mean(0)
    found = dgm.kl_per_latent(vae.model, vae.guide, torch.tensor(x), draws=3)["z"]
    assert found.method == "closed form"
    np.testing.assert_allclose(found.value, expected, rtol=1e-10)
    np.testing.assert_allclose([found.total, found.total_stderr], [expected.sum(), 0], atol=1e-10)
    # (20.77): with the posterior as guide, log p(x) is the reconstruction less the divergence.
    residual = x - b - mean @ W.T
    reconstruction = (
        (-0.5 * (residual**2).sum(1) - 0.5 * (W**2).sum(0) @ variance) / s**2
        - 4 * math.log(s)
        - 2 * math.log(2 * math.pi)
    )
    covariance = W @ W.T + s**2 * np.eye(4)
    centred = x - b
    log_p = (
        -0.5 * np.einsum("ni,ij,nj->n", centred, np.linalg.inv(covariance), centred)
        - 0.5 * np.linalg.slogdet(2 * math.pi * covariance)[1]
    )
    assert reconstruction.mean() - found.total == pytest.approx(log_p.mean(), abs=1e-10)
    activity = dgm.active_units(vae.model, vae.guide, torch.tensor(x), draws=3)["z"]
    np.testing.assert_allclose(activity.variance, np.diag(gain @ np.cov(x.T) @ gain.T), rtol=1e-10)
    assert activity.active.all()


def test_a_latent_that_is_ignored_carries_nothing():
    vae = linear_gaussian()[0]
    with torch.no_grad():
        vae.decoder[0].weight[:, 1] = 0
        vae.encoder[0].weight[1] = 0
        vae.encoder[0].bias[1] = 0
        vae.encoder[0].bias[3] = 0
    x = torch.randn(40, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    divergence = dgm.kl_per_latent(vae.model, vae.guide, x)["z"].value
    activity = dgm.active_units(vae.model, vae.guide, x)["z"]
    assert divergence[1] == 0
    assert divergence[0] > 0.5
    assert activity.active.tolist() == [True, False]
    assert activity.variance[1] == pytest.approx(0, abs=1e-12)
    everything = dgm.active_units(vae.model, vae.guide, x, threshold=1e9)["z"]
    assert not everything.active.any()


def enumerated(sbn, x):
    """Exact terms of every unit of a network with two latent layers, by the chain rule within a layer."""
    h = {n: torch.tensor(list(itertools.product((0.0, 1.0), repeat=n)), dtype=torch.float64) for n in sbn.hidden}
    h1, h2 = h[sbn.hidden[0]], h[sbn.hidden[1]]

    def units(s, logits, within):
        logits = logits if within is None else logits + s @ within.tril(-1).T
        return s * logits - torch.log1p(logits.exp())

    def inside(part, k):
        return getattr(sbn, part)[k] if sbn.autoregressive else None

    q1 = units(
        h1, sbn.recognition_biases[0] + (x @ sbn.recognition_weights[0])[:, None], inside("recognition_within", 0)
    )
    q2 = units(
        h2, sbn.recognition_biases[1] + (h1 @ sbn.recognition_weights[1])[:, None], inside("recognition_within", 1)
    )
    p1 = units(h1[:, None], sbn.biases[1] + h2 @ sbn.weights[1].T, inside("within", 1))  # h1 x h2 x units
    p2 = units(h2, sbn.biases[2], inside("within", 2))
    joint = (q1.sum(-1)[:, :, None] + q2.sum(-1)).exp()  # rows x h1 x h2
    first = torch.einsum("nab,nabi->i", joint, q1[:, :, None] - p1) / len(x)
    second = torch.einsum("nab,abi->i", joint, q2 - p2) / len(x)
    return {"hidden1": first, "hidden2": second}, joint, h1, h2


@pytest.mark.parametrize("autoregressive", [False, True])
def test_a_belief_network_against_enumeration(autoregressive):
    generator = torch.Generator().manual_seed(3)
    sbn = dgm.SBN(4, hidden=(3, 2), autoregressive=autoregressive).double()
    with torch.no_grad():
        for parameter in sbn.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        x = torch.randint(0, 2, (6, 4), generator=generator).double()
        exact, joint, h1, h2 = enumerated(sbn, x)
    pyro.set_rng_seed(0)
    found = dgm.kl_per_latent(sbn.model, sbn.guide, x, draws=3000)
    assert {name: entry.method for name, entry in found.items()} == {"hidden2": "closed form", "hidden1": "Monte Carlo"}
    for name, entry in found.items():
        # Ten figures in all: beyond five standard errors one of them lies with probability 6e-6.
        assert ((entry.value - exact[name]).abs() < 5 * entry.stderr + 1e-12).all(), name
        assert abs(entry.total - float(exact[name].sum())) < 5 * entry.total_stderr
        assert entry.stderr.max() < 0.05
    activity = dgm.active_units(sbn.model, sbn.guide, x, draws=3000)
    for name, means in (("hidden1", joint.sum(2) @ h1), ("hidden2", joint.sum(1) @ h2)):
        # The means' own errors are at most sqrt(1 / (4 draws)) = 0.009 a row, and the six rows' are independent.
        torch.testing.assert_close(activity[name].variance, means.var(0), atol=5 * 2 * 0.009 * 0.5 / 6**0.5, rtol=0)


def test_monte_carlo_agrees_with_the_closed_form():
    """The same guide written as a transformed normal, whose divergence is not known."""
    q = lambda x, z: dist.TransformedDistribution(dist.Normal(torch.zeros_like(x), 1.0), AffineTransform(0.4 * x, 0.5))  # noqa: E731
    plain = program(("z", lambda x, z: dist.Normal(0.4 * x, 0.5)))
    model = program(("z", lambda x, z: dist.Normal(0.0, 1.0)), observe=True)
    known = dgm.kl_per_latent(model, plain, X)["z"]
    expected = 0.5 * (0.16 * X.square().mean() + 0.25 - 1 - math.log(0.25))
    torch.testing.assert_close(known.value, expected.double(), rtol=1e-6, atol=0)
    pyro.set_rng_seed(1)
    found = dgm.kl_per_latent(model, program(("z", q)), X, draws=5000, rows=600)["z"]
    assert (known.method, found.method) == ("closed form", "Monte Carlo")
    # 4.4 standard errors: probability 1e-5. The error itself: log q - log p has variance E[(z^2 - e^2)^2] / 4 less than 1.
    assert abs(found.value - expected) < 4.4 * found.stderr
    assert 0 < found.stderr < 1 / (3 * 5000) ** 0.5


def test_a_guide_that_draws_upwards_gets_no_closed_form():
    r"""p(z1 | z2) sees a draw that comes after z1 in the guide, so KL(q(z1) || p(z1 | z2)) is not the term."""
    c, d, s, t, u = 0.8, 1.1, 0.5, 0.4, 0.9
    guide = program(("z1", lambda x, z: dist.Normal(0.7 * x, s)), ("z2", lambda x, z: dist.Normal(c * z["z1"], t)))
    model = program(
        ("z2", lambda x, z: dist.Normal(0.0, 1.0)), ("z1", lambda x, z: dist.Normal(d * z["z2"], u)), observe=True
    )
    second = (0.49 * X.square()).mean()
    moment = (1 - d * c) ** 2 * (s**2 + second) + (d * t) ** 2
    first = -0.5 - math.log(s) + math.log(u) + moment / (2 * u**2)
    above = 0.5 * (c**2 * (second + s**2) + t**2 - 1) - math.log(t)
    pyro.set_rng_seed(2)
    found = dgm.kl_per_latent(model, guide, X, draws=4000)
    assert found["z1"].method == "Monte Carlo"
    assert abs(found["z1"].value - first) < 4.4 * found["z1"].stderr
    assert abs(found["z2"].value - above) < 4.4 * found["z2"].stderr
    assert found["z1"].stderr < 0.02
    # The mean of z2 is c 0.7 x; the rows' noise c s / sqrt(draws) is taken off, and moves the variance by a few of
    # 2 sqrt(variance) c s / sqrt(draws rows).
    variance = float((c * 0.7 * X).var())
    many = dgm.active_units(model, guide, X, draws=4000)["z2"].variance
    assert abs(many - variance) < 5 * 2 * variance**0.5 * c * s / math.sqrt(4000 * 3)


def test_the_noise_of_few_draws_makes_no_unit_active():
    """Means of z2 that hang on a draw of z1 alone: their variance over rows is noise, and is taken off."""
    guide = program(("z1", lambda x, z: dist.Normal(0 * x, 1.0)), ("z2", lambda x, z: dist.Normal(z["z1"], 0.1)))
    model = program(
        ("z1", lambda x, z: dist.Normal(0.0, 1.0)), ("z2", lambda x, z: dist.Normal(z["z1"], 0.1)), observe=True
    )
    x = torch.zeros(1000, 1)
    pyro.set_rng_seed(0)
    found = dgm.active_units(model, guide, x, draws=4)["z2"]
    # Left in, it is 1/4; taken off, the figure's error is that of a variance over 1000 rows: (1/4) sqrt(2/999 + 2/3000).
    assert abs(found.variance) < 4.4 * 0.25 * (2 / 999 + 2 / 3000) ** 0.5


def test_joint_sites_masks_and_the_sum():
    """Masked rows of a recurrent model count as nothing, and all terms together are log q - log p."""
    vrnn, x = dgm.VariationalRNN.example()
    pyro.set_rng_seed(0)
    found = dgm.kl_per_latent(vrnn.model, vrnn.guide, x, draws=400)
    present = x.view(len(x), 4, 3)[..., 2]
    assert list(found) == [f"z{t + 1}" for t in range(int(present.sum(1).max()))]
    with torch.no_grad():
        one = dgm.kl_per_latent(vrnn.model, vrnn.guide, x[present[:, 1] > 0])["z1"]
        alone = dgm.kl_per_latent(vrnn.model, vrnn.guide, x[present[:, 1] == 0])["z1"]
    share = float(present[:, 1].mean())
    assert found["z1"].total == pytest.approx(share * one.total + (1 - share) * alone.total, abs=1e-6)
    assert "z2" not in dgm.kl_per_latent(vrnn.model, vrnn.guide, x[present[:, 1] == 0])
    whole = dgm.kl_per_latent(vrnn.model, vrnn.guide, x[present[:, 1] > 0], draws=2000)["z2"]
    error = math.hypot(found["z2"].total_stderr, share * whole.total_stderr)
    assert abs(found["z2"].total - share * whole.total) < 4.4 * error


def test_what_depends_within_a_site_has_one_figure():
    scale = torch.tensor([[1.0, 0.0], [0.5, 0.8]])
    guide = program(("z", lambda x, z: dist.MultivariateNormal(torch.stack([x, 0 * x], -1), scale_tril=scale)))
    model = program(("z", lambda x, z: dist.Normal(0.0, 1.0).expand([2]).to_event(1)), observe=True)
    found = dgm.kl_per_latent(model, guide, X, draws=4000)["z"]
    exact = 0.5 * (float(scale.square().sum()) + float(X.square().mean()) - 2) - math.log(0.8)
    assert found.value.shape == ()
    assert found.method == "Monte Carlo"
    assert abs(found.total - exact) < 4.4 * found.total_stderr
    activity = dgm.active_units(model, guide, X)["z"]
    torch.testing.assert_close(activity.variance, torch.tensor([float(X.var()), 0.0], dtype=torch.float64))
    assert len(latent_bars({"z": found}, {"z": activity}).axes[0].patches) == 1


def test_point_masses_keep_their_log_density():
    guide = program(("z", lambda x, z: dist.Delta(0.3 * x, log_density=1.7)))
    model = program(("z", lambda x, z: dist.Normal(0.0, 1.0)), observe=True)
    found = dgm.kl_per_latent(model, guide, X)["z"]
    expected = 1.7 - float(dist.Normal(0.0, 1.0).log_prob(0.3 * X).mean())
    assert found.total == pytest.approx(expected, rel=1e-6)


def outside(x):
    pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(0.0, 1.0).expand([1]).to_event(1), obs=x)


def masked(x):
    with poutine.mask(mask=x.squeeze(-1) > 0):
        return program(("z", lambda x, z: dist.Normal(x, 1.0)))(x)


def test_masked_rows_do_not_move():
    expected = float(X[1:].var())
    assert float(dgm.active_units(masked, masked, X)["z"].variance) == pytest.approx(expected)


@pytest.mark.parametrize("rows", [0, 1])
def test_fewer_than_two_rows_have_no_variance_and_no_warning(rows, recwarn):
    x = -X.abs()
    x[:rows] *= -1
    found = dgm.active_units(masked, masked, x)["z"]
    assert bool(found.variance.isnan().all())
    assert not bool(found.active.any())
    assert not recwarn


def test_bad_input_is_refused():
    model, guide = (program(("z", lambda x, z: dist.Normal(0.0, 1.0)), observe=observe) for observe in (True, False))
    for function in (dgm.kl_per_latent, dgm.active_units):
        with pytest.raises(ValueError, match="draws got 1; expected at least 2"):
            function(model, guide, X, draws=1)
        with pytest.raises(ValueError, match="'z' is not in the data plate"):
            function(outside, lambda x: pyro.sample("z", dist.Normal(0.0, 1.0)), X)
        with pytest.raises(ValueError, match="'z' is masked in one way"):
            function(model, masked, X)
        with pytest.raises(ValueError, match="lacks the model's latent sites"):
            function(model, lambda x: None, X)
    with pytest.raises(ValueError, match="x got 1 rows"):
        dgm.active_units(model, guide, X[:1])


def test_bars(tmp_path):
    vae, x = dgm.HierarchicalVAE.example()
    divergences = dgm.kl_per_latent(vae.model, vae.guide, x)
    activities = dgm.active_units(vae.model, vae.guide, x)
    axes = latent_bars(divergences, activities, path=tmp_path / "latents.png").axes[0]
    heights = [bar.get_height() for bar in axes.patches]
    first = sorted(divergences["z2"].value.tolist(), reverse=True)
    assert heights[:2] == pytest.approx(first)
    assert len(heights) == 5
    filled = [bar.get_facecolor()[:3] != (1.0, 1.0, 1.0) for bar in axes.patches]
    assert sum(filled) == sum(int(entry.active.sum()) for entry in activities.values())
    with Image.open(tmp_path / "latents.png") as image:
        assert image.width > 100
    with pytest.raises(ValueError, match="expected the site 'z2'"):
        latent_bars(divergences, {"z1": activities["z1"]})
    with pytest.raises(ValueError, match="no site"):
        latent_bars({})
    with pytest.raises(ValueError, match="have 3 units; expected 2"):
        latent_bars(divergences, {"z1": activities["z1"], "z2": activities["z1"]})
