"""This file computes the functions of Anglican's runtime, on doubles.

References:
    Tolpin, van de Meent, Yang, Wood, "Design and implementation of probabilistic
    programming language Anglican" (2016), https://arxiv.org/abs/1608.05263.
    Abramowitz, Stegun, "Handbook of mathematical functions" (1964), section 6.3.
"""

import math
from collections.abc import Callable

from .numbers import add, as_double, as_integer, reduced, truncate
from .values import MAX_COLLECTION, PrimitiveError, Rows, Value, as_sequence

__all__ = ["RUNTIME", "as_doubles", "real_function"]


def real_function(function: Callable[[float], float]) -> Callable[[Value], float]:
    """Return a function of one double that returns nan or infinity, never raises."""

    def run(x: Value) -> float:
        try:
            return function(as_double(x))
        except OverflowError:
            return math.inf
        except ValueError:
            return math.nan

    return run


def _log(x: float) -> float:
    return -math.inf if x == 0 else math.log(x)


def _power(a: Value, b: Value) -> float:
    try:
        return math.pow(as_double(a), as_double(b))
    except OverflowError:
        return math.inf
    except ValueError:
        return math.inf if as_double(a) == 0 else math.nan


def _round(x: Value) -> int:
    return truncate(
        math.floor(as_double(x) + 0.5) if math.isfinite(as_double(x)) else x
    )


def _digamma(x: float) -> float:
    """Derivative of log-gamma: recurrence up to 10, then the asymptotic series."""
    if x <= 0:
        if x == math.floor(x):
            return math.nan
        return _digamma(1 - x) - math.pi / math.tan(math.pi * x)
    shift = 0.0
    while x < 10:
        shift -= 1 / x
        x += 1
    # Bernoulli terms B_2k / (2k x^2k), Abramowitz and Stegun (1964), 6.3.18.
    y = 1 / (x * x)
    series = y * (1 / 12 - y * (1 / 120 - y * (1 / 252 - y * (1 / 240 - y / 132))))
    return shift + math.log(x) - 0.5 / x - series


def _log_mv_gamma(p: Value, a: Value) -> float:
    """Return the log of the multivariate gamma function of dimension p at a."""
    dimension, argument = as_integer(p), as_double(a)
    if not 0 < dimension <= MAX_COLLECTION:
        raise PrimitiveError("the dimension must be a positive integer")
    return dimension * (dimension - 1) / 4 * math.log(math.pi) + math.fsum(
        real_function(math.lgamma)(argument - j / 2) for j in range(dimension)
    )


def as_doubles(vector: Value) -> list[float]:
    """Return the numbers of a collection as doubles."""
    return [as_double(x) for x in as_sequence(vector)]


def _non_empty(vector: Value) -> list[float]:
    values = as_doubles(vector)
    if not values:
        raise PrimitiveError("an empty vector has none")
    return values


def _sum(vector: Value) -> Value:
    return reduced(add, 0)(*as_sequence(vector))


def _mean(vector: Value) -> float:
    values = _non_empty(vector)
    return math.fsum(values) / len(values)


def _variance(vector: Value) -> float:
    values = _non_empty(vector)
    mean = math.fsum(values) / len(values)
    return math.fsum((x - mean) ** 2 for x in values) / len(values)


def _l2_norm(a: Value, b: Value) -> float:
    return math.dist(as_doubles(a), as_doubles(b))


def _log_sum_exp(a: Value, b: Value) -> float:
    x, y = sorted((as_double(a), as_double(b)))
    return y if not math.isfinite(y) else y + math.log1p(math.exp(x - y))


RUNTIME: Rows = {
    "sqrt": (1, 1, real_function(math.sqrt)),
    "cbrt": (1, 1, real_function(math.cbrt)),
    "exp": (1, 1, real_function(math.exp)),
    "log": (1, 1, real_function(_log)),
    "log10": (1, 1, real_function(lambda x: -math.inf if x == 0 else math.log10(x))),
    "pow": (2, 2, _power),
    "power": (2, 2, _power),
    "sin": (1, 1, real_function(math.sin)),
    "cos": (1, 1, real_function(math.cos)),
    "tan": (1, 1, real_function(math.tan)),
    "asin": (1, 1, real_function(math.asin)),
    "acos": (1, 1, real_function(math.acos)),
    "atan": (1, 1, real_function(math.atan)),
    "atan2": (2, 2, lambda y, x: math.atan2(as_double(y), as_double(x))),
    "sinh": (1, 1, real_function(math.sinh)),
    "cosh": (1, 1, real_function(math.cosh)),
    "tanh": (1, 1, real_function(math.tanh)),
    "hypot": (2, 2, lambda a, b: math.hypot(as_double(a), as_double(b))),
    "floor": (
        1,
        1,
        real_function(lambda x: float(math.floor(x)) if math.isfinite(x) else x),
    ),
    "ceil": (
        1,
        1,
        real_function(lambda x: float(math.ceil(x)) if math.isfinite(x) else x),
    ),
    "rint": (1, 1, real_function(lambda x: float(round(x)) if math.isfinite(x) else x)),
    "round": (1, 1, _round),
    "signum": (1, 1, real_function(lambda x: x if x == 0 else math.copysign(1.0, x))),
    "erf": (1, 1, real_function(math.erf)),
    "digamma": (1, 1, real_function(_digamma)),
    "log-gamma-fn": (1, 1, real_function(math.lgamma)),
    "log-mv-gamma-fn": (2, 2, _log_mv_gamma),
    "log-sum-exp": (2, 2, _log_sum_exp),
    "sum": (1, 1, _sum),
    "mean": (1, 1, _mean),
    "variance": (1, 1, _variance),
    "std": (1, 1, lambda v: math.sqrt(_variance(v))),
    "l2-norm": (2, 2, _l2_norm),
    "finite?": (1, 1, lambda x: math.isfinite(as_double(x))),
    "infinite?": (1, 1, lambda x: math.isinf(as_double(x))),
    "NaN?": (1, 1, lambda x: math.isnan(as_double(x))),
}
"""Name: fewest arguments, most (None: no limit), meaning."""
