"""This file turns the link functions of a graph into operations on scalar slots.

Every node becomes a `Lowered`: its possible distributions as slots of parameters, the
slots of its value, and for an observe under `if` the slot of its condition. A node has
several distributions only where a branch decides the family; the slot `index` then says
which one counts. All problems of a graph are found in one go, each with its JSON path.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from daphne_bridge.errors import Problem
from daphne_bridge.graph.expression import (
    Call,
    Constant,
    Expression,
    Reference,
    free_names,
    show,
)
from daphne_bridge.graph.graph import Graph, Node
from daphne_bridge.graph.nodes import distributions_in
from daphne_bridge.language.families import FAMILIES
from daphne_bridge.language.primitives import HashMap, equal

from ..errors import ModelError
from .dag import Dag
from .families import DENSITIES, Shape, event_shape
from .lowered import Branch, Lowered, place
from .primitives import primitives_on, truth
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
    slot_of,
)

__all__ = ["Lowering"]

Value = Any

_KINDS: Mapping[str, Kind] = {
    "boolean": "boolean",
    "zero or one": "integer",
    "integers from zero": "integer",
    "integer interval": "integer",
    "index": "integer",
}
"""Kind of a value by the support of its distribution; real for all others."""


class _Refused(Exception):
    """A node has no distribution; the arguments are what, expected, got."""


class Lowering:
    """Keeps the value of every expression and node that was met."""

    def __init__(self, dag: Dag) -> None:
        self.dag = dag
        self.primitives = primitives_on(dag)
        self.values: dict[str, Value] = {}
        self._found: dict[int, tuple[Value, bool]] = {}

    def graph(self, graph: Graph) -> tuple[Lowered, ...]:
        """Return every node of a graph as slots.

        Raises:
            ModelError: With every node whose link function has no meaning here.
        """
        lowered: list[Lowered] = []
        problems: list[Problem] = []
        for node in graph.nodes:
            try:
                lowered.append(self.node(node, graph))
            except ModelError as error:
                problems.extend(error.problems)
        if problems:
            raise ModelError(*problems)
        return tuple(lowered)

    def node(self, node: Node, graph: Graph) -> Lowered:
        """Return a node as slots; the nodes that it reads were lowered before.

        Raises:
            ModelError: If its link function has no meaning here.
        """
        try:
            return self._lowered(node, self._atoms(graph.node(node.name)))
        except _Refused as refusal:
            problem = Problem(place(graph, "P", node.name), *refusal.args)
        except RecursionError:
            problem = Problem(
                place(graph, "P", node.name),
                "random choices among collections are nested too deeply",
            )
        self.values[node.name] = Undefined(f"{node.name} has no distribution")
        raise ModelError(problem)

    def _atoms(self, node: Node) -> tuple[Branch, ...]:
        """Return the branches of an observe that count where others measure."""
        if not node.is_mixed:
            return ()
        calls = distributions_in(node.distribution)
        counted = [call for call in calls if FAMILIES[call.head].is_discrete]
        if not node.is_observed:
            raise _Refused(
                "whether a value is counted or measured depends on a branch",
                "a draw in each branch, (if c (sample d1) (sample d2))",
                " and ".join(sorted({call.head for call in calls})),
            )
        for call in counted:
            if free_names(call):
                raise _Refused(
                    f"the mass of {call.head} beside the density of another branch "
                    "depends on other nodes",
                    "parameters that are numbers",
                    show(call, limit=60),
                )
        return tuple(self._branch(self.value(call))[0] for call in counted)

    def _lowered(self, node: Node, atoms: tuple[Branch, ...]) -> Lowered:
        distribution = self.value(node.distribution)
        index, alternatives = None, (distribution,)
        if isinstance(distribution, Choice):
            index, alternatives = self.leaves(distribution)
        branches = []
        categories: list[tuple[Value, ...]] = []
        for alternative in alternatives:
            if not isinstance(alternative, Distribution):
                reason = isinstance(alternative, Undefined)
                raise _Refused(
                    "the link function has no value"
                    if reason
                    else "the link function is no distribution",
                    "a distribution",
                    alternative.reason if reason else describe(alternative),
                )
            branch, values = self._branch(alternative)
            branches.append(branch)
            categories.append(values)
        shapes = {event_shape(branch.family, branch.shapes) for branch in branches}
        if len(shapes) > 1:
            raise _Refused(
                "the shape of a value depends on a branch",
                "distributions of one shape",
                " and ".join(str(list(shape)) for shape in sorted(shapes)),
            )
        shape = shapes.pop()
        slots = tuple(
            self.dag.variable((node.name, position)) for position in range(_size(shape))
        )
        self.values[node.name] = self._variable(branches, categories, shape, slots)
        return Lowered(
            node=node,
            branches=tuple(branches),
            index=None if index is None else index.slot,
            condition=self._condition(node),
            shape=shape,
            slots=slots,
            categories=categories[0],
            atoms=atoms,
        )

    def _condition(self, node: Node) -> int | None:
        if node.condition is None:
            return None
        test = truth(self.primitives, self.value(node.condition))
        if isinstance(test, Undefined):
            raise _Refused("the condition has no value", "a condition", test.reason)
        return slot_of(self.dag, test)

    def leaves(self, choice: Choice) -> tuple[Scalar, tuple[Value, ...]]:
        """Return all alternatives of nested choices, and one index among them."""
        leaves: list[Value] = []
        found: dict[int, Value] = {}
        stack: list[tuple[Value, bool]] = [(choice, False)]
        while stack:
            value, is_ready = stack.pop()
            if not isinstance(value, Choice):
                found[id(value)] = len(leaves)
                leaves.append(value)
            elif not is_ready:
                stack.append((value, True))
                stack.extend((part, False) for part in reversed(value.alternatives))
            else:
                parts = tuple(found[id(part)] for part in value.alternatives)
                found[id(value)] = chosen(self.dag, value.index, parts)
        index = found[id(choice)]
        if not isinstance(index, Scalar):
            raise _Refused("the link function is no distribution", "", describe(index))
        return index, tuple(leaves)

    def without_nil(self, value: Value) -> Value:
        """Return a choice with numbers that have no value in place of nil.

        A lookup by a random key is nil where no key of the map is equal.
        """
        if not isinstance(value, Choice):
            return value
        index, parts = self.leaves(value)
        present = [part for part in parts if part is not None]
        if len(present) == len(parts) or not present:
            return value
        absent = _without_value(present[0])
        filled = [absent if part is None else part for part in parts]
        return chosen(self.dag, index, filled)

    def _variable(
        self,
        branches: Sequence[Branch],
        categories: Sequence[tuple[Value, ...]],
        shape: Shape,
        slots: tuple[int, ...],
    ) -> Value:
        families = {branch.family for branch in branches}
        if "categorical" in families:
            if len(branches) > 1:
                raise _Refused(
                    "whether a value is a category depends on a branch",
                    "one categorical distribution",
                    "several",
                )
            index = Scalar(slots[0], "integer")
            return self.primitives.element(categories[0], index)
        kinds = {_KINDS.get(FAMILIES[family].support, "real") for family in families}
        if len(kinds) > 1 and "boolean" in kinds:
            raise _Refused(
                "whether a value is a boolean depends on a branch",
                "numbers, or booleans, in every branch",
                " and ".join(sorted(families)),
            )
        kind: Kind = kinds.pop() if len(kinds) == 1 else "mixed"
        items: Sequence[Value] = [Scalar(slot, kind) for slot in slots]
        if not shape:
            return items[0]
        for length in reversed(shape[1:]):
            items = [
                tuple(items[start : start + length])
                for start in range(0, len(items), length)
            ]
        return tuple(items)

    def _branch(self, distribution: Distribution) -> tuple[Branch, tuple[Value, ...]]:
        family = distribution.family
        parameters = distribution.parameters
        values: tuple[Value, ...] = ()
        if family == "categorical":
            values, weights = self._pairs(parameters[0])
            parameters = (weights,)
        flat, shapes = [], []
        for parameter, value in zip(
            DENSITIES[family].parameters, parameters, strict=True
        ):
            slots, shape = self._parameter(
                family, parameter.name, parameter.rank, value
            )
            flat.append(slots)
            shapes.append(shape)
        branch = Branch(family, tuple(flat), tuple(shapes))
        vectors = {shape[0] for shape in shapes if shape}
        if len(vectors) > 1:
            sizes = " and ".join(map(str, (list(shape) for shape in shapes if shape)))
            raise _Refused(
                f"the parameters of {family} differ in size", "one dimension", sizes
            )
        return branch, values

    def _pairs(self, value: Value) -> tuple[tuple[Value, ...], tuple[Value, ...]]:
        """Return the values and weights of a categorical; equal values are joined."""
        pairs = value.pairs() if isinstance(value, HashMap) else value
        if (
            not isinstance(pairs, tuple)
            or not pairs
            or not all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs)
        ):
            raise _Refused(
                "the parameter of categorical is no list of pairs",
                "a vector of [value weight] pairs",
                describe(value),
            )
        values: list[Value] = []
        weights: list[Value] = []
        for item, weight in pairs:
            known = _position(values, item)
            if known is None:
                values.append(item)
                weights.append(weight)
            else:
                weights[known] = self.primitives.apply(
                    "+",
                    (weights[known], weight),
                    are_known=not isinstance(weight, Scalar)
                    and not isinstance(weights[known], Scalar),
                )
        return tuple(values), tuple(weights)

    def _parameter(
        self, family: str, name: str, rank: int, value: Value
    ) -> tuple[tuple[int, ...], Shape]:
        items: Sequence[Value] = (value,)
        shape: list[int] = []
        wanted = ("a number", "a vector of numbers", "a square matrix of numbers")[rank]
        for _ in range(rank):
            if not all(isinstance(item, tuple) and item for item in items) or (
                len({len(item) for item in items}) > 1
            ):
                raise self._refusal(family, name, wanted, value)
            shape.append(len(items[0]))
            items = [part for item in items for part in item]
        if rank == 2 and shape[0] != shape[1]:
            raise _Refused(
                f"the {name} of {family} is not square",
                wanted,
                f"{shape[0]} rows of {shape[1]}",
            )
        for item in items:
            if family == "dirac" and _is_measured(item):
                raise _Refused(
                    "dirac of a continuous value has no density",
                    "(normal value 0.001), say: a narrow distribution around it",
                    describe(item),
                )
            if family == "dirac" and kind_of(item) == "boolean":
                continue
            if kind_of(item) in (None, "boolean"):
                raise self._refusal(
                    family, name, wanted, item if len(items) > 1 else value
                )
        return tuple(slot_of(self.dag, item) for item in items), tuple(shape)

    @staticmethod
    def _refusal(family: str, name: str, wanted: str, value: Value) -> _Refused:
        known = {"a number": "number", "a vector of numbers": "vector"}
        kind = known.get(wanted, "square matrix")
        return _Refused(f"the {name} of {family} is no {kind}", wanted, describe(value))

    def value(self, root: Expression) -> Value:
        """Return the value of an expression; each one is worked out once."""
        found = self._found
        for expression in _missing(root, found):
            match expression:
                case Constant():
                    found[id(expression)] = (expression.value, True)
                case Reference():
                    value = self.values.get(
                        expression.name, Undefined(f"unknown node {expression.name}")
                    )
                    found[id(expression)] = (value, False)
                case Call():
                    found[id(expression)] = self._call(expression)
        return found[id(root)][0]

    def _call(self, call: Call) -> tuple[Value, bool]:
        parts = [self._found[id(argument)] for argument in call.arguments]
        values = tuple(value for value, _ in parts)
        if call.head in FAMILIES:
            values = tuple(map(self.without_nil, values))
            for value in values:
                if isinstance(value, Undefined):
                    return value, False
                if isinstance(value, Choice):
                    return self._split(call.head, values), False
            return Distribution(call.head, values), False
        are_known = all(known for _, known in parts)
        if call.head == "if":
            value = self.primitives.choose(*values)
            # Of a condition that is known the other branch does not matter.
            return value, are_known or (kind_of(value) is not None and is_known(value))
        value = self.primitives.apply(call.head, values, are_known=are_known)
        if isinstance(value, Undefined):
            shown = show(call, limit=60)
            return Undefined(f"{value.reason} in {shown}"), False
        return value, are_known

    def _split(self, family: str, values: tuple[Value, ...]) -> Value:
        """Return the choice among distributions that a choice of parameters makes."""
        position = next(i for i, v in enumerate(values) if isinstance(v, Choice))
        choice = values[position]
        parts = []
        for alternative in choice.alternatives:
            given = (*values[:position], alternative, *values[position + 1 :])
            again = any(isinstance(value, Choice) for value in given)
            parts.append(
                self._split(family, given) if again else Distribution(family, given)
            )
        return Choice(choice.index, tuple(parts))


def _missing(root: Expression, found: Mapping[int, object]) -> Iterator[Expression]:
    """Yield what is below `root` and not yet found, arguments first."""
    if id(root) in found:
        return
    stack: list[tuple[Expression, bool]] = [(root, False)]
    while stack:
        expression, is_ready = stack.pop()
        if id(expression) in found:
            continue
        if is_ready or not isinstance(expression, Call):
            yield expression
            continue
        stack.append((expression, True))
        stack.extend((a, False) for a in reversed(expression.arguments))


def _is_measured(value: Value) -> bool:
    return isinstance(value, Scalar) and value.kind in ("real", "mixed")


def _position(values: Sequence[Value], item: Value) -> int | None:
    for position, value in enumerate(values):
        if value is item:
            return position
        if not isinstance(item, Scalar | Choice) and not isinstance(
            value, Scalar | Choice
        ):
            if equal(value, item):
                return position
        elif value == item:
            return position
    return None


def _size(shape: Shape) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


def _without_value(value: Value) -> Value:
    """Return a value of the same shape whose numbers have no value."""
    if isinstance(value, tuple):
        return tuple(map(_without_value, value))
    if isinstance(value, HashMap):
        return HashMap((key, _without_value(item)) for key, item in value.pairs())
    return Undefined("nil is no number")
