"""This file maps free coordinates on the real line to the support of a distribution.

Every map takes batches with the slot first and the row last: free coordinates
[slot, free, row] to values [slot, value, row], and log|det d value / d free|
[slot, row].

    real                x = f                  log|det| = 0
    located (m, s)      x = m + s f            log s
    located vector      x = m + L f            Σ_i log L_ii
    (m, L Lᵀ)
    positive            x = exp f              f
    interval (a, b)     x = a + (b - a) σ(f)   log(b - a) + log σ(f) + log σ(-f)
    simplex of n        stick breaking, n - 1 coordinates
    positive definite   X = L Lᵀ, L lower triangular, its diagonal exp of p coordinates;
    p × p               p log 2 + Σ_i (p - i + 2) f_ii, i = 1 ... p

The determinant of a simplex is that of its first n - 1 values, of a positive definite
matrix that of its lower triangle: the densities are relative to the same coordinates.
A value that rounds to the edge of an open support is moved to the nearest number
inside, as torch's own transforms do; the log determinant is that of the free
coordinate. All that lies beyond is one value then: `free_limits` says where that
begins in double precision.

References:
    Carpenter et al., "Stan: a probabilistic programming language" (2017), and the Stan
    reference manual, chapter "Constraint transforms", https://mc-stan.org/docs/
"""

import math
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions.transforms import StickBreakingTransform

__all__ = ["BIJECTIONS", "Bijection"]

Free = Float[Tensor, "slot free row"]
Natural = Float[Tensor, "slot value row"]
LogDet = Float[Tensor, "slot row"]


class Bijection(Protocol):
    """A map from the real line to a support."""

    free_limits: ClassVar[tuple[float, float]]
    """Free coordinates at or beyond these share their value with all that follow."""

    def free_size(self, size: int) -> int:
        """Return the number of free coordinates of a value of `size` columns."""

    def to_value(self, free: Tensor, *bounds: Tensor) -> tuple[Tensor, Tensor]:
        """Return the values, and log|det d value / d free|."""

    def to_free(self, value: Tensor, *bounds: Tensor) -> tuple[Tensor, Tensor]:
        """Return the free coordinates, and log|det d value / d free|."""


def _tiny(like: Tensor) -> float:
    return torch.finfo(like.dtype).tiny


def _below_one(like: Tensor) -> float:
    return 1.0 - torch.finfo(like.dtype).eps


_UNLIMITED = (-math.inf, math.inf)
_LOG_TINY = math.log(sys.float_info.min) + 1e-9
_LOG_MOST = math.log(sys.float_info.max) - 1e-9
_LOGIT_BELOW_ONE = -math.log(1.25 * sys.float_info.epsilon)
_LOG_LEAST_STICK = math.log(0.5 * sys.float_info.epsilon)


class _Real:
    free_limits: ClassVar[tuple[float, float]] = _UNLIMITED

    def free_size(self, size: int) -> int:
        return size

    def to_value(self, free: Tensor, *_bounds: Tensor) -> tuple[Tensor, Tensor]:
        return free, torch.zeros_like(free[:, 0])

    def to_free(self, value: Tensor, *_bounds: Tensor) -> tuple[Tensor, Tensor]:
        return value, torch.zeros_like(value[:, 0])


class _Located:
    """The real line measured from a location in a scale, of shape [slot, row]."""

    free_limits: ClassVar[tuple[float, float]] = _UNLIMITED

    def free_size(self, size: int) -> int:
        return size

    def to_value(self, free: Tensor, *bounds: Tensor) -> tuple[Tensor, Tensor]:
        location, scale = (bound.unsqueeze(1) for bound in bounds)
        return location + scale * free, self._log_det(bounds[1], free)

    def to_free(self, value: Tensor, *bounds: Tensor) -> tuple[Tensor, Tensor]:
        location, scale = (bound.unsqueeze(1) for bound in bounds)
        return (value - location) / scale, self._log_det(bounds[1], value)

    @staticmethod
    def _log_det(scale: Tensor, like: Tensor) -> Tensor:
        slots, size, _ = like.shape
        found = size * scale.log() if size > 1 else scale.log()
        return found if len(found) == slots else found.expand(slots, -1)


