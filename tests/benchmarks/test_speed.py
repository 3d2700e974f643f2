"""Speed, as ratios of times measured in turn in one run: `pytest tests/benchmarks --benchmark-only -s`.

With ``--record`` the ratios go into ``speed.json``, from which the table in tutorials/decisions is made. Machines
differ and are noisy, so nothing is asserted on time.
"""

import functools
import itertools
import subprocess
import sys

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, TraceMeanField_ELBO
from torch import nn

import pyro_dgm as dgm
from pyro_dgm.annealing import AnnealingPath, forward_ais
from pyro_dgm.annealing.bits import AnnealedBits
from pyro_dgm.annealing.partition import base_from_rows
from pyro_dgm.energy.temperatures import temperatures as ladder
from pyro_dgm.native import draws, products

from .speed import chain, fit_step, pcd_by_svi, ratios

pytestmark = pytest.mark.benchmark(group="ratio")


@pytest.mark.parametrize("chains", [100, 500, 2000])
def test_gibbs_sweep(benchmark, chains):
    """A block-Gibbs sweep of a 784×500 RBM against its two products by torch.addmm."""
    rbm = dgm.RBM(784, 500)
    with torch.no_grad():
        rbm.weight.normal_(0, 0.05)
        kernel = dgm.BlockGibbs(rbm())
        W, b, c = rbm.weight, rbm.visible_bias, rbm.hidden_bias
        sweep = chain(kernel, chains)
        v, h = (sweep()[layer] for layer in ("visible", "hidden"))

        def hand_written():
            hidden = (torch.rand_like(h) < torch.sigmoid(torch.addmm(c, v, W))).float()
            return (torch.rand_like(v) < torch.sigmoid(torch.addmm(b, hidden, W.t()))).float()

        ratios(
            benchmark,
            f"Gibbs sweep 784×500, {chains} chains, against its two `addmm`",
            "≤ 1.1",
            sweep=sweep,
            hand_written=hand_written,
            addmm=lambda: (torch.addmm(c, v, W), torch.addmm(b, h, W.t())),
        )


@pytest.mark.parametrize(
    ("chains", "batch", "sweeps", "what"),
    [(20, 200, 1, "20 chains at 10 temperatures, against the sweep of 200 chains"),
     (1, 1, 10, "one chain at 10 temperatures, against ten sweeps of one chain")],
)  # fmt: skip
def test_parallel_tempering(benchmark, chains, batch, sweeps, what):
    """A step of chains at 10 temperatures, 784×500, against as many sweeps of chains: in one batch, or one after another."""
    rbm = dgm.RBM(784, 500)
    with torch.no_grad():
        rbm.weight.normal_(0, 0.05)
    tempering, gibbs = dgm.ParallelTempering(rbm(), 10), dgm.BlockGibbs(rbm())
    sweep = chain(gibbs, batch)
    reference = {"ten_chains" if sweeps == 1 else "ten_sweeps": lambda: [sweep() for _ in range(sweeps)]}
    name = f"Parallel tempering 784×500, {what}"
    ratios(benchmark, name, "≤ 1.15", tempering=chain(tempering, chains), **reference)


def test_lattice(benchmark):
    """A sweep of a 64×64 Ising torus by its edges, and by dense products over the same units."""
    units = torch.arange(4096).view(64, 64)
    edges = torch.cat([torch.stack([units, units.roll(-1, d)], -1).view(-1, 2) for d in (0, 1)])
    graph = dgm.Graph({"visible": dgm.Spin(4096)}, [dgm.Sparse("visible", "visible", edges)])
    machine = dgm.BoltzmannDistribution(graph, {"visible": (torch.zeros(4096),)}, (torch.full((8192,), 0.3),)).machine
    state = machine.neutral_state((100,))
    dense = torch.zeros(4096, 4096)
    dense[edges[:, 0], edges[:, 1]] = dense[edges[:, 1], edges[:, 0]] = 0.3
    halves = [colour[0].atoms for colour in machine.colours]
    weights = [dense[:, half].contiguous() for half in halves]

    def by_products():
        x = state["visible"].clone()
        for half, weight in zip(halves, weights, strict=True):
            p = torch.sigmoid(2 * (x @ weight))
            x[:, half] = (torch.rand_like(p) < p).float() * 2 - 1

    ratios(
        benchmark,
        "sweep of a 64×64 Ising torus, 100 chains, against dense products",
        "",
        sparse=lambda: machine.sweep(state),
        dense=by_products,
    )


