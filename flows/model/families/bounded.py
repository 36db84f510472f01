"""This file holds the families between two bounds."""

import math

import torch
from torch import Generator, Tensor

from .density import entry, inside
from .noise import log_standard_gamma, tiny, unit
from .on_the_line import normal
from .parameters import NUMBER, POSITIVE

__all__ = ["BOUNDED"]


def _beta(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    is_inside = (x > 0) & (x < 1)
    y = torch.where(is_inside, x, 0.5)
    constant = torch.lgamma(a + b) - torch.lgamma(a) - torch.lgamma(b)
    density = (a - 1.0) * torch.log(y) + (b - 1.0) * torch.log1p(-y)
    return inside(is_inside, density + constant)


def _draw_beta(g: Generator, a: Tensor, b: Tensor) -> Tensor:
    odds = log_standard_gamma(a, g) - log_standard_gamma(b, g)
    return torch.sigmoid(odds).clamp(tiny(a), 1.0 - torch.finfo(a.dtype).eps)


def _uniform(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return inside((x >= low) & (x <= high), -torch.log(high - low))


def _draw_uniform(g: Generator, low: Tensor, high: Tensor) -> Tensor:
    return torch.minimum(low + (high - low) * unit(low, g), high)


def _log_mass_between(low: Tensor, high: Tensor) -> Tensor:
    """Return log(Φ(high) - Φ(low)), taken in the tail that loses no digits."""
    is_above = low > 0
    left = torch.where(is_above, -high, low)
    right: Tensor = torch.special.log_ndtr(torch.where(is_above, -low, high))
    ratio: Tensor = torch.exp(torch.special.log_ndtr(left) - right)
    return right + torch.log1p(-ratio)


def _truncated_normal(
    x: Tensor, mean: Tensor, scale: Tensor, low: Tensor, high: Tensor
) -> Tensor:
    mass = _log_mass_between((low - mean) / scale, (high - mean) / scale)
    return inside((x >= low) & (x <= high), normal(x, mean, scale) - mass)


def _draw_truncated_normal(
    g: Generator, mean: Tensor, scale: Tensor, low: Tensor, high: Tensor
) -> Tensor:
    """Return draws by the inverse distribution function, in logs, in the lower tail."""
    left, right = ((low - mean) / scale).double(), ((high - mean) / scale).double()
    is_above = left > 0
    first = torch.special.log_ndtr(torch.where(is_above, -right, left))
    last = torch.special.log_ndtr(torch.where(is_above, -left, right))
    share = unit(left, g)
    level = last + torch.log(share + (1.0 - share) * torch.exp(first - last))
    z = _inverse_log_ndtr(level)
    z = torch.where(is_above, -z, z).to(mean.dtype)
    return torch.minimum(torch.maximum(mean + scale * z, low), high)


_TAIL = -15.0
_NEWTON_STEPS = 6


def _inverse_log_ndtr(level: Tensor) -> Tensor:
    """Return z with log Φ(z) = level: by Newton's steps in the far lower tail."""
    # log Φ(z) is about -z² / 2 - log(-z) - log(2π) / 2 there.
    far = level.clamp(max=_TAIL)
    z = -torch.sqrt(-2.0 * far - torch.log(-2.0 * far) - math.log(2.0 * math.pi))
    for _ in range(_NEWTON_STEPS):
        value = torch.special.log_ndtr(z)
        slope = torch.exp(-0.5 * z * z - 0.5 * math.log(2.0 * math.pi) - value)
        z = z - (value - far) / slope
    return torch.where(level < _TAIL, z, torch.special.ndtri(torch.exp(level)))


_ORDERED = ("a minimum below the maximum", lambda low, high: low < high)


_BOUNDED = (
    "a minimum below the maximum",
    lambda _mean, _scale, low, high: low < high,
)


BOUNDED = (
    entry("beta", (POSITIVE, POSITIVE), _beta, _draw_beta),
    entry("uniform-continuous", (NUMBER, NUMBER), _uniform, _draw_uniform, _ORDERED),
    entry("uniform", (NUMBER, NUMBER), _uniform, _draw_uniform, _ORDERED),
    entry(
        "truncated-normal",
        (NUMBER, POSITIVE, NUMBER, NUMBER),
        _truncated_normal,
        _draw_truncated_normal,
        _BOUNDED,
    ),
)
