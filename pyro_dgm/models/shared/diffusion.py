"""Corruption of rows step by step, and what one knows of the way back (section 20.13)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from ...checks import shown
from ...distributions.exact_bits import ExactBits


class Corruption(ABC):
    r"""The forward kernels $q(x_t \mid x_{t-1})$ of a schedule, with $A_t = \prod_{s \le t} (1 - \beta_s)$.

    Everything takes states ``... x D`` and times that broadcast with their leading dimensions.

    Args:
        signal: $A_0 = 1, A_1, \dots, A_T$, in double precision.
    """

    def __init__(self, signal: Tensor) -> None:
        self.signal = signal

    def share(self, time: Tensor, like: Tensor) -> Tensor:
        """$A_t$ for every row, to broadcast with columns."""
        return self.signal[time].to(like).unsqueeze(-1)

    def rest(self, time: Tensor, like: Tensor) -> Tensor:
        """$1 - A_t$, taken before it is rounded: in single precision little would be left of a small one."""
        return (1 - self.signal[time]).to(like).unsqueeze(-1)

    def step(self, before: Tensor, after: Tensor, like: Tensor) -> Tensor:
        r"""$1 - A_t / A_s$, the noise of the steps from s to t: $\beta_t$ where s is t - 1."""
        return (1 - self.signal[after] / self.signal[before]).to(like).unsqueeze(-1)

    @abstractmethod
    def after(self, x: Tensor, before: Tensor, after: Tensor) -> Any:
        """$q(x_t | x_s)$ for s before t."""

    @abstractmethod
    def between(self, noisy: Tensor, clean: Tensor, before: Tensor, after: Tensor) -> Any:
        """$q(x_s | x_t, x_0)$ for s before t."""

    @abstractmethod
    def terms(self, x: Tensor, noisy: Tensor, clean: Tensor, time: Tensor, reverse: Any) -> Tensor:
        r"""$\mathrm{KL}(q(x_{t-1} \mid x_t, x_0) \| p(x_{t-1} \mid x_t))$ of every row, and at t = 1 $-\log p(x_0 \mid x_1)$.

        Args:
            x: rows.
            noisy: $x_t$.
            clean: rows as the diffusion sees them.
            time: t of every row.
            reverse: $p(x_{t-1} \mid x_t)$.
        """

    @abstractmethod
    def divergence(self, posterior: Any, reverse: Any) -> Tensor:
        r"""$\mathrm{KL}(q(x_s \mid x_t, x_0) \| p(x_s \mid x_t))$ of every row."""

    @abstractmethod
    def end(self, like: Tensor) -> Any:
        r"""$\pi$, the law at the end: ``event_shape`` of ``like``'s last dimension."""

    @abstractmethod
    def end_divergence(self, clean: Tensor) -> Tensor:
        r"""$\mathrm{KL}(q(x_T \mid x_0) \| \pi)$ of every row."""


