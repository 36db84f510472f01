"""This file answers by importance sampling: from the prior, a flow, or around modes."""

import math
from dataclasses import dataclass, replace

import torch

from ..errors import ArgumentError, InferenceError
from ..inference.cautions import K_HAT_LIMIT, Caution
from ..inference.importance import importance_particles
from ..inference.pareto import pareto_k_hat
from ..inference.particles import Particles
from ..inference.proposal import Proposal
from ..inference.smc.result import run_seed
from .answer import Inference
from .doubts import left_out, long_tails, weak, without_mean, without_meaning
from .edges import edge_doubts
from .lost_digits import lost_digits
from .missed_mass import missed_mass
from .question import BATCH, Question
from .sampling import num_without_meaning
from .start import ENOUGH_ESS, Start
from .targets import work

__all__ = [
    "TooLittle",
    "around_modes",
    "is_as_good",
    "pilot",
    "prior",
    "weighted",
    "with_flow",
]

_PILOT = 10_000
_FIRST = 500
_HOPE = 0.25
_HOPEFUL_ESS = 5.0
_MOST_WORK = 50_000_000
"""Most draws times operations of a pilot, some seconds of work."""
_MOST_PILOT = 2_000_000
_AS_GOOD = 0.5
_SOME_OF_A_MEAN = 0.005
"""By one draw: fifty times what it is of equal weights."""


def prior(question: Question, why: str) -> Inference:
    """Draws of the prior, weighted by the data."""
    return weighted(question, question.drawn(question.num_particles), why)


