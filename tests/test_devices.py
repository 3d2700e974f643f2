"""Nothing that runs on another device leaves tensors behind on the processor."""

from __future__ import annotations

from inspect import signature

import pytest
import torch
from oracles.devices import elsewhere
from oracles.few import few

import pyro_dgm as dgm
from pyro_dgm import registry

MODELS = pytest.mark.parametrize("cls", registry.models().values(), ids=registry.models())


KERNELS = {
    "block Gibbs": (dgm.DBM, dgm.BlockGibbs),
    "clamped": (
        dgm.RBM,
        lambda p: dgm.BlockGibbs(p, (torch.arange(6, device=p.parameters()[0].device) < 2, torch.ones(6))),
    ),
    "tempering": (dgm.RBM, lambda p: dgm.ParallelTempering(p, 3)),
    "tempered transitions": (dgm.RBM, lambda p: dgm.TemperedTransitions(p, 3)),
    "Gibbs-Langevin": (dgm.GaussianRBM, dgm.GibbsLangevin),
    "HMC": (dgm.MeanCovarianceRBM, lambda p: dgm.HMC(p, num_steps=2)),
}


def moved(cls, device):
    model, x = cls.example()
    return model.to(device), x.to(device)


def test_the_device_tells_tensors_apart():
    with elsewhere() as device:
        x = torch.rand(3, device=device)
        assert x.device == device
        assert torch.tensor([1.0, 2.0], device=device).device == device
        assert x.cpu().device.type == "cpu"
        with pytest.raises(RuntimeError, match="among those elsewhere"):
            x + torch.ones(3)
        # As on a GPU: numbers, indices and copies may come from the processor.
        x[torch.tensor([0, 2])] = torch.tensor(1.0)
        assert float((2 * x)[0]) == 2.0
        with pytest.raises(RuntimeError, match="among those elsewhere"):
            torch.ones(3)[x.long()]


@MODELS
@pytest.mark.usefixtures("short_anchor")
def test_models_train_and_draw(cls):
    with elsewhere() as device:
        model, x = moved(cls, device)
        objective = model.objective()
        objective.attach(model)
        model.initialise(x)
        for turn in objective.turns(x):
            turn.loss().backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        assert gradients
        assert all(g.device == device for g in gradients)
        assert model.sample(2, **{"sweeps": 3} if "sweeps" in signature(cls.sample).parameters else {}).device == device


@pytest.mark.parametrize("cls", [cls for cls in registry.models().values() if "evidence" in cls.abilities()])
def test_models_are_evaluated(cls):
    with elsewhere() as device:
        model, x = moved(cls, device)
        assert dgm.log_likelihood(model, x[:3], **few(model)).n == 3


@pytest.mark.parametrize(("cls", "make"), KERNELS.values(), ids=KERNELS)
def test_kernels_advance_chains(cls, make):
    with elsewhere() as device:
        mcmc = dgm.VectorizedMCMC(make(moved(cls, device)[0]()), 3, 2, num_chains=4, disable_progbar=True)
        mcmc.run()
        assert all(x.device == device for x in mcmc.get_samples().values())
        assert all(e.device == device for e in mcmc.chain_scalars().values())


@pytest.mark.parametrize("options", [{"method": "ais"}, {"method": "bridge"}, {"method": "exact"}], ids=str)
def test_log_z(options):
    fast = {} if options["method"] == "exact" else {"chains": 5, "temperatures": 5}
    with elsewhere() as device:
        rbm, x = moved(dgm.RBM, device)
        assert dgm.log_partition(rbm(), **options, **fast).value.device == device
        assert dgm.raise_bound(rbm(), x, chains=3, temperatures=4).values.device == device


ESTIMATORS = [dgm.IWAE, dgm.VIMCO, dgm.ReweightedWakeSleep, dgm.NVIL, dgm.DReG]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_estimators(estimator):
    with elsewhere() as device:
        model, x = moved(dgm.VAE if estimator is dgm.DReG else dgm.SBN, device)
        estimator().differentiable_loss(model.model, model.guide, x).backward()
        assert all(p.grad.device == device for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("cls", [dgm.RBM, dgm.VAE, dgm.SBN, dgm.NADE])
def test_runs_are_kept_and_resumed(cls, tmp_path):
    """A run that is stored after its first epoch and gone on from ends where the processor's does."""
    weights = []
    for place in ("elsewhere", "processor"):
        with elsewhere() as device:
            name = str(device) if place == "elsewhere" else "cpu"
            for epochs, resume in ((1, False), (2, True)):
                torch.manual_seed(0)
                model, x = cls.example()
                run = dgm.fit(
                    model, x, epochs=epochs, out=tmp_path / place, resume=resume, device=name, seed=3, progress=False
                )
            assert all(p.device == torch.device(name) for p in run.model.parameters())
            weights.append([p.detach().cpu() for p in run.model.parameters()])
    for one, other in zip(*weights, strict=True):
        torch.testing.assert_close(one, other)


def test_figures_of_samples():
    """Rows and models from elsewhere, in any mixture, are compared on the processor."""
    with elsewhere() as device:
        gan, x = moved(dgm.GAN, device)
        rows = torch.rand(30, 4)
        for samples in (gan, rows.to(device), rows):
            for data in (rows.to(device), rows):
                assert dgm.evaluation.precision_recall(samples, data, n=30).precision >= 0
                assert dgm.evaluation.mmd_test(samples, data, permutations=9, n=30).p_value > 0
                assert dgm.evaluation.nearest_neighbours(samples, data, rows, n=5).nearest.device.type == "cpu"
                assert dgm.evaluation.parzen(samples, data, rows, n=30, widths=[0.3]).samples == 30
        assert x.device == device


def test_games_and_moments_elsewhere():
    with elsewhere() as device:
        for cls, objective in [
            (dgm.GAN, dgm.Adversarial(dgm.Discriminator(4, hidden=(3,)))),
            (dgm.GMMN, dgm.MomentMatching()),
        ]:
            model, x = moved(cls, device)
            for module in objective.owned().values():
                module.to(device)
            objective.attach(model)
            for turn in objective.turns(x):
                turn.loss().backward()
            assert all(p.grad.device == device for p in model.parameters())


@pytest.mark.parametrize("cls", [dgm.DenoisingAutoencoder, dgm.ContractiveAutoencoder, dgm.GSN, dgm.ShapedGSN])
def test_chains_of_models_run_with_a_clamp(cls):
    with elsewhere() as device:
        model, x = moved(cls, device)
        known = torch.arange(4, device=device) < 2
        drawn = dgm.condition(model, x, known, draws=2, warmup=1)
        assert drawn.device == device
        mcmc = dgm.VectorizedMCMC(dgm.ModelChain(model), 3, 1, num_chains=2, disable_progbar=True)
        mcmc.run()
        assert all(e.device == device for e in mcmc.chain_scalars().values())
