"""Contractive autoencoders: the Jacobian, the penalty and the walk against automatic differentiation and a listed case."""

import math

import pytest
import torch
from torch.func import jacrev, vmap

import pyro_dgm as dgm


def small():
    """W_ij = 0.5 cos(i + 2j), two units over three columns."""
    model = dgm.ContractiveAutoencoder(3, hidden=(2,)).double()
    i, j = torch.arange(3.0).double()[:, None], torch.arange(2.0).double()
    with torch.no_grad():
        model.ladder.weights[0].copy_(0.5 * torch.cos(i + 2 * j))
        model.ladder.biases[1].copy_(torch.tensor([0.1, -0.2]))
    return model


X = torch.tensor([[1.0, 0.0, 1.0]], dtype=torch.float64)


def close(found, truth):
    torch.testing.assert_close(found, torch.tensor(truth, dtype=torch.float64), rtol=0, atol=1e-9)


def test_a_small_case():
    model = small()
    close(model.hidden_features(X), [[0.5967463985, 0.3241214238]])
    jacobian = torch.stack([model.pulled_back(X, e.expand(1, 2))[0] for e in torch.eye(2).double()])
    close(
        jacobian.detach(),
        [[0.1203200672, 0.0650092098, -0.0500708153], [-0.0455819626, -0.1084372077, -0.0715957841]],
    )
    close(model.contraction(X).detach(), [0.0401725021])
    close(model.moved(X, torch.tensor([[1.0, -1.0]]).double()).detach(), [[0.5626242505, 0.5056838445, 0.4434306596]])


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
@pytest.mark.parametrize("hidden", [(4,), (4, 3)])
@pytest.mark.parametrize("tied", [True, False])
def test_the_jacobian_of_any_depth(hidden, activation, tied):
    torch.manual_seed(0)
    model = dgm.ContractiveAutoencoder(5, hidden=hidden, activation=activation, output="linear", tied=tied).double()
    x = torch.randn(6, 5).double()
    exact = vmap(jacrev(lambda row: model._layers(row)[-1]))(x)
    for unit, e in enumerate(torch.eye(hidden[-1]).double()):
        torch.testing.assert_close(model.pulled_back(x, e.expand(6, -1)), exact[:, unit])
    noise = torch.randn(6, hidden[-1]).double()
    moved = torch.einsum("nkd,nld,nl->nk", exact, exact, noise)
    torch.testing.assert_close(model.moved(x, noise), model.decode(model._layers(x)[-1] + moved))
    norm = exact.square().sum((1, 2)).detach()
    if len(hidden) == 1:
        torch.testing.assert_close(model.contraction(x), norm)
        return
    torch.manual_seed(1)
    draws = torch.stack([model.contraction(x) for _ in range(2000)]).detach()
    assert float(((draws.mean(0) - norm).abs() / (draws.std(0) / math.sqrt(2000))).max()) < 4.5


def test_columns_in_other_units_walk_alike():
    torch.manual_seed(0)
    z = torch.randn(200, 3).double()
    drawn = []
    for shift, scale in ((0.0, 1.0), (1e4, 30.0)):
        torch.manual_seed(1)
        model = dgm.ContractiveAutoencoder(3, hidden=(4,), output="linear", activation="tanh").double()
        dgm.fit(model, shift + scale * z, epochs=2, progress=False)
        torch.manual_seed(2)
        drawn.append((model.sample(20, steps=5) - shift) / scale)
    torch.testing.assert_close(*drawn, rtol=1e-5, atol=1e-6)


def test_constant_columns_keep_their_value():
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    x[:, 1] = 123456.7
    torch.manual_seed(0)
    model = dgm.ContractiveAutoencoder(3, hidden=(4,), output="linear")
    dgm.fit(model, x, epochs=1, batch_size=10, progress=False)
    for rows in (model.sample(5, steps=3), model.reconstruct(x), model.first_rows(5)):
        assert (rows[:, 1] == x[0, 1]).all()
        assert rows[:, 0].unique().numel() == len(rows)
    earlier = {name: value for name, value in model.state_dict().items() if name != "constant"}
    model.load_state_dict(earlier)
    assert not model.constant.any()


def test_the_penalty_contracts():
    torch.manual_seed(0)
    x = torch.rand(300, 6)
    norms = []
    for weight in (0.0, 10.0):
        torch.manual_seed(1)
        model = dgm.ContractiveAutoencoder(6, hidden=(8,))
        run = dgm.fit(model, x, objective=model.objective(weight=weight), epochs=30, learning_rate=0.02, progress=False)
        norms.append(run.history[-1]["squared_jacobian"])
    assert norms[1] < norms[0] / 2


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"step": 0.0}, "step got 0"),
            ({"activation": "relu"}, "activation got 'relu'"),
            ({"output": "binary"}, "output got 'binary'"),
        ],
    )
    def test_options(self, options, message):
        with pytest.raises(ValueError, match=message):
            dgm.ContractiveAutoencoder(4, **options)

    def test_columns_outside_the_unit_interval(self):
        with pytest.raises(ValueError, match=r"rebuilds columns in \[0, 1\]"):
            dgm.fit(dgm.ContractiveAutoencoder(2), torch.full((4, 2), 7.0), epochs=1, progress=False)

    def test_models(self):
        model, x = dgm.VAE.example()
        with pytest.raises(ValueError, match=r"expected dgm\.ContractiveAutoencoder"):
            dgm.fit(model, x, objective=dgm.Contractive(), epochs=1, progress=False)
        with pytest.raises(ValueError, match="weight got -1"):
            dgm.Contractive(-1)


def test_known_entries_out_of_range_and_other_widths_are_refused():
    model, x = dgm.ContractiveAutoencoder.example()
    known = torch.tensor([True, False, False, False])
    with pytest.raises(ValueError, match="reach from"):
        dgm.condition(model, torch.full_like(x, 7.0), known, draws=2)
    with pytest.raises(ValueError, match="condition got data of shape"):
        dgm.condition(model, x[:, :3], known[:3], draws=2)
