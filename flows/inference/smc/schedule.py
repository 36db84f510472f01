r"""This file decides how long each step from proposal to target is, and along what.

Each temperature step is as long as keeps the conditional ess at a given share: with
normalised weights W and u = w^(β' - β), (Σ W u)² / (Σ W u² · Σ W), sums over particles
with w > 0, found by bisection. The first step may be as short as a float: temperatures
then grow by factors, so that the way from there is no long one. Where particles do not
follow, later steps keep less, and the cautions on their weights say so.

References:
    Zhou, Johansen, Aston (2016), Toward automatic model comparison: an adaptive
    sequential Monte Carlo approach, https://arxiv.org/abs/1303.3123
"""

import math
import sys
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Stage", "next_temperature", "weighted_factor"]

_BISECTIONS = 60
_LEAST_GROWTH = 1e-3
"""Of a temperature in one step: shorter ones would not end in a time to wait for."""
# Keeps a factor regular where particles agree, relative to their size in a coordinate.
_RELATIVE_JITTER = 1e-9
# Of the mean variance of coordinates: no coordinate counts as narrower.
_LEAST_VARIANCE = 1e-18
_MOST_SHRUNK = 0.9


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """How particles go through one temperature, so that others can go the same way.

    Attributes:
        temperature: β, above 0; 1 is the target.
        factor: Of the particles' covariance; moves go along it.
        step_size: Of one move.
        num_moves: How often the particles moved, or may move.
    """

    temperature: float
    factor: Float[Tensor, "coordinate coordinate"]
    step_size: float
    num_moves: int


def next_temperature(
    last: float,
    log_weight: Float[Tensor, " particle"],
    log_weights: Float[Tensor, " particle"],
    cess_fraction: float,
) -> float:
    """Return the temperature after `last`, 1 if it is near enough.

    Args:
        last: The temperature so far.
        log_weight: Of the target against the proposal, for each particle, in nats.
        log_weights: What the particles weigh now, in nats.
        cess_fraction: How much of the conditional ess the step keeps, unless it would
            be too short.
    """
    low = high = 1.0 - last
    if _kept(log_weight, log_weights, high) >= cess_fraction:
        return 1.0
    least = max(_LEAST_GROWTH * last, sys.float_info.min)
    while low > least and not _kept(log_weight, log_weights, low) >= cess_fraction:
        low, high = 0.5 * low, low
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        if _kept(log_weight, log_weights, middle) >= cess_fraction:
            low = middle
        else:
            high = middle
    return min(1.0, last + max(low, least))


def _kept(
    log_weight: Float[Tensor, " particle"],
    log_weights: Float[Tensor, " particle"],
    step: float,
) -> float:
    """Return the share of the conditional ess that a temperature step keeps.

    It is relative to the particles of positive weight, which a step of any length
    keeps: particles of weight 0 are lost at once.
    """
    is_alive = (log_weight > -torch.inf) & (log_weights > -torch.inf)
    if not bool(is_alive.any()):
        return 1.0
    log_shares = log_weights[is_alive].log_softmax(0)
    log_growth = step * log_weight[is_alive]
    log_growth = log_growth - log_growth.max()  # the shares count, however far it grows
    first = (log_shares + log_growth).logsumexp(0)
    second = (log_shares + 2.0 * log_growth).logsumexp(0)
    return math.exp(float(2.0 * first - second))


def weighted_factor(
    coordinates: Float[Tensor, "particle coordinate"],
    normalized_weights: Float[Tensor, " particle"],
) -> Float[Tensor, "coordinate coordinate"]:
    """Return the lower triangular L with L Lᵀ the weighted covariance.

    Correlations count less where few particles tell of many coordinates: by the square
    of coordinates per effective particle.
    """
    is_positive = (normalized_weights > 0.0).unsqueeze(1)
    values = torch.where(is_positive, coordinates, 0.0)
    deviation = torch.where(is_positive, values - normalized_weights @ values, 0.0)
    covariance = (normalized_weights.unsqueeze(1) * deviation).T @ deviation
    few = (len(covariance) * float(normalized_weights.square().sum())) ** 2
    covariance = torch.lerp(
        covariance, covariance.diagonal().diag(), min(few, _MOST_SHRUNK)
    )
    tiny = torch.finfo(torch.float64).tiny  # also where one particle has all the weight
    size = covariance.diagonal().mean().clamp(min=tiny / _LEAST_VARIANCE)
    # Coordinates may differ by any factor: each is regular in its own scale.
    scale = covariance.diagonal().clamp(min=_LEAST_VARIANCE * size).sqrt()
    jitter = _RELATIVE_JITTER * torch.eye(len(covariance)).to(covariance)
    factor: Tensor = torch.linalg.cholesky(
        covariance / scale / scale.unsqueeze(1) + jitter
    )
    return scale.unsqueeze(1) * factor
