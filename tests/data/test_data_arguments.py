"""What the loading and changing of data refuses in words: names, folders, seeds, options and rows that are none."""

import numpy as np
import pytest
import torch

from pyro_dgm import data
from pyro_dgm.data import Whitening

ROWS = torch.rand(50, 6, generator=torch.Generator().manual_seed(0))


def test_a_name_is_not_empty():
    """An empty one was the folder one stands in, taken for one of pictures."""
    for call in (data.load, data.located, data.read_rows):
        with pytest.raises(ValueError, match="Unknown data set ''; expected one of"):
            call("")
    for wrong in (5, None, b"digits"):
        for call in (data.located, data.read_rows):
            with pytest.raises(ValueError, match=r"a data set got .* for its name; expected a name or a path"):
                call(wrong)


@pytest.mark.parametrize("wrong", [5, "", [], True, b"x"])
def test_a_data_folder_is_a_path(wrong):
    for name in ("digits", "mnist"):
        with pytest.raises(ValueError, match=r"data_dir got .*; expected the path of a folder"):
            data.load(name, data_dir=wrong)
    with pytest.raises(ValueError, match="data_dir got"):
        data.read_rows("x.csv", data_dir=wrong)


@pytest.mark.parametrize("wrong", [-1, "a", None, 1.5, True, 2**40])
def test_a_seed_is_one_of_all_generators(wrong):
    """A text seeded the draws as well, and was no number where a run stored it."""
    for call in (
        lambda: data.load("digits", binarisation="fixed", seed=wrong),
        lambda: data.binarise(data.load("digits"), "fixed", wrong),
        lambda: data.preprocess(data.load("digits"), "zca", seed=wrong),
        lambda: data.preprocess(data.load("digits"), "standardised", seed=wrong),
    ):
        with pytest.raises(ValueError, match=r"seed (got|is) .*; expected an integer"):
            call()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (5, "preprocessing got 5; expected a name, or a dictionary"),
        ([], r"preprocessing got \[\]; expected a name"),
        ({}, r"preprocessing got {}; expected a name"),
        ({"how": ["zca"]}, "expected a name, or a dictionary with it under 'how'"),
        ({"how": "zca", 1: 2}, "expected a name, or a dictionary"),
        ({"how": "zca", "dataset": 1}, "expected a name, or a dictionary"),
        ({"how": "none"}, "Unknown preprocessing 'none'"),
        ({"how": "whitened", "components": "a"}, "whitened: components is 'a'; expected an integer"),
        ({"how": "whitened", "components": 2.5}, "whitened: components is 2.5; expected an integer"),
        ({"how": "whitened", "scale": torch.nan}, "whitened: scale is nan; expected a number"),
        ({"how": "whitened", "scale": True}, "whitened: scale is True; expected a number"),
        ({"how": "whitened", "scale": 0}, "scale got 0; expected the standard deviation of every whitened component"),
        ({"how": "zca", "scale": -1}, "scale got -1"),
        ({"how": "zca", "sigma": 1}, "zca has no option 'sigma'; it has epsilon, scale, seed"),
    ],
)
def test_preprocessing_is_a_name_with_its_options(how, message):
    """A scale of NaN made all rows NaN, one of 0 made them 0."""
    with pytest.raises(ValueError, match=message):
        data.load("digits", preprocessing=how)


def test_options_may_be_numbers_of_numpy():
    found = data.load("digits", preprocessing={"how": "whitened", "components": np.int64(3), "scale": np.float32(0.5)})
    assert found.visible == 3


