"""Convolutional DBN: values of another program, layer-wise training, other depths, bad input."""

import itertools

import pytest
import torch
from oracles.waves import bits, wave

import pyro_dgm as dgm
from pyro_dgm.models.structured.convolutional_rbm import ConvolutionalRBM
from pyro_dgm.nets.pooled import PooledConvolution


def machine(width=1):
    """Pictures 3 x 5, two filters 2 x 2 in regions 2 x 2, and two filters 1 x width of pooling units above."""
    model = dgm.ConvolutionalDBN(15, (2, 2), (2, (1, width)), (2, 1), (3, 5)).double()
    with torch.no_grad():
        model.weights[0].copy_(wave(0.6, 1, 2, 1, 2, 2))
        model.biases[0].copy_(wave(0.4, 3, 1))
        model.biases[1].copy_(wave(0.5, 6, 2))
        model.biases[2].copy_(wave(0.3, 5, 2))
        model.weights[1].copy_(wave(0.7, 4, 2, 2, 1, 2)[..., :width])
        model.recognition_weights[0].copy_(model.weights[0])
        model.recognition_biases[0].copy_(wave(0.5, 2, 2))
    return model


@pytest.mark.parametrize(
    ("width", "expected"), [(1, None), (2, (7.7066075524, -10.1123048162, -10.2562757268))], ids=["1x1", "1x2"]
)
def test_the_bound_and_the_likelihood_by_listing_every_layer(width, expected):
    """p(x) and the bound by sums over all states of the detectors, from conditionals alone, and values of another program."""
    model = machine(width)
    unit = model.top().machine.graph.layers["visible"]
    states = torch.stack(
        [torch.stack(c) for c in itertools.product(unit.atom_states(torch.zeros(()).double()), repeat=unit.atoms)]
    )
    states = states.view(-1, *unit.shape)
    log_prior = model.top().log_prob(states)
    torch.testing.assert_close(log_prior.logsumexp(0), torch.zeros(()).double())
    x = bits(1, 1, 3, 5).view(1, 15)
    likelihood = model.observe(states)
    log_joint = likelihood.log_prob(x) + log_prior
    log_q = model._up(1, x).log_prob(states)
    torch.testing.assert_close(log_q.logsumexp(0), torch.zeros(()).double())
    bound = (log_q.exp() * (log_joint - log_q)).sum()
    if expected is not None:
        log_z = dgm.log_partition(model.top()).value
        figures = [float(f.detach()) for f in (log_z, log_joint.logsumexp(0), bound)]
        assert figures == pytest.approx(expected, abs=1e-9)
    torch.manual_seed(0)
    many = dgm.log_likelihood(model, x.repeat(3000, 1), particles=1)
    assert many.kind == "lower bound"
    assert abs(many.value - float(bound.detach())) < 6 * many.stderr_data
    weights = (log_joint - log_q).exp()
    spread = ((log_q.exp() * weights**2).sum() / log_joint.logsumexp(0).exp() ** 2 - 1).sqrt() / 20_000**0.5
    tight = dgm.log_likelihood(model, x, particles=20_000)
    assert abs(tight.value - float(log_joint.logsumexp(0).detach())) < 6 * float(spread.detach())


@pytest.mark.parametrize(("pixels", "size", "pool", "padding"), [(36, 2, 2, "valid"), (16, 1, 3, "full")])
def test_pretraining_takes_over_the_machines(pixels, size, pool, padding):
    """Greedy training; then the top machine has the last one's law of pooled bits, as probabilities of detectors show."""
    torch.manual_seed(0)
    model = dgm.ConvolutionalDBN(pixels, (2, 3), (3, size), (pool, 1), padding=padding)
    x = bits(1, 40, pixels).float()
    machines = []
    for stage, lift in model.stages():
        rows = torch.bernoulli(lift(x))
        dgm.fit(stage, rows, epochs=1, batch_size=10, progress=False)
        with torch.no_grad():
            for parameter in stage.parameters():
                parameter += 0.3 * torch.randn_like(parameter)
        machines.append(stage)
    assert [type(m) for m in machines] == [ConvolutionalRBM] * 2
    torch.testing.assert_close(model.weights[0], machines[0].weight)
    # p(pooled bits) of the upper machine is the sum over the detectors of each region that is on.
    top, pooled = model.top().machine, torch.cartesian_prod(*([torch.tensor([0.0, 1.0])] * 8))
    n = pool**2
    first = torch.zeros(len(pooled), 2, 2, 2, n)
    first[..., 0] = pooled.view(-1, 2, 2, 2)
    log_top = dgm.energy.log_sum(top, {"visible": first}) + pooled.sum(1) * torch.log(torch.tensor(float(n)))
    torch.testing.assert_close(torch.log_softmax(log_top, 0), machines[1]().log_prob(pooled), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        dgm.log_partition(model.top()).value, dgm.log_partition(machines[1]()).value, atol=1e-4, rtol=1e-4
    )


