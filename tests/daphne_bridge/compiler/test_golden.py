"""Tests of the compiler against the original Daphne, program by program."""

import json
import re
from pathlib import Path

import pytest

from daphne_bridge.compiler import compile_program
from daphne_bridge.errors import BridgeError

from ...golden.comparison import difference
from ..refusals import refusal

PROGRAMS = Path(__file__).parents[2] / "golden" / "programs"
INDEX = json.loads((PROGRAMS / "index.json").read_text())
DERIVED = json.loads((PROGRAMS.parent / "derived.json").read_text())


def named(kind):
    return sorted(name for name, entry in INDEX.items() if entry["kind"] == kind)


def compiled(name):
    text = (PROGRAMS / f"{name}.daphne").read_text()
    return compile_program(text, f"{name}.daphne")


@pytest.mark.parametrize("name", named("good"))
def test_a_good_program_gives_the_original_document(name):
    theirs = json.loads((PROGRAMS / f"{name}.json").read_text())
    assert difference(compiled(name).document, theirs) == ""


@pytest.mark.parametrize("name", sorted(DERIVED))
def test_a_program_gives_the_document_that_the_description_says(name):
    """The documents follow the written description of the original's passes.

    They were derived by rewriting program text as it says, by a program that gives the
    original's own documents for every good program of the golden folder.
    """
    program, theirs = DERIVED[name]["program"], DERIVED[name]["document"]
    ours = compile_program(program, f"{name}.daphne").document
    assert difference(ours, theirs) == ""


LEARNED = {"b_unknown_dist"}
"""Programs whose fault was a distribution that the language has since learned."""


@pytest.mark.parametrize("name", sorted({*named("bad")} - LEARNED))
def test_a_bad_program_is_refused_with_a_place_and_a_reason(name):
    problem = refusal(BridgeError, compiled, name)
    assert re.fullmatch(rf"{name}\.daphne:\d+:\d+", problem.where)
    assert problem.what
    assert problem.expected
    assert problem.got
    line, caret = problem.context.split("\n")
    column = int(problem.where.rpartition(":")[2])
    assert caret.index("^") == column + 1
    assert line.startswith("  ")


def links(name):
    return compiled(name).document[1]["P"]


def test_cond_is_a_branch_and_guards_its_observes():
    condition = [">", "sample0", 0]
    assert links("q_cond")["observe1"][:2] == ["if", ["and", True, condition]]
    assert links("q_cond")["observe2"][:2] == [
        "if",
        ["and", True, ["not", condition]],
    ]


def test_a_let_name_hides_a_function_of_the_library():
    assert compiled("q_core_name_shadowed").document[2] == ["str", "sample0", 1]


def test_functions_are_inlined_inside_observes():
    document = compiled("q_defn_in_observe").document[1]
    link = document["P"]["observe1"]
    assert link == ["observe*", ["normal", ["*", "sample0", "sample0"], 1], 2]
    assert set(document["A"]) == {"sample0"}


def test_a_foreach_in_the_first_binding_is_unrolled():
    link_functions = links("q_first_binding_foreach")
    means = [link[1][1] for name, link in link_functions.items() if "sample" in name]
    assert means == [10, 20, 30]


def test_a_loop_whose_value_is_used_twice_runs_once():
    assert list(links("q_first_binding_loop_twice")) == [
        "sample0",
        "sample1",
        "observe2",
    ]


def test_flatten_keeps_random_calls_whole():
    result = compiled("q_flatten_corrupts").document[2]
    assert result == ["vector", ["+", "sample0", 1], 2]


def test_foreach_names_hide_outer_names():
    observations = compiled("q_foreach_name_reuse").document[1]["Y"]
    assert list(observations.values()) == [1.0, 2.0]


def test_an_empty_let_has_its_body():
    assert compiled("q_let_empty").document[2] == "sample0"


def test_a_sample_in_a_map_is_one_variable():
    document = compiled("q_map_duplicates").document
    assert document[1]["V"] == ["sample0", "observe1"]
    assert document[2] == "sample0"


def test_an_observe_that_nobody_reads_is_kept():
    assert "observe1" in links("q_observe_dropped")


def test_rebinding_a_name_sees_its_former_value():
    assert links("q_rebind")["observe1"][1] == ["normal", ["+", "sample0", 1], 1]


def test_a_sample_inside_an_observe_is_a_parent():
    assert compiled("q_sample_in_observe").document[1]["A"] == {"sample0": ["observe1"]}


def test_a_dead_branch_leaves_no_variable():
    assert compiled("q_top_if").document[1]["V"] == ["observe0"]


def test_a_loop_at_the_top_is_unrolled():
    assert len(links("q_top_loop")) == 3


def test_quoted_lists_are_data():
    assert compiled("q_quote_list").document[2][1] == ["vector", 1, 2]


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("q_foreach_random_count", "2:12"),
        ("q_free_names", "5:21"),
        ("q_memo_list_vector", "3:10"),
        ("q_observe_random_value", "2:25"),
    ],
)
def test_a_quirk_without_a_meaning_is_refused_where_it_stands(name, place):
    where = refusal(BridgeError, compiled, name).where
    assert where == f"{name}.daphne:{place}"
