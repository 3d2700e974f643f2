"""The fast bits are exact, and the fast product is a product."""

import copy
import ctypes
import math

import numpy as np
import pytest
import torch
from numba import njit

from pyro_dgm import nets
from pyro_dgm.native import PackedBits, draws, processor, products
from pyro_dgm.native import random_bits as bits
from pyro_dgm.native import team as loops
from pyro_dgm.native.draw_vectors import draw_row
from pyro_dgm.native.exponential import exponential
from pyro_dgm.nets import layers

N = 4_000_000


@pytest.mark.parametrize("p", [0.5, 0.1, 0.9, 1 / 65536, 2.5 / 65536, 1 - 3.5 / 65536, 1e-3, 1e-6, 0.3333333])
def test_probability_of_a_bit(p):
    """Within six standard deviations of a binomial; small p would be lost by 16 bits without a tie-breaker."""
    for dtype in (torch.float32, torch.float64):
        drawn = draws.bernoulli_(torch.full((N,), p, dtype=dtype))
        assert set(drawn.unique().tolist()) <= {0.0, 1.0}
        assert abs(float(drawn.double().sum()) - N * p) < 6 * math.sqrt(N * p * (1 - p)) + 1


@pytest.mark.parametrize("p", [0.5, 0.1, 0.9, 1 / 65536, 2.5 / 65536, 1 - 3.5 / 65536, 1e-3, 1e-6, 0.3333333])
def test_probability_of_a_bit_by_its_logit(p):
    """In single precision logits near 1 are coarse; the bound takes the probability that the rounded logit has."""
    logits = torch.full((N,), math.log(p / (1 - p)))
    p = float(torch.sigmoid(logits[0].double()))
    drawn = draws.bernoulli(logits)
    assert set(drawn.unique().tolist()) <= {0.0, 1.0}
    assert abs(float(drawn.double().sum()) - N * p) < 6 * math.sqrt(N * p * (1 - p)) + 1


GOLDEN = 0x9E3779B97F4A7C15


