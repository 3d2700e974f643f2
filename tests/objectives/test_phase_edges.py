"""Where a negative phase could go wrong without a word: odd graphs, masks, sharing, saving."""

import copy
import functools
import pickle

import numpy as np
import pyro
import pytest
import torch
from oracles import boltzmann as oracle
from pyro import poutine
from pyro.infer import SVI, JitTrace_ELBO, Trace_ELBO
from pyro.optim import SGD

import pyro_dgm as dgm
from pyro_dgm.energy import exact_sample
from pyro_dgm.objectives.estimators.multi_sample import IWAE
from pyro_dgm.objectives.phases import tracking


def elbo():
    return Trace_ELBO(max_plate_nesting=1)


def test_cd_starts_from_the_data_where_hidden_units_are_coupled():
    """On exact draws from the model the CD-1 gradient vanishes, also when both colours hold hidden and visible units."""
    machine = dgm.BoltzmannMachine(2, 2, edges=[(0, 2), (2, 3), (3, 1)], unit="spin")
    with torch.no_grad():
        machine.weight.fill_(0.7)
        machine.visible_bias.copy_(torch.tensor([0.5, -0.5]))
        machine.hidden_bias.copy_(torch.tensor([0.5, 0.3]))
    x = exact_sample(machine().machine, 100_000)["visible"]
    elbo()(dgm.negative_phase(machine.model, dgm.CD(k=1)), machine.guide)(x).backward()
    for p in machine.parameters():
        # Statistics lie in [-1, 1]: five standard errors of a difference of two means of 100,000.
        assert (p.grad.abs() / len(x)).max() < 5 * (2 / 100_000) ** 0.5


def test_cd_does_not_see_masked_rows():
    rbm, _ = dgm.RBM.example()
    x = torch.cat([rbm.sample(20_000), torch.ones(20_000, 6)])
    mask = torch.arange(40_000) < 20_000

    def program(x):
        with poutine.mask(mask=mask):
            return rbm.model(x)

    elbo()(dgm.negative_phase(program, dgm.CD(k=1)), lambda x: None)(x).backward()
    assert (rbm.visible_bias.grad.abs() / 20_000).max() < 5 * (0.5 / 20_000) ** 0.5


def test_a_phase_serves_one_model():
    a, b = dgm.RBM.example()[0], dgm.RBM.example()[0]
    phase = dgm.PCD(chains=10)
    dgm.negative_phase(a.model, phase)
    dgm.negative_phase(a.model, phase)
    with pytest.raises(ValueError, match="make a phase for every model"):
        dgm.negative_phase(b.model, phase)
    copy.deepcopy(dgm.negative_phase(a.model, phase))


def test_log_prob_without_gradient_first_does_not_lose_the_phase():
    rbm, x = dgm.RBM.example()
    kept = {}

    def program(x):
        with pyro.plate("data", len(x)):
            return pyro.sample("x", rbm(), obs=x)

    trace = poutine.trace(dgm.negative_phase(program, dgm.ExactNegativePhase())).get_trace(x)
    fn = trace.nodes["x"]["fn"]
    with torch.no_grad():
        fn.log_prob(x)
    fn.log_prob(x).sum().backward()
    kept["first"] = rbm.visible_bias.grad.clone()
    rbm.zero_grad()
    rbm().log_prob(x).sum().backward()
    torch.testing.assert_close(kept["first"], rbm.visible_bias.grad)


def test_centred_phase_moves_with_the_module():
    rbm, x = dgm.RBM.example()
    program = dgm.negative_phase(rbm.model, dgm.PCD(chains=10, centred=True))
    elbo()(program, rbm.guide)(x).backward()
    program.double()
    rbm.zero_grad()
    elbo()(program, rbm.guide)(x.double()).backward()
    assert rbm.weight.grad.dtype == torch.float64


