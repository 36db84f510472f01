r"""This file is what is climbed: the log posterior of parameters, on draws that stay.

    ℓ(θ) = Σ_n log p̂(x_n | θ) + log p(θ),

a function of the prior's unit coordinates; the density is that of natural values, so
that its top does not depend on coordinates. Its curvature at the top is the observed
information.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from .coordinates import Place, UnitCoordinates
from .likelihood import Likelihood, RowDraws

__all__ = ["Height", "Square", "Surface"]

_MOST_SLOPES = 2**25
"""Numbers in the slopes of single draws, where these are wanted."""
_DIFFERENCE = 1e-3
"""Of places whose slopes give the curvature, in standard errors."""

Square = Float[Tensor, "free free"]


@dataclass(frozen=True, slots=True, eq=False)
class Height:
    """The surface at a place.

    Attributes:
        log_prior: log p(θ), in nats.
        log_likelihood: Of all rows, in nats.
        slope: By unit coordinates.
    """

    log_prior: float
    log_likelihood: float
    slope: Place

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
        log_likelihood, scores = self.likelihood.total(values, self.draws)
        log_prior, slope = self.prior(place)
        slope = slope + self.coordinates.slope(place, scores)
        return Height(log_prior, log_likelihood, slope)

    def ess(self, place: Place) -> Float[Tensor, " row"]:
        """Return the effective number of draws of each row."""
        values = self.coordinates.values(place).detach()
        return self.likelihood.ess(values, self.draws)

    def first(self, num: int) -> "Surface":
        """Return the surface on the first draws of each row."""
        return replace(self, draws=self.draws.first(max(1, num)))

    @property
    def _few(self) -> "Surface":
        """On so many draws that each may have slopes of its own."""
        slopes = len(self.likelihood.data) * len(self.coordinates.centre)
        return self.first(_MOST_SLOPES // slopes)

    def prior(self, place: Place) -> tuple[float, Place]:
        """Return log p(θ) and its slope."""
        with torch.enable_grad():
            leaf = place.detach().requires_grad_()
            values = self.coordinates.values(leaf)
            found = self.coordinates.prior.log_joint(values, values.new_zeros(0))
            (slope,) = torch.autograd.grad(found, leaf)
        return float(found.detach()), slope

    def scatter(self, place: Place) -> Square:
        """Return the information that the scatter of scores over rows estimates.

        A prior of one unit is added, which keeps it regular where rows are few.
        """
        values = self.coordinates.values(place).detach()
        terms = self.likelihood.terms(values, self._few.draws)
        scores = terms.scores @ self.coordinates.jacobian(place)
        gaps = scores - scores.mean(0)
        return gaps.T @ gaps + torch.eye(len(place), dtype=place.dtype)

    def noise(self, place: Place) -> Square:
        """Return the covariance of the slope that comes of the draws."""
        slopes = self.coordinates.jacobian(place)
        values = self.coordinates.values(place).detach()
        few = self._few.draws
        share = few.num / self.draws.num
        return share * (slopes.T @ self.likelihood.noise(values, few) @ slopes)

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
