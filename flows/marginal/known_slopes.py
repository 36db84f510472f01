"""This file is a sum whose slopes were found along with it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

__all__ = ["as_array", "with_slopes"]

FloatArray = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def as_array(part: Tensor) -> FloatArray:
    """Return numbers as a loop takes them, without their gradient."""
    found: FloatArray = part.detach().contiguous().numpy()
    return found


def with_slopes(
    found: FloatArray, slopes: Sequence[FloatArray], given: Sequence[Tensor]
) -> Float[Tensor, " row"]:
    """Return a sum of each row as a function of what was given.

    Args:
        found: The sums.
        slopes: By each part of what was given, [..., row].
        given: What they are sums of.
    """
    made: Tensor = _Known.apply(  # type: ignore[no-untyped-call]
        torch.from_numpy(found), [torch.from_numpy(slope) for slope in slopes], *given
    )
    return made


class _Known(Function):
    @staticmethod
    def forward(
        ctx: Any, found: Tensor, slopes: Sequence[Tensor], *_given: Tensor
    ) -> Tensor:
        ctx.save_for_backward(*slopes)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(slope * gradient for slope in ctx.saved_tensors)
