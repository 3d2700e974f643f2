"""Gradient estimators of latent-variable models against enumeration of all latents of all particles."""

import itertools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from oracles import boltzmann as oracle
from pyro.infer import SVI, RenyiELBO, Trace_ELBO
from pyro.optim import SGD

import pyro_dgm as dgm
from pyro_dgm.objectives.estimators.multi_sample import without_each

ROWS = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
STATES = torch.tensor(list(itertools.product((0.0, 1.0), repeat=2)), dtype=torch.double)


def network():
    """A belief network with two visible and two latent bits."""
    return oracle.randomise(dgm.SBN(2, hidden=(2,)), torch.Generator().manual_seed(3), 1.2)


def tables(sbn):
    """log p(x, z) and log q(z | x) of all rows and states, from the equations, in double precision with gradients."""
    p = {name: value.detach().double().requires_grad_() for name, value in sbn.named_parameters()}

    def bits(value, logits):
        return (value * logits - torch.nn.functional.softplus(logits)).sum(-1)

    x = ROWS.double()
    log_p = bits(x[:, None], STATES @ p["weights.0"].T + p["biases.0"]) + bits(STATES, p["biases.1"])
    log_q = bits(STATES[None], (x @ p["recognition_weights.0"] + p["recognition_biases.0"])[:, None])
    return p, log_p, log_q


def tuples(table, particles):
    """Entries of a table ``rows x states`` for all choices of K states: ``K x rows x choices``."""
    chosen = torch.tensor(list(itertools.product(range(len(STATES)), repeat=particles))).T
    return torch.stack([table[:, k] for k in chosen])


def gradients(parameters, objective):
    found = torch.autograd.grad(objective, list(parameters.values()), allow_unused=True)
    return {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(parameters.items(), found, strict=True)}


def bound_gradient(sbn, particles):
    """The gradient of the expected K-sample bound, summed over the rows."""
    p, log_p, log_q = tables(sbn)
    log_pk, log_qk = tuples(log_p, particles), tuples(log_q, particles)
    bound = (log_pk - log_qk).logsumexp(0) - math.log(particles)
    return gradients(p, (log_qk.sum(0).exp() * bound).sum())


def weighted_gradient(sbn, particles, power, guide=1.0):
    """E of sum_k v_k d(log p + guide * log q), v_k proportional to w_k ** power and held fixed."""
    p, log_p, log_q = tables(sbn)
    log_pk, log_qk = tuples(log_p, particles), tuples(log_q, particles)
    share = torch.softmax(power * (log_pk - log_qk).detach(), 0)
    return gradients(p, (log_qk.sum(0).exp().detach() * (share * (log_pk + guide * log_qk)).sum(0)).sum())


def simulated(sbn, estimator, blocks=40, repeats=2000):
    """Blocks of the estimator's gradient of minus the loss, on many copies of the rows."""
    module = estimator(sbn.model, sbn.guide)
    x = ROWS.repeat(repeats, 1)
    found = []
    for _ in range(blocks):
        sbn.zero_grad()
        module(x).backward()
        zero = {name: torch.zeros_like(p) for name, p in sbn.named_parameters()}
        grads = {name: p.grad for name, p in sbn.named_parameters() if p.grad is not None}
        found.append({name: -g.double() / repeats for name, g in (zero | grads).items()})
    return found


@pytest.mark.parametrize(
    ("estimator", "particles"), [(dgm.IWAE(1), 1), (dgm.IWAE(3), 3), (dgm.VIMCO(2), 2), (dgm.VIMCO(3), 3)]
)
def test_multi_sample_gradients_of_discrete_latents(estimator, particles):
    torch.manual_seed(0)
    sbn = network()
    oracle.meets(simulated(sbn, estimator), bound_gradient(sbn, particles), 0.25)


@pytest.mark.parametrize("baseline", [None, "network"])
def test_nvil(baseline):
    """With running mean and a baseline network the mean gradient is the ELBO's; the network learns by itself."""
    torch.manual_seed(1)
    sbn = network()
    module = None if baseline is None else torch.nn.Linear(2, 1)
    estimator = dgm.NVIL(baseline=module, normalise=False)
    oracle.meets(simulated(sbn, estimator), bound_gradient(sbn, 1), 0.25)


def test_normalisation_scales_the_guide_alone():
    torch.manual_seed(2)
    sbn = network()
    estimator = dgm.NVIL(normalise=True, decay=0.0)
    module = estimator(sbn.model, sbn.guide)
    module(ROWS)  # a first step, for a deviation
    estimator.running["variance"] = torch.tensor(16.0)
    estimator._follow = lambda centred: None
    found = simulated(sbn, estimator)
    expected = bound_gradient(sbn, 1)
    expected = {n: g / 4 if n.startswith("recognition") else g for n, g in expected.items()}
    oracle.meets(found, expected, 0.25)


def test_baseline_network_regresses_the_reward():
    """Trained alone, the network nears the mean reward of every row."""
    torch.manual_seed(3)
    sbn = network()
    net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    estimator = dgm.NVIL(baseline=net, running_mean=False, normalise=False)
    module = estimator(sbn.model, sbn.guide)
    assert {id(p) for p in net.parameters()} <= {id(p) for p in module.parameters()}
    optimiser = torch.optim.Adam(net.parameters(), lr=0.03)
    x = ROWS.repeat(300, 1)
    for _ in range(300):
        optimiser.zero_grad()
        (module(x) / len(x)).backward()
        optimiser.step()
    _, log_p, log_q = tables(sbn)
    expected = (log_q.exp() * (log_p - log_q)).sum(1).detach().float()
    # Adam's last steps of 0.03 keep the network moving by some hundredths of a nat; an untrained one is off by more than one.
    torch.testing.assert_close(net(ROWS).squeeze(1), expected, atol=0.1, rtol=0)


