"""This file says how surely parameters are learned: covariances at the top.

The covariance of the estimate is the inverse of the observed information, by the
curvature of the surface at its top; of many parameters, of which that is dear, of the
scatter of the rows' scores, if rows are more. Both pass to natural values by the slopes
of the coordinates. What draws add is a covariance of its own.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .ascent import Round

__all__ = ["CURVATURE", "SCATTER", "UNKNOWN", "Errors", "errors_at"]

CURVATURE = "observed information"
SCATTER = "scatter of scores"
UNKNOWN = "not known"

_MOST_CURVED = 200
"""Parameters beyond which the scatter is taken, where rows are enough for it."""
_ROWS_PER_PARAMETER = 2
_MOST_DRAWS = 2**22
"""Looked at for the curvature, of all rows and places."""
_LEAST_DRAWS = 16
"""Of a row that the curvature needs, if there are so many."""
_FLAT = 3.0
"""An error of so many units of the prior: along it the surface has no top."""


@dataclass(frozen=True, slots=True, eq=False)
class Errors:
    """The covariance of an estimate.

    Attributes:
        source: What the covariance is of: one of the names above.
        covariance: Of natural values; nan if not known.
        noise: What draws add to it.
        free: Of free coordinates.
        flat: Numbers of the parameters for which the surface has no top.
    """

    source: str
    covariance: Float[Tensor, "parameter parameter"]
    noise: Float[Tensor, "parameter parameter"]
    free: Float[Tensor, "free free"]
    flat: tuple[int, ...]


def errors_at(found: Round) -> Errors:
    """Return the covariance of the estimate that a round ended with."""
    surface, place = found.surface, found.place
    coordinates = surface.coordinates
    slopes = coordinates.jacobian(place)
    source, information = _information(found)
    values, vectors = torch.linalg.eigh(information)
    # Where the surface does not fall, the error is unbounded.
    inverse = (vectors / values.clamp_min(0.1 / _FLAT**2)) @ vectors.T
    error = inverse.diagonal().sqrt()
    far = slopes.abs() @ torch.where(error > _FLAT, 1.0, 0.0).to(slopes) > 0.0
    covariance = slopes @ inverse @ slopes.T
    if source == UNKNOWN:
        covariance = torch.full_like(covariance, torch.nan)
    added = inverse @ surface.noise(place) @ inverse
    spread = coordinates.spread
    return Errors(
        source,
        covariance,
        slopes @ added @ slopes.T,
        spread.unsqueeze(1) * inverse * spread,
        tuple(torch.nonzero(far)[:, 0].tolist()),
    )


def _information(found: Round) -> tuple[str, Float[Tensor, "free free"]]:
    surface, place = found.surface, found.place
    rows = len(surface.likelihood.data)
    num = _MOST_DRAWS // (2 * rows * len(place))
    is_many = len(place) > _MOST_CURVED
    if is_many and rows >= _ROWS_PER_PARAMETER * len(place):
        return SCATTER, surface.scatter(place)
    if is_many and num < min(_LEAST_DRAWS, surface.draws.num):
        return UNKNOWN, surface.scatter(place)
    few = surface.first(max(num, _LEAST_DRAWS))
    return CURVATURE, few.curvature(place, found.scale)
