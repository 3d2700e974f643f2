"""Hidden features and reconstructions by one name for all models, against their equations."""

import pytest
import torch
from oracles import boltzmann as oracle

import pyro_dgm as dgm
from pyro_dgm import registry

WITH_FEATURES = [cls for cls in registry.models().values() if "reconstruct" in cls.abilities()]


@pytest.mark.parametrize("cls", WITH_FEATURES)
def test_every_model_gives_one_vector_of_features_and_one_row_for_a_row(cls):
    model, x = cls.example()
    torch.manual_seed(3)
    features, again = model.hidden_features(x), model.reconstruct(x)
    assert (features.dim(), len(features), again.shape) == (2, len(x), x.shape)
    assert features.isfinite().all()
    torch.testing.assert_close(model.hidden_features(x[:3].numpy()), features[:3])
    torch.testing.assert_close(model.reconstruct(x[:3]), again[:3])
    if (given := model.given_columns()) is not None:
        assert torch.equal(again[:, given], x[:, given])


@pytest.mark.parametrize(
    "model",
    [
        dgm.GSN(4, hidden=(6, 5), classes=3),
        dgm.GSN(4, hidden=(6,), classes=3, output="gaussian", corruption="gaussian"),
        dgm.DBM(4, (3, 2), classes=3),
        dgm.PointwiseGatedRBM(4, (2, 2), classes=3),
    ],
)
def test_a_label_is_rebuilt_with_its_row(model):
    """Rows are ranked by their errors, label and all."""
    x = torch.cat([torch.randint(0, 2, (6, 4)).float(), torch.eye(3).repeat(2, 1)], 1)
    again = model.reconstruct(x)
    assert again.shape == x.shape
    assert bool((again[:, 4:] >= 0).all())
    assert bool((again[:, 4:].sum(1) < 1 + 1e-5).all())
    errors = dgm.evaluation.anomalies.anomaly_scores(model, x, by="reconstruction").values
    torch.testing.assert_close(errors, (again - x).square().sum(1).double())


def test_a_gsn_rebuilds_the_label_that_its_hidden_layers_tell():
    gsn = dgm.GSN(4, hidden=(5, 6), classes=3)
    x = torch.cat([torch.eye(4), torch.eye(3)[[0, 1, 2, 0]]], 1)
    told = torch.softmax(gsn.top.up(1, gsn.hidden_features(x)[:, -6:]), -1).detach()
    torch.testing.assert_close(gsn.reconstruct(x)[:, 4:], told)


def test_an_rbm_up_and_down():
    rbm, x = dgm.RBM.example()
    W, b, c = rbm.weight, rbm.visible_bias, rbm.hidden_bias
    up = torch.sigmoid(c + x @ W).detach()
    torch.testing.assert_close(rbm.hidden_features(x), up)
    torch.testing.assert_close(rbm.reconstruct(x), torch.sigmoid(b + up @ W.T).detach())


def test_a_gaussian_rbm_up_and_down():
    grbm, x = dgm.GaussianRBM.example()
    hidden = grbm.hidden_features(x)
    torch.testing.assert_close(
        hidden, torch.sigmoid(grbm.hidden_bias + (x * grbm.log_precision.exp()) @ grbm.weight).detach()
    )
    torch.testing.assert_close(grbm.reconstruct(x), grbm.conditional(hidden).mean.detach())


def test_a_deep_machine_satisfies_its_mean_field_equations():
    dbm = oracle.randomise(dgm.DBM(4, (3, 2)), torch.Generator().manual_seed(1), 0.5)
    x = torch.randint(0, 2, (5, 4), generator=torch.Generator().manual_seed(0)).float()
    first, second = dbm.hidden_features(x, rounds=200).split([3, 2], 1)
    machine = dbm().machine
    (W1, W2), (_, b1, b2) = machine.weights, [machine.biases[layer][0] for layer in machine.graph.layers]
    torch.testing.assert_close(first, torch.sigmoid(b1 + x @ W1 + second @ W2.T).detach())
    torch.testing.assert_close(second, torch.sigmoid(b2 + first @ W2).detach())


def test_a_vae_at_the_mean_of_its_code():
    vae, x = dgm.VAE.example()
    code = vae.encode(x).mean.detach()
    torch.testing.assert_close(vae.hidden_features(x), code)
    torch.testing.assert_close(vae.reconstruct(x), vae.decode(code))


def test_layers_of_a_guide_are_each_at_the_mean_of_the_one_below():
    vae, x = dgm.HierarchicalVAE.example()
    first = vae.encoders[0](x).chunk(2, -1)[0]
    second = vae.encoders[1](first).chunk(2, -1)[0]
    torch.testing.assert_close(vae.hidden_features(x), torch.cat([first, second], 1).detach())
    torch.testing.assert_close(vae.reconstruct(x), vae.columns(vae.decoder(first)).mean.detach())


def test_features_draw_nothing():
    vae, x = dgm.VAE.example()
    before = torch.get_rng_state()
    vae.reconstruct(x)
    assert torch.equal(before, torch.get_rng_state())
