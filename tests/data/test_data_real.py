"""Grey levels as real numbers: standardised faces, whitened patches."""

import pytest
import torch

from pyro_dgm import data
from pyro_dgm.data import Dataset, Space, Split, Whitening


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


def test_patches_of_one_square_stay_together() -> None:
    """The least distance from a test patch to a training patch is never zero, as it would be for a shared one."""
    found = data.load("natural_patches")
    assert found.shape == (8, 8)
    assert float(torch.cdist(found.test.x, found.train.x, compute_mode="donot_use_mm_for_euclid_dist").min()) > 0


@pytest.mark.parametrize(
    ("how", "message"),
    [("squared", "standardised, whitened"), ({"how": "whitened", "components": 64}, "1 to 63"),
     ({"how": "whitened", "pieces": 3}, "pieces"), ({"how": "whitened", "components": 0}, "1 to 63")],
)  # fmt: skip
def test_bad_preprocessing(how, message) -> None:
    with pytest.raises(ValueError, match=message):
        data.load("natural_patches", preprocessing=how)


def test_one_of_two_kinds() -> None:
    with pytest.raises(ValueError, match="choose one"):
        data.load("digits", binarisation="threshold", preprocessing="whitened")


def test_bits_are_no_grey_levels() -> None:
    bits = data.load("digits", binarisation="threshold")
    with pytest.raises(ValueError, match="expected grey levels"):
        data.preprocess(bits, "standardised")
