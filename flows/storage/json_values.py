"""This file turns frozen dataclasses into JSON and back, and writes JSON text.

A dataclass is an object with its fields as members, a tuple an array. A field that is
None or an empty tuple, and may be left out, is left out. Reading trusts the form, which
a schema has checked before. Numbers that JSON cannot hold are refused.

Law: `from_json(type(v), to_json(v)) == v`.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from ..errors import ArtifactError, Problem

__all__ = [
    "check_finite",
    "finite_or_none",
    "from_json",
    "json_bytes",
    "parsed",
    "to_json",
]


def finite_or_none(value: float) -> float | None:
    """Return a number, or None in place of one that JSON cannot hold."""
    return value if math.isfinite(value) else None


def to_json(value: Any) -> Any:
    """Return a value as dicts, lists, texts and numbers."""
    if is_dataclass(value):
        return {
            field.name: to_json(found)
            for field in fields(value)
            if (found := getattr(value, field.name)) not in (None, ())
            or field.default is MISSING
        }
    if isinstance(value, Mapping):
        return {key: to_json(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [to_json(each) for each in value]
    return value


def from_json(kind: Any, entry: Any) -> Any:
    """Return the value of a type that an entry of the right form stands for."""
    if is_dataclass(kind):
        hints = _hints(kind)  # type: ignore[arg-type]
        found = {name: from_json(hints[name], each) for name, each in entry.items()}
        return kind(**found)  # type: ignore[operator]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType:  # of a type and None, which no file holds
        return from_json(arguments[0], entry)
    if origin is tuple:
        return tuple(from_json(arguments[0], each) for each in entry)
    if origin is Mapping:
        return {key: from_json(arguments[1], each) for key, each in entry.items()}
    return entry


def parsed(
    text: str | bytes, *, object_hook: Callable[[dict[str, Any]], Any] | None = None
) -> Any:
    """Return what JSON text says.

    Args:
        text: What a file holds.
        object_hook: Called with every object, of which it returns the value.

    Raises:
        ValueError: If it is not JSON, or nested too deeply to be read.
    """
    try:
        return json.loads(text, object_hook=object_hook)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def json_bytes(value: Any, where: str, *, indent: int | None = 1) -> bytes:
    """Return a value as the text of a file.

    Args:
        value: Dicts, lists, texts and numbers.
        where: The file, for the message.
        indent: Of what is inside of what; None writes one line.

    Raises:
        ArtifactError: If a number is not finite.
    """
    check_finite(value, where)
    return (json.dumps(value, indent=indent, allow_nan=False) + "\n").encode()


def check_finite(value: Any, where: str) -> None:
    """Check that JSON can hold all numbers of a value.

    Raises:
        ArtifactError: If one is not finite; the message says where it stands.
    """
    stack = [("$", value)]
    while stack:
        path, found = stack.pop()
        if isinstance(found, float) and not math.isfinite(found):
            problem = Problem(
                f"{where}: {path}"[:300],
                "this number cannot be written",
                "a finite number",
                str(found),
            )
            raise ArtifactError(problem)
        if isinstance(found, Mapping):
            stack.extend((f"{path}.{key}", each) for key, each in found.items())
        elif isinstance(found, list | tuple):
            stack.extend((f"{path}[{i}]", each) for i, each in enumerate(found))


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)
