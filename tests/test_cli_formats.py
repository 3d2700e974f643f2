"""Rows leave as they came: files of the kind that was read, with its columns, and runs that find their data again."""

import ast
import csv
import io
import json
import re

import numpy as np
import pandas
import pytest
import torch
from PIL import Image

import pyro_dgm as dgm
from pyro_dgm.cli.main import main
from pyro_dgm.cli.show import print_details
from pyro_dgm.models.shared.chain_details import KeptSteps, Step

QUIET = {"epochs": 1, "progress": False}


def ran(*arguments):
    assert main([*map(str, arguments), "--quiet"]) == 0


def table(path):
    return list(csv.DictReader(io.StringIO(path.read_text())))


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """A file of two kinds of people, who differ in all columns, and a run on it with their kind as label."""
    folder = tmp_path_factory.mktemp("people")
    rng = np.random.default_rng(0)
    tall = rng.random(80) < 0.5
    lines = ["height,children,sporty,town,kind"]
    for one in tall:
        height = (180 if one else 160) + 5 * rng.normal()
        town = "Rome" if one else "Oslo"
        lines.append(f"{height:.1f},{2 * one + rng.integers(3)},{str(one).lower()},{town},{'a' if one else 'b'}")
    (folder / "people.csv").write_text("\n".join(lines) + "\n")
    ran(
        "fit", "conditionalvae", "--data", folder / "people.csv", "--labels", "kind", "--classes", 2, "--preprocessing",
        "standardised", "--epochs", 1, "--set", "latent=2", "--set", "hidden=(8,)", "--set", "output=gaussian", "--out",
        folder / "run",
    )  # fmt: skip
    return folder


def test_a_table_of_mixed_columns_from_fit_to_condition(people, tmp_path, capsys):
    run, out = people / "run", tmp_path
    assert json.loads((run / "config.json").read_text())["data"]["columns"]["label"]["levels"] == ["a", "b"]
    ran("evaluate", run)
    ran("sample", run, "-n", 30, "--out", out)
    rows = table(out / "samples.csv")
    assert list(rows[0]) == ["height", "children", "sporty", "town", "kind"]
    assert {row["town"] for row in rows} <= {"Rome", "Oslo"}
    assert {row["sporty"] for row in rows} <= {"True", "False"}
    assert {row["kind"] for row in rows} <= {"a", "b"}
    assert all(row["children"].lstrip("-").isdecimal() for row in rows)
    assert 140 < np.mean([float(row["height"]) for row in rows]) < 200  # in the units of the file
    (tmp_path / "holes.csv").write_text("kind,town,height,sporty,children\na,Rome,181.5,,3\nb,,159.0,false,\n")
    ran("impute", run, "--rows", tmp_path / "holes.csv", "--draws", 5, "--out", out)
    filled = table(out / "imputed.csv")
    assert [float(row["height"]) for row in filled] == pytest.approx([181.5, 159.0], abs=1e-3)
    assert [filled[0][name] for name in ("town", "children", "kind")] == ["Rome", "3", "a"]
    assert filled[1]["town"] in ("Rome", "Oslo")
    ran("condition", run, "--rows", tmp_path / "holes.csv", "--draws", 3, "--warmup", 2, "--out", out)
    drawn = table(out / "conditioned.csv")
    assert [(row["row"], row["draw"]) for row in drawn] == [(str(r), str(d)) for r in range(2) for d in range(3)]
    assert {row["kind"] for row in drawn[3:]} == {"b"}
    assert np.load(out / "conditioned.npz")["draws"].shape == (3, 2, 7)
    ran("rank", run, "--rows", people / "people.csv", "--out", out)
    capsys.readouterr()


