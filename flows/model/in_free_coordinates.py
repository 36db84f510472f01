"""This file is what every model does in free coordinates, given their maps.

log_joint_free(f, x) = log_joint(z, x) + log|det dz/df|,    z = constrain(f)
"""

from typing import TYPE_CHECKING, Protocol

from jaxtyping import Bool, Float
from torch import Tensor

from .shapes import Free, Latents, LogDensity, LogDet, Observed

__all__ = ["FreeMap", "InFreeCoordinates"]


class FreeMap(Protocol):
    """The two coordinates of latents; what its methods do is said below."""

    def constrain(self, free: Free) -> tuple[Latents, LogDet]: ...  # noqa: D102

    def constrain_terms(  # noqa: D102
        self, free: Free
    ) -> Float[Tensor, "*batch node"]: ...

    def unconstrain(self, latents: Latents) -> tuple[Free, LogDet]: ...  # noqa: D102

    def at_edge(self, free: Free) -> Bool[Tensor, "*batch free"]: ...  # noqa: D102


class InFreeCoordinates:
    """The methods in free coordinates of a model with `coordinates` and a density."""

    if TYPE_CHECKING:  # a field or a property of the model

        @property
        def coordinates(self) -> FreeMap: ...  # noqa: D102

        def log_joint(  # noqa: D102
            self, latents: Latents, observed: Observed
        ) -> LogDensity: ...

    def log_joint_free(self, free: Free, observed: Observed) -> LogDensity:
        """Return the log density of the free coordinates and the data, in nats.

        Raises:
            ModelError: If a latent is discrete, or a parameter has no meaning.
        """
        latents, log_det = self.constrain(free)
        return self.log_joint(latents, observed) + log_det

    def constrain(self, free: Free) -> tuple[Latents, LogDet]:
        """Return the natural values of free coordinates, and log|det dz/df|.

        Raises:
            ModelError: If a latent is discrete.
        """
        return self.coordinates.constrain(free)

    def constrain_terms(self, free: Free) -> Float[Tensor, "*batch node"]:
        """Return the summands of `constrain`'s log|det dz/df|, one column per latent.

        Raises:
            ModelError: If a latent is discrete.
        """
        return self.coordinates.constrain_terms(free)

    def unconstrain(self, latents: Latents) -> tuple[Free, LogDet]:
        """Return the free coordinates of natural values, and log|det dz/df|.

        Raises:
            ModelError: If a latent is discrete, or a value outside its support.
        """
        return self.coordinates.unconstrain(latents)

    def at_edge(self, free: Free) -> Bool[Tensor, "*batch free"]:
        """Return where a double's digits end: values beyond are all the same."""
        return self.coordinates.at_edge(free)
