"""Couplings of three layers, and machines of some layers where the others are given, against plain sums over all states."""

import itertools

import pytest
import torch
from oracles.waves import bits, wave

import pyro_dgm as dgm
from pyro_dgm.energy import BoltzmannDistribution, Machine, log_sum
from pyro_dgm.energy.conditional import conditional


def expanded(interaction, weight, layers):
    """The tensor of a coupling over the flat entries of its ends, from its value at every choice of one entry each."""
    sizes = [layers[end.layer].shape.numel() for end in interaction.ends]
    tensor = torch.zeros(*sizes).double()
    for place in itertools.product(*map(range, sizes)):
        statistics = {
            end.layer: tuple(
                torch.eye(size)[i].double() if k == end.statistic else torch.zeros(size).double()
                for k, _ in enumerate(layers[end.layer].statistics)
            )
            for end, size, i in zip(interaction.ends, sizes, place, strict=True)
        }
        tensor[place] = interaction.value(statistics, weight)
    return tensor


def by_hand(kind, weight, sizes):
    """The same tensor from the coupling's definition."""
    if kind == "three-way":
        return weight
    if kind == "factored":
        parts = weight.split(list(sizes))
        return torch.einsum("if,jf,kf->ijk", *parts)
    if kind == "factored pair":
        return torch.einsum("if,jf->ij", *weight.split(list(sizes)))
    tensor = torch.zeros(*sizes).double()
    rows = sizes[0]
    for i in range(rows):
        if kind == "masked":
            tensor[i, i] = weight[i]
        elif kind == "second group":
            tensor[i, 2 * i + 1] = weight[i]
        elif kind == "elementwise":
            tensor[i, i] = weight[i]
        else:  # every inner entry beside its own unit
            tensor[i, 2 * i : 2 * i + 2] = weight[2 * i : 2 * i + 2]
    return tensor


V, H, K = dgm.Binary(4), dgm.Binary(3), dgm.Categorical(1, 3)
CASES = {
    "three-way": ({"v": V, "h": H, "k": K}, dgm.ThreeWay("v", "h", "k")),
    "factored": ({"v": V, "h": H, "k": dgm.Spin(2)}, dgm.Factored(["v", "h", "k"], factors=5)),
    "factored pair": ({"v": V, "h": H}, dgm.Factored(["v", "h"], factors=2)),
    "masked": ({"v": V, "m": dgm.Binary(4), "h": H}, dgm.Masked("v", "m", "h")),
    "second group": ({"v": V, "m": dgm.Categorical(4, 2), "h": H}, dgm.Masked("v", "m", "h", inner=1)),
    "elementwise": ({"v": V, "m": dgm.Spin(4)}, dgm.Elementwise("v", "m")),
    "elementwise, inner": ({"v": V, "m": dgm.Categorical(4, 2)}, dgm.Elementwise("v", "m")),
}
EVERY = pytest.mark.parametrize("kind", CASES)


def machine(kind):
    layers, interaction = CASES[kind]
    graph = dgm.Graph(layers, [interaction])
    biases = {name: (wave(0.5, place, *unit.shape),) for place, (name, unit) in enumerate(layers.items())}
    return Machine(graph, biases, (wave(0.8, 1, *graph.weight_shapes[0]),))


@EVERY
def test_the_value_is_the_definition(kind):
    m = machine(kind)
    (interaction,), (weight,) = m.graph.interactions, m.weights
    sizes = [m.graph.layers[end.layer].shape.numel() for end in interaction.ends]
    torch.testing.assert_close(expanded(interaction, weight, m.graph.layers), by_hand(kind, weight, sizes))


@EVERY
@pytest.mark.parametrize("batched", [False, True])
def test_fields_are_derivatives_of_the_value(kind, batched):
    m = machine(kind)
    (interaction,), (weight,) = m.graph.interactions, m.weights
    if batched:
        weight = weight * torch.tensor([1.0, -0.5, 2.0]).double().view(3, *(1 for _ in weight.shape))
    statistics = {
        end.layer: (wave(1, place, 2, 3, m.graph.layers[end.layer].shape.numel()).requires_grad_(),)
        for place, end in enumerate(interaction.ends)
    }
    value = interaction.value(statistics, weight)
    assert value.shape == (2, 3)
    if batched:  # one row after another, each with its own weight
        rows = [interaction.value({n: (s[:, i],) for n, (s,) in statistics.items()}, weight[i]) for i in range(3)]
        torch.testing.assert_close(value, torch.stack(rows, 1))
    for place, end in enumerate(interaction.ends):
        (gradient,) = torch.autograd.grad(value.sum(), statistics[end.layer][0], retain_graph=True)
        torch.testing.assert_close(interaction.field(place, statistics, weight), gradient)
        some = torch.tensor([2, 0]) if gradient.shape[-1] > 2 else torch.tensor([0])
        plus = wave(1, 5, len(some))
        torch.testing.assert_close(
            interaction.field(place, statistics, weight, some, plus), gradient.index_select(-1, some) + plus
        )


