"""No loop reads memory that is not there: shapes, types, strides, devices and indices are refused at the door."""

import math

import pyro
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import pyro_dgm as dgm
from pyro_dgm import native
from pyro_dgm.native import processor, products, random_bits, team
from pyro_dgm.native.guard import check_indices, is_plain


def test_a_bias_that_is_expanded_is_read_as_what_it_is():
    """oneDNN takes a bias for contiguous; so a single number for all columns read what lay behind it."""
    x, weight = torch.rand(100, 784), torch.randn(784, 500)
    bias = torch.tensor([0.5]).expand(500)
    expected = x @ weight + 0.5
    for kernel in (products._addmm, products._onednn):
        torch.testing.assert_close(kernel(x, weight, bias), expected, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(kernel(x, weight[:, ::2], bias[::2]), expected[:, ::2], rtol=1e-4, atol=1e-3)


def test_machines_with_an_expanded_bias(monkeypatch):
    monkeypatch.setattr(products, "_fastest", lambda: products._onednn)
    graph = dgm.Graph({"visible": dgm.Binary(784), "hidden": dgm.Binary(500)}, [dgm.Dense("visible", "hidden")])
    weight, x = 0.05 * torch.randn(784, 500), (torch.rand(100, 784) < 0.3).float()
    expanded = torch.tensor([-1.0]).expand(500)
    first, second = (
        dgm.BoltzmannDistribution(graph, {"visible": (torch.zeros(784),), "hidden": (b,)}, (weight,)).free_energy(x)
        for b in (expanded, expanded.contiguous())
    )
    torch.testing.assert_close(first, second)


def recursion_arguments():
    x, sums = torch.ones(20, 6, 1), torch.zeros(20, 8, dtype=torch.float64)
    inputs, outputs, order = torch.zeros(6, 1, 8), torch.ones(6, 1, 8), torch.arange(6)
    return {"x": x, "sums": sums, "inputs": inputs, "outputs": outputs, "mask": torch.zeros(6, 8), "scale": torch.ones(6),
            "order": order}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("sums", torch.zeros(20, 8)),
        ("sums", torch.zeros(19, 8, dtype=torch.float64)),
        ("inputs", torch.zeros(5, 1, 8)),
        ("inputs", torch.zeros(6, 1, 8, dtype=torch.float64)),
        ("outputs", torch.ones(6, 1, 7)),
        ("mask", torch.zeros(6, 7)),
        ("scale", torch.ones(5)),
        ("order", torch.arange(5)),
        ("order", torch.arange(6).int()),
        ("order", torch.arange(1, 7)),
        ("order", torch.arange(-1, 5)),
        ("x", torch.ones(20, 16, 1)),
    ],
)
def test_recursions_that_do_not_fit(name, wrong):
    arguments = recursion_arguments()
    native.recursion_forward(**arguments, rectified=False)
    arguments = recursion_arguments() | {name: wrong}
    with pytest.raises(ValueError, match=r"expected torch|expected numbers from 0 to 5"):
        native.recursion_forward(**arguments, rectified=False)
    gradient = torch.ones(*arguments["x"].shape[:2], 1)
    with pytest.raises(ValueError, match=r"expected torch|expected numbers from 0 to 5"):
        native.recursion_backward(**arguments, rectified=False, gradient=gradient, by_x=True)
    with pytest.raises(ValueError, match="gradient got"):
        native.recursion_backward(**recursion_arguments(), rectified=False, gradient=torch.ones(20, 5, 1), by_x=True)


def test_rows_of_another_width_with_validation_off(monkeypatch):
    monkeypatch.setattr(processor, "RECURSION_STEP", math.inf)
    nade = dgm.NADE(12, 8)
    with pyro.validation_enabled(False), torch.no_grad(), pytest.raises((ValueError, RuntimeError, IndexError)):
        nade().log_prob(torch.ones(100, 30))


def test_tensors_without_memory_are_no_arrays():
    with FakeTensorMode():
        fake = torch.zeros(4096)
    for tensor in (torch.zeros(4, device="meta"), torch.zeros(4, 4).t()[:2], torch.zeros(4).to_sparse(), fake):
        assert not is_plain(tensor)
    assert is_plain(torch.nn.Parameter(torch.zeros(4)))
    for wrong in (torch.zeros(8192, device="meta"), torch.zeros(8192, 2)[:, 0]):
        with pytest.raises(ValueError, match="expected plain, contiguous memory"):
            team.run_team(random_bits.draw_from_single_logits, (wrong, wrong, torch.zeros(2, dtype=torch.int64)), 8192)


def test_sources_out_of_range():
    base, fields, betas = torch.zeros(100), torch.zeros(50, 100), torch.tensor([0.5, 1.0])
    right = torch.arange(50)
    for wrong in (right[:-1], right.int(), right + 1, right - 1):
        with torch.no_grad(), pytest.raises(ValueError, match="source got"):
            native.draw_at_temperatures(base, fields, betas, wrong)
    with torch.no_grad(), pytest.raises(ValueError, match="betas got"):
        native.draw_at_temperatures(base, fields, betas.double())
    with pytest.raises(ValueError, match="numbers from 3 to 3; expected numbers from 0 to 2"):
        check_indices("order", torch.tensor([3]), 1, 3)


def test_swaps_of_other_shapes():
    gap, betas = torch.zeros(3, 4), torch.linspace(0, 1, 4)
    start, trips = torch.zeros(3, 4, dtype=torch.bool), torch.zeros(3, dtype=torch.int64)
    native.swap_replicas(betas, gap, start, trips)
    for wrong in ((betas[:-1], gap, start, trips), (betas, gap, start[:2], trips), (betas, gap, start, trips[:2])):
        with pytest.raises(ValueError, match="expected torch"):
            native.swap_replicas(*wrong)


def test_words_of_other_machines():
    bits = native.PackedBits(
        [torch.zeros(40), torch.zeros(33)], [1, 0], [(0, 0, torch.zeros(40, 33)), (1, 1, torch.zeros(33, 40))]
    )
    states = [torch.ones(5, 40), torch.ones(5, 33)]
    words = bits.pack(states)
    assert all(torch.equal(a, b) for a, b in zip(bits.unpack(words), states, strict=True))
    with pytest.raises(ValueError, match="as many rows in every layer"):
        bits.pack([torch.ones(5, 40), torch.ones(4, 33)])
    for wrong in ([words[0]], [words[0], words[1][:, :4]], [words[1], words[0][:1]], [w.long() for w in words]):
        with pytest.raises(ValueError, match=r"words of layer|expected torch"):
            bits.sweep(wrong, 1)
    base = [torch.zeros(40), torch.zeros(33)]
    with pytest.raises(ValueError, match="expected whole chains"):
        bits.temper(
            words,
            base,
            1,
            torch.linspace(0, 1, 2),
            torch.zeros(5, dtype=torch.bool),
            torch.zeros(2, dtype=torch.int64),
            1,
        )
