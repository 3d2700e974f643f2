"""Autoregressive distributions inside Pyro programs: likelihood, prior, guide, decoder, each trained by stock SVI."""

import itertools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from oracles import boltzmann as oracle
from pyro.infer import SVI, JitTrace_ELBO, Trace_ELBO
from pyro.optim import SGD, Adam

import pyro_dgm as dgm

BITS = torch.tensor(list(itertools.product((0.0, 1.0), repeat=3)))
ROWS = torch.tensor([[1.0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 0, 1], [1, 1, 0]])
FLIP = 0.2
"""How often a latent bit is seen the other way round."""

MAKERS = {
    "fvbn": lambda **options: dgm.FVBN(3, order=[1, 2, 0], **options),
    "groups": lambda **options: dgm.NeuralAutoregressive(3, group=3, order=[1, 2, 0], direct=True, **options),
    "masks": lambda **options: dgm.MADE(3, (6,), masks=3, direct=True, **options),
}
KINDS = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def random(model, seed=0):
    return oracle.randomise(model, torch.Generator().manual_seed(seed), 0.5)


def gradient(model, loss):
    model.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def close_on_average(exact, draw, rounds=20):
    """Whether the mean of independent draws is ``exact``: t statistics of 19 degrees of freedom, below 10 but once in 10^8."""
    draws = torch.stack([draw() for _ in range(rounds)])
    error = draws.std(0) / rounds**0.5
    return ((draws.mean(0) - exact).abs() < 10 * error + 1e-5).all() and error.max() < 0.05 * exact.abs().max()


def trained(program, guide, *args, steps=100):
    svi = SVI(program, guide, Adam({"lr": 0.1}), Trace_ELBO(max_plate_nesting=1))
    for _ in range(steps):
        svi.step(*args)


def noisy(z):
    """Observed bits: the latent ones, each flipped with a small probability."""
    return dist.Bernoulli(z * (1 - FLIP) + (1 - z) * FLIP).to_event(1)


def no_guide(x):
    pass


@KINDS
def test_likelihood(make):
    model = random(make())

    def program(x):
        pyro.module("model", model)
        with pyro.plate("data", len(x)):
            pyro.sample("x", model(), obs=x)

    exact = gradient(model, -model().log_prob(ROWS).sum())
    found = gradient(model, Trace_ELBO(max_plate_nesting=1).differentiable_loss(program, no_guide, ROWS))
    torch.testing.assert_close(found, exact)
    trained(program, no_guide, ROWS)
    entropy = -(3 * math.log(3 / 6) + 2 * math.log(2 / 6) + math.log(1 / 6)) / 6
    assert -float(model().log_prob(ROWS).mean().detach()) < entropy + 0.1


@KINDS
def test_prior(make):
    """Latent bits with an autoregressive prior; with the exact posterior as guide the gradient is the enumerated one."""
    model = random(make())

    def program(x):
        pyro.module("model", model)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", model().expand([len(x)]))
            pyro.sample("x", noisy(z), obs=x)

    def scores(x):
        return model().log_prob(BITS) + noisy(BITS).log_prob(x.unsqueeze(-2))  # rows x 8

    def posterior(x):
        q = dist.Categorical(logits=scores(x).detach())
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Delta(BITS[q.sample()], event_dim=1))

    exact = gradient(model, -scores(ROWS).logsumexp(-1).sum())
    elbo, many = Trace_ELBO(max_plate_nesting=1), ROWS.repeat(300, 1)
    assert close_on_average(exact, lambda: gradient(model, elbo.differentiable_loss(program, posterior, many) / 300))
    before = float(scores(ROWS).logsumexp(-1).mean().detach())
    trained(program, posterior, ROWS)
    assert float(scores(ROWS).logsumexp(-1).mean().detach()) > before + 0.1


