"""This file multiplies blocks of weights with features of 16 rows each.

    out[r] = (out[r]) + sum_b sum_q w_b[q, r] x_b[q]     over a list of blocks

Each weight is one broadcast to the lanes (`emitter.py`).
"""

# ruff: noqa: ARG001  (an intrinsic's arguments reach its builder by position)

from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .emitter import FLOATS, IS_WIDE, Emitter, Linked
from .tiles import LANES, REGISTER, address

__all__ = ["PRODUCT", "product"]

_MAX_ROWS = 12 if IS_WIDE else 6
"""Rows of a tile; with two registers each they fill all."""
_ROWS_OF_WIDTH = {4: 4, 2: 12, 1: 12} if IS_WIDE else {3: 4, 2: 6, 1: 6}
"""Registers of a tile's row -> the most rows it may have."""
_PARTS = LANES // REGISTER


@intrinsic  # type: ignore[untyped-decorator]
def _code(
    typing: Any, out: Any, x: Any, stride: Any, w: Any, blocks: Any, num_blocks: Any,
    first: Any, last: Any, rows: Any, groups: Any, accumulate: Any,
) -> Any:  # fmt: skip
    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emit = Emitter(builder)
        out_base, x_base, stride, w_base, blocks, num_blocks = args[:6]
        first, last, rows, groups, accumulate = args[6:]
        lists = [
            builder.gep(blocks, [builder.mul(num_blocks, emit.integer(k))])
            for k in range(3)
        ]
        parts = builder.mul(groups, emit.integer(_PARTS))
        adding = builder.icmp_signed("!=", accumulate, emit.integer(0))

        def tile(row: Any, height: int, part: Any, width: int) -> None:
            b = builder
            lane = b.mul(part, emit.integer(REGISTER))
            out_tile = b.gep(out_base, [b.add(b.mul(row, stride), lane)])
            places = []
            for r in range(height):
                line = b.mul(stride, emit.integer(r))
                for g in range(width):
                    place = b.add(line, emit.integer(g * REGISTER))
                    places.append(b.gep(out_tile, [place]))
            with (
                emit.sums(places, adding) as slots,
                emit.loop(first, last, 1) as (block, _),
            ):
                x_row, w_from, size = (b.load(b.gep(p, [block])) for p in lists)
                x_tile = b.gep(x_base, [b.add(b.mul(x_row, stride), lane)])
                w_tile = b.gep(w_base, [b.add(w_from, row)])
                with emit.loop(emit.integer(0), size, 1) as (q, _):
                    line = b.gep(x_tile, [b.mul(q, stride)])
                    weights = b.gep(w_tile, [b.mul(q, rows)])
                    inputs = [
                        emit.register_at(line, emit.integer(g * REGISTER))
                        for g in range(width)
                    ]
                    for r in range(height):
                        weight = emit.scalar_at(weights, emit.integer(r))
                        for g in range(width):
                            emit.multiply_add(slots[r * width + g], weight, inputs[g])

        def strip(row: Any, height: int) -> None:
            """One tile of rows over all registers, widest tiles first."""
            b = builder
            start: Any = emit.integer(0)
            for width, most in _ROWS_OF_WIDTH.items():
                if height > most:
                    continue
                count = b.sdiv(b.sub(parts, start), emit.integer(width))
                stop = b.add(start, b.mul(count, emit.integer(width)))
                with emit.loop(start, stop, width) as (part, _):
                    tile(row, height, part, width)
                start = stop

        with emit.tiles(rows, _MAX_ROWS) as (row, height):
            emit.choose(
                height,
                {
                    r: (lambda r=r: strip(row, r))  # type: ignore[misc]
                    for r in range(1, _MAX_ROWS + 1)
                },
            )
        return context.get_dummy_value()

    return PRODUCT.kind, build


PRODUCT = Linked(
    "daphne_flows_product",
    types.void(
        *[FLOATS, FLOATS, types.int64, FLOATS, types.CPointer(types.int64)],
        *[types.int64] * 6,
    ),
    lambda out, x, stride, w, blocks, num_blocks, first, last, rows, groups, add: _code(
        out, x, stride, w, blocks, num_blocks, first, last, rows, groups, add
    ),
)


@intrinsic  # type: ignore[untyped-decorator]
def product(
    typing: Any, out: Any, out_at: Any, x: Any, x_at: Any, stride: Any, w: Any,
    w_at: Any, blocks: Any, first: Any, last: Any, rows: Any, groups: Any,
    accumulate: Any,
) -> Any:  # fmt: skip
    """Write (or add) the sum over blocks of weights times features.

    Args:
        typing: Numba's context.
        out: rows of the result, from ``out_at``.
        out_at: offset.
        x: features, from ``x_at``.
        x_at: offset.
        stride: numbers from one feature to the next, in ``out`` and ``x``.
        w: weights, from ``w_at``; a block is [contracted feature, row].
        w_at: offset.
        blocks: three lists: per block its first feature in ``x``, its offset in ``w``,
            its number of contracted features.
        first: first block.
        last: one past the last block.
        rows: height of the result.
        groups: number of vectors per feature.
        accumulate: 1 to add to ``out``, 0 to overwrite it.
    """
    n = types.int64
    kind = types.void(out, n, x, n, n, w, n, blocks, n, n, n, n, n)

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kinds = sig.args
        lists = context.make_array(kinds[7])(context, builder, value=args[7])
        PRODUCT.call(
            builder,
            [
                address(context, builder, kinds[0], args[0], args[1]),
                address(context, builder, kinds[2], args[2], args[3]),
                args[4],
                address(context, builder, kinds[5], args[5], args[6]),
                lists.data,
                cgutils.unpack_tuple(builder, lists.shape)[1],
                *args[8:],
            ],
        )
        return context.get_dummy_value()

    return kind, build
