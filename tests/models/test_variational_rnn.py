"""The variational RNN against a plain NumPy recurrence, sequence by sequence, and against jointly Gaussian frames."""

import functools
import math

import numpy as np
import pyro
import pytest
import torch
from oracles import boltzmann as oracle
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from pyro.optim import Adam

import pyro_dgm as dgm
from pyro_dgm.data.sequences import pad, unpad
from pyro_dgm.inference.importance import traces
from pyro_dgm.models.directed._particle_gibbs import Path, particle_gibbs
from pyro_dgm.models.directed.variational_rnn import _FLOOR as FLOOR
from pyro_dgm.models.directed.variational_rnn import VariationalRNN
from pyro_dgm.objectives.estimators.wake_sleep import asleep

LENGTHS = (3, 1, 5, 2)


def random_model(output="binary", features=3, latent=2):
    vrnn = VariationalRNN(5 * (features + 1), features, latent=latent, hidden=4, output=output).double()
    return oracle.randomise(vrnn, torch.Generator().manual_seed(1), 0.5)


def random_sequences(output="binary", features=3):
    g = torch.Generator().manual_seed(2)
    found = [torch.randn(n, features, generator=g).double() for n in LENGTHS]
    return found if output == "gaussian" else [(s > 0).double() for s in found]


class Reference:
    """The model's equations for one sequence, in NumPy."""

    def __init__(self, vrnn):
        self.p = {name: value.detach().numpy() for name, value in vrnn.named_parameters()}
        self.binary, self.hidden = vrnn.output == "binary", vrnn.hidden

    def net(self, name, v):
        inner = np.tanh(self.p[f"{name}.0.weight"] @ v + self.p[f"{name}.0.bias"])
        return self.p[f"{name}.2.weight"] @ inner + self.p[f"{name}.2.bias"]

    def gru(self, v, h):
        a = np.split(self.p["cell.weight_ih"] @ v + self.p["cell.bias_ih"], 3)
        b = np.split(self.p["cell.weight_hh"] @ h + self.p["cell.bias_hh"], 3)
        reset, keep = (1 / (1 + np.exp(-a[i] - b[i])) for i in (0, 1))
        return (1 - keep) * np.tanh(a[2] + reset * b[2]) + keep * h

    @staticmethod
    def normal(v, output):
        mean, raw = np.split(output, 2)
        scale = np.logaddexp(0, raw) + FLOOR
        return (-0.5 * ((v - mean) / scale) ** 2 - np.log(scale) - 0.5 * math.log(2 * math.pi)).sum()

    def frames(self, x, z):
        """log p(z_t | h), log p(x_t | z_t, h) and log q(z_t | x_t, h), each summed over the frames."""
        h, totals = np.zeros(self.hidden), np.zeros(3)
        for frame, latent in zip(x, z, strict=True):
            described, code = self.net("describe", frame), self.net("code", latent)
            output = self.net("decoder", np.concatenate([code, h]))
            seen = (frame * output - np.logaddexp(0, output)).sum() if self.binary else self.normal(frame, output)
            guide = self.normal(latent, self.net("encoder", np.concatenate([described, h])))
            totals += [self.normal(latent, self.net("prior_network", h)), seen, guide]
            h = self.gru(np.concatenate([described, code]), h)
        return totals


def latents(trace, particle, row, length):
    return np.stack([trace.nodes[f"z{t + 1}"]["value"][particle, row].detach().numpy() for t in range(length)])


@pytest.mark.parametrize("output", ["binary", "gaussian"])
@pytest.mark.parametrize("length", [5, 9])
def test_weights_of_a_padded_batch_are_those_of_single_sequences(output, length):
    """A batch of unequal lengths, with and without padding after the longest, by hand frame by frame."""
    vrnn, given = random_model(output), random_sequences(output)
    x, reference = pad(given, length), Reference(vrnn)
    pyro.set_rng_seed(3)
    _, guide = traces(vrnn.model, vrnn.guide, (x,), {}, 2, 1)
    pyro.set_rng_seed(3)
    weights = dgm.log_weights(vrnn.model, vrnn.guide, x, particles=2).detach()
    for k in range(2):
        for row, sequence in enumerate(given):
            parts = reference.frames(sequence.numpy(), latents(guide, k, row, len(sequence)))
            assert float(weights[k, row]) == pytest.approx(parts[0] + parts[1] - parts[2], abs=1e-9)


