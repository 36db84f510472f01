"""This file is what a training run knows between two reports: plain, immutable values.

`Report` says what happened since the last one, `Progress` where the run is, and
`TrainingState`, tensors and plain values only, is all that a continuation needs.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from ..errors import ArgumentError
from .estimates import Estimate, SymmetricEstimate

__all__ = ["DONE", "Progress", "Report", "TrainingState"]

DONE = "done"
"""The phase after the last one."""


@dataclass(frozen=True, slots=True)
class Report:
    """What happened since the last report.

    Args:
        iteration: iterations so far.
        phase: warm start, training or done.
        status: a few words: ok, certified, rolled back, more solver steps, or why
            training ended.
        loss: mean of the phase's loss since the last report; nan without iterations.
        certified: certified J of the averaged weights, where it was measured now.
        certified_forward: certified forward KL instead, of a model without density.
        certified_free_energy: certified free energy instead, of one data set.
        best: certified J of the best weights so far, or what is certified instead, in
            nats; nan as long as none was finite.
        ess: median ESS / N of the averaged weights, where it was measured now and the
            flow's densities are exact.
        solver_bias: nats between N and 2N solver steps, where it was measured now.
        num_steps: solver steps N of training.
        learning_rate: Adam's rate.
        fraction: fraction of the budget used.
        seconds: seconds of work so far.
    """

    iteration: int
    phase: str
    status: str
    loss: float
    certified: SymmetricEstimate | None
    certified_forward: Estimate | None
    certified_free_energy: Estimate | None
    best: float
    ess: float | None
    solver_bias: float | None
    num_steps: int
    learning_rate: float
    fraction: float
    seconds: float

    @property
    def note(self) -> str:
        """Iterations so far, with the loss where training went on since the last."""
        note = f"{self.iteration} iterations"
        return note if math.isnan(self.loss) else f"{note}, loss {self.loss:.3g}"


@dataclass(frozen=True, slots=True)
class TrainingState:
    """All that a continuation needs.

    Args:
        tensors: parameters, moments, averages, the generator's state, normalisation.
        values: plain JSON values, those of `Progress`.
    """

    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is.

    Args:
        seed: of every draw.
        num_steps: solver steps of training.
        phase: warm start, training or done.
        phase_start: fraction of the budget at which the phase began.
        iteration: iterations so far.
        seconds: seconds of work so far.
        rate_factor: on the learning rates, smaller after each rollback.
        rollbacks: in a row.
        is_near: whether the loss is small enough for the path gradient.
        is_far: whether so many of the flow's draws lie far out that the forward KL is
            followed in place of J.
        certifications: number of the certified estimate that is due next.
        best: certified J of the best weights so far, or what is certified instead.
        best_score: their score, the lowest of finite certified ones.
        best_error: standard error of the estimate of the best weights.
        best_ess: their median ESS / N, if that is known.
        best_lost: share of the draws that this estimate is without, as the model gives
            them no density.
        best_seconds: seconds of work when it was found.
        last: score of the last certified estimate, if that was finite.
        certify_draws: draws of each certified estimate, 0 before the first.
        reserve: seconds of work that the end of the run will take.
        status: why training ended, or nothing.
    """

    seed: int
    num_steps: int
    phase: str
    phase_start: float = 0.0
    iteration: int = 0
    seconds: float = 0.0
    rate_factor: float = 1.0
    rollbacks: int = 0
    is_near: bool = False
    is_far: bool = False
    certifications: int = 0
    best: float | None = None
    best_score: float | None = None
    best_error: float | None = None
    best_ess: float | None = None
    best_lost: float = 0.0
    best_seconds: float = 0.0
    last: float | None = None
    certify_draws: int = 0
    reserve: float = 0.0
    status: str = ""

    def as_values(self) -> dict[str, Any]:
        """Plain values, as `from_values` reads them."""
        return asdict(self)

    @classmethod
    def from_values(cls, values: Mapping[str, Any], seed: int) -> "Progress":
        """The progress of a stored run; what an older one lacks is at its default.

        Args:
            values: of a `TrainingState`.
            seed: that the run must have.

        Raises:
            ArgumentError: if the seed is another, or the values are of another version.
        """
        where = "training state"
        if values.get("seed") != seed:
            raise ArgumentError.at(where, "seed", f"{seed}", f"{values.get('seed')}")
        usual = Progress(seed=seed, num_steps=0, phase=DONE).as_values()
        values = {**usual, **values}
        apart = set(values) - set(usual)
        if apart:
            raise ArgumentError.at(
                where,
                "of another version of this program, which cannot be continued",
                "a new run",
                f"other values: {', '.join(sorted(apart))}",
            )
        return cls(**values)
