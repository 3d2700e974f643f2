"""Any model of rows and labels as a classifier."""

from __future__ import annotations

import inspect
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets

from .estimator import ModelEstimator
from .units import refuses


def numbered_classes(y: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The classes in order, and the number of every row's.

    Raises:
        ValueError: no classes, or a single one.
    """
    check_classification_targets(y)
    classes, numbers = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"{name} got one class, {classes.tolist()[0]!r}; expected two classes or more")
    return classes, numbers


class ModelClassifier(ClassifierMixin, ModelEstimator):
    r"""A model of rows and their labels as a classifier: $p(y \mid x)$ of what it learned of $p(x, y)$.

    A grey level counts as the nearer bit where a model has no use for it as a probability. ``dgm.RBMClassifier`` is trained on
    $p(y \mid x)$ itself, and takes real columns.

    Args:
        model, options, objective, epochs, batch_size, learning_rate, training, random_state: as of ``DensityEstimator``; the
            option ``classes`` follows from the labels.

    Attributes:
        classes_: the classes, in the order of the columns of ``predict_proba``.
        model_, units_, history_, n_features_in_, n_iter_: as of ``DensityEstimator``.

    Raises:
        ValueError: at ``fit``, a model without labels, a single class, or options that cannot work.

    Example:
        >>> import numpy as np, pyro_dgm as dgm
        >>> X = (np.random.default_rng(0).random((100, 4)) < 0.5).astype(float)
        >>> model = dgm.sklearn.ModelClassifier("classrbm", {"hidden": 8}, learning_rate=0.03, random_state=0)
        >>> model.fit(X, np.where(X[:, 0] == 1, "yes", "no")).score(X, np.where(X[:, 0] == 1, "yes", "no")) > 0.9
        True
    """

    def __init__(
        self,
        model: str = "classrbm",
        options: dict[str, Any] | None = None,
        *,
        objective: dict[str, Any] | None = None,
        epochs: int = 20,
        batch_size: int = 20,
        learning_rate: float = 0.01,
        training: dict[str, Any] | None = None,
        random_state: Any = None,
    ) -> None:
        super().__init__(
            model, options, objective=objective, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate,
            training=training, random_state=random_state,
        )  # fmt: skip

    @classmethod
    def _lacks(cls, model: Any) -> str | None:
        able = hasattr(model, "predict_proba") and "classes" in inspect.signature(model).parameters
        return None if able else "gives no probabilities of labels"

    def fit(self, X: Any, y: Any) -> Self:  # type: ignore[override]
        """Train on rows and their classes."""
        cls = self._model_class()
        X, y = self._validated(X, reset=True, y=y)
        self.classes_, numbers = numbered_classes(y, type(self).__name__)
        self._train(cls, X, numbers)
        with self._seeded(), torch.no_grad():
            self._needs_bits = refuses(self.model_.predict_proba, torch.full((1, X.shape[1]), 0.4, dtype=torch.float64))
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        r"""$p(y \mid x)$: ``n x classes``, in the order of ``classes_``."""
        _, x = self._rows(X)
        with self._seeded(), torch.no_grad():
            return np.asarray(self.model_.predict_proba(self._bits(x) if self._needs_bits else x).numpy())

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of every row."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(1)]
