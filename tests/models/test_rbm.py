"""The RBM against scikit-learn, centred gradients, and what training reaches."""

import math

import pyro
import pytest
import torch
from oracles import boltzmann as oracle
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import SGD
from sklearn.neural_network import BernoulliRBM

import pyro_dgm as dgm
from pyro_dgm.objectives.phases.centring import centred


def test_free_energy_of_scikit_learn():
    rbm, x = dgm.RBM.example()
    other = BernoulliRBM(n_components=4)
    other.components_ = rbm.weight.detach().T.numpy()
    other.intercept_hidden_, other.intercept_visible_ = (
        rbm.hidden_bias.detach().numpy(),
        rbm.visible_bias.detach().numpy(),
    )
    expected = torch.as_tensor(other._free_energy(x.numpy()), dtype=torch.float32)
    torch.testing.assert_close(rbm().free_energy(x).detach(), expected, atol=1e-5, rtol=1e-5)


def test_pseudo_log_likelihood_by_enumeration():
    rbm, x = dgm.RBM.example()
    exact = oracle.of_rbm(rbm)
    expected = []
    for row in x.numpy():
        total = 0.0
        for i in range(6):
            flipped = row.copy()
            flipped[i] = 1 - flipped[i]
            own, other = exact.marginal([row, flipped])
            total += own - oracle.logsumexp([own, other])
        expected.append(total)
    found = dgm.pseudo_log_likelihood(rbm(), x, entries=None).detach()
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32), atol=1e-4, rtol=1e-4)
    sampled = torch.stack([dgm.pseudo_log_likelihood(rbm(), x, entries=3).detach() for _ in range(3000)])
    assert ((sampled.mean(0) - found).abs() < 6 * sampled.std(0) / math.sqrt(3000)).all()


def gradients(model, machine, x):
    """Of the exact mean log-likelihood, through a given machine."""
    fn = model().with_machine(machine)
    model.zero_grad()
    fn.log_prob(x).mean().backward()
    return [p.grad.clone() for p in model.parameters()]


def test_centred_gradient_is_the_gradient_in_centred_coordinates():
    """Autograd through E = -(v-m)'W(h-l) - (v-m)'b - (h-l)'c, moved back to plain coordinates by hand (20.37)."""
    rbm, x = dgm.RBM.example()
    rbm.double()
    x = x.double()
    m, offset = torch.rand(6).double(), torch.rand(4).double()
    W = rbm.weight.detach().clone().requires_grad_()
    b = (rbm.visible_bias + rbm.weight @ offset).detach().clone().requires_grad_()
    c = (rbm.hidden_bias + m @ rbm.weight).detach().clone().requires_grad_()
    plain = dgm.RBM(6, 4).double()()
    machine = type(plain.machine)(plain.machine.graph, {"visible": (b - W @ offset,), "hidden": (c - m @ W,)}, (W,))
    plain.with_machine(machine).log_prob(x).mean().backward()
    expected = [W.grad, b.grad - W.grad @ offset, c.grad - m @ W.grad]
    found = gradients(rbm, centred(rbm().machine, {"visible": (m,), "hidden": (offset,)}), x)
    for f, e in zip(found, expected, strict=True):
        torch.testing.assert_close(f, e)


def test_enhanced_gradient():
    """Offsets halfway between data and model means give the enhanced gradient (Cho et al. 2011): covariances."""
    rbm, x = dgm.RBM.example()
    exact = oracle.of_rbm(rbm)
    mean, pairs = exact.gradients()
    vm, hm, vh = (torch.as_tensor(t, dtype=torch.float32) for t in (mean[:6], mean[6:], pairs[:6, 6:]))
    h = torch.sigmoid(x @ rbm.weight + rbm.hidden_bias).detach()
    vd, hd = x.mean(0), h.mean(0)
    offsets = {"visible": ((vd + vm) / 2,), "hidden": ((hd + hm) / 2,)}
    found = gradients(rbm, centred(rbm().machine, offsets), x)[0]
    expected = (x.T @ h / len(x) - torch.outer(vd, hd)) - (vh - torch.outer(vm, hm))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("flip", [(0, 3), range(6)])