class GaussianCorruption(Corruption):
    r"""$q(x_t \mid x_{t-1}) = N(\sqrt{1 - \beta_t}\, x_{t-1}, \beta_t I)$, $\pi = N(0, I)$."""

    def after(self, x: Tensor, before: Tensor, after: Tensor) -> Any:
        noise = self.step(before, after, x)
        return dist.Normal((1 - noise).sqrt() * x, noise.sqrt()).to_event(1)

    def between(self, noisy: Tensor, clean: Tensor, before: Tensor, after: Tensor) -> Any:
        mean, variance = self.back(noisy, clean, before, after)
        return dist.Normal(mean, variance.sqrt().expand_as(mean)).to_event(1)

    def terms(self, x: Tensor, noisy: Tensor, clean: Tensor, time: Tensor, reverse: Any) -> Tensor:
        last = time == 1
        if bool(last.all()):
            return -reverse.log_prob(x)
        # At t = 1 the posterior is a point; any other time stands in for it where it is not used.
        inner = torch.where(last, torch.full_like(time, 2), time)
        divergence = self.divergence(self.between(noisy, clean, inner - 1, inner), reverse)
        return torch.where(last, -reverse.log_prob(x), divergence) if bool(last.any()) else divergence

    def divergence(self, posterior: Any, reverse: Any) -> Tensor:
        return dist.kl.kl_divergence(posterior.base_dist, reverse.base_dist).sum(-1)

    def back(self, noisy: Tensor, clean: Tensor, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of ``between``; the variance is zero where s is 0."""
        of_clean, of_noisy, variance = self.weights(noisy, before, after)
        return of_clean * clean + of_noisy * noisy, variance

    def weights(self, like: Tensor, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The weights of $x_0$ and of $x_t$ in the mean of ``between``, and its variance, to broadcast with columns."""
        there, kept = self.signal[before], self.signal[after] / self.signal[before]
        rest = 1 - self.signal[after]
        of_clean, of_noisy = there.sqrt() * (1 - kept) / rest, kept.sqrt() * (1 - there) / rest
        found = of_clean, of_noisy, (1 - kept) * (1 - there) / rest
        return tuple(t.to(like).unsqueeze(-1) for t in found)  # type: ignore[return-value]

    def jump(self, variance: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """The variance of a step from t to s, given that of the step from t to t - 1: the clean row is as uncertain in both."""
        by_clean, _, known = self.weights(variance, after - 1, after)
        of_clean = (variance - known).clamp_min(0.0) / by_clean.square()
        weight, _, given = self.weights(variance, before, after)
        return torch.where((before < after - 1).unsqueeze(-1), given + weight.square() * of_clean, variance)

    def end(self, like: Tensor) -> Any:
        return dist.Normal(torch.zeros_like(like), 1.0).to_event(1)

    def end_divergence(self, clean: Tensor) -> Tensor:
        signal = self.signal[-1]
        if float(signal.detach()) == 0.0:
            return torch.zeros_like(clean[..., 0])
        return 0.5 * (signal.to(clean) * clean.square() - (signal + torch.log1p(-signal)).to(clean)).sum(-1)


class BinomialCorruption(Corruption):
    r"""$q(x_t = 1 \mid x_{t-1}) = (1 - \beta_t)\, x_{t-1} + \beta_t r$ for every bit, $\pi = B(r)$.

    What depends on bits alone has few values in a row: these are found first, in double precision, and then spread over the
    columns by sums of products, which torch does faster than anything else.

    Args:
        signal: as for ``Corruption``.
        rate: r, the share of ones at the end.
    """

    def __init__(self, signal: Tensor, rate: float) -> None:
        super().__init__(signal)
        self.rate = rate

    def after(self, x: Tensor, before: Tensor, after: Tensor) -> Any:
        kept = self.signal[after] / self.signal[before]
        flips = (1 - kept) * self.rate
        return _law(_by_bits(x, torch.stack([flips, kept + flips], -1)))

    def between(self, noisy: Tensor, clean: Tensor, before: Tensor, after: Tensor) -> Any:
        zero, one = self.back(noisy, before, after)
        return _law(torch.lerp(zero, one, clean))

    def back(self, noisy: Tensor, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
        """The probabilities of a one at s given the bit at t, where the bit at 0 is zero and where it is one."""
        there, noise = self.signal[before], 1 - self.signal[after] / self.signal[before]
        ones, zeros = (1 - there) * self.rate, (1 - there) * (1 - self.rate)
        one = torch.stack([ones, there + ones], -1)  # of a one at s, by the clean bit
        zero = torch.stack([there + zeros, zeros], -1)
        lost, gained = noise * (1 - self.rate), noise * self.rate
        seen = torch.stack([lost, 1 - lost], -1).unsqueeze(-1)  # of the bit at t, where that at s is one
        other = torch.stack([1 - gained, gained], -1).unsqueeze(-1)
        joint = seen * one.unsqueeze(-2)
        given = joint / (joint + other * zero.unsqueeze(-2))  # ... x bit at t x clean bit
        return _by_bits(noisy, given[..., 0]), _by_bits(noisy, given[..., 1])

    def evidence(self, noisy: Tensor, time: Tensor) -> Tensor:
        """The log ratio of a noisy bit's probability where the clean one is 1 and where it is 0."""
        share = self.signal[time]
        ones, zeros = (1 - share) * self.rate, (1 - share) * (1 - self.rate)
        return _by_bits(noisy, torch.stack([zeros.log() - torch.log1p(-ones), torch.log1p(-zeros) - ones.log()], -1))

    def terms(self, x: Tensor, noisy: Tensor, clean: Tensor, time: Tensor, reverse: Any) -> Tensor:
        # At t = 1 the posterior is the clean row, of which the divergence is -log p(x_0 | x_1).
        return self.divergence(self.between(noisy, clean, time - 1, time), reverse)

    def divergence(self, posterior: Any, reverse: Any) -> Tensor:
        """As in the base class, from probabilities: torch's goes by their logits, at several times the cost of a product."""
        one, other = posterior.base_dist.probs, reverse.base_dist.probs
        zero, least = 1 - one, torch.finfo(one.dtype).tiny
        # 0 log 0 is 0: torch.xlogy takes as long as ten of these operations.
        return (one * (one.clamp_min(least) / other).log() + zero * (zero.clamp_min(least) / (1 - other)).log()).sum(-1)

    def end(self, like: Tensor) -> Any:
        return _law(torch.full_like(like, self.rate))

    def end_divergence(self, clean: Tensor) -> Tensor:
        signal, rate = self.signal[-1], clean.new_full((), self.rate, dtype=torch.float64)
        ones = torch.stack([(1 - signal) * rate, signal + (1 - signal) * rate])  # by the clean bit
        each = torch.xlogy(ones, ones / rate) + torch.xlogy(1 - ones, (1 - ones) / (1 - rate))
        return _by_bits(clean, each).sum(-1)


def _by_bits(bits: Tensor, values: Tensor) -> Tensor:
    """For every bit of a row one of the row's two values, ``... x 2``."""
    low = values[..., :1]
    return (bits * (values[..., 1:] - low).to(bits)).add_(low.to(bits))


def _law(probs: Tensor) -> Any:
    """A law of rows; the probabilities come from a schedule, and need no check."""
    return ExactBits(probs=probs, validate_args=False).to_event(1)


def signal_of(beta: Tensor) -> Tensor:
    r"""$A_0 = 1$ to $A_T$ of a schedule $\beta_1 \dots \beta_T$."""
    return torch.cat([beta.new_ones(1), (1 - beta).cumprod(0)])


def schedule_of(schedule: str | Sequence[float], steps: int, rest: float) -> Tensor:
    r"""The noise $\beta_1 \dots \beta_T$ of every step, in double precision.

    Args:
        schedule: ``"linear"`` takes the T-th part of the signal in every step, $\beta_t = 1 / (T - t + 1)$; ``"geometric"`` the
            same share, so that ``rest`` of the signal is left; or the numbers themselves.
        steps: the number of steps, T.
        rest: the signal that a geometric schedule leaves.

    Raises:
        ValueError: an unknown name, another number of steps, numbers outside (0, 1], a one before the end, or a schedule that
            leaves more than half of the signal.
    """
    if isinstance(schedule, str):
        if schedule == "linear":
            return 1 / torch.arange(steps, 0, -1, dtype=torch.float64)
        if schedule == "geometric":
            return torch.full((steps,), 1 - rest ** (1 / steps), dtype=torch.float64)
        raise ValueError(f"schedule got {schedule!r}; expected 'linear', 'geometric' or {steps} numbers in (0, 1]")
    try:
        beta = torch.as_tensor(schedule, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        beta = torch.zeros(0)
    if beta.shape != (steps,) or not bool(((beta > 0) & (beta <= 1)).all()):
        raise ValueError(f"schedule got {shown(schedule)}; expected {steps} numbers in (0, 1], one for every step")
    if float(1 - beta[0]) == 1:
        raise ValueError(
            f"schedule got {float(beta[0]):g} for its first step, which changes nothing in double precision; take a larger one"
        )
    if bool((beta[:-1] == 1).any()):
        raise ValueError(
            "the schedule has a 1 before its last step, behind which nothing is left to destroy; end it there"
        )
    if float((1 - beta).prod()) > 0.5:
        raise ValueError(
            f"the schedule leaves {float((1 - beta).prod()):.2f} of the signal, more than half: it does not destroy the data, so "
            "that nothing can start from noise. Take more steps, or larger ones"
        )
    return beta
