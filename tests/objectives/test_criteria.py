"""Pseudolikelihood, ratio matching and noise contrast equal their definitions, and find the machine their data came from."""

import itertools
import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from oracles import boltzmann as oracle

import pyro_dgm as dgm
from pyro_dgm.objectives.criteria.conditionals import flips

MACHINES = [(name, model.double(), exact) for name, model, exact in oracle.machines()]
CASES = pytest.mark.parametrize(("name", "model", "exact"), MACHINES, ids=[m[0] for m in MACHINES])


def rows_of(exact):
    return np.array(list(itertools.product(exact.values, repeat=exact.visible)))


def conditionals(exact, rows, log_p):
    """log p(x_i | x_-i) for every row and unit, from the listed probabilities of all rows."""
    known = {tuple(r): p for r, p in zip(rows, log_p, strict=True)}
    result = np.empty(rows.shape)
    for s, row in enumerate(rows):
        for i in range(len(row)):
            other = row.copy()
            other[i] = sum(exact.values) - row[i]
            result[s, i] = known[tuple(row)] - np.logaddexp(known[tuple(row)], known[tuple(other)])
    return result


def pseudo(exact, rows, log_p):
    return -conditionals(exact, rows, log_p).sum(1)


def ratio(exact, rows, log_p):
    return ((1 - np.exp(conditionals(exact, rows, log_p))) ** 2).sum(1)


DEFINITIONS = [(dgm.PseudoLikelihood, pseudo), (dgm.RatioMatching, ratio)]
FLIPS = pytest.mark.parametrize(("objective", "definition"), DEFINITIONS, ids=["pseudolikelihood", "ratio matching"])


def tensor(rows):
    return torch.as_tensor(rows, dtype=torch.float64)


def attached(objective, model):
    objective.attach(model)
    return objective


def gradient(loss, model):
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


@FLIPS
@CASES
def test_value_is_the_enumerated_definition(name, model, exact, objective, definition):
    rows = rows_of(exact)
    expected = definition(exact, rows, exact.marginal(rows))
    objective = attached(objective(), model)
    drawn = [float(objective.loss(tensor(row[None])).detach()) for row in rows]
    np.testing.assert_allclose(drawn, expected, atol=1e-10)
    np.testing.assert_allclose(float(objective.loss(tensor(rows)).detach()), expected.mean(), atol=1e-10)


@FLIPS
def test_gradient_is_that_of_the_definition(objective, definition):
    """Against central differences of the NumPy definition: h² ≈ 1e-10 relative to derivatives of order one."""
    rbm = oracle.randomise(dgm.RBM(4, 3).double(), torch.Generator().manual_seed(5))
    rows = rows_of(oracle.of_rbm(rbm))[[0, 3, 3, 9, 14]]
    grads = gradient(attached(objective(), rbm).loss(tensor(rows)), rbm)

    def value():
        exact = oracle.of_rbm(rbm)
        every = rows_of(exact)
        per_row = definition(exact, every, exact.marginal(every))
        return np.mean([per_row[(every == r).all(1)][0] for r in rows])

    for name, parameter in rbm.named_parameters():
        for entry in np.ndindex(*parameter.shape):
            sides = []
            for step in (1e-5, -1e-5):
                with torch.no_grad():
                    parameter[entry] += step
                    sides.append(value())
                    parameter[entry] -= step
            assert math.isclose(float(grads[name][entry]), (sides[0] - sides[1]) / 2e-5, abs_tol=1e-8), (name, entry)


@FLIPS
@CASES
def test_expected_gradient_vanishes_at_the_machine_the_data_come_from(name, model, exact, objective, definition):
    """Rows weighted by their exact probabilities; with other weights the gradient is far from zero."""
    rows = rows_of(exact)
    log_p = exact.marginal(rows)
    p = np.exp(log_p - exact.log_z)
    objective = attached(objective(), model)

    def total(weights):
        losses = torch.stack([objective.loss(tensor(row[None])) for row in rows])
        return max(float(g.abs().max()) for g in gradient((tensor(weights) * losses).sum(), model).values())

    assert total(p) < 1e-10
    assert total(np.full(len(p), 1 / len(p))) > 1e-3


