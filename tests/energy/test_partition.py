"""Annealing brackets log Z, and published values are met."""

import math

import numpy as np
import pytest
import torch
from oracles import boltzmann as oracle

import pyro_dgm as dgm
from pyro_dgm.annealing import AnnealingPath, forward_ais, reverse_ais
from pyro_dgm.annealing.raise_bound import log_weights
from pyro_dgm.annealing.weights import bridge
from pyro_dgm.energy import exact_sample
from pyro_dgm.energy.temperatures import temperatures

MACHINES = oracle.machines()
CASES = pytest.mark.parametrize(("name", "model", "exact"), MACHINES, ids=[m[0] for m in MACHINES])


def torus(side, coupling):
    edges = [(r * side + c, r * side + (c + 1) % side) for r in range(side) for c in range(side)]
    edges += [(r * side + c, (r + 1) % side * side + c) for r in range(side) for c in range(side)]
    machine = dgm.BoltzmannMachine(side * side, edges=edges, unit="spin").double()
    with torch.no_grad():
        machine.weight.fill_(coupling)
    return machine


@pytest.mark.parametrize(("coupling", "expected"), [(0.4406867935, 15.5219154588), (0.2, 11.7714703585)])
def test_ising_torus_4x4(coupling, expected):
    assert math.isclose(float(dgm.log_partition(torus(4, coupling)()).value.detach()), expected, abs_tol=1e-8)


def test_ising_ring():
    ring = dgm.BoltzmannMachine(10, edges=[(i, (i + 1) % 10) for i in range(10)], unit="spin").double()
    with torch.no_grad():
        ring.weight.fill_(0.5)
    assert math.isclose(float(dgm.log_partition(ring()).value.detach()), 8.1330609176, abs_tol=1e-9)


@pytest.mark.parametrize(
    ("coupling", "expected"), [(0.4406867935, 60.1417807891), (0.2, 47.0101474224), (0.6, 78.1416488576)]
)
def test_ising_torus_8x8_by_annealing(coupling, expected):
    """Five standard errors of the forward estimate, whose relative error the delta method gives."""
    result = dgm.log_partition(torus(8, coupling)(), "ais", chains=500, temperatures=600, reverse=False)
    assert abs(float(result.value) - expected) < 5 * float(result.stderr)
    assert float(result.stderr) < 0.1
    assert float(result.lower) < expected + 5 * float(result.stderr)
    assert float(result.lower) <= float(result.value)


@CASES
def test_forward_weights_average_to_z(name, model, exact):
    """E[w] = Z / Z_base exactly, for few temperatures too; a sum of 20,000 weights stays within six standard errors."""
    machine = model().machine
    base = {layer: unit.neutral(torch.zeros(1)) for layer, unit in machine.graph.layers.items()}
    path = AnnealingPath(machine, base)
    with torch.no_grad():
        weights, _ = forward_ais(path, torch.linspace(0, 1, 6), 20_000, torch.Size())
        ratio = (weights.double() + path.log_base() - exact.log_z).exp()
    assert abs(float(ratio.mean()) - 1) < 6 * float(ratio.std()) / math.sqrt(len(ratio))
    assert float(ratio.std()) > 1e-3


@CASES
def test_reverse_weights_from_exact_states_average_to_one_over_z(name, model, exact):
    machine = model().machine
    base = {layer: unit.neutral(torch.zeros(1)) for layer, unit in machine.graph.layers.items()}
    path = AnnealingPath(machine, base)
    with torch.no_grad():
        weights = reverse_ais(path, torch.linspace(0, 1, 6), exact_sample(machine, 20_000))
        ratio = (weights.double() - path.log_base() + exact.log_z).exp()
    assert abs(float(ratio.mean()) - 1) < 6 * float(ratio.std()) / math.sqrt(len(ratio))


@CASES
def test_forward_and_reverse_bracket_log_z(name, model, exact):
    """The means of log w are bounds in expectation: with 2000 chains they hold within five standard errors."""
    result = dgm.log_partition(model(), "ais", chains=2000, temperatures=20)
    slack = 5 * 2 / math.sqrt(2000)
    assert float(result.lower) < exact.log_z + slack
    assert float(result.upper) > exact.log_z - slack
    assert float(result.lower) < float(result.upper) + 5 * float(result.stderr_lower.hypot(result.stderr_upper))
    assert abs(float(result.value) - exact.log_z) < 6 * float(result.stderr)


