"""This file gives parts of link functions that take few values variables of their own.

A sum of 40 flips has 2^40 configurations and 41 values. Folded it is a chain of partial
sums, each a variable that the one before and one flip determine,

    s_1 = (+ a b),   s_2 = (+ s_1 c),   ...

so that no table holds more than one step of it. What is folded are parts that read two
discrete variables or more and nothing else, of any primitive: sums, products, counts
that start anew, `and`, `or`, comparisons of sums. A part that takes as many values as
it has configurations stays what it is, and may be folded as part of a larger one.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from daphne_bridge.graph.expression import (
    Call,
    Constant,
    Expression,
    Reference,
    Value,
    postorder,
)

from .specialise import Specialiser

__all__ = ["Folded", "Folder"]

_ASSOCIATIVE = frozenset({"+", "*", "and", "or", "min", "max"})
_MOST_OF_TWO = 2**14
"""Most configurations of two variables that are tried."""
_MOST = 2**8
"""Most configurations of more than two."""


@dataclass(frozen=True, eq=False)
class Folded:
    """A variable that others determine.

    Attributes:
        name: Its name, which no node has.
        scope: Names of the variables that determine it.
        values: Its values.
        places: Which of them it has, by configuration of the scope in row-major order.
    """

    name: str
    scope: tuple[str, ...]
    values: tuple[Value, ...]
    places: np.ndarray[tuple[int], np.dtype[np.int64]]


class Folder:
    """Folds the expressions of one graph; equal parts are one variable.

    Attributes:
        variables: Those that were made, each after what determines it.
    """

    def __init__(
        self, specialiser: Specialiser, values: Mapping[str, Sequence[Value]]
    ) -> None:
        """Return a folder.

        Args:
            specialiser: Of the graph.
            values: Of every discrete variable whose readers are folded.
        """
        self.variables: list[Folded] = []
        self._specialiser = specialiser
        self._table = specialiser.table
        self._latent_values = values
        self._own_values: dict[str, tuple[Value, ...]] = {}
        self._made: dict[int, Expression] = {}
        self._variable_of: dict[int, Expression] = {}
        self._known: dict[int, bool] = {}
        self._kept: list[Expression] = []

    def fold(self, root: Expression) -> Expression:
        """Return an expression of the same value with variables in place of parts."""
        for expression in postorder([root]):
            if id(expression) in self._made:
                continue
            self._kept.append(expression)  # an id stands for an object that lives
            match expression:
                case Constant():
                    made: Expression = self._table.constant(expression.value)
                case Reference():
                    made = self._table.reference(expression.name)
                case Call():
                    arguments = [self._made[id(a)] for a in expression.arguments]
                    made = self._call(expression.head, arguments)
            self._made[id(expression)] = made
            self._is_known(made)  # so that no later question goes deep
        return self._made[id(root)]

    def _call(self, head: str, arguments: list[Expression]) -> Expression:
        if head == "sum" and _is_vector(arguments[0]):
            head, arguments = "+", list(arguments[0].arguments)  # type: ignore[union-attr]
        if head in _ASSOCIATIVE and len(arguments) > 1:
            arguments = self._grouped(head, arguments)
            if len(arguments) == 1:
                return arguments[0]
        return self._variable(self._table.call(head, arguments))

    def _grouped(self, head: str, arguments: list[Expression]) -> list[Expression]:
        """Return the arguments with those that read discrete variables alone joined."""
        is_sum = head in ("+", "*")
        if is_sum:  # (+ (+ x a) b) is (+ x (+ a b))
            arguments = [part for a in arguments for part in _parts(head, a)]
        known = [a for a in arguments if self._is_known(a)]
        if len(known) < len(arguments) and not is_sum:
            return arguments  # the order decides which argument of `and` counts
        if len(known) < 2:
            return arguments
        joined = known[0]
        for argument in known[1:]:
            joined = self._variable(self._table.call(head, [joined, argument]))
        return [joined, *(a for a in arguments if not self._is_known(a))]

    def _is_known(self, expression: Expression) -> bool:
        """Whether an expression reads discrete variables alone."""
        found = self._known.get(id(expression))
        if found is None:
            match expression:
                case Call():
                    found = all(map(self._is_known, expression.arguments))
                case Reference():
                    found = bool(self._specialiser.reads(expression))
                case Constant():
                    found = True
            self._known[id(expression)] = found
        return found

    def _variable(self, expression: Expression) -> Expression:
        """Return a reference to a variable of an expression's value, if that pays."""
        found = self._variable_of.get(id(expression))
        if found is None:
            found = self._variable_of[id(expression)] = self._tried(expression)
        return found

    def _tried(self, expression: Expression) -> Expression:
        scope = self._specialiser.reads(expression)
        if len(scope) < 2 or not self._is_known(expression):
            return expression
        known = [self._values(name) for name in scope]
        if math.prod(map(len, known)) > (_MOST_OF_TWO if len(scope) == 2 else _MOST):
            return expression
        values: dict[int, Constant] = {}
        numbers: dict[int, int] = {}
        places = []
        for configuration in itertools.product(*known):
            at = dict(zip(scope, configuration, strict=True))
            value = self._specialiser.at(expression, at)
            if not isinstance(value, Constant):
                return expression
            values[id(value)] = value
            places.append(numbers.setdefault(id(value), len(numbers)))
        if len(values) == len(places):
            return expression
        folded = Folded(
            f"part {len(self.variables)}",
            scope,
            tuple(value.value for value in values.values()),
            np.array(places),
        )
        self.variables.append(folded)
        self._own_values[folded.name] = folded.values
        self._specialiser.add(folded.name)
        return self._table.reference(folded.name)

    def _values(self, name: str) -> Sequence[Value]:
        return self._own_values.get(name) or self._latent_values[name]


def _is_vector(expression: Expression) -> bool:
    return isinstance(expression, Call) and expression.head == "vector"


def _parts(head: str, expression: Expression) -> tuple[Expression, ...]:
    is_same = isinstance(expression, Call) and expression.head == head
    return expression.arguments if is_same else (expression,)  # type: ignore[union-attr]
