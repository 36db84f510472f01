"""This file lists the deterministic functions of the language and what they compute.

Meanings are Clojure's on plain Python values: integers stay integers and overflow at
64 bits, `(/ 6 4)` is the ratio 3/2, `1` and `1.0` are not `=` but are `==`, `true` is
no number. Values are int, BigInt, float, Fraction, Decimal, bool, None (nil), str,
Keyword, tuple (vector), Seq (every other sequence) and HashMap.

Three kinds of function differ in when a compiler may compute them, as in Daphne:

- core functions (`folds`): as soon as every argument is a constant;
- host functions (`visible` only: `Math/floor`, `mat-mul`, ...): inside a core call;
- runtime functions (neither: `sqrt`, `exp`, `tanh`, ...): never at compile time.

References:
    Hickey, "The Clojure programming language" (2008), https://clojure.org/api/cheatsheet
    Tolpin, van de Meent, Yang, Wood, "Design and implementation of probabilistic
    programming language Anglican" (2016), https://arxiv.org/abs/1608.05263 (runtime).
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cmp_to_key
from itertools import pairwise
from types import MappingProxyType
from typing import Any

__all__ = [
    "HOST_CONSTANTS",
    "MAX_COLLECTION",
    "PRIMITIVES",
    "BigInt",
    "HashMap",
    "Keyword",
    "ListSeq",
    "Primitive",
    "PrimitiveError",
    "Seq",
    "Value",
    "equal",
    "format_double",
    "is_number",
    "truthy",
]

Value = Any
"""A plain value of the language; see the first lines of this file."""

MAX_COLLECTION = 1_000_000
"""Elements of the longest collection (and characters of the longest string)."""

_MAX_BITS = 8_192
_MAX_COMPARED = 2_000_000
_MAX_KEY_DEPTH = 100
_MAX_KEY_SIZE = 100_000
_INT64 = 1 << 63


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


@dataclass(frozen=True, slots=True)
class Primitive:
    """A deterministic function of the language.

    Attributes:
        name: Its name in documents (`Math/floor` is written `floor`).
        min_args: Fewest arguments.
        max_args: Most arguments; None if there is no limit.
        apply: Its meaning on plain values; raises `PrimitiveError`.
        folds: Whether a call with constant arguments is replaced by its value.
        visible: Whether a folding call around it may compute it.
    """

    name: str
    min_args: int
    max_args: int | None
    apply: Callable[..., Value]
    folds: bool
    visible: bool


# ------------------------------------------------------------------ kinds of value


def is_number(value: Value) -> bool:
    """Return whether `value` is a number (a boolean is none)."""
    return isinstance(value, (int, float, Fraction, Decimal)) and not isinstance(
        value, bool
    )


def truthy(value: Value) -> bool:
    """Return whether `if` takes its first branch: all but nil and false do."""
    return value is not None and value is not False


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


def _kind(value: Value) -> str:
    match value:
        case None:
            return "nil"
        case bool():
            return f"the boolean {'true' if value else 'false'}"
        case Keyword():
            return f"the keyword :{value}"
        case str():
            return f"the string {_shortened(value)!r}"
        case int() | float() | Fraction() | Decimal():
            return f"the number {_shortened(_text(value))}"
        case Seq():
            return f"a sequence of {len(value)}"
        case tuple():
            return f"a vector of {len(value)}"
        case HashMap():
            return f"a map of {len(value)}"
    return f"a {type(value).__name__}"


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."


def _canonical_key(value: Value) -> Any:
    budget = [_MAX_KEY_SIZE]

    def key(item: Value, depth: int) -> Any:
        budget[0] -= 1
        if depth > _MAX_KEY_DEPTH or budget[0] < 0:
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


def _equal_atoms(a: Value, b: Value) -> bool:
    if isinstance(a, bool) or isinstance(b, bool) or a is None or b is None:
        return a is b
    if is_number(a) and is_number(b):
        return _number_class(a) is _number_class(b) and bool(a == b)
    if isinstance(a, str) and isinstance(b, str):
        return isinstance(a, Keyword) == isinstance(b, Keyword) and str(a) == str(b)
    return a is b


def equal(a: Value, b: Value) -> bool:
    """Return Clojure's `(= a b)`.

    Sequences of every kind are equal when their elements are; 1 is not 1.0.
    """
    work = [(a, b)]
    for _ in range(_MAX_COMPARED):
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
        elif not _equal_atoms(x, y):
            return False
    raise PrimitiveError("the values compared are too large")


# ------------------------------------------------------------------ numbers


def _number_class(value: Value) -> type:
    for kind in (float, Decimal, Fraction):
        if isinstance(value, kind):
            return kind
    return int


def _number(value: Value) -> Any:
    if not is_number(value):
        raise PrimitiveError(f"a number is needed, not {_kind(value)}")
    return value


def _integer(value: Value) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise PrimitiveError(f"an integer is needed, not {_kind(value)}")
    return value


def _double(value: Value) -> float:
    try:
        return float(_number(value))
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _exact(result: Any, *operands: Value) -> Value:
    """Return `result` as Clojure would class it, given what it was computed from."""
    if isinstance(result, Fraction):
        if result.denominator != 1:
            return _bounded(result)
        result = result.numerator
    if isinstance(result, int):
        if any(isinstance(x, BigInt) for x in operands):
            return BigInt(_bounded(result))
        if not -_INT64 <= result < _INT64:
            raise PrimitiveError("integer overflow: the result needs more than 64 bits")
    return result


def _bounded(value: Any) -> Any:
    exact = value if isinstance(value, Fraction) else Fraction(value)
    if max(exact.numerator.bit_length(), exact.denominator.bit_length()) > _MAX_BITS:
        raise PrimitiveError(f"a number needs more than {_MAX_BITS} bits")
    return value


def _arithmetic(
    exact: Callable[[Any, Any], Any], double: Callable[[float, float], float]
) -> Callable[[Value, Value], Value]:
    def operate(a: Value, b: Value) -> Value:
        kind_a, kind_b = _number_class(_number(a)), _number_class(_number(b))
        if float in (kind_a, kind_b):
            return double(_double(a), _double(b))
        if Decimal in (kind_a, kind_b):
            return exact(_decimal(a), _decimal(b))
        return _exact(exact(a, b), a, b)

    return operate


def _decimal(value: Value) -> Decimal:
    if isinstance(value, Fraction):
        return Decimal(value.numerator) / Decimal(value.denominator)
    return Decimal(value)


def _double_times(a: float, b: float) -> float:
    return a * b


def _double_divide(a: float, b: float) -> float:
    if b != 0:
        return a / b
    if a == 0 or math.isnan(a):
        return math.nan
    return math.copysign(math.inf, a) * math.copysign(1, b)


def _exact_divide(a: Any, b: Any) -> Any:
    if b == 0:
        raise PrimitiveError("division by zero")
    if isinstance(a, Decimal) or isinstance(b, Decimal):
        return a / b
    return Fraction(a) / Fraction(b)


_add = _arithmetic(lambda a, b: a + b, lambda a, b: a + b)
_subtract = _arithmetic(lambda a, b: a - b, lambda a, b: a - b)
_times = _arithmetic(lambda a, b: a * b, _double_times)
_divide = _arithmetic(_exact_divide, _double_divide)


def _reduced(
    operate: Callable[[Value, Value], Value], start: Value
) -> Callable[..., Value]:
    def run(*args: Value) -> Value:
        result = _number(args[0]) if args else start
        for x in args[1:]:
            result = operate(result, x)
        return result

    return run


def _from_unit(
    operate: Callable[[Value, Value], Value], unit: Value
) -> Callable[..., Value]:
    def run(*args: Value) -> Value:
        if len(args) == 1:
            return operate(unit, args[0])
        return _reduced(operate, unit)(*args)

    return run


def _quotient(a: Value, b: Value) -> Value:
    if _double(b) == 0:
        raise PrimitiveError("division by zero")
    if isinstance(a, float) or isinstance(b, float):
        ratio = _double(a) / _double(b)
        if not math.isfinite(ratio):
            raise PrimitiveError("the quotient is not finite")
        return float(math.trunc(ratio))
    return _exact(math.trunc(Fraction(_number(a)) / Fraction(_number(b))), a, b)


def _remainder(a: Value, b: Value) -> Value:
    return _subtract(a, _times(_quotient(a, b), b))


def _modulo(a: Value, b: Value) -> Value:
    rest = _remainder(a, b)
    return rest if rest == 0 or (rest > 0) == (b > 0) else _add(rest, b)


def _chain(relation: Callable[[Any, Any], bool]) -> Callable[..., bool]:
    def run(*args: Value) -> bool:
        if len(args) > 1:
            args = tuple(_number(x) for x in args)
        return all(relation(a, b) for a, b in pairwise(args))

    return run


def _pick(better: Callable[[Any, Any], bool]) -> Callable[..., Value]:
    def choose(a: Value, b: Value) -> Value:
        if any(isinstance(x, float) and math.isnan(x) for x in (a, b)):
            return math.nan
        return a if better(_number(a), _number(b)) else b

    return _reduced(choose, None)


def _truncate(value: Value) -> int:
    if isinstance(value, float) and not math.isfinite(value):
        raise PrimitiveError("a number that is not finite has no integer part")
    return int(_exact(math.trunc(_number(value))))


def _all_equal(*args: Value) -> bool:
    return all(equal(a, b) for a, b in pairwise(args))


def _absolute(x: Value) -> Value:
    return _exact(abs(_number(x)), x)


def _compare(a: Value, b: Value) -> int:
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
        return next((c for x, y in zip(a, b, strict=True) if (c := _compare(x, y))), 0)
    raise PrimitiveError(f"{_kind(a)} and {_kind(b)} are not ordered")


# ------------------------------------------------------------------ runtime functions


def _real(function: Callable[[float], float]) -> Callable[[Value], float]:
    def run(x: Value) -> float:
        try:
            return function(_double(x))
        except OverflowError:
            return math.inf
        except ValueError:
            return math.nan

    return run


def _log(x: float) -> float:
    return -math.inf if x == 0 else math.log(x)


def _power(a: Value, b: Value) -> float:
    try:
        return math.pow(_double(a), _double(b))
    except OverflowError:
        return math.inf
    except ValueError:
        return math.inf if _double(a) == 0 else math.nan


def _round(x: Value) -> int:
    return _truncate(math.floor(_double(x) + 0.5) if math.isfinite(_double(x)) else x)


def _digamma(x: float) -> float:
    """Derivative of log-gamma: recurrence up to 10, then the asymptotic series."""
    if x <= 0:
        if x == math.floor(x):
            return math.nan
        return _digamma(1 - x) - math.pi / math.tan(math.pi * x)
    shift = 0.0
    while x < 10:
        shift -= 1 / x
        x += 1
    # Bernoulli terms B_2k / (2k x^2k), Abramowitz and Stegun (1964), 6.3.18.
    y = 1 / (x * x)
    series = y * (1 / 12 - y * (1 / 120 - y * (1 / 252 - y * (1 / 240 - y / 132))))
    return shift + math.log(x) - 0.5 / x - series


def _log_mv_gamma(p: Value, a: Value) -> float:
    """Return the log of the multivariate gamma function of dimension p at a."""
    dimension, argument = _integer(p), _double(a)
    if not 0 < dimension <= MAX_COLLECTION:
        raise PrimitiveError("the dimension must be a positive integer")
    return dimension * (dimension - 1) / 4 * math.log(math.pi) + math.fsum(
        _real(math.lgamma)(argument - j / 2) for j in range(dimension)
    )


def _doubles(vector: Value) -> list[float]:
    return [_double(x) for x in _sequence(vector)]


def _non_empty(vector: Value) -> list[float]:
    values = _doubles(vector)
    if not values:
        raise PrimitiveError("an empty vector has none")
    return values


def _sum(vector: Value) -> Value:
    return _reduced(_add, 0)(*_sequence(vector))


def _mean(vector: Value) -> float:
    values = _non_empty(vector)
    return math.fsum(values) / len(values)


def _variance(vector: Value) -> float:
    values = _non_empty(vector)
    mean = math.fsum(values) / len(values)
    return math.fsum((x - mean) ** 2 for x in values) / len(values)


def _l2_norm(a: Value, b: Value) -> float:
    return math.dist(_doubles(a), _doubles(b))


def _log_sum_exp(a: Value, b: Value) -> float:
    x, y = sorted((_double(a), _double(b)))
    return y if not math.isfinite(y) else y + math.log1p(math.exp(x - y))


# ------------------------------------------------------------------ collections


def _sequence(value: Value) -> tuple[Value, ...]:
    match value:
        case None:
            return ()
        case tuple():
            return value
        case HashMap():
            return value.pairs()
    raise PrimitiveError(f"a collection is needed, not {_kind(value)}")


def _vector_only(value: Value) -> tuple[Value, ...]:
    if isinstance(value, tuple) and not isinstance(value, Seq):
        return value
    raise PrimitiveError(f"a vector is needed, not {_kind(value)}")


def _index(value: Value, size: int) -> int:
    index = _integer(value)
    if not 0 <= index < size:
        raise PrimitiveError(f"index {index} is outside a collection of {size}")
    return index


def _size(count: int) -> int:
    if count > MAX_COLLECTION:
        raise PrimitiveError(f"a collection would have more than {MAX_COLLECTION}")
    return count


def _same_kind(original: Value, items: Iterable[Value]) -> Seq:
    return ListSeq(items) if isinstance(original, ListSeq) else Seq(items)


def _like(original: Value, items: Iterable[Value]) -> tuple[Value, ...]:
    return Seq(items) if isinstance(original, Seq) else tuple(items)


def _get(collection: Value, key: Value, default: Value = None) -> Value:
    match collection:
        case HashMap():
            return collection[key] if key in collection else default  # noqa: SIM401
        case Seq():
            return default
        case str() if not isinstance(collection, Keyword):
            raise PrimitiveError("characters are not part of the language")
        case tuple():
            inside = (
                isinstance(key, int)
                and not isinstance(key, bool)
                and 0 <= key < len(collection)
            )
            return collection[key] if inside else default
    return default


def _get_in(collection: Value, keys: Value, default: Value = None) -> Value:
    missing = object()
    for key in _sequence(keys):
        collection = _get(collection, key, missing)
        if collection is missing:
            return default
    return collection


def _nth(collection: Value, index: Value, *default: Value) -> Value:
    if collection is None:
        return default[0] if default else None
    if not isinstance(collection, tuple):
        raise PrimitiveError(f"a sequence is needed, not {_kind(collection)}")
    if default and not 0 <= _integer(index) < len(collection):
        return default[0]
    return collection[_index(index, len(collection))]


def _put(collection: Value, *rest: Value) -> Value:
    if len(rest) % 2:
        raise PrimitiveError("every key needs a value")
    for key, value in zip(rest[::2], rest[1::2], strict=True):
        match collection:
            case None:
                collection = HashMap([(key, value)])
            case HashMap():
                collection = collection.with_entry(key, value)
            case _:
                items = _vector_only(collection)
                at = _index(key, len(items) + 1)
                collection = (*items[:at], value, *items[at + 1 :])
    return collection


def _assoc_in(collection: Value, keys: Value, value: Value) -> Value:
    path = _sequence(keys)
    if not path or len(path) > _MAX_KEY_DEPTH:
        raise PrimitiveError(f"a path has 1 to {_MAX_KEY_DEPTH} keys")
    levels = [collection]
    for key in path[:-1]:
        levels.append(_get(levels[-1], key))
    for key, level in zip(reversed(path), reversed(levels), strict=True):
        value = _put(level, key, value)
    return value


def _conj(collection: Value, *items: Value) -> Value:
    match collection:
        case None:
            return Seq(reversed(items))
        case HashMap():
            for item in items:
                if isinstance(item, HashMap):
                    collection = HashMap((*collection.pairs(), *item.pairs()))
                elif isinstance(item, tuple) and len(item) == 2:
                    collection = collection.with_entry(*item)
                else:
                    raise PrimitiveError("a map takes pairs [key value]")
            return collection
        case Seq():
            _size(len(collection) + len(items))
            return _same_kind(collection, (*reversed(items), *collection))
        case tuple():
            _size(len(collection) + len(items))
            return (*collection, *items)
    raise PrimitiveError(f"a collection is needed, not {_kind(collection)}")


def _concat(*collections: Value) -> Seq:
    parts = [_sequence(c) for c in collections]
    _size(sum(map(len, parts)))
    return Seq(x for part in parts for x in part)


def _flatten(collection: Value) -> Seq:
    if not isinstance(collection, tuple):
        return Seq()
    flat: list[Value] = []
    work = [iter(collection)]
    for _ in range(_MAX_COMPARED):
        if not work:
            return Seq(flat)
        item = next(work[-1], _END)
        if item is _END:
            work.pop()
        elif isinstance(item, tuple):
            work.append(iter(item))
        else:
            flat.append(item)
            _size(len(flat))
    raise PrimitiveError("the collection is too deeply nested")


_END = object()


def _range(*args: Value) -> tuple[Value, ...]:
    start, stop, step = {1: (0, *args, 1), 2: (*args, 1), 3: args}[len(args)]
    for x in (start, stop, step):
        if isinstance(_number(x), float) and not math.isfinite(x):
            raise PrimitiveError("a range needs finite bounds")
    if step == 0:
        raise PrimitiveError("a range needs a step other than 0")
    span = Fraction(stop) - Fraction(start)
    _size(max(0, math.ceil(span / Fraction(step))))
    items: list[Value] = []
    at = start
    while (at < stop) if step > 0 else (at > stop):
        items.append(at)
        _size(len(items))
        at = _add(at, step)
    return tuple(items)


def _subvec(vector: Value, start: Value, *end: Value) -> tuple[Value, ...]:
    items = _vector_only(vector)
    stop = _truncate(end[0]) if end else len(items)
    begin = _truncate(start)
    if not 0 <= begin <= stop <= len(items):
        raise PrimitiveError(
            f"elements {begin} to {stop} are outside a vector of {len(items)}"
        )
    return items[begin:stop]


def _take(count: Value, collection: Value) -> Seq:
    return Seq(_sequence(collection)[: max(0, _truncate(count))])


def _drop(count: Value, collection: Value) -> Seq:
    return Seq(_sequence(collection)[max(0, _truncate(count)) :])


def _take_last(count: Value, collection: Value) -> Seq:
    items = _sequence(collection)
    return Seq(items[len(items) - min(len(items), max(0, _truncate(count))) :])


def _drop_last(*args: Value) -> Seq:
    count, collection = args if len(args) == 2 else (1, args[0])
    items = _sequence(collection)
    return Seq(items[: len(items) - min(len(items), max(0, _truncate(count)))])


def _partition(count: Value, *rest: Value) -> Seq:
    size = _integer(count)
    step = _integer(rest[0]) if len(rest) == 2 else size
    if size <= 0 or step <= 0:
        raise PrimitiveError("a partition needs positive sizes")
    items = _sequence(rest[-1])
    _size(size * (len(items) // step + 1))
    starts = range(0, len(items) - size + 1, step)
    return Seq(Seq(items[i : i + size]) for i in starts)


def _repeat(count: Value, value: Value) -> Seq:
    return Seq([value] * _size(max(0, _integer(count))))


def _count(collection: Value) -> int:
    if isinstance(collection, str) and not isinstance(collection, Keyword):
        return len(collection)
    return len(_sequence(collection))


def _sort(collection: Value) -> Seq:
    return Seq(sorted(_sequence(collection), key=cmp_to_key(_compare)))


def _distinct(collection: Value) -> Seq:
    return Seq(HashMap((x, None) for x in _sequence(collection)))


def _interleave(*collections: Value) -> Seq:
    rows = zip(*(_sequence(c) for c in collections), strict=False)
    return Seq(x for row in rows for x in row)


def _interpose(separator: Value, collection: Value) -> Seq:
    items = [x for item in _sequence(collection) for x in (separator, item)]
    return Seq(items[1:])


def _hash_map(*args: Value) -> HashMap:
    if len(args) % 2:
        raise PrimitiveError("every key needs a value")
    return HashMap(zip(args[::2], args[1::2], strict=True))


def _map_only(value: Value) -> HashMap:
    if value is None:
        return HashMap()
    if isinstance(value, HashMap):
        return value
    raise PrimitiveError(f"a map is needed, not {_kind(value)}")


def _merge(*maps: Value) -> HashMap:
    return HashMap(pair for m in maps for pair in _map_only(m).pairs())


def _dissoc(mapping: Value, *keys: Value) -> HashMap:
    result = _map_only(mapping)
    for key in keys:
        result = result.without(key)
    return result


def _select_keys(mapping: Value, keys: Value) -> HashMap:
    known = _map_only(mapping)
    return HashMap((k, known[k]) for k in _sequence(keys) if k in known)


def _frequencies(collection: Value) -> HashMap:
    counts: HashMap = HashMap()
    for item in _sequence(collection):
        counts = counts.with_entry(item, _get(counts, item, 0) + 1)
    return counts


def _into(target: Value, source: Value) -> Value:
    return _conj(target, *_sequence(source))


def _contains(collection: Value, key: Value) -> bool:
    missing = object()
    if collection is not None and not isinstance(collection, (tuple, HashMap)):
        raise PrimitiveError(f"a map or vector is needed, not {_kind(collection)}")
    return _get(collection, key, missing) is not missing


def _peek(collection: Value) -> Value:
    items = _sequence(collection)
    if not items:
        return None
    return items[0] if isinstance(collection, Seq) else items[-1]


def _pop(collection: Value) -> Value:
    items = _sequence(collection)
    if not items:
        raise PrimitiveError("an empty collection has nothing to pop")
    rest = items[1:] if isinstance(collection, Seq) else items[:-1]
    return _like(collection, rest)


def _last(collection: Value) -> Value:
    items = _sequence(collection)
    return items[-1] if items else None


def _first(collection: Value) -> Value:
    items = _sequence(collection)
    return items[0] if items else None


def _second(collection: Value) -> Value:
    items = _sequence(collection)
    return items[1] if len(items) > 1 else None


def _seq(collection: Value) -> Seq | None:
    return Seq(_sequence(collection)) or None


def _next(collection: Value) -> Seq | None:
    return Seq(_sequence(collection)[1:]) or None


def _text(value: Value) -> str:
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
        _size(length + len(work))
    return "".join(parts)


def _atom_text(value: Value, *, quoted: bool) -> str:
    match value:
        case None:
            return "nil" if quoted else ""
        case bool():
            return "true" if value else "false"
        case Keyword():
            return f":{str.__str__(value)}"
        case str():
            return f'"{value}"' if quoted else value
        case float():
            return format_double(value)
    return str(value)


def _str(*values: Value) -> str:
    text = "".join(_text(v) for v in values)
    _size(len(text))
    return text


def _subs(text: Value, start: Value, *end: Value) -> str:
    if not isinstance(text, str):
        raise PrimitiveError(f"a string is needed, not {_kind(text)}")
    stop = _integer(end[0]) if end else len(text)
    begin = _integer(start)
    if not 0 <= begin <= stop <= len(text):
        raise PrimitiveError(f"characters {begin} to {stop} are outside the string")
    return text[begin:stop]


# ------------------------------------------------------------------ matrices

_Matrix = tuple[tuple[float, ...], ...]


def _matrix(value: Value) -> _Matrix:
    """Return a vector of equally long rows; a plain vector counts as a column."""
    if not isinstance(value, tuple):
        raise PrimitiveError(f"a matrix is needed, not {_kind(value)}")
    if not any(isinstance(row, tuple) for row in value):
        return tuple((_double(x),) for x in value)
    rows = tuple(
        tuple(_double(x) for x in (row if isinstance(row, tuple) else (row,)))
        for row in value
    )
    if len({len(row) for row in rows}) > 1:
        raise PrimitiveError("the rows of a matrix differ in length")
    return rows


def _is_plain(value: Value) -> bool:
    return isinstance(value, tuple) and not any(isinstance(x, tuple) for x in value)


def _shape(matrix: _Matrix) -> tuple[int, int]:
    return len(matrix), len(matrix[0]) if matrix else 0


def _mat_mul(*factors: Value) -> Value:
    if _is_plain(factors[0]) and len(factors) > 1:
        result: _Matrix = (tuple(_doubles(factors[0])),)
    else:
        result = _matrix(factors[0])
    for factor in factors[1:]:
        right = _matrix(factor)
        if _shape(result)[1] != _shape(right)[0]:
            raise PrimitiveError(
                "matrices of {}x{} and {}x{} cannot be multiplied".format(
                    *_shape(result), *_shape(right)
                )
            )
        columns = tuple(zip(*right, strict=True))
        _size(len(result) * len(columns) * max(1, len(right)) // 10)
        result = tuple(
            tuple(
                _ordered_sum(a * b for a, b in zip(row, column, strict=True))
                for column in columns
            )
            for row in result
        )
    if len(factors) > 1 and _is_plain(factors[-1]):
        plain = tuple(row[0] for row in result)
        return plain[0] if _is_plain(factors[0]) and len(plain) == 1 else plain
    return result[0] if len(factors) > 1 and _is_plain(factors[0]) else result


def _ordered_sum(terms: Iterable[float]) -> float:
    total = 0.0
    for term in terms:
        total += term
    return total


def _elementwise(function: Callable[..., Value]) -> Callable[..., Value]:
    def run(*arrays: Value) -> Value:
        if all(_is_plain(a) for a in arrays):
            if len({len(a) for a in arrays}) > 1:
                raise PrimitiveError("the vectors differ in length")
            return tuple(function(*xs) for xs in zip(*arrays, strict=True))
        matrices = [_matrix(a) for a in arrays]
        if len({_shape(m) for m in matrices}) > 1:
            raise PrimitiveError("the matrices differ in shape")
        return tuple(
            tuple(function(*xs) for xs in zip(*rows, strict=True))
            for rows in zip(*matrices, strict=True)
        )

    return run


def _mat_transpose(matrix: Value) -> Value:
    if _is_plain(matrix):
        return tuple(_doubles(matrix))
    return tuple(zip(*_matrix(matrix), strict=True))


def _mat_repmat(matrix: Value, rows: Value, columns: Value) -> _Matrix:
    tall, wide = _integer(rows), _integer(columns)
    base = _matrix(matrix)
    if tall < 1 or wide < 1:
        raise PrimitiveError("a matrix is repeated at least once each way")
    _size(tall * wide * _shape(base)[0] * max(1, _shape(base)[1]))
    return tuple(row * wide for row in base) * tall


def _sum_doubles(*values: Value) -> float:
    return _ordered_sum(_double(v) for v in values)


# ------------------------------------------------------------------ the table


def _and(*args: Value) -> Value:
    return next((x for x in args if not truthy(x)), args[-1] if args else True)


def _or(*args: Value) -> Value:
    return next((x for x in args if truthy(x)), args[-1] if args else None)


def _is(*kinds: type) -> Callable[[Value], bool]:
    def test(value: Value) -> bool:
        return isinstance(value, kinds) and not isinstance(value, bool)

    return test


def _sign_test(relation: Callable[[Any], bool]) -> Callable[[Value], bool]:
    return lambda x: relation(_number(x))


def _bits(operate: Callable[[int, int], int]) -> Callable[..., int]:
    def run(*args: Value) -> int:
        result = _integer(args[0])
        for x in args[1:]:
            result = operate(result, _integer(x))
        return result

    return run


def _shift(sign: int) -> Callable[[Value, Value], int]:
    def run(a: Value, b: Value) -> int:
        places = _integer(b) % 64
        wide = _integer(a) << places if sign > 0 else _integer(a) >> places
        return (wide + _INT64) % (2 * _INT64) - _INT64

    return run


_CORE: dict[str, tuple[int, int | None, Callable[..., Value]]] = {
    # arithmetic
    "+": (0, None, _reduced(_add, 0)),
    "*": (0, None, _reduced(_times, 1)),
    "-": (1, None, _from_unit(_subtract, 0)),
    "/": (1, None, _from_unit(_divide, 1)),
    "inc": (1, 1, lambda x: _add(x, 1)),
    "dec": (1, 1, lambda x: _subtract(x, 1)),
    "mod": (2, 2, _modulo),
    "rem": (2, 2, _remainder),
    "quot": (2, 2, _quotient),
    "abs": (1, 1, _absolute),
    "min": (1, None, _pick(lambda a, b: a < b)),
    "max": (1, None, _pick(lambda a, b: a > b)),
    "int": (1, 1, _truncate),
    "long": (1, 1, _truncate),
    "double": (1, 1, _double),
    "float": (1, 1, _double),
    "bigint": (1, 1, lambda x: BigInt(math.trunc(_number(x)))),
    "numerator": (1, 1, lambda x: Fraction(_number(x)).numerator),
    "denominator": (1, 1, lambda x: Fraction(_number(x)).denominator),
    "bit-and": (2, None, _bits(lambda a, b: a & b)),
    "bit-or": (2, None, _bits(lambda a, b: a | b)),
    "bit-xor": (2, None, _bits(lambda a, b: a ^ b)),
    "bit-shift-left": (2, 2, _shift(1)),
    "bit-shift-right": (2, 2, _shift(-1)),
    # comparison, logic, kinds
    "=": (1, None, _all_equal),
    "not=": (1, None, lambda *xs: not _all_equal(*xs)),
    "==": (1, None, _chain(lambda a, b: bool(a == b))),
    "<": (1, None, _chain(lambda a, b: bool(a < b))),
    ">": (1, None, _chain(lambda a, b: bool(a > b))),
    "<=": (1, None, _chain(lambda a, b: bool(a <= b))),
    ">=": (1, None, _chain(lambda a, b: bool(a >= b))),
    "compare": (2, 2, _compare),
    "identical?": (2, 2, lambda a, b: a is b or _equal_atoms(a, b)),
    "and": (0, None, _and),
    "or": (0, None, _or),
    "not": (1, 1, lambda x: not truthy(x)),
    "boolean": (1, 1, truthy),
    "identity": (1, 1, lambda x: x),
    "zero?": (1, 1, _sign_test(lambda x: bool(x == 0))),
    "pos?": (1, 1, _sign_test(lambda x: bool(x > 0))),
    "neg?": (1, 1, _sign_test(lambda x: bool(x < 0))),
    "even?": (1, 1, lambda x: _integer(x) % 2 == 0),
    "odd?": (1, 1, lambda x: _integer(x) % 2 == 1),
    "nil?": (1, 1, lambda x: x is None),
    "some?": (1, 1, lambda x: x is not None),
    "true?": (1, 1, lambda x: x is True),
    "false?": (1, 1, lambda x: x is False),
    "boolean?": (1, 1, lambda x: isinstance(x, bool)),
    "number?": (1, 1, is_number),
    "integer?": (1, 1, _is(int)),
    "int?": (1, 1, lambda x: _is(int)(x) and not isinstance(x, BigInt)),
    "float?": (1, 1, _is(float)),
    "double?": (1, 1, _is(float)),
    "ratio?": (1, 1, _is(Fraction)),
    "rational?": (1, 1, _is(int, Fraction, Decimal)),
    "decimal?": (1, 1, _is(Decimal)),
    "string?": (1, 1, lambda x: isinstance(x, str) and not isinstance(x, Keyword)),
    "keyword?": (1, 1, _is(Keyword)),
    "vector?": (1, 1, lambda x: isinstance(x, tuple) and not isinstance(x, Seq)),
    "seq?": (1, 1, _is(Seq)),
    "sequential?": (1, 1, _is(tuple)),
    "map?": (1, 1, _is(HashMap)),
    "coll?": (1, 1, _is(tuple, HashMap)),
    # collections
    "vector": (0, None, lambda *xs: xs),
    "list": (0, None, lambda *xs: ListSeq(xs)),
    "hash-map": (0, None, _hash_map),
    "array-map": (0, None, _hash_map),
    "get": (2, 3, _get),
    "get-in": (2, 3, _get_in),
    "put": (3, None, _put),
    "assoc": (3, None, _put),
    "assoc-in": (3, 3, _assoc_in),
    "dissoc": (1, None, _dissoc),
    "merge": (0, None, _merge),
    "zipmap": (
        2,
        2,
        lambda k, v: HashMap(zip(_sequence(k), _sequence(v), strict=False)),
    ),
    "select-keys": (2, 2, _select_keys),
    "keys": (1, 1, lambda m: Seq(_map_only(m)) or None),
    "vals": (1, 1, lambda m: Seq(_map_only(m).values()) or None),
    "contains?": (2, 2, _contains),
    "nth": (2, 3, _nth),
    "first": (1, 1, _first),
    "second": (1, 1, _second),
    "rest": (1, 1, lambda c: _same_kind(c, _sequence(c)[1:])),
    "next": (1, 1, _next),
    "last": (1, 1, _last),
    "butlast": (1, 1, lambda c: Seq(_sequence(c)[:-1])),
    "ffirst": (1, 1, lambda c: _first(_first(c))),
    "fnext": (1, 1, lambda c: _first(_next(c))),
    "nnext": (1, 1, lambda c: _next(_next(c))),
    "peek": (1, 1, _peek),
    "pop": (1, 1, _pop),
    "take": (2, 2, _take),
    "drop": (2, 2, _drop),
    "take-last": (2, 2, _take_last),
    "drop-last": (1, 2, _drop_last),
    "take-nth": (2, 2, lambda n, c: Seq(_sequence(c)[:: max(1, _integer(n))])),
    "partition": (2, 3, _partition),
    "conj": (1, None, _conj),
    "append": (1, None, _conj),
    "cons": (2, 2, lambda x, c: _concat((x,), c)),
    "concat": (0, None, _concat),
    "into": (2, 2, _into),
    "count": (1, 1, _count),
    "empty?": (1, 1, lambda c: _count(c) == 0),
    "not-empty": (1, 1, lambda c: c if _count(c) else None),
    "seq": (1, 1, _seq),
    "range": (1, 3, _range),
    "repeat": (2, 2, _repeat),
    "subvec": (2, 3, _subvec),
    "vec": (1, 1, lambda c: tuple(_sequence(c))),
    "reverse": (1, 1, lambda c: ListSeq(reversed(_sequence(c)))),
    "sort": (1, 1, _sort),
    "distinct": (1, 1, _distinct),
    "distinct?": (1, None, lambda *xs: len(_distinct(xs)) == len(xs)),
    "interleave": (0, None, _interleave),
    "interpose": (2, 2, _interpose),
    "flatten": (1, 1, _flatten),
    "frequencies": (1, 1, _frequencies),
    "str": (0, None, _str),
    "subs": (2, 3, _subs),
}

_MATRIX: dict[str, tuple[int, int | None, Callable[..., Value]]] = {
    "mat-mul": (1, None, _mat_mul),
    "mat-add": (1, None, _elementwise(_sum_doubles)),
    "mat-transpose": (1, 1, _mat_transpose),
    "mat-tanh": (1, 1, _elementwise(_real(math.tanh))),
    "mat-relu": (1, 1, _elementwise(lambda x: max(0.0, _double(x)))),
    "mat-repmat": (3, 3, _mat_repmat),
}

_RUNTIME: dict[str, tuple[int, int | None, Callable[..., Value]]] = {
    "sqrt": (1, 1, _real(math.sqrt)),
    "cbrt": (1, 1, _real(math.cbrt)),
    "exp": (1, 1, _real(math.exp)),
    "log": (1, 1, _real(_log)),
    "log10": (1, 1, _real(lambda x: -math.inf if x == 0 else math.log10(x))),
    "pow": (2, 2, _power),
    "power": (2, 2, _power),
    "sin": (1, 1, _real(math.sin)),
    "cos": (1, 1, _real(math.cos)),
    "tan": (1, 1, _real(math.tan)),
    "asin": (1, 1, _real(math.asin)),
    "acos": (1, 1, _real(math.acos)),
    "atan": (1, 1, _real(math.atan)),
    "atan2": (2, 2, lambda y, x: math.atan2(_double(y), _double(x))),
    "sinh": (1, 1, _real(math.sinh)),
    "cosh": (1, 1, _real(math.cosh)),
    "tanh": (1, 1, _real(math.tanh)),
    "hypot": (2, 2, lambda a, b: math.hypot(_double(a), _double(b))),
    "floor": (1, 1, _real(lambda x: float(math.floor(x)) if math.isfinite(x) else x)),
    "ceil": (1, 1, _real(lambda x: float(math.ceil(x)) if math.isfinite(x) else x)),
    "rint": (1, 1, _real(lambda x: float(round(x)) if math.isfinite(x) else x)),
    "round": (1, 1, _round),
    "signum": (1, 1, _real(lambda x: x if x == 0 else math.copysign(1.0, x))),
    "erf": (1, 1, _real(math.erf)),
    "digamma": (1, 1, _real(_digamma)),
    "log-gamma-fn": (1, 1, _real(math.lgamma)),
    "log-mv-gamma-fn": (2, 2, _log_mv_gamma),
    "log-sum-exp": (2, 2, _log_sum_exp),
    "sum": (1, 1, _sum),
    "mean": (1, 1, _mean),
    "variance": (1, 1, _variance),
    "std": (1, 1, lambda v: math.sqrt(_variance(v))),
    "l2-norm": (2, 2, _l2_norm),
    "finite?": (1, 1, lambda x: math.isfinite(_double(x))),
    "infinite?": (1, 1, lambda x: math.isinf(_double(x))),
    "NaN?": (1, 1, lambda x: math.isnan(_double(x))),
}

_HOST = (
    "floor ceil sqrt cbrt exp log log10 pow sin cos tan asin acos atan atan2 sinh cosh "
    "tanh hypot rint round signum abs max min"
)

HOST_CONSTANTS: Mapping[str, float] = MappingProxyType(
    {"PI": math.pi, "Math/PI": math.pi, "Math/E": math.e}
)
"""Names that stand for a number."""


def _table() -> Mapping[str, Primitive]:
    table = {
        name: Primitive(name, *row, folds=folds, visible=visible)
        for rows, folds, visible in (
            (_RUNTIME, False, False),
            (_MATRIX, False, True),
            (_CORE, True, True),
        )
        for name, row in rows.items()
    }
    for name in _HOST.split():
        low, high, meaning = (_RUNTIME | _CORE)[name]
        table[f"Math/{name}"] = Primitive(
            name, low, high, meaning, folds=False, visible=True
        )
    return MappingProxyType(table)


PRIMITIVES: Mapping[str, Primitive] = _table()
"""The functions by the name a program uses; `Math/` names are written without it."""
