"""Tests of flows.storage.observations."""

import pytest

from flows.errors import FlowsError
from flows.storage.observations import load_observations

LONG = "a" * 5_000
DEEP = '[{{"x": {}0{}}}]'


def test_every_row_of_csv_and_json_is_a_data_set(tmp_path):
    (tmp_path / "d.csv").write_text("x, y\n1,2.5\n\n-3,1e-3\n")
    rows = load_observations(tmp_path / "d.csv")
    assert [row.values for row in rows] == [{"x": 1.0, "y": 2.5}, {"x": -3, "y": 1e-3}]
    assert rows[1].places["y"] == f"{tmp_path / 'd.csv'} line 4 y"
    (tmp_path / "d.json").write_text('[{"x": 1, "w": [1, [2, 3]]}, {}]')
    rows = load_observations(tmp_path / "d.json")
    assert [row.values for row in rows] == [{"x": 1, "w": (1, (2, 3))}, {}]
    assert rows[0].places["w"] == f"{tmp_path / 'd.json'} row 1 w"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there is no data set"),
        ("x,y\n", "there is no data set"),
        ("x,y\n1\n", "line 2: wrong number of values; expected 2; got 1"),
        ("x,x\n1,2\n", "line 1: a name stands twice; expected each name once; got x"),
        ("x, ,\n1,2,3\n", r"line 1: column 2 has no name; .*; got \['x', '', ''\]"),
        ("x,y,\n1,2,\n", "line 1: column 3 has no name; expected a name for each"),
        (f"{LONG},{LONG}\n1,2\n", rf"stands twice; .*; got {LONG[:57]}\.\.\.$"),
        (f"{LONG}\nfoo\n", rf"line 2 {LONG[:57]}\.\.\.: not a number"),
        (f"x\n{LONG}\n", rf"line 2 x: not a number; .*; got '{LONG[:56]}\.\.\.$"),
        ("x\n1e999\n", "line 2 x: the number is too large; .*; got '1e999'"),
        ("x,y\r1\r", "line 2: wrong number of values; expected 2; got 1"),
        ('x\n"1\n', "line 2: not a table: unexpected end of data"),
        ("x\nfoo\n", "line 2 x: not a number"),
        ("x\n1_000\n", "line 2 x: not a number"),
        ("x\ninf\n", "line 2 x: not a number"),
        ("x\nnan\n", "not a number"),
        ("{oops", r"d.json:1:2: not JSON: no .* here; expected \[{\"name\": value"),
        ('[{"x": 1,\n "x": 2}]', r"d.json:2:2: not JSON: .* twice .*; expected \[{"),
        ('{"x": 1}', "not a list of data sets"),
        ('[{"x": 1e999}]', "too large for a number"),
        ("[]", "there is no data set"),
        (DEEP.format("[" * 50_000, "]" * 50_000), "row 1 x: nested too deeply; exp"),
        (DEEP.format('{"a":' * 600, "}" * 600), "row 1 x: nested too deeply; exp"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path, text, said):
    path = tmp_path / ("d.json" if text.startswith(("{", "[")) else "d.csv")
    path.write_text(text)
    with pytest.raises(FlowsError, match=said):
        load_observations(path)


def test_a_name_that_is_empty_or_long_has_a_place_that_can_be_read(tmp_path):
    (tmp_path / "d.json").write_text(f'[{{"": 1, "{LONG}": 2}}]')
    places = load_observations(tmp_path / "d.json")[0].places
    where = f"{tmp_path / 'd.json'} row 1"
    assert [*places.values()] == [f'{where} ""', f"{where} {LONG[:57]}..."]


def test_names_of_files_and_ends_of_lines_are_read_as_they_are_found(tmp_path):
    (tmp_path / "D.JSON").write_text('[{"x": 1}]')
    assert load_observations(tmp_path / "D.JSON")[0].values == {"x": 1}
    (tmp_path / "d.csv").write_bytes(b"x,y\r1,2\r\n3,4\r")
    rows = load_observations(tmp_path / "d.csv")
    assert [row.values for row in rows] == [{"x": 1, "y": 2}, {"x": 3, "y": 4}]


def test_a_place_may_be_text(tmp_path):
    (tmp_path / "data.csv").write_text("y\n0.5\n")
    assert load_observations(str(tmp_path / "data.csv"))[0].values == {"y": 0.5}
