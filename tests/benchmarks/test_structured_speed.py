"""Speed of convolutional and gated machines, as ratios to their products: `pytest tests/benchmarks --benchmark-only -s`."""

import pytest
import torch
from torch.nn import functional as F

import pyro_dgm as dgm

from .speed import ratios

pytestmark = pytest.mark.benchmark(group="ratio")


@pytest.mark.parametrize("pool", [None, 2], ids=["bits", "regions"])
def test_convolutional_sweep(benchmark, pool):
    """A sweep of a convolutional RBM against torch's own two convolutions, with regions also a softmax over every region."""
    rbm = dgm.ConvolutionalRBM(784, filters=24, size=5, pool=pool)
    with torch.no_grad():
        rbm.weight.normal_(0, 0.1)
        machine = rbm().machine
        state = machine.neutral_state((100,))
        pictures, maps = state["visible"].view(100, 1, 28, 28), torch.bernoulli(torch.full((100, *rbm.maps), 0.1))
        regions = torch.randn(100, 24 * 144, 4)

        def convolutions():
            F.conv2d(pictures, rbm.weight, rbm.hidden_bias)
            F.conv_transpose2d(maps, rbm.weight, rbm.visible_bias)
            if pool is not None:
                torch.softmax(F.pad(regions, (0, 1)), -1)

        with_regions = "" if pool is None else " in regions 2×2"
        softmax = "" if pool is None else " and a softmax over its regions"
        ratios(
            benchmark,
            f"sweep of a convolutional RBM, 28×28, 24 filters 5×5{with_regions}, 100 chains, against two convolutions{softmax}",
            "≤ 1.1",
            sweep=lambda: machine.sweep(state),
            convolutions=convolutions,
        )


def test_pooled_draw(benchmark):
    """Detectors of 345,600 regions 2×2, of which at most one is on, against the softmax of their fields and a zero."""
    unit, fields = dgm.AtMostOne(24, 12, 12, 4), torch.randn(100, 24, 12, 12, 4)
    ratios(
        benchmark,
        "draw of 345,600 regions 2×2 with at most one detector on, against a softmax",
        "≤ 1.1",
        draw=lambda: unit.sample(fields),
        softmax=lambda: torch.softmax(F.pad(fields, (0, 1)), -1),
    )


def test_gated_sweep(benchmark):
    """A sweep of a gated RBM given inputs, through its factors, against the four products behind it."""
    gated = dgm.GatedRBM(visible=1568, inputs=784, hidden=200, factors=400)
    with torch.no_grad():
        given = torch.bernoulli(torch.full((100, 784), 0.5))
        machine = gated(given).machine
        state = machine.neutral_state((100,))
        y, h, gates = state["visible"], state["hidden"], given @ gated.input_weight

        def products():
            torch.addmm(gated.hidden_bias, (y @ gated.output_weight) * gates, gated.hidden_weight.t())
            torch.addmm(gated.visible_bias, (h @ gated.hidden_weight) * gates, gated.output_weight.t())

        ratios(
            benchmark,
            "sweep of a gated RBM, 784 outputs, 200 hidden units, 400 factors, 100 rows, against its four products",
            "≤ 1.2",
            sweep=lambda: machine.sweep(state),
            products=products,
        )
