"""This file chooses the coordinates in which particles that a flow gives are moved.

A flow whose draws carry weight has learnt the posterior's shape: in its base N(0, I)
the moves need not learn it again. For data unlike any that it was trained on its map is
stiff and leads elsewhere; each move would solve it again, to no use. Then particles
start from a Student's t of the location and scale of the flow's draws, the prior mixed
in, whose density costs next to nothing, and move in free coordinates.
"""

from ..errors import InferenceError
from ..inference.cautions import Caution
from ..inference.importance import importance_particles
from ..inference.mixture import Mixture, MixtureProposal
from ..inference.proposal import DefensiveMixture, PriorProposal, Proposal
from ..inference.smc.coordinates import BaseSpace, FreeSpace, Space
from ..marginal.target import FlowTarget
from ..model.shapes import ObservedRow
from ..proposals.flow import FlowProposal

__all__ = ["space_of"]

_PILOT = 500
_LEAST_SHARE = 0.01
_PRIOR_SHARE = 0.2


def space_of(
    proposal: Proposal, model: FlowTarget, data: ObservedRow, *, seed: int
) -> tuple[Space, tuple[Caution, ...]]:
    """Return the space of a proposal, and what to know of the choice.

    Args:
        proposal: What particles start from.
        model: The target.
        data: The observed values.
        seed: Of the pilot draws.
    """
    match proposal:
        case FlowProposal():
            flow, mixed = proposal, False
        case DefensiveMixture(proposal=FlowProposal() as part):
            flow, mixed = part, True
        case _:
            return FreeSpace(model, proposal, data), ()
    pilot = importance_particles(model, flow, data, _PILOT, seed=seed)
    share = pilot.totals.ess_fraction
    if share >= _LEAST_SHARE and mixed:
        return FreeSpace(model, proposal, data), ()
    reason = (
        f"its draws carry too little weight (ESS {pilot.totals.ess:.1f} of {_PILOT})"
    )
    if share >= _LEAST_SHARE:
        try:
            return BaseSpace(model, flow.differentiable(data), data), ()
        except InferenceError:
            reason = "no affordable number of steps solves it exactly enough"
    free, _ = model.unconstrain(pilot.latents)
    usable = free[free.square().isfinite().all(1)]
    note = Caution(
        f"the flow is of little use for these data: {reason}",
        "particles started from a Student's t where its draws lie, the prior mixed in, "
        "and moved in free coordinates",
        "Nothing is to be done; `daphne-flows infer` needs no flow",
    )
    prior = PriorProposal(model)
    if len(usable) < 2:
        return FreeSpace(model, prior, data), (note,)
    around = MixtureProposal(model, Mixture.around(usable))
    start = DefensiveMixture(around, prior, _PRIOR_SHARE)
    return FreeSpace(model, start, data), (note,)
