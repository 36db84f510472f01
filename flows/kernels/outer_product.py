"""This file multiplies features with features of 16 rows each, and sums over groups.

acc[r, c] = (acc[r, c]) + sum_group a[r] b[c]        lanes kept apart
"""

# ruff: noqa: ARG001  (an intrinsic's arguments reach its builder by position)

from typing import Any

from numba import types
from numba.extending import intrinsic

from .emitter import FLOATS, IS_WIDE, Emitter, Linked
from .tiles import LANES, REGISTER, address

__all__ = ["OUTER", "outer"]

_ROWS, _COLUMNS = (4, 6) if IS_WIDE else (4, 3)
"""Of the largest tile."""


@intrinsic  # type: ignore[untyped-decorator]
def _code(
    typing: Any, acc: Any, a: Any, b: Any, stride: Any, rows: Any, columns: Any,
    groups: Any, accumulate: Any,
) -> Any:  # fmt: skip
    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emit = Emitter(builder)
        b = builder
        bases = args[:3]
        stride, rows, columns, groups, accumulate = args[3:]
        adding = b.icmp_signed("!=", accumulate, emit.integer(0))

        def tile(row: Any, height: int, column: Any, width: int, part: int) -> None:
            shift = emit.integer(part * REGISTER)
            places = []
            for r in range(height):
                line = b.mul(b.add(row, emit.integer(r)), columns)
                for c in range(width):
                    cell = b.add(line, b.add(column, emit.integer(c)))
                    cell = b.add(b.mul(cell, emit.integer(LANES)), shift)
                    places.append(b.gep(bases[0], [cell]))
            left = [
                b.gep(bases[1], [b.mul(b.add(row, emit.integer(r)), stride)])
                for r in range(height)
            ]
            right = [
                b.gep(bases[2], [b.mul(b.add(column, emit.integer(c)), stride)])
                for c in range(width)
            ]
            with (
                emit.sums(places, adding) as slots,
                emit.loop(emit.integer(0), groups, 1) as (group, _),
            ):
                lane = b.add(b.mul(group, emit.integer(LANES)), shift)
                over = [emit.register_at(pointer, lane) for pointer in right]
                for r in range(height):
                    value = emit.register_at(left[r], lane)
                    for c in range(width):
                        emit.multiply_add(slots[r * width + c], value, over[c])

        def tiles(row: Any, height: int, column: Any, width: int) -> None:
            for part in range(LANES // REGISTER):
                tile(row, height, column, width, part)

        with (
            emit.tiles(rows, _ROWS) as (row, height),
            emit.tiles(columns, _COLUMNS) as (column, width),
        ):
            key = b.add(b.mul(height, emit.integer(_COLUMNS + 1)), width)
            emit.choose(
                key,
                {
                    r * (_COLUMNS + 1) + c: (
                        lambda r=r, c=c: tiles(row, r, column, c)  # type: ignore[misc]
                    )
                    for r in range(1, _ROWS + 1)
                    for c in range(1, _COLUMNS + 1)
                },
            )
        return context.get_dummy_value()

    return OUTER.kind, build


OUTER = Linked(
    "daphne_flows_outer",
    types.void(FLOATS, FLOATS, FLOATS, *[types.int64] * 5),
    lambda acc, a, b, stride, rows, columns, groups, add: _code(
        acc, a, b, stride, rows, columns, groups, add
    ),
)


@intrinsic  # type: ignore[untyped-decorator]
def outer(
    typing: Any, acc: Any, acc_at: Any, a: Any, a_at: Any, b: Any, b_at: Any,
    stride: Any, rows: Any, columns: Any, groups: Any, accumulate: Any,
) -> Any:  # fmt: skip
    """Write (or add) a[r] b[c] summed over groups, one vector per (r, c)."""
    n = types.int64
    kind = types.void(acc, n, a, n, b, n, n, n, n, n, n)

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointers = [
            address(context, builder, sig.args[k], args[k], args[k + 1])
            for k in (0, 2, 4)
        ]
        OUTER.call(builder, [*pointers, *args[6:]])
        return context.get_dummy_value()

    return kind, build
