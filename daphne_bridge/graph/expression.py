"""This file owns the language of link functions: constants, references and calls.

A link function gives a node's distribution from the values of its parents. It is a
directed acyclic graph of immutable expressions; an `ExpressionTable` makes every
expression once, so inside one graph "the same expression" is "the same object", and a
term that Daphne's JSON writes out twice is stored once.

Distribution constructors are calls whose head is a family (`normal`), `if` is a call
with three arguments, a literal vector a call of `vector`, a map a call of `hash-map`.
The table simplifies only what needs no algebra: access to literal collections, what
only moves their elements (`arrangements.py`), `if` with a constant condition, `and`
with `true`, and primitives of constants.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import Any

from ..errors import shortened
from ..language.primitives import (
    PRIMITIVES,
    HashMap,
    Keyword,
    PrimitiveError,
    Seq,
    word_of,
)
from .arrangements import MOVING, UNKNOWN, arranged

__all__ = [
    "Call",
    "Constant",
    "EvaluationError",
    "Expression",
    "ExpressionTable",
    "Reference",
    "Value",
    "evaluate",
    "free_names",
    "is_false",
    "postorder",
    "show",
    "show_value",
]

Value = Any
"""A plain Python value: number, boolean, None, text, keyword, tuple or mapping."""


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """A value that is known."""

    value: Value

    def __repr__(self) -> str:
        return f"<{show(self, limit=200)}>"


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """The value of a node."""

    name: str

    def __repr__(self) -> str:
        return f"<{self.name}>"


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A primitive, a family or `if`, applied to arguments.

    Attributes:
        head: What is applied.
        arguments: To what.
        is_literal: Whether it is known to be a collection of constants all through.
    """

    head: str
    arguments: tuple["Expression", ...]
    is_literal: bool = False

    def __repr__(self) -> str:
        return f"<{show(self, limit=200)}>"


Expression = Constant | Reference | Call


class EvaluationError(ValueError):
    """An expression has no value in this environment."""


