"""This file maps the latents of a graph to free coordinates on the real line and back.

Each latent has the map of its distribution's support (`support`); where a branch
decides the distribution it decides the map of that row too, and bounds may depend on
parents. `standardised` coordinates measure a latent whose location or scale is that of
others in this scale from this location: where data say little, they do not depend on
each other (Papaspiliopoulos, Roberts, Sköld, "A general framework for the
parametrization of hierarchical models", Statistical Science 22(1), 2007).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..errors import ModelError
from .capabilities import listed
from .columns import as_columns, as_rows
from .explanations import outside_support
from .jobs import Definition, Job
from .lowered import Lowered
from .lowered_graph import LoweredGraph, supports_of
from .schedule import Schedule
from .shapes import Free, Latents, LogDet
from .support import BIJECTIONS

__all__ = ["Coordinates"]

_REAL = ("real", "real vector")
_NUMBERS = frozenset({"normal", "laplace", "cauchy", "student-t-loc-scale"})
_VECTORS = frozenset({"mvn", "multivariate-t"})
"""Families whose last parameters are a location and a scale, or a covariance."""

Slots = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Coordinates:
    """The two coordinates of the latents of a graph.

    Attributes:
        lowered: The graph as slots.
        is_standard: Whether latents are measured from their locations in their scales.
    """

    lowered: LoweredGraph
    is_standard: bool = False

    def standardised(self) -> "Coordinates":
        """Return coordinates that measure latents in the scales that others give."""
        return Coordinates(self.lowered, is_standard=True)

    @property
    def has_located(self) -> bool:
        """Whether a latent has a location or a scale that other latents give."""
        return any(self._is_located(entry) for entry in self.lowered.latents)

    @property
    def locating(self) -> tuple[int, ...]:
        """Free columns of latents that locate or scale others, and are not located."""
        located = [entry for entry in self.lowered.latents if self._is_located(entry)]
        inner = {entry.node.name for entry in located}
        outer = {name for entry in located for name in entry.node.parents} - inner
        return tuple(
            column
            for variable in self.lowered.layout.latents
            if variable.name in outer
            for column in range(variable.free_start, variable.free_stop)
        )

    def _is_located(self, entry: Lowered) -> bool:
        latents = {variable.name for variable in self.lowered.layout.latents}
        parents = entry.node.parents
        is_given = bool(parents) and latents.issuperset(parents)
        families = {branch.family for branch in entry.branches}
        return len(entry.branches) == 1 and is_given and families <= _NUMBERS | _VECTORS

    def _supports_of(self, entry: Lowered) -> list[tuple[str, tuple[Slots, ...]]]:
        if self.is_standard and self._is_located(entry):
            branch = entry.branches[0]
            name = "located vector" if branch.family in _VECTORS else "located"
            return [(name, branch.parameters[-2:])]
        return supports_of(entry)

    def constrain(self, free: Free) -> tuple[Latents, LogDet]:
        """Return the natural values of free coordinates, and log|det dz/df|.

        Raises:
            ModelError: If a latent is discrete.
        """
        self._refuse_discrete()
        rows, batch = as_columns(free, self.lowered.layout.free_dim, "free")
        width = self.lowered.layout.latent_dim
        return self._mapped(free, rows, batch, width, lambda: self._to_natural)

    def constrain_terms(self, free: Free) -> Float[Tensor, "*batch node"]:
        """Return the summands of `constrain`'s log|det dz/df|, one column per latent.

        Raises:
            ModelError: If a latent is discrete.
        """
        self._refuse_discrete()
        rows, batch = as_columns(free, self.lowered.layout.free_dim, "free")
        count = math.prod(batch)
        terms = free.new_zeros(count, len(self.lowered.latents))
        if self._curved and count:
            (found,) = self._terms.run([rows], num_rows=count, like=free)
            terms[:, list(self._curved)] = as_rows(found, (count,))
        return terms.reshape(*batch, len(self.lowered.latents))

    def unconstrain(self, latents: Latents) -> tuple[Free, LogDet]:
        """Return the free coordinates of natural values, and log|det dz/df|.

        Measured in a scale without meaning (a covariance that rounding makes singular)
        a value is nan.

        Raises:
            ModelError: If a latent is discrete, or a value outside its support.
        """
        self._refuse_discrete()
        rows, batch = as_columns(latents, self.lowered.layout.latent_dim, "latents")
        width = self.lowered.layout.free_dim
        free, log_det = self._mapped(latents, rows, batch, width, lambda: self._to_free)
        if (
            not self.is_standard
            and free is not latents
            and bool(torch.isnan(free).any())
            and not bool(torch.isnan(latents).any())
        ):
            raise outside_support(self.lowered, free.reshape(-1, width), rows.t())
        return free, log_det

    def _mapped(
        self,
        values: Tensor,
        rows: Tensor,
        batch: tuple[int, ...],
        width: int,
        schedule: Callable[[], Schedule],
    ) -> tuple[Tensor, Tensor]:
        """Return the other coordinates of values that are also given as columns."""
        if not self._curved:
            return values, values.new_zeros(batch)
        count = math.prod(batch)
        if not count:
            return values.new_zeros(*batch, width), values.new_zeros(batch)
        found, log_det = schedule().run([rows], num_rows=count, like=values)
        return as_rows(found, batch), log_det.reshape(batch)

    def at_edge(self, free: Free) -> Bool[Tensor, "*batch free"]:
        """Return where a double's digits end: values beyond are all the same.

        A prior can put mass there, a beta of small parameters above all; draws of it
        have one value, and no density in free coordinates describes it.
        """
        low, high = self._free_limits.to(free).unbind()
        return (free <= low) | (free >= high)

    @cached_property
    def _free_limits(self) -> Float[Tensor, "2 free"]:
        """Lower and upper limits; the narrowest where a branch decides the support."""
        columns: list[tuple[float, float]] = []
        latents = zip(self.lowered.latents, self.lowered.layout.latents, strict=True)
        for entry, variable in latents:
            limits = [
                BIJECTIONS[name].free_limits for name, _ in self._supports_of(entry)
            ]
            lows, highs = zip(*limits, strict=True)
            columns += [(max(lows), min(highs))] * variable.free_size
        return torch.tensor(columns, dtype=torch.float64).reshape(-1, 2).t()

    def _refuse_discrete(self) -> None:
        discrete = [v.label for v in self.lowered.layout.latents if v.is_discrete]
        if discrete:
            raise ModelError.at(
                self.lowered.graph.source,
                "discrete latents have no free coordinates",
                "continuous latents",
                listed(discrete),
            )

    @cached_property
    def _curved(self) -> tuple[int, ...]:
        """Positions of the latents whose map is not the identity."""
        return tuple(
            position
            for position, entry in enumerate(self.lowered.latents)
            if any(support not in _REAL for support, _ in self._supports_of(entry))
        )

    # -------------------------------------------------------------- schedules

    @cached_property
    def _to_natural(self) -> Schedule:
        free, definitions, log_dets = self._definitions("constrain")
        outputs = [self.lowered.slots[0], log_dets]
        return self._schedule(free, outputs, definitions, frozenset({1}))

    @cached_property
    def _terms(self) -> Schedule:
        free, definitions, log_dets = self._definitions("constrain")
        return self._schedule(free, [log_dets], definitions)

    @cached_property
    def _to_free(self) -> Schedule:
        free, definitions, log_dets = self._definitions("unconstrain")
        source = self.lowered.slots[0]
        return self._schedule(source, [free, log_dets], definitions, frozenset({1}))

    def _schedule(
        self,
        source: Slots,
        outputs: list[Slots],
        definitions: dict[int, Definition],
        sums: frozenset[int] = frozenset(),
    ) -> Schedule:
        return Schedule.of(self.lowered.dag, [source], outputs, definitions, sums)

    def _definitions(
        self, direction: Literal["constrain", "unconstrain"]
    ) -> tuple[Slots, dict[int, Definition], Slots]:
        """Return free slots, what computes the other side, and slots of log|det|."""
        dag = self.lowered.dag
        free: list[int] = []
        log_dets: list[int] = []
        definitions: dict[int, Definition] = {}
        for position, entry in enumerate(self.lowered.latents):
            name = entry.node.name
            size = self.lowered.layout.latents[position].free_size
            own = tuple(dag.variable(("free", name, column)) for column in range(size))
            free.extend(own)
            ends = (own, entry.slots)
            given, wanted = ends if direction == "constrain" else ends[::-1]
            if position not in self._curved:
                definitions.update(zip(wanted, given, strict=True))
                continue
            supports = self._supports_of(entry)
            parts: list[Slots] = []
            for number, (support, bounds) in enumerate(supports):
                outputs = tuple(
                    dag.variable((direction, name, number, column))
                    for column in range(len(wanted) + 1)
                )
                key = (support, len(entry.slots), len(supports) > 1)
                job = Job(direction, key, (given, *bounds), outputs)
                definitions.update(dict.fromkeys(outputs, job))
                parts.append(outputs)
            targets = (*wanted, dag.variable((direction, name, "log det")))
            for target, members in zip(targets, zip(*parts, strict=True), strict=True):
                definitions[target] = (
                    members[0] if len(members) == 1 else entry.select(dag, members)
                )
            log_dets.append(targets[-1])
        return tuple(free), definitions, tuple(log_dets)