@pytest.mark.parametrize("chains", [100, 2000])
def test_products_of_bits(benchmark, chains):
    """Bits times a matrix of 784×500, and the gradient of the matrix, by tables of sums or by the matrix units that there are."""
    x, weight, bias = torch.randint(0, 2, (chains, 784)).float(), torch.randn(784, 500), torch.randn(500)
    cotangent = torch.randn(chains, 500)
    ratios(
        benchmark,
        f"bits times a matrix of 784×500, {chains} rows, by tables of sums or matrix units, against `addmm`",
        "",
        product=lambda: products.product_of_bits(x, weight, bias),
        gradient=lambda: products.product_of_bits(x.t(), cotangent, None),
        addmm=lambda: torch.addmm(bias, x, weight),
    )


def test_bits(benchmark):
    """Exact bits against torch.bernoulli and rand < p, for 1000 rows of 784."""
    logits = torch.randn(1000, 784)
    ratios(
        benchmark,
        "784,000 exact bits, against `rand < p`",
        "",
        exact_bits=lambda: draws.bernoulli(logits),
        torch_bernoulli=lambda: torch.bernoulli(torch.sigmoid(logits)),
        rand_less_p=lambda: (torch.rand_like(logits) < torch.sigmoid(logits)).float(),
    )


def test_ais(benchmark):
    """Annealing 500 chains of a 784×500 RBM: a temperature against its two products by torch.addmm."""
    rbm = dgm.RBM(784, 500)
    temperatures, chains = 5000, 500
    with torch.no_grad():
        rbm.weight.normal_(0, 0.05)
        W, b, c = rbm.weight, rbm.visible_bias, rbm.hidden_bias
        dist = rbm()
        path = AnnealingPath(dist.machine, base_from_rows(dist, (torch.rand(100, 784) < 0.2).float()))
        # Fifty steps of the ladder with 5000: the cost of one does not depend on where it is, that of the start is spread.
        betas = ladder(temperatures)[2000:2051]
        loop = AnnealedBits(dist, path)
        v, h = dist.machine.neutral_state((chains,)).values()

        def addmm():
            for _ in range(len(betas) - 1):
                torch.addmm(c, v, W), torch.addmm(b, h, W.t())

        ratios(
            benchmark,
            "AIS 784×500, 500 chains, fifty of 5000 temperatures, against their products by `addmm`",
            "≤ 0.5",
            loop=lambda: loop.forward(betas, chains),
            torch=lambda: forward_ais(path, betas, chains, torch.Size()),
            addmm=addmm,
        )


def bare_pcd(x, chains=100, lr=0.01):
    """PCD-1 written by hand, without Pyro or autograd."""
    n, visible = x.shape
    W, b, c = 0.01 * torch.randn(visible, 500), torch.zeros(visible), torch.zeros(500)
    state = {"v": (torch.rand(chains, visible) < 0.5).float()}

    def step():
        v = state["v"]
        h = (torch.rand(chains, 500) < torch.sigmoid(torch.addmm(c, v, W))).float()
        v = state["v"] = (torch.rand(chains, visible) < torch.sigmoid(torch.addmm(b, h, W.t()))).float()
        negative = torch.sigmoid(torch.addmm(c, v, W))
        positive = torch.sigmoid(torch.addmm(c, x, W))
        W.addmm_(x.t(), positive, alpha=lr / n).addmm_(v.t(), negative, alpha=-lr / chains)
        b.add_(x.mean(0) - v.mean(0), alpha=lr)
        c.add_(positive.mean(0) - negative.mean(0), alpha=lr)

    return step


def test_pcd_step(benchmark):
    """PCD-1 on 784×500, batch 100: the whole Pyro stack, SVI with light runs, fit's step, a bare torch loop."""
    x = (torch.rand(100, 784) < 0.2).float()
    rbm, second, other = (dgm.RBM(784, 500) for _ in range(3))
    svi, light = pcd_by_svi(rbm), pcd_by_svi(second, dgm.optim.SGD, dgm.LightELBO())
    ratios(
        benchmark,
        "PCD-1 step, 784×500, batch 100, against a bare loop",
        "≤ 1.2",
        svi=lambda: svi.step(x),
        svi_light=lambda: light.step(x),
        fit_centred=fit_step(other, other.objective(centred=True), x, "sgd", 1e-2),
        bare=bare_pcd(x),
    )