@pytest.mark.parametrize("wrong", [None, ROWS, data.Split(ROWS, data.Space("real")), "digits"])
def test_what_is_changed_is_a_dataset(wrong):
    for call in (lambda: data.binarise(wrong, "threshold"), lambda: data.preprocess(wrong, "zca")):
        with pytest.raises(ValueError, match=r"got .*; expected a Dataset, as dgm\.data\.load makes it"):
            call()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"components": 0}, "components got 0; expected the number of components"),
        ({"components": 6}, "components got 6; expected at most 5"),
        ({"components": 2.5}, "components got 2.5"),
        ({"components": True}, "components got True"),
        ({"scale": 0}, "scale got 0"),
        ({"scale": "a"}, "scale got 'a'"),
        ({"floor": -1}, "floor got -1; expected the contrast"),
        ({"floor": torch.nan}, "floor got nan"),
        ({"epsilon": True}, "epsilon got True; expected the variance"),
        ({"rows": ROWS * torch.nan}, "whitening got NaN or infinite values"),
        ({"rows": ROWS.numpy()}, "whitening got data of type ndarray"),
        ({"rows": (ROWS * 100).long()}, "whitening got rows of torch.int64; expected floating-point numbers"),
        ({"rows": ROWS + 0j}, "whitening got rows of torch.complex64"),
        ({"rows": ROWS[0]}, "whitening got data of shape"),
        ({"rows": ROWS[None]}, "whitening got data of shape"),
        ({"rows": ROWS[:0]}, "whitening got empty data"),
        ({"rows": ROWS[:1]}, "whitening got 1 rows; expected at least 2"),
        ({"rows": None}, "whitening got data of type NoneType"),
    ],
)
def test_whitening_is_made_of_rows(options, message):
    """NaN died in an eigenvalue, a negative scale mirrored all rows."""
    with pytest.raises(ValueError, match=message):
        Whitening.of(**{"rows": ROWS, "components": 3, **options})


def test_whitening_is_applied_to_rows_that_fit():
    """One column was spread over all, and NaN passed on."""
    whitening = Whitening.of(ROWS, 3)
    for wrong in (ROWS[:, :1], ROWS[:, :5], ROWS[0], ROWS * torch.nan, ROWS.numpy(), ROWS[:0], None, ROWS.double()):
        with pytest.raises(ValueError, match="whitening got"):
            whitening.apply(wrong)
    for filters in (torch.zeros(2, 3), torch.zeros(3), np.zeros((3, 2)), None):
        with pytest.raises(ValueError, match=r"pictures got .*; expected a tensor of filters, 3 components x filters"):
            whitening.pictures(filters)


def test_rows_are_those_of_a_split():
    """Any attribute of a dataset came back, its name too."""
    for wrong in ("name", "nope", "", None, 5):
        with pytest.raises(ValueError, match=f"part got {wrong!r}; expected one of train, valid, test"):
            data.read_rows("digits", wrong)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no rows; expected lines of values"),
        ("\n\n", "has no rows"),
        ('"1,2\n"1,2\n' * 20, "cannot be read as a csv file"),
        ("1,2\n" * 20 + '"3,4\n', "cannot be read as a csv file"),
    ],
    ids=["empty", "blank", "quotes that do not close", "a last quote"],
)
def test_tables_without_rows_or_with_open_quotes(tmp_path, text, message):
    """Lines between open quotes became texts of one column."""
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        data.load(tmp_path / "t.csv")


@pytest.mark.parametrize("label", [-7, 2**40, 1e30, np.uint64(2**64 - 1)])
def test_labels_of_a_file_are_classes(tmp_path, label):
    """A label of 2^64 - 1 was that of a row without one, and 1e30 became a negative number."""
    np.savez(tmp_path / "t.npz", train=np.eye(40), train_labels=np.full(40, label))
    with pytest.raises(ValueError, match="'train_labels'"):
        data.load(tmp_path / "t.npz")


def test_bits_are_packed_from_whatever_holds_them(tmp_path):
    bits = (ROWS > 0.5).float()
    for source in (bits.bfloat16(), bits.to_sparse(), bits.bool()):
        data.pack(source, tmp_path / "t.npz")
        found = data.load(tmp_path / "t.npz")
        assert sum(len(part) for part in (found.train, found.valid, found.test)) == 50
    for target in (5, None, tmp_path / "t.npy"):
        with pytest.raises(ValueError, match=r"target got .*; expected a path that ends in \.npz"):
            data.pack(bits, target)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("tset", "test"),
        ("val", "valid"),
        ("validation_labels", "valid_labels"),
        ("trian_labels", "train_labels"),
        ("tests", "test"),
    ],
)
def test_an_array_with_nearly_the_name_of_a_split_is_refused(tmp_path, name, meant):
    """It was left aside, and the test rows were dealt out of the training rows."""
    rows = np.eye(30, 4)
    np.savez(tmp_path / "slip.npz", train=rows, **{name: rows})
    with pytest.raises(ValueError, match=f"has an array '{name}'; expected '{meant}': rename it"):
        data.load(str(tmp_path / "slip.npz"))


def test_arrays_of_other_names_are_left_aside(tmp_path):
    rows, more = np.eye(30, 4), ("names", "test_names", "train_ids", "columns", "weights")
    np.savez(tmp_path / "more.npz", train=rows, **dict.fromkeys(more, rows))
    assert len(data.load(str(tmp_path / "more.npz")).train) == 24
