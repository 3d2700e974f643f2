"""The spike-and-slab RBM with coupled slabs against the mixture of Gaussians that it is, and against quadrature."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from oracles import boltzmann as oracle
from oracles import mixtures as mixture
from pyro import poutine
from pyro.distributions import TorchDistribution
from pyro.infer import Trace_ELBO
from torch.distributions import constraints

import pyro_dgm as dgm
from pyro_dgm.energy.mean_field import mean_field
from pyro_dgm.models.real_valued.coupled_slabs import CoupledSlabRBM

N = 20_000
D = 3
TRIANGLE = [(0, 1), (2, 1), (0, 2)]
GRAPHS = {"pair": (2, [(1, 0)]), "chain": (3, None), "triangle": (3, TRIANGLE)}


def make(hidden=3, edges=None, seed=1, scale=0.8, visible=D, **options):
    model = CoupledSlabRBM(visible, hidden, edges, **options)
    oracle.randomise(model, torch.Generator().manual_seed(seed), scale)
    with torch.no_grad():  # so that no spike is rare, and couplings matter
        model.hidden_bias += 0.5 * model.alpha * model.slab_mean**2
        model.coupling *= 2
    return model


MODELS = pytest.mark.parametrize("model", [make(*graph) for graph in GRAPHS.values()], ids=GRAPHS)


def pairs(model):
    return zip(model.options()["edges"], mixture.numbers(model.coupling), strict=True)


def energy(model, x, h, s):
    """(20.50) and the new term, unit by unit."""
    W, mu, b, alpha = (mixture.numbers(t) for t in (model.weight, model.slab_mean, model.hidden_bias, model.alpha))
    Lambda, Phi = mixture.numbers(model.precision), mixture.numbers(model.phi)
    total = 0.5 * sum(Lambda[d] * x[d] ** 2 for d in range(len(x)))
    for i in range(len(b)):
        total += -sum(x[d] * W[d, i] for d in range(len(x))) * s[i] * h[i]
        total += 0.5 * sum(Phi[d, i] * x[d] ** 2 for d in range(len(x))) * h[i]
        total += (
            0.5 * alpha[i] * s[i] ** 2 - alpha[i] * mu[i] * s[i] * h[i] - b[i] * h[i] + alpha[i] * mu[i] ** 2 * h[i]
        )
    return total - sum(J * s[i] * h[i] * s[j] * h[j] for (i, j), J in pairs(model))


def of_model(model):
    """The mixture over z = (x, s): every quadratic form from second differences of the written-out energy."""
    size, n = model.visible + model.hidden, model.visible
    H = mixture.spikes(model.hidden)
    unit, zero = np.eye(size), np.zeros(size)
    forms, linear, constant = [], [], []
    for h in H:

        def at(z, h=h):
            z = np.moveaxis(z, -1, 0)
            return energy(model, z[:n], h, z[n:])

        origin, first = at(zero), at(unit)
        Q = at(unit[:, None] + unit) - first[:, None] - first + origin
        forms.append(Q)
        linear.append(origin + 0.5 * np.diag(Q) - first)
        constant.append(-origin)
    return mixture.Mixture(H, forms, linear, constant)


def state_of(model, h, z):
    h, z = torch.as_tensor(h).float(), torch.as_tensor(z).float()
    return {"visible": z[..., : model.visible], "hidden": torch.stack([h, z[..., model.visible :]], -1)}


def marginal(model, exact, x):
    """-F(x) of every row, from the mixture of the slabs."""
    known = np.arange(exact.size) < model.visible
    return np.array([exact.given(known, np.pad(r, (0, exact.size - model.visible))).log_z for r in x.double().numpy()])


@MODELS
class TestAlgebra:
    def test_energy(self, model):
        h, z = np.random.default_rng(0).integers(0, 2, (20, model.hidden)), torch.randn(20, D + model.hidden)
        expected = [energy(model, v[:D], a, v[D:]) for a, v in zip(h, z.double().numpy(), strict=True)]
        np.testing.assert_allclose(model().energy(state_of(model, h, z)).detach(), expected, atol=1e-4, rtol=1e-5)

    def test_conditionals(self, model):
        """Every block's mean statistics given the rest, by ratios of the joint."""
        exact = of_model(model)
        machine = model().machine
        h, z = np.array([1.0, 1.0, 0.0])[: model.hidden], torch.randn(D + model.hidden)
        statistics = machine.statistics(state_of(model, h, z))
        seen = set()
        for colour in machine.graph.colours:
            for block in colour:
                means = machine.graph.layers[block.layer].mean(*machine.fields(block, statistics))
                atoms = range(D if block.layer == "visible" else model.hidden)
                for place, atom in enumerate(atoms if block.atoms is None else block.atoms.tolist()):
                    entry = atom + (0 if block.layer == "visible" else D)
                    keep = (exact.switches == h).all(1)
                    if block.layer == "hidden":
                        keep = (np.delete(exact.switches, atom, 1) == np.delete(h, atom)).all(1)
                    given = exact.only(keep).given(np.arange(exact.size) != entry, z.double().numpy())
                    on = given.switches[:, atom] if block.layer == "hidden" else np.ones(1)
                    expected = [
                        given.p @ (on * given.mean[:, 0]),
                        given.p @ (given.cov + given.mean[..., None] ** 2)[:, 0, 0],
                    ]
                    if block.layer == "hidden":
                        expected.insert(0, given.p @ on)
                        found = [means[0][place, 0], means[0][place, 1], means[1][place, 1]]
                    else:
                        found = [means[0][place], means[1][place]]
                    np.testing.assert_allclose([float(f.detach()) for f in found], expected, atol=1e-4, rtol=1e-4)
                    seen.add(entry)
        assert seen == set(range(exact.size))

    def test_sums_over_spikes(self, model):
        exact, x = of_model(model), torch.randn(6, D)
        assert float(model.exact_log_partition().detach()) == pytest.approx(exact.log_z, abs=1e-4)
        np.testing.assert_allclose(-model.free_energy_exact(x).detach(), marginal(model, exact, x), atol=1e-4)

    def test_stationary(self, model):
        """Six standard errors of N independent chains, see mixture.excess: from exact draws, and from afar."""
        exact = of_model(model)
        state, kernel = state_of(model, *exact.draw(N)), dgm.BlockGibbs(model())
        assert distance(kernel, model, state, 2, exact) < 6
        start = kernel.start(N)
        assert distance(kernel, model, start, 0, exact) > 6
        assert distance(kernel, model, start, 30, exact) < 6
        wrong = copy.deepcopy(model)
        with torch.no_grad():
            wrong.coupling.neg_()  # alpha stays
        assert distance(dgm.BlockGibbs(wrong()), model, state, 2, exact) > 6

    def test_bound(self, model):
        """E_q[-E] + H(q) in numpy, below the exact figure, and a local optimum."""
        exact, x = of_model(model), torch.randn(6, D)
        found = model.bound(x, 200)
        q = factors(model, x, 200)
        expected = [variational(exact, row, *one) for row, *one in zip(x.double().numpy(), *q, strict=True)]
        np.testing.assert_allclose(found, expected, atol=1e-4)
        gap = marginal(model, exact, x) - found.numpy()
        assert gap.min() > -1e-4
        assert gap.max() > 5e-4  # and no rounding
        row, best = x[0].double().numpy(), [part[0] for part in q]
        for part, entry, step in itertools.product(range(3), range(model.hidden), (-0.02, 0.02)):
            other = [np.array(values) for values in best]
            other[part][entry] += step
            if 0 < other[0][entry] < 1:
                assert variational(exact, row, *other) <= expected[0] + 1e-5

    def test_elbo_of_the_guide_is_the_bound(self, model):
        x = torch.randn(5, D)
        model.rounds = 200
        # size: rows that the batch stands for, which scales both sides.
        found = elbo(model, model.guide, x, size=15)
        assert float(found) == pytest.approx(3 * float(model.bound(x, 200).sum()), rel=1e-5)


