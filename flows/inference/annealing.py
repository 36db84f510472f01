r"""This file moves particles from a proposal to the target, temperature by temperature.

Between the proposal q and the target p lie the densities, on coordinates c of latents
and nuisances,

    π_β(c) ∝ reference(c) w(c)^β,      β from 0 (the proposal) to 1 (the target),

with w the importance weight. From each β to the next the particles are weighed by
w^(β' - β), resampled where the ess is low, and moved by a Markov kernel that keeps
π_β'. The mean of the final weights estimates the evidence.

Coordinates. `FreeSpace` is for every proposal: latents on the real line, nuisances
beside them, reference(c) = q(z, y | x) |dz/dc|. `BaseSpace` is for proposals that push
forward a base N(0, I): reference(c) = N(c; 0, I) and z follows from c, so that the flow
preconditions: what it learnt need not be learnt again by the moves.

Temperatures. Each step is as long as keeps the conditional ess at a given share: with
normalised weights W and u = w^(β' - β), (Σ W u)² / (Σ W u² · Σ W), sums over particles
with w > 0, found by bisection. Temperatures, step sizes and factors that were found
on the particles they act on bias the evidence by O(1/N). A run with the
`AnnealingSchedule` of an earlier run and another seed is unbiased.

References:
    Neal (2001), Annealed importance sampling, Statistics and Computing 11.
    Del Moral, Doucet, Jasra (2006), Sequential Monte Carlo samplers, JRSS B 68(3).
    Zhou, Johansen, Aston (2016), Toward automatic model comparison: an adaptive
    sequential Monte Carlo approach, https://arxiv.org/abs/1303.3123
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import InferenceError, Problem
from .moves import Move, Point, RandomWalk, weighted_factor
from .particles import Particles, latent_columns
from .proposal import Proposal, ProposalDraw, Target
from .smc import Lineages, SmcResult
from .weights import check_log_weights

__all__ = [
    "AnnealedTarget",
    "AnnealingReport",
    "AnnealingSchedule",
    "BaseMap",
    "BaseSpace",
    "FreeSpace",
    "Space",
    "annealed_smc",
]

_LOG_2_PI = math.log(2.0 * math.pi)
_BISECTIONS = 60
# A shorter step would never end: the weights differ by more than a float can bridge.
_SHORTEST_STEP = 1e-12


class AnnealedTarget(Target, Protocol):
    """A target that can be moved in: it maps its latents to the real line and back."""

    def constrain(
        self, free: Float[Tensor, "*batch free"], /
    ) -> tuple[Float[Tensor, "*batch latent"], Float[Tensor, "*batch"]]:
        """Return latents and log|det d latents / d free|."""

    def unconstrain(
        self, latents: Float[Tensor, "*batch latent"], /
    ) -> tuple[Float[Tensor, "*batch free"], Float[Tensor, "*batch"]]:
        """Return free coordinates and log|det d latents / d free|."""


class BaseMap(Protocol):
    """A proposal that pushes forward a base N(0, I)."""

    @property
    def base_dim(self) -> int:
        """Return the number of base coordinates."""

    def from_base(
        self,
        base: Float[Tensor, "particle base"],
        observed: Float[Tensor, " observed"],
    ) -> ProposalDraw:
        """Return where base points go, with the proposal's density there."""


class Space(Protocol):
    """Coordinates that lie between a proposal and a target."""

    @property
    def target(self) -> Target:
        """Return the target."""

    @property
    def device(self) -> torch.device:
        """Return where the coordinates are."""

    def draw(
        self, num_particles: int, *, generator: torch.Generator
    ) -> Float[Tensor, "particle coordinate"]:
        """Return draws of the proposal."""

    def at(self, coordinates: Float[Tensor, "particle coordinate"]) -> Point:
        """Return the densities at given coordinates."""


@dataclass(frozen=True, slots=True, eq=False)
class FreeSpace:
    """Latents on the real line with the nuisances beside them; for every proposal.

    Attributes:
        target: The model.
        proposal: Where the particles come from.
        observed: The observed values.
    """

    target: AnnealedTarget
    proposal: Proposal
    observed: Float[Tensor, " observed"]

    @property
    def device(self) -> torch.device:
        """Return where the coordinates are."""
        return self.observed.device

    def draw(
        self, num_particles: int, *, generator: torch.Generator
    ) -> Float[Tensor, "particle coordinate"]:
        """Return draws of the proposal, mapped to the real line."""
        draw = self.proposal.rsample_and_log_prob(
            self.observed, num_particles, generator=generator
        )
        free, _ = self.target.unconstrain(draw.latents)
        return torch.cat([free, draw.auxiliary], 1)

    def at(self, coordinates: Float[Tensor, "particle coordinate"]) -> Point:
        """Return the densities at given coordinates."""
        num, width = coordinates.shape
        split = width - self.proposal.auxiliary_dim
        auxiliary = coordinates[:, split:]
        latents, log_det = self.target.constrain(coordinates[:, :split])
        log_prob = self.proposal.log_prob(latents, auxiliary, self.observed)
        log_joint = self.target.log_joint(latents, self.observed.expand(num, -1))
        # Where the proposal has no mass no particle can come from: density 0.
        is_reached = log_prob > -torch.inf
        return Point(
            coordinates,
            latents,
            log_prob + _log_normal(auxiliary) + log_det,
            torch.where(is_reached | log_prob.isnan(), log_joint - log_prob, 0.0),
        )