def test_dbm_step(benchmark):
    """A variational PCD step of a 784-500-1000 DBM (ten rounds of mean field, batch and chains 100) against its products."""
    x = (torch.rand(100, 784) < 0.2).float()
    dbm = dgm.DBM(784, (500, 1000), rounds=10)
    first, second = (w.detach().clone() for w in dbm.weights)
    b, c1, c2 = torch.zeros(784), torch.zeros(500), torch.zeros(1000)
    h1, h2 = torch.rand(100, 500), torch.rand(100, 1000)

    def products():
        below = torch.addmm(c1, x, first)
        for _ in range(10):
            torch.addmm(below, h2, second.t()), torch.addmm(c2, h1, second)
        # A Gibbs sweep of as many chains, and the outer products of both phases.
        torch.addmm(c1, x, first), torch.addmm(c1, h2, second.t())
        torch.addmm(b, h1, first.t()), torch.addmm(c2, h1, second)
        for _ in range(2):
            x.t() @ h1, h1.t() @ h2

    ratios(
        benchmark,
        "DBM step, 784-500-1000, batch 100, ten rounds of mean field, against its products",
        "",
        fit=fit_step(dbm, dbm.objective(chains=100), x, "sgd", 1e-4),
        products=products,
    )


class PlainVAE(nn.Module):
    """A VAE of torch's own layers, with Pyro programs as Pyro's own examples write them."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(*layers(784, 200, 200, 100))
        self.decoder = nn.Sequential(*layers(50, 200, 200, 784))

    def model(self, x):
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(len(x), 50), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            location, log_scale = self.encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(location, log_scale.exp()).to_event(1))


def layers(*sizes):
    for inputs, outputs in itertools.pairwise(sizes[:-1]):
        yield from (nn.Linear(inputs, outputs), nn.Tanh())
    yield nn.Linear(*sizes[-2:])


def test_vae_step(benchmark):
    """A VAE step, 784-200-200-50, batch 100: SVI with Pyro's Adam and with its fused one, the same of a VAE as Pyro's examples
    write it, SVI with light runs, fit's step, and bare torch with its default Adam."""
    x = (torch.rand(100, 784) < 0.2).float()
    plain, bare = PlainVAE(), PlainVAE()
    optimiser = torch.optim.Adam(bare.parameters(), lr=1e-3)

    elbo = TraceMeanField_ELBO(max_plate_nesting=1)

    def svi(vae, **options):
        return SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-3, **options}), elbo)

    def bare_step():
        optimiser.zero_grad()
        location, log_scale = bare.encoder(x).chunk(2, -1)
        z = location + log_scale.exp() * torch.randn_like(location)
        error = torch.nn.functional.binary_cross_entropy_with_logits(bare.decoder(z), x, reduction="sum")
        kl = 0.5 * (location**2 + (2 * log_scale).exp() - 1 - 2 * log_scale).sum()
        ((error + kl) / 100).backward()
        optimiser.step()

    other, light = dgm.VAE(784), dgm.VAE(784)
    runs = {"svi": svi(dgm.VAE(784)), "svi_fused": svi(dgm.VAE(784), fused=True), "svi_of_plain_vae": svi(plain)}
    runs["svi_light"] = SVI(light.model, light.guide, dgm.optim.Adam({"lr": 1e-3}), dgm.LightELBO(elbo))
    ratios(
        benchmark,
        "VAE step, 784-200-200-50, batch 100, against bare torch",
        "fit ≤ 0.9, SVI ≤ 1.3",
        **{name: functools.partial(run.step, x) for name, run in runs.items()},
        fit=fit_step(other, other.objective(), x, "adam", 1e-3),
        bare=bare_step,
    )


