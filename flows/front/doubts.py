"""This file says in words why an answer may be wrong, or what to know beside it."""

import math
from collections.abc import Sequence

from ..inference.cautions import K_HAT_LIMIT, LOG_EVIDENCE_ERROR_LIMIT, Caution
from ..inference.particles import Particles
from ..inference.smc.result import SmcResult
from ..inference.weights import WeightTotals
from ..marginal.collapsed import CollapsedModel
from .question import Question

__all__ = ["apart", "left_out", "unsure", "weak", "without_meaning"]

_LEAST_ESS = 100.0
_LEAST_LEFT_OUT = 1e-8
_MOST_APART = 4.0


def weak(totals: WeightTotals, k_hat: float) -> list[Caution]:
    """Return why weights cannot be trusted."""
    found = []
    if totals.num_zero == totals.num_particles:
        found.append(
            Caution(
                f"none of {totals.num_particles} draws has a positive weight",
                "the estimated evidence is 0 and there is no posterior",
                "Check that the program can produce the data; or use --method smc",
            )
        )
    elif k_hat > K_HAT_LIMIT or totals.ess < min(
        _LEAST_ESS, 0.25 * totals.num_particles
    ):
        found.append(
            Caution(
                f"the effective sample size is {totals.ess:.3g} of "
                f"{totals.num_particles} and Pareto k-hat {k_hat:.2f}",
                "rare particles rule every average",
                "Use --method smc",
            )
        )
    return found


def without_meaning(num: int, of: int) -> Caution:
    """Return that draws have no meaning."""
    return Caution(
        f"{num} of {of} draws give a distribution a parameter without meaning",
        "they weigh 0, as if the program excluded them",
        "Check that this is meant, a negative scale say",
    )


def unsure(error: float) -> Caution:
    """Return that the evidence is not known well enough."""
    known = f"{error:.2f} nats" if math.isfinite(error) else "not known"
    return Caution(
        f"the standard error of the log evidence is {known}",
        "few of the first particles have descendants",
        "Draw more particles",
    )


def apart(results: Sequence[SmcResult]) -> list[Caution]:
    """Return a caution if the islands' evidences disagree."""
    values = [result.log_evidence for result in results]
    errors = [result.log_evidence_standard_error for result in results]
    known = [e for e in errors if math.isfinite(e)]
    spread = max(values) - min(values)
    error = math.sqrt(sum(e * e for e in known)) if known else LOG_EVIDENCE_ERROR_LIMIT
    if spread <= max(_MOST_APART * error, LOG_EVIDENCE_ERROR_LIMIT):
        return []
    return [
        Caution(
            f"independent islands differ by {spread:.2f} nats in the log evidence",
            "some of them have missed a part of the posterior",
            "Draw more particles, and compare other seeds",
        )
    ]


def left_out(question: Question, particles: Particles) -> list[Caution]:
    """Return a caution if a cut of an infinite support leaves mass out."""
    if not isinstance(question.target, CollapsedModel) or (
        not question.target.tables.truncated
    ):
        return []
    alive = particles.log_weights > -math.inf
    if not bool(alive.any()):
        return []
    out = question.target.left_out(particles.latents[alive], question.observed)
    mass = float(out @ particles.log_weights[alive].softmax(0))
    if mass < _LEAST_LEFT_OUT:
        return []
    layout, truncated = question.model.layout, question.target.tables.truncated
    names = ", ".join(layout.variable(name).label for name in truncated)
    return [
        Caution(
            f"the cut of {names} leaves out {mass:.1e} of the prior's mass on "
            "average over the posterior",
            "the evidence is too small by about that share",
            "A prior with a smaller rate, or a bound, avoids the cut",
        )
    ]
