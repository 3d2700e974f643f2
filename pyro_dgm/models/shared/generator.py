"""The base of generator networks: rows as a function of noise, with output noise or without (sections 20.10.4-6)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ...annealing.coordinates import LatentCoordinates
from ...annealing.latents import Moves
from ...checks import check_choice, check_columns, check_positive
from ...discrepancy import GaussianKernels, mean_discrepancy, median_squared_width
from ...distributions.standard_normal import standard_normal
from ...nets.modes import evaluating
from .abilities import Abilities
from .chain_details import Step
from .evidence import Evidence
from .latent import LatentVariableModel
from .rows import PROGRESS_ROWS, check_rows, known_alone

PRIORS = ("normal", "uniform")
OUTPUTS: dict[str, type[nn.Module]] = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "linear": nn.Identity}
"""What the network's last layer is followed by: columns in (0, 1), in (-1, 1), or any real numbers."""

LEAPFROG_STEPS = 10
"""Leapfrog steps of a proposal of conditional chains."""


class GeneratorModel(LatentVariableModel):
    r"""Rows $x = g(z)$ of noise z, or with output noise $x = g(z) + \sigma \epsilon$, $\epsilon \sim N(0, I)$.

    With output noise every row has a density, $p(x) = E_z N(x; g(z), \sigma^2 I)$, of which bounds are known, and conditionals,
    drawn by Hamiltonian Monte Carlo over z. Without it rows lie on a surface, there is no density, and samples are compared
    instead (``dgm.evaluation``). The guide is the prior.

    Args:
        visible: the number of columns.
        noise: $\sigma$; 0 for none.
        prior: the law of z, ``"normal"`` or ``"uniform"`` (on [-1, 1]).
        output: ``"sigmoid"``, ``"tanh"`` or ``"linear"``.

    Raises:
        ValueError: no column, a negative noise, or an unknown prior or output.
    """

    default_method: ClassVar[str] = "ais"
    rounds_safely = True

    # A prior tells nothing of a row: it has no features, nor draws that posterior ones could be chosen from.
    hidden_features = Abilities.hidden_features
    reconstruct = Abilities.reconstruct
    posterior_draws = Abilities.posterior_draws

    def __init__(self, visible: int, noise: float, prior: str, output: str) -> None:
        super().__init__()
        self.visible = check_columns(visible)
        check_positive("noise", noise, "the standard deviation of the output noise", zero=True)
        check_choice("prior", prior, PRIORS)
        check_choice("output", output, OUTPUTS)
        self.noise, self.prior, self.output = float(noise), prior, output
        self.finish = OUTPUTS[output]()

    def noise_of(self, size: int) -> dist.TorchDistribution:
        """The prior of a vector of latents."""
        like = next(self.parameters())
        if self.prior == "uniform":
            return dist.Uniform(-like.new_ones(size), like.new_ones(size)).to_event(1)
        return standard_normal(size, like)

    def around(self, mean: Tensor) -> dist.TorchDistribution:
        """The law of rows around a generated one: ``event_shape`` (visible,)."""
        if self.noise:
            return dist.Normal(mean, self.noise).to_event(1)
        return dist.Delta(mean, event_dim=1)

    @abstractmethod
    def latents(self) -> Any:
        """Draw the latent sites within the data plate."""

    @abstractmethod
    def means(self, latents: Any) -> Tensor:
        """The generated rows g(z) of latents: ``batch_shape x visible``."""

    def generate(self, x: Tensor | None = None, size: int | None = None) -> Tensor:
        if x is not None:
            self._check_density("the program has no density at given rows")
        with self.data_plate(x, size):
            columns, known = known_alone(self.around(self.means(self.latents())), x)
            return pyro.sample("x", columns, obs=known)

    def infer(self, x: Tensor | None = None, size: int | None = None) -> Any:
        with self.data_plate(x, size):
            return self.latents()

    def check_programs(self, x: Tensor) -> None:
        """Without output noise there is nothing to check: rows are drawn and compared, never observed."""
        if self.noise:
            super().check_programs(x)

    def sample(self, n: int) -> Tensor:
        """Draw ``n`` independent rows; batch normalisation, if there is any, has its running statistics."""
        with evaluating(self):
            return super().sample(n)

    def sample_means(self, n: int) -> Tensor:
        """Generated rows without the output noise; batch normalisation as in ``sample``."""
        with evaluating(self):
            return super().sample_means(n)

    def evidence(self, x: Tensor, method: str | None = None, **options: Any) -> Evidence:
        """A lower bound of every row's log-density, by annealing from the prior, or by importance weights of its draws.

        Raises:
            ValueError: there is no output noise, so that no row has a density; another method or option.
        """
        self._check_density("log_likelihood is not defined")
        with evaluating(self):
            return super().evidence(x, method, **options)

    def conditional_chain(self, x: Tensor, known: Tensor, warmup: int) -> Iterator[Step]:
        r"""Yield the state after every step of one chain per row: z by Hamiltonian Monte Carlo, x from $p(x \mid z)$.

        In the first half of the warm-up the chains are annealed from the prior to the posterior.

        Raises:
            ValueError: there is no output noise.
        """
        self._check_density("conditionals are not defined")
        known = known.expand(x.shape)
        moves = ConditionalMoves(self, torch.where(known, x, torch.nan), warmup)
        while True:
            latents, accepted, log_joint = moves()
            drawn = pyro.poutine.condition(self.model, data=latents)(None, len(x))
            yield Step(torch.where(known, x, drawn), accepted, log_joint)

    def progress(self, train: Tensor, valid: Tensor) -> dict[str, float]:
        """Minus the squared maximum mean discrepancy between samples and validation rows, 0 at best up to chance."""
        rows, scale = valid[:PROGRESS_ROWS], train[:PROGRESS_ROWS]
        kernel = GaussianKernels((median_squared_width(scale) if len(scale) > 1 else 1.0,))
        with torch.no_grad():
            found = mean_discrepancy(rows, self.counterparts(rows), kernel, unbiased=len(rows) > 1)
        return {"valid_negative_mmd": -float(found)}

    def initialise(self, x: Tensor) -> None:
        """Start the bias of the network's last layer at the means of the columns."""
        bias = self.last_bias()
        if bias is None or self.own_networks:
            return
        with torch.no_grad():
            bias.copy_(self.inverse(x[:, : self.visible].mean(0)))

    def inverse(self, mean: Tensor) -> Tensor:
        """What the output's non-linearity maps to these means, held a little away from its ends."""
        if self.output == "sigmoid":
            return torch.logit(mean, eps=1e-2)
        return mean.clamp(-0.98, 0.98).atanh() if self.output == "tanh" else mean

    def last_bias(self) -> Tensor | None:
        """The bias of the last layer before the output, one number per column; None where there is none."""
        return None

    def density_columns(self, x: Tensor) -> Tensor:
        """None: with a fixed noise no column's density can grow without limit."""
        return torch.zeros_like(x[0], dtype=torch.bool)

    def data_shape(self) -> torch.Size:
        return torch.Size([self.visible])

    def check_data(self, x: Tensor) -> None:
        check_rows(x, self.data_shape(), type(self).__name__)
        self.check_columns(x)

    def check_columns(self, x: Tensor) -> None:
        """Raise ``ValueError`` where columns are further outside the output's range than its noise reaches."""
        low, high = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}.get(self.output, (-torch.inf, torch.inf))
        reach = 4 * self.noise
        if bool(((x < low - reach) | (x > high + reach)).any()):
            raise ValueError(
                f"{type(self).__name__} with output={self.output!r} generates columns in [{low:g}, {high:g}]; the data "
                f"reach from {float(x.min()):g} to {float(x.max()):g}. Scale them, or make it with output='linear'"
            )

    def _check_density(self, what: str) -> None:
        if not self.noise:
            raise ValueError(
                f"{what}: {type(self).__name__} without output noise puts all probability on a surface, where no row has a "
                "density. Make it with noise=0.1, say, or compare samples (dgm.evaluation.parzen, mmd_test, precision_recall)"
            )

    def output_options(self) -> dict[str, Any]:
        """The options of this class."""
        return {"noise": self.noise, "prior": self.prior, "output": self.output}


