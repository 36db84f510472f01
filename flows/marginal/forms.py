"""This file gives a node at every configuration of the discrete latents that it reads.

A configuration is put into the link function (`specialise.py`), which is then lowered
like any other. Nodes whose link functions differ in latents alone share what is found.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from daphne_bridge.graph.expression import Constant, Expression, Value, is_false
from daphne_bridge.graph.graph import Graph, Node

from ..errors import ModelError
from ..model.dag import Dag
from ..model.lowered import Lowered
from ..model.lowering import Lowering
from .limits import TooWideError, too_wide
from .specialise import Specialiser

__all__ = ["Form", "Forms", "Key"]

_MOST_WIDE_FORMS = 2**16
"""Most forms of link functions that read three discrete latents or more."""

Form = Lowered | ModelError | None
"""A node at a configuration; or why it has no meaning there; None: it counts not."""

Key = tuple[object, ...]
"""What nodes share that are the same at every configuration."""


@dataclass(eq=False)
class Forms:
    """The forms of the nodes of a graph.

    Attributes:
        graph: The graph.
        dag: Where link functions become operations.
        specialiser: Puts values into them.
        number: Number of every discrete variable, in the order of scopes.
        values: What each of them can be, of those that were met.
    """

    graph: Graph
    dag: Dag
    specialiser: Specialiser
    number: dict[str, int]
    values: dict[str, tuple[Value, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._lowering = Lowering(self.dag)
        self._num_wide = 0
        self._lowered: dict[tuple[int, int, int], Lowered] = {}
        self._of_alike: dict[Key, list[Form]] = {}

    def scope(self, node: Node) -> tuple[list[str], Key]:
        """Return the discrete variables that a node reads, and the key of its forms."""
        parts = [node.distribution, *([node.condition] if node.condition else [])]
        patterns = [self.specialiser.pattern(part) for part in parts]
        read = [name for _, own in patterns for name in own]
        names = sorted({*read}, key=self.number.__getitem__)
        place = {name: position for position, name in enumerate(names)}
        key = (
            *(pattern for pattern, _ in patterns),
            *(place[name] for name in read),
            *(id(self.values[name]) for name in names),
        )
        return names, key

    def size(self, names: Collection[str]) -> int:
        """Return the number of configurations of variables."""
        return math.prod(len(self.values[name]) for name in names)

    def everywhere(self, node: Node, names: Sequence[str], key: Key) -> list[Form]:
        """Return a node at every configuration of the variables that it reads."""
        is_read = bool(self.graph.children(node.name))
        is_shared = node.is_observed and not is_read
        if is_shared and key in self._of_alike:
            return self._of_alike[key]
        value = self._lowering.values.get(node.name)
        parts = [node.distribution, *([node.condition] if node.condition else [])]
        each = [self.specialiser.everywhere(p, names, self.values) for p in parts]
        lengths = (len(self.values[name]) for name in names)
        shape = tuple(length for length in lengths if length > 1)
        places = [np.broadcast_to(e.places, shape).reshape(-1).tolist() for e in each]
        forms: dict[tuple[int, ...], Form] = {}
        for which in zip(*places, strict=True):
            if which in forms:
                continue
            made = [e.made[place] for e, place in zip(each, which, strict=True)]
            try:
                forms[which] = self._at(node, *made, num_read=len(names))
            except TooWideError:
                raise
            except ModelError as error:
                forms[which] = error
                continue
            value = self._lowering.values.get(node.name)
        found = [forms[which] for which in zip(*places, strict=True)]
        # What reads the node reads it where it has a meaning.
        self._lowering.values[node.name] = value
        errors = [form for form in found if isinstance(form, ModelError)]
        if len(errors) == len(found):
            raise errors[0]
        if is_shared:
            self._of_alike[key] = found
        return found

    def _at(
        self,
        node: Node,
        distribution: Expression,
        condition: Expression | None = None,
        *,
        num_read: int,
    ) -> Lowered | None:
        """Return a node with parts of its own; None where its observe does not count.

        Args:
            node: The node.
            distribution: Its distribution at some configuration.
            condition: The condition of its observe there, if it has one.
            num_read: How many discrete variables it reads.
        """
        if isinstance(condition, Constant):
            if is_false(condition.value):
                return None
            condition = None
        special = replace(node, distribution=distribution, condition=condition)
        mixture = id(node.distribution) if node.is_mixed else 0
        key = (id(distribution), id(condition), mixture)
        known = self._lowered.get(key)
        is_leaf = not self.graph.children(node.name)
        if known is not None and (node.name in self.number or is_leaf):
            # The same link function again: only the value is another one.
            slots = tuple(
                self.dag.variable((node.name, position))
                for position in range(len(known.slots))
            )
            return replace(known, node=special, slots=slots)
        self._num_wide += num_read > 2
        if self._num_wide > _MOST_WIDE_FORMS:
            raise too_wide(self.graph, self._num_wide)
        form = self._lowered[key] = self._lowering.node(special, self.graph)
        return form
