"""Tests of flows.storage.json_values."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from flows.errors import ArtifactError
from flows.storage.json_values import from_json, json_bytes, parsed, to_json


@dataclass(frozen=True)
class Inner:
    """A value in another."""

    number: int
    bounds: tuple[float, ...] = ()


@dataclass(frozen=True)
class Outer:
    """A value with others in it."""

    names: tuple[str, ...]
    parts: Mapping[str, Inner]
    first: Inner | None = None


VALUES = [
    Outer((), {}),
    Outer(("a",), {"x": Inner(0), "y": Inner(2, (0.0, 1.5))}, Inner(0)),
]


@pytest.mark.parametrize("value", VALUES)
def test_values_come_back_as_they_were(value):
    assert from_json(Outer, to_json(value)) == value


def test_only_what_may_be_left_out_is_left_out():
    assert to_json(VALUES[0]) == {"names": [], "parts": {}}
    assert to_json(VALUES[1])["parts"]["x"] == {"number": 0}


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused_with_its_place(number):
    with pytest.raises(ArtifactError) as caught:
        json_bytes({"a": [0.5, {"b": number}]}, "file.json")
    assert str(caught.value) == (
        "file.json: $.a[1].b: this number cannot be written; expected a finite number; "
        f"got {number}"
    )


@pytest.mark.parametrize("text", ["{oops", "[" * 100_000, "9" * 5_000, b"\xff"])
def test_text_that_is_no_json_or_too_deep_is_refused_alike(text):
    with pytest.raises(ValueError):  # noqa: PT011
        parsed(text)


def test_depth_is_no_matter():
    value: list[object] = [math.nan]
    for _ in range(5_000):
        value = [value]
    with pytest.raises(ArtifactError, match="finite"):
        json_bytes(value, "file.json")
