"""This file computes the functions of Anglican's runtime on unknown numbers."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ..values import Scalar, describe
from .applying import NoValue, Primitives, Rule, need_numbers
from .numbers import numeric, plus

__all__ = ["RUNTIME"]

Value = Any

_MOST_DIMENSIONS = 4096


def _power(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    need_numbers(arguments)
    base, exponent = arguments
    if not isinstance(exponent, Scalar) and float(exponent) == 2.0:
        return p.scalar("multiply", (base, base), "real")
    return p.scalar("power", arguments, "real")


def _log_mv_gamma(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    need_numbers(arguments)
    dimension, argument = arguments
    if not isinstance(dimension, int) or not 0 < dimension <= _MOST_DIMENSIONS:
        raise NoValue("the dimension must be a known positive integer")
    parts = [
        p.scalar(
            "logarithm of gamma", [p.affine([(1.0, argument)], -j / 2, "real")], "real"
        )
        for j in range(dimension)
    ]
    bias = dimension * (dimension - 1) / 4 * math.log(math.pi)
    return p.affine([(1.0, part) for part in parts], bias, "real")


def _items(value: Value) -> tuple[Value, ...]:
    if value is None:
        return ()
    if not isinstance(value, tuple):
        raise NoValue(f"a collection is needed, not {describe(value)}")
    need_numbers(value)
    return value


def _some_items(value: Value) -> tuple[Value, ...]:
    items = _items(value)
    if not items:
        raise NoValue("an empty vector has none")
    return items


def _sum(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    items = _items(arguments[0])
    return plus(p, items) if items else 0


def _mean(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    items = _some_items(arguments[0])
    return p.affine([(1.0 / len(items), item) for item in items], 0.0, "real")


def _variance(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    items = _some_items(arguments[0])
    mean = _mean(p, arguments)
    return _mean_square(p, items, [mean] * len(items), 1.0 / len(items))


def _mean_square(
    p: Primitives, left: Sequence[Value], right: Sequence[Value], weight: float
) -> Scalar:
    squares = []
    for a, b in zip(left, right, strict=True):
        gap = p.affine([(1.0, a), (-1.0, b)], 0.0, "real")
        squares.append((weight, p.scalar("multiply", (gap, gap), "real")))
    return p.affine(squares, 0.0, "real")


def _deviation(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    return p.scalar("square root", (_variance(p, arguments),), "real")


def _distance(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    left, right = map(_items, arguments)
    if len(left) != len(right):
        raise NoValue("the vectors differ in length")
    square = _mean_square(p, left, right, 1.0)
    return p.scalar("square root", (square,), "real")


RUNTIME: Mapping[str, Rule] = MappingProxyType(
    {
        "sqrt": numeric("square root", "real"),
        "cbrt": numeric("cube root", "real"),
        "exp": numeric("exponential", "real"),
        "log": numeric("logarithm", "real"),
        "log10": numeric("logarithm to base 10", "real"),
        "pow": _power,
        "power": _power,
        "sin": numeric("sine", "real"),
        "cos": numeric("cosine", "real"),
        "tan": numeric("tangent", "real"),
        "asin": numeric("arc sine", "real"),
        "acos": numeric("arc cosine", "real"),
        "atan": numeric("arc tangent", "real"),
        "atan2": numeric("arc tangent of quotient", "real"),
        "sinh": numeric("hyperbolic sine", "real"),
        "cosh": numeric("hyperbolic cosine", "real"),
        "tanh": numeric("hyperbolic tangent", "real"),
        "hypot": numeric("hypotenuse", "real"),
        "floor": numeric("floor", "real"),
        "ceil": numeric("ceiling", "real"),
        "rint": numeric("round half to even", "real"),
        "round": numeric("round", "integer"),
        "signum": numeric("sign", "real"),
        "erf": numeric("error function", "real"),
        "digamma": numeric("digamma", "real"),
        "log-gamma-fn": numeric("logarithm of gamma", "real"),
        "log-mv-gamma-fn": _log_mv_gamma,
        "log-sum-exp": numeric("logarithm of sum of exponentials", "real"),
        "sum": _sum,
        "mean": _mean,
        "variance": _variance,
        "std": _deviation,
        "l2-norm": _distance,
    }
)
