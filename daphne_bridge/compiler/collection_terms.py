"""This file puts values together to vectors, sequences and maps."""

from typing import Any

from ..language.primitives import HashMap, Seq
from .terms import (
    UNKNOWN,
    CallTerm,
    MapTerm,
    NodeTerm,
    SequenceTerm,
    Term,
    is_constant,
    known,
    size,
)

__all__ = ["extended", "hash_map", "is_key", "sequence"]


def _is_opaque(value: Any) -> bool:
    match value:
        case CallTerm():
            return value.known is UNKNOWN
        case SequenceTerm():
            return value.is_opaque
    return isinstance(value, Term) and known(value) is UNKNOWN


def sequence(items: tuple[Any, ...], *, is_vector: bool = True) -> Any:
    """Return the vector or sequence of `items`, a constant if all of them are."""
    if not any(isinstance(x, Term) for x in items):
        return tuple(items) if is_vector else Seq(items)
    return SequenceTerm(
        items,
        is_vector=is_vector,
        is_opaque=any(map(_is_opaque, items)),
        size=1 + sum(map(size, items)),
    )


def extended(collection: SequenceTerm, added: tuple[Any, ...]) -> SequenceTerm:
    """Return `collection` with `added` conjoined, in time that ignores its parts."""
    items = (
        (*collection.items, *added)
        if collection.is_vector
        else (*reversed(added), *collection.items)
    )
    return SequenceTerm(
        items,
        is_vector=collection.is_vector,
        is_opaque=collection.is_opaque or any(map(_is_opaque, added)),
        size=collection.size + sum(map(size, added)),
    )


def hash_map(pairs: list[tuple[Any, Any]]) -> Any:
    """Return the map of `pairs`; a call to `hash-map` if a key is computed."""
    if not all(is_key(k) for k, _ in pairs):
        return CallTerm("hash-map", tuple(x for pair in pairs for x in pair))
    entries = HashMap(pairs)
    is_random = any(isinstance(x, Term) for pair in pairs for x in pair)
    return MapTerm(entries) if is_random else entries


def is_key(value: Any) -> bool:
    """Return whether a map finds `value`: a constant, or a random variable as such."""
    return is_constant(value) or isinstance(value, NodeTerm)
