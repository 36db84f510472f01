"""This file is the two phases of training: what each minimises, and at which rates.

1. Warm start: the flow's matching loss, such as conditional flow matching, where a step
   needs one evaluation of the field instead of a solve, or the forward KL of a flow
   that has nothing cheaper. A flow without one skips it.
2. Training: the objective. Its path gradient (`losses.symmetric_path`) is followed in
   the periods after those that came within some nats, otherwise the total one: far from
   the model the path gradient leads away. A flow that is drawn from quickly follows the
   gradient by contrasts (`losses.contrast`) instead. The free energy is annealed.

The share of a phase that is over, and with it batch sizes and learning rates, is a
function of the fraction of the budget that is used. Rates fall by half a cosine.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol, cast

import torch
from torch import Tensor

from ..flow.protocol import Drawn, Flow, Matched
from .batches import Batch, TargetModel
from .config import TrainingConfig
from .losses import (
    contrast,
    flow_matching,
    forward_kl,
    free_energy,
    reverse_kl,
    symmetric,
    symmetric_path,
)
from .state import Progress

__all__ = [
    "PHASES",
    "LossInput",
    "Phase",
    "Training",
    "WarmStart",
    "annealing",
    "fraction",
    "learning_rate",
    "objective_of",
]

_OBJECTIVES = {"symmetric": symmetric, "forward": forward_kl, "reverse": reverse_kl}
_PATH_OBJECTIVES = {"symmetric": symmetric_path}
_FIRST_SHARE = 0.01


def fraction(config: TrainingConfig, progress: Progress, seconds: float) -> float:
    """Fraction of the budget used, by seconds or iterations, the larger.

    A budget of seconds includes the certification at its end.
    """
    parts = [0.0]
    if config.budget_seconds:
        most = config.budget_seconds - progress.reserve
        parts.append(seconds / most if most > 0.0 else 1.0)
    if config.max_iterations:
        parts.append(progress.iteration / config.max_iterations)
    return max(parts)


def objective_of(config: TrainingConfig, progress: Progress) -> str:
    """The objective that is followed: the forward KL in place of J if that is far."""
    return "forward" if progress.is_far else config.objective


@dataclass(frozen=True, slots=True, eq=False)
class LossInput:
    """What the loss of one step is made of.

    Args:
        model: the target.
        flow: solved as in training.
        batch: all rows, whatever the number of processes.
        rows: those of this process.
        config: all numbers.
        progress: where the run is.
        generator: source of draws of the whole batch.
    """

    model: TargetModel
    flow: Flow
    batch: Batch
    rows: slice
    config: TrainingConfig
    progress: Progress
    generator: torch.Generator

    @property
    def own(self) -> Batch:
        """The rows of this process."""
        return self.batch.rows(self.rows.start, self.rows.stop)


class Phase(Protocol):
    """What is minimised until the next phase."""

    @property
    def is_scored(self) -> bool:
        """Whether the loss needs the model's density of the joint draws."""

    def share(
        self, config: TrainingConfig, progress: Progress, seconds: float
    ) -> float:
        """Share of the phase that is over; 1 or more at its end."""

    def batch_size(self, config: TrainingConfig, share: float) -> int:
        """Rows of a batch."""

    def rates(self, config: TrainingConfig) -> tuple[float, float]:
        """Learning rates at the start and at the end."""

    def terms(self, step: LossInput) -> Tensor:
        """Terms of the loss of this process's rows of a batch."""


@dataclass(frozen=True, slots=True)
class WarmStart:
    """The flow's matching loss, on the same parameters."""

    is_scored: ClassVar[bool] = False

    def share(
        self, config: TrainingConfig, progress: Progress, seconds: float
    ) -> float:
        """Share that is over, by seconds if there is a budget of time."""
        used = [(fraction(config, progress, seconds), config.warm_start_fraction)]
        if config.budget_seconds:  # else the clock must not enter: runs are repeatable
            used.append((seconds, config.warm_start_seconds))
        return max(1.0 if part >= most else part / most for part, most in used)

    def batch_size(self, config: TrainingConfig, share: float) -> int:  # noqa: ARG002
        """Rows of a batch."""
        return config.warm_start_batch_size

    def rates(self, config: TrainingConfig) -> tuple[float, float]:
        """Learning rates at the start and at the end."""
        return config.warm_start_learning_rate, config.final_learning_rate

    def terms(self, step: LossInput) -> Tensor:
        """Terms of the matching loss, each at a time of its own."""
        free = step.batch.free
        times = torch.rand(len(free), generator=step.generator).to(free)
        return flow_matching(cast("Matched", step.flow), step.own, times[step.rows])


@dataclass(frozen=True, slots=True)
class Training:
    """The objective."""

    is_scored: ClassVar[bool] = True

    def share(
        self, config: TrainingConfig, progress: Progress, seconds: float
    ) -> float:
        """Share of what the warm start left of the budget."""
        start = progress.phase_start
        return (fraction(config, progress, seconds) - start) / max(1.0 - start, 1e-9)

    def batch_size(self, config: TrainingConfig, share: float) -> int:
        """Rows of a batch, more at the end."""
        is_final = share >= 1.0 - config.final_batch_fraction
        return config.final_batch_size if is_final else config.batch_size

    def rates(self, config: TrainingConfig) -> tuple[float, float]:
        """Learning rates at the start and at the end."""
        return config.learning_rate, config.final_learning_rate

    def terms(self, step: LossInput) -> Tensor:
        """Terms of the objective whose gradient is followed."""
        config, flow = step.config, step.flow
        if config.objective == "free-energy":
            share = annealing(config, step.progress)
            return free_energy(step.model, flow, step.own, share)
        name = objective_of(config, step.progress)
        objective: Callable[..., Tensor] = _OBJECTIVES[name]
        is_symmetric = name == "symmetric" and config.gradient == "path"
        if is_symmetric and isinstance(flow, Drawn):
            base = flow.sample_base(
                config.contrast_draws * len(step.batch.base), generator=step.generator
            ).view(config.contrast_draws, *step.batch.base.shape)
            return contrast(step.model, flow, step.own, base[:, step.rows])
        if config.gradient == "path" and step.progress.is_near and flow.is_exact:
            objective = _PATH_OBJECTIVES.get(name, objective)
        return objective(step.model, flow, step.own)


PHASES: dict[str, Phase] = {"warm start": WarmStart(), "training": Training()}
"""In their order, by the name that reports use."""


def annealing(config: TrainingConfig, progress: Progress) -> float:
    """The share b of the log target in the free energy, from 0.01 to 1."""
    used = fraction(config, progress, progress.seconds) / config.annealing_fraction
    gone = max(progress.iteration / config.annealing_iterations, used)
    return min(1.0, _FIRST_SHARE + gone)


def learning_rate(
    phase: Phase, config: TrainingConfig, progress: Progress, seconds: float
) -> float:
    """Adam's rate: half a cosine over the phase."""
    share = min(1.0, phase.share(config, progress, seconds))
    high, low = phase.rates(config)
    cosine = low + (high - low) * 0.5 * (1.0 + math.cos(math.pi * share))
    return cosine * progress.rate_factor
