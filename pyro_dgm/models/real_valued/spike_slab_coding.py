"""Spike-and-slab sparse coding, the directed relative of the machines of section 20.5.4."""

from __future__ import annotations

import math
from typing import Any, Self

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...checks import check_columns, check_count
from ...columns import location_and_variance
from ...objectives.criteria.closed_bound import FactorialBound
from ...objectives.objective import Objective
from ..shared.evidence import Evidence
from ..shared.examples import seeded
from ..shared.latent import METHODS, LatentVariableModel
from ..shared.listed import ENTRIES, bit_states
from ..shared.rows import PROGRESS_ROWS, check_rows

_LARGEST = 12
"""The most spikes for which the likelihood is computed exactly."""

_ROWS = 100
"""Rows whose exact likelihoods are summed at once; it bounds the memory and changes nothing else."""


class S3C(LatentVariableModel):
    r"""Spike-and-slab sparse coding (S3C; Goodfellow, Courville and Bengio 2012).

    It is the directed relative of the spike-and-slab RBM (20.50), with the likelihood of sparse coding:
    $h_i \sim \mathrm{Bernoulli}(\sigma(b_i))$, $s_i \mid h_i \sim \mathcal N(h_i \mu_i, \alpha_i^{-1})$ and
    $x \mid s, h \sim \mathcal N(a + W(h \circ s), \mathrm{diag}(\beta)^{-1})$.

    The guide is the factorial $q(h, s) = \prod_i q(h_i)\, q(s_i \mid h_i)$ that ``rounds`` damped parallel rounds of
    ascent find for every row: $q(h_i = 1) = \hat h_i$,
    $q(s_i \mid h_i = 1) = \mathcal N(\hat s_i, (\alpha_i + \gamma_i)^{-1})$ with $\gamma_i = W_i^\top \beta W_i$, and
    $q(s_i \mid h_i = 0) = \mathcal N(0, \alpha_i^{-1})$. It has no parameters, so training on
    $\mathcal L(q) \le \log p(x)$ (20.76), in nats, is variational EM.

    ``model(x)`` has the sites ``"spike"`` and ``"slab"``, ``rows x hidden``, and ``"x"``, ``rows x visible``.

    A first ``fit`` sets $a$ and $\beta$ from the data's means and variances; the other parameters start at the scale of data
    of unit variance, so standardise or whiten the data. The bound has local optima (merged atoms): compare several starts.

    Args:
        visible: the number of columns of the data.
        hidden: the number of spikes, which may exceed ``visible``.
        rounds: rounds of inference.

    Attributes:
        weight: the dictionary $W$, ``visible x hidden``.
        spike_bias: $b$, ``hidden``.
        slab_mean: $\mu$, ``hidden``.
        log_slab_precision: $\log\alpha$, ``hidden``.
        log_precision: $\log\beta$, ``visible``.
        visible_bias: $a$, ``visible`` (the paper has none: its data have mean zero).

    Raises:
        ValueError: a number of columns or spikes below one, a negative number of rounds.

    Example:
        >>> import torch
        >>> import pyro_dgm as dgm
        >>> s3c = dgm.S3C(visible=6, hidden=9)
        >>> spikes, slabs = s3c.posterior(torch.ones(3, 6))
        >>> spikes.shape, slabs.shape
        (torch.Size([3, 9]), torch.Size([3, 9]))
    """

    guide_needs_rows = True
    evidence_methods = {"exact": {}, **METHODS}

    def __init__(self, visible: int, hidden: int = 100, rounds: int = 20) -> None:
        super().__init__()
        visible, hidden = check_columns(visible), check_count("hidden", hidden, what="the number of spikes")
        self.visible, self.hidden, self.rounds = visible, hidden, _rounds(rounds)
        self.weight = nn.Parameter(torch.randn(visible, hidden) / math.sqrt(0.27 * hidden))  # W(hs) of unit variance
        self.spike_bias = nn.Parameter(-torch.ones(hidden))
        self.slab_mean = nn.Parameter(torch.zeros(hidden))
        self.log_slab_precision = nn.Parameter(torch.zeros(hidden))
        self.log_precision = nn.Parameter(torch.zeros(visible))
        self.visible_bias = nn.Parameter(torch.zeros(visible))

    @property
    def slab_variance(self) -> Tensor:
        r"""$(\alpha_i + W_i^\top \beta W_i)^{-1}$, the variance of a slab under q where its spike is on, ``hidden``."""
        return 1 / (self.log_slab_precision.exp() + self.log_precision.exp() @ self.weight**2)

    def observe(self, code: Tensor) -> dist.TorchDistribution:
        r"""$p(x \mid h \circ s)$: ``batch_shape`` of the codes $h \circ s$, ``event_shape`` (visible,)."""
        mean = code @ self.weight.mT + self.visible_bias
        return dist.Normal(mean, (-0.5 * self.log_precision).exp()).to_event(1)

    def generate(self, x: Tensor | None = None, size: int | None = None) -> Tensor:
        with self.data_plate(x, size):
            spike = pyro.sample("spike", dist.Bernoulli(logits=self.spike_bias).to_event(1))
            slab = dist.Normal(spike * self.slab_mean, (-0.5 * self.log_slab_precision).exp())
            return pyro.sample("x", self.observe(spike * pyro.sample("slab", slab.to_event(1))), obs=x)

    def infer(self, x: Tensor, size: int | None = None) -> None:
        with torch.no_grad(), self.data_plate(x, size):
            h, s = self.posterior(x)
            spike = pyro.sample("spike", dist.Bernoulli(h).to_event(1))
            variance = torch.where(spike > 0, self.slab_variance, (-self.log_slab_precision).exp())
            pyro.sample("slab", dist.Normal(spike * s, variance.sqrt()).to_event(1))

    def posterior(self, x: Tensor, rounds: int | None = None) -> tuple[Tensor, Tensor]:
        r"""The parameters $\hat h$ and $\hat s$ of the factorial q, each ``rows x hidden``.

        With $m = \hat h \circ \hat s$ and $g_i = W_i^\top \beta (x - a - \sum_{j \ne i} W_j m_j)$ the bound's maximum over one
        coordinate is at $\hat s_i = (\alpha_i \mu_i + g_i) / (\alpha_i + \gamma_i)$ and
        $\hat h_i = \sigma\bigl(b_i + \hat s_i g_i - \tfrac12 \gamma_i \hat s_i^2 - \tfrac12 \alpha_i (\hat s_i - \mu_i)^2
        + \tfrac12 \log\frac{\alpha_i}{\alpha_i + \gamma_i}\bigr)$.
        Starting from the prior, a round moves all slabs and then all spikes towards these. The paper damps by fixed
        factors and clips. Here both halves of a round go as far as lower bounds of the ELBO allow, so that no row's ELBO
        falls: a slab goes the share $(\alpha_i + \gamma_i) / (\alpha_i + \gamma_i + \sum_j |O_{ij}| \hat h_j)$ of its way,
        and a row's spikes the share $\min(1, \sum_i \mathrm{KL}(\hat h_i \| \hat h_i^{best}) / d^\top O d)$ of theirs, with
        $O = W^\top \beta W - \mathrm{diag}(\gamma)$ and d the way of the spikes times $\hat s$.

        Args:
            x: rows.
            rounds: the number of rounds, by default the model's.
        """
        rounds = self.rounds if rounds is None else _rounds(rounds)
        with torch.no_grad():
            alpha, mu, variance = self.log_slab_precision.exp(), self.slab_mean.detach(), self.slab_variance
            scaled = self.log_precision.exp().unsqueeze(-1) * self.weight
            field, gram = (x - self.visible_bias) @ scaled, self.weight.mT @ scaled
            gamma, off_diagonal = gram.diagonal(), gram - torch.diag(gram.diagonal())
            constant = self.spike_bias + 0.5 * (alpha * variance).log()
            h, s = torch.sigmoid(self.spike_bias).expand(field.shape), mu.expand(field.shape)
            for _ in range(rounds):
                best = (alpha * mu + field - (h * s) @ off_diagonal) * variance
                s = s + (best - s) / (1 + variance * (h @ off_diagonal.abs()))
                g = field - (h * s) @ off_diagonal
                logits = constant + s * g - 0.5 * gamma * s**2 - 0.5 * alpha * (s - mu) ** 2
                way = torch.sigmoid(logits) - h
                gain = (F.softplus(logits) - h * logits - _entropy(h)).sum(-1).clamp_min(0)
                loss = ((way * s) @ off_diagonal * (way * s)).sum(-1)
                share = torch.where(loss > gain, gain / loss, 1.0)
                h = h + share.unsqueeze(-1) * way
        return h, s

    def bound(self, x: Tensor, rounds: int | None = None) -> Tensor:
        r"""The ELBO (20.76) of the factorial q in closed form, in nats: one figure per row, no sampling.

        It is differentiable in the parameters, with q held fixed. ``rounds`` is as for ``posterior``.
        """
        h, s = self.posterior(x, rounds)
        return self._elbo(x, h, s, self.slab_variance.detach())

    def _elbo(self, x: Tensor, h: Tensor, s: Tensor, variance: Tensor) -> Tensor:
        precision, alpha = self.log_precision.exp(), self.log_slab_precision.exp()
        spread = (h * (variance + s**2) - (h * s) ** 2) @ (precision @ self.weight**2)
        fit = self.observe(h * s).log_prob(x) - 0.5 * spread
        spikes = h @ self.spike_bias - F.softplus(self.spike_bias).sum() + _entropy(h).sum(-1)
        divergence = alpha * (variance + (s - self.slab_mean) ** 2) - 1 - (alpha * variance).log()
        # Where a spike is off, its slab's distribution is the prior, with no divergence from it.
        return fit + spikes - 0.5 * (h * divergence).sum(-1)

    def evidence(self, x: Tensor, method: str | None = None, **options: Any) -> Evidence:
        r"""The log-likelihood of every row: exact up to 12 spikes, else the importance-weighted lower bound (20.79).

        The exact sum is $\log \sum_h p(h)\, \mathcal N(x; a + W(h \circ \mu),
        \mathrm{diag}(\beta)^{-1} + \sum_i h_i W_i W_i^\top / \alpha_i)$. Where columns of W resemble one another,
        q is narrower than the posterior: importance weights are then heavy-tailed and their error is understated (see the
        Pareto index in the details). Annealing from q, spikes by flips and slabs by Hamiltonian Monte Carlo, is slower and
        does not depend on a few weights.

        Args:
            x: data.
            method: ``"exact"``, ``"importance"`` (the default where options are given) or ``"ais"``.
            options: of the latter two, as for ``LatentVariableModel.evidence``.

        Raises:
            ValueError: another method or option; more than 12 spikes for an exact sum.
        """
        if method is None and not options and self.hidden <= _LARGEST:
            method = "exact"
        if method != "exact":
            return super().evidence(x, method, **options)
        self.method_options(method, options)
        with torch.no_grad():
            values = torch.cat([self._enumerate(rows) for rows in x.split(_ROWS)])
        return Evidence.exact(values, "enumeration")

    def _enumerate(self, x: Tensor) -> Tensor:
        """Log p(x) in double precision, a sum over all spikes with the slabs integrated out."""
        W, b, mu, a = (p.double() for p in (self.weight, self.spike_bias, self.slab_mean, self.visible_bias))
        alpha, beta = self.log_slab_precision.double().exp(), self.log_precision.double().exp()
        field, gram = (beta * (x.double() - a)) @ W, W.mT @ (beta.unsqueeze(-1) * W)
        states = bit_states(self.hidden, W, _LARGEST, "spikes", "Use method='importance' or 'ais'")
        terms = []
        for h in states.split(max(ENTRIES // (len(x) * self.hidden), 1)):
            factor = torch.linalg.cholesky(torch.diag(alpha) + h.unsqueeze(-1) * gram * h.unsqueeze(-2))
            slope = (alpha * mu + h.unsqueeze(1) * field).mT
            square = torch.linalg.solve_triangular(factor, slope, upper=False).square().sum(-2)
            volume = h @ b - factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
            terms.append(volume.unsqueeze(-1) + 0.5 * square)
        constant = 0.5 * (alpha.log() - alpha * mu**2).sum() - F.softplus(b).sum()
        without_spikes = dist.Normal(a, beta.rsqrt()).log_prob(x.double()).sum(-1)
        return (torch.cat(terms).logsumexp(0) + constant + without_spikes).to(x.dtype)

    def objective(self) -> Objective:
        """The ELBO in closed form, maximised (``FactorialBound``)."""
        return FactorialBound()

    def progress(self, train: Tensor, valid: Tensor) -> dict[str, float]:
        """The bound on the first validation rows, in nats per row, and the share of spikes that are on."""
        with torch.no_grad():
            rows = valid[:PROGRESS_ROWS]
            return {"valid_elbo": float(self.bound(rows).mean()), "spikes": float(self.posterior(rows)[0].mean())}

    def initialise(self, x: Tensor) -> None:
        r"""Set $a$ to the data's means, $\beta$ to their inverse variances and W to their scale, unless they were set already."""
        with torch.no_grad():
            location, variance = location_and_variance(x)
            if not bool(self.visible_bias.any()):
                self.visible_bias.copy_(location)
            if not bool(self.log_precision.any()):
                self.log_precision.copy_(-variance.log())
                self.weight.mul_(variance.sqrt().unsqueeze(-1))

    def check_data(self, x: Tensor) -> None:
        check_rows(x, torch.Size([self.visible]), "S3C")

    def options(self) -> dict[str, Any]:
        return {"visible": self.visible, "hidden": self.hidden, "rounds": self.rounds}

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(visible=4, hidden=5), lambda: torch.randn(10, 4), scale=0.7)


def _rounds(rounds: int) -> int:
    return check_count("rounds", rounds, 0, "the rounds of inference")


def _entropy(p: Tensor) -> Tensor:
    return torch.special.entr(p) + torch.special.entr(1 - p)
