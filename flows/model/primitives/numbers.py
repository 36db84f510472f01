"""This file computes with unknown numbers as Clojure does: real wins over exact."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ..values import Kind, Scalar, kind_of, merged_kind, slot_of
from .applying import NoValue, Primitives, Rule, joint_kind, need_integers, need_numbers

__all__ = ["NUMBERS", "numeric", "plus"]

Value = Any


def plus(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    """Return the sum of numbers."""
    need_numbers(arguments)
    return p.affine([(1.0, a) for a in arguments], 0.0, joint_kind(arguments))


def _minus(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    need_numbers(arguments)
    first, rest = arguments[0], arguments[1:]
    terms = [(1.0, first), *((-1.0, a) for a in rest)] if rest else [(-1.0, first)]
    return p.affine(terms, 0.0, joint_kind(arguments))


def _times(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    need_numbers(arguments)
    kind = joint_kind(arguments)
    known = [float(a) for a in arguments if not isinstance(a, Scalar)]
    factor = math.prod(known, start=1.0)
    scalars: list[Value] = [a for a in arguments if isinstance(a, Scalar)]
    while len(scalars) > 1:
        paired = [
            p.scalar("multiply", pair, kind)
            for pair in zip(scalars[::2], scalars[1::2], strict=False)
        ]
        scalars = paired + scalars[len(paired) * 2 :]
    if not math.isfinite(factor):
        return p.scalar("multiply", (factor, scalars[0]), kind)
    return p.affine([(factor, scalars[0])], 0.0, kind)


def _divide(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    need_numbers(arguments)
    values = list(arguments) if len(arguments) > 1 else [1, *arguments]
    result = values[0]
    for divisor in values[1:]:
        kind = joint_kind([result, divisor])
        kind = "exact" if kind == "integer" else kind
        if not isinstance(divisor, Scalar):
            number = float(divisor)
            if number == 0.0 and kind == "exact":
                raise NoValue("division by zero")
            if number != 0.0 and kind == "real" and math.isfinite(1.0 / number):
                result = p.affine([(1.0 / number, result)], 0.0, kind)
                continue
        result = p.scalar("divide", (result, divisor), kind)
    return result


def _step(change: float) -> Rule:
    def rule(p: Primitives, arguments: tuple[Value, ...]) -> Value:
        need_numbers(arguments)
        return p.affine([(1.0, arguments[0])], change, joint_kind(arguments))

    return rule


def numeric(kernel: str, kind: Kind | None = None) -> Rule:
    """Return a rule for an elementwise function of numbers."""

    def rule(p: Primitives, arguments: tuple[Value, ...]) -> Value:
        need_numbers(arguments)
        return p.scalar(kernel, arguments, kind or joint_kind(arguments))

    return rule


def _extreme(kernel: str) -> Rule:
    def rule(p: Primitives, arguments: tuple[Value, ...]) -> Value:
        need_numbers(arguments)
        result = arguments[0]
        for other in arguments[1:]:
            kinds = [kind for v in (result, other) if (kind := kind_of(v))]
            result = p.scalar(kernel, (result, other), merged_kind(kinds))
        return result

    return rule


def _quotient(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    need_numbers(arguments)
    kind = joint_kind(arguments)
    return p.scalar("quotient", arguments, "integer" if kind == "exact" else kind)


def _integer_part(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    need_numbers(arguments)
    if kind_of(arguments[0]) == "integer":
        return arguments[0]
    return p.scalar("truncate", arguments, "integer")


def _as_real(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    need_numbers(arguments)
    return Scalar(slot_of(p.dag, arguments[0]), "real")


def _bits(kernel: str) -> Rule:
    def rule(p: Primitives, arguments: tuple[Value, ...]) -> Value:
        need_integers(arguments)
        result = arguments[0]
        for other in arguments[1:]:
            result = p.scalar(kernel, (result, other), "integer")
        return result

    return rule


def _numerator(_p: Primitives, arguments: tuple[Value, ...]) -> Value:
    need_integers(arguments)
    return arguments[0]


def _denominator(_p: Primitives, arguments: tuple[Value, ...]) -> Value:
    need_integers(arguments)
    return 1


NUMBERS: Mapping[str, Rule] = MappingProxyType(
    {
        "+": plus,
        "-": _minus,
        "*": _times,
        "/": _divide,
        "inc": _step(1.0),
        "dec": _step(-1.0),
        "mod": numeric("modulo"),
        "rem": numeric("remainder"),
        "quot": _quotient,
        "abs": numeric("absolute"),
        "min": _extreme("minimum"),
        "max": _extreme("maximum"),
        "int": _integer_part,
        "long": _integer_part,
        "bigint": _integer_part,
        "double": _as_real,
        "float": _as_real,
        "numerator": _numerator,
        "denominator": _denominator,
        "bit-and": _bits("bitwise and"),
        "bit-or": _bits("bitwise or"),
        "bit-xor": _bits("bitwise exclusive or"),
        "bit-shift-left": _bits("shift left"),
        "bit-shift-right": _bits("shift right"),
    }
)
