"""No call of compiled code, however odd its arguments, touches memory that is not its own.

Calls run in processes of their own, which say what they are about to do. Their arguments end or begin at a page that cannot be
touched, and what is only to be read cannot be written; so that what is wrong ends the process at once. Calls that fit are
compared with torch's operations in double precision.
"""

import ctypes
import math
import random

import pytest
import torch
from oracles import forked
from oracles.guarded import guarded

from pyro_dgm import native
from pyro_dgm.autoregressive import recursion as recursions
from pyro_dgm.native import draws, processor

LONGEST = 240
"""Seconds that one call may take: its loops may have to be compiled."""

REFUSALS = (ValueError, RuntimeError, IndexError, TypeError, NotImplementedError)


class Odd:
    """Arguments of a call: most are as they should be, and some are not; of these ``fits`` is False."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.fits = True
        torch.manual_seed(seed)

    def size(self, *sizes):
        return self.random.choice(sizes)

    def wrong(self, right, *others):
        """The right number, as a rule."""
        if self.random.random() < 0.9:
            return right
        self.fits = False
        return self.random.choice(others)

    def real(self, *shape, writable=False):
        return self.of(torch.randn(shape), writable)

    def bits(self, *shape, writable=False):
        return self.of((torch.rand(shape) < 0.5).float(), writable)

    def of(self, values, writable=False):
        """Some form of a tensor of these values."""
        form, choose = self.random.random(), self.random
        if form < 0.03 and values.dim():
            self.fits = False
            dim = choose.randrange(values.dim())
            return guarded(
                torch.cat([values, values], dim)
                if choose.random() < 0.5
                else values.narrow(dim, 0, values.shape[dim] // 2)
            )
        if form < 0.05:
            self.fits = False
            return guarded(
                values.to(
                    choose.choice([torch.float64, torch.float32, torch.int32, torch.int64, torch.bool, torch.float16])
                )
            )
        if form < 0.06:
            self.fits = False
            return choose.choice([values.to("meta"), values.to_sparse(), values[None], values.flatten()])
        if writable:
            return guarded(values, choose.random() < 0.5)
        if form < 0.12 and values.dim() > 1:
            return guarded(values.transpose(0, -1).contiguous(), read_only=True).transpose(0, -1)
        if form < 0.18 and values.dim():
            return guarded(torch.stack([values, values], -1), read_only=True)[..., 0]
        if form < 0.22 and values.dim() and values.shape[0]:
            return guarded(values[:1], read_only=True).expand(values.shape)
        if form < 0.25:
            return torch.nn.Parameter(values) if values.is_floating_point() else values
        if form < 0.28 and values.is_floating_point():
            return torch._neg_view(guarded(-values, read_only=True))
        return guarded(values, choose.random() < 0.5, read_only=True)


def fuzz_bernoulli(odd):
    logits = odd.of(100 * torch.randn(odd.size(0, 1, 31, 100), odd.size(1, 17, 64)))
    sure = logits.detach().abs() > 40
    drawn = native.bernoulli(logits)
    if odd.fits:
        assert ((drawn == 0) | (drawn == 1)).all()
        assert torch.equal(drawn[sure], (logits[sure] > 0).float())


def fuzz_bernoulli_(odd):
    dtype = torch.float32 if odd.size(True, False) else torch.float64
    p = odd.of(torch.rand(odd.size(0, 1, 100, 2000), dtype=dtype), writable=True)
    assert native.bernoulli_(p) is p


def fuzz_linear(odd):
    rows, inner, columns = odd.size(1, 32, 45, 300), odd.size(2, 64, 90), odd.size(1, 32, 70)
    x, weight = odd.bits(rows, inner), odd.real(inner, columns)
    plus = odd.real(columns) if odd.size(True, False) else None
    product = native.linear(x, weight, plus)
    if odd.fits:
        expected = x.double() @ weight.double() + (0 if plus is None else plus.double())
        torch.testing.assert_close(product.double(), expected, rtol=1e-4, atol=1e-3)
        if product.requires_grad:
            product.sum().backward()


def fuzz_draw_at_temperatures(odd):
    chains, temperatures, columns = odd.size(1, 5, 30), odd.size(1, 2, 7), odd.size(1, 33, 100)
    rows = chains * temperatures
    base, betas = odd.real(columns), odd.of(torch.linspace(0, 1, temperatures))
    overwrite = odd.size(True, False)
    source = None if overwrite else odd.size(None, odd.of(torch.randint(0, rows, (rows,)) + odd.wrong(0, 1, -1, rows)))
    with torch.no_grad():
        drawn = native.draw_at_temperatures(base, odd.real(rows, columns, writable=overwrite), betas, source, overwrite)
    assert drawn is None or not odd.fits or ((drawn == 0) | (drawn == 1)).all()


def fuzz_weigh_and_draw(odd):
    rows, batch, columns = odd.size(1, 5, 60), odd.size((), (3,), (2, 2)), odd.size(1, 33, 100)
    base, fields = odd.real(*batch, columns), odd.real(rows, *batch, columns, writable=True)
    kept = fields.clone()
    with torch.no_grad():
        weighed = native.weigh_and_draw(base, fields, 0.3, 0.35)
    if odd.fits and weighed is not None:
        high, low = (torch.nn.functional.softplus(base.double() + b * kept.double()) for b in (0.35, 0.3))
        torch.testing.assert_close(weighed[0].double(), (high - low).sum(-1, keepdim=True), rtol=1e-4, atol=1e-3)


def fuzz_bit_log_probs(odd):
    rows, columns, copies = odd.size(1, 5, 60), odd.size(1, 33, 96, 100), odd.size(1, 3)
    logits, x = odd.real(copies, rows, columns), odd.bits(rows, columns)
    found = native.bit_log_probs(logits, x)
    if odd.fits and found is not None:
        expected = (x * logits.double() - torch.nn.functional.softplus(logits.double())).sum(-1)
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-3)
        if found.requires_grad:
            found.sum().backward()


def fuzz_swap_replicas(odd):
    chains, temperatures, batch = odd.size(1, 4), odd.size(1, 2, 9), odd.size((), (3,), (2, 2))
    shape = (chains, temperatures, *batch)
    swapped = native.swap_replicas(
        odd.of(torch.linspace(0, 1, temperatures)),
        odd.real(*shape),
        odd.of(torch.rand(shape) < 0.5),
        odd.of(torch.zeros(chains, *batch, dtype=torch.int64)),
    )
    if odd.fits and swapped is not None:
        assert torch.equal(swapped[0].sort().values, torch.arange(swapped[0].numel()))


def fuzz_packed_bits(odd):
    sizes = odd.size(1, 33, 64), odd.size(1, 40)
    weight = odd.real(*sizes)
    machine = native.PackedBits([odd.real(n) for n in sizes], [1, 0], [(0, 0, weight), (1, 1, weight.t())])
    temperatures = odd.size(1, 2, 3)
    rows = temperatures * odd.size(1, 11, 100)
    states = [odd.bits(rows, n) for n in sizes]
    words = machine.pack(states)
    if words is None:
        return
    if odd.fits:
        assert all(torch.equal(a, b) for a, b in zip(machine.unpack(words), states, strict=True))
    words = [odd.of(w, writable=True) for w in words]
    machine.sweep(words, odd.size(0, 1, 3))
    betas, from_base = odd.of(torch.linspace(0, 1, temperatures)), odd.of(torch.zeros(rows, dtype=torch.bool))
    trips = odd.of(torch.zeros(rows // temperatures, dtype=torch.int64))
    machine.temper(words, [odd.real(n) for n in sizes], odd.wrong(1, 0, 2), betas, from_base, trips, odd.size(0, 1, 2))
    assert all(((x == 0) | (x == 1)).all() for x in machine.unpack(words))


def fuzz_sweep_bits(odd):
    sizes = odd.size(1, 33, 64), odd.size(1, 40, 1100)
    weight, rows = odd.real(*sizes), odd.size(0, 1, 11, 100)
    flows = [(odd.wrong(0, 2, -1), odd.wrong(0, 2), weight), (1, 1, weight.t())]
    states = [odd.bits(rows, n) for n in sizes]
    swept = native.sweep_bits([odd.real(n) for n in sizes], [1, odd.wrong(0, 2)], flows, states, odd.size(0, 1, 3))
    assert swept is None or all(((x == 0) | (x == 1)).all() for x in swept)


def fuzz_log_sum_of_layer(odd):
    rows, inner, columns = odd.size(0, 1, 32, 45, 300), odd.size(2, 64, 90), odd.size(1, 32, 70)
    x, bias, plus = odd.bits(rows, inner), odd.real(inner), odd.real(columns)
    weight = odd.real(inner, columns) if odd.size(True, False) else odd.real(columns, inner).t()
    found = native.log_sum_of_layer(x, weight, bias, plus)
    if odd.fits and found is not None:
        fields = x.double() @ weight.double() + plus.double()
        expected = x.double() @ bias.double() + torch.nn.functional.softplus(fields).sum(-1)
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-3)
        if found.requires_grad:
            found.sum().backward()


def fuzz_recursion(odd):
    rows, columns, features = odd.size(0, 1, 9, 20), odd.size(1, 2, 7), odd.size(1, 1, 3)
    units, numbers = odd.size(1, 8, 300), odd.size(1, 2, 8)
    parts = [
        odd.real(rows, columns, features),
        odd.real(units),
        odd.real(columns, features, units),
        odd.real(columns, numbers, units),
        odd.size(None, odd.real(columns, units)),
        odd.size(None, odd.of(torch.rand(columns))),
    ]
    order = odd.of(torch.randperm(columns) + odd.wrong(0, 1, -1, 1 << 40))
    leaves = [None if t is None else t.detach() for t in parts]
    if odd.size(True, False):
        leaves = [t if t is None or not t.is_floating_point() else t.clone().requires_grad_() for t in leaves]
    x, start, inputs, outputs, mask, scale = leaves
    activation = odd.size("sigmoid", "relu")
    result = recursions.recursion(x, start, inputs, outputs, order, mask, scale, activation)
    if result.requires_grad:
        result.sum().backward()
    if odd.fits and sorted(order.tolist()) == list(range(columns)):
        doubles = [None if t is None else t.detach().double() for t in parts]
        expected = recursions._by_operations(
            doubles[0], doubles[1].expand(rows, units), *doubles[2:], order, activation
        )
        torch.testing.assert_close(result.detach().double(), expected, rtol=1e-3, atol=1e-3)


CALLS = {name.removeprefix("fuzz_"): call for name, call in list(globals().items()) if name.startswith("fuzz_")}


def make_calls(names, seeds, threads, last):
    """Run calls, with every loop at every size; ``last`` always holds the number of the present one."""
    torch.set_num_threads(threads)
    draws.FEW_DRAWS, processor.SMALL_PRODUCT, processor.FEW_LOGITS = 0, 0, 1
    processor.TABLE_ROWS, processor.RECURSION_STEP = 1, math.inf
    processor.multiplies_bits = lambda *_, **__: True
    for number, seed in enumerate(seeds):
        last.value = number
        odd = Odd(seed)
        try:
            CALLS[names[number % len(names)]](odd)
        except REFUSALS:
            if odd.fits:
                raise
    last.value = len(seeds)


def failure(names, seeds, threads):
    """The call at which the process ended, or did nothing more for minutes; None if it made them all."""
    last = forked.CONTEXT.Value("q", -1)
    process = forked.start(make_calls, names, seeds, threads, last)
    before = None
    while process.exitcode is None and last.value != before:
        before = last.value
        process.join(LONGEST)
    ended = process.exitcode
    process.kill()
    if ended == 0 and last.value == len(seeds):
        return None
    return f"exit code {ended} at {names[last.value % len(names)]}, seed {seeds[last.value]}"


@pytest.mark.parametrize(("threads", "calls"), [(1, 800), (2, 120)])
def test_odd_calls(threads, calls):
    assert failure(list(CALLS), list(range(1000 * threads, 1000 * threads + calls)), threads) is None


def overrun(last):
    memory = guarded(torch.ones(3))
    last.value = int(ctypes.c_float.from_address(memory.data_ptr() + 8).value)
    last.value = int(ctypes.c_float.from_address(memory.data_ptr() + 12).value)


def test_what_is_guarded_ends_the_process():
    """One number behind the memory of a tensor: without the guard it would be read."""
    last = forked.CONTEXT.Value("q", -1)
    process = forked.start(overrun, last)
    process.join(LONGEST)
    assert (process.exitcode, last.value) == (-11, 1)