def test_probabilities_of_pooling_units_are_none_above_one():
    """Detectors' probabilities add up to more than one by rounding, in some of many regions that are nearly always on."""
    torch.manual_seed(0)
    model = dgm.ConvolutionalDBN(400, (6, 2), (3, 1), (3, 1))
    with torch.no_grad():
        model.recognition_weights[0].normal_()
        model.recognition_biases[0].fill_(20.0)
    on = model.posterior(torch.rand(50, 400), 1)
    assert on.max() == 1.0
    assert on.min() > 0.99


def test_three_layers_draw_and_learn():
    torch.manual_seed(0)
    model = dgm.ConvolutionalDBN(100, (2, 3, 2), (3, 2, 1), (2, 1, 1), unit="gaussian")
    assert model.hidden == ((2, 4, 4, 4), (3, 3, 3, 1), (2, 3, 3, 1))
    x = torch.randn(30, 100)
    run = dgm.fit(model, x, epochs=1, batch_size=10, progress=False)
    assert len(run.history) == 1
    assert model.sample(2, sweeps=3).shape == (2, 100)
    assert model.hidden_features(x).shape == (30, 2 * 16 + 3 * 9 + 2 * 9)


@pytest.mark.parametrize("padding", ["valid", "full"])
@pytest.mark.parametrize("unit", ["binary", "gaussian"])
def test_the_classifier_starts_as_the_upward_pass(padding, unit):
    torch.manual_seed(0)
    sizes, pools, shape = ((3, 2), (2, 3)), ((2, 1), (1, 2)), (2, 6, 5)
    dbn = dgm.ConvolutionalDBN(60, (3, 4), sizes, pools, shape, unit, padding)
    with torch.no_grad():
        for parameter in dbn.parameters():
            parameter.normal_()
    x = torch.rand(7, 60)
    network = dbn.to_mlp(classes=3, dropout=0.5).eval()
    torch.testing.assert_close(network.features(x).detach(), dbn.hidden_features(x))
    assert network(x).shape == (7, 3)


@pytest.mark.parametrize("scale", [1.0, 200.0])
def test_pooled_probabilities_and_their_derivatives(scale):
    """Those of one less the probability that no detector of a region is on, for fields of any size."""
    torch.manual_seed(0)
    layer = PooledConvolution(torch.eye(2).view(2, 2, 1, 1), torch.zeros(2), (2, 3))
    z = (scale * torch.randn(4, 2, 6, 6)).requires_grad_()
    regions = z.unflatten(-1, (2, 3)).unflatten(-3, (3, 2)).movedim(-3, -2).flatten(-2)
    expected = 1 - torch.cat([regions, torch.zeros_like(regions[..., :1])], -1).softmax(-1)[..., -1]
    weights = torch.randn(4, 2, 3, 2)
    torch.testing.assert_close(layer(z), expected)
    (found,), (wanted,) = (torch.autograd.grad((weights * p).sum(), z) for p in (layer(z), expected))
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-4)


def test_a_classifier_learns_where_a_bar_lies():
    """Fine-tuning moves the classifier's filters and leaves the model as it was."""
    torch.manual_seed(0)
    labels = torch.arange(60) % 2
    x = (torch.rand(60, 8, 8) < 0.1).float()
    x[labels == 0, 2] = x[labels == 1, :, 2] = 1.0
    dbn = dgm.ConvolutionalDBN(64, (4, 4), (3, 3), (2, 1))
    before = [p.detach().clone() for p in dbn.parameters()]
    rows = dgm.data.Split(x.flatten(1), dgm.data.Space("binary"), labels)
    classify = dgm.fine_tune(dbn, rows, classes=2, epochs=40, batch_size=20, learning_rate=0.02)
    assert dgm.error_rate(classify(rows.x), labels) == 0.0
    assert all(torch.equal(p, old) for p, old in zip(dbn.parameters(), before, strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filters": (2,)}, "filters got"),
        ({"sizes": (3, 2, 2)}, "got 2 filters, 3 sizes and 2 pools"),
        ({"pools": (3, 1)}, r"pool got \(3, 3\); expected height and width of a region that divide"),
        ({"unit": "spin"}, "unit got 'spin'"),
        ({"padding": "same"}, "padding got 'same'"),
        ({"shape": (5, 5)}, r"shape got \(5, 5\) for 36 pixels"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        dgm.ConvolutionalDBN(36, **{"filters": (2, 2), "sizes": (3, 2), "pools": (2, 1), **options})
