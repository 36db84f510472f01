r"""This file owns `Mixture`: Student's t in free coordinates, as a proposal too.

Each component has a location m and a factor L, L Lᵀ its scale matrix; the tails bound
the weights. `refitted` moves the mixture to the weighted draws that it gave: each
component's mean and covariance become those of the draws that it is responsible for.

References:
    Cappé, Douc, Guillin, Marin, Robert (2008), Adaptive importance sampling in general
    mixture classes, Statistics and Computing 18, https://arxiv.org/abs/0710.4242
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from .heavy_tails import heavy_log_density, heavy_spread
from .noise import standard_normal
from .particles import Particles
from .proposal import ProposalDraw

__all__ = [
    "Component",
    "FreeTarget",
    "Mixture",
    "MixtureProposal",
    "covariance_of",
    "factor_of",
]

_LEAST_SHARE, _LEAST_SHARES = 0.02, 0.2
"""No component has a smaller share, nor do many have more together on that account."""
_LEAST_MASS = 1e-4
"""A component that has less of the weight stands for nothing."""


class FreeTarget(Protocol):
    """What is needed of a model: its density in free coordinates, and its prior."""

    def log_joint_free(self, free: Tensor, observed: Tensor, /) -> Tensor:
        """Return log p(free, observed)."""

    def log_prior(self, latents: Tensor, observed: Tensor, /) -> Tensor:
        """Return log p(latents)."""

    def sample_latents(
        self, num: int, /, *, generator: torch.Generator, observed: Tensor
    ) -> Tensor:
        """Return draws of the prior."""

    def constrain(self, free: Tensor, /) -> tuple[Tensor, Tensor]:
        """Return natural values, and log|det|."""

    def unconstrain(self, latents: Tensor, /) -> tuple[Tensor, Tensor]:
        """Return free coordinates, and log|det|."""


@dataclass(frozen=True, slots=True, eq=False)
class Component:
    """A normal in free coordinates that was found for a posterior.

    Attributes:
        location: Its mean.
        factor: Lower triangular L, L Lᵀ its covariance.
        log_mass: Log of the evidence that it stands for, in nats, up to a constant that
            is the same of all.
    """

    location: Float[Tensor, " free"]
    factor: Float[Tensor, "free free"]
    log_mass: float

    def covers(self, place: Float[Tensor, " free"]) -> bool:
        """Return whether a place is one standard deviation away or less, on average."""
        gap = (place - self.location).unsqueeze(1)
        z = torch.linalg.solve_triangular(self.factor, gap, upper=False)
        return float(z.square().mean()) < 1.0


@dataclass(frozen=True, eq=False)
class Mixture:
    """A mixture of Student's t in free coordinates.

    Attributes:
        log_shares: Log of each component's share.
        locations: Where each component stands.
        factors: Lower triangular L of each component, L Lᵀ its scale matrix.
    """

    log_shares: Float[Tensor, " component"]
    locations: Float[Tensor, "component free"]
    factors: Float[Tensor, "component free free"]

    @classmethod
    def of(cls, components: Sequence[Component]) -> "Mixture":
        """Return the mixture of components, each with a share by its mass."""
        masses = torch.tensor([c.log_mass for c in components], dtype=torch.float64)
        return cls(
            _log_shares(masses.softmax(0)),
            torch.stack([c.location for c in components]),
            torch.stack([c.factor for c in components]),
        )

    @classmethod
    def around(cls, free: Float[Tensor, "row free"]) -> "Mixture":
        """Return one Student's t of the rows' mean and covariance."""
        factor = factor_of(covariance_of(free))
        return cls(free.new_zeros(1), free.mean(0)[None], factor[None])

    def sample(
        self, num: int, *, generator: torch.Generator
    ) -> Float[Tensor, "draw free"]:
        """Return independent draws."""
        size = self.locations.shape[1]
        shares = self.log_shares.exp()
        which = torch.multinomial(shares, num, replacement=True, generator=generator)
        noise = standard_normal(num, size, generator=generator)
        spread = heavy_spread(num, generator=generator)
        moved = torch.empty_like(noise)
        for component in set(which.tolist()):  # a matrix for each row is too much
            own = which == component
            moved[own] = noise[own] @ self.factors[component].T
        return self.locations[which] + moved / spread.sqrt().unsqueeze(1)

    def component_log_prob(
        self, free: Float[Tensor, "row free"]
    ) -> Float[Tensor, "row component"]:
        """Return log share + log density of every component."""
        size = free.shape[1]
        gap = (free.unsqueeze(0) - self.locations.unsqueeze(1)).mT
        z = torch.linalg.solve_triangular(self.factors, gap, upper=False)
        distance = z.square().sum(1).t()
        log_det = self.factors.diagonal(dim1=-2, dim2=-1).abs().log().sum(-1)
        return self.log_shares + heavy_log_density(distance, size, log_det)

    def log_prob(self, free: Float[Tensor, "row free"]) -> Float[Tensor, " row"]:
        """Return the log density of rows."""
        return self.component_log_prob(free).logsumexp(1)

    def refitted(
        self,
        free: Float[Tensor, "row free"],
        log_weights: Float[Tensor, " row"],
    ) -> "Mixture":
        """Return the mixture moved to weighted rows."""
        found = self.component_log_prob(free)
        # A row too far for numbers belongs to no component.
        alive = (log_weights > -math.inf) & found.isfinite().any(1)
        if not bool(alive.any()):
            return self
        free, weights = free[alive], log_weights[alive].softmax(0)
        shares = found[alive].softmax(1) * weights.unsqueeze(1)
        totals = shares.sum(0)
        kept = [k for k in range(len(totals)) if float(totals[k]) > _LEAST_MASS]
        locations, factors = [], []
        for k in kept:
            own = shares[:, k] / totals[k]
            location = own @ free
            gap = free - location
            covariance = (own.unsqueeze(1) * gap).T @ gap
            # One half of the old scale keeps it regular where few rows carry weight.
            effective = 1.0 / float(own.square().sum())
            trust = effective / (effective + 2.0 * free.shape[1])
            old = self.factors[k] @ self.factors[k].T
            blended = trust * covariance + (1.0 - trust) * old
            locations.append(location)
            factors.append(factor_of(blended))
        return Mixture(
            _log_shares(totals[kept]),
            torch.stack(locations),
            torch.stack(factors),
        )


@dataclass(frozen=True, eq=False)
class MixtureProposal:
    """A mixture in free coordinates as a proposal; see `inference.proposal.Proposal`.

    Attributes:
        target: The model, for its coordinates.
        mixture: What is drawn from.
    """

    target: FreeTarget
    mixture: Mixture

    @property
    def nuisance_dim(self) -> int:
        """Return 0: there are no nuisances."""
        return 0

    def rsample_and_log_prob(
        self,
        observed: Float[Tensor, " observed"],  # noqa: ARG002
        num_particles: int,
        *,
        generator: torch.Generator,
    ) -> ProposalDraw:
        """Return draws with their densities."""
        free = self.mixture.sample(num_particles, generator=generator)
        latents, log_det = self.target.constrain(free)
        log_prob = self.mixture.log_prob(free) - log_det
        return ProposalDraw(latents, latents.new_empty(num_particles, 0), log_prob)

    def log_prob(
        self,
        latents: Float[Tensor, "particle latent"],
        nuisances: Float[Tensor, "particle nuisance"],  # noqa: ARG002
        observed: Float[Tensor, " observed"],  # noqa: ARG002
    ) -> Float[Tensor, " particle"]:
        """Return the density at given values."""
        is_there = torch.isfinite(latents).all(1)
        if not bool(is_there.any()):
            return latents.new_full((len(latents),), -math.inf)
        safe = torch.where(is_there.unsqueeze(1), latents, latents[is_there][:1])
        free, log_det = self.target.unconstrain(safe)
        found = self.mixture.log_prob(free) - log_det
        return torch.where(is_there, found, -math.inf)

    def components(self) -> tuple["MixtureProposal", ...]:
        """Return a proposal of each component alone."""
        mixture = self.mixture
        return tuple(
            MixtureProposal(
                self.target,
                Mixture(
                    mixture.log_shares.new_zeros(1),
                    mixture.locations[k : k + 1],
                    mixture.factors[k : k + 1],
                ),
            )
            for k in range(len(mixture.log_shares))
        )

    def refitted(self, particles: Particles) -> "MixtureProposal":
        """Return the proposal moved to weighted particles."""
        alive = particles.log_weights > -math.inf
        free, _ = self.target.unconstrain(particles.latents[alive])
        moved = self.mixture.refitted(free, particles.log_weights[alive])
        return MixtureProposal(self.target, moved)


def _log_shares(masses: Float[Tensor, " component"]) -> Float[Tensor, " component"]:
    """Return logs of shares by mass, none of them too small."""
    held = masses.clamp_min(min(_LEAST_SHARE, _LEAST_SHARES / len(masses)))
    return (held / held.sum()).log()


def covariance_of(rows: Float[Tensor, "row free"]) -> Float[Tensor, "free free"]:
    """Return the covariance of rows."""
    gap = rows - rows.mean(0)
    return gap.T @ gap / len(rows)


def factor_of(
    covariance: Float[Tensor, "free free"],
) -> Float[Tensor, "free free"]:
    """Return the Cholesky factor, with as much on the diagonal as it needs.

    How much is told by each coordinate's own scale: they may differ by any factor. What
    is not finite has a factor of nan.
    """
    scale = covariance.diagonal().clamp_min(1e-300).sqrt()
    correlation = covariance / scale / scale.unsqueeze(1)
    if not bool(correlation.isfinite().all()):
        return torch.full_like(covariance, math.nan)
    identity = torch.eye(len(covariance), dtype=covariance.dtype)
    jitter = 1e-12
    while True:
        found = torch.linalg.cholesky_ex(correlation + jitter * identity)
        factor: Tensor = scale.unsqueeze(1) * found.L
        if not int(found.info):
            return factor
        jitter *= 100.0
