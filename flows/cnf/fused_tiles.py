"""This file gives Numba code vectors of 16 lanes, with products of blocks on them.

Lanes run over rows of a batch. An array [feature, group, 16 lanes] is flat float32; a
feature's lanes are ``stride`` numbers apart from the next feature's. On such arrays

    product   out[r] = (out[r]) + sum_b sum_q w_b[q, r] x_b[q]     over a list of blocks
    outer     acc[r, c] = (acc[r, c]) + sum_group a[r] b[c]        lanes kept apart
    fold      total[k] += sum over lanes of acc[k]

are written in LLVM's vector instructions: a tile of outputs stays in registers while
the contraction runs, each weight is one broadcast. Tiles are unrolled for all their
heights and picked at run time, so one compiled kernel serves blocks of any size.
`Vector` values are loaded, combined with ``+ - * /`` and stored; a product that is
added becomes one fused multiply-add.

On a processor without 16-lane registers LLVM splits the vectors, and the tiles shrink.
"""

# ruff: noqa: ARG001  (an intrinsic's arguments reach its builder by position)

import operator
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numba
from llvmlite import binding, ir
from numba.core import cgutils, types
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

__all__ = [
    "LANES",
    "OPTIONS",
    "compiled",
    "fold",
    "load",
    "outer",
    "product",
    "splat",
    "store",
    "tanh",
    "target",
]

LANES = 16
_FAST = ("contract",)
_INT = ir.IntType(64)
_FLOAT = ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, LANES)
_BITS = ir.VectorType(ir.IntType(32), LANES)

P = ParamSpec("P")
R = TypeVar("R")


OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract"},
}
"""How every function of the kernel is compiled."""


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """The function, compiled by Numba when it is first called."""
    return cast("Callable[P, R]", numba.njit(**OPTIONS)(function))


def target() -> str:
    """Processor and instruction sets that machine code is made for."""
    features = binding.get_host_cpu_features().flatten()
    return f"{binding.get_host_cpu_name()} {features}"


def _has_wide_registers() -> bool:
    return bool(binding.get_host_cpu_features().get("avx512f", False))


_WIDE = _has_wide_registers()
_MAX_ROWS = 12 if _WIDE else 5
"""Rows of a product's tile; with two groups they fill the vector registers."""
_ROWS_OF_GROUPS = {4: 4, 2: 12, 1: 12} if _WIDE else {2: 2, 1: 5}
"""Groups of a product's tile -> the most rows it may have."""
_OUTER_ROWS, _OUTER_COLUMNS = (4, 6) if _WIDE else (2, 3)


class _VectorType(types.Type):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(name="Vector16")


vector = _VectorType()


@register_model(_VectorType)  # type: ignore[untyped-decorator]
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


def _splat(builder: Any, scalar: Any) -> Any:
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(first, undefined, zeros)


def _as_vector(context: Any, builder: Any, value: Any, kind: Any) -> Any:
    if kind == vector:
        return value
    return _splat(builder, context.cast(builder, value, kind, types.float32))


_OPERAND_KINDS = [
    (vector, vector),
    (vector, types.float32),
    (types.float32, vector),
    (vector, types.float64),
    (types.float64, vector),
]


def _define_operator(symbol: Any, instruction: str) -> None:
    """Teach Numba ``symbol`` on vectors, or on a vector and a number."""

    class _Typing(ConcreteTemplate):  # type: ignore[misc]
        key = symbol
        cases = [signature(vector, *kinds) for kinds in _OPERAND_KINDS]  # noqa: RUF012

    infer_global(symbol)(_Typing)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        left, right = (
            _as_vector(context, builder, value, kind)
            for value, kind in zip(args, sig.args, strict=True)
        )
        return getattr(builder, instruction)(left, right, flags=_FAST)

    for kinds in _OPERAND_KINDS:
        lower_builtin(symbol, *kinds)(lower)


for _symbol, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _define_operator(_symbol, _instruction)


def _address(context: Any, builder: Any, kind: Any, array: Any, offset: Any) -> Any:
    """Pointer to a float array's element."""
    data = context.make_array(kind)(context, builder, value=array).data
    return builder.gep(data, [offset])


def _load_vector(builder: Any, pointer: Any) -> Any:
    return builder.load(builder.bitcast(pointer, _VECTOR.as_pointer()), align=4)


def _store_vector(builder: Any, value: Any, pointer: Any) -> None:
    builder.store(value, builder.bitcast(pointer, _VECTOR.as_pointer()), align=4)