def test_contexts_have_a_log_partition_each():
    rbm, _ = dgm.RBM.example()
    shifts = torch.randn(3, 6)
    exact = [float(dgm.log_partition(rbm(visible_shift=s)).value) for s in shifts]
    together = dgm.log_partition(rbm(visible_shift=shifts))
    torch.testing.assert_close(together.value.detach(), torch.tensor(exact))
    annealed = dgm.log_partition(rbm(visible_shift=shifts), "ais", chains=2000, temperatures=100)
    assert annealed.value.shape == (3,)
    assert ((annealed.value - together.value).abs() < 6 * annealed.stderr + 1e-3).all()


def test_bars_and_stripes_optimum_is_what_enumeration_says():
    """The uniform distribution over the 14 distinct 3×3 pictures has this log-likelihood over the 16 generated rows."""
    rows = []
    for bits in range(8):
        line = torch.tensor([float(bits >> i & 1) for i in range(3)])
        rows += [line.repeat(3, 1).flatten(), line.repeat(3, 1).T.flatten()]
    rows = torch.stack(rows)
    _, counts = rows.unique(dim=0, return_counts=True)
    best = float((counts / 16 * (counts / 16).log()).sum())
    assert math.isclose(best, -2.5993019271, abs_tol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"method": "magic"}, "expected one of"), ({"method": "ais", "chains": 1}, "at least 2"),
     ({"method": "ais", "temperatures": 1}, "at least 2"), ({"method": "ais", "temperatures": [0.0]}, "at least 2"),
     ({"method": "ais", "temperatures": [0.0, 0.5, 0.5, 1.0]}, "got 0.5 and then 0.5 at places 1 and 2; .*increase"),
     ({"method": "ais", "temperatures": [0.0, 0.5, 0.3, 1.0]}, "got 0.5 and then 0.3 at places 1 and 2; .*increase"),
     ({"method": "ais", "temperatures": [1.0, 0.5, 0.0]}, "got 1 and then 0.5 at places 0 and 1; .*increase"),
     ({"method": "ais", "temperatures": "abc"}, "temperatures got 'abc'; expected"),
     ({"method": "ais", "temperatures": 0.5}, "temperatures got 0.5; expected"),
     ({"method": "ais", "temperatures": [0.1, 0.5, 1.0]}, "exactly 0"),
     ({"method": "ais", "temperatures": [0.0, math.nan, 1.0]}, "got 0 and then nan at places 0 and 1; .*increase"),
     ({"method": "bridge", "reverse": False}, "needs both runs"),
     ({"chains": 50}, "chains got 50 with method='exact'; it belongs to method='ais' or method='bridge'"),
     ({"engine": "torch"}, "engine got 'torch' with method='exact'"), ({"reverse": False}, "reverse got False"),
     ({"base": torch.zeros(10, 6)}, "base got a Tensor.* with method='exact'"),
     ({"method": "ais", "base": torch.zeros(10, 6), "reverse": False, "warmup": 5}, "warmup got 5 without a reverse run")],
)  # fmt: skip
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        dgm.log_partition(dgm.RBM.example()[0](), **options)


def test_too_many_states_for_an_exact_sum():
    with pytest.raises(dgm.NotEnumerable, match="ais"):
        dgm.log_partition(dgm.RBM(100, 100)())


def unit_path(model, base=0.0):
    """The path from a product distribution whose natural parameters are all ``base``."""
    machine = model().machine
    naturals = {layer: (torch.full(unit.shape, base),) for layer, unit in machine.graph.layers.items()}
    return AnnealingPath(machine, naturals)


def test_a_sequence_of_temperatures_is_taken_as_it_is():
    rbm, _ = dgm.RBM.example()
    for ladder in ([0.0, 0.2, 0.7, 1.0], torch.tensor([0.0, 0.2, 0.7, 1.0]), np.array([0.0, 0.2, 0.7, 1.0])):
        torch.testing.assert_close(temperatures(ladder).float(), torch.tensor([0.0, 0.2, 0.7, 1.0]))
    torch.manual_seed(0)
    given = dgm.log_partition(rbm(), "ais", chains=20, temperatures=temperatures(50).tolist()).value
    torch.manual_seed(0)
    assert given == dgm.log_partition(rbm(), "ais", chains=20, temperatures=50).value


