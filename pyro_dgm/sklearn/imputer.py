"""Any model with conditionals as an imputer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import OneToOneFeatureMixin, TransformerMixin

from ..checks import check_count
from .estimator import ModelEstimator


class ModelImputer(OneToOneFeatureMixin, TransformerMixin, ModelEstimator):
    """Missing values (NaN) replaced by their means given the known ones, under a model of the rows.

    Models that sum missing values out are trained on all rows, others on the complete ones. Known values stay as they are.

    Args:
        model, options, objective, epochs, batch_size, learning_rate, training, random_state: as of ``DensityEstimator``.
        draws: draws or particles that are averaged.

    Attributes:
        model_, units_, history_, n_features_in_, n_iter_: as of ``DensityEstimator``.

    Raises:
        ValueError: at ``fit``, a model without conditionals, no complete row for a model that needs them, or options that
            cannot work.

    Example:
        >>> import numpy as np, pyro_dgm as dgm
        >>> x = np.random.default_rng(0).normal(size=(200, 1))
        >>> X = np.hstack([x, 10 * x])
        >>> imputer = dgm.sklearn.ModelImputer("gaussianrbm", {"hidden": 4}, random_state=0).fit(X)
        >>> imputer.transform([[1.0, np.nan]]).shape
        (1, 2)
    """

    takes_nan = True

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
        draws: int = 500,
    ) -> None:
        super().__init__(
            model, options, objective=objective, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate,
            training=training, random_state=random_state,
        )  # fmt: skip
        self.draws = draws

    @classmethod
    def _lacks(cls, model: Any) -> str | None:
        return cls._lacks_ability(model, "impute", "has no conditionals to impute by")

    def fit(self, X: Any, y: Any = None) -> ModelImputer:
        """Train on rows, ``n x features``; ``y`` is ignored."""
        check_count("draws", self.draws, what="the draws or particles that are averaged")
        cls, X = self._model_class(), self._validated(X, reset=True)
        if not cls.takes_missing:
            X = X[~np.isnan(X).any(1)]
            if not len(X):
                raise ValueError(
                    f"ModelImputer got no complete row, and {self.model} is trained on complete ones; expected some, or a model "
                    "that sums missing values out (rbm, gaussianrbm, vae)"
                )
        return self._train(cls, X, None)

    def transform(self, X: Any) -> np.ndarray:
        """Rows with their missing values filled in, ``n x features``, in the precision of ``X``."""
        array, x = self._rows(X)
        filled, known = array.copy(), ~np.isnan(array)
        holes = ~known.all(1)
        if holes.any():
            rows = self._bits(x[torch.as_tensor(holes)])
            with self._seeded(), torch.no_grad():
                means = self.model_.impute(rows.nan_to_num(), ~rows.isnan(), draws=self.draws)
            filled[~known] = self.units_.undo(means)[~known[holes]].astype(array.dtype)
        return filled

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
