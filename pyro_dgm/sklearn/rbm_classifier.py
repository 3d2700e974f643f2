"""A restricted Boltzmann machine with classes as a scikit-learn classifier; the module is imported on first use."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from ..checks import check_choice, check_count, check_memory, check_positive
from ..inference.random_state import seeded_by
from ..models.structured.class_rbm import ClassRBM
from .model_classifier import numbered_classes
from .units import location_and_scale
from .validation import validated

CRITERIA = ("discriminative", "hybrid", "generative")


class RBMClassifier(ClassifierMixin, BaseEstimator):
    r"""Class RBM for scikit-learn: $p(y \mid x)$ with the hidden units summed out, exactly (Larochelle and Bengio 2008).

    With the criterion ``"discriminative"`` columns may be any real numbers, which are standardised; a constant column is left
    out. The other criteria model x too, and take bits, or grey levels in [0, 1] as probabilities of bits that are drawn anew for
    every step. Input and output are arrays; torch's random state is not changed.

    Args:
        hidden: the number of hidden units.
        criterion: ``"discriminative"``, ``"hybrid"`` or ``"generative"``, as in ``dgm.ClassRBM.objective``.
        generative: the weight of $\log p(x, y)$ in the hybrid criterion.
        learning_rate: step size of Adam; it falls linearly to zero.
        batch_size: rows per step.
        n_iter: passes over the data.
        random_state: a seed, a ``RandomState`` or None, as everywhere in scikit-learn.

    Attributes:
        rbm_: the trained ``dgm.ClassRBM``, which the whole package accepts.
        classes_: the classes, in the order of the columns of ``predict_proba``.
        offset_, scale_: what the columns are shifted and divided by.
        n_features_in_: the number of columns.
        n_iter_: the number of passes made.

    Raises:
        ValueError: at ``fit``, an option that cannot work, a single class, or data outside [0, 1] for a criterion that models
            them.

    Example:
        >>> import pyro_dgm as dgm
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> dgm.RBMClassifier(hidden=10, random_state=0).fit(X, y).score(X, y) > 0.9
        True
    """

    def __init__(
        self,
        hidden: int = 100,
        *,
        criterion: str = "discriminative",
        generative: float = 0.01,
        learning_rate: float = 0.01,
        batch_size: int = 20,
        n_iter: int = 50,
        random_state: Any = None,
    ) -> None:
        self.hidden = hidden
        self.criterion = criterion
        self.generative = generative
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.n_iter = n_iter
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Train on rows and their classes."""
        self._check_options()
        X, y = validated(self, X, y)
        self.classes_, numbers = numbered_classes(y, type(self).__name__)
        self.offset_, self.scale_ = self._scaling(X)
        x, label = self._scaled(X).float(), torch.eye(len(self.classes_))[torch.as_tensor(numbers)]
        with seeded_by(check_random_state(self.random_state)):
            self._train(x, label)
        self.n_iter_ = self.n_iter
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        r"""$p(y \mid x)$: ``n x classes``, in the order of ``classes_``."""
        check_is_fitted(self)
        X = validated(self, X, reset=False)
        with torch.no_grad():
            return torch.softmax(self.rbm_.scores(self._scaled(X)), -1).numpy()

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of every row."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(1)]

    def _scaling(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.criterion != "discriminative":
            outside = X[(X < 0) | (X > 1)]
            if outside.size:
                raise ValueError(
                    f"criterion {self.criterion!r} models the rows as bits, but X holds {outside[0]:g}; expected [0, 1]. "
                    "Scale X, as with sklearn.preprocessing.MinMaxScaler, or take criterion='discriminative'"
                )
            return np.zeros(X.shape[1]), np.ones(X.shape[1])
        mean, deviation = location_and_scale(X)
        return mean, np.where(deviation > 0, deviation, np.inf)

    def _scaled(self, X: np.ndarray) -> torch.Tensor:
        return torch.tensor((X - self.offset_) / self.scale_, dtype=torch.float64)

    def _train(self, x: torch.Tensor, label: torch.Tensor) -> None:
        check_memory({"hidden": int(self.hidden)}, x.shape[1], type(self).__name__)
        self.rbm_ = ClassRBM(x.shape[1], label.shape[1], int(self.hidden))
        criterion: Any = self.criterion
        objective = self.rbm_.objective(criterion, self.generative if criterion == "hybrid" else None)
        objective.attach(self.rbm_)
        optimiser = torch.optim.Adam(self.rbm_.parameters(), lr=self.learning_rate)
        steps = self.n_iter * -(-len(x) // self.batch_size)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / steps)
        for _ in range(self.n_iter):
            for rows in torch.randperm(len(x)).split(int(self.batch_size)):
                columns = x[rows] if self.criterion == "discriminative" else torch.bernoulli(x[rows])
                optimiser.zero_grad()
                objective.loss(torch.cat([columns, label[rows]], 1)).backward()
                optimiser.step()
                schedule.step()
        if not all(bool(p.isfinite().all()) for p in self.rbm_.parameters()):
            raise ValueError(f"training diverged; try a smaller learning_rate than {self.learning_rate:g}")
        # In double precision a row's figures do not depend on the rows beside it.
        self.rbm_ = self.rbm_.double()

    def _check_options(self) -> None:
        for name, what in (
            ("hidden", "hidden units"),
            ("batch_size", "rows per step"),
            ("n_iter", "passes over the data"),
        ):
            check_count(name, getattr(self, name), what=what)
        check_positive("learning_rate", self.learning_rate, "the first step size")
        check_positive("generative", self.generative, "the weight of log p(x, y)", zero=True)
        check_choice("criterion", self.criterion, CRITERIA)
