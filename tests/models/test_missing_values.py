"""Rows with missing values: losses and evidence against sums over what is missing, training, and refusals."""

import itertools
import math

import pyro.distributions as dist
import pytest
import torch
from oracles import boltzmann as oracle

import pyro_dgm as dgm
from pyro_dgm.objectives.criteria.order_agnostic import random_subsets, subset_loss

NAN = math.nan


def test_a_vaes_weights_are_those_of_the_known_columns():
    """Their mean against quadrature over the one latent, with the missing columns left out of the product."""
    torch.manual_seed(0)
    vae = oracle.randomise(dgm.VAE(4, latent=1, hidden=(3,)), torch.Generator().manual_seed(1), 0.7)
    x = torch.tensor([[1.0, NAN, 0, 1], [NAN, NAN, NAN, 1], [0, 1, 1, 0], [NAN, NAN, NAN, NAN]])
    grid = torch.linspace(-8, 8, 2001).unsqueeze(1)
    with torch.no_grad():
        columns = dist.Bernoulli(logits=vae.decoder(grid)).log_prob(x.nan_to_num().unsqueeze(1))
        joint = torch.where(x.isnan().unsqueeze(1), 0.0, columns).sum(-1) + dist.Normal(0.0, 1.0).log_prob(grid[:, 0])
    exact = (joint.double().exp().sum(1) * 0.008).log()
    weights = dgm.log_weights(vae.model, vae.guide, x, particles=20_000).detach().double().exp()
    error = weights.std(0) / 20_000**0.5
    assert ((weights.mean(0) - exact.exp()).abs() < 5 * error + 1e-6).all()
    torch.testing.assert_close(weights[:, 3].mean().log(), torch.zeros(()).double(), atol=0.05, rtol=0)


@pytest.mark.parametrize("output", ["gaussian", "logistic"])
def test_the_loss_of_other_columns_leaves_the_missing_ones_out(output):
    torch.manual_seed(0)
    vae = dgm.VAE(3, latent=2, hidden=(4,), output=output, levels=5 if output == "logistic" else None)
    with torch.no_grad():
        vae.decoder[0].weight.zero_()  # the code has no influence: the reconstruction is known
    x = torch.tensor([[0.25, NAN, 0.5], [NAN, 1.0, 0.0]])
    objective = vae.objective()
    objective.attach(vae)
    observed = ~x.isnan()
    columns = vae.columns(vae.decoder(torch.zeros(2, 2))).log_prob(x.nan_to_num())
    q = vae.encode(x)
    kl = torch.distributions.kl_divergence(q, dist.Normal(torch.zeros(2, 2), 1.0).to_event(1))
    torch.testing.assert_close(objective.loss(x), (kl - torch.where(observed, columns, 0.0).sum(1)).mean())
    assert q.mean.isfinite().all()


def orders_of_known(model, row):
    """Minus the log-likelihood of a row's known columns, averaged over all orders of them, by one column after another."""
    there = (~row.isnan()).nonzero().flatten().tolist()
    filled, total, count = row.nan_to_num().unsqueeze(0), 0.0, 0
    for order in itertools.permutations(there):
        known = torch.zeros(1, len(row), dtype=torch.bool)
        for column in order:
            total -= float(model.column_log_probs(filled, known)[-1, 0, column])
            known = known.clone()
            known[0, column] = True
        count += 1
    return total / count


def orderless():
    return oracle.randomise(dgm.OrderlessNADE(4, (6,), orders=24), torch.Generator().manual_seed(2), 1.0)


def test_the_order_agnostic_loss_is_the_mean_over_orders_of_the_known_columns():
    model, row = orderless(), torch.tensor([1.0, NAN, 0.0, 1.0])
    there, losses = [0, 2, 3], []
    for size in range(3):  # the number of known columns is uniform, and so is the subset given its size
        subsets = list(itertools.combinations(there, size))
        by_subset = []
        for subset in subsets:
            known = torch.zeros(1, 4, dtype=torch.bool)
            known[0, list(subset)] = True
            by_subset.append(float(subset_loss(model, row.unsqueeze(0), known).detach()))
        losses.append(sum(by_subset) / len(subsets))
    assert sum(losses) / 3 == pytest.approx(orders_of_known(model, row), rel=1e-5)


def test_masks_of_rows_with_missing_values():
    torch.manual_seed(0)
    observed = torch.tensor([True, False, True, True])
    known = random_subsets(30_000, 4, observed=observed.expand(30_000, 4)) & observed
    sizes = known.sum(1).bincount(minlength=4) / 30_000
    assert float(sizes[3]) == 0
    # Six standard errors of a share of one third; stratified shares vary less.
    assert (sizes[:3] - 1 / 3).abs().max() < 6 * (2 / 9 / 30_000) ** 0.5
    assert random_subsets(5, 3, observed=torch.zeros(5, 3, dtype=torch.bool)).shape == (5, 3)


def test_evidence_of_the_known_columns_of_an_orderless_model():
    model = orderless()
    x = torch.tensor([[1.0, NAN, 0.0, 1.0], [1.0, 1.0, 0.0, NAN], [0.0, 1.0, 1.0, 0.0]])
    found = model.evidence(x, orders=3).values
    by_hand = []
    for row in x:
        likelihoods = []
        for network in model._networks(3):
            known, total = torch.zeros(1, 4, dtype=torch.bool), 0.0
            for column in network.order.tolist():
                if row[column].isnan():
                    continue
                total += float(model.column_log_probs(row.nan_to_num().unsqueeze(0), known)[-1, 0, column])
                known[0, column] = True
            likelihoods.append(math.exp(total))
        by_hand.append(math.log(sum(likelihoods) / 3))
    torch.testing.assert_close(found, torch.tensor(by_hand))
    torch.testing.assert_close(found[2:], model.evidence(x[2:], orders=3).values)


