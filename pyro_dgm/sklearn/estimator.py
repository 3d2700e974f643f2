"""What the estimators of any model have in common: options, training, and the units of the data."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from .. import registry
from ..data import Dataset, Space, Split
from ..data.binarise import binarise
from ..data.bits import nearer_bits
from ..inference.random_state import seeded, seeded_by
from ..train.fit import fit
from ..train.schedules import PLATEAU
from .units import Units, refuses
from .validation import checked_options, validated

CHOSEN = {
    "data": "the rows of the estimator's fit",
    "seed": "chosen by random_state",
    "progress": "never shown by an estimator: take callbacks",
}
"""Why ``training`` may not have arguments of ``dgm.fit`` that are no arguments of an estimator."""


class ModelEstimator(BaseEstimator):
    """An estimator that trains a model of the registry by ``dgm.fit``.

    Columns of models of real numbers are standardised inside; what comes out is in the units of the data. Models of grey levels
    in [0, 1], and generators with outputs in [-1, 1], take them as they are. Models of bits take bits, or grey levels as
    probabilities of bits, drawn anew for every step. A value outside is taken for the nearer end, with a warning. torch's
    random state is not changed, and the same question gets the same answer.

    ``training`` has other arguments of ``dgm.fit``. Where one of them needs validation rows (``patience``, ``keep="best"``,
    ``decay="ReduceLROnPlateau"``), a tenth of the rows, drawn by ``random_state``, is held out for it; otherwise all rows are
    trained on, and the ``valid_`` figures of ``history_`` are theirs.
    """

    takes_nan: ClassVar[bool] = False
    """Whether rows may have missing values (NaN)."""

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
    ) -> None:
        self.model = model
        self.options = options
        self.objective = objective
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.training = training
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on rows, ``n x features``; ``y`` is ignored."""
        cls = self._model_class()
        return self._train(cls, self._validated(X, reset=True), None)

    @classmethod
    @abstractmethod
    def _lacks(cls, model: type) -> str | None:
        """Why a model cannot be this estimator, as words after "which"; None where it can."""

    @staticmethod
    def _lacks_ability(model: Any, ability: str, lack: str) -> str | None:
        """Why a model cannot be an estimator of rows without labels that needs an ability."""
        if ability not in model.abilities():
            return lack
        classes = inspect.signature(model).parameters.get("classes")
        labelled = classes is not None and classes.default  # by default it has some, or it needs them
        return "models rows with their labels (a ModelClassifier may)" if labelled else None

    def _model_class(self) -> Any:
        cls: Any = registry.model(self.model)
        if lack := self._lacks(cls):
            able = [name for name, other in registry.models().items() if self._lacks(other) is None]
            raise ValueError(f"model got {self.model!r}, which {lack}; expected one of {', '.join(able)}")
        return cls

    def _validated(self, X: Any, reset: bool, y: Any = "no_validation") -> Any:
        finite = "allow-nan" if self.takes_nan else True
        return validated(self, X, y, reset=reset, ensure_all_finite=finite)

    def _train(self, cls: Any, X: np.ndarray, labels: np.ndarray | None) -> Self:
        """Make the model and train it on validated rows, whose labels are whole numbers from 0."""
        training = _checked_training(self.training)
        generator = check_random_state(self.random_state)
        classes = 0 if labels is None else int(labels.max()) + 1
        objective_options = checked_options("objective", self.objective, "{'kind': 'cd', 'k': 5}")
        chosen = {
            **checked_options("options", self.options, "{'hidden': 50}"),
            **({"classes": classes} if classes else {}),
        }
        if not classes and chosen.get("classes"):
            raise ValueError(
                f"options got classes={chosen['classes']}; expected none: rows with labels are for ModelClassifier"
            )
        seed = int(generator.randint(2**31 - 1))  # torch's versions draw different large integers
        with seeded_by(generator):
            self.model_ = registry.build(self.model, chosen, X.shape[1] + classes, seed, labels=classes)
            self._check_questions()
            if not classes and self.model_.given_columns() is not None:
                raise ValueError(
                    f"model got {self.model!r}, which models some columns of a row given others (inputs, or lengths of "
                    "sequences), and an estimator has no place for those; train it by dgm.fit"
                )

            def takes_rows(array: np.ndarray) -> bool:
                rows = torch.tensor(array).float()
                label = torch.eye(classes)[[0] * len(rows)] if classes else rows[:, :0]
                return not refuses(self.model_.check_data, torch.cat([rows, label], 1))

            def takes(*values: float) -> bool:
                return takes_rows(np.repeat(np.array(values)[:, None], X.shape[1], 1))

            self.units_ = Units.of(X, takes, takes_rows)
            x = self.units_.apply(X, type(self).__name__).float()
            space = Space("unit interval" if self.units_.low == 0 else "real")
            split = Split(x, space, None if labels is None else torch.as_tensor(labels))
            data = Dataset("rows", split, split, split, (X.shape[1],))
            if _needs_validation(training):
                data = Dataset.of_rows(split[torch.randperm(len(split))])
            if self.units_.bits and not bool(((x == 0) | (x == 1) | x.isnan()).all()):
                # Figures during training are of the nearer bit, training itself of bits drawn anew.
                drawn = binarise(data, "stochastic", seed)
                data = Dataset("rows", drawn.train, drawn.valid, drawn.test, data.shape, drawn.redraw)
            data = data.labelled(classes) if classes else data
            objective = registry.criterion(self.model_, objective_options, X.shape[1])
            self.history_ = fit(
                self.model_, data, objective=objective, epochs=self.epochs, batch_size=self.batch_size,
                learning_rate=self.learning_rate, seed=seed, progress=False, **training,
            ).history  # fmt: skip
        # In double precision a row's figures do not depend on the rows beside it.
        self.model_ = self.model_.double().eval()
        self.seed_ = seed
        self.n_iter_ = len(self.history_)
        return self

    def _check_questions(self) -> None:
        """Refuse settings of what the trained model will be asked, before it is trained."""

    def _rows(self, X: Any) -> tuple[np.ndarray, Tensor]:
        """Validated rows, and the same as the model takes them."""
        check_is_fitted(self)
        array = self._validated(X, reset=False)
        return array, self.units_.apply(array, type(self).__name__)

    def _bits(self, x: Tensor) -> Tensor:
        """Grey levels as the nearer bits, where the model takes bits."""
        return nearer_bits(x) if self.units_.bits else x

    def _seeded(self, seed: int | None = None) -> Any:
        """A block whose draws are the same every time."""
        return seeded(self.seed_ if seed is None else seed)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.takes_nan
        return tags


TRAINING = sorted(set(inspect.signature(fit).parameters) - {*CHOSEN, *inspect.signature(ModelEstimator).parameters})
"""The arguments of ``dgm.fit`` that ``training`` may have."""


def _checked_training(training: Any) -> dict[str, Any]:
    """Other arguments of ``dgm.fit``.

    Raises:
        ValueError: what is no dictionary of them.
    """
    found = checked_options("training", training, "{'decay': 'linear'}")
    for name in found:
        if name not in TRAINING:
            why = CHOSEN.get(name, "an argument of its own" if name in inspect.signature(fit).parameters else "unknown")
            raise ValueError(f"training got {name!r}, which is {why}; expected some of {', '.join(TRAINING)}")
    return found


def _needs_validation(training: dict[str, Any]) -> bool:
    """Whether arguments of ``dgm.fit`` look at figures of validation rows."""
    return training.get("patience") is not None or training.get("keep") == "best" or training.get("decay") == PLATEAU
