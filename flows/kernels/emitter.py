"""This file writes loops, tiles and calls of LLVM instructions, for the products.

Arrays are flat float32, [feature, group, 16 lanes]; a feature's lanes are ``stride``
numbers apart from the next feature's. A tile of outputs stays in registers while a
contraction runs. Tiles are unrolled for all their heights and picked at run time, so
one compiled kernel serves blocks of any size. Tiles are counted in registers, of 16
lanes or of 8, and those of 8 are smaller, as there are half as many.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numba
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils

from .tiles import LANES, REGISTER, read_vector, spread, write_vector

__all__ = ["FLOATS", "IS_WIDE", "Emitter", "Linked"]

IS_WIDE = REGISTER == LANES
"""Whether one register holds the lanes of a vector."""
FLOATS = types.CPointer(types.float32)
_INT = ir.IntType(64)
_REGISTER = ir.VectorType(ir.FloatType(), REGISTER)


class Emitter:
    """Writes loops and tiles of LLVM instructions."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder
        self.fused = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(_REGISTER, [_REGISTER] * 3),
            f"llvm.fmuladd.v{REGISTER}f32",
        )

    def integer(self, value: int) -> Any:
        """A constant."""
        return ir.Constant(_INT, value)

    def loop(self, start: Any, stop: Any, step: int) -> Any:
        """Context of a counted loop that LLVM must not unroll; yields the index."""
        return cgutils.for_range_slice(
            self.builder, start, stop, self.integer(step), _INT, inc=True
        )

    def register_at(self, base: Any, offset: Any) -> Any:
        """The numbers of a register from an offset."""
        return read_vector(self.builder, self.builder.gep(base, [offset]), REGISTER)

    def scalar_at(self, base: Any, offset: Any) -> Any:
        """The number at an offset, in all lanes of a register."""
        pointer = self.builder.gep(base, [offset])
        return spread(self.builder, self.builder.load(pointer), REGISTER)

    def multiply_add(self, slot: Any, left: Any, right: Any) -> None:
        """Add a product to a slot."""
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
        """The smaller of two integers."""
        return self.builder.select(
            self.builder.icmp_signed("<", left, right), left, right
        )

    @contextmanager
    def tiles(self, total: Any, most: int) -> Iterator[tuple[Any, Any]]:
        """Context of a loop over equal tiles; yields (start, height)."""
        b = self.builder
        tallest = self.tile_height(total, most)
        slot = cgutils.alloca_once(b, _INT)
        b.store(self.integer(0), slot)
        head, body, end = map(b.append_basic_block, ("tiles", "tile", "tiled"))
        b.branch(head)
        b.position_at_end(head)
        start = b.load(slot)
        b.cbranch(b.icmp_signed("<", start, total), body, end)
        b.position_at_end(body)
        yield start, self.minimum(tallest, b.sub(total, start))
        b.store(b.add(b.load(slot), tallest), slot)
        b.branch(head)
        b.position_at_end(end)

    @contextmanager
    def sums(self, places: Sequence[Any], adding: Any) -> Iterator[list[Any]]:
        """Context of sums in registers; yields their slots and writes them at its end.

        They start at 0, or where ``adding`` holds at what lies at ``places``.
        """
        b = self.builder
        slots = [cgutils.alloca_once(b, _REGISTER) for _ in places]
        for slot in slots:
            b.store(ir.Constant(_REGISTER, [0.0] * REGISTER), slot)
        with b.if_then(adding):
            for slot, place in zip(slots, places, strict=True):
                b.store(read_vector(b, place, REGISTER), slot)
        yield slots
        for slot, place in zip(slots, places, strict=True):
            write_vector(b, b.load(slot), place)


@dataclass(frozen=True, slots=True)
class Linked:
    """A function that is compiled apart and called by name.

    LLVM would otherwise optimise a copy in every function that uses it.

    Args:
        symbol: its name.
        kind: Numba's signature.
        body: what it does.
    """

    symbol: str
    kind: Any
    body: Callable[..., None]

    def link(self, *, cache: bool) -> object:
        """Compile it, or read it from Numba's cache; the result keeps it alive."""
        function = numba.cfunc(self.kind, cache=cache)(self.body)
        binding.add_symbol(self.symbol, function.address)
        return function

    def call(self, builder: Any, arguments: Sequence[Any]) -> Any:
        """Code that calls it."""
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in arguments])
        function = cgutils.get_or_insert_function(builder.module, kind, self.symbol)
        builder.call(function, arguments)
