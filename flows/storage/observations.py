"""This file reads data sets from a file: one row for each.

- CSV: the first line names observed nodes, every other line is a data set of numbers.
- JSON: a list of objects, `[{"y0": 0.2, "y1": 1.4}, ...]`.

Nodes that a row leaves out keep the document's data.
"""

import csv
import io
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from daphne_bridge.compiler.data import is_plain_number
from daphne_bridge.errors import shortened
from daphne_bridge.graph.deep_json import JsonError, loads

from ..errors import FlowsError
from ..model.observation import Given
from .folders import read_file

__all__ = ["as_data", "load_observations"]

_LIMIT = 2**28
_MAX_DEPTH = 200
_ROWS = '[{"name": value, ...}, ...]'


def load_observations(path: Path | str) -> list[Given]:
    """Return the values of every data set by name of an observed node.

    Raises:
        FlowsError: If the file is neither, or holds no data set.
    """
    path = Path(path)
    content = read_file(path, "a CSV or JSON file of data sets", limit=_LIMIT)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise FlowsError.at(str(path), "not a text file", "CSV or JSON") from None
    rows = (_from_json if path.suffix.lower() == ".json" else _from_csv)(text, path)
    if not rows:
        raise FlowsError.at(str(path), "there is no data set", "at least one row")
    return rows


def _from_json(text: str, path: Path) -> list[Given]:
    try:
        value = loads(text)
    except JsonError as error:
        where = f"{path}:{error.line}:{error.column}"
        raise FlowsError.at(where, f"not JSON: {error}", _ROWS) from None
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise FlowsError.at(str(path), "not a list of data sets", _ROWS)
    return [_given(row, f"{path} row {number}") for number, row in enumerate(value, 1)]


def _given(row: Mapping[str, Any], where: str) -> Given:
    places = {name: _place(where, name) for name in row}
    values = {name: as_data(item, places[name]) for name, item in row.items()}
    return Given(values, places)


def _place(where: str, name: str) -> str:
    shown = shortened(name) or '""'
    return f"{where} {shown}"


def _from_csv(text: str, path: Path) -> list[Given]:
    reader = csv.reader(io.StringIO(text, newline=None), strict=True)
    try:
        lines = list(reader)
    except csv.Error as error:
        raise FlowsError.at(
            f"{path} line {reader.line_num}",
            f"not a table: {error}",
            "commas between values, quotes that close",
        ) from None
    header = [name.strip() for name in lines[0]] if lines else []
    _check_header(header, f"{path} line 1")
    rows = []
    for number, line in enumerate(lines[1:], 2):
        if not line:
            continue
        where = f"{path} line {number}"
        if len(line) != len(header):
            raise FlowsError.at(
                where, "wrong number of values", str(len(header)), str(len(line))
            )
        row = {}
        for name, entry in zip(header, line, strict=True):
            row[name] = _number(entry, _place(where, name))
        rows.append(_given(row, where))
    return rows


def _check_header(names: Sequence[str], where: str) -> None:
    """Raise unless every column has a name of its own."""
    if "" in names:
        what = f"column {names.index('') + 1} has no name"
        got = shortened(str(names))
        raise FlowsError.at(where, what, "a name for each column", got)
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        what, got = "a name stands twice", shortened(twice[0])
        raise FlowsError.at(where, what, "each name once", got)


def _number(entry: str, where: str) -> float:
    """Return the number that a cell of a table is."""
    got = shortened(repr(entry))
    if not is_plain_number(entry.strip()):
        expected = "a plain number such as 1000 or 1.5e3"
        raise FlowsError.at(where, "not a number", expected, got)
    if not math.isfinite(number := float(entry)):
        raise FlowsError.at(where, "the number is too large", "a finite number", got)
    return number


def as_data(value: Any, where: str) -> Any:
    """Return an observed value with vectors as tuples.

    Raises:
        FlowsError: If a number in it is not finite, or lists in lists have no end;
            `where` is its place.
    """
    _check_depth(value, where)
    return _as_tuples(value, where)


def _check_depth(value: Any, where: str) -> None:
    level = [value]
    for _ in range(_MAX_DEPTH + 1):
        level = [part for item in level for part in _parts(item)]
        if not level:
            return
    raise FlowsError.at(where, "nested too deeply", f"{_MAX_DEPTH} levels")


def _parts(value: Any) -> Iterable[Any]:
    """Return what is inside of a value."""
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _as_tuples(value: Any, where: str) -> Any:
    if isinstance(value, list):
        return tuple(_as_tuples(item, where) for item in value)
    if isinstance(value, float) and not math.isfinite(value):
        what = "the observation is not finite"
        raise FlowsError.at(where, what, "a finite number", str(value))
    return value