def data_of_a_machine():
    """Rows whose empirical distribution is exactly that of a fully visible machine, and its biases and pair weights.

    p(x) is proportional to a product of integer factors of units and pairs, so counts say it exactly.
    """
    units, pairs = (2, 1, 3), {(0, 1): 2, (0, 2): 3, (1, 2): 4}
    rows, counts = np.array(list(itertools.product((0.0, 1.0), repeat=3))), []
    for row in rows:
        factors = [a for a, on in zip(units, row, strict=True) if on]
        counts.append(math.prod(factors + [c for (i, j), c in pairs.items() if row[i] and row[j]]))
    truth = torch.tensor([*units, *pairs.values()]).double().log()
    return tensor(np.repeat(rows, counts, axis=0)), truth, math.log(sum(counts))


def newton(loss, parameters, steps=60):
    """Damped Newton to the minimum; returns the vector and how far the true minimum can be: |gradient| / least curvature."""
    vector = torch.cat([p.detach().flatten() for p in parameters])
    for _ in range(steps):
        g = torch.autograd.functional.jacobian(loss, vector)
        h = torch.autograd.functional.hessian(loss, vector)
        values, vectors = torch.linalg.eigh(h)
        step = vectors @ ((vectors.T @ g) / values.abs().clamp(min=1e-3))
        scale = 1.0
        while loss(vector - scale * step) > loss(vector) and scale > 1e-8:
            scale /= 2
        vector = vector - scale * step
    return vector, float(g.norm() / values.min()), float(values.min())


def as_function(objective, model, x, extra=()):
    """The loss as a function of one vector of all parameters."""
    named = dict(model.named_parameters())
    sizes = [p.numel() for p in [*named.values(), *extra]]

    def loss(vector):
        parts = vector.split(sizes)
        values = {name: part.view_as(p) for part, (name, p) in zip(parts, named.items(), strict=False)}
        if extra:
            objective.log_partition = parts[-1].squeeze()
        objective._model = lambda: torch.func.functional_call(model, values, ())
        return objective.loss(x)

    return loss


def fully_visible():
    model = dgm.BoltzmannMachine(3).double()
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    return model, [n for n, _ in model.named_parameters()]


def in_order(vector, names):
    """Biases first, then weights, whatever order the model lists them in."""
    at = {"weight": slice(0, 3), "visible_bias": slice(3, 6)} if names[0] == "weight" else None
    return vector[:6] if at is None else torch.cat([vector[at["visible_bias"]], vector[at["weight"]]])


@FLIPS
def test_minimum_is_the_machine_the_data_come_from(objective, definition):
    x, truth, _ = data_of_a_machine()
    model, names = fully_visible()
    objective = attached(objective(), model)
    vector, error, curvature = newton(as_function(objective, model, x), list(model.parameters()))
    assert curvature > 1e-3
    assert float((in_order(vector, names) - truth).abs().max()) < 2 * error + 1e-9
    assert error < 1e-6


@FLIPS
def test_random_entries_are_unbiased(objective, definition):
    rbm = oracle.randomise(dgm.RBM(5, 3).double(), torch.Generator().manual_seed(6))
    x = tensor(rows_of(oracle.of_rbm(rbm))[[7, 19]])
    exact = gradient(attached(objective(), rbm).loss(x), rbm)
    partial = attached(objective(entries=2), rbm)
    blocks = [gradient(torch.stack([partial.loss(x) for _ in range(40)]).mean(), rbm) for _ in range(60)]
    oracle.meets(blocks, exact, power=0.5)


def test_flips_in_chunks_and_contexts_are_those_of_one_row_at_a_time(monkeypatch):
    rbm = oracle.randomise(dgm.RBM(5, 3), torch.Generator().manual_seed(6))
    x, shifts = (torch.rand(4, 5) < 0.5).float(), torch.randn(4, 5)
    alone = [dgm.pseudo_log_likelihood(rbm(visible_shift=s), row[None], None) for row, s in zip(x, shifts, strict=True)]
    torch.testing.assert_close(dgm.pseudo_log_likelihood(rbm(visible_shift=shifts), x, None), torch.cat(alone))
    whole, _ = flips(rbm(), x, None, "test")
    monkeypatch.setattr("pyro_dgm.objectives.criteria.conditionals.ROWS", 9)
    torch.testing.assert_close(flips(rbm(), x, None, "test")[0], whole)