@intrinsic  # type: ignore[untyped-decorator]
def load(typing: Any, array: Any, offset: Any) -> Any:
    """The 16 numbers of ``array`` from ``offset``."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _load_vector(
            builder, _address(context, builder, sig.args[0], args[0], args[1])
        )

    return vector(array, types.int64), build


@intrinsic  # type: ignore[untyped-decorator]
def store(typing: Any, array: Any, offset: Any, value: Any) -> Any:
    """Write 16 numbers to ``array`` from ``offset``."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = _address(context, builder, sig.args[0], args[0], args[1])
        _store_vector(builder, args[2], pointer)
        return context.get_dummy_value()

    return types.void(array, types.int64, vector), build


@intrinsic  # type: ignore[untyped-decorator]
def splat(typing: Any, scalar: Any) -> Any:
    """A vector whose lanes all hold ``scalar``."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _as_vector(context, builder, args[0], sig.args[0])

    return vector(scalar), build


@intrinsic  # type: ignore[untyped-decorator]
def _clamp(typing: Any, value: Any, bound: Any) -> Any:
    """Lanes cut to [-bound, bound]; nan stays nan."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        upper = _as_vector(context, builder, args[1], sig.args[1])
        lower = builder.fsub(ir.Constant(_VECTOR, [0.0] * LANES), upper)
        result = args[0]
        above = builder.fcmp_ordered(">", result, upper)
        result = builder.select(above, upper, result)
        below = builder.fcmp_ordered("<", result, lower)
        return builder.select(below, lower, result)

    return vector(vector, bound), build


@intrinsic  # type: ignore[untyped-decorator]
def _power_of_two(typing: Any, shifted: Any) -> Any:
    """2^n of a vector that holds n + 1.5 * 2^23, |n| < 127."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], _BITS)
        # the low mantissa bits of n + 1.5 * 2^23 are n; 127 is the exponent's bias
        biased = builder.add(bits, ir.Constant(_BITS, [127] * LANES))
        moved = builder.shl(biased, ir.Constant(_BITS, [23] * LANES))
        return builder.bitcast(moved, _VECTOR)

    return vector(vector), build


_ROUND = 12582912.0
_LOG2_E = 1.4426950408889634
_LN2_HIGH = 0.693359375
_LN2_LOW = -2.1219444005469057e-4


@compiled
def tanh(x: Any) -> Any:
    """Hyperbolic tangent, from e = exp(2x) - 1 as e / (e + 2); error about 1e-7.

    2x = n ln 2 + r; exp(r) - 1 is its Taylor polynomial of degree 7 in |r| <= ln(2)/2.
    """
    y = _clamp(x + x, 18.5)
    shifted = y * _LOG2_E + _ROUND
    n = shifted - _ROUND
    r = (y - n * _LN2_HIGH) - n * _LN2_LOW
    p = r * (1.0 / 5040.0) + (1.0 / 720.0)
    p = p * r + (1.0 / 120.0)
    p = p * r + (1.0 / 24.0)
    p = p * r + (1.0 / 6.0)
    p = p * r + 0.5
    p = p * (r * r) + r
    scale = _power_of_two(shifted)
    e = p * scale + (scale - 1.0)
    return e / (e + 2.0)


class _Emitter:
    """Writes loops and tiles of LLVM instructions."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder
        self.fused = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(_VECTOR, [_VECTOR] * 3),
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
        return [cgutils.alloca_once(self.builder, _VECTOR) for _ in range(count)]

    def vector_at(self, base: Any, offset: Any) -> Any:
        return _load_vector(self.builder, self.builder.gep(base, [offset]))

    def scalar_at(self, base: Any, offset: Any) -> Any:
        pointer = self.builder.gep(base, [offset])
        return _splat(self.builder, self.builder.load(pointer))

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
def _product(
    typing: Any,
    out: Any,
    out_at: Any,
    x: Any,
    x_at: Any,
    stride: Any,
    w: Any,
    w_at: Any,
    block_x: Any,
    block_w: Any,
    block_size: Any,
    first: Any,
    last: Any,
    rows: Any,
    groups: Any,
    accumulate: Any,
) -> Any:
    integer = types.int64
    sig = types.void(
        out, integer, x, integer, integer, w, integer, block_x, block_w, block_size,
        integer, integer, integer, integer, integer,
    )  # fmt: skip

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emit = _Emitter(builder)
        kinds = sig.args
        out_base = _address(context, builder, kinds[0], args[0], args[1])
        x_base = _address(context, builder, kinds[2], args[2], args[3])
        stride = args[4]
        w_base = _address(context, builder, kinds[5], args[5], args[6])
        lists = [
            _address(context, builder, kinds[k], args[k], emit.integer(0))
            for k in (7, 8, 9)
        ]
        first, last, rows, groups, accumulate = args[10:]
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
                b.store(ir.Constant(_VECTOR, [0.0] * LANES), slot)
            with b.if_then(adding):
                for slot, place in zip(slots, places, strict=True):
                    b.store(_load_vector(b, place), slot)
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
                _store_vector(b, b.load(slot), place)

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

    return sig, build


