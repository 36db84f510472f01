r"""This file moves particles in two coordinates in turn.

Where latents are located by others (θ ~ N(μ, τ)), τ near 0 is a funnel's neck in θ and
none in (θ - μ) / τ; where data fix θ it is the other way round. Before all coordinates
move together, the latents that locate others (μ, τ) are sliced in the other
coordinates, so that what they locate moves with them: a place that either coordinates
reach is reached. The density is the same, so that reference and weight stay.

References:
    Yu, Meng (2011), To center or not to center: that is not the question, Journal of
    Computational and Graphical Statistics 20(3).
"""

from dataclasses import dataclass

import torch

from .coordinates import AnnealedTarget, Space
from .moves import Move, MoveAround, MoveOutcome
from .point import Evaluate, Point
from .schedule import Stage
from .slices import along

__all__ = ["InterwovenMoves"]


@dataclass(frozen=True, slots=True, eq=False)
class InterwovenMoves(MoveAround):
    """Some coordinates of another space by slices, then all of the own one together.

    Attributes:
        own: What maps latents to the coordinates that particles have.
        other: Other coordinates of the same densities.
        other_target: What maps latents to them.
        columns: Of the other coordinates, along which particles move there.
        rest: Moves all coordinates.
    """

    own: AnnealedTarget
    other: Space
    other_target: AnnealedTarget
    columns: tuple[int, ...]
    rest: Move

    def step(
        self, point: Point, evaluate: Evaluate, stage: Stage, generator: torch.Generator
    ) -> MoveOutcome:
        """Return the particles after one move of each kind."""
        point = self._sliced(point, evaluate, stage, generator)
        return self.rest.step(point, evaluate, stage, generator)

    @torch.no_grad()
    def _sliced(
        self, point: Point, evaluate: Evaluate, stage: Stage, generator: torch.Generator
    ) -> Point:
        """Return the particles moved in the other coordinates."""
        found, _ = self.other_target.unconstrain(point.latents)
        can_move = point.can_move & point.is_finite & found.isfinite().all(1)
        if not bool(can_move.any()):
            return point
        moved = self.other.at(found[can_move])
        is_there = moved.log_density(stage.temperature).isfinite() & moved.is_finite
        can_move[can_move.clone()] = is_there
        if not bool(can_move.any()):
            return point
        moved = moved.rows(is_there)
        for column in self.columns:
            moved = along(column, moved, self.other.at, stage.temperature, generator)
        back, _ = self.own.unconstrain(moved.latents)
        returned = evaluate(back)
        is_back = (
            returned.log_density(stage.temperature).isfinite() & returned.is_finite
        )
        can_move[can_move.clone()] = is_back
        return point.placed(can_move, returned.rows(is_back))
