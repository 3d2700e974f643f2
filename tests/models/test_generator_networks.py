"""Generator networks with an explicit density: closed forms, quadrature, samples against densities."""

import numpy as np
import pyro
import pytest
import scipy.stats
import torch
from pyro.infer import Trace_ELBO

import pyro_dgm as dgm


def test_affine_noise_is_a_multivariate_normal():
    model, x = dgm.AffineGenerator.example()
    L = np.tril(model.factor.detach().numpy(), -1) + np.diag(np.exp(model.log_diagonal.detach().numpy()))
    exact = scipy.stats.multivariate_normal(model.mean.detach().numpy(), L @ L.T).logpdf(x.numpy())
    np.testing.assert_allclose(model.evidence(x).values, exact, atol=1e-4)


def test_affine_starts_at_the_maximum_of_the_likelihood():
    """Mean and covariance of the rows: the gradient of the likelihood vanishes there."""
    torch.manual_seed(0)
    x = torch.randn(200, 3) @ torch.randn(3, 3) + 1.0
    model = dgm.AffineGenerator(3)
    model.initialise(x)
    model().log_prob(x).mean().backward()
    assert max(float(p.grad.tril().abs().max()) if p.dim() == 2 else float(p.grad.abs().max())
               for p in model.parameters()) < 1e-4  # fmt: skip
    flat = dgm.AffineGenerator(3)
    flat.initialise(torch.ones(5, 3))  # no covariance at all
    assert torch.isfinite(flat().log_prob(torch.ones(3)))


def test_affine_with_a_constant_column_starts_soundly_and_trains():
    """A constant column has a hundredth of the others' mean variance; a copy of a column widens all by a hundredth."""
    torch.manual_seed(0)
    x = torch.randn(200, 3) * torch.tensor([1.0, 2.0, 1.0]) + 1e4
    x[:, 2] = 7.0
    model = dgm.AffineGenerator(3)
    model.initialise(x)
    covariance = model().base_dist.sample().new_tensor(np.cov(x[:, :2].double().numpy().T, bias=True))
    factor = model.factor.tril(-1) + model.log_diagonal.exp().diag()
    found = (factor @ factor.T).detach()
    torch.testing.assert_close(found[:2, :2], covariance, rtol=1e-3, atol=1e-3)
    assert float(found[2, 2]) == pytest.approx(0.01 * float(covariance.diagonal().mean()), rel=1e-3)
    dgm.fit(model, x, epochs=3, progress=False)
    assert all(bool(p.isfinite().all()) for p in model.parameters())
    twice = x[:, [0, 1, 0]]
    model = dgm.AffineGenerator(3)
    model.initialise(twice)
    assert float(model.log_diagonal.exp().min()) > 0.05


def test_affine_imputes_the_conditional_mean():
    torch.manual_seed(1)
    model, _ = dgm.AffineGenerator.example()
    L = np.tril(model.factor.detach().numpy(), -1) + np.diag(np.exp(model.log_diagonal.detach().numpy()))
    C, mu = L @ L.T, model.mean.detach().numpy()
    x = torch.tensor([[0.5, 0.0, -0.3]]).repeat(500, 1)
    known = torch.tensor([True, False, True])
    seen = [0, 2]
    weights = C[1, seen] @ np.linalg.inv(C[np.ix_(seen, seen)])
    expected = mu[1] + weights @ (x[0, seen].numpy() - mu[seen])
    found = model.impute(x, known, draws=200)
    assert torch.equal(found[:, seen], x[:, seen])
    stderr = float(found[:, 1].std()) / 500**0.5  # of 500 independent chains
    assert abs(float(found[:, 1].mean()) - expected) < 6 * stderr
    assert 6 * stderr < 0.1


