"""Tests of flows.model.dag."""

import pytest

from flows.model.dag import Dag


def test_equal_operations_have_one_slot():
    dag = Dag()
    x = dag.variable("x")
    assert dag.emit("exponential", [x]) == dag.emit("exponential", [x])
    assert dag.variable("x") == x
    assert dag.constant(1.0) == dag.constant(1)
    assert dag.constant(0.0) != dag.constant(-0.0)
    assert dag.constant(float("nan")) == dag.constant(float("nan"))


def test_affine_folds_constants_and_merges_terms():
    dag = Dag()
    x, y = dag.variable("x"), dag.variable("y")
    slot = dag.affine([(x, 2.0), (dag.constant(3.0), 2.0), (y, 1.0), (x, 1.0)], 0.5)
    assert dag[slot].inputs == (x, y)
    assert dag[slot].attribute == ((3.0, 1.0), 6.5)
    assert dag.affine([(x, 1.0)], 0.0) == x
    assert dag.number(dag.affine([(dag.constant(2.0), 3.0)], 1.0)) == 7.0


def test_a_left_fold_becomes_one_sum():
    dag = Dag()
    parts = [dag.variable(i) for i in range(5000)]
    total = dag.constant(0.0)
    for part in parts:
        total = dag.affine([(total, 1.0), (part, 2.0)], 1.0)
    row = dag.affine_terms([total])[total]
    assert row.terms == dict.fromkeys(parts, 2.0)
    assert row.bias == pytest.approx(5000.0)


def test_shared_doubling_is_flattened_without_walking_every_path():
    dag = Dag()
    x = dag.variable("x")
    value = dag.affine([(x, 1.0)], 1.0)
    for _ in range(60):
        other = dag.affine([(value, 1.0)], 1.0)
        value = dag.affine([(value, 1.0), (other, 1.0)], 0.0)
    row = dag.affine_terms([value])[value]
    assert row.terms == {x: 2.0**60}


def test_running_sums_cost_a_bounded_multiple_of_their_number():
    dag = Dag()
    total, demanded = dag.affine([(dag.variable(0), 1.0)], 1.0), []
    for step in range(1, 3000):
        total = dag.affine([(total, 1.0), (dag.variable(step), 1.0)], 0.0)
        demanded.append(total)
    rows = dag.affine_terms(demanded)
    assert max(len(row.terms) for row in rows.values()) <= 512
    assert sum(len(row.terms) for row in rows.values()) <= 512 * 3000


def test_steps_of_a_nonlinear_equation_read_the_state_before_them():
    dag = Dag()
    state, demanded = dag.affine([(dag.variable("x"), 2.0)], 1.0), []
    for _ in range(300):
        demanded.append(state)
        square = dag.emit("multiply", (state, state))
        state = dag.affine([(state, 1.0), (square, -0.1)], 0.0)
    rows = dag.affine_terms([*demanded, state])
    assert max(len(row.terms) for row in rows.values()) == 2


def test_a_sum_that_waits_for_nothing_but_sums_is_written_out():
    dag = Dag()
    x, y = dag.variable("x"), dag.variable("y")
    inner = dag.affine([(x, 2.0)], 1.0)
    outer = dag.affine([(inner, 3.0), (y, 1.0)], 0.5)
    rows = dag.affine_terms([inner, outer])
    assert rows[outer].terms == {x: 6.0, y: 1.0}
    assert rows[outer].bias == 3.5
