"""This file computes with matrices of unknown numbers, which are vectors of rows."""

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ..values import Scalar, describe
from .applying import NoValue, Primitives, Rule, need_numbers

__all__ = ["MATRICES"]

Value = Any


_Matrix = tuple[tuple[Value, ...], ...]


def _is_plain(value: Value) -> bool:
    return isinstance(value, tuple) and not any(isinstance(x, tuple) for x in value)


def _matrix(value: Value) -> _Matrix:
    """Return rows of equal length; a plain vector counts as a column."""
    if not isinstance(value, tuple):
        raise NoValue(f"a matrix is needed, not {describe(value)}")
    rows = tuple(row if isinstance(row, tuple) else (row,) for row in value)
    for row in rows:
        need_numbers(row)
        if len(row) != len(rows[0]):
            raise NoValue("the rows of a matrix differ in length")
    return rows


def _shape(matrix: _Matrix) -> str:
    return f"{len(matrix)}x{len(matrix[0]) if matrix else 0}"


def _mat_mul(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    first, last = arguments[0], arguments[-1]
    if len(arguments) == 1:
        return _matrix(first)
    result = (first,) if _is_plain(first) else _matrix(first)
    if _is_plain(first):
        need_numbers(first)
    for factor in arguments[1:]:
        right = _matrix(factor)
        if not result or len(result[0]) != len(right):
            raise NoValue(
                f"matrices of {_shape(result)} and {_shape(right)} cannot be multiplied"
            )
        columns = tuple(zip(*right, strict=True))
        result = tuple(tuple(_dot(p, row, c) for c in columns) for row in result)
    if _is_plain(last):
        plain = tuple(row[0] for row in result)
        return plain[0] if _is_plain(first) and len(plain) == 1 else plain
    return result[0] if _is_plain(first) else result


def _dot(p: Primitives, left: Sequence[Value], right: Sequence[Value]) -> Value:
    terms: list[tuple[float, Value]] = []
    bias = 0.0
    for a, b in zip(left, right, strict=True):
        if isinstance(a, Scalar) and isinstance(b, Scalar):
            terms.append((1.0, p.scalar("multiply", (a, b), "real")))
        elif isinstance(a, Scalar):
            terms.append((float(b), a))
        elif isinstance(b, Scalar):
            terms.append((float(a), b))
        else:
            bias += float(a) * float(b)
    return p.affine(terms, bias, "real") if terms else bias


def _by_element(combine: Callable[[Primitives, tuple[Value, ...]], Value]) -> Rule:
    def rule(p: Primitives, arguments: tuple[Value, ...]) -> Value:
        if all(_is_plain(a) for a in arguments):
            rows: list[tuple[Value, ...]] = list(arguments)
            for row in rows:
                need_numbers(row)
            if len({len(row) for row in rows}) > 1:
                raise NoValue("the vectors differ in length")
            return tuple(combine(p, items) for items in zip(*rows, strict=True))
        matrices = [_matrix(a) for a in arguments]
        if len({_shape(matrix) for matrix in matrices}) > 1:
            raise NoValue("the matrices differ in shape")
        return tuple(
            tuple(combine(p, items) for items in zip(*rows, strict=True))
            for rows in zip(*matrices, strict=True)
        )

    return rule


def _real_sum(p: Primitives, items: tuple[Value, ...]) -> Value:
    if not any(isinstance(item, Scalar) for item in items):
        return math.fsum(float(item) for item in items)
    return p.affine([(1.0, item) for item in items], 0.0, "real")


def _tanh(p: Primitives, items: tuple[Value, ...]) -> Value:
    (item,) = items
    if not isinstance(item, Scalar):
        return math.tanh(float(item))
    return p.scalar("hyperbolic tangent", items, "real")


def _rectified(p: Primitives, items: tuple[Value, ...]) -> Value:
    (item,) = items
    if not isinstance(item, Scalar):
        return max(0.0, float(item))
    return p.scalar("rectifier", items, "real")


def _transpose(_p: Primitives, arguments: tuple[Value, ...]) -> Value:
    (matrix,) = arguments
    if _is_plain(matrix):
        need_numbers(matrix)
        return tuple(matrix)
    return tuple(zip(*_matrix(matrix), strict=True))


def _repeated(_p: Primitives, arguments: tuple[Value, ...]) -> Value:
    matrix, rows, columns = arguments
    if not isinstance(rows, int) or not isinstance(columns, int):
        raise NoValue("how often a matrix is repeated must be known")
    if rows < 1 or columns < 1:
        raise NoValue("a matrix is repeated at least once each way")
    return tuple(row * columns for row in _matrix(matrix)) * rows


MATRICES: Mapping[str, Rule] = MappingProxyType(
    {
        "mat-mul": _mat_mul,
        "mat-add": _by_element(_real_sum),
        "mat-transpose": _transpose,
        "mat-tanh": _by_element(_tanh),
        "mat-relu": _by_element(_rectified),
        "mat-repmat": _repeated,
    }
)
