"""The base of Boltzmann models of some columns given the others: one machine for every row."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import pyro
import torch
from torch import Tensor

from ...checks import check_choice, check_columns, check_count
from ...distributions.given_rows import GivenRows
from ...energy import BoltzmannDistribution, LogPartition, Machine
from ...energy.mean_field import mean_field
from ...mcmc import VectorizedMCMC, default_kernel
from ...objectives.objective import Objective
from .abilities import check_options
from .boltzmann import BoltzmannModel, visible_given
from .chain_details import chain_figures, projections, worst
from .conditioning import check_condition, check_imputation
from .evidence import Evidence, between
from .many_machines import at_once, log_partitions
from .rows import PROGRESS_ROWS, check_rows


class PairColumns(BoltzmannModel):
    """A Boltzmann model of rows that hold inputs and then outputs.

    Attributes:
        visible: the number of columns of a row.
        inputs: the number of its first columns, the inputs.
    """

    takes_missing = False
    visible: int
    inputs: int

    def _set_columns(self, visible: int, inputs: int) -> int:
        """Check the numbers of columns and of inputs, keep them, and return the number of outputs.

        Raises:
            ValueError: a number below one, or no outputs.
        """
        visible, inputs = check_columns(visible, 2), check_count("inputs", inputs, what="the given columns")
        if inputs >= visible:
            raise ValueError(f"inputs got {inputs} of {visible} columns; expected fewer, so that some are outputs")
        self.visible, self.inputs = visible, inputs
        return visible - inputs

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and outputs of rows."""
        given, outputs = x.split([self.inputs, self.visible - self.inputs], -1)
        return given, outputs

    def row_shape(self, x: Tensor) -> torch.Size:
        return torch.Size([self.visible])


