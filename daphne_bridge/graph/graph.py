"""This file owns the checked graphical model: nodes with their links, in order.

A graph is an acyclic directed graph over named nodes. Every node has a distribution
given by a link function of its parents; some nodes are observed. Nodes stand in
topological order, parents first; among nodes that are ready the one that the program
made first comes first.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from ..building import building
from ..errors import GraphError, Problem, shortened
from ..language.nearest import or_nearest
from .building import build
from .canonical import CanonicalForm, canonical_form
from .document import GraphDocument, NodeNames
from .expression import Expression
from .nodes import Node

__all__ = ["Graph", "Node"]


@dataclass(frozen=True)
class Graph:
    """A graphical model with data.

    Attributes:
        nodes: All nodes, parents first.
        result: What the program returns, as an expression of the nodes; None where the
            document's term cannot be read.
        warnings: What was odd in the document but has a clear meaning.
        source: File name for messages.
        document: What it was made of.
    """

    nodes: tuple[Node, ...]
    result: Expression | None = None
    warnings: tuple[Problem, ...] = ()
    source: str = field(default="<document>", compare=False)
    document: GraphDocument | None = field(default=None, compare=False, repr=False)

    @classmethod
    @building()
    def from_document(
        cls, document: GraphDocument, names: NodeNames | None = None
    ) -> "Graph":
        """Return the graph of a document.

        Args:
            document: Of either compiler.
            names: The program's own names, where known.

        Raises:
            GraphError: With every problem of the document at once: unknown names,
                arities, cycles, observations that are no data, disagreement between
                `V`, `P` and `Y`.
        """
        nodes, result, warnings = build(document, names or NodeNames())
        return cls(nodes, result, warnings, document.source, document)

    @cached_property
    def _by_name(self) -> Mapping[str, Node]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def _children(self) -> Mapping[str, tuple[str, ...]]:
        children: dict[str, list[str]] = {node.name: [] for node in self.nodes}
        for node in self.nodes:
            for parent in node.parents:
                children[parent].append(node.name)
        return {name: tuple(found) for name, found in children.items()}

    @cached_property
    def latents(self) -> tuple[str, ...]:
        """Names of the latent nodes, parents first."""
        return tuple(node.name for node in self.nodes if not node.is_observed)

    @cached_property
    def observed(self) -> tuple[str, ...]:
        """Names of the observed nodes, in the order of `nodes`."""
        return tuple(node.name for node in self.nodes if node.is_observed)

    @cached_property
    def labels(self) -> Mapping[str, str]:
        """The program's own name by node name."""
        return {node.name: node.label for node in self.nodes}

    @cached_property
    def canonical(self) -> CanonicalForm:
        """The model's form without names: order of nodes, and digest."""
        return canonical_form(self.nodes)

    @property
    def digest(self) -> str:
        """SHA-256 of the model: names, numbering and data do not enter."""
        return self.canonical.digest

    def node(self, name: str) -> Node:
        """Return a node by its document's name.

        Raises:
            KeyError: If there is none.
        """
        return self._by_name[name]

    def resolve(self, name: str) -> str:
        """Return the document's name for a document's or a program's own name.

        Raises:
            GraphError: If there is no such node, or several.
        """
        if name in self._by_name:
            return name
        found = [node.name for node in self.nodes if node.label == name]
        if len(found) == 1:
            return found[0]
        some = ", ".join(_both_names(node) for node in self.nodes[:12])
        more = ", ..." if len(self.nodes) > 12 else ""
        names = {word for node in self.nodes for word in (node.name, node.label)}
        shown = shortened(name) or '""'
        raise GraphError.at(
            self.source,
            f"no node is called {shown}"
            if not found
            else f"several nodes are called {shown}",
            or_nearest(f"one of {some}{more}", name, names - {name}),
        )

    def parents(self, name: str) -> tuple[str, ...]:
        """Return the parents of a node, in order of first mention."""
        return self._by_name[name].parents

    def children(self, name: str) -> tuple[str, ...]:
        """Return the children of a node, in the order of `nodes`."""
        return self._children[name]


def _both_names(node: Node) -> str:
    return node.name if node.name == node.label else f"{node.name} ({node.label})"
