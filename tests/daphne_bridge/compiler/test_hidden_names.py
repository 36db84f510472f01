"""Tests of daphne_bridge.compiler.hidden_names."""

import pytest

from daphne_bridge.compiler import compile_program
from daphne_bridge.errors import CompileError

PROGRAM = """(let [m (sample (normal 0 10))]
  (foreach (count y) [v y] (observe (normal m 1) v))
  m)"""


def test_a_function_that_a_column_hides_is_named_first():
    with pytest.raises(CompileError) as caught:
        compile_program(PROGRAM, "c.daphne", {"y": [1, 2], "count": [5, 6]})
    assert [str(p).splitlines()[0] for p in caught.value.problems] == [
        "c.daphne:2:13: the data bind count, which hides the function of this name; "
        "expected another name than count in the data, or in the program",
        "c.daphne:2:12: an integer is needed, not a vector of 2; expected a call of "
        "get with a value; got (get [...])",
    ]


def test_the_remedy_works_and_a_column_may_be_looked_up_by_such_a_name():
    compile_program(PROGRAM, "c.daphne", {"y": [1, 2], "n": [5, 6]})
    looked_up = "(let [m (sample (normal 0 1))] (observe (normal m 1) (count 1)) m)"
    compiled = compile_program(looked_up, "c.daphne", {"count": [5, 6]})
    assert compiled.document[1]["Y"] == {"observe1": 6}


@pytest.mark.parametrize(
    "program",
    [
        "(sample (norm 0 1))",
        "(if x 1)",
        "(let [mean (fn [x] x) m (sample (normal (mean 0) 1))] (foo m))",
    ],
)
def test_other_errors_are_as_they_were(program):
    said = []
    for data in (None, {"mean": 1}):
        with pytest.raises(CompileError) as caught:
            compile_program(program, "c", data)
        said.append(str(caught.value))
    assert said[0] == said[1]
