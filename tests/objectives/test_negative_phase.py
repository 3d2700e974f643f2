"""The negative phase gives exact gradients in every role that an RBM plays in a Pyro program."""

import copy
import itertools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from oracles import boltzmann as oracle
from pyro import poutine
from pyro.infer import (
    HMC,
    MCMC,
    NUTS,
    SVI,
    Predictive,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
    config_enumerate,
)
from pyro.infer.autoguide import AutoDelta, AutoNormal
from pyro.nn import PyroModule, PyroSample
from pyro.optim import SGD, Adam

import pyro_dgm as dgm
from pyro_dgm.objectives.phases import tracking


def elbo():
    return Trace_ELBO(max_plate_nesting=1)


def exact_gradients(rbm, x):
    """Of the summed log-likelihood, by NumPy enumeration: data statistics minus model statistics."""
    exact = oracle.of_rbm(rbm)
    mean, pairs = exact.gradients()
    v = rbm.visible
    hidden = torch.sigmoid(x @ rbm.weight + rbm.hidden_bias).detach()
    n = len(x)
    return {
        "weight": x.T @ hidden - n * torch.as_tensor(pairs[:v, v:], dtype=x.dtype),
        "visible_bias": x.sum(0) - n * torch.as_tensor(mean[:v], dtype=x.dtype),
        "hidden_bias": hidden.sum(0) - n * torch.as_tensor(mean[v:], dtype=x.dtype),
    }


def gradients(model, program, x, loss=None, repeats=1):
    module = (loss or elbo())(program, model.guide)
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for _ in range(repeats):
        model.zero_grad()
        module(x).backward()
        for name, p in model.named_parameters():
            total[name] += p.grad / repeats
    return total


def negated(gradients, share=1):
    """Gradients of the loss as those of the log-likelihood."""
    return {name: -gradient / share for name, gradient in gradients.items()}


def close(found, expected, relative):
    scale = max(float(e.abs().max()) for e in expected.values())
    for name, e in expected.items():
        assert float((found[name] + e).abs().max()) < relative * scale, name


@pytest.mark.parametrize("loss", [Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO])
def test_likelihood_exact(loss):
    rbm, x = dgm.RBM.example()
    program = dgm.negative_phase(rbm.model, dgm.ExactNegativePhase())
    if loss is TraceGraph_ELBO:
        svi = SVI(program, rbm.guide, SGD({"lr": 0.0}), loss(max_plate_nesting=1))
        kept = {}
        svi.optim = lambda params: kept.update({n: p.grad.clone() for n, p in rbm.named_parameters()})
        svi.step(x)
        close(kept, exact_gradients(rbm, x), 1e-5)
    else:
        close(gradients(rbm, program, x, loss(max_plate_nesting=1)), exact_gradients(rbm, x), 1e-5)


def test_likelihood_value_is_the_log_likelihood():
    rbm, x = dgm.RBM.example()
    program = dgm.negative_phase(rbm.model, dgm.ExactNegativePhase())
    exact = oracle.of_rbm(rbm)
    assert float(elbo()(program, rbm.guide)(x).detach()) == pytest.approx(
        -(exact.marginal(x.numpy()) - exact.log_z).sum(), rel=1e-5
    )


@pytest.mark.parametrize("follow", [True, False])
def test_pcd_at_stationarity(follow):
    """With many chains the gradient is the exact one up to sampling error; blocks outlast the chains' correlation."""
    rbm, x = dgm.RBM.example()
    program = dgm.negative_phase(rbm.model, dgm.PCD(k=2, chains=1000, follow=follow))
    gradients(rbm, program, x, repeats=50)
    blocks = [negated(gradients(rbm, program, x, repeats=20)) for _ in range(20)]
    oracle.meets(blocks, exact_gradients(rbm, x), 0.03)


def test_cd_with_many_sweeps():
    rbm, x = dgm.RBM.example()
    program = dgm.negative_phase(rbm.model, dgm.CD(k=30))
    data = x.repeat(200, 1)
    blocks = [negated(gradients(rbm, program, data), 200) for _ in range(20)]
    oracle.meets(blocks, exact_gradients(rbm, x), 0.05)


