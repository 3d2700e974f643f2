"""Sigmoid belief networks, section 20.10.1: layered, fully connected, with autoregressive layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, Self, get_args

import pyro
import torch
from torch import Tensor, nn

from ...checks import check_belongs, check_choice, check_columns, check_count, check_counts
from ...distributions.autoregressive_bits import AutoregressiveBits
from ...inference.saul_bound import SaulBound
from ...native import linear
from ...objectives.estimators.multi_sample import VIMCO, BidirectionalHelmholtz, ReweightedWakeSleep
from ...objectives.estimators.score_function import NVIL
from ...objectives.objective import Elbo, Objective
from ..shared.bidirectional import bidirectional_evidence
from ..shared.evidence import Evidence
from ..shared.examples import bits, seeded
from ..shared.latent import METHODS, LatentVariableModel
from ..shared.listed import bit_states
from ..shared.rows import check_binary, check_rows

_Kind = Literal["rws", "wake-sleep", "vimco", "nvil", "bihm"]

_LARGEST = 16
"""The most latent bits for which the likelihood is computed exactly."""

_ENTRIES = 1 << 24
"""Entries of the largest array that a bound or an exact sum holds at once; it bounds the memory and changes nothing else."""


class SBN(LatentVariableModel):
    r"""Sigmoid belief network with layers of binary latent variables (Neal 1992; Saul, Jaakkola and Jordan 1996).

    $P(h_L) = \prod_i \sigma(c_{Li})$-Bernoulli, $P(h_{l} = 1 \mid h_{l+1}) = \sigma(b_l + W_{l+1} h_{l+1})$, and so for
    $x = h_0$. With ``autoregressive`` the units of a layer also depend on those before them in it,
    $P(s_i = 1 \mid s_{<i}, \cdot) = \sigma(b_i + \ldots + \sum_{j<i} U_{ij} s_j)$: these are DARN's layers (Gregor et al.
    2014), and with one latent layer that is the fully connected network of (20.70).

    ``model(x)`` has the sites ``"hidden{L}"`` to ``"hidden1"`` and ``"x"``; the guide draws the layers upwards,
    $Q(h_l = 1 \mid h_{l-1}) = \sigma(r_l + h_{l-1}^\top R_l)$, autoregressive within a layer where the model is. Trained by
    wake-sleep, model and guide are a Helmholtz machine (Hinton et al. 1995).

    Args:
        visible: the number of columns of the data.
        hidden: units of every latent layer, the lowest first.
        autoregressive: couple the units of a layer, in the model and in the guide.

    Attributes:
        weights: $W_1, \ldots, W_L$, each ``layer below x layer``.
        biases: $b_0, \ldots, b_L$, from the visible layer upwards.
        recognition_weights, recognition_biases: $R_l$ (``layer below x layer``) and $r_l$.
        within, recognition_within: with ``autoregressive``, $U$ of every layer; only the part below the diagonal is used.

    Raises:
        ValueError: no latent layer, or a number of units below one.

    See also:
        ``dgm.DBN``, whose two top layers are an undirected machine.

    Example:
        >>> import pyro_dgm as dgm
        >>> sbn = dgm.SBN(visible=6, hidden=(4, 3))
        >>> sbn.sample(2).shape
        torch.Size([2, 6])
    """

    guide_needs_rows = True
    evidence_methods = {
        "exact": {},
        **METHODS,
        "mean field": {"rounds": 20},
        "bidirectional": {"particles": 1000, "draws": 10_000, "rows": 4000},
    }

    def __init__(self, visible: int, hidden: Sequence[int] = (200, 200), autoregressive: bool = False) -> None:
        super().__init__()
        visible, hidden = check_columns(visible), check_counts("hidden", hidden, "the units of every latent layer")
        self.visible, self.hidden, self.autoregressive = visible, hidden, autoregressive
        sizes = (visible, *hidden)
        pairs = list(zip(sizes[:-1], sizes[1:], strict=True))
        self.weights = nn.ParameterList(torch.randn(m, n) / n**0.5 for m, n in pairs)
        self.biases = nn.ParameterList(torch.zeros(n) for n in sizes)
        self.recognition_weights = nn.ParameterList(torch.randn(m, n) / m**0.5 for m, n in pairs)
        self.recognition_biases = nn.ParameterList(torch.zeros(n) for n in hidden)
        if autoregressive:
            self.within = nn.ParameterList(torch.zeros(n, n) for n in sizes)
            self.recognition_within = nn.ParameterList(torch.zeros(n, n) for n in hidden)

    def generate(self, x: Tensor | None = None, size: int | None = None) -> Tensor:
        layer_of = self.layers()
        with self.data_plate(x, size):
            above: Tensor | None = None
            for layer in range(len(self.hidden), 0, -1):
                above = pyro.sample(f"hidden{layer}", layer_of(layer, above))
            return pyro.sample("x", layer_of(0, above), obs=x)

    def layer(self, number: int, above: Tensor | None) -> AutoregressiveBits:
        """The distribution of a layer given the one above it: ``batch_shape`` of ``above``, ``event_shape`` (units,)."""
        return self.layers()(number, above)

    def layers(self) -> Callable[[int, Tensor | None], AutoregressiveBits]:
        """The function ``layer``, with the parameters looked up once."""
        # Every look-up registers all parameters with Pyro.
        weights, biases, within = self.weights, self.biases, self.within if self.autoregressive else None

        def layer(number: int, above: Tensor | None) -> AutoregressiveBits:
            logits = biases[number] if above is None else linear(above, weights[number].t(), biases[number])
            return AutoregressiveBits(logits, None if within is None else within[number])

        return layer

    def infer(self, x: Tensor, size: int | None = None) -> None:
        below, within = x, self.recognition_within if self.autoregressive else None
        with self.data_plate(x, size):
            for k, (R, r) in enumerate(zip(self.recognition_weights, self.recognition_biases, strict=True)):
                bits = AutoregressiveBits(linear(below, R, r), None if within is None else within[k])
                below = pyro.sample(f"hidden{k + 1}", bits)

    def objective(
        self, kind: _Kind = "rws", particles: int | None = None, hidden: int | None = None, local: bool = False
    ) -> Objective:
        """The objective of that kind.

        Args:
            kind: ``"rws"`` (wake-θ and wake-φ), ``"wake-sleep"``, ``"vimco"``, ``"nvil"`` or ``"bihm"``.
            particles: K, 5 by default; wake-sleep has none.
            hidden: the number of units of NVIL's baseline network, 100 by default.
            local: give every layer its own learning signal, for NVIL.

        Raises:
            ValueError: an unknown kind, or an option of another one.
        """
        check_choice("kind", kind, get_args(_Kind))
        check_belongs("kind", kind, ["nvil"], hidden=hidden, local=local or None)
        check_belongs("kind", kind, ["rws", "vimco", "nvil", "bihm"], particles=particles)
        if kind == "wake-sleep":
            return Elbo(ReweightedWakeSleep(1, wake=0.0, sleep=1.0))
        particles = 5 if particles is None else particles
        if kind == "rws":
            return Elbo(ReweightedWakeSleep(particles))
        if kind == "vimco":
            return Elbo(VIMCO(particles))
        if kind == "bihm":
            return Elbo(BidirectionalHelmholtz(particles))
        signals, hidden = len(self.hidden) if local else 1, 100 if hidden is None else hidden
        baseline = nn.Sequential(nn.Linear(self.visible, hidden), nn.Tanh(), nn.Linear(hidden, signals))
        return Elbo(NVIL(particles, baseline, local=local))

    def evidence(self, x: Tensor, method: str | None = None, **options: Any) -> Evidence:
        r"""$\log p(x)$ of every row: exact up to 16 latent bits, else the importance-weighted lower bound.

        Args:
            x: data.
            method: ``"exact"``, the default where no options are given; ``"importance"`` or ``"ais"``, as for other models;
                ``"mean field"``, the deterministic lower bound of Saul, Jaakkola and Jordan (1996) (``dgm.SaulBound``); or
                ``"bidirectional"``, an estimate of another law's $\log p^*(x)$: that of network and guide taken together as a
                bidirectional Helmholtz machine (``dgm.BidirectionalHelmholtz``).
            options: ``rounds``, the rounds of updates of the mean-field bound; ``particles`` and ``draws``, those of the guide
                per row and those of the network behind log Z of the bidirectional law; or those of
                ``LatentVariableModel.evidence``.

        Raises:
            ValueError: an exact sum over more than 16 latent bits; a mean-field bound of autoregressive layers.
        """
        if method is None and not options and sum(self.hidden) <= _LARGEST:
            method = "exact"
        if method == "exact":
            return Evidence.exact(self._exact(x, **self.method_options(method, options)), "enumeration")
        if method == "mean field":
            return self._mean_field(x, **self.method_options(method, options))
        if method == "bidirectional":
            return self._bidirectional(x, **self.method_options(method, options))
        return super().evidence(x, method, **options)

    def _bidirectional(self, x: Tensor, particles: int, draws: int, rows: int) -> Evidence:
        weights = partial(self._log_weights, self.model, particles=particles, rows=rows)
        return bidirectional_evidence(self, x, weights, draws, particles)

    @torch.no_grad()
    def _mean_field(self, x: Tensor, rounds: int) -> Evidence:
        if self.autoregressive:
            raise ValueError(
                "the mean-field bound needs layers whose units do not depend on one another; this network is autoregressive. "
                "Use method='ais' or 'importance'"
            )
        rounds = check_count("rounds", rounds)
        values = []
        for batch in x.split(max(_ENTRIES // max(w.numel() for w in self.weights), 1)):
            means, below = [], batch
            for R, r in zip(self.recognition_weights, self.recognition_biases, strict=True):
                below = torch.sigmoid(r + below @ R)
                means.append(below)
            bound = SaulBound(list(self.weights), list(self.biases), batch, means)
            for _ in range(rounds):
                bound.improve()
            values.append(bound.value())
        method = f"mean-field lower bound of Saul, Jaakkola and Jordan, {rounds} rounds"
        return Evidence(torch.cat(values), "lower bound", method, 0.0, 0.0, math.inf, {"rounds": rounds})

    @torch.no_grad()
    def _exact(self, x: Tensor) -> Tensor:
        bits = bit_states(sum(self.hidden), x, _LARGEST, "latent bits", "Use method='importance'")
        layers = bits.split(list(self.hidden), -1)
        prior: Tensor | float = 0.0
        above: Tensor | None = None
        layer_of = self.layers()
        for layer in range(len(self.hidden), 0, -1):
            prior = prior + layer_of(layer, above).log_prob(layers[layer - 1])
            above = layers[layer - 1]
        likelihood = layer_of(0, layers[0])
        chunk = max(_ENTRIES // (len(bits) * self.visible), 1)
        return torch.cat([(prior + likelihood.table(rows)).logsumexp(1) for rows in x.split(chunk)])

    def initialise(self, x: Tensor) -> None:
        """Start the visible biases at the columns' means, less the mean input from the latents."""
        with torch.no_grad():
            mean_input = 0.5 * self.weights[0].sum(1)
            self.biases[0].copy_(torch.logit(x.mean(0), eps=1e-2) - mean_input)

    def check_data(self, x: Tensor) -> None:
        check_rows(x, torch.Size([self.visible]), "SBN")
        check_binary(x, "SBN")

    def options(self) -> dict[str, Any]:
        return {"visible": self.visible, "hidden": list(self.hidden), "autoregressive": self.autoregressive}

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(visible=4, hidden=(3, 2)), lambda: bits(10, 4), scale=0.7)
