"""Annealed importance sampling over the latents of a model, from its guide to its posterior."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pyro
import torch
from torch import Tensor

from .. import progress
from ..checks import check_count
from ..energy.temperatures import sigmoid
from ..energy.temperatures import temperatures as ladder
from ..mcmc.flips import flip_moves
from ..mcmc.leapfrog import accepts, proposal
from ..native import out_of_autocast
from .coordinates import LatentCoordinates, Position
from .normalisers import AnnealedNormalisers

PILOTS = 10
"""The number of chains per row that find the step sizes; the weights come from others."""

PILOT_TEMPERATURES = 100
"""The most temperatures at which the pilots find step sizes."""

WARM_UP = 20
"""Moves of the pilots before the first temperature's step is taken."""

TARGETS = {"hmc": 0.8, "flips": 0.574}
"""Acceptance rates that the step sizes aim at."""


class Annealed(NamedTuple):
    """Log weights, ``chains x rows``, and the acceptance rates of the moves behind them, by kind of move."""

    log_weights: Tensor
    acceptance: dict[str, float]


def annealed_log_weights(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    *args: Any,
    temperatures: int | Sequence[float] | Tensor = 100,
    chains: int = 16,
    num_steps: int = 5,
    **kwargs: Any,
) -> Tensor:
    r"""Log weights of annealing every row's latents from the guide to the posterior: ``chains x rows`` (20.14).

    Along $f_\beta(z) = q(z \mid x)^{1-\beta}\, p(x, z)^\beta$ a chain starts at $z_0 \sim q(z \mid x)$, and
    $\log w = \sum_t (\beta_t - \beta_{t-1}) \log \frac{p(x, z_{t-1})}{q(z_{t-1} \mid x)}$ where $z_t$ comes from $z_{t-1}$
    by moves that leave $f_{\beta_t}$ unchanged (Neal 2001; Wu, Burda, Salakhutdinov and Grosse 2017). Then
    $E[w] = p(x)$ exactly, so that $\log \frac1K \sum_k w_k$ is a lower bound of $\log p(x)$ in expectation. With two
    temperatures it is ``dgm.log_weights``.

    Continuous latents move by Hamiltonian Monte Carlo in unconstrained coordinates, in units of the guide's standard
    deviations; bits move by flips along the gradient. Every row and chain has its own accept decision. Step sizes, one per
    row and temperature, are learned by pilot chains that take no part in the weights, so that the weights stay unbiased.
    The weights of a row do not depend on the rest of the batch.

    Args:
        model: a Pyro program with a data plate at dim -1 and an observed site.
        guide: a Pyro program with the model's latent sites, which draws nothing else.
        args: the programs' arguments, rows first.
        temperatures: the number of inverse temperatures from 0 to 1, by a sigmoid schedule that is dense at both ends; or
            the inverse temperatures themselves.
        chains: the number of chains per row, K.
        num_steps: leapfrog steps of the one proposal per temperature, and the number of flip proposals per temperature.
        kwargs: the programs' keyword arguments.

    Raises:
        ValueError: a count out of range; sites as for ``dgm.log_weights``, or discrete ones that are not binary; a support that
            depends on other latents; programs whose densities change from call to call (dropout); weights that are not
            finite.

    Example:
        >>> import pyro_dgm as dgm
        >>> vae, x = dgm.VAE.example()
        >>> dgm.annealed_log_weights(vae.model, vae.guide, x, temperatures=10, chains=4).shape
        torch.Size([4, 10])
    """
    return anneal(model, guide, args, kwargs, temperatures, chains, num_steps).log_weights


@out_of_autocast
def anneal(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    temperatures: int | Sequence[float] | Tensor,
    chains: int,
    num_steps: int,
) -> Annealed:
    """``annealed_log_weights`` with the acceptance rates."""
    levels = inverse_temperatures(temperatures, chains, num_steps)
    with torch.no_grad(), pyro.validation_enabled(False):
        normalisers = AnnealedNormalisers()
        latents = LatentCoordinates(normalisers.around(model), guide, args, kwargs)
        steps = learn_steps(latents, levels, num_steps)
        annealed = run_chains(latents, latents.draw(chains), levels, steps, num_steps)
    normalisers.warn(4)
    return annealed


def inverse_temperatures(temperatures: int | Sequence[float] | Tensor, chains: int, num_steps: int) -> list[float]:
    """The schedule of inverse temperatures from 0 to 1; checks the counts first."""
    check_count("chains", chains)
    check_count("num_steps", num_steps)
    return ladder(temperatures, sigmoid).tolist()


