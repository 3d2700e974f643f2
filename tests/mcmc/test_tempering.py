"""Tempering leaves every replica's distribution where it is, moves as its transition matrix says, and crosses between modes."""

import functools
import itertools
import math

import numpy as np
import pytest
import torch
from oracles import boltzmann as oracle
from pyro.infer import Trace_ELBO

import pyro_dgm as dgm
from pyro_dgm.mcmc import swapping, tempering, transitions

MACHINES = oracle.machines()
CASES = pytest.mark.parametrize(("name", "model", "exact"), MACHINES, ids=[m[0] for m in MACHINES])
BETAS = (0.0, 0.45, 1.0)
N = 20_000


def small():
    """Four-unit machines with strong couplings: two colours, and one unit a colour."""
    generator = torch.Generator().manual_seed(4)
    rbm = oracle.randomise(dgm.RBM(2, 2), generator, 1.5)
    full = oracle.randomise(dgm.BoltzmannMachine(3, 1), generator, 1.5)
    return [("rbm", rbm, oracle.of_rbm(rbm)), ("general", full, oracle.of_machine(full))]


SMALL = pytest.mark.parametrize(("name", "model", "exact"), small(), ids=["rbm", "general"])
CLAMPED = pytest.mark.parametrize("clamped", [(), (0,)], ids=["free", "clamped"])


def tempered(exact, beta, base=0.0):
    return oracle.Oracle((1 - beta) * base + beta * exact.b, beta * exact.J, exact.visible, exact.values)


def split(states, model):
    x = torch.as_tensor(np.asarray(states), dtype=torch.float32)
    sizes = {name: unit.shape[0] for name, unit in model().machine.graph.layers.items()}
    return dict(zip(sizes, x.split(list(sizes.values()), -1), strict=True))


def joint(state, model):
    return torch.cat([state[layer] for layer in model().machine.graph.layers], -1).numpy()


def clamp_of(exact, clamped):
    if not clamped:
        return None, np.ones(len(exact.states), bool)
    known = torch.zeros(exact.visible, dtype=torch.bool)
    known[list(clamped)] = True
    agree = (exact.states[:, list(clamped)] == exact.values[1]).all(1)
    return (known, torch.full((exact.visible,), float(exact.values[1]))), agree


def restricted(p, agree):
    p = np.where(agree, p, 0.0)
    return p / p.sum()


def run(kernel, state, steps):
    for _ in range(steps):
        state = kernel.sample(state)
    return state


def excess(exact, p, states):
    """The total variation above what exact draws would show."""
    states = np.asarray(states)
    distance = 0.5 * np.abs(oracle.frequencies(exact, states) - p).sum()
    return distance - oracle.total_variation_bound(p, len(states))


def stationary(kernel, model, exact, agree, base=0.0, betas=BETAS):
    """The worst replica after two steps from draws of the product of all replicas' distributions."""
    rng = np.random.default_rng(0)
    p = [restricted(tempered(exact, beta, base).p, agree) for beta in betas]
    start = np.stack([exact.states[rng.choice(len(q), N, p=q)] for q in p], 1)
    final = joint(run(kernel, split(start, model), 2), model)
    return max(excess(exact, q, final[:, t]) for t, q in enumerate(p))


@CASES
@pytest.mark.parametrize("clamped", [(), (0, 2)], ids=["free", "clamped"])
def test_replicas_are_stationary(name, model, exact, clamped):
    clamp, agree = clamp_of(exact, clamped)
    assert stationary(dgm.ParallelTempering(model(), BETAS, clamp=clamp), model, exact, agree) < 0


@CASES
def test_wrong_swaps_fail(name, model, exact, monkeypatch):
    """By the wrong sign; swaps that always happen would hardly show in a machine that forgets them within a sweep."""
    right = tempering.swaps
    monkeypatch.setattr(tempering, "swaps", lambda betas, gap, *trips: right(betas, -gap, *trips))
    everything = np.ones(len(exact.states), bool)
    assert stationary(dgm.ParallelTempering(model(), BETAS), model, exact, everything) > 0