@intrinsic  # type: ignore[untyped-decorator]
def _outer(
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
    integer = types.int64
    sig = types.void(acc, integer, a, integer, b, integer, *[integer] * 5)

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emit = _Emitter(builder)
        b = builder
        bases = [
            _address(context, b, sig.args[k], args[k], args[k + 1]) for k in (0, 2, 4)
        ]
        stride, rows, columns, groups, accumulate = args[6:]
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
                b.store(ir.Constant(_VECTOR, [0.0] * LANES), slot)
            with b.if_then(adding):
                for slot, place in zip(slots, places, strict=True):
                    b.store(_load_vector(b, place), slot)
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
                _store_vector(b, b.load(slot), place)

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

    return sig, build


@intrinsic  # type: ignore[untyped-decorator]
def _fold(typing: Any, acc: Any, acc_at: Any, total: Any, total_at: Any) -> Any:
    """Add the lane sums of 16 vectors to 16 numbers, by a tree of shuffles."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emit = _Emitter(builder)
        source = _address(context, builder, sig.args[0], args[0], args[1])
        target = _address(context, builder, sig.args[2], args[2], args[3])
        level = [emit.vector_at(source, emit.integer(k * LANES)) for k in range(LANES)]
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
                ir.Constant(_BITS, low),
                ir.Constant(_BITS, [lane + part for lane in low]),
            ]
            level = [
                builder.fadd(
                    *(builder.shuffle_vector(left, right, half) for half in halves)
                )
                for left, right in zip(level[::2], level[1::2], strict=True)
            ]
        _store_vector(
            builder, builder.fadd(_load_vector(builder, target), level[0]), target
        )
        return context.get_dummy_value()

    return types.void(acc, types.int64, total, types.int64), build


@intrinsic  # type: ignore[untyped-decorator]
def _lane_sum(typing: Any, value: Any) -> Any:
    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        result = args[0]
        undefined = ir.Constant(_VECTOR, ir.Undefined)
        part = LANES
        while part > 1:
            part //= 2
            turned = [(lane + part) % LANES for lane in range(LANES)]
            other = builder.shuffle_vector(
                result, undefined, ir.Constant(_BITS, turned)
            )
            result = builder.fadd(result, other)
        return builder.extract_element(result, ir.Constant(ir.IntType(32), 0))

    return types.float32(vector), build


@compiled
def product(
    out: Any,
    out_at: int,
    x: Any,
    x_at: int,
    stride: int,
    w: Any,
    w_at: int,
    blocks: Any,
    first: int,
    last: int,
    rows: int,
    groups: int,
    accumulate: int,
) -> None:
    """Write (or add) the sum over blocks of weights times features.

    Args:
        out: rows of the result, from ``out_at``.
        out_at: offset.
        x: features, from ``x_at``.
        x_at: offset.
        stride: numbers from one feature to the next, in ``out`` and ``x``.
        w: weights; a block is [contracted feature, row].
        w_at: offset.
        blocks: per block its first feature in ``x``, its offset in ``w``, its number of
            contracted features.
        first: first block.
        last: one past the last block.
        rows: height of the result.
        groups: number of vectors per feature.
        accumulate: 1 to add to ``out``, 0 to overwrite it.
    """
    _product(
        out, out_at, x, x_at, stride, w, w_at, blocks[0], blocks[1], blocks[2],
        first, last, rows, groups, accumulate,
    )  # fmt: skip


@compiled
def outer(
    acc: Any,
    acc_at: int,
    a: Any,
    a_at: int,
    b: Any,
    b_at: int,
    stride: int,
    rows: int,
    columns: int,
    groups: int,
    accumulate: int,
) -> None:
    """Write (or add) a[r] b[c] summed over groups, one vector per (r, c)."""
    _outer(acc, acc_at, a, a_at, b, b_at, stride, rows, columns, groups, accumulate)


@compiled
def fold(acc: Any, acc_at: int, total: Any, total_at: int, count: int) -> None:
    """Add the lane sums of ``count`` vectors to as many numbers."""
    whole = count - count % LANES
    for k in range(0, whole, LANES):
        _fold(acc, acc_at + k * LANES, total, total_at + k)
    for k in range(whole, count):
        total[total_at + k] += _lane_sum(load(acc, acc_at + k * LANES))
