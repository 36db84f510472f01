"""This file multiplies blocks of weights with features of 16 rows each.

Lanes run over rows of a batch. An array [feature, group, 16 lanes] is flat float32; a
feature's lanes are ``stride`` numbers apart from the next feature's. On such arrays

    product   out[r] = (out[r]) + sum_b sum_q w_b[q, r] x_b[q]     over a list of blocks
    outer     acc[r, c] = (acc[r, c]) + sum_group a[r] b[c]        lanes kept apart
    fold      total[k] += sum over lanes of acc[k]

A tile of outputs stays in registers while the contraction runs; each weight is one
broadcast. Tiles are unrolled for all their heights and picked at run time, so one
compiled kernel serves blocks of any size. Without 16-lane registers tiles are smaller.
"""

# ruff: noqa: ARG001  (an intrinsic's arguments reach its builder by position)

from collections.abc import Callable, Sequence
from typing import Any

import numba
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .tiles import (
    BITS,
    LANES,
    VECTOR,
    address,
    has_wide_registers,
    read_vector,
    spread,
    write_vector,
)

__all__ = ["fold", "link", "outer", "product"]

_INT = ir.IntType(64)

_WIDE = has_wide_registers()
_MAX_ROWS = 12 if _WIDE else 5
"""Rows of a product's tile; with two groups they fill the vector registers."""
_ROWS_OF_GROUPS = {4: 4, 2: 12, 1: 12} if _WIDE else {2: 2, 1: 5}
"""Groups of a product's tile -> the most rows it may have."""
_OUTER_ROWS, _OUTER_COLUMNS = (4, 6) if _WIDE else (2, 3)
_FLOATS = types.CPointer(types.float32)
_LISTS = types.CPointer(types.int64)
_PRODUCT = types.void(
    _FLOATS, _FLOATS, types.int64, _FLOATS, _LISTS, *[types.int64] * 6
)
_OUTER = types.void(_FLOATS, _FLOATS, _FLOATS, *[types.int64] * 5)
_FOLD = types.void(_FLOATS, _FLOATS, types.int64)
_PRODUCT_SYMBOL = "daphne_flows_product"
_OUTER_SYMBOL = "daphne_flows_outer"
_FOLD_SYMBOL = "daphne_flows_fold"


