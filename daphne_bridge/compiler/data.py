"""This file reads data for a program: JSON or CSV text into constants by name.

A JSON object binds each of its keys; arrays become vectors, objects become maps with
keyword keys. A CSV table binds each column's header to the vector of its numbers, or of
its strings if one of them is no number.
"""

import csv
import io
import math
from collections.abc import Mapping
from typing import Any

from ..errors import Problem, ReadError
from ..graph.deep_json import JsonError, loads
from ..language.primitives import HashMap, Keyword, Value

__all__ = ["constants", "parse_data"]

_MAX_DEPTH = 200


def parse_data(text: str, filename: str) -> dict[str, Any]:
    """Return names and JSON values from the text of a data file.

    Args:
        text: The file's text.
        filename: Its name; one that ends in `.csv` holds a table, others JSON.

    Raises:
        ReadError: The text is not of that kind.
    """
    if filename.lower().endswith(".csv"):
        return _table(text, filename)
    try:
        value = loads(text)
    except JsonError as error:
        where = f"{filename}:{error.line}:{error.column}"
        raise ReadError(Problem(where, f"not JSON: {error}", "a JSON object")) from None
    if not isinstance(value, dict):
        raise ReadError(
            Problem(
                filename,
                "the data binds no names",
                "a JSON object, name to value",
                type(value).__name__,
            )
        )
    return value


def _table(text: str, filename: str) -> dict[str, Any]:
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    if not rows:
        raise ReadError(Problem(filename, "the table is empty", "a line of names"))
    names = [name.strip() for name in rows[0]]
    if len(set(names)) != len(names) or not all(names):
        raise ReadError(
            Problem(
                f"{filename}:1:1", "the columns need different names", got=str(names)
            )
        )
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(names):
            raise ReadError(
                Problem(
                    f"{filename}:{number}:1",
                    "a row has the wrong number of cells",
                    str(len(names)),
                    str(len(row)),
                )
            )
    columns = zip(*rows[1:], strict=True) if len(rows) > 1 else [()] * len(names)
    return {n: _column(list(c)) for n, c in zip(names, columns, strict=True)}


def _column(cells: list[str]) -> list[Any]:
    for kind in (int, float):
        try:
            numbers = [kind(cell) for cell in cells]
        except ValueError:
            continue
        if all(math.isfinite(x) for x in numbers):
            return numbers
    return [cell.strip() for cell in cells]


def constants(data: Mapping[str, Any]) -> dict[str, Value]:
    """Return the constants that a program sees for JSON values.

    Raises:
        ReadError: A value is nested too deeply, or is no JSON value.
    """
    return {name: _constant(value, name, 0) for name, value in data.items()}


def _constant(value: Any, path: str, depth: int) -> Value:
    if depth > _MAX_DEPTH:
        raise ReadError(
            Problem(f"data: {path}", "nested too deeply", f"{_MAX_DEPTH} levels")
        )
    match value:
        case list() | tuple():
            return tuple(
                _constant(x, f"{path}[{i}]", depth + 1) for i, x in enumerate(value)
            )
        case dict():
            return HashMap(
                (Keyword(k), _constant(v, f"{path}.{k}", depth + 1))
                for k, v in value.items()
            )
        case float() if not math.isfinite(value):
            raise ReadError(Problem(f"data: {path}", "not a finite number"))
        case None | bool() | int() | float() | str():
            return value
    raise ReadError(
        Problem(f"data: {path}", "not a JSON value", got=type(value).__name__)
    )
