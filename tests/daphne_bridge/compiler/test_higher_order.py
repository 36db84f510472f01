"""Tests of daphne_bridge.compiler.higher_order."""

import pytest

from daphne_bridge.compiler import compile_program
from daphne_bridge.errors import CompileError

from ..refusals import refusal

PROGRAM = "(defn low? [x] (< x 1)) (let [z (foreach 2 [] (sample (poisson 1)))] {})"


def result(body):
    return compile_program(PROGRAM.format(body), "p.daphne").document[2]


@pytest.mark.parametrize(
    ("kept", "count"),
    [
        ("(filter (fn [x] (= x 0)) z)", "(reduce + (map (fn [x] (if (= x 0) 1 0)) z))"),
        ("(filter low? z)", "(reduce + (map (fn [x] (if (low? x) 1 0)) z))"),
        ("(remove low? z)", "(reduce + (map (fn [x] (if (low? x) 0 1)) z))"),
    ],
)
def test_elements_that_a_random_test_keeps_are_counted_as_the_message_says(kept, count):
    found = str(refusal(CompileError, result, f"(count {kept})"))
    assert f"or for their count {count}; got" in found
    test = "(= {} 0)" if "=" in kept else "(< {} 1)"
    numbers = "0 1" if "remove" in kept else "1 0"
    terms = (f"(if {test.format(f'(get z {i})')} {numbers})" for i in range(2))
    assert result(count) == result(f"(+ {' '.join(terms)})")


def test_a_long_filter_is_not_written_out_in_the_message():
    long = " ".join(f"(= x {i})" for i in range(40))
    found = str(refusal(CompileError, result, f"(filter (fn [x] (or {long})) z)"))
    assert "(reduce + (map (fn [x] (if (test x) 1 0)) xs))" in found


def test_what_is_taken_while_a_random_test_holds_is_refused_without_a_count():
    found = str(refusal(CompileError, result, "(take-while low? z)"))
    assert "known at compile time; got" in found
