r"""This file moves particles until they have forgotten where they were.

That is until in every coordinate, and in the log weight, the correlation over particles
between where the moves began and where they have led is low. Weights are what particles
are resampled by: half turns of a normal density forget its coordinates at once, but not
how far from its mode they are, and what keeps its weight has more and more descendants.
Where many moves do not get there, a caution says how high it stayed. Every place on the
way is a draw of the density as good as the last, so all are kept, or where they are
many so many that lie evenly.

References:
    Dau, Chopin (2022), Waste-free sequential Monte Carlo, JRSS B 84(1),
    https://arxiv.org/abs/2011.02328
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from ..cautions import Caution
from .moves import Move
from .point import Evaluate, Point
from .schedule import Stage

__all__ = ["Moved", "forget", "move_cautions"]

# Particles that are correlated more than this with where they were have hardly moved.
_STUCK = 0.6
_MOST_ROUNDS = 16
_NO_SPREAD = 1e-6
"""Nats: log weights that differ by less than this differ by rounding."""


@dataclass(frozen=True, slots=True, eq=False)
class Moved:
    """Particles after the moves of one temperature.

    Attributes:
        point: Where they have been: all of them after one move, then after another,
            and so on.
        num_rounds: How many times the particles are there.
        stage: The stage with the last step size and the number of moves made.
        acceptance: Share of moves accepted; nan if particles were not moved.
        num_divergent: Moves refused because a value was no finite number.
        correlation: Largest correlation, over coordinates and the log weight, with
            where they were; nan if particles were not moved.
    """

    point: Point
    num_rounds: int
    stage: Stage
    acceptance: float
    num_divergent: int
    correlation: float


def forget(
    point: Point,
    weights: Float[Tensor, " particle"],
    evaluate: Evaluate,
    move: Move,
    stage: Stage,
    *,
    until: float | None,
    generator: torch.Generator,
) -> Moved:
    """Return the particles after at most `stage.num_moves` moves.

    Args:
        point: Where the particles are.
        weights: Normalised, 0 for particles that cannot move.
        evaluate: Gives the densities at coordinates.
        move: How they move.
        stage: The density that is kept, and along what they move.
        until: The correlation that is low enough, while the step size is adapted; None
            makes every move of the stage at its step size.
        generator: Of the moves.
    """
    start = _remembered(point)
    limit = stage.num_moves if bool(point.can_move.any()) else 0
    stage = replace(stage, num_moves=0)
    acceptance, num_divergent, correlation = 0.0, 0, math.nan
    kept, stride = [] if limit else [point], 1
    while stage.num_moves < limit and not (until is not None and correlation <= until):
        outcome = move.step(point, evaluate, stage, generator)
        point = outcome.point
        acceptance += outcome.acceptance
        num_divergent += outcome.num_divergent
        correlation = _correlation(start, _remembered(point), weights)
        step_size = stage.step_size
        if until is not None:
            step_size = move.adapted(step_size, outcome.acceptance)
        stage = replace(stage, num_moves=stage.num_moves + 1, step_size=step_size)
        if stage.num_moves % stride == 0:
            kept.append(point)
        if len(kept) > _MOST_ROUNDS:
            kept, stride = kept[1::2], 2 * stride
    mean = acceptance / stage.num_moves if stage.num_moves else math.nan
    joined = Point.joined(kept)
    return Moved(joined, len(kept), stage, mean, num_divergent, correlation)


def _remembered(point: Point) -> Float[Tensor, "particle column"]:
    """Return what moves are to forget; where the weight is 0, nothing of it."""
    weights = point.log_weight.nan_to_num(neginf=0.0)
    return torch.cat([point.coordinates, weights.unsqueeze(1)], 1)


def _correlation(
    before: Float[Tensor, "particle column"],
    after: Float[Tensor, "particle column"],
    weights: Float[Tensor, " particle"],
) -> float:
    """Return the largest weighted correlation over columns.

    A coordinate in which none can move counts as 1, a log weight that is the same
    everywhere as 0: there is nothing to forget.
    """
    gap_before, gap_after = before - weights @ before, after - weights @ after
    spread = ((weights @ gap_before.square()) * (weights @ gap_after.square())).sqrt()
    found = (weights @ (gap_before * gap_after)) / spread
    still, least = torch.ones_like(found), torch.zeros_like(found)
    still[-1], least[-1] = 0.0, _NO_SPREAD**2
    return float(torch.where(spread > least, found, still).max())


class _Report(Protocol):
    """What happened at one temperature."""

    @property
    def stage(self) -> Stage:
        """Return how the particles went through it."""

    @property
    def correlation(self) -> float:
        """Return how much the particles still knew of where they were."""


def move_cautions(reports: Sequence[_Report]) -> tuple[Caution, ...]:
    """Return a caution if particles hardly moved at some temperatures, else none."""
    stuck = [each for each in reports if not each.correlation <= _STUCK]
    if not stuck:
        return ()
    worst = max(each.correlation for each in stuck)
    most = max(each.stage.num_moves for each in stuck)
    return (
        Caution(
            f"at {len(stuck)} of {len(reports)} temperatures the particles hardly"
            f" moved: after {most} moves they are correlated {worst:.2f} with where"
            " they were",
            "parts of the posterior that few particles have reached, a second mode say,"
            " may have a wrong share, and the standard errors do not know of it",
            "Draw more particles (--num-particles) and compare other seeds (--seed);"
            " `daphne-flows smc` has more moves (--most-moves) and longer ones"
            " (--leaps)",
        ),
    )