class _Emitter:
    """Writes loops and tiles of LLVM instructions."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder
        self.fused = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(VECTOR, [VECTOR] * 3),
            f"llvm.fmuladd.v{LANES}f32",
        )

    def integer(self, value: int) -> Any:
        return ir.Constant(_INT, value)

    def loop(self, start: Any, stop: Any, step: int) -> Any:
        """Context of a counted loop that LLVM must not unroll; yields the index."""
        return cgutils.for_range_slice(
            self.builder, start, stop, self.integer(step), _INT, inc=True
        )

    def accumulators(self, count: int) -> list[Any]:
        return [cgutils.alloca_once(self.builder, VECTOR) for _ in range(count)]

    def vector_at(self, base: Any, offset: Any) -> Any:
        return read_vector(self.builder, self.builder.gep(base, [offset]))

    def scalar_at(self, base: Any, offset: Any) -> Any:
        pointer = self.builder.gep(base, [offset])
        return spread(self.builder, self.builder.load(pointer))

    def multiply_add(self, slot: Any, left: Any, right: Any) -> None:
        total = self.builder.load(slot)
        self.builder.store(self.builder.call(self.fused, [left, right, total]), slot)

    def choose(self, selector: Any, bodies: dict[int, Callable[[], None]]) -> None:
        """Run the body whose key is ``selector``; nothing if there is none."""
        builder = self.builder
        end = builder.append_basic_block("chosen")
        switch = builder.switch(selector, end)
        for key, body in bodies.items():
            block = builder.append_basic_block(f"case{key}")
            switch.add_case(self.integer(key), block)
            builder.position_at_end(block)
            body()
            builder.branch(end)
        builder.position_at_end(end)

    def tile_height(self, total: Any, most: int) -> Any:
        """Height of equal tiles, none above ``most``: ceil(total / number)."""
        b = self.builder
        one = self.integer(1)
        count = b.sdiv(b.add(total, self.integer(most - 1)), self.integer(most))
        count = b.select(b.icmp_signed("<", count, one), one, count)
        return b.sdiv(b.add(total, b.sub(count, one)), count)

    def minimum(self, left: Any, right: Any) -> Any:
        return self.builder.select(
            self.builder.icmp_signed("<", left, right), left, right
        )

    def tiles(self, total: Any, most: int) -> Any:
        """Context of a loop over equal tiles; yields (start, height)."""
        return _Tiles(self, total, most)


class _Tiles:
    def __init__(self, emit: _Emitter, total: Any, most: int) -> None:
        self.emit = emit
        self.total = total
        self.most = most

    def __enter__(self) -> tuple[Any, Any]:
        emit, b = self.emit, self.emit.builder
        self.height = emit.tile_height(self.total, self.most)
        self.slot = cgutils.alloca_once(b, _INT)
        b.store(emit.integer(0), self.slot)
        self.head = b.append_basic_block("tiles")
        self.body = b.append_basic_block("tile")
        self.end = b.append_basic_block("tiled")
        b.branch(self.head)
        b.position_at_end(self.head)
        start = b.load(self.slot)
        b.cbranch(b.icmp_signed("<", start, self.total), self.body, self.end)
        b.position_at_end(self.body)
        return start, emit.minimum(self.height, b.sub(self.total, start))

    def __exit__(self, *_: object) -> None:
        b = self.emit.builder
        b.store(b.add(b.load(self.slot), self.height), self.slot)
        b.branch(self.head)
        b.position_at_end(self.end)


@intrinsic  # type: ignore[untyped-decorator]
def _product_code(
    typing: Any,
    out: Any,
    x: Any,
    stride: Any,
    w: Any,
    blocks: Any,
    num_blocks: Any,
    first: Any,
    last: Any,
    rows: Any,
    groups: Any,
    accumulate: Any,
) -> Any:
    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emit = _Emitter(builder)
        out_base, x_base, stride, w_base, blocks, num_blocks = args[:6]
        first, last, rows, groups, accumulate = args[6:]
        lists = [
            builder.gep(blocks, [builder.mul(num_blocks, emit.integer(k))])
            for k in range(3)
        ]
        adding = builder.icmp_signed("!=", accumulate, emit.integer(0))

        def tile(row: Any, height: int, group: Any, width: int) -> None:
            b = builder
            lane = b.mul(group, emit.integer(LANES))
            out_tile = b.gep(out_base, [b.add(b.mul(row, stride), lane)])
            slots = emit.accumulators(height * width)
            places = []
            for r in range(height):
                line = b.mul(stride, emit.integer(r))
                for g in range(width):
                    place = b.add(line, emit.integer(g * LANES))
                    places.append(b.gep(out_tile, [place]))
            for slot in slots:
                b.store(ir.Constant(VECTOR, [0.0] * LANES), slot)
            with b.if_then(adding):
                for slot, place in zip(slots, places, strict=True):
                    b.store(read_vector(b, place), slot)
            with emit.loop(first, last, 1) as (block, _):
                x_row, w_from, size = (b.load(b.gep(p, [block])) for p in lists)
                x_tile = b.gep(x_base, [b.add(b.mul(x_row, stride), lane)])
                w_tile = b.gep(w_base, [b.add(w_from, row)])
                with emit.loop(emit.integer(0), size, 1) as (q, _):
                    line = b.gep(x_tile, [b.mul(q, stride)])
                    weights = b.gep(w_tile, [b.mul(q, rows)])
                    inputs = [
                        emit.vector_at(line, emit.integer(g * LANES))
                        for g in range(width)
                    ]
                    for r in range(height):
                        weight = emit.scalar_at(weights, emit.integer(r))
                        for g in range(width):
                            emit.multiply_add(slots[r * width + g], weight, inputs[g])
            for slot, place in zip(slots, places, strict=True):
                write_vector(b, b.load(slot), place)

        def strip(row: Any, height: int) -> None:
            """One tile of rows over all groups, widest tiles first."""
            b = builder
            start: Any = emit.integer(0)
            for width, most in _ROWS_OF_GROUPS.items():
                if height > most:
                    continue
                count = b.sdiv(b.sub(groups, start), emit.integer(width))
                stop = b.add(start, b.mul(count, emit.integer(width)))
                with emit.loop(start, stop, width) as (group, _):
                    tile(row, height, group, width)
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

    return _PRODUCT, build


@intrinsic  # type: ignore[untyped-decorator]
def _outer_code(
    typing: Any,
    acc: Any,
    a: Any,
    b: Any,
    stride: Any,
    rows: Any,
    columns: Any,
    groups: Any,
    accumulate: Any,
) -> Any:
    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emit = _Emitter(builder)
        b = builder
        bases = args[:3]
        stride, rows, columns, groups, accumulate = args[3:]
        adding = b.icmp_signed("!=", accumulate, emit.integer(0))

        def tile(row: Any, height: int, column: Any, width: int) -> None:
            slots = emit.accumulators(height * width)
            places = []
            for r in range(height):
                line = b.mul(b.add(row, emit.integer(r)), columns)
                for c in range(width):
                    cell = b.add(line, b.add(column, emit.integer(c)))
                    cell = b.mul(cell, emit.integer(LANES))
                    places.append(b.gep(bases[0], [cell]))
            for slot in slots:
                b.store(ir.Constant(VECTOR, [0.0] * LANES), slot)
            with b.if_then(adding):
                for slot, place in zip(slots, places, strict=True):
                    b.store(read_vector(b, place), slot)
            left = [
                b.gep(bases[1], [b.mul(b.add(row, emit.integer(r)), stride)])
                for r in range(height)
            ]
            right = [
                b.gep(bases[2], [b.mul(b.add(column, emit.integer(c)), stride)])
                for c in range(width)
            ]
            with emit.loop(emit.integer(0), groups, 1) as (group, _):
                lane = b.mul(group, emit.integer(LANES))
                over = [emit.vector_at(pointer, lane) for pointer in right]
                for r in range(height):
                    value = emit.vector_at(left[r], lane)
                    for c in range(width):
                        emit.multiply_add(slots[r * width + c], value, over[c])
            for slot, place in zip(slots, places, strict=True):
                write_vector(b, b.load(slot), place)

        with (
            emit.tiles(rows, _OUTER_ROWS) as (row, height),
            emit.tiles(columns, _OUTER_COLUMNS) as (column, width),
        ):
            key = b.add(b.mul(height, emit.integer(_OUTER_COLUMNS + 1)), width)
            emit.choose(
                key,
                {
                    r * (_OUTER_COLUMNS + 1) + c: (
                        lambda r=r, c=c: tile(row, r, column, c)  # type: ignore[misc]
                    )
                    for r in range(1, _OUTER_ROWS + 1)
                    for c in range(1, _OUTER_COLUMNS + 1)
                },
            )
        return context.get_dummy_value()

    return _OUTER, build


@intrinsic  # type: ignore[untyped-decorator]
def _fold_code(typing: Any, acc: Any, total: Any, count: Any) -> Any:
    """Whole sixteens by a tree of shuffles, the rest one by one."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emit = _Emitter(builder)
        acc, total, count = args
        whole = builder.and_(count, emit.integer(-LANES))
        with emit.loop(emit.integer(0), whole, LANES) as (k, _):
            source = builder.gep(acc, [builder.mul(k, emit.integer(LANES))])
            vectors = [
                emit.vector_at(source, emit.integer(n * LANES)) for n in range(LANES)
            ]
            target = builder.gep(total, [k])
            folded = builder.fadd(read_vector(builder, target), _tree(emit, vectors))
            write_vector(builder, folded, target)
        with emit.loop(whole, count, 1) as (k, _):
            value = emit.vector_at(acc, builder.mul(k, emit.integer(LANES)))
            target = builder.gep(total, [k])
            folded = builder.fadd(builder.load(target), _lane_sum(emit, value))
            builder.store(folded, target)
        return context.get_dummy_value()

    return _FOLD, build


