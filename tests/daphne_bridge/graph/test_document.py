"""Tests of daphne_bridge.graph.document."""

import json
import os

import pytest

from daphne_bridge.errors import DocumentError
from daphne_bridge.graph.document import (
    NodeNames,
    dump_document,
    dump_names,
    format_document,
    load_document,
    load_names,
    parse_document,
    write_text,
)

from ..documents import CIRCUIT, CIRCUIT_DATA, make_document


@pytest.fixture
def document():
    return make_document(CIRCUIT, CIRCUIT_DATA, result=["vector", "sample2", None])


def test_a_document_survives_writing_and_reading(document, tmp_path):
    assert parse_document(format_document(document)) == document
    dump_document(document, tmp_path / "graph.json")
    assert load_document(tmp_path / "graph.json") == document
    assert [path.name for path in tmp_path.iterdir()] == ["graph.json"]


def test_every_violation_of_the_shape_is_reported_with_its_path():
    text = json.dumps([{}, {"V": [1], "A": {"a": "b"}, "P": {}, "Y": []}, None])
    with pytest.raises(DocumentError) as caught:
        parse_document(text, "g.json")
    said = str(caught.value)
    for path in ("g.json: $[1].V[0]", "g.json: $[1].A.a", "g.json: $[1].Y"):
        assert path in said


@pytest.mark.parametrize("text", ["{}", "[]", "3", "[{}, {}, 1, 2]", '"text"'])
def test_json_of_another_shape_is_refused(text):
    with pytest.raises(DocumentError, match="not a graph document"):
        parse_document(text)


def test_text_that_is_not_json_is_refused_with_line_and_column():
    with pytest.raises(
        DocumentError, match=r"g\.json:2:1: not JSON: .* here; expected a JSON doc"
    ):
        parse_document("[{},\n%", "g.json")


@pytest.mark.parametrize("text", ["(let [] 1)", "; a program\n(sample (normal 0 1))"])
def test_a_program_is_recognized_and_told_what_makes_a_document_of_it(text):
    with pytest.raises(DocumentError, match=r"g\.daphne: .*Daphne program.* compile"):
        parse_document(text, "g.daphne")


def test_missing_files_and_directories_are_refused(tmp_path):
    with pytest.raises(DocumentError, match="no such file; expected a graph"):
        load_document(tmp_path / "nothing.json")
    with pytest.raises(DocumentError, match="this is a directory"):
        load_document(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DocumentError, match="not text"):
        load_document(tmp_path / "binary")


def test_names_are_kept_beside_their_document(document, tmp_path):
    path = tmp_path / "graph.json"
    names = NodeNames({"sample2": "z0"}, {"sample2": "p.daphne:1:7"})
    dump_names(names, document, path)
    assert load_names(document, path) == (names, ())


def test_names_of_another_document_are_not_used_and_a_warning_says_so(
    document, tmp_path
):
    path = tmp_path / "graph.json"
    dump_names(NodeNames({"sample2": "z0"}), document, path)
    names, warnings = load_names(make_document({}), path)
    assert not names.labels
    assert "belongs to another document" in str(warnings[0])
    (tmp_path / "graph.names.json").write_text("{")
    _, warnings = load_names(document, path)
    assert "cannot be read" in str(warnings[0])


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "out.json"
    write_text(path, "old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DocumentError, match="No space left"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_an_error_with_a_sentence(tmp_path):
    with pytest.raises(DocumentError, match="cannot be written"):
        write_text(tmp_path / "no" / "out.json", "text")
