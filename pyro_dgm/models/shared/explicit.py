"""The base of models whose density is a formula: no latent sites, exact log-likelihoods."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import pyro
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from ...objectives.objective import Elbo, Objective
from .conditioning import ChainModel
from .evidence import Evidence
from .rows import check_rows


class ExplicitModel(ChainModel):
    """A model whose call returns a distribution of rows that can be scored and drawn exactly."""

    @abstractmethod
    def forward(self) -> TorchDistribution:
        """The distribution of a row."""

    def generate(self, x: Tensor | None = None, size: int | None = None) -> Tensor:
        with self.data_plate(x, size):
            return pyro.sample("x", self(), obs=x)

    def infer(self, *args: Any, **kwargs: Any) -> Any:
        """There are no latent sites."""

    def sample(self, n: int) -> Tensor:
        """``n`` independent draws."""
        with torch.no_grad():
            return self().sample((n,))

    def objective(self) -> Objective:
        """Maximum likelihood, exactly."""
        return Elbo()

    def evidence(self, x: Tensor, method: str | None = None, **options: Any) -> Evidence:
        """The exact log-likelihood of every row.

        Raises:
            ValueError: another method than ``"exact"``, or options.
        """
        if method not in (None, "exact") or options:
            raise ValueError(
                f"got method={method!r} and {sorted(options)}; {type(self).__name__} has method='exact' alone"
            )
        with torch.no_grad():
            values = torch.cat([self().log_prob(rows) for rows in x.split(2000)])
        return Evidence.exact(values, "density")

    def progress(self, train: Tensor, valid: Tensor) -> dict[str, float]:
        """The log-likelihood of validation rows, in nats a row."""
        return {"valid_log_likelihood": float(self.evidence(valid[:2000]).values.mean())}

    def check_data(self, x: Tensor) -> None:
        check_rows(x, self.data_shape(), type(self).__name__)

    def data_shape(self) -> torch.Size:
        return torch.Size(self().event_shape)

    def conditional_chain(self, x: Tensor, known: Tensor, warmup: int) -> Iterator[Tensor]:
        """Rows after every step of a chain each, which changes one entry at a time.

        Each unknown entry gets a normal proposal around its present value, accepted by the density's ratio (Metropolis); the
        steps of the warm-up find the width of the proposals.
        """
        dist = self()
        state = torch.where(known, x, self.sample(len(x)))
        width, score = torch.full_like(x, 0.5), dist.log_prob(state)
        columns = (~known).expand(x.shape).any(0).nonzero().flatten().tolist()
        free = (~known).expand(x.shape)
        for sweep in itertools.count():
            for column in columns:
                proposal = state.clone()
                step = width[:, column] * torch.randn(len(x), device=x.device)
                proposal[:, column] += torch.where(free[:, column], step, 0.0)
                new = dist.log_prob(proposal)
                accept = torch.rand_like(score).log() < new - score
                state = torch.where(accept.unsqueeze(1), proposal, state)
                score = torch.where(accept, new, score)
                if sweep < warmup:
                    width[:, column] *= torch.where(free[:, column], torch.where(accept, 1.1, 0.93), 1.0)
            yield state
