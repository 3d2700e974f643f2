"""One conversion of rows for everything that takes data: arrays, tables, sparse rows, torch's datasets, other precisions."""

import contextlib
import inspect
import json
import math

import numpy as np
import pandas
import pytest
import scipy.sparse
import torch
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset

import pyro_dgm as dgm
from pyro_dgm import registry
from pyro_dgm.data.rows import as_rows, as_split
from pyro_dgm.models.shared import Model

QUIET = {"epochs": 1, "batch_size": 4, "progress": False}

FORMS = {
    "double": lambda x: x.double(),
    "float16": lambda x: x.half(),
    "array": lambda x: x.numpy().astype(float),
    "array backwards": lambda x: x.numpy()[::-1].copy()[::-1],
    "frame": lambda x: pandas.DataFrame(x.numpy()),
    "sparse": lambda x: scipy.sparse.csr_matrix(x.numpy()),
    "sparse tensor": lambda x: x.to_sparse(),
}

WHOLE = {
    "integers": lambda x: x.long(),
    "booleans": lambda x: x.numpy() > 0,
    "objects": lambda x: pandas.DataFrame(x.numpy().astype(object)),
}


def models(ability):
    chosen = {name: cls for name, cls in registry.models().items() if ability in cls.abilities()}
    return pytest.mark.parametrize("cls", chosen.values(), ids=chosen)


@pytest.mark.parametrize("form", [*FORMS, *WHOLE])
def test_every_form_gives_the_same_rows(form):
    x = (torch.arange(20).view(5, 4) % 3 > 0).float()
    found = as_rows({**FORMS, **WHOLE}[form](x))
    assert found.is_floating_point()
    assert torch.equal(found.float(), x)


@models("impute")
def test_every_model_imputes_tables_and_says_the_same(cls):
    """An array of double precision with an array of booleans, a frame with lists of them."""
    model, x = cls.example()
    known = torch.arange(x.shape[1]) < 3
    torch.manual_seed(1)
    expected = model.impute(x, known, draws=2)
    for rows, which in ((x.double().numpy(), known.numpy()), (pandas.DataFrame(x.numpy()), known.tolist())):
        torch.manual_seed(1)
        assert torch.equal(model.impute(rows, which, draws=np.int64(2)), expected)


def test_figures_take_tables_too():
    """Of latents, of log Z, and for ArviZ."""
    vae, x = dgm.VAE.example()
    table, programs = pandas.DataFrame(x.numpy()), (vae.model, vae.guide)
    found = []
    for rows in (x, table):
        torch.manual_seed(1)
        found.append([dgm.kl_per_latent(*programs, rows)["z"].total, *dgm.active_units(*programs, rows)["z"].variance])
    assert found[0] == found[1]
    assert dict(dgm.to_arviz(vae, table, num_samples=3, num_chains=2).posterior.sizes)["draw"] == 3
    rbm, x = dgm.RBM.example()
    assert rbm.log_partition(x.double().numpy()).value == rbm.log_partition(x).value


@models("condition")
def test_every_model_conditions_on_tables(cls):
    model, x = cls.example()
    x = x[:2]
    known = np.arange(x.shape[1]) < 3
    options = {}
    try:
        dgm.condition(model, x.double().numpy(), known, draws=np.int64(2), warmup=2)
        options = {"warmup": 2}
    except ValueError as error:
        assert "independent" in str(error)  # noqa: PT017 (the other branch is no error)
    torch.manual_seed(1)
    expected = dgm.condition(model, x, torch.from_numpy(known), draws=2, **options)
    torch.manual_seed(1)
    assert torch.equal(dgm.condition(model, x.double().numpy(), known, draws=np.int64(2), **options), expected)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cls", [dgm.RBM, dgm.VAE, dgm.NADE])
def test_fit_and_log_likelihood_take_all_forms(cls, form):
    model, x = cls.example()
    dgm.fit(model, FORMS[form](x), **QUIET)
    options = {"particles": np.int64(3)} if cls is dgm.VAE else {}
    torch.manual_seed(1)
    expected = dgm.log_likelihood(model, x, **options).value
    torch.manual_seed(1)
    assert dgm.log_likelihood(model, FORMS[form](x), **options).value == expected


