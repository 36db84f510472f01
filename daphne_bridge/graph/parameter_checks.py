"""This file finds what is wrong with the parameters of a distribution."""

import math
from collections.abc import Callable, Iterator, Mapping

from ..errors import Problem, shortened
from ..language.families import FAMILIES
from ..language.primitives.numbers import as_double
from .expression import (
    Call,
    Constant,
    EvaluationError,
    Reference,
    evaluate,
    free_names,
    show,
    show_value,
)
from .graph import Graph
from .known_parts import is_number, length_of

__all__ = ["parameter_problems", "shape_problems"]


def _positive(value: float) -> bool:
    return 0 < value < math.inf


def _probability(value: float) -> bool:
    return 0 <= value <= 1


def _chance(value: float) -> bool:
    return 0 < value <= 1


_RANGES: Mapping[str, tuple[Callable[[float], bool], str]] = {
    **dict.fromkeys(
        ("standard deviation", "scale", "shape", "rate", "alpha", "beta"),
        (_positive, "a positive number"),
    ),
    "degrees of freedom": (_positive, "a positive number"),
    "probability": (_probability, "a number from 0 to 1"),
    "trials": (lambda n: 0 <= n < math.inf and n == int(n), "a whole number from 0"),
    "mean": (math.isfinite, "a finite number"),
    "location": (math.isfinite, "a finite number"),
}
_RANGES_OF: Mapping[tuple[str, str], tuple[Callable[[float], bool], str]] = {
    ("poisson", "rate"): (lambda r: 0 <= r < math.inf, "a finite number from 0"),
    ("geometric", "probability"): (_chance, "a number above 0, up to 1"),
    ("negative-binomial", "probability"): (_chance, "a number above 0, up to 1"),
}
"""Of families that take an edge which others do not, or the reverse."""


def parameter_problems(call: Call, where: str) -> Iterator[Problem]:
    """Yield problems of the constant parameters of a distribution."""
    family = FAMILIES[call.head]
    for name, argument in zip(family.parameters, call.arguments, strict=True):
        if free_names(argument):
            continue
        try:
            value = evaluate(argument, {})
        except EvaluationError as error:
            yield Problem(where, f"{family.name}'s {name} has no value: {error}")
            continue
        wants_vector = family.event != "scalar" or family.name in (
            "discrete",
            "categorical",
        )
        if wants_vector and name not in ("degrees of freedom",):
            if not isinstance(value, tuple) or not value:
                yield Problem(
                    where, f"{family.name}'s {name}", "a vector", show_value(value)[:60]
                )
            elif name in ("weights", "concentrations") and not all(
                is_number(v) and (v > 0 if name == "concentrations" else v >= 0)
                for v in value
            ):
                yield Problem(
                    where,
                    f"{family.name}'s {name}",
                    "positive numbers"
                    if name == "concentrations"
                    else "numbers that are not negative",
                    show_value(value)[:60],
                )
            continue
        if not is_number(value):
            yield Problem(
                where, f"{family.name}'s {name}", "a number", show_value(value)[:60]
            )
            continue
        test = _RANGES_OF.get((family.name, name), _RANGES.get(name))
        if test is not None and not test[0](as_double(value)):
            shown = shortened(show_value(value))
            yield Problem(where, f"{family.name}'s {name}", test[1], shown)
    if family.support in ("interval", "integer interval") and len(call.arguments) == 2:
        low, high = call.arguments
        if (
            family.name.startswith("uniform")
            and isinstance(low, Constant)
            and isinstance(high, Constant)
            and is_number(low.value)
            and is_number(high.value)
            and not low.value < high.value
        ):
            yield Problem(
                where,
                f"{family.name} is empty",
                "a minimum below the maximum",
                show(call),
            )


def shape_problems(graph: Graph, call: Call, where: str) -> Iterator[Problem]:
    """Yield problems of vectors and matrices whose shape is known beforehand."""
    if call.head == "categorical":
        pairs = call.arguments[0]
        is_node = isinstance(pairs, Reference)
        entries = (
            pairs.arguments
            if isinstance(pairs, Call) and pairs.head == "vector"
            else ()
        )
        if (
            is_node
            or any(length_of(entry) not in (None, 2) for entry in entries)
            or (
                any(
                    isinstance(e, Constant) and not isinstance(e.value, tuple)
                    for e in entries
                )
            )
        ):
            yield Problem(
                where,
                "the parameter of categorical is no list of pairs",
                "a vector of [value weight] pairs, or (discrete weights)",
                show(pairs, graph.labels, limit=60),
            )
    if call.head in ("mvn", "multivariate-t", "wishart"):
        matrix = call.arguments[-1]
        rows = matrix.arguments if isinstance(matrix, Call) else ()
        sizes = {length_of(row) for row in rows} if length_of(matrix) else set()
        if sizes and sizes != {len(rows)} and None not in sizes:
            shown = " and ".join(map(str, sorted(s for s in sizes if s is not None)))
            yield Problem(
                where,
                f"the matrix of {call.head} is not square",
                f"{len(rows)} rows of {len(rows)} numbers",
                f"{len(rows)} rows of {shown}",
            )
        location = call.arguments[-2] if call.head != "wishart" else None
        size = length_of(location) if location is not None else None
        if size is not None and rows and size != len(rows) and length_of(matrix):
            yield Problem(
                where,
                f"the parameters of {call.head} differ in size",
                "one dimension",
                f"{size} and {len(rows)}",
            )
