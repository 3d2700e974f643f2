"""Several processes: gradients as in one, chains and streams of their own, resuming, estimates over all of them."""

import contextlib
import functools
import inspect
import io
import json
import math
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyro
import pytest
import torch
import torch.distributions.normal
from oracles import forked

import pyro_dgm as dgm
from pyro_dgm import cli, processes, registry, train
from pyro_dgm.annealing import units
from pyro_dgm.annealing.weights import log_mean_exp
from pyro_dgm.models.shared import latent
from pyro_dgm.nets.layers import BatchNorm
from pyro_dgm.objectives.phases.centring import Centring
from pyro_dgm.objectives.phases.fast_weights import FastWeights
from pyro_dgm.objectives.phases.phase import ExactNegativePhase
from pyro_dgm.train import launch, worker
from pyro_dgm.train.checkpoint import CONFIG, STATE, WEIGHTS, load_state

QUIET = {"progress": False}
CHAINS = 401


class CentredExact(ExactNegativePhase):
    """The exact gradient in centred coordinates, whose offsets follow the batches at every second step."""

    def __init__(self):
        super().__init__()
        self.centring = Centring(every=2)

    def prepare(self, site, fn):
        return self.centring.apply(fn)

    def terms(self, site, fn, value):
        self.centring.update(fn, value)
        return super().terms(site, fn, value)


class NormalisedOdds(torch.nn.Module):
    """A discriminator whose log odds depend on the statistics of the whole batch."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(6, 4), BatchNorm(4), torch.nn.Tanh(), torch.nn.Linear(4, 1))

    def forward(self, x):
        return self.layers(x).squeeze(-1)


LOSSES = ("loss", "discriminator", "generator")


def with_labels(data):
    """The data with their last two columns as a one-hot label."""
    first = data.train.x[:, :1]
    split = dgm.data.Split(torch.cat([data.train.x[:, :4], first, 1 - first], 1), data.train.space)
    return dgm.data.Dataset("toy", split, split, split, (6,))


def constant_noise(shape, dtype, device):
    return torch.full(shape, 0.3, dtype=dtype, device=device)


def rows(n=23, columns=6):
    return (torch.rand(n, columns, generator=torch.Generator().manual_seed(4), dtype=torch.float64) < 0.4).double()


def dataset():
    split = dgm.data.Split(rows(), dgm.data.Space("binary"))
    return dgm.data.Dataset("toy", split, split, split, (6,))


def trained(kind):
    """Weights after some steps of a criterion without draws; the last batch of 23 rows by 11 has a single one."""
    pyro.set_rng_seed(1)
    model = {
        "vae": lambda: dgm.VAE(6, latent=2, hidden=(5,)),
        "moments": lambda: dgm.ConditionalGAN(4, classes=2, latent=2, hidden=(5,)),
        "game": lambda: dgm.ConditionalGAN(4, classes=2, latent=2, hidden=(5,), normalise=True),
    }.get(kind, lambda: dgm.RBM(6, 4))().double()  # fmt: skip
    objective = {
        "moments": dgm.MomentMatching,
        "game": lambda: dgm.Adversarial(NormalisedOdds().double(), steps=2, rate=0.1),
        "exact": lambda: dgm.NegativePhaseObjective(ExactNegativePhase()),
        "centred": lambda: dgm.NegativePhaseObjective(CentredExact()),
        "pseudolikelihood": dgm.PseudoLikelihood,
        "vae": lambda: None,
        "iwae": lambda: None,
    }[kind]()
    options = {"epochs": 3, "batch_size": 11, "learning_rate": 0.3, "optimiser": "sgd"}
    data = dataset() if kind not in ("moments", "game") else with_labels(dataset())
    run = dgm.fit(model, data, objective=objective, average=0.5, **options, **QUIET)
    losses = [[value for name, value in row.items() if name in LOSSES] for row in run.history]
    return {"loss": torch.tensor(losses).squeeze(1), **model.state_dict()}


def exact_training():
    drawn = torch.distributions.normal._standard_normal
    torch.distributions.normal._standard_normal = constant_noise
    try:
        return {kind: trained(kind) for kind in ("exact", "centred", "pseudolikelihood", "vae", "moments", "game")}
    finally:
        torch.distributions.normal._standard_normal = drawn


def statistics():
    """What criteria learn of a batch, from this process's part of it."""
    x = processes.part(rows(9))
    rewards = processes.part(torch.linspace(0, 1, 9, dtype=torch.float64).exp())
    nvil = dgm.NVIL()
    nvil._follow(rewards.view(1, 1, -1))
    nvil._follow(rewards.view(1, 1, -1).square())
    optimal = dgm.OptimalBaseline([torch.nn.Parameter(torch.zeros(2))])
    optimal._follow(rewards, [rewards.unsqueeze(1) * torch.tensor([1.0, 2.0])])
    pyro.set_rng_seed(2)
    rbm = dgm.RBM(6, 4).double()
    fast = FastWeights(0.1, 0.9, [torch.zeros_like(p) for p in rbm().parameters()])
    fast.update(rbm(), x, {"visible": 1 - x, "hidden": torch.zeros(len(x), 4, dtype=torch.float64)})
    contrastive = dgm.NoiseContrastive()
    contrastive.attach(rbm)
    contrastive.loss(x)
    return {
        "nvil": nvil.running, "optimal": [optimal.weighted, optimal.squares], "fast": fast.offsets,
        "marginals": contrastive.state_dict()["marginals"], "log_partition": contrastive.log_partition.detach(),
    }  # fmt: skip