def test_cd_k_gradient_is_that_of_the_transition_matrix():
    """CD-1 on average: start at the data, hidden from the posterior, one sweep by the explicit matrix."""
    rbm, x = dgm.RBM.example()
    exact = oracle.of_rbm(rbm)
    T = exact.transition([range(6, 10), range(6)])
    start = torch.zeros(len(exact.states))
    for row in x:
        start[int((exact.states == [*row.tolist(), 0, 0, 0, 0]).all(1).argmax())] += 1 / len(x)
    p = start.numpy() @ T
    visible = torch.as_tensor(exact.states[:, :6], dtype=torch.float32)
    hidden = torch.sigmoid(visible @ rbm.weight + rbm.hidden_bias).detach()
    expected = {
        "weight": torch.einsum("s,si,sj->ij", torch.as_tensor(p, dtype=torch.float32), visible, hidden) * len(x)
    }
    positive = x.T @ torch.sigmoid(x @ rbm.weight + rbm.hidden_bias).detach()
    expected["weight"] = positive - expected["weight"]
    data = x.repeat(500, 1)
    program = dgm.negative_phase(rbm.model, dgm.CD(k=1))
    oracle.meets([negated(gradients(rbm, program, data), 500) for _ in range(20)], expected, 0.05)


def test_wrong_phase_fails_the_gradient_test():
    """The tolerance sees one sweep in place of thirty."""
    rbm, x = dgm.RBM.example()
    program = dgm.negative_phase(rbm.model, dgm.CD(k=1))
    blocks = [negated(gradients(rbm, program, x.repeat(200, 1)), 200) for _ in range(20)]
    with pytest.raises(AssertionError):
        oracle.meets(blocks, exact_gradients(rbm, x), 0.05)


def test_subsampling_scales_both_phases():
    rbm, x = dgm.RBM.example()
    program = dgm.negative_phase(rbm.model, dgm.ExactNegativePhase())
    module = elbo()(program, rbm.guide)
    module(x, size=50).backward()
    expected = {k: 5 * g for k, g in exact_gradients(rbm, x).items()}
    close({n: p.grad for n, p in rbm.named_parameters()}, expected, 1e-5)


def test_mask_and_scale_handlers():
    rbm, x = dgm.RBM.example()
    mask = torch.arange(10) < 4

    def program(x):
        with poutine.mask(mask=mask), poutine.scale(scale=3.0):
            return rbm.model(x)

    module = elbo()(dgm.negative_phase(program, dgm.ExactNegativePhase()), rbm.guide)
    module(x).backward()
    expected = {k: 3 * g for k, g in exact_gradients(rbm, x[:4]).items()}
    close({n: p.grad for n, p in rbm.named_parameters()}, expected, 1e-5)


@pytest.mark.parametrize("wrap", ["mask", "to_event"])
def test_wrapped_distributions(wrap):
    rbm, x = dgm.RBM.example()

    def program(x):
        if wrap == "mask":
            with pyro.plate("data", len(x)):
                return pyro.sample("x", rbm().mask(torch.arange(10) < 4), obs=x)
        return pyro.sample("x", rbm().expand([10]).to_event(1), obs=x)

    loss = Trace_ELBO(max_plate_nesting=1)(dgm.negative_phase(program, dgm.ExactNegativePhase()), lambda x: None)
    value = loss(x)
    value.backward()
    rows = x[:4] if wrap == "mask" else x
    close({n: p.grad for n, p in rbm.named_parameters()}, exact_gradients(rbm, rows), 1e-5)


