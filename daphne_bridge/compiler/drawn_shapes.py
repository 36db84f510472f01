"""This file says the sizes of random vectors and matrices.

A draw of `(mvn [0 0] ...)` has two numbers whatever they are: its count is known, and
a `map` or a `dot` of it is unrolled, as calls of `get`. So is a vector that a random
condition or a random index chooses among others of its size.
"""

from collections.abc import Iterable
from typing import Any

from ..language.families import DISTRIBUTIONS
from ..language.primitives import HashMap
from .terms import CallTerm, NodeTerm, SequenceTerm, Term

__all__ = ["drawn_shape", "shape_of"]

Shape = tuple[int, ...] | None
"""Sizes, () of what is no collection; None where they are not known."""

_DEEPEST = 30
"""Choices within choices that are looked into."""

_SIZED = {"dirichlet": 0, "mvn": 0, "multivariate-t": 1, "wishart": 1}
"""Which parameter of a family has the size of its draws."""


def drawn_shape(distribution: Any) -> Shape:
    """Return the shape of every draw of a distribution."""
    if not isinstance(distribution, CallTerm):
        return None
    if distribution.head == "if":
        return _common(map(drawn_shape, distribution.arguments[1:]))
    family = DISTRIBUTIONS.get(distribution.head)
    if family is None or family.support == "category":
        return None
    if family.event == "scalar":
        return ()
    size = _count(distribution.arguments[_SIZED[family.name]])
    return size and size * (2 if family.event == "matrix" else 1)


def _count(value: Any) -> Shape:
    """Return the number of elements of a value, as the shape of a vector."""
    items = value.items if isinstance(value, SequenceTerm) else value
    if isinstance(value, CallTerm) and isinstance(value.elements, tuple):
        items = value.elements
    if isinstance(items, tuple):
        return (len(items),)
    shape = shape_of(value)
    return shape[:1] if shape else None


def shape_of(value: Any) -> Shape:
    """Return the shape of a value; None where it is not certain."""
    return _shape(value, {}, 0)


def _shape(value: Any, seen: dict[int, Shape], depth: int) -> Shape:
    if id(value) in seen or depth > _DEEPEST:
        return seen.get(id(value))

    def inner(values: Iterable[Any]) -> Shape:
        return _common(_shape(each, seen, depth + 1) for each in values)

    shape: Shape = None
    match value:
        case NodeTerm():
            shape = value.shape
        case CallTerm(head="if"):
            shape = inner(value.arguments[1:])
        case CallTerm(head="get" | "nth", arguments=(SequenceTerm() as of, _)):
            shape = inner(of.items)
        case CallTerm(head="get" | "nth", arguments=(of, _)):
            sizes = inner([of])
            shape = sizes[1:] if sizes else None
        case SequenceTerm() | tuple():
            items = value.items if isinstance(value, SequenceTerm) else value
            shape = None if (part := inner(items)) is None else (len(items), *part)
        case HashMap() | Term() | None:
            pass
        case _:
            shape = ()
    seen[id(value)] = shape
    return shape


def _common(shapes: Iterable[Shape]) -> Shape:
    """Return the shape that all of some shapes are, else None."""
    found = set(shapes)
    return found.pop() if len(found) == 1 else None
