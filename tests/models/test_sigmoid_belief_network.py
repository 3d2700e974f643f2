"""Sigmoid belief networks against enumeration: likelihood, samples, autoregressive layers, training."""

import itertools

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from oracles import boltzmann as oracle

import pyro_dgm as dgm


def bits(n):
    return np.array(list(itertools.product((0.0, 1.0), repeat=n)))


def log_bernoulli(x, logits):
    return (x * logits - np.logaddexp(0, logits)).sum(-1)


def log_likelihoods(sbn):
    """log p(x) of all x of a network with two latent layers, unit by unit from (20.70)."""
    p = {name: value.detach().double().numpy() for name, value in sbn.named_parameters()}

    def layer(s, bias, within):
        logits = bias + (s @ np.tril(p[within], -1).T if within in p else 0.0)
        return log_bernoulli(s, logits)

    x, h1, h2 = bits(sbn.visible), bits(sbn.hidden[0]), bits(sbn.hidden[1])
    top = layer(h2, p["biases.2"], "within.2")
    middle = layer(h1[:, None], p["biases.1"] + h2 @ p["weights.1"].T, "within.1") + top
    lower = layer(x[:, None], p["biases.0"] + h1 @ p["weights.0"].T, "within.0")
    prior = np.array([oracle.logsumexp(row) for row in middle])
    return np.array([oracle.logsumexp(row) for row in lower + prior])


def example(autoregressive):
    sbn = dgm.SBN(4, hidden=(3, 2), autoregressive=autoregressive)
    return oracle.randomise(sbn, torch.Generator().manual_seed(1))


@pytest.mark.parametrize("autoregressive", [False, True])
def test_likelihood_by_enumeration(autoregressive):
    sbn = example(autoregressive)
    exact = log_likelihoods(sbn)
    assert oracle.logsumexp(exact) == pytest.approx(0, abs=1e-6)
    found = sbn.evidence(torch.tensor(bits(4)).float())
    assert found.kind == "exact"
    np.testing.assert_allclose(found.values, exact, atol=1e-5)


@pytest.mark.parametrize("autoregressive", [False, True])
def test_draws_given_known_bits(autoregressive):
    """Bits that depend on one another were drawn as if no other were known: means lay up to .25 off."""
    torch.manual_seed(0)
    sbn, known = example(autoregressive), np.array([False, True, False, True])
    states, chains, draws = bits(4), 2000, 20
    rows = torch.tensor(states[[1, 4]]).float()
    found = sbn.condition(rows.repeat_interleave(chains, 0), torch.tensor(known), draws, warmup=20)
    exact = np.exp(log_likelihoods(sbn))
    for row, drawn in zip(states[[1, 4]], found.unflatten(1, (2, chains)).unbind(1), strict=True):
        fits = (states[:, known] == row[known]).all(1)
        means = (exact[fits] / exact[fits].sum()) @ states[fits]
        # The draws of a chain depend on one another: chains are counted, whose means vary by at most a quarter.
        np.testing.assert_allclose(drawn.double().mean((0, 1)), means, atol=5 * 0.5 / chains**0.5)


def test_redrawn_bits_keep_their_law_given_the_known_ones():
    """From one state to the exact conditional law, by sweeps over the unknown bits."""
    torch.manual_seed(3)
    n, states = 20_000, torch.tensor(bits(4)).float()
    layer = dgm.AutoregressiveBits(torch.randn(4), 2 * torch.randn(4, 4))
    for known in (torch.tensor([False, True, False, True]), torch.tensor([False, False, True, False])):
        x = torch.ones(n, 4)
        for _ in range(25):
            x = layer.expand((n,)).redraw(x, known.expand(n, 4))
        assert bool((x[:, known] == 1).all())
        fits = (states[:, known] == 1).all(1)
        p = np.where(fits, torch.softmax(torch.where(fits, layer.log_prob(states), -torch.inf), 0).double(), 0.0)
        found = np.bincount((x.numpy() @ np.array([8, 4, 2, 1])).astype(int), minlength=16) / n
        assert 0.5 * abs(found - p).sum() < oracle.total_variation_bound(p, n)


