"""Fixtures of all tests: seeds, threads, data."""

import gc
import os
from pathlib import Path

import pyro
import pytest
import torch


@pytest.fixture(autouse=True)
def _seeded():
    """Every test starts from the same random state and an empty parameter store."""
    pyro.set_rng_seed(20)
    pyro.clear_param_store()


def pytest_configure(config):
    if os.environ.get("PYTEST_XDIST_WORKER"):
        # Two torch processes with two threads each on two cores slow small operations down a hundredfold: one thread for the
        # worker, and for the processes and notebooks that it starts.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        torch.set_num_threads(1)


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Python looks for garbage in what tests make, not in modules and tests, which stay and are ten times as much."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture
def short_anchor(monkeypatch):
    """Training's own log Z is annealed over 10 temperatures, not 300: for tests of whether training runs, not of how well."""
    from pyro_dgm.objectives.phases import tracking

    found = tracking.log_partition
    monkeypatch.setattr(
        tracking, "log_partition", lambda *arguments, **options: found(*arguments, **options | {"temperatures": 10})
    )


@pytest.fixture
def quick_compilation():
    """XLA compiles in half the time, to slower code: not for tests of rounding or speed."""
    jax = pytest.importorskip("jax")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(params=["tables", "units"])
def way_of_bits(request, monkeypatch):
    """Bits are multiplied by tables of sums, or by matrix units where the processor has them."""
    from pyro_dgm.native import few_sweeps, layer_sums, packed, products

    by_units = request.param == "units"
    if by_units and not products.multiplies_by_units():
        pytest.skip("the processor has no matrix units (AMX)")
    for module in (products, packed, few_sweeps, layer_sums):
        monkeypatch.setattr(module, "multiplies_by_units", lambda: by_units)
    return request.param


@pytest.fixture
def data_dir():
    """The data files' folder; a wrong path fails, so that a typing error does not skip the tests on real data."""
    folder = os.environ.get("PYRO_DGM_DATA")
    if not folder:
        pytest.skip("needs the data files: set PYRO_DGM_DATA")
    if not Path(folder).is_dir():
        pytest.fail(f"PYRO_DGM_DATA is {folder!r}, which is no folder")
    return folder
