"""Block Gibbs leaves the model's distribution where it is, and moves as its transition matrix says."""

import numpy as np
import pytest
import torch
from oracles import boltzmann as oracle

import pyro_dgm as dgm

MACHINES = oracle.machines()
N = 40_000


def joint(state, layers):
    return torch.cat([state[layer] for layer in layers], -1).numpy()


def split(states, model):
    x = torch.as_tensor(states, dtype=torch.float32)
    sizes = {name: unit.shape[0] for name, unit in model().machine.graph.layers.items()}
    return dict(zip(sizes, x.split(list(sizes.values()), -1), strict=True))


def run(kernel, state, sweeps):
    for _ in range(sweeps):
        state = kernel.sample(state)
    return state


def exact_draws(exact, p, n=N, seed=0):
    chosen = np.random.default_rng(seed).choice(len(p), n, p=p / p.sum())
    return exact.states[chosen]


def distance(exact, p, states):
    return 0.5 * np.abs(oracle.frequencies(exact, states) - p).sum()


class Identity(dgm.BlockGibbs):
    def sample(self, params):
        return params


def swapped(model):
    """A kernel whose visible biases are in the wrong order."""
    dist = model()
    biases = {**dist.machine.biases, "visible": (dist.machine.biases["visible"][0].flip(-1),)}
    return dgm.BlockGibbs(dgm.BoltzmannDistribution(dist.machine.graph, biases, dist.machine.weights))