class ConditionalMoves:
    """Hamiltonian moves of the latents of rows of which some entries are unknown (NaN).

    In the first half of the warm-up they are annealed from the prior to the posterior; in all of it they adapt their steps.

    Args:
        model: a generator with output noise.
        rows: the rows; they may be changed between moves.
        warmup: the number of first moves.
    """

    def __init__(self, model: GeneratorModel, rows: Tensor, warmup: int) -> None:
        self.warmup, self.count = warmup, 0
        self.coordinates = LatentCoordinates(model.model, model.guide, (rows,), {})
        self.moves, self.at = Moves(self.coordinates, LEAPFROG_STEPS), self.coordinates.draw(1)

    def __call__(self, rows: Tensor | None = None) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Move once; returns the latents by site, whether each row's proposal was accepted, and the log-densities."""
        if rows is not None:
            self.coordinates.args = (rows,)
        self.count += 1
        warm = self.count <= self.warmup
        self.moves.rate = 2 * self.count**-0.5 if warm else 0.0
        moved = self.moves(self.at, min(1.0, 2 * self.count / self.warmup) if warm else 1.0)
        accepted = (moved.real != self.at.real).any(-1).squeeze(0).to(moved.real)
        self.at = moved
        log_p, _, volume = self.coordinates.log_densities(moved)
        values = {name: value.squeeze(0) for name, value in self.coordinates.values(moved)[0].items()}
        return values, accepted, (log_p + volume).squeeze(0)


def bias_of(network: nn.Module, columns: int) -> Tensor | None:
    """The bias of a network's last layer if it has one number per column."""
    last: Any = network[-1] if isinstance(network, nn.Sequential) else network
    bias = getattr(last, "bias", None)
    return bias if isinstance(bias, nn.Parameter) and bias.shape == (columns,) else None