class Listing:
    """A uniform distribution over all states, which draws each of them equally often."""

    def __init__(self, rows):
        self.rows = tensor(rows)

    def sample(self, shape):
        return self.rows.repeat(shape[0] // len(self.rows), 1)

    def log_prob(self, x):
        return torch.full((len(x),), -math.log(len(self.rows)), dtype=torch.float64)


def contrast(counts, log_p_model, noise_log_p, ratio):
    """The expected loss a datum, from the classifier's definition: P(data | row) = p / (p + ratio q)."""
    p_data = np.exp(log_p_model) / (np.exp(log_p_model) + ratio * np.exp(noise_log_p))
    return -(counts / counts.sum() * np.log(p_data)).sum() - ratio * (np.exp(noise_log_p) * np.log(1 - p_data)).sum()


@pytest.mark.parametrize("times", [1, 2])
def test_noise_contrast_is_the_loss_of_the_best_classifier(times):
    """Noise that lists all states makes loss and gradient exact expectations."""
    rbm = oracle.randomise(dgm.RBM(3, 2).double(), torch.Generator().manual_seed(7))
    rows = rows_of(oracle.of_rbm(rbm))
    counts = np.array([1, 0, 2, 0, 0, 3, 1, 1])
    x = tensor(np.repeat(rows, counts, axis=0))
    objective = attached(dgm.NoiseContrastive(Listing(rows), ratio=times), rbm)
    objective.loss(x)
    assert math.isclose(float(objective.log_partition.detach()), oracle.of_rbm(rbm).log_z, abs_tol=1e-12)
    with torch.no_grad():
        objective.log_partition += 0.3
    grads = gradient(objective.loss(x), rbm)

    def value():
        exact = oracle.of_rbm(rbm)
        return contrast(
            counts, exact.marginal(rows) - float(objective.log_partition.detach()), np.full(8, -math.log(8)), times
        )

    assert math.isclose(float(objective.loss(x).detach()), value(), abs_tol=1e-12)
    everything = [*rbm.named_parameters(), ("log_partition", objective.log_partition)]
    grads["log_partition"] = objective.log_partition.grad
    for name, parameter in everything:
        for entry in np.ndindex(*parameter.shape):
            sides = []
            for step in (1e-5, -1e-5):
                with torch.no_grad():
                    parameter[entry] += step
                    sides.append(value())
                    parameter[entry] -= step
            assert math.isclose(float(grads[name][entry]), (sides[0] - sides[1]) / 2e-5, abs_tol=1e-8), (name, entry)


def test_noise_contrast_finds_the_machine_and_its_log_z():
    x, truth, log_z = data_of_a_machine()
    model, names = fully_visible()
    objective = attached(dgm.NoiseContrastive(Listing(rows_of(oracle.of_machine(model))), ratio=8), model)
    objective.loss(x)
    start = [*model.parameters(), objective.log_partition]
    vector, error, curvature = newton(as_function(objective, model, x, extra=(torch.zeros(1),)), start)
    assert curvature > 1e-4
    assert error < 1e-6
    assert float((in_order(vector, names) - truth).abs().max()) < 2 * error + 1e-9
    assert abs(float(vector[-1]) - log_z) < 2 * error + 1e-9


def test_default_noise_is_the_product_of_the_data_s_marginals():
    rbm, x = dgm.RBM.example()
    objective = attached(dgm.NoiseContrastive(), rbm)
    objective.loss(x)
    means = x.mean(0).clamp(1e-3, 1 - 1e-3)
    expected = dist.Bernoulli(means).to_event(1).log_prob(x)
    torch.testing.assert_close(objective._noise(rbm(), x).log_prob(x), expected)


@pytest.mark.parametrize("objective", [dgm.PseudoLikelihood(3), dgm.RatioMatching(), dgm.NoiseContrastive(ratio=3)])
def test_fit_trains_with_them(objective):
    """Data with strong pairs: training must raise the exact likelihood above that of independent units by half of what
    the pairs hold (log 2 a pair), which no model of marginals can."""
    bits = (torch.rand(1000, 3) < 0.5).float()
    x = bits.repeat(1, 2)
    rbm = dgm.RBM(6, 6)
    dgm.fit(rbm, x, objective=objective, epochs=40, learning_rate=0.05, progress=False)
    assert float(rbm().log_prob(x).mean().detach()) > -6 * math.log(2) + 0.5 * 3 * math.log(2)


def test_a_resumed_run_is_the_same_run(tmp_path):
    """Noise, its log Z and the optimiser's state for it are saved."""
    x = (torch.rand(60, 6) < 0.3).float()
    results = []
    for stops in ((4,), (2, 4)):
        rbm, folder = dgm.RBM.example()[0], tmp_path / str(len(stops))
        for number, epochs in enumerate(stops):
            objective = dgm.NoiseContrastive(ratio=2)
            dgm.fit(rbm, x, objective=objective, epochs=epochs, out=folder, resume=number > 0, progress=False)
        results.append([*rbm.parameters(), objective.log_partition])
    for once, resumed in zip(*results, strict=True):
        assert torch.equal(once, resumed)


def test_log_z_is_learned_without_decay():
    rbm, _ = dgm.RBM.example()
    groups = attached(dgm.NoiseContrastive(), rbm).parameter_groups(rbm)
    assert len(groups) == 2
    optimiser = torch.optim.AdamW(groups, lr=0.1, weight_decay=0.5)
    assert [g["weight_decay"] for g in optimiser.param_groups] == [0.5, 0.0]


@pytest.mark.parametrize("make", [dgm.PseudoLikelihood, dgm.RatioMatching])
@pytest.mark.parametrize("entries", [0, -1, 2.5, True])
def test_bad_entries(make, entries):
    with pytest.raises(ValueError, match="entries got"):
        make(entries=entries)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"ratio": 0}, "ratio got 0"), ({"ratio": 1.5}, "ratio got 1.5"), ({"noise": 3}, "expected a distribution")],
)
def test_bad_contrast(options, message):
    with pytest.raises(ValueError, match=message):
        dgm.NoiseContrastive(**options)


