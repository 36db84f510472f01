"""This file says where the support of a counted family may be cut off.

A support 0, 1, 2, ... becomes a table of the values between two cuts. The mass beyond
them is known from the family's distribution function.

References:
    Johnson, Kemp, Kotz (2005), Univariate discrete distributions: distribution
    functions by incomplete gamma and beta functions.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from scipy import special

__all__ = ["LOG_TAIL", "cut_beyond", "cuts_of", "log_mass_beyond"]

LOG_TAIL = math.log(1e-30)
"""Log of the mass that a cut leaves out at parameters known beforehand."""

_CUT_FACTOR = 2
_CUT_MARGIN = 30


def _log(mass: float) -> float:
    return math.log(mass) if mass > 0.0 else -math.inf


def _poisson(cut: int, rate: float) -> tuple[float, float]:
    return _log(special.pdtr(cut, rate)), _log(special.pdtrc(cut, rate))


def _geometric(cut: int, p: float) -> tuple[float, float]:
    beyond = float((cut + 1) * special.log1p(-p))
    return _log(-math.expm1(beyond)), beyond


def _negative_binomial(cut: int, n: float, p: float) -> tuple[float, float]:
    up_to = special.betainc(n, cut + 1, p)
    return _log(up_to), _log(special.betaincc(n, cut + 1, p))


def _binomial(cut: int, n: float, p: float) -> tuple[float, float]:
    if cut >= n:
        return 0.0, -math.inf
    beyond = special.betainc(cut + 1, n - cut, p)
    return _log(special.betaincc(cut + 1, n - cut, p)), _log(beyond)


_LOG_MASSES: Mapping[str, Callable[..., tuple[float, float]]] = {
    "poisson": _poisson,
    "geometric": _geometric,
    "negative-binomial": _negative_binomial,
    "binomial": _binomial,
}
"""By family: the logs of the mass up to a value, and of that beyond it."""


def cut_beyond(largest: int) -> int:
    """Return a cut well beyond the largest of many draws."""
    return _CUT_FACTOR * largest + _CUT_MARGIN


def log_mass_beyond(family: str, parameters: Sequence[float], cut: int) -> float:
    """Return the log of the mass of the values above `cut`.

    Example:
        >>> round(log_mass_beyond("poisson", [3.0], 5), 4)
        -2.4779
    """
    return _LOG_MASSES[family](cut, *parameters)[1]


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
    masses = _LOG_MASSES[family]
    high = 1
    while masses(high, *parameters)[1] > log_tail:
        high *= 2
    last = _least(lambda cut: masses(cut, *parameters)[1] <= log_tail, high)
    first = _least(lambda cut: masses(cut, *parameters)[0] > log_tail, last)
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
