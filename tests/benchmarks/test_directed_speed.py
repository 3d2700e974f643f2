"""Speed of directed models against the same networks in bare torch: `pytest tests/benchmarks --benchmark-only -s`."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

import pyro_dgm as dgm

from .speed import fit_step, ratios

pytestmark = pytest.mark.benchmark(group="ratio")


def perceptron(*widths):
    """Torch's own layers with tanh between them."""
    layers = [layer for pair in zip(widths, widths[1:], strict=False) for layer in (nn.Linear(*pair), nn.Tanh())]
    return nn.Sequential(*layers[:-1])


def stepped(parameters, loss_of):
    """A step of torch's fused Adam along the gradient of a loss."""
    optimiser = torch.optim.Adam(parameters, fused=True)

    def step():
        optimiser.zero_grad()
        loss_of().backward()
        optimiser.step()

    return step


def log_bits(x, logits):
    return -binary_cross_entropy_with_logits(logits, x.expand(logits.shape), reduction="none").sum(-1)


def divergence(mean, deviation, prior_mean=0.0, prior_deviation=1.0):
    """The divergence of normals, summed over all entries."""
    ratio, shift = deviation / prior_deviation, (mean - prior_mean) / prior_deviation
    return 0.5 * (ratio**2 + shift**2 - 1 - 2 * ratio.log()).sum()


def bare_iwae(x, particles):
    encoder, decoder = perceptron(784, 200, 200, 100), perceptron(50, 200, 200, 784)

    def loss():
        mean, log_deviation = encoder(x).chunk(2, -1)
        noise = torch.randn(particles, *mean.shape)
        z = mean + log_deviation.exp() * noise
        log_w = log_bits(x, decoder(z)) - (0.5 * z**2).sum(-1) + (0.5 * noise**2 + log_deviation).sum(-1)
        return -(log_w.logsumexp(0) - math.log(particles)).sum() / len(x)

    return stepped([*encoder.parameters(), *decoder.parameters()], loss)


@pytest.mark.parametrize("particles", [5, 50])
def test_iwae_step(benchmark, particles):
    x = (torch.rand(100, 784) < 0.2).float()
    vae = dgm.VAE(784)
    ratios(
        benchmark,
        f"IWAE step, 784-200-200-50, batch 100, K = {particles}, against bare torch",
        "≤ 1.2",
        rounds=20,
        fit=fit_step(vae, vae.objective("iwae", particles=particles), x, "adam", 1e-3),
        bare=bare_iwae(x, particles),
    )


class Window(nn.Module):
    """The attention window of DRAW, its five numbers from the decoder's state."""

    def __init__(self, filters, hidden, side=28):
        super().__init__()
        self.filters, self.side, self.place = filters, side, nn.Linear(hidden, 5)

    def banks(self, h):
        n, side = self.filters, self.side
        g_x, g_y, log_variance, log_stride, log_intensity = self.place(h).chunk(5, -1)
        stride = (side - 1) / max(n - 1, 1) * log_stride.exp()
        offsets, pixels = torch.arange(n) - (n - 1) / 2, torch.arange(float(side))

        def bank(centre):
            means = (side + 1) / 2 * (centre + 1) - 1 + offsets * stride
            weights = (-((pixels - means.unsqueeze(-1)) ** 2) / (2 * log_variance.exp().unsqueeze(-1))).exp()
            return weights / (weights.sum(-1, keepdim=True) + 1e-8)

        return bank(g_y), bank(g_x), log_intensity.exp()

    def read(self, pictures, h):
        rows, columns, intensity = self.banks(h)
        return [intensity * (rows @ p.unflatten(-1, (self.side, -1)) @ columns.mT).flatten(1) for p in pictures]

    def write(self, patch, h):
        rows, columns, intensity = self.banks(h)
        return (rows.mT @ patch.unflatten(-1, (self.filters, -1)) @ columns).flatten(1) / intensity


def bare_draw(x, steps, latent, hidden):
    reader, writer = Window(2, hidden), Window(5, hidden)
    encoder, decoder = nn.LSTMCell(8 + hidden, hidden), nn.LSTMCell(latent, hidden)
    code, patch, empty = nn.Linear(hidden, 2 * latent), nn.Linear(hidden, 25), nn.Parameter(torch.zeros(784))
    modules = (reader, writer, encoder, decoder, code, patch)

    def loss():
        canvas, total = empty.expand(len(x), -1), torch.zeros(())
        seen = drawn = (torch.zeros(len(x), hidden),) * 2
        for _ in range(steps):
            glimpses = reader.read((x, x - canvas.sigmoid()), drawn[0])
            seen = encoder(torch.cat([*glimpses, drawn[0]], -1), seen)
            mean, log_deviation = code(seen[0]).chunk(2, -1)
            z = mean + log_deviation.exp() * torch.randn_like(mean)
            total = total + divergence(mean, log_deviation.exp())
            drawn = decoder(z, drawn)
            canvas = canvas + writer.write(patch(drawn[0]), drawn[0])
        return (total - log_bits(x, canvas).sum()) / len(x)

    return stepped([p for module in modules for p in module.parameters()] + [empty], loss)


def test_draw_step(benchmark):
    x = (torch.rand(100, 784) < 0.2).float()
    draw = dgm.DRAW(784, steps=8, latent=32, hidden=128, attention=(2, 5))
    ratios(
        benchmark,
        "DRAW step, 28×28 with attention, 8 strokes, 128 recurrent units, batch 100, against bare torch",
        "≤ 1.2",
        rounds=10,
        fit=fit_step(draw, draw.objective(), x, "adam", 1e-3),
        bare=bare_draw(x, 8, 32, 128),
    )


def bare_vrnn(x, latent, hidden):
    features = x.shape[-1]
    describe, code = perceptron(features, hidden, hidden), perceptron(latent, hidden, hidden)
    prior, encoder = perceptron(hidden, hidden, 2 * latent), perceptron(2 * hidden, hidden, 2 * latent)
    decoder, cell = perceptron(2 * hidden, hidden, features), nn.GRUCell(2 * hidden, hidden)
    modules = (describe, code, prior, encoder, decoder, cell)

    def normal(output):
        mean, deviation = output.chunk(2, -1)
        return mean, softplus(deviation) + 1e-3

    def loss():
        described, h = describe(x), torch.zeros(len(x), hidden)
        inputs, total = [], torch.zeros(())
        for t in range(x.shape[1]):
            mean, deviation = normal(encoder(torch.cat([described[:, t], h], -1)))
            total = total + divergence(mean, deviation, *normal(prior(h)))
            coded = code(mean + deviation * torch.randn_like(mean))
            inputs.append(torch.cat([coded, h], -1))
            h = cell(torch.cat([described[:, t], coded], -1), h)
        return (total - log_bits(x, decoder(torch.stack(inputs, 1))).sum()) / len(x)

    return stepped([p for module in modules for p in module.parameters()], loss)


def test_vrnn_step(benchmark):
    x = (torch.rand(20, 60, 88) < 0.05).float()
    vrnn = dgm.VariationalRNN(60 * 89, features=88)
    ratios(
        benchmark,
        "variational RNN step, 20 sequences of 60 frames of 88 bits, 16 latents, 64 units, against bare torch",
        "≤ 1.2",
        rounds=10,
        fit=fit_step(vrnn, vrnn.objective(), dgm.data.pad(list(x)), "adam", 1e-3),
        bare=bare_vrnn(x, 16, 64),
    )