def test_a_base_of_ones_own():
    """Between the base's fields and the machine's, at beta 0 the base itself; with a base in other places it fails."""
    _, model, exact = MACHINES[0]
    shift = np.array([1.0, -1.0, 2.0, 0.5, -2.0, 1.5, 0.0, 0.0, 0.0, 0.0])
    everything = np.ones(len(exact.states), bool)
    kernel = dgm.ParallelTempering(model(), BETAS, base={"visible": (torch.tensor(shift[:6]),)})
    assert stationary(kernel, model, exact, everything, shift) < 0
    assert stationary(kernel, model, exact, everything, -shift) > 0


def swap_matrix(oracles, low, power=1.0):
    """Swap the replicas ``low`` and ``low + 1`` of a joint state of all, by (a power of) the ratio of their probabilities."""
    shape = (len(oracles[0].states),) * len(oracles)
    T = np.zeros((np.prod(shape),) * 2)
    a, b = oracles[low].log_weights, oracles[low + 1].log_weights
    for number, places in enumerate(itertools.product(*map(range, shape))):
        i, j = places[low], places[low + 1]
        accept = min(1.0, np.exp(power * (a[j] + b[i] - a[i] - b[j])))
        other = list(places)
        other[low], other[low + 1] = j, i
        T[number, np.ravel_multi_index(other, shape)] += accept
        T[number, number] += 1 - accept
    return T


@CLAMPED
@pytest.mark.parametrize("kind", ["rbm", "full"])
def test_parallel_tempering_moves_as_the_transition_matrix(kind, clamped, monkeypatch):
    """All joint states of three replicas of three units, from one of them; wrong swaps are seen."""
    model = dgm.RBM(2, 1) if kind == "rbm" else dgm.BoltzmannMachine(3)
    oracle.randomise(model, torch.Generator().manual_seed(8), 4.0)
    exact = oracle.of_rbm(model) if kind == "rbm" else oracle.of_machine(model)
    betas = (0.1, 0.5, 1.0)
    oracles = [tempered(exact, beta) for beta in betas]
    sweeps = functools.reduce(np.kron, [o.transition(oracle.unit_colours(model), clamped) for o in oracles])
    step, wrong = (swap_matrix(oracles, 0, q) @ swap_matrix(oracles, 1, q) @ sweeps for q in (1, 0))
    clamp, agree = clamp_of(exact, clamped)
    product = functools.reduce(np.kron, [restricted(o.p, agree) for o in oracles])
    np.testing.assert_allclose(product @ step, product, atol=1e-10)

    # Start where two steps with swaps that are always accepted lead elsewhere.
    right, wrong = (np.linalg.matrix_power(T, 2) for T in (step, wrong))
    begin = (np.abs(right - wrong).sum(1) * (product > 0)).argmax()
    p = right[begin]
    start = split(np.tile(exact.states[list(np.unravel_index(begin, (8, 8, 8)))], (3 * N, 1, 1)), model)
    many = oracle.Oracle(np.zeros(9), np.zeros((9, 9)), 9)
    kernel = dgm.ParallelTempering(model(), betas, clamp=clamp)

    def found():
        return excess(many, p, joint(run(kernel, start, 2), model).reshape(3 * N, 9))

    assert found() < 0
    swaps = tempering.swaps
    monkeypatch.setattr(tempering, "swaps", lambda betas, gap, *trips: swaps(betas, 0 * gap, *trips))
    assert found() > 0


