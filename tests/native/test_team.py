"""An error inside a compiled loop is raised, and nobody waits for the member that had it."""

import numpy as np
import pytest
import torch
from numba import carray
from oracles import forked

from pyro_dgm.native import random_bits, rises, team
from pyro_dgm.native.team import for_a_team, meet, own_part

ROUNDS = 3


@for_a_team
def rounds_with_an_error(data):
    """Count the rounds of every member; in a round, one of them has an error."""
    numbers = carray(data[0], 3, np.int64)
    counts = carray(data[1], numbers[0], np.int64)
    first, end = own_part(numbers[0])
    for number in range(ROUNDS):
        if number == numbers[2] and first <= numbers[1] < end:
            raise ValueError("an error")
        for i in range(first, end):
            counts[i] += 1
        meet(data)


def run_rounds(threads, who, when):
    torch.set_num_threads(threads)
    counts = torch.zeros(threads, dtype=torch.int64)
    if when == ROUNDS:
        team.run_team(rounds_with_an_error, [counts], threads, who, when)
        assert (counts == ROUNDS).all()
        return
    with pytest.raises(RuntimeError, match="stopped at an error"):
        team.run_team(rounds_with_an_error, [counts], threads, who, when)
    assert counts.tolist() == [when + (i != who) for i in range(threads)]


def run_all_rounds():
    for threads in (1, 2, 3):
        for who in range(threads):
            for when in range(ROUNDS + 1):
                run_rounds(threads, who, when)


def test_a_member_that_fails_leaves_no_other_at_a_meeting():
    """In a process of its own: what goes wrong here is a team that waits for ever."""
    process = forked.start(run_all_rounds)
    process.join(60)
    ended = process.exitcode
    process.kill()
    assert ended == 0


@pytest.mark.parametrize("threads", [1, 2])
def test_errors_of_loops_are_raised(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    seeds, none = torch.zeros(2, dtype=torch.int64), torch.zeros(0)
    rows, columns = 50, 100
    fields = torch.zeros(rows, columns)
    no_temperatures = [torch.zeros(columns), fields, none, none.long(), fields, seeds]
    no_memory = [torch.zeros(2, dtype=torch.float64), none, none, none, seeds]
    try:
        with pytest.raises(RuntimeError, match="draw_single_at_temperatures_in_team stopped at an error"):
            team.run_team(random_bits.draw_single_at_temperatures, no_temperatures, rows, columns, 0, 0)
        with pytest.raises(RuntimeError, match="take fewer rows at a time"):
            team.run_team(rises.weigh_and_draw, no_memory, 1, 1 << 50)
    finally:
        torch.set_num_threads(before)
