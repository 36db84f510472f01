"""This file says what a flow is of: the model, its discrete latents summed out.

The inverse of a model with discrete latents is taken with these eliminated first. They
then come last in sampling order, and what stands before them is a faithful inverse of
the collapsed model.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from daphne_bridge.graph.graph import Graph
from daphne_bridge.inversion.nami import invert

from ..model.model import Model
from .collapsed import CollapsedModel, collapse

__all__ = ["ContinuousInverse", "continuous_inverse", "target_of"]


@dataclass(frozen=True, slots=True)
class ContinuousInverse:
    """A faithful inverse over the continuous latents.

    Attributes:
        latents: Names of the continuous latents in sampling order.
        parents: By latent, earlier latents as sampled, then observed nodes.
    """

    latents: tuple[str, ...]
    parents: Mapping[str, tuple[str, ...]]


def target_of(
    model: Model, *, widen: int = 1, may_sample: bool = False
) -> Model | CollapsedModel:
    """Return the model, collapsed if it has discrete latents.

    Args:
        model: Any model.
        widen: Factor on the cuts of infinite supports; see `collapse`.
        may_sample: Whether latents that cannot be summed out may stay; see `collapse`.

    Raises:
        ModelError: If they cannot be summed out.
    """
    has_discrete = any(variable.is_discrete for variable in model.layout.latents)
    if not has_discrete:
        return model
    return collapse(model, widen=widen, may_sample=may_sample)


def continuous_inverse(graph: Graph) -> ContinuousInverse:
    """Return a faithful inverse of a graph's model over its continuous latents."""
    discrete = [name for name in graph.latents if graph.node(name).is_discrete]
    found = invert(graph, summed_out=discrete)
    kept = found.latents[: len(found.latents) - len(discrete)]
    return ContinuousInverse(kept, {name: tuple(found.parents[name]) for name in kept})
