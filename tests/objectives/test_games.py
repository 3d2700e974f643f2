"""Adversarial games: values and gradients against sums and quadrature, orbits of players, and what is stepped."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import pyro_dgm as dgm
from pyro_dgm.objectives.criteria.games import discriminator_loss, extrapolated, generator_loss, held
from pyro_dgm.train.checkpoint import load_state

GAMES = ("zero-sum", "non-saturating", "maximum-likelihood")
P = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
THETA = torch.arange(1, 5, dtype=torch.float64).sin()


def expected_loss(loss, logits, law):
    """The mean of a loss of single log odds under a law."""
    return sum(weight * loss(logit.view(1)) for weight, logit in zip(law, logits, strict=True))


def test_values_of_the_best_discriminator():
    """At $a = \\log p / q$ the value is $-\\log 4 + 2 JSD$."""
    q = torch.softmax(THETA, 0)
    best = (P / q).log()
    assert torch.sigmoid(best).tolist() == pytest.approx([0.2168432578, 0.3410008352, 0.6259322450, 0.8455882446])
    value = -expected_loss(lambda a: nn.functional.softplus(-a), best, P) - expected_loss(
        lambda a: nn.functional.softplus(a), best, q
    )
    middle = (P + q) / 2
    divergence = 0.5 * ((P * (P / middle).log()).sum() + (q * (q / middle).log()).sum())
    assert float(value) == pytest.approx(-1.137887555, abs=1e-9)
    assert float(value) == pytest.approx(float(2 * divergence - math.log(4)), abs=1e-12)
    every = best.repeat_interleave(torch.tensor([1, 2, 3, 4]))  # p exactly, as ten rows
    assert float(discriminator_loss(every, every) - nn.functional.softplus(every).mean()) == pytest.approx(
        float(expected_loss(lambda a: nn.functional.softplus(-a), best, P)), abs=1e-12
    )


GRADIENTS = {
    "zero-sum": [0.1147738511, 0.0561131119, -0.0754980221, -0.0953889408],
    "non-saturating": [0.1677356584, 0.0045308036, -0.1067884502, -0.0654780118],
    "maximum-likelihood": [0.2611625974, 0.1865088274, -0.1207148978, -0.3269565270],
}


@pytest.mark.parametrize("game", GAMES)
def test_gradients_of_a_law_at_the_best_discriminator(game):
    theta = THETA.clone().requires_grad_()
    q = torch.softmax(theta, 0)
    best = (P / q).log().detach()
    (slope,) = torch.autograd.grad(expected_loss(lambda a: generator_loss(game, a), best, q), theta)
    assert slope.tolist() == pytest.approx(GRADIENTS[game], abs=1e-9)
    if game == "maximum-likelihood":
        torch.testing.assert_close(slope, (q - P).detach())  # that of maximum likelihood


def test_the_maximum_likelihood_game_away_from_the_best_discriminator():
    theta = THETA.clone().requires_grad_()
    q = torch.softmax(theta, 0)
    logits = 0.7 * (P / q).log().detach() + 0.2
    (slope,) = torch.autograd.grad(expected_loss(lambda a: generator_loss("maximum-likelihood", a), logits, q), theta)
    assert slope.tolist() == pytest.approx([0.2121499072, 0.1215173305, -0.1195427098, -0.2141245279], abs=1e-9)


class Quadratic(nn.Module):
    """The log odds of two normals, of rows of one column."""

    def __init__(self, *coefficients):
        super().__init__()
        self.coefficients = nn.Parameter(torch.tensor(coefficients, dtype=torch.float64))

    def forward(self, x):
        c = self.coefficients
        return c[0] + c[1] * x[:, 0] + c[2] * x[:, 0] ** 2


NORMAL = {
    "zero-sum": (-0.6136731973, 0.2383748662, 0.0660373145),
    "non-saturating": (1.333208089, 0.7616251338, 0.7672960189),
    "maximum-likelihood": (-1.0, 0.4444444444, 0.0740740741),
}


@pytest.mark.parametrize("game", GAMES)
def test_gradients_of_a_normal_by_quadrature(game):
    """Generated rows $a + b z$ on a grid of z, weighed by its density, against the best discriminator of N(0, 1)."""
    a, b = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (1.0, 1.5))
    z = torch.linspace(-12, 12, 20001, dtype=torch.float64)
    weight = torch.softmax(-0.5 * z**2, 0)
    best = Quadratic(0.6276873303, -0.4444444444, -0.2777777778)
    log_odds = held(best, (a + b * z).unsqueeze(1))
    each = {
        "zero-sum": -nn.functional.softplus(log_odds),
        "non-saturating": nn.functional.softplus(-log_odds),
        "maximum-likelihood": -log_odds.exp(),
    }[game]
    loss = (weight * each).sum()
    found = [float(loss.detach()), *(float(g) for g in torch.autograd.grad(loss, (a, b)))]
    assert found == pytest.approx(NORMAL[game], abs=2e-9)
    # the loss itself is the mean of these over rows
    few = (a + b * z[::4000]).unsqueeze(1)
    assert float(generator_loss(game, best(few)).detach()) == pytest.approx(
        float(each[::4000].mean().detach()), abs=1e-12
    )


def test_log_odds_that_are_sure():
    """Softplus where log(1 - sigmoid) would be infinite; the exponential stops at log odds of 30."""
    sure = torch.tensor([-1000.0, 1000.0])
    assert float(discriminator_loss(sure, sure)) == pytest.approx(1000.0)
    assert math.isfinite(float(generator_loss("maximum-likelihood", sure)))
    a = torch.tensor([-20.0], requires_grad=True)
    slopes = {g: float(torch.autograd.grad(generator_loss(g, a), a)[0]) for g in GAMES}
    assert slopes["zero-sum"] == pytest.approx(-2.06e-9, rel=1e-2)
    assert slopes["non-saturating"] == pytest.approx(-1.0, rel=1e-6)


def orbit(eta, play, steps=100):
    """Steps of v = ab from (1, 0), where a descends."""
    a, b = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (1.0, 0.0))

    def losses():
        return a * b.detach() - a.detach() * b

    for _ in range(steps):
        if play == "alternating":
            with torch.no_grad():
                a -= eta * b
                b += eta * a
            continue
        loss = losses() if play == "simultaneous" else extrapolated(losses, (a, b), eta, 1)
        slopes = torch.autograd.grad(loss, (a, b))
        with torch.no_grad():
            for p, g in zip((a, b), slopes, strict=True):
                p -= eta * g
    return float(a.detach()), float(b.detach())


def test_orbits():
    """Extragradient steps contract where simultaneous ones spiral out and alternating ones stay on an ellipse.

    Those two, through ``fit``, are in tests/train/test_turns.py; here they are what the formulas are held against.
    """
    a, b = orbit(0.1, "simultaneous")
    assert (a, b) == pytest.approx((-1.408846983, -0.8485069288))
    assert a * a + b * b == pytest.approx(1.01**100)
    a, b = orbit(0.1, "alternating")
    assert (a, b) == pytest.approx((-0.8642050331, -0.5482021195))
    assert a * a + b * b - 0.1 * a * b == pytest.approx(1.0)
    a, b = orbit(0.1, "extragradient")
    assert a * a + b * b == pytest.approx((1 - 0.1**2 + 0.1**4) ** 100) == pytest.approx(0.3697481853)


class Shift(dgm.GAN):
    """Rows a + b z with two parameters."""

    def __init__(self):
        super().__init__(1, latent=1, hidden=(), output="linear")
        self.double()
        with torch.no_grad():
            self.generator[0].weight.fill_(1.5)
            self.generator[0].bias.fill_(1.0)

    def initialise(self, x):
        pass


@pytest.mark.parametrize("play", ["alternating", "simultaneous"])
def test_who_is_stepped(play, tmp_path):
    """Under fit Adam's moments and counts of a player move in its own turns alone, k times as often for the discriminator."""
    torch.manual_seed(0)
    model = dgm.GAN(1, latent=1, hidden=(2,), output="linear").double()
    player = Quadratic(0.1, -0.2, 0.0)
    game = dgm.Adversarial(player, "zero-sum", steps=2 if play == "alternating" else 1, play=play)
    rows = torch.randn(70, 1, dtype=torch.float64)
    dgm.fit(model, rows, objective=game, epochs=1, batch_size=21, out=tmp_path / "run", progress=False)
    optimiser = load_state(tmp_path / "run")["optimiser"]
    counts = {
        group["name"]: {int(optimiser["state"][p]["step"]) for p in group["params"]}
        for group in optimiser["param_groups"]
    }
    batches = 3  # of the 63 rows that are not held out
    assert counts == {"discriminator": {2 * batches if play == "alternating" else batches}, "generator": {batches}}


