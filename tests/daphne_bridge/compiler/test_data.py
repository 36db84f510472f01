"""Tests of daphne_bridge.compiler.data: tables, and what is wrong with them."""

import pytest

from daphne_bridge.compiler.data import parse_data
from daphne_bridge.errors import ReadError

from ..refusals import refusal


def test_columns_are_numbers_or_strings():
    found = parse_data("x, y,name\n1,2.5,a\n-3,1e3,b c\n", "t.csv")
    assert found == {"x": [1, -3], "y": [2.5, 1000.0], "name": ["a", "b c"]}
    assert [type(v) for v in found["x"]] == [int, int]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (",x,y\n0,1,2\n", "t.csv:1:1: column 1 has no name"),
        ("x,\n1,2\n", "t.csv:1:2: column 2 has no name"),
        ("x,x\n1,2\n", "t.csv:1:2: two columns are called x"),
        ("x,y\n", "t.csv:1: the table has no rows"),
        ("x,y\n1,2\n\n,3\n", "t.csv:4: column x has no value here"),
        ("x,y\n1,NA\n2,3\n", "t.csv:2: column y has no value here"),
        ("x,y\n1,NaN\n", "t.csv:2: column y has no plain number here"),
        ("x\n1_000\n", "t.csv:2: column x has no plain number here"),
        ("x\n1\ninf\n", "t.csv:3: column x has no plain number here"),
        ("x\n1\nabc\n", "t.csv:3: column x has no plain number here"),
        ("x\n1e999\n", "t.csv:2: column x has a number that is too large"),
        (f"x\n1\n{'9' * 5000}", "t.csv:3: column x has a number that is too large"),
        ("x;y\n1;2\n", "t.csv:1: the table has one column"),
        ("x,y\n1\n", "t.csv:2:1: a row has the wrong number of cells"),
        ("", "t.csv: the table is empty"),
        ('x,y\n1,"a\n2,b\n', "t.csv:3: not a table: unexpected end of data"),
        ('x,y\n1,"a"b\n', "t.csv:2: not a table"),
    ],
)
def test_a_table_that_is_none_is_refused_where_it_is_wrong(text, sentence):
    assert str(refusal(ReadError, parse_data, text, "t.csv")).startswith(sentence)


def test_a_string_that_means_missing_stays_a_string_among_strings():
    assert parse_data("code\nNA\nDE\n", "t.csv") == {"code": ["NA", "DE"]}
