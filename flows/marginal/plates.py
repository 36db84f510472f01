r"""This file finds mixtures of normals that are one plate, and sums them as one.

A plate is many discrete latents that are alike: each has the same prior, and is read
by nothing but normals whose parameters are the same functions of its value, those of
the points of a mixture. Summed out they leave

    Σ_n log Σ_v exp(log prior_v + Σ_d log N(x_dn | m_dv, s_dv)),

which a compiled loop finds with its slopes (`kernels/normal_mixtures.py`), so that
nothing of the size of values times components is ever stored.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..model.standard_normal import HALF_LOG_TWO_PI
from .alike import AlikeNodes
from .joins import Table
from .known_slopes import as_array, loop_of, with_slopes
from .reads import IntArray
from .tables import DiscreteTables

__all__ = ["Plate", "find_plates", "plate_sum"]

_FEWEST = 512
"""Values times components from which on the loop is worth being loaded."""
_WIDEST = 256
"""Components times entries for which what the loop holds stays in the cache."""
_LOOP = ("normal_mixtures", "mixture_sums", *[(1, 1, 1)] * 3, (1, 1))
_ALIKE = 3
"""The block of nodes that are alike."""


@dataclass(frozen=True, eq=False)
class Plate:
    """Latents that are alike, with the normals that read them.

    Attributes:
        tables: Numbers of their tables.
        constants: Log prior of each component as far as it is a number.
        priors: Slots of each other table of one latent, by component.
        means: Slots of the means, by entry, then component.
        scales: Slots of the standard deviations, likewise.
        columns: Columns of the data that values stand in.
    """

    tables: tuple[int, ...]
    constants: Float[Tensor, "component 1"]
    priors: tuple[tuple[int, ...], ...]
    means: tuple[int, ...]
    scales: tuple[int, ...]
    columns: Int[Tensor, "entry value"]

    @property
    def slots(self) -> tuple[tuple[int, ...], ...]:
        """What has to be known of each row."""
        return (self.means, self.scales, *self.priors)


def find_plates(tables: DiscreteTables) -> tuple[Plate, ...]:
    """Return the plates among tables; none where compiled loops do not run."""
    own: list[list[int]] = [[] for _ in tables.elimination.cardinalities]
    for number, table in enumerate(tables.tables):
        for variable in table.scope:
            own[variable].append(number)
    place = {table: n for n, each in enumerate(tables.alike) for table in each.tables}
    members: dict[Any, list[list[int]]] = {}
    for numbers in own:
        if any(len(tables.tables[number].scope) > 1 for number in numbers):
            continue
        key = tuple(_key(tables, number, place) for number in numbers)
        if None not in key:
            order = sorted(range(len(numbers)), key=lambda n: key[n])
            alike = tuple(key[n] for n in order)
            members.setdefault(alike, []).append([numbers[n] for n in order])
    found = [_plate(tables, key, each, place) for key, each in members.items()]
    large = tuple(p for p in found if p is not None)
    return large if large and loop_of(*_LOOP) is not None else ()


def plate_sum(
    plate: Plate,
    parameters: Iterator[Float[Tensor, "slot row"]],
    data: Float[Tensor, "column row"],
) -> Float[Tensor, " row"] | None:
    """Return the log of what is left; None where entries have to be looked at singly.

    Args:
        plate: The plate.
        parameters: Values of its slots.
        data: Columns of the observed nodes.
    """
    means, scales, *priors = (next(parameters).double() for _ in plate.slots)
    weights = plate.constants + sum(priors)
    values = data[plate.columns].double()
    with torch.no_grad():
        looked_at = (values, means, scales.log(), 1.0 / scales, weights)
        total = float(sum(part.sum() for part in looked_at))
    loop = loop_of(*_LOOP)
    if loop is None or data.requires_grad or data.is_cuda or not math.isfinite(total):
        return None
    components = len(weights)
    shape = len(plate.columns), components, -1
    weights = weights - (
        scales.log().reshape(shape).sum(0) + len(plate.columns) * HALF_LOG_TWO_PI
    )
    rows = max(part.shape[-1] for part in (means, scales, weights, values))
    given = (
        means.expand(-1, rows).reshape(shape),
        (1.0 / scales).expand(-1, rows).reshape(shape),
        weights.expand(-1, rows),
    )
    found, *slopes = loop(as_array(values), *map(as_array, given))
    return with_slopes(found, slopes, given).to(data.dtype)


def _key(tables: DiscreteTables, number: int, place: dict[int, int]) -> Any:
    """Return what is the same of a table of each member; None if it has no plate."""
    table = tables.tables[number]
    if table.block != _ALIKE:
        return (table.block, -1, table.entries.tobytes()) if table.block < 2 else None
    alike = tables.alike[place[number]]
    is_one = alike.family == "normal" and not any(alike.shapes)
    forms = _forms(tables, number, place)
    return (_ALIKE, place[number], forms.tobytes()) if is_one else None


def _forms(tables: DiscreteTables, number: int, place: dict[int, int]) -> IntArray:
    """Return which parameters a node that is alike has at each value."""
    alike = tables.alike[place[number]]
    before = sum(_size(each) for each in tables.alike[: place[number]])
    return (tables.tables[number].entries - before) // len(alike.tables)


def _size(alike: AlikeNodes) -> int:
    return len(alike.tables) * len(alike.parameters[0])


def _plate(
    tables: DiscreteTables,
    key: tuple[tuple[int, int, bytes], ...],
    members: Sequence[Sequence[int]],
    place: dict[int, int],
) -> Plate | None:
    """Return the plate of members; None if they are few, or no normals."""
    first = [tables.tables[number] for number in members[0]]
    size = first[0].entries.size if first else 0
    entries = [n for n, (block, *_) in enumerate(key) if block == _ALIKE]
    is_large = len(entries) * len(members) * size >= _FEWEST
    if not entries or not is_large or size * len(entries) > _WIDEST:
        return None
    numbers = [table for table in first if table.block == 0]
    means: list[int] = []
    scales: list[int] = []
    columns = []
    for n in entries:
        alike = tables.alike[place[members[0][n]]]
        for form in _forms(tables, members[0][n], place):
            means.append(alike.parameters[0][form])
            scales.append(alike.parameters[1][form])
        position = {table: p for p, table in enumerate(alike.tables)}
        columns.append(alike.columns[[position[each[n]] for each in members], 0])
    constants = tables.constants.new_zeros(size, 1)
    for table in numbers:
        constants = constants + tables.constants[torch.from_numpy(table.entries)]
    return Plate(
        tuple(number for each in members for number in each),
        constants,
        tuple(_slots(tables, table) for table in first if table.block == 1),
        tuple(means),
        tuple(scales),
        torch.stack(columns),
    )


def _slots(tables: DiscreteTables, table: Table) -> tuple[int, ...]:
    return tuple(tables.slots[entry] for entry in table.entries)
