"""Chains of a machine's own predictions of what is hidden from it (sections 20.4.5 and 20.11)."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import torch
from torch import Tensor

from ..checks import check_count, check_share, shown
from ..energy import BoltzmannDistribution, NotEnumerable, State
from ..energy.mean_field import mean_field
from .clamping import expanded
from .gibbs import Clamping, checked_clamp, first_states
from .kernel import ChainsKernel, check_layers


class PredictionChain(ChainsKernel):
    r"""Steps that hide a random part of the units and draw it from what mean field says of it.

    A machine trained by multi-prediction (``dgm.MultiPrediction``) is a denoising autoencoder: hiding is the corruption, and the
    rounds of mean field (20.33-34) are the network that rebuilds, $x_a \sim Q(x_a \mid x_b)$ (Goodfellow, Mirza, Courville and
    Bengio 2013; section 20.11). The chain's law is not the machine's: it is near it where mean field is good, and it is the one
    that the criterion trains. ``dgm.BlockGibbs`` has the machine's own law.

    Args:
        dist: the Boltzmann distribution, as ``dbm()`` returns it, without couplings inside layers.
        known: the share of the units that stay in a step.
        rounds: the rounds of mean field.
        layers: the layers that the chain goes over, the visible one by default (with labels ``["visible", "label"]``).
        clamp: as for ``dgm.BlockGibbs``; clamped entries are always known.

    Raises:
        ValueError: no machine with layers, a layer that it lacks, a share outside (0, 1), no round, or a clamp that does not fit.

    Example:
        >>> import pyro_dgm as dgm
        >>> dbm, _ = dgm.DBM.example()
        >>> kernel = dgm.PredictionChain(dbm(), known=0.5)
        >>> mcmc = dgm.VectorizedMCMC(kernel, 10, 5, num_chains=3, disable_progbar=True)
        >>> mcmc.run()
        >>> mcmc.get_samples(group_by_chain=True)["visible"].shape[:2]
        torch.Size([3, 10])
    """

    def __init__(
        self,
        dist: BoltzmannDistribution,
        known: float = 0.5,
        rounds: int = 10,
        layers: Sequence[str] | None = None,
        clamp: Clamping = None,
    ) -> None:
        if not isinstance(dist, BoltzmannDistribution):
            hint = " (call the model: PredictionChain(dbm()))" if callable(dist) else ""
            raise ValueError(f"PredictionChain got {type(dist).__name__}; expected a Boltzmann distribution{hint}")
        super().__init__()
        check_layers(self, dist)
        check_share("known", known, "the share of the units that stay in a step")
        self.dist, self.known = dist, float(known)
        self.rounds = check_count("rounds", rounds, what="the rounds of mean field")
        self.visible = dist.visible
        self.layers = [dist.visible] if layers is None else _checked(layers, dist)
        self.shapes = {layer: dist.shapes[layer] for layer in self.layers}
        self.clamp = checked_clamp(dist, clamp)
        if strange := sorted(set(self.clamp or {}) - set(self.layers)):
            raise ValueError(f"clamp names {strange}, over which the chain does not go; it goes over {self.layers}")

    def start(self, chains: int) -> State:
        state = first_states(self.dist, self.clamp, chains)
        return {layer: state[layer] for layer in self.layers}

    def sample(self, params: State) -> State:
        with torch.no_grad():
            held = {layer: (self._mask(layer, x), x) for layer, x in params.items()}
            naturals = mean_field(self.dist.machine, {}, self.rounds, known=held).naturals
            units = self.dist.machine.graph.layers
            return {layer: units[layer].sample_clamped(naturals[layer], *held[layer]) for layer in params}

    def _mask(self, layer: str, x: Tensor) -> Tensor:
        """The entries that stay, whole atoms where units have several columns."""
        unit = self.dist.machine.graph.layers[layer]
        atoms = x.shape[: x.dim() - unit.inner_dim]
        stays = torch.rand(atoms, device=x.device) < self.known
        stays = stays.view(*atoms, *(1 for _ in range(unit.inner_dim))).expand(x.shape)
        if self.clamp is None or layer not in self.clamp:
            return stays
        return stays | expanded(layer, self.clamp[layer], x.shape)[0]

    def scalars(self, params: State) -> dict[str, Tensor]:
        """The sum of the visible units, and the free energy where hidden units can be summed out."""
        visible = params[self.visible]
        total = visible.flatten(1 + len(self.dist.batch_shape)).sum(-1)
        found = {"sum": total}
        with torch.no_grad(), contextlib.suppress(NotEnumerable):
            found["free_energy"] = self.dist.free_energy(visible)
        return found

    def misfit(self, layer: str, value: Tensor) -> str | None:
        return self.dist.misfit(layer, value)

    @property
    def dtype(self) -> torch.dtype | None:
        return self.dist.parameters()[0].dtype


def _checked(layers: Sequence[str], dist: BoltzmannDistribution) -> list[str]:
    """The names of layers of a machine, that of its rows among them.

    Raises:
        ValueError: no sequence of names, one that the machine lacks, or none of the visible layer.
    """
    known, named = list(dist.machine.graph.layers), isinstance(layers, list | tuple)
    if not named or dist.visible not in layers or any(layer not in known for layer in layers):
        raise ValueError(
            f"layers got {shown(layers)}; expected some of {known} with {dist.visible!r}, as in [{dist.visible!r}]"
        )
    return list(dict.fromkeys(layers))
