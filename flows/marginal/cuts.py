"""This file says where the infinite support of a counted family may be cut off.

A support 0, 1, 2, ... becomes a table of the values up to a cut. The mass beyond it is
known from the family's distribution function.

    poisson(rate), geometric(p), negative-binomial(n, p): scipy.stats
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scipy import stats

__all__ = ["LOG_TAIL", "cut_of", "log_mass_beyond"]

LOG_TAIL = math.log(1e-30)
"""Log of the mass that a cut leaves out at parameters known beforehand."""

_DISTRIBUTIONS: Mapping[str, Callable[..., Any]] = {
    "poisson": stats.poisson,
    "geometric": lambda p: stats.geom(p, loc=-1),
    "negative-binomial": stats.nbinom,
}


def log_mass_beyond(family: str, parameters: Sequence[float], cut: int) -> float:
    """Return the log of the mass of the values above `cut`.

    Example:
        >>> round(log_mass_beyond("poisson", [3.0], 5), 4)
        -2.4779
    """
    return float(_DISTRIBUTIONS[family](*parameters).logsf(cut))


def cut_of(family: str, parameters: Sequence[float], log_tail: float = LOG_TAIL) -> int:
    """Return the least value beyond which the mass is below e^log_tail.

    Example:
        >>> 30 < cut_of("poisson", [3.0]) < 60
        True
    """
    low, high = -1, 1
    while log_mass_beyond(family, parameters, high) > log_tail:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if log_mass_beyond(family, parameters, middle) > log_tail:
            low = middle
        else:
            high = middle
    return high