def test_labels_that_are_no_part_of_the_rows_come_back(people, tmp_path, capsys):
    """As they were read, where they are known; elsewhere their column is empty, and the command says so."""
    data, run = people / "people.csv", tmp_path / "run"
    options = ["--labels", "kind", "--preprocessing", "standardised", "--epochs", 1]
    ran("fit", "affinegenerator", "--data", data, *options, "--out", run)
    kinds = {(row["height"], row["children"]): row["kind"] for row in table(data)}
    ran("impute", run, "--draws", 5, "-n", 8, "--known", "height", "--known", "children")
    filled = table(run / "imputed.csv")
    assert list(filled[0]) == ["height", "children", "sporty", "town", "kind"]
    assert [row["kind"] for row in filled] == [kinds[f"{float(row['height']):.1f}", row["children"]] for row in filled]
    holes = tmp_path / "holes.csv"
    holes.write_text("height,children,sporty,town,kind\n181.5,,true,Rome,b\n159.0,1,false,,\n")
    ran("condition", run, "--rows", holes, "--draws", 2, "--warmup", 2)
    assert [row["kind"] for row in table(run / "conditioned.csv")] == ["b", "b", "", ""]
    ran("rank", run, "--rows", data)
    assert {row["kind"] for row in table(run / "ranking.csv")} == {"a", "b"}
    capsys.readouterr()
    ran("sample", run, "-n", 3)
    assert (
        "the column 'kind' of labels is empty, since the model has no labels; one that was trained with --classes 2"
        in (capsys.readouterr().err)
    )
    assert [row["kind"] for row in table(run / "samples.csv")] == [""] * 3
    ran("evaluate", run, "--data", run / "samples.csv")


def test_columns_are_known_by_their_names(people, tmp_path, capsys):
    run = people / "run"  # whose rows have their label
    columns = ["height", "children", "sporty", "Oslo", "Rome", "a", "b"]
    for names, known in (({"height", "town", "kind"}, {0, 3, 4, 5, 6}), ({"town"}, {3, 4}), ({"0.5"}, {0, 1, 2, 5, 6})):
        flags = [part for name in names for part in ("--known", name)]
        ran("impute", run, "--draws", 5, "-n", 4, *flags, "--out", tmp_path)
        found = np.load(tmp_path / "imputed.npz")["known"]
        assert {int(n) for n in found.nonzero()[-1]} == known, columns
    for known, error in (
        (["hight"], "'hight', which is no column of the run's rows; expected names of columns ('height' …; repeat"),
        (
            ["1.5"],
            "'1.5', which is no column of the run's rows; expected names of columns ('height', 'children', 'sporty', ",
        ),
        (["0.5", "height"], "'0.5', which is no column"),
    ):
        flags = [part for name in known for part in ("--known", name)]
        assert main(["condition", str(run), *flags]) == 2
        assert error in capsys.readouterr().err


def test_a_wrong_table_is_refused_in_words(people, tmp_path, capsys):
    (tmp_path / "wrong.csv").write_text("height,children,sporty,town\n170,1,true,Paris\n")
    assert main(["impute", str(people / "run"), "--rows", str(tmp_path / "wrong.csv")]) == 2
    assert "'Paris'; expected one of 'Oslo', 'Rome'" in capsys.readouterr().err


@pytest.fixture(scope="module")
def bits():
    return (torch.rand(40, 6, generator=torch.Generator().manual_seed(0)) < 0.4).float()


def test_pictures_and_arrays_leave_as_they_came(bits, tmp_path):
    (tmp_path / "pictures").mkdir()
    for number, row in enumerate(bits):
        Image.fromarray((255 * row.view(2, 3)).numpy().astype(np.uint8)).save(
            tmp_path / "pictures" / f"{number:02}.png"
        )
    np.save(tmp_path / "rows.npy", bits.view(-1, 2, 3).numpy())
    for name in ("pictures", "rows.npy"):
        run = tmp_path / f"run-{name}"
        ran(
            "fit",
            "rbm",
            "--data",
            tmp_path / name,
            "--set",
            "hidden=3",
            "--epochs",
            1,
            "--objective",
            "kind=cd",
            "--out",
            run,
        )
        ran("sample", run, "-n", 4)
        ran("impute", run, "-n", 3, "--draws", 3)
        ran("condition", run, "-n", 2, "--draws", 2, "--warmup", 2)
    run = tmp_path / "run-pictures"
    samples = np.load(run / "samples.npz")["x"].reshape(-1, 2, 3)
    for number in range(4):
        assert (np.asarray(Image.open(run / "samples" / f"{number:04}.png")) == 255 * samples[number]).all()
    assert len([*(run / "imputed").iterdir()]) == 3
    assert (run / "conditioned" / "row0001-draw0001.png").is_file()
    assert np.load(tmp_path / "run-rows.npy" / "samples.npy").shape == (4, 2, 3)
    ran("sample", run, "-n", 2, "--format", "csv")  # a second call replaces the first's, and any format can be had
    assert len((run / "samples.csv").read_text().splitlines()) == 2
    ran("sample", run, "-n", 2)
    assert len([*(run / "samples").iterdir()]) == 2


