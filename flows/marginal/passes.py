"""This file sums all variables out, join after join, and sends gradients back.

Forward, each join leaves one more block of numbers, what is left when its variables are
summed out. Backward, the gradient of log Z goes from each block to those that its join
read, added up in place: one pass for any number of tables, and the probability of every
value of every variable on the way.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .joins import Join
from .log_sums import LogSum
from .reads import Numbers, Read

__all__ = ["Pass", "as_block", "joined_tables", "log_sum", "row_parts"]

_MOST_NUMBERS = 2**25
"""Most entries of all joined tables that memory holds for several rows."""


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """What some of a join's variables left.

    Attributes:
        members: Which of them.
        join: Their own.
        sum: What is left of them.
    """

    members: slice
    join: Join
    sum: LogSum


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """What was summed out of some numbers.

    Attributes:
        joins: What was done, in order.
        left: What was read when nothing was left to sum.
        blocks: The numbers, those that were made after those that were given.
        sums: What each join left, part after part.
        log_sum: log Z of every row.
    """

    joins: Sequence[Join]
    left: Sequence[Read]
    blocks: Sequence[Numbers]
    sums: Sequence[Sequence[_Part]]
    log_sum: Float[Tensor, " row"]

    @classmethod
    def of(
        cls, joins: Sequence[Join], left: Sequence[Read], given: Sequence[Numbers]
    ) -> "Pass":
        """Return the sum over all variables of joins.

        Args:
            joins: In order; each reads blocks that are given or were made before.
            left: Reads what is summed in the end.
            given: Blocks of numbers.
        """
        blocks, sums = list(given), []
        for join in joins:
            found = _summed(join, blocks)
            sums.append(found)
            value = _cat([part.sum.value for part in found])
            blocks.append(as_block(join, value))
        total = given[0].new_zeros(max(block.shape[1] for block in given))
        for read in left:
            total = total + read.of_blocks(blocks).sum((0, 1, 2))
        return cls(joins, left, blocks, sums, total)

    def gradients(
        self,
        gradient: Float[Tensor, " row"],
        wanted: Sequence[bool],
        marginals: list[Tensor] | None = None,
    ) -> list[Tensor | None]:
        """Return the gradients by the blocks that were given.

        Args:
            gradient: By log Z of every row.
            wanted: Which of them; those of the others are None.
            marginals: Takes Σ gradient · p(value) of each join's variables, [member,
                value, row], the last join's first.
        """
        # Those of blocks that are made for all rows are of each row all the same.
        rows = 0 if marginals is None else len(gradient)
        is_wanted = [*wanted]
        for join in self.joins:
            reads = (*join.left, *join.right)
            is_wanted.append(bool(rows) or any(is_wanted[r.block] for r in reads))
        found = _Gradients(self.blocks, is_wanted, rows)
        for read in self.left:
            found.send(read, gradient.expand(*read.shape, -1))
        number = len(self.blocks)
        for join, summed in zip(reversed(self.joins), reversed(self.sums), strict=True):
            number -= 1
            if not is_wanted[number]:
                continue
            own = found.of(number)
            shape = (len(join.variables), *join.sizes, own.shape[1])
            whole = own.reshape(shape)
            is_put = found.prepared((*join.left, *join.right))
            of_values: list[Tensor] = []
            for part in summed:
                to_left, to_right = part.sum.gradients(whole[part.members])
                if marginals is not None:
                    of_values.append(to_left.sum(2))
                for read in part.join.left:
                    found.send(read, to_left, is_put=read.block in is_put)
                if to_right is not None:
                    for read in part.join.right:
                        found.send(read, to_right, is_put=read.block in is_put)
            if marginals is not None:
                marginals.append(_cat(of_values))
            del found.made[number]
        return [
            found.of(number) if is_asked else None
            for number, is_asked in enumerate(wanted)
        ]


@dataclass(frozen=True, slots=True, eq=False)
class _Gradients:
    """The gradients by blocks, each made when something adds to it.

    Attributes:
        blocks: The blocks.
        is_wanted: Which of them count.
        rows: Least number of rows of a gradient.
        made: Those that were made, by number.
    """

    blocks: Sequence[Numbers]
    is_wanted: Sequence[bool]
    rows: int
    made: dict[int, Tensor] = field(default_factory=dict)

    def of(self, number: int) -> Numbers:
        """Return the gradient by a block so far."""
        if number not in self.made:
            block = self.blocks[number]
            shape = (len(block), max(self.rows, block.shape[1]))
            self.made[number] = block.new_zeros(shape)
        return self.made[number]

    def prepared(self, reads: Sequence[Read]) -> set[int]:
        """Return the blocks that a join reads, once, before anything else sends back.

        What is sent to them is put in place, not added.
        """
        numbers = [read.block for read in reads]
        found = set()
        for read in reads:
            number = read.block
            if not self.is_wanted[number] or number in self.made:
                continue
            block = self.blocks[number]
            if numbers.count(number) == 1 and read.is_all_of(block):
                rows = max(self.rows, block.shape[1])
                self.made[number] = block.new_empty(len(block), rows)
                found.add(number)
        return found

    def send(self, read: Read, gradient: Tensor, *, is_put: bool = False) -> None:
        """Add the gradient by what was read to that by its block, or put it there."""
        number = read.block
        if not self.is_wanted[number]:
            return
        block = self.blocks[number]
        rows = max(self.rows, block.shape[1])
        own = gradient.sum_to_size(*read.shape, rows)
        if is_put:
            read.put(own, self.made[number])
        else:
            read.add(own, self.of(number))


def joined_tables(
    join: Join, blocks: Sequence[Numbers]
) -> tuple[Float[Tensor, "member value left row"], Tensor | None]:
    """Return the tables of a join over the first and over the other neighbours."""
    left = _added(join.left, blocks)
    if left is None:
        left = blocks[0].new_zeros(len(join.variables), join.cardinality, 1, 1)
    return left, _added(join.right, blocks)


def _summed(join: Join, blocks: Sequence[Numbers]) -> list[_Part]:
    """Return what is left of a join, some of its variables after the others."""
    reads = (*join.left, *join.right)
    rows = max((blocks[read.block].shape[1] for read in reads), default=1)
    found = []
    for members, part in join.parts(rows):
        table, other = joined_tables(part, blocks)
        is_own = len(part.left) > 1  # a sum, not a view of a block
        summed = LogSum.of(table, other, may_change=is_own)
        found.append(_Part(members, part, summed))
    return found


def as_block(join: Join, value: Tensor) -> Numbers:
    """Return what is left of a join as a block of numbers."""
    size = join.sizes[0] * join.sizes[1]
    found = value.reshape(len(value), size, value.shape[-1])
    found = found.expand(len(join.variables), -1, -1)
    return found.reshape(-1, found.shape[-1])


def log_sum(
    joins: Sequence[Join], left: Sequence[Read], blocks: Sequence[Numbers]
) -> Float[Tensor, " row"]:
    """Return log Z of every row, with gradients by the blocks."""
    if torch.is_grad_enabled() and any(block.requires_grad for block in blocks):
        made: Tensor = _LogZ.apply(joins, left, *blocks)  # type: ignore[no-untyped-call]
        return made
    parts = row_parts(joins, blocks)
    return _cat([Pass.of(joins, left, part).log_sum for part in parts])


def row_parts(
    joins: Sequence[Join], blocks: Sequence[Numbers]
) -> list[Sequence[Numbers]]:
    """Return the blocks of some rows after the other, as many as memory holds."""
    rows = max(block.shape[1] for block in blocks)
    if rows == 1:
        return [blocks]
    of_rows = [block.shape[1] > 1 for block in blocks]
    entries = 0
    for join in joins:
        of_rows.append(any(of_rows[r.block] for r in (*join.left, *join.right)))
        if of_rows[-1]:
            entries += len(join.variables) * join.cardinality * math.prod(join.sizes)
    most = max(1, _MOST_NUMBERS // max(entries, 1))
    if rows <= most:
        return [blocks]
    return [
        [b if b.shape[1] == 1 else b[:, first : first + most] for b in blocks]
        for first in range(0, rows, most)
    ]


class _LogZ(Function):
    @staticmethod
    def forward(
        ctx: Any, joins: Sequence[Join], left: Sequence[Read], *blocks: Tensor
    ) -> Tensor:
        ctx.make = partial(Pass.of, joins, left)
        ctx.parts = parts = row_parts(joins, blocks)
        if len(parts) == 1:
            made = Pass.of(joins, left, parts[0])
            ctx.made = made
            return made.log_sum.clone()
        ctx.made = None  # all of them at once are too much: made again
        return _cat([ctx.make(part).log_sum for part in parts])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        wanted = ctx.needs_input_grad[2:]
        if ctx.made is not None:
            return None, None, *ctx.made.gradients(gradient, wanted)
        found: list[list[Tensor | None]] = []
        first = 0
        for part in ctx.parts:
            made = ctx.make(part)
            own = gradient[first : first + len(made.log_sum)]
            first += len(own)
            found.append(made.gradients(own, wanted))
        whole = zip(zip(*ctx.parts, strict=True), zip(*found, strict=True), strict=True)
        return None, None, *(_whole(*each) for each in whole)


def _whole(
    blocks: tuple[Tensor, ...], found: tuple[Tensor | None, ...]
) -> Tensor | None:
    """Return the gradient by a block from those by its parts."""
    known = [part for part in found if part is not None]
    if not known:
        return None
    is_shared = blocks[0] is blocks[-1]
    return sum(known[1:], known[0]) if is_shared else torch.cat(known, 1)


def _cat(parts: Sequence[Tensor]) -> Tensor:
    """Return the rows of parts, one after the other."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _added(reads: Sequence[Read], blocks: Sequence[Numbers]) -> Tensor | None:
    """Return the sum of tables, [member, value, rest, row]; None if there are none."""
    total: Tensor | None = None
    for read in reads:
        part = read.of_blocks(blocks)
        total = part if total is None else total + part
    return total
