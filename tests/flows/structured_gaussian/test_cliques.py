"""Tests of flows.structured_gaussian.cliques: plans against elimination by a matrix."""

import numpy as np
import pytest

from flows.errors import ArgumentError
from flows.structured_gaussian.cliques import MOST_CLIQUE_COLUMNS, plan_of


def random_scopes(seed, size=9, count=12):
    generator = np.random.default_rng(seed)
    pairs = [tuple(generator.choice(size, 2, replace=False)) for _ in range(count)]
    return [tuple(map(int, pair)) for pair in pairs]


@pytest.mark.parametrize("seed", range(5))
def test_parents_are_the_columns_of_the_root_of_a_matrix_of_that_pattern(seed):
    size, scopes = 9, random_scopes(seed)
    matrix = 10.0 * np.eye(size)
    for number, (i, j) in enumerate(scopes):
        matrix[i, j] = matrix[j, i] = 0.1 + 0.01 * number
    root = np.linalg.cholesky(matrix[::-1, ::-1])[::-1, ::-1].T
    plan = plan_of(size, scopes)
    for column in range(size):
        _, _, clique = plan.clique(column)
        before = {c for c in clique if c < column}
        assert before == {*np.flatnonzero(np.abs(root[column]) > 1e-12)} - {column}


def test_each_column_is_eliminated_once_and_after_all_that_speak_to_it():
    plan = plan_of(9, random_scopes(7))
    order = [c for batch in plan.batches for own in batch.own for c in own]
    assert sorted(order) == list(range(9))
    for number, batch in enumerate(plan.batches):
        for parents in batch.parents:
            assert all(plan.place[c][0] > number for c in parents)


def test_plate_takes_two_steps_chain_one_each_and_clique_one_at_all():
    plate = plan_of(50, [(0, i) for i in range(1, 50)])
    chain = plan_of(50, [(i, i + 1) for i in range(49)])
    whole = plan_of(50, [range(50)])
    assert [len(p.batches) for p in (plate, chain, whole)] == [2, 49, 1]


def test_clique_that_is_too_large_is_refused():
    with pytest.raises(ArgumentError, match="depend on each other too widely"):
        plan_of(MOST_CLIQUE_COLUMNS + 1, [range(MOST_CLIQUE_COLUMNS + 1)])