def transition_of(model, exact, betas, clamped):
    """The matrix of a tempered transition over three temperatures, by summing over all paths."""
    n = len(exact.states)
    hot, warm, cold = (tempered(exact, beta) for beta in betas)
    first, *others = oracle.unit_colours(model)
    layers = {b.layer for b in model().machine.graph.colours[0]}
    summed, known = ([], [first]) if clamped and "visible" in layers else (first, [])
    up, down = [summed, *known, *others], [summed, *reversed([*known, *others])]
    kept = [u for u in range(exact.states.shape[1]) if u not in summed]

    def marginal(o):
        same = (exact.states[:, None, kept] == exact.states[None, :, kept]).all(2)
        return np.array([oracle.logsumexp(o.log_weights[row]) for row in same])

    c, w, h = marginal(cold), marginal(warm), marginal(hot)
    there, back = warm.transition(up, clamped), warm.transition(down, clamped)
    turn = hot.transition(up, clamped) @ hot.transition(down, clamped)
    T = np.zeros((n, n))
    for x, a, b, y in itertools.product(range(n), repeat=4):
        path = there[x, a] * turn[a, b] * back[b, y]
        if path:
            T[x, y] += path * min(1.0, np.exp(w[x] - c[x] + h[a] - w[a] + w[b] - h[b] + c[y] - w[y]))
    T += np.diag(1 - T.sum(1))
    return T @ cold.transition([summed], clamped)


@SMALL
@CLAMPED
def test_tempered_transitions_move_as_the_transition_matrix(name, model, exact, clamped, monkeypatch):
    clamp, agree = clamp_of(exact, clamped)
    p, betas = restricted(exact.p, agree), (0.1, 0.5, 1.0)
    T = transition_of(model, exact, betas, clamped)
    flow = p[:, None] * T
    np.testing.assert_allclose(flow, flow.T, atol=1e-10)  # detailed balance

    kernel = dgm.TemperedTransitions(model(), betas, clamp=clamp)
    begin = np.flatnonzero(agree)[exact.p[agree].argmax()]
    start = split(np.tile(exact.states[begin], (4 * N, 1)), model)
    assert excess(exact, T[begin], joint(kernel.sample(start), model)) < 0
    rejected = kernel.diagnostics()["acceptance rate"]
    assert rejected < 0.98
    monkeypatch.setattr(transitions, "_log_ratio", lambda *a: torch.zeros(()).expand(4 * N, 1))
    assert excess(exact, T[begin], joint(kernel.sample(start), model)) > 0


@CASES
@pytest.mark.parametrize("clamped", [(), (0, 2)], ids=["free", "clamped"])
def test_tempered_transitions_are_stationary(name, model, exact, clamped):
    clamp, agree = clamp_of(exact, clamped)
    p = restricted(exact.p, agree)
    draws = exact.states[np.random.default_rng(1).choice(len(p), N, p=p)]
    kernel = dgm.TemperedTransitions(model(), 4, clamp=clamp)
    assert excess(exact, p, joint(run(kernel, split(draws, model), 2), model)) < 0
    assert 0.05 < kernel.diagnostics()["acceptance rate"] < 0.999


class SameOrder(dgm.TemperedTransitions):
    """The way down by sweeps in the order of the way up, which do not undo them."""

    def _sweep(self, level, colours, *rest):
        ordered = [c for c in self.gibbs.machine.colours if any(c is other for other in colours)]
        return super()._sweep(level, ordered, *rest)


def test_a_way_down_in_the_same_order_fails():
    model = oracle.randomise(dgm.BoltzmannMachine(4), torch.Generator().manual_seed(3), 2.0)
    exact = oracle.of_machine(model)
    draws = split(exact.states[np.random.default_rng(1).choice(16, 5 * N, p=exact.p)], model)
    for make, wrong in ((dgm.TemperedTransitions, False), (SameOrder, True)):
        final = joint(run(make(model(), (0.3, 0.6, 1.0)), draws, 2), model)
        assert (excess(exact, exact.p, final) > 0) == wrong


def two_modes():
    """Ten spins that agree: two modes 18 nats above what lies between them, 0.73 and 0.27 of the probability."""
    model = dgm.BoltzmannMachine(10, unit="spin")
    with torch.no_grad():
        model.weight.fill_(0.8)
        model.visible_bias.fill_(0.05)
    exact = oracle.of_machine(model)
    return model, float(exact.p[exact.states.sum(1) > 0].sum())


