"""Mean-covariance RBMs and products of t against enumeration, quadrature and mixtures of Gaussians."""

import inspect
import itertools
import math

import numpy as np
import pytest
import torch
from oracles import boltzmann as oracle
from pyro.infer import SVI, Predictive, Trace_ELBO
from pyro.optim import SGD
from scipy import integrate, special

import pyro_dgm as dgm
from pyro_dgm import registry

NAMES = ["meancovariancerbm", "covariancerbm", "productoft", "meanproductoft"]
MODELS = pytest.mark.parametrize("name", NAMES)


def small(name, visible=2):
    """A model of two visible units in double precision, with parameters of order one."""
    generator = torch.Generator().manual_seed(NAMES.index(name))
    cls = registry.model(name)
    sizes = {"covariance": 3} | ({"mean": 2} if "mean" in inspect.signature(cls).parameters else {})
    model = oracle.randomise(cls(visible, **sizes).double(), generator)
    if isinstance(model, dgm.ProductOfT):
        with torch.no_grad():
            model.log_degrees += 1.5  # with hardly any degrees of freedom no simulation has a variance
    return model


def numbers(model):
    return {name: p.detach().numpy() for name, p in model.named_parameters()}


def shapes(model):
    """The gamma units' shapes, from the stored parameters."""
    own = numbers(model)
    return np.exp(own["log_shape"]) if "log_shape" in own else (1 + np.exp(own["log_degrees"])) / 2


def energy(model, x, mean, covariance):
    """Equations 20.43-49 for one state, term by term."""
    own, total = numbers(model), 0.0
    if not isinstance(model, dgm.ProductOfT):
        total += 0.5 * sum(x * x)
    for j, h in enumerate(mean):
        total -= h * (x @ own["weight"][:, j]) + own["mean_bias"][j] * h
    for j, h in enumerate(covariance):
        square = 0.5 * (x @ own["factor"][:, j]) ** 2
        if "covariance_bias" in own:
            total += h * square - own["covariance_bias"][j] * h
        else:
            total += h * (1 + square) + (1 - shapes(model)[j]) * np.log(h)
    return total


def means(model):
    return list(itertools.product((0.0, 1.0), repeat=getattr(model, "mean", 0)))


def state(model, x, mean, covariance):
    tensors = {"visible": x, "mean": mean, "covariance": covariance}
    return {k: torch.as_tensor(np.asarray(v)) for k, v in tensors.items() if k != "mean" or hasattr(model, "mean")}


def grid(width=12.0, points=481):
    """Points of the plane and the log of the area each stands for."""
    axis = torch.linspace(-width, width, points, dtype=torch.float64)
    return torch.cartesian_prod(axis, axis), 2 * math.log(float(axis[1] - axis[0]))


def log_z(model):
    """Log Z by quadrature over the plane, differentiable; heavy tails by the substitution x = sinh(u)."""
    axis = torch.linspace(-7.0, 7.0, 701, dtype=torch.float64)
    u = torch.cartesian_prod(axis, axis)
    return torch.logsumexp(u.cosh().log().sum(-1) - model().free_energy(u.sinh()), 0) + 2 * math.log(axis[1] - axis[0])


