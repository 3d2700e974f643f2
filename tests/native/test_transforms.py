"""Where operations are traced, stood in for or transformed, torch's own take the loops' place."""

import contextlib
import math

import pyro
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx

import pyro_dgm as dgm
from pyro_dgm import native
from pyro_dgm.autoregressive.recursion import recursion
from pyro_dgm.native import processor, random_bits, team


@pytest.fixture(autouse=True)
def _loops_for_all_sizes(monkeypatch):
    for name, value in (("SMALL_PRODUCT", 0), ("RECURSION_STEP", math.inf)):
        monkeypatch.setattr(processor, name, value)
    monkeypatch.setattr(processor, "multiplies_bits", lambda *_, **__: True)


def bits(*shape):
    return (torch.rand(*shape) < 0.5).float()


def recorded(function, x, how):
    if how == "jit.trace":
        return torch.jit.trace(function, x, check_trace=False)
    return make_fx(function, tracing_mode=how, _allow_non_fake_inputs=True)(x)


HOW = ["jit.trace", "real", "fake"]


@pytest.mark.parametrize("how", HOW)
def test_draws_that_are_recorded_are_drawn_when_they_run(how):
    """A loop would leave no trace but the memory that it was to fill in."""
    drawn = recorded(lambda z: native.bernoulli(z), torch.zeros(5000), how)
    first, second = drawn(torch.zeros(5000)), drawn(torch.zeros(5000))
    assert set(first.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(first, second)
    assert (drawn(torch.full((5000,), 60.0)) == 1).all()


@pytest.mark.parametrize("how", HOW)
def test_products_of_bits_that_are_recorded(how):
    weight = torch.randn(128, 64)
    product = recorded(lambda x: native.linear(x, weight), bits(64, 128), how)
    for x in (bits(64, 128), torch.rand(64, 128)):
        torch.testing.assert_close(product(x), x @ weight)


def network(columns=12, units=8):
    torch.manual_seed(3)
    return {
        "start": torch.randn(units),
        "inputs": torch.randn(columns, 1, units),
        "outputs": torch.randn(columns, 2, units),
        "mask": torch.randn(columns, units),
        "scale": torch.rand(columns),
    }, torch.randperm(columns)


@pytest.mark.parametrize("how", HOW)
def test_recursions_that_are_recorded(how):
    arguments, order = network()
    run = recorded(lambda x: recursion(x, **arguments, order=order), bits(20, 12, 1), how)
    x = bits(20, 12, 1)
    torch.testing.assert_close(run(x), recursion(x, **arguments, order=order))


def test_the_recursion_under_transforms():
    """Derivatives by all arguments against the compiled loop's; batches and directions against the function itself."""
    arguments, order = network()
    x = bits(20, 12, 1)

    def total(x, parts):
        return recursion(x, **parts, order=order).sin().sum()

    by_x, by_parts = torch.func.grad(total, (0, 1))(x, arguments)
    leaves = {name: t.clone().requires_grad_() for name, t in arguments.items()}
    x_leaf = x.clone().requires_grad_()
    total(x_leaf, leaves).backward()
    torch.testing.assert_close(by_x, x_leaf.grad, rtol=1e-4, atol=1e-4)
    for name, leaf in leaves.items():
        torch.testing.assert_close(by_parts[name], leaf.grad, rtol=1e-4, atol=1e-4)
    rows = bits(3, 20, 12, 1)
    of_rows = torch.func.vmap(lambda x: recursion(x, **arguments, order=order))(rows)
    torch.testing.assert_close(of_rows, recursion(rows, **arguments, order=order), rtol=1e-5, atol=1e-5)
    direction = torch.randn_like(x)
    _, along = torch.func.jvp(lambda x: total(x, arguments), (x,), (direction,))
    torch.testing.assert_close(along, (x_leaf.grad * direction).sum(), rtol=1e-4, atol=1e-4)
    with forward_ad.dual_level():
        dual = total(forward_ad.make_dual(x, direction), arguments)
        torch.testing.assert_close(forward_ad.unpack_dual(dual).tangent, along)


@pytest.mark.parametrize("make", [lambda: dgm.RBM(70, 64), lambda: dgm.NADE(70, 40)])
def test_gradients_of_large_models_by_torch_func(make):
    model, x = make(), bits(64, 70)

    class Mean(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.owner = model

        def forward(self, x):
            d = self.owner()
            return (d.free_energy(x) if hasattr(d, "free_energy") else d.log_prob(x)).mean()

    mean = Mean()
    parameters = dict(mean.named_parameters())
    found = torch.func.grad(lambda p: torch.func.functional_call(mean, p, (x,)))(parameters)
    mean(x).backward()
    for name, parameter in parameters.items():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-5)
    with contextlib.nullcontext() if checked_in_vmap() else pyro.validation_enabled(False):
        by_row = torch.func.vmap(lambda row: mean(row[None]))(x)
    torch.testing.assert_close(by_row.mean(), mean(x), rtol=1e-5, atol=1e-4)


def checked_in_vmap():
    """Whether torch's own distributions can check their values there, as those of torch 2.4 cannot."""
    normal = torch.distributions.Normal(0.0, 1.0, validate_args=True)
    try:
        torch.func.vmap(normal.log_prob)(torch.zeros(3))
    except RuntimeError:
        return False
    return True


def calls():
    arguments, order = network()
    machine = [torch.zeros(40), torch.zeros(33)], [1, 0], [(0, 0, torch.zeros(40, 33)), (1, 1, torch.zeros(33, 40))]
    states = [torch.ones(6, 40), torch.ones(6, 33)]
    z, x, weight, base, fields = (
        torch.zeros(5000),
        bits(64, 128),
        torch.randn(128, 64),
        torch.zeros(100),
        torch.zeros(50, 100),
    )
    gaps = torch.zeros(3, 4), torch.zeros(3, 4, dtype=torch.bool), torch.zeros(3, dtype=torch.int64)
    betas, rows, sigmoid = torch.linspace(0, 1, 4), bits(20, 12, 1), torch.sigmoid(z.double())
    return {
        "bernoulli": lambda: native.bernoulli(z),
        "bernoulli_": lambda: native.bernoulli_(sigmoid),
        "linear": lambda: native.linear(x, weight),
        "recursion": lambda: recursion(rows, **arguments, order=order),
        "draw_at_temperatures": lambda: native.draw_at_temperatures(base, fields, betas),
        "weigh_and_draw": lambda: first(native.weigh_and_draw(base, fields, 0.1, 0.2)),
        "bit_log_probs": lambda: native.bit_log_probs(z.view(50, 100).repeat(2, 1), base.repeat(100, 1)),
        "swap_replicas": lambda: first(native.swap_replicas(betas, *gaps)),
        "PackedBits": lambda: tempered(native.PackedBits(*machine), states),
    }


def first(results):
    return None if results is None else results[0]


def tempered(machine, states):
    words = machine.pack(states)
    machine.sweep(words, 2)
    base = [torch.zeros(40, device="cpu"), torch.zeros(33, device="cpu")]
    betas, from_base = torch.linspace(0, 1, 2, device="cpu"), torch.zeros(6, dtype=torch.bool, device="cpu")
    machine.temper(words, base, 1, betas, from_base, torch.zeros(3, dtype=torch.int64, device="cpu"), 2)
    return machine.unpack(words)[0]


@pytest.mark.parametrize("name", calls())
def test_another_default_device_is_not_that_of_loops(name):
    call = calls()[name]
    with torch.device("meta"), torch.no_grad():
        assert call().device.type == "cpu"


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("name", calls())
def test_fake_tensors_stay_fake_or_are_refused(name, inside):
    mode = FakeTensorMode()
    with mode:
        call = calls()[name]
    refused = {"PackedBits": "traced or transformed|got a FakeTensor"}
    if not inside:  # an order that is no tensor of numbers
        refused["recursion"] = "local_scalar_dense|create_unbacked_symint"  # an AttributeError of torch 2.4
    errors = (ValueError, RuntimeError, AttributeError)
    expected = pytest.raises(errors, match=refused[name]) if name in refused else contextlib.nullcontext()
    with torch.no_grad(), mode if inside else contextlib.nullcontext(), expected:
        result = call()
        assert result is None or type(result).__name__ == "FakeTensor"


def test_loops_that_are_called_all_the_same():
    with FakeTensorMode(), pytest.raises(ValueError, match="traced or transformed"):
        team.run_team(random_bits.draw_double, [], 0)


def test_views_with_another_sign():
    """Imaginary parts of conjugates are stored without their sign."""
    minus = torch._neg_view(torch.full((5000,), 60.0))
    assert minus.is_contiguous()
    assert (native.bernoulli(minus) == 0).all()
    x, weight = bits(64, 128), torch.randn(128, 64)
    torch.testing.assert_close(native.linear(x, torch._neg_view(weight)), -(x @ weight))
    arguments, order = network()
    opposite = arguments | {"outputs": torch._neg_view(arguments["outputs"])}
    rows = bits(20, 12, 1)
    torch.testing.assert_close(recursion(rows, **opposite, order=order), -recursion(rows, **arguments, order=order))


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
@pytest.mark.parametrize("transposed", [False, True])
def test_zero_times_infinity_is_nan_by_tables_too(value, transposed):
    x, weight = bits(40, 70), torch.randn(70, 50)
    weight[3, 7] = value
    x[0, 3], x[1, 3] = 0, 1
    weight = weight.t().contiguous().t() if transposed else weight
    torch.testing.assert_close(native.linear(x, weight), torch.mm(x, weight), equal_nan=True)
    assert native.linear(x, weight)[0, 7].isnan()
