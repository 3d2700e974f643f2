"""What a model may be able to do beyond drawing samples: methods that refuse in words where a model does not define them."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, signature
from typing import Any

from torch import Tensor

from ...mcmc import VectorizedMCMC
from .evidence import Evidence

ABILITIES = ("evidence", "condition", "impute", "chains", "posterior_draws")
"""The methods by which callers ask; what a model can do is what it defines."""


class Abilities:
    """Likelihood, conditionals, chains and posterior, none of which every model has.

    Callers ask ``abilities()`` or call the method; nobody asks for a model's type.
    """

    @classmethod
    def abilities(cls) -> frozenset[str]:
        """The names in ``ABILITIES`` that this model defines."""
        return frozenset(name for name in ABILITIES if getattr(cls, name) is not getattr(Abilities, name))

    def evidence(self, x: Tensor, method: str | None = None, **options: Any) -> Evidence:
        """Log-likelihoods (or bounds) per row, with the error that all rows share.

        Raises:
            ValueError: the model has no likelihood, or not by this method or with these options.
        """
        raise ValueError(f"{type(self).__name__} defines no likelihood; compare its samples with data instead")

    def evidence_options(self, train: Tensor, method: str | None) -> dict[str, Any]:
        """Options of ``evidence`` for which training rows are good (a base to anneal from); by default none."""
        return {}

    def condition(
        self, x: Tensor, known: Tensor, draws: int = 100, warmup: int | None = None, thinning: int | None = None
    ) -> Tensor:
        """Draws of the unknown entries given the known ones, as ``dgm.condition``: ``draws x rows x event_shape``.

        Raises:
            ValueError: the model has no conditionals to draw from; rows, booleans or counts that do not fit; a warm-up or
                thinning of draws that are independent.
        """
        raise ValueError(f"{type(self).__name__} has no conditionals to draw from: it gives samples alone")

    def impute(self, x: Tensor, known: Tensor, draws: int = 500) -> Tensor:
        """Means of the entries where ``known`` is False given the others, of so many draws or particles: ``rows x event_shape``.

        Raises:
            ValueError: the model has no conditionals; no rows of the model's shape, or fewer than two draws.
        """
        raise ValueError(f"{type(self).__name__} has no conditionals to impute by: it gives samples alone")

    def impute_with_details(self, x: Tensor, known: Tensor, draws: int = 500) -> tuple[Tensor, dict[str, Any]]:
        """The result of ``impute``, and what is worth knowing about it (a method, an effective number of draws)."""
        return self.impute(x, known, draws=draws), {}

    def given_columns(self) -> Tensor | None:
        """Which columns of a row are never unknown (lengths, labels), as booleans; None where there are none."""
        return None

    def chains(self, draws: int = 500, warmup: int = 500, chains: int = 20, engine: str = "torch") -> VectorizedMCMC:
        """Markov chains of the model that have run, for diagnosis.

        Raises:
            ValueError: the model has no chains; counts or an engine that do not fit.
        """
        raise ValueError(f"{type(self).__name__} has no chains to run")

    def posterior_draws(self, x: Tensor, draws: int = 500, chains: int = 4) -> dict[str, dict[str, Tensor]]:
        """Draws of the latent variables given rows, by ArviZ's groups: ``chains x draws x rows x ...``.

        Raises:
            ValueError: the model has no latent variables.
        """
        raise ValueError(
            f"{type(self).__name__} has neither chains to run nor latent variables to draw; see its evidence and samples "
            "(pyro-dgm evaluate, pyro-dgm sample)"
        )

    def measure(self, row: Tensor) -> str:
        """Whether figures count values (``"probability"``) or measure them (``"density"``)."""
        return "density"


def check_options(model: Abilities, options: dict[str, Any], *functions: Callable[..., Any]) -> None:
    """Refuse options of ``evidence`` that none of the functions behind it takes.

    Raises:
        ValueError: one that is unknown; the message lists those there are.
    """
    known = {
        name for function in functions for name, p in signature(function).parameters.items() if p.kind is Parameter.KEYWORD_ONLY
    }  # fmt: skip
    if strange := sorted(set(options) - known):
        raise ValueError(
            f"log_likelihood got the option {strange[0]!r}; {type(model).__name__} has {', '.join(sorted(known)) or 'none'}"
        )
