"""This file makes a proposal for the latents' natural values out of a flow.

The flow lives in free coordinates u; the model maps them to natural values z with
log|det dz/du|. Nuisances y stay as they are. Relative to N(0, I) on the nuisances

    log_prob = log q(u, y | x) - log|det dz/du| - log N(y; 0, I),

so that log p(z, x) - log_prob is the log weight of (z, y). Everything is float64, with
the solver that the artifact declares.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .cnf.flow import ConditionalFlow
from .inference.proposal import ProposalDraw
from .model.density import Model

__all__ = ["FlowProposal"]


@dataclass(frozen=True, slots=True, eq=False)
class FlowProposal:
    """A trained flow as a proposal; see `inference.proposal.Proposal`.

    Attributes:
        flow: In the model's columns, float64.
        model: Its target, float64.
    """

    flow: ConditionalFlow
    model: Model

    @property
    def auxiliary_dim(self) -> int:
        """Number of nuisance columns."""
        return self.flow.structure.auxiliary_dim

    def rsample_and_log_prob(
        self,
        observed: Float[Tensor, " observed"],
        num_particles: int,
        *,
        generator: torch.Generator,
    ) -> ProposalDraw:
        """Return draws given the observed values, with their densities."""
        rows = observed.expand(num_particles, -1)
        draw = self.flow.rsample_and_log_prob(rows, generator=generator)
        latents, log_det = self.model.constrain(draw.free)
        log_prob = draw.log_prob - log_det - _standard_normal(draw.auxiliary)
        return ProposalDraw(latents, draw.auxiliary, log_prob)

    def log_prob(
        self,
        latents: Float[Tensor, "particle latent"],
        auxiliary: Float[Tensor, "particle auxiliary"],
        observed: Float[Tensor, " observed"],
    ) -> Float[Tensor, " particle"]:
        """Return the density at given values, relative to N(0, I) of the nuisances."""
        free, log_det = self.model.unconstrain(latents)
        rows = observed.expand(latents.shape[0], -1)
        log_prob = self.flow.log_prob(free, auxiliary, rows)
        return log_prob - log_det - _standard_normal(auxiliary)


def _standard_normal(values: Tensor) -> Tensor:
    constant = 0.5 * math.log(2.0 * math.pi) * values.shape[-1]
    return -0.5 * values.square().sum(-1) - constant