@CASES
def test_the_bridge_finds_log_z_and_knows_its_error(name, model, exact):
    """Of 400 intervals of 1.96 standard errors 95 % hold log Z up to O(1 / chains): the count is Binomial(400, 0.95),
    below 360 with probability 2e-5, and is allowed 4 more for the delta method's remainder at 200 chains; errors twice
    too large or too small fail. The mean of all estimates meets log Z within five of its own errors and the second-order
    bias of a logarithm, which is of the size of one estimate's variance."""
    path = unit_path(model)
    runs, chains = 400, 200
    betas = torch.linspace(0, 1, 9)
    with torch.no_grad():
        # Runs are independent chains of one batch.
        up, _ = forward_ais(path, betas, runs * chains, torch.Size())
        down = reverse_ais(path, betas, exact_sample(path.machine, runs * chains))
        value, stderr = bridge(up.double().view(chains, runs), down.double().view(chains, runs))
        error = value + path.log_base() - exact.log_z
        score = error / stderr
    assert int((score.abs() < 1.96).sum()) > 356
    assert int((score.abs() < 0.98).sum()) < 356
    assert abs(float(error.mean())) < 5 * float(error.std()) / math.sqrt(runs) + float(error.var())


@CASES
def test_the_bridge_errs_less_than_either_end(name, model, exact):
    """The optimal bridge over both runs against the forward estimate alone: mean squared errors over 400 repetitions."""
    path = unit_path(model)
    with torch.no_grad():
        up, _ = forward_ais(path, torch.linspace(0, 1, 4), 400 * 100, torch.Size())
        down = reverse_ais(path, torch.linspace(0, 1, 4), exact_sample(path.machine, 400 * 100))
        up, down = up.double().view(100, 400), down.double().view(100, 400)
        target = exact.log_z - float(path.log_base())
        forward = (up.logsumexp(0) - math.log(100) - target).square().mean()
        both = (bridge(up, down)[0] - target).square().mean()
    assert both < 0.8 * forward


def test_the_bridge_solves_its_equation_and_keeps_batches():
    up, down = torch.randn(50, 3).double() * 3 + 1, torch.randn(50, 3).double() - 2
    value, _ = bridge(up, down)
    assert value.shape == (3,)
    sides = torch.sigmoid(up - value).sum(0), torch.sigmoid(down + value).sum(0)
    torch.testing.assert_close(*sides, rtol=1e-9, atol=1e-9)
    constant, stderr = bridge(torch.full((5,), 2.0), torch.full((5,), -2.0))
    assert (float(constant), float(stderr)) == (2.0, 0.0)


def test_bridge_sampling_through_the_front_door():
    rbm, _ = dgm.RBM.example()
    exact = oracle.of_rbm(rbm).log_z
    result = dgm.log_partition(rbm(), "bridge", chains=500, temperatures=20)
    assert result.method == "bridge sampling"
    assert not result.exact
    assert abs(float(result.value) - exact) < 5 * float(result.stderr)
    assert float(result.stderr) < 0.02
    shifted = dgm.log_partition(rbm(visible_shift=torch.randn(3, 6)), "bridge", chains=50, temperatures=5)
    assert shifted.value.shape == shifted.stderr.shape == (3,)


def unit_order(machine):
    """The numbers of the units in the summed colour, and the other colours, in the order of the sweep."""
    offset, first = {}, 0
    for name, unit in machine.graph.layers.items():
        offset[name] = first
        first += unit.atoms
    colours = [
        [
            offset[b.layer] + a
            for b in colour
            for a in (range(machine.graph.layers[b.layer].atoms) if b.atoms is None else b.atoms.tolist())
        ]
        for colour in machine.graph.colours
    ]
    summed = colours.pop(machine.graph.summed)
    return summed, colours


def annealing_model(exact, machine, betas, base):
    """The visible probabilities that annealing ends in, through explicit matrices.

    The units outside the summed colour move by the reversal of (draw the summed colour, then the others), and the summed
    colour is drawn at the end.
    """
    summed, others = unit_order(machine)
    rest = [u for colour in others for u in colour]
    index = (
        np.unique(exact.states[:, rest], axis=0, return_inverse=True)[1].ravel()
        if rest
        else np.zeros(len(exact.states), int)
    )
    count = index.max() + 1
    fold = np.eye(count)[index]
    at = [
        oracle.Oracle((1 - t) * np.full_like(exact.b, base) + t * exact.b, t * exact.J, exact.visible, exact.values)
        for t in betas
    ]
    marginals = [o.p @ fold for o in at]
    q = marginals[0]
    for o, p in zip(at[1:], marginals[1:], strict=True):
        T = o.transition([summed, *others])
        M = np.stack([T[np.flatnonzero(index == r)[0]] @ fold for r in range(count)])
        q = q @ ((M * p[:, None]).T / p[:, None])
    joint = q[index] * exact.p / marginals[-1][index]
    rows = np.unique(exact.states[:, : exact.visible], axis=0)
    return rows, np.array([joint[(exact.states[:, : exact.visible] == r).all(1)].sum() for r in rows])


