"""This file owns the Student's t that proposals in free coordinates have for tails."""

import math

import torch
from torch import Generator, Tensor

__all__ = ["heavy_log_density", "heavy_spread"]

_FREEDOM = 5.0


def heavy_spread(
    *shape: int, generator: Generator, freedom: float = _FREEDOM
) -> Tensor:
    """Return precisions; noise of N(0, 1 / precision) is of the Student's t."""
    half = torch.full(shape, 0.5 * freedom, dtype=torch.float64)
    return torch._standard_gamma(half, generator=generator) / (0.5 * freedom)


def heavy_log_density(
    distance: Tensor,
    size: int,
    log_det: Tensor | float = 0.0,
    *,
    freedom: float = _FREEDOM,
) -> Tensor:
    """Return the log density of the Student's t.

    Args:
        distance: Squared distance from its location, by its scale matrix.
        size: Number of coordinates.
        log_det: Half the log determinant of its scale matrix.
        freedom: Its degrees of freedom.
    """
    half = 0.5 * (freedom + size)
    constant = (
        math.lgamma(half)
        - math.lgamma(0.5 * freedom)
        - 0.5 * size * math.log(math.pi * freedom)
    )
    return constant - log_det - half * torch.log1p(distance / freedom)
