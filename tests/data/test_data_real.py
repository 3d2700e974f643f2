"""Grey levels as real numbers: standardised faces, whitened patches and pixels."""

import pickle

import pytest
import torch

from pyro_dgm import data
from pyro_dgm.data import Dataset, Space, Split, Whitening
from pyro_dgm.data.real import standardise
from pyro_dgm.data.whitening import normalise


def grey(rows: int = 400, columns: int = 9) -> Dataset:
    generator = torch.Generator().manual_seed(0)
    mixed = torch.rand(rows, columns, generator=generator) @ torch.rand(columns, columns, generator=generator)
    levels = (mixed / mixed.max() * 255).round() / 255
    every = Split(levels, Space("unit interval", "grey levels"), torch.arange(rows))
    return Dataset("toy", every[:300], every[300:350], every[350:], (3, 3))


def test_standardised_columns_and_the_level_that_a_row_came_from() -> None:
    original = grey()
    found = data.preprocess(original, "standardised", seed=1)
    torch.testing.assert_close(found.train.x.mean(0), torch.zeros(9), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.train.x.var(0, correction=0), torch.ones(9))
    assert str(found.test.space) == "real (dequantised, standardised)"
    assert torch.equal(found.test.labels, original.test.labels)
    # The noise stays within a level: undoing scale and shift by least squares and rounding down gives the bytes back.
    for column in range(9):
        bytes_ = original.train.x[:, column] * 255
        design = torch.stack([found.train.x[:, column], torch.ones(300)], 1)
        fitted = design @ torch.linalg.lstsq(design, (bytes_ + 0.5).unsqueeze(1)).solution
        assert (fitted.squeeze(1) - bytes_ - 0.5).abs().max() < 0.6


def test_whitened_components_are_uncorrelated_and_equal() -> None:
    found = data.preprocess(grey(), "whitened", components=5, scale=0.5)
    torch.testing.assert_close(found.train.x.T.cov(), 0.25 * torch.eye(5), atol=1e-4, rtol=0)
    assert found.shape == (5,)
    assert str(found.test.space) == "real (normalised, 5 whitened components times 0.5)"


def test_brightness_and_contrast_are_out_of_the_way() -> None:
    rows = grey().train.x
    whitening = Whitening.of(rows, 5, floor=0.0)
    torch.testing.assert_close(whitening.apply(0.3 * rows + 0.2), whitening.apply(rows), atol=1e-4, rtol=1e-4)


def test_filters_as_pictures_are_what_the_components_see() -> None:
    """A filter's product with a whitened row is that of its picture with the row in whitened pixels."""
    rows = grey().train.x
    whitening = Whitening.of(rows, 5)
    filters = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    pixels = whitening.apply(rows) @ whitening.components.T
    torch.testing.assert_close(pixels @ whitening.pictures(filters).T, whitening.apply(rows) @ filters)


EPSILONS = pytest.mark.parametrize("epsilon", [0.0, 0.05])


@EPSILONS
def test_whitened_pixels_are_nearly_uncorrelated(epsilon: float) -> None:
    """The covariance of training rows is the identity without what epsilon takes from components of little variance."""
    original = grey()
    found = data.preprocess(original, "zca", epsilon=epsilon, scale=0.5)
    values, vectors = torch.linalg.eigh(normalise(original.train.x).T.cov().double())
    lost = (vectors[:, 1:] * (epsilon / (values[1:] + epsilon))) @ vectors[:, 1:].T
    without_noise = found.train.x - found.train.x.mean(1, keepdim=True)
    pixels = 0.25 * (torch.eye(9) - 1 / 9 - lost).float()
    torch.testing.assert_close(without_noise.T.cov(), pixels, atol=1e-4, rtol=0)
    # The noise adds to equal pixels alone: n / 3 has variance 1/9, of 300 rows within 5 sqrt(2 / 300) of it.
    assert float(found.train.x.mean(1).var() / (0.25 / 9)) == pytest.approx(1, abs=5 * (2 / 300) ** 0.5)
    assert found.shape == (3, 3)
    assert str(found.test.space) == f"real (normalised, whitened pixels times 0.5, epsilon {epsilon:g})"


