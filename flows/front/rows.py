"""This file makes a tensor in a model's columns of rows of data, however given."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import ArgumentError
from ..model.model import Model
from ..model.observation import Given
from ..storage.observations import load_observations

__all__ = ["Rows", "rows_of"]

Rows = Path | str | Sequence[Mapping[str, Any]] | Float[Tensor, "row observed"]
"""A file of data sets, one a row; data by name for each; or a tensor of columns."""


def rows_of(
    model: Model, data: Rows
) -> tuple[Float[Tensor, "row observed"], tuple[str, ...]]:
    """Return rows in the model's columns, and the nodes that all of them leave out.

    Raises:
        FlowsError: If a row does not fit.
    """
    width = model.layout.observed_dim
    if isinstance(data, Tensor):
        if data.dim() != 2 or data.shape[1] != width or not len(data):
            shape = f"rows of {width} numbers"
            raise ArgumentError.at("data", "wrong shape", shape, f"{[*data.shape]}")
        return data.to(model.device, model.dtype), ()
    if isinstance(data, Path | str):
        given = load_observations(data)
    else:
        given = [
            Given(row, {name: f"data row {number} {name}" for name in row})
            for number, row in enumerate(data, 1)
        ]
    rows = [model.observation(each.values, places=each.places) for each in given]
    if not rows:
        raise ArgumentError.at("data", "there is no row", "at least one row")
    names = {name for each in given for name in each.values}
    return torch.stack(rows), model.layout.left_out(names)
