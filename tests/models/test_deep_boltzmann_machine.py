"""The deep Boltzmann machine against enumeration: bound, gradients, posterior, sampling, guides."""

import itertools

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from oracles import boltzmann as oracle
from pyro.infer import SVI, Predictive, Trace_ELBO
from pyro.optim import SGD

import pyro_dgm as dgm


def of_dbm(dbm):
    """The oracle of a DBM with binary visibles."""
    sizes = [dbm.visible, *dbm.hidden]
    starts = np.cumsum([0, *sizes])
    J = np.zeros((starts[-1], starts[-1]))
    for k, W in enumerate(dbm.weights):
        rows, columns = slice(starts[k], starts[k + 1]), slice(starts[k + 1], starts[k + 2])
        J[rows, columns] = W.detach().numpy()
        J[columns, rows] = W.detach().numpy().T
    b = np.concatenate([dbm.visible_bias.detach().numpy(), *(c.detach().numpy() for c in dbm.hidden_biases)])
    return oracle.Oracle(b, J, dbm.visible)


def three_layers():
    dbm = dgm.DBM(4, hidden=(3, 3, 2))
    return oracle.randomise(dbm, torch.Generator().manual_seed(5), 0.8)


def elbo_of(exact, x, means):
    """(20.35) of one row for a factorial q, summed over all hidden states, without log Z."""
    total = 0.0
    for h in itertools.product((0, 1), repeat=len(means)):
        q = np.prod(np.where(h, means, 1 - means))
        s = np.concatenate([x, h])
        total += q * (s @ exact.b + 0.5 * s @ exact.J @ s - np.log(q))
    return total


@pytest.mark.parametrize("make", [lambda: dgm.DBM.example()[0], three_layers])
class TestAgainstEnumeration:
    def test_energy_and_log_z(self, make):
        dbm = make()
        exact = of_dbm(dbm)
        assert float(dgm.log_partition(dbm()).value) == pytest.approx(exact.log_z, abs=1e-4)
        rows = torch.tensor(list(itertools.product((0.0, 1.0), repeat=dbm.visible)))
        np.testing.assert_allclose(-dbm().free_energy(rows).detach(), exact.marginal(rows), atol=1e-4)

    def test_bound_is_20_35_and_below_the_likelihood(self, make):
        dbm = make()
        exact = of_dbm(dbm)
        rows = torch.randint(0, 2, (6, dbm.visible)).float()
        means = torch.cat(dbm.posterior(rows), -1).double().numpy()
        expected = [elbo_of(exact, x, m) for x, m in zip(rows.numpy(), means, strict=True)]
        np.testing.assert_allclose(dbm.bound(rows), expected, atol=1e-4)
        assert (expected < exact.marginal(rows)).all()

    def test_mean_field_is_a_local_optimum_of_the_bound(self, make):
        dbm = make()
        exact = of_dbm(dbm)
        x = torch.randint(0, 2, (1, dbm.visible)).float()
        means = torch.cat(dbm.posterior(x, 500), -1).double().numpy()[0]
        best = elbo_of(exact, x[0].numpy(), means)
        for unit, step in itertools.product(range(len(means)), (-0.02, 0.02)):
            other = means.copy()
            other[unit] = np.clip(other[unit] + step, 1e-6, 1 - 1e-6)
            assert elbo_of(exact, x[0].numpy(), other) <= best + 1e-5

    def test_elbo_of_the_guide_is_the_bound(self, make):
        dbm = make()
        exact = of_dbm(dbm)
        dbm.rounds = 300
        x = torch.randint(0, 2, (7, dbm.visible)).float()
        program = dgm.negative_phase(dbm.model, dgm.ExactNegativePhase())
        loss = Trace_ELBO(max_plate_nesting=1).differentiable_loss(program, dbm.guide, x)
        assert float(loss.detach()) == pytest.approx(-float((dbm.bound(x, 300) - exact.log_z).sum()), rel=1e-5)

    def test_gradient_is_that_of_algorithm_20_1(self, make):
        """Mean statistics under the mean-field posterior minus those under the model."""
        dbm = make()
        exact = of_dbm(dbm)
        dbm.rounds = 300
        x = torch.randint(0, 2, (7, dbm.visible)).float()
        program = dgm.negative_phase(dbm.model, dgm.ExactNegativePhase())
        Trace_ELBO(max_plate_nesting=1).differentiable_loss(program, dbm.guide, x).backward()
        expected = expected_gradient(dbm, exact, x)
        for name, parameter in dbm.named_parameters():
            torch.testing.assert_close(-parameter.grad, expected[name], atol=2e-4, rtol=1e-4)

    def test_variational_pcd_at_stationarity(self, make):
        dbm = make()
        exact = of_dbm(dbm)
        dbm.rounds = 100
        x = torch.randint(0, 2, (7, dbm.visible)).float()
        program = dgm.negative_phase(dbm.model, dgm.PCD(k=3, chains=1000))
        loss = Trace_ELBO(max_plate_nesting=1)
        blocks = []
        for number in range(25):
            dbm.zero_grad()
            for _ in range(8):
                (loss.differentiable_loss(program, dbm.guide, x) / 8).backward()
            if number >= 5:
                blocks.append({n: -p.grad for n, p in dbm.named_parameters()})
        oracle.meets(blocks, expected_gradient(dbm, exact, x), 0.08)