def distance(kernel, model, state, sweeps, exact):
    for _ in range(sweeps):
        state = kernel.sample(state)
    z = torch.cat([state["visible"], state["hidden"][..., 1]], -1).double().numpy()
    return mixture.excess(mixture.statistics(state["hidden"][..., 0].double().numpy(), z), exact.moments())


def factors(model, x, rounds):
    """P(h = 1), E[s | h = 1] and the slabs' variances of every row, as the machine's mean field has them."""
    found = mean_field(model().machine, {"visible": x}, rounds).statistics["hidden"]
    first, second = (t.detach().double().unflatten(-1, (-1, 2)).numpy() for t in found)
    p, location = first[..., 0], first[..., 1] / first[..., 0]
    return p, location, second[..., 1] - p * location**2


def variational(exact, x, p, location, variance):
    """E_q[-E(x, s, h)] + H(q) of one row, q a product over i of P(h_i) N(s_i; h_i m_i, v_i), up to log Z."""
    entropy = -(p * np.log(p) + (1 - p) * np.log(1 - p)).sum() + 0.5 * np.log(2 * math.pi * math.e * variance).sum()
    value = 0.0
    for h, Q, slope, c in zip(exact.switches, exact.Q, exact.l, exact.c, strict=True):
        z = np.concatenate([x, h * location])
        spread = (np.diag(Q)[len(x) :] * variance).sum()
        value += np.prod(np.where(h, p, 1 - p)) * (-0.5 * (z @ Q @ z + spread) + slope @ z + c)
    return value + entropy


