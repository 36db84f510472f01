"""Tests of daphne_bridge.compiler.definitions: functions with a name and without."""

import pytest

from daphne_bridge.compiler import compile_program
from daphne_bridge.errors import CompileError

from ..refusals import refusal

X = "(let [x (sample (normal 0 1))] {})"


def result(text):
    return compile_program(text, "p.daphne").document[2]


@pytest.mark.parametrize(
    ("body", "same"),
    [
        ("((fn [y] (+ y x)) 2)", "(+ 2 x)"),
        ("(map (fn [y] (* y x)) [1 2])", "[(* 1 x) (* 2 x)]"),
        ("(reduce (fn [a b] (+ a b)) 0 [x 2])", "(+ (+ 0 x) 2)"),
        ("(let [f (fn [y] (* y x)) x 5] [(f 2) x])", "[(* 2 x) 5]"),
        ("((fn [y] (let [z y] z)) x)", "x"),
        ("((fn [f] (f x)) (fn [y] (- y)))", "(- x)"),
        ("(let [f (fn [] (sample (normal x 1)))] [(f)])", "[(sample (normal x 1))]"),
        ("((fn down [n] (if (> n 0) (down (- n 1)) x)) 3)", "x"),
        ("((fn [y] y y x) 1)", "x"),
    ],
)
def test_an_anonymous_function_is_its_body_with_the_names_around_it(body, same):
    assert result(X.format(body)) == result(X.format(same))


def test_a_program_may_call_a_function_fn():
    assert result("(defn fn [a b] (+ a b)) " + X.format("(fn x 2)")) == [
        "+",
        "sample0",
        2,
    ]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("((fn [y]) 1)", "no body"),
        ("((fn y y) 1)", "no parameter vector"),
        ("((fn [[a b]] a) 1)", "a parameter that is no name"),
        ("((fn [a] a) 1 2)", "wrong number of arguments"),
        ("((fn again [n] (again n)) 1)", "do not end at compile time"),
    ],
)
def test_an_anonymous_function_that_is_none_is_refused(body, sentence):
    assert sentence in str(refusal(CompileError, result, X.format(body)))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("(sample (if c (normal 0 1)))", "no distribution in its else branch"),
        ("(sample (if c 1 (normal 0 1)))", "no distribution in its then branch"),
        ("(if (== c true) 1 2)", "= compares any values"),
    ],
)
def test_a_branch_or_comparison_that_lacks_something_says_what(text, sentence):
    program = f"(let [c (sample (flip 0.3))] {text})"
    assert sentence in str(refusal(CompileError, result, program))


@pytest.mark.parametrize("text", ['{"x": 1}', '[{},{"V":["a"]},"a"]', ' [ {"a":1} ]\n'])
def test_json_is_no_program(text):
    with pytest.raises(Exception, match="this is JSON, not a program"):
        compile_program(text, "p.daphne")
