"""This file puts values of discrete latents into link functions.

An expression is made anew with references to discrete latents replaced by constants;
the expression table simplifies what becomes known, so that `if`, `get` and comparisons
on them vanish. A part of an expression is made once for each configuration of the
latents that it reads itself, however many nodes and configurations share it. First the
latents become numbered places, so that expressions that differ in latents alone, the
steps of a chain say, are one expression with places.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from daphne_bridge.graph.expression import (
    Call,
    Constant,
    Expression,
    ExpressionTable,
    Reference,
    Value,
    postorder,
)

__all__ = ["Everywhere", "Pattern", "Specialiser"]

Pattern = tuple[object, ...]

_LONGEST_PATTERN = 64
"""Longer expressions are known by the one object with places that they become."""
_PLACE = "?"
"""Begins the name of a place; no node is called so."""


@dataclass(frozen=True, slots=True, eq=False)
class Everywhere:
    """What an expression is at every configuration of discrete latents.

    Attributes:
        made: The expressions that it becomes, each once.
        places: Which of them it is, one axis for each latent of two values or more, of
            length 1 where it does not matter.
    """

    made: Sequence[Expression]
    places: np.ndarray[tuple[int, ...], np.dtype[np.int64]]


class Specialiser:
    """Specialises the expressions of one graph.

    Equal specialised expressions are the same object.

    Attributes:
        table: Makes the specialised expressions.
    """

    def __init__(self, discrete: Collection[str]) -> None:
        self.table = ExpressionTable()
        self._discrete = set(discrete)
        self._read: dict[int, tuple[str, ...]] = {}
        self._made: dict[tuple[int, tuple[Expression, ...]], Expression] = {}
        self._placed: dict[int, Expression] = {}
        self._kept: list[Expression] = []

    def add(self, name: str) -> None:
        """Count a name that no expression refers to yet among the discrete latents."""
        self._discrete.add(name)

    def reads(self, root: Expression) -> tuple[str, ...]:
        """Return the discrete latents that an expression reads, sorted."""
        found = self._read
        stack = [root]
        while stack:
            expression = stack[-1]
            if id(expression) in found:
                stack.pop()
                continue
            names: frozenset[str] = frozenset()
            if isinstance(expression, Call):
                missing = [a for a in expression.arguments if id(a) not in found]
                if missing:
                    stack.extend(missing)
                    continue
                names = names.union(*(found[id(a)] for a in expression.arguments))
            elif isinstance(expression, Reference):
                name = expression.name
                is_place = name.startswith(_PLACE)
                names = frozenset((name,) if is_place or name in self._discrete else ())
            found[id(expression)] = tuple(sorted(names))
            self._kept.append(expression)  # an id stands for an object that lives
            stack.pop()
        return found[id(root)]

    def pattern(self, root: Expression) -> tuple[Pattern, tuple[str, ...]]:
        """Return what an expression is but for names of discrete latents, and those.

        Equal patterns are of expressions that are the same once the latents of one,
        in this order, take the places of the other's.
        """
        parts: list[object] = []
        names: dict[str, int] = {}
        stack = [root]
        while stack and len(parts) < _LONGEST_PATTERN:
            expression = stack.pop()
            if isinstance(expression, Call) and not expression.is_literal:
                parts.append((expression.head, len(expression.arguments)))
                stack.extend(reversed(expression.arguments))
            elif (
                isinstance(expression, Reference) and expression.name in self._discrete
            ):
                parts.append(names.setdefault(expression.name, len(names)))
            else:
                parts.append((id(expression),))
                self._kept.append(expression)
        if stack:
            return (id(self.placed(root)),), self.reads(root)
        return tuple(parts), tuple(names)

    def placed(self, root: Expression) -> Expression:
        """Return an expression with numbered places for what `reads` lists."""
        placed = self._placed.get(id(root))
        if placed is None:
            places = {
                name: self.table.reference(f"{_PLACE}{number:06}")
                for number, name in enumerate(self.reads(root))
            }
            placed = self._placed[id(root)] = self._replaced(root, places)
        return placed

    def at(self, root: Expression, values: Mapping[str, Value]) -> Expression:
        """Return an expression with constants for discrete latents.

        Args:
            root: The expression.
            values: Value of every discrete latent that it reads.
        """
        constants = {
            f"{_PLACE}{number:06}": self.table.constant(values[name])
            for number, name in enumerate(self.reads(root))
        }
        return self._replaced(self.placed(root), constants)

    def everywhere(
        self,
        root: Expression,
        names: Sequence[str],
        values: Mapping[str, Sequence[Value]],
    ) -> Everywhere:
        """Return an expression at all configurations of some latents.

        Parts that become the same at many configurations are made once: of
        `(if (< a b) x y)` there are two, however many values a and b have.

        Args:
            root: The expression, which reads no other discrete latents.
            names: The latents.
            values: Of each of them.
        """
        several = [name for name in names if len(values[name]) > 1]
        axis = {name: number for number, name in enumerate(several)}
        found: dict[int, Everywhere] = {}
        for expression in postorder([root], into=self.reads):
            if not self.reads(expression):
                made, places = [self.at(expression, {})], np.zeros(len(axis) * (1,))
                found[id(expression)] = Everywhere(made, places.astype(np.int64))
            elif isinstance(expression, Call):
                parts = [found[id(a)] for a in expression.arguments]
                found[id(expression)] = self._called(expression.head, parts)
            elif isinstance(expression, Reference):
                known = values[expression.name]
                shape = len(axis) * [1]
                if expression.name in axis:
                    shape[axis[expression.name]] = len(known)
                found[id(expression)] = Everywhere(
                    list(map(self.table.constant, known)),
                    np.arange(len(known)).reshape(shape),
                )
        return found[id(root)]

    def _called(self, head: str, parts: Sequence[Everywhere]) -> Everywhere:
        """Return a call of parts, each combination of them that occurs once."""
        shape = np.broadcast_shapes(*(part.places.shape for part in parts))
        places = [np.broadcast_to(part.places, shape).reshape(-1) for part in parts]
        numbers = np.zeros_like(places[0])
        count = 1
        for part, own in zip(parts, places, strict=True):
            if count * len(part.made) > 2**62:
                kept, numbers = np.unique(numbers, return_inverse=True)
                count = len(kept)
            numbers = numbers * len(part.made) + own
            count *= len(part.made)
        _, first, numbers = np.unique(numbers, return_index=True, return_inverse=True)
        made: dict[Expression, int] = {}
        calls = []
        for which in zip(*(own[first] for own in places), strict=True):
            call = self.table.call(
                head, [part.made[i] for part, i in zip(parts, which, strict=True)]
            )
            calls.append(made.setdefault(call, len(made)))
        return Everywhere(list(made), np.array(calls)[numbers].reshape(shape))

    def _replaced(
        self, root: Expression, constants: Mapping[str, Expression]
    ) -> Expression:
        """Return an expression with others for discrete latents or places."""
        self.reads(root)

        def key(expression: Expression) -> tuple[int, tuple[Expression, ...]]:
            read = self._read[id(expression)]
            return id(expression), tuple(constants[name] for name in read)

        made = self._made
        stack = [root]
        while stack:
            expression = stack[-1]
            own = key(expression)
            if own in made:
                stack.pop()
                continue
            match expression:
                case Constant():
                    made[own] = self.table.constant(expression.value)
                case Reference():
                    known = constants.get(expression.name)
                    made[own] = known or self.table.reference(expression.name)
                case Call():
                    keys = [key(argument) for argument in expression.arguments]
                    missing = [
                        argument
                        for argument, k in zip(expression.arguments, keys, strict=True)
                        if k not in made
                    ]
                    if missing:
                        stack.extend(missing)
                        continue
                    made[own] = self.table.call(
                        expression.head, [made[k] for k in keys]
                    )
            stack.pop()
        return made[key(root)]
