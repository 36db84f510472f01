"""This file gives every primitive of the language its meaning on unknown numbers.

The names are those of `daphne_bridge.primitives`. Arguments are values in the sense of
`values.py`. Where all of them are known the bridge's own function is applied; where a
collection's structure is enough (`conj`, `subvec`, ...) too, with unknown numbers as
opaque elements. Arithmetic, comparison, logic, access at an unknown index and matrix
products become operations of the DAG. What would need a structure that is decided only
when the model runs (a `range` of random length) has no value, and says why.

Numbers are floats when the model runs: integers are exact up to 2^53 in float64, and
ratios are rounded.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from daphne_bridge.language.primitives import (
    PRIMITIVES,
    HashMap,
    PrimitiveError,
    Seq,
    equal,
)

from .dag import Dag
from .values import (
    Choice,
    Distribution,
    Kind,
    Scalar,
    Undefined,
    chosen,
    describe,
    is_known,
    kind_of,
    merged_kind,
    slot_of,
)

__all__ = ["RULES", "Primitives", "truth"]

Value = Any
Rule = Callable[["Primitives", tuple[Value, ...]], Value]

_MOST_ALTERNATIVES = 4096


class _NoValue(Exception):
    """A primitive has no value; the argument says why."""


class Primitives:
    """Applies primitives; new operations go to one DAG.

    Attributes:
        dag: Where operations are made.
    """

    def __init__(self, dag: Dag) -> None:
        self.dag = dag
        self._bundles: dict[int, tuple[Value, Scalar | None]] = {}

    def apply(
        self, name: str, arguments: tuple[Value, ...], *, are_known: bool
    ) -> Value:
        """Return the value of a call.

        Args:
            name: A primitive of the bridge.
            arguments: Values of its arguments.
            are_known: Whether all of them are known now.
        """
        if are_known:
            return _exact(name, arguments)
        if name not in _LOGIC:
            for position, argument in enumerate(arguments):
                if isinstance(argument, Undefined):
                    return argument
                if isinstance(argument, Distribution) and name not in _STRUCTURAL:
                    return Undefined(f"({name} ...) of {describe(argument)}")
                if isinstance(argument, Choice) and name not in _OPAQUE:
                    return self._distributed(name, arguments, position)
        try:
            rule = RULES.get(name.removeprefix("Math/"))
            if rule is None:
                return Undefined(f"({name} ...) needs values that are known")
            return rule(self, arguments)
        except _NoValue as problem:
            return Undefined(f"({name} ...): {problem}")

    def choose(self, condition: Value, then: Value, otherwise: Value) -> Value:
        """Return the value of `(if condition then otherwise)`."""
        test = truth(self, condition)
        if isinstance(test, Undefined):
            return test
        if isinstance(test, bool):
            return then if test else otherwise
        return chosen(self.dag, test, (otherwise, then))

    def scalar(self, kernel: str, arguments: Sequence[Value], kind: Kind) -> Scalar:
        """Return the result of an elementwise operation."""
        slots = [slot_of(self.dag, argument) for argument in arguments]
        return Scalar(self.dag.emit(kernel, slots), kind)

    def affine(
        self, terms: Sequence[tuple[float, Value]], bias: float, kind: Kind
    ) -> Scalar:
        """Return bias + Σ coefficient · value."""
        parts = [(slot_of(self.dag, value), factor) for factor, value in terms]
        return Scalar(self.dag.affine(parts, bias), kind)

    def element(self, collection: tuple[Value, ...], index: Scalar) -> Value:
        """Return the element at a random position; no value outside."""
        if not collection:
            return Undefined("an element of an empty collection")
        entry = self._bundles.get(id(collection))
        if entry is None:
            kinds = [kind_of(item) for item in collection]
            uniform: Scalar | None = None
            if (
                all(kind is not None for kind in kinds)
                and len({kind == "boolean" for kind in kinds}) == 1
            ):
                bundle = self.dag.emit(
                    "bundle", [slot_of(self.dag, item) for item in collection]
                )
                uniform = Scalar(bundle, merged_kind([k for k in kinds if k]))
            entry = self._bundles[id(collection)] = (collection, uniform)
        bundle_of = entry[1]
        if bundle_of is not None:
            slot = self.dag.emit("select", (index.slot, bundle_of.slot))
            return Scalar(slot, bundle_of.kind)
        return chosen(self.dag, index, collection)

    def _distributed(
        self, name: str, arguments: tuple[Value, ...], position: int
    ) -> Value:
        choice = arguments[position]
        results = []
        for alternative in choice.alternatives:
            given = (*arguments[:position], alternative, *arguments[position + 1 :])
            known = all(is_known(argument) for argument in given)
            results.append(self.apply(name, given, are_known=known))
        return chosen(self.dag, choice.index, results)


def _exact(name: str, arguments: tuple[Value, ...]) -> Value:
    try:
        return PRIMITIVES[name].apply(*arguments)
    except (PrimitiveError, ArithmeticError, TypeError, LookupError) as problem:
        return Undefined(f"({name} ...): {problem}")


def truth(primitives: Primitives, value: Value) -> bool | Scalar | Undefined:
    """Return whether `if` takes its first branch: all but nil and false do."""
    match value:
        case Undefined():
            return value
        case None:
            return False
        case bool():
            return value
        case Scalar():
            return value if value.kind == "boolean" else True
        case Choice():
            parts = [truth(primitives, a) for a in value.alternatives]
            result: bool | Scalar | Undefined = chosen(
                primitives.dag, value.index, parts
            )
            return result
    return True


# ------------------------------------------------------------------ numbers


def _numbers(arguments: Sequence[Value]) -> None:
    for argument in arguments:
        if kind_of(argument) in (None, "boolean"):
            raise _NoValue(f"a number is needed, not {describe(argument)}")


def _kind(arguments: Sequence[Value]) -> Kind:
    """Return the kind of a sum or product: real wins, as in Clojure."""
    kinds = {kind_of(argument) for argument in arguments}
    for kind in ("real", "mixed", "exact"):
        if kind in kinds:
            return kind
    return "integer"


def _plus(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    _numbers(arguments)
    return p.affine([(1.0, a) for a in arguments], 0.0, _kind(arguments))


def _minus(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    _numbers(arguments)
    first, rest = arguments[0], arguments[1:]
    terms = [(1.0, first), *((-1.0, a) for a in rest)] if rest else [(-1.0, first)]
    return p.affine(terms, 0.0, _kind(arguments))


def _times(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    _numbers(arguments)
    kind = _kind(arguments)
    known = [float(a) for a in arguments if not isinstance(a, Scalar)]
    factor = math.prod(known, start=1.0)
    scalars: list[Value] = [a for a in arguments if isinstance(a, Scalar)]
    while len(scalars) > 1:
        paired = [
            p.scalar("multiply", pair, kind)
            for pair in zip(scalars[::2], scalars[1::2], strict=False)
        ]
        scalars = paired + scalars[len(paired) * 2 :]
    if not math.isfinite(factor):
        return p.scalar("multiply", (factor, scalars[0]), kind)
    return p.affine([(factor, scalars[0])], 0.0, kind)


def _divide(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    _numbers(arguments)
    values = list(arguments) if len(arguments) > 1 else [1, *arguments]
    result = values[0]
    for divisor in values[1:]:
        kind = _kind([result, divisor])
        kind = "exact" if kind == "integer" else kind
        if not isinstance(divisor, Scalar):
            number = float(divisor)
            if number == 0.0 and kind == "exact":
                raise _NoValue("division by zero")
            if number != 0.0 and kind == "real" and math.isfinite(1.0 / number):
                result = p.affine([(1.0 / number, result)], 0.0, kind)
                continue
        result = p.scalar("divide", (result, divisor), kind)
    return result


def _step(change: float) -> Rule:
    def rule(p: Primitives, arguments: tuple[Value, ...]) -> Value:
        _numbers(arguments)
        return p.affine([(1.0, arguments[0])], change, _kind(arguments))

    return rule


def _numeric(kernel: str, kind: Kind | None = None) -> Rule:
    """Return a rule for an elementwise function of numbers."""

    def rule(p: Primitives, arguments: tuple[Value, ...]) -> Value:
        _numbers(arguments)
        return p.scalar(kernel, arguments, kind or _kind(arguments))

    return rule


def _extreme(kernel: str) -> Rule:
    def rule(p: Primitives, arguments: tuple[Value, ...]) -> Value:
        _numbers(arguments)
        result = arguments[0]
        for other in arguments[1:]:
            kinds = [kind for v in (result, other) if (kind := kind_of(v))]
            result = p.scalar(kernel, (result, other), merged_kind(kinds))
        return result

    return rule


def _quotient(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    _numbers(arguments)
    kind = _kind(arguments)
    return p.scalar("quotient", arguments, "integer" if kind == "exact" else kind)


def _integer_part(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    _numbers(arguments)
    if kind_of(arguments[0]) == "integer":
        return arguments[0]
    return p.scalar("truncate", arguments, "integer")


def _as_real(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    _numbers(arguments)
    return Scalar(slot_of(p.dag, arguments[0]), "real")


def _integers(arguments: Sequence[Value]) -> None:
    for argument in arguments:
        if kind_of(argument) != "integer":
            raise _NoValue(f"an integer is needed, not {describe(argument)}")


def _bits(kernel: str) -> Rule:
    def rule(p: Primitives, arguments: tuple[Value, ...]) -> Value:
        _integers(arguments)
        result = arguments[0]
        for other in arguments[1:]:
            result = p.scalar(kernel, (result, other), "integer")
        return result

    return rule


def _numerator(_p: Primitives, arguments: tuple[Value, ...]) -> Value:
    _integers(arguments)
    return arguments[0]


def _denominator(_p: Primitives, arguments: tuple[Value, ...]) -> Value:
    _integers(arguments)
    return 1


def _power(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    _numbers(arguments)
    base, exponent = arguments
    if not isinstance(exponent, Scalar) and float(exponent) == 2.0:
        return p.scalar("multiply", (base, base), "real")
    return p.scalar("power", arguments, "real")


def _log_mv_gamma(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    _numbers(arguments)
    dimension, argument = arguments
    if not isinstance(dimension, int) or not 0 < dimension <= _MOST_ALTERNATIVES:
        raise _NoValue("the dimension must be a known positive integer")
    parts = [
        p.scalar(
            "logarithm of gamma", [p.affine([(1.0, argument)], -j / 2, "real")], "real"
        )
        for j in range(dimension)
    ]
    bias = dimension * (dimension - 1) / 4 * math.log(math.pi)
    return p.affine([(1.0, part) for part in parts], bias, "real")


# ------------------------------------------------------------------ logic


def _not(p: Primitives, value: Value) -> Value:
    test = truth(p, value)
    if isinstance(test, bool):
        return not test
    if isinstance(test, Undefined):
        return test
    return p.affine([(-1.0, test)], 1.0, "boolean")


def _both(p: Primitives, left: Value, right: Value) -> Value:
    """Return the conjunction of two booleans."""
    for one, other in ((left, right), (right, left)):
        if isinstance(one, bool):
            return other if one else False
    return p.scalar("both", (left, right), "boolean")


def _pairwise(compare: Callable[[Primitives, Value, Value], Value]) -> Rule:
    def rule(p: Primitives, arguments: tuple[Value, ...]) -> Value:
        result: Value = True
        for left, right in pairwise(arguments):
            result = _both(p, result, compare(p, left, right))
        return result

    return rule


def _less(p: Primitives, left: Value, right: Value) -> Value:
    _numbers((left, right))
    return _compared(p, "less", left, right, lambda a, b: a < b)


def _at_most(p: Primitives, left: Value, right: Value) -> Value:
    _numbers((left, right))
    return _compared(p, "less or equal", left, right, lambda a, b: a <= b)


def _same_number(p: Primitives, left: Value, right: Value) -> Value:
    _numbers((left, right))
    return _compared(p, "equal", left, right, lambda a, b: a == b)


def _compared(
    p: Primitives,
    kernel: str,
    left: Value,
    right: Value,
    exact: Callable[[Any, Any], bool],
) -> Value:
    if not isinstance(left, Scalar) and not isinstance(right, Scalar):
        return bool(exact(left, right))
    if kernel == "equal":
        left, right = sorted((left, right), key=lambda v: slot_of(p.dag, v))
    return p.scalar(kernel, (left, right), "boolean")


def _equals(p: Primitives, left: Value, right: Value) -> Value:
    """Return Clojure's `(= left right)`; nested values are compared iteratively."""
    result: Value = True
    work = [(left, right)]
    while work:
        a, b = work.pop()
        if isinstance(a, Undefined | Distribution) or isinstance(
            b, Undefined | Distribution
        ):
            raise _NoValue(f"{describe(a)} and {describe(b)} are compared")
        if isinstance(a, Choice) or isinstance(b, Choice):
            choice, other = (a, b) if isinstance(a, Choice) else (b, a)
            parts = [_equals(p, part, other) for part in choice.alternatives]
            result = _both(p, result, chosen(p.dag, choice.index, parts))
        elif isinstance(a, tuple) and isinstance(b, tuple):
            if len(a) != len(b):
                return False
            work.extend(zip(a, b, strict=True))
        elif isinstance(a, HashMap) and isinstance(b, HashMap):
            if len(a) != len(b) or any(key not in b for key in a):
                return False
            work.extend((value, b[key]) for key, value in a.pairs())
        else:
            result = _both(p, result, _equal_atoms(p, a, b))
        if result is False:
            return False
    return result


