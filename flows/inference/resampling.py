r"""This file replaces weighted particles by equally weighted copies of them.

A scheme draws M ancestors from N weights. Every scheme is unbiased: particle i is
copied M W_i times on average, W_i its normalised weight. All but the last invert the
distribution function of the weights, c_i = W_1 + ... + W_i, at points in [0, 1):

    multinomial    u_m independent uniform;
    stratified     (m + u_m) / M, one independent point per stratum;
    systematic     (m + u) / M, the same u in every stratum;
    residual       ⌊M W_i⌋ copies for certain, the rest multinomial from what is left.

The last three never spread the number of copies wider than multinomial does; systematic
differs from M W_i by less than one copy. A particle of weight 0 is never drawn: its
interval of the distribution function is empty, and only intervals of positive weights
are searched, so that no rounding at the ends can reach it.

References:
    Douc, Cappé, Moulines (2005), Comparison of resampling schemes for particle
    filtering, https://arxiv.org/abs/cs/0507025
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import ArgumentError, InferenceError
from .noise import uniform
from .weights import check_log_weights

__all__ = ["SCHEMES", "resample"]


def resample(
    log_weights: Float[Tensor, " particle"],
    num_draws: int,
    *,
    scheme: str = "systematic",
    generator: torch.Generator,
) -> Int[Tensor, " draw"]:
    """Return the ancestors of `num_draws` equally weighted particles.

    Args:
        log_weights: Unnormalised log weights in nats, float64.
        num_draws: Number of ancestors.
        scheme: A name in `SCHEMES`.
        generator: Decides the draws, on the device of the weights.

    Raises:
        ArgumentError: If no scheme has this name.
        InferenceError: If a log weight is nan or +inf, or if every weight is 0.
    """
    if scheme not in SCHEMES:
        raise ArgumentError.at(
            "resampling", "unknown scheme", f"one of {', '.join(SCHEMES)}", scheme
        )
    check_log_weights(log_weights, "resampling")
    if not bool((log_weights > -torch.inf).any()):
        raise InferenceError.at(
            "resampling",
            "no particle has a positive weight",
            "at least one",
            f"{log_weights.shape[0]} particles of weight 0",
        )
    return SCHEMES[scheme](log_weights.softmax(0), num_draws, generator)


def _multinomial(
    weights: Float[Tensor, " particle"], num_draws: int, generator: torch.Generator
) -> Int[Tensor, " draw"]:
    return _invert(weights, uniform(num_draws, generator=generator))


def _stratified(
    weights: Float[Tensor, " particle"], num_draws: int, generator: torch.Generator
) -> Int[Tensor, " draw"]:
    return _invert(weights, _strata(num_draws, uniform(num_draws, generator=generator)))


def _systematic(
    weights: Float[Tensor, " particle"], num_draws: int, generator: torch.Generator
) -> Int[Tensor, " draw"]:
    return _invert(weights, _strata(num_draws, uniform(1, generator=generator)))


def _residual(
    weights: Float[Tensor, " particle"], num_draws: int, generator: torch.Generator
) -> Int[Tensor, " draw"]:
    expected = num_draws * weights
    copies = expected.floor()
    certain = torch.arange(weights.shape[0], device=weights.device).repeat_interleave(
        copies.long()
    )
    num_left = num_draws - certain.shape[0]
    if num_left == 0:
        return certain
    rest = _multinomial(expected - copies, num_left, generator)
    return torch.cat([certain, rest])


def _strata(num_draws: int, within: Float[Tensor, " num"]) -> Float[Tensor, " draw"]:
    steps = torch.arange(num_draws, dtype=torch.float64, device=within.device)
    return (steps + within) / num_draws


def _invert(
    weights: Float[Tensor, " particle"], points: Float[Tensor, " draw"]
) -> Int[Tensor, " draw"]:
    """Return the particles whose interval of the distribution function holds a point.

    Weights need not sum to one: the points are scaled by their sum.
    """
    positive = weights.nonzero().squeeze(1)
    edges = weights[positive].cumsum(0)
    # The first edge that reaches a point exists: none lies beyond the last edge, also
    # if it rounds to it.
    return positive[torch.searchsorted(edges, points * edges[-1])]


_Scheme = Callable[
    [Float[Tensor, " particle"], int, torch.Generator], Int[Tensor, " draw"]
]

SCHEMES: Mapping[str, _Scheme] = MappingProxyType(
    {
        "multinomial": _multinomial,
        "residual": _residual,
        "stratified": _stratified,
        "systematic": _systematic,
    }
)