@pytest.mark.parametrize("elbo", [Trace_ELBO, TraceMeanField_ELBO])
def test_padding_changes_neither_bounds_nor_gradients(elbo):
    """The same sequences in rows of 5 and of 10 frames, with the same latents."""
    vrnn, given = random_model(), random_sequences()
    found = []
    for length in (5, 10):
        vrnn.zero_grad()
        pyro.set_rng_seed(4)
        loss = elbo(max_plate_nesting=1)(vrnn.model, vrnn.guide)(pad(given, length))
        loss.backward()
        found.append([loss.detach(), *(p.grad.clone() for p in vrnn.parameters())])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def cut(vrnn):
    """Take the latents' influence away and make prior and guide constant; returns their parameters."""
    with torch.no_grad():
        vrnn.decoder[0].weight[:, : vrnn.hidden] = 0
        vrnn.cell.weight_ih[:, vrnn.hidden :] = 0
        for network in (vrnn.prior_network, vrnn.encoder):
            network[-1].weight.zero_()
    return [vrnn.prior_network[-1].bias, vrnn.encoder[-1].bias]


@pytest.mark.parametrize("output", ["binary", "gaussian"])
def test_without_latents_the_bound_is_the_likelihood_of_the_remaining_rnn(output):
    """With prior = guide any weight is log p(x); else the analytic ELBO is it less a KL for every frame that exists."""
    vrnn, given = random_model(output), random_sequences(output)
    prior, guide = cut(vrnn)
    reference = Reference(vrnn)
    exact = [reference.frames(s.numpy(), np.zeros((len(s), 2)))[1] for s in given]
    q, p = (
        torch.distributions.Normal(b[:2], torch.nn.functional.softplus(b[2:]) + FLOOR)
        for b in (guide.detach(), prior.detach())
    )
    kl = float(torch.distributions.kl_divergence(q, p).sum())
    elbo = -TraceMeanField_ELBO(max_plate_nesting=1).loss(vrnn.model, vrnn.guide, pad(given, 7))
    assert elbo == pytest.approx(sum(exact) - kl * sum(LENGTHS), abs=1e-8)
    with torch.no_grad():
        guide.copy_(prior)
    weights = dgm.log_weights(vrnn.model, vrnn.guide, pad(given, 7), particles=3).detach()
    np.testing.assert_allclose(weights, np.broadcast_to(exact, (3, 4)), atol=1e-9)
    figure = dgm.log_likelihood(vrnn, pad(given, 7), particles=10)
    assert figure.value == pytest.approx(np.mean(exact), abs=1e-9)
    details = vrnn.evidence(pad(given, 7), particles=10, rows=21).details
    assert details["frames"] == np.mean(LENGTHS)
    assert details["nats_per_frame"] == pytest.approx(sum(exact) / sum(LENGTHS))


A, B, C, F = 0.8, np.array([0.5, -0.3]), np.array([1.0, -0.7]), np.array([[0.2, 0.3], [-0.4, 0.1]])
Q, R = 0.6, np.array([0.5, 0.8])


def linear_gaussian():
    """z_t = A z_{t-1} + B.x_{t-1} + Q noise, x_t = C z_t + F x_{t-1} + R noise, and q(z_t | x_t, past) exact.

    Signals pass tanh and the GRU's candidate at a ten-thousandth of their size, where both are straight lines up to 1e-7,
    and the update gate is closed: h_t = (x_t, z_t) / 10,000.
    """
    vrnn, e = VariationalRNN(9, 2, latent=1, hidden=6, output="gaussian").double(), 1e-4
    precision = 1 / Q**2 + (C**2 / R**2).sum()
    gain = C / R**2 / precision
    m = 1 / Q**2 / precision

    def raw(scale):
        return np.log(np.expm1(scale - FLOOR))

    with torch.no_grad():
        for parameter in vrnn.parameters():
            parameter.zero_()
        for network in (vrnn.describe, vrnn.code, vrnn.prior_network):
            network[-1].weight[:, :6] = torch.eye(6).double()[: len(network[-1].weight)]
        vrnn.describe[0].weight[:2] = e * torch.eye(2)
        vrnn.code[0].weight[2] = e
        # Candidate: the sum of frame (units 0, 1) and latent (unit 2); the update gate is closed by its bias.
        vrnn.cell.weight_ih[12:] = torch.cat([torch.eye(6), torch.eye(6)], 1)
        vrnn.cell.bias_ih[6:12] = -50
        vrnn.prior_network[0].weight[:] = torch.eye(6)
        mean = torch.tensor([*B, A, 0, 0, 0]) / e
        vrnn.prior_network[2].weight[:] = torch.stack([mean, 0 * mean])
        vrnn.prior_network[2].bias[1] = raw(Q)
        vrnn.decoder[0].weight[:] = torch.cat([torch.eye(6), torch.eye(6)], 1)
        vrnn.decoder[0].weight[:3] = 0
        vrnn.decoder[0].weight[2, 2] = 1  # the latent, of the code
        vrnn.decoder[0].weight[:2, 6:8] = torch.eye(2).double()  # the previous frame, of the state
        vrnn.decoder[2].weight[:2, :3] = torch.tensor(np.column_stack([F, C])) / e
        vrnn.decoder[2].bias[2:] = torch.tensor(raw(R))
        vrnn.encoder[0].weight[:2, :2] = torch.eye(2).double()
        vrnn.encoder[0].weight[2:5, 6:9] = torch.eye(3).double()
        past = m * np.array([*B, A]) - np.array([*(gain @ F), 0])
        vrnn.encoder[2].weight[0, :5] = torch.tensor([*gain, *past]) / e
        vrnn.encoder[2].bias[1] = raw(precision**-0.5)
    return vrnn


