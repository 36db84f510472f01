r"""This file finds the modes of latents whose factors are not all Gaussian.

By Newton's steps: all other factors are made Gaussian where the latents are
(`sites.py`), the product's mean is where they go next. Steps that lower the density are
shortened. A row's own steps end where this mean is hardly a deviation away.

What is returned is the Gaussian around the mode, Laplace's approximation.

Reference: Rue, Martino, Chopin, "Approximate Bayesian inference for latent Gaussian
models by using integrated nested Laplace approximations", JRSS B 2009.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..structured_gaussian.elimination import (
    Conditional,
    Elimination,
    Information,
)
from .sites import SitesGiven

__all__ = ["modes"]

_MOST_STEPS = 60
"""Where more are needed a Gaussian will not do."""
_SHORTER, _MOST_SHORTER = 0.3, 8
"""By which steps are shortened, and how often."""
_STILL = 1e-5
"""Deviations to where the next step leads; that of the one after is its square."""
_ROUNDING = 1e-10


@torch.no_grad()
def modes(
    elimination: Elimination, information: Information, sites: SitesGiven
) -> list[Conditional]:
    """Return the Gaussians around the modes, as columns given earlier ones.

    Args:
        elimination: Of the columns.
        information: Of the factors that are Gaussian.
        sites: The others.
    """
    exact = elimination.conditionals(information)
    none = torch.zeros_like(information.linear[:, :1]).expand(
        -1, elimination.num_columns
    )
    place = elimination.from_residual(none, exact)
    at = sites.predictors(place)
    density = sites.log_density(at)  # residuals of the others are 0
    going = torch.arange(len(none))
    for _ in range(_MOST_STEPS):
        rows = Information(information.precision[going], information.linear[going])
        given = sites.rows(going)
        aim = elimination.conditionals(given.added(rows, at[going], is_folded=True))
        step = elimination.from_residual(none[going], aim) - place[going]
        far = elimination.to_residual(place[going], aim).abs().amax(1) > _STILL
        start = [each.rows(going) for each in exact]
        before = _Place(place[going], at[going], density[going])
        after = _moved(elimination, start, given, before, step)
        has_moved = (after.columns != place[going]).any(1)
        place[going], density[going] = after.columns, after.log_density
        at[going] = after.predictors
        going = going[far & has_moved]
        if not len(going):
            break
    return elimination.conditionals(sites.added(information, at, is_folded=False))


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """Where rows are: columns, predictors, and log density up to constants."""

    columns: Tensor
    predictors: Tensor
    log_density: Tensor


def _moved(
    elimination: Elimination,
    exact: Sequence[Conditional],
    sites: SitesGiven,
    before: _Place,
    step: Tensor,
) -> _Place:
    """Return where steps lead, each shortened until the density is no lower."""
    least = before.log_density - _ROUNDING * (1.0 + before.log_density.abs())
    share = torch.ones_like(step[:, :1])
    for _ in range(_MOST_SHORTER):
        columns = before.columns + share * step
        predictors = sites.predictors(columns)
        away = elimination.to_residual(columns, exact).square().sum(-1)
        found = sites.log_density(predictors) - 0.5 * away
        is_lower = ~(found >= least).unsqueeze(1)
        if not bool(is_lower.any()):
            return _Place(columns, predictors, found)
        share = torch.where(is_lower, _SHORTER * share, share)
    stay = is_lower[:, 0]
    return _Place(
        torch.where(is_lower, before.columns, columns),
        torch.where(is_lower, before.predictors, predictors),
        torch.where(stay, before.log_density, found),
    )
