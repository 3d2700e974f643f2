"""Diffusion inversion, section 20.13."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ...checks import check_belongs, check_choice, check_columns, check_count, check_counts, check_share
from ...distributions.exact_bits import ExactBits
from ...nets.scaling import ColumnScaling
from ...nets.timed import TimedConvolutions, TimedPerceptron
from ...objectives.criteria.diffusion import StepBound, stratified
from ...objectives.objective import Objective
from ..shared.abilities import Abilities
from ..shared.chain_details import Step
from ..shared.decoded import check_body
from ..shared.diffusion import BinomialCorruption, GaussianCorruption, schedule_of, signal_of
from ..shared.diffusion_bounds import bound
from ..shared.diffusion_paths import metropolis_over_paths, overwritten, time_of
from ..shared.evidence import Evidence
from ..shared.examples import bits, seeded
from ..shared.latent import LatentVariableModel
from ..shared.rows import PROGRESS_ROWS, check_binary, check_rows

_LEAST = 1e-6
"""The least probability of a bit in the reverse kernels."""


class DiffusionInversion(LatentVariableModel):
    r"""A chain from noise to data that inverts a diffusion from data to noise (Sohl-Dickstein et al. 2015).

    The diffusion $q(x_t \mid x_{t-1})$ destroys a row in T small steps; the model draws $x_T \sim \pi$ and goes back by learned
    kernels $p(x_{t-1} \mid x_t)$, whose bits or columns are independent given $x_t$. The bound is

    $\log p(x_0) \ge E_q \big[\log \pi(x_T) + \sum_t \log p(x_{t-1} \mid x_t) - \log q(x_t \mid x_{t-1})\big]$, in nats,

    the ELBO of the program with the diffusion as its guide. It is trained by one term per row at a random time, which has the
    ELBO's value and gradient in expectation (``StepBound``); stock SVI works too, at T network passes a step.

    The kernels are those of a guess of the clean row: the network gives the probability of every bit's clean value, or the mean
    of every column's, and the reverse kernel is the exact posterior $q(x_{t-1} \mid x_t, x_0)$ averaged over it, or at it with
    a learned variance near $\beta_t$. The time enters the network at its read-out. The last step to $x_0$ is learned likewise,
    or is the diffusion's own kernel as in the paper (``last_step="fixed"``).

    ``model(x)`` has the sites ``"x_T"`` down to ``"x_1"`` and ``"x"``, each ``rows x visible``. Gaussian columns are brought to
    mean 0 and variance 1 by a first ``fit``; all figures are densities of the rows as they were given.

    Args:
        visible: the number of columns.
        steps: the number of steps of the diffusion, T.
        output: ``"binary"`` or ``"gaussian"``.
        hidden: units of the dense network's hidden layers.
        activation: the non-linearity.
        schedule: ``"linear"`` ($\beta_t = 1/(T - t + 1)$: nothing of the row is left), ``"geometric"`` (a thousandth is left),
            ``"learned"`` (of Gaussian columns: it starts geometric, and all but $\beta_1$, which would go to zero, are trained
            with the network), or T numbers in (0, 1].
        rate: of binary rows, the share r of ones in noise.
        last_step: ``"learned"`` or ``"fixed"``.
        body: ``"dense"`` or ``"convolutional"``: convolutions at three scales.
        shape: height and width of a picture, or channels, height and width; for the convolutional body.
        channels: the channels of its hidden convolutions; (32, 64) by default.

    Raises:
        ValueError: no step, a schedule that does not destroy the data, or an unknown option.

    The bound is the evidence lower bound (20.76) of all steps together.

    Example:
        >>> import pyro_dgm as dgm
        >>> dgm.DiffusionInversion(6, steps=4, hidden=(8,)).sample(3).shape
        torch.Size([3, 6])
    """

    evidence_methods: ClassVar[dict[str, dict[str, Any]]] = {"steps": {"rounds": 2}, "paths": {"particles": 50}}
    default_method: ClassVar[str] = "steps"

    # The end of a path tells nothing of a row.
    hidden_features = Abilities.hidden_features
    reconstruct = Abilities.reconstruct
    posterior_draws = Abilities.posterior_draws
    guide_needs_rows = True

    rounds_safely = True

    def __init__(
        self,
        visible: int,
        steps: int = 100,
        output: str = "binary",
        hidden: Sequence[int] = (500, 500),
        activation: str = "relu",
        schedule: str | Sequence[float] = "linear",
        rate: float | None = None,
        last_step: str = "learned",
        body: str = "dense",
        shape: Sequence[int] | None = None,
        channels: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.visible, self.steps = check_columns(visible), check_count("steps", steps, what="the number of steps, T")
        check_choice("output", output, ("binary", "gaussian"))
        check_choice("last_step", last_step, ("learned", "fixed"))
        check_belongs("output", output, ["binary"], rate=rate)
        check_share("rate", 0.5 if rate is None else rate, "the share of ones in noise")
        self.rate = 0.5 if rate is None else float(rate)
        self.output, self.last_step, self.activation = output, last_step, activation
        self.hidden = check_counts("hidden", hidden, "the units of at least one hidden layer", "(500, 500)")
        self.channels = check_body(body, shape, channels, self.visible)
        self.body, self.shape = body, shape
        learned = isinstance(schedule, str) and schedule == "learned"
        if learned and (output == "binary" or self.steps == 1):
            raise ValueError(
                "schedule got 'learned', for which there must be several steps and a gradient through their noise; take "
                "output='gaussian' and steps above 1, or a fixed schedule"
            )
        beta = schedule_of("geometric" if learned else schedule, self.steps, 1e-3)
        self.schedule = schedule if isinstance(schedule, str) else beta.tolist()
        # No buffer: it stays in double precision, whatever the model's is.
        self._signals = {torch.device("cpu"): signal_of(beta)}
        self.log_odds = nn.Parameter(torch.logit(beta[1:]).float()) if learned else None
        each = 1 if output == "binary" else 2
        self.network: nn.Module = (
            TimedPerceptron(self.visible, self.hidden, each * self.visible, activation)
            if shape is None
            else TimedConvolutions(shape, self.channels, each, activation)
        )
        self.offset = nn.Parameter(torch.zeros(self.visible))
        self.scaling = ColumnScaling(self.visible) if output == "gaussian" else None

    @property
    def signal(self) -> Tensor:
        """$A_0$ to $A_T$, in double precision."""
        device = self.offset.device
        if self.log_odds is not None:
            first = 1 - self._signals[torch.device("cpu")][1:2].to(device)
            return signal_of(torch.cat([first, torch.sigmoid(self.log_odds.double())]))
        if device not in self._signals:
            self._signals[device] = self._signals[torch.device("cpu")].to(device)
        return self._signals[device]

    @property
    def corruption(self) -> Any:
        """The diffusion, ``GaussianCorruption`` or ``BinomialCorruption``."""
        signal = self.signal
        return GaussianCorruption(signal) if self.output == "gaussian" else BinomialCorruption(signal, self.rate)

    def reverse(self, noisy: Tensor, time: Tensor, before: Tensor | None = None) -> Any:
        r"""$p(x_s \mid x_t)$, by default for s = t - 1: ``batch_shape`` of the states, ``event_shape`` (visible,).

        Args:
            noisy: $x_t$, ``... x visible``.
            time: t, which broadcasts with the leading dimensions.
            before: the earlier time, s.
        """
        before = time - 1 if before is None else before
        if self.output == "binary":
            return ExactBits(probs=self._bits(noisy, time, before)).to_event(1)
        mean, variance = self._moments(noisy, time, before)
        if self.scaling is not None and bool((before == 0).any()):
            data = (before == 0).unsqueeze(-1)
            mean = torch.where(data, self.scaling.back(mean), mean)
            variance = torch.where(data, variance * self.scaling.scale.square(), variance)
        return dist.Normal(mean, variance.sqrt()).to_event(1)

    def _bits(self, noisy: Tensor, time: Tensor, before: Tensor) -> Tensor:
        corruption = self.corruption
        guess = torch.sigmoid(self._guess(noisy, time) + self.offset + corruption.evidence(noisy, time))
        zero, one = corruption.back(noisy, before, time)
        found = torch.lerp(zero, one, guess)
        if self.last_step == "fixed":
            noise = corruption.step(before, time, noisy)
            own = (1 - noise) * noisy + noise * self.rate
            found = torch.where((before == 0).unsqueeze(-1), own, found)
        # Not clamped, which would have no gradient where the model is most wrong.
        return found * (1 - 2 * _LEAST) + _LEAST

    def _moments(self, noisy: Tensor, time: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        corruption = self.corruption
        shift, spread = self._guess(noisy, time).chunk(2, -1)
        share = corruption.share(time, noisy)
        # Where the columns are independent normals of variance one, the clean row's mean is the first term.
        clean = share.sqrt() * noisy + corruption.rest(time, noisy).sqrt() * (shift + self.offset)
        mean, _ = corruption.back(noisy, clean, before, time)
        noise = corruption.step(time - 1, time, noisy)
        variance = torch.sigmoid(noise.log() - torch.log1p(-noise) + spread / self.steps**0.5).expand_as(mean)
        if bool((before < time - 1).any()):
            variance = corruption.jump(variance, before, time)
        if self.last_step == "fixed":
            last = (before == 0).unsqueeze(-1)
            mean = torch.where(last, (1 - noise).sqrt() * noisy, mean)
            variance = torch.where(last, noise.expand_as(variance), variance)
        return mean, variance

    def _guess(self, noisy: Tensor, time: Tensor) -> Tensor:
        """The network's output for states of any leading dimensions."""
        lead = noisy.shape[:-1]
        share = (time.to(noisy) / self.steps).expand(lead).reshape(-1)
        return self.network(noisy.reshape(-1, self.visible), share).view(*lead, -1)

    def clean(self, x: Tensor) -> Tensor:
        """Rows as the diffusion sees them: Gaussian columns standardised."""
        return x if self.scaling is None else self.scaling(x)

    def generate(self, x: Tensor | None = None, size: int | None = None) -> Tensor:
        rows = (size or 1) if x is None else len(x)
        with self.data_plate(x, size):
            state = pyro.sample(f"x_{self.steps}", self.corruption.end(self.offset.new_zeros(rows, self.visible)))
            for t in range(self.steps, 1, -1):
                state = pyro.sample(f"x_{t - 1}", self.reverse(state, time_of(t, self.offset)))
            return pyro.sample("x", self.reverse(state, time_of(1, self.offset)), obs=x)

    def infer(self, x: Tensor, size: int | None = None) -> Tensor:
        state, corruption = self.clean(x), self.corruption
        with self.data_plate(x, size):
            for t in range(1, self.steps + 1):
                state = pyro.sample(
                    f"x_{t}", corruption.after(state, time_of(t - 1, self.offset), time_of(t, self.offset))
                )
        return state

    def step_terms(self, x: Tensor, time: Tensor) -> Tensor:
        r"""The bound's loss at a time of each row.

        It is $\mathrm{KL}(q(x_{t-1} \mid x_t, x_0) \| p)$, and at t = 1 $-\log p(x_0 \mid x_1)$.

        Args:
            x: rows.
            time: t from 1 to T, ``rows``.
        """
        clean, corruption, start = self.clean(x), self.corruption, torch.zeros_like(time)
        law = corruption.after(clean, start, time)
        noisy = law.sample() if self.log_odds is None else law.rsample()
        return corruption.terms(x, noisy, clean, time, self.reverse(noisy, time))

    def end_terms(self, x: Tensor) -> Tensor:
        r"""$\mathrm{KL}(q(x_T \mid x_0) \| \pi)$ of every row."""
        return self.corruption.end_divergence(self.clean(x))

    def objective(self) -> Objective:
        """The bound by terms at stratified times, one per row (``StepBound``)."""
        return StepBound()

    def progress(self, train: Tensor, valid: Tensor) -> dict[str, float]:
        """The bound of validation rows by one term per row."""
        rows = valid[:PROGRESS_ROWS]
        with torch.no_grad():
            terms = self.step_terms(rows, stratified(len(rows), self.steps, rows.device))
            return {"valid_bound": -float(self.steps * terms.mean() + self.end_terms(rows).mean())}

    def sample(self, n: int, steps: int | None = None) -> Tensor:
        """Draw ``n`` independent rows.

        Args:
            n: the number of rows.
            steps: the number of steps; with fewer than T some times are skipped, by the posterior over several steps at once: a
                faster and another law. A fixed last step is always made.

        Raises:
            ValueError: no step, more than T, or a single one of several where the last is fixed.
        """
        with torch.no_grad():
            return self._last_law(n, steps).sample()

    def sample_means(self, n: int, steps: int | None = None) -> Tensor:
        """The means of ``n`` rows given the state before them, which published figures of diffusions show: ``n x visible``.

        They are no draws of the model: a picture of means looks smoother than its draws.

        Args:
            n: the number of rows.
            steps: as for ``sample``.

        Raises:
            ValueError: as for ``sample``.
        """
        with torch.no_grad():
            return self._last_law(n, steps).mean

    def _last_law(self, n: int, steps: int | None) -> Any:
        """The law of rows given the last states of a chain from noise."""
        count = self.steps if steps is None else check_count("steps", steps)
        if count > self.steps:
            raise ValueError(f"steps got {steps}; expected at most {self.steps}, those of the training")
        if self.last_step == "fixed":
            if count == 1 < self.steps:
                raise ValueError(
                    f"steps got 1 with last_step='fixed', which goes from x_1 alone; expected 2 to {self.steps}"
                )
            times = [*torch.linspace(self.steps, 1, count, dtype=torch.float64).round().long().tolist(), 0]
        else:
            times = torch.linspace(self.steps, 0, count + 1, dtype=torch.float64).round().long().tolist()
        law = self.corruption.end(self.offset.new_zeros(n, self.visible))
        for t, s in zip(times[:-1], times[1:], strict=True):
            law = self.reverse(law.sample(), time_of(t, self.offset), time_of(s, self.offset))
        return law

    def evidence(self, x: Tensor, method: str | None = None, **options: Any) -> Evidence:
        """A lower bound of every row's log-likelihood, in memory that does not grow with T.

        With ``"steps"`` all T terms of the bound, each at a noisy row of its own; with ``"paths"`` the logarithm of the mean
        weight of whole paths, which is tighter for many.

        Args:
            x: rows.
            method: ``"steps"``, the default, or ``"paths"``.
            options: for ``"steps"`` the number of ``rounds`` that are averaged; for ``"paths"`` the number of ``particles``.

        Raises:
            ValueError: another method or option, or a count below one.
        """
        method = method or self.default_method
        return bound(self, x, method, **self.method_options(method, options))

    def conditional_chain(self, x: Tensor, known: Tensor, warmup: int) -> Iterator[Step]:
        """Yield the state after every step of one chain per row, exact in the limit: Metropolis over paths."""
        self._check_known(x, known)
        return metropolis_over_paths(self, x, known.expand(x.shape))

    def overwritten(self, x: Tensor, known: Tensor) -> Tensor:
        """Unknown columns by the published in-painting rule: known ones are put back, noised to their time, after every step.

        It is no draw of the conditional law, whatever T; ``condition`` is.

        Args:
            x: rows, ``rows x visible``.
            known: booleans, of a row or of all rows.
        """
        check_rows(x, self.data_shape(), "overwritten")
        self._check_known(x, known)
        with torch.no_grad():
            return overwritten(self, x, known.expand(x.shape))

    def _check_known(self, x: Tensor, known: Tensor) -> None:
        if self.output == "binary":
            check_binary(torch.where(known, x, 0.0), "DiffusionInversion with binary output")

    def data_shape(self) -> torch.Size:
        return torch.Size([self.visible])

    def check_data(self, x: Tensor) -> None:
        check_rows(x, self.data_shape(), "DiffusionInversion")
        if self.output == "binary":
            check_binary(x, "DiffusionInversion with binary output", "choose output='gaussian' (--set output=gaussian)")

    def initialise(self, x: Tensor) -> None:
        """Start at the columns' means: bits of their shares, Gaussian columns standardised."""
        if self.scaling is not None:
            self.scaling.fit(x)
            return
        with torch.no_grad():
            self.offset.copy_(torch.logit(x.mean(0), eps=1e-2))

    def options(self) -> dict[str, Any]:
        picture = {} if self.shape is None else {"shape": list(self.shape), "channels": list(self.channels)}
        rate = {"rate": self.rate} if self.output == "binary" else {}
        return {
            "visible": self.visible, "steps": self.steps, "output": self.output, "hidden": list(self.hidden),
            "activation": self.activation, "schedule": self.schedule, **rate, "last_step": self.last_step, "body": self.body,
            **picture,
        }  # fmt: skip

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(4, steps=3, hidden=(6,)), lambda: bits(10, 4), scale=0.5)
