r"""This file carries particles through a program, observe by observe.

Sequential importance sampling and resampling. At step t every particle is extended by
the latents that the step needs, and its weight is multiplied by the increment

    w_t = p(new latents | old) p(x_t | latents) / q(new latents | old, x).

When the ess falls below a share of the number of particles, ancestors are drawn and all
weights set to their mean, so that the mean of the final weights is the estimate of the
evidence. It is unbiased, also if the ess decides when to resample.

Particles share ancestors, so the formulas for independent weights do not hold. Each
particle remembers from which of the first N it descends (its Eve). With W_e the share
of the weight that descends from e, and S_e the part of Σ_i W_i (f_i - mean f) that
does,

    se² of the log evidence = (N Σ_e W_e² - 1) / (N - 1),     se² of mean f = Σ_e S_e²,

which are the usual ones where nothing was resampled. When few Eves are left the errors
are not known, and a caution says so.

References:
    Doucet, Johansen (2011), A tutorial on particle filtering and smoothing.
    Whiteley, Lee, Heine (2016), On the role of interaction in sequential Monte Carlo
    algorithms, Bernoulli 22(1), https://arxiv.org/abs/1309.2918
    Chan, Lai (2013), A general theory of particle filters in hidden Markov models and
    some applications, Annals of Statistics 41(6), https://arxiv.org/abs/1312.5114
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .diagnostics import Caution, Summary, evidence_cautions, summarize
from .particles import Particles, VariableLayout, latent_columns
from .proposal import Proposal, Target
from .resampling import resample
from .weights import WeightTotals, check_log_weights

__all__ = [
    "Lineages",
    "ObserveSequence",
    "Report",
    "Sequence",
    "SmcReport",
    "SmcResult",
    "Step",
    "result_of",
    "sequential_smc",
    "summarize_smc",
]

# With fewer independent lines than this a standard error is a guess.
_MIN_EVES = 20


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """Particles after one step.

    Attributes:
        state: What a particle carries on, one row each.
        log_weight_increment: By how much its log weight grows, in nats, float64.
    """

    state: Float[Tensor, "particle state"]
    log_weight_increment: Float[Tensor, " particle"]


class Sequence(Protocol):
    """A model drawn step by step, one weight increment per step."""

    @property
    def num_steps(self) -> int:
        """Return the number of steps."""

    @property
    def layout(self) -> VariableLayout:
        """Return which columns belong to which variable."""

    def start(self, num_particles: int, *, generator: torch.Generator) -> Step:
        """Return new particles after step 0."""

    def extend(
        self,
        state: Float[Tensor, "particle state"],
        step: int,
        *,
        generator: torch.Generator,
    ) -> Step:
        """Return the particles after step `step`, 1 or later."""

    def latents(
        self, state: Float[Tensor, "particle state"]
    ) -> Float[Tensor, "particle latent"]:
        """Return all latents of particles that have taken every step."""


@dataclass(frozen=True, slots=True, eq=False)
class ObserveSequence:
    """Draws all latents at once; the likelihood terms then enter one per step.

    Since nothing new is drawn after step 0, resampling can only discard: this serves
    where some observes alone rule most particles out. A model whose latents can be
    drawn step by step is better served by a `Sequence` of its own.

    Attributes:
        target: The model.
        proposal: What the latents are drawn from.
        observed: The observed values.
    """

    target: Target
    proposal: Proposal
    observed: Float[Tensor, " observed"]

    @property
    def num_steps(self) -> int:
        """Return the number of observed nodes."""
        return len(self.target.layout.observed)

    @property
    def layout(self) -> VariableLayout:
        """Return which columns belong to which variable."""
        return self.target.layout

    def start(self, num_particles: int, *, generator: torch.Generator) -> Step:
        """Return draws weighed by prior, proposal and the first term."""
        draw = self.proposal.rsample_and_log_prob(
            self.observed, num_particles, generator=generator
        )
        terms = self.target.log_likelihood_terms(
            draw.latents, self.observed.expand(num_particles, -1)
        )
        if terms.shape != (num_particles, self.num_steps):
            raise ValueError(
                "sequence of observes: one likelihood term per step is needed;"
                f" expected {self.num_steps}; got {list(terms.shape[1:])}"
            )
        log_prior = self.target.log_prior(draw.latents, self.observed)
        return Step(
            torch.cat([draw.latents, terms], 1), log_prior - draw.log_prob + terms[:, 0]
        )

    def extend(
        self,
        state: Float[Tensor, "particle state"],
        step: int,
        *,
        generator: torch.Generator,  # noqa: ARG002 - the protocol asks
    ) -> Step:
        """Return the same particles, weighed by the term of one more observe."""
        return Step(state, state[:, step - self.num_steps])

    def latents(
        self, state: Float[Tensor, "particle state"]
    ) -> Float[Tensor, "particle latent"]:
        """Return the latents without the likelihood terms beside them."""
        return state[:, : -self.num_steps]


@dataclass(frozen=True, slots=True, eq=False)
class Lineages:
    """Weights and descent of particles.

    Attributes:
        log_weights: Unnormalised, in nats; log of their mean estimates the evidence.
        eves: For each particle, which of the first ones it descends from.
    """

    log_weights: Float[Tensor, " particle"]
    eves: Int[Tensor, " particle"]

    @classmethod
    def start(cls, log_weights: Float[Tensor, " particle"]) -> "Lineages":
        """Return particles that are their own ancestors."""
        check_log_weights(log_weights, "sequential Monte Carlo")
        num = log_weights.shape[0]
        return cls(log_weights, torch.arange(num, device=log_weights.device))

    @property
    def totals(self) -> WeightTotals:
        """Return what the weights add up to."""
        return WeightTotals.from_log_weights(self.log_weights)

    def grow(self, log_weight_increment: Float[Tensor, " particle"]) -> "Lineages":
        """Return the particles with their weights multiplied.

        Raises:
            InferenceError: If an increment is nan or +inf.
        """
        check_log_weights(log_weight_increment, "sequential Monte Carlo")
        return Lineages(self.log_weights + log_weight_increment, self.eves)

    def resample(
        self, scheme: str, generator: torch.Generator
    ) -> tuple["Lineages", Int[Tensor, " particle"]]:
        """Return as many equally weighted particles, and their ancestors."""
        num = self.log_weights.shape[0]
        ancestors = resample(self.log_weights, num, scheme=scheme, generator=generator)
        equal = torch.full_like(self.log_weights, self.totals.log_evidence)
        return Lineages(equal, self.eves[ancestors]), ancestors

    @property
    def line_totals(self) -> WeightTotals:
        """Return the totals of whole lines of descent, one for each first particle.

        Their weights add up like those of independent particles.
        """
        largest = self.log_weights.max()
        if not bool(largest > -torch.inf):
            return self.totals
        weights = (self.log_weights - largest).exp().unsqueeze(1)
        return WeightTotals.from_log_weights(
            self.sums(weights).squeeze(1).log() + largest
        )

    def sums(
        self, values: Float[Tensor, "particle column"]
    ) -> Float[Tensor, "particle column"]:
        """Return the sums of `values` over the descendants of each first particle."""
        return torch.zeros_like(values).index_add_(0, self.eves, values)


@dataclass(frozen=True, slots=True, eq=False)
class SmcResult:
    """What a run leaves.

    Attributes:
        particles: The particles; the log of their mean weight is the log evidence.
        lineages: From which of the first particles each one descends.
    """

    particles: Particles
    lineages: Lineages

    @property
    def log_evidence(self) -> float:
        """Return the log of the unbiased estimate of the evidence, in nats."""
        return self.particles.totals.log_evidence

    @property
    def log_evidence_standard_error(self) -> float:
        """Return its standard error over independent runs, in nats; nan if unknown."""
        return self.lineages.line_totals.log_evidence_standard_error

    @property
    def num_eves(self) -> int:
        """Return how many of the first particles have descendants with weight."""
        totals = self.lineages.line_totals
        return totals.num_particles - totals.num_zero

    def mean_standard_error(self) -> Float[Tensor, " latent"]:
        """Return the standard error of the particles' mean over independent runs."""
        weights = self.particles.normalized_weights.unsqueeze(1)
        deviation = self.particles.latents - self.particles.mean()
        # Particles of weight 0 may be infinite and count as nothing.
        parts = torch.where(weights > 0.0, weights * deviation, 0.0)
        return self.lineages.sums(parts).square().sum(0).sqrt()