def _tree(emit: _Emitter, level: list[Any]) -> Any:
    """The vector of the lane sums of 16 vectors."""
    builder = emit.builder
    part = LANES
    while part > 1:
        part //= 2
        low = [
            source * LANES + piece * 2 * part + lane
            for source in (0, 1)
            for piece in range(LANES // (2 * part))
            for lane in range(part)
        ]
        halves = [
            ir.Constant(BITS, low),
            ir.Constant(BITS, [lane + part for lane in low]),
        ]
        level = [
            builder.fadd(
                *(builder.shuffle_vector(left, right, half) for half in halves)
            )
            for left, right in zip(level[::2], level[1::2], strict=True)
        ]
    return level[0]


def _lane_sum(emit: _Emitter, value: Any) -> Any:
    """The sum of a vector's lanes."""
    builder = emit.builder
    undefined = ir.Constant(VECTOR, ir.Undefined)
    part = LANES
    while part > 1:
        part //= 2
        turned = [(lane + part) % LANES for lane in range(LANES)]
        other = builder.shuffle_vector(value, undefined, ir.Constant(BITS, turned))
        value = builder.fadd(value, other)
    return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))


def _product_body(
    out: Any,
    x: Any,
    stride: int,
    w: Any,
    blocks: Any,
    num_blocks: int,
    first: int,
    last: int,
    rows: int,
    groups: int,
    accumulate: int,
) -> None:
    _product_code(
        out, x, stride, w, blocks, num_blocks, first, last, rows, groups, accumulate
    )