def joint_covariance(frames, latents=False):
    """Of (x_1, ..., x_T), in the order of the values, or of (x_1, z_1, ..., x_T, z_T); the means are 0."""
    n = 3 * frames
    M, S = np.zeros((n, n)), np.tile([*R**2, Q**2], frames)  # (x_t, z_t) in blocks of three
    for t in range(frames):
        M[3 * t : 3 * t + 2, 3 * t + 2] = C
        if t:
            M[3 * t : 3 * t + 2, 3 * t - 3 : 3 * t - 1] = F
            M[3 * t + 2, 3 * t - 3 : 3 * t] = [*B, A]
    inverse = np.linalg.inv(np.eye(n) - M)
    seen = (np.arange(n) % 3 < 2) | latents
    return (inverse @ np.diag(S) @ inverse.T)[np.ix_(seen, seen)]


def gaussian_log_prob(sequence):
    covariance = joint_covariance(len(sequence))
    x = sequence.numpy().ravel()
    return -0.5 * (x @ np.linalg.solve(covariance, x) + np.linalg.slogdet(2 * np.pi * covariance)[1])


def test_linear_gaussian_likelihood():
    """What a Kalman filter computes. A sequence of one frame has the exact posterior as guide; of more, the weights'
    mean is within six standard errors."""
    vrnn = linear_gaussian()
    given = random_sequences("gaussian", 2)
    exact = np.array([gaussian_log_prob(s) for s in given])
    n = 10_000
    weights = dgm.log_weights(vrnn.model, vrnn.guide, pad(given), particles=n).detach().numpy()
    np.testing.assert_allclose(weights[:, 1], exact[1], atol=1e-5)
    ratio = np.exp(weights - exact)
    error = ratio.std(0) / math.sqrt(n)
    assert error.max() < 0.05
    assert (abs(ratio.mean(0) - 1) < 6 * error + 1e-5).all()


def test_samples_have_the_joint_covariance():
    """Drawn frame by frame, each fed back. The standard error of a covariance is sqrt((s_ij^2 + s_ii s_jj) / n)."""
    n, vrnn = 20_000, linear_gaussian()
    for length in (None, 4):
        values, present = unpad(vrnn.sample(n, length), 2)
        assert present.all()
        assert values.shape == (n, length or 3, 2)
        drawn, exact = values.flatten(1).numpy(), joint_covariance(length or 3)
        error = np.sqrt((exact**2 + np.outer(exact.diagonal(), exact.diagonal())) / n)
        assert (abs(drawn.T @ drawn / n - exact) < 6 * error).all()
        assert (abs(drawn.mean(0)) < 6 * np.sqrt(exact.diagonal() / n)).all()


def test_imputed_means_are_the_gaussian_conditional():
    """A frame unknown, another half known, later frames known, and padding: 500 chains against the exact means."""
    vrnn, chains = linear_gaussian(), 500
    sequence = 2 * random_sequences("gaussian", 2)[2][:4]
    unknown = np.array([2, 3, 4])  # all of the second frame and half of the third
    x = pad([sequence], 6).expand(chains, -1).clone()
    columns = unknown + unknown // 2
    known = torch.ones(18, dtype=torch.bool)
    known[columns] = False
    known[12:] = False  # of padding, which stays
    x[:, columns] = torch.nan
    filled = vrnn.impute(x, known, draws=8, particles=8)
    assert torch.equal(filled[:, known], x[:, known])
    assert (filled[:, 12:] == 0).all()
    covariance, given = joint_covariance(4), np.setdiff1d(np.arange(8), unknown)
    cross = covariance[np.ix_(unknown, given)]
    exact = cross @ np.linalg.solve(covariance[np.ix_(given, given)], sequence.numpy().ravel()[given])
    found = filled[:, columns].numpy()
    error = found.std(0) / math.sqrt(chains)
    assert error.max() < 0.05 * abs(exact).max()
    assert (abs(found.mean(0) - exact) < 6 * error).all()
    for bad in ({"draws": 1}, {"particles": 1}):
        with pytest.raises(ValueError, match="at least 2"):
            vrnn.impute(x, known, **bad)