def test_svi_trains_the_baseline_and_keeps_no_state_of_steps():
    """Stock SVI steps the network's weights; ragged batches work; the optimiser's state does not grow."""
    pyro.clear_param_store()
    torch.manual_seed(4)
    sbn = network()
    net = torch.nn.Linear(2, 1)
    before = net.weight.detach().clone()
    optimiser = SGD({"lr": 0.01})
    svi = SVI(sbn.model, sbn.guide, optimiser, dgm.NVIL(baseline=net))
    sizes = []
    for rows in (ROWS, ROWS[:2], ROWS[:1], ROWS):
        svi.step(rows)
        sizes.append(len(optimiser.optim_objs))
    assert not torch.equal(net.weight, before)
    assert len(set(sizes)) == 1


def test_reweighted_wake_sleep():
    torch.manual_seed(5)
    sbn = network()
    found = simulated(sbn, dgm.ReweightedWakeSleep(3))
    oracle.meets(found, weighted_gradient(sbn, 3, 1.0), 0.25)


def test_sleep_follows_the_other_divergence():
    """Sleep-phi is the gradient of E_p log q, that is of -KL(p || q), whatever the rows are."""
    torch.manual_seed(6)
    sbn = network()
    found = simulated(sbn, dgm.ReweightedWakeSleep(1, wake=0.0, sleep=1.0))
    p = {name: value.detach().double().requires_grad_() for name, value in sbn.named_parameters()}

    def bits(value, logits):
        return (value * logits - torch.nn.functional.softplus(logits)).sum(-1)

    x = STATES[:, None]
    joint = bits(x, STATES @ p["weights.0"].T + p["biases.0"]) + bits(STATES, p["biases.1"])
    log_q = bits(STATES, x @ p["recognition_weights.0"] + p["recognition_biases.0"])
    sleep = gradients(p, len(ROWS) * (joint.exp().detach() * log_q).sum())
    wake = weighted_gradient(sbn, 1, 1.0, guide=0.0)
    oracle.meets(found, {n: sleep[n] + wake[n] for n in sleep}, 0.25)


def test_bidirectional_helmholtz():
    torch.manual_seed(7)
    sbn = network()
    oracle.meets(simulated(sbn, dgm.BidirectionalHelmholtz(3)), weighted_gradient(sbn, 3, 0.5), 0.25)


def test_the_helmholtz_bound_is_below_the_bound_of_the_model():
    """E[2 log mean sqrt w] <= log p*(x) + 2 log Z <= log p(x), by enumeration (Z <= 1)."""
    sbn = network()
    _, log_p, log_q = tables(sbn)
    exact = log_p.logsumexp(1)
    star = 2 * (0.5 * (log_p + log_q)).logsumexp(1)
    assert (star <= exact + 1e-12).all()
    torch.manual_seed(8)
    x = ROWS.repeat(4000, 1)
    module = dgm.BidirectionalHelmholtz(4)(sbn.model, sbn.guide)
    with torch.no_grad():
        found = torch.stack([-module(x) / len(x) for _ in range(20)])
    log_pk, log_qk = tuples(log_p, 4), tuples(log_q, 4)
    expected = (log_qk.sum(0).exp() * 2 * ((0.5 * (log_pk - log_qk)).logsumexp(0) - math.log(4))).sum(1)
    assert abs(found.mean() - expected.mean()) < 6 * found.std() / 20**0.5
    assert (expected <= star + 1e-12).all()


@pytest.mark.parametrize("estimator", [dgm.IWAE(4), dgm.VIMCO(4), dgm.ReweightedWakeSleep(4), dgm.NVIL(4)])
def test_values_are_the_bound(estimator):
    """The reported loss is minus the K-sample bound (the ELBO for NVIL), in expectation."""
    torch.manual_seed(9)
    sbn = network()
    _, log_p, log_q = tables(sbn)
    particles = 1 if isinstance(estimator, dgm.NVIL) else 4
    log_pk, log_qk = tuples(log_p, particles), tuples(log_q, particles)
    expected = (log_qk.sum(0).exp() * ((log_pk - log_qk).logsumexp(0) - math.log(particles))).sum(1).mean()
    x = ROWS.repeat(4000, 1)
    module = estimator(sbn.model, sbn.guide)
    with torch.no_grad():
        found = torch.stack([-module(x) / len(x) for _ in range(20)])
    assert abs(found.mean() - expected) < 6 * found.std() / 20**0.5
    assert 6 * found.std() / 20**0.5 < 0.02


def test_bound_rises_with_particles_to_the_likelihood():
    sbn = network()
    _, log_p, log_q = tables(sbn)
    bounds = []
    for particles in (1, 2, 3, 4, 5):
        log_pk, log_qk = tuples(log_p, particles), tuples(log_q, particles)
        bounds.append((log_qk.sum(0).exp() * ((log_pk - log_qk).logsumexp(0) - math.log(particles))).sum(1))
    bounds = torch.stack(bounds)
    assert (bounds.diff(dim=0) > 0).all()
    assert (bounds < log_p.logsumexp(1)).all()
    exact = sbn.evidence(ROWS, "exact").values
    torch.testing.assert_close(exact.double(), log_p.logsumexp(1).detach(), atol=1e-5, rtol=0)