@EVERY
def test_a_machine_with_layers_given(kind):
    """Every choice of layers: energies agree up to the constant, and log Z is the sum over the other layers' states."""
    m = machine(kind)
    torch.manual_seed(0)
    state = {name: unit.sample(torch.zeros(6, *unit.shape).double()) for name, unit in m.graph.layers.items()}
    names = list(m.graph.layers)
    for count in range(1, len(names)):
        for given in itertools.combinations(names, count):
            fixed = {name: state[name] for name in given}
            left, constant = conditional(m, fixed)
            free = {name: state[name] for name in names if name not in given}
            torch.testing.assert_close(left.energy(free) - constant, m.energy(state))
            torch.testing.assert_close(log_sum(left, {}) + constant, log_sum(m, fixed))
            for name in free:
                (mine,), (whole,) = (
                    machine_.colour_fields((dgm.energy.Block(name),), states)
                    for machine_, states in ((left, free), (m, state))
                )
                torch.testing.assert_close(mine[0].expand_as(whole[0]), whole[0])


def test_a_conditional_distribution_is_normalised_over_what_is_left():
    """A gated machine given its input: p(y | x) sums to one for every x, and draws have its law."""
    graph = dgm.Graph(
        {"visible": dgm.Binary(3), "hidden": dgm.Binary(2), "input": dgm.Binary(3)},
        [dgm.Factored(["input", "visible", "hidden"], factors=2)],
    )
    weight = torch.cat([wave(0.9, 1, 3, 2), wave(0.8, 2, 3, 2), wave(0.7, 3, 2, 2)])
    biases = {"visible": (wave(0.5, 4, 3),), "hidden": (wave(0.4, 5, 2),), "input": (wave(0.3, 6, 3),)}
    joint = BoltzmannDistribution(graph, biases, (weight,))
    x, y = bits(6, 3), bits(2, 3)
    dist = joint.conditional({"input": x[None]})
    weight.requires_grad_()
    assert dist.batch_shape == (1,)
    assert float(dist.exact_log_partition()) == pytest.approx(2.5338957266, abs=1e-9)
    log_p = joint.conditional({"input": x[None]}).log_prob(y)
    assert float(log_p.detach()) == pytest.approx(-2.9004700327, abs=1e-9)
    gradient = torch.autograd.grad(log_p, weight)[0]
    assert float(gradient[1, 1]) == pytest.approx(0.0971334046, abs=1e-9)
    assert float(gradient[3 + 3 + 1, 0]) == pytest.approx(0.2584480785, abs=1e-9)
    weight.requires_grad_(False)
    assert float(joint.exact_log_partition()) == pytest.approx(4.9533220073, abs=1e-9)
    total = joint.machine.energy({"visible": y[None], "input": x[None], "hidden": torch.zeros(1, 2).double()})
    assert total.shape == (1,)
    marginal = log_sum(joint.machine, {"visible": y[None], "input": x[None]}) - joint.exact_log_partition()
    assert float(marginal) == pytest.approx(-4.8259928598, abs=1e-9)
    every = torch.tensor(list(itertools.product((0.0, 1.0), repeat=3))).double()
    contexts = joint.conditional({"input": every})  # one machine a context
    table = contexts.log_prob(every[:, None]).exp()  # values x contexts
    torch.testing.assert_close(table.sum(0), torch.ones(8).double())
    torch.manual_seed(0)
    draws = contexts.sample((4000,), sweeps=40)
    index = (draws @ torch.tensor([4.0, 2, 1]).double()).long()
    for context in range(8):
        p = table[:, context]
        share = torch.bincount(index[:, context], minlength=8) / 4000
        # Six standard errors of every share; chains of 40 sweeps of two colours have forgotten their start.
        assert ((share - p).abs() < 6 * (p * (1 - p) / 4000).sqrt() + 1e-3).all()