@pytest.mark.parametrize(("name", "model", "exact"), MACHINES, ids=[m[0] for m in MACHINES])
class TestFree:
    def test_stationary(self, name, model, exact):
        kernel = dgm.BlockGibbs(model())
        final = run(kernel, split(exact_draws(exact, exact.p), model), 2)
        layers = list(model().machine.graph.layers)
        assert distance(exact, exact.p, joint(final, layers)) < oracle.total_variation_bound(exact.p, N)

    def test_moves_as_the_transition_matrix(self, name, model, exact):
        start = exact.states[len(exact.states) // 3]
        p = np.linalg.matrix_power(exact.transition(oracle.unit_colours(model)), 2)[len(exact.states) // 3]
        final = run(dgm.BlockGibbs(model()), split(np.tile(start, (N, 1)), model), 2)
        layers = list(model().machine.graph.layers)
        assert distance(exact, p, joint(final, layers)) < oracle.total_variation_bound(p, N)

    def test_transition_matrix_is_stationary(self, name, model, exact):
        T = exact.transition(oracle.unit_colours(model))
        np.testing.assert_allclose(exact.p @ T, exact.p, atol=1e-7)

    def test_clamped(self, name, model, exact):
        layers = list(model().machine.graph.layers)
        known = torch.zeros(exact.visible, dtype=torch.bool)
        known[[0, 2]] = True
        value = torch.full((exact.visible,), float(exact.values[1]))
        agree = (exact.states[:, [0, 2]] == exact.values[1]).all(1)
        p = np.where(agree, exact.p, 0.0)
        p /= p.sum()
        kernel = dgm.BlockGibbs(model(), clamp=(known, value))
        final = run(kernel, split(exact_draws(exact, p), model), 2)
        assert distance(exact, p, joint(final, layers)) < oracle.total_variation_bound(p, N)
        begin = int(np.flatnonzero(agree)[1])
        q = np.linalg.matrix_power(exact.transition(oracle.unit_colours(model), clamped=(0, 2)), 2)[begin]
        final = run(kernel, split(np.tile(exact.states[begin], (N, 1)), model), 2)
        assert distance(exact, q, joint(final, layers)) < oracle.total_variation_bound(q, N)

    def test_wrong_kernels_fail(self, name, model, exact):
        layers = list(model().machine.graph.layers)
        draws = split(exact_draws(exact, exact.p), model)
        assert distance(exact, exact.p, joint(run(swapped(model), draws, 2), layers)) > oracle.total_variation_bound(
            exact.p, N
        )
        p = np.linalg.matrix_power(exact.transition(oracle.unit_colours(model)), 2)[0]
        still = run(Identity(model()), split(np.tile(exact.states[0], (N, 1)), model), 2)
        assert distance(exact, p, joint(still, layers)) > oracle.total_variation_bound(p, N)


def test_start_honours_the_clamp():
    rbm, _ = dgm.RBM.example()
    known = torch.tensor([True, False, True, False, False, False])
    kernel = dgm.BlockGibbs(
        rbm(), clamp={"visible": (known, torch.ones(6)), "hidden": (torch.ones(4) > 0, torch.zeros(4))}
    )
    state = kernel.sample(kernel.start(5))
    assert (state["visible"][:, known] == 1).all()
    assert (state["hidden"] == 0).all()


def test_contexts_have_chains_of_their_own():
    rbm, _ = dgm.RBM.example()
    shift = torch.tensor([[20.0], [-20.0]]).expand(2, 6)
    kernel = dgm.BlockGibbs(rbm(visible_shift=shift))
    state = kernel.sample(kernel.start(7))
    assert state["visible"].shape == (7, 2, 6)
    assert (state["visible"][:, 0] == 1).all()
    assert (state["visible"][:, 1] == 0).all()


@pytest.mark.parametrize(
    ("clamp", "message"),
    [
        ({"hiden": (torch.ones(4) > 0, torch.zeros(4))}, "there are"),
        ((torch.ones(6), torch.ones(6)), "expected bool"),
        ((torch.ones(5) > 0, torch.ones(6)), "last dimensions"),
        ((torch.ones(6) > 0, torch.ones(())), "last dimensions"),
        ((torch.ones(2, 3, 6) > 0, torch.ones(6)), "at most the dimensions chains"),
        ((torch.ones(6) > 0, torch.full((6,), 0.5)), "outside the support"),
        ((torch.ones(3, 6) > 0, torch.zeros(5, 6)), "expected shapes that broadcast"),
        (torch.ones(6) > 0, "clamp got Tensor; expected"),
        ((torch.ones(6) > 0, torch.zeros(6), 1), "got tuple of length 3; expected"),
        ({"visible": torch.zeros(6)}, "the clamp of 'visible' got Tensor; expected"),
    ],
)
def test_bad_clamps(clamp, message):
    with pytest.raises(ValueError, match=message):
        dgm.BlockGibbs(dgm.RBM.example()[0](), clamp=clamp)


@pytest.mark.parametrize("kernel", [dgm.BlockGibbs, dgm.ParallelTempering, dgm.HMC, dgm.GibbsLangevin])
def test_clamps_of_other_numbers_of_chains_are_refused(kernel):
    """A row for each of three chains is no clamp of five, nor of one; a list of mask and value is as good as a pair."""
    real = kernel in (dgm.HMC, dgm.GibbsLangevin)
    dist = dgm.GaussianRBM(6, 4)() if real else dgm.RBM(6, 4)()
    known = torch.arange(6) < 2
    for clamp in ((known.expand(3, 6), torch.ones(6)), [known, torch.ones(3, 6)]):
        chains = kernel(dist, clamp=clamp)
        for number in (5, 1):
            with pytest.raises(
                ValueError, match=rf"of 'visible' has shape \(3, 6\) for {number} chains; expected one for all"
            ):
                chains.start(number)
        mcmc = dgm.VectorizedMCMC(chains, 2, 1, 3, initial_params=chains.start(3), disable_progbar=True)
        mcmc.run()
        assert (mcmc.get_samples()["visible"][:, :2] == 1).all()


def categories():
    graph = dgm.Graph({"visible": dgm.Categorical(2, 3), "hidden": dgm.Binary(2)}, [dgm.Dense("visible", "hidden")])
    biases = {"visible": (torch.zeros(2, 3),), "hidden": (torch.zeros(2),)}
    return dgm.BoltzmannDistribution(graph, biases, (torch.ones(6, 2),))


@pytest.mark.parametrize("engine", ["torch", "compiled"])
def test_an_entry_that_is_not_known_says_nothing(engine):
    """Only the first category is known to be chosen (row 0) or not to be (row 1); what stands elsewhere is no matter.

    With all weights equal and no biases the two categories left of row 1 are a fair coin: 1000 tosses, to six standard errors.
    """
    if engine == "compiled":
        pytest.importorskip("numpyro")
    mask = torch.tensor([[True, False, False]]).expand(2, 3)
    value = torch.tensor([[1.0, 1.0, 1.0], [0.0, 1.0, 1.0]])
    mcmc = dgm.VectorizedMCMC(
        dgm.BlockGibbs(categories(), clamp=(mask, value)), 20, 2, num_chains=50, engine=engine, disable_progbar=True
    )
    mcmc.run()
    drawn = mcmc.get_samples()["visible"]
    assert (drawn.sum(-1) == 1).all()
    assert (drawn[:, 0, 0] == 1).all()
    assert (drawn[:, 1, 0] == 0).all()
    assert abs(float(drawn[:, 1, 1].mean()) - 0.5) < 6 * 0.5 / 1000**0.5


@pytest.mark.parametrize("value", [[[0.0, 0, 0], [1, 0, 0]], [[1.0, 1, 0], [1, 0, 0]]])
def test_a_known_row_holds_one_category(value):
    with pytest.raises(ValueError, match="no category or several"):
        dgm.BlockGibbs(categories(), clamp=(torch.ones(2, 3) > 0, torch.tensor(value)))


def test_a_model_instead_of_its_distribution():
    with pytest.raises(ValueError, match=r"call the model"):
        dgm.BlockGibbs(dgm.RBM.example()[0])


def test_chains_of_an_uncoupled_layer_draw_for_themselves():
    """Bits of a layer that nothing couples: the mean over chains of 2000 fair bits has a standard error of 0.011."""
    graph = dgm.Graph({"visible": dgm.Binary(3), "alone": dgm.Binary(4)}, [])
    machine = dgm.BoltzmannDistribution(graph, {"visible": (torch.zeros(3),), "alone": (torch.zeros(4),)}, ())
    kernel = dgm.BlockGibbs(machine)
    state = kernel.sample(kernel.start(2000))
    for layer in ("visible", "alone"):
        assert (state[layer].mean(0) - 0.5).abs().max() < 6 * 0.5 / 2000**0.5
