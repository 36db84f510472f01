r"""This file is the compiled sum over all paths of a chain, forward and backward.

For row r of tables in nats, f[t, i] of step t's state and g[i, j] of two that follow
each other,

    S_r = log Σ over paths of exp(Σ_t f[t, s_t] + Σ_t g[s_t, s_t+1]).

Forward, a_t[j] ∝ Σ_i a_t-1[i] exp(g[i, j]) exp(f[t, j]) is scaled to sum to one, and
what it is scaled by adds up to S; backward, the slopes: the probability of each state,
and how often each pair is expected. Rows are gone through 64 at a time, for which they
are the innermost loops. Where a scale falls below 1e-35, as states that follow are
hardly possible, or a state's share below 1e-150, which might count again later, the sum
is not found that way, and is said to be unknown.
"""

import math
import sys
from functools import cache
from typing import Any

import numpy as np

from . import exponential
from .cache import compiled

__all__ = ["chain_sums"]

FloatArray = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

_ROWS = 64
_LEAST = 1e-35
_LEAST_SHARE = 1e-150
_LEAST_LINK = -300.0
"""Nats below the likeliest, so that a link times a share is no underflow."""
_AT_ONCE = 8
"""So many scales are multiplied before their logarithm is taken."""


def chain_sums(
    steps: FloatArray, pairs: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray] | None:
    """Return S and its slopes by both tables; None if it is not found that way.

    Args:
        steps: f, [step, state, row], without nan.
        pairs: g, [state, next state, row].

    Example:
        >>> found, *_ = chain_sums(np.zeros((3, 2, 1)), np.zeros((2, 2, 1)))
        >>> round(float(found[0]), 12) == round(math.log(8.0), 12)
        True
    """
    found = np.empty(steps.shape[2])
    slopes = np.empty_like(steps), np.empty_like(pairs)
    if not _compiled()(steps, pairs, found, *slopes):
        return None
    return found, *slopes


@cache
def _compiled() -> Any:
    sources = [sys.modules[__name__], exponential]
    return compiled(_loop, sources, exponential.OPTIONS)


def _loop(
    steps: FloatArray,
    pairs: FloatArray,
    found: FloatArray,
    to_steps: FloatArray,
    to_pairs: FloatArray,
) -> bool:
    count, states, rows = steps.shape
    ahead, here = np.empty((2, count, states, _ROWS))
    scales = np.empty((count, _ROWS))
    follow, often = np.empty((2, states, states, _ROWS))
    later, behind = np.empty((2, states, _ROWS))
    top, high, product, least = np.empty((4, _ROWS))
    for first in range(0, rows, _ROWS):
        wide = min(_ROWS, rows - first)
        last = first + wide
        top[:] = -np.inf
        least[:] = 1.0
        product[:] = 1.0
        often[:] = 0.0
        for i in range(states):
            for j in range(states):
                given = pairs[i, j, first:last]
                for r in range(wide):
                    top[r] = max(top[r], given[r])
        for i in range(states):
            for j in range(states):
                given, own = pairs[i, j, first:last], follow[i, j]
                for r in range(wide):
                    below = given[r] - top[r]
                    own[r] = exponential.exp(below)
                    is_lost = -np.inf < below < _LEAST_LINK
                    least[r] = 0.0 if is_lost else least[r]
        total = found[first:last]
        for r in range(wide):
            total[r] = (count - 1) * top[r]
        for t in range(count):
            scale = scales[t]
            high[:] = -np.inf
            scale[:] = 0.0
            for j in range(states):
                given = steps[t, j, first:last]
                for r in range(wide):
                    high[r] = max(high[r], given[r])
            for j in range(states):
                given, factor, own = steps[t, j, first:last], here[t, j], ahead[t, j]
                for r in range(wide):
                    factor[r] = exponential.exp(given[r] - high[r])
                if t == 0:
                    for r in range(wide):
                        own[r] = 1.0
                else:
                    for r in range(wide):
                        own[r] = 0.0
                    for i in range(states):
                        before, pair = ahead[t - 1, i], follow[i, j]
                        for r in range(wide):
                            own[r] += before[r] * pair[r]
                for r in range(wide):
                    share_of = own[r] * factor[r]
                    is_lost = (
                        share_of < _LEAST_SHARE and own[r] > 0.0 and given[r] > -np.inf
                    )
                    least[r] = 0.0 if is_lost else least[r]
                    own[r] = share_of
                    scale[r] += share_of
            for r in range(wide):
                least[r] = min(least[r], scale[r])
                product[r] *= scale[r]
                total[r] += high[r]
                scale[r] = 1.0 / scale[r]
            for j in range(states):
                own = ahead[t, j]
                for r in range(wide):
                    own[r] *= scale[r]
            if t % _AT_ONCE == _AT_ONCE - 1 or t == count - 1:
                for r in range(wide):
                    total[r] += math.log(product[r])
                    product[r] = 1.0
        for r in range(wide):
            if not (least[r] >= _LEAST and math.isfinite(total[r])):
                return False
        later[:] = 1.0
        for t in range(count - 1, -1, -1):
            for i in range(states):
                share, own, back = to_steps[t, i, first:last], ahead[t, i], later[i]
                for r in range(wide):
                    share[r] = own[r] * back[r]
            if t == 0:
                break
            scale = scales[t]
            for j in range(states):
                back, factor, own = later[j], here[t, j], ahead[t, j]
                for r in range(wide):
                    # Without a share nothing counts that follows, large as it may be.
                    value = back[r] * factor[r] * scale[r]
                    back[r] = value if own[r] > 0.0 else 0.0
            for i in range(states):
                own, before = behind[i], ahead[t - 1, i]
                for r in range(wide):
                    own[r] = 0.0
                for j in range(states):
                    back, pair, expected = later[j], follow[i, j], often[i, j]
                    for r in range(wide):
                        part = pair[r] * back[r]
                        own[r] += part
                        expected[r] += before[r] * part
            later, behind = behind, later
        for i in range(states):
            for j in range(states):
                given, own = to_pairs[i, j, first:last], often[i, j]
                for r in range(wide):
                    given[r] = own[r]
    return True