def test_a_filter_that_keeps_a_path_keeps_the_posterior():
    """Paths drawn exactly from p(z, x_a | x_b), one sweep with two particles: means and covariances stay."""
    vrnn, chains = linear_gaussian(), 10_000
    sequence = random_sequences("gaussian", 2)[0]
    full, unknown = joint_covariance(3, latents=True), np.array([1, 2, 3, 4, 5, 8])  # half of x_1, x_2, all latents
    given = np.setdiff1d(np.arange(9), unknown)
    gain = full[np.ix_(unknown, given)] @ np.linalg.inv(full[np.ix_(given, given)])
    mean = gain @ sequence.numpy().ravel()[[0, 4, 5]]
    covariance = full[np.ix_(unknown, unknown)] - gain @ full[np.ix_(given, unknown)]
    drawn = torch.from_numpy(np.random.default_rng(0).multivariate_normal(mean, covariance, chains))
    values = sequence.expand(chains, -1, -1).clone()
    values[:, 0, 1], values[:, 1] = drawn[:, 0], drawn[:, 2:4]
    known = torch.tensor([[True, False], [False, False], [True, True]]).expand(chains, -1, -1)
    kept = Path(drawn[:, [1, 4, 5]].unsqueeze(-1), values)
    with torch.no_grad():
        path = particle_gibbs(vrnn, torch.where(known, values, 0.0), known, known.any(-1) | True, kept, 2)
    assert torch.equal(path.x[known], values[known])
    moved = (path.x[:, 1] != values[:, 1]).any(-1).double().mean()
    assert 0.2 < float(moved) < 0.8
    found = torch.stack(
        [path.x[:, 0, 1], path.z[:, 0, 0], *path.x[:, 1].T, path.z[:, 1, 0], path.z[:, 2, 0]], 1
    ).numpy()
    error = np.sqrt((covariance**2 + np.outer(covariance.diagonal(), covariance.diagonal())) / chains)
    assert (abs(found.mean(0) - mean) < 6 * np.sqrt(covariance.diagonal() / chains)).all()
    assert (abs(np.cov(found.T) - covariance) < 6 * error).all()


@pytest.mark.parametrize("output", ["binary", "gaussian"])
def test_drawn_frames_carry_the_joint_density(output):
    """Drawn without data, and in the dream of a sleep phase, which has the lengths of the data: by hand."""
    vrnn, reference = random_model(output), Reference(random_model(output))
    x = pad(random_sequences(output), 6)
    for dream, rows in (
        (poutine.trace(vrnn.model).get_trace(None, 4), [5] * 4),
        (poutine.trace(poutine.uncondition(vrnn.model)).get_trace(x), LENGTHS),
    ):
        row = dream.nodes["x"]["value"]
        assert not dream.nodes["x"]["is_observed"]
        values, present = unpad(row, 3)
        assert present.sum(1).tolist() == list(rows)
        dream.compute_log_prob()
        for n, length in enumerate(rows):
            z = np.stack([dream.nodes[f"z{t + 1}"]["value"][n].detach().numpy() for t in range(length)])
            parts = reference.frames(values[n, :length].detach().numpy(), z)
            found = sum(float(dream.nodes[f"z{t + 1}"]["log_prob"][n].detach()) for t in range(5))
            assert found == pytest.approx(parts[0], abs=1e-9)
            assert float(dream.nodes["x"]["log_prob"][n].detach()) == pytest.approx(parts[1], abs=1e-9)
    other = poutine.condition(vrnn.model, {"x": vrnn.sample(4) * 0.999})
    assert (poutine.trace(other).get_trace(None, 4).log_prob_sum() == -torch.inf).all()
    assert asleep(vrnn.model, vrnn.guide, (x,), {}, 1).shape == (4,)


def test_draws_one_frame_ahead_have_the_lengths_and_other_lengths_no_probability():
    vrnn, x = random_model(), pad(random_sequences(), 6)
    trace = poutine.trace(vrnn.model).get_trace(x)
    assert [name for name in trace.nodes if name.startswith("z")] == ["z1", "z2", "z3", "z4", "z5"]
    fn = trace.nodes["x"]["fn"]
    drawn = fn.expand((7, 4)).sample((2,))
    assert drawn.shape == (2, 7, 4, 24)
    assert torch.equal(unpad(drawn, 3)[1], unpad(x, 3)[1].expand(2, 7, 4, 6))
    assert fn.log_prob(drawn).isfinite().all()
    changed = fn.log_prob(pad([torch.ones(n, 3).double() for n in (3, 2, 5, 2)], 6))
    assert changed.isfinite().tolist() == [True, False, True, True]


