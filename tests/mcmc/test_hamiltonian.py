"""Hamiltonian and Gibbs-Langevin chains against Gaussians, mixtures, quadrature, NumPy's leapfrog and Pyro's HMC."""

import itertools

import numpy as np
import pytest
import torch
from pyro.infer import HMC as PyroHMC
from pyro.infer import MCMC
from pyro.ops.integrator import velocity_verlet

import pyro_dgm as dgm
from pyro_dgm.mcmc.leapfrog import GradientKernel, leapfrog

N = 8000


def quartic(x):
    return 0.25 * (x**4).sum(-1) + 0.5 * x[..., 0] * x[..., 1]


def quartic_slope(x):
    return x**3 + 0.5 * x[..., ::-1]


def numpy_leapfrog(x, p, step, steps):
    for _ in range(steps):
        half = p - 0.5 * step * quartic_slope(x)
        x = x + step * half
        p = half - 0.5 * step * quartic_slope(x)
    return x, p


class TestLeapfrog:
    x = np.array([[1.0, -0.5], [0.3, 2.0]])
    p = np.array([[0.2, 0.7], [-1.0, 0.1]])

    def test_numpy(self):
        y, q, value = leapfrog(quartic, torch.tensor(self.x), torch.tensor(self.p), 0.13, 9)
        expected = numpy_leapfrog(self.x, self.p, 0.13, 9)
        np.testing.assert_allclose(y, expected[0], rtol=1e-12)
        np.testing.assert_allclose(q, expected[1], rtol=1e-12)
        np.testing.assert_allclose(value, quartic(torch.tensor(expected[0])), rtol=1e-12)

    def test_pyro(self):
        for x, p in zip(self.x, self.p, strict=True):
            z, r, _, _ = velocity_verlet(
                {"x": torch.tensor(x)},
                {"x": torch.tensor(p)},
                lambda z: quartic(z["x"]),
                lambda r: r,
                0.13,
                9,
            )
            y, q, _ = leapfrog(quartic, torch.tensor(x)[None], torch.tensor(p)[None], 0.13, 9)
            torch.testing.assert_close(y[0], z["x"])
            torch.testing.assert_close(q[0], r["x"])

    def test_known_entries_are_constants(self):
        known = torch.tensor([False, True])
        momentum = torch.tensor(self.p).masked_fill(known, 0.0)
        y, q, _ = leapfrog(quartic, torch.tensor(self.x), momentum, 0.13, 9, known)
        fixed = torch.tensor(self.x[:, 1:])
        alone, speed, _ = leapfrog(
            lambda z: quartic(torch.cat([z, fixed], -1)), torch.tensor(self.x[:, :1]), momentum[:, :1], 0.13, 9
        )
        torch.testing.assert_close(y, torch.cat([alone, fixed], -1))
        torch.testing.assert_close(q[:, :1], speed)
        assert (q[:, 1] == 0).all()


MEAN = torch.tensor([1.0, -2.0, 0.5])
COVARIANCE = torch.tensor([[1.0, 0.6, 0.0], [0.6, 0.8, -0.2], [0.0, -0.2, 0.5]])


def gaussian():
    precision = COVARIANCE.inverse()

    def free_energy(x):
        return 0.5 * ((x - MEAN) @ precision * (x - MEAN)).sum(-1)

    return dgm.FreeEnergyDistribution(free_energy, (precision,), (3,))


def excess(x, mean, covariance):
    """The largest deviation of means and covariances of independent Gaussian draws, in standard errors."""
    n = len(x)
    of_mean = (x.mean(0) - mean).abs() / (covariance.diagonal() / n).sqrt()
    variance = (covariance.diagonal()[:, None] * covariance.diagonal() + covariance**2) / n
    of_covariance = (x.T.cov() - covariance).abs() / variance.sqrt()
    return float(torch.cat([of_mean, of_covariance.flatten()]).max())


# 12 entries and a handful of tests: six standard errors are passed by chance once in 10^7.
LIMIT = 6.0


def run(kernel, state, steps):
    for _ in range(steps):
        state = kernel.sample(state)
    return state


class Unchecked(dgm.HMC):
    """Takes every proposal."""

    def _decide(self, log_ratio):
        return torch.ones_like(log_ratio, dtype=torch.bool)


class Joint(dgm.HMC):
    """One decision for all chains."""

    def _decide(self, log_ratio):
        return super()._decide(log_ratio.sum()).expand(log_ratio.shape)


def far(kernel):
    """Chains that all began at one point, after enough proposals at a large step to forget it."""
    torch.manual_seed(5)
    start = torch.tensor([2.0, 0.0, 0.0]).expand(N, 3)
    return run(kernel, {"visible": start}, 80)["visible"]


