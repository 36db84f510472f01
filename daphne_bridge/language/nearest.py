"""This file answers a name that is not known with the nearest one that is."""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["or_nearest"]


def or_nearest(expected: str, name: str, known: Iterable[str]) -> str:
    """Return what was expected, with the known name that is most like `name`.

    Example:
        >>> or_nearest("a distribution", "nomal", ["normal", "gamma"])
        'a distribution, perhaps normal'
        >>> or_nearest("a distribution", "zipf", ["normal", "gamma"])
        'a distribution'
    """
    found = get_close_matches(name, sorted(set(known)), n=1, cutoff=0.7)
    return f"{expected}, perhaps {found[0]}" if found else expected
