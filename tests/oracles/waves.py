"""Parameters for comparisons with other programs: sines of indices, so that every program can write them down."""

import torch


def wave(scale, start, *shape):
    """scale * sin(start + i0 + 2 i1 + 3 i2 + ...), with indices from 0, in double precision."""
    angle = torch.full(shape, float(start), dtype=torch.float64)
    for axis, size in enumerate(shape):
        angle = angle + (axis + 1) * torch.arange(size).double().view(-1, *(1 for _ in shape[axis + 1 :]))
    return scale * torch.sin(angle)


def bits(start, *shape):
    """Ones where the sine is positive."""
    return (wave(1, start, *shape) > 0).double()