class Moves:
    """Moves at a temperature, with a step size per row for each kind of latent.

    Attributes:
        rate: how much a move changes the step sizes, so that proposals are accepted at the rates of ``TARGETS``; 0 keeps them.
    """

    def __init__(self, latents: LatentCoordinates, num_steps: int) -> None:
        self.latents, self.num_steps = latents, num_steps
        like = latents.scale
        self.log_steps = {
            "hmc": like.new_full((latents.rows, 1), math.log(0.3)),
            "flips": like.new_full((latents.rows, 1), math.log(0.1)),
        }
        self.rate = 0.0
        self.accepted: dict[str, list[Tensor]] = {}

    def __call__(self, at: Position, beta: float) -> Position:
        if at.real.shape[-1]:
            at = self._hamiltonian(at, beta)
        if at.bits.shape[-1]:
            at = self._flip(at, beta)
        return at

    def _energy(self, at: Position, beta: float) -> Tensor:
        log_p, log_q, volume = self.latents.log_densities(at)
        return -torch.lerp(log_q, log_p, beta) - volume

    def _hamiltonian(self, at: Position, beta: float) -> Position:
        scale = self.latents.scale
        step = self.log_steps["hmc"].exp() * torch.empty_like(at.real[..., :1]).uniform_(0.8, 1.2)
        end, log_ratio = proposal(
            lambda u: self._energy(at._replace(real=u * scale), beta), at.real / scale, step, self.num_steps, 1
        )
        accept = self._decide("hmc", log_ratio).unsqueeze(-1)
        return at._replace(real=torch.where(accept, end * scale, at.real))

    def _flip(self, at: Position, beta: float) -> Position:
        bits = flip_moves(
            # The zero term gives a gradient, of zero, to programs that are not differentiable in the bits.
            lambda b: self._energy(at._replace(bits=b), beta) + 0 * b.sum(-1),
            at.bits,
            self.log_steps["flips"],
            self.num_steps,
            lambda log_ratio: self._decide("flips", log_ratio),
        )
        return at._replace(bits=bits)

    def _decide(self, kind: str, log_ratio: Tensor) -> Tensor:
        accept = accepts(log_ratio)
        self.accepted.setdefault(kind, []).append(accept.to(log_ratio).mean())
        if self.rate:
            rates = log_ratio.clamp(max=0.0).exp().nan_to_num(0.0).mean(0).unsqueeze(-1)
            self.log_steps[kind] = (self.log_steps[kind] + self.rate * (rates - TARGETS[kind])).clamp(max=_MOST[kind])
        return accept


_MOST = {"hmc": math.inf, "flips": 0.0}
"""The largest log step sizes: above that of flips, bits that nothing depends on would flip more often than not."""

Steps = list[dict[str, Tensor]]


def learn_steps(latents: LatentCoordinates, levels: list[float], num_steps: int) -> Steps:
    """Step sizes at every inner temperature, learned by chains that are not used otherwise."""
    inner = levels[1:-1]
    if not inner:
        return []
    moves, at = Moves(latents, num_steps), latents.draw(PILOTS)
    for number in range(1, WARM_UP + 1):
        moves.rate = 2 * number**-0.5
        at = moves(at, inner[0])
    moves.rate = 0.3
    stride = math.ceil(len(inner) / PILOT_TEMPERATURES)
    steps: Steps = []
    for index, beta in enumerate(inner):
        if index % stride == 0:
            at = moves(at, beta)
            log_steps = dict(moves.log_steps)
        steps.append(log_steps)
    return steps


def run_chains(latents: LatentCoordinates, at: Position, levels: list[float], steps: Steps, num_steps: int) -> Annealed:
    """Log weights of chains along the temperatures, up or down."""
    moves = Moves(latents, num_steps)
    total = torch.zeros(at.real.shape[:2], dtype=torch.float64, device=at.real.device)
    rises = zip(levels[:-1], levels[1:], strict=True)
    for index, (before, beta) in enumerate(progress.steps(rises, "temperatures", len(levels) - 1)):
        log_p, log_q, _ = latents.log_densities(at)
        total += (beta - before) * (log_p - log_q)
        if index < len(steps):
            moves.log_steps = steps[index]
            at = moves(at, beta)
    if total.isnan().any():
        raise ValueError(
            "the annealing weights are NaN; look for parameters that became NaN, or for a guide that draws outside the "
            "model's support"
        )
    rates = {kind: float(torch.stack(means).mean()) for kind, means in moves.accepted.items()}
    return Annealed(total.to(latents.scale), rates)
