r"""This file moves particles to their mirror images, where a target is symmetric.

A scale written as (abs (sample (normal 0 s))) has two modes, x and -x, which no small
step joins. Where log p(f, x) at draws of the prior is the same after the sign of a
free coordinate is changed, each move begins with a change of such signs, each with
probability 1/2, accepted by Metropolis: on the way to the target the reference need not
have that symmetry.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from ..mixture import FreeTarget
from .moves import Move, MoveAround, MoveOutcome, accept, shares
from .point import Evaluate, Point
from .schedule import Stage

__all__ = ["MirrorMoves", "mirrors_of"]

_DRAWS = 32
_SAME = 1e-9


@dataclass(frozen=True, slots=True)
class MirrorMoves(MoveAround):
    """Signs of some coordinates, then all coordinates together.

    Attributes:
        columns: Of the coordinates whose sign does not matter to the target.
        rest: Moves all coordinates.
    """

    columns: tuple[int, ...]
    rest: Move

    def step(
        self, point: Point, evaluate: Evaluate, stage: Stage, generator: torch.Generator
    ) -> MoveOutcome:
        """Return the particles after one move of each kind."""
        columns = list(self.columns)
        mirrored = point.coordinates.clone()
        is_turned = shares(mirrored[:, columns], generator) < 0.5
        mirrored[:, columns] *= torch.where(is_turned, -1.0, 1.0)
        with torch.no_grad():
            proposed = evaluate(mirrored)
        turned = accept(point, proposed, 0.0, stage, generator)
        outcome = self.rest.step(turned.point, evaluate, stage, generator)
        num = outcome.num_divergent + turned.num_divergent
        return replace(outcome, num_divergent=num)


@torch.no_grad()
def mirrors_of(
    target: FreeTarget,
    observed: Float[Tensor, " observed"],
    *,
    generator: torch.Generator,
) -> tuple[int, ...]:
    """Return the free coordinates whose sign does not matter to a target.

    Args:
        target: The model.
        observed: The data.
        generator: Of the draws of the prior that are looked at.
    """
    rows = target.sample_latents(_DRAWS, generator=generator, observed=observed)
    free, _ = target.unconstrain(rows[rows.isfinite().all(1)])
    here = target.log_joint_free(free, observed)
    seen = here.isfinite() & free.isfinite().all(1)
    free, here = free[seen], here[seen]
    if not len(free):
        return ()
    columns = torch.arange(free.shape[1])
    # One draw shows of most coordinates that their sign matters.
    for part in (slice(1), slice(1, None)):
        if not len(columns) or not len(here[part]):
            break
        signs = torch.ones(len(columns), free.shape[1], dtype=free.dtype)
        signs[torch.arange(len(columns)), columns] = -1.0
        mirrored = (free[part].unsqueeze(0) * signs.unsqueeze(1)).flatten(0, 1)
        there = target.log_joint_free(mirrored, observed)
        gap = (there.reshape(len(columns), -1) - here[part]).abs()
        columns = columns[(gap <= _SAME * (1.0 + here[part].abs())).all(1)]
    return tuple(columns.tolist())