class GivenColumnsModel(PairColumns):
    r"""A Boltzmann model of outputs given inputs, $p(y \mid x) = e^{-F(y; x)} / Z(x)$: every row has a machine of its own.

    All likelihoods are those of the outputs given the inputs, which have no law here; they are normalised row by row.
    ``model(x)`` has the site ``"x"``, whole rows.
    """

    @abstractmethod
    def forward(self, given: Tensor | None = None) -> BoltzmannDistribution:
        """The distribution of the outputs.

        Args:
            given: inputs, ``batch_shape x inputs``; by default zeros.
        """

    def no_inputs(self, rows: int) -> Tensor:
        """Inputs of zeros."""
        return next(self.parameters()).new_zeros(rows, self.inputs)

    def generate(self, x: Tensor | None = None, size: int | None = None, given: Tensor | None = None) -> Tensor:
        if x is not None:
            given = self.split(x)[0]
        elif given is None:
            given = self.no_inputs(size or 1)
        outputs = self(given)
        with self.data_plate(x, size):
            return pyro.sample("x", GivenRows(outputs, given, first=True), obs=x)

    def sample(self, n: int, sweeps: int = 1000, given: Tensor | None = None) -> Tensor:
        """Draw ``n`` rows: exactly from small machines, else as the last states of Gibbs chains.

        Args:
            n: the number of rows.
            sweeps: the length of a chain.
            given: the inputs of every row, ``n x inputs``, or of all, ``inputs``; by default zeros.

        Raises:
            ValueError: inputs of another shape.
        """
        given = self.no_inputs(n) if given is None else given
        if given.shape not in ((self.inputs,), (n, self.inputs)):
            raise ValueError(
                f"given got {tuple(given.shape)}; expected the inputs of {n} rows, ({n}, {self.inputs}), or of all, "
                f"({self.inputs},)"
            )
        given = given.expand(n, self.inputs)
        with torch.no_grad():
            return torch.cat([given, self(given).sample((), sweeps)], -1)

    def objective(  # type: ignore[override]
        self,
        kind: Literal["cd", "exact"] = "cd",
        k: int | tuple[int, int] | None = None,
        precision: Literal["float32", "bfloat16"] = "float32",
        rates: dict[str, float] | None = None,
        sparsity: float | dict[str, float] | None = None,
        sparsity_weight: float | None = None,
    ) -> Objective:
        """The likelihood's gradient with a negative phase: ``"cd"``, or ``"exact"`` for small machines.

        Persistent chains would need one for every row, whose machine changes with its inputs only.

        Args:
            kind: the negative phase's name.
            k: sweeps of the chains per gradient step, 1 by default, or a pair (``dgm.CD``); the exact phase has none.
            precision: the precision of the chains' sweeps, as in ``dgm.BlockGibbs``.
            rates: factors of the learning rate by the names of parameters, 1 for the others. Weights of inputs often need
                smaller steps than those of hidden units.
            sparsity: the share of rows in which hidden units are to be on (``dgm.Sparsity``), or one per layer by name.
            sparsity_weight: its weight, 1 by default.

        Raises:
            ValueError: an unknown kind, or an option of another kind; at ``fit``, a rate of a parameter that there is not.
        """
        check_choice("kind", kind, ("cd", "exact"))
        objective = super().objective(kind, k, precision=precision, sparsity=sparsity, sparsity_weight=sparsity_weight)
        if rates is not None:
            objective.rates = dict(rates)  # type: ignore[attr-defined]
        return objective

    def joined(self, state: Mapping[str, Tensor]) -> Tensor:
        """The rows of the states of a machine without given inputs, which then are zeros."""
        outputs = super().joined(state)
        return torch.cat([self.no_inputs(len(outputs)).to(outputs), outputs], -1)

    def machine_of(self, x: Tensor) -> tuple[Machine, dict[str, Tensor]]:
        given, outputs = self.split(x)
        dist = self(given)
        return dist.machine, {dist.visible: outputs}

    def reconstruct(self, x: Tensor, rounds: int = 10) -> Tensor:
        """The inputs as they are, and the outputs' means given the hidden units' means."""
        return torch.cat([self.split(x)[0], self.split(super().reconstruct(x, rounds))[1]], -1)

    def given_columns(self) -> Tensor:
        """The inputs."""
        return torch.arange(self.visible) < self.inputs

    def evidence_given(self) -> str:
        return f"the first {self.inputs} columns"

    def evidence(self, x: Tensor, method: str | None = None, **options: Any) -> Evidence:
        r"""$\log p(y \mid x) = -F(y; x) - \log Z(x)$ of every row, each log Z exact or by annealing from the row's own biases.

        Args:
            x: data.
            method: ``"exact"``, ``"ais"`` or ``"bridge"``. By default exact where all rows' states can be listed and no
                option asks for annealing, else ``"ais"``.
            options: those of ``dgm.log_partition``.
        """
        check_options(self, options, self.evidence_arguments(method))
        log_z = self.log_partition(x, method, **options)
        given, outputs = self.split(x)
        with torch.no_grad():
            size = at_once(self(given[:1]), 1)
            pairs = zip(*(part.split(size) for part in (given, outputs)), strict=True)
            free_energies = torch.cat([self(g).free_energy(y) for g, y in pairs])
        return between(-free_energies - log_z.value, log_z)

    def evidence_options(self, train: Tensor, method: str | None) -> dict[str, Any]:
        return {}

    def log_partition(self, rows: Tensor, method: str | None = None, **options: Any) -> LogPartition:
        """Log Z of every row's machine, in nats: ``rows``.

        Args:
            rows: data.
            method: ``"exact"``, ``"ais"`` or ``"bridge"``, as for ``evidence``.
            options: those of ``dgm.log_partition``.

        Raises:
            ValueError: as ``dgm.log_partition``.
        """
        return log_partitions(self, self.split(rows)[0], method, **options)

    def condition_with_details(
        self, x: Tensor, known: Tensor, draws: int = 100, warmup: int | None = None, thinning: int | None = None
    ) -> tuple[Tensor, dict[str, Any]]:
        """Draw unknown outputs by one clamped chain per row; inputs are always known."""
        warmup, thinning = check_condition(x, known, draws, warmup, thinning)
        known = known.expand(x.shape) | self.given_columns().to(x.device)
        given, outputs = self.split(x)
        if not given.isfinite().all():
            raise ValueError(
                f"x has inputs (its first {self.inputs} columns) that are not finite; these must all be known"
            )
        dist = self(given)
        clamp = {dist.visible: (known[:, self.inputs :], outputs.nan_to_num())}
        mcmc = VectorizedMCMC(
            default_kernel(dist)(dist, clamp=clamp), draws, warmup, num_chains=1, save_params=[dist.visible], thinning=thinning,
            disable_progbar=True,
        )  # fmt: skip
        mcmc.run()
        drawn = mcmc.get_samples(group_by_chain=True)[dist.visible].squeeze(0)
        rows = torch.cat([given.expand(draws, *given.shape), drawn], -1)
        details = {"method": f"chains ({type(mcmc.kernel).__name__})", **chain_figures(projections(rows, known))}
        return rows, details

    def condition(
        self, x: Tensor, known: Tensor, draws: int = 100, warmup: int | None = None, thinning: int | None = None
    ) -> Tensor:
        return self.condition_with_details(x, known, draws, warmup, thinning)[0]

    def impute_with_details(self, x: Tensor, known: Tensor, draws: int = 500) -> tuple[Tensor, dict[str, Any]]:
        """Means of unknown outputs over the draws of clamped chains, after as many sweeps of warm-up."""
        check_imputation(x, known, torch.Size([self.visible]), draws)
        known = known.expand(x.shape)
        size, parts, found = at_once(self(), draws), [], []
        for rows, mask in zip(x.split(size), known.split(size), strict=True):
            drawn, details = self.condition_with_details(rows, mask, draws, draws)
            parts.append(torch.where(mask, rows, drawn.mean(0)))
            found.append(details)
        return torch.cat(parts), worst(found)

    def impute(self, x: Tensor, known: Tensor, draws: int = 500) -> Tensor:
        return self.impute_with_details(x, known, draws)[0]

    def progress(self, train: Tensor, valid: Tensor) -> dict[str, float]:
        """The validation rows' log-probability given the hidden units' means given them: a reconstruction, no likelihood."""
        with torch.no_grad():
            given, outputs = self.split(valid[:PROGRESS_ROWS])
            machine = self(given).machine
            hidden = mean_field(machine, {"visible": outputs}, 1).statistics
            return {"valid_reconstruction": float(visible_given(machine, outputs, hidden).mean())}

    def check_data(self, x: Tensor) -> None:
        check_rows(x, torch.Size([self.visible]), type(self).__name__)
        super().check_data(x[:, self.inputs :])

    def initialise(self, x: Tensor) -> None:
        super().initialise(self.split(x)[1])
