"""This file orders columns for elimination, so that many are eliminated at once.

In rounds: of the columns with fewest neighbours, as many as are no neighbours of each
other; then their neighbours are each other's. Of a chain a round takes every second
column, so that its rounds are as many as the logarithm of its length.
"""

from collections.abc import Iterable

__all__ = ["elimination_rounds"]

_ALWAYS = 2
"""Neighbours of a column whose elimination joins no more than one pair."""


def elimination_rounds(size: int, scopes: Iterable[Iterable[int]]) -> list[int]:
    """Return the columns in the order of their elimination.

    Args:
        size: Number of columns.
        scopes: Columns that a potential joins.

    Example:
        >>> elimination_rounds(5, [(0, 1), (1, 2), (2, 3), (3, 4)])
        [0, 4, 2, 1, 3]
    """
    near: list[set[int]] = [set() for _ in range(size)]
    for scope in map(set, scopes):
        for column in scope:
            near[column] |= scope - {column}
    left = set(range(size))
    order: list[int] = []
    while left:
        fewest = max(_ALWAYS, min(len(near[column]) for column in left))
        taken: set[int] = set()
        for column in sorted(left, key=lambda each: (len(near[each]), each)):
            if len(near[column]) > fewest:
                break
            if taken.isdisjoint(near[column]):
                taken.add(column)
        for column in sorted(taken, key=lambda each: (len(near[each]), each)):
            for one in near[column]:
                near[one] |= near[column] - {one}
                near[one].discard(column)
            order.append(column)
        left -= taken
    return order
