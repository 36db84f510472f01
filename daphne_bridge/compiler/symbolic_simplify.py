"""This file computes collection functions on collections whose shape is known.

`(get [a b] 1)` is `b` although `a` and `b` are random. The functions are those of
Daphne's simplifier; what it keeps as a call is kept here too, so that the documents
agree, but a call may remember what it stands for (`CallTerm.settled`, `.elements`),
which Daphne forgets:

- a `get` that finds nil or false stays a call, with that value settled;
- what reads a list that a name stands for stays a call, with its value settled;
- `list`, `cons`, `reverse`, `take`, ... stay calls, with their elements known;
- a lookup by a random index stays a call, with its default if it has one;
- `vector?` of a random value stays a call, settled if the kind of value is certain.

There is no algebra: `(+ x 0)` stays.
"""

from typing import Any

from ..language.primitives import PRIMITIVES, HashMap, PrimitiveError, Seq
from .collection_terms import extended, hash_map, is_key, sequence
from .drawn_shapes import shape_of
from .terms import UNKNOWN, CallTerm, MapTerm, NodeTerm, SequenceTerm, Term, is_constant

__all__ = ["elements", "symbolic_simplify", "unrolled"]

_SIMPLIFIED = frozenset(
    {"rest", "first", "second", "last", "butlast", "nth", "conj", "cons", "vector"}
    | {"subvec", "vec", "get", "put", "list", "append", "count", "concat", "flatten"}
)
_REMEMBERED = frozenset(
    {"list", "cons", "reverse", "take", "drop", "take-last", "drop-last", "take-nth"}
    | {"partition", "into", "interleave", "interpose", "next", "seq", "not-empty"}
    | {"rest", "butlast", "conj", "append", "concat", "vec", "subvec", "assoc", "pop"}
    | {"repeat"}
)
_KINDS = frozenset({"vector?", "map?", "sequential?", "coll?"})
_VECTORS = frozenset({"butlast", "flatten", "vec", "subvec"})


def elements(value: Any) -> tuple[Any, ...] | None:
    """Return the elements of a sequence if they are known, else None."""
    match value:
        case Seq() | tuple():
            return value
        case SequenceTerm():
            return value.items
        case CallTerm() if isinstance(value.elements, tuple):
            return value.elements
    return None


def unrolled(value: Any) -> tuple[Any, ...] | None:
    """Return the elements of a sequence, or calls for those of a random vector."""
    items = elements(value)
    if items is None and (shape := shape_of(value)):
        return tuple(CallTerm("get", (value, i)) for i in range(shape[0]))
    return items


def symbolic_simplify(name: str, arguments: tuple[Any, ...]) -> Any:
    """Return the value of a call to the core function `name`, a term.

    Args:
        name: A primitive that folds.
        arguments: Its arguments, at least one of them not constant.

    Returns:
        The simplified value, or the call if there is nothing to simplify.

    Raises:
        PrimitiveError: The call has no value whatever the random parts are.
    """
    if name in _SIMPLIFIED:
        result = _simplify(name, arguments)
        if result is not UNKNOWN:
            if result is None or result is False:
                return CallTerm(name, arguments, settled=result)
            return result
    if name == "count" and (items := unrolled(arguments[0])) is not None:
        return CallTerm(name, arguments, settled=len(items))
    if name == "empty?" and (items := unrolled(arguments[0])) is not None:
        return CallTerm(name, arguments, settled=not items)
    if name in _KINDS and (kind := _kind(arguments[0])) is not None:
        return CallTerm(name, arguments, settled=PRIMITIVES[name].apply(kind))
    if name in _REMEMBERED:
        return CallTerm(name, arguments, elements=_remembered(name, arguments))
    return CallTerm(name, arguments)


def _kind(value: Any) -> Any:
    """Return some constant of the kind that `value` certainly is, else None."""
    match value:
        case SequenceTerm():
            return () if value.is_vector else Seq()
        case MapTerm():
            return HashMap()
        case NodeTerm() | CallTerm():
            shape = shape_of(value)
            return None if shape is None else () if shape else 0
    return None


