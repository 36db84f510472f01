"""This file plans how a Gaussian's columns are eliminated, the last sampled first.

Eliminating column i joins the columns that it shares a potential or a message with;
those of them that are sampled before i are its parents. Columns whose parents are each
other and one common set are one clique: `own` columns, eliminated together by a
Cholesky root, and `parents`. What a clique says of its parents is a message to the
clique that owns the last sampled of them. Cliques of one shape and height in this tree
are one batch, so that a chain takes a step for each column, and a plate one for all.

Reference: Liu, "The multifrontal method for sparse matrix solution" (1992).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..errors import ArgumentError

__all__ = ["MOST_CLIQUE_COLUMNS", "Batch", "Plan", "plan_of"]

MOST_CLIQUE_COLUMNS = 512
"""Of one clique; its cost grows with the cube."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Cliques that are eliminated at once; columns in descending order.

    Args:
        own: columns that each clique eliminates.
        parents: columns that each clique speaks of, sampled before its own.
    """

    own: tuple[tuple[int, ...], ...]
    parents: tuple[tuple[int, ...], ...]

    @property
    def width(self) -> int:
        """Columns of one clique."""
        return len(self.own[0]) + len(self.parents[0])


@dataclass(frozen=True)
class Plan:
    """An order of elimination.

    Args:
        batches: in the order of elimination.
        place: batch and position of the clique that owns a column.
    """

    batches: tuple[Batch, ...]
    place: tuple[tuple[int, int], ...]

    def clique(self, column: int) -> tuple[int, int, tuple[int, ...]]:
        """Batch and position of the clique that owns a column, and all its columns."""
        batch, position = self.place[column]
        found = self.batches[batch]
        return batch, position, found.own[position] + found.parents[position]


def plan_of(size: int, scopes: Iterable[Iterable[int]]) -> Plan:
    """The elimination of columns from the last to the first.

    Args:
        size: number of columns, numbered in sampling order.
        scopes: columns that potentials join.

    Raises:
        ArgumentError: if a clique would be larger than `MOST_CLIQUE_COLUMNS`.

    Example:
        >>> plan = plan_of(4, [(0, 1), (0, 2), (0, 3)])
        >>> [(batch.own, batch.parents) for batch in plan.batches]
        [(((3,), (2,), (1,)), ((0,), (0,), (0,))), (((0,),), ((),))]
    """
    parents = _parents(size, scopes)
    heads = [max(each, default=-1) for each in parents]
    children = Counter(heads)
    own: list[list[int]] = []
    clique = [-1] * size
    for column in reversed(range(size)):
        if clique[column] < 0:
            clique[column] = len(own)
            own.append([column])
        head = heads[column]
        if (
            head >= 0
            and children[head] == 1
            and parents[column] == {head} | parents[head]
        ):
            clique[head] = clique[column]
            own[clique[column]].append(head)
    height = [0] * len(own)
    for number in sorted(range(len(own)), key=lambda n: -own[n][0]):
        above = heads[own[number][-1]]
        if above >= 0:
            height[clique[above]] = max(height[clique[above]], height[number] + 1)
    return _plan(size, own, [sorted(parents[o[-1]], reverse=True) for o in own], height)


def _parents(size: int, scopes: Iterable[Iterable[int]]) -> list[set[int]]:
    """Columns that each is joined with when it is eliminated."""
    waiting: list[set[int]] = [{column} for column in range(size)]
    for scope in map(set, scopes):
        waiting[max(scope)] |= scope
    for column in reversed(range(size)):
        scope = waiting[column]
        scope.discard(column)
        if len(scope) >= MOST_CLIQUE_COLUMNS:
            raise ArgumentError.at(
                "structured-gaussian",
                "latents depend on each other too widely given the data",
                f"cliques of at most {MOST_CLIQUE_COLUMNS} columns",
                f"one of {len(scope) + 1}",
            )
        if scope:
            waiting[max(scope)] |= scope
    return waiting


def _plan(
    size: int,
    own: Sequence[Sequence[int]],
    parents: Sequence[Sequence[int]],
    height: Sequence[int],
) -> Plan:
    groups: dict[tuple[int, int, int], list[int]] = {}
    for number, columns in enumerate(own):
        shape = height[number], len(columns), len(parents[number])
        groups.setdefault(shape, []).append(number)
    place = [(-1, -1)] * size
    batches: list[Batch] = []
    for _, numbers in sorted(groups.items()):
        for position, number in enumerate(numbers):
            for column in own[number]:
                place[column] = len(batches), position
        batches.append(
            Batch(
                tuple(tuple(own[number]) for number in numbers),
                tuple(tuple(parents[number]) for number in numbers),
            )
        )
    return Plan(tuple(batches), tuple(place))
