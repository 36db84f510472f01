"""This file says the sizes of random vectors and matrices.

A draw of `(mvn [0 0] ...)` has two numbers whatever they are: its count is known, and
a `map` or a `dot` of it is unrolled, as calls of `get`. So is a vector that a random
condition or a random index chooses among others of its size, and what functions of
matrices return.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from ..language.families import DISTRIBUTIONS
from ..language.primitives import HashMap
from .terms import CallTerm, NodeTerm, SequenceTerm, Term

__all__ = ["NUMERIC", "drawn_shape", "shape_of"]

Shape = tuple[int, ...] | None
"""Sizes, () of what is no collection; None where they are not known."""

NUMERIC = frozenset(
    {"+", "-", "*", "/", "inc", "dec", "mod", "rem", "quot", "abs", "min", "max"}
    | {"<", ">", "<=", ">=", "==", "int", "long", "double", "float", "zero?", "pos?"}
    | {"neg?", "even?", "odd?", "sqrt", "cbrt", "exp", "log", "log10", "pow", "power"}
    | {"sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh", "tanh"}
    | {"hypot", "floor", "ceil", "rint", "round", "signum", "erf", "digamma"}
    | {"log-gamma-fn", "log-mv-gamma-fn", "log-sum-exp"}
)
"""The functions all of whose arguments are numbers."""

_OF_MATRICES = frozenset(
    {"mat-mul", "mat-add", "mat-transpose", "mat-tanh", "mat-relu", "mat-repmat"}
)

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
        case CallTerm(head=head, arguments=arguments) if head in _OF_MATRICES:
            shapes = [_shape(each, seen, depth + 1) for each in arguments]
            shape = _matrix_shape(head, shapes, arguments)
        case CallTerm() if value.head in NUMERIC:
            shape = ()
        case SequenceTerm() | tuple():
            items = value.items if isinstance(value, SequenceTerm) else value
            shape = None if (part := inner(items)) is None else (len(items), *part)
        case HashMap() | Term() | None:
            pass
        case _:
            shape = ()
    seen[id(value)] = shape
    return shape


def _matrix_shape(head: str, shapes: list[Shape], arguments: tuple[Any, ...]) -> Shape:
    """Return the shape of what a function of matrices returns.

    Args:
        head: One of `_OF_MATRICES`.
        shapes: Those of its arguments; a plain vector counts as a column.
        arguments: Its arguments: `mat-repmat` says by the last two how often.
    """
    if head == "mat-repmat":
        times = arguments[1:]
        base = _as_matrix(shapes[0])
        if base is None or not all(type(each) is int and each > 0 for each in times):
            return None
        return base[0] * times[0], base[1] * times[1]
    if head == "mat-mul":
        return _product(shapes)
    common = _common(shapes)
    if common is None:
        return _common(map(_as_matrix, shapes))
    if len(common) not in (1, 2):
        return None
    return common[::-1] if head == "mat-transpose" else common


def _product(shapes: list[Shape]) -> Shape:
    """Return the shape of a product; a plain vector that begins it is a row."""
    factors = [each for shape in shapes if (each := _as_matrix(shape)) is not None]
    if len(factors) < len(shapes):
        return None
    if len(factors) == 1:
        return factors[0]
    is_row, is_column = (len(shapes[end] or ()) == 1 for end in (0, -1))
    if is_row:
        factors[0] = factors[0][::-1]
    if any(left[1] != right[0] for left, right in pairwise(factors)):
        return None
    rows, columns = factors[0][0], factors[-1][1]
    if is_column:
        return () if is_row else (rows,)
    return (columns,) if is_row else (rows, columns)


def _as_matrix(shape: Shape) -> tuple[int, int] | None:
    """Return the shape of a matrix, one column of a plain vector; None of others."""
    if shape is None or len(shape) not in (1, 2):
        return None
    return shape[0], shape[1] if len(shape) == 2 else 1


def _common(shapes: Iterable[Shape]) -> Shape:
    """Return the shape that all of some shapes are, else None."""
    found = set(shapes)
    return found.pop() if len(found) == 1 else None
