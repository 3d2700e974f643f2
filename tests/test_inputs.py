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
from pyro_dgm.models.shared import Model, arguments
from pyro_dgm.models.shared.energy_based import EnergyModel

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


PARTS = [
    (cls, name)
    for cls in registry.models().values()
    for name in arguments.PARTS
    if name != "sample" and inspect.isfunction(inspect.getattr_static(cls, name, None))
]


def fitting(model, x, method):
    """Arguments that the method takes: rows, inputs, outputs, or zeros where it takes codes."""
    parts = {"x": x[:, : model.visible]} if hasattr(model, "visible") else {}
    if hasattr(model, "inputs"):
        parts |= {"given": x[:, : model.inputs], "outputs": x[:, model.inputs :]}
    names = [name for name in inspect.signature(getattr(model, method)).parameters if name in arguments.WIDTHS]
    return [parts[n] if n in parts else torch.zeros(len(x), arguments.WIDTHS[n](model)[0]) for n in names]


@pytest.mark.parametrize(("cls", "name"), PARTS, ids=[f"{cls.__name__}.{name}" for cls, name in PARTS])
def test_what_shows_a_models_parts_takes_rows_that_fit(cls, name):
    """Of another width torch said that matrices cannot be multiplied; one column was spread over all, and NaN passed on."""
    model, x = cls.example()
    if cls is dgm.DenoisingAutoencoder:
        model, x = cls(4, corruption="gaussian", output="gaussian"), torch.rand(5, 4)
    if name == "pooled" and getattr(model, "pool", 1) is None:
        pytest.skip("a machine without regions")
    right, method = fitting(model, x, name), getattr(model, name)
    torch.manual_seed(1)
    method(*(value.double().numpy() for value in right))
    for place, value in enumerate(right):
        for wrong in (value[:, :-1], torch.cat([value, value], 1), value[:, :1] if value.shape[1] > 1 else value[0, 0]):
            if wrong.shape[-1:] not in {(width,) for width in arguments.WIDTHS["x"](model)}:
                with pytest.raises(ValueError, match=r"got data of shape .*; expected rows x"):
                    method(*right[:place], wrong, *right[place + 1 :])
        with pytest.raises(ValueError, match="got NaN or infinite values, first in row 0"):
            method(*right[:place], value * torch.nan, *right[place + 1 :])
        with pytest.raises(ValueError, match=r"got None; expected a tensor"):
            method(*right[:place], None, *right[place + 1 :])
        if len(right) > 1:
            with pytest.raises(ValueError, match=r"got .* of \(.*\) rows and .* rows; expected as many of each"):
                method(*right[:place], value[:2], *right[place + 1 :])


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (dgm.VAE, "encode"), (dgm.ConditionalVAE, "encode"), (dgm.ShapedGSN, "encode"), (dgm.ClassRBM, "scores"),
        (dgm.TwoGroupRBM, "scores"), (dgm.LAPGAN, "pyramid"), (dgm.ContractiveAutoencoder, "rebuilding_cost"),
        (dgm.OrderlessNADE, "column_log_probs"),
    ],
)  # fmt: skip
def test_steps_of_training_blame_their_rows(cls, name):
    model, x = cls.example()
    method = getattr(model, name)
    known = () if name != "column_log_probs" else (torch.ones_like(x).bool(),)
    method(x, *known)
    with pytest.raises(ValueError, match=r"got data of shape .*; expected rows x"):
        method(x[:, :-1], *(k[:, :-1] for k in known))
    with pytest.raises(ValueError, match=r"got ndarray; expected a tensor of rows"):
        method(x.numpy(), *known)
    with pytest.raises(ValueError, match=rf"{cls.__name__}\.{name} got None; expected a tensor of rows"):
        method(None, *known)
    if known:
        with pytest.raises(ValueError, match=r"known got torch.int64 .*; expected booleans"):
            method(x, known[0].long())


