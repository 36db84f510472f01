"""This file chooses what a flow is trained on: a model, or its integrated version.

Latents are integrated out where an affine layer would lose something on them, the
others being given (`departures.py`), unless it is the posterior (`linearity.py`): some
that are apart, or those that are normal together and what is apart from them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import ArgumentError
from ..linear_gaussian.factors import gaussian_latents
from ..model.layout import Layout
from ..model.model import Model
from .conditionals import (
    Conditional,
    conditionals_of,
    integrable,
    latents_to_integrate,
    linked_ones,
    unseen_latents,
)
from .departures import departure_of_linked, departures_from_linear_normal
from .linearity import is_linear_normal, normal_ones
from .linked import Linked
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
_MOST_OF_LINKED = 50_000
"""Operations on numbers for a row: 512 rows take a sixth of a second."""


@dataclass(frozen=True, slots=True)
class _Choice:
    """Latents to integrate out.

    Attributes:
        names: Of all of them; also of those that no other reads.
        lost: What an affine layer loses on those that others read, in nats.
        worth: That, and what it is worth that they are gone.
    """

    names: tuple[str, ...]
    lost: float
    worth: float


def integrated_where_it_pays(model: Model) -> Model | IntegratedModel:
    """Return the model of continuous latents, integrated if that is better."""
    if is_linear_normal(model.graph):
        return model
    best, linked = _apart(model), _linked(model)
    if linked is not None and (
        # By the chain rule, where estimates may say otherwise.
        linked.worth > best.worth or set(linked.names).issuperset(best.names)
    ):
        best = linked
    names = best.names
    if best.lost <= _LEAST_NATS:
        names = latents_to_integrate(model.graph, model.layout, {})
    return IntegratedModel(model, names) if names else model


def _apart(model: Model, linked: Sequence[str] = ()) -> _Choice:
    """Return the best latents that are apart, also from some that go anyway."""
    graph, layout = model.graph, model.layout
    candidates = tuple(
        each
        for each in integrable(graph, layout)
        if each.name not in linked and set(linked).isdisjoint(each.latents)
    )
    if _numbers(layout, candidates) > _MOST_NUMBERS:
        normals = normal_ones(graph, candidates)
        candidates = tuple(each for each in candidates if each.name in normals)
        work = sum(_numbers(layout, [each]) - layout.free_dim for each in candidates)
        if layout.free_dim + work > _MOST_OF_NORMALS:
            candidates = ()
    departures = departures_from_linear_normal(model, candidates)
    weights = {name: _NATS_OF_ITSELF + nats for name, nats in departures.items()}
    weights = {name: nats for name, nats in weights.items() if nats > 0.0}
    names = latents_to_integrate(graph, layout, weights, linked)
    return _Choice(
        names,
        sum(departures.get(name, 0.0) for name in names),
        sum(weights.get(name, 0.0) for name in names),
    )


def _linked(model: Model) -> _Choice | None:
    """Return all that are normal together and the best that is apart from them."""
    graph, layout = model.graph, model.layout
    unseen = unseen_latents(graph, layout)
    names = gaussian_latents(model.lowered, unseen)
    if not names or len(names) + len(unseen) == len(graph.latents):
        return None
    conditionals = linked_ones(conditionals_of(graph, layout, (*names, *unseen)))
    if not conditionals:
        return None
    try:
        linked = Linked(model, conditionals)
    except ArgumentError:
        return None
    if linked.work > _MOST_OF_LINKED:
        return None
    own = [each.name for each in conditionals]
    lost, rest = departure_of_linked(model, linked), _apart(model, own)
    if not math.isfinite(lost):
        return None
    worth = lost + _NATS_OF_ITSELF * len(own)
    return _Choice(rest.names, lost + rest.lost, worth + rest.worth)


def _numbers(layout: Layout, conditionals: Sequence[Conditional]) -> int:
    """Return how many numbers one point of these conditionals needs."""
    factors = {name for each in conditionals for name in each.factors}
    sizes = [len(layout.variable(name).columns) for name in factors]
    return layout.free_dim + sum(size**2 for size in sizes)
