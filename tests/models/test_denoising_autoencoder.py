"""Denoising autoencoders: laws of their chains, scores, corruptions, and what training measures."""

import math

import numpy as np
import pytest
import torch
from oracles.walks import P3, ROWS3, flips, frequencies, numbers, posterior, run, standard_errors, stationary
from torch import nn

import pyro_dgm as dgm

CHAINS = 40_000


class Table(nn.Module):
    """Logits of three bits by the number of the corrupted row."""

    def __init__(self, probs):
        super().__init__()
        self.logits = nn.Parameter(torch.as_tensor(np.log(probs / (1 - probs))))

    def forward(self, x):
        return self.logits[numbers(x)]


class Line(nn.Module):
    """r(x) = slope x."""

    def __init__(self, slope):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope))

    def forward(self, x):
        return self.slope * x


def factorised(level):
    """The best denoiser whose bits are independent given the corrupted row, and its chain's stationary law."""
    probs = posterior(P3, flips(level)) @ ROWS3
    law = (probs[:, None] ** ROWS3 * (1 - probs[:, None]) ** (1 - ROWS3)).prod(-1)
    return probs, stationary(flips(level) @ law)


@pytest.mark.parametrize(("level", "distance"), [(0.05, 0.02505), (0.1, 0.05278), (0.2, 0.11071), (0.3, 0.16636)])
def test_independent_columns_bias_the_limit_the_more_the_noise(level, distance):
    probs, law = factorised(level)
    assert 0.5 * np.abs(law - P3).sum() == pytest.approx(distance, abs=5e-6)
    model = dgm.DenoisingAutoencoder(3, corruption="flip", level=level, autoencoder=Table(probs)).double()
    found = frequencies(numbers(run(model, CHAINS, round(8 / level**0.5))["visible"]), 8)
    assert standard_errors(found, law, CHAINS) < 4
    assert standard_errors(found, P3, CHAINS) > 4


@pytest.mark.parametrize("width", [0.1, 0.5, 1.0])
def test_the_second_noise_gives_back_the_variance(width):
    """Standard normal data, best denoiser: variance 1 with the squared error, 1/(2 + s^2) without, more with the first noise."""
    slope = 1 / (1 + width**2)
    model = dgm.DenoisingAutoencoder(1, output="gaussian", level=width, autoencoder=Line(slope)).double()
    torch.manual_seed(0)
    model.settle(torch.randn(CHAINS, 1).double())
    error = width**2 / (1 + width**2)
    assert float(model.columns.variance) == pytest.approx(error, rel=4 * math.sqrt(2 / CHAINS))
    for noise, variance in (
        (error, 1.0),
        (1e-12, 1 / (2 + width**2)),
        (width**2, (slope**2 * width**2 + width**2) / (1 - slope**2)),
    ):
        model.columns.variance.fill_(noise)
        steps = math.ceil(math.log(1e-3) / math.log(slope))
        found = float(run(model, 4000, steps)["visible"].var())
        assert found == pytest.approx(variance, rel=4 * math.sqrt(2 / 4000) + 2e-3)


class PosteriorMean(nn.Module):
    """E[x | x~] of the points -1, 0.5 and 2 under Gaussian noise of width 0.7."""

    def __init__(self):
        super().__init__()
        self.points = nn.Parameter(torch.tensor([-1.0, 0.5, 2.0], dtype=torch.float64))

    def forward(self, x):
        return torch.softmax(-((x - self.points) ** 2) / (2 * 0.49), -1) @ self.points.unsqueeze(1)


def test_the_best_reconstruction_is_the_score_of_smoothed_data():
    model = dgm.DenoisingAutoencoder(1, output="gaussian", level=0.7, autoencoder=PosteriorMean()).double()
    x = torch.tensor([[0.3], [1.4]], dtype=torch.float64)
    torch.testing.assert_close(model.reconstruct(x), torch.tensor([[0.3414275683], [1.413248236]]).double())
    torch.testing.assert_close(
        model.score(x), torch.tensor([[0.0845460578], [0.0270372159]]).double(), rtol=1e-8, atol=1e-9
    )
    with pytest.raises(ValueError, match="score needs corruption='gaussian'"):
        dgm.DenoisingAutoencoder(1).score(x)


def test_tied_sigmoid_units_have_a_gaussian_rbm_s_energy():
    """With a linear decoder and tied weights (x - r(x)) / s^2 is the gradient of (x^2/2 - c x - sum softplus) / s^2."""
    torch.manual_seed(0)
    model = dgm.DenoisingAutoencoder(3, hidden=(5,), output="gaussian", level=0.4, tied=True).double()
    x = torch.randn(4, 3).double().requires_grad_()
    ladder = model.autoencoder.ladder
    softplus = nn.functional.softplus(x @ ladder.weights[0] + ladder.biases[1]).sum(-1)
    energy = (x.square().sum(-1) / 2 - x @ ladder.biases[0] - softplus) / 0.4**2
    (gradient,) = torch.autograd.grad(energy.sum(), x)
    torch.testing.assert_close(model.score(x.detach()), -gradient)


