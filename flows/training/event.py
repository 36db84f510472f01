"""This file is the end of a period of training: where the run is, what happened."""

import math
from dataclasses import dataclass

from .certification import Measured, SolverBias
from .state import Progress, Report

__all__ = ["Event"]


@dataclass(frozen=True, slots=True)
class Event:
    """The end of a period.

    Args:
        progress: where the run is.
        status: a few words.
        loss: mean of the phase's loss in the period.
        rate: Adam's last one.
        bias: of the training solver, if it was measured alone.
        found: what a certification found, if there was one.
    """

    progress: Progress
    status: str
    loss: float = math.nan
    rate: float = 0.0
    bias: SolverBias | None = None
    found: Measured | None = None

    def report(self, fraction: float, seconds: float) -> Report:
        """The report of the period, at a fraction of the budget and after seconds."""
        progress, found = self.progress, self.found
        bias = found.bias if found else self.bias
        other = found.value if found and found.certified is None else None
        is_of_one = found is not None and found.is_of_one_data_set
        return Report(
            iteration=progress.iteration,
            phase=progress.phase,
            status=self.status,
            loss=self.loss,
            certified=found.certified if found else None,
            certified_forward=None if is_of_one else other,
            certified_free_energy=other if is_of_one else None,
            best=math.nan if progress.best is None else progress.best,
            ess=found.ess if found else None,
            solver_bias=None if bias is None else bias.difference,
            num_steps=progress.num_steps,
            learning_rate=self.rate,
            fraction=min(1.0, fraction),
            seconds=seconds,
        )
