"""This file finds and places values at unknown keys and indices."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from daphne_bridge.language.primitives import HashMap, Seq

from ..values import Distribution, Scalar, Undefined, describe, is_known, kind_of
from .applying import NoValue, Primitives, Rule, structural
from .predicates import at_most, both, either, equals, less, same_number

__all__ = ["LOOKUPS"]

Value = Any


def _get(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    collection, key, *default = arguments
    otherwise = default[0] if default else None
    if isinstance(collection, Scalar | Distribution):
        return otherwise
    if is_known(key) or not isinstance(collection, tuple | HashMap):
        return structural("get")(p, arguments)
    if isinstance(collection, HashMap):
        result = otherwise
        for known, value in reversed(collection.pairs()):
            result = p.choose(equals(p, known, key), value, result)
        return result
    if isinstance(collection, Seq) or not isinstance(key, Scalar):
        return otherwise
    if key.kind in ("real", "boolean"):
        return otherwise
    found = p.element(collection, key)
    if otherwise is None:
        return found
    return p.choose(_inside(p, key, len(collection)), found, otherwise)


def _inside(p: Primitives, key: Scalar, count: int) -> Value:
    low = at_most(p, 0, key)
    return both(p, low, less(p, key, count))


def _get_in(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    collection, keys, *default = arguments
    if default or not isinstance(keys, tuple):
        return structural("get-in")(p, arguments)
    for key in keys:
        known = is_known(key) and is_known(collection)
        collection = p.apply("get", (collection, key), are_known=known)
    return collection


def _nth(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    collection, key, *default = arguments
    if not isinstance(key, Scalar):
        return structural("nth")(p, arguments)
    if not isinstance(collection, tuple):
        raise NoValue(f"a sequence is needed, not {describe(collection)}")
    if key.kind in ("real", "boolean"):
        raise NoValue("an integer is needed, not a random number that is none")
    found = p.element(collection, key)
    if not default:
        return found
    return p.choose(_inside(p, key, len(collection)), found, default[0])


def _put(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    collection, *rest = arguments
    if all(is_known(key) for key in rest[::2]):
        return structural("put")(p, arguments)
    if (
        len(rest) % 2
        or not isinstance(collection, tuple)
        or isinstance(collection, Seq)
    ):
        raise NoValue("a random key needs a vector, and every key a value")
    for key, value in zip(rest[::2], rest[1::2], strict=True):
        if kind_of(key) not in ("integer", "exact", "mixed"):
            raise NoValue(f"an index is needed, not {describe(key)}")
        if is_known(key):
            collection = structural("put")(p, (collection, key, value))
            continue
        missing = Undefined("an index outside the vector")
        is_inside = _inside(p, key, len(collection))
        collection = tuple(
            p.choose(is_inside, p.choose(same_number(p, key, i), value, item), missing)
            for i, item in enumerate(collection)
        )
    return collection


def _contains(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    collection, key = arguments
    if is_known(key):
        return structural("contains?")(p, arguments)
    if isinstance(collection, HashMap):
        parts = tuple(equals(p, known, key) for known in collection)
        return either(p, parts) if parts else False
    if not isinstance(collection, tuple):
        raise NoValue(f"a map or vector is needed, not {describe(collection)}")
    if isinstance(collection, Seq) or kind_of(key) not in ("integer", "exact", "mixed"):
        return False
    whole: Value = True
    if key.kind != "integer":
        whole = p.scalar("whole", (key,), "boolean")
    return both(p, whole, _inside(p, key, len(collection)))


LOOKUPS: Mapping[str, Rule] = MappingProxyType(
    {
        "get": _get,
        "get-in": _get_in,
        "put": _put,
        "assoc": _put,
        "contains?": _contains,
        "nth": _nth,
    }
)
