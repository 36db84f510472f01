"""This file looks for mass that weighted draws have missed, by moving from them.

Draws of a proposal that never goes to a part of the posterior (a funnel's mouth, a tail
along a bend) carry fine weights, and no figure made of these knows of it. Moves that
keep the posterior do go there: some of the draws, picked by weight, are moved, and the
importance weight is looked at where they come. Of the posterior's mass hardly any lies
where that is above the largest weight of ten thousand draws, unless these missed it.
"""

import math

import torch

from ..inference.cautions import Caution
from ..inference.log_weight import log_weights
from ..inference.noise import standard_normal
from ..inference.particles import Particles
from ..inference.proposal import PriorProposal, Proposal, ProposalDraw
from ..inference.smc.coordinates import FreeSpace, WatchedSpace
from ..inference.smc.moves import Hamiltonian
from ..inference.smc.result import run_seed
from ..inference.smc.schedule import Stage, weighted_factor
from ..inference.smc.slices import MOST_SLICED, SliceMoves
from .clock import OutOfTime
from .question import Question

__all__ = ["missed_mass"]

_MOVED = 500
_MOVES = 2
_MOST_ABOVE = 0.01
"""Share of the moved ones; draws that miss nothing leave some thousandths."""
_FEW_DRAWS = 10.0
"""Above the largest weight of n draws lie some 1 / n of the mass, at most so many."""


def missed_mass(
    question: Question, proposal: Proposal, particles: Particles
) -> list[Caution]:
    """Return a caution if moves find places that weigh more than any draw.

    Args:
        question: What was asked, of continuous latents.
        proposal: Whose draws the particles are.
        particles: Weighted, some of them above 0.
    """
    target = question.target
    generator = torch.Generator().manual_seed(run_seed(question.seed, 1_000_013))
    weights = particles.normalized_weights
    free, _ = target.unconstrain(particles.latents)
    alive = weights > 0.0
    free, weights = free[alive], weights[alive]
    num_coordinates = free.shape[1]
    trajectories = Hamiltonian(16)
    is_narrow = num_coordinates <= MOST_SLICED
    move = SliceMoves(trajectories) if is_narrow else trajectories
    stage = Stage(
        1.0,
        weighted_factor(free, weights),
        move.first_step_size(num_coordinates),
        _MOVES,
    )
    # Moves ask the density of the prior, which is cheaper than that of a flow.
    space = WatchedSpace(
        FreeSpace(target, PriorProposal(target), question.observed),
        question.clock.check,
    )
    rows = torch.multinomial(weights, _MOVED, replacement=True, generator=generator)
    try:
        point = space.at(free[rows])
        for _ in range(_MOVES):
            point = move.step(point, space.at, stage, generator).point
    except OutOfTime:
        return []
    with torch.no_grad():
        latents, _ = target.constrain(point.coordinates)
        nuisances = standard_normal(_MOVED, proposal.nuisance_dim, generator=generator)
        log_prob = proposal.log_prob(latents, nuisances, question.observed)
        draw = ProposalDraw(latents, nuisances, log_prob)
        moved = log_weights(target, draw, question.observed)
    excess = moved - particles.log_weights.max()
    share = float((excess > 0.0).double().mean())
    if share <= max(_MOST_ABOVE, _FEW_DRAWS / particles.num_particles):
        return []
    times = math.exp(min(float(excess.max()), 700.0))
    return [
        Caution(
            f"moves from the draws find places that weigh up to {times:.2g} times as "
            f"much as any draw, {100.0 * share:.1f} % of all moves",
            "the draws have missed a part of the posterior",
            "Use --method smc",
        )
    ]