def test_leave_one_out_by_hand():
    log_w = torch.tensor([[0.3, -40.0], [-2.0, 30.0], [1.5, 0.0]], dtype=torch.double)
    found = without_each(log_w)
    for k in range(3):
        others = [j for j in range(3) if j != k]
        mean = log_w[others].mean(0)
        expected = torch.stack([*log_w[others], mean]).logsumexp(0) - math.log(3)
        torch.testing.assert_close(found[k], expected)


class Scripted(dgm.AutoregressiveBits):
    """Bits that come out as a script says."""

    def expand(self, batch_shape, _instance=None):
        other = super().expand(batch_shape)
        other.__class__, other.script = Scripted, self.script
        return other

    def sample(self, sample_shape=()):
        return self.script


@pytest.mark.parametrize("kind", [dgm.IWAE, dgm.VIMCO, dgm.ReweightedWakeSleep, dgm.BidirectionalHelmholtz])
def test_a_row_does_not_depend_on_its_batch(kind):
    """With the same draws for row 0, its bound and gradient do not change with what else is in the batch."""
    sbn = network()
    draws = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])[:, None].repeat(1, 2, 1)

    def guide(x):
        with pyro.plate("data", len(x)):
            bits = Scripted(sbn.recognition_biases[0] + x @ sbn.recognition_weights[0])
            bits.script = draws
            pyro.sample("hidden1", bits)

    kept = []
    for other, drawn in ((0, 0.0), (2, 1.0)):
        draws[:, 1] = drawn
        losses, scale = kind(3).row_losses(sbn.model, guide, (torch.stack([ROWS[0], ROWS[other]]),), {})
        assert scale == 1
        sbn.zero_grad()
        losses[0].backward()
        kept.append((losses[0].detach(), [p.grad.clone() for p in sbn.parameters()]))
    torch.testing.assert_close(kept[0], kept[1])


def scalar_gaussian():
    """z ~ N(0, 1), x | z ~ N(w z, 1); q(z | x) = N(a x, s): the programs and their parameters w, a, log s."""
    parameters = [torch.tensor(v, requires_grad=True) for v in (1.3, 0.2, -0.4)]

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(parameters[0] * z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(parameters[1] * x, parameters[2].exp()))

    return model, guide, parameters


def quadrature(values, x, particles, count=40):
    """The expected bound of two particles or one by Gauss-Hermite quadrature, with its gradient."""
    import numpy as np

    nodes, weights = (torch.tensor(t) for t in np.polynomial.hermite_e.hermegauss(count))
    weights = weights / weights.sum()
    w, a, log_s = (v.detach().double().requires_grad_() for v in values)
    z = a * x + log_s.exp() * nodes
    normal = torch.distributions.Normal
    log_w = normal(0.0, 1.0).log_prob(z) + normal(w * z, 1.0).log_prob(torch.tensor(x))
    log_w = log_w - normal(a * x, log_s.exp()).log_prob(z)
    if particles == 1:
        bound = (weights * log_w).sum()
    else:
        bound = (weights[:, None] * weights * (torch.logaddexp(log_w[:, None], log_w) - math.log(2))).sum()
    return bound.detach(), torch.stack(torch.autograd.grad(bound, (w, a, log_s)))


@pytest.mark.parametrize(("kind", "particles"), [(dgm.IWAE, 1), (dgm.IWAE, 2), (dgm.DReG, 1), (dgm.DReG, 2)])
def test_reparameterised_gradients_by_quadrature(kind, particles):
    torch.manual_seed(10)
    model, guide, parameters = scalar_gaussian()
    estimator = kind(particles)
    x = torch.full((5000,), 1.7)
    blocks, values = [], []
    for _ in range(30):
        loss = estimator.differentiable_loss(model, guide, x) / len(x)
        blocks.append({"all": -torch.stack(torch.autograd.grad(loss, parameters)).double()})
        values.append(-loss.detach())
    bound, gradient = quadrature(parameters, 1.7, particles)
    oracle.meets(blocks, {"all": gradient}, 0.15)
    values = torch.stack(values)
    assert abs(values.mean() - bound) < 6 * values.std() / 30**0.5


def test_the_guide_keeps_its_signal_under_dreg():
    """At K = 64 the guide's gradient of one draw has less noise by DReG than by IWAE, relative to its mean."""
    torch.manual_seed(11)
    model, guide, parameters = scalar_gaussian()
    ratios = {}
    for kind in (dgm.IWAE, dgm.DReG):
        estimator = kind(64)
        draws = []
        for _ in range(300):
            loss = estimator.differentiable_loss(model, guide, torch.tensor([1.7]))
            draws.append(torch.autograd.grad(loss, parameters[1])[0])
        draws = torch.stack(draws)
        ratios[kind] = float(draws.mean().abs() / draws.std())
    assert ratios[dgm.DReG] > 2 * ratios[dgm.IWAE]


@pytest.mark.parametrize("estimator", [dgm.IWAE(3), dgm.VIMCO(3), dgm.ReweightedWakeSleep(3), dgm.DReG(3)])
def test_the_exact_posterior_leaves_no_gap(estimator):
    """q = p(z | x) makes every weight p(x): the bound is the log-likelihood at every draw."""
    model, guide, parameters = scalar_gaussian()
    w = parameters[0].detach()
    with torch.no_grad():
        parameters[1].copy_(w / (1 + w**2))
        parameters[2].copy_(-0.5 * torch.log(1 + w**2))
    x = torch.tensor([0.3, -2.0])
    losses, _ = estimator.row_losses(model, guide, (x,), {})
    exact = dist.Normal(0.0, (1 + w**2).sqrt()).log_prob(x)
    torch.testing.assert_close(-losses.detach(), exact, atol=1e-5, rtol=0)


