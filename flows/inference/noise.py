"""This file draws plain numbers: float64, on the device of what decides them."""

import numpy as np
import torch
from torch import Generator, Tensor

__all__ = ["seed_of_part", "standard_normal", "uniform"]


def seed_of_part(seed: int, part: int) -> int:
    """Return the seed of one part of a run; streams of parts do not overlap.

    Args:
        seed: Of the whole run, not negative.
        part: Its number, from 0.
    """
    words = np.random.SeedSequence([seed, part]).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))


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
