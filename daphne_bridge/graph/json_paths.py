"""This file says where a term stands in a document, as a JSON path.

A path is linked, `(path of what contains the term, key)`, so that going one level down
costs nothing however deep the terms are nested; it becomes text when a problem is
reported.
"""

import re
from collections.abc import Iterable
from typing import Any

__all__ = ["Path", "json_path", "keys_of", "linked"]

Path = tuple[Any, ...]
"""Where a term stands: `(path of what contains it, key)`, or `()` for the document."""

_SHOWN_DEPTH = 24
"""Most keys shown of a JSON path."""


def json_path(keys: Iterable[str | int]) -> str:
    """Return a JSON path as text.

    Example:
        >>> json_path([1, "P", "sample3", 1])
        '$[1].P.sample3[1]'
    """
    return "$" + "".join(map(_step, keys))


def _step(key: str | int) -> str:
    if isinstance(key, int):
        return f"[{key}]"
    return f".{key}" if re.fullmatch(r"[\w-]+", key) else f"[{key!r}]"


def linked(*keys: str | int) -> Path:
    """Return the linked path of keys, outermost first."""
    path: Path = ()
    for key in keys:
        path = (path, key)
    return path


def keys_of(path: Path) -> list[str | int]:
    """Return the keys of a linked path, outermost first; deep paths are cut."""
    keys: list[str | int] = []
    while path:
        path, key = path
        keys.append(key)
    keys.reverse()
    return keys if len(keys) <= _SHOWN_DEPTH else [*keys[:_SHOWN_DEPTH], "..."]
