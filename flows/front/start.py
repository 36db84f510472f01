"""This file finds a proposal around the modes of a posterior, refitted to its draws."""

from dataclasses import dataclass
from functools import cached_property

import torch

from ..inference.cautions import K_HAT_LIMIT
from ..inference.covering import covering
from ..inference.laplace import laplace_mixture
from ..inference.matching import matched_mixture
from ..inference.mixture import MixtureProposal
from ..inference.pareto import pareto_k_hat
from ..inference.particles import Particles
from ..inference.proposal import DefensiveMixture, PriorProposal, Proposal
from ..inference.smc.result import run_seed
from ..model.model import Model
from ..nested_laplace.nesting import Nesting
from ..nested_laplace.proposal import NestedProposal
from ..nested_laplace.target import LaplaceMarginal
from .question import BATCH, Question
from .targets import Target

__all__ = [
    "ENOUGH_ESS",
    "Start",
    "coordinates",
    "defended",
    "modes_of",
    "refitted",
    "start",
    "weighed_start",
]

ENOUGH_ESS = 1_000.0
"""Effective sample size of draws that carry enough weight."""

_PRIOR_SHARE = 0.05
_REFITS = 4
_NESTED_PRIOR_SHARE = 0.15
"""A scale's posterior near 0 is the prior's, in whose free coordinate it is a tail."""
_MOST_COVERED = 12
"""Latents; cells of more of them have too few rows."""
_FINE_SHARE = 0.5
_GOOD_SHARE = 0.3
"""Below this share a tail can be missed of which k-hat knows nothing."""
_SHARE_PER_COORDINATE = 0.75
"""Of the effective sample size, where normals have about the posterior's shape."""


@dataclass(frozen=True, eq=False)
class Start:
    """What lies around the modes, and weighted draws that say how good it is.

    Attributes:
        around: A mixture, in coordinates of its own.
        coordinates: Which these are: free or standardised.
        proposal: It, with the prior mixed in.
        particles: Weighted draws of the proposal.
    """

    around: MixtureProposal
    coordinates: str
    proposal: Proposal
    particles: Particles

    @property
    def share(self) -> float:
        """The effective sample size for each draw."""
        return self.particles.totals.ess / self.particles.num_particles

    @cached_property
    def is_good(self) -> bool:
        """Whether the draws carry enough weight."""
        enough = max(ENOUGH_ESS, _GOOD_SHARE * self.particles.num_particles)
        if self.particles.totals.ess < enough:
            return False
        return pareto_k_hat(self.particles.log_weights) <= K_HAT_LIMIT

    @property
    def has_shape(self) -> bool:
        """Whether it has about the shape of the posterior.

        Weights of normals that are a little wrong in each of many coordinates vary
        much, and tempering mends that. Where few coordinates do the same the posterior
        has tails or bends where no particle begins: moves find them late, and no figure
        says so.
        """
        num_coordinates = self.around.mixture.locations.shape[1]
        return self.share >= _SHARE_PER_COORDINATE**num_coordinates


def start(question: Question) -> Start | None:
    """A proposal around the modes, refitted while that helps; None if there is none.

    Where curvature at the modes says too little of the mass around them, a posterior of
    few latents is covered with many normals; failing that, normals are fitted by their
    scores, in the coordinates in which they are worth most.
    """
    question.clock.say(0.0, "looking for modes")
    generator = torch.Generator().manual_seed(run_seed(question.seed, 1_000_004))
    target = question.target
    begun = modes_of(question, target, generator)
    first = None
    if begun is not None:
        first = refitted(question, weighed_start(question, begun, "free"))
    if (first is not None and first.is_good) or question.clock.is_over():
        return first
    covered = _covered(question, generator)
    if covered is not None and covered.is_good:
        return covered
    question.clock.say(0.0, "fitting normals around the modes")
    found: list[tuple[float, str, MixtureProposal]] = []
    for name, each in coordinates(target).items():
        own = None if each is target else modes_of(question, each, generator)
        fit = matched_mixture(
            each,
            question.observed,
            [places for places in (begun, own) if places is not None],
            generator=generator,
            is_over=question.clock.is_over,
        )
        if fit is not None:
            found.append((fit[1], name, MixtureProposal(each, fit[0])))
    if not found:
        return first
    _, name, proposal = max(found, key=lambda each: each[0])
    return refitted(question, weighed_start(question, proposal, name))


