"""Tables: types and names of columns, their code in numbers, and the way back."""

import json
import warnings

import numpy as np
import pandas
import pytest
import torch

import pyro_dgm as dgm
from pyro_dgm.data.csv_table import read_table
from pyro_dgm.data.frames import fields_of, frame_of
from pyro_dgm.data.row_files import read_values
from pyro_dgm.data.rows import as_rows
from pyro_dgm.data.tables import Columns

MIXED = "size,price,red,shape\n3,0.1,true,round\n5,,false,square\n,2.5,,\n4,1,true,round\n"


def written(path, text):
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "named", "kinds"),
    [
        (MIXED, True, ["whole", "real", "boolean", "text"]),
        ("1,2\n3,4\n", False, ["whole", "whole"]),
        ("a,2020\n1,2\n3,4\n", True, ["whole", "whole"]),  # a word above numbers is a name, whatever stands beside it
        ("red,1.5\nblue,2\nred,3\n", False, ["text", "real"]),
        ("x\n1.0\n2.0\n", True, ["real"]),
        ("x,y\n1,\n2,\n", True, ["whole", "real"]),
        ("0,1,2\n.5,3,4\n.25,5,6\n", True, ["real", "whole", "whole"]),  # as pandas names the columns of an array
        ("0,1,2\n1,0,1\n", True, ["whole", "whole", "whole"]),
        ("0,1\n.5,3\n", True, ["real", "whole"]),
        ("0\na\nb\na\n", True, ["text"]),
        ("0,1\n1,1\n", False, ["whole", "whole"]),  # rather two bits
        ("0\n1\n", False, ["whole"]),
        ("0,1,2\n", False, ["whole", "whole", "whole"]),
        ("0.0,1,2\n1,0,1\n", False, ["real", "whole", "whole"]),
        ("who,x\n0_1,1\n1_1,2\n0_1,3\n", True, ["text", "whole"]),  # 0_1 is no number
        ("\ufeffa,b\n\n1,nan\n2,NA\n", True, ["whole", "real"]),
    ],
)
def test_columns_have_types(tmp_path, text, named, kinds):
    fields, found = read_table(written(tmp_path / "t.csv", text))
    assert (found, [field.kind for field in fields]) == (named, kinds)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n3,x\n4,5\n", "line 3: 'x' in column 'b', where other lines have numbers"),
        ("a,b\n1,2\n3\n", "line 3 has 1 fields, the first 2"),
        ("a;b\n1,5;2\n3,5;4\n", "line 2 has 2 fields, the first 1; it has semicolons: separate fields by commas"),
        ("a;b\n1;2\n3;4\n", "every line has one field; it has semicolons: separate fields by commas"),
        ("a\tb\n1\t2\n3\t4\n", "every line has one field; it has tabulators: separate fields by commas"),
        ("a,a\n1,2\n", "two columns called 'a'"),
        (",a\n0,2\n1,3\n", r"line 1 has no name for column 1; .* to_csv\(path, index=False\)"),
        ("\n,0,1\n0,5,2\n1,4,3\n", r"line 2 has no name for column 1; .* to_csv\(path, index=False\)"),
        ("a,\n1,2\n", "line 1 has no name for column 2"),
        ('a,b\n1,"2,5"\n2,"3,5"\n', "line 2: column 'b' has numbers with commas, '2,5'; write decimals with a point"),
        ("a,b\n1,2\n2_1,3\n", "line 3: '2_1' in column 'a', where other lines have numbers"),
        ("who\n" + "".join(f"name{i}\n" for i in range(9)), "9 different texts in 9 rows"),
    ],
)
def test_tables_that_are_refused(tmp_path, text, message):
    file = written(tmp_path / "t.csv", text)
    with pytest.raises(ValueError, match=message):
        Columns.of(*read_table(file), str(file))


def test_values_come_back_as_they_were(tmp_path):
    """Also through single precision, with what is missing, and by JSON."""
    fields, named = read_table(written(tmp_path / "t.csv", MIXED))
    columns = Columns.of_dict(Columns.of(fields, named, "t").as_dict())
    rows, _ = columns.code(fields, named, "t")
    assert rows.shape == (4, 5)
    assert columns.values(rows.astype(np.float32)) == {
        "size": [3, 5, None, 4],
        "price": [0.1, None, 2.5, 1.0],
        "red": [True, False, None, True],
        "shape": ["round", "square", None, "round"],
    }