class _LocatedVector:
    """Vectors measured from a location [slot, d, row] in the factor of a covariance.

    The covariance is [slot, d, d, row]; where it has no factor nothing is a number.
    """

    free_limits: ClassVar[tuple[float, float]] = _UNLIMITED

    def free_size(self, size: int) -> int:
        return size

    def to_value(self, free: Tensor, *bounds: Tensor) -> tuple[Tensor, Tensor]:
        location, factor, log_det = self._parts(*bounds)
        moved = factor @ free.movedim(-1, 1).unsqueeze(-1)
        return location + moved.squeeze(-1).movedim(1, -1), self._of(log_det, free)

    def to_free(self, value: Tensor, *bounds: Tensor) -> tuple[Tensor, Tensor]:
        location, factor, log_det = self._parts(*bounds)
        gap = (value - location).movedim(-1, 1).unsqueeze(-1)
        free = torch.linalg.solve_triangular(
            factor.expand(*gap.shape[:2], *factor.shape[2:]), gap, upper=False
        )
        return free.squeeze(-1).movedim(1, -1), self._of(log_det, value)

    @staticmethod
    def _parts(location: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        last = covariance.movedim(-1, 1).double()
        failed = torch.linalg.cholesky_ex(last.detach())[1] != 0
        identity = torch.eye(last.shape[-1], dtype=last.dtype, device=last.device)
        safe = torch.where(failed[..., None, None], identity, last)
        factor = torch.linalg.cholesky_ex(safe)[0].to(covariance.dtype)
        log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        location = torch.where(failed.unsqueeze(1), math.nan, location)
        return location, factor, torch.where(failed, math.nan, log_det)

    @staticmethod
    def _of(log_det: Tensor, values: Tensor) -> Tensor:
        return log_det.expand(len(values), values.shape[-1])


class _Positive:
    free_limits: ClassVar[tuple[float, float]] = (_LOG_TINY, _LOG_MOST)

    def free_size(self, size: int) -> int:
        return size

    def to_value(self, free: Tensor, *_bounds: Tensor) -> tuple[Tensor, Tensor]:
        return torch.exp(free).clamp(min=_tiny(free)), free.sum(1)

    def to_free(self, value: Tensor, *_bounds: Tensor) -> tuple[Tensor, Tensor]:
        inside = torch.where(value == 0, _tiny(value), value)
        free = torch.log(inside)
        return free, free.sum(1)


class _Interval:
    """The interval between two bounds of shape [slot, row]; (0, 1) without bounds."""

    free_limits: ClassVar[tuple[float, float]] = (_LOG_TINY, _LOGIT_BELOW_ONE)

    def free_size(self, size: int) -> int:
        return size

    def to_value(self, free: Tensor, *bounds: Tensor) -> tuple[Tensor, Tensor]:
        unit = torch.sigmoid(free).clamp(_tiny(free), _below_one(free))
        log_det = torch.nn.functional.logsigmoid(free)
        log_det = (log_det + torch.nn.functional.logsigmoid(-free)).sum(1)
        if not bounds:
            return unit, log_det
        low, high = bounds
        width = high - low
        value = low.unsqueeze(1) + width.unsqueeze(1) * unit
        return value, log_det + torch.log(width)

    def to_free(self, value: Tensor, *bounds: Tensor) -> tuple[Tensor, Tensor]:
        unit = value
        log_width: Tensor | float = 0.0
        if bounds:
            low, high = bounds
            unit = (value - low.unsqueeze(1)) / (high - low).unsqueeze(1)
            log_width = torch.log(high - low)
        is_inside = (unit >= 0) & (unit <= 1)
        unit = unit.clamp(_tiny(value), _below_one(value))
        unit = torch.where(is_inside, unit, math.nan)
        free = torch.log(unit) - torch.log1p(-unit)
        return free, (torch.log(unit) + torch.log1p(-unit)).sum(1) + log_width


class _Simplex:
    # The smallest value beside the shortest rest of the stick that has digits.
    free_limits: ClassVar[tuple[float, float]] = (
        _LOG_TINY - _LOG_LEAST_STICK,
        _LOGIT_BELOW_ONE,
    )

    def free_size(self, size: int) -> int:
        return size - 1

    def to_value(self, free: Tensor, *_bounds: Tensor) -> tuple[Tensor, Tensor]:
        transform = StickBreakingTransform()
        last = free.transpose(1, 2)
        value = transform(last)
        log_det = _stick_breaking_log_det(transform, last, value)
        return value.transpose(1, 2).clamp(min=_tiny(free)), log_det

    def to_free(self, value: Tensor, *_bounds: Tensor) -> tuple[Tensor, Tensor]:
        transform = StickBreakingTransform()
        last = value.transpose(1, 2)
        is_inside = (last >= 0).all(-1, keepdim=True)
        last = torch.where(is_inside, last.clamp(min=_tiny(value)), math.nan)
        free = transform.inv(last)
        return free.transpose(1, 2), _stick_breaking_log_det(transform, free, last)


def _stick_breaking_log_det(
    transform: StickBreakingTransform, free: Tensor, value: Tensor
) -> Tensor:
    log_det: Tensor = transform.log_abs_det_jacobian(free, value)  # type: ignore[no-untyped-call]
    return log_det


class _PositiveDefinite:
    free_limits: ClassVar[tuple[float, float]] = _UNLIMITED

    def free_size(self, size: int) -> int:
        order = math.isqrt(size)
        return order * (order + 1) // 2

    def to_value(self, free: Tensor, *_bounds: Tensor) -> tuple[Tensor, Tensor]:
        slots, size, rows = free.shape
        order = (math.isqrt(8 * size + 1) - 1) // 2
        below, column = torch.tril_indices(order, order, device=free.device)
        is_diagonal = (below == column)[:, None]
        entries = torch.where(is_diagonal, torch.exp(free.where(is_diagonal, 0)), free)
        factor = free.new_zeros(slots, rows, order, order)
        factor[..., below, column] = entries.transpose(1, 2)
        value = (factor @ factor.mT).reshape(slots, rows, -1).transpose(1, 2)
        return value, self._log_det(free[:, below == column])

    def to_free(self, value: Tensor, *_bounds: Tensor) -> tuple[Tensor, Tensor]:
        slots, size, rows = value.shape
        order = math.isqrt(size)
        matrices = value.transpose(1, 2).reshape(slots, rows, order, order)
        factor, failed = torch.linalg.cholesky_ex(matrices)
        factor = torch.where((failed == 0)[..., None, None], factor, math.nan)
        below, column = torch.tril_indices(order, order, device=value.device)
        entries = factor[..., below, column].transpose(1, 2)
        is_diagonal = (below == column)[:, None]
        free = torch.where(
            is_diagonal, torch.log(entries.where(is_diagonal, 1)), entries
        )
        return free, self._log_det(free[:, below == column])

    @staticmethod
    def _log_det(diagonal: Tensor) -> Tensor:
        order = diagonal.shape[1]
        power = torch.arange(order + 1, 1, -1, device=diagonal.device)
        weighted = diagonal * power.to(diagonal.dtype)[:, None]
        return weighted.sum(1) + order * math.log(2.0)


BIJECTIONS: Mapping[str, Bijection] = MappingProxyType(
    {
        "real": _Real(),
        "real vector": _Real(),
        "located": _Located(),
        "located vector": _LocatedVector(),
        "positive": _Positive(),
        "nonnegative": _Positive(),
        "unit interval": _Interval(),
        "interval": _Interval(),
        "simplex": _Simplex(),
        "positive definite matrix": _PositiveDefinite(),
    }
)
"""The map to every continuous support, and those of `Coordinates.standardised`."""
