"""This file holds the families on the real line."""

import math

import torch
from torch import Generator, Tensor

from ..standard_normal import HALF_LOG_TWO_PI
from .density import entry
from .noise import standard_exponential, standard_gamma, standard_normal, unit
from .parameters import NUMBER, POSITIVE

__all__ = ["ON_THE_LINE", "cauchy", "draw_normal", "normal"]


def normal(x: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """Return the log density of a normal; `scale` is a standard deviation."""
    z = (x - mean) / scale
    return -0.5 * z * z - (torch.log(scale) + HALF_LOG_TWO_PI)


def draw_normal(g: Generator, mean: Tensor, scale: Tensor) -> Tensor:
    """Return draws of a normal."""
    return mean + scale * standard_normal(mean, g)


def _laplace(x: Tensor, location: Tensor, scale: Tensor) -> Tensor:
    return -torch.abs(x - location) / scale - torch.log(2.0 * scale)


def _draw_laplace(g: Generator, location: Tensor, scale: Tensor) -> Tensor:
    ahead = standard_exponential(location, g)
    return location + scale * (ahead - standard_exponential(location, g))


def cauchy(x: Tensor, location: Tensor, scale: Tensor) -> Tensor:
    """Return the log density of a cauchy."""
    z = (x - location) / scale
    return -torch.log1p(z * z) - torch.log(math.pi * scale)


def _draw_cauchy(g: Generator, location: Tensor, scale: Tensor) -> Tensor:
    return location + scale * torch.tan(math.pi * (unit(scale, g) - 0.5))


def _student(x: Tensor, nu: Tensor, location: Tensor, scale: Tensor) -> Tensor:
    z = (x - location) / scale
    half = 0.5 * (nu + 1.0)
    constant = torch.lgamma(half) - torch.lgamma(0.5 * nu)
    constant = constant - 0.5 * torch.log(math.pi * nu) - torch.log(scale)
    return constant - half * torch.log1p(z * z / nu)


def _draw_student(g: Generator, nu: Tensor, location: Tensor, scale: Tensor) -> Tensor:
    spread = standard_gamma(0.5 * nu, g) / (0.5 * nu)
    return location + scale * standard_normal(location, g) / torch.sqrt(spread)


def _standard_student(x: Tensor, nu: Tensor) -> Tensor:
    return _student(x, nu, torch.zeros_like(nu), torch.ones_like(nu))


def _draw_standard_student(g: Generator, nu: Tensor) -> Tensor:
    return _draw_student(g, nu, torch.zeros_like(nu), torch.ones_like(nu))


ON_THE_LINE = (
    entry("normal", (NUMBER, POSITIVE), normal, draw_normal, says_nan=True),
    entry("laplace", (NUMBER, POSITIVE), _laplace, _draw_laplace, says_nan=True),
    entry("cauchy", (NUMBER, POSITIVE), cauchy, _draw_cauchy),
    entry("student-t", (POSITIVE,), _standard_student, _draw_standard_student),
    entry("student-t-loc-scale", (POSITIVE, NUMBER, POSITIVE), _student, _draw_student),
)
