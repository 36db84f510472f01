"""This file finds everything that is wrong or odd in a document, in one go.

Errors make a document unusable: its shape, unknown names, arities, cycles, a
distribution where a number must stand, a constant parameter outside its range, an
observation outside the support of its family. Warnings have a clear meaning all the
same: arcs that the original compiler lost, keys of `A` that are no nodes, observes
that never happen.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from ..errors import GraphError, Problem
from ..language.families import FAMILIES, Family
from .document import GraphDocument, NodeNames
from .expression import (
    Call,
    Constant,
    EvaluationError,
    Expression,
    Reference,
    Value,
    evaluate,
    free_names,
    postorder,
    show,
    show_value,
)
from .graph import Graph, Node
from .json_paths import json_path

__all__ = ["CheckReport", "check_document", "observation_problem"]

_NUMERIC_HEADS = frozenset(
    [
        "+",
        "-",
        "*",
        "/",
        "sqrt",
        "exp",
        "log",
        "tanh",
        "sin",
        "cos",
        "tan",
        "pow",
        "floor",
        "ceil",
        "abs",
        "max",
        "min",
        "mod",
        "rem",
        "quot",
        "inc",
        "dec",
        "<",
        ">",
        "<=",
        ">=",
        "square",
        "cbrt",
        "sinh",
        "cosh",
        "asin",
        "acos",
        "atan",
        "round",
    ]
)


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check found.

    Attributes:
        graph: The graph, or None if there are errors that prevent one.
        problems: Errors.
        warnings: Oddities with a clear meaning.
    """

    graph: Graph | None
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]


def check_document(
    document: GraphDocument, names: NodeNames | None = None
) -> CheckReport:
    """Return everything that is wrong or odd in a document."""
    try:
        graph = Graph.from_document(document, names)
    except GraphError as error:
        return CheckReport(None, error.problems, ())
    problems: list[Problem] = []
    for node in graph.nodes:
        problems.extend(_node_problems(graph, node, document.source))
    return CheckReport(graph, tuple(problems), graph.warnings)


def _node_problems(graph: Graph, node: Node, source: str) -> Iterator[Problem]:
    where = f"{source}: {json_path((1, 'P', node.name))}"
    roots = [node.distribution]
    if node.condition is not None:
        roots.append(node.condition)
    for expression in postorder(roots):
        if not isinstance(expression, Call):
            continue
        for argument in expression.arguments:
            is_distribution = isinstance(argument, Call) and argument.head in FAMILIES
            if is_distribution and expression.head not in (
                "if",
                "vector",
                "get",
                "nth",
            ):
                yield Problem(
                    where,
                    f"a distribution where {expression.head} needs a value",
                    "a number",
                    show(argument, limit=60),
                )
            elif expression.head in _NUMERIC_HEADS:
                yield from _not_a_number(graph, expression, argument, where)
        if expression.head in FAMILIES:
            yield from _parameter_problems(expression, where)
            yield from _shape_problems(graph, expression, where)
    if node.is_observed:
        for family in node.families[:1]:
            if len(node.families) == 1:
                yield from observation_problem(node, family, node.observation, where)


def _not_a_number(
    graph: Graph, call: Call, argument: Expression, where: str
) -> Iterator[Problem]:
    got = ""
    if isinstance(argument, Constant):
        value = argument.value
        if isinstance(value, bool) or not isinstance(value, int | float):
            is_ratio = hasattr(value, "numerator") and not isinstance(value, bool)
            got = "" if is_ratio else show_value(value)
    elif isinstance(argument, Call) and argument.head in ("vector", "hash-map"):
        got = show(argument, limit=60)
    elif isinstance(argument, Reference):
        families = graph.node(argument.name).families
        if families and all(f.event != "scalar" for f in families):
            got = f"{argument.name}, a {families[0].event}"
        elif families and all(f.support == "boolean" for f in families):
            got = f"{argument.name}, true or false"
    if got:
        yield Problem(where, f"{call.head} needs numbers", "a number", got)


def _positive(value: float) -> bool:
    return 0 < value < math.inf


def _probability(value: float) -> bool:
    return 0 <= value <= 1


_RANGES: Mapping[str, tuple[Callable[[float], bool], str]] = {
    "standard deviation": (_positive, "a positive number"),
    "scale": (_positive, "a positive number"),
    "shape": (_positive, "a positive number"),
    "rate": (_positive, "a positive number"),
    "alpha": (_positive, "a positive number"),
    "beta": (_positive, "a positive number"),
    "degrees of freedom": (_positive, "a positive number"),
    "probability": (_probability, "a number from 0 to 1"),
    "trials": (lambda n: n >= 0 and n == int(n), "a whole number from 0"),
    "mean": (math.isfinite, "a finite number"),
    "location": (math.isfinite, "a finite number"),
}


