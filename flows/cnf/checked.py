"""This file solves rows by fixed steps and checks every row, for weights.

A row is solved with N = 8, 16, ... 512 steps of the fused kernel until two solves
agree. The method has order 4, so the error of the second is some sixteen times smaller
than their difference: where the differences are seen to fall by more than eight from
one doubling to the next, a larger one will do. Rows that never agree, or lie so far out
that single precision is too coarse, are solved by the adaptive engine, within bounds: a
stiff flow would take minutes, and what it leaves is nan. A row's result does not depend
on its batch mates, but for the adaptive engine's shared steps.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from .engine import AdaptiveEngine, Engine, Rows, check_double
from .fused.engine import FusedEngine
from .fused.readiness import is_usable
from .solve import Solution
from .vector_field import VectorField

__all__ = ["CheckedEngine"]

_NUM_STEPS = (8, 16, 32, 64, 128, 256, 512)
_MOST_WORK = 5e9
"""Multiplications of the adaptive engine in one solve, ten seconds or so."""
_MOST_DIFFERENCE = 1e-4
_MOST_FALLING_DIFFERENCE = 3e-4
_FALL = 8.0
_FARTHEST = 32.0


@dataclass(frozen=True, slots=True)
class CheckedEngine(Engine):
    """Fixed steps checked row by row, float64 in and out, without gradients.

    Errors of ends and of a row's log-determinant are some 1e-5 and rarely above 1e-4
    where steps suffice, and the adaptive engine's elsewhere.

    Args:
        adaptive: solves the rows that fixed steps do not.
        num_threads: threads at most; results do not depend on it.
    """

    adaptive: AdaptiveEngine
    num_threads: int = 1
    is_exact: ClassVar[bool] = True

    @torch.no_grad()
    def solve_rows(self, field: VectorField, rows: Rows) -> Solution:
        """Ends and per-node log-determinants, without gradients.

        Raises:
            ArgumentError: if the field or the rows are not float64.
        """
        check_double(field, rows.start)
        if not is_usable():
            return self.adaptive.solve_rows(field, rows)
        parts = [self._solve_one(field, one) for one in rows.by_direction()]
        return Solution(
            torch.stack([part.state[0] for part in parts]),
            torch.stack([part.log_det[0] for part in parts]),
            max(part.num_evaluations for part in parts),
        )

    def _solve_one(self, field: VectorField, rows: Rows) -> Solution:
        """The ends of rows of one direction."""
        start, observed, sign = rows.start[0], rows.observed[0], rows.sign
        state = torch.full_like(start, torch.nan)
        log_det = start.new_full((len(start), len(field.structure.blocks)), torch.nan)
        waiting = (start.abs().amax(-1) < _FARTHEST).nonzero().squeeze(-1)
        before: Solution | None = None
        differences = start.new_full((waiting.numel(),), torch.nan)
        evaluations = 0
        for num_steps in _NUM_STEPS:
            if waiting.numel() == 0:
                break
            found = FusedEngine(num_steps, self.num_threads).solve(
                field,
                start[waiting].float()[None],
                observed[waiting].float()[None],
                sign.float(),
                with_log_det=rows.with_log_det,
            )
            evaluations += found.num_evaluations
            if before is not None:
                last, differences = differences, _difference(before, found)
                falls = differences * _FALL < last
                good = differences < _MOST_DIFFERENCE
                good |= falls & (differences < _MOST_FALLING_DIFFERENCE)
                good &= found.state[0].abs().amax(-1) < _FARTHEST
                done = waiting[good]
                state[done] = found.state[0, good].to(state)
                log_det[done] = found.log_det[0, good].to(log_det)
                waiting, differences = waiting[~good], differences[~good]
                found = Solution(
                    found.state[:, ~good], found.log_det[:, ~good], evaluations
                )
            before = found
        rest = state.isnan().any(-1).nonzero().squeeze(-1)
        if rest.numel():
            found = replace(self.adaptive, most_work=_MOST_WORK).solve(
                field, start[rest][None], observed[rest][None], sign
            )
            evaluations += found.num_evaluations
            state[rest], log_det[rest] = found.state[0], found.log_det[0]
        return Solution(state[None], log_det[None], evaluations)

    def with_steps(self, factor: int) -> "CheckedEngine":
        """The engine itself, which chooses its steps."""
        del factor
        return self


def _difference(coarse: Solution, fine: Solution) -> Float[Tensor, " batch"]:
    """Largest difference of a row's coordinates and of its log-determinant."""
    state = (fine.state[0].double() - coarse.state[0]).abs().amax(-1)
    log_det = (fine.log_det[0].double() - coarse.log_det[0]).sum(-1).abs()
    return torch.maximum(state, log_det)