def test_optimal_baseline_is_the_best_constant():
    """J = z for z ~ Bernoulli(0.9): variances 0.0009, 0.0576 and 0 without, with the mean's and the best baseline."""
    logit = torch.nn.Parameter(torch.logit(torch.tensor(0.9)))

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Bernoulli(0.5))
            pyro.factor("reward", z)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Bernoulli(logits=logit))

    p = 0.9
    z = torch.tensor([0.0, 1.0], dtype=torch.double)
    probability = torch.tensor([1 - p, p], dtype=torch.double)
    g = z - p  # the derivative of log q by its logit
    best = (probability * z * g**2).sum() / (probability * g**2).sum()
    for constant, expected in ((0.0, 0.0009), (p, 0.0576), (best, 0.0)):
        draws = (z - constant) * g
        variance = (probability * draws**2).sum() - (probability * draws).sum() ** 2
        assert float(variance) == pytest.approx(expected, abs=1e-9)
    estimator = dgm.OptimalBaseline([logit], decay=0.99)
    torch.manual_seed(12)
    x = torch.zeros(500)
    for _ in range(400):
        estimator.differentiable_loss(model, guide, x)
    # Here J also holds -log q and log p: the baseline of that reward, by enumeration.
    reward = z + math.log(0.5) - probability.log()
    expected = (probability * reward * g**2).sum() / (probability * g**2).sum()
    # A running mean of decay 0.99 holds some 200 steps of 500 draws; the ratio's standard error over them is below 0.014.
    found = estimator.weighted[0] / estimator.squares[0]
    assert float(found) == pytest.approx(float(expected), abs=0.05)


def test_optimal_baseline_leaves_the_mean_alone():
    torch.manual_seed(13)
    sbn = network()
    recognition = [*sbn.recognition_weights, *sbn.recognition_biases]
    estimator = dgm.OptimalBaseline(recognition, decay=0.9)
    found = simulated(sbn, estimator, blocks=100, repeats=30)
    oracle.meets(found, bound_gradient(sbn, 1), 0.6)


def test_optimal_baseline_has_the_least_variance_of_constants():
    """Variances of every parameter's gradient at one row, by enumeration: none, the mean, the best constant."""
    sbn = network()
    p, log_p, log_q = tables(sbn)
    q, reward = log_q.exp()[0].detach(), (log_p - log_q)[0].detach()
    names = [n for n in p if n.startswith("recognition")]
    scores = []
    for state in range(4):
        grads = torch.autograd.grad(log_q[0, state], [p[n] for n in names], retain_graph=True)
        scores.append(torch.cat([g.flatten() for g in grads]))
    g = torch.stack(scores)
    g = g[:, g.abs().sum(0) > 0]

    def variance(b):
        draws = (reward[:, None] - b) * g
        return (q[:, None] * draws**2).sum(0) - (q[:, None] * draws).sum(0) ** 2

    best = (q[:, None] * reward[:, None] * g**2).sum(0) / (q[:, None] * g**2).sum(0)
    for constant in (0.0, float((q * reward).sum()), best + 0.3, best - 0.3):
        assert (variance(best) <= variance(constant) + 1e-12).all()


def test_values_equal_pyros_where_pyro_is_right():
    """On one row and the same draws: Trace_ELBO with one particle, RenyiELBO(0) with several."""
    vae, x = dgm.VAE.example()
    torch.manual_seed(14)
    ours = dgm.IWAE(1).loss(vae.model, vae.guide, x)
    torch.manual_seed(14)
    theirs = Trace_ELBO(vectorize_particles=True, max_plate_nesting=1).loss(vae.model, vae.guide, x)
    assert ours == pytest.approx(theirs, rel=1e-5)
    torch.manual_seed(15)
    ours = dgm.IWAE(6).loss(vae.model, vae.guide, x[:1])
    torch.manual_seed(15)
    renyi = RenyiELBO(alpha=0, num_particles=6, vectorize_particles=True, max_plate_nesting=1)
    assert ours == pytest.approx(renyi.loss(vae.model, vae.guide, x[:1]), rel=1e-5)


def test_where_pyro_is_wrong():
    """RenyiELBO(0) gives a discrete guide no gradient; the enumerated one, which VIMCO meets above, is not zero."""
    sbn = network()
    renyi = RenyiELBO(alpha=0, num_particles=3, vectorize_particles=True, max_plate_nesting=1)
    renyi.loss_and_grads(sbn.model, sbn.guide, ROWS)
    gradient = sbn.recognition_weights[0].grad
    assert gradient is None or not gradient.any()
    assert float(bound_gradient(sbn, 3)["recognition_weights.0"].abs().max()) > 0.05


@pytest.mark.parametrize("size", [None, 30])
def test_subsampling_scales_the_loss(size):
    sbn = network()
    for estimator in (dgm.IWAE(2), dgm.VIMCO(2), dgm.ReweightedWakeSleep(2), dgm.NVIL(), dgm.BidirectionalHelmholtz(2)):
        torch.manual_seed(17)
        whole = estimator.loss(sbn.model, sbn.guide, ROWS)
        torch.manual_seed(17)
        scaled = estimator.loss(sbn.model, sbn.guide, ROWS, size)
        assert scaled == pytest.approx(whole * (1 if size is None else 10), rel=1e-5)


