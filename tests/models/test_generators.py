"""Generators: densities with output noise, conditionals, pyramids, un-pooling, and what they refuse without noise."""

import math

import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import pyro_dgm as dgm
from pyro_dgm.nets import layers
from pyro_dgm.nets.bodies import TransposedConvolutions
from pyro_dgm.nets.layers import BatchNorm, UnPool, enlarged
from pyro_dgm.train.trainer import Trainer

GENERATORS = [dgm.GAN, dgm.ConditionalGAN, dgm.GMMN, dgm.LAPGAN]


def linear(noise=0.2):
    """x = w z + noise with w = (1, 1/2): a normal."""
    gan = dgm.GAN(2, latent=1, hidden=(), output="linear", noise=noise).double()
    with torch.no_grad():
        gan.generator[0].weight.copy_(torch.tensor([[1.0], [0.5]]))
        gan.generator[0].bias.zero_()
    return gan


ROWS = torch.tensor([[0.2, 0.1], [0.9, 0.9]], dtype=torch.float64)


def test_a_noisy_linear_generator_has_a_normal_density():
    w = torch.tensor([1.0, 0.5], dtype=torch.float64)
    exact = dist.MultivariateNormal(torch.zeros(2).double(), torch.outer(w, w) + 0.04 * torch.eye(2).double()).log_prob(
        ROWS
    )
    assert exact.tolist() == pytest.approx([-0.3751401081, -2.945876542], abs=1e-9)
    torch.manual_seed(0)
    figure = dgm.log_likelihood(linear(), ROWS, temperatures=200, chains=64)
    assert figure.kind == "lower bound"
    assert figure.value == pytest.approx(float(exact.mean()), abs=5 * figure.stderr_estimator + 1e-3)
    figure = dgm.log_likelihood(linear(), ROWS, method="importance", particles=20_000)
    assert figure.value == pytest.approx(float(exact.mean()), abs=5 * figure.stderr_estimator + 1e-3)


def test_conditionals_of_a_noisy_linear_generator():
    r"""$x_2$ given $x_1$ is normal: mean $c_{12} / c_{11}\, x_1$, variance $c_{22} - c_{12}^2 / c_{11}$."""
    torch.manual_seed(0)
    x, known = torch.tensor([[0.9, 0.0]], dtype=torch.float64).expand(400, 2), torch.tensor([True, False])
    draws = dgm.condition(linear(), x, known, draws=20, warmup=60, thinning=3)[..., 1]
    mean, variance = 0.5 / 1.04 * 0.9, 0.29 - 0.25 / 1.04
    per_row = draws.mean(0)  # rows are independent, whatever the chains
    assert float(per_row.mean()) == pytest.approx(mean, abs=5 * float(per_row.std()) / 20)
    squares = (draws - mean).square().mean(0)
    assert float(squares.mean()) == pytest.approx(variance, abs=5 * float(squares.std()) / 20)


def test_labels_of_a_conditional_generator_are_drawn_by_their_shares():
    """A generator without use of z: p(y | x_1) is a softmax of normal densities around each class's point."""
    gan = dgm.ConditionalGAN(2, classes=3, latent=1, hidden=(), output="linear", noise=0.5).double()
    points = torch.tensor([[0.0, 0.5, 1.0], [0.3, -0.3, 0.1]], dtype=torch.float64)
    with torch.no_grad():
        gan.generator[0].weight.copy_(torch.cat([torch.zeros(2, 1), points], 1))
        gan.generator[0].bias.zero_()
    x = torch.zeros(3000, 5, dtype=torch.float64)
    x[:, 0] = 0.4
    known = torch.tensor([True, False, False, False, False])
    torch.manual_seed(0)
    drawn = dgm.condition(gan, x, known, draws=1, warmup=5)[0]
    share = torch.softmax(-0.5 * ((0.4 - points[0]) / 0.5) ** 2, 0)
    for found, p in zip(drawn[:, 2:].mean(0).tolist(), share.tolist(), strict=True):
        assert found == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / 3000))
    mean = float((share * points[1]).sum())
    assert float(drawn[:, 1].mean()) == pytest.approx(mean, abs=5 * 0.57 / 3000**0.5)


