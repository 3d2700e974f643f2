"""A generator trained on known codes, section 20.10.2."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Self

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ...checks import check_choice, check_columns, check_count, check_counts
from ...distributions.support import RowSupport
from ...nets.bodies import mlp
from ...nets.scaling import ColumnScaling
from ..shared.chain_details import Step
from ..shared.examples import bits, seeded
from ..shared.explicit import ExplicitModel
from ..shared.own_networks import network
from ..shared.rows import check_binary, check_rows


class SupervisedGenerator(ExplicitModel):
    r"""A generator network whose codes are known: it emits the parameters of $p(x \mid z)$ (20.74-75) for given z.

    With the codes observed (a picture's object and viewpoint, say), training maximises $\log p(x \mid z)$: supervised
    learning with many outputs (Dosovitskiy, Springenberg and Brox 2015). Figures are log-likelihoods of x given its code,
    in nats.

    Data rows hold the visible columns and then the code's. ``model(x)`` has the site ``"x"`` over whole rows, in which the
    code's columns have no log-probability. Without codes, ``sample(n)`` draws them from a normal of the training
    codes' means and deviations.

    Args:
        visible: the number of visible columns.
        codes: the number of columns of the code, which are the last of a row; in the shell ``--classes`` makes labels, one-hot,
            the code.
        hidden: units of the network's hidden layers.
        output: ``"binary"``, or ``"gaussian"`` with one learned deviation per column.
        decoder: a network of your own, ``rows x codes`` to ``rows x visible``, as for ``dgm.VAE``.

    Raises:
        ValueError: a number below one, or an unknown output.

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> model = dgm.SupervisedGenerator(visible=5, codes=2, hidden=(8,))
        >>> model.decode(torch.zeros(3, 2)).shape
        torch.Size([3, 5])
    """

    code_mean: Tensor
    code_scale: Tensor

    label_option = "codes"
    rounds_safely = True

    def __init__(
        self,
        visible: int,
        codes: int,
        hidden: Sequence[int] = (200, 200),
        output: str = "binary",
        decoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        check_choice("output", output, ("binary", "gaussian"))
        visible, codes = check_columns(visible), check_count("codes", codes, what="the number of columns of the code")
        hidden = check_counts("hidden", hidden, fewest=0)
        self.visible, self.codes, self.hidden, self.output = visible, codes, hidden, output
        self.network = network(self, "decoder", decoder, lambda: mlp((codes, *hidden, visible)), codes, visible)
        if output == "gaussian":
            self.log_scale = nn.Parameter(torch.zeros(visible))
        self.scaling = ColumnScaling(visible) if output == "gaussian" else None
        self.code_scaling = ColumnScaling(codes)
        self.register_buffer("code_mean", torch.zeros(codes))
        self.register_buffer("code_scale", torch.ones(codes))

    @property
    def decoder(self) -> nn.Module:
        """The network, from codes to the numbers of the visible columns."""
        return self.network

    def observe(self, codes: Tensor) -> dist.TorchDistribution:
        r"""$p(x \mid z)$: ``batch_shape`` of the codes, ``event_shape`` (visible,)."""
        numbers = self.network(self.code_scaling(codes))
        if self.scaling is None:
            return dist.Bernoulli(logits=numbers).to_event(1)
        return dist.Normal(self.scaling.back(numbers), self.scaling.scale * self.log_scale.exp()).to_event(1)

    def decode(self, codes: Tensor) -> Tensor:
        r"""The mean of $p(x \mid z)$: ``batch_shape x visible``."""
        with torch.no_grad():
            return self.observe(codes).mean

    def forward(self, codes: Tensor | None = None) -> dist.TorchDistribution:
        """The distribution of rows with given codes, ``rows x codes``, or with codes that are drawn."""
        return _CodedRow(self, codes)

    def generate(self, x: Tensor | None = None, size: int | None = None) -> Tensor:
        with self.data_plate(x, size):
            # The network runs here, inside the program, where Pyro learns of its parameters.
            return pyro.sample("x", self(None if x is None else x[..., self.visible :]), obs=x)

    def sample(self, n: int, codes: Tensor | None = None) -> Tensor:
        """Draw ``n`` rows with their codes, which are given or drawn: ``n x (visible + codes)``."""
        with torch.no_grad():
            if codes is None:
                return self().sample((n,))
            if codes.shape != (n, self.codes):
                raise ValueError(f"codes got {tuple(codes.shape)}; expected those of {n} rows, ({n}, {self.codes})")
            return torch.cat([self.observe(codes).sample(), codes], -1)

    def impute(self, x: Tensor, known: Tensor, draws: int = 500) -> Tensor:
        r"""Means of the unknown entries given the known ones, one chain per row.

        Given the whole code they are the decoder's means. Unknown columns of the code are moved by Metropolis steps under
        $p(z) \prod_{known} p(x_i \mid z)$ with the prior of ``sample``. The unknown $x_i$ are independent given z and are
        summed out. Before the ``draws`` steps that count, as many adapt the width of the proposals.
        """
        return super().impute(x, known, draws)

    def mean_chain(self, x: Tensor, known: Tensor, warmup: int, **options: Any) -> Iterator[Step]:
        """Yield the means of the unknown columns given the code, and the code."""
        for step in self._codes(x, known, warmup):
            yield step._replace(rows=torch.cat([self.decode(step.rows), step.rows], -1))

    def conditional_chain(self, x: Tensor, known: Tensor, warmup: int) -> Iterator[Step]:
        """Yield rows of the chains of ``impute``, with the unknown columns drawn given the code."""
        for step in self._codes(x, known, warmup):
            filled = torch.cat([self.observe(step.rows).sample(), step.rows], -1)
            yield step._replace(rows=torch.where(known, x, filled))

    def _codes(self, x: Tensor, known: Tensor, warmup: int) -> Iterator[Step]:
        """Yield codes given the known entries, step by step."""
        known = known.expand(x.shape)
        known_columns, known_codes = known.split([self.visible, self.codes], -1)
        data, codes = x.split([self.visible, self.codes], -1)
        prior = dist.Normal(self.code_mean, self.code_scale)
        z = torch.where(known_codes, codes, prior.sample((len(x),)))
        while bool(known_codes.all()):
            yield Step(z)

        def score(z: Tensor) -> Tensor:
            likelihood = torch.where(known_columns, self.observe(z).base_dist.log_prob(data), 0.0)
            return likelihood.sum(-1) + prior.log_prob(z).sum(-1)

        width, current = torch.ones(len(x), 1, device=x.device), score(z)
        for sweep in itertools.count():
            step = width * self.code_scale * torch.randn_like(z)
            proposal = torch.where(known_codes, codes, z + step)
            proposed = score(proposal)
            accept = torch.rand_like(current).log() < proposed - current
            z, current = torch.where(accept.unsqueeze(-1), proposal, z), torch.where(accept, proposed, current)
            if sweep < warmup:
                width *= torch.where(accept.unsqueeze(-1), 1.1, 0.96).clamp_max(1e3)
            yield Step(z, torch.where(known_codes.all(-1), 1.0, accept.to(z)), current)

    def evidence_given(self) -> str:
        return "the code"

    def initialise(self, x: Tensor) -> None:
        """Take the codes' means and standard deviations, for ``sample`` and for the network, and those of Gaussian columns."""
        columns, codes = x.split([self.visible, self.codes], -1)
        if self.scaling is not None:
            self.scaling.fit(columns)
        self.code_scaling.fit(codes)
        self.code_mean.copy_(codes.mean(0))
        self.code_scale.copy_(codes.std(0, correction=0).clamp_min(1e-6))

    def density_columns(self, x: Tensor) -> Tensor:
        """All columns but the codes."""
        return torch.arange(self.visible + self.codes, device=x.device) < self.visible

    def check_data(self, x: Tensor) -> None:
        name = "SupervisedGenerator (visible columns, then the code)"
        check_rows(x, torch.Size([self.visible + self.codes]), name)
        if self.output == "binary":
            check_binary(x[:, : self.visible], name)

    @classmethod
    def label_columns(cls, options: dict[str, Any], appended: int) -> int:
        return int(options.get("codes", appended))  # rows always end in their code

    def options(self) -> dict[str, Any]:
        return {
            "visible": self.visible,
            "codes": self.codes,
            "hidden": list(self.hidden),
            "output": self.output,
        }

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(3, 2, hidden=(4,)), lambda: torch.cat([bits(10, 3), torch.randn(10, 2)], 1))