def expected_gradient(dbm, exact, x):
    mean, pairs = (torch.as_tensor(t, dtype=torch.float32) for t in exact.gradients())
    posterior = [x, *dbm.posterior(x, dbm.rounds)]
    starts = np.cumsum([0, *(p.shape[1] for p in posterior)])
    part = [slice(a, b) for a, b in itertools.pairwise(starts)]
    gradient = {"visible_bias": x.sum(0) - len(x) * mean[part[0]]}
    for k, (below, above) in enumerate(itertools.pairwise(posterior)):
        gradient[f"weights.{k}"] = below.T @ above - len(x) * pairs[part[k], part[k + 1]]
        gradient[f"hidden_biases.{k}"] = above.sum(0) - len(x) * mean[part[k + 1]]
    return gradient


def test_odd_and_even_layers_are_two_blocks():
    dbm = three_layers()
    colours = [{block.layer for block in colour} for colour in dbm().machine.graph.colours]
    assert sorted(map(sorted, colours)) == [["hidden1", "hidden3"], ["hidden2", "visible"]]


def test_joint_draws_come_from_the_joint_distribution():
    """The sites of an unconditioned run follow the enumerated joint distribution."""
    dbm = dgm.DBM.example()[0]
    exact = of_dbm(dbm)
    n = 20_000
    trace = pyro.poutine.trace(dbm.model).get_trace(None, n)
    states = torch.cat([trace.nodes[name]["value"] for name in ("x", "hidden1", "hidden2")], -1).numpy()
    distance = 0.5 * np.abs(oracle.frequencies(exact, states) - exact.p).sum()
    assert distance < oracle.total_variation_bound(exact.p, n)


def test_a_recognition_network_trains_under_stock_svi():
    """A learned factorial guide rises from its start towards the best factorial posterior, and stays below it."""
    dbm = dgm.DBM.example()[0]
    exact = of_dbm(dbm)
    x = torch.tensor(list(itertools.product((0.0, 1.0), repeat=5)))
    network = torch.nn.Sequential(torch.nn.Linear(5, 30), torch.nn.Tanh(), torch.nn.Linear(30, 7))

    def guide(x):
        pyro.module("recognition", network)
        with pyro.plate("data", len(x)):
            for name, logits in zip(("hidden1", "hidden2"), network(x).split([4, 3], -1), strict=True):
                q = dist.Bernoulli(logits=logits)
                pyro.sample(name, dist.Delta(q.mean, log_density=-q.entropy().sum(-1), event_dim=1))

    program = dgm.negative_phase(pyro.poutine.block(dbm.model, hide_types=["param"]), dgm.ExactNegativePhase())
    svi = SVI(program, guide, SGD({"lr": 3e-3, "momentum": 0.9}), Trace_ELBO(max_plate_nesting=1))
    first = svi.step(x)
    for _ in range(400):
        last = svi.step(x)
    best = -float((dbm.bound(x, 500) - exact.log_z).sum())
    truth = -float((exact.marginal(x) - exact.log_z).sum())
    assert truth < best < last + 1e-3
    assert last < best + 0.2 * (first - best)


