"""This file applies a primitive to values that are partly unknown.

Where all arguments are known the bridge's own function is applied; where the structure
of collections is enough (`conj`, `subvec`, ...) too, with unknown numbers as opaque
elements. Else a rule makes operations of the DAG; a value of several shapes is taken
apart first.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from daphne_bridge.language.primitives import PRIMITIVES, HashMap, PrimitiveError

from ..dag import Dag
from ..values import (
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

__all__ = [
    "STRUCTURAL",
    "NoValue",
    "Primitives",
    "Rule",
    "joint_kind",
    "need_integers",
    "need_numbers",
    "structural",
    "truth",
]

Value = Any
Rule = Callable[["Primitives", tuple[Value, ...]], Value]


_LOGIC = frozenset(
    {"and", "or", "not", "boolean", "vector", "list", "hash-map", "array-map"}
)
"""Primitives that look themselves at arguments without a value."""

STRUCTURAL = frozenset(
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


class NoValue(Exception):
    """A primitive has no value; the argument says why."""


class Primitives:
    """Applies primitives; new operations go to one DAG.

    Attributes:
        dag: Where operations are made.
        rules: Meaning on unknown numbers, by name.
    """

    def __init__(self, dag: Dag, rules: Mapping[str, Rule]) -> None:
        self.dag = dag
        self.rules = rules
        self._bundles: dict[int, tuple[Value, Scalar | None]] = {}
        self._columns: dict[int, tuple[Value, tuple[Value, ...] | None]] = {}

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
                if isinstance(argument, Distribution) and name not in STRUCTURAL:
                    return Undefined(f"({name} ...) of {describe(argument)}")
                if isinstance(argument, Choice) and name not in _OPAQUE:
                    return self._distributed(name, arguments, position)
        try:
            rule = self.rules.get(name.removeprefix("Math/"))
            if rule is None:
                return Undefined(f"({name} ...) needs values that are known")
            return rule(self, arguments)
        except NoValue as problem:
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
        columns = self._columns_of(collection)
        if columns is None:
            return chosen(self.dag, index, collection)
        return tuple(
            self.element(column, index) if isinstance(column, tuple) else column
            for column in columns
        )

    def _columns_of(self, rows: tuple[Value, ...]) -> tuple[Value, ...] | None:
        """Return the columns of rows of numbers, one of equal ones as that number.

        None if they are anything else.
        """
        entry = self._columns.get(id(rows))
        if entry is None:
            columns: tuple[Value, ...] | None = None
            if all(type(row) is tuple for row in rows) and (
                len({len(row) for row in rows}) == 1
            ):
                columns = tuple(map(_column, zip(*rows, strict=True)))
            if columns is not None and any(column is None for column in columns):
                columns = None
            entry = self._columns[id(rows)] = (rows, columns)
        return entry[1]

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


def _column(parts: tuple[Value, ...]) -> Value:
    """Return numbers of one kind, or the number if all are equal; None if others."""
    kinds = {type(part) for part in parts}
    if kinds != {int} and kinds != {float}:
        return None
    return parts[0] if len(set(map(repr, parts))) == 1 else parts


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


def need_numbers(arguments: Sequence[Value]) -> None:
    """Raise NoValue unless all values are numbers."""
    for argument in arguments:
        if kind_of(argument) in (None, "boolean"):
            raise NoValue(f"a number is needed, not {describe(argument)}")


def need_integers(arguments: Sequence[Value]) -> None:
    """Raise NoValue unless all values are integers."""
    for argument in arguments:
        if kind_of(argument) != "integer":
            raise NoValue(f"an integer is needed, not {describe(argument)}")


def joint_kind(arguments: Sequence[Value]) -> Kind:
    """Return the kind of a sum or product: real wins, as in Clojure."""
    kinds = {kind_of(argument) for argument in arguments}
    for kind in ("real", "mixed", "exact"):
        if kind in kinds:
            return kind
    return "integer"


def structural(name: str) -> Rule:
    """Return a rule that needs only the structure of its collections."""

    def rule(_p: Primitives, arguments: tuple[Value, ...]) -> Value:
        try:
            result = PRIMITIVES[name].apply(*arguments)
        except (PrimitiveError, TypeError, LookupError) as problem:
            text = str(problem)
            if any(isinstance(a, Scalar) for a in arguments):
                text += " (random where the structure of a collection must be known)"
            raise NoValue(text.replace("a Scalar", "a random number")) from None
        if isinstance(result, HashMap) and not all(is_known(key) for key in result):
            for key in result:
                if isinstance(key, Undefined):
                    raise NoValue(key.reason)
            raise NoValue("the key of a map is random")
        return result

    return rule