def test_a_double_model_takes_single_rows():
    model, x = dgm.VariationalRNN.example()
    model.double()
    known = torch.arange(x.shape[1]) < 3
    assert model.impute(x.float(), known, draws=2).dtype == torch.float64
    assert dgm.fit(model, x.float(), **QUIET).history


def test_torchs_datasets_are_their_rows():
    x = dgm.RBM.example()[1]
    expected = dgm.fit(dgm.RBM.example()[0], x, **QUIET).model.weight
    pairs = TensorDataset(x, torch.arange(len(x)) % 2)
    for data in (
        TensorDataset(x),
        pairs,
        DataLoader(pairs, batch_size=3, shuffle=True),
        Subset(TensorDataset(torch.cat([x, x])), range(len(x))),
    ):
        assert torch.equal(dgm.fit(dgm.RBM.example()[0], data, **QUIET).model.weight, expected)
    assert as_split(Subset(pairs, [3, 5])).labels.tolist() == [1, 1]


def test_pretraining_and_fine_tuning_take_them_too():
    dbn, x = dgm.DBN.example()
    labels = torch.arange(len(x)) % 2
    dgm.pretrain(dbn, x.double().numpy(), **QUIET)
    split = dgm.data.Split(x, dgm.data.Space("binary"), labels)
    forms = (
        split,
        dgm.data.Split(x.double(), dgm.data.Space("binary"), labels.int()),
        TensorDataset(x, labels),
        dgm.data.Dataset("toy", split, split, split, (x.shape[1],)),
    )
    found = [dgm.fine_tune(dbn, form, classes=np.int64(2), epochs=1, dropout=0.5)(x.numpy()) for form in forms]
    assert all(torch.equal(scores, found[0]) for scores in found)


class Endless(IterableDataset):
    def __iter__(self):
        yield torch.zeros(6)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([[0.0] * 6] * 4, r"got a list of length 4; expected a tensor, a NumPy array or a DataFrame"),
        (np.full((4, 6), "one"), r"got an ndarray of shape \(4, 6\), <U3, with entries that are no numbers"),
        (pandas.DataFrame({"a": [1.0, None], "b": ["x", "y"]}), r"column 'b' holds 2 different texts in 2 rows"),
        (np.zeros((4, 6), complex), r"complex128; expected real numbers"),
        (torch.zeros(4, 6, dtype=torch.complex64), "expected real numbers"),
        (None, "got None; expected a tensor"),
        (Endless(), "got an Endless, whose rows have no numbers"),
        (TensorDataset(*[torch.zeros(4, 6)] * 3), "with items of 3 parts"),
        (Subset(TensorDataset(torch.zeros(1, 6)), [0]), "data got 1 rows; expected at least 2"),
    ],
    ids=[
        "list",
        "words",
        "mixed table",
        "complex array",
        "complex tensor",
        "nothing",
        "endless",
        "three parts",
        "one row",
    ],
)
def test_what_holds_no_rows_is_refused_without_printing_it(data, message):
    with pytest.raises(ValueError, match=message) as error:
        dgm.fit(dgm.RBM.example()[0], data, **QUIET)
    assert len(str(error.value)) < 300
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("cls", registry.models().values(), ids=registry.models())
def test_every_model_draws_a_whole_number_of_rows(cls):
    model, x = cls.example()
    assert model.sample(np.int64(2)).shape == (2, *x.shape[1:])
    for name in {"sample", "sample_means"} & set(dir(model)):
        for n in (0, -1, 1.5, True, "3"):
            with pytest.raises(
                ValueError, match=f"n got {n!r}; expected the number of rows to draw, an integer of at least 1"
            ):
                getattr(model, name)(n)


MANY = [0.5] * 3000


