"""Tests of sequences that stand for a name: Daphne takes them for calls."""

import pytest

from daphne_bridge.compiler import compile_program
from daphne_bridge.errors import CompileError

from ...golden.comparison import difference
from ..refusals import refusal


def result(body, bindings=""):
    text = f"(let [x (sample (normal 0 1)) {bindings}] {body})"
    return compile_program(text, "p.daphne").document[2]


@pytest.mark.parametrize(
    ("bindings", "body", "expected"),
    [
        ("b (list 1 2)", "(first b)", ["first", ["vector", 1, 2]]),
        ("b (list 1 2)", "(+ 1 (count b))", ["+", 1, ["count", ["vector", 1, 2]]]),
        ("b (reverse [1 2])", "(nth b 0)", ["nth", ["vector", 2, 1], 0]),
        ("b (rest [1 2 3])", "(first b)", 2),
        ("b (rest [1 2 3])", "(reverse b)", ["reverse", ["vector", 2, 3]]),
        ("b (rest [1 2 3])", "(cons 9 b)", ["cons", 9, ["vector", 2, 3]]),
        ("b (vec (reverse [1 2]))", "(+ 1 (first b))", 3),
        ("", "(first (list 1 2))", 1),
        ("m {:a (rest [1 2])}", "(first (get m :a))", 2),
    ],
)
def test_core_functions_look_into_a_sequence_as_daphne_does(bindings, body, expected):
    assert result(body, bindings) == expected


def test_a_list_that_has_a_name_still_decides_conditions_and_counts():
    assert result("(if (= (count b) 2) x 5)", "b (list 1 2)") == "sample0"
    assert result("(foreach (count b) [i b] (* i x))", "b (list 1 2)") == [
        "vector",
        ["*", 1, "sample0"],
        ["*", 2, "sample0"],
    ]


def test_a_let_that_ends_in_an_empty_vector_writes_no_functions():
    text = "(defn f [x] x) (let [a (f 1)] [])"
    document = compile_program(text, "p.daphne").document
    theirs = [{}, {"V": [], "A": {}, "P": {}, "Y": {}}, ["vector"]]
    assert difference(document, theirs) == ""


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("(let [x 1])", "let has no body"),
        ("(foreach 2 [i [1 2]])", "foreach has no body"),
        ("(+)", "+ is called without arguments"),
        ("(observe (normal 0 1) nil)", "normal draws a number"),
        ('(observe (normal 0 1) "a")', "normal draws a number"),
        ("(observe (flip 0.5) 2)", "flip draws one of two values"),
        ("(observe (dirichlet [1 1]) 1)", "dirichlet draws a vector"),
        ('(get "abc" 0)', "characters are not part of the language"),
    ],
)
def test_what_has_no_meaning_is_refused(text, what):
    assert refusal(CompileError, compile_program, text, "p.daphne").what == what
