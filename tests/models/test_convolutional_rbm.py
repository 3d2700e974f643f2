"""Convolutional RBM: values of two other programs, pictures of other sizes, pooled units, bad input."""

import pytest
import torch
from oracles.waves import bits, wave

import pyro_dgm as dgm


def machine(shape, padding="valid", **options):
    """Two filters 2 x 2 with sines of indices as parameters."""
    channels, height, width = shape
    model = dgm.ConvolutionalRBM(channels * height * width, 2, 2, shape, padding, **options).double()
    with torch.no_grad():
        model.weight.copy_(wave(0.6, 1, 2, channels, 2, 2))
        model.hidden_bias.copy_(wave(0.5, 2, 2))
        model.visible_bias.copy_(wave(0.4, 3, channels))
        if options.get("unit") == "gaussian":
            model.log_precision.fill_(1.5).log_()
    return model


CASES = {
    "valid": ((2, 3, 3), 18.9026464757, (-12.3470168340, -12.9786436411), 0.7573101712, (0.5798065901, 0.5141082548),
              (-0.2869002330, -0.1225046521, 0.3184301658)),
    "full": ((1, 3, 3), 34.2179030257, (-5.9444124880, -6.0701562674), 0.3764145925, (0.2904156370, 0.3462068096),
             (0.0276065723, -0.0304482612, 0.1784434948)),
}  # fmt: skip


@pytest.mark.parametrize("padding", CASES)
def test_values_of_another_program(padding):
    shape, log_z, log_p, hidden, visible, gradients = CASES[padding]
    model = machine(shape, padding)
    first, second = (bits(start, *shape).reshape(1, -1) for start in (1, 2))
    assert float(dgm.log_partition(model()).value) == pytest.approx(log_z, abs=1e-9)
    assert model().log_prob(torch.cat([first, second])).tolist() == pytest.approx(log_p, abs=1e-9)
    assert float(model.detectors(first)[0, 1, 0, 1]) == pytest.approx(hidden, abs=1e-9)
    h = bits(4, *model.maps)[None]
    block = dgm.energy.Block("visible")
    (eta,) = model().machine.colour_fields((block,), {"visible": first, "hidden": h})
    probabilities = torch.sigmoid(eta[0]).detach().view(shape)
    assert (float(probabilities[0, 1, 2]), float(probabilities[0, 0, 0])) == pytest.approx(visible, abs=1e-9)
    parameters = model.weight, model.hidden_bias, model.visible_bias
    w, b, a = torch.autograd.grad(model().log_prob(first).sum(), parameters)
    assert (float(w[1, 0, 1, 0]), float(b[0]), float(a[0])) == pytest.approx(gradients, abs=1e-9)


def test_real_pixels():
    model, x = machine((2, 3, 3), unit="gaussian"), wave(1, 0.3, 2, 3, 3).view(1, -1)
    # Energies are those of squares about the biases, one for every pixel of a channel.
    left_out = 0.5 * float(model.log_precision.exp()) * 9 * float(model.visible_bias.square().sum())
    assert float(dgm.log_partition(model()).value) == pytest.approx(26.0538777419 - left_out, abs=1e-9)
    assert float(model().log_prob(x)) == pytest.approx(-23.2420530298, abs=1e-9)
    assert float(model.detectors(x)[0, 1, 0, 1]) == pytest.approx(0.9063053682, abs=1e-9)


SIZES = {
    "valid": {(3, 3): 13.7104804831, (3, 4): 19.4163657580, (4, 4): 27.6096189867},
    "full": {(3, 3): 34.2179030257, (3, 4): 43.3730915791, (4, 4): 55.0102467765},
}


@pytest.mark.parametrize("padding", SIZES)
def test_pictures_of_other_sizes(padding):
    model = machine((1, 3, 3), padding)
    for shape, log_z in SIZES[padding].items():
        other = model.resized(shape)
        assert float(dgm.log_partition(other()).value) == pytest.approx(log_z, abs=1e-9)
        assert other.shape == (1, *shape)


def test_figures_of_two_sizes_do_not_compare():
    model = machine((1, 3, 3))
    figures = [
        dgm.log_likelihood(m, bits(1, 5, m.visible), space="binary (fixed)") for m in (model, model.resized((3, 4)))
    ]
    with pytest.raises(ValueError, match="rows of 9 columns cannot be compared with one of 12 columns"):
        _ = figures[0] - figures[1]


def test_detectors_in_the_order_of_positions():
    """The same machine with regions of one detector is the one without regions; maxima do not change the law."""
    plain, x = machine((1, 3, 5)), bits(1, 4, 15)
    single = machine((1, 3, 5), pool=1)
    torch.testing.assert_close(single().log_prob(x), plain().log_prob(x))
    torch.testing.assert_close(single.detectors(x), plain.detectors(x))
    maxima = machine((1, 3, 5), pool=2, pooling="max")
    torch.testing.assert_close(maxima().log_prob(x), plain().log_prob(x))
    torch.testing.assert_close(maxima.detectors(x), plain.detectors(x))
    blocks = plain.detectors(x).view(4, 2, 1, 2, 2, 2)
    torch.testing.assert_close(maxima.pooled(x), 1 - (1 - blocks).prod(3).prod(-1))


