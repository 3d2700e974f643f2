"""Spike-and-slab units, and couplings of real-valued units that must have a normaliser."""

import contextlib
import itertools
import math

import numpy as np
import pytest
import torch
from scipy import integrate

import pyro_dgm as dgm
from pyro_dgm.energy import Lateral
from pyro_dgm.energy.normaliser import barred, improper

ONE = (torch.tensor([[0.4, 1.3], [-1.0, 0.5]]), torch.tensor([[0.0, -0.8], [0.0, -0.3]]))
POOLED = (torch.tensor([[-0.3, 1.1, -0.7]]), torch.tensor([[0.0, -0.6, -1.1]]))
CASES = pytest.mark.parametrize(
    ("unit", "eta"), [(dgm.SpikeSlab(2, 2), ONE), (dgm.SpikeSlab(1, 3), POOLED)], ids=["one slab", "pooled"]
)


def weight(h, slabs, eta, atom=0):
    """exp<eta, T> of one atom, from the definition."""
    b, c = float(eta[0][atom, 0]), eta[0][atom, 1:].tolist()
    square = eta[1][atom, 1:].tolist()
    return math.exp(h * b + sum(h * ck * s + q * s * s for ck, q, s in zip(c, square, slabs, strict=True)))


def integral(h, eta, atom, known=()):
    """Over the slabs after the known ones."""
    free = eta[0].shape[-1] - 1 - len(known)
    limits = [(-15.0, 15.0)] * free
    return (
        integrate.nquad(lambda *s: weight(h, (*known, *s), eta, atom), limits)[0]
        if free
        else weight(h, known, eta, atom)
    )


@CASES
def test_log_partition(unit, eta):
    expected = [math.log(sum(integral(h, eta, atom) for h in (0, 1))) for atom in range(unit.atoms)]
    torch.testing.assert_close(unit.A(*eta), torch.tensor(expected), atol=1e-5, rtol=1e-5)


@CASES
def test_mean_is_the_gradient_of_the_log_partition(unit, eta):
    eta = tuple(e.double().requires_grad_() for e in eta)
    for mean, gradient in zip(unit.mean(*eta), torch.autograd.grad(unit.A(*eta).sum(), eta), strict=True):
        torch.testing.assert_close(mean, gradient)


@CASES
def test_samples_have_the_mean_statistics(unit, eta):
    n = 100_000
    draws = unit.sample(*(e.expand(n, *e.shape) for e in eta))
    assert unit.support.check(draws).all()
    for statistic, mean in zip(unit.T(draws), unit.mean(*eta), strict=True):
        error = statistic.double().std(0) / math.sqrt(n)  # six of them, as for the other units
        assert ((statistic.double().mean(0) - mean).abs() < 6 * error + 1e-6).all()


