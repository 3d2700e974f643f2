"""Options read from texts and checked by the signatures of the functions that take them."""

import typing
from collections.abc import Sequence
from typing import Any, Literal, TypedDict

import pytest
from torch import Tensor

import pyro_dgm as dgm
from pyro_dgm import registry, signatures


@pytest.mark.parametrize(
    ("text", "hint", "value"),
    [
        ("false", bool, False), ("No", bool, False), ("0", bool, False), ("True", bool, True), ("on", bool, True),
        ("5", int, 5), ("(1, 5)", int | tuple[int, int] | None, (1, 5)), ("None", int | None, None), ("none", str | None, None),
        ("1e-3", float, 1e-3), ("2", float, 2), ("gaussian", str, "gaussian"), ("'gaussian'", str, "gaussian"),
        ("5", str, "5"), ("[64, 32]", Sequence[int], [64, 32]), ("200,100", Sequence[int], (200, 100)),
        ("{'label': 0.5}", float | dict[str, float] | None, {"label": 0.5}), ("cd", Literal["pcd", "cd"], "cd"),
        ("diagonal", str | float | Tensor, "diagonal"), ("[[0, 1], [1, 2]]", Tensor | None, [[0, 1], [1, 2]]),
        ("false", Any, False), ("(1, 2)", Any, (1, 2)), ("word", Any, "word"),
    ],
)  # fmt: skip
def test_a_text_is_read_by_its_type(text, hint, value):
    found = signatures.read(text, hint, "option")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "hint", "expected"),
    [
        ("maybe", bool, "true or false"), ("2", bool, "true or false"), ("false", int, "an integer"),
        ("1.5", int, "an integer"), ("9" * 30, int, "an integer"), ("nan", float, "a number"), ("1e999", float, "a number"),
        ("(3,)", float, "a number"), ("iwae", float | None, "a number or none"), ("1+2j", float, "a number"),
        ("2.5", Sequence[int], "several integers"), ("(1, true)", Sequence[int], "several integers"),
        ("(1, 2, 3)", int | tuple[int, int], "an integer or 2 integers"), ("pcdd", Literal["pcd", "cd"], "pcd or cd"),
        ("[" * 5000, Sequence[int], "several integers"), ("__import__('os')", int, "an integer"),
    ],
)  # fmt: skip
def test_a_text_of_another_type_is_refused(text, hint, expected):
    with pytest.raises(ValueError, match=f"option got .*; expected {expected}$"):
        signatures.read(text, hint, "option")


def test_a_flag_without_a_type_has_that_of_its_default():
    def own(deep=False, anything=None): ...

    assert signatures.settings(own, ["deep=no", "anything=no"], "--set", "own") == {"deep": False, "anything": False}
    with pytest.raises(ValueError, match="true or false"):
        signatures.settings(own, ["deep=perhaps"], "--set", "own")
    for pairs, match in (
        (["deep"], "NAME=VALUE"),
        (["deep=1", "deep=0"], "twice"),
        (["depth=1"], "it has deep, anything"),
    ):
        with pytest.raises(ValueError, match=match):
            signatures.settings(own, pairs, "--set", "own")


class Base(TypedDict):
    epochs: int


class Stored(Base, total=False):
    options: dict[str, float]


def test_plain_data_are_checked_by_a_typed_dictionary():
    assert signatures.mismatch({"epochs": 3, "options": {"a": 1}, "more": object()}, Stored, "it") is None
    for value, told in (
        ({}, "it lacks 'epochs'"),
        ({"epochs": True}, "it['epochs'] is True; expected an integer"),
        ({"epochs": 1, "options": {"a": "b"}}, "it['options']['a'] is 'b'; expected a number"),
        ([], "it is []; expected an object"),
    ):
        assert signatures.mismatch(value, Stored, "it") == told
    deep: list = []
    for _ in range(5000):
        deep = [deep]
    assert "nested too deeply" in signatures.mismatch(deep, Tensor, "it")


@pytest.mark.parametrize("name", sorted(name.lower() for name in registry.model_classes()))
def test_models_take_their_own_options_and_kinds(name):
    """What a model stores passes the check of its signature, and every kind of its objective is known to it."""
    cls = registry.model(name)
    model, x = cls.example()
    signatures.check(cls, model.options(), name)
    for option in (*signatures.options(cls).values(), *signatures.options(cls.objective).values()):
        assert option.hint is not Any, "every option has a type"
        assert signatures.words(option.hint)
    kinds = signatures.options(cls.objective).get("kind")
    for kind in typing.get_args(kinds.hint) if kinds else ():
        assert registry.criterion(model, {"kind": kind}, x.shape[1]).arguments == {"kind": kind}


def test_options_tell_what_the_documentation_says():
    told = signatures.options(dgm.DBM)
    assert told["rounds"].text == "rounds of mean field in the guide."
    assert told["hidden"].default == (500, 1000)


def test_one_type_that_cannot_be_found_leaves_the_others():
    def own(net: "Nowhere", k: "int" = 1): ...  # noqa: F821

    assert [option.hint for option in signatures.options(own).values()] == [Any, int]
