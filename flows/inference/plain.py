"""This file turns figures into plain values, null standing for what is not finite."""

import math
from typing import Any

__all__ = ["plain"]


def plain(value: Any) -> Any:
    """Return a value that JSON can hold, with tuples as lists.

    Example:
        >>> plain({"k_hat": math.nan, "levels": (0.5, math.inf)})
        {'k_hat': None, 'levels': [0.5, None]}
    """
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