def test_training_on_copied_patterns_raises_the_bound():
    """One of eight patterns, repeated over 4 to 7 frames. Nothing learned: 3 log 2 nats a frame, some 11.4 a sequence;
    all of it learned: log 8 = 2.1. More than half of the way is asked for."""
    g = torch.Generator().manual_seed(5)
    frames = [
        torch.randint(0, 2, (1, 3), generator=g).float().repeat(int(n), 1)
        for n in torch.randint(4, 8, (100,), generator=g)
    ]
    x = pad(frames)
    vrnn = VariationalRNN(x.shape[1], 3, latent=2, hidden=16)
    vrnn.initialise(x)
    before = dgm.log_likelihood(vrnn, x, particles=20).value
    run = dgm.fit(vrnn, x, epochs=6, batch_size=15, learning_rate=0.03, progress=False)
    after = dgm.log_likelihood(vrnn, x, particles=20).value
    best = -3 * math.log(2)
    assert before < -10
    assert before + 0.5 * (best - before) < after < best + 0.5
    last = run.history[-1]
    frames_of_valid = float(unpad(x[-10:], 3)[1].sum(1).float().mean())
    assert last["valid_elbo_per_frame"] == pytest.approx(last["valid_elbo"] / frames_of_valid)


def test_initialise_counts_existing_frames_alone():
    for output in ("binary", "gaussian"):
        vrnn, given = random_model(output), random_sequences(output)
        vrnn.initialise(pad(given, 9))
        seen, bias = torch.cat(given), vrnn.decoder[-1].bias.detach()
        if output == "binary":
            torch.testing.assert_close(torch.sigmoid(bias), seen.mean(0).clamp(0.01, 0.99))
        else:
            start = vrnn.observe(bias)
            torch.testing.assert_close(start.mean, seen.mean(0))
            torch.testing.assert_close(start.stddev, seen.std(0, False))


def test_refusals():
    for bad, message in (
        ({"output": "logistic"}, "expected one of binary, gaussian$"),
        ({"visible": 13}, "expected a multiple of 3"),
        ({"features": 0}, "features got 0"),
        ({"latent": 0}, "latent got 0"),
        ({"hidden": 2.0}, "hidden got 2.0"),
        ({"activation": "sine"}, "activation got 'sine'"),
    ):
        with pytest.raises(ValueError, match=message):
            VariationalRNN(**{"visible": 12, "features": 2, **bad})
    vrnn, x = VariationalRNN.example()
    vrnn.check_data(torch.cat([x, torch.zeros(10, 6)], 1))
    gone, late = x.clone(), x.clone()
    gone[3] = 0
    late[4, 2], late[4, 5] = 0, 1
    for rows, message in (
        (gone, "sequence 3 has no frames"),
        (late, "sequence 4 has columns of existence"),
        (x[:, :-1], "expected rows x"),
        (2 * x, "got the value 2"),
    ):
        with pytest.raises(ValueError, match=message):
            vrnn.check_data(rows)
    with pytest.raises(ValueError, match="kind got 'rws'"):
        vrnn.objective("rws")
    with pytest.raises(ValueError, match="needs data"):
        vrnn.guide(None, 3)
    with pytest.raises(ValueError, match="length got 0"):
        vrnn.sample(2, 0)
    with pytest.raises(NotImplementedError, match="no means of rows"):
        vrnn.sample_means(2)
    assert isinstance(vrnn.objective("iwae", particles=3).elbo, dgm.IWAE)


@pytest.mark.parametrize("elbo", [Trace_ELBO, functools.partial(dgm.IWAE, 2)])
def test_sequences_that_no_program_can_go_on_with(elbo):
    model, x = dgm.VariationalRNN.example()
    x[3] = 0
    svi = SVI(model.model, model.guide, Adam({"lr": 1e-3}), elbo())
    for bad, match in (
        (x, "sequence 3 has no frames"),
        (x[:, :-1], "rows of .* columns for features="),
        (x[:, :0], "0 columns"),
    ):
        with pytest.raises(ValueError, match=match):
            svi.step(bad)
        with pytest.raises(ValueError, match=match):
            model.impute(bad, torch.ones_like(bad, dtype=torch.bool), draws=2)
