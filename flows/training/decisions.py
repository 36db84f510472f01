"""This file decides what a training run does next, from where it is and its cost."""

import math
from dataclasses import replace

from .certification import Measured, SolverBias
from .config import TrainingConfig
from .phases import PHASES, fraction
from .state import Progress

__all__ = [
    "due_phase",
    "has_risen",
    "is_certification_due",
    "is_look_due",
    "looked_at",
    "rolled_back",
    "turned_back",
    "why_ended",
    "with_steps",
]

_BIAS_SHARE = 0.02
"""Share of the objective that the solver's bias may be."""
_STEP_RAISE = 1.25
_MOST_FAR = 0.05
"""Share of the flow's draws far out that ends what the reverse KL can teach."""
_LOOK = 0.5
"""Share of the budget from which on this is looked at after flow matching, which leaves
draws far out that J mends."""
_MOST_STUCK = 5
"""Rollbacks in a row, after which J cannot be followed."""
_MOST_RISEN = 1.0
"""Nats above twice the last score, where training has gone astray."""


def due_phase(config: TrainingConfig, progress: Progress, seconds: float) -> Progress:
    """The progress in the phase that is due, itself if that goes on."""
    share = PHASES[progress.phase].share(config, progress, seconds)
    if progress.phase == "training" or share < 1.0:
        return progress
    start = fraction(config, progress, seconds)
    return replace(progress, phase="training", phase_start=start)


def rolled_back(progress: Progress) -> Progress:
    """The progress of a state that is taken up again at half the learning rate."""
    return replace(
        progress,
        rate_factor=0.5 * progress.rate_factor,
        rollbacks=progress.rollbacks + 1,
    )


def turned_back(config: TrainingConfig, progress: Progress) -> tuple[Progress, str]:
    """The progress after rollbacks, with a note where the forward KL is followed now.

    J is infinite while the flow draws where the model has no density, beyond the bounds
    of a latent that data tell; the forward KL is not.
    """
    is_stuck = progress.rollbacks >= _MOST_STUCK and progress.phase == "training"
    if config.objective != "symmetric" or progress.is_far or not is_stuck:
        return progress, ""
    followed = replace(
        progress, is_far=True, best_score=None, rate_factor=1.0, rollbacks=0
    )
    return followed, "; the forward KL is followed from now on"


def has_risen(progress: Progress, score: float) -> bool:
    """Whether the score is far above that of the last certified estimate.

    Not at the end of the warm start, which brings down one direction alone.
    """
    if progress.phase != "training" or progress.last is None:
        return False
    return not score <= 2.0 * max(progress.last, 0.0) + _MOST_RISEN


def is_look_due(
    config: TrainingConfig,
    before: Progress,
    progress: Progress,
    seconds: float,
    *,
    is_solved: bool,
) -> bool:
    """Whether to look if J can be followed, at a certification.

    Args:
        config: all numbers.
        before: where the run was.
        progress: where it is.
        seconds: of work so far.
        is_solved: whether the warm start is flow matching; else it is the forward KL.
    """
    if not is_solved:
        return progress.phase != before.phase
    is_late = _LOOK <= fraction(config, progress, seconds) < 1.0
    return is_late and progress.phase == "training" and not progress.is_far


def looked_at(
    config: TrainingConfig, progress: Progress, found: Measured
) -> tuple[Progress, str]:
    """Whether J can be followed.

    Where many draws of the flow lie in regions that the model hardly knows, as of a
    scale near 0, the mean of J hangs on them alone, and so does its gradient.

    Returns the progress, and a note if J cannot.
    """
    share = found.share_far_out
    if config.objective != "symmetric" or share <= _MOST_FAR:
        return progress, ""
    note = f"; {share:.0%} of the flow's draws lie far out: the forward KL is followed"
    return replace(progress, is_far=True, best_score=None), note


def is_certification_due(
    config: TrainingConfig, progress: Progress, seconds: float
) -> bool:
    """Whether the flow is to be certified now; in the phase of training."""
    if fraction(config, progress, seconds) >= 1.0:
        return True
    share = PHASES["training"].share(config, progress, seconds)
    return share * config.num_certifications >= progress.certifications


def with_steps(
    config: TrainingConfig,
    progress: Progress,
    bias: SolverBias,
    nats: float,
    *,
    has_j: bool,
) -> tuple[Progress, str]:
    """More solver steps if their bias is too large beside the objective.

    Returns the progress with them, and a note if there are more.
    """
    allowed = config.bias_tolerance
    if has_j:  # else the objective's value has no meaning
        allowed = max(allowed, _BIAS_SHARE * abs(nats))
    is_seen = bias.bulk > allowed  # not where no row tells
    if not is_seen or progress.num_steps >= config.max_num_steps:
        return progress, ""
    raised = math.ceil(_STEP_RAISE * progress.num_steps)
    num_steps = min(raised, config.max_num_steps)
    note = f"; more solver steps: {num_steps}"
    return replace(progress, num_steps=num_steps), note


def why_ended(
    config: TrainingConfig, progress: Progress, seconds: float, upper: float
) -> str:
    """Why training ends now, or nothing.

    Args:
        config: all numbers.
        progress: where the run is, after a certification.
        seconds: of work so far.
        upper: bound of the certified J, infinite without a density.
    """
    if upper < config.converged_nats:
        return f"ended: certified J below {config.converged_nats:g} nats"
    if fraction(config, progress, seconds) >= 1.0:
        return "ended: budget used"
    patience = config.patience_seconds
    if patience and seconds - progress.best_seconds >= patience:
        return f"ended: no better certified J for {patience:g} s"
    return ""
