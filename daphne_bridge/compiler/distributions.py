"""This file says which compile-time values are distributions, and checks their calls.

The number of parameters is checked always, their kind and range where they are
constant: a negative standard deviation is an error here, not a nan later.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from ..language.families import DISTRIBUTIONS
from ..language.primitives import HashMap, PrimitiveError, is_number, word_of
from .collection_terms import sequence
from .terms import (
    CallTerm,
    FunctionTerm,
    MapTerm,
    NodeTerm,
    SequenceTerm,
    is_constant,
    settled,
)

__all__ = [
    "check_observation",
    "check_parameters",
    "is_distribution",
]


def is_distribution(value: Any) -> bool:
    """Return whether `value` is a distribution, or selects one among distributions."""
    return isinstance(value, CallTerm) and value.is_distribution


def check_parameters(name: str, arguments: tuple[Any, ...]) -> None:
    """Check the parameters of the family `name`.

    Raises:
        PrimitiveError: Wrong number of parameters, or one that cannot be right.
    """
    family = DISTRIBUTIONS[name]
    if len(arguments) != len(family.parameters):
        wanted = ", ".join(family.parameters)
        raise PrimitiveError(
            f"{name} takes {len(family.parameters)} parameters ({wanted}), "
            f"not {len(arguments)}"
        )
    for parameter, argument in zip(family.parameters, arguments, strict=True):
        if isinstance(argument, FunctionTerm) or is_distribution(argument):
            kind = "function" if isinstance(argument, FunctionTerm) else "distribution"
            raise PrimitiveError(f"the {parameter} of {name} is a {kind}, not a value")
    for parameter, argument, rule in zip(
        family.parameters, arguments, _RULES[name], strict=True
    ):
        rule(f"the {parameter} of {name}", argument)
        # The document keeps a call of Math, whose value is certain all the same.
        value = settled(argument)
        if isinstance(value, float) and not math.isfinite(value):
            raise PrimitiveError(
                f"the {parameter} of {name} must be a finite number, not {value}"
            )
    _check_together(name, arguments)


def check_observation(distribution: CallTerm, value: Any) -> None:
    """Check that a distribution draws values of this kind; ranges are not checked.

    Raises:
        PrimitiveError: A number is observed where vectors are drawn, or the like.
    """
    family = DISTRIBUTIONS.get(distribution.head)
    if family is None or family.support == "category":
        return
    is_vector = isinstance(value, (tuple, SequenceTerm))
    if not is_constant(value) and not is_vector:
        return
    if family.event != "scalar":
        if not is_vector:
            raise PrimitiveError(f"{family.name} draws a {family.event}")
        return
    is_logic = isinstance(value, bool)
    if family.support == "point":
        if not is_logic and not is_number(value):
            raise PrimitiveError("dirac draws a number, true or false")
        return
    if family.support in ("boolean", "zero or one"):
        if not is_logic and not (is_number(value) and value in (0, 1)):
            raise PrimitiveError(f"{family.name} draws one of two values")
    elif not is_number(value):
        raise PrimitiveError(f"{family.name} draws a number")


Rule = Callable[[str, Any], None]


def _scalar(what: str, test: Callable[[Any], bool], wanted: str) -> Rule:
    def rule(parameter: str, value: Any) -> None:
        if isinstance(value, (SequenceTerm, MapTerm)):
            raise PrimitiveError(f"{parameter} must be {what}, not a collection")
        if is_constant(value) and not (is_number(value) and test(value)):
            raise PrimitiveError(f"{parameter} must be {wanted}, not {_written(value)}")

    return rule


def _written(value: Any) -> str:
    if word := word_of(value):
        return word
    if isinstance(value, tuple):
        return f"a collection of {len(value)}"
    return str(value)[:40]


def _items(value: Any) -> tuple[Any, ...] | None:
    if isinstance(value, SequenceTerm):
        return value.items
    return value if isinstance(value, tuple) else None


def _vector_of(entry: Rule, shape: str) -> Rule:
    def rule(parameter: str, value: Any) -> None:
        items = _items(value)
        if items is None:
            if is_constant(value) or isinstance(value, MapTerm):
                raise PrimitiveError(
                    f"{parameter} must be {shape}, not {_written(value)}"
                )
            return
        if not items:
            raise PrimitiveError(f"{parameter} must have at least one entry")
        for item in items:
            entry(f"an entry of {parameter}", item)

    return rule


def _matrix(parameter: str, value: Any) -> None:
    _vector_of(_vector_of(_NUMBER, "a vector of numbers"), "a matrix")(parameter, value)
    rows = _items(value)
    if rows is None:
        return
    widths = {len(row) for row in map(_items, rows) if row is not None}
    if widths and widths != {len(rows)}:
        raise PrimitiveError(f"{parameter} must be a square matrix")


def _pair(parameter: str, value: Any) -> None:
    items = _items(value)
    if items is None and not is_constant(value):
        return
    if items is None or len(items) != 2:
        raise PrimitiveError(
            f"{parameter} must be a pair [value weight], where discrete takes weights "
            "alone"
        )
    _NOT_NEGATIVE(f"the weight of {parameter}", items[1])


def _pairs(parameter: str, value: Any) -> None:
    _vector_of(_pair, "a vector of pairs [value weight]")(parameter, _rows(value))


def _rows(value: Any) -> Any:
    """Return the pairs of a map as rows, any other value as it is."""
    if isinstance(value, (HashMap, MapTerm)):
        entries = value if isinstance(value, HashMap) else value.entries
        return sequence(tuple(map(sequence, entries.pairs())))
    return value


def _check_together(name: str, arguments: tuple[Any, ...]) -> None:
    bounds = arguments[-2:] if _has_bounds(name) else ()
    if bounds and all(map(is_constant, bounds)) and bounds[0] >= bounds[1]:
        raise PrimitiveError(
            f"the minimum of {name} must be below the maximum, "
            f"not {bounds[0]} and {bounds[1]}"
        )
    if name in ("discrete", "categorical"):
        _check_some_weight(name, _rows(arguments[0]))
    if name in ("mvn", "multivariate-t"):
        location, matrix = map(_items, arguments[-2:])
        if location is not None and matrix is not None and len(location) != len(matrix):
            raise PrimitiveError(
                f"the location and the matrix of {name} differ in size: "
                f"{len(location)} and {len(matrix)}"
            )


def _has_bounds(name: str) -> bool:
    return DISTRIBUTIONS[name].support == "interval" or name == "uniform-discrete"


def _check_some_weight(name: str, weights: Any) -> None:
    items = _items(weights)
    if items is None or not all(map(is_constant, items)):
        return
    values = [x[1] if name == "categorical" else x for x in items]
    if not any(values):
        raise PrimitiveError(f"the weights of {name} are all zero")


def _counts(parameter: str, value: Any) -> None:
    if _items(value) != ():
        _vector_of(_NOT_NEGATIVE, "a vector of counts")(parameter, value)


def _any(parameter: str, value: Any) -> None:
    if is_constant(value) or isinstance(value, (NodeTerm, CallTerm)):
        return
    raise PrimitiveError(f"{parameter} must be a value")


_NUMBER = _scalar("a number", lambda x: True, "a number")  # noqa: ARG005
_POSITIVE = _scalar("a number", lambda x: bool(x > 0), "a positive number")
_NOT_NEGATIVE = _scalar("a number", lambda x: bool(x >= 0), "a number from 0")
_UNIT = _scalar("a number", lambda x: bool(0 <= x <= 1), "a number from 0 to 1")
_CHANCE = _scalar("a number", lambda x: bool(0 < x <= 1), "a number above 0, up to 1")
_COUNT = _scalar(
    "an integer", lambda x: bool(x >= 0 and x == int(x)), "an integer from 0"
)
_INTEGER = _scalar("an integer", lambda x: bool(x == int(x)), "an integer")
_NUMBERS = _vector_of(_NUMBER, "a vector of numbers")

_RULES: Mapping[str, tuple[Rule, ...]] = MappingProxyType(
    {
        "normal": (_NUMBER, _POSITIVE),
        "laplace": (_NUMBER, _POSITIVE),
        "gamma": (_POSITIVE, _POSITIVE),
        "beta": (_POSITIVE, _POSITIVE),
        "exponential": (_POSITIVE,),
        "uniform-continuous": (_NUMBER, _NUMBER),
        "uniform": (_NUMBER, _NUMBER),
        "truncated-normal": (_NUMBER, _POSITIVE, _NUMBER, _NUMBER),
        "half-normal": (_POSITIVE,),
        "cauchy": (_NUMBER, _POSITIVE),
        "half-cauchy": (_POSITIVE,),
        "lognormal": (_NUMBER, _POSITIVE),
        "inverse-gamma": (_POSITIVE, _POSITIVE),
        "student-t": (_POSITIVE,),
        "student-t-loc-scale": (_POSITIVE, _NUMBER, _POSITIVE),
        "chi-squared": (_POSITIVE,),
        "flip": (_UNIT,),
        "bernoulli": (_UNIT,),
        "binomial": (_COUNT, _UNIT),
        "poisson": (_NOT_NEGATIVE,),
        "dirac": (_any,),
        "geometric": (_CHANCE,),
        "negative-binomial": (_POSITIVE, _CHANCE),
        "categorical-crp": (_counts, _POSITIVE),
        "discrete": (_vector_of(_NOT_NEGATIVE, "a vector of weights"),),
        "categorical": (_pairs,),
        "uniform-discrete": (_INTEGER, _INTEGER),
        "dirichlet": (_vector_of(_POSITIVE, "a vector of positive numbers"),),
        "mvn": (_NUMBERS, _matrix),
        "multivariate-t": (_POSITIVE, _NUMBERS, _matrix),
        "wishart": (_POSITIVE, _matrix),
    }
)