def _remembered(name: str, arguments: tuple[Any, ...]) -> Any:
    shapes = [x if is_constant(x) else (unrolled(x) or x) for x in arguments]
    if any(isinstance(x, Term) for x in shapes[:-1]) and name not in ("list", "cons"):
        return UNKNOWN
    try:
        result = PRIMITIVES[name].apply(*shapes)
    except PrimitiveError:
        return UNKNOWN
    if result is None:
        return Seq()
    if not isinstance(result, tuple):
        return UNKNOWN
    rows = tuple(
        sequence(x, is_vector=False)
        if isinstance(x, Seq) and name == "partition"
        else x
        for x in result
    )
    return Seq(rows) if isinstance(result, Seq) else rows


def _simplify(name: str, arguments: tuple[Any, ...]) -> Any:
    first, *rest = arguments
    if name == "vector":
        return sequence(arguments)
    if isinstance(first, (MapTerm, HashMap)):
        return _on_map(name, first, rest)
    items = first.items if isinstance(first, SequenceTerm) else first
    if not isinstance(items, tuple) or _is_list(first):
        return UNKNOWN
    is_vector = (
        first.is_vector
        if isinstance(first, SequenceTerm)
        else not isinstance(first, Seq)
    )
    shape = items if is_vector else Seq(items) if type(items) is tuple else items
    match name:
        case "get" | "nth" | "subvec" | "put":
            return _at(name, shape, rest, is_vector=is_vector)
        case "conj" | "append":
            return _conj(first, tuple(rest), is_vector=is_vector)
        case "flatten":
            return sequence(_flatten(first))
        case "concat" | "cons":
            return _joined(name, first, rest)
        case "list":
            return sequence(arguments, is_vector=False)
    result = PRIMITIVES[name].apply(shape)
    if isinstance(result, tuple):
        return sequence(tuple(result), is_vector=name in _VECTORS)
    return result


def _is_list(value: Any) -> bool:
    return isinstance(value, SequenceTerm) and value.is_list


def _on_map(name: str, mapping: MapTerm | HashMap, rest: list[Any]) -> Any:
    entries = mapping.entries if isinstance(mapping, MapTerm) else mapping
    if name == "count":
        return len(entries)
    if name not in ("get", "put") or not all(map(is_key, rest[:1])):
        return UNKNOWN
    if name == "get":
        if rest[0] not in entries and not _is_settled_key(entries, rest[0]):
            return UNKNOWN
        return entries.get(rest[0], rest[1] if len(rest) == 2 else None)
    if len(rest) == 2:
        return hash_map([*entries.pairs(), (rest[0], rest[1])])
    return UNKNOWN


def _is_settled_key(entries: HashMap, key: Any) -> bool:
    """Return whether it is certain that a key which `entries` lacks is not in it."""
    return all(map(is_constant, (key, *entries)))


def _at(name: str, shape: tuple[Any, ...], rest: list[Any], *, is_vector: bool) -> Any:
    index_count = len(rest) if name == "subvec" else 1
    if not all(map(is_constant, rest[:index_count])):
        return UNKNOWN
    if not is_vector and name != "nth":
        return rest[1] if name == "get" and len(rest) == 2 else UNKNOWN
    result = PRIMITIVES[name].apply(shape, *rest)
    return sequence(result) if name in ("subvec", "put") else result


def _conj(first: Any, added: tuple[Any, ...], *, is_vector: bool) -> Any:
    if isinstance(first, SequenceTerm):
        return extended(first, added)
    return sequence(PRIMITIVES["conj"].apply(first, *added), is_vector=is_vector)


def _joined(name: str, first: Any, rest: list[Any]) -> Any:
    others = [_written_elements(x) for x in rest]
    if any(x is None for x in others):
        return UNKNOWN
    own = (first,) if name == "cons" else _written_elements(first) or ()
    joined = (*own, *(x for part in others if part is not None for x in part))
    return sequence(joined, is_vector=False)


def _written_elements(value: Any) -> tuple[Any, ...] | None:
    return None if isinstance(value, CallTerm) else elements(value)


def _flatten(value: Any) -> tuple[Any, ...]:
    flat: list[Any] = []
    work = [value]
    while work:
        item = work.pop()
        inner = _written_elements(item)
        if inner is None:
            flat.append(item)
        else:
            work.extend(reversed(inner))
    return tuple(flat)
