"""Spike-and-slab restricted Boltzmann machine with couplings among its slabs, an extension of section 20.5.4."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...annealing.partition import asks_to_anneal
from ...checks import check_belongs, check_count
from ...distributions.hidden_sites import HiddenSite, JointDraw
from ...energy import BoltzmannDistribution, Dense, Gaussian, Graph, LogPartition, Sparse, SpikeSlab
from ...energy.interactions.sparse import check_edges, edge_list
from ...energy.mean_field import mean_field
from ..shared.abilities import check_options
from ..shared.boltzmann import visible_given
from ..shared.evidence import Evidence, between, bounded
from ..shared.examples import seeded
from ..shared.rows import ROWS_AT_ONCE
from ..shared.slabs import SLACK, SlabMachine
from ._sums_over_spikes import LARGEST, SumsOverSpikes

_ROWS = 500
"""Rows whose exact free energies are summed at once; it bounds the memory and changes nothing else."""


class CoupledSlabRBM(SlabMachine):
    r"""Spike-and-slab RBM whose slabs also act on one another, by terms of the fourth order.

    $E(x, s, h) = E_{20.50}(x, s, h) - \sum_{(i,j)} J_{ij} (s_i h_i)(s_j h_j)$ over a list of pairs of spikes, with one slab
    per spike, where $E_{20.50}$ is the energy of ``dgm.SpikeSlabRBM`` (20.50). Then

    - $P(h_i = 1 \mid x, s_{-i}, h_{-i}) = \sigma(b_i - \alpha_i \mu_i^2 + c_i^2 / 2\alpha_i - \tfrac12 x^\top \Phi_i x)$ and
      $s_i \mid h_i \sim N(h_i c_i / \alpha_i, 1 / \alpha_i)$ with
      $c_i = \alpha_i \mu_i + W_i^\top x + \sum_j J_{ij} s_j h_j$: Gibbs sampling goes over a colouring of the pairs;
    - $x \mid s, h$ is as in ``SpikeSlabRBM``, and the slabs given x and h are $N(A_h^{-1} (h \circ (\alpha\mu + W^\top x)),\;
      A_h^{-1})$ with $A_h = \mathrm{diag}(\alpha) - J \circ h h^\top$: correlated.

    The parameters always have a normaliser: with $a > 0$,
    $\alpha_i = a_i + 1.0001 \bigl(\sum_j W_{ji}^2 / (\Phi_{ji} + \Lambda_j / N) + \sum_j |J_{ij}|\bigr)$. The first sum
    dominates the couplings to x, as in ``SpikeSlabRBM``; the second reserves for every pair the part
    $\tfrac12 |J_{ij}| (s_i^2 + s_j^2) \ge |J_{ij} s_i s_j|$ of $\tfrac12 \alpha_i s_i^2 + \tfrac12 \alpha_j s_j^2$, whatever
    h is.

    Units of the hidden layer depend on each other given x, so that ``model(x)`` has a site ``"hidden"`` of rows $(h_i, s_i)$
    besides ``"x"``. The guide is the mean-field posterior after ``rounds`` rounds of its fixed-point equations, with one
    factor for every (h_i, s_i), and ``Trace_ELBO`` with ``dgm.PCD`` is variational stochastic maximum likelihood
    (algorithm 20.1). The guide's value of the site is $(P(h_i = 1), E[s_i \mid h_i = 1])$. Guides that draw states (h, s)
    work too.

    The energy has no visible bias: subtract the data's mean first. A first ``fit`` sets $\Lambda$ from the data's variances, and
    scales $\Phi$ and W to it.

    Args:
        visible: the number of visible units.
        hidden: N, the number of spikes.
        edges: the pairs of spikes, ``pairs x 2``, each named once; by default the chain (0, 1), (1, 2), ...
        square: learn $\Phi$; otherwise it is 0.
        rounds: rounds of mean field in the guide.

    Attributes:
        weight: $W$, ``visible x hidden``.
        coupling: $J$, one entry per pair.
        slab_mean: $\mu$, ``hidden``.
        hidden_bias: $b$, ``hidden``.
        log_precision: $\log\Lambda$, ``visible``.
        log_square: $\log\Phi$, ``visible x hidden`` (with ``square``).
        log_slab: $\log a$, ``hidden``.

    Raises:
        ValueError: a pair that joins a spike to itself, is named twice or names no spike; no unit; no round of mean field.

    Courville, Bergstra and Bengio (2011), "Unsupervised models of images by spike-and-slab RBMs".

    Example:
        >>> import pyro_dgm as dgm
        >>> ring = dgm.CoupledSlabRBM(visible=6, hidden=4, edges=[(0, 1), (1, 2), (2, 3), (3, 0)])
        >>> len(ring().machine.graph.colours)
        3
    """

    guide_needs_rows = True

    def __init__(
        self,
        visible: int,
        hidden: int = 100,
        edges: Tensor | Sequence[Sequence[int]] | None = None,
        square: bool = True,
        rounds: int = 10,
    ) -> None:
        super().__init__()
        rounds = check_count("rounds", rounds, what="the rounds of mean field")
        units = {"visible": Gaussian(visible), "hidden": SpikeSlab(hidden, 2)}
        self.edges = _checked([(i, i + 1) for i in range(hidden - 1)] if edges is None else edges, hidden)
        # The flat statistic of a spike is (h, h s); its second entry is coupled.
        slabs = [Sparse("hidden", "hidden", 2 * self.edges + 1)] if len(self.edges) else []
        squares = [Dense(("visible", 1), "hidden")] if square else []
        self._graph = Graph(units, [Dense("visible", "hidden"), *squares, *slabs])
        self.visible, self.hidden, self.square, self.rounds = visible, hidden, square, rounds
        # Weights of order one, as in SpikeSlabRBM: small weights and equal slabs would make the filters alike.
        self.weight = nn.Parameter(torch.randn(visible, hidden))
        self.coupling = nn.Parameter(torch.zeros(len(self.edges)))
        self.slab_mean = nn.Parameter(torch.zeros(hidden))
        self.hidden_bias = nn.Parameter(torch.zeros(hidden))
        self.log_precision = nn.Parameter(torch.zeros(visible))
        self.log_slab = nn.Parameter(torch.zeros(hidden))
        if square:
            self.log_square = nn.Parameter(torch.zeros(visible, hidden))

    @property
    def symmetric(self) -> Tensor:
        """J as a symmetric matrix of zero diagonal, ``hidden x hidden``."""
        i, j = self.edges.to(self.coupling.device).unbind(1)
        upper = self.coupling.new_zeros(self.hidden, self.hidden).index_put((i, j), self.coupling)
        return upper + upper.mT

    @property
    def alpha(self) -> Tensor:
        r"""$\alpha$, ``hidden``, large enough for a positive definite precision."""
        share = self.phi + self.precision.unsqueeze(-1) / self.hidden
        needed = (self.weight**2 / share).sum(0)
        ends = self.edges.to(self.coupling.device).flatten()
        needed = needed.index_add(0, ends, self.coupling.abs().repeat_interleave(2))
        return self.log_slab.exp() + (1 + SLACK) * needed

    def forward(self) -> BoltzmannDistribution:
        """The distribution of the visible layer."""
        alpha, precision = self.alpha, self.precision
        hidden = (
            torch.stack([self.hidden_bias - alpha * self.slab_mean**2, alpha * self.slab_mean], -1),
            F.pad(-0.5 * alpha.unsqueeze(-1), (1, 0)),
        )
        visible = (torch.zeros_like(precision), -0.5 * precision)
        weights = [F.pad(self.weight.unsqueeze(-1), (1, 0)).flatten(1)]
        weights += [F.pad(-0.5 * self.phi.unsqueeze(-1), (0, 1)).flatten(1)] if self.square else []
        weights += [self.coupling] if len(self.edges) else []
        return BoltzmannDistribution(self._graph, {"visible": visible, "hidden": hidden}, weights)

    def generate(self, x: Tensor | None = None, size: int | None = None) -> Tensor:
        dist_x = self()
        joint = JointDraw(dist_x)
        with self.data_plate(x, size):
            hidden = pyro.sample("hidden", HiddenSite(joint, "hidden", self.log_precision))
            return pyro.sample("x", dist_x.given({"hidden": hidden}), obs=x)

    def infer(self, x: Tensor, size: int | None = None) -> None:
        means, correction = self._approximate(x, self.rounds)
        with self.data_plate(x, size):
            pyro.sample("hidden", dist.Delta(means, log_density=-correction, event_dim=2))

    def _approximate(self, x: Tensor, rounds: int) -> tuple[Tensor, Tensor]:
        r"""The mean-field posterior q as (P(h = 1), E[s | h = 1]), and $E_q[-E] + H(q)$ less -E at those means.

        As a state the means have the right h and h s, but not the right s²; the second result corrects it, with alpha's
        gradient.
        """
        with torch.no_grad():
            statistics = mean_field(self().machine, {"visible": x}, rounds).statistics
            first, second = (t.unflatten(-1, (self.hidden, 2)) for t in statistics["hidden"])
            p = first[..., 0]
            slab = first[..., 1] / p.clamp_min(torch.finfo(p.dtype).tiny)
            variance = second[..., 1] - slab**2
            entropy = (
                torch.special.entr(p) + torch.special.entr(1 - p) + 0.5 * torch.log(2 * math.pi * math.e / self.alpha)
            )
        return torch.stack([p, slab], -1), (entropy - 0.5 * variance * self.alpha).sum(-1)

    def posterior(self, x: Tensor, rounds: int = 50) -> Tensor:
        """Mean-field P(h = 1 | x), features for a classifier: ``rows x hidden``."""
        return self._approximate(x, rounds)[0][..., 0]

    def bound(self, x: Tensor, rounds: int = 50) -> Tensor:
        r"""The variational bound up to log Z, $E_q[-E(x, s, h)] + H(q)$ by mean field: one figure per row, in nats."""
        with torch.no_grad():
            means, correction = self._approximate(x, rounds)
            return correction - self().energy({"visible": x, "hidden": means})

    def _sums(self) -> SumsOverSpikes:
        return SumsOverSpikes(
            self.weight, self.symmetric, self.slab_mean, self.hidden_bias, self.precision, self.phi, self.alpha
        )

    def exact_log_partition(self) -> Tensor:
        """Log Z in nats with its gradient, a sum over all h.

        Raises:
            NotEnumerable: more than 12 spikes.
        """
        return self._sums().log_partition()

    def free_energy_exact(self, x: Tensor) -> Tensor:
        r"""$F(x) = -\log\sum_h \int e^{-E(x, s, h)}\,ds$ in nats, a sum over all h: one figure per row, with its gradient.

        Args:
            x: rows, ``rows x visible``.

        Raises:
            NotEnumerable: more than 12 spikes.
        """
        return self._sums().free_energy(x)

    def evidence(self, x: Tensor, method: str | None = None, **options: Any) -> Evidence:
        r"""Exact log-likelihoods up to 12 spikes, else the variational bound with log Z by annealing.

        It is the bound too where an option asks for annealing. The bound is only as good as the annealed log Z; the
        interval's lower end uses the log Z of the reverse run.

        Args:
            x: rows.
            method: ``"exact"``, or ``"ais"`` (``"bridge"``) with the options of ``dgm.log_partition``, which gives the bound.
        """
        if bool(x.isnan().any()):
            return super().evidence(x, method, **options)
        check_options(self, options, self.evidence_arguments(method))
        if method == "exact":
            check_belongs("method", method, ["ais", "bridge"], **options)
        if method == "exact" or (method is None and self.hidden <= LARGEST and not asks_to_anneal(options)):
            with torch.no_grad():
                log_z = LogPartition.exactly(self.exact_log_partition())
                values = torch.cat([-self.free_energy_exact(rows) for rows in x.split(_ROWS)]) - log_z.value
            return between(values, log_z)
        log_z = self.log_partition(x, method or "ais", **options)
        return bounded(torch.cat([self.bound(rows) for rows in x.split(ROWS_AT_ONCE)]), log_z)

    def progress(self, train: Tensor, valid: Tensor) -> dict[str, float]:
        """Log-density of validation rows given their hidden means, and the gap between the splits' bounds, in nats per row."""
        rows = self.first_rows(train, valid)
        gap = [-float(self.bound(r, self.rounds).mean()) for r in rows]
        with torch.no_grad():
            machine = self().machine
            means = machine.statistics({"hidden": self._approximate(rows[1], self.rounds)[0]})
            reconstruction = visible_given(machine, rows[1], means)
        return {"valid_reconstruction": float(reconstruction.mean()), "free_energy_gap": gap[1] - gap[0]}

    def options(self) -> dict[str, Any]:
        return {"visible": self.visible, "hidden": self.hidden, "edges": self.edges.tolist(), "square": self.square,
                "rounds": self.rounds}  # fmt: skip

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(visible=4, hidden=3), lambda: torch.randn(10, 4), scale=0.7)


def _checked(edges: Tensor | Sequence[Sequence[int]], spikes: int) -> Tensor:
    edges = edge_list(edges)
    check_edges(edges, spikes, "spike")
    if (edges[:, 0] == edges[:, 1]).any():
        raise ValueError("edges couple a slab to itself; drop them: log_slab is its own precision")
    if len(torch.unique(edges.sort(dim=1).values, dim=0)) != len(edges):
        raise ValueError("edges name a pair of spikes twice; name each pair once and add their couplings")
    return edges
