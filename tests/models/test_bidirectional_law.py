"""The law of a bidirectional Helmholtz machine against enumeration."""

import numpy as np
import pytest
import torch
from oracles import boltzmann as oracle
from test_sigmoid_belief_network import bits, log_bernoulli

import pyro_dgm as dgm


def joint_laws(sbn):
    """log p(x, z) and log q(z | x) of a network with two latent layers: ``x x h1 x h2``, unit by unit."""
    p = {name: value.detach().double().numpy() for name, value in sbn.named_parameters()}

    def layer(s, bias, within):
        return log_bernoulli(s, bias + (s @ np.tril(p[within], -1).T if within in p else 0.0))

    x, h1, h2 = (bits(n) for n in (sbn.visible, *sbn.hidden))
    up1 = layer(h1, (p["recognition_biases.0"] + x @ p["recognition_weights.0"])[:, None], "recognition_within.0")
    up2 = layer(h2, (p["recognition_biases.1"] + h1 @ p["recognition_weights.1"])[:, None], "recognition_within.1")
    down1 = layer(h1[:, None], p["biases.1"] + h2 @ p["weights.1"].T, "within.1")
    down0 = layer(x[:, None], p["biases.0"] + h1 @ p["weights.0"].T, "within.0")
    generated = down0[:, :, None] + (down1 + layer(h2, p["biases.2"], "within.2"))[None]
    return generated, up1[:, :, None] + up2[None]


def example(autoregressive, scale):
    sbn = dgm.SBN(4, hidden=(3, 2), autoregressive=autoregressive)
    return oracle.randomise(sbn, torch.Generator().manual_seed(5), scale)


def test_the_oracle_is_normalised():
    log_p, log_q = joint_laws(example(True, 1.0))
    assert np.exp(log_p).sum() == pytest.approx(1)
    np.testing.assert_allclose(np.exp(log_q).sum((1, 2)), 1)


@pytest.mark.parametrize("autoregressive", [False, True])
def test_law_by_enumeration(autoregressive):
    """log p*(x) of all states, and Z, which is that of all states."""
    torch.manual_seed(0)
    sbn = example(autoregressive, 1.0)
    log_p, log_q = joint_laws(sbn)
    roots = np.exp(0.5 * (log_p + log_q)).sum((1, 2))
    exact = 2 * np.log(roots) - np.log((roots**2).sum())
    assert np.exp(exact).sum() == pytest.approx(1)
    found = sbn.evidence(torch.tensor(bits(4)).float(), "bidirectional", particles=500, draws=4000)
    assert found.kind == "estimate"
    assert "p*" in found.method
    # The standard error by the delta method; the bias of a log of K draws is its square, far below it. A missing Z would show.
    assert 0 < 5 * found.stderr < -np.log((roots**2).sum())
    assert abs(float(found.values.mean()) - exact.mean()) < 5 * found.stderr
    log_z = found.details["log_squared_normaliser"]
    assert log_z == pytest.approx(np.log((roots**2).sum()), abs=5 * found.stderr)
    # The lower end is that of Z = 1, in expectation a lower bound, less 1.96 standard errors of the rows' part.
    assert found.lower <= log_z
    below = float(found.values.mean()) + found.lower
    assert (2 * np.log(roots)).mean() - (5 + 1.96) * found.stderr < below < (2 * np.log(roots)).mean()
    assert found.upper == pytest.approx(1.96 * found.stderr)


def test_a_guide_that_is_the_posterior_gives_the_network_itself():
    """Of latents without influence: then p* is p, and Z is 1."""
    sbn = dgm.SBN(3, hidden=(2,))
    with torch.no_grad():
        for parameter in (*sbn.weights, *sbn.recognition_weights):
            parameter.zero_()
        sbn.recognition_biases[0].copy_(sbn.biases[1].copy_(torch.tensor([0.5, -1.0])))
        sbn.biases[0].copy_(torch.tensor([1.0, 0.0, -2.0]))
    x = torch.tensor(bits(3)).float()
    found = sbn.evidence(x, "bidirectional", particles=3, draws=10)
    torch.testing.assert_close(found.values, sbn.evidence(x, "exact").values)
    assert found.details["log_squared_normaliser"] == pytest.approx(0, abs=1e-5)


def test_the_bound_that_trains_it_is_its_lower_end():
    torch.manual_seed(1)
    sbn, x = example(False, 1.0), torch.tensor(bits(4)).float()
    loss = dgm.BidirectionalHelmholtz(4000).loss(sbn.model, sbn.guide, x) / len(x)
    found = sbn.evidence(x, "bidirectional", particles=4000, draws=10)
    log_z = found.details["log_squared_normaliser"]
    error = (log_z - found.lower) / 1.96  # that of the rows' part; the loss has as large a one, of other draws
    assert float(found.values.mean()) + log_z == pytest.approx(-loss, abs=5 * 2**0.5 * error)


def test_one_particle_has_no_error():
    figure = dgm.log_likelihood(*dgm.SBN.example(), method="bidirectional", particles=1, draws=10)
    assert np.isnan(figure.stderr_estimator)
    assert figure.lower == -np.inf


def test_bad_counts():
    sbn, x = dgm.SBN.example()
    with pytest.raises(ValueError, match="draws got 1; expected"):
        sbn.evidence(x, "bidirectional", draws=1)
    with pytest.raises(ValueError, match="draws got 1000000000000, which asks for"):
        sbn.evidence(x, "bidirectional", draws=10**12)
    with pytest.raises(ValueError, match="particles got 0; expected"):
        sbn.evidence(x, "bidirectional", particles=0)
