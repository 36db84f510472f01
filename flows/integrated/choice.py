"""This file chooses what a flow is trained on: a model, or its integrated version.

Latents are integrated out where an affine layer would lose something on them, the
others being given (`departures.py`), unless it is the posterior (`linearity.py`).
"""

from collections.abc import Sequence

from ..model.layout import Layout
from ..model.model import Model
from .conditionals import Conditional, integrable, latents_to_integrate
from .departures import departures_from_linear_normal
from .linearity import is_linear_normal, normal_ones
from .target import IntegratedModel

__all__ = ["integrated_where_it_pays"]

_NATS_OF_ITSELF = 0.1
"""What a latent is worth that an affine layer describes, as no network has its task."""
_LEAST_NATS = 0.1
"""That an affine layer loses on all of them: below, the network needs no help."""
_MOST_NUMBERS = 128
"""Latents and factors that a point of a grid needs, a vector's by the square of its
size: an iteration has some ten millions of them, and takes half a second."""
_MOST_OF_NORMALS = 2_000
"""The same where conditionals are normal, which takes six points in place of more than
a hundred; factors count for each latent that is in them, as in a regression all are."""


def integrated_where_it_pays(model: Model) -> Model | IntegratedModel:
    """Return the model of continuous latents, integrated if that is better."""
    graph, layout = model.graph, model.layout
    if is_linear_normal(graph):
        return model
    candidates = integrable(graph, layout)
    if _numbers(layout, candidates) > _MOST_NUMBERS:
        normals = normal_ones(graph, candidates)
        candidates = tuple(each for each in candidates if each.name in normals)
        work = sum(_numbers(layout, [each]) - layout.free_dim for each in candidates)
        if layout.free_dim + work > _MOST_OF_NORMALS:
            candidates = ()
    departures = departures_from_linear_normal(model, candidates)
    weights = {name: _NATS_OF_ITSELF + nats for name, nats in departures.items()}
    weights = {name: nats for name, nats in weights.items() if nats > 0.0}
    names = latents_to_integrate(graph, layout, weights)
    if sum(departures.get(name, 0.0) for name in names) <= _LEAST_NATS:
        names = tuple(name for name in names if name not in departures)
    return IntegratedModel(model, names) if names else model


def _numbers(layout: Layout, conditionals: Sequence[Conditional]) -> int:
    """Return how many numbers one point of these conditionals needs."""
    factors = {name for each in conditionals for name in each.factors}
    sizes = [len(layout.variable(name).columns) for name in factors]
    return layout.free_dim + sum(size**2 for size in sizes)
