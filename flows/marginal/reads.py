"""This file reads the tables of alike variables from a block of numbers, at once.

That is a view of the block where members and entries stand in order, as they do for
nodes that are alike; else they are gathered.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["IntArray", "Numbers", "Read"]

_IMPOSSIBLE = -1e30
"""Stands for -inf in matrix products, where 0 · (-inf) would be nan."""

IntArray = np.ndarray[tuple[int, ...], np.dtype[np.int64]]

Numbers = Float[Tensor, "entry row"]


@dataclass(frozen=True, eq=False)
class Read:
    """Where tables of all members of a step stand.

    Attributes:
        block: Which block of numbers.
        shape: Members (1 if they share numbers), values, and rest (1 if not read).
        positions: Entries of the block; None where a view has them.
        first: First entry of the view.
        strides: Entries from one to the next along members, values and rest.
        counts: How often each joined entry reads each position, if so many tables are
            one product with a matrix.
    """

    block: int
    shape: tuple[int, int, int]
    positions: Tensor | None
    first: int = 0
    strides: tuple[int, int, int] = (0, 0, 0)
    counts: Tensor | None = None

    @classmethod
    def of(cls, block: int, positions: IntArray) -> "Read":
        """Return what reads positions [member, value, rest]."""
        if len(positions) > 1 and (positions == positions[:1]).all():
            positions = positions[:1]
        members, values, rest = positions.shape
        shape = (members, values, rest)
        first = int(positions[0, 0, 0])
        strides = (
            int(positions[1, 0, 0]) - first if members > 1 else 0,
            int(positions[0, 1, 0]) - first if values > 1 else 0,
            int(positions[0, 0, 1]) - first if rest > 1 else 0,
        )
        steps = np.tensordot(strides, np.indices(shape), 1)
        if _is_apart(shape, strides) and (positions == first + steps).all():
            return cls(block, shape, None, first, strides)
        return cls(
            block, shape, torch.from_numpy(np.ascontiguousarray(positions).reshape(-1))
        )

    @classmethod
    def counted(cls, block: int, columns: Sequence[IntArray]) -> "Read":
        """Return what reads many tables of one member, each [1, value, rest]."""
        used, places = np.unique(np.stack(columns), return_inverse=True)
        counts = np.zeros((columns[0].size, used.size))
        entries = np.arange(columns[0].size)
        for column in places.reshape(len(columns), -1):
            np.add.at(counts, (entries, column), 1.0)
        _, values, rest = columns[0].shape
        return cls(
            block,
            (1, values, rest),
            torch.from_numpy(used),
            counts=torch.from_numpy(counts),
        )

    def among(self, members: slice) -> "Read":
        """Return what reads the tables of some members."""
        if self.shape[0] == 1:
            return self
        first, last, _ = members.indices(self.shape[0])
        shape = (last - first, *self.shape[1:])
        if self.positions is None:
            first = self.first + first * self.strides[0]
            return replace(self, shape=shape, first=first)
        positions = self.positions.reshape(self.shape)[members].reshape(-1)
        return replace(self, shape=shape, positions=positions)

    def of_blocks(self, blocks: Sequence[Numbers]) -> Tensor:
        """Return the numbers, [member, value, rest, row]."""
        block = blocks[self.block]
        rows = block.shape[1]
        if self.positions is None:
            return self._view(block.contiguous())
        found = block.index_select(0, self.positions)
        if self.counts is not None:
            found = self.counts.to(block.dtype) @ found.clamp_min(_IMPOSSIBLE)
            found = torch.where(found <= 0.1 * _IMPOSSIBLE, -torch.inf, found)
        return found.reshape(*self.shape, rows)

    def add(self, gradient: Tensor, block: Numbers) -> None:
        """Add the gradient by what was read to that by the block it was read from."""
        if self.positions is None:
            self._view(block).add_(gradient)
            return
        flat = gradient.reshape(-1, block.shape[1])
        if self.counts is not None:
            flat = self.counts.to(block.dtype).T @ flat
        block.index_add_(0, self.positions, flat)

    def is_all_of(self, block: Numbers) -> bool:
        """Whether each number of a block is read, once."""
        return self.positions is None and math.prod(self.shape) == len(block)

    def put(self, gradient: Tensor, block: Numbers) -> None:
        """Write numbers to where all of a block is read from."""
        self._view(block).copy_(gradient)

    def _view(self, block: Numbers) -> Tensor:
        rows = block.shape[1]
        return block.as_strided(
            (*self.shape, rows),
            (*(rows * stride for stride in self.strides), 1),
            block.storage_offset() + self.first * rows,
        )


def _is_apart(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether a view with these strides reads no number twice."""
    end = 1
    for stride, number in sorted(zip(strides, shape, strict=True)):
        if number > 1:
            if stride < end:
                return False
            end += stride * (number - 1)
    return True
