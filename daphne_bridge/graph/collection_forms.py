"""This file reads the forms that call a function over a collection of known length."""

from collections.abc import Mapping
from typing import Any

from ..errors import shortened
from .expression import (
    Call,
    Constant,
    EvaluationError,
    Expression,
    evaluate,
    free_names,
    is_false,
)
from .json_paths import Path
from .term_reader import Form, Scope, Step, TermReader, read_each

__all__ = ["COLLECTION_FORMS"]

_RANDOM = object()
"""Says that a value depends on a node, or has none."""


def _map(reader: TermReader, term: list[Any], scope: Scope, path: Path) -> Step:
    """Read `["map" or "mapv", function, collection, ...]`."""
    if len(term) < 3:
        raise reader.refuse(path, f"malformed {term[0]}", '["map", f, values]')
    function = _function(reader, term, scope, path)
    columns = []
    for index in range(2, len(term)):
        collection = yield term[index], scope, (path, index)
        columns.append(_elements(reader, collection, term[0], (path, index)))
    results = []
    for row in zip(*columns, strict=False):
        results.append((yield _called(function, row, scope, path)))
    return reader.table.call("vector", results)


def _reduce(reader: TermReader, term: list[Any], scope: Scope, path: Path) -> Step:
    """Read `["reduce", function, collection]`, or with a start before it."""
    if len(term) not in (3, 4):
        raise reader.refuse(path, "malformed reduce", '["reduce", f, values]')
    function = _function(reader, term, scope, path)
    *start, collection = yield from read_each(term, 2, scope, path)
    place = (path, len(term) - 1)
    items = (*start, *_elements(reader, collection, "reduce", place))
    if not items:
        return (yield [function], scope, path)
    result = items[0]
    for item in items[1:]:
        result = yield _called(function, (result, item), scope, path)
    return result


def _apply(reader: TermReader, term: list[Any], scope: Scope, path: Path) -> Step:
    """Read `["apply", function, argument, ..., collection]`."""
    if len(term) < 3:
        raise reader.refuse(path, "malformed apply", '["apply", f, values]')
    function = _function(reader, term, scope, path)
    *arguments, collection = yield from read_each(term, 2, scope, path)
    place = (path, len(term) - 1)
    items = (*arguments, *_elements(reader, collection, "apply", place))
    return (yield _called(function, items, scope, path))


def _filter(reader: TermReader, term: list[Any], scope: Scope, path: Path) -> Step:
    """Read `["filter", "filterv" or "remove", test, collection]`."""
    if len(term) != 3:
        raise reader.refuse(path, f"malformed {term[0]}", '["filter", f, values]')
    function = _function(reader, term, scope, path)
    collection = yield term[2], scope, (path, 2)
    kept = []
    for item in _elements(reader, collection, term[0], (path, 2)):
        value = _value((yield _called(function, (item,), scope, path)))
        if value is _RANDOM:
            raise reader.refuse(
                path,
                f"a random test decides which elements {term[0]} keeps",
                "a test of known values",
            )
        if is_false(value) == (term[0] == "remove"):
            kept.append(item)
    return reader.table.call("vector", kept)


def _next_table(reader: TermReader, term: list[Any], scope: Scope, path: Path) -> Step:
    """Read `["categorical-crp", counts, alpha]`: the weights are both together."""
    if len(term) != 3:
        given = len(term) - 1
        raise reader.refuse(
            path,
            f"{term[0]} has {given} parameter{'s' if given != 1 else ''}",
            "2 (counts, concentration)",
        )
    counts, concentration = yield from read_each(term, 1, scope, path)
    weights = (*_elements(reader, counts, term[0], (path, 1)), concentration)
    return reader.table.call("discrete", [reader.table.call("vector", weights)])


def _function(reader: TermReader, term: list[Any], scope: Scope, path: Path) -> str:
    name = reader.function_name(term[1], scope)
    if name is None:
        raise reader.refuse(
            (path, 1),
            f"{term[0]} has no function",
            "the name of a primitive or of a function of the document",
            shortened(repr(term[1])),
        )
    return name


def _called(
    function: str, values: tuple[Expression, ...], scope: Scope, path: Path
) -> tuple[Any, Scope, Path]:
    """Return the request for a call of `function` on expressions."""
    local = {f"item {index}": value for index, value in enumerate(values)}
    return [function, *local], {**scope, **local}, path


def _elements(
    reader: TermReader, collection: Expression, head: str, path: Path
) -> tuple[Expression, ...]:
    """Return the elements of a collection whose length is known."""
    if isinstance(collection, Call) and collection.head in ("vector", "list"):
        return collection.arguments
    value = _value(collection)
    if value is None:
        return ()
    if not isinstance(value, tuple):
        raise reader.refuse(
            path, f"{head} needs a collection of known length", "a vector"
        )
    return tuple(map(reader.table.constant, value))


def _value(expression: Expression) -> Any:
    """Return what an expression without nodes is, else `_RANDOM`."""
    if isinstance(expression, Constant):
        return expression.value
    if free_names(expression):
        return _RANDOM
    try:
        return evaluate(expression, {})
    except EvaluationError:
        return _RANDOM


COLLECTION_FORMS: Mapping[str, Form] = {
    "map": _map,
    "mapv": _map,
    "reduce": _reduce,
    "apply": _apply,
    "filter": _filter,
    "filterv": _filter,
    "remove": _filter,
    "categorical-crp": _next_table,
}