@pytest.mark.parametrize("kernel", ["parallel tempering", "tempered transitions", "gibbs"])
def test_both_modes_in_the_right_proportion(kernel):
    """Chains that all start in the lesser mode; those of a chain are correlated, so that only chains count as draws."""
    model, share = two_modes()
    chains = 300
    made = {
        "parallel tempering": lambda: dgm.ParallelTempering(model(), 8),
        "tempered transitions": lambda: dgm.TemperedTransitions(model(), 40),
        "gibbs": lambda: dgm.BlockGibbs(model()),
    }[kernel]()
    first = {layer: torch.full_like(x, -1.0) for layer, x in made.start(chains).items()}
    mcmc = dgm.VectorizedMCMC(made, 10, 40, chains, initial_params=first, disable_progbar=True)
    if kernel == "tempered transitions":
        mcmc = dgm.VectorizedMCMC(made, 5, 15, chains, initial_params=first, disable_progbar=True)
    mcmc.run()
    up = (mcmc.get_samples(group_by_chain=True)["visible"].sum(-1) > 0).double().mean(1)
    error = 6 * float(up.std()) / chains**0.5
    if kernel == "gibbs":
        assert float(up.mean()) < 0.02
    else:
        assert error < 0.17
        assert abs(float(up.mean()) - share) < error


def test_warm_up_makes_swap_rates_equal_and_then_lets_them_be():
    model, _ = two_modes()
    fixed = dgm.ParallelTempering(model(), 6)
    dgm.VectorizedMCMC(fixed, 200, 0, 100, disable_progbar=True).run()
    rates = fixed.diagnostics()["swap rate"]
    assert max(rates) - min(rates) > 0.4
    assert fixed.diagnostics()["betas"] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    kernel = dgm.ParallelTempering(model(), 6)
    mcmc = dgm.VectorizedMCMC(kernel, 200, 400, 100, disable_progbar=True)
    mcmc.run()
    found = kernel.diagnostics()
    assert max(found["swap rate"]) - min(found["swap rate"]) < 0.1
    assert found["betas"][0] == 0
    assert found["betas"][-1] == 1
    assert found["restarts"] > 2 * fixed.diagnostics()["restarts"] > 0
    before = kernel.tuning["betas"]
    run(kernel, mcmc.last_params, 50)
    assert kernel.tuning["betas"] is before


def test_temperatures_go_to_another_kernel():
    model, _ = two_modes()
    kernel, other = dgm.ParallelTempering(model(), 4), dgm.ParallelTempering(model(), 4)
    dgm.VectorizedMCMC(kernel, 1, 30, 20, disable_progbar=True).run()
    other.tuning = kernel.tuning
    torch.manual_seed(1)
    a = kernel.sample(kernel.start(5))
    torch.manual_seed(1)
    b = other.sample(other.start(5))
    assert torch.equal(a["visible"], b["visible"])


def test_equalised_temperatures_cut_the_rejections_evenly():
    """Rejections linear in beta between the given points: what np.interp finds."""
    betas, rate = np.array([0.0, 0.1, 0.5, 1.0]), np.array([0.9, 0.3, 0.8])
    total = np.concatenate([[0], np.cumsum(1 - rate + 1e-3 * np.diff(betas))])
    expected = np.interp(np.linspace(0, total[-1], 4), total, betas)
    found = tempering.equalised(torch.tensor(betas), torch.tensor(rate))
    np.testing.assert_allclose(found, expected, atol=1e-12)
    idle = tempering.equalised(torch.tensor(betas), torch.ones(3, dtype=torch.float64))
    np.testing.assert_allclose(idle, [0, 1 / 3, 2 / 3, 1], atol=1e-12)


