"""This file reads data for a program: JSON or CSV text into constants by name.

A JSON object binds each of its keys; arrays become vectors, objects become maps with
keyword keys. A CSV table binds each column's header to the vector of its numbers, or of
its strings where none of them is a number. A cell without a value among numbers
(empty, NA, NaN) is an error with its line and column, never a string.
"""

import csv
import io
import math
import re
from collections.abc import Mapping
from typing import Any

from ..errors import ReadError, shortened
from ..graph.deep_json import JsonError, loads
from ..language.primitives import HashMap, Keyword, Value

__all__ = ["constants", "is_plain_number", "parse_data"]

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
        raise ReadError.at(where, f"not JSON: {error}", "a JSON object") from None
    if not isinstance(value, dict):
        raise ReadError.at(
            filename,
            "the data binds no names",
            "a JSON object, name to value",
            type(value).__name__,
        )
    return value


def _table(text: str, filename: str) -> dict[str, Any]:
    reader = csv.reader(io.StringIO(text), strict=True)
    try:
        found = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        where = f"{filename}:{reader.line_num}"
        raise ReadError.at(
            where, f"not a table: {error}", "commas between cells, quotes that close"
        ) from None
    rows = [(line, [cell.strip() for cell in row]) for line, row in found]
    if not rows:
        raise ReadError.at(filename, "the table is empty", "a line of names")
    first, names = rows[0]
    _check_header(names, f"{filename}:{first}")
    if len(rows) == 1:
        raise ReadError.at(
            f"{filename}:{first}", "the table has no rows", "rows of values"
        )
    for line, row in rows[1:]:
        if len(row) != len(names):
            raise ReadError.at(
                f"{filename}:{line}:1",
                "a row has the wrong number of cells",
                str(len(names)),
                str(len(row)),
            )
    lines = [line for line, _ in rows[1:]]
    return {
        name: _column(
            [row[place] for _, row in rows[1:]], lines, f"column {name}", filename
        )
        for place, name in enumerate(names)
    }


def _check_header(names: list[str], where: str) -> None:
    """Raise unless every column has a name of its own."""
    for place, name in enumerate(names, start=1):
        if not name:
            index = ", as pandas does with to_csv(index=False)" if place == 1 else ""
            raise ReadError.at(
                f"{where}:{place}",
                f"column {place} has no name",
                f"a name for each column, or a table without it{index}",
                str(names),
            )
        if name in names[: place - 1]:
            raise ReadError.at(
                f"{where}:{place}",
                f"two columns are called {name}",
                "different names",
                str(names),
            )
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        raise ReadError.at(
            where, "the table has one column", "commas between the cells", names[0]
        )


_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_MISSING = frozenset({"", "na", "n/a", "null", "none", "nil"})


def _column(cells: list[str], lines: list[int], what: str, filename: str) -> list[Any]:
    """Return a column of numbers, or of strings if no cell is a number."""
    if all(map(_INTEGER.fullmatch, cells)):
        return _whole(cells, lines, what, filename)
    if all(map(is_plain_number, cells)):
        return _finite([float(cell) for cell in cells], lines, what, filename)
    has_numbers = any(map(is_plain_number, cells))
    has_strings = any(cell.lower() not in _MISSING for cell in cells)
    for line, cell in zip(lines, cells, strict=True):
        is_missing = cell.lower() in _MISSING and (
            not cell or has_numbers or not has_strings
        )
        is_odd = _reads_as_a_number(cell) or has_numbers
        if is_missing or (is_odd and not is_plain_number(cell)):
            raise ReadError.at(
                f"{filename}:{line}",
                f"{what} has no value here"
                if is_missing
                else f"{what} has no plain number here",
                "a number such as 1000 or 1.5e3",
                repr(cell) if cell else "an empty cell",
            )
    return cells


def _whole(cells: list[str], lines: list[int], what: str, filename: str) -> list[Any]:
    try:
        return [int(cell) for cell in cells]
    except ValueError:  # more digits than Python reads
        return _finite([float(cell) for cell in cells], lines, what, filename)


def is_plain_number(cell: str) -> bool:
    """Return whether a cell is a number as tables write it: not nan, inf or 1_000."""
    return _NUMBER.fullmatch(cell) is not None


def _reads_as_a_number(cell: str) -> bool:
    """Whether Python takes a cell for a number, as it does nan, inf and 1_000."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _finite(
    numbers: list[float], lines: list[int], what: str, filename: str
) -> list[float]:
    for line, number in zip(lines, numbers, strict=True):
        if not math.isfinite(number):
            raise ReadError.at(
                f"{filename}:{line}",
                f"{what} has a number that is too large",
                "a finite number",
            )
    return numbers


def constants(data: Mapping[str, Any]) -> dict[str, Value]:
    """Return the constants that a program sees for JSON values.

    Raises:
        ReadError: A value is nested too deeply, or is no JSON value.
    """
    return {name: _constant(value, name, 0) for name, value in data.items()}


def _constant(value: Any, path: str, depth: int) -> Value:
    if depth > _MAX_DEPTH:
        where = shortened(f"data: {path}")
        raise ReadError.at(where, "nested too deeply", f"{_MAX_DEPTH} levels")
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
            raise ReadError.at(f"data: {path}", "not a finite number")
        case None | bool() | int() | float() | str():
            return value
    raise ReadError.at(f"data: {path}", "not a JSON value", got=type(value).__name__)
