"""This file says where a plan's cliques have the numbers of columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..structured_gaussian.cliques import Plan

__all__ = ["Places"]


@dataclass(frozen=True, eq=False)
class Places:
    """Entries of all precisions and linear terms, side by side.

    Attributes:
        plan: The order in which columns are eliminated.
    """

    plan: Plan

    @cached_property
    def _starts(self) -> list[tuple[int, int]]:
        """Where each batch's precisions and linear terms begin; and where all end."""
        found = [(0, 0)]
        for batch in self.plan.batches:
            entry, place = found[-1]
            num = len(batch.own) * batch.width
            found.append((entry + num * batch.width, place + num))
        return found

    @property
    def num_entries(self) -> int:
        """Numbers of all cliques' precisions, for one row."""
        return self._starts[-1][0]

    @property
    def num_places(self) -> int:
        """Numbers of all cliques' linear terms, for one row."""
        return self._starts[-1][1]

    @cached_property
    def diagonal(self) -> tuple[Tensor, Tensor]:
        """Columns, and where their own entries are among the precisions."""
        found = []
        for (entry, _), batch in zip(self._starts, self.plan.batches, strict=False):
            size = batch.width**2
            for number, (own, parents) in enumerate(
                zip(batch.own, batch.parents, strict=True)
            ):
                start = entry + number * size
                for at, column in enumerate(own + parents):
                    found.append((column, start + at * (batch.width + 1)))
        columns, entries = torch.tensor(found).T
        return columns, entries

    def of(self, columns: Sequence[int]) -> tuple[list[int], list[int]]:
        """Return where the entries and the linear terms of joined columns are."""
        number, position, all_columns = self.plan.clique(max(columns))
        entry, place = self._starts[number]
        width = len(all_columns)
        at = [all_columns.index(column) for column in columns]
        entry, place = entry + position * width * width, place + position * width
        return [entry + i * width + j for i in at for j in at], [place + i for i in at]