class BinaryVAE(PyroModule):
    """A decoder on binary latents with an RBM prior; enumerable, so that the ELBO has an exact gradient."""

    def __init__(self):
        super().__init__("BinaryVAE")
        self.prior = oracle.randomise(dgm.RBM(3, 2), torch.Generator().manual_seed(4))
        self.decoder = torch.nn.Linear(3, 5)
        self.encoder = torch.nn.Linear(5, 3)

    def model(self, x):
        pyro.module("vae", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", self.prior())
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("vae", self)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Bernoulli(logits=self.encoder(x)).to_event(1))


def test_prior_of_a_vae_with_binary_latents():
    """Score-function gradients, averaged over many particles, meet the enumerated gradient of the exact ELBO."""
    vae = BinaryVAE()
    x = torch.randint(0, 2, (4, 5)).float()
    codes = torch.tensor(list(itertools.product([0.0, 1.0], repeat=3)))
    q = dist.Bernoulli(logits=vae.encoder(x)[:, None]).to_event(1).log_prob(codes)
    likelihood = dist.Bernoulli(logits=vae.decoder(codes)).to_event(1).log_prob(x[:, None])
    hidden = torch.tensor(list(itertools.product([0.0, 1.0], repeat=2)))
    p = vae.prior
    joint = (codes @ p.visible_bias)[:, None] + (hidden @ p.hidden_bias) + codes @ p.weight @ hidden.T
    log_prior = joint.logsumexp(1) - joint.flatten().logsumexp(0)
    exact = -(q.exp() * (likelihood + log_prior - q)).sum()
    names = [n for n, _ in vae.named_parameters()]
    expected = dict(zip(names, torch.autograd.grad(exact, list(vae.parameters())), strict=True))
    for phase in (dgm.ExactNegativePhase(), dgm.PCD(k=2, chains=500)):
        program = dgm.negative_phase(vae.model, phase)
        loss = Trace_ELBO(num_particles=2000, max_plate_nesting=1, vectorize_particles=True)
        blocks = []
        for _ in range(30):
            vae.zero_grad()
            loss.differentiable_loss(program, vae.guide, x).backward()
            blocks.append({n: parameter.grad for n, parameter in vae.named_parameters()})
        oracle.meets(blocks, expected, 0.05)


def test_prior_on_the_weights():
    """An RBM whose weights have a normal prior: the MAP gradient under SVI is that of the penalised likelihood."""
    rbm, x = dgm.RBM.example()
    value = rbm.weight.detach().clone()
    del rbm.weight
    rbm.weight = PyroSample(dist.Normal(0.0, torch.ones(6, 4)).to_event(2))
    program = dgm.negative_phase(rbm.model, dgm.ExactNegativePhase())
    guide = AutoDelta(poutine.block(rbm.model, hide=["x"]), init_loc_fn=lambda site: value.clone())
    loss = elbo().differentiable_loss(program, guide, x)
    loss.backward()
    reference, _ = dgm.RBM.example()
    expected = exact_gradients(reference, x)["weight"] - value
    location = next(iter(guide.parameters()))
    torch.testing.assert_close(-location.grad, expected, atol=1e-4, rtol=1e-4)


def test_prior_on_the_weights_with_vectorised_particles():
    """Every particle has weights, and so a log Z, of its own."""
    rbm, x = dgm.RBM.example()
    del rbm.weight
    rbm.weight = PyroSample(dist.Normal(0.0, torch.ones(6, 4)).to_event(2))
    guide = AutoNormal(poutine.block(rbm.model, hide=["x"]))
    program = dgm.negative_phase(rbm.model, dgm.ExactNegativePhase())
    batched = Trace_ELBO(num_particles=20, max_plate_nesting=1, vectorize_particles=True)
    looped = Trace_ELBO(num_particles=20, max_plate_nesting=1)
    with torch.no_grad():
        a, b = (torch.tensor([e.loss(program, guide, x) for _ in range(40)]) for e in (batched, looped))
    stderr = ((a.var() + b.var()) / 40).sqrt()
    assert stderr < 0.02 * b.mean()
    assert (a.mean() - b.mean()).abs() < 6 * stderr


