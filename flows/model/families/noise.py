"""This file draws what the samplers of all families are made of.

Every function takes a tensor whose shape, type and device the numbers shall have.
"""

import torch
from torch import Generator, Tensor

__all__ = [
    "gamma_of_rate",
    "log_standard_gamma",
    "standard_exponential",
    "standard_gamma",
    "standard_normal",
    "tiny",
    "unit",
]


def tiny(like: Tensor) -> float:
    """Return the smallest normal number."""
    return torch.finfo(like.dtype).tiny


def standard_normal(like: Tensor, generator: Generator) -> Tensor:
    """Return draws of the standard normal."""
    return torch.randn(
        like.shape, dtype=like.dtype, device=like.device, generator=generator
    )


def standard_exponential(like: Tensor, generator: Generator) -> Tensor:
    """Return draws of the exponential of rate 1."""
    return torch.empty_like(like, memory_format=torch.contiguous_format).exponential_(
        generator=generator
    )


def unit(like: Tensor, generator: Generator) -> Tensor:
    """Return uniform numbers inside (0, 1)."""
    drawn = torch.rand(
        like.shape, dtype=like.dtype, device=like.device, generator=generator
    )
    return drawn.clamp(min=tiny(like))


def standard_gamma(shape: Tensor, generator: Generator) -> Tensor:
    """Return draws of gammas of rate 1, never 0."""
    drawn = torch._standard_gamma(shape.contiguous(), generator=generator)
    return drawn.clamp(min=tiny(shape))


def gamma_of_rate(shape: Tensor, rate: Tensor, generator: Generator) -> Tensor:
    """Return gamma draws of a rate; the smallest normal number where they underflow."""
    if bool((shape < _SMALL_SHAPE).any()):
        drawn = torch.exp(log_standard_gamma(shape, generator) - torch.log(rate))
    else:
        drawn = standard_gamma(shape, generator) / rate
    return drawn.clamp(min=tiny(rate))


_SMALL_SHAPE = 0.1


def log_standard_gamma(shape: Tensor, generator: Generator) -> Tensor:
    """Return logs of gamma draws; for a small shape a draw itself would underflow.

    With g of shape a + 1 and u uniform, g u^(1 / a) has shape a.
    """
    is_small = shape < _SMALL_SHAPE
    drawn = torch.log(
        standard_gamma(torch.where(is_small, shape + 1.0, shape), generator)
    )
    if not bool(is_small.any()):
        return drawn
    power = -standard_exponential(shape, generator) / shape
    return torch.where(is_small, drawn + power, drawn)
