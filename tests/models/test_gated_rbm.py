"""Gated RBM: values of another program, machines that it contains, what it learns, bad input."""

import pytest
import torch
from oracles.waves import bits, wave

import pyro_dgm as dgm


def machine(unit="binary"):
    model = dgm.GatedRBM(6, 3, 2, 2, unit).double()
    with torch.no_grad():
        model.input_weight.copy_(wave(0.9, 1, 3, 2))
        model.output_weight.copy_(wave(0.8, 2, 3, 2))
        model.hidden_weight.copy_(wave(0.7, 3, 2, 2))
        model.visible_bias.copy_(wave(0.5, 4, 3))
        model.hidden_bias.copy_(wave(0.4, 5, 2))
    return model


def test_values_of_another_program():
    model = machine()
    x, y = bits(6, 3), bits(2, 3)
    row = torch.cat([x, y])[None]
    assert float(model.log_partition(row).value) == pytest.approx(2.5338957266, abs=1e-9)
    assert float(model.evidence(row).values) == pytest.approx(-2.9004700327, abs=1e-9)
    assert float(model.transformation(row)[0, 1]) == pytest.approx(0.2794531354, abs=1e-9)
    gradients = torch.autograd.grad(model(x[None]).log_prob(y[None]).sum(), (model.input_weight, model.hidden_weight))
    assert float(gradients[0][1, 1]) == pytest.approx(0.0971334046, abs=1e-9)
    assert float(gradients[1][1, 0]) == pytest.approx(0.2584480785, abs=1e-9)


def test_real_outputs():
    model = machine("gaussian")
    row = torch.cat([bits(6, 3), wave(1, 0.3, 3)])[None]
    # Energies are those of squares about b, the other figure's less b' B b / 2.
    left_out = 0.5 * float(model.log_precision.exp() @ model.visible_bias**2)
    assert float(model.log_partition(row).value) == pytest.approx(5.2320887727 - left_out, abs=1e-9)
    assert float(model.evidence(row).values) == pytest.approx(-5.9752492538, abs=1e-9)


def test_one_input_is_a_restricted_machine():
    model = machine()
    x, y = bits(6, 3), bits(2, 8, 3)
    rbm = dgm.RBM(3, 2).double()
    with torch.no_grad():
        rbm.weight.copy_(model.output_weight @ torch.diag(x @ model.input_weight) @ model.hidden_weight.T)
        rbm.visible_bias.copy_(model.visible_bias)
        rbm.hidden_bias.copy_(model.hidden_bias)
    torch.testing.assert_close(model(x).log_prob(y), rbm().log_prob(y))


def test_annealing_holds_the_exact_figure():
    torch.manual_seed(0)
    model, x = machine(), bits(3, 30, 6)
    exact = dgm.log_likelihood(model, x)
    figure = dgm.log_likelihood(model, x, method="ais", chains=50, temperatures=100)
    assert figure.lower <= exact.value <= figure.upper


def test_it_learns_shifts():
    """Outputs are inputs moved by one of three shifts: hidden units tell which, and carry it over to other inputs."""
    torch.manual_seed(0)
    x = (torch.rand(2000, 8) < 0.3).float()
    shift = torch.arange(2000) % 3
    y = torch.stack([row.roll(int(s) + 1) for row, s in zip(x, shift, strict=True)])
    rows = torch.cat([x, y], 1)
    model = dgm.GatedRBM(16, 8, hidden=12, factors=32, spread=0.3)
    dgm.fit(model, rows, epochs=25, batch_size=50, learning_rate=0.01, progress=False)
    h = model.transformation(rows)
    centres = torch.stack([h[shift == s][:300].mean(0) for s in range(3)])
    found = torch.cdist(h[1000:], centres).argmin(1)
    assert float((found == shift[1000:]).float().mean()) > 0.9
    moved = model.transform(h, x.flip(0))
    truth = torch.stack([row.roll(int(s) + 1) for row, s in zip(x.flip(0), shift, strict=True)])
    error, blind = (moved - truth).square().mean(), truth.var(0, correction=0).mean()
    assert float(error) < 0.5 * float(blind)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": 6}, "inputs got 6 of 6 columns"),
        ({"factors": 0}, "factors got 0"),
        ({"hidden": 0}, "hidden got 0"),
        ({"unit": "spin"}, "unit got 'spin'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        dgm.GatedRBM(**{"visible": 6, "inputs": 3, "hidden": 2, "factors": 2, **options})
