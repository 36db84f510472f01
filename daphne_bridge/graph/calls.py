"""This file reads arrays: calls of forms, functions, families and primitives.

Daphne's JSON leaves user functions inside `observe` uninlined, and has calls, sequences
and argument lists all as arrays. An array is a sequence if its head is no name, or the
name of a value; functions of the document are inlined.
"""

from collections.abc import Mapping
from typing import Any

from ..language.families import FAMILIES
from ..language.nearest import or_nearest
from ..language.primitives import PRIMITIVES, HashMap
from .collection_forms import COLLECTION_FORMS
from .control_forms import CONTROL_FORMS
from .expression import Call, Constant, Expression, ExpressionTable
from .json_paths import Path
from .term_reader import Form, Scope, Step, TermReader, read_each

__all__ = ["read_array"]

_TAKES_KEYWORDS = frozenset(
    [
        "get",
        "put",
        "assoc",
        "hash-map",
        "vector",
        "list",
        "=",
        "==",
        "not=",
        "contains?",
        "dissoc",
        "get-in",
        "assoc-in",
        "conj",
        "cons",
        "append",
    ]
)


def read_array(reader: TermReader, term: list[Any], scope: Scope, path: Path) -> Step:
    """Return the expression of an array; yields the parts that it needs."""
    head = _called_name(reader, term, scope)
    if head is None:
        items = yield from read_each(term, 0, scope, path)
        return reader.table.call("vector", items)
    if head in reader.functions and head not in FAMILIES:
        return (yield from _inlined(reader, head, term, scope, path))
    if head in _FORMS:
        return (yield from _FORMS[head](reader, term, scope, path))
    if head not in FAMILIES and head not in PRIMITIVES:
        for index, item in enumerate(term[1:], start=1):
            if isinstance(item, list):
                yield item, scope, (path, index)
        raise reader.refuse(
            (path, 0),
            f"unknown name {head}",
            or_nearest(
                "a distribution, a primitive or a function of the document",
                head,
                (*FAMILIES, *PRIMITIVES, *reader.functions),
            ),
        )
    arguments: list[Expression] = []
    takes_keywords = head in _TAKES_KEYWORDS
    for index, item in enumerate(term[1:], start=1):
        place = (path, index)
        if takes_keywords and isinstance(item, str):
            arguments.append(reader.name(item, scope, place, keyword=True))
        elif isinstance(item, list):
            arguments.append((yield item, scope, place))
        else:
            arguments.append(reader.atom(item, scope, place))
    _check_arity(reader, head, len(arguments), path)
    if head == "categorical":
        arguments = [_pairs(reader.table, arguments[0])]
    return reader.table.call(head, arguments)


def _called_name(reader: TermReader, term: list[Any], scope: Scope) -> str | None:
    """Return the name that an array calls; None if it is a sequence without a tag."""
    if not term or not isinstance(term[0], str):
        return None
    bound = scope.get(term[0])
    if isinstance(bound, str):
        return bound
    return None if bound is not None or term[0] in reader.vertices else term[0]


def _inlined(
    reader: TermReader, name: str, term: list[Any], scope: Scope, path: Path
) -> Step:
    """Read the body of a function of the document at the arguments of a call."""
    _, parameters, body = reader.functions[name][:3]
    if len(parameters) != len(term) - 1:
        raise reader.refuse(
            path,
            f"the function {name} has {_counted(len(term) - 1, 'argument')}",
            f"{len(parameters)}",
        )
    reader.unroll(1)
    inner: dict[str, Expression | str] = {}
    for index, parameter in enumerate(parameters, start=1):
        inner[parameter] = yield from reader.argument(term[index], scope, (path, index))
    return (yield from reader.inside(name, body, inner))


def _pairs(table: ExpressionTable, categories: Expression) -> Expression:
    """Return the categories of a map as a vector of pairs."""
    if isinstance(categories, Constant) and isinstance(categories.value, HashMap):
        return table.constant(categories.value.pairs())
    if isinstance(categories, Call) and categories.head == "hash-map":
        parts = categories.arguments
        pairs = zip(parts[::2], parts[1::2], strict=True)
        return table.call("vector", [table.call("vector", pair) for pair in pairs])
    return categories


def _check_arity(reader: TermReader, head: str, count: int, path: Path) -> None:
    most: int | None
    if head in FAMILIES:
        names = FAMILIES[head].parameters
        noun, least, most = "parameter", len(names), len(names)
        expected = f"{least} ({', '.join(names)})"
    else:
        primitive = PRIMITIVES[head]
        noun, least, most = "argument", primitive.min_args, primitive.max_args
        if most is None:
            expected = f"{least} or more"
        else:
            expected = f"{least}" if least == most else f"{least} to {most}"
    if count < least or (most is not None and count > most):
        raise reader.refuse(path, f"{head} has {_counted(count, noun)}", expected)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def _nested_sample(
    reader: TermReader, term: list[Any], _scope: Scope, path: Path
) -> Step:
    raise reader.refuse(
        path,
        f"a {term[0]} inside a link function",
        "the name of the node; the original compiler leaves nested samples here",
    )


_FORMS: Mapping[str, Form] = {
    **CONTROL_FORMS,
    **COLLECTION_FORMS,
    **dict.fromkeys(("sample", "observe", "sample*", "observe*"), _nested_sample),
}
