r"""This file draws all latents: some by a proposal, nearly Gaussian ones given these.

With c ~ q of the others, and v_1 .. v_M around the mode given c, one of these is kept,
v_J, with J by the weights w_k = p(c, v_k, x) / N(v_k | c). The draw's density is

    q(c) p(c, v_J, x) / (1/M Σ w_k),

whose reciprocal is an unbiased estimate: weights are the mean of M, and exact in
the limit however rough the Gaussian is.

References:
    Andrieu, Roberts, "The pseudo-marginal approach for efficient Monte Carlo
    computations", Annals of Statistics 2009.
    Shephard, Pitt, "Likelihood analysis of non-Gaussian measurement time series",
    Biometrika 1997.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..inference.proposal import Proposal, ProposalDraw
from ..inference.shapes import Latents, LogProb, Nuisance
from ..model.shapes import ObservedRow
from .nesting import Nesting
from .noise import log_density, noise
from .part import Around

__all__ = ["NestedProposal"]

_SEED = 20_090_401


@dataclass(frozen=True, slots=True, eq=False)
class NestedProposal:
    """A proposal of all latents; see `inference.proposal.Proposal`.

    Attributes:
        outer: Of the latents that are not nearly Gaussian, without nuisances.
        nesting: How the others are drawn given these.
    """

    outer: Proposal
    nesting: Nesting

    @property
    def nuisance_dim(self) -> int:
        """Return 0."""
        return 0

    def rsample_and_log_prob(
        self, observed: ObservedRow, num_particles: int, *, generator: torch.Generator
    ) -> ProposalDraw:
        """Return draws given the observed values, with their densities."""
        draw = self.outer.rsample_and_log_prob(
            observed, num_particles, generator=generator
        )
        filled = self.nesting.marginal.coordinates.filled(draw.latents.nan_to_num())
        latents, log_prob = self._tried(filled, observed, None, generator)
        # What had no meaning when it was drawn weighs nothing.
        is_lost = torch.isnan(draw.latents).any(1, keepdim=True)
        latents = torch.where(is_lost, math.nan, latents)
        return ProposalDraw(latents, draw.nuisances, draw.log_prob + log_prob)

    def log_prob(
        self, latents: Latents, nuisances: Nuisance, observed: ObservedRow
    ) -> LogProb:
        """Return the density at given values, one of them being the kept one.

        The others are drawn anew, for the same rows in the same order the same ones.
        """
        rows = latents.reshape(-1, latents.shape[-1])
        generator = torch.Generator().manual_seed(_SEED)
        own = rows[:, self.nesting.marginal.whole.columns]
        _, log_rest = self._tried(rows, observed, own, generator)
        outer = self.outer.log_prob(
            latents[..., self.nesting.marginal.coordinates.columns], nuisances, observed
        )
        return outer + log_rest.reshape(outer.shape)

    @torch.no_grad()
    def _tried(
        self,
        filled: Tensor,
        observed: ObservedRow,
        first: Tensor | None,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Return all latents and the density of the kept ones given the others.

        Args:
            filled: All latents.
            observed: Data.
            first: What is kept, drawn if None.
            generator: Of the draws.
        """
        part = self.nesting.marginal.whole
        found, densities = [], []
        start = 0
        for rows, data in part.parts_of(filled, observed.unsqueeze(0)):
            around = part.around(rows, data)
            own = None if first is None else first[start : start + len(rows)]
            start += len(rows)
            kept, log_prob = self._tried_around(around, rows, data, own, generator)
            found.append(kept)
            densities.append(log_prob)
        return torch.cat(found), torch.cat(densities)

    def _tried_around(
        self,
        around: Around,
        rows: Tensor,
        observed: Tensor,
        first: Tensor | None,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        model, columns = self.nesting.marginal.model, around.part.columns
        num, log_root = len(rows), around.log_root
        freedom = self.nesting.freedom
        kept, of_kept = rows, rows.new_full((num,), -math.inf)
        total = of_kept
        for number in range(self.nesting.num_inner):
            if number == 0 and first is not None:
                own, away = first, around.residuals(first)
            else:
                away = noise(
                    (num, len(columns)), self.nesting.freedom, generator=generator
                )
                own = around.at(away)
            place = rows.index_copy(1, columns, own.nan_to_num())
            log_joint = model.log_joint(place, observed)
            log_prob = log_root + log_density(away, freedom)
            log_weight = (log_joint - log_prob).nan_to_num(
                -math.inf, -math.inf, -math.inf
            )
            total = torch.logaddexp(total, log_weight)
            # Each replaces what is kept with its share of the weight so far.
            chance = (log_weight - total).exp()
            is_next = torch.rand(num, generator=generator, dtype=rows.dtype) < chance
            if first is not None:
                is_next = torch.full_like(is_next, number == 0)
            kept = torch.where(is_next.unsqueeze(1), place, kept)
            of_kept = torch.where(is_next, log_joint, of_kept)
        mean = total - math.log(self.nesting.num_inner)
        is_lost = ~(mean > -math.inf)
        if first is None:  # a draw that weighs nothing has no values
            kept = torch.where(is_lost.unsqueeze(1), math.nan, kept)
        # Of values without weight any density will do.
        has_weight = is_lost & (of_kept > -math.inf) & (first is not None)
        lost = torch.where(has_weight, math.nan, 0.0).to(of_kept)
        return kept, torch.where(is_lost, lost, of_kept - mean)