def _outer_body(
    acc: Any,
    a: Any,
    b: Any,
    stride: int,
    rows: int,
    columns: int,
    groups: int,
    accumulate: int,
) -> None:
    _outer_code(acc, a, b, stride, rows, columns, groups, accumulate)


def _fold_body(acc: Any, total: Any, count: int) -> None:
    _fold_code(acc, total, count)


def link(*, cache: bool) -> tuple[object, ...]:
    """Compile the three products, or read them from Numba's cache, for `compiled` code.

    They are compiled apart and called by name, as LLVM would otherwise optimise a copy
    in every function that uses them. The result keeps them alive.
    """
    made = []
    for symbol, kind, body in (
        (_PRODUCT_SYMBOL, _PRODUCT, _product_body),
        (_OUTER_SYMBOL, _OUTER, _outer_body),
        (_FOLD_SYMBOL, _FOLD, _fold_body),
    ):
        function = numba.cfunc(kind, cache=cache)(body)
        binding.add_symbol(symbol, function.address)
        made.append(function)
    return tuple(made)


def _call(builder: Any, symbol: str, arguments: Sequence[Any]) -> None:
    kind = ir.FunctionType(ir.VoidType(), [value.type for value in arguments])
    function = cgutils.get_or_insert_function(builder.module, kind, symbol)
    builder.call(function, arguments)


@intrinsic  # type: ignore[untyped-decorator]
def product(
    typing: Any,
    out: Any,
    out_at: Any,
    x: Any,
    x_at: Any,
    stride: Any,
    w: Any,
    w_at: Any,
    blocks: Any,
    first: Any,
    last: Any,
    rows: Any,
    groups: Any,
    accumulate: Any,
) -> Any:
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
        _call(
            builder,
            _PRODUCT_SYMBOL,
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


@intrinsic  # type: ignore[untyped-decorator]
def outer(
    typing: Any,
    acc: Any,
    acc_at: Any,
    a: Any,
    a_at: Any,
    b: Any,
    b_at: Any,
    stride: Any,
    rows: Any,
    columns: Any,
    groups: Any,
    accumulate: Any,
) -> Any:
    """Write (or add) a[r] b[c] summed over groups, one vector per (r, c)."""
    n = types.int64
    kind = types.void(acc, n, a, n, b, n, n, n, n, n, n)

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointers = [
            address(context, builder, sig.args[k], args[k], args[k + 1])
            for k in (0, 2, 4)
        ]
        _call(builder, _OUTER_SYMBOL, [*pointers, *args[6:]])
        return context.get_dummy_value()

    return kind, build


@intrinsic  # type: ignore[untyped-decorator]
def fold(
    typing: Any, acc: Any, acc_at: Any, total: Any, total_at: Any, count: Any
) -> Any:
    """Add the lane sums of ``count`` vectors to as many numbers."""
    n = types.int64
    kind = types.void(acc, n, total, n, n)

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointers = [
            address(context, builder, sig.args[k], args[k], args[k + 1]) for k in (0, 2)
        ]
        _call(builder, _FOLD_SYMBOL, [*pointers, args[4]])
        return context.get_dummy_value()

    return kind, build
