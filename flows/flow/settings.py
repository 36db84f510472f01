"""This file reads frozen dataclasses of plain settings from tables, as TOML gives them.

A setting is a bool, a whole number, a number or text, by its default. `bounded` states
bounds and `choice` the words that are known. All problems of a table are found at once.
"""

from collections.abc import Collection, Mapping
from dataclasses import MISSING, Field, field, fields
from typing import Any

from daphne_bridge.errors import shortened
from daphne_bridge.language.nearest import or_nearest

from ..errors import Problem

__all__ = ["UNKNOWN", "bounded", "choice", "problem_of", "read_settings"]

UNKNOWN = "unknown key"
"""What is wrong with a setting that a table may not have."""


def bounded(default: float, low: float, high: float = float("inf")) -> Any:
    """A setting between bounds, which are allowed."""
    return field(default=default, metadata={"bounds": (low, high)})


def choice(*known: str) -> Any:
    """A setting that is one of some words; the first unless told."""
    return field(default=known[0], metadata={"known": known})


def read_settings(
    kind: type, table: Mapping[str, Any], where: str, *, apart: Collection[str] = ()
) -> tuple[dict[str, Any], list[Problem]]:
    """The settings of a table that are right, and what is wrong with the others.

    Args:
        kind: the dataclass.
        table: what was read.
        where: what it was read from, for messages.
        apart: names of fields that are read elsewhere.

    Example:
        >>> from flows.cnf.vector_field import FieldConfig
        >>> values, problems = read_settings(FieldConfig, {"layers": 1}, "a table")
        >>> print(problems[0])
        a table, layers: out of bounds; expected 2 <= value <= 64; got 1
    """
    known = {f.name: f for f in fields(kind) if f.name not in apart}
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for key, value in table.items():
        place = f"{where}, {shortened(key)}"
        if key not in known:
            expected = or_nearest(f"one of {', '.join(sorted(known))}", key, known)
            problems.append(Problem(place, UNKNOWN, expected, shortened(repr(key))))
        elif problem := problem_of(known[key], value, place):
            problems.append(problem)
        else:
            is_real = isinstance(known[key].default, float)
            values[key] = float(value) if is_real else value
    return values, problems


def problem_of(known: Field[Any], value: Any, place: str) -> Problem | None:
    """What is wrong with the value of a setting."""
    default = known.default
    if default is MISSING:
        raise AssertionError(f"field {known.name} has no plain default")
    if isinstance(default, bool):
        types: tuple[type, ...] = (bool,)
        expected = "true or false"
    elif isinstance(default, str):
        types, expected = (str,), "text"
    elif isinstance(default, float):
        types, expected = (int, float), "a number"
    else:
        types, expected = (int,), "a whole number"
    what = "wrong type"
    if isinstance(value, types) and isinstance(value, bool) == (types == (bool,)):
        words = known.metadata.get("known")
        bounds = known.metadata.get("bounds")
        if words is not None and value not in words:
            what, expected = f"unknown {known.name}", f"one of {', '.join(words)}"
        elif bounds is not None and not bounds[0] <= value <= bounds[1]:
            what, expected = "out of bounds", f"{bounds[0]} <= value <= {bounds[1]}"
        else:
            return None
    return Problem(place, what, expected, shortened(repr(value)))
