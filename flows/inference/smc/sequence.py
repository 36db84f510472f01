r"""This file says what a model drawn step by step is: one weight increment per step.

At step t every particle is extended by the latents that the step needs, and its weight
is multiplied by the increment

    w_t = p(new latents | old) p(x_t | latents) / q(new latents | old, x).
"""

from dataclasses import dataclass
from typing import Protocol

import torch

from ...errors import ArgumentError
from ...model.shapes import ObservedRow
from ..proposal import Proposal, Target
from ..shapes import Latents, LogProb, State

__all__ = ["ObserveSequence", "Sequence", "Step"]


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """Particles after one step.

    Attributes:
        state: What a particle carries on, one row each.
        log_weight_increment: By how much its log weight grows, in nats, float64.
    """

    state: State
    log_weight_increment: LogProb


class Sequence(Protocol):
    """A model drawn step by step, one weight increment per step."""

    @property
    def num_steps(self) -> int:
        """Return the number of steps."""

    @property
    def model(self) -> Target:
        """Return the model."""

    def start(self, num_particles: int, *, generator: torch.Generator) -> Step:
        """Return new particles after step 0."""

    def extend(self, state: State, step: int, *, generator: torch.Generator) -> Step:
        """Return the particles after step `step`, 1 or later."""

    def latents(self, state: State) -> Latents:
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
        model: The target.
        proposal: What the latents are drawn from.
        observed: The observed values.
    """

    model: Target
    proposal: Proposal
    observed: ObservedRow

    @property
    def num_steps(self) -> int:
        """Return the number of observed nodes."""
        return len(self.model.layout.observed)

    def start(self, num_particles: int, *, generator: torch.Generator) -> Step:
        """Return draws weighed by prior, proposal and the first term."""
        draw = self.proposal.rsample_and_log_prob(
            self.observed, num_particles, generator=generator
        )
        terms = self.model.log_likelihood_terms(
            draw.latents, self.observed.expand(num_particles, -1)
        )
        if terms.shape != (num_particles, self.num_steps):
            raise ArgumentError.at(
                "sequence of observes",
                "one likelihood term per step is needed",
                str(self.num_steps),
                str(list(terms.shape[1:])),
            )
        log_prior = self.model.log_prior(draw.latents, self.observed)
        ratio = (log_prior - draw.log_prob) / self.num_steps
        increments = ratio.unsqueeze(1) + terms
        return Step(torch.cat([draw.latents, increments], 1), increments[:, 0])

    def extend(
        self,
        state: State,
        step: int,
        *,
        generator: torch.Generator,  # noqa: ARG002 - the protocol asks
    ) -> Step:
        """Return the same particles, weighed by the term of one more observe."""
        return Step(state, state[:, step - self.num_steps])

    def latents(self, state: State) -> Latents:
        """Return the latents without the increments beside them."""
        return state[:, : -self.num_steps]
