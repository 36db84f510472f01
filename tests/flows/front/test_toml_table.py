"""Tests of flows.front.toml_table."""

import pytest

from flows.errors import FlowsError
from flows.front.toml_table import toml_table

TWICE = "a key stands twice; expected each key once"
LINE = "expected key = value, or a [table]"
DIGITS = "123" * 2_000
MOST = "expected 4300 digits at most"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed = 1\na = 2\na = 3\n", f"3:6: {TWICE}; got a = 3"),
        ("a.b = 2\na.b = 3", f"2:8: {TWICE}; got a.b = 3"),
        ("[flow]\n[flow]\n", f"2:6: {TWICE}; got [flow]"),
        ("a = 1\n[a]\n", f"2:3: {TWICE}; got [a]"),
        ("f = {b = 1, b = 2}\n", f"1:18: {TWICE}; got f = {{b = 1, b = 2}}"),
        ("= 3", f"1:1: not TOML: invalid statement; {LINE}; got = 3"),
        ("a = 1\nb =", f"2:4: not TOML: invalid value; {LINE}; got b ="),
        (f"a = 1\nb = {DIGITS}", f"2:5: the number is too long; {MOST}; got 123"),
        (f"b = [\n{'1_2' * 3_000}]", f"2:1: the number is too long; {MOST}; got 1_2"),
        (f"b = {'[' * 50_000}", f" nested too deeply; {LINE}"),
        (f"b = {'[' * 500}{']' * 500}", f" nested too deeply; {LINE}"),
    ],
)
def test_text_that_is_no_table_is_refused_with_its_line(tmp_path, text, said):
    path = tmp_path / "t.toml"
    path.write_text(text)
    with pytest.raises(FlowsError) as caught:
        toml_table(path)
    assert str(caught.value).startswith(f"{path}:{said}")


def test_a_file_of_settings_in_another_encoding_is_refused(tmp_path):
    path = tmp_path / "t.toml"
    path.write_bytes("a = 'ü'".encode("latin-1"))
    with pytest.raises(FlowsError, match=r"t\.toml: not TOML; expected text"):
        toml_table(path)
