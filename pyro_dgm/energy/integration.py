"""Exact sums where several colours hold real numbers: finite parts are listed, and each state takes one Gaussian integral."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from .machine import Machine, State

LARGEST = 12 * math.log(2.0)
"""The largest log-number of integrals that are taken."""

ENTRIES = 1 << 17
"""Numbers in the quadratic forms that are taken at once: a processor's cache holds them."""


class NotEnumerable(ValueError):
    """A sum is not known analytically, and has too many states to list or no known integral."""


def log_integrals(machine: Machine, layers: Iterable[str]) -> float:
    """The log-number of states of the layers' finite parts."""
    like = machine.biases[next(iter(machine.biases))][0]
    units = [machine.graph.layers[name] for name in layers]
    return sum(unit.atoms * math.log(len(unit.finite_states(like))) for unit in units)


def log_integral(machine: Machine, state: State, layers: Sequence[str], batch: torch.Size) -> Tensor:
    r"""$\log \int e^{-E}$ over the real-valued entries of some layers: ``states x batch_shape``, with its gradient.

    The energy is quadratic in them: with $-E = c + g^\top r - \tfrac12 r^\top A r$ in offsets r from the units' origins it is
    $c + \tfrac12 g^\top A^{-1} g - \tfrac12 \log|A| + \tfrac{n}{2} \log 2\pi$. The slopes of -E at zero and at the n unit
    vectors give g and A, whatever the units and couplings; a further point tells whether the energy is quadratic. Derivatives
    by weights that must be zero for that (squares against slabs) mean nothing.

    Args:
        machine: the bound graph.
        state: all layers, ``states x batch_shape (or ones) x layer shape``, with zeros for the real-valued entries.
        layers: the layers whose real-valued entries are integrated out.
        batch: the batch shape of the parameters and the given layers.

    Raises:
        NotEnumerable: the energy is not quadratic in them.
        ValueError: it has no integral.
    """
    inputs = [*machine.weights, *state.values(), *(b for entry in machine.biases.values() for b in entry)]
    wanted = torch.is_grad_enabled() and any(t.requires_grad for t in inputs)
    like = next(iter(machine.biases.values()))[0]
    places = {name: _places(machine, name, like) for name in layers}
    sizes = [len(place) for place in places.values()]
    n = sum(sizes)
    probe = torch.linspace(0.5, 1.5, n, dtype=like.dtype, device=like.device)
    points = torch.cat([like.new_zeros(1, n), torch.eye(n, dtype=like.dtype, device=like.device), probe.unsqueeze(0)])
    states = next(iter(state[name].shape[0] for name in layers))
    r = points.view(n + 2, *(1 for _ in (0, *batch)), n).detach().expand(n + 2, states, *batch, n)
    with torch.enable_grad():
        r = r.clone().requires_grad_()
        whole: State = {name: x for name, x in state.items() if name not in places}
        for (name, place), entries in zip(places.items(), r.split(sizes, -1), strict=True):
            shape = machine.graph.layers[name].shape
            flat = state[name].flatten(-len(shape)).expand(*r.shape[:-1], -1)
            offset = flat.index_add(-1, place, entries).unflatten(-1, shape)
            whole[name] = machine.graph.layers[name].real_from_origin(offset)
        values = -machine.energy(whole)
        (slopes,) = torch.autograd.grad(values.sum(), r, create_graph=wanted)
    if not wanted:
        values = values.detach()
    slope = slopes[0].double()
    form = (slope - slopes[1:-1].double()).movedim(0, -1)
    deviation = slope - form @ probe.double() - slopes[-1].double()
    if not bool((deviation.abs() <= 1e-3 * (1 + slopes.detach().abs().amax())).all()):
        raise NotEnumerable(
            f"the energy is not quadratic in the real-valued units of {', '.join(layers)} together; such integrals are not "
            "known. Use dgm.log_partition(..., method='ais')"
        )
    factor, failed = torch.linalg.cholesky_ex(form)
    if bool(failed.any()):
        raise ValueError(
            f"the real-valued units of {', '.join(layers)} have no joint normaliser: make couplings smaller"
        )
    scaled = torch.linalg.solve_triangular(factor, slope.unsqueeze(-1), upper=False).squeeze(-1)
    half = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return (values[0] + 0.5 * (scaled**2).sum(-1) - half + 0.5 * n * math.log(2 * math.pi)).to(like.dtype)


def _places(machine: Machine, layer: str, like: Tensor) -> Tensor:
    """The places of a layer's real-valued entries when it is flat."""
    unit = machine.graph.layers[layer]
    inside = torch.tensor(unit.real_entries, dtype=torch.long, device=like.device)
    width = unit.shape.numel() // unit.atoms
    return (width * torch.arange(unit.atoms, device=like.device).unsqueeze(-1) + inside).flatten()
