"""Pictures of canvases that fill."""

import numpy as np
import pytest
import torch
from PIL import Image

import pyro_dgm as dgm
from pyro_dgm.evaluation.pictures import drawing


def canvases():
    return torch.linspace(0, 1, 3 * 2 * 6).view(3, 2, 6)


def test_a_row_a_picture_and_a_column_a_step():
    figure = drawing.drawing_sequence(canvases(), (2, 3))
    image = np.ma.filled(figure.axes[0].images[0].get_array().astype(float), np.nan)
    for step in range(3):
        for n in range(2):
            top, left = 1 + n * 3, 1 + step * 4
            cell = image[top : top + 2, left : left + 3]
            np.testing.assert_allclose(cell, canvases()[step, n].view(2, 3), atol=1e-6)


def test_windows_lie_over_their_pictures():
    centres, sizes = torch.zeros(3, 2, 2), torch.ones(3, 2)
    centres[2, 1] = torch.tensor([1.0, 2.0])
    boxes = drawing.drawing_sequence(canvases(), (2, 3), centres=centres, sizes=sizes).axes[0].patches
    assert len(boxes) == 6
    assert any(box.get_xy() == (1 + 2 * 4 + 2 - 0.5, 1 + 3 + 1 - 0.5) for box in boxes)
    with pytest.raises(ValueError, match="centres and sizes"):
        drawing.drawing_sequence(canvases(), (2, 3), centres=centres[:2], sizes=sizes)


def test_animation_has_a_frame_a_step(tmp_path):
    path = tmp_path / "drawing.gif"
    drawing.drawing_animation(canvases(), (2, 3), str(path))
    with Image.open(path) as image:
        assert image.n_frames == 3
    with pytest.raises(ValueError, match=r"\.gif"):
        drawing.drawing_animation(canvases(), (2, 3), str(tmp_path / "drawing.png"))
    with pytest.raises(ValueError, match="steps x pictures"):
        drawing.drawing_sequence(torch.zeros(2, 6), (2, 3))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dgm.VAE.example()[0], "canvases got VAE; expected the canvas after every step"),
        (dgm.DRAW.example()[0].drawing(2), "canvases got Drawing; expected"),
        (torch.zeros(0, 2, 6), r"shape \(0, 2, 6\)"),
        (torch.zeros(1, 2, 6), "a single step"),
    ],
    ids=["no DRAW", "not its means", "no steps", "one step"],
)
def test_what_is_no_drawing_is_refused(wrong, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        drawing.drawing_animation(wrong, (2, 3), str(tmp_path / "drawing.gif"))
    assert not (tmp_path / "drawing.gif").exists()