@pytest.mark.parametrize("game", GAMES)
def test_simultaneous_play_has_both_gradients_at_the_same_place(game):
    """The gradients of one loss are those of each player's own, with the other held; wrong ones would be sums of both."""
    x = torch.randn(64, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    model, player = Shift(), Quadratic(0.3, -0.2, -0.1)
    criterion = dgm.Adversarial(player, game, play="simultaneous")
    criterion.attach(model)
    torch.manual_seed(1)
    (turn,) = criterion.turns(x)
    weight, bias = model.generator[0].weight, model.generator[0].bias
    found = torch.autograd.grad(turn.loss(), (weight, bias, player.coefficients))
    torch.manual_seed(1)
    z = torch.randn(64, 1, dtype=torch.float64)
    rows = z @ weight.T + bias
    own = torch.autograd.grad(generator_loss(game, player(rows)), (weight, bias))
    theirs = torch.autograd.grad(discriminator_loss(player(x), player(rows.detach())), (player.coefficients,))
    for a, b in zip(found, (*own, *theirs), strict=True):
        torch.testing.assert_close(a, b)


def test_buffers_and_masks_of_the_discriminator():
    """Its batch statistics move in its own turn alone; its dropout has fresh masks, of kept units times two, in both."""
    gan, x = dgm.GAN(4, latent=2, hidden=(4,)), torch.rand(32, 4)
    norm = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 1), nn.Flatten(0))
    criterion = dgm.Adversarial(norm)
    criterion.attach(gan)
    assert int(norm[0].num_batches_tracked) == 0
    for turn in criterion.turns(x):
        turn.loss().backward()
    assert int(norm[0].num_batches_tracked) == 2  # rows of data and generated rows, apart
    player = dgm.Discriminator(4, hidden=(50,), dropout=0.5, input_dropout=0.0).train()
    twice = [held(player, x) for _ in range(2)]
    assert not torch.equal(*twice)
    assert not torch.equal(player(x), player(x))
    with torch.no_grad():
        hidden = player.top[0](x)
        kept = nn.Dropout(0.5)(hidden)
    assert set((kept / hidden)[hidden != 0].round().tolist()) == {0.0, 2.0}