def _equal_atoms(p: Primitives, a: Value, b: Value) -> Value:
    kinds = (kind_of(a), kind_of(b))
    if not isinstance(a, Scalar) and not isinstance(b, Scalar):
        return equal(a, b)
    if None in kinds or ("boolean" in kinds and kinds[0] != kinds[1]):
        return False
    if "real" in kinds and ("integer" in kinds or "exact" in kinds):
        return False
    return _compared(p, "equal", a, b, lambda x, y: x == y)


def _and(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    result = arguments[-1] if arguments else True
    for value in reversed(arguments[:-1]):
        result = p.choose(value, result, value)
    return result


def _or(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    result = arguments[-1] if arguments else None
    for value in reversed(arguments[:-1]):
        result = p.choose(value, value, result)
    return result


def _boolean(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    return truth(p, arguments[0])


def _by_kind(answers: Mapping[str, bool | str]) -> Rule:
    """Return a predicate of an unknown scalar that only its kind decides.

    Args:
        answers: True, False, or "whole" / "broken" for a test when the model runs.
    """

    def rule(p: Primitives, arguments: tuple[Value, ...]) -> Value:
        (value,) = arguments
        if not isinstance(value, Scalar):
            return False
        answer = answers.get(value.kind, False)
        if isinstance(answer, bool):
            return answer
        if value.kind == "mixed":
            raise _NoValue("whether this is an integer depends on a branch")
        whole = p.scalar("whole", (value,), "boolean")
        return whole if answer == "whole" else _not(p, whole)

    return rule


def _comparison(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    left, right = arguments
    kinds = (kind_of(left), kind_of(right))
    if None in kinds or ("boolean" in kinds and kinds[0] != kinds[1]):
        raise _NoValue(f"{describe(left)} and {describe(right)} are not ordered")
    difference = p.affine([(1.0, left), (-1.0, right)], 0.0, "real")
    return p.scalar("sign", (difference,), "integer")


def _parity(remainder: int) -> Rule:
    def rule(p: Primitives, arguments: tuple[Value, ...]) -> Value:
        _integers(arguments)
        rest = p.scalar("modulo", (arguments[0], 2), "integer")
        return _same_number(p, rest, remainder)

    return rule


def _truth_of(wanted: bool) -> Rule:  # noqa: FBT001 - the value that is tested for
    def rule(p: Primitives, arguments: tuple[Value, ...]) -> Value:
        (value,) = arguments
        if not isinstance(value, Scalar) or value.kind != "boolean":
            return value is wanted
        return value if wanted else _not(p, value)

    return rule


# ------------------------------------------------------------------ collections


def _structural(name: str) -> Rule:
    """Return a rule that needs only the structure of its collections."""

    def rule(_p: Primitives, arguments: tuple[Value, ...]) -> Value:
        try:
            result = PRIMITIVES[name].apply(*arguments)
        except (PrimitiveError, TypeError, LookupError) as problem:
            text = str(problem)
            if any(isinstance(a, Scalar) for a in arguments):
                text += " (random where the structure of a collection must be known)"
            raise _NoValue(text.replace("a Scalar", "a random number")) from None
        if isinstance(result, HashMap) and not all(is_known(key) for key in result):
            raise _NoValue("the key of a map is random")
        return result

    return rule


def _get(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    collection, key, *default = arguments
    otherwise = default[0] if default else None
    if isinstance(collection, Scalar | Distribution):
        return otherwise
    if is_known(key) or not isinstance(collection, tuple | HashMap):
        return _structural("get")(p, arguments)
    if isinstance(collection, HashMap):
        result = otherwise
        for known, value in reversed(collection.pairs()):
            result = p.choose(_equals(p, known, key), value, result)
        return result
    if isinstance(collection, Seq) or not isinstance(key, Scalar):
        return otherwise
    if key.kind in ("real", "boolean"):
        return otherwise
    found = p.element(collection, key)
    if otherwise is None:
        return found
    return p.choose(_inside(p, key, len(collection)), found, otherwise)


def _inside(p: Primitives, key: Scalar, count: int) -> Value:
    low = _at_most(p, 0, key)
    return _both(p, low, _less(p, key, count))


def _get_in(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    collection, keys, *default = arguments
    if default or not isinstance(keys, tuple):
        return _structural("get-in")(p, arguments)
    for key in keys:
        known = is_known(key) and is_known(collection)
        collection = p.apply("get", (collection, key), are_known=known)
    return collection


def _nth(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    collection, key, *default = arguments
    if not isinstance(key, Scalar):
        return _structural("nth")(p, arguments)
    if not isinstance(collection, tuple):
        raise _NoValue(f"a sequence is needed, not {describe(collection)}")
    if key.kind in ("real", "boolean"):
        raise _NoValue("an integer is needed, not a random number that is none")
    found = p.element(collection, key)
    if not default:
        return found
    return p.choose(_inside(p, key, len(collection)), found, default[0])


def _put(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    collection, *rest = arguments
    if all(is_known(key) for key in rest[::2]):
        return _structural("put")(p, arguments)
    if (
        len(rest) % 2
        or not isinstance(collection, tuple)
        or isinstance(collection, Seq)
    ):
        raise _NoValue("a random key needs a vector, and every key a value")
    for key, value in zip(rest[::2], rest[1::2], strict=True):
        if kind_of(key) not in ("integer", "exact", "mixed"):
            raise _NoValue(f"an index is needed, not {describe(key)}")
        if is_known(key):
            collection = _structural("put")(p, (collection, key, value))
            continue
        missing = Undefined("an index outside the vector")
        is_inside = _inside(p, key, len(collection))
        collection = tuple(
            p.choose(is_inside, p.choose(_same_number(p, key, i), value, item), missing)
            for i, item in enumerate(collection)
        )
    return collection


def _contains(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    collection, key = arguments
    if is_known(key):
        return _structural("contains?")(p, arguments)
    if isinstance(collection, HashMap):
        parts = tuple(_equals(p, known, key) for known in collection)
        return _or(p, parts) if parts else False
    if not isinstance(collection, tuple):
        raise _NoValue(f"a map or vector is needed, not {describe(collection)}")
    if isinstance(collection, Seq) or kind_of(key) not in ("integer", "exact", "mixed"):
        return False
    whole: Value = True
    if key.kind != "integer":
        whole = p.scalar("whole", (key,), "boolean")
    return _both(p, whole, _inside(p, key, len(collection)))


def _sort(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    (collection,) = arguments
    if not isinstance(collection, tuple):
        raise _NoValue(f"a collection is needed, not {describe(collection)}")
    _numbers(collection)
    kind = merged_kind([k for item in collection if (k := kind_of(item))])
    bundle = p.dag.emit("bundle", [slot_of(p.dag, item) for item in collection])
    return Seq(
        Scalar(p.dag.emit("order statistic", (bundle,), position), kind)
        for position in range(len(collection))
    )


def _are_distinct(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    result: Value = True
    for position, left in enumerate(arguments):
        for right in arguments[position + 1 :]:
            result = _both(p, result, _not(p, _equals(p, left, right)))
    return result


# ------------------------------------------------------------------ vectors, matrices


def _items(value: Value) -> tuple[Value, ...]:
    if value is None:
        return ()
    if not isinstance(value, tuple):
        raise _NoValue(f"a collection is needed, not {describe(value)}")
    _numbers(value)
    return value


def _some_items(value: Value) -> tuple[Value, ...]:
    items = _items(value)
    if not items:
        raise _NoValue("an empty vector has none")
    return items


def _sum(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    items = _items(arguments[0])
    return _plus(p, items) if items else 0


def _mean(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    items = _some_items(arguments[0])
    return p.affine([(1.0 / len(items), item) for item in items], 0.0, "real")


def _variance(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    items = _some_items(arguments[0])
    mean = _mean(p, arguments)
    return _mean_square(p, items, [mean] * len(items), 1.0 / len(items))


def _mean_square(
    p: Primitives, left: Sequence[Value], right: Sequence[Value], weight: float
) -> Scalar:
    squares = []
    for a, b in zip(left, right, strict=True):
        gap = p.affine([(1.0, a), (-1.0, b)], 0.0, "real")
        squares.append((weight, p.scalar("multiply", (gap, gap), "real")))
    return p.affine(squares, 0.0, "real")


def _deviation(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    return p.scalar("square root", (_variance(p, arguments),), "real")


def _distance(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    left, right = map(_items, arguments)
    if len(left) != len(right):
        raise _NoValue("the vectors differ in length")
    square = _mean_square(p, left, right, 1.0)
    return p.scalar("square root", (square,), "real")


_Matrix = tuple[tuple[Value, ...], ...]


def _is_plain(value: Value) -> bool:
    return isinstance(value, tuple) and not any(isinstance(x, tuple) for x in value)


def _matrix(value: Value) -> _Matrix:
    """Return rows of equal length; a plain vector counts as a column."""
    if not isinstance(value, tuple):
        raise _NoValue(f"a matrix is needed, not {describe(value)}")
    rows = tuple(row if isinstance(row, tuple) else (row,) for row in value)
    for row in rows:
        _numbers(row)
        if len(row) != len(rows[0]):
            raise _NoValue("the rows of a matrix differ in length")
    return rows


def _shape(matrix: _Matrix) -> str:
    return f"{len(matrix)}x{len(matrix[0]) if matrix else 0}"


def _mat_mul(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    first, last = arguments[0], arguments[-1]
    if len(arguments) == 1:
        return _matrix(first)
    result = (first,) if _is_plain(first) else _matrix(first)
    if _is_plain(first):
        _numbers(first)
    for factor in arguments[1:]:
        right = _matrix(factor)
        if not result or len(result[0]) != len(right):
            raise _NoValue(
                f"matrices of {_shape(result)} and {_shape(right)} cannot be multiplied"
            )
        columns = tuple(zip(*right, strict=True))
        result = tuple(tuple(_dot(p, row, c) for c in columns) for row in result)
    if _is_plain(last):
        plain = tuple(row[0] for row in result)
        return plain[0] if _is_plain(first) and len(plain) == 1 else plain
    return result[0] if _is_plain(first) else result


def _dot(p: Primitives, left: Sequence[Value], right: Sequence[Value]) -> Value:
    terms: list[tuple[float, Value]] = []
    bias = 0.0
    for a, b in zip(left, right, strict=True):
        if isinstance(a, Scalar) and isinstance(b, Scalar):
            terms.append((1.0, p.scalar("multiply", (a, b), "real")))
        elif isinstance(a, Scalar):
            terms.append((float(b), a))
        elif isinstance(b, Scalar):
            terms.append((float(a), b))
        else:
            bias += float(a) * float(b)
    return p.affine(terms, bias, "real") if terms else bias


def _by_element(combine: Callable[[Primitives, tuple[Value, ...]], Value]) -> Rule:
    def rule(p: Primitives, arguments: tuple[Value, ...]) -> Value:
        if all(_is_plain(a) for a in arguments):
            rows: list[tuple[Value, ...]] = list(arguments)
            for row in rows:
                _numbers(row)
            if len({len(row) for row in rows}) > 1:
                raise _NoValue("the vectors differ in length")
            return tuple(combine(p, items) for items in zip(*rows, strict=True))
        matrices = [_matrix(a) for a in arguments]
        if len({_shape(matrix) for matrix in matrices}) > 1:
            raise _NoValue("the matrices differ in shape")
        return tuple(
            tuple(combine(p, items) for items in zip(*rows, strict=True))
            for rows in zip(*matrices, strict=True)
        )

    return rule


def _real_sum(p: Primitives, items: tuple[Value, ...]) -> Value:
    if not any(isinstance(item, Scalar) for item in items):
        return math.fsum(float(item) for item in items)
    return p.affine([(1.0, item) for item in items], 0.0, "real")


def _tanh(p: Primitives, items: tuple[Value, ...]) -> Value:
    (item,) = items
    if not isinstance(item, Scalar):
        return math.tanh(float(item))
    return p.scalar("hyperbolic tangent", items, "real")


def _rectified(p: Primitives, items: tuple[Value, ...]) -> Value:
    (item,) = items
    if not isinstance(item, Scalar):
        return max(0.0, float(item))
    return p.scalar("rectifier", items, "real")


def _transpose(_p: Primitives, arguments: tuple[Value, ...]) -> Value:
    (matrix,) = arguments
    if _is_plain(matrix):
        _numbers(matrix)
        return tuple(matrix)
    return tuple(zip(*_matrix(matrix), strict=True))


def _repeated(_p: Primitives, arguments: tuple[Value, ...]) -> Value:
    matrix, rows, columns = arguments
    if not isinstance(rows, int) or not isinstance(columns, int):
        raise _NoValue("how often a matrix is repeated must be known")
    if rows < 1 or columns < 1:
        raise _NoValue("a matrix is repeated at least once each way")
    return tuple(row * columns for row in _matrix(matrix)) * rows


# ------------------------------------------------------------------ the table

_LOGIC = frozenset({"and", "or", "not", "boolean", "vector", "list"})
"""Primitives that look themselves at arguments without a value."""

_STRUCTURAL = frozenset(
    {
        "vector",
        "list",
        "hash-map",
        "array-map",
        "assoc-in",
        "dissoc",
        "merge",
        "zipmap",
        "select-keys",
        "keys",
        "vals",
        "first",
        "second",
        "rest",
        "next",
        "last",
        "butlast",
        "ffirst",
        "fnext",
        "nnext",
        "peek",
        "pop",
        "take",
        "drop",
        "take-last",
        "drop-last",
        "take-nth",
        "partition",
        "conj",
        "append",
        "cons",
        "concat",
        "into",
        "count",
        "empty?",
        "not-empty",
        "seq",
        "range",
        "repeat",
        "subvec",
        "vec",
        "reverse",
        "interleave",
        "interpose",
        "flatten",
        "identity",
        "vector?",
        "seq?",
        "sequential?",
        "map?",
        "coll?",
        "string?",
        "keyword?",
    }
)
"""Primitives for which unknown numbers are opaque elements."""

_OPAQUE = frozenset({"vector", "list", "hash-map", "array-map", "identity"})
"""Primitives for which a value of several shapes is an opaque element."""


def _constant_rule(value: Value) -> Rule:
    return lambda _p, _arguments: value


def _truth_rule(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    return _not(p, arguments[0])


RULES: Mapping[str, Rule] = MappingProxyType(
    {name: _structural(name) for name in _STRUCTURAL}
    | {
        "+": _plus,
        "-": _minus,
        "*": _times,
        "/": _divide,
        "inc": _step(1.0),
        "dec": _step(-1.0),
        "mod": _numeric("modulo"),
        "rem": _numeric("remainder"),
        "quot": _quotient,
        "abs": _numeric("absolute"),
        "min": _extreme("minimum"),
        "max": _extreme("maximum"),
        "int": _integer_part,
        "long": _integer_part,
        "bigint": _integer_part,
        "double": _as_real,
        "float": _as_real,
        "numerator": _numerator,
        "denominator": _denominator,
        "bit-and": _bits("bitwise and"),
        "bit-or": _bits("bitwise or"),
        "bit-xor": _bits("bitwise exclusive or"),
        "bit-shift-left": _bits("shift left"),
        "bit-shift-right": _bits("shift right"),
        "=": _pairwise(_equals),
        "not=": lambda p, a: _not(p, _pairwise(_equals)(p, a)),
        "==": _pairwise(_same_number),
        "<": _pairwise(_less),
        ">": _pairwise(lambda p, a, b: _less(p, b, a)),
        "<=": _pairwise(_at_most),
        ">=": _pairwise(lambda p, a, b: _at_most(p, b, a)),
        "compare": _comparison,
        "identical?": _pairwise(_equals),
        "and": _and,
        "or": _or,
        "not": _truth_rule,
        "boolean": _boolean,
        "zero?": lambda p, a: _same_number(p, a[0], 0),
        "pos?": lambda p, a: _less(p, 0, a[0]),
        "neg?": lambda p, a: _less(p, a[0], 0),
        "even?": _parity(0),
        "odd?": _parity(1),
        "nil?": _constant_rule(value=False),
        "some?": _constant_rule(value=True),
        "true?": _truth_of(wanted=True),
        "false?": _truth_of(wanted=False),
        "boolean?": _by_kind({"boolean": True}),
        "number?": _by_kind(
            {"integer": True, "exact": True, "real": True, "mixed": True}
        ),
        "integer?": _by_kind({"integer": True, "exact": "whole", "mixed": "whole"}),
        "int?": _by_kind({"integer": True, "exact": "whole", "mixed": "whole"}),
        "float?": _by_kind({"real": True, "mixed": "broken"}),
        "double?": _by_kind({"real": True, "mixed": "broken"}),
        "ratio?": _by_kind({"exact": "broken", "mixed": "broken"}),
        "rational?": _by_kind({"integer": True, "exact": True, "mixed": "whole"}),
        "decimal?": _constant_rule(value=False),
        "get": _get,
        "get-in": _get_in,
        "put": _put,
        "assoc": _put,
        "contains?": _contains,
        "nth": _nth,
        "sort": _sort,
        "distinct?": _are_distinct,
        "mat-mul": _mat_mul,
        "mat-add": _by_element(_real_sum),
        "mat-transpose": _transpose,
        "mat-tanh": _by_element(_tanh),
        "mat-relu": _by_element(_rectified),
        "mat-repmat": _repeated,
        "sqrt": _numeric("square root", "real"),
        "cbrt": _numeric("cube root", "real"),
        "exp": _numeric("exponential", "real"),
        "log": _numeric("logarithm", "real"),
        "log10": _numeric("logarithm to base 10", "real"),
        "pow": _power,
        "power": _power,
        "sin": _numeric("sine", "real"),
        "cos": _numeric("cosine", "real"),
        "tan": _numeric("tangent", "real"),
        "asin": _numeric("arc sine", "real"),
        "acos": _numeric("arc cosine", "real"),
        "atan": _numeric("arc tangent", "real"),
        "atan2": _numeric("arc tangent of quotient", "real"),
        "sinh": _numeric("hyperbolic sine", "real"),
        "cosh": _numeric("hyperbolic cosine", "real"),
        "tanh": _numeric("hyperbolic tangent", "real"),
        "hypot": _numeric("hypotenuse", "real"),
        "floor": _numeric("floor", "real"),
        "ceil": _numeric("ceiling", "real"),
        "rint": _numeric("round half to even", "real"),
        "round": _numeric("round", "integer"),
        "signum": _numeric("sign", "real"),
        "erf": _numeric("error function", "real"),
        "digamma": _numeric("digamma", "real"),
        "log-gamma-fn": _numeric("logarithm of gamma", "real"),
        "log-mv-gamma-fn": _log_mv_gamma,
        "log-sum-exp": _numeric("logarithm of sum of exponentials", "real"),
        "sum": _sum,
        "mean": _mean,
        "variance": _variance,
        "std": _deviation,
        "l2-norm": _distance,
        "finite?": _numeric("is finite", "boolean"),
        "infinite?": _numeric("is infinite", "boolean"),
        "NaN?": _numeric("is nan", "boolean"),
    }
)
"""Meaning on unknown numbers by name; see `NEEDS_KNOWN` for what has none."""

NEEDS_KNOWN = frozenset({"distinct", "frequencies", "str", "subs"})
"""Primitives whose value has a structure that unknown numbers decide."""
