"""This file reads arguments that Python programs give: whole numbers and places."""

import operator
import os
from pathlib import Path
from typing import Any

from daphne_bridge.errors import shortened

from ..errors import ArgumentError
from ..inference.importance import MOST_SEED

__all__ = ["path_of", "seed_of", "whole"]


def whole(where: str, value: Any, least: int, most: int | None = None) -> int:
    """Return a whole number in a range, also one of numpy.

    Raises:
        ArgumentError: If it is none; a boolean is none.

    Example:
        >>> whole("num_draws", 3, 1)
        3
    """
    try:
        number = least - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = least - 1
    if number < least or (most is not None and number > most):
        top = "" if most is None else f" to {most}"
        raise ArgumentError.at(
            where,
            "not a number in range",
            f"a whole number from {least}{top}",
            shortened(repr(value)),
        )
    return number


def seed_of(seed: Any) -> int:
    """Return a seed, as the random generators take it.

    Raises:
        ArgumentError: If it is none.
    """
    return whole("seed", seed, 0, MOST_SEED)


def path_of(where: str, place: Any) -> Path:
    """Return the path of a file or folder.

    Raises:
        ArgumentError: If it is none.
    """
    if not isinstance(place, str | os.PathLike):
        raise ArgumentError.at(
            where, "not a path", "text or a Path", shortened(repr(place))
        )
    return Path(place)