def test_the_generator_meets_dropout_in_its_own_turn():
    """Halved weights instead would give one loss again and again."""
    gan, x = dgm.GAN.example()
    criterion = dgm.Adversarial(dgm.Discriminator(4, hidden=(20,)))
    criterion.attach(gan)
    gan.eval()

    def again():
        torch.manual_seed(3)  # the same rows
        rows = gan.counterparts(x)
        return [float(generator_loss("zero-sum", held(criterion.discriminators[""], rows)).detach()) for _ in range(2)]

    first, second = again()
    assert first != second


def own(law, latent=None):
    """A model whose site "x" has a law that depends on one parameter."""
    from pyro_dgm.models.shared.model import ProbabilisticModel

    class Own(ProbabilisticModel):
        def __init__(self):
            super().__init__()
            self.a = nn.Parameter(torch.zeros(2))

        def generate(self, x=None, size=None):
            with self.data_plate(x, size):
                z = 0.0 if latent is None else pyro.sample("z", latent(self.a))
                return pyro.sample("x", law(self.a + z), obs=x)

        def infer(self, *args, **kwargs):
            pass

        def sample(self, n):
            with torch.no_grad():
                return self.model(None, n)

        def objective(self):
            return dgm.Adversarial(dgm.Discriminator(2, hidden=(4,)))

        def options(self):
            return {}

        def check_data(self, x):
            pass

        @classmethod
        def example(cls):
            return cls(), torch.zeros(10, 2)

    return Own()


