"""Examples: the same every time, and nothing of the caller's random numbers is used up."""

from __future__ import annotations

import importlib
import random

import numpy as np
import pytest
import torch

from pyro_dgm.registry import model_classes


@pytest.mark.parametrize("name", model_classes())
def test_an_example_is_the_same_every_time_and_disturbs_nothing(name):
    cls = getattr(importlib.import_module(f"pyro_dgm.{model_classes()[name]}"), name)
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
        found.append(cls.example())
        assert torch.equal(before[0], torch.get_rng_state())
        assert before[1] == random.getstate()
        assert (before[2] == np.random.get_state()[1]).all()  # noqa: NPY002
    (one, x), (two, y) = found
    assert torch.equal(x, y)
    assert one.state_dict().keys() == two.state_dict().keys()
    assert all(torch.equal(value, two.state_dict()[key]) for key, value in one.state_dict().items())
