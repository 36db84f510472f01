r"""This file moves particles from a proposal to the target, temperature by temperature.

Between the proposal q and the target p lie the densities, on coordinates c of latents
and nuisances,

    π_β(c) ∝ reference(c) w(c)^β,      β from 0 (the proposal) to 1 (the target),

with w the importance weight and coordinates of a space (`coordinates`). From each β to
the next (`schedule`) the particles are weighed by w^(β' - β), resampled where the ess
is low, and moved by a Markov kernel that keeps π_β' until they have forgotten where
they were (`forgetting`). Where they were on the way counts as well: each of N lines
becomes as many particles as it was moved, and N are resampled of all, evenly where the
ess is not low. The mean of the final weights estimates the evidence.

A run is `init`, and `step` until the temperature is 1: state in, state and report out;
`linger` then adds more places, until means are known as well as they should be.
Temperatures, step sizes, factors and numbers of moves that were found on the particles
they act on bias the evidence by O(1/N). A run along the stages of an earlier run, with
another seed, is unbiased.

References:
    Neal (2001), Annealed importance sampling, Statistics and Computing 11.
    Del Moral, Doucet, Jasra (2006), Sequential Monte Carlo samplers, JRSS B 68(3).
    Kantas, Beskos, Jasra (2014), Sequential Monte Carlo methods for high-dimensional
    inverse problems, https://arxiv.org/abs/1307.6127
    Dau, Chopin (2022), Waste-free sequential Monte Carlo, JRSS B 84(1),
    https://arxiv.org/abs/2011.02328
    Buchholz, Chopin, Jacob (2021), Adaptive tuning of Hamiltonian Monte Carlo within
    sequential Monte Carlo, https://arxiv.org/abs/1808.07730
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from ...errors import ArgumentError
from ..weights import WeightTotals, check_log_weights
from .ancestry import Lineages
from .config import AnnealingConfig
from .coordinates import Space
from .forgetting import Moved, forget
from .point import Point
from .result import SmcResult
from .schedule import Stage, next_temperature, weighted_factor

__all__ = [
    "AnnealingReport",
    "AnnealingState",
    "annealed_smc",
    "init",
    "linger",
    "step",
]


@dataclass(frozen=True, slots=True, eq=False)
class AnnealingState:
    """Particles at a temperature.

    Attributes:
        num_stages: How many temperatures they have gone through.
        temperature: The last of them; 0 before the first.
        step_size: Of the next move, if no schedule says another.
        point: Where the particles are.
        lineages: What they weigh, and from whom they descend.
    """

    num_stages: int
    temperature: float
    step_size: float
    point: Point
    lineages: Lineages


@dataclass(frozen=True, slots=True, eq=False)
class AnnealingReport:
    """What happened at one temperature.

    Attributes:
        stage: How the particles went through it; those of all reports are a schedule.
        log_evidence: Of π at this temperature, relative to the proposal, in nats.
        ess: Effective sample size of the weights, before resampling.
        has_resampled: Whether ancestors were drawn for want of weight.
        acceptance: Share of moves accepted; nan if particles were not moved.
        num_divergent: Moves refused because a value was no finite number.
        correlation: Largest correlation, over coordinates, between where particles were
            before the moves and after; nan if particles were not moved.
        result: The result, with the last report only.
    """

    stage: Stage
    log_evidence: float
    ess: float
    has_resampled: bool
    acceptance: float
    num_divergent: int
    correlation: float
    result: SmcResult | None

    @property
    def temperature(self) -> float:
        """How much of the way is done, from 0 to 1."""
        return self.stage.temperature


def annealed_smc(
    space: Space,
    num_particles: int,
    *,
    seed: int,
    config: AnnealingConfig | None = None,
) -> Iterator[AnnealingReport]:
    """Yield one report per temperature; the last one carries the result.

    Args:
        space: Coordinates, target and proposal.
        num_particles: Number of lines of particles, 2 or more.
        seed: Decides every draw.
        config: How; a random walk and a schedule of its own if None.

    Raises:
        ArgumentError: If there are too few particles.
        InferenceError: If a weight is nan or +inf.
    """
    if num_particles < 2:
        raise ArgumentError.at(
            "annealing: num_particles", "too few", "2 or more", str(num_particles)
        )
    generator = torch.Generator(space.observed.device).manual_seed(seed)
    return _run(space, num_particles, config or AnnealingConfig(), generator)


def _run(
    space: Space,
    num_particles: int,
    config: AnnealingConfig,
    generator: torch.Generator,
) -> Iterator[AnnealingReport]:
    state = init(space, num_particles, config, generator)
    while state.temperature < 1.0:
        state, report = step(state, space, config, generator)
        yield report


@torch.no_grad()
def init(
    space: Space,
    num_particles: int,
    config: AnnealingConfig,
    generator: torch.Generator,
) -> AnnealingState:
    """Return draws of the proposal, at temperature 0.

    Raises:
        InferenceError: If a weight is nan or +inf.
    """
    point = space.at(space.draw(num_particles, generator=generator))
    check_log_weights(point.log_weight, "annealing")
    return AnnealingState(
        num_stages=0,
        temperature=0.0,
        step_size=config.move.first_step_size(point.coordinates.shape[1]),
        point=point,
        lineages=Lineages.start(torch.zeros_like(point.log_weight)),
    )


def step(
    state: AnnealingState,
    space: Space,
    config: AnnealingConfig,
    generator: torch.Generator,
) -> tuple[AnnealingState, AnnealingReport]:
    """Return the particles at the next temperature, and what happened on the way.

    Where every weight is 0 the way ends: the evidence is 0.
    """
    planned = config.schedule[state.num_stages] if config.schedule else None
    point = state.point
    temperature = (
        planned.temperature
        if planned
        else next_temperature(
            state.temperature,
            point.log_weight,
            state.lineages.log_weights,
            config.cess_fraction,
        )
    )
    growth = (temperature - state.temperature) * point.log_weight
    lineages = state.lineages.grow(growth)
    totals = lineages.totals
    if totals.ess == 0.0:
        return _nothing_left(state, space, lineages)
    stage = planned or Stage(
        temperature,
        weighted_factor(point.coordinates, _movable(point, lineages)),
        state.step_size,
        config.most_moves,
    )
    # A particle of weight 0 has nowhere to move from.
    is_low = totals.ess < config.ess_threshold * totals.num_particles
    has_resampled = is_low or totals.num_zero > 0
    if has_resampled or totals.num_particles > lineages.num_lines:
        # From many places of each line to one, evenly: lines lose as little as can be.
        scheme = config.scheme if has_resampled else "systematic"
        lineages, ancestors = lineages.resample(scheme, generator)
        point = point.rows(ancestors)
    moved = forget(
        point,
        _movable(point, lineages),
        space.at,
        config.move,
        stage,
        until=None if planned else config.correlation,
        generator=generator,
    )
    lineages = lineages.repeated(moved.num_rounds)
    return (
        AnnealingState(
            state.num_stages + 1,
            temperature,
            moved.stage.step_size,
            moved.point,
            lineages,
        ),
        _report(moved, lineages, totals, space, has_resampled=has_resampled),
    )


def linger(
    state: AnnealingState,
    space: Space,
    config: AnnealingConfig,
    generator: torch.Generator,
    *,
    anew: bool = False,
) -> tuple[AnnealingState, AnnealingReport]:
    """Return the particles with as many more as it takes to forget the last ones.

    The temperature stays, and with it the evidence: means become better known.

    Args:
        state: The particles.
        space: Where they move.
        config: How.
        generator: Decides.
        anew: Whether those so far are left out: on the way from a proposal that hardly
            reaches a part of the target, too few of them are there.
    """
    num, lineages = state.lineages.num_lines, state.lineages
    last = slice(lineages.eves.shape[0] - num, None)
    point, own = state.point.rows(last), lineages.rows(last)
    moved = forget(
        point,
        _movable(point, own),
        space.at,
        config.move,
        Stage(
            state.temperature,
            weighted_factor(state.point.coordinates, _movable(state.point, lineages)),
            state.step_size,
            config.most_moves,
        ),
        until=config.correlation,
        generator=generator,
    )
    whole = moved.point if anew else Point.joined([state.point, moved.point])
    more = own.repeated(moved.num_rounds)
    lineages = more if anew else lineages.joined(more)
    return (
        replace(state, step_size=moved.stage.step_size, point=whole, lineages=lineages),
        _report(
            replace(moved, point=whole),
            lineages,
            lineages.totals,
            space,
            has_resampled=False,
        ),
    )


def _report(
    moved: Moved,
    lineages: Lineages,
    totals: WeightTotals,
    space: Space,
    *,
    has_resampled: bool,
) -> AnnealingReport:
    """Return what happened, given the weights before the particles were resampled."""
    layout = space.target.layout
    return AnnealingReport(
        stage=moved.stage,
        log_evidence=totals.log_evidence,
        ess=totals.ess,
        has_resampled=has_resampled,
        acceptance=moved.acceptance,
        num_divergent=moved.num_divergent,
        correlation=moved.correlation,
        result=(
            SmcResult.from_run(moved.point.latents, lineages, layout)
            if moved.stage.temperature == 1.0
            else None
        ),
    )


def _movable(point: Point, lineages: Lineages) -> Float[Tensor, " particle"]:
    """Return the normalised weights of the particles that can move; 0 if none can."""
    found = torch.where(point.can_move, lineages.log_weights, -math.inf).softmax(0)
    return found.nan_to_num(0.0)


def _nothing_left(
    state: AnnealingState, space: Space, lineages: Lineages
) -> tuple[AnnealingState, AnnealingReport]:
    """Return the end of a run whose weights are all 0: the evidence is 0."""
    width = state.point.coordinates.shape[1]
    factor = state.point.coordinates.new_zeros(width, width)
    stage = Stage(1.0, factor, state.step_size, 0)
    moved = Moved(state.point, 1, stage, math.nan, 0, math.nan)
    return (
        replace(
            state, num_stages=state.num_stages + 1, temperature=1.0, lineages=lineages
        ),
        _report(moved, lineages, lineages.totals, space, has_resampled=False),
    )
