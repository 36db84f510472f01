"""This file computes what a program returns, for every row of latents.

The return value has the program's own shape: vectors, maps and scalars, whose leaves
are constants or columns of numbers. A leaf that is one of several texts or keywords is
a column of positions among them, and so is a part whose shape itself is random:
`(if z [x 2] [])` is one of `[_ 2]` and `[]`, with `_` for what latents decide. A part
that is nil or else of one shape, as a `case` without default, has that shape too.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from daphne_bridge.graph.expression import show_value
from daphne_bridge.language.primitives import HashMap, Keyword

from .dag import Dag
from .lowered_graph import LoweredGraph
from .lowering import Lowering
from .schedule import Schedule
from .shapes import LatentRows, ObservedRow
from .values import Choice, Distribution, Scalar, Undefined, describe

__all__ = ["Leaf", "Missing", "ReturnValue", "return_value"]

Value = Any


@dataclass(frozen=True, slots=True)
class Leaf:
    """A part of the return value that latents decide.

    Attributes:
        column: Its column.
        kind: boolean, integer or real; category for a position among `categories`.
        categories: The values that a position stands for; empty otherwise.
        reads: Names of the nodes that it depends on.
        present: The shape that it has where it is not nil; None where it has several,
            or is never nil.
    """

    column: int
    kind: str
    categories: tuple[Value, ...]
    reads: frozenset[str]
    present: Value = None


@dataclass(frozen=True, slots=True)
class Missing:
    """A part of the return value that has no value, and why."""

    reason: str


@dataclass(frozen=True, eq=False)
class ReturnValue:
    """The return value of a program as a function of latents and data.

    Attributes:
        value: Its shape: tuples, dictionaries, constants, and leaves; a sentence stands
            for a distribution, `Missing` for a part without a value.
        leaves: All leaves, by column.
    """

    value: Value
    leaves: tuple[Leaf, ...]
    _schedule: Schedule

    def missing(self) -> dict[str, str]:
        """Return why a part has no value, by its path, as `return.total[0]`."""
        return dict(_missing(self.value, "return"))

    def columns(
        self, latents: LatentRows, observed: ObservedRow
    ) -> Float[Tensor, "row leaf"]:
        """Return the numbers of all leaves for every row.

        Args:
            latents: Natural values of all latents of the model.
            observed: Observed values.
        """
        count = len(latents)
        if not self.leaves:
            return latents.new_empty(count, 0)
        sources = [latents.t().contiguous(), observed.unsqueeze(1)]
        with torch.no_grad():
            (found,) = self._schedule.run(sources, num_rows=count, like=latents)
        return found.expand(len(self.leaves), count).t().contiguous()


def return_value(lowered: LoweredGraph) -> ReturnValue | None:
    """Return the return value of a graph's program; None where it has no meaning.

    Args:
        lowered: The graph.
    """
    result = lowered.graph.result
    if result is None:
        return None
    leaves: list[tuple[int, Leaf]] = []
    lowering = lowered.lowering
    value = _shape(lowering.value(result), lowering, leaves)
    outputs = tuple(slot for slot, _ in leaves)
    schedule = Schedule.of(lowered.dag, lowered.slots, [outputs])
    return ReturnValue(value, tuple(leaf for _, leaf in leaves), schedule)


def _shape(value: Value, lowering: Lowering, leaves: list[tuple[int, Leaf]]) -> Value:
    dag = lowering.dag
    match value:
        case Scalar():
            kind = value.kind if value.kind in ("boolean", "integer") else "real"
            return _leaf(value.slot, kind, (), dag, leaves)
        case Choice():
            index, alternatives = lowering.leaves(value)
            shown = tuple(map(_outline, alternatives))
            leaf = _leaf(index.slot, "category", shown, dag, leaves)
            present = lowering.without_nil(value)
            if isinstance(present, Choice):
                return leaf
            leaf = replace(leaf, present=_shape(present, lowering, leaves))
            leaves[leaf.column] = (index.slot, leaf)
            return leaf
        case tuple():
            return tuple(_shape(item, lowering, leaves) for item in value)
        case HashMap():
            return {
                _key(key): _shape(item, lowering, leaves) for key, item in value.pairs()
            }
        case Distribution():
            return describe(value)
        case Undefined():
            return Missing(value.reason)
        case None | bool() | int() | float() | str():
            return value
    return show_value(value)


def _missing(value: Value, path: str) -> Iterator[tuple[str, str]]:
    match value:
        case Missing():
            yield path, value.reason
        case tuple():
            for place, item in enumerate(value):
                yield from _missing(item, f"{path}[{place}]")
        case dict():
            for key, item in value.items():
                yield from _missing(item, f"{path}.{key}")


class _Unknown:
    """Stands for what latents decide."""

    def __repr__(self) -> str:
        return "_"


def _outline(value: Value) -> Value:
    """Return a value with what latents decide left out."""
    match value:
        case tuple():
            return tuple(map(_outline, value))
        case HashMap():
            return {key: _outline(item) for key, item in value.pairs()}
        case Scalar() | Choice() | Distribution() | Undefined():
            return _Unknown()
    return value


def _key(key: Value) -> str:
    return str.__str__(key) if isinstance(key, Keyword | str) else show_value(key)


def _leaf(
    slot: int,
    kind: str,
    categories: tuple[Value, ...],
    dag: Dag,
    leaves: list[tuple[int, Leaf]],
) -> Leaf:
    leaf = Leaf(len(leaves), kind, categories, _reads(dag, slot))
    leaves.append((slot, leaf))
    return leaf


def _reads(dag: Dag, slot: int) -> frozenset[str]:
    """Return the names of the nodes that a slot depends on."""
    seen: set[int] = set()
    found: set[str] = set()
    stack = [slot]
    while stack:
        current = stack.pop()
        if current in seen:
            continue
        seen.add(current)
        operation = dag[current]
        if operation.name == "variable":
            found.add(operation.attribute[0])
        stack.extend(operation.inputs)
    return frozenset(found)
