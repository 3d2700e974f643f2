"""Checks of arguments, at their borders."""

import numpy as np
import pytest
import torch

from pyro_dgm import checks


@pytest.mark.parametrize("value", [2, np.int64(2), torch.tensor(2)])
def test_whole_numbers_of_any_kind_become_ints(value):
    assert type(checks.check_count("n", value, 2)) is int
    assert checks.check_counts("n", [value]) == (2,)


@pytest.mark.parametrize("value", [1, True, np.True_, 2.0, "2", None, torch.tensor(2.0), torch.tensor([2, 3]), [2]])
def test_what_is_no_whole_number_or_too_small_is_refused(value):
    with pytest.raises(ValueError, match=r"^n got .*; expected an integer of at least 2$"):
        checks.check_count("n", value, 2)


@pytest.mark.parametrize("values", [3, None, (), (0,), (2, True), "23", (2, 1.5)])
def test_what_are_no_whole_numbers_are_refused(values):
    with pytest.raises(
        ValueError, match=r"^hidden got .*; expected the units of every hidden layer, integers of at least 1"
    ):
        checks.check_counts("hidden", values)


def test_none_may_be_enough():
    assert checks.check_counts("hidden", (), fewest=0) == ()


@pytest.mark.parametrize("value", [0, 1, -0.1, 1.1, float("nan"), "0.5", None, True])
def test_shares(value):
    checks.check_share("p", 0.5, "a share")
    checks.check_share("p", 0, "a share", zero=True)
    with pytest.raises(ValueError, match=r"p got .*; expected a share, in \(0, 1\)"):
        checks.check_share("p", value, "a share")


@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan"), "1", None, True])
def test_positive_numbers(value):
    checks.check_positive("s", np.float32(0.5), "a scale")
    checks.check_positive("s", 0, "a scale", zero=True)
    with pytest.raises(ValueError, match=r"s got .*; expected a scale, a finite number above 0"):
        checks.check_positive("s", value, "a scale")


@pytest.mark.parametrize("value", ["c", None, ["a"], 1])
def test_choices(value):
    checks.check_choice("kind", "a", {"a": 1, "b": 2})
    with pytest.raises(ValueError, match=r"kind got .*; expected one of a, b"):
        checks.check_choice("kind", value, {"a": 1, "b": 2})


@pytest.mark.parametrize("row", [[0.0, 0.0], [1.0, 1.0], [0.5, 0.5], [2.0, -1.0]])
def test_labels(row):
    with pytest.raises(ValueError, match="DBM got labels that are not one-hot in the last 2 columns"):
        checks.check_one_hot(torch.tensor([[1.0, 0.0], row]), "DBM")


def test_rows_are_finite_although_their_sum_is_not():
    checks.check_rows(torch.full((3, 2), 3e38), (2,), "x")
    for bad in (torch.inf, -torch.inf, torch.nan):
        rows = torch.full((3, 2), 3e38)
        rows[1, 0] = bad
        with pytest.raises(ValueError, match=r"x got NaN or infinite values, first in row 1"):
            checks.check_rows(rows, (2,), "x")
    with pytest.raises(ValueError, match=r"first in row 0"):
        checks.check_rows(torch.tensor([[torch.inf, -torch.inf]]), (2,), "x")
