"""This file computes with numbers as Clojure does: exact, until a double comes in.

Integers overflow at 64 bits, `(/ 6 4)` is the ratio 3/2, `true` is no number.
"""

import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

from .values import (
    INT64,
    MAX_BITS,
    BigInt,
    PrimitiveError,
    Rows,
    Value,
    is_number,
    kind_of,
    number_class,
)

__all__ = [
    "NUMBERS",
    "add",
    "as_double",
    "as_integer",
    "as_number",
    "reduced",
    "truncate",
]


def as_number(value: Value) -> Any:
    """Return `value` if it is a number."""
    if not is_number(value):
        raise PrimitiveError(f"a number is needed, not {kind_of(value)}")
    return value


def as_integer(value: Value) -> int:
    """Return `value` if it is an integer."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise PrimitiveError(f"an integer is needed, not {kind_of(value)}")
    return value


def as_double(value: Value) -> float:
    """Return a number as a double; what is too large becomes infinite."""
    try:
        return float(as_number(value))
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _exact(result: Any, *operands: Value) -> Value:
    """Return `result` as Clojure would class it, given what it was computed from."""
    if isinstance(result, Fraction):
        if result.denominator != 1:
            return _bounded(result)
        result = result.numerator
    if isinstance(result, int):
        if any(isinstance(x, BigInt) for x in operands):
            return BigInt(_bounded(result))
        if not -INT64 <= result < INT64:
            raise PrimitiveError("integer overflow: the result needs more than 64 bits")
    return result


def _bounded(value: Any) -> Any:
    exact = value if isinstance(value, Fraction) else Fraction(value)
    if max(exact.numerator.bit_length(), exact.denominator.bit_length()) > MAX_BITS:
        raise PrimitiveError(f"a number needs more than {MAX_BITS} bits")
    return value


def _arithmetic(
    exact: Callable[[Any, Any], Any], double: Callable[[float, float], float]
) -> Callable[[Value, Value], Value]:
    def operate(a: Value, b: Value) -> Value:
        kind_a, kind_b = number_class(as_number(a)), number_class(as_number(b))
        if float in (kind_a, kind_b):
            return double(as_double(a), as_double(b))
        if Decimal in (kind_a, kind_b):
            return exact(_decimal(a), _decimal(b))
        return _exact(exact(a, b), a, b)

    return operate


def _decimal(value: Value) -> Decimal:
    if isinstance(value, Fraction):
        return Decimal(value.numerator) / Decimal(value.denominator)
    return Decimal(value)


def _double_times(a: float, b: float) -> float:
    return a * b


def _double_divide(a: float, b: float) -> float:
    if b != 0:
        return a / b
    if a == 0 or math.isnan(a):
        return math.nan
    return math.copysign(math.inf, a) * math.copysign(1, b)


def _exact_divide(a: Any, b: Any) -> Any:
    if b == 0:
        raise PrimitiveError("division by zero")
    if isinstance(a, Decimal) or isinstance(b, Decimal):
        return a / b
    return Fraction(a) / Fraction(b)


add = _arithmetic(lambda a, b: a + b, lambda a, b: a + b)


_subtract = _arithmetic(lambda a, b: a - b, lambda a, b: a - b)


_times = _arithmetic(lambda a, b: a * b, _double_times)


_divide = _arithmetic(_exact_divide, _double_divide)


def reduced(
    operate: Callable[[Value, Value], Value], start: Value
) -> Callable[..., Value]:
    """Return the function that joins its arguments from the left, `start` for none."""

    def run(*args: Value) -> Value:
        result = as_number(args[0]) if args else start
        for x in args[1:]:
            result = operate(result, x)
        return result

    return run


def _from_unit(
    operate: Callable[[Value, Value], Value], unit: Value
) -> Callable[..., Value]:
    def run(*args: Value) -> Value:
        if len(args) == 1:
            return operate(unit, args[0])
        return reduced(operate, unit)(*args)

    return run


def _quotient(a: Value, b: Value) -> Value:
    if as_double(b) == 0:
        raise PrimitiveError("division by zero")
    if isinstance(a, float) or isinstance(b, float):
        ratio = as_double(a) / as_double(b)
        if not math.isfinite(ratio):
            raise PrimitiveError("the quotient is not finite")
        return float(math.trunc(ratio))
    return _exact(math.trunc(Fraction(as_number(a)) / Fraction(as_number(b))), a, b)


def _remainder(a: Value, b: Value) -> Value:
    return _subtract(a, _times(_quotient(a, b), b))


def _modulo(a: Value, b: Value) -> Value:
    rest = _remainder(a, b)
    return rest if rest == 0 or (rest > 0) == (b > 0) else add(rest, b)


def _chain(relation: Callable[[Any, Any], bool]) -> Callable[..., bool]:
    def run(*args: Value) -> bool:
        if len(args) > 1:
            args = tuple(as_number(x) for x in args)
        return all(relation(a, b) for a, b in pairwise(args))

    return run


def _pick(better: Callable[[Any, Any], bool]) -> Callable[..., Value]:
    def choose(a: Value, b: Value) -> Value:
        if any(isinstance(x, float) and math.isnan(x) for x in (a, b)):
            return math.nan
        return a if better(as_number(a), as_number(b)) else b

    return reduced(choose, None)


def truncate(value: Value) -> int:
    """Return the integer part of a number."""
    if isinstance(value, float) and not math.isfinite(value):
        raise PrimitiveError("a number that is not finite has no integer part")
    return int(_exact(math.trunc(as_number(value))))


def _absolute(x: Value) -> Value:
    return _exact(abs(as_number(x)), x)


def _sign_test(relation: Callable[[Any], bool]) -> Callable[[Value], bool]:
    return lambda x: relation(as_number(x))


def _bits(operate: Callable[[int, int], int]) -> Callable[..., int]:
    def run(*args: Value) -> int:
        result = as_integer(args[0])
        for x in args[1:]:
            result = operate(result, as_integer(x))
        return result

    return run


def _shift(sign: int) -> Callable[[Value, Value], int]:
    def run(a: Value, b: Value) -> int:
        places = as_integer(b) % 64
        wide = as_integer(a) << places if sign > 0 else as_integer(a) >> places
        return (wide + INT64) % (2 * INT64) - INT64

    return run


NUMBERS: Rows = {
    "+": (0, None, reduced(add, 0)),
    "*": (0, None, reduced(_times, 1)),
    "-": (1, None, _from_unit(_subtract, 0)),
    "/": (1, None, _from_unit(_divide, 1)),
    "inc": (1, 1, lambda x: add(x, 1)),
    "dec": (1, 1, lambda x: _subtract(x, 1)),
    "mod": (2, 2, _modulo),
    "rem": (2, 2, _remainder),
    "quot": (2, 2, _quotient),
    "abs": (1, 1, _absolute),
    "min": (1, None, _pick(lambda a, b: a < b)),
    "max": (1, None, _pick(lambda a, b: a > b)),
    "int": (1, 1, truncate),
    "long": (1, 1, truncate),
    "double": (1, 1, as_double),
    "float": (1, 1, as_double),
    "bigint": (1, 1, lambda x: BigInt(math.trunc(as_number(x)))),
    "numerator": (1, 1, lambda x: Fraction(as_number(x)).numerator),
    "denominator": (1, 1, lambda x: Fraction(as_number(x)).denominator),
    "bit-and": (2, None, _bits(lambda a, b: a & b)),
    "bit-or": (2, None, _bits(lambda a, b: a | b)),
    "bit-xor": (2, None, _bits(lambda a, b: a ^ b)),
    "bit-shift-left": (2, 2, _shift(1)),
    "bit-shift-right": (2, 2, _shift(-1)),
    "==": (1, None, _chain(lambda a, b: bool(a == b))),
    "<": (1, None, _chain(lambda a, b: bool(a < b))),
    ">": (1, None, _chain(lambda a, b: bool(a > b))),
    "<=": (1, None, _chain(lambda a, b: bool(a <= b))),
    ">=": (1, None, _chain(lambda a, b: bool(a >= b))),
    "zero?": (1, 1, _sign_test(lambda x: bool(x == 0))),
    "pos?": (1, 1, _sign_test(lambda x: bool(x > 0))),
    "neg?": (1, 1, _sign_test(lambda x: bool(x < 0))),
    "even?": (1, 1, lambda x: as_integer(x) % 2 == 0),
    "odd?": (1, 1, lambda x: as_integer(x) % 2 == 1),
}
"""Name: fewest arguments, most (None: no limit), meaning."""