def test_what_is_scored_is_known():
    """Scores of NaN were NaN, for which log_prob and predict_proba refuse them; training looks at no number."""
    model, x = dgm.OrderlessNADE.example()
    for wrong in (torch.nan, torch.inf):
        for known in (torch.ones_like(x).bool(), torch.zeros(x.shape[1]).bool()):
            with pytest.raises(ValueError, match="NaN"):
                model.column_log_probs(torch.full_like(x, wrong), known)
    for model, x in (dgm.ClassRBM.example(), dgm.TwoGroupRBM.example()):
        for wrong in (torch.nan, torch.inf):
            with pytest.raises(ValueError, match="got NaN"):
                model.scores(torch.full_like(x, wrong))
        unlabelled = torch.cat([x[:, : model.visible], torch.full((len(x), model.classes), torch.nan)], 1)
        assert torch.equal(model.scores(unlabelled), model.scores(x))
        with pytest.raises(ValueError, match="expected a tensor of rows"):
            model.scores("rows")


def test_scores_of_classes_leave_a_label_out():
    for model, x in (dgm.ClassRBM.example(), dgm.TwoGroupRBM.example()):
        assert torch.equal(model.scores(x), model.scores(x[:, : model.visible]))


@models("condition")
def test_rows_to_be_filled_are_rows_of_the_model(cls):
    """Rows of any width came back as they were where nothing was missing."""
    model, x = cls.example()
    if isinstance(model, EnergyModel):
        assert torch.equal(model.filled(x), x)
        for wrong in (x[:, :1], torch.cat([x, x, x], 1), x[None]):
            with pytest.raises(ValueError, match="got data of shape"):
                model.filled(wrong)


def test_classes_are_predicted_from_rows_of_the_machine():
    """A DBM took the first columns of rows of any width, and NaN for probabilities."""
    model = dgm.DBM(5, (4, 3), classes=3)
    for call in (model.predict_proba, model.classifier_input):
        assert torch.equal(call(torch.zeros(4, 5)), call(torch.zeros(4, 8)))
        for width in (4, 6, 7, 9):
            with pytest.raises(ValueError, match=rf"got data of shape \(4, {width}\); expected rows x \(5,\)"):
                call(torch.zeros(4, width))
        with pytest.raises(ValueError, match="got NaN"):
            call(torch.full((4, 5), torch.nan))


@pytest.mark.parametrize("cls", [dgm.DBN, dgm.ConvolutionalDBN])
def test_layers_are_counted_from_the_rows_up(cls):
    """Layer 9 was the highest, and layer -1 another one."""
    model, x = cls.example()
    assert torch.equal(model.posterior(x), model.posterior(x, 2))
    for wrong in (-1, 3, 1.5, "1"):
        with pytest.raises(ValueError, match=rf"layer got {wrong!r}; expected"):
            model.posterior(x, wrong)


@pytest.mark.parametrize("hidden", [3, 20])
def test_a_conditional_machine_refuses_inputs_and_sweeps_in_words(hidden):
    model = dgm.ConditionalRBM(6, 3, hidden)
    for wrong in (0, -1, 2.5, "3", None):
        with pytest.raises(ValueError, match=f"sweeps got {wrong!r}; expected"):
            model.mean(torch.zeros(2, 3), sweeps=wrong)
    assert model.sample(2, sweeps=2, given=np.zeros(3)).shape == (2, 6)
    with pytest.raises(ValueError, match="given got NaN"):
        model.sample(2, given=torch.full((3,), torch.nan))
    assert model.extend(np.zeros((1, 2, 3), dtype=int), 2, sweeps=2).shape == (1, 2, 3)
    with pytest.raises(ValueError, match="frames got NaN"):
        model.extend(torch.full((1, 2, 3), torch.nan), 2)


def test_given_codes_are_as_many_as_rows():
    model, _ = dgm.SupervisedGenerator.example()
    assert model.sample(2, codes=np.zeros((2, model.codes))).shape == (2, model.visible + model.codes)
    with pytest.raises(ValueError, match=r"codes got \(3, 2\); expected those of 2 rows, \(2, 2\)"):
        model.sample(2, codes=torch.zeros(3, model.codes))
