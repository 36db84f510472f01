r"""This file moves particles along one coordinate after the other by slice sampling.

Where a density is a hundred times narrower in one place than in another (a cluster with
points beside one without, a scale near 0), no step size is right for all particles.
A slice needs none. Along each coordinate a height below the density of the place is
drawn, then places uniform in a bracket that holds all particles; a place below the
height shrinks the bracket towards where the particle is, one above it is taken. So a
particle finds its own width by bisection, and any other part of the density that the
line meets. Then all coordinates move together by another kernel.

References:
    Neal (2003), Slice sampling, Annals of Statistics 31(3), section 4.
"""

from dataclasses import dataclass

import torch

from ..shapes import Places
from .moves import Move, MoveAround, MoveOutcome, shares
from .point import Evaluate, Point
from .schedule import Stage

__all__ = ["MOST_SLICED", "SliceMoves", "along"]

MOST_SLICED = 32
"""Coordinates; a slice along each costs some ten densities."""

_MARGIN = 0.25
_MOST_SHRINKS = 50
"""A bracket is then 2^-25 of its width or less: the particle stays."""


@dataclass(frozen=True, slots=True)
class SliceMoves(MoveAround):
    """Each coordinate by a slice, then all coordinates together.

    Attributes:
        rest: Moves all coordinates.
    """

    rest: Move

    def step(
        self, point: Point, evaluate: Evaluate, stage: Stage, generator: torch.Generator
    ) -> MoveOutcome:
        """Return the particles after one move of each kind."""
        can_move = point.can_move & point.is_finite
        if bool(can_move.any()):
            moved = point.rows(can_move)
            place = moved.coordinates
            for column in range(place.shape[1]):
                moved = along(column, moved, evaluate, stage.temperature, generator)
            point = point.placed(can_move, moved)
        return self.rest.step(point, evaluate, stage, generator)


@torch.no_grad()
def along(
    column: int,
    point: Point,
    evaluate: Evaluate,
    temperature: float,
    generator: torch.Generator,
) -> Point:
    """Return the particles after a slice along one coordinate."""
    here = point.coordinates[:, column]
    low, high = here.min(), here.max()
    margin = _MARGIN * (high - low)
    below = (low - margin).expand_as(here).clone()
    above = (high + margin).expand_as(here).clone()
    height = point.log_density(temperature) + shares(here, generator).log()
    todo = torch.arange(len(here), device=here.device)
    for _ in range(_MOST_SHRINKS):
        width = above[todo] - below[todo]
        there = below[todo] + width * shares(width, generator)
        proposed = evaluate(_with_column(point.coordinates[todo], column, there))
        density = proposed.log_density(temperature)
        is_above = density.isfinite() & (density >= height[todo])
        is_taken = is_above & proposed.is_finite
        point = point.placed(todo[is_taken], proposed.rows(is_taken))
        is_left = there < here[todo]
        below[todo] = torch.where(is_left, there, below[todo])
        above[todo] = torch.where(is_left, above[todo], there)
        todo = todo[~is_taken]
        if not len(todo):
            break
    return point


def _with_column(rows: Places, column: int, values: torch.Tensor) -> Places:
    """Return rows with other values in a column."""
    rows = rows.clone()
    rows[:, column] = values
    return rows