@CASES
def test_raise_weights_average_to_the_annealing_model(name, model, exact):
    """E[w] = p_ann(x) for every row (six standard errors), which differs from p(x); and its log lies below on average."""
    base, betas = 0.3, torch.tensor([0.0, 0.2, 0.5, 1.0], dtype=torch.float64)
    path = unit_path(model, base)
    rows, expected = annealing_model(exact, path.machine, betas.tolist(), base)
    fold = 400_000 // len(rows)
    assert math.isclose(expected.sum(), 1, abs_tol=1e-9)
    with torch.no_grad():
        log_w = log_weights(model(), path, betas, {"visible": torch.tensor(rows, dtype=torch.float32)}, fold).double()
    ratio = log_w.exp() / torch.tensor(expected)
    error = ratio.std(0) / math.sqrt(fold) + 1e-5
    assert ((ratio.mean(0) - 1).abs() < 6 * error).all()
    truth = np.exp(exact.marginal(rows) - exact.log_z)
    apart = torch.tensor(np.abs(truth / expected - 1))
    assert (apart > 6 * error).any()
    mean = log_w.mean(0)
    assert (mean < torch.tensor(np.log(expected)) + 6 * log_w.std(0) / math.sqrt(fold) + 1e-5).all()


def test_raise_is_conservative_and_tightens_with_temperatures():
    """At three times the weights three temperatures are some 0.8 nat below, known to 0.07; 300 are at the value."""
    rbm, _ = dgm.RBM.example()
    with torch.no_grad():
        rbm.weight.mul_(3)
    x = rbm.sample(50)
    exact = float(rbm().log_prob(x).mean().detach())
    coarse, fine = (dgm.raise_bound(rbm(), x, chains=50, temperatures=n) for n in (3, 300))
    assert coarse.values.shape == coarse.stderr.shape == (50,)
    assert float(coarse.values.mean()) < float(fine.values.mean())
    assert abs(float(fine.values.mean()) - exact) < 5 * float(fine.stderr.norm()) / 50
    assert torch.isinf(dgm.raise_bound(rbm(), x, chains=1, temperatures=3).stderr).all()


@pytest.mark.parametrize(
    ("shift", "rows", "options", "message"),
    [(torch.zeros(2, 6), torch.zeros(3, 6), {}, "one machine"), (None, torch.zeros(3, 5), {}, "raise_bound got"),
     (None, torch.zeros(3, 6), {"chains": 0}, "at least 1"), (None, torch.zeros(0, 6), {}, "raise_bound got"),
     (None, torch.zeros(3, 6), {"temperatures": [0.0, 2.0]}, "increase")],
)  # fmt: skip
def test_bad_raise(shift, rows, options, message):
    with pytest.raises(ValueError, match=message):
        dgm.raise_bound(dgm.RBM.example()[0](visible_shift=shift), rows, **options)


def test_ends_keep_their_order_when_noise_crosses_them():
    """Means of forward and reverse runs of an easy machine fall in either order; the names promise one."""
    rbm = dgm.RBM(18, 18)
    x = torch.randint(0, 2, (5, 18), generator=torch.Generator().manual_seed(0)).float()
    for seed in range(10):
        torch.manual_seed(seed)
        found = dgm.log_partition(rbm(), "ais", chains=6, temperatures=10, base=x, warmup=3)
        assert found.lower <= found.upper
        details = dgm.evaluation.likelihood.with_details(rbm, x, method="ais", chains=6, temperatures=10, warmup=3)[1]
        assert details["log_partition_lower"] <= details["log_partition_upper"]


@pytest.mark.parametrize(("base", "message"), [
    (lambda x: torch.tensor(1.0), r"base got data of shape \(\)"), (lambda x: x[:, :1], r"base got data of shape \(10, 1\)"),
    (lambda x: x[:0], "base got empty data"), (lambda x: x * math.nan, "base got NaN"),
    (lambda x: [1.0], "got (a list|data of type list)"),
], ids=["scalar", "narrow", "empty", "nan", "list"])  # fmt: skip
def test_a_base_that_does_not_fit_is_refused(base, message):
    rbm, x = dgm.RBM.example()
    for method in ("ais", "bridge", "raise"):
        with pytest.raises(ValueError, match=message):
            dgm.log_likelihood(rbm, x, method=method, base=base(x), temperatures=10)
    with pytest.raises(ValueError, match=message):
        dgm.log_partition(rbm(), "ais", base=base(x), temperatures=10)
    covariance, rows = dgm.CovarianceRBM.example()
    with pytest.raises(ValueError, match=message):
        dgm.log_likelihood(covariance, rows, base=base(rows), temperatures=10)
    found = dgm.log_likelihood(rbm, x, method="ais", base=x.double(), chains=2, temperatures=5, warmup=2)
    assert math.isfinite(found.value)
