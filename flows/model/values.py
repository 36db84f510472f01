"""This file says what a link function's value is while it is still unknown.

Structure is known when a model is built, numbers when it runs. So a value is a plain
value of the language (number, boolean, nil, text, keyword, vector, map) in which
unknown numbers and booleans are `Scalar`s, or one of

- `Choice`: one of several values that differ in more than numbers, picked by a scalar
  (a branch of `if`, an element at a random index, a draw of `categorical`);
- `Distribution`: a family with its parameters;
- `Undefined`: no value, with the reason; an error only if something reads it.

Kinds follow Clojure: `1` is not `=` to `1.0`, `true` is no number. "exact" is an
integer or ratio, "mixed" a number whose kind a branch decides; `=` then compares as
`==`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal

from daphne_bridge.language.primitives import HashMap, Seq
from daphne_bridge.language.primitives import values as plain_values
from daphne_bridge.language.primitives.numbers import as_double

from .dag import Dag

__all__ = [
    "Choice",
    "Distribution",
    "Kind",
    "Scalar",
    "Undefined",
    "chosen",
    "describe",
    "is_known",
    "kind_of",
    "slot_of",
]

Value = Any
Kind = Literal["boolean", "integer", "exact", "real", "mixed"]


@dataclass(frozen=True, slots=True)
class Scalar:
    """A number or boolean that is known when the model runs.

    It is then in its `slot` of the DAG.
    """

    slot: int
    kind: Kind


@dataclass(frozen=True, slots=True)
class Choice:
    """One of `alternatives`, by position; a boolean index picks 0 or 1."""

    index: Scalar
    alternatives: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Distribution:
    """A family with its parameters."""

    family: str
    parameters: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Undefined:
    """No value."""

    reason: str


def is_known(value: Value) -> bool:
    """Return whether the value holds nothing that is decided when the model runs."""
    stack = [value]
    while stack:
        current = stack.pop()
        if isinstance(current, Scalar | Choice | Distribution | Undefined):
            return False
        if isinstance(current, tuple):
            stack.extend(current)
        elif isinstance(current, HashMap):
            stack.extend(item for pair in current.pairs() for item in pair)
    return True


_KINDS: Mapping[type, Kind] = {bool: "boolean", int: "integer", float: "real"}


def kind_of(value: Value) -> Kind | None:
    """Return the kind of a number or boolean, None for any other value."""
    known = _KINDS.get(type(value))
    if known is not None:
        return known
    match value:
        case Scalar():
            return value.kind
        case bool():
            return "boolean"
        case int():
            return "integer"
        case Fraction():
            return "exact"
        case float() | Decimal():
            return "real"
    return None


def slot_of(dag: Dag, value: Value) -> int:
    """Return the slot of a number or boolean."""
    if isinstance(value, Scalar):
        return value.slot
    return dag.constant(float(value) if isinstance(value, bool) else as_double(value))


def merged_kind(kinds: Sequence[Kind]) -> Kind:
    """Return the kind of a number that has one of several kinds."""
    found = set(kinds)
    if len(found) == 1:
        return found.pop()
    return "exact" if found == {"integer", "exact"} else "mixed"


_DEEPEST = 50
"""Collections nested deeper than this are not merged element by element."""


def chosen(
    dag: Dag, index: Scalar, alternatives: Sequence[Value], depth: int = 0
) -> Value:
    """Return the alternative that `index` names, as simple a value as possible.

    Alternatives that differ only in numbers become one value of selected numbers.

    Args:
        dag: Where the selection is made.
        index: Position of the alternative; a boolean picks 0 or 1.
        alternatives: What is chosen from.
        depth: How deep inside other collections these values lie.
    """
    first = alternatives[0]
    if all(_same(first, other) for other in alternatives[1:]):
        return first
    if depth > _DEEPEST:
        return Choice(index, tuple(alternatives))
    defined = [a for a in alternatives if not isinstance(a, Undefined)]
    if not defined:
        return first
    kinds = [kind for a in defined if (kind := kind_of(a)) is not None]
    if kinds and len(kinds) == len(defined):
        has_boolean = "boolean" in kinds
        if not has_boolean or all(kind == "boolean" for kind in kinds):
            return _selected(dag, index, alternatives, merged_kind(kinds))
    if all(isinstance(a, tuple) for a in alternatives) and _alike(alternatives):
        items = [
            chosen(dag, index, parts, depth + 1)
            for parts in zip(*alternatives, strict=True)
        ]
        return Seq(items) if isinstance(first, Seq) else tuple(items)
    if all(isinstance(a, HashMap) for a in alternatives):
        keys = list(first)
        if all(
            len(a) == len(keys) and all(key in a for key in keys) for a in alternatives
        ):
            return HashMap(
                (key, chosen(dag, index, [a[key] for a in alternatives], depth + 1))
                for key in keys
            )
    if all(isinstance(a, Distribution) for a in alternatives) and all(
        a.family == first.family for a in alternatives
    ):
        merged = tuple(
            chosen(dag, index, parts, depth + 1)
            for parts in zip(*(a.parameters for a in alternatives), strict=True)
        )
        if not any(isinstance(part, Choice) for part in merged):
            return Distribution(first.family, merged)
    return Choice(index, tuple(alternatives))


def _alike(alternatives: Sequence[Value]) -> bool:
    first = alternatives[0]
    return all(
        len(a) == len(first) and isinstance(a, Seq) == isinstance(first, Seq)
        for a in alternatives
    )


def _same(left: Value, right: Value) -> bool:
    """Return whether two values are the same, number kinds included."""
    work = [(left, right)]
    while work:
        a, b = work.pop()
        if a is b:
            continue
        if type(a) is not type(b) or isinstance(a, HashMap):
            return False
        if isinstance(a, tuple):
            if len(a) != len(b):
                return False
            work.extend(zip(a, b, strict=True))
        elif isinstance(a, Distribution):
            if a.family != b.family:
                return False
            work.append((a.parameters, b.parameters))
        elif isinstance(a, Choice):
            if a.index != b.index:
                return False
            work.append((a.alternatives, b.alternatives))
        elif a != b:
            return False
    return True


def _selected(
    dag: Dag, index: Scalar, alternatives: Sequence[Value], kind: Kind
) -> Scalar:
    slots = [
        dag.constant(float("nan")) if isinstance(a, Undefined) else slot_of(dag, a)
        for a in alternatives
    ]
    if index.kind == "boolean":
        otherwise, then = slots
        return Scalar(dag.emit("choose", (index.slot, then, otherwise)), kind)
    bundle = dag.emit("bundle", slots)
    return Scalar(dag.emit("select", (index.slot, bundle)), kind)


def describe(value: Value) -> str:
    """Return what a value is, for a message."""
    if word := plain_values.word_of(value):
        return word
    match value:
        case Undefined():
            return f"nothing ({value.reason})"
        case Scalar():
            return "a boolean" if value.kind == "boolean" else "a random number"
        case Choice():
            return "one of several values of different shape"
        case Distribution():
            return f"the distribution {value.family}"
        case tuple() | HashMap():
            return plain_values.kind_of(value)
        case str():
            return f"the text {value!r}"
    return f"the number {value}"
