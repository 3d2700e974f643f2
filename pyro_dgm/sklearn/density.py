"""Any model with a likelihood as a density estimator."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import DensityMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from ..models.shared.abilities import check_options
from .estimator import ModelEstimator
from .validation import checked_options


class DensityEstimator(DensityMixin, ModelEstimator):
    r"""A model as scikit-learn's density estimators are: $\log p(x)$ of rows, and rows drawn from p.

    The figures are ``dgm.log_likelihood``'s, exact where the model's are, else estimates or bounds (``kind_``). Of models of real
    numbers they are densities in the units of the data. Grey levels count as the nearer bits.

    Args:
        model: the name of a model, as ``pyro-dgm list`` shows it, or ``path/to/file.py:Class``.
        options: the model's arguments, as ``{"hidden": 50}``.
        objective: those of its objective, as ``{"kind": "cd", "k": 5}``.
        epochs, batch_size, learning_rate: passes over the data, rows a step, first step size.
        training: other arguments of ``dgm.fit``, as ``{"decay": "linear"}``; for ``patience``, ``keep="best"`` and
            ``decay="ReduceLROnPlateau"`` a tenth of the rows is held out.
        random_state: a seed, a ``RandomState`` or None, as everywhere in scikit-learn.
        evidence: options of the likelihood, as ``{"particles": 500}`` or ``{"method": "ais"}``.

    Attributes:
        model_: the trained model, which the whole package accepts.
        units_: what columns are shifted and divided by.
        history_: a row for every epoch.
        kind_: what ``score_samples`` gave last: ``"exact"``, ``"estimate"`` or a bound.
        n_features_in_, n_iter_: the number of columns, and of passes made.

    Raises:
        ValueError: at ``fit``, a model without a likelihood, or options that cannot work.

    Example:
        >>> import numpy as np, pyro_dgm as dgm
        >>> X = np.random.default_rng(0).normal([3.0, -5.0], [2.0, 0.1], (200, 2))
        >>> density = dgm.sklearn.DensityEstimator("affinegenerator", random_state=0).fit(X)
        >>> density.score(X) > density.score(X + 1), density.sample(4).shape
        (True, (4, 2))
    """

    def __init__(
        self,
        model: str = "rbm",
        options: dict[str, Any] | None = None,
        *,
        objective: dict[str, Any] | None = None,
        epochs: int = 20,
        batch_size: int = 20,
        learning_rate: float = 0.01,
        training: dict[str, Any] | None = None,
        random_state: Any = None,
        evidence: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            model, options, objective=objective, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate,
            training=training, random_state=random_state,
        )  # fmt: skip
        self.evidence = evidence

    @classmethod
    def _lacks(cls, model: Any) -> str | None:
        return cls._lacks_ability(model, "evidence", "has no likelihood")

    def _evidence(self) -> dict[str, Any]:
        return checked_options("evidence", self.evidence, "{'method': 'ais'}")

    def _check_questions(self) -> None:
        options = self._evidence()
        method = options.pop("method", None)
        check_options(self.model_, options, self.model_.evidence_arguments(method))

    def score_samples(self, X: Any) -> np.ndarray:
        r"""$\log p(x)$ of rows, in nats."""
        _, x = self._rows(X)
        with self._seeded(), torch.no_grad():
            found = self.model_.evidence(self._bits(x), **self._evidence())
        self.kind_ = found.kind
        return np.asarray(found.values.numpy() + self.units_.log_determinant)

    def score(self, X: Any, y: Any = None) -> float:
        r"""The mean of $\log p(x)$ over rows, in nats per row."""
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1, random_state: Any = None) -> np.ndarray:
        """Draw rows, ``n_samples x features``; without a ``random_state`` those of the estimator."""
        check_is_fitted(self)
        seed = None if random_state is None else int(check_random_state(random_state).randint(2**31 - 1))
        with self._seeded(seed), torch.no_grad():
            return self.units_.undo(self.model_.sample(n_samples))
