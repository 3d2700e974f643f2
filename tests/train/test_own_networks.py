"""Networks of a user's own in directed models: as arguments, trained, saved and loaded; what cannot be rebuilt is refused."""

import pytest
import torch
from torch import nn

import pyro_dgm as dgm


class Decoder(nn.Module):
    """No Sequential: it cannot be indexed."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.a, self.b = nn.Linear(inputs, 7), nn.Linear(7, outputs)

    def forward(self, z):
        return self.b(torch.relu(self.a(z)))


def vae():
    return dgm.VAE(6, latent=2, hidden=(3,), encoder=nn.Linear(6, 4), decoder=Decoder(2, 6))


MODELS = {
    "vae": (dgm.VAE, vae),
    "gaussian": (dgm.VAE, lambda: dgm.VAE(6, latent=2, output="gaussian", decoder=Decoder(2, 6))),
    "conditional": (
        dgm.ConditionalVAE,
        lambda: dgm.ConditionalVAE(5, 3, latent=2, encoder=nn.Linear(8, 4), decoder=Decoder(5, 5)),
    ),
    "hierarchical": (
        dgm.HierarchicalVAE,
        lambda: dgm.HierarchicalVAE(6, latent=(3, 2), hidden=(5, 4), decoder=Decoder(3, 6)),
    ),
    "supervised": (dgm.SupervisedGenerator, lambda: dgm.SupervisedGenerator(3, 2, decoder=Decoder(2, 3))),
}


@pytest.mark.parametrize("name", MODELS)
def test_own_networks_are_trained_saved_and_loaded(name, tmp_path):
    torch.manual_seed(0)
    cls, make = MODELS[name]
    x, model = cls.example()[1], make()
    before = [p.detach().clone() for p in model.parameters()]
    run = tmp_path / "run"
    dgm.fit(model, x, epochs=2, batch_size=5, learning_rate=0.01, out=run, progress=False)
    assert all(not torch.equal(p, q) for p, q in zip(before, model.parameters(), strict=True))
    with pytest.raises(ValueError, match=r"networks of your own .*decoder=Decoder.*dgm\.load\(run, model=instance\)"):
        dgm.load(run)
    again = make()
    assert dgm.load(run, model=again) is again
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    assert not again.fresh
    assert again.sample(3).shape == (3, x.shape[1])


def test_a_run_goes_on_with_networks_of_ones_own(tmp_path):
    x = dgm.VAE.example()[1]
    torch.manual_seed(0)
    whole = dgm.fit(model := vae(), x, epochs=2, batch_size=5, progress=False)
    torch.manual_seed(0)
    dgm.fit(vae(), x, epochs=1, batch_size=5, out=tmp_path / "run", progress=False)
    halves = dgm.fit(other := vae(), x, epochs=2, batch_size=5, out=tmp_path / "run", resume=True, progress=False)
    assert len(whole.history) == len(halves.history) == 2
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


def test_another_model_does_not_take_the_weights(tmp_path):
    dgm.fit(vae(), dgm.VAE.example()[1], epochs=1, out=tmp_path / "run", progress=False)
    with pytest.raises(ValueError, match="give a model that was made alike"):
        dgm.load(tmp_path / "run", model=dgm.VAE(6, latent=3))
    with pytest.raises(ValueError, match="not of rbm"):
        dgm.load(tmp_path / "run", model=dgm.RBM(6, 3))
    with pytest.raises(ValueError, match="holds no weights of vae"):
        dgm.load(tmp_path / "run", model=dgm.VAE(6, latent=2, hidden=(3,), decoder=Decoder(2, 6)))


def test_networks_that_were_replaced_are_refused_before_training(tmp_path):
    model, x = dgm.VAE.example()
    model.encoder = nn.Linear(6, 4)
    with pytest.raises(
        ValueError, match=r"'encoder\.0\.weight' is missing here|'encoder\.weight' is \(4, 6\) here"
    ) as found:
        dgm.fit(model, x, epochs=1, out=tmp_path / "run", progress=False)
    assert "encoder=" in str(found.value)
    assert not (tmp_path / "run").exists()
    dgm.fit(model, x, epochs=1, progress=False)  # without out= there is nothing to rebuild


def test_options_that_build_nothing_are_refused_before_training(tmp_path):
    class Forgetful(dgm.RBM):
        def options(self):
            return {"hidden": self.hidden}

    with pytest.raises(ValueError, match=r"Forgetful\(\*\*model.options\(\)\) fails"):
        dgm.fit(Forgetful(6, 3), dgm.RBM.example()[1], epochs=1, out=tmp_path / "run", progress=False)


def test_the_check_leaves_the_random_state_alone(tmp_path):
    x, weights = dgm.RBM.example()[1], []
    for out in (None, tmp_path / "run"):
        torch.manual_seed(0)
        rbm = dgm.RBM(6, 4)
        dgm.fit(rbm, x, epochs=1, out=out, progress=False)
        weights.append(rbm.weight.detach().clone())
    assert torch.equal(*weights)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Linear(2, 5), r"makes shape \(2, 5\) of 2 rows of 2 columns; expected \(2, 6\)"),
        (nn.Linear(3, 6), "does not take rows of 2 columns"),
        (nn.Identity(), "expected a torch.nn.Module with parameters"),
        (len, "expected a torch.nn.Module with parameters"),
    ],
)
def test_networks_that_do_not_fit(network, message):
    with pytest.raises(ValueError, match=f"decoder got .*{message}"):
        dgm.VAE(6, latent=2, decoder=network)