class TestGaussian:
    options = {"step_size": 0.6, "num_steps": 4, "target_acceptance": None}

    def test_converges_at_a_large_step(self):
        kernel = dgm.HMC(gaussian(), **self.options)
        x = far(kernel)
        assert 0.3 < kernel.diagnostics()["acceptance rate"] < 0.9
        assert excess(x, MEAN, COVARIANCE) < LIMIT

    @pytest.mark.parametrize("wrong", [Unchecked, Joint])
    def test_wrong_decisions_fail(self, wrong):
        assert not excess(far(wrong(gaussian(), **self.options)), MEAN, COVARIANCE) < 2 * LIMIT

    def test_clamped(self):
        known, value = torch.tensor([False, True, False]), torch.tensor([torch.nan, -1.0, torch.nan])
        kernel = dgm.HMC(gaussian(), clamp=(known, value), **self.options)
        x = far(kernel)
        assert (x[:, 1] == -1).all()
        free = [0, 2]
        gain = COVARIANCE[free, 1] / COVARIANCE[1, 1]
        mean = MEAN[free] + gain * (-1 - MEAN[1])
        covariance = COVARIANCE[free][:, free] - gain[:, None] * COVARIANCE[1, free]
        assert excess(x[:, free], mean, covariance) < LIMIT
        assert (kernel.start(4)["visible"][:, 1] == -1).all()

    def test_rows_of_a_batch_shape_decide_apart(self):
        kernel = dgm.HMC(gaussian().expand((2,)), **self.options)
        before = kernel.start(500)["visible"]
        assert before.shape == (500, 2, 3)
        moved = (kernel.sample({"visible": before})["visible"] != before).any(-1)
        assert (moved[:, 0] != moved[:, 1]).any()


def test_pyros_hmc_agrees():
    """Means and second moments of a non-Gaussian density, Pyro's chain cut into blocks for its standard error."""
    one = torch.ones(1, dtype=torch.float64)
    dist = dgm.FreeEnergyDistribution(lambda x: one * quartic(x), (one,), (2,))
    kernel = dgm.HMC(dist, 0.4, 5, target_acceptance=None)
    ours = run(kernel, kernel.start(4000), 40)["visible"]
    pyros = MCMC(
        PyroHMC(
            potential_fn=lambda z: quartic(z["x"]),
            step_size=0.4,
            num_steps=5,
            adapt_step_size=False,
            adapt_mass_matrix=False,
        ),
        num_samples=1500,
        warmup_steps=50,
        initial_params={"x": torch.zeros(2, dtype=torch.float64)},
        disable_progbar=True,
    )
    pyros.run()

    def moments(x):
        return torch.cat([x, x**2, x[:, :1] * x[:, 1:]], 1)

    theirs = torch.stack([block.mean(0) for block in moments(pyros.get_samples()["x"]).split(75)])
    mine = moments(ours)
    stderr = (theirs.var(0) / len(theirs) + mine.var(0) / len(mine)).sqrt()
    assert stderr.max() < 0.05
    assert ((mine.mean(0) - theirs.mean(0)).abs() < 6 * stderr).all()
    grid = torch.linspace(-5, 5, 401, dtype=torch.float64)
    points = torch.cartesian_prod(grid, grid)
    exact = torch.softmax(-quartic(points), 0) @ moments(points)
    assert ((mine.mean(0) - exact).abs() < 6 * mine.std(0) / len(mine) ** 0.5).all()


class TestStepSize:
    @pytest.mark.parametrize("first", [1e-3, 30.0])
    def test_warm_up_finds_it_and_keeps_it(self, first):
        kernel = dgm.HMC(gaussian(), first, 5, target_acceptance=0.8)
        mcmc = dgm.VectorizedMCMC(kernel, 60, 150, num_chains=100, disable_progbar=True)
        mcmc.run()
        found = mcmc.diagnostics()
        assert abs(found["acceptance rate"]["chain 0"] - 0.8) < 0.05
        assert found["lowest acceptance rate"]["chain 0"] > 0.3
        kept = kernel.log_step_size().clone()
        kernel.sample(mcmc.last_params)
        assert torch.equal(kernel.log_step_size(), kept)

    def test_it_can_be_fixed(self):
        kernel = dgm.HMC(gaussian(), 0.3, 5, target_acceptance=None)
        dgm.VectorizedMCMC(kernel, 2, 20, num_chains=10, disable_progbar=True).run()
        assert kernel.diagnostics()["step size"] == pytest.approx(0.3)

    def test_a_phase_keeps_what_was_learnt(self):
        model, x = dgm.MeanCovarianceRBM.example()
        phase = dgm.PCD(chains=50, kernel=lambda dist: dgm.HMC(dist, 5.0, 5, target_acceptance=0.9))
        sizes = []
        for _ in range(40):
            phase.terms("x", model(), x)
            sizes.append(float(phase.tuning["x"]["log_step_size"]))
        steps = np.abs(np.diff(sizes))
        assert sizes[-1] < np.log(5.0) - 0.5
        assert steps.max() < 0.05
        assert float(phase.get_extra_state()["tuning"]["x"]["log_step_size"]) == sizes[-1]
        fresh = dgm.PCD(chains=50, kernel=lambda dist: dgm.HMC(dist, 5.0, 5, target_acceptance=0.9))
        fresh.set_extra_state(phase.get_extra_state())
        assert float(fresh.chains_kernel("x", model()).log_step_size()) == sizes[-1]


