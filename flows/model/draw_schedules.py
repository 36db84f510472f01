"""This file says what to run to draw the nodes of a graph, each given its parents."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from .jobs import Definition, Job
from .layout import Variable
from .lowered_graph import LoweredGraph
from .schedule import Schedule

__all__ = ["DrawSchedules"]

Names = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class DrawSchedules:
    """The schedules that draw nodes of a graph, each made when first used.

    Attributes:
        lowered: The graph as slots.
    """

    lowered: LoweredGraph
    _given: dict[Names, Schedule] = field(default_factory=dict)
    _more: dict[Names, Schedule] = field(default_factory=dict)

    @cached_property
    def everything(self) -> Schedule:
        """What draws all nodes."""
        return self._schedule([], self.lowered.slots)

    @cached_property
    def latents_alone(self) -> Schedule:
        """What draws the latents, and no data."""
        return self._schedule([], self.lowered.slots[:1])

    def given(self, variables: Sequence[Variable]) -> Schedule:
        """Return what draws all other nodes; made once for each set of given ones."""
        names = tuple(variable.name for variable in variables)
        if names not in self._given:
            given = self._slots(names)
            self._given[names] = self._schedule([given], self.lowered.slots)
        return self._given[names]

    def more(self, names: Names) -> Schedule:
        """Return what draws these latents given the others."""
        if names not in self._more:
            drawn = self._slots(names)
            latents, observed = self.lowered.slots
            # A latent that is drawn is not read: no slot has this number.
            read = tuple(-1 if slot in drawn else slot for slot in latents)
            self._more[names] = self._schedule([read, observed], [drawn])
        return self._more[names]

    def _slots(self, names: Names) -> tuple[int, ...]:
        return tuple(slot for n in names for slot in self.lowered.nodes[n].slots)

    def _schedule(
        self, sources: Sequence[tuple[int, ...]], outputs: Sequence[tuple[int, ...]]
    ) -> Schedule:
        return Schedule.of(self.lowered.dag, sources, outputs, self._definitions)

    @cached_property
    def _definitions(self) -> Mapping[int, Definition]:
        """What computes every node's value from its parameters."""
        dag = self.lowered.dag
        definitions: dict[int, Definition] = {}
        for entry in self.lowered.nodes.values():
            several = entry.index is not None
            drawn: list[tuple[int, ...]] = []
            for number, branch in enumerate(entry.branches):
                name = (entry.node.name, number)
                outputs = tuple(
                    dag.variable(("draw", name, column)) if several else slot
                    for column, slot in enumerate(entry.slots)
                )
                key = (branch.family, branch.shapes, several)
                job = Job("draw", key, branch.parameters, outputs, (entry, branch))
                definitions.update(dict.fromkeys(outputs, job))
                drawn.append(outputs)
            if several:
                for slot, parts in zip(
                    entry.slots, zip(*drawn, strict=True), strict=True
                ):
                    definitions[slot] = entry.select(dag, parts)
        return definitions
