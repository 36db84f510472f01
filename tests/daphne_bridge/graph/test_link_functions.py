"""Tests of daphne_bridge.graph.link_functions: functions that call functions."""

from dataclasses import replace

import pytest

from daphne_bridge.errors import GraphError
from daphne_bridge.graph.expression import show
from daphne_bridge.graph.graph import Graph
from daphne_bridge.graph.link_functions import read_link, term_reader
from daphne_bridge.graph.term_reader import CALL_DEPTH_LIMIT, UNROLL_LIMIT

from ..documents import make_document
from ..refusals import refusal

X = ["sample*", ["normal", 0, 1]]


def mean_of(term, functions=None):
    """Return how the mean of `y` reads where `x` and `z` are latents."""
    links = {"x": X, "z": X, "y": ["sample*", ["normal", term, 1]]}
    graph = Graph.from_document(make_document(links, functions=functions))
    return show(graph.node("y").distribution.arguments[0])


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        (["reduce", "+", ["vector", "x", 2, "z"]], "(+ (+ x 2) z)"),
        (["reduce", "+", "x", ["vector", "z"]], "(+ x z)"),
        (["reduce", "+", ["vector", "x"]], "x"),
        (["reduce", "+", ["x", "z"]], "(+ x z)"),
        (["reduce", "max", ["range", 4]], "3"),
        (["first", ["map", "exp", ["vector", "x", "z"]]], "(exp x)"),
        (["get", ["mapv", "*", ["vector", "x", 1], ["vector", "z", 2]], 0], "(* x z)"),
        (["apply", "+", 1, ["vector", "x", "z"]], "(+ 1 x z)"),
        (["reduce", "+", ["filter", "even?", ["vector", 1, 2, 4]]], "6"),
        (
            ["reduce", "+", "x", ["remove", "even?", ["vector", 1, 2, 3]]],
            "(+ (+ x 1) 3)",
        ),
        (["reduce", "+", "x", ["filter", "pos?", ["vector"]]], "x"),
    ],
)
def test_functions_that_call_primitives_are_unrolled(term, expected):
    assert mean_of(term) == expected


def test_functions_of_the_document_are_called():
    functions = {
        "square": ["fn", ["a"], ["*", "a", "a"]],
        "sum": ["fn", ["f", "v"], ["reduce", "+", ["map", "f", "v"]]],
    }
    term = ["sum", "square", ["vector", "x", 3]]
    assert mean_of(term, functions) == "(+ (* x x) 9)"


@pytest.mark.parametrize(
    ("term", "what"),
    [
        (["reduce", "+", "x"], "reduce needs a collection of known length"),
        (["map", "exp"], "malformed map"),
        (["map", 3, ["vector", 1]], "map has no function"),
        (["first", ["filter", "pos?", ["vector", "x"]]], "a random test decides"),
    ],
)
def test_what_cannot_be_unrolled_is_refused_with_its_path(term, what):
    problem = refusal(GraphError, mean_of, term)
    assert what in problem.what
    assert "$[1].P.y[1][1]" in problem.where


FORK = ["f", ["+", "n", 1]]
ENDLESS = {
    "one call": ["fn", ["n"], ["+", 1, ["f", "n"]]],
    "two calls": ["fn", ["n"], ["+", ["f", "n"], ["f", "n"]]],
    "a random condition": ["fn", ["n"], ["if", ["<", "n", 0], 1, ["f", ["+", "n", 1]]]],
    "many turns": ["fn", ["n"], ["loop", 1_000_000_000, 0, "+"]],
    "a tree": ["fn", ["n"], ["if", ["<", 40, "n"], 1, ["+", FORK, FORK]]],
}


@pytest.mark.parametrize("what", ENDLESS)
def test_recursion_without_end_is_refused_within_the_step_bound(what, monkeypatch):
    limit = 20_000 if what == "a tree" else UNROLL_LIMIT
    monkeypatch.setattr("daphne_bridge.graph.term_reader.UNROLL_LIMIT", limit)
    argument = 0 if what == "a tree" else "x"
    links = {"y": ["observe*", ["normal", ["f", argument], 1], 1]}
    document = make_document({"x": X, **links}, functions={"f": ENDLESS[what]})
    reader = term_reader(replace(document, source="endless.json"))
    assert read_link(reader, "y", links["y"]) is None
    (problem,) = reader.problems
    assert problem.where == "endless.json: $[1].P.y[1]"
    assert "do not end" in problem.what
    bound = limit if what in ("many turns", "a tree") else CALL_DEPTH_LIMIT
    assert str(bound) in problem.expected
    assert reader.steps <= 10 * bound


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (["vector", 2, 1], "(discrete [2 1 x])"),
        ([2, 1], "(discrete [2 1 x])"),
        (["vector"], "(discrete [x])"),
    ],
)
def test_the_next_table_of_a_restaurant_is_a_discrete_choice(counts, expected):
    links = {"x": X, "y": ["sample*", ["categorical-crp", counts, "x"]]}
    graph = Graph.from_document(make_document(links))
    assert show(graph.node("y").distribution) == expected
    assert [family.name for family in graph.node("y").families] == ["discrete"]


def test_counts_of_unknown_length_are_refused():
    links = {"x": X, "y": ["sample*", ["categorical-crp", "x", 1]]}
    with pytest.raises(GraphError, match="collection of known length"):
        Graph.from_document(make_document(links))


@pytest.mark.parametrize(
    ("map_", "expected"),
    [
        (["hash-map", "a", 1, "b", 2], "(categorical [[:a 1] [:b 2]])"),
        (["hash-map", "a", "x", "b", 2], "(categorical [[:a x] [:b 2]])"),
    ],
)
def test_categories_may_be_a_map(map_, expected):
    links = {"x": X, "y": ["sample*", ["categorical", map_]]}
    graph = Graph.from_document(make_document(links))
    assert show(graph.node("y").distribution) == expected