@pytest.mark.parametrize("cls", GENERATORS)
def test_without_noise_there_is_no_density(cls):
    options = cls.example()[0].options() | {"noise": 0.0}
    model, x = cls(**options), cls.example()[1]
    for call in (
        lambda: dgm.log_likelihood(model, x),
        lambda: dgm.condition(model, x, torch.arange(x.shape[1]) > 0, draws=1),
        lambda: model.model(x),
    ):
        with pytest.raises(ValueError, match=r"no row has a density\. Make it with noise=0\.1"):
            call()
    assert model.sample(3).shape == (3, x.shape[1])


def test_samples_do_not_depend_on_each_other():
    """Batch normalisation by running statistics; by those of the batch a sample would change with its neighbours."""
    gan = dgm.GAN(16, latent=2, hidden=(8,), body="convolutional", shape=(4, 4), channels=(2, 4), normalise=True)
    dgm.fit(gan, torch.rand(60, 16), epochs=2, batch_size=20, progress=False)
    torch.manual_seed(0)
    many = gan.sample(8)
    torch.manual_seed(0)
    means = gan.sample_means(8)
    torch.manual_seed(0)
    z = torch.randn(8, 2)
    gan.eval()
    for drawn in (many, means):
        torch.testing.assert_close(gan.decode(z[:1]), drawn[:1])
    gan.train()
    assert not torch.allclose(gan.decode(z[:2]), many[:2])


def test_the_pyramid_is_exact():
    gan = dgm.LAPGAN((4, 4), levels=1, latent=2, hidden=(4,), channels=(2,), kernel=3)
    picture = torch.tensor([[(4 * i + j) ** 2 % 7 for j in range(4)] for i in range(4)], dtype=torch.float32)
    fine, coarse = gan.pyramid(picture.view(1, 16))
    assert coarse[0, 0].tolist() == [[1.75, 1.75], [2.5, 1.25]]
    (residual,) = gan.residuals(picture.view(1, 16))
    assert residual[0, 0, 0].tolist() == [-1.75, -0.75, 2.25, 0.25]
    assert torch.equal(enlarged(coarse) + residual, fine)


def test_levels_play_on_the_data_s_own_coarse_pictures():
    """Pairs of a finer level share their coarse half, which is the data's; the coarsest level sees coarse pictures alone."""
    gan, x = dgm.LAPGAN.example()
    matches = gan.matches()
    assert set(matches) == {"4x4", "2x2"}
    data, made = matches["4x4"].pair(x)
    fine, coarse = gan.pyramid(x)
    assert torch.equal(data, torch.cat([fine.flatten(1), enlarged(coarse).flatten(1)], 1))
    assert torch.equal(made[:, 16:], data[:, 16:])
    assert torch.equal(matches["2x2"].pair(x)[0], coarse.flatten(1))
    own = {id(p) for match in matches.values() for p in match.parameters}
    assert own == {id(p) for p in gan.parameters()}


X = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
FILTER = torch.arange(1.0, 10).view(1, 1, 3, 3)


def test_un_pooling_and_transposed_convolution():
    assert UnPool(2)(X)[0, 0].tolist() == [[1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]]
    plain = F.conv_transpose2d(X, FILTER, stride=2)
    assert plain[0, 0].tolist() == [
        [1, 2, 5, 4, 6], [4, 5, 14, 10, 12], [10, 14, 36, 24, 30], [12, 15, 34, 20, 24], [21, 24, 55, 32, 36]
    ]  # fmt: skip
    padded = F.conv_transpose2d(X, FILTER, stride=2, padding=1, output_padding=1)
    assert padded[0, 0].tolist() == [[5, 14, 10, 12], [14, 36, 24, 30], [15, 34, 20, 24], [24, 55, 32, 36]]
    grid = torch.tensor([[float((3 * i + j) % 5) for j in range(4)] for i in range(4)]).view(1, 1, 4, 4)
    assert float((F.conv2d(grid, FILTER, stride=2, padding=1) * X).sum()) == float((grid * padded).sum()) == 725.0