@pytest.mark.parametrize(
    ("options", "x", "law"),
    [
        ({"corruption": "flip", "level": 0.2}, [0.0, 1.0], [0.2, 0.8]),
        ({"corruption": "salt_and_pepper", "level": 0.4}, [0.0, 1.0], [0.2, 0.8]),
        ({"corruption": "masking", "level": 0.3}, [0.0, 1.0], [0.0, 0.7]),
    ],
)
def test_corruptions_of_bits(options, x, law):
    torch.manual_seed(0)
    model = dgm.DenoisingAutoencoder(2, hidden=(3,), **options)
    found = model.columns.corrupt(torch.tensor(x).expand(CHAINS, 2)).mean(0)
    torch.testing.assert_close(found, torch.tensor(law), rtol=0, atol=4 * 0.5 / math.sqrt(CHAINS))


def test_corruptions_of_one_hot_groups():
    torch.manual_seed(0)
    x = torch.tensor([0.0, 1, 0, 1, 0, 0]).expand(CHAINS, 6)
    error = 4 * 0.5 / math.sqrt(CHAINS)
    for corruption, law in (("replace", [0.1, 0.8, 0.1, 0.8, 0.1, 0.1]), ("masking", [0, 0.7, 0, 0.7, 0, 0])):
        model = dgm.DenoisingAutoencoder(
            6, hidden=(3,), output="categorical", levels=3, corruption=corruption, level=0.3
        )
        noisy = model.columns.corrupt(x)
        torch.testing.assert_close(noisy.mean(0), torch.tensor(law), rtol=0, atol=error)
        assert set(noisy.unflatten(1, (2, 3)).sum(-1).unique().tolist()) <= {0.0, 1.0}


def test_one_hot_rows_are_drawn_and_scored_by_groups():
    torch.manual_seed(0)
    model = dgm.DenoisingAutoencoder(6, hidden=(3,), output="categorical", levels=3).double()
    logits = torch.randn(6).double()
    law = model.columns.law(logits.expand(4, 6))
    rows = torch.eye(3, dtype=torch.float64)
    listed = torch.stack([torch.cat([a, b]) for a in rows for b in rows])
    log_p = torch.stack([model.columns.law(logits).log_prob(row) for row in listed])
    assert float(log_p.exp().sum()) == pytest.approx(1)
    torch.testing.assert_close(log_p.exp() @ listed, law.mean[0])
    drawn = run(model, 50, 3)["visible"]
    model.check_data(drawn)
    with pytest.raises(ValueError, match="expected a single 1 in every 3 columns"):
        model.check_data(torch.ones(2, 6).double())
    with pytest.raises(ValueError, match="mark all 3 columns"):
        dgm.condition(model, drawn, torch.tensor([True, False, False, False, False, False]), draws=2)


def test_real_columns_in_any_units():
    """What a fit learns, and what chains draw, does not depend on the units of columns far from zero."""
    torch.manual_seed(0)
    z = torch.randn(300, 2) @ torch.tensor([[1.0, 0.8], [0.0, 0.6]])
    runs = []
    for shift, scale in ((0.0, 1.0), (1e4, 300.0)):
        torch.manual_seed(1)
        model = dgm.DenoisingAutoencoder(2, hidden=(8,), output="gaussian", activation="tanh").double()
        dgm.fit(model, shift + scale * z.double(), epochs=3, learning_rate=0.01, progress=False)
        torch.manual_seed(2)
        runs.append((model.sample(50, steps=10) - shift) / scale)
    torch.testing.assert_close(runs[0], runs[1], rtol=1e-5, atol=1e-6)


def test_training_brings_samples_to_the_data():
    """Two columns that always agree: chains of a trained model have them agree far more often than half the time."""
    torch.manual_seed(0)
    bit = torch.randint(0, 2, (1000, 1)).float()
    x = torch.cat([bit, bit, 1 - bit], 1)
    model = dgm.DenoisingAutoencoder(3, hidden=(20,), corruption="flip", level=0.1)
    dgm.fit(model, x, epochs=20, learning_rate=0.02, progress=False)
    drawn = model.sample(1000, steps=60)
    # The best denoiser errs by less than 0.1^2 (two bits of three flipped) a step.
    agree = (drawn[:, 0] == drawn[:, 1]) & (drawn[:, 0] != drawn[:, 2])
    assert float(agree.float().mean()) > 0.9
    assert 0.3 < float(drawn[:, 0].mean()) < 0.7