def missing(x):
    with pyro.plate("data", len(x)):
        pyro.sample("other", dist.Bernoulli(0.5))


def outside(x):
    pyro.sample("hidden1", dist.Bernoulli(torch.full((2,), 0.5)).to_event(1))


def longer(x):
    with pyro.plate("data", len(x) + 1):
        pyro.sample("hidden1", dist.Bernoulli(torch.full((2,), 0.5)).to_event(1))


@pytest.mark.parametrize(
    ("guide", "message"), [(missing, "'hidden1'"), (outside, "'hidden1' is not in the data plate"),
                           (longer, "'hidden1'.*same size")]
)  # fmt: skip
@pytest.mark.parametrize("estimator", [dgm.IWAE(2), dgm.VIMCO(2), dgm.ReweightedWakeSleep(2)])
def test_guides_that_do_not_fit(estimator, guide, message):
    sbn = network()
    with pytest.raises(ValueError, match=message):
        estimator.loss(sbn.model, guide, ROWS)


def test_weights_that_are_not_finite_name_the_site():
    sbn = network()
    with torch.no_grad():
        sbn.weights[0].fill_(torch.nan)
    with pyro.validation_enabled(False), pytest.raises(ValueError, match="site 'x'"):
        dgm.VIMCO(2).loss(sbn.model, sbn.guide, ROWS)


@pytest.mark.parametrize(
    ("make", "message"),
    [(lambda: dgm.VIMCO(1), "at least 2"), (lambda: dgm.IWAE(0), "at least 1"), (lambda: dgm.NVIL(decay=1.0), "decay"),
     (lambda: dgm.NVIL(baseline=3), "module"), (lambda: dgm.ReweightedWakeSleep(2, 0.0, 0.0), "not both"),
     (lambda: dgm.OptimalBaseline([]), "guide_parameters"), (lambda: dgm.DReG(True), "integer")],
)  # fmt: skip
def test_bad_options(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_baseline_of_the_wrong_shape():
    sbn = network()
    with pytest.raises(ValueError, match="one figure per row"):
        dgm.NVIL(baseline=torch.nn.Linear(2, 2)).loss(sbn.model, sbn.guide, ROWS)


def test_sleep_needs_the_observation_among_the_arguments():
    def model(x):
        with pyro.plate("data", 3):
            z = pyro.sample("z", dist.Bernoulli(0.5))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x + 1.0)

    def guide(x):
        with pyro.plate("data", 3):
            pyro.sample("z", dist.Bernoulli(torch.tensor(0.5)))

    with pytest.raises(ValueError, match="observes one of its arguments"):
        dgm.ReweightedWakeSleep(2, sleep=1.0).loss(model, guide, torch.zeros(3))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("rws", {"particles": 2}), ("wake-sleep", {}), ("vimco", {"particles": 2}), ("nvil", {"particles": 1, "hidden": 3}),
        ("nvil", {"particles": 1, "hidden": 3, "local": True}), ("bihm", {"particles": 2}),
    ],
)  # fmt: skip
def test_resumed_runs_are_bit_identical(kind, options, tmp_path):
    """Baselines and running means come back with the run."""
    x = dgm.SBN.example()[1].repeat(3, 1)
    runs = []
    for number, epochs in enumerate(((4,), (2, 4))):
        for stage, last in enumerate(epochs):
            sbn = oracle.randomise(dgm.SBN(4, hidden=(3, 2)), torch.Generator().manual_seed(1))
            torch.manual_seed(2)
            objective = sbn.objective(kind, **options)
            run = dgm.fit(
                sbn, x, objective=objective, epochs=last, batch_size=7, seed=3, out=tmp_path / str(number),
                resume=stage > 0, progress=False,
            )  # fmt: skip
        runs.append(run)
    for a, b in zip(runs[0].model.parameters(), runs[1].model.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("kind", "power"), [(dgm.ReweightedWakeSleep, 1.0), (dgm.BidirectionalHelmholtz, 0.5)])
def test_weighted_gradients_of_continuous_latents_take_no_path(kind, power):
    """E of sum_k v_k d(log p + log q) at fixed draws, by quadrature over two particles: draws are constants there."""
    import numpy as np

    torch.manual_seed(18)
    model, guide, parameters = scalar_gaussian()
    nodes, weights = (torch.tensor(t) for t in np.polynomial.hermite_e.hermegauss(60))
    weights = weights / weights.sum()
    w, a, log_s = (v.detach().double().requires_grad_() for v in parameters)
    x, normal = torch.tensor(1.7, dtype=torch.double), torch.distributions.Normal
    z = (a * x + log_s.exp() * nodes).detach()
    log_p = normal(0.0, 1.0).log_prob(z) + normal(w * z, 1.0).log_prob(x)
    log_q = normal(a * x, log_s.exp()).log_prob(z)
    log_w = (log_p - log_q).detach()
    share = torch.sigmoid(power * (log_w[:, None] - log_w))  # of the first of two
    total = log_p + log_q
    expected = (weights[:, None] * weights * (share * total[:, None] + (1 - share) * total)).sum()
    expected = torch.stack(torch.autograd.grad(expected, (w, a, log_s)))
    rows = torch.full((5000,), 1.7)
    blocks = []
    for _ in range(30):
        loss = kind(2).differentiable_loss(model, guide, rows) / len(rows)
        blocks.append({"all": -torch.stack(torch.autograd.grad(loss, parameters)).double()})
    oracle.meets(blocks, {"all": expected}, 0.15)


