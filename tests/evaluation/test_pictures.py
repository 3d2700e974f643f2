import subprocess
import sys
from pathlib import Path

import arviz
import numpy as np
import pytest
import torch
import xarray
from matplotlib.figure import Figure

import pyro_dgm as dgm
from pyro_dgm.evaluation import pictures


def drawn(figure):
    return np.ma.filled(figure.axes[0].images[0].get_array().astype(float), np.nan)


def cell(image, row, column, height, width, gap=1):
    top, left = row * (height + gap) + gap, column * (width + gap) + gap
    return image[top : top + height, left : left + width]


@pytest.fixture
def x():
    return torch.rand(7, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(2, 3), (1, 2, 3), torch.Size([2, 3]), [2, 3]])
def test_a_grid_holds_each_picture_in_reading_order(x, shape):
    image = drawn(pictures.sample_grid(x.requires_grad_(), shape, columns=3, title="seven"))
    assert image.shape == (3 * 3 + 1, 3 * 4 + 1)
    for index, picture in enumerate(x.detach().numpy()):
        np.testing.assert_array_equal(cell(image, *divmod(index, 3), 2, 3), picture.reshape(2, 3))
    assert (image[0] == 0.75).all()
    assert (image[7:, 5:] == 1).all()  # the two places left over


def test_colours_come_last():
    x = torch.rand(2, 12, dtype=torch.float64)
    image = drawn(pictures.sample_grid(x, (3, 2, 2)))
    np.testing.assert_array_equal(cell(image, 0, 1, 2, 2), np.moveaxis(x[1].reshape(3, 2, 2).numpy(), 0, -1))


def test_every_pixel_is_a_whole_number_of_pixels(x, tmp_path):
    figure = pictures.sample_grid(x, (2, 3), columns=4, path=tmp_path / "grid.png")
    box, (height, width) = figure.axes[0].get_window_extent(), drawn(figure).shape
    assert box.width / width == pytest.approx(round(box.width / width))
    assert box.width / width == pytest.approx(box.height / height)