def machine():
    pyro.set_rng_seed(5)
    rbm = dgm.RBM(6, 4)
    with torch.no_grad():
        rbm.weight.normal_()
    return rbm


def annealed():
    """AIS in both directions; what this process's chains gave, and what everyone was told."""
    own = []
    plain = units.forward_ais

    def spied(path, betas, chains, batch):
        weights, state = plain(path, betas, chains, batch)
        own.extend([weights, path.log_base()])
        return weights, state

    units.forward_ais = spied
    try:
        found = dgm.log_partition(machine()(), "ais", chains=CHAINS, temperatures=30)
    finally:
        units.forward_ais = plain
    return {
        "own": own[0],
        "base": own[1],
        "value": found.value,
        "stderr": found.stderr,
        "upper": found.upper,
        "next": torch.rand(3),
    }


def bounds():
    """Importance weights and annealing from the guide; log weights of this process, and what everyone was told."""
    pyro.set_rng_seed(3)
    vae, x = dgm.VAE.example()
    own, plain = [], (latent.log_weights, latent.anneal)

    def spied(*arguments, **options):
        own.append(plain[0](*arguments, **options))
        return own[-1]

    def spied_annealing(*arguments):
        found = plain[1](*arguments)
        own.append(found.log_weights)
        return found

    latent.log_weights, latent.anneal = spied, spied_annealing
    try:
        told = [vae.evidence(x, particles=901, rows=9010), vae.evidence(x, "ais", chains=301, temperatures=5)]
    finally:
        latent.log_weights, latent.anneal = plain
    return list(zip(told, own, strict=True))


class Still(dgm.BlockGibbs):
    """Chains that stay where they are, and know whose they are."""

    def sample(self, params):
        return params

    def chain_diagnostics(self, chains):
        return [{"rank": processes.rank()}] * chains


def first_states():
    """Seven states that differ: their numbers in binary digits."""
    numbers = torch.arange(1, 8).unsqueeze(1)
    return {name: (numbers >> torch.arange(width) & 1).float() for name, width in (("visible", 6), ("hidden", 4))}


def chains():
    dist = machine()()
    first = first_states()
    still = dgm.VectorizedMCMC(Still(dist), 2, 0, num_chains=7, initial_params=first, disable_progbar=True)
    still.run()
    options = {"num_samples": 50, "warmup_steps": 20, "num_chains": 101, "disable_progbar": True}
    draws = dgm.VectorizedMCMC(dgm.BlockGibbs(dist), **options)
    draws.run()
    layers = ["visible", "hidden"][:: 1 - 2 * processes.rank()]  # any order does
    moments = dgm.VectorizedMCMC(dgm.BlockGibbs(dist), **options, keep="moments", save_params=layers)
    moments.run()
    known = torch.arange(6) < 3
    return {
        "still": still.get_samples(group_by_chain=True)["visible"],
        "last": still.last_params["hidden"],
        "ranks": [found["rank"] for found in still._diagnostics],
        "draws": draws.get_samples(group_by_chain=True)["visible"],
        "moments": moments.moments.get()["visible"]["mean"],
        "energies": moments.chain_scalars()["energy"],
        "imputed": machine().impute(rows(5).float(), known, draws=4),
    }


def normal():
    pyro.set_rng_seed(5)
    return dgm.GaussianRBM(6, 4)()


