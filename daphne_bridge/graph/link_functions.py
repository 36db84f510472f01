"""This file reads the link function and the data of each node of a document.

A link function is `["sample*", distribution]` or `["observe*", distribution, value]`,
an observe perhaps under `["if", condition, ..., 0]`: it counts where every condition
around it holds, and never where one of them is false beforehand.
"""

from dataclasses import dataclass
from typing import Any

from ..errors import shortened
from ..language.families import FAMILIES
from ..language.primitives import PRIMITIVES
from .calls import read_array
from .document import GraphDocument
from .expression import Call, Constant, Expression, ExpressionTable, is_false
from .json_paths import linked
from .term_reader import TermReader

__all__ = ["ParsedLink", "read_link", "read_observation", "term_reader"]


@dataclass(frozen=True, slots=True)
class ParsedLink:
    """The link function of one node.

    Attributes:
        kind: "sample*", "observe*", or "never" for an observe that cannot happen.
        distribution: The distribution, None if `kind` is "never".
        value: What is observed, None unless `kind` is "observe*".
        condition: When the observe counts, None if always.
    """

    kind: str
    distribution: Expression | None
    value: Expression | None = None
    condition: Expression | None = None


def term_reader(document: GraphDocument) -> TermReader:
    """Return what reads the terms of a document."""
    return TermReader(
        document.functions,
        document.vertices,
        ExpressionTable(),
        document.source,
        read_array,
    )


def read_link(reader: TermReader, name: str, term: Any) -> ParsedLink | None:
    """Return the link function of a node, or None after noting a problem."""
    path = linked(1, "P", name)
    condition: Expression | None = None
    while isinstance(term, list) and len(term) == 4 and term[0] == "if":
        test = reader.read(term[1], (path, 1))
        if test is None:
            return None
        if isinstance(test, Constant):
            if is_false(test.value):
                return ParsedLink("never", None)
        elif condition is None:
            condition = test
        else:
            condition = reader.table.call("and", [condition, test])
        term, path = term[2], (path, 2)
    if not isinstance(term, list) and term in (0, 1):
        return ParsedLink("never", None)
    head = term[0] if isinstance(term, list) and term else None
    size = {"sample*": 2, "observe*": 3}.get(head) if isinstance(head, str) else 0
    if not size or len(term) != size:
        reader.note(
            path,
            "not a link function",
            '["sample*", distribution] or ["observe*", distribution, value]',
            shortened(repr(term)),
        )
        return None
    distribution = reader.read(term[1], (path, 1))
    value = None
    if head == "observe*":
        value = reader.read_value(term[2], (path, 2))
        if value is None:
            return None
    if distribution is None:
        return None
    strange = _no_distribution(distribution)
    if strange is not None:
        reader.note(
            (path, 1),
            "not a distribution",
            "a call such as (normal 0 1)",
            strange.head if isinstance(strange, Call) else repr(strange),
        )
        return None
    return ParsedLink(str(head), distribution, value, condition)


def _no_distribution(expression: Expression) -> Expression | None:
    """Return what is no distribution among those that an expression selects."""
    stack = [expression]
    while stack:
        match stack.pop():
            case Call(head=head) if head in FAMILIES:
                continue
            case Call(head="if", arguments=(_, *choices)):
                stack.extend(choices)
            case Call(
                head="get" | "nth",
                arguments=(Call(head="vector", arguments=choices), _),
            ):
                stack.extend(choices)
            case strange:
                return strange
    return None


def read_observation(reader: TermReader, name: str, value: Any) -> Expression | None:
    """Return the expression of an entry of `Y`, where arrays are plain data.

    An array whose first entry names a primitive is an unevaluated call.
    """
    path = linked(1, "Y", name)
    if isinstance(value, dict):
        parts = [part for key, held in value.items() for part in (key, _tagged(held))]
        return reader.read(["hash-map", *parts], path)
    return reader.read_value(_tagged(value), path)


def _tagged(value: Any) -> Any:
    """Return an entry of `Y` with its plain arrays marked as vectors."""
    if not isinstance(value, list):
        return value
    head = value[0] if value else None
    if isinstance(head, str) and (head in PRIMITIVES or head == "if"):
        return value
    return ["vector", *map(_tagged, value)]
