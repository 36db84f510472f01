"""Tests of flows.marginal.order."""

from flows.marginal.order import elimination_order


def test_the_ends_of_a_chain_wait_for_its_middle():
    order = elimination_order([3] * 101, [[v, v + 1] for v in range(100)])
    assert order.largest == 27
    assert not {0, 100} & {v for variables in order.rounds[:2] for v in variables}
    assert sorted(v for variables in order.rounds for v in variables) == [*range(101)]


def test_variables_of_as_many_costs_as_there_are_variables_do_not_wait():
    sizes = list(range(2, 40))
    order = elimination_order(sizes, [[v] for v in range(len(sizes))])
    assert sorted(v for variables in order.rounds for v in variables) == [
        *range(len(sizes))
    ]