def test_other_tables_are_read_by_the_names_of_the_first(tmp_path):
    columns = Columns.of(*read_table(written(tmp_path / "t.csv", MIXED)), "t")
    turned = read_table(written(tmp_path / "u.csv", "shape,red,size,price\nsquare,false,7,0.5\n"))
    assert columns.code(*turned, "u")[0].tolist() == [[7, 0.5, 0, 0, 1]]
    for text, message in (
        ("size,price,red\n1,2,true\n", "no column 'shape'"),
        ("size,price,red,shape,id\n1,2,true,round,5\n", "a column 'id', which is not one of"),
        ("size,price,red,shape\n1,2,true,oval\n", "'oval'; expected one of 'round', 'square'"),
        ("size,price,red,shape\nbig,2,true,round\n", "column 'size' holds texts"),
    ):
        with pytest.raises(ValueError, match=message):
            columns.code(*read_table(written(tmp_path / "v.csv", text)), "v.csv")


def test_names_that_are_numbers_are_known_from_the_run(tmp_path):
    """In any order, and without that of the labels; other numbers are a row."""
    years = Columns.of(
        fields_of(pandas.DataFrame([[1, 2, 0], [3, 4, 1]], columns=[2019, 2020, 2021]), "t"), True, "t", "2021"
    )
    for text, rows in (
        ("2020,2019\n5,6\n", [[6, 5]]),
        ("2021,2020,2019\n0,5,6\n", [[6, 5]]),
        ("2020,2022\n5,6\n", [[2020, 2022], [5, 6]]),
    ):
        assert read_values(written(tmp_path / "u.csv", text), years)["x"].tolist() == rows
    bits = Columns.of(fields_of(pandas.DataFrame([[1, 0], [0, 1]]), "t"), True, "t")
    assert read_values(written(tmp_path / "u.csv", "0,1\n1,0\n"), bits)["x"].tolist() == [[1, 0]]


def test_labels_are_a_column_by_name(tmp_path):
    text = "a,kind\n" + "".join(f"{i % 2},{kind}\n" for i, kind in enumerate(["oak", "elm", ""] * 10))
    data = dgm.data.load(written(tmp_path / "t.csv", text), labels="kind")
    assert data.visible == 1
    labels = torch.cat([data.train.labels, data.valid.labels, data.test.labels])
    assert sorted(labels.tolist()) == [-1] * 10 + [0] * 10 + [1] * 10
    assert data.columns.values(np.zeros((3, 1)), np.array([0, 1, -1]))["kind"] == ["elm", "oak", None]
    with pytest.raises(ValueError, match=r"no column 'tree' for the labels; its columns are 'a', 'kind'"):
        dgm.data.load(tmp_path / "t.csv", labels="tree")
    with pytest.raises(ValueError, match="digits is no table"):
        dgm.data.load("digits", labels="kind")
    endless = written(tmp_path / "u.csv", "a,kind\n" + "1,2\n2,1\n" * 9 + "1,inf\n")
    with pytest.raises(
        ValueError, match=r"'kind', whose values are labels or texts, has an infinite value, first in row 18"
    ):
        dgm.data.load(endless, labels="kind")