def test_histogram_density_by_quadrature_and_samples():
    torch.manual_seed(2)
    model, _ = dgm.InverseTransform.example()
    model.initialise(torch.randn(500, 2) ** 3)
    mass = torch.softmax(model.logits, -1).detach()
    drawn = model.sample(20_000)
    for column in range(2):
        found = np.histogram(drawn[:, column], bins=model.knots[column].double().numpy())[0] / 20_000
        # Five standard errors of a share.
        assert (abs(found - mass[column].numpy()) < 5 * (0.25 / 20_000) ** 0.5).all()
    one = dgm.InverseTransform(1, bins=5)
    with torch.no_grad():
        one.logits.copy_(torch.randn(1, 5))
    inside = torch.linspace(0.0005, 0.9995, 1000).unsqueeze(1)
    assert float(one().log_prob(inside).exp().mean().detach()) == pytest.approx(0.998, abs=1e-3)
    # With both tails: the whole mass.
    wide = torch.linspace(-12, 13, 100_001).unsqueeze(1)
    assert float(one().log_prob(wide).exp().mean().detach()) * 25 == pytest.approx(1.0, abs=1e-3)


def test_histogram_fits_by_maximum_likelihood():
    """The masses of the best histogram are the shares of the rows in its bins."""
    torch.manual_seed(3)
    x = torch.rand(1000, 1) ** 2
    model = dgm.InverseTransform(1, bins=4)
    model.fresh = False  # keep the even knots
    dgm.fit(model, x, epochs=60, batch_size=1000, learning_rate=0.1, progress=False)
    shares = np.histogram(x[:900, 0], bins=4, range=(0, 1))[0] / 900
    np.testing.assert_allclose(torch.softmax(model.logits, -1).detach()[0], shares, atol=0.02)


def test_flow_density_by_the_jacobian_of_its_own_map():
    """(20.72-73) with the determinant by automatic differentiation of g."""
    model, x = dgm.FlowGenerator.example()
    flow = model()

    def g(z):
        for transform in flow.transforms:
            z = transform(z)
        return z

    z = torch.randn(5, 3)
    for row in z:
        log_det = torch.linalg.slogdet(torch.autograd.functional.jacobian(g, row))[1]
        expected = torch.distributions.Normal(0.0, 1.0).log_prob(row).sum() - log_det
        torch.testing.assert_close(flow.log_prob(g(row)), expected, atol=1e-4, rtol=1e-4)
    assert model.evidence(x).kind == "exact"


def test_flow_learns_what_no_gaussian_can():
    torch.manual_seed(4)
    side = torch.randint(0, 2, (2000, 1)).float() * 2 - 1
    x = torch.cat([1.5 * side, side.neg()], 1) + 0.3 * torch.randn(2000, 2)
    gaussian, flow = dgm.AffineGenerator(2), dgm.FlowGenerator(2, layers=4, hidden=(16,))
    gaussian.initialise(x)
    dgm.fit(flow, x, epochs=15, batch_size=100, learning_rate=0.01, progress=False)
    assert float(flow.evidence(x).values.mean()) > float(gaussian.evidence(x).values.mean()) + 0.2


def test_supervised_generator_scores_rows_given_codes():
    model, x = dgm.SupervisedGenerator.example()
    logits = model.network(x[:, 3:]).detach().double().numpy()
    bits = x[:, :3].double().numpy()
    exact = (bits * logits - np.logaddexp(0, logits)).sum(1)
    np.testing.assert_allclose(model.evidence(x).values, exact, atol=1e-5)
    known = torch.tensor([True, False, False, True, True])
    torch.testing.assert_close(model.impute(x, known)[:, 1:3], model.decode(x[:, 3:])[:, 1:])


def test_supervised_generator_learns_a_drawing():
    """A bar at the place that the code names: after training its picture is drawn from an unseen code."""
    torch.manual_seed(5)
    codes = torch.rand(500, 1)
    places = torch.linspace(0, 1, 10)
    x = ((places - codes).abs() < 0.15).float()
    model = dgm.SupervisedGenerator(10, 1, hidden=(32,))
    dgm.fit(model, torch.cat([x, codes], 1), epochs=40, batch_size=50, learning_rate=0.02, progress=False)
    drawn = model.decode(torch.tensor([[0.5]]))[0] > 0.5
    assert drawn[[4, 5]].all()
    assert not drawn[[0, 1, 8, 9]].any()
    assert model.sample(2, torch.tensor([[0.1], [0.9]])).shape == (2, 11)