def mixed():
    """A discrete and a reparameterised latent, and the guide's parameters."""
    parameters = [torch.tensor(0.3, requires_grad=True), torch.tensor(0.5, requires_grad=True)]

    def model(x):
        with pyro.plate("data", len(x)):
            b = pyro.sample("b", dist.Bernoulli(0.4))
            z = pyro.sample("z", dist.Normal(b, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("b", dist.Bernoulli(logits=parameters[0].expand(len(x))))
            pyro.sample("z", dist.Normal(parameters[1] * x, 0.8))

    return model, guide, parameters


def test_mixed_latents_under_nvil():
    """By hand: with the exact ELBO as a sum over b and a closed Gaussian part; normalisation must not touch the paths."""
    torch.manual_seed(19)
    model, guide, parameters = mixed()
    x = torch.tensor(1.2, dtype=torch.double)
    logit, a = (p.detach().double().requires_grad_() for p in parameters)
    q1, mean, variance = torch.sigmoid(logit), a * x, 0.64
    elbo = -0.5 * ((x - mean) ** 2 + variance)
    for b, q, p in ((0.0, 1 - q1, 0.6), (1.0, q1, 0.4)):
        elbo = elbo + q * (math.log(p) - q.log() - 0.5 * ((mean - b) ** 2 + variance))
    expected = torch.stack(torch.autograd.grad(elbo, (logit, a)))
    estimator = dgm.NVIL(normalise=True)
    estimator.running = {"mean": torch.tensor(0.0), "variance": torch.tensor(400.0)}
    estimator._follow = lambda centred: None
    rows = torch.full((5000,), 1.2)
    blocks = []
    for _ in range(30):
        loss = estimator.differentiable_loss(model, guide, rows) / len(rows)
        blocks.append({"all": -torch.stack(torch.autograd.grad(loss, parameters)).double()})
    oracle.meets(blocks, {"all": expected}, 0.25)


def test_optimal_baseline_for_some_parameters_only():
    """The others still follow the score function; a guide without discrete latents needs no baseline."""
    torch.manual_seed(20)
    sbn = network()
    found = simulated(sbn, dgm.OptimalBaseline([sbn.recognition_weights[0]]), blocks=100, repeats=30)
    oracle.meets(found, bound_gradient(sbn, 1), 0.6)
    model, guide, parameters = scalar_gaussian()
    loss = dgm.OptimalBaseline([parameters[1]]).differentiable_loss(model, guide, torch.ones(3))
    assert torch.autograd.grad(loss, parameters[1])[0] != 0


def test_every_baseline_has_a_name_of_its_own():
    """Also where Python gives a dead object's address to the next one."""
    pyro.clear_param_store()
    sbn = network()
    for _ in range(30):
        net = torch.nn.Linear(2, 1)
        before = net.weight.detach().clone()
        SVI(sbn.model, sbn.guide, SGD({"lr": 0.01}), dgm.NVIL(baseline=net)).step(ROWS)
        assert not torch.equal(net.weight, before)


def test_estimators_of_a_model_without_latents():
    model, x = dgm.AffineGenerator.example()
    exact = -float(model.evidence(x).values.sum())
    assert dgm.IWAE(3).loss(model.model, model.guide, x) == pytest.approx(exact, rel=1e-5)


def test_a_run_says_how_its_estimator_was_set(tmp_path):
    sbn, x = dgm.SBN.example()
    make = lambda wake: dgm.Elbo(dgm.ReweightedWakeSleep(2, wake=wake, sleep=1.0))  # noqa: E731
    dgm.fit(sbn, x, objective=make(1.0), epochs=1, out=tmp_path / "run", progress=False)
    with pytest.raises(ValueError, match="same objective"):
        dgm.fit(sbn, x, objective=make(0.0), epochs=2, out=tmp_path / "run", resume=True, progress=False)


def test_a_baseline_under_a_negative_phase_is_trained_and_saved():
    dbn, x = dgm.DBN.example()
    net = torch.nn.Linear(5, 1)
    before = net.weight.detach().clone()
    objective = dgm.NegativePhaseObjective(dgm.PCD(chains=10), dgm.NVIL(baseline=net))
    dgm.fit(dbn, x, objective=objective, epochs=1, progress=False)
    assert not torch.equal(net.weight, before)
    assert "elbo" in objective.state_dict()


def deep(scale=1.0):
    """A belief network of three latent layers of one, two and one bits over two visible ones."""
    return oracle.randomise(dgm.SBN(2, hidden=(2, 1, 1)), torch.Generator().manual_seed(7), scale)


def deep_tables(sbn):
    """log p(x, z) and log q(z | x) of all rows and states of ``deep``, from the equations, with gradients."""
    p = {name: value.detach().double().requires_grad_() for name, value in sbn.named_parameters()}
    states = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4)), dtype=torch.double)
    layers = [ROWS.double()[:, None], *states.split([2, 1, 1], -1)]

    def bits(value, logits):
        return (value * logits - torch.nn.functional.softplus(logits)).sum(-1)

    log_p, log_q = bits(layers[3], p["biases.3"]), 0.0
    for k in range(3):
        log_p = log_p + bits(layers[k], p[f"biases.{k}"] + layers[k + 1] @ p[f"weights.{k}"].T)
        log_q = log_q + bits(layers[k + 1], p[f"recognition_biases.{k}"] + layers[k] @ p[f"recognition_weights.{k}"])
    return p, log_p, log_q


