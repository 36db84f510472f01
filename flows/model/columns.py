"""This file turns batches [*batch, column] into columns [column, row], and back.

Operations run on tensors [column, row], in which a variable is contiguous; what callers
give and get has the column last and any batch shape.
"""

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from ..errors import ModelError

__all__ = ["as_columns", "as_rows", "common_rows"]

Shape = tuple[int, ...]


def as_columns(values: Tensor, width: int, name: str) -> tuple[Tensor, Shape]:
    """Return a batch as [column, row], and its batch shape.

    Args:
        values: The batch.
        width: How many columns it must have.
        name: What it is, for the message.

    Raises:
        ModelError: If it has another number of columns.

    Example:
        >>> import torch
        >>> columns, batch = as_columns(torch.zeros(4, 5, 2), 2, "latents")
        >>> columns.shape, batch
        (torch.Size([2, 20]), (4, 5))
    """
    if values.dim() < 1 or values.shape[-1] != width:
        raise ModelError.at(
            name,
            "wrong number of columns",
            str(width),
            str(values.shape[-1]) if values.dim() else "a single number",
        )
    batch = tuple(values.shape[:-1])
    return values.reshape(math.prod(batch), width).t().contiguous(), batch


def as_rows(columns: Tensor, batch: Sequence[int]) -> Tensor:
    """Return [column, row] as [*batch, column]; one row may stand for all."""
    wide = columns.expand(columns.shape[0], math.prod(batch))
    return wide.t().reshape(*batch, -1)


def common_rows(
    z: Tensor, batch: Shape, x: Tensor, shape: Shape
) -> tuple[Tensor, Tensor, Shape]:
    """Return latents and data as columns of one common batch, and its shape.

    Args:
        z: Columns of the latents.
        batch: Their batch shape.
        x: Columns of the data.
        shape: Their batch shape.

    Raises:
        ModelError: If the two shapes do not broadcast.
    """
    if shape == batch or math.prod(shape) == 1:
        return z, x, batch
    try:
        common = np.broadcast_shapes(batch, shape)
    except ValueError:
        raise ModelError.at(
            "observed",
            "the rows do not match those of the latents",
            f"rows of shape {list(batch)}",
            f"{list(shape)}",
        ) from None
    return _widened(z, batch, common), _widened(x, shape, common), common


def _widened(columns: Tensor, own: Shape, common: Shape) -> Tensor:
    if math.prod(own) == 1:
        return columns
    ones = (1,) * (len(common) - len(own))
    shaped = columns.reshape(columns.shape[0], *ones, *own)
    wide = shaped.expand(columns.shape[0], *common)
    return wide.reshape(columns.shape[0], math.prod(common))