@CASES
def test_natural_from_mean_inverts_the_mean(unit, eta):
    for found, expected in zip(unit.natural_from_mean(*unit.mean(*eta)), eta, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("known", [(), (1.2,), (1.2, -0.4)], ids=["spike", "one slab", "both slabs"])
def test_clamping_inside_an_atom_conditions(known):
    """Clamped slabs move the spike, a clamped spike the slabs; overwriting after the draw gives neither."""
    n, unit = 100_000, dgm.SpikeSlab(1, 3)
    mask, value = torch.zeros(n, 1, 3, dtype=torch.bool), torch.zeros(n, 1, 3)
    for k, s in enumerate(known):
        mask[..., 1 + k], value[..., 1 + k] = True, s
    if not known:
        mask[..., 0], value[..., 0] = True, 1.0
    odds = [integral(h, POOLED, 0, known) for h in (0, 1)]
    p = odds[1] / sum(odds) if known else 1.0
    # The last slab is free unless both are known; given h it is normal.
    c, alpha = float(POOLED[0][0, 2]), -2 * float(POOLED[1][0, 2])
    overwritten = torch.where(mask, value, unit.sample(*(e.expand(n, 1, 3) for e in POOLED)))
    conditioned = unit.sample_clamped(tuple(e.expand(n, 1, 3) for e in POOLED), mask, value)
    for draws, right in ((conditioned, True), (overwritten, False)):
        assert torch.equal(draws[mask], value[mask])
        h, s = draws[:, 0, 0].double(), draws[:, 0, 2].double()
        close = abs(float(h.mean()) - p) <= 6 * math.sqrt(p * (1 - p) / n)
        if len(known) < 2:
            close &= abs(float(s.mean()) - p * c / alpha) < 6 * float(s.std()) / math.sqrt(n)
        assert close == right


def test_what_is_refused():
    unit = dgm.SpikeSlab(1, 2)
    with pytest.raises(ValueError, match="1 \\+ slabs"):
        dgm.SpikeSlab(3, 1)
    with pytest.raises(ValueError, match="positive integers"):
        dgm.SpikeSlab(3)
    assert "neither 0 nor 1" in unit.check_clamp(torch.ones(1, 2) > 0, torch.full((1, 2), 0.5))
    assert unit.check_clamp(torch.tensor([[False, True]]), torch.full((1, 2), 0.5)) is None
    assert "precision" in unit.check(torch.zeros(1, 2), torch.zeros(1, 2))
    assert not unit.support.check(torch.tensor([[0.5, 1.0], [1.0, math.nan]])).any()


def smallest_eigenvalue(precision, square, slabs, alpha):
    """The least one of the precision over all spikes, in NumPy from the definition."""
    lowest = math.inf
    for h in itertools.product((0, 1), repeat=square.shape[1]):
        form = np.diag(precision) if precision.ndim == 1 else precision.copy()
        for i, on in enumerate(h):
            if on:
                form = form + np.diag(square[:, i])
                for k in range(slabs.shape[2]):
                    form = form - np.outer(slabs[:, i, k], slabs[:, i, k]) / alpha[i, k]
        lowest = min(lowest, np.linalg.eigvalsh(form)[0])
    return lowest


@pytest.mark.parametrize("slabs", [1, 2])
@pytest.mark.parametrize("full", [False, True], ids=["diagonal", "full"])
def test_validity_by_eigenvalues(slabs, full):
    rng = np.random.default_rng(0)
    counts, misled = {True: 0, False: 0}, 0
    for _ in range(150):
        size, spikes = 4, 4
        precision = rng.uniform(0.5, 1.5, size)
        if full:
            root = rng.normal(size=(size, size)) * 0.3
            precision = np.diag(precision) + root @ root.T
        square = rng.exponential(rng.choice([0.1, 1.0, 3.0]), (size, spikes))
        weight = rng.normal(size=(size, spikes, slabs)) * rng.choice([0.3, 0.6, 0.9])
        alpha = rng.uniform(0.5, 2, (spikes, slabs))
        arguments = [torch.as_tensor(a) for a in (precision, square, weight, alpha)]
        found = dgm.spike_slab_validity(*arguments)
        expected = smallest_eigenvalue(precision, square, weight, alpha) > 0
        assert (found.valid, found.exact) == (expected, True), found.reason
        counts[expected] += 1
        every = (np.diag(precision) if precision.ndim == 1 else precision) + np.diag(square.sum(1))
        every = every - np.einsum("iak,jak,ak->ij", weight, weight, 1 / alpha)
        misled += not expected and np.linalg.eigvalsh(every)[0] > 0
    assert min(counts.values()) > 20  # both answers occur
    assert misled > 5  # and trying all spikes on alone would accept invalid forms


def test_validity_of_many_spikes():
    ones, spikes = torch.ones(3), 40
    far = torch.zeros(3, spikes)
    far[0] = 0.3
    # Without squares all spikes on is the worst case, whatever their number: 40 · 0.3² · 0.25 = 0.9.
    found = dgm.spike_slab_validity(ones, torch.zeros(3, spikes), far, torch.full((spikes,), 4.0))
    assert (found.valid, found.exact) == (True, True)
    found = dgm.spike_slab_validity(ones, torch.zeros(3, spikes), far, torch.full((spikes,), 3.5))
    assert (found.valid, found.exact) == (False, True)
    assert "all spikes" in found.reason
    # One spike alone breaks it and the others' squares hide that: too many states to try, so it cannot be shown.
    square = torch.full((3, spikes), 0.1)
    square[:, 0] = 0
    weight = torch.zeros(3, spikes)
    weight[0, 0] = 2.0
    found = dgm.spike_slab_validity(ones, square, weight, torch.ones(spikes))
    assert (found.valid, found.exact) == (False, False)
    assert "too many states" in found.reason
    assert not dgm.spike_slab_validity(ones, square[:, :5], weight[:, :5], torch.ones(5)).valid
    with pytest.raises(ValueError, match="expected visible"):
        dgm.spike_slab_validity(ones, square, weight[:2], torch.ones(spikes))


def gaussian(layer_bias=-0.5, size=3):
    return torch.zeros(size), torch.full((size,), layer_bias)


def by_hessian(dist):
    """Whether the energy's second derivative by all real-valued entries is positive definite for every finite state."""
    graph = dist.machine.graph
    switches, real = {}, {}
    for name, unit in graph.layers.items():
        if isinstance(unit, dgm.SpikeSlab):
            switches[name] = [torch.tensor(h) for h in itertools.product((0.0, 1.0), repeat=unit.atoms)]
            real[name] = unit.shape[0] * (unit.shape[1] - 1)
        elif unit.states_per_atom is None:
            real[name] = unit.shape.numel()
        else:
            states = unit.atom_states(torch.zeros(())).view(unit.states_per_atom, -1)
            listed = itertools.product(states, repeat=unit.atoms)
            switches[name] = [torch.stack(s).view(unit.shape) for s in listed]
    worst = math.inf
    for chosen in itertools.product(*switches.values()):
        on = dict(zip(switches, chosen, strict=True))

        def energy(z, on=on):
            parts = dict(zip(real, z.split(list(real.values())), strict=True))
            state = {}
            for name, unit in graph.layers.items():
                if isinstance(unit, dgm.SpikeSlab):
                    state[name] = torch.cat([on[name].unsqueeze(-1), parts[name].view(unit.atoms, -1)], -1)
                else:
                    state[name] = parts.get(name, on.get(name))
            return dist.energy(state)

        form = torch.autograd.functional.hessian(energy, torch.zeros(sum(real.values())))
        worst = min(worst, float(torch.linalg.eigvalsh(form)[0]))
    return worst > 0


def machines(scale, g):
    """Graphs with couplings between real-valued layers, at a scale where some have a normaliser and some have none."""
    w = scale * torch.randn(3, 2, generator=g)
    lateral = torch.zeros(3, 3)
    lateral[0, 1] = lateral[1, 0] = w[0, 0]
    lateral[1, 2] = lateral[2, 1] = w[1, 0]
    edges = torch.tensor([[0, 1], [1, 2]])
    v, h = {"visible": dgm.Gaussian(3)}, {"hidden": dgm.Gaussian(2)}
    normal = {"visible": gaussian(), "hidden": gaussian(-0.4, 2)}
    yield dgm.Graph(v | h, [dgm.Dense("hidden", "visible")]), normal, (w.mT,)
    yield dgm.Graph(v, [Lateral("visible")]), normal, (lateral,)
    yield dgm.Graph(v, [dgm.Sparse("visible", "visible", edges)]), normal, (w[:2, 0],)
    yield dgm.Graph(v | h, [dgm.Sparse("visible", "hidden", edges[:, [1, 0]])]), normal, (w[:2, 0],)
    for unit, bias in ((dgm.Binary(2), torch.zeros(2)), (dgm.Spin(2), torch.zeros(2))):
        graph = dgm.Graph(v | {"hidden": unit}, [dgm.Dense(("visible", 1), "hidden"), dgm.Dense("visible", "hidden")])
        yield graph, {"visible": gaussian(), "hidden": (bias,)}, (0.5 * w, 9 * w)
    spikes = dgm.Graph(
        v | h | {"s": dgm.SpikeSlab(2, 2), "b": dgm.Binary(1)},
        [
            dgm.Dense("s", "visible"),
            dgm.Dense("visible", "hidden"),
            dgm.Dense(("visible", 1), "s"),
            dgm.Dense("b", "s"),
        ],
    )
    square = torch.zeros(3, 4)
    square[:, 0::2] = -0.5 * w.abs()
    biases = normal | {"s": (torch.zeros(2, 2), torch.tensor([[0.0, -0.6], [0.0, -0.5]])), "b": (torch.zeros(1),)}
    yield spikes, biases, (0.7 * torch.cat([w, w.flip(0)], 1).mT, 0.4 * w, square, torch.ones(1, 4))


def test_couplings_without_a_normaliser_are_refused():
    g = torch.Generator().manual_seed(0)
    answers = {}
    for scale in (0.2, 0.4, 0.5, 0.6, 0.8, 1.2) * 4:
        for kind, (graph, biases, weights) in enumerate(machines(scale, g)):
            biases = {name: biases[name] for name in graph.layers}
            expected = by_hessian(dgm.BoltzmannDistribution(graph, biases, weights, validate_args=False))
            refused = pytest.raises(
                ValueError, match=r"biases and weights have no normaliser: .* make the couplings smaller"
            )
            with contextlib.nullcontext() if expected else refused:
                dgm.BoltzmannDistribution(graph, biases, weights, validate_args=True)
            answers.setdefault(kind, set()).add(expected)
    assert all(seen == {True, False} for seen in answers.values()), answers


def test_one_bad_row_of_a_batch_is_refused():
    graph = dgm.Graph({"visible": dgm.Gaussian(2), "hidden": dgm.Gaussian(2)}, [dgm.Dense("visible", "hidden")])
    biases = {"visible": gaussian(size=2), "hidden": gaussian(size=2)}
    weights = torch.stack([0.5 * torch.eye(2), 0.9 * torch.eye(2), 1.1 * torch.eye(2)])
    assert dgm.BoltzmannDistribution(graph, biases, (weights[:2],), validate_args=True).batch_shape == (2,)
    with pytest.raises(ValueError, match="'visible' and 'hidden'"):
        dgm.BoltzmannDistribution(graph, biases, (weights,), validate_args=True)


@pytest.mark.parametrize(
    ("ends", "other", "message"),
    [
        ((("visible", 1), ("hidden", 0)), dgm.Gaussian(2), "square of 'visible'"),
        ((("visible", 1), ("hidden", 1)), dgm.Gaussian(2), "square of 'visible'"),
        ((("visible", 0), ("hidden", 1)), dgm.SpikeSlab(2, 2), "square of 'hidden'"),
        ((("visible", 1), ("hidden", 0)), dgm.SpikeSlab(2, 2), "slabs of 'hidden'"),
    ],
)
def test_energies_that_are_not_quadratic(ends, other, message):
    graph = dgm.Graph({"visible": dgm.Gaussian(2), "hidden": other}, [dgm.Dense(*ends)])
    biases = {name: unit.neutral(torch.zeros(())) for name, unit in graph.layers.items()}
    shape = graph.weight_shapes[0]
    dgm.BoltzmannDistribution(graph, biases, (torch.zeros(shape),), validate_args=True)
    with pytest.raises(ValueError, match=message):
        dgm.BoltzmannDistribution(graph, biases, (torch.full(shape, -0.1),), validate_args=True)


@pytest.mark.parametrize(
    ("ends", "units", "some"),
    [
        ((("a", 1), ("b", 0)), (dgm.Gaussian(2), dgm.SpikeSlab(2, 3)), True),
        ((("b", 0), ("a", 1)), (dgm.Gaussian(2), dgm.SpikeSlab(2, 3)), True),
        ((("a", 0), ("b", 1)), (dgm.Gaussian(2), dgm.SpikeSlab(1, 2)), True),
        ((("a", 1), ("b", 0)), (dgm.SpikeSlab(2, 2), dgm.Binary(2)), True),
        ((("a", 0), ("b", 1)), (dgm.Gaussian(2), dgm.Gaussian(3)), True),
        ((("a", 0), ("b", 0)), (dgm.Gaussian(2), dgm.Gaussian(3)), False),
        ((("a", 1), ("b", 0)), (dgm.Gaussian(2), dgm.Binary(3)), False),
        ((("a", 0), ("b", 0)), (dgm.Gaussian(2), dgm.SpikeSlab(2, 2)), False),
        ((("a", 0), ("b", 0)), (dgm.SpikeSlab(2, 2), dgm.SpikeSlab(1, 2)), False),
        ((("a", 0), ("b", 0)), (dgm.Binary(2), dgm.Binary(3)), False),
    ],
)
def test_barred_entries_are_those_that_are_refused_as_not_quadratic(ends, units, some):
    """One small entry at a time."""
    graph = dgm.Graph(dict(zip("ab", units, strict=True)), [dgm.Dense(*ends)])
    biases = {name: unit.neutral(torch.zeros(())) for name, unit in graph.layers.items()}
    shape = graph.weight_shapes[0]
    single = torch.eye(shape.numel()).view(-1, *shape) * -1e-3
    reasons = [improper(graph, biases, [weight]) for weight in single]
    refused = torch.tensor([reason is not None and "would not be quadratic" in reason for reason in reasons]).view(
        shape
    )
    found = barred(graph, graph.interactions[0], torch.zeros(shape))
    assert bool(refused.any()) == some
    assert torch.equal(refused, torch.zeros(shape, dtype=torch.bool) if found is None else found)
    batch = barred(graph, graph.interactions[0], torch.zeros(3, *shape))
    assert (found is None and batch is None) or torch.equal(batch, found.expand(3, *shape))


@pytest.mark.parametrize("strength", [0.2, 0.45, 0.6, 2.0])
def test_slabs_coupled_to_slabs(strength):
    """What is accepted has a positive definite form for every set of spikes; what is far from it is refused."""
    graph = dgm.Graph({"visible": dgm.SpikeSlab(2, 2), "hidden": dgm.SpikeSlab(2, 2)}, [dgm.Dense("visible", "hidden")])
    biases = {name: unit.neutral(torch.zeros(())) for name, unit in graph.layers.items()}
    J = strength * torch.tensor([[1.0, -0.5], [0.3, 1.0]])
    weight = torch.zeros(4, 4)
    weight[1::2, 1::2] = J
    alpha = -2 * torch.cat([biases[name][1][..., 1].flatten() for name in ("visible", "hidden")])
    form = torch.diag(alpha)
    form[:2, 2:], form[2:, :2] = -J, -J.T
    least = min(
        float(torch.linalg.eigvalsh(form[torch.tensor(on)][:, torch.tensor(on)]).min())
        for size in range(1, 5)
        for on in itertools.combinations(range(4), size)
    )
    rows = max(float(J.abs().sum(1).max()), float(J.abs().sum(0).max()))
    if rows < float(alpha.min()):
        assert least > 0
        dgm.BoltzmannDistribution(graph, biases, (weight,), validate_args=True)
    else:
        with pytest.raises(ValueError, match="act on others"):
            dgm.BoltzmannDistribution(graph, biases, (weight,), validate_args=True)


def test_spikes_at_slabs_are_no_quadratic_term():
    graph = dgm.Graph({"visible": dgm.SpikeSlab(2, 2), "hidden": dgm.SpikeSlab(2, 2)}, [dgm.Dense("visible", "hidden")])
    biases = {name: unit.neutral(torch.zeros(())) for name, unit in graph.layers.items()}
    weight = torch.full((4, 4), 5.0)
    weight[1::2, 1::2] = 0.0
    dgm.BoltzmannDistribution(graph, biases, (weight,), validate_args=True)


def test_finite_graphs_are_not_looked_at():
    """Without real-valued couplings nothing is computed: the check does not even open the weights."""
    rbm = dgm.RBM.example()[0]()
    assert improper(rbm.machine.graph, rbm.machine.biases, (None,)) is None
    grbm = dgm.GaussianRBM.example()[0]()
    assert improper(grbm.machine.graph, grbm.machine.biases, (None,)) is None