@pytest.mark.parametrize("baseline", [None, "shared", "each"])
def test_local_signals_are_unbiased(baseline):
    """The mean gradient of all parameters is that of the enumerated ELBO, with every baseline that there is."""
    torch.manual_seed(21)
    sbn = deep()
    net = None if baseline is None else torch.nn.Linear(2, 1 if baseline == "shared" else 3)
    found = simulated(sbn, dgm.NVIL(baseline=net, normalise=False, local=True))
    p, log_p, log_q = deep_tables(sbn)
    oracle.meets(found, gradients(p, (log_q.exp() * (log_p - log_q)).sum()), 0.35)


def test_local_signals_leave_out_the_terms_below():
    """Of J the layer's signal has log p(h_{l-1}, h_l, ...) - log q(h_l, ... | h_{l-1}), as in the paper."""
    torch.manual_seed(22)
    sbn = deep()
    estimator = dgm.NVIL(2, local=True)
    run = estimator.draw(sbn.model, sbn.guide, (ROWS,), {})
    signals, scores = estimator._dependencies.signals(sbn.model, sbn.guide, run, (ROWS,), {})
    h = [ROWS, *(run.guide_trace.nodes[f"hidden{k}"]["value"].view(2, 3, -1) for k in (1, 2, 3))]
    q = [
        dgm.AutoregressiveBits(r + h[k] @ R).log_prob(h[k + 1])
        for k, (R, r) in enumerate(zip(sbn.recognition_weights, sbn.recognition_biases, strict=True))
    ]
    p = [sbn.layer(k, h[k + 1] if k < 3 else None).log_prob(h[k]) for k in range(4)]
    for k in range(3):
        torch.testing.assert_close(signals[k], sum(p[k:]) - sum(q[k:]))
        torch.testing.assert_close(scores[k], q[k])


def test_local_signals_have_less_noise():
    """Of the upper layers' gradients, at one row; of the lowest layer, whose signal is the whole J, it is the same."""
    sbn = deep(2.0)
    noise = {}
    for local in (False, True):
        torch.manual_seed(23)
        estimator = dgm.NVIL(running_mean=False, normalise=False, local=local)
        losses, _ = estimator.row_losses(sbn.model, sbn.guide, (ROWS[:1].expand(1000, -1),), {})
        upper = list(sbn.recognition_biases[1:])
        draws = torch.autograd.grad(losses, upper, torch.eye(1000), is_grads_batched=True)
        noise[local] = torch.cat(draws, 1).var(0)
    assert (noise[True] < 0.8 * noise[False]).all()


def test_dependencies_of_programs():
    """Provenance finds what weights of zero hide; other draws find what another library hides; the random state stays."""

    def model(x, through):
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Bernoulli(0.5))
            b = pyro.sample("b", dist.Bernoulli(0.5))
            pyro.sample("x", dist.Normal(through(a), 1.0), obs=x)
            pyro.sample("y", dist.Normal(b, 1.0), obs=x)

    def guide(x, through):
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Bernoulli(torch.full((len(x),), 0.5)))
            pyro.sample("b", dist.Bernoulli(0.3 + 0.2 * a))

    x = torch.zeros(50)
    for through in (lambda a: 0 * a, lambda a: torch.tensor(a.detach().numpy())):
        estimator = dgm.NVIL(2, local=True)
        run = estimator.draw(model, guide, (x, through), {})
        state = torch.get_rng_state()
        terms = estimator._dependencies.terms(model, guide, run, (x, through), {})
        assert torch.equal(state, torch.get_rng_state())
        assert terms == {
            ("model", "a"): {"a"}, ("model", "b"): {"b"}, ("model", "x"): {"a"}, ("model", "y"): {"b"},
            ("guide", "a"): {"a"}, ("guide", "b"): {"a", "b"},
        }  # fmt: skip


