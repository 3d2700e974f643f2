"""Distributions of this package expand and broadcast as torch's do, so that Pyro may draw particles as one more plate."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO

import pyro_dgm as dgm
from pyro_dgm import registry
from pyro_dgm.data import pad
from pyro_dgm.distributions.autoregressive_bits import AutoregressiveBits
from pyro_dgm.distributions.discretised_logistic import DiscretisedLogistic
from pyro_dgm.distributions.given_rows import GivenRows
from pyro_dgm.distributions.histogram import Histogram
from pyro_dgm.distributions.padded_frames import PaddedFrames

MODELS = registry.models()
CALLED = [name for name, cls in MODELS.items() if "forward" in {n for c in cls.__mro__[:-4] for n in vars(c)}]


def normal(*batch):
    return dist.Normal(torch.zeros(*batch, 2), 1.0).to_event(1)


def cases():
    """By name: a distribution and ten rows."""
    bits = torch.randint(0, 2, (10, 4)).float()
    rbm, x = dgm.RBM.example()
    labels = torch.eye(5).repeat(2, 1)
    rows, drawn = pad([torch.ones(3, 2), torch.zeros(5, 2)] * 5), torch.randn(10, 2)
    present = rows.view(10, 5, 3)[..., -1] > 0
    return {
        "shifted": (rbm(visible_shift=torch.randn(10, 6)), x),
        "given": (rbm().given({"hidden": torch.ones(10, 4)}), x),
        "log Z by row": (rbm(visible_shift=torch.randn(10, 6)).with_log_partition(torch.randn(10)), x),
        "bits": (AutoregressiveBits(torch.randn(10, 4), torch.randn(4, 4)), bits),
        "levels": (DiscretisedLogistic(torch.rand(10), 0.1, 5), torch.randint(0, 5, (10,)) / 4),
        "histogram": (Histogram(torch.tensor([[0.0, 1, 2], [0, 1, 3]]), torch.randn(2, 2)), drawn),
        "labels": (GivenRows(normal(10), labels), torch.cat([drawn, labels], 1)),
        "inputs first": (GivenRows(normal(10), labels, first=True), torch.cat([labels, drawn], 1)),
        "labels by row": (GivenRows(normal(), labels), torch.cat([drawn, labels], 1)),
        "frames": (PaddedFrames(normal(5), present), rows),
        "frames by row": (PaddedFrames(normal(10, 5), present), rows),
    }


NAMES = list(cases())


def of_model(name):
    model, x = MODELS[name].example()
    d = model()
    if not isinstance(d, dist.TorchDistribution):
        pytest.skip(f"{name}() is no distribution")
    if hasattr(d, "with_log_partition"):
        d = d.with_log_partition(1.0)
    if name == "coupledslabrbm":
        d = d.given({"hidden": torch.ones(3, 2)})
    return d, x[..., : d.event_shape[0]]


@pytest.mark.parametrize("name", [*NAMES, *CALLED])
def test_shapes_are_those_of_torch(name):
    """A normal of the same batch shape is the pattern: values and batch shape broadcast, and expansions repeat."""
    torch.manual_seed(0)
    d, x = cases()[name] if name in NAMES else of_model(name)
    batch = d.batch_shape
    assert batch in ((), (10,))
    with torch.no_grad():
        rows = d.log_prob(x)
        for shape in [(3, 10), (10,), (2, 3, 10), *([(3, 1), ()] if not batch else [])]:
            pattern, expanded = dist.Normal(torch.zeros(batch), 1.0).expand(shape), d.expand(shape)
            for value, number in ((x, torch.zeros(10)), (x.expand(4, 3, *x.shape), torch.zeros(4, 3, 10))):
                if shape == (2, 3, 10) and value.dim() > x.dim():
                    value, number = value[:, None], number[:, None]
                found, expected = expanded.log_prob(value), pattern.log_prob(number)
                assert found.shape == expected.shape
                assert torch.allclose(found, rows.expand(found.shape), atol=1e-5)
        again = d.expand((3, 10)).expand((5, 3, 10))
        assert again.log_prob(x).shape == (5, 3, 10)
        short = {"sweeps": 2} if hasattr(d, "energy") else {}
        assert again.sample((2,), **short).shape == (2, 5, 3, 10, *d.event_shape)


def programs():
    return {name: cls for name, cls in MODELS.items() if hasattr(cls, "model") and name != "dbn"}


@pytest.mark.usefixtures("short_anchor")
@pytest.mark.parametrize("cls", programs().values(), ids=programs())
def test_particles_may_be_drawn_as_a_plate(cls):
    """Where nothing is drawn, three vectorised particles give the loss and gradient of one."""
    model, x = cls.example()
    program = model.model
    if (phase := getattr(model.objective(), "phase", None)) is not None:
        few = dgm.PCD(chains=20, kernel=phase.kernel) if isinstance(phase, dgm.PCD) else phase
        small = dgm.ExactNegativePhase() if cls is dgm.RBM else few
        program = dgm.negative_phase(program, small)

    def loss(particles):
        torch.manual_seed(0)
        elbo = Trace_ELBO(num_particles=particles, vectorize_particles=particles > 1, max_plate_nesting=1)
        with pyro.validation_enabled(True):
            return elbo.differentiable_loss(program, model.guide, x)

    several = loss(3)
    assert several.detach().isfinite()
    if cls in (dgm.RBM, dgm.NADE, dgm.FVBN, dgm.RNNNADE, dgm.MADE):
        assert float(several.detach()) == pytest.approx(float(loss(1).detach()), rel=1e-5)
        parameter = next(iter(model.parameters()))
        found, expected = (torch.autograd.grad(value, parameter)[0] for value in (several, loss(1)))
        assert torch.allclose(found, expected, atol=1e-4)