def test_nothing_but_pictures_of_a_command_is_replaced(bits, tmp_path, capsys):
    """Folders and files that a user has where results would go stay, and the command says so before it works."""
    mine = tmp_path / "samples"
    mine.mkdir()
    for number, row in enumerate(bits):  # even under the names that the command uses
        Image.fromarray((255 * row.view(2, 3)).numpy().astype(np.uint8)).save(mine / f"{number:04}.png")
    run, before = tmp_path / "run", {path.name: path.read_bytes() for path in mine.iterdir()}
    machine = ["--set", "hidden=3", "--epochs", 1, "--objective", "kind=cd"]
    ran("fit", "rbm", "--data", mine, *machine, "--out", run)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "samples").symlink_to(mine)
    for other in (tmp_path, tmp_path / "linked"):
        assert main(["sample", str(run), "-n", "2", "--out", str(other)]) == 2
        assert not (other / "samples.npz").exists()
        assert "holds the run's data" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in mine.iterdir()} == before
    for command, stem, count in (("sample", "samples", 2), ("impute", "imputed", 2), ("condition", "conditioned", 4)):
        options = [command, run, "-n", 2, *([] if command == "sample" else ["--draws", 2])]
        ran(*options)
        ran(*options)  # its own pictures are replaced
        assert len([*(run / stem).iterdir()]) == count
        (run / stem / "notes.txt").write_text("mine")
        assert main(list(map(str, options))) == 2
        assert f"{run / stem} is in the way" in capsys.readouterr().err
        (run / stem / "notes.txt").unlink()
        Image.fromarray(np.zeros((2, 3), dtype=np.uint8)).save(run / stem / "0000.png")
        assert main(list(map(str, options))) == 2
        assert len([*(run / stem).iterdir()]) >= count
        capsys.readouterr()
    np.save(tmp_path / "samples.npy", bits.numpy())
    ran("fit", "rbm", "--data", tmp_path / "samples.npy", *machine, "--out", run / "npy")
    assert main(["sample", str(run / "npy"), "--out", str(tmp_path)]) == 2
    assert (np.load(tmp_path / "samples.npy") == bits.numpy()).all()
    assert not [path for path in tmp_path.rglob("*.draft")]


def test_names_of_data_sets_and_of_columns_are_not_taken_for_others(tmp_path, monkeypatch):
    """A folder called as a data set is no data of the run; a table's own columns stay beside the numbers of rows and draws."""
    monkeypatch.chdir(tmp_path)
    ran("fit", "rbm", "--data", "digits", "--set", "hidden=3", "--epochs", 1, "--objective", "kind=cd", "--out", "run")
    (tmp_path / "digits").mkdir()
    ran("sample", "run", "-n", 2)
    assert not (tmp_path / "run" / "samples").exists()
    lines = ["row,x,draw", *(f"{n % 5},{n % 7},{n % 3}" for n in range(60))]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    ran("fit", "affinegenerator", "--data", "rows.csv", "--epochs", 1, "--out", "table")
    (tmp_path / "holes.csv").write_text("row,x,draw\n3,,2\n,4,1\n")
    ran("condition", "table", "--rows", "holes.csv", "--draws", 2)
    drawn = table(tmp_path / "table" / "conditioned.csv")
    assert [(row["row_"], row["draw_"]) for row in drawn] == [("0", "0"), ("0", "1"), ("1", "0"), ("1", "1")]
    assert {(row["row"], row["draw"]) for row in drawn[:2]} == {("3", "2")}


