r"""This file says what particles are drawn from, and what they must represent.

A proposal draws latents z, and nuisances y of a flow if it has any, given the observed
values x. Its density is stated relative to the reference N(0, I) of the nuisances:

    log_prob = log q(z, y | x) - log N(y; 0, I).

The target's nuisances are N(0, I) too, so they cancel, and for every proposal

    log w = log p(z, x) - log_prob.

Defensive mixture. With probability α a particle comes from the prior, its y from
N(0, I); else from q. The density relative to N(0, I) is that of the mixture,

    log_prob = log((1 - α) q(z, y | x) / N(y; 0, I) + α p(z)),

an exact density whichever part the particle came from. It bounds the weights,
w ≤ p(x | z) / α, so the estimates have finite variance wherever the likelihood is
bounded, however narrow q is. The price is small: ess / N loses at most about a share α.

References:
    Hesterberg (1995), Weighted average importance sampling and defensive mixture
    distributions, Technometrics 37(2).
    Owen and Zhou (2000), Safe and effective importance sampling, JASA 95.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import ArgumentError
from ..model.draws import Draws
from ..model.layout import Layout
from ..model.shapes import ObservedRow
from .noise import standard_normal, uniform
from .shapes import Latents, LogProb, Nuisance

__all__ = [
    "DefensiveMixture",
    "PriorProposal",
    "Proposal",
    "ProposalDraw",
    "Target",
]


class Target(Protocol):
    """What inference needs of a model p(latents, observed); densities in nats."""

    @property
    def layout(self) -> Layout:
        """Return which columns belong to which variable."""

    def sample(self, num: int, /, *, generator: torch.Generator) -> Draws:
        """Return joint draws."""

    def log_joint(
        self,
        latents: Float[Tensor, "*batch latent"],
        observed: Float[Tensor, "*batch observed"],
        /,
    ) -> Float[Tensor, "*batch"]:
        """Return log p(latents, observed)."""

    def sample_latents(
        self, num: int, /, *, generator: torch.Generator, observed: ObservedRow
    ) -> Float[Tensor, "draw latent"]:
        """Return draws of the latents; the data matter where latents read them."""

    def log_prior(
        self, latents: Float[Tensor, "*batch latent"], observed: ObservedRow, /
    ) -> Float[Tensor, "*batch"]:
        """Return Σ over latents of log p(z_i | parents)."""

    def log_likelihood_terms(
        self,
        latents: Float[Tensor, "*batch latent"],
        observed: Float[Tensor, "*batch observed"],
        /,
    ) -> Float[Tensor, "*batch node"]:
        """Return log p(node | its parents) of every observed node, in order."""


@dataclass(frozen=True, slots=True, eq=False)
class ProposalDraw:
    """Values drawn from a proposal.

    Attributes:
        latents: Natural values, float64.
        nuisances: Nuisances of the flow, float64; no column if there are none.
        log_prob: log q(latents, nuisances | observed) - log N(nuisances; 0, I),
            float64; where latents were given, that of the others given them.
        log_prob_per_node: The same of every latent given its ancestors and the data, in
            the proposal's order; None where it does not come latent by latent.
    """

    latents: Latents
    nuisances: Nuisance
    log_prob: LogProb
    log_prob_per_node: Float[Tensor, "particle node"] | None = None


class Proposal(Protocol):
    """Something that particles can be drawn from, with its density."""

    @property
    def nuisance_dim(self) -> int:
        """Return the number of nuisances."""

    def rsample_and_log_prob(
        self, observed: ObservedRow, num_particles: int, *, generator: torch.Generator
    ) -> ProposalDraw:
        """Return draws given the observed values, with their densities."""

    def log_prob(
        self, latents: Latents, nuisances: Nuisance, observed: ObservedRow
    ) -> LogProb:
        """Return the density at given values, relative to N(0, I) of the nuisances."""


@dataclass(frozen=True, slots=True, eq=False)
class PriorProposal:
    """Draws every latent from its own distribution given its parents.

    That is the prior wherever no latent reads an observed node; where one does, it
    reads the data.

    Attributes:
        model: The model whose prior is drawn from.
    """

    model: Target

    @property
    def nuisance_dim(self) -> int:
        """Return 0: the prior has no nuisances."""
        return 0

    def rsample_and_log_prob(
        self, observed: ObservedRow, num_particles: int, *, generator: torch.Generator
    ) -> ProposalDraw:
        """Return draws of the prior, with their density."""
        latents = self.model.sample_latents(
            num_particles, generator=generator, observed=observed
        )
        nuisances = latents.new_empty((num_particles, 0))
        return ProposalDraw(latents, nuisances, self.model.log_prior(latents, observed))

    def log_prob(
        self,
        latents: Latents,
        nuisances: Nuisance,  # noqa: ARG002
        observed: ObservedRow,
    ) -> LogProb:
        """Return log p(latents)."""
        return self.model.log_prior(latents, observed)


@dataclass(frozen=True, slots=True, eq=False)
class DefensiveMixture:
    """A proposal mixed with a broad one, so that weights stay bounded.

    Attributes:
        proposal: The proposal that is usually drawn from.
        broad: A proposal without nuisances that covers the target, such as the prior.
        weight: Share α of draws from `broad`, strictly between 0 and 1.
    """

    proposal: Proposal
    broad: Proposal
    weight: float

    def __post_init__(self) -> None:
        if not 0.0 < self.weight < 1.0:
            raise ArgumentError.at(
                "defensive mixture",
                "the weight of the broad part",
                "strictly between 0 and 1",
                str(self.weight),
            )
        if self.broad.nuisance_dim:
            raise ArgumentError.at(
                "defensive mixture",
                "nuisances of the broad part",
                "none",
                str(self.broad.nuisance_dim),
            )

    @property
    def nuisance_dim(self) -> int:
        """Return the number of nuisances of the usual proposal."""
        return self.proposal.nuisance_dim

    def rsample_and_log_prob(
        self, observed: ObservedRow, num_particles: int, *, generator: torch.Generator
    ) -> ProposalDraw:
        """Return independent draws from the mixture, with the mixture's density."""
        is_broad = uniform(num_particles, generator=generator) < self.weight
        num_broad = int(is_broad.sum())
        # The rows of each part; a part without rows is not asked for draws.
        parts: list[tuple[Tensor, ProposalDraw]] = []
        if num_broad < num_particles:
            draw = self.proposal.rsample_and_log_prob(
                observed, num_particles - num_broad, generator=generator
            )
            no_nuisances = draw.nuisances[:, :0]
            broad = self.broad.log_prob(draw.latents, no_nuisances, observed)
            mixed = self._mix(draw.log_prob, broad)
            rows = (~is_broad).nonzero().squeeze(1)
            parts.append((rows, ProposalDraw(draw.latents, draw.nuisances, mixed)))
        if num_broad:
            draw = self.broad.rsample_and_log_prob(
                observed, num_broad, generator=generator
            )
            width = self.nuisance_dim
            nuisances = standard_normal(num_broad, width, generator=generator)
            usual = self.proposal.log_prob(draw.latents, nuisances, observed)
            mixed = self._mix(usual, draw.log_prob)
            rows = is_broad.nonzero().squeeze(1)
            parts.append((rows, ProposalDraw(draw.latents, nuisances, mixed)))
        order = torch.cat([rows for rows, _ in parts]).argsort()
        return ProposalDraw(
            torch.cat([draw.latents for _, draw in parts])[order],
            torch.cat([draw.nuisances for _, draw in parts])[order],
            torch.cat([draw.log_prob for _, draw in parts])[order],
        )

    def log_prob(
        self, latents: Latents, nuisances: Nuisance, observed: ObservedRow
    ) -> LogProb:
        """Return the mixture's density, relative to N(0, I) of the nuisances."""
        return self._mix(
            self.proposal.log_prob(latents, nuisances, observed),
            self.broad.log_prob(latents, nuisances[:, :0], observed),
        )

    def _mix(self, usual: LogProb, broad: LogProb) -> LogProb:
        return torch.logaddexp(
            usual + math.log1p(-self.weight), broad + math.log(self.weight)
        )
