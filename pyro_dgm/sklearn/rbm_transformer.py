"""A restricted Boltzmann machine as a scikit-learn transformer; the module is imported on first use."""

from __future__ import annotations

import copy
from typing import Any, Self, cast

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from ..checks import check_choice, check_count, check_memory, check_positive
from ..data.bits import nearer_bits
from ..inference.random_state import seeded_by
from ..models.boltzmann.rbm import RBM
from ..objectives import PseudoLikelihood, RatioMatching
from ..objectives.objective import Objective
from .units import clipped
from .validation import checked_options, validated

OBJECTIVES = ("pcd", "cd", "exact", "pseudolikelihood", "ratio matching")


class RBMTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    r"""Restricted Boltzmann machine for scikit-learn: features are $P(h_j = 1 \mid v) = \sigma(c_j + v^\top W_{:,j})$.

    The data are bits, or grey levels in [0, 1] that stand for probabilities of bits. Their scale is the user's choice, as for
    scikit-learn's ``BernoulliRBM``: what lies outside is taken for the nearer of 0 and 1, with a warning; ``MinMaxScaler``
    before it keeps all levels. Input and output are arrays; torch's random state is not changed.

    Args:
        n_components: the number of hidden units.
        learning_rate: step size of the optimiser.
        batch_size: rows per step.
        n_iter: passes over the data.
        objective: ``"pcd"``, ``"cd"``, ``"exact"`` (small machines), ``"pseudolikelihood"`` or ``"ratio matching"``.
        objective_options: arguments of the objective, as ``{"k": 5, "chains": 50}`` or ``{"entries": 20}``.
        optimiser: ``"adam"`` or ``"sgd"``.
        random_state: a seed, a ``RandomState`` or None, as everywhere in scikit-learn.
        verbose: whether to print the mean loss of every pass.

    Attributes:
        rbm_: the trained ``dgm.RBM``, which the whole package accepts.
        components_: $W^\top$, ``n_components x n_features``.
        intercept_hidden_, intercept_visible_: $c$ and $b$.
        n_features_in_: the number of visible units.
        n_iter_: the number of passes made (of steps, by ``partial_fit``).
        random_state_: the generator, which ``partial_fit`` and ``gibbs`` advance.

    Raises:
        ValueError: at ``fit``, an option that cannot work.

    Example:
        >>> import numpy as np, pyro_dgm as dgm
        >>> X = (np.random.default_rng(0).random((50, 6)) < 0.3).astype(float)
        >>> dgm.RBMTransformer(n_components=4, random_state=0).fit_transform(X).shape
        (50, 4)
    """

    def __init__(
        self,
        n_components: int = 256,
        *,
        learning_rate: float = 0.01,
        batch_size: int = 10,
        n_iter: int = 10,
        objective: str = "pcd",
        objective_options: dict[str, Any] | None = None,
        optimiser: str = "adam",
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.n_components = n_components
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.n_iter = n_iter
        self.objective = objective
        self.objective_options = objective_options
        self.optimiser = optimiser
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on rows of [0, 1], ``n x features``; ``y`` is ignored."""
        self._check_options()
        X = self._validated(X, reset=True).float()
        self.random_state_ = check_random_state(self.random_state)
        with seeded_by(self.random_state_):
            self._start(X)
            for number in range(self.n_iter):
                order = torch.randperm(len(X))
                losses = [self._step(X[rows]) * len(rows) for rows in order.split(int(self.batch_size))]
                if self.verbose:
                    print(f"[{type(self).__name__}] pass {number + 1}, loss {sum(losses) / len(X):.2f}")
        self.n_iter_ = self.n_iter
        return self._finish()

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Make one step on the rows; the first call makes the machine."""
        first = not hasattr(self, "rbm_")
        if first:
            self._check_options()
        X = self._validated(X, reset=first).float()
        if first:
            self.random_state_ = check_random_state(self.random_state)
            self.n_iter_ = 0
        with seeded_by(self.random_state_):
            if first:
                self._start(X)
            self._step(X)
        self.n_iter_ += 1
        return self._finish()

    def transform(self, X: Any) -> np.ndarray:
        """Probabilities of the hidden units, ``n x n_components``, in the precision of ``X``."""
        x, rbm = self._in_precision(X)
        with torch.no_grad():
            return torch.sigmoid(x @ rbm.weight + rbm.hidden_bias).numpy()

    def score_samples(self, X: Any) -> np.ndarray:
        r"""$-F(v) = \log p(v) + \log Z$ in nats, one figure per row.

        The score of ``BernoulliRBM`` is a stochastic estimate of the pseudo log-likelihood. This one is deterministic and
        ranks rows by their probability. It compares rows of one machine, never two machines: their log Z differ.
        """
        x, rbm = self._in_precision(X)
        with torch.no_grad():
            return -rbm().free_energy(x).numpy()

    def score(self, X: Any, y: Any = None) -> float:
        """The mean pseudo log-likelihood of bits over all units, in nats per row; it compares machines.

        Grey levels above a half count as 1, others as 0.
        """
        from ..objectives import pseudo_log_likelihood

        x = nearer_bits(self._rows(X)).float()
        with torch.no_grad():
            return float(pseudo_log_likelihood(self.rbm_(), x, entries=None).mean())

    def gibbs(self, v: Any) -> np.ndarray:
        """Make one Gibbs step from visible rows to visible rows, ``n x features`` booleans."""
        x = self._rows(v)
        with seeded_by(self.random_state_):
            machine = self.rbm_().machine
            with torch.no_grad():
                state = {**machine.neutral_state((len(x),)), "visible": x}
                return machine.sweep(state)["visible"].numpy() > 0.5

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the features: ``rbmtransformer0`` and so on."""
        return super().get_feature_names_out(input_features)

    @property
    def _n_features_out(self) -> int:
        return self.components_.shape[0]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """The state without the criterion and the optimiser, which training starts afresh."""
        state = super().__getstate__()
        return {key: value for key, value in state.items() if key not in ("_criterion", "_optimiser")}

    def _check_options(self) -> None:
        for name, what in (
            ("n_components", "hidden units"),
            ("batch_size", "rows per step"),
            ("n_iter", "passes over the data"),
        ):
            check_count(name, getattr(self, name), what=what)
        check_positive("learning_rate", self.learning_rate, "the step size of the optimiser")
        check_choice("objective", self.objective, OBJECTIVES)
        check_choice("optimiser", self.optimiser, ("adam", "sgd"))

    def _validated(self, X: Any, reset: bool) -> torch.Tensor:
        array = validated(self, X, reset=reset)
        return torch.tensor(clipped(array, type(self).__name__))

    def _rows(self, X: Any) -> torch.Tensor:
        check_is_fitted(self)
        return self._validated(X, reset=False).float()

    def _in_precision(self, X: Any) -> tuple[torch.Tensor, RBM]:
        """Rows and the machine, both in the rows' precision: in a lower one results would depend on the number of rows."""
        check_is_fitted(self)
        x = self._validated(X, reset=False)
        return x, self.rbm_ if x.dtype == torch.float32 else copy.deepcopy(self.rbm_).to(x.dtype)

    def _start(self, x: torch.Tensor) -> None:
        """Make the machine, and prepare its training."""
        check_memory({"n_components": int(self.n_components)}, x.shape[1], type(self).__name__)
        self.rbm_ = RBM(x.shape[1], int(self.n_components))
        self.rbm_.initialise(x)
        self._prepare_training()

    def _prepare_training(self) -> None:
        """Make the criterion and the optimiser; an unpickled estimator starts them afresh."""
        options = checked_options("objective_options", self.objective_options, "{'k': 5}")
        criteria: dict[str, type[Objective]] = {"pseudolikelihood": PseudoLikelihood, "ratio matching": RatioMatching}
        try:
            if self.objective in criteria:
                self._criterion = criteria[self.objective](**options)
            else:
                self._criterion = self.rbm_.objective(cast(Any, self.objective), **options)
        except TypeError as error:
            raise ValueError(f"objective_options got {options}: {error}") from None
        self._criterion.attach(self.rbm_)
        optimiser = torch.optim.Adam if self.optimiser == "adam" else torch.optim.SGD
        self._optimiser = optimiser(self._criterion.parameter_groups(self.rbm_), lr=self.learning_rate)

    def _step(self, x: torch.Tensor) -> float:
        """Make one step on rows; returns the loss."""
        if not hasattr(self, "_optimiser"):
            self._prepare_training()
        bits = x if bool(((x == 0) | (x == 1)).all()) else torch.bernoulli(x)
        self._optimiser.zero_grad()
        with torch.enable_grad():
            loss = self._criterion.loss(bits)
        loss.backward()
        self._optimiser.step()
        return float(loss.detach())

    def _finish(self) -> Self:
        """Set the fitted attributes; returns the estimator."""
        self.components_ = self.rbm_.weight.detach().T.numpy().copy()
        self.intercept_hidden_ = self.rbm_.hidden_bias.detach().numpy().copy()
        self.intercept_visible_ = self.rbm_.visible_bias.detach().numpy().copy()
        if not np.isfinite(self.components_).all():
            raise ValueError(f"training diverged; try a smaller learning_rate than {self.learning_rate:g}")
        return self
