"""Exact answers for machines that are mixtures of Gaussians, in float64 NumPy, from their energies alone."""

import itertools
import math

import numpy as np


def numbers(tensor):
    return tensor.detach().double().numpy()


class Mixture:
    """-E(z, h) = -z'Q(h)z / 2 + l(h)'z + c(h), one component for every row of `switches`."""

    def __init__(self, switches, precisions, linear, constant):
        self.switches, self.Q, self.l, self.c = (np.asarray(a, float) for a in (switches, precisions, linear, constant))
        self.size = self.l.shape[1]
        assert np.linalg.eigvalsh(self.Q).min(initial=np.inf) > 0
        self.cov = np.linalg.inv(self.Q)
        self.mean = np.einsum("hij,hj->hi", self.cov, self.l)
        logdet = np.linalg.slogdet(self.Q)[1]
        log_w = self.c + 0.5 * (self.l * self.mean).sum(1) + 0.5 * (self.size * math.log(2 * math.pi) - logdet)
        self.log_z = log_w.max() + math.log(np.exp(log_w - log_w.max()).sum())
        self.p = np.exp(log_w - self.log_z)

    def given(self, known, values):
        """The mixture of the other entries of z."""
        known = np.asarray(known)
        free, values = ~known, np.asarray(values, float)[known]
        Q = self.Q[:, free][:, :, free]
        linear = self.l[:, free] - self.Q[:, free][:, :, known] @ values
        constant = self.c + self.l[:, known] @ values
        constant -= 0.5 * np.einsum("i,hij,j->h", values, self.Q[:, known][:, :, known], values)
        return Mixture(self.switches, Q, linear, constant)

    def only(self, keep):
        """The mixture of some components."""
        return Mixture(self.switches[keep], self.Q[keep], self.l[keep], self.c[keep])

    def draw(self, n, seed=0):
        """Independent draws: switches and z."""
        rare = np.minimum(self.p @ self.switches, 1 - self.p @ self.switches)
        assert n * rare[rare > 1e-9].min() > 200, "a switch is too rare for estimated standard errors"
        rng = np.random.default_rng(seed)
        chosen = rng.choice(len(self.p), n, p=self.p / self.p.sum())
        noise = np.einsum("nij,nj->ni", np.linalg.cholesky(self.cov)[chosen], rng.normal(size=(n, self.size)))
        return self.switches[chosen], self.mean[chosen] + noise

    def moments(self):
        """Expectations of the statistics that `statistics` computes from draws."""
        second = self.cov + self.mean[:, :, None] * self.mean[:, None]
        return {
            "h": self.p @ self.switches,
            "z": self.p @ self.mean,
            "zz": np.tensordot(self.p, second, 1),
            "hz": np.einsum("h,hi,hj->ij", self.p, self.switches, self.mean),
            "hzz": np.einsum("h,hi,hjk->ijk", self.p, self.switches, second),
        }


def statistics(h, z):
    """One row a draw of h, z, zz', hz' and h zz'."""
    zz = z[:, :, None] * z[:, None]
    return {"h": h, "z": z, "zz": zz, "hz": h[:, :, None] * z[:, None], "hzz": h[:, :, None, None] * zz[:, None]}


def excess(found, expected):
    """How far averages of independent rows are from expectations, at most, in standard errors."""
    worst = 0.0
    for name, exact in expected.items():
        rows = found[name]
        error = rows.std(0, ddof=1) / math.sqrt(len(rows))
        worst = max(worst, float((np.abs(rows.mean(0) - exact) / (error + 1e-6)).max()))
    return worst


def spikes(n):
    return np.array(list(itertools.product((0.0, 1.0), repeat=n)))


def of_gaussian_rbm(model):
    """From (20.42) with squares about the visible bias, and (20.41) where it is on."""
    a, b, W = numbers(model.visible_bias), numbers(model.hidden_bias), numbers(model.weight)
    beta = np.broadcast_to(np.exp(numbers(model.log_precision)), a.shape)
    H = spikes(len(b))
    constant = [
        b @ h - (0.5 * sum(beta[i] * W[i, j] ** 2 * h[j] for i in range(len(a)) for j in range(len(b))))
        * model.optional_term - 0.5 * beta @ a**2
        for h in H
    ]  # fmt: skip
    return Mixture(H, [np.diag(beta)] * len(H), [beta * (a + W @ h) for h in H], constant)


def of_spike_slab_rbm(model):
    """From (20.50) term by term: z = (x, s), with s row by row; nothing is integrated by hand."""
    W, mu, b = numbers(model.weight), numbers(model.slab_mean), numbers(model.hidden_bias)
    Lambda, Phi, alpha = (numbers(t) for t in (model.precision, model.phi, model.alpha))
    D, N, K = W.shape
    H = spikes(N)
    forms, linear, constant = [], [], []
    for h in H:
        Q = np.zeros((D + N * K, D + N * K))
        Q[:D, :D] = np.diag(Lambda + Phi @ h)
        slope = np.zeros(D + N * K)
        for i, k in itertools.product(range(N), range(K)):
            s = D + i * K + k
            Q[s, s] = alpha[i, k]
            Q[:D, s] = Q[s, :D] = -W[:, i, k] * h[i]
            slope[s] = alpha[i, k] * mu[i, k] * h[i]
        forms.append(Q)
        linear.append(slope)
        constant.append(b @ h - h @ (alpha * mu**2).sum(1))
    return Mixture(H, forms, linear, constant)
