"""This file holds the coordinates in which parameters are climbed: the prior's units.

Free coordinates of the parameters are measured from the middle of the prior's draws in
half the distance between their 16 % and 84 % quantiles, so that a step of 1 is large
for every one of them.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..model.model import Model
from .parted import prior_draws

__all__ = ["Place", "UnitCoordinates"]

_DRAWS = 2000

Place = Float[Tensor, " free"]


@dataclass(frozen=True, slots=True, eq=False)
class UnitCoordinates:
    """Coordinates of parameters in units of their prior.

    Attributes:
        prior: Of the parameters.
        centre: Where 0 is, in free coordinates.
        spread: How long 1 is.
    """

    prior: Model
    centre: Place
    spread: Place

    @classmethod
    def of(cls, prior: Model) -> "UnitCoordinates":
        """Return the coordinates that draws of the prior give."""
        drawn = prior_draws(prior, _DRAWS, torch.Generator().manual_seed(0))
        free, _ = prior.unconstrain(drawn)
        share = free.new_tensor([0.16, 0.5, 0.84])
        low, middle, high = torch.quantile(free, share, dim=0)
        return cls(prior, middle, ((high - low) / 2.0).clamp_min(1e-300))

    def values(self, place: Float[Tensor, "*batch free"]) -> Float[Tensor, "*batch p"]:
        """Return the natural values of parameters; carries gradients."""
        return self.prior.constrain(self.centre + self.spread * place)[0]

    def place(self, values: Float[Tensor, "*batch p"]) -> Float[Tensor, "*batch free"]:
        """Return where natural values are."""
        return (self.prior.unconstrain(values)[0] - self.centre) / self.spread

    def slope(self, place: Place, scores: Float[Tensor, " p"]) -> Place:
        """Return slopes by these coordinates of what has slopes by natural values."""
        with torch.enable_grad():
            leaf = place.detach().requires_grad_()
            values = self.values(leaf)
            (found,) = torch.autograd.grad(values, leaf, scores)
        return found

    def jacobian(self, place: Place) -> Float[Tensor, "p free"]:
        """Return the slopes of natural values by these coordinates."""
        found: Tensor = torch.autograd.functional.jacobian(  # type: ignore[no-untyped-call]
            self.values, place
        )
        return found