@dataclass(frozen=True, slots=True, eq=False)
class SmcReport:
    """The state of a run after one step.

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
        ValueError: If a number is out of range.
        InferenceError: If a weight is nan or +inf.
    """
    if num_particles < 1 or not 0.0 <= ess_threshold <= 1.0:
        raise ValueError(
            "sequential Monte Carlo: expected a positive number of particles and a"
            f" threshold from 0 to 1; got {num_particles} and {ess_threshold}"
        )
    generator = torch.Generator(device)
    generator.manual_seed(seed)
    return _steps(sequence, num_particles, ess_threshold, scheme, generator)


class Report(Protocol):
    """A report that carries the result if it is the last."""

    @property
    def result(self) -> SmcResult | None:
        """Return the result, with the last report only."""


def result_of(reports: Iterable[Report]) -> SmcResult:
    """Return the result that the last report of a whole run carries."""
    result = None
    for report in reports:
        result = report.result
    if result is None:
        raise ValueError("sequential Monte Carlo: the run has not come to its end")
    return result


def summarize_smc(result: SmcResult) -> Summary:
    """Return the summary of a run, with errors that know of shared ancestors.

    The ess is 1 / Σ W_e², that of the lines of descent. There is no k-hat: nan.
    """
    plain = summarize(result.particles)
    if not plain.latents:
        return plain
    totals = result.lineages.line_totals
    errors = result.mean_standard_error().tolist()
    latents = tuple(
        replace(latent, mean_standard_error=error)
        for latent, error in zip(plain.latents, errors, strict=True)
    )
    found = list(evidence_cautions(totals))
    if result.num_eves < _MIN_EVES:
        found.append(
            Caution(
                f"all particles descend from {result.num_eves} of the first"
                f" {result.particles.num_particles}",
                "the standard errors given here are guesses and may be far too small",
                "Draw more particles, or compare several runs with different seeds",
            )
        )
    return replace(
        plain,
        log_evidence_standard_error=totals.log_evidence_standard_error,
        ess=totals.ess,
        ess_fraction=totals.ess_fraction,
        k_hat=math.nan,
        latents=latents,
        cautions=tuple(found),
    )