def test_labels_of_a_table_without_names_are_a_column_by_its_place(tmp_path):
    """The three columns are unlike, so that the labels tell which of them they are."""
    table = [(i % 2, 10 + i, i // 2 % 2) for i in range(30)]
    file = written(tmp_path / "t.csv", "".join(f"{a},{b},{c}\n" for a, b, c in table))
    for place in range(3):
        data = dgm.data.load(file, labels=f"column {place + 1}")
        columns = Columns.of_dict(json.loads(json.dumps(data.columns.as_dict())))
        rows, labels = columns.code(*read_table(file), "t.csv")
        assert columns == data.columns
        assert rows.tolist() == [[v for n, v in enumerate(row) if n != place] for row in table]
        classes = sorted({row[place] for row in table})
        assert labels.tolist() == [classes.index(row[place]) for row in table]
        values = columns.values(rows, labels)
        assert [*zip(*values.values(), strict=True)] == table  # in the table's order
        without = written(tmp_path / "u.csv", "".join(",".join(str(v) for v in row) + "\n" for row in rows))
        assert columns.code(*read_table(without), "u.csv")[0].tolist() == rows.tolist()
        together = torch.cat([data.train.x, data.valid.x, data.test.x])
        assert sorted(together.tolist()) == sorted(rows.tolist())


def test_rows_without_names_fit_a_table_with_names_by_their_places(tmp_path):
    named = read_table(written(tmp_path / "t.csv", "kind,a\n" + "oak,1\nelm,2\n" * 5))
    columns = Columns.of(*named, "t", labels="kind")
    rows, labels = columns.code(*read_table(written(tmp_path / "u.csv", "elm,7\noak,8\n")), "u")
    assert (rows.tolist(), labels.tolist()) == ([[7], [8]], [0, 1])


def test_frames_of_pandas_go_both_ways():
    frame = pandas.DataFrame(
        {
            "a": pandas.array([1, None, 3], dtype="Int64"),
            "b": [0.5, np.nan, 2.0],
            "c": pandas.array([True, None, False], dtype="boolean"),
            "d": pandas.Categorical(["x", None, "x"], categories=["y", "x"]),
        }
    )
    fields = fields_of(frame, "frame")
    columns = Columns.of(fields, True, "frame")
    assert [(column.kind, column.levels) for column in columns.columns] == [
        ("whole", ()),
        ("real", ()),
        ("boolean", ()),
        ("text", ("y", "x")),
    ]
    rows, _ = columns.code(fields, True, "frame")
    again = frame_of(columns, columns.values(rows))
    pandas.testing.assert_frame_equal(again[["a", "b", "c"]], frame[["a", "b", "c"]])
    assert again["d"].tolist() == ["x", None, "x"]
    assert [str(again[name].dtype) for name in "abc"] == ["Int64", "float64", "boolean"]


def test_a_frame_can_be_trained_on_and_says_what_its_columns_are():
    frame = pandas.DataFrame({"kind": ["x", "y"] * 15, "on": [True, False, False] * 10})
    model = dgm.RBM(3, 2)
    assert dgm.fit(model, frame, epochs=1, progress=False).history
    data = dgm.data.load(frame, labels="kind")
    assert (data.visible, str(data.train.space)) == (1, "binary (as given)")
    assert sorted(data.train.labels.unique().tolist()) == [0, 1]


@pytest.mark.parametrize("how", ["standardised", "threshold"])
def test_other_rows_are_converted_as_the_datas_were_and_restored(how):
    digits = dgm.data.load("digits", **{"preprocessing" if how == "standardised" else "binarisation": how})
    plain = dgm.data.load("digits").test.x
    torch.testing.assert_close(digits.convert(plain), digits.test.x)
    holes = plain.masked_fill(plain > 0.9, torch.nan)
    assert torch.equal(digits.convert(holes).isnan(), holes.isnan())
    if how == "standardised":
        torch.testing.assert_close(digits.restore(digits.test.x), plain, rtol=0, atol=1 / 255)
        with pytest.raises(ValueError, match="reach from 0 to 16; expected grey levels"):
            digits.convert(16 * plain)


def test_only_rows_that_were_loaded_state_an_origin():
    digits = dgm.data.load("digits", binarisation="threshold")
    assert digits.origin == {"source": "digits", "binarisation": "threshold", "seed": 0}
    assert digits.labelled(10).origin == digits.origin | {"classes": 10}
    assert digits.with_validation_in_training().origin is None


def test_standardised_tables_come_back_as_they_were_read(tmp_path):
    """Shares are no grey levels: they come back with their digits, and samples of texts in the shares of a normal law."""
    lines = [f"{37 * i % 100 / 100:.2f},{150 + i % 40},{36.6 + 0.013 * i:.3f},123456.7" for i in range(200)]
    texts = ["yes", "no", "maybe", "no"] * 50
    text = "share,height,heat,same,smokes\n" + "".join(f"{a},{b}\n" for a, b in zip(lines, texts, strict=True))
    file = written(tmp_path / "t.csv", text)
    # Columns of any range, whole numbers below 256, and numbers within [0, 1].
    for drop in ([], ["share", "heat", "same"], ["height", "heat", "same"]):
        kept = pandas.read_csv(file).drop(columns=drop)
        plain, data = dgm.data.load(kept), dgm.data.load(kept, preprocessing="standardised")
        assert str(data.test.space) == "real (standardised)"
        values = data.columns.values(data.restore(data.test.x).numpy())
        assert values == plain.columns.values(plain.test.x.numpy())
        again = data.columns.values(data.restore(data.convert(plain.valid.x)).numpy())
        assert again == plain.columns.values(plain.valid.x.numpy())
    rows = torch.randn(2000, 4, generator=torch.Generator().manual_seed(0))
    found = data.columns.values(data.restore(rows).numpy())["smokes"]
    mean, scale = (plain.train.x[:, 1:].mean(0), plain.train.x[:, 1:].std(0, correction=0))
    largest = (rows[:, 1:] * scale + mean).argmax(1)
    assert found == [["maybe", "no", "yes"][n] for n in largest]
    assert data.restore(torch.full((1, 4), torch.nan)).isnan().all()
    near = data.columns.values(data.restore(torch.logspace(-9, 0, 50)[:, None].expand(-1, 4)).numpy())["share"]
    assert max(len(str(value)) for value in near) <= len("0.123456789")


def test_columns_are_standardised_before_digits_are_lost(tmp_path):
    """Seconds since 1970 in an hour: single precision, which has one number in 128 there, has hardly any of them."""
    seconds = 1_700_000_000 + 37 * np.arange(100) % 3600
    frame = pandas.DataFrame({"time": seconds, "height": 150.5 + np.arange(100) % 40})
    frame.to_csv(tmp_path / "t.csv", index=False)
    np.save(tmp_path / "t.npy", frame.to_numpy())
    expected = torch.from_numpy(((frame - frame.mean()) / frame.std(ddof=0)).to_numpy())
    for source in (frame, tmp_path / "t.csv", tmp_path / "t.npy"):
        data = dgm.data.load(source, preprocessing="standardised")
        assert data.train.x.dtype == torch.float32
        rows = torch.cat([data.train.x, data.valid.x, data.test.x])
        order = np.argsort(data.restore(rows)[:, 0].numpy())
        assert data.restore(rows)[order, 0].round().tolist() == sorted(seconds)
        found = rows[order].double()
        slope = (found[-1] - found[0]) / (expected[seconds.argmax()] - expected[seconds.argmin()])
        centred = expected[np.argsort(seconds)] - expected[seconds.argmin()]
        torch.testing.assert_close(found[:, 0], found[0, 0] + slope[0] * centred[:, 0], rtol=0, atol=1e-6)
    read = dgm.data.read_rows(str(tmp_path / "t.csv"))
    assert read.x.dtype == torch.float64
    assert data.convert(read.x)[:, 0].unique().numel() == len({*seconds})
    assert dgm.data.load(tmp_path / "t.csv").train.x.dtype == torch.float32


def test_a_constant_column_of_a_table_is_centred_only():
    """Rounding of its mean is no deviation."""
    frame = pandas.DataFrame({"a": np.arange(100) / 7, "b": np.full(100, 123456.7)})
    data = dgm.data.load(frame, preprocessing="standardised")
    assert data.train.x[:, 1].abs().max() < 1e-3


def test_whole_numbers_whose_last_digits_are_lost_are_told_of(tmp_path):
    """However rows come, to fit or to a likelihood; numbers that single precision holds, or that are not whole, pass."""
    seconds = np.array([[1_700_000_000 + n, n] for n in range(1, 21)])
    frame, model = pandas.DataFrame(seconds, columns=["time", "n"]), dgm.AffineGenerator(2)
    np.save(tmp_path / "rows.npy", seconds)
    quick = {"epochs": 1, "progress": False}
    said = r"column (0|'time') holds 17000000\d\d in row \d+, which becomes 1700000000: single precision"
    for asked in (
        lambda: dgm.fit(dgm.AffineGenerator(2), seconds, **quick),
        lambda: dgm.fit(dgm.AffineGenerator(2), torch.tensor(seconds), **quick),
        lambda: dgm.log_likelihood(model, seconds.astype(np.float64)),
        lambda: dgm.data.load(tmp_path / "rows.npy"),
        lambda: dgm.fit(dgm.AffineGenerator(2), frame, **quick),
    ):
        with pytest.warns(UserWarning, match=said):
            asked()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        standardised = dgm.data.load(frame, preprocessing="standardised")
        as_rows(np.array([[2**24, 2**30, -(2**40)], [0, 1, 2]]))
        model.evidence(torch.tensor([[0.1, 1e30], [1e7 + 0.5, 1e-9]], dtype=torch.float64))
    assert len(standardised.train.x[:, 0].unique()) == len(standardised.train)
