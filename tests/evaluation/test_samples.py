"""Figures of samples equal values worked out by hand, scikit-learn's, and sums over listed permutations."""

import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.neighbors import KernelDensity, NearestNeighbors

import pyro_dgm as dgm
from pyro_dgm.discrepancy import GaussianKernels, mean_discrepancy
from pyro_dgm.evaluation import mmd_test, nearest_neighbours, parzen, precision_recall

CENTRES = torch.tensor([[0.0, 0.0], [1.0, 0.5], [0.25, 1.0]], dtype=torch.float64)
TEST = torch.tensor([[0.2, 0.1], [0.9, 0.9]], dtype=torch.float64)
VALID = torch.tensor([[0.1, 0.2], [0.8, 0.6], [0.3, 0.8]], dtype=torch.float64)


@pytest.mark.parametrize(("width", "mean"), [(0.1, -3.831318172), (0.2, -1.074088704), (0.5, -1.338262891)])
def test_parzen_windows_of_a_given_width(width, mean):
    figure = parzen(CENTRES, TEST, VALID, n=3, widths=[width])
    assert figure.value == pytest.approx(mean, abs=1e-9)
    density = KernelDensity(bandwidth=width).fit(CENTRES.numpy())
    assert figure.value == pytest.approx(density.score(TEST.numpy()) / 2, abs=1e-9)


def test_the_width_is_chosen_by_validation_rows():
    figure = parzen(CENTRES, TEST, VALID, n=3)
    assert figure.width == pytest.approx(0.1668100537)
    assert figure.value == pytest.approx(-1.326834934, abs=1e-9)
    assert figure.median == pytest.approx(
        float(np.sort(KernelDensity(bandwidth=figure.width).fit(CENTRES).score_samples(TEST))[0])
    )
    with pytest.raises(ValueError, match="at the end of those tried"):
        parzen(CENTRES, TEST, VALID, n=3, widths=[0.3, 0.5, 1.0])


def test_parzen_figures_compare_with_their_own_kind_alone():
    first, second = (parzen(CENTRES, TEST, VALID, n=3, widths=[w], space="toy") for w in (0.2, 0.2))
    assert first - second == 0.0
    for other in (
        parzen(CENTRES, TEST[:1], VALID, n=3, widths=[0.2], space="toy"),
        parzen(CENTRES, TEST, VALID, n=3, widths=[0.2]),
    ):
        with pytest.raises(ValueError, match="Parzen figures compare"):
            _ = first - other
    rbm, x = dgm.RBM.example()
    with pytest.raises(TypeError):
        _ = first - dgm.log_likelihood(rbm, x)


def test_parzen_keeps_its_digits_far_from_the_origin():
    x = torch.randn(300, 20, generator=torch.Generator().manual_seed(0))
    near = parzen(x[:100].double(), x[100:200].double(), x[200:].double(), n=100, widths=[0.8])
    far = parzen(x[:100] + 500, x[100:200] + 500, x[200:] + 500, n=100, widths=[0.8])
    # rows lose 3e-5 a column; a log-density's slope is at most 5 / 0.64 deviations a column
    assert far.value == pytest.approx(near.value, abs=3e-5 * 20 * 8)


R = torch.tensor([[i, i * i % 5] for i in range(6)], dtype=torch.float64)
FAKE = torch.tensor([[i / 2 + 0.2, (3 * i % 7) / 2] for i in range(7)], dtype=torch.float64)


@pytest.mark.parametrize(
    ("k", "expected"),
    [
        (1, (5 / 7, 2 / 6, 0.8571428571, 0.5)),
        (2, (1.0, 4 / 6, 2.142857143, 1.0)),
        (3, (1.0, 5 / 6, 1.619047619, 1.0)),
    ],
)
def test_precision_and_recall(k, expected):
    assert tuple(precision_recall(FAKE, R, k)) == pytest.approx(expected, abs=1e-9)


