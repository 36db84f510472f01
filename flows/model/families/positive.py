"""This file holds the families of positive numbers."""

import math

import torch
from torch import Generator, Tensor

from .density import entry, inside
from .noise import gamma_of_rate, standard_exponential, standard_normal, tiny, unit
from .on_the_line import cauchy, draw_normal, normal
from .parameters import NUMBER, POSITIVE, is_positive

__all__ = ["POSITIVE_FAMILIES"]

_LARGE = 1e8
"""Shape beyond which the usual sum of a gamma's density loses a millionth of a nat."""


def _gamma(x: Tensor, shape: Tensor, rate: Tensor) -> Tensor:
    is_inside = is_positive(x)
    y = torch.where(is_inside, x, 1.0)
    is_large = shape > _LARGE
    small = torch.where(is_large, 1.0, shape)
    constant = small * torch.log(rate) - torch.lgamma(small)
    density = constant + (small - 1.0) * torch.log(y) - rate * y
    large = _of_large_shape(shape, rate / shape * y, is_large) - torch.log(y)
    return inside(is_inside, torch.where(is_large, large, density))


def _of_large_shape(shape: Tensor, ratio: Tensor, is_large: Tensor) -> Tensor:
    r"""Return the log density of the log of a gamma of a large shape a, by Stirling.

        log(a / 2π) / 2 - 1 / (12 a) + a (log r - (r - 1)),

    r the value as a share of the mean. Terms such as a log a would leave no digits.
    Rows that are not large are some number.
    """
    a = torch.where(is_large, shape, _LARGE)
    r = torch.where(is_large, ratio, 1.0).clamp(tiny(a), torch.finfo(a.dtype).max)
    peak = 0.5 * torch.log(a / (2.0 * math.pi)) - 1.0 / (12.0 * a)
    return peak + a * (torch.log(r) - (r - 1.0))


def _draw_gamma(g: Generator, shape: Tensor, rate: Tensor) -> Tensor:
    return gamma_of_rate(shape, rate, g)


def _chi_squared(x: Tensor, nu: Tensor) -> Tensor:
    return _gamma(x, 0.5 * nu, torch.full_like(nu, 0.5))


def _draw_chi_squared(g: Generator, nu: Tensor) -> Tensor:
    return gamma_of_rate(0.5 * nu, torch.full_like(nu, 0.5), g)


def _exponential(x: Tensor, rate: Tensor) -> Tensor:
    is_inside = (x >= 0) & (x < math.inf)
    y = torch.where(is_inside, x, 1.0)
    return inside(is_inside, torch.log(rate) - rate * y)


def _draw_exponential(g: Generator, rate: Tensor) -> Tensor:
    return standard_exponential(rate, g) / rate


def _half_normal(x: Tensor, scale: Tensor) -> Tensor:
    density = normal(x, torch.zeros_like(scale), scale) + math.log(2.0)
    return inside((x >= 0) & (x < math.inf), density)


def _draw_half_normal(g: Generator, scale: Tensor) -> Tensor:
    return scale * standard_normal(scale, g).abs()


def _half_cauchy(x: Tensor, scale: Tensor) -> Tensor:
    density = cauchy(x, torch.zeros_like(scale), scale) + math.log(2.0)
    return inside((x >= 0) & (x < math.inf), density)


def _draw_half_cauchy(g: Generator, scale: Tensor) -> Tensor:
    return scale * torch.tan(0.5 * math.pi * unit(scale, g))


def _lognormal(x: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    is_inside = is_positive(x)
    y = torch.log(torch.where(is_inside, x, 1.0))
    return inside(is_inside, normal(y, mean, scale) - y)


def _draw_lognormal(g: Generator, mean: Tensor, scale: Tensor) -> Tensor:
    largest = torch.finfo(mean.dtype).max
    return torch.exp(draw_normal(g, mean, scale)).clamp(tiny(mean), largest)


def _inverse_gamma(x: Tensor, shape: Tensor, scale: Tensor) -> Tensor:
    is_inside = is_positive(x)
    y = torch.where(is_inside, x, 1.0)
    is_large = shape > _LARGE
    small = torch.where(is_large, 1.0, shape)
    constant = small * torch.log(scale) - torch.lgamma(small)
    density = constant - (small + 1.0) * torch.log(y) - scale / y
    large = _of_large_shape(shape, scale / shape / y, is_large) - torch.log(y)
    return inside(is_inside, torch.where(is_large, large, density))


def _draw_inverse_gamma(g: Generator, shape: Tensor, scale: Tensor) -> Tensor:
    largest = torch.finfo(scale.dtype).max
    return gamma_of_rate(shape, scale, g).reciprocal().clamp(tiny(scale), largest)


POSITIVE_FAMILIES = (
    entry("gamma", (POSITIVE, POSITIVE), _gamma, _draw_gamma),
    entry("chi-squared", (POSITIVE,), _chi_squared, _draw_chi_squared),
    entry("exponential", (POSITIVE,), _exponential, _draw_exponential),
    entry("half-normal", (POSITIVE,), _half_normal, _draw_half_normal),
    entry("half-cauchy", (POSITIVE,), _half_cauchy, _draw_half_cauchy),
    entry("lognormal", (NUMBER, POSITIVE), _lognormal, _draw_lognormal),
    entry("inverse-gamma", (POSITIVE, POSITIVE), _inverse_gamma, _draw_inverse_gamma),
)
