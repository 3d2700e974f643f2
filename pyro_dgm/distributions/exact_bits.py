"""Independent bits whose draws are exact and fast."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pyro.distributions import Bernoulli
from torch import Tensor

from ..native import bernoulli, bernoulli_


class ExactBits(Bernoulli):
    """Torch's Bernoulli law, with the draws of ``native``: exact to the rounding of the probabilities, and faster.

    Example:
        >>> import torch
        >>> ExactBits(probs=torch.tensor([0.0, 1.0])).sample()
        tensor([0., 1.])
    """

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        if "logits" in self.__dict__ and "probs" not in self.__dict__:
            return bernoulli(self.logits.expand(shape).contiguous())
        return bernoulli_(self.probs.expand(shape).clone(memory_format=torch.contiguous_format))
