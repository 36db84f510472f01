"""This file reads the forms that steer reading: let, if, loop and foreach.

`if` with a constant condition is decided before its branches are read, so that
recursion over known data ends; `loop` and `foreach` have known counts.
"""

from collections.abc import Mapping
from typing import Any

from .expression import Constant, Expression, is_false
from .json_paths import Path
from .term_reader import Form, Scope, Step, TermReader, read_each

__all__ = ["CONTROL_FORMS"]


def _let(reader: TermReader, term: list[Any], scope: Scope, path: Path) -> Step:
    if len(term) < 3 or not isinstance(term[1], list) or len(term[1]) % 2:
        raise reader.refuse(path, "malformed let", '["let", [name, value], body]')
    inner = dict(scope)
    bindings = term[1]
    for index in range(0, len(bindings), 2):
        place = ((path, 1), index + 1)
        inner[bindings[index]] = yield from reader.argument(
            bindings[index + 1], inner, place
        )
    return (yield from read_each(term, 2, inner, path))[-1]


def _if(reader: TermReader, term: list[Any], scope: Scope, path: Path) -> Step:
    if len(term) not in (3, 4):
        raise reader.refuse(path, "malformed if", '["if", condition, then, else]')
    condition = yield term[1], scope, (path, 1)
    branches = ((term[2], 2), (term[3] if len(term) == 4 else None, 3))
    if isinstance(condition, Constant):
        branch, key = branches[is_false(condition.value)]
        return (yield branch, scope, (path, key))
    arguments: list[Expression] = [condition]
    for branch, key in branches:
        arguments.append((yield branch, scope, (path, key)))
    return reader.table.call("if", arguments)


def _loop(reader: TermReader, term: list[Any], scope: Scope, path: Path) -> Step:
    if len(term) < 4:
        raise reader.refuse(path, "malformed loop", '["loop", n, start, f, ...]')
    count = _count(reader, (yield term[1], scope, (path, 1)), "loop", path)
    accumulator = yield term[2], scope, (path, 2)
    extra: dict[str, Expression | str] = {}
    for index in range(4, len(term)):
        place = (path, index)
        extra[f"a {index}"] = yield from reader.argument(term[index], scope, place)
    for turn in range(count):
        inner = {**scope, **extra, "acc ": accumulator}
        accumulator = yield [term[3], turn, "acc ", *extra], inner, path
    return accumulator


def _foreach(reader: TermReader, term: list[Any], scope: Scope, path: Path) -> Step:
    bindings = term[2] if len(term) > 3 else None
    if isinstance(bindings, list) and bindings[:1] == ["vector"]:
        bindings = bindings[1:]
    if not isinstance(bindings, list) or len(bindings) % 2:
        raise reader.refuse(
            path, "malformed foreach", '["foreach", n, [name, values], body]'
        )
    count = _count(reader, (yield term[1], scope, (path, 1)), "foreach", path)
    collections = []
    for index in range(1, len(bindings), 2):
        collections.append((yield bindings[index], scope, ((path, 2), index)))
    call, constant = reader.table.call, reader.table.constant
    items = []
    for turn in range(count):
        found = [call("get", [values, constant(turn)]) for values in collections]
        inner = {**scope, **dict(zip(bindings[::2], found, strict=True))}
        items.append((yield from read_each(term, 3, inner, path))[-1])
    return call("vector", items)


def _count(reader: TermReader, count: Expression, what: str, path: Path) -> int:
    """Return a known count of turns, which are counted at once."""
    if isinstance(count, Constant) and isinstance(count.value, int):
        reader.unroll(max(count.value, 0))
        return int(count.value)
    raise reader.refuse(
        path, f"the count of this {what} is not known", "a whole number"
    )


CONTROL_FORMS: Mapping[str, Form] = {
    "let": _let,
    "if": _if,
    "loop": _loop,
    "foreach": _foreach,
}