def test_reconstructions_stand_below_their_data(x):
    image = drawn(pictures.reconstructions(x, 1 - x, (2, 3), columns=4))
    second = 9  # seven rows of the first pair, two of white
    for index, picture in enumerate(x.numpy()):
        part = image[second * (index // 4) :]
        np.testing.assert_array_equal(cell(part, 0, index % 4, 2, 3), picture.reshape(2, 3))
        np.testing.assert_array_equal(cell(part, 1, index % 4, 2, 3), (1 - picture).reshape(2, 3))
    assert (image[7:9] == 1).all()
    with pytest.raises(ValueError, match="6 rows for 7"):
        pictures.reconstructions(x, x[:6], (2, 3))


def test_filters_stand_strongest_first_on_a_symmetric_scale(x):
    weight = (x.T - 0.5) * torch.tensor([1, 5, 2, 7, 3, 0.1, 4])
    figure = pictures.filters(weight, (2, 3), count=5)
    order = weight.norm(dim=0).argsort(descending=True)[:5]
    assert order.tolist() != list(range(5))
    for place, index in enumerate(order):
        np.testing.assert_array_equal(cell(drawn(figure), *divmod(place, 3), 2, 3), weight[:, index].reshape(2, 3))
    low, high = figure.axes[0].images[0].get_clim()
    assert -low == high == weight[:, order].abs().max()
    assert "5 of 7 filters, strongest (by norm) first" in figure.axes[0].get_title()


def test_filters_in_colour_and_without_weight():
    weight = torch.zeros(12, 1, dtype=torch.float64)
    assert (cell(drawn(pictures.filters(weight, (3, 2, 2))), 0, 0, 2, 2) == 0.5).all()
    weight[3] = -2.0
    assert cell(drawn(pictures.filters(weight, (3, 2, 2))), 0, 0, 2, 2)[1, 1, 0] == 0
    assert drawn(pictures.filters(weight * 0, (3, 4))).shape == (5, 6)


@pytest.mark.parametrize("columns", [1, 2, 5])
def test_the_manifold_shows_the_quantiles_with_z2_upwards(columns):
    seen = []

    def decode(z):
        seen.append(z)
        return torch.special.ndtr(z.double()).repeat_interleave(torch.tensor([1, 2]), dim=1)  # z1, z2, z2

    figure = pictures.latent_manifold(decode, (1, 3), columns=columns)
    image = drawn(figure)
    assert image.shape == (2 * columns + 1, 4 * columns + 1)
    image = image[1::2].reshape(columns, -1)[:, 1:].reshape(columns, columns, 4)[:, :, :3]
    middles = (np.arange(columns) + 0.5) / columns
    assert seen[0].shape == (columns**2, 2)
    np.testing.assert_allclose(image[:, :, 0], np.tile(middles, (columns, 1)), atol=1e-6)
    np.testing.assert_allclose(image[:, :, 1], np.tile(middles[::-1, None], (1, columns)), atol=1e-6)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["-2", "-1", "-0.5", "0", "0.5", "1", "2"]
    assert axes.get_xticks()[3] == pytest.approx(columns * 4 / 2)
    assert (np.diff(axes.get_yticks()) < 0).all()  # row 0 is on top
    assert axes.get_xlabel() == "z₁"


def test_the_manifold_of_a_uniform_prior():
    seen = []
    figure = pictures.latent_manifold(lambda z: seen.append(z) or (z + 1) / 2, (1, 2), columns=4, prior="uniform")
    assert seen[0][:, 0].unique().tolist() == [-0.75, -0.25, 0.25, 0.75]
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["-1", "-0.5", "0", "0.5", "1"]
    np.testing.assert_allclose(axes.get_xticks(), 3 * np.arange(5))
    with pytest.raises(ValueError, match="prior got 'cauchy'"):
        pictures.latent_manifold(torch.sigmoid, (1, 2), prior="cauchy")


def test_a_decoder_that_loses_rows_is_named():
    with pytest.raises(ValueError, match="3 rows for 4 codes"):
        pictures.latent_manifold(lambda z: torch.zeros(3, 4), (2, 2), columns=2)


def chains(count=3, draws=50):
    energy = np.random.default_rng(0).normal(size=(count, draws))
    return {"energy": energy, "free_energy": energy - 1}


def inference_data(variables):
    """By the form of ArviZ's function before and after its version 1.0."""
    groups = {"posterior": variables}
    return arviz.from_dict(groups) if int(arviz.__version__.split(".")[0]) else arviz.from_dict(**groups)


def data_tree(variables):
    dims = ("chain", "draw", "unit")
    group = xarray.Dataset({name: (dims[: value.ndim], value) for name, value in variables.items()})
    return xarray.DataTree.from_dict({"/posterior": group})


@pytest.mark.parametrize("make", [inference_data, data_tree])
def test_energies_of_inference_data_and_of_a_data_tree(make, recwarn):
    variables = chains(count=10)
    figure = pictures.energy_trace(make(variables))
    trace, ranks, decay, free = figure.axes[:4]
    assert len(trace.lines) == 3
    np.testing.assert_array_equal(trace.lines[2].get_ydata(), variables["energy"][2])
    rhat = f"{arviz.rhat(variables['energy']):.3f}"
    assert trace.get_title(loc="left") == f"energy: R-hat {rhat} (3 of 10 chains)"
    assert (trace.get_ylabel(), free.get_ylabel()) == ("energy (nats)", "free energy (nats)")
    centred = variables["energy"] - variables["energy"].mean(1, keepdims=True)
    expected = [((centred[:, lag:] * centred[:, : 50 - lag]).sum(1) / (centred**2).sum(1)).mean() for lag in range(26)]
    np.testing.assert_allclose(decay.lines[0].get_ydata(), expected, atol=1e-12)
    assert ranks.images[0].get_array().shape == (10, 12)


def test_ranks_show_a_chain_that_stays_apart():
    """Four chains of which one lies above all others: its ranks are the last quarter, 5 of 20 bins with four times as many."""
    energy = np.random.default_rng(1).normal(size=(4, 200))
    energy[3] += 100
    found = np.asarray(pictures.energy_trace(data_tree({"energy": energy})).axes[1].images[0].get_array())
    np.testing.assert_allclose(found[3], [-(10**0.5)] * 15 + [3 * 10**0.5] * 5)
    np.testing.assert_allclose(found.sum(1), 0, atol=1e-9)


def test_ranks_of_few_values_are_those_that_all_chains_have():
    """Of whole numbers most bins are empty; chains of one law still differ by a few deviations alone."""
    values = np.random.default_rng(0).integers(0, 4, (6, 400)).astype(float)
    ranks = pictures.energy_trace(data_tree({"sum": values})).axes[1].images[0].get_array()
    assert 0.5 < np.abs(ranks).max() < 4.5


def test_chains_without_an_energy_are_shown_by_what_they_have():
    values = np.random.default_rng(0).normal(size=(3, 20))
    figure = pictures.energy_trace(data_tree({"log_step": values, "x": np.zeros((3, 20, 2)), "sum": values}))
    assert [axes.get_ylabel() for axes in figure.axes if axes.get_xlabel() == "draw"] == ["log step", "sum"]
    beside = pictures.energy_trace(data_tree({"energy": values, "sum": values}))
    assert [axes.get_ylabel() for axes in beside.axes if axes.get_xlabel() == "draw"] == ["energy (nats)"]


def test_one_chain_or_chains_that_stand_still_have_no_rhat():
    for variables in (chains(count=1), {"energy": np.zeros((4, 20))}):
        figure = pictures.energy_trace(data_tree(variables))
        assert "no R-hat" in figure.axes[0].get_title(loc="left")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"h": np.zeros((2, 9, 3))}, r"\['h'\]; expected energy"),
        ({"energy": np.zeros((2, 3))}, "at least 4 draws"),
        ({"energy": np.full((2, 9), np.nan)}, "18 values that are NaN"),
    ],
)
def test_energies_that_cannot_be_drawn(variables, message):
    with pytest.raises(ValueError, match=message):
        pictures.energy_trace(data_tree(variables))


