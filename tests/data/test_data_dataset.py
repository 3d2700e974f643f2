import dataclasses

import pytest
import torch

from pyro_dgm.data import Dataset, Space, Split, binarise
from pyro_dgm.data.rows import as_rows

BINARY = Space("binary", "fixed")


def split(rows: int, columns: int = 4) -> Split:
    return Split(torch.arange(rows * columns, dtype=torch.float32).reshape(rows, columns), BINARY)


def test_validation_rows_join_the_training_rows() -> None:
    whole = Split(split(6).x, BINARY, torch.arange(6))
    data = Dataset("toy", whole[:2], whole[2:4], whole[4:], (4,))
    joined = data.with_validation_in_training()
    assert torch.equal(joined.train.x, whole.x[:4])
    assert joined.train.labels is not None
    assert torch.equal(joined.train.labels, torch.arange(4))
    assert joined.valid is data.valid
    assert joined.test is data.test


def test_space_names_and_comparison() -> None:
    assert str(BINARY) == "binary (fixed)"
    assert str(Space("real")) == "real"
    assert BINARY.same_as(Space("binary", "fixed"))
    assert not BINARY.same_as(Space("binary", "stochastic, seed 0"))
    assert not BINARY.same_as(Space("real", "fixed"))
    with pytest.raises(ValueError, match=r"support ''.*such as 'binary'"):
        Space("")


def test_split_slices_carry_labels_and_space() -> None:
    whole = Split(torch.arange(10.0).reshape(5, 2), BINARY, torch.arange(5))
    part = whole[1:3]
    assert isinstance(part, Split)
    assert len(part) == 2
    assert part.x.tolist() == [[2, 3], [4, 5]]
    assert part.labels is not None
    assert part.labels.tolist() == [1, 2]
    assert part.space == BINARY
    picked = whole[torch.tensor([4, 0])]
    assert picked.labels is not None
    assert picked.labels.tolist() == [4, 0]
    assert whole[:2].labels is not None
    assert split(3)[:2].labels is None
    with pytest.raises(TypeError, match=r"split\[i:i \+ 1\]"):
        whole[2]  # type: ignore[index]


def test_split_to_changes_precision_of_x_only() -> None:
    moved = Split(torch.ones(2, 2), BINARY, torch.arange(2)).to(torch.float64)
    assert moved.x.dtype == torch.float64
    assert moved.labels is not None
    assert moved.labels.dtype == torch.int64
    meta = Split(torch.ones(2, 2), BINARY, torch.arange(2)).to("meta")
    assert meta.x.device.type == "meta"
    assert meta.labels is not None
    assert meta.labels.device.type == "meta"


def test_split_refuses_wrong_shapes() -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 2, 2\).*flatten"):
        Split(torch.ones(2, 2, 2), BINARY)
    with pytest.raises(ValueError, match=r"torch.int64.*x.float\(\)"):
        Split(torch.ones(2, 2, dtype=torch.int64), BINARY)
    with pytest.raises(ValueError, match=r"labels of shape \(3,\) for 2 rows"):
        Split(torch.ones(2, 2), BINARY, torch.arange(3))


def test_dataset_is_frozen_and_knows_its_width() -> None:
    data = Dataset("toy", split(3), split(1), split(1), (2, 2))
    assert data.visible == 4
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.name = "other"  # type: ignore[misc]


def test_dataset_refuses_bad_splits() -> None:
    with pytest.raises(ValueError, match="'toy': split 'valid' has no rows"):
        Dataset("toy", split(3), split(0), split(1), (4,))
    with pytest.raises(ValueError, match="split 'test' has 5 columns but 'train' has 4"):
        Dataset("toy", split(3), split(1), split(1, 5), (4,))
    unknown = Split(torch.full((2, 4), torch.nan), Space("binary"))
    with pytest.raises(
        ValueError, match=r"split 'test' has missing values \(NaN\) alone; expected rows with known ones"
    ):
        Dataset("toy", split(3), split(1), unknown, (4,))
    with pytest.raises(ValueError, match=r"shape \(3, 2\) has product 6 but rows have 4.*\(4,\)"):
        Dataset("toy", split(3), split(1), split(1), (3, 2))
    with pytest.raises(ValueError, match=r"shape \(-2, -2\)"):
        Dataset("toy", split(3), split(1), split(1), (-2, -2))


@pytest.mark.parametrize("bad", [float("inf"), -float("inf")])
@pytest.mark.parametrize("where", ["train", "valid", "test"])
def test_dataset_names_split_and_first_row_of_bad_values(bad: float, where: str) -> None:
    splits = {part: split(5) for part in ("train", "valid", "test")}
    splits[where].x[2, 3] = bad
    splits[where].x[4, 0] = bad
    with pytest.raises(ValueError, match=rf"split '{where}'.*first in row 2;.*NaN where one is missing"):
        Dataset("toy", splits["train"], splits["valid"], splits["test"], (4,))


@pytest.fixture
def numbered() -> Dataset:
    rows = Split(torch.arange(23.0)[:, None], Space("real"))
    return Dataset("numbered", rows, rows, rows, (1,))


def test_batches_visit_every_row_once_and_keep_the_rest(numbered: Dataset) -> None:
    batches = list(numbered.batches(epoch=0, batch_size=5, seed=3))
    assert [len(x) for x in batches] == [5, 5, 5, 5, 3]
    order = torch.cat(batches).flatten().tolist()
    assert sorted(order) == list(range(23))
    assert order != sorted(order)


def test_batches_depend_on_seed_and_epoch_alone(numbered: Dataset) -> None:
    def order(epoch: int, seed: int, batch_size: int = 5) -> list[float]:
        return torch.cat(list(numbered.batches(epoch, batch_size, seed))).flatten().tolist()

    first = order(1, 3)
    torch.manual_seed(99)
    torch.rand(7)
    before = torch.get_rng_state()
    assert order(1, 3) == first
    assert torch.equal(torch.get_rng_state(), before)
    assert order(1, 3, batch_size=7) == first
    assert order(2, 3) != first
    assert order(1, 4) != first
    assert order(3, 1) != first


@pytest.mark.parametrize("redrawn", [False, True])
@pytest.mark.parametrize("start", [0, 1, 3, 5])
def test_resumed_epoch_is_the_tail_of_the_full_one(grey: Dataset, start: int, redrawn: bool) -> None:
    data = binarise(grey, "stochastic") if redrawn else grey
    full = list(data.batches(epoch=2, batch_size=5, seed=7))
    tail = list(data.batches(epoch=2, batch_size=5, seed=7, start=start))
    assert len(tail) == 5 - start
    assert all(torch.equal(a, b) for a, b in zip(tail, full[start:], strict=True))


def test_batches_refuse_bad_arguments_at_the_call(numbered: Dataset) -> None:
    with pytest.raises(ValueError, match="batch_size got 0"):
        numbered.batches(0, 0, 0)
    with pytest.raises(ValueError, match="epoch got -1"):
        numbered.batches(-1, 5, 0)
    for start in (-1, 6):
        with pytest.raises(ValueError, match=f"start={start}; an epoch has 5 batches"):
            numbered.batches(0, 5, 0, start=start)


def test_rows_that_lie_column_by_column_are_laid_out_anew():
    """As those of tables do; loops over rows would read them from all over the memory."""
    x = torch.rand(3, 4).t()
    assert not x.is_contiguous()
    for rows in (Split(x, Space("binary")).x, as_rows(x), Split(torch.eye(9), Space("binary"))[::2].x):
        assert rows.is_contiguous()
    assert torch.equal(as_rows(x), x)
    assert as_rows(whole := torch.eye(3)) is whole
