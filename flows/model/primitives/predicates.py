"""This file says true or false of unknown values: equality, order, logic, kinds."""

from collections.abc import Callable, Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from daphne_bridge.language.primitives import HashMap, equal

from ..values import (
    Choice,
    Distribution,
    Scalar,
    Undefined,
    chosen,
    describe,
    kind_of,
    slot_of,
)
from .applying import NoValue, Primitives, Rule, need_integers, need_numbers, truth
from .numbers import numeric

__all__ = [
    "PREDICATES",
    "at_most",
    "both",
    "either",
    "equals",
    "less",
    "negation",
    "same_number",
]

Value = Any


def negation(p: Primitives, value: Value) -> Value:
    """Return whether a value is nil or false."""
    test = truth(p, value)
    if isinstance(test, bool):
        return not test
    if isinstance(test, Undefined):
        return test
    return p.affine([(-1.0, test)], 1.0, "boolean")


def both(p: Primitives, left: Value, right: Value) -> Value:
    """Return the conjunction of two booleans."""
    for one, other in ((left, right), (right, left)):
        if isinstance(one, bool):
            return other if one else False
    return p.scalar("both", (left, right), "boolean")


def _pairwise(compare: Callable[[Primitives, Value, Value], Value]) -> Rule:
    def rule(p: Primitives, arguments: tuple[Value, ...]) -> Value:
        result: Value = True
        for left, right in pairwise(arguments):
            result = both(p, result, compare(p, left, right))
        return result

    return rule


def less(p: Primitives, left: Value, right: Value) -> Value:
    """Return whether left < right, of numbers."""
    need_numbers((left, right))
    return _compared(p, "less", left, right, lambda a, b: a < b)


def at_most(p: Primitives, left: Value, right: Value) -> Value:
    """Return whether left <= right, of numbers."""
    need_numbers((left, right))
    return _compared(p, "less or equal", left, right, lambda a, b: a <= b)


def same_number(p: Primitives, left: Value, right: Value) -> Value:
    """Return whether two numbers are equal, whatever their kinds."""
    need_numbers((left, right))
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


def equals(p: Primitives, left: Value, right: Value) -> Value:
    """Return Clojure's `(= left right)`; nested values are compared iteratively."""
    result: Value = True
    work = [(left, right)]
    while work:
        a, b = work.pop()
        if isinstance(a, Undefined | Distribution) or isinstance(
            b, Undefined | Distribution
        ):
            raise NoValue(f"{describe(a)} and {describe(b)} are compared")
        if isinstance(a, Choice) or isinstance(b, Choice):
            choice, other = (a, b) if isinstance(a, Choice) else (b, a)
            parts = [equals(p, part, other) for part in choice.alternatives]
            result = both(p, result, chosen(p.dag, choice.index, parts))
        elif isinstance(a, tuple) and isinstance(b, tuple):
            if len(a) != len(b):
                return False
            work.extend(zip(a, b, strict=True))
        elif isinstance(a, HashMap) and isinstance(b, HashMap):
            if len(a) != len(b) or any(key not in b for key in a):
                return False
            work.extend((value, b[key]) for key, value in a.pairs())
        else:
            result = both(p, result, _equal_atoms(p, a, b))
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


def either(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    """Return the first value that is true, else the last one."""
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
            raise NoValue("whether this is an integer depends on a branch")
        whole = p.scalar("whole", (value,), "boolean")
        return whole if answer == "whole" else negation(p, whole)

    return rule


def _comparison(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    left, right = arguments
    kinds = (kind_of(left), kind_of(right))
    if None in kinds or ("boolean" in kinds and kinds[0] != kinds[1]):
        raise NoValue(f"{describe(left)} and {describe(right)} are not ordered")
    difference = p.affine([(1.0, left), (-1.0, right)], 0.0, "real")
    return p.scalar("sign", (difference,), "integer")


def _parity(remainder: int) -> Rule:
    def rule(p: Primitives, arguments: tuple[Value, ...]) -> Value:
        need_integers(arguments)
        rest = p.scalar("modulo", (arguments[0], 2), "integer")
        return same_number(p, rest, remainder)

    return rule


def _truth_of(wanted: bool) -> Rule:  # noqa: FBT001 - the value that is tested for
    def rule(p: Primitives, arguments: tuple[Value, ...]) -> Value:
        (value,) = arguments
        if not isinstance(value, Scalar) or value.kind != "boolean":
            return value is wanted
        return value if wanted else negation(p, value)

    return rule


def _constant_rule(value: Value) -> Rule:
    return lambda _p, _arguments: value


def _truth_rule(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    return negation(p, arguments[0])


def _are_distinct(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    result: Value = True
    for position, left in enumerate(arguments):
        for right in arguments[position + 1 :]:
            result = both(p, result, negation(p, equals(p, left, right)))
    return result


PREDICATES: Mapping[str, Rule] = MappingProxyType(
    {
        "=": _pairwise(equals),
        "not=": lambda p, a: negation(p, _pairwise(equals)(p, a)),
        "==": _pairwise(same_number),
        "<": _pairwise(less),
        ">": _pairwise(lambda p, a, b: less(p, b, a)),
        "<=": _pairwise(at_most),
        ">=": _pairwise(lambda p, a, b: at_most(p, b, a)),
        "compare": _comparison,
        "identical?": _pairwise(equals),
        "and": _and,
        "or": either,
        "not": _truth_rule,
        "boolean": _boolean,
        "zero?": lambda p, a: same_number(p, a[0], 0),
        "pos?": lambda p, a: less(p, 0, a[0]),
        "neg?": lambda p, a: less(p, a[0], 0),
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
        "distinct?": _are_distinct,
        "finite?": numeric("is finite", "boolean"),
        "infinite?": numeric("is infinite", "boolean"),
        "NaN?": numeric("is nan", "boolean"),
    }
)