@pytest.mark.parametrize("shape", [(4, 6), (5, 7), (4, 7)])
def test_un_pooling_with_turned_filters_is_the_transposed_convolution(shape):
    """One family of maps, on even and odd sides."""
    torch.manual_seed(0)
    plain, pooled = (TransposedConvolutions(shape, (2,), kernel=3, unpool=u) for u in (False, True))
    weight = plain.layers[0].weight
    with torch.no_grad():
        pooled.layers[2].weight.copy_(weight.transpose(0, 1).flip(-1, -2))
    features = torch.randn(3, plain.features)
    torch.testing.assert_close(plain(features), pooled(features))


def test_batch_norm_is_torch_s():
    torch.manual_seed(0)
    for x, theirs in [(torch.randn(9, 3), nn.BatchNorm1d(3)), (torch.randn(4, 3, 2, 5), nn.BatchNorm2d(3))]:
        ours = BatchNorm(3)
        for _ in range(3):
            torch.testing.assert_close(ours(x), theirs(x))
        torch.testing.assert_close(ours.running_variance, theirs.running_var)
        torch.testing.assert_close(ours.eval()(x[:1]), theirs.eval()(x[:1]))
    with pytest.raises(ValueError, match="one row in training"):
        BatchNorm(3)(torch.zeros(1, 3))


def test_batch_norm_over_processes_keeps_digits_of_columns_far_from_zero(monkeypatch):
    """The path of several processes, of which the others have no rows: means first, then squares about them."""
    monkeypatch.setattr(layers.processes, "world", lambda: 2)
    x = 3000 + torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    ours, theirs = BatchNorm(3), nn.BatchNorm1d(3).double()
    monkeypatch.setattr(layers.processes, "total", lambda value: value)
    right = theirs(x.double())
    # rows are rounded to 3000 * 2^-24 of a deviation, and means of 500 of them likewise
    torch.testing.assert_close(ours(x).double(), right, atol=1e-3, rtol=0)
    torch.testing.assert_close(ours.running_variance.double(), theirs.running_var, rtol=1e-3, atol=0)


def test_codes_are_matched_once_the_autoencoder_is_trained():
    """First decoder and encoder learn and the generator does not, then the other way round."""
    torch.manual_seed(0)
    model, x = dgm.GMMN(4, latent=2, hidden=(8,), code=3, code_hidden=(5,)), torch.rand(200, 4)
    criterion = model.objective(reconstruction=0.5)
    criterion.attach(model)
    for share, name, groups in [(0.0, "reconstruction", ("decoder", "encoder")), (0.5, "discrepancy", ("generator",))]:
        criterion.schedule(share)
        (turn,) = criterion.turns(x)
        assert (turn.name, turn.groups) == (name, groups)
        parameters = {"decoder": model.decoder, "encoder": criterion.encoder, "generator": model.generator}
        for part in parameters.values():
            part.zero_grad()
        turn.loss().backward()
        moved = {key for key, part in parameters.items() if any(p.grad is not None for p in part.parameters())}
        assert moved == set(groups)
    criterion.encoder.train()
    twice = [float(criterion.loss(x).detach()) for _ in range(2) if torch.manual_seed(1)]
    assert twice[0] == twice[1]  # codes of the data are taken without dropout
    names = [set(row) for row in dgm.fit(model, x, epochs=4, progress=False, batch_size=100).history]
    assert "reconstruction" in names[0]
    assert "discrepancy" in names[-1]


def test_reconstruction_is_not_judged():
    """Patience counts from the first epoch that matches; a single epoch does both."""
    x = torch.rand(200, 4)
    for options in ({"epochs": 12, "patience": 1}, {"epochs": 12, "keep": "best"}, {"epochs": 1}):
        model = dgm.GMMN(4, latent=2, hidden=(8,), code=3, code_hidden=(5,))
        before = model.generator[0].weight.detach().clone()
        run = dgm.fit(model, x, batch_size=100, progress=False, learning_rate=0.01, **options)
        assert "discrepancy" in run.history[-1]
        assert not torch.equal(model.generator[0].weight.detach(), before)