def test_restarts_are_counted(monkeypatch):
    """Replicas followed one by one, by a second account of the swaps that were made."""
    model, _ = two_modes()
    kernel, orders, right = dgm.ParallelTempering(model(), 3), [], tempering.swaps

    def recorded(*arguments):
        made = right(*arguments)
        orders.append(made.order.numpy())
        return made

    monkeypatch.setattr(tempering, "swaps", recorded)
    run(kernel, kernel.start(6), 60)
    restarts = 0
    for chain in range(6):
        been_hot, place = [False] * 3, [0, 1, 2]  # by replica
        for order in orders:
            place = [order[chain].tolist().index(p) for p in place]
            for replica, where in enumerate(place):
                if where == 2:
                    restarts += been_hot[replica]
                    been_hot[replica] = False
                elif where == 0:
                    been_hot[replica] = True
    assert restarts > 0
    assert kernel.diagnostics()["restarts"] == pytest.approx(restarts / 6)


def test_gaussian_units_and_the_statistics_that_no_coupling_touches():
    """Means of v, v² and h of a Gaussian-binary machine, by enumeration of h."""
    W, c = torch.tensor([[2.0, -1.0], [1.0, 1.5]]), torch.tensor([-1.0, -0.5])
    graph = dgm.Graph({"visible": dgm.Gaussian(2), "hidden": dgm.Binary(2)}, [dgm.Dense(("visible", 0), "hidden")])
    b, precision = torch.tensor([0.3, -0.5]), torch.tensor([1.0, 2.0])
    dist = dgm.BoltzmannDistribution(graph, {"visible": (b, -precision / 2), "hidden": (c,)}, (W,))
    h = np.array(list(itertools.product((0.0, 1.0), repeat=2)))
    field = b.numpy() + h @ W.numpy().T
    weight = np.exp((field**2 / (2 * precision.numpy())).sum(1) + h @ c.numpy())
    p, mean = weight / weight.sum(), field / precision.numpy()
    expected = {"v": p @ mean, "v2": p @ (mean**2 + 1 / precision.numpy()), "h": p @ h}
    for kernel in (dgm.ParallelTempering(dist, 4), dgm.TemperedTransitions(dist, 6)):
        state = run(kernel, kernel.start(5000), 10)
        blocks = []
        for _ in range(6):
            drawn = kernel.draws(state := run(kernel, state, 2))
            parts = {"v": drawn["visible"], "v2": drawn["visible"] ** 2, "h": drawn["hidden"]}
            blocks += [{k: x[i::10].mean(0) for k, x in parts.items()} for i in range(10)]
        oracle.meets(blocks, {k: torch.as_tensor(e) for k, e in expected.items()}, 0.1)


def test_categorical_units_and_units_without_couplings():
    """Layers of two event dimensions, one of them coupled to nothing: exact probabilities of both."""
    W = torch.tensor([[2.0], [-1.0], [0.0], [1.5], [0.5], [-2.0]])
    layers = {"visible": dgm.Categorical(2, 3), "hidden": dgm.Binary(1), "idle": dgm.Categorical(1, 3)}
    graph = dgm.Graph(layers, [dgm.Dense("visible", "hidden")])
    bias, idle = torch.tensor([[0.5, 0.0, -0.5], [0.0, 1.0, 0.0]]), torch.tensor([[0.0, 1.0, 2.0]])
    biases = {"visible": (bias,), "hidden": (torch.tensor([0.5]),), "idle": (idle,)}
    dist = dgm.BoltzmannDistribution(graph, biases, (W,))
    table = np.zeros((3, 3))
    for i, j, h in itertools.product(range(3), range(3), range(2)):
        table[i, j] += np.exp(bias[0, i] + bias[1, j] + h * (0.5 + W[i, 0] + W[3 + j, 0]))
    p, q = (table / table.sum()).ravel(), np.exp(idle.numpy()[0]) / np.exp(idle.numpy()).sum()
    for kernel in (dgm.ParallelTempering(dist, 3), dgm.TemperedTransitions(dist, 4)):
        drawn = kernel.draws(run(kernel, kernel.start(N), 20))
        i, j = drawn["visible"].argmax(-1).unbind(-1)
        for found, exact in ((3 * i + j, p), (drawn["idle"][:, 0].argmax(-1), q)):
            distance = 0.5 * np.abs(np.bincount(found, minlength=len(exact)) / N - exact).sum()
            assert distance < oracle.total_variation_bound(exact, N)