CLAMPABLE = {
    "gibbs": lambda **known: dgm.BlockGibbs(machine()(), **known),
    "tempering": lambda **known: dgm.ParallelTempering(machine()(), 3, **known),
    "transitions": lambda **known: dgm.TemperedTransitions(machine()(), 3, **known),
    "hmc": lambda **known: dgm.HMC(normal(), num_steps=2, **known),
    "langevin": lambda **known: dgm.GibbsLangevin(normal(), **known),
}


def known_of(chains):
    """A mask and values for each of so many chains."""
    generator = torch.Generator().manual_seed(6)
    mask, value = (torch.rand(chains, 6, generator=generator) < 0.5 for _ in range(2))
    return mask, value.float()


def clamped():
    """Draws of kernels with a clamp for each chain or one for all, of one chain too, by what says so; and an imputed row."""
    found = {}
    for name, make in CLAMPABLE.items():
        for chains in (7, 1):
            mask, value = known_of(chains)
            for clamp in ((mask, value), (mask[0], value), (mask[0], value[0])):
                kernel = make(clamp=clamp)
                torch.manual_seed(20 + processes.rank())
                mcmc = dgm.VectorizedMCMC(kernel, 5, 2, num_chains=chains, disable_progbar=True)
                mcmc.run()
                drawn = mcmc.get_samples(group_by_chain=True)["visible"]
                shape = [tuple(t.shape) for t in clamp]
                found[f"{name}, {chains} chains, {shape}"] = drawn, *clamp, kernel.clamp["visible"]
    rbm = machine()
    torch.manual_seed(20 + processes.rank())
    return found, rbm.impute(rows(1).float(), torch.arange(6) < 3, draws=4)


def networks():
    pyro.set_rng_seed(7)
    made = [dgm.NADE(6, 4), dgm.MADE(6, hidden=(8,), masks=3)]
    for model in made:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_()
    return made


FIRST_UNKNOWN = torch.arange(6) >= 3


def completed():
    """Completions by one order and by three, of many draws of each and of one; and by a particle filter."""
    made, (frames, x) = networks(), dgm.RNNNADE.example()
    torch.manual_seed(30 + processes.rank())
    options = {"known": FIRST_UNKNOWN, "method": "importance"}
    found = [[m.complete(rows(4).float(), draws=n * len(m.networks()), **options) for n in (401, 1)] for m in made]
    drawn = [[(part.draws, part.log_weights) for part in parts] for parts in found]
    return drawn, frames.impute(x, torch.arange(12) % 2 > 0, draws=20)


class Stumbling(dgm.Objective):
    """A loss that raises on the second process alone."""

    def attach(self, model):
        self.model = model

    def loss(self, x):
        if processes.rank() == 1:
            raise ValueError("this process stumbled")
        return self.model.weight.sum()


def persistent():
    rbm = machine()
    objective = rbm.objective(chains=31)
    dgm.fit(rbm, dataset(), objective=objective, epochs=2, batch_size=8, **QUIET)
    return {"weights": rbm.state_dict(), "phase": objective.state_dict(), "options": objective.options()}


def refused(act, *errors):
    try:
        act()
    except errors as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def everything(rank, port, folder):
    """What one of two processes does; its findings are left in a file."""
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo",
    }  # fmt: skip
    torch.set_num_threads(1)
    said = os.open(f"{folder}/said{rank}", os.O_WRONLY | os.O_CREAT)
    os.dup2(said, sys.stderr.fileno())
    processes.join()
    ragged = torch.arange(3 + rank).view(1, -1) > 1
    found = {
        "training": exact_training(),
        "statistics": statistics(),
        "ais": annealed(),
        "bounds": bounds(),
        "chains": chains(),
        "clamped": clamped(),
        "completed": completed(),
        "further": further(),
        "zoo": zoo(),
        "persistent": persistent(),
        "streams": streams(),
        "gathered": processes.gather(ragged, 1),
        "too few chains": refused(lambda: dgm.log_partition(machine()(), "ais", chains=1), ValueError),
        "too few": refused(lambda: processes.share(1, "chains"), ValueError),
        "devices": refused(lambda: dgm.fit(machine(), rows().float(), devices=3, **QUIET), ValueError),
        "alone": alone(),
        "run": undisturbed(Path(folder) / "run"),
        "stumbled": refused(
            lambda: dgm.fit(machine(), rows().float(), objective=Stumbling(), **QUIET), ValueError, ConnectionError
        ),
    }
    with open(f"{folder}/{rank}", "wb") as file:
        pickle.dump(found, file)


