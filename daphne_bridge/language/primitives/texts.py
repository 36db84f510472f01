"""This file makes strings."""

from .numbers import as_integer
from .values import PrimitiveError, Rows, Value, checked_size, kind_of, text_of

__all__ = ["TEXTS"]


def _str(*values: Value) -> str:
    text = "".join(text_of(v) for v in values)
    checked_size(len(text))
    return text


def _subs(text: Value, start: Value, *end: Value) -> str:
    if not isinstance(text, str):
        raise PrimitiveError(f"a string is needed, not {kind_of(text)}")
    stop = as_integer(end[0]) if end else len(text)
    begin = as_integer(start)
    if not 0 <= begin <= stop <= len(text):
        raise PrimitiveError(f"characters {begin} to {stop} are outside the string")
    return text[begin:stop]


TEXTS: Rows = {
    "str": (0, None, _str),
    "subs": (2, 3, _subs),
}
"""Name: fewest arguments, most (None: no limit), meaning."""
