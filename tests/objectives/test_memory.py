"""What the estimators keep for their gradient: it must grow with the number of particles, and no faster."""

import pytest
import torch

import pyro_dgm as dgm


def kept(model, estimator, x):
    """Bytes of all different memory that a loss keeps until its gradient is taken."""
    found = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        found[storage.data_ptr()] = storage.nbytes()
        alive.append(tensor)  # or its memory might be used again
        return tensor

    alive = []
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        estimator.differentiable_loss(model.model, model.guide, x)
    return sum(found.values())


@pytest.mark.parametrize(
    ("cls", "estimator"),
    [
        (dgm.SBN, dgm.ReweightedWakeSleep), (dgm.SBN, dgm.VIMCO), (dgm.SBN, dgm.NVIL), (dgm.SBN, dgm.BidirectionalHelmholtz),
        (dgm.VAE, dgm.IWAE), (dgm.VAE, dgm.DReG),
    ],
)  # fmt: skip
def test_memory_is_linear_in_the_particles(cls, estimator):
    """Three numbers of particles on a line, up to a hundredth for what does not depend on them."""
    torch.manual_seed(0)
    model, x = cls.example()
    ten, twenty, forty = (kept(model, estimator(k), x) for k in (10, 20, 40))
    assert forty > twenty > ten
    assert forty - twenty == pytest.approx(2 * (twenty - ten), rel=0.01)
