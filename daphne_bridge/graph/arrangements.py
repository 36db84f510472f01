"""This file says what functions that only move elements make of written collections.

`(peek [a b])` is `b` whatever `a` and `b` are, so that a link function which reads the
last of a list of states has one parent. Elements are carried along unseen; where a
function would look at one that is not known, at a random key say, nothing is known.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from ..language.primitives import PRIMITIVES, HashMap, PrimitiveError

__all__ = ["MOVING", "UNKNOWN", "arranged"]

UNKNOWN = object()
"""What is made depends on the elements."""

MOVING = frozenset(
    {"first", "second", "last", "fnext", "next", "nnext", "butlast", "peek", "pop"}
    | {"take", "drop", "take-last", "drop-last", "take-nth", "partition", "reverse"}
    | {"subvec", "vec", "seq", "conj", "append", "cons", "concat", "into", "vals"}
    | {"interleave", "count", "empty?", "nth", "get", "assoc", "put", "dissoc"}
    | {"merge", "select-keys", "zipmap", "list", "rest"}
)
"""The functions that only move elements."""
_KEYS: Mapping[str, slice] = MappingProxyType(
    {
        "get": slice(0, 2),  # what is no collection has nothing at any key
        "nth": slice(0, 2),
        "assoc": slice(1, None, 2),
        "put": slice(1, None, 2),
        "dissoc": slice(1, None),
    }
)
"""Arguments that must be known themselves, though not what is in them."""
_KEY_LISTS: Mapping[str, int] = MappingProxyType({"select-keys": 1, "zipmap": 0})
"""Arguments all of whose elements must be known."""


def arranged(
    head: str, arguments: tuple[Any, ...], is_opaque: Callable[[Any], bool]
) -> Any:
    """Return what a call makes of its arguments, or `UNKNOWN`.

    Args:
        head: One of `MOVING`.
        arguments: Known values, and collections of opaque ones.
        is_opaque: Whether a value is not known.
    """
    keys = arguments[_KEYS[head]] if head in _KEYS else ()
    if head in _KEY_LISTS and len(arguments) > 1:
        listed = arguments[_KEY_LISTS[head]]
        keys = (*listed, *keys) if isinstance(listed, tuple) else (listed,)
    makes_entries = head in ("conj", "append", "into")
    if any(map(is_opaque, keys)) or (
        makes_entries and isinstance(arguments[0], HashMap)
    ):
        return UNKNOWN
    try:
        return PRIMITIVES[head].apply(*arguments)
    except (PrimitiveError, ArithmeticError, TypeError, ValueError, LookupError):
        return UNKNOWN
