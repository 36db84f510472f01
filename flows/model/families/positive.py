"""This file holds the families of positive numbers."""

import math

import torch
from torch import Generator, Tensor

from .density import entry, inside
from .noise import gamma_of_rate, standard_exponential, standard_normal, tiny, unit
from .on_the_line import cauchy, draw_normal, normal
from .parameters import NUMBER, POSITIVE, is_positive

__all__ = ["POSITIVE_FAMILIES"]


def _gamma(x: Tensor, shape: Tensor, rate: Tensor) -> Tensor:
    is_inside = is_positive(x)
    y = torch.where(is_inside, x, 1.0)
    constant = shape * torch.log(rate) - torch.lgamma(shape)
    return inside(is_inside, constant + (shape - 1.0) * torch.log(y) - rate * y)


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
    return torch.exp(draw_normal(g, mean, scale)).clamp(min=tiny(mean))


def _inverse_gamma(x: Tensor, shape: Tensor, scale: Tensor) -> Tensor:
    is_inside = is_positive(x)
    y = torch.where(is_inside, x, 1.0)
    constant = shape * torch.log(scale) - torch.lgamma(shape)
    return inside(is_inside, constant - (shape + 1.0) * torch.log(y) - scale / y)


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
