"""The recursion of NADE against a loop that autograd differentiates, and what it promises of memory and repetition."""

import itertools
import math
import tracemalloc

import numpy as np
import pytest
import torch

from pyro_dgm.autoregressive.recursion import recursion as nade_recursion
from pyro_dgm.native import processor

ROUNDING = 2.0**-24

VARIANTS = pytest.mark.parametrize(
    ("masked", "scaled", "activation"), list(itertools.product([False, True], [False, True], ["sigmoid", "relu"]))
)


@pytest.fixture(params=["compiled", "steps"])
def way(request, monkeypatch):
    monkeypatch.setattr(processor, "RECURSION_STEP", math.inf if request.param == "compiled" else 0)
    return request.param


def plain(x, start, inputs, outputs, order, mask=None, scale=None, activation="sigmoid"):
    """Equation 20.83 as it stands."""
    a, numbers = start.expand(len(x), inputs.shape[-1]), [None] * len(order)
    for i in order.tolist():
        z = a if scale is None else a * scale[i]
        h = torch.sigmoid(z) if activation == "sigmoid" else z.clamp_min(0)
        numbers[i] = h @ outputs[i].T
        a = a + x[:, i] @ inputs[i]
        if mask is not None:
            a = a + mask[i]
    return torch.stack(numbers, 1)


