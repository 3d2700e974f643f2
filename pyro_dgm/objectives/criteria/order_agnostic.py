"""Order-agnostic training: any column predicted from any subset of the others (section 20.10.10)."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ..objective import Objective


class SubsetPredictor(Protocol):
    """A model of every column given any known columns."""

    def column_terms(self, x: Tensor, known: Tensor) -> Tensor:
        """Log-probabilities of all columns given the known ones: ``rounds x rows x D``."""
        ...


class OrderAgnostic(Objective):
    r"""Minus the log-likelihood of a random order, estimated in one pass (Uria, Murray and Larochelle 2014).

    Each row of a batch gets a number d of known columns, uniform in 0 to D - 1, and a uniform subset of that size:

    $\ell(x) = \frac{D}{D - d} \sum_{i\ \mathrm{unknown}} -\log p(x_i \mid x_{\mathrm{known}})$.

    Given the subset, the next column of a uniform order is uniform among the unknown ones; so the mean of $\ell$ is the
    sum over places d of the mean loss there: $E[\ell(x)] = E_o[-\log p(x \mid o)]$ over all D! orders. By
    Jensen's inequality this is an upper bound on $-\log \frac{1}{D!} \sum_o p(x \mid o)$, minus the log-likelihood of
    the mixture of all orders (20.84). For a mixture of M orders drawn independently, the mean of minus its log-likelihood
    over choices of the orders lies between the two, and is the loss at M = 1.

    Where a model infers in rounds (NADE-k), the losses of all rounds are averaged, as Raiko et al. (2014) do; the bound is
    then the mean of the rounds' bounds.

    The loss is in nats per row. The shares of known columns are stratified over the batch; the law of a single row's mask
    does not change.

    Example:
        >>> import pyro_dgm as dgm
        >>> nade, x = dgm.OrderlessNADE.example()
        >>> len(dgm.fit(nade, x, objective=dgm.OrderAgnostic(), epochs=1, progress=False).history)
        1
    """

    def attach(self, model: SubsetPredictor) -> None:
        self._model = model

    def loss(self, x: Tensor) -> Tensor:
        return subset_loss(self._model, x, random_subsets(len(x), x.shape[1], x.device, observed=~x.isnan())).mean()


def subset_loss(model: SubsetPredictor, x: Tensor, known: Tensor) -> Tensor:
    r"""$\frac{D}{D - d} \sum_{i\ \mathrm{unknown}} -\log p(x_i \mid x_{\mathrm{known}})$ of every row, averaged over rounds.

    A missing value (NaN) is neither known nor scored, and D is then the number of the others: by the same argument the mean is
    that of a random order of the columns that the row has.

    Args:
        model: gives the log-probabilities.
        x: ``rows x D``.
        known: booleans, ``rows x D``, False for some value of every row that has any.
    """
    observed = ~x.isnan()
    known = known & observed
    terms = model.column_terms(torch.where(observed, x, 0.0), known).mean(0)
    scored = observed & ~known
    share = observed.sum(-1) / scored.sum(-1).clamp_min(1)
    return -torch.where(scored, terms, 0.0).sum(-1) * share


def random_subsets(
    rows: int,
    columns: int,
    device: torch.device | None = None,
    generator: torch.Generator | None = None,
    observed: Tensor | None = None,
) -> Tensor:
    """Masks of known columns, ``rows x D``: their number uniform in 0 to D - 1, the subset uniform given its size.

    Columns are known independently with a share that is uniform in (0, 1), which makes their number uniform in 0 to D; rows
    without an unknown column are drawn again. The shares of different rows are stratified. Of rows with missing values,
    ``observed`` tells which columns they have; among these the law is the same.
    """
    there = torch.ones(rows, columns, dtype=torch.bool, device=device) if observed is None else observed
    some = there.any(1)

    def draw(shares: Tensor) -> Tensor:
        return torch.rand(len(shares), columns, device=device, generator=generator) < shares.unsqueeze(1)

    places = torch.randperm(rows, device=device, generator=generator)
    known = draw((places + torch.rand(rows, device=device, generator=generator)) / rows)
    while bool((full := (known | ~there).all(1) & some).any()):
        known[full] = draw(torch.rand(int(full.sum()), device=device, generator=generator))
    return known
