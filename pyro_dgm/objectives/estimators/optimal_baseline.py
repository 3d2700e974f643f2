"""The score-function gradient with the baseline that minimises the variance of every parameter (20.68-69)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ... import processes
from .baseline import BaselineELBO
from .per_datum import Program, Scaled, with_value
from .run import Run


class OptimalBaseline(BaselineELBO):
    r"""The score-function gradient with a baseline for every parameter, $b_i = E[J g_i^2] / E[g_i^2]$ (20.68).

    Here $g_i = \partial \log q(z \mid x) / \partial \phi_i$, and $b_i$ minimises the variance of $(J - b_i)\, g_i$. Both
    expectations are learned from earlier draws alone, so that the baseline does not depend on the draw that it is used for,
    and the gradient keeps its mean.

    Without a network they are running means: one constant per parameter for all rows. With a network they are regressions
    of $J g_i^2$ and $g_i^2$ on x (20.69), trained by squared errors along with the programs: the outputs $a_i(x)$ and
    $s_i(x)$ give $b_i(x) = a_i / \mathrm{softplus}(s_i)$. The gradient of every single draw is computed (in batches where
    that works), so this is for small guides.

    Args:
        guide_parameters: the parameters that get baselines; others follow the plain score function.
        particles: draws per datum.
        decay: the share of the old means that a step keeps; not used with a network.
        max_plate_nesting: the number of plates in the model.
        baseline: a network from the program's first argument to ``rows x 2 x P`` figures, a and s for each of the P
            entries of the guide's parameters in their order (``nn.Unflatten(1, (2, P))`` behind a linear layer), or to
            ``rows x 2``, shared by all entries.

    Raises:
        ValueError: no parameter, ``decay`` outside [0, 1), a baseline that is no module; at a step, a baseline of another
            shape, and as ``dgm.IWAE``.
    """

    def __init__(
        self,
        guide_parameters: list[nn.Parameter],
        particles: int = 1,
        decay: float = 0.9,
        max_plate_nesting: int = 1,
        baseline: nn.Module | None = None,
    ) -> None:
        super().__init__(particles, baseline, decay, max_plate_nesting)
        if not guide_parameters:
            raise ValueError("guide_parameters got none; pass those of the guide, as list(encoder.parameters())")
        self.parameters = list(guide_parameters)
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
            regressed = self._regress(run, args, kwargs, reward, scores)
            if regressed is None:
                baselines = [w / s.clamp_min(1e-30) for w, s in zip(self.weighted, self.squares, strict=True)]
                self._follow(reward.flatten(), scores)
            else:
                baselines, squared_errors = regressed
                surrogate = surrogate - 0.5 * squared_errors
            for baseline, parameter, g in zip(baselines, self.parameters, scores, strict=False):
                taken_off = (baseline.to(g) * g).sum(0) / len(reward)
                surrogate = surrogate - (taken_off * parameter).sum() / reward.shape[1]
        return Scaled(-with_value(reward.mean(0), surrogate), run.scale)

    def _regress(
        self, run: Run, args: tuple[Any, ...], kwargs: dict[str, Any], reward: Tensor, scores: list[Tensor]
    ) -> tuple[list[Tensor], Tensor] | None:
        """The network's baselines for every draw and parameter, and its squared errors, the mean over the draws: ``rows``."""
        particles, rows = reward.shape
        squares = torch.cat([g.reshape(len(g), -1) for g in scores], 1).view(particles, rows, -1) ** 2
        entries = squares.shape[-1]
        shared = "2 figures per row, as nn.Linear(columns, 2) gives them"
        outputs = self.figures_of(run, args, kwargs, rows, {(2,): shared, (2, entries): f"rows x 2 x {entries}"})
        if outputs is None:
            return None
        weighted, square = outputs[:, 0], softplus(outputs[:, 1])
        if outputs.dim() == 2:
            weighted, square = weighted.unsqueeze(1), square.unsqueeze(1)
        squared_errors = (weighted - reward.unsqueeze(-1) * squares) ** 2 + (square - squares) ** 2
        flat = (weighted / square.clamp_min(1e-6)).detach().expand(particles, rows, entries).flatten(0, 1)
        columns = flat.split([p.numel() for p in self.parameters], 1)
        baselines = [b.reshape(-1, *p.shape) for b, p in zip(columns, self.parameters, strict=True)]
        return baselines, squared_errors.sum(-1).mean(0)

    def _scores(self, score: Tensor) -> list[Tensor]:
        """The gradient of every draw's score: ``draws x parameter shape``, one tensor per parameter."""
        basis = torch.eye(score.numel(), device=score.device, dtype=score.dtype).view(-1, *score.shape)
        gradients = torch.autograd.grad(
            score, self.parameters, basis, retain_graph=True, is_grads_batched=True, allow_unused=True
        )
        return [
            p.new_zeros(len(basis), *p.shape) if g is None else g
            for p, g in zip(self.parameters, gradients, strict=True)
        ]

    def _follow(self, reward: Tensor, scores: list[Tensor]) -> None:
        draws = len(reward)
        squares = [processes.mean((g**2).mean(0), draws) for g in scores]
        weighted = [processes.mean((reward.view(-1, *(1 for _ in g.shape[1:])) * g**2).mean(0), draws) for g in scores]
        if not self.weighted:
            self.weighted, self.squares = weighted, squares
            return
        self.weighted = [
            torch.lerp(new, old.to(new), self.decay) for new, old in zip(weighted, self.weighted, strict=True)
        ]
        self.squares = [
            torch.lerp(new, old.to(new), self.decay) for new, old in zip(squares, self.squares, strict=True)
        ]

    def state_dict(self) -> dict[str, Any]:
        return {"weighted": self.weighted, "squares": self.squares, **super().state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.weighted, self.squares = state["weighted"], state["squares"]
        super().load_state_dict(state)
