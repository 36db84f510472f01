"""This file says what can be done with a graph, from its families alone."""

from collections.abc import Sequence
from dataclasses import dataclass

from daphne_bridge.graph.graph import Graph

__all__ = ["Capabilities", "capabilities", "listed"]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What can be done with a graph.

    Attributes:
        continuous_latents: Labels of the latents with a density.
        discrete_latents: Labels of the latents with a mass function.
        observed: Labels of the observed nodes.
    """

    continuous_latents: tuple[str, ...]
    discrete_latents: tuple[str, ...]
    observed: tuple[str, ...]

    @property
    def has_free_coordinates(self) -> bool:
        """Whether every latent can be mapped to the real line, as flows need."""
        return not self.discrete_latents and bool(self.continuous_latents)

    @property
    def sentence(self) -> str:
        """What a flow can do with the model, in one sentence."""
        if not self.continuous_latents and not self.discrete_latents:
            return "The model has no latents: there is nothing to infer."
        if self.discrete_latents:
            return (
                "A flow cannot be trained for this model: "
                f"{listed(self.discrete_latents)} "
                f"{'is' if len(self.discrete_latents) == 1 else 'are'} discrete; "
                "densities, draws and the prior as proposal work."
            )
        if not self.observed:
            return "A flow cannot be trained for this model: it observes nothing."
        return f"All latents are continuous: {listed(self.continuous_latents)}."


def capabilities(graph: Graph) -> Capabilities:
    """Return what can be done with a graph, from its families alone."""
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