def case(rows, columns, features, parameters, units, masked, scaled, bits=True, seed=0):
    """Float64 arguments of the recursion, all of which need a gradient."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape, size=1.0):
        return (size * torch.randn(shape, generator=g, dtype=torch.float64)).float().double().requires_grad_()

    x = normal(rows, columns, features)
    if bits:
        x = (x.detach() > 0.8).double().requires_grad_()
    return {
        "x": x,
        "start": normal(rows, units),
        "inputs": normal(columns, features, units, size=0.3),
        "outputs": normal(columns, parameters, units),
        "order": torch.randperm(columns, generator=g),
        "mask": normal(columns, units, size=0.2) if masked else None,
        "scale": (1 + 0.3 * torch.rand(columns, generator=g, dtype=torch.float64)).float().double().requires_grad_()
        if scaled
        else None,
    }


def results(function, arguments, activation, dtype=torch.float64):
    """Numbers and the derivatives of a weighted sum of them, by name."""
    own = {n: a if a is None or n == "order" else a.detach().to(dtype).requires_grad_() for n, a in arguments.items()}
    numbers = function(**own, activation=activation)
    weight = torch.linspace(-1, 1, numbers.numel(), dtype=torch.float64).view_as(numbers).to(dtype)
    wanted = {n: a for n, a in own.items() if n != "order" and a is not None}
    found = torch.autograd.grad(numbers, list(wanted.values()), weight)
    return {"numbers": numbers.detach(), **dict(zip(wanted, found, strict=True))}


def close(got, expected, terms):
    """Single precision: sums of so many terms, all of a size with the largest result."""
    for name, value in expected.items():
        error = (got[name] - value).abs().max() / value.abs().max()
        assert error < terms * ROUNDING, (name, float(error))


@pytest.mark.parametrize(
    ("rows", "columns", "units", "numbers", "pays"),
    [
        (20, 500, 209, 1, True),
        (20, 500, 210, 1, True),
        (1, 100, 50, 1, True),
        (20, 64, 20, 1, True),
        (500, 64, 64, 1, True),
        (100, 200, 200, 8, True),
        (20, 15, 50, 16, True),
        (100, 200, 200, 24, False),
        (1000, 15, 50, 12, False),
        (10_000, 20, 4, 1, False),
        (10, 6, 4, 1, False),
    ],
)
def test_the_loop_is_chosen_where_it_is_faster(rows, columns, units, numbers, pays):
    """Sizes that were measured at a third to nine tenths of torch's time, or of the loop's; and one too small for an import."""
    assert processor.recursion_pays(rows, columns, units, numbers, [torch.zeros(1)]) == pays
    assert not processor.recursion_pays(rows, columns, units, numbers, [torch.zeros(1).double()])


@VARIANTS
@pytest.mark.parametrize("bits", [True, False])
def test_single_precision_against_a_loop_in_double(way, masked, scaled, activation, bits):
    arguments = case(13, 40, 2, 3, 300, masked, scaled, bits)
    expected = results(plain, arguments, activation)
    close(results(nade_recursion, arguments, activation, torch.float32), expected, 100)


@VARIANTS
def test_gradients_in_double(masked, scaled, activation):
    arguments = case(3, 4, 2, 2, 5, masked, scaled, bits=False)
    order = arguments.pop("order")
    inputs = [a for a in arguments.values() if a is not None]

    def function(*tensors):
        given = iter(tensors)
        own = {n: None if a is None else next(given) for n, a in arguments.items()}
        return nade_recursion(**own, order=order, activation=activation)

    assert torch.autograd.gradcheck(function, inputs)
    expected, got = (results(f, {**arguments, "order": order}, activation) for f in (plain, nade_recursion))
    close(got, expected, 1e-6)


def test_the_way_back_does_not_drift(way):
    """Columns of very different sizes: what single precision adds and takes out again would be off by far more."""
    arguments = case(5, 600, 1, 1, 40, False, False, bits=False)
    arguments["order"] = torch.arange(600)
    with torch.no_grad():
        arguments["x"][:, 300] *= 1e6
        arguments["inputs"] *= 0.1
        x, w = arguments["x"].float(), arguments["inputs"].float()
        there = arguments["start"].float()
        for i in range(600):
            there = there + x[:, i] @ w[i]
        for i in reversed(range(600)):
            there = there - x[:, i] @ w[i]
        drift = float((there - arguments["start"]).abs().max())
    expected = results(plain, arguments, "sigmoid")
    got = results(nade_recursion, arguments, "sigmoid", torch.float32)
    assert drift > 1e-3
    error = (got["start"] - expected["start"]).abs().max() / expected["start"].abs().max()
    assert float(error) < 100 * ROUNDING


def test_the_same_every_time_and_on_any_number_of_threads(monkeypatch):
    monkeypatch.setattr(processor, "RECURSION_STEP", math.inf)
    arguments = case(50, 30, 1, 1, 600, True, True)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 1, 2, 3, 2):
            torch.set_num_threads(threads)
            found.append(results(nade_recursion, arguments, "sigmoid", torch.float32))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(found[0][n], other[n]) for n in other)


@pytest.mark.parametrize("columns", [50, 400])
def test_memory_beside_arguments_is_that_of_one_column_s_units(way, columns):
    arguments = case(20, columns, 1, 1, 300, False, False)
    own = {n: a if a is None or n == "order" else a.detach().float() for n, a in arguments.items()}
    own["inputs"].requires_grad_()
    numbers = nade_recursion(**own)
    saved = numbers.grad_fn.next_functions[0][0].saved_tensors
    given = {a.data_ptr() for a in own.values() if a is not None}
    kept = sum(t.numel() for t in saved if t is not None and t.data_ptr() not in given)
    assert kept == 20 * 300
    if way == "compiled":
        gradient = torch.ones_like(numbers)
        tracemalloc.start()
        numbers.backward(gradient)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        # Derivatives of both weights, copies of a tile of all of these, and a few arrays of rows x units.
        assert peak < 4 * (2 * 2 * 2 * columns * 300 + 8 * 20 * 300)


def test_derivatives_that_nobody_asked_for_are_not_made(way):
    arguments = case(4, 6, 1, 1, 3, True, True)
    own = {n: a if a is None or n == "order" else a.detach().float() for n, a in arguments.items()}
    own["start"].requires_grad_()
    numbers = nade_recursion(**own)
    (found,) = torch.autograd.grad(numbers.sum(), [own["start"]])
    expected = results(lambda **o: plain(**o), arguments, "sigmoid")
    assert found.shape == expected["start"].shape
    assert own["inputs"].grad is None


def test_batch_shapes_and_a_shared_start(way):
    arguments = case(12, 5, 2, 1, 4, False, False)
    own = {n: a if a is None or n == "order" else a.detach().float() for n, a in arguments.items()}
    start = own.pop("start")[0].requires_grad_()
    x = own.pop("x")
    flat = nade_recursion(x, start, **own)
    folded = nade_recursion(x.view(3, 4, 5, 2), start, **own)
    assert torch.equal(folded.view_as(flat), flat)
    (one,) = torch.autograd.grad(flat.sum(), [start])
    start64, own64 = (
        start.detach().double().requires_grad_(),
        {n: a if n == "order" or a is None else a.double() for n, a in own.items()},
    )
    (two,) = torch.autograd.grad(plain(x.double(), start64, **own64).sum(), [start64])
    torch.testing.assert_close(one.double(), two, rtol=1e-5, atol=1e-6)
    assert nade_recursion(x[:0], start, **own).shape == (0, 5, 1)


def test_a_column_s_numbers_see_those_before_it_alone(way):
    arguments = case(1, 7, 1, 2, 3, True, False, bits=False)
    order, x = arguments["order"], arguments["x"]
    own = {n: a if a is None or n == "order" else a.detach().float() for n, a in arguments.items()}
    own["x"].requires_grad_()
    numbers = nade_recursion(**own)
    rank = order.argsort()
    for i in range(x.shape[1]):
        (by_x,) = torch.autograd.grad(numbers[0, i].sum(), [own["x"]], retain_graph=True)
        assert torch.equal(by_x[0, :, 0] != 0, rank < rank[i])


@pytest.mark.parametrize("scale", [1.0, -0.5])
def test_the_compiled_sigmoid(scale):
    """Relative error of a few units of single precision from -87 to 87, and no surprises beyond."""
    from pyro_dgm.native.column_steps import squash

    z = np.linspace(-87, 87, 200_001)
    h = np.empty(z.shape, np.float32)
    squash(z / scale, np.float32(scale), False, h)
    exact = 1 / (1 + np.exp(-(z / scale).astype(np.float32).astype(np.float64) * scale))
    assert np.abs(h / exact - 1).max() < 3 * ROUNDING
    edge = np.empty(4, np.float32)
    squash(np.array([np.inf, -np.inf, 1e300, np.nan]), np.float32(1), False, edge)
    assert edge[0] == edge[2] == 1
    assert 0 <= edge[1] < 1e-37
    assert np.isnan(edge[3])


def test_second_derivatives_and_other_activations_are_refused(way):
    arguments = case(2, 3, 1, 1, 2, False, False)
    own = {n: a if a is None or n == "order" else a.detach().float() for n, a in arguments.items()}
    with pytest.raises(ValueError, match="sigmoid"):
        nade_recursion(**own, activation="tanh")
    own["start"].requires_grad_()
    loss = nade_recursion(**own).square().sum()
    (first,) = torch.autograd.grad(loss, [own["start"]], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()