@pytest.mark.parametrize("tied", [False, True])
def test_a_run_resumes_bit_for_bit(tied, tmp_path):
    """Weights and the measured variance, which belongs to them."""
    torch.manual_seed(0)
    x = torch.randn(60, 3)

    def trained(epochs, out, resume=False):
        torch.manual_seed(1)
        model = dgm.DenoisingAutoencoder(3, hidden=(4,), output="gaussian", tied=tied)
        dgm.fit(model, x, epochs=epochs, batch_size=20, out=out, resume=resume, progress=False)
        return model.state_dict()

    whole = trained(4, tmp_path / "whole")
    trained(2, tmp_path / "parts")
    parts = trained(4, tmp_path / "parts", resume=True)
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    again = dgm.load(tmp_path / "whole").state_dict()
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert not torch.equal(whole["columns.variance"], torch.ones(3))


def test_convolutions_and_means():
    torch.manual_seed(0)
    model = dgm.DenoisingAutoencoder(35, hidden=(6,), body="convolutional", shape=(5, 7), channels=(2, 3), masks=True)
    assert model.sample(3, steps=2).shape == (3, 35)
    means = model.sample_means(3, steps=2)
    assert ((means > 0) & (means < 1)).all()
    known = torch.arange(35) < 10
    assert dgm.condition(model, torch.ones(2, 35), known, draws=2, warmup=1)[..., known].eq(1).all()


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"corruption": "gaussian"}, "corruption got 'gaussian'"),
            ({"level": 1.5}, "level got 1.5"),
            ({"output": "gaussian", "level": -1.0}, "level got -1"),
            ({"output": "categorical"}, "levels is missing"),
            ({"output": "categorical", "levels": 3}, "levels got 3 with 4 columns"),
            ({"levels": 2}, "levels"),
            ({"shared_noise": True}, "shared_noise"),
            ({"tied": True, "masks": True}, "tied=True goes with"),
            ({"corruption": 3}, "a function of rows"),
            ({"corruption": lambda x: x, "level": 0.2}, "a corruption of your own"),
            ({"hidden": ()}, "hidden got"),
        ],
    )
    def test_options(self, options, message):
        with pytest.raises(ValueError, match=message):
            dgm.DenoisingAutoencoder(4, **options)

    def test_a_likelihood(self):
        model, x = dgm.DenoisingAutoencoder.example()
        with pytest.raises(ValueError, match="defines no likelihood; compare its samples"):
            dgm.log_likelihood(model, x)

    def test_labels_without_classes(self):
        model, _ = dgm.DenoisingAutoencoder.example()
        with pytest.raises(ValueError, match="has no classes"):
            model.sample(2, labels=1)


def test_details_say_that_clamping_is_approximate():
    model, x = dgm.DenoisingAutoencoder.example()
    known = torch.arange(4) < 2
    for _, details in (
        dgm.condition_with_details(model, x, known, draws=20, warmup=2),
        model.impute_with_details(x, known, draws=20),
    ):
        assert "approximate" in details["method"]
        assert details["largest_r_hat"] > 0


def test_constant_columns_stay():
    """They are not corrupted, cost nothing that moves, and chains keep them; the other columns train as without them."""
    torch.manual_seed(0)
    live = torch.randn(400, 3)
    x = torch.cat([live, torch.full((400, 5), 3.0)], 1)
    model = dgm.DenoisingAutoencoder(8, hidden=(16,), output="gaussian", activation="tanh")
    run = dgm.fit(model, x, epochs=10, learning_rate=3e-3, progress=False)
    assert (model.columns.corrupt(x)[:, 3:] == 3).all()
    assert (model.sample(20, steps=5)[:, 3:] == 3).all()
    losses = [row["loss"] for row in run.history]
    assert max(b - a for a, b in zip(losses[1:], losses[2:], strict=False)) < 3
    assert (model.columns.variance[:3] > 0.05).all()


def test_a_corruption_of_one_s_own_is_no_network_of_one_s_own():
    """The bias starts at the means, features are known, and what it returns is checked."""
    x = torch.cat([torch.ones(20, 1), torch.zeros(20, 3)], 1)
    model = dgm.DenoisingAutoencoder(4, hidden=(5,), corruption=lambda rows: 1 - rows)
    model.initialise(x)
    assert model.autoencoder[-1].bias.tolist() == pytest.approx([4.595, -4.595, -4.595, -4.595], abs=1e-2)
    assert model.hidden_features(x).shape == (20, 5)
    for bad in (lambda rows: rows[:, :2], lambda rows: rows * torch.nan, lambda rows: 3):
        with pytest.raises(ValueError, match="the corruption returned"):
            dgm.DenoisingAutoencoder(4, hidden=(5,), corruption=bad).sample(2, steps=1)
