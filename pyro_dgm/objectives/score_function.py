"""Score-function gradients of the ELBO with baselines: REINFORCE, NVIL (20.58-67)."""

from __future__ import annotations

import itertools
from typing import Any

import pyro
import torch
from pyro.poutine.runtime import am_i_wrapped
from torch import Tensor, nn

from .per_datum import PerDatumELBO, Program, Scaled, with_value

_numbers = itertools.count(1)


class NVIL(PerDatumELBO):
    r"""The ELBO's gradient by the score function with baselines (Mnih and Gregor 2014), for latents of any kind.

    With $J = \log p(x, z) - \log q(z \mid x)$ the guide follows $(J - c - C(x)) \nabla_\phi \log q(z \mid x) / \max(1, \sigma)$
    (20.65 with the input-dependent baseline of 20.9.1): c and σ are running means of J - C(x) and of its deviation, and C
    is a network, trained along to predict J from x. c and σ come from earlier steps only, and C(x) is a constant given x:
    neither biases the direction of the gradient. Without any baseline it is REINFORCE (20.60-62). Reparameterised latents
    keep their path's gradient.

    Args:
        particles: draws a datum, over which the gradient is averaged.
        baseline: C, from the program's first argument to ``rows`` or ``rows x 1``; None leaves it out.
        running_mean: use c.
        normalise: divide by $\max(1, \sigma)$: the guide's gradient then has another length, not another direction. Left out
            where some latents are reparameterised, whose part of the gradient it would not reach.
        decay: the share of the old c and σ² that a step keeps.
        max_plate_nesting: the number of plates in the model.

    Raises:
        ValueError: ``particles`` below one, ``decay`` outside [0, 1), a baseline that is no module; at a step, a baseline
            that does not give one figure a row, and as ``dgm.IWAE``.

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
    ) -> None:
        super().__init__(particles, max_plate_nesting)
        if baseline is not None and not isinstance(baseline, nn.Module):
            raise ValueError(
                f"baseline got {type(baseline).__name__}; expected a module from rows to one figure a row, or None"
            )
        if not 0 <= decay < 1:
            raise ValueError(f"decay got {decay}; expected the share that a step keeps, in [0, 1)")
        self.baseline, self.running_mean, self.normalise, self.decay = baseline, running_mean, normalise, decay
        self.running: dict[str, Tensor] = {}
        self._name = f"nvil_baseline_{next(_numbers)}"

    def __call__(self, model: nn.Module, guide: nn.Module) -> Any:
        module: Any = super().__call__(model, guide)
        module.baseline = self.baseline
        return module

    def row_losses(self, model: Program, guide: Program, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Scaled:
        run = self.draw(model, guide, args, kwargs)
        draws = run.figures()
        reward = draws.log_weights.detach()
        predicted = self._predict(args, reward)
        centred = reward - predicted.detach()
        mean = self.running.get("mean", torch.zeros((), device=reward.device))
        variance = self.running.get("variance", torch.ones((), device=reward.device))
        signal = centred - mean if self.running_mean else centred
        if self.normalise and run.all_scored:
            signal = signal / variance.sqrt().clamp_min(1.0)
        if torch.is_grad_enabled():
            self._follow(centred)
        # The direct derivative of log q has mean zero and is left out for the scored sites.
        surrogate = signal * draws.score + draws.log_p - (draws.log_q - draws.score)
        missed = (reward - (mean if self.running_mean else 0.0) - predicted) ** 2 / variance.clamp_min(1.0)
        surrogate = surrogate - 0.5 * missed
        return Scaled(-with_value(draws.log_weights, surrogate).mean(0), run.scale)

    def _predict(self, args: tuple[Any, ...], reward: Tensor) -> Tensor:
        if self.baseline is None:
            return torch.zeros((), device=reward.device)
        if am_i_wrapped():
            pyro.module(self._name, self.baseline)  # so that SVI trains it too
        predicted = self.baseline(args[0])
        if predicted.shape == (reward.shape[1], 1):
            predicted = predicted.squeeze(1)
        if predicted.shape != reward.shape[1:]:
            raise ValueError(
                f"the baseline gave shape {tuple(predicted.shape)} for {reward.shape[1]} rows; expected one figure a row, "
                "as nn.Linear(columns, 1) gives it"
            )
        return predicted

    def _follow(self, centred: Tensor) -> None:
        new = {"mean": centred.mean(), "variance": centred.var(correction=0)}
        self.running = {k: torch.lerp(v, self.running.get(k, v), self.decay) for k, v in new.items()}

    def options(self) -> dict[str, Any]:
        return {"baseline": self.baseline is not None, "running_mean": self.running_mean, "normalise": self.normalise,
                "decay": self.decay}  # fmt: skip

    def own_parameters(self) -> list[nn.Parameter]:
        return [] if self.baseline is None else list(self.baseline.parameters())

    def state_dict(self) -> dict[str, Any]:
        kept = {} if self.baseline is None else self.baseline.state_dict()
        return {"running": self.running, "baseline": kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.running = state["running"]
        if self.baseline is not None:
            self.baseline.load_state_dict(state["baseline"])


class OptimalBaseline(PerDatumELBO):
    r"""The score-function gradient with a baseline for every parameter, $b_i = E[J g_i^2] / E[g_i^2]$ (20.68).

    $g_i = \partial \log q(z \mid x) / \partial \phi_i$, and $b_i$ is the constant that makes the variance of
    $(J - b_i)\, g_i$ smallest. Both expectations are learned: running means over earlier steps, that is the regression of
    $J g_i^2$ and $g_i^2$ on a constant (20.69), so that the baseline does not depend on the draw it is used for.
    The gradients of single draws are computed one by one (batched where that works): for small guides.

    Args:
        guide_parameters: the parameters that get baselines; others follow the plain score function.
        particles: draws a datum.
        decay: the share of the old means that a step keeps.
        max_plate_nesting: the number of plates in the model.

    Raises:
        ValueError: no parameter, ``decay`` outside [0, 1); at a step as ``dgm.IWAE``.
    """

    def __init__(
        self,
        guide_parameters: list[nn.Parameter],
        particles: int = 1,
        decay: float = 0.9,
        max_plate_nesting: int = 1,
    ) -> None:
        super().__init__(particles, max_plate_nesting)
        if not guide_parameters:
            raise ValueError("guide_parameters got none; pass those of the guide, as list(encoder.parameters())")
        if not 0 <= decay < 1:
            raise ValueError(f"decay got {decay}; expected the share that a step keeps, in [0, 1)")
        self.parameters, self.decay = list(guide_parameters), decay
        self.weighted: list[Tensor] = []
        self.squares: list[Tensor] = []

    def row_losses(self, model: Program, guide: Program, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Scaled:
        run = self.draw(model, guide, args, kwargs)
        draws = run.figures()
        reward = draws.log_weights.detach()
        if not torch.is_grad_enabled():
            return Scaled(-reward.mean(0), run.scale)
        surrogate = (reward * draws.score + draws.log_p - (draws.log_q - draws.score)).mean(0)
        if draws.score.requires_grad:
            scores = self._scores(draws.score)
            for number, (parameter, g) in enumerate(zip(self.parameters, scores, strict=True)):
                if self.weighted:
                    baseline = self.weighted[number] / self.squares[number].clamp_min(1e-30)
                    taken_off = (baseline * g).sum(0) / len(reward)
                    surrogate = surrogate - (taken_off * parameter).sum() / reward.shape[1]
            self._follow(reward.flatten(), scores)
        return Scaled(-with_value(reward.mean(0), surrogate), run.scale)

    def _scores(self, score: Tensor) -> list[Tensor]:
        """The gradient of every draw's score: ``draws x parameter shape``, one tensor a parameter."""
        basis = torch.eye(score.numel(), device=score.device, dtype=score.dtype).view(-1, *score.shape)
        found = torch.autograd.grad(
            score, self.parameters, basis, retain_graph=True, is_grads_batched=True, allow_unused=True
        )
        return [
            p.new_zeros(len(basis), *p.shape) if g is None else g for p, g in zip(self.parameters, found, strict=True)
        ]

    def _follow(self, reward: Tensor, scores: list[Tensor]) -> None:
        squares = [(g**2).mean(0) for g in scores]
        weighted = [(reward.view(-1, *(1 for _ in g.shape[1:])) * g**2).mean(0) for g in scores]
        if not self.weighted:
            self.weighted, self.squares = weighted, squares
            return
        self.weighted = [torch.lerp(new, old, self.decay) for new, old in zip(weighted, self.weighted, strict=True)]
        self.squares = [torch.lerp(new, old, self.decay) for new, old in zip(squares, self.squares, strict=True)]

    def options(self) -> dict[str, Any]:
        return {"decay": self.decay}

    def state_dict(self) -> dict[str, Any]:
        return {"weighted": self.weighted, "squares": self.squares}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.weighted, self.squares = state["weighted"], state["squares"]