class ExpressionTable:
    """Makes expressions so that equal ones are the same object."""

    def __init__(self) -> None:
        self._constants: dict[tuple[type, Any], Constant] = {}
        self._references: dict[str, Reference] = {}
        self._calls: dict[tuple[str, tuple[int, ...]], Call] = {}
        self._values: dict[int, Value] = {}
        self._shapes: dict[int, Value] = {}

    def constant(self, value: Value) -> Expression:
        """Return the expression of a value; tuples and mappings become calls."""
        kind = type(value)
        if kind is not float and kind is not int:
            if isinstance(value, tuple | list):
                return self.call("vector", [self.constant(item) for item in value])
            if isinstance(value, Mapping):
                pairs = [self.constant(item) for pair in value.items() for item in pair]
                return self.call("hash-map", pairs)
        key = (kind, repr(value) if isinstance(value, float) else value)
        made = self._constants.get(key)
        if made is None:
            made = self._constants[key] = Constant(value)
            self._values[id(made)] = value
        return made

    def reference(self, name: str) -> Reference:
        """Return the reference to a node."""
        made = self._references.get(name)
        if made is None:
            made = self._references[name] = Reference(name)
        return made

    def call(self, head: str, arguments: Iterable[Expression]) -> Expression:
        """Return `(head arguments...)`, simplified as the module's docstring says."""
        given = tuple(arguments)
        simpler = self._simplified(head, given)
        return self._as_it_stands(head, given) if simpler is None else simpler

    def _as_it_stands(self, head: str, given: tuple[Expression, ...]) -> Call:
        key = (head, tuple(map(id, given)))
        made = self._calls.get(key)
        if made is None:
            made = self._calls[key] = self._made(head, given)
        return made

    def _made(self, head: str, given: tuple[Expression, ...]) -> Call:
        values = self._values
        if head not in ("vector", "hash-map") or not all(
            id(a) in values for a in given
        ):
            return Call(head, given)
        value: Value = tuple(values[id(argument)] for argument in given)
        if head == "hash-map":
            if len(value) % 2:
                return Call(head, given)
            try:
                value = HashMap(zip(value[::2], value[1::2], strict=True))
            except TypeError:
                return Call(head, given)
        made = Call(head, given, is_literal=True)
        values[id(made)] = value
        return made

    def _simplified(
        self, head: str, given: tuple[Expression, ...]
    ) -> Expression | None:
        """Return a simpler expression of the same value, or None."""
        if head == "if" and len(given) == 3 and isinstance(given[0], Constant):
            return given[2] if is_false(given[0].value) else given[1]
        if head == "and":
            kept = [a for a in given if not _is_true(a)]
            if len(kept) < len(given):
                kept = kept if given[-1] in kept else [*kept, given[-1]]
                if len(kept) == 1:
                    return kept[0]
                if len(kept) < len(given):
                    return self.call("and", kept)
            return None
        if head in ("vector", "hash-map"):
            return None
        element = self._element(head, given)
        if element is not None:
            return element
        primitive = PRIMITIVES.get(head)
        if primitive is None or not given:
            return self.call("vector", ()) if head == "list" else None
        values = self._values
        if not all(id(argument) in values for argument in given):
            return self._arranged(head, given)
        try:
            return self.constant(
                primitive.apply(*(values[id(argument)] for argument in given))
            )
        except (PrimitiveError, ArithmeticError, TypeError, ValueError, LookupError):
            return None

    def _arranged(self, head: str, given: tuple[Expression, ...]) -> Expression | None:
        """Return what a call that moves elements makes, or None.

        A sequence has no notation of its own: the call stays, its elements known.
        """
        if head == "get-in" and len(given) == 2 and id(given[1]) in self._values:
            found = given[0]
            for key in self._values[id(given[1])]:
                found = self.call("get", (found, self.constant(key)))
            return found
        if head == "ffirst":
            return self.call("first", (self.call("first", given),))
        if head not in MOVING:
            return None
        made = arranged(head, tuple(map(self._shape, given)), _is_expression)
        if made is UNKNOWN:
            return None
        if isinstance(made, Seq):
            call = self._as_it_stands(head, given)
            self._shapes[id(call)] = made
            return call
        if isinstance(made, tuple):
            return self.call("vector", map(self._written, made))
        if isinstance(made, HashMap):
            return self.call("hash-map", map(self._written, chain(*made.pairs())))
        return self._written(made)

    def _shape(self, expression: Expression) -> Value:
        """Return a value, or a collection of expressions, or what is not known."""
        if id(expression) in self._values:
            return self._values[id(expression)]
        if id(expression) in self._shapes:
            return self._shapes[id(expression)]
        if not isinstance(expression, Call):
            return expression
        items = expression.arguments
        if expression.head == "vector":
            return items
        are_known = all(id(key) in self._values for key in items[::2])
        if expression.head != "hash-map" or not are_known or len(items) % 2:
            return expression
        keys = [self._values[id(key)] for key in items[::2]]
        shape = HashMap(zip(keys, items[1::2], strict=True))
        self._shapes[id(expression)] = shape
        return shape

    def _written(self, value: Value) -> Expression:
        return value if _is_expression(value) else self.constant(value)

    def _element(self, head: str, given: tuple[Expression, ...]) -> Expression | None:
        """Return the member that an access to a literal collection picks, or None."""
        if not given or not isinstance(given[0], Call):
            return None
        collection, rest = given[0], given[1:]
        items = collection.arguments
        if collection.head == "hash-map" and head == "get" and rest:
            if not isinstance(rest[0], Constant):
                return None
            for key, member in zip(items[::2], items[1::2], strict=True):
                if not isinstance(key, Constant):
                    return None
                if key is rest[0]:
                    return member
            return rest[1] if len(rest) == 2 else None
        if collection.head != "vector":
            return None
        if head == "count" and not rest:
            return self.constant(len(items))
        if head in ("get", "nth") and rest and isinstance(rest[0], Constant):
            index = rest[0].value
            if isinstance(index, int) and 0 <= index < len(items):
                return items[index]
        position = {"first": 0, "second": 1, "last": -1}.get(head)
        if position is not None and not rest:
            inside = -len(items) <= position < len(items)
            return items[position] if inside else self.constant(None)
        return None


def _is_expression(value: Value) -> bool:
    return isinstance(value, Constant | Reference | Call)


def _is_true(expression: Expression) -> bool:
    return isinstance(expression, Constant) and expression.value is True


def is_false(value: Value) -> bool:
    """Return whether a condition fails: only `false` and `nil` do, 0 does not."""
    return value is False or value is None


def postorder(
    roots: Iterable[Expression], *, into: Callable[[Call], object] | None = None
) -> Iterator[Expression]:
    """Yield every expression below `roots` once, arguments before calls.

    Args:
        roots: The expressions.
        into: Whether to yield the arguments of a call too; of all if not given.
    """
    seen: set[int] = set()
    stack: list[tuple[Expression, bool]] = [(root, False) for root in roots]
    stack.reverse()
    while stack:
        expression, is_ready = stack.pop()
        if is_ready:
            yield expression
            continue
        if id(expression) in seen:
            continue
        seen.add(id(expression))
        stack.append((expression, True))
        if isinstance(expression, Call) and (into is None or into(expression)):
            stack.extend(
                (argument, False)
                for argument in reversed(expression.arguments)
                if id(argument) not in seen
            )


