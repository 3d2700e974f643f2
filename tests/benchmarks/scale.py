"""What large problems cost, measured: `python -m tests.benchmarks.scale` writes scale.json, from which a page is made.

Every entry is timed on a part of the problem that takes seconds and multiplied up; the page says so.
"""

import json
import statistics
import time
from pathlib import Path

import torch

import pyro_dgm as dgm
from pyro_dgm.native import precision
from pyro_dgm.recipes.surroundings import machine, versions

RECORD = Path(__file__).with_name("scale.json")
MILLION = 1_000_000


def seconds(run, rounds=5):
    """The median time of a call, after two that do not count."""
    times = []
    for _ in range(2 + rounds):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


def step_of(model, rows, **options):
    """A training step of a model on some rows, as ``fit`` takes it."""
    objective = model.objective(**options)
    objective.attach(model)
    optimiser = torch.optim.Adam(objective.parameter_groups(model), lr=1e-4, fused=True)

    def step():
        optimiser.zero_grad(set_to_none=True)
        objective.loss(rows).backward()
        optimiser.step()

    return step


def training():
    """Minutes for one pass over a million rows of 784 bits."""
    found = {}
    cases = [
        ("RBM 784-500, PCD-1, batches of 100", dgm.RBM(784, 500), 100, {}),
        ("RBM 784-500, PCD-1, batches of 1000", dgm.RBM(784, 500), 1000, {"chains": 1000}),
        ("VAE 784-200-200-50, batches of 100", dgm.VAE(784, latent=50, hidden=(200, 200)), 100, {}),
        ("VAE 784-200-200-50, batches of 1000", dgm.VAE(784, latent=50, hidden=(200, 200)), 1000, {}),
        ("SBN 784-200-200, RWS with K = 5, batches of 100", dgm.SBN(784, (200, 200)), 100, {}),
        ("NADE 784-500, batches of 100", dgm.NADE(784, hidden=500), 100, {}),
    ]
    for name, model, batch, options in cases:
        rows = (torch.rand(batch, 784) < 0.2).float()
        each = seconds(step_of(model, rows, **options), 20)
        found[f"one pass over a million rows: {name}"] = each * MILLION / batch
    return found


def rbm(visible, hidden):
    """A machine with small random weights."""
    model = dgm.RBM(visible, hidden)
    with torch.no_grad():
        model.weight.normal_(0, 0.05)
    return model()


def sampling():
    """A thousand chains of an RBM, a thousand sweeps each; and annealing."""
    dist, found = rbm(784, 500), {}

    def run(engine, precision="float32"):
        kernel = dgm.BlockGibbs(dist, precision=precision)
        mcmc = dgm.VectorizedMCMC(kernel, 1, 0, num_chains=1000, thinning=20, engine=engine, disable_progbar=True)
        return mcmc.run

    name = "1000 sweeps of 1000 chains, RBM 784-500"
    found[f"{name}, torch"] = 50 * seconds(run("torch"))
    found[f'{name}, `engine="compiled"`'] = 50 * seconds(run("compiled"))
    if precision.has_bfloat16_products():
        found[f'{name}, `precision="bfloat16"`'] = 50 * seconds(run("torch", "bfloat16"))
    rows = (torch.rand(1000, 784) < 0.2).float()
    for engine in ("torch", "jax"):
        anneal = lambda engine=engine: dgm.log_partition(  # noqa: E731
            dist, "ais", chains=500, temperatures=torch.linspace(0, 1, 101), base=rows, reverse=False, engine=engine
        )
        found[f'AIS, 500 chains, 5000 temperatures, RBM 784-500, `engine="{engine}"`'] = 50 * seconds(anneal, 3)
    return found


def large():
    """Machines of a hundred thousand units."""
    found, side = {}, 316
    units = torch.arange(side * side).view(side, side)
    edges = torch.cat([torch.stack([units, units.roll(-1, d)], -1).view(-1, 2) for d in (0, 1)])
    graph = dgm.Graph({"visible": dgm.Spin(side * side)}, [dgm.Sparse("visible", "visible", edges)])
    biases = {"visible": (torch.zeros(side * side),)}
    lattice = dgm.BoltzmannDistribution(graph, biases, (torch.full((len(edges),), 0.3),))
    for engine in ("torch", "compiled"):
        mcmc = dgm.VectorizedMCMC(
            dgm.BlockGibbs(lattice), 1, 0, num_chains=100, thinning=2, engine=engine, disable_progbar=True
        )
        found[f'1000 sweeps of 100 chains, lattice of 99,856 spins, `engine="{engine}"`'] = 500 * seconds(mcmc.run, 3)
    dense = rbm(10_000, 10_000)
    state = dense.machine.neutral_state((100,))
    with torch.no_grad():
        sweep = seconds(lambda: dense.machine.sweep(state), 3)
    found["1000 sweeps of 100 chains, RBM 10,000-10,000 (10⁸ weights)"] = 1000 * sweep
    found["the same, RBM 50,000-50,000 (2.5 · 10⁹ weights), by the number of weights"] = 25_000 * sweep
    return found


def table():
    """The recorded costs in Markdown."""
    known = json.loads(RECORD.read_text(encoding="utf-8"))
    lines = [f"{known['machine']}, torch {known['versions']['torch']}.", "", "| what | time |", "|---|---|"]
    lines += [f"| {name} | {_clock(value)} |" for name, value in known["seconds"].items()]
    return "\n".join(lines)


def _clock(value):
    for unit, size in (("h", 3600), ("min", 60)):
        if value >= 2 * size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.1f} s"


if __name__ == "__main__":
    torch.manual_seed(0)
    measured = {**training(), **sampling(), **large()}
    content = {"machine": machine(), "versions": versions(), "seconds": measured}
    RECORD.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(table())
