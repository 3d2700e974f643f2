"""All states of a few bits."""

import itertools

import pytest
import torch

from pyro_dgm.energy import NotEnumerable
from pyro_dgm.models.shared.listed import bit_states


@pytest.mark.parametrize("bits", [1, 3, 12])
def test_every_state_is_listed_once(bits):
    found = bit_states(bits, torch.zeros(1, dtype=torch.float64), 12, "bits", "")
    assert found.dtype == torch.float64
    assert found.shape == (2**bits, bits)
    assert set(map(tuple, found.tolist())) == set(itertools.product((0.0, 1.0), repeat=bits))


def test_too_many_bits_are_refused():
    with pytest.raises(NotEnumerable, match=r"13 spikes have too many states; at most 12 are listed. Use method='ais'"):
        bit_states(13, torch.zeros(()), 12, "spikes", "Use method='ais'")
