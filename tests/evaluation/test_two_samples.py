"""Classifiers and curves that tell samples from data equal scikit-learn's, sums by hand, and known laws."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import binom, norm
from sklearn.cluster import KMeans
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

import pyro_dgm as dgm
from pyro_dgm.evaluation import parzen, parzen_references, prd_of_laws, precision_curve, two_sample_test
from pyro_dgm.evaluation.samples.neighbours import _nearest

R = torch.tensor([[i, i * i % 5] for i in range(6)], dtype=torch.float64)
FAKE = torch.tensor([[i / 2 + 0.2, (3 * i % 7) / 2] for i in range(7)], dtype=torch.float64)
LAW = [p / 30 for p in (1, 5, 2, 8, 3, 1, 6, 4)]


def normal(n, columns=3, seed=0, shift=0.0):
    return torch.randn(n, columns, generator=torch.Generator().manual_seed(seed)) + shift


def test_nearest_neighbours_of_either_set():
    found = two_sample_test(FAKE, R, "nearest neighbour")
    assert found[:3] == pytest.approx((7 / 13, 3 / 6, 4 / 7))
    rows, labels = torch.cat([FAKE, R]).numpy(), np.array([1] * 7 + [0] * 6)
    said = cross_val_predict(KNeighborsClassifier(1), rows, labels, cv=LeaveOneOut())
    assert found.accuracy == pytest.approx((said == labels).mean())


def test_the_p_value_of_neighbours_is_a_share_of_all_relabellings():
    made, real = normal(4, 2, 3).double(), normal(4, 2, 4).double()
    rows = torch.cat([made, real])
    squares = torch.cdist(rows, rows).fill_diagonal_(torch.inf)
    nearest = squares.argmin(1).numpy()
    every = []
    for chosen in itertools.combinations(range(8), 4):
        labels = np.isin(np.arange(8), chosen)
        every.append((labels[nearest] == labels).mean())
    found = two_sample_test(made, real, "nearest neighbour", permutations=20_000)
    off = np.abs(np.array(every) - 3 / 7)
    exact = float((off >= abs(found.accuracy - 3 / 7) - 1e-9).mean())
    assert found.p_value == pytest.approx(exact, abs=5 * math.sqrt(exact * (1 - exact) / 20_000) + 1e-4)


def test_copies_and_collapse_show_in_either_set():
    real = normal(200)
    assert two_sample_test(real.clone(), real, "nearest neighbour")[:4] == pytest.approx((0, 0, 0, 1 / 501))
    wide = normal(200, 20)
    found = two_sample_test(0.5 * normal(200, 20, seed=1), wide, "nearest neighbour")  # they crowd in the middle
    assert found.on_samples > 0.95 > 0.3 > found.on_data
    assert found.p_value < 0.05


def test_rows_of_bits_share_their_neighbours():
    """Of equal distances none is first: every row of two bits has its own set's share of the rows that equal it."""
    real, made = torch.zeros(6, 2), torch.zeros(4, 2)
    found = two_sample_test(made, real, "nearest neighbour")
    assert (found.on_data, found.on_samples) == pytest.approx((5 / 9, 3 / 9))
    assert found.p_value == 1.0


def test_equal_distances_of_bits_are_equal_whatever_the_rounding():
    generator = torch.Generator().manual_seed(0)
    made, real = (torch.rand(2, 120, 64, generator=generator) < 0.3).float().unbind(0)
    rows, labels = torch.cat([made, real]).bool().numpy(), np.arange(240) < 120
    hamming = (rows[:, None] != rows[None]).sum(2) + 1000 * np.eye(240, dtype=int)
    nearest = hamming == hamming.min(1, keepdims=True)
    assert nearest.sum(1).max() > 1
    own = (nearest * (labels[:, None] == labels)).sum(1) / nearest.sum(1)
    # Tenths are no binary fractions: squares of their sums are rounded.
    found = two_sample_test(0.1 * made, 0.1 * real, "nearest neighbour", permutations=1)
    assert (found.on_samples, found.on_data) == pytest.approx((own[:120].mean(), own[120:].mean()), abs=1e-6)


def test_the_p_value_of_logistic_regression_is_binomial():
    assert float(binom.sf(59, 100, 0.5)) == pytest.approx(0.0284439668, abs=1e-9)
    assert float(norm.sf(2)) == pytest.approx(0.0227501319, abs=1e-9)  # what the exact one is near
    found = two_sample_test(normal(100, shift=0.3), normal(100, seed=1))
    right = round(found.accuracy * 100)
    assert found.n == (50, 50)
    assert found.accuracy == pytest.approx((found.on_data + found.on_samples) / 2)
    assert found.p_value == pytest.approx(float(binom.sf(right - 1, 100, 0.5)))


def test_logistic_regression_reaches_the_best_accuracy_of_two_normals():
    """Two normals two deviations apart: no classifier passes Phi(1)."""
    found = two_sample_test(normal(4000, 1, shift=2.0), normal(4000, 1, seed=1))
    best = float(norm.cdf(1))
    assert found.accuracy == pytest.approx(best, abs=4 * math.sqrt(best * (1 - best) / 4000))


@pytest.mark.parametrize("classifier", ["logistic", "nearest neighbour"])
def test_p_values_of_one_law_are_no_smaller_than_uniform_ones(classifier):
    generator = torch.Generator().manual_seed(0)
    found = []
    for seed in range(100):
        x, y = torch.randn(2, 40, 2, generator=generator).unbind(0)
        found.append(two_sample_test(x, y, classifier, permutations=99, seed=seed).p_value)
    for level in (0.1, 0.3):
        assert np.mean(np.array(found) <= level) <= level + 4 * math.sqrt(level * (1 - level) / 100)