def test_a_run_from_python_finds_its_data_again(bits, tmp_path, capsys):
    """Rows in memory are kept in its folder, those that were loaded are named; the figures are those of Python."""
    frame = pandas.DataFrame(bits.numpy().astype(bool), columns=list("abcdef"))
    space = dgm.data.Space("binary", "my survey")
    parts = [dgm.data.Split(bits[i:j], space) for i, j in ((0, 30), (30, 35), (35, 40))]
    own = dgm.data.Dataset("own", *parts, (2, 3))
    digits = dgm.data.load("digits", binarisation="threshold")
    for name, data, rows in (("frame", frame, bits[-4:]), ("own", own, bits[35:]), ("digits", digits, digits.test)):
        run = dgm.fit(dgm.RBM(rows.x.shape[1] if name == "digits" else 6, 3), data, out=tmp_path / name, **QUIET)
        capsys.readouterr()
        ran("evaluate", run.out, "--json")
        figure = json.loads(capsys.readouterr().out)
        assert figure["value"] == pytest.approx(dgm.log_likelihood(run.model.eval(), rows).value, abs=1e-5)
        assert (run.out / "rows.npz").exists() == (name != "digits")
    assert "my survey" in json.loads((tmp_path / "own" / "config.json").read_text())["data"]["space"]
    ran("evaluate", tmp_path / "own", "--json")
    assert json.loads(capsys.readouterr().out)["space"] == "binary (my survey)"
    ran("sample", tmp_path / "frame", "-n", 2)
    assert set(table(tmp_path / "frame" / "samples.csv")[0].values()) <= {"True", "False"}
    ran("fit", "--config", tmp_path / "frame", "--out", tmp_path / "again")
    again = json.loads((tmp_path / "again" / "config.json").read_text())["data"]
    assert again["digest"] == json.loads((tmp_path / "frame" / "config.json").read_text())["data"]["digest"]


def test_units_and_labels_of_frames_are_those_of_files(people, tmp_path, capsys):
    """A run from Python on a changed frame with labels does in the shell what one on its file does."""
    file = people / "people.csv"
    frame = pandas.read_csv(file)
    for name, source in (("file", file), ("frame", frame)):
        data = dgm.data.load(source, preprocessing="standardised", labels="kind").labelled(2)
        torch.manual_seed(0)
        model = dgm.ConditionalVAE(data.visible - 2, classes=2, latent=2, hidden=(8,), output="gaussian")
        dgm.fit(model, data, out=tmp_path / name, **QUIET)
    assert (tmp_path / "frame" / "rows.npz").is_file()
    (tmp_path / "holes.csv").write_text("kind,town,height,sporty,children\na,Rome,181.5,,3\nb,,159.0,false,\n")
    found = {}
    for name in ("file", "frame"):
        run = tmp_path / name
        capsys.readouterr()
        for rows in ([], ["--data", file]):
            ran("evaluate", run, "--json", *rows)
        ran("sample", run, "-n", 5)
        ran("sample", run, "-n", 5, "--label", 1, "--out", run / "b")
        ran("impute", run, "--rows", tmp_path / "holes.csv", "--draws", 5)
        written = [(run / path).read_text() for path in ("samples.csv", "b/samples.csv", "imputed.csv")]
        found[name] = [capsys.readouterr().out.replace(str(run), "RUN"), *written]
    assert found["frame"] == found["file"]
    assert {row["kind"] for row in table(tmp_path / "frame" / "b" / "samples.csv")} == {"b"}


def test_rows_changed_in_an_unknown_way_are_not_mixed_with_others(tmp_path, capsys):
    """Where the kept rows' units are not known, rows of files are refused and samples are not called by names of columns."""
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame(
        {"income": rng.normal(50000, 9000, 60).round().astype(int), "height": rng.normal(170, 9, 60)}
    )
    frame.to_csv(tmp_path / "other.csv", index=False)
    data = dgm.data.load(frame, preprocessing="standardised").with_validation_in_training()
    run = dgm.fit(dgm.AffineGenerator(2), data, out=tmp_path / "run", **QUIET)
    ran("evaluate", run.out, "--json")
    assert json.loads(capsys.readouterr().out)["space"] == "real (standardised)"
    for command, flag in (("evaluate", "--data"), ("impute", "--rows"), ("rank", "--rows")):
        assert main([command, str(run.out), flag, str(tmp_path / "other.csv")]) == 2
        assert "it is not known how to change these alike" in capsys.readouterr().err
    ran("sample", run.out, "-n", 3)
    assert "in the model's units" in capsys.readouterr().err
    assert not (run.out / "samples.csv").exists()