MODELS = {
    "vae": lambda: dgm.VAE(4, latent=2, hidden=(8,)),
    "gaussian": lambda: dgm.VAE(4, latent=2, hidden=(8,), output="gaussian"),
    "hierarchical": lambda: dgm.HierarchicalVAE(4, latent=(2, 2), hidden=(8, 4)),
    "orderless": lambda: dgm.OrderlessNADE(4, (12,)),
    "nade-k": lambda: dgm.NADEk(4, (8,), k=2),
    "mixed": lambda: dgm.OrderlessNADE(4, (12,), output=["binary", "gaussian", "categorical:2", "binary"]),
}


@pytest.mark.parametrize("name", MODELS)
def test_training_on_incomplete_rows(name):
    """All columns are copies of one fair coin, a third of the values missing: log 2 a row whatever is missing."""
    torch.manual_seed(0)
    x = torch.randint(0, 2, (300, 1)).float().expand(300, 4).clone()
    if name == "gaussian":
        x = 5 * x + 0.5 * torch.randn(300, 4) + 100
    complete = x.clone()
    holes = torch.rand(300, 4) < 1 / 3
    holes[holes.all(1), 0] = False
    x[holes] = NAN
    model = MODELS[name]()
    history = dgm.fit(model, x, epochs=20, batch_size=20, learning_rate=0.02, progress=False).history
    losses = [row["loss"] for row in history]
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[-1] < losses[0] - 0.3
    known = torch.tensor([True, False, False, True])
    if name != "gaussian":
        filled = model.impute(complete[:20], known, draws=100)
        assert ((filled - complete[:20]).abs() < 0.5).float().mean() > 0.9


def test_draws_weights_are_those_of_the_known_columns():
    """The mean weight of a row without one bit is the sum of those with it off and on, up to errors of the means."""
    model, x = dgm.DRAW.example()
    x = x[:2].repeat(3, 1)
    x[0:2, 3], x[2:4, 3], x[4:6, 3] = NAN, 0.0, 1.0
    torch.manual_seed(0)
    with torch.no_grad():
        weights = dgm.log_weights(model.model, model.guide, x, particles=20_000).double()
    weights = (weights - weights.max()).exp()
    missing, off, on = weights.mean(0).split(2)
    error = (weights.var(0) / len(weights)).view(3, 2).sum(0).sqrt()
    assert ((missing - off - on).abs() < 5 * error).all()
    assert (5 * error < 0.3 * missing).all()
    x[0] = NAN
    with pytest.raises(ValueError, match="NaN alone in row 0"):
        dgm.fit(model, x, epochs=1, progress=False)
    run = dgm.fit(model, x[1:], epochs=2, progress=False)
    assert all(math.isfinite(row["loss"]) for row in run.history)


@pytest.mark.parametrize(("cls", "width"), [(dgm.AffineGenerator, 3), (dgm.InverseTransform, 2)])
def test_explicit_densities_of_known_columns(cls, width):
    """Against the trapezoidal rule over the one missing column, and trained where all rows miss something."""
    model, x = cls.example()
    x = x.clone()
    x[:, 1] = NAN
    grid = torch.linspace(-40, 40, 80_001)
    rows = x[:5].unsqueeze(1).repeat(1, len(grid), 1)
    rows[:, :, 1] = grid
    with torch.no_grad():
        whole = model().log_prob(rows).double().exp().sum(1).mul(0.001).log()
    found = model.evidence(x).values
    torch.testing.assert_close(found[:5].double(), whole, atol=1e-3, rtol=0)
    torch.manual_seed(0)
    data = torch.randn(400, 1) * 2 + 0.3 * torch.randn(400, width) + 5
    full = cls(width)
    dgm.fit(full, data, epochs=5, progress=False)
    holes = torch.where((torch.rand(400, width) < 0.3) & (torch.arange(width) > 0), NAN, data)
    model = cls(width)
    run = dgm.fit(model, holes, epochs=40, learning_rate=0.02, batch_size=50, progress=False)
    # The closed form for rows that are filled column by column has too weak correlations, which training must mend.
    assert run.history[-1]["loss"] < run.history[0]["loss"] + 0.01
    assert dgm.log_likelihood(full, data).value - dgm.log_likelihood(model, data).value < 0.15


def test_evidence_says_that_values_are_missing():
    vae, x = dgm.VAE.example()
    whole = dgm.log_likelihood(vae, x, space="toy", particles=5)
    x[0, 0] = NAN
    holes = dgm.log_likelihood(vae, x, space="toy", particles=5)
    assert "of the values missing" in str(holes)
    with pytest.raises(ValueError, match="different spaces"):
        whole - holes


@pytest.mark.parametrize("cls", [dgm.FlowGenerator, dgm.NADE, dgm.MADE, dgm.SBN, dgm.S3C, dgm.ConditionalVAE])
def test_models_that_cannot_sum_missing_values_out_say_so(cls):
    model, x = cls.example()
    x = x.repeat(2, 1)
    x[3, -1] = NAN
    message = (
        "labels that are not one-hot"
        if cls is dgm.ConditionalVAE
        else "cannot sum missing values out of its likelihood"
    )
    with pytest.raises(ValueError, match=message):
        dgm.fit(model, x, epochs=1, progress=False)