def test_balls_of_copies_are_closed():
    """Every row twice: radii are zero, and copies lie within them."""
    twice = R.repeat(2, 1)
    assert precision_recall(twice, twice, 1)[0] == 1.0
    assert precision_recall(twice, twice, 1).density == 0.0


def test_rows_of_bits_have_ties():
    """Distances of bits are whole numbers, many of them equal; rounding must not part them."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(2, 300, 64, generator=generator) < 0.3).float().unbind(0)

    def hamming(x, y):
        return (x.numpy()[:, None] != y.numpy()[None]).sum(2)

    of_a, of_b = (np.sort(hamming(x, x), 1)[:, 3] for x in (a, b))  # the first is the row itself
    between = hamming(a, b)
    found = precision_recall(a, b)
    assert found.precision == pytest.approx((between <= of_b).any(1).mean(), abs=1e-12)
    assert found.recall == pytest.approx((between <= of_a[:, None]).any(0).mean(), abs=1e-12)
    assert found.density == pytest.approx((between < of_b).sum(1).mean() / 3, abs=1e-12)
    assert found.coverage == pytest.approx((between < of_b).any(0).mean(), abs=1e-12)


def test_precision_and_recall_by_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    real, made = torch.randn(1300, 5, generator=generator), 1.3 * torch.randn(1300, 5, generator=generator)

    def radii(rows):
        return NearestNeighbors(n_neighbors=4).fit(rows).kneighbors(rows)[0][:, 3]

    distances = np.linalg.norm(made.numpy()[:, None] - real.numpy()[None], axis=2)
    found = precision_recall(made, real)
    assert found.precision == pytest.approx((distances <= radii(real)).any(1).mean(), abs=1e-3)
    assert found.recall == pytest.approx((distances <= radii(made)[:, None]).any(0).mean(), abs=1e-3)


def test_lost_modes_show_in_recall():
    x = torch.cat([torch.randn(300, 2), torch.randn(300, 2) + 10])
    assert precision_recall(x[:300] + 0.01, x).recall < 0.55 < 0.9 < precision_recall(x[:300] + 0.01, x).precision


def test_copies_are_found():
    generator = torch.Generator().manual_seed(0)
    train, other, fresh = torch.rand(3, 400, 6, generator=generator).unbind(0)
    assert nearest_neighbours(train[:100], train, other, n=100).ratio == 0.0
    found = nearest_neighbours(fresh, train, other, n=400)
    assert 0.8 < found.ratio < 1.25
    assert torch.equal(nearest_neighbours(train[5:9], train, other, n=4).nearest, torch.arange(5, 9))


def test_the_discrepancy_of_the_test_and_its_permutations():
    x, y = torch.randn(2, 4, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64).unbind(0)
    kernel = GaussianKernels((1.0,))
    found = mmd_test(x, y, kernel, permutations=20_000)
    assert found.value == pytest.approx(float(mean_discrepancy(x, y, kernel, unbiased=True)), abs=1e-12)
    rows = torch.cat([x, y])
    every = []
    for chosen in itertools.combinations(range(8), 4):
        rest = [i for i in range(8) if i not in chosen]
        every.append(float(mean_discrepancy(rows[list(chosen)], rows[rest], kernel, unbiased=True)))
    exact = float(np.mean(np.array(every) >= found.value - 1e-12))
    assert found.p_value == pytest.approx(exact, abs=5 * math.sqrt(exact * (1 - exact) / 20_000))


def test_p_values_of_one_law_are_uniform_and_of_two_are_small():
    generator = torch.Generator().manual_seed(0)
    p_values = []
    for _ in range(100):
        x, y = torch.randn(2, 30, 2, generator=generator).unbind(0)
        p_values.append(mmd_test(x, y, permutations=99).p_value)
    share = np.mean(np.array(p_values) <= 0.2)
    assert share == pytest.approx(0.2, abs=4 * math.sqrt(0.2 * 0.8 / 100))
    x, y = torch.randn(200, 2, generator=generator), torch.randn(200, 2, generator=generator) + 0.7
    assert mmd_test(x, y, permutations=199).p_value == pytest.approx(1 / 200)


def test_parts_of_ordered_data_are_taken_at_random():
    """Data of two far halves in order: its first rows alone would be told from rows of both."""
    generator = torch.Generator().manual_seed(0)
    data = torch.cat([torch.zeros(300, 2), torch.full((300, 2), 9.0)]) + torch.randn(600, 2, generator=generator)
    mixed = data[torch.randperm(600, generator=generator)]
    others = mixed[:300]
    assert mmd_test(others, data, n=100, permutations=99).p_value > 0.05
    assert precision_recall(others, data, n=100).recall > 0.8
    held_out = mixed[400:][mixed[400:, 0].argsort()]  # far rows last, which are nearest to wider ones
    train = torch.cat([others[others[:, 0] < 4], 9 + 5 * (others[others[:, 0] > 4] - 9)])
    assert 0.7 < nearest_neighbours(mixed[300:400], train, held_out, n=100).ratio < 1.4
    first = mmd_test(others, data, n=100, seed=1)
    assert first == mmd_test(others, data, n=100, seed=1)


def test_models_are_sampled():
    gan, _ = dgm.GAN.example()
    assert math.isfinite(precision_recall(gan, torch.rand(50, 4)).precision)
    assert mmd_test(gan, torch.rand(50, 4), n=50).n == (50, 50)
    rbm, bits = dgm.RBM.example()
    assert parzen(rbm, bits, bits, n=100, widths=[0.5], space="bits").samples == 100


def test_sets_of_other_precisions_are_compared_in_one():
    """Arrays of NumPy are of double precision, and a model's samples are not."""
    fake, real, rest = torch.randn(3, 20, 2, generator=torch.Generator().manual_seed(0)).unbind(0)
    expected = nearest_neighbours(fake, real, rest, n=20)
    for kind in (torch.float64, torch.float16):
        found = nearest_neighbours(fake, real.to(kind), rest, n=20), nearest_neighbours(fake.to(kind), real, rest, n=20)
        assert all(f.ratio == pytest.approx(expected.ratio, rel=1e-2) for f in found)
        assert mmd_test(fake, real.to(kind)).value == pytest.approx(mmd_test(fake, real).value, abs=1e-2)


