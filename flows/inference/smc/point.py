r"""This file says where particles are, and how likely under a path of densities.

Between a reference density and a target lies π_β(c) ∝ reference(c) w(c)^β, w the
importance weight of the target and β the temperature.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["Evaluate", "Point"]

Evaluate = Callable[[Float[Tensor, "particle coordinate"]], "Point"]
"""Gives the densities at coordinates."""


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """Where particles are, and how likely.

    Attributes:
        coordinates: What is moved.
        latents: Natural values.
        log_reference: Log density of the proposal on the coordinates, in nats; -inf
            where particles stay, which no density describes.
        log_weight: Log of the importance weight of target against proposal, in nats.
    """

    coordinates: Float[Tensor, "particle coordinate"]
    latents: Float[Tensor, "particle latent"]
    log_reference: Float[Tensor, " particle"]
    log_weight: Float[Tensor, " particle"]

    def log_density(self, temperature: float) -> Float[Tensor, " particle"]:
        """Return log π_β up to a constant, for a temperature β above 0."""
        return self.log_reference + temperature * self.log_weight

    @property
    def is_finite(self) -> Bool[Tensor, " particle"]:
        """Whether a particle stands at numbers, in coordinates and natural values."""
        return self.coordinates.isfinite().all(1) & self.latents.isfinite().all(1)

    @property
    def can_move(self) -> Bool[Tensor, " particle"]:
        """Whether a particle stands where there is a density."""
        return self.log_reference > -torch.inf

    def rows(
        self, rows: Int[Tensor, " row"] | Bool[Tensor, " particle"] | slice
    ) -> "Point":
        """Return some of the particles."""
        return self._with(lambda values, _: values[rows], self)

    def placed(
        self, where: Int[Tensor, " row"] | Bool[Tensor, " particle"], other: "Point"
    ) -> "Point":
        """Return the particles with those of `other` in some rows, one for each."""

        def chosen(own: Tensor, others: Tensor) -> Tensor:
            found = own.clone()
            found[where] = others
            return found

        return self._with(chosen, other)

    @classmethod
    def joined(cls, points: Sequence["Point"]) -> "Point":
        """Return the particles of several points, one after the other."""
        return cls(
            torch.cat([each.coordinates for each in points]),
            torch.cat([each.latents for each in points]),
            torch.cat([each.log_reference for each in points]),
            torch.cat([each.log_weight for each in points]),
        )

    def detached(self) -> "Point":
        """Return the same values without their gradients."""
        return self._with(lambda values, _: values.detach(), self)

    def _with(
        self, change: Callable[[Tensor, Tensor], Tensor], other: "Point"
    ) -> "Point":
        return Point(
            change(self.coordinates, other.coordinates),
            change(self.latents, other.latents),
            change(self.log_reference, other.log_reference),
            change(self.log_weight, other.log_weight),
        )
