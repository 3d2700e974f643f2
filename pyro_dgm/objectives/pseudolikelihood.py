"""The pseudo log-likelihood of a Boltzmann distribution."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..energy import BoltzmannDistribution


def pseudo_log_likelihood(dist: BoltzmannDistribution, x: Tensor, entries: int | None = 8) -> Tensor:
    r"""$\sum_i \log p(x_i \mid x_{-i})$ of two-state visible units, in nats: one figure a row (18.20).

    No partition function is needed: $\log p(x_i | x_{-i}) = -\mathrm{softplus}(F(x) - F(\tilde x_i))$ with the unit
    $i$ flipped in $\tilde x_i$. It is no bound of the log-likelihood, but it rises while training works.

    Args:
        dist: a Boltzmann distribution with binary or spin visibles.
        x: rows, ``n x event_shape``.
        entries: how many units a row are flipped (drawn at random, and scaled up without bias); ``None`` flips all.

    Raises:
        ValueError: the visible units do not have two states.

    Example:
        >>> import pyro_dgm as dgm
        >>> rbm, x = dgm.RBM.example()
        >>> dgm.pseudo_log_likelihood(rbm(), x, entries=None).shape
        torch.Size([10])
    """
    unit = dist.machine.graph.layers[dist.visible]
    if unit.states_per_atom != 2 or unit.event_dim != 1:
        raise ValueError(f"pseudo_log_likelihood got visible units {unit}; expected a vector of two-state units")
    n, size = x.shape
    low, high = unit.atom_states(x)
    if entries is None or entries >= size:
        columns, scale = torch.arange(size, device=x.device).expand(n, size), 1.0
    else:
        columns, scale = torch.rand(n, size, device=x.device).topk(entries, dim=1).indices, size / entries
    free = dist.free_energy(x)
    total = torch.zeros_like(free)
    for column in columns.unbind(1):
        index = column.unsqueeze(1)
        flipped = x.scatter(1, index, low + high - x.gather(1, index))
        total = total - F.softplus(free - dist.free_energy(flipped))
    return total * scale
