"""Spec: what to_json writes, from_json reads; invalid documents are a ModelError."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cnn_infer import ModelError, Spec

GOOD: dict[str, Any] = {
    "format": 1,
    "classes": ["b", "a", "ü\n"],
    "height": 28,
    "width": 32,
    "colour": "grey",
    "resize": "crop",
    "filter": "bicubic",
    "zero_point": 130,
    "scale": 0.0123,
    "temperature": 1.5,
    "profiles": "ignored",
    "details": {"precision": "int8", "nested": [1, None, {"x": True}]},
}


def document(**changes: Any) -> str:
    return json.dumps({**GOOD, **changes})


def test_a_specification_is_written_and_read() -> None:
    spec = Spec.from_json(json.dumps(GOOD))
    assert spec.classes == ("b", "a", "ü\n")
    assert spec.shape == (28, 32, 1)
    assert (spec.colour, spec.resize, spec.filter) == ("grey", "crop", "bicubic")
    assert (spec.zero_point, spec.scale, spec.temperature) == (130, 0.0123, 1.5)
    assert json.loads(spec.to_json()) == GOOD
    assert Spec.from_json(spec.to_json()) == spec


def test_optional_keys_may_be_absent_and_unknown_keys_are_ignored() -> None:
    short = {key: value for key, value in GOOD.items() if key not in ("temperature", "profiles", "details")}
    spec = Spec.from_json(json.dumps({**short, "invented_later": 1}))
    assert (spec.temperature, spec.profiles, dict(spec.details)) == (1.0, "ignored", {})


@pytest.mark.parametrize("key", [key for key in GOOD if key not in ("temperature", "profiles", "details")])
def test_a_missing_key_is_refused_by_name(key: str) -> None:
    with pytest.raises(ModelError, match=key):
        Spec.from_json(json.dumps({name: value for name, value in GOOD.items() if name != key}))


WRONG: dict[str, list[Any]] = {
    "format": [0, 2, "1", None, [1], 1.5],
    "classes": [[], ["one"], ["a", "a"], ["a", ""], ["a", 1], ["a", None], "ab", {"a": 1, "b": 2}, None, 2],
    "height": [0, -1, 4097, 28.0, "28", None, True, [28], 10**400],
    "width": [0, -1, 4097, 28.0, "28", None, True, [28], 10**400],
    "colour": ["RGB", "", None, 1, ["rgb"], {}],
    "resize": ["stretch", "", None, 1, ["crop"], {}],
    "filter": ["nearest", "", None, 1, ["box"], {}],
    "zero_point": [-1, 256, 1.0, "1", None, True],
    "scale": [0, -1.0, "1", None, True, float("nan"), float("inf"), 10**400],
    "temperature": [0, -1.0, "1", None, True, float("nan"), float("inf"), 10**400],
    "profiles": ["srgb", "", None, 1, ["ignored"], {}],
    "details": [None, [], "text", 1, {"accuracy": float("nan")}, {"deep": {"loss": float("-inf")}}],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in WRONG.items() for value in values])
def test_a_wrong_value_is_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(ModelError, match=key) as found:
        Spec.from_json(document(**{key: value}))
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json",
        "{",
        "[]",
        "1",
        "null",
        '"text"',
        "[" * 100_000,
        '{"format":' * 100_000,
        "{'a': 1}",
        "__import__('os')",
    ],
    ids=lambda text: text[:12],
)
def test_a_text_that_is_not_a_json_object_is_refused(text: str) -> None:
    with pytest.raises(ModelError, match=r"cnn\.spec"):
        Spec.from_json(text)


@pytest.mark.parametrize("depth", [200, 400, 900, 2_000])
def test_deep_nesting_is_refused_or_kept(depth: int) -> None:
    text = document(details=0).replace('"details": 0', '"details": {"x": ' + "[" * depth + "]" * depth + "}")
    try:
        spec = Spec.from_json(text)
    except ModelError:
        assert depth > 200
    else:
        assert Spec.from_json(spec.to_json()) == spec


def test_infinite_numbers_and_nan_are_refused() -> None:
    for number in ("1e999", "-1e999", "NaN", "Infinity"):
        with pytest.raises(ModelError, match=r"cnn\.spec"):
            Spec.from_json(document(details=0).replace('"details": 0', f'"details": {{"loss": {number}}}'))


def test_lone_surrogates_are_refused() -> None:
    for changes in ({"classes": ["a", "\ud800"]}, {"details": {"x": "\udfff"}}):
        with pytest.raises(ModelError, match=r"cnn\.spec"):
            Spec.from_json(document(**changes))


def test_values_from_python_are_checked_too() -> None:
    with pytest.raises(ModelError, match="scale"):
        Spec(("a", "b"), 8, 8, "grey", "crop", "box", 0, 0.0)
    with pytest.raises(ModelError, match="details"):
        Spec(("a", "b"), 8, 8, "grey", "crop", "box", 0, 1.0, details={"x": object()})
