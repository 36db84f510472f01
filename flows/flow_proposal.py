"""This file makes a proposal for the latents' natural values out of a flow.

The flow lives in free coordinates u; the model maps them to natural values z with
log|det dz/du|. Nuisances y stay as they are. Relative to N(0, I) on the nuisances

    log_prob = log q(u, y | x) - log|det dz/du| - log N(y; 0, I),

so that log p(z, x) - log_prob is the log weight of (z, y). Everything is float64, with
the solver that the artifact declares.

The flow pushes forward a base e ~ N(0, I): `from_base` is that map with the density
at its end, which lets annealed SMC move particles in the base.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .cnf.engine import Engine, TorchEngine
from .cnf.flow import ConditionalFlow
from .errors import InferenceError, Problem
from .inference.proposal import (
    DefensiveMixture,
    PriorProposal,
    Proposal,
    ProposalDraw,
)
from .model.density import Model

__all__ = ["KINDS", "FlowProposal", "proposal_of"]

KINDS = ("flow", "prior", "mixture")
"""What particles can be drawn from."""

_PILOT_DRAWS = 200
_NUM_STEPS = (8, 16, 32, 64)
_MOST_BIAS = 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class FlowProposal:
    """A trained flow as a proposal; see `inference.proposal.Proposal`.

    Attributes:
        flow: In the model's columns, float64.
        model: Its target, float64.
        engine: Solves the flow; the flow's own if None.
    """

    flow: ConditionalFlow
    model: Model
    engine: Engine | None = None

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
        base = self.flow.sample_base(num_particles, generator=generator)
        return self.from_base(base, observed)

    @property
    def base_dim(self) -> int:
        """Number of base coordinates."""
        return self.flow.structure.state_dim

    def from_base(
        self,
        base: Float[Tensor, "particle base"],
        observed: Float[Tensor, " observed"],
    ) -> ProposalDraw:
        """Return where base points go, with the proposal's density there."""
        rows = observed.expand(base.shape[0], -1)
        free, auxiliary, to_free = self.flow.base_to_latent(
            base, rows, engine=self.engine
        )
        latents, to_natural = self.model.constrain(free)
        log_prob = self.flow.base_log_prob(base).sum(-1) - to_free.sum(-1) - to_natural
        return ProposalDraw(latents, auxiliary, log_prob - _standard_normal(auxiliary))

    def log_prob(
        self,
        latents: Float[Tensor, "particle latent"],
        auxiliary: Float[Tensor, "particle auxiliary"],
        observed: Float[Tensor, " observed"],
    ) -> Float[Tensor, " particle"]:
        """Return the density at given values, relative to N(0, I) of the nuisances."""
        free, log_det = self.model.unconstrain(latents)
        rows = observed.expand(latents.shape[0], -1)
        log_prob = self.flow.log_prob(free, auxiliary, rows, engine=self.engine)
        return log_prob - log_det - _standard_normal(auxiliary)

    def differentiable(self, observed: Float[Tensor, " observed"]) -> "FlowProposal":
        """Return the proposal with fixed steps, which carry gradients.

        The number of steps is doubled until the density at pilot draws is that of the
        adaptive solve.

        Raises:
            InferenceError: If no number of steps that is tried suffices.
        """
        generator = torch.Generator().manual_seed(0)
        base = self.flow.sample_base(_PILOT_DRAWS, generator=generator)
        error = math.inf
        with torch.no_grad():
            exact = self._base_log_prob(base, observed)
            for num_steps in _NUM_STEPS:
                tried = FlowProposal(self.flow, self.model, TorchEngine(num_steps))
                found = tried._base_log_prob(base, observed)
                error = float((found - exact).abs().median())
                if error < _MOST_BIAS:
                    return tried
        raise InferenceError(
            Problem(
                "flow",
                f"{_NUM_STEPS[-1]} steps do not solve it exactly enough for gradients",
                f"an error below {_MOST_BIAS} nats",
                f"{error:.2g} nats",
            )
        )

    def _base_log_prob(
        self, base: Float[Tensor, "particle base"], observed: Tensor
    ) -> Float[Tensor, " particle"]:
        return self.from_base(base, observed).log_prob


def proposal_of(
    kind: str, flow: ConditionalFlow, model: Model, *, mixture_weight: float = 0.1
) -> Proposal:
    """Return the proposal of a name.

    Args:
        kind: One of `KINDS`.
        flow: In the model's columns, float64.
        model: Its target, float64.
        mixture_weight: Share of the prior in the mixture.

    Raises:
        ValueError: If the name or the share is no good.
    """
    if kind not in KINDS:
        raise ValueError(f"proposal: expected one of {', '.join(KINDS)}; got {kind}")
    usual, prior = FlowProposal(flow, model), PriorProposal(model)
    if kind == "flow":
        return usual
    return prior if kind == "prior" else DefensiveMixture(usual, prior, mixture_weight)


def _standard_normal(values: Tensor) -> Tensor:
    constant = 0.5 * math.log(2.0 * math.pi) * values.shape[-1]
    return -0.5 * values.square().sum(-1) - constant
