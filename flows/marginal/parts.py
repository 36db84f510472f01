"""This file sums some tables of a model, computing their entries and no others."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from daphne_bridge.building import building

from ..model.schedule import Schedule
from .alike import AlikeNodes
from .elimination import Elimination, Table
from .plates import Plate, plate_sum
from .tables import NUM_BLOCKS, DiscreteTables
from .wide import WideTable

__all__ = ["Part"]


@dataclass(frozen=True, eq=False)
class Part:
    """Some of the tables of a model.

    Attributes:
        elimination: Sums out the variables that they are over.
        constants: Entries that are numbers from the start, [entry, 1].
        schedule: Computes entries, and the parameters of nodes that are alike; None
            where there are none.
        wide: Tables that are computed as one.
        alike: Nodes that are alike.
        plates: What is summed by itself, and not among the other tables.
    """

    elimination: Elimination
    constants: Float[Tensor, "entry 1"]
    schedule: Schedule | None
    wide: tuple[WideTable, ...]
    alike: tuple[AlikeNodes, ...]
    plates: tuple[Plate, ...] = ()

    @classmethod
    @building()
    def of(
        cls,
        tables: DiscreteTables,
        sources: Sequence[tuple[int, ...]],
        chosen: Sequence[int] | None = None,
        plates: tuple[Plate, ...] = (),
    ) -> "Part":
        """Return a part.

        Args:
            tables: Of the model.
            sources: Slots of latents and of observed values.
            chosen: Numbers of its tables; all of them if None.
            plates: What is summed by itself; its tables are not chosen.
        """
        elimination, constants, slots = (
            tables.elimination,
            tables.constants,
            tables.slots,
        )
        wide, alike = tables.wide, tables.alike
        if chosen is not None:
            kept = [tables.tables[number] for number in chosen]
            used = [_used(kept, block) for block in range(NUM_BLOCKS)]
            wide = {number: wide[number] for number in wide if number in {*chosen}}
            alike = tuple(n for each in alike if (n := each.among({*chosen})).tables)
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
                num_blocks=NUM_BLOCKS,
            )
        wanted = [slots, *(part for each in alike for part in each.parameters)]
        wanted += [part for each in plates for part in each.slots]
        schedule = Schedule.of(tables.dag, sources, wanted) if any(wanted) else None
        return cls(
            elimination, constants, schedule, tuple(wide.values()), alike, plates
        )

    def entries(
        self, latents: Tensor, observed: Tensor, batch: Sequence[int]
    ) -> list[Tensor]:
        """Return the blocks of numbers of its tables, rows of `batch` flat."""
        return self._computed(latents, observed, batch)[0]

    def sum(
        self,
        latents: Tensor,
        observed: Tensor,
        batch: Sequence[int],
        *,
        is_forgiving: bool = False,
    ) -> tuple[Tensor, Tensor] | None:
        """Return what `log_sum` says, plates included.

        None where the entries of a plate have to be looked at singly.
        """
        entries, parameters, data = self._computed(latents, observed, batch)
        found, matters = self.log_sum(
            entries, math.prod(batch), is_forgiving=is_forgiving
        )
        for plate in self.plates:
            own = plate_sum(plate, parameters, data)
            if own is None:
                return None
            found = found + own
        return found, matters

    def _computed(
        self, latents: Tensor, observed: Tensor, batch: Sequence[int]
    ) -> tuple[list[Tensor], Iterator[Tensor], Tensor]:
        """Return the blocks, what plates ask for, and columns of the data."""
        count = math.prod(batch)
        rows = [
            values[(0,) * len(values.shape[:-1])].reshape(1, -1)
            if _is_one_row(values)
            else values.expand(*batch, -1).reshape(count, -1)
            for values in (latents, observed)
        ]
        constants = self.constants.to(latents)
        none = constants.new_zeros(0, 1)
        columns = [values.t().contiguous() for values in rows]
        found = none
        parameters: Iterator[Tensor] = iter(())
        if self.schedule is not None:
            found, *rest = self.schedule.run(columns, num_rows=count, like=latents)
            parameters = iter(rest)
        wide = [table.entries(columns[1]) for table in self.wide]
        alike = [
            each.entries(list(islice(parameters, len(each.parameters))), columns[1])
            for each in self.alike
        ]
        blocks = [constants, found, _joined(wide, none), _joined(alike, none)]
        return blocks, parameters, columns[1]

    def log_sum(
        self, entries: list[Tensor], count: int, *, is_forgiving: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return the sum of every row, and where an entry without value matters.

        Args:
            entries: Blocks of numbers.
            count: Number of rows.
            is_forgiving: Whether it matters in rows alone whose sum is nothing.
        """
        with torch.no_grad():
            is_known = not any(bool(torch.isnan(part.sum())) for part in entries)
        never = torch.zeros(count, dtype=torch.bool, device=entries[0].device)
        if is_known:
            return self.elimination.log_sum(entries).expand(count), never
        clean = [torch.where(torch.isnan(part), -math.inf, part) for part in entries]
        found = self.elimination.log_sum(clean).expand(count)
        if is_forgiving and not bool((found == -math.inf).any()):
            return found, never
        other = [torch.where(torch.isnan(part), 0.0, part) for part in entries]
        with torch.no_grad():
            matters = self.elimination.log_sum(other).expand(count) != found
        return found, matters


def _is_one_row(values: Tensor) -> bool:
    """Whether all rows are one, as those of data that are expanded to many draws."""
    sizes, strides = values.shape[:-1], values.stride()[:-1]
    return all(n == 1 or s == 0 for n, s in zip(sizes, strides, strict=True))


def _joined(parts: Sequence[Tensor], none: Tensor) -> Tensor:
    """Return entries one after the other, as many rows as any has."""
    if len(parts) < 2:
        return parts[0] if parts else none
    rows = max(part.shape[1] for part in parts)
    return torch.cat([part.expand(-1, rows) for part in parts])


def _used(
    tables: Sequence[Table], block: int
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return which entries of a block some tables read, in order."""
    read = [table.entries.reshape(-1) for table in tables if table.block == block]
    return np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *read]))
