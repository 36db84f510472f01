"""This file takes vectors and sequences apart and puts them together."""

import math
from collections.abc import Iterable
from fractions import Fraction
from functools import cmp_to_key

from .numbers import add, as_integer, as_number, truncate
from .values import (
    MAX_COMPARED,
    HashMap,
    Keyword,
    ListSeq,
    PrimitiveError,
    Rows,
    Seq,
    Value,
    as_sequence,
    checked_size,
    compare,
    kind_of,
)

__all__ = ["SEQUENCES", "as_vector", "checked_index"]


def as_vector(value: Value) -> tuple[Value, ...]:
    """Return `value` if it is a vector."""
    if isinstance(value, tuple) and not isinstance(value, Seq):
        return value
    raise PrimitiveError(f"a vector is needed, not {kind_of(value)}")


def checked_index(value: Value, size: int) -> int:
    """Return an index that lies within `size` elements."""
    index = as_integer(value)
    if not 0 <= index < size:
        raise PrimitiveError(f"index {index} is outside a collection of {size}")
    return index


def _same_kind(original: Value, items: Iterable[Value]) -> Seq:
    return ListSeq(items) if isinstance(original, ListSeq) else Seq(items)


def _like(original: Value, items: Iterable[Value]) -> tuple[Value, ...]:
    return Seq(items) if isinstance(original, Seq) else tuple(items)


def _conj(collection: Value, *items: Value) -> Value:
    match collection:
        case None:
            return Seq(reversed(items))
        case HashMap():
            for item in items:
                if isinstance(item, HashMap):
                    collection = HashMap((*collection.pairs(), *item.pairs()))
                elif isinstance(item, tuple) and len(item) == 2:
                    collection = collection.with_entry(*item)
                else:
                    raise PrimitiveError("a map takes pairs [key value]")
            return collection
        case Seq():
            checked_size(len(collection) + len(items))
            return _same_kind(collection, (*reversed(items), *collection))
        case tuple():
            checked_size(len(collection) + len(items))
            return (*collection, *items)
    raise PrimitiveError(f"a collection is needed, not {kind_of(collection)}")


def _concat(*collections: Value) -> Seq:
    parts = [as_sequence(c) for c in collections]
    checked_size(sum(map(len, parts)))
    return Seq(x for part in parts for x in part)


def _flatten(collection: Value) -> Seq:
    if not isinstance(collection, tuple):
        return Seq()
    flat: list[Value] = []
    work = [iter(collection)]
    for _ in range(MAX_COMPARED):
        if not work:
            return Seq(flat)
        item = next(work[-1], _END)
        if item is _END:
            work.pop()
        elif isinstance(item, tuple):
            work.append(iter(item))
        else:
            flat.append(item)
            checked_size(len(flat))
    raise PrimitiveError("the collection is too deeply nested")


_END = object()


def _range(*args: Value) -> tuple[Value, ...]:
    start, stop, step = {1: (0, *args, 1), 2: (*args, 1), 3: args}[len(args)]
    for x in (start, stop, step):
        if isinstance(as_number(x), float) and not math.isfinite(x):
            raise PrimitiveError("a range needs finite bounds")
    if step == 0:
        raise PrimitiveError("a range needs a step other than 0")
    span = Fraction(stop) - Fraction(start)
    checked_size(max(0, math.ceil(span / Fraction(step))))
    items: list[Value] = []
    at = start
    while (at < stop) if step > 0 else (at > stop):
        items.append(at)
        checked_size(len(items))
        at = add(at, step)
    return tuple(items)


def _subvec(vector: Value, start: Value, *end: Value) -> tuple[Value, ...]:
    items = as_vector(vector)
    stop = truncate(end[0]) if end else len(items)
    begin = truncate(start)
    if not 0 <= begin <= stop <= len(items):
        raise PrimitiveError(
            f"elements {begin} to {stop} are outside a vector of {len(items)}"
        )
    return items[begin:stop]


def _take(count: Value, collection: Value) -> Seq:
    return Seq(as_sequence(collection)[: max(0, truncate(count))])


def _drop(count: Value, collection: Value) -> Seq:
    return Seq(as_sequence(collection)[max(0, truncate(count)) :])


def _take_last(count: Value, collection: Value) -> Seq:
    items = as_sequence(collection)
    return Seq(items[len(items) - min(len(items), max(0, truncate(count))) :])


def _drop_last(*args: Value) -> Seq:
    count, collection = args if len(args) == 2 else (1, args[0])
    items = as_sequence(collection)
    return Seq(items[: len(items) - min(len(items), max(0, truncate(count)))])


