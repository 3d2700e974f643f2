"""Discrepancies, their gradients and explicit moments equal values worked out by hand and by sums over pairs."""

import math

import pytest
import torch

from pyro_dgm.discrepancy import (
    GaussianKernels,
    PolynomialKernel,
    mean_discrepancy,
    median_squared_width,
    moment,
    root,
    squared_distances,
)

X = torch.tensor([[i / 2, i * i / 4] for i in range(3)], dtype=torch.float64)
Y = torch.tensor([[j / 2, 1 - j / 4] for j in range(4)], dtype=torch.float64)
KERNEL = GaussianKernels((0.25, 1.0, 4.0))


def test_gaussian_kernels():
    assert float(mean_discrepancy(X, Y, KERNEL)) == pytest.approx(0.5701932118, abs=1e-10)
    assert float(mean_discrepancy(X, Y, KERNEL, unbiased=True)) == pytest.approx(-0.1362821016, abs=1e-10)
    assert float(root(mean_discrepancy(X, Y, KERNEL))) == pytest.approx(0.7551113903, abs=1e-10)


def test_gradients_of_the_discrepancy_and_its_root():
    x = X.clone().requires_grad_()
    (slope,) = torch.autograd.grad(mean_discrepancy(x, Y, KERNEL), x)
    expected = [[0.0461207483, -0.2292503765], [-0.5308651809, -0.5406156038], [0.0299209504, 0.2194943560]]
    torch.testing.assert_close(slope, torch.tensor(expected, dtype=torch.float64), atol=1e-9, rtol=0)
    (of_root,) = torch.autograd.grad(root(mean_discrepancy(x, Y, KERNEL)), x)
    torch.testing.assert_close(of_root, slope / 1.5102227806, atol=1e-9, rtol=0)


def test_a_set_against_itself():
    """V is zero with a gradient of zero, not 0/0 nor that of rounding; U leaves out the pairs that are the same row."""
    rows = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    for data, near in ((X, X), (rows, rows + 1e-4 * rows.flip(0))):
        x = near.clone().requires_grad_()
        (slope,) = torch.autograd.grad(root(mean_discrepancy(x, data, KERNEL)), x)
        assert float(slope.norm()) < 1.0
    (slope,) = torch.autograd.grad(root(mean_discrepancy(x := X.clone().requires_grad_(), X, KERNEL)), x)
    assert not bool(slope.any())
    assert float(mean_discrepancy(X, X, KERNEL)) == pytest.approx(0, abs=1e-14)
    assert float(mean_discrepancy(X, X, KERNEL, unbiased=True)) == pytest.approx(-0.8258281733, abs=1e-10)


def test_a_polynomial_kernel_compares_moments():
    r"""$V = 2 |\Delta m|^2 + |\Delta M|_F^2$ with means m and second moments M."""
    m, second = X.mean(0) - Y.mean(0), X.T @ X / len(X) - Y.T @ Y / len(Y)
    found = float(mean_discrepancy(X, Y, PolynomialKernel()))
    assert found == pytest.approx(0.4428168403, abs=1e-10)
    assert found == pytest.approx(float(2 * m.square().sum() + second.square().sum()), abs=1e-12)


def test_explicit_moments():
    assert float(moment(X, [1, 2])) == pytest.approx(0.34375, abs=1e-15)
    with pytest.raises(ValueError, match="one for every column"):
        moment(X, [1, 2, 3])


def best_scale(n, d):
    r"""The scale of a normal generator at which E V is least, against standard normal data, of n rows each and width 1.

    For u, v normal with the summed variance $a$ in every column, $E e^{-|u - v|^2 / 2} = (1 + a)^{-d/2}$.
    """
    s = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([s], max_iter=200, tolerance_grad=1e-14, tolerance_change=1e-16)

    def loss():
        optimiser.zero_grad()
        within = (1 - 1 / n) * (1 + 2 * s**2) ** (-d / 2)
        value = within - 2 * (1 + 1 + s**2) ** (-d / 2)
        value.backward()
        return value

    optimiser.step(loss)
    return float(s.detach())


