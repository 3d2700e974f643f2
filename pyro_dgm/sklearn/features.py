"""Any model with hidden units or latents as a transformer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin

from .estimator import ModelEstimator


class FeatureTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ModelEstimator):
    """The means of a model's hidden units or latents given rows, as features for other models.

    ``dgm.RBMTransformer`` has more of what a restricted machine can do (``partial_fit``, ``gibbs``).

    Args:
        model, options, objective, epochs, batch_size, learning_rate, training, random_state: as of ``DensityEstimator``.

    Attributes:
        model_, units_, history_, n_features_in_, n_iter_: as of ``DensityEstimator``.

    Raises:
        ValueError: at ``fit``, a model without features, or options that cannot work.

    Example:
        >>> import numpy as np, pyro_dgm as dgm
        >>> X = np.random.default_rng(0).random((50, 6))
        >>> vae = dgm.sklearn.FeatureTransformer("vae", {"latent": 3, "hidden": (8,)}, epochs=1, random_state=0)
        >>> vae.fit_transform(X).shape
        (50, 3)
    """

    @classmethod
    def _lacks(cls, model: Any) -> str | None:
        return cls._lacks_ability(model, "hidden_features", "has no hidden units or latents with means")

    def fit(self, X: Any, y: Any = None) -> FeatureTransformer:
        """Train on rows, ``n x features``; ``y`` is ignored."""
        super().fit(X, y)
        with self._seeded(), torch.no_grad():
            rows = self.model_.sample(1)
            self._n_features_out = self.model_.hidden_features(rows).shape[1]
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Features of rows, ``n x features``, in the precision of ``X``."""
        array, x = self._rows(X)
        with self._seeded(), torch.no_grad():
            return np.asarray(self.model_.hidden_features(x).flatten(1).numpy().astype(array.dtype))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
