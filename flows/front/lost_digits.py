"""This file says where an answer depends on digits that a double does not hold.

A gamma of shape 0.001 has much of its mass below the smallest double: its draws there
are one value, the edge. That is harmless where only the value matters, and wrong where
its logarithm does. So values at the edge are moved inwards, and what follows from them
is looked at. Where very many Gaussian latents are integrated out, scales far below
those of the data have no right density.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from ..inference.cautions import Caution
from ..inference.particles import Particles
from ..linear_gaussian.target import GaussianMarginal
from ..model.model import Model
from ..model.returns import return_value
from .question import Question
from .targets import Target

__all__ = ["NO_POSTERIOR", "lost_digits"]

NO_POSTERIOR = (
    "a density without bound, as of data without noise: there is no posterior"
)

_INWARDS = 0.9
"""Where on the way from 0 a free coordinate at the edge is moved to."""
_MOST_CHANGE = 1e-3
"""In nats, on average over the posterior; and in standard deviations of a return."""
_NUM_LOOKED_AT = 1_000
_FAR = 46.0
"""Twenty orders of magnitude: a double tells numbers apart by sixteen."""
_BEYOND = 1e9
_MOST_BURIED = 2e-3


def lost_digits(question: Question, particles: Particles) -> list[Caution]:
    """Return cautions if lost digits matter.

    Args:
        question: What was asked.
        particles: Weighted rows of the target's latents.
    """
    target = question.target
    found = []
    if isinstance(target, GaussianMarginal):
        found += _buried(question, target)
    alive = particles.log_weights > -torch.inf
    if not target.layout.free_dim or not bool(alive.any()):
        return found
    rows = particles.latents[alive]
    weights = particles.log_weights[alive].softmax(0)
    free, _ = target.unconstrain(rows)
    at_edge = target.at_edge(free)
    touched = at_edge.any(1)
    found += _collapsed(question, free, weights)
    if not bool(touched.any()):
        return found
    names = ", ".join(
        variable.label
        for variable in target.layout.latents
        if bool(at_edge[:, variable.free_start : variable.free_stop].any())
    )
    inwards = torch.where(at_edge, _INWARDS * free, free)[touched]
    moved, _ = target.constrain(inwards)
    weights = weights[touched]
    if _depends(question, rows, weights, touched, moved, at_edge):
        found.append(
            Caution(
                f"draws of {names} are too near 0 or a bound for a double, and their "
                "lost digits matter",
                "a logarithm of them is read, say, and comes out wrong",
                "Sample the logarithm itself: that of (gamma a b) is (log g) less e, "
                "g of (gamma (+ a 1) b) and e of (exponential a)",
            )
        )
    return found


def _collapsed(
    question: Question, free: Float[Tensor, "row free"], weights: Tensor
) -> list[Caution]:
    """Return a caution if a scale has most mass where only a density without bound is.

    Data without noise make such a one, equal values say: their standard deviation is 0.
    """
    target = question.target
    drawn = _prior_draws(question, target)
    if not len(drawn):
        return []
    near, _ = target.unconstrain(drawn)
    is_far = (free < near.amin(0) - _FAR) | (free > near.amax(0) + _FAR)
    # Real numbers are no logarithms.
    is_log = target.at_edge(torch.full_like(free[:1], -_BEYOND))[0]
    is_collapsed = (weights @ is_far.to(weights) > 0.5) & is_log
    names = [
        variable.label
        for variable in target.layout.latents
        if bool(is_collapsed[variable.free_start : variable.free_stop].any())
    ]
    if not names:
        return []
    return [
        Caution(
            f"most of the posterior of {', '.join(names)} is twenty orders of "
            "magnitude beyond the prior's draws",
            NO_POSTERIOR,
            "Look for equal values in the data, or keep scales from 0",
        )
    ]


def _prior_draws(question: Question, target: Target) -> Float[Tensor, "row latent"]:
    generator = torch.Generator().manual_seed(question.seed)
    rows = target.sample_latents(
        _NUM_LOOKED_AT, generator=generator, observed=question.observed
    )
    return rows[torch.isfinite(rows).all(1)]


def _buried(question: Question, target: GaussianMarginal) -> list[Caution]:
    """Return a caution if precisions of Gaussian latents bury what the data say."""
    rows = _prior_draws(question, target)
    share = float(target.are_lost(rows, question.observed).double().mean())
    if not share > _MOST_BURIED:
        return []
    return [
        Caution(
            f"{share:.1%} of the prior's draws have scales a millionth of the data's",
            "the digits of their densities are lost: the evidence misses them",
            "Write latents as (+ mu (* tau z)), z a (sample (normal 0 1)), or give "
            "scales a prior with less mass near 0",
        )
    ]


def _depends(
    question: Question,
    rows: Float[Tensor, "row latent"],
    weights: Float[Tensor, " edge"],
    touched: Tensor,
    moved: Float[Tensor, "edge latent"],
    at_edge: Tensor,
) -> bool:
    """Whether densities given values at the edge, or what is returned, change."""
    target, observed = question.target, question.observed
    stay = rows[touched]

    def rest(latents: Tensor) -> Tensor:
        found = target.log_likelihood_terms(latents, observed).sum(-1)
        if isinstance(target, Model):
            # Latents whose own digits are lost are not what is asked about.
            is_own = [
                bool(at_edge[:, v.free_start : v.free_stop].any())
                for v in target.layout.latents
            ]
            terms = target.log_prior_terms(latents, observed)
            found = found + terms[..., ~torch.tensor(is_own)].sum(-1)
        return found

    change = (rest(moved) - rest(stay)).abs().nan_to_num(0.0).clamp(max=1.0)
    if float(weights @ change) > _MOST_CHANGE:
        return True
    value = return_value(question.model.lowered)
    if value is None or not isinstance(target, Model):
        return False
    spread = value.columns(rows, observed).std(0)
    shift = (value.columns(moved, observed) - value.columns(stay, observed)).abs()
    return bool((weights @ shift > _MOST_CHANGE * spread).any())