def test_runs_on_rows_from_memory_go_on_in_the_shell(bits, tmp_path):
    """They are resumed, and repeated into runs that know as much of their rows: space, columns, preprocessing and labels."""
    frame = pandas.DataFrame(bits.numpy().astype(bool), columns=list("abcdef")).assign(kind=["x", "y"] * 20)
    labelled = dgm.data.load(frame, labels="kind").labelled(2)
    real = pandas.DataFrame(np.random.default_rng(0).normal(7, 3, (60, 2)), columns=["a", "b"])
    scaled = dgm.data.load(real, preprocessing="standardised")
    runs = {
        "tensor": (dgm.RBM(6, 3), bits), "labelled": (dgm.ClassRBM(6, 2, 3), labelled),
        "scaled": (dgm.AffineGenerator(2), scaled), "derived": (dgm.AffineGenerator(2), scaled.with_validation_in_training()),
    }  # fmt: skip
    for name, (model, data) in runs.items():
        run = dgm.fit(model, data, out=tmp_path / name, **QUIET).out
        ran("fit", "--config", run, "--epochs", 2, "--out", run, "--resume")
        assert json.loads((run / "config.json").read_text())["training"]["epochs"] == 2
        ran("fit", "--config", run, "--out", tmp_path / f"{name}-again")
        first, again = (
            json.loads((path / "config.json").read_text())["data"] for path in (run, tmp_path / f"{name}-again")
        )
        assert again == first
        ran("sample", tmp_path / f"{name}-again", "-n", 2)


def test_parquet_has_the_types_of_the_table_and_is_read_again(people, tmp_path):
    ran("sample", people / "run", "-n", 20, "--format", "parquet", "--out", tmp_path)
    frame = pandas.read_parquet(tmp_path / "samples.parquet")
    assert frame.dtypes.astype(str).to_dict() | {"town": "", "kind": ""} == {
        "height": "float64", "children": "Int64", "sporty": "boolean", "town": "", "kind": "",
    }  # fmt: skip
    assert set(frame["kind"]) <= {"a", "b"}
    ran("evaluate", people / "run", "--data", tmp_path / "samples.parquet")


def test_the_strangest_rows_of_a_table_are_listed_and_written(people, tmp_path, capsys):
    capsys.readouterr()
    ran("rank", people / "run", "--rows", people / "people.csv", "--first", 3, "--out", tmp_path)
    said, ranked, rows = capsys.readouterr().out, table(tmp_path / "ranking.csv"), table(people / "people.csv")
    assert "the 3 strangest (rows counted from 0, without a header): row " in said
    assert "in nats" in said
    assert said.count("row ") == 3
    assert [row["rank"] for row in ranked] == [str(n) for n in range(1, 81)]
    scores = [float(row["score"]) for row in ranked]
    assert scores == sorted(scores, reverse=True)
    for row in ranked:
        own = rows[int(row["row"])]
        assert (float(row["height"]), row["town"], row["kind"]) == (float(own["height"]), own["town"], own["kind"])
    assert (
        main(
            ["rank", str(people / "run"), "--rows", str(people / "people.csv"), "--first", "99", "--out", str(tmp_path)]
        )
        == 2
    )
    assert "--first got 99, but there are 80 rows" in capsys.readouterr().err


def test_a_table_of_mixed_columns_is_told_in_words(people, tmp_path, capsys):
    command = [
        "fit",
        "vae",
        "--data",
        str(people / "people.csv"),
        "--epochs",
        "1",
        "--quiet",
        "--out",
        str(tmp_path / "run"),
    ]
    assert main(command) == 2
    told = capsys.readouterr().err
    assert "in column 'height'; expected 0 or 1" in told
    assert "choose output='gaussian' (--set output=gaussian)" in told
    assert main([*command, "--set", "output=gaussian", "latent=2"]) == 2
    assert "so repeat it: --set a=1 --set b=2" in capsys.readouterr().err
    ran(
        *command[:-3],
        "--out",
        tmp_path / "run",
        "--set",
        "output=gaussian",
        "--set",
        "latent=2",
        "--set",
        "hidden=(8,)",
    )
    printed = capsys.readouterr()
    data = dgm.data.load(str(people / "people.csv"))
    assert f"rows: {len(data.train)} training, {len(data.valid)} validation, {len(data.test)} test" in printed.out
    assert "nats a row" in printed.out
    assert "seconds for this epoch" in printed.out
    assert "as real ones ('children', 'sporty', 'town', 'kind')" in printed.err
    ran("evaluate", tmp_path / "run")
    figure = dgm.log_likelihood(dgm.load(tmp_path / "run"), data.test)
    told = f"the mean of {len(data.test)} rows; standard error from the choice of rows: "
    error = capsys.readouterr().out.split(told)[1].split()[0]
    assert float(error) == pytest.approx(figure.stderr_data, rel=0.1)