@pytest.mark.parametrize(
    "call",
    [
        lambda rbm, x: dgm.fit(rbm, x, learning_rate=MANY),
        lambda rbm, x: dgm.fit(rbm, x, epochs=np.array(MANY)),
        lambda rbm, x: dgm.fit(rbm, x, seed=MANY),
        lambda rbm, x: dgm.fit(rbm, x, decay=np.array(MANY)),
        lambda rbm, x: dgm.fit(rbm, x, device=MANY),
        lambda rbm, x: dgm.fit(rbm, x, optimiser_options=np.array(MANY)),
        lambda rbm, x: dgm.fit(rbm, x, objective=np.array(MANY)),
        lambda rbm, x: rbm.impute(x, MANY),
        lambda rbm, x: dgm.condition(rbm, x, x > 2, draws=MANY),
        lambda rbm, x: dgm.log_likelihood(rbm, x, method=np.array(MANY)),
        lambda rbm, x: dgm.VAE(6, latent=MANY),
    ],
)
def test_messages_say_what_long_values_are(call):
    with pytest.raises(ValueError, match=r"(a list of length |an ndarray of shape \()3000") as error:
        call(*dgm.RBM.example())
    assert len(str(error.value)) < 300


def of_numpy(value):
    if isinstance(value, list | tuple):
        return type(value)(of_numpy(entry) for entry in value)
    return np.int64(value) if isinstance(value, int) and not isinstance(value, bool) else value


@pytest.mark.parametrize("cls", registry.models().values(), ids=registry.models())
def test_every_model_is_made_of_numpys_numbers(cls):
    """And states those of Python, which a run on disk can store."""
    options = cls.example()[0].options()
    again = cls(**{name: of_numpy(value) for name, value in options.items()})
    assert json.dumps(again.options()) == json.dumps(options)


def of_another_kind(value):
    """What an option of this kind is never."""
    if isinstance(value, bool) or value is None:
        return []
    if isinstance(value, int | float):
        return ["0.5", math.nan, [0.5]]
    return ["ab"] if isinstance(value, str) else ["ab", [0.5, "a"]]


@pytest.mark.parametrize("cls", registry.models().values(), ids=registry.models())
def test_every_model_refuses_options_of_another_kind(cls):
    """In words: a check of the package, and no error of torch's, nor a model that fails when it is used."""
    options = cls.example()[0].options()
    for name, value in options.items():
        for wrong in of_another_kind(value):
            with pytest.raises(ValueError, match=" got ") as error:
                cls(**options | {name: wrong})
            assert "pyro_dgm" in str(error.traceback[-1].path), name
        if not isinstance(value, bool):
            with contextlib.suppress(ValueError):  # None is what an option is by default, or is refused
                cls(**options | {name: None})


@pytest.mark.parametrize("cls", registry.models().values(), ids=registry.models())
def test_every_model_refuses_counts_that_are_none(cls):
    """A chain of -1 sweeps would be its first state, without a word."""
    model, x = cls.example()
    calls = {"sample": (2,), "sample_means": (2,), "hidden_features": (x,), "reconstruct": (x,), "filled": (x,)}
    own = {name for name in dir(model) if getattr(cls, name, None) is not getattr(Model, name, None)}
    for name in calls.keys() & own:
        for count in {"sweeps", "steps", "rounds"} & inspect.signature(getattr(model, name)).parameters.keys():
            for wrong in (-1, 2.5, "3"):
                with pytest.raises(ValueError, match=f"{count} got {wrong!r}; expected"):
                    getattr(model, name)(*calls[name], **{count: wrong})


@models("reconstruct")
def test_every_model_says_what_rows_it_rebuilds(cls):
    model, x = cls.example()
    for call in (model.reconstruct, model.hidden_features):
        with contextlib.suppress(ValueError):  # a model that takes shorter rows, or refuses them in words
            call(x[:, :-1])
    for call in (model.reconstruct, model.hidden_features):  # of a GSN as many rows as columns came back
        with pytest.raises(ValueError, match=f"got {x.shape[1]} numbers, as one row has"):
            call(x[0])
