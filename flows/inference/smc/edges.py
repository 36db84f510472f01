"""This file moves the other latents of particles that have some where doubles end.

A latent whose prior has mass where values round to one number, the edge, has no density
there to move in, but the others have one given it: as long as it stays, its own factor
is a constant, if it has no latent parents. So it is put far beyond the edge, where
the density is flat and whence no step leads back, and all coordinates move.
"""

from dataclasses import dataclass, replace

import torch

from .coordinates import FAR_BEYOND, AnnealedTarget
from .moves import Move, MoveAround, MoveOutcome
from .point import Evaluate, Point
from .schedule import Stage

__all__ = ["EdgeMoves"]


@dataclass(frozen=True, slots=True)
class EdgeMoves(MoveAround):
    """Particles away from the edge by another kernel, then those that are there.

    Attributes:
        target: Says where the edge is.
        columns: Free coordinates that may be held there; particles that have another
            one there stay where they are.
        rest: Moves all coordinates.
    """

    target: AnnealedTarget
    columns: tuple[int, ...]
    rest: Move

    def step(
        self, point: Point, evaluate: Evaluate, stage: Stage, generator: torch.Generator
    ) -> MoveOutcome:
        """Return the particles after one move of each kind."""
        outcome = self.rest.step(point, evaluate, stage, generator)
        point = outcome.point
        width = self.target.layout.free_dim
        at_edge = torch.zeros_like(point.coordinates, dtype=torch.bool)
        at_edge[:, :width] = self.target.at_edge(point.coordinates[:, :width])
        others = at_edge.clone()
        others[:, list(self.columns)] = False
        is_held = at_edge.any(1) & ~others.any(1) & point.is_finite
        if not bool(is_held.any()):
            return outcome
        here, held = point.coordinates[is_held], at_edge[is_held]
        with torch.no_grad():
            beyond = evaluate(torch.where(held, here.sign() * 2.0 * FAR_BEYOND, here))
        moved = self.rest.step(beyond, evaluate, stage, generator).point
        back = replace(
            moved,
            coordinates=torch.where(held, here, moved.coordinates),
            log_reference=point.log_reference[is_held],
        )
        return replace(outcome, point=point.placed(is_held, back))