def test_columns_that_depend_on_one_another_are_not_drawn_alone():
    """Of a model of one's own, whose distribution cannot move some columns given the others."""

    class Correlated(dgm.VAE):
        def observe(self, z):
            return dist.MultivariateNormal(self.decoder(z), torch.eye(self.visible) + 0.5)

    model = Correlated(3, latent=1, hidden=(4,), output="gaussian")
    with pytest.raises(ValueError, match=r"MultivariateNormal has columns that depend .*redraw\(value, known\)"):
        dgm.condition(model, torch.zeros(2, 3), torch.tensor([True, False, False]), draws=2, warmup=1)


@pytest.mark.parametrize("autoregressive", [False, True])
def test_bound_is_below_and_near(autoregressive):
    torch.manual_seed(0)
    sbn = example(autoregressive)
    exact = log_likelihoods(sbn)
    found = sbn.evidence(torch.tensor(bits(4)).float(), "importance", particles=5000)
    assert found.kind == "lower bound"
    # Six standard errors, and the bound's own gap, Var(w) / (2 K E(w)^2): below 2e-3 at K = 5000 unless Var(w) > 20 E(w)^2.
    assert abs(float(found.values.mean()) - exact.mean()) < 6 * found.stderr + 2e-3


@pytest.mark.parametrize("autoregressive", [False, True])
def test_samples(autoregressive):
    torch.manual_seed(1)
    sbn = example(autoregressive)
    p, n = np.exp(log_likelihoods(sbn)), 20_000
    index = (sbn.sample(n).numpy() @ np.array([8, 4, 2, 1])).astype(int)
    drawn = np.bincount(index, minlength=16) / n
    assert 0.5 * abs(drawn - p).sum() < oracle.total_variation_bound(p, n)


def test_the_fully_connected_network_is_one_autoregressive_layer_pair():
    """(20.70): one latent layer, every unit sees all before it; the matrix of all units has the two parts and W."""
    sbn = oracle.randomise(dgm.SBN(3, hidden=(2,), autoregressive=True), torch.Generator().manual_seed(2))
    p = {name: value.detach().double().numpy() for name, value in sbn.named_parameters()}
    W = np.zeros((5, 5))
    W[:2, :2], W[2:, 2:], W[2:, :2] = np.tril(p["within.1"], -1), np.tril(p["within.0"], -1), p["weights.0"]
    b = np.concatenate([p["biases.1"], p["biases.0"]])
    s = bits(5)
    joint = np.zeros(len(s))
    for i in range(5):
        joint += log_bernoulli(s[:, i : i + 1], (b[i] + s[:, :i] @ W[i, :i])[:, None])
    x = bits(3)
    exact = [oracle.logsumexp(joint[(s[:, 2:] == row).all(1)]) for row in x]
    np.testing.assert_allclose(sbn.evidence(torch.tensor(x).float()).values, exact, atol=1e-5)


