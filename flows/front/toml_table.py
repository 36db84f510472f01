"""This file reads a table of settings from a TOML file, and says where one is none."""

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from daphne_bridge.errors import shortened

from ..errors import FlowsError, Problem
from ..storage.folders import read_file

__all__ = ["toml_table"]

_LIMIT = 2**30
_LINE = "key = value, or a [table]"
_TWICE = ("Cannot", "Duplicate")
"""How `tomllib` begins to say that a key or a table is there already."""


def toml_table(path: Path) -> dict[str, Any]:
    """Return the table of a file.

    Raises:
        FlowsError: If it cannot be read, or holds none.
    """
    content = read_file(path, "a TOML file", limit=_LIMIT)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise FlowsError.at(str(path), "not TOML", "text in UTF-8") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise FlowsError(_not_toml(path, text, str(error))) from None
    except RecursionError:
        raise FlowsError.at(str(path), "nested too deeply", _LINE) from None
    except ValueError:
        raise FlowsError(_too_long(path, text)) from None


def _not_toml(path: Path, text: str, said: str) -> Problem:
    """Return what is wrong with the text of a file.

    Args:
        path: The file.
        text: What it holds.
        said: The words of `tomllib`, which end with the place.
    """
    lines = text.splitlines() or [""]
    said, _, place = said.rstrip(")").rpartition(" (at ")
    numbers = re.findall(r"\d+", place) or [str(len(lines)), str(len(lines[-1]) + 1)]
    where = ":".join([str(path), *numbers])
    got = shortened(lines[int(numbers[0]) - 1].strip())
    if said.startswith(_TWICE):
        return Problem(where, "a key stands twice", "each key once", got)
    what = f"not TOML: {said[:1].lower()}{said[1:]}"
    return Problem(where, what, _LINE, got)


def _too_long(path: Path, text: str) -> Problem:
    """Return where a whole number has more digits than Python reads."""
    most = sys.get_int_max_str_digits()
    found = re.search(rf"(?:\d_?){{{most + 1},}}", text)
    start, digits = (found.start(), found.group()) if found else (0, "")
    line, column = text.count("\n", 0, start) + 1, start - text.rfind("\n", 0, start)
    return Problem(
        f"{path}:{line}:{column}",
        "the number is too long",
        f"{most} digits at most",
        shortened(digits),
    )
