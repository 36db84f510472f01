r"""This file is what is climbed: the log posterior of parameters, on draws that stay.

    ℓ(θ) = Σ_n log p̂(x_n | θ) + log p(θ),

a function of the prior's unit coordinates; the density is that of natural values, so
that its top does not depend on coordinates. Its curvature at the top is the observed
information.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .coordinates import Place, UnitCoordinates
from .likelihood import Likelihood, RowDraws, RowTerms

__all__ = ["Height", "Square", "Surface"]

_DIFFERENCE = 1e-3
"""Of places whose slopes give the curvature, in standard errors."""

Square = Float[Tensor, "free free"]


@dataclass(frozen=True, slots=True, eq=False)
class Height:
    """The surface at a place.

    Attributes:
        log_prior: log p(θ), in nats.
        terms: The likelihood of each row.
        slope: By unit coordinates.
    """

    log_prior: float
    terms: RowTerms
    slope: Place

    @property
    def log_likelihood(self) -> float:
        """Of all rows, in nats."""
        return float(self.terms.log_likelihood.sum())

    @property
    def value(self) -> float:
        """ℓ, in nats; -inf where it has no meaning."""
        found = self.log_likelihood + self.log_prior
        return -math.inf if math.isnan(found) else found


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """ℓ on fixed draws.

    Attributes:
        likelihood: Of the rows.
        coordinates: Of the parameters.
        draws: Of each row's latents.
    """

    likelihood: Likelihood
    coordinates: UnitCoordinates
    draws: RowDraws

    def at(self, place: Place) -> Height:
        """Return value and slope at a place."""
        values = self.coordinates.values(place).detach()
        terms = self.likelihood.terms(values, self.draws)
        log_prior, slope = self.prior(place)
        scores = terms.scores.sum(0)
        return Height(log_prior, terms, slope + self.coordinates.slope(place, scores))

    def prior(self, place: Place) -> tuple[float, Place]:
        """Return log p(θ) and its slope."""
        with torch.enable_grad():
            leaf = place.detach().requires_grad_()
            values = self.coordinates.values(leaf)
            found = self.coordinates.prior.log_joint(values, values.new_zeros(0))
            (slope,) = torch.autograd.grad(found, leaf)
        return float(found.detach()), slope

    def scatter(self, place: Place, terms: RowTerms) -> Square:
        """Return the information that the scatter of scores over rows estimates.

        A prior of one unit is added, which keeps it regular where rows are few.
        """
        scores = terms.scores @ self.coordinates.jacobian(place)
        gaps = scores - scores.mean(0)
        return gaps.T @ gaps + torch.eye(len(place), dtype=place.dtype)

    def noise(self, place: Place) -> Square:
        """Return the covariance of the slope that comes of the draws."""
        slopes = self.coordinates.jacobian(place)
        values = self.coordinates.values(place).detach()
        return slopes.T @ self.likelihood.noise(values, self.draws) @ slopes

    def curvature(self, place: Place, scale: Place) -> Square:
        """Return the observed information, by differences of slopes.

        Args:
            place: The top.
            scale: About a standard error of each coordinate.
        """
        rows = []
        for step in torch.diag(_DIFFERENCE * scale):
            ahead, behind = self.at(place + step).slope, self.at(place - step).slope
            rows.append((behind - ahead) / (2.0 * step.sum()))
        found = torch.stack(rows)
        return 0.5 * (found + found.T)
