"""Pooling regions: of which at most one detector is on, or of free detectors with their maximum."""

import itertools
import math

import pytest
import torch
from oracles.convolutions import unrolled
from oracles.waves import bits, wave

import pyro_dgm as dgm
from pyro_dgm.energy import BoltzmannDistribution, Machine, log_sum
from pyro_dgm.energy.mean_field import mean_field

REGIONS = {
    "four": (torch.tensor([0.5, -0.3, 1.2, 0.1], dtype=torch.float64), 0.7, (2.6894365021, 4.4240339609),
             (0.9320807991, 0.9880142156), (0.4541006079, 0.7778628372)),
    "nine": (wave(1, 0.5, 9), -0.4, (2.3232054402, 7.4080720356), (0.9020409202, 0.9993936614), (0.1194648257, 0.6451776838)),
}  # fmt: skip


@pytest.mark.parametrize(("z", "t", "log_sum", "pool", "third"), REGIONS.values(), ids=REGIONS)
def test_one_region(z, t, log_sum, pool, third):
    """Values that another program computed by listing; the two kinds of pooling differ a lot."""
    one, free = dgm.AtMostOne(1, len(z)), dgm.MaxPooled(1, len(z))
    top = torch.zeros_like(z)
    top[0] = t
    eta = ((z + t)[None],), (z[None], top[None])
    for unit, natural, a, p, d in zip((one, free), eta, log_sum, pool, third, strict=True):
        means = unit.mean(*natural)
        assert float(unit.A(*natural)) == pytest.approx(a, abs=1e-9)
        assert float(means[-1].sum()) == pytest.approx(p, abs=1e-9)
        assert float(means[0][0, 2]) == pytest.approx(d, abs=1e-9)


def test_one_detector_is_a_binary_unit():
    eta = torch.tensor([[-1.5], [0.2], [30.0], [-200.0]])
    for unit, natural in ((dgm.AtMostOne(4, 1), (eta,)), (dgm.MaxPooled(4, 1), (eta, torch.zeros_like(eta)))):
        torch.testing.assert_close(unit.A(*natural), dgm.Binary(4).A(eta[:, 0]))
        torch.testing.assert_close(unit.mean(*natural)[0][:, 0], torch.sigmoid(eta[:, 0]))


def test_at_most_one_is_a_categorical_unit_whose_first_category_is_off():
    eta = wave(2, 1, 3, 5)
    other = (torch.cat([torch.zeros(3, 1).double(), eta], -1),)
    torch.testing.assert_close(dgm.AtMostOne(3, 5).A(eta), dgm.Categorical(3, 6).A(*other))
    torch.testing.assert_close(dgm.AtMostOne(3, 5).mean(eta)[0], dgm.Categorical(3, 6).mean(*other)[0][:, 1:])


@pytest.mark.parametrize("kind", [dgm.AtMostOne, dgm.MaxPooled])
def test_clamped_draws_have_the_conditional_law(kind):
    """The law of a region given some detectors, from a listing; 200,000 draws, six standard errors of each state."""
    unit = kind(1, 3)
    z, t = torch.tensor([0.4, -0.6, 1.1]), 0.5
    eta = ((z + t)[None],) if kind is dgm.AtMostOne else (z[None], torch.tensor([[t, 0.0, 0.0]]))
    states = [s for s in itertools.product((0.0, 1.0), repeat=3) if kind is dgm.MaxPooled or sum(s) <= 1]
    weight = {s: math.exp(sum(a * float(b) for a, b in zip(s, z, strict=True)) + t * max(s)) for s in states}
    for known in ({}, {0: 0.0}, {1: 1.0}, {0: 0.0, 2: 0.0}, {0: 1.0, 2: 0.0}):
        mask, value = torch.zeros(1, 3, dtype=torch.bool), torch.zeros(1, 3)
        for place, number in known.items():
            mask[0, place], value[0, place] = True, number
        count = 200_000
        wide = tuple(e.expand(count, 1, 3) for e in eta)
        draws = unit.sample_clamped(wide, mask.expand(count, 1, 3), value.expand(count, 1, 3))[:, 0]
        assert unit.support.check(draws).all()
        allowed = {s: w for s, w in weight.items() if all(s[i] == v for i, v in known.items())}
        for state in states:
            p = allowed.get(state, 0.0) / sum(allowed.values())
            share = float((draws == torch.tensor(state)).all(-1).double().mean())
            assert abs(share - p) <= 6 * math.sqrt(p * (1 - p) / count), (known, state)