def pilot(question: Question) -> Inference | None:
    """The answer of draws of the prior, if they carry enough weight."""
    # Counted, not timed: equal seeds give equal answers on every machine.
    most = min(_MOST_PILOT, _MOST_WORK // work(question.target))
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
    if _lacks_a_tail(question, particles):
        return None
    why = "draws of the prior carry enough weight: importance sampling from it"
    return weighted(question, particles, why)


def _lacks_a_tail(question: Question, particles: Particles) -> bool:
    """Return whether a mean is made out by few draws of the prior.

    Weights may be fine where it is not: what weighs most lies far out. Of a latent
    whose prior has so long a tail nobody draws enough.
    """
    found = long_tails(question, particles, K_HAT_LIMIT, _SOME_OF_A_MEAN)
    if not found:
        return False
    alive = particles.log_weights > -math.inf
    even = replace(particles, log_weights=torch.where(alive, 0.0, -math.inf).double())
    return not {*found} <= {*long_tails(question, even, K_HAT_LIMIT, 0.0)}


@dataclass(frozen=True, slots=True, eq=False)
class TooLittle:
    """A trained flow whose draws are not enough for an answer.

    Attributes:
        why: In words.
        particles: Its weighted draws; None where these are hopeless.
    """

    why: str
    particles: Particles | None = None

    def in_hand(self, question: Question, other: Inference) -> Inference:
        """Return the better answer where no time was left for a trusted one.

        Of weights with a long tail the effective sample size says nothing.
        """
        drawn = self.particles
        if other.is_trusted or not question.clock.is_over() or drawn is None:
            return other
        if not drawn.totals.ess > other.ess:
            return other
        if pareto_k_hat(drawn.log_weights) > K_HAT_LIMIT:
            return other
        answer = weighted(question, drawn, self.why, method="flow")
        caution = Caution(
            f"the budget of {question.clock.seconds:g} s was used up before anything "
            f"better than the trained flow's draws was found ({self.why})",
            "means are known no better than their Monte Carlo errors say, and nobody "
            "has looked for mass that the flow misses",
            "Allow more time by --budget",
        )
        return answer.doubted(caution)


def with_flow(
    question: Question, flow: Proposal, *, must: bool
) -> Inference | TooLittle:
    """The answer of a trained flow, or why its draws carry too little weight."""
    try:
        if not must and (poor := _is_hopeless(question, flow)):
            return TooLittle(poor)
        particles = question.weighed(flow, question.num_particles, seed=question.seed)
    except InferenceError as error:
        if must:
            raise
        found = error.problems[0].what
        return TooLittle(f"the trained flow cannot be used ({found})")
    ess, k_hat = particles.totals.ess, pareto_k_hat(particles.log_weights)
    if not must and not (ess >= ENOUGH_ESS and k_hat <= K_HAT_LIMIT):
        figures = f"ESS {ess:,.0f} of {particles.num_particles:,}, k-hat {k_hat:.2f}"
        found = f"draws of the trained flow carry too little weight ({figures})"
        return TooLittle(found, particles)
    if ess >= ENOUGH_ESS:
        particles = _enough(question, flow, particles)
    why = "as asked" if must else "draws of the trained flow carry enough weight"
    answer = weighted(question, particles, why, method="flow")
    return _looked_beyond(question, flow, particles, answer)


def _is_hopeless(question: Question, flow: Proposal) -> str:
    """Return that a few draws of a flow show more of them to be vain; empty if not.

    Draws of a poor flow are dear as well: where data are strange, so is the way there.
    """
    wanted = ENOUGH_ESS / question.num_particles
    if _FIRST * _HOPE * wanted <= 1.0 or question.num_particles <= _FIRST:
        return ""
    first = question.weighed(flow, _FIRST, seed=run_seed(question.seed, 1_000_015))
    if first.totals.ess_fraction >= _HOPE * wanted:
        return ""
    return (
        "draws of the trained flow carry too little weight "
        f"(ESS {first.totals.ess:,.0f} of {first.num_particles:,})"
    )


def around_modes(question: Question, start: Start | None, why: str) -> Inference:
    """Importance sampling from a proposal around the modes.

    Raises:
        ArgumentError: If no mode was found.
    """
    if start is None:
        raise ArgumentError.at(
            "method laplace", "no mode of the posterior was found", "smc"
        )
    # Fresh: those that it was fitted to and chosen by would be too sure of it.
    particles = question.weighed(
        start.proposal,
        question.num_particles,
        seed=run_seed(question.seed, 1_000_009),
        batch_size=BATCH,
    )
    particles = _enough(question, start.proposal, particles)
    answer = weighted(question, particles, why, method="laplace")
    return _looked_beyond(question, start.proposal, particles, answer)


def is_as_good(start: Start, answer: Inference) -> bool:
    """Return whether fresh draws carry much of what those of a start did."""
    return answer.ess >= _AS_GOOD * start.share * answer.num_particles


def _looked_beyond(
    question: Question, proposal: Proposal, particles: Particles, answer: Inference
) -> Inference:
    """Return an answer by draws of a proposal, untrusted if they missed some mass."""
    is_moved = not any(v.is_discrete for v in question.target.layout.latents)
    if not (answer.is_trusted and is_moved):
        return answer
    missed = missed_mass(question, proposal, particles)
    return answer.doubted(*missed) if missed else answer


def _enough(question: Question, proposal: Proposal, particles: Particles) -> Particles:
    """Return particles with as many more draws as the target asks for and time allows.

    Args:
        question: What was asked.
        proposal: What the particles are draws of.
        particles: A first batch.
    """
    ess, num = particles.totals.ess, particles.num_particles
    if not 0.0 < ess < question.target_ess or question.target_ess <= ENOUGH_ESS:
        return particles
    wanted = math.ceil(1.1 * num * question.target_ess / ess)
    more = importance_particles(
        question.target,
        proposal,
        question.observed,
        min(wanted, _MOST_PILOT) - num,
        seed=run_seed(question.seed, 1_000_010),
        batch_size=BATCH,
        is_over=question.clock.is_over,
    )
    return Particles.merge([particles, more])


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
    num_bad = num_without_meaning(question.target, particles, question.observed)
    bad = [] if is_prior else weak(totals, k_hat, is_tempered=method == "smc")
    if method != "prior":
        bad += edge_doubts(
            question.target, question.observed, particles, seed=question.seed
        )
    bad += lost_digits(question, particles)
    cautions = without_meaning(question.target, num_bad, particles.num_particles)
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
