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
"""Parameters beyond which the curvature is not computed."""
_ROWS_PER_PARAMETER = 2
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
    if len(place) <= _MOST_CURVED:
        return CURVATURE, surface.curvature(place, found.scale)
    terms = surface.at(place).terms
    is_enough = len(terms.scores) >= _ROWS_PER_PARAMETER * len(place)
    return SCATTER if is_enough else UNKNOWN, surface.scatter(place, terms)
