"""This file draws a graph as text for people and as DOT for Graphviz."""

from ..errors import printable
from .expression import show, show_value
from .graph import Graph, Node

__all__ = ["graph_to_dot", "quoted", "show_graph"]

_LINK_WIDTH = 100


def show_graph(graph: Graph) -> str:
    """Return a graph as text: one line per node, parents before children."""
    both = {node.name: _both(node) for node in graph.nodes}
    width = max((len(name) for name in both.values()), default=0)
    lines = [
        f"{len(graph.latents)} latent and {len(graph.observed)} observed nodes, "
        f"{sum(len(node.parents) for node in graph.nodes)} arcs",
        f"model {graph.digest}",
    ]
    for node in graph.nodes:
        link = show(node.distribution, graph.labels, limit=_LINK_WIDTH)
        line = f"{both[node.name]:<{width}} ~ {link}"
        if node.condition is not None:
            condition = show(node.condition, graph.labels, limit=_LINK_WIDTH)
            line += f"  when {condition}"
        if node.is_observed:
            line += f"  = {show_value(node.observation)[:_LINK_WIDTH]}"
        lines.append(line)
    if graph.result is not None:
        result = show(graph.result, graph.labels, limit=_LINK_WIDTH)
        lines.append(f"returns {result}")
    return "\n".join(map(printable, lines)) + "\n"


def _both(node: Node) -> str:
    return node.label if node.label == node.name else f"{node.label} ({node.name})"


def quoted(text: str) -> str:
    """Return a text as the DOT language quotes it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def graph_to_dot(graph: Graph) -> str:
    """Return a graph in the DOT language; observed nodes are shaded."""
    lines = ["digraph model {", "  node [shape=ellipse];"]
    for node in graph.nodes:
        link = show(node.distribution, graph.labels, limit=60)
        shade = ", style=filled, fillcolor=lightgrey" if node.is_observed else ""
        lines.append(
            f"  {quoted(node.name)} [label={quoted(node.label)}, "
            f"tooltip={quoted(link)}{shade}];"
        )
    lines += [
        f"  {quoted(parent)} -> {quoted(node.name)};"
        for node in graph.nodes
        for parent in node.parents
    ]
    return "\n".join(map(printable, [*lines, "}"])) + "\n"
