"""Noise-contrastive estimation."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ... import processes
from ...checks import check_count
from ...energy import BoltzmannDistribution, EnergyDistribution, Graph, State
from ..objective import Objective
from .conditionals import distribution_of, observed


class NoiseContrastive(Objective):
    r"""The classification of data against noise, with log Z learned beside the model (18.28-37; Gutmann and Hyvärinen 2010).

    With $G(x) = -F(x) - c - \log q(x)$ and $\nu$ noise rows $y \sim q$ per datum, the loss is
    $-\log \sigma(G(x) - \log\nu) - \sum_{j \le \nu} \log \sigma(\log\nu - G(y_j))$, in nats per row. If the family holds the
    data's distribution, the minimum is that distribution, and c is log Z there. The further the noise is from the data,
    the less there is to learn from it: with many units a product of marginals is too easy to tell from data.

    c starts at an importance-sampling estimate of log Z under the noise. It is trained along with the model
    (``parameter_groups``), without weight decay, and saved in ``state_dict``.

    Args:
        noise: a distribution over the visible layer (``log_prob`` of rows and ``sample``); by default the product of the
            marginals of the first batch, in the visible layer's own exponential family.
        ratio: noise rows per datum, $\nu$.

    Attributes:
        log_partition: c, the learned log Z, once a model is attached.

    Raises:
        ValueError: a ratio below one, or a noise without ``log_prob`` and ``sample``; when a model is attached, one whose
            call returns no energy distribution, or one without unit layers if no noise is given; at the first step, a
            noise of another shape.

    Example:
        >>> import pyro_dgm as dgm
        >>> rbm, x = dgm.RBM.example()
        >>> objective = dgm.NoiseContrastive(ratio=5)
        >>> run = dgm.fit(rbm, x, objective=objective, epochs=1, progress=False)
        >>> objective.log_partition.shape
        torch.Size([])
    """

    needs_whole_rows = "weighs whole rows against noise"

    def __init__(self, noise: Any = None, ratio: int = 1) -> None:
        ratio = check_count("ratio", ratio, what="the number of noise rows per datum")
        if noise is not None and not (hasattr(noise, "log_prob") and hasattr(noise, "sample")):
            raise ValueError(
                f"noise got {type(noise).__name__}; expected a distribution over the visible layer, such as "
                "pyro.distributions.Bernoulli(x.mean(0)).to_event(1)"
            )
        self.ratio = ratio
        self._given = noise
        self._marginals: dict[str, tuple[Tensor, ...]] = {}
        self._origins: dict[str, Tensor] = {}
        self._started = False

    def options(self) -> dict[str, Any]:
        noise = "marginals" if self._given is None else type(self._given).__name__
        return {**super().options(), "noise": noise, "ratio": self.ratio}

    def attach(self, model: Any) -> None:
        dist = distribution_of(model, type(self).__name__)
        if dist.parameter_batch_shape:
            raise ValueError(
                f"NoiseContrastive got a model of batch shape {tuple(dist.parameter_batch_shape)}; expected one machine, "
                "which has one log Z"
            )
        if self._given is None and not isinstance(dist, BoltzmannDistribution):
            raise ValueError(f"a {type(dist).__name__} has no layer to take marginals of; pass noise=...")
        self._model = model
        self.log_partition = nn.Parameter(dist.parameters()[0].new_zeros(()))

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        return [*super().parameter_groups(model), {"params": [self.log_partition], "weight_decay": 0.0}]

    def loss(self, x: Tensor) -> Tensor:
        dist = self._model()
        x, others = observed(self._model, dist, x)
        with torch.no_grad():
            noise = self._noise(dist, x)
            drawn = noise.sample((self.ratio * len(x),))
            densities = [noise.log_prob(rows) for rows in (x, drawn)]
            if drawn.shape[1:] != dist.event_shape or any(d.dim() != 1 for d in densities):
                raise ValueError(
                    f"the noise draws {tuple(drawn.shape[1:])} with a log_prob of shape {tuple(densities[0].shape)} for "
                    f"{len(x)} rows; expected {tuple(dist.event_shape)} and one figure per row (does it lack .to_event(1)?)"
                )
            known: State = {}
            for layer, states in others.items():  # labels of rows, say
                marginals = self._marginals_of(dist, layer, states)
                known[layer] = torch.cat([states, marginals.sample((len(drawn),))])
                log_p = marginals.log_prob(known[layer])
                densities = [densities[0] + log_p[: len(x)], densities[1] + log_p[len(x) :]]
            if not self._started:
                given = _given(dist, {layer: states[len(x) :] for layer, states in known.items()})
                weights = processes.gather(-given.free_energy(drawn) - densities[1])
                self.log_partition.copy_(torch.logsumexp(weights, 0) - math.log(len(weights)))
                self._started = True
        free_energy = _given(dist, known).free_energy(torch.cat([x, drawn.to(x.dtype)]))
        log_odds = -free_energy - self.log_partition - torch.cat(densities) - math.log(self.ratio)
        signs = torch.ones_like(log_odds)
        signs[len(x) :] = -1
        return F.softplus(-signs * log_odds).sum() / len(x)

    def _noise(self, dist: EnergyDistribution, x: Tensor) -> Any:
        if self._given is not None or not isinstance(dist, BoltzmannDistribution):
            return self._given
        return self._marginals_of(dist, dist.visible, x)

    def _marginals_of(self, dist: BoltzmannDistribution, layer: str, states: Tensor) -> BoltzmannDistribution:
        """The product of a layer's marginals in the first batch."""
        if layer not in self._marginals:
            self._origins[layer] = processes.mean(states.mean(0), len(states))
        unit = dist.machine.graph.layers[layer].about(self._origins[layer])
        if layer not in self._marginals:
            means = (processes.mean(t.mean(0), len(states)) for t in unit.T(states))
            self._marginals[layer] = unit.natural_from_mean(*means)
        return BoltzmannDistribution(Graph({layer: unit}, []), {layer: self._marginals[layer]}, (), layer)

    def state_dict(self) -> dict[str, Any]:
        return {
            "log_partition": self.log_partition.detach(),
            "marginals": {layer: list(natural) for layer, natural in self._marginals.items()},
            "origins": dict(self._origins),
            "started": self._started,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if not state:
            return
        with torch.no_grad():
            self.log_partition.copy_(state["log_partition"])
        self._marginals = {layer: tuple(natural) for layer, natural in state["marginals"].items()}
        self._origins, self._started = dict(state["origins"]), state["started"]


def _given(dist: EnergyDistribution, known: State) -> EnergyDistribution:
    """The distribution with some layers given, where there are any."""
    return dist.given(known) if known and isinstance(dist, BoltzmannDistribution) else dist