def undisturbed(folder):
    """The run that ``FIT`` makes."""
    rbm = registry.build("rbm", {"hidden": 12}, 64, 3)
    digits = dgm.data.load("digits", binarisation="threshold", seed=3)
    source = {"source": "digits", "binarisation": "threshold", "seed": 3}
    options = {"batch_size": 100, "epochs": 20, "average": 0.9, "decay": "linear", "seed": 3}
    return dgm.fit(rbm, digits, out=folder, source=source, **options, **QUIET).out


def criteria():
    """Estimators with networks, statistics or kernels of their own, and parameters that a step leaves out."""
    sbn, rbm, x = dgm.SBN.example()[0], dgm.RBM.example()[0], dgm.SBN.example()[1]
    columns = x.shape[1]
    phases = [
        dgm.PCD(chains=10, centred=True, fast=0.01),
        dgm.PCD(chains=10, kernel=functools.partial(dgm.ParallelTempering, temperatures=3)),
        dgm.CD(k=(1, 3)),
    ]
    elbos = [
        dgm.NVIL(baseline=torch.nn.Linear(columns, 1), local=True), dgm.OptimalBaseline(list(sbn.parameters())), dgm.VIMCO(),
        dgm.ReweightedWakeSleep(sleep=1.0), dgm.BidirectionalHelmholtz(),
    ]  # fmt: skip
    return [
        *((rbm, dgm.NegativePhaseObjective(phase)) for phase in phases),
        (rbm, dgm.RatioMatching(entries=2)),
        *((sbn, dgm.Elbo(elbo)) for elbo in elbos),
        (dgm.VAE.example()[0], dgm.Elbo(dgm.DReG())),
        (dgm.MADE.example()[0], dgm.NextMask()),
        (dgm.DBM.example()[0], dgm.MultiPrediction(rounds=2)),
    ]


def zoo():
    """The weights of every model after a short training, from differing first weights; by the name of what trained it."""
    pyro.set_rng_seed(10 + processes.rank())
    found = {}
    for name, cls in registry.models().items():
        model, x = cls.example()
        dgm.fit(model, x, epochs=1, batch_size=4, **QUIET)
        found[name] = model.state_dict()
    for number, (model, objective) in enumerate(criteria()):
        x = type(model).example()[1]
        dgm.fit(model, x, objective=objective, epochs=1, batch_size=4, **QUIET)
        found[f"{number} {objective.options()}"] = model.state_dict()
    return found


def further():
    """Other ways to anneal."""
    pyro.set_rng_seed(8)
    covariance, x = dgm.CovarianceRBM.example()
    log_z = covariance.log_partition(x, chains=41, temperatures=20, warmup=5)
    raised = dgm.raise_bound(machine()(), rows(5).float(), chains=41, temperatures=20)
    return {"hmc": [log_z.value, log_z.lower, log_z.upper, log_z.stderr], "raise": [raised.values, raised.stderr]}


def streams():
    """Draws of processes that were seeded alike: within a block of own streams, and after it."""
    torch.manual_seed(3)
    with processes.own_stream():
        own = torch.rand(3)
    return own, torch.rand(3), processes.own_seed(7)


def alone():
    with processes.alone():
        return processes.world(), processes.share(1), float(processes.gather(torch.ones(1)).sum())


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """What two processes found."""
    folder = tmp_path_factory.mktemp("pair")
    port = free_port()
    children = [forked.start(everything, rank, port, str(folder)) for rank in range(2)]
    for rank, child in enumerate(children):
        child.join()
        assert child.exitcode == 0, (folder / f"said{rank}").read_text()
    return [
        {**pickle.loads((folder / str(rank)).read_bytes()), "said": (folder / f"said{rank}").read_text()}
        for rank in range(2)
    ]