def test_sets_of_other_sizes_are_cut_at_random():
    """The larger set is ordered: its first rows alone would be told from the smaller one."""
    data = torch.cat([torch.zeros(500, 1), torch.ones(500, 1)]) + 0.1 * normal(1000, 1)
    rows = data[torch.randperm(1000, generator=torch.Generator().manual_seed(1))[:300]]
    assert two_sample_test(rows, data, seed=1).accuracy == pytest.approx(0.5, abs=4 * math.sqrt(0.25 / 300))


def test_precision_of_laws():
    precision, recall = prd_of_laws(LAW, [1 / 8] * 8, [0.25, 1.0, 4.0])
    assert precision.tolist() == pytest.approx([0.25, 0.7333333333, 1.0], abs=1e-9)
    assert recall.tolist() == pytest.approx([1.0, 0.7333333333, 0.25], abs=1e-9)
    # At slope 1 precision is one less the total variation distance.
    assert float(precision[1]) == pytest.approx(1 - np.abs(np.array(LAW) - 1 / 8).sum() / 2)


def test_the_curve_of_rows_is_that_of_their_clusters():
    """Four far clusters with shares (1/4, 1/4, 1/4, 1/4) and (1/2, 1/2, 0, 0)."""
    corners = 100 * torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    data = (corners.repeat_interleave(25, 0) + normal(100, 2)).float()
    made = (corners[:2].repeat_interleave(50, 0) + normal(100, 2, seed=1)).float()
    found = precision_curve(made, data, clusters=4, runs=5)
    slopes = (torch.arange(1, 1002, dtype=torch.float64) * (math.pi / 2 / 1002)).tan()
    precision, _ = prd_of_laws([0.25] * 4, [0.5, 0.5, 0, 0], slopes)
    assert float(found.precision[-1]) == pytest.approx(1.0)
    assert float(found.recall.max()) == pytest.approx(0.5, abs=1e-6)
    torch.testing.assert_close(found.precision, precision, atol=0.05, rtol=0)
    assert found.f_recall < 0.6 < 0.9 < found.f_precision
    both = precision_curve(data, made, clusters=4, runs=5)
    assert both.f_recall > 0.9 > 0.6 > both.f_precision


def test_k_means_centres_beat_training_rows():
    rows = normal(460, 10)
    rows[:, :2] += 20 * torch.eye(2).repeat(230, 1)
    rows, more = rows[:400], rows[400:]
    widths = (0.2, 0.5, 1.0, 1.5, 3.0)
    found = parzen_references(rows, more[:30], more[30:], n=40, widths=widths, space="toy")
    order = torch.randperm(400, generator=torch.Generator().manual_seed(0))
    start = rows[order][:40]
    centres = KMeans(40, init=start.numpy(), n_init=1, max_iter=1).fit(rows.numpy())
    labels = _nearest(rows, start)[0].numpy()
    means = np.stack([rows.numpy()[labels == i].mean(0) for i in range(40)])
    np.testing.assert_allclose(centres.cluster_centers_, means, atol=1e-5)
    expected = parzen(torch.tensor(means), more[:30], more[30:], n=40, widths=widths, space="toy")
    assert found["k-means centres"].value == pytest.approx(expected.value, abs=1e-4)
    assert found["k-means centres"] > found["training rows"]


def test_models_are_tested():
    gan, _ = dgm.GAN.example()
    for classifier in ("logistic", "nearest neighbour"):
        assert two_sample_test(gan, torch.rand(60, 4), classifier, n=30, permutations=9).n[0] in (15, 30)
    assert 0 <= precision_curve(gan, torch.rand(60, 4), clusters=3, runs=1).f_recall <= 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: two_sample_test(FAKE, R, "svm"), "expected one of logistic, nearest neighbour"),
        (lambda: two_sample_test(FAKE[:3], R), "at least four"),
        (lambda: two_sample_test(FAKE, R[:, :1]), "different widths"),
        (lambda: two_sample_test(FAKE, R, seed=-1), "seed got -1"),
        (lambda: precision_curve(FAKE, R), "at least 20"),
        (lambda: precision_curve(FAKE, R, n=50, clusters=2), "at least 50"),
        (lambda: prd_of_laws([0.5, 0.4], [0.5, 0.5], [1.0]), "p got numbers"),
        (lambda: prd_of_laws([0.5, 0.5], [1.0], [1.0]), "2 states and q 1"),
        (lambda: prd_of_laws([1.0], [1.0], [0.0]), "positive"),
        (lambda: prd_of_laws([1.0], "half", [1.0]), "q got 'half'; expected a sequence of numbers"),
        (lambda: two_sample_test(FAKE[0], R), r"samples got a Tensor of shape \(2,\).*expected a matrix"),
        (lambda: parzen_references(R, R, R, n=10), "at least 10"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_mnist_is_ordered(data_dir):
    """Its first test rows are of easier writers: told from training rows, as rows from everywhere are not."""
    mnist = dgm.data.load("mnist", data_dir)
    generator = torch.Generator().manual_seed(0)
    train, mixed = (rows[torch.randperm(len(rows), generator=generator)] for rows in (mnist.train.x, mnist.test.x))
    assert two_sample_test(train[:2000], mnist.test.x[:2000]).p_value < 1e-6
    assert two_sample_test(train[:2000], mixed[:2000]).p_value > 0.001