def test_what_is_refused():
    for call, message in [
        (lambda: parzen(CENTRES, TEST, VALID), "at least 10000"),
        (lambda: parzen(CENTRES, TEST[:, :1], VALID, n=3), "different widths"),
        (lambda: parzen(CENTRES, TEST, VALID, n=3, widths=[0.0]), "widths got"),
        (lambda: precision_recall(FAKE[:3], R), "more than k=3"),
        (lambda: mmd_test(FAKE[:1], R), "at least two"),
        (lambda: parzen(CENTRES * torch.nan, TEST, VALID, n=3), "finite"),
        (lambda: nearest_neighbours(dgm.GAN.example()[0], dgm.GAN.example()[0], R), "expected rows"),
        (lambda: nearest_neighbours(FAKE, R, R, n=-1), "n got -1; expected an integer of at least 1"),
        (lambda: nearest_neighbours(FAKE[0], R, R, n=1), "samples got a Tensor of shape .* expected a matrix"),
        (lambda: mmd_test(FAKE, R, n=-1), "n got -1; expected an integer of at least 1"),
        (lambda: mmd_test(FAKE, R, n="3"), "n got '3'; expected an integer of at least 1"),
        (lambda: mmd_test(FAKE, R, kernel="gaussian"), "expected a discrepancy.Kernel"),
        (lambda: mmd_test(FAKE, R, seed=-1), "seed got -1"),
        *[
            (lambda w=w: parzen(CENTRES, TEST, VALID, n=3, widths=w), "widths got")
            for w in ("ab", [math.nan], [[1.0]], None)
        ],
    ]:
        with pytest.raises(ValueError, match=message):
            call()