def elbo(model, guide, x, size=None):
    """log p - log q of one draw of the guide, up to log Z, by Pyro's own sums; log Z is attached as 0."""
    drawn = poutine.trace(guide).get_trace(x, size)
    value = drawn.nodes["hidden"]["value"]
    at = model().given({"hidden": value}).with_log_partition(0.0)
    return (1 if size is None else size / len(x)) * at.log_prob(x).detach().sum() - drawn.log_prob_sum().detach()


@pytest.mark.parametrize("square", [True, False])
def test_log_partition_by_quadrature(square):
    """One visible unit, two spikes: a trapezium rule in three dimensions, which is exact for Gaussians to rounding."""
    model = make(2, [(0, 1)], visible=1, square=square)
    exact = of_model(model)
    reach = 9 * np.sqrt(np.diagonal(exact.cov, axis1=1, axis2=2)).max(0) + np.abs(exact.mean).max(0)
    axes = [np.linspace(-r, r, 71) for r in reach]
    x, s, t = np.meshgrid(*axes, indexing="ij")
    step = math.prod(a[1] - a[0] for a in axes)
    total = sum(np.exp(-energy(model, [x], h, [s, t])).sum() * step for h in itertools.product((0, 1), repeat=2))
    assert float(model.exact_log_partition().detach()) == pytest.approx(math.log(total), abs=1e-4)


def test_free_energy_by_quadrature():
    model, rows = make(2, [(0, 1)]), torch.randn(3, D)
    axis = np.linspace(-20, 20, 401)
    s, t = np.meshgrid(axis, axis, indexing="ij")
    for x, found in zip(rows.double().numpy(), model.free_energy_exact(rows).detach(), strict=True):
        low = min(energy(model, x, h, [s, t]).min() for h in itertools.product((0, 1), repeat=2))
        parts = [np.exp(low - energy(model, x, h, [s, t])).sum() for h in itertools.product((0, 1), repeat=2)]
        assert float(found) == pytest.approx(low - math.log(sum(parts) * (axis[1] - axis[0]) ** 2), abs=1e-4)


