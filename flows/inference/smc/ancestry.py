r"""This file keeps weights of particles together with whom they descend from.

Resampled particles share ancestors, so they are not independent of each other, but
lines of descent are, up to what resampling makes them share: each particle remembers
from which of the first N it descends (its Eve).

References:
    Chan, Lai (2013), A general theory of particle filters in hidden Markov models and
    some applications, Annals of Statistics 41(6), https://arxiv.org/abs/1312.5114
    Lee, Whiteley (2018), Variance estimation in the particle filter, Biometrika 105(3),
    https://arxiv.org/abs/1509.00394
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..resampling import resample
from ..weights import WeightTotals, check_log_weights

__all__ = ["Lineages"]


@dataclass(frozen=True, slots=True, eq=False)
class Lineages:
    """Weights and descent of particles.

    Attributes:
        log_weights: Unnormalised, in nats; log of their mean estimates the evidence.
        eves: For each particle, which of the first ones it descends from.
        num_lines: How many of them there were.
    """

    log_weights: Float[Tensor, " particle"]
    eves: Int[Tensor, " particle"]
    num_lines: int

    @classmethod
    def start(cls, log_weights: Float[Tensor, " particle"]) -> "Lineages":
        """Return particles that are their own ancestors."""
        check_log_weights(log_weights, "sequential Monte Carlo")
        num = log_weights.shape[0]
        return cls(log_weights, torch.arange(num, device=log_weights.device), num)

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
        return self.weighed(self.log_weights + log_weight_increment)

    def resample(
        self, scheme: str, generator: torch.Generator
    ) -> tuple["Lineages", Int[Tensor, " line"]]:
        """Return a particle of equal weight for each line, and their ancestors.

        Particles are rounds of all lines, one after the other (`repeated`). Those of a
        line are put side by side, so that a scheme that goes along them evenly takes
        about one of each line where weights are alike.
        """
        num = self.num_lines
        places = torch.arange(len(self.log_weights), device=self.log_weights.device)
        places = places.reshape(-1, num).t().flatten()
        ordered = self.log_weights[places]
        ancestors = places[resample(ordered, num, scheme=scheme, generator=generator)]
        equal = self.log_weights.new_full((num,), self.totals.log_evidence)
        return Lineages(equal, self.eves[ancestors], num), ancestors

    def rows(self, rows: slice) -> "Lineages":
        """Return some of the particles."""
        return replace(self, log_weights=self.log_weights[rows], eves=self.eves[rows])

    def repeated(self, times: int) -> "Lineages":
        """Return the particles so many times, one round of all after the other."""
        return replace(
            self,
            log_weights=self.log_weights.repeat(times),
            eves=self.eves.repeat(times),
        )

    def joined(self, other: "Lineages") -> "Lineages":
        """Return the particles of both, which descend from the same first ones."""
        return replace(
            self,
            log_weights=torch.cat([self.log_weights, other.log_weights]),
            eves=torch.cat([self.eves, other.eves]),
        )

    def weighed(self, log_weights: Float[Tensor, " particle"]) -> "Lineages":
        """Return the same descent of particles with these weights, on their device."""
        return Lineages(log_weights, self.eves.to(log_weights.device), self.num_lines)

    @property
    def line_totals(self) -> WeightTotals:
        """Return the totals of whole lines of descent, one for each first particle.

        Their weights add up like those of independent particles.
        """
        largest = self.log_weights.max()
        if not bool(largest > -torch.inf):
            return WeightTotals(self.num_lines, self.num_lines)
        weights = (self.log_weights - largest).exp().unsqueeze(1)
        return WeightTotals.from_log_weights(
            self.sums(weights).squeeze(1).log() + largest
        )

    def sums(
        self, values: Float[Tensor, "particle column"]
    ) -> Float[Tensor, "line column"]:
        """Return the sums of `values` over the descendants of each first particle."""
        return values.new_zeros(self.num_lines, values.shape[1]).index_add_(
            0, self.eves, values
        )
