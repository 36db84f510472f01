r"""This file is the compiled sum of log densities of many values of one mixture.

For value n of data row r, whose entries d are normal given the component v,

    S_r = Σ_n log Σ_v exp(w_vr - ½ Σ_d z²),      z = (x_dnr - m_dvr) · i_dvr,

with its slopes, from the same exponentials: each p_v, the probability of component v
given value n, adds to Σ p, Σ p z and Σ p z². Rows are gone through 64 at a time, for
which all that is read and written again stays in the processor's cache, and are the
innermost loops, which LLVM makes vectors of. Sums over v lie in [1, components], so
that the logarithm of a product of 64 of them is that of all.
"""

import math
import sys
from functools import cache
from typing import Any

import numpy as np

from . import exponential
from .cache import compiled

__all__ = ["mixture_sums"]

FloatArray = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

_ROWS = 64
_LANES = 8


def mixture_sums(
    values: FloatArray, means: FloatArray, inverses: FloatArray, weights: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return S and its slopes by means, inverses and weights.

    Args:
        values: x, [entry, value, row]; one row stands for all. All are finite.
        means: m, [entry, component, row].
        inverses: i, one over the scales, of the same shape.
        weights: w, [component, row].

    Example:
        >>> one = np.ones((1, 1, 1))
        >>> found, *_ = mixture_sums(one, one, one, np.zeros((1, 1)))
        >>> found.tolist()
        [0.0]
    """
    found = np.empty(weights.shape[1])
    slopes = np.empty_like(means), np.empty_like(means), np.empty_like(weights)
    _compiled()(values, means, inverses, weights, found, *slopes)
    return found, *slopes


@cache
def _compiled() -> Any:
    sources = [sys.modules[__name__], exponential]
    return compiled(_loop, sources, exponential.OPTIONS)


def _loop(
    values: FloatArray,
    means: FloatArray,
    inverses: FloatArray,
    weights: FloatArray,
    found: FloatArray,
    to_means: FloatArray,
    to_inverses: FloatArray,
    to_weights: FloatArray,
) -> None:
    entries, count, value_rows = values.shape
    components, rows = weights.shape
    x = np.empty((entries, _ROWS))
    m, i = np.empty((2, entries, components, _ROWS))
    w, share = np.empty((2, components, _ROWS))
    high, total, product, tops = np.empty((4, _ROWS))
    of_z, of_squares = np.empty((2, entries, components, _ROWS))
    of_shares = np.empty((components, _ROWS))
    for first in range(0, rows, _ROWS):
        real = min(_ROWS, rows - first)
        wide = (real + _LANES - 1) // _LANES * _LANES  # rows beyond are the last again
        of_z[:] = 0.0
        of_squares[:] = 0.0
        of_shares[:] = 0.0
        product[:] = 1.0
        tops[:] = 0.0
        for r in range(wide):
            row = min(first + r, rows - 1)
            for v in range(components):
                w[v, r] = weights[v, row]
                for d in range(entries):
                    m[d, v, r] = means[d, v, row]
                    i[d, v, r] = inverses[d, v, row]
        for n in range(count):
            for d in range(entries):
                own, given = x[d], values[d, n]
                if value_rows == 1:
                    own[:] = given[0]
                else:
                    for r in range(wide):
                        own[r] = given[min(first + r, rows - 1)]
            high[:] = -np.inf
            total[:] = 0.0
            for v in range(components):
                exponent, weight = share[v], w[v]
                own, mean, inverse = x[0], m[0, v], i[0, v]
                for r in range(wide):
                    z = (own[r] - mean[r]) * inverse[r]
                    exponent[r] = weight[r] - 0.5 * z * z
                for d in range(1, entries):
                    own, mean, inverse = x[d], m[d, v], i[d, v]
                    for r in range(wide):
                        z = (own[r] - mean[r]) * inverse[r]
                        exponent[r] -= 0.5 * z * z
                for r in range(wide):
                    high[r] = max(high[r], exponent[r])
            for v in range(components):
                exponent = share[v]
                for r in range(wide):
                    part = exponential.exp(exponent[r] - high[r])
                    exponent[r] = part
                    total[r] += part
            for r in range(wide):
                product[r] *= total[r]
                tops[r] += high[r]
                total[r] = 1.0 / total[r]
            for v in range(components):
                part_of, to_share = share[v], of_shares[v]
                for r in range(wide):
                    part = part_of[r] * total[r]
                    part_of[r] = part
                    to_share[r] += part
                for d in range(entries):
                    own, mean, inverse = x[d], m[d, v], i[d, v]
                    to_z, to_squares = of_z[d, v], of_squares[d, v]
                    for r in range(wide):
                        z = (own[r] - mean[r]) * inverse[r]
                        slope = part_of[r] * z
                        to_z[r] += slope
                        to_squares[r] += slope * z
            if n % 64 == 63:
                for r in range(wide):
                    tops[r] += math.log(product[r])
                    product[r] = 1.0
        for r in range(real):
            row = first + r
            found[row] = tops[r] + math.log(product[r])
            for v in range(components):
                to_weights[v, row] = of_shares[v, r]
                for d in range(entries):
                    inverse = inverses[d, v, row]
                    to_means[d, v, row] = of_z[d, v, r] * inverse
                    to_inverses[d, v, row] = -of_squares[d, v, r] / inverse
