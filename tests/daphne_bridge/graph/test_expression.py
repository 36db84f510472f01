"""Tests of daphne_bridge.graph.expression."""

import pytest

from daphne_bridge.graph.expression import (
    Call,
    Constant,
    EvaluationError,
    ExpressionTable,
    evaluate,
    free_names,
    postorder,
    show,
)
from daphne_bridge.language.primitives import HashMap, Keyword


@pytest.fixture
def table():
    return ExpressionTable()


def test_equal_expressions_are_the_same_object(table):
    def make():
        return table.call("+", [table.reference("a"), table.constant(1.5)])

    assert make() is make()


@pytest.mark.parametrize(("left", "right"), [(1, 1.0), (1, True), (0.0, -0.0)])
def test_constants_of_different_kinds_are_different(table, left, right):
    assert table.constant(left) is not table.constant(right)


def test_access_to_a_literal_vector_picks_the_member(table):
    a, b = table.reference("a"), table.reference("b")
    vector = table.call("vector", [a, b])
    assert table.call("get", [vector, table.constant(1)]) is b
    assert table.call("nth", [vector, table.constant(0)]) is a
    assert table.call("first", [vector]) is a
    assert table.call("last", [vector]) is b
    assert table.call("count", [vector]) is table.constant(2)
    assert isinstance(table.call("get", [vector, table.reference("i")]), Call)


def test_access_to_a_map_picks_by_key(table):
    a = table.reference("a")
    entries = table.call("hash-map", [table.constant(Keyword("k")), a])
    assert table.call("get", [entries, table.constant(Keyword("k"))]) is a


def test_a_literal_map_is_looked_up_in_any_way(table):
    """Seen: every lookup but `get` found nil in a literal map of constants."""
    inner = table.constant(HashMap([(True, 0.9), (1, 0.5), (1.0, 0.2)]))
    outer = table.call("hash-map", [table.constant(Keyword("a")), inner])
    keys = table.constant((Keyword("a"), True))
    assert table.call("get-in", [outer, keys]) is table.constant(0.9)
    assert table.call("count", [inner]) is table.constant(3)
    assert table.call("contains?", [inner, table.constant(1.0)]).value is True


def test_zero_is_true_as_a_condition(table):
    a, b = table.reference("a"), table.reference("b")
    assert table.call("if", [table.constant(0), a, b]) is a
    assert table.call("if", [table.constant(None), a, b]) is b
    choice = table.call("if", [table.reference("c"), a, b])
    assert evaluate(choice, {"c": 0, "a": "yes", "b": "no"}) == "yes"


def test_and_drops_what_is_true_but_keeps_the_last_value(table):
    x = table.reference("x")
    true = table.constant(True)
    assert table.call("and", [true, x]) is x
    assert evaluate(table.call("and", [x, true]), {"x": 3}) is True
    assert evaluate(table.call("and", [true, x, true]), {"x": False}) is False


def test_only_the_branch_taken_is_evaluated(table):
    bad = table.call("/", [table.constant(1), table.reference("zero")])
    choice = table.call("if", [table.reference("c"), table.constant(7), bad])
    assert evaluate(choice, {"c": True, "zero": 0}) == 7
    with pytest.raises(EvaluationError):
        evaluate(choice, {"c": False, "zero": 0})


def test_free_names_come_in_order_of_first_mention(table):
    inner = table.call("*", [table.reference("b"), table.reference("a")])
    assert free_names(table.call("+", [inner, table.reference("c")])) == ("b", "a", "c")


def test_a_deep_chain_is_walked_evaluated_and_shown(table):
    expression = table.reference("x")
    for _ in range(100_000):
        expression = table.call("inc", [expression])
    assert evaluate(expression, {"x": 0}) == 100_000
    assert sum(1 for _ in postorder([expression])) == 100_001
    assert show(expression, limit=20) == "(inc (inc (inc (i..."


def test_shared_parts_are_stored_and_evaluated_once(table):
    expression = table.reference("x")
    for _ in range(200):
        expression = table.call("+", [expression, expression])
    assert evaluate(expression, {"x": 1.0}) == 2.0**200


def test_expressions_are_shown_as_clojure(table):
    call = table.call(
        "f", [table.constant((1, 2.5)), table.constant('a"b'), table.constant(None)]
    )
    assert show(call) == '(f [1 2.5] "a\\"b" nil)'
    assert isinstance(table.constant(3), Constant)