def test_contexts_and_a_clamp_for_every_chain():
    rbm, _ = dgm.RBM.example()
    dist = rbm(visible_shift=torch.tensor([[20.0], [-20.0]]).expand(2, 6))
    known, value = torch.zeros(7, 2, 6, dtype=torch.bool), (torch.rand(7, 2, 6) < 0.5).float()
    known[:, :, 3] = True
    for kernel in (
        dgm.ParallelTempering(dist, 4, clamp=(known, value)),
        dgm.TemperedTransitions(dist, 4, (known, value)),
    ):
        state = run(kernel, kernel.start(7), 15)
        visible = kernel.draws(state)["visible"]
        assert visible.shape == (7, 2, 6)
        assert torch.equal(visible[known], value[known])
        free = visible[:, :, [0, 1, 2, 4, 5]]
        assert float(free[:, 0].mean()) > 0.95
        assert float(free[:, 1].mean()) < 0.05
        assert kernel.scalars(kernel.draws(state))["energy"].shape == (7, 2)


@pytest.mark.parametrize("kernel", [dgm.ParallelTempering, dgm.TemperedTransitions])
def test_persistent_chains_with_tempered_negatives(kernel):
    """At stationarity the gradient is the exact one up to sampling error."""
    rbm, x = dgm.RBM.example()
    phase = dgm.PCD(chains=400, kernel=functools.partial(kernel, temperatures=4))
    module = Trace_ELBO(max_plate_nesting=1)(dgm.negative_phase(rbm.model, phase), rbm.guide)
    mean, pairs = oracle.of_rbm(rbm).gradients()
    hidden = torch.sigmoid(x @ rbm.weight + rbm.hidden_bias).detach()
    expected = {
        "weight": x.T @ hidden - len(x) * torch.as_tensor(pairs[:6, 6:], dtype=x.dtype),
        "visible_bias": x.sum(0) - len(x) * torch.as_tensor(mean[:6], dtype=x.dtype),
    }
    blocks = []
    for _ in range(12):
        rbm.zero_grad()
        for _ in range(15):
            (module(x) / 15).backward()
        blocks.append({name: -getattr(rbm, name).grad for name in expected})
    oracle.meets(blocks[2:], expected, 0.1)
    assert 0 < float(phase.tuning["x"]["rate"].min()) < 1
    sizes = {len(t) for t in phase.chains["x"].values()}
    assert sizes == {400 + phase.witnesses}


@pytest.mark.parametrize("kernel", [dgm.ParallelTempering, dgm.TemperedTransitions])
@pytest.mark.parametrize(
    "temperatures",
    [1, True, [0.5], [0.0, 0.7, 0.3, 1.0], [0.0, 0.5, 0.5, 1.0], [0.0, 0.5], [-0.1, 1.0], "many", [[0.0, 1.0]]],
)
def test_bad_temperatures(kernel, temperatures):
    with pytest.raises(ValueError, match="temperatures got"):
        kernel(dgm.RBM.example()[0](), temperatures)


def test_temperatures_may_fall():
    kernel = dgm.ParallelTempering(dgm.RBM.example()[0](), [1.0, 0.5, 0.2])
    assert kernel.diagnostics()["betas"] == [0.2, 0.5, 1.0]


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ({"hiden": (torch.zeros(4),)}, "there are"),
        ({"hidden": (torch.zeros(3),)}, "expected a tuple"),
        ({"hidden": torch.zeros(4)}, "expected a tuple"),
        ({"hidden": (torch.full((4,), torch.nan),)}, "base of .hidden. has entries that are NaN or infinite"),
    ],
)
def test_bad_bases(base, message):
    with pytest.raises(ValueError, match=message):
        dgm.ParallelTempering(dgm.RBM.example()[0](), base=base)


