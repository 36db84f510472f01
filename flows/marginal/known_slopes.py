"""This file is a sum that a compiled loop finds, its slopes along with it."""

from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

__all__ = ["as_array", "loop_of", "with_slopes"]

FloatArray = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


@cache
def loop_of(
    module: str, name: str, *shapes: tuple[int, ...]
) -> Callable[..., Any] | None:
    """Return a loop of `flows.kernels`; None where Numba is missing or does not run.

    Args:
        module: Where it is.
        name: Its name there.
        shapes: Of arrays of ones that it is tried by.
    """
    try:
        loop = getattr(import_module(f"..kernels.{module}", __package__), name)
        loop(*map(np.ones, shapes))
    except Exception:  # it may be broken in many ways
        return None
    return loop  # type: ignore[no-any-return]


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
