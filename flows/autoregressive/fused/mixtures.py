"""This file computes mixtures of normals of 16 rows, and their slopes.

Of outputs a_k, m_k and c_k come weights in proportion to exp a_k, centres m_k and
scales s_k = softplus(c_k) + least. With u_k = (r - m_k) / s_k,

    log q(r) = log sum_k exp(a_k - u_k^2 / 2) / s_k - log sum_k exp a_k - log(2 pi) / 2,

each sum taken relative to its largest exponential, and a_k to the largest of them, next
to which u_k^2 would be lost where they are large. With w_k the weights and p_k the
shares of the first sum, slopes are p_k - w_k by a_k, p_k u_k / s_k by m_k, and
p_k (u_k^2 - 1) / s_k by s_k.
"""

import math
from typing import Any

import numpy as np

from ...kernels.tiles import (
    LANES,
    compiled,
    exp,
    load,
    log,
    log_of_one_more,
    maximum,
    splat,
    store,
)
from .plan import Plan, Workspace

__all__ = ["add_slopes", "log_density"]

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


@compiled
def log_density(
    plan: Plan, work: Workspace, at: int, stride: int, residual: Any
) -> Any:
    """Log densities of 16 residuals; leaves what `add_slopes` needs in ``work.parts``.

    Args:
        plan: of the networks.
        work: with the outputs.
        at: where the 16 rows stand in a row of the outputs.
        stride: numbers from one output to the next.
        residual: r.
    """
    K = plan.outputs // 3
    shares, scales, weights = K * LANES, 2 * K * LANES, 3 * K * LANES
    largest = splat(np.float32(-np.inf))
    for k in range(K):
        largest = maximum(largest, load(work.ends, k * stride + at))
    most = splat(np.float32(-np.inf))
    for k in range(K):
        logit = load(work.ends, k * stride + at) - largest
        centre = load(work.ends, (K + k) * stride + at)
        raw = load(work.ends, (2 * K + k) * stride + at)
        above = maximum(raw, splat(np.float32(0.0)))
        scale = above + log_of_one_more(exp(raw - above * 2.0)) + plan.least_scale
        unit = (residual - centre) / scale
        share = logit - unit * unit * 0.5
        most = maximum(most, share)
        store(work.parts, k * LANES, unit)
        store(work.parts, shares + k * LANES, share)
        store(work.parts, scales + k * LANES, scale)
        store(work.parts, weights + k * LANES, exp(logit))
    all_weights = splat(np.float32(0.0))
    all_shares = splat(np.float32(0.0))
    for k in range(K):
        weight = load(work.parts, weights + k * LANES)
        share = exp(load(work.parts, shares + k * LANES) - most)
        share = share / load(work.parts, scales + k * LANES)
        all_weights = all_weights + weight
        all_shares = all_shares + share
        store(work.parts, shares + k * LANES, share)
    store(work.parts, weights + K * LANES, splat(np.float32(1.0)) / all_weights)
    store(work.parts, weights + (K + 1) * LANES, splat(np.float32(1.0)) / all_shares)
    return most + (log(all_shares) - log(all_weights)) - _HALF_LOG_TWO_PI


@compiled
def add_slopes(plan: Plan, work: Workspace, at: int, stride: int, bar: Any) -> None:
    """Write the outputs' cotangents of 16 rows, of the log densities' ``bar``.

    All else as in `log_density`, which was called before.
    """
    K = plan.outputs // 3
    shares, scales, weights = K * LANES, 2 * K * LANES, 3 * K * LANES
    of_weights = load(work.parts, weights + K * LANES) * bar
    of_shares = load(work.parts, weights + (K + 1) * LANES) * bar
    for k in range(K):
        unit = load(work.parts, k * LANES)
        share = load(work.parts, shares + k * LANES) * of_shares
        by_scale = share / load(work.parts, scales + k * LANES)
        weight = load(work.parts, weights + k * LANES) * of_weights
        raw = load(work.ends, (2 * K + k) * stride + at)
        rise = splat(np.float32(1.0)) / (exp(raw * -1.0) + 1.0)
        store(work.end_bar, k * stride + at, share - weight)
        store(work.end_bar, (K + k) * stride + at, by_scale * unit)
        store(
            work.end_bar,
            (2 * K + k) * stride + at,
            by_scale * (unit * unit - 1.0) * rise,
        )