@pytest.mark.parametrize("edges", [[], TRIANGLE])
def test_without_couplings_it_is_the_spike_slab_rbm(edges):
    model, x = make(3, edges), torch.randn(7, D)
    plain = dgm.SpikeSlabRBM(D, 3)
    with torch.no_grad():
        model.coupling.zero_()
        for name, parameter in plain.named_parameters():
            parameter.copy_(getattr(model, name).view_as(parameter))
    torch.testing.assert_close(model.alpha, plain.alpha.squeeze(-1))
    torch.testing.assert_close(model.exact_log_partition(), plain.exact_log_partition())
    torch.testing.assert_close(model.free_energy_exact(x), plain().free_energy(x))
    # Spikes are independent given x, so that mean field is exact.
    torch.testing.assert_close(model.bound(x), -plain().free_energy(x).detach(), atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(model.posterior(x), plain.posterior(x).detach())
    for pair in (
        (model.exact_log_partition(), plain.exact_log_partition()),
        (model.free_energy_exact(x).sum(), plain().free_energy(x).sum()),
    ):
        for machine, value in zip((model, plain), pair, strict=True):
            machine.zero_grad()
            value.backward()
        for name, parameter in plain.named_parameters():
            torch.testing.assert_close(
                getattr(model, name).grad.view_as(parameter), parameter.grad, atol=1e-4, rtol=1e-4
            )


def test_every_parameter_gives_a_normaliser():
    """200 random machines, by the eigenvalues of the whole form over all spikes; without the row sums of |J| many have none."""
    g = torch.Generator().manual_seed(2)
    edges = list(itertools.combinations(range(4), 2))
    H = mixture.spikes(4)
    broken = 0
    for _ in range(200):
        model = CoupledSlabRBM(3, 4, edges, square=bool(torch.rand((), generator=g) < 0.7))
        oracle.randomise(model, g, float(3 * torch.rand((), generator=g)))
        W, Lambda, Phi, alpha, J = (
            mixture.numbers(t) for t in (model.weight, model.precision, model.phi, model.alpha, model.coupling)
        )
        sums = np.array([sum(abs(w) for w, edge in zip(J, edges, strict=True) if i in edge) for i in range(4)])
        bare = np.exp(mixture.numbers(model.log_slab)) + 1.0001 * (W**2 / (Phi + Lambda[:, None] / 4)).sum(0)
        np.testing.assert_allclose(alpha, bare + 1.0001 * sums, rtol=1e-5)

        def smallest(alpha, W=W, J=J, x=Lambda + H @ Phi.T):
            Q = np.zeros((16, 7, 7))
            for form, h, diagonal in zip(Q, H, x, strict=True):
                form[:3, :3], form[3:, 3:] = np.diag(diagonal), np.diag(alpha)
                form[:3, 3:] = -W * h
                form[3:, :3] = form[:3, 3:].T
                for w, (i, j) in zip(J, edges, strict=True):
                    form[3 + i, 3 + j] = form[3 + j, 3 + i] = -w * h[i] * h[j]
            scale = 1 / np.sqrt(np.diagonal(Q, axis1=1, axis2=2))
            return np.linalg.eigvalsh(Q * scale[:, :, None] * scale[:, None])[:, 0].min()

        # Of unit diagonal; the least margin is that of the slack, 1e-4 of alpha, less single precision's rounding of alpha.
        assert smallest(alpha) > 1e-6
        assert model.exact_log_partition().isfinite()  # in single precision
        broken += smallest(bare) < 0
    assert broken > 30


class MeanFieldStates(TorchDistribution):
    """States (h, s) drawn from the mean-field factors, with their density."""

    arg_constraints: dict = {}
    support = constraints.independent(constraints.real, 2)

    def __init__(self, p, location, variance):
        self.p, self.location, self.spread = p, location, variance.sqrt()
        super().__init__(p.shape[:1], (p.shape[1], 2), validate_args=False)

    def sample(self, sample_shape=()):
        h = torch.bernoulli(self.p)
        return torch.stack([h, h * self.location + self.spread * torch.randn_like(h)], -1)

    def log_prob(self, value):
        h, s = value.unbind(-1)
        spikes = torch.distributions.Bernoulli(self.p).log_prob(h)
        return (spikes + torch.distributions.Normal(h * self.location, self.spread).log_prob(s)).sum(-1)


def test_a_guide_that_draws_states():
    """Its ELBO is the bound on average: 20,000 independent rows, six standard errors."""
    import pyro

    model = make(3, TRIANGLE)
    x = torch.randn(1, D).expand(20_000, D)
    q = [torch.as_tensor(t).float().expand(len(x), -1) for t in factors(model, x[:1], 200)]

    def guide(x, size=None):
        with pyro.plate("data", len(x)):
            return pyro.sample("hidden", MeanFieldStates(*q))

    trace = poutine.trace(guide).get_trace(x)
    value = trace.nodes["hidden"]["value"]
    trace.compute_log_prob()
    each = (
        model().given({"hidden": value}).with_log_partition(0.0).log_prob(x).detach()
        - trace.nodes["hidden"]["log_prob"]
    )
    error = float(each.std()) / len(x) ** 0.5
    assert error < 0.05
    assert abs(float(each.mean()) - float(model.bound(x[:1], 200))) < 6 * error + 1e-4
    program = dgm.negative_phase(model.model, dgm.PCD(chains=10))
    assert math.isfinite(Trace_ELBO(max_plate_nesting=1).loss(program, guide, x))


def exact_gradient(model, x, q):
    """Of the mean negative ELBO with q held, by central differences of the oracle in double precision."""
    again = CoupledSlabRBM(**model.options()).double()
    again.load_state_dict({name: value.double() for name, value in model.state_dict().items()})

    def loss():
        exact = of_model(again)
        rows = zip(x.double().numpy(), *q, strict=True)
        return exact.log_z - np.mean([variational(exact, row, *one) for row, *one in rows])

    gradient = {}
    for name, parameter in again.named_parameters():
        flat, found = parameter.detach().view(-1), []
        for k in range(len(flat)):
            value, ends = float(flat[k]), []
            for step in (1e-4, -1e-4):
                flat[k] = value + step
                ends.append(loss())
            flat[k] = value
            found.append((ends[0] - ends[1]) / 2e-4)
        gradient[name] = torch.tensor(found).view_as(parameter).float()
    return gradient


def test_gradient_of_variational_maximum_likelihood():
    model = make(2, [(0, 1)], visible=2, rounds=3)
    x = torch.randn(8, 2)
    expected = exact_gradient(model, x, factors(model, x, 3))
    # With the exact log Z there is nothing random.
    model.zero_grad()
    drawn = poutine.trace(model.guide).get_trace(x)
    rows = model().given({"hidden": drawn.nodes["hidden"]["value"]}).free_energy(x)
    ((drawn.log_prob_sum() + rows.sum()) / len(x) + model.exact_log_partition()).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], atol=2e-4, rtol=1e-3)
    # Chains of PCD; blocks of 10 steps of two sweeps are nearly independent.
    program = dgm.negative_phase(model.model, dgm.PCD(k=2, chains=5000))
    loss, blocks = Trace_ELBO(max_plate_nesting=1), []
    for number in range(16):
        model.zero_grad()
        for _ in range(10):
            (loss.differentiable_loss(program, model.guide, x) / (10 * len(x))).backward()
        if number >= 1:
            blocks.append({name: p.grad.clone() for name, p in model.named_parameters()})
    oracle.meets(blocks, expected, 0.08)


