"""This file says which sorts of nodes a graph has, from their families alone."""

from collections.abc import Sequence
from dataclasses import dataclass

from daphne_bridge.graph.graph import Graph

__all__ = ["Capabilities", "capabilities", "listed"]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What sorts of nodes a graph has.

    Attributes:
        continuous_latents: Labels of the latents with a density.
        discrete_latents: Labels of the latents with a mass function.
        observed: Labels of the observed nodes.
    """

    continuous_latents: tuple[str, ...]
    discrete_latents: tuple[str, ...]
    observed: tuple[str, ...]


def capabilities(graph: Graph) -> Capabilities:
    """Return which sorts of nodes a graph has."""
    discrete = {node.name for node in graph.nodes if node.is_discrete}
    labels = graph.labels
    return Capabilities(
        tuple(labels[name] for name in graph.latents if name not in discrete),
        tuple(labels[name] for name in graph.latents if name in discrete),
        tuple(labels[name] for name in graph.observed),
    )


def listed(names: Sequence[str], most: int = 6) -> str:
    """Return the first names with commas between them, and how many more there are."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
