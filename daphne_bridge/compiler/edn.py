"""This file writes Daphne's JSON values in Clojure's data notation.

In the JSON, a name is a string and a string has quotes inside; a call is an array, as
is a vector of Y. Here a name is a symbol, a call a list `( )`, and the parts of a graph
are keyed `:V :A :P :Y`, with V and the children in A as sets.
"""

import math
from typing import Any

from ..language.primitives import format_double, word_of

__all__ = ["show_edn"]


def show_edn(value: Any) -> str:
    """Return the edn text of a graph document or of any JSON value of Daphne.

    Example:
        >>> show_edn(["normal", 0, 1.5])
        '(normal 0 1.5)'
    """
    parts: list[str] = []
    work: list[Any] = [("value", value)]
    while work:
        kind, item = work.pop()
        if kind == "text":
            parts.append(item)
        elif isinstance(item, (list, tuple, dict)):
            work.extend(reversed(_pieces(kind, item)))
        else:
            parts.append(_atom(item))
    return "".join(parts)


def _pieces(kind: str, item: Any) -> list[tuple[str, Any]]:
    if isinstance(item, dict):
        is_graph = set(item) == {"V", "A", "P", "Y"}
        rows = []
        for key, value in item.items():
            rows.append([("text", f":{key} " if is_graph else f"{_key(key)} ")])
            rows[-1].append((_inner_kind(key) if is_graph else kind, value))
        return _joined("{", "}", rows, ", ")
    if kind == "set":
        return _joined("#{", "}", [[("value", x)] for x in item], " ")
    if kind == "data":
        return _joined("[", "]", [[("data", x)] for x in item], " ")
    if kind == "bindings":
        return _joined("[", "]", [[("value", x)] for x in item], " ")
    if item[:1] == ["vector"]:
        return _joined("[", "]", [[("value", x)] for x in item[1:]], " ")
    if item[:1] == ["hash-map"] and len(item) % 2:
        pairs = zip(item[1::2], item[2::2], strict=True)
        rows = [[("value", k), ("text", " "), ("value", v)] for k, v in pairs]
        return _joined("{", "}", rows, ", ")
    is_triple = len(item) == 3 and isinstance(item[0], dict)
    ends = "[]" if is_triple else "()"
    if item[:1] == ["fn"] and len(item) > 1 and isinstance(item[1], (list, tuple)):
        names = ("text", "[" + " ".join(map(str, item[1])) + "]")
        rest = [[("value", x)] for x in item[2:]]
        return _joined("(", ")", [[("text", "fn")], [names], *rest], " ")
    if item[:1] == ["let"] and len(item) > 1 and isinstance(item[1], (list, tuple)):
        bound = ("bindings", item[1])
        bodies = [[("value", x)] for x in item[2:]]
        return _joined("(", ")", [[("text", "let")], [bound], *bodies], " ")
    return _joined(ends[0], ends[1], [[("value", x)] for x in item], " ")


def _inner_kind(key: str) -> str:
    return {"V": "set", "A": "set", "Y": "data"}.get(key, "value")


def _joined(
    start: str, end: str, rows: list[list[tuple[str, Any]]], between: str
) -> list[tuple[str, Any]]:
    pieces: list[tuple[str, Any]] = [("text", start)]
    for position, row in enumerate(rows):
        if position:
            pieces.append(("text", between))
        pieces.extend(row)
    return [*pieces, ("text", end)]


def _key(key: str) -> str:
    return key or "nil"


def _atom(value: Any) -> str:
    if word := word_of(value):
        return word
    match value:
        case float():
            if not math.isfinite(value):
                return f"##{format_double(value).replace('Infinity', 'Inf')}"
            return format_double(value)
        case str() if len(value) > 1 and value[0] == value[-1] == '"':
            inner = value[1:-1].replace("\\", "\\\\").replace('"', '\\"')
            return f'"{inner}"'
    return str(value)
