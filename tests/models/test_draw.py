"""DRAW against loops written from the paper's equations in NumPy, quadrature and closed forms."""

import math

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from pyro.optim import Adam
from scipy import stats
from scipy.special import expit, logsumexp

import pyro_dgm as dgm
from pyro_dgm.inference.importance import traces
from pyro_dgm.models.directed.draw import DRAW
from pyro_dgm.nets.attention import Window, filterbank
from pyro_dgm.nets.recurrent import Cell, State


def build(attention=(2, 3), shape=(3, 4), steps=3, latent=2, hidden=5, scale=0.5, seed=1):
    """A double-precision DRAW with random parameters, and data for it."""
    g = torch.Generator().manual_seed(seed)
    draw = DRAW(math.prod(shape), shape=shape, steps=steps, latent=latent, hidden=hidden, attention=attention).double()
    with torch.no_grad():
        for parameter in draw.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=g))
    return draw, torch.randint(0, 2, (6, math.prod(shape)), generator=g).double()


def inputs_weight(p, name):
    """A cell's weights of all parts of its input, side by side."""
    return np.hstack([p[f"{name}.parts.{k}.weight"] for k in range(3) if f"{name}.parts.{k}.weight" in p])


class ByHand:
    """One picture at a time, one filter at a time."""

    def __init__(self, draw):
        self.p = {name.removeprefix("network."): p.detach().numpy() for name, p in draw.named_parameters()}
        self.shape, self.attention, self.steps = draw.shape, draw.attention, draw.steps

    def linear(self, name, h):
        return self.p[f"{name}.weight"] @ h + self.p[f"{name}.bias"]

    def lstm(self, name, inputs, state):
        h, c = state
        total = self.linear(f"{name}.recurrent", h) + inputs_weight(self.p, name) @ inputs
        i, f, g, o = np.split(total, 4)
        c = expit(f) * c + expit(i) * np.tanh(g)
        return expit(o) * np.tanh(c), c

    def window(self, name, size, h):
        """Equations (19) to (26), counted from one."""
        B, A = self.shape
        gx, gy, log_variance, log_stride, log_gamma = self.linear(f"{name}.place", h)
        gx, gy = (A + 1) / 2 * (gx + 1), (B + 1) / 2 * (gy + 1)
        delta = (max(A, B) - 1) / (size - 1) * math.exp(log_stride) if size > 1 else 0.0
        banks = []
        for g, length in ((gy, B), (gx, A)):
            F = np.zeros((size, length))
            for i in range(1, size + 1):
                for a in range(1, length + 1):
                    mu = g + (i - size / 2 - 0.5) * delta
                    F[i - 1, a - 1] = math.exp(-((a - mu) ** 2) / (2 * (math.exp(log_variance) + 1e-6)))
            banks.append(F / F.sum(1, keepdims=True))
        return *banks, math.exp(log_gamma), (gy, gx), delta

    def read(self, x, error, h):
        if self.attention is None:
            return np.concatenate([x, error])
        Y, X, gamma, _, _ = self.window("reader", self.attention[0], h)
        return np.concatenate([gamma * (Y @ picture.reshape(self.shape) @ X.T).ravel() for picture in (x, error)])

    def stroke(self, z, c, decoder):
        decoder = self.lstm("decoder", z, decoder)
        patch = self.linear("patch", decoder[0])
        if self.attention is None:
            return c + patch, decoder, None
        M = self.attention[1]
        Y, X, gamma, centre, delta = self.window("writer", M, decoder[0])
        return c + (Y.T @ patch.reshape(M, M) @ X).ravel() / gamma, decoder, (centre, M * delta)

    def run(self, x, z):
        """log p(x | z), log p(z), log q(z | x), the closed KLs given z, and the canvases, of latents ``steps x latent``."""
        c, decoder, encoder = self.p["canvas"], tuple(self.p["decoder.first"]), tuple(self.p["encoder.first"])
        prior = posterior = divergence = 0.0
        canvases, windows = [], []
        for t in range(self.steps):
            r = self.read(x, x - expit(c), decoder[0])
            encoder = self.lstm("encoder", np.concatenate([r, decoder[0]]), encoder)
            mean, log_scale = np.split(self.linear("code", encoder[0]), 2)
            posterior += stats.norm.logpdf(z[t], mean, np.exp(log_scale)).sum()
            prior += stats.norm.logpdf(z[t]).sum()
            divergence += 0.5 * (mean**2 + np.exp(2 * log_scale) - 1 - 2 * log_scale).sum()
            c, decoder, window = self.stroke(z[t], c, decoder)
            canvases.append(c)
            windows.append(window)
        return stats.bernoulli.logpmf(x, expit(c)).sum(), prior, posterior, divergence, canvases, windows


