r"""This file is noise as sharp as a standard normal at 0, with tails that are heavier.

Student's t of ν degrees of freedom times √((ν + 1) / ν): the second derivative of its
log density at 0 is -1. Of a level seen through Student noise of a small scale that is
the posterior, where normal draws would miss its tails.
"""

import math

from jaxtyping import Float
from torch import Generator, Tensor

from ..inference.heavy_tails import heavy_log_density, heavy_spread
from ..inference.noise import standard_normal
from ..model.standard_normal import standard_normal_log_prob

__all__ = ["log_density", "noise"]


def noise(
    shape: tuple[int, int], freedom: float, *, generator: Generator
) -> Float[Tensor, "row column"]:
    """Return independent draws.

    Args:
        shape: How many.
        freedom: ν; infinity for normal ones.
        generator: Source of the draws.
    """
    normal = standard_normal(*shape, generator=generator)
    if math.isinf(freedom):
        return normal
    spread = heavy_spread(*shape, generator=generator, freedom=freedom)
    return normal * ((freedom + 1.0) / freedom / spread).sqrt()


def log_density(
    values: Float[Tensor, "row column"], freedom: float
) -> Float[Tensor, " row"]:
    """Return the log density of independent values, summed over columns.

    Args:
        values: The values.
        freedom: ν; infinity for normal ones.
    """
    if math.isinf(freedom):
        return standard_normal_log_prob(values)
    square = (freedom + 1.0) / freedom
    distance = values.square() / square
    log_scale = 0.5 * math.log(square)
    return heavy_log_density(distance, 1, log_scale, freedom=freedom).sum(-1)
