"""The base of models that are the law which a chain of their own tends to (sections 20.11-20.12)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ...checks import check_count
from ...energy import Clamp, State
from ...energy.support import unfit
from ...mcmc import ModelChain, VectorizedMCMC
from ...mcmc.clamping import by_layer, tensors_of
from ...mcmc.gibbs import Clamping
from .chain_details import Step
from .conditioning import ConditionalsByChain
from .rows import check_rows

APPROXIMATE = {"method": "clamped chains, approximate: their steps are not known to be in detailed balance"}
"""What details say of conditionals drawn by clamping."""


class WalkingModel(ConditionalsByChain):
    r"""A model whose law is the stationary law of its own steps, $\pi = \pi T$: it has draws and conditionals, no likelihood.

    A state is a dictionary of layers; ``"visible"`` and, with classes, ``"label"`` are what rows hold.

    Attributes:
        visible: the number of columns without the label.
        classes: the number of classes, 0 without labels.
    """

    visible: int
    classes: int = 0

    @abstractmethod
    def opening(self, x: Tensor) -> State:
        """A state of one chain per row with these visible columns; hidden units and labels are zero."""

    @abstractmethod
    def next_state(self, state: State, clamp: Clamp | None) -> State:
        """The chains after one step, with the clamped entries at their values."""

    @abstractmethod
    def first_rows(self, n: int) -> Tensor:
        """Visible rows with independent columns of the data's means, from which chains start: ``n x visible``."""

    @abstractmethod
    def seen(self, x: Tensor) -> Tensor:
        """Visible rows in the units of the networks."""

    def first_state(self, chains: int) -> State:
        """The first states of a number of chains: independent columns of the data's means, and no label."""
        return self.opening(self.first_rows(chains))

    def sizes(self) -> dict[str, int]:
        """The columns of the layers that rows hold, in their order."""
        return {"visible": self.visible} | ({"label": self.classes} if self.classes else {})

    def observed(self, x: Tensor) -> dict[str, Tensor]:
        """The layers that rows hold, from rows (or booleans of their entries)."""
        return dict(zip(self.sizes(), x.split(list(self.sizes().values()), -1), strict=True))

    def joined(self, state: Mapping[str, Tensor]) -> Tensor:
        """Rows from the states of layers: the inverse of ``observed``."""
        return torch.cat([state[layer] for layer in self.sizes()], -1)

    def drawn(self, state: State) -> State:
        """The layers that rows hold, and ``"log_step"`` where steps have one."""
        return {layer: state[layer] for layer in (*self.sizes(), "log_step") if layer in state}

    def scalars(self, state: State) -> dict[str, Tensor]:
        """Scalars of draws: the log-probability of the step, the sum and squared norm of the columns, three random sums,
        and with classes the number of the class (the mean over frames).

        Single columns may be constant and have no R-hat.
        """
        x = self.seen(state["visible"])
        signs = torch.randint(0, 2, (self.visible, 3), generator=torch.Generator().manual_seed(0))
        sums = x @ (2 * signs - 1).to(x) / self.visible**0.5
        found = {"log_step": state["log_step"]} if "log_step" in state else {}
        found |= {"sum": x.sum(-1), "squared_norm": x.square().sum(-1)}
        found |= {f"projection_{k + 1}": sums[..., k] for k in range(3)}
        if "label" in state:
            label = state["label"].unflatten(-1, (-1, self.classes))
            found["label"] = (label * torch.arange(self.classes).to(label)).sum(-1).mean(-1)
        return found

    def put_back(self, state: State, clamp: Clamp) -> State:
        """A state with its known entries at their values."""
        return state | {layer: torch.where(mask, value, state[layer]) for layer, (mask, value) in clamp.items()}

    def held(self, clamp: Clamping) -> Clamp | None:
        """A clamp by layer, checked: booleans and values of shape ``chains x columns``, or one row for all chains.

        Raises:
            ValueError: a layer that rows do not hold, a shape or type that does not fit, or a value that cannot be.
        """
        found: dict[str, tuple[Tensor, Tensor]] = {}
        sizes, like = self.sizes(), next(self.parameters())
        for layer, (mask, value) in by_layer("visible", clamp).items():
            if layer not in sizes:
                raise ValueError(f"clamp names the layer {layer!r}; rows of {type(self).__name__} hold {list(sizes)}")
            mask, value = tensors_of(layer, (mask, value), like.device)
            for name, tensor in (("mask", mask), ("value", value)):
                if tensor.dim() not in (1, 2) or tensor.shape[-1] != sizes[layer]:
                    raise ValueError(
                        f"the clamp's {name} of {layer!r} has shape {tuple(tensor.shape)}; expected ({sizes[layer]},) or "
                        f"chains x {sizes[layer]}"
                    )
            mask, value = torch.atleast_2d(mask), torch.atleast_2d(value.to(like.dtype))
            known, values = torch.broadcast_tensors(mask, value)
            self.check_held(layer, known, values)
            found[layer] = (mask, value)
        return found or None

    def check_held(self, layer: str, known: Tensor, value: Tensor) -> None:
        """Raise ``ValueError`` where known entries of a layer hold values that they cannot take."""
        if not bool((value.isfinite() | ~known).all()):
            raise ValueError(f"the clamp holds {layer!r} at NaN or infinite values; mark them unknown")

    def misfit(self, layer: str, value: Tensor) -> str | None:
        """The reason why the states of a layer are impossible; None if they are possible."""
        return unfit(value)

    def sample(self, n: int, steps: int = 200, labels: Tensor | int | None = None) -> Tensor:
        """Draw ``n`` rows, the last states of as many chains that started from the data's means.

        Args:
            n: the number of rows.
            steps: the steps of each chain; ``chains`` shows whether they are enough.
            labels: the class of every row (and of all its frames), or one class for all, from 0, held fixed; by default it is
                drawn with the rows.

        Raises:
            ValueError: a number below one; labels outside the classes, or of a model without classes.
        """
        return self.joined(self.walked(n, steps, None if labels is None else self._label_clamp(n, labels)))

    def walk(self, n: int) -> Any:
        """The model's own chain, two hundred steps."""
        return self.first_state(n), lambda state: self.next_state(state, None), 200

    def walked(self, n: int, steps: int, clamp: Clamping = None) -> State:
        """The states of chains after some steps from the data's means."""
        kernel = ModelChain(self, clamp)
        return kernel.move(kernel.start(check_count("n", n)), check_count("steps", steps, what="the steps of a chain"))

    def _label_clamp(self, n: int, labels: Tensor | int) -> dict[str, tuple[Tensor, Tensor]]:
        if not self.classes:
            raise ValueError(f"labels got {labels!r}, but this {type(self).__name__} has no classes")
        try:
            chosen = torch.as_tensor(labels).cpu()
        except (TypeError, ValueError, RuntimeError):
            chosen = torch.zeros(0)
        wrong = chosen.is_floating_point() or chosen.shape not in ((), (n,))
        if wrong or bool(((chosen < 0) | (chosen >= self.classes)).any()):
            raise ValueError(
                f"labels got {labels!r}; expected {n} integers from 0 to {self.classes - 1}, or one of them"
            )
        value = torch.eye(self.classes)[chosen.long().expand(n)].repeat(1, self.sizes()["label"] // self.classes)
        return {"label": (torch.ones_like(value, dtype=torch.bool), value)}

    def chains(self, draws: int = 500, warmup: int = 500, chains: int = 20, engine: str = "auto") -> VectorizedMCMC:
        """Run chains of the model's steps without a clamp."""
        mcmc = VectorizedMCMC(ModelChain(self), draws, warmup, num_chains=chains, engine=engine)
        mcmc.run()
        return mcmc

    def conditional_chain(self, x: Tensor, known: Tensor, warmup: int) -> Iterator[Step]:
        """Yield the state after every step of one clamped chain per row."""
        values, masks = self.observed(x), self.observed(known.expand(x.shape))
        clamp = {layer: (masks[layer], value) for layer, value in values.items()}
        kernel = ModelChain(self, clamp)
        kernel.trusted = True
        state = kernel.start(len(x))
        while True:
            state = kernel.sample(state)
            yield Step(self.joined(state))

    def impute_with_details(self, x: Tensor, known: Tensor, draws: int = 500) -> tuple[Tensor, dict[str, Any]]:
        """The result of ``impute``, and effective sample size and R-hat of the clamped chains."""
        filled, details = super().impute_with_details(x, known, draws)
        return filled, details | APPROXIMATE

    def condition_with_details(
        self, x: Tensor, known: Tensor, draws: int = 100, warmup: int | None = None, thinning: int | None = None
    ) -> tuple[Tensor, dict[str, Any]]:
        """The result of ``condition``, and effective sample size and R-hat of the clamped chains."""
        drawn, details = super().condition_with_details(x, known, draws, warmup, thinning)
        return drawn, details | APPROXIMATE

    def data_shape(self) -> torch.Size:
        return torch.Size([sum(self.sizes().values())])

    def check_data(self, x: Tensor) -> None:
        check_rows(x, self.data_shape(), type(self).__name__)