def test_centred_training_does_not_see_flipped_bits(flip):
    """Flipping data bits, with offsets and initial parameters flipped along, leaves the likelihood of every step as it is;
    plain gradients do not have this invariance."""
    flip = list(flip)

    def flipped(model):
        with torch.no_grad():
            model.hidden_bias += model.weight[flip].sum(0)
            model.weight[flip] *= -1
            model.visible_bias[flip] *= -1
        return model

    def train(model, x, offsets, steps=10):
        figures = []
        for _ in range(steps):
            machine = model().machine if offsets is None else centred(model().machine, offsets)
            for p, g in zip(model.parameters(), gradients(model, machine, x), strict=True):
                p.data += 0.2 * g
            figures.append(float(model().log_prob(x).mean().detach()))
        return torch.tensor(figures)

    first, x = dgm.RBM.example()
    y = x.clone()
    y[:, flip] = 1 - y[:, flip]
    m, offset = x.mean(0), torch.full((4,), 0.4)
    n = m.clone()
    n[flip] = 1 - n[flip]
    for offsets, same in (((m, n), True), (None, False)):
        a, b = dgm.RBM.example()[0], flipped(dgm.RBM.example()[0])
        first = train(a, x, offsets and {"visible": (offsets[0],), "hidden": (offset,)})
        second = train(b, y, offsets and {"visible": (offsets[1],), "hidden": (offset,)})
        assert torch.allclose(first, second, atol=1e-4) == same


def test_centred_pcd_refuses_contexts():
    rbm, x = dgm.RBM.example()

    def program(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", rbm(visible_shift=torch.zeros(len(x), 6)), obs=x)

    with pytest.raises(ValueError, match="centred=False"):
        Trace_ELBO(max_plate_nesting=1)(dgm.negative_phase(program, dgm.CD(centred=True)), lambda x: None)(x)


def bars_and_stripes(side=3):
    rows = []
    for bits in range(2**side):
        line = torch.tensor([float(bits >> i & 1) for i in range(side)])
        rows += [line.repeat(side, 1).flatten(), line.repeat(side, 1).T.flatten()]
    return torch.stack(rows)


def test_exact_training_nears_the_optimum_of_bars_and_stripes():
    """The best possible mean log-likelihood over all generated rows is -2.5993; 0.1 nats are allowed for 1500 steps."""
    x = bars_and_stripes()
    rbm = dgm.RBM(9, 12)
    with torch.no_grad():
        rbm.weight.mul_(30)
    program = dgm.negative_phase(rbm.model, dgm.ExactNegativePhase())
    loss = Trace_ELBO(max_plate_nesting=1)(program, rbm.guide)
    optimiser = torch.optim.Adam(rbm.parameters(), lr=0.05)
    for _ in range(1500):
        optimiser.zero_grad()
        loss(x).backward()
        optimiser.step()
    figure = dgm.log_likelihood(rbm, x)
    assert figure.kind == "exact"
    assert -2.5993019271 - 0.1 < figure.value < -2.5993019271 + 1e-4


def test_pcd_training_raises_the_exact_likelihood():
    x = bars_and_stripes()
    rbm = dgm.RBM(9, 12)
    before = dgm.log_likelihood(rbm, x).value
    svi = SVI(dgm.negative_phase(rbm.model, dgm.PCD(k=5, chains=200, centred=True)), rbm.guide, SGD({"lr": 0.01}),
              Trace_ELBO(max_plate_nesting=1))  # fmt: skip
    for _ in range(1500):
        svi.step(x)
    assert dgm.log_likelihood(rbm, x).value > before + 1.0


@pytest.mark.parametrize(("visible", "hidden"), [(0, 3), (3, 0), (-1, 2), (2.5, 1)])
def test_bad_sizes(visible, hidden):
    with pytest.raises(ValueError, match="positive integers"):
        dgm.RBM(visible, hidden)


def test_expand_shares_the_parameters():
    rbm, x = dgm.RBM.example()
    wide = rbm().expand([10])
    assert wide.batch_shape == (10,)
    assert wide.sample((3,)).shape == (3, 10, 6)
    torch.testing.assert_close(wide.log_prob(x), rbm().log_prob(x))
    with pytest.raises(ValueError, match="cannot expand"):
        rbm(visible_shift=torch.zeros(3, 6)).expand([4])


def test_values_outside_the_support():
    rbm, _ = dgm.RBM.example()
    with pytest.raises(ValueError, match="support"):
        rbm().log_prob(torch.full((2, 6), 0.5))


@pytest.mark.parametrize("method", ["bridge", "raise", "ais"])
def test_evidence_by_every_method_is_near_the_exact_one(method):
    """Within six standard errors; RAISE is below it, by less than a nat with so many temperatures."""
    rbm, x = dgm.RBM.example()
    exact = dgm.log_likelihood(rbm, x, space="toy").value
    found = dgm.log_likelihood(rbm, x, space="toy", method=method, chains=200, temperatures=300)
    if method == "raise":
        assert found.kind == "lower bound"
        assert exact - 1 < found.value < exact + 6 * found.stderr_estimator
    else:
        assert found.kind == "estimate"
        assert abs(found.value - exact) < 6 * found.stderr_estimator
