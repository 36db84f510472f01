"""This file answers by importance sampling: from the prior, a flow, or around modes."""

import math
from dataclasses import dataclass

import torch

from ..errors import ArgumentError, Problem
from ..inference.cautions import K_HAT_LIMIT
from ..inference.importance import importance_particles, importance_sample
from ..inference.laplace import laplace_mixture
from ..inference.matching import matched_mixture
from ..inference.mixture import MixtureProposal
from ..inference.pareto import pareto_k_hat
from ..inference.particles import Particles
from ..inference.proposal import DefensiveMixture, PriorProposal, Proposal
from ..inference.smc.result import run_seed
from ..marginal.collapsed import CollapsedModel
from ..model.model import Model
from .answer import Inference
from .doubts import left_out, weak, without_mean, without_meaning
from .lost_digits import lost_digits
from .question import Question
from .sampling import num_without_meaning

__all__ = [
    "Start",
    "around_modes",
    "coordinates",
    "pilot",
    "prior",
    "start",
    "weighted",
    "with_flow",
]

_PILOT = 10_000
_FIRST = 500
_HOPE = 0.25
_ENOUGH_ESS = 1_000.0
_HOPEFUL_ESS = 5.0
_MOST_WORK = 50_000_000
"""Most draws times operations of a pilot, some seconds of work."""
_MOST_PILOT = 2_000_000
_PRIOR_SHARE = 0.05
_REFITS = 4
_FINE_SHARE = 0.5
_GOOD_SHARE = 0.3
"""Below this share a tail can be missed of which k-hat knows nothing."""
_BATCH = 1_000


def prior(question: Question, why: str) -> Inference:
    """Draws of the prior, weighted by the data."""
    return weighted(question, question.drawn(question.num_particles), why)