def test_gaussian_visibles_by_enumeration_of_the_hidden_units():
    dbm = oracle.randomise(dgm.DBM(3, hidden=(3, 2), unit="gaussian"), torch.Generator().manual_seed(1), 0.7)
    W1, W2 = (W.detach().double().numpy() for W in dbm.weights)
    a, c1, c2 = (p.detach().double().numpy() for p in (dbm.visible_bias, *dbm.hidden_biases))
    terms = []
    for h in itertools.product((0, 1), repeat=5):
        h1, h2 = np.array(h[:3]), np.array(h[3:])
        mean = a + W1 @ h1
        terms.append(c1 @ h1 + c2 @ h2 + h1 @ W2 @ h2 + 0.5 * mean @ mean - 0.5 * a @ a + 1.5 * np.log(2 * np.pi))
    found = dgm.log_partition(dbm(), "ais", chains=2000, temperatures=300)
    assert found.stderr < 0.02
    assert abs(float(found.value) - oracle.logsumexp(terms)) < 6 * float(found.stderr)


def test_large_machines_give_a_bound_and_say_so():
    dbm = dgm.DBM(30, hidden=(25, 25))
    figure = dgm.log_likelihood(dbm, torch.randint(0, 2, (5, 30)).float(), temperatures=50, chains=10)
    assert figure.kind == "lower bound"
    assert "variational bound" in figure.method
    with pytest.raises(ValueError, match="states"):
        dbm().free_energy(torch.zeros(1, 30))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": ()}, "every hidden layer"),
        ({"hidden": 500}, "every hidden layer"),
        ({"unit": "poisson"}, "expected one of"),
        ({"rounds": 0}, "rounds of mean field"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        dgm.DBM(5, **options)


def test_given_refuses_unknown_layers():
    with pytest.raises(ValueError, match="hidden layers are"):
        dgm.DBM.example()[0]().given({"hidden9": torch.zeros(4)})


def test_conditioning_on_a_part_of_the_hidden_sites_is_refused():
    dbm = dgm.DBM.example()[0]
    known = pyro.condition(dbm.model, {"hidden1": torch.ones(3, 4)})
    with pytest.raises(ValueError, match="drawn together"):
        known(None, 3)


@pytest.mark.parametrize("make", [lambda: dgm.DBM(4, hidden=(3, 3, 2)), lambda: dgm.DBM(4, hidden=(3, 3), classes=2)])
def test_centred_training_of_deeper_machines(make):
    """The offsets of the upper layers are their mean-field means under the data."""
    dbm = oracle.randomise(make(), torch.Generator().manual_seed(2), 0.5)
    x = torch.randint(0, 2, (6, 4)).float()
    rows = torch.cat([x, torch.eye(2).repeat(3, 1)], 1) if dbm.classes else x
    phase = dgm.PCD(chains=20, centred=True)
    program = dgm.negative_phase(dbm.model, phase)
    Trace_ELBO(max_plate_nesting=1).differentiable_loss(program, dbm.guide, rows).backward()
    offsets = phase.centring["x"].state["offsets"]
    for name, means in zip(dbm.names, dbm.posterior(rows, dbm.rounds), strict=True):
        torch.testing.assert_close(offsets[name][0], means.mean(0))


def test_one_round_of_mean_field_has_a_row_for_every_datum():
    assert [tuple(m.shape) for m in dgm.DBM(4, hidden=(3, 3, 2)).posterior(torch.zeros(5, 4), rounds=1)] == [
        (5, 3),
        (5, 3),
        (5, 2),
    ]


def test_rates_scale_the_steps_of_single_layers():
    """One step of plain SGD moves a layer by its factor times what it moves without factors; others are untouched."""

    def moved(rates):
        dbm, x = dgm.DBM.example()
        before = {n: p.detach().clone() for n, p in dbm.named_parameters()}
        objective = dbm.objective("exact", rates=rates)
        dgm.fit(
            dbm, x, objective=objective, epochs=1, batch_size=10, learning_rate=0.1, optimiser="sgd", progress=False
        )
        return {n: p.detach() - before[n] for n, p in dbm.named_parameters()}

    plain, scaled = moved(None), moved((0.5, 0.0))
    for name, step in plain.items():
        factor = {"0": 0.5, "1": 0.0}.get(name.split(".")[-1], 1.0)
        torch.testing.assert_close(scaled[name], factor * step, msg=name)
        assert step.abs().max() > 0
    with pytest.raises(ValueError, match="one per hidden layer"):
        dgm.DBM.example()[0].objective(rates=(1.0,))


def test_spread_is_the_deviation_of_the_first_weights():
    torch.manual_seed(0)
    wide, narrow = dgm.DBM(300, (200, 100), spread=0.05), dgm.DBM(300, (200, 100))
    for dbm, spread in ((wide, 0.05), (narrow, 0.01)):
        for weight in dbm.weights:
            # Of n numbers the deviation is known to one part in sqrt(2 n): five standard errors.
            assert float(weight.detach().std()) == pytest.approx(spread, rel=5 / (2 * weight.numel()) ** 0.5)
    assert dgm.DBM(**wide.options()).spread == 0.05
    with pytest.raises(ValueError, match="spread"):
        dgm.DBM(4, (3,), spread=0.0)


@pytest.mark.parametrize("option", [{"weights": {"label": 2.0}}, {"rounds": 3}, {"known": 0.9}])
@pytest.mark.parametrize("kind", ["pcd", "cd", "exact"])
def test_options_of_multi_prediction_are_refused_by_other_kinds(kind, option):
    with pytest.raises(ValueError, match=f"{next(iter(option))} got .* with kind='{kind}'; .*kind='multi-prediction'"):
        dgm.DBM.example()[0].objective(kind, **option)


@pytest.mark.parametrize(
    "option", [{"rates": (1.0, 0.5)}, {"k": 2}, {"chains": 5}, {"centred": True}, {"precision": "bfloat16"}]
)
def test_multi_prediction_refuses_options_of_other_kinds(option):
    with pytest.raises(ValueError, match=f"{next(iter(option))} got .* with kind='multi-prediction'"):
        dgm.DBM.example()[0].objective("multi-prediction", **option)


@pytest.mark.parametrize("method", ["exact", None])
def test_small_machines_with_labels_have_exact_figures(method):
    """log p(x, y) of every row and label by a list of all states in NumPy; they sum to one."""
    torch.manual_seed(0)
    dbm = dgm.DBM(3, (3, 2), classes=3, spread=1.0).double()
    v, first, second, y = (np.array(list(itertools.product((0.0, 1.0), repeat=n))) for n in (3, 3, 2, 3))
    y = y[y.sum(1) == 1]
    lower, upper = (w.detach().numpy() for w in dbm.weights)
    up, top = v @ lower @ first.T, first @ upper @ second.T
    labels = second @ dbm.label_weight.detach().numpy() @ y.T
    minus = up[:, :, None, None] + top[None, :, :, None] + labels[None, None]
    log_p = np.logaddexp.reduce(np.logaddexp.reduce(minus, 2), 1)
    log_p -= np.logaddexp.reduce(log_p.ravel())
    rows = np.concatenate([np.repeat(v, 3, 0), np.tile(y, (8, 1))], 1)
    found = dbm.evidence(torch.tensor(rows), method)
    assert found.kind == "exact"
    np.testing.assert_allclose(found.values.numpy(), log_p.ravel(), atol=1e-9)


def test_every_particle_has_hidden_draws_of_its_own():
    """All particles of a plate shared one draw."""
    dbm, _ = dgm.DBM.example()
    drawn = Predictive(dbm.model, num_samples=50, parallel=True)(None, 2)
    assert len(drawn["hidden1"].unique(dim=0)) > 1
    means = Predictive(dbm.model, num_samples=4000, parallel=True)(None, 1)["x"].mean((0, 1))
    weights = dbm().log_prob(dbm().enumerate_support(expand=False)).exp()
    torch.testing.assert_close(means, weights @ dbm().enumerate_support(expand=False), atol=5 * 0.5 / 4000**0.5, rtol=0)