def test_gaussian_output_given_the_input():
    graph = dgm.Graph(
        {"visible": dgm.Gaussian(3), "hidden": dgm.Binary(2), "input": dgm.Binary(3)},
        [dgm.Factored(["input", "visible", "hidden"], factors=2)],
    )
    weight = torch.cat([wave(0.9, 1, 3, 2), wave(0.8, 2, 3, 2), wave(0.7, 3, 2, 2)])
    biases = {"visible": (wave(0.5, 4, 3), torch.full((3,), -0.5).double()), "hidden": (wave(0.4, 5, 2),),
              "input": (wave(0.3, 6, 3),)}  # fmt: skip
    x = bits(6, 3)[None]
    dist = BoltzmannDistribution(graph, biases, (weight,)).conditional({"input": x})
    assert float(dist.exact_log_partition()) == pytest.approx(5.2320887727, abs=1e-9)
    assert float(dist.log_prob(wave(1, 0.3, 3))) == pytest.approx(-5.9752492538, abs=1e-9)


@pytest.mark.parametrize(
    ("given", "visible", "message"),
    [
        ({"nobody": torch.zeros(1, 3)}, None, r"got the layers \['nobody'\]; expected some of"),
        (
            {"v": torch.zeros(1, 4)},
            None,
            r"visible got 'v'; expected one of the layers that are not given, \['h', 'k'\]",
        ),
        ({"h": torch.zeros(1, 4)}, None, r"'h' got states of shape \(1, 4\); its last dimensions must be \(3,\)"),
        ({"h": torch.zeros(1, 3)}, "h", "visible got 'h'"),
    ],
)
def test_what_cannot_be_given(given, visible, message):
    m = machine("three-way")
    dist = BoltzmannDistribution(
        m.graph, {n: m.shaped(dgm.energy.Block(n), b) for n, b in m.biases.items()}, m.weights, "v"
    )
    with pytest.raises(ValueError, match=message):
        dist.conditional(given, visible)


def test_layers_that_do_not_fit():
    with pytest.raises(ValueError, match="layers that all differ"):
        dgm.ThreeWay("v", "h", "v")
    with pytest.raises(ValueError, match="two layers or more"):
        dgm.Factored(["v"], 3)
    with pytest.raises(ValueError, match="as many units in both"):
        dgm.Graph({"v": V, "m": dgm.Binary(3)}, [dgm.Elementwise("v", "m")])
    with pytest.raises(ValueError, match="inner entries 0 to 1"):
        dgm.Graph({"v": V, "m": dgm.Categorical(4, 2), "h": H}, [dgm.Masked("v", "m", "h", inner=2)])
    with pytest.raises(ValueError, match="no centred form"):
        dgm.ThreeWay("v", "h", "k").centred_gradient(torch.zeros(1), (), ())


def gated_gaussians(scale, factored=True, hidden=2):
    """Real x and y, gated by hidden units, with unit precisions."""
    parts = [wave(scale, 1, 3, 2), wave(0.8, 2, 3, 2), wave(0.7, 3, hidden, 2)]
    ends = ("input", "visible", "hidden")
    coupling = dgm.Factored(ends, factors=2) if factored else dgm.ThreeWay(*ends)
    layers = {"visible": dgm.Gaussian(3), "hidden": dgm.Binary(hidden), "input": dgm.Gaussian(3)}
    half = torch.full((3,), -0.5).double()
    biases = {"visible": (wave(0.5, 4, 3), half), "hidden": (wave(0.4, 5, hidden),), "input": (wave(0.3, 6, 3), half)}
    weight = torch.cat(parts) if factored else torch.einsum("if,jf,kf->ijk", *parts)
    return dgm.Graph(layers, [coupling]), biases, (weight,)


@pytest.mark.parametrize("factored", [True, False])
def test_two_real_layers_gated_by_hidden_units(factored):
    """Another program's least eigenvalue over the hidden states is -0.094 for the first and 0.635 for the second."""
    with pytest.raises(ValueError, match=r"no normaliser: the couplings of hidden, input, visible may use up 1\.0"):
        BoltzmannDistribution(*gated_gaussians(0.9, factored), validate_args=True)
    dist = BoltzmannDistribution(*gated_gaussians(0.3, factored), validate_args=True)
    assert float(dist.exact_log_partition()) == pytest.approx(7.0139196464, abs=1e-9)


