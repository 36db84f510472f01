"""This file says what the parameters of a distribution must be.

Tensors carry the slot (one node) first and the row (one draw) last: a number has shape
[slot, row], a vector [slot, d, row], a matrix [slot, d, d, row].
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "CHANCE",
    "CONCENTRATIONS",
    "COUNT",
    "MATRIX",
    "NUMBER",
    "POSITIVE",
    "PROBABILITY",
    "RATE",
    "VECTOR",
    "WEIGHTS",
    "WHOLE",
    "Parameter",
    "Row",
    "cholesky",
    "is_count",
    "is_positive",
    "rows_first",
]


@dataclass(frozen=True, slots=True)
class Parameter:
    """What a parameter must be.

    Attributes:
        name: Its name, as in `daphne_bridge.families`.
        rank: 0 for a number, 1 for a vector, 2 for a matrix.
        expected: What is valid, in words.
        is_valid: Mask [slot, row] of a batch of values.
    """

    name: str
    rank: int
    expected: str
    is_valid: Callable[[Tensor], Tensor]


def is_positive(value: Tensor) -> Tensor:
    """Return where numbers are positive and finite."""
    return (value > 0) & (value < math.inf)


def _is_rate(value: Tensor) -> Tensor:
    return (value >= 0) & (value < math.inf)


def _is_finite(value: Tensor) -> Tensor:
    return torch.isfinite(value)


def _is_probability(value: Tensor) -> Tensor:
    return (value >= 0) & (value <= 1)


def _is_chance(value: Tensor) -> Tensor:
    return (value > 0) & (value <= 1)


def _is_whole(value: Tensor) -> Tensor:
    return _is_finite(value) & (value == torch.floor(value))


def is_count(value: Tensor) -> Tensor:
    """Return where numbers are 0, 1, 2, ..."""
    return _is_whole(value) & (value >= 0)


def _are_weights(value: Tensor) -> Tensor:
    return (value >= 0).all(1) & is_positive(value.sum(1))


def _are_positive(value: Tensor) -> Tensor:
    return is_positive(value).all(1)


def _are_finite(value: Tensor) -> Tensor:
    return _is_finite(value).all(1)


def rows_first(matrix: Tensor) -> Tensor:
    """Return [slot, row, d, d] from [slot, d, d, row]."""
    return matrix.movedim(-1, 1)


def cholesky(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return the factor [slot, row, d, d], and a mask of where there is one.

    Elsewhere the factor is the identity. It is found in double precision: a covariance
    that falls off smoothly is singular in single precision.
    """
    last = rows_first(matrix).double()
    scale = last.diagonal(dim1=-2, dim2=-1).abs().amax(-1)
    slack = 100 * torch.finfo(last.dtype).eps * scale[..., None, None]
    is_symmetric = ((last - last.mT).abs() <= slack).all(-1).all(-1)
    factor, failed = torch.linalg.cholesky_ex(last)
    is_valid = is_symmetric & (failed == 0)
    identity = torch.eye(last.shape[-1], dtype=last.dtype, device=last.device)
    safe = torch.where(is_valid[..., None, None], last, identity)
    found = (
        torch.linalg.cholesky_ex(safe)[0]
        if last.requires_grad
        else torch.where(is_valid[..., None, None], factor, identity)
    )
    return found.to(matrix.dtype), is_valid


def _is_positive_definite(value: Tensor) -> Tensor:
    return cholesky(value)[1]


Row = tuple[int, str, Callable[[Tensor], Tensor]]
"""What a parameter must be, without its name: rank, words, mask."""

NUMBER: Row = (0, "a finite number", _is_finite)
POSITIVE: Row = (0, "a positive number", is_positive)
RATE: Row = (0, "a finite number of at least 0", _is_rate)
CHANCE: Row = (0, "a number above 0 and up to 1", _is_chance)
PROBABILITY: Row = (0, "a number from 0 to 1", _is_probability)
WHOLE: Row = (0, "a whole number", _is_whole)
COUNT: Row = (0, "a whole number of at least 0", is_count)
VECTOR: Row = (1, "a vector of finite numbers", _are_finite)
WEIGHTS: Row = (1, "weights that are not negative and not all zero", _are_weights)
CONCENTRATIONS: Row = (1, "positive numbers", _are_positive)
MATRIX: Row = (2, "a symmetric positive definite matrix", _is_positive_definite)
