"""This file takes sequences with unknown elements apart, joins and sorts them.

The distinct ones among n elements are one of n sequences, the first k of what stands
first of its equals.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from daphne_bridge.language.primitives import HashMap, Seq
from daphne_bridge.language.primitives.values import as_sequence

from ..values import Scalar, chosen, describe, kind_of, merged_kind, slot_of
from .applying import STRUCTURAL, NoValue, Primitives, Rule, need_numbers, structural
from .predicates import both, equals, less, negation

__all__ = ["SEQUENCES"]

Value = Any

_MOST_DISTINCT = 200
"""Every two values are compared."""


def _sort(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    (collection,) = arguments
    if not isinstance(collection, tuple):
        raise NoValue(f"a collection is needed, not {describe(collection)}")
    need_numbers(collection)
    kind = merged_kind([k for item in collection if (k := kind_of(item))])
    bundle = p.dag.emit("bundle", [slot_of(p.dag, item) for item in collection])
    return Seq(
        Scalar(p.dag.emit("order statistic", (bundle,), position), kind)
        for position in range(len(collection))
    )


def _distinct(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    (collection,) = arguments
    if not isinstance(collection, tuple | HashMap):
        raise NoValue(f"a collection is needed, not {describe(collection)}")
    items = as_sequence(collection)
    if len(items) > _MOST_DISTINCT:
        raise NoValue(f"of {len(items)} values, more than {_MOST_DISTINCT}")
    firsts: list[Value] = []
    for position, item in enumerate(items):
        is_first: Value = True
        for earlier in items[:position]:
            is_first = both(p, is_first, negation(p, equals(p, earlier, item)))
        firsts.append(is_first)
    if all(first is True for first in firsts):
        return Seq(items)
    ranks = [
        p.affine([(1.0, first) for first in firsts[:stop]], 0.0, "integer")
        for stop in range(1, len(items) + 1)
    ]
    found = [_of_rank(p, items, ranks, rank) for rank in range(1, len(items) + 1)]
    lengths = [Seq(found[:stop]) for stop in range(1, len(items) + 1)]
    return chosen(p.dag, p.affine([(1.0, ranks[-1])], -1.0, "integer"), lengths)


def _of_rank(
    p: Primitives, items: tuple[Value, ...], ranks: Sequence[Value], rank: int
) -> Value:
    """Return the first item that so many items up to it are firsts; else no value."""
    terms = [(1.0, less(p, each, rank)) for each in ranks[rank - 1 :]]
    return p.element(items, p.affine(terms, rank - 1, "integer"))


SEQUENCES: Mapping[str, Rule] = MappingProxyType(
    {name: structural(name) for name in STRUCTURAL}
    | {
        "sort": _sort,
        "distinct": _distinct,
    }
)
