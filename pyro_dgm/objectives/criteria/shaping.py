"""Training a looped autoencoder to stay with the data, by a guide that says where its chain is too dense (section 20.13)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ...checks import check_count, check_positive, check_share
from ...inference.registration import unregistered
from ..objective import Objective, Turn
from .adversarial import described_module
from .games import discriminator_loss, held


class Looped(Protocol):
    """An autoencoder whose output is its next input."""

    def loop(self, x: Tensor, steps: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """By step, with gradients: what it costs to tell the first rows by the code, the code's KL divergence, and drawn rows."""
        ...

    def seen(self, x: Tensor) -> Tensor:
        """Rows in the units of the networks."""
        ...


def shaping(log_ratio: Tensor) -> Tensor:
    r"""$\frac12 \big((-f)_+ + (-f)_+^2\big)$ of every row, from the guide's log-ratio f of data to generated rows.

    It pushes only where rows are generated too often, $f < 0$, and is zero everywhere only if no place is.

    Example:
        >>> shaping(torch.tensor([-2.0, 1.0]))
        tensor([3., 0.])
    """
    excess = torch.relu(-log_ratio)
    return 0.5 * (excess + excess.square())


class Shaping(Objective):
    r"""Costs of a looped autoencoder's first steps, and a push away from places where its chain is too dense (20.13).

    $\frac{\sum_i w_i \big(-\log p(x \mid z_i) + \lambda\, \mathrm{KL}(q(z_i \mid x_{i-1}) \| p(z))\big)}{\sum_i w_i}
    + \gamma\, \overline{s(x_i)}, \quad w_i = \rho^{i - 1}$,

    over a chain $x_0 = x$, $z_i \sim q(z \mid x_{i-1})$, $x_i = g(z_i)$ through which gradients go, with the shaping cost s of
    ``shaping`` at rows drawn around $x_i$. The guide f learns the log-ratio of data to such rows by logistic loss, with a small
    penalty on f^2, in turns of its own; it belongs to the criterion.

    Args:
        guide: a module from rows to log-ratios, ``rows x visible`` to ``rows``, as ``dgm.Discriminator`` is. It sees rows as
            the model's networks do: Gaussian columns are standardised.
        steps: the steps of the chain.
        discount: $\rho$.
        kl_weight: $\lambda$.
        weight: $\gamma$.
        penalty: the weight of f^2.
        rate: the guide's learning rate as a factor of the model's.

    Raises:
        ValueError: no module, no step, a discount outside [0, 1), or a negative weight.

    Source: Bachman and Precup (2015).

    Example:
        >>> import pyro_dgm as dgm
        >>> gsn, x = dgm.ShapedGSN.example()
        >>> run = dgm.fit(gsn, x, objective=dgm.Shaping(dgm.Discriminator(4, hidden=(8,))), epochs=1, progress=False)
        >>> "guide" in run.history[0]
        True
    """

    def __init__(
        self,
        guide: nn.Module,
        steps: int = 10,
        discount: float = 0.1,
        kl_weight: float = 1.0,
        weight: float = 20.0,
        penalty: float = 0.05,
        rate: float = 1.0,
    ) -> None:
        if not isinstance(guide, nn.Module):
            raise ValueError(f"guide got {guide!r}; expected a torch.nn.Module, such as dgm.Discriminator(784)")
        self.guide, self.steps = guide, check_count("steps", steps, what="the steps of the chain")
        check_share("discount", discount, "the weight of a step as a share of the one before", zero=True)
        for name, value in (("kl_weight", kl_weight), ("weight", weight), ("penalty", penalty)):
            check_positive(name, value, "a weight", zero=True)
        check_positive("rate", rate, "a factor of the learning rate")
        self.discount, self.kl_weight, self.weight = float(discount), float(kl_weight), float(weight)
        self.penalty, self.rate = float(penalty), float(rate)

    def attach(self, model: Any) -> None:
        if not hasattr(model, "loop"):
            raise ValueError(f"Shaping got {type(model).__name__}; expected a looped autoencoder, dgm.ShapedGSN")
        self._model: Looped = model
        self.guide.to(next(model.parameters()))

    def owned(self) -> dict[str, nn.Module]:
        return {"guide": self.guide}

    def all_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        groups = super().all_groups(model)
        return [group | ({"rate": self.rate} if group["name"] == "guide" else {}) for group in groups]

    def turns(self, x: Tensor) -> Iterator[Turn]:
        yield Turn("guide", lambda: self._guide_loss(x), ("guide",))
        yield Turn("model", lambda: self._model_loss(x), ("model",))

    def _guide_loss(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            made = self._model.seen(torch.cat([drawn for *_, drawn in self._model.loop(x, self.steps)]))
        data, generated = self.guide(self._model.seen(x)), self.guide(made)
        penalty = data.square().mean() + generated.square().mean()
        return discriminator_loss(data, generated) + self.penalty * penalty

    def _model_loss(self, x: Tensor) -> Tensor:
        with unregistered():
            total, weights, weight, made = x.new_zeros(()), 0.0, 1.0, []
            for cost, divergence, drawn in self._model.loop(x, self.steps):
                total = total + weight * (cost + self.kl_weight * divergence).mean()
                weights, weight = weights + weight, weight * self.discount
                made.append(drawn)
            seen = self._model.seen(torch.cat(made))
            pushed = shaping(held(self.guide, seen)).mean() if self.weight else 0.0
            return total / weights + self.weight * pushed

    def options(self) -> dict[str, Any]:
        return {
            **super().options(), "steps": self.steps, "discount": self.discount, "kl_weight": self.kl_weight,
            "weight": self.weight, "penalty": self.penalty, "rate": self.rate, "guide": described_module(self.guide),
        }  # fmt: skip