def free_names(*roots: Expression) -> tuple[str, ...]:
    """Return the nodes that `roots` refer to, in order of first mention."""
    names: dict[str, None] = {}
    seen: set[int] = set()
    stack = list(reversed(roots))
    while stack:
        expression = stack.pop()
        if isinstance(expression, Reference):
            names[expression.name] = None
        elif (
            isinstance(expression, Call)
            and not expression.is_literal
            and id(expression) not in seen
        ):
            seen.add(id(expression))
            stack.extend(reversed(expression.arguments))
    return tuple(names)


def evaluate(expression: Expression, environment: Mapping[str, Value]) -> Value:
    """Return the value of an expression that is not a distribution.

    Only the branch of an `if` that is taken is evaluated; `and` and `or` stop early.

    Args:
        expression: What to evaluate.
        environment: Value of every node that is read.

    Raises:
        EvaluationError: If a name has no value, or a primitive refuses its arguments.
    """
    values: dict[int, Value] = {}
    stack: list[Expression] = [expression]
    while stack:
        current = stack[-1]
        if id(current) in values:
            stack.pop()
            continue
        if isinstance(current, Constant):
            values[id(current)] = current.value
        elif isinstance(current, Reference):
            if current.name not in environment:
                raise EvaluationError(f"{current.name} has no value here")
            values[id(current)] = environment[current.name]
        else:
            needed = _next_needed(current, values)
            if needed:
                stack.extend(reversed(needed))
                continue
            values[id(current)] = _applied(current, values)
        stack.pop()
    return values[id(expression)]


def _next_needed(call: Call, values: Mapping[int, Value]) -> list[Expression]:
    """Return the arguments that must be evaluated before `call` can go on."""
    if call.head == "if" and len(call.arguments) == 3:
        condition, then, otherwise = call.arguments
        if id(condition) not in values:
            return [condition]
        branch = otherwise if is_false(values[id(condition)]) else then
        return [] if id(branch) in values else [branch]
    if call.head in ("and", "or"):
        for argument in call.arguments:
            if id(argument) not in values:
                return [argument]
            if is_false(values[id(argument)]) == (call.head == "and"):
                return []
        return []
    return [a for a in call.arguments if id(a) not in values]


def _applied(call: Call, values: Mapping[int, Value]) -> Value:
    if call.head == "if" and len(call.arguments) == 3:
        condition, then, otherwise = call.arguments
        return values[id(otherwise if is_false(values[id(condition)]) else then)]
    if call.head in ("and", "or"):
        result: Value = True if call.head == "and" else None
        for argument in call.arguments:
            result = values[id(argument)]
            if is_false(result) == (call.head == "and"):
                return result
        return result
    primitive = PRIMITIVES.get(call.head)
    if primitive is None:
        raise EvaluationError(f"{call.head} is not a primitive")
    try:
        return primitive.apply(*(values[id(a)] for a in call.arguments))
    except (ArithmeticError, TypeError, ValueError, LookupError) as error:
        raise EvaluationError(f"({call.head} ...): {error}") from None


def show_value(value: Value) -> str:
    """Return a value as Clojure text."""
    if word := word_of(value):
        return word
    if isinstance(value, Keyword):
        return f":{value}"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, Fraction):
        return f"{value.numerator}/{value.denominator}"
    if isinstance(value, tuple | list):
        return "[" + " ".join(map(show_value, value)) + "]"
    if isinstance(value, Mapping):
        pairs = [show_value(item) for pair in value.items() for item in pair]
        return "{" + " ".join(pairs) + "}"
    return repr(value)


def show(
    expression: Expression,
    names: Mapping[str, str] | None = None,
    *,
    limit: int | None = None,
) -> str:
    """Return an expression as Clojure text.

    Args:
        expression: What to show.
        names: What to call nodes instead of their names.
        limit: Longest text to return; longer text is cut and ends in "...".
    """
    pieces: list[str] = []
    length = 0
    stack: list[str | Expression] = [expression]
    while stack and (limit is None or length <= limit):
        item = stack.pop()
        if isinstance(item, str):
            text = item
        elif isinstance(item, Constant):
            text = show_value(item.value)
        elif isinstance(item, Reference):
            text = names.get(item.name, item.name) if names else item.name
        else:
            opening, closing = {"vector": ("[", "]"), "hash-map": ("{", "}")}.get(
                item.head, (f"({item.head}", ")")
            )
            stack.append(closing)
            for position in range(len(item.arguments) - 1, -1, -1):
                stack.append(item.arguments[position])
                if position or opening.startswith("("):
                    stack.append(" ")
            text = opening
        pieces.append(text)
        length += len(text)
    shown = "".join(pieces)
    return shown if limit is None else shortened(shown, limit)
