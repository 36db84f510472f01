"""This file adds up lanes.

total[k] += sum over lanes of acc[k]
"""

# ruff: noqa: ARG001  (an intrinsic's arguments reach its builder by position)

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .emitter import FLOATS, Emitter, Linked
from .tiles import BITS, LANES, VECTOR, address, read_vector, write_vector

__all__ = ["FOLD", "fold"]


@intrinsic  # type: ignore[untyped-decorator]
def _code(typing: Any, acc: Any, total: Any, count: Any) -> Any:
    """Whole sixteens by a tree of shuffles, the rest one by one."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emit = Emitter(builder)
        acc, total, count = args
        whole = builder.and_(count, emit.integer(-LANES))
        with emit.loop(emit.integer(0), whole, LANES) as (k, _):
            source = builder.gep(acc, [builder.mul(k, emit.integer(LANES))])
            vectors = [
                read_vector(builder, builder.gep(source, [emit.integer(n * LANES)]))
                for n in range(LANES)
            ]
            target = builder.gep(total, [k])
            folded = builder.fadd(read_vector(builder, target), _tree(emit, vectors))
            write_vector(builder, folded, target)
        with emit.loop(whole, count, 1) as (k, _):
            place = builder.gep(acc, [builder.mul(k, emit.integer(LANES))])
            value = read_vector(builder, place)
            target = builder.gep(total, [k])
            folded = builder.fadd(builder.load(target), _lane_sum(emit, value))
            builder.store(folded, target)
        return context.get_dummy_value()

    return FOLD.kind, build


def _tree(emit: Emitter, level: list[Any]) -> Any:
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


def _lane_sum(emit: Emitter, value: Any) -> Any:
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


FOLD = Linked(
    "daphne_flows_fold",
    types.void(FLOATS, FLOATS, types.int64),
    lambda acc, total, count: _code(acc, total, count),
)


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
        FOLD.call(builder, [*pointers, args[4]])
        return context.get_dummy_value()

    return kind, build
