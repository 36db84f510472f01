"""Tests of daphne_bridge.compiler.shared_parts."""

import pytest

from daphne_bridge.compiler import compile_program, emission
from daphne_bridge.compiler.shared_parts import with_shared
from daphne_bridge.graph.document import (
    GraphDocument,
    format_document,
    parse_document,
)
from daphne_bridge.graph.graph import Graph


def euler(steps):
    """Text of an equation whose steps read the state many times."""
    return f"""(defn step [i s k] (let [u (first s) v (second s)]
        [(+ u (* 0.01 v (- 1 u))) (- v (* 0.01 k u v))]))
      (let [k (sample (gamma 2 2)) end (loop {steps} [0.5 0.5] step k)]
        (observe (normal (first end) 0.1) 0.7)
        (if (< (second end) 1) (observe (normal (second end) 0.1) 0.4) 0)
        {{:end end :k k}})"""


def graph_of(text):
    return Graph.from_document(parse_document(text, "euler.json"))


def text_of(program):
    triple = compile_program(program, "euler.daphne").document
    return format_document(GraphDocument.from_triple(triple, "euler.json"))


def test_a_document_with_names_for_what_is_repeated_is_the_same_graph(monkeypatch):
    program = euler(11)
    short = text_of(program)
    monkeypatch.setattr(emission, "is_large", lambda values: False)
    long = text_of(program)
    assert "shared0" in short
    assert "shared" not in long
    assert len(long) > 100 * len(short)
    assert graph_of(short).digest == graph_of(long).digest


def test_small_documents_are_those_of_daphne():
    assert "shared" not in text_of(euler(4))


def test_hundreds_of_steps_are_written_and_read():
    graph = graph_of(text_of(euler(400)))
    assert graph.latents == ("sample0",)
    assert len(graph.observed) == 2


@pytest.mark.parametrize("name", ["shared0", "shared1"])
def test_names_of_the_document_stay_what_they_are(name):
    program = euler(11).replace(
        "[k (sample", f"[{name} (sample (normal 0 1)) k (sample"
    )
    program = program.replace(
        "(sample (normal 0 1))", f'(sample "{name}" (normal 0 1))'
    )
    program = program.replace("(first end) 0.1", f"(+ {name} (first end)) 0.1")
    graph = graph_of(text_of(program))
    assert any(node.startswith(name) for node in graph.latents)


def test_arrays_of_one_object_are_written_once():
    part = ["*", "v", 2]
    whole = ["+", part, ["-", part], ["*", "v", 2], "shared0"]
    assert with_shared(whole) == [
        "let",
        ["shared1", ["*", "v", 2]],
        ["+", "shared1", ["-", "shared1"], ["*", "v", 2], "shared0"],
    ]
