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
    (20.65 with the input-dependent baseline of 20.9.1). Here c and σ are running means of J - C(x) and of its deviation,
    and C is a network that is trained to predict J from x. c and σ come from earlier steps alone, and C(x) is constant
    given x, so that none of them biases the direction of the gradient. Without any baseline it is REINFORCE (20.60-62).
    Reparameterised latents keep the gradient along their path.

    With ``local`` every site of the guide has its own signal, without the terms of J that depend neither on the site nor on
    a later site that depends on it (section 2.4 of the paper): in a layered network all terms below the layer. The product
    of these terms with the site's score has mean zero, so the gradient keeps its mean and loses noise. The terms are found
    at the first step, from the programs (``dgm.objectives.estimators.local_signals``). There is then one c, σ and C per
    site.

    Args:
        particles: draws per datum, over which the gradient is averaged.
        baseline: C, from the program's first argument to ``rows`` or ``rows x 1``; with ``local`` also to ``rows x sites``, in
            the order in which the guide draws its scored sites. None leaves it out.
        running_mean: use c.
        normalise: divide by $\max(1, \sigma)$, which changes the length of the guide's gradient and not its direction (with
            ``local``, the length of every site's part). Not done if some latents are reparameterised, since their part of
            the gradient would not be divided.
        decay: the share of the old c and σ² that a step keeps.
        max_plate_nesting: the number of plates in the model.
        local: give every site of the guide its own signal.

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
            # One signal per site of the guide, or one for all: signals x particles x rows.
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
        # For scored sites the direct derivative of log q has mean zero, and is left out.
        surrogate = (signal * score).sum(0) + draws.log_p - (draws.log_q - draws.score)
        if predicted is not None:
            squared_error = (reward - (mean if self.running_mean else 0.0) - predicted) ** 2 / variance.clamp_min(1.0)
            surrogate = surrogate - 0.5 * squared_error.sum(0)
        return Scaled(-with_value(draws.log_weights, surrogate).mean(0), run.scale)

    def _predict(self, run: Run, args: tuple[Any, ...], kwargs: dict[str, Any], reward: Tensor) -> Tensor | None:
        """C for every signal and row, ``signals x 1 x rows`` or a shape that broadcasts to it; None without a network."""
        count, _, rows = reward.shape
        shapes = {(): "one figure per row", (1,): "one figure per row, as nn.Linear(columns, 1) gives it"}
        shapes[(count,)] = shapes[(1,)] if count == 1 else f"one for each of the {count} sites"
        figures = self.figures_of(run, args, kwargs, rows, shapes)
        return None if figures is None else figures.reshape(rows, -1).t().unsqueeze(1)

    def _follow(self, centred: Tensor) -> None:
        rows = centred.shape[2]
        local_variance, local_mean = torch.var_mean(centred, (1, 2), correction=0)
        mean = processes.mean(local_mean, rows)
        variance = processes.mean(local_variance + (local_mean - mean).square(), rows)
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
