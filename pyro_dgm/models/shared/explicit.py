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

from ... import progress
from ...objectives.objective import Elbo, Objective
from .chain_details import Step
from .conditioning import ChainModel
from .evidence import Evidence
from .rows import ROWS_AT_ONCE, check_rows


class ExplicitModel(ChainModel):
    """A model whose call returns a distribution of rows with exact log-probabilities and draws."""

    @abstractmethod
    def forward(self) -> TorchDistribution:
        """The distribution of a row."""

    def of_rows(self, x: Any) -> tuple[TorchDistribution, Any]:
        """The distribution of rows, and the rows; of models that take missing values (NaN), that of the known ones alone."""
        return self(), x

    def generate(self, x: Tensor | None = None, size: int | None = None) -> Tensor:
        fn, rows = self.of_rows(x)
        with self.data_plate(x, size):
            return pyro.sample("x", fn, obs=rows)

    def infer(self, *args: Any, **kwargs: Any) -> Any:
        """The guide is empty, since there are no latent sites."""

    def sample(self, n: int) -> Tensor:
        """Draw ``n`` independent rows."""
        with torch.no_grad():
            return self().sample((n,))

    def objective(self) -> Objective:
        """Exact maximum likelihood."""
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
            parts = progress.steps(x.split(ROWS_AT_ONCE), "batches of rows")
            values = torch.cat([fn.log_prob(rows) for fn, rows in map(self.of_rows, parts)])
        return Evidence.exact(values, "density")

    def progress(self, train: Tensor, valid: Tensor) -> dict[str, float]:
        """The log-likelihood of the first validation rows, in nats per row."""
        return {"valid_log_likelihood": float(self.evidence(valid[:ROWS_AT_ONCE]).values.mean())}

    def check_data(self, x: Tensor) -> None:
        check_rows(x, self.data_shape(), type(self).__name__, missing=self.takes_missing)

    def data_shape(self) -> torch.Size:
        return torch.Size(self().event_shape)

    def conditional_chain(self, x: Tensor, known: Tensor, warmup: int) -> Iterator[Step]:
        """Yield the state after every sweep of one Metropolis chain per row, which changes one entry at a time.

        Each unknown entry gets a normal proposal around its present value, accepted by the ratio of the densities. The
        sweeps of the warm-up adapt the width of the proposals.
        """
        dist = self()
        state = torch.where(known, x, self.sample(len(x)))
        width, log_density = torch.full_like(x, 0.5), dist.log_prob(state)
        columns = (~known).expand(x.shape).any(0).nonzero().flatten().tolist()
        free = (~known).expand(x.shape)
        for sweep in itertools.count():
            moved = torch.zeros_like(log_density)
            for column in columns:
                proposal = state.clone()
                step = width[:, column] * torch.randn(len(x), device=x.device)
                proposal[:, column] += torch.where(free[:, column], step, 0.0)
                proposed = dist.log_prob(proposal)
                accept = torch.rand_like(log_density).log() < proposed - log_density
                state = torch.where(accept.unsqueeze(1), proposal, state)
                log_density = torch.where(accept, proposed, log_density)
                moved += accept & free[:, column]
                if sweep < warmup:
                    width[:, column] *= torch.where(free[:, column], torch.where(accept, 1.1, 0.93), 1.0)
            share = torch.where(free.any(1), moved / free.sum(1).clamp_min(1), 1.0)
            yield Step(state, share, log_density)
