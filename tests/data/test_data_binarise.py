import math
import pickle

import pytest
import torch

from pyro_dgm.data import Dataset, Space, Split, binarise, load

GREY = Space("unit interval", "grey levels")


def constant(level: float, rows: int = 40000) -> Dataset:
    split = Split(torch.full((rows, 1), level), GREY)
    return Dataset("constant", split, split, split, (1,))


def test_threshold_is_strictly_above_a_half() -> None:
    rows = Split(torch.tensor([[0.0, 0.5, 0.51, 1.0]]), GREY)
    data = binarise(Dataset("toy", rows, rows, rows, (4,)), "threshold", seed=5)
    assert data.train.x.tolist() == [[0, 0, 1, 1]]
    assert data.redraw is None
    assert {str(s.space) for s in (data.train, data.valid, data.test)} == {"binary (threshold 0.5)"}


def test_fixed_depends_on_the_seed_and_says_so(grey: Dataset) -> None:
    data, again, other = (binarise(grey, "fixed", seed) for seed in (0, 0, 1))
    assert data.redraw is None
    for part in ("train", "valid", "test"):
        a, b, c, g = (getattr(d, part) for d in (data, again, other, grey))
        assert torch.equal(a.x, b.x)
        assert not torch.equal(a.x, c.x)
        assert set(a.x.unique().tolist()) == {0.0, 1.0}
        assert torch.equal(a.labels, g.labels)
        assert str(a.space) == "binary (fixed, seed 0)"
        assert not a.space.same_as(c.space)
    assert not data.train.space.same_as(Space("binary", "fixed"))


def test_splits_are_drawn_from_different_streams() -> None:
    data = binarise(constant(0.5, 100), "fixed")
    assert not torch.equal(data.train.x, data.valid.x)
    assert not torch.equal(data.valid.x, data.test.x)


def test_stochastic_keeps_grey_training_rows_and_draws_the_rest_once(grey: Dataset) -> None:
    data, again = binarise(grey, "stochastic", 3), binarise(grey, "stochastic", 3)
    assert torch.equal(data.train.x, grey.train.x)
    assert torch.equal(data.valid.x, again.valid.x)
    assert set(data.test.x.unique().tolist()) <= {0.0, 1.0}
    assert {str(s.space) for s in (data.train, data.valid, data.test)} == {"binary (stochastic, seed 3)"}
    first, second = (torch.cat(list(data.batches(epoch, 23, 0))) for epoch in (0, 1))
    assert set(first.unique().tolist()) == {0.0, 1.0}
    # The rows come in another order in each epoch, so compare row by row, by their grey levels' order.
    orders = [torch.cat(list(grey.batches(epoch, 23, 0)))[:, 0].argsort() for epoch in (0, 1)]
    assert not torch.equal(first[orders[0]], second[orders[1]])
    assert pickle.loads(pickle.dumps(data)).redraw is data.redraw


@pytest.mark.parametrize("level", [0.1, 0.5, 0.85])
def test_draws_have_the_grey_level_as_mean(level: float) -> None:
    # A mean of n bits has standard deviation sqrt(p(1-p)/n); beyond five of them: one run in 1.7 million.
    tolerance = 5 * math.sqrt(level * (1 - level) / 40000)
    redrawn = binarise(constant(level), "stochastic")
    epochs = [torch.cat(list(redrawn.batches(epoch, 1000, 0))) for epoch in (0, 1)]
    drawn = [binarise(constant(level), "fixed").train.x, redrawn.valid.x, *epochs]
    for x in drawn:
        assert abs(float(x.mean()) - level) < tolerance
    # Batches and epochs are independent: the bits of two agree with probability p² + (1-p)².
    agree = level**2 + (1 - level) ** 2
    spread = 5 * math.sqrt(agree * (1 - agree) / 40000)
    assert abs(float((epochs[0] == epochs[1]).float().mean()) - agree) < spread
    rows = epochs[0].reshape(40, 1000)
    assert abs(float((rows[1:] == rows[:-1]).float().mean()) - agree) < 2 * spread


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_black_and_white_stay(level: float) -> None:
    assert bool((binarise(constant(level), "fixed").train.x == level).all())


def test_refusals(grey: Dataset) -> None:
    with pytest.raises(ValueError, match=r"'otsu'; expected one of: threshold, fixed, stochastic"):
        binarise(grey, "otsu")
    with pytest.raises(ValueError, match=r"'otsu'; expected one of"):
        load("digits", binarisation="otsu")
    for how in ("threshold", "fixed", "stochastic"):
        with pytest.raises(ValueError, match=r"already binary \(stochastic, seed 0\).*leave the binarisation out"):
            binarise(binarise(grey, "stochastic"), how)
        for level in (-0.1, 1.5):
            with pytest.raises(
                ValueError,
                match=rf"'train' has values from {level} to {level}.*x > 0, or choose a model of real columns",
            ):
                binarise(constant(level, 2), how)