@pytest.mark.parametrize(
    ("make", "message"),
    [(lambda: dgm.AffineGenerator(0), "at least 1"), (lambda: dgm.InverseTransform(1, bins=0), "bins"),
     (lambda: dgm.FlowGenerator(1), "at least 2"), (lambda: dgm.FlowGenerator(3, layers=0), "at least 1"),
     (lambda: dgm.FlowGenerator(3, hidden=()), r"hidden got \(\); expected the units of every hidden layer"),
     (lambda: dgm.SupervisedGenerator(3, 0), "at least 1"), (lambda: dgm.SupervisedGenerator(3, 1, output="t"), "one of"),
     (lambda: dgm.AffineGenerator(2).evidence(torch.zeros(1, 2), "ais"), "exact"),
     (lambda: dgm.AffineGenerator(2).impute(torch.zeros(1, 2), torch.tensor([True, False]), draws=1), "at least 2")],
)  # fmt: skip
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_rows_outside_the_histogram_do_not_stop_training():
    torch.manual_seed(6)
    model = dgm.InverseTransform(20)
    run = dgm.fit(model, torch.randn(1000, 20), epochs=2, progress=False)
    assert torch.isfinite(torch.tensor(run.history[-1]["valid_log_likelihood"]))


@pytest.mark.parametrize("cls", [dgm.InverseTransform, dgm.SupervisedGenerator])
def test_vectorised_particles(cls):
    model, x = cls.example()
    single = Trace_ELBO(max_plate_nesting=1).loss(model.model, model.guide, x)
    many = Trace_ELBO(num_particles=4, vectorize_particles=True, max_plate_nesting=1).loss(model.model, model.guide, x)
    assert many == pytest.approx(single, rel=1e-5)


def test_imputing_for_long_keeps_its_numbers():
    model, x = dgm.AffineGenerator.example()
    known = torch.ones_like(x, dtype=torch.bool)
    known[0, 0] = False
    assert torch.isfinite(model.impute(x, known, draws=2000)).all()


def test_an_unknown_code_is_inferred_from_what_is_known():
    """One code, one seen bit of three: means of code and bits by quadrature."""
    torch.manual_seed(7)
    model = dgm.SupervisedGenerator(3, 1, hidden=(4,))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    grid = torch.linspace(-6, 6, 4001).unsqueeze(1)
    with torch.no_grad():
        p = model.decode(grid)
        weight = p[:, 0] * torch.exp(-0.5 * grid[:, 0] ** 2)
        expected = (weight.unsqueeze(1) * torch.cat([p, grid], 1)).sum(0) / weight.sum()
    rows = torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(300, 1)
    found = model.impute(rows, torch.tensor([True, False, False, False]), draws=200)
    stderr = found.std(0) / 300**0.5  # of 300 independent chains
    assert ((found.mean(0) - expected)[1:].abs() < 6 * stderr[1:]).all()
    assert (6 * stderr[1:] < 0.15).all()


def test_nan_has_no_density():
    """NaN is outside the support with validation, and NaN without it; complex rows are refused."""
    model, x = dgm.InverseTransform.example()
    bad = x.clone()
    bad[1, 0] = float("nan")
    with pytest.raises(ValueError, match="within the support"):
        model().log_prob(bad)
    with pyro.validation_enabled(False):
        found = model().log_prob(bad).isnan()
    assert found.tolist() == [False, True] + [False] * (len(x) - 2)


@pytest.mark.parametrize("cls", [dgm.RBM, dgm.NADE])
def test_complex_rows_are_refused(cls):
    model, x = cls.example()
    with pytest.raises(ValueError, match="got complex numbers"):
        model().log_prob(x.to(torch.complex64))
