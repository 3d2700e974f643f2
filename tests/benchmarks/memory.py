"""The memory of training on a file of many rows: `python -m tests.benchmarks.memory --rows 10000000`.

Writes a file of packed random bits, trains a restricted Boltzmann machine for one pass over it in a process of its own, with
checkpoints, prints that process's peak of resident memory (mapped pages of the file count), and deletes the file.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

COLUMNS = 784


def write(path, rows):
    """Rows of independent bits, whose columns have probabilities of their own."""
    from pyro_dgm.data.packing import write_packed

    generator = np.random.default_rng(0)
    levels = generator.integers(10, 120, COLUMNS, dtype=np.uint8)

    def blocks(at_once=20_000):
        for start in range(0, rows, at_once):
            yield generator.integers(0, 256, (min(at_once, rows - start), COLUMNS), dtype=np.uint8) < levels

    with open(path, "wb") as file:
        write_packed(file, rows, COLUMNS, blocks())


def train(path, out, hidden, batch_size, send):
    """Train for one pass; sends seconds and the peak of resident memory in bytes."""
    import pyro_dgm as dgm

    start = time.perf_counter()
    data = dgm.data.load(path)
    opened = time.perf_counter() - start
    run = dgm.fit(dgm.RBM(COLUMNS, hidden), data, epochs=1, batch_size=batch_size, out=out, progress=False)
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    send.send({
        "peak": peak, "opening": opened, "fitting": time.perf_counter() - start - opened,
        "pass": run.history[0]["seconds"], "steps": -(-len(data.train) // batch_size),
    })  # fmt: skip


def measured(rows, hidden=100, batch_size=1000, folder=None):
    """What ``train`` sends, on a file that is made for it."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(dir=folder) as name:
        path = Path(name) / "bits.npz"
        write(path, rows)
        receive, send = context.Pipe(duplex=False)
        process = context.Process(target=train, args=(path, Path(name) / "run", hidden, batch_size, send))
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(process.exitcode)
        return {"file": path.stat().st_size, **receive.recv()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--hidden", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=1000)
    parser.add_argument("--folder", help="where the file is written; a temporary folder by default")
    options = parser.parse_args()
    found = measured(options.rows, options.hidden, options.batch_size, options.folder)
    whole = 4 * COLUMNS * options.rows
    print(
        f"{options.rows} rows of {COLUMNS} bits: {found['file'] / 1e9:.2f} GB in the file, {whole / 1e9:.1f} GB in float32"
    )
    print(f"opened in {found['opening']:.1f} s; checks, {found['steps']} steps and checkpoint in {found['fitting']:.0f} s, "
          f"of which the pass {found['pass']:.0f} s")  # fmt: skip
    print(f"peak of resident memory: {found['peak'] / 1e9:.2f} GB")