def _parameter_problems(call: Call, where: str) -> Iterator[Problem]:
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
                _is_number(v) and (v > 0 if name == "concentrations" else v >= 0)
                for v in value
            ):
                yield Problem(
                    where,
                    f"{family.name}'s {name}",
                    "numbers that are not negative",
                    show_value(value)[:60],
                )
            continue
        if not _is_number(value):
            yield Problem(
                where, f"{family.name}'s {name}", "a number", show_value(value)[:60]
            )
            continue
        test = _RANGES.get(name)
        if test is not None and not test[0](value):
            yield Problem(where, f"{family.name}'s {name}", test[1], show_value(value))
    if family.support in ("interval", "integer interval") and len(call.arguments) == 2:
        low, high = call.arguments
        if (
            family.name.startswith("uniform")
            and isinstance(low, Constant)
            and isinstance(high, Constant)
            and _is_number(low.value)
            and _is_number(high.value)
            and not low.value < high.value
        ):
            yield Problem(
                where,
                f"{family.name} is empty",
                "a minimum below the maximum",
                show(call),
            )


def _is_number(value: Value) -> bool:
    return (
        isinstance(value, int | float) or hasattr(value, "numerator")
    ) and not isinstance(value, bool)


def observation_problem(
    node: Node, family: Family, value: Value, where: str
) -> Iterator[Problem]:
    """Yield what is wrong with data for a node of one family, if anything.

    Args:
        node: The observed node.
        family: Its only family.
        value: The data.
        where: Place for the message.
    """
    what = f"the observation of {node.label}"

    def wrong(expected: str) -> Problem:
        return Problem(where, what, expected, show_value(value)[:60])

    if family.support == "point":
        if not isinstance(value, bool) and not _is_number(value):
            yield wrong("a number, true or false")
        return
    if family.event == "scalar" and family.support not in ("category", "boolean"):
        if not _is_number(value):
            yield wrong("a number")
            return
        if not math.isfinite(value):
            yield wrong("a finite number")
            return
    support = family.support
    if support == "boolean":
        if not isinstance(value, bool):
            yield wrong("true or false")
    elif support in ("positive", "nonnegative") and not (
        value > 0 if support == "positive" else value >= 0
    ):
        yield wrong("a positive number" if support == "positive" else "a number >= 0")
    elif support == "unit interval" and not 0 < value < 1:
        yield wrong("a number between 0 and 1")
    elif support == "zero or one" and value not in (0, 1):
        yield wrong("0 or 1")
    elif support in ("integers from zero", "index", "integer interval"):
        if value != int(value) or (support != "integer interval" and value < 0):
            yield wrong("a whole number" + ("" if "interval" in support else " from 0"))
        else:
            yield from _outside_bounds(node, value, wrong)
    elif support == "interval":
        yield from _outside_bounds(node, value, wrong)
    elif family.event != "scalar" and not isinstance(value, tuple):
        yield wrong(f"a {family.event}")


def _outside_bounds(
    node: Node, value: Value, wrong: Callable[[str], Problem]
) -> Iterator[Problem]:
    """Yield a problem if a number lies outside bounds that are constants."""
    call = node.distribution
    if not isinstance(call, Call) or call.head not in FAMILIES:
        return
    family = FAMILIES[call.head]
    if family.support == "index":
        size = _length(call.arguments[0])
        if size is not None and not 0 <= value < size:
            yield wrong(f"a whole number from 0 to {size - 1}")
        return
    if family.name == "binomial":
        low, high = 0, _constant(call.arguments[0])
    elif family.support in ("interval", "integer interval"):
        low, high = map(_constant, call.arguments[-2:])
    else:
        return
    is_below_top = family.name != "uniform-discrete"
    if low is not None and value < low:
        yield wrong(f"a number of at least {show_value(low)}")
    elif high is not None and (value > high or (value == high and not is_below_top)):
        word = "at most" if is_below_top else "below"
        yield wrong(f"a number {word} {show_value(high)}")


def _constant(expression: Expression) -> Value:
    """Return a number that is known beforehand, else None."""
    if free_names(expression):
        return None
    try:
        value = evaluate(expression, {})
    except EvaluationError:
        return None
    return value if _is_number(value) else None


def _length(expression: Expression) -> int | None:
    """Return the length of a vector whose length is known beforehand, else None."""
    if isinstance(expression, Call) and expression.head == "vector":
        return len(expression.arguments)
    if isinstance(expression, Constant) and isinstance(expression.value, tuple):
        return len(expression.value)
    return None


def _shape_problems(graph: Graph, call: Call, where: str) -> Iterator[Problem]:
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
            or any(_length(entry) not in (None, 2) for entry in entries)
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
        sizes = {_length(row) for row in rows} if _length(matrix) else set()
        if sizes and sizes != {len(rows)} and None not in sizes:
            shown = " and ".join(map(str, sorted(s for s in sizes if s is not None)))
            yield Problem(
                where,
                f"the matrix of {call.head} is not square",
                f"{len(rows)} rows of {len(rows)} numbers",
                f"{len(rows)} rows of {shown}",
            )
        location = call.arguments[-2] if call.head != "wishart" else None
        size = _length(location) if location is not None else None
        if size is not None and rows and size != len(rows) and _length(matrix):
            yield Problem(
                where,
                f"the parameters of {call.head} differ in size",
                "one dimension",
                f"{size} and {len(rows)}",
            )