def same(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_training_is_that_of_one_process(pair):
    """Over nine steps in double precision, with batches of 11, 11 and 1 rows; rounding grows to some 1e-13."""
    for kind, expected in exact_training().items():
        for name, value in expected.items():
            torch.testing.assert_close(
                pair[0]["training"][kind][name], value, rtol=1e-9, atol=1e-10, msg=f"{kind} {name}"
            )
        same(pair[0]["training"][kind], pair[1]["training"][kind])


def test_statistics_of_a_batch_are_those_of_all_its_parts(pair):
    expected = statistics()
    for found in pair:
        for name in ("nvil", "optimal", "fast", "marginals"):
            torch.testing.assert_close(found["statistics"][name], expected[name], rtol=1e-6, atol=1e-9, msg=name)
    same(*(found["statistics"]["log_partition"] for found in pair))


def test_every_model_and_criterion_trains_on_two_processes(pair):
    first, second = (found["zoo"] for found in pair)
    assert len(first) > 40
    for name, weights in first.items():
        same(weights, second[name])
        assert all(w.isfinite().all() for w in weights.values()), name


def test_annealing_over_two_processes(pair):
    exact = float(dgm.log_partition(machine()()).value)
    first, second = (found["ais"] for found in pair)
    assert [len(first["own"]), len(second["own"])] == [201, 200]
    for name in ("base", "value", "stderr", "upper", "next"):
        same(first[name], second[name])
    assert 0 < first["stderr"] < 0.2
    assert abs(first["value"] - exact) < 4 * first["stderr"]
    weights = torch.cat([first["own"], second["own"]])
    log_mean = weights.logsumexp(0) - math.log(CHAINS)
    torch.testing.assert_close(first["value"], first["base"] + log_mean)


def test_importance_samples_over_two_processes(pair):
    for (one, _), (first, mine), (second, other) in zip(bounds(), *(found["bounds"] for found in pair), strict=True):
        same(first.values, second.values)
        assert first.details == second.details
        assert first.method == one.method
        assert len(mine) == len(other) + 1
        assert not torch.equal(mine[:-1], other)
        torch.testing.assert_close(first.values, log_mean_exp(torch.cat([mine, other]))[0])
        # Two independent estimates.
        error = math.hypot(first.stderr, one.stderr)
        assert 0 < abs(float((first.values - one.values).mean())) < 4 * error


def test_further_annealing_over_two_processes(pair):
    same(pair[0]["further"], pair[1]["further"])
    one, two = further(), pair[0]["further"]
    (a, *_, a_error), (b, *_, b_error) = one["hmc"], two["hmc"]
    assert 0 < abs(a - b) < 4 * (a_error**2 + b_error**2).sqrt()
    (a, a_error), (b, b_error) = one["raise"], two["raise"]
    assert ((a - b).abs() > 0).all()
    assert ((a - b).abs() < 4.5 * (a_error**2 + b_error**2).sqrt()).all()


def test_chains_over_two_processes(pair):
    first, second = (found["chains"] for found in pair)
    for name in ("still", "last", "draws", "moments", "energies"):
        same(first[name], second[name])
    same(first["still"], first_states()["visible"].unsqueeze(1).expand(7, 2, 6))
    same(first["last"], first_states()["hidden"])
    assert first["ranks"] == second["ranks"] == [0, 0, 0, 0, 1, 1, 1]
    assert first["draws"].shape == (101, 50, 6)
    assert not torch.equal(first["draws"][:50], first["draws"][51:])
    exact = machine()()
    states = torch.cartesian_prod(*(torch.tensor([0.0, 1.0]),) * 6)
    mean = exact.log_prob(states).exp() @ states
    # 101 chains: independent means of a share each; 4.5 standard errors as if a chain were one draw.
    for found in (first["draws"].mean((0, 1)), first["moments"].mean(0)):
        assert ((found - mean).abs() < 4.5 * (mean * (1 - mean) / 101).sqrt()).all()
    assert first["moments"].shape == (101, 6)
    assert first["energies"].shape == (101, 50)
    same(first["imputed"][:, :3], rows(5).float()[:, :3])


def test_clamped_chains_over_two_processes(pair):
    (first, one_row), (second, same_row) = (found["clamped"] for found in pair)
    same(one_row, same_row)
    assert len(first) == 2 * 3 * len(CLAMPABLE)
    for name, (drawn, mask, value, left) in first.items():
        same(drawn, second[name][0])
        mask, value = (t.view(-1, 1, 6).expand(drawn.shape) for t in (mask, value))
        same(drawn[mask], value[mask])
        assert (drawn[~mask] != value[~mask]).any(), name
        same(left, tuple(t.view(-1, 6) for t in first[name][1:3]))
    drawn, mask, _, _ = first["gibbs, 7 chains, [(6,), (6,)]"]
    assert not torch.equal(drawn[:3], drawn[4:])


def test_completions_over_two_processes(pair):
    (first, filtered), (second, filtered_too) = (found["completed"] for found in pair)
    same(first, second)
    same(filtered, filtered_too)
    for model, parts in zip(networks(), first, strict=True):
        orders = len(model.networks())
        exact = model.complete(rows(4).float(), FIRST_UNKNOWN, method="enumeration").log_known
        for number, (draws, log_weights) in zip((401, 1), parts, strict=True):
            assert (draws.shape, log_weights.shape) == ((number * orders, 4, 6), (number * orders, 4))
            same(draws[:, :, 3:], rows(4).float()[:, 3:].expand(number * orders, 4, 3))
        draws, weights = parts[0][0], parts[0][1].double().exp()
        assert not any(torch.equal(one[:200], one[201:]) for one in draws.split(401))
        error = 5 * weights.std(0) / len(weights) ** 0.5
        assert ((weights.mean(0) - exact.double().exp()).abs() < error).all()
    # Of a single order a row has one weight, whichever process drew it.
    draws, log_weights = first[0][0]
    values = draws[:, :, :3] @ torch.tensor([1.0, 2.0, 4.0])
    for value, weight in zip(values.T, log_weights.T, strict=True):
        for number in value.unique():
            torch.testing.assert_close(
                weight[value == number], weight[value == number][:1].expand((value == number).sum())
            )


def test_persistent_chains_belong_to_a_process_and_log_z_to_all(pair):
    first, second = (found["persistent"] for found in pair)
    same(first["weights"], second["weights"])
    a, b = (found["phase"]["chains"]["x"]["hidden"] for found in (first, second))
    assert (len(a), len(b)) == (16 + 8, 15 + 8)  # eight of them follow log Z
    assert not torch.equal(a[:15], b[:15])
    same(*(found["phase"]["tracked"]["x"]["log_z"] for found in (first, second)))
    assert first["options"]["chains"] == 31


def test_ddp_does_not_warn(pair):
    assert "find_unused_parameters" not in pair[0]["said"] + pair[1]["said"]


def test_streams_of_their_own(pair):
    (first, after, seed), (second, after_too, other_seed) = (found["streams"] for found in pair)
    assert not torch.equal(first, second)
    same(after, after_too)
    assert seed == 7 != other_seed


def test_parts_and_refusals(pair):
    same(pair[0]["gathered"], torch.tensor([[False, False, True, False, False, True, True]]))
    for rank, found in enumerate(pair):
        assert "chains got 1 for 2 processes" in found["too few"]
        assert "chains got 1; expected an integer of at least 2" in found["too few chains"]
        assert "devices got 3 in one of 2 processes" in found["devices"]
        assert found["alone"] == (1, 1, 1.0)
        told = ["ConnectionError: process 1 of 2 stopped because another one did", "ValueError: this process stumbled"]
        assert found["stumbled"].startswith(told[rank])


def test_one_process_is_the_identity():
    x = torch.rand(3)
    assert processes.gather(x) is x
    assert processes.mean(x, 3) is x
    assert processes.own_seed(7) == 7
    before = torch.get_rng_state()
    with processes.own_stream():
        assert torch.equal(torch.get_rng_state(), before)


FIT = "fit rbm --set hidden=12 --batch-size 100 --epochs 20 --average 0.9 --decay linear --seed 3 --quiet --out"


def epoch(run):
    return load_state(run)["epoch"] if (run / STATE).is_file() else 0


def kill(run, children):
    while epoch(run) < 2:
        time.sleep(0.01)
    children[1].kill()


@pytest.fixture(scope="module")
def runs(pair, tmp_path_factory):
    """An undisturbed run of two processes; one by ``--devices 2`` of which a process was killed, resumed.

    The processes of the resumed run are started as a user's are, the others are forks.
    """
    whole, killed, children, finished = pair[0]["run"], tmp_path_factory.mktemp("runs") / "killed", [], []

    def remembered(into, act):
        def remembering(*arguments, **options):
            into.append(act(*arguments, **options))
            return into[-1]

        return remembering

    arguments = [*FIT.split(), str(killed), "--devices", "2"]
    with pytest.MonkeyPatch.context() as patch:
        started = launch._start
        patch.setattr(launch, "_start", remembered(children, forked.Worker))
        patch.setattr(train, "fit", remembered(finished, train.fit))
        threading.Thread(target=kill, args=(killed, children), daemon=True).start()
        with contextlib.redirect_stderr(io.StringIO()) as error:
            assert cli.main(arguments) == 2
        assert error.getvalue() == (
            f"pyro-dgm: process 2 of 2 was killed by signal 9; the last checkpoint in {killed} is kept, go on with it by "
            "resume (--resume)\n"
        )
        assert 2 <= epoch(killed) < 20
        patch.setattr(launch, "_start", started)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            assert cli.main([*arguments, "--resume"]) == 0
    return whole, killed, printed.getvalue(), finished[0]


def equal(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a if k not in ("seconds", "cpu_seconds"))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def test_killed_and_resumed_is_bit_identical(runs):
    folder, other_folder, printed, resumed = runs
    whole, killed = load_state(folder), load_state(other_folder)
    assert equal(whole, killed)
    assert (folder / WEIGHTS).read_bytes() == (other_folder / WEIGHTS).read_bytes()
    (other,) = whole["others"]
    assert not equal(whole["random"], other["random"])
    a, b = (state["objective"]["chains"]["x"]["hidden"] for state in (whole, other))
    assert a.shape == b.shape == (50 + 8, 12)
    assert not torch.equal(a, b)
    assert printed.count("epoch 20") == printed.count("run written") == 1
    assert {p.name for p in other_folder.iterdir()} == {CONFIG, "logs", STATE, "training.png", WEIGHTS}
    assert next((folder / "logs").rglob("metrics.csv")).read_text().count("\n") == 21
    same(resumed.model.weight.detach(), dgm.load(folder).weight.detach())
    assert equal(resumed.history, whole["history"])
    assert processes.world() == 1


@pytest.mark.parametrize(("devices", "world"), [((), 1), (("--devices", "3"), 3)])
def test_another_world_is_refused_and_nothing_is_lost(devices, world, runs, capsys):
    folder = runs[0]
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert cli.main([*FIT.split(), str(folder), *devices, "--resume"]) == 2
    *warned, error = capsys.readouterr().err.splitlines()
    assert all("was trained on threads" in line for line in warned)
    assert f"was trained by 2 processes, not {world}; resume with devices=2" in error
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_run_of_one_process_is_no_run_of_two(tmp_path):
    dgm.fit(machine(), dataset(), out=tmp_path, epochs=1, **QUIET)
    with pytest.raises(ValueError, match="was trained by 1 process, not 2"):
        dgm.fit(machine(), dataset(), out=tmp_path, epochs=2, resume=True, devices=2, **QUIET)


def test_torchrun_evaluates_and_prints_once(runs):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "pyro_dgm.cli"]
    evaluated = subprocess.run(
        [sys.executable, *launcher, "evaluate", str(runs[0]), "--method", "ais", "--json"],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=120, check=False,
    )  # fmt: skip
    assert evaluated.returncode == 0, evaluated.stderr
    found = json.loads(evaluated.stdout)
    test = dgm.data.load("digits", binarisation="threshold").test
    value = dgm.log_likelihood(dgm.load(runs[0]), test, method="exact").value
    assert abs(found["value"] - value) < 4 * found["stderr_estimator"] + 1e-4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"devices": 0}, "devices got 0"),
        ({"devices": True}, "devices got True"),
        ({"devices": 2, "device": "cpu:0"}, "of which each takes its own"),
        ({"devices": 2, "device": "mps"}, "expected cpu or cuda"),
        ({"devices": 2, "device": "gpu"}, "cannot be used here"),
        ({"device": "meta"}, "device 'meta' cannot be used here"),
        ({"devices": 1000, "device": "cuda"}, "1000 processes for"),
        (
            {"devices": 2, "objective": dgm.NegativePhaseObjective(dgm.PCD(kernel=lambda fn: dgm.BlockGibbs(fn)))},
            "torchrun",
        ),
    ],
)
def test_bad_devices_before_anything_starts(options, message, tmp_path):
    with pytest.raises(ValueError, match=message) as error:
        dgm.fit(machine(), dataset(), out=tmp_path / "run", **options, **QUIET)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def child(code):
    return subprocess.Popen([sys.executable, "-c", f"import os, sys, time\n{code}"], stdin=subprocess.PIPE)