def test_proposals_that_are_not_finite_are_refused():
    one = torch.ones(1)
    dist = dgm.FreeEnergyDistribution(lambda x: (one * (1 - x**2).log()).sum(-1), (one,), (2,))
    kernel = dgm.HMC(dist, 0.5, 3, target_acceptance=None)
    x = run(kernel, {"visible": torch.zeros(300, 2)}, 20)["visible"]
    assert (x.abs() < 1).all()
    assert (x != 0).any()
    assert len(kernel.diagnostics()["divergences"]) > 100


class Halves(GradientKernel):
    """Every odd chain diverges in every second of its transitions."""

    def start(self, chains):
        return {"visible": torch.zeros(chains, 1)}

    def sample(self, params):
        odd = torch.arange(len(params["visible"])) % 2 == 1
        none = torch.zeros(len(odd))
        self._learn(none, none > 0, ~odd | (self._steps % 2 == 0))
        return {"visible": params["visible"] + torch.randn(len(odd), 1)}

    def scalars(self, params):
        return {"energy": params["visible"][:, 0]}


class TestDivergences:
    one = torch.ones(1)
    dist = dgm.FreeEnergyDistribution(lambda x: (x**2).sum(-1), (one,), (1,))

    def test_by_chain(self, capsys):
        """Transitions of the warm-up are not counted, and a chain has its own alone."""
        mcmc = dgm.VectorizedMCMC(Halves(self.dist, 0.1, 0.6), 6, 9, num_chains=4, disable_progbar=True)
        mcmc.run()
        expected = {f"chain {i}": [1, 3, 5] if i % 2 else [] for i in range(4)}
        assert mcmc.diagnostics()["divergences"] == expected
        assert mcmc.kernel.diagnostics()["divergences"] == [1, 1, 3, 3, 5, 5]
        mcmc.summary()
        assert "Number of divergences: 6" in capsys.readouterr().out

    @pytest.mark.parametrize("kernel", [dgm.HMC, dgm.GibbsLangevin])
    @pytest.mark.parametrize("pyros_own", [True, False])
    def test_summary(self, kernel, pyros_own, capsys):
        torch.manual_seed(0)
        dist, options = dgm.GaussianRBM.example()[0](), {"num_samples": 20, "warmup_steps": 20, "disable_progbar": True}
        mcmc = MCMC(kernel(dist), **options) if pyros_own else dgm.VectorizedMCMC(kernel(dist), num_chains=4, **options)
        mcmc.run()
        mcmc.summary()
        assert "Number of divergences: 0" in capsys.readouterr().out
        assert set(mcmc.diagnostics()["divergences"]) == {f"chain {i}" for i in range(1 if pyros_own else 4)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step_size": 0.0}, "step_size got"),
        ({"num_steps": 0}, "num_steps got"),
        ({"target_acceptance": 1.0}, "target_acceptance got"),
        ({"clamp": {"hidden": (torch.ones(3) > 0, torch.ones(3))}}, "moves only"),
        ({"clamp": (torch.ones(3), torch.ones(3))}, "expected bool"),
        ({"clamp": (torch.ones(2) > 0, torch.ones(3))}, "last dimensions"),
        ({"clamp": (torch.ones(3) > 0, torch.ones(2, 5, 3))}, "at most the dimensions chains"),
        ({"clamp": (torch.ones(3) > 0, torch.full((3,), torch.nan))}, "not finite"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        dgm.HMC(gaussian(), **options)


def test_discrete_units_and_missing_graphs_are_refused():
    with pytest.raises(ValueError, match="real-valued"):
        dgm.HMC(dgm.RBM.example()[0]())
    with pytest.raises(ValueError, match="real-valued"):
        dgm.GibbsLangevin(dgm.RBM.example()[0]())
    with pytest.raises(ValueError, match=r"use dgm\.HMC"):
        dgm.GibbsLangevin(gaussian())


class Mixture:
    """A Gaussian layer under binary units by hand: every hidden state's weight, and x given it."""

    a, b = np.array([0.5, -0.3]), np.array([-0.2, 0.4, 0.1])
    precision = np.array([1.5, 0.8])
    W = np.array([[1.0, -0.6, 0.3], [0.4, 0.9, -0.8]])

    def __init__(self):
        self.h = np.array(list(itertools.product((0.0, 1.0), repeat=3)))
        pull = self.a + self.h @ self.W.T
        self.mean = pull / self.precision
        log_weight = self.h @ self.b + (0.5 * pull**2 / self.precision).sum(1)
        self.p = np.exp(log_weight) / np.exp(log_weight).sum()

    def dist(self):
        graph = dgm.Graph({"visible": dgm.Gaussian(2), "hidden": dgm.Binary(3)}, [dgm.Dense(("visible", 0), "hidden")])
        a, b, precision, W = (torch.tensor(t).float() for t in (self.a, self.b, self.precision, self.W))
        return dgm.BoltzmannDistribution(graph, {"visible": (a, -0.5 * precision), "hidden": (b,)}, (W,))

    def excess(self, state, p=None, entries=(0, 1)):
        """How far chains are from the mixture: for hidden states in total variation, for x in standard errors."""
        p = self.p if p is None else p
        index = (state["hidden"].numpy() @ np.array([4, 2, 1])).astype(int)
        found = np.bincount(index, minlength=8) / len(index)
        tv = 0.5 * np.abs(found - p).sum()
        bound = 0.5 * np.sqrt(p * (1 - p) / N).sum() + np.sqrt(np.log(1e6) / (2 * N))
        z = (state["visible"].numpy() - self.mean[index]) * np.sqrt(self.precision)
        z = z[:, list(entries)]
        # z is standard normal given h: its mean, square and their products with h have known standard errors.
        worst = max(np.abs(z.mean(0)).max() * N**0.5, np.abs((z**2).mean(0) - 1).max() * (N / 2) ** 0.5)
        cross = np.abs(z.T @ self.h[index] / N).max() * N**0.5
        return max(LIMIT * tv / bound, worst, cross)


class EveryProposal(dgm.GibbsLangevin):
    def _decide(self, log_ratio):
        return torch.ones_like(log_ratio, dtype=torch.bool)


class NoProposal(dgm.GibbsLangevin):
    def _decide(self, log_ratio):
        return torch.zeros_like(log_ratio, dtype=torch.bool)


class TestGibbsLangevin:
    exact = Mixture()

    def chains(self, kernel, steps=100):
        torch.manual_seed(8)
        return run(kernel, {"visible": torch.full((N, 2), 2.0), "hidden": torch.ones(N, 3)}, steps)

    def test_converges_to_the_mixture(self):
        kernel = dgm.GibbsLangevin(self.exact.dist(), 1.1, target_acceptance=None)
        state = self.chains(kernel)
        assert 0.4 < kernel.diagnostics()["acceptance rate"] < 0.95
        assert self.exact.excess(state) < LIMIT

    @pytest.mark.parametrize("wrong", [EveryProposal, NoProposal])
    def test_wrong_decisions_fail(self, wrong):
        assert self.exact.excess(self.chains(wrong(self.exact.dist(), 1.1, target_acceptance=None))) > 2 * LIMIT

    def test_clamped(self):
        exact, known = self.exact, torch.tensor([True, False])
        kernel = dgm.GibbsLangevin(exact.dist(), 1.1, clamp=(known, torch.tensor([0.7, 0.0])), target_acceptance=None)
        state = self.chains(kernel)
        assert (state["visible"][:, 0] == 0.7).all()
        density = np.exp(-0.5 * exact.precision[0] * (0.7 - exact.mean[:, 0]) ** 2)
        assert exact.excess(state, exact.p * density / (exact.p * density).sum(), entries=(1,)) < LIMIT
        kernel = dgm.GibbsLangevin(exact.dist(), 1.1, clamp={"hidden": (torch.ones(3) > 0, torch.ones(3))})
        assert (kernel.sample(kernel.start(5))["hidden"] == 1).all()

    def test_runs_under_mcmc_and_reports(self):
        mcmc = dgm.VectorizedMCMC(dgm.GibbsLangevin(self.exact.dist(), 50.0), 20, 100, 50, disable_progbar=True)
        mcmc.run()
        assert 0.4 < mcmc.diagnostics()["acceptance rate"]["chain 3"] < 0.75
        assert set(mcmc.chain_scalars()) == {"energy", "free_energy"}

    def test_is_a_gradient_kernel(self):
        assert issubclass(dgm.GibbsLangevin, GradientKernel)
