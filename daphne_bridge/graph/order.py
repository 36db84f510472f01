"""This file orders the nodes of a directed graph, parents before children."""

import heapq
from collections.abc import Mapping, Sequence

__all__ = ["find_cycle", "parents_first"]


def parents_first(
    parents: Sequence[Sequence[int]], ranks: Sequence[int] | None = None
) -> list[int]:
    """Return the nodes, parents before children, ties by rank.

    Args:
        parents: By node, its parents; each parent once.
        ranks: By node, a number of its own; by default its position.

    Returns:
        The nodes in order, without those on a cycle or below one.

    Example:
        >>> parents_first([[2], [], [1]])
        [1, 2, 0]
    """
    ranks = range(len(parents)) if ranks is None else ranks
    children: list[list[int]] = [[] for _ in parents]
    missing = [len(found) for found in parents]
    for child, found in enumerate(parents):
        for parent in found:
            children[parent].append(child)
    ready = [(ranks[node], node) for node, count in enumerate(missing) if not count]
    heapq.heapify(ready)
    order = []
    while ready:
        _, node = heapq.heappop(ready)
        order.append(node)
        for child in children[node]:
            missing[child] -= 1
            if not missing[child]:
                heapq.heappush(ready, (ranks[child], child))
    return order


def find_cycle(parents: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the nodes of a cycle, parents first, the first one repeated at the end.

    Args:
        parents: Parents of nodes that all stand on a cycle or below one.
    """
    current = min(parents)
    trail: dict[str, int] = {}
    while current not in trail:
        trail[current] = len(trail)
        current = next(p for p in parents[current] if p in parents)
    return [current, *reversed([*trail][trail[current] :])]
