"""This file says what a family needs to be evaluated and drawn from."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from daphne_bridge.language.families import FAMILIES as NAMES
from daphne_bridge.language.families import Family

from .parameters import Parameter, Row

__all__ = ["Density", "entry", "inside", "log_power"]


@dataclass(frozen=True, slots=True)
class Density:
    """A family that can be evaluated and drawn from.

    Attributes:
        family: The bridge's entry.
        parameters: What each parameter must be.
        log_prob: Log density of (value, *parameters).
        sample: Draws from (generator, *parameters); parameters of full shape.
        are_valid: Mask of parameters that only make sense together, and what is
            expected of them; None if each may be judged alone.
        says_nan: Whether `log_prob` is nan by itself where a parameter is not valid.
    """

    family: Family
    parameters: tuple[Parameter, ...]
    log_prob: Callable[..., Tensor]
    sample: Callable[..., Tensor]
    are_valid: tuple[str, Callable[..., Tensor]] | None = None
    says_nan: bool = False

    def validity(self, *parameters: Tensor) -> Tensor:
        """Return the mask [slot, row] of parameters that make a distribution."""
        is_valid = self.parameters[0].is_valid(parameters[0])
        for parameter, value in zip(self.parameters[1:], parameters[1:], strict=True):
            is_valid = is_valid & parameter.is_valid(value)
        if self.are_valid is not None:
            is_valid = is_valid & self.are_valid[1](*parameters)
        return is_valid


def entry(
    name: str,
    rows: tuple[Row, ...],
    log_prob: Callable[..., Tensor],
    sample: Callable[..., Tensor],
    are_valid: tuple[str, Callable[..., Tensor]] | None = None,
    *,
    says_nan: bool = False,
) -> Density:
    """Return how a family of the bridge is evaluated and drawn from.

    Args:
        name: Its name.
        rows: What each parameter must be.
        log_prob: Log density of (value, *parameters).
        sample: Draws from (generator, *parameters).
        are_valid: What parameters must be together, in words and as a mask.
        says_nan: Whether `log_prob` is nan where a parameter is not valid.
    """
    family = NAMES[name]
    parameters = tuple(
        Parameter(parameter, *row)
        for parameter, row in zip(family.parameters, rows, strict=True)
    )
    return Density(family, parameters, log_prob, sample, are_valid, says_nan)


def inside(mask: Tensor, value: Tensor) -> Tensor:
    """Return log densities, -inf outside the support."""
    return torch.where(mask, value, -math.inf)


def log_power(exponent: Tensor, base: Tensor) -> Tensor:
    """Return exponent · log base, 0 where the exponent is 0.

    A base of 0 has no slope: an infinite one would be none for all that it is part of.
    """
    is_read = exponent != 0
    is_inside = is_read & (base != 0)
    edge = torch.where(is_read, -math.inf * exponent.detach(), 0.0)
    return torch.where(
        is_inside, exponent * torch.log(base.where(is_inside, 1.0)), edge
    )
