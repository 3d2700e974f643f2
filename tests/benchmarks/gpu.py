"""Gibbs sweeps on a GPU against their matrix products: `python -m tests.benchmarks.gpu` writes gpu.json.

Products are timed in single precision, in TF32 and in bfloat16, sweeps in the first two. ``--device cpu --chains 100`` shows
that the script works where there is no GPU, and writes nothing.
"""

import argparse
import json
import statistics
import time
from contextlib import contextmanager
from pathlib import Path

import torch

import pyro_dgm as dgm
from pyro_dgm.recipes.surroundings import machine, versions

RECORD = Path(__file__).with_name("gpu.json")
SIZES = [(784, 500), (1024, 1024), (2048, 2048), (4096, 4096)]


def seconds(run, device, rounds=20):
    """The median time of a call that has finished on the device, after some that do not count."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    times = []
    for _ in range(5 + rounds):
        wait()
        start = time.perf_counter()
        run()
        wait()
        times.append(time.perf_counter() - start)
    return statistics.median(times[5:])


@contextmanager
def products_in(kind):
    """``highest`` is single precision, ``high`` is TF32 where there are units for it."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(kind)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def sweep_and_products(visible, hidden, chains, device):
    """Seconds of a sweep and of its two products, by precision."""
    rbm = dgm.RBM(visible, hidden).to(device)
    with torch.no_grad():
        rbm.weight.normal_(0, 0.05)
        kernel = dgm.BlockGibbs(rbm())
        state = kernel.start(chains)
        v, h = (state[layer] for layer in ("visible", "hidden"))
        weight, b, c = rbm.weight.detach(), rbm.visible_bias.detach(), rbm.hidden_bias.detach()
        found = {}
        for name, kind in (("float32", "highest"), ("tf32", "high")):
            with products_in(kind):
                found[f"sweep, {name}"] = seconds(lambda: kernel.sample(state), device)
                found[f"products, {name}"] = seconds(
                    lambda: (torch.addmm(c, v, weight), torch.addmm(b, h, weight.t())), device
                )
        narrow = [t.bfloat16() for t in (v, h, weight, b, c)]
        v, h, weight, b, c = narrow
        found["products, bfloat16"] = seconds(
            lambda: (torch.addmm(c, v, weight), torch.addmm(b, h, weight.t())), device
        )
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--chains", type=int, default=10_000)
    options = parser.parse_args()
    device = torch.device(options.device)
    sizes = SIZES if device.type == "cuda" else SIZES[:1]
    rows = [
        {"visible": visible, "hidden": hidden, "chains": options.chains, "seconds": found}
        for visible, hidden in sizes
        for found in [sweep_and_products(visible, hidden, options.chains, device)]
    ]
    text = json.dumps({"machine": machine(), "versions": versions(), "rows": rows}, indent=1)
    print(text)
    if device.type == "cuda":
        RECORD.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