@EPSILONS
def test_the_map_to_whitened_pixels_is_symmetric_and_the_same_for_all_rows(epsilon: float) -> None:
    """Found by least squares from test rows, of which no more is known."""
    original = grey()
    found = data.preprocess(original, "zca", epsilon=epsilon)
    rows, changed = normalise(original.test.x).double(), found.test.x.double()
    mean = normalise(original.train.x).double().mean(0)
    changed = changed - changed.mean(1, keepdim=True)
    matrix = torch.linalg.pinv(rows - mean, rtol=1e-5) @ changed  # the least solution: rows have no mean
    torch.testing.assert_close((rows - mean) @ matrix, changed, atol=1e-4, rtol=0)
    torch.testing.assert_close(matrix, matrix.T, atol=1e-3, rtol=0)
    assert float(torch.linalg.eigvalsh(matrix)[1:].min()) > 0.5


@EPSILONS
def test_density_of_whitened_pixels_against_that_of_components(epsilon: float) -> None:
    """A Gaussian of full covariance: components and noise of their own, up to the difference of the determinants."""
    original = grey()
    pixels = data.preprocess(original, "zca", epsilon=epsilon)
    parts = data.preprocess(original, "whitened", components=8)
    change = (
        Whitening.of(original.train.x, 8, epsilon=epsilon).log_determinant
        - Whitening.of(original.train.x, 8).log_determinant
    )
    noise = [3 * split.x.mean(1, keepdim=True) for split in (pixels.train, pixels.test)]
    both = [torch.cat([split.x, n], 1) for split, n in zip((parts.train, parts.test), noise, strict=True)]
    expected = gaussian(both[0]).log_prob(both[1].double())
    torch.testing.assert_close(
        gaussian(pixels.train.x).log_prob(pixels.test.x.double()) + change, expected, atol=2e-3, rtol=0
    )
    assert change == pytest.approx(0, abs=1e-9) if epsilon == 0 else change < -0.3


def gaussian(rows: torch.Tensor) -> torch.distributions.MultivariateNormal:
    rows = rows.double()
    return torch.distributions.MultivariateNormal(rows.mean(0), rows.T.cov())


def test_patches_of_one_square_stay_together() -> None:
    """The least distance from a test patch to a training patch is never zero, as it would be for a shared one."""
    found = data.load("natural_patches")
    assert found.shape == (8, 8)
    assert float(torch.cdist(found.test.x, found.train.x, compute_mode="donot_use_mm_for_euclid_dist").min()) > 0


@pytest.mark.parametrize(
    ("how", "message"),
    [("squared", "standardised, whitened, zca"), ({"how": "whitened", "components": 64}, "at most 63"),
     ({"how": "whitened", "pieces": 3}, "pieces"), ({"how": "zca", "epsilon": -1.0}, "epsilon.*-1.0"),
     ({"how": "whitened", "components": 0}, "at most 63")],
)  # fmt: skip
def test_bad_preprocessing(how, message) -> None:
    with pytest.raises(ValueError, match=message):
        data.load("natural_patches", preprocessing=how)


def test_components_without_variance() -> None:
    rows = grey().train.x
    rows[:, 1] = rows[:, 0]
    with pytest.raises(ValueError, match="7 components with a variance, and 8 are asked for"):
        Whitening.of(rows, 8)
    assert Whitening.of(rows, 8, epsilon=0.1).gains.isfinite().all()


def test_one_of_two_kinds() -> None:
    with pytest.raises(ValueError, match="choose one"):
        data.load("digits", binarisation="threshold", preprocessing="whitened")


def test_bits_are_no_grey_levels() -> None:
    bits = data.load("digits", binarisation="threshold")
    with pytest.raises(ValueError, match="expected grey levels"):
        data.preprocess(bits, "standardised")


def test_standardised_data_can_be_sent_to_another_process() -> None:
    made = standardise(grey())
    again = pickle.loads(pickle.dumps(made))
    assert again.grey is not None
    assert made.grey is not None
    torch.testing.assert_close(again.grey(again.train.x), made.grey(made.train.x))
