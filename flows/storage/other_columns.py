"""This file brings a stored flow into the columns of another graph of its model."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from ..flow.blocks import Factor
from ..flow.potentials import Potential
from ..flow.structure import Structure
from ..model.layout import Layout

__all__ = ["OtherColumns", "columns_of", "observed_rows_in", "structure_in"]

_BY_OBSERVED_COLUMN = tuple(
    f"{owner}.observed_{what}"
    for owner in ("normalisation", "heads")
    for what in ("shift", "scale")
)


@dataclass(frozen=True, slots=True)
class OtherColumns:
    """Where names and columns of a flow stand in another graph.

    Attributes:
        names: The other name of each node.
        free: The other column of each free column.
        observed: The other column of each observed column.
    """

    names: Mapping[str, str]
    free: tuple[int, ...]
    observed: tuple[int, ...]


def columns_of(own: Layout, other: Layout, names: Mapping[str, str]) -> OtherColumns:
    """Return where the columns of a layout stand in another.

    Args:
        own: Columns without gaps, variable after variable.
        other: Of the other graph.
        names: The other name of each node.
    """
    free = (other.variable(names[each.name]) for each in own.latents)
    observed = (other.variable(names[each.name]) for each in own.observed)
    return OtherColumns(
        names,
        tuple(c for v in free for c in v.free_columns),
        tuple(c for v in observed for c in v.columns),
    )


def structure_in(columns: OtherColumns, structure: Structure) -> Structure:
    """Return a structure in other columns."""
    free, observed = columns.free, columns.observed
    return Structure(
        tuple(
            replace(
                block,
                name=columns.names[block.name],
                free_columns=tuple(free[c] for c in block.free_columns),
                observed_columns=tuple(observed[c] for c in block.observed_columns),
            )
            for block in structure.blocks
        ),
        structure.observed_dim,
        tuple(_moved(columns, each) for each in structure.factors),
        tuple(_moved(columns, each) for each in structure.potentials),
    )


_Joined = TypeVar("_Joined", Factor, Potential)


def _moved(columns: OtherColumns, joined: _Joined) -> _Joined:
    return replace(
        joined,
        latents=tuple(columns.free[c] for c in joined.latents),
        observed=tuple(columns.observed[c] for c in joined.observed),
    )


def observed_rows_in(
    columns: OtherColumns, tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the tensors of a flow with those per observed column in other columns."""
    place = torch.tensor(columns.observed, dtype=torch.long)
    moved = dict(tensors)
    for name in {*_BY_OBSERVED_COLUMN} & {*tensors}:
        moved[name] = torch.empty_like(tensors[name])
        moved[name][place] = tensors[name]
    return moved