def least_eigenvalue(scale, hidden):
    """Over all hidden states, from the definition of the energy."""
    _, _, (weight,) = gated_gaussians(scale, hidden=hidden)
    first, second, third = weight.split([3, 3, hidden])
    lowest = []
    for state in itertools.product((0.0, 1.0), repeat=hidden):
        m = first @ torch.diag(torch.tensor(state).double() @ third) @ second.T
        form = torch.eye(6).double()
        form[:3, 3:], form[3:, :3] = -m, -m.T
        lowest.append(torch.linalg.eigvalsh(form).min())
    return float(torch.stack(lowest).min())


@pytest.mark.parametrize("hidden", [2, 5])
def test_few_hidden_units_are_decided_exactly(hidden):
    """Scales just on either side of the border, which bisection finds from eigenvalues."""
    low, high = 0.01, 5.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if least_eigenvalue(middle, hidden) > 0 else (low, middle)
    BoltzmannDistribution(*gated_gaussians(0.999 * low, hidden=hidden), validate_args=True)
    with pytest.raises(ValueError, match="no normaliser"):
        BoltzmannDistribution(*gated_gaussians(1.001 * high, hidden=hidden), validate_args=True)


def test_many_hidden_units_are_bounded():
    """Twenty hidden units: no machine that is accepted has a state with a negative eigenvalue among 20,000 that are drawn."""
    graph, biases, (weight,) = gated_gaussians(1.0, hidden=20)
    first, second, third = weight.split([3, 3, 20])
    states = torch.randint(0, 2, (20_000, 20), generator=torch.Generator().manual_seed(0)).double()
    states[0], states[1] = (third[:, 0] > 0).double(), (third[:, 1] > 0).double()
    worst = torch.linalg.svdvals(torch.einsum("if,nf,jf->nij", first, states @ third, second)).max()
    reached = torch.maximum(third.clamp_min(0).sum(0), -third.clamp_max(0).sum(0))
    by_factor = (first.norm(dim=0) * second.norm(dim=0) * reached).sum()
    bound = torch.minimum(by_factor, torch.linalg.norm(first, 2) * torch.linalg.norm(second, 2) * reached.max())
    assert 1.0 < float(bound / worst) < 3.0
    scaled = [(torch.cat([scale * first, second, third]),) for scale in (0.99 / bound, 1.01 / bound)]
    BoltzmannDistribution(graph, biases, scaled[0], validate_args=True)
    with pytest.raises(ValueError, match="use up"):
        BoltzmannDistribution(graph, biases, scaled[1], validate_args=True)


def test_many_factors_are_bounded_by_their_matrices():
    """Fifty random factors: the bound holds for all states of four hidden units, and is tighter than factor by factor."""
    generator = torch.Generator().manual_seed(0)
    first, second, third = (torch.randn(size, 50, generator=generator).double() for size in (8, 8, 4))
    states = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4))).double()
    worst = torch.linalg.svdvals(torch.einsum("if,nf,jf->nij", first, states @ third, second)).max()
    coupling = dgm.Factored(("a", "b", "h"), factors=50)
    coupling.weight_shape({"a": dgm.Gaussian(8), "b": dgm.Gaussian(8), "h": dgm.Binary(4)})
    one, bounds = torch.ones(8).double(), (torch.zeros(4).double(), torch.ones(4).double())
    found = coupling.strength(torch.cat([first, second, third]), {0: one, 1: one}, {2: bounds})
    reached = torch.maximum(third.clamp_min(0).sum(0), -third.clamp_max(0).sum(0))
    assert worst <= found < 0.7 * (first.norm(dim=0) * second.norm(dim=0) * reached).sum()


def test_three_real_layers_have_no_normaliser():
    layers = {name: dgm.Gaussian(2) for name in "abc"}
    biases = {name: (torch.zeros(2), torch.full((2,), -0.5)) for name in "abc"}
    graph = dgm.Graph(layers, [dgm.ThreeWay("a", "b", "c")])
    with pytest.raises(ValueError, match="other than as two real-valued layers"):
        BoltzmannDistribution(graph, biases, (0.01 * torch.ones(2, 2, 2),), "a", validate_args=True)
    BoltzmannDistribution(graph, biases, (torch.zeros(2, 2, 2),), "a", validate_args=True)