@pytest.mark.parametrize("phase", ["pcd", "cd"])
def test_resumed_centred_runs_are_bit_identical(phase, tmp_path):
    found = []
    for name, stops in (("whole", [4]), ("parts", [2, 4])):
        rbm, x = dgm.RBM.example()
        for number, epochs in enumerate(stops):
            objective = rbm.objective(phase, centred=True)
            dgm.fit(rbm, x, objective=objective, epochs=epochs, batch_size=3, out=tmp_path / name, resume=number > 0,
                    progress=False)  # fmt: skip
        found.append([p.detach().clone() for p in rbm.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize(
    ("model", "kind", "option"),
    [
        (dgm.RBM, "cd", {"chains": 5}),
        (dgm.RBM, "exact", {"chains": 5}),
        (dgm.RBM, "exact", {"k": 2}),
        (dgm.ProductOfT, "cd", {"chains": 5}),
    ],
)
def test_options_of_another_kind_are_refused(model, kind, option):
    with pytest.raises(ValueError, match=f"{next(iter(option))} got .* with kind='{kind}'; it belongs to kind='pcd'"):
        model.example()[0].objective(kind, **option)


def test_the_exact_phase_refuses_to_centre():
    with pytest.raises(ValueError, match="centred got True with kind='exact'"):
        dgm.RBM(3, 2).objective("exact", centred=True)


def test_unpickled_models_train_apart():
    rbm, x = dgm.RBM.example()
    SVI(dgm.negative_phase(rbm.model, dgm.CD()), rbm.guide, SGD({"lr": 0.1}), elbo()).step(x)
    other = pickle.loads(pickle.dumps(rbm))
    before = other.weight.detach().clone()
    SVI(dgm.negative_phase(other.model, dgm.CD()), other.guide, SGD({"lr": 0.1}), elbo()).step(x)
    assert not torch.equal(other.weight, before)


@pytest.mark.parametrize("options", [{"visible": 4, "hidden": 1}, {"visible": 1}, {"visible": 1, "hidden": 1}])
def test_layers_of_one_unit(options):
    machine = oracle.randomise(dgm.BoltzmannMachine(**options).double(), torch.Generator().manual_seed(0))
    assert float(dgm.log_partition(machine()).value) == pytest.approx(oracle.of_machine(machine).log_z, abs=1e-9)
    result = dgm.log_partition(machine(), "ais", chains=500, temperatures=50)
    assert abs(float(result.value) - oracle.of_machine(machine).log_z) < 6 * float(result.stderr) + 1e-9


def test_couplings_inside_a_categorical_unit_are_refused():
    graph = dgm.Graph({"visible": dgm.Categorical(2, 3)}, [dgm.Lateral("visible")])
    U = torch.ones(6, 6) - torch.eye(6)
    with pytest.raises(ValueError, match="block of every atom"):
        dgm.BoltzmannDistribution(graph, {"visible": (torch.zeros(2, 3),)}, (U,))
    with pytest.raises(ValueError, match="categories of one unit"):
        dgm.Graph({"visible": dgm.Categorical(2, 3)}, [dgm.Sparse("visible", "visible", torch.tensor([[0, 1]]))])


def test_unit_by_unit_couplings_need_a_flat_layer():
    with pytest.raises(ValueError, match=r"Spin\(16\)"):
        dgm.Graph({"visible": dgm.Spin(4, 4)}, [dgm.Lateral("visible")])


def test_iwae_refuses_sites_of_different_scale():
    vae, x = dgm.VAE.example()

    def scaled(program):
        def run(x):
            with poutine.scale(scale=0.1):
                return program(x)

        return run

    with pytest.raises(ValueError, match="one scale"):
        IWAE(2).loss(vae.model, scaled(vae.guide), x)


def test_the_interval_covers_the_exact_value():
    """Near-trivial machines, where the noise of both ends exceeds their distance: at a coverage of 95 %, fewer than 15 of
    20 have probability 3e-4. Without the widening 8 of 20 intervals hold the exact value."""
    covered = 0
    for seed in range(20):
        torch.manual_seed(seed)
        rbm = dgm.RBM(12, 8)
        with torch.no_grad():
            rbm.weight.normal_(0, 0.5)
        x = rbm.sample(50)
        exact = dgm.log_likelihood(rbm, x)
        found = dgm.log_likelihood(rbm, x, method="ais", chains=100, temperatures=200)
        assert found.lower <= found.value <= found.upper
        covered += found.lower <= exact.value <= found.upper
    assert covered >= 15


def test_mean_field_negative_phase():
    """20.4.4: the gradient's negative part is the energy's slope at means after one round of the fixed-point equations."""
    dbm, x = dgm.DBM.example()
    phase = dgm.PCD(k=1, chains=30, mean_field=1)
    program = dgm.negative_phase(dbm.model, phase)
    loss = Trace_ELBO(max_plate_nesting=1).differentiable_loss(program, dbm.guide, x)
    loss.backward()
    v, h1, h2 = (phase.chains["x"][layer][:30].double().numpy() for layer in ("visible", "hidden1", "hidden2"))
    W1, W2 = (W.detach().double().numpy() for W in dbm.weights)
    b, c1, c2 = (p.detach().double().numpy() for p in (dbm.visible_bias, *dbm.hidden_biases))
    h1 = 1 / (1 + np.exp(-(c1 + v @ W1 + h2 @ W2.T)))
    v, h2 = 1 / (1 + np.exp(-(b + h1 @ W1.T))), 1 / (1 + np.exp(-(c2 + h1 @ W2)))
    posterior = [p.double().numpy() for p in dbm.posterior(x, dbm.rounds)]
    expected = x.double().numpy().T @ posterior[0] - len(x) * v.T @ h1 / 30
    np.testing.assert_allclose(-dbm.weights[0].grad.numpy(), expected, atol=1e-4)
    expected = posterior[0].T @ posterior[1] - len(x) * h1.T @ h2 / 30
    np.testing.assert_allclose(-dbm.weights[1].grad.numpy(), expected, atol=1e-4)


def test_mean_field_rounds_are_checked():
    with pytest.raises(ValueError, match="mean_field got"):
        dgm.PCD(mean_field=-1)


def test_mean_field_phase_under_a_kernel_that_keeps_more_than_a_draw():
    dbm, x = dgm.DBM.example()
    phase = dgm.PCD(chains=10, mean_field=1, kernel=functools.partial(dgm.ParallelTempering, temperatures=3))
    program = dgm.negative_phase(dbm.model, phase)
    for _ in range(2):
        elbo().differentiable_loss(program, dbm.guide, x).backward()
    assert phase.tracking["x"].state["collapsed"].shape == (phase.witnesses,)


def test_rates_of_unknown_parameters_are_refused():
    rbm, x = dgm.RBM.example()
    objective = dgm.NegativePhaseObjective(rbm.objective().phase, rates={"wieght": 0.1})
    with pytest.raises(ValueError, match=r"rates name \['wieght'\]; the parameters are .*weight"):
        dgm.fit(rbm, x, objective=objective, epochs=1, progress=False)


@pytest.mark.parametrize("phase", [dgm.PCD(), dgm.CD(centred=True), dgm.PCD(fast=0.1)])
def test_traces_refuse_what_changes_between_steps(phase):
    """Recorded once, persistent chains and offsets would stand still."""
    rbm, x = dgm.RBM.example()
    svi = SVI(dgm.negative_phase(rbm.model, phase), rbm.guide, SGD({"lr": 0.1}), JitTrace_ELBO(max_plate_nesting=1))
    with pytest.raises(ValueError, match="they would stand still"):
        svi.step(x)


@pytest.mark.parametrize("units", [3, 64])
def test_traces_draw_anew(units):
    """Draws of a traced program are fresh at every step, however many units there are (many would take a compiled loop)."""
    torch.manual_seed(0)
    rbm, x = dgm.RBM(units, units), torch.randint(0, 2, (64, units)).float()
    oracle.randomise(rbm, torch.Generator().manual_seed(0))
    program = dgm.negative_phase(rbm.model, dgm.CD())
    svi = SVI(program, rbm.guide, SGD({"lr": 0.0}), JitTrace_ELBO(max_plate_nesting=1, ignore_jit_warnings=True))
    assert len({svi.step(x) for _ in range(5)}) == 5


@pytest.mark.parametrize("phase", [dgm.PCD(k=2, chains=1000, kernel=dgm.HMC), dgm.CD(k=2, kernel=dgm.HMC)])
def test_chains_of_the_visible_layer_alone_train_deep_machines(phase):
    """The layers that such chains lack are summed out: the negatives' part of the gradient is that of their free energy."""
    dbm = dgm.DBM(3, (3, 2), unit="gaussian")
    oracle.randomise(dbm, torch.Generator().manual_seed(0))
    x = torch.randn(8, 3)
    fn, log_z = dbm(), phase.terms("x", dbm(), x)[1]
    drawn = phase.chains["x"]["visible"][: phase.number] if isinstance(phase, dgm.PCD) else None
    found = torch.autograd.grad(log_z.mean(), list(dbm.parameters()))
    assert all(bool(g.isfinite().all()) and bool(g.any()) for g in found)
    if drawn is not None:
        expected = torch.autograd.grad(-fn.free_energy(drawn).mean(), list(dbm.parameters()))
        torch.testing.assert_close(found, expected)
    dgm.fit(dbm, x, objective=dgm.NegativePhaseObjective(type(phase)(kernel=dgm.HMC)), epochs=1, progress=False)


def test_mean_field_of_chains_of_the_visible_layer_alone():
    dbm = dgm.DBM(3, (3, 2), unit="gaussian")
    objective = dgm.NegativePhaseObjective(dgm.PCD(chains=20, kernel=dgm.HMC, mean_field=2))
    assert dgm.fit(dbm, torch.randn(8, 3), objective=objective, epochs=1, progress=False).history


def test_a_gaussian_deep_machine_starts_at_the_means():
    dbm, x = dgm.DBM(3, (3, 2), unit="gaussian"), torch.randn(50, 3) + 2
    dbm.initialise(x)
    torch.testing.assert_close(dbm.visible_bias.detach(), x.mean(0))


@pytest.mark.parametrize("follow", [True, False])
def test_chains_out_of_reach_stop_the_step(follow):
    """A loss of NaN came with Pyro's warning alone; chains that no step accepts stayed there for good."""
    model, x = dgm.MeanCovarianceRBM.example()
    phase = dgm.PCD(chains=10, follow=follow)
    svi = SVI(dgm.negative_phase(model.model, phase), model.guide, SGD({"lr": 0.001}), Trace_ELBO(max_plate_nesting=1))
    svi.step(x)
    phase.chains["x"]["visible"][0] = 1e30
    before = [parameter.detach().clone() for parameter in model.parameters()]
    with pytest.raises(
        ValueError, match=r"site 'x': 1 of \d+ chains have reached .*smaller learning rate.*new dgm.PCD"
    ):
        svi.step(x)
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def test_a_first_step_that_is_interrupted_leaves_nothing_behind(monkeypatch):
    """While log Z is found for the first time: the phase can be saved, and starts anew."""
    rbm, phase, x = dgm.RBM(30, 20), dgm.PCD(chains=20), torch.randint(0, 2, (10, 30)).float()

    def interrupted(*args, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tracking, "anchor", interrupted)
        with pytest.raises(KeyboardInterrupt):
            phase.terms("x", rbm(), x)
    assert phase.get_extra_state()["tracked"] == {}
    assert all(term.isfinite().all() for term in phase.terms("x", rbm(), x))


def test_a_saved_phase_goes_on_from_the_same_numbers():
    """None is rounded: anchors come when log Z has travelled far, in a resumed run at the same step."""
    torch.manual_seed(0)
    rbm, phase, x = dgm.RBM(30, 20), dgm.PCD(chains=20), torch.randint(0, 2, (10, 30)).float()
    for _ in range(5):
        phase.terms("x", rbm(), x)
        with torch.no_grad():
            rbm.weight.add_(0.01 * torch.randn(30, 20))
    other = dgm.PCD(chains=20)
    other.load_state_dict(pickle.loads(pickle.dumps(phase.state_dict())))
    ours, theirs = (vars(p.tracking["x"]) for p in (phase, other))
    assert ours["_travelled"] == theirs["_travelled"] > 0
    assert [vars(entry) for entry in ours["_entries"]] == [vars(entry) for entry in theirs["_entries"]]


def test_changes_whose_squares_overflow_are_large_steps():
    followed = tracking.Followed()
    assert followed.follow([0.0, 1e200]) == tracking.ANCHOR_NATS
    assert not followed.trusted


def test_log_z_of_machines_whose_energies_lie_otherwise_in_memory():
    """Of a batch in two dimensions, as products of broadcast parameters may leave them."""
    flat, permuted = tracking.Tracking(), tracking.Tracking()
    law, changes = dgm.FreeEnergyDistribution(lambda x: x.sum(-1), (torch.zeros(1),), (1,)), torch.randn(2, 10, 2, 3)
    for followed, turn in ((flat, lambda t: t), (permuted, lambda t: t.permute(2, 0, 1).contiguous().permute(1, 2, 0))):
        followed.begin(law, torch.zeros(1, 1), turn(changes[0]))
        followed.follow(law, torch.zeros(1, 1), turn(changes[1]))
    assert torch.equal(flat.log_z, permuted.log_z)


def test_witnesses_of_infinite_energy_leave_the_gradient_alone():
    """At zero this energy and its derivative are infinite; witnesses that were there before the step count for log Z alone."""

    class Away(dgm.HMC):
        def start(self, chains):
            return {"visible": torch.zeros(chains, 2)}

        def sample(self, params):
            return {"visible": torch.ones_like(params["visible"])}

    weight = torch.ones(1, requires_grad=True)
    law = dgm.FreeEnergyDistribution(lambda x: (weight / x.abs()).sum(-1), (weight,), (2,))
    free_energy, log_z = dgm.PCD(chains=20, kernel=Away).terms("x", law, torch.full((3, 2), 2.0))
    (free_energy.mean() + log_z).backward()
    torch.testing.assert_close(weight.grad, torch.tensor([1.0 - 2.0]))