def test_any_reparameterised_program_can_be_trained():
    x = torch.randn(200, 2) + 3
    model = own(lambda a: dist.Normal(a, 1.0).to_event(1))
    dgm.fit(model, x, epochs=60, batch_size=50, learning_rate=0.02, progress=False,
            objective=dgm.Adversarial(nn.Sequential(nn.Linear(2, 1), nn.Flatten(0)), rate=2.0))  # fmt: skip
    assert bool((model.a > 1.0).all())
    flow, rows = dgm.FlowGenerator.example()
    dgm.fit(flow, rows, objective=dgm.Adversarial(dgm.Discriminator(3, hidden=(4,))), epochs=1, progress=False)
    vae = dgm.VAE(4, latent=2, hidden=(4,), output="gaussian")
    dgm.fit(
        vae, torch.rand(20, 4), objective=dgm.Adversarial(dgm.Discriminator(4, hidden=(4,))), epochs=1, progress=False
    )
    conditional, rows = dgm.ConditionalVAE(4, classes=2, latent=2, hidden=(4,), output="gaussian"), torch.rand(20, 6)
    rows[:, 4:] = torch.eye(2)[torch.arange(20) % 2]
    player = dgm.Discriminator(6, hidden=(4,))
    dgm.fit(conditional, rows, objective=dgm.Adversarial(player), epochs=1, progress=False)


@pytest.mark.parametrize("criterion", [lambda: dgm.Adversarial(dgm.Discriminator(2, hidden=(4,))), dgm.MomentMatching])
def test_discrete_sites_are_refused(criterion):
    bits = own(lambda a: dist.Bernoulli(logits=a).to_event(1))
    with pytest.raises(ValueError, match=r"site 'x' .* is not reparameterised"):
        criterion().attach(bits)
    learned = own(lambda a: dist.Normal(a, 1.0).to_event(1), lambda a: dist.Bernoulli(logits=a).to_event(1))
    with pytest.raises(ValueError, match=r"site 'z' .* is not reparameterised"):
        criterion().attach(learned)
    fixed = own(lambda a: dist.Normal(a, 1.0).to_event(1), lambda a: dist.Bernoulli(logits=torch.zeros(2)).to_event(1))
    criterion().attach(fixed)
    with pytest.raises(ValueError, match=r"draws no rows with a gradient|not reparameterised"):
        criterion().attach(dgm.RBM(2, 2))


def test_convolutional_discriminators_see_labels_at_every_place():
    """One filter over a 2x2 picture and two labels: place by place, with the filter's columns that lie outside left out."""
    player = dgm.Discriminator(6, (), body="convolutional", shape=(2, 2), channels=(1,), kernel=3).eval()
    filters, bias = player.convolutions.layers[0].weight[0], player.convolutions.layers[0].bias
    x = torch.tensor([[0.2, 0.7, 0.1, 0.5, 0.0, 1.0]])
    inside = filters[:, 1:, 1:]  # of stride 2 and the top left corner
    mapped = (inside[0] * x[0, :4].reshape(2, 2)).sum() + inside[2].sum() + bias
    top = player.top[0]
    expected = top.weight[0] @ torch.cat([torch.where(mapped > 0, mapped, 0.2 * mapped), x[0, 4:]]) + top.bias
    torch.testing.assert_close(player(x), expected)


