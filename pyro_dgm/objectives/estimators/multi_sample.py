"""Bounds by several samples per datum, and their gradient estimators (20.79 and section 20.10.1)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...checks import check_positive
from ...inference.importance import log_mean
from ...inference.random_state import RandomState
from .per_datum import PerDatumELBO, Program, Scaled, with_value
from .wake_sleep import asleep


class IWAE(PerDatumELBO):
    r"""The importance-weighted bound $\sum_n \log \frac1K \sum_k w_{kn}$ (20.79; Burda et al. 2015) for any model and guide.

    With K = 1 it is the ELBO; it never falls with K and tends to the log-likelihood. Every datum is averaged over its own
    particles, so the bound and the gradient of a row do not depend on the rest of the batch. Reparameterised latents carry
    the gradient; others get the score function $\sum_k \nabla \log q(z_k)$ times the bound, which is unbiased and noisy.
    ``dgm.VIMCO`` has the same mean with less noise.

    Args:
        particles: the number of draws per row, K.
        max_plate_nesting: the number of plates in the model.

    Raises:
        ValueError: ``particles`` below one; at a step, weights that are not finite, or sites that differ between model and
            guide, with the site's name.

    Example:
        >>> import pyro_dgm as dgm
        >>> from pyro.infer import SVI
        >>> from pyro.optim import Adam
        >>> vae, x = dgm.VAE.example()
        >>> bool(SVI(vae.model, vae.guide, Adam({"lr": 1e-3}), dgm.IWAE(5)).step(x) > 0)
        True
    """

    def row_losses(self, model: Program, guide: Program, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Scaled:
        run = self.draw(model, guide, args, kwargs)
        draws = run.figures()
        bound = log_mean(draws.log_weights)
        return Scaled(-with_value(bound, bound + bound.detach() * draws.score.sum(0)), run.scale)


class VIMCO(PerDatumELBO):
    r"""The importance-weighted bound with a leave-one-out baseline for discrete latents (Mnih and Rezende 2016).

    The score of particle k is multiplied by $\hat L - \hat L_{-k}$, where in $\hat L_{-k}$ the weight of k is replaced by
    the geometric mean of the others: the difference is the contribution of k. The baseline does not depend on $z_k$, so the
    gradient is an unbiased estimate of that of the bound. Time and memory are linear in K.

    Args:
        particles: the number of draws per row, K, at least 2.
        max_plate_nesting: the number of plates in the model.

    Raises:
        ValueError: ``particles`` below two; at a step as ``dgm.IWAE``.
    """

    fewest = 2

    def row_losses(self, model: Program, guide: Program, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Scaled:
        run = self.draw(model, guide, args, kwargs)
        draws = run.figures()
        bound = log_mean(draws.log_weights)
        signal = bound.detach() - without_each(draws.log_weights.detach())
        return Scaled(-with_value(bound, bound + (signal * draws.score).sum(0)), run.scale)


def without_each(log_weights: Tensor) -> Tensor:
    r"""$\hat L_{-k}$ for every k, the bound with $\log w_k$ replaced by the mean of the others: ``particles x rows``.

    The sums over the others come from cumulative sums from both ends: a difference would lose digits by cancellation.
    """
    count = len(log_weights)
    before = torch.logcumsumexp(log_weights, 0)[:-1]
    after = torch.logcumsumexp(log_weights.flip(0), 0).flip(0)[1:]
    nothing = torch.full_like(log_weights[:1], -torch.inf)
    others = torch.logaddexp(torch.cat([nothing, before]), torch.cat([after, nothing]))
    replacement = (log_weights.sum(0) - log_weights) / (count - 1)
    return torch.logaddexp(others, replacement) - torch.tensor(float(count)).log()


class DReG(PerDatumELBO):
    r"""The importance-weighted bound with the doubly reparameterised gradient of the guide (Tucker et al. 2019).

    The model's parameters follow $\sum_k \tilde w_k \nabla_\theta \log p$, the guide's
    $\sum_k \tilde w_k^2 \frac{\partial \log w_k}{\partial z_k} \nabla_\phi z_k$ with normalised weights $\tilde w$. The
    expectation is that of ``dgm.IWAE``, and the signal-to-noise ratio does not fall with K. It costs a second run of model
    and guide, from the same state of torch's generators: whatever torch draws beside their sites (dropout's masks) is the
    same in both.

    Args:
        particles: the number of draws per row, K.
        max_plate_nesting: the number of plates in the model.

    Raises:
        ValueError: at a step, a latent that is not reparameterised, and as ``dgm.IWAE``.
    """

    def row_losses(self, model: Program, guide: Program, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Scaled:
        before = RandomState()
        run = self.draw(model, guide, args, kwargs)
        run.require_paths()
        moving, fixed = run.figures(), self.redraw(model, guide, run, before, args, kwargs).figures()
        share = torch.softmax(moving.log_weights.detach(), 0)
        # Subtracting log p at fixed draws and adding log q there leaves the gradient along the path of the draws alone.
        path = moving.log_weights - fixed.log_p + fixed.log_q
        surrogate = (share * fixed.log_p + share**2 * path).sum(0)
        return Scaled(-with_value(log_mean(moving.log_weights), surrogate), run.scale)


class ReweightedWakeSleep(PerDatumELBO):
    r"""Reweighted wake-sleep, per datum (Bornschein and Bengio 2015).

    With normalised importance weights $\tilde w$ of K draws, the model follows $\sum_k \tilde w_k \nabla_\theta \log p(x, z_k)$
    (wake-θ), the guide $\sum_k \tilde w_k \nabla_\phi \log q(z_k \mid x)$ (wake-φ), which lowers $\mathrm{KL}(p(z|x)\,\|\,q)$
    with a bias that falls with K, and $\nabla_\phi \log q(z \mid x)$ at the model's own draws (sleep-φ). No draw needs a
    gradient. With K = 1 and ``wake=0, sleep=1`` it is plain wake-sleep. The loss is minus the importance-weighted bound.

    Args:
        particles: the number of draws per row, K.
        wake: weight of wake-φ.
        sleep: weight of sleep-φ.
        max_plate_nesting: the number of plates in the model.

    Raises:
        ValueError: a weight that is negative or not finite, or both zero; at a step as ``dgm.IWAE``, and with sleep-φ a program
            that observes no argument, or a guide without a density at the model's draws.
    """

    def __init__(self, particles: int = 5, wake: float = 1.0, sleep: float = 0.0, max_plate_nesting: int = 1) -> None:
        check_positive("wake", wake, "the weight of wake-φ", zero=True)
        check_positive("sleep", sleep, "the weight of sleep-φ", zero=True)
        if wake + sleep == 0:
            raise ValueError(f"wake and sleep got {wake} and {sleep}; expected weights of at least 0, not both 0")
        super().__init__(particles, max_plate_nesting)
        self.wake, self.sleep = wake, sleep

    def options(self) -> dict[str, Any]:
        return {"wake": self.wake, "sleep": self.sleep}

    def row_losses(self, model: Program, guide: Program, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Scaled:
        run = self.draw(model, guide, args, kwargs, paths=False)
        draws = run.figures()
        share = torch.softmax(draws.log_weights.detach(), 0)
        surrogate = (share * (draws.log_p + self.wake * draws.log_q)).sum(0)
        if self.sleep:
            surrogate = surrogate + self.sleep * asleep(model, guide, args, kwargs, self.max_plate_nesting)
        return Scaled(-with_value(log_mean(draws.log_weights), surrogate), run.scale)


class BidirectionalHelmholtz(PerDatumELBO):
    r"""The bidirectional Helmholtz machine's bound (Bornschein, Shabanian, Fischer and Bengio 2016).

    $p^*(x, z) = \frac{1}{Z} \sqrt{p(x, z)\, q(x, z)}$ with $q(x, z) = q(x)\, q(z \mid x)$ and the best $q(x)$ has
    $p^*(x) = \bigl(\sum_z \sqrt{p(x, z)\, q(z \mid x)}\bigr)^2 / Z^2$ and $Z \le 1$: so
    $2 \log \frac1K \sum_k \sqrt{w_k}$ is, in expectation, a lower bound of $\log p^*(x)$, and of $\log p(x)$. Both
    programs follow $\sum_k \tilde v_k \nabla \log p(x, z_k)\, q(z_k \mid x)$ with $\tilde v_k \propto \sqrt{w_k}$.

    Args:
        particles: the number of draws per row, K.
        max_plate_nesting: the number of plates in the model.

    Raises:
        ValueError: as ``dgm.IWAE``.
    """

    def __init__(self, particles: int = 10, max_plate_nesting: int = 1) -> None:
        super().__init__(particles, max_plate_nesting)

    def row_losses(self, model: Program, guide: Program, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Scaled:
        run = self.draw(model, guide, args, kwargs, paths=False)
        draws = run.figures()
        half = 0.5 * draws.log_weights.detach()
        surrogate = (torch.softmax(half, 0) * (draws.log_p + draws.log_q)).sum(0)
        return Scaled(-with_value(2 * log_mean(half), surrogate), run.scale)
