"""This file gives names to what a value holds in many places, in large documents.

Daphne writes a value at every place of its name. Ten steps of an equation of motion,
each of which reads the last state four times, are millions of parts that way, nearly
all of them the same again. Where a document would be large, such values are written
with a let, which documents know:

    ["let", ["shared0", ["*", "v", "v"], "shared1", ...], ["normal", "shared1", 1]]
"""

from collections import Counter
from collections.abc import Iterable
from itertools import count
from typing import Any

from .terms import LetTerm, LocalTerm, parts_of, size

__all__ = ["is_large", "is_shared", "with_shared", "written_size"]

_LARGE_DOCUMENT = 200_000
"""Documents up to this size are written as Daphne writes them."""
_LARGE = 10_000
"""So are values up to this one."""
_REPEATED = 4
"""Times that its parts stand in a value, on average, from which on they are shared."""


def written_size(value: Any) -> int:
    """Return how many numbers, names and brackets the document holds for a value."""
    whole = size(value)
    return _once(value, whole) or whole


def is_large(values: Iterable[Any]) -> bool:
    """Return whether values, repeated as Daphne does, would be a large document."""
    return sum(map(size, values)) > _LARGE_DOCUMENT


def is_shared(value: Any) -> bool:
    """Return whether the document gives names to what is repeated in a value."""
    return _once(value, size(value)) > 0


def _once(value: Any, whole: int) -> int:
    """Return the size of a value's parts, each once; 0 if the value is written whole.

    So it is where there is little to share, and where a let stands in it: parts with
    its name have no meaning elsewhere.
    """
    if whole <= _LARGE:
        return 0
    total, seen, work = 0, {id(value)}, [value]
    while work:
        item = work.pop()
        if isinstance(item, (LetTerm, LocalTerm)):
            return 0
        parts = parts_of(item)
        total += 3 + len(parts) if parts else size(item)
        for part in parts:
            if id(part) not in seen:
                seen.add(id(part))
                work.append(part)
    return total if _REPEATED * total <= whole else 0


def with_shared(term: list[Any]) -> list[Any]:
    """Return a term with names for the arrays that stand in it more than once.

    Args:
        term: Arrays of which some are the same object; no name is one of its texts.

    Example:
        >>> square = ["*", "v", "v"]
        >>> with_shared(["+", square, square])
        ['let', ['shared0', ['*', 'v', 'v']], ['+', 'shared0', 'shared0']]
    """
    uses = Counter[int]()
    taken: set[str] = set()
    inner_first: list[list[Any]] = []
    work: list[tuple[list[Any], bool]] = [(term, False)]
    while work:
        item, is_done = work.pop()
        if is_done:
            inner_first.append(item)
            continue
        uses[id(item)] += 1
        if uses[id(item)] == 1:
            work.append((item, True))
            work += [(part, False) for part in item if isinstance(part, list)]
            taken.update(part for part in item if isinstance(part, str))
    names = (name for name in (f"shared{i}" for i in count()) if name not in taken)
    written: dict[int, Any] = {}
    bindings: list[Any] = []
    for item in inner_first:
        made = [written[id(p)] if isinstance(p, list) else p for p in item]
        if uses[id(item)] > 1:
            name = next(names)
            bindings += [name, made]
            written[id(item)] = name
        else:
            written[id(item)] = made
    return ["let", bindings, written[id(term)]]
