"""This file says what a plain value of the language is, and when two are equal.

Values are int, BigInt, float, Fraction, Decimal, bool, None (nil), str, Keyword, tuple
(vector), Seq (every other sequence) and HashMap.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

from ...errors import shortened

__all__ = [
    "INT64",
    "MAX_BITS",
    "MAX_COLLECTION",
    "MAX_COMPARED",
    "MAX_KEY_DEPTH",
    "BigInt",
    "HashMap",
    "Keyword",
    "ListSeq",
    "PrimitiveError",
    "Rows",
    "Seq",
    "Value",
    "as_sequence",
    "checked_size",
    "compare",
    "equal",
    "equal_atoms",
    "format_double",
    "is_number",
    "kind_of",
    "number_class",
    "text_of",
    "truthy",
    "word_of",
]

Value = Any
"""A plain value of the language; see the first lines of this file."""

Rows = dict[str, tuple[int, int | None, Callable[..., Value]]]
"""Functions by name: fewest arguments, most (None: no limit), meaning."""


MAX_COLLECTION = 1_000_000
"""Elements of the longest collection (and characters of the longest string)."""


MAX_BITS = 8_192


MAX_COMPARED = 2_000_000


MAX_KEY_DEPTH = 100


_MAX_KEY_SIZE = 100_000


INT64 = 1 << 63


class PrimitiveError(ValueError):
    """A primitive has no value for these arguments; the message is one sentence."""


class Keyword(str):
    """A keyword such as `:a`; the text is the name without the colon."""

    __slots__ = ()


class BigInt(int):
    """An integer of unlimited size: written with `N`, or the result of one."""

    __slots__ = ()


class Seq(tuple):  # type: ignore[type-arg]
    """A sequence that is no vector: `conj` puts in front, `get` finds nothing."""

    __slots__ = ()


class ListSeq(Seq):
    """A sequence made by `list` or `reverse`; equal to any other with its elements."""

    __slots__ = ()


class HashMap(Mapping[Value, Value]):
    """An immutable map whose keys are compared with Clojure's `=`."""

    __slots__ = ("_entries",)

    def __init__(self, pairs: Iterable[tuple[Value, Value]] = ()) -> None:
        self._entries: dict[Any, tuple[Value, Value]] = {}
        for key, value in pairs:
            canonical = _canonical_key(key)
            if canonical in self._entries:
                key = self._entries[canonical][0]
            self._entries[canonical] = (key, value)

    def __getitem__(self, key: Value) -> Value:
        return self._entries[_canonical_key(key)][1]

    def __contains__(self, key: object) -> bool:
        return _canonical_key(key) in self._entries

    def __iter__(self) -> Iterator[Value]:
        return (key for key, _ in self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"HashMap({list(self._entries.values())!r})"

    def with_entry(self, key: Value, value: Value) -> "HashMap":
        """Return a map that also sends `key` to `value`."""
        return HashMap((*self._entries.values(), (key, value)))

    def without(self, key: Value) -> "HashMap":
        """Return a map that has no entry for `key`."""
        gone = _canonical_key(key)
        return HashMap(p for c, p in self._entries.items() if c != gone)

    def pairs(self) -> tuple[tuple[Value, Value], ...]:
        """Return the entries, oldest first."""
        return tuple(self._entries.values())


def is_number(value: Value) -> bool:
    """Return whether `value` is a number (a boolean is none)."""
    return isinstance(value, (int, float, Fraction, Decimal)) and not isinstance(
        value, bool
    )


def truthy(value: Value) -> bool:
    """Return whether `if` takes its first branch: all but nil and false do."""
    return value is not None and value is not False


def word_of(value: Value) -> str | None:
    """Return how nil, true or false is written, None for other values."""
    if value is None:
        return "nil"
    return ("true" if value else "false") if isinstance(value, bool) else None


def format_double(value: float) -> str:
    """Return a double as Java writes it: `1.0`, `1.0E-4`, `1.0E7`, `-0.0`."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if value == 0:
        return "-0.0" if math.copysign(1, value) < 0 else "0.0"
    sign, digits, exponent = Decimal(repr(value)).as_tuple()
    text = "".join(map(str, digits)).rstrip("0") or "0"
    if not isinstance(exponent, int):  # pragma: no cover - only nan and infinity
        raise TypeError(value)
    point = len(digits) + exponent
    minus = "-" if sign else ""
    if -3 < point <= 7:
        if point <= 0:
            return f"{minus}0.{'0' * -point}{text}"
        text = text.ljust(point, "0")
        return f"{minus}{text[:point]}.{text[point:] or '0'}"
    return f"{minus}{text[0]}.{text[1:] or '0'}E{point - 1}"


def kind_of(value: Value) -> str:
    """Return a few words that say what a value is."""
    match value:
        case None:
            return "nil"
        case bool():
            return f"the boolean {word_of(value)}"
        case Keyword():
            return f"the keyword :{value}"
        case str():
            return f"the string {shortened(value, 40)!r}"
        case int() | float() | Fraction() | Decimal():
            return f"the number {shortened(text_of(value), 40)}"
        case tuple() | HashMap():
            names = {Seq: "sequence", tuple: "vector", HashMap: "map"}
            name = next(names[kind] for kind in names if isinstance(value, kind))
            return f"a {name} of {len(value)}"
    return f"a {type(value).__name__}"


def _canonical_key(value: Value) -> Any:
    budget = [_MAX_KEY_SIZE]

    def key(item: Value, depth: int) -> Any:
        budget[0] -= 1
        if depth > MAX_KEY_DEPTH or budget[0] < 0:
            raise PrimitiveError("a map key is too large")
        match item:
            case tuple():
                return ("sequence", tuple(key(x, depth + 1) for x in item))
            case HashMap():
                return (
                    "map",
                    frozenset(
                        (key(k, depth + 1), key(v, depth + 1)) for k, v in item.pairs()
                    ),
                )
            case bool() | None:
                return ("logic", item)
            case Keyword():
                return ("keyword", str(item))
            case Decimal():
                return ("decimal", item)
            case float():
                return ("double", item)
            case int() | Fraction():
                return ("exact", item)
        return (type(item).__name__, item)

    return key(value, 0)


def equal_atoms(a: Value, b: Value) -> bool:
    """Return Clojure's `=` of two values that are no collections."""
    if isinstance(a, bool) or isinstance(b, bool) or a is None or b is None:
        return a is b
    if is_number(a) and is_number(b):
        return number_class(a) is number_class(b) and bool(a == b)
    if isinstance(a, str) and isinstance(b, str):
        return isinstance(a, Keyword) == isinstance(b, Keyword) and str(a) == str(b)
    return a is b


def equal(a: Value, b: Value) -> bool:
    """Return Clojure's `(= a b)`.

    Sequences of every kind are equal when their elements are; 1 is not 1.0.
    """
    work = [(a, b)]
    for _ in range(MAX_COMPARED):
        if not work:
            return True
        x, y = work.pop()
        if isinstance(x, tuple) and isinstance(y, tuple):
            if len(x) != len(y):
                return False
            work.extend(zip(x, y, strict=True))
        elif isinstance(x, HashMap) and isinstance(y, HashMap):
            if len(x) != len(y) or any(k not in y for k in x):
                return False
            work.extend((v, y[k]) for k, v in x.pairs())
        elif not equal_atoms(x, y):
            return False
    raise PrimitiveError("the values compared are too large")


def number_class(value: Value) -> type:
    """Return the class that decides how a number is computed with."""
    for kind in (float, Decimal, Fraction):
        if isinstance(value, kind):
            return kind
    return int


def compare(a: Value, b: Value) -> int:
    """Return -1, 0 or 1 as `(compare a b)` does."""
    if a is None or b is None:
        return (a is not None) - (b is not None)
    if is_number(a) and is_number(b):
        return int(a > b) - int(a < b)
    if isinstance(a, bool) and isinstance(b, bool):
        return a - b
    if (
        isinstance(a, str)
        and isinstance(b, str)
        and isinstance(a, Keyword) == isinstance(b, Keyword)
    ):
        return (a > b) - (a < b)
    if isinstance(a, tuple) and isinstance(b, tuple):
        if len(a) != len(b):
            return -1 if len(a) < len(b) else 1
        if any(isinstance(x, tuple) for x in a):
            raise PrimitiveError("nested vectors are not ordered")
        return next((c for x, y in zip(a, b, strict=True) if (c := compare(x, y))), 0)
    raise PrimitiveError(f"{kind_of(a)} and {kind_of(b)} are not ordered")


def as_sequence(value: Value) -> tuple[Value, ...]:
    """Return the elements of a collection; the pairs of a map; none of nil."""
    match value:
        case None:
            return ()
        case tuple():
            return value
        case HashMap():
            return value.pairs()
    raise PrimitiveError(f"a collection is needed, not {kind_of(value)}")


def checked_size(count: int) -> int:
    """Return a number of elements that is not too large."""
    if count > MAX_COLLECTION:
        raise PrimitiveError(f"a collection would have more than {MAX_COLLECTION}")
    return count


def text_of(value: Value) -> str:
    """Return `(str value)`."""
    parts: list[str] = []
    work: list[Any] = [("value", value, False)]
    length = 0
    while work:
        what, item, quoted = work.pop()
        if what == "text":
            text = item
        elif isinstance(item, (tuple, HashMap)):
            ends = "{}" if isinstance(item, HashMap) else "[]"
            ends = "()" if isinstance(item, Seq) else ends
            work.append(("text", ends[1], False))
            rows = (
                [row for k, v in item.pairs() for row in ((k, " "), (v, ", "))]
                if isinstance(item, HashMap)
                else [(x, " ") for x in item]
            )
            for i, (x, after) in reversed(list(enumerate(rows))):
                if i < len(rows) - 1:
                    work.append(("text", after, False))
                work.append(("value", x, True))
            text = ends[0]
        else:
            text = _atom_text(item, quoted=quoted)
        parts.append(text)
        length += len(text)
        checked_size(length + len(work))
    return "".join(parts)


def _atom_text(value: Value, *, quoted: bool) -> str:
    if value is None and not quoted:
        return ""
    if word := word_of(value):
        return word
    if isinstance(value, Keyword):
        return f":{str.__str__(value)}"
    if isinstance(value, str):
        return f'"{value}"' if quoted else value
    return format_double(value) if isinstance(value, float) else str(value)