def test_energies_of_other_dimensions_or_none():
    group = xarray.Dataset({"energy": (("chain", "draw", "unit"), np.zeros((2, 9, 3)))})
    with pytest.raises(ValueError, match="expected dimensions chain and draw"):
        pictures.energy_trace(xarray.DataTree.from_dict({"/posterior": group}))
    with pytest.raises(ValueError, match=r"variables \[\]"):
        pictures.energy_trace(xarray.DataTree())


def test_a_quantity_shares_its_panel_with_its_validation():
    history = [
        {"epoch": 1, "loss": 3.0, "learning_rate": 0.1, "valid_elbo": -2},
        {"epoch": 2, "loss": 2.0, "valid_loss": 2.5, "learning_rate": None},
        {"epoch": 3, "loss": float("nan"), "free_energy_gap": torch.tensor(0.5)},
        {"epoch": 4, "loss": 1.0, "valid_loss": np.float32(1.5), "seconds": 3.0, "cpu_seconds": 2.0},
    ]
    axes = {a.get_title(): a for a in pictures.training_curve(history).axes}
    assert list(axes) == ["loss, 1 not finite", "learning rate", "elbo", "free energy gap"]
    assert [a.get_ylabel() for a in axes.values()] == ["nats per row", "", "nats per row", "nats per row"]
    loss, valid = axes["loss, 1 not finite"].lines
    np.testing.assert_array_equal(loss.get_xydata(), [[1, 3], [2, 2], [3, np.nan], [4, 1]])
    np.testing.assert_array_equal(valid.get_xydata(), [[2, 2.5], [4, 1.5]])
    np.testing.assert_array_equal(axes["learning rate"].lines[0].get_xydata(), [[1, 0.1]])
    assert [line.get_label() for line in axes["elbo"].lines] == ["validation"]
    assert axes["learning rate"].get_legend() is None


@pytest.mark.parametrize(
    ("history", "message"),
    [
        ([], "got 0 entries"),
        ([{"epoch": 1}], "got 1 entries"),
        ([{"epoch": 1, "loss": 1.0}, {"loss": 2.0}], "with epoch"),
        ([{"epoch": 1, "loss": "low"}], "no number .*'low'"),
    ],
)
def test_a_history_that_cannot_be_drawn(history, message):
    with pytest.raises(ValueError, match=message):
        pictures.training_curve(history)


NAN = torch.tensor([[0.5, float("nan"), 0.5, 0.5]])


@pytest.mark.parametrize("draw", [pictures.sample_grid, lambda x, shape: pictures.reconstructions(x, x, shape)])
@pytest.mark.parametrize(
    ("x", "shape", "message"),
    [
        (torch.zeros(2, 5), (2, 2), r"5 values per picture; shape \(2, 2\) has 4"),
        (torch.zeros(0, 4), (2, 2), r"shape \(0, 4\); expected two dimensions, not empty"),
        (torch.zeros(2, 2, 2), (2, 2), r"flatten\(1\)"),
        (NAN, (2, 2), "1 values that are NaN"),
        (torch.full((1, 4), 3.0), (2, 2), r"from 3 to 3; rescale"),
        (torch.zeros(1, 4), (4,), r"shape got \(4,\)"),
        (torch.zeros(1, 8), (2, 2, 2), r"shape got \(2, 2, 2\)"),
        (torch.zeros(1, 4), (-2, -2), r"shape got \(-2, -2\)"),
    ],
)
def test_pictures_that_cannot_be_drawn(draw, x, shape, message):
    with pytest.raises(ValueError, match=message):
        draw(x, shape)


def test_filters_and_counts_that_cannot_be_drawn(x):
    with pytest.raises(ValueError, match="weight got 6 values per picture"):
        pictures.filters(x.T, (2, 2))
    with pytest.raises(ValueError, match="NaN"):
        pictures.filters(NAN, (1, 1))
    with pytest.raises(ValueError, match="count got 0"):
        pictures.filters(x.T, (2, 3), count=0)
    with pytest.raises(ValueError, match="columns got 0"):
        pictures.sample_grid(x, (2, 3), columns=0)
    with pytest.raises(ValueError, match="columns got -1"):
        pictures.latent_manifold(lambda z: z, (1, 2), columns=-1)


