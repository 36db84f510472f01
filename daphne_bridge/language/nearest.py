"""This file answers a name that is not known with the nearest one that is."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from types import MappingProxyType

__all__ = ["or_nearest"]

_ELSEWHERE: Mapping[str, str] = MappingProxyType(
    {
        "array": "vector",
        "condition": "observe",
        "define": "defn",
        "dict": "hash-map",
        "expon": "exponential",
        "expt": "pow",
        "factor": "observe",
        "gaussian": "normal",
        "lambda": "fn",
        "len": "count",
        "length": "count",
        "ln": "log",
        "multinomial": "discrete",
        "multivariate-normal": "mvn",
        "neg-binomial": "negative-binomial",
        "power": "pow",
        "rand": "uniform",
        "rand-int": "uniform-discrete",
        "randn": "normal",
        "size": "count",
        "student": "student-t-loc-scale",
    }
)
"""What other languages call it."""
_FEWEST_LETTERS = 4
"""With which a name may begin, to be meant."""


def or_nearest(expected: str, name: str, known: Iterable[str]) -> str:
    """Return what was expected, with the known name that is most like `name`.

    Or with the only one that begins so.

    Example:
        >>> or_nearest("a distribution", "nomal", ["normal", "gamma"])
        'a distribution, perhaps normal'
        >>> or_nearest("a distribution", "gaussian", ["normal", "gamma"])
        'a distribution, perhaps normal'
        >>> or_nearest("a distribution", "zipf", ["normal", "gamma"])
        'a distribution'
    """
    names = {word: word for word in known}
    names |= {
        word: own
        for word, own in _ELSEWHERE.items()
        if own in names and word not in names
    }
    swapped = [word for word in sorted(names) if sorted(word) == sorted(name)]
    found = swapped or get_close_matches(name, sorted(names), n=1, cutoff=0.7)
    begun = [word for word in names if word.startswith(name)]
    if not found and len(name) >= _FEWEST_LETTERS and len(begun) == 1:
        found = begun
    return f"{expected}, perhaps {names[found[0]]}" if found else expected
