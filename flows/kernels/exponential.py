"""This file is an exponential that LLVM can make vectors of, as Numba's own is not.

exp(y) = 2^k exp(t), y = k ln 2 + t, by the Taylor polynomial of degree 12 in
|t| <= ln(2) / 2, which errs by 2e-16. Below -700, 1e-304, it is 0; above 0 and for nan
it is not for use.
"""

import math
from typing import Any

import numba
import numpy as np

__all__ = ["OPTIONS", "exp"]

OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract", "nsz"},
}
"""How loops are compiled."""

_LEAST = -700.0
_LOG2E = 1.0 / math.log(2.0)
_LN2_HIGH = 0.693147180369123816490  # 33 bits, so that products with k are exact
_LN2_LOW = 1.90821492927058770002e-10
_ROUND = 1.5 * 2.0**52
"""Added to a number, leaves the nearest whole one in the low bits."""
_TAYLOR = tuple(1.0 / math.factorial(power) for power in range(13))


def _by_series(given: float) -> float:
    power = max(given, _LEAST)
    shifted = power * _LOG2E + _ROUND
    whole = shifted - _ROUND
    rest = (power - whole * _LN2_HIGH) - whole * _LN2_LOW
    total = _TAYLOR[12]
    total = total * rest + _TAYLOR[11]
    total = total * rest + _TAYLOR[10]
    total = total * rest + _TAYLOR[9]
    total = total * rest + _TAYLOR[8]
    total = total * rest + _TAYLOR[7]
    total = total * rest + _TAYLOR[6]
    total = total * rest + _TAYLOR[5]
    total = total * rest + _TAYLOR[4]
    total = total * rest + _TAYLOR[3]
    total = total * rest + _TAYLOR[2]
    total = total * rest + 1.0
    total = total * rest + 1.0
    exponent = np.float64(shifted).view(np.int64) << 52
    scaled = np.int64(np.float64(total).view(np.int64) + exponent).view(np.float64)
    return scaled if given > _LEAST else 0.0


exp: Any = numba.njit(inline="always", **OPTIONS)(_by_series)