def test_noise_of_another_shape():
    rbm, x = dgm.RBM.example()
    for noise in (dist.Bernoulli(0.5 * torch.ones(6)), dist.Bernoulli(0.5 * torch.ones(5)).to_event(1)):
        with pytest.raises((ValueError, RuntimeError), match=r"to_event|size|shape"):
            attached(dgm.NoiseContrastive(noise), rbm).loss(x)


class Grey:
    """A model whose visible units are Gaussian."""

    def __call__(self):
        graph = dgm.Graph({"visible": dgm.Gaussian(3), "hidden": dgm.Binary(2)}, [dgm.Dense("visible", "hidden")])
        naturals = {"visible": (torch.zeros(3), -0.5 * torch.ones(3)), "hidden": (torch.zeros(2),)}
        return dgm.BoltzmannDistribution(graph, naturals, (0.1 * torch.ones(3, 2),))


def test_visible_units_without_two_states_are_refused():
    with pytest.raises(ValueError, match=r"two states.*dgm\.PseudoLikelihood"):
        dgm.RatioMatching().attach(Grey())
    with pytest.raises(ValueError, match="real-valued 'hidden'"):
        dgm.PseudoLikelihood().attach(dgm.SpikeSlabRBM(4, 3))


def test_noise_contrast_takes_other_units():
    """The marginals of Gaussian units are Gaussians of their means and variances."""
    x = torch.randn(50, 3) * torch.tensor([1.0, 2.0, 0.5]) + 1
    objective = attached(dgm.NoiseContrastive(), Grey())
    objective.loss(x).backward()
    expected = dist.Normal(x.mean(0), x.std(0, correction=0)).to_event(1).log_prob(x)
    torch.testing.assert_close(objective._noise(Grey()(), x).log_prob(x), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("make", [dgm.PseudoLikelihood, dgm.RatioMatching, dgm.NoiseContrastive])
def test_models_without_an_energy_are_refused(make):
    with pytest.raises(ValueError, match="energy distribution"):
        make().attach(dgm.VAE.example()[0])


def labelled(rows=7):
    """A deep machine with labels, and rows."""
    torch.manual_seed(0)
    dbm = dgm.DBM(4, (3, 2), classes=3).double()
    oracle.randomise(dbm, torch.Generator().manual_seed(0))
    labels = torch.eye(3, dtype=torch.float64)[torch.randint(0, 3, (rows,))]
    return dbm, torch.cat([torch.randint(0, 2, (rows, 4)).double(), labels], 1)


def log_weight(dbm, rows):
    """Log of the unnormalised probability of rows with labels, the hidden units listed."""
    states = torch.tensor(list(itertools.product([0.0, 1.0], repeat=5)), dtype=rows.dtype)
    lower, upper = states[:, :3], states[:, 3:]
    v, y = rows[:, None, :4], rows[:, None, 4:]
    exponent = v @ dbm.visible_bias[:, None] + y @ dbm.label_bias[0][:, None]
    exponent = exponent.squeeze(-1) + (v @ dbm.weights[0] * lower).sum(-1) + (y @ dbm.label_weight.t() * upper).sum(-1)
    within = lower @ dbm.hidden_biases[0] + upper @ dbm.hidden_biases[1] + (lower @ dbm.weights[1] * upper).sum(-1)
    return (exponent + within).logsumexp(-1)


def test_labels_are_units_like_others():
    """Pseudolikelihood and ratio matching of a deep machine with labels, from listed states."""
    dbm, x = labelled()
    alternatives = []
    for unit in range(4):
        flipped = x.clone()
        flipped[:, unit] = 1 - flipped[:, unit]
        alternatives.append([x, flipped])
    classes = [torch.cat([x[:, :4], torch.eye(3, dtype=x.dtype)[k].expand(7, 3)], 1) for k in range(3)]
    with torch.no_grad():
        bits = [torch.stack([log_weight(dbm, a) for a in pair]).log_softmax(0) for pair in alternatives]
        label = torch.stack([log_weight(dbm, a) for a in classes]).log_softmax(0)
        own = (label * x[:, 4:].t()).sum(0)
        pseudo = -sum(b[0] for b in bits) - own
        wrong = (label.exp() - x[:, 4:].t()).square().sum(0) / 2
        ratio = sum((1 - b[0].exp()).square() for b in bits) + wrong
    for objective, expected in ((dgm.PseudoLikelihood(), pseudo), (dgm.RatioMatching(), ratio)):
        found = attached(objective, dbm).loss(x)
        torch.testing.assert_close(found.detach(), expected.mean())
        found.backward()
        assert all(bool(p.grad.any()) for p in dbm.parameters())
        dbm.zero_grad()


def test_noise_contrast_of_labelled_rows():
    """log Z by noise over rows and labels, within six standard errors of listed weights; a step moves every parameter."""
    dbm, x = labelled(100)
    listed = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4)), dtype=x.dtype)
    joint = torch.cat([torch.cat([listed, torch.eye(3, dtype=x.dtype)[k].expand(16, 3)], 1) for k in range(3)])
    objective = attached(dgm.NoiseContrastive(ratio=100), dbm)
    objective.loss(x).backward()
    with torch.no_grad():
        mean = x.mean(0)
        noise = (mean[:4] * joint[:, :4] + (1 - mean[:4]) * (1 - joint[:, :4])).prod(1) * (joint[:, 4:] @ mean[4:])
        weights = log_weight(dbm, joint).exp() / noise
        total = float((noise * weights).sum())
        error = float((noise * (weights / total - 1).square()).sum() / 10_000) ** 0.5
    assert abs(float(objective.log_partition.detach()) - math.log(total)) < 6 * error + error**2
    assert error < 0.05
    assert all(bool(p.grad.any()) for p in dbm.parameters())


