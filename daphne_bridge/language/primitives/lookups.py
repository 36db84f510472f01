"""This file finds and places values by key or index: maps, `get`, `put`, `nth`."""

from .numbers import as_integer
from .sequences import as_vector, checked_index
from .values import (
    MAX_KEY_DEPTH,
    HashMap,
    Keyword,
    PrimitiveError,
    Rows,
    Seq,
    Value,
    as_sequence,
    kind_of,
)

__all__ = ["LOOKUPS"]


def _get(collection: Value, key: Value, default: Value = None) -> Value:
    match collection:
        case HashMap():
            return collection[key] if key in collection else default  # noqa: SIM401
        case Seq():
            return default
        case str() if not isinstance(collection, Keyword):
            raise PrimitiveError("characters are not part of the language")
        case tuple():
            inside = (
                isinstance(key, int)
                and not isinstance(key, bool)
                and 0 <= key < len(collection)
            )
            return collection[key] if inside else default
    return default


def _get_in(collection: Value, keys: Value, default: Value = None) -> Value:
    missing = object()
    for key in as_sequence(keys):
        collection = _get(collection, key, missing)
        if collection is missing:
            return default
    return collection


def _nth(collection: Value, index: Value, *default: Value) -> Value:
    if collection is None:
        return default[0] if default else None
    if not isinstance(collection, tuple):
        raise PrimitiveError(f"a sequence is needed, not {kind_of(collection)}")
    if default and not 0 <= as_integer(index) < len(collection):
        return default[0]
    return collection[checked_index(index, len(collection))]


def _put(collection: Value, *rest: Value) -> Value:
    if len(rest) % 2:
        raise PrimitiveError("every key needs a value")
    for key, value in zip(rest[::2], rest[1::2], strict=True):
        match collection:
            case None:
                collection = HashMap([(key, value)])
            case HashMap():
                collection = collection.with_entry(key, value)
            case _:
                items = as_vector(collection)
                at = checked_index(key, len(items) + 1)
                collection = (*items[:at], value, *items[at + 1 :])
    return collection


def _assoc_in(collection: Value, keys: Value, value: Value) -> Value:
    path = as_sequence(keys)
    if not path or len(path) > MAX_KEY_DEPTH:
        raise PrimitiveError(f"a path has 1 to {MAX_KEY_DEPTH} keys")
    levels = [collection]
    for key in path[:-1]:
        levels.append(_get(levels[-1], key))
    for key, level in zip(reversed(path), reversed(levels), strict=True):
        value = _put(level, key, value)
    return value


def _hash_map(*args: Value) -> HashMap:
    if len(args) % 2:
        raise PrimitiveError("every key needs a value")
    return HashMap(zip(args[::2], args[1::2], strict=True))


def _map_only(value: Value) -> HashMap:
    if value is None:
        return HashMap()
    if isinstance(value, HashMap):
        return value
    raise PrimitiveError(f"a map is needed, not {kind_of(value)}")


def _merge(*maps: Value) -> HashMap:
    return HashMap(pair for m in maps for pair in _map_only(m).pairs())


def _dissoc(mapping: Value, *keys: Value) -> HashMap:
    result = _map_only(mapping)
    for key in keys:
        result = result.without(key)
    return result


def _select_keys(mapping: Value, keys: Value) -> HashMap:
    known = _map_only(mapping)
    return HashMap((k, known[k]) for k in as_sequence(keys) if k in known)


def _frequencies(collection: Value) -> HashMap:
    counts: HashMap = HashMap()
    for item in as_sequence(collection):
        counts = counts.with_entry(item, _get(counts, item, 0) + 1)
    return counts


def _contains(collection: Value, key: Value) -> bool:
    missing = object()
    if collection is not None and not isinstance(collection, (tuple, HashMap)):
        raise PrimitiveError(f"a map or vector is needed, not {kind_of(collection)}")
    return _get(collection, key, missing) is not missing


LOOKUPS: Rows = {
    "hash-map": (0, None, _hash_map),
    "array-map": (0, None, _hash_map),
    "get": (2, 3, _get),
    "get-in": (2, 3, _get_in),
    "put": (3, None, _put),
    "assoc": (3, None, _put),
    "assoc-in": (3, 3, _assoc_in),
    "dissoc": (1, None, _dissoc),
    "merge": (0, None, _merge),
    "zipmap": (
        2,
        2,
        lambda k, v: HashMap(zip(as_sequence(k), as_sequence(v), strict=False)),
    ),
    "select-keys": (2, 2, _select_keys),
    "keys": (1, 1, lambda m: Seq(_map_only(m)) or None),
    "vals": (1, 1, lambda m: Seq(_map_only(m).values()) or None),
    "contains?": (2, 2, _contains),
    "nth": (2, 3, _nth),
    "frequencies": (1, 1, _frequencies),
}
"""Name: fewest arguments, most (None: no limit), meaning."""
