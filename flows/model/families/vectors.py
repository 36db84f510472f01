"""This file holds the families of vectors and matrices.

A dirichlet's density is relative to its first d - 1 values, a wishart's to its lower
triangle.

References:
    Smith and Hocking, "Wishart variate generator" (1972), for Bartlett's decomposition.
"""

import math

import numpy as np
import torch
from torch import Generator, Tensor

from ..standard_normal import HALF_LOG_TWO_PI
from .density import entry, inside, log_power
from .noise import log_standard_gamma, standard_gamma, standard_normal, tiny
from .parameters import CONCENTRATIONS, MATRIX, POSITIVE, VECTOR, cholesky, rows_first

__all__ = ["VECTORS"]


def _dirichlet(x: Tensor, alpha: Tensor) -> Tensor:
    slack = 4.0 * x.shape[1] * math.sqrt(torch.finfo(x.dtype).eps)
    in_simplex = (x >= 0).all(1) & ((x.sum(1) - 1.0).abs() <= slack)
    y = torch.where(in_simplex.unsqueeze(1), x, 1.0 / x.shape[1])
    constant = torch.lgamma(alpha.sum(1)) - torch.lgamma(alpha).sum(1)
    exponent, y = torch.broadcast_tensors(alpha - 1.0, y)  # type: ignore[no-untyped-call]
    return inside(in_simplex, log_power(exponent, y).sum(1) + constant)


def _draw_dirichlet(g: Generator, alpha: Tensor) -> Tensor:
    return torch.softmax(log_standard_gamma(alpha, g), 1).clamp(min=tiny(alpha))


def _standardised(x: Tensor, mean: Tensor, factor: Tensor) -> Tensor:
    """Return Σ z², z = L⁻¹ (x - mean), as [slot, row]."""
    shift = (x - mean).movedim(-1, 1).unsqueeze(-1)
    batch = np.broadcast_shapes(shift.shape[:2], factor.shape[:2])
    z = torch.linalg.solve_triangular(
        factor.expand(*batch, *factor.shape[2:]),
        shift.expand(*batch, *shift.shape[2:]),
        upper=False,
    )
    distance: Tensor = (z * z).sum((-1, -2))
    return distance


def _half_log_det(factor: Tensor) -> Tensor:
    return torch.log(factor.diagonal(dim1=-2, dim2=-1)).sum(-1)


def _correlated(g: Generator, like: Tensor, matrix: Tensor) -> Tensor:
    """Return draws [slot, d, row] of a normal with covariance `matrix`."""
    factor, _ = cholesky(matrix)
    noise = standard_normal(like, g).movedim(-1, 1).unsqueeze(-1)
    return (factor @ noise).squeeze(-1).movedim(1, -1)


def _mvn(x: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    factor, is_valid = cholesky(covariance)
    constant = x.shape[1] * HALF_LOG_TWO_PI
    density = -0.5 * _standardised(x, mean, factor) - _half_log_det(factor) - constant
    return torch.where(is_valid, density, math.nan)


def _draw_mvn(g: Generator, mean: Tensor, covariance: Tensor) -> Tensor:
    return mean + _correlated(g, mean, covariance)


def _multivariate_t(x: Tensor, nu: Tensor, location: Tensor, scale: Tensor) -> Tensor:
    factor, is_valid = cholesky(scale)
    size = x.shape[1]
    half = 0.5 * (nu + size)
    constant = torch.lgamma(half) - torch.lgamma(0.5 * nu)
    constant = constant - 0.5 * size * torch.log(math.pi * nu) - _half_log_det(factor)
    distance = _standardised(x, location, factor)
    density = constant - half * torch.log1p(distance / nu)
    return torch.where(is_valid, density, math.nan)


def _draw_multivariate_t(
    g: Generator, nu: Tensor, location: Tensor, scale: Tensor
) -> Tensor:
    spread = standard_gamma(0.5 * nu, g) / (0.5 * nu)
    drawn = _correlated(g, location, scale)
    return location + drawn / torch.sqrt(spread).unsqueeze(1)


def _wishart(x: Tensor, nu: Tensor, scale: Tensor) -> Tensor:
    size = x.shape[1]
    x_factor, in_support = cholesky(x)
    v_factor, is_valid = cholesky(scale)
    batch = np.broadcast_shapes(x_factor.shape[:2], v_factor.shape[:2])
    whitened = torch.linalg.solve_triangular(
        v_factor.expand(*batch, size, size),
        x_factor.expand(*batch, size, size),
        upper=False,
    )
    trace = (whitened * whitened).sum((-1, -2))
    index = torch.arange(size, dtype=x.dtype, device=x.device)[:, None, None]
    log_gamma = torch.lgamma(0.5 * (nu - index)).sum(0)
    log_gamma = log_gamma + 0.25 * size * (size - 1) * math.log(math.pi)
    density = (
        (nu - size - 1.0) * _half_log_det(x_factor)
        - 0.5 * trace
        - 0.5 * nu * size * math.log(2.0)
        - nu * _half_log_det(v_factor)
        - log_gamma
    )
    return torch.where(is_valid, inside(in_support, density), math.nan)


def _draw_wishart(g: Generator, nu: Tensor, scale: Tensor) -> Tensor:
    size = scale.shape[1]
    index = torch.arange(size, dtype=nu.dtype, device=nu.device)[None, :, None]
    freedom = 0.5 * (nu.unsqueeze(1) - index)
    diagonal = torch.sqrt(2.0 * standard_gamma(freedom, g)).movedim(-1, 1)
    below = rows_first(standard_normal(scale, g)).tril(-1)
    factor = cholesky(scale)[0] @ (below + torch.diag_embed(diagonal))
    return (factor @ factor.mT).movedim(1, -1)


_FREEDOM = (
    "more degrees of freedom than rows, less one",
    lambda nu, scale: nu > scale.shape[1] - 1,
)


VECTORS = (
    entry(
        "dirichlet",
        (CONCENTRATIONS,),
        _dirichlet,
        _draw_dirichlet,
    ),
    entry("mvn", (VECTOR, MATRIX), _mvn, _draw_mvn),
    entry(
        "multivariate-t",
        (POSITIVE, VECTOR, MATRIX),
        _multivariate_t,
        _draw_multivariate_t,
    ),
    entry("wishart", (POSITIVE, MATRIX), _wishart, _draw_wishart, _FREEDOM),
)