def bare_sbn(sbn, x, particles, loss_of):
    """A step on the K-sample figures of a 784-200-200 belief network, written by hand."""
    w1, w2 = sbn.weights
    b0, b1, b2 = sbn.biases
    r1, r2 = sbn.recognition_weights
    c1, c2 = sbn.recognition_biases
    optimiser = torch.optim.SGD(sbn.parameters(), lr=1e-4)
    cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits

    def log_prob(value, logits):
        return -cross_entropy(logits, value.expand(logits.shape), reduction="none").sum(-1)

    def draw(logits):
        return (torch.rand_like(logits) < torch.sigmoid(logits.detach())).float()

    def step():
        optimiser.zero_grad()
        q1 = (x @ r1 + c1).expand(particles, -1, -1)
        h1 = draw(q1)
        q2 = h1 @ r2 + c2
        h2 = draw(q2)
        log_q = log_prob(h1, q1) + log_prob(h2, q2)
        log_p = log_prob(h2, b2.expand(h2.shape)) + log_prob(h1, h2 @ w2.t() + b1) + log_prob(x, h1 @ w1.t() + b0)
        loss_of(log_p, log_q).backward()
        optimiser.step()

    return step


def bare_rws(log_p, log_q):
    share = torch.softmax((log_p - log_q).detach(), 0)
    return -(share * (log_p + log_q)).sum() / 100


def bare_vimco(log_p, log_q):
    log_w = log_p - log_q
    k = len(log_w)
    bound = log_w.logsumexp(0) - torch.tensor(float(k)).log()
    means = (log_w.sum(0) - log_w) / (k - 1)
    eye = torch.eye(k).unsqueeze(-1)
    replaced = log_w * (1 - eye) + means * eye
    without = replaced.logsumexp(1) - torch.tensor(float(k)).log()
    return -(bound + ((bound - without).detach() * log_q).sum(0)).sum() / 100


def bare_nvil(log_p, log_q):
    reward = (log_p - log_q).detach()
    return -((reward - reward.mean()) * log_q + log_p).mean(0).sum() / 100


@pytest.mark.parametrize(
    ("name", "particles", "bare"),
    [("rws", 5, bare_rws), ("vimco", 5, bare_vimco), ("nvil", 1, bare_nvil), ("rws", 50, bare_rws)],
)
def test_estimators(benchmark, name, particles, bare):
    """A step of an estimator on a 784-200-200 belief network, batch 100, as a module under torch's optimiser and by fit, against
    the same loss in bare torch."""
    x = (torch.rand(100, 784) < 0.2).float()
    sbn, fitted, other = (dgm.SBN(784, (200, 200)) for _ in range(3))
    estimator, of_fit = (
        dgm.NVIL() if name == "nvil" else sbn.objective(name, particles=particles).elbo for _ in range(2)
    )
    module = estimator(sbn.model, sbn.guide)
    optimiser = torch.optim.SGD(sbn.parameters(), lr=1e-4)

    def ours():
        optimiser.zero_grad()
        (module(x) / 100).backward()
        optimiser.step()

    ratios(
        benchmark,
        f"{name.upper()} step, belief network 784-200-200, batch 100, K = {particles}, against bare torch",
        "≤ 1.5",
        rounds=20,
        estimator=ours,
        fit=fit_step(fitted, dgm.Elbo(of_fit), x, "sgd", 1e-4),
        bare=bare_sbn(other, x, particles, bare),
    )


def test_draw_steps(benchmark):
    """A training step of DRAW with attention on 28×28 pictures, batch 100: twice the strokes, twice the time."""
    x = (torch.rand(100, 784) < 0.2).float()

    def step_of(strokes):
        draw = dgm.DRAW(784, steps=strokes, latent=32, hidden=128, attention=(2, 5))
        return fit_step(draw, draw.objective(), x, "sgd", 1e-5)

    ratios(
        benchmark,
        "DRAW step, 28×28 with attention, batch 100: 16 strokes against 8",
        "≤ 2.1",
        rounds=10,
        sixteen_strokes=step_of(16),
        eight_strokes=step_of(8),
    )


def test_import_time(benchmark):
    """import pyro_dgm above import pyro, each in fresh processes."""

    def run(code):
        return lambda: subprocess.run([sys.executable, "-c", code], check=True)

    ratios(
        benchmark,
        "import in a fresh process, against `import pyro`",
        "≤ 0.3 s above",
        rounds=7,
        pyro_dgm=run("import pyro; import pyro_dgm as d; d.RBM; d.VAE; d.fit"),
        pyro=run("import pyro"),
    )
