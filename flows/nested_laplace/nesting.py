"""This file says how nearly Gaussian latents are drawn given the others."""

import math
from dataclasses import dataclass

from ..inference.columns import latent_columns
from ..inference.particles import Particles
from .target import LaplaceMarginal

__all__ = ["Nesting"]


@dataclass(frozen=True, slots=True, eq=False)
class Nesting:
    """How nearly Gaussian latents are drawn given the others.

    Attributes:
        marginal: The model without them.
        freedom: Of their noise; see `noise.py`.
        num_inner: M, how many are tried for each draw of the others.
    """

    marginal: LaplaceMarginal
    freedom: float = math.inf
    num_inner: int = 16

    def outer(self, particles: Particles) -> Particles:
        """Return the others of the particles of all."""
        columns = self.marginal.coordinates.columns
        return Particles(
            latents=particles.latents[:, columns],
            log_weights=particles.log_weights,
            columns=latent_columns(self.marginal.layout),
        )