KINDS = pytest.mark.parametrize("attention", [None, (2, 3), (1, 4), (3, 1)])


def latents(trace, steps):
    """The latents of a trace with particles: ``particles x rows x steps x latent``."""
    return torch.stack([trace.nodes[f"z{t + 1}"]["value"] for t in range(steps)], -2).detach()


def placed(window, **values):
    """The window's filters where its five parameters have given values, whatever the state."""
    names = ("across", "down", "log_variance", "log_stride", "log_intensity")
    with torch.no_grad():
        window.place.weight.zero_()
        window.place.bias.copy_(torch.tensor([values.get(name, 0.0) for name in names]))
        return window(torch.zeros(window.place.in_features, dtype=window.place.weight.dtype))


# The window.


def test_filters_are_normalised_gaussians():
    centre, stride = torch.tensor([0.7, 3.2, 9.0]).double(), torch.tensor([0.4, 1.5, 2.0]).double()
    variance = torch.tensor([0.5, 2.0, 0.3]).double()
    bank = filterbank(centre, stride, variance, 4, 6)
    assert bank.shape == (3, 4, 6)
    for n in range(3):
        for i in range(4):
            mean = float(centre[n] + (i - 1.5) * stride[n])
            row = stats.norm.pdf(np.arange(1, 7), mean, float(variance[n]) ** 0.5)
            np.testing.assert_allclose(bank[n, i], row / row.sum(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("log_variance", [-200.0, -8.0, 0.0, 8.0])
@pytest.mark.parametrize("place", [-40.0, 0.05, 40.0])
def test_filters_sum_to_one_wherever_they_are(log_variance, place):
    window = Window(4, (5, 7), 3, writes=False)
    filters = placed(window, across=place, down=-place, log_variance=log_variance)
    for bank in (filters.rows, filters.columns):
        torch.testing.assert_close(bank.sum(-1), torch.ones(4))
        assert (bank >= 0).all()
    window(torch.zeros(3)).read(torch.ones(35)).sum().backward()
    assert window.place.bias.grad.isfinite().all()


def test_a_sharp_window_over_the_whole_picture_is_the_identity():
    x = torch.rand(9, 25)
    filters = placed(Window(5, (5, 5), 3, writes=False), log_variance=-20.0)
    assert torch.equal(filters.read(x), x)
    assert torch.equal(filters.write(x), x)
    assert filters.centre.tolist() == [3, 3]
    assert float(filters.stride) == 1


def test_a_sharp_window_cuts_out_a_patch_of_a_picture_that_is_not_square():
    x = torch.rand(2, 4, 9)
    # Nine columns and two filters: stride 8 exp(log_stride) = 2; the middle at row 2, column 6 (from one), so the filters
    # are at rows 1 and 3 and at columns 5 and 7.
    filters = placed(
        Window(2, (4, 9), 3, writes=False), log_variance=-20.0, log_stride=math.log(0.25), log_intensity=math.log(3.0),
        down=2 / 2.5 - 1, across=6 / 5 - 1,
    )  # fmt: skip
    torch.testing.assert_close(filters.centre, torch.tensor([2.0, 6.0]))
    torch.testing.assert_close(filters.read(x.flatten(1)), 3 * x[:, [0, 2]][:, :, [4, 6]].flatten(1))
    patch = torch.rand(2, 4)
    expected = torch.zeros(2, 4, 9)
    expected[:, 0, 4], expected[:, 0, 6], expected[:, 2, 4], expected[:, 2, 6] = patch.unbind(1)
    torch.testing.assert_close(filters.write(patch), expected.flatten(1) / 3)


def test_writing_is_the_adjoint_of_reading():
    torch.manual_seed(3)
    window = Window(3, (4, 6), 5, writes=False).double()
    filters = window(torch.randn(7, 5).double())
    x, patch = torch.randn(7, 24).double(), torch.randn(7, 9).double()
    read, written = (patch * filters.read(x)).sum(-1), (filters.write(patch) * x).sum(-1)
    torch.testing.assert_close(read, filters.intensity**2 * written)


def test_a_new_window_reads_and_writes_everywhere():
    # Filters of standard deviation δ/2 at a spacing of δ sum to 1/δ over a line but for a ripple of 2 exp(-π²/2) = 1.4 %
    # away from the borders, where the outermost filters, cut off, weigh more.
    reading, writing = (Window(n, (28, 28), 3, writes).double() for n, writes in ((2, False), (5, True)))
    state = torch.zeros(3).double()
    ones = writing(state).write(torch.ones(25).double()).view(28, 28)
    torch.testing.assert_close(ones[11:17, 11:17], torch.ones(6, 6).double(), rtol=0, atol=0.035)
    assert ones.min() > 0.2
    filters = reading(state)
    assert float(filters.stride) == pytest.approx(14)
    x = torch.zeros(28, 28).double()
    x[3:11, 3:11] = 1
    seen = filters.read(x.flatten())
    assert seen.argmax() == 0
    assert 0.1 < seen[0] < 0.5


# The recurrent cell.


def test_the_cell_is_torchs():
    cell, theirs = Cell((3, 2), 4).double(), torch.nn.LSTMCell(5, 4).double()
    with torch.no_grad():
        theirs.weight_ih.copy_(torch.cat([part.weight for part in cell.parts], 1))
        theirs.weight_hh.copy_(cell.recurrent.weight)
        theirs.bias_ih.copy_(cell.recurrent.bias)
        theirs.bias_hh.zero_()
    a, b = torch.randn(6, 3).double(), torch.randn(2, 6, 2).double()
    h, c = torch.randn(6, 4).double(), torch.randn(6, 4).double()
    shown, kept = cell(cell.weigh(0, a) + cell.weigh(1, b), State(h, c))
    for k in range(2):
        expected = theirs(torch.cat((a, b[k]), -1), (h, c))
        torch.testing.assert_close((shown[k], kept[k]), expected)


# Model and guide.


@KINDS
def test_weights_against_a_loop_over_pictures(attention):
    """Every particle's and row's densities, where particles are a further plate on the left."""
    draw, x = build(attention)
    by_hand = ByHand(draw)
    model, guide = traces(draw.model, draw.guide, (x,), {}, 4, 1)
    z = latents(guide, 3).numpy()
    assert z.shape == (4, 6, 3, 2)
    for trace in (model, guide):
        trace.compute_log_prob()
    log_q = sum(guide.nodes[f"z{t}"]["log_prob"] for t in (1, 2, 3)).detach()
    log_p = sum(model.nodes[f"z{t}"]["log_prob"] for t in (1, 2, 3)).detach()
    log_x = model.nodes["x"]["log_prob"].detach()
    for k in range(4):
        for n in range(6):
            likelihood, prior, posterior, *_ = by_hand.run(x[n].numpy(), z[k, n])
            np.testing.assert_allclose(
                [log_x[k, n], log_p[k, n], log_q[k, n]], [likelihood, prior, posterior], rtol=1e-9
            )


@KINDS
def test_the_default_objective_is_the_closed_bound_at_the_draws(attention):
    draw, x = build(attention)
    objective = draw.objective()
    objective.attach(draw)
    pyro.set_rng_seed(5)
    loss = objective.loss(x).item()
    pyro.set_rng_seed(5)
    z = latents(poutine.trace(draw.guide).get_trace(x), 3).numpy()
    runs = [ByHand(draw).run(row, code) for row, code in zip(x.numpy(), z, strict=True)]
    assert loss == pytest.approx(np.mean([divergence - likelihood for likelihood, _, _, divergence, *_ in runs]))


@KINDS
def test_gradients_are_those_of_the_loss_at_fixed_noise(attention):
    """The path through every step's latents, by central differences along a random direction."""
    draw, x = build(attention)
    parameters, elbo = list(draw.parameters()), TraceMeanField_ELBO(max_plate_nesting=1)

    def loss():
        pyro.set_rng_seed(9)
        return elbo.differentiable_loss(draw.model, draw.guide, x)

    gradients = torch.autograd.grad(loss(), parameters)
    direction, size, ends = [torch.randn_like(p) for p in parameters], 1e-5, []
    for step in (size, -2 * size):
        with torch.no_grad():
            for parameter, along in zip(parameters, direction, strict=True):
                parameter += step * along
            ends.append(loss().item())
    slope = sum((g * along).sum().item() for g, along in zip(gradients, direction, strict=True))
    assert (ends[0] - ends[1]) / (2 * size) == pytest.approx(slope, rel=1e-5)


def test_closed_divergences_do_not_change_what_is_trained():
    """The guide's steps hang together, yet loss and gradient agree in the mean with those that draw log q - log p."""
    draw, x = build(steps=2, scale=0.3)
    differences, sizes = [], []
    for block in range(50):
        found = []
        for kind in (TraceMeanField_ELBO, Trace_ELBO):
            pyro.set_rng_seed(block)
            elbo = kind(num_particles=80, vectorize_particles=True, max_plate_nesting=1)
            loss = elbo.differentiable_loss(draw.model, draw.guide, x)
            gradients = torch.autograd.grad(loss, list(draw.parameters()))
            found.append(torch.cat([loss.detach()[None], *(g.flatten() for g in gradients)]).numpy())
        differences.append(found[0] - found[1])
        sizes.append(found[0])
    mean, error = np.mean(differences, 0), np.std(differences, 0, ddof=1) / 50**0.5
    scale = np.abs(np.mean(sizes, 0)[1:]).max()
    # Six standard errors of fifty blocks' mean; they stay below a tenth of the largest entry.
    assert 6 * error[1:].max() < 0.1 * scale
    assert (np.abs(mean) < 6 * error + 1e-9 * scale).all()


def test_one_step_without_attention_is_a_vae():
    """The bound and the likelihood of every row by Gauss-Hermite quadrature over one latent variable, from the weights."""
    draw, x = build(None, steps=1, latent=1, scale=0.3)
    p = {name.removeprefix("network."): v.detach().numpy() for name, v in draw.named_parameters()}
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()

    def lstm(name, u):
        h, c = p[f"{name}.first"]
        total = u @ inputs_weight(p, name).T + p[f"{name}.recurrent.weight"] @ h + p[f"{name}.recurrent.bias"]
        i, f, g, o = np.split(total, 4, -1)
        return expit(o) * np.tanh(expit(f) * c + expit(i) * np.tanh(g))

    def decoder(z):
        return p["canvas"] + lstm("decoder", z[:, None]) @ p["patch.weight"].T + p["patch.bias"]

    rows = x.numpy()
    first = np.broadcast_to(p["decoder.first"][0], (len(rows), 5))
    code = lstm("encoder", np.hstack([rows, rows - expit(p["canvas"]), first])) @ p["code.weight"].T + p["code.bias"]
    mean, scale = code[:, 0], np.exp(code[:, 1])
    with torch.no_grad():
        drawn = dgm.log_weights(draw.model, draw.guide, x, particles=4000).numpy()
    evidence = logsumexp(drawn, 0) - math.log(4000)
    for n in range(len(rows)):
        likelihood = stats.bernoulli.logpmf(rows[n], expit(decoder(mean[n] + scale[n] * nodes))).sum(1)
        bound = weights @ likelihood - 0.5 * (mean[n] ** 2 + scale[n] ** 2 - 1 - 2 * math.log(scale[n]))
        error = drawn[:, n].std(ddof=1) / 4000**0.5
        # Six standard errors of 4000 draws.
        assert abs(drawn[:, n].mean() - bound) < 6 * error < 0.2
        exact = logsumexp(stats.bernoulli.logpmf(rows[n], expit(decoder(nodes))).sum(1), b=weights)
        # The weights' relative spread over the root of their number is the error of their mean's logarithm.
        spread = np.exp(drawn[:, n] - drawn[:, n].max())
        assert abs(evidence[n] - exact) < 6 * spread.std() / spread.mean() / 4000**0.5 + 1e-6


@KINDS
def test_particles_are_runs_of_their_own(attention):
    """Vectorised particles give what single runs give at their latents."""
    draw, x = build(attention)
    pyro.set_rng_seed(8)
    _, guide = traces(draw.model, draw.guide, (x,), {}, 3, 1)
    z = latents(guide, 3)
    pyro.set_rng_seed(8)
    weights = dgm.log_weights(draw.model, draw.guide, x, particles=3)
    weights = weights.detach()
    for k in range(3):
        data = {f"z{t + 1}": z[k, :, t] for t in range(3)}
        log_p = poutine.trace(poutine.condition(draw.model, data=data)).get_trace(x).log_prob_sum()
        log_q = poutine.trace(poutine.condition(draw.guide, data=data)).get_trace(x).log_prob_sum()
        assert float(weights[k].sum()) == pytest.approx((log_p - log_q).item())
    pyro.set_rng_seed(8)
    elbo = Trace_ELBO(num_particles=3, vectorize_particles=True, max_plate_nesting=1)
    assert elbo.loss(draw.model, draw.guide, x) == pytest.approx(-float(weights.mean(0).sum()))
    pyro.set_rng_seed(8)
    bound = torch.logsumexp(weights, 0).sum() - len(x) * math.log(3)
    assert dgm.IWAE(3).loss(draw.model, draw.guide, x) == pytest.approx(-float(bound))


@KINDS
def test_a_rows_weights_do_not_depend_on_the_others(attention):
    draw, x = build(attention)
    changed = x.clone()
    changed[1:] = 1 - changed[1:]
    found = []
    for data in (x, changed):
        pyro.set_rng_seed(2)
        found.append(dgm.log_weights(draw.model, draw.guide, data, particles=50).detach())
    torch.testing.assert_close(found[0][:, 0], found[1][:, 0])
    assert (found[0][:, 1:] != found[1][:, 1:]).all()


@KINDS
def test_drawings_against_the_loop(attention):
    draw, x = build(attention)
    by_hand = ByHand(draw)
    pyro.set_rng_seed(4)
    again = draw.drawing(x)
    pyro.set_rng_seed(4)
    guide = poutine.trace(draw.guide).get_trace(x)
    pyro.set_rng_seed(6)
    new = draw.drawing(6)
    pyro.set_rng_seed(6)
    model = poutine.trace(draw.model).get_trace(None, 6)
    for drawing, trace in ((again, guide), (new, model)):
        assert drawing.means.shape == (3, 6, 12)
        z = latents(trace, 3).numpy()
        for n in range(6):
            *_, canvases, windows = by_hand.run(x[n].numpy(), z[n])
            np.testing.assert_allclose(drawing.means[:, n], expit(canvases), rtol=1e-9)
            if attention is None:
                assert drawing.centres is None
                assert drawing.sizes is None
            else:
                np.testing.assert_allclose(drawing.centres[:, n], [np.array(c) - 1 for c, _ in windows], rtol=1e-9)
                if attention[1] > 1:
                    np.testing.assert_allclose(drawing.sizes[:, n], [size for _, size in windows], rtol=1e-9)
    torch.testing.assert_close(new.means[-1], model.nodes["x"]["fn"].base_dist.probs.detach())


def test_samples_follow_the_last_canvas():
    """One step with a sharp canvas: bits have the means that quadrature over the latent variable gives."""
    draw, _ = build(None, shape=(1, 3), steps=1, latent=1)
    by_hand = ByHand(draw)
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    canvases = [by_hand.stroke(np.array([z]), by_hand.p["canvas"], tuple(by_hand.p["decoder.first"]))[0] for z in nodes]
    expected = weights @ expit(np.array(canvases)) / weights.sum()
    drawn = draw.sample(20000)
    assert set(drawn.unique().tolist()) == {0, 1}
    # Five standard errors of a frequency in 20,000 draws, at most.
    np.testing.assert_allclose(drawn.mean(0), expected, atol=5 * 0.5 / 20000**0.5)


# Data, options, training.


def test_initialise_gives_the_empty_canvas_the_columns_means():
    draw, x = build()
    draw.initialise(x)
    torch.testing.assert_close(draw.network.canvas.sigmoid(), x.mean(0).clamp(0.01, 0.99))


@pytest.mark.parametrize("attention", [None, (3, 4)])
def test_training_learns_two_patterns(attention):
    """A cross or a frame of 8 x 8 pixels, each half of the time: the best bound is -log 2 nats a row."""
    frame = torch.ones(8, 8)
    frame[1:-1, 1:-1] = 0
    x = torch.stack([frame, torch.eye(8).maximum(torch.eye(8).flip(1))]).flatten(1)
    x = x.repeat(25, 1)
    pyro.set_rng_seed(0)
    draw = DRAW(64, steps=3, latent=2, hidden=24, attention=attention)
    draw.initialise(x)
    before = draw.progress(x, x)["valid_elbo"]
    step = SVI(draw.model, draw.guide, Adam({"lr": 0.03}), TraceMeanField_ELBO(max_plate_nesting=1))
    for _ in range(70):
        step.step(x)
    after = float(dgm.log_weights(draw.model, draw.guide, x, particles=50).mean().detach())
    print(f"attention {attention}: {before:.2f} to {after:.2f} nats")
    assert before < -20
    assert -6 < after < -math.log(2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "at least 1"),
        ({"latent": 0}, "at least 1"),
        ({"shape": (3, 5)}, "product is visible, 12"),
        ({"shape": 12}, "a height and a width"),
        ({"shape": (-3, -4)}, "a height and a width"),
        ({"attention": (2, 3), "shape": None}, "make no square"),
        ({"attention": (2, 5)}, "longer side, 4"),
        ({"attention": (0, 2)}, "from 1 to"),
        ({"attention": 2}, "attention got 2"),
        ({"attention": (2, 2, 2)}, "attention got"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        DRAW(12, **{"shape": (3, 4), "hidden": 4, **options})


def test_shapes_are_square_or_one_row_unless_they_are_given():
    assert DRAW(9, hidden=2).shape == (3, 3)
    assert DRAW(12, hidden=2).shape == (1, 12)
    assert DRAW(12, shape=[3, 4], hidden=2, attention=[4, 1]).attention == (4, 1)


def test_bad_calls():
    draw, x = build()
    with pytest.raises(ValueError, match="needs data"):
        draw.guide()
    with pytest.raises(ValueError, match="source got 0"):
        draw.drawing(0)
    for refuse in (draw.check_data, draw.drawing):
        with pytest.raises(ValueError, match=r"value 0.5; expected 0 or 1.*binarisation"):
            refuse(0.5 * x)
    with pytest.raises(ValueError, match="kind got"):
        draw.objective("tight")