def _steps(
    sequence: Sequence,
    num_particles: int,
    ess_threshold: float,
    scheme: str,
    generator: torch.Generator,
) -> Iterator[SmcReport]:
    with torch.no_grad():
        first = sequence.start(num_particles, generator=generator)
    state, lineages = first.state, Lineages.start(first.log_weight_increment)
    for step in range(sequence.num_steps):
        if step:
            with torch.no_grad():
                extended = sequence.extend(state, step, generator=generator)
            state = extended.state
            lineages = lineages.grow(extended.log_weight_increment)
        totals = lineages.totals
        is_last = step == sequence.num_steps - 1
        # The last weights are kept: resampling them would only add noise.
        is_low = not is_last and totals.ess < ess_threshold * num_particles
        has_resampled = is_low and totals.ess > 0.0
        if has_resampled:
            lineages, ancestors = lineages.resample(scheme, generator)
            state = state[ancestors]
        yield SmcReport(
            (step + 1) / sequence.num_steps,
            totals.log_evidence,
            totals.ess,
            has_resampled,
            _result(sequence, state, lineages) if is_last else None,
        )


def _result(
    sequence: Sequence, state: Float[Tensor, "particle state"], lineages: Lineages
) -> SmcResult:
    particles = Particles.from_draws(
        sequence.latents(state).cpu(),
        lineages.log_weights.cpu(),
        latent_columns(sequence.layout),
    )
    return SmcResult(particles, Lineages(particles.log_weights, lineages.eves.cpu()))
