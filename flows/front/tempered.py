"""This file answers by sequential Monte Carlo, in islands that are compared."""

import math
from dataclasses import replace

from ..errors import InferenceError
from ..inference.cautions import LOG_EVIDENCE_ERROR_LIMIT, Caution
from ..inference.proposal import PriorProposal
from ..inference.smc.annealing import AnnealingReport, annealed_smc
from ..inference.smc.config import AnnealingConfig
from ..inference.smc.coordinates import FreeSpace, Space
from ..inference.smc.forgetting import move_cautions
from ..inference.smc.moves import Hamiltonian, Move
from ..inference.smc.result import SmcResult, merge_runs, run_seed
from ..inference.smc.sites import SiteMoves, SiteSpace
from ..marginal.sites import sites_of
from .answer import Inference
from .doubts import apart, left_out, unsure
from .lost_digits import lost_digits
from .question import Question
from .weighed import Start, weighted

__all__ = ["tempered"]

_ISLANDS = 2
_SHARE = 0.2
_MOVED = 0.6
_LEAST_PARTICLES = 200
_LEAPS = 16


def tempered(question: Question, start: Start | None, why: str) -> Inference:
    """Particles tempered from the prior to the posterior, in islands.

    Args:
        question: What was asked.
        start: Weighted draws to show where the budget is used up; of the prior if None.
        why: Why this method.
    """
    try:
        return _in_islands(question, start, why)
    except InferenceError as error:
        caution = Caution(
            f"tempering found no way from the prior to the posterior ({error})",
            "these are the weighted draws that it began with",
            "A likelihood that is less sharp, or data that the prior draws, helps",
        )
        return _given_up(question, start, "tempering ended early", caution)


def _in_islands(question: Question, start: Start | None, why: str) -> Inference:
    """Particles that have come to the posterior, or what is known without them.

    Raises:
        InferenceError: If no temperature step is short enough.
    """
    proposal = PriorProposal(question.target)
    space: Space = FreeSpace(question.target, proposal, question.observed)
    move: Move = Hamiltonian(_LEAPS)
    sites = sites_of(question.target, question.observed)
    if sites:
        space, move = SiteSpace(space, sites), SiteMoves(sites, move)
    num_particles = max(_LEAST_PARTICLES, math.ceil(_SHARE * question.num_particles))
    results: list[SmcResult] = []
    reports: list[AnnealingReport] = []
    for island in range(_ISLANDS):
        for report in annealed_smc(
            space,
            num_particles,
            seed=run_seed(question.seed, island),
            config=AnnealingConfig(move=move),
        ):
            reports.append(report)
            if question.seconds_left < 0.0:
                caution = Caution(
                    f"the budget of {question.budget_seconds:g} s was used up at "
                    f"temperature {report.temperature:.2g} of 1",
                    "these are the weighted draws that tempering began with",
                    "Allow more time",
                )
                return _given_up(question, start, "the budget was used up", caution)
            question.say(
                (island + report.temperature) / _ISLANDS,
                f"temperature {report.temperature:.3g}",
            )
            if report.result is not None:
                results.append(report.result)
    merged = merge_runs(results)
    if merged.particles.totals.log_sum == -math.inf:
        return weighted(question, merged.particles, why, method="smc")
    error = merged.log_evidence_standard_error
    cautions = [*move_cautions(reports), *apart(results)]
    particles = merged.particles
    ess = merged.ess
    ended = [report for report in reports if report.temperature == 1.0]
    # What moves at the end has forgotten where it was stuck on the way.
    has_moved = all(report.correlation <= _MOVED for report in ended)
    is_trusted = has_moved and not apart(results)
    if not error <= LOG_EVIDENCE_ERROR_LIMIT:
        cautions.append(unsure(error))
        is_trusted = False
    lost = lost_digits(question, particles, from_prior=True)
    cautions += [*lost, *left_out(question, particles)]
    full = question.completed(particles)
    return question.answered(
        "smc",
        why,
        full,
        merged.log_evidence,
        error,
        question.latents(full, merged),
        question.returned(full, merged),
        tuple(cautions),
        is_trusted=is_trusted and not lost,
        ess=ess,
    )


def _given_up(
    question: Question, start: Start | None, why: str, caution: Caution
) -> Inference:
    """What is known where tempering does not come to its end, not to be trusted."""
    particles = None if start is None else start.particles
    particles = particles or question.drawn(question.num_particles)
    answer = weighted(question, particles, why, method="smc")
    cautions = (caution, *answer.cautions)
    return replace(answer, cautions=cautions, is_trusted=False)
