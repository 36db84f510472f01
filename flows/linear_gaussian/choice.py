"""This file chooses whether linear Gaussian latents are integrated out."""

from collections.abc import Callable, Sequence

from daphne_bridge.graph.graph import Graph

from ..model.lowered_graph import LoweredGraph
from ..model.model import Model
from .factors import gaussian_latents
from .part import Part, part_of
from .target import GaussianMarginal

__all__ = ["gaussian_marginal", "many_latents", "prior_part"]

_LEAST = 3
"""Latents: fewer are no burden to what the others are answered by."""
_LEAST_SHARE = 0.4
"""Of the free coordinates. Of nine programs with three to seven such latents none took
2 s longer for it; three took 1 to 3 s, for 7, or for 30 without a sure answer."""


def gaussian_marginal(model: Model) -> GaussianMarginal | None:
    """Return a model without its linear Gaussian latents; None where that pays little.

    That is where they are few, or a small share of all, or depend on each other too
    widely; and where there are no others.

    Args:
        model: Any model.
    """
    names = many_latents(model, gaussian_latents, _LEAST, _LEAST_SHARE)
    if not names:
        return None
    whole = part_of(model.lowered, [n.name for n in model.graph.nodes], names)
    prior = prior_part(model, names)
    if whole is None or prior is None:
        return None
    return GaussianMarginal(model, whole, prior)


def many_latents(
    model: Model,
    search: Callable[[LoweredGraph], tuple[str, ...]],
    least: int,
    share: float,
) -> tuple[str, ...]:
    """Return latents whose integration pays: many, and not all; else none.

    Args:
        model: The model.
        search: Finds them in a graph of continuous latents.
        least: How many are many.
        share: Of the free coordinates that they must be.
    """
    layout = model.layout
    if any(variable.is_discrete for variable in layout.latents):
        return ()
    names = search(model.lowered)
    needed = max(least, share * layout.free_dim)
    return names if needed <= len(names) < len(layout.latents) else ()


def prior_part(model: Model, names: Sequence[str]) -> Part | None:
    """Return the latents' own factors, without those that integrate to 1.

    Args:
        model: The model.
        names: Of the latents that are Gaussian given the others.
    """
    return part_of(model.lowered, *_of_prior(model.graph, names))


def _of_prior(graph: Graph, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return latents, and the Gaussian ones of them, whose prior is not simply 1.

    A Gaussian latent that none of these reads integrates to one.
    """
    nodes: list[str] = []
    read: set[str] = set()
    for name in reversed(graph.latents):
        if name in read or name not in names:
            nodes.append(name)
            read.update(graph.node(name).parents)
    return nodes[::-1], [name for name in names if name in read]