def test_evidence():
    model, x = CoupledSlabRBM.example()
    exact = of_model(model)
    figure = dgm.log_likelihood(model, x)
    assert figure.kind == "exact"
    assert figure.value == pytest.approx((marginal(model, exact, x) - exact.log_z).mean(), abs=1e-4)
    log_z = dgm.log_partition(model(), "ais", chains=200, temperatures=80)
    assert abs(float(log_z.value) - exact.log_z) < 6 * float(log_z.stderr) + 1e-4
    assert float(log_z.stderr) < 0.1
    annealed = dgm.log_likelihood(model, x, method="ais", temperatures=80, warmup=50)
    assert annealed.kind == "lower bound"
    assert annealed.lower <= figure.value
    assert annealed.value - 6 * annealed.stderr_estimator < figure.value


def test_large_machines_give_a_bound_and_say_so():
    model = make(14, visible=4, scale=0.3)
    figure = dgm.log_likelihood(model, torch.randn(5, 4), chains=20, temperatures=30)
    assert figure.kind == "lower bound"
    assert "variational" in figure.method
    with pytest.raises(dgm.NotEnumerable, match="ais"):
        model.exact_log_partition()
    with pytest.raises(dgm.NotEnumerable, match="ais"):
        model.free_energy_exact(torch.zeros(1, 4))


def test_training_raises_the_likelihood():
    source = make(3, TRIANGLE, seed=4)
    x = state_of(source, *of_model(source).draw(5000))["visible"][:1000]
    model = CoupledSlabRBM(D, 3, TRIANGLE, rounds=3)
    model.initialise(x)
    torch.testing.assert_close(model.precision.detach(), 1 / x.var(0, correction=0))
    before = dgm.log_likelihood(model, x).value
    dgm.fit(model, x, epochs=6, batch_size=100, learning_rate=0.05, progress=False, objective=model.objective(k=2))
    assert dgm.log_likelihood(model, x).value > before + 0.1
    assert model.coupling.detach().abs().min() > 0


def test_guide_without_data_and_colours():
    with pytest.raises(ValueError, match="needs data"):
        make().guide(None)
    assert [len(make(*graph)().machine.graph.colours) for graph in GRAPHS.values()] == [3, 3, 4]
    assert len(make(3, [])().machine.graph.colours) == 2
    assert make(4).options()["edges"] == [[0, 1], [1, 2], [2, 3]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"edges": [(0, 1), (1, 0)]}, "pair of spikes twice"),
        ({"edges": [(0, 0)]}, "slab to itself"),
        ({"edges": [(0, 3)]}, "spike 3; the spikes are 0 to 2"),
        ({"edges": [(0, -1)]}, "spike -1; the spikes are 0 to 2"),
        ({"edges": "abc"}, "edges got 'abc'; expected pairs of integers"),
        ({"edges": [(0, 1, 2)]}, "pairs x 2"),
        ({"edges": [0, 1]}, "pairs x 2"),
        ({"edges": [(0.0, 1.0)]}, "integers"),
        ({"hidden": 0}, "positive integers"),
        ({"visible": -1}, "positive integers"),
        ({"rounds": 0}, "at least 1"),
        ({"rounds": 1.5}, "at least 1"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        CoupledSlabRBM(**{"visible": 3, "hidden": 3, **options})