@MODELS
class TestMathematics:
    def test_energy(self, name):
        model, random = small(name), np.random.default_rng(0)
        for _ in range(5):
            x, mean, covariance = random.normal(size=2), random.integers(0, 2, 2), random.uniform(0.1, 2, 3)
            mean = mean[: getattr(model, "mean", 0)].astype(float)
            found = model().energy(state(model, x, mean, covariance))
            assert float(found.detach()) == pytest.approx(energy(model, x, mean, covariance), rel=1e-10)

    def test_free_energy(self, name):
        """Sums over binary units; integrals over gamma units, which are independent given x."""
        model = small(name)
        for x in np.random.default_rng(1).normal(size=(4, 2)):
            if "covariance_bias" in numbers(model):
                terms = [-energy(model, x, m, c) for m in means(model) for c in itertools.product((0.0, 1.0), repeat=3)]
                expected = -oracle.logsumexp(terms)
            else:
                one = np.ones(3)
                expected = -oracle.logsumexp([-energy(model, x, m, one) for m in means(model)])
                for j in range(3):

                    def density(h, j=j, x=x, one=one):
                        moved = np.where(np.arange(3) == j, h, 1.0)
                        none = np.zeros(getattr(model, "mean", 0))
                        return np.exp(energy(model, x, none, one) - energy(model, x, none, moved))

                    # The singularity of h^(γ-1) at zero is integrable; quad finds it at an end point.
                    parts = [
                        integrate.quad(density, a, b, epsabs=1e-12, limit=400)[0] for a, b in ((0, 1), (1, np.inf))
                    ]
                    expected -= np.log(sum(parts))
            found = float(model().free_energy(torch.tensor(x)).detach())
            assert found == pytest.approx(expected, abs=1e-6)

    def test_gradient_vanishes_nowhere(self, name):
        """Every parameter takes part in F."""
        model = small(name)
        gradients = torch.autograd.grad(model().free_energy(torch.randn(5, 2).double()).sum(), list(model.parameters()))
        assert all(bool((g != 0).all()) for g in gradients)

    def test_annealing_finds_log_z(self, name):
        model, x = small(name), torch.randn(50, 2).double()
        exact = float(log_z(model).detach())
        found = model.log_partition(x, chains=400, temperatures=60, warmup=60)
        assert float(found.stderr) < 0.05
        assert abs(float(found.value) - exact) < 6 * float(found.stderr)
        assert float(found.lower - 6 * found.stderr_lower) < exact < float(found.upper + 6 * found.stderr_upper)
        one_way = model.evidence(x, chains=20, temperatures=10, reverse=False)
        assert one_way.kind == "estimate"
        assert one_way.lower == -math.inf

    def test_impute_is_the_conditional_mean(self, name):
        model = small(name)
        x = torch.tensor([[0.8, 0.0]] * 40).double()
        filled = model.impute(x, torch.tensor([True, False]), draws=50)
        assert torch.equal(filled[:, 0], x[:, 0])
        u = torch.linspace(-7, 7, 2001, dtype=torch.float64)
        line = torch.stack([torch.full_like(u, 0.8), u.sinh()], 1)
        weights = torch.softmax(u.cosh().log() - model().free_energy(line), 0).detach()
        # Chains are independent, so their spread says how far their mean may be.
        stderr = filled[:, 1].std() / len(x) ** 0.5
        assert stderr < 0.15
        assert abs(float(filled[:, 1].mean() - weights @ line[:, 1])) < 6 * stderr


@MODELS
def test_annealing_is_unbiased_however_coarse(name):
    """E[w] = Z with four steps and two leapfrogs each; the lower end is then far from it."""
    model, x = small(name), torch.randn(50, 2).double()
    exact = float(log_z(model).detach())
    found = model.log_partition(x, chains=40_000, temperatures=5, num_steps=2, reverse=False)
    assert float(found.stderr) < 0.03
    assert abs(float(found.value) - exact) < 6 * float(found.stderr)
    assert float(found.lower) < exact


def test_the_base_of_a_product_of_t_has_the_heavier_tails():
    """Where log p_0 + F falls without bound far out, the last weights have no variance."""
    model = small("productoft")
    base = model.annealing_base(torch.zeros(2).double(), torch.ones(2).double())
    ray = torch.tensor([[0.6, -0.8], [1.0, 0.0], [0.0, 1.0]]).double()
    far = [(base.log_prob(t * ray) + model().free_energy(t * ray)).detach() for t in (1e2, 1e4, 1e6)]
    assert (far[0] < far[1]).all()
    assert (far[1] < far[2]).all()


def test_log_likelihood_says_what_it_knows():
    model, x = small("meancovariancerbm"), torch.randn(20, 2).double()
    figure = dgm.log_likelihood(model, x, space="toy", chains=200, temperatures=150)
    exact = float((-model().free_energy(x) - log_z(model)).mean().detach())
    assert figure.kind == "estimate"
    assert figure.lower <= figure.value <= figure.upper
    assert figure.lower < exact < figure.upper
    assert abs(figure.value - exact) < 6 * figure.stderr_estimator < 0.4


@MODELS
class TestLearning:
    def test_pcd_gradient_at_stationarity(self, name):
        """Six standard errors are 0.05 of the largest entry at most: estimates from 20 blocks reach 0.1 with a chance of 1e-6."""
        model, x = small(name), torch.randn(30, 2).double()
        loss = model().free_energy(x).mean() + log_z(model)
        names = [n for n, _ in model.named_parameters()]
        exact = dict(zip(names, torch.autograd.grad(loss, list(model.parameters())), strict=True))
        phase = model.objective(chains=4000, step_size=0.3, num_steps=8).phase
        svi = SVI(dgm.negative_phase(model.model, phase), model.guide, SGD({"lr": 0.0}), Trace_ELBO())
        blocks = []
        for step in range(24 * 5):
            for parameter in model.parameters():
                parameter.grad = None
            svi.loss_and_grads(svi.model, svi.guide, x)
            gradient = {n: p.grad.detach().clone() / len(x) for n, p in model.named_parameters()}
            if step % 5 == 0:
                blocks.append({n: 0.0 for n in gradient})
            blocks[-1] = {n: blocks[-1][n] + g / 5 for n, g in gradient.items()}
        oracle.meets(blocks[4:], exact, power=0.1)

    def test_training_raises_the_exact_likelihood(self, name):
        covariance = torch.tensor([[1.0, 0.8], [0.8, 1.0]])
        x = torch.randn(500, 2) @ torch.linalg.cholesky(covariance).T
        model = registry.model(name)(2, covariance=4)

        def exact():
            return float((-model.double()().free_energy(x.double()) - log_z(model)).mean().detach())

        before = exact()
        objective = model.float().objective(chains=50, num_steps=8)
        dgm.fit(model, x, objective=objective, epochs=10, batch_size=50, learning_rate=0.03, progress=False)
        assert exact() > before + 0.1

    def test_cd_reaches_every_parameter(self, name):
        model, x = registry.model(name).example()
        objective = model.objective("cd", k=2)
        objective.attach(model)
        objective.loss(x).backward()
        assert all(bool((p.grad != 0).any()) for p in model.parameters())
        with pytest.raises(ValueError, match="kind got"):
            model.objective("exact")

    def test_progress(self, name):
        model, x = registry.model(name).example()
        figures = model.progress(x, x)
        assert figures["free_energy_gap"] == 0
        assert {"score_fit", "valid_score_fit"} <= set(figures)


