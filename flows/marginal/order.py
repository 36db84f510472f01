r"""This file decides in which rounds discrete variables are summed out.

Summing out v joins every table that has v in its scope into one over

    {v} ∪ neighbours of v,      cost(v) = product of their cardinalities,

and leaves a table over the neighbours. The cheapest variable goes first (min-weight).
A round takes several variables that share no table, so that a round is few tensor
operations however many variables it sums out: of a chain every second one, of a mixture
all assignments. Beside the cheapest a round takes those that cost up to `_SLACK` times
as much, or up to `_SMALL` entries; where that makes tables larger than one at a time
would, and larger than `_HARMLESS`, variables are taken strictly by cost. Few of one
cost beside many of another, the ends of a chain beside its middle, wait: they would be
an operation of their own in every round.

References:
    Koller and Friedman (2009), Probabilistic Graphical Models, chapter 9.
"""

import heapq
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["EliminationOrder", "connected", "elimination_order"]

_SLACK = 4
_SMALL = 1024
_HARMLESS = 2**13
_FEW = 1 / 8
"""What a round has less often than so much of its most frequent cost waits."""
_LITTLE = 1.25
"""Unless that makes all tables together so many times larger."""


@dataclass(frozen=True, slots=True)
class EliminationOrder:
    """Rounds of variables that are summed out together.

    Attributes:
        rounds: Variables by round; those of one round share no table.
        largest: Entries of the largest joined table.
        total: Entries of all joined tables.
    """

    rounds: tuple[tuple[int, ...], ...]
    largest: int
    total: int


def elimination_order(
    cardinalities: Sequence[int], scopes: Sequence[Sequence[int]]
) -> EliminationOrder:
    """Return rounds in which all variables are summed out.

    Args:
        cardinalities: Number of values of each variable.
        scopes: Variables of each table.

    Example:
        >>> elimination_order([2, 2, 2], [[0, 1], [1, 2]]).rounds
        ((0, 2), (1,))
    """
    waiting = _rounds(cardinalities, scopes, slack=_SLACK, small=_SMALL, few=_FEW)
    if waiting.largest <= _SMALL:
        return waiting
    order = _rounds(cardinalities, scopes, slack=_SLACK, small=_SMALL)
    if waiting.largest <= order.largest and waiting.total <= _LITTLE * order.total:
        order = waiting
    if order.largest <= _HARMLESS:
        return order
    strict = _rounds(cardinalities, scopes, slack=1, small=0)
    return order if order.largest <= strict.largest else strict


def _rounds(
    cardinalities: Sequence[int],
    scopes: Sequence[Sequence[int]],
    *,
    slack: int,
    small: int,
    few: float = 0.0,
) -> EliminationOrder:
    tables: dict[int, frozenset[int]] = {
        number: frozenset(scope) for number, scope in enumerate(scopes)
    }
    held: list[set[int]] = [set() for _ in cardinalities]
    for number, scope in tables.items():
        for variable in scope:
            held[variable].add(number)

    def joined(variable: int) -> frozenset[int]:
        return frozenset((variable,)).union(*(tables[t] for t in held[variable]))

    def cost(variables: frozenset[int]) -> int:
        return math.prod(cardinalities[v] for v in variables)

    latest = [cost(joined(v)) for v in range(len(cardinalities))]
    heap = [(size, v) for v, size in enumerate(latest)]
    heapq.heapify(heap)
    left = set(range(len(cardinalities)))
    rounds: list[tuple[int, ...]] = []
    largest, total = 1, 0
    while left:
        taken: list[int] = []
        used: set[int] = set()
        blocked: list[tuple[int, int]] = []
        limit = 0
        while heap:
            size, variable = heap[0]
            if variable not in left or size != latest[variable]:
                heapq.heappop(heap)
                continue
            if taken and size > limit:
                break
            heapq.heappop(heap)
            if used & held[variable]:
                blocked.append((size, variable))
                continue
            limit = limit or max(slack * size, small)
            used |= held[variable]
            taken.append(variable)
            left.discard(variable)
        costs = Counter(latest[variable] for variable in taken)
        most = max(costs.values())
        waits = {v for v in taken if costs[latest[v]] < few * most}
        blocked += [(latest[v], v) for v in waits]
        left |= waits
        taken = [v for v in taken if v not in waits]
        changed: set[int] = set()
        for variable in taken:
            scope = joined(variable)
            largest = max(largest, cost(scope))
            total += cost(scope)
            number = len(tables)
            rest = scope - {variable}
            for table in held[variable]:
                for other in tables[table]:
                    if other != variable:
                        held[other].discard(table)
            tables[number] = rest
            for other in rest:
                held[other].add(number)
            held[variable] = set()
            changed |= rest
        for variable in changed & left:
            latest[variable] = cost(joined(variable))
            heapq.heappush(heap, (latest[variable], variable))
        for entry in blocked:
            if entry[1] in left and entry[0] == latest[entry[1]]:
                heapq.heappush(heap, entry)
        rounds.append(tuple(sorted(taken)))
    return EliminationOrder(tuple(rounds), largest, total)


def connected(scopes: Sequence[Sequence[int]]) -> list[int]:
    """Return for each table a number that it shares with those connected to it.

    Example:
        >>> connected([[0, 1], [2], [1, 3], []])
        [0, 1, 0, 3]
    """
    group = list(range(len(scopes)))

    def root(number: int) -> int:
        while group[number] != number:
            group[number] = number = group[group[number]]
        return number

    first: dict[int, int] = {}
    for number, scope in enumerate(scopes):
        for variable in scope:
            ends = sorted((root(number), root(first.setdefault(variable, number))))
            group[ends[1]] = ends[0]
    return [root(number) for number in range(len(scopes))]
