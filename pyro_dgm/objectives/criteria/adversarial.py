"""Training by a game against a discriminator (section 20.10.4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from ... import processes
from ...checks import check_choice, check_count, check_positive
from ...inference.random_state import untouched
from ...nets.layers import has_batch_norm, has_torch_norm
from ...nets.modes import evaluating
from ..objective import Objective, Turn
from .games import Game, discriminator_loss, extrapolated, generator_loss, held
from .generated import check_differentiable, counterparts

Play = Literal["alternating", "simultaneous", "extragradient"]
"""The order of the players' steps."""


class Match(NamedTuple):
    """Two things that a discriminator tells apart.

    Attributes:
        pair: a function from a batch of rows to what it is shown of the data, and its generated counterpart.
        parameters: the generator's parameters in this match.
    """

    pair: Callable[[Tensor], tuple[Tensor, Tensor]]
    parameters: list[nn.Parameter]


class Adversarial(Objective):
    r"""A game between a generator and a discriminator, $\min_g \max_d E_p \log d(x) + E_q \log(1 - d(x))$ (20.80-81).

    The generator is the model: any model whose program draws the site ``"x"`` with a gradient (a ``dgm.GAN``, a Gaussian VAE's
    decoder, a flow, a program of your own). The discriminator belongs to the criterion, which trains it and keeps it with the
    training state; the saved model is the generator alone. The losses are reported by player and say nothing about the quality
    of samples: look at ``valid_`` figures, and at ``dgm.evaluation.precision_recall`` for modes that are lost.

    Args:
        discriminator: a module from rows to log odds, ``rows x visible`` to ``rows``, as ``dgm.Discriminator`` is; for a model
            of several matches (``dgm.LAPGAN``) a dictionary of them by the matches' names.
        game: the generator's loss, ``"non-saturating"``, ``"zero-sum"`` or ``"maximum-likelihood"``
            (``objectives.criteria.games.generator_loss``).
        steps: steps of the discriminator for every step of the generator, each against fresh generated rows.
        play: ``"alternating"``: the discriminator moves first, then the generator against the moved one; ``"simultaneous"``:
            both move at once, against the same generated rows (Goodfellow et al. 2014); ``"extragradient"``: at once, along the
            gradients a step ahead, which contracts where simultaneous steps go round.
        rate: the discriminator's learning rate as a factor of the generator's.
        ahead: the step ahead of ``"extragradient"``, as a learning rate of plain gradient steps; 0.01 by default.

    Raises:
        ValueError: no module, an unknown game or order, a count below one, or steps of another order; when a model is attached,
            one without gradients through its draws (a discrete site), or a discriminator that does not map its rows to log odds.

    A last batch of one row is left out where a player has batch normalisation. On several processes every process plays against
    its part of the batch; the players' steps are those of one process, except that log odds of rows are then computed in parts,
    which matters to torch's own batch normalisation alone (``nets.layers.BatchNorm`` has the statistics of all parts).

    Example:
        >>> import pyro_dgm as dgm
        >>> gan, x = dgm.GAN.example()
        >>> game = dgm.Adversarial(dgm.Discriminator(x.shape[1], hidden=(8,)))
        >>> run = dgm.fit(gan, x, objective=game, epochs=1, progress=False)
        >>> sorted(run.history[-1])[1:4]
        ['discriminator', 'epoch', 'generator']
    """

    needs_whole_rows = "tells whole rows from draws"

    def __init__(
        self,
        discriminator: nn.Module | Mapping[str, nn.Module],
        game: Game = "non-saturating",
        steps: int = 1,
        play: Play = "alternating",
        rate: float = 1.0,
        ahead: float | None = None,
    ) -> None:
        modules = {"": discriminator} if isinstance(discriminator, nn.Module) else discriminator
        if (
            not isinstance(modules, Mapping)
            or not modules
            or not all(isinstance(d, nn.Module) for d in modules.values())
        ):
            raise ValueError(
                f"discriminator got {discriminator!r}; expected a torch.nn.Module, such as dgm.Discriminator(784), or a "
                "dictionary of them"
            )
        check_choice("game", game, get_args(Game))
        check_choice("play", play, get_args(Play))
        check_count("steps", steps, what="the discriminator's steps for every step of the generator")
        check_positive("rate", rate, "a factor of the learning rate")
        if steps > 1 and play != "alternating":
            raise ValueError(f"steps got {steps} with play={play!r}, where both players move at once; expected 1")
        if ahead is not None and play != "extragradient":
            raise ValueError(f"ahead got {ahead!r} with play={play!r}; it goes with play='extragradient'")
        check_positive("ahead", 0.01 if ahead is None else ahead, "the size of a step")
        self.discriminators = dict(modules)
        self.game, self.steps, self.play, self.rate = game, steps, play, float(rate)
        self.ahead = 0.01 if ahead is None else float(ahead)

    def owned(self) -> dict[str, nn.Module]:
        return {_named("discriminator", name): module for name, module in self.discriminators.items()}

    def attach(self, model: Any) -> None:
        shown = check_differentiable(model, type(self).__name__)
        matches = getattr(model, "matches", None)
        self.matches: dict[str, Match] = (
            {"": Match(lambda x: (x, counterparts(model, x)), list(model.parameters()))}
            if matches is None
            else matches()
        )
        if self.matches.keys() != self.discriminators.keys():
            raise ValueError(
                f"Adversarial got discriminators for {sorted(self.discriminators)}; {type(model).__name__} has matches "
                f"{sorted(self.matches)}"
            )
        # Torch's own has the statistics of a process's part, which then needs two rows.
        self.fewest_rows = 2 if self._normalises(model) else 1
        if has_torch_norm(model, *self.discriminators.values()):
            self.fewest_rows *= processes.world()
        with evaluating(model):
            for name, match in self.matches.items():
                self.discriminators[name].to(shown)
                _check_log_odds(self.discriminators[name], match, shown)

    def check_fit(self, model: Any, rows: int, batch_size: int, epochs: int) -> None:
        if self._normalises(model) and min(batch_size, rows) < 2:
            raise ValueError(f"got batches of {min(batch_size, rows)} row; batch normalisation needs at least two")

    def _normalises(self, model: Any) -> bool:
        """Whether a player has batch normalisation, which needs more than a row."""
        return any(has_batch_norm(player) for player in (model, *self.discriminators.values()))

    def turns(self, x: Tensor) -> Iterator[Turn]:
        for name, match in self.matches.items():
            yield from self._turns(name, match, self.discriminators[name], x)

    def _turns(self, name: str, match: Match, discriminator: nn.Module, x: Tensor) -> Iterator[Turn]:
        """The turns of one match."""
        first, second = _named("discriminator", name), _named("generator", name)
        if self.play != "alternating":
            yield Turn(_named("both", name), lambda: self._at_once(match, discriminator, x), (first, second))
            return
        for _ in range(self.steps):
            yield Turn(first, lambda: _against_generator(match, discriminator, x), (first,))
        yield Turn(second, lambda: self._against_discriminator(match, discriminator, x), (second,))

    def _against_discriminator(self, match: Match, discriminator: nn.Module, x: Tensor) -> Tensor:
        return generator_loss(self.game, held(discriminator, match.pair(x)[1]))

    def _at_once(self, match: Match, discriminator: nn.Module, x: Tensor) -> Tensor:
        def losses() -> Tensor:
            data, generated = match.pair(x)
            mine = discriminator_loss(discriminator(data), discriminator(generated.detach()))
            return mine + generator_loss(self.game, held(discriminator, generated))

        if self.play == "simultaneous":
            return losses()
        moving = [p for p in (*match.parameters, *discriminator.parameters()) if p.requires_grad]
        return extrapolated(losses, moving, self.ahead, len(x))

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        return [{"params": match.parameters, "name": _named("generator", n)} for n, match in self.matches.items()]

    def all_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        own = self.owned().keys()
        return [group | ({"rate": self.rate} if group["name"] in own else {}) for group in super().all_groups(model)]

    def options(self) -> dict[str, Any]:
        players = {name or "rows": described_module(module) for name, module in self.discriminators.items()}
        ahead = {"ahead": self.ahead} if self.play == "extragradient" else {}
        return {
            **super().options(), "game": self.game, "steps": self.steps, "play": self.play, "rate": self.rate, **ahead,
            "discriminators": players,
        }  # fmt: skip


def _against_generator(match: Match, discriminator: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        data, generated = match.pair(x)
    return discriminator_loss(discriminator(data), discriminator(generated))


def _named(player: str, match: str) -> str:
    return f"{player} {match}".strip()


def described_module(module: nn.Module) -> dict[str, Any]:
    """The class of a network and its options, as a run on disk states them."""
    options: Any = getattr(module, "options", dict)
    return {"class": type(module).__name__, **options()}


def _check_log_odds(discriminator: nn.Module, match: Match, rows: Tensor) -> None:
    """Refuse a discriminator that does not give one number per row."""
    name = type(discriminator).__name__
    with torch.no_grad(), untouched(), evaluating(discriminator):
        data, _ = match.pair(rows)
        try:
            found = discriminator(data)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            raise ValueError(
                f"the discriminator {name} does not take {data.shape[1]} columns, those of the generated rows "
                f"({str(error).splitlines()[0]})"
            ) from error
    if not isinstance(found, Tensor) or found.shape != rows.shape[:1]:
        shape = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(
            f"the discriminator {name} gives {shape} for 2 rows of {data.shape[1]} columns; expected (2,), log odds of every row"
        )
