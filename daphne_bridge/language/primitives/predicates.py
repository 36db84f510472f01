"""This file says true or false of values: equality, logic, kinds of value."""

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

from .values import (
    BigInt,
    HashMap,
    Keyword,
    Rows,
    Seq,
    Value,
    compare,
    equal,
    equal_atoms,
    is_number,
    truthy,
)

__all__ = ["PREDICATES"]


def _all_equal(*args: Value) -> bool:
    return all(equal(a, b) for a, b in pairwise(args))


def _and(*args: Value) -> Value:
    return next((x for x in args if not truthy(x)), args[-1] if args else True)


def _or(*args: Value) -> Value:
    return next((x for x in args if truthy(x)), args[-1] if args else None)


def _is(*kinds: type) -> Callable[[Value], bool]:
    def test(value: Value) -> bool:
        return isinstance(value, kinds) and not isinstance(value, bool)

    return test


PREDICATES: Rows = {
    "=": (1, None, _all_equal),
    "not=": (1, None, lambda *xs: not _all_equal(*xs)),
    "compare": (2, 2, compare),
    "identical?": (2, 2, lambda a, b: a is b or equal_atoms(a, b)),
    "and": (0, None, _and),
    "or": (0, None, _or),
    "not": (1, 1, lambda x: not truthy(x)),
    "boolean": (1, 1, truthy),
    "identity": (1, 1, lambda x: x),
    "nil?": (1, 1, lambda x: x is None),
    "some?": (1, 1, lambda x: x is not None),
    "true?": (1, 1, lambda x: x is True),
    "false?": (1, 1, lambda x: x is False),
    "boolean?": (1, 1, lambda x: isinstance(x, bool)),
    "number?": (1, 1, is_number),
    "integer?": (1, 1, _is(int)),
    "int?": (1, 1, lambda x: _is(int)(x) and not isinstance(x, BigInt)),
    "float?": (1, 1, _is(float)),
    "double?": (1, 1, _is(float)),
    "ratio?": (1, 1, _is(Fraction)),
    "rational?": (1, 1, _is(int, Fraction, Decimal)),
    "decimal?": (1, 1, _is(Decimal)),
    "string?": (1, 1, lambda x: isinstance(x, str) and not isinstance(x, Keyword)),
    "keyword?": (1, 1, _is(Keyword)),
    "vector?": (1, 1, lambda x: isinstance(x, tuple) and not isinstance(x, Seq)),
    "seq?": (1, 1, _is(Seq)),
    "sequential?": (1, 1, _is(tuple)),
    "map?": (1, 1, _is(HashMap)),
    "coll?": (1, 1, _is(tuple, HashMap)),
}
"""Name: fewest arguments, most (None: no limit), meaning."""
