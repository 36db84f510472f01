"""This file draws plain numbers: float64, on the device of what decides them."""

import torch
from torch import Generator, Tensor

__all__ = ["standard_normal", "uniform"]


def uniform(*shape: int, generator: Generator) -> Tensor:
    """Return numbers uniform between 0 and 1."""
    return torch.rand(
        shape, dtype=torch.float64, generator=generator, device=generator.device
    )


def standard_normal(*shape: int, generator: Generator) -> Tensor:
    """Return draws of N(0, 1)."""
    return torch.randn(
        shape, dtype=torch.float64, generator=generator, device=generator.device
    )
