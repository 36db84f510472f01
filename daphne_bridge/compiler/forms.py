"""This file says what a form is and how it is written.

A form is a literal, a symbol, or a list, vector or map of forms, as in Clojure's data
notation. Every form knows the line and column where it stood; two forms are equal if
they read alike, wherever they stood.

References:
    Extensible data notation, https://github.com/edn-format/edn
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal as Choice

from ..language.primitives import BigInt, Keyword, Value, format_double, word_of

__all__ = [
    "NOWHERE",
    "Compound",
    "Form",
    "Literal",
    "Span",
    "Symbol",
    "at",
    "head_name",
    "show",
    "symbols",
]


@dataclass(frozen=True, slots=True)
class Span:
    """Where a form starts: line and column, both from 1."""

    line: int
    column: int


NOWHERE = Span(0, 0)
"""The span of a form that no text contains."""


@dataclass(frozen=True, slots=True)
class Literal:
    """A number, string, boolean, keyword or nil."""

    value: Value
    span: Span = field(default=NOWHERE, compare=False)

    def __eq__(self, other: object) -> bool:
        """Return whether both stand for the same value of the same kind."""
        return (
            isinstance(other, Literal)
            and type(self.value) is type(other.value)
            and repr(self.value) == repr(other.value)
        )

    def __hash__(self) -> int:
        return hash((type(self.value), repr(self.value)))


@dataclass(frozen=True, slots=True)
class Symbol:
    """A name."""

    name: str
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Compound:
    """A list `( )`, vector `[ ]` or map `{ }`; a map's items alternate key, value."""

    kind: Choice["list", "vector", "map"]
    items: tuple["Form", ...]
    span: Span = field(default=NOWHERE, compare=False)


Form = Literal | Symbol | Compound

_OPENING = {"list": "(", "vector": "[", "map": "{"}
_CLOSING = {"list": ")", "vector": "]", "map": "}"}
_ESCAPES = {
    "\t": "\\t",
    "\r": "\\r",
    "\n": "\\n",
    "\\": "\\\\",
    '"': '\\"',
    "\b": "\\b",
    "\f": "\\f",
}


def head_name(form: Form) -> str | None:
    """Return the symbol that a list starts with, or None."""
    if isinstance(form, Compound) and form.kind == "list" and form.items:
        head = form.items[0]
        return head.name if isinstance(head, Symbol) else None
    return None


def symbols(form: Form) -> Iterator[Symbol]:
    """Return every symbol in `form`, heads included, in the order of the text."""
    work: list[Form] = [form]
    while work:
        match work.pop():
            case Symbol() as symbol:
                yield symbol
            case Compound(items=items):
                work.extend(reversed(items))


def at(form: Form, span: Span) -> Form:
    """Return `form` as if all of it stood at `span`; it must be shallow."""
    match form:
        case Symbol(name=name):
            return Symbol(name, span)
        case Literal(value=value):
            return Literal(value, span)
    return Compound(form.kind, tuple(at(item, span) for item in form.items), span)


def show(form: Form) -> str:
    """Return text that reads as `form`."""
    parts: list[str] = []
    work: list[Form | str] = [form]
    while work:
        match work.pop():
            case str() as text:
                parts.append(text)
            case Symbol(name=name):
                parts.append(name)
            case Literal(value=value):
                parts.append(_show_literal(value))
            case Compound(kind=kind, items=items):
                work.append(_CLOSING[kind])
                for position in range(len(items) - 1, -1, -1):
                    work.append(items[position])
                    if position:
                        work.append(" ")
                work.append(_OPENING[kind])
    return "".join(parts)


def _show_literal(value: Value) -> str:
    if word := word_of(value):
        return word
    match value:
        case Keyword():
            return f":{str.__str__(value)}"
        case str():
            return f'"{"".join(_ESCAPES.get(c, c) for c in value)}"'
        case float():
            return format_double(value)
        case BigInt():
            return f"{int(value)}N"
        case Decimal():
            return f"{value}M"
    return str(value)
