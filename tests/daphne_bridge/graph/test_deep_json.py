"""Tests of daphne_bridge.graph.deep_json."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daphne_bridge.graph import deep_json
from daphne_bridge.graph.deep_json import JsonError, dumps, loads

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(VALUES)
def test_the_deep_path_reads_and_writes_what_the_library_does(value):
    assert deep_json._loads_deep(json.dumps(value)) == value
    assert deep_json._loads_deep(json.dumps(value, indent=2)) == value
    assert json.loads("".join(deep_json._pieces(value))) == value


def test_a_hundred_thousand_nested_arrays_are_read_and_written():
    depth = 100_000
    text = "[" * depth + "1" + "]" * depth
    value = loads(text)
    assert dumps(value) == text
    for _ in range(depth):
        value = value[0]
    assert value == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1",
        "[1,]",
        "[,1]",
        "{1:2}",
        '{"a"}',
        '{"a":1,}',
        "[1 2]",
        "]",
        "nul",
        "01",
        "[1]]",
        '["a',
        '{"a":1]',
    ],
)
def test_text_that_is_not_json_is_refused_on_both_paths(text):
    with pytest.raises(JsonError):
        loads(text)
    with pytest.raises(JsonError):
        deep_json._loads_deep(text)


@pytest.mark.parametrize(
    ("text", "what", "place"),
    [
        ('{"a":1,\n  "b": 2, "a":2}', "'a' stands twice", (2, 11)),
        ('[1,\n {"a": NaN}]', "NaN is not a JSON number", (2, 8)),
        ("[1, -Infinity]", "-Infinity is not a JSON number", (1, 5)),
        ("[[],\n\n  1e999]", "1e999 is too large", (3, 3)),
        (f"[1, {'9' * 5000}]", "a number of 5000 digits is too long$", (1, 5)),
        (f"[1, {'9' * 5000}.0]", r"9\.\.\. is too large for a number$", (1, 5)),
        (f"[1, -{'9' * 5000}]", "a number of 5000 digits is too long$", (1, 5)),
    ],
)
def test_what_json_leaves_open_is_refused_at_its_place(text, what, place):
    with pytest.raises(JsonError, match=what) as caught:
        loads(text)
    assert (caught.value.line, caught.value.column) == place


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[1,]", "no value here"),
        ("[1 2]", "no ',' delimiter here"),
        ('{"a" 1}', "no ':' delimiter here"),
        ("{a}", "no property name enclosed in double quotes here"),
        ("[1]]", "extra data"),
        ('["a', "unterminated string starting at"),
    ],
)
def test_what_is_wrong_is_said_without_what_is_expected(text, what):
    with pytest.raises(JsonError) as caught:
        loads(text)
    assert str(caught.value) == what
    with pytest.raises(JsonError) as caught:
        deep_json._loads_deep(text)
    assert "xpect" not in str(caught.value).replace("unexpected", "")


def test_a_number_that_is_not_finite_is_not_written():
    with pytest.raises(JsonError):
        dumps([float("inf")])


def test_the_place_of_an_error_is_told():
    with pytest.raises(JsonError) as caught:
        loads("[1,\n  2,\n  oops]")
    assert (caught.value.line, caught.value.column) == (3, 3)