class _CodedRow(dist.TorchDistribution):
    """Rows of visible columns and a code, which is given and has no log-probability."""

    arg_constraints: dict[str, Any] = {}

    @dist.constraints.dependent_property(event_dim=1)
    def support(self) -> dist.constraints.Constraint:
        columns = self.model.observe(self.model.code_mean) if self.columns is None else self.columns
        return RowSupport(columns.support)

    def __init__(
        self, model: SupervisedGenerator, codes: Tensor | None = None, batch_shape: Sequence[int] | None = None
    ) -> None:
        self.model, self.codes = model, codes
        self.columns = None if codes is None else model.observe(codes)
        shape = batch_shape if batch_shape is not None else () if codes is None else codes.shape[:-1]
        super().__init__(torch.Size(shape), torch.Size([model.visible + model.codes]), validate_args=False)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> _CodedRow:
        other = _CodedRow(self.model, None, batch_shape)
        other.codes, other.columns = self.codes, self.columns
        return other

    def log_prob(self, value: Tensor) -> Tensor:
        x, codes = value.split([self.model.visible, self.model.codes], -1)
        columns = self.model.observe(codes) if self.columns is None else self.columns
        return columns.log_prob(x).expand(torch.broadcast_shapes(self.batch_shape, value.shape[:-1]))

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = (*sample_shape, *self.batch_shape)
        with torch.no_grad():
            if self.codes is None:
                noise = torch.randn(*shape, self.model.codes, device=self.model.code_mean.device)
                codes = self.model.code_mean + self.model.code_scale * noise
            else:
                codes = self.codes.expand(*shape, self.model.codes)
            return torch.cat([self.model.observe(codes).sample(), codes], -1)