def watched(folder, *codes, out=None):
    children = [child(code) for code in codes]
    try:
        launch._watch(children, folder, out)
    finally:
        launch._end(children)
        assert all(c.poll() is not None for c in children)


def test_what_the_processes_say_is_said_once(tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "GRACE", 0.2)
    watched(tmp_path, "", "")
    with pytest.raises(ChildProcessError, match=r"process 2 of 2 was killed by signal 9$"):
        watched(tmp_path, "time.sleep(60)", "os.kill(os.getpid(), 9)")
    (tmp_path / STATE).touch()
    with pytest.raises(
        ChildProcessError, match=r"process 1 of 2 ended with status 3; the last checkpoint in .* is kept"
    ):
        watched(tmp_path, "sys.exit(3)", "time.sleep(60)", out=tmp_path)
    (tmp_path / "error0.json").write_text('["ConnectionError", "another one stopped"]')
    with pytest.raises(ConnectionError, match="another one"):
        watched(tmp_path, "sys.exit(1)", "time.sleep(60)")
    with pytest.raises(ChildProcessError, match="process 2 of 2 was killed"):
        watched(tmp_path, "sys.exit(1)", "os.kill(os.getpid(), 9)")
    (tmp_path / "error1.json").write_text('["TrainingDiverged", "the loss became nan"]')
    with pytest.raises(dgm.TrainingDiverged, match="became nan"):
        watched(tmp_path, "sys.exit(1)", "sys.exit(1)")


