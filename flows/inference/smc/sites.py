r"""This file moves particles whose coordinates are partly counted values.

A counted value k has the coordinate k + u, u uniform below `JITTER` and drawn anew by
every move: particles that agree in k have then forgotten where they were, and those
that hold on to different values have not. Each such coordinate, one after the other, is
proposed another value and accepted by Metropolis; both proposals are symmetric:

    few values     one of the others, each as likely as the other;
    many values    ± (1 + ⌊|ξ| s⌋),  ξ ~ N(0, 1), s as wide as the particles.

Only what reads the value is computed anew. Then the coordinates that are measured move
given these, by a kernel of `moves`.

References:
    Liu (1996), Peskun's theorem and a modified discrete-state Gibbs sampler,
    Biometrika 83.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..noise import standard_normal
from ..shapes import Latents, LogProb, Places
from .coordinates import SpaceAround
from .moves import Move, MoveAround, MoveOutcome, accept, shares
from .point import Evaluate, Point
from .schedule import Stage

__all__ = ["JITTER", "Site", "SiteMoves", "SiteSpace"]

JITTER = 0.1
"""Below what a counted coordinate lies above its value."""
_SCALE = 2.38


@dataclass(frozen=True, slots=True)
class Site:
    """A coordinate that is counted, of particles drawn from the prior.

    Attributes:
        column: Its column.
        latent: Its column among the natural values.
        num_values: Its values are 0, 1, ... below this; 0 where they are too many.
        change: By how much log prior and log likelihood change from some rows of
            latents to others that differ in it alone, in nats; None where all is to
            be computed anew.
    """

    column: int
    latent: int
    num_values: int
    change: Callable[[Latents, Latents], tuple[LogProb, LogProb]] | None


@dataclass(frozen=True, slots=True, eq=False)
class SiteSpace(SpaceAround):
    """A space whose counted coordinates are drawn with their own share of a unit.

    Attributes:
        sites: The counted coordinates.
    """

    sites: Sequence[Site]

    def draw(self, num_particles: int, *, generator: torch.Generator) -> Places:
        """Return draws of the proposal."""
        drawn = self.space.draw(num_particles, generator=generator)
        return _jittered(drawn, self.sites, generator)


@dataclass(frozen=True, slots=True)
class SiteMoves(MoveAround):
    """Counted coordinates one by one, then all others together.

    Attributes:
        sites: The counted coordinates.
        rest: Moves the others.
    """

    sites: tuple[Site, ...]
    rest: Move

    def first_step_size(self, num_coordinates: int) -> float:
        """Return that of the kernel of the other coordinates."""
        return self.rest.first_step_size(num_coordinates - len(self.sites))

    @torch.no_grad()
    def step(
        self, point: Point, evaluate: Evaluate, stage: Stage, generator: torch.Generator
    ) -> MoveOutcome:
        """Return the particles after each coordinate has moved once."""
        accepted, num_divergent = 0.0, 0
        for site in self.sites:
            proposed = _proposed(point, evaluate, site, stage, generator)
            outcome = accept(point, proposed, 0.0, stage, generator)
            point = outcome.point
            accepted += outcome.acceptance
            num_divergent += outcome.num_divergent
        point = evaluate(_jittered(point.coordinates, self.sites, generator))
        if len(self.sites) == point.coordinates.shape[1]:
            return MoveOutcome(point, accepted / len(self.sites), num_divergent)
        outcome = self._rest(point, evaluate, stage, generator)
        return replace(outcome, num_divergent=outcome.num_divergent + num_divergent)

    def _rest(
        self, point: Point, evaluate: Evaluate, stage: Stage, generator: torch.Generator
    ) -> MoveOutcome:
        """Return the particles after the other coordinates have moved given these."""
        counted = {site.column for site in self.sites}
        width = point.coordinates.shape[1]
        rest = torch.tensor([c for c in range(width) if c not in counted])
        whole = point.coordinates

        def part(values: Tensor) -> Point:
            found = evaluate(whole.index_copy(1, rest, values))
            return replace(found, coordinates=values)

        covariance = (stage.factor @ stage.factor.T)[rest][:, rest]
        outcome = self.rest.step(
            replace(point, coordinates=whole[:, rest]),
            part,
            replace(stage, factor=torch.linalg.cholesky(covariance)),
            generator,
        )
        moved = whole.index_copy(1, rest, outcome.point.coordinates)
        return replace(outcome, point=replace(outcome.point, coordinates=moved))


def _proposed(
    point: Point,
    evaluate: Evaluate,
    site: Site,
    stage: Stage,
    generator: torch.Generator,
) -> Point:
    """Return the particles with another value of one coordinate."""
    values = point.coordinates[:, site.column].floor()
    share = shares(values, generator)
    if site.num_values:
        other = 1.0 + (share * (site.num_values - 1)).floor()
        values = (values + other) % site.num_values
    else:
        width = _SCALE * float(stage.factor[site.column].norm())
        noise = standard_normal(len(values), generator=generator)
        step = 1.0 + (noise.abs() * width * share).floor()
        values = values + torch.where(noise > 0.0, step, -step)
    coordinates, latents = point.coordinates.clone(), point.latents.clone()
    coordinates[:, site.column] = values + 0.5 * JITTER
    if site.change is None:
        return evaluate(coordinates)
    latents[:, site.latent] = values
    prior, likelihood = site.change(point.latents, latents)
    return Point(
        coordinates,
        latents,
        point.log_reference + prior,
        point.log_weight + likelihood,
    )


def _jittered(
    coordinates: Tensor, sites: Sequence[Site], generator: torch.Generator
) -> Places:
    """Return the coordinates with the counted ones anew above their values."""
    columns = [site.column for site in sites]
    values = coordinates[:, columns].floor()
    found = coordinates.clone()
    found[:, columns] = values + JITTER * shares(values, generator)
    return found