def test_autoregressive_bits_are_normalised_and_drawn_as_scored():
    torch.manual_seed(2)
    layer = dgm.AutoregressiveBits(torch.randn(2, 4), torch.randn(4, 4))
    states = torch.tensor(bits(4)).float()
    log_p = layer.log_prob(states.unsqueeze(1))
    torch.testing.assert_close(log_p.logsumexp(0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(layer.table(states), log_p)
    independent = dgm.AutoregressiveBits(torch.randn(2, 4))
    torch.testing.assert_close(independent.table(states), independent.log_prob(states.unsqueeze(1)))
    n = 20_000
    for row, drawn in enumerate(layer.sample((n,)).transpose(0, 1)):
        found = np.bincount((drawn.numpy() @ np.array([8, 4, 2, 1])).astype(int), minlength=16) / n
        p = log_p[:, row].exp().numpy().astype(float)
        assert 0.5 * abs(found - p).sum() < oracle.total_variation_bound(p, n)
    assert layer.expand((3, 2)).sample().shape == (3, 2, 4)
    with pytest.raises(NotImplementedError, match="average draws"):
        _ = layer.mean
    torch.testing.assert_close(dgm.AutoregressiveBits(torch.zeros(3)).mean, torch.full((3,), 0.5))


@pytest.mark.parametrize("kind", ["rws", "wake-sleep", "vimco", "nvil", "bihm"])
def test_training_nears_the_best_likelihood(kind):
    """Three patterns of six bits with noise: from about -3.9 nats most of the way to the data's own entropy."""
    torch.manual_seed(3)
    patterns = torch.tensor([[1.0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1], [1, 0, 1, 0, 1, 0]])
    x = patterns[torch.randint(0, 3, (600,))]
    x = torch.where(torch.rand_like(x) < 0.05, 1 - x, x)
    sbn = dgm.SBN(6, hidden=(4,))
    sbn.initialise(x)
    before = float(sbn.evidence(x).values.mean())
    options = {"wake-sleep": {}, "nvil": {"particles": 1, "hidden": 10}}.get(kind, {"particles": 5})
    objective = sbn.objective(kind, **options)
    dgm.fit(sbn, x, objective=objective, epochs=20, batch_size=20, learning_rate=0.03, progress=False)
    after = float(sbn.evidence(x).values.mean())
    p = 0.05
    noise = -6 * (p * np.log(p) + (1 - p) * np.log(1 - p))
    best = -(np.log(3) + noise)
    # Short training: most of the way is asked, not all.
    # 600 rows may be easier than the source: 0.2 is three standard errors (0.064).
    assert after > before + 0.6 * (best - before)
    assert after < best + 0.2


@pytest.mark.parametrize(
    ("options", "message"),
    [({"hidden": ()}, "every latent"), ({"hidden": 3}, "every latent"), ({"hidden": (0,)}, "every")],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        dgm.SBN(5, **options)


def test_too_many_states():
    sbn = dgm.SBN(5, hidden=(20,))
    with pytest.raises(ValueError, match="method='importance'"):
        sbn.evidence(torch.zeros(2, 5), "exact")


def test_grey_levels_and_unknown_estimators():
    sbn, x = dgm.SBN.example()
    with pytest.raises(ValueError, match="binarisation"):
        dgm.fit(sbn, x * 0.5)
    with pytest.raises(ValueError, match="vimco"):
        sbn.objective("adam")
    for kind, option in (("vimco", {"local": True}), ("rws", {"hidden": 10}), ("wake-sleep", {"particles": 2})):
        with pytest.raises(ValueError, match=f"{next(iter(option))} got .* with kind='{kind}'; .*kind='nvil'"):
            sbn.objective(kind, **option)
    with pytest.raises(ValueError, match="4 x 4"):
        dgm.AutoregressiveBits(torch.zeros(4), torch.zeros(3, 3))


def saul(sbn, x):
    return dgm.SaulBound(list(sbn.weights), list(sbn.biases), x)


def saul_by_numpy(sbn, x, means, xi):
    """The bound from its formula, the expectations over the parents by enumeration of all their states."""
    p = {name: value.detach().numpy() for name, value in sbn.named_parameters()}
    total = 0.0
    layers = [x, *means]
    for below, (mean, above) in enumerate(itertools.pairwise(layers)):
        states = bits(len(above))
        chance = np.prod(np.where(states > 0, above, 1 - above), -1)
        z = p[f"biases.{below}"] + states @ p[f"weights.{below}"].T
        moment = chance @ (np.exp(-xi[below] * z) + np.exp((1 - xi[below]) * z))
        total += ((mean - xi[below]) * (chance @ z) - np.log(moment)).sum()
        total -= (above * np.log(above) + (1 - above) * np.log(1 - above)).sum()
    top = p[f"biases.{len(means)}"]
    return total + (layers[-1] * top - np.logaddexp(0, top)).sum()


def test_saul_bound_by_enumeration_of_its_expectations():
    sbn = example(False).double()
    x = torch.tensor(bits(4))
    bound = saul(sbn, x)
    generator = torch.Generator().manual_seed(3)
    bound.means[1:] = [torch.rand(m.shape, generator=generator, dtype=torch.double) for m in bound.means[1:]]
    bound.xi = [torch.rand(m.shape, generator=generator, dtype=torch.double) for m in bound.means]
    for row, value in enumerate(bound.value()):
        means, xi = [m[row].numpy() for m in bound.means[1:]], [m[row].numpy() for m in bound.xi]
        assert float(value) == pytest.approx(saul_by_numpy(sbn, x[row].numpy(), means, xi), abs=1e-9)


@pytest.mark.parametrize(("hidden", "scale"), [((3,), 0.5), ((5,), 2.0), ((3, 2), 1.0), ((4, 3, 2), 3.0)])
def test_saul_bound_rises_and_stays_below(hidden, scale):
    """In every row: no round lowers it, it gains on its start, and it ends below the exact value."""
    sbn = oracle.randomise(dgm.SBN(4, hidden=hidden), torch.Generator().manual_seed(4), scale).double()
    x = torch.tensor(bits(4))
    bound = saul(sbn, x)
    values = [bound.value()]
    for _ in range(30):
        bound.improve()
        values.append(bound.value())
    values = torch.stack(values)
    assert (values.diff(dim=0) > -1e-10).all()
    assert (values[-1] > values[0] + 1e-3).all()
    assert (values[-1] <= sbn.evidence(x, "exact").values + 1e-9).all()


def test_saul_bound_is_stationary():
    """After many rounds no change of a mean or of xi raises it: its derivatives by autograd are zero."""
    sbn = example(False).double()
    x = torch.tensor(bits(4))[[1, 7, 12]]
    bound = saul(sbn, x)
    for _ in range(400):
        bound.improve()
    variables = [*bound.means[1:], *bound.xi[:-1]]
    for variable in variables:
        variable.requires_grad_()
    for gradient in torch.autograd.grad(bound.value().sum(), variables):
        assert gradient.abs().max() < 1e-5


def test_saul_bound_is_exact_where_nothing_is_coupled():
    sbn = example(False).double()
    with torch.no_grad():
        for weight in sbn.weights:
            weight.zero_()
    x = torch.tensor(bits(4))
    found = sbn.evidence(x, "mean field", rounds=2)
    torch.testing.assert_close(found.values, sbn.evidence(x, "exact").values, atol=1e-9, rtol=0)


def test_the_mean_field_bound_as_evidence():
    sbn, x = dgm.SBN.example()
    exact = dgm.log_likelihood(sbn, x, space="toy", method="exact")
    found = dgm.log_likelihood(sbn, x, space="toy", method="mean field")
    assert found.kind == "lower bound"
    assert "Saul" in found.method
    assert found.stderr_estimator == 0
    assert exact.value - 1 < found.value < exact.value
    alone = torch.cat([sbn.evidence(row[None], "mean field").values for row in x])
    torch.testing.assert_close(alone, sbn.evidence(x, "mean field").values)
    with pytest.raises(ValueError, match="autoregressive"):
        example(True).evidence(x, "mean field")
    with pytest.raises(ValueError, match="rounds"):
        sbn.evidence(x, "mean field", rounds=0)
    with pytest.raises(ValueError, match="no options"):
        sbn.evidence(x, "exact", rounds=2)


@pytest.mark.parametrize(
    "options", [{"method": "saul"}, {"method": "mean field", "particles": 3}, {"method": "exact", "particles": 3}]
)
def test_unknown_methods_and_options_of_evidence_list_the_known_ones(options):
    sbn, x = dgm.SBN.example()
    with pytest.raises(ValueError, match=r"SBN has method='exact' with no options; .*method='mean field' with rounds"):
        dgm.log_likelihood(sbn, x, **options)
    assert dgm.log_likelihood(sbn, x, particles=3).method == "importance-weighted lower bound, K=3"