def test_bad_states_and_clamps():
    rbm, x = dgm.RBM.example()
    kernel = dgm.ParallelTempering(rbm(), 3)
    with pytest.raises(ValueError, match="3 temperatures"):
        kernel.sample(dgm.BlockGibbs(rbm()).start(5))
    with pytest.raises(ValueError, match="there are"):
        dgm.ParallelTempering(rbm(), 3, clamp={"hiden": (torch.ones(4) > 0, torch.zeros(4))})
    for data in (x, x[:, None].expand(10, 10, 6)):  # the second as if there were a dimension of ten temperatures
        with pytest.raises(
            ValueError, match=r"chains of ParallelTempering keep more than a draw.*use dgm.PCD\(kernel=dgm.ParallelTemp"
        ):
            dgm.CD(kernel=dgm.ParallelTempering).negatives("x", rbm(), data)


@pytest.mark.parametrize(
    ("kernel", "name"),
    [
        (dgm.BlockGibbs, "BlockGibbs"),
        (dgm.ParallelTempering, "ParallelTempering"),
        (functools.partial(dgm.TemperedTransitions, temperatures=4), "TemperedTransitions"),
        (dgm.GibbsLangevin, "GibbsLangevin"),
    ],
)
def test_free_energies_have_no_layers_to_draw(kernel, name):
    with pytest.raises(ValueError, match=f"{name} got FreeEnergyDistribution, which has no hidden units.*use dgm.HMC"):
        kernel(dgm.MeanCovarianceRBM.example()[0]())


@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("method", [swapping.swaps, swapping._swaps], ids=["compiled", "torch"])
def test_a_round_of_swaps_by_enumeration(method, batch):
    """Orders of three replicas, (0, 1) first and then (1, 2), against their probabilities; and all that follows from orders."""
    chains, betas, gap = 20_000, torch.tensor([0.0, 0.4, 1.0]), torch.tensor([1.0, 0.5, -0.3])
    chance = [
        [min(1.0, math.exp(float((betas[t + 1] - betas[t]) * (gap[i] - gap[j])))) for i, j in pairs]
        for t, pairs in ((0, [(0, 1)]), (1, [(1, 2), (0, 2)]))
    ]
    (first,), (after_none, after_first) = chance
    expected = {
        (0, 1, 2): (1 - first) * (1 - after_none),
        (0, 2, 1): (1 - first) * after_none,
        (1, 0, 2): first * (1 - after_first),
        (1, 2, 0): first * after_first,
    }
    rest = (1,) * len(batch)
    from_base = torch.rand(chains, 3, *batch) < 0.5
    trips = torch.randint(0, 5, (chains, *batch))
    made = method(betas, gap.view(1, 3, *rest).expand(chains, 3, *batch).contiguous(), from_base, trips)
    number = chains * math.prod(batch)
    orders = made.order.movedim(1, -1).reshape(number, 3)
    for order, p in expected.items():
        count = int((orders == torch.tensor(order)).all(1).sum())
        assert abs(count - number * p) < 6 * math.sqrt(number * p * (1 - p)) + 1e-6
    second = (1 - first) * after_none + first * after_first
    spread = 6 * 0.5 / math.sqrt(number)
    torch.testing.assert_close(made.rate.double(), torch.tensor([first, second]).double(), rtol=0, atol=spread)
    moved = from_base.gather(1, made.order)
    assert torch.equal(made.trips, trips + moved[:, -1])
    assert torch.equal(made.from_base[:, 1], moved[:, 1])
    assert made.from_base[:, 0].all()
    assert not made.from_base[:, -1].any()
    places = torch.arange(3 * number).view(chains, 3, *batch)
    assert torch.equal(made.source.view(chains, 3, *batch), places.gather(1, made.order))
