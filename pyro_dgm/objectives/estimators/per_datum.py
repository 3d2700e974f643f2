"""ELBO-like estimators whose weights belong to single data: what they share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from pyro.infer import ELBO
from pyro.infer.util import torch_item
from pyro.poutine.messenger import Messenger
from torch import Tensor

from ...checks import check_count
from ...inference.importance import check_nesting, per_datum, traces
from ...inference.random_state import RandomState
from ...inference.registration import UnregisteredModule
from ...inference.sites import blame, is_scored, sites, subsample

Program = Callable[..., Any]


class Draws(NamedTuple):
    r"""Log-probabilities of K draws of a guide, each ``particles x rows``.

    Attributes:
        log_p: $\log p(x_n, z_{kn})$.
        log_q: $\log q(z_{kn} \mid x_n)$.
        score: the part of ``log_q`` whose draws carry no gradient of their own (discrete latents); zero without any.
    """

    log_p: Tensor
    log_q: Tensor
    score: Tensor

    @property
    def log_weights(self) -> Tensor:
        r"""$\log w_{kn} = \log p - \log q$."""
        return self.log_p - self.log_q


class PerDatumELBO(ELBO, ABC):
    """An estimator that treats every datum by itself, so that nothing of a row depends on the rest of its batch.

    A subclass says what is drawn and turns log-probabilities into one loss a row: its value is what is reported, its
    gradient the estimator's. Use it as any Pyro ELBO: in ``SVI``, as a module ``estimator(model, guide)`` under
    ``torch.optim``, or as ``dgm.Elbo(estimator)`` in ``fit``. Particles are drawn in one vectorised run; a subsampled data
    plate scales the loss; the last batch may be smaller.
    """

    fewest: ClassVar[int] = 1
    """Particles that the estimator cannot do without."""

    def __init__(self, particles: int = 5, max_plate_nesting: int = 1) -> None:
        why = "; it leaves one out at a time" if self.fewest > 1 else ""
        particles = check_count(f"{type(self).__name__}: particles", particles, self.fewest, why=why)
        check_nesting(type(self).__name__, max_plate_nesting)
        super().__init__(num_particles=particles, max_plate_nesting=max_plate_nesting, vectorize_particles=True)

    def __call__(self, model: torch.nn.Module, guide: torch.nn.Module) -> UnregisteredModule:
        return UnregisteredModule(model, guide, self)

    @abstractmethod
    def row_losses(self, model: Program, guide: Program, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Scaled:
        """The loss of every row, and the scale of the data plate."""

    def differentiable_loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Tensor:
        """The rows' losses, summed and scaled as the data plate is."""
        losses, scale = self.row_losses(model, guide, args, kwargs)
        return (scale * losses).sum() if isinstance(scale, Tensor) else scale * losses.sum()

    def loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        with torch.no_grad():
            return torch_item(self.differentiable_loss(model, guide, *args, **kwargs))

    def loss_and_grads(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        loss.backward()
        return torch_item(loss)

    def options(self) -> dict[str, Any]:
        """What a run on disk says of the estimator, beyond its class and particles."""
        return {}

    def to(self, like: Tensor) -> None:
        """Move what the estimator owns to the device and type of a model's parameter; by default nothing."""
        return None

    def own_parameters(self) -> list[torch.nn.Parameter]:
        """Parameters of the estimator itself (a baseline's, say), to be trained along with model and guide."""
        return []

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs of the estimator; by default nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        return None

    def _get_trace(self, *args: Any, **kwargs: Any) -> Any:
        raise ValueError(f"{type(self).__name__} draws its particles in one vectorised run; use differentiable_loss")

    def draw(
        self, model: Program, guide: Program, args: tuple[Any, ...], kwargs: dict[str, Any], paths: bool = True
    ) -> Run:
        """K draws of the guide, and the model at them, with all gradients that there are.

        With ``paths=False`` the draws are constants: log-probabilities follow the parameters alone.
        """
        pair = traces(model, guide, args, kwargs, self.num_particles, self.max_plate_nesting, paths)
        return Run(*pair, self.num_particles, self.max_plate_nesting)

    def redraw(
        self,
        model: Program,
        guide: Program,
        run: Run,
        before: RandomState,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Run:
        """The same draws as constants: log-probabilities then follow the parameters alone, not the draws' path.

        The programs run again from the random state before the first run, sites included, so that whatever else they draw
        (dropout's masks) comes out the same.
        """
        before.restore()
        with _Held(run.guide_trace):
            pair = traces(model, guide, args, kwargs, self.num_particles, self.max_plate_nesting)
        return Run(*pair, self.num_particles, self.max_plate_nesting)


class _Held(Messenger):
    """Replaces draws by those of an earlier run, as constants, after they have used up their random numbers."""

    def __init__(self, trace: Any) -> None:
        super().__init__()
        self._values = {name: site["value"].detach() for name, site in sites(trace)}

    def _pyro_post_sample(self, msg: Any) -> None:
        if msg["name"] in self._values:
            msg["value"] = self._values[msg["name"]]


class Scaled(NamedTuple):
    """One loss a row, and what it is multiplied by: one number, or one a row."""

    losses: Tensor
    scale: float | Tensor


class Run:
    """Traces of a model and a guide with particles, as per-datum figures."""

    def __init__(self, model_trace: Any, guide_trace: Any, particles: int, nesting: int) -> None:
        self.model_trace, self.guide_trace, self.particles, self.nesting = model_trace, guide_trace, particles, nesting

    @property
    def scale(self) -> float | Tensor:
        """The scale of the data plate and of ``poutine.scale``: one number, or one a row.

        Raises:
            ValueError: a site has another scale than the first, or one that is not of its rows.
        """
        first: tuple[float | Tensor, str] | None = None
        for whose, trace in (("model", self.model_trace), ("guide", self.guide_trace)):
            for name, site in sites(trace):
                scale = site["scale"]
                if isinstance(scale, Tensor):
                    scale = _of_rows(scale, site, whose)
                if first is None:
                    first = scale, f"site {name!r} of the {whose}"
                elif not _equal(scale, first[0]):
                    raise ValueError(
                        f"site {name!r} of the {whose} is scaled by {_words(scale)} and {first[1]} by {_words(first[0])}; a "
                        "datum's bound has one scale: put poutine.scale around model and guide, and size their plates alike"
                    )
        return 1.0 if first is None else first[0]

    def rows_of(self, value: Any, rows: int) -> Any:
        """The rows of an argument that are in the data plate: itself, unless the plate takes a subsample of it."""
        if not isinstance(value, Tensor) or value.shape[:1] == (rows,):
            return value
        for _, site in sites(self.model_trace):
            plate = subsample(self.model_trace, site)
            if plate is not None and value.shape[:1] == (plate[1],):
                return value[plate[0].to(value.device)]
        return value

    @property
    def all_scored(self) -> bool:
        """Whether no site of the guide is reparameterised."""
        return all(is_scored(site) for _, site in sites(self.guide_trace))

    def require_paths(self) -> None:
        """Refuse latents that are not reparameterised.

        Raises:
            ValueError: naming the site.
        """
        for name, site in sites(self.guide_trace):
            if is_scored(site):
                raise ValueError(
                    f"site {name!r} of the guide is a {type(site['fn']).__name__}, which is not reparameterised. Use "
                    "dgm.VIMCO or dgm.ReweightedWakeSleep for discrete latents"
                )

    def figures(self) -> Draws:
        """Log-probabilities, ``particles x rows``.

        Raises:
            ValueError: a site has a log-probability that is not finite; the message names it.
        """
        log_p = torch.as_tensor(per_datum(self.model_trace, self.nesting))
        log_q = torch.as_tensor(per_datum(self.guide_trace, self.nesting))  # zero for a guide without sites
        for whose, trace, total in (("guide", self.guide_trace, log_q), ("model", self.model_trace, log_p)):
            if not bool(torch.isfinite(total).all()):
                blame(trace, whose)
        rows = max(log_p.shape[-1:], log_q.shape[-1:])  # as tuples: () < (1,) < (n,)
        shape = (self.particles, *rows)
        scored = [is_scored(site) for _, site in sites(self.guide_trace)]
        if all(scored):
            score = log_q
        elif not any(scored):
            score = torch.zeros((), device=log_q.device)
        else:
            score = per_datum(self.guide_trace, self.nesting, is_scored)
        return Draws(log_p.expand(shape), log_q.expand(shape), score.expand(shape))


def _of_rows(scale: Tensor, site: Any, whose: str) -> float | Tensor:
    """A scale as one number or one a row."""
    if scale.numel() == 1:
        return float(scale)
    rows = site["fn"].batch_shape[-1:]
    if scale.shape != rows:
        raise ValueError(
            f"site {site['name']!r} of the {whose} has a scale of shape {tuple(scale.shape)}; expected one number, or one for "
            f"every row of the data plate, of shape {tuple(rows)}"
        )
    return scale


def _equal(one: float | Tensor, two: float | Tensor) -> bool:
    if isinstance(one, Tensor) and isinstance(two, Tensor):
        return torch.equal(one, two)
    return not isinstance(one, Tensor) and not isinstance(two, Tensor) and one == two


def _words(scale: float | Tensor) -> str:
    return "a number for every row" if isinstance(scale, Tensor) else f"{scale:g}"


def with_value(value: Tensor, surrogate: Tensor) -> Tensor:
    """A tensor of that value, with the surrogate's gradient."""
    return value.detach() + surrogate - surrogate.detach()