def test_columns_outside_the_output_are_refused():
    for model in (dgm.GAN(4, hidden=(3,)), dgm.GMMN(4, hidden=(3,), code=2), dgm.GAN(4, hidden=(3,), output="tanh")):
        with pytest.raises(ValueError, match="output='linear'"):
            dgm.fit(model, torch.rand(20, 4) + 3, progress=False)
    dgm.GAN(4, hidden=(3,), output="linear").check_data(torch.rand(20, 4) + 3)
    dgm.GAN(4, hidden=(3,), noise=0.5).check_data(torch.rand(20, 4) + 1.5)


def test_a_network_of_one_s_own():
    own = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 5))
    gan = dgm.GAN(5, latent=3, generator=own)
    assert gan.sample(2).shape == (2, 5)
    bias = own[-1].bias.detach().clone()
    gan.initialise(torch.rand(10, 5))
    assert torch.equal(own[-1].bias.detach(), bias)
    with pytest.raises(ValueError, match="expected"):
        dgm.GAN(5, latent=3, generator=nn.Linear(3, 4))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dgm.GAN(4, noise=-1.0), "noise got"),
        (lambda: dgm.GAN(4, prior="cauchy"), "prior got"),
        (lambda: dgm.GAN(4, output="softmax"), "output got"),
        (lambda: dgm.GAN(4, latent=0), "latent got"),
        (lambda: dgm.GAN(4, kernel=3), "convolutional"),
        (lambda: dgm.GAN(4, body="convolutional", shape=(3, 3)), "expected 4, the number of columns"),
        (lambda: dgm.GAN(4, body="convolutional", shape=(2, 2), kernel=4), "odd side"),
        (lambda: dgm.ConditionalGAN(4, classes=0), "classes got"),
        (lambda: dgm.LAPGAN((6, 6), levels=2), "divisible by 4"),
        (lambda: dgm.LAPGAN((28,)), "shape got"),
        (lambda: dgm.GMMN(4, code_hidden=(3,)), "codes"),
        (lambda: dgm.GMMN(4, code=3, output="linear"), "sigmoid"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_labels_that_are_missing_or_wrong():
    gan, x = dgm.ConditionalGAN.example()
    for bad, message in [(x[:, :4], "one-hot labels"), (x + torch.eye(7)[6], "one-hot|label")]:
        with pytest.raises(ValueError, match=message):
            dgm.fit(gan, bad, progress=False)
    with pytest.raises(ValueError, match="labels got"):
        gan.sample(2, labels=3)


def test_moments_of_single_rows_are_refused():
    model, x = dgm.GMMN.example()
    with pytest.raises(ValueError, match="the batch is the sample"):
        dgm.fit(model, x, batch_size=1, progress=False)
    with pytest.warns(UserWarning, match="narrower than the data"):
        dgm.fit(model, x, epochs=1, progress=False)
    with pytest.raises(ValueError, match="has no root"):
        dgm.MomentMatching(unbiased=True, root=True)
    with pytest.raises(ValueError, match="kernel got"):
        dgm.MomentMatching(kernel="gaussian")
    with pytest.raises(ValueError, match="Leave samples out"):
        dgm.fit(dgm.ConditionalGAN.example()[0], dgm.ConditionalGAN.example()[1], progress=False,
                objective=dgm.MomentMatching(samples=20))  # fmt: skip


@pytest.mark.filterwarnings("ignore:CodeMatching got batches")
def test_codes_that_were_interrupted_go_on_bit_for_bit(tmp_path, monkeypatch):
    """A run of two stages, stopped in the second, ends as one that was not: weights, encoder and which stage it is."""
    torch.manual_seed(0)
    x = torch.rand(60, 5)

    def trained(out, resume=False):
        torch.manual_seed(1)
        model = dgm.GMMN(5, latent=2, hidden=(4,), code=3)
        objective = model.objective()
        dgm.fit(model, x, objective=objective, epochs=6, batch_size=20, out=out, resume=resume, progress=False)
        return {**model.state_dict(), **{f"encoder.{k}": v for k, v in objective.encoder.state_dict().items()}}

    whole = trained(tmp_path / "whole")
    kept = Trainer._checkpoint

    def interrupted(self, epoch):
        kept(self, epoch)
        if epoch == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "_checkpoint", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "parts")
    monkeypatch.setattr(Trainer, "_checkpoint", kept)
    parts = trained(tmp_path / "parts", resume=True)
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