@pytest.mark.parametrize(
    ("outputs", "told"),
    [
        ("['gaussian','binary','binary']", None),
        ("gaussian", r"as real ones \('smokes'\); a mixed output of NeuralAutoregressive gives each column"),
        (
            "['gaussian','binary','gaussian']",
            r"as real ones \('smokes'\); output= can name 'binary' for each zero or one",
        ),
    ],
)
def test_advice_on_a_mixed_table_leads_to_a_training_without_it(outputs, told, tmp_path, recwarn):
    """Whole numbers of many values are well taken for real ones; the guide's own table trains without a warning."""
    lines = [f"{150 + i % 40},{['yes', 'no', 'no'][i % 3]},{'ab'[i % 2]}" for i in range(60)]
    (tmp_path / "people.csv").write_text("height,smokes,group\n" + "\n".join(lines))
    people = dgm.data.load(str(tmp_path / "people.csv"), labels="group")
    output = outputs if outputs == "gaussian" else ast.literal_eval(outputs)
    dgm.fit(dgm.NeuralAutoregressive(3, group=8, output=output), people, epochs=1, progress=False)
    said = [str(warning.message) for warning in recwarn]
    assert len(said) == (told is not None)
    assert told is None or re.search(told, said[0])


def test_a_mixed_table_with_missing_values_is_led_to_a_model_that_takes_them(people, tmp_path, recwarn):
    frame = pandas.read_csv(people / "people.csv", usecols=["height", "sporty"])
    frame.loc[::5, "height"] = None
    dgm.fit(dgm.VAE(2, latent=1, hidden=(4,), output="gaussian"), frame, **QUIET)
    (said,) = [str(warning.message) for warning in recwarn]
    assert "a mixed output of OrderlessNADE gives" in said
    dgm.fit(dgm.OrderlessNADE(2, hidden=(4,), output=["gaussian", "binary"]), frame, **QUIET)
    assert len(recwarn) == 1


def test_chains_that_are_stuck_name_their_row():
    moved = torch.tensor([1.0, 0.0, 1.0])
    kept = KeptSteps()
    assert len([*kept.through((Step(torch.randn(3, 2), accepted=moved) for _ in range(20)), 0, 20, 1)]) == 20
    details = kept.details(torch.zeros(3, 2, dtype=torch.bool))
    with pytest.warns(UserWarning, match=r"chain of row 1 \(counted from 0\) accepted 0 of its .*longer --warmup"):
        print_details(details)


def test_a_mixed_output_is_not_warned_of_and_its_export_has_the_columns(people, tmp_path, capsys):
    outputs = "output=['gaussian', 'categorical:5', 'binary', 'binary', 'binary']"
    ran(
        "fit", "neuralautoregressive", "--data", people / "people.csv", "--labels", "kind", "--set", outputs, "--set", "group=2",
        "--epochs", 1, "--out", tmp_path / "run",
    )  # fmt: skip
    assert "as real ones" not in capsys.readouterr().err
    if main(["export", str(tmp_path / "run"), "--rows-at-once", "2", "--quiet"]):
        assert "torch cannot write it as a program" in capsys.readouterr().err
        pytest.skip("this version of torch writes no program that reads a number that was drawn")
    folder = tmp_path / "run" / "export"
    told = f"written: {', '.join(sorted(path.name for path in folder.iterdir()))}\n"
    assert told in capsys.readouterr().out
    columns = json.loads((folder / "columns.json").read_text())["columns"]
    assert [(column["name"], column["kind"]) for column in columns] == [
        ("height", "real"), ("children", "whole"), ("sporty", "boolean"), ("town", "text"),
    ]  # fmt: skip
    said = ast.get_docstring(ast.parse((folder / "model.py").read_text()))
    assert said is not None
    assert "Rows have 5 columns of numbers, in the order of columns.json" in said
    ran("export", tmp_path / "run", "--rows-at-once", 2)  # which replaces it
