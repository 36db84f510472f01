"""This file describes a model in a manifest, and says how a graph differs from it."""

from collections.abc import Sequence

from daphne_bridge.graph.expression import show
from daphne_bridge.graph.graph import Graph, Node

from .manifest import ModelEntry, NodeEntry

__all__ = ["first_difference", "model_entry"]

_LINK_WIDTH = 200


def model_entry(graph: Graph, without_density: Sequence[str]) -> ModelEntry:
    """Return what a manifest says of a graph's model."""
    return ModelEntry(
        digest=graph.digest,
        order=tuple(graph.canonical.order),
        nodes=tuple(_node_entry(graph, node) for node in graph.nodes),
        without_density=tuple(without_density),
    )


def first_difference(model: ModelEntry, graph: Graph) -> str:
    """Return the first difference between stored link functions and a graph's.

    Nodes are compared in program order; names and data do not count.
    """
    own = {entry.name: place for place, entry in enumerate(model.nodes)}
    theirs = {node.name: place for place, node in enumerate(graph.nodes)}
    for entry, node in zip(model.nodes, graph.nodes, strict=False):
        other = _node_entry(graph, node)
        if entry.observed != other.observed:
            return (
                f"{entry.label} is {_kind(entry)} in the artifact, "
                f"{other.label} is {_kind(other)} in the document"
            )
        if entry.shape != other.shape or [own[p] for p in entry.parents] != [
            theirs[p] for p in other.parents
        ]:
            return (
                f"the link function of {entry.label} is {entry.link} in the "
                f"artifact, that of {other.label} is {other.link} in the document"
            )
    return (
        f"the artifact's model has {len(model.nodes)} nodes, "
        f"the document's {len(graph.nodes)}"
    )


def _kind(entry: NodeEntry) -> str:
    return "observed" if entry.observed else "latent"


def _node_entry(graph: Graph, node: Node) -> NodeEntry:
    link = show(node.distribution, graph.labels, limit=_LINK_WIDTH)
    if node.condition is not None:
        link += f" when {show(node.condition, graph.labels, limit=_LINK_WIDTH)}"
    return NodeEntry(
        name=node.name,
        label=node.label,
        observed=node.is_observed,
        link=link,
        shape=graph.canonical.shape(node.name),
        parents=tuple(node.parents),
    )