def test_known_detectors_that_do_not_fit():
    on = torch.tensor([[1.0, 1.0, 0.0]])
    assert "several detectors" in dgm.AtMostOne(1, 3).check_clamp(on == 1, on)
    assert dgm.MaxPooled(1, 3).check_clamp(on == 1, on) is None


def test_a_wide_region_is_not_listed():
    with pytest.raises(ValueError, match="2\\^20 states"):
        dgm.MaxPooled(1, 20).atom_states(torch.zeros(1))


WEIGHT, FILTER_BIAS, SHARED = wave(0.6, 1, 2, 1, 2, 2), wave(0.5, 2, 2), wave(0.4, 3, 1)
UPPER, UPPER_BIAS = wave(0.7, 4, 2, 2, 1, 2), wave(0.3, 5, 2)
FIRST, SECOND = bits(1, 1, 3, 5), bits(2, 1, 3, 5)


def by_region(matrix, filters=2, rows=2, columns=4, pool=(2, 2)):
    """The columns of an unrolled convolution in the order of regions, by loops."""
    order = [
        f * rows * columns + (p + u) * columns + q + v
        for f in range(filters)
        for p in range(0, rows, pool[0])
        for q in range(0, columns, pool[1])
        for u in range(pool[0])
        for v in range(pool[1])
    ]
    return matrix[:, order]


def pooled_machine(kind=dgm.AtMostOne, stacked=False):
    """Pixels 1 x 3 x 5, two filters 2 x 2, regions 2 x 2; with two filters 1 x 2 of pooling units above."""
    lower = dgm.Convolution("visible", "detectors", (3, 5), 2, pool=2)
    layers = {"visible": dgm.Binary(15), "detectors": kind(2, 1, 2, 4)}
    biases = {"visible": (SHARED.expand(15),), "detectors": (FILTER_BIAS.repeat_interleave(8).view(2, 1, 2, 4),)}
    if kind is dgm.MaxPooled:
        biases["detectors"] += (torch.zeros(2, 1, 2, 4).double(),)
    if not stacked:
        return dgm.Graph(layers, [lower]), biases, (WEIGHT,)
    end = ("detectors", 1) if kind is dgm.MaxPooled else "detectors"
    upper = dgm.Convolution(end, "top", (2, 1, 2), (1, 2))
    graph = dgm.Graph({**layers, "top": dgm.Binary(2, 1, 1)}, [lower, upper])
    return graph, {**biases, "top": (UPPER_BIAS.view(2, 1, 1),)}, (WEIGHT, UPPER)


