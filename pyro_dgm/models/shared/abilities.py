"""Abilities that a model may have beyond drawing samples: methods that raise an explanation unless a model defines them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from typing import Any

import torch
from torch import Tensor

from ...mcmc import VectorizedMCMC
from ...signatures import Option
from ...signatures import options as stated
from .evidence import Evidence

ABILITIES = ("evidence", "condition", "impute", "chains", "posterior_draws", "hidden_features", "reconstruct")
"""The methods that a model may define; it has the abilities whose methods it defines."""


class Abilities:
    """Likelihood, conditionals, chains, posterior draws and features, which some models have and others do not.

    Callers ask ``abilities()`` or call the method, and never look at a model's type.
    """

    @classmethod
    def abilities(cls) -> frozenset[str]:
        """What this model can do: those of the other methods here that it defines, by name."""
        return frozenset(name for name in ABILITIES if getattr(cls, name) is not getattr(Abilities, name))

    def evidence(self, x: Tensor, method: str | None = None, **options: Any) -> Evidence:
        """Log-likelihoods (or bounds) per row, with the error that all rows share.

        Raises:
            ValueError: the model has no likelihood, or not by this method or with these options.
        """
        raise ValueError(f"{type(self).__name__} defines no likelihood; compare its samples with data instead")

    def evidence_given(self) -> str | None:
        """The part of a row, in words, that ``evidence`` takes as known and gives no probability; None where there is none.

        Figures that are given different things do not compare.
        """
        return None

    def evidence_options(self, train: Tensor, method: str | None) -> dict[str, Any]:
        """Options of ``evidence`` that training rows provide (a base to anneal from); by default none."""
        return {}

    def evidence_arguments(self, method: str | None = None) -> dict[str, Option]:
        """The options of ``evidence`` by this method, with their types; by default those that its own signature states."""
        return {name: option for name, option in stated(type(self).evidence).items() if name not in ("x", "method")}

    def condition(
        self, x: Tensor, known: Tensor, draws: int = 100, warmup: int | None = None, thinning: int | None = None
    ) -> Tensor:
        """Draw the unknown entries given the known ones, as ``dgm.condition`` does: ``draws x rows x event_shape``.

        Raises:
            ValueError: the model has no conditionals to draw from; rows, booleans or counts that do not fit; a warm-up or
                thinning of draws that are independent.
        """
        raise ValueError(f"{type(self).__name__} has no conditionals to draw from: it gives samples alone")

    def condition_with_details(
        self, x: Tensor, known: Tensor, draws: int = 100, warmup: int | None = None, thinning: int | None = None
    ) -> tuple[Tensor, dict[str, Any]]:
        """The result of ``condition`` and details of it (the method, an effective number of draws)."""
        return self.condition(x, known, draws, warmup, thinning), {}

    def impute(self, x: Tensor, known: Tensor, draws: int = 500) -> Tensor:
        """Means of the unknown entries given the known ones, over ``draws`` draws or particles: ``rows x event_shape``.

        Raises:
            ValueError: the model has no conditionals; rows that are not of the model's shape, or fewer than two draws.
        """
        raise ValueError(f"{type(self).__name__} has no conditionals to impute by: it gives samples alone")

    def impute_with_details(self, x: Tensor, known: Tensor, draws: int = 500) -> tuple[Tensor, dict[str, Any]]:
        """The result of ``impute`` and details of it (the method, an effective number of draws)."""
        return self.impute(x, known, draws=draws), {}

    def given_columns(self) -> Tensor | None:
        """Booleans that mark the columns which are always known (lengths, labels); None where there are none."""
        return None

    def chains(self, draws: int = 500, warmup: int = 500, chains: int = 20, engine: str = "auto") -> VectorizedMCMC:
        """Run Markov chains of the model, for diagnosis.

        Raises:
            ValueError: the model has no chains; counts or an engine that do not fit.
        """
        raise ValueError(f"{type(self).__name__} has no chains to run")

    def walk(self, n: int) -> tuple[dict[str, Tensor], Callable[[dict[str, Tensor]], dict[str, Tensor]], int] | None:
        """The chain whose rows are draws: ``n`` first states, a step, and how many steps ``sample`` makes; None without one."""
        return None

    def posterior_draws(self, x: Tensor, draws: int = 500, chains: int = 4) -> dict[str, dict[str, Tensor]]:
        """Draw the latent variables given rows, by ArviZ's groups: ``chains x draws x rows x ...``.

        Raises:
            ValueError: the model has no latent variables.
        """
        if "chains" in self.abilities():
            raise ValueError(
                f"{type(self).__name__} has no latent variables to draw from a guide near their posterior; it has chains, whose "
                "draws dgm.to_arviz(model.chains()) and pyro-dgm diagnose show"
            )
        raise ValueError(
            f"{type(self).__name__} has neither chains to run nor latent variables to draw from a guide near their "
            "posterior; look at its samples (pyro-dgm sample)"
        )

    def hidden_features(self, x: Tensor) -> Tensor:
        """What the hidden units or latents say of rows, for use by other models: their means given x, ``rows x features``.

        Raises:
            ValueError: the model has neither hidden units nor latents with means given rows.
        """
        raise ValueError(f"{type(self).__name__} has no features of rows: it gives no means of hidden units or latents")

    def reconstruct(self, x: Tensor) -> Tensor:
        """The means of the columns given the ``hidden_features`` of rows: ``rows x event_shape``.

        Raises:
            ValueError: the model does not rebuild rows from features.
        """
        raise ValueError(f"{type(self).__name__} has no way from features back to a row")

    def density_columns(self, x: Tensor) -> Tensor:
        """Booleans that mark the columns of these rows whose density may grow without limit: by default all but given ones."""
        given = self.given_columns()
        return torch.ones_like(x[0], dtype=torch.bool) if given is None else ~given

    def measure(self, row: Tensor) -> str:
        """``"probability"`` where a row's figure is a log-probability, ``"density"`` where it is a log-density."""
        return "density"


def keywords(function: Callable[..., Any]) -> dict[str, Option]:
    """The arguments of a function that are given by name alone, with their types."""
    parameters = signature(function).parameters
    return {name: o for name, o in stated(function).items() if parameters[name].kind is Parameter.KEYWORD_ONLY}


def check_options(model: Abilities, options: Mapping[str, Any], known: Mapping[str, Option]) -> None:
    """Refuse options of a likelihood that are not among the known ones.

    Raises:
        ValueError: an unknown option; the message lists the known ones.
    """
    if unknown := sorted(set(options) - set(known)):
        raise ValueError(
            f"log_likelihood got the option {unknown[0]!r}; {type(model).__name__} has {', '.join(sorted(known)) or 'none'}"
        )
