"""Advice that fits the rows that were refused: pixels are divided, tables are not."""

import pytest
import torch

import pyro_dgm as dgm
from pyro_dgm import advice, data

GENERATOR = torch.Generator().manual_seed(0)


def whole(rows, *columns):
    """Whole numbers, in columns from and to the given ones."""
    return torch.stack([torch.randint(low, high + 1, (rows,), generator=GENERATOR).float() for low, high in columns], 1)


BYTES = torch.cat([torch.zeros(50, 4), whole(50, *[(0, 255)] * 9, *[(0, 20)] * 3)], 1)
"""Pixels of pictures: black at the border, hardly grey beside it."""

LEVELS = whole(50, *[(0, 16)] * 12)
TABLE = whole(50, (18, 90), (0, 4), (0, 1), (10, 200))
HEIGHTS = whole(50, (150, 190), (0, 1), (0, 1))


def holed(x):
    return torch.where(torch.rand(x.shape, generator=GENERATOR) < 0.2, torch.nan, x)


@pytest.mark.parametrize(
    ("rows", "division"),
    [
        (BYTES, "Divide bytes by 255"),
        (LEVELS, "If these are pixels, divide them by 16"),
        (TABLE, None),
        (HEIGHTS, None),
        (HEIGHTS[:1], None),
        (whole(50, (150, 190)), None),
        (BYTES / 2, None),
        (BYTES * 2, "If these are pixels, divide them by 510"),
        (BYTES - 1, None),
    ],
)
@pytest.mark.parametrize("change", [torch.clone, holed, lambda x: x.unsqueeze(1)])
def test_pixels_are_divided_and_tables_are_not(rows, division, change):
    rows = change(rows)
    rows = rows[~rows.isnan().flatten(1).all(1)]
    if not len(rows):
        return
    bits, levels = advice.on_bits(rows), advice.on_levels(rows, "choose")
    if division is None:
        assert "ivide" not in bits + levels
        assert "GaussianRBM" in bits
        assert levels == "Choose"
    else:
        assert bits.startswith(f"{division}: they are then grey levels. Grey levels need a binarisation")
        assert levels == f"{division}, or choose"


@pytest.mark.parametrize(
    "refused",
    [
        lambda x: dgm.fit(dgm.RBM(x.shape[1], hidden=3), x),
        lambda x: dgm.fit(dgm.VAE(x.shape[1], latent=2), x),
        lambda x: dgm.fit(dgm.VAE(x.shape[1], latent=2, output="logistic"), x),
        lambda x: dgm.fit(dgm.ContractiveAutoencoder(x.shape[1], hidden=(3,)), x),
        lambda x: data.binarise(data.rows.as_dataset(x), "threshold"),
    ],
)
def test_every_refusal_goes_by_the_rows(refused):
    with pytest.raises(ValueError, match="Divide bytes by 255"):
        refused(BYTES)
    with pytest.raises(ValueError, match=r"real columns|output='gaussian'|output='linear'") as error:
        refused(TABLE)
    assert "ivide" not in str(error.value)