@dataclass(frozen=True, slots=True, eq=False)
class BaseSpace:
    """The base N(0, I) of a proposal; its map preconditions the moves.

    Attributes:
        target: The model.
        proposal: The map from the base, with its density.
        observed: The observed values.
    """

    target: Target
    proposal: BaseMap
    observed: Float[Tensor, " observed"]

    @property
    def device(self) -> torch.device:
        """Return where the coordinates are."""
        return self.observed.device

    def draw(
        self, num_particles: int, *, generator: torch.Generator
    ) -> Float[Tensor, "particle coordinate"]:
        """Return draws of N(0, I)."""
        return torch.randn(
            (num_particles, self.proposal.base_dim),
            dtype=torch.float64,
            generator=generator,
            device=self.device,
        )

    def at(self, coordinates: Float[Tensor, "particle coordinate"]) -> Point:
        """Return the densities at given coordinates."""
        draw = self.proposal.from_base(coordinates, self.observed)
        observed = self.observed.expand(coordinates.shape[0], -1)
        log_joint = self.target.log_joint(draw.latents, observed)
        return Point(
            coordinates,
            draw.latents,
            _log_normal(coordinates),
            log_joint - draw.log_prob,
        )


@dataclass(frozen=True, slots=True, eq=False)
class AnnealingSchedule:
    """How a run went from proposal to target, so that another can go the same way.

    Attributes:
        temperatures: Rising to 1; the 0 they start from is left out.
        factors: For each temperature a factor of the particles' covariance.
        step_sizes: For each temperature the size of one move.
    """

    temperatures: tuple[float, ...]
    factors: tuple[Float[Tensor, "coordinate coordinate"], ...]
    step_sizes: tuple[float, ...]

    def further(
        self,
        temperature: float,
        factor: Float[Tensor, "coordinate coordinate"],
        step_size: float,
    ) -> "AnnealingSchedule":
        """Return the schedule with one more temperature."""
        return AnnealingSchedule(
            (*self.temperatures, temperature),
            (*self.factors, factor),
            (*self.step_sizes, step_size),
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
        schedule: The way so far; the whole way with the last report.
        result: The result, with the last report only.
    """

    temperature: float
    log_evidence: float
    ess: float
    has_resampled: bool
    acceptance: float
    num_divergent: int
    schedule: AnnealingSchedule
    result: SmcResult | None


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """What decides a run, besides its particles."""

    move: Move
    num_moves: int
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
    num_moves: int = 5,
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
        num_moves: Number of moves at each temperature.
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
    if num_particles < 2 or num_moves < 0:
        raise ValueError(
            "annealing: expected at least 2 particles and 0 moves; got"
            f" {num_particles} and {num_moves}"
        )
    if not (0.0 < cess_fraction < 1.0 and 0.0 <= ess_threshold <= 1.0):
        raise ValueError(
            "annealing: expected a share of the conditional ess between 0 and 1 and a"
            f" threshold from 0 to 1; got {cess_fraction} and {ess_threshold}"
        )
    generator = torch.Generator(space.device)
    generator.manual_seed(seed)
    plan = _Plan(
        move or RandomWalk(), num_moves, cess_fraction, ess_threshold, scheme, schedule
    )
    return _temperatures(space, num_particles, plan, generator)


def _temperatures(
    space: Space, num_particles: int, plan: _Plan, generator: torch.Generator
) -> Iterator[AnnealingReport]:
    with torch.no_grad():
        point = space.at(space.draw(num_particles, generator=generator))
    check_log_weights(point.log_weight, "annealing")
    lineages = Lineages.start(torch.zeros_like(point.log_weight))
    way = AnnealingSchedule((), (), ())
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
        if plan.schedule:
            step_size = plan.schedule.step_sizes[len(way.temperatures)]
        acceptances, num_divergent = [], 0
        for _ in range(plan.num_moves):
            outcome = plan.move.step(
                point, space.at, temperature, factor, step_size, generator
            )
            point = outcome.point
            acceptances.append(outcome.acceptance)
            num_divergent += outcome.num_divergent
            if not plan.schedule:
                step_size = plan.move.adapted(step_size, outcome.acceptance)
        way = way.further(temperature, factor, step_size)
        yield AnnealingReport(
            temperature,
            totals.log_evidence,
            totals.ess,
            has_resampled,
            sum(acceptances) / len(acceptances) if acceptances else math.nan,
            num_divergent,
            way,
            _result(space, point, lineages) if temperature == 1.0 else None,
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
    return SmcResult(particles, Lineages(particles.log_weights, lineages.eves.cpu()))


def _log_normal(values: Float[Tensor, "particle column"]) -> Float[Tensor, " particle"]:
    return -0.5 * (values.square() + _LOG_2_PI).sum(1)