def test_context_dependent_biases():
    """Every row has its own machine; the gradient reaches the context network."""
    rbm, x = dgm.RBM.example()
    network = torch.nn.Linear(2, 6)
    context = torch.randn(len(x), 2)

    def program(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", rbm(visible_shift=network(context)), obs=x)

    elbo()(dgm.negative_phase(program, dgm.ExactNegativePhase()), lambda x: None)(x).backward()
    expected = torch.zeros_like(network.weight)
    for row, c, shift in zip(x, context, network(context).detach(), strict=True):
        one = copy.deepcopy(rbm)
        with torch.no_grad():
            one.visible_bias += shift
        expected += exact_gradients(one, row[None])["visible_bias"][:, None] * c
    torch.testing.assert_close(-network.weight.grad, expected, atol=1e-4, rtol=1e-4)


def test_context_with_cd_and_without_pcd():
    rbm, x = dgm.RBM.example()

    def program(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", rbm(hidden_shift=torch.zeros(len(x), 4)), obs=x)

    assert torch.isfinite(elbo()(dgm.negative_phase(program, dgm.CD(2)), lambda x: None)(x))
    with pytest.raises(ValueError, match=r"Use dgm.CD"):
        elbo()(dgm.negative_phase(program, dgm.PCD()), lambda x: None)(x)


def test_training_without_a_negative_phase_is_refused():
    rbm, x = dgm.RBM.example()
    with pytest.raises(dgm.NegativePhaseError, match=r"dgm.negative_phase"):
        SVI(rbm.model, rbm.guide, Adam({}), elbo()).step(x)
    large = dgm.RBM(100, 100)
    with pytest.raises(dgm.NegativePhaseError, match=r"dgm.negative_phase"):
        SVI(large.model, large.guide, Adam({}), elbo()).step(torch.zeros(3, 100))


def test_scoring_without_a_negative_phase_works():
    rbm, x = dgm.RBM.example()
    exact = oracle.of_rbm(rbm)
    trace = poutine.trace(rbm.model).get_trace(x)
    assert float(trace.log_prob_sum().detach()) == pytest.approx(
        (exact.marginal(x.numpy()) - exact.log_z).sum(), rel=1e-5
    )
    assert float(rbm().log_prob(x).sum().detach()) == pytest.approx(
        (exact.marginal(x.numpy()) - exact.log_z).sum(), rel=1e-5
    )


def test_log_prob_outside_a_program_has_the_exact_gradient():
    rbm, x = dgm.RBM.example()
    rbm().log_prob(x).sum().backward()
    close({n: -p.grad for n, p in rbm.named_parameters()}, exact_gradients(rbm, x), 1e-5)


def test_an_attached_log_partition_scores_but_does_not_train():
    rbm, x = dgm.RBM.example()
    known = rbm().with_log_partition(dgm.log_partition(rbm()))
    torch.testing.assert_close(known.log_prob(x), rbm().log_prob(x))
    with pytest.raises(dgm.NegativePhaseError, match="attached as a number"):
        known.log_prob(x).sum().backward()


@pytest.mark.parametrize("kernel", [HMC, NUTS])
@pytest.mark.parametrize("phase", [None, "pcd"])
def test_hmc_over_parameters_is_refused(kernel, phase):
    rbm, x = dgm.RBM.example()
    del rbm.weight
    rbm.weight = PyroSample(dist.Normal(0.0, torch.ones(6, 4)).to_event(2))
    program = rbm.model if phase is None else dgm.negative_phase(rbm.model, dgm.PCD(chains=10))
    mcmc = MCMC(kernel(program), num_samples=2, warmup_steps=2, disable_progbar=True)
    with pytest.raises(dgm.NegativePhaseError, match="negative phase"):
        mcmc.run(x)


def test_hmc_over_parameters_with_the_exact_phase_is_no_longer_intractable():
    """One bias, a normal prior: the posterior mean against a grid."""
    rbm, x = dgm.RBM.example()
    base = rbm.visible_bias.detach().clone()
    del rbm.visible_bias

    def program(x):
        b = pyro.sample("b", dist.Normal(0.0, 1.0))
        rbm.visible_bias = torch.cat([b[None], base[1:]])
        with pyro.plate("data", len(x)):
            pyro.sample("x", rbm(), obs=x)

    mcmc = MCMC(NUTS(dgm.negative_phase(program, dgm.ExactNegativePhase())), 400, 200, disable_progbar=True)
    mcmc.run(x)
    grid = torch.linspace(-4, 4, 401)
    log_p = []
    for b in grid:
        rbm.visible_bias = torch.cat([b[None], base[1:]])
        log_p.append(float(rbm().log_prob(x).sum().detach()) - 0.5 * float(b) ** 2)
    weight = torch.softmax(torch.tensor(log_p), 0)
    mean = float((weight * grid).sum())
    sd = float((weight * (grid - mean) ** 2).sum().sqrt())
    # Effective sample size of NUTS on one dimension is above 50 of 400: six standard errors.
    assert abs(float(mcmc.get_samples()["b"].mean()) - mean) < 6 * sd / 50**0.5


def test_autoguide_prototypes_pass():
    rbm, x = dgm.RBM.example()
    del rbm.weight
    rbm.weight = PyroSample(dist.Normal(0.0, torch.ones(6, 4)).to_event(2))
    program = dgm.negative_phase(rbm.model, dgm.PCD(chains=50))
    guide = AutoNormal(poutine.block(rbm.model, hide=["x"]))
    svi = SVI(program, guide, Adam({"lr": 0.01}), elbo())
    assert all(torch.isfinite(torch.tensor(svi.step(x))) for _ in range(3))


def test_the_chain_advances_once_a_step():
    rbm, x = dgm.RBM.example()
    phase = dgm.PCD(k=1, chains=5)
    program = dgm.negative_phase(rbm.model, phase)
    svi = SVI(program, rbm.guide, SGD({"lr": 0.0}), Trace_ELBO())
    svi.step(x)
    before = {k: v.clone() for k, v in phase.chains["x"].items()}
    calls = []
    original = phase.surrogate
    phase.surrogate = lambda *args: calls.append(1) or original(*args)
    svi.step(x)
    assert calls == [1]
    assert any((before[k] != v).any() for k, v in phase.chains["x"].items())


@pytest.mark.parametrize("options", [{}, {"centred": True}, {"fast": 0.1}, {"k": 3}])
def test_without_log_z_the_loss_is_the_difference_of_free_energies(options):
    rbm, x = dgm.RBM.example()
    phase = dgm.PCD(chains=20, follow=False, **options)
    program = dgm.negative_phase(rbm.model, phase)
    for _ in range(3):
        loss = elbo()(program, rbm.guide)(x)
        chains = phase.chains["x"]["visible"]
        with torch.no_grad():
            expected = len(x) * (rbm().free_energy(x).mean() - rbm().free_energy(chains).mean())
        assert len(chains) == 20
        assert float(loss.detach()) == pytest.approx(float(expected), abs=1e-4)
    assert not phase.tracking


def test_the_loss_of_a_small_machine_is_exact():
    """Bars and stripes, whose modes persistent chains do not cross: at every step the loss is that of listed states."""
    rows = torch.tensor([[(m >> i) & 1 for i in range(3)] for m in range(8)]).float()
    x = torch.cat([rows.repeat(1, 3), rows.repeat_interleave(3, 1)]).unique(dim=0)
    torch.manual_seed(0)
    rbm = dgm.RBM(9, 16)
    svi = SVI(dgm.negative_phase(rbm.model, dgm.PCD(k=5)), rbm.guide, Adam({"lr": 0.02}), elbo())
    states = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 9).double()
    for _ in range(200):
        W, b, c = (p.detach().double() for p in (rbm.weight, rbm.visible_bias, rbm.hidden_bias))
        unnormalised = [v @ b + torch.nn.functional.softplus(v @ W + c).sum(1) for v in (x.double(), states)]
        expected = float(unnormalised[1].logsumexp(0) - unnormalised[0].mean())
        assert svi.step(x) / len(x) == pytest.approx(expected, abs=1e-3)


def test_the_tracked_log_partition_follows_training(monkeypatch):
    """After 300 steps the estimate is within 0.3 nats of the enumerated value, which has moved by more than 0.5."""
    monkeypatch.setattr(tracking, "_LISTED_SUMS", 0)
    torch.manual_seed(1)
    rbm = dgm.RBM(8, 5)
    x = (torch.rand(200, 1) < 0.5).float().expand(200, 8) * (torch.rand(200, 8) < 0.9)
    phase = dgm.PCD(k=2, chains=500)
    svi = SVI(dgm.negative_phase(rbm.model, phase), rbm.guide, SGD({"lr": 2e-4}), elbo())
    start = float(dgm.log_partition(rbm()).value)
    for _ in range(300):
        svi.step(x)
    end = float(dgm.log_partition(rbm()).value)
    assert abs(end - start) > 0.5
    assert abs(float(phase.tracking["x"].state["log_z"]) - end) < 0.3


class Moving:
    """Independent bits whose logits turn, with draws, log Z and entropy in closed form; without an annealing path."""

    layered = False

    def __init__(self, speed):
        self.speed, self.phases = speed, 2 * math.pi * torch.rand(60, dtype=torch.float64)

    def logits(self, step):
        return 2 * torch.sin(self.speed * step + self.phases)

    def draws(self, step, rows):
        return (torch.rand(rows, 60, dtype=torch.float64) < torch.sigmoid(self.logits(step))).double()

    def log_z(self, step):
        return float(torch.nn.functional.softplus(self.logits(step)).sum())

    def entropy(self, step):
        logits = self.logits(step)
        return self.log_z(step) - float((torch.sigmoid(logits) * logits).sum())


@pytest.mark.parametrize(("speed", "large"), [(0.5, True), (0.02, False)])
def test_log_z_is_followed_through_small_and_large_steps(speed, large):
    """By draws from the law itself: nothing but what the estimates promise can be wrong.

    After large steps the error is that of two means of log p over 200 draws, and the change of the entropy, which is known. Small
    steps add up: each is wrong by the standard error of a mean over 20 witnesses, hardly more than its changes' deviation.
    """
    torch.manual_seed(0)
    law, followed = Moving(speed), tracking.Tracking()
    rows = law.draws(0, 200)
    followed.begin(law, rows, rows[:20] @ law.logits(0))
    followed.leave(rows[:20] @ law.logits(0), (rows @ law.logits(0)).mean())
    variance = 0.0
    for step in range(1, 301):
        followed.follow(law, rows, rows[:20] @ law.logits(step))
        p, turn = torch.sigmoid(law.logits(step - 1)), law.logits(step) - law.logits(step - 1)
        variance += float((turn**2 * p * (1 - p)).sum())
        rows = law.draws(step, 200)
        followed.leave(rows[:20] @ law.logits(step), (rows @ law.logits(step)).mean())
        assert bool(followed.state["trusted"]) is not large
        deviation = float((law.logits(step) ** 2 * (p * (1 - p))).sum().sqrt())
        error = float(followed.state["log_z"]) - (law.log_z(step) - law.log_z(0))
        if large:
            assert abs(error) < 6 * deviation * math.sqrt(2 / 200) + abs(law.entropy(step) - law.entropy(0))
        else:
            assert abs(error) < 6 * math.sqrt(1.1 * variance / 20) + 0.1 * variance


def test_witnesses_without_probability_are_forgotten():
    """While a state has an infinite energy nothing is said of the entropy, nor at the first step; then log Z is found again."""
    torch.manual_seed(0)
    law, followed = Moving(0.0), tracking.Tracking()
    rows = law.draws(0, 200)
    for number in range(30):
        log_p = rows @ law.logits(0)
        if number in (0, 5, 6, 7, 20):
            log_p[number % 7] = -math.inf
        followed.follow(law, rows, log_p[:20]) if number else followed.begin(law, rows, log_p[:20])
        followed.leave(log_p[:20], log_p.mean())
    assert abs(float(followed.state["log_z"])) < 1e-6  # counted from the first step, since which nothing moved
    assert bool(followed.state["trusted"])


def test_a_state_without_probability_leaves_other_machines_alone():
    """Of two machines in a batch, which take the same large steps, one has a state of infinite energy."""
    torch.manual_seed(0)
    law, alone, both = Moving(0.5), tracking.Tracking(), tracking.Tracking()

    def twice(log_p, number):
        log_p = log_p.unsqueeze(-1).repeat(1, 2)
        log_p[number, 1] = -math.inf if number in (5, 9) else log_p[number, 1]
        return log_p

    rows = law.draws(0, 200)
    for number in range(10):
        log_p = rows @ law.logits(number)
        for followed, change in ((alone, log_p), (both, twice(log_p, number))):
            followed.follow(law, rows, change[:20]) if number else followed.begin(law, rows, change[:20])
        rows = law.draws(number, 200)
        log_p = rows @ law.logits(number)
        for followed, left in ((alone, log_p), (both, twice(log_p, number))):
            followed.leave(left[:20], left.mean(0))
    for name in ("log_z", "entropy"):
        assert both.state[name][0] == pytest.approx(float(alone.state[name]))
        assert bool(both.state[name].isfinite().all())


def test_the_change_of_log_z_is_not_too_small_on_average():
    """Of normal changes log E e^c is half of their variance; the logarithm of a mean over ten misses 0.018 nats of it."""
    torch.manual_seed(0)
    law, followed, changes = Moving(0.0), tracking.Tracking(), math.sqrt(0.3) * torch.randn(10, 20000)
    followed.begin(law, changes, torch.zeros_like(changes))
    followed.follow(law, changes, changes)
    error = followed.state["log_z"] - 0.15
    assert abs(float(error.mean())) < 0.006
    assert float(error.std()) / math.sqrt(20000) < 0.0015


def test_anchors_are_rough_while_log_z_moves_fast_and_good_once_it_does_not(monkeypatch):
    """They lie ten steps apart at least, or half of the steps so far, but three."""
    monkeypatch.setattr(tracking, "ANCHOR_STEPS", 10)
    monkeypatch.setattr(tracking, "FIRST_STEPS", 3)
    annealed, dist = [], dgm.RBM(30, 20)()
    found = tracking.log_partition
    monkeypatch.setattr(tracking, "log_partition", lambda *a, **o: annealed.append(o["temperatures"]) or found(*a, **o))
    x, log_p = torch.zeros(5, 30), torch.zeros(20)
    followed = tracking.Tracking()
    followed.begin(dist, x, log_p)
    assert annealed == [300]
    for nats, steps, expected in (
        (9.0, 3, [100]),
        (9.0, 3, [100]),
        (4.0, 16, [100, 100]),
        (0.0, 19, []),
        (0.0, 100, [300]),
    ):
        annealed.clear()
        for _ in range(steps):
            followed.follow(dist, x, log_p + nats)
            followed.leave(log_p, log_p.mean())
        assert annealed == expected, (nats, steps)


@pytest.mark.parametrize("options", [{"k": 0}, {"k": 1.5}, {"chains": 0}])
def test_bad_phases(options):
    with pytest.raises(ValueError, match="got"):
        dgm.PCD(**options)


def test_a_class_instead_of_an_instance():
    with pytest.raises(ValueError, match="expected an instance"):
        dgm.negative_phase(dgm.RBM.example()[0].model, dgm.PCD)


def test_predictive_and_phase_moves_with_the_module():
    rbm, x = dgm.RBM.example()
    program = dgm.negative_phase(rbm.model, dgm.PCD(chains=10))
    elbo()(program, rbm.guide)(x)
    program.double()
    assert program.phase.chains["x"]["visible"].dtype == torch.float64
    assert torch.isfinite(elbo()(program, rbm.guide)(x.double()))
    assert Predictive(rbm.model, num_samples=3)(None, 5)["x"].shape == (3, 5, 6)


def test_phase_state_survives_a_round_trip():
    rbm, x = dgm.RBM.example()
    program = dgm.negative_phase(rbm.model, dgm.PCD(chains=10, centred=True))
    for _ in range(3):
        elbo()(program, rbm.guide)(x)
    other = dgm.negative_phase(rbm.model, dgm.PCD(chains=10, centred=True))
    other.load_state_dict(copy.deepcopy(program.state_dict()))
    torch.manual_seed(0)
    a = float(elbo()(program, rbm.guide)(x).detach())
    torch.manual_seed(0)
    b = float(elbo()(other, rbm.guide)(x).detach())
    assert a == b


@pytest.mark.parametrize("estimator", [Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO, TraceEnum_ELBO])
@pytest.mark.parametrize("cls", [dgm.DBM, dgm.CoupledSlabRBM])
def test_every_elbo_keeps_the_entropy_of_guides_of_point_masses(cls, estimator):
    """The loss is minus the sum of the variational bounds, and the gradient theirs by differences, log Z included."""
    model, x = cls.example()
    model, x = model.double(), x.double()

    def bound():
        with torch.no_grad():
            return float((model.bound(x, model.rounds) - model().exact_log_partition()).sum())

    program = dgm.negative_phase(model.model, dgm.ExactNegativePhase())
    loss = estimator(max_plate_nesting=1).loss_and_grads(program, model.guide, x)
    assert loss == pytest.approx(-bound(), rel=1e-9)
    model.rounds = 200  # at the fixed point the derivative of the bound is that with the posterior held
    model.zero_grad()
    estimator(max_plate_nesting=1).loss_and_grads(program, model.guide, x)
    for name, parameter in model.named_parameters():
        with torch.no_grad():
            flat, value = parameter.view(-1), []
            for step in (1e-5, -1e-5):
                flat[0] += step
                value.append(bound())
                flat[0] -= step
        assert float(parameter.grad.view(-1)[0]) == pytest.approx((value[1] - value[0]) / 2e-5, abs=1e-5), name


def test_mixtures_need_the_value_of_log_z():
    """Enumerated components are weighed by their log Z: exact and PCD have it, contrastive divergence is refused."""
    rbm, x = dgm.RBM.example()
    logits = torch.zeros(2, requires_grad=True)
    shifts = torch.tensor([[0.0] * 6, [1.0, 2.0, -1.0, 0.0, 0.5, 0.0]])

    @config_enumerate
    def program(x):
        with pyro.plate("data", len(x)):
            component = pyro.sample("component", dist.Categorical(logits=logits))
            pyro.sample("x", rbm(visible_shift=shifts[component]), obs=x)

    each = []
    for shift in shifts:
        other = copy.deepcopy(rbm)
        other.visible_bias.data += shift
        exact = oracle.of_rbm(other)
        each.append(torch.as_tensor(exact.marginal(x) - exact.log_z))
    share = torch.stack(each).softmax(0)
    for phase in (dgm.ExactNegativePhase(), dgm.PCD()):
        program_of_phase = dgm.negative_phase(program, phase)
        loss = TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(program_of_phase, lambda x: None, x)
        found = -torch.autograd.grad(loss, logits)[0]
        torch.testing.assert_close(found.double(), share.sum(1) - len(x) / 2, atol=1e-4, rtol=1e-4)
    for phase in (dgm.CD(), dgm.PCD(follow=False)):
        with pytest.raises(ValueError, match=r"depends on enumerated latents.*Use dgm\.PCD\(\) with follow=True"):
            TraceEnum_ELBO(max_plate_nesting=1).loss(dgm.negative_phase(program, phase), lambda x: None, x)
    marginal = dgm.negative_phase(rbm.model, dgm.CD())  # no latent on which the site depends
    assert TraceEnum_ELBO(max_plate_nesting=1).loss(marginal, rbm.guide, x)