@pytest.mark.parametrize(
    ("n", "d", "expected"), [(2, 1, 0.435566), (10, 1, 0.899686), (100, 1, 0.99), (10, 10, 0.973998)]
)
def test_small_batches_favour_narrow_generators(n, d, expected):
    """The mean of V over many pairs of sets is least at the scale that its formula says; that of U at one."""
    assert best_scale(n, d) == pytest.approx(expected, abs=2e-6)
    torch.manual_seed(0)
    kernel, sets = GaussianKernels((1.0,)), 4000
    scales = torch.tensor([expected * 0.9, expected * 1.1], dtype=torch.float64)
    differences = []
    for _ in range(sets if n < 50 else 300):
        x, z = torch.randn(2, n, d, dtype=torch.float64)
        values = torch.stack([mean_discrepancy(x, s * z, kernel) for s in scales])
        differences.append(values[0] - values[1])
    found = torch.stack(differences)

    def value(s):
        return (1 - 1 / n) * (1 + 2 * s**2) ** (-d / 2) - 2 * (2 + s**2) ** (-d / 2)

    error = float(found.std()) / math.sqrt(len(found))
    assert abs(float(found.mean()) - float(value(scales[0]) - value(scales[1]))) < 5 * error


def test_second_derivatives_are_refused():
    """The exponentials keep no more than the first."""
    x = X.clone().requires_grad_()
    with pytest.raises(RuntimeError, match="first derivatives alone"):
        torch.autograd.grad(mean_discrepancy(x, Y, KERNEL), x, create_graph=True)


def test_distances_are_never_negative():
    x = 100 + 1e-3 * torch.randn(50, 784, generator=torch.Generator().manual_seed(0))
    found = squared_distances(x, x)
    assert float(found.min()) >= 0
    torch.testing.assert_close(found, torch.cdist(x.double(), x.double()).square().float(), atol=2e-7, rtol=2e-3)


def test_widths_of_rows_that_are_equal():
    assert median_squared_width(torch.zeros(4, 2)) == 1.0
    assert median_squared_width(torch.tensor([[0.0], [0.0], [0.0], [2.0]])) == pytest.approx(2.0)


def test_what_is_refused():
    with pytest.raises(ValueError, match="expected n x D and m x D"):
        mean_discrepancy(X, Y[:, :1], KERNEL)
    for rows in (X.long(), X[0], X.tolist(), None):
        for call in (mean_discrepancy, lambda x, y, _: squared_distances(y, x), lambda x, *_: median_squared_width(x)):
            with pytest.raises(ValueError, match="expected rows of real numbers, n x D"):
                call(rows, Y, KERNEL)
        with pytest.raises(ValueError, match="expected rows of real numbers, n x D"):
            moment(rows, [1, 2])
    with pytest.raises(ValueError, match="expected n x D and m x D"):
        squared_distances(X, Y[:, :1])
    with pytest.raises(ValueError, match=r"expected a discrepancy\.Kernel"):
        mean_discrepancy(X, Y, "gaussian")
    with pytest.raises(ValueError, match="got no rows"):
        moment(X[:0], [1, 2])
    with pytest.raises(ValueError, match="degrees got 'ab'; expected 2 numbers"):
        moment(X, "ab")
    with pytest.raises(ValueError, match="NaN or infinite"):
        median_squared_width(torch.tensor([[0.0], [torch.nan]]))
    with pytest.raises(ValueError, match="rows got -1"):
        median_squared_width(X, rows=-1)
    with pytest.raises(ValueError, match="at least 2 of either set"):
        mean_discrepancy(X[:1], Y, KERNEL, unbiased=True)
    for widths in ((), 3.0, "1"):
        with pytest.raises(ValueError, match="squares of widths"):
            GaussianKernels(widths)
    with pytest.raises(ValueError, match="squared_widths"):
        GaussianKernels((1.0, 0.0))
