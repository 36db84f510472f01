"""This file reads and writes JSON of any depth, and refuses what JSON leaves open.

Python's `json` recurses: an expression nested a few thousand deep (an unrolled sum,
say) cannot be read or written by it. Here shallow text takes the library's fast path
and deep text an explicit stack. Duplicate keys, `NaN`, `Infinity` and numbers beyond
the doubles are refused; the stack reads such text again, since it knows the place.

Reference: RFC 8259, "The JavaScript Object Notation (JSON) Data Interchange Format".
"""

import json
import re
from collections.abc import Iterator
from math import isfinite
from typing import Any

from ..errors import shortened

__all__ = ["JsonError", "dumps", "is_object_text", "loads"]

_EXPECTING = "Expecting "
_DECODER = json.JSONDecoder()
_TOKEN = re.compile(
    r"[ \t\r\n]*(?:(?P<punctuation>[\[\]{},:])|(?P<quote>\")"
    r"|(?P<number>-?(?:0|[1-9]\d*)(?P<fraction>\.\d+)?(?P<exponent>[eE][+-]?\d+)?)"
    r"|(?P<word>true|false|null)|(?P<constant>NaN|-?Infinity)|(?P<end>\Z))"
)
_SPACE = re.compile(r"[ \t\r\n]*")
_WORDS = {"true": True, "false": False, "null": None}


class JsonError(ValueError):
    """The text is not JSON; `line` and `column` count from 1."""

    def __init__(self, message: str, line: int = 1, column: int = 1) -> None:
        super().__init__(message)
        self.line = line
        self.column = column


def loads(text: str) -> Any:
    """Return the value written in `text`.

    Raises:
        JsonError: If it is not JSON, repeats a key, or holds a non-finite number.
    """
    try:
        return json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except json.JSONDecodeError as error:
        raise _not_json(error) from None
    except (RecursionError, ValueError):
        return _loads_deep(text)


def dumps(value: Any, *, indent: int | None = None) -> str:
    """Return `value` as JSON text; keys keep their order.

    Args:
        value: What `loads` returns: objects, arrays, text, numbers, booleans, null.
        indent: Spaces per level for people, or None for one line. Ignored for values
            too deep for the library, which are written on one line.

    Raises:
        JsonError: If a number is not finite.
    """
    try:
        return json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=False)
    except RecursionError:
        return "".join(_pieces(value))
    except ValueError as error:
        raise JsonError(str(error)) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise JsonError("a key stands twice in one object")
    return result


def _refuse_constant(word: str) -> Any:
    raise JsonError(f"{word} is not a JSON number")


def _finite(digits: str) -> float:
    value = float(digits)
    if not isfinite(value):
        raise JsonError(f"{shortened(digits)} is too large for a number")
    return value


def _position(text: str, index: int) -> tuple[int, int]:
    line = text.count("\n", 0, index) + 1
    return line, index - (text.rfind("\n", 0, index) + 1) + 1


def _loads_deep(text: str) -> Any:
    """Return the value of `text` with a stack of open arrays and objects."""
    index = start = 0
    result: list[Any] = []
    stack: list[tuple[str, Any]] = [("document", result)]
    keys: list[str | None] = [None]
    expect_value = True

    def fail(message: str) -> JsonError:
        return JsonError(message, *_position(text, start))

    while True:
        match = _TOKEN.match(text, index)
        space = _SPACE.match(text, index)
        start = space.end() if space is not None else index
        if match is None:
            raise fail("unexpected character")
        kind, container = stack[-1]
        token = match.group("punctuation")
        index = match.end()
        if match.group("end") is not None:
            if len(stack) > 1 or len(result) != 1:
                raise fail("the text ends too early")
            return result[0]
        if token in ("]", "}") and (kind == "array") == (token == "]"):
            if len(stack) == 1 or (expect_value and container):
                raise fail(f"unexpected {token!r}")
            stack.pop()
            keys.pop()
            expect_value = False
            continue
        if token == ",":
            if expect_value or len(stack) == 1:
                raise fail("unexpected ','")
            expect_value = True
            continue
        if not expect_value:
            raise fail("no ',' and no end here")
        if kind == "object" and keys[-1] is None:
            if match.group("quote") is None:
                raise fail("no key in double quotes here")
            key, index = _string(text, start)
            colon = _TOKEN.match(text, index)
            if colon is None or colon.group("punctuation") != ":":
                raise fail("no ':' here")
            if key in container:
                raise fail(f"the key {shortened(repr(key))} stands twice in one object")
            index = colon.end()
            keys[-1] = key
            continue
        value: Any
        opened: tuple[str, Any] | None = None
        if token in ("[", "{"):
            value = [] if token == "[" else {}
            opened = ("array" if token == "[" else "object", value)
        elif match.group("quote") is not None:
            value, index = _string(text, start)
        elif match.group("number") is not None:
            is_whole = match.group("fraction") is None and not match.group("exponent")
            try:
                value = (int if is_whole else _finite)(match.group("number"))
            except JsonError as error:
                raise fail(str(error)) from None
            except ValueError:
                length = len(match.group("number").lstrip("-"))
                raise fail(f"a number of {length} digits is too long") from None
        elif match.group("word") is not None:
            value = _WORDS[match.group("word")]
        elif match.group("constant") is not None:
            raise fail(f"{match.group('constant')} is not a JSON number")
        else:
            raise fail(f"unexpected {token!r}")
        if kind == "object":
            container[keys[-1]] = value
            keys[-1] = None
        else:
            container.append(value)
        expect_value = opened is not None
        if opened is not None:
            stack.append(opened)
            keys.append(None)


def _string(text: str, start: int) -> tuple[str, int]:
    """Return the string at `start` and the index after it."""
    try:
        return _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise _not_json(error) from None


def _not_json(error: json.JSONDecodeError) -> JsonError:
    """Return what the library says against a text, without what it expects."""
    said = error.msg[:1].lower() + error.msg[1:]
    if error.msg.startswith(_EXPECTING):
        said = f"no {error.msg.removeprefix(_EXPECTING)} here"
    return JsonError(said, error.lineno, error.colno)


def _pieces(value: Any) -> Iterator[str]:
    """Yield the text of `value` piece by piece, on one line."""
    stack: list[Any] = [(None, value)]
    while stack:
        literal, item = stack.pop()
        if literal is not None:
            yield literal
        elif isinstance(item, list | tuple):
            stack.append(("]", None))
            for position in range(len(item) - 1, -1, -1):
                stack.append((None, item[position]))
                if position:
                    stack.append((", ", None))
            stack.append(("[", None))
        elif isinstance(item, dict):
            stack.append(("}", None))
            for position, (key, member) in reversed(list(enumerate(item.items()))):
                stack.append((None, member))
                comma = ", " if position else ""
                stack.append((f"{comma}{json.dumps(key, ensure_ascii=False)}: ", None))
            stack.append(("{", None))
        else:
            try:
                yield json.dumps(item, allow_nan=False, ensure_ascii=False)
            except ValueError as error:
                raise JsonError(str(error)) from None


def is_object_text(text: str) -> bool:
    """Return whether a text is JSON with an object at the top, which no program is.

    A graph document is such, right or wrong.
    """
    if text.lstrip()[:1] not in ("[", "{"):
        return False
    try:
        value = loads(text)
    except JsonError:
        return False
    parts = value if isinstance(value, list) else [value]
    return any(isinstance(part, dict) and part for part in parts)
