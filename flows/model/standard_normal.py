"""This file gives the density of the standard normal, log N(x; 0, I), in nats."""

import math

from jaxtyping import Float
from torch import Tensor

__all__ = [
    "HALF_LOG_TWO_PI",
    "standard_normal_log_prob",
    "standard_normal_terms",
]

HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


def standard_normal_terms(
    values: Float[Tensor, "*batch column"],
) -> Float[Tensor, "*batch column"]:
    """Return the log density of every column, -½ x² - ½ log 2π."""
    return -0.5 * values.square() - HALF_LOG_TWO_PI


def standard_normal_log_prob(
    values: Float[Tensor, "*batch column"],
) -> Float[Tensor, "*batch"]:
    """Return the log density of every row; 0 for rows without columns.

    Example:
        >>> import torch
        >>> standard_normal_log_prob(torch.zeros(2, 3))
        tensor([-2.7568, -2.7568])
    """
    return standard_normal_terms(values).sum(-1)
