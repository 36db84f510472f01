"""This file makes a proposal for the latents' natural values out of a flow.

The flow lives in free coordinates u; the model maps them to natural values z with
log|det dz/du|. Nuisances y stay as they are. Relative to N(0, I) on the nuisances

    log_prob = log q(u, y | x) - log|det dz/du| - log N(y; 0, I),

so that log p(z, x) - log_prob is the log weight of (z, y). However a flow came into
being, a proposal holds the version of it whose densities may enter weights: float64 and
as exact as its tolerance (`flow.kinds.for_weights`).

The flow pushes forward a base e ~ N(0, I): `FlowMap` is that map with the density at
its end, which lets annealed SMC move particles in the base.

Given an ancestral set of the latents, `rsample_remaining` draws the others from their
conditional density, which is the sum of their nodes' terms.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import ArgumentError, InferenceError
from ..flow.kinds import for_weights, in_steps, is_solved, solved_with
from ..flow.protocol import Flow, FlowDraw, Known
from ..inference.proposal import (
    DefensiveMixture,
    PriorProposal,
    Proposal,
    ProposalDraw,
)
from ..inference.shapes import Latents, LogProb, Nuisance
from ..marginal.target import FlowTarget
from ..model.shapes import ObservedRow
from ..model.standard_normal import standard_normal_log_prob

__all__ = ["KINDS", "FlowMap", "FlowProposal", "proposal_of"]

KINDS = ("flow", "prior", "mixture")
"""What particles can be drawn from."""

_PILOT_DRAWS = 200
_NUM_STEPS = (8, 16, 32, 64)
_MOST_BIAS = 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class FlowMap:
    """The map between a flow's base and natural values, solved as the flow is.

    Attributes:
        flow: In the model's columns, float64.
        model: Its target, float64.
    """

    flow: Flow
    model: FlowTarget

    @property
    def base_dim(self) -> int:
        """Number of base coordinates."""
        return self.flow.structure.state_dim

    def from_base(
        self, base: Float[Tensor, "particle base"], observed: ObservedRow
    ) -> ProposalDraw:
        """Return where base points go, with the density there."""
        draw = self.flow.from_base(base, observed.expand(base.shape[0], -1))
        latents, log_det = self.model.constrain(draw.free)
        log_prob = draw.log_prob - log_det - standard_normal_log_prob(draw.nuisances)
        return ProposalDraw(latents, draw.nuisances, log_prob)

    def log_prob(
        self, latents: Latents, nuisances: Nuisance, observed: ObservedRow
    ) -> LogProb:
        """Return the density at given values, relative to N(0, I) of the nuisances."""
        free, log_det = self.model.unconstrain(latents)
        rows = observed.expand(latents.shape[0], -1)
        log_prob = self.flow.log_prob(free, nuisances, rows)
        return log_prob - log_det - standard_normal_log_prob(nuisances)


@dataclass(frozen=True, slots=True, eq=False)
class FlowProposal:
    """A flow as a proposal; see `inference.proposal.Proposal`.

    Attributes:
        flow: In the model's columns, of any kind and precision; what is kept is its
            version for weights.
        model: Its target, float64.
        tolerance: Of the flow's solver; a flow that is solved more exactly stays so.
    """

    flow: Flow
    model: FlowTarget
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        object.__setattr__(self, "flow", for_weights(self.flow, self.tolerance))

    @property
    def nuisance_dim(self) -> int:
        """Number of nuisance columns."""
        return self.flow.structure.nuisance_dim

    def rsample_and_log_prob(
        self, observed: ObservedRow, num_particles: int, *, generator: torch.Generator
    ) -> ProposalDraw:
        """Return draws given the observed values, with their densities.

        Raises:
            InferenceError: If a density cannot be computed, as the flow is too stiff.
        """
        base = self.flow.sample_base(num_particles, generator=generator)
        draw = self.from_base(base, observed)
        num_unsolved = int(draw.log_prob.isnan().sum())
        if num_unsolved:
            which = f"at these data {num_unsolved} of {num_particles} draws"
            raise InferenceError.at(
                "flow",
                f"{which} have no density, as the flow's numbers overflow"
                if self.flow.is_exact
                else f"{which} cannot be solved exactly enough for weights in bounded "
                "time",
                "`daphne-flows infer`, which needs no flow, or one that is trained on",
            )
        return draw

    def from_base(
        self, base: Float[Tensor, "particle base"], observed: ObservedRow
    ) -> ProposalDraw:
        """Return where base points go, with the proposal's density there."""
        return FlowMap(self.flow, self.model).from_base(base, observed)

    def log_prob(
        self, latents: Latents, nuisances: Nuisance, observed: ObservedRow
    ) -> LogProb:
        """Return the density at given values, relative to N(0, I) of the nuisances."""
        return FlowMap(self.flow, self.model).log_prob(latents, nuisances, observed)

    def rsample_remaining(
        self,
        given: Mapping[str, Float[Tensor, "particle value"]],
        observed: ObservedRow,
        *,
        generator: torch.Generator,
        nuisances: Nuisance | None = None,
    ) -> ProposalDraw:
        """Return draws of the remaining latents given values of some.

        Their `log_prob` is that of the remaining latents, their `log_prob_per_node`
        one for every latent, given ones too, in `flow.structure.names`' order.

        Args:
            given: Values by the document's name of a latent, one row per particle;
                with each latent its ancestors in the inverse.
            observed: Observed values.
            generator: Source of the draws.
            nuisances: Nuisances, of which those of given latents are used; drawn from
                N(0, I), their target, if None.

        Raises:
            ArgumentError: If nothing is given, or an ancestor in the inverse is not.
            ModelError: If a value is outside its support.
            InferenceError: If the support of a given latent depends on a latent that is
                not given.
        """
        structure = self.flow.structure
        nodes = structure.ancestral(given)
        if not nodes:
            raise ArgumentError.at("given latents", "none", "one at least", "none")
        num = len(next(iter(given.values())))
        latents, free = self._placed(given, num)
        shape = (num, structure.nuisance_dim)
        if nuisances is None:
            nuisances = torch.randn(shape, generator=generator, dtype=free.dtype)
        rows = observed.expand(num, -1)
        known = Known(free, nuisances, given)
        drawn = self.flow.rsample_remaining(known, rows, generator=generator)
        natural, _ = self.model.constrain(drawn.free)
        is_given = ~torch.isnan(latents)
        terms = drawn.log_prob_per_node - self._reference(drawn)
        remaining = [i for i in range(len(structure.blocks)) if i not in nodes]
        return ProposalDraw(
            torch.where(is_given, latents, natural),
            drawn.nuisances,
            terms[:, remaining].sum(-1),
            terms,
        )

    def _placed(
        self, given: Mapping[str, Tensor], num: int
    ) -> tuple[Latents, Float[Tensor, "particle free"]]:
        """Values in the model's columns and in free coordinates, nan where not given.

        Raises:
            InferenceError: If a given value has no free coordinate.
        """
        layout = self.model.layout
        shape = (num, layout.latent_dim)
        latents = torch.full(
            shape, torch.nan, dtype=self.flow.dtype, device=self.flow.device
        )
        variables = [layout.variable(name) for name in given]
        for variable in variables:
            values = given[variable.name].reshape(num, variable.size)
            latents[:, variable.start : variable.stop] = values
        free, _ = self.model.unconstrain(latents)
        for variable in variables:
            columns = free[:, variable.free_start : variable.free_stop]
            if not bool(torch.isfinite(columns).all()):
                raise InferenceError.at(
                    "given latents",
                    f"{variable.label} has no free coordinate",
                    "a value inside its support, which given latents decide",
                )
        return latents, free

    def _reference(self, draw: FlowDraw) -> Float[Tensor, "particle node"]:
        """Per node log|det dz/du| + log N(y), in sampling order."""
        place = {v.name: i for i, v in enumerate(self.model.layout.latents)}
        structure = self.flow.structure
        order = [place[name] for name in structure.names]
        terms = self.model.constrain_terms(draw.free)[:, order]
        counts = [block.nuisances for block in structure.blocks]
        normal = [
            standard_normal_log_prob(y) for y in torch.split(draw.nuisances, counts, -1)
        ]
        return terms + torch.stack(normal, -1)

    def differentiable(self, observed: ObservedRow) -> FlowMap:
        """Return the map from the base in fixed steps, which carry gradients.

        The number of steps is doubled until the density at pilot draws is that of the
        proposal.

        Raises:
            InferenceError: If no number of steps that is tried suffices.
        """
        if not is_solved(self.flow):
            return FlowMap(self.flow, self.model)
        generator = torch.Generator().manual_seed(0)
        base = self.flow.sample_base(_PILOT_DRAWS, generator=generator)
        # The one engine of steps in double precision.
        stepped = solved_with(self.flow, "torch")
        error = math.inf
        with torch.no_grad():
            exact = self.from_base(base, observed).log_prob
            for num_steps in _NUM_STEPS:
                tried = FlowMap(in_steps(stepped, num_steps), self.model)
                found = tried.from_base(base, observed).log_prob
                error = float((found - exact).abs().median())
                if error < _MOST_BIAS:
                    return tried
        raise InferenceError.at(
            "flow",
            f"{_NUM_STEPS[-1]} steps do not solve it exactly enough for gradients",
            f"an error below {_MOST_BIAS} nats",
            f"{error:.2g} nats",
        )


def proposal_of(
    kind: str, flow: Flow, model: FlowTarget, *, mixture_weight: float = 0.1
) -> Proposal:
    """Return the proposal of a name.

    Args:
        kind: One of `KINDS`.
        flow: In the model's columns, of any precision.
        model: Its target, float64.
        mixture_weight: Share of the prior in the mixture.

    Raises:
        ArgumentError: If the name or the share is no good.
    """
    if kind not in KINDS:
        raise ArgumentError.at(
            "proposal", "unknown", f"one of {', '.join(KINDS)}", kind
        )
    prior = PriorProposal(model)
    if kind == "prior":
        return prior
    usual = FlowProposal(flow, model)
    return usual if kind == "flow" else DefensiveMixture(usual, prior, mixture_weight)