@pytest.mark.parametrize("kind", [dgm.AtMostOne, dgm.MaxPooled])
def test_fields_are_those_of_the_matrices(kind):
    graph, biases, weights = pooled_machine(kind, stacked=True)
    machine = Machine(graph, biases, weights)
    matrix = by_region(torch.as_tensor(unrolled(WEIGHT[:, None].numpy(), (1, 3, 5), "valid")))
    upper = UPPER.view(2, 4).T  # pooling units (filter, column) x top units
    pool = torch.kron(torch.eye(4), torch.ones(4, 1)).double()  # detectors x pooling units
    statistics = {
        n: tuple(torch.rand(3, u.shape.numel()).double() for _ in u.statistics) for n, u in graph.layers.items()
    }
    bottom, over = graph.interactions
    torch.testing.assert_close(bottom.field(1, statistics, WEIGHT), statistics["visible"][0] @ matrix)
    torch.testing.assert_close(bottom.field(0, statistics, WEIGHT), statistics["detectors"][0] @ matrix.T)
    pooled = statistics["detectors"][-1] @ pool
    torch.testing.assert_close(over.field(1, statistics, UPPER), pooled @ upper)
    torch.testing.assert_close(over.field(0, statistics, UPPER), statistics["top"][0] @ (pool @ upper).T)
    expected = ((pooled @ upper) * statistics["top"][0]).sum(-1)
    torch.testing.assert_close(over.value(statistics, UPPER), expected)
    assert machine.energy({n: torch.zeros(5, *u.shape).double() for n, u in graph.layers.items()}).shape == (5,)


def test_a_pooled_machine():
    graph, biases, weights = pooled_machine()
    weights[0].requires_grad_()
    machine = Machine(graph, biases, weights)
    x1, x2 = FIRST.view(1, 15), SECOND.view(1, 15)
    log_z = log_sum(machine, {})
    assert float(log_z.detach()) == pytest.approx(18.6364675098, abs=1e-9)
    log_p = log_sum(machine, {"visible": x1}) - log_z
    assert float(log_p.detach()) == pytest.approx(-10.0597081712, abs=1e-9)
    assert float((log_sum(machine, {"visible": x2}) - log_z).detach()) == pytest.approx(-10.1161561745, abs=1e-9)
    assert float(torch.autograd.grad(log_p, WEIGHT)[0][1, 0, 1, 0]) == pytest.approx(-0.1040840301, abs=1e-9)
    weights[0].requires_grad_(False)
    (means,) = graph.layers["detectors"].mean(
        *machine.colour_fields((dgm.energy.Block("detectors"),), {"visible": x1})[0]
    )
    assert float(means[0, 1, 0, 0, 1]) == pytest.approx(0.1909574383, abs=1e-9)  # filter 1, position (0, 1)
    assert float(means[0, 1, 0, 0].sum()) == pytest.approx(0.8356712868, abs=1e-9)
    assert float(means[0, 1].mean()) == pytest.approx(0.2089178217, abs=1e-9)
    free = Machine(
        dgm.Graph({"visible": dgm.Binary(15), "h": dgm.Binary(2, 2, 4)}, [dgm.Convolution("visible", "h", (3, 5), 2)]),
        {"visible": biases["visible"], "h": (FILTER_BIAS.repeat_interleave(8).view(2, 2, 4),)},
        weights,
    )
    assert float(log_sum(free, {})) == pytest.approx(25.1221827314, abs=1e-9)


def test_pooled_machine_of_real_pixels():
    beta, x = 1.5, wave(1, 0.3, 1, 3, 5).view(1, 15)
    graph = dgm.Graph(
        {"visible": dgm.Gaussian(15), "detectors": dgm.AtMostOne(2, 1, 2, 4)},
        [dgm.Convolution("visible", "detectors", (3, 5), 2, pool=2)],
    )
    biases = {
        "visible": (beta * SHARED.expand(15), torch.full((15,), -beta / 2).double()),
        "detectors": (FILTER_BIAS.repeat_interleave(8).view(2, 1, 2, 4),),
    }
    machine = Machine(graph, biases, (beta * WEIGHT,))
    log_z = log_sum(machine, {})
    assert float(log_z) == pytest.approx(21.2306727045, abs=1e-9)
    assert float(log_sum(machine, {"visible": x}) - log_z) == pytest.approx(-14.5992768270, abs=1e-9)
    (eta,) = machine.colour_fields((dgm.energy.Block("detectors"),), {"visible": x})
    assert float(graph.layers["detectors"].mean(*eta)[0][0, 1, 0, 0].sum()) == pytest.approx(0.9149501763, abs=1e-9)