GAUSSIAN = {
    "one precision": lambda: dgm.GaussianRBM(3, 4, precision="scalar", optional_term=True),
    "precisions": lambda: dgm.GaussianRBM(3, 4),
    "deep": lambda: dgm.DBM(3, (3, 2), unit="gaussian"),
}


@pytest.mark.parametrize("name", GAUSSIAN)
def test_pseudolikelihood_of_gaussian_units(name):
    """Every conditional density is a mixture over the listed hidden states, of Gaussians whose weights the other units set."""
    model = oracle.randomise(GAUSSIAN[name]().double(), torch.Generator().manual_seed(1))
    x = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    states = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4 if name != "deep" else 5)), dtype=x.dtype)
    if name == "deep":
        beta, mean = torch.ones(3, dtype=x.dtype), model.visible_bias + states[:, :3] @ model.weights[0].t()
        lower, upper = states[:, :3], states[:, 3:]
        bias = (
            lower @ model.hidden_biases[0] + upper @ model.hidden_biases[1] + (lower @ model.weights[1] * upper).sum(1)
        )
    else:
        beta, mean = model.beta, model.visible_bias + states @ model.weight.t()
        bias = states @ (model.hidden_bias - 0.5 * (beta[:, None] * model.weight**2).sum(0) * model.optional_term)
    log_weights = bias + 0.5 * (beta * mean**2).sum(1)  # of the states, up to a constant, with x integrated out
    normal = torch.distributions.Normal(mean, beta.rsqrt())
    parts = normal.log_prob(x.unsqueeze(1))  # rows x states x units
    expected = 0.0
    for unit in range(3):
        others = log_weights + parts.sum(-1) - parts[..., unit]
        expected = expected + (others + parts[..., unit]).logsumexp(1) - others.logsumexp(1)
    found = dgm.pseudo_log_likelihood(model(), x, entries=None)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    names, parameters = zip(*model.named_parameters(), strict=True)
    ours = torch.autograd.grad(attached(dgm.PseudoLikelihood(), model).loss(x), parameters)
    for parameter, a, b in zip(names, ours, torch.autograd.grad(-expected.mean(), parameters), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8, msg=parameter)