def test_a_process_ends_with_the_one_that_started_it(tmp_path):
    """And removes what that one had sent, which may be secret or large."""
    (tmp_path / "sent").mkdir()
    (tmp_path / "sent" / worker.PAYLOAD).touch()
    source = f"import shutil\n{inspect.getsource(worker._end_with_parent)}"
    process = child(f"{source}\n_end_with_parent({str(tmp_path / 'sent')!r})")
    assert process.poll() is None
    process.stdin.close()
    assert process.wait(10) == 1
    assert list(tmp_path.iterdir()) == []


def test_processes_run_nothing_that_lies_in_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "pickle.py").write_text("import os\nos._exit(9)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.setattr(launch.worker, "__name__", "pickle")
    process = launch._start(tmp_path, 0, 1)
    process.stdin.close()
    assert process.wait(60) == 1  # the standard library's pickle has no run


@pytest.mark.parametrize(
    ("act", "status"),
    [(lambda folder: 0, 0), (lambda folder: 1, 1), (lambda folder: 1 / 0, 1)],
    ids=["0", "1", "error"],
)
def test_a_process_ends_without_the_interpreters_farewell(act, status, monkeypatch):
    """In which threads of a process group were aborted, now and then, after all was done."""
    ended = []
    monkeypatch.setattr(worker, "main", act)
    monkeypatch.setattr(sys, "argv", ["", "folder"])
    monkeypatch.setattr(os, "_exit", ended.append)
    worker.run()
    assert ended == [status]


@pytest.mark.parametrize("several", [True, False])
def test_so_does_one_of_several_that_a_launcher_started(several, monkeypatch):
    def farewell(status):
        raise SystemExit("at once" if several else "never")

    monkeypatch.setattr(os, "_exit", farewell)
    monkeypatch.setattr(sys, "argv", ["pyro-dgm", "fit", "no such model"])
    for name, value in {**LAUNCHER, "MASTER_PORT": str(free_port())}.items() if several else ():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        cli.run()
    assert ended.value.code == ("at once" if several else 2)


LAUNCHER = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29999"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"RANK": "one"}, "RANK is 'one'; expected a whole number from 0 to 1"),
        ({"RANK": "2"}, "RANK is '2'; expected a whole number from 0 to 1"),
        ({"RANK": "-1"}, "RANK is '-1'"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE is '0'; expected a whole number of at least 1"),
        ({"WORLD_SIZE": ""}, "WORLD_SIZE is ''"),
        ({"MASTER_PORT": "99999"}, "MASTER_PORT is '99999'; expected a whole number from 0 to 65535"),
        ({"LOCAL_RANK": "x"}, "LOCAL_RANK is 'x'"),
        ({}, "devices got 3 in one of 2 processes"),
    ],
)
def test_a_launchers_nonsense_is_refused_at_once(changed, message, monkeypatch, tmp_path, capsys):
    """So is a bad option, before the processes look for each other: nobody listens at that port."""
    for name, value in (LAUNCHER | {"MASTER_PORT": str(free_port())} | changed).items():
        monkeypatch.setenv(name, value)
    started = time.monotonic()
    assert cli.main(["fit", "rbm", "--devices", "3", "--out", str(tmp_path / "run")]) == 2
    assert time.monotonic() - started < 10
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error


def test_processes_that_do_not_come_are_not_waited_for_forever(monkeypatch):
    for name, value in (LAUNCHER | {"RANK": "1", "MASTER_PORT": str(free_port())}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(processes, "MEETING", 1.0)
    with pytest.raises(ConnectionError, match="the 2 processes do not find each other"):
        processes.join()
    assert processes.world() == 1
