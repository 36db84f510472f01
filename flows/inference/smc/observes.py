r"""This file carries particles through a program, observe by observe.

Sequential importance sampling and resampling. At step t every particle is extended by
the latents that the step needs, and its weight is multiplied by the increment

    w_t = p(new latents | old) p(x_t | latents) / q(new latents | old, x).

When the ess falls below a share of the number of particles, ancestors are drawn and all
weights set to their mean, so that the mean of the final weights is the estimate of the
evidence. It is unbiased, also if the ess decides when to resample.

What particles say, and how surely, is `smc_result`.

References:
    Doucet, Johansen (2011), A tutorial on particle filtering and smoothing.
    Whiteley, Lee, Heine (2016), On the role of interaction in sequential Monte Carlo
    algorithms, Bernoulli 22(1), https://arxiv.org/abs/1309.2918
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from ..particles import Particles, VariableLayout, latent_columns
from ..proposal import Proposal, Target
from .ancestry import Lineages
from .result import SmcResult

__all__ = [
    "ObserveSequence",
    "Sequence",
    "SmcReport",
    "Step",
    "sequential_smc",
]


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

    With each term enters an equal share of log p(z) - log q(z | x), so that from a
    proposal that knows the data the first step does not lead back to the prior.

    Since nothing new is drawn after step 0, resampling can only discard: importance
    sampling from the same proposal has no larger error. It is here for proposals that
    cannot draw latent by latent.

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
        ratio = (log_prior - draw.log_prob) / self.num_steps
        increments = ratio.unsqueeze(1) + terms
        return Step(torch.cat([draw.latents, increments], 1), increments[:, 0])

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
        """Return the latents without the increments beside them."""
        return state[:, : -self.num_steps]


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
    descent = Lineages(particles.log_weights, lineages.eves.cpu(), lineages.num_lines)
    return SmcResult(particles, descent)