def test_regions():
    model, x = machine((1, 3, 5), pool=2), bits(1, 1, 3, 5).view(1, 15)
    assert float(dgm.log_partition(model()).value) == pytest.approx(18.6364675098, abs=1e-9)
    assert float(model.detectors(x)[0, 1, 0, 1]) == pytest.approx(0.1909574383, abs=1e-9)
    assert float(model.pooled(x)[0, 1, 0, 0]) == pytest.approx(0.8356712868, abs=1e-9)


def test_a_filter_as_large_as_the_picture_is_a_dense_machine():
    model, x = machine((2, 2, 2)), bits(3, 6, 8)
    rbm = dgm.RBM(8, 2).double()
    with torch.no_grad():
        rbm.weight.copy_(model.weight.flatten(1).T)
        rbm.hidden_bias.copy_(model.hidden_bias)
        rbm.visible_bias.copy_(model.visible_bias.repeat_interleave(4))
    torch.testing.assert_close(model().log_prob(x), rbm().log_prob(x))


def test_flipped_filters_are_another_machine():
    model, x = machine((1, 3, 3)), bits(1, 5, 9)
    before = model().log_prob(x)
    with torch.no_grad():
        model.weight.copy_(model.weight.flip(-1, -2))
    assert float((model().log_prob(x) - before).abs().max()) > 0.01


def test_a_first_fit_starts_at_the_data(tmp_path):
    torch.manual_seed(0)
    x = torch.randn(200, 16) * 3 + 7
    model = dgm.ConvolutionalRBM(16, 3, 2, unit="gaussian")
    model.initialise(x)
    assert float(model.visible_bias) == pytest.approx(float(x.mean()), rel=1e-5)
    assert float(model.log_precision.exp()) == pytest.approx(float(1 / x.var(correction=0)), rel=1e-4)
    bright = (torch.rand(300, 2, 8) < torch.tensor([0.2, 0.7]).view(2, 1)).float().view(300, 16)
    model = dgm.ConvolutionalRBM(16, 3, 2, shape=(2, 2, 4))
    model.initialise(bright)
    assert torch.sigmoid(model.visible_bias).tolist() == pytest.approx(
        bright.view(300, 2, 8).mean((0, 2)).tolist(), rel=1e-4
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filters": 0}, "filters got 0"),
        ({"size": 9}, "size got 9"),
        ({"pool": 3}, "pool got 3; expected height and width of a region that divide the maps' 4 x 4 positions"),
        ({"pooling": "mean"}, "pooling got 'mean'"),
        ({"bias": "free"}, "bias got 'free'"),
        ({"unit": "spin"}, "unit got 'spin'"),
        ({"shape": (3, 4)}, r"shape got \(3, 4\) for 36 pixels"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        dgm.ConvolutionalRBM(36, **{"filters": 2, "size": 3, **options})


def test_what_a_machine_cannot_do():
    with pytest.raises(ValueError, match="no pooling regions"):
        dgm.ConvolutionalRBM(36, 2, 3).pooled(torch.zeros(1, 36))
    with pytest.raises(ValueError, match="bias for every pixel"):
        dgm.ConvolutionalRBM(36, 2, 3, bias="pixel").resized((8, 8))
    model = dgm.ConvolutionalRBM(36, 2, 3)
    with pytest.raises(ValueError, match="another amount at every unit"):
        dgm.fit(model, torch.eye(36), objective=model.objective(centred=True), epochs=1, progress=False)
    with pytest.raises(ValueError, match="expected 1 channels"):
        dgm.ConvolutionalRBM(36, 2, 3).resized((3, 8, 8))


@pytest.mark.parametrize("options", [{}, {"pool": 2}, {"pool": 2, "pooling": "max"}], ids=["bits", "regions", "max"])
def test_the_share_of_detectors_that_are_on_at_first(options):
    model = dgm.ConvolutionalRBM(49, 3, 4, share=0.03, **options)
    with torch.no_grad():
        model.weight.zero_()
    assert float(model.detectors(torch.zeros(1, 49)).mean()) == pytest.approx(0.03, abs=1e-6)
    with pytest.raises(ValueError, match="share got"):
        dgm.ConvolutionalRBM(49, 3, 4, share=1.5, **options)


def test_a_share_that_regions_cannot_have():
    with pytest.raises(ValueError, match="regions of 4 detectors of which at most one is on; expected less than"):
        dgm.ConvolutionalRBM(49, 3, 4, pool=2, share=0.3)