def _partition(count: Value, *rest: Value) -> Seq:
    size = as_integer(count)
    step = as_integer(rest[0]) if len(rest) == 2 else size
    if size <= 0 or step <= 0:
        raise PrimitiveError("a partition needs positive sizes")
    items = as_sequence(rest[-1])
    checked_size(size * (len(items) // step + 1))
    starts = range(0, len(items) - size + 1, step)
    return Seq(Seq(items[i : i + size]) for i in starts)


def _repeat(count: Value, value: Value) -> Seq:
    return Seq([value] * checked_size(max(0, as_integer(count))))


def _count(collection: Value) -> int:
    if isinstance(collection, str) and not isinstance(collection, Keyword):
        return len(collection)
    return len(as_sequence(collection))


def _sort(collection: Value) -> Seq:
    return Seq(sorted(as_sequence(collection), key=cmp_to_key(compare)))


def _distinct(collection: Value) -> Seq:
    return Seq(HashMap((x, None) for x in as_sequence(collection)))


def _interleave(*collections: Value) -> Seq:
    rows = zip(*(as_sequence(c) for c in collections), strict=False)
    return Seq(x for row in rows for x in row)


def _interpose(separator: Value, collection: Value) -> Seq:
    items = [x for item in as_sequence(collection) for x in (separator, item)]
    return Seq(items[1:])


def _into(target: Value, source: Value) -> Value:
    return _conj(target, *as_sequence(source))


def _peek(collection: Value) -> Value:
    items = as_sequence(collection)
    if not items:
        return None
    return items[0] if isinstance(collection, Seq) else items[-1]


def _pop(collection: Value) -> Value:
    items = as_sequence(collection)
    if not items:
        raise PrimitiveError("an empty collection has nothing to pop")
    rest = items[1:] if isinstance(collection, Seq) else items[:-1]
    return _like(collection, rest)


def _last(collection: Value) -> Value:
    items = as_sequence(collection)
    return items[-1] if items else None


def _first(collection: Value) -> Value:
    items = as_sequence(collection)
    return items[0] if items else None


def _second(collection: Value) -> Value:
    items = as_sequence(collection)
    return items[1] if len(items) > 1 else None


def _seq(collection: Value) -> Seq | None:
    return Seq(as_sequence(collection)) or None


def _next(collection: Value) -> Seq | None:
    return Seq(as_sequence(collection)[1:]) or None


SEQUENCES: Rows = {
    "vector": (0, None, lambda *xs: xs),
    "list": (0, None, lambda *xs: ListSeq(xs)),
    "first": (1, 1, _first),
    "second": (1, 1, _second),
    "rest": (1, 1, lambda c: _same_kind(c, as_sequence(c)[1:])),
    "next": (1, 1, _next),
    "last": (1, 1, _last),
    "butlast": (1, 1, lambda c: Seq(as_sequence(c)[:-1])),
    "ffirst": (1, 1, lambda c: _first(_first(c))),
    "fnext": (1, 1, lambda c: _first(_next(c))),
    "nnext": (1, 1, lambda c: _next(_next(c))),
    "peek": (1, 1, _peek),
    "pop": (1, 1, _pop),
    "take": (2, 2, _take),
    "drop": (2, 2, _drop),
    "take-last": (2, 2, _take_last),
    "drop-last": (1, 2, _drop_last),
    "take-nth": (2, 2, lambda n, c: Seq(as_sequence(c)[:: max(1, as_integer(n))])),
    "partition": (2, 3, _partition),
    "conj": (1, None, _conj),
    "append": (1, None, _conj),
    "cons": (2, 2, lambda x, c: _concat((x,), c)),
    "concat": (0, None, _concat),
    "into": (2, 2, _into),
    "count": (1, 1, _count),
    "empty?": (1, 1, lambda c: _count(c) == 0),
    "not-empty": (1, 1, lambda c: c if _count(c) else None),
    "seq": (1, 1, _seq),
    "range": (1, 3, _range),
    "repeat": (2, 2, _repeat),
    "subvec": (2, 3, _subvec),
    "vec": (1, 1, lambda c: tuple(as_sequence(c))),
    "reverse": (1, 1, lambda c: ListSeq(reversed(as_sequence(c)))),
    "sort": (1, 1, _sort),
    "distinct": (1, 1, _distinct),
    "distinct?": (1, None, lambda *xs: len(_distinct(xs)) == len(xs)),
    "interleave": (0, None, _interleave),
    "interpose": (2, 2, _interpose),
    "flatten": (1, 1, _flatten),
}
"""Name: fewest arguments, most (None: no limit), meaning."""
