"""This file computes with matrices, which are vectors of rows of doubles."""

import math
from collections.abc import Callable, Iterable

from .numbers import as_double, as_integer
from .runtime_functions import as_doubles, real_function
from .values import PrimitiveError, Rows, Value, checked_size, kind_of

__all__ = ["MATRICES"]

_Matrix = tuple[tuple[float, ...], ...]


def _matrix(value: Value) -> _Matrix:
    """Return a vector of equally long rows; a plain vector counts as a column."""
    if not isinstance(value, tuple):
        raise PrimitiveError(f"a matrix is needed, not {kind_of(value)}")
    if not any(isinstance(row, tuple) for row in value):
        return tuple((as_double(x),) for x in value)
    rows = tuple(
        tuple(as_double(x) for x in (row if isinstance(row, tuple) else (row,)))
        for row in value
    )
    if len({len(row) for row in rows}) > 1:
        raise PrimitiveError("the rows of a matrix differ in length")
    return rows


def _is_plain(value: Value) -> bool:
    return isinstance(value, tuple) and not any(isinstance(x, tuple) for x in value)


def _shape(matrix: _Matrix) -> tuple[int, int]:
    return len(matrix), len(matrix[0]) if matrix else 0


def _mat_mul(*factors: Value) -> Value:
    if _is_plain(factors[0]) and len(factors) > 1:
        result: _Matrix = (tuple(as_doubles(factors[0])),)
    else:
        result = _matrix(factors[0])
    for factor in factors[1:]:
        right = _matrix(factor)
        if _shape(result)[1] != _shape(right)[0]:
            raise PrimitiveError(
                "matrices of {}x{} and {}x{} cannot be multiplied".format(
                    *_shape(result), *_shape(right)
                )
            )
        columns = tuple(zip(*right, strict=True))
        checked_size(len(result) * len(columns) * max(1, len(right)) // 10)
        result = tuple(
            tuple(
                _ordered_sum(a * b for a, b in zip(row, column, strict=True))
                for column in columns
            )
            for row in result
        )
    if len(factors) > 1 and _is_plain(factors[-1]):
        plain = tuple(row[0] for row in result)
        return plain[0] if _is_plain(factors[0]) and len(plain) == 1 else plain
    return result[0] if len(factors) > 1 and _is_plain(factors[0]) else result


def _ordered_sum(terms: Iterable[float]) -> float:
    total = 0.0
    for term in terms:
        total += term
    return total


def _elementwise(function: Callable[..., Value]) -> Callable[..., Value]:
    def run(*arrays: Value) -> Value:
        if all(_is_plain(a) for a in arrays):
            if len({len(a) for a in arrays}) > 1:
                raise PrimitiveError("the vectors differ in length")
            return tuple(function(*xs) for xs in zip(*arrays, strict=True))
        matrices = [_matrix(a) for a in arrays]
        if len({_shape(m) for m in matrices}) > 1:
            raise PrimitiveError("the matrices differ in shape")
        return tuple(
            tuple(function(*xs) for xs in zip(*rows, strict=True))
            for rows in zip(*matrices, strict=True)
        )

    return run


def _mat_transpose(matrix: Value) -> Value:
    if _is_plain(matrix):
        return tuple(as_doubles(matrix))
    return tuple(zip(*_matrix(matrix), strict=True))


def _mat_repmat(matrix: Value, rows: Value, columns: Value) -> _Matrix:
    tall, wide = as_integer(rows), as_integer(columns)
    base = _matrix(matrix)
    if tall < 1 or wide < 1:
        raise PrimitiveError("a matrix is repeated at least once each way")
    checked_size(tall * wide * _shape(base)[0] * max(1, _shape(base)[1]))
    return tuple(row * wide for row in base) * tall


def _sum_doubles(*values: Value) -> float:
    return _ordered_sum(as_double(v) for v in values)


MATRICES: Rows = {
    "mat-mul": (1, None, _mat_mul),
    "mat-add": (1, None, _elementwise(_sum_doubles)),
    "mat-transpose": (1, 1, _mat_transpose),
    "mat-tanh": (1, 1, _elementwise(real_function(math.tanh))),
    "mat-relu": (1, 1, _elementwise(lambda x: max(0.0, as_double(x)))),
    "mat-repmat": (3, 3, _mat_repmat),
}
"""Name: fewest arguments, most (None: no limit), meaning."""
