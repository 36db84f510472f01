"""Tests of the programs in clj-programs."""

import math
from pathlib import Path

import pytest

from daphne_bridge.compiler import compile_program, parse_data
from daphne_bridge.errors import BridgeError

GALLERY = Path(__file__).parents[3] / "clj-programs"
PROGRAMS = sorted(GALLERY.glob("*.daphne"))
INVALID = sorted((GALLERY / "invalid").glob("*.daphne"))


def compiled(path):
    data = None
    if path.stem == "regression_on_data":
        table = GALLERY / "regression.csv"
        data = parse_data(table.read_text(), table.name)
    return compile_program(path.read_text(), path.name, data)


def test_there_are_at_least_twenty_programs():
    assert len(PROGRAMS) >= 20


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: p.stem)
def test_a_program_of_the_gallery_compiles_and_says_what_it_shows(path):
    header = path.read_text().partition("(")[0]
    assert "Known answer" in path.read_text()
    assert header.startswith(";;")
    result = compiled(path)
    names = result.document[1]["V"]
    assert names
    assert result.labels.keys() == result.positions.keys() == set(names)
    assert len(set(result.labels.values())) == len(names)


@pytest.mark.parametrize("path", INVALID, ids=lambda p: p.stem)
def test_an_invalid_program_is_refused_with_the_message_it_shows(path):
    expected = path.read_text().split("\n")[1].removeprefix(";;").strip()
    with pytest.raises(BridgeError) as caught:
        compile_program(path.read_text(), path.name)
    assert str(caught.value).split("\n")[0] == expected


def test_the_circuit_is_labelled_as_in_the_paper():
    result = compiled(GALLERY / "arithmetic_circuit.daphne")
    labels = list(result.labels.values())
    assert labels == ["z0", "z1", "z2", "z3", "z4", "z5", "x0", "x1"]
    assert list(result.document[1]["Y"].values()) == [-9.7, 0.85]


def test_the_convolution_has_the_edges_of_its_patches():
    graph = compiled(GALLERY / "convolution.daphne").document[1]
    pixels = [name for name in graph["V"] if name.startswith("sample")]
    outputs = [name for name in graph["V"] if name.startswith("output")]
    assert (len(pixels), len(outputs)) == (81, 16)
    corner = {0, 1, 2, 9, 10, 11, 18, 19, 20}
    parents = {i for i, p in enumerate(pixels) if outputs[0] in graph["A"].get(p, [])}
    assert parents == corner
    assert sum(len(set(graph["A"].get(p, [])) & set(outputs)) for p in pixels) == 144


def test_the_random_walk_ends_where_its_header_says():
    graph = compiled(GALLERY / "random_walk.daphne").document[1]
    steps = [link for name, link in graph["P"].items() if name.startswith("sample")]
    variance = sum(link[1][2] ** 2 for link in steps)
    assert variance == 29
    assert math.isclose(29 / 30 * graph["Y"]["observe5"], 2.9)


def test_data_from_a_file_gives_the_document_of_data_in_the_program():
    pasted = compiled(GALLERY / "linear_regression.daphne").document
    bound = compiled(GALLERY / "regression_on_data.daphne").document
    assert bound == pasted