@KINDS
def test_guide(make):
    """A guide that sees the row as its context: the bound's score-function gradient is the enumerated one."""
    model = random(make(context=3))
    joint = torch.randn(8)

    def program(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", _Table(joint))
            pyro.sample("x", noisy(z), obs=x)

    def guide(x):
        pyro.module("model", model)
        with pyro.plate("data", len(x)):
            pyro.sample("z", model(x))

    log_p = (torch.log_softmax(joint, 0) + noisy(BITS).log_prob(ROWS.unsqueeze(-2))).T  # 8 x rows

    def bound():
        log_q = model(ROWS).log_prob(BITS.unsqueeze(1))
        return (log_q.exp() * (log_p - log_q)).sum()

    exact = gradient(model, -bound())
    elbo, many = Trace_ELBO(max_plate_nesting=1), ROWS.repeat(3000, 1)
    assert close_on_average(exact, lambda: gradient(model, elbo.differentiable_loss(program, guide, many) / 3000))
    best = float(log_p.logsumexp(0).sum())
    before = best - float(bound().detach())
    trained(program, guide, ROWS.repeat(20, 1))
    assert best - float(bound().detach()) < 0.5 * before


@KINDS
def test_decoder(make):
    """A latent class decoded to bits through the context: enumerated by Pyro, the gradient is exact."""
    model = random(make(context=2))

    def program(x):
        pyro.module("model", model)
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Categorical(torch.tensor([0.4, 0.6])), infer={"enumerate": "parallel"})
            pyro.sample("x", model(torch.eye(2)[k]), obs=x)

    each = model(torch.eye(2)).log_prob(ROWS.unsqueeze(1)) + torch.tensor([0.4, 0.6]).log()
    exact = gradient(model, -each.logsumexp(1).sum())
    elbo = pyro.infer.TraceEnum_ELBO(max_plate_nesting=1)
    found = gradient(model, elbo.differentiable_loss(program, no_guide, ROWS))
    torch.testing.assert_close(found, exact, atol=1e-5, rtol=1e-4)
    svi = SVI(program, no_guide, Adam({"lr": 0.1}), elbo)
    before = svi.evaluate_loss(ROWS)
    for _ in range(60):
        svi.step(ROWS)
    assert svi.evaluate_loss(ROWS) < before - 2


class _Table(dist.TorchDistribution):
    """Three bits whose eight states have given logits."""

    arg_constraints = {}
    support = dist.constraints.independent(dist.constraints.boolean, 1)

    def __init__(self, logits, batch_shape=()):
        self.logits = logits
        super().__init__(torch.Size(batch_shape), torch.Size([3]), validate_args=False)

    def expand(self, batch_shape, _instance=None):
        return _Table(self.logits, batch_shape)

    def sample(self, sample_shape=()):
        return BITS[dist.Categorical(logits=self.logits).sample((*sample_shape, *self.batch_shape))]

    def log_prob(self, value):
        return self.logits.log_softmax(0)[(value @ torch.tensor([4.0, 2, 1])).long()]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"order": ["a", "b", 1]}, "order got .*expected a permutation of 0 to 2"),
        ({"order": [0, 1, None]}, "order got .*expected a permutation of 0 to 2"),
        ({"order": 2**70}, "order got 1180591620717411303424"),
        ({"output": None}, "output got None; expected 'binary'"),
        ({"output": 3}, "output got 3; expected 'binary'"),
        ({"output": ["binary", "gaussian", ["x"]]}, "output got .*a sequence of these, one per column"),
    ],
)
@pytest.mark.parametrize("make", [dgm.FVBN, dgm.NADE, dgm.MADE, dgm.NeuralAutoregressive])
def test_orders_and_families_of_strange_types(make, options, match):
    with pytest.raises(ValueError, match=match):
        make(3, **options)


def test_mixed_columns_without_a_declaration():
    """Bits, reals and categories side by side: the advice is to declare them, not to make bits of all."""
    x = torch.tensor([[0.0, 1, 0.3, -1.2, 2], [1, 0, 0.1, 0.4, 1]])
    with pytest.raises(
        ValueError, match=r"got the value 0.3 in row 0, column 2; expected 0 or 1. Say what the columns are by"
    ):
        dgm.fit(dgm.NADE(5, 4), x, epochs=1, progress=False)
    with pytest.raises(ValueError, match="categorical:C"):
        dgm.fit(dgm.FVBN(2), torch.tensor([[0.0, 2], [1, 0]]), epochs=1, progress=False)
    with pytest.raises(ValueError, match="Grey levels need a binarisation"):
        dgm.fit(dgm.NADE(2, 4), torch.tensor([[0.0, 0.2], [1, 0]]), epochs=1, progress=False)


@pytest.mark.parametrize(
    "cls", [dgm.FVBN, dgm.NADE, dgm.RNADE, dgm.MADE, dgm.OrderlessNADE, dgm.NADEk, dgm.ConvolutionalNADE]
)
def test_a_compiled_elbo_follows_data_and_parameters(cls):
    """The trace that Pyro compiles at the first batch holds for others: no member, order or parameter is frozen in it."""
    model, x = cls.example()
    pyro.clear_param_store()
    svi = SVI(model.model, model.guide, SGD({"lr": 1e-3}), JitTrace_ELBO(max_plate_nesting=1, ignore_jit_warnings=True))
    for batch in (x, x.flip(1), x.flip(0)):
        with torch.no_grad():
            expected = -float(model().log_prob(batch).sum())
        assert svi.step(batch) == pytest.approx(expected, rel=1e-4)
