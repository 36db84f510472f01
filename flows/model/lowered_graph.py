"""This file holds a whole graph as slots of one DAG, with the columns of its nodes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from daphne_bridge.graph.graph import Graph
from daphne_bridge.language.families import FAMILIES

from .dag import Dag
from .layout import Layout, Variable
from .lowered import Lowered
from .lowering import Lowering
from .support import BIJECTIONS

__all__ = ["LoweredGraph", "is_bounded", "supports_of"]

Slots = tuple[int, ...]

_BOUNDED = frozenset(
    {"boolean", "zero or one", "index", "category", "simplex", "unit interval"}
)
_BOUNDED_BY_PARAMETERS = frozenset({"interval", "integer interval"})


@dataclass(frozen=True, eq=False)
class LoweredGraph:
    """A graph as slots.

    Attributes:
        graph: The graph.
        lowering: Has the value of every node, and its operations; equal ones are made
            once, so using it adds names only.
        nodes: Every node as slots, by name.
        terms: Slot of every node's log density, by name.
    """

    graph: Graph
    lowering: Lowering
    nodes: Mapping[str, Lowered]
    terms: Mapping[str, int]

    @classmethod
    def from_graph(cls, graph: Graph) -> "LoweredGraph":
        """Return a graph as slots of a DAG of its own.

        Raises:
            ModelError: With every node whose link function has no meaning.
        """
        lowering = Lowering(Dag())
        nodes = {entry.node.name: entry for entry in lowering.graph(graph)}
        terms = {name: entry.term(lowering.dag) for name, entry in nodes.items()}
        return cls(graph, lowering, nodes, terms)

    @property
    def dag(self) -> Dag:
        """The operations."""
        return self.lowering.dag

    @cached_property
    def latents(self) -> tuple[Lowered, ...]:
        """The latents, in the order of the graph."""
        return tuple(self.nodes[name] for name in self.graph.latents)

    @cached_property
    def observed(self) -> tuple[Lowered, ...]:
        """The observed nodes, in the order of the graph."""
        return tuple(self.nodes[name] for name in self.graph.observed)

    @cached_property
    def slots(self) -> tuple[Slots, Slots]:
        """Slots of the latents' and of the observed values, in the layout's order."""
        latents = tuple(slot for entry in self.latents for slot in entry.slots)
        observed = tuple(slot for entry in self.observed for slot in entry.slots)
        return latents, observed

    @cached_property
    def layout(self) -> Layout:
        """Columns of the latents and of the observed nodes."""
        return Layout(
            _variables(self.latents, are_latent=True),
            _variables(self.observed, are_latent=False),
        )


def supports_of(entry: Lowered) -> list[tuple[str, tuple[Slots, ...]]]:
    """Return the support of each branch with the slots of its bounds; once if equal."""
    found = []
    for branch in entry.branches:
        support = str(FAMILIES[branch.family].support)
        bounds = branch.parameters[-2:] if support == "interval" else ()
        found.append((support, bounds))
    return found[:1] if len(set(found)) == 1 else found


def is_bounded(entry: Lowered) -> bool:
    """Whether the values of a latent lie between two numbers that are known."""
    supports = {support for support, _ in supports_of(entry)}
    are_known = not entry.node.parents
    return supports <= (_BOUNDED | _BOUNDED_BY_PARAMETERS if are_known else _BOUNDED)


def _variables(entries: Sequence[Lowered], *, are_latent: bool) -> tuple[Variable, ...]:
    start = free_start = 0
    variables = []
    for entry in entries:
        size = len(entry.slots)
        free = 0
        if are_latent and not entry.is_discrete:
            support, _ = supports_of(entry)[0]
            free = BIJECTIONS[support].free_size(size)
        variables.append(
            Variable(
                name=entry.node.name,
                label=entry.node.label,
                shape=entry.shape,
                start=start,
                stop=start + size,
                free_start=free_start,
                free_stop=free_start + free,
                is_discrete=entry.is_discrete,
            )
        )
        start += size
        free_start += free
    return tuple(variables)
