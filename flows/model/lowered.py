"""This file says what a node is as slots of a DAG: its distributions and its value."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from daphne_bridge.graph.graph import Graph, Node
from daphne_bridge.language.families import FAMILIES

from .dag import Dag
from .families import Shape

__all__ = ["Branch", "Lowered", "place"]

Value = Any


@dataclass(frozen=True, slots=True)
class Branch:
    """One distribution that a node may have: flat slots and shape of each parameter."""

    family: str
    parameters: tuple[tuple[int, ...], ...]
    shapes: tuple[Shape, ...]


@dataclass(frozen=True, slots=True)
class Lowered:
    """A node as slots.

    Attributes:
        node: The graph's node.
        branches: Its possible distributions.
        index: Slot that says which branch counts; None if there is one.
        condition: Slot of a boolean, false where the observe does not count; None if
            it always does.
        shape: Shape of a value.
        slots: Slots of a value, flat.
        categories: What the indices of a `categorical` stand for; empty otherwise.
        atoms: What gives single numbers a mass where other branches have densities.
            Beside a mass a density is nothing (Wu, Srivastava, Hay, Du, Russell,
            "Discrete-continuous mixtures in probabilistic programming", ICML 2018).
    """

    node: Node
    branches: tuple[Branch, ...]
    index: int | None
    condition: int | None
    shape: Shape
    slots: tuple[int, ...]
    categories: tuple[Value, ...] = ()
    atoms: tuple[Branch, ...] = ()

    @property
    def is_discrete(self) -> bool:
        """Whether values are counted rather than measured."""
        return any(FAMILIES[branch.family].is_discrete for branch in self.branches)

    def term(self, dag: Dag, value: tuple[int, ...] | None = None) -> int:
        """Return the slot of the node's log density; 0 where its condition fails.

        Args:
            dag: The operations.
            value: Slots of the value, if not those of the node.
        """
        value = self.slots if value is None else value
        parts = [self._density(dag, branch, value) for branch in self.branches]
        term = parts[0] if self.index is None else self.select(dag, parts)
        if self.condition is None:
            return term
        return dag.emit("choose", (self.condition, term, dag.constant(0.0)))

    def _density(self, dag: Dag, branch: Branch, value: tuple[int, ...]) -> int:
        shapes = (self.shape, *branch.shapes)
        inputs = [*value, *(s for part in branch.parameters for s in part)]
        density = dag.emit("density", inputs, (branch.family, shapes))
        if FAMILIES[branch.family].is_discrete:
            return density
        nothing = dag.constant(-math.inf)
        for atom in self.atoms:
            mass = self._density(dag, atom, value)
            has_mass = dag.emit("less", (nothing, mass))
            density = dag.emit("choose", (has_mass, nothing, density))
        return density

    def select(self, dag: Dag, parts: Sequence[int]) -> int:
        """Return the slot of the part that the node's index names."""
        assert self.index is not None  # noqa: S101 - only called for several branches
        return dag.emit("select", (self.index, dag.emit("bundle", parts)))


def place(graph: Graph, part: str, name: str) -> str:
    """Return the JSON path of a node's entry in `P` or `Y`."""
    return f"{graph.source}: $[1].{part}.{name}"
