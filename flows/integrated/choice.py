"""This file chooses what a flow is trained on: a model, or its integrated version.

Latents are integrated out where an affine layer would lose something on them, the
others being given (`departures.py`), unless it is the posterior (`linearity.py`): some
that are apart, or those that are normal together and what is apart from them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from jaxtyping import Float
from torch import Tensor

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
from .departures import (
    departure_of_linked,
    departures_from_linear_normal,
    joint_rows,
)
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
_MOST_MICROSECONDS = 400.0
"""Of a row of linked latents: 512 rows take a fifth of a second."""


@dataclass(frozen=True, slots=True)
class _Choice:
    """Latents to integrate out.

    Attributes:
        names: Of all of them; also of those that no other reads.
        lost: What an affine layer loses on those that others read, in nats.
        worth: That, and what it is worth that they are gone, in nats.
    """

    names: tuple[str, ...]
    lost: float
    worth: float


def integrated_where_it_pays(model: Model) -> Model | IntegratedModel:
    """Return the model of continuous latents, integrated if that is better."""
    if is_linear_normal(model.graph):
        return model
    search = _Search(model)
    best, together = search.apart(), search.together()
    # More is lost on all of some latents than on a part of them (the chain rule),
    # which estimates miss by a seventh where latents are many.
    if together is not None and (
        together.worth > best.worth or {*together.names} >= {*best.names}
    ):
        best = together
    names = best.names
    if best.lost <= _LEAST_NATS:
        names = latents_to_integrate(model.graph, model.layout, {})
    return IntegratedModel(model, names) if names else model


@dataclass(frozen=True, eq=False)
class _Search:
    """What can be integrated out of a model."""

    model: Model

    @cached_property
    def _rows(self) -> Float[Tensor, "row number"]:
        return joint_rows(self.model)

    @cached_property
    def _integrable(self) -> tuple[Conditional, ...]:
        return integrable(self.model.graph, self.model.layout)

    def apart(self, linked: frozenset[str] = frozenset()) -> _Choice:
        """Return the best latents that are apart, also from some that go anyway."""
        graph, layout = self.model.graph, self.model.layout
        candidates = tuple(
            each
            for each in self._integrable
            if each.name not in linked and linked.isdisjoint(each.latents)
        )
        if _numbers(layout, candidates) > _MOST_NUMBERS:
            normals = normal_ones(graph, candidates)
            candidates = tuple(each for each in candidates if each.name in normals)
            work = sum(
                _numbers(layout, [each]) - layout.free_dim for each in candidates
            )
            if layout.free_dim + work > _MOST_OF_NORMALS:
                candidates = ()
        departures = (
            departures_from_linear_normal(self.model, candidates, self._rows)
            if candidates
            else {}
        )
        weights = {name: _NATS_OF_ITSELF + nats for name, nats in departures.items()}
        weights = {name: nats for name, nats in weights.items() if nats > 0.0}
        names = latents_to_integrate(graph, layout, weights, linked)
        return _Choice(
            names,
            sum(departures.get(name, 0.0) for name in names),
            sum(weights.get(name, 0.0) for name in names),
        )

    def together(self) -> _Choice | None:
        """Return all that are normal together and the best that is apart from them."""
        graph, layout = self.model.graph, self.model.layout
        unseen = unseen_latents(graph, layout)
        names = gaussian_latents(self.model.lowered, {*unseen})
        if not names or len(names) + len(unseen) == len(graph.latents):
            return None
        conditionals = linked_ones(conditionals_of(graph, layout, {*names, *unseen}))
        if not conditionals:
            return None
        try:
            linked = Linked(self.model, conditionals)
        except ArgumentError:
            return None
        if linked.microseconds > _MOST_MICROSECONDS:
            return None
        own = frozenset(each.name for each in conditionals)
        lost = departure_of_linked(self.model, linked, self._rows)
        if not math.isfinite(lost):
            return None
        rest = self.apart(own)
        worth = lost + _NATS_OF_ITSELF * len(own)
        return _Choice(rest.names, lost + rest.lost, worth + rest.worth)


def _numbers(layout: Layout, conditionals: Sequence[Conditional]) -> int:
    """Return how many numbers one point of these conditionals needs."""
    factors = {name for each in conditionals for name in each.factors}
    sizes = [len(layout.variable(name).columns) for name in factors]
    return layout.free_dim + sum(size**2 for size in sizes)
