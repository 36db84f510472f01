"""Tests of flows.marginal.specialise."""

import itertools

from daphne_bridge.graph.expression import evaluate
from flows.marginal.specialise import Specialiser

NAMES = ("a", "b", "c")


def expression(table, first, second):
    """(+ (get {0 x 1 [first]} first) (* second second)), x a continuous latent."""
    read, other, free = map(table.reference, (first, second, "x"))
    choices = table.call(
        "hash-map", [table.constant(0), free, table.constant(1), table.constant(3)]
    )
    return table.call(
        "+", [table.call("get", [choices, read]), table.call("*", [other, other])]
    )


def test_a_specialised_expression_has_the_value_of_the_original():
    specialiser = Specialiser(NAMES)
    root = expression(specialiser.table, "a", "b")
    assert specialiser.reads(root) == ("a", "b")
    for a, b in itertools.product((0, 1), repeat=2):
        found = specialiser.at(root, {"a": a, "b": b})
        whole = {"a": a, "b": b, "x": 0.5}
        assert evaluate(found, {"x": 0.5}) == evaluate(root, whole)


def test_expressions_that_differ_in_latents_alone_become_the_same_object():
    specialiser = Specialiser(NAMES)
    one, two = (expression(specialiser.table, *names) for names in ("ab", "bc"))
    assert one is not two
    first = specialiser.at(one, {"a": 0, "b": 1})
    assert specialiser.at(two, {"b": 0, "c": 1}) is first
    assert specialiser.at(two, {"b": 1, "c": 0}) is not first


def test_all_configurations_at_once_are_those_one_by_one():
    specialiser = Specialiser(NAMES)
    table = specialiser.table
    values = {"a": (0, 1), "b": (0, 1, 2), "c": (1,)}
    late = table.call("<", [table.reference("b"), table.reference("c")])
    root = table.call(
        "if",
        [late, expression(table, "a", "b"), expression(table, "a", "c")],
    )
    found = specialiser.everywhere(root, NAMES, values)
    assert found.places.shape == (2, 3)
    assert len(found.made) < 6
    for (i, a), (j, b) in itertools.product(enumerate((0, 1)), enumerate((0, 1, 2))):
        alone = specialiser.at(root, {"a": a, "b": b, "c": 1})
        assert found.made[found.places[i, j]] is alone


def test_what_reads_no_discrete_latent_is_the_same_everywhere():
    specialiser = Specialiser(NAMES)
    root = specialiser.table.call("exp", [specialiser.table.reference("x")])
    found = specialiser.everywhere(root, ("a",), {"a": (0, 1)})
    assert len(found.made) == 1
    assert found.places.shape == (1,)


def test_many_latents_of_one_value_are_no_axes():
    names = [f"d{i}" for i in range(100)]
    specialiser = Specialiser(names)
    table = specialiser.table
    root = table.call("+", [table.reference(name) for name in names])
    found = specialiser.everywhere(root, names, dict.fromkeys(names, (1,)))
    assert found.made[int(found.places)] is table.constant(100)
