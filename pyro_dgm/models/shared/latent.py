"""The base of directed models with latent variables: samples, posterior draws, evidence by importance weights or annealing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal, get_args

import pyro
import torch
from pyro import poutine
from pyro.infer import ELBO, Trace_ELBO
from torch import Tensor

from ... import processes, progress
from ...annealing.coordinates import SCALES
from ...annealing.latents import anneal, annealed_log_weights
from ...annealing.normalisers import AnnealedNormalisers
from ...annealing.weights import log_mean_exp
from ...checks import check_belongs, check_choice, check_count
from ...inference.importance import log_weights
from ...inference.means import latent_means, mean_given
from ...inference.pareto import pareto
from ...inference.posterior import metropolis_step, posterior_draws
from ...inference.sites import site_of_rows
from ...inference.unknown_entries import redrawn
from ...objectives.estimators.multi_sample import IWAE, DReG
from ...objectives.objective import Elbo, Objective
from ...signatures import Option
from ...signatures import options as stated
from .chain_details import Step
from .conditioning import ChainModel
from .evidence import WIDTH, Evidence

METHODS: dict[str, dict[str, Any]] = {
    "importance": {"particles": 5000, "rows": 4000},
    "ais": {"temperatures": 100, "chains": 16, "num_steps": 5, "rows": 4000},
}
"""The methods of ``evidence`` and their options with defaults."""

Bound = Literal["elbo", "iwae", "dreg"]
"""The bounds that latent-variable models are trained on."""

OVERSAMPLE = 10
"""Proposals from the guide for every posterior draw that is kept."""

PROPOSED_VALUES = 20_000_000
"""Proposals times columns of a batch of posterior draws; it bounds the memory."""

WEIGHED_ROWS = 100
"""Rows whose importance weights are computed together; ``rows`` bounds the memory further."""


class LatentVariableModel(ChainModel):
    """A Pyro model with latent sites and a guide for them.

    Attributes:
        evidence_methods: the methods of ``evidence`` and their options with defaults; a subclass that adds one lists it here.
        default_method: the one that is taken where none is named.
    """

    evidence_methods: ClassVar[dict[str, dict[str, Any]]] = METHODS
    default_method: ClassVar[str] = "importance"

    def sample(self, n: int) -> Tensor:
        """Draw ``n`` independent rows by ancestral sampling."""
        with torch.no_grad():
            return self.model(None, n)

    def sample_means(self, n: int) -> Tensor:
        """The means of rows given latents drawn from the prior, which published pictures show: ``n x visible``.

        They are no draws of the model: they lack the noise of $p(x | z)$, and pictures of them look smoother.

        Raises:
            NotImplementedError: rows given latents have no mean.
        """
        with torch.no_grad():
            mean: Tensor = site_of_rows(poutine.trace(self.model).get_trace(None, n))["fn"].mean
        return mean

    def progress(self, train: Tensor, valid: Tensor) -> dict[str, float]:
        """The ELBO on the validation rows, in nats per row."""
        elbo = Trace_ELBO(max_plate_nesting=1)
        with torch.no_grad():
            return {"valid_elbo": -float(elbo.loss(self.model, self.guide, valid)) / len(valid)}

    def data_shape(self) -> torch.Size:
        return self.sample(1).shape[1:]

    def conditional_chain(self, x: Tensor, known: Tensor, warmup: int) -> Iterator[Step]:
        r"""Yield the state after every step of one chain per row, by Metropolis within Gibbs (Mattei and Frellsen 2018).

        Latents are proposed from the guide and accepted by their importance weights, so that the chain's law is
        $p(x_a, z \mid x_b)$; then the unknown entries are drawn from $p(x_a \mid x_b, z)$, or moved by a step of a chain that
        tends to it (``redrawn``) where columns depend on one another given the latents.
        """
        current = torch.where(known, x, self.sample(len(x)))
        latents = poutine.trace(self.guide).get_trace(current)
        while True:
            moved = metropolis_step(self.model, self.guide, latents, current)
            latents = moved.latents
            given = poutine.trace(poutine.replay(self.model, trace=latents)).get_trace(current)
            current = redrawn(site_of_rows(given)["fn"], current, known.expand(x.shape))
            yield Step(current, moved.accepted, moved.log_joint, moved.log_weights)

    def posterior_draws(self, x: Tensor, draws: int = 500, chains: int = 4) -> dict[str, dict[str, Tensor]]:
        """Draw latents by sampling importance resampling from the guide, with log p(x | z) and replicated data."""
        rows = max(1, PROPOSED_VALUES // (OVERSAMPLE * draws * x[0].numel()))
        batches = [
            [
                posterior_draws(self.model, self.guide, batch, draws=draws, proposals=OVERSAMPLE * draws)
                for _ in range(chains)
            ]
            for batch in x.split(rows)
        ]

        def joined(group: str, name: str) -> Tensor:
            by_chain = [torch.cat([batch[chain][group][name] for batch in batches], 1) for chain in range(chains)]
            return torch.stack(by_chain)

        return {group: {name: joined(group, name) for name in names} for group, names in batches[0][0].items()}

    def hidden_features(self, x: Tensor) -> Tensor:
        """The means of the latents under the guide, site after site in its order, each given the means of those before.

        Args:
            x: rows.

        Returns:
            ``rows x features``.

        Raises:
            ValueError: a latent has no mean.
        """
        return torch.cat([mean.flatten(1) for mean in self._latent_means(x).values()], -1)

    def reconstruct(self, x: Tensor) -> Tensor:
        """The mean of $p(x \\mid z)$ at the latents' means (of bits their probabilities): ``rows x event_shape``."""
        try:
            return mean_given(self.model, self._latent_means(x), x)
        except NotImplementedError:
            return super().reconstruct(x)

    def _latent_means(self, x: Tensor) -> dict[str, Tensor]:
        try:
            return latent_means(self.guide, x)
        except NotImplementedError:
            super().hidden_features(x)
            raise

    def evidence(self, x: Tensor, method: str | None = None, **options: Any) -> Evidence:
        r"""A lower bound of the log-likelihood of every row: $E \log \frac1K \sum_k w_k \le \log p(x)$ (20.79).

        With ``"importance"`` the K weights are those of draws from the guide. With ``"ais"`` every weight comes from a chain
        annealed from the guide to the posterior (``dgm.annealed_log_weights``): slower, and tighter where the guide is far
        from the posterior. Switch dropout off for it (``.eval()``).

        Args:
            x: data.
            method: ``"importance"`` or ``"ais"``; by default ``default_method``.
            options: for ``"importance"`` the number ``particles``, K (with one the error is unknown, and the figure says
                so). For ``"ais"`` ``temperatures``, the number ``chains``, K (at least 2), and ``num_steps``. For both
                ``rows``, decoder rows of one pass, which bounds the memory and changes nothing else.

        Raises:
            ValueError: another method or option, or a count out of range.
        """
        method = method or self.default_method
        chosen = self.method_options(method, options)
        if method == "ais":
            return self._annealed(x, **chosen)
        return self._importance_weighted(self.model, x, **chosen)

    def evidence_arguments(self, method: str | None = None) -> dict[str, Option]:
        of_annealing = stated(annealed_log_weights)
        return {
            name: Option(of_annealing[name].hint if name in of_annealing else type(default), default, "")
            for name, default in self.method_options(method or self.default_method, {}).items()
        }

    def method_options(self, method: str, options: dict[str, Any]) -> dict[str, Any]:
        """The options of a method of ``evidence``, with defaults for those that are not given.

        Raises:
            ValueError: the model has no such method, or the method no such option; the message lists all.
        """
        methods = self.evidence_methods
        if method not in methods or set(options) - set(methods[method]):
            known = "; ".join(
                f"method={name!r} with {', '.join(names) or 'no options'}" for name, names in methods.items()
            )
            given = f" and {sorted(options)}" if options else ""
            raise ValueError(f"log_likelihood got method={method!r}{given}; {type(self).__name__} has {known}")
        return {**methods[method], **options}

    def _importance_weighted(self, model: Any, x: Tensor, particles: int, rows: int) -> Evidence:
        """The bound under ``model``, the model's program or one with handlers around it."""
        normalisers = AnnealedNormalisers()
        batches = self._log_weights(normalisers.around(model), x, particles, rows)
        method = f"importance-weighted lower bound, K={particles}{normalisers.said()}"
        return _bound(batches, method, {"particles": particles})

    def _log_weights(self, model: Any, x: Tensor, particles: int, rows: int) -> list[Tensor]:
        """Log weights of draws from the guide under a program, in batches of ``particles x rows``."""
        mine = processes.share(check_count("particles", particles), "particles")

        def weights(batch: Tensor) -> Tensor:
            chunk = max(rows // len(batch), 1)
            counts = (min(chunk, mine - start) for start in range(0, mine, chunk))
            chunks = [log_weights(model, self.guide, batch, particles=count) for count in counts]
            return processes.gather(torch.cat(chunks))

        # Distributions would check their parameters for every particle; the data were checked once.
        with torch.no_grad(), pyro.validation_enabled(False), processes.own_stream():
            return [weights(batch) for batch in progress.steps(x.split(WEIGHED_ROWS), "batches of rows")]

    def _annealed(self, x: Tensor, temperatures: Any, chains: int, num_steps: int, rows: int) -> Evidence:
        """The bound by annealing from the guide."""
        chains = check_count("chains", chains, 2, why=", without which annealing cannot tell its error")
        mine = processes.share(chains, "chains")
        batches = x.split(max(rows // max(mine, SCALES), 1))
        with processes.own_stream():
            runs = [anneal(self.model, self.guide, (b,), {}, temperatures, mine, num_steps) for b in batches]
        runs = [run._replace(log_weights=processes.gather(run.log_weights)) for run in runs]
        count = temperatures if isinstance(temperatures, int) else len(temperatures)
        method = f"lower bound by annealing from the guide, {count} temperatures, {chains} chains"
        details: dict[str, float] = {"temperatures": count, "chains": chains}
        for kind in runs[0].acceptance:
            rate = sum(run.acceptance[kind] * run.log_weights.shape[1] for run in runs) / len(x)
            details[f"acceptance_rate_{kind}"] = float(processes.mean(torch.tensor(rate, dtype=torch.float64), mine))
        return _bound([run.log_weights for run in runs], method, details)


def bound_objective(
    kind: str,
    particles: int,
    elbo: type[ELBO] = Trace_ELBO,
    kinds: Sequence[str] = get_args(Bound),
    kl_weight: float | None = None,
    kl_warmup: float | None = None,
) -> Objective:
    """The objective that maximises the bound of that name.

    Args:
        kind: one of ``kinds``.
        particles: draws per row.
        elbo: the estimator of the ELBO.
        kinds: the names that the model has.
        kl_weight, kl_warmup: of ``"elbo"``, as for ``dgm.Elbo``; None for 1 and 0.

    Raises:
        ValueError: an unknown bound, or a weight for another than ``"elbo"``.
    """
    check_choice("kind", kind, kinds)
    check_belongs("kind", kind, ["elbo"], kl_weight=kl_weight, kl_warmup=kl_warmup)
    if kind == "elbo":
        estimator = elbo(max_plate_nesting=1, num_particles=particles, vectorize_particles=particles > 1)
        return Elbo(estimator, 1.0 if kl_weight is None else kl_weight, kl_warmup or 0.0)
    return Elbo(IWAE(particles) if kind == "iwae" else DReG(particles))


def _bound(batches: list[Tensor], method: str, details: dict[str, float]) -> Evidence:
    """The lower bound from batches of log weights, ``particles x rows`` each."""
    bounds, errors = zip(*(log_mean_exp(weights) for weights in batches), strict=True)
    sizes = torch.cat([1 / torch.softmax(weights, 0).square().sum(0) for weights in batches])
    error = torch.cat(errors)
    stderr = float(error.square().sum().sqrt() / len(error)) if len(batches[0]) > 1 else math.nan
    return Evidence(
        torch.cat(bounds),
        kind="lower bound",
        method=method,
        stderr=stderr,
        lower=-math.inf if math.isnan(stderr) else -WIDTH * stderr,
        upper=math.inf,
        details={**details, "effective_sample_size": float(sizes.mean()), **pareto(batches[0])},
    )
