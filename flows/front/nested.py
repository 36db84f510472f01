"""This file answers by latents that are Gaussian but for what they say.

The others, scales and coefficients, are drawn from a proposal around the modes of their
approximate posterior, refitted to weighted draws; the nearly Gaussian ones around their
modes given these (`flows.nested_laplace`). Weights are exact.
"""

import math
from dataclasses import replace

import torch

from ..inference.cautions import K_HAT_LIMIT
from ..inference.pareto import pareto_k_hat
from ..inference.smc.result import run_seed
from ..model.model import Model
from ..nested_laplace.nesting import Nesting
from ..nested_laplace.target import laplace_marginal
from .answer import Inference
from .question import Question
from .start import Start, defended, modes_of, refitted, weighed_start
from .weighed import around_modes, is_as_good

__all__ = ["nested"]

_FREEDOMS = (4.0, 16.0, math.inf)
_ABOUT = 0.5
"""Of two kinds of noise one with a larger share of the other's draws does as well."""
_FEW = 2_000
_REFITS = 6
_FAIR_SHARE = 0.1
"""Of the draws: where each of a hundred latents is a little wrong no more is had."""
_HARDER = 4
"""Times as many nearly Gaussian latents are tried where rare draws rule."""


def nested(question: Question) -> Inference | None:
    """The answer; None if there are no such latents, or draws carry too little weight.

    Args:
        question: What was asked.
    """
    if not isinstance(question.target, Model) or question.clock.is_over():
        return None
    marginal = laplace_marginal(question.target)
    if marginal is None:
        return None
    question.clock.say(0.0, "integrating out by Laplace's approximation")
    few = replace(question, num_particles=_FEW)
    generator = torch.Generator().manual_seed(run_seed(question.seed, 1_000_016))
    around = modes_of(few, marginal, generator)
    if around is None:
        return None
    # Of two that do about as well the one with heavier tails: what has too light ones
    # does not know of it.
    tried = [Nesting(marginal, freedom) for freedom in _FREEDOMS]
    starts = [weighed_start(few, around, "free", nesting=each) for each in tried]
    least = _ABOUT * max(each.particles.totals.ess for each in starts)
    nesting, first = next(
        (each, own)
        for each, own in zip(tried, starts, strict=True)
        if own.particles.totals.ess >= least
    )
    begun = refitted(few, first, _REFITS, nesting)
    if not _is_fair(begun):
        return None
    why = "draws around the modes given scales carry enough weight: importance sampling"
    for times in (1, _HARDER):
        own = replace(nesting, num_inner=times * nesting.num_inner)
        proposal = defended(question, begun.around, own)
        answer = around_modes(question, replace(begun, proposal=proposal), why)
        if answer.is_trusted and is_as_good(begun, answer):
            return answer
        if question.clock.is_over():
            break
    return None


def _is_fair(start: Start) -> bool:
    """Return whether some times more draws would carry enough weight."""
    if start.share < _FAIR_SHARE:
        return False
    return pareto_k_hat(start.particles.log_weights) <= K_HAT_LIMIT
