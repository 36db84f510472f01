"""Tests of the compiler's other outputs: desugar, factor graph, edn, data."""

import pytest

from daphne_bridge.compiler import (
    compile_program,
    desugar_program,
    factor_graph,
    parse_data,
    show_edn,
)
from daphne_bridge.compiler.desugar import desugar
from daphne_bridge.compiler.forms import show
from daphne_bridge.compiler.reader import read
from daphne_bridge.compiler.source import Source
from daphne_bridge.errors import ReadError


def core(text):
    (form,) = read(text, "p")
    return show(desugar(form, Source(text, "p")))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(let [a 1 b 2] c d)", "(let [a 1] (let [b 2] (let [dontcare0 c] d)))"),
        ("(let [] c)", "c"),
        ("(let [a 1])", "(let [a 1] nil)"),
        ("(if c t)", "(if c t nil)"),
        ("(loop 0 s f x)", "(let [a0 x] s)"),
        (
            "(loop 2 s f x)",
            "(let [a0 x] (let [acc1 (f 0 s a0)] (let [acc2 (f 1 acc1 a0)] acc2)))",
        ),
        ("(loop n s f)", "(loop n s f)"),
        (
            "(foreach 2 [v e] b)",
            "[(let [v (get e 0)] b) (let [v (get e 1)] b)]",
        ),
        ("(foreach 2 [] b)", "[b b]"),
        (
            "(foreach 2 [v [(sample d)]] v)",
            "(let [a0 [(sample d)]] [(let [v (get a0 0)] v) (let [v (get a0 1)] v)])",
        ),
        ("(foreach n [v e] b)", "(foreach n [v e] b)"),
        ("[(if a b) {:k (if c d)}]", "[(if a b nil) {:k (if c d nil)}]"),
    ],
)
def test_sugar_is_written_in_the_core_language(text, expected):
    assert core(text) == expected


def test_generated_names_avoid_the_programs_own():
    assert core("(let [dontcare0 1] 2 dontcare0)") == (
        "(let [dontcare0 1] (let [dontcare1 2] dontcare0))"
    )


def test_the_desugar_action_lists_every_form():
    forms = desugar_program("(defn f [x] {:a [x]})\n(let [y 1] (f y))", "p")
    assert forms == [
        ["defn", "f", ["x"], ["hash-map", "a", ["vector", "x"]]],
        ["let", ["y", 1], ["f", "y"]],
    ]


def test_a_factor_graph_gives_every_call_a_variable():
    graph = factor_graph(
        "(let [x (sample (normal 0 1)) y (* 2 (+ x 1))] (observe (normal y 1) 3))", "p"
    )
    assert graph["psi"] == {
        "f-sample0": ["sample*", ["normal", 0, 1]],
        "f-dirac0": ["sample*", ["dirac", ["+", "sample0", 1]]],
        "f-dirac1": ["sample*", ["dirac", ["*", 2, "dirac0"]]],
        "f-observe1": ["observe*", ["normal", "dirac1", 1], 3],
    }
    assert graph["X"] == ["sample0", "dirac0", "dirac1", "observe1"]
    assert graph["A"]["dirac0"] == ["f-dirac0", "f-dirac1"]
    assert graph["A"]["sample0"] == ["f-sample0", "f-dirac0"]


def test_a_shared_call_is_one_variable_of_the_factor_graph():
    program = "(let [x (sample (normal 0 1)) y (+ x 1)] (sample (normal (* y y) 1)))"
    assert factor_graph(program, "p")["psi"]["f-dirac1"] == [
        "sample*",
        ["dirac", ["*", "dirac0", "dirac0"]],
    ]


def test_edn_tells_names_strings_and_vectors_apart():
    program = """
(defn f [x] (+ x 1))
(let [x (sample (normal 0 1.5))] (observe (normal (f x) 1) 2) ["x" x nil true {:a 1}])
"""
    text = show_edn(compile_program(program, "p").document)
    assert text.startswith("[{f (fn [x] (+ x 1))} {:V #{sample0 observe1}, ")
    assert ":A {sample0 #{observe1}}" in text
    assert "observe1 (observe* (normal (+ sample0 1) 1) 2)" in text
    assert text.endswith(':Y {observe1 2}} ["x" sample0 nil true {a 1}]]')


def test_edn_writes_the_names_of_a_let_as_a_vector():
    program = "(let [x (sample (normal 0 1))] (observe (normal (let [m x] m) 1) 2))"
    text = show_edn(compile_program(program, "p").document)
    assert "(observe* (normal (let [m sample0] m) 1) 2)" in text
    assert show_edn(desugar_program("(let [a 1] a)", "p")) == "((let [a 1] a))"


def test_tables_and_objects_bind_names():
    assert parse_data("x,y\n1,a\n2,b\n", "t.csv") == {"x": [1, 2], "y": ["a", "b"]}
    assert parse_data("x\n1\n2.5\n", "t.csv") == {"x": [1, 2.5]}
    assert parse_data('{"x": [1, 2.5]}', "t.json") == {"x": [1, 2.5]}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("x,x\n1,2\n", "t.csv"),
        ("x,y\n1\n", "t.csv"),
        ("", "t.csv"),
        ("[1]", "t.json"),
        ("{", "t.json"),
        ("[" * 100_000, "t.json"),
    ],
)
def test_data_of_the_wrong_kind_is_refused(text, name):
    with pytest.raises(ReadError, match=name):
        parse_data(text, name)