def test_local_signals_of_mixed_latents():
    """A reparameterised site drawn because of a bit belongs to the bit's signal; alone it has no signal."""
    torch.manual_seed(24)
    model, guide, parameters = mixed()
    x = torch.tensor(1.2, dtype=torch.double)
    logit, a = (p.detach().double().requires_grad_() for p in parameters)
    q1, mean, variance = torch.sigmoid(logit), a * x, 0.64
    elbo = -0.5 * ((x - mean) ** 2 + variance)
    for b, q, p in ((0.0, 1 - q1, 0.6), (1.0, q1, 0.4)):
        elbo = elbo + q * (math.log(p) - q.log() - 0.5 * ((mean - b) ** 2 + variance))
    expected = torch.stack(torch.autograd.grad(elbo, (logit, a)))
    estimator = dgm.NVIL(local=True)
    blocks = []
    for _ in range(30):
        loss = estimator.differentiable_loss(model, guide, torch.full((5000,), 1.2)) / 5000
        blocks.append({"all": -torch.stack(torch.autograd.grad(loss, parameters)).double()})
    oracle.meets(blocks, {"all": expected}, 0.25)
    scalar, narrow, _ = scalar_gaussian()
    assert math.isfinite(dgm.NVIL(local=True).loss(scalar, narrow, torch.ones(3)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fit_puts_a_baseline_where_the_model_is(dtype):
    """In double precision, which stands here for another device: a network of single precision is moved."""
    sbn, x = dgm.SBN.example()
    sbn, net = sbn.to(dtype), torch.nn.Linear(4, 1)
    weight = net.weight
    before = weight.detach().clone()
    objectives = (
        dgm.Elbo(dgm.NVIL(baseline=net)),
        dgm.Elbo(dgm.NVIL(baseline=torch.nn.Linear(4, 2), local=True)),
        dgm.Elbo(dgm.OptimalBaseline(list(sbn.recognition_weights), baseline=torch.nn.Linear(4, 2))),
        dgm.NegativePhaseObjective(dgm.PCD(), dgm.NVIL(baseline=torch.nn.Linear(4, 1))),
    )
    for objective in objectives:
        dgm.fit(sbn, x, objective=objective, epochs=1, progress=False)
        assert all(p.dtype == dtype for p in objective.elbo.own_parameters())
    assert net.weight is weight
    assert not torch.equal(before.to(dtype), weight)


def regressed(x, logit, net, steps, rate=0.05):
    """An optimal baseline whose network was trained on a reward of z plus ten where x is one."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Bernoulli(0.5))
            pyro.factor("reward", z + 10 * x[:, 0])

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Bernoulli(logits=logit))

    estimator = dgm.OptimalBaseline([logit], decay=0.95, baseline=net)
    if net is not None:
        optimiser = torch.optim.Adam(net.parameters(), lr=rate)
    for _ in range(steps):
        loss = estimator.differentiable_loss(model, guide, x) / len(x)
        if net is not None:
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return estimator, model, guide


@pytest.mark.parametrize("outputs", ["shared", "each"])
def test_a_regressed_optimal_baseline_follows_the_input(outputs):
    """(20.68) for every x: the network nears b(x), and the gradient has less noise than with the best constant."""
    torch.manual_seed(25)
    logit = torch.nn.Parameter(torch.tensor(0.8))
    x = torch.tensor([[0.0], [1.0]]).repeat(50, 1)
    net = torch.nn.Linear(1, 2) if outputs == "shared" else torch.nn.Sequential(
        torch.nn.Linear(1, 2), torch.nn.Unflatten(1, (2, 1))
    )  # fmt: skip
    variances = {}
    for network in (None, net):
        estimator, model, guide = regressed(x, logit, network, 300)
        rows = torch.tensor([[0.0], [1.0]]).repeat(20, 1)
        estimator._follow = lambda *_: None
        draws = []
        for _ in range(100):
            loss = estimator.differentiable_loss(model, guide, rows) / len(rows)
            draws.append(torch.autograd.grad(loss, logit)[0])
        variances[network] = torch.stack(draws).var()
    # By enumeration: b(x) = E[J g^2] / E[g^2].
    p = torch.sigmoid(logit.detach()).double()
    z, chance = torch.tensor([0.0, 1.0], dtype=torch.double), torch.stack([1 - p, p])
    g = z - p
    for row, shift in ((0.0, 0.0), (1.0, 10.0)):
        reward = z + shift + math.log(0.5) - chance.log()
        a, s = net(torch.tensor([[row]])).detach().flatten().double()
        found = a / torch.nn.functional.softplus(s)
        assert float(found) == pytest.approx(float((chance * reward * g**2).sum() / (chance * g**2).sum()), abs=0.5)
    assert variances[net] < 0.05 * variances[None]


@pytest.mark.parametrize("outputs", ["shared", "each"])
def test_a_regressed_optimal_baseline_leaves_the_mean_alone(outputs):
    torch.manual_seed(26)
    sbn = network()
    recognition = [*sbn.recognition_weights, *sbn.recognition_biases]
    entries = sum(p.numel() for p in recognition)
    net = torch.nn.Linear(2, 2) if outputs == "shared" else torch.nn.Sequential(
        torch.nn.Linear(2, 2 * entries), torch.nn.Unflatten(1, (2, entries))
    )  # fmt: skip
    found = simulated(sbn, dgm.OptimalBaseline(recognition, baseline=net), blocks=100, repeats=30)
    oracle.meets(found, bound_gradient(sbn, 1), 0.6)
    with pytest.raises(ValueError, match="rows x 2 x"):
        dgm.OptimalBaseline(recognition, baseline=torch.nn.Linear(2, 3)).loss_and_grads(sbn.model, sbn.guide, ROWS)


def test_doubly_reparameterised_gradients_with_dropout():
    """Masks beside the sites, one a row in the guide and in the model: the mean over the masks of each one's gradient."""
    parameters = [torch.tensor(v, requires_grad=True) for v in (1.3, 0.2, -0.4)]
    drop = torch.nn.Dropout(0.5)

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(drop(parameters[0].expand(len(x))) * z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(drop(parameters[1].expand(len(x))) * x, parameters[2].exp()))

    torch.manual_seed(27)
    expected = torch.zeros(3, dtype=torch.double)
    for w, a in itertools.product((0.0, 2.0), repeat=2):
        values = [parameters[0].detach() * w, parameters[1].detach() * a, parameters[2].detach()]
        expected += 0.25 * quadrature(values, 1.7, 2)[1] * torch.tensor([w, a, 1.0])
    x = torch.full((10_000,), 1.7)
    blocks = []
    for _ in range(30):
        loss = dgm.DReG(2).differentiable_loss(model, guide, x) / len(x)
        blocks.append({"all": -torch.stack(torch.autograd.grad(loss, parameters)).double()})
    oracle.meets(blocks, {"all": expected}, 0.15)
