"""This file says where the packed weights of a sparse layer stand in its matrix.

Weights are stored block after block (row block by row block), each row-major, output by
input.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

__all__ = ["Packing"]


@dataclass(frozen=True)
class Packing:
    """Where the packed weights of one layer stand in its dense matrix.

    Args:
        rows: number of rows of each row block.
        pattern: for each row block its column blocks, each a tuple of dense columns.
        num_columns: number of columns of the dense matrix.
    """

    rows: tuple[int, ...]
    pattern: tuple[tuple[tuple[int, ...], ...], ...]
    num_columns: int

    @property
    def num_rows(self) -> int:
        """Number of rows of the dense matrix."""
        return sum(self.rows)

    @cached_property
    def block_starts(self) -> tuple[tuple[int, ...], ...]:
        """Packed position of the first entry of each block, by row block."""
        starts: list[tuple[int, ...]] = []
        position = 0
        for height, blocks in zip(self.rows, self.pattern, strict=True):
            row: list[int] = []
            for columns in blocks:
                row.append(position)
                position += height * len(columns)
            starts.append(tuple(row))
        return tuple(starts)

    @cached_property
    def size(self) -> int:
        """Number of packed weights."""
        return sum(
            height * sum(len(columns) for columns in blocks)
            for height, blocks in zip(self.rows, self.pattern, strict=True)
        )

    def dense_index(self) -> Tensor:
        """Position in the flattened dense matrix of each packed weight."""
        parts: list[np.ndarray[tuple[int, ...], np.dtype[np.int64]]] = []
        first_row = 0
        for height, blocks in zip(self.rows, self.pattern, strict=True):
            lines = np.arange(first_row, first_row + height)[:, None]
            for columns in blocks:
                inside = lines * self.num_columns + np.asarray(columns, dtype=np.int64)
                parts.append(inside.reshape(-1))
            first_row += height
        joined = np.concatenate(parts) if parts else np.zeros(0)
        return torch.from_numpy(joined.astype(np.int64))

    def fan_in(self) -> Tensor:
        """Number of weights in the row of each packed weight."""
        parts = [
            np.full(height * len(columns), sum(len(c) for c in blocks))
            for height, blocks in zip(self.rows, self.pattern, strict=True)
            for columns in blocks
        ]
        joined = np.concatenate(parts) if parts else np.zeros(0)
        return torch.from_numpy(joined.astype(np.int64))

    def last_block_index(self, row_blocks: Sequence[int]) -> Tensor:
        """Packed positions of the last (diagonal) blocks, [row block, row, column].

        The row blocks named must have equal shapes.
        """
        parts = []
        for i in row_blocks:
            shape = (self.rows[i], len(self.pattern[i][-1]))
            start = self.block_starts[i][-1]
            parts.append(np.arange(start, start + shape[0] * shape[1]).reshape(shape))
        return torch.from_numpy(np.stack(parts).astype(np.int64))