def test_a_stacked_pooled_machine():
    machine = Machine(*pooled_machine(stacked=True))
    x = FIRST.view(1, 15)
    log_z = log_sum(machine, {})
    assert float(log_z) == pytest.approx(19.5611597506, abs=1e-9)
    assert float(log_sum(machine, {"visible": x}) - log_z) == pytest.approx(-10.0672917661, abs=1e-9)
    top = torch.tensor([1.0, 0.0]).double().view(1, 2, 1, 1)
    (eta,) = machine.colour_fields((dgm.energy.Block("detectors"),), {"visible": x, "top": top})
    (means,) = machine.graph.layers["detectors"].mean(*eta)
    assert float(means[0, 1, 0, 0, 1]) == pytest.approx(0.1844108867, abs=1e-9)
    assert float(means[0, 1, 0, 0].sum()) == pytest.approx(0.8070221529, abs=1e-9)
    detectors = torch.zeros(1, 2, 1, 2, 4).double()
    detectors[0, 0, 0, 0, 0] = detectors[0, 1, 0, 0, 3] = 1  # positions (0, 0) of filter 0 and (1, 1) of filter 1
    (eta,) = machine.colour_fields((dgm.energy.Block("top"),), {"visible": x, "detectors": detectors})
    assert float(torch.sigmoid(eta[0][0, 1, 0, 0])) == pytest.approx(0.4267359427, abs=1e-9)
    found = mean_field(machine, {"visible": x}, rounds=200)
    mu = found.statistics["detectors"][0].view(2, 1, 2, 4)
    assert float(mu[1, 0, 0, 1]) == pytest.approx(0.1939453058, abs=1e-9)
    assert float(found.statistics["top"][0].view(2)[1]) == pytest.approx(0.3690235718, abs=1e-9)
    statistics = {**machine.statistics({"visible": x}), **found.statistics}
    assert float(machine.value(statistics) + found.entropy - log_z) == pytest.approx(-10.1005668895, abs=1e-9)


def test_plain_max_pooling_is_the_sum_over_all_states():
    """The same stack with free detectors: log Z by listing all 2^16 detectors in NumPy, from the energy alone."""
    graph, biases, weights = pooled_machine(dgm.MaxPooled, stacked=True)
    matrix = by_region(torch.as_tensor(unrolled(WEIGHT[:, None].numpy(), (1, 3, 5), "valid")))
    states = torch.tensor(list(itertools.product((0.0, 1.0), repeat=16))).double()
    pool = states.view(-1, 4, 4).amax(-1)
    total = states @ FILTER_BIAS.repeat_interleave(8)
    total += torch.nn.functional.softplus(SHARED + states @ matrix.T).sum(-1)
    total += torch.nn.functional.softplus(UPPER_BIAS + pool @ UPPER.view(2, 4).T).sum(-1)
    dist = BoltzmannDistribution(graph, biases, weights)
    torch.testing.assert_close(dist.exact_log_partition(), total.logsumexp(0))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: dgm.Convolution("v", "h", (3, 5), 2, pool=3), "pool got 3; expected height and width of a region that divide"),
        (lambda: dgm.Convolution("v", "h", (3, 5), 2, pool=(2, 0)), "pool got"),
        (lambda: graph_of(dgm.AtMostOne(2, 1, 2, 4), None), "pool None; .* with the height and width of its regions"),
        (lambda: graph_of(dgm.Binary(2, 2, 4), 2), r"expected AtMostOne\(filters, 1, 2, 4\)"),
        (lambda: graph_of(dgm.AtMostOne(2, 2, 1, 4), 2), r"expected AtMostOne\(filters, 1, 2, 4\)"),
    ],
)  # fmt: skip
def test_regions_that_do_not_fit(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def graph_of(maps, pool):
    return dgm.Graph({"v": dgm.Binary(15), "h": maps}, [dgm.Convolution("v", "h", (3, 5), 2, pool=pool)])
