"""Chains that a model defines by its own steps, without a distribution that could be named."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ..energy import Clamp, State
from ..nets.modes import evaluating
from .gibbs import Clamping
from .kernel import ChainsKernel


@runtime_checkable
class Walker(Protocol):
    """A model that is known by the steps of its chain."""

    def first_state(self, chains: int) -> State:
        """The first states of a number of chains."""
        ...

    def next_state(self, state: State, clamp: Clamp | None) -> State:
        """The chains after one step, with the clamped entries at their values."""
        ...

    def put_back(self, state: State, clamp: Clamp) -> State:
        """A state with its known entries at their values."""
        ...

    def drawn(self, state: State) -> State:
        """The part of a state that is a draw: rows, labels and scalars of the step, but no noise or hidden units."""
        ...

    def scalars(self, state: State) -> dict[str, Tensor]:
        """Scalars of draws that tell whether chains agree, by name: ``chains``."""
        ...

    def held(self, clamp: Clamping) -> Clamp | None:
        """A clamp by layer, checked, with the dimensions of states."""
        ...

    def misfit(self, layer: str, value: Tensor) -> str | None:
        """The reason why the states of a layer are impossible; None if they are possible."""
        ...


class ModelChain(ChainsKernel):
    r"""Steps of a model that is the law its own chain tends to (sections 20.11-20.12).

    The transition $T(x' \mid x)$ is given, its stationary law $\pi = \pi T$ is not. With a clamp the known entries are put back
    after every step, and, where the model was trained so, kept free of its noise. The result tends to $\pi(x_a \mid x_b)$ only
    where the steps are in detailed balance with $\pi$ (Alain et al. 2015); otherwise it is near it.

    Args:
        model: a denoising or contractive autoencoder, a generative stochastic network, or a model of your own with the methods
            of ``pyro_dgm.mcmc.model_chain.Walker``.
        clamp: the known entries: ``{layer: (mask, value)}``, or ``(mask, value)`` for the visible layer, as for
            ``dgm.BlockGibbs``.

    Raises:
        ValueError: a model without steps of its own; a clamp that does not fit it.

    Example:
        >>> import pyro_dgm as dgm
        >>> autoencoder, x = dgm.DenoisingAutoencoder.example()
        >>> mcmc = dgm.VectorizedMCMC(dgm.ModelChain(autoencoder), 10, 5, num_chains=3, disable_progbar=True)
        >>> mcmc.run()
        >>> mcmc.get_samples(group_by_chain=True)["visible"].shape
        torch.Size([3, 10, 4])
    """

    def __init__(self, model: Walker, clamp: Clamping = None) -> None:
        super().__init__()
        if not isinstance(model, Walker) or not isinstance(model, nn.Module):
            raise ValueError(
                f"ModelChain got {type(model).__name__}; expected a model that is known by the steps of its chain, such as "
                "dgm.DenoisingAutoencoder(...). For Boltzmann machines take dgm.BlockGibbs(model())"
            )
        self.walker: Any = model
        self.clamp = model.held(clamp)

    def start(self, chains: int) -> State:
        with torch.no_grad():
            state = self.walker.first_state(chains)
            return state if self.clamp is None else self.walker.put_back(state, self.clamp)

    def sample(self, params: State) -> State:
        with torch.no_grad(), evaluating(self.walker):
            return self.walker.next_state(params, self.clamp)

    def draws(self, params: State) -> State:
        return self.walker.drawn(params)

    def scalars(self, params: State) -> dict[str, Tensor]:
        with torch.no_grad():
            return self.walker.scalars(params)

    def misfit(self, layer: str, value: Tensor) -> str | None:
        return self.walker.misfit(layer, value)

    @property
    def dtype(self) -> torch.dtype | None:
        return next((p.dtype for p in self.walker.parameters()), None)
