"""``--record`` keeps the ratios of a benchmark session."""

from . import speed


def pytest_addoption(parser):
    parser.addoption("--record", action="store_true", help="write the measured ratios into tests/benchmarks/speed.json")


def pytest_sessionfinish(session):
    benchmarks = getattr(session.config, "_benchmarksession", None)
    if session.config.getoption("--record", default=False) and benchmarks is not None:
        speed.record(benchmarks.benchmarks)
