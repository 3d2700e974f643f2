"""Ratios of medians, their record, and the table that CONTRIBUTING shows of it."""

import json
import statistics
import time
from pathlib import Path

from pyro_dgm.recipes import machine, versions

RECORD = Path(__file__).with_name("speed.json")


def ratios(benchmark, what, aim, rounds=30, **functions):
    """Time functions in turn, the last one as the reference; the figures go to the benchmark's ``extra_info``."""
    names = list(functions)
    seconds = {name: [] for name in names}

    def once():
        for name in names:
            start = time.perf_counter()
            functions[name]()
            seconds[name].append(time.perf_counter() - start)

    for _ in range(1 + rounds // 10):
        once()
    for name in names:
        seconds[name].clear()
    benchmark.pedantic(once, rounds=rounds, iterations=1)
    medians = {name: statistics.median(s) for name, s in seconds.items()}
    benchmark.extra_info.update(what=what, aim=aim, seconds=medians)
    reference = medians[names[-1]]
    print(f"\n{what}: " + ", ".join(f"{n} {m * 1e3:.2f} ms ({m / reference:.2f})" for n, m in medians.items()))


def record(benchmarks):
    """Write what a session measured."""
    rows = [b.extra_info for b in benchmarks if "what" in b.extra_info]
    RECORD.write_text(
        json.dumps({"machine": machine(), "versions": versions(), "rows": rows}, indent=1, ensure_ascii=False) + "\n",
        encoding="utf-8",
    )


def table():
    """The recorded ratios in Markdown."""
    known = json.loads(RECORD.read_text(encoding="utf-8"))
    lines = [
        f"{known['machine']}, torch {known['versions']['torch']}; medians.", "",
        "| what | measured | reference | ratio | aim |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for row in known["rows"]:
        (*others, (reference, base)) = row["seconds"].items()
        for number, (name, seconds) in enumerate(others):
            what = row["what"] if number == 0 else "the same"
            aim = row["aim"] if number == 0 else ""
            lines.append(
                f"| {what} | `{name}` {seconds * 1e3:.3g} ms | `{reference}` {base * 1e3:.3g} ms | "
                f"{seconds / base:.2f} | {aim} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
