"""This file works out where each joined table reads, for rounds of variables.

Summing out v adds the tables that hold it to one over v and its neighbours. Where the
neighbours fall into two sets that no table joins, as those before and after a step of a
chain, the joined table is a sum L[v, a] + R[v, b] that is never formed. Alike variables
of a round are one step: tables [member, value, rest, row].
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .reads import IntArray, Read

__all__ = ["Join", "Joins", "Table"]

_AT_ONCE = 2**17
"""Numbers of a table that stay in the processor's cache."""
_MANY = 8
"""Tables of one variable from which on a matrix product joins them."""
_MOST_USED = 16
"""Numbers that they read for each table at most; else a sum is quicker, and smaller."""


@dataclass(frozen=True, eq=False)
class Table:
    """A table of numbers over discrete variables.

    Attributes:
        scope: Its variables, by number.
        entries: Which entry of its block each configuration has, one axis for each
            variable of the scope; configurations may share entries.
        block: Which of the blocks of numbers holds its entries.
    """

    scope: tuple[int, ...]
    entries: IntArray
    block: int = 0


@dataclass(frozen=True, eq=False)
class Join:
    """Alike variables that are summed out by one operation.

    Attributes:
        variables: Their numbers.
        cardinality: Their number of values.
        left: What is read of each table over a variable and the first neighbours.
        right: The same of the other neighbours; empty if there are none.
        sizes: Configurations of the first and of the other neighbours.
        rest: All neighbours of each variable, padded, [variable, most].
        strides: Their strides in the joined table, 0 where padded.
    """

    variables: Tensor
    cardinality: int
    left: tuple[Read, ...]
    right: tuple[Read, ...]
    sizes: tuple[int, int]
    rest: Tensor
    strides: Tensor

    def parts(self, rows: int) -> "list[tuple[slice, Join]]":
        """Return the join of some variables after the others, as many as cache holds.

        Args:
            rows: Of the numbers that it reads.
        """
        number, reads = len(self.variables), (*self.left, *self.right)
        entries = self.cardinality * max(self.sizes) * rows
        step = max(1, _AT_ONCE // entries)
        if step >= number or all(read.shape[0] == 1 for read in reads):
            return [(slice(None), self)]
        places = [slice(first, first + step) for first in range(0, number, step)]
        return [(members, self._among(members)) for members in places]

    def _among(self, members: slice) -> "Join":
        return Join(
            self.variables[members],
            self.cardinality,
            tuple(read.among(members) for read in self.left),
            tuple(read.among(members) for read in self.right),
            self.sizes,
            self.rest[members],
            self.strides[members],
        )


@dataclass(frozen=True, slots=True)
class _Member:
    """A variable with its tables, those over the first neighbours first."""

    variable: int
    left: tuple[int, ...]
    right: tuple[int, ...]
    tables: tuple[tuple[int, ...], tuple[int, ...]]


class Joins:
    """Works out the joins of tables, round by round."""

    def __init__(
        self, cardinalities: Sequence[int], tables: Sequence[Table], num_blocks: int
    ) -> None:
        self.cardinalities = cardinalities
        self.held: list[dict[int, None]] = [{} for _ in cardinalities]
        self.scopes: list[tuple[int, ...]] = []
        self.places: list[tuple[int, IntArray]] = []
        self.num_blocks = num_blocks
        for table in tables:
            self._add(table.scope, table.block, table.entries)

    def _add(self, scope: tuple[int, ...], block: int, places: IntArray) -> None:
        number = len(self.scopes)
        self.scopes.append(scope)
        self.places.append((block, places))
        for variable in scope:
            self.held[variable][number] = None

    def round(self, variables: Sequence[int]) -> list[Join]:
        """Return the joins of a round, alike variables together."""
        groups: dict[tuple[object, ...], list[_Member]] = {}
        for variable in variables:
            member = self._member(variable)
            key = (
                self.cardinalities[variable],
                self._size(member.left),
                self._size(member.right),
                *(
                    tuple((self.places[n][0], len(self.scopes[n]) > 1) for n in numbers)
                    for numbers in member.tables
                ),
            )
            groups.setdefault(key, []).append(member)
        return [self._join(members) for members in groups.values()]

    def _size(self, variables: Sequence[int]) -> int:
        size = 1
        for variable in variables:
            size *= self.cardinalities[variable]
        return size

    def _member(self, variable: int) -> _Member:
        """Return a variable with its neighbours in two sets that no table joins."""
        numbers = sorted(
            self.held[variable], key=lambda n: (self.places[n][0], len(self.scopes[n]))
        )
        rest = {v for n in numbers for v in self.scopes[n]}
        rest.discard(variable)
        left: set[int] = set()
        if rest:
            left.add(min(rest))
            scopes = [{*self.scopes[n]} - {variable} for n in numbers]
            grown = 0
            while grown < len(left):
                grown = len(left)
                for scope in scopes:
                    if not left.isdisjoint(scope):
                        left.update(scope)
        right = rest - left
        ahead = tuple(n for n in numbers if right.isdisjoint(self.scopes[n]))
        behind = tuple(n for n in numbers if not right.isdisjoint(self.scopes[n]))
        return _Member(
            variable, tuple(sorted(left)), tuple(sorted(right)), (ahead, behind)
        )

    def _join(self, members: list[_Member]) -> Join:
        first = members[0]
        sizes = self._size(first.left), self._size(first.right)
        reads = self._reads(members, 0), self._reads(members, 1)
        most = max(1, *(len(m.left) + len(m.right) for m in members))
        around = np.zeros((len(members), most), dtype=np.int64)
        strides = np.zeros((len(members), most), dtype=np.int64)
        block = self.num_blocks
        self.num_blocks += 1
        start = 0
        for position, member in enumerate(members):
            rest = (*member.left, *member.right)
            own = [self.cardinalities[v] for v in rest]
            size = sizes[0] * sizes[1]
            stride = size
            for axis, cardinality in enumerate(own):
                stride //= cardinality
                around[position, axis] = rest[axis]
                strides[position, axis] = stride
            for number in (*member.tables[0], *member.tables[1]):
                for other in self.scopes[number]:
                    self.held[other].pop(number, None)
            places = np.arange(start, start + size, dtype=np.int64).reshape(own)
            start += size
            self._add(rest, block, places)
        return Join(
            torch.tensor([member.variable for member in members]),
            self.cardinalities[first.variable],
            *reads,
            sizes,
            torch.from_numpy(around),
            torch.from_numpy(strides),
        )

    def _reads(self, members: Sequence[_Member], side: int) -> tuple[Read, ...]:
        """Return what is read of the tables over one set of neighbours."""
        scopes = [(m.variable, *(m.right if side else m.left)) for m in members]
        alike: dict[tuple[int, tuple[int, ...]], list[IntArray]] = {}
        for numbers in zip(*(m.tables[side] for m in members), strict=True):
            positions = self._positions(numbers, scopes)
            key = (self.places[numbers[0]][0], positions.shape)
            alike.setdefault(key, []).append(positions)
        reads: list[Read] = []
        for (block, _), columns in alike.items():
            if len(members) == 1 and _are_shared(columns):
                reads.append(Read.counted(block, columns))
            else:
                reads.extend(Read.of(block, column) for column in columns)
        return tuple(reads)

    def _positions(
        self, numbers: Sequence[int], scopes: Sequence[tuple[int, ...]]
    ) -> IntArray:
        """Return where one table of each member has its entries, [member, value, rest].

        The rest has one entry where the tables are over their variables alone.
        """
        alike: dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]] = {}
        for position, (number, scope) in enumerate(zip(numbers, scopes, strict=True)):
            own = self.scopes[number]
            if len(own) == 1:
                scope = own
            axes = tuple(own.index(v) if v in own else -1 for v in scope)
            full = tuple(self.cardinalities[v] for v in scope)
            alike.setdefault((axes, full), []).append(position)
        value = self.cardinalities[scopes[0][0]]
        parts = []
        order = []
        for (axes, full), positions in alike.items():
            stacked = np.stack([self.places[numbers[p]][1] for p in positions])
            order.extend(positions)
            kept = [1 + axis for axis in axes if axis >= 0]
            shape = [n if axis >= 0 else 1 for axis, n in zip(axes, full, strict=True)]
            spread = stacked.transpose(0, *kept).reshape(len(positions), *shape)
            spread = np.broadcast_to(spread, (len(positions), *full))
            parts.append(spread.reshape(len(positions), value, -1))
        joined: IntArray = np.concatenate(parts)
        return joined[np.argsort(order)] if len(parts) > 1 else joined

    def left(self) -> tuple[Read, ...]:
        """Return the tables whose scope is empty, when all is summed out."""
        by_block: dict[int, list[IntArray]] = {}
        for scope, (block, places) in zip(self.scopes, self.places, strict=True):
            if not scope and places.size:
                by_block.setdefault(block, []).append(places.reshape(-1))
        return tuple(
            Read.of(block, np.concatenate(found)[None, :, None])
            for block, found in by_block.items()
        )


def _are_shared(columns: Sequence[IntArray]) -> bool:
    """Whether many tables read so few numbers that a matrix product joins them best."""
    return len(columns) > _MANY and len(
        np.unique(np.stack(columns))
    ) <= _MOST_USED * len(columns)
