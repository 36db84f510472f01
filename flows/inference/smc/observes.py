r"""This file carries particles through a program, observe by observe.

Sequential importance sampling and resampling: at every step of a sequence (`sequence`)
particles are extended and their weights multiplied by the step's increment. When the
ess falls below a share of the number of particles, ancestors are drawn and all weights
set to their mean, so that the mean of the final weights is the estimate of the
evidence. It is unbiased, also if the ess decides when to resample.

A run is `init`, and `step` until every step is taken: state in, state and report out.
What particles say, and how surely, is `result`.

References:
    Doucet, Johansen (2011), A tutorial on particle filtering and smoothing.
    Whiteley, Lee, Heine (2016), On the role of interaction in sequential Monte Carlo
    algorithms, Bernoulli 22(1), https://arxiv.org/abs/1309.2918
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ...errors import ArgumentError
from .ancestry import Lineages
from .result import SmcResult
from .sequence import Sequence

__all__ = ["SmcReport", "SmcState", "init", "sequential_smc", "step"]


@dataclass(frozen=True, slots=True, eq=False)
class SmcState:
    """Particles between two steps.

    Attributes:
        num_steps: How many steps they have taken.
        rows: What each particle carries on.
        lineages: What they weigh, and from whom they descend.
    """

    num_steps: int
    rows: Float[Tensor, "particle state"]
    lineages: Lineages


@dataclass(frozen=True, slots=True, eq=False)
class SmcReport:
    """What happened at one step.

    Attributes:
        progress: Share of the way that is done, from 0 to 1.
        log_evidence: Of what has entered so far, in nats.
        ess: Effective sample size of the weights, before resampling.
        has_resampled: Whether ancestors were drawn after this step.
        result: The result, with the last report only.
    """

    progress: float
    log_evidence: float
    ess: float
    has_resampled: bool
    result: SmcResult | None


def sequential_smc(
    sequence: Sequence,
    num_particles: int,
    *,
    seed: int,
    ess_threshold: float = 0.5,
    scheme: str = "systematic",
    device: torch.device | str = "cpu",
) -> Iterator[SmcReport]:
    """Yield one report per step; the last one carries the result.

    Args:
        sequence: The model, step by step.
        num_particles: Number of particles.
        seed: Decides every draw.
        ess_threshold: Resample after a step if ess / N is below it; 0 never does, which
            is plain importance sampling.
        scheme: A name in `resampling.SCHEMES`.
        device: Where the particles live while the run lasts.

    Raises:
        ArgumentError: If a number is out of range.
        InferenceError: If a weight is nan or +inf.
    """
    if num_particles < 1 or not 0.0 <= ess_threshold <= 1.0:
        raise ArgumentError.at(
            "sequential Monte Carlo",
            "a number is out of range",
            "a positive number of particles and a threshold from 0 to 1",
            f"{num_particles} and {ess_threshold}",
        )
    generator = torch.Generator(device).manual_seed(seed)
    return _run(sequence, init(num_particles, device), ess_threshold, scheme, generator)


def _run(
    sequence: Sequence,
    state: SmcState,
    ess_threshold: float,
    scheme: str,
    generator: torch.Generator,
) -> Iterator[SmcReport]:
    while state.num_steps < sequence.num_steps:
        state, report = step(
            state,
            sequence,
            ess_threshold=ess_threshold,
            scheme=scheme,
            generator=generator,
        )
        yield report


def init(num_particles: int, device: torch.device | str = "cpu") -> SmcState:
    """Return particles of weight 1 that carry nothing yet."""
    rows = torch.empty((num_particles, 0), dtype=torch.float64, device=device)
    return SmcState(0, rows, Lineages.start(rows.new_zeros(num_particles)))


@torch.no_grad()
def step(
    state: SmcState,
    sequence: Sequence,
    *,
    ess_threshold: float,
    scheme: str,
    generator: torch.Generator,
) -> tuple[SmcState, SmcReport]:
    """Return the particles after one more step, and what happened.

    Args:
        state: The particles.
        sequence: The model, step by step.
        ess_threshold: Resample if ess / N is below it.
        scheme: A name in `resampling.SCHEMES`.
        generator: Of the draws.

    Raises:
        InferenceError: If a weight is nan or +inf.
    """
    num_particles = state.rows.shape[0]
    taken = (
        sequence.extend(state.rows, state.num_steps, generator=generator)
        if state.num_steps
        else sequence.start(num_particles, generator=generator)
    )
    rows, lineages = taken.state, state.lineages.grow(taken.log_weight_increment)
    totals = lineages.totals
    num_steps = state.num_steps + 1
    is_last = num_steps == sequence.num_steps
    # The last weights are kept: resampling them would only add noise.
    is_low = not is_last and totals.ess < ess_threshold * num_particles
    has_resampled = is_low and totals.ess > 0.0
    if has_resampled:
        lineages, ancestors = lineages.resample(scheme, generator)
        rows = rows[ancestors]
    result = (
        SmcResult.from_run(sequence.latents(rows), lineages, sequence.model.layout)
        if is_last
        else None
    )
    return (
        SmcState(num_steps, rows, lineages),
        SmcReport(
            num_steps / sequence.num_steps,
            totals.log_evidence,
            totals.ess,
            has_resampled,
            result,
        ),
    )