def test_saving_is_all_or_nothing(x, tmp_path, monkeypatch):
    path = tmp_path / "grid.png"
    pictures.sample_grid(x, (2, 3), path=str(path))
    before = path.read_bytes()
    assert before.startswith(b"\x89PNG")

    def fail(self, target, **options):
        target.write(b"half")
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(Figure, "savefig", fail)
        with pytest.raises(OSError, match="disk full"):
            pictures.sample_grid(1 - x, (2, 3), path=path)
    assert path.read_bytes() == before
    pictures.sample_grid(1 - x, (2, 3), path=path)
    assert path.read_bytes() != before
    assert list(tmp_path.iterdir()) == [path]


def test_a_path_that_is_no_png_or_has_no_folder(x, tmp_path):
    for path in (tmp_path / "grid.pdf", tmp_path / "absent" / "grid.png"):
        with pytest.raises(ValueError, match=r"ending in \.png in a folder"):
            pictures.sample_grid(x, (2, 3), path=path)


def test_all_save(x, tmp_path):
    saved = {
        "recon": lambda path: pictures.reconstructions(x, x, (2, 3), path=path),
        "filters": lambda path: pictures.filters(x, (7, 1), path=path),
        "manifold": lambda path: pictures.latent_manifold(torch.sigmoid, (1, 2), path=path),
        "energy": lambda path: pictures.energy_trace(data_tree(chains()), path=path),
        "curve": lambda path: pictures.training_curve([{"epoch": 1, "loss": 1.0}], path=path),
    }
    for name, draw in saved.items():
        assert isinstance(draw(tmp_path / f"{name}.png"), Figure)
        assert (tmp_path / f"{name}.png").stat().st_size > 1000


def test_pyplot_is_not_imported(tmp_path):
    code = (
        "import sys, torch; from pyro_dgm.evaluation import pictures\n"
        "early = 'matplotlib' in sys.modules\n"
        "pictures.sample_grid(torch.eye(4), (2, 2), path=sys.argv[1]); pictures.filters(torch.eye(4), (2, 2))\n"
        "pictures.training_curve([{'epoch': 1, 'loss': 1.0}])\n"
        "print(early, 'matplotlib.pyplot' in sys.modules)"
    )
    root = Path(pictures.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "grid.png")], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False"]


def test_samples_stand_beside_data():
    samples, data = torch.zeros(3, 4), torch.ones(9, 4)
    figure = pictures.samples_and_data(samples, data, (2, 2), "RBM", columns=2)
    image = drawn(figure)
    assert image.shape == (7, 16)
    assert (cell(image, 0, 0, 2, 2) == 0).all()
    assert (image[1:3, 10:12] == 1).all()
    assert figure.axes[0].get_title() == "left: samples of RBM; right: test data"
    few = drawn(pictures.samples_and_data(torch.zeros(5, 4), torch.ones(1, 4), (2, 2), columns=2))
    assert few.shape[0] == 10


def test_unknown_entries_are_marked():
    """Known pixels are grey in all rows; unknown ones are blue before, and bluish after they are filled in."""
    filled, known = torch.tensor([[0.0, 1.0, 0.25, 0.5]]), torch.tensor([[True, True, False, True]])
    image = drawn(pictures.imputations(torch.ones(1, 4), known, filled, (2, 2)))
    truth, given, after = (image[top : top + 2, 1:3] for top in (1, 4, 7))
    assert (truth == 1).all()
    np.testing.assert_allclose(given[1, 0], [0.55, 0.75, 1.0])
    np.testing.assert_allclose(after[1, 0], 0.55 * 0.25 + 0.45 * np.array([0.55, 0.75, 1.0]))
    for part in (given, after):
        assert (part[0, 0] == 0).all()
        assert (part[0, 1] == 1).all()
        assert (part[1, 1] == 0.5).all()
    with pytest.raises(ValueError, match="known got 1 rows for 2"):
        pictures.imputations(None, known, filled.expand(2, 4), (2, 2))


def test_channels_may_come_last():
    x = torch.rand(2, 60, generator=torch.Generator().manual_seed(0))
    last, first = (
        drawn(pictures.sample_grid(x, (4, 5, 3))),
        drawn(pictures.sample_grid(x.reshape(2, 4, 5, 3).permute(0, 3, 1, 2).flatten(1), (3, 4, 5))),
    )
    np.testing.assert_array_equal(last, first)


def test_filled_and_white_bars_are_explained():
    kl = {"z": dgm.evaluation.latents.SiteKL(torch.ones(2), torch.zeros(2), 2.0, 0.0, "closed form")}
    active = {"z": dgm.evaluation.latents.SiteActivity(torch.ones(2), torch.tensor([True, False]))}
    legend = pictures.latent_bars(kl, active).axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["active", "inactive"]
