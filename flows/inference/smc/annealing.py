r"""This file moves particles from a proposal to the target, temperature by temperature.

Between the proposal q and the target p lie the densities, on coordinates c of latents
and nuisances,

    π_β(c) ∝ reference(c) w(c)^β,      β from 0 (the proposal) to 1 (the target),

with w the importance weight and coordinates of a space (`spaces`). From each β to the
next the particles are weighed by w^(β' - β), resampled where the ess is low, and moved
by a Markov kernel that keeps π_β'. The mean of the final weights estimates the
evidence.

Moves. At each temperature particles are moved until they have forgotten where they
were: until in every coordinate the correlation over particles between where the moves
began and where they have led is low. Where many moves do not get there, the report says
how high it stayed.

Temperatures. Each step is as long as keeps the conditional ess at a given share: with
normalised weights W and u = w^(β' - β), (Σ W u)² / (Σ W u² · Σ W), sums over particles
with w > 0, found by bisection. Temperatures, step sizes, factors and numbers of moves
that were found on the particles they act on bias the evidence by O(1/N). A run with the
`AnnealingSchedule` of an earlier run and another seed is unbiased.

References:
    Neal (2001), Annealed importance sampling, Statistics and Computing 11.
    Del Moral, Doucet, Jasra (2006), Sequential Monte Carlo samplers, JRSS B 68(3).
    Kantas, Beskos, Jasra (2014), Sequential Monte Carlo methods for high-dimensional
    inverse problems, https://arxiv.org/abs/1307.6127
    Buchholz, Chopin, Jacob (2021), Adaptive tuning of Hamiltonian Monte Carlo within
    sequential Monte Carlo, https://arxiv.org/abs/1808.07730
    Zhou, Johansen, Aston (2016), Toward automatic model comparison: an adaptive
    sequential Monte Carlo approach, https://arxiv.org/abs/1303.3123
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ...errors import InferenceError, Problem
from ..diagnostics import Caution
from ..particles import Particles, latent_columns
from ..weights import check_log_weights
from .ancestry import Lineages
from .coordinates import Space
from .moves import Move, Point, RandomWalk, weighted_factor
from .result import SmcResult

__all__ = [
    "AnnealingReport",
    "AnnealingSchedule",
    "annealed_smc",
    "move_cautions",
]

_BISECTIONS = 60
# Particles that are correlated more than this with where they were have hardly moved.
_STUCK = 0.6
# A shorter step would never end: the weights differ by more than a float can bridge.
_SHORTEST_STEP = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class AnnealingSchedule:
    """How a run went from proposal to target, so that another can go the same way.

    Attributes:
        temperatures: Rising to 1; the 0 they start from is left out.
        factors: For each temperature a factor of the particles' covariance.
        step_sizes: For each temperature the size of one move.
        nums_moves: For each temperature how often the particles moved.
    """

    temperatures: tuple[float, ...]
    factors: tuple[Float[Tensor, "coordinate coordinate"], ...]
    step_sizes: tuple[float, ...]
    nums_moves: tuple[int, ...]

    def further(
        self,
        temperature: float,
        factor: Float[Tensor, "coordinate coordinate"],
        step_size: float,
        num_moves: int,
    ) -> "AnnealingSchedule":
        """Return the schedule with one more temperature."""
        return AnnealingSchedule(
            (*self.temperatures, temperature),
            (*self.factors, factor),
            (*self.step_sizes, step_size),
            (*self.nums_moves, num_moves),
        )


@dataclass(frozen=True, slots=True, eq=False)
class AnnealingReport:
    """The state of a run after one temperature.

    Attributes:
        temperature: How much of the way is done, from 0 to 1.
        log_evidence: Of π at this temperature, relative to the proposal, in nats.
        ess: Effective sample size of the weights, before resampling.
        has_resampled: Whether ancestors were drawn at this temperature.
        acceptance: Share of moves accepted; nan if particles were not moved.
        num_divergent: Moves refused because the density was nan.
        correlation: Largest correlation, over coordinates, between where particles were
            before the moves and after; nan if particles were not moved.
        schedule: The way so far; the whole way with the last report.
        result: The result, with the last report only.
    """

    temperature: float
    log_evidence: float
    ess: float
    has_resampled: bool
    acceptance: float
    num_divergent: int
    correlation: float
    schedule: AnnealingSchedule
    result: SmcResult | None


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """What decides a run, besides its particles."""

    move: Move
    most_moves: int
    correlation: float
    cess_fraction: float
    ess_threshold: float
    scheme: str
    schedule: AnnealingSchedule | None


def annealed_smc(
    space: Space,
    num_particles: int,
    *,
    seed: int,
    move: Move | None = None,
    most_moves: int = 25,
    correlation: float = 0.2,
    cess_fraction: float = 0.9,
    ess_threshold: float = 0.5,
    scheme: str = "systematic",
    schedule: AnnealingSchedule | None = None,
) -> Iterator[AnnealingReport]:
    """Yield one report per temperature; the last one carries the result.

    Args:
        space: Coordinates, target and proposal.
        num_particles: Number of particles.
        seed: Decides every draw.
        move: How particles move; a random walk if None.
        most_moves: Largest number of moves at each temperature.
        correlation: Moves end when particles are correlated no more than this with
            where they were; 0 makes `most_moves` of them at every temperature.
        cess_fraction: How much of the conditional ess each temperature step keeps.
        ess_threshold: Resample if ess / N is below it.
        scheme: A name in `resampling.SCHEMES`.
        schedule: The schedule of an earlier run, which makes the estimate of the
            evidence unbiased; None finds one on the way.

    Raises:
        ValueError: If a number is out of range.
        InferenceError: If a weight is nan or +inf, or no temperature step is short
            enough.
    """
    if num_particles < 2 or most_moves < 0 or not 0.0 <= correlation < 1.0:
        raise ValueError(
            "annealing: expected at least 2 particles and 0 moves, and a correlation"
            f" from 0 to below 1; got {num_particles}, {most_moves} and {correlation}"
        )
    if not (0.0 < cess_fraction < 1.0 and 0.0 <= ess_threshold <= 1.0):
        raise ValueError(
            "annealing: expected a share of the conditional ess between 0 and 1 and a"
            f" threshold from 0 to 1; got {cess_fraction} and {ess_threshold}"
        )
    generator = torch.Generator(space.device)
    generator.manual_seed(seed)
    plan = _Plan(
        move or RandomWalk(),
        most_moves,
        correlation,
        cess_fraction,
        ess_threshold,
        scheme,
        schedule,
    )
    return _temperatures(space, num_particles, plan, generator)


def _temperatures(
    space: Space, num_particles: int, plan: _Plan, generator: torch.Generator
) -> Iterator[AnnealingReport]:
    with torch.no_grad():
        point = space.at(space.draw(num_particles, generator=generator))
    check_log_weights(point.log_weight, "annealing")
    lineages = Lineages.start(torch.zeros_like(point.log_weight))
    way = AnnealingSchedule((), (), (), ())
    temperature = 0.0
    step_size = plan.move.first_step_size(point.coordinates.shape[1])
    while temperature < 1.0:
        last = temperature
        temperature = _next_temperature(point, lineages, last, plan, way)
        lineages = lineages.grow((temperature - last) * point.log_weight)
        totals = lineages.totals
        if totals.ess == 0.0:
            yield _nothing_left(space, point, lineages, way)
            return
        factor = _factor(point, lineages, plan, way)
        # A particle of weight 0 has nowhere to move from.
        is_low = totals.ess < plan.ess_threshold * num_particles
        has_resampled = is_low or totals.num_zero > 0
        if has_resampled:
            lineages, ancestors = lineages.resample(plan.scheme, generator)
            point = point.rows(ancestors)
        limit = plan.most_moves
        if plan.schedule:
            step_size = plan.schedule.step_sizes[len(way.temperatures)]
            limit = plan.schedule.nums_moves[len(way.temperatures)]
        acceptances, num_divergent = [], 0
        start, correlation = point.coordinates, math.nan
        weights = lineages.log_weights.softmax(0)
        for _ in range(limit):
            outcome = plan.move.step(
                point, space.at, temperature, factor, step_size, generator
            )
            point = outcome.point
            acceptances.append(outcome.acceptance)
            num_divergent += outcome.num_divergent
            correlation = _correlation(start, point.coordinates, weights)
            if plan.schedule:
                continue
            step_size = plan.move.adapted(step_size, outcome.acceptance)
            if correlation <= plan.correlation:
                break
        way = way.further(temperature, factor, step_size, len(acceptances))
        yield AnnealingReport(
            temperature,
            totals.log_evidence,
            totals.ess,
            has_resampled,
            sum(acceptances) / len(acceptances) if acceptances else math.nan,
            num_divergent,
            correlation,
            way,
            _result(space, point, lineages) if temperature == 1.0 else None,
        )


def move_cautions(reports: Sequence[AnnealingReport]) -> tuple[Caution, ...]:
    """Return a caution if particles hardly moved at some temperatures, else none."""
    moved = [each for each in reports if each.temperature > 0.0]
    stuck = [each for each in moved if not each.correlation <= _STUCK]
    if not stuck:
        return ()
    worst = max(each.correlation for each in stuck)
    most = max(each.schedule.nums_moves[-1] for each in stuck)
    return (
        Caution(
            f"at {len(stuck)} of {len(moved)} temperatures the particles hardly moved:"
            f" after {most} moves they are correlated {worst:.2f} with where they were",
            "parts of the posterior that few particles have reached, a second mode say,"
            " may have a wrong share, and the standard errors do not know of it",
            "Allow more moves or longer ones, draw more particles, and compare several"
            " runs with different seeds",
        ),
    )


def _nothing_left(
    space: Space, point: Point, lineages: Lineages, way: AnnealingSchedule
) -> AnnealingReport:
    """Return the last report of a run whose weights are all 0: the evidence is 0."""
    return AnnealingReport(
        temperature=1.0,
        log_evidence=-math.inf,
        ess=0.0,
        has_resampled=False,
        acceptance=math.nan,
        num_divergent=0,
        correlation=math.nan,
        schedule=way,
        result=_result(space, point, lineages),
    )


def _next_temperature(
    point: Point,
    lineages: Lineages,
    last: float,
    plan: _Plan,
    way: AnnealingSchedule,
) -> float:
    """Return the next temperature, from the schedule or by bisection."""
    if plan.schedule:
        return plan.schedule.temperatures[len(way.temperatures)]
    if _kept(point, lineages, 1.0 - last) >= plan.cess_fraction:
        return 1.0
    low, high = 0.0, 1.0 - last
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        if _kept(point, lineages, middle) >= plan.cess_fraction:
            low = middle
        else:
            high = middle
    if low < _SHORTEST_STEP:
        raise InferenceError(
            Problem(
                "annealing",
                f"no step from temperature {last:.3g} keeps a share of"
                f" {plan.cess_fraction} of the conditional ess",
                "weights that a small power brings together",
                f"log weights from {float(point.log_weight.min()):.3g}"
                f" to {float(point.log_weight.max()):.3g}",
            )
        )
    return last + low


def _kept(point: Point, lineages: Lineages, step: float) -> float:
    """Return the share of the conditional ess that a temperature step keeps.

    It is relative to the particles of positive weight, which a step of any length
    keeps: particles of weight 0 are lost at once.
    """
    is_alive = (point.log_weight > -torch.inf) & (lineages.log_weights > -torch.inf)
    if not bool(is_alive.any()):
        return 1.0
    log_shares = lineages.log_weights[is_alive].log_softmax(0)
    log_growth = step * point.log_weight[is_alive]
    first = (log_shares + log_growth).logsumexp(0)
    second = (log_shares + 2.0 * log_growth).logsumexp(0)
    return math.exp(float(2.0 * first - second))


def _correlation(
    before: Float[Tensor, "particle coordinate"],
    after: Float[Tensor, "particle coordinate"],
    weights: Float[Tensor, " particle"],
) -> float:
    """Return the largest weighted correlation over coordinates; 1 if none can move."""
    gap_before, gap_after = before - weights @ before, after - weights @ after
    spread = ((weights @ gap_before.square()) * (weights @ gap_after.square())).sqrt()
    found = (weights @ (gap_before * gap_after)) / spread
    return float(torch.where(spread > 0.0, found, 1.0).max())


def _factor(
    point: Point, lineages: Lineages, plan: _Plan, way: AnnealingSchedule
) -> Float[Tensor, "coordinate coordinate"]:
    if plan.schedule:
        return plan.schedule.factors[len(way.temperatures)]
    return weighted_factor(point.coordinates, lineages.log_weights.softmax(0))


def _result(space: Space, point: Point, lineages: Lineages) -> SmcResult:
    particles = Particles.from_draws(
        point.latents.cpu(),
        lineages.log_weights.cpu(),
        latent_columns(space.target.layout),
    )
    descent = Lineages(particles.log_weights, lineages.eves.cpu(), lineages.num_lines)
    return SmcResult(particles, descent)