@MODELS
class TestInterface:
    def test_draws(self, name):
        model, x = registry.model(name).example()
        assert model.sample(4, sweeps=6).shape == (4, 3)
        assert Predictive(model.model, num_samples=1)(None, 5)["x"].shape == (1, 5, 3)
        with pytest.raises(dgm.NegativePhaseError, match="free energy"):
            model().log_prob(x)

    def test_refusals(self, name):
        model, x = registry.model(name).example()
        for bad, message in ((x[:, :2], "expected rows"), (x + torch.nan, "NaN"), (x[:0], "empty")):
            with pytest.raises(ValueError, match=message):
                model.check_data(bad)
        with pytest.raises(ValueError, match="expected 'ais'"):
            model.evidence(x, "exact")
        with pytest.raises(ValueError, match="the state lacks"):
            model().energy({"visible": x})
        with pytest.raises(ValueError, match="at least 1"):
            type(model)(3, covariance=0)
        with torch.no_grad():
            next(model.parameters()).fill_(torch.nan)
        for ask in (lambda: model.sample(2), lambda: model.evidence(x, chains=2)):
            with pytest.raises(ValueError, match=f"{next(model.named_parameters())[0]} (holds nan|has entries)"):
                ask()


def binary(model):
    return [(np.array(m), np.array(c)) for m in means(model) for c in itertools.product((0.0, 1.0), repeat=3)]


class TestMeanCovariance:
    @pytest.mark.parametrize("name", NAMES[:2])
    def test_posterior(self, name):
        model, x = small(name), np.array([0.7, -1.2])
        states = binary(model)
        weights = np.exp([-energy(model, x, m, c) for m, c in states])
        on = model.posterior(torch.tensor(x))
        on = on if isinstance(on, tuple) else (None, on)
        np.testing.assert_allclose(on[1].detach(), weights @ [c for _, c in states] / weights.sum(), rtol=1e-9)
        if on[0] is not None:
            np.testing.assert_allclose(on[0].detach(), weights @ [m for m, _ in states] / weights.sum(), rtol=1e-9)

    @pytest.mark.parametrize("name", NAMES[:2])
    def test_log_z_is_that_of_a_mixture_of_gaussians(self, name):
        """Given the hidden units x is Gaussian, so Z is a sum of 2^(M+N) Gaussian integrals."""
        model, terms = small(name), []
        own = numbers(model)
        for m, c in binary(model):
            precision = np.eye(2) + (own["factor"] * c) @ own["factor"].T
            pull = own["weight"] @ m if len(m) else np.zeros(2)
            bias = own["covariance_bias"] @ c + (own["mean_bias"] @ m if len(m) else 0.0)
            sign, log_det = np.linalg.slogdet(2 * np.pi * np.linalg.inv(precision))
            assert sign == 1
            terms.append(bias + 0.5 * log_det + 0.5 * pull @ np.linalg.solve(precision, pull))
        assert float(log_z(model).detach()) == pytest.approx(oracle.logsumexp(terms), abs=1e-6)

    @pytest.mark.parametrize("name", [NAMES[0], NAMES[3]])
    def test_conditional(self, name):
        """(20.47) against exp(-E) normalised on a grid."""
        model = small(name)
        m, c = np.array([1.0, 0.0]), np.array([1.0, 0.6, 1.4] if name == NAMES[3] else [1.0, 0.0, 1.0])
        points, log_area = grid()
        states = state(model, points, m, c)
        log_density = -model().energy({k: v.expand(len(points), -1) for k, v in states.items()}).detach()
        log_density = log_density - (torch.logsumexp(log_density, 0) + log_area)
        found = model.conditional(torch.tensor(m)[None], torch.tensor(c)[None]).log_prob(points).detach()
        near = points.abs().amax(1) < 4
        torch.testing.assert_close(found[near], log_density[near], atol=1e-6, rtol=1e-6)

    def test_conditional_without_mean_units(self):
        model, c = small("covariancerbm"), np.array([1.0, 0.0, 1.0])
        normal = model.conditional(torch.tensor(c))
        r = numbers(model)["factor"]
        np.testing.assert_allclose(
            normal.covariance_matrix.detach(), np.linalg.inv(np.eye(2) + r[:, :1] @ r[:, :1].T + r[:, 2:] @ r[:, 2:].T)
        )
        assert (normal.mean == 0).all()


