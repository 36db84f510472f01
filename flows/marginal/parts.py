"""This file sums some tables of a model, computing their entries and no others."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from daphne_bridge.building import building

from ..model.schedule import Schedule
from .elimination import Elimination, Table
from .tables import DiscreteTables

__all__ = ["Part"]


@dataclass(frozen=True, eq=False)
class Part:
    """Some of the tables of a model.

    Attributes:
        elimination: Sums out the variables that they are over.
        constants: Entries that are numbers from the start, [entry, 1].
        schedule: Computes the others; None where there are none.
    """

    elimination: Elimination
    constants: Float[Tensor, "entry 1"]
    schedule: Schedule | None

    @classmethod
    @building()
    def of(
        cls,
        tables: DiscreteTables,
        sources: Sequence[tuple[int, ...]],
        chosen: Sequence[int] | None = None,
    ) -> "Part":
        """Return a part.

        Args:
            tables: Of the model.
            sources: Slots of latents and of observed values.
            chosen: Numbers of its tables; all of them if None.
        """
        elimination, constants, slots = (
            tables.elimination,
            tables.constants,
            tables.slots,
        )
        if chosen is not None:
            kept = [tables.tables[number] for number in chosen]
            used = [_used(kept, block) for block in (0, 1)]
            constants = constants[torch.from_numpy(used[0])]
            slots = tuple(slots[place] for place in used[1])
            variables = sorted({v for table in kept for v in table.scope})
            elimination = Elimination(
                [tables.elimination.cardinalities[v] for v in variables],
                [
                    replace(
                        table,
                        scope=tuple(variables.index(v) for v in table.scope),
                        entries=np.searchsorted(used[table.block], table.entries),
                    )
                    for table in kept
                ],
                num_blocks=2,
            )
        schedule = Schedule.of(tables.dag, sources, [slots]) if slots else None
        return cls(elimination, constants, schedule)

    def entries(
        self, latents: Tensor, observed: Tensor, batch: Sequence[int]
    ) -> list[Tensor]:
        """Return the blocks of numbers of its tables, rows of `batch` flat."""
        count = math.prod(batch)
        rows = [
            values.expand(*batch, -1).reshape(count, -1)
            if math.prod(values.shape[:-1]) != 1
            else values.reshape(1, -1)
            for values in (latents, observed)
        ]
        constants = self.constants.to(latents)
        if self.schedule is None:
            return [constants, constants.new_zeros(0, 1)]
        columns = [values.t().contiguous() for values in rows]
        (found,) = self.schedule.run(columns, num_rows=count, like=latents)
        return [constants, found]

    def log_sum(self, entries: list[Tensor], count: int) -> tuple[Tensor, Tensor]:
        """Return the sum of every row, and where an entry without value matters."""
        clean = [torch.where(torch.isnan(part), -math.inf, part) for part in entries]
        found = self.elimination.log_sum(clean).expand(count)
        if not any(bool(torch.isnan(part).any()) for part in entries):
            return found, torch.zeros_like(found, dtype=torch.bool)
        other = [torch.where(torch.isnan(part), 0.0, part) for part in entries]
        with torch.no_grad():
            matters = self.elimination.log_sum(other).expand(count) != found
        return found, matters


def _used(
    tables: Sequence[Table], block: int
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return which entries of a block some tables read, in order."""
    read = [table.entries.reshape(-1) for table in tables if table.block == block]
    return np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *read]))
