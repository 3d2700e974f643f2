"""Files that are damaged, or that lie, at every place where one is read: an error of one line, no hang and no foreign code.

Damage is drawn from a fixed seed: bits that are flipped, and files that end early. Lies are headers that promise more than the
file has, kinds of files that never end, and configurations with values of other types and sizes.
"""

import contextlib
import gzip
import io
import json
import os
import random
import shutil
import signal
import struct
import zipfile

import numpy as np
import pytest
import torch

import pyro_dgm as dgm
from pyro_dgm.cli.main import main
from pyro_dgm.data.idx import read_idx
from pyro_dgm.data.row_files import incomplete_rows, read_rows
from pyro_dgm.train.checkpoint import load_state, read_config

SECONDS = 10
"""No file may take longer to be refused."""


@contextlib.contextmanager
def no_hang():
    def late(*_):
        raise AssertionError("hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def answers(read, *arguments):
    """Whether the reading of a file ends in one of the ways in which it may: None where it is read, else the refusal."""
    with no_hang():
        message = None
        try:
            read(*arguments)
        except (ValueError, OSError) as error:
            message = str(error)
    assert message is None or ("\n" not in message and len(message) < 1500)
    return message


def refused(read, *arguments):
    message = answers(read, *arguments)
    assert message is not None, "it was read"
    return message


def damaged(content, draw):
    """The content with some bits flipped, or without its end."""
    if draw.random() < 0.4:
        return content[: draw.randrange(len(content))]
    found = bytearray(content)
    for _ in range(draw.choice([1, 3, 9])):
        found[draw.randrange(len(found))] ^= 1 << draw.randrange(8)
    return bytes(found)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    model, x = dgm.RBM.example()
    source = {"source": "digits", "binarisation": "threshold", "seed": 0}
    dgm.fit(model, x, objective=model.objective("cd"), epochs=1, out=folder / "run", progress=False, source=source)
    return folder / "run"


@pytest.fixture
def copy(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run"


BITS = np.random.default_rng(0).integers(0, 2, (20, 6)).astype(np.uint8)


def npz(path, **arrays):
    np.savez_compressed(path, **(arrays or {"train": BITS, "test": BITS[:5]}))
    return path


def idx(shape=(4, 3, 2), kind=8, values=24):
    return struct.pack(f">4B{len(shape)}I", 0, 0, kind, len(shape), *shape) + bytes(values)


def npy(array=BITS, header=None, **changes):
    """A file in NumPy's format, the header of which may say something else."""
    stream = io.BytesIO()
    said = np.lib.format.header_data_from_array_1_0(array) | changes
    np.lib.format.write_array_header_1_0(stream, said if header is None else header)
    return stream.getvalue() + array.tobytes()


KINDS = {
    "rows.npz": (lambda path: npz(path).read_bytes(), dgm.data.load),
    "rows.npy": (lambda path: npy(BITS.astype(np.float32)), lambda path: incomplete_rows(path, 6)),
    "rows.csv": (lambda path: b"a,b\n" + b"1,0\n0,1\n" * 9, lambda path: read_rows(str(path))),
    "pictures": (lambda path: idx(), read_idx),
    "pictures.gz": (lambda path: gzip.compress(idx(), mtime=0), read_idx),
}


@pytest.mark.parametrize("name", KINDS)
def test_damaged_rows(name, tmp_path):
    draw, path = random.Random(name), tmp_path / name
    make, read = KINDS[name]
    whole = make(path)
    path.write_bytes(whole)
    assert answers(read, path) is None
    for _ in range(12):
        path.write_bytes(damaged(whole, draw))
        answers(read, path)
    path.write_bytes(b"")
    refused(read, path)


@pytest.mark.parametrize("name", ["weights.safetensors", "training.pt", "config.json"])
def test_damaged_runs(name, copy):
    draw, path = random.Random(name), copy / name
    read = {"training.pt": load_state}.get(name, dgm.load)
    whole = path.read_bytes()
    for _ in range(12):
        path.write_bytes(damaged(whole, draw))
        answers(read, copy)
    path.write_bytes(whole[: len(whole) // 2])
    refused(read, copy)


@pytest.mark.parametrize("name", [*KINDS, "weights.safetensors", "training.pt", "config.json"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "endless"])
def test_what_is_no_file(name, kind, tmp_path, copy):
    """A pipe that nobody writes to would be waited for, and a device read for ever."""
    in_run = name not in KINDS
    path = (copy if in_run else tmp_path) / name
    path.unlink(missing_ok=True)
    {"pipe": os.mkfifo, "folder": os.mkdir, "endless": lambda path: os.symlink("/dev/zero", path)}[kind](path)
    if in_run:
        refused(load_state if name == "training.pt" else dgm.load, copy)
    else:
        refused(KINDS[name][1], path)


@pytest.mark.parametrize(
    "content",
    [
        npy(shape=(10**12, 6)),
        npy(shape=(2**62, 2**62)),
        npy(shape=(-1, 6)),
        npy(shape=(20, 6, 0)),
        npy(shape=(20, 5)),
        npy(descr="<f8"),
        npy(descr="|O"),
        npy(descr=[("a", "<f4"), ("b", "|O")]),
        npy(header={"descr": "|u1", "fortran_order": False, "shape": "many"}),
        b"\x93NUMPY\x01\x00\x0b\x00((((((((((\n",
        b"\x93NUMPY\x09\x00" + bytes(100),
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff{'descr'",
        b"\x93NUMPY\x01\x00\x10\x00{'descr': '|O2\x00",
    ],
)
def test_arrays_with_lying_headers(content, tmp_path):
    """Alone, and as a member of an npz file, where numpy.load would ask for all the memory that the header promises."""
    (tmp_path / "rows.npy").write_bytes(content)
    refused(incomplete_rows, tmp_path / "rows.npy", 6)
    with zipfile.ZipFile(tmp_path / "rows.npz", "w") as archive:
        archive.writestr("train.npy", content)
    assert "rows.npz" in refused(dgm.data.load, tmp_path / "rows.npz")


def test_archives_that_lie(tmp_path):
    path = tmp_path / "rows.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("train.npy", npy())
    assert "packed otherwise" in refused(dgm.data.load, path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train.npy", npy())
        archive.writestr("notes.txt", "words")
    refused(dgm.data.load, path)
    whole = bytearray(npz(path).read_bytes())
    central = whole.index(b"PK\x01\x02")
    encrypted, huge = bytearray(whole), bytearray(whole)
    encrypted[central + 8] |= 1
    huge[central + 24 : central + 28] = struct.pack("<I", 2**32 - 2)
    for content, told in ((encrypted, "encrypted"), (huge, "is said to unpack from")):
        path.write_bytes(content)
        assert told in refused(dgm.data.load, path)


@pytest.mark.parametrize(
    "content",
    [
        idx(shape=(2**32 - 1,) * 3),
        gzip.compress(idx(shape=(2**32 - 1,) * 3)),
        gzip.compress(idx(shape=(50_000, 28, 28))),
        gzip.compress(idx() + bytes(10**7)),
        idx(shape=(1,) * 200, values=1),
        idx(shape=(4, 3, 2), kind=14),
        b"\0\0\x08\xff",
    ],
    ids=["huge", "packed and huge", "packed and cut", "packed and long", "many sides", "unknown type", "short"],
)
def test_pictures_with_lying_headers(content, tmp_path):
    (tmp_path / "pictures").write_bytes(content)
    refused(read_idx, tmp_path / "pictures")


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"weight": torch.zeros(5, 4, dtype=torch.int64)},
        {"weight": torch.zeros(5, 4, dtype=torch.bool)},
        {"weight": torch.zeros(5, 4, dtype=torch.complex64)},
        {"weight": torch.zeros(5, 4), "visible_bias": torch.zeros(5, dtype=torch.complex64)},
        {"weight": torch.zeros(4, 5)},
        {"another": torch.zeros(3)},
    ],
)
def test_weights_of_another_kind(tensors, copy):
    from safetensors.torch import save_file

    save_file(tensors, copy / "weights.safetensors")
    refused(dgm.load, copy)


@pytest.mark.parametrize("length", [2**63, 10**9, 3])
def test_weights_with_lying_headers(length, copy):
    whole = (copy / "weights.safetensors").read_bytes()
    (copy / "weights.safetensors").write_bytes(struct.pack("<Q", length) + whole[8:])
    refused(dgm.load, copy)
    header = json.dumps({"weight": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 2**62]}}).encode()
    (copy / "weights.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    refused(dgm.load, copy)


@pytest.mark.parametrize("part", ["epoch", "model", "optimiser", "history", "stale", "objective", "random"])
@pytest.mark.parametrize("value", [None, "text", -1, [], {"a": [torch.zeros(2)]}, True])
def test_states_of_other_types(part, value, copy):
    """A state whose parts are not what they should be does not go on; what cannot be told from a good one may."""
    state = torch.load(copy / "training.pt", weights_only=True)
    torch.save(state | {part: value}, copy / "training.pt")
    model, x = dgm.RBM.example()
    source = {"source": "digits", "binarisation": "threshold", "seed": 0}

    def resume():
        dgm.fit(
            model, x, objective=model.objective("cd"), epochs=2, out=copy, resume=True, progress=False, source=source
        )

    answers(resume)


VALUES = [
    None,
    True,
    -1,
    10**11,
    10**400,
    1.5,
    "x",
    "",
    [],
    {},
    [[[]]],
    {"a": 1},
    "../x",
    [10**9, 10**9],
    [None],
    "DEL",
    "DEEP",
]


def places(tree, before=()):
    """The paths of all values of nested dictionaries and lists."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield (*before, key)
        if isinstance(value, dict | list):
            yield from places(value, (*before, key))


def test_configurations_of_other_types_and_sizes(copy):
    draw, path = random.Random("configurations"), copy / "config.json"
    whole = json.loads(path.read_text())
    spots = list(places(whole))
    for number in range(60):
        config = json.loads(json.dumps(whole))
        *before, last = spots[number % len(spots)]
        parent, value = config, draw.choice(VALUES)
        for key in before:
            parent = parent[key]
        if value == "DEL":
            del parent[last]
        else:
            parent[last] = value
        path.write_text(json.dumps(config).replace('"DEEP"', "[" * 5000 + "]" * 5000))
        answers(dgm.load, copy)
        answers(read_config, copy, True)


def test_a_configuration_never_runs_a_file(copy, tmp_path):
    """Neither as the model's name nor as its origin."""
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'boom')!r}, 'w')\nclass RBM: ...\n")
    config = json.loads((copy / "config.json").read_text())
    for change in ({"model": f"{tmp_path}/evil.py:RBM"}, {"origin": f"{tmp_path}/evil.py:RBM"}):
        (copy / "config.json").write_text(json.dumps(config | change))
        refused(dgm.load, copy)
        assert main(["fit", "--config", str(copy), "--quiet", "--out", str(tmp_path / "again")]) == 2
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b"{"),
        ("weights.safetensors", b"\xff" * 40),
        ("config.json", b"[" * 10**5),
        ("config.json", b"\xff\xfe"),
    ],
)
def test_the_command_says_so_in_one_line(name, content, copy, capsys):
    (copy / name).write_bytes(content)
    for command in (["evaluate", str(copy)], ["sample", str(copy)]):
        assert main(command) == 2
        error = capsys.readouterr().err
        assert error.startswith("pyro-dgm: ")
        assert error.count("\n") == 1


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"machine": 3}', b'{"machine": "m", "training_seconds": "long"}'])
def test_result_files_of_another_kind(content, tmp_path, capsys):
    folder = tmp_path / "rbm-binarized-mnist-fast"
    folder.mkdir()
    (folder / "result.json").write_bytes(content)
    from pyro_dgm.recipes.reproduction import Result, checked

    assert "result.json" in refused(checked, folder / "result.json", Result)