def pilot(question: Question) -> Inference | None:
    """The answer of draws of the prior, if they carry enough weight."""
    # Counted, not timed: equal seeds give equal answers on every machine.
    most = min(_MOST_PILOT, _MOST_WORK // len(question.model.lowered.dag))
    num = max(_PILOT, question.num_particles)
    # A few draws of a large model show that all that can be made would be too few.
    least = _HOPE * question.target_ess / max(most, num)
    is_large = _FIRST * least > 1.0
    if is_large and question.drawn(_FIRST).totals.ess_fraction < least:
        return None
    before = question.clock.left
    particles = question.drawn(num)
    ess = particles.totals.ess
    if _HOPEFUL_ESS <= ess < question.target_ess:
        wanted = math.ceil(1.5 * num * question.target_ess / ess)
        is_small = wanted <= most
        left = question.clock.left
        fits = math.isinf(left) or (before - left) * wanted / num <= left
        if is_small and fits:
            particles = question.drawn(wanted)
    is_fine = particles.totals.ess >= question.target_ess
    if not is_fine or pareto_k_hat(particles.log_weights) > K_HAT_LIMIT:
        return None
    why = "draws of the prior carry enough weight: importance sampling from it"
    return weighted(question, particles, why)


def with_flow(question: Question, flow: Proposal, *, must: bool) -> Inference | str:
    """The answer of a trained flow, or why its draws carry too little weight."""
    particles = importance_particles(
        question.target,
        flow,
        question.observed,
        question.num_particles,
        seed=question.seed,
    )
    ess, k_hat = particles.totals.ess, pareto_k_hat(particles.log_weights)
    if not must and not (ess >= _ENOUGH_ESS and k_hat <= K_HAT_LIMIT):
        figures = f"ESS {ess:,.0f} of {particles.num_particles:,}, k-hat {k_hat:.2f}"
        return f"draws of the trained flow carry too little weight ({figures})"
    if ess >= _ENOUGH_ESS:
        particles = _enough(question, flow, particles)
    why = "as asked" if must else "draws of the trained flow carry enough weight"
    return weighted(question, particles, why, method="flow")


@dataclass(frozen=True, eq=False)
class Start:
    """A proposal around the modes, and how good it is.

    Attributes:
        around: What lies around the modes; None where no mode was found.
        particles: Weighted draws of it, with the prior mixed in.
        is_good: Whether they carry enough weight.
        coordinates: Those of the mixture: free or standardised.
    """

    around: MixtureProposal | None
    particles: Particles | None
    is_good: bool
    coordinates: str = "free"


def start(question: Question) -> Start:
    """A proposal around the modes, refitted while that helps.

    Where curvature at the modes says too little of the mass around them, normals are
    fitted by their scores, in the coordinates in which they are worth most.
    """
    question.clock.say(0.0, "looking for modes")
    generator = torch.Generator().manual_seed(run_seed(question.seed, 1_000_004))
    target = question.target
    modes = laplace_mixture(
        target, question.observed, generator=generator, is_over=question.clock.is_over
    )
    begun = None if modes is None else MixtureProposal(target, modes)
    first = Start(None, None, is_good=False)
    if begun is not None:
        first = _refitted(question, begun, "free")
        if first.is_good:
            return first
    question.clock.say(0.0, "fitting normals around the modes")
    found: list[tuple[float, str, MixtureProposal]] = []
    for name, each in coordinates(target).items():
        fit = matched_mixture(
            each,
            question.observed,
            begun,
            generator=generator,
            is_over=question.clock.is_over,
        )
        if fit is not None:
            found.append((fit[1], name, MixtureProposal(each, fit[0])))
    if not found:
        return first
    _, name, proposal = max(found, key=lambda each: each[0])
    return _refitted(question, proposal, name)


def coordinates(target: Model | CollapsedModel) -> dict[str, Model | CollapsedModel]:
    """Return a model in the coordinates that particles may move in."""
    found = {"free": target}
    if isinstance(target, Model) and target.coordinates.has_located:
        found["standardised"] = target.standardised()
    return found


def _refitted(question: Question, proposal: MixtureProposal, name: str) -> Start:
    """Return the best of a proposal and what it is refitted to."""
    best: Start | None = None
    most = 0.0
    for turn in range(_REFITS):
        question.clock.say(0.0, "weighing draws around the modes")
        particles = importance_particles(
            question.target,
            _defended(question, proposal),
            question.observed,
            question.num_particles,
            seed=run_seed(question.seed, 1_000_005 + turn),
            batch_size=_BATCH,
        )
        k_hat = pareto_k_hat(particles.log_weights)
        ess = particles.totals.ess
        enough = max(_ENOUGH_ESS, _GOOD_SHARE * question.num_particles)
        good = ess >= enough and k_hat <= K_HAT_LIMIT
        if best is None or ess > most:
            best, most = Start(proposal, particles, good, name), ess
        if best.is_good and ess >= _FINE_SHARE * question.num_particles:
            break
        if particles.totals.log_sum == -math.inf or question.clock.is_over():
            break
        proposal = proposal.refitted(particles)
    assert best is not None  # noqa: S101 - there is one turn at least
    return best


def _defended(question: Question, proposal: Proposal) -> Proposal:
    """Return a proposal with the prior mixed in."""
    return DefensiveMixture(proposal, PriorProposal(question.target), _PRIOR_SHARE)


def around_modes(question: Question, start: Start, why: str) -> Inference:
    """Importance sampling from a proposal around the modes."""
    if start.around is None:
        raise ArgumentError(
            Problem("method laplace", "no mode of the posterior was found", "smc")
        )
    proposal = _defended(question, start.around)
    # Fresh: those that it was fitted to and chosen by would be too sure of it.
    particles = importance_particles(
        question.target,
        proposal,
        question.observed,
        question.num_particles,
        seed=run_seed(question.seed, 1_000_009),
        batch_size=_BATCH,
    )
    particles = _enough(question, proposal, particles)
    return weighted(question, particles, why, method="laplace")


def _enough(question: Question, proposal: Proposal, particles: Particles) -> Particles:
    """Return particles with as many more draws as the target asks for and time allows.

    Args:
        question: What was asked.
        proposal: What the particles are draws of.
        particles: A first batch.
    """
    ess, num = particles.totals.ess, particles.num_particles
    if not 0.0 < ess < question.target_ess or question.target_ess <= _ENOUGH_ESS:
        return particles
    wanted = math.ceil(1.1 * num * question.target_ess / ess)
    batches = [particles]
    for report in importance_sample(
        question.target,
        proposal,
        question.observed,
        min(wanted, _MOST_PILOT) - num,
        seed=run_seed(question.seed, 1_000_010),
        batch_size=_BATCH,
    ):
        batches.append(report.particles)
        if question.clock.is_over():
            break
    return Particles.merge(batches)


def weighted(
    question: Question, particles: Particles, why: str, method: str = "prior"
) -> Inference:
    """The answer that weighted particles give.

    Args:
        question: What was asked.
        particles: Weighted rows of the target's latents.
        why: Why this method.
        method: Its name.
    """
    totals = particles.totals
    is_prior = not question.model.layout.observed
    k_hat = math.nan if is_prior else pareto_k_hat(particles.log_weights)
    cautions = []
    num_bad = num_without_meaning(question.target, particles, question.observed)
    if num_bad:
        is_partial = isinstance(question.target, CollapsedModel)
        cautions.append(
            without_meaning(num_bad, particles.num_particles, is_partial=is_partial)
        )
    bad = [] if is_prior else weak(totals, k_hat, is_tempered=method == "smc")
    bad += lost_digits(question, particles, from_prior=method == "prior")
    cautions += left_out(question, particles)
    if not bad:  # a tail of the weights would look like one of the posterior
        cautions += without_mean(question, particles)
    full = question.completed(particles)
    return question.answered(
        method,
        why,
        lambda: full,
        0.0 if is_prior and not num_bad else totals.log_evidence,
        0.0 if is_prior and not num_bad else totals.log_evidence_standard_error,
        question.latents(full, None),
        question.returned(full, None),
        (*bad, *cautions),
        is_trusted=not bad and totals.log_sum > -math.inf,
        num_particles=full.num_particles,
        ess=totals.ess,
        k_hat=k_hat,
    )
