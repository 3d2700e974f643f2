"""The weight of the KL term: losses and gradients against their closed form, warm-up, names, resumed runs."""

import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from torch.distributions import kl_divergence

import pyro_dgm as dgm


def parts(vae, x):
    """Reconstruction and KL term of a VAE whose decoder ignores its latents, so that both have closed forms."""
    with torch.no_grad():
        vae.decoder[0].weight.zero_()
    q = vae.encode(x)
    prior = dist.Normal(torch.zeros_like(q.mean), 1.0).to_event(1)
    return -vae.observe(torch.zeros(len(x), vae.latent)).log_prob(x).mean(), kl_divergence(q, prior).mean()


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0, 4.0])
def test_the_loss_is_the_reconstruction_and_the_weighted_kl_term(weight):
    vae, x = dgm.VAE.example()
    reconstruction, kl = parts(vae, x)
    objective = vae.objective(kl_weight=weight)
    objective.attach(vae)
    loss = objective.loss(x)
    torch.testing.assert_close(loss, reconstruction + weight * kl)
    expected = torch.autograd.grad(reconstruction + weight * kl, vae.encoder[0].weight)[0]
    torch.testing.assert_close(torch.autograd.grad(loss, vae.encoder[0].weight)[0], expected)


def test_the_sampled_elbo_has_the_same_mean():
    vae, x = dgm.VAE.example()
    reconstruction, kl = parts(vae, x)
    objective = dgm.Elbo(Trace_ELBO(max_plate_nesting=1), kl_weight=0.3)
    objective.attach(vae)
    torch.manual_seed(0)
    with torch.no_grad():
        losses = torch.stack([objective.loss(x) for _ in range(400)])
    assert abs(losses.mean() - reconstruction - 0.3 * kl) < 5 * losses.std() / 20


def test_a_weight_above_one_is_a_bound_and_one_below_is_none():
    assert dgm.Elbo(kl_weight=2.0).loss_name() == "loss"
    assert dgm.Elbo(kl_weight=0.5).loss_name() == dgm.Elbo(kl_weight=3, kl_warmup=0.5).loss_name() == "loss_no_bound"
    vae, x = dgm.VAE.example()
    history = dgm.fit(vae, x, objective=vae.objective(kl_weight=0.5), epochs=1, progress=False).history
    assert "loss_no_bound" in history[0]
    assert "loss" not in history[0]


def test_the_warm_up_rises_with_the_share_of_training():
    objective = dgm.Elbo(TraceMeanField_ELBO(max_plate_nesting=1), kl_weight=2.0, kl_warmup=0.5)
    vae, x = dgm.VAE.example()
    reconstruction, kl = parts(vae, x)
    objective.attach(vae)
    for share, weight in ((0.0, 0.02), (0.25, 1.0), (0.5, 2.0), (1.0, 2.0)):
        objective.schedule(share)
        torch.testing.assert_close(objective.loss(x), reconstruction + weight * kl)
    assert objective.scheduled()
    assert not dgm.Elbo(kl_weight=2.0).scheduled()
    assert objective.options()["kl_warmup"] == 0.5
    assert "kl_weight" not in dgm.Elbo().options()


def test_bad_weights():
    for options, message in (
        ({"kl_weight": -1}, "kl_weight got -1"),
        ({"kl_warmup": 1.0}, "kl_warmup got 1.0"),
        ({"elbo": dgm.IWAE(5), "kl_weight": 0.5}, "with IWAE, whose loss is no sum"),
    ):
        with pytest.raises(ValueError, match=message):
            dgm.Elbo(**options)
    with pytest.raises(ValueError, match=r"kl_weight got 0\.5 with kind='iwae'"):
        dgm.VAE.example()[0].objective("iwae", 5, kl_weight=0.5)
