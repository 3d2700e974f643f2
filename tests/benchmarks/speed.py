"""Ratios of times, their record, and the table that tutorials/decisions shows of it."""

import datetime
import json
import statistics
import time
from pathlib import Path

import pyro
from pyro.infer import SVI, Trace_ELBO

import pyro_dgm as dgm
from pyro_dgm.inference.light import checked_rows
from pyro_dgm.recipes.surroundings import machine, versions
from pyro_dgm.train.settings import Settings

RECORD = Path(__file__).with_name("speed.json")


def ratios(benchmark, what, aim, rounds=30, pause=0.0, **functions):
    """Time functions in turn, the last one as the reference; the figures go to the benchmark's ``extra_info``.

    A ratio is the median of those of the rounds: what else the machine does changes from one round to the next, less so
    within one. Threads of another package's pool may turn for tens of milliseconds after its work, on the cores of whatever
    comes next; ``pause`` seconds before every function let them fall asleep.
    """
    names = list(functions)
    seconds = {name: [] for name in names}

    def once():
        for name in names:
            if pause:
                time.sleep(pause)
            start = time.perf_counter()
            functions[name]()
            seconds[name].append(time.perf_counter() - start)

    for _ in range(1 + rounds // 10):
        once()
    for name in names:
        seconds[name].clear()
    benchmark.pedantic(once, rounds=rounds, iterations=1)
    medians = {name: statistics.median(s) for name, s in seconds.items()}
    found = {
        name: statistics.median(a / b for a, b in zip(seconds[name], seconds[names[-1]], strict=True))
        for name in names[:-1]
    }
    benchmark.extra_info.update(what=what, aim=aim, seconds=medians, ratios=found)
    print(f"\n{what}: " + ", ".join(f"{n} {m * 1e3:.2f} ms ({found.get(n, 1):.2f})" for n, m in medians.items()))


def chain(kernel, chains):
    """A function that moves a kernel's chains on by one step, each from where the last one left them."""
    state = kernel.start(chains)

    def step():
        nonlocal state
        state = kernel.sample(state)
        return state

    return step


def fit_step(model, objective, x, optimiser, learning_rate):
    """A training step as ``fit`` makes it, with its optimiser, of a batch whose rows were checked."""
    objective.attach(model)
    settings = Settings(learning_rate, optimiser, None, len(x), 1, None, None, 0)
    stepper = settings.make_optimiser(objective.all_groups(model), x.device)

    def step():
        stepper.zero_grad(set_to_none=True)
        with checked_rows(complete=True):
            objective.loss(x).backward()
        stepper.step()

    return step


def pcd_by_svi(rbm, optimiser=pyro.optim.SGD, loss=None):
    """SVI of a machine by PCD with 100 chains: with Pyro's own optimiser and estimator, unless others are given."""
    program = dgm.negative_phase(rbm.model, dgm.PCD(chains=100))
    return SVI(program, rbm.guide, optimiser({"lr": 1e-4}), loss or Trace_ELBO(max_plate_nesting=1))


def record(benchmarks):
    """Write what a session measured, in place of what this machine measured of the same things before."""
    rows = [b.extra_info for b in benchmarks if "what" in b.extra_info]
    today = datetime.date.today().isoformat()
    measured = {row["what"] for row in rows}
    earlier = [known for known in records() if known["machine"] == machine()]
    kept = [row for known in earlier for row in known["rows"] if row["what"] not in measured]
    new = {"machine": machine(), "date": today, "versions": versions(), "rows": kept + rows}
    others = [known for known in records() if known["machine"] != new["machine"]]
    sessions = sorted([*others, new], key=lambda known: known["machine"])
    RECORD.write_text(json.dumps(sessions, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def records():
    """The sessions of benchmarks, one a machine."""
    return json.loads(RECORD.read_text(encoding="utf-8"))


def table():
    """The recorded ratios in Markdown, with a column for every machine."""
    sessions = records()
    heads = [f"{known['machine']}, torch {known['versions']['torch']}, {known['date']}" for known in sessions]
    cells = {}
    for column, known in enumerate(sessions):
        for row in known["rows"]:
            (*others, (reference, base)) = row["seconds"].items()
            for name, seconds in others:
                ratio = row.get("ratios", {}).get(name, seconds / base)
                times = f"{ratio:.2f} ({seconds * 1e3:.3g} / {base * 1e3:.3g} ms)"
                cells.setdefault((row["what"], row["aim"], reference), {}).setdefault(name, {})[column] = times
    lines = [
        f"| what | measured / reference | aim | {' | '.join(heads)} |",
        "|---|---|---|" + "---|" * len(sessions),
    ]
    for (what, aim, reference), measured in cells.items():
        for number, (name, times) in enumerate(measured.items()):
            first = (what, aim) if number == 0 else ("the same", "")
            found = " | ".join(times.get(column, "") for column in range(len(sessions)))
            lines.append(f"| {first[0]} | `{name}` / `{reference}` | {first[1]} | {found} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