class TestProductOfT:
    @pytest.mark.parametrize("name", NAMES[2:])
    def test_posterior_is_the_gamma_of_the_energy(self, name):
        """log p(h | x) + E(x, h) does not depend on h."""
        model, x = small(name), np.array([0.7, -1.2])
        found = model.posterior(torch.tensor(x))
        gamma = found[1] if isinstance(found, tuple) else found
        mean = np.zeros(getattr(model, "mean", 0))
        sums = [
            float(gamma.log_prob(torch.tensor(h)).sum().detach()) + energy(model, x, mean, h)
            for h in np.random.default_rng(3).uniform(0.1, 3, (5, 3))
        ]
        np.testing.assert_allclose(sums, sums[0], rtol=1e-9)

    def test_one_expert_is_a_student_t(self):
        """p(x) of a single expert is a t of 2γ - 1 degrees, in closed form."""
        model = dgm.ProductOfT(1, 1, shape=2.25).double()
        with torch.no_grad():
            model.factor.fill_(1.7)
        nu, r = 2 * 2.25 - 1, 1.7
        x = torch.linspace(-6, 6, 30, dtype=torch.float64)[:, None]
        exact = torch.distributions.StudentT(nu, 0.0, math.sqrt(2 / nu) / r).log_prob(x[:, 0])
        log_norm = 0.5 * math.log(2 * math.pi) - math.log(r) + special.gammaln(1.75)
        torch.testing.assert_close(-model().free_energy(x).detach() - log_norm, exact)

    def test_shapes_are_stored_and_kept_proper(self):
        assert dgm.ProductOfT(2, 3, shape=torch.tensor([0.6, 1.0, 4.0])).shape.tolist() == pytest.approx(
            [0.6, 1.0, 4.0]
        )
        assert dgm.MeanProductOfT(2, 2, 3, shape=0.2).shape.tolist() == pytest.approx([0.2] * 3)
        model = dgm.ProductOfT(2, 3)
        with torch.no_grad():
            model.log_degrees.fill_(-9.0)
        assert (model.shape > 0.5).all()

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: dgm.ProductOfT(3, 2), "fewer than the 3"),
            (lambda: dgm.ProductOfT(2, 3, shape=0.5), r"more than 0\.5"),
            (lambda: dgm.MeanProductOfT(2, 2, 3, shape=0.0), "more than 0"),
            (lambda: dgm.MeanProductOfT(2, 2, 3, shape=torch.ones(2)), "one for each of 3"),
        ],
    )
    def test_shapes_without_a_normaliser_are_refused(self, make, message):
        with pytest.raises(ValueError, match=message):
            make()

    def test_directions_that_do_not_span_are_refused(self):
        model, x = dgm.ProductOfT.example()
        with torch.no_grad():
            model.factor[2] = model.factor[0]
        for ask in (lambda: model.sample(2), lambda: model.log_partition(x)):
            with pytest.raises(ValueError, match="span 2 of 3"):
                ask()


class TestFreeEnergyDistribution:
    def test_expand_shares_and_validates(self):
        scale = torch.tensor(2.0)
        dist = dgm.FreeEnergyDistribution(lambda x: scale * (x**2).sum(-1), (scale,), (3,)).with_log_partition(1.0)
        wide = dist.expand((4,))
        torch.testing.assert_close(wide.log_prob(torch.ones(4, 3)), torch.full((4,), -7.0))
        with pytest.raises(ValueError, match="within the support"):
            wide.log_prob(torch.full((4, 3), torch.nan))
        with pytest.raises(ValueError, match="no sampler"):
            wide.sample()
        assert float(dist.energy({"visible": torch.ones(3)})) == 6

    @pytest.mark.parametrize(("parameters", "shape"), [((), (3,)), ((torch.ones(1),), ())])
    def test_bad_arguments(self, parameters, shape):
        with pytest.raises(ValueError, match="got"):
            dgm.FreeEnergyDistribution(lambda x: x.sum(-1), parameters, shape)


def test_log_partition_of_a_free_energy_says_where_to_find_it():
    model, _ = dgm.MeanCovarianceRBM.example()
    with pytest.raises(ValueError, match=r"model.log_partition\(rows\)"):
        dgm.log_partition(model())