def modes_of(
    question: Question,
    target: Target | LaplaceMarginal,
    generator: torch.Generator,
) -> MixtureProposal | None:
    """Return what lies around the modes in a model's coordinates; None if nothing.

    A hierarchy's highest point, all values in their common place and no scale, is none
    in standardised coordinates.
    """
    modes = laplace_mixture(
        target,
        question.observed,
        generator=generator,
        is_over=question.clock.is_over,
        is_dear=isinstance(target, LaplaceMarginal),
    )
    return None if modes is None else MixtureProposal(target, modes)


def _covered(question: Question, generator: torch.Generator) -> Start | None:
    """Return many normals that cover the posterior, of few latents; None if lost."""
    target = question.target
    if target.layout.latent_dim > _MOST_COVERED:
        return None
    question.clock.say(0.0, "covering the posterior")
    cover = covering(
        target,
        question.observed,
        generator=generator,
        is_over=question.clock.is_over,
    )
    if cover is None:
        return None
    # Refitted, its components would leave the ends of ridges.
    return weighed_start(question, MixtureProposal(target, cover), "free")


def coordinates(target: Target) -> dict[str, Target]:
    """Return a model in the coordinates that particles may move in."""
    found = {"free": target}
    if isinstance(target, Model) and target.coordinates.has_located:
        found["standardised"] = target.standardised()
    return found


def refitted(
    question: Question,
    begun: Start,
    turns: int = _REFITS,
    nesting: Nesting | None = None,
) -> Start:
    """Return the best of a start and what it is refitted to.

    Args:
        question: What was asked.
        begun: The start.
        turns: How often draws are weighed at most, those of the start among them.
        nesting: How other latents are drawn given those of the proposal, if any are.
    """
    best = now = begun
    for turn in range(1, turns):
        totals = now.particles.totals
        if best.is_good and totals.ess >= _FINE_SHARE * question.num_particles:
            break
        if totals.log_sum == -torch.inf or question.clock.is_over():
            break
        own = now.particles if nesting is None else nesting.outer(now.particles)
        around = now.around.refitted(own)
        now = weighed_start(question, around, now.coordinates, turn, nesting)
        if now.particles.totals.ess > best.particles.totals.ess:
            best = now
    return best


def weighed_start(
    question: Question,
    around: MixtureProposal,
    name: str,
    turn: int = 0,
    nesting: Nesting | None = None,
) -> Start:
    """Return a proposal around modes, the prior mixed in, and weighted draws of it.

    Args:
        question: What was asked.
        around: What lies around the modes.
        name: Of its coordinates.
        turn: How often it was refitted; decides the draws, with the seed.
        nesting: How other latents are drawn given those of the proposal, if any are.
    """
    question.clock.say(0.0, "weighing draws around the modes")
    proposal = defended(question, around, nesting)
    particles = question.weighed(
        proposal,
        question.num_particles,
        seed=run_seed(question.seed, 1_000_005 + turn),
        batch_size=BATCH,
    )
    return Start(around, name, proposal, particles)


def defended(
    question: Question, around: MixtureProposal, nesting: Nesting | None
) -> Proposal:
    """Return a proposal around modes with the prior mixed in, of all latents."""
    if nesting is None:
        prior = PriorProposal(question.target)
        return DefensiveMixture(around, prior, _PRIOR_SHARE)
    prior = PriorProposal(nesting.marginal)
    outer = DefensiveMixture(around, prior, _NESTED_PRIOR_SHARE)
    return NestedProposal(outer, nesting)
