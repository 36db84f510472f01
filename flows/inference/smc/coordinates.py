r"""This file holds coordinates that lie between a proposal and a target.

Between the proposal q and the target p lie the densities π_β(c) ∝ reference(c) w(c)^β
on coordinates c of latents and nuisances, w the importance weight.

`FreeSpace` is for every proposal: latents on the real line, nuisances
beside them, reference(c) = q(z, y | x) |dz/dc|. `BaseSpace` is for proposals that push
forward a base N(0, I): reference(c) = N(c; 0, I) and z follows from c, so that the flow
preconditions: what it learnt need not be learnt again by the moves.
"""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ...model.shapes import Free, Latents, LogDet, ObservedRow
from ...model.standard_normal import standard_normal_log_prob
from ..log_weight import log_weights
from ..noise import standard_normal
from ..proposal import Proposal, ProposalDraw, Target
from ..shapes import Places
from .point import Point

__all__ = [
    "FAR_BEYOND",
    "AnnealedTarget",
    "BaseMap",
    "BaseSpace",
    "FreeSpace",
    "Space",
    "SpaceAround",
    "WatchedSpace",
]

FAR_BEYOND = 1e9
"""Free coordinates beyond this are held at the edge; no move goes so far by itself."""
_AT_EDGE = math.log(sys.float_info.max) - 5e-10
"""Beyond the limits of every support on both sides, and of a value that is a number."""


class AnnealedTarget(Target, Protocol):
    """A target that can be moved in: it maps its latents to the real line and back."""

    def constrain(self, free: Free, /) -> tuple[Latents, LogDet]:
        """Return latents and log|det d latents / d free|."""

    def unconstrain(self, latents: Latents, /) -> tuple[Free, LogDet]:
        """Return free coordinates and log|det d latents / d free|."""

    def at_edge(self, free: Free, /) -> Bool[Tensor, "*batch free"]:
        """Return where a double's digits end: values beyond are all the same."""


class BaseMap(Protocol):
    """A proposal that pushes forward a base N(0, I)."""

    @property
    def base_dim(self) -> int:
        """Return the number of base coordinates."""

    def from_base(
        self, base: Float[Tensor, "particle base"], observed: ObservedRow
    ) -> ProposalDraw:
        """Return where base points go, with the proposal's density there."""


class Space(Protocol):
    """Coordinates that lie between a proposal and a target."""

    @property
    def target(self) -> Target:
        """Return the target."""

    @property
    def observed(self) -> ObservedRow:
        """Return the observed values, on the device of the coordinates."""

    def draw(self, num_particles: int, *, generator: torch.Generator) -> Places:
        """Return draws of the proposal."""

    def at(self, coordinates: Places) -> Point:
        """Return the densities at given coordinates."""


@dataclass(frozen=True, slots=True, eq=False)
class SpaceAround:
    """A space that is another one but for what a subclass changes.

    Attributes:
        space: The other one.
    """

    space: Space

    @property
    def target(self) -> Target:
        """Return the target."""
        return self.space.target

    @property
    def observed(self) -> ObservedRow:
        """Return the observed values, on the device of the coordinates."""
        return self.space.observed

    def draw(self, num_particles: int, *, generator: torch.Generator) -> Places:
        """Return draws of the proposal."""
        return self.space.draw(num_particles, generator=generator)

    def at(self, coordinates: Places) -> Point:
        """Return the densities at given coordinates."""
        return self.space.at(coordinates)


@dataclass(frozen=True, slots=True, eq=False)
class WatchedSpace(SpaceAround):
    """A space that asks whether to go on, each time that densities are wanted.

    Attributes:
        check: Raises if not.
    """

    check: Callable[[], None]

    def at(self, coordinates: Places) -> Point:
        """Return the densities at given coordinates."""
        self.check()
        return self.space.at(coordinates)


@dataclass(frozen=True, slots=True, eq=False)
class FreeSpace:
    """Latents on the real line with the nuisances beside them; for every proposal.

    A prior such as beta(0.001, 0.001) has much of its mass where values round to one
    number, the edge. Its draws there weigh what they should, but the density on the
    real line knows nothing of that mass: there the reference is 0, so that particles
    stay at the edge and none goes there, a kernel that keeps the mixture of both. Far
    beyond the edge (`FAR_BEYOND`) the density is that of the others given a latent that
    is held at the edge (`edges.py`).

    Attributes:
        target: The model.
        proposal: Where the particles come from.
        observed: The observed values.
    """

    target: AnnealedTarget
    proposal: Proposal
    observed: ObservedRow

    def draw(self, num_particles: int, *, generator: torch.Generator) -> Places:
        """Return draws of the proposal, mapped to the real line."""
        draw = self.proposal.rsample_and_log_prob(
            self.observed, num_particles, generator=generator
        )
        free, _ = self.target.unconstrain(draw.latents)
        return torch.cat([free, draw.nuisances], 1)

    def at(self, coordinates: Places) -> Point:
        """Return the densities at given coordinates."""
        split = coordinates.shape[1] - self.proposal.nuisance_dim
        nuisances, free = coordinates[:, split:], coordinates[:, :split]
        is_far = (free.abs() > FAR_BEYOND) & free.isfinite()
        is_held = is_far & self.target.at_edge(free)
        free = torch.where(is_held, _AT_EDGE * free.detach().sign(), free)
        latents, log_det = self.target.constrain(free)
        log_prob = self.proposal.log_prob(latents, nuisances, self.observed)
        draw = ProposalDraw(latents, nuisances, log_prob)
        log_weight = log_weights(self.target, draw, self.observed)
        # Where the proposal has no mass no particle can come from: density 0.
        is_reached = log_prob > -torch.inf
        at_edge = (self.target.at_edge(free) & ~is_held).any(1)
        log_reference = log_prob + standard_normal_log_prob(nuisances) + log_det
        return Point(
            coordinates,
            latents,
            torch.where(at_edge, -torch.inf, log_reference),
            torch.where(is_reached | log_prob.isnan(), log_weight, 0.0),
        )


@dataclass(frozen=True, slots=True, eq=False)
class BaseSpace:
    """The base N(0, I) of a proposal; its map preconditions the moves.

    Attributes:
        target: The model.
        proposal: The map from the base, with its density.
        observed: The observed values.
    """

    target: Target
    proposal: BaseMap
    observed: ObservedRow

    def draw(self, num_particles: int, *, generator: torch.Generator) -> Places:
        """Return draws of N(0, I)."""
        size = self.proposal.base_dim
        return standard_normal(num_particles, size, generator=generator)

    def at(self, coordinates: Places) -> Point:
        """Return the densities at given coordinates."""
        draw = self.proposal.from_base(coordinates, self.observed)
        return Point(
            coordinates,
            draw.latents,
            standard_normal_log_prob(coordinates),
            log_weights(self.target, draw, self.observed),
        )
