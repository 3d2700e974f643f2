"""Score-function gradients of the ELBO with baselines: REINFORCE, NVIL (20.58-67)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ... import processes
from .baseline import BaselineELBO
from .local_signals import Dependencies
from .per_datum import Program, Scaled, with_value
from .run import Run


class NVIL(BaselineELBO):
    r"""The ELBO's gradient by the score function with baselines (Mnih and Gregor 2014), for latents of any kind.

    With $J = \log p(x, z) - \log q(z \mid x)$ the guide follows $(J - c - C(x)) \nabla_\phi \log q(z \mid x) / \max(1, \sigma)$
    (20.65 with the input-dependent baseline of 20.9.1): c and σ are running means of J - C(x) and of its deviation, and C
    is a network, trained along to predict J from x. c and σ come from earlier steps only, and C(x) is a constant given x:
    neither biases the direction of the gradient. Without any baseline it is REINFORCE (20.60-62). Reparameterised latents
    keep their path's gradient.

    With ``local`` every site of the guide has a signal of its own, from which the terms of J are left out that depend
    neither on it nor on a site drawn after and because of it (section 2.4 of the paper): in a layered network all terms
    below the layer. Their product with the site's score has mean zero, so the gradient keeps its mean and loses noise.
    Which terms these are is found at the first step, from the programs (``dgm.objectives.local_signals``). c, σ and C are
    then one a site.

    Args:
        particles: draws a datum, over which the gradient is averaged.
        baseline: C, from the program's first argument to ``rows`` or ``rows x 1``; with ``local`` also to ``rows x sites``, in
            the order in which the guide draws its scored sites. None leaves it out.
        running_mean: use c.
        normalise: divide by $\max(1, \sigma)$: the guide's gradient then has another length, not another direction (with
            ``local``, another length for every site). Left out where some latents are reparameterised, whose part of the
            gradient it would not reach.
        decay: the share of the old c and σ² that a step keeps.
        max_plate_nesting: the number of plates in the model.
        local: give every site of the guide a signal of its own.

    Raises:
        ValueError: ``particles`` below one, ``decay`` outside [0, 1), a baseline that is no module; at a step, a baseline
            of another shape, and as ``dgm.IWAE``.

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> sbn, x = dgm.SBN.example()
        >>> baseline = torch.nn.Linear(x.shape[1], 1)
        >>> run = dgm.fit(sbn, x, objective=dgm.Elbo(dgm.NVIL(baseline=baseline)), epochs=1, progress=False)
    """

    def __init__(
        self,
        particles: int = 1,
        baseline: nn.Module | None = None,
        running_mean: bool = True,
        normalise: bool = True,
        decay: float = 0.8,
        max_plate_nesting: int = 1,
        local: bool = False,
    ) -> None:
        super().__init__(particles, baseline, decay, max_plate_nesting)
        self.running_mean, self.normalise, self.local = running_mean, normalise, local
        self.running: dict[str, Tensor] = {}
        self._dependencies = Dependencies()

    def row_losses(self, model: Program, guide: Program, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Scaled:
        run = self.draw(model, guide, args, kwargs)
        draws = run.figures()
        with torch.no_grad():
            # One signal a site of the guide, or one for all: signals x particles x rows.
            if self.local:
                rewards, scores = self._dependencies.signals(model, guide, run, args, kwargs)
            else:
                rewards, scores = [draws.log_weights], [draws.score]
        reward, score = torch.stack(rewards).detach(), torch.stack(scores)
        predicted = self._predict(run, args, kwargs, reward)
        centred = reward if predicted is None else reward - predicted.detach()
        mean = self.running.get("mean", reward.new_zeros(())).to(reward).view(-1, 1, 1)
        variance = self.running.get("variance", reward.new_ones(())).to(reward).view(-1, 1, 1)
        signal = centred - mean if self.running_mean else centred
        if self.normalise and run.all_scored:
            signal = signal / variance.sqrt().clamp_min(1.0)
        if torch.is_grad_enabled():
            self._follow(centred)
        # The direct derivative of log q has mean zero and is left out for the scored sites.
        surrogate = (signal * score).sum(0) + draws.log_p - (draws.log_q - draws.score)
        if predicted is not None:
            missed = (reward - (mean if self.running_mean else 0.0) - predicted) ** 2 / variance.clamp_min(1.0)
            surrogate = surrogate - 0.5 * missed.sum(0)
        return Scaled(-with_value(draws.log_weights, surrogate).mean(0), run.scale)

    def _predict(self, run: Run, args: tuple[Any, ...], kwargs: dict[str, Any], reward: Tensor) -> Tensor | None:
        """C for every signal and row: ``signals x 1 x rows``, or what broadcasts to it; None without a network."""
        count, _, rows = reward.shape
        shapes = {(): "one figure a row", (1,): "one figure a row, as nn.Linear(columns, 1) gives it"}
        shapes[(count,)] = shapes[(1,)] if count == 1 else f"one for each of the {count} sites"
        found = self.figures_of(run, args, kwargs, rows, shapes)
        return None if found is None else found.reshape(rows, -1).t().unsqueeze(1)

    def _follow(self, centred: Tensor) -> None:
        rows = centred.shape[2]
        spread, own = torch.var_mean(centred, (1, 2), correction=0)
        mean = processes.mean(own, rows)
        variance = processes.mean(spread + (own - mean).square(), rows)
        new = {"mean": mean, "variance": variance}
        self.running = {k: torch.lerp(v, self.running.get(k, v).to(v), self.decay) for k, v in new.items()}

    def options(self) -> dict[str, Any]:
        local = {"local": True} if self.local else {}
        return {**super().options(), "running_mean": self.running_mean, "normalise": self.normalise, **local}

    def state_dict(self) -> dict[str, Any]:
        return {"running": self.running, "baseline": {}, **super().state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.running = state["running"]
        super().load_state_dict(state)
