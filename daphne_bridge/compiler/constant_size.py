"""This file counts how much of the document a constant takes."""

from ..language.primitives import HashMap, Value

__all__ = ["constant_size"]

_MAX_COUNTED = 100_000_000
_ATOMS = frozenset({int, float, bool, str, type(None)})


def constant_size(value: Value) -> int:
    """Return the written size of a constant collection; shared parts count again."""
    sizes: dict[int, int] = {}
    work: list[tuple[Value, bool]] = [(value, False)]
    while work:
        item, is_done = work.pop()
        if id(item) in sizes:
            continue
        parts = (
            [x for pair in item.pairs() for x in pair]
            if isinstance(item, HashMap)
            else item
        )
        inner = [
            x
            for x in parts
            if type(x) not in _ATOMS and isinstance(x, (tuple, HashMap))
        ]
        if inner and not is_done:
            work.append((item, True))
            work.extend((x, False) for x in inner)
            continue
        total = 1 + len(parts) + sum(sizes[id(x)] - 1 for x in inner)
        sizes[id(item)] = min(total, _MAX_COUNTED)
    return sizes[id(value)]