def test_generated_labels_follow_the_data():
    """With labels of the data's law the best discriminator does not depend on the classes' shares."""
    gan = dgm.ConditionalGAN(2, classes=3, latent=2, hidden=(4,))
    x = torch.cat([torch.rand(60, 2), torch.eye(3)[torch.tensor([0] * 50 + [2] * 10)]], 1)
    assert torch.equal(gan.counterparts(x)[:, 2:], x[:, 2:])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dgm.Adversarial(3), "torch.nn.Module"),
        (lambda: dgm.Adversarial(dgm.Discriminator(4), game="wasserstein"), "game got"),
        (lambda: dgm.Adversarial(dgm.Discriminator(4), play="by turns"), "play got"),
        (lambda: dgm.Adversarial(dgm.Discriminator(4), steps=0), "steps got"),
        (lambda: dgm.Adversarial(dgm.Discriminator(4), steps=2, play="simultaneous"), "both players move at once"),
        (lambda: dgm.Adversarial(dgm.Discriminator(4), ahead=0.1), "extragradient"),
        (lambda: dgm.Discriminator(4, shape=(2, 2)), "convolutional"),
        (lambda: dgm.Discriminator(4, body="convolutional"), "needs the shape"),
        (lambda: dgm.Discriminator(4, body="convolutional", shape=(3, 3)), "more than the 4 columns"),
        (lambda: dgm.Discriminator(4, dropout=1.0), "dropout got"),
        (lambda: dgm.Discriminator(4, normalise=True), "convolutional"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_discriminators_that_do_not_fit():
    gan, x = dgm.GAN.example()
    for player, message in [
        (dgm.Discriminator(5), "does not take 4 columns"),
        (nn.Linear(4, 2), r"gives shape \(2, 2\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            dgm.fit(gan, x, objective=dgm.Adversarial(player), progress=False)
    pyramid, x = dgm.LAPGAN.example()
    with pytest.raises(ValueError, match="has matches"):
        dgm.fit(pyramid, x, objective=dgm.Adversarial(dgm.Discriminator(16)), progress=False)


def test_batches_of_one_row():
    gan = dgm.GAN(4, latent=2, hidden=(4,), normalise=True)
    with pytest.raises(ValueError, match="at least two"):
        dgm.fit(gan, torch.rand(20, 4), batch_size=1, progress=False)
    run = dgm.fit(gan, torch.rand(20, 4), batch_size=17, epochs=1, progress=False)  # 18 rows: the last is left out
    assert math.isfinite(run.history[0]["generator"])


@pytest.mark.parametrize("name", ["gan", "conditionalgan", "lapgan", "gmmn", "codes", "boosting"])
def test_a_resumed_game_is_the_same_bit_for_bit(name, tmp_path):
    """Weights of both players, moments, counts, buffers and random states."""

    def make():
        pyro.set_rng_seed(5)
        if name == "codes":
            return dgm.GMMN(4, latent=2, hidden=(4,), code=3, code_hidden=(4,)), torch.rand(300, 4), {}
        if name == "boosting":
            rbm, x = dgm.RBM.example()
            return rbm, x, {"objective": dgm.SelfSupervisedBoosting(dgm.PCD(chains=8), refresh=2, units="in turn")}
        cls = dgm.registry.models()[name]
        if name == "gan":
            model = dgm.GAN(
                16, latent=2, hidden=(4,), body="convolutional", shape=(4, 4), channels=(2, 4), normalise=True
            )
            return model, torch.rand(40, 16), {}
        return *cls.example(), {}

    options = {"batch_size": 150 if name == "codes" else 4, "seed": 1, "progress": False, "average": 0.9}
    model, x, extra = make()
    whole = dgm.fit(model, x, epochs=4, out=tmp_path / "whole", **options, **extra)
    if name != "codes":  # whose turns depend on the number of epochs
        model, x, extra = make()
        dgm.fit(model, x, epochs=2, out=tmp_path / "part", **options, **extra)
        model, x, extra = make()
        part = dgm.fit(model, x, epochs=4, out=tmp_path / "part", resume=True, **options, **extra)
        for a, b in zip(whole.model.state_dict().values(), part.model.state_dict().values(), strict=True):
            assert torch.equal(a, b)
        first, second = ({k: v for k, v in run.history[-1].items() if "seconds" not in k} for run in (whole, part))
        assert first == second
    loaded = dgm.load(tmp_path / "whole").state_dict()
    assert loaded.keys() == whole.model.state_dict().keys()  # the generator alone
    assert all(torch.equal(a, b) for a, b in zip(loaded.values(), whole.model.state_dict().values(), strict=True))