def lanes_after(state, number):
    """Sixteen bits of SplitMix64 for each draw, by NumPy: four to a word, the lowest first."""
    with np.errstate(over="ignore"):
        z = np.uint64(state) + np.uint64(GOLDEN) * np.arange(1, number // 4 + 1, dtype=np.uint64)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z ^ (z >> np.uint64(31))).astype("<u8").view("<u2").astype(np.float64)


def draw_at(p, state):
    """Bits for probabilities p, by logits; returns the probabilities that the rounded logits have, too."""
    with np.errstate(divide="ignore"):
        logits = (np.log(p) - np.log1p(-p)).astype(np.float32)
        drawn, edge = np.empty_like(logits), np.empty(96, np.float32)
        bits.draw_by_logits(logits, drawn, edge, len(p), np.uint64(state), np.uint64(GOLDEN))
        return drawn, 1 / (1 + np.exp(-logits.astype(np.float64)))


@pytest.mark.parametrize("size", [4096, 4098])
def test_sixteen_bits_decide_bits_of_logits(size):
    """p a part and a half above where the sixteen bits lie, and half a part below; also in a row that is not whole."""
    lanes = lanes_after(5, 4100)[:size]
    inside = (lanes > 1) & (lanes < 32768)  # where single precision's logits tell parts apart
    for parts, bit in ((1.5, 1), (-0.5, 0)):
        p = np.where(inside, (lanes + parts) / 65536, 0.5)
        assert (draw_at(p, 5)[0][inside] == bit).all()


def test_ties_of_logits_are_broken_by_the_fraction():
    """Every p cuts the part of the unit interval that its draw.s sixteen bits name at a quarter, up to the logit.s rounding."""
    lanes = lanes_after(7, N)
    drawn, p = draw_at((lanes + 0.25) / 65536, 7)
    fraction = (65536 * p - lanes).clip(0, 1)
    assert abs(float(drawn.mean(dtype=np.float64)) - fraction.mean()) < 6 * math.sqrt(0.25 * 0.75 / N)
    half = fraction > np.median(fraction)
    assert abs(float(drawn[half].mean(dtype=np.float64)) - fraction[half].mean()) < 6 * math.sqrt(0.5 / N)


def test_every_lane_of_the_words_is_fair():
    drawn = draws.bernoulli(torch.zeros(N)).view(-1, 16).mean(0)
    assert (drawn - 0.5).abs().max() < 6 * 0.5 / math.sqrt(N / 16)


def test_neighbours_are_independent():
    drawn = draws.bernoulli(torch.zeros(N)) - 0.5
    for lag in (1, 2, 3, 4, 8, 16):
        assert abs(float((drawn[lag:] * drawn[:-lag]).mean())) < 6 * 0.25 / math.sqrt(N)


def test_ties_are_broken_by_the_fraction():
    """Given a tie, the bit is 1 with the threshold's fraction: forced by giving every draw the same sixteen bits."""
    p = np.full(N, 100.25 / 65536, np.float32)
    lanes = np.full(N, 100, np.uint16)
    bits.decide(p, lanes, np.uint64(1), np.uint64(0x9E3779B97F4A7C15))
    assert abs(float(p.mean()) - 0.25) < 6 * math.sqrt(0.25 * 0.75 / N)


def test_sixteen_bits_decide_without_a_tie():
    lanes = np.array([99, 100, 101], np.uint16)
    p = np.full(3, 100 / 65536)
    bits.decide(p, lanes, np.uint64(1), np.uint64(1))
    assert p.tolist() == [1.0, 0.0, 0.0]


def test_words_are_those_of_splitmix64():
    """The first outputs of the published generator from seed 1234567."""
    words = [int(bits.mix(np.uint64((1234567 + n * GOLDEN) % 2**64))) for n in (1, 2, 3)]
    assert words == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_streams_are_odd_and_irregular():
    for word in range(200):
        gamma = int(bits.increment(np.uint64(word)))
        assert gamma % 2 == 1
        assert (gamma ^ (gamma >> 1)).bit_count() >= 24


def test_seeds_of_one_call_are_different_words(monkeypatch):
    """Of draws and of swaps in tempering, and of two draws; in inference mode or not."""
    from pyro_dgm.native import team

    products.multiplies_by_units()  # which asks once, by a loop that must run
    given = []
    monkeypatch.setattr(team, "run_team", lambda loop, tensors, *_: given.append(tensors[0].tolist()))
    machine = PackedBits(
        [torch.zeros(40), torch.zeros(33)], [1, 0], [(0, 0, torch.zeros(40, 33)), (1, 1, torch.zeros(33, 40))]
    )
    words = [torch.zeros(2, 6, dtype=torch.int32), torch.zeros(2, 6, dtype=torch.int32)]
    base = [torch.zeros(40), torch.zeros(33)]
    from_base, trips = torch.zeros(6, dtype=torch.bool), torch.zeros(3, dtype=torch.int64)
    machine.temper(words, base, 1, torch.linspace(0, 1, 2), from_base, trips, 2)
    assert len(set(given.pop())) == 4
    with torch.inference_mode():
        first = draws.seeds().tolist()
    assert len({*first, *draws.seeds().tolist()}) == 4


def test_bits_follow_the_generator_of_torch():
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = draws.bernoulli(torch.zeros(10_000))
    second = draws.bernoulli(torch.zeros(10_000))
    torch.set_rng_state(state)
    assert torch.equal(draws.bernoulli(torch.zeros(10_000)), first)
    assert not torch.equal(first, second)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("size", [4096, 5000, 10_001, 1_000_000])
def test_bits_do_not_depend_on_the_threads(threads, monkeypatch, size):
    """Nor on whether there is a team at all."""
    logits = torch.linspace(-5, 5, size)

    def draw(number):
        threads(number)
        torch.manual_seed(1)
        return draws.bernoulli(logits), draws.bernoulli_(torch.sigmoid(logits.double()))

    expected = draw(1)
    for number in (2, 3, 7):
        assert all(torch.equal(*pair) for pair in zip(draw(number), expected, strict=True))
    monkeypatch.setattr(loops, "_has_teams", lambda: False)
    assert all(torch.equal(*pair) for pair in zip(draw(2), expected, strict=True))


@pytest.mark.parametrize("number", [0, 1, 2, 5, 1000])
def test_a_team_does_everything_once(threads, number):
    for members in (1, 2, 3, 5):
        threads(members)
        times = torch.zeros(number, dtype=torch.int64)
        loops.run_team(loops.count, [times], number)
        assert (times == 1).all()


@pytest.mark.parametrize("again", [0, 2])
def test_teams_whose_members_are_not_told_apart_are_not_used(monkeypatch, again):
    """Members of no loop, or of one that all do as a whole."""

    def start(address, pointers, threads, flags):
        table = ctypes.cast(pointers, ctypes.POINTER(ctypes.c_void_p))
        times = ctypes.cast(table[1], ctypes.POINTER(ctypes.c_int64))
        for i in range(1 << 14):
            times[i] += again

    monkeypatch.setattr(loops, "_start", start)
    assert not loops._has_teams.__wrapped__()
    monkeypatch.setattr(loops, "_start", None)
    assert not loops._has_teams.__wrapped__()


@njit
def exponentials(z, single, inverse):
    """exp(z) number by number, and 1 + exp(-z) as draws of whole rows write it."""
    for i in range(len(z)):
        single[i] = exponential(z[i])
    for i in range(0, len(z), 32):
        draw_row(z.ctypes.data + 4 * i, np.uint64(0), np.uint64(1), inverse.ctypes.data + 4 * i)


def test_exponentials_of_the_loops():
    """Relative to double precision: the exponential's series and three roundings cost some 2e-7."""
    z = np.linspace(-87, 87, 32 * 12_500).astype(np.float32)
    single, inverse = np.empty_like(z), np.empty_like(z)
    exponentials(z, single, inverse)
    exact = np.exp(z.astype(np.float64))
    assert np.abs(single / exact - 1).max() < 3e-7
    assert np.abs(inverse / (1 + 1 / exact) - 1).max() < 3e-7
    exponentials(np.repeat(np.array([-np.inf, np.inf], np.float32), 16), single[:32], inverse[:32])
    assert (inverse[:16] > 6e37).all()
    assert (inverse[16:32] == 1).all()
    assert single[31] > 6e37
    assert single[0] < 2e-38
    exponentials(np.full(32, np.nan, np.float32), single[:32], inverse[:32])
    assert np.isnan(single[0])
    assert np.isnan(inverse[:32]).all()


def test_bits_overwrite_their_logits_when_told():
    logits = torch.randn(10_000)
    kept = logits.clone()
    assert draws.bernoulli(logits).data_ptr() != logits.data_ptr()
    assert torch.equal(logits, kept)
    assert draws.bernoulli(logits, overwrite=True).data_ptr() == logits.data_ptr()


@pytest.mark.parametrize("shape", [(3,), (5000,), (70, 71), (3, 50, 60)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_dtypes_and_extremes(shape, dtype):
    logits = torch.full(shape, math.inf, dtype=dtype)
    assert (draws.bernoulli(logits) == 1).all()
    assert (draws.bernoulli(-logits) == 0).all()
    assert draws.bernoulli(logits).dtype == dtype
    assert (logits == math.inf).all()


def test_noncontiguous_input():
    p = torch.rand(100, 200).t()
    drawn = draws.bernoulli(torch.logit(p))
    assert abs(float((drawn - p).mean())) < 6 * 0.5 / math.sqrt(p.numel())


@pytest.mark.parametrize("transposed", [False, True])
def test_linear(transposed):
    x, plus = torch.randn(33, 70), torch.randn(50)
    weight = torch.randn(50, 70).t() if transposed else torch.randn(70, 50)
    expected = x.double() @ weight.double() + plus.double()
    assert (products.linear(x, weight, plus) - expected).abs().max() < 1e-4
    assert products.linear(x.double(), weight.double(), plus.double()).dtype == torch.float64


def bits_and_weight(rows, inner, columns, transposed, across=False):
    x = (torch.rand(inner, rows).t() < 0.3).float() if across else (torch.rand(rows, inner) < 0.3).float()
    assert x.is_contiguous() != across
    return x, torch.randn(columns, inner).t() if transposed else torch.randn(inner, columns)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("shape", [(32, 64, 32), (33, 70, 50), (100, 784, 500), (700, 95, 129), (45, 1300, 33)])
def test_products_of_bits(way_of_bits, threads, transposed, across, shape):
    """Within the rounding of one addition for every five bits, or three for every bit; the same in either layout, and with any
    number of threads."""
    additions = (shape[1] / 5 if way_of_bits == "tables" else 3 * shape[1]) + 12
    torch.manual_seed(0)
    x, weight = bits_and_weight(*shape, transposed, across)
    for plus in (None, torch.randn(shape[2])):
        exact, size = x.double() @ weight.double(), x.double() @ weight.double().abs()
        if plus is not None:
            exact, size = exact + plus.double(), size + plus.double().abs()
        product = products.product_of_bits(x, weight, plus)
        assert ((product - exact).abs() <= additions * 2.0**-24 * size).all()
        for number in (1, 3, 40):
            threads(number)
            assert torch.equal(products.product_of_bits(x, weight, plus), product)
            columns_first = products.product_of_bits(x, weight, plus, columns_first=True)
            assert torch.equal(columns_first, product)
            assert columns_first.t().is_contiguous()


def test_products_of_bits_of_whole_numbers_are_exact(way_of_bits):
    x, weight = bits_and_weight(300, 1000, 77, False)
    weight = weight.mul(100).round()
    assert torch.equal(products.product_of_bits(x, weight, None).double(), x.double() @ weight.double())


def test_nothing_of_a_weight_is_rounded(way_of_bits):
    """A single bit selects a row, to its last binary digit."""
    weight, x = torch.randn(300, 77) * torch.logspace(-20, 20, 77), torch.eye(300)
    assert torch.equal(products.product_of_bits(x, weight, None), weight)
    assert not torch.equal(weight.bfloat16().float() + (weight - weight.bfloat16()).bfloat16(), weight)


@pytest.mark.parametrize("place", [(0, 0), (299, 76), (150, 40)])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("transposed", [False, True])
def test_products_with_weights_that_are_not_finite_are_left_to_torch(way_of_bits, place, value, transposed):
    x, weight = bits_and_weight(70, 300, 77, transposed)
    weight[place] = value
    assert products.product_of_bits(x, weight, None) is None
    weight[place] = 3e38
    assert products.product_of_bits(torch.eye(70, 300), weight, None) is not None


@pytest.mark.parametrize("place", [(0, 0), (31, 40), (99, 63), (50, 64), (99, 69)])
@pytest.mark.parametrize("value", [0.5, -1.0, 2.0, math.nan, math.inf])
@pytest.mark.parametrize("across", [False, True])
def test_products_of_other_numbers_are_not_looked_up(way_of_bits, place, value, across):
    x, weight = bits_and_weight(100, 70, 33, False, across)
    assert products.product_of_bits(x, weight, None) is not None
    x[place] = value
    assert products.product_of_bits(x, weight, None) is None


def test_products_of_bits_have_gradients(way_of_bits, monkeypatch):
    """Through the sum of squares, whose derivative with respect to the weight is twice x' (x W + b)."""
    monkeypatch.setattr(processor, "multiplies_bits", lambda *_, **__: True)
    x, weight = bits_and_weight(512, 256, 64, False)
    weight, plus = weight.requires_grad_(), torch.randn(64, requires_grad=True)
    products.linear(x, weight, plus).square().sum().backward()
    twice = 2 * (x.double() @ weight.detach().double() + plus.detach().double())
    torch.testing.assert_close(weight.grad.double(), x.double().t() @ twice, rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(plus.grad.double(), twice.sum(0), rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("bits", [False, True])
def test_gradients_of_transposed_weights_need_no_copy(bits, monkeypatch):
    """A parameter's gradient in another layout than its own would be copied into it at every step."""
    monkeypatch.setattr(processor, "multiplies_bits", lambda *_, **__: bits)
    x, weight = bits_and_weight(256, 128, 64, True)
    x, weight = x if bits else x + 0.5, weight.t().requires_grad_()
    cotangent = torch.randn(256, 64)
    gradient = torch.autograd.grad(products.linear(x, weight.t()), weight, cotangent)[0]
    assert gradient.is_contiguous()
    torch.testing.assert_close(gradient.double(), cotangent.double().t() @ x.double(), rtol=1e-4, atol=1e-3)


def test_products_of_bits_have_second_derivatives(way_of_bits, monkeypatch):
    """The square of the gradient of a cubic, against double precision without any of this."""
    monkeypatch.setattr(processor, "multiplies_bits", lambda *_, **__: True)
    x, weight = bits_and_weight(512, 256, 64, False)
    found = []
    for w, product in ((weight, products.linear), (weight.double(), torch.matmul)):
        w = (w / 16).requires_grad_()
        (gradient,) = torch.autograd.grad(product(x.to(w), w).pow(3).mean(), w, create_graph=True)
        found.append(torch.autograd.grad(gradient.square().sum(), w)[0])
    ours, exact = found
    torch.testing.assert_close(ours.double(), exact, rtol=1e-4, atol=1e-5 * float(exact.abs().max()))


@pytest.mark.parametrize("rows", ["bits", "grey levels", "half precision"])
def test_first_layers_of_networks(rows, monkeypatch):
    """A perceptron's figure and gradients, against the same in double precision, and how many products of bits were looked up."""
    monkeypatch.setattr(layers, "multiplies_bits", lambda *_: True)
    monkeypatch.setattr(processor, "multiplies_bits", lambda *_, **__: True)
    found = []
    looked_up = products.product_of_bits
    monkeypatch.setattr(products, "product_of_bits", lambda *a: found.append(looked_up(*a)) or found[-1])
    x = (torch.rand(200, 300) < 0.4).float() if rows == "bits" else torch.rand(200, 300)
    network = nets.mlp((300, 64, 2))
    exact = copy.deepcopy(network).double()
    with torch.autocast("cpu", torch.bfloat16, enabled=rows == "half precision"):
        loss = network(x).pow(2).mean()
    loss.backward()
    exact(x.double()).pow(2).mean().backward()
    rounding = 2e-2 if rows == "half precision" else 1e-5
    for ours, other in zip(network.parameters(), exact.parameters(), strict=True):
        torch.testing.assert_close(
            ours.grad.double(), other.grad, rtol=0, atol=rounding * float(other.grad.abs().max())
        )
    assert sum(product is not None for product in found) == (2 if rows == "bits" else 0)


def test_first_layers_are_exported_for_any_number_of_rows():
    network = nets.mlp((784, 500, 2))
    rows = {0: torch.export.Dim("rows", min=2, max=4096)}
    exported = torch.export.export(network, (torch.rand(100, 784),), dynamic_shapes=(rows,)).module()
    x = torch.rand(7, 784)
    torch.testing.assert_close(exported(x), network(x))


@pytest.mark.parametrize("onednn", [False, True])
def test_what_is_no_plain_product_of_bits_is_left_to_torch(onednn, monkeypatch):
    """Errors, broadcasts, other devices, casts and transforms are torch's, on processors where oneDNN multiplies too."""
    monkeypatch.setattr(processor, "multiplies_bits", lambda *_, **__: True)
    monkeypatch.setattr(processor, "multiplies_by_onednn", lambda: onednn)
    monkeypatch.setattr(products, "_fastest", lambda: products._onednn if onednn else products._addmm)
    x, weight = bits_and_weight(512, 256, 64, False)
    for wrong in (x[:, :-1].contiguous(), torch.ones(512, 300)):
        with pytest.raises(RuntimeError, match="shapes"):
            products.linear(wrong, weight)
    with pytest.raises(RuntimeError):
        products.linear(x, weight, torch.zeros(63))
    with pytest.raises(RuntimeError, match="dtype"):
        products.linear(x, weight, torch.zeros(64).double())
    assert products.product_of_bits(x, weight.to("meta"), None) is None
    one = torch.ones(1)
    assert torch.equal(products.linear(x, weight, one), torch.addmm(one, x, weight))
    with torch.autocast("cpu", torch.bfloat16):
        assert products.linear(x, weight).dtype == torch.bfloat16
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(weight, torch.ones_like(weight))
        tangent = torch.autograd.forward_ad.unpack_dual(products.linear(x, dual)).tangent
    assert torch.equal(tangent, x.sum(1, keepdim=True).expand(512, 64))
    by_rows = torch.func.vmap(products.linear, (None, 0))(x, weight.expand(3, -1, -1))
    torch.testing.assert_close(by_rows, (x @ weight).expand(3, -1, -1), rtol=0, atol=1e-3)
    product = products.linear(x, weight.requires_grad_())
    (batched,) = torch.autograd.grad(product, weight, torch.ones(2, 512, 64), is_grads_batched=True)
    assert torch.equal(batched, x.sum(0)[:, None].expand(2, 256, 64))


@pytest.mark.parametrize("lead", [(), (3,), (2, 0), (2, 50)])
def test_linear_takes_any_batch_shape(lead):
    x, weight, plus = torch.randn(*lead, 70), torch.randn(70, 50), torch.randn(50)
    torch.testing.assert_close(products.linear(x, weight, plus), torch.nn.functional.linear(x, weight.t(), plus))
    torch.testing.assert_close(products.linear(x, weight), torch.nn.functional.linear(x, weight.t()))


@pytest.mark.parametrize("multiplies_bits", [False, True])
def test_large_products_of_bits_or_means(monkeypatch, multiplies_bits):
    """What is looked up and what is multiplied differ by rounding alone."""
    monkeypatch.setattr(processor, "multiplies_bits", lambda *_, **__: multiplies_bits)
    x, weight = bits_and_weight(512, 256, 64, True)
    for state in (x, x * 0.7):
        torch.testing.assert_close(
            products.linear(state, weight).double(), state.double() @ weight.double(), rtol=0, atol=1e-3
        )


@pytest.mark.parametrize(
    ("vectors", "made", "rows", "weights", "across", "found"),
    [
        ("AVX2", "amd", 100, 784 * 500, False, True),
        ("AVX2", "intel", 784, 100 * 500, True, True),
        ("AVX2", "intel", 100, 100 * 100, False, False),
        ("AVX512", "intel", 100, 784 * 500, False, True),
        ("AVX512", "intel", 2000, 784 * 500, False, True),
        ("AVX512", "intel", 64, 784 * 500, False, False),
        ("AVX512", "intel", 1000, 100 * 100, False, False),
        ("AVX512", "intel", 784, 100 * 500, True, False),
        ("AVX512", "amx", 64, 784 * 500, False, True),
        ("AVX512", "amx", 32, 784 * 500, False, False),
        ("AVX512", "amx", 100, 200 * 200, False, False),
        ("AVX512", "amx", 784, 100 * 500, True, True),
        ("AVX512", "amx", 784, 100 * 200, True, False),
        ("AVX512", "amd", 2000, 784 * 500, False, False),
        ("AVX512", "zen4", 100, 784 * 500, False, True),
        ("AVX512", "zen4", 784, 100 * 500, True, True),
        ("AVX512", "zen4", 20, 784 * 5000, False, False),
        ("AVX512", "zen4", 100, 784 * 100, False, False),
        ("AVX512", "zen4", 784, 100 * 200, True, True),
        ("AVX512", "zen4", 500, 100 * 200, True, False),
        ("DEFAULT", "intel", 2000, 784 * 500, False, False),
    ],
)
def test_tables_of_sums_are_chosen_where_they_were_measured_to_be_faster(
    monkeypatch, vectors, made, rows, weights, across, found
):
    monkeypatch.setattr(processor, "_widest", lambda: vectors)
    monkeypatch.setattr(processor, "is_amd", lambda: made not in ("intel", "amx"))
    monkeypatch.setattr(processor, "splits_vectors", lambda: made == "zen4")
    monkeypatch.setattr(processor, "has_matrix_units", lambda: made == "amx")
    assert processor.multiplies_bits(rows, weights, across) == found


def test_tables_are_made_for_no_few_rows(monkeypatch):
    """However many weights there are: a table's sums are as many as those of 32 rows."""
    monkeypatch.setattr(processor, "has_matrix_units", lambda: False)
    monkeypatch.setattr(processor, "_widest", lambda: "AVX2")
    assert not processor.multiplies_bits(1, 1 << 24)
    assert processor.multiplies_bits(32, 1 << 18)


def test_the_kernel_choice_is_a_function_of_the_machine():
    """A choice by timing would break bit-identical resumption."""
    assert products._fastest() is products._fastest.__wrapped__()
