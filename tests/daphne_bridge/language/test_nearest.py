"""Tests of daphne_bridge.language.nearest."""

import pytest

from daphne_bridge.compiler import compile_program
from daphne_bridge.errors import CompileError
from daphne_bridge.language.nearest import or_nearest


@pytest.mark.parametrize(
    ("program", "name"),
    [
        ("(sample (nomal 0 1))", "normal"),
        ("(let [slope (sample (normal 0 1))] (+ slop 1))", "slope"),
        ("(defn double-it [x] (* 2 x)) (doubel-it 3)", "double-it"),
        ("(lett [x 1] x)", "let"),
        ("(sample (half-cauchi 1))", "half-cauchy"),
        ("(nht [1 2] 0)", "nth"),
        ("(sample (gausian 0 1))", "normal"),
        ("(sample (expon 1))", "exponential"),
        ("(len [1 2])", "count"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_known_one(program, name):
    with pytest.raises(CompileError, match=f"perhaps {name};"):
        compile_program(program, "p.daphne")


def test_nothing_is_proposed_where_no_name_is_near():
    assert or_nearest("a name", "zzz", ["normal"]) == "a name"


def test_a_name_that_one_other_begins_with_is_answered_with_that():
    known = ["budget_seconds", "batch_size", "final_batch_size"]
    assert or_nearest("a key", "budget", known) == "a key, perhaps budget_seconds"
    assert or_nearest("a key", "bat", known) == "a key"
    assert or_nearest("a key", "batch", [*known, "batch_more"]) == "a key"
