"""This file says where the support of a counted family may be cut off.

A support 0, 1, 2, ... becomes a table of the values between two cuts. The mass beyond
them is known from the family's distribution function.

    poisson(rate), geometric(p), negative-binomial(n, p), binomial(n, p): scipy.stats
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import scipy

__all__ = ["LOG_TAIL", "cut_beyond", "cuts_of", "log_mass_beyond"]

LOG_TAIL = math.log(1e-30)
"""Log of the mass that a cut leaves out at parameters known beforehand."""

_CUT_FACTOR = 2
_CUT_MARGIN = 30

_DISTRIBUTIONS: Mapping[str, Callable[..., Any]] = {
    "poisson": lambda rate: scipy.stats.poisson(rate),
    "geometric": lambda p: scipy.stats.geom(p, loc=-1),
    "negative-binomial": lambda n, p: scipy.stats.nbinom(n, p),
    "binomial": lambda n, p: scipy.stats.binom(n, p),
}
"""By family; scipy loads its statistics, half a second, when they are used first."""


def cut_beyond(largest: int) -> int:
    """Return a cut well beyond the largest of many draws."""
    return _CUT_FACTOR * largest + _CUT_MARGIN


def log_mass_beyond(family: str, parameters: Sequence[float], cut: int) -> float:
    """Return the log of the mass of the values above `cut`.

    Example:
        >>> round(log_mass_beyond("poisson", [3.0], 5), 4)
        -2.4779
    """
    return float(_DISTRIBUTIONS[family](*parameters).logsf(cut))


def cuts_of(
    family: str, parameters: Sequence[float], log_tail: float = LOG_TAIL
) -> tuple[int, int]:
    """Return the first and the last value to keep.

    The mass below the first, and that beyond the last, is less than e^log_tail.

    Example:
        >>> cuts_of("poisson", [3.0])
        (0, 39)
    """
    return _cuts_of(family, tuple(parameters), log_tail)


@cache
def _cuts_of(
    family: str, parameters: tuple[float, ...], log_tail: float
) -> tuple[int, int]:
    """Return what `cuts_of` does: thousands of configurations have few parameters."""
    distribution = _DISTRIBUTIONS[family](*parameters)
    high = 1
    while distribution.logsf(high) > log_tail:
        high *= 2
    last = _least(lambda cut: distribution.logsf(cut) <= log_tail, high)
    first = _least(lambda cut: distribution.logcdf(cut) > log_tail, last)
    return first, last


def _least(holds: Callable[[int], bool], high: int) -> int:
    """Return the least number from 0 for which a monotone claim holds, as at `high`."""
    low = -1
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle
    return high
