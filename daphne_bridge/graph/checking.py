"""This file finds everything that is wrong or odd in a document, in one go.

Errors make a document unusable: its shape, unknown names, arities, cycles, a
distribution where a number must stand, a constant parameter outside its range, an
observation outside the support of its family. Warnings have a clear meaning all the
same: arcs that the original compiler lost, keys of `A` that are no nodes, observes
that never happen.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from ..building import building
from ..errors import GraphError, Problem
from ..language.families import FAMILIES
from .document import GraphDocument, NodeNames
from .expression import (
    Call,
    Constant,
    Expression,
    Reference,
    postorder,
    show,
    show_value,
)
from .graph import Graph, Node
from .json_paths import json_path
from .observation_checks import observation_problem
from .parameter_checks import parameter_problems, shape_problems

__all__ = ["CheckReport", "check_document"]

_NUMERIC_HEADS = frozenset(
    [
        "+", "-", "*", "/", "sqrt", "exp", "log", "tanh", "sin", "cos", "tan",
        "pow", "floor", "ceil", "abs", "max", "min", "mod", "rem", "quot", "inc",
        "dec", "<", ">", "<=", ">=", "square", "cbrt", "sinh", "cosh", "asin",
        "acos", "atan", "round",
    ]
)  # fmt: skip


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

    def usable_graph(self) -> Graph:
        """Return the graph.

        Raises:
            GraphError: With every problem, if there is one.
        """
        if self.problems or self.graph is None:
            raise GraphError(*self.problems)
        return self.graph


@building()
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
    for expression in postorder(roots, into=lambda call: not call.is_literal):
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
            yield from parameter_problems(expression, where)
            yield from shape_problems(graph, expression, where)
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
